//! Months that the simulator ran, exported as FOCUS: held against our own checker, against the ledger's sums, and
//! against the public validator.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::sync::OnceLock;

use spillway_focus::charge::{Charge, Nature, Pricing, Utilisation};
use spillway_focus::{Decimal, FromLedger, Status, Version, check_csv, check_parquet};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::{
    ClassMonth, Fact, Journal, PoolMonth, UnusedRule, close_pool, replacement, reversal,
};
use spillway_ledger::{Amendment, Entry, EntryKind};
use spillway_tests::focus_month::{book, booked, description, export, jobs, simulate};
use spillway_tests::{Folder, profile};
use spillway_types::{Currency, HourlyRate, UnixMs};
use xtask::cli::Profile;
use xtask::commands::target_dir;
use xtask::focus_validator::{FocusValidator, LEFT_OUT, Verdict, WRONG_UPSTREAM};
use xtask::workspace_root;

/// The seed of the weeks. What they must have in them, for a test to mean something, is checked.
const SEED: u64 = 2026;
const DAY_MS: i64 = 86_400_000;

const NOVEMBER: &str = "2023-11";
const DECEMBER: &str = "2023-12";
const JANUARY: &str = "2024-01";

fn month(text: &str) -> Period {
    text.parse().expect("a month")
}

/// The weeks, with both whole months closed two days after their end; what is put right then, and what a pool cost.
fn journal() -> &'static Journal {
    static JOURNAL: OnceLock<Journal> = OnceLock::new();
    JOURNAL.get_or_init(|| {
        let zone = Zone::utc();
        let (place, jobs) = (description().expect("a place"), jobs(SEED).expect("jobs"));
        let posted = simulate(place, &jobs, SEED).expect("they run");
        let closes = [NOVEMBER, DECEMBER].map(|name| {
            let period = month(name);
            (period, UnixMs(period.end(&zone).0 + 2 * DAY_MS))
        });
        let mut journal = book(&posted, &zone, &closes).expect("it is booked");
        pool_cost(&mut journal);
        for (name, kind) in [
            (DECEMBER, EntryKind::Charge),
            (DECEMBER, EntryKind::Overhead),
            (JANUARY, EntryKind::Charge),
            (JANUARY, EntryKind::Overhead),
        ] {
            put_right(&mut journal, month(name), kind);
        }
        journal
    })
}

fn entry(journal: &Journal, period: Period, fits: impl Fn(&Entry) -> bool) -> Entry {
    let mut entries = booked(journal, period).filter_map(|record| match record.fact().expect("a fact") {
        Fact::Entry(entry) => Some(entry),
        Fact::Statement(_) => None,
    });
    entries.find(fits).expect("the weeks have one")
}

/// Takes an entry back that costs something, and posts half of it again.
fn put_right(journal: &mut Journal, period: Period, kind: EntryKind) {
    let wrong = |it: &Entry| it.kind() == kind && it.spend_micros() > 1000 && it.amends().is_none();
    let original = entry(journal, period, wrong);
    let now = journal.records().last().expect("there are records").recorded_at;
    let back = reversal(&original).expect("it was charged");
    let half = replacement(&original, original.gpu_ms() / 2, original.spend_micros() / 2).expect("as well");
    for amendment in [back, half] {
        let effective = amendment.effective_at().unwrap_or(now);
        journal.post(&Fact::Entry(amendment), effective, now).expect("new keys");
    }
}

/// What nobody used of a pool in the open month.
fn pool_cost(journal: &mut Journal) {
    let class = ClassMonth { capacity_ms: 7_200_000, used_ms: 3_600_000, rate: HourlyRate(2_333_333) };
    let cost = PoolMonth {
        pool: "dgx".parse().expect("a pool"),
        site: "seoul".parse().expect("a site"),
        period: month(JANUARY),
        cost_micros: 5_000_000,
        used_micros: 2_333_333,
        classes: BTreeMap::from([("H100".parse().expect("a model"), class)]),
    };
    let (_, statement) = close_pool(&cost, &UnusedRule::Idle).expect("it adds up");
    let now = journal.records().last().expect("there are records").recorded_at;
    journal.post(&Fact::Statement(statement.expect("something is unused")), now, now).expect("a new key");
}

fn charges(journal: &Journal, period: Period) -> Vec<Charge> {
    let mut maker = FromLedger::new(period, Zone::utc(), Currency::USD).expect("a period");
    let mut charges: Vec<Charge> =
        booked(journal, period).flat_map(|record| maker.record(record).expect("a charge")).collect();
    charges.extend(maker.finish());
    charges
}

#[test]
fn the_weeks_have_in_them_what_finance_must_see() {
    let journal = journal();
    let all: Vec<Charge> =
        [NOVEMBER, DECEMBER, JANUARY].iter().flat_map(|name| charges(journal, month(name))).collect();
    let priced = |it: &Charge| match &it.nature {
        Nature::Usage(priced) => Some(priced.clone()),
        Nature::Purchase(..) | Nature::Credit | Nature::Adjustment | Nature::Tax => None,
    };
    let groups: BTreeSet<&str> = all.iter().map(|it| it.account.group_path.as_str()).collect();
    let under = groups.iter().filter(|path| path.starts_with("/org")).count();
    assert_eq!(under, 15, "{groups:?}");
    let sites: BTreeSet<&str> =
        all.iter().filter_map(|it| it.place.as_ref()).map(|it| it.site.as_str()).collect();
    assert_eq!(sites, BTreeSet::from(["seoul", "daejeon", "us-east-1"]));
    let spot = all.iter().filter_map(priced).filter(|it| it.pricing == Pricing::Dynamic);
    let spot_prices: BTreeSet<i64> = spot.clone().map(|it| it.contracted_unit_micros).collect();
    assert!(spot_prices.len() > 1, "the price of spot changed: {spot_prices:?}");
    assert!(spot.clone().all(|it| it.list_unit_micros > it.contracted_unit_micros), "spot is below its list");
    let of_dgx = |it: &Charge| it.capacity.as_ref().is_some_and(|it| it.pool == "seoul/dgx");
    let rates: BTreeSet<String> = all
        .iter()
        .filter(|it| of_dgx(it))
        .filter_map(priced)
        .filter(|it| it.sku_id == "seoul/dgx/H100x8")
        .map(|it| it.sku_price_id)
        .collect();
    assert_eq!(rates.len(), 2, "the rate card of the pool changed once: {rates:?}");
    let corrections = all.iter().filter(|it| it.is_correction());
    assert!(corrections.clone().any(|it| it.reverses.is_none()), "late use of a closed month");
    assert!(corrections.clone().any(|it| it.reverses.is_some()), "and what was taken back of it");
    let unused = |it: &&Charge| it.capacity.as_ref().is_some_and(|it| it.utilisation == Utilisation::Unused);
    assert_eq!(all.iter().filter(unused).count(), 1);
    assert!(all.iter().any(|it| it.tags.get("datasets").is_some_and(|it| it == "imagenet,web.2026")));
}

#[test]
fn every_month_is_without_a_finding_and_adds_up_to_the_ledger() {
    let (journal, folder) = (journal(), Folder::new());
    for name in [NOVEMBER, DECEMBER, JANUARY] {
        let period = month(name);
        let posted: i64 = booked(journal, period)
            .map(|record| match record.fact().expect("a fact") {
                Fact::Entry(entry) => entry.spend_micros(),
                Fact::Statement(_) => 2_666_667,
            })
            .sum();
        for version in Version::ALL {
            let files = export(journal, period, version, folder.path()).expect("an export");
            let csv = File::open(&files.csv).expect("a file");
            let report = check_csv(csv, None, Some(&files.manifest)).expect("readable");
            assert_eq!(report.findings, [], "{name} {version}");
            assert!(report.rows > 100, "{name}: {} rows", report.rows);
            let parquet = File::open(&files.parquet).expect("a file");
            let report = check_parquet(parquet, None, Some(&files.manifest)).expect("readable");
            assert_eq!(report.findings, [], "{name} {version}");
            let billed = Decimal::from_micros(posted).to_string();
            assert_eq!(files.manifest.sums["BilledCost"], billed, "{name}");
            let status = if name == JANUARY { Status::Provisional } else { Status::Closed };
            assert_eq!(files.manifest.status, status);
        }
    }
}

#[test]
fn a_slice_costs_its_hours_at_its_price_to_a_micro_and_its_overrun_is_in_it() {
    let journal = journal();
    let period = month(DECEMBER);
    let charges = charges(journal, period);
    for charge in &charges {
        let Nature::Usage(priced) = &charge.nature else { continue };
        let exact = i128::from(priced.contracted_unit_micros) * priced.quantity.0;
        let off = exact - i128::from(charge.billed_micros) * 1_000_000_000_000;
        // Hours are rounded to 10^-12, and the cost to a micro.
        let bound = 1_000_000_000_000 + 2 * i128::from(priced.contracted_unit_micros);
        assert!(off.abs() <= bound, "{}: off by {off}", charge.id);
    }
    let overruns: BTreeSet<String> = booked(journal, period)
        .filter(|record| record.key.contains("/overrun/"))
        .map(|record| record.key.replace("/overrun/", "/usage/"))
        .collect();
    let known: BTreeSet<&str> = charges.iter().map(|charge| charge.id.as_str()).collect();
    assert!(overruns.iter().all(|slice| known.contains(slice.as_str())), "each is in its slice");
    assert!(!known.iter().any(|id| id.contains("/overrun/")));
}

#[test]
fn a_closed_month_is_the_same_bytes_when_more_was_posted() {
    let folder = Folder::new();
    let (zone, period) = (Zone::utc(), month(DECEMBER));
    let (place, jobs) = (description().expect("a place"), jobs(SEED).expect("jobs"));
    let posted = simulate(place, &jobs, SEED).expect("they run");
    let closes = [NOVEMBER, DECEMBER].map(|name| (month(name), UnixMs(month(name).end(&zone).0)));
    let after = posted.partition_point(|(at, _)| *at < closes[1].1) + 1;
    let read = |posted: &[_], name: &str| {
        let journal = book(posted, &zone, &closes).expect("it is booked");
        let mut bytes = vec![];
        for version in Version::ALL {
            let files = export(&journal, period, version, &folder.path().join(name)).expect("an export");
            assert_eq!(files.manifest.status, Status::Closed);
            bytes.extend([fs::read(&files.csv).expect("a file"), fs::read(&files.parquet).expect("a file")]);
            bytes.push(serde_json::to_vec(&files.manifest).expect("JSON"));
        }
        bytes
    };
    assert!(after < posted.len(), "more is posted than what the close has seen");
    assert_eq!(read(&posted[..after], "at-the-close"), read(&posted, "later"));
}

#[test]
fn what_is_taken_back_and_what_replaces_it_add_up() {
    let journal = journal();
    let all = charges(journal, month(JANUARY));
    let billed: BTreeMap<&str, &Charge> = all.iter().map(|charge| (charge.id.as_str(), charge)).collect();
    let december = charges(journal, month(DECEMBER));
    let mut seen = 0;
    for record in booked(journal, month(JANUARY)) {
        let Fact::Entry(entry) = record.fact().expect("a fact") else { continue };
        let Some(Amendment::Reverses { key }) = entry.amends() else { continue };
        let back = billed[record.key.as_str()];
        assert_eq!(back.reverses.as_deref(), Some(key.as_str()));
        let original = billed.get(key.as_str()).copied().or(december.iter().find(|it| it.id == *key));
        let original = original.expect("what is taken back was charged");
        let opposite = |charge: &Charge| match &charge.nature {
            Nature::Usage(priced) => (priced.sku_price_id.clone(), priced.quantity.0, charge.billed_micros),
            Nature::Purchase(..) | Nature::Credit | Nature::Adjustment | Nature::Tax => {
                (String::new(), 0, charge.billed_micros)
            }
        };
        let ((sku, quantity, micros), (same_sku, whole, charged)) = (opposite(back), opposite(original));
        assert_eq!((sku, -quantity, -micros), (same_sku, whole, charged), "{key}");
        assert_eq!(back.charge_period.end(), original.charge_period.end());
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn the_public_validator_finds_only_its_own_mistakes_in_simulated_months() {
    let target = target_dir(&workspace_root());
    let validator = if profile::current() == Profile::Quick {
        FocusValidator::installed(&target)
    } else {
        FocusValidator::install(&target).expect("the validator can be installed")
    };
    let Some(validator) = validator else {
        xtask::step::say(LEFT_OUT);
        return;
    };
    let (journal, folder) = (journal(), Folder::new());
    for name in [DECEMBER, JANUARY] {
        let files = export(journal, month(name), Version::V1_2, folder.path()).expect("an export");
        for path in [&files.csv, &files.parquet] {
            let report = validator.report(path).expect("a report");
            let verdict = Verdict::of(&report).expect("a report with totals");
            assert_eq!(verdict.failed.len(), verdict.total_failed, "{}", path.display());
            assert!(verdict.total_passed > 300, "{}: the rules were held against it", path.display());
            let known = BTreeSet::from(WRONG_UPSTREAM.map(str::to_owned));
            assert_eq!(verdict.failed, known, "{}: {report}", path.display());
        }
    }
}
