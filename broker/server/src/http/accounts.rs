//! Groups, users, budgets, and the tokens of users and machines.

use axum::Json;
use axum::body::Body;
use axum::extract::State as Handed;
use axum::http::{HeaderMap, StatusCode};
use spillway_api::v1::{
    BudgetRequest, GroupRequest, GroupView, JoinLine, JoinTokenRequest, Page, TokenRequest, TokenView,
    UserRequest, UserView,
};
use spillway_api::{ApiError, ErrorCode, Secret};
use spillway_core::entity::{Group, Pool, User};
use spillway_core::{Command, Reply, State};
use spillway_ledger::Account;
use spillway_ledger::limits::LimitsChange;
use spillway_ledger::rates::Stated;
use spillway_types::{DurationMs, GroupName, JoinTokenId, Money, PoolName, UserName};

use super::auth::Caller;
use super::failure::Failure;
use super::input::{self, MAX_SMALL_BODY, Segment};
use super::limits::{must_be_admin, must_manage};
use super::{Api, Shared, currencies, may_see};
use crate::secrets;

/// How long a join token is good where the request does not say: time to walk to the machine.
const JOIN_LIFETIME: DurationMs = DurationMs::from_secs(3600);

type Created<T> = Result<(StatusCode, Json<T>), Failure>;

pub(super) async fn groups(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
) -> Result<Json<Page<GroupView>>, Failure> {
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        let seen = state.groups.values().filter(|group| may_see(state, &who, &group.name));
        seen.map(|group| show_group(group, state)).collect()
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

fn show_group(group: &Group, state: &State) -> GroupView {
    let members = state.users.values().filter(|user| user.groups.contains(&group.name));
    GroupView {
        name: group.name.clone(),
        parent: group.parent.clone(),
        zone: state.limits.zone(&group.name).cloned().unwrap_or_default(),
        currency: state.limits.currency(&group.name),
        weight: group.weight,
        priority: group.priority,
        budget: group.budget_micros.map(Money::usd_micros),
        budget_stated: group.budget_stated,
        spent: Money::usd_micros(state.book.spent(&group.name)),
        held: Money::usd_micros(state.book.held(&group.name)),
        left: state.book.left(&group.name).map(Money::usd_micros),
        members: members.map(|user| user.name.clone()).collect(),
    }
}

pub(super) async fn read_group(api: &Api, name: GroupName) -> Result<GroupView, Failure> {
    let missing = Failure(ApiError::not_found("group", &name));
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        state.groups.get(&name).map(|group| show_group(group, state))
    };
    api.app.engine.read(read).await?.ok_or(missing)
}

/// A budget in micros of dollars, with what was stated where that was in another currency.
async fn budget(api: &Api, budget: Option<Money>) -> Result<(Option<i64>, Option<Stated>), Failure> {
    let Some(budget) = budget else { return Ok((None, None)) };
    let (micros, stated) = currencies::stated(api, "budget.currency", budget).await?;
    Ok((Some(micros), stated))
}

pub(super) async fn create_group(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Created<GroupView> {
    let request: GroupRequest = input::json(&headers, body, MAX_SMALL_BODY).await?;
    match &request.parent {
        Some(parent) => must_manage(&api, &who, &[parent], true).await?,
        None => must_be_admin(&who, &request.name)?,
    }
    let name = request.name.clone();
    let taken = api.app.engine.read(move |view| view.federation.state().groups.contains_key(&name)).await?;
    if taken {
        let error =
            ApiError::new(ErrorCode::Conflict, format!("there is a group `{}` already", request.name));
        return Err(Failure(
            error.field("name").value(&request.name).hint("set its budget with PUT on its budget"),
        ));
    }
    let (budget_micros, budget_stated) = budget(&api, request.budget).await?;
    if let Some(currency) = request.currency {
        let worth = currencies::table(&api).await?.rate(currency, api.app.engine.clock().now());
        worth.map_err(|error| currencies::refused("currency", error))?;
    }
    let group = Group {
        name: request.name.clone(),
        parent: request.parent,
        weight: request.weight.unwrap_or(1),
        priority: request.priority.unwrap_or(0),
        budget_micros,
        budget_stated,
    };
    api.app.engine.command(Command::DeclareGroup(group)).await?;
    if let Some(currency) = request.currency {
        let change = LimitsChange::Currency { group: request.name.clone(), currency: Some(currency) };
        api.app.engine.command(Command::ChangeLimits(Box::new(change))).await?;
    }
    Ok((StatusCode::CREATED, Json(read_group(&api, request.name).await?)))
}

pub(super) async fn set_budget(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    Segment(group): Segment<GroupName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<GroupView>, Failure> {
    let request: BudgetRequest = input::json(&headers, body, MAX_SMALL_BODY).await?;
    must_manage(&api, &who, &[&group], false).await?;
    let (limit_micros, stated) = budget(&api, request.budget).await?;
    api.app.engine.command(Command::SetBudget { group: group.clone(), limit_micros, stated }).await?;
    read_group(&api, group).await.map(Json)
}

/// Users of the groups that the caller may see, once for each such group.
pub(super) async fn users(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
) -> Result<Json<Page<UserView>>, Failure> {
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        let show = |user: &User| {
            let groups = user.groups.iter().filter(|group| may_see(state, &who, group));
            let may_know = who.name == user.name || who.role.reads_books();
            let owed = state.book.balance(&Account::Owner(user.name.clone())).saturating_neg();
            let credit = (may_know && owed != 0).then(|| Money::usd_micros(owed));
            let view = |(row, group): (usize, &GroupName)| UserView {
                name: user.name.clone(),
                group: group.clone(),
                role: user.role,
                credit: credit.filter(|_| row == 0),
            };
            groups.enumerate().map(view).collect::<Vec<_>>()
        };
        state.users.values().flat_map(show).collect()
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

pub(super) async fn create_user(
    Handed(api): Handed<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Created<UserView> {
    let UserRequest { name, group, role } = input::json(&headers, body, MAX_SMALL_BODY).await?;
    let asked = name.clone();
    let taken = api.app.engine.read(move |view| view.federation.state().users.contains_key(&asked)).await?;
    if taken {
        let error = ApiError::new(ErrorCode::Conflict, format!("there is a user `{name}` already"));
        return Err(Failure(error.field("name").value(&name)));
    }
    let command = Command::DeclareUser { user: name.clone(), role, groups: [group.clone()].into() };
    api.app.engine.command(command).await?;
    api.callers.forget();
    Ok((StatusCode::CREATED, Json(UserView { name, group, role, credit: None })))
}

pub(super) async fn create_token(
    Handed(api): Handed<Shared>,
    Segment(user): Segment<UserName>,
    headers: HeaderMap,
    body: Body,
) -> Created<TokenView> {
    let request: TokenRequest = input::json(&headers, body, MAX_SMALL_BODY).await?;
    if let Some(ttl) = request.ttl {
        let message = "tokens of users do not end by themselves";
        return Err(Failure(ApiError::invalid(message).field("ttl").value(ttl).hint("leave `ttl` out")));
    }
    let token = secrets::new_user_token().map_err(|error| no_random(&error))?;
    let command = Command::IssueToken { user: user.clone(), hash: secrets::hash(&token) };
    api.app.engine.command(command).await?;
    Ok((StatusCode::CREATED, Json(TokenView { user, token: Secret::new(token), expires: None })))
}

pub(super) async fn create_join_token(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Created<JoinLine> {
    let request: JoinTokenRequest = input::json(&headers, body, MAX_SMALL_BODY).await?;
    let lifetime = request.ttl.unwrap_or(JOIN_LIFETIME);
    let pool = api.app.engine.read(move |view| pool_to_join(view.federation.state(), &request)).await??;
    let token = secrets::new_join_token().map_err(|error| no_random(&error))?;
    let hash = secrets::hash(&token);
    let command = Command::IssueJoinToken { hash: hash.clone(), pool, lifetime, issuer: who.name.clone() };
    let id = match api.app.engine.command(command).await? {
        Reply::JoinToken(id) => id,
        Reply::Done
        | Reply::Job(_)
        | Reply::Node(_)
        | Reply::Session { .. }
        | Reply::Acked(_)
        | Reply::Placed { .. } => {
            return Err(Failure(ApiError::new(
                ErrorCode::Internal,
                "the broker did not say which join token it made",
            )));
        }
    };
    let known = api
        .app
        .engine
        .read(move |view| view.federation.state().join_tokens.get(&hash).map(|token| token.expires));
    let expires = known.await?.unwrap_or_else(|| api.app.engine.clock().now().plus(lifetime));
    Ok((StatusCode::CREATED, Json(join_line(&api, id, token, expires))))
}

fn join_line(api: &Api, id: JoinTokenId, token: String, expires: spillway_types::UnixMs) -> JoinLine {
    let (broker_addr, ca_fingerprint) = (api.app.broker_addr.clone(), api.app.ca_fingerprint.clone());
    // In the environment rather than among the arguments, which every user of a machine can read.
    let command = format!(
        "SPILLWAY_JOIN_TOKEN={token} spillway agent --broker {broker_addr} --ca-fingerprint {ca_fingerprint}"
    );
    JoinLine {
        id,
        token: Secret::new(token),
        command: Secret::new(command),
        expires,
        ca_fingerprint,
        broker_addr,
    }
}

/// The pool that the request names, or the only one that it can mean.
fn pool_to_join(state: &State, request: &JoinTokenRequest) -> Result<PoolName, Failure> {
    if let Some(site) = request.site.as_ref().filter(|site| !state.sites.contains_key(*site)) {
        let known: Vec<&str> = state.sites.keys().map(spillway_types::SiteName::as_str).collect();
        let hint = format!("known sites: {}", known.join(", "));
        return Err(Failure(ApiError::not_found("site", site).field("site").value(site).hint(hint)));
    }
    let is_open = |pool: &&Pool| {
        let cloud = state.sites.get(&pool.site).is_some_and(|site| site.cloud.is_some());
        !cloud && request.site.as_ref().is_none_or(|site| pool.site == *site)
    };
    let pools: Vec<&Pool> = state.pools.values().filter(is_open).collect();
    let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    let hint = if names.is_empty() {
        "declare a pool in the broker's settings".to_owned()
    } else {
        format!("pools: {}", names.join(", "))
    };
    match (&request.pool, pools.as_slice()) {
        (Some(wanted), open) => match open.iter().find(|pool| pool.name == *wanted) {
            Some(pool) => Ok(pool.name.clone()),
            None => Err(Failure(ApiError::not_found("pool", wanted).field("pool").value(wanted).hint(hint))),
        },
        (None, [only]) => Ok(only.name.clone()),
        (None, _) => {
            Err(Failure(ApiError::invalid("say which pool the machine joins").field("pool").hint(hint)))
        }
    }
}

fn no_random(error: &std::io::Error) -> Failure {
    tracing::error!(%error, "the system gives no random bytes: no token can be made");
    Failure(ApiError::new(ErrorCode::Unavailable, "the broker's machine gives no random bytes just now"))
}
