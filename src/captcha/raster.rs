//! From outlines to a PNG file: shapes are filled into four tones, which a palette turns into
//! colours.
//!
//! The PNG is stored, not compressed: at two bits a pixel it is below 3 kB all the same, costs next
//! to nothing to write, and its length is the same for every text.

use super::{HEIGHT, WIDTH};
use ab_glyph::{GlyphId, Outline, OutlineCurve, OutlinedGlyph, Point, PxScaleFactor, Rect, point};

const COLUMNS: usize = WIDTH as usize;
const ROWS: usize = HEIGHT as usize;
/// At two bits each.
const PIXELS_PER_BYTE: usize = 4;
const _: () = assert!(COLUMNS.is_multiple_of(PIXELS_PER_BYTE), "a row ends with its byte");

/// Where a font's own units become pixels: one to one, and down is down, not up as in fonts.
const AS_IS: PxScaleFactor = PxScaleFactor { horizontal: 1.0, vertical: -1.0 };

/// Red, green and blue.
pub(super) type Colour = [u8; 3];

/// A closed outline: a letter, a line, a dot.
pub(super) struct Shape(Vec<OutlineCurve>);

impl Shape {
    /// The outline as a font draws it, in the font's units, upwards.
    pub(super) fn from_font(outline: Outline) -> Self {
        Self(outline.curves)
    }

    /// Straight lines from corner to corner, and back to the first.
    pub(super) fn polygon(corners: &[Point]) -> Self {
        let ends = corners.iter().cycle().skip(1);
        Self(corners.iter().zip(ends).map(|(&from, &to)| OutlineCurve::Line(from, to)).collect())
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

/// A picture in the making: one tone for each pixel, from 0 (paper) to 3 (ink).
pub(super) struct Canvas([[u8; COLUMNS]; ROWS]);

impl Canvas {
    /// Empty paper.
    pub(super) fn new() -> Self {
        Self([[0; COLUMNS]; ROWS])
    }

    /// Fills a shape; `strength` is 1 for full ink and less for a lighter tone. Where shapes meet,
    /// the darker stays.
    pub(super) fn fill(&mut self, shape: Shape, strength: f32) {
        let outline = Outline { bounds: shape.bounds(), curves: shape.0 };
        let glyph = GlyphId(0).with_scale(1.0);
        let shape = OutlinedGlyph::new(glyph, outline, AS_IS);
        let Point { x: left, y: top } = shape.px_bounds().min;
        let (left, top) = (whole(left), whole(top));
        shape.draw(|x, y, covered| {
            let (column, row) = (left + x as usize, top + y as usize);
            if let Some(pixel) = self.0.get_mut(row).and_then(|row| row.get_mut(column)) {
                *pixel = tone(covered * strength).max(*pixel);
            }
        });
    }

    /// The picture as a file, with blends of paper and ink between the two.
    pub(super) fn png(&self, paper: Colour, ink: Colour) -> Vec<u8> {
        let data: Vec<u8> =
            self.0.as_flattened().as_chunks().0.iter().copied().map(packed).collect();
        let mut file = Vec::with_capacity(data.len() + 256);
        let mut encoder = png::Encoder::new(&mut file, WIDTH, HEIGHT);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Two);
        encoder.set_palette(palette(paper, ink).concat());
        encoder.set_compression(png::Compression::NoCompression);
        encoder
            .write_header()
            .and_then(|mut writer| {
                writer.write_image_data(&data)?;
                writer.finish()
            })
            .expect("the header fits the data, and a Vec takes all that is written");
        file
    }
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
    reason = "already a whole number, and the cast saturates"
)]
fn whole(place: f32) -> usize {
    place as usize
}
