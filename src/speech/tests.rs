use super::*;

/// 32 bytes that follow from a number.
fn seed(number: u32) -> [u8; 32] {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    seed
}

fn digits(number: u32) -> String {
    format!("{:05}", number.wrapping_mul(2_654_435_761) % 100_000)
}

#[test]
fn a_clip_is_the_same_twice_and_another_for_each_seed_language_and_answer() {
    let clip = speak("31415", &seed(1), Language::English);
    assert_eq!(clip, speak("31415", &seed(1), Language::English));
    assert_ne!(clip, speak("31415", &seed(2), Language::English));
    assert_ne!(clip, speak("31415", &seed(1), Language::Chinese));
    assert_ne!(clip, speak("31416", &seed(1), Language::English));
}

#[test]
fn a_clip_is_the_same_on_every_machine() {
    // What was heard when this was written: a change of any sample changes it.
    let sum = |language| {
        let clip = speak("0123456789", &seed(3), language);
        clip.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
    };
    assert_eq!(Language::ALL.map(sum), [586_030_956, 1_971_248_520]);
}

#[test]
fn every_clip_is_a_wav_file_of_one_size_below_40_kb() {
    for (number, text) in (0..6).map(|number| (number, digits(number))).chain([
        (99, "00000".to_owned()),
        (99, "22222".to_owned()),
        (99, String::new()),
        (99, "123456789".to_owned()),
        (99, "１2x".to_owned()),
    ]) {
        for language in Language::ALL {
            let clip = speak(&text, &seed(number), language);
            assert_eq!(clip.len(), BYTES);
            assert!(clip.starts_with(b"RIFF") && &clip[8..16] == b"WAVEfmt ");
            assert_eq!(&clip[20..24], &[1, 0, 1, 0], "plain samples, one channel");
            assert_eq!(clip[24..28], RATE.to_le_bytes());
            assert_eq!(clip[40..44], 39_200_u32.to_le_bytes());
        }
    }
}

#[test]
fn digits_are_loud_pauses_are_quiet_and_nothing_is_cut_off() {
    for number in 0..12 {
        for language in Language::ALL {
            let clip = speak(&digits(number), &seed(number), language);
            let samples = &clip[HEAD..];
            let level = |samples: &[u8]| -> f32 {
                let squares = samples.iter().map(|byte| (f32::from(*byte) - 128.0).powi(2));
                (squares.sum::<f32>() / real(samples.len())).sqrt()
            };
            let levels: Vec<_> = samples.chunks(200).map(level).collect();
            let (begin, end) = (level(&samples[..PAUSE_MIN]), level(&samples[SAMPLES - 900..]));
            let loudest = levels.iter().copied().fold(0.0, f32::max);
            assert!(loudest > 20.0, "{number}: {loudest}");
            assert!(begin < loudest / 3.0 && end < loudest / 3.0, "{number}: {begin} {end}");
            let clipped = samples.iter().filter(|byte| matches!(byte, 0 | 255)).count();
            assert!(clipped < 40, "{number}: {clipped} samples at the edge");
        }
    }
}

#[test]
fn clips_of_the_same_digits_differ_in_voice_pitch_pace_and_pauses() {
    // When the first digit begins, in steps of 25 ms: the pauses alone give many.
    let mut begins = std::collections::BTreeSet::new();
    for number in 0..30 {
        let clip = speak("88888", &seed(number), Language::English);
        let loud = |part: &[u8]| part.iter().any(|byte| byte.abs_diff(128) > 45);
        begins.insert(clip[HEAD..].chunks(200).position(loud));
    }
    assert!(begins.len() >= 8, "{begins:?}");
}

#[test]
fn every_digit_of_every_voice_is_made_in_the_same_steps() {
    let mut lengths = std::collections::BTreeSet::new();
    for voice in Language::ALL.iter().flat_map(|language| voices::of(*language)) {
        for digit in 0..10 {
            let (samples, _) = voice.digit(digit);
            assert_eq!(samples.len(), LONGEST, "what is silent is worked on, too");
            lengths.insert(stretch::stretched(&samples, 1.05, 1.1).len());
        }
    }
    assert_eq!(lengths.len(), 1, "{lengths:?}");
}
