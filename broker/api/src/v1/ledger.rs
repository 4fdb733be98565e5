//! The ledger as finance sees it: its records, what a verification found, periods, rate cards, reconciliation.

use serde::{Deserialize, Serialize};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::{Digest, Record};
use spillway_ledger::rates::Card;
use spillway_ledger::reconcile::Finding;
use spillway_types::{CloudName, Money, PoolName, UnixMs};

/// Largest bill that is taken, in bytes: a month of a thousand instances by the hour, with room to spare.
pub const MAX_BILL: usize = 512 << 20;

/// Which records of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsQuery {
    /// With numbers over this one.
    #[serde(default)]
    pub after: u64,
    /// Booked into this month; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
}

/// One record of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    /// Its number.
    pub seq: u64,
    /// When what it says was so.
    pub effective_at: UnixMs,
    /// When it was written.
    pub recorded_at: UnixMs,
    /// The period that it is booked into.
    pub booked: Period,
    /// Its key.
    pub key: String,
    /// The fact, word for word as it was hashed.
    pub body: String,
    /// Its hash, over all of this and the hash of the record before it.
    pub hash: Digest,
}

/// Corrects what a record of the ledger charged: takes it back, and posts what it should have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorrectionRequest {
    /// The record's number.
    pub seq: u64,
    /// What it should have cost; absent takes it back only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// What it should have used, in GPU-milliseconds; what it says where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_ms: Option<u64>,
    /// Why. It stays on record.
    pub because: String,
}

/// A correction that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectionView {
    /// The key of the entry that was corrected.
    pub corrects: String,
    /// What it had cost.
    pub was: Money,
    /// What it costs now.
    pub is: Money,
    /// The period that it was booked into.
    pub period: Period,
    /// The period that the correction is booked into: the same, or the first open one after it.
    pub booked: Period,
}

impl RecordView {
    /// The record, after the one with the hash `previous`.
    #[must_use]
    pub fn record(self, previous: Digest) -> Record {
        let Self { seq, effective_at, recorded_at, booked, key, body, hash } = self;
        Record { seq, effective_at, recorded_at, booked, key, body, previous, hash }
    }
}

impl From<Record> for RecordView {
    fn from(record: Record) -> Self {
        let Record { seq, effective_at, recorded_at, booked, key, body, previous: _, hash } = record;
        Self { seq, effective_at, recorded_at, booked, key, body, hash }
    }
}

/// What a verification of the ledger found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCheckView {
    /// How many records were followed.
    pub records: u64,
    /// The hash of the last of them: write it down elsewhere, and nobody can rewrite what is before it unseen.
    pub head: Digest,
    /// How many accounts were added up again.
    pub accounts: u64,
    /// How many closed periods were exported again.
    pub periods: u64,
    /// The first thing that is wrong; none where nothing is.
    #[serde(default)]
    pub defect: Option<String>,
}

/// A closed period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodView {
    /// The month.
    pub period: Period,
    /// When it was closed.
    pub closed_at: UnixMs,
    /// SHA-256 of its export, which is the same for ever; none while it is being made.
    #[serde(default)]
    pub digest: Option<Digest>,
}

/// A month of the books, open or closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthView {
    /// The month.
    pub period: Period,
    /// The time zone whose month it is.
    pub zone: Zone,
    /// When it was closed; none while more may be booked into it.
    #[serde(default)]
    pub closed_at: Option<UnixMs>,
    /// The newest record of the ledger, of whichever month: an export of an open month ends there.
    pub newest_record: u64,
}

/// Sets a pool's rate card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatesRequest {
    /// From when on it is good; from now on where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<UnixMs>,
    /// The card.
    pub card: Card,
}

/// A rate card of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatesView {
    /// The pool.
    pub pool: PoolName,
    /// From when on it is good.
    pub effective: UnixMs,
    /// The card.
    pub card: Card,
}

/// Against what a bill is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileQuery {
    /// The cloud whose bill it is.
    pub cloud: CloudName,
    /// By how much a line may differ and still match, in micros.
    #[serde(default)]
    pub tolerance_micros: u64,
}

/// A provider's bill against what was charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconciliationView {
    /// What the bill says in all.
    pub theirs: Money,
    /// What was charged for the same time.
    pub ours: Money,
    /// By resource and time. Amounts in micros.
    pub findings: Vec<Finding>,
}
