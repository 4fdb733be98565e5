//! The planner: a pure function from a snapshot to a plan, with the reason for every candidate.
//!
//! [`plan`] lays the queue, in its order, onto every node's profile of free resources (conservative backfill:
//! what an earlier job has reserved is not touched) and decides for each job on arrival: what can start within
//! the job's waiting budget waits for nodes that are here, what cannot is launched in a cloud at once.
//!
//! It reads no clock, draws no random number and uses no floating-point number; the same snapshot gives the same
//! plan. It leaves out on purpose: pre-emption, data gravity, interconnect domains, spot prices, and limits
//! that several groups share (`budget_left` is each group's own; the ledger has the last word on a hold).

pub mod model;
mod policy;
mod satisfy;

mod planner;

mod look;
mod order;
mod start;

mod search;
mod shape;
mod timeline;

mod judge;
mod layout;
mod world;

mod barred;
mod explain;
mod words;

pub use model::*;
pub use policy::{Policy, PolicyError};
pub use satisfy::{Unsatisfiable, cheapest_hold, could_ever_run};

use planner::Planner;

/// Plans the whole queue: what starts now and where, and for every queued job what was seen.
///
/// The first `policy.max_jobs` jobs in the queue's order are looked at, and at most `policy.max_starts` tasks are
/// started; jobs that are left out get [`spillway_types::Reason::Priority`] and their position.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut planner = Planner::of(snapshot);
    planner.run();
    planner.into_plan()
}

/// What would become of `job` if it came after everything in the queue. It need not be in the queue; its id may
/// be any that is not there.
#[must_use]
pub fn explain_one(snapshot: &Snapshot, job: &QueuedJob) -> Explanation {
    let mut planner = Planner::of(snapshot);
    planner.run();
    planner.explain_last(job)
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod property_tests;
