//! Paths of the API, shared by the server and the client. `PATH` constants are in the router's syntax; the
//! functions fill in the ids.

use spillway_ledger::calendar::Period;
use spillway_types::{Currency, GroupName, JobId, NodeId, PoolName, UserName};

use crate::v1::NodeAction;

/// `POST` submits a job, `GET` lists jobs.
pub const JOBS: &str = "/v1/jobs";
/// `GET` one job; waits with `wait_for` and `timeout_ms`.
pub const JOB: &str = "/v1/jobs/{id}";
/// `POST` cancels a job.
pub const JOB_CANCEL: &str = "/v1/jobs/{id}/cancel";
/// `POST` keeps the waiting tasks of a job from being placed.
pub const JOB_HOLD: &str = "/v1/jobs/{id}/hold";
/// `POST` lets a held job go on.
pub const JOB_RELEASE: &str = "/v1/jobs/{id}/release";
/// `POST` puts a waiting job before others.
pub const JOB_TOP: &str = "/v1/jobs/{id}/top";
/// `GET` what a job's program wrote, as raw bytes.
pub const JOB_LOGS: &str = "/v1/jobs/{id}/logs";
/// `GET` a job's tasks.
pub const JOB_TASKS: &str = "/v1/jobs/{id}/tasks";
/// `POST` says what would be done with a job.
pub const PLAN: &str = "/v1/plan";
/// `GET` the sites.
pub const SITES: &str = "/v1/sites";
/// `GET` the nodes.
pub const NODES: &str = "/v1/nodes";
/// `POST` changes a node: `cordon`, `uncordon`, `drain` or `revoke`.
pub const NODE_ACTION: &str = "/v1/nodes/{id}/{action}";
/// `GET` the groups, `POST` makes one.
pub const GROUPS: &str = "/v1/groups";
/// `PUT` changes a group, `DELETE` removes it.
pub const GROUP: &str = "/v1/groups/{group}";
/// `GET` what groups may use, `PUT` sets or removes a limit.
pub const LIMITS: &str = "/v1/limits";
/// `GET` the transfers of budget, `POST` makes one.
pub const TRANSFERS: &str = "/v1/transfers";
/// `GET` who used how much of the own share.
pub const FAIR_SHARE: &str = "/v1/fairshare";
/// `PUT` sets a group's budget.
pub const GROUP_BUDGET: &str = "/v1/groups/{group}/budget";
/// `GET` the users, `POST` makes one.
pub const USERS: &str = "/v1/users";
/// `POST` makes a token of a user.
pub const USER_TOKENS: &str = "/v1/users/{user}/tokens";
/// `GET` what was spent.
pub const SPEND: &str = "/v1/spend";
/// `GET` days whose spend is out of the ordinary.
pub const SPEND_ANOMALIES: &str = "/v1/spend/anomalies";
/// `GET` records of the ledger.
pub const LEDGER: &str = "/v1/ledger";
/// `POST` corrects what a record charged.
pub const CORRECTIONS: &str = "/v1/ledger/corrections";
/// `POST` verifies the ledger.
pub const LEDGER_VERIFY: &str = "/v1/ledger/verify";
/// `GET` the closed periods.
pub const PERIODS: &str = "/v1/periods";
/// `GET` a month of the books, open or closed.
pub const PERIOD: &str = "/v1/periods/{period}";
/// `POST` closes a period.
pub const PERIOD_CLOSE: &str = "/v1/periods/{period}/close";
/// `GET` what was here of each site's usage when a period was closed.
pub const PERIOD_MANIFESTS: &str = "/v1/periods/{period}/manifests";
/// `GET` a period's export, as CSV.
pub const PERIOD_EXPORT: &str = "/v1/periods/{period}/export";
/// `GET` the rate cards of pools.
pub const RATES: &str = "/v1/rates";
/// `GET` what pools could give in a month, what was used of it, and what nobody used.
pub const POOLS: &str = "/v1/pools";
/// `PUT` sets a pool's rate card.
pub const POOL_RATES: &str = "/v1/rates/{pool}";
/// `GET` what currencies are worth.
pub const CURRENCIES: &str = "/v1/currencies";
/// `PUT` sets what a currency is worth from a day on.
pub const CURRENCY: &str = "/v1/currencies/{currency}";
/// `POST` holds a provider's bill against what was charged.
pub const RECONCILE: &str = "/v1/reconcile";
/// `GET` the clouds with their instances.
pub const CLOUDS: &str = "/v1/clouds";
/// `GET` what clouds would launch.
pub const OFFERS: &str = "/v1/offers";
/// `POST` makes a join token.
pub const JOIN_TOKENS: &str = "/v1/join-tokens";
/// `GET` who is told of limits that fill up.
pub const ALERTS: &str = "/v1/alerts";
/// `GET` the broker's health. Needs no token.
pub const HEALTH: &str = "/v1/health";

/// The header that makes a submission repeatable: the same key and body give the same job.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY: usize = 128;

/// Where one job is.
#[must_use]
pub fn job(id: JobId) -> String {
    JOB.replace("{id}", &id.to_string())
}

/// Where a job is cancelled.
#[must_use]
pub fn job_cancel(id: JobId) -> String {
    JOB_CANCEL.replace("{id}", &id.to_string())
}

/// Where a job is held.
#[must_use]
pub fn job_hold(id: JobId) -> String {
    JOB_HOLD.replace("{id}", &id.to_string())
}

/// Where a job is released.
#[must_use]
pub fn job_release(id: JobId) -> String {
    JOB_RELEASE.replace("{id}", &id.to_string())
}

/// Where a job is put on top.
#[must_use]
pub fn job_top(id: JobId) -> String {
    JOB_TOP.replace("{id}", &id.to_string())
}

/// Where a job's output is.
#[must_use]
pub fn job_logs(id: JobId) -> String {
    JOB_LOGS.replace("{id}", &id.to_string())
}

/// Where a job's tasks are.
#[must_use]
pub fn job_tasks(id: JobId) -> String {
    JOB_TASKS.replace("{id}", &id.to_string())
}

/// Where a node is changed.
#[must_use]
pub fn node_action(id: NodeId, action: NodeAction) -> String {
    NODE_ACTION.replace("{id}", &id.to_string()).replace("{action}", action.as_str())
}

/// Where a group's budget is set.
#[must_use]
pub fn group_budget(group: &GroupName) -> String {
    GROUP_BUDGET.replace("{group}", group.as_str())
}

/// Where a group is changed.
#[must_use]
pub fn group(group: &GroupName) -> String {
    GROUP.replace("{group}", group.as_str())
}

/// Where a period is.
#[must_use]
pub fn period(period: Period) -> String {
    PERIOD.replace("{period}", &period.to_string())
}

/// Where a period is closed.
#[must_use]
pub fn period_close(period: Period) -> String {
    PERIOD_CLOSE.replace("{period}", &period.to_string())
}

/// Where a period's manifests are.
#[must_use]
pub fn period_manifests(period: Period) -> String {
    PERIOD_MANIFESTS.replace("{period}", &period.to_string())
}

/// Where a period's export is.
#[must_use]
pub fn period_export(period: Period) -> String {
    PERIOD_EXPORT.replace("{period}", &period.to_string())
}

/// Where a pool's rate card is set.
#[must_use]
pub fn pool_rates(pool: &PoolName) -> String {
    POOL_RATES.replace("{pool}", pool.as_str())
}

/// Where it is set what a currency is worth.
#[must_use]
pub fn currency(currency: Currency) -> String {
    CURRENCY.replace("{currency}", currency.as_str())
}

/// Where a user's tokens are made.
#[must_use]
pub fn user_tokens(user: &UserName) -> String {
    USER_TOKENS.replace("{user}", user.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::SequentialIds;

    #[test]
    fn paths_are_filled_in() {
        let mut ids = SequentialIds::new(1);
        let id = JobId::generate(&mut ids);
        assert_eq!(job_logs(id), format!("/v1/jobs/{id}/logs"));
        assert_eq!(job_hold(id), format!("/v1/jobs/{id}/hold"));
        assert_eq!(job_release(id), format!("/v1/jobs/{id}/release"));
        assert_eq!(job_top(id), format!("/v1/jobs/{id}/top"));
        let node = NodeId::generate(&mut ids);
        assert_eq!(node_action(node, NodeAction::Drain), format!("/v1/nodes/{node}/drain"));
        let user: UserName = "ada".parse().expect("name");
        assert_eq!(user_tokens(&user), "/v1/users/ada/tokens");
        assert_eq!(period("2026-03".parse().expect("month")), "/v1/periods/2026-03");
        assert_eq!(period_close("2026-03".parse().expect("month")), "/v1/periods/2026-03/close");
        assert_eq!(period_manifests("2026-03".parse().expect("month")), "/v1/periods/2026-03/manifests");
        assert_eq!(period_export("2026-03".parse().expect("month")), "/v1/periods/2026-03/export");
        assert_eq!(currency("EUR".parse().expect("code")), "/v1/currencies/EUR");
        assert_eq!(pool_rates(&"dgx".parse().expect("name")), "/v1/rates/dgx");
        for filled in [job(id), job_cancel(id), job_tasks(id), group_budget(&"a".parse().expect("name"))] {
            assert!(!filled.contains('{'), "{filled}");
        }
    }
}
