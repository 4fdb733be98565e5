//! What the public validator says about a month's export.

use std::collections::BTreeSet;
use std::fs;

use spillway_focus::Version;
use xtask::commands::{PROFILE_VARIABLE, target_dir};
use xtask::focus_validator::{FocusValidator, LEFT_OUT};
use xtask::workspace_root;

use crate::charges::month;
use crate::export::{SEED, write};

/// Rules of the validator that contradict the specification and each other, and the rules that are made of them:
/// `deploy/adr/0008-what-a-focus-export-is-held-against.md` shows why for each.
const WRONG_UPSTREAM: [&str; 10] = [
    "CapacityReservationStatus-C-000-C",
    "CapacityReservationStatus-C-002-C",
    "CapacityReservationStatus-C-003-C",
    "CapacityReservationStatus-C-004-C",
    "CommitmentDiscountStatus-C-000-C",
    "CommitmentDiscountStatus-C-002-C",
    "CommitmentDiscountStatus-C-004-C",
    "CostAndUsage-D-000-M",
    "CostAndUsage-D-002-M",
    "InvoiceId-C-004-C",
];

/// The rules that a report says fail, from lines such as `X-C-001-M: FAIL  (violations=1, ...)`.
fn failed(report: &str) -> BTreeSet<&str> {
    let rules = report.lines().filter_map(|line| line.split_once(": FAIL "));
    rules.filter_map(|(before, _)| before.split_whitespace().next_back()).collect()
}

/// The number of rules in the line of totals: `Total: 578 | Pass: 356 | Fail: 12 | Skipped: 210`.
fn total(report: &str, what: &str) -> usize {
    let (_, rest) = report.split_once(&format!("{what}: ")).expect("a line of totals");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn the_public_validator_finds_nothing_that_is_not_known_to_be_its_own_mistake() {
    let target = target_dir(&workspace_root());
    let quick = std::env::var(PROFILE_VARIABLE).is_ok_and(|profile| profile == "quick");
    let validator = if quick {
        FocusValidator::installed(&target)
    } else {
        FocusValidator::install(&target).expect("the validator can be installed")
    };
    let Some(validator) = validator else {
        eprintln!("{LEFT_OUT}");
        return;
    };
    let files = write(Version::V1_2, &month(SEED));
    let folder = target.join("focus-validator-files");
    fs::create_dir_all(&folder).expect("a folder");
    for (name, content) in [("october.csv", files.csv), ("october.parquet", files.parquet)] {
        let path = folder.join(name);
        fs::write(&path, content).expect("a file");
        let report = validator.report(&path).expect("a report");
        println!("{report}");
        let failed = failed(&report);
        assert_eq!(failed.len(), total(&report, "Fail"), "{name}: every failure has its line");
        assert!(total(&report, "Pass") > 300, "{name}: the rules were held against the file");
        assert_eq!(failed, BTreeSet::from(WRONG_UPSTREAM), "{name}");
    }
}
