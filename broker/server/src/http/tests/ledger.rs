//! The books: records and their verification, periods, rate cards, and a provider's bill.

use spillway_api::ErrorCode;
use spillway_api::v1::{CorrectionRequest, RatesRequest, ReconcileQuery};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::{Digest, Verifier};
use spillway_ledger::reconcile::Verdict;

use super::world::{World, refused, submit};

/// A world in which a job of `ada` ran to its end.
async fn after_a_job() -> World {
    let mut world = World::start().await;
    submit(&world.client("ada"), "{run: x, resources: {gpus: \"A100:1\"}}", "k").await;
    world.place().await;
    let attempt = world.attempts().await[0];
    world.run_to_end(attempt, 0).await;
    world
}

#[tokio::test]
async fn the_records_are_a_chain_that_the_client_can_follow_itself() {
    let world = after_a_job().await;
    let root = world.client("root");
    let (mut verifier, mut previous) = (Verifier::new(), Digest::default());
    let page = root.ledger(0).await.unwrap();
    assert!(page.items.len() >= 3, "a hold, a charge and a release");
    for view in page.items {
        let record = view.record(previous);
        verifier.record(&record).unwrap();
        previous = record.hash;
    }
    let check = root.verify_ledger().await.unwrap();
    assert_eq!((check.defect, check.records, check.head), (None, verifier.records(), previous));
    assert_eq!(root.ledger(check.records).await.unwrap().items, []);
    assert_eq!(refused(world.client("ada").ledger(0).await).code, ErrorCode::Forbidden);
}

#[tokio::test]
async fn a_period_that_goes_on_is_not_closed_and_one_that_is_over_is_frozen() {
    let world = World::start().await;
    let root = world.client("root");
    let now = Period::of(world.engine.clock().now(), &Zone::utc());
    let error = refused(root.close_period(now).await);
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Conflict, Some("period")));
    assert!(error.message.contains("ends at"), "{error:?}");
    let past: Period = "2024-12".parse().unwrap();
    let closed = root.close_period(past).await.unwrap();
    let export = root.period_export(past).await.unwrap();
    assert_eq!(closed.digest, Some(Digest::of(&export)));
    assert_eq!(root.periods().await.unwrap().items, [closed]);
    assert_eq!(refused(root.close_period(past).await).code, ErrorCode::Conflict, "once");
    assert_eq!(root.verify_ledger().await.unwrap().periods, 1);
}

#[tokio::test]
async fn a_closed_month_shows_what_was_here_of_each_sites_usage() {
    let world = after_a_job().await;
    let root = world.client("root");
    let past: Period = "2024-12".parse().unwrap();
    let error = refused(root.period_manifests(past).await);
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NotFound, Some("period")));
    root.close_period(past).await.unwrap();
    let manifests = root.period_manifests(past).await.unwrap().items;
    assert_eq!(manifests.len(), 1);
    assert_eq!((manifests[0].period, manifests[0].nodes.len(), manifests[0].check(0)), (past, 1, Ok(())));
    assert!(manifests[0].count > 0 && manifests[0].count == manifests[0].added, "{manifests:?}");
    assert_eq!(refused(world.client("ada").period_manifests(past).await).code, ErrorCode::Forbidden);
}

#[tokio::test]
async fn a_month_is_there_where_something_is_booked_or_it_goes_on_or_is_closed() {
    let world = after_a_job().await;
    let root = world.client("root");
    let now = Period::of(world.engine.clock().now(), &Zone::utc());
    let all = root.ledger(0).await.unwrap().items;
    let month = root.period(now).await.unwrap();
    assert_eq!((month.period, &month.zone, month.closed_at), (now, &Zone::utc(), None));
    assert_eq!(Some(month.newest_record), all.last().map(|record| record.seq));
    let booked = root.booked(now, 0).await.unwrap().items;
    assert_eq!(booked, all);
    assert_eq!(root.booked(now, booked[0].seq).await.unwrap().items, all[1..]);
    let error = refused(root.period(now.next()).await);
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::NotFound, Some("period")));
    assert!(error.message.contains("nothing is booked into it"), "{error:?}");
    let past: Period = "2024-12".parse().unwrap();
    let closed = root.close_period(past).await.unwrap();
    assert_eq!(root.period(past).await.unwrap().closed_at, Some(closed.closed_at));
    assert_eq!(root.booked(past, 0).await.unwrap().items, []);
    for error in
        [refused(world.client("ada").period(past).await), refused(world.client("ada").booked(past, 0).await)]
    {
        assert_eq!(error.code, ErrorCode::Forbidden);
    }
}

#[tokio::test]
async fn a_rate_card_is_set_for_a_pool_that_there_is() {
    let world = World::start().await;
    let root = world.client("root");
    let pool = world
        .engine
        .read(|view| view.federation.state().pools.keys().next().cloned())
        .await
        .unwrap()
        .unwrap();
    let card: RatesRequest =
        serde_json::from_str(r#"{"effective":1,"card":{"basis":"flat","per_gpu":{"A100":2500000}}}"#)
            .unwrap();
    let set = root.set_rates(&pool, &card).await.unwrap();
    assert_eq!(root.rates().await.unwrap().items, [set]);
    let nowhere = "nowhere".parse().unwrap();
    assert_eq!(refused(root.set_rates(&nowhere, &card).await).code, ErrorCode::NotFound);
    root.close_period("2024-12".parse().unwrap()).await.unwrap();
    let error = refused(root.set_rates(&pool, &card).await);
    assert!(error.message.contains("2024-12"), "{error:?}");
}

#[tokio::test]
async fn a_bill_shows_what_nobody_here_launched_and_a_torn_one_changes_nothing() {
    let world = World::start().await;
    let root = world.client("root");
    let query = ReconcileQuery { cloud: "sky".parse().unwrap(), tolerance_micros: 0 };
    let header = "ResourceId,ChargePeriodStart,ChargePeriodEnd,BilledCost,BillingCurrency,PricingQuantity,PricingUnit\n";
    let line = "i-stray,2026-03-01T00:00:00Z,2026-03-01T01:00:00Z,2.49,USD,1,Hours\n";
    let found = root.reconcile(&query, format!("{header}{line}").into_bytes()).await.unwrap();
    assert_eq!((found.theirs.micros, found.ours.micros), (2_490_000, 0));
    assert_eq!(found.findings[0].verdict, Verdict::Orphan);
    let before = world.engine.read(|view| view.federation.state().clone()).await.unwrap();
    let torn = format!("{header}{line}{}", line.trim_end());
    let error = refused(root.reconcile(&query, torn.into_bytes()).await);
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Invalid, Some("bill")));
    assert!(error.message.contains("line 3 of the bill is torn"), "{error:?}");
    let euros = format!("{header}{}", line.replace("USD", "EUR"));
    assert!(refused(root.reconcile(&query, euros.into_bytes()).await).message.contains("EUR"));
    assert_eq!(world.engine.read(|view| view.federation.state().clone()).await.unwrap(), before);
}

#[tokio::test]
async fn a_finance_closer_corrects_a_charge_once_and_the_ledger_stays_whole() {
    let world = after_a_job().await;
    world.user("clo", spillway_types::Role::FinanceCloser, "lab").await;
    let closer = world.client("clo");
    let records = closer.ledger(0).await.unwrap().items;
    let of_kind = |kind: &str| records.iter().find(|record| record.body.contains(kind)).unwrap().seq;
    let correction = |seq, amount: Option<&str>| CorrectionRequest {
        seq,
        amount: amount.map(|amount| amount.parse().unwrap()),
        gpu_ms: None,
        because: "the rate was wrong".to_owned(),
    };
    let charge = of_kind("\"kind\":\"charge\"");
    let forbidden = world.client("ada").correct(&correction(charge, None)).await;
    assert_eq!(refused(forbidden).code, ErrorCode::Forbidden);
    for (seq, amount, field) in [
        (charge, Some("5 EUR"), "amount"),
        (charge, Some("-1"), "amount"),
        (of_kind("\"kind\":\"hold\""), None, "seq"),
    ] {
        assert_eq!(refused(closer.correct(&correction(seq, amount)).await).field.as_deref(), Some(field));
    }
    assert_eq!(refused(closer.correct(&correction(99_999, None)).await).code, ErrorCode::NotFound);
    assert_eq!(closer.ledger(0).await.unwrap().items.len(), records.len(), "nothing was posted");
    let made = closer.correct(&correction(charge, Some("1.25"))).await.unwrap();
    assert_eq!((made.is, made.period), ("1.25".parse().unwrap(), made.booked));
    let again = refused(closer.correct(&correction(charge, None)).await);
    assert!(again.message.contains("corrected already"), "{again:?}");
    let spent = closer.groups().await.unwrap().items.into_iter().find(|group| group.name.as_str() == "lab");
    assert_eq!(spent.unwrap().spent, "1.25".parse().unwrap());
    assert_eq!(closer.verify_ledger().await.unwrap().defect, None);
}
