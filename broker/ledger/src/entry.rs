//! One entry of the journal: postings that sum to zero, about one attempt, under a key that is unique for ever.
//!
//! An entry that exists is balanced, read from a database included. When it was recorded, its number and its
//! hash are the store's.

use serde::{Deserialize, Serialize};
use spillway_types::{AttemptId, GroupName, InstanceId, JobId, SiteName, UnixMs, UserName};

use crate::{Account, Payee, Usage};

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Money is reserved for an attempt.
    Hold,
    /// A slice of use, paid from the hold. The only kind that carries GPU time, also where it costs nothing.
    Charge,
    /// What a slice cost above the hold.
    Overrun,
    /// What a hold did not need is given back.
    Release,
    /// What a cloud instance cost beside the slices that ran on it: boot, idle time, the unused share.
    Overhead,
    /// Bytes that left a site.
    Egress,
}

impl EntryKind {
    /// The kind as text, as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Charge => "charge",
            Self::Overrun => "overrun",
            Self::Release => "release",
            Self::Overhead => "overhead",
            Self::Egress => "egress",
        }
    }
}

/// One amount on one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// The account.
    pub account: Account,
    /// 10^-6 of a currency unit; a debit is positive, a credit negative.
    pub micros: i64,
}

/// Whom and what an entry is about: the dimensions that spend is grouped by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The group that pays.
    pub group: GroupName,
    /// The user who submitted the job.
    pub user: UserName,
    /// Where it runs.
    pub site: SiteName,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptId,
    /// The cloud instance, where there is one.
    pub instance: Option<InstanceId>,
}

/// What an entry does to one that was posted before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "does")]
pub enum Amendment {
    /// It takes back all that the other one charged.
    Reverses {
        /// The other's key.
        key: String,
    },
    /// It is what the other one, which is reversed, should have been.
    Replaces {
        /// The other's key.
        key: String,
    },
}

/// Why postings are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the postings of entry `{key}` sum to {sum} micros; they must sum to 0")]
pub struct Unbalanced {
    /// The entry's key.
    pub key: String,
    /// What they sum to, in micros.
    pub sum: i128,
}

/// An entry of the journal. Its postings sum to zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Entry {
    key: String,
    kind: EntryKind,
    subject: Subject,
    gpu_ms: u64,
    postings: Vec<Posting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_at: Option<UnixMs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amends: Option<Amendment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Box<Usage>>,
}

/// An entry as it was stored, before its sum is checked.
#[derive(Deserialize)]
struct Unchecked {
    key: String,
    kind: EntryKind,
    subject: Subject,
    gpu_ms: u64,
    postings: Vec<Posting>,
    #[serde(default)]
    effective_at: Option<UnixMs>,
    #[serde(default)]
    amends: Option<Amendment>,
    #[serde(default)]
    usage: Option<Box<Usage>>,
}

impl TryFrom<Unchecked> for Entry {
    type Error = Unbalanced;

    fn try_from(raw: Unchecked) -> Result<Self, Unbalanced> {
        let entry = Self::new(raw.key, raw.kind, raw.subject, raw.gpu_ms, raw.postings)?;
        Ok(Self { effective_at: raw.effective_at, amends: raw.amends, usage: raw.usage, ..entry })
    }
}

impl Entry {
    /// An entry from its parts. `gpu_ms` is GPU time in milliseconds: one whole GPU for one millisecond is 1.
    /// No postings at all is balanced: a slice of use that costs nothing.
    ///
    /// # Errors
    /// [`Unbalanced`] where the postings do not sum to zero.
    pub fn new(
        key: String,
        kind: EntryKind,
        subject: Subject,
        gpu_ms: u64,
        postings: Vec<Posting>,
    ) -> Result<Self, Unbalanced> {
        let sum: i128 = postings.iter().map(|posting| i128::from(posting.micros)).sum();
        if sum != 0 {
            return Err(Unbalanced { key, sum });
        }
        Ok(Self { key, kind, subject, gpu_ms, postings, effective_at: None, amends: None, usage: None })
    }

    /// An entry made of transfers; those of 0 leave no posting.
    pub(crate) fn of_transfers(
        key: String,
        kind: EntryKind,
        subject: &Subject,
        gpu_ms: u64,
        transfers: impl IntoIterator<Item = Transfer>,
    ) -> Self {
        let postings =
            transfers.into_iter().filter(|transfer| transfer.micros != 0).flat_map(Transfer::postings);
        let postings = postings.collect();
        Self {
            key,
            kind,
            subject: subject.clone(),
            gpu_ms,
            postings,
            effective_at: None,
            amends: None,
            usage: None,
        }
    }

    /// The entry with the instant at which what it says was so: for a slice of use, its begin.
    #[must_use]
    pub fn effective(self, at: UnixMs) -> Self {
        Self { effective_at: Some(at), ..self }
    }

    /// The entry with what was used.
    #[must_use]
    pub fn using(self, usage: Usage) -> Self {
        Self { usage: Some(Box::new(usage)), ..self }
    }

    /// What was used; none in holds and releases, and in entries of before it was noted.
    #[must_use]
    pub fn usage(&self) -> Option<&Usage> {
        self.usage.as_deref()
    }

    /// The entry as an amendment of another one.
    pub(crate) fn amending(self, amends: Amendment) -> Self {
        Self { amends: Some(amends), ..self }
    }

    /// When what it says was so, where that is not the moment of its recording.
    #[must_use]
    pub const fn effective_at(&self) -> Option<UnixMs> {
        self.effective_at
    }

    /// What it does to another entry, where it does.
    #[must_use]
    pub const fn amends(&self) -> Option<&Amendment> {
        self.amends.as_ref()
    }

    /// GPU time in milliseconds, below 0 where the entry takes back what another one charged.
    #[must_use]
    pub fn signed_gpu_ms(&self) -> i64 {
        let gpu_ms = i64::try_from(self.gpu_ms).unwrap_or(i64::MAX);
        match &self.amends {
            Some(Amendment::Reverses { .. }) => -gpu_ms,
            Some(Amendment::Replaces { .. }) | None => gpu_ms,
        }
    }

    /// GPU time by the weight of its class, in milliseconds of the reference, below 0 where the entry takes back what
    /// another one charged. Where no weight was noted, a GPU weighs as much as the reference.
    #[must_use]
    pub fn signed_normalised_ms(&self) -> i64 {
        let noted = self.usage().filter(|_| self.kind == EntryKind::Charge).and_then(|it| it.normalised_ms);
        let Some(noted) = noted else { return self.signed_gpu_ms() };
        let noted = i64::try_from(noted).unwrap_or(i64::MAX);
        match &self.amends {
            Some(Amendment::Reverses { .. }) => -noted,
            Some(Amendment::Replaces { .. }) | None => noted,
        }
    }

    /// Who is paid: the first of its accounts that is a site's, a cloud's or an owner's.
    #[must_use]
    pub fn payee(&self) -> Option<&Account> {
        let paid = |account: &&Account| {
            matches!(account, Account::Revenue(_) | Account::Payable { .. } | Account::Owner(_))
        };
        self.postings.iter().map(|posting| &posting.account).find(paid)
    }

    /// The idempotency key: unique for ever, the same for the same fact. For example
    /// `att_0190.../hold` or `att_0190.../0/usage/0-10000`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> EntryKind {
        self.kind
    }

    /// Whom and what it is about.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// GPU time in milliseconds; 0 for all kinds but charges.
    #[must_use]
    pub const fn gpu_ms(&self) -> u64 {
        self.gpu_ms
    }

    /// The postings; they sum to zero.
    #[must_use]
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }

    /// What this entry adds to the spend of its group, in micros.
    #[must_use]
    pub fn spend_micros(&self) -> i64 {
        self.sum_of(|account| matches!(account, Account::Spend(_)))
    }

    /// What of its spend no hold paid, in micros; of a hold what it reserves, below 0 for a release.
    #[must_use]
    pub fn beyond_hold_micros(&self) -> i64 {
        self.sum_of(|account| matches!(account, Account::Spend(_) | Account::Held(_)))
    }

    fn sum_of(&self, counts: impl Fn(&Account) -> bool) -> i64 {
        let counted = self.postings.iter().filter(|posting| counts(&posting.account));
        counted.fold(0, |sum, posting| sum.saturating_add(posting.micros))
    }
}

/// Money from one account to another: balanced by its form.
pub(crate) struct Transfer {
    pub(crate) debit: Account,
    pub(crate) credit: Account,
    /// Below 0 it goes the other way. Never `i64::MIN`, whose opposite does not exist.
    pub(crate) micros: i64,
}

impl Transfer {
    fn postings(self) -> [Posting; 2] {
        let micros = self.micros.max(-i64::MAX);
        [Posting { account: self.debit, micros }, Posting { account: self.credit, micros: -micros }]
    }
}

/// The entry for what a cloud instance cost beside the slices that were charged on it: boot, idle time, the
/// unused share. `micros` below 0 is a credit, where the slices came to more than the instance cost, so that the
/// total is always the instance's cost. One per attempt and instance; `None` for 0. It is posted without a hold.
#[must_use]
pub fn overhead_entry(subject: &Subject, payee: &Payee, micros: i64) -> Option<Entry> {
    let attempt = subject.attempt;
    let key = match subject.instance {
        Some(instance) => format!("{attempt}/{instance}/overhead"),
        None => format!("{attempt}/overhead"),
    };
    let spend = Transfer { debit: Account::Spend(subject.group.clone()), credit: payee.account(), micros };
    (micros != 0).then(|| Entry::of_transfers(key, EntryKind::Overhead, subject, 0, [spend]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::{payee, subject};

    fn posting(account: &str, micros: i64) -> Posting {
        Posting { account: account.parse().unwrap(), micros }
    }

    #[test]
    fn an_unbalanced_entry_cannot_exist() {
        let build =
            |postings| Entry::new("k".to_owned(), EntryKind::Charge, subject("vision", 1), 0, postings);
        assert!(build(vec![]).is_ok());
        assert!(build(vec![posting("spend:a", 5), posting("revenue:b", -5)]).is_ok());
        let error = build(vec![posting("spend:a", i64::MAX), posting("spend:b", i64::MAX)]).unwrap_err();
        assert_eq!(error.sum, 2 * i128::from(i64::MAX));
        let error = build(vec![posting("spend:a", 5), posting("revenue:b", -4)]).unwrap_err();
        assert_eq!(error.to_string(), "the postings of entry `k` sum to 1 micros; they must sum to 0");
    }

    #[test]
    fn an_entry_is_checked_when_it_is_read() {
        let entry = overhead_entry(&subject("vision", 1), &payee(), 250).unwrap();
        let json = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
        let error = serde_json::from_str::<Entry>(&json.replace("-250", "-251")).unwrap_err();
        assert!(error.to_string().contains("sum to -1 micros"), "{error}");
    }

    #[test]
    fn an_entry_that_was_stored_before_it_had_an_effective_time_is_read() {
        let entry = overhead_entry(&subject("vision", 1), &payee(), 250).unwrap();
        let json = serde_json::to_string(&entry).unwrap();
        assert!(!json.contains("effective") && !json.contains("amends"), "{json}");
        let later = entry.effective(UnixMs(5));
        let json = serde_json::to_string(&later).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), later);
    }

    #[test]
    fn what_was_used_is_kept_and_an_entry_without_it_reads_and_writes_as_before() {
        let entry = overhead_entry(&subject("vision", 1), &payee(), 250).unwrap();
        let before = serde_json::to_string(&entry).unwrap();
        assert!(!before.contains("usage"), "{before}");
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Entry>(&before).unwrap()).unwrap(), before);
        let usage = Usage {
            pool: Some("dgx".parse().unwrap()),
            class: Some("H100".parse().unwrap()),
            resource: Some("dgx-1".to_owned()),
            cloud: None,
            region: None,
            instance_type: None,
            market: None,
            from: UnixMs(5),
            to: UnixMs(3_600_005),
            offset_ms: 7,
            blocks: 400,
            rate: spillway_types::HourlyRate(8_000_000),
            list_rate: spillway_types::HourlyRate(8_000_000),
            normalised_ms: None,
            on_prem_rate: None,
            above: vec!["lab".parse().unwrap()],
            datasets: vec!["imagenet".parse().unwrap()],
            priced: None,
        };
        let used = entry.using(usage.clone());
        let json = serde_json::to_string(&used).unwrap();
        let read: Entry = serde_json::from_str(&json).unwrap();
        assert_eq!((read.usage(), usage.span_ms()), (Some(&usage), 3_600_000));
        assert_eq!(read, used);
        assert!(!json.contains("market"), "what is not known takes no room: {json}");
    }

    #[test]
    fn overhead_is_spend_and_may_be_a_credit() {
        let with = |micros| overhead_entry(&subject("vision", 1), &payee(), micros);
        assert_eq!(with(0), None);
        for micros in [7, -7, i64::MAX] {
            let entry = with(micros).unwrap();
            assert_eq!(entry.spend_micros(), micros);
            assert!(entry.key().ends_with("/overhead"));
        }
    }
}
