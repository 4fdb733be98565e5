//! Money as integers: 10^-6 of a currency unit, and rates per hour with telescoping rounding.
//!
//! No floating-point number touches money. The cost of an interval is `C(to) - C(from)` of one cumulative
//! function, so that any way of cutting an interval into slices sums to the same total.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MICROS_PER_UNIT: i64 = 1_000_000;
const MS_PER_HOUR: i128 = 3_600_000;

/// An ISO 4217 code, for example `USD`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The United States dollar, the default of a deployment.
    pub const USD: Self = Self(*b"USD");

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self::USD
    }
}

/// Why a text is not money or a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {what}")]
pub struct MoneyError {
    what: &'static str,
    value: String,
}

impl MoneyError {
    fn new(what: &'static str, value: &str) -> Self {
        Self { what, value: value.chars().take(80).collect() }
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let refused = || MoneyError::new("a currency: write three capitals, for example `USD`", text);
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| refused())?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(refused()) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount in 10^-6 of a unit of its currency. May be negative: a credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Money {
    /// 10^-6 of a currency unit.
    pub micros: i64,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// This many 10^-6 dollars.
    #[must_use]
    pub const fn usd_micros(micros: i64) -> Self {
        Self { micros, currency: Currency::USD }
    }

    /// Reads an amount that may name its currency, as `12.5EUR`, `12.5 EUR` or `$12.5`; where it does not, it is in
    /// `usual`.
    ///
    /// # Errors
    /// [`MoneyError`] where it is no amount of at most six decimals, or names no currency.
    pub fn parse_in(text: &str, usual: Currency) -> Result<Self, MoneyError> {
        let whole = text.trim();
        let (number, currency) = match (whole.find(char::is_alphabetic), whole.strip_prefix('$')) {
            (Some(at), _) => {
                let (number, code) = whole.split_at(at);
                (number.trim_end(), code.parse()?)
            }
            (None, Some(number)) => (number, Currency::USD),
            (None, None) => (whole, usual),
        };
        let refused =
            || MoneyError::new("an amount of money: write it like `250`, `12.50` or `12.50 EUR`", text);
        Ok(Self { micros: parse_micros(number).ok_or_else(refused)?, currency })
    }
}

/// Parses a decimal number of currency units, at most six decimals, to micros.
fn parse_micros(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > 6 {
        return None;
    }
    let scale = 10_i64.pow(6 - u32::try_from(fraction.len()).ok()?);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<i64>().ok()? * scale };
    let micros = whole.parse::<i64>().ok()?.checked_mul(MICROS_PER_UNIT)?.checked_add(fraction)?;
    Some(if negative { -micros } else { micros })
}

fn write_micros(f: &mut fmt::Formatter<'_>, micros: i64, decimals: usize) -> fmt::Result {
    let sign = if micros < 0 { "-" } else { "" };
    let shift = 10_u64.pow(u32::try_from(6 - decimals.min(6)).unwrap_or(0));
    let rounded = (micros.unsigned_abs() + shift / 2) / shift;
    let per_unit = 1_000_000 / shift;
    write!(f, "{sign}{}.{:0decimals$}", rounded / per_unit, rounded % per_unit)
}

impl FromStr for Money {
    type Err = MoneyError;

    /// `12.5` (dollars), `12.5EUR` or `12.5 EUR`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        Self::parse_in(text, Currency::USD)
    }
}

impl fmt::Display for Money {
    /// Two decimals and the currency; the precision flag sets the decimals, up to six.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_micros(f, self.micros, f.precision().unwrap_or(2))?;
        write!(f, " {}", self.currency)
    }
}

/// A price per hour in 10^-6 of a currency unit. The currency is the deployment's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HourlyRate(pub i64);

impl HourlyRate {
    /// What `parts` of `of` of the thing priced cost from `from_ms` to `to_ms`, both counted from the start
    /// of the use, in micros. Telescoping: `cost(a, c) = cost(a, b) + cost(b, c)`.
    #[must_use]
    pub fn cost_micros(self, parts: u64, of: u64, from_ms: u64, to_ms: u64) -> i64 {
        let until = |ms: u64| -> i128 {
            let denominator = MS_PER_HOUR * i128::from(of.max(1));
            i128::from(self.0) * i128::from(parts) * i128::from(ms) / denominator
        };
        i64::try_from(until(to_ms.max(from_ms)) - until(from_ms)).unwrap_or(i64::MAX)
    }
}

impl FromStr for HourlyRate {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let number = text.trim().trim_start_matches('$').trim_end_matches("/h");
        let refused = || MoneyError::new("a price per hour: write it like `2.50` or `2.50/h`", text);
        parse_micros(number).filter(|micros| *micros >= 0).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for HourlyRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_micros(f, self.0, f.precision().unwrap_or(2))?;
        f.write_str("/h")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn money_parses_and_prints() {
        assert_eq!("12.5".parse(), Ok(Money::usd_micros(12_500_000)));
        assert_eq!("$3".parse(), Ok(Money::usd_micros(3_000_000)));
        assert_eq!("0.000001 EUR".parse::<Money>().unwrap().micros, 1);
        let euros: Currency = "EUR".parse().unwrap();
        for (text, currency) in [
            ("1000EUR", euros),
            ("1000 EUR", euros),
            ("1000", euros),
            ("$1000", Currency::USD),
            ("1000USD", Currency::USD),
        ] {
            assert_eq!(Money::parse_in(text, euros), Ok(Money { micros: 1_000_000_000, currency }), "{text}");
        }
        assert_eq!(Money::usd_micros(-1_005_000).to_string(), "-1.01 USD");
        assert_eq!(format!("{:.6}", Money::usd_micros(1)), "0.000001 USD");
        for wrong in
            ["", "1.0000001", "1e3", "abc", "1 dollars", ".5", "1EURO", "EUR", "99999999999999999999"]
        {
            assert!(wrong.parse::<Money>().is_err(), "{wrong}");
        }
        assert!("-2".parse::<HourlyRate>().is_err());
        assert_eq!("2.50/h".parse(), Ok(HourlyRate(2_500_000)));
    }

    #[test]
    fn a_day_at_2_49_in_slices_of_five_seconds_is_the_truth() {
        let rate = HourlyRate(2_490_000);
        let total: i64 = (0..17_280).map(|i| rate.cost_micros(1, 1, i * 5000, (i + 1) * 5000)).sum();
        assert_eq!(total, 59_760_000);
    }

    proptest! {
        #[test]
        fn cutting_an_interval_conserves_its_cost(
            rate in 0_i64..1_000_000_000, parts in 1_u64..800, a in 0_u64..1 << 40, b in 0_u64..1 << 40, c in 0_u64..1 << 40,
        ) {
            let mut cuts = [a, b, c];
            cuts.sort_unstable();
            let rate = HourlyRate(rate);
            let whole = rate.cost_micros(parts, 100, cuts[0], cuts[2]);
            let pieces = rate.cost_micros(parts, 100, cuts[0], cuts[1]) + rate.cost_micros(parts, 100, cuts[1], cuts[2]);
            prop_assert_eq!(whole, pieces);
        }
    }
}
