//! A private Slurm: one controller and one node with declared GPUs, with its accounting where that is asked for, on
//! ports, sockets and a database of its own.
//!
//! Everything lies in one folder and ends with the value. Nothing of it touches a Slurm that the machine may have.
//! Left out on purpose: several nodes, and limits of processors and memory on what jobs do (the node only declares).

mod accounting;
mod rows;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::setup::is_on_path;
use xtask::wait::wait_until;

use crate::Folder;
use crate::process::{Spawned, free_port};

use accounting::Accounting;
pub use rows::{JobRow, Minutes, Used, User};

/// How long its daemons may take to be there, together: seconds on an idle machine.
const START: Duration = Duration::from_secs(60);
/// A port that was free is seldom taken by somebody else before it is used.
const START_TRIES: u32 = 3;

/// The programs of a Slurm without accounting, and what accounting needs beside.
const PROGRAMS: [&str; 4] = ["slurmctld", "slurmd", "sbatch", "scancel"];
const ACCOUNTING_PROGRAMS: [&str; 5] = ["slurmdbd", "sacctmgr", "sreport", "munged", "mariadbd"];

/// What the one node declares, and whether usage is accounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    /// Processors.
    pub cpus: u32,
    /// GPUs: files that stand for devices.
    pub gpus: u32,
    /// Whether slurmdbd with MariaDB keeps accounts, and limits on them are enforced.
    pub accounting: bool,
}

/// A running private Slurm.
#[derive(Debug)]
pub struct Slurm {
    node: Spawned,
    controller: Spawned,
    accounting: Option<Accounting>,
    folder: Folder,
}

/// The first program that is missing here.
#[must_use]
pub fn missing(accounting: bool) -> Option<&'static str> {
    let beside = ACCOUNTING_PROGRAMS.iter().filter(|_| accounting);
    PROGRAMS.iter().chain(beside).copied().find(|program| !is_on_path(program))
}

/// As `slurm-wlm 22.05.8`.
///
/// # Errors
/// It cannot be asked.
pub fn version() -> Result<String> {
    let output = Command::new("slurmctld").arg("-V").output().context("cannot start slurmctld")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What became of one start.
enum Start {
    Up(Box<Slurm>),
    /// A daemon ended at once, as it does when somebody took its port.
    Ended(String),
}

impl Slurm {
    /// Starts it and waits until its node is idle.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub fn start(cluster: Cluster) -> Result<Self> {
        let mut why = String::new();
        for _ in 0..START_TRIES {
            match Self::try_start(cluster)? {
                Start::Up(slurm) => return Ok(*slurm),
                Start::Ended(daemon) => why = daemon,
            }
        }
        bail!("Slurm did not start {START_TRIES} times; the last time: {why}")
    }

    fn try_start(cluster: Cluster) -> Result<Start> {
        let folder = Folder::new();
        // Jobs of several users pass through it to the socket of munge.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        write_config(folder.path(), cluster)?;
        let mut accounting = match cluster.accounting {
            true => Some(Accounting::start(folder.path())?),
            false => None,
        };
        if let Some(ended) = accounting.as_mut().map(|it| it.register(folder.path())).transpose()?.flatten() {
            return Ok(Start::Ended(ended));
        }
        let config = folder.path().join("slurm.conf");
        let daemon = |program: &str, arguments: &[&str]| {
            let mut command = private(folder.path(), program);
            command.arg("-D").arg("-f").arg(&config).args(arguments);
            Spawned::start(program, command, folder.path())
        };
        let controller = daemon("slurmctld", &[]);
        let node = daemon("slurmd", &["-N", "localhost"]);
        let mut slurm = Self { node, controller, accounting, folder };
        let up = wait_until("Slurm's node to be idle", START, || {
            if let Some(ended) = slurm.ended() {
                return Ok(Some(ended));
            }
            let state = slurm.client("sinfo").args(["-h", "-o", "%T"]).output();
            let state = state.map_err(|error| error.to_string())?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            if state == "idle" { Ok(None) } else { Err(format!("it is `{state}`")) }
        })?;
        Ok(up.map_or_else(|| Start::Up(Box::new(slurm)), Start::Ended))
    }

    /// A daemon that has ended, with the last that it wrote.
    fn ended(&mut self) -> Option<String> {
        let daemons = [("slurmctld", &mut self.controller), ("slurmd", &mut self.node)];
        let accounting = self.accounting.as_mut().and_then(Accounting::ended);
        accounting.or_else(|| daemons.into_iter().find_map(said_at_end))
    }

    /// A client program of this Slurm, told its times in seconds since 1970.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        private(self.folder.path(), program)
    }

    /// Runs a client program and gives what it wrote.
    ///
    /// # Errors
    /// It cannot be started, or ended badly: with what it wrote to stderr.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output_of(self.client(program).args(arguments))
    }

    /// Where its configuration, state and logs lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.node.kill();
        self.controller.kill();
    }
}

/// The name of a daemon that has ended and the last that it wrote.
fn said_at_end((name, daemon): (&str, &mut Spawned)) -> Option<String> {
    let status = daemon.ended()?;
    let said = daemon.stderr();
    Some(format!("{name} ended ({status}): {}", said.lines().next_back().unwrap_or_default()))
}

/// A program that finds the Slurm of this folder, in UTC.
fn private(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("SLURM_CONF", folder.join("slurm.conf")).env("TZ", "UTC").env("SLURM_TIME_FORMAT", "%s");
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// What a program wrote to stdout.
///
/// # Errors
/// It cannot be started, or ended badly: with what it wrote to stderr.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let Output { status, stdout, stderr } = output;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{:?} ended with {status}: {}", command.get_program(), said.trim());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Who runs the tests: Slurm's own user here.
fn me() -> Result<String> {
    Ok(output_of(Command::new("id").arg("-un"))?.trim().to_owned())
}

fn write_config(folder: &Path, cluster: Cluster) -> Result<()> {
    for name in ["state", "spool", "jobs"] {
        fs::create_dir(folder.join(name)).context("a folder for Slurm")?;
    }
    fs::set_permissions(folder.join("jobs"), fs::Permissions::from_mode(0o777))?;
    for gpu in 0..cluster.gpus {
        fs::write(folder.join(format!("gpu{gpu}")), "")?;
    }
    let (at, me) = (folder.display(), me()?);
    let (controller, node) = (free_port(), free_port());
    let (cpus, gpus) = (cluster.cpus, cluster.gpus);
    let accounts = match cluster.accounting {
        true => accounting::write_config(folder, &me)?,
        false => "AuthType=auth/none\nCredType=cred/none\nAccountingStorageType=accounting_storage/none\n\
                  MaxJobCount=100000\n"
            .to_owned(),
    };
    let config = format!(
        "ClusterName=private\nSlurmctldHost=localhost\nSlurmctldPort={controller}\nSlurmdPort={node}\n\
         ProctrackType=proctrack/pgid\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
         SelectTypeParameters=CR_Core\nSlurmUser={me}\nSlurmdUser={me}\nSlurmdParameters=config_overrides\n\
         StateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool\nSlurmctldPidFile={at}/ctld.pid\n\
         SlurmdPidFile={at}/d.pid\nSlurmctldLogFile={at}/ctld.log\nSlurmdLogFile={at}/d.log\nGresTypes=gpu\n\
         ReturnToService=2\nSwitchType=switch/none\nMpiDefault=none\nJobAcctGatherType=jobacct_gather/none\n\
         {accounts}NodeName=localhost CPUs={cpus} Gres=gpu:{gpus} State=UNKNOWN\n\
         PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
    );
    fs::write(folder.join("slurm.conf"), config)?;
    let last = gpus.saturating_sub(1);
    fs::write(folder.join("gres.conf"), format!("NodeName=localhost Name=gpu File={at}/gpu[0-{last}]\n"))?;
    Ok(())
}
