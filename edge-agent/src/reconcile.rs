//! What to do so that the node becomes what the broker wants it to be: a pure function of the wanted leases,
//! the parts on the disk, and the time.
//!
//! Rules that hold whatever the broker says:
//! - nothing starts before what it reads is on the node;
//! - nothing starts whose lease has no deadline or a deadline that has passed;
//! - a part that ended, or whose starting began, is never started again on this node;
//! - an accelerator that a living part has is not given to another: the newcomer is refused;
//! - a folder goes only when its end is acknowledged and the broker does not list it any more.
//!
//! It is level-triggered: called again after every change, it asks only for what is still missing.

use std::collections::{BTreeMap, BTreeSet};

use spillway_tunnel::protocol::{Lease, WantedPhase};
use spillway_types::{Allocation, AttemptId, DurationMs};

use crate::part::PartKey;

/// How far a part is, as the agent knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// What it reads is being brought; nothing of it is on the disk.
    Staging,
    /// What it reads is here; nothing else of it is on the disk.
    Staged,
    /// Its folder is being made or its supervisor is being started: nothing can be asked of it now.
    Busy,
    /// Its folder is made; nothing runs.
    Prepared,
    /// Its program runs, or is about to under its supervisor.
    Running {
        /// Until when it may, in milliseconds of CLOCK_BOOTTIME.
        deadline_ms: u64,
        /// Whether it was asked to stop.
        stopping: bool,
    },
    /// It ended.
    Ended {
        /// Whether the broker has acknowledged the end.
        acknowledged: bool,
    },
}

/// A part on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// How far it is.
    pub stage: Stage,
    /// What it was given.
    pub allocation: Allocation,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bring what this lease's part reads.
    Stage(PartKey),
    /// Make the folder of this lease's part.
    Prepare(PartKey),
    /// Start the part, making its folder where there is none, with this deadline in milliseconds of
    /// CLOCK_BOOTTIME.
    Start(PartKey, u64),
    /// Let a running part run until then.
    Extend(PartKey, u64),
    /// Stop the part: signal, grace, kill; or end it without starting where nothing runs. The grace is this where it
    /// is less than what the part was started with.
    Stop(PartKey, Option<DurationMs>),
    /// Note that the part ended without starting, and why.
    Refuse(PartKey, String),
    /// Remove the folder.
    Forget(PartKey),
}

/// What the decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What the broker wants; none while it has not said so in a session that may change something.
    pub desired: Option<&'a [Lease]>,
    /// Every part on this node.
    pub parts: &'a BTreeMap<PartKey, Holding>,
    /// Until when each attempt may run, in milliseconds of CLOCK_BOOTTIME.
    pub deadlines: &'a BTreeMap<AttemptId, u64>,
    /// Now, in milliseconds of CLOCK_BOOTTIME.
    pub now_ms: u64,
}

/// What to do now, in an order that may be carried out as it stands.
#[must_use]
pub fn reconcile(situation: &Situation<'_>) -> Vec<Action> {
    let mut actions: Vec<Action> =
        situation.parts.iter().filter_map(|part| extension(situation, part)).collect();
    let Some(desired) = situation.desired else { return actions };
    let listed: BTreeSet<PartKey> = desired.iter().map(key_of).collect();
    for (&key, part) in situation.parts.iter().filter(|(key, _)| !listed.contains(key)) {
        match part.stage {
            Stage::Staging | Stage::Staged | Stage::Prepared | Stage::Running { stopping: false, .. } => {
                actions.push(Action::Stop(key, None));
            }
            Stage::Ended { acknowledged: true } => actions.push(Action::Forget(key)),
            Stage::Busy | Stage::Running { stopping: true, .. } | Stage::Ended { acknowledged: false } => {}
        }
    }
    let mut taken = Taken::by_parts(situation.parts, &listed);
    for lease in desired {
        let deadline = situation.deadlines.get(&lease.attempt).copied().unwrap_or(0);
        let may_start = deadline > situation.now_ms;
        actions.extend(match situation.parts.get(&key_of(lease)) {
            None => newcomer(lease, may_start.then_some(deadline), &mut taken),
            Some(part) => listed_part(lease, part.stage, may_start.then_some(deadline)),
        });
    }
    actions
}

/// The part that a lease is about.
#[must_use]
pub const fn key_of(lease: &Lease) -> PartKey {
    PartKey { attempt: lease.attempt, rank: lease.rank }
}

fn extension(situation: &Situation<'_>, (&key, part): (&PartKey, &Holding)) -> Option<Action> {
    let Stage::Running { deadline_ms, stopping: false } = part.stage else { return None };
    let granted = *situation.deadlines.get(&key.attempt)?;
    (granted > deadline_ms).then_some(Action::Extend(key, granted))
}

fn newcomer(lease: &Lease, deadline: Option<u64>, taken: &mut Taken) -> Option<Action> {
    let key = key_of(lease);
    if lease.want == WantedPhase::Stopped {
        return Some(Action::Refuse(key, "the broker stopped it before this node had begun".to_owned()));
    }
    let deadline = deadline?;
    if let Some(holder) = taken.conflict(&lease.allocation) {
        return Some(Action::Refuse(key, holder));
    }
    taken.add(key, &lease.allocation);
    Some(if lease.inputs.is_empty() { begin(lease, deadline) } else { Action::Stage(key) })
}

/// What makes a part of which nothing is on the disk what its lease wants.
const fn begin(lease: &Lease, deadline: u64) -> Action {
    match lease.want {
        WantedPhase::Prepared => Action::Prepare(key_of(lease)),
        WantedPhase::Running | WantedPhase::Stopped => Action::Start(key_of(lease), deadline),
    }
}

fn listed_part(lease: &Lease, stage: Stage, deadline: Option<u64>) -> Option<Action> {
    let key = key_of(lease);
    match (stage, lease.want) {
        (Stage::Staged, WantedPhase::Prepared | WantedPhase::Running) => {
            deadline.map(|deadline| begin(lease, deadline))
        }
        (Stage::Prepared, WantedPhase::Running) => deadline.map(|deadline| Action::Start(key, deadline)),
        (
            Stage::Staging | Stage::Staged | Stage::Prepared | Stage::Running { stopping: false, .. },
            WantedPhase::Stopped,
        ) => Some(Action::Stop(key, Some(lease.checkpoint.grace))),
        (Stage::Staging, WantedPhase::Prepared | WantedPhase::Running)
        | (Stage::Busy | Stage::Ended { .. }, _)
        | (Stage::Prepared, WantedPhase::Prepared)
        | (Stage::Running { .. }, WantedPhase::Prepared | WantedPhase::Running)
        | (Stage::Running { stopping: true, .. }, WantedPhase::Stopped) => None,
    }
}

/// Which living part has which accelerator or MIG slice.
#[derive(Debug, Default)]
struct Taken {
    accelerators: BTreeMap<u32, PartKey>,
    slices: BTreeMap<String, PartKey>,
}

impl Taken {
    /// A part that is not listed and has not begun is about to be ended without running, so it holds nothing.
    fn by_parts(parts: &BTreeMap<PartKey, Holding>, listed: &BTreeSet<PartKey>) -> Self {
        let mut taken = Self::default();
        for (&key, part) in parts {
            let holds = match part.stage {
                Stage::Busy | Stage::Running { .. } => true,
                Stage::Staging | Stage::Staged | Stage::Prepared => listed.contains(&key),
                Stage::Ended { .. } => false,
            };
            if holds {
                taken.add(key, &part.allocation);
            }
        }
        taken
    }

    fn add(&mut self, key: PartKey, allocation: &Allocation) {
        self.accelerators.extend(allocation.shares.iter().map(|share| (share.index, key)));
        self.slices.extend(allocation.mig.iter().map(|slice| (slice.clone(), key)));
    }

    fn conflict(&self, wanted: &Allocation) -> Option<String> {
        let whole = wanted.shares.iter().find_map(|share| {
            let holder = self.accelerators.get(&share.index)?;
            Some(format!("accelerator {} is in use by part {holder} on this node", share.index))
        });
        whole.or_else(|| {
            wanted.mig.iter().find_map(|slice| {
                let holder = self.slices.get(slice)?;
                Some(format!("MIG slice {slice} is in use by part {holder} on this node"))
            })
        })
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
pub(crate) mod tests;
