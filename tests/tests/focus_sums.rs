//! Another database adds months of a simulated federation, exported as FOCUS, up to what our roll-up of the same
//! journal comes to: with overruns, overheads, a changed rate card, spot prices, late use and what was put right.

use std::collections::BTreeMap;

use spillway_focus::Version;
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::{Fact, Journal, replacement, reversal};
use spillway_ledger::rollup::{Charge, Dimensions, Rollup};
use spillway_ledger::{Entry, EntryKind};
use spillway_tests::focus_month::{book, description, export, jobs, simulate};
use spillway_tests::{Folder, profile};
use spillway_types::UnixMs;
use xtask::cli::Profile;
use xtask::commands::target_dir;
use xtask::duckdb::{DuckDb, LEFT_OUT};
use xtask::workspace_root;

const SEED: u64 = 2027;
const DAY_MS: i64 = 86_400_000;
/// The two that are closed first.
const MONTHS: [&str; 3] = ["2023-11", "2023-12", "2024-01"];

fn month(text: &str) -> Period {
    text.parse().expect("a month")
}

/// What was booked into both whole months, two days after their ends, and after that everything that came.
fn journal() -> Journal {
    let (place, jobs) = (description().expect("a place"), jobs(SEED).expect("jobs"));
    let posted = simulate(place, &jobs, SEED).expect("they run");
    let closes = ["2023-11", "2023-12"].map(|name| {
        let period = month(name);
        (period, UnixMs(period.end(&Zone::utc()).0 + 2 * DAY_MS))
    });
    let mut journal = book(&posted, &Zone::utc(), &closes).expect("it is booked");
    for kind in [EntryKind::Charge, EntryKind::Overhead] {
        put_right(&mut journal, kind);
    }
    journal
}

/// Takes back what was charged in a closed month, and posts half of it again.
fn put_right(journal: &mut Journal, kind: EntryKind) {
    let entry = |record: &spillway_ledger::journal::Record| match record.fact().expect("a fact") {
        Fact::Entry(entry) => Some(entry),
        Fact::Statement(_) => None,
    };
    let wrong = |it: &Entry| it.kind() == kind && it.spend_micros() > 1000 && it.amends().is_none();
    let records = journal.records();
    let now = records.last().expect("there are records").recorded_at;
    let mut december = records.iter().filter(|record| record.booked == month("2023-12")).filter_map(entry);
    let original = december.find(wrong).expect("there is one");
    let half =
        replacement(&original, original.gpu_ms() / 2, original.spend_micros() / 2).expect("it was charged");
    for amendment in [reversal(&original).expect("it was charged"), half] {
        let effective = amendment.effective_at().unwrap_or(now);
        journal.post(&Fact::Entry(amendment), effective, now).expect("new keys");
    }
}

fn rollup(journal: &Journal) -> Rollup {
    let mut rollup = Rollup::new();
    for record in journal.records() {
        if let Fact::Entry(entry) = record.fact().expect("a fact")
            && let Some(charge) = Charge::of(&entry, record.effective_at, record.booked)
        {
            rollup.add(charge);
        }
    }
    rollup
}

/// By keys: micros, micros at list price, and milliseconds of accelerators.
type Sums = BTreeMap<Vec<String>, [i128; 3]>;

fn ours(rollup: &Rollup, key: impl Fn(&Dimensions) -> Vec<String>) -> Sums {
    let sums = rollup.by(key).into_iter();
    sums.map(|(key, it)| (key, [it.spend_micros, it.list_micros, it.gpu_ms])).collect()
}

fn theirs(duckdb: &DuckDb, files: &str, keys: &[&str]) -> Sums {
    let micros = |column: &str| {
        format!("CAST(SUM(CAST(COALESCE({column}, 0) AS DECIMAL(38, 6))) * 1000000 AS HUGEINT)")
    };
    let sql = format!(
        "SELECT {}, {}, {}, CAST(SUM(COALESCE(x_GpuMs, 0)) AS HUGEINT) FROM {files} GROUP BY ALL",
        keys.join(", "),
        micros("BilledCost"),
        micros("x_OnDemandEquivalentCost")
    );
    let row = |row: Vec<String>| {
        let (keys, sums) = row.split_at(keys.len());
        let sums: Vec<i128> = sums.iter().map(|sum| sum.parse().expect("a whole number")).collect();
        (keys.to_vec(), sums.try_into().expect("three sums"))
    };
    duckdb.query(&sql).expect("an answer").into_iter().map(row).collect()
}

#[test]
fn duckdb_adds_simulated_months_up_to_our_roll_ups() {
    let target = target_dir(&workspace_root());
    let duckdb = if profile::current() == Profile::Quick {
        DuckDb::installed(&target)
    } else {
        DuckDb::install(&target).expect("DuckDB can be installed")
    };
    let Some(duckdb) = duckdb else {
        xtask::step::say(LEFT_OUT);
        return;
    };
    let (journal, folder) = (journal(), Folder::new());
    let rollup = rollup(&journal);
    let export = |name: &str| {
        let files = export(&journal, month(name), Version::V1_2, folder.path()).expect("an export");
        [files.csv, files.parquet].map(|path| format!("'{}'", path.display()))
    };
    let files: Vec<[String; 2]> = MONTHS.iter().map(|name| export(name)).collect();
    let text = |value: &dyn ToString| value.to_string();
    for (kind, reader) in ["read_csv", "read_parquet"].into_iter().enumerate() {
        let paths: Vec<&str> = files.iter().map(|both| both[kind].as_str()).collect();
        let all = format!("{reader}([{}], union_by_name = true)", paths.join(", "));
        let booked = "strftime(BillingPeriodStart, '%Y-%m')";
        let by_place = theirs(&duckdb, &all, &["SubAccountName", "x_Site", booked]);
        let expected = ours(&rollup, |it| vec![text(&it.group), text(&it.site), text(&it.booked)]);
        assert_eq!(by_place, expected, "{reader}: group x site x month");
        assert!(by_place.len() > 60, "{} rows", by_place.len());
        let class = "COALESCE(x_GpuClass, '')";
        assert_eq!(theirs(&duckdb, &all, &[class]), ours(&rollup, |it| vec![it.class.clone()]), "{reader}");
        let provider = "CASE ProviderName WHEN 'aws' THEN 'aws' ELSE 'on-prem' END";
        assert_eq!(
            theirs(&duckdb, &all, &[provider]),
            ours(&rollup, |it| vec![text(&it.provider)]),
            "{reader}"
        );
        let user = ["x_UserName", class];
        let expected = ours(&rollup, |it| vec![text(&it.user), it.class.clone()]);
        assert_eq!(theirs(&duckdb, &all, &user), expected, "{reader}: user x class");
    }
    let total = rollup.total();
    assert!(total.list_micros > total.listed_micros && total.overhead_micros > 0, "{total:?}");
}
