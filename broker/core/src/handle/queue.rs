//! People hold waiting jobs, release them, and put them before others.
//!
//! All of it is about tasks that wait: tasks at work are left alone, and a job of which nothing waits is refused.
//! Asking for what is so already changes nothing.

use spillway_types::{JobId, Role, Standing, TopScope, UserName};

use crate::entity::{Job, User};
use crate::federation::Turn;
use crate::{Event, Refusal, Reply};

/// The job, where it is in memory and the user may see it, and the user.
pub(super) fn find<'a>(
    turn: &'a Turn<'_>,
    id: JobId,
    user: &UserName,
) -> Result<(&'a Job, &'a User), Refusal> {
    let not_found = || Refusal::NotFound { kind: "job", id: id.to_string() };
    let job = turn.state.jobs.get(&id).ok_or_else(not_found)?;
    let who = turn.state.users.get(user).ok_or_else(not_found)?;
    if !turn.state.may_see(who, &job.spec.group) {
        return Err(not_found());
    }
    if !who.role.works() {
        let what = format!("change jobs: it is a {}", who.role.as_str());
        return Err(Refusal::Forbidden { user: user.clone(), what });
    }
    if job.is_final() {
        return Err(Refusal::AlreadyEnded { job: id, state: job.rolled_up() });
    }
    Ok((job, who))
}

/// The same, where tasks of it wait.
fn waiting<'a>(
    turn: &'a Turn<'_>,
    id: JobId,
    user: &UserName,
    verb: &'static str,
) -> Result<(&'a Job, &'a User), Refusal> {
    let (job, who) = find(turn, id, user)?;
    if job.queued.is_empty() {
        return Err(Refusal::NotWaiting { job: id, state: job.rolled_up(), verb });
    }
    Ok((job, who))
}

pub(super) fn hold(turn: &mut Turn<'_>, id: JobId, user: &UserName) -> Result<Reply, Refusal> {
    let (job, who) = waiting(turn, id, user, "held")?;
    let role = who.role;
    // An admin's hold takes the place of a member's; otherwise the first one stays.
    if job.held.as_ref().is_none_or(|held| held.role != Role::Admin && role == Role::Admin) {
        turn.emit(Event::JobHeld { job: id, user: user.clone(), role });
    }
    Ok(Reply::Done)
}

pub(super) fn release(turn: &mut Turn<'_>, id: JobId, user: &UserName) -> Result<Reply, Refusal> {
    let (job, who) = waiting(turn, id, user, "released")?;
    if let Some(held) = &job.held {
        if held.role == Role::Admin && who.role != Role::Admin {
            let what = format!("release {id}: the admin {} holds it", held.user);
            return Err(Refusal::Forbidden { user: user.clone(), what });
        }
        turn.emit(Event::JobReleased { job: id });
    }
    Ok(Reply::Done)
}

pub(super) fn top(turn: &mut Turn<'_>, id: JobId, user: &UserName) -> Result<Reply, Refusal> {
    let (job, who) = waiting(turn, id, user, "put on top")?;
    let scope = if who.role == Role::Admin { TopScope::All } else { TopScope::Group };
    if !is_first(turn, job, scope) {
        turn.emit(Event::JobTopped { job: id, scope });
    }
    Ok(Reply::Done)
}

/// Whether nothing would change by putting the job on top of `scope`. What an admin put on top stays before what
/// members do.
fn is_first(turn: &Turn<'_>, job: &Job, scope: TopScope) -> bool {
    match (job.standing, scope) {
        (Standing::Plain, _) | (Standing::TopOfGroup(_), TopScope::All) => return false,
        (Standing::TopOfAll(_), TopScope::Group) => return true,
        (Standing::TopOfGroup(_), TopScope::Group) | (Standing::TopOfAll(_), TopScope::All) => {}
    }
    let rivals = turn.state.jobs.values().filter(|other| {
        !other.queued.is_empty()
            && other.standing.scope() == Some(scope)
            && (scope == TopScope::All || other.spec.group == job.spec.group)
    });
    rivals.map(|other| other.standing).max().is_none_or(|first| first <= job.standing)
}
