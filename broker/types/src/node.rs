//! The state machine of a node.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Enrolled; its agent has not said hello yet.
    Joining,
    /// Connected and taking work.
    Ready,
    /// Connected, keeps its work, takes no more: a person said so.
    Cordoned,
    /// Its work is being ended or awaited before it leaves.
    Draining,
    /// The tunnel is down; its leases may still run.
    Disconnected,
    /// Silent past every lease: nothing of ours can still run there.
    Lost,
    /// The owner of a personal machine has taken it back for now.
    OwnerHeld,
    /// Left for good.
    Gone,
}

/// What can happen to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeStep {
    /// Its agent said hello.
    Connect,
    /// Its tunnel went down.
    Disconnect,
    /// Silent past every lease.
    Lose,
    /// Take no more work.
    Cordon,
    /// Take work again.
    Uncordon,
    /// Empty it.
    Drain,
    /// The owner wants it back.
    OwnerHold,
    /// The owner lends it again.
    OwnerRelease,
    /// It leaves for good.
    Leave,
}

impl NodeState {
    /// The state after `step`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where this state does not allow the step.
    pub const fn after(self, step: NodeStep) -> Result<Self, IllegalTransition> {
        use NodeStep as S;
        let next = match (self, step) {
            (Self::Joining | Self::Disconnected | Self::Lost | Self::Ready, S::Connect)
            | (Self::Cordoned, S::Uncordon)
            | (Self::OwnerHeld, S::OwnerRelease) => Self::Ready,
            (Self::Cordoned, S::Connect | S::Cordon) | (Self::Ready, S::Cordon) => Self::Cordoned,
            (Self::Draining, S::Connect | S::Drain)
            | (Self::Ready | Self::Cordoned | Self::OwnerHeld | Self::Disconnected, S::Drain) => {
                Self::Draining
            }
            (Self::OwnerHeld, S::Connect | S::OwnerHold) | (Self::Ready | Self::Cordoned, S::OwnerHold) => {
                Self::OwnerHeld
            }
            (Self::Ready | Self::Cordoned | Self::OwnerHeld | Self::Disconnected, S::Disconnect) => {
                Self::Disconnected
            }
            (Self::Draining, S::Disconnect) => Self::Draining,
            (Self::Disconnected | Self::Joining | Self::Lost, S::Lose) => Self::Lost,
            (
                Self::Joining
                | Self::Ready
                | Self::Cordoned
                | Self::Draining
                | Self::Disconnected
                | Self::Lost
                | Self::OwnerHeld
                | Self::Gone,
                S::Leave,
            ) => Self::Gone,
            (from, step) => {
                return Err(IllegalTransition { machine: "node", state: from.as_str(), step: step.as_str() });
            }
        };
        Ok(next)
    }

    /// Whether new work may be placed here.
    #[must_use]
    pub const fn takes_work(self) -> bool {
        matches!(self, Self::Ready)
    }

    /// The state as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Disconnected => "disconnected",
            Self::Lost => "lost",
            Self::OwnerHeld => "owner-held",
            Self::Gone => "gone",
        }
    }
}

impl NodeStep {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Lose => "lose",
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
            Self::Drain => "drain",
            Self::OwnerHold => "owner-hold",
            Self::OwnerRelease => "owner-release",
            Self::Leave => "leave",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_come_and_go() {
        let ready = NodeState::Joining.after(NodeStep::Connect).unwrap();
        assert_eq!(ready, NodeState::Ready);
        let away = ready.after(NodeStep::Disconnect).unwrap();
        assert_eq!(away.after(NodeStep::Connect), Ok(NodeState::Ready));
        assert_eq!(away.after(NodeStep::Lose), Ok(NodeState::Lost));
        assert_eq!(
            ready.after(NodeStep::Lose).unwrap_err().to_string(),
            "node: lose is not allowed in state ready"
        );
        assert!(NodeState::Gone.after(NodeStep::Connect).is_err());
    }
}
