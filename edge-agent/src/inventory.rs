//! What this node has: from the driver, from a file, or CPUs and memory only. Nothing is invented.
//!
//! A declared file wins over the driver where its `gpus` are given, since a person wrote it down on purpose;
//! otherwise accelerators come from NVML where its library loads, and there are none where it does not.

mod declared;
mod machine;
mod nvml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use spillway_types::{Accelerator, Capabilities, Inventory, InventorySource, NodeCapacity};

pub use declared::{DeclaredError, DeclaredInventory};

/// Why the node's inventory cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The declared file cannot be read.
    #[error("the inventory file {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The declared file is wrong.
    #[error("the inventory file {path} is wrong")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: DeclaredError,
    },
    /// The system does not say what the machine has.
    #[error("the system does not say how much {what} this machine has: declare it in an inventory file")]
    Unknown {
        /// What is missing.
        what: &'static str,
    },
}

/// Makes the inventory of this machine, from `file` where one is given, with these labels on top.
///
/// # Errors
/// [`InventoryError`].
pub fn take(file: Option<&Path>, labels: &BTreeMap<String, String>) -> Result<Inventory, InventoryError> {
    let declared = file.map(read).transpose()?.unwrap_or_default();
    let hostname = declared.hostname.clone().unwrap_or_else(machine::hostname);
    let (source, mut accelerators) = match declared.accelerators(&hostname) {
        Some(accelerators) => (InventorySource::Declared, accelerators),
        None => from_driver(),
    };
    // No driver knows what reaches beyond the machine.
    if declared.domain.is_some() {
        accelerators.iter_mut().for_each(|accelerator| accelerator.domain.clone_from(&declared.domain));
    }
    let cpus_milli = match declared.cpus_milli {
        Some(cpus) => cpus,
        None => machine::cpus_milli().ok_or(InventoryError::Unknown { what: "CPU" })?,
    };
    let memory_mib = match declared.memory_mib {
        Some(memory) => memory,
        None => machine::memory_mib().ok_or(InventoryError::Unknown { what: "memory" })?,
    };
    let mut all_labels = declared.labels;
    all_labels.extend(labels.clone());
    Ok(Inventory {
        hostname,
        capacity: NodeCapacity { accelerators, cpus_milli, memory_mib },
        capabilities: Capabilities { process: true, container: false, fractions: false },
        source,
        labels: all_labels,
    })
}

fn read(path: &Path) -> Result<DeclaredInventory, InventoryError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| InventoryError::Unreadable { path: path.to_path_buf(), source })?;
    text.parse().map_err(|source| InventoryError::Wrong { path: path.to_path_buf(), source })
}

fn from_driver() -> (InventorySource, Vec<Accelerator>) {
    match nvml::accelerators() {
        Ok(accelerators) if !accelerators.is_empty() => (InventorySource::Nvml, accelerators),
        Ok(_) => (InventorySource::CpuOnly, Vec::new()),
        Err(error) => {
            tracing::info!(%error, "no NVIDIA driver was found: this node offers CPUs and memory");
            (InventorySource::CpuOnly, Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_the_machine_speaks() {
        let labels = BTreeMap::from([("rack".to_owned(), "7".to_owned())]);
        let inventory = take(None, &labels).unwrap();
        assert!(!inventory.hostname.is_empty());
        assert!(inventory.capacity.cpus_milli >= 1000 && inventory.capacity.memory_mib >= 64);
        assert_eq!(inventory.labels, labels);
        assert_eq!(inventory.source == InventorySource::CpuOnly, inventory.capacity.accelerators.is_empty());
    }

    #[test]
    fn a_file_wins_and_labels_from_the_command_line_win_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.toml");
        let text = "hostname = \"dgx1\"\ndomain = \"row-2\"\ncpus = 64\nmemory = \"512GB\"\n[[gpus]]\nmodel = \"H100\"\ncount = 2\n\
                    memory = \"80GB\"\n[labels]\nrack = \"1\"\nrow = \"2\"\n";
        std::fs::write(&path, text).unwrap();
        let inventory = take(Some(&path), &BTreeMap::from([("rack".to_owned(), "9".to_owned())])).unwrap();
        assert_eq!(inventory.hostname, "dgx1");
        assert_eq!((inventory.capacity.cpus_milli, inventory.capacity.memory_mib), (64_000, 512 * 1024));
        assert_eq!((inventory.source, inventory.capacity.accelerators.len()), (InventorySource::Declared, 2));
        assert_eq!(inventory.capacity.domain(), Some("row-2"));
        assert_eq!((inventory.labels["rack"].as_str(), inventory.labels["row"].as_str()), ("9", "2"));
        let missing = take(Some(&folder.path().join("no.toml")), &BTreeMap::new()).unwrap_err();
        assert!(missing.to_string().contains("no.toml"), "{missing}");
    }
}
