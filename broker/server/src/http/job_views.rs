//! Jobs, tasks, attempts and plans as the API shows them.

use std::collections::BTreeSet;

use spillway_api::v1::{
    AttemptNode, AttemptView, CandidateView, DelayView, ExplanationView, HeldView, JobState, JobSummary,
    TaskCounts, TaskView,
};
use spillway_core::State;
use spillway_core::entity::{Attempt, HeldBy, Instance, Job, Part, PartState, StopCause};
use spillway_core::limited::Standing;
use spillway_ledger::limits::LimitRefusal;
use spillway_policies::{Candidate, Explanation};
use spillway_types::{
    HourlyRate, JobId, JobSpec, Money, PartEnd, Reason, SiteName, TaskState, UnixMs, UserName,
};
use uuid::Uuid;

use crate::{Mode, View};

/// How many tasks of `job` are in each state.
pub(super) fn counts(job: &Job) -> TaskCounts {
    let mut counts = TaskCounts {
        queued: job.queued.len(),
        succeeded: job.succeeded.len(),
        failed: job.failed.len(),
        cancelled: job.cancelled.len(),
        ..TaskCounts::default()
    };
    for state in job.active.values() {
        counts.add(state, 1);
    }
    counts
}

/// One line of the list. Sites of attempts that are over are not in it: those are in the store.
pub(super) fn summary(job: &Job, view: &View<'_>, mode: &Mode) -> JobSummary {
    let tasks = counts(job);
    JobSummary {
        id: job.id,
        name: job.spec.name.clone(),
        group: job.spec.group.clone(),
        user: job.user.clone(),
        state: tasks.state(),
        reason: reason(job, view, mode),
        held: job.held.as_ref().map(held),
        top: job.standing.scope(),
        tasks,
        submitted: job.submitted,
        started: job.started,
        ended: job.ended,
        sites: sites(job, view.federation.state()),
        cost: Money::usd_micros(job.cost_micros),
    }
}

/// The line of a job that is being submitted; its id is not known yet.
pub(super) fn draft(spec: &JobSpec, user: UserName, at: UnixMs) -> JobSummary {
    let tasks = TaskCounts { queued: spec.task_indexes().len(), ..TaskCounts::default() };
    JobSummary {
        id: JobId::from_uuid(Uuid::nil()),
        name: spec.name.clone(),
        group: spec.group.clone(),
        user,
        state: JobState::Queued,
        reason: Some(Reason::Planning),
        held: None,
        top: None,
        tasks,
        submitted: at,
        started: None,
        ended: None,
        sites: vec![],
        cost: Money::usd_micros(0),
    }
}

/// Why a job's tasks wait, where any does.
fn reason(job: &Job, view: &View<'_>, mode: &Mode) -> Option<Reason> {
    if job.queued.is_empty() {
        return None;
    }
    if job.held.is_some() {
        return Some(Reason::Held);
    }
    if !mode.acts() {
        return Some(Reason::Recovery);
    }
    if limit_of(job, view).is_some() {
        return Some(Reason::Limit);
    }
    Some(view.explanations.get(&job.id).and_then(|seen| seen.reason).unwrap_or(job.reason))
}

/// The limit that keeps a job from being planned at all.
fn limit_of(job: &Job, view: &View<'_>) -> Option<Box<LimitRefusal>> {
    match view.federation.state().limits_leave(job, view.now) {
        Standing::Waits(refusal) => Some(refusal),
        Standing::Free | Standing::Without(_) => None,
    }
}

fn held(by: &HeldBy) -> HeldView {
    HeldView { by: by.user.clone(), role: by.role, since: by.since }
}

/// The sites of the attempts that are being made.
fn sites(job: &Job, state: &State) -> Vec<SiteName> {
    let attempts = job.active.values().filter_map(TaskState::attempt);
    let sites = attempts.filter_map(|id| state.attempts.get(&id)).map(|attempt| &attempt.site);
    sites.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// The sites of `attempts`, newest first, as far as they are of the newest attempt at each task.
pub(super) fn last_sites(attempts: &[Attempt]) -> Vec<SiteName> {
    let mut tasks = BTreeSet::new();
    let newest = attempts.iter().filter(|attempt| tasks.insert(attempt.task));
    newest.map(|attempt| attempt.site.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What the planner saw of a job that was submitted. Of one that is held it was seen before that.
pub(super) fn explanation_of(job: &Job, view: &View<'_>) -> Option<ExplanationView> {
    let seen = view.explanations.get(&job.id);
    let (reason, way_out) = if job.held.is_some() {
        (Reason::Held, Reason::Held.way_out().to_owned())
    } else if let Some(refusal) = limit_of(job, view) {
        (Reason::Limit, refusal.to_string())
    } else {
        return seen.map(explanation);
    };
    Some(ExplanationView {
        reason: Some(reason),
        way_out: Some(way_out),
        planned_start: None,
        bound: None,
        delay: None,
        position: None,
        candidates: seen.map(|seen| seen.candidates.iter().map(candidate).collect()).unwrap_or_default(),
    })
}

/// What the planner saw.
pub(super) fn explanation(seen: &Explanation) -> ExplanationView {
    ExplanationView {
        reason: seen.reason,
        way_out: seen.reason.map(|reason| reason.way_out().to_owned()),
        planned_start: seen.planned_start,
        bound: seen.bound,
        delay: seen.delay.map(|delay| DelayView { was: delay.was, why: delay.cause.words().to_owned() }),
        position: Some(seen.position),
        candidates: seen.candidates.iter().map(candidate).collect(),
    }
}

fn candidate(seen: &Candidate) -> CandidateView {
    CandidateView {
        site: seen.site.clone(),
        what: seen.what.clone(),
        verdict: format!("{:?}", seen.verdict),
        detail: seen.detail.clone(),
        rate: seen.rate,
        cost: seen.cost_micros.map(Money::usd_micros),
        wait: seen.wait,
        move_bytes: seen.move_bytes,
        move_cost: (seen.move_bytes > 0).then(|| Money::usd_micros(seen.move_micros)),
        move_time: (seen.move_bytes > 0).then_some(seen.move_time),
        risk: (seen.risk_micros > 0).then(|| Money::usd_micros(seen.risk_micros)),
        total: seen.total_micros.map(Money::usd_micros),
    }
}

/// One task. `attempts` are those of the job that are known, newest first.
pub(super) fn task(job: &Job, index: u32, attempts: &[Attempt]) -> Option<TaskView> {
    let state = job.task(index)?;
    let newest = attempts.iter().find(|attempt| attempt.task == index);
    let made = job.tries.get(&index).map_or(0, |tries| tries.made);
    let made = made.max(newest.map_or(0, |attempt| attempt.number));
    Some(TaskView { index, state, attempts: made, site: newest.map(|attempt| attempt.site.clone()) })
}

/// What is known beside an attempt itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// The attempt before it at the same task.
    pub(super) before: Option<&'a Attempt>,
    /// The instance of its first part.
    pub(super) instance: Option<&'a Instance>,
}

/// One attempt.
pub(super) fn attempt(attempt: &Attempt, job: &Job, around: Around<'_>) -> AttemptView {
    let instance_type = around.instance.map(|instance| instance.instance_type.clone());
    let queued = around.before.and_then(|before| before.ended).unwrap_or(job.submitted);
    let rate = attempt.parts.iter().map(|part| part.rate.0).fold(0_i64, i64::saturating_add);
    AttemptView {
        id: attempt.id,
        task: attempt.task,
        number: attempt.number,
        state: attempt.state,
        site: attempt.site.clone(),
        kind: attempt.kind,
        pool: attempt.pool.clone(),
        nodes: attempt.parts.iter().filter_map(node).collect(),
        instance_type: instance_type.or_else(|| attempt.instance_type.clone()),
        rate: HourlyRate(rate),
        because: attempt.because.clone(),
        placed: attempt.placed,
        started: attempt.active,
        ended: attempt.ended,
        wait: attempt.placed.since(queued),
        cost: Money::usd_micros(attempt.cost_micros),
        input_bytes: attempt.bytes_to_bring(),
        moved_bytes: attempt.moved.iter().map(|moved| moved.to_bytes).fold(0, u64::saturating_add),
        end: end(attempt),
    }
}

fn node(part: &Part) -> Option<AttemptNode> {
    let node = part.node?;
    Some(AttemptNode { node, hostname: part.host.clone().unwrap_or_else(|| node.to_string()) })
}

/// How an attempt ended, by its first part that did not end well.
fn end(attempt: &Attempt) -> Option<String> {
    attempt.ended?;
    match attempt.stop {
        Some(StopCause::Cancelled) => return Some("cancelled".to_owned()),
        Some(StopCause::Preempted) => return Some("its machine was taken away".to_owned()),
        Some(StopCause::Displaced) => {
            let because = attempt.displaced_because.as_deref().unwrap_or("another job needs its place");
            return Some(format!("pre-empted: {because}"));
        }
        Some(StopCause::Limit | StopCause::LimitAtOnce) => {
            return Some("a limit of its group had no room for more of it".to_owned());
        }
        Some(StopCause::NoInstance) => return Some("no instance could be had".to_owned()),
        Some(StopCause::GangBroken) | None => {}
    }
    let well = |part: &&Part| matches!(part.state, PartState::Ended { end: PartEnd::Exited { code: 0 }, .. });
    let stopped = |part: &&Part| matches!(part.state, PartState::Ended { end: PartEnd::Stopped, .. });
    let bad = || attempt.parts.iter().filter(|part| !well(part));
    // A gang is stopped because of another part: that one says why.
    let telling = bad().find(|part| !stopped(part)).or_else(|| bad().next());
    Some(telling.map_or_else(|| "exit code 0".to_owned(), |part| part_end(&part.state)))
}

fn part_end(state: &PartState) -> String {
    match state {
        PartState::Waiting | PartState::Leased | PartState::Prepared => "it did not start".to_owned(),
        PartState::Running => "it may still run".to_owned(),
        PartState::Silent => "its node was lost".to_owned(),
        PartState::Ended { end, .. } => match end {
            PartEnd::Exited { code } => format!("exit code {code}"),
            PartEnd::Signalled { signal } => format!("signal {signal}"),
            PartEnd::Stopped => "stopped".to_owned(),
            PartEnd::TimeLimit => "its time limit ran out".to_owned(),
            PartEnd::LeaseExpired => "its lease ran out".to_owned(),
            PartEnd::NotStarted { message } => format!("it could not start: {message}"),
            PartEnd::Vanished => "it vanished: its machine went down, or somebody killed it".to_owned(),
        },
    }
}
