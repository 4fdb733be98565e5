//! The planner: what is known of the federation goes in, a plan comes out, with the reason for every candidate.
//!
//! [`Planner`] is told what changes and plans the whole queue: it lays the jobs, in an order that it searches for,
//! onto every node's profile of free resources (conservative backfill: what an earlier job has reserved is not
//! touched). Each job gets the place that costs least in all: the money that a run costs more, the price of the wait,
//! and the price of GPUs that others may want soon. What would wait longer than waiting is worth leaves for a cloud at
//! once, the right jobs first. [`plan`] does the same for one snapshot.
//!
//! It reads no clock and draws no random number; the same calls give the same plans. Floating-point numbers compare
//! costs; no sum that is held or charged comes from one. It leaves out on purpose limits that several groups share
//! (`budget_left` is each group's own; the ledger has the last word on a hold).

pub mod model;
mod named;
mod policy;
mod satisfy;

mod planner;
mod told;

mod gate;

mod admit;
mod decide;
mod displace;
mod order;
mod promise;
mod search;

mod board;
mod courses;
mod gang;
mod index;
mod item;
mod lay;
mod learned;
mod occupancy;
mod profile;
mod sites;
mod trees;

mod fleet;
mod judge;
mod layout;
mod moving;
mod offer;
mod risk;
mod shape;

mod fragmentation;

mod barred;
mod explain;
mod words;

pub use fragmentation::{ANY_MODEL, Ask, ModelSet, Packer, PackingNode, Spot};
pub use gate::{Facts, Gate, GateJob, GatePlace, Gatekeeper, Refused};
pub use model::*;
pub use named::{NAMED, Named, named};
pub use planner::Planner;
pub use policy::{Burst, Class, ComeHome, Policy, PolicyError, Preemption, Sharing, SpotRule};
pub use satisfy::{Places, Unsatisfiable, cheapest_hold, could_ever_run};

/// Plans the whole queue: what starts now and where, and for every queued job what was seen.
///
/// The first `policy.max_jobs` jobs in the queue's order are looked at, and at most `policy.max_starts` tasks are
/// started; jobs that are left out get [`spillway_types::Reason::Priority`] and their position.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut planner = Planner::of(snapshot);
    let decisions = planner.plan(snapshot.now, &mut || true);
    Plan { decisions, displacements: planner.take_displacements(), explanations: planner.explanations() }
}

/// What would become of `job` if it came after everything in the queue. It need not be in the queue; its id may
/// be any that is not there.
#[must_use]
pub fn explain_one(snapshot: &Snapshot, job: &QueuedJob) -> Explanation {
    let mut planner = Planner::of(snapshot);
    planner.set_job(job.clone());
    planner.look_at_all();
    planner.plan(snapshot.now, &mut || true);
    planner.explanation(job.job).unwrap_or_default()
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod scale_tests;
