//! Everything that is alive: what the store loads at a start, and what changes since the last write.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{Periods, SiteManifest, SiteUsage, Statement};
use spillway_ledger::limits::{LimitKey, Limits};
use spillway_ledger::rates::{CurrencyTable, RateBook};
use spillway_ledger::{Book, Entry};
use spillway_types::{
    AttemptId, Currency, GroupName, InstanceId, JobId, NodeId, PoolName, SiteName, UnixMs, UserName,
};

use crate::History;
use crate::entity::{Attempt, Group, Instance, Job, JoinToken, Node, Pool, Site, Submission, Token, User};
use crate::limited::Waits;
use crate::pools::{PoolBooks, PoolKey};

/// What is kept beside the state and is not of it: two states are equal without it, and it is not stored.
#[derive(Debug, Clone, Default)]
pub struct Aside<T>(T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Aside<T> {}

impl<T> std::ops::Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for Aside<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// The federation: groups, sites, nodes, and every job, attempt and instance that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// The deployment's id; empty before the first start.
    pub deployment: String,
    /// Grows with every start of a broker.
    pub incarnation: u64,
    /// Number of the newest journal entry.
    pub journal: u64,
    /// Sites by name.
    pub sites: BTreeMap<SiteName, Site>,
    /// Pools by name.
    pub pools: BTreeMap<PoolName, Pool>,
    /// Groups by name.
    pub groups: BTreeMap<GroupName, Group>,
    /// Users by name.
    pub users: BTreeMap<UserName, User>,
    /// Tokens by hash.
    pub tokens: BTreeMap<String, Token>,
    /// Join tokens by hash.
    pub join_tokens: BTreeMap<String, JoinToken>,
    /// Nodes that are not gone.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Instances that are not gone.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Jobs that are not final, or have attempts that are not settled.
    pub jobs: BTreeMap<JobId, Job>,
    /// Attempts that are not settled.
    pub attempts: BTreeMap<AttemptId, Attempt>,
    /// Submissions of the last day that carried a key.
    pub submissions: BTreeMap<String, Submission>,
    /// Balances and limits.
    pub book: Book,
    /// What each group was charged beyond its holds: overruns, and what instances cost that no attempt used.
    /// Credits do not lower it: what they gave back may have been held again since.
    pub overshoot_micros: BTreeMap<GroupName, i64>,
    /// The months that are closed.
    #[serde(default)]
    pub periods: Periods,
    /// What is known of each site's usage beside its nodes.
    #[serde(default)]
    pub site_usage: BTreeMap<SiteName, SiteUsage>,
    /// The rate cards of pools.
    #[serde(default)]
    pub rates: RateBook,
    /// What currencies are worth in dollars, in which the books are kept.
    #[serde(default)]
    pub currencies: CurrencyTable,
    /// What groups may use, hold and have used.
    #[serde(default)]
    pub limits: Limits,
    /// What limits last refused to start: it is found out again.
    #[serde(skip)]
    pub waits: Aside<Waits>,
    /// Keys of entries that were corrected since the broker started. The store knows those before.
    #[serde(skip)]
    pub corrected: Aside<BTreeSet<String>>,
    /// What pools could give, what was used of them, and what became of their months.
    #[serde(default)]
    pub pool_books: PoolBooks,
    /// How long runs took.
    #[serde(default)]
    pub history: History,
    /// What changed since the last write. Not part of the state.
    #[serde(skip)]
    pub changes: Changes,
}

/// Names one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Deployment and incarnation.
    Meta,
    /// A site.
    Site(SiteName),
    /// A pool.
    Pool(PoolName),
    /// A group.
    Group(GroupName),
    /// A user.
    User(UserName),
    /// A token.
    Token(String),
    /// A join token.
    JoinToken(String),
    /// A node.
    Node(NodeId),
    /// An instance.
    Instance(InstanceId),
    /// A job.
    Job(JobId),
    /// An attempt.
    Attempt(AttemptId),
    /// A submission.
    Submission(String),
    /// The runs of a kind.
    History(String),
    /// A closed period.
    Period(Period),
    /// What is known of a site's usage.
    SiteUsage(SiteName),
    /// The rate cards of a pool.
    Rates(PoolName),
    /// What a currency is worth.
    Currency(Currency),
    /// A row of the limits.
    Limit(LimitKey),
    /// A row of the books of pools.
    PoolBook(PoolKey),
}

/// What changed since the last write: rows to write, rows that ended, entries to append.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Rows that were touched; those not in the state any more are in `ended` or were forgotten.
    pub touched: BTreeSet<Key>,
    /// Jobs that left memory, as they were.
    pub ended_jobs: Vec<Job>,
    /// Attempts that left memory, as they were.
    pub ended_attempts: Vec<Attempt>,
    /// Instances that left memory, as they were.
    pub ended_instances: Vec<Instance>,
    /// Nodes that left memory, as they were.
    pub ended_nodes: Vec<Node>,
    /// Manifests of periods that were closed.
    pub manifests: Vec<SiteManifest>,
    /// Ledger entries, each with the number of the journal entry that made it.
    pub entries: Vec<(u64, Entry)>,
    /// Statements about pools, each with the number of the journal entry that made it.
    pub statements: Vec<(u64, Statement)>,
    /// Months that were closed, each with the number of the journal entry that did: entries of before are booked as if
    /// it were open.
    pub closed: Vec<(u64, Period)>,
}

// What changed is a matter of writing, not of what is true: two states are equal without it.
impl PartialEq for Changes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Changes {}

impl Changes {
    /// Into which month an entry of this journal number is booked that is of an effective time: as things stood when it
    /// was posted.
    #[must_use]
    pub fn booked(&self, journal: u64, effective_at: UnixMs, periods: &Periods) -> Period {
        let booking = periods.book(effective_at);
        let Some(happened) = booking.corrects else { return booking.period };
        let later = self.closed.iter().filter(|(closed_by, _)| *closed_by > journal);
        later.map(|(_, period)| (*period).max(happened)).min().unwrap_or(booking.period)
    }
}

impl State {
    /// Takes out what changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Whether `group` is `ancestor` or lies below it.
    #[must_use]
    pub fn is_within(&self, group: &GroupName, ancestor: &GroupName) -> bool {
        let mut at = Some(group);
        // A tree is never deeper than it has groups: a bound, should a cycle ever get in.
        for _ in 0..=self.groups.len() {
            match at {
                Some(name) if name == ancestor => return true,
                Some(name) => at = self.groups.get(name).and_then(|group| group.parent.as_ref()),
                None => return false,
            }
        }
        false
    }

    /// Whether `user` may see things of `group`: an admin all, a member the subtrees of the own groups.
    #[must_use]
    pub fn may_see(&self, user: &User, group: &GroupName) -> bool {
        user.role.sees_all() || user.groups.iter().any(|own| self.is_within(group, own))
    }
}
