//! The image challenge: clear letters, and a thread that says which of them count, in which order.
//!
//! Programs read letters better than people do, however much is drawn over them. So nothing is
//! hidden here: the letters are plain, and the question is how they hang together. A line with a
//! ring at its end runs through four of seven letters; a second line takes the others, so that to
//! be on a line says nothing. [`Rule`] says how the picture is read, [`Level`] how hard it is.
//!
//! A picture follows from its text, style and seed alone. So nothing needs to be stored between
//! drawing and judging: who asks again for the same challenge gets the same bytes, and no second
//! sample. It is drawn with nothing but `+`, `-`, `*`, `/` and square roots, which are exact, so
//! that two nodes draw the same picture.

mod caption;
mod curve;
mod file;
mod fill;
mod letters;
mod patches;
mod places;
pub(crate) mod random;
mod raster;
mod rule;
mod thread;

use std::cell::RefCell;

use ab_glyph::Point;
use file::Colour;
use letters::Letter;
use patches::Patches;
use random::Random;
use raster::Canvas;
use thread::{Marks, Threads};

pub use letters::ALPHABET;
pub use rule::{Language, Level, Rule};

/// The width of every picture, in pixels.
pub const WIDTH: u32 = 216;
/// The height of a picture without a caption, in pixels.
pub const HEIGHT: u32 = 156;
/// What a caption adds to the height, in pixels.
pub const CAPTION_HEIGHT: u32 = 24;
/// The length of an answer.
pub const LENGTH: usize = 4;

/// The canvas as the shapes see it, in pixels.
#[expect(clippy::cast_precision_loss, reason = "an f32 holds whole numbers far beyond these")]
const SIZE: Point = Point { x: WIDTH as f32, y: HEIGHT as f32 };
/// The canvas' middle, in pixels.
const MIDDLE: Point = Point { x: SIZE.x / 2.0, y: SIZE.y / 2.0 };

/// Paper and ink; WCAG 2.2 asks for a contrast of 4.5 to 1, and these give twice as much.
const COLOURS: [(Colour, Colour); 6] = [
    ([250, 247, 240], [36, 48, 74]),
    ([240, 246, 250], [14, 62, 74]),
    ([247, 243, 250], [72, 36, 92]),
    ([250, 246, 236], [86, 38, 24]),
    ([242, 248, 240], [24, 64, 36]),
    ([246, 246, 246], [40, 40, 44]),
];

/// How a picture is made, besides its text and seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Style {
    /// How hard it is.
    pub level: Level,
    /// How it is read.
    pub rule: Rule,
    /// The language of a line below that says how it is read, if there is one.
    pub caption: Option<Language>,
}

/// Draws a picture whose answer is this text, as a PNG file.
///
/// The same text, seed and style always give the same bytes. The picture shows much of what the
/// seed decides, so the seed must be of no use for finding the text: derive each on its own.
///
/// Meant for [`LENGTH`] different letters of the [`ALPHABET`]; others are left out.
pub fn draw(text: &str, seed: &[u8; 32], style: Style) -> Vec<u8> {
    let mut random = Random::new(seed);
    let (main, decoy) = casting(text, style, &mut random);
    let taken = main.len();
    let scale = style.level.scale();
    let mut letters: Vec<Letter> =
        main.iter().chain(&decoy).map(|&c| Letter::new(c, scale, &mut random)).collect();
    let threads = Threads::lay(&mut letters, taken, Marks::of(style.rule), &mut random);
    let patches = (style.level != Level::Plain).then(|| Patches::new(&letters, &mut random));
    let &(paper, ink) = random.pick(&COLOURS);
    let caption = style.caption.map(|language| caption::strip(style.rule, language));
    CANVAS.with_borrow_mut(|canvas| {
        canvas.clear();
        for letter in &letters {
            canvas.letter(&letter.shape, letter.centre);
        }
        threads.draw(canvas);
        canvas.png(patches, caption, [paper, ink])
    })
}

thread_local! {
    /// Each thread draws on the same canvas again and again: its memory is asked for once.
    static CANVAS: RefCell<Canvas> = RefCell::new(Canvas::new());
}

/// The letters of the line that counts, from its mark on, and those of the other line.
fn casting(text: &str, style: Style, random: &mut Random) -> (Vec<char>, Vec<char>) {
    let mut main: Vec<char> = text.chars().filter(|&c| can_draw(c)).take(LENGTH).collect();
    let mut others = ALPHABET.map(char::from);
    random.shuffle(&mut others);
    let mut others = others.into_iter().filter(|c| !text.contains(*c));
    match style.rule {
        Rule::ToRing => main.reverse(),
        Rule::SkipFirst => main.splice(..0, others.next()).for_each(drop),
        Rule::FromRing | Rule::FromSquare => {}
    }
    let decoy = others.take(style.level.letters() - main.len()).collect();
    (main, decoy)
}

/// Whether a character can be in a picture.
pub fn can_draw(c: char) -> bool {
    ALPHABET.iter().any(|&letter| char::from(letter) == c)
}

/// Sine and cosine of an angle, given the tangent of its half: exact where `sin` is not the same
/// on every machine.
fn turn(half_tangent: f32) -> (f32, f32) {
    let square = half_tangent * half_tangent;
    (2.0 * half_tangent / (1.0 + square), (1.0 - square) / (1.0 + square))
}

/// A wave of height 1 and length 1: two parabolas, which look like a sine (see [`turn`] for why).
/// It may start as far as eight lengths back.
fn wave(along: f32) -> f32 {
    let across = 2.0 * fraction(along + 8.0) - 1.0;
    4.0 * across * (1.0 - across.abs())
}

/// What a number that is not negative has behind the point. `floor` is a call on old machines.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are small and positive"
)]
fn fraction(number: f32) -> f32 {
    number - number as u32 as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed for each number, with all bytes in use.
    fn seed(number: u16) -> [u8; 32] {
        let [low, high] = number.to_le_bytes();
        std::array::from_fn(|i| {
            low.wrapping_mul(167).wrapping_add(high).wrapping_add(i.to_le_bytes()[0] * 7)
        })
    }

    const PLAIN: Style = Style { level: Level::Plain, rule: Rule::FromRing, caption: None };

    fn styles() -> impl Iterator<Item = Style> {
        let captions = [None, Some(Language::Chinese), Some(Language::English)];
        let of = move |level, rule| captions.map(|caption| Style { level, rule, caption });
        Level::ALL
            .into_iter()
            .flat_map(move |level| Rule::ALL.into_iter().flat_map(move |rule| of(level, rule)))
    }

    /// Answers in which every letter has every place.
    fn texts() -> impl Iterator<Item = String> + Clone {
        let all = ALPHABET.map(char::from);
        (0..15).map(move |i| [0, 4, 7, 13].iter().map(|step| all[(i + step) % 15]).collect())
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
    fn the_same_text_seed_and_style_give_the_same_bytes_and_others_do_not() {
        let picture = draw("ACE9", &seed(1), PLAIN);
        assert_eq!(draw("ACE9", &seed(1), PLAIN), picture);
        assert_ne!(draw("ACE3", &seed(1), PLAIN), picture);
        let all: std::collections::BTreeSet<_> =
            styles().map(|style| draw("ACE9", &seed(1), style)).collect();
        assert_eq!(all.len(), styles().count());
    }

    #[test]
    fn every_bit_of_the_seed_changes_the_picture() {
        let picture = draw("ACE9", &seed(1), PLAIN);
        for bit in 0..256 {
            let mut other = seed(1);
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(draw("ACE9", &other, PLAIN), picture, "bit {bit}");
        }
    }

    #[test]
    fn a_picture_is_a_valid_png_of_the_stated_size() {
        for style in styles() {
            let (size, palette, tones) = decoded(&draw("ACE9", &seed(2), style));
            let height = HEIGHT + style.caption.map_or(0, |_| CAPTION_HEIGHT);
            assert_eq!(size, (WIDTH, height), "{style:?}");
            assert_eq!(palette.len(), 4 * 3);
            assert_eq!(tones.len(), (WIDTH * height) as usize);
            let mut seen = [0; 4];
            for tone in &tones {
                seen[usize::from(*tone)] += 1;
            }
            assert!(seen[0] > 5_000 && seen[3] > 2_000, "{style:?}: {seen:?}");
        }
    }

    #[test]
    fn all_plain_pictures_have_the_same_length_and_others_are_not_much_longer() {
        for style in styles() {
            let lengths = (0..).zip(texts().cycle().take(60));
            let lengths = lengths.map(|(number, text)| draw(&text, &seed(number), style).len());
            let mut lengths: Vec<usize> = lengths.collect();
            lengths.sort_unstable();
            assert!(lengths.iter().all(|length| [3_072, 3_584, 4_096].contains(length)));
            let same = lengths[0] == 3_072 && lengths[59] == 3_072;
            assert!(same || style.level != Level::Plain, "{style:?} {lengths:?}");
            assert!(lengths[30] == 3_072 || style.caption.is_some(), "{style:?} {lengths:?}");
        }
    }

    #[test]
    fn the_line_that_counts_takes_the_answer_and_the_other_line_the_rest() {
        for (style, number) in styles().flat_map(|style| (0..40).map(move |n| (style, n))) {
            let (main, decoy) = casting("ACE9", style, &mut Random::new(&seed(number)));
            let read: String = match style.rule {
                Rule::FromRing | Rule::FromSquare => main.iter().collect(),
                Rule::ToRing => main.iter().rev().collect(),
                Rule::SkipFirst => main[1..].iter().collect(),
            };
            assert_eq!(read, "ACE9");
            assert_eq!(main.len() + decoy.len(), style.level.letters());
            let all: std::collections::BTreeSet<_> = main.iter().chain(&decoy).collect();
            assert_eq!(all.len(), style.level.letters(), "no letter is there twice");
        }
    }

    #[test]
    fn ink_stands_out_from_paper() {
        for (paper, ink) in COLOURS {
            let contrast = (luminance(paper) + 0.05) / (luminance(ink) + 0.05);
            assert!(contrast >= 9.0, "{paper:?} and {ink:?}: {contrast}");
        }
        for number in 0..40 {
            let (_, palette, _) = decoded(&draw("ACE9", &seed(number), PLAIN));
            let (paper, ink) = (&palette[..3], &palette[9..]);
            assert!(COLOURS.iter().any(|pair| pair.0 == paper && pair.1 == ink));
        }
    }

    #[test]
    fn every_rule_says_in_each_language_what_to_do() {
        for language in Language::ALL {
            let said = |of: fn(Rule, Language) -> &'static str| {
                Rule::ALL.map(|rule| of(rule, language)).into_iter().collect::<Vec<_>>()
            };
            for mut sentences in [said(Rule::instruction), said(Rule::caption)] {
                assert!(sentences.iter().all(|said| said.contains('4')), "{sentences:?}");
                sentences.sort_unstable();
                sentences.dedup();
                assert_eq!(sentences.len(), Rule::ALL.len());
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(ALPHABET.iter().all(|&c| can_draw(char::from(c))));
        assert!(!"az -\0Äß４💥O0I1".chars().any(can_draw));
        assert_eq!(draw("A-C e\u{301}E9", &seed(3), PLAIN), draw("ACE9", &seed(3), PLAIN));
        assert_eq!(draw("ACE9HK", &seed(4), PLAIN).len(), 3_072);
        for style in styles() {
            // Nobody derives these, but they must not break anything.
            for text in ["", "A", "AA", "AAAA", "ACE"] {
                assert!(!draw(text, &seed(5), style).is_empty());
            }
        }
    }
}
