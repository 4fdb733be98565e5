//! What a user asked for: one job, one or many indexed tasks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{
    DurationMs, FailureReason, IndexRanges, JobId, JobSpec, Reason, Role, Standing, TaskState, UnixMs,
    UserName,
};

/// How often a task was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tries {
    /// Attempts made: the newest one's number.
    pub made: u32,
    /// Those that reached a node: what the retry policy counts.
    pub counted: u32,
    /// Those that gave way to other jobs: not counted as tries, and bounded by themselves.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub displaced: u32,
    /// How much of its work the checkpoints of earlier tries keep.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub done: DurationMs,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_nothing(span: &DurationMs) -> bool {
    span.0 == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Who keeps a job from being placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// Who.
    pub user: UserName,
    /// With which right: an admin's hold is released by admins only.
    pub role: Role,
    /// Since when.
    pub since: UnixMs,
}

/// A job and where its tasks stand. Tasks that wait and tasks that ended are kept as ranges of indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What was asked.
    pub spec: JobSpec,
    /// Who asked.
    pub user: UserName,
    /// When.
    pub submitted: UnixMs,
    /// Since when its queued tasks wait: its submission, or the return of the newest one to the queue.
    pub since: UnixMs,
    /// Tasks that wait.
    pub queued: IndexRanges,
    /// Why they wait, before the planner has looked.
    pub reason: Reason,
    /// Who holds it, while tasks of it wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldBy>,
    /// Before which others somebody put it, until it is over.
    #[serde(default, skip_serializing_if = "Standing::is_plain")]
    pub standing: Standing,
    /// Tasks that attempts are at work for.
    pub active: BTreeMap<u32, TaskState>,
    /// Tasks that ended with code 0.
    pub succeeded: IndexRanges,
    /// Tasks that ended otherwise.
    pub failed: IndexRanges,
    /// Tasks that were cancelled.
    pub cancelled: IndexRanges,
    /// How the first task that failed did.
    pub first_failure: Option<FailureReason>,
    /// How often each task was tried; tasks that ended are left out.
    pub tries: BTreeMap<u32, Tries>,
    /// Whether somebody asked to cancel it.
    pub cancel_requested: bool,
    /// When its first task ran.
    pub started: Option<UnixMs>,
    /// When its last task ended.
    pub ended: Option<UnixMs>,
    /// Attempts of it that are not settled yet.
    pub unsettled: u32,
    /// What it cost so far, in micros.
    pub cost_micros: i64,
    /// Accelerator time so far, in milliseconds of one whole accelerator.
    pub gpu_ms: u64,
}

impl Job {
    /// Where the task of `index` stands; none where it has no such task.
    #[must_use]
    pub fn task(&self, index: u32) -> Option<TaskState> {
        if let Some(state) = self.active.get(&index) {
            return Some(state.clone());
        }
        if self.queued.contains(index) {
            return Some(TaskState::Queued { reason: self.waits_for() });
        }
        if self.succeeded.contains(index) {
            return Some(TaskState::Succeeded);
        }
        if self.cancelled.contains(index) {
            return Some(TaskState::Cancelled);
        }
        let failure = || self.first_failure.clone().unwrap_or(FailureReason::Lost);
        self.failed.contains(index).then(|| TaskState::Failed { failure: failure() })
    }

    /// Why its queued tasks wait, before the planner has looked.
    #[must_use]
    pub const fn waits_for(&self) -> Reason {
        if self.held.is_some() { Reason::Held } else { self.reason }
    }

    /// Whether every task has ended.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.queued.is_empty() && self.active.is_empty()
    }

    /// The state of the whole, in one word: of its most advanced task while any is at work, else of the
    /// queue, else failed before cancelled before succeeded.
    #[must_use]
    pub fn rolled_up(&self) -> &'static str {
        let rank = |state: &TaskState| match state {
            TaskState::Running { .. } => 5,
            TaskState::Finishing { .. } => 4,
            TaskState::Staging { .. } => 3,
            TaskState::Provisioning { .. } => 2,
            TaskState::Placing { .. } => 1,
            TaskState::Queued { .. }
            | TaskState::Succeeded
            | TaskState::Failed { .. }
            | TaskState::Cancelled => 0,
        };
        if let Some(state) = self.active.values().max_by_key(|state| rank(state)) {
            return state.as_str();
        }
        match (self.queued.is_empty(), self.failed.is_empty(), self.cancelled.is_empty()) {
            (false, ..) => "queued",
            (true, false, _) => "failed",
            (true, true, false) => "cancelled",
            (true, true, true) => "succeeded",
        }
    }
}
