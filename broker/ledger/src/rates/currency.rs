//! Currencies: what one unit is worth in the deployment's, by day.
//!
//! A rate holds from its day on until the next. Conversion multiplies and divides once, in 128 bits, and rounds the
//! result to the nearest micro, halves away from zero. It is done when an amount is posted; what was posted is never
//! converted again.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use spillway_types::{Currency, Money, UnixMs};

use super::div_round;
use crate::calendar::{Day, as_text};

/// What one unit of a currency is worth, in 10^-9 of a unit of the base. Over 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangeRate(u64);

/// 10^-9, the least step of a rate.
const NANOS: u64 = 1_000_000_000;

/// Why an amount cannot be converted, or a rate cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// The table does not know it.
    #[error("currency {currency} is not known: set what it is worth in {base} first; known are {known}")]
    Unknown {
        /// The currency.
        currency: Currency,
        /// The deployment's.
        base: Currency,
        /// All that the table knows, separated by commas.
        known: String,
    },
    /// Its first rate is later.
    #[error(
        "currency {currency} has no rate on {day}: its first is of {first}; set one that is good on {day}"
    )]
    TooEarly {
        /// The currency.
        currency: Currency,
        /// The day that was asked for.
        day: Day,
        /// The first day with a rate.
        first: Day,
    },
    /// Not a rate.
    #[error(
        "`{0}` is not an exchange rate: write a number over 0 with at most nine decimals, for example `1.0853`"
    )]
    Rate(String),
    /// The base is worth 1 of itself.
    #[error("{0} is the deployment's own currency: it is worth 1 of itself, and no rate can be set")]
    Base(Currency),
    /// It does not fit 64 bits.
    #[error("{amount} is too much to convert to {to}")]
    TooMuch {
        /// The amount.
        amount: Money,
        /// The wanted currency.
        to: Currency,
    },
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

/// What currencies are worth in the deployment's, by day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrencyTable {
    base: Currency,
    rates: BTreeMap<Currency, BTreeMap<Day, ExchangeRate>>,
}

impl CurrencyTable {
    /// A table that knows only the deployment's own currency.
    #[must_use]
    pub const fn new(base: Currency) -> Self {
        Self { base, rates: BTreeMap::new() }
    }

    /// The deployment's currency.
    #[must_use]
    pub const fn base(&self) -> Currency {
        self.base
    }

    /// Notes what one unit is worth from the day on.
    ///
    /// # Errors
    /// [`CurrencyError::Base`] for the deployment's own currency.
    pub fn set(&mut self, currency: Currency, from: Day, rate: ExchangeRate) -> Result<(), CurrencyError> {
        if currency == self.base {
            return Err(CurrencyError::Base(currency));
        }
        self.rates.entry(currency).or_default().insert(from, rate);
        Ok(())
    }

    /// What one unit is worth at the instant, by its day in UTC.
    ///
    /// # Errors
    /// [`CurrencyError::Unknown`], and [`CurrencyError::TooEarly`] before the first rate.
    pub fn rate(&self, currency: Currency, at: UnixMs) -> Result<ExchangeRate, CurrencyError> {
        if currency == self.base {
            return Ok(ExchangeRate(NANOS));
        }
        let known = || {
            let names = std::iter::once(&self.base).chain(self.rates.keys());
            names.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let unknown = || CurrencyError::Unknown { currency, base: self.base, known: known() };
        let rates = self.rates.get(&currency).ok_or_else(unknown)?;
        let day = Day::of(at);
        let Some((_, rate)) = rates.range(..=day).next_back() else {
            let first = *rates.keys().next().ok_or_else(unknown)?;
            return Err(CurrencyError::TooEarly { currency, day, first });
        };
        Ok(*rate)
    }

    /// The amount in another currency, at the rates of the instant; rounded once, to the nearest micro, halves away
    /// from zero.
    ///
    /// # Errors
    /// As [`CurrencyTable::rate`], and [`CurrencyError::TooMuch`].
    pub fn convert(&self, amount: Money, to: Currency, at: UnixMs) -> Result<Money, CurrencyError> {
        let (of, by) = (self.rate(amount.currency, at)?, self.rate(to, at)?);
        let micros = div_round(i128::from(amount.micros) * i128::from(of.0), i128::from(by.0));
        let micros = i64::try_from(micros).map_err(|_| CurrencyError::TooMuch { amount, to })?;
        Ok(Money { micros, currency: to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Currency {
        text.parse().unwrap()
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    fn table() -> CurrencyTable {
        let mut table = CurrencyTable::new(Currency::USD);
        for (currency, from, rate) in
            [("EUR", "2026-01-01", "1.05"), ("EUR", "2026-03-01", "1.10"), ("KRW", "2026-01-01", "0.00072")]
        {
            table.set(code(currency), day(from), rate.parse().unwrap()).unwrap();
        }
        table
    }

    #[test]
    fn the_rate_of_the_day_counts_and_halves_go_away_from_zero() {
        let table = table();
        let convert = |micros, from: &str, to: &str, on: &str| {
            let amount = Money { micros, currency: code(from) };
            table.convert(amount, code(to), day(on).start()).unwrap().micros
        };
        assert_eq!(convert(100_000_000, "EUR", "USD", "2026-02-28"), 105_000_000);
        assert_eq!(convert(100_000_000, "EUR", "USD", "2026-03-01"), 110_000_000);
        assert_eq!(convert(1_000_000_000_000, "KRW", "USD", "2026-03-01"), 720_000_000);
        assert_eq!(convert(10, "EUR", "USD", "2026-01-01"), 11, "10.5 away from zero");
        assert_eq!(convert(-10, "EUR", "USD", "2026-01-01"), -11);
        assert_eq!(convert(1_100_000, "EUR", "KRW", "2026-03-01"), 1_680_555_556, "one rounding, not two");
        assert_eq!(convert(7, "USD", "USD", "1970-01-01"), 7);
        let much = Money { micros: i64::MAX, currency: code("EUR") };
        let error = table.convert(much, Currency::USD, day("2026-03-01").start()).unwrap_err();
        assert!(matches!(error, CurrencyError::TooMuch { .. }));
    }

    #[test]
    fn what_is_not_known_is_named_with_the_way_out() {
        let mut table = table();
        let at = |text: &str| day(text).start();
        let error = table.rate(code("GBP"), at("2026-01-01")).unwrap_err().to_string();
        assert_eq!(
            error,
            "currency GBP is not known: set what it is worth in USD first; known are USD, EUR, KRW"
        );
        let error = table.rate(code("EUR"), at("2025-12-31")).unwrap_err().to_string();
        assert!(error.contains("no rate on 2025-12-31: its first is of 2026-01-01"), "{error}");
        let error = table.set(Currency::USD, day("2026-01-01"), "1".parse().unwrap()).unwrap_err();
        assert_eq!(error, CurrencyError::Base(Currency::USD));
        for wrong in ["", "0", "-1", "1e3", "1.0000000001", ".5", "1.", "99999999999999999999"] {
            let error = wrong.parse::<ExchangeRate>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }

    #[test]
    fn a_table_survives_storage() {
        let json = serde_json::to_string(&table()).unwrap();
        assert!(json.contains("\"2026-03-01\":\"1.1\""), "{json}");
        assert_eq!(serde_json::from_str::<CurrencyTable>(&json).unwrap(), table());
    }
}
