//! The months of pools in a database: cases that both databases must pass.

use std::collections::BTreeMap;

use spillway_core::Command;
use spillway_focus::check::check_csv;
use spillway_focus::{Exporter, FromLedger, Scope, Status, Version};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::{Digest, Fact, StatementKind};
use spillway_ledger::rates::Card;
use spillway_types::{Currency, HourlyRate, UnixMs};

use super::TestDatabase;
use super::cases::meddle;
use super::world::World;
use crate::{SpendBy, Store};

fn january() -> Period {
    "2026-01".parse().unwrap()
}

/// The pool `dgx` has a card with this rule from the begin of January on.
fn set_card(world: &mut World, rule: &str) {
    let per_gpu = BTreeMap::from([("H100".parse().unwrap(), HourlyRate(2_500_000))]);
    let (currency, unused) = (Currency::USD, rule.parse().unwrap());
    let card = Card::Flat { per_gpu, lending: None, currency, unused };
    let (pool, effective) = ("dgx".parse().unwrap(), january().start(&Zone::utc()));
    world.run(Command::SetRates { pool, effective, card: Box::new(card) });
}

/// The pool `dgx` has this rule from the begin of its time, and January is closed.
async fn closed(store: &Store, rule: &str) -> World {
    let mut world = World::busy_day(store).await;
    set_card(&mut world, rule);
    world.says_all_is_here();
    world.run(Command::ClosePeriod { period: january() });
    world.commit(store).await.unwrap();
    world
}

fn as_focus(records: &[spillway_ledger::journal::Record]) -> Vec<u8> {
    let mut charges = FromLedger::new(january(), Zone::utc(), Currency::USD).unwrap();
    let (period, status) = (charges.billing(), Status::Closed);
    let scope = Scope { version: Version::V1_2, period, status, currency: Currency::USD };
    let mut csv = vec![];
    let mut exporter = Exporter::new(scope, "january.csv", &mut csv).unwrap();
    for record in records {
        charges.record(record).unwrap().iter().for_each(|charge| exporter.push(charge).unwrap());
    }
    charges.finish().iter().for_each(|charge| exporter.push(charge).unwrap());
    exporter.finish().unwrap();
    csv
}

pub(super) async fn a_closed_pool_is_in_the_chain_and_in_every_export(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = closed(&store, "idle").await;
    let records = store.booked_records(january(), 0, 1000).await.unwrap();
    let last = records.last().unwrap();
    let Fact::Statement(statement) = last.fact().unwrap() else { panic!("{}", last.body) };
    assert_eq!((statement.kind(), statement.period()), (StatementKind::PoolClose, january()));
    assert_eq!(last.effective_at, UnixMs(january().end(&Zone::utc()).0 - 1));
    let idle = world.state().book.balance(&"idle:dgx".parse().unwrap());
    assert!(idle > 0);
    let export = store.period_export(january()).await.unwrap();
    assert!(export.contains(&format!(",pool-close,{},2026-01,", last.effective_at.0)), "{export}");
    let digest = Digest::of(export.as_bytes());
    world.run(Command::FreezePeriod { period: january(), digest });
    world.commit(&store).await.unwrap();
    let check = store.verify_ledger().await.unwrap();
    assert_eq!((check.defect, check.periods), (None, 1));
    assert_eq!(store.load().await.unwrap(), *world.state(), "the books of pools too");
    store.close().await.unwrap();
    assert_eq!(database.open().await.load().await.unwrap(), *world.state());
    let csv = as_focus(&records);
    let report = check_csv(csv.as_slice(), Some(Version::V1_2), None).unwrap();
    assert_eq!(report.findings, [], "{}", String::from_utf8_lossy(&csv));
    let text = String::from_utf8(csv).unwrap();
    let unused = text.lines().filter(|line| line.contains("seoul/dgx") && line.contains("Unused"));
    assert_eq!(unused.count(), 1, "{text}");
}

pub(super) async fn shares_of_what_nobody_used_are_spend_of_groups(database: &TestDatabase) {
    let store = database.open().await;
    let world = closed(&store, "speech=3,vision=1").await;
    let spent = |group: &str| world.state().book.balance(&format!("spend:{group}").parse().unwrap());
    let rows = store.spend(&[SpendBy::Group, SpendBy::Kind]).await.unwrap();
    let share = |group: &str| {
        let row = rows.iter().find(|row| row.keys == [group.to_owned(), "pool-close".to_owned()]).unwrap();
        row.micros
    };
    assert!((share("speech") - 3 * share("vision")).abs() <= 3 && share("vision") > 0);
    let all = |group: &str| rows.iter().filter(|row| row.keys[0] == group).map(|row| row.micros).sum::<i64>();
    assert_eq!((all("speech"), all("vision")), (spent("speech"), spent("vision")));
    let totals = store.ledger_totals().await.unwrap();
    assert_eq!((totals.postings_micros, totals.mismatched), (0, vec![]));
    assert_eq!(totals.charges_micros, totals.spend_micros);
    assert_eq!(store.verify_ledger().await.unwrap().defect, None);
    let mut replayed = spillway_core::State::default();
    for row in store.journal(0, 1000).await.unwrap() {
        replayed.replay(row.seq, row.at, &row.events).unwrap();
    }
    assert_eq!(replayed, store.load().await.unwrap(), "the journal gives the same books");
    // Where an older version left roll-ups out, they are made of statements too.
    for table in ["spend_days", "spend_months", "spend_datasets"] {
        meddle(&store, &format!("DELETE FROM {table}")).await;
    }
    store.close().await.unwrap();
    let store = database.open().await;
    assert_eq!(store.verify_ledger().await.unwrap().defect, None);
    assert_eq!(store.spend(&[SpendBy::Group, SpendBy::Kind]).await.unwrap(), rows);
    // A balance that somebody changed is found.
    meddle(&store, "UPDATE balances SET micros = micros + 1 WHERE account = 'revenue:seoul'").await;
    assert!(store.verify_ledger().await.unwrap().defect.is_some());
}

pub(super) async fn what_is_posted_before_a_close_in_one_transaction_is_booked_before_it(
    database: &TestDatabase,
) {
    let store = database.open().await;
    let mut world = World::new();
    let (node, job) = (world.join("dgx-1"), world.submit("crosses the month", "vision"));
    let attempt = world.place_on(job, node, 0);
    world.runs(node, attempt);
    world.ends(node, attempt);
    set_card(&mut world, "idle");
    world.says_all_is_here();
    world.run(Command::ClosePeriod { period: january() });
    world.commit(&store).await.unwrap();
    assert_eq!(store.verify_ledger().await.unwrap().defect, None);
    let records = store.booked_records(january(), 0, 1000).await.unwrap();
    let facts = records.iter().map(|record| record.fact().unwrap());
    let charged: i64 = facts
        .map(|fact| match fact {
            Fact::Entry(entry) => entry.spend_micros(),
            Fact::Statement(_) => 0,
        })
        .sum();
    let used = world.state().pool_books.closed[&january()].values().next().unwrap().close.used_micros;
    assert_eq!((charged, charged > 0), (used, true), "the ledger's month is the pool's");
    let later = store.booked_records(january().next(), 0, 1000).await.unwrap();
    assert!(later.iter().all(|record| record.effective_at >= january().end(&Zone::utc())));
    assert!(later.iter().any(|record| record.key.contains("/usage/")), "it went on in February");
}

/// What was used in open months is known from roll-ups where a database is of before it was noted.
pub(super) async fn use_of_an_older_version_is_filled_from_roll_ups(database: &TestDatabase) {
    let store = database.open().await;
    let world = World::busy_day(&store).await;
    let fill = include_str!("../../migrations/0008_pools.sql");
    let fill = fill.split(';').find(|sql| sql.contains("INSERT INTO pool_use")).unwrap();
    meddle(&store, "DELETE FROM pool_use").await;
    meddle(&store, fill).await;
    assert_eq!(store.load().await.unwrap().pool_books, world.state().pool_books);
}
