//! Jobs come in, and are cancelled.

use spillway_ledger::limits::LimitRefusalKind;
use spillway_policies::{QueuedJob, Unsatisfiable};
use spillway_types::{AttemptId, DurationMs, JobId, JobSpec, UserName};

use super::{outcome, queue};
use crate::entity::StopCause;
use crate::federation::Turn;
use crate::{Event, Refusal, Reply, limited, snapshot};

pub(super) fn submit(
    turn: &mut Turn<'_>,
    spec: Box<JobSpec>,
    user: &UserName,
    key: Option<(String, String)>,
) -> Result<Reply, Refusal> {
    let who = turn.state.users.get(user);
    let who = who.ok_or_else(|| Refusal::NotFound { kind: "user", id: user.to_string() })?;
    if !turn.state.groups.contains_key(&spec.group) || !turn.state.may_see(who, &spec.group) {
        let own: Vec<&str> = who.groups.iter().map(spillway_types::GroupName::as_str).collect();
        let own = if own.is_empty() { "none yet".to_owned() } else { own.join(", ") };
        let problem = format!("is not a group that {user} may submit for; yours: {own}");
        return Err(Refusal::Invalid { field: "group", value: spec.group.to_string(), problem });
    }
    if !who.role.works() {
        let what = format!("submit jobs: it is a {}", who.role.as_str());
        return Err(Refusal::Forbidden { user: user.clone(), what });
    }
    let key = key.map(|(key, digest)| (format!("{user}/{key}"), digest));
    if let Some((key, digest)) = &key
        && let Some(known) = turn.state.submissions.get(key)
    {
        if known.digest == *digest {
            return Ok(Reply::Job(known.job));
        }
        return Err(Refusal::KeyReused { key: key.clone(), job: known.job });
    }
    check_deadline(turn, &spec)?;
    check_sites(turn, &spec)?;
    check_inputs(turn, &spec)?;
    check_limits(turn, &spec)?;
    check_possible(turn, &spec, user)?;
    let job = JobId::generate(turn.ids);
    turn.emit(Event::JobSubmitted { job, spec, user: user.clone(), key });
    Ok(Reply::Job(job))
}

/// Refuses what would be late even if it started now.
fn check_deadline(turn: &Turn<'_>, spec: &JobSpec) -> Result<(), Refusal> {
    let Some(deadline) = spec.deadline else { return Ok(()) };
    let soonest = turn.now.plus(spec.expected.unwrap_or(DurationMs(1)));
    if soonest <= deadline.instant(turn.now) {
        return Ok(());
    }
    let problem = match spec.expected {
        Some(expected) => format!("cannot be met: the job is expected to run {expected}; give it more time"),
        None => "is over already; give a time to come".to_owned(),
    };
    Err(Refusal::Invalid { field: "deadline", value: deadline.to_string(), problem })
}

fn check_sites(turn: &Turn<'_>, spec: &JobSpec) -> Result<(), Refusal> {
    let named = spec.placement.allow.iter().map(|site| ("where.allow", site));
    let mut named = named.chain(spec.placement.prefer.iter().map(|site| ("where.prefer", site)));
    match named.find(|(_, site)| !turn.state.sites.contains_key(*site)) {
        None => Ok(()),
        Some((field, site)) => {
            let known: Vec<&str> = turn.state.sites.keys().map(spillway_types::SiteName::as_str).collect();
            let problem = format!("is not a site here; known sites: {}", known.join(", "));
            Err(Refusal::Invalid { field, value: site.to_string(), problem })
        }
    }
}

fn check_inputs(turn: &Turn<'_>, spec: &JobSpec) -> Result<(), Refusal> {
    let Some(unknown) = spec.inputs.iter().find(|name| !turn.data.datasets.contains_key(*name)) else {
        return Ok(());
    };
    let known: Vec<&str> = turn.data.datasets.keys().map(spillway_types::DatasetName::as_str).collect();
    let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
    let problem = format!("is not a dataset that is known here; known: {known}");
    Err(Refusal::Invalid { field: "inputs", value: unknown.to_string(), problem })
}

/// Refuses what a limit never allows, wherever it ran. What it would cost is not asked: that is known where it is
/// placed.
fn check_limits(turn: &Turn<'_>, spec: &JobSpec) -> Result<(), Refusal> {
    let state = &*turn.state;
    let allowed = &spec.placement.allow;
    let sites = state.sites.values().filter(|site| allowed.is_empty() || allowed.contains(&site.name));
    let mut never = None;
    for site in sites {
        let demand = limited::least_demand(spec, site);
        match state.limits.check(&demand, turn.now) {
            Err(refusal) if refusal.kind == LimitRefusalKind::NeverFits => never = Some(refusal),
            Ok(()) | Err(_) => return Ok(()),
        }
    }
    never.map_or(Ok(()), |refusal| Err(Refusal::NeverFits(refusal)))
}

/// Refuses what nothing known here could ever run, and what its budget could never pay.
fn check_possible(turn: &mut Turn<'_>, spec: &JobSpec, user: &UserName) -> Result<(), Refusal> {
    let limited = turn.state.book.left(&spec.group).is_some();
    if spec.resources.gpus.is_none() && !limited && turn.gate.is_none() {
        return Ok(());
    }
    let (state, data, gate) = (&*turn.state, turn.data, turn.gate);
    let queued = snapshot::queued(state, JobId::from_uuid(uuid::Uuid::nil()), spec, turn.now);
    let queued = QueuedJob { user: Some(user.clone()), ..queued };
    let keeper = || snapshot::gatekeeper(state, data, gate);
    if !limited && turn.known.could_launch(turn.offers, keeper, &queued) {
        return Ok(());
    }
    let known = turn.known.places((state, turn.offers), keeper, turn.now);
    known.could_ever_run(&queued).or_else(|why| impossible(spec, &why))?;
    let Some(hold) = known.cheapest_hold(&queued) else { return Ok(()) };
    match turn.state.book.can_hold(&spec.group, hold) {
        Err(refusal) if refusal.kind == spillway_ledger::RefusalKind::NeverFits => Err(refusal.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A job without GPUs is taken although nothing here could run it, since machines for it are bound to come: save where
/// what is here could, and access policies deny all of it.
fn impossible(spec: &JobSpec, why: &Unsatisfiable) -> Result<(), Refusal> {
    let problem = why.to_string();
    let refused = |field, value| Err(Refusal::Unsatisfiable { field, value, problem });
    match (&spec.resources.gpus, why) {
        (Some(gpus), _) => refused("resources.gpus", gpus.to_string()),
        (None, Unsatisfiable::RuledOut { by, denied }) if by.is_empty() && !denied.is_empty() => {
            refused("group", spec.group.to_string())
        }
        (None, _) => Ok(()),
    }
}

pub(super) fn cancel(turn: &mut Turn<'_>, id: JobId, user: &UserName) -> Result<Reply, Refusal> {
    let (job, _) = queue::find(turn, id, user)?;
    let attempts: Vec<AttemptId> =
        job.active.values().filter_map(spillway_types::TaskState::attempt).collect();
    if !job.cancel_requested {
        turn.emit(Event::JobCancelled { job: id });
    }
    for attempt in attempts {
        outcome::stop(turn, attempt, StopCause::Cancelled);
    }
    Ok(Reply::Done)
}
