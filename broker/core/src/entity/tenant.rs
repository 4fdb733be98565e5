//! Groups, users, tokens, and what makes a submission happen once.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spillway_ledger::rates::Stated;
use spillway_types::{GroupName, JobId, Role, UnixMs, UserName};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// The group above it.
    pub parent: Option<GroupName>,
    /// Share among groups of one priority; at least 1.
    pub weight: u32,
    /// Higher goes first.
    pub priority: i32,
    /// The most that it and the groups below it may spend and hold, in micros; none means no limit.
    pub budget_micros: Option<i64>,
    /// The same as it was stated, where that was in another currency: the micros are what it was worth then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_stated: Option<Stated>,
}

/// A person or a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: UserName,
    /// What the user may do.
    pub role: Role,
    /// Groups the user may submit for.
    pub groups: BTreeSet<GroupName>,
}

/// A bearer token, known by its hash only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the token, in hexadecimal.
    pub hash: String,
    /// Whose it is.
    pub user: UserName,
    /// When it was issued.
    pub issued: UnixMs,
}

/// A submission that carried an idempotency key. Remembered for a day after it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The user and the key, as `user/key`.
    pub key: String,
    /// Digest of what was submitted: the same key with another content is a conflict.
    pub digest: String,
    /// The job it made.
    pub job: JobId,
    /// When.
    pub at: UnixMs,
}
