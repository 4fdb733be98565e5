//! What can be asked of the federation.

use std::collections::BTreeSet;

use spillway_ledger::Entry;
use spillway_ledger::calendar::{Day, Period};
use spillway_ledger::journal::{Digest, UsageEvent, UsageMark};
use spillway_ledger::limits::LimitsChange;
use spillway_ledger::rates::{Card, ExchangeRate, Stated};
use spillway_policies::Decision;
use spillway_types::{
    AttemptId, Currency, DatasetName, DurationMs, GroupName, InstanceId, Inventory, JobId, JobSpec,
    JoinTokenId, NodeId, NodeStep, PartEnd, PoolName, Role, UnixMs, UserName,
};

use crate::entity::{GoneReason, Group, Pool, Site};

/// One command. Each is checked against the state; a refused one changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A broker starts on this database.
    StartBroker {
        /// The deployment's id, for the first start; later ones keep the first.
        deployment: String,
    },
    /// Declares or changes a site.
    DeclareSite(Site),
    /// Declares or changes a pool.
    DeclarePool(Pool),
    /// Declares or changes a group, its budget included.
    DeclareGroup(Group),
    /// Sets a group's budget.
    SetBudget {
        /// The group.
        group: GroupName,
        /// In micros; none means no limit.
        limit_micros: Option<i64>,
        /// What was stated, where that was in another currency.
        stated: Option<Stated>,
    },
    /// Closes a month: what is late is booked into the next one from then on.
    ClosePeriod {
        /// The month.
        period: Period,
    },
    /// Notes the digest of a closed month's export.
    FreezePeriod {
        /// The month.
        period: Period,
        /// SHA-256 of its export.
        digest: Digest,
    },
    /// Takes back what an entry charged, and posts what it should have been.
    Correct {
        /// The entry, as the ledger has it.
        entry: Box<Entry>,
        /// GPU-milliseconds and micros that it should have been; none takes it back only.
        becomes: Option<(u64, i64)>,
        /// Who asks.
        by: UserName,
        /// Why.
        because: String,
    },
    /// Sets a pool's rate card from an instant on.
    SetRates {
        /// The pool.
        pool: PoolName,
        /// From when on.
        effective: UnixMs,
        /// The card.
        card: Box<Card>,
    },
    /// Notes what one unit of a currency is worth from a day on.
    SetExchange {
        /// The currency.
        currency: Currency,
        /// The day, in UTC.
        from: Day,
        /// What it is worth in dollars.
        rate: ExchangeRate,
    },
    /// Removes a group that nothing is below and nobody uses.
    RemoveGroup {
        /// The group.
        group: GroupName,
    },
    /// Changes a limit, a group's time zone or a weight, or transfers budget.
    ChangeLimits(Box<LimitsChange>),
    /// Declares or changes a user.
    DeclareUser {
        /// The user.
        user: UserName,
        /// What the user may do.
        role: Role,
        /// Groups the user may submit for.
        groups: BTreeSet<GroupName>,
    },
    /// Records a token that was made for a user.
    IssueToken {
        /// The user.
        user: UserName,
        /// SHA-256 of the token, in hexadecimal.
        hash: String,
    },
    /// Records a join token.
    IssueJoinToken {
        /// SHA-256 of the token, in hexadecimal.
        hash: String,
        /// The pool it opens.
        pool: PoolName,
        /// How long it is good.
        lifetime: DurationMs,
        /// Who asked for it.
        issuer: UserName,
    },
    /// A machine redeems a token.
    Enrol {
        /// What it shows.
        proof: JoinProof,
        /// SHA-256 of its public key.
        key_hash: String,
        /// Its host name.
        hostname: String,
    },
    /// A node's agent says hello.
    Connect {
        /// The node.
        node: NodeId,
        /// Its boot nonce.
        boot_nonce: u64,
        /// What it has.
        inventory: Box<Inventory>,
        /// Attempts that it has parts of on its disk.
        observed: BTreeSet<AttemptId>,
        /// Where its spool stands; none where its agent keeps no mark of its usage events.
        spool: Option<SpoolHead>,
    },
    /// A node's session ended.
    Disconnect {
        /// The node.
        node: NodeId,
        /// The session's epoch; an older one changes nothing.
        epoch: u64,
    },
    /// A person does something to a node.
    StepNode {
        /// The node.
        node: NodeId,
        /// What.
        step: NodeStep,
    },
    /// A node reports.
    Report {
        /// The node.
        node: NodeId,
        /// The session's epoch.
        epoch: u64,
        /// Number of the first report.
        first: u64,
        /// In order, without a gap.
        reports: Vec<PartReport>,
    },
    /// A node says what it has sent of its usage. Noted where [`crate::usage::news`] has something.
    StateUsage {
        /// The node.
        node: NodeId,
        /// The session's epoch.
        epoch: u64,
        /// The usage events that it has spooled.
        sent: UsageMark,
        /// All its use until this many milliseconds before the sending is in them.
        age_ms: u64,
    },
    /// A node was silent past lease, grace and margin of this part.
    DeclareSilent {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
    },
    /// A node's machine will be taken away.
    Interrupt {
        /// The node.
        node: NodeId,
    },
    /// Submits a job.
    Submit {
        /// What is asked.
        spec: Box<JobSpec>,
        /// Who asks.
        user: UserName,
        /// Idempotency key and digest of the content.
        key: Option<(String, String)>,
    },
    /// Cancels a job.
    Cancel {
        /// The job.
        job: JobId,
        /// Who asks.
        user: UserName,
    },
    /// Keeps the waiting tasks of a job from being placed.
    Hold {
        /// The job.
        job: JobId,
        /// Who asks.
        user: UserName,
    },
    /// Lets a job that is held go on. An admin's hold is released by admins only.
    Release {
        /// The job.
        job: JobId,
        /// Who asks.
        user: UserName,
    },
    /// Puts a waiting job before the others of its group; where an admin asks, before those of all groups.
    Top {
        /// The job.
        job: JobId,
        /// Who asks.
        user: UserName,
    },
    /// Stops an attempt so that a more urgent job gets its place; its task waits again. Only of a job that may
    /// start twice, and at most [`crate::MAX_DISPLACEMENTS`] times for each task.
    Preempt {
        /// The attempt.
        attempt: AttemptId,
        /// What for, in one sentence.
        because: String,
    },
    /// Carries out what a plan decided, as far as it still holds.
    Place {
        /// The starts, in order.
        decisions: Vec<Decision>,
        /// Where agents of new instances dial.
        endpoint: Endpoint,
    },
    /// Something happened at a provider.
    StepInstance {
        /// The instance.
        instance: InstanceId,
        /// What.
        what: InstanceNews,
    },
    /// Holds what instances cost against what their clouds say now: what has another price costs that from now on.
    RepriceInstances,
    /// Time passed: ends idle instances, settles what nobody will report.
    Tick {
        /// The limits.
        limits: TickLimits,
    },
    /// Forgets idempotency keys that are a day old. Looks at all of them: not for every tick.
    ForgetOldKeys,
}

/// Where agents of new instances dial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// `host:port` of the tunnel.
    pub broker_addr: String,
    /// SHA-256 of the CA certificate.
    pub ca_fingerprint: String,
}

/// Bounds that [`Command::Tick`] enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickLimits {
    /// How long an idle instance is kept.
    pub warm: DurationMs,
    /// How long an instance may take from launch to a node.
    pub boot: DurationMs,
    /// How long usage of a silent part is waited for.
    pub settle: DurationMs,
}

impl Default for TickLimits {
    fn default() -> Self {
        Self {
            warm: DurationMs::from_secs(300),
            boot: DurationMs::from_secs(900),
            settle: DurationMs::from_secs(900),
        }
    }
}

/// What a machine shows to become a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinProof {
    /// A join token, by its hash.
    Token {
        /// SHA-256 of the token, in hexadecimal.
        hash: String,
    },
    /// The token of an instance, checked by the caller.
    Instance {
        /// The instance.
        instance: InstanceId,
    },
}

/// Where a node's spool stands as it says hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolHead {
    /// The number that its next event gets.
    pub next: u64,
    /// Behind which number its mark of usage events begins.
    pub usage_after: u64,
}

/// What a node says about one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReport {
    /// The attempt.
    pub attempt: AttemptId,
    /// The part.
    pub rank: u32,
    /// What.
    pub news: PartNews,
}

impl PartReport {
    /// What it says of use; none where it says nothing of it.
    #[must_use]
    pub const fn usage(&self) -> Option<UsageEvent> {
        let Self { attempt, rank, .. } = *self;
        match self.news {
            PartNews::Usage { from_ms, to_ms } => {
                Some(UsageEvent { attempt, rank, from_ms, to_ms, ended: false })
            }
            PartNews::Ended { ran_ms, .. } => {
                Some(UsageEvent { attempt, rank, from_ms: 0, to_ms: ran_ms, ended: true })
            }
            PartNews::Prepared | PartNews::Started | PartNews::Moved { .. } | PartNews::Output => None,
        }
    }
}

/// What happened to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartNews {
    /// Ready to start.
    Prepared,
    /// Its program runs.
    Started,
    /// It ran from `from_ms` to `to_ms`, counted from its start.
    Usage {
        /// Begin.
        from_ms: u64,
        /// End, exclusive.
        to_ms: u64,
    },
    /// So much of an input came to it from the input's site.
    Moved {
        /// The dataset.
        dataset: DatasetName,
        /// Which download of it by this part, from 0.
        pass: u32,
        /// First byte.
        from_bytes: u64,
        /// Last byte, exclusive.
        to_bytes: u64,
    },
    /// It wrote output, which the caller has stored.
    Output,
    /// It ended.
    Ended {
        /// How.
        end: PartEnd,
        /// How long it ran.
        ran_ms: u64,
    },
}

/// What happened to an instance at its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceNews {
    /// The provider is about to be asked.
    Asking,
    /// It exists there.
    Exists {
        /// The provider's id.
        provider_id: String,
        /// When it began to run.
        launched: UnixMs,
    },
    /// The answer could mean either.
    Doubt,
    /// It is not there, or no more.
    Gone(GoneReason),
    /// End it.
    Terminate,
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// The job that was made, or the one that the same key had made before.
    Job(JobId),
    /// The node that a machine became.
    Node(NodeId),
    /// A session was opened.
    Session {
        /// Its epoch.
        epoch: u64,
        /// The newest event of the node's spool that is here.
        acked: u64,
        /// Behind which number the mark of its usage events begins.
        usage_after: u64,
    },
    /// Everything up to this number is here.
    Acked(u64),
    /// How many decisions of a plan were carried out, and how many no longer held.
    Placed {
        /// Carried out.
        started: usize,
        /// No longer held.
        stale: usize,
    },
    /// A join token's handle.
    JoinToken(JoinTokenId),
}
