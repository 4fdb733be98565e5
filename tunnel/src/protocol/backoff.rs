//! How long an agent waits before it dials again: full jitter over a doubling bound.
//!
//! Randomness comes in as an argument, so the whole is a pure function. Full jitter (a delay anywhere between
//! nothing and the bound) spreads a fleet that lost its broker at one moment best; see "Exponential Backoff
//! and Jitter", AWS Architecture Blog, 2015.

use spillway_types::DurationMs;

/// The bound of the first delay.
pub const FIRST_BOUND: DurationMs = DurationMs::from_secs(1);
/// The bound never grows beyond this: a broker that is back is found within a minute.
pub const LARGEST_BOUND: DurationMs = DurationMs::from_secs(60);
/// A session that lived this long was a good one: the next failure starts from the first bound again.
pub const HEALTHY_AFTER: DurationMs = DurationMs::from_secs(30);

/// The failures in a row that an agent has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failed dial and says how long to wait: uniform in `0..=bound`, by `random` (any 64 random
    /// bits).
    pub fn after_failure(&mut self, random: u64) -> DurationMs {
        let bound = bound(self.failures);
        self.failures = self.failures.saturating_add(1);
        DurationMs(random % (bound.0 + 1))
    }

    /// Says how long to wait after a session that lived for `lived`. A healthy one resets the count.
    pub fn after_session(&mut self, lived: DurationMs, random: u64) -> DurationMs {
        if lived >= HEALTHY_AFTER {
            self.failures = 0;
        }
        self.after_failure(random)
    }
}

fn bound(failures: u32) -> DurationMs {
    let factor = 1_u64.checked_shl(failures).unwrap_or(u64::MAX);
    DurationMs(FIRST_BOUND.0.saturating_mul(factor)).min(LARGEST_BOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_a_minute_and_stay_there() {
        let seconds: Vec<u64> = (0..9).map(|failures| bound(failures).0 / 1000).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        for failures in [31, 63, 64, 65, u32::MAX] {
            assert_eq!(bound(failures), LARGEST_BOUND, "{failures}");
        }
    }

    #[test]
    fn delays_reach_both_ends_of_the_bound() {
        assert_eq!(Backoff::default().after_failure(0), DurationMs(0));
        assert_eq!(Backoff::default().after_failure(1000), DurationMs(1000));
        assert_eq!(Backoff::default().after_failure(1001), DurationMs(0));
    }

    #[test]
    fn only_a_healthy_session_resets() {
        let failed = |times: u32| {
            let mut backoff = Backoff::default();
            for _ in 0..times {
                backoff.after_failure(0);
            }
            backoff
        };
        let short = DurationMs(HEALTHY_AFTER.0 - 1);
        assert_eq!(failed(10).after_session(short, 59_999), DurationMs(59_999));
        assert_eq!(failed(10).after_session(HEALTHY_AFTER, 1000), DurationMs(1000));
        assert_eq!(failed(10).after_session(HEALTHY_AFTER, 1001), DurationMs(0));
    }
}
