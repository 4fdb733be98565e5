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

    /// Its opposite.
    #[must_use]
    pub const fn negated(self) -> Self {
        Self(-self.0)
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

    proptest! {
        #[test]
        fn cutting_conserves_hours(units in 0_u64..1_000_000, a in 0_u64..10_u64.pow(11), b in 0_u64..10_u64.pow(11)) {
            let (cut, end) = (a.min(b), a.max(b));
            let parts = Quantity::hours(units, 0, cut).0 + Quantity::hours(units, cut, end).0;
            prop_assert_eq!(parts, Quantity::hours(units, 0, end).0);
        }
    }
}
