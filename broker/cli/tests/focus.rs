//! `spillway focus check` as a whole: streams and exit codes, on files that the exporter wrote and somebody changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use spillway_focus::charge::{Account, Nature, Seller, Service};
use spillway_focus::{Charge, Exporter, Period, Scope, Status, Version, parse_instant};
use spillway_types::Currency;

fn check(dir: &Path, words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.args(["focus", "check"]).args(words.split_whitespace()).env_clear().current_dir(dir);
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn period(start: &str, end: &str) -> Period {
    Period::new(parse_instant(start).expect("a start"), parse_instant(end).expect("an end"))
        .expect("a period")
}

fn credit(number: u64) -> Charge {
    Charge {
        id: format!("chg-{number}"),
        ledger_seq: number,
        account: Account {
            billing_id: "cc-1".to_owned(),
            billing_name: "Research".to_owned(),
            billing_type: "Cost Centre".to_owned(),
            group_path: "/vision".to_owned(),
            group_name: "vision".to_owned(),
            group_type: "Group".to_owned(),
        },
        seller: Seller {
            provider: "Example".to_owned(),
            publisher: "Example".to_owned(),
            host: "Example".to_owned(),
            invoice_issuer: "Example".to_owned(),
        },
        invoice_id: "prov-2026-10".to_owned(),
        billing_period: period("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        charge_period: period("2026-10-02T00:00:00Z", "2026-10-03T00:00:00Z"),
        currency: Currency::USD,
        service: Service {
            name: "GPU computing".to_owned(),
            category: "Compute",
            subcategory: "Virtual Machines",
        },
        place: None,
        resource: None,
        nature: Nature::Credit,
        billed_micros: -1_500_000,
        effective_micros: -1_500_000,
        exchange: None,
        capacity: None,
        commitment: None,
        reverses: None,
        description: format!("Lent hours, part {number}"),
        tags: BTreeMap::new(),
        work: None,
        on_demand_equivalent_micros: None,
    }
}

/// `o.csv`, `o.parquet` and `o.json` in a folder.
fn export(dir: &Path) {
    let create = |name: &str| fs::File::create(dir.join(name)).expect("a file");
    let period = period("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z");
    let scope =
        Scope { version: Version::V1_2, period, status: Status::Provisional, currency: Currency::USD };
    let exporter = Exporter::new(scope, "o.csv", create("o.csv")).expect("begun");
    let mut exporter = exporter.with_parquet("o.parquet", create("o.parquet")).expect("begun");
    for number in 1..=3 {
        exporter.push(&credit(number)).expect("a good charge");
    }
    let manifest = exporter.finish().expect("ended");
    fs::write(dir.join("o.json"), serde_json::to_string_pretty(&manifest).expect("JSON")).expect("written");
}

#[test]
fn a_good_file_has_no_finding_and_exit_code_0() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path());
    for words in
        ["o.csv", "o.parquet", "o.csv --manifest o.json", "o.parquet --manifest o.json --version 1.2"]
    {
        let ended = check(dir.path(), words);
        assert_eq!(ended.status.code(), Some(0), "{words}: {}{}", text(&ended.stdout), text(&ended.stderr));
        assert_eq!(text(&ended.stdout), "");
        assert_eq!(text(&ended.stderr), "3 rows of FOCUS 1.2, nothing is wrong\n");
    }
}

#[test]
fn a_broken_file_has_a_table_of_findings_and_exit_code_1() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path());
    let csv = fs::read_to_string(dir.path().join("o.csv")).expect("written");
    fs::write(dir.path().join("x.csv"), csv.replacen("2026-10-03T00:00:00Z", "2026-10-03T00:00:00+02:00", 1))
        .expect("written");
    let ended = check(dir.path(), "x.csv");
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stdout).starts_with("ROW  COLUMN"), "{}", text(&ended.stdout));
    assert!(text(&ended.stdout).contains("  1  ChargePeriodEnd  not-utc"), "{}", text(&ended.stdout));
    assert_eq!(text(&ended.stderr), "1 findings in 3 rows of FOCUS 1.2\n");

    let ended = check(dir.path(), "x.csv --manifest o.json -o json");
    assert_eq!(ended.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!((&report["version"], &report["rows"]), (&"1.2".into(), &3.into()));
    assert_eq!(report["findings"][0]["column"], "ChargePeriodEnd");
    assert_eq!(report["findings"][1]["rule"], "manifest");
}

#[test]
fn what_cannot_be_checked_says_why() {
    let dir = tempfile::tempdir().expect("a folder");
    export(dir.path());
    let csv = fs::read(dir.path().join("o.csv")).expect("written");
    fs::write(dir.path().join("torn.csv"), &csv[..csv.len() - 20]).expect("written");
    let cases = [
        ("torn.csv", 1, "it was cut off"),
        ("absent.csv", 1, "cannot read the FOCUS file absent.csv"),
        ("o.csv --version 1.1", 2, "there are 1.2 and 1.3"),
        ("o.csv --manifest o.csv", 2, "is not the manifest of an export"),
        ("", 2, "<FILE>"),
    ];
    for (words, code, expected) in cases {
        let ended = check(dir.path(), words);
        assert_eq!(ended.status.code(), Some(code), "{words}");
        assert!(text(&ended.stderr).contains(expected), "{words}: {}", text(&ended.stderr));
    }
}
