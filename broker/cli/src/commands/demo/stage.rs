//! The folder that a demo plays in, and what it writes there: the settings of the broker, what the clouds
//! offer, and what the machines declare.
//!
//! The prices are those of the market; the rhythms are shortened, so that an hour's story fits into half a
//! minute: jobs wait for seconds where they would wait for minutes, and instances are kept warm for one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::TempDir;

/// The on-prem site.
pub(super) const DGX_SITE: &str = "seoul-dgx";
/// The personal site.
pub(super) const DESK_SITE: &str = "jin-workstation";
/// A region that can be named as a residency, because it is the only one of its jurisdiction.
pub(super) const EU_JURISDICTION: &str = "eu";

const BROKER: &str = r#"# The broker of `spillway demo`. Try `spillway broker --config broker.toml --check-config`.
listen = "127.0.0.1:0"
tunnel = "127.0.0.1:0"

[[sites]]
name = "seoul-dgx"
kind = "on-prem"
jurisdiction = "kr"

[[sites]]
name = "jin-workstation"
kind = "personal"
jurisdiction = "kr"

[[pools]]
name = "dgx"
site = "seoul-dgx"
per_gpu = "2.00/h"
per_cpu = "0.01/h"

# Jin lends the desk's GPU to the own group only.
[[pools]]
name = "jin-desk"
site = "jin-workstation"
per_gpu = "0.40/h"
per_cpu = "0.01/h"
groups = ["robotics"]

[[clouds]]
name = "demo-cloud"
kind = "local"
catalogue = "clouds.toml"

# For a demo: a job waits a few seconds for the machines here before it is worth the cloud's price.
[policy]
wait_hour_price = "15.00"
min_wait = "3s"
max_wait = "8s"

[tuning]
warm = "1s"
sweep = "1s"
stray_age = "10s"
renew = "1s"
"#;

const CLOUDS: &str = r#"# What the cloud of the demo offers. Its instances are processes of this machine.
# One region is cheaper for a whole machine, the other for a single GPU.
[[regions]]
name = "cloud-virginia"
jurisdiction = "us"
boot = "800ms"

[[regions.types]]
name = "p5.48xlarge"
gpus = "H100:8"
gpu_memory = "80GB"
cpus = 192
memory = "2TB"
price = "55.04"

[[regions.types]]
name = "p5.4xlarge"
gpus = "H100:1"
gpu_memory = "80GB"
cpus = 16
memory = "256GB"
price = "6.88"

[[regions]]
name = "cloud-frankfurt"
jurisdiction = "eu"
boot = "1s"

[[regions.types]]
name = "p5.48xlarge"
gpus = "H100:8"
gpu_memory = "80GB"
cpus = 192
memory = "2TB"
price = "51.60"

[[regions.types]]
name = "p5.4xlarge"
gpus = "H100:1"
gpu_memory = "80GB"
cpus = 16
memory = "256GB"
price = "8.60"
"#;

/// A machine of the demo: its name, and what it declares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub name: &'static str,
    pub site: &'static str,
    declared: &'static str,
}

const DGX: &str = "cpus = 224\nmemory = \"2TB\"\n[[gpus]]\nmodel = \"H100\"\ncount = 8\nmemory = \"80GB\"\n";
const DESK: &str = "cpus = 16\nmemory = \"64GB\"\n[[gpus]]\nmodel = \"RTX4090\"\nmemory = \"24GB\"\n";

/// The machines that join: those of clouds come and go by themselves.
pub(super) const MACHINES: [Machine; 3] = [
    Machine { name: "dgx-1", site: DGX_SITE, declared: DGX },
    Machine { name: "dgx-2", site: DGX_SITE, declared: DGX },
    Machine { name: "jin-desk", site: DESK_SITE, declared: DESK },
];

/// The folder of one demo. A temporary one goes when this is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    folder: PathBuf,
    temporary: Option<TempDir>,
}

impl Stage {
    /// Makes the folder and writes into it; `keep` names one that stays, and must be new or empty.
    ///
    /// # Errors
    /// The folder cannot be made or written, or holds something.
    pub(super) fn set(keep: Option<&Path>) -> anyhow::Result<Self> {
        let stage = match keep {
            None => {
                let made = tempfile::Builder::new().prefix("spillway-demo-").tempdir();
                let made = made.context("cannot make a temporary folder; TMPDIR can name another place")?;
                Self { folder: made.path().to_owned(), temporary: Some(made) }
            }
            Some(folder) => {
                let shown = folder.display();
                fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {shown}"))?;
                let folder =
                    fs::canonicalize(folder).with_context(|| format!("cannot use the folder {shown}"))?;
                let mut entries =
                    fs::read_dir(&folder).with_context(|| format!("cannot read the folder {shown}"))?;
                if entries.next().is_some() {
                    bail!("the folder {shown} is not empty: name a new one with --keep");
                }
                Self { folder, temporary: None }
            }
        };
        stage.furnish().with_context(|| format!("cannot write into {}", stage.folder.display()))?;
        Ok(stage)
    }

    fn furnish(&self) -> std::io::Result<()> {
        fs::create_dir(self.temporary_files())?;
        fs::create_dir(self.folder.join("agents"))?;
        fs::write(self.settings(), BROKER)?;
        fs::write(self.folder.join("clouds.toml"), CLOUDS)?;
        for machine in MACHINES {
            let text = format!("hostname = \"{}\"\n{}", machine.name, machine.declared);
            fs::write(self.inventory(machine.name), text)?;
        }
        Ok(())
    }

    /// The broker's settings.
    pub(super) fn settings(&self) -> PathBuf {
        self.folder.join("broker.toml")
    }

    /// The broker's data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The state folder of an agent.
    pub(super) fn agent(&self, name: &str) -> PathBuf {
        self.folder.join("agents").join(name)
    }

    /// What a machine declares.
    pub(super) fn inventory(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    /// Where the processes of the demo put temporary files: their `TMPDIR`, by which they are known.
    pub(super) fn temporary_files(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// The log of a process.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes a temporary folder; says where one stays.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn strike(self) -> anyhow::Result<Option<PathBuf>> {
        let shown = self.folder.display().to_string();
        match self.temporary {
            Some(made) => made.close().map(|()| None).with_context(|| format!("cannot remove {shown}")),
            None => Ok(Some(self.folder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_named_one_stays() {
        let stage = Stage::set(None).expect("a stage");
        let folder = stage.folder().to_owned();
        assert!(stage.inventory("dgx-2").is_file());
        assert_eq!(stage.strike().expect("it goes"), None);
        assert!(!folder.exists());
        let parent = tempfile::tempdir().expect("a folder");
        let named = parent.path().join("demo");
        let stage = Stage::set(Some(&named)).expect("a stage");
        assert_eq!(stage.strike().expect("it stays"), Some(fs::canonicalize(&named).expect("it is there")));
        let refused = Stage::set(Some(&named)).expect_err("it is not empty any more").to_string();
        assert!(refused.contains("not empty") && refused.contains("--keep"), "{refused}");
    }
}
