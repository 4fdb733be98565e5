//! What a user asks for, checked: a `JobSpec` that exists is right.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lease::{MAX_LEASE, MIN_LEASE};
use crate::{
    ClassName, DatasetName, Deadline, DurationMs, GroupName, HourlyRate, IndexRanges, Interconnect,
    Resources, SiteName,
};

/// Longest command, in arguments.
pub const MAX_ARGUMENTS: usize = 4096;
/// Longest command or environment, in bytes: half of what Linux gives one process by default.
pub const MAX_COMMAND_BYTES: usize = 1 << 20;
/// Most tasks of one array.
pub const MAX_TASKS: u32 = 1_000_000;
/// Most nodes of one gang.
pub const MAX_NODES: u32 = 1024;
/// Most attempts at one task.
pub const MAX_ATTEMPTS: u32 = 100;
/// Longest job name, in characters.
pub const MAX_JOB_NAME: usize = 128;
/// Most inputs of one job.
pub const MAX_INPUTS: usize = 64;

/// The indexes of an array's tasks, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayRange {
    /// Lowest index.
    pub first: u32,
    /// Highest index.
    pub last: u32,
}

/// Whether spot capacity may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spot {
    /// On-demand only.
    #[default]
    Never,
    /// Spot where it is cheaper.
    Allow,
}

/// Where a job may run, and what that may cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Only these sites; empty means all.
    pub allow: Vec<SiteName>,
    /// These first, where offers cost the same.
    pub prefer: Vec<SiteName>,
    /// Only sites in these jurisdictions; empty means all.
    pub residency: Vec<String>,
    /// Highest price per hour, for all nodes together.
    pub max_price: Option<HourlyRate>,
    /// Longest wait before it leaves for the cloud; none means the policy's budget.
    pub max_wait: Option<DurationMs>,
    /// Whether spot capacity may be used.
    pub spot: Spot,
    /// Whether the nodes of a gang have to be close to each other.
    #[serde(default, skip_serializing_if = "Interconnect::is_any")]
    pub interconnect: Interconnect,
}

/// How a job is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The signal's number: 15 (SIGTERM) by default.
    pub signal: i32,
    /// How long it has until SIGKILL.
    pub grace: DurationMs,
    /// How often it writes a checkpoint that its next try goes on from; none where a new try begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<DurationMs>,
}

/// The signal where a job names none: SIGTERM.
pub const DEFAULT_SIGNAL: i32 = 15;
/// The grace where a job names none.
pub const DEFAULT_GRACE: DurationMs = DurationMs::from_secs(10);
/// Longest grace.
pub const MAX_GRACE: DurationMs = DurationMs::from_secs(3600);

impl Default for Checkpoint {
    fn default() -> Self {
        Self { signal: DEFAULT_SIGNAL, grace: DEFAULT_GRACE, every: None }
    }
}

/// When a task is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all; at least 1.
    pub max_attempts: u32,
    /// Whether a node's loss or a pre-emption is followed by another attempt. A job that says no never
    /// starts twice.
    pub on_loss: bool,
    /// Whether an exit code other than 0 is followed by another attempt.
    pub on_failure: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 3, on_loss: true, on_failure: false }
    }
}

/// A job that is right: every limit checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What people call it.
    pub name: String,
    /// Who pays.
    pub group: GroupName,
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Variables for the program.
    pub env: BTreeMap<String, String>,
    /// A container image; none runs the program as a process.
    pub image: Option<String>,
    /// What each node gives.
    pub resources: Resources,
    /// How many nodes start together.
    pub nodes: u32,
    /// The tasks' indexes; none is one task, index 0.
    pub array: Option<ArrayRange>,
    /// Ended after this long.
    pub time_limit: DurationMs,
    /// How long the user thinks it runs.
    pub expected: Option<DurationMs>,
    /// By when it should have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// The class that the policy is asked for; one that it does not know is treated as the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassName>,
    /// What it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<DatasetName>,
    /// Where it may run.
    pub placement: Placement,
    /// How it is asked to stop.
    pub checkpoint: Checkpoint,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// How long a node may run it without word from the broker.
    pub lease: DurationMs,
}

/// Which field of a job is wrong, with its value and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} {rule}")]
pub struct JobSpecError {
    /// The field's name in a job file.
    pub field: &'static str,
    /// What was given, cut short.
    pub value: String,
    /// The rule it broke and what to write instead.
    pub rule: String,
}

impl JobSpec {
    /// Checks every limit.
    ///
    /// # Errors
    /// [`JobSpecError`] names the first field that is wrong.
    pub fn checked(self) -> Result<Self, JobSpecError> {
        let wrong =
            |field, value: String, rule: &str| Err(JobSpecError { field, value, rule: rule.to_owned() });
        let in_range = |n: u32, max: u32| (1..=max).contains(&n);
        if self.name.is_empty()
            || self.name.chars().count() > MAX_JOB_NAME
            || self.name.chars().any(char::is_control)
        {
            let shown: String = self.name.chars().take(80).collect();
            return wrong("name", format!("{shown:?}"), "must be 1 to 128 printable characters");
        }
        let bytes: usize = self.command.iter().map(String::len).sum::<usize>()
            + self.env.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if self.command.first().is_none_or(String::is_empty) {
            return wrong("run", "an empty command".into(), "cannot be run: give a program");
        }
        if self.command.len() > MAX_ARGUMENTS || bytes > MAX_COMMAND_BYTES {
            return wrong(
                "run",
                format!("{} arguments, {bytes} bytes with env", self.command.len()),
                "is over 4096 arguments or 1 MiB: put it into a file",
            );
        }
        let bad_key =
            |key: &&String| key.is_empty() || key.contains(['=', '\0']) || key.starts_with("SPILLWAY_");
        if let Some(key) = self.env.keys().find(bad_key) {
            return wrong(
                "env",
                format!("{key:?}"),
                "cannot be set: names are not empty, have no `=`, and do not begin with SPILLWAY_",
            );
        }
        if self.command.iter().chain(self.env.values()).any(|text| text.contains('\0')) {
            return wrong("run", "a NUL character".into(), "cannot be passed to a program");
        }
        if !in_range(self.nodes, MAX_NODES) {
            return wrong("nodes", self.nodes.to_string(), "must be 1 to 1024");
        }
        if let Some(array) = self.array {
            if array.first > array.last || array.last - array.first >= MAX_TASKS {
                return wrong(
                    "array",
                    format!("{}-{}", array.first, array.last),
                    "must be FIRST-LAST with at most 1,000,000 tasks",
                );
            }
            if self.nodes > 1 {
                return wrong(
                    "array",
                    format!("{}-{}", array.first, array.last),
                    "cannot be used with nodes over 1",
                );
            }
        }
        if self.inputs.len() > MAX_INPUTS {
            let count = format!("{} datasets", self.inputs.len());
            return wrong("inputs", count, "is over 64: put some together into one");
        }
        let mut variables = BTreeMap::new();
        for input in &self.inputs {
            if variables.insert(input.variable(), input).is_some_and(|other| other != input) {
                let problem = "has the variable of another input: rename one of the two datasets";
                return wrong("inputs", input.to_string(), problem);
            }
        }
        if self.checkpoint.every.is_some_and(|every| every.0 == 0) {
            return wrong("checkpoint.every", "0s".into(), "must be over 0: leave it out for none");
        }
        if !in_range(self.retry.max_attempts, MAX_ATTEMPTS) {
            return wrong("retry.max_attempts", self.retry.max_attempts.to_string(), "must be 1 to 100");
        }
        self.check_times()
    }

    fn check_times(self) -> Result<Self, JobSpecError> {
        let wrong =
            |field, value: String, rule: &str| Err(JobSpecError { field, value, rule: rule.to_owned() });
        if self.time_limit.0 == 0 {
            return wrong(
                "time_limit",
                "0s".into(),
                "is too short: give how long it may run, for example `2h`",
            );
        }
        if self.expected.is_some_and(|expected| expected.0 == 0 || expected > self.time_limit) {
            let value = self.expected.map(|e| e.to_string()).unwrap_or_default();
            return wrong("expected", value, "must be over 0 and within time_limit");
        }
        if let Some(Deadline::Within(span)) = self.deadline
            && (span.0 == 0 || self.expected.is_some_and(|expected| expected > span))
        {
            return wrong("deadline", span.to_string(), "must be over 0 and not shorter than expected");
        }
        if self.lease < MIN_LEASE || self.lease > MAX_LEASE {
            return wrong("lease", self.lease.to_string(), "must be from 2s to 10m");
        }
        if self.checkpoint.grace > MAX_GRACE {
            return wrong("checkpoint.grace", self.checkpoint.grace.to_string(), "must be at most 1h");
        }
        if !(1..=31).contains(&self.checkpoint.signal) {
            return wrong(
                "checkpoint.signal",
                self.checkpoint.signal.to_string(),
                "must be a signal from 1 to 31",
            );
        }
        if self.resources.cpus_milli == 0 {
            return wrong("resources.cpus", "0".into(), "must be over 0");
        }
        Ok(self)
    }

    /// The indexes of its tasks: 0 alone for a plain job.
    #[must_use]
    pub fn task_indexes(&self) -> IndexRanges {
        self.array.map_or_else(|| IndexRanges::span(0, 0), |array| IndexRanges::span(array.first, array.last))
    }

    /// How long a task is thought to run where nothing is known of others like it.
    #[must_use]
    pub fn estimate(&self) -> DurationMs {
        self.expected.unwrap_or(self.time_limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::DEFAULT_LEASE;

    fn spec() -> JobSpec {
        JobSpec {
            name: "train".into(),
            group: "vision".parse().unwrap(),
            command: vec!["python".into(), "train.py".into()],
            env: BTreeMap::new(),
            image: None,
            resources: Resources { gpus: None, cpus_milli: 1000, memory_mib: 1024 },
            nodes: 1,
            array: None,
            time_limit: DurationMs::from_secs(60),
            expected: None,
            deadline: None,
            class: None,
            inputs: vec![],
            placement: Placement::default(),
            checkpoint: Checkpoint::default(),
            retry: RetryPolicy::default(),
            lease: DEFAULT_LEASE,
        }
    }

    fn refused(change: impl FnOnce(&mut JobSpec)) -> &'static str {
        let mut wrong = spec();
        change(&mut wrong);
        wrong.checked().map(|_| ()).unwrap_err().field
    }

    #[test]
    fn limits_hold_at_their_edges() {
        assert!(spec().checked().is_ok());
        assert_eq!(refused(|s| s.name = String::new()), "name");
        assert_eq!(refused(|s| s.name = "x".repeat(MAX_JOB_NAME + 1)), "name");
        assert_eq!(refused(|s| s.command.clear()), "run");
        assert_eq!(refused(|s| s.command = vec!["x".into(); MAX_ARGUMENTS + 1]), "run");
        assert_eq!(refused(|s| s.command.push("a\0b".into())), "run");
        assert_eq!(refused(|s| drop(s.env.insert("SPILLWAY_JOB".into(), "x".into()))), "env");
        assert_eq!(refused(|s| s.nodes = 0), "nodes");
        assert_eq!(refused(|s| s.nodes = MAX_NODES + 1), "nodes");
        assert_eq!(refused(|s| s.array = Some(ArrayRange { first: 1, last: MAX_TASKS + 1 })), "array");
        assert_eq!(refused(|s| s.array = Some(ArrayRange { first: 2, last: 1 })), "array");
        assert_eq!(refused(|s| s.time_limit = DurationMs(0)), "time_limit");
        assert_eq!(refused(|s| s.expected = Some(DurationMs(60_001))), "expected");
        assert_eq!(refused(|s| s.deadline = Some(Deadline::Within(DurationMs(0)))), "deadline");
        let shorter = |s: &mut JobSpec| {
            s.expected = Some(DurationMs(2_000));
            s.deadline = Some(Deadline::Within(DurationMs(1_999)));
        };
        assert_eq!(refused(shorter), "deadline");
        assert_eq!(refused(|s| s.lease = DurationMs(1_999)), "lease");
        assert_eq!(refused(|s| s.retry.max_attempts = 0), "retry.max_attempts");
        assert_eq!(refused(|s| s.checkpoint.signal = 32), "checkpoint.signal");
        assert_eq!(refused(|s| s.checkpoint.every = Some(DurationMs(0))), "checkpoint.every");
        let too_many = |s: &mut JobSpec| s.inputs = vec!["imagenet".parse().unwrap(); MAX_INPUTS + 1];
        assert_eq!(refused(too_many), "inputs");
        let alike = |s: &mut JobSpec| s.inputs = ["a.b", "a-b"].map(|name| name.parse().unwrap()).into();
        assert_eq!(refused(alike), "inputs");
        assert!(
            JobSpec { inputs: vec!["imagenet".parse().unwrap(); MAX_INPUTS], ..spec() }.checked().is_ok()
        );
        let mut array = spec();
        array.array = Some(ArrayRange { first: 1, last: MAX_TASKS });
        assert_eq!(array.checked().unwrap().task_indexes().len(), u64::from(MAX_TASKS));
    }
    #[test]
    fn a_row_from_before_deadlines_and_classes_is_read() {
        let old = r#"{"name":"train","group":"vision","command":["x"],"env":{},"image":null,
            "resources":{"gpus":null,"cpus_milli":1000,"memory_mib":1024},"nodes":1,"array":null,"time_limit":60000,
            "expected":null,"placement":{"allow":[],"prefer":[],"residency":[],"max_price":null,"max_wait":null,
            "spot":"never"},"checkpoint":{"signal":15,"grace":10000},
            "retry":{"max_attempts":3,"on_loss":true,"on_failure":false},"lease":60000}"#;
        let read: JobSpec = serde_json::from_str(old).unwrap();
        assert_eq!((read.deadline, read.class.clone()), (None, None));
        assert_eq!(read.placement.interconnect, Interconnect::Any);
        let written = serde_json::to_string(&read).unwrap();
        let known = |text: &str| text.replace(['\n', ' '], "");
        assert_eq!(written, known(old), "what says nothing is written as before");
        let new = JobSpec {
            deadline: Some("6h".parse().unwrap()),
            class: Some("batch".parse().unwrap()),
            placement: Placement { interconnect: Interconnect::SameDomain, ..Placement::default() },
            ..read
        };
        let text = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<JobSpec>(&text).unwrap(), new);
    }
}
