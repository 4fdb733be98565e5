//! From what went wrong to the envelope: the only place that chooses codes.

use axum::Json;
use axum::response::{IntoResponse, Response};
use spillway_api::error::ErrorEnvelope;
use spillway_api::v1::JobFileError;
use spillway_api::{ApiError, ErrorCode, route};
use spillway_core::Refusal;
use spillway_store::StoreError;

use crate::EngineError;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Failure(pub(super) ApiError);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = axum::http::StatusCode::from_u16(self.0.status());
        let status = status.unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(ErrorEnvelope::from(self.0))).into_response();
        if status == axum::http::StatusCode::UNAUTHORIZED {
            let scheme = axum::http::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<JobFileError> for Failure {
    fn from(error: JobFileError) -> Self {
        Self(error.into())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Store(error) => stored(&error),
            EngineError::Recovery(message) => Self(ApiError::new(ErrorCode::Recovery, message)),
            EngineError::Stopped => Self(ApiError::new(ErrorCode::Unavailable, error.to_string())),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        stored(&error)
    }
}

/// The database's own sentences name the way out.
fn stored(error: &StoreError) -> Failure {
    let code = match error {
        StoreError::ReadOnly { .. } => ErrorCode::ReadOnly,
        StoreError::Full { .. } => ErrorCode::StorageFull,
        StoreError::Unavailable { .. } | StoreError::Locked { .. } | StoreError::Conflict { .. } => {
            ErrorCode::Unavailable
        }
        StoreError::Corrupt { .. }
        | StoreError::Newer { .. }
        | StoreError::NotDurable { .. }
        | StoreError::Url { .. }
        | StoreError::Other { .. } => {
            tracing::error!(%error, "the database cannot be used");
            ErrorCode::Internal
        }
    };
    let (message, hint) = halves(&error.to_string());
    Failure(with_hint(ApiError::new(code, message), hint))
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let conflict = |message: String| ApiError::new(ErrorCode::Conflict, message);
        Self(match refusal {
            Refusal::Invalid { field, value, problem } => rule(ErrorCode::Invalid, field, &value, &problem),
            Refusal::Unsatisfiable { field, value, problem } => unsatisfiable(field, &value, &problem),
            Refusal::Budget(refusal) => {
                let (message, hint) = halves(&refusal.to_string());
                let error = ApiError::new(ErrorCode::BudgetExceeded, message);
                with_hint(error.field("group").value(&refusal.binding), hint)
            }
            Refusal::Forbidden { .. } => ApiError::new(ErrorCode::Forbidden, refusal.to_string()),
            Refusal::NotFound { kind, id } => ApiError::not_found(kind, &id),
            Refusal::KeyReused { key, job } => {
                let own = key.split_once('/').map_or(key.as_str(), |(_, own)| own);
                conflict(format!("this idempotency key was used for another submission, which made {job}"))
                    .field(route::IDEMPOTENCY_KEY)
                    .value(own)
                    .hint("use a new key for each job; repeat a key only with the same job")
            }
            Refusal::AlreadyEnded { job, state } => ended_already(&job, state),
            Refusal::NotWaiting { .. } => {
                conflict(refusal.to_string()).hint("`spillway cancel` ends what is at work")
            }
            Refusal::NotPreemptible { .. } => conflict(refusal.to_string()),
            Refusal::JoinToken(why) => ApiError::new(ErrorCode::Forbidden, why.to_string()),
            Refusal::Period(error) => conflict(error.to_string()).field("period"),
            Refusal::Unsettled { .. } | Refusal::UsageUnknown { .. } => {
                conflict(refusal.to_string()).field("period")
            }
            Refusal::Pool(error) => conflict(error.to_string()).field("period"),
            Refusal::Correction(error) => conflict(error.to_string()).field("seq"),
            Refusal::CorrectedAlready { .. } => {
                let (message, hint) = halves(&refusal.to_string());
                with_hint(conflict(message).field("seq"), hint)
            }
            Refusal::Rates(error) => {
                let (message, hint) = halves(&error.to_string());
                with_hint(ApiError::invalid(message).field("card"), hint)
            }
            Refusal::Currency(error) => {
                let (message, hint) = halves(&error.to_string());
                with_hint(ApiError::invalid(message).field("currency"), hint)
            }
            Refusal::NeverFits(refusal) => {
                let (message, hint) = halves(&refusal.to_string());
                let error = ApiError::new(ErrorCode::BudgetExceeded, message);
                with_hint(error.field("group").value(&refusal.binding.group), hint)
            }
            Refusal::Limits(error) => {
                let (message, hint) = halves(&error.to_string());
                with_hint(ApiError::invalid(message).field("limit"), hint)
            }
            Refusal::StaleEpoch { .. } | Refusal::SpoolGap { .. } | Refusal::Illegal(_) => {
                conflict(refusal.to_string())
            }
            Refusal::Limit { group, problem } => {
                let (message, hint) = halves(&problem);
                with_hint(ApiError::invalid(message).field("budget").value(group), hint)
            }
        })
    }
}

/// A job that is over is not cancelled any more.
pub(super) fn ended_already(job: &dyn std::fmt::Display, state: &str) -> ApiError {
    ApiError::new(ErrorCode::Conflict, format!("job {job} has ended already: {state}"))
}

/// A value that breaks a rule. What follows a semicolon in the rule's sentence is the way out.
fn rule(code: ErrorCode, field: &str, value: &str, problem: &str) -> ApiError {
    let (message, hint) = halves(problem);
    let message = format!("{} {message}", spillway_api::error::cut(value));
    with_hint(ApiError::new(code, message).field(field).value(value), hint)
}

/// The core gives the planner's sentence on; an unknown model is the one case that has its own code.
fn unsatisfiable(field: &str, value: &str, problem: &str) -> ApiError {
    let (message, hint) = halves(problem);
    let known = problem.starts_with("no site has ");
    let code = if known { ErrorCode::UnknownModel } else { ErrorCode::Unsatisfiable };
    with_hint(ApiError::new(code, message).field(field).value(value), hint)
}

fn halves(sentence: &str) -> (String, Option<String>) {
    match sentence.split_once("; ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (sentence.to_owned(), None),
    }
}

fn with_hint(error: ApiError, hint: Option<String>) -> ApiError {
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_ledger::{BudgetRefusal, RefusalKind};

    fn told(refusal: Refusal) -> (ErrorCode, String, String) {
        let Failure(error) = refusal.into();
        (error.code, error.message, error.hint.unwrap_or_default())
    }

    #[test]
    fn an_unknown_model_names_those_that_are_known() {
        let why = spillway_policies::Unsatisfiable::UnknownModel {
            asked: "RTX-9999".into(),
            known: vec!["A100".parse().unwrap(), "H100".parse().unwrap()],
        };
        let value = "RTX-9999:1".to_owned();
        let refusal = Refusal::Unsatisfiable { field: "resources.gpus", value, problem: why.to_string() };
        let (code, message, hint) = told(refusal);
        assert_eq!(code, ErrorCode::UnknownModel);
        assert_eq!((message.as_str(), hint.as_str()), ("no site has RTX-9999", "known models: A100, H100"));
        let why = spillway_policies::Unsatisfiable::TooFewNodes { wanted: 3, most: 1, denied: [].into() };
        let refusal = Refusal::Unsatisfiable { field: "nodes", value: "3".into(), problem: why.to_string() };
        assert_eq!(told(refusal).0, ErrorCode::Unsatisfiable);
    }

    #[test]
    fn a_budget_says_whose_limit_and_by_how_much() {
        let refusal = BudgetRefusal {
            binding: "lab".parse().unwrap(),
            limit_micros: 1_000_000,
            spent_micros: 0,
            held_micros: 0,
            wanted_micros: 3_000_000,
            shortfall_micros: 2_000_000,
            kind: RefusalKind::NeverFits,
        };
        let Failure(error) = Refusal::Budget(refusal).into();
        assert_eq!((error.code, error.value.as_deref()), (ErrorCode::BudgetExceeded, Some("lab")));
        for part in ["`lab`", "2.00 short", "limit 1.00"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
        assert!(error.hint.unwrap().contains("raise the limit"));
    }

    #[test]
    fn a_reused_key_is_shown_without_its_user() {
        let job = spillway_types::JobId::generate(&mut spillway_types::SequentialIds::new(1));
        let Failure(error) = Refusal::KeyReused { key: "ada/a/b".into(), job }.into();
        assert_eq!((error.code, error.value.as_deref()), (ErrorCode::Conflict, Some("a/b")));
    }
}
