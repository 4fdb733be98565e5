//! What came of a simulation: figures to compare, the placements as CSV, and a chart over time.
//!
//! An [`Outcome`] holds all that is shown of one run, and can be written down and read back, so that an interrupted
//! comparison goes on. Figures that count jobs leave `warmup` jobs out at either end of the trace, as Starburst
//! (ATC'24) does; money is the ledger's, of the whole run.

mod axis;
mod chart;
mod curves;
mod metrics;
mod placements;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{SiteKind, SiteName};

use crate::{Description, Replay, TraceJob};

pub use chart::chart;
pub use curves::Point;
pub use metrics::{Metrics, Refused, Spent};
pub use placements::{Row, placements_csv};

/// All that is shown of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The figures.
    pub metrics: Metrics,
    /// How things stood over time, in equal steps.
    pub curves: Vec<Point>,
    /// Where every job ran.
    pub placements: Vec<Row>,
}

/// What the figures need to know of where it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// GPUs of the nodes.
    pub gpus: u32,
    /// The kind of every site.
    pub sites: BTreeMap<SiteName, SiteKind>,
    /// How many jobs are left out at either end.
    pub warmup: usize,
}

impl Setting {
    /// Of a federation as it is described.
    #[must_use]
    pub fn of(description: &Description, warmup: usize) -> Self {
        let sites = description.sites.iter().map(|site| (site.name.clone(), site.kind)).collect();
        Self { gpus: crate::federation::gpus(description), sites, warmup }
    }
}

impl Outcome {
    /// Adds up a replay of `jobs`.
    #[must_use]
    pub fn of(jobs: &[TraceJob], replay: &Replay, setting: &Setting) -> Self {
        Self {
            metrics: Metrics::of(jobs, replay, setting),
            curves: curves::curves(jobs, replay),
            placements: replay.placements.iter().map(Row::of).collect(),
        }
    }
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
