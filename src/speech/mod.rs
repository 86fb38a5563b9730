//! The audio challenge, for people who cannot see the picture: five digits, spoken.
//!
//! A clip follows from its digits, its seed and its language alone, like a picture: who asks
//! again for the same challenge gets the same bytes. Voice, pitch, pace, pauses and loudness, a
//! murmur and a little noise behind it differ from clip to clip, so that no table of clips helps.
//! The murmur is speech played backwards, much quieter than the digits: it disturbs people little.
//!
//! Every clip has one size, and is made in the same steps whatever is said. Like pictures, clips
//! are made with `+`, `-`, `*` and `/` alone, so that two nodes make the same.
//!
//! Speech is easier for programs than our pictures are: `docs/challenge.md` says how much. What
//! makes up for that are the limits of those who answer by ear.

mod stretch;
mod voices;

use crate::captcha::Language;
use crate::captcha::random::Random;
use voices::{Digit, LONGEST, Voice};

/// Digits of an answer.
pub const LENGTH: usize = 5;
/// Samples a second.
pub const RATE: u32 = 8_000;
/// Samples of every clip: 4.9 seconds.
pub const SAMPLES: usize = 39_200;
/// Bytes of every clip.
pub const BYTES: usize = HEAD + SAMPLES;
/// Bytes before the samples of a WAV file.
const HEAD: usize = 44;

/// The least pause before, between and after digits, in samples.
const PAUSE_MIN: usize = 1_000;
/// Snippets of the murmur.
const MURMURS: usize = 8;

const _: () = assert!(BYTES <= 40_000, "a clip has 40 kB at most");
const _: () = assert!(HEAD == 44 && SAMPLES.is_multiple_of(2), "chunks of a WAV file are even");

/// Speaks digits, as a WAV file of one byte a sample, which every browser plays.
///
/// The same digits, seed and language always give the same bytes. Much of what the seed decides can
/// be heard, so the seed must be of no use for finding the digits: derive each on its own.
///
/// Meant for [`LENGTH`] digits; what is more, or is no digit, is left out.
pub fn speak(digits: &str, seed: &[u8; 32], language: Language) -> Vec<u8> {
    let mut random = Random::new(seed);
    let voices = voices::of(language);
    let voice = random.pick(voices);
    let said = said(digits, voice, &mut random);
    let mut clip = vec![0.0; SAMPLES];
    let pauses = pauses(&said, &mut random);
    let mut at = 0;
    for (word, pause) in said.iter().zip(pauses) {
        at += pause;
        mix(&mut clip, at, word, 1.0);
        at += word.len();
    }
    murmur(&mut clip, voices, &mut random);
    noise(&mut clip, &mut random);
    wav(&clip)
}

/// The digits as they are said, each in its own pitch and loudness.
fn said(digits: &str, voice: &Voice, random: &mut Random) -> Vec<Vec<f32>> {
    let pitch = random.between(0.90, 1.12);
    let wish = random.between(0.92, 1.18);
    let digits = digits.chars().filter_map(|digit| digit.to_digit(10)).take(LENGTH);
    let spoken: Vec<(Digit, usize)> =
        digits.filter_map(|digit| usize::try_from(digit).ok()).map(|it| voice.digit(it)).collect();
    // Slow voices have less time to be slower still.
    let length: usize = spoken.iter().map(|(_, length)| length).sum();
    let room = SAMPLES - (LENGTH + 1) * PAUSE_MIN - LENGTH * LONGEST / 20;
    let pace = wish.min(real(room) / real(length.max(1)));
    let word = |(samples, length): &(Digit, usize)| {
        let pitch = pitch * random.between(0.98, 1.02);
        let loud = random.between(0.8, 1.0);
        let mut word = stretch::stretched(samples, pitch, pace);
        word.truncate(whole(real(*length) * pace));
        for sample in &mut word {
            *sample *= loud;
        }
        word
    };
    spoken.iter().map(word).collect()
}

/// The pauses before each digit: what is left of the clip, unevenly shared, some of it at the end.
fn pauses(said: &[Vec<f32>], random: &mut Random) -> [usize; LENGTH] {
    let spoken: usize = said.iter().map(Vec::len).sum();
    let free = real(SAMPLES.saturating_sub(spoken + (LENGTH + 1) * PAUSE_MIN));
    let shares: [f32; LENGTH + 1] = std::array::from_fn(|_| random.between(0.2, 1.0));
    let whole_share: f32 = shares.iter().sum();
    std::array::from_fn(|at| PAUSE_MIN + whole(free * shares[at] / whole_share))
}

/// Quiet speech of any voices, backwards, all over the clip.
fn murmur(clip: &mut [f32], voices: &[Voice; 4], random: &mut Random) {
    const DIGITS: [usize; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let loud = random.between(0.06, 0.12);
    for _ in 0..MURMURS {
        let (mut snippet, _) = random.pick(voices).digit(*random.pick(&DIGITS));
        snippet.reverse();
        let at = whole(random.between(0.0, real(clip.len() - LONGEST)));
        mix(clip, at, &snippet, loud);
    }
}

/// A hiss, duller or sharper.
fn noise(clip: &mut [f32], random: &mut Random) {
    let dull = random.between(0.0, 0.6);
    let loud = random.between(0.01, 0.025);
    let mut last = 0.0;
    for sample in clip {
        last = dull * last + (1.0 - dull) * random.between(-1.0, 1.0);
        *sample += loud * last;
    }
}

/// Adds samples to a clip; what reaches over its end is lost.
fn mix(clip: &mut [f32], at: usize, samples: &[f32], loud: f32) {
    for (sample, more) in clip.iter_mut().skip(at).zip(samples) {
        *sample += loud * more;
    }
}

fn wav(clip: &[f32]) -> Vec<u8> {
    let size = u32::try_from(SAMPLES).expect("a clip is short");
    let mut file = Vec::with_capacity(BYTES);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(size + 36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16_u32.to_le_bytes());
    // Plain samples, one channel.
    file.extend_from_slice(&[1, 0, 1, 0]);
    file.extend_from_slice(&RATE.to_le_bytes());
    // Bytes a second, a step, and bits a sample.
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&[1, 0, 8, 0]);
    file.extend_from_slice(b"data");
    file.extend_from_slice(&size.to_le_bytes());
    file.extend(clip.iter().map(|sample| byte(*sample)));
    file
}

/// A sample as a byte; 128 is silence.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is brought within 0 to 255 first"
)]
fn byte(sample: f32) -> u8 {
    (128.5 + 127.0 * sample).clamp(0.0, 255.0) as u8
}

#[expect(clippy::cast_precision_loss, reason = "an f32 holds whole numbers far beyond these")]
fn real(count: usize) -> f32 {
    count as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of samples: never below 0, never near the end of a usize"
)]
fn whole(number: f32) -> usize {
    number.max(0.0) as usize
}

#[cfg(test)]
mod tests;
