//! The rules in force, and what they say of one request.

use std::collections::BTreeSet;
use std::fmt;

use cedar_policy::{AuthorizationError, Authorizer, PolicySet, Response};
use serde::{Deserialize, Serialize};

use crate::depth::with_stack;
use crate::entities::{Built, is_user};
use crate::error::AccessError;
use crate::request::Request;
use crate::source::Sources;

/// Policies that fit the schema; by default none, and then everything is allowed.
#[derive(Clone, Default)]
pub struct AccessRules {
    /// None permits everything: an installation without policies has no rules but those of jobs and pools.
    set: Option<PolicySet>,
    ids: BTreeSet<String>,
    names_users: bool,
    /// The most signs of one policy: what a decision needs stack for.
    signs: usize,
}

/// What the rules say, and which of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Whether the job may run there.
    pub decision: Decision,
    /// Ids of the policies that decided, in order. Empty for a denial means that no policy permits it, or that
    /// something failed.
    pub by: Vec<String>,
    /// Policies that could not be evaluated. One is enough to deny.
    pub failures: Vec<PolicyFailure>,
}

/// Whether a job may run at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
}

impl Decision {
    /// The decision as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// A policy that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PolicyFailure {
    /// Its id; none where the request itself could not be put to the policies.
    pub policy: Option<String>,
    /// What went wrong.
    pub problem: String,
}

impl Access {
    /// Whether the job may run there.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self.decision, Decision::Allowed)
    }

    /// Why, in one sentence for an explanation: `denied by policy patient-data`.
    #[must_use]
    pub fn sentence(&self) -> String {
        if let Some(PolicyFailure { policy, problem }) = self.failures.first() {
            let policy = policy.as_ref().map(|id| format!("policy {id} failed: ")).unwrap_or_default();
            return format!("denied: {policy}{problem}");
        }
        let by = match self.by.as_slice() {
            [] => String::new(),
            [one] => format!(" by policy {one}"),
            several => format!(" by policies {}", several.join(", ")),
        };
        match (self.decision, self.by.is_empty()) {
            (Decision::Denied, true) => "denied: no policy permits it".to_owned(),
            (decision, _) => format!("{}{by}", decision.as_str()),
        }
    }

    fn failed(problem: String) -> Self {
        let failures = vec![PolicyFailure { policy: None, problem }];
        Self { decision: Decision::Denied, by: Vec::new(), failures }
    }
}

impl fmt::Debug for AccessRules {
    /// The ids alone: the policies themselves are pages long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessRules").field("ids", &self.ids).finish_non_exhaustive()
    }
}

impl AccessRules {
    /// Reads policy files, given as name and text, and holds them strictly against the schema. No file at all gives
    /// the default.
    ///
    /// # Errors
    /// [`AccessError`] names the file, and where it can the line and the column.
    pub fn from_sources(files: &[(&str, &str)]) -> Result<Self, AccessError> {
        if files.is_empty() {
            return Ok(Self::default());
        }
        let sources = Sources::read(files)?;
        let names_users = with_stack(sources.signs, || {
            sources.set.policies().any(|policy| policy.entity_literals().iter().any(is_user))
        });
        let ids = sources.places.into_keys().collect();
        Ok(Self { signs: sources.signs, set: Some(sources.set), ids, names_users })
    }

    /// Whether there is nothing to ask: every request is allowed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.set.is_none()
    }

    /// Ids of all policies.
    #[must_use]
    pub const fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }

    /// Whether a policy names a user. Where none does, all users of one group get the same answers, and what
    /// remembers answers can leave the user out.
    #[must_use]
    pub const fn names_users(&self) -> bool {
        self.names_users
    }

    /// Whether the job may run there, and by which policies. A policy that cannot be evaluated denies.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Access {
        match &self.set {
            None => Access { decision: Decision::Allowed, by: Vec::new(), failures: Vec::new() },
            Some(set) => with_stack(self.signs, || ask(set, request))
                .map_or_else(Access::failed, |response| read(&response)),
        }
    }
}

fn ask(set: &PolicySet, request: &Request<'_>) -> Result<Response, String> {
    let built = Built::of(request)?;
    let entities = Built::store(built.entities)?;
    let asked =
        cedar_policy::Request::new(built.principal, built.action, built.resource, built.context, None);
    let asked = asked.map_err(|error| error.to_string())?;
    Ok(Authorizer::new().is_authorized(&asked, set, &entities))
}

fn read(response: &Response) -> Access {
    let failure = |error: &AuthorizationError| match error {
        AuthorizationError::PolicyEvaluationError(error) => {
            PolicyFailure { policy: Some(error.policy_id().to_string()), problem: error.inner().to_string() }
        }
    };
    let failures: BTreeSet<PolicyFailure> = response.diagnostics().errors().map(failure).collect();
    let by: BTreeSet<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    let (decision, by) = match response.decision() {
        cedar_policy::Decision::Allow if failures.is_empty() => (Decision::Allowed, by),
        // What permitted it did not decide: the failure did.
        cedar_policy::Decision::Allow => (Decision::Denied, BTreeSet::new()),
        cedar_policy::Decision::Deny => (Decision::Denied, by),
    };
    Access { decision, by: by.into_iter().collect(), failures: failures.into_iter().collect() }
}

#[cfg(test)]
mod tests;
