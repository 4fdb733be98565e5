//! A private Slurm as a peer: one controller, one node with declared GPUs, without accounting, on ports of its
//! own. None where its packages are not installed (Debian: slurm-wlm).

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{Spawned, free_port};
use spillway_tests::wait::wait_for;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(30);

/// A running private Slurm. Ends when it is dropped.
pub(crate) struct Slurm {
    version: String,
    node: Spawned,
    controller: Spawned,
    folder: TempDir,
}

impl Slurm {
    /// Starts it; none where it is not installed.
    pub(crate) fn start() -> Result<Option<Self>> {
        let Ok(version) = Command::new("slurmctld").arg("-V").output() else {
            xtask::step::say("LEFT OUT: Slurm is not installed (Debian package slurm-wlm)");
            return Ok(None);
        };
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let folder = tempfile::tempdir()?;
        write_config(folder.path())?;
        let config = folder.path().join("slurm.conf");
        let daemon = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.arg("-D").arg("-f").arg(&config).args(args);
            Spawned::start(program, command, folder.path())
        };
        let controller = daemon("slurmctld", &[]);
        let node = daemon("slurmd", &["-N", "localhost"]);
        let slurm = Self { version, node, controller, folder };
        wait_for("Slurm's node to be idle", START, || {
            let output =
                slurm.client("sinfo").args(["-h", "-o", "%T"]).output().map_err(|error| error.to_string())?;
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if state == "idle" { Ok(()) } else { Err(state) }
        });
        Ok(Some(slurm))
    }

    /// As `slurm-wlm 22.05.8`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// `total` submissions by `clients` at once; cancels them afterwards.
    pub(crate) fn submit(&self, clients: u32, total: u32) -> Result<u32> {
        let held = |slurm: &Self| -> Result<()> {
            let output =
                slurm.client("sbatch").args(["--hold", "-o", "/dev/null", "--wrap", "true"]).output()?;
            check(&output)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients)
                .map(|_| scope.spawn(|| (0..total / clients).try_for_each(|_| held(self))))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
        })?;
        check(&self.client("scancel").args(["--state", "PENDING"]).output()?)?;
        Ok(total / clients * clients)
    }

    /// Submits one shell script.
    pub(crate) fn run_script(&self, script: &str) -> Result<()> {
        check(&self.client("sbatch").args(["-o", "/dev/null", "--wrap", script]).output()?)
    }

    /// Runs an array of `true` and waits for its end.
    pub(crate) fn run_array(&self, tasks: u32, patience: Duration) -> Result<u32> {
        let array = format!("1-{tasks}");
        check(
            &self.client("sbatch").args(["--array", &array, "-o", "/dev/null", "--wrap", "true"]).output()?,
        )?;
        wait_for("the array to end", patience, || {
            let output =
                self.client("squeue").args(["-h", "-r"]).output().map_err(|error| error.to_string())?;
            let left = String::from_utf8_lossy(&output.stdout).lines().count();
            if left == 0 { Ok(()) } else { Err(format!("{left} tasks left")) }
        });
        Ok(tasks)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf")).stdin(Stdio::null());
        command
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.node.kill();
        self.controller.kill();
    }
}

fn check(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn write_config(folder: &Path) -> Result<()> {
    for name in ["state", "spool"] {
        fs::create_dir(folder.join(name)).context("a folder for Slurm")?;
    }
    for gpu in 0..8 {
        fs::write(folder.join(format!("gpu{gpu}")), "")?;
    }
    let at = folder.display();
    let (controller, node) = (free_port(), free_port());
    let config = format!(
        "ClusterName=bench\nSlurmctldHost=localhost\nSlurmctldPort={controller}\nSlurmdPort={node}\n\
         AuthType=auth/none\nCredType=cred/none\nProctrackType=proctrack/pgid\nTaskPlugin=task/none\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nSlurmUser=root\nSlurmdUser=root\n\
         StateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool\nSlurmctldPidFile={at}/ctld.pid\nSlurmdPidFile={at}/d.pid\n\
         SlurmctldLogFile={at}/ctld.log\nSlurmdLogFile={at}/d.log\nGresTypes=gpu\nReturnToService=2\nMaxJobCount=100000\n\
         SwitchType=switch/none\nMpiDefault=none\nAccountingStorageType=accounting_storage/none\n\
         JobAcctGatherType=jobacct_gather/none\nNodeName=localhost CPUs=2 Gres=gpu:8 State=UNKNOWN\n\
         PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    );
    fs::write(folder.join("slurm.conf"), config)?;
    fs::write(folder.join("gres.conf"), format!("NodeName=localhost Name=gpu File={at}/gpu[0-7]\n"))?;
    Ok(())
}
