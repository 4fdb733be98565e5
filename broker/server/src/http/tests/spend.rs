//! Reports on spend and use: who sees what, over what time, and what is refused.

use spillway_api::v1::{AnomaliesQuery, BudgetWindow, PeriodState, SpendQuery, SpendReport};
use spillway_core::Command;
use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_types::Money;

use super::world::{World, refused, submit};

fn by(by: &str) -> SpendQuery {
    SpendQuery { by: Some(by.to_owned()), ..SpendQuery::default() }
}

/// A job of each of two groups of `lab`, and one of `rivals`: each had one accelerator at 2.00 an hour for a second.
pub(super) async fn three_jobs() -> World {
    let mut world = World::start().await;
    for (user, group) in [("ada", "lab"), ("ada", "vision"), ("eve", "rivals")] {
        let text = format!("{{run: x, group: {group}, time_limit: 10m, resources: {{gpus: 1}}}}");
        submit(&world.client(user), &text, group).await;
    }
    world.place().await;
    for attempt in world.attempts().await {
        world.run_to_end(attempt, 0).await;
    }
    world
}

const EACH: i64 = 2_000_000 / 3600;

fn values<'a>(report: &'a SpendReport, key: &str) -> Vec<&'a str> {
    report.rows.iter().map(|row| row.keys[key].as_str()).collect()
}

#[tokio::test]
async fn a_member_sees_the_rows_of_the_own_groups() {
    let world = three_jobs().await;
    for keys in
        ["group", "group,month", "group,pool,accelerator", "group,day,job", "group,week,market,period"]
    {
        let all = world.client("root").spend(&by(keys)).await.unwrap();
        assert_eq!(values(&all, "group"), ["lab", "rivals", "vision"], "{keys}");
        assert_eq!((all.total.micros, all.ledger_total), (3 * EACH, Some(all.total)), "{keys}");
        let own = world.client("ada").spend(&by(keys)).await.unwrap();
        assert_eq!(values(&own, "group"), ["lab", "vision"], "{keys}");
        assert_eq!((own.total.micros, own.ledger_total), (2 * EACH, Some(own.total)), "{keys}");
        let other = world.client("eve").spend(&by(keys)).await.unwrap();
        assert_eq!((values(&other, "group"), other.total.micros), (vec!["rivals"], EACH), "{keys}");
    }
    let used = world.client("root").spend(&by("pool,accelerator,provider,kind")).await.unwrap();
    let row = &used.rows[0];
    assert_eq!(row.keys["pool"], "dgx");
    assert_eq!((row.keys["accelerator"].as_str(), row.keys["kind"].as_str()), ("A100", "on-prem"));
    assert_eq!((row.sums.gpu_ms, row.sums.slices, row.sums.on_demand), (3000, 3, None));
    assert_eq!(
        (row.sums.normalised_ms, row.sums.on_prem),
        (3000, None),
        "as much as the reference, and on-prem"
    );
    assert_eq!(row.sums.per_normalised_gpu_hour, row.sums.per_gpu_hour);
    // Three times 555 micros for three seconds.
    assert_eq!(row.sums.per_gpu_hour, Some(Money::usd_micros(1_998_000)));
}

#[tokio::test]
async fn a_group_has_its_budget_its_holds_and_a_forecast_with_its_method() {
    let world = three_jobs().await;
    submit(&world.client("eve"), "{run: x, group: rivals, time_limit: 10m, resources: {gpus: 1}}", "more")
        .await;
    world.place().await;
    let month = Period::of(world.engine.clock().now(), &Zone::utc()).to_string();
    for keys in ["group", "month,group", "group,period"] {
        let report = world.client("eve").spend(&by(keys)).await.unwrap();
        let outlook = report.rows[0].outlook.expect(keys);
        assert_eq!(outlook.budget, Some(Money::usd_micros(500_000)), "{keys}");
        assert_eq!(outlook.budget_window, Some(BudgetWindow::Always), "{keys}");
        assert!(outlook.committed.micros > 300_000, "{outlook:?}");
        assert_eq!(outlook.forecast.micros, EACH + outlook.committed.micros, "{outlook:?}");
        if let Some(value) = report.rows[0].keys.get("month") {
            assert_eq!(*value, month);
        }
    }
    let limit = r#"{"group":"rivals","metric":"money","nominal":7000000}"#;
    world.client("root").set_limit(&serde_json::from_str(limit).unwrap()).await.unwrap();
    let monthly = world.client("eve").spend(&by("group")).await.unwrap().rows[0].outlook.unwrap();
    assert_eq!(monthly.budget, Some(Money::usd_micros(7_000_000)));
    assert_eq!(monthly.budget_window, Some(BudgetWindow::Month));
    for keys in ["group,site", "user", "group,day"] {
        let report = world.client("eve").spend(&by(keys)).await.unwrap();
        assert!(report.rows.iter().all(|row| row.outlook.is_none()), "{keys}");
    }
}

#[tokio::test]
async fn a_report_is_of_the_time_that_was_asked_for() {
    let world = three_jobs().await;
    let root = world.client("root");
    let now = world.engine.clock().now();
    let (today, month) = (Day::of(now), Period::of(now, &Zone::utc()));
    let within = |from: Day, to: Day| SpendQuery {
        from: Some(from.to_string()),
        to: Some(to.to_string()),
        ..by("site")
    };
    let report = root.spend(&within(today.plus(-1), today.plus(1))).await.unwrap();
    assert_eq!(
        (report.total.micros, report.ledger_total),
        (3 * EACH, None),
        "a part has no total of the ledger"
    );
    assert_eq!(root.spend(&within(today.plus(-9), today.plus(-2))).await.unwrap().total.micros, 0);
    let booked = |period: Period| SpendQuery { period: Some(period.to_string()), ..by("period") };
    let report = root.spend(&booked(month)).await.unwrap();
    assert_eq!((report.total.micros, report.state), (3 * EACH, Some(PeriodState::Open)));
    assert_eq!(values(&report, "period"), [month.to_string()]);
    // Months that are over are closed one after the other.
    let before: Period = "2026-01".parse().unwrap();
    world.engine.command(Command::ClosePeriod { period: before }).await.unwrap();
    let report = root.spend(&booked(before)).await.unwrap();
    assert!(matches!(report.state, Some(PeriodState::Closed { .. })), "{report:?}");
    assert_eq!((report.closed_through, report.total.micros), (Some(before), 0));
    // Zones move what was used from one day to another, and change nothing else.
    for zone in ["UTC", "Asia/Seoul", "America/New_York", "Asia/Kathmandu"] {
        for unit in ["month", "week", "day"] {
            let query = SpendQuery { zone: Some(zone.to_owned()), ..by(unit) };
            let report = root.spend(&query).await.unwrap();
            assert_eq!((report.total.micros, report.zone.name()), (3 * EACH, zone), "{unit} in {zone}");
            let sum: i64 = report.rows.iter().map(|row| row.sums.amount.micros).sum();
            assert_eq!(sum, 3 * EACH, "{unit} in {zone}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_reported_is_refused_by_name() {
    let world = three_jobs().await;
    let root = world.client("root");
    let text = |text: &str| Some(text.to_owned());
    for (query, field) in [
        (by("colour"), "by"),
        (by("group,group"), "by"),
        (by("month,week"), "by"),
        (by("job,dataset"), "by"),
        (SpendQuery { from: text("2026-03-02"), to: text("2026-03-01"), ..by("group") }, "to"),
        (SpendQuery { from: text("soon"), ..by("group") }, "from"),
        (SpendQuery { zone: text("Mars/Base"), ..by("group") }, "zone"),
        (SpendQuery { period: text("March"), ..by("group") }, "period"),
    ] {
        let error = refused(root.spend(&query).await);
        assert_eq!(error.field.as_deref(), Some(field), "{error:?}");
    }
    let (status, body) =
        world.raw("GET", "/v1/spend?by=group&colour=red", "authorization: Bearer token-root\r\n", b"").await;
    assert!(status == 400 && body.contains("colour"), "{status} {body}");
    let query = AnomaliesQuery { from: text("2026-03-02"), to: text("2026-03-01") };
    assert_eq!(refused(root.anomalies(&query).await).field.as_deref(), Some("to"));
    let query = AnomaliesQuery { from: text("2020-01-01"), to: text("2026-03-01") };
    assert_eq!(refused(root.anomalies(&query).await).field.as_deref(), Some("from"));
    assert_eq!(root.anomalies(&AnomaliesQuery::default()).await.unwrap().items, []);
}
