//! What a site has for a gang: how many of its nodes would do, and what stands in the way of the others.

use std::collections::BTreeSet;

use spillway_types::SiteName;

use crate::fleet::Fleet;
use crate::judge::Bar;
use crate::lay::Ground;
use crate::shape::{Shape, Tier};

/// The nodes of one site and tier against a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SiteCount {
    /// Would do and take work.
    pub(crate) open: usize,
    /// Would do and take none.
    pub(crate) closed: usize,
    /// Would do, but one alone is above the job's `max_price`.
    pub(crate) dear: usize,
}

impl SiteCount {
    /// What stands in the way of a gang of so many nodes; none where only its price or its time may.
    pub(crate) const fn bar(self, wanted: usize) -> Option<Bar> {
        if self.open + self.closed + self.dear < wanted {
            Some(Bar::Nodes)
        } else if self.open + self.closed < wanted {
            Some(Bar::MaxPrice)
        } else if self.open < wanted {
            Some(Bar::Closed)
        } else {
            None
        }
    }

    /// Nodes that would do, whatever they cost and whether they take work.
    pub(crate) const fn suitable(self) -> usize {
        self.open + self.closed + self.dear
    }
}

impl Fleet {
    /// Every site that has nodes.
    pub(crate) fn sites(&self) -> BTreeSet<&SiteName> {
        self.kinds.iter().filter(|kind| !kind.nodes.is_empty()).map(|kind| &kind.sample.site).collect()
    }
}

impl Ground<'_> {
    /// Counts the nodes of a site and tier.
    pub(crate) fn count_in_site(&self, shape: &Shape, tier: Tier, site: &SiteName) -> SiteCount {
        let mut count = SiteCount::default();
        for (kind, fit) in self.fleet.kinds.iter().zip(&shape.kinds) {
            if kind.sample.site != *site || Tier::of(kind) != tier {
                continue;
            }
            match fit.bar {
                None => count.open += kind.nodes.len(),
                Some(Bar::Closed) => count.closed += kind.nodes.len(),
                Some(Bar::MaxPrice) => count.dear += kind.nodes.len(),
                Some(_) => {}
            }
        }
        count
    }
}
