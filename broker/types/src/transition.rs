//! The error of every state machine: a step that the state does not allow.

/// A step was asked of a state that does not allow it. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{machine}: {step} is not allowed in state {state}")]
pub struct IllegalTransition {
    /// Which machine refused: `task`, `attempt`, `node` or `instance`.
    pub machine: &'static str,
    /// The state it was in, as its name.
    pub state: &'static str,
    /// The step that was asked, as its name.
    pub step: &'static str,
}
