//! Spillway's own journal: rows of the table `journal` as JSON, one object a line or one array of them.
//!
//! A row has `at_ms` and `body`: the events, as a list or as the text that the database keeps. SQLite gives it with
//! `sqlite3 -json spillway.db "SELECT seq, at_ms, body FROM journal ORDER BY seq"`, PostgreSQL with
//! `psql -Atc "SELECT row_to_json(journal) FROM journal ORDER BY seq"`. Every task that ended is one job; it
//! arrived when its job was submitted and ran as long as its last attempt did.

use std::collections::BTreeMap;

use serde::Deserialize;
use spillway_core::Event;
use spillway_core::event::TaskOutcome;
use spillway_types::{AttemptId, DurationMs, GroupName, JobId, JobSpec, UnixMs};

use super::{Format, MAX_GPUS, Skipped, Trace, TraceError, from_first};
use crate::{Asks, TraceJob};

#[derive(Debug, Deserialize)]
struct Row {
    at_ms: i64,
    body: Body,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    Events(serde_json::Value),
}

/// A job as far as a trace needs it.
#[derive(Debug)]
struct Asked {
    group: GroupName,
    submitted: UnixMs,
    estimate: DurationMs,
    gpus: u32,
    tasks: u64,
    asks: Asks,
}

#[derive(Debug, Clone, Copy)]
struct Tried {
    job: JobId,
    task: u32,
    started: Option<UnixMs>,
}

/// The journal read so far.
#[derive(Debug, Default)]
struct Story {
    jobs: BTreeMap<JobId, Asked>,
    attempts: BTreeMap<AttemptId, Tried>,
    /// When a task started and ended, by its last attempt.
    ran: BTreeMap<(JobId, u32), (UnixMs, UnixMs)>,
    /// Tasks that ended without having run.
    never: BTreeMap<(JobId, u32), ()>,
}

pub(super) fn read(text: &str) -> Result<Trace, TraceError> {
    let mut story = Story::default();
    if text.trim_start().starts_with('[') {
        let rows: Vec<Row> = serde_json::from_str(text).map_err(|error| wrong(error.line(), "[", &error))?;
        for (number, row) in (1..).zip(rows) {
            story.row(number, row)?;
        }
    } else {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let row = serde_json::from_str(line).map_err(|error| wrong(number, line, &error))?;
            story.row(number, row)?;
        }
    }
    Ok(story.trace())
}

fn wrong(line: usize, text: &str, error: &serde_json::Error) -> TraceError {
    let way_out = "write one row of the table journal a line, as JSON with at_ms and body";
    TraceError::new(line, "the row", text, &format!("does not parse: {error}"), way_out)
}

impl Story {
    fn row(&mut self, line: usize, row: Row) -> Result<(), TraceError> {
        let events = match row.body {
            Body::Text(text) => serde_json::from_str(&text).map_err(|error| wrong(line, &text, &error))?,
            Body::Events(events) => events,
        };
        let shown = events.to_string();
        let events: Vec<Event> =
            serde_json::from_value(events).map_err(|error| wrong(line, &shown, &error))?;
        for event in &events {
            self.event(UnixMs(row.at_ms), event);
        }
        Ok(())
    }

    fn event(&mut self, at: UnixMs, event: &Event) {
        match event {
            Event::JobSubmitted { job, spec, .. } => {
                self.jobs.insert(*job, asked(spec, at));
            }
            Event::AttemptPlaced(placed) => {
                let tried = Tried { job: placed.job, task: placed.task, started: None };
                self.attempts.insert(placed.attempt, tried);
            }
            Event::AttemptActivated { attempt } => {
                if let Some(tried) = self.attempts.get_mut(attempt) {
                    tried.started = Some(at);
                }
            }
            Event::AttemptEnded { attempt, outcome } => self.ended(at, *attempt, outcome),
            Event::BrokerStarted { .. }
            | Event::SiteDeclared(_)
            | Event::PoolDeclared(_)
            | Event::GroupDeclared(_)
            | Event::EntryCorrected(_)
            | Event::GroupRemoved { .. }
            | Event::LeaseExtended { .. }
            | Event::LimitsChanged(_)
            | Event::UserDeclared(_)
            | Event::PoolClosed(_)
            | Event::PeriodClosed { .. }
            | Event::PeriodFrozen { .. }
            | Event::RatesSet { .. }
            | Event::ExchangeSet { .. }
            | Event::TokenIssued(_)
            | Event::JoinTokenIssued(_)
            | Event::NodeEnrolled { .. }
            | Event::NodeConnected { .. }
            | Event::NodeStepped { .. }
            | Event::SpoolAcked { .. }
            | Event::UsageMarkBegun { .. }
            | Event::UsageStated { .. }
            | Event::JobCancelled { .. }
            | Event::JobHeld { .. }
            | Event::JobReleased { .. }
            | Event::JobTopped { .. }
            | Event::AttemptDisplaced { .. }
            | Event::SubmissionsForgotten { .. }
            | Event::AttemptLeased { .. }
            | Event::PartPrepared { .. }
            | Event::PartStarted { .. }
            | Event::UsageCharged { .. }
            | Event::PartEnded { .. }
            | Event::PartSilent { .. }
            | Event::AttemptStopped { .. }
            | Event::AttemptFinishing { .. }
            | Event::AttemptSettled { .. }
            | Event::InstanceIntended(_)
            | Event::InstanceStepped { .. }
            | Event::InstanceRepriced { .. }
            | Event::BytesMoved { .. }
            | Event::InstanceGone { .. } => {}
        }
    }

    fn ended(&mut self, at: UnixMs, attempt: AttemptId, outcome: &TaskOutcome) {
        let Some(tried) = self.attempts.remove(&attempt) else { return };
        let task = (tried.job, tried.task);
        match (outcome, tried.started) {
            (TaskOutcome::Requeued { .. } | TaskOutcome::Displaced, _) => {}
            (TaskOutcome::Succeeded | TaskOutcome::Failed { .. } | TaskOutcome::Cancelled, Some(started)) => {
                self.ran.insert(task, (started, at));
            }
            (TaskOutcome::Succeeded | TaskOutcome::Failed { .. } | TaskOutcome::Cancelled, None) => {
                self.never.insert(task, ());
            }
        }
    }

    fn trace(self) -> Trace {
        let mut trace = Trace::new(Format::Journal);
        for (id, asked) in &self.jobs {
            let tasks = (*id, 0)..=(*id, u32::MAX);
            let (mut over, single) = (self.never.range(tasks.clone()).count() as u64, asked.tasks == 1);
            if over > 0 && asked.gpus > 0 {
                *trace.skipped.entry(Skipped::NeverRan).or_default() += over;
            }
            for ((_, task), (started, ended)) in self.ran.range(tasks) {
                over += 1;
                let name = if single { id.to_string() } else { format!("{id}/{task}") };
                match asked.job(name, *started, *ended) {
                    Some(job) => trace.jobs.push(job),
                    None => trace.skip(Skipped::NoGpu),
                }
            }
            // Cancelled while they waited, or still waiting or running: neither has a runtime.
            if over < asked.tasks && asked.gpus > 0 {
                *trace.skipped.entry(Skipped::NotEnded).or_default() += asked.tasks - over;
            }
        }
        from_first(&mut trace.jobs);
        trace
    }
}

fn asked(spec: &JobSpec, submitted: UnixMs) -> Asked {
    let blocks = spec.resources.gpus.as_ref().map_or(0, spillway_types::GpuRequest::blocks);
    let gpus = blocks.div_ceil(100).saturating_mul(u64::from(spec.nodes));
    Asked {
        group: spec.group.clone(),
        submitted,
        estimate: spec.estimate(),
        gpus: u32::try_from(gpus).unwrap_or(MAX_GPUS).min(MAX_GPUS),
        tasks: spec.array.as_ref().map_or(1, |array| u64::from(array.last - array.first) + 1),
        asks: Asks {
            class: spec.class.clone(),
            deadline: spec.deadline.map(|deadline| deadline.instant(submitted).since(submitted)),
            inputs: spec.inputs.clone(),
            checkpoint: spec.checkpoint.every,
            spot: spec.placement.spot,
        },
    }
}

impl Asked {
    /// None where it asked for no GPU. A part of a GPU counts as one: a trace has whole ones only.
    fn job(&self, id: String, started: UnixMs, ended: UnixMs) -> Option<TraceJob> {
        (self.gpus > 0).then(|| TraceJob {
            id,
            group: self.group.clone(),
            arrival: self.submitted.since(UnixMs(0)),
            runtime: ended.since(started).max(DurationMs(1)),
            estimate: self.estimate.max(DurationMs(1)),
            gpus: self.gpus,
            asks: self.asks.clone(),
        })
    }
}
