//! From the text of policy files to a set of policies that fits the schema.
//!
//! Every file is held against the schema by itself, so that what is wrong can be pointed at; what the validator only
//! warns of (a policy that can never apply, letters that look like others) is refused too, as a rule that does not
//! hold what it says is worse than none.

use std::collections::BTreeMap;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;

use crate::depth::{Deepest, MAX_SIGNS, deepest, with_stack};
use crate::error::{AccessError, At, Problem};
use crate::schema;

/// Most policy files: one for each department and a few shared ones; all of them are read at every start.
pub const MAX_FILES: usize = 64;
/// Longest policy file, in bytes: hundreds of policies with their comments, and a bound on what the parser is given.
pub const MAX_FILE_BYTES: usize = 64 << 10;
/// Most policies in all: a decision asks each of them, and with so many takes some milliseconds.
pub const MAX_POLICIES: usize = 1000;
/// Longest id of a policy, in characters: it is a column of tables.
pub const MAX_ID: usize = 63;

/// Policies that were read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) set: PolicySet,
    /// Where each policy is, by its id.
    pub(crate) places: BTreeMap<String, At>,
    /// The most signs of one policy.
    pub(crate) signs: usize,
    permits: usize,
}

impl Sources {
    /// Reads all files, in order.
    pub(crate) fn read(files: &[(&str, &str)]) -> Result<Self, AccessError> {
        if files.len() > MAX_FILES {
            return Err(AccessError::TooManyFiles { files: files.len() });
        }
        let mut sources = Self::default();
        for (file, text) in files {
            sources.measure(file, text)?;
            with_stack(sources.signs, || sources.add(file, text))?;
        }
        if sources.permits == 0 {
            return Err(AccessError::NothingPermitted);
        }
        Ok(sources)
    }

    /// Bounds what the parser is given.
    fn measure(&mut self, file: &str, text: &str) -> Result<(), AccessError> {
        if text.len() > MAX_FILE_BYTES {
            return Err(AccessError::TooLarge { file: file.to_owned(), bytes: text.len() });
        }
        let Deepest { signs, start } = deepest(text);
        if signs > MAX_SIGNS {
            let blank = text.get(start..).map_or(0, |rest| rest.len() - rest.trim_start().len());
            let at = At::offset(file, text, start + blank);
            return Err(AccessError::Policy { at, problem: Problem::TooDeep { signs } });
        }
        self.signs = self.signs.max(signs);
        Ok(())
    }

    fn add(&mut self, file: &str, text: &str) -> Result<(), AccessError> {
        let parsed: PolicySet = text.parse().map_err(|errors: cedar_policy::ParseErrors| {
            AccessError::Policy { at: place(file, text, &errors), problem: Problem::Parse(sentence(&errors)) }
        })?;
        if let Some(template) = parsed.templates().next() {
            let at = At::offset(file, text, text.find(&template.to_cedar()).unwrap_or(0));
            return Err(AccessError::Policy { at, problem: Problem::Template });
        }
        let policies = self.places.len() + parsed.policies().count();
        if policies > MAX_POLICIES {
            return Err(AccessError::TooManyPolicies { file: file.to_owned(), policies });
        }
        let mut own = PolicySet::new();
        for (policy, at) in in_order(&parsed, file, text) {
            let policy = self.named(policy, at)?;
            self.permits += usize::from(policy.effect() == Effect::Permit);
            insert(&mut own, policy.clone(), file)?;
            insert(&mut self.set, policy, file)?;
        }
        if own.is_empty() {
            return Err(AccessError::NoPolicies { file: file.to_owned() });
        }
        validate(&own, file, text, &self.places)
    }

    /// Gives a policy the id that it is annotated with.
    fn named(&mut self, policy: &Policy, at: At) -> Result<Policy, AccessError> {
        let refused = |at, problem| Err(AccessError::Policy { at, problem });
        let Some(id) = policy.annotation("id") else { return refused(at, Problem::NoId) };
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.is_empty() || id.len() > MAX_ID || !id.chars().all(fine) {
            return refused(at, Problem::BadId(id.chars().take(80).collect()));
        }
        if let Some(first) = self.places.get(id) {
            return refused(at, Problem::Twice { id: id.to_owned(), first: first.clone() });
        }
        self.places.insert(id.to_owned(), at);
        Ok(policy.new_id(PolicyId::new(id)))
    }
}

fn insert(set: &mut PolicySet, policy: Policy, file: &str) -> Result<(), AccessError> {
    let id = policy.id().to_string();
    set.add(policy).map_err(|error| {
        let at = At { file: file.to_owned(), line: 1, column: 1 };
        AccessError::Policy { at, problem: Problem::Schema(format!("policy `{id}`: {error}")) }
    })
}

/// The policies as they follow each other in the file: the parser numbers them `policy0`, `policy1`, ...
fn in_order<'a>(parsed: &'a PolicySet, file: &str, text: &str) -> Vec<(&'a Policy, At)> {
    let number =
        |policy: &Policy| policy.id().to_string().trim_start_matches("policy").parse().unwrap_or(0_usize);
    let mut policies: Vec<&Policy> = parsed.policies().collect();
    policies.sort_by_key(|policy| number(policy));
    let mut from = 0;
    let mut placed = Vec::new();
    for policy in policies {
        let written = policy.to_cedar().unwrap_or_default();
        let found = text.get(from..).and_then(|rest| rest.find(&written));
        let start = from + found.unwrap_or(0);
        placed.push((policy, At::offset(file, text, start)));
        from = found.map_or(from, |_| start + written.len());
    }
    placed
}

fn validate(
    set: &PolicySet,
    file: &str,
    text: &str,
    places: &BTreeMap<String, At>,
) -> Result<(), AccessError> {
    let result = Validator::new(schema::PARSED.clone()).validate(set, ValidationMode::Strict);
    let errors =
        result.validation_errors().map(|error| (Kind::Error, error.policy_id(), error as &dyn Diagnostic));
    let warnings = result
        .validation_warnings()
        .map(|warning| (Kind::Warning, warning.policy_id(), warning as &dyn Diagnostic));
    let found = errors.chain(warnings).map(|(kind, id, found)| {
        let exact = exact(file, text, found);
        let precision = if exact.is_some() { Precision::Exact } else { Precision::Policy };
        let of_policy = || places.get(&id.to_string()).cloned();
        let at = exact.or_else(of_policy).unwrap_or_else(|| At::offset(file, text, 0));
        (kind, precision, at, sentence(found))
    });
    // The first error is said, the one that can be pointed at before what follows from it.
    match found.min() {
        None => Ok(()),
        Some((_, _, at, problem)) => Err(AccessError::Policy { at, problem: Problem::Schema(problem) }),
    }
}

/// How sure the validator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Error,
    Warning,
}

/// How well it can point at what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    Exact,
    Policy,
}

/// Where a diagnostic points.
fn exact(file: &str, text: &str, found: &dyn Diagnostic) -> Option<At> {
    let label = found.labels()?.next()?;
    Some(At::offset(file, text, label.offset()))
}

fn place(file: &str, text: &str, found: &dyn Diagnostic) -> At {
    exact(file, text, found).unwrap_or_else(|| At::offset(file, text, 0))
}

/// What is wrong, and the way out where the parser or the validator knows one.
fn sentence(found: &dyn Diagnostic) -> String {
    let label = found.labels().and_then(|mut labels| labels.next());
    let label = label.and_then(|label| label.label().map(|text| format!(", {text}")));
    let help = found.help().map(|help| format!(" ({help})"));
    format!("{found}{}{}", label.unwrap_or_default(), help.unwrap_or_default())
}
