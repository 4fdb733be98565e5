//! Making, reading and removing the folder of a part.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use serde::de::DeserializeOwned;

use crate::part::{
    CTL, EXIT, ExitRecord, PartKey, SPEC, Spec, TRACE, WORK, read_json, to_json, write_atomically,
};

/// What the name of a folder on its way out begins with.
const LEAVING: &str = ".gone-";
/// Size at which the node's trace is put aside; the one before it is dropped.
const TRACE_BYTES: u64 = 16 * 1024 * 1024;

/// Makes the folder with everything that a supervisor needs but the lease.
pub(super) fn make(folder: &Path, spec: &Spec) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::create_dir(folder.join(WORK))?;
    mkfifoat(CWD, folder.join(CTL), Mode::RUSR | Mode::WUSR)?;
    fs::write(folder.join(SPEC), to_json(spec))
}

/// Wakes the supervisor. Where none listens, or the pipe is full of earlier wakes, nothing is lost.
pub(super) fn poke(folder: &Path) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(fifo) = rustix::fs::open(folder.join(CTL), flags, Mode::empty()) {
        rustix::io::write(fifo, b"!").ok();
    }
}

/// Reads a file of the folder. One that a crash of the machine left half-written counts as absent.
pub(super) fn read_or_none<T: DeserializeOwned>(path: &Path) -> Option<T> {
    read_json(path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "a file of a part cannot be read; it counts as absent");
        None
    })
}

/// Writes down an end and returns it.
pub(super) fn record_end(folder: &Path, record: ExitRecord) -> ExitRecord {
    if let Err(error) = write_atomically(&folder.join(EXIT), &to_json(&record)) {
        tracing::error!(path = %folder.display(), %error, "the end of a part cannot be written down");
    }
    record
}

/// Whether a folder's removal was interrupted.
pub(super) fn is_leftover(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(LEAVING)
}

/// Removes a part's folder. It is renamed first, so that half of it is never taken for a part.
pub(super) fn remove(runs: &Path, part: PartKey) -> io::Result<()> {
    let leaving = runs.join(format!("{LEAVING}{part}"));
    match fs::rename(runs.join(part.to_string()), &leaving) {
        Ok(()) => finish_removal(&leaving),
        // A part that could not even get a folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Keeps the trace of a renamed folder and removes the rest.
pub(super) fn finish_removal(leaving: &Path) -> io::Result<()> {
    if let Ok(trace) = fs::read(leaving.join(TRACE))
        && let Some(state) = leaving.parent().and_then(Path::parent)
    {
        let whole = state.join(TRACE);
        if fs::metadata(&whole).is_ok_and(|file| file.len() > TRACE_BYTES) {
            fs::rename(&whole, whole.with_added_extension("1"))?;
        }
        OpenOptions::new().append(true).create(true).open(&whole)?.write_all(&trace)?;
    }
    fs::remove_dir_all(leaving)
}
