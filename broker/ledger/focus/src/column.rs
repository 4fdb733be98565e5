//! The columns of the versions that are written and checked, as data.
//!
//! Source: FOCUS 1.2 (57 columns, 21 of them mandatory) and 1.3 (8 more; `ProviderName` and `PublisherName` stay,
//! deprecated). Columns of our own begin with `x_` and stand after those of FOCUS.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::values::{
    CAPACITY_STATUSES, CHARGE_CATEGORIES, CHARGE_CLASSES, CHARGE_FREQUENCIES, COMMITMENT_CATEGORIES,
    COMMITMENT_STATUSES, PRICING_CATEGORIES, SERVICE_CATEGORIES,
};

/// A version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// 1.2: 57 columns.
    #[serde(rename = "1.2")]
    V1_2,
    /// 1.3: 65 columns; two of them say provider and publisher as before, and are deprecated.
    #[serde(rename = "1.3")]
    V1_3,
}

impl Version {
    /// All, oldest first.
    pub const ALL: [Self; 2] = [Self::V1_2, Self::V1_3];

    /// As it is written: `1.2`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }

    /// The columns of this version, in the order in which they are written.
    pub fn columns(self) -> impl Iterator<Item = &'static Column> {
        COLUMNS.iter().filter(move |column| column.since <= self)
    }

    /// All that is written: the columns of this version, then our own.
    pub fn written(self) -> impl Iterator<Item = &'static Column> {
        self.columns().chain(&OWN_COLUMNS)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version of FOCUS that is known here; there are 1.2 and 1.3")]
pub struct UnknownVersion(pub String);

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let known = Self::ALL.into_iter().find(|version| version.as_str() == text);
        known.ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text but blanks.
    Text,
    /// A number; money, or a price of one unit.
    Money,
    /// A number with at most twelve decimals.
    Quantity,
    /// A whole number.
    Integer,
    /// An instant in UTC, to the second.
    Instant,
    /// A JSON object; the values of its keys are not nested.
    KeyValues,
    /// A JSON object of any depth.
    Object,
    /// A unit of measure.
    Unit,
    /// A code of ISO 4217.
    Currency,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its id.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// Whether a row may have no value.
    pub nullable: bool,
    /// Whether every file must have it.
    pub mandatory: bool,
    /// The first version that has it.
    pub since: Version,
}

/// A column that every file must have, and every row a value.
const fn full(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, nullable: false, mandatory: true, since: Version::V1_2 }
}

/// A column that every file must have.
const fn mandatory(name: &'static str, kind: Kind) -> Column {
    Column { nullable: true, ..full(name, kind) }
}

/// A column that is there where the provider supports what it is about.
const fn conditional(name: &'static str, kind: Kind) -> Column {
    Column { mandatory: false, ..mandatory(name, kind) }
}

/// A column that may be left out; where it is there, every row has a value.
const fn filled(name: &'static str, kind: Kind) -> Column {
    Column { mandatory: false, ..full(name, kind) }
}

const fn new_in_1_3(column: Column) -> Column {
    Column { since: Version::V1_3, ..column }
}

/// The columns of FOCUS, in the order in which they are written.
pub const COLUMNS: [Column; 65] = [
    new_in_1_3(conditional("AllocatedMethodDetails", Kind::Object)),
    new_in_1_3(conditional("AllocatedMethodId", Kind::Text)),
    new_in_1_3(conditional("AllocatedResourceId", Kind::Text)),
    new_in_1_3(conditional("AllocatedResourceName", Kind::Text)),
    new_in_1_3(conditional("AllocatedTags", Kind::KeyValues)),
    conditional("AvailabilityZone", Kind::Text),
    full("BilledCost", Kind::Money),
    full("BillingAccountId", Kind::Text),
    full("BillingAccountName", Kind::Text),
    conditional("BillingAccountType", Kind::Text),
    full("BillingCurrency", Kind::Currency),
    full("BillingPeriodEnd", Kind::Instant),
    full("BillingPeriodStart", Kind::Instant),
    conditional("CapacityReservationId", Kind::Text),
    conditional("CapacityReservationStatus", Kind::OneOf(&CAPACITY_STATUSES)),
    full("ChargeCategory", Kind::OneOf(&CHARGE_CATEGORIES)),
    mandatory("ChargeClass", Kind::OneOf(&CHARGE_CLASSES)),
    full("ChargeDescription", Kind::Text),
    filled("ChargeFrequency", Kind::OneOf(&CHARGE_FREQUENCIES)),
    full("ChargePeriodEnd", Kind::Instant),
    full("ChargePeriodStart", Kind::Instant),
    conditional("CommitmentDiscountCategory", Kind::OneOf(&COMMITMENT_CATEGORIES)),
    conditional("CommitmentDiscountId", Kind::Text),
    conditional("CommitmentDiscountName", Kind::Text),
    conditional("CommitmentDiscountQuantity", Kind::Quantity),
    conditional("CommitmentDiscountStatus", Kind::OneOf(&COMMITMENT_STATUSES)),
    conditional("CommitmentDiscountType", Kind::Text),
    conditional("CommitmentDiscountUnit", Kind::Unit),
    conditional("ConsumedQuantity", Kind::Quantity),
    conditional("ConsumedUnit", Kind::Unit),
    new_in_1_3(conditional("ContractApplied", Kind::Object)),
    full("ContractedCost", Kind::Money),
    conditional("ContractedUnitPrice", Kind::Money),
    full("EffectiveCost", Kind::Money),
    new_in_1_3(full("HostProviderName", Kind::Text)),
    filled("InvoiceId", Kind::Text),
    full("InvoiceIssuerName", Kind::Text),
    full("ListCost", Kind::Money),
    conditional("ListUnitPrice", Kind::Money),
    conditional("PricingCategory", Kind::OneOf(&PRICING_CATEGORIES)),
    filled("PricingCurrency", Kind::Currency),
    conditional("PricingCurrencyContractedUnitPrice", Kind::Money),
    filled("PricingCurrencyEffectiveCost", Kind::Money),
    conditional("PricingCurrencyListUnitPrice", Kind::Money),
    mandatory("PricingQuantity", Kind::Quantity),
    mandatory("PricingUnit", Kind::Unit),
    full("ProviderName", Kind::Text),
    full("PublisherName", Kind::Text),
    conditional("RegionId", Kind::Text),
    conditional("RegionName", Kind::Text),
    conditional("ResourceId", Kind::Text),
    conditional("ResourceName", Kind::Text),
    conditional("ResourceType", Kind::Text),
    full("ServiceCategory", Kind::OneOf(&SERVICE_CATEGORIES)),
    full("ServiceName", Kind::Text),
    new_in_1_3(full("ServiceProviderName", Kind::Text)),
    filled("ServiceSubcategory", Kind::Text),
    conditional("SkuId", Kind::Text),
    conditional("SkuMeter", Kind::Text),
    conditional("SkuPriceDetails", Kind::KeyValues),
    conditional("SkuPriceId", Kind::Text),
    conditional("SubAccountId", Kind::Text),
    conditional("SubAccountName", Kind::Text),
    conditional("SubAccountType", Kind::Text),
    conditional("Tags", Kind::KeyValues),
];

/// Our own columns, in the order in which they are written.
pub const OWN_COLUMNS: [Column; 13] = [
    conditional("x_AttemptId", Kind::Text),
    filled("x_ChargeId", Kind::Text),
    conditional("x_GpuClass", Kind::Text),
    conditional("x_GpuMs", Kind::Integer),
    conditional("x_GroupPath", Kind::Text),
    conditional("x_HoldId", Kind::Text),
    conditional("x_JobId", Kind::Text),
    filled("x_LedgerSeq", Kind::Integer),
    conditional("x_NormalizedGpuMs", Kind::Integer),
    conditional("x_OnDemandEquivalentCost", Kind::Money),
    conditional("x_ReversesChargeId", Kind::Text),
    conditional("x_Site", Kind::Text),
    conditional("x_UserName", Kind::Text),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_versions_have_their_numbers_of_columns() {
        let count = |version: Version| {
            let mandatory = version.columns().filter(|column| column.mandatory).count();
            (version.columns().count(), mandatory)
        };
        assert_eq!(count(Version::V1_2), (57, 21));
        assert_eq!(count(Version::V1_3), (65, 23));
        for version in Version::ALL {
            let names: BTreeSet<&str> = version.written().map(|column| column.name).collect();
            assert_eq!(names.len(), version.written().count(), "a column is there twice");
            let own = version.written().skip_while(|column| !column.name.starts_with("x_"));
            assert!(own.count() == OWN_COLUMNS.len(), "our own columns stand last");
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        assert!("1.1".parse::<Version>().unwrap_err().to_string().contains("there are 1.2 and 1.3"));
    }
}
