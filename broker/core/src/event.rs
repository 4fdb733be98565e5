//! What happened. Events are facts: applying one never asks whether it may happen.

use serde::{Deserialize, Serialize};
use spillway_ledger::Entry;
use spillway_ledger::calendar::{Day, Period};
use spillway_ledger::journal::{Digest, SiteManifest, UsageMark};
use spillway_ledger::limits::LimitsChange;
use spillway_ledger::rates::{BillingTerms, Card, ExchangeRate};
use spillway_policies::PartPlacement;
use spillway_types::{
    Allocation, AttemptId, CloudName, Currency, DatasetName, DurationMs, FailureReason, GpuModel, GroupName,
    HourlyRate, InstanceId, InstanceStep, InstanceType, Inventory, JobId, JobSpec, Market, NodeCapacity,
    NodeId, NodeStep, PartEnd, Reason, Role, SiteKind, SiteName, TopScope, UserName,
};

use crate::entity::{GoneReason, Group, Input, JoinToken, Pool, Site, StopCause, Token, User};
use crate::pools::PoolClosed;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A broker started on this database.
    BrokerStarted {
        /// Its incarnation.
        incarnation: u64,
        /// The deployment's id.
        deployment: String,
    },
    /// A site is known, or changed.
    SiteDeclared(Site),
    /// A pool is known, or changed.
    PoolDeclared(Pool),
    /// A group is known, or changed.
    GroupDeclared(Group),
    /// Limits, their time zones, their weights or their shares changed.
    LimitsChanged(LimitsChange),
    /// A group is no more.
    GroupRemoved {
        /// The group.
        group: GroupName,
    },
    /// What an attempt runs on was held for another lease.
    LeaseExtended {
        /// The attempt.
        attempt: AttemptId,
        /// Which lease it is, the first being 1.
        lease: u32,
    },
    /// A user is known, or changed.
    UserDeclared(User),
    /// A pool's month is accounted for.
    PoolClosed(Box<PoolClosed>),
    /// A period is closed: nothing is booked into it any more.
    PeriodClosed {
        /// The period.
        period: Period,
        /// What was here of each site's usage.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        manifests: Vec<SiteManifest>,
    },
    /// The export of a closed period was made, and is the same for ever.
    PeriodFrozen {
        /// The period.
        period: Period,
        /// SHA-256 of it.
        digest: Digest,
    },
    /// What an entry charged was taken back, and what it should have been was posted.
    EntryCorrected(Box<Corrected>),
    /// A pool has another rate card.
    RatesSet {
        /// The pool.
        pool: spillway_types::PoolName,
        /// From when on.
        effective: spillway_types::UnixMs,
        /// The card.
        card: Box<Card>,
    },
    /// A currency is worth something else from a day on.
    ExchangeSet {
        /// The currency.
        currency: Currency,
        /// The day, in UTC.
        from: Day,
        /// What one unit is worth in dollars.
        rate: ExchangeRate,
    },
    /// A user got a token.
    TokenIssued(Token),
    /// A machine may join.
    JoinTokenIssued(JoinToken),
    /// A machine became a node.
    NodeEnrolled {
        /// The node.
        node: NodeId,
        /// Its pool.
        pool: spillway_types::PoolName,
        /// The instance it is the agent of.
        instance: Option<InstanceId>,
        /// Hash of the join token it redeemed; none for an instance's.
        join_token: Option<String>,
        /// SHA-256 of its public key.
        key_hash: String,
        /// Its host name.
        hostname: String,
    },
    /// A node's agent said hello.
    NodeConnected {
        /// The node.
        node: NodeId,
        /// The session's epoch.
        epoch: u64,
        /// The agent's boot nonce.
        boot_nonce: u64,
        /// What it has.
        inventory: Box<Inventory>,
        /// Attempts whose parts there the node no longer knows although they may run.
        missing: Vec<AttemptId>,
    },
    /// Something else happened to a node.
    NodeStepped {
        /// The node.
        node: NodeId,
        /// What.
        step: NodeStep,
    },
    /// A node's spool is durable here up to this number.
    SpoolAcked {
        /// The node.
        node: NodeId,
        /// The number.
        through: u64,
        /// The mark of its usage events with those that came; none where none of them said what was used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<UsageMark>,
    },
    /// A node had another mark of its usage events than is here, or none: both begin a new one.
    UsageMarkBegun {
        /// The node.
        node: NodeId,
        /// Behind which number.
        after: u64,
    },
    /// A node said what it had sent of its usage, and until when all of its use was in that.
    UsageStated {
        /// The node.
        node: NodeId,
        /// What it had sent.
        sent: UsageMark,
        /// All use before this instant was in it.
        complete_to: spillway_types::UnixMs,
    },
    /// A job was accepted.
    JobSubmitted {
        /// Its id.
        job: JobId,
        /// What was asked.
        spec: Box<JobSpec>,
        /// Who asked.
        user: UserName,
        /// The idempotency key and the content's digest, where a key was given.
        key: Option<(String, String)>,
    },
    /// Somebody asked to cancel a job; its waiting tasks are cancelled.
    JobCancelled {
        /// The job.
        job: JobId,
    },
    /// Somebody holds a job: its waiting tasks stay where they are.
    JobHeld {
        /// The job.
        job: JobId,
        /// Who.
        user: UserName,
        /// With which right.
        role: Role,
    },
    /// A job is not held any more.
    JobReleased {
        /// The job.
        job: JobId,
    },
    /// Somebody put a job before others.
    JobTopped {
        /// The job.
        job: JobId,
        /// Before which.
        scope: TopScope,
    },
    /// Old idempotency keys were forgotten.
    SubmissionsForgotten {
        /// The keys.
        keys: Vec<String>,
    },
    /// A task got an attempt with a hold.
    AttemptPlaced(Box<Placed>),
    /// Every node of an attempt is here; they have their leases.
    AttemptLeased {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A node said that a part is ready to start.
    PartPrepared {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
    },
    /// A node said that a part's program runs.
    PartStarted {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
    },
    /// Every part runs.
    AttemptActivated {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A part was charged for `from_ms..to_ms` of its run.
    UsageCharged {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
        /// Begin, counted from the part's start.
        from_ms: u64,
        /// End, exclusive.
        to_ms: u64,
    },
    /// Bytes of an input left its site for a part.
    BytesMoved {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
        /// The dataset.
        dataset: DatasetName,
        /// Which download of it by this part, from 0.
        pass: u32,
        /// First byte.
        from_bytes: u64,
        /// Last byte, exclusive.
        to_bytes: u64,
    },
    /// A node said how a part ended.
    PartEnded {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
        /// How.
        end: PartEnd,
        /// How long it ran, in milliseconds.
        ran_ms: u64,
    },
    /// A part's node was silent for so long that nothing of it can run.
    PartSilent {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
    },
    /// An attempt's parts are to stop.
    AttemptStopped {
        /// The attempt.
        attempt: AttemptId,
        /// Why.
        cause: StopCause,
    },
    /// An attempt's parts are to stop, with the grace their job asks for, so that another job gets its place.
    AttemptDisplaced {
        /// The attempt.
        attempt: AttemptId,
        /// What for, in one sentence.
        because: String,
    },
    /// The first part of an attempt ended.
    AttemptFinishing {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Nothing of an attempt can run any more; its nodes are free, its task goes on.
    AttemptEnded {
        /// The attempt.
        attempt: AttemptId,
        /// What becomes of the task.
        outcome: TaskOutcome,
    },
    /// An attempt's usage is complete; what is left of its hold is released.
    AttemptSettled {
        /// The attempt.
        attempt: AttemptId,
    },
    /// An instance is wanted.
    InstanceIntended(Box<Intended>),
    /// Something happened to an instance.
    InstanceStepped {
        /// The instance.
        instance: InstanceId,
        /// What.
        step: InstanceStep,
        /// The provider's id and the moment it began to run, where they became known.
        observed: Option<(String, spillway_types::UnixMs)>,
    },
    /// An instance costs something else from now on.
    InstanceRepriced {
        /// The instance.
        instance: InstanceId,
        /// What an hour costs.
        price: HourlyRate,
        /// What the same shape costs on demand; none where it is bought on demand, or nobody offers that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_demand_price: Option<HourlyRate>,
    },
    /// The provider showed that an instance is gone.
    InstanceGone {
        /// The instance.
        instance: InstanceId,
        /// Why.
        why: GoneReason,
    },
}

/// What becomes of a task when its attempt has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum TaskOutcome {
    /// It ended with code 0.
    Succeeded,
    /// It ended otherwise.
    Failed {
        /// Why.
        failure: FailureReason,
    },
    /// Somebody asked for it.
    Cancelled,
    /// It goes back to the queue.
    Requeued {
        /// Why it waits.
        reason: Reason,
        /// Whether the attempt counts against the retry policy.
        counted: bool,
    },
    /// It goes back to the queue because its attempt gave way to another job: not a failure, and not counted as
    /// a try, but counted by itself.
    Displaced,
}

/// An attempt as it is placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The attempt.
    pub attempt: AttemptId,
    /// The job.
    pub job: JobId,
    /// The task.
    pub task: u32,
    /// Its number at the task.
    pub number: u32,
    /// Where it runs.
    pub site: SiteName,
    /// That site's kind.
    pub kind: SiteKind,
    /// The cloud that is paid; none where the site is.
    pub cloud: Option<CloudName>,
    /// Parts on nodes that are here, or on instances that are to come.
    pub parts: PlacedParts,
    /// How long it may run on what is held before more must be held; none where all that its time limit allows is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<DurationMs>,
    /// What model of accelerator each part has, in order of ranks; none where it has none.
    #[serde(default)]
    pub models: Vec<Option<GpuModel>>,
    /// The most that an hour of each part may cost, in order of ranks: on spot machines the price on demand. None where
    /// that is its rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<Option<HourlyRate>>,
    /// The datasets that agents bring to it, as they were priced then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// What is held, for bytes that have to be moved too.
    pub hold_micros: i64,
    /// Why there.
    pub because: String,
}

/// The parts of an attempt as it is placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "on")]
pub enum PlacedParts {
    /// On nodes that are here.
    Nodes {
        /// One for each rank.
        parts: Vec<PartPlacement>,
    },
    /// On instances that are to come.
    Instances {
        /// One for each rank.
        instances: Vec<InstanceId>,
        /// What each part has of its instance.
        allocation: Allocation,
        /// What each part is charged per hour.
        rate: HourlyRate,
    },
}

/// An instance as it is intended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intended {
    /// The instance.
    pub instance: InstanceId,
    /// The job it is for.
    pub job: JobId,
    /// The attempt it is for.
    pub attempt: AttemptId,
    /// Who pays what no attempt is charged.
    pub group: GroupName,
    /// Who submitted the job.
    pub user: UserName,
    /// The cloud.
    pub cloud: CloudName,
    /// The region.
    pub site: SiteName,
    /// The shape.
    pub instance_type: InstanceType,
    /// What its node will have.
    pub capacity: NodeCapacity,
    /// Its price.
    pub price: HourlyRate,
    /// How it is sold.
    #[serde(default, skip_serializing_if = "Market::is_on_demand")]
    pub market: Market,
    /// What the same shape cost on demand; none where it is bought on demand, or nobody offered that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_price: Option<HourlyRate>,
    /// How its time is billed.
    #[serde(default)]
    pub billing: BillingTerms,
    /// Where its agent dials.
    pub broker_addr: String,
    /// The CA that its agent expects.
    pub ca_fingerprint: String,
}

/// A correction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corrected {
    /// Takes back what the entry charged.
    pub reversal: Entry,
    /// What it should have been, where that is not nothing.
    pub replacement: Option<Entry>,
    /// Who asked.
    pub by: UserName,
    /// Why.
    pub because: String,
}
