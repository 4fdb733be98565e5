//! Why a limit does not allow an attempt, in figures, and whether waiting can help.

use std::fmt;

use serde::{Deserialize, Serialize};
use spillway_types::{DurationMs, UnixMs};

use super::{LimitId, Metric};
use crate::refusal::Amount;

/// Whether an attempt that was refused could ever start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitRefusalKind {
    /// It would fit, but not beside what others hold or run now. It waits.
    UnsafeWithRunning,
    /// What was used, or what its own group runs, leaves too little. It waits: for the next window, or for its group.
    UsedUp,
    /// It is more than the limit ever allows. It is rejected.
    NeverFits,
}

/// Why an attempt was refused: the limit that binds, and its figures in the limit's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct LimitRefusal {
    /// The limit that is in the way, of the group that asks or of one above it.
    pub binding: Box<LimitId>,
    /// How much it is now, with what was transferred or what may be borrowed.
    pub limit: i64,
    /// What was used in its window; of accelerators at once, what its group and those below it use.
    pub used: i64,
    /// What is held beside.
    pub held: i64,
    /// What was asked.
    pub wanted: i64,
    /// By how much it is too much.
    pub shortfall: i64,
    /// Whether it could ever fit.
    pub kind: LimitRefusalKind,
    /// When the window ends, where waiting for that can help.
    pub renews: Option<UnixMs>,
}

/// An amount in the unit of its metric, as people read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct InUnit<'a>(pub(super) &'a Metric, pub(super) i64);

impl fmt::Display for InUnit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.1 < 0 { "-" } else { "" };
        match self.0 {
            Metric::Money => fmt::Display::fmt(&Amount(self.1), f),
            Metric::ConcurrentGpus => {
                let blocks = self.1.unsigned_abs();
                match blocks % 100 {
                    0 => write!(f, "{sign}{} GPUs", blocks / 100),
                    rest => write!(f, "{sign}{}.{rest:02} GPUs", blocks / 100),
                }
            }
            Metric::GpuTime(_) | Metric::NormalisedGpuTime => {
                write!(f, "{sign}{} of a GPU", DurationMs(self.1.unsigned_abs()))
            }
        }
    }
}

impl fmt::Display for LimitRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |amount| InUnit(&self.binding.metric, amount);
        write!(
            f,
            "the limit on {} is {} short: {} wanted, limit {}, used {}, held {}; ",
            self.binding,
            shown(self.shortfall),
            shown(self.wanted),
            shown(self.limit),
            shown(self.used),
            shown(self.held),
        )?;
        match (self.kind, self.renews) {
            (LimitRefusalKind::NeverFits, _) => f.write_str(
                "waiting cannot help, it is more than the limit allows: ask for less, or raise the limit",
            ),
            (LimitRefusalKind::UsedUp, Some(renews)) => {
                write!(f, "it is used up, and counts anew from {renews}")
            }
            (LimitRefusalKind::UsedUp, None) if self.binding.metric == Metric::ConcurrentGpus => {
                f.write_str("it is used up: wait for attempts of the group to end")
            }
            (LimitRefusalKind::UsedUp, None) => {
                f.write_str("it is used up: transfer budget to it, or raise it")
            }
            (LimitRefusalKind::UnsafeWithRunning, _) => {
                f.write_str("waiting can help: others give back what they do not use")
            }
        }
    }
}
