//! What a job file says. The flags of `run` say the same, and the API takes the same as JSON.
//!
//! Reading never runs away: a file has at most [`MAX_JOB_FILE`] bytes, a bounded depth, and bounded aliases.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::Scalar;
use crate::error::cut;
use crate::parse::{fields_hint, join};
use crate::{ApiError, ErrorCode};

/// Largest job file, in bytes: the longest command that can be run, which is also 1 MiB, does not fit twice.
pub const MAX_JOB_FILE: usize = 1 << 20;
/// Deepest nesting: a job file has three levels.
const MAX_DEPTH: usize = 16;
/// Most YAML nodes: 4096 arguments, and as many variables with their names, with room to spare.
const MAX_YAML_NODES: usize = 50_000;
/// Most aliases, and most events that all of them together stand for.
const MAX_ALIASES: usize = 100;
const MAX_ALIAS_EVENTS: usize = 10_000;

/// A job as its user writes it. What is absent takes its default; [`JobFile::into_spec`] checks everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// What people call it; the program's name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who pays; the user's group where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The program: a text for `sh -c`, or a list of arguments. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// A container image; none runs the program as a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What each node gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesFile>,
    /// How many nodes start together; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Task indexes, for example `1-10000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<Scalar>,
    /// Ended after this long; `1h` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<Scalar>,
    /// How long the user thinks it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Scalar>,
    /// By when it should have ended: a length of time from its submission, for example `6h`, or an instant with its
    /// zone, for example `2026-11-21T18:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Scalar>,
    /// The class that the broker's policy has rules for; one it does not know is treated as the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What it reads: datasets by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Where it may run, and what that may cost.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "where")]
    pub placement: Option<WhereFile>,
    /// How it is asked to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointFile>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryFile>,
    /// Variables for the program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How long a node may run it without word from the broker; `60s` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Scalar>,
}

/// The program of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Run {
    /// A line for `sh -c`.
    Shell(String),
    /// A program and its arguments.
    Program(Vec<String>),
}

impl<'de> Deserialize<'de> for Run {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Run;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command line, or a list of a program and its arguments")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Run, E> {
                Ok(Run::Shell(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Run, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(Run::Program(words))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What each node gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcesFile {
    /// Accelerators: `8`, `H100:8`, `80GB+:2`, `A100:0.25`, `mig-1g.10gb:1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Scalar>,
    /// CPUs, whole or decimal; 1 where absent, 2 for each accelerator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Scalar>,
    /// Memory, for example `32GB`; `1GB` where absent, 8GB for each accelerator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Scalar>,
}

/// Where a job may run, and what that may cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhereFile {
    /// Only these sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// These first, where offers cost the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<String>,
    /// Only sites in these jurisdictions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residency: Vec<String>,
    /// Highest price per hour, for all nodes together, for example `25.00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<Scalar>,
    /// Longest wait before it leaves for the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Scalar>,
    /// `never` or `allow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<String>,
    /// `any` or `same-domain`: whether all nodes of a gang have to be of one interconnect domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interconnect: Option<String>,
}

/// How a job is asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFile {
    /// A signal's number or name; `SIGTERM` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Scalar>,
    /// How long it has until SIGKILL; `10s` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Scalar>,
    /// How often it writes a checkpoint that its next try goes on from; a new try begins anew where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Scalar>,
}

/// When a job is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryFile {
    /// Attempts in all; 3 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Whether a node's loss is followed by another attempt; true where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_loss: Option<bool>,
    /// Whether an exit code other than 0 is followed by another attempt; false where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<bool>,
}

/// What is wrong with a job file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct JobFileError {
    /// What is wrong, without the place.
    pub problem: String,
    /// The line of the file, from 1, where it is known.
    pub line: Option<u64>,
    /// The field, as a path.
    pub field: Option<String>,
    /// The value, cut short.
    pub value: Option<String>,
    /// The way out.
    pub hint: Option<String>,
    /// What kind of error it is.
    pub code: ErrorCode,
}

impl fmt::Display for JobFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl JobFileError {
    /// A file over [`MAX_JOB_FILE`]; `bytes` says its size in words or digits.
    #[must_use]
    pub fn too_large(bytes: &dyn fmt::Display) -> Self {
        let problem = format!("the job file has {bytes} bytes; the limit is {MAX_JOB_FILE} bytes (1 MiB)");
        let refused = Self { code: ErrorCode::TooLarge, ..Self::new(problem) };
        refused.hint("put data into files of their own and name them in `run`")
    }

    pub(super) fn new(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { problem, line: None, field: None, value: None, hint: None, code: ErrorCode::Invalid }
    }

    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub(super) fn value(mut self, value: &str) -> Self {
        self.value = Some(cut(value));
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<JobFileError> for ApiError {
    fn from(error: JobFileError) -> Self {
        let message = error.to_string();
        Self { code: error.code, message, field: error.field, value: error.value, hint: error.hint }
    }
}

impl JobFile {
    /// Reads a job file in YAML.
    ///
    /// # Errors
    /// [`JobFileError`] names the field and the line; a file over [`MAX_JOB_FILE`] is refused unread.
    pub fn parse_yaml(text: &str) -> Result<Self, JobFileError> {
        if text.len() > MAX_JOB_FILE {
            return Err(JobFileError::too_large(&text.len()));
        }
        let mut path = String::new();
        let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, limits(), |reader| {
            serde_path_to_error::deserialize(reader).map_err(|error| {
                path = error.path().to_string();
                error.into_inner()
            })
        });
        parsed.map_err(|error| yaml_error(&error, &path, text))
    }
}

fn limits() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_nodes: MAX_YAML_NODES,
            max_events: 4 * MAX_YAML_NODES,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_merge_keys: MAX_ALIASES,
            max_total_scalar_bytes: MAX_JOB_FILE,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIAS_EVENTS,
            max_replay_stack_depth: 4,
        },
        with_snippet: false,
    }
}

fn yaml_error(error: &serde_saphyr::Error, path: &str, text: &str) -> JobFileError {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    let place = error.location().filter(|location| location.line() > 0);
    let line = place.map(|location| location.line());
    let path = if path == "." { "" } else { path };
    let key = path.rsplit('.').next().unwrap_or(path);
    let value = place.and_then(|location| value_at(text, location.line(), location.column(), key));
    let named = |problem: String| {
        let refused = JobFileError { line, ..JobFileError::new(problem) };
        let refused = if path.is_empty() { refused } else { refused.field(path) };
        match &value {
            Some(value) => refused.value(value),
            None => refused,
        }
    };
    if let Yaml::SerdeUnknownField { field, expected, .. } = error {
        let parent = path.strip_suffix(field.as_str()).map_or(path, |parent| parent.trim_end_matches('.'));
        let refused = JobFileError { line, ..JobFileError::new(format!("unknown field `{}`", cut(field))) };
        return refused.field(join(parent, &cut(field))).hint(fields_hint(field, expected));
    }
    if let Yaml::SerdeInvalidType { expected, .. } | Yaml::SerdeInvalidValue { expected, .. } = error {
        return named(format!("expected {expected}"));
    }
    if let Yaml::InvalidScalar { ty, .. } = error {
        return named(format!("expected {}", plain_type(ty)));
    }
    if matches!(error, Yaml::Budget { .. })
        || matches!(error, Yaml::AliasReplayLimitExceeded { .. } | Yaml::AliasReplayStackDepthExceeded { .. })
        || matches!(error, Yaml::AliasExpansionLimitExceeded { .. } | Yaml::AliasReplayCounterOverflow { .. })
    {
        let refused = JobFileError::new("the file is nested too deeply, or its aliases grow too large");
        let refused = JobFileError { line, code: ErrorCode::TooLarge, ..refused };
        return refused.hint(format!("a job file has at most {MAX_DEPTH} levels and {MAX_ALIASES} aliases"));
    }
    let told = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    named(cut(told.lines().next().unwrap_or("it is not YAML")))
}

fn plain_type(ty: &str) -> &str {
    match ty {
        "u8" | "u16" | "u32" | "u64" | "i32" | "i64" => "a whole number",
        "bool" => "`true` or `false`",
        other => other,
    }
}

/// What stands in the file at a place, to the end of its line, without the key before it.
fn value_at(text: &str, line: u64, column: u64, key: &str) -> Option<String> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let rest: String = line.chars().skip(usize::try_from(column).ok()?.saturating_sub(1)).collect();
    let value = rest.split(" #").next().unwrap_or(&rest).trim();
    let after_key = value.strip_prefix(key).and_then(|after| after.trim_start().strip_prefix(':'));
    let value = after_key.unwrap_or(value).trim();
    if value.is_empty() { None } else { Some(value.to_owned()) }
}

#[cfg(test)]
#[path = "job_file_tests.rs"]
mod tests;
