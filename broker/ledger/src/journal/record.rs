//! Facts and the records that carry them.

use serde::{Deserialize, Serialize};
use spillway_types::{PoolName, SiteName, UnixMs};

use super::chain::{Digest, Head, Link};
use super::periods::Booking;
use crate::calendar::{Period, Zone};
use crate::{Entry, Posting, Unbalanced};

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// About one attempt.
    Entry(Entry),
    /// About a pool or a provider in a period.
    Statement(Statement),
}

/// What a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatementKind {
    /// What a pool cost beside what was used of it.
    PoolClose,
    /// By how much a provider's bill differs from what was charged.
    Reconciliation,
}

impl StatementKind {
    /// The kind as text, as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PoolClose => "pool-close",
            Self::Reconciliation => "reconciliation",
        }
    }
}

/// A fact that is about no attempt. Its postings sum to zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedStatement")]
pub struct Statement {
    key: String,
    kind: StatementKind,
    site: SiteName,
    pool: Option<PoolName>,
    period: Period,
    postings: Vec<Posting>,
}

/// A statement as it was stored, before its sum is checked.
#[derive(Deserialize)]
struct UncheckedStatement {
    key: String,
    kind: StatementKind,
    site: SiteName,
    pool: Option<PoolName>,
    period: Period,
    postings: Vec<Posting>,
}

impl TryFrom<UncheckedStatement> for Statement {
    type Error = Unbalanced;

    fn try_from(raw: UncheckedStatement) -> Result<Self, Unbalanced> {
        Self::new(raw.key, raw.kind, (raw.site, raw.pool), raw.period, raw.postings)
    }
}

impl Statement {
    /// A statement about a site, and a pool of it, in a period.
    ///
    /// # Errors
    /// [`Unbalanced`] where the postings do not sum to zero.
    pub fn new(
        key: String,
        kind: StatementKind,
        (site, pool): (SiteName, Option<PoolName>),
        period: Period,
        postings: Vec<Posting>,
    ) -> Result<Self, Unbalanced> {
        let sum: i128 = postings.iter().map(|posting| i128::from(posting.micros)).sum();
        if sum == 0 {
            Ok(Self { key, kind, site, pool, period, postings })
        } else {
            Err(Unbalanced { key, sum })
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> StatementKind {
        self.kind
    }

    /// The site.
    #[must_use]
    pub const fn site(&self) -> &SiteName {
        &self.site
    }

    /// The pool, where it is about one.
    #[must_use]
    pub const fn pool(&self) -> Option<&PoolName> {
        self.pool.as_ref()
    }

    /// The period it is about, into which it is booked: it is posted while that is open.
    #[must_use]
    pub const fn period(&self) -> Period {
        self.period
    }

    /// When what it says was so: the last instant of its period in the zone of the books.
    #[must_use]
    pub fn effective_at(&self, zone: &Zone) -> UnixMs {
        UnixMs(self.period.end(zone).0.saturating_sub(1))
    }

    /// Its key: unique for ever.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its postings; they sum to zero.
    #[must_use]
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }
}

impl Fact {
    /// Its key: unique for ever.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Entry(entry) => entry.key(),
            Self::Statement(statement) => &statement.key,
        }
    }

    /// Its postings; they sum to zero.
    #[must_use]
    pub fn postings(&self) -> &[Posting] {
        match self {
            Self::Entry(entry) => entry.postings(),
            Self::Statement(statement) => &statement.postings,
        }
    }

    /// The fact as it is stored and hashed: JSON with its fields in the order of their declaration.
    #[must_use]
    pub fn body(&self) -> String {
        serde_json::to_string(self).expect("names, numbers and texts are JSON")
    }
}

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number: they count up from 1 without a gap.
    pub seq: u64,
    /// When what it says was so.
    pub effective_at: UnixMs,
    /// When it was written.
    pub recorded_at: UnixMs,
    /// The period that it is booked into: that of its effective time, or the first open one after it.
    pub booked: Period,
    /// The fact's key.
    pub key: String,
    /// The fact, word for word.
    pub body: String,
    /// The hash of the record before it.
    pub previous: Digest,
    /// Its own.
    pub hash: Digest,
}

impl Record {
    /// The record that carries a fact after `head`; `(effective_at, recorded_at)` are its times.
    #[must_use]
    pub fn new(
        fact: &Fact,
        (effective_at, recorded_at): (UnixMs, UnixMs),
        booking: &Booking,
        head: Head,
    ) -> Self {
        let (seq, booked) = (head.seq.saturating_add(1), booking.period);
        let (key, body) = (fact.key().to_owned(), fact.body());
        let hash = Link { seq, effective_at, recorded_at, booked, key: &key, body: &body }.hash(head.hash);
        Self { seq, effective_at, recorded_at, booked, key, body, previous: head.hash, hash }
    }

    /// What its hash covers.
    #[must_use]
    pub fn link(&self) -> Link<'_> {
        let Self { seq, effective_at, recorded_at, booked, key, body, .. } = self;
        let (seq, effective_at, recorded_at) = (*seq, *effective_at, *recorded_at);
        Link { seq, effective_at, recorded_at, booked: *booked, key, body }
    }

    /// The chain's end after it.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// What it says.
    ///
    /// # Errors
    /// The body is no fact, or its postings do not sum to zero.
    pub fn fact(&self) -> Result<Fact, serde_json::Error> {
        serde_json::from_str(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overhead_entry;
    use crate::properties::{payee, subject};

    #[test]
    fn both_kinds_of_facts_survive_storage_and_stay_balanced() {
        let entry = Fact::Entry(overhead_entry(&subject("vision", 1), &payee(), 250).unwrap());
        let posting = |account: &str, micros| Posting { account: account.parse().unwrap(), micros };
        let about = || ("seoul".parse().unwrap(), Some("dgx".parse().unwrap()));
        let period = "2026-03".parse().unwrap();
        let statement = |postings| {
            Statement::new("dgx/2026-03/close".into(), StatementKind::PoolClose, about(), period, postings)
        };
        assert!(statement(vec![posting("idle:dgx", 1)]).is_err());
        let statement =
            Fact::Statement(statement(vec![posting("idle:dgx", 7), posting("revenue:seoul", -7)]).unwrap());
        for fact in [entry, statement] {
            let body = fact.body();
            assert_eq!(serde_json::from_str::<Fact>(&body).unwrap(), fact);
            let broken = body.replace("-250", "-251").replace("-7", "-8");
            assert!(serde_json::from_str::<Fact>(&broken).is_err(), "{broken}");
        }
    }
}
