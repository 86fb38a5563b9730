//! The two lines through the letters, and the rules that keep them easy to follow by eye.
//!
//! Letters are dealt to places and lines are laid through them until all rules hold: a line keeps
//! clear of letters that it does not take, lines cross steeply and seldom and never run side by
//! side, nothing comes near a mark. Each attempt asks a little less than the one before, so that an
//! end is certain; the tests hold what is really reached. Orders whose lines must cross too often
//! are known before anything is laid. The order is drawn first and kept for many attempts: were it
//! drawn for each, those that are easily laid would come up most, and who knows that guesses them.

use ab_glyph::Point;
use std::ops::Range;

use super::curve::{
    PIECE, cross, dot, from_box, from_segment, intersect, length, spline, times, unit,
};
use super::letters::{CAPITAL, Letter};
use super::places::{MARGIN, deal, goes_both_ways, least_crossings};
use super::random::Random;
use super::raster::Canvas;
use super::{LENGTH, MIDDLE, Rule, SIZE};

/// How far apart letters are at least, in pixels.
const GAP: f32 = 3.0;
/// How far a line keeps from the box of a letter that it does not take, in pixels.
const CLEAR: f32 = 4.0;
/// How far a line keeps from a mark that is not its own, in pixels.
const MARK_CLEAR: f32 = 17.0;
/// How far a mark keeps from letters: half of its size and a little more, in pixels.
const MARK_GAP: f32 = 10.0;
/// Half of a mark's size: its line begins here, in pixels.
const MARK: f32 = 7.0;
/// Lines nearer to each other than this must cross, and not run side by side, in pixels.
const NEAR: f32 = 10.0;
/// How steeply they cross: the sine of the angle.
const STEEP: f32 = 0.66;
/// How sharply a line turns at a letter at most: the cosine between its two arms.
const SHARP: f32 = 0.82;
/// How often lines cross at most.
const CROSSINGS: usize = 3;
/// How far two crossings are from each other at least, in pixels.
const CROSSINGS_APART: f32 = 20.0;
/// A way longer than this leads through the middle, in pixels.
const FAR: f32 = 80.0;
/// How far such a way bends from straight towards the middle of the picture, and a shorter one.
const PULL: [(f32, f32); 2] = [(0.15, 0.6), (-0.05, 0.3)];
/// How far it bends anywhere else besides, in pixels.
const BULGE: [f32; 2] = [15.0, 7.0];
/// How far from the middle of a letter a line meets it, towards the middle of the picture, in
/// pixels: its outer half stays whole, and so easy to read.
const INWARD: f32 = 7.0;
/// How far a line runs on in its last letter, in pixels.
const TIP: f32 = 14.0;
/// After how many attempts another order is tried: some can hardly be laid.
const PATIENCE: u16 = 60;
/// How many attempts there are; each asks a little less.
const ATTEMPTS: u16 = 6_000;
/// How many bends are tried for a way, and how many places for a mark.
const TRIES: usize = 16;
/// How far from its letter a mark lies, at least and at most, in letters' heights.
const REACH: (f32, f32) = (0.78, 1.0);

/// What begins a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A ring.
    Ring,
    /// A filled square.
    Square,
}

/// The marks at the beginnings of both lines.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    main: Mark,
    decoy: Option<Mark>,
}

impl Marks {
    /// Those that a rule speaks of.
    pub(super) fn of(rule: Rule) -> Self {
        match rule {
            Rule::FromSquare => Self { main: Mark::Square, decoy: Some(Mark::Ring) },
            Rule::FromRing | Rule::ToRing | Rule::SkipFirst => {
                Self { main: Mark::Ring, decoy: None }
            }
        }
    }
}

/// One line: where it passes, in small pieces.
struct Line {
    mark: Option<Mark>,
    /// The letters that it takes.
    stops: Range<usize>,
    /// Its points; the number says how many of its stops lie before.
    points: Vec<(Point, usize)>,
}

/// Both lines.
pub(super) struct Threads([Line; 2]);

impl Threads {
    /// Places the letters and lays a line through the first `taken`, in order, and one through
    /// the others.
    pub(super) fn lay(
        letters: &mut [Letter],
        taken: usize,
        marks: Marks,
        random: &mut Random,
    ) -> Self {
        let mut order: Vec<usize> = (0..letters.len()).collect();
        for attempt in 0..=ATTEMPTS {
            let demand = 1.0 - f32::from(attempt) / f32::from(ATTEMPTS);
            let kept = if attempt.is_multiple_of(PATIENCE) { 0 } else { taken };
            random.shuffle(&mut order[kept..]);
            if demand > 0.0 && least_crossings(&order, taken) > CROSSINGS {
                continue;
            }
            deal(letters, &order, random);
            let table = Table { letters, demand };
            if let Some(lines) = table.lines(taken, marks, random) {
                return Self(lines);
            }
        }
        unreachable!("the last attempt asks for nothing")
    }

    /// Draws both lines with their marks.
    pub(super) fn draw(&self, canvas: &mut Canvas) {
        for line in &self.0 {
            let start = line.points[0].0;
            let hidden = line.mark.map_or(0.0, |mark| {
                canvas.mark(mark, start);
                MARK
            });
            let seen = |at: &Point| length(*at - start) >= hidden;
            canvas.line(line.points.iter().map(|point| point.0).skip_while(|at| !seen(at)));
        }
    }
}

/// The letters where they lie, and how much is asked of lines through them: from 1 to 0.
struct Table<'a> {
    letters: &'a [Letter],
    demand: f32,
}

impl Table<'_> {
    /// Lines through the letters, if some are found that a person can follow.
    fn lines(&self, taken: usize, marks: Marks, random: &mut Random) -> Option<[Line; 2]> {
        let all = self.letters.len();
        let (main, decoy) = (0..taken, taken..all);
        let answer = &self.letters[taken.saturating_sub(LENGTH)..taken];
        let dealt = self.apart() && (goes_both_ways(answer) || self.demand <= 0.0);
        if !dealt {
            return None;
        }
        let lines =
            [self.line(main, Some(marks.main), random)?, self.line(decoy, marks.decoy, random)?];
        let followed = lines.iter().all(|line| self.clear_of_letters(line));
        let legible = followed && self.marks_free(&lines) && self.cross_well(&lines);
        (legible || self.demand <= 0.0).then_some(lines)
    }

    /// Whether no two letters' boxes come too near.
    fn apart(&self) -> bool {
        let gap = GAP * self.demand;
        self.letters.iter().enumerate().all(|(i, a)| {
            self.letters[..i].iter().all(|b| {
                let apart = a.centre - b.centre;
                apart.x.abs() - a.half.x - b.half.x >= gap
                    || apart.y.abs() - a.half.y - b.half.y >= gap
                    || self.demand <= 0.0
            })
        })
    }

    fn sharp(&self, back: Point, on: Point) -> bool {
        dot(unit(back), unit(on)) > SHARP + (1.0 - self.demand)
    }

    /// A line through these stops, with ends that have room.
    fn line(&self, stops: Range<usize>, mark: Option<Mark>, random: &mut Random) -> Option<Line> {
        if stops.is_empty() {
            return Some(Line { mark: None, stops, points: vec![(SIZE, 0)] });
        }
        let at = |letter: usize| {
            let centre = self.letters[letter].centre;
            centre + times(unit(MIDDLE - centre), INWARD)
        };
        // The knots, and how many stops lie before what follows each.
        let mut knots = vec![(at(stops.start), 1)];
        for (passed, to) in stops.clone().enumerate().skip(1) {
            let back = knots.len().checked_sub(2).map(|before| knots[before].0);
            knots.push((self.bend(at(to - 1), at(to), back, random)?, passed));
            knots.push((at(to), passed + 1));
        }
        let (next, before) = (knots.get(1), knots.len().checked_sub(2).map(|i| &knots[i]));
        let past = |knot: Point, from: Option<&(Point, usize)>| {
            knot + times(unit(knot - from.map_or(MIDDLE, |from| from.0)), TIP)
        };
        let end = past(knots[knots.len() - 1].0, before);
        let begin = match mark {
            Some(_) => self.mark(stops.start, next.map(|knot| knot.0), random)?,
            None => past(knots[0].0, next),
        };
        knots.insert(0, (begin, 0));
        knots.push((end, stops.len()));
        let places: Vec<Point> = knots.iter().map(|knot| knot.0).collect();
        let points = spline(&places).into_iter().map(|(at, leg)| (at, knots[leg].1)).collect();
        Some(Line { mark, stops, points })
    }

    /// Where a way between two letters bends, so that its direction at the one does not say which
    /// the other is. `back` is where the line comes from.
    fn bend(
        &self,
        from: Point,
        to: Point,
        back: Option<Point>,
        random: &mut Random,
    ) -> Option<Point> {
        let middle = times(from + to, 0.5);
        let inward = MIDDLE - middle;
        let kind = usize::from(length(to - from) <= FAR);
        let (least, most) = PULL[kind];
        let mut tries = (0..TRIES).map(|_| {
            let bulge = times(random.direction(), random.between(0.0, BULGE[kind]));
            middle + times(inward, random.between(least, most)) + bulge
        });
        tries.find(|&bend| back.is_none_or(|back| !self.sharp(back - from, bend - from)))
    }

    /// Where a mark has room beside the letter that its line takes first, and leaves by way of
    /// `next`.
    fn mark(&self, letter: usize, next: Option<Point>, random: &mut Random) -> Option<Point> {
        let from = self.letters[letter].centre;
        let free = |&at: &Point| {
            inside(at, MARK_GAP)
                && next.is_none_or(|next| !self.sharp(at - from, next - from))
                && self.letters.iter().enumerate().all(|(i, other)| {
                    let across = from_segment(other.centre, at, from) < CAPITAL / 2.0 * self.demand;
                    let near = from_box(at - other.centre, other.half) < MARK_GAP * self.demand;
                    !near && (i == letter || !across)
                })
        };
        let mut tries = (0..TRIES)
            .map(|_| from + times(random.direction(), CAPITAL * random.between(REACH.0, REACH.1)));
        tries.find(|at| free(at) || self.demand <= 0.0)
    }

    /// Whether a line touches the letters that it stops at, each on its way to and from it, and
    /// no other; and stays in the picture.
    fn clear_of_letters(&self, line: &Line) -> bool {
        let clear = CLEAR * self.demand;
        line.points.iter().all(|&(at, passed)| {
            let next = line.stops.start + passed;
            let own = |i: usize| line.stops.contains(&i) && (i == next || i + 1 == next);
            let mut others = self.letters.iter().enumerate().filter(|(i, _)| !own(*i));
            inside(at, MARGIN)
                && others.all(|(_, other)| from_box(at - other.centre, other.half) >= clear)
        })
    }

    /// Whether nothing but a line's own beginning comes near its mark.
    fn marks_free(&self, lines: &[Line; 2]) -> bool {
        let clear = MARK_CLEAR * self.demand;
        let marked = lines.iter().enumerate().filter(|(_, line)| line.mark.is_some());
        marked.map(|(i, line)| (i, line.points[0].0)).all(|(marked, mark)| {
            lines.iter().enumerate().all(|(i, line)| {
                let mut foreign = line.points.iter().filter(|p| i != marked || p.1 > 0);
                foreign.all(|&(at, _)| length(at - mark) >= clear)
            })
        })
    }

    /// Whether lines cross seldom and steeply, and never run side by side.
    fn cross_well(&self, lines: &[Line; 2]) -> bool {
        let (near, steep) = (NEAR * self.demand, STEEP * self.demand);
        let [main, decoy] = lines.each_ref().map(|line| pieces(&line.points));
        let mut crossings: Vec<Point> = Vec::with_capacity(CROSSINGS + 1);
        let mut well = |a: &Piece, b: &Piece| {
            let apart = length(a.ends[0] - b.ends[0]);
            if apart < 4.0 * PIECE && intersect(a.ends, b.ends) {
                crossings.push(a.ends[0]);
            }
            let sine = || cross(unit(a.ends[1] - a.ends[0]), unit(b.ends[1] - b.ends[0])).abs();
            apart >= near || sine() >= steep
        };
        // A line meets itself only where it is neither on the same leg nor on the next.
        let mut alone = |line: &[Piece]| {
            line.iter().enumerate().all(|(i, a)| {
                line[..i].iter().filter(|b| b.passed + 1 < a.passed).all(|b| well(a, b))
            })
        };
        alone(&main)
            && alone(&decoy)
            && main.iter().all(|a| decoy.iter().all(|b| well(a, b)))
            && crossings.len() <= CROSSINGS
            && crossings.iter().enumerate().all(|(i, a)| {
                crossings[..i].iter().all(|b| length(*a - *b) >= CROSSINGS_APART * self.demand)
            })
    }
}

/// Two pieces of a line taken as one: short enough to see what is near.
struct Piece {
    ends: [Point; 2],
    passed: usize,
}

fn pieces(points: &[(Point, usize)]) -> Vec<Piece> {
    let every_other: Vec<_> = points.iter().step_by(2).collect();
    let piece =
        |ends: &[&(Point, usize)]| Piece { ends: [ends[0].0, ends[1].0], passed: ends[0].1 };
    every_other.windows(2).map(piece).collect()
}

fn inside(p: Point, margin: f32) -> bool {
    p.x >= margin && p.y >= margin && p.x <= SIZE.x - margin && p.y <= SIZE.y - margin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captcha::{ALPHABET, Level};

    /// Letters and lines of many pictures, and a name for each.
    fn laid() -> impl Iterator<Item = (String, Vec<Letter>, Threads)> {
        (0..=255).flat_map(|number| {
            Rule::ALL.into_iter().flat_map(move |rule| {
                Level::ALL.map(|level| {
                    let mut random = Random::new(&[number; 32]);
                    let mut chars = ALPHABET.map(char::from);
                    random.shuffle(&mut chars);
                    let chars = chars.iter().take(level.letters());
                    let mut letters: Vec<Letter> =
                        chars.map(|&c| Letter::new(c, level.scale(), &mut random)).collect();
                    let taken = if rule == Rule::SkipFirst { 5 } else { 4 };
                    let threads = Threads::lay(&mut letters, taken, Marks::of(rule), &mut random);
                    (format!("seed {number}, {rule:?}, {level:?}"), letters, threads)
                })
            })
        })
    }

    /// A line meets a letter between its middle and the picture's, well inside.
    #[test]
    fn lines_meet_their_letters_in_order_and_touch_no_other() {
        for (name, letters, Threads(lines)) in laid() {
            let taken: usize = lines.iter().map(|line| line.stops.len()).sum();
            assert_eq!(taken, letters.len(), "{name}: every letter is on one line");
            for line in &lines {
                let meets = |letter: usize| {
                    let at = letters[letter].centre;
                    line.points.iter().position(|p| (length(p.0 - at) - INWARD).abs() < 0.1)
                };
                let order: Vec<_> = line.stops.clone().map(meets).collect();
                assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{name}");
                for (i, letter) in letters.iter().enumerate() {
                    if line.stops.contains(&i) {
                        continue;
                    }
                    let gap = |p: &(Point, usize)| from_box(p.0 - letter.centre, letter.half);
                    assert!(line.points.iter().all(|p| gap(p) > 3.0), "{name}, letter {i}");
                }
            }
        }
    }

    #[test]
    fn letters_lie_apart_and_inside_and_so_do_marks() {
        for (name, letters, Threads(lines)) in laid() {
            for (i, a) in letters.iter().enumerate() {
                assert!(inside(a.centre - a.half, 0.0), "{name}");
                assert!(inside(a.centre + a.half, 0.0), "{name}");
                for b in &letters[..i] {
                    let apart = a.centre - b.centre;
                    let across = apart.x.abs() - a.half.x - b.half.x;
                    let down = apart.y.abs() - a.half.y - b.half.y;
                    assert!(across > 2.0 || down > 2.0, "{name}");
                }
            }
            for (line, other) in [(&lines[0], &lines[1]), (&lines[1], &lines[0])] {
                if line.mark.is_none() {
                    continue;
                }
                let mark = line.points[0].0;
                assert!(inside(mark, MARK), "{name}");
                let gap = |letter: &Letter| from_box(mark - letter.centre, letter.half);
                assert!(letters.iter().all(|letter| gap(letter) > MARK), "{name}");
                assert!(other.points.iter().all(|p| length(p.0 - mark) > 14.0), "{name}");
            }
        }
    }

    #[test]
    fn lines_cross_seldom_and_steeply() {
        for (name, _, Threads(lines)) in laid() {
            let ways = lines.each_ref().map(|line| line.points.windows(2).collect::<Vec<_>>());
            let mut crossings: Vec<Point> = Vec::new();
            for a in &ways[0] {
                for b in &ways[1] {
                    if !intersect([a[0].0, a[1].0], [b[0].0, b[1].0]) {
                        continue;
                    }
                    assert!(crossings.iter().all(|at| length(*at - a[0].0) > 12.0), "{name}");
                    crossings.push(a[0].0);
                    let sine = cross(unit(a[1].0 - a[0].0), unit(b[1].0 - b[0].0)).abs();
                    assert!(sine > 0.5, "{name}: {sine}");
                }
            }
            assert!(crossings.len() <= CROSSINGS, "{name}: {crossings:?}");
        }
    }

    /// What somebody finds who knows all letters, the first of the line, and how often we lay which
    /// order, but does not follow the line: about one in a hundred, since of 120 orders some read
    /// like a line of text and some cannot be laid. The test would notice one in sixty.
    #[test]
    fn who_does_not_follow_the_line_guesses() {
        let mut found = std::collections::BTreeMap::new();
        let count = 6_000_u32;
        for number in 0..count {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&number.to_le_bytes());
            let mut random = Random::new(&seed);
            let mut letters: Vec<Letter> =
                "ACEHKLM".chars().map(|c| Letter::new(c, 1.0, &mut random)).collect();
            Threads::lay(&mut letters, 4, Marks::of(Rule::FromRing), &mut random);
            let seat = |letter: &Letter| {
                let at = letter.centre - MIDDLE;
                at.y.atan2(at.x)
            };
            // How many letters sit between the first and this one, on the way round.
            let first = seat(&letters[0]);
            let round = |seat: f32| (seat - first).rem_euclid(std::f32::consts::TAU);
            let between = |letter: &Letter| {
                letters.iter().filter(|other| round(seat(other)) < round(seat(letter))).count()
            };
            *found.entry([1, 2, 3].map(|i| between(&letters[i]))).or_insert(0_u32) += 1;
        }
        assert!(found.len() >= 100, "of 120 orders nearly all can be laid: {}", found.len());
        let most = found.values().max();
        assert!(most < Some(&(count / 60)), "{most:?}");
    }
}
