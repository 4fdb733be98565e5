//! What the API says of sites, nodes, clouds, offers and the broker itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{
    Capabilities, CloudName, DurationMs, GpuModel, GroupName, HourlyRate, InstanceId, InstanceState,
    InstanceType, Money, NodeId, NodeState, PoolName, SiteKind, SiteName, Tariff, UnixMs,
};

/// A place with one locality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteView {
    /// Its name.
    pub name: SiteName,
    /// Its kind.
    pub kind: SiteKind,
    /// Its jurisdiction.
    #[serde(default)]
    pub jurisdiction: Option<String>,
    /// Its pools.
    #[serde(default)]
    pub pools: Vec<PoolView>,
    /// Nodes that are not gone.
    pub nodes: u32,
    /// Nodes that take work.
    pub nodes_ready: u32,
    /// Hundredths of accelerators of the nodes that are not gone.
    pub blocks: u64,
    /// Hundredths of accelerators that are free on nodes that take work.
    pub blocks_free: u64,
}

/// Nodes of one site under one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// Groups that may use it; none means all.
    #[serde(default)]
    pub groups: Option<Vec<GroupName>>,
    /// What its use costs.
    pub tariff: Tariff,
}

/// Accelerators of one model on a node or an instance type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSummary {
    /// The model.
    pub model: GpuModel,
    /// How many.
    pub count: u32,
    /// Memory of each in MiB.
    pub memory_mib: u64,
}

/// A machine that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// The node.
    pub id: NodeId,
    /// Its host name.
    pub hostname: String,
    /// Its site.
    pub site: SiteName,
    /// The site's kind.
    pub kind: SiteKind,
    /// Its pool.
    pub pool: PoolName,
    /// Where it stands.
    pub state: NodeState,
    /// The instance it is, on a cloud.
    #[serde(default)]
    pub instance: Option<InstanceId>,
    /// The instance's shape, on a cloud.
    #[serde(default)]
    pub instance_type: Option<InstanceType>,
    /// Its accelerators by model.
    #[serde(default)]
    pub gpus: Vec<GpuSummary>,
    /// Hundredths of accelerators.
    pub blocks: u64,
    /// Hundredths that are free.
    pub blocks_free: u64,
    /// Thousandths of a CPU.
    pub cpus_milli: u32,
    /// Thousandths that are free.
    pub cpus_milli_free: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// MiB that are free.
    pub memory_mib_free: u64,
    /// Attempt parts that occupy it.
    pub running: u32,
    /// When its agent was last heard.
    #[serde(default)]
    pub last_seen: Option<UnixMs>,
    /// Its agent's version.
    #[serde(default)]
    pub version: Option<String>,
    /// What its agent can do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// The operator's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What a person can do to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeAction {
    /// It keeps its work and takes no more.
    Cordon,
    /// It takes work again.
    Uncordon,
    /// It takes no more work and leaves when it is empty.
    Drain,
    /// Its identity is refused from now on.
    Revoke,
}

impl NodeAction {
    /// The action as it stands in the path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
            Self::Drain => "drain",
            Self::Revoke => "revoke",
        }
    }
}

/// A cloud account reached through one connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudView {
    /// Its name.
    pub name: CloudName,
    /// Its regions, as sites.
    #[serde(default)]
    pub regions: Vec<SiteName>,
    /// Instances that are not gone, and those that went lately.
    #[serde(default)]
    pub instances: Vec<InstanceView>,
    /// What its connector said last, where that was an error.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A cloud machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// The intent's id.
    pub id: InstanceId,
    /// The provider's name for it, once there is one.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// Where it stands.
    pub state: InstanceState,
    /// Its region, as a site.
    pub site: SiteName,
    /// Its shape.
    pub instance_type: InstanceType,
    /// What it costs per hour.
    pub price: HourlyRate,
    /// When the intent was written.
    pub launched: UnixMs,
    /// When it was seen gone.
    #[serde(default)]
    pub ended: Option<UnixMs>,
    /// What it has cost so far, charged or not.
    pub cost: Money,
}

/// An instance type that a cloud would launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferView {
    /// The cloud.
    pub cloud: CloudName,
    /// The region, as a site.
    pub site: SiteName,
    /// The region's jurisdiction.
    #[serde(default)]
    pub jurisdiction: Option<String>,
    /// The shape.
    pub instance_type: InstanceType,
    /// Its accelerators by model.
    #[serde(default)]
    pub gpus: Vec<GpuSummary>,
    /// Thousandths of a CPU.
    pub cpus_milli: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Price of one instance.
    pub price: HourlyRate,
    /// How long from launch to a node that takes work.
    pub boot: DurationMs,
    /// How many could be launched now; 0 while the region is known to be full.
    pub available: u32,
}

/// What the broker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerMode {
    /// Its work.
    Normal,
    /// It waits for its nodes after a start.
    Starting,
    /// It was started from an old copy and changes nothing.
    Recovery,
}

impl BrokerMode {
    /// The mode as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Starting => "starting",
            Self::Recovery => "recovery",
        }
    }
}

/// How the broker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthView {
    /// The broker's version.
    pub version: String,
    /// The deployment's id.
    pub deployment: String,
    /// Grows with every start of the broker.
    pub incarnation: u64,
    /// What it is doing.
    pub mode: BrokerMode,
    /// What somebody should know, or do.
    #[serde(default)]
    pub message: Option<String>,
    /// Nodes that it still waits for after a start.
    #[serde(default)]
    pub nodes_awaited: u32,
    /// How often an invariant was found broken since the start. Anything but 0 is a defect.
    #[serde(default)]
    pub invariant_violations: u64,
    /// What the ledger's accounts sum to, in micros. Anything but 0 is a defect.
    #[serde(default)]
    pub ledger_imbalance_micros: i64,
    /// Which database, without any password.
    #[serde(default)]
    pub database: String,
}

/// Somebody who is told of limits that fill up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationView {
    /// Its name in the settings.
    pub name: String,
    /// How it is reached: `webhook`, `slack` or `email`.
    pub channel: String,
    /// Only alerts of these groups and those below them; empty means all.
    #[serde(default)]
    pub groups: Vec<GroupName>,
    /// Only alerts of these thresholds, in percent; empty means all that limits have.
    #[serde(default)]
    pub thresholds: Vec<u32>,
    /// How many alerts wait to be taken.
    pub waiting: usize,
    /// Why the first of them was not taken, where it was tried.
    #[serde(default)]
    pub problem: Option<String>,
}

impl HealthView {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        self.invariant_violations == 0
            && self.ledger_imbalance_micros == 0
            && !matches!(self.mode, BrokerMode::Recovery)
    }
}
