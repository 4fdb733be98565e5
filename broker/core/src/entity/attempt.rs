//! One try at running one task: its parts, its money, its end.

use serde::{Deserialize, Serialize};
use spillway_ledger::rates::EgressPrice;
use spillway_ledger::{Hold, Payee, SliceBook, Subject};
use spillway_types::{
    Allocation, AttemptId, AttemptState, ContentHash, DatasetName, DurationMs, GpuModel, GroupName,
    HourlyRate, InstanceId, InstanceType, JobId, Market, NodeId, PartEnd, PoolName, SiteKind, SiteName,
    UnixMs, UserName,
};

use super::PriceStep;

/// How far the broker knows a part to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum PartState {
    /// Its node, or another one of its gang, has to come first.
    Waiting,
    /// Its node may have the lease; nothing has been heard of it.
    Leased,
    /// Its node said that it is ready to start.
    Prepared,
    /// Its node said that the program runs.
    Running,
    /// Its node said how it ended.
    Ended {
        /// How.
        end: PartEnd,
        /// How long it ran, in milliseconds.
        ran_ms: u64,
    },
    /// Its node was silent past lease, grace and margin, or the provider showed the machine gone: nothing of
    /// it runs any more, and its usage may still be reported.
    Silent,
}

impl PartState {
    /// Whether nothing of the part can run any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Silent)
    }

    /// How long it ran, in milliseconds, where its node said so.
    #[must_use]
    pub const fn ran_ms(&self) -> Option<u64> {
        match self {
            Self::Ended { ran_ms, .. } => Some(*ran_ms),
            Self::Waiting | Self::Leased | Self::Prepared | Self::Running | Self::Silent => None,
        }
    }

    /// Whether the program may have started.
    #[must_use]
    pub const fn may_have_run(&self) -> bool {
        match self {
            Self::Waiting | Self::Leased | Self::Prepared => false,
            Self::Running | Self::Silent => true,
            // What is stopped while it is prepared reports that it ran for 0 ms.
            Self::Ended { end, ran_ms } => {
                *ran_ms > 0 || !matches!(end, PartEnd::NotStarted { .. } | PartEnd::Stopped)
            }
        }
    }
}

/// What one node runs of an attempt. Its rank is its place in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The node; none until its instance has become one.
    pub node: Option<NodeId>,
    /// The instance it waits for, or that was launched for it.
    pub instance: Option<InstanceId>,
    /// The node's host name when it got the part: it stays known when the node has left.
    pub host: Option<String>,
    /// What it has of the node.
    pub allocation: Allocation,
    /// What it is charged per hour.
    pub rate: HourlyRate,
    /// What it is charged per hour from later on, in order, where the price of its instance changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repriced: Vec<PriceStep>,
    /// How far it is.
    pub state: PartState,
    /// The node no longer knows of it although it may run: it is not offered again, and is over when its
    /// lease is.
    pub missing: bool,
    /// When the broker heard that its program runs.
    pub started: Option<UnixMs>,
    /// What it has its share of, from its lease on: it stays known when the node has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Box<Machine>>,
}

/// What a part has its share of, as its charges name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The pool.
    pub pool: PoolName,
    /// The model of the accelerators that the part has; none for CPUs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<GpuModel>,
    /// The provider's id of the instance, or the host name.
    pub resource: String,
    /// The shape of the instance; none on-prem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<InstanceType>,
    /// How the instance was bought; none on-prem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market: Option<Market>,
    /// What an hour of the part cost on demand at its lease, where that is another price than its rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_rate: Option<HourlyRate>,
    /// What an hour of as much of the class costs in the cheapest pool of our own; none on-prem, and where none has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_prem_rate: Option<HourlyRate>,
}

/// A dataset that agents bring to an attempt, with what was agreed when it was placed. Where it is read is not part of
/// it: that may hold credentials, and may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The dataset.
    pub dataset: DatasetName,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<ContentHash>,
    /// The site whose copy is read.
    pub from: SiteName,
    /// Who is paid for the bytes that leave it.
    pub payee: Payee,
    /// What they cost.
    pub price: EgressPrice,
}

/// How far a part is known to have got an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The part.
    pub rank: u32,
    /// The dataset.
    pub dataset: DatasetName,
    /// Which download of it, from 0.
    pub pass: u32,
    /// Up to which byte it was charged, exclusive.
    pub to_bytes: u64,
}

/// Why an attempt was stopped before its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopCause {
    /// Somebody cancelled the job.
    Cancelled,
    /// Another part of its gang ended badly or never came.
    GangBroken,
    /// Its machine will be taken away.
    Preempted,
    /// Its instance could not be had.
    NoInstance,
    /// It gives way to another job.
    Displaced,
    /// A limit of its group has no room for it to go on.
    Limit,
    /// As that, and the limit leaves it no grace.
    LimitAtOnce,
}

/// One try at running one task on given nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// The job.
    pub job: JobId,
    /// The task's index.
    pub task: u32,
    /// Its number at the task, from 1.
    pub number: u32,
    /// Where it stands.
    pub state: AttemptState,
    /// Who pays.
    pub group: GroupName,
    /// Who submitted.
    pub user: UserName,
    /// Where it runs.
    pub site: SiteName,
    /// That site's kind.
    pub kind: SiteKind,
    /// The pool of its nodes; none until they are here.
    pub pool: Option<PoolName>,
    /// The shape of the instances it runs on.
    pub instance_type: Option<InstanceType>,
    /// Who is paid.
    pub payee: Payee,
    /// Why there, in one sentence.
    pub because: String,
    /// Its parts by rank.
    pub parts: Vec<Part>,
    /// The reserved money.
    pub hold: Hold,
    /// What has been charged of each part.
    pub slices: SliceBook,
    /// The datasets that agents bring to its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// How far they are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
    /// How long a node may run it without word from the broker.
    pub lease: DurationMs,
    /// How long it has to stop.
    pub grace: DurationMs,
    /// Why it is being stopped.
    pub stop: Option<StopCause>,
    /// What it gives way for, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced_because: Option<String>,
    /// When it was asked to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<UnixMs>,
    /// When it was placed.
    pub placed: UnixMs,
    /// When its nodes got their leases.
    pub leased: Option<UnixMs>,
    /// When every part had started.
    pub active: Option<UnixMs>,
    /// When the last part was over.
    pub ended: Option<UnixMs>,
    /// What it cost so far, in micros.
    pub cost_micros: i64,
    /// Accelerator time charged so far, in milliseconds of one whole accelerator.
    pub gpu_ms: u64,
}

impl Attempt {
    /// Whom and what the ledger's entries are about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject {
            group: self.group.clone(),
            user: self.user.clone(),
            site: self.site.clone(),
            job: self.job,
            attempt: self.id,
            instance: self.parts.first().and_then(|part| part.instance),
        }
    }

    /// Bytes that agents bring from other sites, where no node of it has them.
    #[must_use]
    pub fn bytes_to_bring(&self) -> u64 {
        let away = self.inputs.iter().filter(|input| input.from != self.site);
        let each = away.map(|input| input.bytes).fold(0, u64::saturating_add);
        each.saturating_mul(u64::try_from(self.parts.len()).unwrap_or(u64::MAX))
    }

    /// The rank and part that `node` runs.
    #[must_use]
    pub fn part_on(&self, node: NodeId) -> Option<(usize, &Part)> {
        self.parts.iter().enumerate().find(|(_, part)| part.node == Some(node))
    }

    /// How long it has from the word to stop to the kill. What is silent is given its whole grace: the word may not have
    /// reached it.
    #[must_use]
    pub fn grace_to_stop(&self) -> DurationMs {
        match self.stop {
            Some(StopCause::LimitAtOnce) => DurationMs(0),
            Some(
                StopCause::Cancelled
                | StopCause::GangBroken
                | StopCause::Preempted
                | StopCause::NoInstance
                | StopCause::Displaced
                | StopCause::Limit,
            )
            | None => self.grace,
        }
    }

    /// When the use of a part began, as far as the broker knows: offsets of its slices count from then.
    #[must_use]
    pub fn began(&self, rank: usize) -> UnixMs {
        let started = self.parts.get(rank).and_then(|part| part.started);
        started.or(self.leased).unwrap_or(self.placed)
    }

    /// Whether the program of any part may have started.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        let may_have = |part: &Part| part.state.may_have_run() || part.started.is_some() || part.missing;
        self.active.is_some() || self.parts.iter().any(may_have)
    }
}
