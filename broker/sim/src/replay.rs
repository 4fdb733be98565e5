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
//! when a part ends. It leaves out on purpose: lost nodes, cut tunnels and stolen machines, which
//! [`crate::World`] has.

mod driver;
mod tally;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use spillway_core::Refusal;
use spillway_types::lease::DEFAULT_LEASE;
use spillway_types::{
    Checkpoint, DurationMs, GpuQuantity, GpuRequest, GpuSelector, GroupName, JobSpec, Placement, Resources,
    RetryPolicy, SiteName, UnixMs,
};

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

/// Where and when a job started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its index in the trace.
    pub job: usize,
    /// Where.
    pub place: Place,
    /// When its program started, counted from the beginning.
    pub start: DurationMs,
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
    /// Invariants that were found broken, the newest hundred. Always empty unless there is a defect.
    pub violations: Vec<String>,
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
/// arguments give the same result; `seed` matters for ids, and where launches may find no capacity. `watch` hears
/// now and then how far it is, and may stop it. Boots take exactly as long as their offer says.
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
    driver::Driver::new(description, jobs, scheduler, seed)?.run(watch)
}

/// What a job of the trace asks for. It asks for as little else as there is: accelerators are what counts here.
fn spec(job: &TraceJob, gpus_per_node: u32) -> JobSpec {
    let nodes = job.gpus.div_ceil(gpus_per_node);
    let each = job.gpus.div_ceil(nodes);
    let gpus = GpuRequest { selector: GpuSelector::Any, quantity: GpuQuantity::Whole(each) };
    // An estimate of 0 is not one; the limit never cuts a run short and holds no more money than it must.
    let estimate = job.estimate.max(DurationMs(1));
    JobSpec {
        name: job.id.clone(),
        group: job.group.clone(),
        command: vec!["replay".to_owned()],
        env: BTreeMap::new(),
        image: None,
        resources: Resources { gpus: Some(gpus), cpus_milli: 1, memory_mib: 1 },
        nodes,
        array: None,
        time_limit: estimate.max(job.runtime),
        expected: Some(estimate),
        deadline: None,
        class: None,
        inputs: vec![],
        placement: Placement::default(),
        checkpoint: Checkpoint::default(),
        retry: RetryPolicy::default(),
        lease: DEFAULT_LEASE,
    }
}
