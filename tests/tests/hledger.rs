//! The journal's export, judged by hledger: an independent program that knows nothing of this one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::hledger::HledgerWriter;
use spillway_ledger::journal::{
    ClassMonth, Fact, Journal, PoolMonth, UnusedRule, close_pool, replacement, reversal,
};
use spillway_ledger::rates::{RateTrack, tiles};
use spillway_ledger::{Entry, Hold, Payee, Slice, Subject, overhead_entry};
use spillway_tests::profile;
use spillway_types::{AttemptId, Currency, HourlyRate, InstanceId, JobId, SequentialIds, UnixMs};
use xtask::cli::Profile;
use xtask::setup::is_on_path;

/// 2026-03-28T00:00:00Z: the clocks of Berlin change the next day, and the month ends within the uses.
const START: UnixMs = UnixMs(1_774_656_000_000);

/// Whether hledger is here. Only the quick profile allows to do without it.
fn hledger_is_here() -> bool {
    let here = is_on_path("hledger");
    if !here && profile::current() == Profile::Quick {
        xtask::step::say("LEFT OUT: hledger is not installed");
        return false;
    }
    assert!(here, "hledger is not installed; `cargo xtask setup` installs it");
    true
}

fn hledger(journal: &Path, arguments: &[&str]) -> Output {
    Command::new("hledger").arg("-f").arg(journal).args(arguments).output().expect("hledger starts")
}

fn subject(group: &str, seed: u64) -> Subject {
    let mut ids = SequentialIds::new(seed);
    Subject {
        group: group.parse().expect("what this test gives is right"),
        user: "ada".parse().expect("what this test gives is right"),
        site: "berlin".parse().expect("what this test gives is right"),
        job: JobId::generate(&mut ids),
        attempt: AttemptId::generate(&mut ids),
        instance: Some(InstanceId::generate(&mut ids)),
    }
}

/// Uses over four days on-prem and in a cloud, with overruns, overhead, a closed month with a correction and what is
/// late, and a pool's close.
fn journal() -> Journal {
    let zone: Zone = "Europe/Berlin".parse().expect("what this test gives is right");
    let mut journal = Journal::new(zone.clone());
    let post = |journal: &mut Journal, entry: Entry, at: UnixMs| {
        journal.post(&Fact::Entry(entry), at, START).expect("what this test gives is right");
    };
    let mut first_charge = None;
    for seed in 1..=24 {
        let subject = subject(
            ["vision", "audio", "deep"][usize::try_from(seed % 3).expect("what this test gives is right")],
            seed,
        );
        let cloud = Payee::Cloud {
            cloud: "aws".parse().expect("what this test gives is right"),
            site: "eu-central-1".parse().expect("what this test gives is right"),
        };
        let payee = if seed % 2 == 0 {
            cloud
        } else {
            Payee::Site("berlin".parse().expect("what this test gives is right"))
        };
        let seconds = i64::try_from(seed).expect("what this test gives is right");
        let rate = HourlyRate(2_490_001 + seconds * 777_777);
        let began = UnixMs(START.0 + seconds * 11_111_111);
        let (mut hold, placed) = Hold::place(&subject, 90_000_000);
        post(&mut journal, placed, began);
        for tile in tiles(began, (0, 3_600_007 * seed), &RateTrack::constant(rate), &zone) {
            let slice = Slice {
                rank: 0,
                from_ms: tile.from_ms,
                to_ms: tile.to_ms,
                rate: tile.rate,
                gpu_blocks: 33 * seed,
            };
            for entry in hold.charge(&subject, &payee, &slice) {
                let entry = entry.effective(tile.at);
                first_charge.get_or_insert((entry.clone(), tile.at));
                post(&mut journal, entry, tile.at);
            }
        }
        if let Some(release) = hold.settle(&subject) {
            post(&mut journal, release, began);
        }
        if let Some(overhead) = overhead_entry(&subject, &payee, 1_000_003 * (12 - seconds)) {
            post(&mut journal, overhead, began);
        }
    }
    let march: Period = "2026-03".parse().expect("what this test gives is right");
    journal.close(march, march.end(&zone)).expect("what this test gives is right");
    let (original, at) = first_charge.expect("what this test gives is right");
    post(&mut journal, reversal(&original).expect("what this test gives is right"), at);
    post(&mut journal, replacement(&original, 5, 7).expect("what this test gives is right"), at);
    let class = ClassMonth {
        capacity_ms: 8 * march.length_ms(&zone),
        used_ms: 123_456_789,
        rate: HourlyRate(2_291_381),
    };
    let month = PoolMonth {
        pool: "dgx".parse().expect("what this test gives is right"),
        site: "berlin".parse().expect("what this test gives is right"),
        period: march,
        cost_micros: 10_910_640_001,
        used_micros: 78_000_003,
        classes: BTreeMap::from([("H100".parse().expect("what this test gives is right"), class)]),
    };
    let (_, statement) = close_pool(&month, &UnusedRule::Idle).expect("what this test gives is right");
    journal
        .post(
            &Fact::Statement(statement.expect("what this test gives is right")),
            march.end(&zone),
            march.end(&zone),
        )
        .expect("what this test gives is right");
    assert_eq!(journal.verify(), Ok(()));
    journal
}

fn export(journal: &Journal) -> String {
    let mut writer = HledgerWriter::new(String::new(), Currency::USD).expect("what this test gives is right");
    journal
        .records()
        .iter()
        .try_for_each(|record| writer.record(record))
        .expect("what this test gives is right");
    writer.finish().expect("what this test gives is right")
}

/// `-12.000000001 USD` as 10^-9.
fn nanos(amount: &str) -> i128 {
    let number = amount.strip_suffix(" USD").unwrap_or_else(|| panic!("`{amount}` is no amount"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction:0<9}", whole.trim_start_matches('-'));
    let nanos: i128 = digits.parse().expect("what this test gives is right");
    if negative { -nanos } else { nanos }
}

#[test]
fn hledger_finds_the_same_balances_and_no_fault() {
    if !hledger_is_here() {
        return;
    }
    let (journal, folder) = (journal(), tempfile::tempdir().expect("what this test gives is right"));
    let path = folder.path().join("spillway.journal");
    std::fs::write(&path, export(&journal)).expect("what this test gives is right");
    let checked = hledger(&path, &["check", "--strict"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let balances = hledger(&path, &["bal", "-O", "csv", "--flat", "-N", "cur:USD"]);
    assert!(balances.status.success(), "{}", String::from_utf8_lossy(&balances.stderr));
    let csv = String::from_utf8(balances.stdout).expect("what this test gives is right");
    let theirs: BTreeMap<String, i128> = csv
        .lines()
        .skip(1)
        .map(|line| {
            let (account, amount) =
                line.trim_matches('"').split_once("\",\"").expect("what this test gives is right");
            (account.to_owned(), nanos(amount))
        })
        .collect();
    let ours: BTreeMap<String, i128> = journal
        .balances()
        .iter()
        .filter(|(_, micros)| **micros != 0)
        .map(|(account, micros)| (account.to_string(), i128::from(*micros) * 1000))
        .collect();
    assert!(ours.len() >= 6, "{ours:?}");
    assert_eq!(theirs, ours);

    let time = hledger(&path, &["bal", "-O", "csv", "--flat", "-N", "cur:GPUms", "use:"]);
    let used: i64 = String::from_utf8(time.stdout)
        .expect("what this test gives is right")
        .lines()
        .skip(1)
        .map(|line| {
            line.trim_matches('"')
                .split_once("\",\"")
                .expect("what this test gives is right")
                .1
                .strip_suffix(" GPUms")
                .expect("what this test gives is right")
                .parse::<i64>()
                .expect("what this test gives is right")
        })
        .sum();
    let facts = journal.records().iter().map(|record| record.fact().expect("what this test gives is right"));
    let charged: i64 = facts
        .map(|fact| match fact {
            Fact::Entry(entry) => entry.signed_gpu_ms(),
            Fact::Statement(_) => 0,
        })
        .sum();
    assert!(used > 0);
    assert_eq!(used, charged);
}

#[test]
fn hledger_refuses_a_journal_that_is_off_by_a_billionth() {
    if !hledger_is_here() {
        return;
    }
    let folder = tempfile::tempdir().expect("what this test gives is right");
    let path = folder.path().join("tampered.journal");
    let text = export(&journal());
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("spend:"))
        .expect("what this test gives is right");
    let amount = line.split_whitespace().nth(1).expect("what this test gives is right");
    std::fs::write(&path, text.replacen(amount, &format!("{amount}001"), 1))
        .expect("what this test gives is right");
    let checked = hledger(&path, &["check"]);
    assert!(!checked.status.success());
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("unbalanced") || said.contains("balance"), "{said}");
}
