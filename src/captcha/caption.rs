//! The line below a picture that says how it is read, for front ends that only show an image.

use ab_glyph::{Font, FontRef, Point, PxScale, ScaleFont, point};
use std::sync::LazyLock;

use super::raster::Strip;
use super::{CAPTION_HEIGHT, Language, Rule, WIDTH};

/// Where the strips' text stands: its baseline, in pixels from the top.
const BASELINE: f32 = 17.0;
/// The size of the text, in pixels; a longer line is set smaller.
const TEXT: f32 = 14.0;
/// What stays free at both sides, in pixels.
const MARGIN: f32 = 6.0;

/// The strips, drawn once: for each rule those in each language.
static STRIPS: LazyLock<[[Strip; 2]; 4]> = LazyLock::new(|| {
    let file = include_bytes!("fonts/caption.ttf");
    let font = FontRef::try_from_slice(file).expect("the embedded font is valid");
    Rule::ALL.map(|rule| Language::ALL.map(|language| set(&font, rule.caption(language))))
});

/// The strip for a rule.
pub(super) fn strip(rule: Rule, language: Language) -> &'static Strip {
    &STRIPS[rule as usize][language as usize]
}

/// Sets a line of text, centred.
fn set(font: &FontRef<'_>, text: &str) -> Strip {
    #[expect(clippy::cast_precision_loss, reason = "an f32 holds whole numbers far beyond these")]
    let (width, height) = (WIDTH as f32, CAPTION_HEIGHT as f32);
    let wide = |size: f32| {
        let scaled = font.as_scaled(PxScale::from(size));
        text.chars().map(|c| scaled.h_advance(font.glyph_id(c))).sum::<f32>()
    };
    let size = TEXT * ((width - 2.0 * MARGIN) / wide(TEXT)).min(1.0);
    let scaled = font.as_scaled(PxScale::from(size));
    let mut glyphs = Vec::new();
    let mut pen: Point = point((width - wide(size)) / 2.0, BASELINE.min(height));
    for c in text.chars() {
        let id = font.glyph_id(c);
        glyphs.extend(font.outline_glyph(id.with_scale_and_position(size, pen)));
        pen.x += scaled.h_advance(id);
    }
    Strip::new(&glyphs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_every_character_and_every_line_fits() {
        let file = include_bytes!("fonts/caption.ttf");
        let font = FontRef::try_from_slice(file).expect("the embedded font is valid");
        for (rule, language) in Rule::ALL.iter().flat_map(|r| Language::ALL.map(|l| (*r, l))) {
            for c in rule.caption(language).chars() {
                let id = font.glyph_id(c);
                assert!(id.0 != 0 && (c == ' ' || font.outline(id).is_some()), "{c:?}");
            }
            let strip = strip(rule, language);
            // Four columns to a byte.
            let dark = |bytes: std::ops::Range<usize>| {
                strip.rows().iter().flat_map(|row| &row[bytes.clone()]).any(|four| *four > 0)
            };
            assert!(!dark(0..1) && !dark(53..54), "{rule:?} {language:?}");
            assert!(dark(12..17) && dark(37..42), "{rule:?} {language:?}");
            let (first, last) = (strip.rows()[0], strip.rows()[23]);
            assert!(first.iter().chain(&last).all(|four| *four == 0), "cut off");
        }
    }
}
