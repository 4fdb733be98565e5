//! Where a content lies in the cache.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use sha2::{Digest, Sha256};
use spillway_tunnel::protocol::Input;
use tokio_util::sync::CancellationToken;

/// What the name of a download that is not whole begins with.
const PARTIAL: &str = ".partial";
/// Bytes hashed at once.
const PIECE: usize = 1024 * 1024;

/// One version of a dataset: a folder of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    folder: PathBuf,
    name: String,
    partial: String,
}

impl Content {
    /// The content that an input names.
    pub(super) fn of(cache: &Path, input: &Input, boot: &str) -> Self {
        let name = input.dataset.to_string();
        let (version, partial) = match &input.sha256 {
            Some(hash) => (hash.to_string(), PARTIAL.to_owned()),
            None => (format!("{}-bytes", input.bytes), format!("{PARTIAL}-{boot}")),
        };
        Self { folder: cache.join(&name).join(version), name, partial }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that programs read.
    pub(super) fn whole(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// The file that is being downloaded.
    pub(super) fn partial(&self) -> PathBuf {
        self.folder.join(&self.partial)
    }

    /// Makes the folder, and removes what an earlier boot left half-done in it.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(PARTIAL) && name != *self.partial {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes what was downloaded the file that programs read, durable on return. They may not write to it.
    pub(super) fn seal(&self) -> io::Result<()> {
        let partial = self.partial();
        let file = File::open(&partial)?;
        let mut permissions = file.metadata()?.permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions)?;
        file.sync_all()?;
        fs::rename(partial, self.whole())?;
        File::open(&self.folder)?.sync_all()
    }

    /// Notes that it is used now.
    pub(super) fn touch(&self) -> io::Result<()> {
        let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: keep, last_modification: now };
        Ok(utimensat(CWD, self.folder(), &times, AtFlags::empty())?)
    }
}

/// How long a file is; 0 where there is none.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// The SHA-256 of a file, in hexadecimal; none where it is cancelled.
pub(super) fn hash(path: &Path, cancel: &CancellationToken) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    while !cancel.is_cancelled() {
        match file.read(&mut piece)? {
            0 => return Ok(Some(hex::encode(hasher.finalize()))),
            count => hasher.update(piece.get(..count).unwrap_or_default()),
        }
    }
    Ok(None)
}
