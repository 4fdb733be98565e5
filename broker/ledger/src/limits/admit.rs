//! The way of one attempt through the limits: hold, extend, charge, resolve.

use spillway_types::{AttemptId, DurationMs, GroupName, HourlyRate, IllegalTransition, UnixMs};

use super::demand::gpu_ms;
use super::grants::Grants;
use super::refusal::{LimitRefusal, LimitRefusalKind};
use super::state::{Budget, Drawn, Holding, Node};
use super::tally::scopes_of;
use super::{Adjustment, Demand, HoldPhase, HoldStep, LimitId, Limits, Metric, Place, Share, Tally};
use crate::calendar::Period;
use crate::window::Window;

/// Months of a quarter.
const MONTHS_OF_A_QUARTER: i64 = 3;

/// Why a hold could not be changed so. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// A limit has no room.
    #[error(transparent)]
    Refused(#[from] Box<LimitRefusal>),
    /// The same attempt asked for something else before.
    #[error(
        "{attempt} holds something else already: the same attempt cannot ask for another amount or place"
    )]
    Conflict {
        /// The attempt.
        attempt: AttemptId,
    },
    /// It asks for nothing.
    #[error("{attempt} asks for no accelerators and no money at all")]
    Nothing {
        /// The attempt.
        attempt: AttemptId,
    },
    /// It has no hold.
    #[error("{attempt} holds nothing")]
    Unknown {
        /// The attempt.
        attempt: AttemptId,
    },
    /// There is no such group.
    #[error("there is no group `{group}`; create it first")]
    UnknownGroup {
        /// The group.
        group: GroupName,
    },
    /// The hold is in a state that does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

/// What became of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extension {
    /// Another lease is reserved; or it was before, by the same request.
    Granted,
    /// A limit has no room: what runs is to save its work and stop.
    Drain(Box<LimitRefusal>),
}

/// A slice of use of one share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Which share of the demand.
    pub share: usize,
    /// When what uses it began to run.
    pub started: UnixMs,
    /// Begin of the slice, in milliseconds from there.
    pub from_ms: u64,
    /// End, exclusive.
    pub to_ms: u64,
    /// What the share costs an hour.
    pub rate: HourlyRate,
}

/// What is asked of every limit of a group and of all above it at once.
struct Want<'a> {
    demand: &'a Demand,
    amounts: &'a [Tally],
    now: UnixMs,
    until: UnixMs,
    extension: bool,
}

/// A slice that grants pay for.
#[derive(Clone, Copy)]
struct Burning<'a> {
    demand: &'a Demand,
    share: &'a Share,
    at: UnixMs,
    /// How many limits there were when the attempt was admitted.
    made: u64,
    within: Tally,
    beyond: Tally,
}

/// Amounts by share, until when, and from which grants or why not.
type NextLease = (Vec<Tally>, UnixMs, Result<Vec<Drawn>, Box<LimitRefusal>>);

impl Want<'_> {
    fn of(&self, id: &LimitId) -> i64 {
        let covered = self.demand.shares.iter().zip(self.amounts);
        let covered = covered.filter(|(share, _)| id.scope.covers(&self.demand.place, share));
        covered.map(|(share, amount)| amount.of(&id.metric, share)).fold(0, i64::saturating_add)
    }
}

impl Limits {
    /// Whether every limit has room for `demand`. Changes nothing. A group that is not known has no limits.
    ///
    /// # Errors
    /// [`LimitRefusal`] naming the limit that binds: the most lasting refusal, and of those the nearest to the group.
    pub fn check(&self, demand: &Demand, now: UnixMs) -> Result<(), Box<LimitRefusal>> {
        let Some(at) = self.place_of(&demand.group) else { return Ok(()) };
        let span = demand.terms.span(demand.terms.lease);
        let amounts = self.amounts(demand, now, DurationMs(0), span, demand.egress_micros);
        let want = Want { demand, amounts: &amounts, now, until: now.plus(span), extension: false };
        self.judge(at, &want).map(drop)
    }

    /// Reserves what `demand` asks for its first lease. The same again changes nothing.
    ///
    /// # Errors
    /// [`HoldError`] where a limit has no room, where the attempt asked for something else before, or where the
    /// group is not known.
    pub fn hold(&mut self, attempt: AttemptId, demand: Demand, now: UnixMs) -> Result<(), HoldError> {
        if let Some(known) = self.holdings.get(&attempt) {
            return if known.demand == demand { Ok(()) } else { Err(HoldError::Conflict { attempt }) };
        }
        if demand.shares.is_empty() {
            return Err(HoldError::Nothing { attempt });
        }
        let unknown = || HoldError::UnknownGroup { group: demand.group.clone() };
        let at = self.place_of(&demand.group).ok_or_else(unknown)?;
        let span = demand.terms.span(demand.terms.lease);
        let until = now.plus(span);
        let held = self.amounts(&demand, now, DurationMs(0), span, demand.egress_micros);
        let want = Want { demand: &demand, amounts: &held, now, until, extension: false };
        let drawn = self.judge(at, &want)?;
        let phase = HoldPhase::Proposed.after(HoldStep::Reserve)?;
        self.reserve_all(&demand, &held, &drawn);
        self.occupy(&demand, 1);
        let (charged, overrun) = (Tally::default(), Tally::default());
        let (placed, made, leases) = (now, self.created, 1);
        let holding = Holding { demand, phase, placed, made, until, leases, held, drawn, charged, overrun };
        self.holdings.insert(attempt, holding);
        Ok(())
    }

    /// Reserves another lease. `lease` counts them, the first hold's being 1, so that a request that is sent again
    /// changes nothing. Where a limit has no room, what runs is to drain, and the hold says so from then on.
    ///
    /// # Errors
    /// [`HoldError`] where the attempt holds nothing, does not run, or asks for another lease than the next.
    pub fn extend(&mut self, attempt: AttemptId, lease: u32, now: UnixMs) -> Result<Extension, HoldError> {
        let holding = self.holdings.get(&attempt).ok_or(HoldError::Unknown { attempt })?;
        if lease == holding.leases {
            return Ok(Extension::Granted);
        }
        if lease != holding.leases.saturating_add(1) {
            return Err(HoldError::Conflict { attempt });
        }
        let phase = holding.phase.after(HoldStep::Extend)?;
        let demand = holding.demand.clone();
        let (more, until, judged) = self.next_lease(attempt, now)?;
        let drawn = match judged {
            Ok(drawn) => drawn,
            Err(refusal) => {
                self.step(attempt, HoldStep::Drain)?;
                return Ok(Extension::Drain(refusal));
            }
        };
        self.reserve_all(&demand, &more, &drawn);
        if let Some(holding) = self.holdings.get_mut(&attempt) {
            (holding.phase, holding.leases, holding.until) = (phase, lease, until);
            for (held, more) in holding.held.iter_mut().zip(more) {
                *held = held.plus(more);
            }
            for new in drawn {
                match holding.drawn.iter_mut().find(|known| known.grant == new.grant) {
                    Some(known) => known.left = known.left.saturating_add(new.left),
                    None => holding.drawn.push(new),
                }
            }
        }
        Ok(Extension::Granted)
    }

    /// Whether every limit has room for the next lease of what runs. Changes nothing.
    ///
    /// # Errors
    /// [`HoldError`] where the attempt holds nothing or does not run, or where a limit has no room.
    pub fn check_extension(&self, attempt: AttemptId, now: UnixMs) -> Result<(), HoldError> {
        let holding = self.holdings.get(&attempt).ok_or(HoldError::Unknown { attempt })?;
        holding.phase.after(HoldStep::Extend)?;
        let (.., judged) = self.next_lease(attempt, now)?;
        Ok(judged.map(drop)?)
    }

    /// What an attempt's next lease asks for beside what it holds, until when it lasts, and what the limits say.
    fn next_lease(&self, attempt: AttemptId, now: UnixMs) -> Result<NextLease, HoldError> {
        let holding = self.holdings.get(&attempt).ok_or(HoldError::Unknown { attempt })?;
        let Holding { demand, leases, placed, .. } = holding;
        let terms = demand.terms;
        let until_lease = |count: u32| terms.span(DurationMs(terms.lease.0.saturating_mul(u64::from(count))));
        let (before, after) = (until_lease(*leases), until_lease(leases.saturating_add(1)));
        let until = placed.plus(after).max(holding.until);
        let more = self.amounts(demand, *placed, before, after, 0);
        let unknown = || HoldError::UnknownGroup { group: demand.group.clone() };
        let at = self.place_of(&demand.group).ok_or_else(unknown)?;
        let want = Want { demand, amounts: &more, now, until, extension: true };
        let judged = self.judge(at, &want);
        Ok((more, until, judged))
    }

    /// Turns what is held into what was used, in the windows in which it was used. Never refused: gives what was
    /// beyond the hold. That a slice is charged once is for the caller to see to.
    ///
    /// # Errors
    /// [`HoldError::Unknown`] where the attempt has no such share.
    pub fn charge(&mut self, attempt: AttemptId, charge: &Charge) -> Result<Tally, HoldError> {
        let unknown = HoldError::Unknown { attempt };
        let holding = self.holdings.get(&attempt).ok_or_else(|| unknown.clone())?;
        let (Some(share), Some(held)) =
            (holding.demand.shares.get(charge.share), holding.held.get(charge.share).copied())
        else {
            return Err(unknown);
        };
        let (share, demand) = (share.clone(), holding.demand.clone());
        let cost = self.cost(&share, charge, charge.from_ms, charge.to_ms);
        self.use_up(&demand, &share, charge);
        let at = charge.started.plus(DurationMs(charge.from_ms));
        Ok(self.take(attempt, (charge.share, &share, held), cost, (&demand, at)))
    }

    /// Turns what is held for bytes into what was used, at `at`: money that is held with the first share. Never
    /// refused: gives what was beyond the hold. That bytes are charged once is for the caller to see to.
    ///
    /// # Errors
    /// [`HoldError::Unknown`] where the attempt holds nothing.
    pub fn charge_egress(&mut self, attempt: AttemptId, micros: i64, at: UnixMs) -> Result<Tally, HoldError> {
        let holding = self.holdings.get(&attempt).ok_or(HoldError::Unknown { attempt })?;
        let demand = holding.demand.clone();
        let (Some(share), Some(held)) = (demand.shares.first(), holding.held.first().copied()) else {
            return Err(HoldError::Unknown { attempt });
        };
        let cost = Tally { micros: micros.max(0), ..Tally::default() };
        self.add_used(&demand.group, &demand.place, share, cost, at);
        Ok(self.take(attempt, (0, share, held), cost, (&demand, at)))
    }

    /// Takes what was used of a share from what is held for it, and charges grants; gives what was beyond the hold.
    fn take(
        &mut self,
        attempt: AttemptId,
        (place, share, held): (usize, &Share, Tally),
        cost: Tally,
        (demand, at): (&Demand, UnixMs),
    ) -> Tally {
        let within = cost.least(held);
        let beyond = cost.minus(within);
        let known = self.holdings.get(&attempt).map(|holding| (holding.drawn.clone(), holding.made));
        let Some((mut drawn, made)) = known else { return beyond };
        let burning = Burning { demand, share, at, made, within, beyond };
        self.burn(&burning, &mut drawn);
        self.add_held(demand, place, within.negative());
        if let Some(holding) = self.holdings.get_mut(&attempt) {
            if let Some(held) = holding.held.get_mut(place) {
                *held = held.minus(within);
            }
            holding.drawn = drawn;
            holding.charged = holding.charged.plus(within);
            holding.overrun = holding.overrun.plus(beyond);
        }
        beyond
    }

    /// Adds what was used at `at` without a hold: what an instance cost beside the slices that ran on it, what a
    /// correction makes more or less. Never refused; below 0 it is given back.
    pub fn adjust(&mut self, group: &GroupName, place: &Place, used: &Adjustment, at: UnixMs) {
        let share = Share { class: used.class.clone(), blocks: 0, cap: HourlyRate(0) };
        let normalised_ms = self.weights.weighted(share.class.as_ref(), used.gpu_ms, at);
        let amount = Tally { micros: used.micros, gpu_ms: used.gpu_ms, normalised_ms };
        self.add_used(group, place, &share, amount, at);
        let places: Vec<usize> = self.place_of(group).into_iter().flat_map(|at| self.ancestors(at)).collect();
        let mut burnt = vec![];
        for node in places.into_iter().filter_map(|place| self.nodes.get(place)) {
            for budget in &node.budgets {
                let id = &budget.limit.id;
                let Some(grants) = Grants::led_by(node, &budget.limit) else { continue };
                if id.scope.covers(place, &share) {
                    burnt.extend(grants.burn(amount.of(&id.metric, &share), at, u64::MAX));
                }
            }
        }
        for (grant, amount) in burnt {
            if let Some(budget) = self.budget_mut(&grant) {
                budget.burnt = budget.burnt.saturating_add(amount);
            }
        }
    }

    /// Adds an amount that was used at once to the month of the group and of all above it.
    fn add_used(&mut self, group: &GroupName, place: &Place, share: &Share, amount: Tally, at: UnixMs) {
        let scopes = scopes_of(place, share);
        let places: Vec<usize> = self.place_of(group).into_iter().flat_map(|at| self.ancestors(at)).collect();
        for place in places {
            let Some(node) = self.nodes.get_mut(place) else { continue };
            let month = Period::of(at, &node.zone);
            node.used.entry(month).or_default().add(&scopes, share, amount);
        }
    }

    /// Takes a hold through its states. When it is over, what is left of it is given back; that happens once.
    ///
    /// # Errors
    /// [`HoldError`] where the attempt holds nothing or the step does not follow.
    pub fn step(&mut self, attempt: AttemptId, step: HoldStep) -> Result<HoldPhase, HoldError> {
        let holding = self.holdings.get_mut(&attempt).ok_or(HoldError::Unknown { attempt })?;
        let before = holding.phase;
        let after = before.after(step)?;
        holding.phase = after;
        let demand = holding.demand.clone();
        if before.occupies() && !after.occupies() {
            self.occupy(&demand, -1);
        }
        if after.is_resolved() && !before.is_resolved() {
            let holding = self.holdings.get_mut(&attempt).ok_or(HoldError::Unknown { attempt })?;
            let (held, drawn) = (std::mem::take(&mut holding.held), std::mem::take(&mut holding.drawn));
            holding.held = vec![Tally::default(); held.len()];
            for (share, left) in held.into_iter().enumerate() {
                self.add_held(&demand, share, left.negative());
            }
            drawn.iter().for_each(|drawn| self.reserve(&drawn.grant, -drawn.left));
        }
        Ok(after)
    }

    /// Moves what an attempt holds to another attempt with another demand, at once: what the old one held counts as
    /// free for the new one, and where a limit has no room nothing changes. The old one must not run any more.
    ///
    /// # Errors
    /// [`HoldError`] where the old one holds nothing or runs, and as for [`Limits::hold`].
    pub fn swap(
        &mut self,
        old: AttemptId,
        new: AttemptId,
        demand: Demand,
        now: UnixMs,
    ) -> Result<(), HoldError> {
        let known = self.holdings.get(&old).ok_or(HoldError::Unknown { attempt: old })?.clone();
        if self.holdings.get(&new).is_some_and(|done| done.demand == demand) && known.phase.is_resolved() {
            return Ok(());
        }
        let step = if known.phase == HoldPhase::Settling { HoldStep::Settle } else { HoldStep::Release };
        self.step(old, step)?;
        self.hold(new, demand, now).inspect_err(|_| {
            self.reserve_all(&known.demand, &known.held, &known.drawn);
            if known.phase.occupies() {
                self.occupy(&known.demand, 1);
            }
            self.holdings.insert(old, known);
        })
    }

    /// Forgets a hold that is over. Its use stays.
    pub fn forget(&mut self, attempt: AttemptId) {
        if self.holdings.get(&attempt).is_some_and(|holding| holding.phase.is_resolved()) {
            self.holdings.remove(&attempt);
        }
    }

    /// What the shares of `demand` cost and use at most between two lengths of time from `start`.
    fn amounts(
        &self,
        demand: &Demand,
        start: UnixMs,
        from: DurationMs,
        to: DurationMs,
        egress: i64,
    ) -> Vec<Tally> {
        let once = std::iter::once(egress.max(0)).chain(std::iter::repeat(0));
        let share_of = |(share, once): (&Share, i64)| {
            let most = Charge { share: 0, started: start, from_ms: from.0, to_ms: to.0, rate: share.cap };
            let amount = self.cost(share, &most, from.0, to.0);
            Tally { micros: amount.micros.saturating_add(once), ..amount }
        };
        demand.shares.iter().zip(once).map(share_of).collect()
    }

    /// What a share uses and costs from `from_ms` to `to_ms`: telescoping.
    fn cost(&self, share: &Share, charge: &Charge, from_ms: u64, to_ms: u64) -> Tally {
        let to_ms = to_ms.max(from_ms);
        let (class, started) = (share.class.as_ref(), charge.started);
        let normalised =
            |ms| self.weights.normalised_ms(class, share.blocks, started, started.plus(DurationMs(ms)));
        Tally {
            micros: charge.rate.cost_micros(1, 1, from_ms, to_ms).max(0),
            gpu_ms: gpu_ms(share.blocks, to_ms).saturating_sub(gpu_ms(share.blocks, from_ms)),
            normalised_ms: normalised(to_ms).saturating_sub(normalised(from_ms)),
        }
    }

    /// Adds a slice to the months of the group and of all above it, cut where a month of each begins.
    fn use_up(&mut self, demand: &Demand, share: &Share, charge: &Charge) {
        let scopes = scopes_of(&demand.place, share);
        let instant = |ms: u64| charge.started.plus(DurationMs(ms));
        let mut next = self.place_of(&demand.group);
        while let Some(at) = next {
            let Some(node) = self.nodes.get(at) else { return };
            let zone = node.zone.clone();
            let mut from_ms = charge.from_ms;
            while from_ms < charge.to_ms {
                let month = Period::of(instant(from_ms), &zone);
                let ends = month.end(&zone).since(charge.started).0;
                let to_ms = if ends > from_ms { ends.min(charge.to_ms) } else { charge.to_ms };
                let amount = self.cost(share, charge, from_ms, to_ms);
                let node = &mut self.nodes[at];
                node.used.entry(month).or_default().add(&scopes, share, amount);
                // What no window counts any more: months before the quarter that comes before the newest month's.
                let newest = node.used.last_key_value().map_or(month, |(newest, _)| *newest);
                node.used.retain(|month, _| newest.quarter().months_since(*month) <= MONTHS_OF_A_QUARTER);
                from_ms = to_ms;
            }
            next = self.nodes[at].parent;
        }
    }

    /// Charges a slice to the grants it was held of; what is beyond the hold to those that can be used then.
    fn burn(&mut self, burning: &Burning<'_>, drawn: &mut [Drawn]) {
        let Burning { demand, share, at, made, within, beyond } = *burning;
        let mut burnt: Vec<(LimitId, i64, i64)> = vec![];
        for place in self.place_of(&demand.group).into_iter().flat_map(|at| self.ancestors(at)) {
            let node = &self.nodes[place];
            for budget in &node.budgets {
                let id = &budget.limit.id;
                let Some(grants) = Grants::led_by(node, &budget.limit) else { continue };
                if !id.scope.covers(&demand.place, share) {
                    continue;
                }
                let mut left = within.of(&id.metric, share);
                let of_these = |drawn: &&mut Drawn| {
                    (&drawn.grant.group, &drawn.grant.metric, &drawn.grant.scope)
                        == (&id.group, &id.metric, &id.scope)
                };
                for drawn in drawn.iter_mut().filter(of_these) {
                    let take = drawn.left.min(left);
                    (drawn.left, left) = (drawn.left - take, left - take);
                    burnt.push((drawn.grant.clone(), take, take));
                }
                let rest = left.saturating_add(beyond.of(&id.metric, share));
                burnt.extend(
                    grants.burn(rest, at, made).into_iter().map(|(grant, amount)| (grant, amount, 0)),
                );
            }
        }
        for (grant, amount, reserved) in burnt {
            if let Some(budget) = self.budget_mut(&grant) {
                budget.burnt = budget.burnt.saturating_add(amount);
                budget.reserved = budget.reserved.saturating_sub(reserved);
            }
        }
    }

    fn reserve_all(&mut self, demand: &Demand, held: &[Tally], drawn: &[Drawn]) {
        for (share, amount) in held.iter().enumerate() {
            self.add_held(demand, share, *amount);
        }
        drawn.iter().for_each(|drawn| self.reserve(&drawn.grant, drawn.left));
    }

    /// Asks every limit of the group at `at` and of all above it, and says from which grants it would be taken.
    fn judge(&self, at: usize, want: &Want<'_>) -> Result<Vec<Drawn>, Box<LimitRefusal>> {
        let mut refusals = if want.extension { vec![] } else { self.judge_at_once(at, want.demand) };
        let mut drawn = vec![];
        for node in self.ancestors(at).filter_map(|at| self.nodes.get(at)) {
            for budget in
                node.budgets.iter().filter(|budget| budget.limit.id.metric != Metric::ConcurrentGpus)
            {
                let wanted = want.of(&budget.limit.id);
                if wanted <= 0 {
                    continue;
                }
                if let Window::Grant { .. } = budget.limit.id.window {
                    let Some(grants) = Grants::led_by(node, &budget.limit) else { continue };
                    let (mut taken, missing) = grants.draw(wanted, want.now, want.until);
                    drawn.append(&mut taken);
                    if missing > 0 && grants.denies(want.extension) {
                        refusals.extend(grants.refuse(wanted, missing, want.now, want.until));
                    }
                } else {
                    refusals.extend(judge_budget(node, budget, wanted, want));
                }
            }
        }
        // Of equals the first stays: the nearest to the group.
        let worst =
            refusals.into_iter().reduce(|worst, next| if next.kind > worst.kind { next } else { worst });
        worst.map_or(Ok(drawn), |refusal| Err(Box::new(refusal)))
    }

    /// Accelerators at once, in every scope that the attempt would be in.
    fn judge_at_once(&self, at: usize, demand: &Demand) -> Vec<LimitRefusal> {
        let mut refusals = vec![];
        for (scope, tree) in &self.quotas {
            let wanted = demand.blocks(|share| scope.covers(&demand.place, share));
            let Err(over) = tree.check(at, wanted) else { continue };
            if wanted <= 0 {
                continue;
            }
            let own = tree.used_below(at);
            let (kind, over) = match tree.check_when_idle(at, wanted) {
                Err(never) => (LimitRefusalKind::NeverFits, never),
                Ok(()) if tree.check_when_idle(at, own.saturating_add(wanted)).is_err() => {
                    (LimitRefusalKind::UsedUp, over)
                }
                Ok(()) => (LimitRefusalKind::UnsafeWithRunning, over),
            };
            let Some(node) = self.nodes.get(over.binding) else { continue };
            let binding = LimitId {
                group: node.name.clone(),
                metric: Metric::ConcurrentGpus,
                scope: scope.clone(),
                window: Window::Instant,
            };
            let used = tree.used_below(over.binding);
            refusals.push(LimitRefusal {
                binding: Box::new(binding),
                limit: used.saturating_add(wanted).saturating_sub(over.shortfall),
                used,
                held: 0,
                wanted,
                shortfall: over.shortfall,
                kind,
                renews: None,
            });
        }
        refusals
    }
}

fn judge_budget(node: &Node, budget: &Budget, wanted: i64, want: &Want<'_>) -> Option<LimitRefusal> {
    let action = budget.limit.action;
    let denies = if want.extension { action.denies_extension() } else { action.denies_new() };
    if !denies {
        return None;
    }
    let limit = budget.nominal_at(&node.zone, want.now);
    let (used, held) = (node.used_of(budget, want.now), node.held_of(budget));
    let more = i128::from(held) + i128::from(wanted);
    let later = more - i128::from(budget.least_to_come(&node.zone, want.now));
    let sum = (more + i128::from(used) - i128::from(limit)).max(later);
    if sum <= 0 {
        return None;
    }
    let kind = if wanted > limit {
        LimitRefusalKind::NeverFits
    } else if wanted > limit.saturating_sub(used) {
        LimitRefusalKind::UsedUp
    } else {
        LimitRefusalKind::UnsafeWithRunning
    };
    let period = budget.limit.id.window.period(&node.zone, want.now);
    Some(LimitRefusal {
        binding: Box::new(budget.limit.id.clone()),
        limit,
        used,
        held,
        wanted,
        shortfall: i64::try_from(sum).unwrap_or(i64::MAX),
        kind,
        renews: period.map(|period| period.to).filter(|_| kind == LimitRefusalKind::UsedUp),
    })
}
