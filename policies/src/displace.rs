//! What is stopped so that it, or another, runs better elsewhere: jobs that give way to more urgent ones, and jobs that
//! come home from a cloud. Only what may start twice, and never without the grace its job asks for.
//!
//! A job that gives way is chosen by what is lost: what it computed since its newest checkpoint, at what it is charged.
//! It gives way only where that is less than what the urgent job's wait, or its cloud, costs. A job moves only where
//! what it saves is clearly more than what it computes again. What is freed is given out by the next plan, which sees
//! the stopping part end within its grace. An urgent gang takes the nodes where least is lost on each; left out on
//! purpose: other sets of nodes, where what two of them run together would be lost once.

use std::collections::BTreeSet;

use spillway_types::{AttemptId, Market, UnixMs};

use crate::item::{Item, age, real, signed, standing};
use crate::lay::{Best, Here, Laid, Spot};
use crate::planner::Planner;
use crate::policy::ComeHome;
use crate::risk::Progress;
use crate::shape::Tier;
use crate::{Displacement, PartOwner, Restarts, RunningPart, words};

/// Most attempts that one plan stops: each is a job's time lost, and the next plan is never far.
const MOST: usize = 32;
/// A move has to save this part of what the rest of the run costs, or more: estimates are wrong by as much.
const LEAST_GAIN: f64 = 0.1;

/// A way to make room on one node, or on all of a gang's.
struct Room {
    nodes: Vec<usize>,
    /// What is stopped, and what each loses in micros.
    stops: Vec<(AttemptId, f64)>,
    /// When they have stopped at the latest.
    free_at: i64,
}

impl Room {
    fn lost_micros(&self) -> f64 {
        self.stops.iter().map(|(_, lost)| lost).sum()
    }

    /// The cheapest first; of these the first.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.lost_micros().total_cmp(&other.lost_micros()).then_with(|| self.nodes.cmp(&other.nodes))
    }

    /// With another's nodes; what runs on both stops once.
    fn with(mut self, other: Self) -> Self {
        self.nodes.extend(other.nodes);
        for stop in other.stops {
            if !self.stops.iter().any(|(attempt, _)| *attempt == stop.0) {
                self.stops.push(stop);
            }
        }
        self.free_at = self.free_at.max(other.free_at);
        self
    }
}

impl Planner {
    /// What is to be stopped. Changes in the layout where the urgent jobs go.
    pub(crate) fn displace(&mut self) -> Vec<Displacement> {
        let mut stopped: Vec<Displacement> = Vec::new();
        let mut used: BTreeSet<usize> = self.nodes_given_now();
        for at in 0..self.layout.laid.len() {
            if stopped.len() >= MOST {
                break;
            }
            let Some(room) = self.room_for(at, &used, &stopped) else { continue };
            let slot = self.layout.sequence[at];
            let Some(item) = self.item(slot) else { continue };
            let because = format!(
                "gives way to {} of {}, which comes before it; what is lost is worth {}",
                item.job.job,
                item.job.group,
                words::amount(crate::item::whole(room.lost_micros()))
            );
            let hold = |node: &usize| self.ground().fit_of(item, *node).map_or(0, |fit| item.part_hold(&fit));
            let hold_micros = room.nodes.iter().map(hold).fold(0, i64::saturating_add);
            used.extend(&room.nodes);
            let stop = |(attempt, _): &(AttemptId, f64)| Displacement {
                attempt: *attempt,
                because: because.clone(),
            };
            stopped.extend(room.stops.iter().map(stop));
            let here = Here { start: room.free_at, nodes: room.nodes, hold_micros };
            self.layout.laid[at] = Laid { spot: Spot::Here(here), cost: self.layout.laid[at].cost };
        }
        if self.policy.come_home == ComeHome::WhenWorth {
            self.send_home(&mut stopped);
        }
        stopped
    }

    fn nodes_given_now(&self) -> BTreeSet<usize> {
        let starts = self.layout.laid.iter().filter_map(|laid| match &laid.spot {
            Spot::Here(here) if here.start <= self.now => Some(&here.nodes),
            Spot::Here(_) | Spot::Launch(_) | Spot::Blocked(_) => None,
        });
        starts.flatten().copied().collect()
    }

    /// The cheapest room for an urgent task that would wait or leave otherwise, where that pays.
    fn room_for(&self, at: usize, used: &BTreeSet<usize>, stopped: &[Displacement]) -> Option<Room> {
        let laid = &self.layout.laid[at];
        let item = self.item(self.layout.sequence[at])?;
        let waits = match &laid.spot {
            Spot::Here(here) => here.start > self.now,
            Spot::Launch(_) => true,
            Spot::Blocked(reason) => *reason == spillway_types::Reason::Resources,
        };
        if !waits || !item.terms.preempts {
            return None;
        }
        let ground = self.ground();
        let places = ground.neighbourhoods(item).into_iter();
        let best = places.filter_map(|place| self.room_in(item, place, used, stopped)).min_by(Room::order)?;
        let fits = || best.nodes.iter().filter_map(|node| ground.fit_of(item, *node));
        let slowest = fits().max_by_key(|fit| fit.span(item))?;
        let marginal = fits().map(|fit| fit.marginal).fold(0, i64::saturating_add);
        let cost = ground.cost_here(item, best.free_at, &slowest, marginal) + best.lost_micros();
        (cost < laid.cost).then_some(best)
    }

    /// The cheapest room for all parts of an urgent task among these nodes.
    fn room_in(
        &self,
        item: &Item,
        (kinds, domain): (&[usize], Option<&str>),
        used: &BTreeSet<usize>,
        stopped: &[Displacement],
    ) -> Option<Room> {
        let wanted = self.shapes[item.shape].nodes;
        let nodes = kinds.iter().flat_map(|kind| &self.fleet.kinds[*kind].nodes);
        let open =
            |node: &&usize| !used.contains(node) && (domain.is_none() || self.fleet.domain(**node) == domain);
        let mut rooms: Vec<Room> =
            nodes.filter(open).filter_map(|node| self.room_on(item, *node, stopped)).collect();
        if rooms.len() < wanted {
            return None;
        }
        rooms.sort_by(Room::order);
        rooms.truncate(wanted);
        rooms.into_iter().reduce(Room::with).filter(|room| !room.stops.is_empty())
    }

    /// What of a node's parts would have to stop for a part of an urgent task, the cheapest first; nothing where it is
    /// free.
    fn room_on(&self, item: &Item, node: usize, stopped: &[Displacement]) -> Option<Room> {
        let machine = self.fleet.machine(node)?;
        let kind = &self.fleet.kinds[machine.kind];
        let need = &self.shapes[item.shape].need;
        let mask = self.ground().fit_of(item, node)?.mask;
        let yields = |part: &&RunningPart| part.owner.as_ref().is_some_and(|owner| self.yields(owner, item));
        let mut parts: Vec<&RunningPart> = machine.view.running.iter().filter(yields).collect();
        let lost =
            |part: &RunningPart| part.owner.as_ref().map_or(0.0, |owner| self.lost_micros(part, owner));
        parts.sort_by(|a, b| lost(a).total_cmp(&lost(b)).then(b.began.cmp(&a.began)));
        let mut free = machine.view.free.clone();
        let mut room = Room { nodes: vec![node], stops: vec![], free_at: self.now };
        let fits = |free: &spillway_types::FreeResources| {
            need.fits(&kind.layout.level(&machine.view.capacity, free), mask)
        };
        if fits(&free) {
            return Some(room);
        }
        for part in parts {
            let Some(owner) = &part.owner else { continue };
            if stopped.iter().any(|other| other.attempt == owner.attempt) {
                continue;
            }
            free.give_back(&machine.view.capacity, &part.allocation);
            room.stops.push((owner.attempt, lost(part)));
            room.free_at = room.free_at.max(self.now.saturating_add(signed(owner.asks.grace)));
            if fits(&free) {
                return Some(room);
            }
        }
        None
    }

    /// Whether what runs gives way to the item: its class may be stopped, and comes after the item's.
    fn yields(&self, owner: &PartOwner, item: &Item) -> bool {
        let group = |name| standing(&self.groups, name).priority;
        let terms = self.policy.terms(owner.asks.class.as_ref());
        let theirs = terms.priority.unwrap_or_else(|| group(&owner.asks.group));
        let ours = item.terms.priority.unwrap_or_else(|| group(&item.job.group));
        terms.preemptible && theirs < ours
    }

    /// What stopping a part now would lose, in micros.
    fn lost_micros(&self, part: &RunningPart, owner: &PartOwner) -> f64 {
        real(owner.rate.0) / 3_600_000.0 * real(self.lost_ms(part, owner))
    }

    /// What the job has computed since its newest checkpoint.
    fn lost_ms(&self, part: &RunningPart, owner: &PartOwner) -> i64 {
        let ran = self.now.saturating_sub(part.began.0).max(0);
        match owner.asks.restarts {
            Restarts::FromCheckpoint { every } => ran % signed(every).max(1),
            Restarts::Anew | Restarts::Never => ran,
        }
    }

    /// Jobs in clouds whose rest costs clearly less on nodes that are here, or, where a deadline leaves the time, on
    /// spot capacity.
    fn send_home(&mut self, stopped: &mut Vec<Displacement>) {
        let mut travellers: Vec<(usize, usize)> = Vec::new();
        for (at, kind) in
            self.fleet.kinds.iter().enumerate().filter(|(_, kind)| Tier::of(kind) == Tier::Rented)
        {
            travellers.extend(kind.nodes.iter().map(|node| (at, *node)));
        }
        for (_, node) in travellers {
            let parts = self.fleet.machine(node).map(|machine| machine.view.running.clone());
            for part in parts.unwrap_or_default() {
                if stopped.len() >= MOST {
                    return;
                }
                if let Some(owner) = &part.owner
                    && !stopped.iter().any(|other| other.attempt == owner.attempt)
                    && let Some(because) = self.better_elsewhere(&part, owner)
                {
                    stopped.push(Displacement { attempt: owner.attempt, because });
                }
            }
        }
    }

    /// Why the rest of a run is better off elsewhere; none where it is not. What it would take is reserved.
    fn better_elsewhere(&mut self, part: &RunningPart, owner: &PartOwner) -> Option<String> {
        let Restarts::FromCheckpoint { .. } = owner.asks.restarts else { return None };
        if owner.asks.nodes > 1 || self.waits_before(owner) {
            return None;
        }
        let (lost, grace) = (self.lost_ms(part, owner), signed(owner.asks.grace));
        let left = part.ends.0.saturating_sub(self.now).max(0);
        let rest = real(owner.rate.0) / 3_600_000.0 * real(left);
        let mut job = owner.asks.as_ref().clone();
        job.estimate = spillway_types::DurationMs(left.saturating_add(lost).max(1).unsigned_abs());
        job.done.0 = job
            .done
            .0
            .saturating_add(self.now.saturating_sub(part.began.0).saturating_sub(lost).max(0).unsigned_abs());
        let item = self.compile(job);
        let again = item.wait_price * real(lost.saturating_add(grace));
        let worth = |cost: f64| cost + again < rest * (1.0 - LEAST_GAIN);
        let home = self.ground().best_here(&self.board, &item, self.now);
        if let Some(best) = home.filter(|best| self.is_owned(best) && worth(best.cost)) {
            let fit = self.ground().fit_of(&item, best.nodes[0])?;
            let need = self.shapes[item.shape].need;
            let window = (best.start, best.start.saturating_add(fit.span(&item)));
            self.board.reserve(best.nodes[0], window, &need, fit.mask);
            let (saved, host) =
                (rest - best.cost - again, self.fleet.machine(best.nodes[0])?.view.hostname.clone());
            let saved = words::amount(crate::item::whole(saved));
            return Some(format!("goes on from its checkpoint on {host}, which is free here: saves {saved}"));
        }
        let launch = self.spot_in_time(&item, grace)?;
        worth(launch.0).then(|| {
            let saved = words::amount(crate::item::whole(rest - launch.0 - again));
            format!("goes on from its checkpoint on spot capacity, which its deadline leaves time for: saves {saved}")
        })
    }

    /// The cheapest spot launch for a job with a deadline that is ahead of it by more than a change takes.
    fn spot_in_time(&self, item: &Item, grace: i64) -> Option<(f64, usize)> {
        let launch = item.launches.iter().find(|launch| {
            let offer = &self.offers[launch.offer].view;
            offer.terms.market == Market::Spot && self.board.offers_left[launch.offer] > 0
        })?;
        let change = signed(self.offers[launch.offer].view.boot).saturating_add(grace);
        let progress = Progress::of(&item.job, change)?;
        let later = self.now.saturating_add(2 * change);
        (later < progress.ahead_until && later < progress.safe_from).then_some((launch.cost, launch.offer))
    }

    fn is_owned(&self, best: &Best) -> bool {
        let machine = best.nodes.first().and_then(|node| self.fleet.machine(*node));
        machine.is_some_and(|machine| Tier::of(&self.fleet.kinds[machine.kind]) == Tier::Owned)
    }

    /// Whether jobs of as high a priority wait that could take what is free: they go first.
    fn waits_before(&self, owner: &PartOwner) -> bool {
        let waits = |at: &usize| match &self.layout.laid[*at].spot {
            Spot::Here(here) => here.start > self.now,
            Spot::Blocked(reason) => *reason == spillway_types::Reason::Resources,
            Spot::Launch(_) => true,
        };
        let older = |at: usize| {
            self.item(self.layout.sequence[at])
                .is_some_and(|item| age(&item.job) < (UnixMs(self.now), owner.asks.job))
        };
        (0..self.layout.laid.len()).filter(waits).any(older)
    }
}
