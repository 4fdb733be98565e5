//! Currencies: what one unit is worth in the deployment's, by day.
//!
//! A rate holds from its day on until the next. Conversion multiplies and divides once, in 128 bits, and rounds the
//! result to the nearest micro, halves away from zero. What is posted is in the deployment's currency and is never
//! converted again: a rate of a day that has begun stays, so that what was reported of it is said for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{Currency, Money, UnixMs};

use super::{ExchangeRate, div_round};
use crate::calendar::{Day, Period};

/// Why an amount cannot be converted, or a rate cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// The table does not know it.
    #[error(
        "currency {currency} is not known: set what it is worth in {base} first, with `spillway currencies set \
         {currency} RATE`; known are {known}"
    )]
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
    /// Its day lies in a closed period.
    #[error(
        "from: {from} lies in period {period} or before it, which is closed; a rate can be set from {open} on"
    )]
    Closed {
        /// The wanted day.
        from: Day,
        /// The newest closed period.
        period: Period,
        /// The first day that can be had.
        open: Day,
    },
    /// What was charged on that day was charged at another rate.
    #[error(
        "from: on {from} {currency} is worth {rate}, and that day has begun, so that its rate stays; another one can \
         be set from {first} on"
    )]
    Begun {
        /// The currency.
        currency: Currency,
        /// The wanted day.
        from: Day,
        /// What counts on it.
        rate: ExchangeRate,
        /// The first day that can be had.
        first: Day,
    },
    /// It does not fit 64 bits.
    #[error("{amount} is too much to convert to {to}")]
    TooMuch {
        /// The amount.
        amount: Money,
        /// The wanted currency.
        to: Currency,
    },
}

/// What currencies are worth in the deployment's, by day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrencyTable {
    base: Currency,
    rates: BTreeMap<Currency, BTreeMap<Day, ExchangeRate>>,
}

impl Default for CurrencyTable {
    fn default() -> Self {
        Self::new(Currency::USD)
    }
}

/// An amount as it was stated in another currency than the deployment's. It was converted once, when it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// What was stated.
    pub amount: Money,
    /// What one unit was worth then, in the deployment's currency.
    pub rate: ExchangeRate,
    /// The day whose rate that is, in UTC.
    pub on: Day,
}

/// A stretch of time over which a currency is worth the same, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Its first instant.
    pub from: UnixMs,
    /// The first instant after it.
    pub to: UnixMs,
    /// What one unit is worth; none before the currency's first rate.
    pub rate: Option<ExchangeRate>,
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

    /// Notes what one unit is worth from the day on, where that changes nothing that was charged: `today` is the day in
    /// UTC, `closed` the newest closed period with the first day that begins after it. The same again is no change.
    ///
    /// A rate can be of a day to come, of today where none was set for it, or of a day before the currency's first.
    ///
    /// # Errors
    /// [`CurrencyError::Base`], [`CurrencyError::Closed`] and [`CurrencyError::Begun`]; nothing changed.
    pub fn set_checked(
        &mut self,
        currency: Currency,
        (from, rate): (Day, ExchangeRate),
        today: Day,
        closed: Option<(Period, Day)>,
    ) -> Result<(), CurrencyError> {
        let known = self.rates.get(&currency);
        if known.and_then(|rates| rates.get(&from)) == Some(&rate) {
            return Ok(());
        }
        if let Some((period, open)) = closed.filter(|(_, open)| from < *open) {
            return Err(CurrencyError::Closed { from, period, open });
        }
        let counts = known.and_then(|rates| rates.range(..=from).next_back());
        if let Some((day, rate)) = counts
            && from <= today
            && !(from == today && *day < today)
        {
            let is_set = known.is_some_and(|rates| rates.contains_key(&today));
            let first = if is_set { today.plus(1) } else { today };
            return Err(CurrencyError::Begun { currency, from, rate: *rate, first });
        }
        self.set(currency, from, rate)
    }

    /// The rates of a currency, each with the day from which it is good; none where it is not known.
    #[must_use]
    pub fn of(&self, currency: Currency) -> Option<&BTreeMap<Day, ExchangeRate>> {
        self.rates.get(&currency)
    }

    /// Puts the rates of a currency back, as a database has them.
    pub fn restore(&mut self, currency: Currency, rates: BTreeMap<Day, ExchangeRate>) {
        self.rates.insert(currency, rates);
    }

    /// Every rate of every currency but the deployment's, with the day from which it is good.
    pub fn rates(&self) -> impl Iterator<Item = (Currency, Day, ExchangeRate)> {
        let each = |(currency, rates): (&Currency, _)| {
            let currency = *currency;
            let rates: &BTreeMap<Day, ExchangeRate> = rates;
            rates.iter().map(move |(day, rate)| (currency, *day, *rate)).collect::<Vec<_>>()
        };
        self.rates.iter().flat_map(each)
    }

    /// The instants strictly between `from` and `to` at which a currency's rate is set anew.
    pub fn changes(&self, currency: Currency, from: UnixMs, to: UnixMs) -> impl Iterator<Item = UnixMs> {
        let days = self.rates.get(&currency).into_iter();
        let days = days.flat_map(move |rates| rates.range(Day::of(from)..).map(|(day, _)| day.start()));
        days.skip_while(move |at| *at <= from).take_while(move |at| *at < to)
    }

    /// The stretches of `from` to `to` over which a currency is worth the same, in order, without gap or overlap.
    #[must_use]
    pub fn stretches(&self, currency: Currency, from: UnixMs, to: UnixMs) -> Vec<Stretch> {
        let cuts: Vec<UnixMs> = self.changes(currency, from, to).chain([to]).collect();
        let begins = std::iter::once(from).chain(cuts.iter().copied());
        let stretches = begins.zip(&cuts).map(|(from, to)| Stretch {
            from,
            to: *to,
            rate: self.rate(currency, from).ok(),
        });
        stretches.filter(|stretch| stretch.from < stretch.to).collect()
    }

    /// An amount that is stated in any currency, in micros of the deployment's at the rate of the instant, with what was
    /// stated; that is none where it is the deployment's.
    ///
    /// # Errors
    /// As [`CurrencyTable::convert`].
    pub fn stated(&self, amount: Money, at: UnixMs) -> Result<(i64, Option<Stated>), CurrencyError> {
        let micros = self.convert(amount, self.base, at)?.micros;
        let stated = Stated { amount, rate: self.rate(amount.currency, at)?, on: Day::of(at) };
        Ok((micros, (amount.currency != self.base).then_some(stated)))
    }

    /// What one unit is worth at the instant, by its day in UTC.
    ///
    /// # Errors
    /// [`CurrencyError::Unknown`], and [`CurrencyError::TooEarly`] before the first rate.
    pub fn rate(&self, currency: Currency, at: UnixMs) -> Result<ExchangeRate, CurrencyError> {
        if currency == self.base {
            return Ok(ExchangeRate::ONE);
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
        let micros = div_round(i128::from(amount.micros) * of.nanos(), by.nanos());
        let micros = i64::try_from(micros).map_err(|_| CurrencyError::TooMuch { amount, to })?;
        Ok(Money { micros, currency: to })
    }
}

#[cfg(test)]
mod tests;
