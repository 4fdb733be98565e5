//! The machine process of one instance: boots, runs the agent, powers off.
//!
//! It holds the instance's lock for as long as it lives, and looks at the instance's record several times a
//! second: a record that says stop, an announced end that has come, or a record that is gone (somebody removed
//! the cloud's folder) all mean power off. An agent that ends by itself means power off too: it was revoked. An
//! agent that was killed is started again, unless that goes on for the dead-man time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};

use serde::Serialize;
use spillway_types::{DurationMs, GpuModel};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::clock;
use crate::process;
use crate::record::{Phase, Record};
use crate::store::{Locked, Store, StoreError};
use crate::{INSTANCE_VARIABLE, TOKEN_VARIABLE};

/// How often the record is looked at.
const LOOK_EVERY: DurationMs = DurationMs(100);
/// Pause before a killed agent is started again.
const RESTART_PAUSE: DurationMs = DurationMs(500);

/// Why a machine process could not do its work.
#[derive(Debug, thiserror::Error)]
enum MachineError {
    #[error("{0} is not the folder of an instance")]
    NotAnInstance(PathBuf),
    #[error("the state folder is not usable")]
    Store(#[from] StoreError),
    #[error("the agent `{program}` could not be started")]
    Agent { program: String, source: io::Error },
    #[error("the machine's own files could not be written")]
    Files(#[source] io::Error),
}

/// Runs the instance in this folder (`STATE_DIR/machines/<provider id>`) until it has powered off, and must be
/// given a process of its own: the entry of a hidden subcommand. May be called inside an async runtime.
#[must_use]
pub fn machine_main(dir: &Path) -> ExitCode {
    let result = std::thread::scope(|scope| scope.spawn(|| run_blocking(dir)).join());
    let said = match result {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => describe(&error),
        Err(_) => "the machine process panicked".to_owned(),
    };
    // Standard error is the machine's log file; there is nobody else to tell.
    drop(writeln!(io::stderr(), "{said}"));
    ExitCode::FAILURE
}

fn describe(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", describe(source)))
}

fn run_blocking(dir: &Path) -> Result<(), MachineError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MachineError::Files)?;
    runtime.block_on(async {
        let Some(machine) = Machine::power_on(dir)? else { return Ok(()) };
        let because = machine.live().await;
        machine.power_off(&because).await
    })
}

struct Machine {
    store: Store,
    dir: PathBuf,
    /// As it was at power-on.
    record: Record,
    _occupied: File,
}

impl Machine {
    /// Takes the instance; none where another process has it or it is not to be started any more.
    fn power_on(dir: &Path) -> Result<Option<Self>, MachineError> {
        // Fails only where this process leads a group already; then it has a session to itself anyway.
        rustix::process::setsid().ok();
        let not_an_instance = || MachineError::NotAnInstance(dir.to_owned());
        let root = dir.parent().and_then(Path::parent).ok_or_else(not_an_instance)?;
        let name = dir.file_name().and_then(|name| name.to_str()).ok_or_else(not_an_instance)?;
        let store = Store::at(root);
        let locked = store.lock()?;
        let record = match locked.load(name)? {
            None => return Err(not_an_instance()),
            Some(record) if record.phase != Phase::Created => return Ok(None),
            Some(record) => record,
        };
        let Some(occupied) = locked.occupy(name)? else { return Ok(None) };
        Ok(Some(Self { store, dir: dir.to_owned(), record, _occupied: occupied }))
    }

    /// Lives until there is a reason to power off, which it returns.
    async fn live(&self) -> String {
        tokio::select! {
            reason = self.order() => reason,
            reason = self.work() => reason.unwrap_or_else(|error| describe(&error)),
        }
    }

    /// Waits until the record says that the machine is to power off.
    async fn order(&self) -> String {
        loop {
            tokio::time::sleep(LOOK_EVERY.to_std()).await;
            match self.store.peek(&self.record.provider_id) {
                Ok(None) => return "its record was removed".to_owned(),
                Ok(Some(Record { phase: Phase::Stopping | Phase::Ended { .. }, .. })) => {
                    return "it was terminated".to_owned();
                }
                Ok(Some(Record { interrupt_at: Some(at), .. })) if at <= clock::now() => {
                    return "it was taken back, as announced".to_owned();
                }
                // A record that cannot be read now is looked at again: guessing would end healthy work.
                Ok(Some(_)) | Err(_) => {}
            }
        }
    }

    /// Boots and keeps the agent running.
    async fn work(&self) -> Result<String, MachineError> {
        tokio::time::sleep(self.record.boot.to_std()).await;
        write_private(&self.dir.join("inventory.toml"), &inventory(&self.record))
            .map_err(MachineError::Files)?;
        self.update(|record| {
            if record.phase == Phase::Created {
                record.phase = Phase::Running;
            }
        })?;
        let mut failing_since: Option<Instant> = None;
        loop {
            let started = Instant::now();
            let mut agent = self.start_agent()?;
            let status = agent.wait().await.map_err(MachineError::Files)?;
            if let Some(code) = status.code() {
                return Ok(format!("its agent ended with code {code}"));
            }
            if started.elapsed() >= self.record.dead_man.to_std() {
                failing_since = None;
            }
            if failing_since.get_or_insert(started).elapsed() >= self.record.dead_man.to_std() {
                return Ok(format!("its agent was killed again and again, at last with {}", shown(status)));
            }
            tokio::time::sleep(RESTART_PAUSE.to_std()).await;
        }
    }

    fn start_agent(&self) -> Result<Child, MachineError> {
        let (program, first) = self.record.agent_command.split_first().map_or(("", &[][..]), |(p, f)| (p, f));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.dir.join("agent.log"))
            .map_err(MachineError::Files)?;
        let request = &self.record.request;
        Command::new(program)
            .args(first)
            .args(["--broker", &request.broker_addr, "--ca-fingerprint", &request.ca_fingerprint, "--state"])
            .arg(self.dir.join("agent"))
            .arg("--inventory")
            .arg(self.dir.join("inventory.toml"))
            .env(INSTANCE_VARIABLE, &self.record.provider_id)
            .env(TOKEN_VARIABLE, request.join_token.expose())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(MachineError::Files)?)
            .stderr(log)
            .spawn()
            .map_err(|source| MachineError::Agent { program: program.to_owned(), source })
    }

    /// Ends everything of the instance but this process, then says so in the record.
    async fn power_off(&self, because: &str) -> Result<(), MachineError> {
        let stopping = self.update(|record| {
            if !record.has_ended() {
                record.phase = Phase::Stopping;
            }
        });
        // Whatever became of the record: what costs and runs is ended first.
        process::end_all(&self.store, &self.record.provider_id).await;
        stopping?;
        self.update(|record| record.end(clock::now(), because))
    }

    /// Changes the record, where it is still there.
    fn update(&self, change: impl FnOnce(&mut Record)) -> Result<(), MachineError> {
        let Ok(locked) = self.store.lock() else { return Ok(()) };
        update(&locked, &self.record.provider_id, change)?;
        Ok(())
    }
}

/// Changes a record; nothing where it is not there.
pub(crate) fn update(
    locked: &Locked,
    provider_id: &str,
    change: impl FnOnce(&mut Record),
) -> Result<(), StoreError> {
    let Some(mut record) = locked.load(provider_id)? else { return Ok(()) };
    change(&mut record);
    locked.save(&record)
}

fn shown(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[derive(Serialize)]
struct InventoryFile {
    hostname: String,
    cpus: u32,
    memory: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gpus: Vec<InventoryGpus>,
}

#[derive(Serialize)]
struct InventoryGpus {
    model: GpuModel,
    count: usize,
    memory: String,
}

/// What the agent declares. All accelerators of a type in the catalogue are alike.
fn inventory(record: &Record) -> String {
    let capacity = &record.capacity;
    let gpus = capacity.accelerators.first().map(|first| InventoryGpus {
        model: first.model.clone(),
        count: capacity.accelerators.len(),
        memory: format!("{}MB", first.memory_mib),
    });
    let file = InventoryFile {
        hostname: record.provider_id.clone(),
        cpus: capacity.cpus_milli / 1000,
        memory: format!("{}MB", capacity.memory_mib),
        gpus: gpus.into_iter().collect(),
    };
    toml::to_string(&file).expect("texts and small numbers are always TOML")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalCatalogue;
    use crate::record::tests::record;

    #[test]
    fn the_inventory_declares_what_the_catalogue_promised() {
        let text = "[[regions]]\nname = \"r\"\n[[regions.types]]\nname = \"t\"\ngpus = \"H100:2\"\n\
                    gpu_memory = \"80GB\"\ncpus = 4\nmemory = \"1GB\"\nprice = \"1\"";
        let catalogue: LocalCatalogue = text.parse().unwrap();
        let mut record = record("i-1");
        record.capacity = catalogue.catalogue().regions[0].offers[0].capacity.clone();
        let expected = "hostname = \"i-1\"\ncpus = 4\nmemory = \"1024MB\"\n\n[[gpus]]\nmodel = \"H100\"\n\
                        count = 2\nmemory = \"81920MB\"\n";
        assert_eq!(inventory(&record), expected);
    }
}
