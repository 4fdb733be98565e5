//! Traces: jobs that once ran, from a CSV file, a dump of Slurm's accounting, or Spillway's own journal.
//!
//! A reader takes text and gives jobs in the order of their arrival, counted from the first one's submission, or
//! an error that names the line, the column, the value and the way out. Nothing is guessed: what is left out is
//! counted in [`Trace::skipped`]. Times are exact: decimals of hours are turned into milliseconds with integers,
//! rounded up. Left out on purpose: file I/O, and jobs without GPUs.

mod csv;
mod decimal;
mod journal;
mod slurm;

use std::collections::BTreeMap;
use std::fmt;

use spillway_types::{DurationMs, GroupName};

use crate::TraceJob;

pub use decimal::{DecimalError, billionths, hours};

/// Most jobs that one trace may have: ten times the largest public one, and well within memory.
pub const MAX_JOBS: usize = 10_000_000;

/// Most GPUs that one job may ask for: the largest cluster known has fewer.
pub const MAX_GPUS: u32 = 1_000_000;

/// What a trace was written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `job_id,group,arrival_hr,runtime_hr,gpus`, and what else a job may ask.
    Csv,
    /// `sacct --parsable2`.
    Slurm,
    /// Rows of the table `journal` of a broker's database, as JSON.
    Journal,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Csv => "CSV",
            Self::Slurm => "Slurm accounting",
            Self::Journal => "Spillway journal",
        })
    }
}

/// Why a job of the source is not in the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// It never started.
    NeverRan,
    /// It had not ended when the trace was taken, so how long it runs is not known.
    NotEnded,
    /// It asked for no GPU.
    NoGpu,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NeverRan => "never ran",
            Self::NotEnded => "had not ended",
            Self::NoGpu => "asked for no GPU",
        })
    }
}

/// Jobs that once ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The jobs, in the order of their arrival.
    pub jobs: Vec<TraceJob>,
    /// What it was written as.
    pub format: Format,
    /// How many jobs of the source are left out, and why.
    pub skipped: BTreeMap<Skipped, u64>,
}

/// What is wrong with a trace, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {column}: `{value}` {problem}; {way_out}")]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// The column by its name.
    pub column: String,
    /// What stands there, cut to 80 characters.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub way_out: String,
}

impl TraceError {
    fn new(line: usize, column: &str, value: &str, problem: &str, way_out: &str) -> Self {
        let cut = |text: &str| text.chars().take(80).collect();
        let (column, problem, way_out) = (column.to_owned(), problem.to_owned(), way_out.to_owned());
        Self { line, column, value: cut(value), problem, way_out }
    }
}

impl Trace {
    /// Reads a trace; its head says what it is.
    ///
    /// # Errors
    /// [`TraceError`] names the first place that is wrong.
    pub fn read(text: &str) -> Result<Self, TraceError> {
        let text = text.trim_start_matches('\u{feff}');
        let head = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        let trace = match detect(head) {
            Some(Format::Csv) => csv::read(text),
            Some(Format::Slurm) => slurm::read(text),
            Some(Format::Journal) => journal::read(text),
            None => Err(unknown(head)),
        }?;
        if trace.jobs.is_empty() {
            let skipped = trace.said().unwrap_or_else(|| "no job in it".to_owned());
            let way_out = "give a trace with at least one job that ran on a GPU";
            return Err(TraceError::new(
                1,
                "the whole",
                head,
                &format!("has no job to replay: {skipped}"),
                way_out,
            ));
        }
        Ok(trace)
    }

    /// What was left out, in words; none where nothing was.
    #[must_use]
    pub fn said(&self) -> Option<String> {
        let words = self.skipped.iter().map(|(why, count)| {
            let jobs = if *count == 1 { "job" } else { "jobs" };
            format!("{count} {jobs} left out that {why}")
        });
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    fn new(format: Format) -> Self {
        Self { jobs: vec![], format, skipped: BTreeMap::new() }
    }

    fn skip(&mut self, why: Skipped) {
        *self.skipped.entry(why).or_default() += 1;
    }
}

fn detect(head: &str) -> Option<Format> {
    let has = |separator: char, name: &str| {
        head.split(separator).any(|column| column.trim().trim_matches('"').eq_ignore_ascii_case(name))
    };
    if head.trim_start().starts_with(['{', '[']) {
        Some(Format::Journal)
    } else if has('|', "JobID") || has('|', "Submit") {
        Some(Format::Slurm)
    } else {
        (has(',', "job_id") || has(',', "arrival_hr") || has(',', "runtime_hr")).then_some(Format::Csv)
    }
}

fn unknown(head: &str) -> TraceError {
    TraceError::new(
        1,
        "the head",
        head,
        "is of no trace that is known",
        "give a CSV file with the columns job_id,group,arrival_hr,runtime_hr,gpus, the output of \
         `sacct --allusers --parsable2 --format=JobID,Account,Submit,Start,End,ElapsedRaw,AllocTRES,State,TimelimitRaw`, \
         or the journal of a broker as one JSON object a line",
    )
}

/// A group from a name of another system: in small letters, and `-` for what a group's name cannot have.
fn group_of(account: &str) -> GroupName {
    let fits = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = account.trim().to_ascii_lowercase().chars().map(fits).take(63).collect();
    let name = name.trim_matches('-');
    name.parse().unwrap_or_else(|_| "none".parse().expect("it is a name"))
}

/// The whole trace from jobs with absolute times: counted from the first one's submission, and in order.
fn from_first(jobs: &mut [TraceJob]) {
    jobs.sort_by_key(|job| job.arrival);
    let first = jobs.first().map_or(DurationMs(0), |job| job.arrival);
    for job in jobs {
        job.arrival = DurationMs(job.arrival.0 - first.0);
    }
}

#[cfg(test)]
#[path = "trace/tests.rs"]
mod tests;
