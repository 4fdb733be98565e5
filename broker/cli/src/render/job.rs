//! Jobs, their attempts, and what the planner saw.

use spillway_api::error::cut;
use spillway_api::v1::{AttemptView, ExplanationView, HeldView, JobSummary, JobView, Page, PlanView};
use spillway_types::{FailureReason, Interconnect, JobSpec, Role, TopScope};

use super::value::{age, amount, coarse, cpus, list, maybe, memory, size};
use crate::output::Look;
use crate::table::{Table, facts};

/// The list of jobs.
pub(crate) fn jobs(look: &Look, page: &Page<JobSummary>) -> String {
    let heads = ["#ID", "NAME", "?GROUP", "#STATE", "#REASON", "?DONE", "WHERE", "?SUBMITTED", ">COST"];
    let wide = ["USER", "STARTED", "ENDED", "ON TOP OF"];
    let heads: Vec<&str> = if look.wide { heads.into_iter().chain(wide).collect() } else { heads.into() };
    let mut table = Table::new(look, &heads);
    for job in &page.items {
        let mut cells = vec![
            job.id.to_string(),
            job.name.clone(),
            job.group.to_string(),
            job.state.as_str().to_owned(),
            job.reason.map(|reason| format!("{reason:?}")).unwrap_or_default(),
            format!("{}/{}", job.tasks.ended(), job.tasks.total()),
            list(&job.sites),
            age(look.now, job.submitted),
            amount(job.cost),
        ];
        if look.wide {
            let instant = |at: Option<_>| at.map(|at| age(look.now, at)).unwrap_or_default();
            let top = match job.top {
                None => "",
                Some(TopScope::Group) => "group",
                Some(TopScope::All) => "all",
            };
            cells.extend([job.user.to_string(), instant(job.started), instant(job.ended), top.to_owned()]);
        }
        table.row_of(cells);
    }
    table.lines()
}

/// What became of a job in the queue: in one line.
pub(crate) fn arranged(_: &Look, job: &JobSummary) -> String {
    let held = if job.held.is_some() { ", held" } else { "" };
    let top = job.top.map(|scope| format!(", before {}", before(scope))).unwrap_or_default();
    format!("{} {}{held}{top}\n", job.id, job.state.as_str())
}

/// Before which jobs one was put.
const fn before(scope: TopScope) -> &'static str {
    match scope {
        TopScope::Group => "the others of its group",
        TopScope::All => "the jobs of all groups",
    }
}

/// One job.
pub(crate) fn job(look: &Look, view: &JobView) -> String {
    let mut text = summary_facts(look, view);
    if !view.attempts.is_empty() {
        text.push_str("\nAttempts\n");
        text.push_str(&attempts(look, &view.attempts));
    }
    text.push_str("\nWhy\n");
    if let Some(attempt) = view.attempts.first() {
        text.push_str(&facts(&[("placed", Some(format!("on {}: {}", attempt.site, attempt.because)))]));
    }
    match &view.explanation {
        Some(explanation) => text.push_str(&why(look, explanation)),
        None if view.attempts.is_empty() => text.push_str("the planner has not looked at it\n"),
        None => {}
    }
    text
}

fn summary_facts(look: &Look, view: &JobView) -> String {
    let job = &view.summary;
    let tasks = &job.tasks;
    let array = (tasks.total() > 1).then(|| {
        format!(
            "{} in all: {} queued, {} at work, {} succeeded, {} failed, {} cancelled",
            tasks.total(),
            tasks.queued,
            tasks.total() - tasks.queued - tasks.ended(),
            tasks.succeeded,
            tasks.failed,
            tasks.cancelled
        )
    });
    let ran = job.started.map(|from| coarse(job.ended.unwrap_or(look.now).since(from)));
    facts(&[
        ("id", Some(job.id.to_string())),
        ("name", Some(job.name.clone())),
        ("group", Some(job.group.to_string())),
        ("user", Some(job.user.to_string())),
        ("state", Some(job.state.as_str().to_owned())),
        ("failure", view.failure.as_ref().map(failure)),
        ("held", job.held.as_ref().map(|held| held_by(look, held))),
        ("order", job.top.map(|scope| format!("before {}", before(scope)))),
        ("tasks", array),
        ("command", Some(cut(&view.spec.command.join(" ")))),
        ("asks", Some(asked(&view.spec))),
        ("estimate", view.estimate.map(|it| format!("{}, from {}", it.duration, it.source))),
        ("class", view.spec.class.as_ref().map(ToString::to_string)),
        ("deadline", view.spec.deadline.map(|deadline| age(look.now, deadline.instant(job.submitted)))),
        ("submitted", Some(age(look.now, job.submitted))),
        ("started", job.started.map(|at| age(look.now, at))),
        ("ended", job.ended.map(|at| age(look.now, at))),
        ("ran", ran),
        ("cost", Some(amount(job.cost))),
    ])
}

fn held_by(look: &Look, held: &HeldView) -> String {
    let role = if held.role == Role::Admin { "the admin " } else { "" };
    format!("by {role}{}, {}", held.by, age(look.now, held.since))
}

/// What a job asks, in one line.
fn asked(spec: &JobSpec) -> String {
    let resources = &spec.resources;
    let gpus = resources.gpus.as_ref().map(|gpus| format!("gpus {gpus}, ")).unwrap_or_default();
    let domain = match spec.placement.interconnect {
        Interconnect::Any => "",
        Interconnect::SameDomain => " of one domain",
    };
    let nodes =
        if spec.nodes > 1 { format!(" on each of {} nodes{domain}", spec.nodes) } else { String::new() };
    format!(
        "{gpus}cpus {}, memory {}{nodes}, for at most {}",
        cpus(resources.cpus_milli),
        memory(resources.memory_mib),
        spec.time_limit
    )
}

/// Why a job failed, in a few words.
pub(crate) fn failure(failure: &FailureReason) -> String {
    match failure {
        FailureReason::ExitCode { code } => format!("its program ended with exit code {code}"),
        FailureReason::Signal { signal } => format!("its program was ended by signal {signal}"),
        FailureReason::TimeLimit => "it ran into its time limit".to_owned(),
        FailureReason::Lost => "its node was lost, and no attempts are left".to_owned(),
        FailureReason::Preempted => "it was pre-empted, and no attempts are left".to_owned(),
        FailureReason::Start { message } => format!("it could not be started: {message}"),
    }
}

fn attempts(look: &Look, attempts: &[AttemptView]) -> String {
    let heads = [
        ">TASK", ">TRY", "STATE", "SITE", "WHAT", "?NODES", "?PLACED", "?WAITED", "RAN", "?>RATE", ">COST",
        "END",
    ];
    let mut table = Table::new(look, &heads);
    for attempt in attempts {
        let hosts: Vec<&str> = attempt.nodes.iter().map(|node| node.hostname.as_str()).collect();
        let what = attempt.instance_type.as_ref().map(ToString::to_string);
        let ran = attempt.started.map(|from| coarse(attempt.ended.unwrap_or(look.now).since(from)));
        table.row([
            attempt.task.to_string(),
            attempt.number.to_string(),
            attempt.state.as_str().to_owned(),
            format!("{} ({})", attempt.site, attempt.kind.as_str()),
            what.unwrap_or_else(|| maybe(attempt.pool.as_ref())),
            hosts.join(", "),
            age(look.now, attempt.placed),
            coarse(attempt.wait),
            ran.unwrap_or_default(),
            attempt.rate.to_string(),
            amount(attempt.cost),
            attempt.end.clone().or_else(|| brought(attempt)).unwrap_or_default(),
        ]);
    }
    table.lines()
}

/// How far the data is that a job waits for on its node.
fn brought(attempt: &AttemptView) -> Option<String> {
    let waits = attempt.started.is_none() && attempt.ended.is_none() && attempt.input_bytes > 0;
    waits.then(|| format!("data: {} of {}", size(attempt.moved_bytes), size(attempt.input_bytes)))
}

/// What the planner saw: the one word, what has to change, and every candidate.
fn why(look: &Look, explanation: &ExplanationView) -> String {
    let way_out = explanation.way_out.clone();
    let way_out = way_out.or_else(|| explanation.reason.map(|reason| reason.way_out().to_owned()));
    let mut text = facts(&[
        ("reason", explanation.reason.map(|reason| format!("{reason:?}"))),
        ("way out", way_out),
        ("starts", starts(look, explanation)),
        (
            "later because",
            explanation.delay.as_ref().map(|it| format!("{} (was {})", it.why, age(look.now, it.was))),
        ),
        ("in the queue", explanation.position.map(|position| format!("number {position}"))),
    ]);
    if explanation.candidates.is_empty() {
        text.push_str("no place was considered\n");
        return text;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let heads = ["SITE", "WHAT", "VERDICT", ">RATE", ">COST", "?>DATA", "?>RISK", "WAIT", ">TOTAL", "DETAIL"];
    let mut table = Table::new(look, &heads);
    for candidate in &explanation.candidates {
        table.row([
            candidate.site.to_string(),
            candidate.what.clone(),
            candidate.verdict.clone(),
            maybe(candidate.rate),
            candidate.cost.map(amount).unwrap_or_default(),
            candidate.move_cost.map(amount).unwrap_or_default(),
            candidate.risk.map(amount).unwrap_or_default(),
            candidate.wait.map(coarse).unwrap_or_default(),
            candidate.total.map(amount).unwrap_or_default(),
            candidate.detail.clone(),
        ]);
    }
    text.push_str(&table.lines());
    text
}

/// From when to when it starts, as far as that is planned and promised.
fn starts(look: &Look, explanation: &ExplanationView) -> Option<String> {
    let planned = explanation.planned_start.map(|at| age(look.now, at));
    let bound = explanation.bound.map(|at| age(look.now, at));
    match (planned, bound) {
        (Some(planned), Some(bound)) => Some(format!("{planned} as planned, {bound} at the latest")),
        (Some(planned), None) => Some(format!("{planned} as planned; no cloud can take it sooner")),
        (None, bound) => bound.map(|bound| format!("{bound} at the latest")),
    }
}

/// What would be done with a job.
pub(crate) fn plan(look: &Look, view: &PlanView) -> String {
    let mut text = facts(&[
        ("job", Some(view.spec.name.clone())),
        ("group", Some(view.spec.group.to_string())),
        ("asks", Some(asked(&view.spec))),
        ("would hold", view.hold.map(|hold| format!("{} for each task", amount(hold)))),
    ]);
    text.push('\n');
    text.push_str(&why(look, &view.explanation));
    text
}

#[cfg(test)]
#[path = "job_tests.rs"]
pub(in crate::render) mod tests;
