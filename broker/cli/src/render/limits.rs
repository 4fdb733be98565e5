//! The tree of groups, limits, budgets, transfers and fair shares.

use std::collections::BTreeMap;

use serde::Serialize;
use spillway_api::v1::{FairShareView, GroupView, LimitView, Page, TransferView};
use spillway_ledger::tree::from_the_top;
use spillway_types::{Currency, GroupName, Money, UnixMs};

use super::currency::stated;
use super::value::{amount, blocks, gpu_hours, limit, list};
use crate::output::Look;
use crate::table::Table;

/// What a group may spend in all, and its limits on money.
#[derive(Debug, Serialize)]
pub(crate) struct Budgets {
    /// What all amounts are told in, those of the limits too.
    pub(crate) currency: Currency,
    pub(crate) group: GroupView,
    pub(crate) limits: Vec<LimitView>,
}

fn indented(depth: usize, group: &GroupName) -> String {
    format!("{}{group}", "  ".repeat(depth))
}

/// The groups as a tree.
pub(crate) fn tree(look: &Look, page: &Page<GroupView>) -> String {
    let heads = ["GROUP", ">WEIGHT", ">BUDGET", ">SPENT", ">HELD", ">LEFT", "?CURRENCY", "?ZONE", "?MEMBERS"];
    let mut table = Table::new(look, &heads);
    let groups: BTreeMap<&GroupName, &GroupView> =
        page.items.iter().map(|group| (&group.name, group)).collect();
    let parents = groups.values().map(|group| (&group.name, group.parent.as_ref()));
    for (depth, name) in from_the_top(parents) {
        let Some(group) = groups.get(name) else { continue };
        table.row([
            indented(depth, name),
            group.weight.to_string(),
            limit(group.budget),
            amount(group.spent),
            amount(group.held),
            limit(group.left),
            group.currency.to_string(),
            group.zone.name().to_owned(),
            list(&group.members),
        ]);
    }
    table.lines()
}

/// Limits and where they stand.
pub(crate) fn limits(look: &Look, page: &Page<LimitView>) -> String {
    let heads = [
        "GROUP", "METRIC", "SCOPE", "WINDOW", ">LIMIT", ">USED", ">HELD", ">LEFT", "?STATED", "?ACTION",
        "?ALERTS", "?RENEWS",
    ];
    let mut table = Table::new(look, &heads);
    for view in &page.items {
        let shown = |amount: i64| view.metric.show_amount(amount);
        let percent = |of: &u32| format!("{of}%{}", if view.reached >= Some(*of) { "!" } else { "" });
        table.row([
            view.group.to_string(),
            view.metric.to_string(),
            view.scope.to_string(),
            view.window.word(),
            shown(view.limit),
            shown(view.used),
            shown(view.held),
            shown(view.left),
            stated(view.stated),
            view.action.as_str().to_owned(),
            list(&view.thresholds.iter().map(percent).collect::<Vec<_>>()),
            view.to.map(day).unwrap_or_default(),
        ]);
    }
    table.lines()
}

/// The day of an instant, in UTC.
fn day(at: UnixMs) -> String {
    spillway_ledger::calendar::Day::of(at).to_string()
}

/// A group's budgets.
pub(crate) fn budgets(look: &Look, budgets: &Budgets) -> String {
    let mut table = Table::new(
        look,
        &["BUDGET", "SCOPE", ">LIMIT", ">USED", ">HELD", ">LEFT", "?STATED", "?>MAY PASS BY", "?RENEWS"],
    );
    let group = &budgets.group;
    table.row([
        "in all".to_owned(),
        "everywhere".to_owned(),
        limit(group.budget),
        amount(group.spent),
        amount(group.held),
        limit(group.left),
        stated(group.budget_stated),
        String::new(),
        String::new(),
    ]);
    for view in &budgets.limits {
        let shown = |micros: i64| Money { micros, currency: budgets.currency }.to_string();
        table.row([
            view.window.word(),
            view.scope.to_string(),
            shown(view.limit),
            shown(view.used),
            shown(view.held),
            shown(view.left),
            stated(view.stated),
            shown(view.overshoot),
            view.to.map(day).unwrap_or_default(),
        ]);
    }
    table.lines()
}

/// Transfers of budget.
pub(crate) fn transfers(look: &Look, page: &Page<TransferView>) -> String {
    let mut table = Table::new(look, &["DATE", "FROM", "TO", ">AMOUNT", "BY", "BECAUSE", "?#KEY"]);
    for view in &page.items {
        table.row([
            day(view.effective),
            view.from.to_string(),
            view.to.to_string(),
            view.metric.show_amount(view.amount),
            view.by.to_string(),
            view.because.clone(),
            view.key.clone(),
        ]);
    }
    table.lines()
}

/// Who used how much of the own share this month: a factor above 0.5 has used less than its share.
pub(crate) fn fair_share(look: &Look, page: &Page<FairShareView>) -> String {
    let heads = ["GROUP", ">WEIGHT", ">SHARE", ">USED", ">FACTOR", ">GPU HOURS", ">GPUS NOW"];
    let mut table = Table::new(look, &heads);
    let rows: BTreeMap<&GroupName, &FairShareView> = page.items.iter().map(|row| (&row.group, row)).collect();
    for (depth, name) in from_the_top(rows.values().map(|row| (&row.group, row.parent.as_ref()))) {
        let Some(row) = rows.get(name) else { continue };
        table.row([
            indented(depth, name),
            row.weight.to_string(),
            percent(row.share),
            percent(row.used),
            format!("{}.{:06}", row.factor / 1_000_000, row.factor % 1_000_000),
            gpu_hours(row.used_ms),
            blocks(u64::try_from(row.in_use).unwrap_or(0)),
        ]);
    }
    table.lines()
}

/// Millionths as a percentage with one decimal.
fn percent(millionths: u64) -> String {
    let tenths = millionths.saturating_add(500) / 1000;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
