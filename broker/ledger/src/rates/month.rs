//! What a pool's month costs by its rate cards, and what it could give in it.
//!
//! A card that says what the pool costs says its accelerators too. Where the card is flat, the pool's cost is its
//! rates times its capacity. A card that comes within the month counts from then on; what was before the month's first
//! card counts by that, so that the month is whole. Rates in another currency cost what that is worth on each day. A class of several rates has their mean, by capacity.

use std::collections::BTreeMap;

use spillway_types::{GpuModel, HourlyRate, UnixMs};

use super::{Capacity, Card, CurrencyTable, Unused, div_round};
use crate::calendar::{Period, Zone};

/// A pool's month by its cards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostedMonth {
    /// What the pool costs, in micros.
    pub cost_micros: i64,
    /// What each class could give, in milliseconds of one accelerator, and what an hour of it costs.
    pub classes: BTreeMap<GpuModel, (u64, HourlyRate)>,
    /// Who pays for what nobody used, by the month's last card.
    pub unused: Unused,
}

/// The month of a pool from its begin until an instant of it. This is the one place where the amounts of a pool's cost
/// are read. None where there is no card by then, or where somebody lends the machines: what nobody used of those costs
/// nobody.
#[must_use]
pub fn costed_month(
    cards: &BTreeMap<UnixMs, Card>,
    capacity: &Capacity,
    (period, until): (Period, UnixMs),
    (zone, currencies): (&Zone, &CurrencyTable),
) -> Option<CostedMonth> {
    let (start, end) = (period.start(zone), period.end(zone));
    let until = until.clamp(start, end);
    let mut in_force: Vec<(UnixMs, &Card)> = vec![];
    for (at, card) in cards.range(..end).filter(|(at, _)| **at <= start || **at < until) {
        if *at <= start {
            in_force.clear();
        }
        in_force.push((if in_force.is_empty() { start } else { *at }, card));
    }
    if in_force.iter().any(|(_, card)| card.lending().is_some()) {
        return None;
    }
    let unused = in_force.last()?.1.unused().clone();
    let (mut cost, mut classes) = (0_i128, BTreeMap::<GpuModel, Class>::new());
    let ends = in_force.iter().skip(1).map(|(from, _)| *from).chain([until]);
    for ((from, card), to) in in_force.iter().zip(ends) {
        let rates = card.rates(period, zone);
        let mut give = |class: &GpuModel, ms: u64, at: UnixMs| {
            let rate = rates.get(class).copied().unwrap_or_default();
            let worth = currencies.rate(card.currency(), at);
            let rate = worth.map_or(rate, |worth| worth.of_rate(rate));
            classes.entry(class.clone()).or_default().add(ms, rate);
            i128::from(rate.cost_micros(1, 1, 0, ms))
        };
        let changes = currencies.changes(card.currency(), *from, to);
        let steps: Vec<UnixMs> = std::iter::once(*from).chain(changes).chain([to]).collect();
        for (from, to) in steps.iter().zip(steps.iter().skip(1)) {
            cost += match card {
                Card::Flat { .. } => capacity
                    .classes()
                    .map(|class| give(class, capacity.gpu_ms(class, *from, *to), *from))
                    .sum(),
                Card::Cost(pool) => {
                    for (class, share) in &pool.classes {
                        give(class, u64::from(share.gpus).saturating_mul(to.since(*from).0), *from);
                    }
                    let total = i128::from(pool.month(period, zone).total_micros());
                    let whole = i128::from(period.length_ms(zone)).max(1);
                    let by = |at: &UnixMs| total * i128::from(at.since(start).0) / whole;
                    let micros = by(to) - by(from);
                    currencies.rate(pool.currency, *from).map_or(micros, |worth| worth.of_micros(micros))
                }
            };
        }
    }
    let classes = classes.into_iter().map(|(class, it)| (class, (it.ms, it.rate()))).collect();
    Some(CostedMonth { cost_micros: i64::try_from(cost).unwrap_or(i64::MAX), classes, unused })
}

/// What a class could give, and what that is worth.
#[derive(Debug, Clone, Copy, Default)]
struct Class {
    ms: u64,
    /// Rate times milliseconds.
    worth: i128,
    last: HourlyRate,
}

impl Class {
    fn add(&mut self, ms: u64, rate: HourlyRate) {
        self.ms = self.ms.saturating_add(ms);
        self.worth = self.worth.saturating_add(i128::from(rate.0) * i128::from(ms));
        self.last = rate;
    }

    /// The mean, to the nearest micro; with no capacity the last.
    fn rate(&self) -> HourlyRate {
        if self.ms == 0 {
            return self.last;
        }
        i64::try_from(div_round(self.worth, i128::from(self.ms))).map_or(self.last, HourlyRate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::pool::tests::dgx;
    use crate::rates::{Lending, PoolCost};
    use spillway_types::Currency;

    const HOUR: i64 = 3_600_000;

    fn h100() -> GpuModel {
        "H100".parse().unwrap()
    }

    fn march() -> Period {
        "2026-03".parse().unwrap()
    }

    fn at(hours: i64) -> UnixMs {
        UnixMs(march().start(&Zone::utc()).0 + hours * HOUR)
    }

    fn flat(rate: i64) -> Card {
        let per_gpu = BTreeMap::from([(h100(), HourlyRate(rate))]);
        Card::Flat { per_gpu, lending: None, currency: Currency::USD, unused: Unused::ByUse }
    }

    fn month(cards: &[(UnixMs, Card)], until: UnixMs) -> Option<CostedMonth> {
        let mut capacity = Capacity::default();
        capacity.set(&h100(), at(-100), 8);
        capacity.set(&h100(), at(700), 4);
        costed_month(
            &cards.iter().cloned().collect(),
            &capacity,
            (march(), until),
            (&Zone::utc(), &CurrencyTable::default()),
        )
    }

    #[test]
    fn a_flat_pool_costs_its_rate_times_its_capacity() {
        let whole = month(&[(at(-5000), flat(9)), (at(-50), flat(2_000_000))], at(9999)).unwrap();
        let hours = 8 * 700 + 4 * 44;
        assert_eq!(whole.cost_micros, hours * 2_000_000);
        assert_eq!(whole.classes[&h100()], (u64::try_from(hours * HOUR).unwrap(), HourlyRate(2_000_000)));
        assert_eq!(whole.unused, Unused::ByUse);
        let so_far = month(&[(at(-50), flat(2_000_000))], at(10)).unwrap();
        assert_eq!(so_far.cost_micros, 80 * 2_000_000);
        assert_eq!(month(&[(at(744), flat(1))], at(9999)), None, "the next month's card");
        assert_eq!(month(&[], at(9999)), None);
    }

    #[test]
    fn cards_of_one_month_count_each_from_its_instant_and_the_first_from_the_begin() {
        let both = month(&[(at(100), flat(1_000_000)), (at(500), flat(3_000_000))], at(700)).unwrap();
        assert_eq!(both.cost_micros, 8 * 500 * 1_000_000 + 8 * 200 * 3_000_000);
        let mean = (500 * 1_000_000 + 200 * 3_000_000 + 350) / 700;
        assert_eq!(both.classes[&h100()].1, HourlyRate(mean));
    }

    #[test]
    fn a_costed_pool_has_the_gpus_and_the_cost_of_its_card_in_parts_that_sum_to_the_month() {
        let cost = || Card::Cost(dgx());
        let whole = month(&[(at(-50), cost())], at(9999)).unwrap();
        assert_eq!(whole.cost_micros, 10_910_640_000);
        assert_eq!(whole.classes[&h100()], (8 * 744 * 3_600_000, HourlyRate(2_291_381)));
        let parts = month(&[(at(-50), cost()), (at(17), cost()), (at(333), cost())], at(9999)).unwrap();
        assert_eq!(parts, whole);
        let half = month(&[(at(-50), cost())], at(372)).unwrap();
        assert_eq!(half.cost_micros, 10_910_640_000 / 2);
    }

    #[test]
    fn a_lent_pool_has_no_costs_of_ours() {
        let lending = Some(Lending::new("ada".parse().unwrap(), 800).unwrap());
        let (per_gpu, currency) = (BTreeMap::new(), Currency::USD);
        let lent = Card::Flat { per_gpu, lending, currency, unused: Unused::Idle };
        assert_eq!(month(&[(at(-5), flat(1)), (at(5), lent.clone())], at(9999)), None);
        assert!(month(&[(at(-9), lent), (at(-5), flat(1))], at(9999)).is_some(), "it was lent before");
    }

    #[test]
    fn a_card_in_another_currency_costs_what_that_is_worth_on_each_day() {
        let mut currencies = CurrencyTable::default();
        let euro: Currency = "EUR".parse().unwrap();
        for (day, rate) in [("2026-01-01", "1.1"), ("2026-03-11", "1.2")] {
            currencies.set(euro, day.parse().unwrap(), rate.parse().unwrap()).unwrap();
        }
        let per_gpu = BTreeMap::from([(h100(), HourlyRate(1_000_000))]);
        let card = Card::Flat { per_gpu, lending: None, currency: euro, unused: Unused::Idle };
        let mut capacity = Capacity::default();
        capacity.set(&h100(), at(0), 8);
        let cards = BTreeMap::from([(at(-5), card)]);
        let costed =
            costed_month(&cards, &capacity, (march(), at(20 * 24)), (&Zone::utc(), &currencies)).unwrap();
        let day = 8 * 24 * 1_000_000;
        assert_eq!(costed.cost_micros, 10 * day * 11 / 10 + 10 * day * 12 / 10);
        assert_eq!(costed.classes[&h100()].1, HourlyRate(1_150_000), "the mean");
        // A pool whose cost is in it accrues the same part of it each day.
        let pool = PoolCost { currency: euro, in_service: march(), ..dgx() };
        let total = pool.month(march(), &Zone::utc()).total_micros();
        let cards = BTreeMap::from([(at(0), Card::Cost(pool))]);
        let month = (march(), at(31 * 24));
        let costed = costed_month(&cards, &capacity, month, (&Zone::utc(), &currencies)).unwrap();
        let exactly = i64::try_from(i128::from(total) * (10 * 11 + 21 * 12) / 310).unwrap();
        assert!((costed.cost_micros - exactly).abs() <= 1, "{} and {exactly}", costed.cost_micros);
    }
}
