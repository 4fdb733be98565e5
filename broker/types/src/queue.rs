//! What orders and bounds the wait of a job: holds, places at the top, deadlines, and how long a run is thought
//! to take. How these are weighed against each other is the planner's matter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{DurationMs, UnixMs};

/// Whether a waiting job may be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// It may.
    #[default]
    No,
    /// Somebody holds it: it is never placed until it is released.
    Yes,
}

/// Before which others somebody put a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopScope {
    /// The jobs of its own group: what a member may do.
    Group,
    /// The jobs of all groups: what an admin may do.
    All,
}

/// Where a waiting job stands before any other rule of the order is looked at. The greater goes first: what an
/// admin put on top before what a member did, and the newest of them before those put there earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Where the other rules put it.
    #[default]
    Plain,
    /// Before the jobs of its own group; a later one has a higher number.
    TopOfGroup(u64),
    /// Before the jobs of all groups; a later one has a higher number.
    TopOfAll(u64),
}

impl Standing {
    /// Whether nobody put the job anywhere.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::Plain
    }

    /// Before which others it was put.
    #[must_use]
    pub const fn scope(self) -> Option<TopScope> {
        match self {
            Self::Plain => None,
            Self::TopOfGroup(_) => Some(TopScope::Group),
            Self::TopOfAll(_) => Some(TopScope::All),
        }
    }
}

/// By when a job should have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deadline {
    /// By this instant.
    At(UnixMs),
    /// So long after its submission. It stays a length, so that a submission that is repeated is the same.
    Within(DurationMs),
}

impl Deadline {
    /// The instant, for a job that was submitted at `submitted`.
    #[must_use]
    pub const fn instant(self, submitted: UnixMs) -> UnixMs {
        match self {
            Self::At(instant) => instant,
            Self::Within(span) => submitted.plus(span),
        }
    }
}

/// Why a text is not a deadline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a deadline; write a length of time like `6h`, or an instant with its zone like `2026-11-21T18:00:00Z`"
)]
pub struct DeadlineError {
    /// What was given, cut to 80 characters.
    pub value: String,
}

impl FromStr for Deadline {
    type Err = DeadlineError;

    fn from_str(text: &str) -> Result<Self, DeadlineError> {
        if let Ok(span) = text.parse() {
            return Ok(Self::Within(span));
        }
        let instant: Result<jiff::Timestamp, _> = text.trim().parse();
        instant
            .map(|instant| Self::At(UnixMs(instant.as_millisecond())))
            .map_err(|_| DeadlineError { value: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(instant) => fmt::Display::fmt(instant, f),
            Self::Within(span) => fmt::Display::fmt(span, f),
        }
    }
}

/// Whether the nodes of a gang have to be close to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interconnect {
    /// Any nodes of one site.
    #[default]
    Any,
    /// Nodes of one interconnect domain only.
    SameDomain,
}

impl Interconnect {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

/// How long one task of a job is thought to run, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// How long.
    pub duration: DurationMs,
    /// How that is known.
    pub source: EstimateSource,
}

/// Where an estimate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum EstimateSource {
    /// The job says so itself.
    Expected,
    /// From how long runs like it took.
    History {
        /// How many.
        runs: u32,
    },
    /// Nothing is known but the time limit.
    Limit,
}

impl fmt::Display for EstimateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected => f.write_str("expected"),
            Self::History { runs } => write!(f, "history ({runs} runs)"),
            Self::Limit => f.write_str("limit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_lengths_or_instants() {
        let within = "1d 6h".parse::<Deadline>().unwrap();
        assert_eq!(within, Deadline::Within(DurationMs::from_secs(30 * 3600)));
        assert_eq!(within.instant(UnixMs(5)), UnixMs(5 + 30 * 3_600_000));
        let at: Deadline = "2023-11-14T12:00:00Z".parse().unwrap();
        assert_eq!(at, Deadline::At(UnixMs(1_699_963_200_000)));
        assert_eq!(at.instant(UnixMs(5)), UnixMs(1_699_963_200_000));
        assert_eq!("2023-11-14 21:00:00+09:00".parse(), Ok(at));
        assert_eq!(at.to_string().parse(), Ok(at));
        for wrong in ["", "soon", "-5m", "2023-11-14", "2023-11-14T12:00:00"] {
            let error = wrong.parse::<Deadline>().unwrap_err().to_string();
            assert!(error.contains("with its zone"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_newest_on_top_goes_first_and_admins_go_before_members() {
        let mut order = vec![
            Standing::Plain,
            Standing::TopOfGroup(9),
            Standing::TopOfAll(1),
            Standing::TopOfGroup(4),
            Standing::TopOfAll(2),
        ];
        order.sort_by_key(|standing| std::cmp::Reverse(*standing));
        let sorted = [
            Standing::TopOfAll(2),
            Standing::TopOfAll(1),
            Standing::TopOfGroup(9),
            Standing::TopOfGroup(4),
            Standing::Plain,
        ];
        assert_eq!(order, sorted);
    }
}
