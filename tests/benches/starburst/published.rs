//! The traces with published figures, each under every baseline and the planner at Starburst's wait.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use spillway_policies::Policy;
use spillway_sim::TraceJob;
use spillway_sim::baselines::{BaselineParameters, ComputeWait, Fit};
use spillway_sim::contender::{Contender, with_price_of_waiting};
use spillway_sim::match_wait::{Measured, match_wait};
use spillway_sim::trace::Trace;
use spillway_types::DurationMs;

use super::{PLANNERS, Row, STARBURST, SYNTHETIC, baseline, crew, figures, policy};

/// A baseline may be off what was published by this part of it; the rest is how times were rounded.
const TOLERANCE: f64 = 0.001;
/// Half of the last digit to which waits were written down.
const WAIT_DIGIT: f64 = 0.000_05;

/// What Starburst's own simulator gave for a baseline: its name, GPU-hours in the cloud, hours of wait.
type Known = (&'static str, f64, Option<f64>);

/// One trace, and where it runs.
struct Case {
    trace: &'static str,
    nodes: u32,
    warmup: usize,
    parameters: BaselineParameters,
    known: &'static [Known],
}

const CASES: [Case; 4] = [
    Case {
        trace: "philly_20k",
        nodes: 48,
        warmup: 1000,
        parameters: BaselineParameters {
            compute_wait: ComputeWait { billionths: 76_000_000 },
            constant_wait: DurationMs::from_secs(3600),
            max_queue: Some(30),
            fit: Fit::First,
        },
        known: &[
            ("no-wait", 51_732.58, Some(0.0)),
            ("constant", f64::NAN, None),
            (STARBURST, 25_828.43, Some(0.2133)),
            ("easy", 23_835.19, Some(0.2596)),
            ("plan-on-arrival", 22_195.6, Some(0.1975)),
        ],
    },
    Case {
        trace: "synth500_s1.0",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        known: &[
            ("no-wait", 304.27, Some(0.0)),
            ("constant", 282.22, Some(0.0516)),
            (STARBURST, 233.60, Some(0.0512)),
            ("easy", 210.62, Some(0.0563)),
            ("plan-on-arrival", 173.98, Some(0.0509)),
        ],
    },
    Case {
        trace: "synth500_s0.75",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        known: &[
            ("no-wait", f64::NAN, None),
            ("constant", f64::NAN, None),
            (STARBURST, 139.76, Some(0.0345)),
            ("easy", 114.17, Some(0.0425)),
            ("plan-on-arrival", 80.41, Some(0.0338)),
        ],
    },
    Case {
        trace: "synth500_s1.5",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        known: &[
            ("no-wait", f64::NAN, None),
            ("constant", f64::NAN, None),
            (STARBURST, 381.15, Some(0.0772)),
            ("easy", 357.01, Some(0.0877)),
            ("plan-on-arrival", 341.04, Some(0.0696)),
        ],
    },
];

/// Every trace under every contender. The large one is left out where it is to be quick: it takes minutes.
pub(super) fn rows(folder: &Path, quick: bool) -> Result<Vec<Row>> {
    let cases: Vec<&Case> = CASES.iter().filter(|case| !quick || case.nodes < 48).collect();
    let rows = crew::each(&cases, |case| case.rows(folder))?;
    Ok(rows.into_iter().flatten().collect())
}

/// The jobs of a recorded trace.
pub(super) fn jobs(folder: &Path, trace: &str) -> Result<Vec<TraceJob>> {
    let path = folder.join(format!("{trace}.csv"));
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the trace {}", path.display()))?;
    let read = Trace::read(&text).with_context(|| format!("{} is not a trace", path.display()))?;
    Ok(read.jobs)
}

impl Case {
    fn rows(&self, folder: &Path) -> Result<Vec<Row>> {
        let jobs = jobs(folder, self.trace)?;
        let mut rows = Vec::new();
        for (who, cloud, wait) in self.known {
            let found = figures(&jobs, &baseline(who, self.parameters), self.nodes, self.warmup)?;
            rows.push(Row {
                case: self.trace.to_owned(),
                who: (*who).to_owned(),
                cloud_gpu_hours: found.cloud_gpu_hours,
                wait_hours: found.avg_wait_hours,
                longest_wait_hours: found.max_wait_hours,
                price: None,
                published: cloud.is_finite().then_some((*cloud, *wait)),
                starburst: f64::NAN,
            });
        }
        let starburst = rows.iter().find(|row| row.who == STARBURST).context("it is in every case")?;
        let (target, cloud) = (starburst.wait_hours, starburst.cloud_gpu_hours);
        for (who, sharing) in PLANNERS {
            rows.push(self.planner(&jobs, target, (who, policy(sharing)?))?);
        }
        rows.iter_mut().for_each(|row| row.starburst = cloud);
        Ok(rows)
    }

    fn planner(&self, jobs: &[TraceJob], target: f64, (who, policy): (&str, Policy)) -> Result<Row> {
        let at = |price| Contender::Planner(Box::new(with_price_of_waiting(&policy, price)));
        let mut longest = std::collections::BTreeMap::new();
        let found = match_wait(target, &mut |price| {
            let found = figures(jobs, &at(price), self.nodes, self.warmup)?;
            longest.insert(price, found.all_max_wait_hours);
            Ok::<_, anyhow::Error>(Measured { wait_hours: found.avg_wait_hours, cost: found.cloud_gpu_hours })
        })?;
        let best = found.best;
        Ok(Row {
            case: self.trace.to_owned(),
            who: who.to_owned(),
            cloud_gpu_hours: best.measured.cost,
            wait_hours: best.measured.wait_hours,
            longest_wait_hours: longest.get(&best.price).copied().unwrap_or(f64::NAN),
            price: Some(micros(best.price)),
            published: None,
            starburst: f64::NAN,
        })
    }
}

/// A price as people write it.
pub(super) fn micros(price: u64) -> f64 {
    f64::from(u32::try_from(price / 100).unwrap_or(u32::MAX)) / 10_000.0
}

/// Whether every baseline gives what was published.
pub(super) fn check(rows: &[Row]) -> Result<()> {
    for row in rows {
        let Some((cloud, wait)) = row.published else { continue };
        let off = |found: f64, known: f64, digit: f64| (found - known).abs() > TOLERANCE * known + digit;
        let named = format!("{} under {}", row.case, row.who);
        let (found, waited) = (row.cloud_gpu_hours, row.wait_hours);
        ensure!(!off(found, cloud, 0.0), "{named}: {found} GPU-hours in the cloud, published is {cloud}");
        if let Some(wait) = wait {
            ensure!(!off(waited, wait, WAIT_DIGIT), "{named}: {waited} h of wait, published is {wait}");
        }
    }
    Ok(())
}
