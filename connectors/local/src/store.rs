//! The state folder: one lock, one folder for each instance, and durable writes.
//!
//! ```text
//! STATE_DIR/lock                     held for every change and every look that decides something
//! STATE_DIR/cloud-id                 random; makes provider ids differ between state folders
//! STATE_DIR/faults.toml              faults to show
//! STATE_DIR/machines/<provider id>/  record.json, machine.lock, machine.log, inventory.toml, agent.log, agent/
//! ```
//! Invariant: a record is replaced whole, by a rename after its bytes are on the disk.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use spillway_connector_api::LaunchRequest;

use crate::fault::{self, FAULTS_FILE, Fault};
use crate::record::Record;

const RECORD_FILE: &str = "record.json";

/// The state folder could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} could not be {action}")]
pub struct StoreError {
    action: &'static str,
    path: String,
    source: io::Error,
}

impl StoreError {
    fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.display().to_string(), source }
    }

    /// The error with its cause, for a message that has no place for a source.
    pub(crate) fn with_cause(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// A state folder.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

/// A state folder whose lock is held, until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Locked {
    store: Store,
    _lock: File,
}

impl Store {
    /// The folder of a cloud that was opened before.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Makes the folder where it is not there.
    pub(crate) fn create(root: &Path) -> Result<Self, StoreError> {
        let machines = root.join("machines");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&machines)
            .map_err(|source| StoreError::new("made", &machines, source))?;
        let root = root.canonicalize().map_err(|source| StoreError::new("found", root, source))?;
        let store = Self { root };
        let locked = store.lock()?;
        if !store.root.join("cloud-id").exists() {
            let mut id = [0; 16];
            let entropy = getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()));
            entropy.map_err(|source| StoreError::new("filled", &store.root.join("cloud-id"), source))?;
            write_durably(&store.root.join("cloud-id"), hex::encode(id).as_bytes())?;
        }
        drop(locked);
        Ok(store)
    }

    /// The folder, absolute.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where an instance's files are.
    pub(crate) fn machine_dir(&self, provider_id: &str) -> PathBuf {
        self.root.join("machines").join(provider_id)
    }

    /// The only id that an instance of this intent can have here.
    pub(crate) fn provider_id(&self, request: &LaunchRequest) -> Result<String, StoreError> {
        let path = self.root.join("cloud-id");
        let cloud = std::fs::read(&path).map_err(|source| StoreError::new("read", &path, source))?;
        let mut hash = Sha256::new();
        hash.update(cloud);
        hash.update(request.intent.uuid().as_bytes());
        hash.update(request.deployment.as_bytes());
        let digest = hex::encode(hash.finalize());
        Ok(format!("i-{}", digest.chars().take(17).collect::<String>()))
    }

    /// Waits for the lock. The holder never waits for anything else, so this is short.
    pub(crate) fn lock(&self) -> Result<Locked, StoreError> {
        let path = self.root.join("lock");
        let lock = open_lock(&path).and_then(|file| file.lock().map(|()| file));
        let lock = lock.map_err(|source| StoreError::new("locked", &path, source))?;
        Ok(Locked { store: self.clone(), _lock: lock })
    }

    /// A look at a record that decides nothing final; whole, but perhaps already replaced.
    pub(crate) fn peek(&self, provider_id: &str) -> Result<Option<Record>, StoreError> {
        let path = self.machine_dir(provider_id).join(RECORD_FILE);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes).map_err(io::Error::from);
        record.map(Some).map_err(|source| StoreError::new("understood", &path, source))
    }
}

impl Locked {
    /// The instance's record; none where there is no such instance.
    pub(crate) fn load(&self, provider_id: &str) -> Result<Option<Record>, StoreError> {
        self.store.peek(provider_id)
    }

    /// Every record, ordered by provider id.
    pub(crate) fn load_all(&self) -> Result<Vec<Record>, StoreError> {
        let path = self.store.root.join("machines");
        let names = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&path)? {
                names.extend(entry?.file_name().into_string());
            }
            names.sort();
            Ok(names)
        };
        let names = names().map_err(|source| StoreError::new("listed", &path, source))?;
        let mut records = Vec::new();
        for name in names {
            records.extend(self.load(&name)?);
        }
        Ok(records)
    }

    /// Writes a record durably, and makes its folder where it is not there.
    pub(crate) fn save(&self, record: &Record) -> Result<(), StoreError> {
        let dir = self.store.machine_dir(&record.provider_id);
        let made = DirBuilder::new().mode(0o700).create(&dir);
        match made {
            Ok(()) => sync_dir(&self.store.root.join("machines"))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::new("made", &dir, source)),
        }
        let path = dir.join(RECORD_FILE);
        let bytes = serde_json::to_vec_pretty(record).map_err(io::Error::from);
        write_durably(&path, &bytes.map_err(|source| StoreError::new("encoded", &path, source))?)
    }

    /// Forgets an instance of which nothing was ever started.
    pub(crate) fn remove(&self, provider_id: &str) -> Result<(), StoreError> {
        let dir = self.store.machine_dir(provider_id);
        std::fs::remove_dir_all(&dir).map_err(|source| StoreError::new("removed", &dir, source))
    }

    /// Takes the lock that shows that a machine process lives; none where one lives already.
    pub(crate) fn occupy(&self, provider_id: &str) -> Result<Option<File>, StoreError> {
        let path = self.store.machine_dir(provider_id).join("machine.lock");
        let file = open_lock(&path).map_err(|source| StoreError::new("opened", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::new("locked", &path, source)),
        }
    }

    pub(crate) fn faults(&self) -> Result<Vec<Fault>, StoreError> {
        let path = self.store.root.join(FAULTS_FILE);
        let Some(bytes) = read_if_there(&path)? else { return Ok(Vec::new()) };
        let faults = fault::parse(&String::from_utf8_lossy(&bytes)).map_err(io::Error::other);
        faults.map_err(|source| StoreError::new("understood", &path, source))
    }

    pub(crate) fn save_faults(&self, faults: &[Fault]) -> Result<(), StoreError> {
        let path = self.store.root.join(FAULTS_FILE);
        let text = fault::print(faults).map_err(io::Error::other);
        write_durably(&path, text.map_err(|source| StoreError::new("encoded", &path, source))?.as_bytes())
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::new("read", path, source)),
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    write().map_err(|source| StoreError::new("written", path, source))?;
    path.parent().map_or(Ok(()), sync_dir)
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(|source| StoreError::new("synced", dir, source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::record::tests::record;

    #[test]
    fn records_are_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path()).unwrap();
        let locked = store.lock().unwrap();
        for id in ["i-2", "i-1"] {
            locked.save(&record(id)).unwrap();
        }
        assert_eq!(locked.load_all().unwrap(), [record("i-1"), record("i-2")]);
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.machine_dir("i-1")), 0o700);
        assert_eq!(mode(store.machine_dir("i-1").join(RECORD_FILE)), 0o600);
        std::fs::write(store.machine_dir("i-1").join(RECORD_FILE), "{").unwrap();
        let error = locked.load_all().unwrap_err();
        assert!(error.to_string().contains("i-1/record.json could not be understood"), "{error}");
    }

    #[test]
    fn an_intent_has_one_id_and_another_folder_or_deployment_another() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let request = record("x").request;
        let id = Store::create(dirs[0].path()).unwrap().provider_id(&request).unwrap();
        assert_eq!(Store::create(dirs[0].path()).unwrap().provider_id(&request).unwrap(), id);
        assert_ne!(Store::create(dirs[1].path()).unwrap().provider_id(&request).unwrap(), id);
        let foreign = LaunchRequest { deployment: "other".into(), ..request };
        assert_ne!(Store::at(dirs[0].path()).provider_id(&foreign).unwrap(), id);
    }

    #[test]
    fn one_machine_occupies_an_instance() {
        let dir = tempfile::tempdir().unwrap();
        let locked = Store::create(dir.path()).unwrap().lock().unwrap();
        locked.save(&record("i-1")).unwrap();
        let held = locked.occupy("i-1").unwrap();
        assert!(held.is_some() && locked.occupy("i-1").unwrap().is_none());
        drop(held);
        assert!(locked.occupy("i-1").unwrap().is_some());
    }
}
