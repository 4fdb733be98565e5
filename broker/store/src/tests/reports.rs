//! Reports and the roll-ups that they are made of: cases that both databases must pass.

use std::collections::BTreeMap;

use spillway_ledger::calendar::{Zone, parse_instant};
use spillway_ledger::journal::Defect;
use spillway_ledger::rates::CurrencyTable;
use spillway_ledger::rollup::{Bucket, Measures, Unit, buckets, in_currency};
use spillway_types::{DataMap, Dataset, UnixMs};

use super::TestDatabase;
use super::cases::meddle;
use super::world::World;
use crate::{ReportBy, ReportQuery, ReportRow, SpendBy, Store};

const ALL: [ReportBy; 9] = [
    ReportBy::Group,
    ReportBy::User,
    ReportBy::Site,
    ReportBy::Pool,
    ReportBy::Provider,
    ReportBy::Class,
    ReportBy::Market,
    ReportBy::Booked,
    ReportBy::Job,
];

fn at(text: &str) -> UnixMs {
    parse_instant(text).unwrap()
}

/// The weeks around the busy day, as one.
fn always() -> Vec<Bucket> {
    let (from, to) = (at("2026-01-10T00:00:00Z"), at("2026-03-10T12:00:00Z"));
    vec![Bucket { name: String::new(), from, to }]
}

fn query(by: &[ReportBy], buckets: Vec<Bucket>) -> ReportQuery {
    ReportQuery { by: by.to_vec(), buckets, booked: None, groups: None, limit: 10_000 }
}

async fn report(store: &Store, query: &ReportQuery) -> Vec<ReportRow> {
    store.report(query).await.unwrap().unwrap()
}

fn total(rows: &[ReportRow]) -> Measures {
    rows.iter().map(|row| row.measures).sum()
}

pub(super) async fn every_report_reaches_the_total(database: &TestDatabase) {
    let store = database.open().await;
    assert_eq!(store.charged_time().await.unwrap(), None);
    assert_eq!(report(&store, &query(&[], vec![])).await, []);
    let world = World::busy_day(&store).await;
    let (first, end) = (at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
    assert_eq!(store.charged_time().await.unwrap(), Some((first, end)));
    let spent = world.state().book.spent(&"lab".parse().unwrap());
    let whole = total(&report(&store, &query(&[], always())).await);
    assert_eq!((whole.spend_micros, whole.gpu_ms), (i128::from(spent), 130_000));
    assert!(whole.overhead_micros > 0 && whole.slices >= 3, "{whole:?}");
    for by in ALL {
        let rows = report(&store, &query(&[by], always())).await;
        let sum = total(&rows);
        assert_eq!((sum.spend_micros, sum.gpu_ms), (whole.spend_micros, whole.gpu_ms), "{by:?}");
        assert_eq!(sum, whole, "{by:?}: charges and roll-ups say the same");
        for other in ALL {
            let rows = report(&store, &query(&[by, other], always())).await;
            assert_eq!(total(&rows), whole, "{by:?} x {other:?}");
        }
    }
    // The same by group as the charges alone say.
    let groups = report(&store, &query(&[ReportBy::Group], always())).await;
    let charged = store.spend(&[SpendBy::Group]).await.unwrap();
    assert_eq!(groups.len(), charged.len());
    for (row, charged) in groups.iter().zip(charged) {
        assert_eq!((&row.keys, row.measures.spend_micros), (&charged.keys, i128::from(charged.micros)));
    }
    let only = |groups: &[&str]| ReportQuery {
        groups: Some(groups.iter().map(|group| group.parse().unwrap()).collect()),
        ..query(&[ReportBy::Group], always())
    };
    let seen = report(&store, &only(&["speech", "nobody"])).await;
    assert_eq!(seen.iter().map(|row| row.keys[0].as_str()).collect::<Vec<_>>(), ["speech"]);
    assert_eq!(report(&store, &only(&[])).await, []);
    let booked = |month: &str| ReportQuery { booked: Some(month.parse().unwrap()), ..query(&[], always()) };
    let (january, february) =
        (report(&store, &booked("2026-01")).await, report(&store, &booked("2026-02")).await);
    let sum = total(&[january, february].concat());
    assert_eq!(sum, whole);
    assert_eq!(
        store.report(&ReportQuery { limit: 1, ..query(&[ReportBy::Job], always()) }).await.unwrap(),
        None
    );
}

/// What a report in euros is made of: stretches of one rate come to what the days come to one by one.
pub(super) async fn days_are_converted_at_their_own_rates(database: &TestDatabase) {
    let store = database.open().await;
    World::busy_day(&store).await;
    let euros = "EUR".parse().unwrap();
    let mut table = CurrencyTable::default();
    for (day, rate) in [("2026-01-01", "1.05"), ("2026-02-01", "1.1")] {
        table.set(euros, day.parse().unwrap(), rate.parse().unwrap()).unwrap();
    }
    let (from, to) = (always()[0].from, always()[0].to);
    let bucket = |(from, to)| Bucket { name: String::new(), from, to };
    let stretches = table.stretches(euros, from, to);
    assert_eq!(stretches.len(), 2);
    let stretches: Vec<Bucket> = stretches.iter().map(|it| bucket((it.from, it.to))).collect();
    let days = buckets(from, to, Unit::Day, &Zone::utc()).unwrap();
    let convert = async |by: &[ReportBy], cut: &[Bucket]| {
        let mut groups: BTreeMap<Vec<String>, BTreeMap<_, Measures>> = BTreeMap::new();
        for row in report(&store, &query(by, cut.to_vec())).await {
            let rate = table.rate(euros, cut[row.bucket].from).unwrap();
            *groups.entry(row.keys).or_default().entry(rate).or_default() += row.measures;
        }
        groups.into_iter().map(|(keys, parts)| (keys, in_currency(&parts))).collect::<BTreeMap<_, _>>()
    };
    for by in [[ReportBy::Group], [ReportBy::Job]] {
        let told = convert(&by, &stretches).await;
        assert_eq!(told, convert(&by, &days).await, "{by:?}");
        assert!(told.values().all(|it| it.spend_micros > 0), "{told:?}");
    }
    let dollars = total(&report(&store, &query(&[], always())).await);
    let told = convert(&[], &stretches).await[&vec![]];
    assert!(told.spend_micros * 105 < dollars.spend_micros * 100, "some of it at 1.10");
    assert!(told.spend_micros * 110 > dollars.spend_micros * 100, "some of it at 1.05");
    assert_eq!(told.gpu_ms, dollars.gpu_ms);
}

/// The busy day goes over the end of January in UTC; in Seoul that is nine o'clock in the morning.
pub(super) async fn a_zone_moves_charges_between_buckets_only(database: &TestDatabase) {
    let store = database.open().await;
    World::busy_day(&store).await;
    let (from, to) = (always()[0].from, always()[0].to);
    let whole = total(&report(&store, &query(&[], always())).await);
    let mut months: BTreeMap<&str, usize> = BTreeMap::new();
    for name in ["UTC", "Asia/Seoul", "America/New_York", "Europe/Berlin", "Asia/Kathmandu"] {
        let zone: Zone = name.parse().unwrap();
        for unit in [Unit::Month, Unit::Week, Unit::Day] {
            let stretches = buckets(from, to, unit, &zone).unwrap();
            let rows = report(&store, &query(&[ReportBy::Site], stretches.clone())).await;
            assert_eq!(total(&rows), whole, "{unit:?} in {name}");
            let jobs = report(&store, &query(&[ReportBy::Job], stretches.clone())).await;
            for (number, bucket) in stretches.iter().enumerate() {
                let of = |rows: &[ReportRow]| -> Measures {
                    rows.iter().filter(|row| row.bucket == number).map(|row| row.measures).sum()
                };
                assert_eq!(of(&rows), of(&jobs), "{} in {name}, by roll-ups and by charges", bucket.name);
            }
            if unit == Unit::Month {
                let mut used: Vec<usize> = rows.iter().map(|row| row.bucket).collect();
                used.dedup();
                months.insert(name, used.len());
            }
        }
    }
    assert_eq!((months["UTC"], months["Asia/Seoul"]), (2, 1), "{months:?}");
}

/// What was used is of a pool and a class, and what was bought of a cloud has a list price.
pub(super) async fn reports_say_what_was_used(database: &TestDatabase) {
    let store = database.open().await;
    let mut world = World::busy_day(&store).await;
    let rows = report(&store, &query(&[ReportBy::Pool, ReportBy::Class, ReportBy::Market], always())).await;
    let keys: Vec<String> = rows.iter().map(|row| row.keys.join(" ")).collect();
    assert_eq!(keys, ["dgx H100 ", "us-east-1 H100 on-demand"]);
    let (owned, bought) = (&rows[0].measures, &rows[1].measures);
    assert_eq!((owned.listed_micros, owned.list_micros, owned.overhead_micros), (0, 0, 0));
    assert_eq!(bought.listed_micros + bought.overhead_micros, bought.spend_micros);
    assert_eq!(bought.list_micros, bought.listed_micros, "it was bought at list price");
    // A job that reads two sets counts in both, and only its own charges do.
    world.federation.set_data(DataMap {
        datasets: ["books", "web"].map(|name| (name.parse().unwrap(), Dataset::default())).into(),
        ..DataMap::default()
    });
    let (job, node) =
        (world.submit_reading("reads", "speech", &["web", "books"]), world.join("node-reading"));
    let attempt = world.place_on(job, node, 0);
    world.runs(node, attempt);
    world.ends(node, attempt);
    world.commit(&store).await.unwrap();
    let stretches =
        buckets(always()[0].from, always()[0].to, Unit::Month, &"Asia/Seoul".parse().unwrap()).unwrap();
    for stretches in [always(), stretches] {
        let sets = report(&store, &query(&[ReportBy::Dataset, ReportBy::Group], stretches.clone())).await;
        let keys: Vec<String> = sets.iter().map(|row| row.keys.join(" ")).collect();
        assert_eq!(keys, ["books speech", "web speech"]);
        let jobs = report(&store, &query(&[ReportBy::Job], stretches)).await;
        let read = jobs.iter().find(|row| row.keys[0] == job.to_string()).unwrap();
        assert_eq!([sets[0].measures, sets[1].measures], [read.measures, read.measures]);
    }
    assert_eq!(store.verify_ledger().await.unwrap().defect, None);
    meddle(&store, "UPDATE spend_datasets SET slices = slices + 1 WHERE dataset = 'web'").await;
    let defect = store.verify_ledger().await.unwrap().defect.unwrap().to_string();
    assert!(defect.contains("data set web") && defect.contains("slices: "), "{defect}");
}

pub(super) async fn roll_ups_are_made_again_and_compared(database: &TestDatabase) {
    let store = database.open().await;
    World::busy_day(&store).await;
    let check = store.verify_ledger().await.unwrap();
    assert_eq!(check.defect, None);
    assert!(check.rollups >= 3, "{check:?}");
    for (sql, undo) in [
        (
            "UPDATE spend_days SET spend_micros = spend_micros + 7 WHERE group_name = 'speech'",
            "UPDATE spend_days SET spend_micros = spend_micros - 7 WHERE group_name = 'speech'",
        ),
        (
            "UPDATE spend_months SET gpu_ms = gpu_ms + 1 WHERE group_name = 'vision'",
            "UPDATE spend_months SET gpu_ms = gpu_ms - 1 WHERE group_name = 'vision'",
        ),
        (
            "UPDATE spend_days SET site = 'moon' WHERE group_name = 'vision'",
            "UPDATE spend_days SET site = 'seoul' WHERE group_name = 'vision'",
        ),
    ] {
        meddle(&store, sql).await;
        let defect = store.verify_ledger().await.unwrap().defect;
        let Some(Defect::Rollup { first, .. }) = &defect else { panic!("`{sql}`: {defect:?}") };
        let said = defect.as_ref().unwrap().to_string();
        assert!(said.contains(first.dimensions.group.as_str()) && said.contains("in the journal"), "{said}");
        meddle(&store, undo).await;
        assert_eq!(store.verify_ledger().await.unwrap().defect, None, "`{undo}` undoes it");
    }
}

/// A database of the version before there were roll-ups, with charges in it.
pub(super) async fn roll_ups_of_an_older_version_are_made(database: &TestDatabase) {
    let store = database.open().await;
    let world = World::busy_day(&store).await;
    let before = store.rollups().await.unwrap();
    let charged = store.spend(&[SpendBy::Job, SpendBy::Kind, SpendBy::Month]).await.unwrap();
    for table in ["spend_days", "spend_months", "spend_datasets"] {
        meddle(&store, &format!("DELETE FROM {table}")).await;
    }
    // What is there of the charges is not added to.
    meddle(&store, "DELETE FROM charges WHERE group_name = 'speech'").await;
    store.close().await.unwrap();
    let store = database.open().await;
    assert_eq!(store.rollups().await.unwrap(), before);
    assert_eq!(store.spend(&[SpendBy::Job, SpendBy::Kind, SpendBy::Month]).await.unwrap(), charged);
    assert_eq!(store.load().await.unwrap(), *world.state());
    assert_eq!(store.verify_ledger().await.unwrap().defect, None);
    // And they are kept up from there.
    let mut world = World::on(store.load().await.unwrap(), 11);
    let (job, node) = (world.submit("later", "speech"), world.join("node-later"));
    let attempt = world.place_on(job, node, 0);
    world.runs(node, attempt);
    world.ends(node, attempt);
    world.commit(&store).await.unwrap();
    assert_eq!(store.verify_ledger().await.unwrap().defect, None);
    assert_ne!(store.rollups().await.unwrap(), before);
}
