//! Outlines, and how much of each pixel lies inside.
//!
//! Every edge notes in the cells that it crosses how the cover changes from there on downwards; the
//! sum down a column is then the cover itself. All of it is done in whole numbers, so that nothing
//! is left over at the end of a column, and many columns are summed at a time.

use ab_glyph::{Outline, OutlineCurve, Point, Rect, point};

use super::curve::{length, times};
use super::raster::Plane;

/// The cover of a pixel that lies inside altogether; also how finely places are told apart: so
/// many steps to a pixel.
pub(super) const FULL: u8 = 64;
const ONE: i32 = FULL as i32;
/// The same as a power of two: places are never negative, so shifts divide them.
const SHIFT: u32 = FULL.trailing_zeros();
/// How wide an outline can be at most, in pixels; what lies beyond is not drawn.
const WIDEST: usize = 96;
/// How far the straight pieces of a curve may lie from it, in pixels.
const FLAT: f32 = 0.05;

/// A closed outline of straight pieces: contours, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    points: Vec<Point>,
    /// For each contour, the number of the point after its last.
    ends: Vec<usize>,
}

impl Shape {
    /// The outline as a font draws it, in the font's units, upwards; with so many pixels to a
    /// unit, nobody will see that its curves are made of straight pieces.
    pub(super) fn from_font(outline: &Outline, pixels: f32) -> Self {
        let (mut points, mut ends) = (Vec::<Point>::new(), Vec::new());
        let mut contour = 0;
        for curve in &outline.curves {
            let (from, to) = match *curve {
                OutlineCurve::Line(a, b)
                | OutlineCurve::Quad(a, _, b)
                | OutlineCurve::Cubic(a, _, _, b) => (a, b),
            };
            if points.len() == contour {
                points.push(from);
            }
            flatten(curve, pixels, &mut points);
            if to == points[contour] {
                // The last point is the first again.
                points.pop();
                ends.push(points.len());
                contour = points.len();
            }
        }
        if contour < points.len() {
            ends.push(points.len());
        }
        Self { points, ends }
    }

    /// Moves every point.
    pub(super) fn move_all(&mut self, to: impl Fn(Point) -> Point) {
        for p in &mut self.points {
            *p = to(*p);
        }
    }

    /// The box around it.
    pub(super) fn bounds(&self) -> Rect {
        let nothing = Rect { min: point(f32::MAX, f32::MAX), max: point(f32::MIN, f32::MIN) };
        self.points.iter().fold(nothing, |around, p| Rect {
            min: point(around.min.x.min(p.x), around.min.y.min(p.y)),
            max: point(around.max.x.max(p.x), around.max.y.max(p.y)),
        })
    }
}

/// Adds the pieces of a curve, without its first point.
fn flatten(curve: &OutlineCurve, pixels: f32, points: &mut Vec<Point>) {
    // How far a curve lies from its chord is a part of how much its control points bend.
    let bend = |a: Point, b: Point, c: Point| length(a - b + c - b) * pixels;
    let (bent, last) = match *curve {
        OutlineCurve::Line(_, to) => (0.0, to),
        OutlineCurve::Quad(a, b, c) => (bend(a, b, c) / 4.0, c),
        OutlineCurve::Cubic(a, b, c, d) => (bend(a, b, c).max(bend(b, c, d)) * 0.75, d),
    };
    let pieces = (bent / FLAT).sqrt().ceil();
    let mut piece = 1.0;
    while piece < pieces {
        let along = piece / pieces;
        let between = |a: Point, b: Point| a + times(b - a, along);
        let quad = |a, b, c| between(between(a, b), between(b, c));
        points.push(match *curve {
            OutlineCurve::Line(a, b) => between(a, b),
            OutlineCurve::Quad(a, b, c) => quad(a, b, c),
            OutlineCurve::Cubic(a, b, c, d) => between(quad(a, b, c), quad(b, c, d)),
        });
        piece += 1.0;
    }
    points.push(last);
}

/// Fills outlines. It keeps its memory from one to the next.
pub(super) struct Filler {
    /// How much the cover changes in each cell; all zero between two outlines.
    changes: Vec<[i16; WIDEST]>,
}

/// How finely slopes are told apart.
const FINE: u32 = 16;

/// A place in an outline's box, in steps.
#[derive(Clone, Copy)]
struct Place {
    x: i32,
    y: i32,
}

impl Filler {
    pub(super) fn new() -> Self {
        Self { changes: Vec::new() }
    }

    /// Fills an outline that is moved by `by`: notes in the plane how far it covers each pixel,
    /// where that is more than what is there.
    pub(super) fn fill(&mut self, shape: &Shape, by: Point, plane: &mut Plane) {
        let bounds = shape.bounds();
        let (min, max) = (bounds.min + by, bounds.max + by);
        let (left, top) = (min.x.max(0.0).floor(), min.y.max(0.0).floor());
        let (wide, high) = (whole(max.x - left + 1.0), whole(max.y - top + 1.0));
        // An edge notes a change in its own row and in the one after.
        let high = usize::try_from(high).unwrap_or_default() + 1;
        if self.changes.len() < high {
            self.changes.resize(high, [0; WIDEST]);
        }
        let by = by - point(left, top);
        let steps = f32::from(FULL);
        let place = |p: &Point| Place {
            x: whole(((p.x + by.x) * steps).max(0.0)),
            y: whole(((p.y + by.y) * steps).max(0.0)),
        };
        let mut begin = 0;
        for &end in &shape.ends {
            let contour = &shape.points[begin..end];
            let Some(mut from) = contour.last().map(place) else { continue };
            for to in contour.iter().map(place) {
                self.edge(from, to);
                from = to;
            }
            begin = end;
        }
        let wide = usize::try_from(wide).unwrap_or_default().min(WIDEST);
        let corner = (index(whole(left)), index(whole(top)));
        self.sum(corner, wide, high, plane);
    }

    /// Notes an edge: column by column.
    fn edge(&mut self, from: Place, to: Place) {
        let (sign, from, to) = if from.x < to.x { (1, from, to) } else { (-1, to, from) };
        if from.x >> SHIFT == to.x >> SHIFT {
            self.piece(sign, from, to);
            return;
        }
        let slope = (i64::from(to.y - from.y) << FINE) / i64::from(to.x - from.x);
        let mut at = from;
        while at.x < to.x {
            let x = (((at.x >> SHIFT) + 1) << SHIFT).min(to.x);
            let y = if x < to.x { from.y + part(x - from.x, slope) } else { to.y };
            let next = Place { x, y };
            self.piece(sign, at, next);
            at = next;
        }
    }

    /// Notes a piece of an edge that lies in one column: row by row.
    fn piece(&mut self, sign: i16, from: Place, to: Place) {
        let wide = to.x - from.x;
        if wide == 0 {
            return;
        }
        let column = index(from.x >> SHIFT);
        let (row, last) = (from.y >> SHIFT, to.y >> SHIFT);
        if row == last {
            self.note(sign, column, row, wide, from.y + to.y - 2 * ONE * row);
            return;
        }
        let down = last > row;
        let slope = (i64::from(wide) << FINE) / i64::from(to.y - from.y);
        let (mut at, mut row) = (from, row);
        while row != last {
            // Downwards a row ends with its lower edge, upwards with its upper.
            let y = (row + i32::from(down)) << SHIFT;
            let x = from.x + part(y - from.y, slope);
            self.note(sign, column, row, x - at.x, at.y + y - 2 * ONE * row);
            at = Place { x, y };
            row += if down { 1 } else { -1 };
        }
        self.note(sign, column, row, to.x - at.x, at.y + to.y - 2 * ONE * row);
    }

    /// Notes a piece that lies in one cell: what lies below it is inside, or no longer. `twice` is
    /// twice the way from the upper edge of the cell to the middle of the piece.
    fn note(&mut self, sign: i16, column: usize, row: i32, wide: i32, twice: i32) {
        if wide == 0 || column >= WIDEST {
            return;
        }
        let below = narrow((wide * twice) >> (SHIFT + 1));
        let row = index(row);
        if let [own, next, ..] = &mut self.changes[row..] {
            own[column] += sign * (narrow(wide) - below);
            next[column] += sign * below;
        }
    }

    /// Sums the changes up, and forgets them.
    fn sum(&mut self, (left, top): (usize, usize), wide: usize, high: usize, plane: &mut Plane) {
        let mut covered = [0; WIDEST];
        let covered = &mut covered[..wide];
        for (row, changes) in (top..).zip(&mut self.changes[..high]) {
            let changes = &mut changes[..wide];
            for (covered, change) in covered.iter_mut().zip(&*changes) {
                *covered += change;
            }
            changes.fill(0);
            let Some(pixels) = plane.from(left, row) else { return };
            for (pixel, covered) in pixels.iter_mut().zip(&*covered) {
                let [cover, _] = covered.max(&-covered).min(&i16::from(FULL)).to_le_bytes();
                *pixel = cover.max(*pixel);
            }
        }
    }
}

/// How far a slope has come after so many steps; never beyond the end of the edge.
#[expect(clippy::cast_possible_truncation, reason = "it lies between the ends of an edge")]
fn part(steps: i32, slope: i64) -> i32 {
    ((i64::from(steps) * slope) >> FINE) as i32
}

/// A number rounded down, if it is not negative.
#[expect(clippy::cast_possible_truncation, reason = "places in a picture, far below the limit")]
fn whole(number: f32) -> i32 {
    number as i32
}

/// A whole number of steps in a pixel, or fewer.
#[expect(clippy::cast_possible_truncation, reason = "never more than a pixel's steps")]
fn narrow(steps: i32) -> i16 {
    steps as i16
}

/// A row or column: never negative, since places are not.
#[expect(clippy::cast_sign_loss, reason = "see above")]
fn index(number: i32) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polygon(corners: &[(f32, f32)]) -> Shape {
        let points: Vec<Point> = corners.iter().map(|&(x, y)| point(x, y)).collect();
        let ends = vec![points.len()];
        Shape { points, ends }
    }

    /// How much ink a shape makes, in pixels, and the pixels.
    fn filled(shape: &Shape, by: Point) -> (f32, Vec<Vec<u8>>) {
        let (mut filler, mut plane) = (Filler::new(), Plane::new());
        filler.fill(shape, by, &mut plane);
        assert!(filler.changes.as_flattened().iter().all(|change| *change == 0), "left over");
        let rows: Vec<Vec<u8>> = (0..120).map(|row| plane.row(row).to_vec()).collect();
        let ink = rows.iter().flatten().map(|cover| f32::from(*cover)).sum::<f32>();
        (ink / f32::from(FULL), rows)
    }

    #[test]
    fn a_box_covers_its_pixels_and_parts_of_those_at_its_edges() {
        let shape = polygon(&[(0.5, 0.25), (4.0, 0.25), (4.0, 3.0), (0.5, 3.0)]);
        for turned in [false, true] {
            let mut shape = shape.clone();
            if turned {
                shape.points.reverse();
            }
            let (ink, rows) = filled(&shape, point(10.0, 20.0));
            assert_eq!(rows[19][8..16], [0; 8]);
            assert_eq!(rows[20][8..16], [0, 0, 24, 48, 48, 48, 0, 0]);
            assert_eq!(rows[22][8..16], [0, 0, 32, 64, 64, 64, 0, 0]);
            assert_eq!(rows[23][8..16], [0; 8]);
            assert!((ink - 3.5 * 2.75).abs() < 0.01, "{ink}");
        }
    }

    #[test]
    fn slanted_edges_cover_as_much_as_they_should() {
        for (corners, area) in [
            (&[(0.0, 0.0), (30.0, 3.0), (12.0, 40.0)][..], 582.0),
            (&[(0.0, 40.0), (3.3, 0.0), (9.1, 39.0)], 180.35),
            (&[(0.0, 0.0), (60.0, 1.0), (60.0, 2.5), (0.0, 5.0)], 195.0),
            // An hourglass: one half runs the other way round, and counts as much.
            (&[(0.0, 0.0), (20.0, 40.0), (0.0, 40.0), (20.0, 0.0)], 400.0),
        ] {
            let (ink, _) = filled(&polygon(corners), point(7.3, 9.6));
            assert!((ink / area - 1.0).abs() < 0.03, "{corners:?}: {ink}, not {area}");
        }
    }

    #[test]
    fn a_hole_stays_empty() {
        let mut shape = polygon(&[(0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 9.0)]);
        shape
            .points
            .extend([(3.0, 3.0), (3.0, 6.0), (6.0, 6.0), (6.0, 3.0)].map(|(x, y)| point(x, y)));
        shape.ends.push(8);
        let (ink, rows) = filled(&shape, point(0.0, 0.0));
        assert_eq!(rows[4][..10], [64, 64, 64, 0, 0, 0, 64, 64, 64, 0]);
        assert!((ink - 72.0).abs() < 0.01);
    }

    #[test]
    fn what_lies_beyond_the_edges_or_is_too_wide_harms_nothing() {
        let large = polygon(&[(0.0, 0.0), (400.0, 30.0), (20.0, 300.0)]);
        for by in [point(-50.0, -60.0), point(250.0, 110.0), point(0.0, 0.0)] {
            let (mut filler, mut plane) = (Filler::new(), Plane::new());
            filler.fill(&large, by, &mut plane);
        }
    }
}
