//! `spillway export focus` against a real broker: what ran is in the file, to the last micro, and the file holds.

use std::fs;
use std::path::Path;

use spillway_api::v1::JobState;
use spillway_focus::{Decimal, Manifest, Status, Version};
use spillway_ledger::Entry;
use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{Digest, Fact};
use spillway_tests::federation::{CLOUD, ON_PREM};
use spillway_tests::{Federation, Work, cli};

use crate::bad_input::{refused, spillway};

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// What the ledger has of a month.
fn entries(federation: &Federation, period: Period) -> Vec<Entry> {
    let page = federation.ask(federation.client().booked(period, 0)).expect("the broker answers");
    let facts = page.items.into_iter().map(|view| view.record(Digest::default()).fact().expect("a fact"));
    let entry = |fact| match fact {
        Fact::Entry(entry) => Some(entry),
        Fact::Statement(_) => None,
    };
    facts.filter_map(entry).collect()
}

fn manifest(folder: &Path) -> Manifest {
    let text = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    serde_json::from_str(&text).expect("it is one")
}

#[test]
fn what_ran_is_exported_as_focus_and_wrong_input_changes_nothing() {
    let mut federation = Federation::start();
    federation.join("one", 2);
    let jobs =
        [federation.submit(Work::new("here").at(ON_PREM)), federation.submit(Work::new("there").at(CLOUD))];
    for job in &jobs {
        federation.wait_job(job, JobState::Succeeded);
    }
    federation.settle();
    let records = federation.ask(federation.client().ledger(0)).expect("the broker answers").items;
    let period = records.last().expect("something was charged").booked;
    let month = period.to_string();
    let folder = federation.path().join("exports");
    let export = |name: &str, more: &[&str]| {
        let out = folder.join(name);
        let arguments = [&["focus", "--period", &month, "--out", text(&out)], more].concat();
        (spillway(&federation, "export", &arguments), out)
    };
    for (name, more, version, file) in [
        ("csv", &[][..], Version::V1_2, format!("focus-{month}.csv")),
        (
            "parquet",
            &["--version", "1.3", "--format", "parquet"],
            Version::V1_3,
            format!("focus-{month}.parquet"),
        ),
    ] {
        let (said, out) = export(name, more);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stderr.contains("provisional"), "{said:?}");
        let (path, manifest_path) = (out.join(&file), out.join("manifest.json"));
        assert_eq!(said.stdout, format!("{}\n{}\n", path.display(), manifest_path.display()));
        let manifest = manifest(&out);
        assert_eq!((manifest.status, manifest.focus_version), (Status::Provisional, version));
        let entries = entries(&federation, period);
        let posted: i64 = entries.iter().map(Entry::spend_micros).sum();
        let gpu_ms: i64 = entries.iter().map(Entry::signed_gpu_ms).sum();
        assert_eq!(manifest.sums["BilledCost"], Decimal::from_micros(posted).to_string());
        assert_eq!(manifest.sums["x_GpuMs"], gpu_ms.to_string());
        assert!(manifest.rows >= 2 && posted > 0, "{manifest:?}");
        let words = ["focus", "check", text(&path), "--manifest", text(&manifest_path)];
        let said = cli::spillway(federation.path(), "check", &words);
        assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:?}");
    }
    let before = fs::read(folder.join("csv").join("manifest.json")).expect("a manifest");
    refused(&export("csv", &[]).0, 2, &["--out", "is not empty", "name a new folder"]);
    assert_eq!(fs::read(folder.join("csv").join("manifest.json")).expect("a manifest"), before);
    refused(&export("new", &["--version", "1.1"]).0, 2, &["1.1", "--version", "1.2", "1.3"]);
    refused(&export("new", &["--format", "xml"]).0, 2, &["xml", "csv", "parquet"]);
    let new = folder.join("new");
    let other =
        |month: &str| spillway(&federation, "export", &["focus", "--period", month, "--out", text(&new)]);
    refused(&other("2999-01"), 1, &["there is no period `2999-01`", "nothing is booked into it"]);
    refused(&other("2026-13"), 2, &["2026-13", "YYYY-MM"]);
    assert!(!new.exists(), "nothing of it was begun");
    let closed = spillway(&federation, "periods", &["close", "2019-12"]);
    assert_eq!(closed.code, 0, "{closed:?}");
    let said = other("2019-12");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("0 rows of FOCUS 1.2") && said.stderr.contains("closed at"), "{said:?}");
    assert_eq!(manifest(&new).status, Status::Closed);
    federation.audit();
}
