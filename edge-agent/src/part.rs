//! The folder of one part of an attempt: what the agent and the supervisor write there for each other.
//!
//! | file | written by | what |
//! |---|---|---|
//! | `spec.json` | agent, once | [`Spec`]: what to run |
//! | `lease` | agent, on every renewal | [`LeaseFile`]: until when it may run |
//! | `stop` | agent | its presence asks the supervisor to stop the program; milliseconds in it are a shorter grace |
//! | `ctl` | agent | a FIFO; a byte wakes the supervisor to read `lease` and `stop` again |
//! | `supervisor.json` | the one that claims the part | [`Claim`]: made once and never replaced by another claimant |
//! | `supervisor.error` | a supervisor that failed | why |
//! | `output.log` | the program | its standard output and error |
//! | `exit.json` | the claimant, once | [`ExitRecord`]: how it ended |
//! | `trace.log` | the claimant | one JSON line for each step of its life |
//! | `work/` | the program | its working directory |
//!
//! The claim is what makes a part run at most once: a supervisor starts nothing unless it made
//! `supervisor.json`, and an agent that wants to end a part that never began claims it first.
//! Files are replaced by rename, so a reader sees the old or the new content. They are not synced one by one:
//! a folder that outlived a crash of the machine is known by its boot id and never started again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spillway_tunnel::protocol::PartEnd;
use spillway_types::{Allocation, AttemptId, Checkpoint, DatasetName, DurationMs, JobId};

/// File of the [`Spec`].
pub const SPEC: &str = "spec.json";
/// File of the [`LeaseFile`].
pub const LEASE: &str = "lease";
/// File whose presence asks for a stop; what it holds is the most grace, in milliseconds, where it holds anything.
pub const STOP: &str = "stop";
/// The FIFO that wakes the supervisor.
pub const CTL: &str = "ctl";
/// File of the [`Claim`].
pub const SUPERVISOR: &str = "supervisor.json";
/// Why a supervisor could not do its work, where it had no better place to say so.
pub const SUPERVISOR_ERROR: &str = "supervisor.error";
/// The program's output.
pub const OUTPUT: &str = "output.log";
/// File of the [`ExitRecord`].
pub const EXIT: &str = "exit.json";
/// The part's life, one [`TraceLine`] a line.
pub const TRACE: &str = "trace.log";
/// The program's working directory.
pub const WORK: &str = "work";

/// Names one part of an attempt: its folder is `ATTEMPT-RANK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartKey {
    /// The attempt.
    pub attempt: AttemptId,
    /// The part's rank in its gang.
    pub rank: u32,
}

impl fmt::Display for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.attempt, self.rank)
    }
}

/// A folder's name that names no part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not name a part: it must look like `att_...-RANK`")]
pub struct PartKeyError(String);

impl FromStr for PartKey {
    type Err = PartKeyError;

    fn from_str(text: &str) -> Result<Self, PartKeyError> {
        let refused = || PartKeyError(text.chars().take(80).collect());
        let (attempt, rank) = text.rsplit_once('-').ok_or_else(refused)?;
        let attempt = attempt.parse().map_err(|_| refused())?;
        let rank = rank.parse().map_err(|_| refused())?;
        Ok(Self { attempt, rank })
    }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The attempt.
    pub attempt: AttemptId,
    /// The part's rank in its gang.
    pub rank: u32,
    /// The attempt's number at its task, from 1.
    pub number: u32,
    /// The job.
    pub job: JobId,
    /// The task's index.
    pub task: u32,
    /// The boot in which the folder was made.
    pub boot: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its variables, beside the few it inherits.
    pub env: BTreeMap<String, String>,
    /// Ended after this long.
    pub time_limit: DurationMs,
    /// How it is asked to stop.
    pub checkpoint: Checkpoint,
    /// How long each renewal lets it run: read again by an agent that takes the part up, as is the next.
    pub ttl: DurationMs,
    /// What it was given.
    pub allocation: Allocation,
    /// Where the datasets are that it reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<DatasetName, PathBuf>,
}

impl Spec {
    /// The part it describes.
    #[must_use]
    pub const fn key(&self) -> PartKey {
        PartKey { attempt: self.attempt, rank: self.rank }
    }
}

/// Until when a part may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFile {
    /// The boot that `deadline_ms` counts from.
    pub boot: String,
    /// Milliseconds of CLOCK_BOOTTIME.
    pub deadline_ms: u64,
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub started: u64,
}

impl ProcessId {
    /// Reads the identity of a living process; none where there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: stat_field(&stat, 22)? })
    }

    /// Whether that very process lives still. A zombie has ended.
    #[must_use]
    pub fn lives(self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        let zombie = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
        stat_field(&stat, 22) == Some(self.started) && !zombie
    }
}

/// Field `number` of a `/proc/PID/stat` line, counted from 1 as in proc(5), for numeric fields after the
/// command name, which may itself hold spaces and brackets.
pub(crate) fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// Who may act on a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Claim {
    /// A supervisor runs it.
    Supervisor {
        /// The supervisor.
        supervisor: ProcessId,
        /// When the program started or is about to, in milliseconds of CLOCK_BOOTTIME.
        started_ms: u64,
        /// The program; none until it runs.
        #[serde(default)]
        program: Option<ProcessId>,
        /// The boot.
        boot: String,
    },
    /// The agent ended it before it began: no supervisor may start it.
    Agent {
        /// The boot.
        boot: String,
    },
}

/// How a part ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// How.
    pub end: PartEnd,
    /// Whether the program ever ran.
    pub started: bool,
    /// How long it ran, in milliseconds of CLOCK_BOOTTIME.
    pub ran_ms: u64,
    /// CPU time of the program and all it waited for, in milliseconds.
    #[serde(default)]
    pub cpu_ms: u64,
}

impl ExitRecord {
    /// The record of a part whose program never ran.
    #[must_use]
    pub const fn never_started(end: PartEnd) -> Self {
        Self { end, started: false, ran_ms: 0, cpu_ms: 0 }
    }
}

/// One step of a part's life, for an auditor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// When, in milliseconds of CLOCK_BOOTTIME.
    pub at_ms: u64,
    /// The boot.
    pub boot: String,
    /// The attempt.
    pub attempt: AttemptId,
    /// The part.
    pub rank: u32,
    /// The job.
    pub job: JobId,
    /// The task.
    pub task: u32,
    /// What happened.
    pub step: TraceStep,
}

/// What happened to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceStep {
    /// Its program runs from here.
    Started,
    /// A stop was asked for and the signal sent.
    StopRequested,
    /// Its time limit ran out and the signal was sent.
    TimeLimit,
    /// Its lease ran out and the signal was sent.
    LeaseExpired,
    /// The grace was over and SIGKILL was sent.
    Killed,
    /// Nothing of it runs any more.
    Ended,
    /// It was ended before its program began.
    NotStarted,
    /// The supervisor was gone; what it had left was killed.
    Vanished,
}

/// Writes a file so that a reader sees the old content or the new.
///
/// # Errors
/// The disk refused.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    fs::write(&fresh, content)?;
    fs::rename(&fresh, path)
}

/// Makes a file with its whole content; false where it was there already.
///
/// # Errors
/// The disk refused, or the file system cannot rename without replacing.
pub fn write_once(path: &Path, content: &[u8]) -> io::Result<bool> {
    let fresh = path.with_added_extension(format!("claim{}", std::process::id()));
    fs::write(&fresh, content)?;
    match renameat_with(CWD, &fresh, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => fs::remove_file(&fresh).map(|()| false),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads a JSON file; none where it is not there.
///
/// # Errors
/// It cannot be read, or is not what it should be.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A value as JSON bytes.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("these types have string keys only and no failing serializer")
}

/// Appends one line to the part's trace, in one write, so that lines never mix.
///
/// # Errors
/// The disk refused.
pub fn append_trace(folder: &Path, line: &TraceLine) -> io::Result<()> {
    let mut bytes = to_json(line);
    bytes.push(b'\n');
    OpenOptions::new().append(true).create(true).open(folder.join(TRACE))?.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_names_its_folder() {
        let key = PartKey { attempt: "att_00000000000000070000000000000001".parse().unwrap(), rank: 12 };
        assert_eq!(key.to_string().parse(), Ok(key));
        for wrong in ["", "x", "att_1-0", "att_00000000000000070000000000000001", ".gone-1"] {
            assert!(wrong.parse::<PartKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_one_claim_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SUPERVISOR);
        assert!(write_once(&path, b"1").unwrap());
        assert!(!write_once(&path, b"2").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"1");
        write_atomically(&path, b"3").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.lives());
        assert!(!ProcessId { started: me.started + 1, ..me }.lives());
        assert_eq!(stat_field("7 (a) b) ) S 1 2 3", 4), Some(1));
    }
}
