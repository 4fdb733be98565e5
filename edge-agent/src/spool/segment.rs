//! One file of the spool: a header, then events. Knows where each event lies.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use spillway_tunnel::protocol::AgentEvent;

use super::record::{HEAD, frame, unframe};
use super::{Header, SpoolError};

const SUFFIX: &str = ".spool";

/// The number of the first event of the segment with this file name; none for other files.
pub(super) fn first_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{SUFFIX}"))
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    first: u64,
    /// Where each event's record begins, and at the end where the next one will.
    edges: Vec<u64>,
}

/// A segment with what it holds.
pub(super) struct Loaded {
    pub(super) segment: Segment,
    pub(super) header: Header,
    pub(super) events: Vec<AgentEvent>,
}

impl Segment {
    /// Makes a segment, durable together with its name. One of the same number is replaced.
    pub(super) fn create(folder: &Path, header: &Header) -> Result<Self, SpoolError> {
        let path = path_of(folder, header.first);
        let disk = |source| SpoolError::Disk { path: path.clone(), action: "made", source };
        let record = encode(header).map_err(disk)?;
        let fresh = path.with_added_extension("new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&fresh)
            .map_err(disk)?;
        let written = file.write_all_at(&record, 0).and_then(|()| file.sync_data());
        if let Err(source) = written.and_then(|()| fs::rename(&fresh, &path)) {
            fs::remove_file(&fresh).ok();
            return Err(disk(source));
        }
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk)?;
        Ok(Self { file, first: header.first, edges: vec![record.len() as u64], path })
    }

    /// Reads a segment. In the last one a torn record is cut off, and a torn header means that the segment
    /// was never begun: it is removed, and the answer is none.
    pub(super) fn load(folder: &Path, first: u64, last: bool) -> Result<Option<Loaded>, SpoolError> {
        let path = path_of(folder, first);
        let disk = |action| {
            let path = path.clone();
            move |source| SpoolError::Disk { path, action, source }
        };
        let bytes = fs::read(&path).map_err(disk("read"))?;
        let damaged = |offset| SpoolError::Damaged { path: path.clone(), offset };
        let header: Option<(Header, usize)> = decode(&bytes, 0);
        let Some((header, mut offset)) = header.filter(|(header, _)| header.first == first) else {
            if !last {
                return Err(damaged(0));
            }
            fs::remove_file(&path).map_err(disk("removed"))?;
            return Ok(None);
        };
        let mut edges = vec![offset as u64];
        let mut events = Vec::new();
        while let Some((event, next)) = decode(&bytes, offset) {
            events.push(event);
            offset = next;
            edges.push(offset as u64);
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(disk("opened"))?;
        if offset < bytes.len() {
            if !last {
                return Err(damaged(offset as u64));
            }
            file.set_len(offset as u64).and_then(|()| file.sync_data()).map_err(disk("cut"))?;
        }
        Ok(Some(Loaded { segment: Self { path, file, first, edges }, header, events }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The number of its first event.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The number behind its last event.
    pub(super) fn next(&self) -> u64 {
        self.first + (self.edges.len() as u64 - 1)
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.edges.last().copied().unwrap_or(0)
    }

    /// The file again, for a sync elsewhere.
    pub(super) fn file(&self) -> Result<File, SpoolError> {
        self.file.try_clone().map_err(|source| self.disk("opened", source))
    }

    pub(super) fn sync(&self) -> Result<(), SpoolError> {
        self.file.sync_data().map_err(|source| self.disk("synced", source))
    }

    /// Appends; after a failure the next append writes over what was left.
    pub(super) fn append(&mut self, event: &AgentEvent) -> Result<(), SpoolError> {
        let record = encode(event).map_err(|source| self.disk("written", source))?;
        let end = self.bytes();
        if let Err(source) = self.file.write_all_at(&record, end) {
            self.file.set_len(end).ok();
            return Err(self.disk("written", source));
        }
        self.edges.push(end + record.len() as u64);
        Ok(())
    }

    fn place(&self, number: u64) -> Option<(u64, usize)> {
        let position = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let (begin, end) = (self.edges.get(position)?, self.edges.get(position + 1)?);
        Some((*begin, usize::try_from(end - begin).ok()?))
    }

    /// Bytes of one event's record; 0 where it is not here.
    pub(super) fn size(&self, number: u64) -> usize {
        self.place(number).map_or(0, |(_, size)| size)
    }

    /// Reads one event back.
    pub(super) fn read(&self, number: u64) -> Result<AgentEvent, SpoolError> {
        let (offset, size) = self.place(number).unwrap_or((self.bytes(), 0));
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, offset).map_err(|source| self.disk("read", source))?;
        let event = decode(&bytes, 0).map(|(event, _)| event);
        event.ok_or_else(|| SpoolError::Damaged { path: self.path.clone(), offset })
    }

    /// Removes the file.
    pub(super) fn remove(&self) -> Result<(), SpoolError> {
        fs::remove_file(&self.path).map_err(|source| self.disk("removed", source))
    }

    fn disk(&self, action: &'static str, source: io::Error) -> SpoolError {
        SpoolError::Disk { path: self.path.clone(), action, source }
    }
}

pub(super) fn encode<T: serde::Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let payload = rmp_serde::to_vec_named(value).map_err(io::Error::other)?;
    frame(&payload).ok_or_else(|| io::Error::other("the record is too large"))
}

/// The value at `offset`, and where the next record begins.
fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], offset: usize) -> Option<(T, usize)> {
    let payload = unframe(bytes.get(offset..)?)?;
    let value = rmp_serde::from_slice(payload).ok()?;
    Some((value, offset + HEAD + payload.len()))
}
