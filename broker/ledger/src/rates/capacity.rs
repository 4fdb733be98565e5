//! How many accelerators of each class a pool has, as it was from instant to instant: what it could give.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{GpuModel, UnixMs};

/// The accelerators of a pool by class: a step function of time. Before the first step there are none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capacity(BTreeMap<GpuModel, BTreeMap<UnixMs, u64>>);

impl Capacity {
    /// How many of a class there are after the last step.
    #[must_use]
    pub fn now(&self, class: &GpuModel) -> u64 {
        self.0.get(class).and_then(|steps| steps.last_key_value()).map_or(0, |(_, count)| *count)
    }

    /// The classes of which there ever were any.
    pub fn classes(&self) -> impl Iterator<Item = &GpuModel> {
        self.0.keys()
    }

    /// From `at` on there are so many of a class. An instant before the last step counts as that: time never goes back.
    pub fn set(&mut self, class: &GpuModel, at: UnixMs, count: u64) {
        if self.now(class) == count {
            return;
        }
        if !self.0.contains_key(class) {
            self.0.insert(class.clone(), BTreeMap::new());
        }
        let Some(steps) = self.0.get_mut(class) else { return };
        let at = steps.last_key_value().map_or(at, |(last, _)| at.max(*last));
        steps.insert(at, count);
    }

    /// What a class could give from `from` until `until`, in milliseconds of one accelerator.
    #[must_use]
    pub fn gpu_ms(&self, class: &GpuModel, from: UnixMs, until: UnixMs) -> u64 {
        let Some(steps) = self.0.get(class).filter(|_| from < until) else { return 0 };
        let before = steps.range(..=from).next_back().map_or(0, |(_, count)| *count);
        let (mut since, mut count, mut sum) = (from, before, 0_u64);
        for (at, next) in steps.range(from..until).skip_while(|(at, _)| **at == from) {
            sum = sum.saturating_add(count.saturating_mul(at.since(since).0));
            (since, count) = (*at, *next);
        }
        sum.saturating_add(count.saturating_mul(until.since(since).0))
    }

    /// Forgets what was before `instant`: from there on it is as it was.
    pub fn forget_before(&mut self, instant: UnixMs) {
        for steps in self.0.values_mut() {
            let kept = steps.split_off(&instant);
            let before = std::mem::replace(steps, kept);
            if let Some((_, count)) = before.last_key_value() {
                steps.entry(instant).or_insert(*count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn h100() -> GpuModel {
        "H100".parse().unwrap()
    }

    #[test]
    fn what_it_could_give_is_the_area_under_the_steps() {
        let mut capacity = Capacity::default();
        for (at, count) in [(10, 8), (20, 16), (20, 12), (30, 0)] {
            capacity.set(&h100(), UnixMs(at), count);
        }
        let area = |from, until| capacity.gpu_ms(&h100(), UnixMs(from), UnixMs(until));
        assert_eq!(area(0, 100), 8 * 10 + 12 * 10);
        assert_eq!((area(0, 10), area(15, 25), area(20, 20), area(20, 25)), (0, 40 + 60, 0, 60));
        assert_eq!((area(30, 99), area(29, 31)), (0, 12));
        assert_eq!(capacity.gpu_ms(&"A100".parse().unwrap(), UnixMs(0), UnixMs(99)), 0);
        let json = serde_json::to_string(&capacity).unwrap();
        assert_eq!(serde_json::from_str::<Capacity>(&json).unwrap(), capacity);
    }

    proptest! {
        #[test]
        fn any_cut_conserves_it_and_forgetting_changes_nothing_after(
            steps in proptest::collection::vec((0_i64..50, 0_u64..9), 0..12),
            edges in proptest::collection::vec(0_i64..1000, 3..4),
        ) {
            let (mut capacity, mut at, mut counts) = (Capacity::default(), 0, vec![0_u64; 1000]);
            for (later, count) in steps {
                at += later;
                capacity.set(&h100(), UnixMs(at), count);
                counts.iter_mut().skip(usize::try_from(at).unwrap()).for_each(|it| *it = count);
            }
            let mut edges = edges;
            edges.sort_unstable();
            let [a, b, c] = edges[..] else { panic!("{edges:?}") };
            let area = |it: &Capacity, from: i64, until: i64| it.gpu_ms(&h100(), UnixMs(from), UnixMs(until));
            let by_hand: u64 = (a..c).map(|at| counts[usize::try_from(at).unwrap()]).sum();
            prop_assert_eq!(area(&capacity, a, c), by_hand);
            prop_assert_eq!(area(&capacity, a, b) + area(&capacity, b, c), by_hand);
            let mut shorter = capacity.clone();
            shorter.forget_before(UnixMs(b));
            prop_assert_eq!(area(&shorter, b, c), area(&capacity, b, c));
            prop_assert_eq!(shorter.now(&h100()), capacity.now(&h100()));
        }
    }
}
