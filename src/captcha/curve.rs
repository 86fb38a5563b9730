//! Points, distances and smooth lines, with nothing but exact operations.

use ab_glyph::{Point, point};

/// How long one piece of a smooth line is, about, in pixels.
pub(super) const PIECE: f32 = 4.0;

/// A smooth line through the knots (a centripetal Catmull-Rom spline, which makes no loops), in
/// small pieces; with each point, how many knots after the first were passed.
pub(super) fn spline(knots: &[Point]) -> Vec<(Point, usize)> {
    let count = knots.len();
    let (first, last) = (knots[0], knots[count - 1]);
    let before = first + first - knots[1];
    let after = last + last - knots[count - 2];
    let knot = |i: usize| match i {
        0 => before,
        i if i <= count => knots[i - 1],
        _ => after,
    };
    let mut points = Vec::with_capacity(160);
    for leg in 0..count - 1 {
        let [before, b, c, after] = [knot(leg), knot(leg + 1), knot(leg + 2), knot(leg + 3)];
        let [ab, bc, cd] = [b - before, c - b, after - c].map(|way| length(way).sqrt());
        // The directions in which the curve leaves `b` and arrives at `c`.
        let slope = |x: Point, y: Point, z: Point, xy: f32, yz: f32| {
            let out =
                times(y - x, 1.0 / xy) - times(z - x, 1.0 / (xy + yz)) + times(z - y, 1.0 / yz);
            times(out, bc)
        };
        let (leave, arrive) = (slope(before, b, c, ab, bc), slope(b, c, after, bc, cd));
        let steps = (length(c - b) / PIECE).max(2.0).floor();
        let mut step = 0.0;
        while step < steps {
            let along = step / steps;
            let (square, cube) = (along * along, along * along * along);
            let at = times(b, 2.0 * cube - 3.0 * square + 1.0)
                + times(leave, cube - 2.0 * square + along)
                + times(c, 3.0 * square - 2.0 * cube)
                + times(arrive, cube - square);
            points.push((at, leg));
            step += 1.0;
        }
    }
    points.push((last, count - 2));
    points
}

/// Whether two segments cross.
pub(super) fn intersect(a: [Point; 2], b: [Point; 2]) -> bool {
    let side = |[from, to]: [Point; 2], p: Point| cross(to - from, p - from) >= 0.0;
    side(a, b[0]) != side(a, b[1]) && side(b, a[0]) != side(b, a[1])
}

/// A vector so many times as long.
pub(super) fn times(p: Point, by: f32) -> Point {
    point(p.x * by, p.y * by)
}

/// The scalar product.
pub(super) fn dot(a: Point, b: Point) -> f32 {
    a.x * b.x + a.y * b.y
}

/// The area that two vectors span; its sign says on which side the second lies.
pub(super) fn cross(a: Point, b: Point) -> f32 {
    a.x * b.y - a.y * b.x
}

/// How long a vector is.
pub(super) fn length(p: Point) -> f32 {
    dot(p, p).sqrt()
}

/// The vector of length 1 in this direction.
pub(super) fn unit(p: Point) -> Point {
    times(p, 1.0 / length(p).max(f32::MIN_POSITIVE))
}

/// How far a point lies from a segment.
pub(super) fn from_segment(p: Point, from: Point, to: Point) -> f32 {
    let (way, at) = (to - from, p - from);
    let along = (dot(at, way) / dot(way, way).max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
    length(at - times(way, along))
}

/// How far a point lies outside of a box around the origin; 0 inside.
pub(super) fn from_box(p: Point, half: Point) -> f32 {
    length(point((p.x.abs() - half.x).max(0.0), (p.y.abs() - half.y).max(0.0)))
}
