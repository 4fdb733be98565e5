//! What one unit of a currency is worth: an exact decimal, and how prices and sums are brought over with it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use spillway_types::HourlyRate;

use super::{CurrencyError, div_round};
use crate::calendar::as_text;

/// What one unit of a currency is worth, in 10^-9 of a unit of the base. Over 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangeRate(u64);

/// 10^-9, the least step of a rate.
const NANOS: u64 = 1_000_000_000;

impl ExchangeRate {
    /// Of the deployment's own currency.
    pub const ONE: Self = Self(NANOS);

    pub(super) const fn nanos(self) -> i128 {
        // A `u64` fits: `i128::from` is not for constants.
        self.0 as i128
    }

    /// A price per hour in the currency, in micros of the deployment's; rounded once, to the nearest micro, halves away
    /// from zero. What fits no `i64` is its bound.
    #[must_use]
    pub fn of_rate(self, rate: HourlyRate) -> HourlyRate {
        hourly(div_round(i128::from(rate.0) * self.nanos(), i128::from(NANOS)))
    }

    /// An amount in micros of the currency, in micros of the deployment's; rounded in the same way.
    pub(super) fn of_micros(self, micros: i128) -> i128 {
        div_round(micros.saturating_mul(self.nanos()), i128::from(NANOS))
    }

    /// A price per hour in micros of the deployment's currency, in the currency; rounded in the same way.
    #[must_use]
    pub fn into_rate(self, rate: HourlyRate) -> HourlyRate {
        hourly(div_round(i128::from(rate.0) * i128::from(NANOS), self.nanos()))
    }
}

fn hourly(micros: i128) -> HourlyRate {
    HourlyRate(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
}

/// What is left of a micro in the parts of a sum before it is rounded: enough that a sum of a thousand rates is right.
const FINER: i128 = 1_000_000_000;

/// Sums of micros in the deployment's currency, each with the rate of its days, as one amount in micros of another
/// currency. The parts are rounded to 10^-9 of a micro and the sum once to the nearest micro, halves away from zero; what
/// has one rate is one part, so that it does not matter how it was cut.
#[must_use]
pub fn sum_into(parts: &BTreeMap<ExchangeRate, i128>) -> i128 {
    let part = |(rate, micros): (&ExchangeRate, &i128)| {
        div_round(micros.saturating_mul(i128::from(NANOS) * FINER), rate.nanos())
    };
    div_round(parts.iter().map(part).fold(0, i128::saturating_add), FINER)
}

impl FromStr for ExchangeRate {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let refused = || CurrencyError::Rate(text.chars().take(80).collect());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
            return Err(refused());
        }
        let nanos: u64 = format!("{fraction:0<9}").parse().map_err(|_| refused())?;
        let whole: u64 = whole.parse().map_err(|_| refused())?;
        let rate = whole.checked_mul(NANOS).and_then(|whole| whole.checked_add(nanos));
        rate.filter(|rate| *rate > 0).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for ExchangeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:09}", self.0 % NANOS);
        let fraction = fraction.trim_end_matches('0');
        write!(f, "{}.{}", self.0 / NANOS, if fraction.is_empty() { "0" } else { fraction })
    }
}

as_text!(ExchangeRate);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> ExchangeRate {
        text.parse().unwrap()
    }

    #[test]
    fn a_price_is_rounded_once_with_halves_away_from_zero() {
        for (exchange, price, expected) in [
            ("1.0853", 2_000_000, 2_170_600),
            ("1.05", 10, 11),
            ("1.05", -10, -11),
            ("0.00072", 2_600_000_000, 1_872_000),
            ("0.5", 1, 1),
            ("0.499999999", 1, 0),
            ("18446744073.709551615", i64::MAX, i64::MAX),
        ] {
            assert_eq!(
                rate(exchange).of_rate(HourlyRate(price)),
                HourlyRate(expected),
                "{price} at {exchange}"
            );
        }
        assert_eq!(rate("1.0853").into_rate(HourlyRate(2_170_600)), HourlyRate(2_000_000));
        assert_eq!(ExchangeRate::ONE.of_rate(HourlyRate(7)), HourlyRate(7));
    }

    #[test]
    fn a_sum_of_days_is_rounded_once() {
        let parts =
            |parts: &[(&str, i128)]| parts.iter().map(|(text, micros)| (rate(text), *micros)).collect();
        assert_eq!(sum_into(&parts(&[("3.0", 1), ("1.5", 1)])), 1, "a third and two thirds");
        assert_eq!(sum_into(&parts(&[("2.5", 1), ("10.0", 1)])), 1, "0.4 and 0.1 are nothing one by one");
        assert_eq!(sum_into(&parts(&[("2.0", 1)])), 1, "a half goes away from zero");
        assert_eq!(sum_into(&parts(&[("2.0", -1)])), -1);
        assert_eq!(sum_into(&parts(&[])), 0);
    }

    proptest! {
        /// How the days of one rate are cut does not change what they come to, and one rate alone converts as one
        /// amount does.
        #[test]
        fn conversion_commutes_with_how_the_span_is_cut_into_days(
            days in proptest::collection::vec((0_usize..4, -1_000_000_000_000_i64..1_000_000_000_000), 1..40),
            nanos in proptest::array::uniform4(1_u64..5_000_000_000),
        ) {
            let mut whole: BTreeMap<ExchangeRate, i128> = BTreeMap::new();
            for (which, micros) in &days {
                *whole.entry(ExchangeRate(nanos[*which])).or_default() += i128::from(*micros);
            }
            let mut backwards: BTreeMap<ExchangeRate, i128> = BTreeMap::new();
            for (which, micros) in days.iter().rev() {
                for half in [micros / 2, micros - micros / 2] {
                    *backwards.entry(ExchangeRate(nanos[*which])).or_default() += i128::from(half);
                }
            }
            prop_assert_eq!(sum_into(&whole), sum_into(&backwards));
            for (rate, micros) in whole {
                let alone = div_round(micros * i128::from(NANOS), rate.nanos());
                prop_assert!((sum_into(&BTreeMap::from([(rate, micros)])) - alone).abs() <= 1);
            }
        }
    }
}
