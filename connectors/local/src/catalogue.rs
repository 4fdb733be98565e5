//! What the local cloud offers, from a TOML file:
//!
//! ```toml
//! [[regions]]
//! name = "cloud-east"
//! jurisdiction = "us"       # may be left out
//! boot = "800ms"            # how long an instance boots; 800 ms where it is left out
//!
//! [[regions.types]]
//! name = "p5.48xlarge"
//! gpus = "H100:8"           # left out for a machine without
//! gpu_memory = "80GB"
//! cpus = 192
//! memory = "2TB"
//! price = "98.32"           # per hour, for one instance
//! limit = 4                 # most that live at once; no limit where it is left out
//! ```
//!
//! Invariant: a [`LocalCatalogue`] that exists has at least one region, no name twice, and known numbers.

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use spillway_connector_api::{Catalogue, Offer, Region};
use spillway_types::resources::parse_memory_mib;
use spillway_types::{
    Accelerator, DurationMs, GpuQuantity, GpuRequest, GpuSelector, InstanceType, Market, NodeCapacity,
    OfferTerms, SiteName,
};

/// How long an instance boots where its region does not say.
const DEFAULT_BOOT: DurationMs = DurationMs(800);
/// Most CPUs of one machine; keeps thousandths of them far from the end of their type.
const MAX_CPUS: u32 = 65_536;

/// Why a catalogue was not read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file could not be read.
    #[error("the catalogue {path} could not be read")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, misses a field, or has one that is not known.
    #[error("the catalogue is not right: {0}")]
    Syntax(Box<toml::de::Error>),
    /// A field has a value that cannot be.
    #[error("the catalogue is not right: {field}: {problem}")]
    Field {
        /// Which, with the names of its region and type.
        field: String,
        /// What is wrong with it, and the way out.
        problem: String,
    },
}

/// What the local cloud offers. `available` of its offers is how many may live at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCatalogue {
    whole: Catalogue,
}

impl LocalCatalogue {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CatalogueError`], which names the field.
    pub fn read(path: &Path) -> Result<Self, CatalogueError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CatalogueError::Read { path: path.display().to_string(), source })?;
        text.parse()
    }

    /// Regions and offers, with the limits as `available`.
    #[must_use]
    pub const fn catalogue(&self) -> &Catalogue {
        &self.whole
    }

    pub(crate) fn offer(&self, region: &SiteName, instance_type: &InstanceType) -> Option<&Offer> {
        self.whole.offer(region, instance_type)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalogue {
    regions: Vec<RawRegion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegion {
    name: SiteName,
    jurisdiction: Option<String>,
    boot: Option<String>,
    types: Vec<RawType>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawType {
    name: InstanceType,
    gpus: Option<String>,
    gpu_memory: Option<String>,
    cpus: u32,
    memory: String,
    price: String,
    limit: Option<u32>,
    market: Option<Market>,
    mean_life: Option<String>,
    minimum: Option<String>,
    increment: Option<String>,
    free_if_interrupted_within: Option<String>,
}

impl FromStr for LocalCatalogue {
    type Err = CatalogueError;

    fn from_str(text: &str) -> Result<Self, CatalogueError> {
        let raw: RawCatalogue =
            toml::from_str(text).map_err(|error| CatalogueError::Syntax(Box::new(error)))?;
        if raw.regions.is_empty() {
            return Err(field("regions", "", &"there must be at least one"));
        }
        let mut names = BTreeSet::new();
        let mut regions = Vec::new();
        for region in raw.regions {
            if !names.insert(region.name.clone()) {
                return Err(field("regions.name", region.name.as_str(), &"it is there twice"));
            }
            regions.push(parse_region(region)?);
        }
        regions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { whole: Catalogue { regions } })
    }
}

fn field(name: &str, place: &str, problem: &dyn std::fmt::Display) -> CatalogueError {
    let of = if place.is_empty() { String::new() } else { format!(" of {place}") };
    CatalogueError::Field { field: format!("{name}{of}"), problem: problem.to_string() }
}

fn parse_region(raw: RawRegion) -> Result<Region, CatalogueError> {
    let boot = match raw.boot {
        Some(text) => text.parse().map_err(|error| field("regions.boot", raw.name.as_str(), &error))?,
        None => DEFAULT_BOOT,
    };
    let mut names = BTreeSet::new();
    let mut offers = Vec::new();
    for shape in raw.types {
        let place = format!("{} in {}", shape.name, raw.name);
        if !names.insert(shape.name.clone()) {
            return Err(field("regions.types.name", &place, &"it is there twice"));
        }
        offers.push(parse_type(shape, boot, &place)?);
    }
    offers.sort_by(|a, b| a.instance_type.cmp(&b.instance_type));
    Ok(Region { name: raw.name, jurisdiction: raw.jurisdiction, offers })
}

fn parse_type(raw: RawType, boot: DurationMs, place: &str) -> Result<Offer, CatalogueError> {
    if raw.cpus == 0 || raw.cpus > MAX_CPUS {
        let problem = format!("`{}` is not a number of CPUs from 1 to {MAX_CPUS}", raw.cpus);
        return Err(field("regions.types.cpus", place, &problem));
    }
    let memory = |name: &str, text: &str| parse_memory_mib(text).map_err(|error| field(name, place, &error));
    let accelerators = match (raw.gpus, raw.gpu_memory) {
        (None, None) => Vec::new(),
        (Some(gpus), Some(size)) => parse_gpus(&gpus, memory("regions.types.gpu_memory", &size)?)
            .map_err(|problem| field("regions.types.gpus", place, &problem))?,
        (Some(_), None) => {
            return Err(field("regions.types.gpu_memory", place, &"it is missing beside `gpus`"));
        }
        (None, Some(_)) => {
            return Err(field("regions.types.gpus", place, &"it is missing beside `gpu_memory`"));
        }
    };
    let memory_mib = memory("regions.types.memory", &raw.memory)?;
    let price = raw.price.parse().map_err(|error| field("regions.types.price", place, &error))?;
    let capacity = NodeCapacity { accelerators, cpus_milli: raw.cpus * 1000, memory_mib };
    let span = |name: &str, text: Option<String>| -> Result<Option<DurationMs>, CatalogueError> {
        text.map(|text| text.parse().map_err(|error| field(name, place, &error))).transpose()
    };
    let terms = OfferTerms {
        market: raw.market.unwrap_or_default(),
        mean_life: span("regions.types.mean_life", raw.mean_life)?,
        minimum: span("regions.types.minimum", raw.minimum)?.unwrap_or_default(),
        increment: span("regions.types.increment", raw.increment)?.unwrap_or_default(),
        free_if_interrupted_within: span(
            "regions.types.free_if_interrupted_within",
            raw.free_if_interrupted_within,
        )?
        .unwrap_or_default(),
    };
    Ok(Offer { instance_type: raw.name, capacity, price, boot, available: raw.limit, terms })
}

fn parse_gpus(text: &str, memory_mib: u64) -> Result<Vec<Accelerator>, String> {
    let request: GpuRequest =
        text.parse().map_err(|error: spillway_types::resources::GpuRequestError| error.to_string())?;
    let (GpuSelector::Model(model), GpuQuantity::Whole(count)) = (request.selector, request.quantity) else {
        return Err(format!("`{text}` is not a model and a whole number; write it like `H100:8`"));
    };
    let accelerator = |index| Accelerator {
        index,
        uuid: format!("declared-{index}"),
        model: model.clone(),
        memory_mib,
        mig: Vec::new(),
        domain: None,
    };
    Ok((0..count).map(accelerator).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::HourlyRate;

    const GOOD: &str = r#"
        [[regions]]
        name = "west"
        [[regions.types]]
        name = "small"
        cpus = 2
        memory = "4GB"
        price = "0.10"

        [[regions]]
        name = "east"
        jurisdiction = "us"
        boot = "2s"
        [[regions.types]]
        name = "p5.48xlarge"
        gpus = "H100:8"
        gpu_memory = "80GB"
        cpus = 192
        memory = "2TB"
        price = "98.32"
        limit = 4
    "#;

    #[test]
    fn a_catalogue_is_read() {
        let catalogue: LocalCatalogue = GOOD.parse().unwrap();
        let names: Vec<_> = catalogue.catalogue().regions.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["east", "west"]);
        let offer = catalogue.offer(&"east".parse().unwrap(), &"p5.48xlarge".parse().unwrap()).unwrap();
        assert_eq!(offer.price, HourlyRate(98_320_000));
        assert_eq!((offer.boot, offer.available), (DurationMs(2000), Some(4)));
        assert_eq!(offer.capacity.accelerators.len(), 8);
        assert_eq!(offer.capacity.accelerators[7].memory_mib, 80 * 1024);
        assert_eq!(offer.capacity.cpus_milli, 192_000);
        let small = catalogue.offer(&"west".parse().unwrap(), &"small".parse().unwrap()).unwrap();
        assert_eq!((small.boot, small.available), (DEFAULT_BOOT, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, named) in [
            ("limit = 4", "limits = 4", "limits"),
            ("limit = 4", "limit = -4", "limit"),
            ("gpus = \"H100:8\"", "", "regions.types.gpus of p5.48xlarge in east"),
            ("gpu_memory = \"80GB\"", "", "regions.types.gpu_memory of p5.48xlarge in east"),
            ("H100:8", "H100:0.5", "like `H100:8`"),
            ("H100:8", "80GB+:8", "like `H100:8`"),
            ("80GB", "80", "regions.types.gpu_memory"),
            ("2TB", "much", "regions.types.memory"),
            ("98.32", "-1", "regions.types.price"),
            ("cpus = 192", "cpus = 0", "regions.types.cpus"),
            ("cpus = 192", "cpus = 65537", "regions.types.cpus"),
            ("boot = \"2s\"", "boot = \"soon\"", "regions.boot of east"),
            ("name = \"west\"", "name = \"east\"", "regions.name of east: it is there twice"),
            ("name = \"west\"", "name = \"We st\"", "site name"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = text.parse::<LocalCatalogue>().unwrap_err().to_string();
            assert!(error.contains(named), "{to}: {error}");
        }
        assert!("regions = []".parse::<LocalCatalogue>().unwrap_err().to_string().contains("at least one"));
        let missing = LocalCatalogue::read(Path::new("/no/such.toml")).unwrap_err().to_string();
        assert!(missing.contains("/no/such.toml"), "{missing}");
    }
}
