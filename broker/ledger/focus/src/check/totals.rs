//! Rules that hold a file against its manifest.

use super::header::Header;
use super::whole::Whole;
use super::{Findings, Rule};
use crate::manifest::{Manifest, print_sum};
use crate::period::print_instant;

/// Holds what was read against what the manifest says. `digest` is SHA-256 of the file.
pub(super) fn check(
    manifest: &Manifest,
    header: &Header,
    whole: &Whole,
    digest: Option<&str>,
    findings: &mut Findings,
) {
    let mut same = |what: &str, said: &str, is: &str| {
        if said != is {
            let message = format!("the manifest says that {what} is {said}; in the file it is {is}");
            findings.add_of_file(Rule::Manifest, is, message);
        }
    };
    same("the version", manifest.focus_version.as_str(), header.version.as_str());
    same("the number of rows", &manifest.rows.to_string(), &whole.totals.rows.to_string());
    if let Some(currency) = whole.currency() {
        same("the currency", &manifest.currency, currency);
    }
    if let Some((start, end)) = whole.period {
        same("the period's start", &manifest.period_start, &print_instant(start));
        same("the period's end", &manifest.period_end, &print_instant(end));
    }
    for (column, said) in &manifest.sums {
        let sum = whole.totals.sums.get(column.as_str()).copied();
        same(&format!("the sum of {column}"), said, &sum.map_or_else(|| "none".to_owned(), print_sum));
    }
    for (invoice, said) in &manifest.invoices {
        let (rows, billed) = match whole.totals.invoices.get(invoice) {
            Some((rows, billed)) => (rows.to_string(), print_sum(*billed)),
            None => ("0".to_owned(), "0".to_owned()),
        };
        same(&format!("the number of rows of invoice {invoice}"), &said.rows.to_string(), &rows);
        same(&format!("the total of invoice {invoice}"), &said.billed_cost, &billed);
    }
    for invoice in whole.totals.invoices.keys().filter(|invoice| !manifest.invoices.contains_key(*invoice)) {
        findings.add_of_file(Rule::Manifest, invoice, "the manifest does not have this invoice");
    }
    if let Some(digest) = digest
        && !manifest.files.iter().any(|file| file.sha256 == digest)
    {
        let names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        let message = format!("its SHA-256 is that of none of the manifest's files: {}", names.join(", "));
        findings.add_of_file(Rule::Manifest, digest, message);
    }
}
