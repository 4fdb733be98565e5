//! An inventory that a person wrote down, in TOML:
//!
//! ```toml
//! hostname = "dgx1"     # the machine's own where it is left out
//! cpus = 64             # likewise
//! memory = "512GB"      # likewise
//! domain = "rack-7"     # the interconnect that its accelerators share with those of other nodes; none where left out
//! [[gpus]]
//! model = "H100"
//! count = 8             # 1 where it is left out
//! memory = "80GB"
//! [labels]
//! rack = "7"
//! ```

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use spillway_types::resources::{MAX_GPUS_PER_NODE, parse_memory_mib};
use spillway_types::{Accelerator, GpuModel};

/// Most CPUs of one machine that are believed.
const MAX_CPUS: u32 = 100_000;

/// Longest name of an interconnect domain, in characters: as long as Spillway's own names may be.
const MAX_DOMAIN: usize = 63;

/// What is wrong with a declared inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclaredError {
    /// It is not TOML, or has a field that does not exist.
    #[error("{0}")]
    Syntax(String),
    /// A field's value is wrong.
    #[error("{field}: {problem}")]
    Field {
        /// The field, for example `gpus[1].memory`.
        field: String,
        /// What is wrong, with the value.
        problem: String,
    },
}

/// A declared inventory that is right. What is none is asked of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeclaredInventory {
    /// The host name.
    pub hostname: Option<String>,
    /// Thousandths of a CPU.
    pub cpus_milli: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Model and memory in MiB of each accelerator; none where the file has no `gpus`.
    pub gpus: Option<Vec<(GpuModel, u64)>>,
    /// The interconnect domain of every accelerator, declared here or found by the driver.
    pub domain: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hostname: Option<String>,
    cpus: Option<u32>,
    memory: Option<String>,
    domain: Option<String>,
    gpus: Option<Vec<FileGpu>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileGpu {
    model: String,
    #[serde(default = "one")]
    count: u32,
    memory: String,
}

const fn one() -> u32 {
    1
}

impl DeclaredInventory {
    /// The declared accelerators of the machine with this host name; none where the file has no `gpus`.
    #[must_use]
    pub fn accelerators(&self, hostname: &str) -> Option<Vec<Accelerator>> {
        let gpus = self.gpus.as_ref()?;
        let made = (0..).zip(gpus).map(|(index, (model, memory_mib))| Accelerator {
            index,
            uuid: format!("declared-{hostname}-{index}"),
            model: model.clone(),
            memory_mib: *memory_mib,
            mig: Vec::new(),
            domain: None,
        });
        Some(made.collect())
    }
}

impl FromStr for DeclaredInventory {
    type Err = DeclaredError;

    fn from_str(text: &str) -> Result<Self, DeclaredError> {
        let file: File = toml::from_str(text)
            .map_err(|error| DeclaredError::Syntax(error.to_string().trim_end().to_owned()))?;
        let memory = file.memory.map(|memory| memory_of("memory", &memory)).transpose()?;
        Ok(Self {
            hostname: file.hostname.map(hostname).transpose()?,
            cpus_milli: file.cpus.map(cpus_milli).transpose()?,
            memory_mib: memory,
            domain: file.domain.map(domain).transpose()?,
            gpus: file.gpus.map(gpus).transpose()?,
            labels: file.labels,
        })
    }
}

fn wrong<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, DeclaredError> {
    Err(DeclaredError::Field { field: field.into(), problem: problem.into() })
}

fn hostname(name: String) -> Result<String, DeclaredError> {
    let fine = !name.is_empty()
        && name.len() <= 253
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    if fine {
        Ok(name)
    } else {
        wrong("hostname", format!("`{name}` must be 1 to 253 letters, digits, `-` and `.`"))
    }
}

fn domain(name: String) -> Result<String, DeclaredError> {
    let fine = (1..=MAX_DOMAIN).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if fine { Ok(name) } else { wrong("domain", format!("`{name}` must be 1 to 63 printable characters")) }
}

fn cpus_milli(cpus: u32) -> Result<u32, DeclaredError> {
    if (1..=MAX_CPUS).contains(&cpus) {
        Ok(cpus * 1000)
    } else {
        wrong("cpus", format!("{cpus} must be from 1 to {MAX_CPUS}"))
    }
}

fn memory_of(field: &str, text: &str) -> Result<u64, DeclaredError> {
    parse_memory_mib(text).or_else(|error| wrong(field, error.to_string()))
}

fn gpus(list: Vec<FileGpu>) -> Result<Vec<(GpuModel, u64)>, DeclaredError> {
    let mut gpus = Vec::new();
    for (position, gpu) in list.into_iter().enumerate() {
        let field = |name| format!("gpus[{position}].{name}");
        let model: GpuModel = gpu.model.parse().or_else(|error| {
            let error: spillway_types::NameError = error;
            wrong(field("model"), error.to_string())
        })?;
        let memory = memory_of(&field("memory"), &gpu.memory)?;
        let count = usize::try_from(gpu.count).unwrap_or(usize::MAX);
        let most = usize::try_from(MAX_GPUS_PER_NODE).unwrap_or(usize::MAX);
        if count == 0 || gpus.len().saturating_add(count) > most {
            return wrong(field("count"), format!("{count} must be at least 1, and at most {most} in all"));
        }
        gpus.extend(std::iter::repeat_n((model, memory), count));
    }
    Ok(gpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let text = "cpus = 8\n[[gpus]]\nmodel = \"a100\"\nmemory = \"40GB\"\n[[gpus]]\nmodel = \"T4\"\ncount = 2\nmemory = \"16GB\"";
        let declared: DeclaredInventory = text.parse().unwrap();
        let accelerators = declared.accelerators("node1").unwrap();
        let list: Vec<_> =
            accelerators.iter().map(|a| (a.index, a.uuid.as_str(), a.model.as_str(), a.memory_mib)).collect();
        assert_eq!(
            list,
            [
                (0, "declared-node1-0", "A100", 40 * 1024),
                (1, "declared-node1-1", "T4", 16 * 1024),
                (2, "declared-node1-2", "T4", 16 * 1024),
            ]
        );
        let joined: DeclaredInventory = format!("domain = \"rack-7\"\n{text}").parse().unwrap();
        assert_eq!(joined, DeclaredInventory { domain: Some("rack-7".to_owned()), ..declared });
        assert_eq!("".parse::<DeclaredInventory>().unwrap(), DeclaredInventory::default());
        assert_eq!("gpus = []".parse::<DeclaredInventory>().unwrap().accelerators("x"), Some(vec![]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let gpu = |count: u32| format!("[[gpus]]\nmodel = \"H100\"\nmemory = \"80GB\"\ncount = {count}");
        for (text, names) in [
            ("colour = 1".to_owned(), "colour"),
            ("cpus = 0".to_owned(), "cpus: 0"),
            ("memory = \"512\"".to_owned(), "memory: `512`"),
            ("hostname = \"a b\"".to_owned(), "hostname: `a b`"),
            ("[[gpus]]\nmodel = \"H 100\"\nmemory = \"80GB\"".to_owned(), "gpus[0].model: `h 100`"),
            ("[[gpus]]\nmodel = \"H100\"\nmemory = \"80\"".to_owned(), "gpus[0].memory: `80`"),
            ("[[gpus]]\nmodel = \"H100\"".to_owned(), "memory"),
            ("domain = \"\"".to_owned(), "domain: ``"),
            (format!("domain = \"{}\"", "x".repeat(MAX_DOMAIN + 1)), "domain: `xx"),
            (gpu(0), "gpus[0].count: 0"),
            (gpu(MAX_GPUS_PER_NODE + 1), "gpus[0].count: "),
        ] {
            let error = text.parse::<DeclaredInventory>().unwrap_err().to_string();
            assert!(error.contains(names), "{text}: {error}");
        }
        assert!(gpu(MAX_GPUS_PER_NODE).parse::<DeclaredInventory>().is_ok());
    }
}
