//! What use costs by the rate cards of pools.
//!
//! A part's rate is frozen when it is placed. Where its pool has a rate card, the card is what it is charged by, at
//! each instant of its use; on cloud instances its share of the price that their catalogue said last.

use std::collections::BTreeMap;

use spillway_ledger::PricedIn;
use spillway_ledger::calendar::calendar_cuts;
use spillway_ledger::rates::{Lending, RateTrack};
use spillway_types::resources::MigSlice;
use spillway_types::{Allocation, AttemptId, DurationMs, GpuModel, HourlyRate, NodeCapacity, UnixMs};

use crate::State;
use crate::entity::{Node, Pool};

/// What an hour of a part costs over a slice of its use.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// In micros of dollars, which the books are in.
    pub(crate) track: RateTrack,
    /// What that was priced in from each step on; empty where it was dollars at all of them.
    priced: BTreeMap<UnixMs, Option<PricedIn>>,
}

impl Rates {
    /// What the rate at an instant was priced in; none where that was dollars.
    pub(crate) fn priced_at(&self, at: UnixMs) -> Option<PricedIn> {
        self.priced.range(..=at).next_back().and_then(|(_, priced)| *priced)
    }
}

/// What an hour costs at an instant, and what that was priced in where it was not dollars.
struct Quote {
    rate: HourlyRate,
    priced: Option<PricedIn>,
}

impl State {
    /// What an hour of a part costs over a slice of its use: what was frozen, or what its pool's card says.
    pub(crate) fn rates_of(&self, id: AttemptId, rank: usize, (from_ms, to_ms): (u64, u64)) -> Rates {
        let Some(attempt) = self.attempts.get(&id) else { return Rates::default() };
        let Some(part) = attempt.parts.get(rank) else { return Rates::default() };
        let began = attempt.began(rank);
        let span = (began.plus(DurationMs(from_ms)), began.plus(DurationMs(to_ms)));
        let node = part.node.and_then(|node| self.nodes.get(&node));
        let by_card = node.and_then(|node| self.rates_by_card(node, &part.allocation, span));
        by_card.unwrap_or_else(|| {
            let mut track = RateTrack::constant(part.rate);
            part.repriced.iter().for_each(|step| track.set(step.from, step.rate));
            Rates { track, priced: BTreeMap::new() }
        })
    }

    /// Who lends the machine of a part, each from an instant on, in order.
    pub(crate) fn lenders_of(&self, id: AttemptId, rank: usize) -> Vec<(UnixMs, Option<Lending>)> {
        let Some(attempt) = self.attempts.get(&id) else { return vec![] };
        let node = attempt.parts.get(rank).and_then(|part| self.nodes.get(&part.node?));
        let Some(pool) = node.map(|node| &node.pool).or(attempt.pool.as_ref()) else { return vec![] };
        let cards = self.rates.of(pool).into_iter().flatten();
        cards.map(|(at, card)| (*at, card.lending().cloned())).collect()
    }

    /// A step at each card, at each day, on which what a card's currency is worth may change, and at each month for cards
    /// that are made anew for each month.
    fn rates_by_card(
        &self,
        node: &Node,
        allocation: &Allocation,
        (from, to): (UnixMs, UnixMs),
    ) -> Option<Rates> {
        let days = calendar_cuts(from, to, self.periods.zone());
        let cards = self.rates.of(&node.pool).into_iter().flat_map(BTreeMap::keys).copied();
        let steps = cards.filter(|at| *at > from && *at < to);
        let cuts = std::iter::once(from).chain(days).chain(steps);
        let mut rates = Rates::default();
        for at in cuts {
            let Quote { rate, priced } = self.quote(node, allocation, at)?;
            rates.track.set(at, rate);
            // A card in dollars that follows another is noted too: steps of cards come last, in their order.
            if priced.is_some() || !rates.priced.is_empty() {
                rates.priced.insert(at, priced);
            }
        }
        Some(rates)
    }

    /// What the allocation costs an hour by the pool's card at the instant; none where there is no card, where the card
    /// does not know its accelerators, or on a cloud instance.
    pub(crate) fn card_rate(&self, node: &Node, allocation: &Allocation, at: UnixMs) -> Option<HourlyRate> {
        self.quote(node, allocation, at).map(|quote| quote.rate)
    }

    /// A card's rates are converted one by one at what its currency is worth on the day, CPUs are priced in dollars, and
    /// the sum is rounded up to a micro.
    fn quote(&self, node: &Node, allocation: &Allocation, at: UnixMs) -> Option<Quote> {
        if node.instance.is_some() {
            return None;
        }
        let currency = self.rates.card(&node.pool, at)?.currency();
        let worth = match currency == self.currencies.base() {
            true => None,
            false => Some(self.currencies.rate(currency, at).ok()?),
        };
        let (mut gpus, mut foreign) = (0_i128, 0_i128);
        for (model, blocks) in blocks_of(&node.inventory.as_ref()?.capacity, allocation)? {
            let rate = self.rates.rate_at(&node.pool, model, at, self.periods.zone()).ok()?;
            let converted = worth.map_or(rate, |worth| worth.of_rate(rate));
            gpus += i128::from(converted.0) * i128::from(blocks);
            foreign += i128::from(rate.0) * i128::from(blocks);
        }
        let per_cpu = self.pools.get(&node.pool).map_or(HourlyRate(0), |pool| pool.tariff.per_cpu);
        let cpus = up(i128::from(per_cpu.0) * i128::from(allocation.cpus_milli), 1000);
        let priced = match worth {
            None => None,
            Some(worth) => {
                let cpus = worth.into_rate(rate_of(cpus)?).0;
                Some(PricedIn { currency, rate: rate_of(up(foreign, 100) + i128::from(cpus))? })
            }
        };
        Some(Quote { rate: of_parts(gpus, per_cpu, allocation)?, priced })
    }

    /// What an hour of as much of a class costs at the instant in the cheapest of our own pools that is not lent: by its
    /// card or, where it has none and has such accelerators, by its tariff. None where no pool has a price for it.
    pub(crate) fn on_prem_rate(
        &self,
        class: &GpuModel,
        allocation: &Allocation,
        at: UnixMs,
    ) -> Option<HourlyRate> {
        let has = |pool: &Pool| {
            let capacity = self.pool_books.capacity.get(&pool.name);
            capacity.is_some_and(|capacity| capacity.now(class) > 0)
        };
        let per_gpu = |pool: &Pool| match self.rates.card(&pool.name, at) {
            Some(card) if card.lending().is_some() => None,
            Some(_) => {
                let by = (self.periods.zone(), &self.currencies);
                self.rates.converted_at(&pool.name, class, at, by).ok()
            }
            None => Some(pool.tariff.per_gpu).filter(|rate| rate.0 > 0 && has(pool)),
        };
        let rate = |pool: &Pool| {
            let gpus = i128::from(per_gpu(pool)?.0) * i128::from(allocation.blocks());
            of_parts(gpus, pool.tariff.per_cpu, allocation)
        };
        self.own_pools().filter_map(rate).min()
    }
}

/// What hundredths of GPU-hours in `gpus` and the CPUs of an allocation cost, each rounded up to a micro.
fn of_parts(gpus: i128, per_cpu: HourlyRate, allocation: &Allocation) -> Option<HourlyRate> {
    let cpus = up(i128::from(per_cpu.0) * i128::from(allocation.cpus_milli), 1000);
    rate_of(up(gpus, 100) + cpus)
}

fn rate_of(micros: i128) -> Option<HourlyRate> {
    i64::try_from(micros).ok().map(HourlyRate)
}

/// Hundredths of accelerators of each model; none where the node does not have what is allocated.
fn blocks_of<'a>(capacity: &'a NodeCapacity, allocation: &Allocation) -> Option<BTreeMap<&'a GpuModel, u64>> {
    let mut blocks: BTreeMap<&GpuModel, u64> = BTreeMap::new();
    for share in &allocation.shares {
        let model = &capacity.accelerators.iter().find(|it| it.index == share.index)?.model;
        *blocks.entry(model).or_default() += u64::from(share.blocks);
    }
    for uuid in &allocation.mig {
        let has = |slices: &[MigSlice]| slices.iter().any(|it| it.uuid == *uuid);
        let model = &capacity.accelerators.iter().find(|it| has(&it.mig))?.model;
        *blocks.entry(model).or_default() += 100;
    }
    Some(blocks)
}

/// Divided, and rounded up.
const fn up(value: i128, by: i128) -> i128 {
    (value + by - 1) / by
}
