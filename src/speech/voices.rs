//! The voices: ten digits each, embedded as IMA ADPCM. `voices/make.py` makes the files, and
//! `voices/README.md` says where they come from.

use crate::captcha::Language;

/// The longest digit of any voice, in samples.
pub(super) const LONGEST: usize = 5_200;

/// A digit as samples of about -0.8 to 0.8, with silence after it up to the longest one's length:
/// what is done to it then takes as long for each digit.
pub(super) type Digit = Vec<f32>;

/// A voice: a file of `voices/`.
pub(super) struct Voice(&'static [u8]);

const ENGLISH: [Voice; 4] = [
    Voice(include_bytes!("voices/en-kal.ima")),
    Voice(include_bytes!("voices/en-awb.ima")),
    Voice(include_bytes!("voices/en-rms.ima")),
    Voice(include_bytes!("voices/en-slt.ima")),
];
const CHINESE: [Voice; 4] = [
    Voice(include_bytes!("voices/zh-m1.ima")),
    Voice(include_bytes!("voices/zh-m2.ima")),
    Voice(include_bytes!("voices/zh-f1.ima")),
    Voice(include_bytes!("voices/zh-f2.ima")),
];

/// How far a step of the code moves, for each index (the IMA's table).
const STEPS: [i32; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66,
    73, 80, 88, 97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449,
    494, 544, 598, 658, 724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272,
    2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493,
    10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
];
/// How the index moves, for each size of a step.
const MOVES: [i8; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

/// The voices of a language.
pub(super) fn of(language: Language) -> &'static [Voice; 4] {
    match language {
        Language::English => &ENGLISH,
        Language::Chinese => &CHINESE,
    }
}

impl Voice {
    /// A digit (0 to 9), and how many of its samples are not the silence after it.
    pub(super) fn digit(&self, digit: usize) -> (Digit, usize) {
        let (heads, mut rest) = self.0.split_at(20);
        let (heads, _) = heads.as_chunks::<2>();
        let lengths = heads.iter().map(|head| usize::from(u16::from_le_bytes(*head)));
        let mut length = 0;
        for (at, samples) in lengths.enumerate().take(digit + 1) {
            length = samples;
            if at < digit {
                rest = &rest[samples.div_ceil(2)..];
            }
        }
        (decoded(&rest[..length.div_ceil(2)]), length)
    }
}

fn decoded(code: &[u8]) -> Digit {
    let (mut predicted, mut index) = (0_i32, 0_usize);
    let nibbles = code.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    // The silence after it is decoded like a digit, so that a short one takes as long.
    let nibbles = nibbles.chain(std::iter::repeat([0, 8]).flatten());
    let sample = |nibble: u8| {
        let step = STEPS[index];
        let parts = [step >> 3, step >> 2, step >> 1, step];
        let bits = [true, nibble & 1 != 0, nibble & 2 != 0, nibble & 4 != 0];
        let moved: i32 = parts.iter().zip(bits).map(|(part, set)| part * i32::from(set)).sum();
        let moved = if nibble & 8 == 0 { moved } else { -moved };
        predicted = (predicted + moved).clamp(-32_768, 32_767);
        index = index.saturating_add_signed(MOVES[usize::from(nibble & 7)].into());
        index = index.min(STEPS.len() - 1);
        let heard = i16::try_from(predicted).expect("it was clamped to 16 bits");
        f32::from(heard) / 32_768.0
    };
    nibbles.take(LONGEST).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_of_every_voice_is_speech_and_then_silence() {
        for voice in Language::ALL.iter().flat_map(|language| of(*language)) {
            let mut bytes = 20;
            for digit in 0..10 {
                let (samples, length) = voice.digit(digit);
                bytes += length.div_ceil(2);
                assert!((1_600..=LONGEST).contains(&length), "{digit}: {length}");
                let power = |part: &[f32]| part.iter().map(|sample| sample * sample).sum::<f32>();
                let speech = power(&samples[..length]);
                assert!(speech > 5.0, "{digit}: {speech}");
                assert!(power(&samples[length..]) < speech / 1_000.0, "{digit}");
                assert!(samples.iter().all(|sample| sample.abs() < 0.9), "{digit}");
            }
            assert_eq!(bytes, voice.0.len(), "a file holds its digits and nothing else");
        }
    }
}
