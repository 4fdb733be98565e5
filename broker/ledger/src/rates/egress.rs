//! What bytes cost that leave a site: a charge of its own, never hidden in the rate of a machine.

use std::fmt;
use std::str::FromStr;

use spillway_types::Money;

use crate::calendar::as_text;
use crate::refusal::Amount;

/// Bytes of a gigabyte, as providers bill them.
const BYTES_PER_GB: i128 = 1_000_000_000;

/// The price of 10^9 bytes, in micros; not below 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EgressPrice(i64);

/// Why a text is not a price of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a price per gigabyte: write 0 or more with at most six decimals, for example `0.09`")]
pub struct EgressError(String);

impl EgressPrice {
    /// The price of 10^9 bytes; below 0 is taken as 0.
    #[must_use]
    pub fn per_gb(micros: i64) -> Self {
        Self(micros.max(0))
    }

    /// What the bytes from the `from`th to the `to`th of one transfer cost, in micros: rounded down on all bytes
    /// since its start, so that reports of any size add up to the same.
    #[must_use]
    pub fn cost_micros(self, from: u64, to: u64) -> i64 {
        let until = |bytes: u64| i128::from(self.0) * i128::from(bytes) / BYTES_PER_GB;
        i64::try_from(until(to.max(from)) - until(from)).unwrap_or(i64::MAX)
    }
}

impl FromStr for EgressPrice {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        let refused = || EgressError(text.chars().take(80).collect());
        let money: Money = text.parse().map_err(|_| refused())?;
        if money.micros < 0 || text.contains(' ') { Err(refused()) } else { Ok(Self(money.micros)) }
    }
}

impl fmt::Display for EgressPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Amount(self.0).fmt(f)
    }
}

as_text!(EgressPrice);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_cost_by_the_gigabyte() {
        let price: EgressPrice = "0.09".parse().unwrap();
        assert_eq!(price.cost_micros(0, 1_000_000_000), 90_000);
        assert_eq!(price.cost_micros(0, 150_000_000_000_000), 13_500_000_000);
        assert_eq!(price.cost_micros(5, 3), 0);
        assert_eq!(price.to_string(), "0.09");
        assert_eq!(EgressPrice::per_gb(i64::MAX).cost_micros(0, u64::MAX), i64::MAX);
        for wrong in ["", "-1", "0.0000001", "1 EUR", "free"] {
            assert!(wrong.parse::<EgressPrice>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reports_of_any_size_add_up(price in 0_i64..10_000_000, mut cuts in prop::array::uniform3(0_u64..1 << 50)) {
            cuts.sort_unstable();
            let price = EgressPrice::per_gb(price);
            let whole = price.cost_micros(cuts[0], cuts[2]);
            prop_assert_eq!(price.cost_micros(cuts[0], cuts[1]) + price.cost_micros(cuts[1], cuts[2]), whole);
        }
    }
}
