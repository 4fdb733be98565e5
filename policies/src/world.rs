//! What of a snapshot does not depend on any job: layouts, and nodes gathered by tier, site and pool.

use std::collections::BTreeMap;

use spillway_types::{PoolName, SiteName};

use crate::layout::Layout;
use crate::{NodePrice, NodeView, Snapshot};

/// Who pays for a node while nothing runs there. Owned nodes are looked at first: their use costs the
/// organisation nothing more, while a rented one that stays busy stays rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// On-prem and personal nodes, charged by tariff.
    Owned,
    /// Cloud instances that run already.
    Rented,
}

/// Nodes of one pool, in the order of the snapshot.
#[derive(Debug)]
pub(crate) struct Pool<'a> {
    pub(crate) site: &'a SiteName,
    pub(crate) pool: &'a PoolName,
    pub(crate) unit: usize,
    pub(crate) nodes: Vec<usize>,
}

/// The pools of one site and tier: what a gang may be spread over.
#[derive(Debug)]
pub(crate) struct Unit<'a> {
    pub(crate) tier: Tier,
    pub(crate) site: &'a SiteName,
}

/// The snapshot, gathered.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) layouts: Vec<Layout<'a>>,
    pub(crate) offer_layouts: Vec<Layout<'a>>,
    /// Ordered by tier and site.
    pub(crate) units: Vec<Unit<'a>>,
    /// Ordered by unit and pool.
    pub(crate) pools: Vec<Pool<'a>>,
}

const fn tier_of(node: &NodeView) -> Tier {
    match node.price {
        NodePrice::Tariff(_) => Tier::Owned,
        NodePrice::Instance(_) => Tier::Rented,
    }
}

impl<'a> World<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        let mut gathered: BTreeMap<(Tier, &SiteName, &PoolName), Vec<usize>> = BTreeMap::new();
        for (at, node) in snapshot.nodes.iter().enumerate() {
            gathered.entry((tier_of(node), &node.site, &node.pool)).or_default().push(at);
        }
        let mut units: Vec<Unit<'a>> = Vec::new();
        let mut pools = Vec::new();
        for ((tier, site, pool), nodes) in gathered {
            if units.last().is_none_or(|unit| unit.tier != tier || unit.site != site) {
                units.push(Unit { tier, site });
            }
            pools.push(Pool { site, pool, unit: units.len() - 1, nodes });
        }
        Self {
            snapshot,
            layouts: snapshot.nodes.iter().map(|node| Layout::of(&node.capacity)).collect(),
            offer_layouts: snapshot.offers.iter().map(|offer| Layout::of(&offer.capacity)).collect(),
            units,
            pools,
        }
    }
}
