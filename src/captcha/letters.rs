//! Letters: each in its own font, size, slant and turn, and with a mild wave of its own.

use ab_glyph::{Font, FontRef, Point, Rect, point};
use std::sync::LazyLock;

use super::curve::times;
use super::fill::Shape;
use super::random::Random;
use super::{turn, wave};

/// The letters that pictures show: none that a person takes for another, turned and crossed.
pub const ALPHABET: &[u8; 15] = b"ACEHKLMNRTUWX39";

/// How high a capital letter stands before its own size is applied, in pixels.
pub(super) const CAPITAL: f32 = 37.0;
/// How far the wave moves a point of an outline at most, in pixels.
const WAVE: f32 = 1.2;
/// How many pixels of an outline make one wave, at least and at most.
const WAVE_LENGTH: (f32, f32) = (34.0, 60.0);

/// A font: its outlines, in pixels, for capital letters of the usual height.
struct Face([Shape; ALPHABET.len()]);

impl Face {
    fn new(file: &'static [u8]) -> Self {
        let font = FontRef::try_from_slice(file).expect("the embedded fonts are valid");
        let letter = font.outline(font.glyph_id('H')).expect("the embedded fonts have an H");
        let pixels = CAPITAL / letter.bounds.height().abs();
        Self(ALPHABET.map(|c| {
            let id = font.glyph_id(char::from(c));
            let outline = font.outline(id).filter(|_| id.0 != 0);
            let outline = outline.expect("the embedded fonts have all letters, see tests");
            let mut shape = Shape::from_font(&outline, pixels);
            shape.move_all(|p| times(p, pixels));
            shape
        }))
    }

    fn outline(&self, c: char) -> &Shape {
        let number = ALPHABET.iter().position(|&letter| char::from(letter) == c);
        &self.0[number.expect("only letters of the alphabet are drawn")]
    }
}

/// The embedded fonts, read once; `fonts/README.md` says where they come from.
static FACES: LazyLock<[Face; 7]> = LazyLock::new(|| {
    [
        Face::new(include_bytes!("fonts/sans.ttf")),
        Face::new(include_bytes!("fonts/round.ttf")),
        Face::new(include_bytes!("fonts/serif.ttf")),
        Face::new(include_bytes!("fonts/plain.ttf")),
        Face::new(include_bytes!("fonts/hand.otf")),
        Face::new(include_bytes!("fonts/open.otf")),
        Face::new(include_bytes!("fonts/slab.otf")),
    ]
});

/// A letter and where it lies.
pub(super) struct Letter {
    /// Its outline, with the middle of its box at the origin.
    pub(super) shape: Shape,
    /// Half of the width and half of the height of its box.
    pub(super) half: Point,
    /// Where the middle of its box lies.
    pub(super) centre: Point,
}

impl Letter {
    /// Any look of a letter of the alphabet, so many times as large as usual.
    pub(super) fn new(c: char, scale: f32, random: &mut Random) -> Self {
        let face = random.pick(&FACES);
        let size = random.between(0.88, 1.08) * scale;
        let slant = random.between(-0.2, 0.2);
        let (sin, cos) = turn(random.between(-0.14, 0.14));
        let (start, side) = (random.between(0.0, 1.0), random.between(0.0, 1.0));
        let length = random.between(WAVE_LENGTH.0, WAVE_LENGTH.1);
        let mut shape = face.outline(c).clone();
        shape.move_all(|p| {
            let (x, y) = ((p.x + p.y * slant) * size, -p.y * size);
            let (x, y) = (x * cos - y * sin, x * sin + y * cos);
            point(x + WAVE * wave(start + y / length), y + WAVE * wave(side + x / length))
        });
        let bounds = shape.bounds();
        let centre = middle(&bounds);
        shape.move_all(|p| p - centre);
        let half = point(bounds.width() / 2.0, bounds.height() / 2.0);
        Self { shape, half, centre: point(0.0, 0.0) }
    }
}

fn middle(bounds: &Rect) -> Point {
    point(f32::midpoint(bounds.min.x, bounds.max.x), f32::midpoint(bounds.min.y, bounds.max.y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_font_has_its_own_outline_for_every_letter() {
        for face in &*FACES {
            let outlines = ALPHABET.map(|c| format!("{:?}", face.outline(char::from(c))));
            let different: std::collections::BTreeSet<_> = outlines.iter().collect();
            assert_eq!(different.len(), ALPHABET.len());
        }
    }

    #[test]
    fn letters_are_large_and_leave_room_for_each_other() {
        for number in 0..=255 {
            let mut random = Random::new(&[number; 32]);
            for c in ALPHABET.map(char::from) {
                let half = Letter::new(c, 1.0, &mut random).half;
                assert!((9.0..38.0).contains(&half.x), "{c}, seed {number}: {half:?}");
                assert!((15.0..29.0).contains(&half.y), "{c}, seed {number}: {half:?}");
            }
        }
    }
}
