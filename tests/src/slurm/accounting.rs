//! Accounting of a private Slurm: munge with a key of its own, MariaDB on a socket of its own, and slurmdbd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::wait::wait_until;

use super::{START, me, output_of, private, said_at_end};
use crate::process::{Spawned, free_port};

/// The tables of the server itself, of the same package as the server.
const SYSTEM_TABLES: &str = "/usr/share/mysql/mysql_system_tables.sql";

/// Its daemons.
#[derive(Debug)]
pub(super) struct Accounting {
    keeper: Spawned,
    database: Spawned,
    munge: Spawned,
}

/// Writes slurmdbd's configuration and gives the lines for Slurm's own.
///
/// Usage does not decay and is worked out anew only when a job ends (the period is an hour), so that what the
/// controller says between two events does not depend on when it is asked. The scheduler looks every second.
pub(super) fn write_config(folder: &Path, me: &str) -> Result<String> {
    for (name, mode) in [("database", 0o700), ("key", 0o700), ("socket", 0o711)] {
        fs::create_dir(folder.join(name)).context("a folder for accounting")?;
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode))?;
    }
    let key = fs::read("/proc/sys/kernel/random/uuid").context("randomness for a key")?;
    // munge wants 32 bytes at least; this is the text of an id, 36.
    fs::write(folder.join("key/munge.key"), key)?;
    fs::set_permissions(folder.join("key/munge.key"), fs::Permissions::from_mode(0o600))?;
    let (at, port) = (folder.display(), free_port());
    let keeper = format!(
        "AuthType=auth/munge\nAuthInfo=socket={at}/socket/munge\nDbdHost=localhost\nDbdPort={port}\nSlurmUser={me}\n\
         StorageType=accounting_storage/mysql\nStorageHost=localhost\nStorageUser={me}\nStorageLoc=slurm\n\
         LogFile={at}/dbd.log\nPidFile={at}/dbd.pid\n"
    );
    fs::write(folder.join("slurmdbd.conf"), keeper)?;
    fs::set_permissions(folder.join("slurmdbd.conf"), fs::Permissions::from_mode(0o600))?;
    Ok(format!(
        "AuthType=auth/munge\nAuthInfo=socket={at}/socket/munge\nCredType=cred/munge\nKillWait=1\n\
         AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n\
         AccountingStoragePort={port}\nAccountingStoragePass={at}/socket/munge\nAccountingStorageTRES=gres/gpu\n\
         AccountingStorageEnforce=associations,limits,safe\nPriorityType=priority/multifactor\n\
         PriorityDecayHalfLife=0\nPriorityUsageResetPeriod=NONE\nPriorityCalcPeriod=60\n\
         SchedulerParameters=sched_interval=1,bf_interval=1\n"
    ))
}

impl Accounting {
    /// Starts munge, MariaDB and slurmdbd; their configuration is written.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let at = folder.display();
        let mut munge = Command::new("munged");
        munge.arg("-F").args([
            format!("--socket={at}/socket/munge"),
            format!("--key-file={at}/key/munge.key"),
            format!("--pid-file={at}/key/munge.pid"),
            format!("--log-file={at}/key/munge.log"),
            format!("--seed-file={at}/key/munge.seed"),
        ]);
        let munge = Spawned::start("munged", munge, folder);
        make_tables(folder)?;
        let mut server = server(folder)?;
        server
            .arg(format!("--socket={at}/database/socket"))
            .args(["--skip-networking", "--skip-grant-tables"]);
        let database = Spawned::start("mariadbd", server, folder);
        for socket in ["socket/munge", "database/socket"] {
            wait_until(&format!("the socket {socket}"), START, || {
                if folder.join(socket).exists() { Ok(()) } else { Err("it is not there".to_owned()) }
            })?;
        }
        let mut keeper = private(folder, "slurmdbd");
        // What the client library takes for the server's socket, when it is to be on this machine.
        keeper.arg("-D").env("MYSQL_UNIX_PORT", folder.join("database/socket"));
        let keeper = Spawned::start("slurmdbd", keeper, folder);
        Ok(Self { keeper, database, munge })
    }

    /// Waits until slurmdbd answers, and registers the cluster. Gives a daemon that has ended instead.
    pub(super) fn register(&mut self, folder: &Path) -> Result<Option<String>> {
        let ended = wait_until("slurmdbd to answer", START, || {
            if let Some(ended) = self.ended() {
                return Ok(Some(ended));
            }
            let mut ask = private(folder, "sacctmgr");
            let answer = output_of(ask.args(["-i", "add", "cluster", "private"]));
            answer.map(|_| None).map_err(|error| format!("{error:#}"))
        })?;
        Ok(ended)
    }

    /// A daemon that has ended, with the last that it wrote.
    pub(super) fn ended(&mut self) -> Option<String> {
        let daemons =
            [("munged", &mut self.munge), ("mariadbd", &mut self.database), ("slurmdbd", &mut self.keeper)];
        daemons.into_iter().find_map(said_at_end)
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        for daemon in [&mut self.keeper, &mut self.database, &mut self.munge] {
            daemon.kill();
        }
    }
}

/// MariaDB on this folder, without the machine's settings, as small as slurmdbd can do with.
fn server(folder: &Path) -> Result<Command> {
    let mut command = Command::new("mariadbd");
    command.arg("--no-defaults").arg(format!("--datadir={}/database/data", folder.display()));
    // A folder that is thrown away need not survive a power cut.
    command.arg("--innodb-flush-log-at-trx-commit=0").arg("--innodb-buffer-pool-size=64M");
    command.arg(format!("--user={}", me()?)).current_dir(folder);
    Ok(command)
}

/// Makes the server's own tables; slurmdbd's procedures are kept in one of them.
fn make_tables(folder: &Path) -> Result<()> {
    let data = folder.join("database/data");
    fs::create_dir(&data)?;
    let tables = fs::read_to_string(SYSTEM_TABLES)
        .with_context(|| format!("cannot read {SYSTEM_TABLES} (Debian package mariadb-server-core)"))?;
    let script = folder.join("database/tables.sql");
    fs::write(&script, format!("create database mysql;\nuse mysql;\n{tables}"))?;
    let mut bootstrap = server(folder)?;
    bootstrap.args(["--bootstrap", "--skip-grant-tables"]).stdin(fs::File::open(&script)?);
    output_of(&mut bootstrap).map(drop)
}
