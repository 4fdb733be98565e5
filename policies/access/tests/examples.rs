//! The shipped policies parse, fit the schema, and hold what their cases say; every policy decides some case.

use std::collections::BTreeSet;

use spillway_access::AccessRules;

const POLICIES: [(&str, &str); 5] = [
    ("base.cedar", include_str!("../examples/base.cedar")),
    ("group-pools.cedar", include_str!("../examples/group-pools.cedar")),
    ("no-cloud.cedar", include_str!("../examples/no-cloud.cedar")),
    ("personal.cedar", include_str!("../examples/personal.cedar")),
    ("residency.cedar", include_str!("../examples/residency.cedar")),
];

const CASES: [(&str, &str); 4] = [
    ("group-pools.cases.toml", include_str!("../examples/group-pools.cases.toml")),
    ("no-cloud.cases.toml", include_str!("../examples/no-cloud.cases.toml")),
    ("personal.cases.toml", include_str!("../examples/personal.cases.toml")),
    ("residency.cases.toml", include_str!("../examples/residency.cases.toml")),
];

#[test]
fn every_case_holds_and_every_policy_is_held_by_a_case() {
    let rules = AccessRules::from_sources(&POLICIES).unwrap();
    let mut decided = BTreeSet::new();
    for (file, text) in CASES {
        let report = rules.check_cases(file, text).unwrap();
        let failed: Vec<_> = report.failed().collect();
        assert!(failed.is_empty(), "{file}: {failed:#?}");
        decided.extend(report.cases.into_iter().flat_map(|case| case.got.by));
    }
    assert_eq!(&decided, rules.ids());
}

#[test]
fn each_file_stands_alone_with_the_base() {
    let [base, rest @ ..] = POLICIES;
    for file in rest {
        AccessRules::from_sources(&[base, file]).unwrap();
    }
}

#[test]
fn every_shipped_file_is_held() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let there: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let held: BTreeSet<String> = POLICIES.iter().chain(&CASES).map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, held);
}
