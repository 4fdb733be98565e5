//! A charge as a row: one value, or none, for each column of a version.
//!
//! `ListCost` and `ContractedCost` are price times quantity without rounding, up to 18 decimals. `BilledCost` and
//! `EffectiveCost` are what the ledger posted, in micros; that and the contracted cost differ by less than a micro
//! for each slice, which is the ledger's rounding.

use std::collections::BTreeMap;

use spillway_types::UnixMs;

use crate::charge::{
    Capacity, Charge, Commitment, CommitmentCategory, Frequency, Nature, Priced, Pricing, Utilisation, Work,
};
use crate::column::{Column, Version};
use crate::decimal::Decimal;
use crate::period::print_instant;
use crate::{Quantity, values};

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, a word of a list, or JSON.
    Text(String),
    /// An amount, a price, or a quantity.
    Decimal(Decimal),
    /// A whole number.
    Integer(i64),
    /// An instant in UTC, to the second.
    Instant(UnixMs),
}

impl Value {
    /// As it stands in a CSV file. A whole decimal has a `.0`: readers that guess a column's type from its values
    /// would take a column of whole ones for integers.
    #[must_use]
    pub fn print(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Decimal(decimal) if decimal.decimals() == 0 => format!("{decimal}.0"),
            Self::Decimal(decimal) => decimal.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Instant(instant) => print_instant(*instant),
        }
    }
}

/// The values of one charge, in the order of [`Version::written`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// One for each column.
    pub cells: Vec<Option<Value>>,
}

/// Why a charge cannot be a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// A text that must be there is not.
    #[error("charge `{charge}`: {column} is empty; every charge needs it")]
    Empty {
        /// The charge.
        charge: String,
        /// The column.
        column: &'static str,
    },
    /// Readers of CSV would take it for a number.
    #[error(
        "charge `{charge}`: {column} `{value}` has only digits; put a letter before it, such as `a{value}`"
    )]
    AllDigits {
        /// The charge.
        charge: String,
        /// The column.
        column: &'static str,
        /// The id.
        value: String,
    },
    /// No unit of FOCUS.
    #[error("charge `{charge}`: `{value}` is no unit; write `Hours`, `GPU-Hours`, or `GB/Month`")]
    Unit {
        /// The charge.
        charge: String,
        /// What was given.
        value: String,
    },
    /// A price below 0.
    #[error(
        "charge `{charge}`: the {column} of {micros} micros is below 0; a reversal has a quantity below 0"
    )]
    NegativePrice {
        /// The charge.
        charge: String,
        /// The column.
        column: &'static str,
        /// The price.
        micros: i64,
    },
    /// A number that no column holds.
    #[error("charge `{charge}`: {column} has more than 20 digits before the decimal point")]
    TooLarge {
        /// The charge.
        charge: String,
        /// The column.
        column: &'static str,
    },
    /// Usage that was to be cut.
    #[error("charge `{charge}`: it ends after its billing period; cut it at the period's end")]
    BeyondPeriod {
        /// The charge.
        charge: String,
    },
    /// A subcategory of another category.
    #[error("charge `{charge}`: `{subcategory}` is no service subcategory of `{category}`")]
    Subcategory {
        /// The charge.
        charge: String,
        /// The category.
        category: String,
        /// The subcategory.
        subcategory: String,
    },
}

impl Charge {
    /// The charge as a row of this version.
    ///
    /// # Errors
    /// [`ChargeError`] where a row would break a rule of the specification that the types here do not hold.
    pub fn row(&self, version: Version) -> Result<Row, ChargeError> {
        let mut cells = Cells { charge: &self.id, values: BTreeMap::new() };
        self.parties(&mut cells)?;
        self.times(&mut cells)?;
        self.things(&mut cells)?;
        self.costs(&mut cells)?;
        if let Some(capacity) = &self.capacity {
            cells.capacity(capacity)?;
        }
        if let Some(commitment) = &self.commitment {
            cells.commitment(commitment, &self.nature)?;
        }
        self.own(&mut cells)?;
        let mut values = cells.values;
        Ok(Row { cells: version.written().map(|column: &Column| values.remove(column.name)).collect() })
    }

    fn parties(&self, cells: &mut Cells<'_>) -> Result<(), ChargeError> {
        let (account, seller) = (&self.account, &self.seller);
        cells.id("BillingAccountId", &account.billing_id)?;
        cells.id("SubAccountId", &account.group_path)?;
        let texts = [
            ("BillingAccountName", &account.billing_name),
            ("BillingAccountType", &account.billing_type),
            ("SubAccountName", &account.group_name),
            ("SubAccountType", &account.group_type),
            ("ProviderName", &seller.provider),
            ("PublisherName", &seller.publisher),
            ("ServiceProviderName", &seller.provider),
            ("HostProviderName", &seller.host),
            ("InvoiceIssuerName", &seller.invoice_issuer),
            ("InvoiceId", &self.invoice_id),
            ("x_GroupPath", &account.group_path),
        ];
        texts.into_iter().try_for_each(|(column, text)| cells.text(column, text))
    }

    fn times(&self, cells: &mut Cells<'_>) -> Result<(), ChargeError> {
        let is_usage = matches!(self.nature, Nature::Usage(_));
        if is_usage && self.charge_period.end() > self.billing_period.end() {
            return Err(ChargeError::BeyondPeriod { charge: self.id.clone() });
        }
        let (charge, billing) = (self.charge_period.printed(), self.billing_period.printed());
        cells.put("ChargePeriodStart", Value::Instant(charge.0));
        cells.put("ChargePeriodEnd", Value::Instant(charge.1));
        cells.put("BillingPeriodStart", Value::Instant(billing.0));
        cells.put("BillingPeriodEnd", Value::Instant(billing.1));
        let (category, frequency) = match &self.nature {
            Nature::Usage(_) => ("Usage", "Usage-Based"),
            Nature::Purchase(_, Frequency::OneTime) => ("Purchase", "One-Time"),
            Nature::Purchase(_, Frequency::Recurring) => ("Purchase", "Recurring"),
            Nature::Credit => ("Credit", "One-Time"),
            Nature::Adjustment => ("Adjustment", "One-Time"),
            Nature::Tax => ("Tax", "One-Time"),
        };
        cells.word("ChargeCategory", category);
        cells.word("ChargeFrequency", frequency);
        if self.is_correction() {
            cells.word("ChargeClass", "Correction");
        }
        cells.text("ChargeDescription", &self.description)
    }

    fn things(&self, cells: &mut Cells<'_>) -> Result<(), ChargeError> {
        let service = &self.service;
        if !values::is_subcategory(service.category, service.subcategory) {
            return Err(ChargeError::Subcategory {
                charge: self.id.clone(),
                category: service.category.to_owned(),
                subcategory: service.subcategory.to_owned(),
            });
        }
        cells.text("ServiceName", &service.name)?;
        cells.word("ServiceCategory", service.category);
        cells.word("ServiceSubcategory", service.subcategory);
        if let Some(place) = &self.place {
            cells.text("x_Site", &place.site)?;
            cells.text("RegionId", &place.region_id)?;
            cells.text("RegionName", &place.region_name)?;
            cells.optional("AvailabilityZone", place.zone.as_ref())?;
        }
        if let Some(resource) = &self.resource {
            cells.text("ResourceId", &resource.id)?;
            cells.text("ResourceType", &resource.kind)?;
            cells.optional("ResourceName", resource.name.as_ref())?;
        }
        cells.pairs("Tags", &self.tags);
        Ok(())
    }

    fn costs(&self, cells: &mut Cells<'_>) -> Result<(), ChargeError> {
        let billed = Decimal::from_micros(self.billed_micros);
        let effective = Decimal::from_micros(self.effective_micros);
        cells.word("BillingCurrency", self.currency.as_str());
        cells.put("BilledCost", Value::Decimal(billed));
        cells.put("EffectiveCost", Value::Decimal(effective));
        let (currency, pricing_effective) = match &self.exchange {
            Some(exchange) => (exchange.currency, Decimal::from_micros(exchange.effective_micros)),
            None => (self.currency, effective),
        };
        cells.word("PricingCurrency", currency.as_str());
        cells.put("PricingCurrencyEffectiveCost", Value::Decimal(pricing_effective));
        let (Nature::Usage(priced) | Nature::Purchase(priced, _)) = &self.nature else {
            cells.put("ListCost", Value::Decimal(billed));
            cells.put("ContractedCost", Value::Decimal(billed));
            return Ok(());
        };
        let (list, contracted) = match &self.exchange {
            Some(exchange) => (exchange.list_unit_micros, exchange.contracted_unit_micros),
            None => (priced.list_unit_micros, priced.contracted_unit_micros),
        };
        cells.price("PricingCurrencyListUnitPrice", list)?;
        cells.price("PricingCurrencyContractedUnitPrice", contracted)?;
        cells.priced(priced)
    }

    fn own(&self, cells: &mut Cells<'_>) -> Result<(), ChargeError> {
        cells.text("x_ChargeId", &self.id)?;
        cells.put("x_LedgerSeq", Value::Integer(i64::try_from(self.ledger_seq).unwrap_or(i64::MAX)));
        cells.optional("x_ReversesChargeId", self.reverses.as_ref())?;
        if let Some(micros) = self.on_demand_equivalent_micros {
            cells.put("x_OnDemandEquivalentCost", Value::Decimal(Decimal::from_micros(micros)));
        }
        match &self.work {
            Some(work) => cells.work(work),
            None => Ok(()),
        }
    }
}

/// The values of a row while it is made.
struct Cells<'a> {
    charge: &'a str,
    values: BTreeMap<&'static str, Value>,
}

impl Cells<'_> {
    fn put(&mut self, column: &'static str, value: Value) {
        self.values.insert(column, value);
    }

    fn word(&mut self, column: &'static str, word: &str) {
        self.put(column, Value::Text(word.to_owned()));
    }

    fn text(&mut self, column: &'static str, text: &str) -> Result<(), ChargeError> {
        if text.trim().is_empty() {
            return Err(ChargeError::Empty { charge: self.charge.to_owned(), column });
        }
        self.word(column, text);
        Ok(())
    }

    fn optional(&mut self, column: &'static str, text: Option<&String>) -> Result<(), ChargeError> {
        text.map_or(Ok(()), |text| self.text(column, text))
    }

    fn id(&mut self, column: &'static str, id: &str) -> Result<(), ChargeError> {
        if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
            let (charge, value) = (self.charge.to_owned(), id.to_owned());
            return Err(ChargeError::AllDigits { charge, column, value });
        }
        self.text(column, id)
    }

    fn unit(&mut self, column: &'static str, unit: &str) -> Result<(), ChargeError> {
        if !values::is_unit(unit) {
            return Err(ChargeError::Unit { charge: self.charge.to_owned(), value: unit.to_owned() });
        }
        self.word(column, unit);
        Ok(())
    }

    fn price(&mut self, column: &'static str, micros: i64) -> Result<Decimal, ChargeError> {
        if micros < 0 {
            return Err(ChargeError::NegativePrice { charge: self.charge.to_owned(), column, micros });
        }
        let price = Decimal::from_micros(micros);
        self.put(column, Value::Decimal(price));
        Ok(price)
    }

    fn decimal(&mut self, column: &'static str, decimal: Option<Decimal>) -> Result<Decimal, ChargeError> {
        let too_large = || ChargeError::TooLarge { charge: self.charge.to_owned(), column };
        let decimal = decimal.ok_or_else(too_large)?;
        self.put(column, Value::Decimal(decimal));
        Ok(decimal)
    }

    fn quantity(&mut self, column: &'static str, Quantity(pico): Quantity) -> Result<Decimal, ChargeError> {
        self.decimal(column, Decimal::from_pico(pico))
    }

    fn pairs(&mut self, column: &'static str, pairs: &BTreeMap<String, String>) {
        if !pairs.is_empty() {
            let json =
                serde_json::Value::from_iter(pairs.iter().map(|(key, value)| (key.clone(), value.clone())));
            self.put(column, Value::Text(json.to_string()));
        }
    }

    fn priced(&mut self, priced: &Priced) -> Result<(), ChargeError> {
        self.text("SkuId", &priced.sku_id)?;
        self.text("SkuPriceId", &priced.sku_price_id)?;
        self.text("SkuMeter", &priced.meter)?;
        self.pairs("SkuPriceDetails", &priced.details);
        self.word(
            "PricingCategory",
            match priced.pricing {
                Pricing::Standard => "Standard",
                Pricing::Dynamic => "Dynamic",
                Pricing::Committed => "Committed",
                Pricing::Other => "Other",
            },
        );
        let quantity = self.quantity("PricingQuantity", priced.quantity)?;
        self.unit("PricingUnit", &priced.unit)?;
        let list = self.price("ListUnitPrice", priced.list_unit_micros)?;
        self.decimal("ListCost", list.times(quantity))?;
        let contracted = self.price("ContractedUnitPrice", priced.contracted_unit_micros)?;
        self.decimal("ContractedCost", contracted.times(quantity))?;
        if let Some((consumed, unit)) = &priced.consumed {
            self.quantity("ConsumedQuantity", *consumed)?;
            self.unit("ConsumedUnit", unit)?;
        }
        Ok(())
    }

    fn capacity(&mut self, capacity: &Capacity) -> Result<(), ChargeError> {
        self.text("CapacityReservationId", &capacity.pool)?;
        self.word("CapacityReservationStatus", utilisation(capacity.utilisation));
        Ok(())
    }

    fn commitment(&mut self, commitment: &Commitment, nature: &Nature) -> Result<(), ChargeError> {
        self.text("CommitmentDiscountId", &commitment.id)?;
        self.text("CommitmentDiscountType", &commitment.kind)?;
        self.optional("CommitmentDiscountName", commitment.name.as_ref())?;
        let category = match commitment.category {
            CommitmentCategory::Spend => "Spend",
            CommitmentCategory::Usage => "Usage",
        };
        self.word("CommitmentDiscountCategory", category);
        if matches!(nature, Nature::Usage(_)) {
            self.word("CommitmentDiscountStatus", utilisation(commitment.utilisation));
        }
        if matches!(nature, Nature::Usage(_) | Nature::Purchase(..)) {
            self.quantity("CommitmentDiscountQuantity", commitment.quantity)?;
            self.unit("CommitmentDiscountUnit", &commitment.unit)?;
        }
        Ok(())
    }

    fn work(&mut self, work: &Work) -> Result<(), ChargeError> {
        self.text("x_UserName", work.user.as_str())?;
        self.text("x_JobId", &work.job.to_string())?;
        self.text("x_AttemptId", &work.attempt.to_string())?;
        self.optional("x_GpuClass", work.gpu_class.as_ref())?;
        self.optional("x_HoldId", work.hold_id.as_ref())?;
        self.put("x_GpuMs", Value::Integer(work.gpu_ms));
        self.put("x_NormalizedGpuMs", Value::Integer(work.normalised_gpu_ms));
        Ok(())
    }
}

const fn utilisation(utilisation: Utilisation) -> &'static str {
    match utilisation {
        Utilisation::Used => "Used",
        Utilisation::Unused => "Unused",
    }
}
