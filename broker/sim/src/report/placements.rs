//! Placements as CSV: `job_id,place,start_hr,nodes`, nodes as `index:gpus;index:gpus`. Of a job that was tried more than
//! once it is its last try; where there is one, all have the columns `end_hr,tries` as well.

use serde::{Deserialize, Serialize};

use crate::{Place, Placed, TraceJob};

/// Decimals of an hour. Two instants that are whole milliseconds apart, and sums with runtimes that were rounded up to
/// them, keep their order with ten or more.
const DECIMALS: usize = 12;
const MS_PER_HOUR: u128 = 3_600_000;

/// Where one job ran: its index in the trace, the nodes with their GPUs or none for a cloud, start and end in
/// milliseconds, and how often it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row(pub usize, pub Option<Vec<(u32, u32)>>, pub u64, pub u64, pub u32);

impl Row {
    pub(super) fn of(placed: &Placed) -> Self {
        let nodes = match &placed.place {
            Place::Local(nodes) => Some(nodes.clone()),
            Place::Cloud { .. } => None,
        };
        Self(placed.job, nodes, placed.start.0, placed.end.0, placed.tries)
    }
}

/// Placements of `jobs` as CSV, with a head, in the order of the rows.
#[must_use]
pub fn placements_csv(jobs: &[TraceJob], rows: &[Row]) -> String {
    let again = rows.iter().any(|Row(.., tries)| *tries > 1);
    let mut text = "job_id,place,start_hr,nodes".to_owned();
    text.push_str(if again { ",end_hr,tries\n" } else { "\n" });
    for Row(job, nodes, start, end, tries) in rows {
        let Some(job) = jobs.get(*job) else { continue };
        let place = if nodes.is_some() { "local" } else { "cloud" };
        let shares = nodes.iter().flatten().map(|(node, gpus)| format!("{node}:{gpus}"));
        let shares = shares.collect::<Vec<_>>().join(";");
        text.push_str(&format!("{},{place},{},{shares}", quoted(&job.id), hours(*start)));
        text.push_str(&if again { format!(",{},{tries}\n", hours(*end)) } else { "\n".to_owned() });
    }
    text
}

/// Milliseconds as hours, rounded to the nearest of twelve decimals.
fn hours(ms: u64) -> String {
    let unit = 10_u128.pow(12);
    let scaled = (u128::from(ms) * unit + MS_PER_HOUR / 2) / MS_PER_HOUR;
    format!("{}.{:0DECIMALS$}", scaled / unit, scaled % unit)
}

fn quoted(id: &str) -> String {
    if id.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", id.replace('"', "\"\""))
    } else {
        id.to_owned()
    }
}
