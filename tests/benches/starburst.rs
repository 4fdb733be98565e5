//! The planner against Starburst (ATC'24) and its peers: GPU-hours in the cloud at the same average wait.
//!
//! With `--traces` the published traces are replayed first. Every baseline has to give what Starburst's own
//! simulator gives, else nothing that is compared to it means anything and the bench fails. The planner has the
//! policies that ship, the one where groups take turns and the one with all jobs in one line, as all its peers have
//! it. Its one price of waiting is set so that it waits at most as long as Starburst does; so is the budget of plan on
//! arrival. All that takes a quarter of an hour, most of it for the one large trace.
//!
//! Single traces are noisy. So jobs are drawn anew many times, at three loads and with estimates of three
//! qualities, and the planner has one price of waiting for all draws together. Talk is one table on stderr.

mod crew;
mod drawn;
mod matched;
mod published;
mod table;

pub(crate) use published::jobs as trace_jobs;

use std::ops::ControlFlow;

use anyhow::Result;
use spillway_sim::baselines::{BaselineParameters, ComputeWait, Fit};
use spillway_sim::contender::Contender;
use spillway_sim::report::{Metrics, Outcome, Setting};
use spillway_sim::{TraceJob, federation, replay};
use spillway_types::DurationMs;

use crate::Settings;
use crate::report::{Measurement, Peer};

const STARBURST: &str = "starburst";

/// What Starburst is set to for the synthetic jobs.
const SYNTHETIC: BaselineParameters = BaselineParameters {
    compute_wait: ComputeWait { billionths: 78_056_250 },
    constant_wait: DurationMs(876_960),
    max_queue: None,
    fit: Fit::Best,
};

/// What one contender made of one case.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// The trace, or how the jobs were drawn.
    case: String,
    who: String,
    cloud_gpu_hours: f64,
    wait_hours: f64,
    longest_wait_hours: f64,
    /// Its price of waiting, in the currency per hour, where it has one.
    price: Option<f64>,
    /// What was published: GPU-hours, and hours of wait where that was written down.
    published: Option<(f64, Option<f64>)>,
    /// The GPU-hours of Starburst in the same case.
    starburst: f64,
}

/// Compares.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let mut rows = Vec::new();
    match &settings.traces {
        Some(folder) => rows.extend(published::rows(folder, settings.quick)?),
        None => xtask::step::say(
            "    no --traces DIR: only made-up jobs; synth500_s{0.75,1.0,1.5}.csv and philly_20k.csv are the \
             published ones",
        ),
    }
    let published = rows.len();
    rows.extend(drawn::rows(settings.traces.as_deref(), settings.quick)?);
    table::show(&rows);
    published::check(rows.get(..published).unwrap_or_default())?;
    Ok(rows.iter().flat_map(measurements).collect())
}

/// Replays jobs on `nodes` nodes of 8 GPUs beside a cloud without limit.
fn figures(jobs: &[TraceJob], contender: &Contender, nodes: u32, warmup: usize) -> Result<Metrics> {
    let mut description = federation::uniform(nodes, 8)?;
    federation::admit_groups(&mut description, jobs);
    if let Contender::Planner(policy) = contender {
        description.policy = policy.as_ref().clone();
    }
    let setting = Setting::of(&description, warmup);
    let replay = replay(description, jobs, contender.scheduler()?, 1, &mut |_| ControlFlow::Continue(()))?;
    anyhow::ensure!(replay.violations.is_empty(), "invariants are broken: {:?}", replay.violations);
    Ok(Outcome::of(jobs, &replay, &setting).metrics)
}

fn baseline(name: &str, parameters: BaselineParameters) -> Contender {
    Contender::Baseline { name: name.to_owned(), parameters }
}

fn measurements(row: &Row) -> Vec<Measurement> {
    let metric = |what: &str| format!("{}, {}: {what}", row.case, row.who).into();
    let measured = "published";
    let peer = |value: Option<f64>| value.map(|value| Peer { name: measured.to_owned(), value });
    let cloud = match row.published {
        Some((cloud, _)) => peer(Some(cloud)),
        None if row.who == STARBURST => None,
        None => Some(Peer { name: STARBURST.to_owned(), value: row.starburst }),
    };
    let wait = row.published.and_then(|(_, wait)| wait);
    vec![
        Measurement {
            metric: metric("cloud GPU-hours"),
            value: row.cloud_gpu_hours,
            unit: "GPU-hours",
            peer: cloud,
        },
        Measurement {
            metric: metric("average wait"),
            value: row.wait_hours,
            unit: "hours",
            peer: peer(wait),
        },
    ]
}
