//! What happens from outside: offers change, providers take machines back, nodes and links fail and come back.
//!
//! A provider says so before it takes a machine back: its programs stop, and report. A node that fails, or whose link
//! is cut, falls silent: its programs are placed again once their leases are over, and it says what became of them
//! when it is back.

use std::collections::BTreeMap;

use spillway_core::entity::{Attempt, GoneReason, Instance};
use spillway_core::{Command, Refusal};
use spillway_policies::CloudOffer;
use spillway_types::lease::{DEFAULT_LEASE, silence_until_over};
use spillway_types::{AttemptState, DurationMs, InstanceId, InstanceState, Market, NodeId, UnixMs};

use super::driver::{Driver, Due};
use crate::{Failing, Fault, OfferNews, OfferStep, Outside, Random, World};

/// Apart from the draws for launches, so that these stay what they are.
const LIVES: u64 = 0x7370_6f74_206c_6966;

/// A node that is out of sight.
#[derive(Debug, Clone, Copy)]
struct Away {
    since: UnixMs,
    until: UnixMs,
    /// When its programs stop at the latest.
    stops: UnixMs,
    /// Whether its machine stopped, and begins anew.
    crashed: bool,
}

/// What is described, and how far it is.
#[derive(Debug)]
pub(super) struct Weather {
    steps: Vec<OfferStep>,
    faults: Vec<Fault>,
    /// Nodes in the order of the description.
    nodes: Vec<NodeId>,
    away: BTreeMap<NodeId, Away>,
    /// Links that are cut, and until when.
    cuts: Vec<(Failing, UnixMs)>,
    lives: Random,
}

/// Whether the instance is one of the offer's.
fn is_of(instance: &Instance, offer: &CloudOffer) -> bool {
    instance.cloud == offer.cloud
        && instance.site == offer.site
        && instance.instance_type == offer.instance_type
        && instance.market == offer.terms.market
}

impl Weather {
    pub(super) fn new(outside: Outside, nodes: Vec<NodeId>, seed: u64) -> Self {
        let Outside { steps, faults } = outside;
        let lives = Random::new(seed ^ LIVES);
        Self { steps, faults, nodes, away: BTreeMap::new(), cuts: vec![], lives }
    }

    /// Everything that is described, with its moment.
    pub(super) fn agenda(&self) -> impl Iterator<Item = (UnixMs, Due)> + '_ {
        let steps = (0..).zip(&self.steps).map(|(at, step)| (World::BEGIN.plus(step.at), Due::Offer(at)));
        let faults = (0..).zip(&self.faults).map(|(at, fault)| (World::BEGIN.plus(fault.at), Due::Fault(at)));
        steps.chain(faults)
    }

    /// When programs on a node that is out of sight stop at the latest.
    pub(super) fn stopped(&self, node: NodeId) -> Option<UnixMs> {
        self.away.get(&node).map(|away| away.stops)
    }
}

impl Driver<'_> {
    pub(super) fn offer_of(&self, instance: &Instance) -> Option<&CloudOffer> {
        self.world.federation().offers().iter().find(|offer| is_of(instance, offer))
    }

    /// Machines of an offer that are there, the newest first.
    fn alive_of(&self, offer: &CloudOffer) -> Vec<InstanceId> {
        let instances = self.world.state().instances.values();
        let there = instances.filter(|instance| {
            is_of(instance, offer)
                && instance.state != InstanceState::Terminating
                && self.world.machines().contains_key(&instance.id)
        });
        let mut there: Vec<(UnixMs, InstanceId)> = there.map(|i| (i.created, i.id)).collect();
        there.sort_unstable_by(|a, b| b.cmp(a));
        there.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether the provider has one more.
    pub(super) fn has_room(&self, offer: &CloudOffer) -> bool {
        offer.available == u32::MAX || self.alive_of(offer).len() < offer.available as usize
    }

    /// How long the provider lets a machine of this offer live, where that is not for ever.
    pub(super) fn life(&mut self, instance: InstanceId) -> Option<DurationMs> {
        let instance = self.world.state().instances.get(&instance)?;
        let terms = self.offer_of(instance)?.terms;
        let mean = terms.mean_life.filter(|_| terms.market == Market::Spot)?;
        Some(drawn(&mut self.outside.lives, mean))
    }

    /// An offer is another from now on.
    pub(super) fn change_offer(&mut self, step: usize) -> Result<(), Refusal> {
        let Some(OfferStep { offer: at, news, .. }) = self.outside.steps.get(step).copied() else {
            return Ok(());
        };
        let mut offers = self.world.federation().offers().to_vec();
        let Some(offer) = offers.get_mut(at) else { return Ok(()) };
        match news {
            OfferNews::Price(price) => offer.price = price,
            OfferNews::Available(available) => offer.available = available,
        }
        let offer = offer.clone();
        self.world.set_offers(offers);
        self.ask = true;
        let OfferNews::Available(available) = news else { return Ok(()) };
        let alive = self.alive_of(&offer);
        let excess = alive.len().saturating_sub(available as usize);
        alive.into_iter().take(excess).try_for_each(|id| self.reclaim(id))
    }

    /// The provider takes a machine back: it says so, programs stop and report, and the machine is gone.
    pub(super) fn reclaim(&mut self, id: InstanceId) -> Result<(), Refusal> {
        let Some(machine) = self.world.machines().get(&id) else { return Ok(()) };
        let node = machine.node;
        self.tally.trouble.interruptions += 1;
        if let Some(node) = node.filter(|node| self.world.is_up(*node)) {
            self.world.command(Command::Interrupt { node })?;
            self.contact(node)?;
        }
        self.ask = true;
        self.world.take_away(id, GoneReason::Vanished)
    }

    pub(super) fn fail(&mut self, fault: usize) -> Result<(), Refusal> {
        let Some(Fault { lasts, what, .. }) = self.outside.faults.get(fault).cloned() else { return Ok(()) };
        let until = self.world.now().plus(lasts);
        let nodes: Vec<NodeId> = match &what {
            Failing::Node(at) => self.outside.nodes.get(*at).copied().into_iter().collect(),
            Failing::Site(_) | Failing::Pool(_) => {
                let nodes = self.world.state().nodes.values();
                let cut = nodes.filter(|node| what.cuts(&node.site, node.pool.as_str()));
                cut.map(|node| node.id).collect()
            }
        };
        let crashed = matches!(what, Failing::Node(_));
        if !crashed {
            self.outside.cuts.push((what, until));
        }
        nodes.into_iter().try_for_each(|node| self.lose(node, until, crashed))
    }

    /// A node is out of sight until then; where it has `crashed`, its programs are no more.
    fn lose(&mut self, node: NodeId, until: UnixMs, crashed: bool) -> Result<(), Refusal> {
        if !self.world.nodes().contains_key(&node) {
            return Ok(());
        }
        let now = self.world.now();
        let stops = if crashed { now } else { now.plus(DEFAULT_LEASE) };
        let fresh = Away { since: now, until, stops, crashed };
        if self.world.is_up(node) {
            // Up to now it was heard, and so were its leases.
            self.contact(node)?;
            self.outside.away.insert(node, fresh);
        } else {
            let away = self.outside.away.entry(node).or_insert(fresh);
            away.until = away.until.max(until);
            away.stops = away.stops.min(stops);
            away.crashed |= crashed;
            self.world.advance(node);
        }
        self.due.push(std::cmp::Reverse((until, Due::Back(node))));
        let state = self.world.state();
        let attempts = state.nodes.get(&node).into_iter().flat_map(|node| node.parts.keys());
        let attempts = attempts.filter_map(|attempt| state.attempts.get(attempt));
        let bound = attempts.map(|attempt| silence_until_over(attempt.lease, attempt.grace)).max();
        if let Some(bound) = bound {
            self.due.push(std::cmp::Reverse((now.plus(bound), Due::Silent(node))));
        }
        if crashed { self.world.crash(node) } else { self.world.disconnect(node) }
    }

    /// A node was silent for long: what ran there is given up, where it still is.
    pub(super) fn fall_silent(&mut self, node: NodeId) -> Result<(), Refusal> {
        match self.outside.away.get(&node).copied() {
            Some(away) => self.world.silence(node, away.since),
            None => Ok(()),
        }
    }

    /// A node is in sight again, unless something else keeps it away: it says what became of its programs.
    pub(super) fn come_back(&mut self, node: NodeId) -> Result<(), Refusal> {
        let Some(away) = self.outside.away.get(&node).copied() else { return Ok(()) };
        if away.until > self.world.now() {
            return Ok(());
        }
        self.outside.away.remove(&node);
        if !self.world.nodes().contains_key(&node) {
            return Ok(());
        }
        self.world.advance(node);
        if away.crashed {
            self.world.restart(node)?
        } else {
            self.world.connect(node)?
        };
        self.ask = true;
        self.world.deliver(node)?;
        self.contact(node)
    }

    /// Until when the link to a machine that has booted is cut.
    pub(super) fn cut_until(&mut self, id: InstanceId) -> Option<UnixMs> {
        let now = self.world.now();
        self.outside.cuts.retain(|(_, until)| *until > now);
        let instance = self.world.state().instances.get(&id)?;
        // The pool of a region's machines has the region's name.
        let (site, pool) = (&instance.site, instance.site.as_str());
        let cuts = self.outside.cuts.iter().filter(|(what, _)| what.cuts(site, pool));
        cuts.map(|(_, until)| *until).max()
    }

    /// Usage of an attempt's silent parts is waited for so long, and no longer.
    pub(super) fn settle_in_time(&mut self, attempt: &Attempt) {
        if let Some(ended) = attempt.ended.filter(|_| attempt.state == AttemptState::Settling) {
            self.due.push(std::cmp::Reverse((ended.plus(self.limits.settle), Due::Settle)));
        }
    }
}

/// A life of this mean, as a Poisson process of interruptions gives it; at least a millisecond.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
#[expect(clippy::cast_precision_loss, reason = "a life is drawn, not counted")]
fn drawn(random: &mut Random, mean: DurationMs) -> DurationMs {
    let ms = (random.exponential() * mean.0 as f64) as u64;
    DurationMs(ms.max(1))
}
