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
mod letters;
mod random;
mod raster;
mod rule;
mod thread;

use ab_glyph::Point;
use letters::Letter;
use random::Random;
use raster::{Canvas, Colour, Patches};
use thread::{Marks, Threads};

pub use letters::ALPHABET;
pub use rule::{Language, Level, Rule};

/// The width of every picture, in pixels.
pub const WIDTH: u32 = 264;
/// The height of a picture without a caption, in pixels.
pub const HEIGHT: u32 = 120;
/// What a caption adds to the height, in pixels.
pub const CAPTION_HEIGHT: u32 = 24;
/// The length of an answer.
pub const LENGTH: usize = 4;

/// The canvas as the shapes see it, in pixels.
#[expect(clippy::cast_precision_loss, reason = "an f32 holds whole numbers far beyond these")]
const SIZE: Point = Point { x: WIDTH as f32, y: HEIGHT as f32 };

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
    let mut letters: Vec<Letter> =
        main.iter().chain(&decoy).map(|&c| Letter::new(c, &mut random)).collect();
    let threads = Threads::lay(&mut letters, taken, Marks::of(style.rule), &mut random);
    let mut canvas = Canvas::new();
    for letter in letters {
        canvas.letter(letter.placed());
    }
    threads.draw(&mut canvas);
    let patches = (style.level != Level::Plain).then(|| Patches::new(&mut random));
    let &(paper, ink) = random.pick(&COLOURS);
    let caption = style.caption.map(|language| caption::strip(style.rule, language));
    canvas.png(patches.as_ref(), caption, [paper, ink])
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
