//! What an operator can set: a TOML file, overridden by flags, resolved once to plain values. Unknown fields are
//! refused, and errors name the file and the place.

mod access;
mod alerts;
mod policy;

pub use alerts::{Channel, Destination, Encryption, MailServer, Secret};

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use spillway_access::{AccessError, AccessRules};
use spillway_core::entity::{Group, Pool, Site};
use spillway_policies::Policy;
use spillway_types::{
    CloudName, Currency, DataMap, DatasetEntry, DurationMs, GroupName, HourlyRate, LinkEntry, Money,
    PoolName, SiteKind, SiteName, Tariff,
};

/// Where HTTP is served unless the operator says otherwise: this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7878";
/// Where agents dial unless the operator says otherwise.
pub const DEFAULT_TUNNEL: &str = "0.0.0.0:7879";

/// Everything a broker needs to know, resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Database, keys, outputs.
    pub data_dir: PathBuf,
    /// `sqlite:PATH` or `postgres://...`.
    pub database: String,
    /// Address of the HTTP API (TCP).
    pub listen: SocketAddr,
    /// Address of the tunnel (UDP).
    pub tunnel: SocketAddr,
    /// `host:port` that agents are told to dial; none derives it from `tunnel`.
    pub advertise: Option<String>,
    /// Sites that are declared at the start.
    pub sites: Vec<Site>,
    /// Pools that are declared at the start.
    pub pools: Vec<Pool>,
    /// Groups that are declared at the start. One that exists keeps its budget.
    pub groups: Vec<Group>,
    /// Clouds.
    pub clouds: Vec<CloudSettings>,
    /// How jobs are placed.
    pub policy: Policy,
    /// Which job may run where; without policy files every job anywhere.
    pub access: Arc<AccessRules>,
    /// Where data lies.
    pub data: DataMap,
    /// Who is told of limits that fill up.
    pub alerts: Vec<Destination>,
    /// Bounds and rhythms.
    pub tuning: Tuning,
}

/// One cloud.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudSettings {
    /// Its name.
    pub name: CloudName,
    /// Which connector: `local`.
    pub kind: CloudKind,
    /// Its catalogue of regions, instance types and prices: a TOML file.
    pub catalogue: PathBuf,
    /// Where the connector keeps its machines; by default under the data directory.
    pub state_dir: Option<PathBuf>,
    /// What access policies see of all its regions: `patient-certified`.
    #[serde(default)]
    pub labels: BTreeSet<String>,
}

/// Which connector drives a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloudKind {
    /// Instances are processes on the broker's own machine.
    Local,
}

/// Bounds and rhythms. The defaults are right for production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// How long an idle instance is kept.
    pub warm: Span,
    /// How long an instance may take from launch to a node.
    pub boot: Span,
    /// How long usage of a silent part is waited for.
    pub settle: Span,
    /// How often clouds are listed and strays are ended.
    pub sweep: Span,
    /// A stray younger than this is left alone: its intent may still be on its way.
    pub stray_age: Span,
    /// How often agents renew their leases.
    pub renew: Span,
    /// How long a region without capacity is not asked again.
    pub no_capacity_pause: Span,
    /// How long a start waits for the nodes that were connected.
    pub start_wait: Span,
}

/// A duration in a settings file, written like `90s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub DurationMs);

impl TryFrom<String> for Span {
    type Error = spillway_types::duration::DurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl Default for Tuning {
    fn default() -> Self {
        let seconds = |seconds| Span(DurationMs::from_secs(seconds));
        Self {
            warm: seconds(120),
            boot: seconds(900),
            settle: seconds(900),
            sweep: seconds(15),
            stray_age: seconds(30),
            renew: seconds(10),
            no_capacity_pause: seconds(60),
            start_wait: seconds(75),
        }
    }
}

/// What flags can override.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--database`.
    pub database: Option<String>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--tunnel`.
    pub tunnel: Option<SocketAddr>,
    /// `--advertise`.
    pub advertise: Option<String>,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not right.
    #[error("settings file {}: {problem}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// A policy file of access that the settings name cannot be read.
    #[error("cannot read access policy file {}", path.display())]
    ReadAccess {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The policies of access are not right.
    #[error(transparent)]
    Access(Box<AccessError>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsFile {
    data_dir: Option<PathBuf>,
    database: Option<String>,
    listen: Option<SocketAddr>,
    tunnel: Option<SocketAddr>,
    advertise: Option<String>,
    sites: Vec<SiteEntry>,
    pools: Vec<PoolEntry>,
    groups: Vec<GroupEntry>,
    clouds: Vec<CloudSettings>,
    policy: policy::PolicyEntry,
    access: Vec<PathBuf>,
    datasets: Vec<DatasetEntry>,
    links: Vec<LinkEntry>,
    alerts: Vec<alerts::AlertEntry>,
    tuning: Tuning,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteEntry {
    name: SiteName,
    kind: SiteKind,
    jurisdiction: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolEntry {
    name: PoolName,
    site: SiteName,
    per_gpu: Option<String>,
    per_cpu: Option<String>,
    groups: Option<BTreeSet<GroupName>>,
    #[serde(default)]
    labels: BTreeSet<String>,
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

impl Settings {
    /// Reads `file`, if there is one, applies `overrides`, and fills in the rest.
    ///
    /// # Errors
    /// [`SettingsError`] names the file and what is wrong in it.
    pub fn resolve(file: Option<&Path>, overrides: Overrides) -> Result<Self, SettingsError> {
        let parsed = match file {
            None => SettingsFile::default(),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
                toml::from_str(&text).map_err(|error| wrong(path, error.to_string().trim_end()))?
            }
        };
        let path = file.unwrap_or(Path::new("(none)"));
        let data_dir = overrides.data_dir.or(parsed.data_dir).unwrap_or_else(default_data_dir);
        let database = overrides.database.or(parsed.database);
        let database =
            database.unwrap_or_else(|| format!("sqlite:{}", data_dir.join("spillway.db").display()));
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        let regions = !parsed.clouds.is_empty();
        let clouds = parsed
            .clouds
            .into_iter()
            .map(|cloud| CloudSettings { catalogue: base.join(&cloud.catalogue), ..cloud });
        let (sites, pools) = places(path, parsed.sites, parsed.pools)?;
        let access = access::read(&base, &parsed.access)?;
        // The regions of clouds become sites when their catalogues are read.
        let knows = |name: &SiteName| regions || sites.iter().any(|site| site.name == *name);
        let data = DataMap::from_entries(parsed.datasets, parsed.links, &knows);
        let data = data.map_err(|error| wrong(path, error))?;
        let alerts = alerts::resolve(path, &base, parsed.alerts)?;
        Ok(Self {
            database,
            listen: overrides.listen.or(parsed.listen).unwrap_or_else(|| address(DEFAULT_LISTEN)),
            tunnel: overrides.tunnel.or(parsed.tunnel).unwrap_or_else(|| address(DEFAULT_TUNNEL)),
            advertise: overrides.advertise.or(parsed.advertise),
            sites,
            pools,
            groups: parsed.groups.into_iter().map(|group| group.resolve(path)).collect::<Result<_, _>>()?,
            clouds: clouds.collect(),
            policy: parsed.policy.resolve(path, &base)?,
            access,
            data,
            alerts,
            tuning: parsed.tuning,
            data_dir,
        })
    }
}

/// The sites and pools of the file; without any, one of each, so that a first machine can join.
fn places(
    path: &Path,
    sites: Vec<SiteEntry>,
    pools: Vec<PoolEntry>,
) -> Result<(Vec<Site>, Vec<Pool>), SettingsError> {
    if sites.is_empty() && pools.is_empty() {
        let (site, pool) = ("home", "home");
        let name: SiteName = site.parse().map_err(|error| wrong(path, error))?;
        let site = Site { name, kind: SiteKind::OnPrem, jurisdiction: None, cloud: None };
        let name = pool.parse().map_err(|error| wrong(path, error))?;
        let tariff = Tariff::default();
        let pool = Pool { name, site: site.name.clone(), tariff, groups: None, labels: BTreeSet::new() };
        return Ok((vec![site], vec![pool]));
    }
    let site = |entry: SiteEntry| Site {
        name: entry.name,
        kind: entry.kind,
        jurisdiction: entry.jurisdiction,
        cloud: None,
    };
    let pools = pools.into_iter().map(|pool| pool.resolve(path)).collect::<Result<_, _>>()?;
    Ok((sites.into_iter().map(site).collect(), pools))
}

impl PoolEntry {
    fn resolve(self, path: &Path) -> Result<Pool, SettingsError> {
        let rate = |text: Option<String>| -> Result<HourlyRate, SettingsError> {
            text.map_or(Ok(HourlyRate::default()), |text| {
                text.parse().map_err(|error| wrong(path, format!("pool {}: {error}", self.name)))
            })
        };
        let tariff = Tariff { per_gpu: rate(self.per_gpu)?, per_cpu: rate(self.per_cpu)? };
        Ok(Pool { name: self.name, site: self.site, tariff, groups: self.groups, labels: self.labels })
    }
}

impl GroupEntry {
    fn resolve(self, path: &Path) -> Result<Group, SettingsError> {
        let name = self.name;
        let budget = self.budget.map(|text| text.parse::<Money>()).transpose();
        let budget = budget.map_err(|error| wrong(path, format!("group {name}: budget: {error}")))?;
        if let Some(other) = budget.filter(|money| money.currency != Currency::USD) {
            let way_out = "set it with `spillway budget set`, once it is known what that currency is worth";
            let problem = format!("group {name}: budget: {other} is not in {}: {way_out}", Currency::USD);
            return Err(wrong(path, problem));
        }
        Ok(Group {
            parent: self.parent,
            weight: self.weight.unwrap_or(1),
            priority: self.priority.unwrap_or(0),
            budget_micros: budget.map(|money| money.micros),
            budget_stated: None,
            name,
        })
    }
}

fn wrong(path: &Path, problem: impl std::fmt::Display) -> SettingsError {
    SettingsError::Parse { path: path.to_owned(), problem: problem.to_string() }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("the default addresses are addresses")
}

/// `/var/lib/spillway` for root, else `~/.local/share/spillway`.
#[must_use]
pub fn default_data_dir() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/spillway");
    }
    home.unwrap_or_else(|| PathBuf::from(".")).join(".local/share/spillway")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn resolve(text: &str) -> Result<Settings, SettingsError> {
        let (_folder, path) = written(text);
        Settings::resolve(Some(&path), Overrides { data_dir: Some("/data".into()), ..Overrides::default() })
    }

    #[test]
    fn without_a_file_a_first_machine_can_join() {
        let settings = Settings::resolve(None, Overrides::default()).unwrap();
        assert_eq!(settings.pools.len(), 1);
        assert_eq!(settings.listen.to_string(), DEFAULT_LISTEN);
    }

    #[test]
    fn a_file_is_read_and_flags_win() {
        let settings = resolve(
            "data_dir = '/elsewhere'\n[[sites]]\nname='seoul'\nkind='on-prem'\n\
             [[pools]]\nname='dgx'\nsite='seoul'\nper_gpu='1.50/h'\nlabels=['certified']\n[[groups]]\nname='vision'\nbudget='100'\n\
             [tuning]\nwarm='3s'\n",
        )
        .unwrap();
        assert_eq!(settings.database, "sqlite:/data/spillway.db");
        assert_eq!(settings.pools[0].tariff.per_gpu, HourlyRate(1_500_000));
        assert!(settings.pools[0].labels.contains("certified"));
        assert_eq!(settings.groups[0].budget_micros, Some(100_000_000));
        assert_eq!(settings.tuning.warm.0, DurationMs(3000));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("colour = 1", "colour"),
            ("[[sites]]\nname='A B'\nkind='on-prem'", "A B"),
            ("[[sites]]\nname='a'\nkind='moon'", "moon"),
            ("[[pools]]\nname='p'\nsite='s'\nper_gpu='free'", "free"),
            ("[tuning]\nwarm='-3s'", "negative"),
        ] {
            let error = resolve(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("broker.toml"), "{error}");
        }
    }
}
