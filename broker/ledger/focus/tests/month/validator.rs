//! What the public validator says about a month's export.

use std::collections::BTreeSet;
use std::fs;

use spillway_focus::Version;
use xtask::commands::{PROFILE_VARIABLE, target_dir};
use xtask::focus_validator::{FocusValidator, LEFT_OUT, Verdict, WRONG_UPSTREAM};
use xtask::workspace_root;

use crate::charges::month;
use crate::export::{SEED, write};

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
        let verdict = Verdict::of(&report).expect("a report with totals");
        assert_eq!(verdict.failed.len(), verdict.total_failed, "{name}: every failure has its line");
        assert!(verdict.total_passed > 300, "{name}: the rules were held against the file");
        assert_eq!(verdict.failed, BTreeSet::from(WRONG_UPSTREAM.map(str::to_owned)), "{name}");
    }
}
