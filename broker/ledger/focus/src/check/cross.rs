//! Rules for the values of one row together.

use spillway_types::UnixMs;

use super::cell::Cell;
use super::header::Header;
use super::{Findings, Rule};
use crate::decimal::Decimal;
use crate::period::print_instant;
use crate::values::is_subcategory;

/// One row by the names of its columns.
pub(super) struct Fields<'a> {
    pub(super) header: &'a Header,
    pub(super) cells: &'a [Cell<'a>],
}

impl<'a> Fields<'a> {
    fn cell(&self, name: &str) -> Option<Cell<'a>> {
        self.header.place(name).and_then(|place| self.cells.get(place)).copied()
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        match self.cell(name) {
            Some(Cell::Text(text)) => Some(text),
            Some(Cell::Null | Cell::Bad | Cell::Number(_) | Cell::Instant(_)) | None => None,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<Decimal> {
        match self.cell(name) {
            Some(Cell::Number(number)) => Some(number),
            Some(Cell::Null | Cell::Bad | Cell::Text(_) | Cell::Instant(_)) | None => None,
        }
    }

    pub(super) fn instant(&self, name: &str) -> Option<UnixMs> {
        match self.cell(name) {
            Some(Cell::Instant(instant)) => Some(instant),
            Some(Cell::Null | Cell::Bad | Cell::Text(_) | Cell::Number(_)) | None => None,
        }
    }

    /// The column is there and has no value.
    fn is_null(&self, name: &str) -> bool {
        self.cell(name) == Some(Cell::Null)
    }

    /// The column is there and has a value, right or wrong.
    fn has_value(&self, name: &str) -> bool {
        !matches!(self.cell(name), Some(Cell::Null) | None)
    }

    fn show(&self, name: &str) -> String {
        match self.cell(name) {
            Some(Cell::Text(text)) => text.to_owned(),
            Some(Cell::Number(number)) => number.to_string(),
            Some(Cell::Instant(instant)) => print_instant(instant),
            Some(Cell::Null | Cell::Bad) | None => String::new(),
        }
    }

    pub(super) fn is_correction(&self) -> bool {
        self.text("ChargeClass") == Some("Correction")
    }

    pub(super) fn is_usage(&self) -> bool {
        self.text("ChargeCategory") == Some("Usage")
    }

    pub(super) fn reverses(&self) -> Option<&'a str> {
        self.text("x_ReversesChargeId")
    }
}

/// Holds one row against all rules that need no other row.
pub(super) fn check_row(fields: &Fields<'_>, findings: &mut Findings) {
    presence(fields, findings);
    together(fields, findings);
    signs(fields, findings);
    product(fields, Rule::ListCost, ["ListCost", "ListUnitPrice"], findings);
    product(fields, Rule::ContractedCost, ["ContractedCost", "ContractedUnitPrice"], findings);
    periods(fields, findings);
    correction(fields, findings);
    free(fields, findings);
    words(fields, findings);
    exchange(fields, findings);
}

/// What a priced charge has.
const PRICED: [&str; 8] = [
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
    "PricingQuantity",
    "SkuId",
    "SkuPriceId",
];

fn presence(fields: &Fields<'_>, findings: &mut Findings) {
    let category = fields.text("ChargeCategory").unwrap_or_default();
    let priced = matches!(category, "Usage" | "Purchase") && !fields.is_correction();
    for name in PRICED {
        if priced && fields.is_null(name) {
            let message = format!("there is no value; a charge of category {category} needs one");
            findings.add(Rule::MissingValue, name, "", message);
        }
        if category == "Tax" && fields.has_value(name) {
            findings.add(Rule::UnexpectedValue, name, &fields.show(name), "a tax has no price of its own");
        }
    }
    let unused = fields.text("CommitmentDiscountStatus") == Some("Unused");
    if category == "Usage" && !unused && !fields.is_correction() && fields.is_null("ConsumedQuantity") {
        findings.add(Rule::MissingValue, "ConsumedQuantity", "", "usage says how much was used");
    }
    if (category != "Usage" || unused) && fields.has_value("ConsumedQuantity") {
        let value = fields.show("ConsumedQuantity");
        findings.add(
            Rule::UnexpectedValue,
            "ConsumedQuantity",
            &value,
            "only usage that happened was consumed",
        );
    }
}

/// Whether the first column needs the second to have a value, or the other way round as well.
enum Tie {
    /// Both or none.
    Both,
    /// The first has none where the second has none.
    OnlyWith,
}

const TIES: [(&str, &str, Tie); 18] = [
    ("PricingUnit", "PricingQuantity", Tie::Both),
    ("ConsumedUnit", "ConsumedQuantity", Tie::Both),
    ("CommitmentDiscountUnit", "CommitmentDiscountQuantity", Tie::Both),
    ("CommitmentDiscountCategory", "CommitmentDiscountId", Tie::Both),
    ("CommitmentDiscountType", "CommitmentDiscountId", Tie::Both),
    ("CommitmentDiscountName", "CommitmentDiscountId", Tie::OnlyWith),
    ("CommitmentDiscountQuantity", "CommitmentDiscountId", Tie::OnlyWith),
    ("CommitmentDiscountStatus", "CommitmentDiscountId", Tie::OnlyWith),
    ("CapacityReservationStatus", "CapacityReservationId", Tie::OnlyWith),
    ("RegionName", "RegionId", Tie::Both),
    ("ResourceType", "ResourceId", Tie::Both),
    ("ResourceName", "ResourceId", Tie::OnlyWith),
    ("SubAccountName", "SubAccountId", Tie::Both),
    ("SubAccountType", "SubAccountId", Tie::Both),
    ("BillingAccountType", "BillingAccountId", Tie::Both),
    ("SkuMeter", "SkuId", Tie::OnlyWith),
    ("SkuPriceDetails", "SkuPriceId", Tie::OnlyWith),
    ("AllocatedResourceId", "AllocatedMethodId", Tie::Both),
];

fn together(fields: &Fields<'_>, findings: &mut Findings) {
    for (name, with, tie) in &TIES {
        if fields.has_value(name) && fields.is_null(with) {
            let message = format!("there is a value, but none in {with}");
            findings.add(Rule::UnexpectedValue, name, &fields.show(name), message);
        }
        if matches!(tie, Tie::Both) && fields.is_null(name) && fields.has_value(with) {
            findings.add(Rule::MissingValue, name, "", format!("there is no value, but one in {with}"));
        }
    }
    for [id, status] in [
        ["CapacityReservationId", "CapacityReservationStatus"],
        ["CommitmentDiscountId", "CommitmentDiscountStatus"],
    ] {
        if fields.is_usage() && fields.has_value(id) && fields.is_null(status) {
            findings.add(Rule::MissingValue, status, "", format!("usage with a {id} was Used or Unused"));
        }
    }
}

const UNIT_PRICES: [&str; 4] = [
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
];

const AMOUNTS: [&str; 8] = [
    "BilledCost",
    "ConsumedQuantity",
    "ContractedCost",
    "EffectiveCost",
    "ListCost",
    "PricingQuantity",
    "CommitmentDiscountQuantity",
    "x_GpuMs",
];

fn signs(fields: &Fields<'_>, findings: &mut Findings) {
    let mut negative = |names: &[&str], why: &str| {
        for name in names {
            if let Some(value) = fields.number(name).filter(|value| value.is_negative()) {
                findings.add(Rule::Negative, name, &value.to_string(), why);
            }
        }
    };
    negative(&UNIT_PRICES, "a price is never below 0");
    let takes_back = fields.is_correction() || fields.reverses().is_some();
    let priced = matches!(fields.text("ChargeCategory"), Some("Usage" | "Purchase"));
    if priced && !takes_back {
        negative(&AMOUNTS, "it is below 0; only corrections, reversals, credits and adjustments can be");
    }
}

/// The specification lets corrections differ.
fn product(fields: &Fields<'_>, rule: Rule, [cost, price]: [&str; 2], findings: &mut Findings) {
    let (Some(stated), Some(unit), Some(quantity)) =
        (fields.number(cost), fields.number(price), fields.number("PricingQuantity"))
    else {
        return;
    };
    if fields.is_correction() {
        return;
    }
    let product = unit.times(quantity);
    if product != Some(stated) {
        let right = product.map_or_else(|| "more than 18 decimals".to_owned(), |product| product.to_string());
        let message = format!("{price} {unit} x PricingQuantity {quantity} = {right}");
        findings.add(rule, cost, &stated.to_string(), message);
    }
}

fn periods(fields: &Fields<'_>, findings: &mut Findings) {
    for [start, end] in [["ChargePeriodStart", "ChargePeriodEnd"], ["BillingPeriodStart", "BillingPeriodEnd"]]
    {
        if let (Some(from), Some(to)) = (fields.instant(start), fields.instant(end))
            && to <= from
        {
            let message = format!("it must be after {start}, {}", print_instant(from));
            findings.add(Rule::PeriodOrder, end, &print_instant(to), message);
        }
    }
    if let (Some(end), Some(limit), true) =
        (fields.instant("ChargePeriodEnd"), fields.instant("BillingPeriodEnd"), fields.is_usage())
        && end > limit
    {
        let message = format!("usage ends after its billing period, {}", print_instant(limit));
        findings.add(Rule::BillingPeriod, "ChargePeriodEnd", &print_instant(end), message);
    }
}

fn correction(fields: &Fields<'_>, findings: &mut Findings) {
    let (Some(start), Some(period)) =
        (fields.instant("ChargePeriodStart"), fields.instant("BillingPeriodStart"))
    else {
        return;
    };
    let class = fields.show("ChargeClass");
    if start < period && fields.is_null("ChargeClass") {
        let message = "a charge of an earlier period, billed in this one, is a `Correction`";
        findings.add(Rule::CorrectionClass, "ChargeClass", &class, message);
    }
    if start >= period && fields.is_correction() {
        let message = "a correction within its own billing period has no class";
        findings.add(Rule::CorrectionClass, "ChargeClass", &class, message);
    }
}

fn free(fields: &Fields<'_>, findings: &mut Findings) {
    let Some(billed) = fields.number("BilledCost") else { return };
    if fields.text("ChargeCategory") == Some("Credit") {
        for name in ["ContractedCost", "EffectiveCost", "ListCost"] {
            if let Some(cost) = fields.number(name).filter(|cost| *cost != billed) {
                let message = format!("a credit's BilledCost is its {name}, {cost}");
                findings.add(Rule::FreeCharge, "BilledCost", &billed.to_string(), message);
                return;
            }
        }
        let takes_back = fields.is_correction() || fields.reverses().is_some();
        if billed > Decimal::ZERO && !takes_back {
            let message = "a credit is never billed: 0, or below 0 where money is given back";
            findings.add(Rule::FreeCharge, "BilledCost", &billed.to_string(), message);
        }
        return;
    }
    let free = fields.number("ContractedCost") == Some(Decimal::ZERO) && !fields.is_correction();
    if fields.is_usage() && free && billed != Decimal::ZERO {
        let message = "the usage is free: its ContractedCost is 0";
        findings.add(Rule::FreeCharge, "BilledCost", &billed.to_string(), message);
    }
}

fn words(fields: &Fields<'_>, findings: &mut Findings) {
    let (category, subcategory) = (fields.text("ServiceCategory"), fields.text("ServiceSubcategory"));
    if let (Some(category), Some(subcategory)) = (category, subcategory)
        && !is_subcategory(category, subcategory)
    {
        let message = format!("it is no subcategory of `{category}`");
        findings.add(Rule::Subcategory, "ServiceSubcategory", subcategory, message);
    }
    let purchase = fields.text("ChargeCategory") == Some("Purchase");
    if purchase && fields.text("ChargeFrequency") == Some("Usage-Based") {
        let message = "a purchase is `One-Time` or `Recurring`";
        findings.add(Rule::NotAllowed, "ChargeFrequency", "Usage-Based", message);
    }
}

fn exchange(fields: &Fields<'_>, findings: &mut Findings) {
    if fields.text("PricingCurrency").is_none()
        || fields.text("PricingCurrency") != fields.text("BillingCurrency")
    {
        return;
    }
    for [before, after] in [
        ["PricingCurrencyListUnitPrice", "ListUnitPrice"],
        ["PricingCurrencyContractedUnitPrice", "ContractedUnitPrice"],
        ["PricingCurrencyEffectiveCost", "EffectiveCost"],
    ] {
        if let (Some(before_value), Some(after_value)) = (fields.number(before), fields.number(after))
            && before_value != after_value
        {
            let message = format!("the currency is the same, so it is {after}, {after_value}");
            findings.add(Rule::Exchange, before, &before_value.to_string(), message);
        }
    }
}
