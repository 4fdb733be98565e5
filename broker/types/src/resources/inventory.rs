//! What a node has, and what an attempt was given of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::GpuModel;

/// Hundredths that one accelerator is split into.
pub const BLOCKS_PER_GPU: u32 = 100;

/// One accelerator of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accelerator {
    /// The device's index on its node.
    pub index: u32,
    /// The device's UUID as the driver prints it, or a declared one.
    pub uuid: String,
    /// Its model.
    pub model: GpuModel,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// Its MIG slices; empty where it is whole.
    #[serde(default)]
    pub mig: Vec<MigSlice>,
    /// Which accelerators it reaches over the fast interconnect, on its node and on others: the same name, the
    /// same domain.
    #[serde(default)]
    pub domain: Option<String>,
}

/// One MIG slice of an accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigSlice {
    /// The slice's UUID.
    pub uuid: String,
    /// Its profile, for example `1g.10gb`.
    pub profile: String,
}

/// Everything of a node that can be given to attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeCapacity {
    /// Its accelerators, ordered by index.
    pub accelerators: Vec<Accelerator>,
    /// Thousandths of a CPU.
    pub cpus_milli: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl NodeCapacity {
    /// The interconnect domain that all its accelerators are in; none where they are in several, or where one of
    /// them names none.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        let mut domains = self.accelerators.iter().map(|accelerator| accelerator.domain.as_deref());
        let first = domains.next()??;
        domains.all(|domain| domain == Some(first)).then_some(first)
    }
}

/// Where an inventory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InventorySource {
    /// The driver said so, through NVML.
    Nvml,
    /// A person declared it in a file.
    Declared,
    /// Neither: the node has CPUs and memory only.
    CpuOnly,
}

/// What the agent of a node can do for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Runs programs as processes.
    #[serde(default)]
    pub process: bool,
    /// Runs container images.
    #[serde(default)]
    pub container: bool,
    /// Gives out parts of one accelerator.
    #[serde(default)]
    pub fractions: bool,
}

/// What an agent reports of its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The machine's host name.
    pub hostname: String,
    /// What can be given to attempts.
    pub capacity: NodeCapacity,
    /// What the agent can do.
    pub capabilities: Capabilities,
    /// Where the accelerators' list comes from.
    pub source: InventorySource,
    /// The operator's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What an attempt has of one accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AcceleratorShare {
    /// The accelerator's index on its node.
    pub index: u32,
    /// Hundredths of it: 1 to 100.
    pub blocks: u32,
}

/// What an attempt has of one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Allocation {
    /// Parts of accelerators, ordered by index.
    #[serde(default)]
    pub shares: Vec<AcceleratorShare>,
    /// UUIDs of MIG slices.
    #[serde(default)]
    pub mig: Vec<String>,
    /// Thousandths of a CPU.
    pub cpus_milli: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Allocation {
    /// Hundredths of accelerators in all; a MIG slice counts as 100.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        let shares: u64 = self.shares.iter().map(|share| u64::from(share.blocks)).sum();
        shares + self.mig.len() as u64 * u64::from(BLOCKS_PER_GPU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_in_a_domain_with_all_its_accelerators_or_not_at_all() {
        let node = |domains: &[Option<&str>]| NodeCapacity {
            accelerators: (0..)
                .zip(domains)
                .map(|(index, domain)| Accelerator {
                    index,
                    uuid: format!("GPU-{index}"),
                    model: "H100".parse().unwrap(),
                    memory_mib: 81_559,
                    mig: vec![],
                    domain: domain.map(str::to_owned),
                })
                .collect(),
            ..NodeCapacity::default()
        };
        assert_eq!(node(&[Some("a"), Some("a")]).domain(), Some("a"));
        for none in [&[][..], &[None], &[Some("a"), None], &[None, Some("a")], &[Some("a"), Some("b")]] {
            assert_eq!(node(none).domain(), None, "{none:?}");
        }
    }
}
