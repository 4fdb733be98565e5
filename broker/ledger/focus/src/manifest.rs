//! What goes with the files of an export: its period, its totals, and the digest of each file.
//!
//! The same charges make the same manifest, byte by byte: there is no time of writing in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::column::{Kind, Version};
use crate::decimal::Decimal;
use crate::row::{Row, Value};

/// Whether more charges may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// They may: the period is open.
    #[serde(alias = "open")]
    Provisional,
    /// What comes later is a correction in a later period.
    Closed,
}

/// The description of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the specification.
    pub focus_version: Version,
    /// Start of the billing period, as columns print it.
    pub period_start: String,
    /// Exclusive end of the billing period.
    pub period_end: String,
    /// Whether more may come.
    pub status: Status,
    /// Currency of all amounts.
    pub currency: String,
    /// Rows in each file.
    pub rows: u64,
    /// Exact sums of columns of money and of whole numbers.
    pub sums: BTreeMap<String, String>,
    /// What each invoice comes to.
    pub invoices: BTreeMap<String, InvoiceTotal>,
    /// The files; each has all rows.
    pub files: Vec<FileEntry>,
}

/// What an invoice comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceTotal {
    /// Rows with its id.
    pub rows: u64,
    /// Exact sum of their `BilledCost`.
    pub billed_cost: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name, without a folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// The columns that are added up: all of them hold money of the billing currency, or whole numbers.
pub(crate) const SUMMED: [&str; 7] = [
    "BilledCost",
    "ContractedCost",
    "EffectiveCost",
    "ListCost",
    "x_GpuMs",
    "x_NormalizedGpuMs",
    "x_OnDemandEquivalentCost",
];

/// Totals while rows go by.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) rows: u64,
    /// `None` once a sum is too large for a decimal.
    pub(crate) sums: BTreeMap<&'static str, Option<Decimal>>,
    pub(crate) invoices: BTreeMap<String, (u64, Option<Decimal>)>,
}

impl Totals {
    pub(crate) fn add(&mut self, column: &'static str, value: Decimal) {
        let sum = self.sums.entry(column).or_insert(Some(Decimal::ZERO));
        *sum = sum.and_then(|sum| sum.plus(value));
    }

    pub(crate) fn bill(&mut self, invoice: &str, billed: Decimal) {
        if !self.invoices.contains_key(invoice) {
            self.invoices.insert(invoice.to_owned(), (0, Some(Decimal::ZERO)));
        }
        if let Some((rows, sum)) = self.invoices.get_mut(invoice) {
            *rows += 1;
            *sum = sum.and_then(|sum| sum.plus(billed));
        }
    }

    /// Adds a row that is written.
    pub(crate) fn add_row(&mut self, version: Version, row: &Row) {
        self.rows += 1;
        let (mut invoice, mut billed) = (None, Decimal::ZERO);
        for (column, cell) in version.written().zip(&row.cells) {
            if let (Kind::Text, "InvoiceId", Some(Value::Text(id))) = (column.kind, column.name, cell) {
                invoice = Some(id);
            }
            let value = match cell {
                Some(Value::Decimal(value)) => Some(*value),
                Some(Value::Integer(value)) => Decimal::from_pico(i128::from(*value) * 10_i128.pow(12)),
                Some(Value::Text(_) | Value::Instant(_)) | None => None,
            };
            if let (Some(value), true) = (value, SUMMED.contains(&column.name)) {
                self.add(column.name, value);
                if column.name == "BilledCost" {
                    billed = value;
                }
            }
        }
        if let Some(invoice) = invoice {
            self.bill(invoice, billed);
        }
    }
}

/// A sum as it is written.
pub(crate) fn print_sum(sum: Option<Decimal>) -> String {
    sum.map_or_else(|| "too large".to_owned(), |sum| sum.to_string())
}
