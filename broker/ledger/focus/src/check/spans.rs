//! Spans of time that must not overlap, remembered as few as they can be: those that touch become one.

use std::collections::BTreeMap;

/// What columns of time are rounded to.
const SECOND_MS: i64 = 1000;

/// Disjoint half-open spans, by start.
#[derive(Debug, Default)]
pub(super) struct Spans(BTreeMap<i64, i64>);

impl Spans {
    /// Adds a span. Gives back the span that it overlaps, if any. A slice that lies within a second is printed as
    /// that second, so slices that touch may share one: an overlap of at most a second is none.
    pub(super) fn add(&mut self, start: i64, end: i64) -> Option<(i64, i64)> {
        let before = self.0.range(..end).next_back().map(|(from, to)| (*from, *to));
        let found = before.filter(|(from, to)| to.min(&end) - from.max(&start) > SECOND_MS);
        self.merge(start, end);
        found
    }

    fn merge(&mut self, start: i64, end: i64) {
        let (mut from, mut to) = (start, end);
        while let Some((earlier, until)) = self.0.range(..=to).next_back().map(|(a, b)| (*a, *b)) {
            if until < from {
                break;
            }
            self.0.remove(&earlier);
            from = from.min(earlier);
            to = to.max(until);
        }
        self.0.insert(from, to);
    }

    /// Takes a span out again.
    pub(super) fn remove(&mut self, start: i64, end: i64) {
        let around = self.0.range(..=start).next_back().map(|(from, to)| (*from, *to));
        if let Some((from, to)) = around.filter(|(_, to)| *to >= end) {
            self.0.remove(&from);
            if from < start {
                self.0.insert(from, start);
            }
            if end < to {
                self.0.insert(end, to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_touch_but_do_not_overlap() {
        let mut spans = Spans::default();
        for (start, end, overlapped) in [
            (0, 10_000, None),
            (20_000, 30_000, None),
            (10_000, 20_000, None),
            (28_000, 31_000, Some((0, 30_000))),
            (30_000, 31_000, None),
            (40_000, 50_000, None),
            (35_000, 60_000, Some((40_000, 50_000))),
        ] {
            assert_eq!(spans.add(start, end), overlapped, "{start}-{end}");
        }
        assert_eq!(spans.0, BTreeMap::from([(0, 31_000), (35_000, 60_000)]));
        spans.remove(10_000, 20_000);
        assert_eq!(spans.add(10_000, 20_000), None);
        assert_eq!(spans.add(9000, 12_000), Some((0, 31_000)));
    }

    #[test]
    fn slices_within_a_second_may_share_it() {
        let mut spans = Spans::default();
        assert_eq!(spans.add(0, 12_000), None);
        assert_eq!(spans.add(12_000, 13_000), None);
        assert_eq!(spans.add(12_000, 13_000), None);
        assert_eq!(spans.add(12_000, 20_000), None);
        assert_eq!(spans.add(18_000, 24_000), Some((0, 20_000)));
    }
}
