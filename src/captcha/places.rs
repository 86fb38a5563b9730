//! Where letters lie: around an ellipse, like guests at a table, so that a way leads from each to
//! each without touching a third. Nearly all orders can be laid then and none is much likelier than
//! another, so who knows the letters and the first of them has to follow the line for the rest.

use ab_glyph::{Point, point};
use std::cmp::Ordering;
use std::sync::LazyLock;

use super::curve::{length, times};
use super::letters::Letter;
use super::random::Random;
use super::{LENGTH, MIDDLE, SIZE, turn};

/// The ellipse's half width and half height, in pixels.
const RADII: Point = Point { x: 83.0, y: 56.0 };
/// How many places there are around it, equally far from each other.
const PLACES: usize = 128;
/// How far a letter may lie from its place along the ellipse, in places.
const DRIFT: usize = 4;
/// How far a letter may lie from the ellipse, in parts of its size.
const DEPTH: (f32, f32) = (0.9, 1.08);
/// What stays free at the edges, in pixels.
pub(super) const MARGIN: f32 = 3.0;
/// In how many steps half of the ellipse is measured.
const STEPS: u16 = 1_024;

static AROUND: LazyLock<[Point; PLACES]> = LazyLock::new(|| {
    let half = (0..STEPS).map(|step| {
        let (sin, cos) = turn(f32::from(step) / f32::from(STEPS) * 2.0 - 1.0);
        point(cos * RADII.x, sin * RADII.y)
    });
    let whole: Vec<Point> = half.clone().chain(half.map(|p| times(p, -1.0))).collect();
    let ways = || whole.iter().zip(whole.iter().cycle().skip(1)).map(|(a, b)| length(*b - *a));
    let step = ways().sum::<f32>() / f32::from(u8::try_from(PLACES).expect("a few places"));
    let (mut walked, mut wanted, mut places) = (0.0, 0.0, [Point::default(); PLACES]);
    let mut free = places.iter_mut();
    for (&at, way) in whole.iter().zip(ways()) {
        if walked >= wanted
            && let Some(place) = free.next()
        {
            *place = at;
            wanted += step;
        }
        walked += way;
    }
    places
});

/// Places every letter around the ellipse, `order` saying who sits where.
pub(super) fn deal(letters: &mut [Letter], order: &[usize], random: &mut Random) {
    let (all, turned) = (letters.len(), random.below(PLACES));
    for (letter, seat) in letters.iter_mut().zip(order) {
        let drift = random.below(DRIFT);
        let place = AROUND[(turned + drift + seat * PLACES / all) % PLACES];
        let at = times(place, random.between(DEPTH.0, DEPTH.1)) + MIDDLE;
        let (low, high) = (letter.half.x + MARGIN, letter.half.y + MARGIN);
        letter.centre = point(at.x.clamp(low, SIZE.x - low), at.y.clamp(high, SIZE.y - high));
    }
}

/// How often lines cross at least, of which one takes the first `taken` seats of `order` and one
/// the others: as often as straight ones. Letters leave no room to go around the end of a way.
pub(super) fn least_crossings(order: &[usize], taken: usize) -> usize {
    let ways = || order.windows(2).enumerate().filter(|(i, _)| i + 1 != taken);
    let ways = || ways().map(|(_, way)| (way[0].min(way[1]), way[0].max(way[1])));
    let one_end_in = |(low, high): (usize, usize), (a, b): (usize, usize)| {
        (low < a && a < high && high < b) || (a < low && low < b && b < high)
    };
    ways().enumerate().map(|(i, a)| ways().take(i).filter(|&b| one_end_in(a, b)).count()).sum()
}

/// Whether the way through the letters of an answer leads to the right and to the left. A program
/// that reads letters like a line of text, or such a line backwards, would need no line otherwise.
pub(super) fn goes_both_ways(answer: &[Letter]) -> bool {
    let mut steps = answer.windows(2).map(|step| step[0].centre.x.total_cmp(&step[1].centre.x));
    let (right, left) = (steps.clone().any(Ordering::is_lt), steps.any(Ordering::is_gt));
    answer.len() < LENGTH || right && left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captcha::ALPHABET;

    #[test]
    fn places_are_equally_far_from_each_other() {
        let ways =
            || AROUND.iter().zip(AROUND.iter().cycle().skip(1)).map(|(a, b)| length(*b - *a));
        let mean = ways().sum::<f32>() / f32::from(u8::try_from(PLACES).unwrap());
        assert!((3.3..3.6).contains(&mean), "{mean}");
        assert!(
            ways().all(|way| (way / mean - 1.0).abs() < 0.15),
            "{:?}",
            ways().collect::<Vec<_>>()
        );
    }

    #[test]
    fn letters_sit_in_the_order_that_is_asked_for_and_inside() {
        for number in 0..=255 {
            let mut random = Random::new(&[number; 32]);
            let chars = ALPHABET[..7].iter();
            let mut letters: Vec<Letter> =
                chars.map(|&c| Letter::new(char::from(c), 1.0, &mut random)).collect();
            let mut order: Vec<usize> = (0..letters.len()).collect();
            random.shuffle(&mut order);
            deal(&mut letters, &order, &mut random);
            let mut seats: Vec<_> = order.iter().zip(&letters).collect();
            seats.sort_by_key(|seat| *seat.0);
            let at = |i: usize| seats[i % seats.len()].1.centre - MIDDLE;
            for i in 0..seats.len() {
                let (here, next) = (at(i), at(i + 1));
                assert!(here.x * next.y - here.y * next.x > 0.0, "round the same way");
            }
            for letter in &letters {
                let (low, high) = (letter.centre - letter.half, letter.centre + letter.half);
                assert!(
                    low.x > 2.0 && low.y > 2.0 && high.x < SIZE.x - 2.0 && high.y < SIZE.y - 2.0
                );
            }
        }
    }

    #[test]
    fn ways_cross_when_their_ends_take_turns_around_the_ellipse() {
        assert_eq!(least_crossings(&[0, 1, 2, 3, 4, 5, 6], 4), 0);
        assert_eq!(least_crossings(&[0, 3, 5, 6, 1, 4, 2], 4), 4);
        assert_eq!(least_crossings(&[0, 2, 1, 3], 4), 1, "a line with itself");
        assert_eq!(least_crossings(&[0, 2, 1, 3], 2), 1, "one line with the other");
        assert_eq!(least_crossings(&[0, 2, 1, 3], 3), 0, "no way leads from line to line");
        assert_eq!(least_crossings(&[0, 2, 1, 3], 1), 0);
        assert_eq!(least_crossings(&[], 0), 0);
    }

    #[test]
    fn an_answer_that_reads_like_a_line_of_text_is_known() {
        let mut random = Random::new(&[1; 32]);
        let mut letters: Vec<Letter> =
            "ACEH".chars().map(|c| Letter::new(c, 1.0, &mut random)).collect();
        let mut both_ways = |columns: [f32; 4]| {
            for (letter, column) in letters.iter_mut().zip(columns) {
                letter.centre.x = column;
            }
            goes_both_ways(&letters)
        };
        assert!(!both_ways([1.0, 2.0, 3.0, 4.0]) && !both_ways([4.0, 3.0, 2.0, 1.0]));
        assert!(both_ways([1.0, 2.0, 4.0, 3.0]) && both_ways([2.0, 1.0, 3.0, 4.0]));
        assert!(goes_both_ways(&letters[..3]), "no whole answer");
    }
}
