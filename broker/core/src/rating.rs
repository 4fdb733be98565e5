//! What use costs by the rate cards of pools.
//!
//! A part's rate is frozen when it is placed. Where its pool has a rate card, the card is what it is charged by, at
//! each instant of its use; on cloud instances its share of the price that their catalogue said last.

use std::collections::BTreeMap;

use spillway_ledger::calendar::calendar_cuts;
use spillway_ledger::rates::{Lending, RateTrack};
use spillway_types::{Allocation, AttemptId, DurationMs, GpuModel, HourlyRate, UnixMs};

use crate::State;
use crate::entity::Node;

impl State {
    /// What an hour of a part costs over a slice of its use: what was frozen, or what its pool's card says.
    pub(crate) fn rates_of(&self, id: AttemptId, rank: usize, (from_ms, to_ms): (u64, u64)) -> RateTrack {
        let Some(attempt) = self.attempts.get(&id) else { return RateTrack::default() };
        let Some(part) = attempt.parts.get(rank) else { return RateTrack::default() };
        let began = attempt.began(rank);
        let span = (began.plus(DurationMs(from_ms)), began.plus(DurationMs(to_ms)));
        let node = part.node.and_then(|node| self.nodes.get(&node));
        let by_card = node.and_then(|node| self.rates_by_card(node, &part.allocation, span));
        by_card.unwrap_or_else(|| {
            let mut rates = RateTrack::constant(part.rate);
            part.repriced.iter().for_each(|step| rates.set(step.from, step.rate));
            rates
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
        let cpus = i128::from(per_cpu.0) * i128::from(allocation.cpus_milli);
        let up = |value: i128, by: i128| (value + by - 1) / by;
        i64::try_from(up(gpus, 100) + up(cpus, 1000)).ok().map(HourlyRate)
    }
}
