//! A rate that changes: a step function of time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{HourlyRate, UnixMs};

/// Rates with the instant from which each is good. A rate holds until the next one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateTrack(BTreeMap<UnixMs, HourlyRate>);

impl RateTrack {
    /// One rate, from the beginning of time on.
    #[must_use]
    pub fn constant(rate: HourlyRate) -> Self {
        Self(BTreeMap::from([(UnixMs(i64::MIN), rate)]))
    }

    /// Notes that the rate is good from `at` on.
    pub fn set(&mut self, at: UnixMs, rate: HourlyRate) {
        self.0.insert(at, rate);
    }

    /// The rate at an instant; none before the first one.
    #[must_use]
    pub fn at(&self, at: UnixMs) -> Option<HourlyRate> {
        self.0.range(..=at).next_back().map(|(_, rate)| *rate)
    }

    /// From when the first rate is good.
    #[must_use]
    pub fn first(&self) -> Option<UnixMs> {
        self.0.keys().next().copied()
    }

    /// The instants strictly between `from` and `to` at which the rate is set anew.
    pub fn changes(&self, from: UnixMs, to: UnixMs) -> impl Iterator<Item = UnixMs> {
        self.0.range(from..to.max(from)).map(|(at, _)| *at).filter(move |at| *at > from)
    }
}

impl FromIterator<(UnixMs, HourlyRate)> for RateTrack {
    fn from_iter<T: IntoIterator<Item = (UnixMs, HourlyRate)>>(rates: T) -> Self {
        Self(rates.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_good_until_the_next() {
        let track: RateTrack =
            [(UnixMs(10), HourlyRate(1)), (UnixMs(20), HourlyRate(2))].into_iter().collect();
        for (at, rate) in [(9, None), (10, Some(1)), (19, Some(1)), (20, Some(2)), (i64::MAX, Some(2))] {
            assert_eq!(track.at(UnixMs(at)), rate.map(HourlyRate), "{at}");
        }
        let changes = |from, to| track.changes(UnixMs(from), UnixMs(to)).map(|at| at.0).collect::<Vec<_>>();
        assert_eq!(changes(0, 30), [10, 20]);
        assert_eq!(changes(10, 20), [0; 0]);
        assert_eq!(changes(30, 0), [0; 0]);
        assert_eq!(RateTrack::constant(HourlyRate(7)).at(UnixMs(i64::MIN)), Some(HourlyRate(7)));
    }
}
