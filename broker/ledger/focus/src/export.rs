//! Writes charges as files: CSV, Parquet, or both, and the manifest that holds them together.
//!
//! The same charges make the same bytes. To that end they come in the order of the ledger, and nothing of the
//! machine or the moment goes in.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};
use spillway_types::Currency;

use crate::charge::Charge;
use crate::column::Version;
use crate::manifest::{FileEntry, InvoiceTotal, Manifest, Status, Totals, print_sum};
use crate::parquet_file::ParquetWriter;
use crate::period::{Period, print_instant};
use crate::row::{ChargeError, Row, Value};

/// What an export covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The version of the specification.
    pub version: Version,
    /// The billing period of every row.
    pub period: Period,
    /// Whether more may come.
    pub status: Status,
    /// The currency of every amount.
    pub currency: Currency,
}

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A charge that cannot be a row.
    #[error(transparent)]
    Charge(#[from] ChargeError),
    /// A charge that does not belong here.
    #[error("charge `{charge}` has another {what} than the export; export it with its own")]
    OutOfScope {
        /// The charge.
        charge: String,
        /// `billing period` or `currency`.
        what: &'static str,
    },
    /// The same charges in another order would make another file.
    #[error("charge `{charge}` comes after one with a larger ledger number or start; sort charges by both")]
    OutOfOrder {
        /// The charge.
        charge: String,
    },
    /// The file cannot be written.
    #[error("the export cannot be written")]
    Io(#[from] io::Error),
    /// A sum that no decimal holds.
    #[error("the sum of {0} has more than 20 digits before the decimal point")]
    TooLarge(String),
}

/// Counts and digests what goes through.
#[derive(Debug)]
pub(crate) struct Hashed<W> {
    inner: W,
    digest: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, digest: Sha256::new(), bytes: 0 }
    }

    /// SHA-256 of what went through, in hexadecimal.
    pub(crate) fn digest(self) -> String {
        hex::encode(self.digest.finalize())
    }

    fn entry(self, name: &str) -> FileEntry {
        FileEntry { name: name.to_owned(), bytes: self.bytes, sha256: self.digest() }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An export being written.
pub struct Exporter<W: Write + Send> {
    scope: Scope,
    csv: Option<(String, csv::Writer<Hashed<W>>)>,
    parquet: Option<(String, ParquetWriter<Hashed<W>>)>,
    totals: Totals,
    last: Option<(u64, i64)>,
}

impl<W: Write + Send> std::fmt::Debug for Exporter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<W: Write + Send> Exporter<W> {
    /// Begins a CSV file; `name` is what the manifest calls it.
    ///
    /// # Errors
    /// [`ExportError::Io`] where it cannot be written.
    pub fn new(scope: Scope, name: &str, csv: W) -> Result<Self, ExportError> {
        let terminator = csv::Terminator::Any(b'\n');
        let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Hashed::new(csv));
        let names = scope.version.written().map(|column| column.name);
        writer.write_record(names).map_err(io::Error::from)?;
        Ok(Self { csv: Some((name.to_owned(), writer)), ..Self::empty(scope) })
    }

    /// Begins a Parquet file alone.
    ///
    /// # Errors
    /// [`ExportError::Io`] where it cannot be written.
    pub fn parquet(scope: Scope, name: &str, file: W) -> Result<Self, ExportError> {
        Self::empty(scope).with_parquet(name, file)
    }

    fn empty(scope: Scope) -> Self {
        Self { scope, csv: None, parquet: None, totals: Totals::default(), last: None }
    }

    /// Writes the same rows as Parquet.
    ///
    /// # Errors
    /// [`ExportError::Io`] where it cannot be written.
    pub fn with_parquet(mut self, name: &str, file: W) -> Result<Self, ExportError> {
        let writer = ParquetWriter::new(self.scope.version, Hashed::new(file))?;
        self.parquet = Some((name.to_owned(), writer));
        Ok(self)
    }

    /// Writes one charge. They come by ledger number, then by start.
    ///
    /// # Errors
    /// [`ExportError`] where it does not belong here or cannot be a row; nothing of it was written then.
    pub fn push(&mut self, charge: &Charge) -> Result<(), ExportError> {
        let Scope { version, period, currency, .. } = self.scope;
        let out = |what| ExportError::OutOfScope { charge: charge.id.clone(), what };
        if charge.billing_period != period {
            return Err(out("billing period"));
        }
        if charge.currency != currency {
            return Err(out("currency"));
        }
        let place = (charge.ledger_seq, charge.charge_period.start().0);
        if self.last.is_some_and(|last| last > place) {
            return Err(ExportError::OutOfOrder { charge: charge.id.clone() });
        }
        let row = charge.row(version)?;
        self.write(row)?;
        self.last = Some(place);
        Ok(())
    }

    fn write(&mut self, row: Row) -> Result<(), ExportError> {
        self.totals.add_row(self.scope.version, &row);
        if let Some((_, csv)) = &mut self.csv {
            let fields = row.cells.iter().map(|cell| cell.as_ref().map(Value::print).unwrap_or_default());
            csv.write_record(fields).map_err(io::Error::from)?;
        }
        if let Some((_, parquet)) = &mut self.parquet {
            parquet.push(row)?;
        }
        Ok(())
    }

    /// Ends the files and says what is in them.
    ///
    /// # Errors
    /// [`ExportError`] where a file cannot be written, or a sum is too large.
    pub fn finish(self) -> Result<Manifest, ExportError> {
        let mut files = vec![];
        if let Some((name, writer)) = self.csv {
            let mut inner = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
            inner.flush()?;
            files.push(inner.entry(&name));
        }
        if let Some((name, writer)) = self.parquet {
            files.push(writer.finish()?.entry(&name));
        }
        let Scope { version, period, status, currency } = self.scope;
        let (start, end) = period.printed();
        let sum = |column: &str, sum: Option<_>| match sum {
            Some(_) => Ok(print_sum(sum)),
            None => Err(ExportError::TooLarge(column.to_owned())),
        };
        let sums = self.totals.sums.iter();
        let sums = sums.map(|(column, value)| Ok(((*column).to_owned(), sum(column, *value)?)));
        let invoices = self.totals.invoices.iter().map(|(id, (rows, billed))| {
            let billed_cost = sum("BilledCost", *billed)?;
            Ok((id.clone(), InvoiceTotal { rows: *rows, billed_cost }))
        });
        Ok(Manifest {
            focus_version: version,
            period_start: print_instant(start),
            period_end: print_instant(end),
            status,
            currency: currency.as_str().to_owned(),
            rows: self.totals.rows,
            sums: sums.collect::<Result<_, ExportError>>()?,
            invoices: invoices.collect::<Result<_, ExportError>>()?,
            files,
        })
    }
}
