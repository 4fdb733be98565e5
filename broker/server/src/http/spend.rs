//! What was spent and used, in rows that sum to what the ledger says, and the days on which that was out of the
//! ordinary.
//!
//! The rows come from the roll-ups, the ledger's total from its postings; they agree, or there is a defect. A member's
//! report is of the groups that the member may see. In another currency than dollars a row is what its days come to,
//! each at what that was worth on the day, rounded once, and the total is the sum of the rows.

mod exchange;
mod outlook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Handed;
use spillway_api::v1::{
    AnomaliesQuery, AnomaliesView, PeriodState, SpendAsked, SpendKey, SpendQuery, SpendReport, SpendRow, Sums,
};
use spillway_api::{ApiError, ErrorCode};
use spillway_core::State;
use spillway_ledger::Account;
use spillway_ledger::anomaly::{self, AnomalyRule};
use spillway_ledger::calendar::{Day, Zone};
use spillway_ledger::rollup::{Bucket, Measures, Unit, buckets, in_currency};
use spillway_store::{ReportBy, ReportQuery, ReportRow};
use spillway_types::{Currency, GroupName, Money, UnixMs};

use self::exchange::{ByRate, Cut, Told};
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
    let asked = query.asked()?;
    let mut reading = 1;
    loop {
        let report = read(&api, &who, &asked).await?;
        let ledger = report.ledger_total.unwrap_or(report.total);
        if report.total == ledger {
            return Ok(Json(report));
        }
        if reading == MAX_READINGS {
            let (rows, ledger) = (report.total.micros, ledger.micros);
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

/// What is read for a key; none where time answers for it. The store knows sites, not their kinds.
const fn column(key: SpendKey) -> Option<ReportBy> {
    Some(match key {
        SpendKey::Group => ReportBy::Group,
        SpendKey::User => ReportBy::User,
        SpendKey::Site | SpendKey::Kind => ReportBy::Site,
        SpendKey::Pool => ReportBy::Pool,
        SpendKey::Provider => ReportBy::Provider,
        SpendKey::Accelerator => ReportBy::Class,
        SpendKey::Market => ReportBy::Market,
        SpendKey::Job => ReportBy::Job,
        SpendKey::Dataset => ReportBy::Dataset,
        SpendKey::Period => ReportBy::Booked,
        SpendKey::Month | SpendKey::Week | SpendKey::Day => return None,
    })
}

/// The groups that may be seen, of one and those below it where that is asked for; none means all.
async fn visible(
    api: &Api,
    who: &Arc<Who>,
    below: Option<&GroupName>,
) -> Result<Option<Vec<GroupName>>, Failure> {
    let (who, top) = (Arc::clone(who), below.cloned());
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        let asked = |group: &GroupName| top.as_ref().is_none_or(|top| state.is_within(group, top));
        let seen = state.groups.keys().filter(|group| may_see(state, &who, group));
        let own = || seen.filter(|group| asked(group)).cloned().collect::<Vec<_>>();
        (!who.role.sees_all() || top.is_some()).then(own)
    };
    let seen = api.app.engine.read(read).await?;
    match below.filter(|top| seen.as_ref().is_some_and(|seen| !seen.contains(top))) {
        Some(hidden) => Err(Failure(ApiError::not_found("group", hidden).field("group").value(hidden))),
        None => Ok(seen),
    }
}

fn too_large() -> Failure {
    let message = format!("the report has more rows than the {MAX_ROWS} that one may have");
    let hint = "leave out `job`, or ask for less time with `from` and `to`";
    Failure(ApiError::new(ErrorCode::TooLarge, message).field("by").hint(hint))
}

async fn rows(
    api: &Api,
    by: Vec<ReportBy>,
    buckets: Vec<Bucket>,
    asked: (Option<spillway_ledger::calendar::Period>, Option<Vec<GroupName>>),
) -> Result<Vec<ReportRow>, Failure> {
    let (booked, groups) = asked;
    let query = ReportQuery { by, buckets, booked, groups, limit: 3 * MAX_ROWS };
    api.app.engine.store().report(&query).await?.ok_or_else(too_large)
}

/// The stretches of time that have rows of their own. None of them where nothing was charged in the time asked for.
async fn stretches(api: &Api, asked: &SpendAsked) -> Result<Vec<Bucket>, Failure> {
    let Some((first, end)) = api.app.engine.store().charged_time().await? else { return Ok(vec![]) };
    let from = asked.from.map_or(first, |from| from.max(first));
    let to = asked.to.map_or(end, |to| to.min(end));
    match asked.unit() {
        Some(unit) => buckets(from, to, unit, &asked.zone).map_err(|error| {
            let hint = "narrow it with `from` and `to`";
            Failure(ApiError::invalid(error.to_string()).field("by").hint(hint))
        }),
        None if from < to => Ok(vec![Bucket { name: String::new(), from, to }]),
        None => Ok(vec![]),
    }
}

async fn read(api: &Api, who: &Arc<Who>, asked: &SpendAsked) -> Result<SpendReport, Failure> {
    let groups = visible(api, who, asked.group.as_ref()).await?;
    let told = exchange::read(api, asked).await?;
    let cut = told.cut(&stretches(api, asked).await?);
    let by: Vec<ReportBy> = asked.by.iter().filter_map(|key| column(*key)).collect();
    let found = rows(api, by, cut.buckets.clone(), (asked.period, groups.clone())).await?;
    told.check(&cut, &found)?;
    // Rows of data sets overlap: what all of it comes to is none of their sums.
    let whole: Option<Measures> = if asked.by.contains(&SpendKey::Dataset) {
        let all = rows(api, vec![], cut.buckets.clone(), (asked.period, groups.clone())).await?;
        told.check(&cut, &all)?;
        Some(in_currency(&cut.sum(&all)))
    } else {
        None
    };
    let outlooks = outlook::read(api, asked, groups.clone()).await?;
    let (who, asked) = (Arc::clone(who), asked.clone());
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        let mut sums = add_up(found, &asked, &cut, state);
        let total = whole.unwrap_or_else(|| sums.values().copied().sum());
        let is_asked = |group: &GroupName| groups.as_ref().is_none_or(|asked| asked.contains(group));
        if asked.by == [SpendKey::Group] {
            let expected = |group: &&GroupName| is_asked(group) && outlooks.is_expected(group, state);
            for group in state.groups.keys().filter(expected) {
                sums.entry(vec![group.to_string()]).or_default();
            }
        }
        let seen = state.groups.keys().filter(|group| may_see(state, &who, group));
        let ledger: i64 = seen.map(|group| state.book.balance(&Account::Spend(group.clone()))).sum();
        let row = |(keys, measures): (Vec<String>, Measures)| SpendRow {
            outlook: outlooks.of(&asked.by, &keys, &told, state),
            keys: asked.by.iter().map(|key| key.as_str().to_owned()).zip(keys).collect(),
            sums: shown_sums(&measures, &told),
        };
        let closed = asked.period.map(|period| state.periods.closed().get(&period));
        let closed =
            closed.map(|closed| closed.map_or(PeriodState::Open, |it| PeriodState::Closed { at: it.at }));
        SpendReport {
            rows: sums.into_iter().map(row).collect(),
            by: asked.by.clone(),
            zone: asked.zone.clone(),
            from: asked.from,
            to: asked.to,
            period: asked.period,
            state: closed,
            closed_through: state.periods.newest_closed(),
            total: told.money(total.spend_micros),
            sums: shown_sums(&total, &told),
            ledger_total: (asked.is_whole() && told.currency == Currency::USD)
                .then(|| Money::usd_micros(ledger)),
            imbalance_micros: state.book.imbalance(),
        }
    };
    let report = api.app.engine.read(read).await?;
    if report.rows.len() > MAX_ROWS {
        return Err(too_large());
    }
    Ok(report)
}

/// Adds up what falls together once sites are kinds, in the order of the keys that were asked for, and converts it.
fn add_up(
    rows: Vec<ReportRow>,
    asked: &SpendAsked,
    cut: &Cut,
    state: &State,
) -> BTreeMap<Vec<String>, Measures> {
    let mut sums: BTreeMap<Vec<String>, ByRate> = BTreeMap::new();
    for row in rows {
        let Some(rate) = cut.rate(row.bucket) else { continue };
        let when = cut.buckets.get(row.bucket).map_or("", |bucket| bucket.name.as_str());
        let mut values = row.keys.into_iter();
        let mut value = |key: &SpendKey| match column(*key) {
            None => when.to_owned(),
            Some(_) => shown(*key, values.next().unwrap_or_default(), state),
        };
        let keys = asked.by.iter().map(&mut value).collect();
        *sums.entry(keys).or_default().entry(rate).or_default() += row.measures;
    }
    sums.into_iter().map(|(keys, parts)| (keys, in_currency(&parts))).collect()
}

fn shown(key: SpendKey, value: String, state: &State) -> String {
    if key != SpendKey::Kind {
        return value;
    }
    let site = value.parse().ok().and_then(|name| state.sites.get(&name));
    site.map_or("unknown", |site| site.kind.as_str()).to_owned()
}

/// A sum as it is told; what is beyond any ledger is told as its bound.
fn narrow(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

fn shown_sums(measures: &Measures, told: &Told) -> Sums {
    let money = |micros| told.money(micros);
    let has_list = measures.list_micros != 0 || measures.listed_micros != 0;
    let has_match = measures.on_prem_micros != 0 || measures.matched_micros != 0;
    Sums {
        amount: money(measures.spend_micros),
        on_demand: has_list.then(|| money(measures.list_micros)),
        saved: has_list.then(|| money(measures.saved_micros())),
        on_prem: has_match.then(|| money(measures.on_prem_micros)),
        saved_on_prem: has_match.then(|| money(measures.saved_against_on_prem_micros())),
        overhead: money(measures.overhead_micros),
        egress: money(measures.egress_micros),
        gpu_ms: narrow(measures.gpu_ms),
        per_gpu_hour: measures.micros_per_gpu_hour().map(money),
        normalised_ms: narrow(measures.normalised_ms),
        per_normalised_gpu_hour: measures.micros_per_normalised_gpu_hour().map(money),
        slices: narrow(measures.slices),
    }
}

/// What was spent on each day of UTC from `from` to `to`, exclusive, by the keys.
async fn by_day(
    api: &Api,
    by: Vec<ReportBy>,
    (from, to): (Day, Day),
    groups: Option<Vec<GroupName>>,
) -> Result<BTreeMap<Vec<String>, anomaly::Days>, Failure> {
    let stretches = buckets(from.start(), to.start(), Unit::Day, &Zone::utc()).map_err(|error| {
        let hint = "narrow it with `from` and `to`";
        Failure(ApiError::invalid(error.to_string()).field("from").hint(hint))
    })?;
    let found = rows(api, by, stretches.clone(), (None, groups)).await?;
    let mut days: BTreeMap<Vec<String>, anomaly::Days> = BTreeMap::new();
    for row in found {
        let at = stretches.get(row.bucket).map_or(UnixMs(0), |bucket| bucket.from);
        days.entry(row.keys).or_default().insert(Day::of(at), narrow(row.measures.spend_micros));
    }
    Ok(days)
}

pub(super) async fn anomalies(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    Params(query): Params<AnomaliesQuery>,
) -> Result<Json<AnomaliesView>, Failure> {
    let (from, to) = query.days(Day::of(api.app.engine.clock().now()))?;
    let groups = visible(&api, &who, None).await?;
    let rule = AnomalyRule::default();
    let history = from.plus(-i64::from(rule.window_days));
    let days = by_day(&api, vec![ReportBy::Group, ReportBy::Class], (history, to), groups).await?;
    let mut spend = BTreeMap::new();
    for (keys, days) in days {
        if let [group, class] = keys.as_slice()
            && let Ok(group) = group.parse::<GroupName>()
        {
            spend.insert((group, class.clone()), days);
        }
    }
    Ok(Json(AnomaliesView { from, to, items: anomaly::anomalies(&spend, (from, to), &rule) }))
}
