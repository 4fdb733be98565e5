//! What groups may use: limits, transfers of budget, fair shares, and the tree itself.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State as Handed;
use axum::http::HeaderMap;
use spillway_api::v1::{
    FairShareView, GroupChange, GroupView, LimitRequest, LimitView, Page, TransferRequest, TransferView,
};
use spillway_api::{ApiError, ErrorCode};
use spillway_core::entity::Group;
use spillway_core::shares::fair_shares;
use spillway_core::{Command, State};
use spillway_ledger::limits::{Limit, LimitId, LimitsChange, Standing, Transfer};
use spillway_types::{GroupName, IdSource as _, Money, Role, UnixMs};

use super::accounts::read_group;
use super::auth::{Caller, Who};
use super::failure::Failure;
use super::input::{self, MAX_SMALL_BODY, Segment};
use super::{Api, Shared, currencies, may_manage, may_see};
use crate::View;
use crate::clock::RealIds;

/// Longest key of a transfer, in bytes.
const MAX_KEY: usize = 128;

/// Refuses those who do not manage all of these groups. An owner manages what is below the own group, and, where `own`
/// is asked, that itself.
pub(super) async fn must_manage(
    api: &Api,
    who: &Arc<Who>,
    groups: &[&GroupName],
    own: bool,
) -> Result<(), Failure> {
    let (user, groups) = (Arc::clone(who), groups.iter().map(|group| (*group).clone()).collect::<Vec<_>>());
    let read = move |view: &View<'_>| {
        let state = view.federation.state();
        groups.into_iter().find(|group| !may_manage(state, &user, group, own))
    };
    match api.app.engine.read(read).await? {
        None => Ok(()),
        Some(group) => Err(not_managed(who, &group)),
    }
}

/// Refuses all but admins: what is at the top is below nobody's group.
pub(super) fn must_be_admin(who: &Who, group: &GroupName) -> Result<(), Failure> {
    if who.role == Role::Admin { Ok(()) } else { Err(not_managed(who, group)) }
}

fn not_managed(who: &Who, group: &GroupName) -> Failure {
    let message = format!("user {} does not manage group `{group}`", who.name);
    let error = ApiError::new(ErrorCode::Forbidden, message).field("group").value(group);
    Failure(error.hint("a group's owner manages the groups below it; ask an admin for others"))
}

fn show(standing: Standing, overshoot: i64) -> LimitView {
    let Standing { limit, nominal, used, held, left, period, reached, .. } = standing;
    LimitView {
        overshoot,
        group: limit.id.group,
        metric: limit.id.metric,
        scope: limit.id.scope,
        window: limit.id.window,
        nominal: limit.nominal,
        stated: limit.stated,
        limit: nominal,
        used,
        held,
        left,
        borrow: limit.borrow,
        lend: limit.lend,
        action: limit.action,
        thresholds: limit.thresholds,
        priority: limit.priority,
        reached,
        from: period.map(|period| period.from),
        to: period.map(|period| period.to),
    }
}

fn limits_of<'a>(state: &State, groups: impl Iterator<Item = &'a GroupName>, now: UnixMs) -> Vec<LimitView> {
    let standings: Vec<Standing> = groups.flat_map(|group| state.limits.standings(group, now)).collect();
    let ids: Vec<LimitId> = standings.iter().map(|standing| standing.limit.id.clone()).collect();
    let bounds = state.overshoot_bounds(&ids);
    standings.into_iter().zip(bounds).map(|(standing, bound)| show(standing, bound)).collect()
}

pub(super) async fn list(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
) -> Result<Json<Page<LimitView>>, Failure> {
    let read = move |view: &View<'_>| {
        let state = view.federation.state();
        let seen = state.groups.keys().filter(|group| may_see(state, &who, group));
        limits_of(state, seen, view.now)
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

/// Sets a limit, or takes it away.
pub(super) async fn set(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Page<LimitView>>, Failure> {
    let request: LimitRequest = input::json(&headers, body, MAX_SMALL_BODY).await?;
    let LimitRequest { group, metric, scope, window, borrow, lend, action, thresholds, priority, .. } =
        request;
    must_manage(&api, &who, &[&group], false).await?;
    let id = LimitId { group: group.clone(), metric, scope, window };
    let change = match request.nominal {
        Some(micros) => {
            let amount = Money { micros, currency: request.currency.unwrap_or_default() };
            let (nominal, stated) = currencies::stated(&api, "currency", amount).await?;
            LimitsChange::Set {
                limit: Limit { id, nominal, borrow, lend, action, thresholds, priority, stated },
            }
        }
        None => LimitsChange::Remove { id },
    };
    api.app.engine.command(Command::ChangeLimits(Box::new(change))).await?;
    let read = move |view: &View<'_>| limits_of(view.federation.state(), std::iter::once(&group), view.now);
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

pub(super) async fn transfers(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
) -> Result<Json<Page<TransferView>>, Failure> {
    let read = move |view: &View<'_>| {
        let state = view.federation.state();
        let all = state.limits.transfers();
        let seen = all.filter(|transfer| {
            may_see(state, &who, &transfer.from.group) || may_see(state, &who, &transfer.to.group)
        });
        seen.map(TransferView::from).collect()
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

pub(super) async fn transfer(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TransferView>, Failure> {
    let request: TransferRequest = input::json(&headers, body, MAX_SMALL_BODY).await?;
    input::must_say_why(&request.because)?;
    must_manage(&api, &who, &[&request.from, &request.to], true).await?;
    let clock = api.app.engine.clock();
    let key = request.key.unwrap_or_else(|| RealIds::new(clock).next_uuid().to_string());
    if key.is_empty() || key.len() > MAX_KEY {
        let problem = format!("a key has 1 to {MAX_KEY} bytes");
        return Err(Failure(ApiError::invalid(problem).field("key").value(&key)));
    }
    let id = |group: GroupName| LimitId {
        group,
        metric: request.metric.clone(),
        scope: request.scope.clone(),
        window: request.window,
    };
    let (now, known) = (clock.now(), known_transfer(&api, &key).await?);
    // Sent again without a date, it is the one that was made then.
    let effective = request.effective.or(known.map(|known| known.effective)).unwrap_or(now);
    let transfer = Transfer {
        key: key.clone(),
        from: id(request.from),
        to: id(request.to),
        amount: request.amount,
        effective,
        recorded: now,
        by: who.name.clone(),
        because: request.because,
    };
    api.app.engine.command(Command::ChangeLimits(Box::new(LimitsChange::Transfer { transfer }))).await?;
    let made = known_transfer(&api, &key).await?;
    made.map(Json).ok_or_else(|| Failure(ApiError::new(ErrorCode::Internal, "the transfer is not there")))
}

async fn known_transfer(api: &Api, key: &str) -> Result<Option<TransferView>, Failure> {
    let key = key.to_owned();
    let read = move |view: &View<'_>| {
        let mut all = view.federation.state().limits.transfers();
        all.find(|transfer| transfer.key == key).map(TransferView::from)
    };
    Ok(api.app.engine.read(read).await?)
}

/// Changes what is named, and nothing else.
pub(super) async fn change_group(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    Segment(name): Segment<GroupName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<GroupView>, Failure> {
    let change: GroupChange = input::json(&headers, body, MAX_SMALL_BODY).await?;
    if change.top && change.parent.is_some() {
        let error = ApiError::invalid("a group is at the top or below another, not both").field("parent");
        return Err(Failure(error.hint("give `parent` or `top`")));
    }
    if change.inherit_currency && change.currency.is_some() {
        let error =
            ApiError::invalid("a group has a currency of its own or that of the group above it, not both");
        return Err(Failure(error.field("currency").hint("give `currency` or `inherit_currency`")));
    }
    must_manage(&api, &who, &[&name], false).await?;
    let known = known_group(&api, &name).await?;
    if change.top {
        must_be_admin(&who, &name)?;
    }
    if let Some(parent) = &change.parent {
        must_manage(&api, &who, &[parent], true).await?;
    }
    if change.inherit_currency || change.currency.is_some() {
        let change = LimitsChange::Currency { group: name.clone(), currency: change.currency };
        api.app.engine.command(Command::ChangeLimits(Box::new(change))).await?;
    }
    let group = Group {
        parent: if change.top { None } else { change.parent.or_else(|| known.parent.clone()) },
        weight: change.weight.unwrap_or(known.weight),
        priority: change.priority.unwrap_or(known.priority),
        ..known.clone()
    };
    if group != known {
        api.app.engine.command(Command::DeclareGroup(group)).await?;
    }
    if let Some(zone) = change.zone {
        let change = LimitsChange::Zone { group: name.clone(), zone };
        api.app.engine.command(Command::ChangeLimits(Box::new(change))).await?;
    }
    read_group(&api, name).await.map(Json)
}

async fn known_group(api: &Api, name: &GroupName) -> Result<Group, Failure> {
    let missing = Failure(ApiError::not_found("group", name));
    let name = name.clone();
    let read = move |view: &View<'_>| view.federation.state().groups.get(&name).cloned();
    api.app.engine.read(read).await?.ok_or(missing)
}

pub(super) async fn remove_group(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    Segment(group): Segment<GroupName>,
) -> Result<Json<serde_json::Value>, Failure> {
    must_manage(&api, &who, &[&group], false).await?;
    api.app.engine.command(Command::RemoveGroup { group: group.clone() }).await?;
    Ok(Json(serde_json::json!({ "removed": group })))
}

pub(super) async fn fair_share(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
) -> Result<Json<Page<FairShareView>>, Failure> {
    let read = move |view: &View<'_>| {
        let state = view.federation.state();
        let rows = fair_shares(state, view.now).into_iter().filter(|row| may_see(state, &who, &row.group));
        rows.map(|row| {
            let group = state.groups.get(&row.group);
            FairShareView {
                parent: group.and_then(|group| group.parent.clone()),
                weight: group.map_or(1, |group| group.weight),
                share: row.factor.share,
                used_ms: row.used_ms,
                used: row.factor.used,
                effective: row.factor.effective,
                factor: row.factor.factor,
                in_use: row.in_use,
                group: row.group,
            }
        })
        .collect()
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}
