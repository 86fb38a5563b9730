//! Audio clips in number, as those who attack or judge them need them. All follow from a number, so
//! that the same call gives the same clips.
//!
//! `files` writes `<digits>_<number>.wav` into a folder; `time` says how long speaking takes in
//! processor time, how large the files are, and whether either depends on what is said.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use countersign::captcha::Language;
use countersign::speech::{BYTES, LENGTH, speak};
use rustix::time::{ClockId, clock_gettime};

#[derive(Clone, Copy, ValueEnum)]
enum Wish {
    Files,
    Time,
}

#[derive(Parser)]
struct Arguments {
    wish: Wish,
    /// `zh` or `en`.
    #[arg(long, default_value = "zh")]
    language: String,
    /// The number of the first clip.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many.
    #[arg(long, default_value_t = 300)]
    count: u64,
    /// The folder to write.
    #[arg(long, default_value = "target/attack/clips")]
    out: PathBuf,
}

/// Bits that follow from a number, and no two numbers' are alike.
fn spread(number: u64) -> u64 {
    let bits = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

fn seed(number: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    for (at, part) in (0..).zip(seed.chunks_mut(8)) {
        let word = spread(number.wrapping_mul(4).wrapping_add(at) ^ 0x5EED);
        part.copy_from_slice(&word.to_le_bytes());
    }
    seed
}

fn digits(number: u64) -> String {
    format!("{:0LENGTH$}", (spread(number) >> 20) % 100_000)
}

/// Processor time of this thread, in microseconds.
fn spent() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
        .as_secs_f64()
        * 1e6
}

/// The median and the 99th of a hundred, in microseconds.
fn times(texts: impl Iterator<Item = (u64, String)>, language: Language) -> (f64, f64) {
    let mut times: Vec<_> = texts
        .map(|(number, text)| {
            let begun = spent();
            let clip = speak(&text, &seed(number), language);
            assert_eq!(clip.len(), BYTES, "all clips have one size");
            spent() - begun
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn main() -> anyhow::Result<()> {
    let Arguments { wish, language, first, count, out } = Arguments::parse();
    anyhow::ensure!(count > 0, "at least one clip");
    let language = if language == "en" { Language::English } else { Language::Chinese };
    let numbers = first..first + count;
    match wish {
        Wish::Files => {
            std::fs::create_dir_all(&out)?;
            for number in numbers {
                let text = digits(number);
                let clip = speak(&text, &seed(number), language);
                std::fs::write(out.join(format!("{text}_{number}.wav")), clip)?;
            }
        }
        Wish::Time => {
            let (median, most) = times(numbers.clone().map(|it| (it, digits(it))), language);
            println!("{count} clips of {BYTES} bytes: {median:.0} µs, 99 % below {most:.0} µs");
            // The same seeds with each digit five times: what is said must not show.
            for digit in 0..10 {
                let text = digit.to_string().repeat(LENGTH);
                let (median, most) = times(numbers.clone().map(|it| (it, text.clone())), language);
                println!("  {text}: {median:.0} µs, 99 % below {most:.0} µs");
            }
        }
    }
    Ok(())
}
