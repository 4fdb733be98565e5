//! The state machine of an attempt: one try at running one task on given nodes.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptState {
    /// The planner named it; nothing is reserved.
    Proposed,
    /// Money is held; the nodes may still have to come.
    Held,
    /// Its nodes hold leases.
    Leased,
    /// Every part runs.
    Active,
    /// Its parts are being stopped.
    Draining,
    /// Nothing of it runs any more; its usage is being collected.
    Settling,
    /// Charged, and the rest of the hold released. Final.
    Settled,
}

/// What can happen to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptStep {
    /// Reserve the money.
    Hold,
    /// Give the nodes their leases.
    Lease,
    /// Every part has started.
    Activate,
    /// Stop its parts.
    Drain,
    /// Nothing of it can run any more: every part ended, or its leases ran out.
    End,
    /// Its usage is complete.
    Settle,
}

impl AttemptState {
    /// The state after `step`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where this state does not allow the step.
    pub const fn after(self, step: AttemptStep) -> Result<Self, IllegalTransition> {
        use AttemptStep as S;
        let next = match (self, step) {
            (Self::Proposed, S::Hold) => Self::Held,
            (Self::Held, S::Lease) => Self::Leased,
            (Self::Leased, S::Activate) => Self::Active,
            (Self::Leased | Self::Active | Self::Draining, S::Drain) => Self::Draining,
            (Self::Held | Self::Leased | Self::Active | Self::Draining, S::End) => Self::Settling,
            (Self::Settling, S::Settle) => Self::Settled,
            (from, step) => {
                return Err(IllegalTransition {
                    machine: "attempt",
                    state: from.as_str(),
                    step: step.as_str(),
                });
            }
        };
        Ok(next)
    }

    /// Whether its nodes may be running it.
    #[must_use]
    pub const fn occupies_nodes(self) -> bool {
        matches!(self, Self::Leased | Self::Active | Self::Draining)
    }

    /// The state as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Held => "held",
            Self::Leased => "leased",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Settling => "settling",
            Self::Settled => "settled",
        }
    }
}

impl AttemptStep {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Lease => "lease",
            Self::Activate => "activate",
            Self::Drain => "drain",
            Self::End => "end",
            Self::Settle => "settle",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_settles_once() {
        use AttemptStep as S;
        let steps = [S::Hold, S::Lease, S::Activate, S::Drain, S::End, S::Settle];
        let end = steps.into_iter().try_fold(AttemptState::Proposed, AttemptState::after);
        assert_eq!(end, Ok(AttemptState::Settled));
        assert!(steps.into_iter().all(|step| AttemptState::Settled.after(step).is_err()));
        assert!(AttemptState::Held.after(S::Activate).is_err());
    }
}
