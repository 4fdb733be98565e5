//! A set of task indexes kept as inclusive ranges: ten thousand tasks of an array cost a few bytes.

use serde::{Deserialize, Serialize};

/// A set of `u32` indexes, as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IndexRanges(Vec<(u32, u32)>);

impl IndexRanges {
    /// The set of `first..=last`; empty where `first > last`.
    #[must_use]
    pub fn span(first: u32, last: u32) -> Self {
        if first > last { Self::default() } else { Self(vec![(first, last)]) }
    }

    /// How many indexes are in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest index.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.0.first().map(|(first, _)| *first)
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// Adds `index`; false where it was there.
    pub fn insert(&mut self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        if self.0.get(at).is_some_and(|(first, _)| *first <= index) {
            return false;
        }
        let joins_left = at > 0 && self.0[at - 1].1.checked_add(1) == Some(index);
        let joins_right = self.0.get(at).is_some_and(|(first, _)| index.checked_add(1) == Some(*first));
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = index,
            (false, true) => self.0[at].0 = index,
            (false, false) => self.0.insert(at, (index, index)),
        }
        true
    }

    /// Removes `index`; false where it was not there.
    pub fn remove(&mut self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        let Some(&(first, last)) = self.0.get(at).filter(|(first, _)| *first <= index) else {
            return false;
        };
        match (first == index, last == index) {
            (true, true) => {
                self.0.remove(at);
            }
            (true, false) => self.0[at].0 = index + 1,
            (false, true) => self.0[at].1 = index - 1,
            (false, false) => {
                self.0[at].1 = index - 1;
                self.0.insert(at + 1, (index + 1, last));
            }
        }
        true
    }

    /// The indexes in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The ranges in order, both ends inclusive.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_behaves_as_a_set(steps in prop::collection::vec((any::<bool>(), 0_u32..40), 0..200)) {
            let (mut ranges, mut model) = (IndexRanges::default(), BTreeSet::new());
            for (add, index) in steps {
                if add {
                    prop_assert_eq!(ranges.insert(index), model.insert(index));
                } else {
                    prop_assert_eq!(ranges.remove(index), model.remove(&index));
                }
                prop_assert_eq!(ranges.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.ranges().windows(2).all(|w| w[0].1 + 1 < w[1].0));
                prop_assert_eq!(ranges.len(), model.len() as u64);
                prop_assert!((0..40).all(|i| ranges.contains(i) == model.contains(&i)));
            }
        }
    }

    #[test]
    fn the_ends_of_the_type_are_safe() {
        let mut ranges = IndexRanges::span(u32::MAX - 1, u32::MAX);
        assert!(ranges.remove(u32::MAX) && ranges.insert(u32::MAX) && ranges.insert(0));
        assert_eq!(ranges.len(), 3);
    }
}
