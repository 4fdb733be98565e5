//! Why a command was refused. Nothing changed.

use spillway_ledger::BudgetRefusal;
use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{CorrectionError, PeriodError, PoolCloseError, UsageGap};
use spillway_ledger::limits::{LimitRefusal, LimitsError};
use spillway_ledger::rates::{CurrencyError, RateError};
use spillway_types::{AttemptId, GroupName, IllegalTransition, JobId, NodeId, SiteName, UserName};

/// Why a command was refused, with the value that was wrong and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field of what was asked cannot be.
    #[error("{field}: {value} {problem}")]
    Invalid {
        /// The field, as a job file or a request names it.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Nothing that is known here can ever run the job.
    #[error("{field}: {value} {problem}")]
    Unsatisfiable {
        /// The field.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is known here.
        problem: String,
    },
    /// The group's budget can never pay it.
    #[error(transparent)]
    Budget(#[from] BudgetRefusal),
    /// The user may not do this.
    #[error("user {user} may not {what}")]
    Forbidden {
        /// The user.
        user: UserName,
        /// What.
        what: String,
    },
    /// No such thing, or not for this user.
    #[error("no {kind} {id}")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// Its name or id.
        id: String,
    },
    /// The same idempotency key was used for something else.
    #[error("idempotency key {key:?} was used for another submission, {job}")]
    KeyReused {
        /// The key.
        key: String,
        /// What it made.
        job: JobId,
    },
    /// It ended already.
    #[error("job {job} has ended already: {state}")]
    AlreadyEnded {
        /// The job.
        job: JobId,
        /// How.
        state: &'static str,
    },
    /// Nothing of it waits.
    #[error("job {job} is {state}, and only a job with tasks that wait can be {verb}")]
    NotWaiting {
        /// The job.
        job: JobId,
        /// Where it stands.
        state: &'static str,
        /// What was asked, as a participle.
        verb: &'static str,
    },
    /// The attempt does not give way to others.
    #[error("{attempt} {problem}")]
    NotPreemptible {
        /// The attempt.
        attempt: AttemptId,
        /// Why.
        problem: String,
    },
    /// A join token that does not open anything.
    #[error("{0}")]
    JoinToken(JoinRefusal),
    /// The message comes from a session that is over.
    #[error("node {node}: epoch {given} is over, the newest is {newest}")]
    StaleEpoch {
        /// The node.
        node: NodeId,
        /// What the message carried.
        given: u64,
        /// What counts.
        newest: u64,
    },
    /// A node's events are not the ones that come next.
    #[error("node {node}: event {given} cannot follow event {acked}")]
    SpoolGap {
        /// The node.
        node: NodeId,
        /// Number of the first event given.
        given: u64,
        /// The newest event that is here.
        acked: u64,
    },
    /// The thing is in a state that does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The period cannot be closed.
    #[error(transparent)]
    Period(#[from] Box<PeriodError>),
    /// Use of the period is not known yet.
    #[error(
        "period {period} cannot be closed yet: the use of {count} attempts in it is not complete, {first} first; they \
         report within minutes of the period's end, or are settled when their nodes stay silent"
    )]
    Unsettled {
        /// The period.
        period: Period,
        /// How many.
        count: usize,
        /// The first.
        first: AttemptId,
    },
    /// Nodes that had work in the period have not said that all their use in it is here.
    #[error(
        "period {period} cannot be closed yet: the use of {count} nodes in it may not all be here, {node} of site {site} \
         first: {gap}. To close with what is here: `spillway revoke {node}`, after a drain where it has work; its machine can \
         join again"
    )]
    UsageUnknown {
        /// The period.
        period: Period,
        /// How many nodes.
        count: usize,
        /// The first.
        node: NodeId,
        /// Its site.
        site: SiteName,
        /// What is known of it.
        gap: Box<UsageGap>,
    },
    /// More was used of a pool than it had.
    #[error(transparent)]
    Pool(#[from] Box<PoolCloseError>),
    /// The entry cannot be corrected.
    #[error(transparent)]
    Correction(#[from] Box<CorrectionError>),
    /// It was corrected before.
    #[error("entry `{key}` was corrected already; correct what replaced it")]
    CorrectedAlready {
        /// The entry's key.
        key: String,
    },
    /// The rate card cannot be set.
    #[error(transparent)]
    Rates(#[from] Box<RateError>),
    /// What a currency is worth is not known, or cannot be set so.
    #[error(transparent)]
    Currency(#[from] Box<CurrencyError>),
    /// A limit never allows the job.
    #[error(transparent)]
    NeverFits(Box<LimitRefusal>),
    /// The limits cannot be changed so.
    #[error(transparent)]
    Limits(#[from] Box<LimitsError>),
    /// The budget cannot be set so.
    #[error("budget of group {group}: {problem}")]
    Limit {
        /// The group.
        group: GroupName,
        /// What is wrong.
        problem: String,
    },
}

/// Why a join token does not open anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// Mistyped, or another deployment's.
    #[error("this join token is not known here: make one with `spillway join` at this broker")]
    Unknown,
    /// Its time is over.
    #[error("this join token has expired: make a new one with `spillway join`")]
    Expired,
    /// Another machine used it.
    #[error(
        "this join token was used by another machine: each machine needs one of its own, from `spillway join`"
    )]
    Used,
    /// The instance it was made for is not wanted any more.
    #[error("this instance is not wanted any more: the machine may power off")]
    Unwanted,
}
