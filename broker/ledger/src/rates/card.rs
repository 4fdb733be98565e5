//! The rate cards of pools, with the instant from which each is good.
//!
//! A card is never changed: a new one follows it. None can be set back into a closed period, so that no closed
//! figure changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{Currency, GpuModel, HourlyRate, PoolName, UnixMs};

use super::{CurrencyError, CurrencyTable, Lending, PoolCost, PoolCostError, RateTrack, Unused, UnusedError};
use crate::calendar::{Period, Zone};

/// What a pool charges, from an instant on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "basis", deny_unknown_fields)]
pub enum Card {
    /// Stated rates.
    Flat {
        /// For a GPU-hour of each class.
        per_gpu: BTreeMap<GpuModel, HourlyRate>,
        /// Whose machines they are, where somebody lends them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lending: Option<Lending>,
        /// What the rates are stated in. Each day's use is charged at what that was worth on the day.
        #[serde(default, skip_serializing_if = "is_dollars")]
        currency: Currency,
        /// Who pays for what nobody used of a month.
        #[serde(default, skip_serializing_if = "Unused::is_idle")]
        unused: Unused,
    },
    /// What the pool costs in dollars, recovered by its expected use, made anew for each month.
    Cost(PoolCost),
}

pub(super) fn is_dollars(currency: &Currency) -> bool {
    *currency == Currency::USD
}

/// Why there is no rate, or a card cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The pool has no card that early.
    #[error("pool {pool} has no rate card at {at}: set one that is good then, with `spillway rates set`")]
    NoCard {
        /// The pool.
        pool: PoolName,
        /// The instant.
        at: UnixMs,
    },
    /// The card has no such class.
    #[error("the rate card of pool {pool} at {at} has no class {class}: it has {known}")]
    NoClass {
        /// The pool.
        pool: PoolName,
        /// The instant.
        at: UnixMs,
        /// The class.
        class: GpuModel,
        /// What it has, separated by commas.
        known: String,
    },
    /// It would be good in a period that is closed.
    #[error(
        "effective: {at} lies in period {period} or before it, which is closed: a rate can be good from {open} on; to \
         correct what was charged, post corrections in the open period"
    )]
    Closed {
        /// The wanted instant.
        at: UnixMs,
        /// The newest closed period.
        period: Period,
        /// The earliest instant that can be had.
        open: UnixMs,
    },
    /// A rate below 0.
    #[error("per_gpu: the rate of {class} is {rate}: give 0 or more")]
    Negative {
        /// The class.
        class: GpuModel,
        /// What was given.
        rate: HourlyRate,
    },
    /// The pool's cost cannot be.
    #[error(transparent)]
    Cost(#[from] PoolCostError),
    /// What the card's currency is worth is not known.
    #[error(transparent)]
    Currency(#[from] CurrencyError),
    /// What nobody used cannot be shared so.
    #[error(transparent)]
    Unused(#[from] UnusedError),
}

/// All cards.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateBook(BTreeMap<PoolName, BTreeMap<UnixMs, Card>>);

impl RateBook {
    /// Sets the card that is good from `effective` on. `closed` is the newest closed period, in the zone of periods.
    ///
    /// # Errors
    /// [`RateError::Closed`], [`RateError::Negative`], [`RateError::Cost`] and [`RateError::Unused`]; nothing changed.
    pub fn set(
        &mut self,
        pool: PoolName,
        effective: UnixMs,
        card: Card,
        closed: Option<Period>,
        zone: &Zone,
    ) -> Result<(), RateError> {
        if let Some(period) = closed.filter(|period| effective < period.end(zone)) {
            return Err(RateError::Closed { at: effective, period, open: period.end(zone) });
        }
        match &card {
            Card::Flat { per_gpu, .. } => {
                if let Some((class, rate)) = per_gpu.iter().find(|(_, rate)| rate.0 < 0) {
                    return Err(RateError::Negative { class: class.clone(), rate: *rate });
                }
            }
            Card::Cost(cost) => cost.check()?,
        }
        card.unused().check()?;
        self.0.entry(pool).or_default().insert(effective, card);
        Ok(())
    }

    /// The card that is good at the instant.
    #[must_use]
    pub fn card(&self, pool: &PoolName, at: UnixMs) -> Option<&Card> {
        self.0.get(pool)?.range(..=at).next_back().map(|(_, card)| card)
    }

    /// The cards of a pool, each with the instant from which it is good.
    #[must_use]
    pub fn of(&self, pool: &PoolName) -> Option<&BTreeMap<UnixMs, Card>> {
        self.0.get(pool)
    }

    /// Puts the cards of a pool back, as a database has them.
    pub fn restore(&mut self, pool: PoolName, cards: BTreeMap<UnixMs, Card>) {
        self.0.insert(pool, cards);
    }

    /// Every card of every pool, with the instant from which it is good.
    pub fn cards(&self) -> impl Iterator<Item = (&PoolName, UnixMs, &Card)> {
        self.0.iter().flat_map(|(pool, cards)| cards.iter().map(move |(at, card)| (pool, *at, card)))
    }

    /// What a GPU-hour of the class costs at the instant, in the currency of the card.
    ///
    /// # Errors
    /// [`RateError::NoCard`] and [`RateError::NoClass`].
    pub fn rate_at(
        &self,
        pool: &PoolName,
        class: &GpuModel,
        at: UnixMs,
        zone: &Zone,
    ) -> Result<HourlyRate, RateError> {
        let card = self.card(pool, at).ok_or_else(|| RateError::NoCard { pool: pool.clone(), at })?;
        let rates = card.rates(Period::of(at, zone), zone);
        let no_class = || RateError::NoClass {
            pool: pool.clone(),
            at,
            class: class.clone(),
            known: rates.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        rates.get(class).copied().ok_or_else(no_class)
    }

    /// What a GPU-hour of the class costs at the instant, in micros of the deployment's currency.
    ///
    /// # Errors
    /// As [`RateBook::rate_at`], and [`RateError::Currency`] where nothing is known of what the card's currency is worth then.
    pub fn converted_at(
        &self,
        pool: &PoolName,
        class: &GpuModel,
        at: UnixMs,
        (zone, currencies): (&Zone, &CurrencyTable),
    ) -> Result<HourlyRate, RateError> {
        let rate = self.rate_at(pool, class, at, zone)?;
        let foreign = self.card(pool, at).map(Card::currency).filter(|it| *it != currencies.base());
        Ok(match foreign {
            Some(currency) => currencies.rate(currency, at)?.of_rate(rate),
            None => rate,
        })
    }

    /// The rates of a class over `from..to`, in micros of the deployment's currency: a step at each card, where what a
    /// card's currency is worth changes, and for cards made of a cost at each month.
    ///
    /// # Errors
    /// As [`RateBook::rate_at`], and [`RateError::Currency`], at any instant of the interval.
    pub fn track(
        &self,
        pool: &PoolName,
        class: &GpuModel,
        (from, to): (UnixMs, UnixMs),
        zone: &Zone,
        currencies: &CurrencyTable,
    ) -> Result<RateTrack, RateError> {
        let converted = |at: UnixMs| self.converted_at(pool, class, at, (zone, currencies));
        let mut track = RateTrack::default();
        track.set(from, converted(from)?);
        let cards = || self.0.get(pool).into_iter().flatten();
        let currency_changes = cards().flat_map(|(_, card)| currencies.changes(card.currency(), from, to));
        let months = std::iter::successors(Some(Period::of(from, zone).next()), |it| Some(it.next()));
        let months = months.map(|period| period.start(zone)).take_while(|at| *at < to);
        let inside = |at: &UnixMs| *at > from && *at < to;
        for at in cards().map(|(at, _)| *at).filter(inside).chain(currency_changes).chain(months) {
            track.set(at, converted(at)?);
        }
        Ok(track)
    }
}

impl Card {
    /// What its rates are stated in.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        match self {
            Self::Flat { currency, .. } => *currency,
            Self::Cost(cost) => cost.currency,
        }
    }

    /// Who lends the pool's machines, and for which share of what is charged; none where nobody does.
    #[must_use]
    pub const fn lending(&self) -> Option<&Lending> {
        match self {
            Self::Flat { lending, .. } => lending.as_ref(),
            Self::Cost(_) => None,
        }
    }

    /// Who pays for what nobody used of a month.
    #[must_use]
    pub const fn unused(&self) -> &Unused {
        match self {
            Self::Flat { unused, .. } => unused,
            Self::Cost(cost) => &cost.unused,
        }
    }

    /// What a GPU-hour of each class costs in the period.
    #[must_use]
    pub fn rates(&self, period: Period, zone: &Zone) -> BTreeMap<GpuModel, HourlyRate> {
        match self {
            Self::Flat { per_gpu, .. } => per_gpu.clone(),
            Self::Cost(cost) => cost.rates(period, zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::pool::tests::dgx;

    fn flat(rate: i64) -> Card {
        in_currency(rate, "USD")
    }

    fn in_currency(rate: i64, currency: &str) -> Card {
        let per_gpu = BTreeMap::from([("H100".parse().unwrap(), HourlyRate(rate))]);
        let currency = currency.parse().unwrap();
        Card::Flat { per_gpu, lending: None, currency, unused: Unused::Idle }
    }

    fn start(period: &str) -> UnixMs {
        period.parse::<Period>().unwrap().start(&Zone::utc())
    }

    fn book(cards: &[(&str, Card)]) -> RateBook {
        let mut book = RateBook::default();
        for (from, card) in cards {
            book.set("dgx".parse().unwrap(), start(from), card.clone(), None, &Zone::utc()).unwrap();
        }
        book
    }

    #[test]
    fn the_card_of_the_instant_counts() {
        let book = book(&[("2026-02", flat(2_000_000)), ("2026-04", flat(1_500_000))]);
        let rate = |pool: &str, class: &str, at| {
            book.rate_at(&pool.parse().unwrap(), &class.parse().unwrap(), at, &Zone::utc())
        };
        assert_eq!(rate("dgx", "H100", start("2026-03")), Ok(HourlyRate(2_000_000)));
        assert_eq!(rate("dgx", "H100", UnixMs(start("2026-04").0 - 1)), Ok(HourlyRate(2_000_000)));
        assert_eq!(rate("dgx", "H100", start("2026-04")), Ok(HourlyRate(1_500_000)));
        for (pool, class, at, words) in [
            ("dgx", "H100", start("2026-01"), "pool dgx has no rate card at 2026-01-01"),
            ("lab", "H100", start("2026-03"), "pool lab has no rate card"),
            ("dgx", "A100", start("2026-03"), "has no class A100: it has H100"),
        ] {
            let error = rate(pool, class, at).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(book.cards().count(), 2);
    }

    #[test]
    fn a_track_steps_at_each_card_and_each_month() {
        let book = book(&[("2026-01", Card::Cost(dgx())), ("2026-04", flat(1_500_000))]);
        let (pool, class) = ("dgx".parse().unwrap(), "H100".parse().unwrap());
        let span = (UnixMs(start("2026-02").0 + 5), UnixMs(start("2026-05").0));
        let track = book.track(&pool, &class, span, &Zone::utc(), &CurrencyTable::default()).unwrap();
        let changes: Vec<UnixMs> = track.changes(span.0, span.1).collect();
        assert_eq!(changes, [start("2026-03"), start("2026-04")]);
        let rates: Vec<i64> =
            [span.0, changes[0], changes[1]].iter().map(|at| track.at(*at).unwrap().0).collect();
        assert!(rates[0] > rates[1], "February is shorter, so its hours cost more: {rates:?}");
        assert_eq!(rates[2], 1_500_000);
    }

    #[test]
    fn a_track_steps_where_the_worth_of_the_cards_currency_changes() {
        let book = book(&[
            ("2026-01", in_currency(2_000_000, "EUR")),
            ("2026-03", flat(3_000_000)),
            ("2026-04", in_currency(2_600_000_000, "KRW")),
        ]);
        let mut currencies = CurrencyTable::default();
        for (currency, day, rate) in [
            ("EUR", "2026-01-01", "1.05"),
            ("EUR", "2026-02-10", "1.0853"),
            ("EUR", "2026-03-10", "9"),
            ("KRW", "2026-01-01", "0.00072"),
        ] {
            currencies.set(currency.parse().unwrap(), day.parse().unwrap(), rate.parse().unwrap()).unwrap();
        }
        let (pool, class) = ("dgx".parse().unwrap(), "H100".parse().unwrap());
        let span = (start("2026-02"), start("2026-05"));
        let track = book.track(&pool, &class, span, &Zone::utc(), &currencies).unwrap();
        let at = |day: &str| track.at(day.parse::<crate::calendar::Day>().unwrap().start()).unwrap().0;
        for (day, rate) in [
            ("2026-02-09", 2_100_000),
            ("2026-02-10", 2_170_600),
            ("2026-03-10", 3_000_000),
            ("2026-04-01", 1_872_000),
        ] {
            assert_eq!(at(day), rate, "{day}");
        }
        let unknown = book.track(&pool, &class, span, &Zone::utc(), &CurrencyTable::default()).unwrap_err();
        assert!(unknown.to_string().contains("currency EUR is not known"), "{unknown}");
    }

    #[test]
    fn a_card_in_dollars_is_stored_as_it_always_was() {
        let json = serde_json::to_string(&flat(1)).unwrap();
        assert_eq!(json, r#"{"basis":"flat","per_gpu":{"H100":1}}"#);
        assert_eq!(serde_json::from_str::<Card>(&json).unwrap(), flat(1));
        let euros = serde_json::to_string(&in_currency(1, "EUR")).unwrap();
        assert!(euros.contains(r#""currency":"EUR""#), "{euros}");
        assert_eq!(serde_json::from_str::<Card>(&euros).unwrap(), in_currency(1, "EUR"));
    }

    #[test]
    fn a_rate_in_a_closed_period_is_refused_with_the_first_instant_that_can_be() {
        let mut book = book(&[("2026-02", flat(1))]);
        let before = book.clone();
        let mut set = |at, card| {
            book.set("dgx".parse().unwrap(), at, card, Some("2026-03".parse().unwrap()), &Zone::utc())
        };
        let error = set(UnixMs(start("2026-04").0 - 1), flat(2)).unwrap_err().to_string();
        assert!(error.contains("2026-03") && error.contains("from 2026-04-01T00:00:00.000Z on"), "{error}");
        assert!(matches!(set(start("2026-04"), flat(-1)), Err(RateError::Negative { .. })));
        let broken = PoolCost { lifetime_months: 0, ..dgx() };
        assert!(matches!(set(start("2026-04"), Card::Cost(broken)), Err(RateError::Cost(_))));
        assert_eq!(set(start("2026-04"), flat(2)), Ok(()));
        assert_eq!(book.cards().count(), before.cards().count() + 1, "only the last one was set");
        let json = serde_json::to_string(&book).unwrap();
        assert_eq!(serde_json::from_str::<RateBook>(&json).unwrap(), book);
    }
}
