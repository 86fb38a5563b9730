//! From outlines to a PNG file: letters, lines and patches are put together into four tones, which
//! a palette turns into colours.
//!
//! The file is compressed and then filled up to a length that is the same for every picture of a
//! kind, so that its size tells nothing.

use std::cell::RefCell;

use ab_glyph::{GlyphId, Outline, OutlineCurve, OutlinedGlyph, Point, PxScaleFactor, Rect, point};
use libdeflater::{CompressionLvl, Compressor};

use super::random::Random;
use super::thread::Mark;
use super::{CAPTION_HEIGHT, HEIGHT, WIDTH, wave};

const COLUMNS: usize = WIDTH as usize;
const ROWS: usize = HEIGHT as usize;
const CAPTION_ROWS: usize = CAPTION_HEIGHT as usize;
/// At two bits each.
const PIXELS_PER_BYTE: usize = 4;
const _: () = assert!(COLUMNS.is_multiple_of(PIXELS_PER_BYTE), "a row ends with its byte");

/// What a row of a PNG begins with: how its bytes are to be understood.
const UNFILTERED: u8 = 0;
/// What four pixels are made from.
type Four = [f32; PIXELS_PER_BYTE];

/// Half of a line's width on paper, in pixels.
const LINE: f32 = 1.9;
/// Half of the width of the cut that it leaves in a letter: thinner, so that the letter stays one.
const CUT: f32 = 1.0;
/// Half of a ring's size, to the middle of its line, in pixels.
const RING: f32 = 5.7;
/// Half of a square's size, in pixels.
const SQUARE: f32 = 5.5;
/// A distance beyond which a line is not seen, in pixels.
const UNSEEN: f32 = LINE + 1.0;

/// The lengths that files are filled up to: the first that is enough. A picture on plain paper
/// always takes the first; the last is beyond what any needs.
const LENGTHS: [usize; 4] = [3_072, 3_584, 4_096, 8_192];
/// How hard the file is compressed; more takes longer than it gains.
const COMPRESSION: i32 = 1;

/// Where a font's own units become pixels: one to one, and down is down, not up as in fonts.
const AS_IS: PxScaleFactor = PxScaleFactor { horizontal: 1.0, vertical: -1.0 };

/// Red, green and blue.
pub(super) type Colour = [u8; 3];

/// A closed outline.
pub(super) struct Shape(Vec<OutlineCurve>);

impl Shape {
    /// The outline as a font draws it, in the font's units, upwards.
    pub(super) fn from_font(outline: Outline) -> Self {
        Self(outline.curves)
    }

    /// Moves every point; a curve's control points too, so that it stays a curve.
    pub(super) fn moved(&mut self, to: impl Fn(Point) -> Point) {
        for curve in &mut self.0 {
            *curve = match *curve {
                OutlineCurve::Line(a, b) => OutlineCurve::Line(to(a), to(b)),
                OutlineCurve::Quad(a, b, c) => OutlineCurve::Quad(to(a), to(b), to(c)),
                OutlineCurve::Cubic(a, b, c, d) => OutlineCurve::Cubic(to(a), to(b), to(c), to(d)),
            };
        }
    }

    /// The box around all points, control points too: no ink lies outside of it.
    pub(super) fn bounds(&self) -> Rect {
        let nothing = Rect { min: point(f32::MAX, f32::MAX), max: point(f32::MIN, f32::MIN) };
        let grow = |around: Rect, p: Point| Rect {
            min: point(around.min.x.min(p.x), around.min.y.min(p.y)),
            max: point(around.max.x.max(p.x), around.max.y.max(p.y)),
        };
        self.0.iter().fold(nothing, |around, curve| match *curve {
            OutlineCurve::Line(a, b) => [a, b].into_iter().fold(around, grow),
            OutlineCurve::Quad(a, b, c) => [a, b, c].into_iter().fold(around, grow),
            OutlineCurve::Cubic(a, b, c, d) => [a, b, c, d].into_iter().fold(around, grow),
        })
    }
}

/// A line of text: a tone for each pixel.
pub(super) struct Strip([[u8; COLUMNS]; CAPTION_ROWS]);

impl Strip {
    /// Empty paper.
    pub(super) fn new() -> Self {
        Self([[0; COLUMNS]; CAPTION_ROWS])
    }

    /// A tone for each pixel.
    pub(super) fn tones(&self) -> &[[u8; COLUMNS]; CAPTION_ROWS] {
        &self.0
    }

    /// Draws a glyph where it stands.
    pub(super) fn glyph(&mut self, glyph: &OutlinedGlyph) {
        fill(glyph, |column, row, covered| {
            if let Some(pixel) = self.0.get_mut(row).and_then(|row| row.get_mut(column)) {
                *pixel = tone(covered).max(*pixel);
            }
        });
    }
}

/// Patches in which paper and ink change places: hills and valleys of four crossing waves.
pub(super) struct Patches {
    /// For each wave: where it starts, and how much of it there is in a pixel across and down.
    waves: [(f32, f32, f32); 4],
}

/// How far apart the heights are computed, in pixels; between them they are blended.
const STEP: usize = 4;
const _: () = assert!(COLUMNS.is_multiple_of(STEP) && ROWS.is_multiple_of(STEP), "whole steps");
/// How many heights a row has.
const HEIGHTS: usize = COLUMNS / STEP + 1;
/// How long a wave is, in pixels.
const PATCH: f32 = 90.0;
/// How steep an edge between patches is: the height that one pixel of blending makes.
const EDGE: f32 = 12.0;

impl Patches {
    /// Any patches.
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            waves: std::array::from_fn(|_| {
                let (way, length) = (random.direction(), random.between(0.8, 1.25) * PATCH);
                (random.between(0.0, 1.0), way.x / length, way.y / length)
            }),
        }
    }

    /// The heights at every [`STEP`] of a row.
    fn heights(&self, row: f32) -> [f32; HEIGHTS] {
        let mut column = 0.0;
        std::array::from_fn(|_| {
            let at = |(start, x, y): &(f32, f32, f32)| wave(start + x * column + y * row);
            let height = self.waves.iter().map(at).sum();
            column += 4.0;
            height
        })
    }
}

/// A picture in the making.
pub(super) struct Canvas {
    /// How much of each pixel a letter covers.
    letters: Vec<[f32; COLUMNS]>,
    /// How far each pixel is from a line's middle, squared, as far as it is seen.
    lines: Vec<[f32; COLUMNS]>,
    /// Which fours of pixels anything was drawn in: most are none, and cost nothing more.
    touched: Vec<[bool; COLUMNS / PIXELS_PER_BYTE]>,
}

impl Canvas {
    /// Empty paper.
    pub(super) fn new() -> Self {
        Self {
            letters: vec![[0.0; COLUMNS]; ROWS],
            lines: vec![[UNSEEN * UNSEEN; COLUMNS]; ROWS],
            touched: vec![[false; COLUMNS / PIXELS_PER_BYTE]; ROWS],
        }
    }

    /// Fills a letter.
    pub(super) fn letter(&mut self, shape: Shape) {
        let outline = Outline { bounds: shape.bounds(), curves: shape.0 };
        let glyph = OutlinedGlyph::new(GlyphId(0).with_scale(1.0), outline, AS_IS);
        fill(&glyph, |column, row, covered| {
            if let Some(pixel) = self.letters.get_mut(row).and_then(|row| row.get_mut(column)) {
                *pixel = covered.max(*pixel);
                self.touched[row][column / PIXELS_PER_BYTE] = true;
            }
        });
    }

    /// Draws a straight piece of a line, with round ends.
    pub(super) fn stroke(&mut self, from: Point, to: Point) {
        let way = to - from;
        let scale = 1.0 / (way.x * way.x + way.y * way.y).max(f32::MIN_POSITIVE);
        let min = point(from.x.min(to.x) - UNSEEN, from.y.min(to.y) - UNSEEN);
        let max = point(from.x.max(to.x) + UNSEEN, from.y.max(to.y) + UNSEEN);
        self.near(min, max, |x, y| {
            let at = point(x - from.x, y - from.y);
            let along = ((at.x * way.x + at.y * way.y) * scale).clamp(0.0, 1.0);
            let off = point(at.x - along * way.x, at.y - along * way.y);
            off.x * off.x + off.y * off.y
        });
    }

    /// Draws a mark.
    pub(super) fn mark(&mut self, mark: Mark, at: Point) {
        let reach = point(RING + UNSEEN, RING + UNSEEN);
        self.near(at - reach, at + reach, |x, y| {
            let (x, y) = ((x - at.x).abs(), (y - at.y).abs());
            let off = match mark {
                Mark::Ring => (x * x + y * y).sqrt() - RING,
                Mark::Square => (x.max(y) - SQUARE + LINE).max(0.0),
            };
            off * off
        });
    }

    /// Notes distances from a line, for the pixels in this box.
    fn near(&mut self, min: Point, max: Point, squared: impl Fn(f32, f32) -> f32) {
        let (left, right) = (whole(min.x), whole(max.x + 1.0).min(COLUMNS));
        let (top, bottom) = (whole(min.y), whole(max.y + 1.0).min(ROWS));
        let mut y = place(top) + 0.5;
        let rows = self.lines.iter_mut().zip(&mut self.touched);
        for (row, touched) in rows.take(bottom).skip(top) {
            let fours = left / PIXELS_PER_BYTE..right.div_ceil(PIXELS_PER_BYTE);
            touched.iter_mut().take(fours.end).skip(fours.start).for_each(|four| *four = true);
            let mut x = place(left) + 0.5;
            for pixel in row.iter_mut().take(right).skip(left) {
                *pixel = squared(x, y).min(*pixel);
                x += 1.0;
            }
            y += 1.0;
        }
    }

    /// The picture as a file, with blends of paper and ink between the two.
    pub(super) fn png(
        &self,
        patches: Option<&Patches>,
        caption: Option<&Strip>,
        colours: [Colour; 2],
    ) -> Vec<u8> {
        let rows = ROWS + caption.map_or(0, |_| CAPTION_ROWS);
        let mut data = Vec::with_capacity(rows * (1 + COLUMNS / PIXELS_PER_BYTE));
        let mut flips = [0.0; COLUMNS];
        let mut heights = patches.map(|patches| ([0.0; HEIGHTS], patches.heights(0.0)));
        for (number, (letters, lines)) in self.letters.iter().zip(&self.lines).enumerate() {
            if let (Some(patches), Some((above, below))) = (patches, &mut heights) {
                if number % STEP == 0 {
                    *above = *below;
                    *below = patches.heights(place(number + STEP));
                }
                blend(above, below, place(number % STEP) / 4.0, &mut flips);
            }
            data.push(UNFILTERED);
            let fours = letters.as_chunks().0.iter().zip(lines.as_chunks().0);
            let fours = fours.zip(flips.as_chunks().0).zip(&self.touched[number]);
            data.extend(fours.map(|(((letters, lines), flips), touched)| {
                if *touched { four(letters, lines, flips) } else { packed(flips.map(tone)) }
            }));
        }
        for row in caption.iter().flat_map(|strip| strip.tones()) {
            data.push(UNFILTERED);
            data.extend(row.as_chunks().0.iter().copied().map(packed));
        }
        file(&data, rows, colours)
    }
}

/// Four pixels in which something was drawn.
fn four(letters: &Four, lines: &Four, flips: &Four) -> u8 {
    packed(std::array::from_fn(|i| together(letters[i], lines[i], flips[i])))
}

/// One pixel: ink is a letter or a line, but where both are there is paper; a patch turns it round.
fn together(letter: f32, line: f32, flip: f32) -> u8 {
    let off = line.sqrt();
    let drawn = (LINE + 0.5 - off).clamp(0.0, 1.0);
    let cut = (CUT + 0.5 - off).clamp(0.0, 1.0);
    let ink = letter * (1.0 - cut) + (1.0 - letter) * drawn;
    tone(ink + flip - 2.0 * ink * flip)
}

/// How far each pixel of a row lies in a turned patch, from 0 to 1.
fn blend(above: &[f32; HEIGHTS], below: &[f32; HEIGHTS], down: f32, flips: &mut [f32; COLUMNS]) {
    let mut ends = above.windows(2).zip(below.windows(2));
    for four in flips.as_chunks_mut::<STEP>().0 {
        let Some((above, below)) = ends.next() else { return };
        let left = above[0] + (below[0] - above[0]) * down;
        let right = above[1] + (below[1] - above[1]) * down;
        let slope = (right - left) / 4.0;
        let mut height = left;
        for flip in four {
            *flip = (0.5 + height * EDGE).clamp(0.0, 1.0);
            height += slope;
        }
    }
}

/// Hands the covered pixels of a glyph to `paint`: column, row, how far covered.
fn fill(glyph: &OutlinedGlyph, mut paint: impl FnMut(usize, usize, f32)) {
    let Point { x: left, y: top } = glyph.px_bounds().min;
    let (left, top) = (whole(left), whole(top));
    glyph.draw(|x, y, covered| {
        if covered > 0.0 {
            paint(left + x as usize, top + y as usize, covered);
        }
    });
}

thread_local! {
    /// It takes hundreds of kilobytes, which would be asked of the kernel for each picture.
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new(
        CompressionLvl::new(COMPRESSION).expect("a level it has"),
    ));
}

fn compressed(data: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut packed = vec![0; compressor.zlib_compress_bound(data.len())];
        let length = compressor.zlib_compress(data, &mut packed).expect("the bound is enough");
        packed.truncate(length);
        packed
    })
}

/// Writes the file: the PNG's own chunks, and one that readers skip, which fills it up.
fn file(data: &[u8], rows: usize, [paper, ink]: [Colour; 2]) -> Vec<u8> {
    let packed = compressed(data);
    let mut file = Vec::with_capacity(LENGTHS[0]);
    let rows = u32::try_from(rows).expect("a few rows");
    let mut encoder = png::Encoder::new(&mut file, WIDTH, rows);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Two);
    encoder.set_palette(palette(paper, ink).concat());
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_chunk(png::chunk::IDAT, &packed)?;
            writer.write_chunk(FILLING, &vec![0; filling(packed.len())])?;
            writer.finish()
        })
        .expect("the header fits the data, and a Vec takes all that is written");
    file
}

/// The chunk that fills a file up: ancillary, private, safe to copy.
const FILLING: png::chunk::ChunkType = png::chunk::ChunkType(*b"fiLl");
/// What a file holds besides its compressed data and its filling.
const FRAME: usize = 8 + 25 + 24 + 12 + 12 + 12;

/// How many bytes fill a file up, when its data take this many.
fn filling(data: usize) -> usize {
    let length = data + FRAME;
    LENGTHS.iter().find(|&&full| full >= length).map_or(0, |full| full - length)
}

/// The colours of the four tones.
fn palette(paper: Colour, ink: Colour) -> [Colour; 4] {
    // Three parts of the one or the other, so a sum is at most 3 * 255.
    let blend = |parts: u16| {
        std::array::from_fn(|i| {
            let sum = u16::from(paper[i]) * (3 - parts) + u16::from(ink[i]) * parts;
            u8::try_from(sum / 3).expect("a third of three bytes is a byte")
        })
    };
    [paper, blend(1), blend(2), ink]
}

/// The nearest of the four tones.
fn tone(darkness: f32) -> u8 {
    [1.0 / 6.0, 3.0 / 6.0, 5.0 / 6.0].map(|step| u8::from(darkness > step)).iter().sum()
}

/// Four pixels in one byte, the leftmost in the highest bits.
fn packed([a, b, c, d]: [u8; PIXELS_PER_BYTE]) -> u8 {
    a << 6 | b << 4 | c << 2 | d
}

/// A pixel's place; what lies left of or above the canvas comes to its edge.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast rounds down and saturates, as wished"
)]
fn whole(place: f32) -> usize {
    place as usize
}

/// The place of a pixel.
#[expect(clippy::cast_precision_loss, reason = "an f32 holds whole numbers far beyond these")]
fn place(pixel: usize) -> f32 {
    pixel as f32
}
