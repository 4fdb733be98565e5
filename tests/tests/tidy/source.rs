//! Rules for every Rust file: sizes, the opening sentence, and what has no place outside tests.

use crate::Violation;
use crate::layers::manifests;
use crate::scan::{Scan, test_paths};
use crate::tree::{TextFile, files};

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 80;

/// What must not be in code that ships.
const NOT_OUTSIDE_TESTS: [(&[&str], &str); 4] = [
    (&[".", "unwrap", "("], "`unwrap()` outside tests: give the error on, or `expect` why it cannot happen"),
    (&["todo", "!"], "`todo!` outside tests"),
    (&["unimplemented", "!"], "`unimplemented!` outside tests"),
    (&["dbg", "!"], "`dbg!` outside tests"),
];

/// What must not be anywhere.
const NOWHERE: [(&[&str], &str); 2] = [
    (&["#", "[", "allow", "("], "`#[allow]`: use `#[expect(lint, reason = \"...\")]`"),
    (&["#", "!", "[", "allow", "("], "`#![allow]`: use `#![expect(lint, reason = \"...\")]`"),
];

/// One scanned file of the tree.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) scan: Scan,
    /// Compiled for tests only, as a whole.
    pub(crate) is_test: bool,
}

impl SourceFile {
    /// A file that ships, from a test of a rule.
    pub(crate) fn shipping(text: &str) -> Self {
        let scan = Scan::new(text).expect("the example is Rust");
        Self { path: "x.rs".to_owned(), text: text.to_owned(), scan, is_test: false }
    }

    /// Whether a line ships.
    pub(crate) fn ships(&self, line: usize) -> bool {
        !self.is_test && !self.scan.is_test_line(line)
    }
}

/// Every Rust file of the checkout. A file that cannot be read as Rust is a violation of its own.
pub(crate) fn sources() -> (Vec<SourceFile>, Vec<Violation>) {
    let mut violations = Vec::new();
    let mut scans: Vec<(TextFile, Scan)> = Vec::new();
    for file in files(&["rs"]) {
        match Scan::new(&file.text) {
            Ok(scan) => scans.push((file, scan)),
            Err(error) => {
                violations.push(Violation::new(&file.path, 1, format!("cannot be read as Rust: {error}")))
            }
        }
    }
    let folder = |path: &str| path.strip_suffix("/Cargo.toml").unwrap_or_default().to_owned();
    let packages: Vec<String> = manifests().iter().map(|manifest| folder(&manifest.path)).collect();
    let tests = test_paths(&packages, &scans);
    let is_test =
        |path: &str| tests.iter().any(|test| path == test || (test.ends_with('/') && path.starts_with(test)));
    // `tests/` is a package itself: what lies in its `src` is code, what lies in `tests/tests` is tests.
    let sources = scans.into_iter().map(|(TextFile { path, text }, scan)| {
        let is_test = is_test(&path);
        SourceFile { path, text, scan, is_test }
    });
    (sources.collect(), violations)
}

fn check_sizes(file: &SourceFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    let lines = file.text.lines().count();
    if lines > MAX_FILE_LINES {
        let what = format!("{lines} lines; a file has at most {MAX_FILE_LINES}: split it by meaning");
        violations.push(Violation::new(&file.path, 1, what));
    }
    for function in file.scan.functions.iter().filter(|function| function.lines > MAX_FUNCTION_LINES) {
        let what = format!(
            "`{}` has {} lines; a function has at most {MAX_FUNCTION_LINES}",
            function.name, function.lines
        );
        violations.push(Violation::new(&file.path, function.line, what));
    }
    violations
}

fn check_opening(file: &SourceFile) -> Vec<Violation> {
    let sentence = file.text.strip_prefix("//!").and_then(|rest| rest.lines().next()).unwrap_or_default();
    if sentence.trim().is_empty() {
        return vec![Violation::new(
            &file.path,
            1,
            "a file opens with `//!`: what it is for, what it leaves out",
        )];
    }
    Vec::new()
}

fn check_words(file: &SourceFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (pattern, what) in NOT_OUTSIDE_TESTS {
        let lines = file.scan.lines_with(pattern).into_iter().filter(|line| file.ships(*line));
        violations.extend(lines.map(|line| Violation::new(&file.path, line, what)));
    }
    for (pattern, what) in NOWHERE {
        let lines = file.scan.lines_with(pattern).into_iter();
        violations.extend(lines.map(|line| Violation::new(&file.path, line, what)));
    }
    violations
}

#[track_caller]
fn none_in_the_tree(check: fn(&SourceFile) -> Vec<Violation>) {
    let (sources, unreadable) = sources();
    let found = sources.iter().flat_map(check);
    crate::none(unreadable.into_iter().chain(found).collect());
}

#[test]
fn files_and_functions_are_small() {
    none_in_the_tree(check_sizes);
}

#[test]
fn files_open_with_what_they_are_for() {
    none_in_the_tree(check_opening);
}

#[test]
fn nothing_unfinished_ships() {
    none_in_the_tree(check_words);
}

#[test]
fn a_file_or_function_that_is_too_long_is_found() {
    let function = |lines: usize| format!("fn long() {{\n{}}}\n", "    ();\n".repeat(lines - 2));
    let file = |lines: usize| "// x\n".repeat(lines);
    let found = |text: &str| crate::sentences(&check_sizes(&SourceFile::shipping(text)));
    assert!(found(&function(80)).is_empty() && found(&file(600)).is_empty());
    assert_eq!(found(&function(81)), ["1: `long` has 81 lines; a function has at most 80"]);
    assert_eq!(found(&file(601)), ["1: 601 lines; a file has at most 600: split it by meaning"]);
    let method = format!("impl X {{\n{}}}\n", function(81));
    assert_eq!(found(&method), ["2: `long` has 81 lines; a function has at most 80"]);
}

#[test]
fn a_file_without_an_opening_is_found() {
    for (text, wrong) in
        [("//! What it is for.\n", 0), ("//!\n", 1), ("// no\n", 1), ("", 1), ("\n//! late\n", 1)]
    {
        assert_eq!(check_opening(&SourceFile::shipping(text)).len(), wrong, "{text:?}");
    }
}

#[test]
fn what_is_unfinished_is_found_outside_tests() {
    let found = |text: &str| crate::sentences(&check_words(&SourceFile::shipping(text))).len();
    let bad = [
        "fn a() { b.unwrap(); }",
        "fn a() { todo!() }",
        "fn a() { unimplemented!() }",
        "fn a() { dbg!(1); }",
    ];
    for text in bad {
        assert_eq!(found(text), 1, "{text}");
        assert_eq!(found(&format!("#[cfg(test)]\nmod tests {{ {text} }}")), 0, "{text} in tests");
    }
    for text in
        ["#[allow(unused)]\nfn a() {}", "#![allow(unused)]", "#[cfg(test)]\nmod t { #[allow(x)] fn a() {} }"]
    {
        assert_eq!(found(text), 1, "{text}");
    }
    for text in ["fn a() { b.unwrap_or(1); }", "#[expect(unused)]\nfn a() {}", "/// `x.unwrap()`\nfn a() {}"]
    {
        assert_eq!(found(text), 0, "{text}");
    }
}

#[test]
fn the_tests_of_this_package_are_tests_and_its_harness_is_not() {
    let (sources, _) = sources();
    let is_test = |path: &str| sources.iter().find(|file| file.path == path).map(|file| file.is_test);
    assert_eq!(is_test("tests/tests/tidy/source.rs"), Some(true));
    assert_eq!(is_test("tests/src/process.rs"), Some(false));
    assert_eq!(is_test("tests/xtask/src/main.rs"), Some(false));
}
