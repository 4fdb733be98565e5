//! Dependencies point only downwards: the levels of the design, held against every `Cargo.toml`.
//!
//! Dev-dependencies are free: a test may look at the house from anywhere.

use crate::Violation;
use crate::tree::{TextFile, files};

/// Packages by level. A name that ends with `*` stands for all that start so.
const LEVELS: [(u8, &[&str]); 7] = [
    (0, &["spillway-types"]),
    (1, &["spillway-policies", "spillway-access", "spillway-ledger", "spillway-focus"]),
    (2, &["spillway-core", "spillway-api", "spillway-connector-api"]),
    (3, &["spillway-store", "spillway-connector-*", "spillway-tunnel"]),
    (4, &["spillway-server", "spillway-dashboard", "spillway-sim"]),
    (5, &["spillway", "spillway-agent"]),
    (6, &["spillway-tests", "xtask"]),
];

/// Dependencies within one level that the design names: the CLI carries the agent, the server serves the pages, the
/// export is made of the ledger's records.
const WITHIN_A_LEVEL: [(&str, &str); 4] = [
    ("spillway", "spillway-agent"),
    ("spillway-server", "spillway-dashboard"),
    ("spillway-focus", "spillway-ledger"),
    ("spillway-tests", "xtask"),
];

/// The packages without clock, randomness, environment and I/O.
pub(crate) const PURE: [&str; 6] = [
    "spillway-types",
    "spillway-ledger",
    "spillway-focus",
    "spillway-policies",
    "spillway-access",
    "spillway-core",
];

/// What a pure package has no use for.
const IMPURE_CRATES: [&str; 17] = [
    "async-trait",
    "axum",
    "futures-util",
    "getrandom",
    "hyper",
    "quinn",
    "rand",
    "reqwest",
    "rustix",
    "rustls",
    "sqlx",
    "tempfile",
    "tokio",
    "tokio-util",
    "tracing-subscriber",
    "nvml-wrapper",
    "indicatif",
];

/// The name of a package and what it depends on outside its tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) dependencies: Vec<String>,
}

/// Every package of the checkout.
pub(crate) fn manifests() -> Vec<Manifest> {
    let files = files(&["toml"]);
    let manifests = files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    manifests.filter_map(|file| read(file).expect("cargo has read it, so it is TOML")).collect()
}

/// `None` for a workspace without a package of its own.
fn read(file: &TextFile) -> Result<Option<Manifest>, toml::de::Error> {
    let table: toml::Table = toml::from_str(&file.text)?;
    let Some(name) =
        table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str)
    else {
        return Ok(None);
    };
    let mut dependencies = Vec::new();
    collect(&table, &mut dependencies);
    for target in
        table.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values)
    {
        collect(target.as_table().unwrap_or(&toml::Table::new()), &mut dependencies);
    }
    Ok(Some(Manifest { path: file.path.clone(), name: name.to_owned(), dependencies }))
}

fn collect(table: &toml::Table, dependencies: &mut Vec<String>) {
    for kind in ["dependencies", "build-dependencies"] {
        for (key, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
            let renamed = value.get("package").and_then(toml::Value::as_str);
            dependencies.push(renamed.unwrap_or(key).to_owned());
        }
    }
}

/// The most exact entry wins: `spillway-connector-api` is not one of `spillway-connector-*`.
fn level(name: &str) -> Option<u8> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let entries = LEVELS.iter().flat_map(|(level, names)| names.iter().map(move |pattern| (pattern, *level)));
    entries
        .filter(|(pattern, _)| fits(pattern))
        .max_by_key(|(pattern, _)| pattern.len())
        .map(|(_, level)| level)
}

fn check(manifest: &Manifest) -> Vec<Violation> {
    let Manifest { path, name, dependencies } = manifest;
    let Some(own) = level(name) else {
        return vec![Violation::new(
            path,
            1,
            format!("`{name}` has no level: add it to the table of this test"),
        )];
    };
    let mut violations = Vec::new();
    for dependency in dependencies {
        let internal = dependency.starts_with("spillway") || dependency == "xtask";
        match level(dependency) {
            None if internal => {
                let what = format!("`{name}` depends on `{dependency}`, which has no level");
                violations.push(Violation::new(path, 1, what));
            }
            Some(theirs) if theirs > own || (theirs == own && !within_a_level(name, dependency)) => {
                let what = format!(
                    "`{name}` (L{own}) depends on `{dependency}` (L{theirs}): dependencies point downwards"
                );
                violations.push(Violation::new(path, 1, what));
            }
            _ => {}
        }
        if PURE.contains(&name.as_str()) && IMPURE_CRATES.contains(&dependency.as_str()) {
            violations.push(Violation::new(
                path,
                1,
                format!("`{name}` is pure, so it cannot depend on `{dependency}`"),
            ));
        }
    }
    violations
}

fn within_a_level(name: &str, dependency: &str) -> bool {
    WITHIN_A_LEVEL.contains(&(name, dependency))
}

#[test]
fn dependencies_point_downwards() {
    crate::none(manifests().iter().flat_map(check).collect());
}

#[test]
fn every_pure_package_is_in_the_checkout() {
    let names: Vec<String> = manifests().into_iter().map(|manifest| manifest.name).collect();
    for name in PURE {
        assert!(
            names.iter().any(|known| known == name),
            "{name} is gone: the purity rule would check nothing"
        );
    }
}

#[test]
fn a_dependency_upwards_is_found() {
    let cases: [(&str, &[&str], &[&str]); 10] = [
        ("spillway-ledger", &["spillway-types", "serde"], &[]),
        ("spillway-types", &["spillway-core"], &["`spillway-types` (L0) depends on `spillway-core` (L2)"]),
        ("spillway-core", &["spillway-api"], &["`spillway-core` (L2) depends on `spillway-api` (L2)"]),
        ("spillway-connector-local", &["spillway-connector-api"], &[]),
        (
            "spillway-connector-api",
            &["spillway-connector-aws"],
            &["(L2) depends on `spillway-connector-aws` (L3)"],
        ),
        ("spillway", &["spillway-agent"], &[]),
        ("spillway-agent", &["spillway"], &["`spillway-agent` (L5) depends on `spillway` (L5)"]),
        ("spillway-core", &["tokio"], &["`spillway-core` is pure, so it cannot depend on `tokio`"]),
        ("spillway-novel", &[], &["`spillway-novel` has no level"]),
        ("spillway-server", &["spillway-novel"], &["depends on `spillway-novel`, which has no level"]),
    ];
    for (name, dependencies, expected) in cases {
        let dependencies = dependencies.iter().map(|name| (*name).to_owned()).collect();
        let found =
            crate::sentences(&check(&Manifest { path: "x".to_owned(), name: name.to_owned(), dependencies }));
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
    }
}

#[test]
fn every_kind_of_dependency_but_those_of_tests_is_read() {
    let text = r#"
        [package]
        name = "x"
        [dependencies]
        a.workspace = true
        renamed = { package = "b", version = "1" }
        [build-dependencies]
        c = "1"
        [dev-dependencies]
        free = "1"
        [target.'cfg(unix)'.dependencies]
        d = "1"
    "#;
    let manifest = read(&TextFile::new("Cargo.toml", text)).unwrap().unwrap();
    assert_eq!(manifest.dependencies, ["a", "b", "c", "d"]);
    assert_eq!(read(&TextFile::new("Cargo.toml", "[workspace]")).unwrap(), None);
}
