//! Datasets and links as people write them in a settings or federation file, and what they become.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

use crate::data::MAX_DATASET_BYTES;
use crate::{DataMap, DataSource, DataSourceError, Dataset, DatasetName, HourlyRate, Link, SiteName};

/// Fastest link, in bits a second: a terabit.
const MAX_BITS_PER_SECOND: u64 = 1_000_000_000_000;

/// One `[[datasets]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetEntry {
    /// Its name.
    pub name: DatasetName,
    /// Its size: `150GB`, `3TB`, `2TiB`; to the byte where a copy has a source: `149813208064B`.
    pub size: String,
    /// Sites with a whole copy that jobs read by themselves.
    #[serde(default)]
    pub at: BTreeSet<SiteName>,
    /// Copies that agents bring to the jobs.
    #[serde(default)]
    pub copies: Vec<CopyEntry>,
    /// SHA-256 of its content: what is downloaded is held against it.
    pub sha256: Option<String>,
    /// What its owner calls it, for access policies: `patient`, `licensed`.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// Whose law it is under, for access policies.
    pub jurisdiction: Option<String>,
}

/// One `[[datasets.copies]]`: one file, an archive or an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyEntry {
    /// The site that has it.
    pub site: SiteName,
    /// Where it is read: an `https://` or `http://` URL, or an absolute path on that site's nodes.
    #[serde(deserialize_with = "source")]
    pub source: Result<DataSource, DataSourceError>,
}

/// What is wrong is said with the path of the entry, and without the text: it may hold credentials.
fn source<'de, D: Deserializer<'de>>(text: D) -> Result<Result<DataSource, DataSourceError>, D::Error> {
    Ok(String::deserialize(text)?.parse())
}

/// One `[[links]]`: from one site to another, not back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEntry {
    /// The site that sends.
    pub from: SiteName,
    /// The site that receives.
    pub to: SiteName,
    /// `10Gbit/s`, `100Mbit/s`; a gigabit where absent.
    pub bandwidth: Option<String>,
    /// What the sender's provider takes for a gigabyte: `0.09`; nothing where absent.
    pub egress: Option<String>,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct DataError {
    /// Where: `datasets[0].size`.
    pub path: String,
    /// The value and the way out.
    pub problem: String,
}

impl DataMap {
    /// Puts the entries together. `knows` says whether there is such a site.
    ///
    /// # Errors
    /// [`DataError`] for the first entry that is wrong.
    pub fn from_entries(
        datasets: Vec<DatasetEntry>,
        links: Vec<LinkEntry>,
        knows: &dyn Fn(&SiteName) -> bool,
    ) -> Result<Self, DataError> {
        let mut map = Self::default();
        for (at, entry) in datasets.into_iter().enumerate() {
            let (path, name) = (format!("datasets[{at}]"), entry.name.clone());
            if map.datasets.contains_key(&name) {
                let problem = format!("`{name}` is there already: give each one name");
                return Err(DataError { path: format!("{path}.name"), problem });
            }
            map.datasets.insert(name, entry.dataset(&path, knows)?);
        }
        for (at, entry) in links.into_iter().enumerate() {
            let (from, to) = (entry.from.clone(), entry.to.clone());
            let link = entry.link(&format!("links[{at}]"), knows)?;
            map.links.entry(from).or_default().insert(to, link);
        }
        Ok(map)
    }
}

impl DatasetEntry {
    fn dataset(self, path: &str, knows: &dyn Fn(&SiteName) -> bool) -> Result<Dataset, DataError> {
        let wrong = |field: &str, problem: String| DataError { path: format!("{path}.{field}"), problem };
        let unknown = |field: &str, site: &SiteName| wrong(field, format!("`{site}` is not a site here"));
        let size = data_size(&self.size).filter(|bytes| *bytes <= MAX_DATASET_BYTES);
        let bytes = size.ok_or_else(|| {
            wrong("size", format!("`{}` is not a size: write for example `150GB` or `3TB`", self.size))
        })?;
        if let Some(site) = self.at.iter().find(|site| !knows(site)) {
            return Err(unknown("at", site));
        }
        let (mut replicas, mut sources) = (self.at, BTreeMap::new());
        for (at, copy) in self.copies.into_iter().enumerate() {
            let field = |name: &str| format!("copies[{at}].{name}");
            if !knows(&copy.site) {
                return Err(unknown(&field("site"), &copy.site));
            }
            let source = copy.source.map_err(|error| wrong(&field("source"), error.to_string()))?;
            if sources.insert(copy.site.clone(), source).is_some() {
                let problem = format!("`{}` has a copy already: name one source for each site", copy.site);
                return Err(wrong(&field("site"), problem));
            }
            replicas.insert(copy.site);
        }
        let hash = self.sha256.map(|text| text.parse().map_err(|error| format!("`{text}` {error}")));
        let sha256 = hash.transpose().map_err(|problem: String| wrong("sha256", problem))?;
        let (labels, jurisdiction) = (self.labels, self.jurisdiction);
        Ok(Dataset { bytes, replicas, labels, jurisdiction, sources, sha256 })
    }
}

impl LinkEntry {
    fn link(self, path: &str, knows: &dyn Fn(&SiteName) -> bool) -> Result<Link, DataError> {
        let wrong =
            |field: &str, problem: String| Err(DataError { path: format!("{path}.{field}"), problem });
        for (field, site) in [("from", &self.from), ("to", &self.to)] {
            if !knows(site) {
                return wrong(field, format!("`{site}` is not a site here"));
            }
        }
        let mut link = crate::data::DEFAULT_LINK;
        if let Some(text) = &self.bandwidth {
            match quantity(text, &SPEEDS).filter(|bits| (1..=MAX_BITS_PER_SECOND).contains(bits)) {
                Some(bits) => link.bits_per_second = bits,
                None => {
                    let problem = format!("`{text}` is not a bandwidth: write for example `10Gbit/s`");
                    return wrong("bandwidth", problem);
                }
            }
        }
        if let Some(text) = &self.egress {
            match text.parse::<HourlyRate>() {
                Ok(price) if price.0 >= 0 => link.egress_micros_per_gb = price.0,
                Ok(_) | Err(_) => {
                    let problem = format!("`{text}` is not a price for a gigabyte: write for example `0.09`");
                    return wrong("egress", problem);
                }
            }
        }
        Ok(link)
    }
}

/// The bytes of a size as people write it: `150GB`, `2TiB`; none where it is not one.
#[must_use]
pub fn data_size(text: &str) -> Option<u64> {
    quantity(text, &SIZES)
}

/// Units of sizes, in bytes; longer names first, so that `GiB` is not read as `B`.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of bandwidths, in bits a second.
const SPEEDS: [(&str, u64); 3] = [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("Kbit/s", 1_000)];

/// A whole or decimal number with a unit; at most three decimals.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?.trim_end(), *scale)))?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{decimals:0<3}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let total = u128::from(whole) * u128::from(scale) + u128::from(thousandths) * u128::from(scale) / 1000;
    u64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(name: &str, size: &str, at: &str) -> DatasetEntry {
        let at = BTreeSet::from([at.parse().unwrap()]);
        let (labels, jurisdiction) = (BTreeSet::from(["patient".to_owned()]), Some("KR".to_owned()));
        let (name, size, copies, sha256) = (name.parse().unwrap(), size.to_owned(), vec![], None);
        DatasetEntry { name, size, at, copies, sha256, labels, jurisdiction }
    }

    fn copied(copies: &[(&str, &str)], sha256: Option<&str>) -> DatasetEntry {
        let copy =
            |(site, source): &(&str, &str)| CopyEntry { site: site.parse().unwrap(), source: source.parse() };
        let copies = copies.iter().map(copy).collect();
        DatasetEntry { copies, sha256: sha256.map(str::to_owned), ..dataset("a", "7B", "home") }
    }

    fn link(from: &str, bandwidth: Option<&str>, egress: Option<&str>) -> LinkEntry {
        LinkEntry {
            from: from.parse().unwrap(),
            to: "home".parse().unwrap(),
            bandwidth: bandwidth.map(str::to_owned),
            egress: egress.map(str::to_owned),
        }
    }

    fn read(datasets: Vec<DatasetEntry>, links: Vec<LinkEntry>) -> Result<DataMap, String> {
        let knows = |site: &SiteName| ["home", "east"].contains(&site.as_str());
        DataMap::from_entries(datasets, links, &knows).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_speeds_and_prices_are_read() {
        for (text, bytes) in
            [("3TB", 3_000_000_000_000), ("1.5 GB", 1_500_000_000), ("2MiB", 2 << 20), ("7B", 7)]
        {
            let map = read(vec![dataset("a", text, "home")], vec![]).unwrap();
            let read = map.datasets.values().next().unwrap();
            assert_eq!(read.bytes, bytes, "{text}");
            assert_eq!((read.labels.len(), read.jurisdiction.as_deref()), (1, Some("KR")));
        }
        let map = read(vec![], vec![link("east", Some("2.5Gbit/s"), Some("0.09"))]).unwrap();
        let said = map.link(&"east".parse().unwrap(), &"home".parse().unwrap());
        assert_eq!(said, Link { bits_per_second: 2_500_000_000, egress_micros_per_gb: 90_000 });
        let plain = read(vec![], vec![link("east", None, None)]).unwrap();
        assert_eq!(plain.link(&"east".parse().unwrap(), &"home".parse().unwrap()), crate::data::DEFAULT_LINK);
    }

    #[test]
    fn copies_have_their_sources() {
        let hash = "0F".repeat(32);
        let entry = copied(&[("east", "https://key@a.example/a.tar")], Some(&hash));
        let map = read(vec![entry], vec![]).unwrap();
        let read = map.datasets.values().next().unwrap();
        assert_eq!(read.replicas.iter().map(SiteName::as_str).collect::<Vec<_>>(), ["east", "home"]);
        let sources: Vec<_> = read.sources.iter().map(|(at, it)| (at.as_str(), it.to_string())).collect();
        assert_eq!(sources, [("east", "https://a.example/a.tar".to_owned())]);
        assert_eq!(read.sha256.as_ref().unwrap().as_str(), hash.to_lowercase());
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (datasets, links, says) in [
            (vec![copied(&[("moon", "/a")], None)], vec![], "datasets[0].copies[0].site: `moon`"),
            (vec![copied(&[("east", "a.tar")], None)], vec![], "datasets[0].copies[0].source: is not where"),
            (vec![copied(&[("east", "/a"), ("east", "/b")], None)], vec![], "datasets[0].copies[1].site"),
            (vec![copied(&[], Some("0f"))], vec![], "datasets[0].sha256: `0f` is not a SHA-256"),
            (vec![dataset("a", "large", "home")], vec![], "datasets[0].size: `large`"),
            (vec![dataset("a", "1.2345GB", "home")], vec![], "datasets[0].size"),
            (vec![dataset("a", "2000PB", "home")], vec![], "datasets[0].size"),
            (vec![dataset("a", "1GB", "moon")], vec![], "datasets[0].at: `moon`"),
            (vec![dataset("a", "1GB", "home"), dataset("a", "1GB", "home")], vec![], "datasets[1].name"),
            (vec![], vec![link("moon", None, None)], "links[0].from"),
            (vec![], vec![link("east", Some("0Gbit/s"), None)], "links[0].bandwidth"),
            (vec![], vec![link("east", Some("fast"), None)], "links[0].bandwidth: `fast`"),
            (vec![], vec![link("east", None, Some("-1"))], "links[0].egress"),
        ] {
            let error = read(datasets, links).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
