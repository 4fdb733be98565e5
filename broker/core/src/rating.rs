//! What use costs by the rate cards of pools.
//!
//! A part's rate is frozen when it is placed. Where its pool has a rate card, the card is what it is charged by, at
//! each instant of its use; cloud instances have the price of their intent.

use std::collections::BTreeMap;

use spillway_ledger::calendar::calendar_cuts;
use spillway_ledger::rates::{Lending, RateTrack};
use spillway_types::{Allocation, AttemptId, DurationMs, GpuModel, HourlyRate, UnixMs};

use crate::State;
use crate::entity::{Node, Pool};

impl State {
    /// What an hour of a part costs over a slice of its use: what was frozen, or what its pool's card says.
    pub(crate) fn rates_of(&self, id: AttemptId, rank: usize, (from_ms, to_ms): (u64, u64)) -> RateTrack {
        let Some(attempt) = self.attempts.get(&id) else { return RateTrack::default() };
        let Some(part) = attempt.parts.get(rank) else { return RateTrack::default() };
        let began = attempt.began(rank);
        let span = (began.plus(DurationMs(from_ms)), began.plus(DurationMs(to_ms)));
        let node = part.node.and_then(|node| self.nodes.get(&node));
        let by_card = node.and_then(|node| self.rates_by_card(node, &part.allocation, span));
        by_card.unwrap_or_else(|| RateTrack::constant(part.rate))
    }

    /// Who lends the machine of a part, each from an instant on, in order.
    pub(crate) fn lenders_of(&self, id: AttemptId, rank: usize) -> Vec<(UnixMs, Option<Lending>)> {
        let Some(attempt) = self.attempts.get(&id) else { return vec![] };
        let node = attempt.parts.get(rank).and_then(|part| self.nodes.get(&part.node?));
        let Some(pool) = node.map(|node| &node.pool).or(attempt.pool.as_ref()) else { return vec![] };
        let cards = self.rates.of(pool).into_iter().flatten();
        cards.map(|(at, card)| (*at, card.lending().cloned())).collect()
    }

    /// A step at each card, and at each month for cards that are made anew for each month.
    fn rates_by_card(
        &self,
        node: &Node,
        allocation: &Allocation,
        (from, to): (UnixMs, UnixMs),
    ) -> Option<RateTrack> {
        self.card_rate(node, allocation, from)?;
        let days = calendar_cuts(from, to, self.periods.zone());
        let cards = self.rates.of(&node.pool).into_iter().flat_map(BTreeMap::keys).copied();
        let steps = cards.filter(|at| *at > from && *at < to);
        let cuts = std::iter::once(from).chain(days).chain(steps);
        cuts.map(|at| Some((at, self.card_rate(node, allocation, at)?))).collect()
    }

    /// What the allocation costs an hour by the pool's card at the instant, rounded up to a micro; none where there is
    /// no card, where the card does not know its accelerators, or on a cloud instance.
    pub(crate) fn card_rate(&self, node: &Node, allocation: &Allocation, at: UnixMs) -> Option<HourlyRate> {
        if node.instance.is_some() {
            return None;
        }
        self.rates.card(&node.pool, at)?;
        let accelerators = &node.inventory.as_ref()?.capacity.accelerators;
        let mut blocks: BTreeMap<&GpuModel, u64> = BTreeMap::new();
        for share in &allocation.shares {
            let model = &accelerators.iter().find(|it| it.index == share.index)?.model;
            *blocks.entry(model).or_default() += u64::from(share.blocks);
        }
        for uuid in &allocation.mig {
            let has =
                |slices: &[spillway_types::resources::MigSlice]| slices.iter().any(|it| it.uuid == *uuid);
            let model = &accelerators.iter().find(|it| has(&it.mig))?.model;
            *blocks.entry(model).or_default() += 100;
        }
        let mut gpus = 0_i128;
        for (model, blocks) in blocks {
            let rate = self.rates.rate_at(&node.pool, model, at, self.periods.zone()).ok()?;
            gpus += i128::from(rate.0) * i128::from(blocks);
        }
        let per_cpu = self.pools.get(&node.pool).map_or(HourlyRate(0), |pool| pool.tariff.per_cpu);
        of_parts(gpus, per_cpu, allocation)
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
            Some(_) => self.rates.rate_at(&pool.name, class, at, self.periods.zone()).ok(),
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
    let cpus = i128::from(per_cpu.0) * i128::from(allocation.cpus_milli);
    let up = |value: i128, by: i128| (value + by - 1) / by;
    i64::try_from(up(gpus, 100) + up(cpus, 1000)).ok().map(HourlyRate)
}
