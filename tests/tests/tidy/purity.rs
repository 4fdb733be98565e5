//! The pure packages have no clock, no randomness, no environment and no I/O: `now` and ids come in as arguments.

use crate::Violation;
use crate::layers::{PURE, manifests};
use crate::source::{SourceFile, sources};

/// Words in a row that only impure code has.
const IMPURE: [(&[&str], &str); 9] = [
    (&["async"], "`async`"),
    (&[".", "await"], "`.await`"),
    (&["Instant", "::", "now"], "a clock"),
    (&["Timestamp", "::", "now"], "a clock"),
    (&["Zoned", "::", "now"], "a clock"),
    (&["SystemTime"], "a clock"),
    (&["now_v7"], "a clock and randomness"),
    (&["new_v4"], "randomness"),
    (&["thread_rng"], "randomness"),
];

/// Starts of paths that only impure code names.
const IMPURE_PATHS: [&str; 11] = [
    "tokio",
    "rand",
    "getrandom",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
];

fn check(file: &SourceFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add = |line: usize, what: &str| {
        if file.ships(line) {
            violations.push(Violation::new(
                &file.path,
                line,
                format!("{what} in a pure package: pass it in"),
            ));
        }
    };
    for (pattern, what) in IMPURE {
        for line in file.scan.lines_with(pattern) {
            add(line, what);
        }
    }
    for path in IMPURE_PATHS {
        let inside = format!("{path}::");
        for import in
            file.scan.imports.iter().filter(|import| import.text == path || import.text.starts_with(&inside))
        {
            add(import.line, &format!("`{path}`"));
        }
        let mut pattern: Vec<&str> = path.split("::").flat_map(|word| [word, "::"]).collect();
        if path.contains("::") {
            pattern.pop();
        }
        for line in file.scan.lines_with(&pattern) {
            add(line, &format!("`{path}`"));
        }
    }
    violations.sort();
    violations.dedup();
    violations
}

#[test]
fn pure_packages_are_pure() {
    let (sources, unreadable) = sources();
    let mut violations = unreadable;
    for manifest in manifests().iter().filter(|manifest| PURE.contains(&manifest.name.as_str())) {
        let folder = manifest.path.strip_suffix("Cargo.toml").unwrap_or_default();
        violations.extend(sources.iter().filter(|file| file.path.starts_with(folder)).flat_map(check));
    }
    crate::none(violations);
}

#[test]
fn impure_code_is_found_outside_tests() {
    let bad = [
        "async fn a() {}",
        "fn a() { b(c.await) }",
        "fn a() { let t = Instant::now(); }",
        "fn a() { let t = jiff::Timestamp::now(); }",
        "fn a(t: SystemTime) {}",
        "fn a() { tokio::spawn(b); }",
        "use rand::Rng;",
        "fn a() { getrandom::fill(b); }",
        "fn a() { std::env::var(b); }",
        "use std::{collections::BTreeMap, fs};",
        "use std::net::IpAddr;",
        "fn a() { println!(\"{:?}\", std::env::args()); }",
        "fn a() { Uuid::now_v7(); }",
    ];
    for text in bad {
        assert_eq!(check(&SourceFile::shipping(text)).len(), 1, "{text}");
        let in_tests = format!("#[cfg(test)]\nmod tests {{ {text} }}");
        assert_eq!(check(&SourceFile::shipping(&in_tests)), [], "{text} in tests");
    }
    let good = [
        "fn a(now: UnixMs) {}",
        "use std::time::Duration;",
        "/// Not `std::env`.\nfn a() {}",
        "fn operand() {}",
    ];
    for text in good {
        assert_eq!(check(&SourceFile::shipping(text)), [], "{text}");
    }
}
