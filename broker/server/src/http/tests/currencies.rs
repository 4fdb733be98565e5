//! What currencies are worth, who sets it, and what is told and stated in them.

use spillway_api::ErrorCode;
use spillway_api::v1::{BudgetWindow, ExchangeRequest, GroupChange, RatesRequest, SpendQuery};
use spillway_core::Command;
use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_types::{Currency, GroupName, Money, Role};

use super::spend::three_jobs;
use super::world::{World, refused, submit};

fn euros() -> Currency {
    "EUR".parse().unwrap()
}

fn in_euros(micros: i64) -> Money {
    Money { micros, currency: euros() }
}

fn worth(rate: &str, from: Option<Day>) -> ExchangeRequest {
    ExchangeRequest { from, rate: rate.parse().unwrap() }
}

fn told_in(group: &str) -> (GroupName, GroupChange) {
    (group.parse().unwrap(), GroupChange { currency: Some(euros()), ..GroupChange::default() })
}

fn today(world: &World) -> Day {
    Day::of(world.engine.clock().now())
}

fn by(by: &str, group: Option<&str>, currency: Option<&str>) -> SpendQuery {
    SpendQuery {
        by: Some(by.to_owned()),
        group: group.map(str::to_owned),
        currency: currency.map(str::to_owned),
        ..SpendQuery::default()
    }
}

#[tokio::test]
async fn those_who_keep_the_books_set_what_a_currency_is_worth_and_all_see_it() {
    let world = World::start().await;
    world.user("clo", Role::FinanceCloser, "lab").await;
    let (closer, member, today) = (world.client("clo"), world.client("ada"), today(&world));
    assert_eq!(refused(member.set_currency(euros(), &worth("1.05", None)).await).code, ErrorCode::Forbidden);
    let set = closer.set_currency(euros(), &worth("1.0853", None)).await.unwrap();
    assert_eq!((set.from, set.base), (today, Currency::USD));
    let next = closer.set_currency(euros(), &worth("1.10", Some(today.plus(1)))).await.unwrap();
    assert_eq!(member.currencies().await.unwrap().items, [set, next]);
    assert_eq!(closer.set_currency(euros(), &worth("1.0853", None)).await.unwrap(), set, "no change");
    let error = refused(closer.set_currency(euros(), &worth("1.09", None)).await);
    assert_eq!(error.field.as_deref(), Some("currency"));
    assert!(error.hint.unwrap().contains(&format!("from {} on", today.plus(1))));
    let error = refused(closer.set_currency(Currency::USD, &worth("1.5", None)).await);
    assert!(error.message.contains("USD is the deployment's own currency"), "{error:?}");
    let before: Period = "2026-01".parse().unwrap();
    world.engine.command(Command::ClosePeriod { period: before }).await.unwrap();
    let pounds = "GBP".parse().unwrap();
    let error = refused(closer.set_currency(pounds, &worth("1.3", "2026-01-31".parse().ok())).await);
    assert!(error.message.contains("2026-01") && error.hint.unwrap().contains("from 2026-02-01 on"));
    let end = Day::of(before.end(&Zone::utc()));
    closer.set_currency(pounds, &worth("1.3", Some(end))).await.unwrap();
    for (path, body) in
        [("/v1/currencies/EUR", r#"{"rate":"0"}"#), ("/v1/currencies/euro", r#"{"rate":"1"}"#)]
    {
        let token = "authorization: Bearer token-root\r\ncontent-type: application/json\r\n";
        let (status, said) = world.raw("PUT", path, token, body.as_bytes()).await;
        assert!((400..=422).contains(&status), "{status} {said}");
    }
}

#[tokio::test]
async fn a_group_is_told_amounts_in_its_currency_or_that_of_the_group_above_it() {
    let world = World::start().await;
    let root = world.client("root");
    let (lab, change) = told_in("lab");
    let error = refused(root.change_group(&lab, &change).await);
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Invalid, Some("currency")));
    assert!(error.message.contains("currency EUR is not known"), "{error:?}");
    root.set_currency(euros(), &worth("1.0853", None)).await.unwrap();
    assert_eq!(root.change_group(&lab, &change).await.unwrap().currency, euros());
    let of = async || {
        let groups = root.groups().await.unwrap().items;
        groups.iter().map(|group| format!("{} {}", group.name, group.currency)).collect::<Vec<_>>()
    };
    assert_eq!(of().await, ["lab EUR", "rivals USD", "vision EUR"]);
    let vision = "vision".parse().unwrap();
    let own = GroupChange { currency: Some(Currency::USD), ..GroupChange::default() };
    assert_eq!(root.change_group(&vision, &own).await.unwrap().currency, Currency::USD);
    let inherit = GroupChange { inherit_currency: true, ..GroupChange::default() };
    assert_eq!(root.change_group(&vision, &inherit).await.unwrap().currency, euros());
    let both = GroupChange { inherit_currency: true, ..own };
    assert_eq!(refused(root.change_group(&vision, &both).await).field.as_deref(), Some("currency"));
    let made = r#"{"name":"audio","currency":"EUR","budget":{"micros":1000000000,"currency":"EUR"}}"#;
    let made = root.create_group(&serde_json::from_str(made).unwrap()).await.unwrap();
    assert_eq!((made.currency, made.budget), (euros(), Some(Money::usd_micros(1_085_300_000))));
    let unknown = r#"{"name":"text","currency":"GBP"}"#;
    assert!(
        refused(root.create_group(&serde_json::from_str(unknown).unwrap()).await).message.contains("GBP")
    );
    assert_eq!(of().await.len(), 4, "what was refused made no group");
}

#[tokio::test]
async fn budgets_and_limits_that_are_stated_in_euros_are_enforced_in_dollars_of_the_day() {
    let world = World::start().await;
    let root = world.client("root");
    let rivals = "rivals".parse().unwrap();
    let early = refused(root.set_budget(&rivals, Some(in_euros(1))).await);
    assert_eq!(early.field.as_deref(), Some("budget.currency"), "{early:?}");
    root.set_currency(euros(), &worth("1.0853", None)).await.unwrap();
    let group = root.set_budget(&rivals, Some(in_euros(1_000_000_000))).await.unwrap();
    let stated = group.budget_stated.unwrap();
    assert_eq!(group.budget, Some(Money::usd_micros(1_085_300_000)));
    assert_eq!(
        (stated.amount, stated.rate.to_string(), stated.on),
        (in_euros(1_000_000_000), "1.0853".to_owned(), today(&world))
    );
    let limit = r#"{"group":"rivals","metric":"money","nominal":50000000,"currency":"EUR"}"#;
    let set = root.set_limit(&serde_json::from_str(limit).unwrap()).await.unwrap().items.remove(0);
    assert_eq!(
        (set.nominal, set.limit, set.stated.unwrap().amount),
        (54_265_000, 54_265_000, in_euros(50_000_000))
    );
    // Another rate later changes neither.
    root.set_currency(euros(), &worth("2", Some(today(&world).plus(1)))).await.unwrap();
    assert_eq!(root.limits().await.unwrap().items, [set]);
    let group = root.set_budget(&rivals, Some(Money::usd_micros(7))).await.unwrap();
    assert_eq!((group.budget, group.budget_stated), (Some(Money::usd_micros(7)), None));
    let time = r#"{"group":"rivals","metric":"gpu-time:A100","nominal":5,"currency":"EUR"}"#;
    let error = refused(root.set_limit(&serde_json::from_str(time).unwrap()).await);
    assert!(error.message.contains("only money has one"), "{error:?}");
}

#[tokio::test]
async fn a_report_is_told_in_the_currency_that_was_asked_for_or_the_groups() {
    let world = three_jobs().await;
    let (root, eve) = (world.client("root"), world.client("eve"));
    let each = 2_000_000 / 3600;
    let query = by("group", None, Some("EUR"));
    let error = refused(root.spend(&query).await);
    assert_eq!(error.field.as_deref(), Some("currency"));
    assert!(error.hint.unwrap().contains("known are USD"), "{}", error.message);
    root.set_currency(euros(), &worth("0.4", None)).await.unwrap();
    // 555 dollars' micros are 1387.5 of euros' at 0.4: each row is rounded, and the total is their sum.
    let report = root.spend(&query).await.unwrap();
    let row = in_euros(1388);
    assert_eq!(each, 555);
    assert!(report.rows.iter().all(|it| it.sums.amount == row && it.sums.overhead == in_euros(0)));
    assert_eq!(
        (report.total, report.sums.amount, report.ledger_total),
        (in_euros(3 * 1388), in_euros(3 * 1388), None)
    );
    assert_eq!(report.sums.gpu_ms, 3000, "use has no currency");
    let rivals = report.rows.iter().find(|row| row.keys["group"] == "rivals").unwrap().outlook.unwrap();
    assert_eq!(
        (rivals.budget, rivals.budget_window),
        (Some(in_euros(1_250_000)), Some(BudgetWindow::Always))
    );
    assert_eq!((rivals.committed, rivals.forecast), (in_euros(0), row));
    let whole = root.spend(&by("site", None, Some("EUR"))).await.unwrap();
    assert_eq!(whole.total, in_euros(4163), "1665 in one row: 4162.5");
    let (lab, change) = told_in("lab");
    root.change_group(&lab, &change).await.unwrap();
    for (group, rows, total) in
        [("lab", 2, in_euros(2 * 1388)), ("vision", 1, row), ("rivals", 1, Money::usd_micros(each))]
    {
        let report = root.spend(&by("group", Some(group), None)).await.unwrap();
        assert_eq!((report.rows.len(), report.total, report.ledger_total), (rows, total, None), "{group}");
    }
    let dollars = root.spend(&by("group", Some("lab"), Some("USD"))).await.unwrap();
    assert_eq!(dollars.total, Money::usd_micros(2 * each));
    let all = root.spend(&by("group", None, None)).await.unwrap();
    assert_eq!(
        (all.total, all.ledger_total),
        (Money::usd_micros(3 * each), Some(Money::usd_micros(3 * each)))
    );
    for (client, group) in [(&eve, "lab"), (&root, "nobody")] {
        let error = refused(client.spend(&by("group", Some(group), None)).await);
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NotFound, Some("group")), "{group}");
    }
}

#[tokio::test]
async fn a_card_in_euros_is_charged_in_dollars_and_its_records_say_both() {
    let mut world = World::start().await;
    let root = world.client("root");
    let card = r#"{"card":{"basis":"flat","per_gpu":{"A100":3600000000},"currency":"EUR"}}"#;
    let card: RatesRequest = serde_json::from_str(card).unwrap();
    let pool = "dgx".parse().unwrap();
    let error = refused(root.set_rates(&pool, &card).await);
    assert!(error.message.contains("currency EUR is not known"), "{error:?}");
    root.set_currency(euros(), &worth("1.0853", None)).await.unwrap();
    root.set_rates(&pool, &card).await.unwrap();
    submit(&world.client("ada"), "{run: x, time_limit: 10m, resources: {gpus: 2}}", "k").await;
    world.place().await;
    let attempt = world.attempts().await[0];
    world.run_to_end(attempt, 0).await;
    let spent = root.groups().await.unwrap().items.into_iter().find(|group| group.name.as_str() == "lab");
    assert_eq!(spent.unwrap().spent, Money::usd_micros(2_170_600), "two accelerators for a second");
    let records = root.ledger(0).await.unwrap().items;
    let charge = records.iter().find(|record| record.body.contains(r#""kind":"charge""#)).unwrap();
    let priced = r#""priced":{"currency":"EUR","rate":7200000000}"#;
    assert!(charge.body.contains(priced) && charge.body.contains(r#""rate":7814160000"#), "{}", charge.body);
    assert_eq!(root.verify_ledger().await.unwrap().defect, None);
}
