//! What the planner sees and what it says: a snapshot goes in, a plan comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spillway_types::{
    Allocation, AttemptId, Capabilities, ClassName, CloudName, DataMap, DatasetName, DurationMs,
    FreeResources, GroupName, Held, HourlyRate, IndexRanges, InstanceType, JobId, Market, NodeCapacity,
    NodeId, OfferTerms, Placement, PoolName, Reason, Resources, SiteKind, SiteName, Standing, Tariff, UnixMs,
    UserName,
};

use crate::{Gatekeeper, Policy};

/// Everything a plan is made from. The same snapshot gives the same plan.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The moment it was taken.
    pub now: UnixMs,
    /// Jobs with tasks that wait, in any order.
    pub queue: Vec<QueuedJob>,
    /// Nodes that are known and not gone, in the order of their ids.
    pub nodes: Vec<NodeView>,
    /// What clouds would launch.
    pub offers: Vec<CloudOffer>,
    /// Groups by name.
    pub groups: BTreeMap<GroupName, GroupView>,
    /// Where data lies.
    pub data: DataMap,
    /// Who says where jobs may run; without one every job may run anywhere.
    pub gate: Option<Gatekeeper>,
    /// Weights, waiting budgets and bounds.
    pub policy: Policy,
}

/// A job with tasks that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedJob {
    /// The job.
    pub job: JobId,
    /// Who pays.
    pub group: GroupName,
    /// When it was submitted, or when its newest task came back to the queue.
    pub since: UnixMs,
    /// Indexes of the tasks that wait.
    pub tasks: IndexRanges,
    /// What each node gives.
    pub resources: Resources,
    /// How many nodes start together.
    pub nodes: u32,
    /// Its container image; none runs it as a process.
    pub image: Option<String>,
    /// How long one task is thought to run.
    pub estimate: DurationMs,
    /// How long one task may run at most, with the grace it has to stop: what must be affordable.
    pub longest: DurationMs,
    /// Where it may run, and what that may cost.
    pub placement: Placement,
    /// The class that it names; one that the policy does not know is treated as the default.
    pub class: Option<ClassName>,
    /// By when it should have ended.
    pub deadline: Option<UnixMs>,
    /// How long it has to stop when it is asked to.
    pub grace: DurationMs,
    /// What it reads.
    pub inputs: Vec<DatasetName>,
    /// Who submitted it; none where that is not known yet.
    pub user: Option<UserName>,
    /// What a task loses where a try of it ends early.
    pub restarts: Restarts,
    /// How much of a task's work its checkpoints keep already.
    pub done: DurationMs,
    /// Whether somebody keeps it from being placed. A snapshot's queue has no held jobs.
    pub held: Held,
    /// Before which others somebody put it; the greater goes first.
    pub standing: Standing,
}

/// What a job loses when a try of it ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Restarts {
    /// It never starts twice.
    Never,
    /// It begins anew.
    #[default]
    Anew,
    /// It goes on from its newest checkpoint.
    FromCheckpoint {
        /// How often it writes one.
        every: DurationMs,
    },
}

/// A node as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// Its host name, for explanations.
    pub hostname: String,
    /// Its site.
    pub site: SiteName,
    /// The site's kind.
    pub kind: SiteKind,
    /// The site's jurisdiction, for residency rules.
    pub jurisdiction: Option<String>,
    /// Its pool.
    pub pool: PoolName,
    /// Groups that may use the pool; none means all.
    pub groups: Option<BTreeSet<GroupName>>,
    /// Whether new work may start now.
    pub takes_work: bool,
    /// When it takes work, where it is an instance that still boots.
    pub opens: Option<UnixMs>,
    /// Everything it has.
    pub capacity: NodeCapacity,
    /// What of it is free now.
    pub free: FreeResources,
    /// What its agent can do.
    pub capabilities: Capabilities,
    /// What its use costs.
    pub price: NodePrice,
    /// How it is sold, where it is an instance: whether its provider may take it back.
    pub market: Market,
    /// What runs there, for the timeline.
    pub running: Vec<RunningPart>,
}

/// How the use of a node is priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodePrice {
    /// By the pool's tariff.
    Tariff(Tariff),
    /// By the share of a cloud instance that is already running, at the instance's price.
    Instance(HourlyRate),
}

/// A part that occupies a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPart {
    /// When it began.
    pub began: UnixMs,
    /// When it is thought to end. May lie in the past: then it is overdue.
    pub ends: UnixMs,
    /// What it has.
    pub allocation: Allocation,
    /// Whose it is, for what may move or give way; none where it stays until it ends.
    pub owner: Option<PartOwner>,
}

/// Whose part it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOwner {
    /// The attempt; a gang's has parts on several nodes.
    pub attempt: AttemptId,
    /// Its job as it would be if it waited again.
    pub asks: Arc<QueuedJob>,
    /// What all parts of the attempt are charged per hour.
    pub rate: HourlyRate,
    /// How often its task gave way already.
    pub displaced: u32,
}

/// An instance type that a cloud would launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudOffer {
    /// The cloud.
    pub cloud: CloudName,
    /// The region, as a site.
    pub site: SiteName,
    /// The region's jurisdiction.
    pub jurisdiction: Option<String>,
    /// The provider's name for the shape.
    pub instance_type: InstanceType,
    /// What a node of it will have.
    pub capacity: NodeCapacity,
    /// Price of one instance.
    pub price: HourlyRate,
    /// How long from launch to a node that takes work.
    pub boot: DurationMs,
    /// How many could be launched now; 0 while the region is known to be full.
    pub available: u32,
    /// How it is sold: whether it may be taken back, and the shortest time that is billed.
    #[serde(default)]
    pub terms: OfferTerms,
}

/// How much of each kind of resource, over any number of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Accelerator blocks (hundredths).
    pub blocks: u64,
    /// Thousandths of a CPU.
    pub cpus_milli: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Amounts {
    /// What an allocation takes.
    #[must_use]
    pub fn of(allocation: &Allocation) -> Self {
        Self {
            blocks: allocation.blocks(),
            cpus_milli: u64::from(allocation.cpus_milli),
            memory_mib: allocation.memory_mib,
        }
    }

    /// So many times as much.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self {
            blocks: self.blocks.saturating_mul(count),
            cpus_milli: self.cpus_milli.saturating_mul(count),
            memory_mib: self.memory_mib.saturating_mul(count),
        }
    }

    /// With as much more.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.saturating_add(other.blocks),
            cpus_milli: self.cpus_milli.saturating_add(other.cpus_milli),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
        }
    }

    /// With as much less, nothing where there was less.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.saturating_sub(other.blocks),
            cpus_milli: self.cpus_milli.saturating_sub(other.cpus_milli),
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
        }
    }

    /// The dominant share: the largest part that it is of what there is of any kind of resource, in 2^-32 (Ghodsi and
    /// others, Dominant Resource Fairness, NSDI 2011). Where there is nothing of a kind, one of it counts as all.
    #[must_use]
    pub fn dominant_share(self, of: Self) -> u64 {
        let part = |mine: u64, all: u64| (u128::from(mine) << 32) / u128::from(all.max(1));
        let shares = [
            part(self.blocks, of.blocks),
            part(self.cpus_milli, of.cpus_milli),
            part(self.memory_mib, of.memory_mib),
        ];
        shares.into_iter().max().and_then(|most| u64::try_from(most).ok()).unwrap_or(u64::MAX)
    }
}

/// A group as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Higher goes first.
    pub priority: i32,
    /// Share among groups of one priority.
    pub weight: u32,
    /// What it has in use now over all sites, for its share.
    pub in_use: Amounts,
    /// What may still be held, over all ancestors, in micros; none means no limit.
    pub budget_left: Option<i64>,
}

/// What was decided for the whole queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What starts now, in order.
    pub decisions: Vec<Decision>,
    /// What is to be stopped, to run elsewhere or to make room.
    pub displacements: Vec<Displacement>,
    /// What was seen for each queued job, started or not.
    pub explanations: BTreeMap<JobId, Explanation>,
}

/// An attempt that is to be stopped, with its job's grace; its task waits again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displacement {
    /// The attempt.
    pub attempt: AttemptId,
    /// What for, in one sentence.
    pub because: String,
}

/// One start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The job.
    pub job: JobId,
    /// The task's index.
    pub task: u32,
    /// Where.
    pub target: Target,
    /// The most it can cost by its limits: what is held, with what bringing its inputs costs beside.
    pub hold_micros: i64,
    /// Why here, in one sentence.
    pub because: String,
}

/// Where a task starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Target {
    /// On nodes that are here. All or nothing.
    Nodes {
        /// One for each rank.
        parts: Vec<PartPlacement>,
    },
    /// On instances to be launched: as many as the job asks nodes.
    Launch {
        /// The cloud.
        cloud: CloudName,
        /// The region.
        site: SiteName,
        /// The shape.
        instance_type: InstanceType,
        /// Price of one instance.
        price: HourlyRate,
        /// How it is sold.
        #[serde(default)]
        market: Market,
        /// What each part will have of its instance.
        allocation: Allocation,
        /// What each part is charged per hour.
        rate: HourlyRate,
    },
}

/// One part of a start on a node that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPlacement {
    /// The node.
    pub node: NodeId,
    /// What it gives.
    pub allocation: Allocation,
    /// What the part is charged per hour.
    pub rate: HourlyRate,
}

/// What the planner saw for one job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// Why it waits; none where every waiting task starts now.
    pub reason: Option<Reason>,
    /// When the next task is planned to start, where it waits for resources.
    pub planned_start: Option<UnixMs>,
    /// Until when it has started, or has left for a cloud; none where no cloud can take it.
    pub bound: Option<UnixMs>,
    /// What it was promised before, where its planned start became later since.
    #[serde(default)]
    pub delay: Option<Delay>,
    /// Its place in the queue, from 1.
    pub position: u32,
    /// Every place that was considered, the best first.
    pub candidates: Vec<Candidate>,
}

/// A planned start that became later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// What was planned before.
    pub was: UnixMs,
    /// Why it is later now.
    pub cause: DelayCause,
}

/// Why a planned start became later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DelayCause {
    /// A node left, or takes no work any more.
    LostRoom,
    /// Something runs longer than it was thought to, or ended at another time.
    OffEstimate,
    /// A job came that goes before it, or was put before it.
    JobBefore,
    /// The queue was laid in another order, which costs less for all together.
    OrderChanged,
}

impl DelayCause {
    /// The cause as a person reads it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::LostRoom => "a node left or takes no work",
            Self::OffEstimate => "something runs longer than it was thought to",
            Self::JobBefore => "a job came that goes before it",
            Self::OrderChanged => "another order of the queue costs less for all together",
        }
    }
}

/// One place that was considered for one task of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its site.
    pub site: SiteName,
    /// The pool, or the instance type.
    pub what: String,
    /// The one word.
    pub verdict: Verdict,
    /// The sentence behind the word: what is missing by how much, or what was better.
    pub detail: String,
    /// Price per hour of all parts together, where it fits.
    pub rate: Option<HourlyRate>,
    /// What the run is thought to cost, in micros.
    pub cost_micros: Option<i64>,
    /// Bytes of the job's inputs that are not there.
    #[serde(default)]
    pub move_bytes: u64,
    /// What moving them costs in all, in micros: shared by the waiting jobs that read the same.
    #[serde(default)]
    pub move_micros: i64,
    /// How long they are on the way.
    #[serde(default)]
    pub move_time: DurationMs,
    /// What interruptions are thought to cost there, in micros.
    #[serde(default)]
    pub risk_micros: i64,
    /// What was compared, in micros: the money that the run costs the organisation more, the job's part of moving its
    /// data, the risk, and the price of the wait.
    pub total_micros: Option<i64>,
    /// How long until it would start.
    pub wait: Option<DurationMs>,
}

/// Why a place was chosen or not, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// It runs here.
    Chosen,
    /// It is planned to start here later.
    Planned,
    /// Another place costs less, waiting included.
    Dearer,
    /// It fits, but others hold it for longer than waiting is worth.
    Full,
    /// It does not have what the job asks, even when empty.
    TooSmall,
    /// The job's `allow` list, its residency rule or an access policy leaves it out.
    NotAllowed,
    /// The pool is for other groups.
    OtherGroups,
    /// Above the job's `max_price`.
    MaxPrice,
    /// More than the group's budget has left.
    Budget,
    /// It would end after the job's deadline, or might.
    Deadline,
    /// The provider has none just now.
    NoCapacity,
    /// Cordoned, drained, disconnected or held by its owner.
    Closed,
    /// Its agent runs no containers.
    NoContainer,
    /// Its agent gives out no parts of accelerators.
    NoFractions,
}
