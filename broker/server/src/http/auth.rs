//! Who asks: a bearer token is hashed and looked up; nothing else of it is kept or shown.
//!
//! What was found is remembered for a moment, so that a busy user costs the engine one question a second. A
//! user who was changed through this API is asked for again at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use spillway_api::{ApiError, ErrorCode};
use spillway_types::{GroupName, Role, UserName};

use super::failure::Failure;
use super::{Api, Shared};
use crate::secrets;

/// How long an answer is good.
const REMEMBERED_MS: u64 = 1000;
/// Most answers that are remembered: past it all are forgotten, which costs a question each.
const MAX_REMEMBERED: usize = 4096;
/// Longest token that is looked at: several times the longest that is made here.
const MAX_TOKEN: usize = 256;

/// A user who asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) name: UserName,
    pub(super) role: Role,
    /// The user's group, where there is exactly one.
    pub(super) only_group: Option<GroupName>,
}

/// The user behind the request, for handlers; put there by the guard.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Arc<Who>);

impl FromRequestParts<Shared> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// Users by the hash of their tokens, with when that was found out.
#[derive(Debug, Default)]
pub(super) struct Callers(Mutex<BTreeMap<String, (Arc<Who>, u64)>>);

impl Callers {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, (Arc<Who>, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recall(&self, hash: &str, now_ms: u64) -> Option<Arc<Who>> {
        let known = self.known();
        let (who, since) = known.get(hash)?;
        (now_ms.saturating_sub(*since) < REMEMBERED_MS).then(|| Arc::clone(who))
    }

    fn remember(&self, hash: String, who: Arc<Who>, now_ms: u64) {
        let mut known = self.known();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(hash, (who, now_ms));
    }

    /// Users have changed: ask again.
    pub(super) fn forget(&self) {
        self.known().clear();
    }
}

/// The user whose token the request carries.
pub(super) async fn identify(api: &Api, headers: &HeaderMap) -> Result<Arc<Who>, Failure> {
    let token = bearer(headers).ok_or_else(unauthenticated)?;
    let hash = secrets::hash(token);
    // The time before the question: what changes meanwhile is not remembered for longer.
    let asked = api.app.engine.clock().elapsed_ms();
    if let Some(who) = api.callers.recall(&hash, asked) {
        return Ok(who);
    }
    let found = api.app.engine.read(move |view| {
        let state = view.federation.state();
        let user = state.users.get(&state.tokens.get(&hash)?.user)?;
        let only_group = user.groups.first().filter(|_| user.groups.len() == 1).cloned();
        Some((hash, Arc::new(Who { name: user.name.clone(), role: user.role, only_group })))
    });
    let (hash, who) = found.await?.ok_or_else(unauthenticated)?;
    api.callers.remember(hash, Arc::clone(&who), asked);
    Ok(who)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let plausible = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN;
    plausible.then_some(token)
}

/// The same for every cause: it tells nobody whether a token was close.
fn unauthenticated() -> Failure {
    let hint =
        "send `Authorization: Bearer TOKEN`; the CLI takes the token from SPILLWAY_TOKEN; an admin makes one";
    Failure(ApiError::new(ErrorCode::Unauthenticated, "this needs the token of a user").hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_bearer_tokens_count() {
        let read = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, value)])).map(str::to_owned)
        };
        assert_eq!(read("Bearer sw_1"), Some("sw_1".into()));
        assert_eq!(read("bearer  sw_1 "), Some("sw_1".into()));
        for wrong in ["sw_1", "Basic sw_1", "Bearer ", "Bearer", ""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(read(&format!("Bearer {}", "x".repeat(MAX_TOKEN))).is_some());
        assert!(read(&format!("Bearer {}", "x".repeat(MAX_TOKEN + 1))).is_none());
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_remembered_fades() {
        let callers = Callers::default();
        let who = Arc::new(Who { name: "ada".parse().unwrap(), role: Role::Member, only_group: None });
        callers.remember("a".into(), Arc::clone(&who), 5);
        assert_eq!(callers.recall("a", 5 + REMEMBERED_MS - 1), Some(who.clone()));
        assert_eq!(callers.recall("a", 5 + REMEMBERED_MS), None);
        for n in 0..=MAX_REMEMBERED {
            callers.remember(n.to_string(), Arc::clone(&who), 5);
        }
        assert!(callers.known().len() <= MAX_REMEMBERED);
        callers.forget();
        assert!(callers.known().is_empty());
    }
}
