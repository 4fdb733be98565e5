//! The auditor that closes every end-to-end test: it compares what the provider has, what the database says, what
//! the agents noted, what the ledger was charged, and what the jobs themselves wrote down. Each disagreement is
//! one sentence; a good run gives none.
//!
//! It reads everything by its own means where it can: machines and traces as JSON, costs by multiplication. What
//! it cannot see: that a job did its work right, and money that no entry speaks of.

mod collect;
mod copies;
mod database;
mod machines;
mod money;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Deserialize;
use spillway_api::v1::JobState;
use spillway_core::State;
use spillway_store::{JournalRow, LedgerTotals};
use spillway_types::{AttemptId, InstanceId, JobId};

use crate::folder::Process;

pub use collect::collect;
pub use copies::{Copy, read_evidence};

/// Everything that the auditor looks at, after all has come to rest.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The journal from its first entry.
    pub journal: Vec<JournalRow>,
    /// The state as the database has it.
    pub stored: State,
    /// The ledger's sums as the database adds them up.
    pub totals: LedgerTotals,
    /// The provider's truth.
    pub machines: Vec<Machine>,
    /// Processes that are left, other than those of on-prem agents.
    pub processes: Vec<Process>,
    /// What every agent noted of its parts' lives.
    pub traces: Vec<Trace>,
    /// Every job that the broker has acknowledged.
    pub jobs: Vec<JobWords>,
}

/// One machine of the local cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The provider's id.
    pub provider_id: String,
    /// The intent it was launched for.
    pub intent: InstanceId,
    /// Whether the provider says that it is no more.
    pub ended: bool,
}

/// One line of an agent's trace, as far as the auditor needs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Trace {
    /// Milliseconds of CLOCK_BOOTTIME.
    pub at_ms: u64,
    /// The attempt.
    pub attempt: AttemptId,
    /// The part.
    pub rank: u32,
    /// What happened, in the words of the trace.
    pub step: String,
}

/// An acknowledged job, what was expected of it, and what its copies wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobWords {
    /// Its id.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// How it is to end.
    pub outcome: JobState,
    /// Whether it may start again.
    pub restartable: bool,
    /// How many parts its tasks have together.
    pub parts: u64,
    /// Where its copies write.
    pub evidence: PathBuf,
    /// What they wrote.
    pub copies: Vec<Copy>,
}

/// Compares everything with everything. Empty where all agree.
#[must_use]
pub fn audit(scene: &Scene) -> Vec<String> {
    let mut findings = vec![];
    let replayed = database::replay(scene, &mut findings);
    database::check(scene, &replayed, &mut findings);
    copies::check(scene, &replayed, &mut findings);
    machines::check(scene, &replayed, &mut findings);
    money::check(scene, &replayed, &mut findings);
    findings
}
