//! The export of a period: one line of CSV for each charge, in the order of the records.
//!
//! It is made of the records alone, in a form that never changes, so that the digest which is frozen at the close
//! can be made again at any time. What people and tools read is made of the same lines.

use std::fmt;

use super::periods::invoice_id;
use super::record::{Fact, Record};
use crate::{Account, Entry};

/// The names of the columns.
const HEADER: &str =
    "seq,key,kind,effective_ms,booked,invoice,group,user,site,payee,job,attempt,instance,gpu_ms,micros";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportLine {
    /// The record.
    pub seq: u64,
    /// Its key.
    pub key: String,
    /// What was charged.
    pub kind: &'static str,
    /// Who pays: a group's name, or the account where it is not a group.
    pub payer: String,
    /// Who is paid.
    pub payee: Option<Account>,
    /// GPU time, in milliseconds of one GPU; below 0 where it is taken back.
    pub gpu_ms: i64,
    /// In micros of the deployment's currency.
    pub micros: i64,
    /// The entry, where it is about an attempt.
    pub entry: Option<Entry>,
}

/// The lines of one record: none for a hold, one for a charge, one for each account that a statement debits.
fn lines(record: &Record, fact: &Fact) -> Vec<ExportLine> {
    match fact {
        Fact::Entry(entry) => {
            if entry.gpu_ms() == 0 && entry.spend_micros() == 0 {
                return vec![];
            }
            vec![ExportLine {
                seq: record.seq,
                key: record.key.clone(),
                kind: entry.kind().as_str(),
                payer: entry.subject().group.to_string(),
                payee: entry.payee().cloned(),
                gpu_ms: entry.signed_gpu_ms(),
                micros: entry.spend_micros(),
                entry: Some(entry.clone()),
            }]
        }
        Fact::Statement(statement) => {
            let paid = |account: &Account| matches!(account, Account::Revenue(_) | Account::Payable { .. });
            let postings = fact.postings();
            let payee =
                postings.iter().map(|posting| &posting.account).find(|account| paid(account)).cloned();
            let line = |posting: &crate::Posting| ExportLine {
                seq: record.seq,
                key: record.key.clone(),
                kind: statement.kind().as_str(),
                payer: posting.account.to_string(),
                payee: payee.clone(),
                gpu_ms: 0,
                micros: posting.micros,
                entry: None,
            };
            postings.iter().filter(|posting| !paid(&posting.account)).map(line).collect()
        }
    }
}

impl ExportLine {
    /// The lines of a record; none where its body cannot be read, which [`super::Verifier`] reports.
    #[must_use]
    pub fn of(record: &Record) -> Vec<Self> {
        record.fact().map(|fact| lines(record, &fact)).unwrap_or_default()
    }

    fn write(&self, record: &Record, out: &mut impl fmt::Write) -> fmt::Result {
        let Self { seq, key, kind, payer, payee, gpu_ms, micros, entry } = self;
        let invoice = payee.as_ref().map(|payee| invoice_id(payee, record.booked)).unwrap_or_default();
        let payee = payee.as_ref().map(ToString::to_string).unwrap_or_default();
        let (effective, booked) = (record.effective_at.0, record.booked);
        write!(out, "{seq},{key},{kind},{effective},{booked},{invoice},{payer},")?;
        match entry.as_ref().map(Entry::subject) {
            Some(it) => {
                let instance = it.instance.map(|instance| instance.to_string()).unwrap_or_default();
                write!(out, "{},{},{payee},{},{},{instance},", it.user, it.site, it.job, it.attempt)?;
            }
            None => write!(out, ",,{payee},,,,")?,
        }
        writeln!(out, "{gpu_ms},{micros}")
    }
}

/// Makes an export record by record, where they do not all fit into memory.
#[derive(Debug)]
pub struct Exporter<W>(W);

impl<W: fmt::Write> Exporter<W> {
    /// Begins an export.
    ///
    /// # Errors
    /// The output takes no more.
    pub fn new(mut out: W) -> Result<Self, fmt::Error> {
        writeln!(out, "{HEADER}")?;
        Ok(Self(out))
    }

    /// Writes the lines of the next record.
    ///
    /// # Errors
    /// The output takes no more.
    pub fn record(&mut self, record: &Record) -> fmt::Result {
        ExportLine::of(record).iter().try_for_each(|line| line.write(record, &mut self.0))
    }

    /// Gives the output back.
    pub fn finish(self) -> W {
        self.0
    }
}

/// The export of the records, which are those of one period in order.
#[must_use]
pub fn export<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let never = "writing to a string does not fail";
    let mut exporter = Exporter::new(String::new()).expect(never);
    records.into_iter().for_each(|record| exporter.record(record).expect(never));
    exporter.finish()
}
