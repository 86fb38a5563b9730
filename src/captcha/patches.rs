//! Patches in which paper and ink change places: hills and valleys of four crossing waves.

use super::HEIGHT;
use super::fill::FULL;
use super::letters::Letter;
use super::random::Random;
use super::raster::COLUMNS;

/// How far apart the heights are computed, in pixels; between them they are blended.
const STEP: usize = 4;
const STEPS: i16 = 4;
/// How many heights a row has.
const HEIGHTS: usize = COLUMNS / STEP + 1;
const _: () = assert!(COLUMNS.is_multiple_of(STEP), "whole steps");
const _: () = assert!((HEIGHT as usize).is_multiple_of(STEP), "whole steps");
/// How long a wave is, in pixels.
const PATCH: f32 = 110.0;
/// A whole wave, in the numbers that count along it: they go round with it.
const ROUND: f32 = 65_536.0;
/// How steep an edge between patches is: a height of 4,096 becomes so many times [`FULL`].
const EDGE: i32 = 24;

/// How many patches are drawn, of which those are taken that cut the fewest letters.
const CHOICES: usize = 6;

/// Some patches.
pub(super) struct Patches {
    /// For each wave: where it starts, and how much of it there is in a step across and down.
    waves: [[i16; 3]; 4],
    /// The heights above and below the rows to come.
    above: [i16; HEIGHTS],
    below: [i16; HEIGHTS],
}

impl Patches {
    /// Patches whose edges run between letters rather than through them: a letter in one colour
    /// is read at a glance.
    pub(super) fn new(letters: &[Letter], random: &mut Random) -> Self {
        let some = (0..CHOICES).map(|_| Self::any(random));
        let best =
            some.min_by_key(|patches| letters.iter().filter(|letter| patches.cuts(letter)).count());
        let mut best = best.expect("there are some");
        best.below = best.heights(0);
        best
    }

    fn any(random: &mut Random) -> Self {
        let waves = std::array::from_fn(|_| {
            let (way, length) = (random.direction(), random.between(0.8, 1.25) * PATCH);
            let step = ROUND * 4.0 / length;
            [random.between(-0.5, 0.5) * ROUND, way.x * step, way.y * step].map(narrow)
        });
        Self { waves, above: [0; HEIGHTS], below: [0; HEIGHTS] }
    }

    /// Whether an edge runs through a letter: its middle and the middles of its sides are not all
    /// on a hill, or all in a valley.
    fn cuts(&self, letter: &Letter) -> bool {
        let (at, half) = (letter.centre, letter.half);
        let hill = |x: f32, y: f32| {
            let steps = [x, y].map(|pixels| i32::from(narrow(pixels)));
            let height = |&[start, x, y]: &[i16; 3]| {
                let way = (i32::from(x) * steps[0] + i32::from(y) * steps[1]) / i32::from(STEPS);
                wave(start.wrapping_add(round(way)))
            };
            self.waves.iter().map(height).sum::<i16>() >= 0
        };
        let sides = [(-half.x, 0.0), (half.x, 0.0), (0.0, -half.y), (0.0, half.y)];
        let middle = hill(at.x, at.y);
        sides.iter().any(|(x, y)| hill(at.x + x, at.y + y) != middle)
    }

    /// How far each pixel of a row is turned, from 0 to [`FULL`]. Rows are asked for in order,
    /// from the first.
    pub(super) fn row(&mut self, row: usize) -> [u8; COLUMNS] {
        let within = i16::try_from(row % STEP).unwrap_or_default();
        if within == 0 {
            self.above = self.below;
            self.below = self.heights(i16::try_from(row / STEP + 1).unwrap_or_default());
        }
        let mut heights = [0; HEIGHTS];
        for ((height, above), below) in heights.iter_mut().zip(self.above).zip(self.below) {
            *height = above * (STEPS - within) + below * within;
        }
        let mut turned = [0; COLUMNS];
        let fours = turned.as_chunks_mut::<STEP>().0;
        for (four, ends) in fours.iter_mut().zip(heights.windows(2)) {
            let slope = (ends[1] - ends[0]) / STEPS;
            for (pixel, along) in four.iter_mut().zip(0..) {
                let height = (ends[0] + slope * along) / STEPS;
                let turned = (height + i16::from(FULL / 2)).clamp(0, i16::from(FULL));
                *pixel = turned.to_le_bytes()[0];
            }
        }
        turned
    }

    /// The heights at every step of a row that is so many steps down.
    fn heights(&self, down: i16) -> [i16; HEIGHTS] {
        let mut heights = [0; HEIGHTS];
        for [start, x, y] in self.waves {
            let mut at = start.wrapping_add(y.wrapping_mul(down));
            for height in &mut heights {
                *height += wave(at);
                at = at.wrapping_add(x);
            }
        }
        // Beyond the edge of a patch it makes no difference how high a hill is.
        let full = EDGE * i32::from(FULL);
        heights.map(|height| {
            let steep = i32::from(height) * full / 4_096;
            i16::try_from(steep.clamp(-2_000, 2_000)).unwrap_or_default()
        })
    }
}

/// A wave of height 4,096: two parabolas, which look like a sine.
fn wave(at: i16) -> i16 {
    let at = i32::from(at);
    high((at * (32_768 - at.abs())) >> 16)
}

#[expect(clippy::cast_possible_truncation, reason = "who goes all the way round is back")]
fn round(way: i32) -> i16 {
    way as i16
}

#[expect(clippy::cast_possible_truncation, reason = "it is at most 4,096")]
fn high(height: i32) -> i16 {
    height as i16
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which is near enough")]
fn narrow(number: f32) -> i16 {
    number as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captcha::ALPHABET;
    use crate::captcha::places::deal;

    fn letters(random: &mut Random) -> Vec<Letter> {
        let chars = ALPHABET[..7].iter().map(|&c| char::from(c));
        let mut letters: Vec<Letter> = chars.map(|c| Letter::new(c, 1.0, random)).collect();
        deal(&mut letters, &[4, 1, 6, 0, 3, 5, 2], random);
        letters
    }

    /// What is said of a letter is what is drawn: neighbouring pixels may differ at an edge.
    #[test]
    fn a_letter_that_is_not_cut_lies_in_one_patch() {
        let (mut whole, mut odd) = (0, 0);
        for number in 0..=255 {
            let mut random = Random::new(&[number; 32]);
            let letters = letters(&mut random);
            let mut patches = Patches::new(&letters, &mut random);
            let uncut: Vec<&Letter> = letters.iter().filter(|one| !patches.cuts(one)).collect();
            let rows: Vec<_> = (0..HEIGHT as usize).map(|row| patches.row(row)).collect();
            let turned = |x: f32, y: f32| {
                let [x, y] = [x, y].map(|pixels| usize::try_from(narrow(pixels)).unwrap());
                rows[y][x] > FULL / 2
            };
            for letter in uncut {
                let (at, half) = (letter.centre, letter.half);
                let [left, right] = [-half.x, half.x].map(|x| turned(at.x + x, at.y));
                let [above, below] = [-half.y, half.y].map(|y| turned(at.x, at.y + y));
                let sides = [left, right, above, below];
                whole += 1;
                odd += u32::from(sides.iter().any(|&side| side != turned(at.x, at.y)));
            }
        }
        assert!(whole > 256 * 3 && odd * 12 < whole, "{odd} of {whole}");
    }

    #[test]
    fn patches_spare_letters() {
        let (mut spared, mut any) = (0, 0);
        for number in 0..=255 {
            let mut random = Random::new(&[number; 32]);
            let letters = letters(&mut random);
            let cut = |patches: Patches| letters.iter().filter(|one| patches.cuts(one)).count();
            any += cut(Patches::any(&mut random));
            spared += cut(Patches::new(&letters, &mut random));
        }
        assert!(spared * 3 < any * 2, "{spared} instead of {any}");
    }
}
