//! The two lines through the letters, and the rules that keep them easy to follow by eye.
//!
//! Letters are dealt to places and lines are laid through them until all rules hold: a line keeps
//! clear of letters that it does not take, lines cross steeply and seldom and never run side by
//! side, nothing comes near a mark. Each attempt asks a little less than the one before, so that an
//! end is certain; the tests hold what is really reached.

use ab_glyph::{Point, point};
use std::cmp::Ordering;
use std::ops::Range;

use super::curve::{
    PIECE, cross, dot, from_box, from_segment, intersect, length, spline, times, unit,
};
use super::letters::{CAPITAL, Letter};
use super::random::Random;
use super::raster::Canvas;
use super::{LENGTH, Rule, SIZE};

/// Cells for letters, across and down.
const CELLS: (u8, u8) = (4, 2);
/// How many cells there are.
const COUNT: usize = CELLS.0 as usize * CELLS.1 as usize;
/// How far a letter may lie from the middle of its place, in pixels.
const DRIFT: Point = Point { x: 9.0, y: 7.0 };
/// What stays free at the edges, in pixels.
const MARGIN: f32 = 3.0;
/// How far apart letters are at least, in pixels.
const GAP: f32 = 3.0;
/// How far a line keeps from the box of a letter that it does not take, in pixels.
const CLEAR: f32 = 4.0;
/// How far a line keeps from a mark that is not its own, in pixels.
const MARK_CLEAR: f32 = 15.0;
/// How far a mark keeps from letters: half of its size and a little more, in pixels.
const MARK_GAP: f32 = 9.5;
/// Half of a mark's size: its line begins here, in pixels.
const MARK: f32 = 7.0;
/// Lines nearer to each other than this must cross, and not run side by side, in pixels.
const NEAR: f32 = 10.0;
/// How steeply they cross: the sine of the angle.
const STEEP: f32 = 0.62;
/// How sharply a line turns at a letter at most: the cosine between its two arms.
const SHARP: f32 = 0.75;
/// How often lines cross at most.
const CROSSINGS: usize = 3;
/// How many attempts there are; each asks a little less.
const ATTEMPTS: u16 = 6_000;
/// How many directions are tried for an end of a line.
const TRIES: usize = 8;
/// How far from its letter a line begins or ends, at least and at most, in letters' heights.
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
        for attempt in 0..=ATTEMPTS {
            let demand = 1.0 - f32::from(attempt) / f32::from(ATTEMPTS);
            deal(letters, taken, random);
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

/// Places every letter near the middle of a cell of its own.
fn deal(letters: &mut [Letter], taken: usize, random: &mut Random) {
    let (across, down) = CELLS;
    let cell = point(SIZE.x / f32::from(across), SIZE.y / f32::from(down));
    let place = |letter: &Letter, number: u8, random: &mut Random| {
        let (column, row) = (number % across, number / across);
        let (low, high) = (letter.half.x + MARGIN, letter.half.y + MARGIN);
        let x = (f32::from(column) + 0.5) * cell.x + random.between(-DRIFT.x, DRIFT.x);
        let y = (f32::from(row) + 0.5) * cell.y + random.between(-DRIFT.y, DRIFT.y);
        point(x.clamp(low, SIZE.x - low), y.clamp(high, SIZE.y - high))
    };
    let all = letters.len();
    let mut cells = std::array::from_fn::<u8, COUNT, _>(|_| 0);
    while !walk(&mut cells, all, taken, random) {}
    for (letter, cell) in letters.iter_mut().zip(cells) {
        letter.centre = place(letter, cell, random);
    }
}

/// Orders the cells so that a way leads from each of the first `taken` to the next, and so on
/// through the others up to `all`; the cells after that stay empty. Says whether it could, and
/// whether who reads from left to right reads something else.
fn walk(cells: &mut [u8; COUNT], all: usize, taken: usize, random: &mut Random) -> bool {
    *cells = std::array::from_fn(|i| u8::try_from(i).unwrap_or_default());
    random.shuffle(cells);
    let empty = all..COUNT;
    for at in (1..all).filter(|&at| at != taken) {
        let reached = (at..all).find(|&next| {
            let gap = |cell: u8| empty.clone().any(|empty| cells[empty] == cell);
            way_between(cells[at - 1], cells[next], gap)
        });
        let Some(reached) = reached else { return false };
        cells.swap(at, reached);
    }
    goes_both_ways(&cells[taken.saturating_sub(LENGTH)..taken])
}

/// Whether the way through the cells of an answer leads to the right and to the left. A program
/// that reads letters like a line of text, or such a line backwards, would need no line otherwise:
/// two in five of all ways go in one direction, and nearly all that programs solved were of these.
fn goes_both_ways(cells: &[u8]) -> bool {
    let (across, _) = CELLS;
    let mut steps = cells.windows(2).map(|step| (step[0] % across).cmp(&(step[1] % across)));
    let (right, left) = (steps.clone().any(Ordering::is_lt), steps.any(Ordering::is_gt));
    cells.len() < LENGTH || right && left
}

/// Whether a straight way between two cells keeps clear of the letters in the others.
fn way_between(a: u8, b: u8, empty: impl Fn(u8) -> bool) -> bool {
    let (across, _) = CELLS;
    match ((a % across).abs_diff(b % across), (a / across).abs_diff(b / across)) {
        (0 | 1, _) | (2, 1) => true,
        (2, _) => empty(u8::midpoint(a, b)),
        _ => false,
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
        let plain = self.apart() && self.legs_free(&main) && self.legs_free(&decoy);
        if !plain {
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

    /// Whether the straight ways between stops keep clear of all other letters, and no turn is
    /// sharp: cheap, and it spares most of the curves that would not do.
    fn legs_free(&self, stops: &Range<usize>) -> bool {
        let at = |letter: usize| self.letters[letter].centre;
        let turns = stops
            .clone()
            .skip(2)
            .all(|last| !self.sharp(at(last - 2) - at(last - 1), at(last) - at(last - 1)));
        turns && stops.clone().skip(1).all(|to| self.leg_free(at(to - 1), at(to), to - 1..to + 1))
    }

    /// Whether a straight way keeps clear of all letters but these.
    fn leg_free(&self, from: Point, to: Point, but: Range<usize>) -> bool {
        let clear = CAPITAL / 2.0 * self.demand;
        let mut others = self.letters.iter().enumerate().filter(|(i, _)| !but.contains(i));
        others.all(|(_, letter)| from_segment(letter.centre, from, to) >= clear)
    }

    fn sharp(&self, back: Point, on: Point) -> bool {
        dot(unit(back), unit(on)) > SHARP + (1.0 - self.demand)
    }

    /// A line through these stops, with ends that have room.
    fn line(&self, stops: Range<usize>, mark: Option<Mark>, random: &mut Random) -> Option<Line> {
        let own = &self.letters[stops.clone()];
        let mut knots: Vec<Point> = own.iter().map(|letter| letter.centre).collect();
        if knots.is_empty() {
            return Some(Line { mark: None, stops, points: vec![(SIZE, 0)] });
        }
        let margin = if mark.is_some() { MARK_GAP } else { MARGIN };
        knots.insert(0, self.end(stops.start, knots.get(1).copied(), margin, random)?);
        let before = knots.len().checked_sub(2).filter(|&i| i > 0).map(|i| knots[i]);
        knots.push(self.end(stops.end - 1, before, MARGIN, random)?);
        Some(Line { mark, stops, points: spline(&knots) })
    }

    /// Where a line begins or ends beside a letter that it takes, which it leaves or reaches by
    /// way of `other`. A mark has a wide margin and keeps it from all letters.
    fn end(
        &self,
        letter: usize,
        other: Option<Point>,
        margin: f32,
        random: &mut Random,
    ) -> Option<Point> {
        let from = self.letters[letter].centre;
        let tries = (0..TRIES)
            .map(|_| from + times(random.direction(), CAPITAL * random.between(REACH.0, REACH.1)));
        let tries: Vec<Point> = tries.collect();
        let free = |&&end: &&Point| {
            inside(end, margin)
                && other.is_none_or(|other| !self.sharp(end - from, other - from))
                && self.leg_free(end, from, letter..letter + 1)
                && self.letters.iter().enumerate().all(|(i, other)| {
                    let gap = if i == letter { margin } else { margin.max(CLEAR) };
                    from_box(end - other.centre, other.half) >= gap * self.demand
                })
        };
        let last = tries.last().filter(|_| self.demand <= 0.0);
        tries.iter().find(free).or(last).copied()
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
        let mut crossings = 0;
        let mut well = |a: &Piece, b: &Piece| {
            let apart = length(a.ends[0] - b.ends[0]);
            crossings += usize::from(apart < 4.0 * PIECE && intersect(a.ends, b.ends));
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
            && crossings <= CROSSINGS
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
                        chars.map(|&c| Letter::new(c, &mut random)).collect();
                    let taken = if rule == Rule::SkipFirst { 5 } else { 4 };
                    let threads = Threads::lay(&mut letters, taken, Marks::of(rule), &mut random);
                    (format!("seed {number}, {rule:?}, {level:?}"), letters, threads)
                })
            })
        })
    }

    #[test]
    fn lines_meet_their_letters_in_order_and_touch_no_other() {
        for (name, letters, Threads(lines)) in laid() {
            let taken: usize = lines.iter().map(|line| line.stops.len()).sum();
            assert_eq!(taken, letters.len(), "{name}: every letter is on one line");
            for line in &lines {
                let meets = |letter: usize| {
                    let at = letters[letter].centre;
                    line.points.iter().position(|p| length(p.0 - at) < 0.1)
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
                assert!(other.points.iter().all(|p| length(p.0 - mark) > 12.0), "{name}");
            }
        }
    }

    #[test]
    fn lines_cross_seldom_and_steeply() {
        for (name, _, Threads(lines)) in laid() {
            let ways = lines.each_ref().map(|line| line.points.windows(2).collect::<Vec<_>>());
            let mut crossings = 0;
            for a in &ways[0] {
                for b in &ways[1] {
                    if !intersect([a[0].0, a[1].0], [b[0].0, b[1].0]) {
                        continue;
                    }
                    crossings += 1;
                    let sine = cross(unit(a[1].0 - a[0].0), unit(b[1].0 - b[0].0)).abs();
                    assert!(sine > 0.5, "{name}: {sine}");
                }
            }
            assert!(crossings <= CROSSINGS, "{name}: {crossings}");
        }
    }

    #[test]
    fn cells_are_dealt_in_every_order_that_has_a_way() {
        let mut random = Random::new(&[1; 32]);
        let mut starts = [0_u32; COUNT];
        let mut cells = [0; COUNT];
        for _ in 0..8_000 {
            while !walk(&mut cells, 7, 4, &mut random) {}
            starts[usize::from(cells[0])] += 1;
            let mut sorted = cells;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7]);
            let columns = [0, 1, 2, 3].map(|i| cells[i] % CELLS.0);
            assert!(!columns.is_sorted() && !columns.iter().rev().is_sorted(), "{cells:?}");
        }
        // Not even, since corners have fewer ways, but no cell is rare.
        assert!(starts.iter().all(|count| *count > 500), "{starts:?}");
    }
}
