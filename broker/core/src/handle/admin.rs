//! Sites, pools, groups, users and tokens.

use std::collections::BTreeSet;

use spillway_ledger::Book;
use spillway_ledger::limits::LimitsChange;
use spillway_ledger::rates::Stated;
use spillway_types::{DurationMs, GroupName, JoinTokenId, PoolName, Role, UserName};

use crate::entity::{Group, JoinScope, JoinToken, Pool, Site, Token, User};
use crate::federation::Turn;
use crate::{Event, Refusal, Reply};

/// Longest life of a join token: it is meant for the next minutes.
const MAX_JOIN_LIFETIME: DurationMs = DurationMs::from_secs(24 * 3600);
/// Largest weight of a group.
const MAX_WEIGHT: u32 = 1_000_000;

pub(super) fn declare_site(turn: &mut Turn<'_>, site: Site) -> Reply {
    if turn.state.sites.get(&site.name) != Some(&site) {
        turn.emit(Event::SiteDeclared(site));
    }
    Reply::Done
}

pub(super) fn declare_pool(turn: &mut Turn<'_>, pool: Pool) -> Result<Reply, Refusal> {
    if !turn.state.sites.contains_key(&pool.site) {
        return Err(Refusal::NotFound { kind: "site", id: pool.site.to_string() });
    }
    let other_site = turn.state.pools.get(&pool.name).filter(|known| known.site != pool.site);
    if let Some(known) = other_site {
        let problem =
            format!("belongs to site {}; a pool stays at its site, so choose another name", known.site);
        return Err(Refusal::Invalid { field: "pool", value: pool.name.to_string(), problem });
    }
    if turn.state.pools.get(&pool.name) != Some(&pool) {
        turn.emit(Event::PoolDeclared(pool));
    }
    Ok(Reply::Done)
}

pub(super) fn declare_group(turn: &mut Turn<'_>, group: Group) -> Result<Reply, Refusal> {
    if group.weight == 0 || group.weight > MAX_WEIGHT {
        let problem = "must be 1 to 1,000,000".to_owned();
        return Err(Refusal::Invalid { field: "weight", value: group.weight.to_string(), problem });
    }
    check_limit(&turn.state.book, &group)?;
    let zone = turn.state.limits.zone(&group.name).cloned().unwrap_or_default();
    let mut tree = turn.state.limits.clone();
    tree.set_group(group.name.clone(), group.parent.clone(), zone, turn.now).map_err(Box::new)?;
    if turn.state.groups.get(&group.name) != Some(&group) {
        turn.emit(Event::GroupDeclared(group));
    }
    Ok(Reply::Done)
}

fn check_limit(book: &Book, group: &Group) -> Result<(), Refusal> {
    if group.budget_micros.is_some_and(|limit| limit < 0) {
        let value = group.budget_micros.unwrap_or(0).to_string();
        return Err(Refusal::Invalid {
            field: "budget",
            value,
            problem: "is negative: give 0 or more".to_owned(),
        });
    }
    let trial = book.clone().set_group(group.name.clone(), group.parent.clone(), group.budget_micros);
    trial.map_err(|error| Refusal::Limit { group: group.name.clone(), problem: error.to_string() })
}

/// Removes a group that was made by mistake or is needed no more: what it spent would stay on record without it.
pub(super) fn remove_group(turn: &mut Turn<'_>, group: &GroupName) -> Result<Reply, Refusal> {
    let state = &*turn.state;
    if !state.groups.contains_key(group) {
        return Err(Refusal::NotFound { kind: "group", id: group.to_string() });
    }
    let refused =
        |problem: String| Err(Refusal::Invalid { field: "group", value: group.to_string(), problem });
    state.limits.check_removal(group).map_err(Box::new)?;
    if let Some(job) = state.jobs.values().find(|job| job.spec.group == *group) {
        return refused(format!("has jobs that are not over, such as {}; cancel them, or wait", job.id));
    }
    if let Some(user) = state.users.values().find(|user| user.groups.contains(group)) {
        return refused(format!("has members, such as {}; put them into another group first", user.name));
    }
    let removed = state.book.check_removal(group);
    removed.map_err(|error| Refusal::Limit { group: group.clone(), problem: error.to_string() })?;
    turn.emit(Event::GroupRemoved { group: group.clone() });
    Ok(Reply::Done)
}

/// Changes limits, where the change can be. The same change again is no change.
pub(super) fn change_limits(turn: &mut Turn<'_>, change: LimitsChange) -> Result<Reply, Refusal> {
    if let LimitsChange::Currency { currency: Some(currency), .. } = &change {
        turn.state.currencies.rate(*currency, turn.now).map_err(Box::new)?;
    }
    let mut trial = turn.state.limits.clone();
    trial.change(&change, turn.now).map_err(Box::new)?;
    if trial != turn.state.limits {
        turn.emit(Event::LimitsChanged(change));
    }
    Ok(Reply::Done)
}

pub(super) fn set_budget(
    turn: &mut Turn<'_>,
    name: &GroupName,
    limit_micros: Option<i64>,
    stated: Option<Stated>,
) -> Result<Reply, Refusal> {
    let known = turn.state.groups.get(name);
    let group = known.ok_or_else(|| Refusal::NotFound { kind: "group", id: name.to_string() })?;
    let group = Group { budget_micros: limit_micros, budget_stated: stated, ..group.clone() };
    declare_group(turn, group)
}

pub(super) fn declare_user(
    turn: &mut Turn<'_>,
    name: UserName,
    role: Role,
    groups: BTreeSet<GroupName>,
) -> Result<Reply, Refusal> {
    if let Some(unknown) = groups.iter().find(|group| !turn.state.groups.contains_key(*group)) {
        return Err(Refusal::NotFound { kind: "group", id: unknown.to_string() });
    }
    let user = User { name, role, groups };
    if turn.state.users.get(&user.name) != Some(&user) {
        turn.emit(Event::UserDeclared(user));
    }
    Ok(Reply::Done)
}

pub(super) fn issue_token(turn: &mut Turn<'_>, user: UserName, hash: String) -> Result<Reply, Refusal> {
    if !turn.state.users.contains_key(&user) {
        return Err(Refusal::NotFound { kind: "user", id: user.to_string() });
    }
    let issued = turn.now;
    turn.emit(Event::TokenIssued(Token { hash, user, issued }));
    Ok(Reply::Done)
}

pub(super) fn issue_join_token(
    turn: &mut Turn<'_>,
    hash: String,
    pool: PoolName,
    lifetime: DurationMs,
    issuer: &UserName,
) -> Result<Reply, Refusal> {
    let known = turn.state.pools.get(&pool);
    let site = known.ok_or_else(|| Refusal::NotFound { kind: "pool", id: pool.to_string() })?.site.clone();
    if turn.state.sites.get(&site).is_some_and(|site| site.cloud.is_some()) {
        let problem = "is a cloud region: its machines join by themselves".to_owned();
        return Err(Refusal::Invalid { field: "pool", value: pool.to_string(), problem });
    }
    if lifetime.0 == 0 || lifetime > MAX_JOIN_LIFETIME {
        let problem = "must be over 0 and at most 1d".to_owned();
        return Err(Refusal::Invalid { field: "lifetime", value: lifetime.to_string(), problem });
    }
    let id = JoinTokenId::generate(turn.ids);
    let scope = JoinScope { pool, issuer: issuer.to_string() };
    let expires = turn.now.plus(lifetime);
    turn.emit(Event::JoinTokenIssued(JoinToken { id, hash, scope, expires, redeemed: None }));
    Ok(Reply::JoinToken(id))
}
