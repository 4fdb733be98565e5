//! The journal: facts in a chain of hashes, booked into periods that close for ever.
//!
//! 1. A usage event comes in under (source, number), and is hashed into a [`UsageMark`]: what comes again is nothing, and
//!    another content under a used number makes the mark differ from the source's own.
//! 2. What it costs is a [`Fact`]; [`Journal::post`] books it into the period of its effective time, or, where that
//!    is closed, as a correction into the first open one ([`Periods`]), and links it to all before it ([`Record`]).
//! 3. [`Periods::close`] closes a month, once no source has a [`NodeUsage::gap`] in it. The digest of the month's
//!    [`export`] is frozen with it, and a [`SiteManifest`] says what was here of each site.
//! 4. What was wrong in a closed period is put right by [`reversal`] and [`replacement`]; [`close_pool`] accounts for
//!    what a pool cost.
//! 5. [`Verifier`] goes over the records and finds the first that is not as it was written, and every balance that
//!    is not the sum of its postings.
//!
//! [`Journal`] keeps all of it in memory: the model that properties are checked against. A store keeps records as
//! rows and uses the parts.

mod chain;
mod close;
mod correct;
mod export;
mod manifest;
mod periods;
mod record;
mod usage;
mod verify;

#[cfg(test)]
mod properties;

use std::collections::BTreeMap;

use spillway_types::UnixMs;

pub use chain::{Digest, Head, Link};
pub use close::{ClassMonth, PoolClose, PoolCloseError, PoolMonth, UnusedRule, close_pool};
pub use correct::{CorrectionError, replacement, reversal};
pub use export::{ExportLine, Exporter, export};
pub use manifest::{Fold, ManifestDefect, NodeManifest, SiteManifest, SiteUsage};
pub use periods::{Booking, Closed, PeriodError, Periods, invoice_id};
pub use record::{Fact, Record, Statement, StatementKind};
pub use usage::{NodeUsage, Said, Taken, UsageEvent, UsageGap, UsageMark};
pub use verify::{Defect, Verifier, check_manifests};

use crate::Account;
use crate::calendar::{Period, Zone};

/// Every record, balance and period, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Journal {
    records: Vec<Record>,
    keys: BTreeMap<String, usize>,
    balances: BTreeMap<Account, i64>,
    periods: Periods,
}

/// What became of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It is in the journal now, under this number.
    New(u64),
    /// The same fact was posted under this number before; nothing changed.
    Known(u64),
}

/// Why a fact was not posted. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The key was used for something else.
    #[error(
        "key `{key}` was posted as record {seq} with another content: a key is good for one fact, for ever"
    )]
    Conflict {
        /// The key.
        key: String,
        /// The record that has it.
        seq: u64,
    },
}

impl Journal {
    /// An empty journal whose periods are months of the zone.
    #[must_use]
    pub fn new(zone: Zone) -> Self {
        Self { periods: Periods::new(zone), ..Self::default() }
    }

    /// Posts a fact that is about `effective_at` and was recorded at `recorded_at`.
    ///
    /// # Errors
    /// [`PostError::Conflict`] where its key has another content.
    pub fn post(
        &mut self,
        fact: &Fact,
        effective_at: UnixMs,
        recorded_at: UnixMs,
    ) -> Result<Posted, PostError> {
        let booking = self.periods.book(effective_at);
        let record = Record::new(fact, (effective_at, recorded_at), &booking, self.head());
        if let Some(known) = self.keys.get(fact.key()).and_then(|at| self.records.get(*at)) {
            if known.body == record.body && known.effective_at == effective_at {
                return Ok(Posted::Known(known.seq));
            }
            return Err(PostError::Conflict { key: fact.key().to_owned(), seq: known.seq });
        }
        for posting in fact.postings() {
            let balance = self.balances.entry(posting.account.clone()).or_default();
            *balance = balance.saturating_add(posting.micros);
        }
        let seq = record.seq;
        self.keys.insert(fact.key().to_owned(), self.records.len());
        self.records.push(record);
        Ok(Posted::New(seq))
    }

    /// Where the chain ends.
    #[must_use]
    pub fn head(&self) -> Head {
        self.records.last().map_or_else(Head::default, Record::head)
    }

    /// The records, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Every account that was posted on, with its balance in micros.
    #[must_use]
    pub const fn balances(&self) -> &BTreeMap<Account, i64> {
        &self.balances
    }

    /// The periods.
    #[must_use]
    pub const fn periods(&self) -> &Periods {
        &self.periods
    }

    /// Closes a period.
    ///
    /// # Errors
    /// [`PeriodError`]; nothing changed.
    pub fn close(&mut self, period: Period, now: UnixMs) -> Result<Closed, PeriodError> {
        let digest = Some(Digest::of(self.export(period).as_bytes()));
        let closed = Closed { at: now, digest };
        self.periods.close(period, closed)?;
        Ok(closed)
    }

    /// The period's export: byte for byte the same for ever once it is closed.
    #[must_use]
    pub fn export(&self, period: Period) -> String {
        export(self.records.iter().filter(|record| record.booked == period))
    }

    /// Checks every record and balance against the chain.
    ///
    /// # Errors
    /// The first [`Defect`].
    pub fn verify(&self) -> Result<(), Defect> {
        let mut verifier = Verifier::new();
        self.records.iter().try_for_each(|record| verifier.record(record))?;
        verifier.finish(&self.balances, Some(self.head()), self.periods.closed())
    }
}
