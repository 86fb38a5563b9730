//! The image captcha: a few letters as a small PNG that a person reads at a glance.
//!
//! A picture follows from its text and its seed alone. So nothing needs to be stored between
//! drawing and judging: who asks again for the same challenge gets the same bytes, and no second
//! sample. It is drawn with nothing but `+`, `-`, `*`, `/` and square roots, which are exact, so
//! that two nodes draw the same picture.
//!
//! Each letter gets its own font, size, slant and turn. The letters stand side by side without
//! touching; a mild wave goes through all of them, and two thin, lighter lines and a few dots lie
//! behind. Every picture has the same length in bytes, whatever its text.

mod random;
mod raster;

use ab_glyph::{Font, FontRef, Point, point};
use random::Random;
use raster::{Canvas, Colour, Shape};
use std::sync::LazyLock;

/// The width of every picture, in pixels.
pub const WIDTH: u32 = 176;
/// The height of every picture, in pixels.
pub const HEIGHT: u32 = 64;

/// The most letters that a picture shows; there is room for four at full size, unless all are wide.
const LETTERS_MAX: usize = 8;
/// The canvas as the shapes see it, in pixels.
#[expect(clippy::cast_precision_loss, reason = "an f32 holds whole numbers far beyond these")]
const SIZE: Point = Point { x: WIDTH as f32, y: HEIGHT as f32 };

/// How high a capital letter stands before its own size is applied, in pixels.
const CAPITAL: f32 = 35.0;
/// What stays free around the letters, and between them at least, in pixels.
const MARGIN: f32 = 4.0;
/// How far the wave lifts or lowers a letter at most, in pixels.
const WAVE: f32 = 2.5;
/// How far a letter may stand above or below the middle at most, in pixels.
const DRIFT: f32 = 5.0;
/// Lines and dots are lighter than letters, so that none is taken for a part of one.
const DECORATION: f32 = 0.45;
/// How many dots lie behind the letters.
const DOTS: usize = 7;

/// Paper and ink; WCAG 2.2 asks for a contrast of 4.5 to 1, and these give twice as much.
const COLOURS: [(Colour, Colour); 4] = [
    ([250, 247, 240], [36, 48, 74]),
    ([240, 246, 250], [14, 62, 74]),
    ([247, 243, 250], [72, 36, 92]),
    ([250, 246, 236], [86, 38, 24]),
];

/// A font, and how many of its units make the height of a capital letter.
struct Face {
    font: FontRef<'static>,
    capital: f32,
}

impl Face {
    fn new(file: &'static [u8]) -> Self {
        let font = FontRef::try_from_slice(file).expect("the embedded fonts are valid");
        let letter = font.outline(font.glyph_id('H')).expect("the embedded fonts have an H");
        Self { font, capital: letter.bounds.height().abs() }
    }
}

/// The embedded fonts, read once; `fonts/README.md` says where they come from.
static FACES: LazyLock<[Face; 3]> = LazyLock::new(|| {
    [
        Face::new(include_bytes!("fonts/sans.ttf")),
        Face::new(include_bytes!("fonts/round.ttf")),
        Face::new(include_bytes!("fonts/serif.ttf")),
    ]
});

/// Draws the text as a PNG file of [`WIDTH`] by [`HEIGHT`] pixels.
///
/// The same text and seed always give the same bytes. The picture shows much of what the seed
/// decides, so the seed must be of no use for finding the text: derive each of them on its own.
///
/// Meant for four characters, good for eight: more are left out, as are those that it
/// [cannot draw](can_draw).
pub fn draw(text: &str, seed: &[u8; 32]) -> Vec<u8> {
    let mut random = Random::new(seed);
    let &(paper, ink) = random.pick(&COLOURS);
    let mut canvas = Canvas::new();
    for _ in 0..2 {
        canvas.fill(line(&mut random), DECORATION);
    }
    for _ in 0..DOTS {
        canvas.fill(dot(&mut random), DECORATION);
    }
    for letter in letters(text, &mut random) {
        canvas.fill(letter, 1.0);
    }
    canvas.png(paper, ink)
}

/// Whether a character can be in a picture: A to Z and 0 to 9 can.
pub fn can_draw(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit()
}

/// The text, letter by letter, where it stands in the picture.
fn letters(text: &str, random: &mut Random) -> Vec<Shape> {
    let drawable = text.chars().filter(|&c| can_draw(c)).take(LETTERS_MAX);
    let mut letters: Vec<Shape> = drawable.map(|c| letter(c, random)).collect();
    place(&mut letters, random);
    letters
}

/// A letter in its own font, size, slant and turn, around the origin.
fn letter(c: char, random: &mut Random) -> Shape {
    let face = random.pick(&FACES);
    let size = CAPITAL / face.capital * random.between(0.9, 1.08);
    let slant = random.between(-0.12, 0.12);
    let (sin, cos) = turn(random.between(-0.1, 0.1));
    let outline = face.font.outline(face.font.glyph_id(c));
    let mut shape = Shape::from_font(outline.expect("all fonts have all letters, see the tests"));
    shape.moved(|p| {
        let (x, y) = ((p.x + p.y * slant) * size, -p.y * size);
        point(x * cos - y * sin, x * sin + y * cos)
    });
    shape
}

/// Puts the letters side by side: they share what room is left, and shrink where there is none.
fn place(letters: &mut [Shape], random: &mut Random) {
    let room = point(SIZE.x - 2.0 * MARGIN, SIZE.y - 2.0 * (MARGIN + WAVE));
    let gaps: Vec<f32> = letters.iter().map(|_| random.between(0.5, 1.5)).collect();
    let last_gap = random.between(0.5, 1.5);
    let all_gaps = gaps.iter().sum::<f32>() + last_gap;

    let width = letters.iter().map(|letter| letter.bounds().width() + MARGIN).sum::<f32>() - MARGIN;
    let height = letters.iter().map(|letter| letter.bounds().height()).fold(0.0, f32::max);
    let shrink = (room.x / width).min(room.y / height).min(1.0);
    let free = room.x - width * shrink;

    let (start, phase) = (random.between(0.0, 1.0), random.between(0.011, 0.016));
    let mut left = MARGIN;
    for (letter, gap) in letters.iter_mut().zip(gaps) {
        let bounds = letter.bounds();
        left += free * gap / all_gaps;
        let spare = ((room.y - bounds.height() * shrink) / 2.0).min(DRIFT);
        let middle = SIZE.y / 2.0 + random.between(-1.0, 1.0) * spare;
        let centre = f32::midpoint(bounds.min.y, bounds.max.y);
        letter.moved(|p| {
            let x = left + (p.x - bounds.min.x) * shrink;
            let y = middle + (p.y - centre) * shrink;
            point(x, y + WAVE * wave(start + x * phase))
        });
        left += (bounds.width() + MARGIN) * shrink;
    }
}

/// A thin wavy line from edge to edge.
fn line(random: &mut Random) -> Shape {
    const STEPS: u8 = 22;
    let (from, to) = (random.between(12.0, SIZE.y - 12.0), random.between(12.0, SIZE.y - 12.0));
    let (start, turns) = (random.between(0.0, 1.0), random.between(0.8, 1.6));
    let (depth, thickness) = (random.between(3.0, 7.0), random.between(1.3, 1.8));
    let at = |step: u8, side: f32| {
        let along = f32::from(step) / f32::from(STEPS);
        let y = from + (to - from) * along + depth * wave(start + turns * along);
        point(SIZE.x * along, y + side * thickness / 2.0)
    };
    let there = (0..=STEPS).map(|step| at(step, -1.0));
    let back = (0..=STEPS).rev().map(|step| at(step, 1.0));
    Shape::polygon(&there.chain(back).collect::<Vec<Point>>())
}

/// A small dot anywhere.
fn dot(random: &mut Random) -> Shape {
    let radius = random.between(0.9, 1.5);
    let x = random.between(MARGIN, SIZE.x - MARGIN);
    let y = random.between(MARGIN, SIZE.y - MARGIN);
    let (near, far) = (radius * 0.4, radius);
    let corners = [(near, far), (far, near), (far, -near), (near, -far)];
    let other_half = corners.map(|(dx, dy)| (-dx, -dy));
    let around = corners.iter().chain(&other_half);
    Shape::polygon(&around.map(|(dx, dy)| point(x + dx, y + dy)).collect::<Vec<Point>>())
}

/// Sine and cosine of an angle, given the tangent of its half: exact where `sin` is not the same
/// on every machine.
fn turn(half_tangent: f32) -> (f32, f32) {
    let square = half_tangent * half_tangent;
    (2.0 * half_tangent / (1.0 + square), (1.0 - square) / (1.0 + square))
}

/// A wave of height 1 and length 1: two parabolas, which look like a sine (see [`turn`] for why).
fn wave(along: f32) -> f32 {
    let across = 2.0 * (along - along.floor()) - 1.0;
    4.0 * across * (1.0 - across.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that can be drawn.
    const ALL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

    /// A seed for each number, with all bytes in use.
    fn seed(number: u8) -> [u8; 32] {
        std::array::from_fn(|i| number.wrapping_mul(167).wrapping_add(i.to_le_bytes()[0] * 7))
    }

    /// The width and height that a file states, its palette, and a tone for each pixel.
    fn decoded(file: &[u8]) -> ((u32, u32), Vec<u8>, Vec<u8>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::IDENTITY);
        let mut reader = decoder.read_info().expect("a PNG");
        assert_eq!(reader.output_color_type(), (png::ColorType::Indexed, png::BitDepth::Two));
        let mut data = vec![0; reader.output_buffer_size().expect("a small picture")];
        reader.next_frame(&mut data).expect("whole image data");
        reader.finish().expect("nothing broken after it");
        let tones = data.iter().flat_map(|byte| [6, 4, 2, 0].map(|shift| byte >> shift & 3));
        let palette = reader.info().palette.as_ref().expect("a palette").to_vec();
        (reader.info().size(), palette, tones.collect())
    }

    /// How much light a colour gives, from 0 to 1, as WCAG 2.2 defines it.
    fn luminance(colour: Colour) -> f64 {
        let [red, green, blue] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn the_same_text_and_seed_give_the_same_bytes() {
        assert_eq!(draw("ACE4", &seed(1)), draw("ACE4", &seed(1)));
        assert_ne!(draw("ACE4", &seed(1)), draw("ACE7", &seed(1)));
    }

    #[test]
    fn every_bit_of_the_seed_changes_the_picture() {
        let picture = draw("ACE4", &seed(1));
        for bit in 0..256 {
            let mut other = seed(1);
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(draw("ACE4", &other), picture, "bit {bit}");
        }
    }

    #[test]
    fn a_picture_is_a_valid_png_of_the_stated_size() {
        let (size, palette, tones) = decoded(&draw("ACE4", &seed(2)));
        assert_eq!(size, (WIDTH, HEIGHT));
        assert_eq!(palette.len(), 4 * 3);
        assert_eq!(tones.len(), 176 * 64);
    }

    #[test]
    fn all_pictures_have_the_same_length_and_are_below_three_kilobytes() {
        let length = draw("", &seed(0)).len();
        assert!(length < 3_000, "{length} bytes");
        for (number, text) in (0..).zip(["IIII", "WWWW", "ACE4", "8", "ABCDEFGH"]) {
            assert_eq!(draw(text, &seed(number)).len(), length, "{text}");
        }
    }

    #[test]
    fn every_letter_stays_inside_and_touches_no_other() {
        for (c, number) in ALL.chars().flat_map(|c| (0..=255).map(move |number| (c, number))) {
            let text = [c, 'W', c, c].iter().collect::<String>();
            let mut end_of_last = 0.0;
            for letter in letters(&text, &mut Random::new(&seed(number))) {
                let bounds = letter.bounds();
                assert!(bounds.min.x > end_of_last, "{text}, seed {number}: {bounds:?}");
                assert!(bounds.max.x < SIZE.x - 3.0, "{text}, seed {number}: {bounds:?}");
                assert!(bounds.min.y > 3.0, "{text}, seed {number}: {bounds:?}");
                assert!(bounds.max.y < SIZE.y - 3.0, "{text}, seed {number}: {bounds:?}");
                assert!(bounds.height() > 20.0, "{text}, seed {number}: {bounds:?}");
                end_of_last = bounds.max.x;
            }
        }
    }

    #[test]
    fn every_letter_is_full_ink_and_nothing_else_is() {
        let ink = |text: &str, number| {
            let (_, _, tones) = decoded(&draw(text, &seed(number)));
            tones.iter().filter(|&&tone| tone >= 2).count()
        };
        for number in 0..40 {
            assert_eq!(ink("", number), 0, "lines and dots are light, seed {number}");
            for c in ALL.chars() {
                let pixels = ink(&c.to_string(), number);
                assert!((90..1_200).contains(&pixels), "{c}, seed {number}: {pixels} pixels");
            }
        }
    }

    #[test]
    fn every_font_has_its_own_outline_for_every_letter() {
        for face in &*FACES {
            let ids: std::collections::BTreeSet<_> =
                ALL.chars().map(|c| face.font.glyph_id(c)).collect();
            assert_eq!(ids.len(), ALL.len());
            assert!(ids.iter().all(|id| id.0 != 0 && face.font.outline(*id).is_some()));
        }
    }

    #[test]
    fn ink_stands_out_from_paper() {
        for (paper, ink) in COLOURS {
            let contrast = (luminance(paper) + 0.05) / (luminance(ink) + 0.05);
            assert!(contrast >= 9.0, "{paper:?} and {ink:?}: {contrast}");
        }
        for number in 0..40 {
            let (_, palette, _) = decoded(&draw("ACE4", &seed(number)));
            let (paper, ink) = (&palette[..3], &palette[9..]);
            assert!(COLOURS.iter().any(|pair| pair.0 == paper && pair.1 == ink));
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(ALL.chars().all(can_draw));
        assert!(!"az -\0Äß４💥".chars().any(can_draw));
        assert_eq!(draw("az -\0Äß４💥", &seed(3)), draw("", &seed(3)));
        assert_eq!(draw("A-C e\u{301}E4", &seed(3)), draw("ACE4", &seed(3)));
    }

    #[test]
    fn a_long_text_gets_smaller_letters_and_ends_at_the_limit() {
        for number in 0..=255 {
            let letters = letters("WWWWMMMM", &mut Random::new(&seed(number)));
            assert!(letters.iter().all(|letter| letter.bounds().max.x < SIZE.x - 3.0));
        }
        assert_eq!(draw("ABCDEFGH4", &seed(4)), draw("ABCDEFGH", &seed(4)));
        assert_eq!(draw(&"W".repeat(100_000), &seed(4)), draw("WWWWWWWW", &seed(4)));
    }
}
