//! What an hour of each class of accelerators weighs, and from when on.
//!
//! A weight is an integer; 100 is one accelerator of the reference. A change counts from its date on and is never
//! before another of its class: what was used before keeps the weight that it had then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{GpuModel, UnixMs};

use super::demand::BLOCKS_PER_GPU;

/// What a class weighs that nobody has weighed: as much as the reference.
pub const DEFAULT_WEIGHT: u32 = 100;
/// Largest weight: ten thousand accelerators of the reference, so that a product with any time fits.
const MAX_WEIGHT: u32 = 1_000_000;

/// A class weighs this much from a date on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightChange {
    /// The class.
    pub class: GpuModel,
    /// Hundredths of an accelerator of the reference.
    pub weight: u32,
    /// From when on.
    pub effective: UnixMs,
}

/// Why a weight cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// It is out of range.
    #[error("weight: {value} of {class} must be 1 to 1,000,000; 100 is one accelerator of the reference")]
    OutOfRange {
        /// The class.
        class: GpuModel,
        /// What was given.
        value: u32,
    },
    /// It would weigh again what was used already.
    #[error(
        "weight of {class} from {effective} on: what was used is not weighed again; give a time from {earliest} on"
    )]
    Retroactive {
        /// The class.
        class: GpuModel,
        /// What was given.
        effective: UnixMs,
        /// The earliest that is possible.
        earliest: UnixMs,
    },
}

/// The weights of all classes, with their dates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weights {
    classes: BTreeMap<GpuModel, Vec<(UnixMs, u32)>>,
}

impl Weights {
    /// Notes a change. The same change again is no change.
    ///
    /// # Errors
    /// [`WeightError`] where the weight is out of range, or where its date is before `now` or before another's.
    pub fn change(&mut self, change: &WeightChange, now: UnixMs) -> Result<(), WeightError> {
        let WeightChange { class, weight, effective } = change;
        if !(1..=MAX_WEIGHT).contains(weight) {
            return Err(WeightError::OutOfRange { class: class.clone(), value: *weight });
        }
        let known = self.classes.get(class).map_or(&[][..], Vec::as_slice);
        if known.contains(&(*effective, *weight)) {
            return Ok(());
        }
        let earliest = known.last().map_or(now, |(last, _)| now.max(UnixMs(last.0.saturating_add(1))));
        if *effective < earliest {
            return Err(WeightError::Retroactive { class: class.clone(), effective: *effective, earliest });
        }
        self.classes.entry(class.clone()).or_default().push((*effective, *weight));
        Ok(())
    }

    /// The weights of one class alone.
    #[must_use]
    pub fn of(&self, class: Option<&GpuModel>) -> Self {
        let known = class.and_then(|class| self.classes.get_key_value(class));
        Self { classes: known.map(|(class, changes)| (class.clone(), changes.clone())).into_iter().collect() }
    }

    /// What a class weighs at an instant.
    #[must_use]
    pub fn at(&self, class: Option<&GpuModel>, at: UnixMs) -> u32 {
        let changes = class.and_then(|class| self.classes.get(class)).map_or(&[][..], Vec::as_slice);
        changes.iter().rev().find(|(from, _)| *from <= at).map_or(DEFAULT_WEIGHT, |(_, weight)| *weight)
    }

    /// GPU-milliseconds of a class by what it weighs at the instant, in GPU-milliseconds of the reference.
    #[must_use]
    pub fn weighted(&self, class: Option<&GpuModel>, gpu_ms: i64, at: UnixMs) -> i64 {
        let weighted = i128::from(gpu_ms) * i128::from(self.at(class, at)) / i128::from(DEFAULT_WEIGHT);
        i64::try_from(weighted).unwrap_or(if gpu_ms < 0 { i64::MIN } else { i64::MAX })
    }

    /// What `blocks` hundredths of a class use from `start` until `until`, by weight, in GPU-milliseconds of the
    /// reference. Telescoping in `until`: any way of cutting an interval sums to the same.
    #[must_use]
    pub fn normalised_ms(&self, class: Option<&GpuModel>, blocks: u64, start: UnixMs, until: UnixMs) -> i64 {
        let changes = class.and_then(|class| self.classes.get(class)).map_or(&[][..], Vec::as_slice);
        let inside = changes.iter().map(|(from, _)| *from).filter(|from| start < *from && *from < until);
        let edges: Vec<UnixMs> = std::iter::once(start).chain(inside).chain([until]).collect();
        let weighted: u128 = edges
            .windows(2)
            .map(|edge| u128::from(edge[1].since(edge[0]).0) * u128::from(self.at(class, edge[0])))
            .fold(0, u128::saturating_add);
        let denominator = BLOCKS_PER_GPU * u128::from(DEFAULT_WEIGHT);
        i64::try_from(weighted.saturating_mul(u128::from(blocks)) / denominator).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn change(class: &str, weight: u32, effective: i64) -> WeightChange {
        WeightChange { class: class.parse().unwrap(), weight, effective: UnixMs(effective) }
    }

    #[test]
    fn what_was_used_keeps_its_weight() {
        let mut weights = Weights::default();
        weights.change(&change("H100", 250, 0), UnixMs(0)).unwrap();
        let class: GpuModel = "H100".parse().unwrap();
        let used = |weights: &Weights| weights.normalised_ms(Some(&class), 200, UnixMs(0), UnixMs(HOUR));
        assert_eq!(used(&weights), 5 * HOUR);
        weights.change(&change("H100", 300, HOUR), UnixMs(HOUR)).unwrap();
        assert_eq!(used(&weights), 5 * HOUR);
        assert_eq!(weights.normalised_ms(Some(&class), 200, UnixMs(0), UnixMs(2 * HOUR)), 11 * HOUR);
        assert_eq!(weights.normalised_ms(None, 100, UnixMs(0), UnixMs(HOUR)), HOUR);
        assert_eq!(
            (weights.at(Some(&class), UnixMs(HOUR - 1)), weights.at(Some(&class), UnixMs(HOUR))),
            (250, 300)
        );
    }

    #[test]
    fn a_change_of_the_past_or_out_of_range_is_refused() {
        let mut weights = Weights::default();
        assert!(weights.change(&change("H100", 250, 10), UnixMs(11)).is_err());
        weights.change(&change("H100", 250, 20), UnixMs(11)).unwrap();
        assert_eq!(weights.change(&change("H100", 250, 20), UnixMs(99)), Ok(()), "the same again");
        let error = weights.change(&change("H100", 260, 20), UnixMs(11)).unwrap_err();
        assert!(matches!(error, WeightError::Retroactive { earliest: UnixMs(21), .. }), "{error}");
        for (weight, fine) in [(0, false), (1, true), (MAX_WEIGHT, true), (MAX_WEIGHT + 1, false)] {
            assert_eq!(
                weights.clone().change(&change("A100", weight, 20), UnixMs(0)).is_ok(),
                fine,
                "{weight}"
            );
        }
    }
}
