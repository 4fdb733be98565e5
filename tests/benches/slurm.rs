//! A private Slurm as a peer: without accounting. None where its packages are not installed (Debian: slurm-wlm).

use std::time::Duration;

use anyhow::Result;
use spillway_tests::slurm::{self, Cluster};
use spillway_tests::wait::wait_for;

/// A running private Slurm. Ends when it is dropped.
pub(crate) struct Slurm {
    version: String,
    slurm: slurm::Slurm,
}

impl Slurm {
    /// Starts it; none where it is not installed.
    pub(crate) fn start() -> Result<Option<Self>> {
        if let Some(program) = slurm::missing(false) {
            let why =
                format!("LEFT OUT: Slurm is not installed ({program} is missing; Debian package slurm-wlm)");
            xtask::step::say(&why);
            return Ok(None);
        }
        let cluster = Cluster { cpus: 2, gpus: 8, accounting: false };
        Ok(Some(Self { version: slurm::version()?, slurm: slurm::Slurm::start(cluster)? }))
    }

    /// As `slurm-wlm 22.05.8`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// `total` submissions by `clients` at once; cancels them afterwards.
    pub(crate) fn submit(&self, clients: u32, total: u32) -> Result<u32> {
        let held = || self.sbatch(&["--hold", "--wrap", "true"]);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..clients).map(|_| scope.spawn(|| (0..total / clients).try_for_each(|_| held()))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
        })?;
        self.slurm.run("scancel", &["--state", "PENDING"])?;
        Ok(total / clients * clients)
    }

    /// Submits one shell script.
    pub(crate) fn run_script(&self, script: &str) -> Result<()> {
        self.sbatch(&["--wrap", script])
    }

    /// Runs an array of `true` and waits for its end.
    pub(crate) fn run_array(&self, tasks: u32, patience: Duration) -> Result<u32> {
        self.sbatch(&["--array", &format!("1-{tasks}"), "--wrap", "true"])?;
        wait_for("the array to end", patience, || {
            let queue = self.slurm.run("squeue", &["-h", "-r"]).map_err(|error| format!("{error:#}"))?;
            let left = queue.lines().count();
            if left == 0 { Ok(()) } else { Err(format!("{left} tasks left")) }
        });
        Ok(tasks)
    }

    fn sbatch(&self, arguments: &[&str]) -> Result<()> {
        self.slurm.run("sbatch", &[&["-o", "/dev/null"], arguments].concat()).map(drop)
    }
}
