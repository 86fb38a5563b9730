//! From outlines to tones: letters, lines and patches are put together into four tones, which a
//! palette turns into colours.
//!
//! Everything is a byte to a pixel, from 0 to [`FULL`], so that sixteen pixels are worked on at a
//! time; only marks are computed pixel by pixel. All memory is kept from one picture to the next.

use std::sync::LazyLock;

use ab_glyph::{OutlinedGlyph, Point, point};

use super::curve::{length, times};
use super::file::{Colour, Writer};
use super::fill::{FULL, Filler, Shape};
use super::patches::Patches;
use super::thread::Mark;
use super::{CAPTION_HEIGHT, HEIGHT, WIDTH};

pub(super) const COLUMNS: usize = WIDTH as usize;
const ROWS: usize = HEIGHT as usize;
const CAPTION_ROWS: usize = CAPTION_HEIGHT as usize;
/// At two bits each.
const PIXELS_PER_BYTE: usize = 4;
/// How many bytes a row takes in the file.
const BYTES: usize = COLUMNS / PIXELS_PER_BYTE;
const _: () = assert!(COLUMNS.is_multiple_of(PIXELS_PER_BYTE), "a row ends with its byte");
/// What is free around a plane, so that nothing needs to be cut off at its edges.
const AROUND: usize = 8;

/// What a row of a PNG begins with: how its bytes are to be understood.
const UNFILTERED: u8 = 0;

/// Half of a line's width on paper, in pixels: lines are as thick as many letters' strokes, since a
/// program that tells the two apart by thickness has both, and then the order.
const LINE: f32 = 2.4;
/// How much nearness a pixel nearer to a line makes. Two of it are one of [`FULL`], so that the
/// greatest nearness is a byte without its highest bit.
const NEARER: u8 = FULL / 2;
/// A line leaves a cut in a letter that is thinner than the line, so that the letter stays one: its
/// edge lies 1.4 pixels inside of the line's, in parts of [`NEARER`].
const CUT_INSIDE: u8 = 45;
/// The greatest nearness: a cut is whole from here on.
const NEAREST: u8 = 127;
const _: () = assert!(CUT_INSIDE + NEARER <= NEAREST, "the middle of a cut is empty");
/// Half of a ring's size, to the middle of its line, in pixels.
const RING: f32 = 6.0;
/// Half of a square's size, in pixels.
const SQUARE: f32 = 5.5;
/// A distance beyond which a line is not seen, in pixels: half a pixel more than its width.
const UNSEEN: f32 = LINE + 0.5;
/// How far apart the dots are that make a line, in pixels: so near that nobody sees it.
const DOTS: f32 = 0.8;
/// How many dots lie between two that do not touch the same eight pixels.
const APART: usize = 16;

/// A byte for each pixel, with [`AROUND`] it.
pub(super) struct Plane(Vec<[u8; AROUND + COLUMNS + AROUND]>);

impl Plane {
    pub(super) fn new() -> Self {
        Self(vec![[0; AROUND + COLUMNS + AROUND]; AROUND + ROWS + AROUND])
    }

    fn clear(&mut self) {
        self.0.as_flattened_mut().fill(0);
    }

    /// The pixels of a row from a column on; none where the plane ends.
    pub(super) fn from(&mut self, column: usize, row: usize) -> Option<&mut [u8]> {
        self.0.get_mut(row + AROUND)?.get_mut(column + AROUND..)
    }

    /// The pixels of a row.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.0[row + AROUND][AROUND..AROUND + COLUMNS]
    }
}

/// How many places inside a pixel a dot can have, across and down.
const PLACES: usize = 8;
/// How many rows and columns of pixels a dot touches.
const DOT: usize = 7;
/// How near each pixel around a dot is to it, for each place inside its own pixel.
type Dots = [[u64; DOT]; PLACES * PLACES];

static DOTTED: LazyLock<Dots> = LazyLock::new(|| {
    std::array::from_fn(|place| {
        let at = |place: usize| small(place) / small(PLACES);
        let (x, y) = (at(place % PLACES), at(place / PLACES));
        // The dot's own pixel is the fourth of seven.
        let off = |pixel: usize, at: f32| small(pixel) - small(DOT / 2) + 0.5 - at;
        std::array::from_fn(|row| {
            let pixel = |column| near(length(point(off(column, x), off(row, y))));
            u64::from_le_bytes(std::array::from_fn(pixel))
        })
    })
});

/// How near to the middle of a line something is, as a byte: 0 where the line is not seen,
/// [`FULL`] where a pixel is covered, and more inside, up to [`NEAREST`].
fn near(off: f32) -> u8 {
    steps((UNSEEN - off).max(0.0) * f32::from(NEARER)).min(NEAREST)
}

/// The greater one of each pair of bytes, which must be at most [`NEAREST`].
fn greater(a: u64, b: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    // The highest bit of a byte stays where nothing had to be borrowed from it.
    let first = (((a | HIGHEST) - b) >> 7 & ONES) * 0xFF;
    a & first | b & !first
}

/// A picture in the making.
pub(super) struct Canvas {
    /// How much of each pixel a letter covers.
    letters: Plane,
    /// How near each pixel is to a line.
    lines: Plane,
    filler: Filler,
    /// The dots of a line: columns and rows, in parts of a pixel.
    dots: Vec<(usize, usize)>,
    /// The rows as the file holds them.
    data: Vec<u8>,
    writer: Writer,
}

impl Canvas {
    /// Empty paper.
    pub(super) fn new() -> Self {
        Self {
            letters: Plane::new(),
            lines: Plane::new(),
            filler: Filler::new(),
            dots: Vec::new(),
            data: Vec::new(),
            writer: Writer::new(),
        }
    }

    /// Takes all off it.
    pub(super) fn clear(&mut self) {
        self.letters.clear();
        self.lines.clear();
    }

    /// Fills a letter whose middle lies there.
    pub(super) fn letter(&mut self, shape: &Shape, centre: Point) {
        self.filler.fill(shape, centre, &mut self.letters);
    }

    /// Draws a line from point to point: dots, so near to each other that they are one.
    pub(super) fn line(&mut self, points: impl Iterator<Item = Point>) {
        self.dots.clear();
        let mut last = None;
        for to in points {
            let from = last.replace(to).unwrap_or(to);
            let way = to - from;
            let dots = (length(way) / DOTS).floor() + 1.0;
            let step = times(way, 1.0 / dots);
            let (mut at, mut dot) = (from, 0.0);
            while dot < dots {
                at += step;
                dot += 1.0;
                let place = times(at, small(PLACES)) + point(0.5, 0.5);
                self.dots.push((whole(place.x), whole(place.y)));
            }
        }
        // In an order in which no dot touches the one before: a processor would wait for it.
        for first in 0..APART {
            for number in (first..self.dots.len()).step_by(APART) {
                self.dot(self.dots[number]);
            }
        }
    }

    fn dot(&mut self, (x, y): (usize, usize)) {
        let (column, row) = (x / PLACES, y / PLACES);
        if column >= COLUMNS || row >= ROWS {
            return;
        }
        let dot = &DOTTED[y % PLACES * PLACES + x % PLACES];
        let rows = &mut self.lines.0[AROUND + row - DOT / 2..][..DOT];
        for (pixels, dot) in rows.iter_mut().zip(dot) {
            if let Some(pixels) = pixels[AROUND + column - DOT / 2..].first_chunk_mut::<8>() {
                *pixels = greater(u64::from_le_bytes(*pixels), *dot).to_le_bytes();
            }
        }
    }

    /// Draws a mark.
    pub(super) fn mark(&mut self, mark: Mark, at: Point) {
        let reach = RING + LINE + 1.0;
        let (left, right) = (whole(at.x - reach), whole(at.x + reach + 1.0).min(COLUMNS));
        let (top, bottom) = (whole(at.y - reach), whole(at.y + reach + 1.0).min(ROWS));
        for row in top..bottom {
            let pixels = self.lines.from(left, row).into_iter().flatten();
            for (column, pixel) in (left..right).zip(pixels) {
                let (x, y) = (small(column) + 0.5 - at.x, small(row) + 0.5 - at.y);
                let off = match mark {
                    Mark::Ring => (length(point(x, y)) - RING).abs(),
                    Mark::Square => (x.abs().max(y.abs()) - SQUARE + LINE).max(0.0),
                };
                *pixel = near(off).max(*pixel);
            }
        }
    }

    /// The picture as a file, with blends of paper and ink between the two.
    pub(super) fn png(
        &mut self,
        mut patches: Option<Patches>,
        caption: Option<&Strip>,
        colours: [Colour; 2],
    ) -> Vec<u8> {
        self.data.clear();
        for row in 0..ROWS {
            let mut darkness = ink(self.letters.row(row), self.lines.row(row));
            if let Some(patches) = &mut patches {
                turn(&mut darkness, &patches.row(row));
            }
            self.data.push(UNFILTERED);
            self.data.extend(packed(&darkness));
        }
        for row in caption.iter().flat_map(|strip| strip.rows()) {
            self.data.push(UNFILTERED);
            self.data.extend(row);
        }
        let plain = patches.is_none();
        let rows = ROWS + caption.map_or(0, |_| CAPTION_ROWS);
        self.writer.write(&self.data, rows, colours, plain)
    }
}

/// Ink is a letter or a line, but where both are there is paper, though not as wide as the line.
fn ink(letters: &[u8], lines: &[u8]) -> [u8; COLUMNS] {
    let mut darkness = [0; COLUMNS];
    for ((pixel, &letter), &near) in darkness.iter_mut().zip(letters).zip(lines) {
        let line = near.min(NEARER) * 2;
        let cut = near.saturating_sub(CUT_INSIDE).min(NEARER) * 2;
        *pixel = letter.min(FULL - cut).max(line.min(FULL - letter));
    }
    darkness
}

/// Turns paper and ink round in patches.
fn turn(darkness: &mut [u8; COLUMNS], turned: &[u8; COLUMNS]) {
    for (pixel, &turned) in darkness.iter_mut().zip(turned) {
        *pixel = (*pixel).min(FULL - turned).max(turned.min(FULL - *pixel));
    }
}

/// The nearest of the four tones for each pixel; four to a byte, the leftmost in the highest bits.
fn packed(darkness: &[u8; COLUMNS]) -> [u8; BYTES] {
    let mut tones = [0; COLUMNS];
    for (tone, darkness) in tones.iter_mut().zip(darkness) {
        let steps = [FULL / 6, FULL / 2, FULL - FULL / 6];
        *tone = steps.iter().map(|step| u8::from(darkness > step)).sum();
    }
    let mut bytes = [0; BYTES];
    for (byte, four) in bytes.iter_mut().zip(tones.as_chunks().0) {
        // Neighbours are put together, and then neighbouring pairs.
        let four = u32::from_le_bytes(*four);
        let pairs = four << 2 | four >> 8;
        [*byte, ..] = (pairs << 4 | pairs >> 16).to_le_bytes();
    }
    bytes
}

/// A line of text, as the file holds it.
pub(super) struct Strip([[u8; BYTES]; CAPTION_ROWS]);

impl Strip {
    /// Draws a line of text.
    pub(super) fn new(glyphs: &[OutlinedGlyph]) -> Self {
        let mut darkness = [[0; COLUMNS]; CAPTION_ROWS];
        for glyph in glyphs {
            let Point { x: left, y: top } = glyph.px_bounds().min;
            let (left, top) = (whole(left), whole(top));
            glyph.draw(|x, y, covered| {
                let row = darkness.get_mut(top + y as usize);
                if let Some(pixel) = row.and_then(|row| row.get_mut(left + x as usize)) {
                    *pixel = steps(covered.min(1.0) * f32::from(FULL)).max(*pixel);
                }
            });
        }
        Self(darkness.map(|row| packed(&row)))
    }

    /// Its rows: four pixels to a byte.
    pub(super) fn rows(&self) -> &[[u8; BYTES]; CAPTION_ROWS] {
        &self.0
    }
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

/// The nearest number of steps.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and the cast saturates"
)]
fn steps(number: f32) -> u8 {
    (number + 0.5) as u8
}

/// The place of a pixel.
#[expect(clippy::cast_precision_loss, reason = "an f32 holds whole numbers far beyond these")]
fn small(number: usize) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_byte_of_each_pair_is_found() {
        for a in 0..=NEAREST {
            for b in 0..=NEAREST {
                let (few, many) = ([a, b, 0, a, NEAREST, 1, b, 0], [b, a, 0, 1, 0, a, NEAREST, a]);
                let found = greater(u64::from_le_bytes(few), u64::from_le_bytes(many));
                let wished: [u8; 8] = std::array::from_fn(|i| few[i].max(many[i]));
                assert_eq!(found.to_le_bytes(), wished);
            }
        }
    }

    #[test]
    fn tones_are_packed_from_the_left() {
        let mut darkness = [0; COLUMNS];
        darkness[..6].copy_from_slice(&[0, 16, 40, FULL, FULL, 0]);
        assert_eq!(packed(&darkness)[..3], [0b00_01_10_11, 0b11_00_00_00, 0]);
    }

    #[test]
    fn ink_is_a_letter_or_a_line_and_not_both() {
        let (mut letters, mut lines) = ([0; COLUMNS], [0; COLUMNS]);
        letters[1..3].fill(FULL);
        (lines[0], lines[1]) = (NEAREST, NEAREST);
        let mut darkness = ink(&letters, &lines);
        assert_eq!(darkness[..4], [FULL, 0, FULL, 0]);
        turn(&mut darkness, &[FULL; COLUMNS]);
        assert_eq!(darkness[..4], [0, FULL, 0, FULL]);
    }

    #[test]
    fn a_line_is_as_wide_as_it_shall_be_whichever_way_it_goes() {
        let mut canvas = Canvas::new();
        for (from, to) in [
            (point(40.0, 20.5), point(200.0, 20.5)),
            (point(120.3, 110.0), point(120.3, 10.0)),
            (point(10.0, 10.0), point(100.0, 100.0)),
        ] {
            canvas.clear();
            canvas.line([from, to].into_iter());
            let ink: u64 = (0..ROWS)
                .flat_map(|row| self::ink(&[0; COLUMNS], canvas.lines.row(row)))
                .map(u64::from)
                .sum();
            let area = 2.0 * LINE * length(to - from) + std::f32::consts::PI * LINE * LINE;
            let drawn = steps_of(ink) / f32::from(FULL);
            assert!((drawn / area - 1.0).abs() < 0.04, "{from:?} {to:?}: {drawn}, not {area}");
        }
    }

    #[test]
    fn what_lies_beyond_the_edges_harms_nothing() {
        let mut canvas = Canvas::new();
        let far = [-1e9, -20.0, -0.1, 0.0, 155.9, 156.0, 215.9, 216.0, 1e9, f32::NAN];
        let points = far.iter().flat_map(|&x| far.map(|y| point(x, y)));
        for at in points.filter(|at| length(*at) < 1e3) {
            canvas.line([point(5.0, 5.0), at].into_iter());
            canvas.mark(Mark::Ring, at);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    fn steps_of(ink: u64) -> f32 {
        ink as f32
    }
}
