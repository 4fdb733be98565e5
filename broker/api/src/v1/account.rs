//! Groups, users, tokens and budgets.

use serde::{Deserialize, Serialize};
use spillway_ledger::calendar::Zone;
use spillway_ledger::rates::Stated;
use spillway_types::{
    Currency, DurationMs, GroupName, JoinTokenId, Money, PoolName, Role, SiteName, UnixMs, UserName,
};

use crate::Secret;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its name.
    pub name: GroupName,
    /// The group above it.
    #[serde(default)]
    pub parent: Option<GroupName>,
    /// The time zone of its months.
    #[serde(default)]
    pub zone: Zone,
    /// What it is told amounts in where nobody asks for another currency: its own, or that of the group above it.
    #[serde(default)]
    pub currency: Currency,
    /// Share among groups of one priority.
    pub weight: u32,
    /// Higher goes first.
    pub priority: i32,
    /// What it may spend; none means no limit of its own.
    #[serde(default)]
    pub budget: Option<Money>,
    /// The same as it was stated, where that was in another currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_stated: Option<Stated>,
    /// What was charged to it and all below it.
    pub spent: Money,
    /// What is held for attempts of it and all below it.
    pub held: Money,
    /// What may still be held, over all groups above it; none means no limit.
    #[serde(default)]
    pub left: Option<Money>,
    /// Its users.
    #[serde(default)]
    pub members: Vec<UserName>,
}

/// Makes a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// Its name.
    pub name: GroupName,
    /// The group above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GroupName>,
    /// Share among groups of one priority; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Higher goes first; 0 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// What it may spend; no limit where absent. In another currency than dollars it is converted once, at what that is
    /// worth today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Money>,
    /// What it is told amounts in; as the group above it where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
}

/// Sets a group's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetRequest {
    /// What it may spend; null means no limit of its own. In another currency than dollars it is converted once, at what
    /// that is worth today.
    pub budget: Option<Money>,
}

/// Makes a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// The name.
    pub name: UserName,
    /// The group.
    pub group: GroupName,
    /// What the user may do; `member` where absent.
    #[serde(default = "member")]
    pub role: Role,
}

const fn member() -> Role {
    Role::Member
}

/// A person or a service with tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// The name.
    pub name: UserName,
    /// The group.
    pub group: GroupName,
    /// What the user may do.
    pub role: Role,
    /// What the user is owed for machines that are lent, where the caller may know: the user, and who reads the books. In
    /// the first of the user's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<Money>,
}

/// Makes a token of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// How long it is good for; for ever where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<DurationMs>,
}

/// A new token. It is shown this once; the broker keeps only its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Whose.
    pub user: UserName,
    /// The token.
    pub token: Secret,
    /// When it ends.
    #[serde(default)]
    pub expires: Option<UnixMs>,
}

/// Makes a join token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// The site that the machine joins; the broker's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteName>,
    /// The pool that the machine joins; the site's only one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// How long the token is good for; the broker's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<DurationMs>,
}

/// What a machine needs to join. Shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinLine {
    /// The token's public handle.
    pub id: JoinTokenId,
    /// The token.
    pub token: Secret,
    /// The one line to run on the machine. Contains the token.
    pub command: Secret,
    /// When the token ends.
    pub expires: UnixMs,
    /// SHA-256 of the deployment's CA certificate, in hexadecimal.
    pub ca_fingerprint: String,
    /// Where the agent dials, as `HOST:PORT`.
    pub broker_addr: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_line_hides_its_token_in_logs() {
        let text = r#"{"id":"join_00000000000000010000000000000001","token":"sp-secret",
            "command":"spillway agent --token sp-secret","expires":1,"ca_fingerprint":"ab","broker_addr":"h:1"}"#;
        let line: JoinLine = serde_json::from_str(text).expect("json");
        assert!(!format!("{line:?}").contains("secret"));
        assert_eq!(line.token.expose(), "sp-secret");
    }
}
