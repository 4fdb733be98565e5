//! What would be done with a job: the planner is asked, and nothing changes.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use spillway_api::v1::{JobDefaults, JobFile, MAX_JOB_FILE, PlanView};
use spillway_api::{ApiError, ErrorCode};
use spillway_core::{Refusal, snapshot};
use spillway_policies::{Explanation, QueuedJob, Snapshot, Unsatisfiable};
use spillway_types::{JobId, JobSpec, Money};
use uuid::Uuid;

use super::auth::{Caller, Who};
use super::failure::Failure;
use super::{Shared, input, job_views, may_see};
use crate::View;

pub(super) async fn plan(
    State(api): State<Shared>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PlanView>, Failure> {
    let file: JobFile = input::json(&headers, body, MAX_JOB_FILE).await?;
    let spec = file.into_spec(&JobDefaults { group: who.only_group.clone() })?;
    let permit = api.plans.acquire().await.map_err(|_| Failure::from(crate::EngineError::Stopped))?;
    let asked = spec.clone();
    let question = api.app.engine.read(move |view| question(view, &who, &asked)).await??;
    // A long queue takes a while to plan: not on a thread that serves others.
    let answered = tokio::task::spawn_blocking(move || answer(&question)).await;
    drop(permit);
    let (hold, explanation) = answered.map_err(|error| {
        tracing::error!(%error, "the planner failed at a question");
        Failure(ApiError::new(ErrorCode::Internal, "the planner failed at this job"))
    })??;
    let explanation = job_views::explanation(&explanation);
    Ok(Json(PlanView { spec, hold: hold.map(Money::usd_micros), explanation }))
}

type Question = Box<(Snapshot, QueuedJob)>;

/// What the planner is to see; the checks are those of a submission that need the state.
fn question(view: &View<'_>, who: &Arc<Who>, spec: &JobSpec) -> Result<Question, Failure> {
    let state = view.federation.state();
    if !state.groups.contains_key(&spec.group) || !may_see(state, who, &spec.group) {
        let problem = "is not a group that you may submit for; `spillway groups` lists them".to_owned();
        return Err(Refusal::Invalid { field: "group", value: spec.group.to_string(), problem }.into());
    }
    let snapshot = snapshot::take(view.federation, view.policy, view.now);
    let job = snapshot::queued(state, JobId::from_uuid(Uuid::nil()), spec, view.now);
    let job = QueuedJob { user: Some(who.name.clone()), ..job };
    Ok(Box::new((snapshot, job)))
}

fn answer(question: &(Snapshot, QueuedJob)) -> Result<(Option<i64>, Explanation), Failure> {
    let (snapshot, job) = question;
    // A model that nobody has is most likely mistyped: a list of places that lack it would not say so.
    if let (Some(gpus), Err(why @ Unsatisfiable::UnknownModel { .. })) =
        (&job.resources.gpus, spillway_policies::could_ever_run(snapshot, job))
    {
        let (value, problem) = (gpus.to_string(), why.to_string());
        return Err(Refusal::Unsatisfiable { field: "resources.gpus", value, problem }.into());
    }
    let hold = spillway_policies::cheapest_hold(snapshot, job);
    Ok((hold, spillway_policies::explain_one(snapshot, job)))
}
