//! Submitting, listing, showing, cancelling and re-ordering jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use spillway_api::v1::{
    DEFAULT_PAGE, JobDefaults, JobFile, JobSummary, JobView, JobsQuery, MAX_JOB_FILE, MAX_PAGE, MAX_WAIT_MS,
    Page, TaskView, TasksQuery, WaitFor, WaitQuery,
};
use spillway_api::{ApiError, ErrorCode, route};
use spillway_core::entity::{Attempt, Instance, Job};
use spillway_core::{Command, Refusal, Reply};
use spillway_store::JobFilter;
use spillway_types::{GroupName, InstanceId, JobId, JobSpec, UnixMs};

use super::auth::{Caller, Who};
use super::failure::{Failure, ended_already};
use super::input::{self, Params, Segment};
use super::job_views::Around;
use super::{Api, Shared, job_views, may_see};
use crate::EngineError;

/// Most attempts that a view of a job shows.
const MAX_ATTEMPTS_SHOWN: usize = 100;
/// How long a waiting request sleeps after something was written anywhere before it looks again: a busy
/// broker writes hundreds of times a second, and none of it need be about this job.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn submit(
    State(api): State<Shared>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let file: JobFile = input::json(&headers, body, MAX_JOB_FILE).await?;
    let spec = file.into_spec(&JobDefaults { group: who.only_group.clone() })?;
    let key = idempotency_key(&headers, &spec)?;
    let engine = &api.app.engine;
    let began = engine.clock().now();
    let draft = job_views::draft(&spec, who.name.clone(), began);
    let command = Command::Submit { spec: Box::new(spec), user: who.name.clone(), key };
    let Reply::Job(id) = engine.command(command).await? else { return Err(odd_reply()) };
    let made = made_at(id).unwrap_or(began);
    if made < began {
        // The key had made this job before: what it is now is the answer.
        let job = find(&api, &who, id).await?;
        let summary = summaries(&api, vec![job]).await?.pop();
        return summary.map(|summary| Json(summary).into_response()).ok_or_else(|| no_job(id));
    }
    let location = [(header::LOCATION, route::job(id))];
    Ok((StatusCode::CREATED, location, Json(JobSummary { id, submitted: made, ..draft })).into_response())
}

/// When an id was made: ids carry the broker's clock. A new job's is at most moments after its submission.
fn made_at(id: JobId) -> Option<UnixMs> {
    let (seconds, nanos) = id.uuid().get_timestamp()?.to_unix();
    let ms = seconds.checked_mul(1000)?.checked_add(u64::from(nanos / 1_000_000))?;
    i64::try_from(ms).ok().map(UnixMs)
}

/// The key that makes a submission repeatable, with a digest of what is submitted.
fn idempotency_key(headers: &HeaderMap, spec: &JobSpec) -> Result<Option<(String, String)>, Failure> {
    let Some(value) = headers.get(route::IDEMPOTENCY_KEY) else { return Ok(None) };
    let wrong = || {
        let limit = route::MAX_IDEMPOTENCY_KEY;
        let message = format!("an idempotency key has 1 to {limit} printable ASCII characters");
        Failure(ApiError::invalid(message).field(route::IDEMPOTENCY_KEY))
    };
    let key = value.to_str().map_err(|_| wrong())?;
    let printable = key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if key.is_empty() || key.len() > route::MAX_IDEMPOTENCY_KEY || !printable {
        return Err(wrong());
    }
    let content = serde_json::to_vec(spec).map_err(|_| odd_reply())?;
    Ok(Some((key.to_owned(), hex::encode(Sha256::digest(&content)))))
}

pub(super) async fn list(
    State(api): State<Shared>,
    Caller(who): Caller,
    Params(query): Params<JobsQuery>,
) -> Result<Json<Page<JobSummary>>, Failure> {
    let limit = page_limit(query.limit)?;
    let groups = groups_to_list(&api, &who, query.group).await?;
    let state = query.state.map(|state| state.as_str().to_owned());
    let filter = JobFilter { groups, state, before: query.after, limit: limit + 1 };
    let mut jobs = api.app.engine.store().jobs(&filter).await?;
    let next = next_page(&mut jobs, limit, |job| job.id.to_string());
    Ok(Json(Page { items: summaries(&api, jobs).await?, next }))
}

/// How many items a page has.
fn page_limit(asked: Option<u32>) -> Result<usize, Failure> {
    let limit = asked.unwrap_or(DEFAULT_PAGE);
    if let (true, Ok(limit)) = ((1..=MAX_PAGE).contains(&limit), usize::try_from(limit)) {
        return Ok(limit);
    }
    let message = format!("a page has 1 to {MAX_PAGE} items");
    Err(Failure(ApiError::invalid(message).field("limit").value(limit)))
}

/// Cuts what was read beyond the page; the key of the last item is where the next one begins. Of the largest
/// page the store gives nothing beyond it, so that an empty page may follow.
fn next_page<T>(items: &mut Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Option<String> {
    let more = items.len() > limit || items.len() == spillway_store::MAX_PAGE;
    items.truncate(limit);
    items.last().filter(|_| more).map(key)
}

/// Names of the groups whose jobs are listed; none where all are.
async fn groups_to_list(
    api: &Api,
    who: &Arc<Who>,
    below: Option<GroupName>,
) -> Result<Option<Vec<GroupName>>, Failure> {
    if below.is_none() && who.role.sees_all() {
        return Ok(None);
    }
    let who = Arc::clone(who);
    let asked = below.clone();
    let found = api.app.engine.read(move |view| {
        let state = view.federation.state();
        let seen = |name: &&GroupName| {
            may_see(state, &who, name) && asked.as_ref().is_none_or(|asked| state.is_within(name, asked))
        };
        state.groups.keys().filter(seen).cloned().collect::<Vec<_>>()
    });
    let groups = found.await?;
    match below {
        Some(asked) if !groups.contains(&asked) => {
            Err(Failure(ApiError::not_found("group", &asked).field("group")))
        }
        Some(_) | None => Ok(Some(groups)),
    }
}

pub(super) async fn show(
    State(api): State<Shared>,
    Caller(who): Caller,
    Segment(id): Segment<JobId>,
    Params(query): Params<WaitQuery>,
) -> Result<Json<JobView>, Failure> {
    let mut job = find(&api, &who, id).await?;
    if let Some(WaitFor::Final) = query.wait_for
        && !job.is_final()
    {
        let limit = Duration::from_millis(query.timeout_ms.unwrap_or(MAX_WAIT_MS).min(MAX_WAIT_MS));
        tokio::select! {
            ended = until_final(&api, id) => ended?,
            () = tokio::time::sleep(limit) => {}
            () = api.shutdown.cancelled() => {}
        }
        job = find(&api, &who, id).await?;
    }
    view(&api, job).await.map(Json)
}

async fn until_final(api: &Api, id: JobId) -> Result<(), Failure> {
    let mut revision = api.app.engine.revision();
    loop {
        revision.borrow_and_update();
        let ended = |job: Option<&Job>| job.is_none_or(Job::is_final);
        if api.app.engine.read(move |view| ended(view.federation.state().jobs.get(&id))).await? {
            return Ok(());
        }
        next_change(&mut revision).await?;
    }
}

/// Waits until something was written.
pub(super) async fn next_change(revision: &mut tokio::sync::watch::Receiver<u64>) -> Result<(), Failure> {
    revision.changed().await.map_err(|_| Failure::from(EngineError::Stopped))?;
    tokio::time::sleep(LOOK_PAUSE).await;
    Ok(())
}

/// The job, where it exists and the user may see it.
pub(super) async fn find(api: &Api, who: &Arc<Who>, id: JobId) -> Result<Job, Failure> {
    let asking = Arc::clone(who);
    let found = api.app.engine.read(move |view| {
        let state = view.federation.state();
        let job = state.jobs.get(&id)?;
        Some(may_see(state, &asking, &job.spec.group).then(|| job.clone()))
    });
    if let Some(alive) = found.await? {
        return alive.ok_or_else(|| no_job(id));
    }
    let job = api.app.engine.store().job(id).await?.ok_or_else(|| no_job(id))?;
    let (asking, group) = (Arc::clone(who), job.spec.group.clone());
    let seen = api.app.engine.read(move |view| may_see(view.federation.state(), &asking, &group)).await?;
    if seen { Ok(job) } else { Err(no_job(id)) }
}

fn no_job(id: JobId) -> Failure {
    Failure(ApiError::not_found("job", &id))
}

/// Lines of the list, with the sites of those that are over.
async fn summaries(api: &Api, jobs: Vec<Job>) -> Result<Vec<JobSummary>, Failure> {
    let mode = api.app.engine.mode();
    let read = move |view: &crate::View<'_>| -> Vec<JobSummary> {
        jobs.iter().map(|job| job_views::summary(job, view, &mode)).collect()
    };
    let mut summaries = api.app.engine.read(read).await?;
    for summary in &mut summaries {
        if summary.started.is_some() && summary.sites.is_empty() {
            let attempts = api.app.engine.store().attempts_of(summary.id, 1).await?;
            summary.sites = job_views::last_sites(&attempts);
        }
    }
    Ok(summaries)
}

async fn view(api: &Api, job: Job) -> Result<JobView, Failure> {
    let attempts = newest_attempts(api, job.id, MAX_ATTEMPTS_SHOWN).await?;
    let instances = instances_of(api, &attempts).await?;
    let mode = api.app.engine.mode();
    let read = move |view: &crate::View<'_>| {
        let mut summary = job_views::summary(&job, view, &mode);
        if summary.sites.is_empty() {
            summary.sites = job_views::last_sites(&attempts);
        }
        let before = |attempt: &Attempt| {
            attempts.iter().find(|other| other.task == attempt.task && other.number + 1 == attempt.number)
        };
        let around = |attempt: &Attempt| Around {
            before: before(attempt),
            instance: first_instance(attempt).and_then(|id| instances.get(&id)),
        };
        let shown = attempts.iter().map(|attempt| job_views::attempt(attempt, &job, around(attempt)));
        JobView {
            attempts: shown.collect(),
            failure: job.first_failure.clone(),
            estimate: (!job.is_final()).then(|| view.federation.state().history.estimate(&job.spec)),
            explanation: job_views::explanation_of(&job, view),
            spec: job.spec,
            summary,
        }
    };
    Ok(api.app.engine.read(read).await?)
}

fn first_instance(attempt: &Attempt) -> Option<InstanceId> {
    attempt.parts.first()?.instance
}

/// The instances of the first parts, gone or not.
async fn instances_of(api: &Api, attempts: &[Attempt]) -> Result<BTreeMap<InstanceId, Instance>, Failure> {
    let mut instances = BTreeMap::new();
    for id in attempts.iter().filter_map(first_instance).collect::<BTreeSet<_>>() {
        if let Some(instance) = api.app.engine.store().instance(id).await? {
            instances.insert(id, instance);
        }
    }
    Ok(instances)
}

/// The newest attempts of a job, newest first.
async fn newest_attempts(api: &Api, id: JobId, limit: usize) -> Result<Vec<Attempt>, Failure> {
    let mut attempts = api.app.engine.store().attempts_of(id, limit).await?;
    attempts.reverse();
    Ok(attempts)
}

pub(super) async fn cancel(
    State(api): State<Shared>,
    Caller(who): Caller,
    Segment(id): Segment<JobId>,
) -> Result<Json<JobSummary>, Failure> {
    let command = Command::Cancel { job: id, user: who.name.clone() };
    change(&api, &who, id, command).await
}

pub(super) async fn hold(
    State(api): State<Shared>,
    Caller(who): Caller,
    Segment(id): Segment<JobId>,
) -> Result<Json<JobSummary>, Failure> {
    let command = Command::Hold { job: id, user: who.name.clone() };
    change(&api, &who, id, command).await
}

pub(super) async fn release(
    State(api): State<Shared>,
    Caller(who): Caller,
    Segment(id): Segment<JobId>,
) -> Result<Json<JobSummary>, Failure> {
    let command = Command::Release { job: id, user: who.name.clone() };
    change(&api, &who, id, command).await
}

pub(super) async fn top(
    State(api): State<Shared>,
    Caller(who): Caller,
    Segment(id): Segment<JobId>,
) -> Result<Json<JobSummary>, Failure> {
    let command = Command::Top { job: id, user: who.name.clone() };
    change(&api, &who, id, command).await
}

/// Gives a command about the job, and answers with what it is now.
async fn change(
    api: &Shared,
    who: &Arc<Who>,
    id: JobId,
    command: Command,
) -> Result<Json<JobSummary>, Failure> {
    match api.app.engine.command(command).await {
        Ok(_) => {}
        Err(EngineError::Refused(Refusal::NotFound { .. })) => {
            // It may have ended and left memory; to strangers it still does not exist.
            let job = find(api, who, id).await?;
            return Err(Failure(ended_already(&id, job.rolled_up())));
        }
        Err(error) => return Err(error.into()),
    }
    let job = find(api, who, id).await?;
    let summary = summaries(api, vec![job]).await?.pop();
    summary.map(Json).ok_or_else(|| no_job(id))
}

pub(super) async fn tasks(
    State(api): State<Shared>,
    Caller(who): Caller,
    Segment(id): Segment<JobId>,
    Params(query): Params<TasksQuery>,
) -> Result<Json<Page<TaskView>>, Failure> {
    let limit = page_limit(query.limit)?;
    let job = find(&api, &who, id).await?;
    let attempts = newest_attempts(&api, id, spillway_store::MAX_PAGE).await?;
    let indexes = job.spec.task_indexes();
    let (first, last) = indexes.ranges().first().copied().unwrap_or((0, 0));
    let first = query.after.map_or(first, |after| after.saturating_add(1).max(first));
    let indexes =
        (first..=last).filter(|index| query.after.is_none_or(|after| *index > after)).take(limit + 1);
    let mut items: Vec<TaskView> =
        indexes.filter_map(|index| job_views::task(&job, index, &attempts)).collect();
    let next = next_page(&mut items, limit, |task| task.index.to_string());
    Ok(Json(Page { items, next }))
}

fn odd_reply() -> Failure {
    Failure(ApiError::new(ErrorCode::Internal, "the broker could not make sense of its own answer"))
}
