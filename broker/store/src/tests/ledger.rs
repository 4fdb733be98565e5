//! The ledger's chain, its periods and its rate cards: cases that both databases must pass.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::Command;
use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_ledger::journal::{Defect, Digest, Fact, Head, Record};
use spillway_ledger::rates::{Card, Unused};
use spillway_types::{SequentialIds, UnixMs};
use sqlx::SqlSafeStr as _;

use super::TestDatabase;
use super::cases::meddle;
use super::world::World;

pub(super) async fn the_ledger_is_a_chain_that_verifies(database: &TestDatabase) {
    let store = database.open().await;
    let world = World::busy_day(&store).await;
    let check = store.verify_ledger().await.unwrap();
    assert_eq!(check.defect, None);
    assert_eq!(check.head.seq, store.ledger_totals().await.unwrap().entries);
    assert_eq!(check.accounts, u64::try_from(world.state().book.balances().count()).unwrap());
    let records = store.ledger_records(Head::default(), 1000).await.unwrap();
    assert_eq!(records.last().map(Record::head), Some(check.head));
    // The use of the running job crosses the month's end: what is booked is where it was used.
    let booked: BTreeSet<String> = records.iter().map(|record| record.booked.to_string()).collect();
    assert_eq!(booked, BTreeSet::from(["2026-01".to_owned(), "2026-02".to_owned()]));
    for record in &records {
        assert_eq!(record.booked, Period::of(record.effective_at, &Zone::utc()));
    }
    // A restart goes on with the chain.
    store.close().await.unwrap();
    let store = database.open().await;
    let mut world = World::on(store.load().await.unwrap(), 9);
    world.submit("after the restart", "vision");
    let job = world.submit("runs", "speech");
    let node = world.join("node-after");
    world.place_on(job, node, 0);
    world.commit(&store).await.unwrap();
    let again = store.verify_ledger().await.unwrap();
    assert_eq!(again.defect, None);
    assert!(again.head.seq > check.head.seq);
}

pub(super) async fn a_ledger_that_was_meddled_with_is_found(database: &TestDatabase) {
    let store = database.open().await;
    World::busy_day(&store).await;
    let found = async |sql: &'static str, undo: &'static str| {
        meddle(&store, sql).await;
        let defect =
            store.verify_ledger().await.unwrap().defect.unwrap_or_else(|| panic!("`{sql}` is not found"));
        meddle(&store, undo).await;
        assert_eq!(store.verify_ledger().await.unwrap().defect, None, "`{undo}` undoes it");
        defect
    };
    let moved = "UPDATE ledger_entries SET effective_ms = effective_ms + 1 WHERE chain_seq = 3";
    let back = "UPDATE ledger_entries SET effective_ms = effective_ms - 1 WHERE chain_seq = 3";
    assert!(matches!(found(moved, back).await, Defect::Altered { seq: 3, .. }));
    let changed = "UPDATE ledger_entries SET body = REPLACE(body, 'vision', 'speech') WHERE chain_seq = 1";
    let back = "UPDATE ledger_entries SET body = REPLACE(body, 'speech', 'vision') WHERE chain_seq = 1";
    assert!(matches!(found(changed, back).await, Defect::Altered { seq: 1, .. }));
    let gone = "UPDATE ledger_entries SET chain_seq = -2 WHERE chain_seq = 2";
    let back = "UPDATE ledger_entries SET chain_seq = 2 WHERE chain_seq = -2";
    assert_eq!(found(gone, back).await, Defect::Gap { expected: 2, found: 3 });
    let off = "UPDATE balances SET micros = micros + 1 WHERE account = 'spend:vision'";
    let back = "UPDATE balances SET micros = micros - 1 WHERE account = 'spend:vision'";
    let defect = found(off, back).await;
    assert!(
        matches!(&defect, Defect::Balance { account, .. } if account.to_string() == "spend:vision"),
        "{defect}"
    );
}

pub(super) async fn a_period_closes_and_its_export_stays(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::busy_day(&store).await;
    let january: Period = "2026-01".parse().unwrap();
    let refused = world.federation.handle(
        Command::ClosePeriod { period: january.next() },
        world.now,
        &mut SequentialIds::new(77),
    );
    assert!(refused.unwrap_err().to_string().contains("period 2026-02 ends at 2026-03-01"));
    world.says_all_is_here();
    world.run(Command::ClosePeriod { period: january });
    world.commit(&store).await.unwrap();
    let export = store.period_export(january).await.unwrap();
    let digest = Digest::of(export.as_bytes());
    world.run(Command::FreezePeriod { period: january, digest });
    world.commit(&store).await.unwrap();
    assert_eq!(store.closed_periods().await.unwrap()[&january].digest, Some(digest));
    assert_eq!(store.load().await.unwrap(), *world.state());
    let manifests = store.site_manifests(Some(january)).await.unwrap();
    let counts: Vec<_> = manifests.iter().map(|it| (it.site.as_str(), it.count, it.gone.count)).collect();
    assert_eq!(counts, [("seoul", 3, 0), ("us-east-1", 2, 2)]);
    assert_eq!(store.site_manifests(Some(january.next())).await.unwrap(), []);
    // More is charged: a late use of January too, which is booked into February.
    let job = world.submit("late", "speech");
    let node = world.join("node-late");
    let attempt = world.place_on(job, node, 0);
    world.runs(node, attempt);
    world.ends(node, attempt);
    world.commit(&store).await.unwrap();
    assert_eq!(store.period_export(january).await.unwrap(), export);
    assert_eq!(store.site_manifests(None).await.unwrap(), manifests);
    let check = store.verify_ledger().await.unwrap();
    assert_eq!((check.defect, check.periods), (None, 1));
    let card = |code: &str| Card::Flat {
        per_gpu: BTreeMap::new(),
        lending: None,
        currency: code.parse().unwrap(),
        unused: Unused::Idle,
    };
    let set = |effective, code| Command::SetRates {
        pool: "dgx".parse().unwrap(),
        effective,
        card: Box::new(card(code)),
    };
    let ends = january.end(&Zone::utc());
    let worth = |from| Command::SetExchange {
        currency: "EUR".parse().unwrap(),
        from,
        rate: "1.0853".parse().unwrap(),
    };
    let last = Day::of(ends).plus(-1);
    for early in [set(UnixMs(ends.0 - 1), "USD"), worth(last)] {
        let refused = world.federation.handle(early, world.now, &mut SequentialIds::new(78)).unwrap_err();
        assert!(refused.to_string().contains("2026-01"), "{refused}");
    }
    world.run(worth(Day::of(ends)));
    world.run(set(ends, "EUR"));
    world.commit(&store).await.unwrap();
    assert_eq!(store.load().await.unwrap(), *world.state());
    meddle(&store, "UPDATE site_manifests SET body = REPLACE(body, '\"count\":2', '\"count\":1') ").await;
    let defect = store.verify_ledger().await.unwrap().defect.unwrap();
    assert!(
        matches!(&defect, Defect::Manifest { site, period, .. } if site.as_str() == "us-east-1" && *period == january),
        "{defect}"
    );
    meddle(&store, "UPDATE periods SET body = REPLACE(body, '\"digest\":\"', '\"digest\":\"00') ").await;
    assert!(store.closed_periods().await.is_err());
}

/// A database of the version before there was a chain, with entries in it.
pub(super) async fn entries_of_an_older_version_are_linked(database: &TestDatabase) {
    let store = database.open().await;
    let world = World::busy_day(&store).await;
    let entries = store.ledger_totals().await.unwrap().entries;
    let unlink = "UPDATE ledger_entries SET chain_seq = NULL, effective_ms = NULL, recorded_ms = NULL, booked = NULL, hash = NULL";
    meddle(&store, unlink).await;
    for table in ["spend_days", "spend_months", "spend_datasets"] {
        meddle(&store, &format!("DELETE FROM {table}")).await;
    }
    store.close().await.unwrap();
    let store = database.open().await;
    assert_eq!(store.load().await.unwrap(), *world.state());
    let check = store.verify_ledger().await.unwrap();
    assert_eq!((check.defect, check.head.seq), (None, entries));
}

/// What was used stands beside each charge, and rows of an older version have nothing there.
pub(super) async fn charges_say_what_was_used(database: &TestDatabase) {
    let store = database.open().await;
    World::busy_day(&store).await;
    let records = store.ledger_records(Head::default(), 1000).await.unwrap();
    let rows = store
        .rows(
            "SELECT c.entry_key, c.chain_seq, c.spend_micros, c.from_ms, c.to_ms, c.pool, c.resource, c.class, \
             c.rate_micros, c.list_rate_micros, COALESCE(c.cloud, ''), COALESCE(c.region, ''), \
             COALESCE(c.market, ''), c.blocks, c.datasets, c.booked, c.month \
             FROM charges c ORDER BY c.chain_seq"
                .into_sql_str(),
            vec![],
        )
        .await
        .unwrap();
    let mut charged = records.iter().filter_map(|record| match record.fact().unwrap() {
        Fact::Entry(entry) if entry.usage().is_some() => Some((record, entry)),
        Fact::Entry(_) | Fact::Statement(_) => None,
    });
    assert!(!rows.is_empty());
    for row in &rows {
        let (record, entry) = charged.next().unwrap();
        let usage = entry.usage().unwrap();
        let text = |at: usize| row.text(at).unwrap();
        let int = |at: usize| row.int(at).unwrap();
        assert_eq!((text(0), int(1)), (record.key.clone(), i64::try_from(record.seq).unwrap()));
        assert_eq!(int(2), entry.spend_micros());
        assert_eq!((int(3), int(4)), (usage.from.0, usage.to.0));
        let named = [usage.pool.as_ref().unwrap().as_str(), usage.resource.as_deref().unwrap(), "H100"];
        assert_eq!([text(5), text(6), text(7)], named);
        assert_eq!((int(8), int(9)), (usage.rate.0, usage.list_rate.0));
        let told = [text(10), text(11), text(12)];
        if entry.subject().site.as_str() == "seoul" {
            assert_eq!(told, ["", "", ""]);
        } else {
            assert_eq!(told, ["aws", "us-east-1", "on-demand"]);
        }
        assert_eq!(int(13), i64::try_from(usage.blocks).unwrap());
        assert_eq!((text(14), text(15)), (String::new(), text(16)));
    }
    assert!(charged.next().is_none(), "each entry that charges has a row");
}
