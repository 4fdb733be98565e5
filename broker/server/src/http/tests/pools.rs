//! The books of pools: who may read them, and what they say of a month that goes on and of one that is closed.

use spillway_api::ErrorCode;
use spillway_api::v1::{PeriodState, PoolsQuery, RatesRequest};
use spillway_ledger::calendar::{Period, Zone};
use spillway_types::Role;

use super::world::{World, refused, submit};

#[tokio::test]
async fn a_pool_is_shown_with_what_was_used_and_what_nobody_used_up_to_now() {
    let mut world = World::start().await;
    let root = world.client("root");
    let asked = PoolsQuery::default();
    let bare = root.pools(&asked).await.unwrap();
    assert!(bare.rows.iter().all(|row| row.cost.is_none()), "no card, no costs: {bare:?}");
    let card = r#"{"card":{"basis":"flat","per_gpu":{"A100":2000000},"unused":{"rule":"by-use"}}}"#;
    let card: RatesRequest = serde_json::from_str(card).unwrap();
    let set = root.set_rates(&"dgx".parse().unwrap(), &card).await.unwrap();
    assert_eq!(root.rates().await.unwrap().items, [set]);
    submit(&world.client("ada"), "{run: x, resources: {gpus: \"A100:1\"}}", "k").await;
    world.place().await;
    let attempt = world.attempts().await[0];
    world.run_to_end(attempt, 0).await;
    world.user("fin", Role::FinanceViewer, "lab").await;
    let finance = world.client("fin");
    // The job said that it ran for a second, which four accelerators can give a quarter of a second after they came.
    let report = loop {
        let report = finance.pools(&asked).await.unwrap();
        let problem = report.rows.iter().find_map(|row| row.problem.clone());
        let Some(problem) = problem else { break report };
        assert!(problem.contains("1000 GPU-milliseconds of A100 were used"), "{problem}");
    };
    let now = world.engine.clock().now();
    assert_eq!((report.month, report.state), (Period::of(now, &Zone::utc()), PeriodState::Open));
    assert!(report.until <= now);
    let [row] = report.rows.as_slice() else { panic!("{report:?}") };
    assert_eq!((row.pool.as_str(), row.accelerator.as_ref().unwrap().as_str()), ("dgx", "A100"));
    assert_eq!(row.unused_ms, row.capacity_ms.saturating_sub(row.used_ms));
    assert_eq!((row.used_ms, row.charged.micros), (1000, 2_000_000 / 3600));
    assert_eq!(row.rule.as_ref().map(ToString::to_string).as_deref(), Some("by-use"));
    let sum = row.charged.micros + row.unused.unwrap().micros + row.variance.unwrap().micros;
    assert_eq!(row.cost.unwrap().micros, sum);
    assert_eq!(refused(world.client("ada").pools(&asked).await).code, ErrorCode::Forbidden);
}

#[tokio::test]
async fn a_month_of_before_there_were_machines_is_closed_with_nothing() {
    let world = World::start().await;
    let root = world.client("root");
    let past: Period = "2024-12".parse().unwrap();
    let closed = root.close_period(past).await.unwrap();
    let report = root.pools(&PoolsQuery { month: Some(past) }).await.unwrap();
    assert_eq!((report.state, report.rows.len()), (PeriodState::Closed { at: closed.closed_at }, 0));
    assert_eq!(report.until, past.end(&Zone::utc()));
    let (status, body) =
        world.raw("GET", "/v1/pools?month=soon", "authorization: Bearer token-root\r\n", b"").await;
    assert!(status == 400 && body.contains("month"), "{status} {body}");
}
