//! What the accounting knows of one charge: the typed input of an export.
//!
//! A charge is about one slice of one thing: it lies within one day, one price and one billing period
//! ([`crate::Period::cut`] makes such slices). List and contracted cost are not given but follow from price and
//! quantity; what is billed is the ledger's.

use std::collections::BTreeMap;

use spillway_types::{AttemptId, Currency, JobId, UserName};

use crate::{Period, Quantity};

/// One charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Unique for ever: what a reversal refers to.
    pub id: String,
    /// The number of the ledger's entry behind it.
    pub ledger_seq: u64,
    /// Who pays.
    pub account: Account,
    /// Who sells, hosts and invoices.
    pub seller: Seller,
    /// The invoice, from the beginning: a provisional id until it is issued.
    pub invoice_id: String,
    /// The period in which it is billed.
    pub billing_period: Period,
    /// When it was incurred. One that begins before the billing period is a correction of a closed period.
    pub charge_period: Period,
    /// Currency of all amounts but those of `exchange`.
    pub currency: Currency,
    /// What was sold.
    pub service: Service,
    /// Where; `None` where it is at no place.
    pub place: Option<Place>,
    /// On or with what: the join key to the provider's bill.
    pub resource: Option<Resource>,
    /// What kind of charge, with its prices.
    pub nature: Nature,
    /// The basis of the invoice, in micros.
    pub billed_micros: i64,
    /// After amortisation, in micros.
    pub effective_micros: i64,
    /// The same prices before exchange; `None` where prices are in the billing currency.
    pub exchange: Option<Exchange>,
    /// The pool whose capacity it used or left unused.
    pub capacity: Option<Capacity>,
    /// The commitment that it drew on.
    pub commitment: Option<Commitment>,
    /// The charge that this one takes back.
    pub reverses: Option<String>,
    /// What a person reads.
    pub description: String,
    /// Tags of the job.
    pub tags: BTreeMap<String, String>,
    /// The work behind it; `None` for idle capacity and for purchases.
    pub work: Option<Work>,
    /// What the same would have cost on demand in a cloud, in micros.
    pub on_demand_equivalent_micros: Option<i64>,
}

/// Who pays: the payer's account, and the group below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Payer's account or cost centre. Never only digits: a reader of CSV would take it for a number.
    pub billing_id: String,
    /// Its name.
    pub billing_name: String,
    /// What kind of account it is: `Cost Centre`, `Payer`.
    pub billing_type: String,
    /// Path of the group from the root: `/research/vision`.
    pub group_path: String,
    /// The group's own name.
    pub group_name: String,
    /// What a sub-account is here: `Group`, or `Idle` for what nobody used.
    pub group_type: String,
}

/// The parties to a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seller {
    /// Who sells: the cloud, or the owner of an on-prem or personal machine.
    pub provider: String,
    /// Who made what is sold.
    pub publisher: String,
    /// On whose machines it runs.
    pub host: String,
    /// Who sends the invoice.
    pub invoice_issuer: String,
}

/// What was sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// One of [`crate::values::SERVICE_CATEGORIES`].
    pub category: &'static str,
    /// One of the category's.
    pub subcategory: &'static str,
}

/// Where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The site.
    pub site: String,
    /// Region of a cloud, or the site.
    pub region_id: String,
    /// Its name.
    pub region_name: String,
    /// Zone of a cloud, or rack.
    pub zone: Option<String>,
}

/// On or with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The provider's id of the instance, or the host.
    pub id: String,
    /// `Instance`, `Host`, `Pool`.
    pub kind: String,
    /// A name that people gave it; `None` where it only has its id.
    pub name: Option<String>,
}

/// What kind of charge it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nature {
    /// Something was used.
    Usage(Priced),
    /// Something was bought, such as a commitment.
    Purchase(Priced, Frequency),
    /// Money given back or granted: below 0, or 0 where nothing is paid out.
    Credit,
    /// Neither use nor credit: rounding, a settlement.
    Adjustment,
    /// Tax.
    Tax,
}

/// How often a purchase is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frequency {
    /// Once.
    OneTime,
    /// Each period.
    Recurring,
}

/// What has a price: a quantity of a SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priced {
    /// What is sold.
    pub sku_id: String,
    /// The row of the rate card. It belongs to one SKU for ever.
    pub sku_price_id: String,
    /// What is measured: `GPU time`.
    pub meter: String,
    /// More about the price, as pairs.
    pub details: BTreeMap<String, String>,
    /// How the price is made.
    pub pricing: Pricing,
    /// On-demand price of one unit at the start of the slice, in micros.
    pub list_unit_micros: i64,
    /// Negotiated or internal price of one unit, in micros.
    pub contracted_unit_micros: i64,
    /// What is billed, after minimums.
    pub quantity: Quantity,
    /// Its unit: `Hours`, `GPU-Hours`.
    pub unit: String,
    /// What was used, in its own unit; `None` for purchases.
    pub consumed: Option<(Quantity, String)>,
}

/// How a price is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pricing {
    /// Agreed before.
    Standard,
    /// Changes while it runs: spot.
    Dynamic,
    /// Drawn from a commitment.
    Committed,
    /// Another model.
    Other,
}

/// Prices before exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The currency of the price list.
    pub currency: Currency,
    /// List price of one unit, in its micros.
    pub list_unit_micros: i64,
    /// Contracted price of one unit, in its micros.
    pub contracted_unit_micros: i64,
    /// Effective cost, in its micros.
    pub effective_micros: i64,
}

/// Whether reserved or committed capacity was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Utilisation {
    /// It was.
    Used,
    /// It was paid for and idle.
    Unused,
}

/// The pool whose capacity a charge used or left unused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// The pool.
    pub pool: String,
    /// Whether it was used.
    pub utilisation: Utilisation,
}

/// The commitment that a charge drew on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// The provider's id.
    pub id: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What the provider calls it: `Reserved Instance`.
    pub kind: String,
    /// What was committed to.
    pub category: CommitmentCategory,
    /// Whether it was used.
    pub utilisation: Utilisation,
    /// How much of it.
    pub quantity: Quantity,
    /// In which unit.
    pub unit: String,
}

/// What was committed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitmentCategory {
    /// Money.
    Spend,
    /// Hours.
    Usage,
}

/// The work behind a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Who submitted it.
    pub user: UserName,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptId,
    /// The class of accelerators.
    pub gpu_class: Option<String>,
    /// Accelerator time, in milliseconds of one whole accelerator; below 0 in a reversal.
    pub gpu_ms: i64,
    /// The same, weighted by class.
    pub normalised_gpu_ms: i64,
    /// The hold that paid.
    pub hold_id: Option<String>,
}

/// Where a reversal is booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reversal {
    /// Its own id.
    pub id: String,
    /// The number of its entry.
    pub ledger_seq: u64,
    /// The period that is open now.
    pub billing_period: Period,
    /// An invoice of that period.
    pub invoice_id: String,
}

impl Charge {
    /// Whether it corrects a period that was billed before.
    #[must_use]
    pub fn is_correction(&self) -> bool {
        self.charge_period.start() < self.billing_period.start()
    }

    /// The charge that takes this one back in full: the same prices and period, the opposite quantities and amounts.
    #[must_use]
    pub fn reversed(&self, into: Reversal) -> Self {
        let mut opposite = self.clone();
        opposite.reverses = Some(std::mem::replace(&mut opposite.id, into.id));
        opposite.ledger_seq = into.ledger_seq;
        opposite.billing_period = into.billing_period;
        opposite.invoice_id = into.invoice_id;
        opposite.billed_micros = self.billed_micros.saturating_neg();
        opposite.effective_micros = self.effective_micros.saturating_neg();
        opposite.on_demand_equivalent_micros = self.on_demand_equivalent_micros.map(i64::saturating_neg);
        opposite.description = format!("Reversal of: {}", self.description);
        if let Nature::Usage(priced) | Nature::Purchase(priced, _) = &mut opposite.nature {
            priced.quantity = priced.quantity.negated();
            if let Some((consumed, _)) = &mut priced.consumed {
                *consumed = consumed.negated();
            }
        }
        if let Some(exchange) = &mut opposite.exchange {
            exchange.effective_micros = exchange.effective_micros.saturating_neg();
        }
        if let Some(commitment) = &mut opposite.commitment {
            commitment.quantity = commitment.quantity.negated();
        }
        if let Some(work) = &mut opposite.work {
            work.gpu_ms = work.gpu_ms.saturating_neg();
            work.normalised_gpu_ms = work.normalised_gpu_ms.saturating_neg();
        }
        opposite
    }
}
