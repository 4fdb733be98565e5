//! The courses of all kinds' occupancies side by side, roughly: enough to see quickly that a place costs too much.

use crate::occupancy::Occupancy;

/// Instants at which all courses are kept.
const INSTANTS: usize = 512;
/// For fewer kinds the exact courses are looked up quickly enough.
const LEAST_KINDS: usize = 16;
/// More than the arithmetic rounds, in milliseconds.
const ROUNDING_MS: f64 = 0.01;

/// The courses at the same instants, with how far each is from a straight line between two of them.
#[derive(Debug, Default)]
pub(crate) struct Courses {
    began: i64,
    per_ms: f64,
    /// The instants' numbers reach from 0 to this.
    last: f64,
    /// By instant, then by kind: milliseconds fully taken before.
    before: Vec<f64>,
    kinds: Vec<Course>,
}

#[derive(Debug, Clone, Copy)]
struct Course {
    /// The greatest share at any time.
    most: f64,
    /// Between two instants nothing is farther from a straight line than half of this, in milliseconds.
    off: f64,
}

impl Courses {
    /// From the exact ones, which begin at `now`.
    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    pub(crate) fn of(now: i64, exact: &[Occupancy]) -> Self {
        if exact.len() < LEAST_KINDS {
            return Self::default();
        }
        let end = exact.iter().filter_map(|occupancy| occupancy.instants().last()).max().unwrap_or(now);
        let count = i64::try_from(INSTANTS).unwrap_or(i64::MAX) - 1;
        let width = end.saturating_sub(now) / count + 1;
        let instants = (0..=count).map(|at| now.saturating_add(width.saturating_mul(at)));
        let before = instants.flat_map(|instant| exact.iter().map(move |course| course.until(instant)));
        let mut courses = Self {
            began: now,
            per_ms: 1.0 / width as f64,
            last: count as f64,
            before: before.collect(),
            kinds: exact.iter().map(|course| Course { most: course.most, off: 0.0 }).collect(),
        };
        for (kind, occupancy) in exact.iter().enumerate() {
            // Both are straight between these instants and those of the grid, where they are level.
            let off =
                |instant: i64| (occupancy.until(instant) - courses.until(kind, courses.place(instant))).abs();
            let most = occupancy.instants().map(off).fold(0.0, f64::max);
            courses.kinds[kind].off = 2.0 * (most + ROUNDING_MS);
        }
        courses
    }

    /// The greatest share of a kind at any time; none where the courses say nothing.
    pub(crate) fn most(&self, kind: usize) -> Option<f64> {
        self.kinds.get(kind).map(|course| course.most)
    }

    /// At least so many milliseconds of `from` until `to` are taken of a kind, each counted by its share.
    pub(crate) fn taken_at_least(&self, kind: usize, (from, to): (i64, i64)) -> f64 {
        let Some(course) = self.kinds.get(kind) else { return 0.0 };
        let (from, to) = (self.place(from), self.place(to).min(self.last));
        if from > self.last {
            return 0.0;
        }
        self.until(kind, to) - self.until(kind, from) - course.off
    }

    /// How many instants have passed by then.
    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    fn place(&self, time: i64) -> f64 {
        time.saturating_sub(self.began).max(0) as f64 * self.per_ms
    }

    /// On a straight line between two instants. `place` is from 0 to the last one.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is compared, never counted, and a place is small"
    )]
    fn until(&self, kind: usize, place: f64) -> f64 {
        let at = (place as usize).min(INSTANTS - 2);
        let into = place - at as f64;
        let (one, other) = (at * self.kinds.len() + kind, (at + 1) * self.kinds.len() + kind);
        self.before[one] + into * (self.before[other] - self.before[one])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Courses, LEAST_KINDS};
    use crate::occupancy::Occupancy;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn never_more_is_taken_than_truly(
            changes in prop::collection::vec((0..100_000_i64, 1..9_i64, 1..50_000_i64), 0..3_000),
            windows in prop::collection::vec((0..200_000_i64, 1..100_000_i64), 1..50),
        ) {
            let course = |skipped: usize| {
                let parts = changes.iter().skip(skipped);
                let changes = parts.flat_map(|(at, amount, length)| [(*at, *amount), (at + length, -amount)]);
                Occupancy::of(0, 4_000, changes.collect())
            };
            let exact: Vec<Occupancy> = (0..LEAST_KINDS).map(|at| course(at * 100)).collect();
            let courses = Courses::of(0, &exact);
            for (from, length) in windows {
                for (kind, exact) in exact.iter().enumerate() {
                    let (least, true_value) =
                        (courses.taken_at_least(kind, (from, from + length)), exact.taken(from, from + length));
                    prop_assert!(least <= true_value, "{from} for {length}: {least} of {true_value}");
                    // It is of use: the courses are a thousandth of the time apart, and shares below 8.
                    prop_assert!(least >= true_value - 8_000.0, "{from} for {length}: {least} of {true_value}");
                }
            }
        }
    }
}
