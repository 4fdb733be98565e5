//! From the ledger's records to charges: what an export of a booked period is made of.
//!
//! The records of the period come in their order, one by one; each gives its charges at once, save that a slice of
//! use waits for its overrun, which is the next record where there is one: both are one charge here, because a hold
//! is the broker's own affair. Nothing is looked up elsewhere, so a closed period gives the same charges for ever.
//!
//! What is decided here, as the columns leave it open:
//! - The billing account is the cost centre of the group at the root of the payer's tree, as the tree stood when the
//!   charge was made. An invoice bills one account, so its id is that of the ledger with the account behind it.
//! - What is sold is an hour of a part: so many accelerators of a class in a pool, or of an instance. That is what
//!   the ledger rates, and so price times quantity is what it posted, to a micro.
//! - A price's id is its SKU, its price, and its list price where that is another: it belongs to one SKU for ever.
//! - What was priced in another currency has its prices in that one too; its cost there is the posted one at the ratio of
//!   the two prices, so that slices, overruns, reversals and corrections sum up in both.
//! - What an instance cost beside its slices is usage of which nothing was consumed, or a credit where the slices
//!   came to more.

mod parties;
mod priced;
mod statement;
#[cfg(test)]
mod tests;

use spillway_ledger::calendar::{Period as Month, Zone};
use spillway_ledger::journal::{Fact, Record};
use spillway_ledger::{Account, Amendment, Entry, EntryKind, Usage};
use spillway_types::{Currency, UnixMs};

use crate::charge::{Capacity, Charge, Exchange, Nature, Resource, Utilisation, Work};
use crate::{Period, PeriodError};

/// Why a record gives no charge.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// Its content cannot be read.
    #[error(
        "record {seq} of the ledger cannot be read; `spillway ledger verify` says whether it is as it was written"
    )]
    Body {
        /// The record.
        seq: u64,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// It is about a time that no file can hold.
    #[error("record {seq} of the ledger is about no period")]
    Period {
        /// The record.
        seq: u64,
        /// Why not.
        #[source]
        source: PeriodError,
    },
    /// It belongs to another period.
    #[error("record {seq} is booked into {booked}, and {month} is exported")]
    OtherPeriod {
        /// The record.
        seq: u64,
        /// Where it is booked.
        booked: Month,
        /// What is exported.
        month: Month,
    },
}

/// Makes charges of the records of one period.
#[derive(Debug)]
pub struct FromLedger {
    month: Month,
    zone: Zone,
    billing: Period,
    currency: Currency,
    /// A slice of use that waits for its overrun, under the key that this one would have.
    waiting: Option<(String, Charge)>,
}

/// The billing period of a month.
///
/// # Errors
/// [`PeriodError`] where no file can hold it.
pub fn billing_period(month: Month, zone: &Zone) -> Result<Period, PeriodError> {
    Period::new(month.start(zone), month.end(zone))
}

impl FromLedger {
    /// For the records that are booked into a month of this zone.
    ///
    /// # Errors
    /// [`PeriodError`] where no file can hold it.
    pub fn new(month: Month, zone: Zone, currency: Currency) -> Result<Self, PeriodError> {
        let billing = billing_period(month, &zone)?;
        Ok(Self { month, zone, billing, currency, waiting: None })
    }

    /// The billing period of every charge.
    #[must_use]
    pub const fn billing(&self) -> Period {
        self.billing
    }

    /// Takes the next record; gives the charges that are complete with it, in order.
    ///
    /// # Errors
    /// [`MappingError`] where it cannot be read, or belongs elsewhere.
    pub fn record(&mut self, record: &Record) -> Result<Vec<Charge>, MappingError> {
        let seq = record.seq;
        if record.booked != self.month {
            return Err(MappingError::OtherPeriod { seq, booked: record.booked, month: self.month });
        }
        let entry = match record.fact().map_err(|source| MappingError::Body { seq, source })? {
            Fact::Entry(entry) => entry,
            Fact::Statement(statement) => {
                let mut charges: Vec<Charge> = self.finish().into_iter().collect();
                charges.extend(self.statement(record, &statement)?);
                return Ok(charges);
            }
        };
        match entry.kind() {
            // A hold between a slice and its overrun is never written, but would not part them.
            EntryKind::Hold | EntryKind::Release => return Ok(vec![]),
            EntryKind::Overrun if self.take_in(&entry) => return Ok(self.finish().into_iter().collect()),
            EntryKind::Charge | EntryKind::Overrun | EntryKind::Overhead | EntryKind::Egress => {}
        }
        let mut charges: Vec<Charge> = self.finish().into_iter().collect();
        let charge = self.entry(record, &entry)?;
        if entry.kind() == EntryKind::Charge && entry.amends().is_none() {
            self.waiting = Some((entry.key().replacen("/usage/", "/overrun/", 1), charge));
        } else {
            charges.push(charge);
        }
        Ok(charges)
    }

    /// What still waits, after the last record.
    pub fn finish(&mut self) -> Option<Charge> {
        self.waiting.take().map(|(_, charge)| charge)
    }

    /// Adds an overrun to the slice that it is of; false where that one does not wait.
    fn take_in(&mut self, overrun: &Entry) -> bool {
        let Some((key, charge)) = &mut self.waiting else { return false };
        if key != overrun.key() || overrun.amends().is_some() {
            return false;
        }
        for cost in [&mut charge.billed_micros, &mut charge.effective_micros] {
            *cost = cost.saturating_add(overrun.spend_micros());
        }
        if let Some((exchange, priced)) = charge.exchange.as_mut().zip(priced_in(overrun)) {
            exchange.effective_micros = exchange.effective_micros.saturating_add(priced);
        }
        true
    }

    fn entry(&self, record: &Record, entry: &Entry) -> Result<Charge, MappingError> {
        let (subject, usage) = (entry.subject(), entry.usage());
        let payee = payee(entry);
        let account = parties::group_account(&subject.group, usage);
        let seller = parties::seller(&payee);
        let (micros, nature) = (entry.spend_micros(), priced::nature(entry));
        let reverses = match entry.amends() {
            // What was an overrun is a part of its slice's charge.
            Some(Amendment::Reverses { key }) => Some(key.replacen("/overrun/", "/usage/", 1)),
            Some(Amendment::Replaces { .. }) | None => None,
        };
        let charge = Charge {
            id: record.key.clone(),
            ledger_seq: record.seq,
            invoice_id: parties::invoice_id(&payee, record.booked, &account),
            account,
            seller,
            billing_period: self.billing,
            charge_period: self.charge_period(record, entry)?,
            currency: self.currency,
            service: priced::service(entry),
            place: Some(parties::place(&subject.site, usage)),
            resource: usage.and_then(|usage| resource(entry.kind(), usage)),
            billed_micros: micros,
            effective_micros: micros,
            exchange: exchange(entry),
            capacity: capacity(entry, &nature),
            nature,
            commitment: None,
            reverses,
            description: priced::description(entry),
            tags: usage.map(priced::tags).unwrap_or_default(),
            work: Some(Work {
                user: subject.user.clone(),
                job: subject.job,
                attempt: subject.attempt,
                gpu_class: usage.and_then(|usage| usage.class.as_ref()).map(ToString::to_string),
                gpu_ms: entry.signed_gpu_ms(),
                normalised_gpu_ms: entry.signed_normalised_ms(),
                hold_id: matches!(entry.kind(), EntryKind::Charge)
                    .then(|| format!("{}/hold", subject.attempt)),
            }),
            on_demand_equivalent_micros: priced::on_demand_micros(entry),
        };
        Ok(charge)
    }

    /// The slice of use. What an instance cost from its launch on is booked when it is gone: there it counts from the
    /// period's start, since the months before it are not corrected by it.
    fn charge_period(&self, record: &Record, entry: &Entry) -> Result<Period, MappingError> {
        let start = self.billing.start();
        let (mut from, to) = match entry.usage() {
            Some(usage) => (usage.from, usage.to),
            None => (record.effective_at, record.effective_at),
        };
        if entry.kind() == EntryKind::Overhead && to >= start {
            from = from.max(start);
        }
        self.period(record.seq, from, to)
    }

    /// A period of at least a millisecond that ends within the billing period.
    fn period(&self, seq: u64, from: UnixMs, to: UnixMs) -> Result<Period, MappingError> {
        let (from, to) = if to > from {
            (from, to)
        } else if from < self.billing.end() {
            (from, UnixMs(from.0.saturating_add(1)))
        } else {
            (UnixMs(from.0.saturating_sub(1)), from)
        };
        Period::new(from, to).map_err(|source| MappingError::Period { seq, source })
    }
}

/// Who is paid; use that cost nothing has no posting that says it.
fn payee(entry: &Entry) -> Account {
    let told = entry.usage().and_then(|usage| Some((usage.cloud.clone()?, usage.region.clone()?)));
    match (entry.payee(), told) {
        (Some(payee), _) => payee.clone(),
        (None, Some((cloud, site))) => Account::Payable { cloud, site },
        (None, None) => Account::Revenue(entry.subject().site.clone()),
    }
}

/// The prices before exchange, and what of the entry's amount they come to; none where it was priced in the currency of
/// the books. On-prem, where cards are in other currencies, the list price is the rate.
fn exchange(entry: &Entry) -> Option<Exchange> {
    let priced = entry.usage()?.priced?;
    let unit = priced.rate.0.max(0);
    Some(Exchange {
        currency: priced.currency,
        list_unit_micros: unit,
        contracted_unit_micros: unit,
        effective_micros: priced_in(entry)?,
    })
}

/// What an entry charges in the currency that it was priced in: its amount by the two rates, rounded once to the nearest
/// micro, halves away from zero, so that a reversal takes back as much as was charged.
fn priced_in(entry: &Entry) -> Option<i64> {
    let usage = entry.usage()?;
    let (micros, rate) = (i128::from(entry.spend_micros()), i128::from(usage.priced?.rate.0));
    let by = i128::from(usage.rate.0.max(1));
    let half = if micros < 0 { -by / 2 } else { by / 2 };
    i64::try_from((micros * rate + half) / by).ok()
}

fn resource(of: EntryKind, usage: &Usage) -> Option<Resource> {
    let kind = match (of, usage.cloud.is_some()) {
        (EntryKind::Egress, _) => "Dataset",
        (_, true) => "Instance",
        (_, false) => "Host",
    };
    let id = usage.resource.clone().filter(|id| !id.trim().is_empty())?;
    Some(Resource { id, kind: kind.to_owned(), name: None })
}

/// A pool of our own is capacity that is paid for whether it is used or not; a cloud's is bought as it is used.
fn capacity(entry: &Entry, nature: &Nature) -> Option<Capacity> {
    let usage = entry.usage().filter(|usage| usage.cloud.is_none())?;
    let pool = usage.pool.as_ref()?;
    let is_use = matches!(nature, Nature::Usage(_)) && entry.kind() == EntryKind::Charge;
    let pool = format!("{}/{pool}", entry.subject().site);
    is_use.then_some(Capacity { pool, utilisation: Utilisation::Used })
}
