//! What was used, where and at which price: what a report, a FOCUS export or a check of a bill must know of a charge
//! beside whom it is about and what it cost.
//!
//! It is frozen with the entry that it is part of, so that a charge can be explained when the node, the instance and
//! the price list are long gone. Entries that were written before there was one have none.

use serde::{Deserialize, Serialize};
use spillway_types::{
    CloudName, Currency, DatasetName, GpuModel, GroupName, HourlyRate, InstanceType, Market, PoolName,
    SiteName, UnixMs,
};

/// The price before exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedIn {
    /// The currency of the rate card.
    pub currency: Currency,
    /// What an hour of it was charged at, in 10^-6 of a unit of that currency.
    pub rate: HourlyRate,
}

/// What a charge was for: one thing at one price over one span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The pool of the node; none where the node was not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// The model of the accelerators; none for CPUs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<GpuModel>,
    /// The provider's id of the instance, our own where it has not said one, or the host name of the node: what a
    /// provider's bill is joined on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The cloud, where it ran in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudName>,
    /// The cloud's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<SiteName>,
    /// The shape of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<InstanceType>,
    /// How the instance was bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market: Option<Market>,
    /// Begin of the slice.
    pub from: UnixMs,
    /// Its end, exclusive.
    pub to: UnixMs,
    /// How long the use had gone on at the begin, in milliseconds: costs and hours are rounded on what has
    /// accumulated since then.
    #[serde(default)]
    pub offset_ms: u64,
    /// Hundredths of an accelerator; 0 for what nobody used.
    pub blocks: u64,
    /// What an hour of it was charged at: of the part, or of the whole instance in an overhead.
    pub rate: HourlyRate,
    /// The on-demand price of the same hour; on-prem, and where no on-demand price was known, the rate.
    pub list_rate: HourlyRate,
    /// What was used of accelerators, in GPU-milliseconds of the reference, by the weight that their class had then.
    /// None where there were none, and in entries of before it was noted: those weigh as much as the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalised_ms: Option<u64>,
    /// What an hour of the same share of the same class cost in the cheapest pool of our own when the part got its
    /// lease. None on-prem, and where no pool of our own has a price for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_prem_rate: Option<HourlyRate>,
    /// The groups above the one that pays, from the root on, as the tree stood then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<GroupName>,
    /// The datasets that the job names as its inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<DatasetName>,
    /// What it was priced in, where that is not the currency of the books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priced: Option<PricedIn>,
}

impl Usage {
    /// How long the slice is, in milliseconds.
    #[must_use]
    pub fn span_ms(&self) -> u64 {
        self.to.since(self.from).0
    }
}
