//! The federation file: what a simulation begins with, in TOML. Unknown fields are refused, and an error says where
//! in the file: `sites[0].pools[1].per_gpu`.
//!
//! [`uniform`] is the short form for comparisons with the literature: one site of equal nodes, and a cloud without
//! limit that starts at once. Names of nodes are their pool's and a number that counts all nodes of the file from 0:
//! `dgx-2`. Left out on purpose: reading files, which whoever has them does.

mod cloud_file;
mod fault_file;
mod file;
mod series;

use std::collections::BTreeSet;

use spillway_core::command::TickLimits;
use spillway_core::entity::{Group, Pool, Site};
use spillway_policies::CloudOffer;
use spillway_types::{
    Accelerator, Capabilities, DurationMs, GpuModel, HourlyRate, Inventory, InventorySource, NodeCapacity,
    SiteKind, Tariff,
};

use crate::Description;
use crate::TraceJob;

pub use file::{from_toml, from_toml_and};

/// What a GPU-hour costs in the cloud of [`uniform`], in micros: 2.50, as in Starburst (ATC'24).
pub const GPU_HOUR_MICROS: i64 = 2_500_000;
/// Most nodes that a federation may have: the target of the design.
pub const MAX_NODES: u32 = 62_500;
/// Most GPUs of one node: the largest NVLink domain sold today.
pub const MAX_GPUS_PER_NODE: u32 = spillway_types::resources::MAX_GPUS_PER_NODE;

/// Sizes of instances that the cloud of [`uniform`] has; wider jobs take several.
const SIZES: [u32; 4] = [1, 2, 4, 8];

/// Why there is no such federation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FederationError {
    /// Where in the file.
    pub path: String,
    /// What is wrong, with the value and the way out.
    pub problem: String,
}

impl FederationError {
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

/// One site of `nodes` nodes with `gpus_per_node` GPUs, and a cloud without limit at 2.50 a GPU-hour that starts at
/// once.
///
/// # Errors
/// [`FederationError`] where a number is 0 or over its limit.
pub fn uniform(nodes: u32, gpus_per_node: u32) -> Result<Description, FederationError> {
    let range = |path, value, most: u32| {
        let problem = || format!("{value} is not from 1 to {most}");
        if (1..=most).contains(&value) { Ok(()) } else { Err(FederationError::new(path, problem())) }
    };
    range("nodes", nodes, MAX_NODES)?;
    range("gpus-per-node", gpus_per_node, MAX_GPUS_PER_NODE)?;
    let site = |at: &str, kind, cloud: Option<&str>| Site {
        name: at.parse().expect("it is a name"),
        kind,
        jurisdiction: None,
        cloud: cloud.map(|name| name.parse().expect("it is a name")),
    };
    let (local, cloud) =
        (site("local", SiteKind::OnPrem, None), site("cloud", SiteKind::Cloud, Some("cloud")));
    let pool = |site: &Site| Pool {
        name: site.name.as_str().parse().expect("it is a name"),
        site: site.name.clone(),
        tariff: Tariff::default(),
        groups: None,
        labels: [].into(),
    };
    let pools = vec![pool(&local), pool(&cloud)];
    let home = pools.first().map(|pool| pool.name.clone()).expect("it is there");
    let model = || "GPU".parse().expect("it is a name");
    let node = |number| {
        (home.clone(), inventory(format!("node-{number:05}"), capacity(&Shape::of(model(), gpus_per_node))))
    };
    let offer = |gpus: u32| CloudOffer {
        cloud: "cloud".parse().expect("it is a name"),
        site: cloud.name.clone(),
        jurisdiction: None,
        instance_type: format!("gpu-{gpus}").parse().expect("it is a name"),
        capacity: capacity(&Shape::of(model(), gpus)),
        price: HourlyRate(GPU_HOUR_MICROS * i64::from(gpus)),
        boot: DurationMs(0),
        available: u32::MAX,
        terms: spillway_types::OfferTerms::default(),
    };
    Ok(Description {
        nodes: (0..nodes).map(node).collect(),
        offers: SIZES.map(offer).into(),
        pools,
        sites: vec![local, cloud],
        // An instance that is kept warm would cost more than its jobs.
        limits: TickLimits { warm: DurationMs(0), ..TickLimits::default() },
        ..Description::default()
    })
}

/// Adds the groups of `jobs` that are not described, with weight 1 and no budget. Gives how many were added.
pub fn admit_groups(description: &mut Description, jobs: &[TraceJob]) -> usize {
    let known: BTreeSet<_> = description.groups.iter().map(|group| group.name.clone()).collect();
    let asked: BTreeSet<_> = jobs.iter().map(|job| job.group.clone()).collect();
    let new = asked.difference(&known).cloned();
    let group =
        |name| Group { name, parent: None, weight: 1, priority: 0, budget_micros: None, budget_stated: None };
    let before = description.groups.len();
    description.groups.extend(new.map(group));
    description.groups.len() - before
}

/// GPUs of all nodes together.
#[must_use]
pub fn gpus(description: &Description) -> u32 {
    let nodes = description.nodes.iter().map(|(_, node)| node.capacity.accelerators.len());
    u32::try_from(nodes.sum::<usize>()).unwrap_or(u32::MAX)
}

/// The first job that neither the nodes nor an offer can run, by its width alone; none where every job fits.
///
/// A job within one node's GPUs takes one node; a wider one takes whole nodes, and one more for the rest.
#[must_use]
pub fn too_wide<'a>(description: &Description, jobs: &'a [TraceJob]) -> Option<&'a TraceJob> {
    let widest =
        |gpus: &mut dyn Iterator<Item = usize>| u32::try_from(gpus.max().unwrap_or(0)).unwrap_or(u32::MAX);
    let here = widest(&mut description.nodes.iter().map(|(_, node)| node.capacity.accelerators.len()));
    let offered = widest(&mut description.offers.iter().map(|offer| offer.capacity.accelerators.len()));
    let unlimited = offered > 0;
    let all = gpus(description);
    jobs.iter().find(|job| !unlimited && (here == 0 || job.gpus > all))
}

/// What a node or an instance has.
struct Shape {
    model: GpuModel,
    gpus: u32,
    gpu_memory_mib: u64,
    cpus: u32,
    memory_mib: u64,
}

impl Shape {
    /// CPUs and memory in the proportions of a DGX, so that GPUs are what is scarce.
    fn of(model: GpuModel, gpus: u32) -> Self {
        Self { model, gpus, gpu_memory_mib: 81_920, cpus: gpus * 14, memory_mib: u64::from(gpus) * 262_144 }
    }
}

fn capacity(shape: &Shape) -> NodeCapacity {
    let accelerator = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: shape.model.clone(),
        memory_mib: shape.gpu_memory_mib,
        mig: vec![],
        domain: None,
    };
    NodeCapacity {
        accelerators: (0..shape.gpus).map(accelerator).collect(),
        cpus_milli: shape.cpus.saturating_mul(1000),
        memory_mib: shape.memory_mib,
    }
}

fn inventory(hostname: String, capacity: NodeCapacity) -> Inventory {
    Inventory {
        hostname,
        capacity,
        capabilities: Capabilities { process: true, container: true, fractions: true },
        source: InventorySource::Declared,
        labels: std::collections::BTreeMap::new(),
    }
}

#[cfg(test)]
#[path = "federation/tests.rs"]
mod tests;
