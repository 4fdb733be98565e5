//! What the copies of a job wrote: whether two of a task ever ran at the same time, whether one that must not
//! start again did, and whether the agents' traces tell the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use spillway_api::v1::JobState;
use spillway_core::State;
use spillway_types::{AttemptId, JobId};

use super::{JobWords, Scene, Trace};

/// The kernel counts uptime in hundredths of a second, cut off; a line is written a moment after it was read.
const CLOCK_MS: u64 = 20;

/// One copy of a task's part: one process, from its first line to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The attempt it was told that it is.
    pub attempt: AttemptId,
    /// The task.
    pub task: u32,
    /// The part's rank in its gang.
    pub rank: u32,
    /// Its process.
    pub pid: u32,
    /// Its first line, in milliseconds of CLOCK_BOOTTIME.
    pub first_ms: u64,
    /// Its last line.
    pub last_ms: u64,
    /// Whether it came to its own end.
    pub finished: bool,
}

/// Reads a job's evidence; nothing where there is none. The order is that of the first lines.
///
/// # Panics
/// A line is not as the jobs write it.
#[must_use]
pub fn read_evidence(path: &Path) -> Vec<Copy> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A line that is being written has no end yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut copies: Vec<Copy> = vec![];
    for line in whole.lines() {
        let Some((word, seen)) = parse(line) else { panic!("no evidence: `{line}` in {}", path.display()) };
        match copies.iter_mut().find(|copy| copy.attempt == seen.attempt && copy.pid == seen.pid) {
            Some(copy) => {
                copy.last_ms = seen.last_ms;
                copy.finished |= word == "end";
            }
            None => copies.push(seen),
        }
    }
    copies
}

fn parse(line: &str) -> Option<(&str, Copy)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [word, attempt, task, rank, pid, uptime] = *fields.as_slice() else { return None };
    let (seconds, hundredths) = uptime.split_once('.')?;
    let at_ms = seconds.parse::<u64>().ok()? * 1000 + hundredths.parse::<u64>().ok()? * 10;
    let copy = Copy {
        attempt: attempt.parse().ok()?,
        task: task.parse().ok()?,
        rank: rank.parse().ok()?,
        pid: pid.parse().ok()?,
        first_ms: at_ms,
        last_ms: at_ms,
        finished: word == "end",
    };
    Some((word, copy))
}

pub(super) fn check(scene: &Scene, replayed: &State, findings: &mut Vec<String>) {
    let mut attempts: BTreeMap<AttemptId, JobId> = BTreeMap::new();
    attempts.extend(replayed.attempts.values().map(|attempt| (attempt.id, attempt.job)));
    attempts.extend(replayed.changes.ended_attempts.iter().map(|attempt| (attempt.id, attempt.job)));
    for job in &scene.jobs {
        for copy in job.copies.iter().filter(|copy| attempts.get(&copy.attempt) != Some(&job.job)) {
            findings.push(format!(
                "{}: {} ran, which the database does not know as its attempt",
                job.name, copy.attempt
            ));
        }
        overlaps(job, findings);
        starts(job, findings);
        traces(job, &scene.traces, findings);
    }
    lives(&scene.traces, findings);
}

/// The parts of one attempt run together; anything else of a task runs alone.
fn overlaps(job: &JobWords, findings: &mut Vec<String>) {
    for (at, one) in job.copies.iter().enumerate() {
        let others = job.copies.iter().skip(at + 1).filter(|other| other.task == one.task);
        for other in others.filter(|other| other.attempt != one.attempt || other.rank == one.rank) {
            if one.first_ms <= other.last_ms && other.first_ms <= one.last_ms {
                let (name, task) = (&job.name, one.task);
                findings.push(format!(
                    "{name}: two copies of task {task} at the same time: {one:?} and {other:?}"
                ));
            }
        }
    }
}

fn starts(job: &JobWords, findings: &mut Vec<String>) {
    let parts: BTreeSet<(u32, u32)> = job.copies.iter().map(|copy| (copy.task, copy.rank)).collect();
    for (task, rank) in &parts {
        let copies = || job.copies.iter().filter(|copy| copy.task == *task && copy.rank == *rank);
        let (started, finished) = (copies().count(), copies().filter(|copy| copy.finished).count());
        if !job.restartable && started > 1 {
            findings.push(format!("{}: task {task} must start once and started {started} times", job.name));
        }
        if finished > 1 {
            findings.push(format!("{}: task {task} was done {finished} times", job.name));
        }
        if job.outcome == JobState::Succeeded && finished == 0 {
            findings.push(format!("{}: task {task} succeeded, but no copy of it came to its end", job.name));
        }
    }
    let wanted = usize::try_from(job.parts).unwrap_or(usize::MAX);
    if job.outcome == JobState::Succeeded && parts.len() != wanted {
        findings.push(format!(
            "{}: it succeeded, and {} of its {wanted} parts have run",
            job.name,
            parts.len()
        ));
    }
}

/// Each copy lies within the life that its agent noted.
fn traces(job: &JobWords, traces: &[Trace], findings: &mut Vec<String>) {
    for copy in &job.copies {
        let step = |names: &[&str]| {
            let line = traces
                .iter()
                .filter(|line| (line.attempt, line.rank) == (copy.attempt, copy.rank))
                .find(|line| names.contains(&line.step.as_str()));
            line.map(|line| line.at_ms)
        };
        let (Some(started), Some(ended)) = (step(&["started"]), step(&["ended", "vanished"])) else {
            findings.push(format!("{}: no agent noted the whole life of {}", job.name, copy.attempt));
            continue;
        };
        if copy.first_ms + CLOCK_MS < started || copy.last_ms > ended + CLOCK_MS {
            let what = format!(
                "wrote from {} to {} ms, its agent noted {started} to {ended} ms",
                copy.first_ms, copy.last_ms
            );
            findings.push(format!("{}: {} {what}", job.name, copy.attempt));
        }
    }
}

/// Every part that started has ended, and none started twice.
fn lives(traces: &[Trace], findings: &mut Vec<String>) {
    let mut counts: BTreeMap<(AttemptId, u32), (u32, u32)> = BTreeMap::new();
    for line in traces {
        let (started, ended) = counts.entry((line.attempt, line.rank)).or_default();
        match line.step.as_str() {
            "started" => *started += 1,
            "ended" | "not-started" | "vanished" => *ended += 1,
            _ => {}
        }
    }
    for ((attempt, rank), (started, ended)) in counts {
        if started > 1 || ended != 1 {
            findings
                .push(format!("part {rank} of {attempt} started {started} times and ended {ended} times"));
        }
    }
}
