//! How agent and broker make sure that no usage event was lost or changed on the way: both keep a
//! [`UsageMark`] of those that one has spooled and the other has taken, and compare.
//!
//! 1. [`Hello::spool`](super::Hello::spool) says where the agent's spool and its mark stand. The broker begins a new mark
//!    where the agent has lost its own, or never had that one.
//! 2. [`Welcome::usage_after`](super::Welcome::usage_after) says behind which number the broker's mark begins; an agent
//!    with another one begins anew there.
//! 3. Each [`Renew`](super::ToBroker::Renew) says the agent's mark, and how old the use is that may not be in it.

use serde::{Deserialize, Serialize};
use spillway_ledger::journal::{UsageEvent, UsageMark};

use super::AgentEvent;

/// Where an agent's spool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpoolHead {
    /// The number that its next event gets.
    pub next: u64,
    /// Behind which number its mark begins.
    #[serde(default)]
    pub usage_after: u64,
}

/// What an agent says of its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageStatement {
    /// Its usage events, those that were not sent yet included.
    pub mark: UsageMark,
    /// All use until this many milliseconds before the sending is in them. It is an age, so that no clock of the
    /// agent's counts.
    pub age_ms: u64,
}

impl AgentEvent {
    /// What it says of use; none where it says nothing of it.
    #[must_use]
    pub const fn usage(&self) -> Option<UsageEvent> {
        match *self {
            Self::Usage { attempt, rank, from_ms, to_ms } => {
                Some(UsageEvent { attempt, rank, from_ms, to_ms, ended: false })
            }
            Self::Ended { attempt, rank, ran_ms, .. } => {
                Some(UsageEvent { attempt, rank, from_ms: 0, to_ms: ran_ms, ended: true })
            }
            Self::Prepared { .. } | Self::Started { .. } | Self::Moved { .. } | Self::Output { .. } => None,
        }
    }
}
