//! The traces with published figures: under each baseline as it was published, and under those that have a free
//! parameter at Starburst's wait.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use spillway_sim::TraceJob;
use spillway_sim::baselines::{BaselineParameters, ComputeWait, Fit};
use spillway_sim::match_wait::{Measured, match_wait, runs_for};
use spillway_sim::trace::Trace;
use spillway_types::DurationMs;

use super::matched::Matched;
use super::{Row, STARBURST, SYNTHETIC, baseline, crew, figures};

/// A baseline may be off what was published by this part of it; the rest is how times were rounded.
const TOLERANCE: f64 = 0.001;
/// Runs for matching one wait where it is to be quick.
const QUICK_RUNS: usize = 20;
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
    ticks: Ticks,
    known: &'static [Known],
}

/// What a millisecond of a replay under a baseline stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ticks {
    /// A millisecond.
    Milliseconds,
    /// A millionth of an hour, in which the trace is written: a job that comes the moment another ends finds its place
    /// free, as it did when the figures were measured. Rounded to milliseconds it may come just before.
    Millionths,
}

impl Ticks {
    /// The jobs and the parameters in these ticks, and what hours are to be multiplied by.
    fn of(
        self,
        jobs: &[TraceJob],
        parameters: BaselineParameters,
    ) -> (Vec<TraceJob>, BaselineParameters, f64) {
        match self {
            Self::Milliseconds => (jobs.to_vec(), parameters, 1.0),
            Self::Millionths => {
                // A millionth is 3.6 ms and was rounded up, so rounding down gives it back.
                let ticks = |span: DurationMs| DurationMs(span.0 * 10 / 36);
                let job = |job: &TraceJob| TraceJob {
                    arrival: ticks(job.arrival),
                    runtime: ticks(job.runtime),
                    estimate: ticks(job.estimate),
                    ..job.clone()
                };
                let constant_wait = ticks(parameters.constant_wait);
                (jobs.iter().map(job).collect(), BaselineParameters { constant_wait, ..parameters }, 3.6)
            }
        }
    }
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
        ticks: Ticks::Millionths,
        known: &[
            // 51,732.58 was published: of a job that comes the moment another ends it depends on how sums of floats
            // round whether it finds the place free, and without a wait each such job runs elsewhere for it.
            ("no-wait", f64::NAN, None),
            ("constant", f64::NAN, None),
            (STARBURST, 25_828.43, Some(0.2133)),
            ("easy", 23_835.19, Some(0.2596)),
        ],
    },
    Case {
        trace: "synth500_s1.0",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        ticks: Ticks::Milliseconds,
        known: &[
            ("no-wait", 304.27, Some(0.0)),
            ("constant", 282.22, Some(0.0516)),
            (STARBURST, 233.60, Some(0.0512)),
            ("easy", 210.62, Some(0.0563)),
        ],
    },
    Case {
        trace: "synth500_s0.75",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        ticks: Ticks::Milliseconds,
        known: &[
            ("no-wait", f64::NAN, None),
            ("constant", f64::NAN, None),
            (STARBURST, 139.76, Some(0.0345)),
            ("easy", 114.17, Some(0.0425)),
        ],
    },
    Case {
        trace: "synth500_s1.5",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        ticks: Ticks::Milliseconds,
        known: &[
            ("no-wait", f64::NAN, None),
            ("constant", f64::NAN, None),
            (STARBURST, 381.15, Some(0.0772)),
            ("easy", 357.01, Some(0.0877)),
        ],
    },
];

/// Every trace under every contender. The large one is left out where it is to be quick: it takes minutes.
pub(super) fn rows(folder: &Path, quick: bool) -> Result<Vec<Row>> {
    let cases = CASES.iter().filter(|case| !quick || case.nodes < 48);
    let cases: Vec<(&Case, Vec<TraceJob>)> =
        cases.map(|case| Ok((case, jobs(folder, case.trace)?))).collect::<Result<_>>()?;
    let known = crew::each(&cases, |(case, jobs)| case.baselines(jobs))?;
    let matched: Vec<(usize, Matched)> =
        (0..cases.len()).flat_map(|case| Matched::ALL.map(|who| (case, who))).collect();
    let found = crew::each(&matched, |(at, who)| {
        let ((case, jobs), known) = (&cases[*at], &known[*at]);
        let runs = if quick { QUICK_RUNS } else { runs_for(jobs.len()) };
        case.matched(jobs, who, (starburst(known)?.wait_hours, runs))
    })?;
    let mut rows = known;
    for ((case, _), row) in matched.iter().zip(found) {
        rows[*case].push(row);
    }
    for case in &mut rows {
        let cloud = starburst(case)?.cloud_gpu_hours;
        case.iter_mut().for_each(|row| row.starburst = cloud);
    }
    Ok(rows.into_iter().flatten().collect())
}

fn starburst(rows: &[Row]) -> Result<&Row> {
    rows.iter().find(|row| row.who == STARBURST).context("it is in every case")
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
    fn baselines(&self, jobs: &[TraceJob]) -> Result<Vec<Row>> {
        let (jobs, parameters, hours) = self.ticks.of(jobs, self.parameters);
        let row = |(who, cloud, wait): &Known| {
            let found = figures(&jobs, &baseline(who, parameters), self.nodes, self.warmup)?;
            Ok(Row {
                case: self.trace.to_owned(),
                who: (*who).to_owned(),
                cloud_gpu_hours: found.cloud_gpu_hours * hours,
                wait_hours: found.avg_wait_hours * hours,
                longest_wait_hours: found.max_wait_hours * hours,
                price: None,
                published: cloud.is_finite().then_some((*cloud, *wait)),
                starburst: f64::NAN,
            })
        };
        self.known.iter().map(row).collect()
    }

    fn matched(&self, jobs: &[TraceJob], who: &Matched, (target, runs): (f64, usize)) -> Result<Row> {
        let mut longest = std::collections::BTreeMap::new();
        let found = match_wait(target, runs, &mut |price| {
            let found = figures(jobs, &who.at(price, self.parameters)?, self.nodes, self.warmup)?;
            longest.insert(price, found.all_max_wait_hours);
            Ok::<_, anyhow::Error>(Measured { wait_hours: found.avg_wait_hours, cost: found.cloud_gpu_hours })
        })?;
        let best = found.best;
        Ok(Row {
            case: self.trace.to_owned(),
            who: who.name().to_owned(),
            cloud_gpu_hours: best.measured.cost,
            wait_hours: best.measured.wait_hours,
            longest_wait_hours: longest.get(&best.price).copied().unwrap_or(f64::NAN),
            price: who.shown(best.price),
            published: None,
            starburst: f64::NAN,
        })
    }
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
