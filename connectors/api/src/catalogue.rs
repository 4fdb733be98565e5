//! What a cloud offers: regions, and the instance types that each could launch.

use serde::{Deserialize, Serialize};
use spillway_types::{DurationMs, HourlyRate, InstanceType, NodeCapacity, OfferTerms, SiteName};

/// Everything that a cloud offers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Catalogue {
    /// Its regions, ordered by name.
    pub regions: Vec<Region>,
}

/// One region of a cloud: a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its name as a site.
    pub name: SiteName,
    /// Whose law holds there, for residency rules.
    #[serde(default)]
    pub jurisdiction: Option<String>,
    /// What can be launched there, ordered by instance type.
    pub offers: Vec<Offer>,
}

/// One instance type in one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The provider's name for the shape.
    pub instance_type: InstanceType,
    /// What a node of it will have. The accelerators' UUIDs are placeholders.
    pub capacity: NodeCapacity,
    /// Price of one instance.
    pub price: HourlyRate,
    /// How long a launch is expected to take until the node takes work.
    pub boot: DurationMs,
    /// How many of them may be alive at once; none where the provider does not say.
    #[serde(default)]
    pub available: Option<u32>,
    /// How it is sold, and the shortest time that is billed.
    #[serde(default)]
    pub terms: OfferTerms,
}

impl Catalogue {
    /// The offer of this type in this region.
    #[must_use]
    pub fn offer(&self, region: &SiteName, instance_type: &InstanceType) -> Option<&Offer> {
        let region = self.regions.iter().find(|known| known.name == *region)?;
        region.offers.iter().find(|offer| offer.instance_type == *instance_type)
    }
}
