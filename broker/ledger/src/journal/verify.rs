//! Goes over the records of a journal, in order, and finds the first that is not as it was written.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use spillway_types::SiteName;

use super::chain::{Digest, Head};
use super::export::export;
use super::manifest::{ManifestDefect, SiteManifest};
use super::periods::Closed;
use super::record::Record;
use crate::calendar::Period;
use crate::rollup::{Charge, Difference, Rollup};
use crate::{Account, Posting};

/// What is wrong with a journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// A number is missing, or there twice.
    #[error("record {expected} is missing: record {found} is in its place")]
    Gap {
        /// The number that should come next.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// It does not follow the record before it.
    #[error("record {seq} does not follow the record before it: it names {named}, and that one has {found}")]
    BrokenLink {
        /// The record.
        seq: u64,
        /// The previous hash that it names.
        named: Digest,
        /// The hash of the record before it.
        found: Digest,
    },
    /// Its content is not what was hashed.
    #[error(
        "record {seq} (`{key}`) was changed after it was written: its hash is {stored}, its content has {computed}"
    )]
    Altered {
        /// The record.
        seq: u64,
        /// Its key.
        key: String,
        /// The hash that is stored.
        stored: Digest,
        /// The hash of what is there.
        computed: Digest,
    },
    /// Its body is no fact.
    #[error("record {seq} (`{key}`) cannot be read: {why}")]
    Unreadable {
        /// The record.
        seq: u64,
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
    /// Its postings do not sum to zero.
    #[error("record {seq} (`{key}`) is out of balance by {sum} micros")]
    Unbalanced {
        /// The record.
        seq: u64,
        /// Its key.
        key: String,
        /// What its postings sum to.
        sum: i128,
    },
    /// A key is there twice.
    #[error("record {seq} has the key `{key}`, which an earlier record has")]
    Repeated {
        /// The record.
        seq: u64,
        /// The key.
        key: String,
    },
    /// The end is missing.
    #[error("the journal ends at record {found}, and its head was record {head}: what came after is missing")]
    Truncated {
        /// Where the head says it ends.
        head: u64,
        /// Where it ends.
        found: u64,
    },
    /// The end is another one.
    #[error("the journal ends with {found}, and its head is {head}")]
    Head {
        /// The hash of the head.
        head: Digest,
        /// The hash of the newest record.
        found: Digest,
    },
    /// A balance is not the sum of its postings.
    #[error("account {account}: its balance is {stored} micros, its postings sum to {computed}")]
    Balance {
        /// The account.
        account: Account,
        /// What is stored.
        stored: i64,
        /// The sum.
        computed: i128,
    },
    /// A closed period's export is not the one that was frozen.
    #[error("period {period} was closed with the export {frozen}, and now has {computed}")]
    Export {
        /// The period.
        period: Period,
        /// The frozen digest.
        frozen: Digest,
        /// The digest of what is there.
        computed: Digest,
    },
    /// A site's manifest is not the one that was written when the period was closed.
    #[error("the manifest of site {site} for period {period} was changed: {why}")]
    Manifest {
        /// The period.
        period: Period,
        /// The site.
        site: SiteName,
        /// What is wrong with it.
        why: ManifestDefect,
    },
    /// The roll-ups that reports are made of are not what the journal says.
    #[error("{first}{}", more(*others))]
    Rollup {
        /// The first row that differs.
        first: Box<Difference>,
        /// How many more do.
        others: usize,
    },
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!("; and {others} more rows of roll-ups are not") }
}

/// Checks the manifests of all closed periods, in the order of the periods.
///
/// # Errors
/// The first [`Defect::Manifest`].
pub fn check_manifests(manifests: &[SiteManifest]) -> Result<(), Defect> {
    let mut counts: BTreeMap<&SiteName, u64> = BTreeMap::new();
    manifests.iter().try_for_each(|manifest| {
        let before = counts.insert(&manifest.site, manifest.count).unwrap_or(0);
        let (period, site) = (manifest.period, || manifest.site.clone());
        manifest.check(before).map_err(|why| Defect::Manifest { period, site: site(), why })
    })
}

/// The postings of a body, whatever they sum to.
#[derive(Deserialize)]
struct Postings {
    postings: Vec<Posting>,
}

/// Goes over a journal: [`Verifier::record`] for each record in order, then [`Verifier::finish`].
#[derive(Debug, Default)]
pub struct Verifier {
    head: Head,
    keys: BTreeSet<String>,
    balances: BTreeMap<Account, i128>,
    exports: BTreeMap<Period, String>,
    rollup: Rollup,
}

impl Verifier {
    /// Before the first record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// The first [`Defect`] that it has.
    pub fn record(&mut self, record: &Record) -> Result<(), Defect> {
        let (seq, expected) = (record.seq, self.head.seq.saturating_add(1));
        let key = || record.key.clone();
        if seq != expected {
            return Err(Defect::Gap { expected, found: seq });
        }
        if record.previous != self.head.hash {
            return Err(Defect::BrokenLink { seq, named: record.previous, found: self.head.hash });
        }
        let computed = record.link().hash(record.previous);
        if computed != record.hash {
            return Err(Defect::Altered { seq, key: key(), stored: record.hash, computed });
        }
        let unreadable =
            |error: serde_json::Error| Defect::Unreadable { seq, key: key(), why: error.to_string() };
        let Postings { postings } = serde_json::from_str(&record.body).map_err(unreadable)?;
        let sum: i128 = postings.iter().map(|posting| i128::from(posting.micros)).sum();
        if sum != 0 {
            return Err(Defect::Unbalanced { seq, key: key(), sum });
        }
        let fact = record.fact().map_err(unreadable)?;
        if fact.key() != record.key {
            let why = format!("its body has the key `{}`", fact.key());
            return Err(Defect::Unreadable { seq, key: key(), why });
        }
        if !self.keys.insert(key()) {
            return Err(Defect::Repeated { seq, key: key() });
        }
        for posting in postings {
            *self.balances.entry(posting.account).or_default() += i128::from(posting.micros);
        }
        let charges = Charge::of_fact(&fact, record.effective_at, record.booked);
        charges.into_iter().for_each(|charge| self.rollup.add(charge));
        let text = export([record]);
        let (header, lines) = text.split_once('\n').unwrap_or_default();
        self.exports.entry(record.booked).or_insert_with(|| format!("{header}\n")).push_str(lines);
        self.head = record.head();
        Ok(())
    }

    /// How many records were taken.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.head.seq
    }

    /// Every balance made again from the journal, in micros.
    #[must_use]
    pub const fn balances(&self) -> &BTreeMap<Account, i128> {
        &self.balances
    }

    /// After the last record: compares the stored roll-ups, by day and by month, with those made again from the journal.
    ///
    /// # Errors
    /// [`Defect::Rollup`].
    pub fn rollups(&self, days: &Rollup, months: &Rollup) -> Result<(), Defect> {
        let mut differences = self.rollup.differences(days);
        differences.extend(self.rollup.by_month().differences(months));
        let others = differences.len().saturating_sub(1);
        match differences.into_iter().next() {
            Some(first) => Err(Defect::Rollup { first: Box::new(first), others }),
            None => Ok(()),
        }
    }

    /// After the last record: compares the stored balances, the head that was noted elsewhere, and what closed
    /// periods froze.
    ///
    /// # Errors
    /// The first [`Defect`].
    pub fn finish(
        &self,
        balances: &BTreeMap<Account, i64>,
        head: Option<Head>,
        closed: &BTreeMap<Period, Closed>,
    ) -> Result<(), Defect> {
        if let Some(head) = head.filter(|head| *head != self.head) {
            if head.seq > self.head.seq {
                return Err(Defect::Truncated { head: head.seq, found: self.head.seq });
            }
            return Err(Defect::Head { head: head.hash, found: self.head.hash });
        }
        let accounts: BTreeSet<&Account> = balances.keys().chain(self.balances.keys()).collect();
        for account in accounts {
            let stored = balances.get(account).copied().unwrap_or(0);
            let computed = self.balances.get(account).copied().unwrap_or(0);
            if i128::from(stored) != computed {
                return Err(Defect::Balance { account: account.clone(), stored, computed });
            }
        }
        for (period, frozen) in closed.iter().filter_map(|(period, it)| Some((period, it.digest?))) {
            let empty = || export(std::iter::empty());
            let text = self.exports.get(period).cloned().unwrap_or_else(empty);
            let computed = Digest::of(text.as_bytes());
            if computed != frozen {
                return Err(Defect::Export { period: *period, frozen, computed });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Zone;
    use crate::journal::{Fact, Journal};
    use crate::overhead_entry;
    use crate::properties::{payee, subject};
    use spillway_types::UnixMs;

    const MARCH: UnixMs = UnixMs(1_772_500_000_000);

    fn journal() -> Journal {
        let mut journal = Journal::new(Zone::utc());
        for seed in 1..=4 {
            let fact = Fact::Entry(overhead_entry(&subject("vision", seed), &payee(), 100).unwrap());
            journal.post(&fact, MARCH, MARCH).unwrap();
        }
        let april = "2026-04".parse::<Period>().unwrap().start(&Zone::utc());
        journal.close("2026-03".parse().unwrap(), april).unwrap();
        journal
    }

    fn defect(change: impl FnOnce(&mut Vec<Record>, &mut BTreeMap<Account, i64>)) -> Defect {
        let journal = journal();
        let (mut records, mut balances) = (journal.records().to_vec(), journal.balances().clone());
        change(&mut records, &mut balances);
        let mut verifier = Verifier::new();
        let found = records.iter().try_for_each(|record| verifier.record(record));
        found
            .and_then(|()| verifier.finish(&balances, Some(journal.head()), journal.periods().closed()))
            .unwrap_err()
    }

    /// Doubles what a record charges, in balance.
    fn double(record: &mut Record) {
        record.body =
            record.body.replace("micros\":100", "micros\":200").replace("micros\":-100", "micros\":-200");
    }

    /// Hashes the records again from `from` on, as somebody would who hides a change.
    fn reseal(records: &mut [Record], from: usize) {
        for at in from..records.len() {
            records[at].previous = if at == 0 { Digest::default() } else { records[at - 1].hash };
            records[at].hash = records[at].link().hash(records[at].previous);
        }
    }

    #[test]
    fn an_untouched_journal_has_no_defect() {
        assert_eq!(journal().verify(), Ok(()));
        assert_eq!(Journal::new(Zone::utc()).verify(), Ok(()));
    }

    #[test]
    fn the_first_record_that_was_touched_is_found() {
        let altered = defect(|records, _| double(&mut records[1]));
        assert!(matches!(altered, Defect::Altered { seq: 2, .. }), "{altered}");
        let moved = defect(|records, _| records[2].effective_at = UnixMs(0));
        assert!(matches!(moved, Defect::Altered { seq: 3, .. }), "{moved}");
        let gap = defect(|records, _| drop(records.remove(1)));
        assert_eq!(gap, Defect::Gap { expected: 2, found: 3 });
        let swapped = defect(|records, _| records.swap(1, 2));
        assert_eq!(swapped, Defect::Gap { expected: 2, found: 3 });
        let broken = defect(|records, _| {
            double(&mut records[1]);
            records[1].hash = records[1].link().hash(records[1].previous);
        });
        assert!(matches!(broken, Defect::BrokenLink { seq: 3, .. }), "{broken}");
        let cut = defect(|records, _| drop(records.pop()));
        assert_eq!(cut, Defect::Truncated { head: 4, found: 3 });
    }

    #[test]
    fn a_chain_that_was_hashed_again_is_found_by_its_head_and_its_sums() {
        let rewritten = defect(|records, _| {
            double(&mut records[0]);
            reseal(records, 0);
        });
        assert!(matches!(rewritten, Defect::Head { .. }), "{rewritten}");
        let unbalanced = defect(|records, _| {
            records[0].body = records[0].body.replace("-100", "-101");
            reseal(records, 0);
        });
        assert!(matches!(unbalanced, Defect::Unbalanced { seq: 1, sum: -1, .. }), "{unbalanced}");
        let repeated = defect(|records, _| {
            (records[1].key, records[1].body) = (records[0].key.clone(), records[0].body.clone());
            reseal(records, 1);
        });
        assert!(matches!(repeated, Defect::Repeated { seq: 2, .. }), "{repeated}");
        let unreadable = defect(|records, _| {
            records[3].body = "{}".to_owned();
            reseal(records, 3);
        });
        assert!(matches!(unreadable, Defect::Unreadable { seq: 4, .. }), "{unreadable}");
    }

    #[test]
    fn a_balance_that_is_not_its_sum_is_found() {
        let off = defect(|_, balances| *balances.values_mut().next().unwrap() += 1);
        let Defect::Balance { account, stored, computed } = off else { panic!("{off}") };
        assert_eq!((account.to_string().as_str(), i128::from(stored) - computed), ("spend:vision", 1));
        let extra =
            defect(|_, balances| assert_eq!(balances.insert("spend:ghost".parse().unwrap(), 5), None));
        assert!(matches!(extra, Defect::Balance { stored: 5, computed: 0, .. }), "{extra}");
    }

    #[test]
    fn what_changes_a_closed_period_is_found_even_where_the_head_is_forged() {
        let journal = journal();
        let mut records = journal.records().to_vec();
        double(&mut records[0]);
        reseal(&mut records, 0);
        let mut verifier = Verifier::new();
        records.iter().for_each(|record| verifier.record(record).unwrap());
        let balances =
            verifier.balances().iter().map(|(account, sum)| (account.clone(), i64::try_from(*sum).unwrap()));
        let defect = verifier.finish(&balances.collect(), None, journal.periods().closed()).unwrap_err();
        assert!(matches!(defect, Defect::Export { .. }), "{defect}");
    }
}
