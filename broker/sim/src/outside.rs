//! What happens to a federation from outside: prices and capacity of clouds change, machines and links fail.
//!
//! Times are counted from the beginning. Left out on purpose: what follows from it, which the replay works out.

use spillway_types::{DurationMs, HourlyRate, PoolName, SiteName};

/// All of it, as it is described.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outside {
    /// Changes of offers.
    pub steps: Vec<OfferStep>,
    /// Faults.
    pub faults: Vec<Fault>,
}

/// A change of one offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferStep {
    /// When.
    pub at: DurationMs,
    /// The offer's index in the description.
    pub offer: usize,
    /// What it is from then on.
    pub news: OfferNews,
}

/// What an offer is from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferNews {
    /// Launches cost this; what runs keeps its price.
    Price(HourlyRate),
    /// So many may live; the newest of more are taken back.
    Available(u32),
}

/// Something fails, and is there again after a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: DurationMs,
    /// For how long; over 0.
    pub lasts: DurationMs,
    /// What.
    pub what: Failing,
}

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failing {
    /// The machine of a node, by its index in the description: what runs there is lost, its disk stays.
    Node(usize),
    /// The link to all nodes of a site: programs run on until their leases are over.
    Site(SiteName),
    /// The link to all nodes of a pool.
    Pool(PoolName),
}

impl Failing {
    /// Whether it is the link to nodes of this site and pool.
    pub(crate) fn cuts(&self, site: &SiteName, pool: &str) -> bool {
        match self {
            Self::Node(_) => false,
            Self::Site(cut) => cut == site,
            Self::Pool(cut) => cut.as_str() == pool,
        }
    }
}
