//! Says what is wrong with a file of FOCUS rows: stricter than the public validator, in one pass.
//!
//! Each rule is in the module of what it must see: `header` the names of the columns, `cell` one value, `cross` one
//! row, `whole` rows before, `totals` the manifest. Memory grows with what must be remembered and not with the
//! text: 16 bytes for each row (duplicates), one span for each run of touching slices of a resource, one entry for
//! each price and invoice.
//!
//! Costs are compared with price times quantity exactly, without tolerance: a product of columns as they are
//! written here always fits the 18 decimals of a cost.

mod cell;
mod cross;
mod header;
mod spans;
mod totals;
mod whole;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};

use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;
use serde::Serialize;

use crate::column::Version;
use crate::export::Hashed;
use crate::manifest::Manifest;
use crate::parquet_file::open_rows;

use cell::{Cell, read_cell};
use cross::{Fields, check_row};
use header::Header;
use whole::Whole;

/// Findings of one rule that are kept; what is beyond is only counted. A thousand lines are more than a person
/// reads, and a file with one wrong column would otherwise be repeated as findings.
pub const MAX_FINDINGS_PER_RULE: u64 = 1000;

/// What is held against a file. Its name is what a finding says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A mandatory column is not there.
    MissingColumn,
    /// A column is neither of this version nor begins with `x_`.
    UnknownColumn,
    /// A column is there twice.
    DuplicateColumn,
    /// Columns of FOCUS stand before all others.
    ColumnOrder,
    /// A row has as many fields as the header.
    FieldCount,
    /// A value is missing.
    MissingValue,
    /// There is a value where there must be none.
    UnexpectedValue,
    /// Not a number, or not an instant, or not a JSON object.
    Malformed,
    /// A number is written with an exponent.
    Exponent,
    /// More decimals or digits than are kept.
    Precision,
    /// A value is below 0 that cannot be.
    Negative,
    /// An instant is not in UTC.
    NotUtc,
    /// The value is none of the column's.
    NotAllowed,
    /// The unit is none.
    Unit,
    /// The currency is none, or another than the file's.
    Currency,
    /// An account's id has only digits.
    AllDigits,
    /// `ListCost` is not price times quantity.
    ListCost,
    /// `ContractedCost` is not price times quantity.
    ContractedCost,
    /// A period ends before, or where, it starts.
    PeriodOrder,
    /// Usage lies outside its billing period, or rows have several billing periods.
    BillingPeriod,
    /// A charge of an earlier period is a correction, and no other is.
    CorrectionClass,
    /// Something is billed for what is free, or a credit's costs differ.
    FreeCharge,
    /// A subcategory of another category.
    Subcategory,
    /// Prices before and after exchange differ in one currency.
    Exchange,
    /// A price belongs to two SKUs.
    SkuPrice,
    /// Slices of one resource overlap.
    Overlap,
    /// A row is there twice.
    DuplicateRow,
    /// An invoice bills two accounts.
    Invoice,
    /// The file is not what the manifest says.
    Manifest,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The row, from 1 after the header; none where it is about the file.
    pub row: Option<u64>,
    /// The column.
    pub column: Option<String>,
    /// What does not hold.
    pub rule: Rule,
    /// The value.
    pub value: Option<String>,
    /// What is wrong and how it is right.
    pub message: String,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version that was checked against.
    pub version: Version,
    /// Rows that were read.
    pub rows: u64,
    /// What is wrong, in the order of the file.
    pub findings: Vec<Finding>,
    /// How many more findings there are of a rule than are listed.
    pub left_off: BTreeMap<Rule, u64>,
}

/// Why a file cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
    /// It is not CSV, or not UTF-8.
    #[error("the file is not CSV")]
    Csv(#[from] csv::Error),
    /// It is not Parquet.
    #[error("the file is not Parquet")]
    Parquet(#[from] ParquetError),
    /// There is nothing in it.
    #[error("the file is empty: not even a header")]
    Empty,
    /// The end is missing.
    #[error("the file ends in the middle of row {row}: it was cut off; fetch or export it again")]
    Torn {
        /// The last row, from 1; 0 is the header.
        row: u64,
    },
}

/// Checks a CSV file. Without a version it is the one that the header has the columns of.
///
/// # Errors
/// [`CheckError`] where it cannot be checked at all; a file whose last line has no end is one.
pub fn check_csv(
    file: impl Read,
    version: Option<Version>,
    manifest: Option<&Manifest>,
) -> Result<Report, CheckError> {
    let mut tail = Tail { inner: file, seen: Hashed::new(io::sink()), last: None };
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(&mut tail);
    let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    if names.is_empty() {
        return Err(CheckError::Empty);
    }
    let mut checker = Checker::new(&names, version, manifest);
    let mut record = csv::StringRecord::new();
    let mut fields = names.len();
    while reader.read_record(&mut record)? {
        checker.row(&record.iter().collect::<Vec<&str>>());
        fields = record.len();
    }
    drop(reader);
    // A field that was never closed swallows the rest of the file, the last end of a line included.
    if tail.last != Some(b'\n') || (checker.findings.rows > 0 && fields < names.len()) {
        return Err(CheckError::Torn { row: checker.findings.rows });
    }
    Ok(checker.finish(Some(&tail.seen.digest())))
}

/// Checks a Parquet file. Without a version it is the one that the schema has the columns of.
///
/// # Errors
/// [`CheckError`] where it cannot be checked at all.
pub fn check_parquet<R: ChunkReader + 'static>(
    file: R,
    version: Option<Version>,
    manifest: Option<&Manifest>,
) -> Result<Report, CheckError> {
    let digest = match manifest {
        Some(_) => {
            let mut seen = Hashed::new(io::sink());
            io::copy(&mut file.get_read(0)?, &mut seen)?;
            Some(seen.digest())
        }
        None => None,
    };
    let (names, rows) = open_rows(file)?;
    let mut checker = Checker::new(&names, version, manifest);
    for row in rows {
        let row = row?;
        checker.row(&row.iter().map(String::as_str).collect::<Vec<&str>>());
    }
    Ok(checker.finish(digest.as_deref()))
}

/// Passes a file on, and remembers its last byte and its digest.
struct Tail<R> {
    inner: R,
    seen: Hashed<io::Sink>,
    last: Option<u8>,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        self.seen.write_all(read)?;
        self.last = read.last().copied().or(self.last);
        Ok(count)
    }
}

/// Findings while they are made.
#[derive(Debug, Default)]
struct Findings {
    rows: u64,
    list: Vec<Finding>,
    counts: BTreeMap<Rule, u64>,
}

impl Findings {
    /// About the row at hand, or about the header before there was one.
    fn add(&mut self, rule: Rule, column: &str, value: &str, message: impl Into<String>) {
        let row = Some(self.rows).filter(|row| *row > 0);
        self.push(Finding {
            row,
            column: Some(column.to_owned()),
            rule,
            value: Some(value.to_owned()).filter(|value| !value.is_empty()),
            message: message.into(),
        });
    }

    /// About the row at hand as a whole.
    fn add_of_row(&mut self, rule: Rule, message: impl Into<String>) {
        let message = message.into();
        self.push(Finding { row: Some(self.rows), column: None, rule, value: None, message });
    }

    /// About the file.
    fn add_of_file(&mut self, rule: Rule, value: &str, message: impl Into<String>) {
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        self.push(Finding { row: None, column: None, rule, value, message: message.into() });
    }

    fn push(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.rule).or_insert(0);
        *count += 1;
        if *count <= MAX_FINDINGS_PER_RULE {
            self.list.push(finding);
        }
    }
}

/// A check on its way through a file.
struct Checker<'a> {
    header: Header,
    names: &'a [String],
    whole: Whole,
    manifest: Option<&'a Manifest>,
    findings: Findings,
}

impl<'a> Checker<'a> {
    fn new(names: &'a [String], version: Option<Version>, manifest: Option<&'a Manifest>) -> Self {
        let mut findings = Findings::default();
        let version = version
            .or_else(|| manifest.map(|manifest| manifest.focus_version))
            .unwrap_or_else(|| header::guess_version(names));
        let header = Header::check(version, names, &mut findings);
        Self { header, names, whole: Whole::default(), manifest, findings }
    }

    fn row(&mut self, fields: &[&str]) {
        self.findings.rows += 1;
        if fields.len() != self.names.len() {
            let message = format!("the row has {} fields; the header has {}", fields.len(), self.names.len());
            self.findings.add_of_row(Rule::FieldCount, message);
            return;
        }
        let columns = self.header.columns.iter().zip(fields);
        let cells: Vec<Cell<'_>> =
            columns.map(|(column, text)| read_cell(*column, text, &mut self.findings)).collect();
        let fields_of_row = Fields { header: &self.header, cells: &cells };
        check_row(&fields_of_row, &mut self.findings);
        self.whole.row(&fields_of_row, fields, &mut self.findings);
    }

    fn finish(mut self, digest: Option<&str>) -> Report {
        if let Some(manifest) = self.manifest {
            totals::check(manifest, &self.header, &self.whole, digest, &mut self.findings);
        }
        let beyond = |(rule, count): (Rule, u64)| Some((rule, count.checked_sub(MAX_FINDINGS_PER_RULE)?));
        let left_off = self.findings.counts.into_iter().filter_map(beyond).filter(|(_, count)| *count > 0);
        Report {
            version: self.header.version,
            rows: self.findings.rows,
            left_off: left_off.collect(),
            findings: self.findings.list,
        }
    }
}
