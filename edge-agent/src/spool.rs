//! The spool: events of this node on its disk, numbered without gaps, kept until the broker has them.
//!
//! Segments are append-only files named by the number of their first event. Each begins with a header that
//! holds [`Reported`], what had been said of every part so far, so that the spool alone knows what is still
//! to be said, and the mark of all usage events before it: nothing else has to be kept in step with them.
//! Records are a length, a CRC-32 and MessagePack.
//!
//! - An event is sent only after it was synced: [`Spool::read`] gives no other.
//! - A torn record at the end, from a crash, is cut off; its number is used again, since it was never sent.
//! - A damaged record anywhere else is refused at opening, with the file's name.
//! - Over the limit nothing is lost: events are refused with [`SpoolError::Full`], the caller, which makes
//!   them from the parts' folders, tries again once acknowledgements have made room. An eighth of the limit
//!   is kept for events that are not output.
//!
//! Left out: sharing by several processes; the agent's lock on its folder sees to that.

mod record;
mod segment;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spillway_ledger::journal::UsageMark;
use spillway_tunnel::protocol::AgentEvent;
use spillway_types::DatasetName;

use crate::part::PartKey;
use segment::Segment;

/// Size at which a segment is closed: small enough to free the disk soon, large enough that its two syncs
/// are rare.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Most bytes of the spool.
pub const SPOOL_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// What was said of one part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reported {
    /// That it is prepared.
    #[serde(default)]
    pub prepared: bool,
    /// That it started.
    #[serde(default)]
    pub started: bool,
    /// Its usage up to here, in milliseconds from its start.
    #[serde(default)]
    pub usage_to_ms: u64,
    /// Its output up to here, in bytes.
    #[serde(default)]
    pub output_to: u64,
    /// Its end, as the event of this number.
    #[serde(default)]
    pub ended: Option<u64>,
    /// What came of each of its datasets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
}

/// What was said of a dataset that came for a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The dataset.
    pub dataset: DatasetName,
    /// The newest download of it.
    pub pass: u32,
    /// Of that, the byte behind the last.
    pub to_bytes: u64,
    /// The number of the event that said so.
    pub number: u64,
}

impl Reported {
    /// What was said of a dataset.
    #[must_use]
    pub fn moved_of(&self, dataset: &DatasetName) -> Option<&Moved> {
        self.moved.iter().find(|moved| moved.dataset == *dataset)
    }

    fn note_moved(&mut self, newest: Moved) {
        self.moved.retain(|moved| moved.dataset != newest.dataset);
        self.moved.push(newest);
    }
}

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The disk refused.
    #[error("the spool {path} cannot be {action}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What was being done to it.
        action: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A record that is not the last one is damaged.
    #[error(
        "the spool's file {path} is damaged at byte {offset}: move the spool's folder away to begin a new one; \
         events that it holds and the broker has not acknowledged are then reported anew from the parts' folders"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first damaged record begins.
        offset: u64,
    },
    /// The spool is at its limit.
    #[error("the spool is full: {bytes} of {limit} bytes wait for the broker's acknowledgement")]
    Full {
        /// Its size.
        bytes: u64,
        /// Its limit.
        limit: u64,
    },
}

/// The head of each segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    first: u64,
    #[serde(default)]
    reported: Vec<(PartKey, Reported)>,
    /// The usage events before this segment; none where an agent that kept no mark wrote it.
    #[serde(default)]
    usage: Option<UsageMark>,
}

/// Sizes of a spool, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Size at which a segment is closed.
    pub segment: u64,
    /// Most bytes in all.
    pub total: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { segment: SEGMENT_BYTES, total: SPOOL_BYTES }
    }
}

/// Events not yet acknowledged, and what was reported of every part.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limits: SpoolLimits,
    segments: VecDeque<Segment>,
    reported: BTreeMap<PartKey, Reported>,
    usage: UsageMark,
    synced: u64,
    acknowledged: u64,
}

/// A sync to be run where blocking is fine.
#[derive(Debug)]
pub struct SyncJob {
    file: File,
    path: PathBuf,
    through: u64,
}

impl SyncJob {
    /// Syncs; the number up to which events are then durable, for [`Spool::note_synced`].
    ///
    /// # Errors
    /// The disk refused.
    pub fn run(self) -> Result<u64, SpoolError> {
        let synced = self.file.sync_data();
        synced.map(|()| self.through).map_err(|source| SpoolError::Disk {
            path: self.path,
            action: "synced",
            source,
        })
    }
}

impl Spool {
    /// Opens the spool in `folder`, making it where there is none.
    ///
    /// # Errors
    /// The disk refused, or a record that is not the last one is damaged.
    pub fn open(folder: &Path, limits: SpoolLimits) -> Result<Self, SpoolError> {
        let disk = |action| move |source| SpoolError::Disk { path: folder.to_path_buf(), action, source };
        fs::create_dir_all(folder).map_err(disk("made"))?;
        let mut firsts: Vec<u64> = Vec::new();
        for entry in fs::read_dir(folder).map_err(disk("listed"))? {
            let name = entry.map_err(disk("listed"))?.file_name();
            firsts.extend(segment::first_of(&name.to_string_lossy()));
        }
        firsts.sort_unstable();
        let mut spool = Self {
            folder: folder.to_path_buf(),
            limits,
            segments: VecDeque::new(),
            reported: BTreeMap::new(),
            usage: UsageMark::default(),
            synced: 0,
            acknowledged: 0,
        };
        let mut marked = true;
        for (position, &first) in firsts.iter().enumerate() {
            marked = spool.load(first, position + 1 == firsts.len())?.unwrap_or(marked);
        }
        if spool.segments.is_empty() {
            spool.begin_segment(1)?;
        } else if !marked {
            // Its mark begins behind what is here, and has to be the same one at the next start.
            spool.next_segment()?;
        }
        // What was read may lie in the page cache only, if another process of ours wrote it and died.
        if let Some(job) = spool.sync_job()? {
            spool.synced = job.run()?;
        }
        spool.acknowledged = spool.first().saturating_sub(1);
        Ok(spool)
    }

    /// Whether the segment has a mark; none where it was never begun.
    fn load(&mut self, first: u64, last: bool) -> Result<Option<bool>, SpoolError> {
        let Some(loaded) = Segment::load(&self.folder, first, last)? else { return Ok(None) };
        if self.segments.back().is_some_and(|before| before.next() != first) {
            return Err(SpoolError::Damaged { path: loaded.segment.path().to_path_buf(), offset: 0 });
        }
        self.reported = loaded.header.reported.into_iter().collect();
        let behind = UsageMark::begin(loaded.segment.next() - 1);
        self.usage = loaded.header.usage.unwrap_or(behind);
        for (number, event) in (first..).zip(&loaded.events) {
            note(&mut self.reported, event, number);
            mark(&mut self.usage, event, number);
        }
        self.segments.push_back(loaded.segment);
        Ok(Some(loaded.header.usage.is_some()))
    }

    fn begin_segment(&mut self, first: u64) -> Result<(), SpoolError> {
        let reported = self.reported.iter().map(|(&key, said)| (key, said.clone())).collect();
        let header = Header { first, reported, usage: Some(self.usage) };
        let segment = Segment::create(&self.folder, &header)?;
        // One without an event was replaced.
        self.segments.retain(|other| other.first() != first);
        self.segments.push_back(segment);
        Ok(())
    }

    /// Begins a segment behind the newest event. Its header repeats what the one before it says, and must not be
    /// durable without it.
    fn next_segment(&mut self) -> Result<(), SpoolError> {
        self.current().sync()?;
        self.synced = self.next() - 1;
        self.begin_segment(self.next())
    }

    fn current(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("opening makes a segment and acknowledging leaves the newest")
    }

    /// The number of the oldest event that is still here, or of the next one.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.segments.front().map_or(1, Segment::first)
    }

    /// The number that the next event gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.segments.back().map_or(1, Segment::next)
    }

    /// Up to which number events are durable.
    #[must_use]
    pub const fn synced(&self) -> u64 {
        self.synced
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// Up to which number the broker has acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// What was said of each part.
    #[must_use]
    pub const fn reported(&self) -> &BTreeMap<PartKey, Reported> {
        &self.reported
    }

    /// The mark of all usage events that were appended.
    #[must_use]
    pub const fn usage(&self) -> &UsageMark {
        &self.usage
    }

    /// Whether the broker has acknowledged the part's end.
    #[must_use]
    pub fn end_acknowledged(&self, part: &PartKey) -> bool {
        let said = self.reported.get(part);
        said.and_then(|said| said.ended).is_some_and(|number| number <= self.acknowledged)
    }

    /// Forgets what was said of a part whose folder is gone.
    pub fn forget(&mut self, part: &PartKey) {
        self.reported.remove(part);
    }

    /// Appends an event and returns its number. It is durable once a sync that covers it was noted.
    ///
    /// # Errors
    /// [`SpoolError::Full`] at the limit; [`SpoolError::Disk`] where the disk refused. The spool is as it
    /// was before.
    pub fn append(&mut self, event: &AgentEvent) -> Result<u64, SpoolError> {
        let bytes = self.bytes();
        let reserve = if matches!(event, AgentEvent::Output { .. }) { self.limits.total / 8 } else { 0 };
        if bytes >= self.limits.total - reserve {
            return Err(SpoolError::Full { bytes, limit: self.limits.total });
        }
        if self.current().bytes() >= self.limits.segment {
            self.next_segment()?;
        }
        let number = self.next();
        self.current().append(event)?;
        note(&mut self.reported, event, number);
        mark(&mut self.usage, event, number);
        Ok(number)
    }

    /// A sync that makes every appended event durable; none where all are.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn sync_job(&self) -> Result<Option<SyncJob>, SpoolError> {
        let through = self.next() - 1;
        match self.segments.back() {
            Some(segment) if through > self.synced => {
                let path = segment.path().to_path_buf();
                Ok(Some(SyncJob { file: segment.file()?, path, through }))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Notes that a sync has ended.
    pub fn note_synced(&mut self, through: u64) {
        self.synced = self.synced.max(through);
    }

    /// Durable events from number `from` on, up to about `max_bytes` of them, at least one where there is
    /// one. An empty answer means that there is nothing to send yet.
    ///
    /// # Errors
    /// The disk refused, or what was written cannot be read back.
    pub fn read(&self, from: u64, max_bytes: usize) -> Result<(u64, Vec<AgentEvent>), SpoolError> {
        let from = from.max(self.first());
        let mut events = Vec::new();
        let mut bytes = 0;
        for segment in self.segments.iter().filter(|segment| segment.next() > from) {
            for number in from.max(segment.first())..segment.next().min(self.synced + 1) {
                let size = segment.size(number);
                if !events.is_empty() && bytes + size > max_bytes {
                    return Ok((from, events));
                }
                bytes += size;
                events.push(segment.read(number)?);
            }
        }
        Ok((from, events))
    }

    /// Takes up what a broker says at the begin of a session: it has every event up to `through`, and its mark of the
    /// usage events begins behind number `usage_after`. Where the one here begins elsewhere, it begins anew there.
    ///
    /// # Errors
    /// The disk refused, or what was written cannot be read back; the next session tries again.
    pub fn take_up(&mut self, through: u64, usage_after: u64) -> Result<(), SpoolError> {
        if usage_after != self.usage.after {
            let mut usage = UsageMark::begin(usage_after);
            for segment in self.segments.iter().filter(|segment| segment.next() > usage_after) {
                for number in segment.first().max(usage_after + 1)..segment.next() {
                    mark(&mut usage, &segment.read(number)?, number);
                }
            }
            self.usage = usage;
            // A segment is begun below where nothing here goes on.
            if through < self.next() {
                self.next_segment()?;
            }
        }
        self.acknowledge(through)
    }

    /// Notes that the broker has every event up to `through`, and frees the segments that it does not need
    /// any more. A number beyond the newest event means that this spool was begun anew: numbering goes on
    /// behind it.
    ///
    /// # Errors
    /// The disk refused; what could not be freed is freed at a later acknowledgement.
    pub fn acknowledge(&mut self, through: u64) -> Result<(), SpoolError> {
        self.acknowledged = self.acknowledged.max(through);
        if through >= self.next() {
            self.begin_segment(through + 1)?;
            self.synced = through;
        }
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|oldest| oldest.next() <= through + 1)
        {
            if let Some(oldest) = self.segments.front() {
                oldest.remove()?;
            }
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// Adds an event to what was said.
fn note(reported: &mut BTreeMap<PartKey, Reported>, event: &AgentEvent, number: u64) {
    let (AgentEvent::Prepared { attempt, rank }
    | AgentEvent::Started { attempt, rank }
    | AgentEvent::Usage { attempt, rank, .. }
    | AgentEvent::Moved { attempt, rank, .. }
    | AgentEvent::Output { attempt, rank, .. }
    | AgentEvent::Ended { attempt, rank, .. }) = event;
    let said = reported.entry(PartKey { attempt: *attempt, rank: *rank }).or_default();
    match event {
        AgentEvent::Prepared { .. } => said.prepared = true,
        AgentEvent::Started { .. } => said.started = true,
        AgentEvent::Usage { to_ms, .. } => said.usage_to_ms = *to_ms,
        AgentEvent::Moved { dataset, pass, to_bytes, .. } => {
            said.note_moved(Moved { dataset: dataset.clone(), pass: *pass, to_bytes: *to_bytes, number });
        }
        AgentEvent::Output { offset, data, .. } => said.output_to = offset.saturating_add(data.len() as u64),
        AgentEvent::Ended { .. } => said.ended = Some(number),
    }
}

/// Adds an event to a mark, where it says what was used.
fn mark(usage: &mut UsageMark, event: &AgentEvent, number: u64) {
    if let Some(used) = event.usage() {
        usage.take(number, &used);
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "spool_usage_tests.rs"]
mod usage_tests;
