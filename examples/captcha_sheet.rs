//! Pictures in number, as those who attack or judge them need them. All follow from a number, so
//! that the same call gives the same pictures.
//!
//! `files` writes `<answer>_<number>.png` into a folder; `stream` writes one file in which every
//! picture is its answer, its length in four bytes (the lowest first), and its PNG; `sheet` puts
//! pictures into one, without their answers, and prints these, row by row; `time` says how long
//! drawing takes and how large the files are.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use countersign::captcha::{
    ALPHABET, CAPTION_HEIGHT, HEIGHT, LENGTH, Language, Level, Rule, Style, WIDTH, draw,
};

#[derive(Clone, Copy, ValueEnum)]
enum Wish {
    Files,
    Stream,
    Sheet,
    Time,
}

#[derive(Parser)]
struct Arguments {
    wish: Wish,
    /// 1 to 3.
    #[arg(long, default_value_t = 1)]
    level: u8,
    /// The name of a rule.
    #[arg(long, default_value = "from-ring")]
    rule: String,
    /// `zh` or `en`, for the line below.
    #[arg(long)]
    caption: Option<String>,
    /// The number of the first picture.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many.
    #[arg(long, default_value_t = 300)]
    count: u64,
    /// The folder or file to write.
    #[arg(long, default_value = "target/attack/pictures")]
    out: PathBuf,
}

impl Arguments {
    fn style(&self) -> anyhow::Result<Style> {
        let level = Level::ALL.into_iter().find(|level| level.number() == self.level);
        let rule = Rule::ALL.into_iter().find(|rule| rule.as_str() == self.rule);
        let caption = self.caption.as_deref().map(|language| match language {
            "en" => Language::English,
            _ => Language::Chinese,
        });
        let level = level.ok_or_else(|| anyhow::anyhow!("a level is 1, 2 or 3"))?;
        let rule = rule.ok_or_else(|| anyhow::anyhow!("unknown rule {}", self.rule))?;
        Ok(Style { level, rule, caption })
    }
}

/// 32 bytes that follow from a number, and no two numbers' are alike.
fn seed(number: u64) -> [u8; 32] {
    let mut word = number;
    let mut bytes = [0; 32];
    for eight in bytes.chunks_exact_mut(8) {
        word = mixed(word.wrapping_add(0x9E37_79B9_7F4A_7C15));
        eight.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// An answer that follows from a number, but not from its seed.
fn answer(number: u64) -> String {
    let mut left = ALPHABET.to_vec();
    let mut word = number ^ 0x5851_F42D_4C95_7F2D;
    let letters = (0..LENGTH).map(|_| {
        word = mixed(word.wrapping_add(0xD134_2543_DE82_EF95));
        let count = u64::try_from(left.len()).expect("a few letters");
        let at = usize::try_from(word % count).expect("below the count");
        char::from(left.remove(at))
    });
    letters.collect()
}

/// Each bit in turns about half of the bits out (the mixer of `SplitMix64`).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let style = arguments.style()?;
    let numbers = arguments.first..arguments.first + arguments.count;
    match arguments.wish {
        Wish::Files => {
            std::fs::create_dir_all(&arguments.out)?;
            for number in numbers {
                let text = answer(number);
                let file = arguments.out.join(format!("{text}_{number}.png"));
                std::fs::write(file, draw(&text, &seed(number), style))?;
            }
        }
        Wish::Stream => {
            let mut out = std::io::BufWriter::new(std::fs::File::create(&arguments.out)?);
            for number in numbers {
                let text = answer(number);
                let picture = draw(&text, &seed(number), style);
                out.write_all(text.as_bytes())?;
                out.write_all(&u32::try_from(picture.len())?.to_le_bytes())?;
                out.write_all(&picture)?;
            }
            out.flush()?;
        }
        Wish::Sheet => {
            let numbers: Vec<u64> = numbers.collect();
            let texts: Vec<String> = numbers.iter().map(|&number| answer(number)).collect();
            let pictures = numbers.iter().zip(&texts);
            let pictures = pictures.map(|(&number, text)| draw(text, &seed(number), style));
            sheet(&pictures.collect::<Vec<_>>(), style, &arguments.out)?;
            for row in texts.chunks(ACROSS) {
                println!("{}", row.join(" "));
            }
        }
        Wish::Time => time(numbers, style),
    }
    Ok(())
}

/// How many pictures stand in a row of a sheet.
const ACROSS: usize = 4;
/// What stays white between them, in pixels.
const BETWEEN: usize = 8;

/// Writes pictures side by side as one: as large as they are, in all colours that they have.
fn sheet(pictures: &[Vec<u8>], style: Style, out: &Path) -> anyhow::Result<()> {
    let caption = style.caption.map_or(0, |_| CAPTION_HEIGHT);
    let (wide, high) = (WIDTH as usize, (HEIGHT + caption) as usize);
    let width = ACROSS * (wide + BETWEEN) + BETWEEN;
    let height = pictures.len().div_ceil(ACROSS) * (high + BETWEEN) + BETWEEN;
    let mut colours = vec![[255; 3]];
    let mut pixels = vec![0; width * height];
    for (number, picture) in pictures.iter().enumerate() {
        let mut decoder = png::Decoder::new(Cursor::new(picture));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info()?;
        let size = reader.output_buffer_size().context("a small picture")?;
        let mut data = vec![0; size];
        reader.next_frame(&mut data)?;
        let left = BETWEEN + number % ACROSS * (wide + BETWEEN);
        let top = BETWEEN + number / ACROSS * (high + BETWEEN);
        for (place, colour) in data.as_chunks().0.iter().enumerate() {
            let known = colours.iter().position(|known| known == colour);
            let known = known.unwrap_or_else(|| {
                colours.push(*colour);
                colours.len() - 1
            });
            pixels[(top + place / wide) * width + left + place % wide] = u8::try_from(known)?;
        }
    }
    let file = std::io::BufWriter::new(std::fs::File::create(out)?);
    let mut encoder = png::Encoder::new(file, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(colours.concat());
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(())
}

fn time(numbers: std::ops::Range<u64>, style: Style) {
    let (mut times, mut lengths) = (Vec::new(), Vec::new());
    for number in numbers {
        let (text, seed) = (answer(number), seed(number));
        let begun = Instant::now();
        let picture = draw(&text, &seed, style);
        times.push(begun.elapsed());
        lengths.push(picture.len());
    }
    times.sort();
    lengths.sort_unstable();
    if times.is_empty() {
        return;
    }
    let at = |percent: usize| percent * (times.len() - 1) / 100;
    println!(
        "level {} {}: p50 {:?} p90 {:?} p99 {:?}; bytes: least {} median {} most {}",
        style.level.number(),
        style.rule.as_str(),
        times[at(50)],
        times[at(90)],
        times[at(99)],
        lengths[at(0)],
        lengths[at(50)],
        lengths[at(100)],
    );
}
