//! The lock beside a SQLite file: one broker at a time.
//!
//! It is the operating system's lock on `<file>.lock`, so it ends with the process, however that ends. The file
//! stays, because removing it would let two processes hold locks on two files of one name. It holds the number
//! of the process that has the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Locks the database file at `path`.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let database = || format!("database {}", path.display());
        let beside = beside(path);
        let failed =
            |error| StoreError::of_io(database(), &format!("cannot lock {}", beside.display()), error);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&beside);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Not knowing who it is does not change that somebody has it.
                let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if known { format!("process {}", holder.trim()) } else { "unknown".to_owned() };
                return Err(StoreError::Locked { database: database(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spillway.db");
        let lock = FileLock::take(&path).unwrap();
        let error = FileLock::take(&path).unwrap_err().to_string();
        let pid = format!("process {}", std::process::id());
        assert!(error.contains("spillway.db") && error.contains(&pid), "{error}");
        drop(lock);
        FileLock::take(&path).unwrap();
    }
}
