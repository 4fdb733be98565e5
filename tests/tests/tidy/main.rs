//! The rules of the house that a compiler does not check: who may depend on whom, what is pure, how big things are.
//!
//! Each rule is a function from text to violations; one test runs it over the tree, another shows it a bad example,
//! so that no rule can quietly stop finding anything. The scanner reads tokens, not types: it can be fooled on
//! purpose, and does not try to prevent that.

mod layers;
mod places;
mod purity;
mod scan;
mod source;
mod tree;

use std::fmt;

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Fails with every violation on a line of its own, in a form that editors can jump to.
#[track_caller]
pub(crate) fn none(mut violations: Vec<Violation>) {
    violations.sort();
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "{} violations:\n{}", lines.len(), lines.join("\n"));
}

/// The sentences of the violations, for the tests of the rules.
#[cfg(test)]
pub(crate) fn sentences(violations: &[Violation]) -> Vec<String> {
    violations.iter().map(|violation| format!("{}: {}", violation.line, violation.what)).collect()
}
