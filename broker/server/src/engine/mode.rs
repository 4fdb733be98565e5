//! What a broker is doing: waiting after its start, working, or holding still because it is behind.

use std::collections::BTreeSet;

use spillway_core::State;
use spillway_types::{NodeId, NodeState};

/// What the broker is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// It was just started: it takes submissions, but places, launches and ends nothing until the nodes that
    /// were connected are back, or nothing of ours can run on them any more, and every cloud has been listed.
    Starting {
        /// Nodes that are not back yet.
        awaited: BTreeSet<NodeId>,
    },
    /// Its work.
    Normal,
    /// It was started from an old copy of its database: it changes nothing.
    Recovery {
        /// How it knows.
        evidence: String,
    },
}

impl Mode {
    /// Whether it places, launches and ends.
    #[must_use]
    pub const fn acts(&self) -> bool {
        matches!(self, Self::Normal)
    }

    /// What to tell people in recovery: what is the matter, and the way out.
    #[must_use]
    pub fn recovery_message(evidence: &str) -> String {
        format!(
            "this broker was started from an old copy of its database ({evidence}); it ends nothing and starts nothing. \
             Stop it and start it on the newest copy of the database"
        )
    }

    pub(super) fn saw(&mut self, node: NodeId) -> bool {
        match self {
            Self::Starting { awaited } => awaited.remove(&node) && awaited.is_empty(),
            Self::Normal | Self::Recovery { .. } => false,
        }
    }

    pub(super) fn stop_awaiting(&mut self) -> bool {
        match self {
            Self::Starting { .. } => {
                *self = Self::Normal;
                true
            }
            Self::Normal | Self::Recovery { .. } => false,
        }
    }

    pub(super) fn enter_recovery(&mut self, evidence: String) -> bool {
        match self {
            Self::Starting { .. } | Self::Normal => {
                tracing::error!(%evidence, "{}", Self::recovery_message(&evidence));
                *self = Self::Recovery { evidence };
                true
            }
            Self::Recovery { .. } => false,
        }
    }
}

/// Nodes that were connected when the state was written.
pub(super) fn awaited(state: &State) -> BTreeSet<NodeId> {
    let connected = |state| {
        matches!(state, NodeState::Ready | NodeState::Cordoned | NodeState::OwnerHeld | NodeState::Draining)
    };
    state.nodes.values().filter(|node| connected(node.state)).map(|node| node.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::SequentialIds;

    #[test]
    fn recovery_is_final() {
        let node = NodeId::generate(&mut SequentialIds::new(1));
        let mut mode = Mode::Starting { awaited: [node].into() };
        assert!(!mode.acts());
        assert!(mode.saw(node) && !mode.acts(), "the clouds come after the nodes");
        assert!(mode.stop_awaiting() && mode.acts());
        assert!(mode.enter_recovery("journal 7 was seen, this is 3".into()));
        assert!(!mode.stop_awaiting() && !mode.acts());
        assert!(!mode.enter_recovery("again".into()));
    }
}
