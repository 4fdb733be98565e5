//! What attempts ask of the groups' limits, and who waits for them.
//!
//! A placement is checked and held in the command that makes it. What a limit refused is remembered for its job, and
//! the planner is not shown what is refused still: not the job, where a limit that counts everywhere has no room, and
//! not the site otherwise. So a job that can start elsewhere does, and one that cannot waits without keeping others.

use std::collections::BTreeMap;

use spillway_ledger::Slice;
use spillway_ledger::limits::{
    Adjustment, Charge, Demand, HoldPhase, HoldStep, Holding, LeaseTerms, LimitId, LimitKey, LimitRefusal,
    LimitsChange, Metric, Place, Scope, Share, overshoot_micros,
};
use spillway_types::resources::GpuSelector;
use spillway_types::{
    AttemptId, DurationMs, GpuRequest, GroupName, HourlyRate, JobId, JobSpec, SiteName, UnixMs,
};

use crate::apply::ApplyError;
use crate::entity::{Attempt, Job, Site};
use crate::event::{Placed, PlacedParts};
use crate::{Key, State, moved};

/// What limits refused to start, by job.
#[derive(Debug, Clone, Default)]
pub struct Waits(BTreeMap<JobId, Vec<Demand>>);

/// What limits leave a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that is known to be refused.
    Free,
    /// Every site but these.
    Without(Vec<SiteName>),
    /// It waits, for this limit.
    Waits(Box<LimitRefusal>),
}

impl Waits {
    /// Remembers that `demand` of a job was refused, in place of what was refused at the same site before.
    pub(crate) fn note(&mut self, job: JobId, demand: Demand) {
        let known = self.0.entry(job).or_default();
        known.retain(|other| other.place.site != demand.place.site);
        known.push(demand);
    }

    /// Jobs that limits refused since they were last placed.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.0.keys().copied()
    }

    pub(crate) fn forget(&mut self, job: JobId) {
        self.0.remove(&job);
    }
}

/// How long an attempt runs on what is held for it, where it can stop and go on: half a working day, so that a job of
/// weeks does not keep others from a budget that they share, and what its group may spend is looked at twice a day.
pub const LEASE: DurationMs = DurationMs::from_secs(4 * 3600);
/// So long before a lease ends the next one is held: many ticks, so that a broker that was away for a while is in time.
pub const EXTENDED_BEFORE: DurationMs = DurationMs::from_secs(10 * 60);

/// How long an attempt of a job runs on one lease; none where it keeps no checkpoints: everything that its time limit
/// allows is held for it, since to stop it would be to lose its work.
#[must_use]
pub fn lease_of(job: &Job) -> Option<DurationMs> {
    let every = job.spec.checkpoint.every.filter(|every| every.0 > 0)?;
    // A lease that ends before the first checkpoint would keep nothing.
    let lease = LEASE.max(DurationMs(every.0.saturating_mul(2)));
    (job.spec.time_limit > lease).then_some(lease)
}

/// What a placement asks of its group's limits: for its first lease, or everything its time limit allows, with the
/// grace, at the most that an hour of it may cost.
#[must_use]
pub fn demand_of(job: &Job, placed: &Placed) -> Demand {
    let model = |rank: usize| placed.models.get(rank).cloned().flatten();
    let cap =
        |rank: usize, rate: HourlyRate| placed.caps.get(rank).copied().flatten().unwrap_or(rate).max(rate);
    let share = |(rank, blocks, rate): (usize, u64, HourlyRate)| Share {
        class: model(rank),
        blocks,
        cap: cap(rank, rate),
    };
    let shares: Vec<Share> = match &placed.parts {
        PlacedParts::Nodes { parts } => {
            let parts = parts.iter().enumerate();
            parts.map(|(rank, part)| share((rank, part.allocation.blocks(), part.rate))).collect()
        }
        PlacedParts::Instances { instances, allocation, rate } => {
            (0..instances.len()).map(|rank| share((rank, allocation.blocks(), *rate))).collect()
        }
    };
    let terms = LeaseTerms {
        lease: placed.lease.unwrap_or(job.spec.time_limit),
        grace: job.spec.checkpoint.grace,
        minimum: DurationMs(0),
        increment: DurationMs(0),
    };
    let place = Place { site: placed.site.clone(), kind: placed.kind };
    let egress_micros = moved::egress_micros(&placed.inputs, shares.len());
    Demand { group: job.spec.group.clone(), place, shares, terms, egress_micros }
}

/// The least that a job asks for at a site: its accelerators for as long as it may run, at no price.
#[must_use]
pub fn least_demand(spec: &JobSpec, site: &Site) -> Demand {
    let gpus = spec.resources.gpus.as_ref();
    let class = gpus.and_then(|gpus| match &gpus.selector {
        GpuSelector::Model(model) => Some(model.clone()),
        GpuSelector::Any | GpuSelector::MemoryAtLeast { .. } | GpuSelector::Mig { .. } => None,
    });
    let blocks = gpus.map_or(0, GpuRequest::blocks);
    let share = Share { class, blocks, cap: HourlyRate(0) };
    let terms = LeaseTerms {
        lease: if spec.checkpoint.every.is_some() { DurationMs(0) } else { spec.time_limit },
        grace: spec.checkpoint.grace,
        minimum: DurationMs(0),
        increment: DurationMs(0),
    };
    let place = Place { site: site.name.clone(), kind: site.kind };
    let shares = vec![share; usize::try_from(spec.nodes).unwrap_or(usize::MAX)];
    Demand { group: spec.group.clone(), place, shares, terms, egress_micros: 0 }
}

/// What of a running attempt can pass a budget of this scope, in micros.
fn bound_of(demand: &Demand, scope: &Scope, lag: DurationMs) -> i64 {
    let covered = demand.shares.iter().filter(|share| scope.covers(&demand.place, share));
    let cap = covered.map(|share| share.cap.0).fold(0, i64::saturating_add);
    if cap == 0 { 0 } else { overshoot_micros(HourlyRate(cap), demand.terms.grace, lag) }
}

impl State {
    /// What limits leave a job now, as far as it was refused before.
    #[must_use]
    pub fn limits_leave(&self, job: &Job, now: UnixMs) -> Standing {
        let mut without = vec![];
        let mut last = None;
        for demand in self.waits.0.get(&job.id).into_iter().flatten() {
            let Err(refusal) = self.limits.check(demand, now) else { continue };
            if refusal.binding.scope == Scope::Everywhere
                && !matches!(refusal.binding.metric, Metric::GpuTime(_))
            {
                return Standing::Waits(refusal);
            }
            without.push(demand.place.site.clone());
            last = Some(refusal);
        }
        let allowed = |site: &&SiteName| {
            let asked = &job.spec.placement.allow;
            (asked.is_empty() || asked.contains(site)) && !without.contains(site)
        };
        match last {
            None => Standing::Free,
            Some(refusal) if !self.sites.keys().any(|site| allowed(&site)) => Standing::Waits(refusal),
            Some(_) => Standing::Without(without),
        }
    }

    /// How far each of these limits can be passed by what runs now: what it costs at most while it is asked to stop and
    /// its last use is on its way, in micros. 0 for limits on other things than money, which are never passed.
    #[must_use]
    pub fn overshoot_bounds(&self, limits: &[LimitId]) -> Vec<i64> {
        let mut of_group: BTreeMap<&GroupName, Vec<usize>> = BTreeMap::new();
        for (at, limit) in limits.iter().enumerate().filter(|(_, limit)| limit.metric == Metric::Money) {
            of_group.entry(&limit.group).or_default().push(at);
        }
        let mut bounds = vec![0_i64; limits.len()];
        for (attempt, holding) in self.limits.holdings() {
            let demand = holding.demand();
            let lag = self.attempts.get(&attempt).map_or(DurationMs(0), |attempt| attempt.lease);
            let counts = self.book.ancestors(&demand.group).filter_map(|group| of_group.get(group)).flatten();
            for at in counts {
                bounds[*at] = bounds[*at].saturating_add(bound_of(demand, &limits[*at].scope, lag));
            }
        }
        bounds
    }

    pub(crate) fn apply_limits(&mut self, change: &LimitsChange, at: UnixMs) -> Result<(), ApplyError> {
        let rows = self.limits.change(change, at).map_err(|error| ApplyError::Ledger(error.to_string()))?;
        rows.into_iter().for_each(|row| self.touch(Key::Limit(row)));
        Ok(())
    }

    pub(crate) fn reserve(&mut self, placed: &Placed, at: UnixMs) -> Result<(), ApplyError> {
        let job = self.jobs.get(&placed.job).ok_or_else(|| ApplyError::missing(placed.job))?;
        let demand = demand_of(job, placed);
        if demand.shares.is_empty() || self.limits.zone(&demand.group).is_none() {
            return Ok(());
        }
        let held = self.limits.hold(placed.attempt, demand, at);
        held.map_err(|error| ApplyError::Ledger(error.to_string()))?;
        self.waits.forget(placed.job);
        self.touch(Key::Limit(LimitKey::Hold(placed.attempt)));
        Ok(())
    }

    /// Attempts whose lease ends soon and goes on after it, each with the number of its next lease.
    pub(crate) fn leases_to_extend(&self, now: UnixMs) -> Vec<(AttemptId, u32)> {
        let due = |attempt: AttemptId, holding: &Holding| {
            let terms = &holding.demand().terms;
            let held_ms = terms.lease.0.saturating_mul(u64::from(holding.leases()));
            let runs = matches!(holding.phase(), HoldPhase::Active | HoldPhase::Extended);
            let soon = now.plus(EXTENDED_BEFORE) >= holding.placed().plus(DurationMs(held_ms));
            let entry = self.attempts.get(&attempt).filter(|entry| entry.stop.is_none())?;
            let goes_on = held_ms < self.jobs.get(&entry.job)?.spec.time_limit.0;
            (runs && soon && goes_on).then(|| (attempt, holding.leases().saturating_add(1)))
        };
        self.limits.holdings().filter_map(|(attempt, holding)| due(attempt, holding)).collect()
    }

    pub(crate) fn extend_lease(
        &mut self,
        attempt: AttemptId,
        lease: u32,
        at: UnixMs,
    ) -> Result<(), ApplyError> {
        let extended = self.limits.extend(attempt, lease, at);
        extended.map_err(|error| ApplyError::Ledger(error.to_string()))?;
        self.touch(Key::Limit(LimitKey::Hold(attempt)));
        Ok(())
    }

    /// Takes an attempt's hold a step further, where it follows: attempts that were placed before there were limits
    /// have none.
    pub(crate) fn step_hold(&mut self, attempt: AttemptId, step: HoldStep) {
        if self.limits.step(attempt, step).is_ok() {
            self.touch(Key::Limit(LimitKey::Hold(attempt)));
        }
    }

    /// Turns what an attempt holds into what it used.
    pub(crate) fn use_limits(&mut self, attempt: AttemptId, slices: &[Slice], started: UnixMs) {
        let mut counted = false;
        for slice in slices {
            let Ok(share) = usize::try_from(slice.rank) else { continue };
            let charge =
                Charge { share, started, from_ms: slice.from_ms, to_ms: slice.to_ms, rate: slice.rate };
            counted |= self.limits.charge(attempt, &charge).is_ok();
        }
        if counted {
            self.touch_limits(attempt);
        }
    }

    /// Turns what an attempt holds for bytes into what it used; what was placed before there were limits just spends.
    pub(crate) fn use_limits_for_bytes(&mut self, attempt: AttemptId, micros: i64, at: UnixMs) {
        if self.limits.charge_egress(attempt, micros, at).is_ok() {
            self.touch_limits(attempt);
        } else if let Some(subject) = self.attempts.get(&attempt).map(Attempt::subject) {
            self.adjust_limits(
                (&subject.group, &subject.site),
                &Adjustment { micros, ..Adjustment::default() },
                at,
            );
        }
    }

    fn touch_limits(&mut self, attempt: AttemptId) {
        self.touch(Key::Limit(LimitKey::Hold(attempt)));
        let group = self.attempts.get(&attempt).map(|attempt| attempt.group.clone());
        let rows = group.map(|group| self.limits.rows_above(&group)).unwrap_or_default();
        rows.into_iter().for_each(|row| self.touch(Key::Limit(row)));
    }

    /// Counts what was used without a hold in the limits of the group and of all above it.
    pub(crate) fn adjust_limits(
        &mut self,
        (group, site): (&GroupName, &SiteName),
        used: &Adjustment,
        at: UnixMs,
    ) {
        let Some(site) = self.sites.get(site) else { return };
        let place = Place { site: site.name.clone(), kind: site.kind };
        self.limits.adjust(group, &place, used, at);
        for row in self.limits.rows_above(group) {
            self.touch(Key::Limit(row));
        }
    }

    /// The hold of an attempt that is settled is over; nothing asks for it any more.
    pub(crate) fn give_back(&mut self, attempt: AttemptId) {
        self.step_hold(attempt, HoldStep::Settle);
        self.limits.forget(attempt);
        self.touch(Key::Limit(LimitKey::Hold(attempt)));
    }
}
