//! The state file: the command, and every finished run under the digest of all that it depends on.
//!
//! While a wait is matched only the best run so far keeps its placements and curves; of the others two figures are
//! enough. A file of another form is refused, never guessed at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spillway_sim::match_wait::Measured;
use spillway_sim::report::Outcome;

use super::files::{Target, read};
use crate::failure::Failure;

/// The form of the file. Raised where what is in it means something else.
const FORM: u32 = 2;

/// What is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    form: u32,
    /// What follows `spillway simulate`.
    pub words: Vec<String>,
    runs: BTreeMap<String, Run>,
    /// Where it is written after each run; none keeps it in memory until somebody interrupts.
    #[serde(skip)]
    path: Option<PathBuf>,
}

/// One finished run.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Run {
    wait_hours: f64,
    cost: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Box<Outcome>>,
}

/// The digest of texts, each with its length, so that no two lists have one digest.
pub(super) fn digest(texts: &[&str]) -> String {
    let mut sha = Sha256::new();
    for text in texts {
        sha.update((text.len() as u64).to_le_bytes());
        sha.update(text.as_bytes());
    }
    hex::encode(sha.finalize())
}

impl Kept {
    /// Nothing yet, to be written to `path`.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: Some(path.to_owned()), ..Self::default() }
    }

    /// Reads a state file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = read("state file", path)?;
        let shown = path.display().to_string();
        let refused = |problem: String| Failure::usage("--state", &shown, problem);
        let kept: Self = serde_json::from_str(&text)
            .map_err(|error| refused(format!("it is not a state file of `spillway simulate`: {error}")))?;
        if kept.form != FORM {
            let problem = format!("it has form {}, and this program knows {FORM}: begin anew", kept.form);
            return Err(refused(problem));
        }
        Ok(Self { path: Some(path.to_owned()), ..kept })
    }

    /// Writes it to `path`.
    pub(super) fn write(&mut self, path: &Path) -> Result<(), Failure> {
        self.form = FORM;
        let text = serde_json::to_string(self).context("cannot write the state as JSON")?;
        Target::open("--state", path)?.write(&text)
    }

    /// The two figures of a run that was finished before.
    pub(super) fn measured(&self, key: &str) -> Option<Measured> {
        self.runs.get(key).map(|run| Measured { wait_hours: run.wait_hours, cost: run.cost })
    }

    /// All of a run that was finished before, where all of it was kept.
    pub(super) fn outcome(&self, key: &str) -> Option<&Outcome> {
        self.runs.get(key)?.outcome.as_deref()
    }

    /// Keeps a finished run, and writes the file where there is one.
    pub(super) fn keep(
        &mut self,
        key: &str,
        measured: Measured,
        outcome: Option<Outcome>,
    ) -> Result<(), Failure> {
        let Measured { wait_hours, cost } = measured;
        self.runs.insert(key.to_owned(), Run { wait_hours, cost, outcome: outcome.map(Box::new) });
        match self.path.clone() {
            Some(path) => self.write(&path),
            None => Ok(()),
        }
    }

    /// Keeps only the two figures of a run.
    pub(super) fn shrink(&mut self, key: &str) {
        if let Some(run) = self.runs.get_mut(key) {
            run.outcome = None;
        }
    }
}
