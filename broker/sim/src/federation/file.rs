//! The form of the file, and from it to a [`Description`].

use std::collections::BTreeSet;

use serde::Deserialize;
use spillway_core::command::TickLimits;
use spillway_core::entity::{Group, Pool, Site};
use spillway_types::resources::parse_memory_mib;
use spillway_types::{
    Currency, DataMap, DatasetEntry, DurationMs, GpuModel, GroupName, HourlyRate, Inventory, LinkEntry,
    Money, PoolName, SiteKind, SiteName, Tariff,
};

use super::cloud_file::{CloudEntry, Files};
use super::fault_file::FaultEntry;
use super::{FederationError, MAX_GPUS_PER_NODE, MAX_NODES, Shape, capacity, inventory};
use crate::Description;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    sites: Vec<SiteEntry>,
    #[serde(default)]
    clouds: Vec<CloudEntry>,
    #[serde(default)]
    groups: Vec<GroupEntry>,
    #[serde(default)]
    datasets: Vec<DatasetEntry>,
    #[serde(default)]
    links: Vec<LinkEntry>,
    #[serde(default)]
    faults: Vec<FaultEntry>,
    warm: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteEntry {
    name: SiteName,
    #[serde(default = "on_prem")]
    kind: SiteKind,
    jurisdiction: Option<String>,
    #[serde(default)]
    pools: Vec<PoolEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolEntry {
    name: PoolName,
    per_gpu: Option<String>,
    per_cpu: Option<String>,
    groups: Option<BTreeSet<GroupName>>,
    #[serde(default)]
    nodes: Vec<NodesEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodesEntry {
    pub(super) count: u32,
    pub(super) model: GpuModel,
    pub(super) gpus: u32,
    pub(super) gpu_memory: Option<String>,
    pub(super) cpus: Option<u32>,
    pub(super) memory: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupEntry {
    name: GroupName,
    parent: Option<GroupName>,
    weight: Option<u32>,
    priority: Option<i32>,
    budget: Option<String>,
}

const fn on_prem() -> SiteKind {
    SiteKind::OnPrem
}

/// Reads a federation file that names no other files.
///
/// # Errors
/// [`FederationError`] names the first place that is wrong.
pub fn from_toml(text: &str) -> Result<Description, FederationError> {
    from_toml_and(text, &|_| Err("other files are not read here: write the steps into this one".to_owned()))
}

/// Reads a federation file. `files` gives the text of each file that it names, or says why it cannot be read.
///
/// # Errors
/// [`FederationError`] names the first place that is wrong.
pub fn from_toml_and(
    text: &str,
    files: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Description, FederationError> {
    let wrong =
        |error: toml::de::Error| FederationError::new("the file", error.to_string().trim_end().to_owned());
    let parsed = toml::Deserializer::parse(text).map_err(wrong)?;
    let file: File = serde_path_to_error::deserialize(parsed).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "the file".to_owned() } else { path };
        FederationError::new(path, error.inner().to_string().trim_end().to_owned())
    })?;
    file.described(files)
}

/// Parses a text at a path with the type's own words.
pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    path: &str,
    text: &str,
) -> Result<T, FederationError> {
    text.parse().map_err(|error: T::Err| FederationError::new(path, error.to_string()))
}

impl File {
    fn described(self, files: Files<'_>) -> Result<Description, FederationError> {
        let mut description = Description::default();
        if self.sites.is_empty() && self.clouds.is_empty() {
            let problem = "is missing: describe a place with [[sites]], or a cloud with [[clouds]]";
            return Err(FederationError::new("sites", problem));
        }
        for (number, site) in self.sites.into_iter().enumerate() {
            site.described(&format!("sites[{number}]"), &mut description)?;
        }
        for (number, cloud) in self.clouds.into_iter().enumerate() {
            cloud.described(&format!("clouds[{number}]"), files, &mut description)?;
        }
        for (number, group) in self.groups.into_iter().enumerate() {
            group.described(&format!("groups[{number}]"), &mut description)?;
        }
        let knows = |name: &SiteName| description.sites.iter().any(|site| site.name == *name);
        let data = DataMap::from_entries(self.datasets, self.links, &knows);
        description.data = data.map_err(|error| FederationError::new(error.path, error.problem))?;
        for (number, fault) in self.faults.iter().enumerate() {
            fault.described(&format!("faults[{number}]"), &mut description)?;
        }
        let warm = self.warm.map(|text| parse::<DurationMs>("warm", &text)).transpose()?;
        let limits = TickLimits::default();
        description.limits = TickLimits { warm: warm.unwrap_or(limits.warm), ..limits };
        Ok(description)
    }
}

fn once<T: PartialEq + std::fmt::Display>(
    path: &str,
    name: &T,
    mut others: impl Iterator<Item = T>,
) -> Result<(), FederationError> {
    let twice = || FederationError::new(format!("{path}.name"), format!("`{name}` is there twice"));
    if others.any(|other| other == *name) { Err(twice()) } else { Ok(()) }
}

impl SiteEntry {
    fn described(self, path: &str, into: &mut Description) -> Result<(), FederationError> {
        once(path, &self.name, into.sites.iter().map(|site| site.name.clone()))?;
        if self.kind == SiteKind::Cloud {
            let problem = "`cloud` is for regions of clouds: describe them with [[clouds]]";
            return Err(FederationError::new(format!("{path}.kind"), problem));
        }
        for (number, pool) in self.pools.into_iter().enumerate() {
            pool.described(&format!("{path}.pools[{number}]"), &self.name, into)?;
        }
        let Self { name, kind, jurisdiction, .. } = self;
        into.sites.push(Site { name, kind, jurisdiction, cloud: None });
        Ok(())
    }
}

impl PoolEntry {
    fn described(self, path: &str, site: &SiteName, into: &mut Description) -> Result<(), FederationError> {
        once(path, &self.name, into.pools.iter().map(|pool| pool.name.clone()))?;
        let rate = |field: &str, text: Option<&String>| {
            text.map_or(Ok(HourlyRate(0)), |text| parse(&format!("{path}.{field}"), text))
        };
        let tariff = Tariff {
            per_gpu: rate("per_gpu", self.per_gpu.as_ref())?,
            per_cpu: rate("per_cpu", self.per_cpu.as_ref())?,
        };
        for (number, nodes) in self.nodes.into_iter().enumerate() {
            let path = format!("{path}.nodes[{number}]");
            let left = MAX_NODES - u32::try_from(into.nodes.len()).unwrap_or(MAX_NODES);
            if !(1..=left).contains(&nodes.count) {
                let problem =
                    format!("{} is not from 1 to {left}: {MAX_NODES} nodes in all are the most", nodes.count);
                return Err(FederationError::new(format!("{path}.count"), problem));
            }
            let shape = shape(&path, &nodes)?;
            let node = |number| -> (PoolName, Inventory) {
                (self.name.clone(), inventory(format!("{}-{number}", self.name), capacity(&shape)))
            };
            let first = into.nodes.len();
            into.nodes.extend((first..).take(nodes.count as usize).map(node));
        }
        into.pools.push(Pool {
            name: self.name,
            site: site.clone(),
            tariff,
            groups: self.groups,
            labels: [].into(),
        });
        Ok(())
    }
}

fn memory(path: &str, text: Option<&String>, or: u64) -> Result<u64, FederationError> {
    let wrong = |error: spillway_types::resources::MemoryError| FederationError::new(path, error.to_string());
    text.map_or(Ok(or), |text| parse_memory_mib(text).map_err(wrong))
}

pub(super) fn shape(path: &str, nodes: &NodesEntry) -> Result<Shape, FederationError> {
    if nodes.gpus > MAX_GPUS_PER_NODE {
        let problem = format!("{} is over {MAX_GPUS_PER_NODE}, the most that one node has", nodes.gpus);
        return Err(FederationError::new(format!("{path}.gpus"), problem));
    }
    let usual = Shape::of(nodes.model.clone(), nodes.gpus);
    let cpus = nodes.cpus.unwrap_or(usual.cpus);
    if cpus > 100_000 {
        let problem = format!("{cpus} is over 100000, the most that one node has");
        return Err(FederationError::new(format!("{path}.cpus"), problem));
    }
    Ok(Shape {
        cpus,
        gpu_memory_mib: memory(
            &format!("{path}.gpu_memory"),
            nodes.gpu_memory.as_ref(),
            usual.gpu_memory_mib,
        )?,
        memory_mib: memory(&format!("{path}.memory"), nodes.memory.as_ref(), usual.memory_mib)?,
        ..usual
    })
}

impl GroupEntry {
    fn described(self, path: &str, into: &mut Description) -> Result<(), FederationError> {
        once(path, &self.name, into.groups.iter().map(|group| group.name.clone()))?;
        if let Some(parent) =
            self.parent.as_ref().filter(|parent| !into.groups.iter().any(|g| g.name == **parent))
        {
            let problem = format!("`{parent}` is not a group above this one: list parents first");
            return Err(FederationError::new(format!("{path}.parent"), problem));
        }
        if self.weight == Some(0) {
            return Err(FederationError::new(format!("{path}.weight"), "0 is no weight: write at least 1"));
        }
        let budget = self.budget.map(|text| parse::<Money>(&format!("{path}.budget"), &text)).transpose()?;
        if let Some(other) = budget.filter(|money| money.currency != Currency::USD) {
            let problem =
                format!("{other} is not in {}: a simulation knows no other currency", Currency::USD);
            return Err(FederationError::new(format!("{path}.budget"), problem));
        }
        into.groups.push(Group {
            name: self.name,
            parent: self.parent,
            weight: self.weight.unwrap_or(1),
            priority: self.priority.unwrap_or(0),
            budget_micros: budget.map(|money| money.micros),
            budget_stated: None,
        });
        Ok(())
    }
}
