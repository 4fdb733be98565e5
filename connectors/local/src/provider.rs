//! The provider behind the connector: what each call does to the state folder, without a bound or an await.
//!
//! Every decision is taken under the folder's lock, and a machine is started under it too: once a record says
//! that its instance stops, no process of it can appear.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use spillway_connector_api::{
    Catalogue, ConnectorError, LaunchError, LaunchRequest, Launched, ObservedInstance, Offer,
};
use spillway_types::{DurationMs, InstanceType, SiteName};

use crate::cloud::LocalConfig;
use crate::fault::FaultKind;
use crate::machine::update;
use crate::record::{Phase, Record};
use crate::store::{Locked, Store, StoreError};
use crate::{INSTANCE_VARIABLE, clock, process};

/// What a machine sees of the broker's environment. Nothing else: a cloud's machine has no broker's secrets.
const PASSED_VARIABLES: [&str; 8] =
    ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE"];

/// What to do about a terminate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing: it is gone, or never was.
    Done,
    /// Its record says that it stops; its processes are to be ended.
    Stopping,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) config: LocalConfig,
    pub(crate) store: Store,
}

impl Provider {
    pub(crate) fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        if request.deployment != self.config.deployment {
            let message = format!("the request is for deployment `{}`, not for this one", request.deployment);
            return Err(LaunchError::Refused { message });
        }
        let doubt = |error: StoreError| LaunchError::Ambiguous { message: error.with_cause() };
        let locked = self.store.lock().map_err(doubt)?;
        let id = self.store.provider_id(request).map_err(doubt)?;
        let launched = match locked.load(&id).map_err(doubt)? {
            Some(record) => self.launch_again(&locked, record, request)?,
            None => self.launch_new(&locked, id, request)?,
        };
        let lost = locked.take_fault(Some(&request.region), |kind| kind == FaultKind::TimeoutAfterLaunch);
        match lost.map_err(doubt)? {
            Some(_) => Err(LaunchError::Ambiguous { message: "the answer was lost (injected)".to_owned() }),
            None => Ok(launched),
        }
    }

    /// The same instance, and its machine, should that never have come to be.
    fn launch_again(
        &self,
        locked: &Locked,
        mut record: Record,
        request: &LaunchRequest,
    ) -> Result<Launched, LaunchError> {
        let doubt = |message| LaunchError::Ambiguous { message };
        let alive = refresh(locked, &mut record).map_err(|error| doubt(error.with_cause()))?;
        match record.phase {
            Phase::Stopping | Phase::Ended { .. } => return Err(LaunchError::AlreadyEnded),
            Phase::Created | Phase::Running if record.request != *request => {
                return Err(LaunchError::Conflict);
            }
            Phase::Created if alive == Alive::No => self.start_machine(&record).map_err(doubt)?,
            Phase::Created | Phase::Running => {}
        }
        Ok(record.launched())
    }

    fn launch_new(
        &self,
        locked: &Locked,
        provider_id: String,
        request: &LaunchRequest,
    ) -> Result<Launched, LaunchError> {
        let doubt = |error: StoreError| LaunchError::Ambiguous { message: error.with_cause() };
        let refused = |message: String| LaunchError::Refused { message };
        let (region, shape) = (&request.region, &request.instance_type);
        let offer = self.config.catalogue.offer(region, shape).ok_or_else(|| {
            refused(format!("there is no `{shape}` in `{region}`; the catalogue lists what there is"))
        })?;
        let fault = |kind| locked.take_fault(Some(region), move |set| set == kind);
        if fault(FaultKind::Refuse).map_err(doubt)?.is_some() {
            return Err(refused("as it was told to (injected)".to_owned()));
        }
        let full = left(&refreshed(locked).map_err(doubt)?, region, offer) == Some(0);
        if full || fault(FaultKind::NoCapacity).map_err(doubt)?.is_some() {
            return Err(LaunchError::NoCapacity);
        }
        let slow = locked.take_fault(Some(region), |set| matches!(set, FaultKind::SlowBoot { .. }));
        let extra = match slow.map_err(doubt)? {
            Some(FaultKind::SlowBoot { extra }) => extra,
            Some(_) | None => DurationMs(0),
        };
        let record = Record {
            provider_id,
            request: request.clone(),
            launched_at: clock::now(),
            boot: DurationMs(offer.boot.0.saturating_add(extra.0)),
            capacity: offer.capacity.clone(),
            agent_command: self.config.agent_command.clone(),
            dead_man: self.config.dead_man,
            phase: Phase::Created,
            interrupt_at: None,
        };
        locked.save(&record).map_err(doubt)?;
        if let Err(message) = self.start_machine(&record) {
            // Nothing was started, so forgetting it makes the refusal true.
            locked.remove(&record.provider_id).map_err(doubt)?;
            return Err(refused(message));
        }
        Ok(record.launched())
    }

    /// Starts the machine process. When this returns, the process carries the instance's variable.
    fn start_machine(&self, record: &Record) -> Result<(), String> {
        let dir = self.store.machine_dir(&record.provider_id);
        let (program, first) =
            self.config.machine_command.split_first().ok_or("no machine command is set")?;
        let failed = |error: std::io::Error| format!("the machine `{program}` could not be started: {error}");
        let log = open_log(&dir.join("machine.log")).map_err(failed)?;
        let passed = PASSED_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut machine = Command::new(program)
            .args(first)
            .arg(&dir)
            .env_clear()
            .envs(passed)
            .env(INSTANCE_VARIABLE, &record.provider_id)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        // It outlives this process; while both live, somebody has to collect its exit status. Without the
        // thread a dead entry stays in the process table until this process ends, which harms nothing.
        drop(std::thread::Builder::new().name("machine-exit".to_owned()).spawn(move || machine.wait()));
        Ok(())
    }

    pub(crate) fn list(&self) -> Result<Vec<ObservedInstance>, ConnectorError> {
        let locked = self.store.lock().map_err(|error| unavailable(&error))?;
        if locked
            .take_fault(None, |kind| kind == FaultKind::ListError)
            .map_err(|error| unavailable(&error))?
            .is_some()
        {
            return Err(injected());
        }
        let mut shown = Vec::new();
        for mut record in refreshed(&locked).map_err(|error| unavailable(&error))? {
            if record.request.deployment != self.config.deployment {
                continue;
            }
            announce_interruption(&locked, &mut record).map_err(|error| unavailable(&error))?;
            shown.extend(record.observed(clock::now()));
        }
        Ok(shown)
    }

    /// First half of a terminate: from here on no process of the instance can start.
    pub(crate) fn begin_ending(&self, region: &SiteName, id: &str) -> Result<Ending, ConnectorError> {
        // Such an id was never given out, and must not become a path.
        if !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') || id.is_empty() {
            return Ok(Ending::Done);
        }
        let locked = self.store.lock().map_err(|error| unavailable(&error))?;
        let Some(mut record) = locked.load(id).map_err(|error| unavailable(&error))? else {
            return Ok(Ending::Done);
        };
        if record.request.deployment != self.config.deployment {
            let message = format!("{id} belongs to another deployment");
            return Err(ConnectorError::Refused { message });
        }
        if record.request.region != *region {
            let message = format!("{id} is in `{}`, not in `{region}`", record.request.region);
            return Err(ConnectorError::Refused { message });
        }
        let fault = locked.take_fault(Some(region), |kind| kind == FaultKind::TerminateError);
        if fault.map_err(|error| unavailable(&error))?.is_some() {
            return Err(injected());
        }
        if record.has_ended() {
            return Ok(Ending::Done);
        }
        record.phase = Phase::Stopping;
        locked.save(&record).map_err(|error| unavailable(&error))?;
        Ok(Ending::Stopping)
    }

    /// Second half of a terminate, when no process of the instance is left.
    pub(crate) fn finish_ending(&self, id: &str) -> Result<(), ConnectorError> {
        let locked = self.store.lock().map_err(|error| unavailable(&error))?;
        update(&locked, id, |record| record.end(clock::now(), "it was terminated"))
            .map_err(|error| unavailable(&error))
    }

    pub(crate) fn catalogue(&self) -> Result<Catalogue, ConnectorError> {
        let locked = self.store.lock().map_err(|error| unavailable(&error))?;
        let records = refreshed(&locked).map_err(|error| unavailable(&error))?;
        let mut catalogue = self.config.catalogue.catalogue().clone();
        for region in &mut catalogue.regions {
            for offer in &mut region.offers {
                offer.available = left(&records, &region.name, offer);
            }
        }
        Ok(catalogue)
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn unavailable(error: &StoreError) -> ConnectorError {
    ConnectorError::Unavailable { message: error.with_cause() }
}

fn injected() -> ConnectorError {
    ConnectorError::Unavailable { message: "as it was told to be (injected)".to_owned() }
}

/// How many more could be launched; none where there is no limit.
fn left(records: &[Record], region: &SiteName, offer: &Offer) -> Option<u32> {
    let same = |shape: &InstanceType, place: &SiteName| *shape == offer.instance_type && place == region;
    let live = records
        .iter()
        .filter(|r| !r.has_ended() && same(&r.request.instance_type, &r.request.region))
        .count();
    offer.available.map(|limit| limit.saturating_sub(u32::try_from(live).unwrap_or(u32::MAX)))
}

/// Whether an instance's machine process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alive {
    Yes,
    No,
}

/// Brings a record up to what the processes show: a machine that was lost takes its instance with it once
/// nothing of the instance is left.
fn refresh(locked: &Locked, record: &mut Record) -> Result<Alive, StoreError> {
    match record.phase {
        Phase::Ended { .. } => return Ok(Alive::No),
        Phase::Created | Phase::Running | Phase::Stopping => {}
    }
    if locked.occupy(&record.provider_id)?.is_none() {
        return Ok(Alive::Yes);
    }
    if record.phase != Phase::Created && !process::any_left(&record.provider_id) {
        record.end(clock::now(), "its machine was lost");
        locked.save(record)?;
    }
    Ok(Alive::No)
}

fn refreshed(locked: &Locked) -> Result<Vec<Record>, StoreError> {
    let mut records = locked.load_all()?;
    for record in &mut records {
        refresh(locked, record)?;
    }
    Ok(records)
}

/// Applies an injected interruption to a running instance that has none.
fn announce_interruption(locked: &Locked, record: &mut Record) -> Result<(), StoreError> {
    if record.phase != Phase::Running || record.interrupt_at.is_some() {
        return Ok(());
    }
    let wanted = |kind| matches!(kind, FaultKind::Interrupt { .. });
    if let Some(FaultKind::Interrupt { after }) = locked.take_fault(Some(&record.request.region), wanted)? {
        record.interrupt_at = Some(clock::now().plus(after));
        locked.save(record)?;
    }
    Ok(())
}
