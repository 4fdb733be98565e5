//! Rules that remember rows before: duplicates, overlaps, prices, invoices, and the sums for the manifest.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use spillway_types::UnixMs;

use super::cross::Fields;
use super::spans::Spans;
use super::{Findings, Rule};
use crate::manifest::{SUMMED, Totals};
use crate::period::print_instant;

/// What tells usages of one resource apart that may go on at the same time: who, for what, of which meter, and
/// whether it was used. Two attempts share a host; one attempt does not pay twice for it.
const USED_BY: [&str; 6] = [
    "ResourceId",
    "SubAccountId",
    "x_AttemptId",
    "SkuMeter",
    "CapacityReservationStatus",
    "CommitmentDiscountStatus",
];

/// What is remembered of a file.
#[derive(Debug, Default)]
pub(super) struct Whole {
    rows: BTreeSet<[u8; 16]>,
    spans: BTreeMap<[u8; 16], Spans>,
    sku_of_price: BTreeMap<String, String>,
    account_of_invoice: BTreeMap<String, String>,
    currency: Option<String>,
    pub(super) period: Option<(UnixMs, UnixMs)>,
    pub(super) totals: Totals,
}

impl Whole {
    pub(super) fn row(&mut self, fields: &Fields<'_>, texts: &[&str], findings: &mut Findings) {
        if !self.rows.insert(digest(texts.iter().copied())) {
            findings.add_of_row(Rule::DuplicateRow, "the row is there twice, word for word");
        }
        self.overlap(fields, findings);
        self.one_value(fields, findings);
        self.period(fields, findings);
        self.totals.rows += 1;
        for column in SUMMED {
            if let Some(value) = fields.number(column) {
                self.totals.add(column, value);
            }
        }
        if let (Some(invoice), Some(billed)) = (fields.text("InvoiceId"), fields.number("BilledCost")) {
            self.totals.bill(invoice, billed);
        }
    }

    fn overlap(&mut self, fields: &Fields<'_>, findings: &mut Findings) {
        let span = fields.instant("ChargePeriodStart").zip(fields.instant("ChargePeriodEnd"));
        let (Some((UnixMs(start), UnixMs(end))), Some(resource)) = (span, fields.text("ResourceId")) else {
            return;
        };
        if !fields.is_usage() || fields.is_correction() || end <= start {
            return;
        }
        let key = digest(USED_BY.map(|name| fields.text(name).unwrap_or_default()));
        let spans = self.spans.entry(key).or_default();
        if fields.reverses().is_some() {
            spans.remove(start, end);
        } else if let Some((from, to)) = spans.add(start, end) {
            let message = format!(
                "the same use is charged already within {} to {}",
                print_instant(UnixMs(from)),
                print_instant(UnixMs(to))
            );
            findings.add(Rule::Overlap, "ResourceId", resource, message);
        }
    }

    fn one_value(&mut self, fields: &Fields<'_>, findings: &mut Findings) {
        if let (Some(price), Some(sku)) = (fields.text("SkuPriceId"), fields.text("SkuId"))
            && let Some(first) = differs(&mut self.sku_of_price, price, sku)
        {
            let message = format!("the price belongs to SKU `{first}` in an earlier row, here to `{sku}`");
            findings.add(Rule::SkuPrice, "SkuPriceId", price, message);
        }
        if let (Some(invoice), Some(account)) = (fields.text("InvoiceId"), fields.text("BillingAccountId"))
            && let Some(first) = differs(&mut self.account_of_invoice, invoice, account)
        {
            let message = format!("the invoice bills `{first}` in an earlier row, here `{account}`");
            findings.add(Rule::Invoice, "InvoiceId", invoice, message);
        }
        if let Some(currency) = fields.text("BillingCurrency") {
            let first = self.currency.get_or_insert_with(|| currency.to_owned());
            if first != currency {
                let message = format!("earlier rows are billed in {first}; one file has one currency");
                findings.add(Rule::Currency, "BillingCurrency", currency, message);
            }
        }
    }

    fn period(&mut self, fields: &Fields<'_>, findings: &mut Findings) {
        let period = fields.instant("BillingPeriodStart").zip(fields.instant("BillingPeriodEnd"));
        let Some(period) = period else { return };
        let first = *self.period.get_or_insert(period);
        let mut differs = |column: &str, first: UnixMs, here: UnixMs| {
            if first != here {
                let message = format!("earlier rows have {}; one file has one period", print_instant(first));
                findings.add(Rule::BillingPeriod, column, &print_instant(here), message);
            }
        };
        differs("BillingPeriodStart", first.0, period.0);
        differs("BillingPeriodEnd", first.1, period.1);
    }

    pub(super) fn currency(&self) -> Option<&str> {
        self.currency.as_deref()
    }
}

/// Remembers the first value of a key; gives it back where this one differs.
fn differs(first: &mut BTreeMap<String, String>, key: &str, value: &str) -> Option<String> {
    match first.get(key) {
        Some(known) => Some(known.clone()).filter(|known| known != value),
        None => {
            first.insert(key.to_owned(), value.to_owned());
            None
        }
    }
}

/// The first half of SHA-256 over texts with their lengths.
fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> [u8; 16] {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let mut half = [0; 16];
    half.copy_from_slice(hash.finalize().split_at(16).0);
    half
}
