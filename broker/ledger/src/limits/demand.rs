//! What an attempt asks of the limits: where, how many accelerators of which class, for how long, at what price.

use serde::{Deserialize, Serialize};
use spillway_types::{DurationMs, GpuModel, GroupName, HourlyRate, SiteKind, SiteName};

/// Blocks of one accelerator.
pub(super) const BLOCKS_PER_GPU: u128 = 100;

/// Where an attempt runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The site.
    pub site: SiteName,
    /// What kind of site it is.
    pub kind: SiteKind,
}

/// What an attempt asks of one class of accelerators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The class; none for work without accelerators.
    pub class: Option<GpuModel>,
    /// How many, in hundredths: 4 GPUs are 400.
    pub blocks: u64,
    /// The most that they cost an hour, together: the user's maximum or the price on demand.
    pub cap: HourlyRate,
}

/// What an attempt asks of its group's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// The group that pays.
    pub group: GroupName,
    /// Where it would run.
    pub place: Place,
    /// What it would use, one share for each class.
    pub shares: Vec<Share>,
    /// How long is reserved, first and at each extension.
    pub terms: LeaseTerms,
    /// What moving its data costs, in micros, paid once.
    pub egress_micros: i64,
}

/// Use that no hold covers; what is below 0 is given back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adjustment {
    /// The class of accelerators; none where there were none.
    pub class: Option<GpuModel>,
    /// Their time, in GPU-milliseconds.
    pub gpu_ms: i64,
    /// Money, in micros.
    pub micros: i64,
}

/// For how long an attempt reserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// How long it may run before it must be extended.
    pub lease: DurationMs,
    /// How long it may take to save its work and stop.
    pub grace: DurationMs,
    /// The least that is billed.
    pub minimum: DurationMs,
    /// In steps of what is billed; 0 is taken as a millisecond.
    pub increment: DurationMs,
}

impl LeaseTerms {
    /// How long is reserved for a lease that ends `lease` after the start:
    /// `round_up(max(minimum, lease + grace), increment)`.
    #[must_use]
    pub fn span(&self, lease: DurationMs) -> DurationMs {
        let least = self.minimum.0.max(lease.0.saturating_add(self.grace.0));
        let step = self.increment.0.max(1);
        DurationMs(least.div_ceil(step).saturating_mul(step))
    }
}

/// How far a group can pass a budget of money with attempts whose leases are not extended: what the accelerators of
/// those that run cost at most in the time that passes until they have stopped and all their use is known,
/// `cap x (grace + report lag)`, in micros. `cap` is what they cost an hour at most, all together.
#[must_use]
pub fn overshoot_micros(cap: HourlyRate, grace: DurationMs, report_lag: DurationMs) -> i64 {
    cap.cost_micros(1, 1, 0, grace.0.saturating_add(report_lag.0)).saturating_add(1)
}

impl Demand {
    /// Accelerators of the shares that `covers` takes, in hundredths.
    pub(super) fn blocks(&self, covers: impl Fn(&Share) -> bool) -> i64 {
        let blocks = self.shares.iter().filter(|share| covers(share)).map(|share| share.blocks);
        i64::try_from(blocks.fold(0, u64::saturating_add)).unwrap_or(i64::MAX)
    }
}

/// What `blocks` hundredths use in `ms` milliseconds, in GPU-milliseconds, rounded down: telescoping.
pub(super) fn gpu_ms(blocks: u64, ms: u64) -> i64 {
    i64::try_from(u128::from(blocks) * u128::from(ms) / BLOCKS_PER_GPU).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_rounded_up_to_what_is_billed() {
        let ms = |seconds: u64| DurationMs::from_secs(seconds);
        for (lease, grace, minimum, increment, expected) in [
            (3600, 60, 0, 0, 3660),
            (3600, 60, 7200, 0, 7200),
            (3600, 60, 60, 3600, 7200),
            (3600, 0, 60, 3600, 3600),
            (0, 0, 60, 1, 60),
            (0, 0, 0, 3600, 0),
        ] {
            let terms = LeaseTerms {
                lease: ms(lease),
                grace: ms(grace),
                minimum: ms(minimum),
                increment: ms(increment),
            };
            assert_eq!(terms.span(terms.lease), ms(expected), "{terms:?}");
        }
        let most = DurationMs(u64::MAX);
        let terms = LeaseTerms { lease: most, grace: most, minimum: most, increment: DurationMs(7) };
        assert!(terms.span(most).0 > u64::MAX - 7);
    }

    #[test]
    fn four_gpus_for_a_day_are_345_600_gpu_seconds() {
        assert_eq!(gpu_ms(400, 86_400_000), 345_600_000);
        assert_eq!(gpu_ms(u64::MAX, u64::MAX), i64::MAX);
    }

    #[test]
    fn the_bound_is_what_grace_and_lag_cost() {
        let bound = overshoot_micros(
            HourlyRate(8 * 2_500_000),
            DurationMs::from_secs(120),
            DurationMs::from_secs(60),
        );
        assert_eq!(bound, 1_000_001);
    }
}
