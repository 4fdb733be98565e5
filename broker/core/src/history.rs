//! How long runs took, so that the next ones like them can be estimated.
//!
//! Runs are alike where group, kind of program, accelerators asked and nodes asked are the same. The memory is
//! bounded in both directions: the newest [`MAX_RUNS`] of each kind, and the [`MAX_KINDS`] kinds that ran last.
//! It is a part of the state that follows from the events, so a replayed journal gives the same estimates.
//!
//! Left out on purpose: runs that failed, were cancelled or lost, which say little about how long a run takes;
//! and what the accelerators were that a run got, where it did not ask for a model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{DurationMs, Estimate, EstimateSource, JobSpec};

/// Newest runs that are kept of each kind: enough for a quantile, few enough that it follows what changes.
pub const MAX_RUNS: usize = 32;
/// Kinds that are kept: fifty for each of two hundred groups, in some 5 MB of memory at most.
pub const MAX_KINDS: usize = 10_000;
/// Fewer runs than this say nothing: one odd run among two would be half of what is known.
pub const MIN_RUNS: usize = 3;
/// The estimate is longer than 7 of 10 runs were. A run that ends before its estimate leaves room that others
/// fill; one that ends after it breaks the promise to whoever waits for its place, so the middle is too short.
const QUANTILE_TENTHS: usize = 7;
/// Longest part of a kind that comes from a name or a command, in characters.
const MAX_STEM: usize = 96;

/// The runs of one kind: one row of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The kind.
    pub kind: String,
    /// Grows with every run of any kind: the kind with the lowest is forgotten first.
    pub used: u64,
    /// How long the newest runs took, the newest last.
    pub recent: Vec<DurationMs>,
}

/// How long runs took, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Runs>", into = "Vec<Runs>")]
pub struct History {
    by_kind: BTreeMap<String, Runs>,
    by_use: BTreeMap<u64, String>,
}

impl From<Vec<Runs>> for History {
    fn from(rows: Vec<Runs>) -> Self {
        let by_use = rows.iter().map(|runs| (runs.used, runs.kind.clone())).collect();
        Self { by_kind: rows.into_iter().map(|runs| (runs.kind.clone(), runs)).collect(), by_use }
    }
}

impl From<History> for Vec<Runs> {
    fn from(history: History) -> Self {
        history.by_kind.into_values().collect()
    }
}

impl History {
    /// The runs of a kind.
    #[must_use]
    pub fn runs(&self, kind: &str) -> Option<&Runs> {
        self.by_kind.get(kind)
    }

    /// How many kinds are known.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.by_kind.len()
    }

    /// How long one task of such a job is thought to run: what its user expects, else what runs like it took,
    /// never above its time limit, else the time limit.
    #[must_use]
    pub fn estimate(&self, spec: &JobSpec) -> Estimate {
        if let Some(duration) = spec.expected {
            return Estimate { duration, source: EstimateSource::Expected };
        }
        let limit = Estimate { duration: spec.time_limit, source: EstimateSource::Limit };
        if self.by_kind.is_empty() {
            return limit;
        }
        let recent = self.by_kind.get(&kind(spec)).map(|runs| &runs.recent);
        let Some(recent) = recent.filter(|recent| recent.len() >= MIN_RUNS) else { return limit };
        let mut sorted = recent.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * QUANTILE_TENTHS).div_ceil(10);
        let duration = sorted.get(rank.saturating_sub(1)).copied().unwrap_or(spec.time_limit);
        let runs = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        // A run of no time would promise its place at the very moment it gets it.
        let duration = duration.max(DurationMs(1)).min(spec.time_limit);
        Estimate { duration, source: EstimateSource::History { runs } }
    }

    /// Notes a run. Gives the kind that was forgotten for it.
    pub(crate) fn record(&mut self, kind: &str, ran: DurationMs) -> Option<String> {
        let used = self.by_use.last_key_value().map_or(0, |(used, _)| *used) + 1;
        let new = || Runs { kind: kind.to_owned(), used, recent: vec![] };
        let runs = self.by_kind.entry(kind.to_owned()).or_insert_with(new);
        self.by_use.remove(&runs.used);
        self.by_use.insert(used, kind.to_owned());
        runs.used = used;
        runs.recent.push(ran);
        let excess = runs.recent.len().saturating_sub(MAX_RUNS);
        runs.recent.drain(..excess);
        if self.by_kind.len() <= MAX_KINDS {
            return None;
        }
        let (_, oldest) = self.by_use.pop_first()?;
        self.by_kind.remove(&oldest);
        Some(oldest)
    }

    /// What is wrong with it; none where every bound holds.
    pub(crate) fn defect(&self) -> Option<String> {
        let known = |(used, kind): (&u64, &String)| {
            self.by_kind.get(kind).is_some_and(|runs| {
                runs.used == *used && !runs.recent.is_empty() && runs.recent.len() <= MAX_RUNS
            })
        };
        let sound = self.by_kind.len() == self.by_use.len() && self.by_kind.len() <= MAX_KINDS;
        (!sound || !self.by_use.iter().all(known))
            .then(|| format!("the history of {} kinds of runs is out of bounds", self.by_kind.len()))
    }
}

/// What makes runs alike, as text. A space parts what cannot have one, so that no two kinds become one.
#[must_use]
pub fn kind(spec: &JobSpec) -> String {
    let gpus = spec.resources.gpus.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let stem: String = stem(spec).chars().take(MAX_STEM).collect();
    format!("{} {gpus} {} {stem}", spec.group, spec.nodes)
}

/// The job's name without the number at its end. A job that is named after its program has a name that says
/// little (`python`), so it is program and first plain argument (`python train.py`).
fn stem(spec: &JobSpec) -> String {
    let line: Vec<&str> = match spec.command.as_slice() {
        [shell, flag, line] if shell == "sh" && flag == "-c" => line.split_whitespace().collect(),
        words => words.iter().map(String::as_str).collect(),
    };
    let program = line.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    if spec.name == program {
        let plain = line.iter().skip(1).find(|word| !word.starts_with('-'));
        return plain.map_or_else(|| program.to_owned(), |plain| format!("{program} {plain}"));
    }
    let numbering = |c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | ':' | '/' | '#' | ' ');
    let stem = spec.name.trim_end_matches(numbering);
    if stem.is_empty() { spec.name.clone() } else { stem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::{Checkpoint, Placement, Resources, RetryPolicy};

    const MINUTE: u64 = 60_000;

    fn job(name: &str, command: &[&str]) -> JobSpec {
        JobSpec {
            name: name.to_owned(),
            group: "lab".parse().unwrap(),
            command: command.iter().map(ToString::to_string).collect(),
            env: BTreeMap::new(),
            image: None,
            resources: Resources {
                gpus: Some("H100:8".parse().unwrap()),
                cpus_milli: 1000,
                memory_mib: 1024,
            },
            nodes: 2,
            array: None,
            time_limit: DurationMs(60 * MINUTE),
            expected: None,
            deadline: None,
            class: None,
            inputs: vec![],
            placement: Placement::default(),
            checkpoint: Checkpoint::default(),
            retry: RetryPolicy::default(),
            lease: spillway_types::lease::DEFAULT_LEASE,
        }
    }

    fn after(minutes: &[u64]) -> History {
        let mut history = History::default();
        for ran in minutes {
            assert_eq!(history.record(&kind(&job("train-1", &["x"])), DurationMs(ran * MINUTE)), None);
        }
        history
    }

    #[test]
    fn jobs_are_alike_by_the_stem_of_their_name_or_by_what_they_run() {
        for (name, command, expected) in [
            ("train-17", &["python", "train.py"][..], "train"),
            ("train-2026-11-20", &["x"], "train"),
            ("llama3-70b", &["x"], "llama3-70b"),
            ("2024", &["x"], "2024"),
            ("python", &["/usr/bin/python", "-u", "train.py", "--seed", "7"], "python train.py"),
            ("python", &["sh", "-c", "python train.py --seed 8"], "python train.py"),
            ("true", &["true"], "true"),
            ("job", &["sh", "-c", ""], "job"),
        ] {
            assert_eq!(kind(&job(name, command)), format!("lab H100:8 2 {expected}"), "{name}");
        }
        let without = JobSpec {
            resources: Resources { gpus: None, cpus_milli: 1, memory_mib: 1 },
            nodes: 1,
            ..job("a", &["x"])
        };
        assert_eq!(kind(&without), "lab - 1 a");
        assert!(kind(&job(&"x".repeat(128), &["y"])).len() < 120);
    }

    #[test]
    fn the_estimate_is_the_seventh_of_ten_and_never_above_the_limit() {
        let spec = job("train-2", &["x"]);
        let limit = Estimate { duration: DurationMs(60 * MINUTE), source: EstimateSource::Limit };
        assert_eq!(after(&[]).estimate(&spec), limit);
        assert_eq!(after(&[5, 5]).estimate(&spec), limit, "two runs say nothing");
        for (minutes, expected) in [
            (&[9, 1, 5][..], 9),
            (&[1, 2, 3, 4], 3),
            (&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1], 7),
            (&[90, 90, 90], 60),
        ] {
            let known = after(minutes).estimate(&spec);
            let runs = u32::try_from(minutes.len()).unwrap();
            assert_eq!(known.source, EstimateSource::History { runs });
            assert_eq!(known.duration, DurationMs(expected * MINUTE), "{minutes:?}");
        }
        assert_eq!(after(&[0, 0, 0]).estimate(&spec).duration, DurationMs(1));
        let told = JobSpec { expected: Some(DurationMs(MINUTE)), ..spec.clone() };
        let expected = Estimate { duration: DurationMs(MINUTE), source: EstimateSource::Expected };
        assert_eq!(after(&[5, 5, 5]).estimate(&told), expected, "the user knows better");
        assert_eq!(after(&[5, 5, 5]).estimate(&JobSpec { nodes: 1, ..spec }), limit, "another kind");
    }

    #[test]
    fn only_the_newest_runs_are_kept() {
        let minutes: Vec<u64> = [50; MAX_RUNS].into_iter().chain([5; MAX_RUNS]).collect();
        let history = after(&minutes);
        let kept = history.runs("lab H100:8 2 train").unwrap();
        assert_eq!(kept.recent, [DurationMs(5 * MINUTE); MAX_RUNS]);
        assert_eq!(history.defect(), None);
    }

    #[test]
    fn the_kind_that_ran_longest_ago_is_forgotten_first() {
        let mut history = History::default();
        for number in 0..MAX_KINDS {
            assert_eq!(history.record(&format!("kind {number}"), DurationMs(1)), None);
        }
        assert_eq!(history.record("kind 0", DurationMs(1)), None);
        assert_eq!(history.record("new", DurationMs(1)).as_deref(), Some("kind 1"));
        assert_eq!((history.kinds(), history.defect()), (MAX_KINDS, None));
        assert!(history.runs("kind 1").is_none() && history.runs("kind 0").is_some());
        let rows: Vec<Runs> = history.clone().into();
        let mut read: History = rows.into();
        assert_eq!(read, history, "rows give it back");
        assert_eq!(read.record("newer", DurationMs(1)), history.record("newer", DurationMs(1)));
    }
}
