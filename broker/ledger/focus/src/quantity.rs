//! Quantities of 10^-12 of a unit, and how time becomes hours without losing any.

/// A quantity in 10^-12 of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Quantity(pub i128);

/// Picounits in a unit.
const PICO: i128 = 1_000_000_000_000;
/// Milliseconds in an hour.
const HOUR_MS: i128 = 3_600_000;

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A whole number of units.
    #[must_use]
    pub const fn whole(units: u64) -> Self {
        Self(units as i128 * PICO)
    }

    /// Unit-hours (GPU-hours, hours of an instance) from `from_ms` to `to_ms`, both counted from where the charge
    /// began. H(to) - H(from) with H rounded down: however a charge is cut, its slices sum to the same.
    #[must_use]
    pub fn hours(units: u64, from_ms: u64, to_ms: u64) -> Self {
        // An hour has 2^7 * 3^2 * 5^5 ms, so a millisecond is no finite decimal of it.
        let until = |ms: u64| i128::from(ms).saturating_mul(i128::from(units)).saturating_mul(PICO) / HOUR_MS;
        Self(until(to_ms) - until(from_ms))
    }

    /// As [`Quantity::hours`], of what is billed by these terms: the slice that starts at 0 carries the minimum, and
    /// each slice the increments that began in it.
    #[must_use]
    pub fn billed_hours(units: u64, from_ms: u64, to_ms: u64, terms: BillingTerms) -> Self {
        Self::hours(units, terms.billed_ms(from_ms), terms.billed_ms(to_ms))
    }

    /// Its opposite.
    #[must_use]
    pub const fn negated(self) -> Self {
        Self(-self.0)
    }
}

/// How a provider bills time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BillingTerms {
    /// The least that is billed, in milliseconds.
    pub minimum_ms: u64,
    /// What time is rounded up to, in milliseconds; 0 and 1 are alike.
    pub increment_ms: u64,
}

impl BillingTerms {
    /// What is billed for a use of this length: at least the minimum, in whole increments; nothing for nothing.
    #[must_use]
    pub fn billed_ms(self, used_ms: u64) -> u64 {
        if used_ms == 0 {
            return 0;
        }
        let (least, increment) = (used_ms.max(self.minimum_ms), self.increment_ms.max(1));
        least.div_ceil(increment).saturating_mul(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hours_are_exact_where_they_can_be() {
        assert_eq!(Quantity::hours(1, 0, 3_600_000), Quantity::whole(1));
        assert_eq!(Quantity::hours(8, 0, 86_400_000), Quantity::whole(192));
        assert_eq!(Quantity::hours(1, 0, 1), Quantity(277_777));
    }

    #[test]
    fn minimums_and_increments_are_billed() {
        let terms = BillingTerms { minimum_ms: 60_000, increment_ms: 1000 };
        for (used, billed) in [(0, 0), (1, 60_000), (60_000, 60_000), (60_001, 61_000), (90_500, 91_000)] {
            assert_eq!(terms.billed_ms(used), billed, "{used}");
        }
        assert_eq!(BillingTerms { minimum_ms: 0, increment_ms: 0 }.billed_ms(7), 7);
        assert_eq!(BillingTerms { minimum_ms: u64::MAX, increment_ms: 1000 }.billed_ms(1), u64::MAX);
        let hours = |from, to| Quantity::billed_hours(4, from, to, terms);
        assert_eq!(hours(0, 30_000), Quantity::hours(4, 0, 60_000));
        assert_eq!(hours(30_000, 45_000), Quantity::ZERO);
    }

    proptest! {
        #[test]
        fn cutting_conserves_what_is_billed(
            (minimum_ms, increment_ms) in (0_u64..100_000, 0_u64..4_000_000),
            (a, b) in (0_u64..10_u64.pow(9), 0_u64..10_u64.pow(9)),
        ) {
            let (cut, end) = (a.min(b), a.max(b));
            let hours = |from, to| Quantity::billed_hours(8, from, to, BillingTerms { minimum_ms, increment_ms });
            prop_assert_eq!(hours(0, cut).0 + hours(cut, end).0, hours(0, end).0);
            prop_assert!(hours(cut, end) >= Quantity::ZERO);
        }

        #[test]
        fn cutting_conserves_hours(units in 0_u64..1_000_000, a in 0_u64..10_u64.pow(11), b in 0_u64..10_u64.pow(11)) {
            let (cut, end) = (a.min(b), a.max(b));
            let parts = Quantity::hours(units, 0, cut).0 + Quantity::hours(units, cut, end).0;
            prop_assert_eq!(parts, Quantity::hours(units, 0, end).0);
        }
    }
}
