//! What was spent, in rows that sum to what the ledger says.
//!
//! The rows come from the charges, the ledger's total from its postings; they agree, or there is a defect.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Handed;
use spillway_api::v1::{SpendKey, SpendQuery, SpendReport, SpendRow, parse_spend_by};
use spillway_api::{ApiError, ErrorCode};
use spillway_core::State;
use spillway_ledger::Account;
use spillway_store::SpendBy;
use spillway_types::Money;

use super::auth::{Caller, Who};
use super::failure::Failure;
use super::input::Params;
use super::{Api, Shared, may_see};

/// Most rows of a report: some tens of megabytes of JSON.
const MAX_ROWS: usize = 100_000;
/// How often both sums are read until they agree: something may be charged between the two readings.
const MAX_READINGS: u32 = 4;

pub(super) async fn report(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    Params(query): Params<SpendQuery>,
) -> Result<Json<SpendReport>, Failure> {
    let by = parse_spend_by(query.by.as_deref().unwrap_or_default())?;
    let mut reading = 1;
    loop {
        let report = read(&api, &who, &by).await?;
        if report.total == report.ledger_total {
            return Ok(Json(report));
        }
        if reading == MAX_READINGS {
            let (rows, ledger) = (report.total.micros, report.ledger_total.micros);
            tracing::warn!(
                rows,
                ledger,
                "the rows of a spend report and the ledger did not agree; on a busy broker that can pass"
            );
            return Ok(Json(report));
        }
        reading += 1;
    }
}

/// What is read for a key: the store knows sites and payees, not kinds and providers. Also by group, so that
/// a member's report is the member's.
fn columns(by: &[SpendKey], who: &Who) -> Vec<SpendBy> {
    let column = |key: &SpendKey| match key {
        SpendKey::Group => SpendBy::Group,
        SpendKey::Site | SpendKey::Kind => SpendBy::Site,
        SpendKey::Provider => SpendBy::Payee,
        SpendKey::Month => SpendBy::Month,
        SpendKey::User => SpendBy::User,
        SpendKey::Job => SpendBy::Job,
    };
    let own = (!who.role.sees_all()).then_some(SpendBy::Group);
    by.iter().map(column).chain(own).collect()
}

async fn read(api: &Api, who: &Arc<Who>, by: &[SpendKey]) -> Result<SpendReport, Failure> {
    let rows = api.app.engine.store().spend(&columns(by, who)).await?;
    let (who, by) = (Arc::clone(who), by.to_vec());
    let (sums, ledger_micros, imbalance_micros) = api
        .app
        .engine
        .read(move |view| {
            let state = view.federation.state();
            let own = |row: &spillway_store::SpendRow| {
                let last = row.keys.last();
                let seen = || {
                    last.is_some_and(|group| group.parse().is_ok_and(|group| may_see(state, &who, &group)))
                };
                who.role.sees_all() || seen()
            };
            let sums = sum(rows.into_iter().filter(own), &by, state);
            let groups = state.groups.keys().filter(|group| may_see(state, &who, group));
            let ledger: i64 = groups.map(|group| state.book.balance(&Account::Spend(group.clone()))).sum();
            ((by, sums), ledger, state.book.imbalance())
        })
        .await?;
    let (by, sums) = sums;
    if sums.len() > MAX_ROWS {
        let message = format!("the report has {} rows; the limit is {MAX_ROWS}", sums.len());
        return Err(Failure(ApiError::new(ErrorCode::TooLarge, message).field("by").hint("leave out `job`")));
    }
    let total = sums.values().map(|(micros, _)| micros).sum();
    let row = |(keys, (micros, gpu_ms)): (Vec<String>, (i64, u64))| SpendRow {
        keys: by.iter().map(|key| key.as_str().to_owned()).zip(keys).collect(),
        amount: Money::usd_micros(micros),
        gpu_ms,
    };
    Ok(SpendReport {
        rows: sums.into_iter().map(row).collect(),
        by: by.clone(),
        total: Money::usd_micros(total),
        ledger_total: Money::usd_micros(ledger_micros),
        imbalance_micros,
    })
}

/// Adds up what falls together once sites are kinds and payees are providers.
fn sum(
    rows: impl Iterator<Item = spillway_store::SpendRow>,
    by: &[SpendKey],
    state: &State,
) -> BTreeMap<Vec<String>, (i64, u64)> {
    let mut sums: BTreeMap<Vec<String>, (i64, u64)> = BTreeMap::new();
    for row in rows {
        let keys = by.iter().zip(row.keys).map(|(key, value)| shown(*key, value, state)).collect();
        let sum = sums.entry(keys).or_default();
        sum.0 += row.micros;
        sum.1 += row.gpu_ms;
    }
    sums
}

fn shown(key: SpendKey, value: String, state: &State) -> String {
    match key {
        SpendKey::Group | SpendKey::Site | SpendKey::Month | SpendKey::User | SpendKey::Job => value,
        SpendKey::Kind => {
            let site = value.parse().ok().and_then(|name| state.sites.get(&name));
            site.map_or("unknown", |site| site.kind.as_str()).to_owned()
        }
        SpendKey::Provider => match value.parse() {
            Ok(Account::Payable { cloud, .. }) => cloud.to_string(),
            Ok(
                Account::Revenue(_)
                | Account::Held(_)
                | Account::Committed
                | Account::Spend(_)
                | Account::Owner(_)
                | Account::Idle(_)
                | Account::Variance(_),
            ) => "on-prem".to_owned(),
            Err(_) => value,
        },
    }
}
