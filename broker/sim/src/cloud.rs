//! Machines at a simulated provider, and what it answers.

use spillway_types::{NodeId, UnixMs};

/// How the provider answers the call that launches a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It launches and says so.
    Launched,
    /// It launches, and the answer is lost.
    Lost,
    /// It neither launches nor answers.
    Silence,
    /// It has none.
    NoCapacity,
    /// It launches, and the broker stops before it has heard.
    Unheard,
}

/// A machine at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The provider's id.
    pub provider_id: String,
    /// When it began to run.
    pub launched: UnixMs,
    /// When its agent dials in.
    pub boots: UnixMs,
    /// The node that it became.
    pub node: Option<NodeId>,
}
