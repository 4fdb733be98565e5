//! How much of the time that a machine ran its provider bills.
//!
//! Vectors: Amazon EC2 Spot, Linux: an instance that the provider interrupts in its first hour is free; one that its
//! user ends is billed by the second, for 60 seconds at least.

use serde::{Deserialize, Serialize};
use spillway_types::DurationMs;

/// Who ended a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndCause {
    /// Whoever asked for it, or it still runs.
    User,
    /// Its provider took it back.
    Provider,
}

/// A provider's rules of billing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BillingTerms {
    /// The shortest time that is billed.
    pub minimum: DurationMs,
    /// Time is billed in whole multiples of this; 0 is by the millisecond.
    pub increment: DurationMs,
    /// A machine that its provider takes back before it ran for so long is free; 0 is never.
    pub free_if_interrupted_within: DurationMs,
}

impl BillingTerms {
    /// Spot instances of Amazon EC2 that run Linux.
    pub const AWS_SPOT_LINUX: Self = Self {
        minimum: DurationMs::from_secs(60),
        increment: DurationMs::from_secs(1),
        free_if_interrupted_within: DurationMs::from_secs(3600),
    };

    /// The time that is billed of a machine that ran for `ran`, both in milliseconds. What never ran is not billed.
    #[must_use]
    pub fn billed(&self, ran: DurationMs, cause: EndCause) -> DurationMs {
        let interrupted = cause == EndCause::Provider && ran < self.free_if_interrupted_within;
        if ran.0 == 0 || interrupted {
            return DurationMs(0);
        }
        let wanted = ran.max(self.minimum).0;
        DurationMs(wanted.checked_next_multiple_of(self.increment.0.max(1)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spot_of_amazon_is_free_when_interrupted_early_and_billed_by_the_second_else() {
        let billed = |ran, cause| BillingTerms::AWS_SPOT_LINUX.billed(DurationMs(ran), cause).0;
        for (ran, cause, expected) in [
            (0, EndCause::User, 0),
            (1, EndCause::User, 60_000),
            (60_000, EndCause::User, 60_000),
            (60_001, EndCause::User, 61_000),
            (3_599_999, EndCause::User, 3_600_000),
            (1, EndCause::Provider, 0),
            (3_599_999, EndCause::Provider, 0),
            (3_600_000, EndCause::Provider, 3_600_000),
            (3_600_001, EndCause::Provider, 3_601_000),
        ] {
            assert_eq!(billed(ran, cause), expected, "{ran} {cause:?}");
        }
    }

    #[test]
    fn minimum_and_increment_bind_at_their_edges() {
        let hour = 3_600_000;
        let by_the_hour = BillingTerms { increment: DurationMs(hour), ..BillingTerms::default() };
        for (ran, expected) in [(0, 0), (1, hour), (hour, hour), (hour + 1, 2 * hour), (u64::MAX, u64::MAX)] {
            assert_eq!(by_the_hour.billed(DurationMs(ran), EndCause::User).0, expected, "{ran}");
        }
        let exact = BillingTerms::default();
        assert_eq!(exact.billed(DurationMs(7), EndCause::Provider).0, 7);
        // A minimum that is no multiple of the increment is rounded up with the rest.
        let odd =
            BillingTerms { minimum: DurationMs(90), increment: DurationMs(60), ..BillingTerms::default() };
        assert_eq!(odd.billed(DurationMs(1), EndCause::User).0, 120);
    }
}
