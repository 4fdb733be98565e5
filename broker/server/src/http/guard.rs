//! What every request passes: a span, the bound on requests, the token, the time limit, the net for panics.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use spillway_api::{ApiError, ErrorCode};
use spillway_types::Role;
use tracing::{Instrument, field};

use super::auth::{self, Caller};
use super::failure::Failure;
use super::{Access, Shared};

/// How long an answer may take that waits for nothing: within the client's own limit of 30 seconds, so that
/// the client hears why.
const PROMPT_LIMIT: Duration = Duration::from_secs(25);
/// The same where the answer may wait: the longest long poll, and time to answer.
const PATIENT_LIMIT: Duration = Duration::from_millis(spillway_api::v1::MAX_WAIT_MS + 15_000);

/// The same where the whole ledger is read: below the client's own limit of 300 seconds.
const LONG_LIMIT: Duration = Duration::from_secs(290);

/// How long a route may keep its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It answers at once.
    Prompt,
    /// It may wait for something to happen.
    Patient,
    /// It goes over the whole ledger.
    Long,
}

/// What stands before a route.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) api: Shared,
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) pace: Pace,
}

pub(super) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let clock = gate.api.app.engine.clock();
    let began = clock.elapsed_ms();
    let span = tracing::info_span!(
        "request",
        method = gate.method.as_str(),
        route = gate.path,
        status = field::Empty,
        ms = field::Empty
    );
    async {
        let passed = AssertUnwindSafe(pass(&gate, request, next)).catch_unwind().await;
        let response = passed.unwrap_or_else(|panic| Ok(panicked(panic.as_ref()).into_response()));
        let response = response.unwrap_or_else(IntoResponse::into_response);
        let (status, ms) = (response.status().as_u16(), clock.elapsed_ms().saturating_sub(began));
        tracing::Span::current().record("status", status).record("ms", ms);
        if response.status().is_server_error() {
            tracing::warn!(status, ms, "a request was not served");
        } else {
            tracing::debug!(status, ms, "a request was answered");
        }
        response
    }
    .instrument(span)
    .await
}

async fn pass(gate: &Gate, mut request: Request, next: Next) -> Result<Response, Failure> {
    let api = &gate.api;
    let (limit, permit) = match gate.pace {
        Pace::Prompt => (PROMPT_LIMIT, None),
        Pace::Patient => {
            let permit = api.waiting.try_acquire().map_err(|_| too_many())?;
            (PATIENT_LIMIT, Some(permit))
        }
        Pace::Long => {
            let permit = api.waiting.try_acquire().map_err(|_| too_many())?;
            (LONG_LIMIT, Some(permit))
        }
    };
    let answer = async {
        let permit = match permit {
            Some(permit) => permit,
            None => api.requests.acquire().await.map_err(|_| too_many())?,
        };
        if gate.access != Access::Anyone {
            let who = auth::identify(api, request.headers()).await?;
            if !gate.access.is_open_to(who.role) {
                return Err(not_for(&who, gate.access));
            }
            request.extensions_mut().insert(Caller(who));
        }
        let response = next.run(request).await;
        drop(permit);
        Ok(response)
    };
    match tokio::time::timeout(limit, answer).await {
        Ok(answered) => answered,
        Err(_) => Err(too_slow(limit)),
    }
}

fn not_for(who: &auth::Who, access: Access) -> Failure {
    let role = Role::ALL.into_iter().find(|role| access.is_open_to(*role)).unwrap_or(Role::Admin);
    let others = if role == Role::Admin { String::new() } else { format!("a {} or ", role.as_str()) };
    let message = format!("user {} may not do this: it needs {others}an admin", who.name);
    Failure(ApiError::new(ErrorCode::Forbidden, message).hint("ask an admin of this broker"))
}

fn too_many() -> Failure {
    let message = "too many requests wait at this broker";
    Failure(ApiError::new(ErrorCode::RateLimited, message).hint("try again in a few seconds"))
}

fn too_slow(limit: Duration) -> Failure {
    let message = format!(
        "the broker did not finish within {} seconds; it is not known what came of it",
        limit.as_secs()
    );
    let hint = "try again; a submission with the same idempotency key is made only once";
    Failure(ApiError::new(ErrorCode::Unavailable, message).hint(hint))
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("no message"), "a request ran into a defect of the broker");
    let hint = "the broker's log says more; please report it";
    Failure(ApiError::new(ErrorCode::Internal, "this request ran into a defect of the broker").hint(hint))
}
