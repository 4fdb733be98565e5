//! What pools could give in a month, what was used of them, and what nobody used.

use serde::{Deserialize, Serialize};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::rates::Unused;
use spillway_types::{GpuModel, Money, PoolName, SiteName, UnixMs};

use super::PeriodState;

/// Of which month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolsQuery {
    /// The month of the books; the one that goes on where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<Period>,
}

/// A class of a pool in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolClassView {
    /// The pool.
    pub pool: PoolName,
    /// Its site.
    pub site: SiteName,
    /// The class of accelerators; none for what was charged without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<GpuModel>,
    /// What it could give, in milliseconds of one whole accelerator.
    pub capacity_ms: u64,
    /// What was used of that.
    pub used_ms: u64,
    /// What nobody used of it.
    pub unused_ms: u64,
    /// What was charged for its use.
    pub charged: Money,
    /// What it cost. None, as are the next two, where the pool is lent or has no rate card: then it is in nobody's books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// What of the cost is of what nobody used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<Money>,
    /// The rest of the cost; below 0 where more was recovered than it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance: Option<Money>,
    /// Who pays for what nobody used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Unused>,
    /// Why the month of the pool cannot be closed, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A month of all pools of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolsReport {
    /// The month.
    pub month: Period,
    /// The zone whose month it is.
    pub zone: Zone,
    /// Whether its figures can still change: those of an open month are of what has passed of it.
    pub state: PeriodState,
    /// Up to when figures go: the end of the month, or now.
    pub until: UnixMs,
    /// By pool and class.
    pub rows: Vec<PoolClassView>,
}
