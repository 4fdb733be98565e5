//! Who decides what starts where in a replay: exchangeable, each with its own view of the federation.
//!
//! A scheduler is asked after everything of one instant has happened. It is told which rows have changed since
//! it was last asked, so that it can keep a view of its own without ever looking at all nodes or all jobs.

use std::collections::BTreeSet;

use spillway_core::entity::Job;
use spillway_core::{Feed, Key, State, snapshot};
use spillway_policies::{CloudOffer, Decision, Displacement, Planner, Policy};
use spillway_types::{DataMap, UnixMs};

/// What a scheduler sees.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The federation as it is.
    pub state: &'a State,
    /// What clouds would launch.
    pub offers: &'a [CloudOffer],
    /// Where data lies: the same as long as the replay lasts.
    pub data: &'a DataMap,
    /// Rows that changed since the scheduler was last asked; the first time, all of them. A row that is not in the
    /// state any more is over. What a decision named that could not be carried out counts as changed.
    pub touched: &'a BTreeSet<Key>,
    /// The moment.
    pub now: UnixMs,
}

/// Decides what starts now, and where.
pub trait Scheduler: std::fmt::Debug {
    /// What starts now, in order.
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<Decision>;

    /// What is to be stopped, as it was last decided.
    fn displacements(&mut self) -> Vec<Displacement> {
        vec![]
    }

    /// When it wants to be asked even if nothing happens: after the moment at which it was last asked. None where
    /// time alone changes nothing.
    fn wake_at(&self) -> Option<UnixMs>;

    /// Until when it promises that a job that waits has started, or has left for a cloud that can take it; none
    /// where it promises nothing.
    fn bound(&self, _state: &State, _job: &Job) -> Option<UnixMs> {
        None
    }
}

/// The planner as the server runs it: told what changes, and asked for a plan.
#[derive(Debug)]
pub struct PlannerScheduler {
    planner: Planner,
    feed: Feed,
}

impl PlannerScheduler {
    /// Plans by this policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { planner: Planner::new(policy), feed: Feed::default() }
    }
}

impl Scheduler for PlannerScheduler {
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<Decision> {
        self.planner.set_data(seen.data);
        self.feed.tell(&mut self.planner, (seen.state, seen.offers), seen.touched, seen.now);
        if self.planner.waiting() == 0 && !self.planner.has_travellers() {
            return vec![];
        }
        self.planner.plan(seen.now, &mut || true)
    }

    fn displacements(&mut self) -> Vec<Displacement> {
        self.planner.take_displacements()
    }

    fn wake_at(&self) -> Option<UnixMs> {
        self.planner.wake_at()
    }

    fn bound(&self, state: &State, job: &Job) -> Option<UnixMs> {
        self.planner.bound(&snapshot::queued_job(state, job))
    }
}
