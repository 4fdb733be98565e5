//! A whole trace through the real core and ledger, as fast as they are.
//!
//! Time jumps from one event to the next: a program ends, a machine has booted or was idle for long enough, a job
//! arrives, the scheduler wants to be asked. Everything that happens at one instant happens before the scheduler
//! is asked, ends before arrivals. What follows from a decision without taking time (a launch and a boot of 0 ms,
//! enrolment, hello, lease, start) is done at the very instant, so that a start less its arrival is exactly the
//! time in the queue.
//!
//! An event costs what it changes: nothing here looks at all nodes, jobs or attempts, and nothing grows with what
//! is finished but the result. Agents are always connected, so their leases go on without a word; they report use
//! when a part ends. What happens from outside is in [`crate::Outside`]: prices and capacity change, providers take
//! machines back, nodes and links fail; what was lost is tried again as the core has it, and goes on from its newest
//! checkpoint. It leaves out on purpose: copied machines, lost messages, and data that stays where it was moved to.

mod driver;
mod follow;
mod outside;
mod promise;
mod spec;
mod tally;
mod tries;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use spillway_core::Refusal;
use spillway_ledger::Entry;
use spillway_types::{ClassName, DatasetName, DurationMs, GroupName, SiteName, Spot, UnixMs};

use crate::{Description, Scheduler};

/// A job of a trace. Times are whole milliseconds, rounded up by whoever reads the trace: what ended and what came
/// in at one moment may then lie a millisecond apart, in this order or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceJob {
    /// Its id in the trace.
    pub id: String,
    /// Who pays. The description must have the group.
    pub group: GroupName,
    /// When it comes in, counted from the beginning.
    pub arrival: DurationMs,
    /// How long it runs, on nodes and in clouds alike.
    pub runtime: DurationMs,
    /// How long the scheduler is told that it runs.
    pub estimate: DurationMs,
    /// Accelerators in all, over 0. What does not fit one node is asked of `n`, the fewest that could give it: each
    /// gives the `n`th part, rounded up.
    pub gpus: u32,
    /// What it asks beside accelerators.
    pub asks: Asks,
}

/// What a job asks beside accelerators: nothing, unless its trace says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asks {
    /// The class that the policy is asked for.
    pub class: Option<ClassName>,
    /// How long after its arrival it should have ended.
    pub deadline: Option<DurationMs>,
    /// What it reads.
    pub inputs: Vec<DatasetName>,
    /// How often it writes a checkpoint that its next try goes on from; none where a new try begins anew.
    pub checkpoint: Option<DurationMs>,
    /// Whether it may run where the provider may take the machine back: traces mostly do not say, so it may, and
    /// the policy decides.
    pub spot: Spot,
}

impl Default for Asks {
    fn default() -> Self {
        Self { class: None, deadline: None, inputs: vec![], checkpoint: None, spot: Spot::Allow }
    }
}

/// Where a job ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On nodes of the description: for each part the node's index there, and how many accelerators it gave.
    Local(Vec<(u32, u32)>),
    /// On instances of a cloud.
    Cloud {
        /// The region.
        site: SiteName,
    },
}

/// Where and when a job ran. Times are counted from the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its index in the trace.
    pub job: usize,
    /// Where its last try ran.
    pub place: Place,
    /// When its program started for the first time.
    pub began: DurationMs,
    /// When its last try started.
    pub start: DurationMs,
    /// When its last try ended.
    pub end: DurationMs,
    /// How often it was started.
    pub tries: u32,
    /// How long its tries ran in clouds, together.
    pub cloud_ran: DurationMs,
}

impl Placed {
    /// A job that was started once, and ran for `ran`.
    #[must_use]
    pub const fn once(job: usize, place: Place, start: DurationMs, ran: DurationMs) -> Self {
        let cloud_ran = match &place {
            Place::Cloud { .. } => ran,
            Place::Local(_) => DurationMs(0),
        };
        let end = DurationMs(start.0.saturating_add(ran.0));
        Self { job, place, began: start, start, end, tries: 1, cloud_ran }
    }
}

/// How things stood at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// When, counted from the beginning.
    pub at: DurationMs,
    /// Accelerators of the description's nodes on which programs run.
    pub gpus_busy_local: u64,
    /// Accelerators of instances on which programs run.
    pub gpus_busy_cloud: u64,
    /// Jobs that wait.
    pub queued_jobs: u64,
    /// What clouds were paid so far, in micros: posted when parts and instances end.
    pub cloud_micros: i64,
    /// From arrival to start, summed over the jobs that have started.
    pub waited: DurationMs,
}

/// What came of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replay {
    /// Where and when each job started, in the order of the trace.
    pub placements: Vec<Placed>,
    /// How things stood, at about a thousand moments and at the end.
    pub samples: Vec<Sample>,
    /// What was spent, by site and group, in micros: the ledger's own figures.
    pub spend: BTreeMap<(SiteName, GroupName), i64>,
    /// What went otherwise than it was placed.
    pub trouble: Trouble,
    /// Invariants that were found broken, the newest hundred. Always empty unless there is a defect.
    pub violations: Vec<String>,
}

/// What went otherwise than it was placed, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Machines that providers took back while they were wanted.
    pub interruptions: u64,
    /// Starts beyond the first one of each job.
    pub retries: u64,
    /// Accelerator time of tries that no checkpoint has kept, in milliseconds of one accelerator.
    pub lost_gpu_ms: u64,
    /// What of the spend at clouds was for machines that may be taken back, in micros.
    pub spot_micros: i64,
    /// What providers took for data that was moved, in micros. The ledger's figures are without it.
    pub egress_micros: i64,
    /// Jobs that were given up after their last try, by their indexes in the trace.
    pub failed: Vec<usize>,
    /// Jobs that were refused because their deadline cannot be met, each with the reason.
    pub refused: Vec<(usize, String)>,
    /// Jobs that waited past the bound that they were promised although a cloud could take them: none, unless there
    /// is a defect.
    pub broken_bounds: u64,
    /// The longest such wait past the bound.
    pub longest_past_bound: DurationMs,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Jobs that have ended.
    pub done: usize,
    /// Jobs of the trace.
    pub total: usize,
    /// The virtual time, counted from the beginning.
    pub at: DurationMs,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The federation refused what the description says.
    #[error("the description does not hold together")]
    Description(#[source] Refusal),
    /// A job of the trace was refused.
    #[error("job `{job}` of the trace was refused")]
    Job {
        /// Its id in the trace.
        job: String,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// A job of the trace asks for no accelerator.
    #[error("job `{job}` of the trace asks for 0 GPUs: leave it out, or give it 1 or more")]
    NoGpus {
        /// Its id in the trace.
        job: String,
    },
    /// Jobs wait, and nothing is to happen any more.
    #[error(
        "{left} jobs wait for ever at {at}, the first of them `{first}`: no place that the scheduler knows \
         takes it, or its group's budget is used up"
    )]
    Stalled {
        /// How many jobs wait.
        left: usize,
        /// The id of the first of them in the trace.
        first: String,
        /// When.
        at: UnixMs,
    },
    /// The federation refused an agent or a provider that behaves: a defect.
    #[error("the federation refused an agent or a provider that behaves")]
    Defect(#[source] Refusal),
    /// Whoever watched has stopped it.
    #[error("stopped after {done} of {total} jobs")]
    Stopped {
        /// Jobs that had ended.
        done: usize,
        /// Jobs of the trace.
        total: usize,
    },
}

/// Replays `jobs` in what is described: each arrives, waits, runs and is paid for, under `scheduler`. The same
/// arguments give the same result; `seed` matters for ids, where launches may find no capacity, and when providers take
/// spot machines back. `watch` hears now and then how far it is, and may stop it. Boots take exactly as long as their
/// offer says.
///
/// # Errors
/// [`ReplayError`] where the description does not hold together, a job cannot run there, the scheduler leaves
/// jobs waiting for ever, or `watch` has stopped it.
pub fn replay(
    description: Description,
    jobs: &[TraceJob],
    scheduler: Box<dyn Scheduler>,
    seed: u64,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Replay, ReplayError> {
    replay_posting(description, jobs, scheduler, seed, watch, &mut |_, _| ())
}

/// As [`replay`]; `posted` hears every entry of the ledger with the moment at which it was posted, in order.
///
/// # Errors
/// As [`replay`].
pub fn replay_posting(
    description: Description,
    jobs: &[TraceJob],
    scheduler: Box<dyn Scheduler>,
    seed: u64,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    posted: &mut dyn FnMut(UnixMs, &Entry),
) -> Result<Replay, ReplayError> {
    driver::Driver::new(description, jobs, scheduler, seed, posted)?.run(watch)
}
