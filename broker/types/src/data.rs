//! Where data lies, and what moving it takes: datasets, the sites that have a copy, and the links between sites.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{ContentHash, DataSource, DatasetName, SiteName};

/// Bytes in the gigabyte that providers price egress by.
pub const BYTES_PER_GB: u64 = 1_000_000_000;
/// Largest dataset: an exabyte.
pub const MAX_DATASET_BYTES: u64 = 1_000_000_000_000_000_000;
/// How often one part may begin a download from its first byte: a server that cannot go on where a broken connection
/// ended is given two more chances, since every one of them is paid.
pub const MAX_PASSES: u32 = 3;

/// A named input and the sites that have a copy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dataset {
    /// Its size.
    pub bytes: u64,
    /// Sites with a whole copy.
    pub replicas: BTreeSet<SiteName>,
    /// What its owner calls it, for access policies: `patient`, `licensed`.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// Whose law it is under, for access policies; none where nobody said.
    #[serde(default)]
    pub jurisdiction: Option<String>,
    /// Where copies are read, by site. A copy that has none is planned with and not brought.
    #[serde(default)]
    pub sources: BTreeMap<SiteName, DataSource>,
    /// SHA-256 of its content, where its owner said so.
    #[serde(default)]
    pub sha256: Option<ContentHash>,
}

/// How data gets from one site to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Bits a second; over 0.
    pub bits_per_second: u64,
    /// What the sending site's provider takes for a gigabyte, in micros.
    pub egress_micros_per_gb: i64,
}

/// What is taken where nobody describes the link: a gigabit a second, and nothing for egress.
pub const DEFAULT_LINK: Link = Link { bits_per_second: 1_000_000_000, egress_micros_per_gb: 0 };

/// Every dataset and link that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DataMap {
    /// By name.
    pub datasets: BTreeMap<DatasetName, Dataset>,
    /// From the sending site to the one that receives.
    pub links: BTreeMap<SiteName, BTreeMap<SiteName, Link>>,
}

/// What moving one dataset to a site takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Where the copy is read.
    pub from: SiteName,
    /// How much is moved.
    pub bytes: u64,
    /// What the sending provider takes, in micros, rounded up.
    pub egress_micros: i64,
    /// How long it takes at the link's full speed, in milliseconds, rounded up.
    pub ms: u64,
}

/// How a job's node at a site gets a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The site whose copy is read.
    pub from: SiteName,
    /// Where.
    pub source: DataSource,
    /// What leaving that site costs for a gigabyte, in micros; 0 at the copy's own site.
    pub egress_micros_per_gb: i64,
}

impl DatasetName {
    /// The environment variable in which a program finds the dataset's path: `SPILLWAY_INPUT_` and the name in capitals,
    /// with `_` for `-` and `.`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("SPILLWAY_INPUT_{}", self.as_str().to_ascii_uppercase().replace(['-', '.'], "_"))
    }
}

impl Link {
    /// What moving so much over it costs and takes: micros and milliseconds, both rounded up.
    #[must_use]
    pub fn moves(&self, bytes: u64) -> (i64, u64) {
        let micros = (u128::from(bytes) * u128::from(self.egress_micros_per_gb.max(0).unsigned_abs()))
            .div_ceil(u128::from(BYTES_PER_GB));
        let ms = (u128::from(bytes) * 8 * 1000).div_ceil(u128::from(self.bits_per_second.max(1)));
        (i64::try_from(micros).unwrap_or(i64::MAX), u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

impl DataMap {
    /// The link between two sites; [`DEFAULT_LINK`] where nobody described it.
    #[must_use]
    pub fn link(&self, from: &SiteName, to: &SiteName) -> Link {
        self.links.get(from).and_then(|links| links.get(to)).copied().unwrap_or(DEFAULT_LINK)
    }

    /// What it takes to have `dataset` at `site`: nothing where it is there or has no copy anywhere, else the cheapest
    /// copy, of equals the fastest. Where some copies can be read from elsewhere, it is one of those.
    #[must_use]
    pub fn transfer(&self, dataset: &DatasetName, site: &SiteName) -> Option<Transfer> {
        let known = self.datasets.get(dataset)?;
        if known.replicas.contains(site) {
            return None;
        }
        let travels = |from: &&SiteName| known.sources.get(*from).is_some_and(DataSource::is_url);
        let readable = known.replicas.iter().any(|from| travels(&from));
        let ways = known.replicas.iter().filter(|from| !readable || travels(from)).map(|from| {
            let (egress_micros, ms) = self.link(from, site).moves(known.bytes);
            Transfer { from: from.clone(), bytes: known.bytes, egress_micros, ms }
        });
        ways.min_by(|a, b| (a.egress_micros, a.ms, &a.from).cmp(&(b.egress_micros, b.ms, &b.from)))
    }

    /// Where a node at `site` reads `dataset`: the site's own copy, else the one of [`DataMap::transfer`]. None where
    /// that copy has no source: the job reads it by itself.
    #[must_use]
    pub fn reading(&self, dataset: &DatasetName, site: &SiteName) -> Option<Reading> {
        let known = self.datasets.get(dataset)?;
        let (from, egress_micros_per_gb) = match self.transfer(dataset, site) {
            None => (site.clone(), 0),
            Some(Transfer { from, .. }) => {
                let price = self.link(&from, site).egress_micros_per_gb.max(0);
                (from, price)
            }
        };
        let source = known.sources.get(&from).filter(|source| from == *site || source.is_url())?.clone();
        Some(Reading { from, source, egress_micros_per_gb })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_copy_is_moved_and_only_where_there_is_none() {
        let site = |name: &str| -> SiteName { name.parse().unwrap() };
        let dataset: DatasetName = "imagenet".parse().unwrap();
        let mut map = DataMap::default();
        let replicas = BTreeSet::from([site("east"), site("home")]);
        map.datasets
            .insert(dataset.clone(), Dataset { bytes: 3_000_000_000_000, replicas, ..Dataset::default() });
        let dear = Link { bits_per_second: 10_000_000_000, egress_micros_per_gb: 90_000 };
        map.links.entry(site("east")).or_default().insert(site("west"), dear);
        assert_eq!(map.transfer(&dataset, &site("home")), None);
        let moved = map.transfer(&dataset, &site("west")).unwrap();
        assert_eq!((moved.from.as_str(), moved.egress_micros, moved.ms), ("home", 0, 24_000_000));
        map.datasets.get_mut(&dataset).unwrap().replicas.remove(&site("home"));
        let moved = map.transfer(&dataset, &site("west")).unwrap();
        assert_eq!((moved.from.as_str(), moved.egress_micros, moved.ms), ("east", 270_000_000, 2_400_000));
        assert_eq!(Link { bits_per_second: 0, egress_micros_per_gb: -1 }.moves(1), (0, 8000));
    }

    #[test]
    fn a_copy_is_read_where_it_can_be() {
        let site = |name: &str| -> SiteName { name.parse().unwrap() };
        let dataset: DatasetName = "imagenet".parse().unwrap();
        let replicas = BTreeSet::from([site("east"), site("home"), site("west")]);
        let mut known = Dataset { bytes: 1_000_000_000, replicas, ..Dataset::default() };
        let mut map = DataMap::default();
        for (from, egress_micros_per_gb) in [("east", 90_000), ("west", 20_000)] {
            let link = Link { bits_per_second: 1_000_000_000, egress_micros_per_gb };
            map.links.entry(site(from)).or_default().insert(site("south"), link);
        }
        let read = |known: &Dataset, at: &str| {
            let datasets = BTreeMap::from([(dataset.clone(), known.clone())]);
            let map = DataMap { datasets, ..map.clone() };
            let moved = map.transfer(&dataset, &site(at)).map(|transfer| transfer.from.to_string());
            (map.reading(&dataset, &site(at)).map(|it| (it.from.to_string(), it.egress_micros_per_gb)), moved)
        };
        let at = |from: &str, micros| Some((from.to_owned(), micros));
        let from = |site: &str| Some(site.to_owned());
        assert_eq!(
            read(&known, "south"),
            (None, from("home")),
            "without sources the cheapest is planned with"
        );
        known.sources.insert(site("home"), "/data/imagenet.tar".parse().unwrap());
        assert_eq!(read(&known, "south"), (None, from("home")), "a path is of its site");
        assert_eq!(read(&known, "home"), (at("home", 0), None));
        known.sources.insert(site("east"), "https://east.example/imagenet.tar".parse().unwrap());
        assert_eq!(read(&known, "south"), (at("east", 90_000), from("east")));
        known.sources.insert(site("west"), "http://west.example/imagenet.tar".parse().unwrap());
        assert_eq!(
            read(&known, "south"),
            (at("west", 20_000), from("west")),
            "the cheapest that can be read"
        );
        assert_eq!(read(&known, "east"), (at("east", 0), None), "a site's own copy leaves no site");
    }
}
