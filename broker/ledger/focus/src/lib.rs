//! Charges as FOCUS rows (FinOps Open Cost and Usage Specification, 1.2 and 1.3), their files, and a strict checker.
//!
//! A [`Charge`] is what the accounting knows; [`Charge::row`] maps it to the columns of a version, an [`Exporter`]
//! writes rows as CSV and Parquet with a [`Manifest`], and [`check_csv`] and [`check_parquet`] say what is wrong with
//! a file, ours or another's. [`FromLedger`] makes charges of the ledger's records. All of it is pure: files are given
//! as readers and writers.
//!
//! What always holds in an export: list and contracted cost are price times quantity to the last digit; times are
//! UTC seconds; the same charges make the same bytes; only a charge of an earlier period is a correction.
//!
//! Left out on purpose: the contract-commitment data set of 1.3, and split cost allocation (its columns are there
//! and null).

pub mod charge;
pub mod check;
pub mod column;
pub mod decimal;
mod export;
pub mod from_ledger;
mod manifest;
mod parquet_file;
mod period;
mod quantity;
mod row;
pub mod values;

pub use charge::{Charge, Reversal};
pub use check::{CheckError, Finding, Report, Rule, check_csv, check_parquet};
pub use column::{Column, Kind, UnknownVersion, Version};
pub use decimal::{Decimal, DecimalError};
pub use export::{ExportError, Exporter, Scope};
pub use from_ledger::{FromLedger, MappingError, billing_period};
pub use manifest::{FileEntry, InvoiceTotal, Manifest, Status};
pub use period::{InstantError, Period, PeriodError, parse_instant, print_instant};
pub use quantity::{BillingTerms, Quantity};
pub use row::{ChargeError, Row, Value};
