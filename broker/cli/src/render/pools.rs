//! The books of pools as a table and as CSV.

use spillway_api::v1::{PeriodState, PoolClassView, PoolsReport};
use spillway_types::Money;

use super::spend::{lines, share, shown};
use super::value::{decimal, decimal_hours, gpu_hours, maybe};
use crate::output::Look;
use crate::table::Table;

fn maybe_money(look: &Look, money: Option<Money>) -> String {
    money.map(|money| shown(look, money)).unwrap_or_default()
}

/// What was used of what there was.
fn utilisation(used_ms: u64, capacity_ms: u64) -> String {
    let narrow = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    share(narrow(used_ms), narrow(capacity_ms))
}

/// A line for each class of each pool, and the total as the last.
pub(crate) fn pools(look: &Look, report: &PoolsReport) -> String {
    let heads = [
        "POOL",
        "?SITE",
        "ACCELERATOR",
        ">CAPACITY GPU-H",
        ">USED GPU-H",
        ">UNUSED GPU-H",
        ">UTILISATION",
        ">COST",
        ">CHARGED",
        ">UNUSED COST",
        "?>VARIANCE",
        "?UNUSED TO",
    ];
    let mut table = Table::new(look, &heads);
    for row in &report.rows {
        table.row([
            row.pool.to_string(),
            row.site.to_string(),
            maybe(row.accelerator.as_ref()),
            gpu_hours(row.capacity_ms),
            gpu_hours(row.used_ms),
            gpu_hours(row.unused_ms),
            utilisation(row.used_ms, row.capacity_ms),
            maybe_money(look, row.cost),
            shown(look, row.charged),
            maybe_money(look, row.unused),
            maybe_money(look, row.variance),
            maybe(row.rule.as_ref()),
        ]);
    }
    let hours = |of: fn(&PoolClassView) -> u64| report.rows.iter().map(of).fold(0, u64::saturating_add);
    let money = |of: fn(&PoolClassView) -> Option<Money>| {
        let all: Vec<Money> = report.rows.iter().filter_map(of).collect();
        let sum = all.iter().fold(0, |sum: i64, it| sum.saturating_add(it.micros));
        all.first().map(|first| Money { micros: sum, ..*first })
    };
    let (capacity, used) = (hours(|row| row.capacity_ms), hours(|row| row.used_ms));
    table.row([
        "total".to_owned(),
        String::new(),
        String::new(),
        gpu_hours(capacity),
        gpu_hours(used),
        gpu_hours(hours(|row| row.unused_ms)),
        utilisation(used, capacity),
        maybe_money(look, money(|row| row.cost)),
        maybe_money(look, money(|row| Some(row.charged))),
        maybe_money(look, money(|row| row.unused)),
        maybe_money(look, money(|row| row.variance)),
        String::new(),
    ]);
    table.lines()
}

/// Every figure, as plain numbers. Amounts are decimals of the currency that is named beside them.
pub(crate) fn csv(report: &PoolsReport) -> String {
    const NAMES: [&str; 14] = [
        "month",
        "state",
        "pool",
        "site",
        "accelerator",
        "capacity_gpu_hours",
        "used_gpu_hours",
        "unused_gpu_hours",
        "currency",
        "cost",
        "charged",
        "unused",
        "variance",
        "unused_to",
    ];
    let state = if matches!(report.state, PeriodState::Closed { .. }) { "closed" } else { "open" };
    let hours = |ms: u64| decimal_hours(i64::try_from(ms).unwrap_or(i64::MAX));
    let row = |row: &PoolClassView| {
        let cells: [String; NAMES.len()] = [
            report.month.to_string(),
            state.to_owned(),
            row.pool.to_string(),
            row.site.to_string(),
            maybe(row.accelerator.as_ref()),
            hours(row.capacity_ms),
            hours(row.used_ms),
            hours(row.unused_ms),
            row.charged.currency.to_string(),
            maybe(row.cost.map(decimal)),
            decimal(row.charged),
            maybe(row.unused.map(decimal)),
            maybe(row.variance.map(decimal)),
            maybe(row.rule.as_ref()),
        ];
        cells.into()
    };
    lines(NAMES.map(str::to_owned).to_vec(), report.rows.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::job::tests::look;

    fn report() -> PoolsReport {
        let usd = |micros: i64| format!(r#"{{"micros":{micros},"currency":"USD"}}"#);
        let text = format!(
            r#"{{"month":"2026-11","zone":"UTC","state":{{"state":"open"}},"until":1764547200000,"rows":[
            {{"pool":"desk","site":"ada","accelerator":"RTX4090","capacity_ms":3600000000,"used_ms":360000000,
              "unused_ms":3240000000,"charged":{}}},
            {{"pool":"dgx","site":"seoul","accelerator":"A100","capacity_ms":20736000000,"used_ms":5184000000,
              "unused_ms":15552000000,"charged":{},"cost":{},"unused":{},"variance":{},"rule":{{"rule":"by-use"}}}},
            {{"pool":"dgx","site":"seoul","capacity_ms":0,"used_ms":0,
              "unused_ms":0,"charged":{},"cost":{},"unused":{},"variance":{},"rule":{{"rule":"by-use"}}}}]}}"#,
            usd(50_000_000),
            usd(2_160_000_000),
            usd(8_000_000_000),
            usd(6_480_000_000),
            usd(-640_000_000),
            usd(12_345_678),
            usd(0),
            usd(0),
            usd(-12_345_678),
        );
        serde_json::from_str(&text).expect("a report")
    }

    #[test]
    fn pools_are_a_line_for_each_class_and_a_total() {
        insta::assert_snapshot!("pools", pools(&look(false), &report()));
        insta::assert_snapshot!("pools_csv", csv(&report()));
        let nothing = PoolsReport { rows: vec![], ..report() };
        insta::assert_snapshot!("pools_nothing", pools(&look(false), &nothing));
    }
}
