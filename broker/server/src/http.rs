//! The HTTP API, version 1: a table of routes over the engine and the store.
//!
//! - Every route is in one table with who may use it; one guard enforces that, so that no handler can forget.
//! - Every answer that is an error is an envelope, also those to unknown paths, wrong methods and panics.
//! - Members see what belongs to the subtrees of their groups; the rest does not exist for them.
//! - Bodies, headers, connections, waiting and the time of an answer are bounded.
//!
//! Left out on purpose: TLS, which a proxy in front does, and rates for each user.

mod auth;
mod failure;
mod guard;
mod input;
mod serve;

mod accounts;
mod currencies;
mod fleet;
mod health;
mod job_views;
mod jobs;
mod ledger;
mod limits;
mod logs;
mod nodes;
mod plan;
mod pools;
mod spend;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use spillway_api::{ApiError, ErrorCode, route};
use spillway_core::State;
use spillway_types::{CloudName, GroupName, Role};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::auth::Who;
use self::failure::Failure;
use self::guard::{Gate, Pace};
use crate::Engine;
use crate::alerts::Alerts;
use crate::outputs::Outputs;
use crate::sessions::Sessions;

pub use self::serve::serve;

/// Most requests that are worked on at the same time; more wait until their time is over. Above what the
/// engine takes in one transaction, so that a transaction can be full.
const MAX_REQUESTS: usize = 1024;
/// Most requests that wait for something to happen, and most outputs that are being sent: each costs a
/// connection, and a process has some thousands.
const MAX_WAITING: usize = 2048;
/// Most plans that are made for questions at the same time: each may keep one core busy.
const MAX_PLANS: usize = 2;

/// What the API works on.
#[derive(Debug)]
pub struct App {
    /// The state.
    pub engine: Engine,
    /// The nodes that are connected, for output that is still at its node.
    pub sessions: Arc<Sessions>,
    /// Output that is stored here.
    pub outputs: Arc<Outputs>,
    /// The clouds, each with what its connector said last where that was an error.
    pub clouds: watch::Receiver<BTreeMap<CloudName, Option<String>>>,
    /// Who is told of limits that fill up.
    pub alerts: Arc<Alerts>,
    /// Where agents dial, as `HOST:PORT`.
    pub broker_addr: String,
    /// SHA-256 of the deployment's CA certificate, in hexadecimal.
    pub ca_fingerprint: String,
    /// The kind of the database, for health: without any path or password.
    pub database: String,
}

/// What handlers share: the app, and the bounds on what they do at the same time.
#[derive(Debug)]
struct Api {
    app: Arc<App>,
    callers: auth::Callers,
    requests: Semaphore,
    waiting: Arc<Semaphore>,
    plans: Semaphore,
    shutdown: CancellationToken,
}

type Shared = Arc<Api>;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Anybody, without a token.
    Anyone,
    /// Every user.
    User,
    /// Those who submit jobs.
    Work,
    /// Those who may look at the books.
    Books,
    /// Those who close months, and set rates and what currencies are worth.
    KeepBooks,
    /// Those who manage groups; which ones is for the handler to ask.
    Manage,
    /// Admins.
    Admin,
}

impl Access {
    /// Whether a user of this role may.
    const fn is_open_to(self, role: Role) -> bool {
        match self {
            Self::Anyone | Self::User => true,
            Self::Work => role.works(),
            Self::Books => role.reads_books(),
            Self::KeepBooks => role.keeps_books(),
            Self::Manage => role.manages_groups(),
            Self::Admin => matches!(role, Role::Admin),
        }
    }
}

/// One line of the table of routes.
struct Route {
    method: Method,
    path: &'static str,
    access: Access,
    pace: Pace,
    handler: MethodRouter<Shared>,
}

impl Route {
    fn new<H, T>(method: Method, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the table names plain methods");
        Self { method, path, access, pace: Pace::Prompt, handler: on(filter, handler) }
    }

    /// Its answer may wait for something to happen.
    fn patient(self) -> Self {
        Self { pace: Pace::Patient, ..self }
    }

    /// It goes over the whole ledger.
    fn long(self) -> Self {
        Self { pace: Pace::Long, ..self }
    }
}

/// Every route of the API.
fn routes() -> Vec<Route> {
    use Access::{Admin, Anyone, Books, KeepBooks, Manage, User, Work};
    vec![
        Route::new(Method::POST, route::JOBS, Work, jobs::submit),
        Route::new(Method::GET, route::JOBS, User, jobs::list),
        Route::new(Method::GET, route::JOB, User, jobs::show).patient(),
        Route::new(Method::POST, route::JOB_CANCEL, Work, jobs::cancel),
        Route::new(Method::POST, route::JOB_HOLD, Work, jobs::hold),
        Route::new(Method::POST, route::JOB_RELEASE, Work, jobs::release),
        Route::new(Method::POST, route::JOB_TOP, Work, jobs::top),
        Route::new(Method::GET, route::JOB_TASKS, User, jobs::tasks),
        Route::new(Method::GET, route::JOB_LOGS, Work, logs::read).patient(),
        Route::new(Method::POST, route::PLAN, Work, plan::plan),
        Route::new(Method::GET, route::SITES, User, fleet::sites),
        Route::new(Method::GET, route::NODES, User, nodes::list),
        Route::new(Method::POST, route::NODE_ACTION, Admin, nodes::change),
        Route::new(Method::GET, route::CLOUDS, User, fleet::clouds),
        Route::new(Method::GET, route::OFFERS, User, fleet::offers),
        Route::new(Method::GET, route::GROUPS, User, accounts::groups),
        Route::new(Method::POST, route::GROUPS, Manage, accounts::create_group),
        Route::new(Method::PUT, route::GROUP, Manage, limits::change_group),
        Route::new(Method::DELETE, route::GROUP, Manage, limits::remove_group),
        Route::new(Method::PUT, route::GROUP_BUDGET, Manage, accounts::set_budget),
        Route::new(Method::GET, route::LIMITS, User, limits::list),
        Route::new(Method::PUT, route::LIMITS, Manage, limits::set),
        Route::new(Method::GET, route::TRANSFERS, User, limits::transfers),
        Route::new(Method::POST, route::TRANSFERS, Manage, limits::transfer),
        Route::new(Method::GET, route::FAIR_SHARE, User, limits::fair_share),
        Route::new(Method::GET, route::USERS, User, accounts::users),
        Route::new(Method::POST, route::USERS, Admin, accounts::create_user),
        Route::new(Method::POST, route::USER_TOKENS, Admin, accounts::create_token),
        Route::new(Method::POST, route::JOIN_TOKENS, Admin, accounts::create_join_token),
        Route::new(Method::GET, route::SPEND, User, spend::report),
        Route::new(Method::GET, route::SPEND_ANOMALIES, User, spend::anomalies),
        Route::new(Method::GET, route::LEDGER, Books, ledger::records),
        Route::new(Method::POST, route::CORRECTIONS, KeepBooks, ledger::correct),
        Route::new(Method::POST, route::LEDGER_VERIFY, Books, ledger::verify).long(),
        Route::new(Method::GET, route::PERIODS, User, ledger::periods),
        Route::new(Method::GET, route::PERIOD, Books, ledger::period),
        Route::new(Method::POST, route::PERIOD_CLOSE, KeepBooks, ledger::close).long(),
        Route::new(Method::GET, route::PERIOD_MANIFESTS, Books, ledger::period_manifests),
        Route::new(Method::GET, route::PERIOD_EXPORT, Books, ledger::period_export).long(),
        Route::new(Method::GET, route::POOLS, Books, pools::report),
        Route::new(Method::GET, route::RATES, User, ledger::rates),
        Route::new(Method::PUT, route::POOL_RATES, KeepBooks, ledger::set_rates),
        Route::new(Method::GET, route::CURRENCIES, User, currencies::list),
        Route::new(Method::PUT, route::CURRENCY, KeepBooks, currencies::set),
        Route::new(Method::POST, route::RECONCILE, Books, ledger::reconcile).long(),
        Route::new(Method::GET, route::ALERTS, Books, health::alerts),
        Route::new(Method::GET, route::HEALTH, Anyone, health::show),
    ]
}

/// The router of the API. Long polls and followed output end only with their connections: [`serve`] ends
/// them at a shutdown.
pub fn router(app: Arc<App>) -> Router {
    build(&share(app, CancellationToken::new()))
}

fn share(app: Arc<App>, shutdown: CancellationToken) -> Shared {
    Arc::new(Api {
        app,
        callers: auth::Callers::default(),
        requests: Semaphore::new(MAX_REQUESTS),
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        plans: Semaphore::new(MAX_PLANS),
        shutdown,
    })
}

fn build(api: &Shared) -> Router {
    let mut router = Router::new();
    for line in routes() {
        let Route { method, path, access, pace, handler } = line;
        let gate = Gate { api: Arc::clone(api), method, path, access, pace };
        router = router.route(path, handler.route_layer(from_fn_with_state(gate, guard::guard)));
    }
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_method).with_state(Arc::clone(api))
}

async fn unknown_path(uri: axum::http::Uri) -> Failure {
    let hint = "the paths of the API begin with /v1, for example /v1/jobs";
    Failure(ApiError::new(ErrorCode::NotFound, "there is nothing at this path").value(uri.path()).hint(hint))
}

async fn wrong_method(method: Method, uri: axum::http::Uri) -> Failure {
    let message = format!("{method} is not for this path");
    Failure(ApiError::new(ErrorCode::MethodNotAllowed, message).value(uri.path()))
}

/// Whether the user may manage a group: an admin any, an owner those below an own one, and where `own` is asked
/// also that.
fn may_manage(state: &State, who: &Who, group: &GroupName, own: bool) -> bool {
    let Some(user) = state.users.get(&who.name) else { return false };
    let below = |top: &GroupName| state.is_within(group, top) && (own || group != top);
    match user.role {
        Role::Admin => true,
        Role::GroupOwner => user.groups.iter().any(below),
        Role::Member | Role::FinanceViewer | Role::FinanceCloser => false,
    }
}

/// Whether the user may see what belongs to `group`, by the state as it is now.
fn may_see(state: &State, who: &Who, group: &GroupName) -> bool {
    state.users.get(&who.name).is_some_and(|user| state.may_see(user, group))
}

#[cfg(test)]
pub(crate) mod tests;
