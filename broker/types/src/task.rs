//! The state machine of a task. A plain job has one task; an array has one for each index.

use serde::{Deserialize, Serialize};

use crate::{AttemptId, IllegalTransition};

/// The one word for why a task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The planner has not looked yet.
    Planning,
    /// What it needs is busy; a start is planned.
    Resources,
    /// Others come first.
    Priority,
    /// The group's budget is used up or held.
    Budget,
    /// A limit of its group, or of one above it, has no room.
    Limit,
    /// Every place that could run it is away or closed.
    Unavailable,
    /// Nothing that is known here can ever run it.
    Unsatisfiable,
    /// The price of every offer is above the job's own limit.
    MaxPrice,
    /// The broker is still waiting for its nodes after a start, or is in recovery.
    Recovery,
    /// It ran before, did not finish, and will be tried again.
    Retry,
    /// Somebody holds it.
    Held,
}

impl Reason {
    /// What would have to change for the task to start.
    #[must_use]
    pub const fn way_out(self) -> &'static str {
        match self {
            Self::Planning => "the planner looks at it within a second",
            Self::Resources => "it starts when running jobs end; a plan shows when",
            Self::Priority => "it starts after the jobs before it",
            Self::Budget => "raise the group's budget, or wait for held money to be released",
            Self::Limit => {
                "attempts of the group have to end, a new window has to begin, or the limit has to be raised; `spillway limits` shows it"
            }
            Self::Unavailable => "a matching node has to connect, or be uncordoned",
            Self::Unsatisfiable => {
                "each place below says what rules it out; `spillway nodes` and `spillway offers` show what there is"
            }
            Self::MaxPrice => "raise max_price, or wait for a cheaper place",
            Self::Recovery => "the broker places jobs when its nodes are back or their leases have run out",
            Self::Retry => "the next plan places it again",
            Self::Held => "`spillway release` lets it go on",
        }
    }
}

/// Why a task failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FailureReason {
    /// Its program ended with a code other than 0.
    ExitCode {
        /// The code.
        code: i32,
    },
    /// Its program was ended by a signal that Spillway did not send.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// It ran into its time limit.
    TimeLimit,
    /// Its node was lost and its retry policy allows no more attempts.
    Lost,
    /// It was pre-empted and its retry policy allows no more attempts.
    Preempted,
    /// The node could not start it.
    Start {
        /// What the node said.
        message: String,
    },
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum TaskState {
    /// Waits, for this reason.
    Queued {
        /// The one word.
        reason: Reason,
    },
    /// An attempt holds money for it.
    Placing {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Its instance is being launched.
    Provisioning {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Its nodes hold leases and prepare.
    Staging {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Its program runs.
    Running {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Its parts are ending.
    Finishing {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Ended with code 0. Final.
    Succeeded,
    /// Ended otherwise. Final.
    Failed {
        /// Why.
        failure: FailureReason,
    },
    /// Ended because somebody asked. Final.
    Cancelled,
}

/// What can happen to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum TaskStep {
    /// It waits for another reason now.
    Explain {
        /// The one word.
        reason: Reason,
    },
    /// An attempt was made for it.
    Place {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The attempt needs a new instance.
    Provision,
    /// The nodes have their leases.
    Stage,
    /// Every part has started.
    Run,
    /// Its parts are ending.
    Finish,
    /// It goes back to the queue.
    Requeue {
        /// The one word.
        reason: Reason,
    },
    /// It ended with code 0.
    Succeed,
    /// It ended otherwise.
    Fail {
        /// Why.
        failure: FailureReason,
    },
    /// It ended because somebody asked.
    Cancel,
}

impl TaskState {
    /// The state after `step`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where this state does not allow the step.
    pub fn after(&self, step: TaskStep) -> Result<Self, IllegalTransition> {
        use TaskStep as S;
        let refused =
            |step: &S| IllegalTransition { machine: "task", state: self.as_str(), step: step.as_str() };
        match (self, step) {
            (Self::Queued { .. }, S::Explain { reason }) => Ok(Self::Queued { reason }),
            (Self::Queued { .. }, S::Place { attempt }) => Ok(Self::Placing { attempt }),
            (Self::Queued { .. }, S::Cancel) => Ok(Self::Cancelled),
            (Self::Queued { .. }, S::Fail { failure }) => Ok(Self::Failed { failure }),
            (Self::Placing { attempt }, S::Provision) => Ok(Self::Provisioning { attempt: *attempt }),
            (Self::Placing { attempt } | Self::Provisioning { attempt }, S::Stage) => {
                Ok(Self::Staging { attempt: *attempt })
            }
            (Self::Staging { attempt }, S::Run) => Ok(Self::Running { attempt: *attempt }),
            (
                Self::Placing { attempt }
                | Self::Provisioning { attempt }
                | Self::Staging { attempt }
                | Self::Running { attempt }
                | Self::Finishing { attempt },
                S::Finish,
            ) => Ok(Self::Finishing { attempt: *attempt }),
            (
                Self::Placing { .. }
                | Self::Provisioning { .. }
                | Self::Staging { .. }
                | Self::Running { .. }
                | Self::Finishing { .. },
                S::Requeue { reason },
            ) => Ok(Self::Queued { reason }),
            (Self::Finishing { .. }, S::Succeed) => Ok(Self::Succeeded),
            (Self::Finishing { .. }, S::Fail { failure }) => Ok(Self::Failed { failure }),
            (Self::Finishing { .. }, S::Cancel) => Ok(Self::Cancelled),
            (_, step) => Err(refused(&step)),
        }
    }

    /// The attempt that is at work for it.
    #[must_use]
    pub const fn attempt(&self) -> Option<AttemptId> {
        match self {
            Self::Placing { attempt }
            | Self::Provisioning { attempt }
            | Self::Staging { attempt }
            | Self::Running { attempt }
            | Self::Finishing { attempt } => Some(*attempt),
            Self::Queued { .. } | Self::Succeeded | Self::Failed { .. } | Self::Cancelled => None,
        }
    }

    /// Whether nothing can happen to it any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed { .. } | Self::Cancelled)
    }

    /// The state as people read it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Placing { .. } => "placing",
            Self::Provisioning { .. } => "provisioning",
            Self::Staging { .. } => "staging",
            Self::Running { .. } => "running",
            Self::Finishing { .. } => "finishing",
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl TaskStep {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Explain { .. } => "explain",
            Self::Place { .. } => "place",
            Self::Provision => "provision",
            Self::Stage => "stage",
            Self::Run => "run",
            Self::Finish => "finish",
            Self::Requeue { .. } => "requeue",
            Self::Succeed => "succeed",
            Self::Fail { .. } => "fail",
            Self::Cancel => "cancel",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SequentialIds;

    #[test]
    fn a_task_walks_through_every_room() {
        use TaskStep as S;
        let attempt = AttemptId::generate(&mut SequentialIds::new(1));
        let steps = [S::Place { attempt }, S::Provision, S::Stage, S::Run, S::Finish, S::Succeed];
        let queued = TaskState::Queued { reason: Reason::Planning };
        let end = steps.into_iter().try_fold(queued.clone(), |state, step| state.after(step));
        assert_eq!(end, Ok(TaskState::Succeeded));
        assert_eq!(queued.after(S::Run).unwrap_err().to_string(), "task: run is not allowed in state queued");
        assert!(TaskState::Cancelled.after(S::Place { attempt }).is_err());
    }

    #[test]
    fn a_lost_task_goes_back_to_the_queue() {
        let attempt = AttemptId::generate(&mut SequentialIds::new(1));
        let running = TaskState::Running { attempt };
        assert_eq!(
            running.after(TaskStep::Requeue { reason: Reason::Retry }),
            Ok(TaskState::Queued { reason: Reason::Retry })
        );
    }
}
