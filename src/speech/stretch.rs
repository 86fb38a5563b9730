//! Another pitch, another pace: a digit is read faster or slower (which moves its pitch, as in a
//! larger or smaller head), and then brought to the wished length without moving the pitch.

/// What is laid over each other: half of it is the way from one piece to the next.
const WINDOW: usize = 192;
const HOP: usize = WINDOW / 2;
/// How far a piece may be taken from where it should be, to fit the one before.
const REACH: usize = 60;

/// The samples read `pitch` times as fast, and the result stretched to `pace` times the length of
/// what came in. Both are near 1. Every step is done for silence, too: how long it takes depends on
/// `pitch` and `pace` and on nothing that is heard.
pub(super) fn stretched(samples: &[f32], pitch: f32, pace: f32) -> Vec<f32> {
    spread(&read(samples, pitch), pace * pitch)
}

/// Reads at another speed, with a cubic curve through each four samples.
fn read(samples: &[f32], speed: f32) -> Vec<f32> {
    let at = |index: usize| samples.get(index).copied().unwrap_or_default();
    let count = super::whole(super::real(samples.len()) / speed);
    let sample = |number: usize| {
        let place = super::real(number) * speed;
        let index = super::whole(place);
        let t = place - super::real(index);
        let (before, here, next, after) =
            (at(index.saturating_sub(1)), at(index), at(index + 1), at(index + 2));
        let curve = 2.0 * before - 5.0 * here + 4.0 * next - after;
        let bend = 3.0 * (here - next) + after - before;
        here + 0.5 * t * (next - before + t * (curve + t * bend))
    };
    (0..count).map(sample).collect()
}

/// Makes it `factor` times as long: pieces of the sound, laid over each other at another distance,
/// each taken from near its place where it goes on best from the piece before.
fn spread(samples: &[f32], factor: f32) -> Vec<f32> {
    let mut padded = vec![0.0; REACH];
    padded.extend_from_slice(samples);
    padded.resize(samples.len() + 2 * REACH + 2 * WINDOW, 0.0);
    let pieces = super::whole(super::real(samples.len()) * factor) / HOP;
    let mut spread = vec![0.0; (pieces + 1) * HOP];
    // Rises over one half and falls over the other: two of them always add up to 1.
    let shares: [f32; WINDOW] =
        std::array::from_fn(|at| super::real(at.min(WINDOW - at)) / super::real(HOP));
    let mut taken = REACH;
    for piece in 0..pieces {
        let nominal = super::whole(super::real(piece * HOP) / factor).min(samples.len());
        // What would come next if nothing were stretched.
        let natural: [f32; HOP] = part(&padded, (taken + HOP).min(samples.len() + 2 * REACH));
        if piece > 0 {
            taken = best(&padded, nominal, &natural);
        }
        let (out, source) = (&mut spread[piece * HOP..], &padded[taken..taken + WINDOW]);
        for ((sample, heard), share) in out.iter_mut().zip(source).zip(&shares) {
            *sample += share * heard;
        }
    }
    spread
}

/// Where from `nominal` on, up to twice the reach further, the sound is most like `natural`.
fn best(padded: &[f32], nominal: usize, natural: &[f32; HOP]) -> usize {
    let likeness = |start: usize| {
        // Eight sums beside each other: a processor makes them in one step.
        let mut sums = [0.0; 8];
        let (heard, _) = part_of(padded, start).as_chunks::<8>();
        for (one, other) in natural.as_chunks::<8>().0.iter().zip(heard) {
            for lane in 0..8 {
                sums[lane] += one[lane] * other[lane];
            }
        }
        sums.iter().sum::<f32>()
    };
    let (mut found, mut most) = (nominal + REACH, likeness(nominal + REACH));
    for start in nominal..=nominal + 2 * REACH {
        let like = likeness(start);
        (found, most) = if like > most { (start, like) } else { (found, most) };
    }
    found
}

fn part(padded: &[f32], start: usize) -> [f32; HOP] {
    *part_of(padded, start)
}

fn part_of(padded: &[f32], start: usize) -> &[f32; HOP] {
    padded[start..].first_chunk().expect("there is silence enough at the end")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound of this many samples a wave.
    fn tone(period: usize, length: usize) -> Vec<f32> {
        (0..length).map(|at| if at % period < period / 2 { 0.5 } else { -0.5 }).collect()
    }

    /// How many waves there are.
    fn waves(samples: &[f32]) -> usize {
        samples.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count()
    }

    #[test]
    fn pace_moves_the_length_and_pitch_the_waves() {
        let sound = tone(80, 4_000);
        for (pitch, pace) in [(1.0, 1.0), (1.0, 1.2), (0.9, 1.0), (1.1, 0.9), (1.1, 1.15)] {
            let heard = stretched(&sound, pitch, pace);
            let length = super::super::real(heard.len());
            assert!((length / 4_000.0 - pace).abs() < 0.06, "{pitch} {pace}: {length}");
            // 50 waves in 4000 samples.
            let rate = super::super::real(waves(&heard)) / length * 4_000.0 / 50.0;
            assert!((rate - pitch).abs() < 0.06, "{pitch} {pace}: {rate}");
        }
    }

    #[test]
    fn silence_stays_silence() {
        assert!(stretched(&[0.0; 4_000], 1.05, 1.1).iter().all(|sample| *sample == 0.0));
    }
}
