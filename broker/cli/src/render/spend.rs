//! Reports as tables and as CSV.

use spillway_api::v1::{AnomaliesView, PeriodState, SpendKey, SpendReport, SpendRow, Sums};
use spillway_ledger::calendar::Period;
use spillway_types::Money;

use super::value::{amount, decimal, decimal_hours, limit, signed_gpu_hours};
use crate::output::Look;
use crate::table::Table;

/// The heads of the keys, those given, and the state of a row's month of the books where rows are of one.
fn heads(report: &SpendReport, own: &[&str]) -> Vec<String> {
    let keys = report.by.iter().map(|key| key.as_str().to_uppercase());
    let state = report.by.contains(&SpendKey::Period).then(|| "STATE".to_owned());
    keys.chain(state).chain(own.iter().map(|head| (*head).to_owned())).collect()
}

/// Whether the figures of a row's month of the books can still change; none where a row is of several.
fn state(report: &SpendReport, row: &SpendRow) -> Option<&'static str> {
    let booked = row.keys.get(SpendKey::Period.as_str()).and_then(|period| period.parse::<Period>().ok());
    let word = |closed: bool| if closed { "closed" } else { "open" };
    match booked {
        Some(booked) => Some(word(report.closed_through.is_some_and(|closed| booked <= closed))),
        None => report.state.map(|state| word(matches!(state, PeriodState::Closed { .. }))),
    }
}

fn keys(report: &SpendReport, row: &SpendRow) -> Vec<String> {
    let mut keys: Vec<String> =
        report.by.iter().map(|key| row.keys.get(key.as_str()).cloned().unwrap_or_default()).collect();
    if report.by.contains(&SpendKey::Period) {
        keys.push(state(report, row).unwrap_or_default().to_owned());
    }
    keys
}

/// The cells of the last line before its sums.
fn total_keys(report: &SpendReport) -> Vec<String> {
    let count = report.by.len() + usize::from(report.by.contains(&SpendKey::Period));
    let mut cells = vec![String::new(); count];
    if let Some(first) = cells.first_mut() {
        "total".clone_into(first);
    }
    cells
}

fn maybe_money(look: &Look, money: Option<Money>) -> String {
    money.map(|money| shown(look, money)).unwrap_or_default()
}

pub(super) fn shown(look: &Look, money: Money) -> String {
    if look.wide { format!("{money:.6}") } else { amount(money) }
}

/// What was spent, with the total as the last line.
pub(crate) fn spend(look: &Look, report: &SpendReport) -> String {
    let outlooks = report.rows.iter().any(|row| row.outlook.is_some());
    let mut own = vec![
        ">AMOUNT",
        ">ON-DEMAND",
        ">SAVED",
        "?>VS ON-PREM",
        ">GPU HOURS",
        ">PER GPU-HOUR",
        "?>PER NORMALISED",
        "?>OVERHEAD",
    ];
    if look.wide {
        own.extend([">ON-PREM", ">EGRESS", ">SLICES"]);
    }
    if outlooks {
        own.extend([">BUDGET", "?OVER", ">COMMITTED", ">FORECAST", "?METHOD"]);
    }
    let heads = heads(report, &own);
    let mut table = Table::new(look, &heads.iter().map(String::as_str).collect::<Vec<_>>());
    let sums = |sums: &Sums| {
        let mut cells = vec![
            shown(look, sums.amount),
            maybe_money(look, sums.on_demand),
            maybe_money(look, sums.saved),
            maybe_money(look, sums.saved_on_prem),
            signed_gpu_hours(sums.gpu_ms),
            maybe_money(look, sums.per_gpu_hour),
            maybe_money(look, sums.per_normalised_gpu_hour),
            shown(look, sums.overhead),
        ];
        if look.wide {
            let slices = sums.slices.to_string();
            cells.extend([maybe_money(look, sums.on_prem), shown(look, sums.egress), slices]);
        }
        cells
    };
    for row in &report.rows {
        let mut cells = keys(report, row);
        cells.extend(sums(&row.sums));
        match &row.outlook {
            Some(it) => cells.extend([
                limit(it.budget),
                it.budget_window.map(|it| word(&it)).unwrap_or_default(),
                shown(look, it.committed),
                shown(look, it.forecast),
                word(&it.method),
            ]),
            None if outlooks => cells.extend(["", "", "", "", ""].map(str::to_owned)),
            None => {}
        }
        table.row_of(cells);
    }
    let mut total = total_keys(report);
    total.extend(sums(&report.sums));
    if outlooks {
        let of = |part: fn(&spillway_api::v1::Outlook) -> Money| {
            let all = report.rows.iter().filter_map(|row| row.outlook.as_ref());
            all.map(|outlook| part(outlook).micros).fold(0, i64::saturating_add)
        };
        let (committed, forecast) = (of(|it| it.committed), of(|it| it.forecast));
        let money = |micros| shown(look, Money { micros, ..report.total });
        total.extend([String::new(), String::new(), money(committed), money(forecast), String::new()]);
    }
    table.row_of(total);
    table.lines()
}

/// A word of the API as text.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// A part of a whole in percent, with one decimal.
pub(super) fn share(part: i64, whole: i64) -> String {
    if part < 0 || whole <= 0 {
        return String::new();
    }
    let tenths = (i128::from(part) * 2000 + i128::from(whole)) / (2 * i128::from(whole));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// What was used, with the total as the last line.
pub(crate) fn usage(look: &Look, report: &SpendReport) -> String {
    let own = [
        ">GPU HOURS",
        ">SHARE",
        ">PER GPU-HOUR",
        "?>NORMALISED HOURS",
        "?>PER NORMALISED",
        ">AMOUNT",
        "?>OVERHEAD",
        "?>SLICES",
    ];
    let heads = heads(report, &own);
    let mut table = Table::new(look, &heads.iter().map(String::as_str).collect::<Vec<_>>());
    let sums = |sums: &Sums| {
        [
            signed_gpu_hours(sums.gpu_ms),
            share(sums.gpu_ms, report.sums.gpu_ms),
            maybe_money(look, sums.per_gpu_hour),
            signed_gpu_hours(sums.normalised_ms),
            maybe_money(look, sums.per_normalised_gpu_hour),
            shown(look, sums.amount),
            shown(look, sums.overhead),
            sums.slices.to_string(),
        ]
    };
    for row in &report.rows {
        table.row_of(keys(report, row).into_iter().chain(sums(&row.sums)).collect());
    }
    table.row_of(total_keys(report).into_iter().chain(sums(&report.sums)).collect());
    table.lines()
}

/// Days out of the ordinary.
pub(crate) fn anomalies(look: &Look, found: &AnomaliesView) -> String {
    let heads = ["DAY", "GROUP", "ACCELERATOR", ">SPENT", ">USUAL", ">DEVIATION", ">SCORE"];
    let mut table = Table::new(look, &heads);
    let money = |micros| shown(look, Money::usd_micros(micros));
    for it in &found.items {
        table.row([
            it.day.to_string(),
            it.group.to_string(),
            it.sku.clone(),
            money(it.micros),
            money(it.median_micros),
            money(it.mad_micros),
            it.score_milli.map(thousandths).unwrap_or_default(),
        ]);
    }
    table.lines()
}

/// Thousandths with one decimal, cut.
fn thousandths(milli: i64) -> String {
    let sign = if milli < 0 { "-" } else { "" };
    format!("{sign}{}.{}", milli.unsigned_abs() / 1000, milli.unsigned_abs() % 1000 / 100)
}

/// Lines of CSV after RFC 4180, with a line of names first.
pub(super) fn lines(names: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut writer = csv::Writer::from_writer(vec![]);
    let written = std::iter::once(names).chain(rows).try_for_each(|row| writer.write_record(row));
    let bytes = written.ok().and_then(|()| writer.into_inner().ok()).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// The report as CSV: every figure, as plain numbers. Amounts are decimals of the currency that is named beside them.
pub(crate) fn csv(report: &SpendReport) -> String {
    const OWN: [&str; 21] = [
        "state",
        "currency",
        "amount",
        "on_demand",
        "saved",
        "on_prem",
        "saved_on_prem",
        "overhead",
        "egress",
        "gpu_ms",
        "gpu_hours",
        "per_gpu_hour",
        "normalised_gpu_ms",
        "normalised_gpu_hours",
        "per_normalised_gpu_hour",
        "slices",
        "budget",
        "budget_window",
        "committed",
        "forecast",
        "forecast_method",
    ];
    let names = report.by.iter().map(|key| key.as_str()).chain(OWN).map(str::to_owned).collect();
    let maybe = |money: Option<Money>| money.map(decimal).unwrap_or_default();
    let row = |row: &SpendRow| {
        let (sums, outlook) = (&row.sums, row.outlook.as_ref());
        let keys = report.by.iter().map(|key| row.keys.get(key.as_str()).cloned().unwrap_or_default());
        let own: [String; OWN.len()] = [
            state(report, row).unwrap_or_default().to_owned(),
            sums.amount.currency.to_string(),
            decimal(sums.amount),
            maybe(sums.on_demand),
            maybe(sums.saved),
            maybe(sums.on_prem),
            maybe(sums.saved_on_prem),
            decimal(sums.overhead),
            decimal(sums.egress),
            sums.gpu_ms.to_string(),
            decimal_hours(sums.gpu_ms),
            maybe(sums.per_gpu_hour),
            sums.normalised_ms.to_string(),
            decimal_hours(sums.normalised_ms),
            maybe(sums.per_normalised_gpu_hour),
            sums.slices.to_string(),
            maybe(outlook.and_then(|it| it.budget)),
            outlook.and_then(|it| it.budget_window).map(|it| word(&it)).unwrap_or_default(),
            maybe(outlook.map(|it| it.committed)),
            maybe(outlook.map(|it| it.forecast)),
            outlook.map(|it| word(&it.method)).unwrap_or_default(),
        ];
        keys.chain(own).collect()
    };
    lines(names, report.rows.iter().map(row))
}

/// Days out of the ordinary as CSV.
pub(crate) fn anomalies_csv(found: &AnomaliesView) -> String {
    let names = ["day", "group", "accelerator", "currency", "spent", "usual", "deviation", "score"];
    let rows = found.items.iter().map(|it| {
        let money = |micros| decimal(Money::usd_micros(micros));
        let currency = Money::usd_micros(0).currency.to_string();
        let score = it.score_milli.map(|milli| decimal(Money::usd_micros(milli.saturating_mul(1000))));
        vec![
            it.day.to_string(),
            it.group.to_string(),
            it.sku.clone(),
            currency,
            money(it.micros),
            money(it.median_micros),
            money(it.mad_micros),
            score.unwrap_or_default(),
        ]
    });
    lines(names.map(str::to_owned).to_vec(), rows)
}

#[cfg(test)]
#[path = "spend_tests.rs"]
mod tests;
