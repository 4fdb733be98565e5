//! The journal in the format of hledger, so that an independent program can judge it.
//!
//! Money is one commodity, GPU time (`GPUms`, milliseconds of one GPU) another: it moves from `capacity:SITE` to
//! `use:GROUP`, so that each transaction is zero in both. Amounts are exact decimals. Every commodity and account is
//! declared, so that `hledger check --strict` passes. The commodity has nine decimals, although amounts have six: hledger
//! compares with the declared precision, and so refuses an imbalance of 10^-9.

use std::collections::BTreeSet;
use std::fmt;

use spillway_types::Currency;

use crate::calendar::Day;
use crate::journal::{Fact, Record};

/// Writes a journal: [`HledgerWriter::new`], [`HledgerWriter::record`] for each record, [`HledgerWriter::finish`].
#[derive(Debug)]
pub struct HledgerWriter<W> {
    out: W,
    currency: Currency,
    accounts: BTreeSet<String>,
}

/// Why a journal cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum HledgerError {
    /// A record cannot be read.
    #[error("record {seq} cannot be read; `spillway ledger verify` says what is wrong with the journal")]
    Unreadable {
        /// The record.
        seq: u64,
        /// Why.
        #[source]
        why: serde_json::Error,
    },
    /// The output takes no more.
    #[error("the export cannot be written")]
    Write(#[from] fmt::Error),
}

/// Micros as a decimal with six places.
struct Exact(i64);

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, micros) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// What would end a description or begin a comment.
fn plain(text: &str) -> String {
    text.replace([';', '|', '\n', '\r'], "_")
}

impl<W: fmt::Write> HledgerWriter<W> {
    /// Begins a journal whose money is of `currency`.
    ///
    /// # Errors
    /// [`HledgerError::Write`].
    pub fn new(mut out: W, currency: Currency) -> Result<Self, HledgerError> {
        writeln!(out, "commodity 1000.000000000 {currency}\ncommodity 1000. GPUms")?;
        Ok(Self { out, currency, accounts: BTreeSet::new() })
    }

    /// Writes one record as a transaction, dated by the UTC day of its effective time.
    ///
    /// # Errors
    /// [`HledgerError`].
    pub fn record(&mut self, record: &Record) -> Result<(), HledgerError> {
        let fact = record.fact().map_err(|why| HledgerError::Unreadable { seq: record.seq, why })?;
        let Record { seq, effective_at, recorded_at, booked, .. } = record;
        let (day, key) = (Day::of(*effective_at), plain(&record.key));
        writeln!(self.out, "\n{day} ({seq}) {key}  ; recorded: {recorded_at}, booked: {booked}")?;
        for posting in fact.postings() {
            let account = posting.account.to_string();
            writeln!(self.out, "    {account}  {} {}", Exact(posting.micros), self.currency)?;
            self.accounts.insert(account);
        }
        if let Fact::Entry(entry) = &fact
            && entry.signed_gpu_ms() != 0
        {
            let (subject, gpu_ms) = (entry.subject(), entry.signed_gpu_ms());
            for (account, gpu_ms) in
                [(format!("use:{}", subject.group), gpu_ms), (format!("capacity:{}", subject.site), -gpu_ms)]
            {
                writeln!(self.out, "    {account}  {gpu_ms} GPUms")?;
                self.accounts.insert(account);
            }
        }
        Ok(())
    }

    /// What was written so far, to be taken where it is written on piece by piece.
    pub const fn output(&mut self) -> &mut W {
        &mut self.out
    }

    /// Declares the accounts and gives the output back.
    ///
    /// # Errors
    /// [`HledgerError::Write`].
    pub fn finish(mut self) -> Result<W, HledgerError> {
        writeln!(self.out)?;
        for account in &self.accounts {
            writeln!(self.out, "account {account}")?;
        }
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Zone;
    use crate::journal::Journal;
    use crate::properties::{payee, subject};
    use crate::{Hold, Slice};
    use spillway_types::{HourlyRate, UnixMs};

    #[test]
    fn a_transaction_has_both_commodities_and_exact_amounts() {
        let subject = subject("vision", 1);
        let (mut hold, placed) = Hold::place(&subject, 1);
        let slice =
            Slice { rank: 0, from_ms: 0, to_ms: 3_600_000, rate: HourlyRate(1_500_001), gpu_blocks: 200 };
        let mut journal = Journal::new(Zone::utc());
        let at = UnixMs(1_772_323_200_000);
        for entry in std::iter::once(placed).chain(hold.charge(&subject, &payee(), &slice)) {
            journal.post(&Fact::Entry(entry), at, at).unwrap();
        }
        let mut writer = HledgerWriter::new(String::new(), Currency::USD).unwrap();
        journal.records().iter().try_for_each(|record| writer.record(record)).unwrap();
        let text = writer.finish().unwrap();
        for line in [
            "commodity 1000.000000000 USD",
            "    held:vision  0.000001 USD",
            "    spend:vision  1.500000 USD",
            "    revenue:seoul  -1.500000 USD",
            "    use:vision  7200000 GPUms",
            "    capacity:seoul  -7200000 GPUms",
            "account committed",
            "account use:vision",
        ] {
            assert!(text.lines().any(|it| it == line), "`{line}` is not in:\n{text}");
        }
        assert!(text.contains("\n2026-03-01 (2) att_"), "{text}");
    }

    #[test]
    fn amounts_and_texts_are_as_hledger_reads_them() {
        for (micros, text) in [(0, "0.000000"), (-1, "-0.000001"), (i64::MIN, "-9223372036854.775808")] {
            assert_eq!(Exact(micros).to_string(), text);
        }
        assert_eq!(plain("a;b|c\nd"), "a_b_c_d");
    }
}
