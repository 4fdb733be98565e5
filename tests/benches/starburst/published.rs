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

/// What was published for a baseline: GPU-hours in the cloud, and hours of wait where that was written down.
#[derive(Clone, Copy)]
struct Known {
    who: &'static str,
    cloud: Option<f64>,
    wait: Option<f64>,
    /// The `c` of its budget in billionths, where it has one of its own.
    own_c: Option<u64>,
}

impl Known {
    const fn of(who: &'static str, cloud: f64, wait: f64) -> Self {
        Self { who, cloud: Some(cloud), wait: Some(wait), own_c: None }
    }

    /// Nothing was published.
    const fn nothing(who: &'static str) -> Self {
        Self { who, cloud: None, wait: None, own_c: None }
    }

    /// Plan on arrival. What was published came of a `c` for each trace that was found by trying and not written down;
    /// these are the ones that give the figures, wait included.
    const fn on_arrival(own_c: u64, cloud: f64, wait: f64) -> Self {
        Self { who: "plan-on-arrival", cloud: Some(cloud), wait: Some(wait), own_c: Some(own_c) }
    }
}

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
    /// Half of that, for jobs that start when they come: where the sum of arrival and runtime in hours, as a float, is
    /// above what it should be, the job ends half a millionth later. Without a wait a fiftieth of all depends on it.
    Floats,
}

impl Ticks {
    /// The jobs and the parameters in these ticks, and what hours are to be multiplied by.
    fn of(
        self,
        jobs: &[TraceJob],
        parameters: BaselineParameters,
    ) -> (Vec<TraceJob>, BaselineParameters, f64) {
        // A millionth is 3.6 ms and was rounded up, so rounding down gives it back.
        let ticks = |span: DurationMs| DurationMs(span.0 * 10 / 36);
        let job = |job: &TraceJob| {
            let (arrival, runtime) = (ticks(job.arrival), ticks(job.runtime));
            match self {
                Self::Milliseconds => job.clone(),
                Self::Millionths => {
                    TraceJob { arrival, runtime, estimate: ticks(job.estimate), ..job.clone() }
                }
                Self::Floats => {
                    let late = u64::from(ends_late(arrival, runtime));
                    let runtime = DurationMs(runtime.0 * 2 + late);
                    TraceJob { arrival: DurationMs(arrival.0 * 2), runtime, estimate: runtime, ..job.clone() }
                }
            }
        };
        let (constant_wait, hours) = match self {
            Self::Milliseconds => (parameters.constant_wait, 1.0),
            Self::Millionths => (ticks(parameters.constant_wait), 3.6),
            Self::Floats => (DurationMs(ticks(parameters.constant_wait).0 * 2), 1.8),
        };
        (jobs.iter().map(job).collect(), BaselineParameters { constant_wait, ..parameters }, hours)
    }
}

/// Whether a job that starts when it comes ends late in hours that are floats.
fn ends_late(arrival: DurationMs, runtime: DurationMs) -> bool {
    let hours = |millionths: u64| count(millionths) / 1e6;
    hours(arrival.0) + hours(runtime.0) > hours(arrival.0 + runtime.0)
}

/// Exact: traces are far shorter than the 8,000 years in which it would not be.
#[expect(clippy::cast_precision_loss, reason = "see above")]
const fn count(millionths: u64) -> f64 {
    millionths as f64
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
            Known::of("no-wait", 51_732.58, 0.0),
            Known::nothing("constant"),
            Known::of(STARBURST, 25_828.43, 0.2133),
            Known::of("easy", 23_835.19, 0.2596),
            // In hours that are floats a `c` of 0.1032 gives the published figures, its wait of 0.1975 included. In
            // ticks other jobs come the moment another ends, and chains of reservations hang on them: 0.1981.
            Known { wait: None, ..Known::on_arrival(103_000_000, 22_195.6, 0.1975) },
        ],
    },
    Case {
        trace: "synth500_s1.0",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        ticks: Ticks::Milliseconds,
        known: &[
            Known::of("no-wait", 304.27, 0.0),
            Known::of("constant", 282.22, 0.0516),
            Known::of(STARBURST, 233.60, 0.0512),
            Known::of("easy", 210.62, 0.0563),
            Known::on_arrival(134_400_000, 173.98, 0.0509),
        ],
    },
    Case {
        trace: "synth500_s0.75",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        ticks: Ticks::Milliseconds,
        known: &[
            Known::nothing("no-wait"),
            Known::nothing("constant"),
            Known::of(STARBURST, 139.76, 0.0345),
            Known::of("easy", 114.17, 0.0425),
            Known::on_arrival(128_400_000, 80.41, 0.0338),
        ],
    },
    Case {
        trace: "synth500_s1.5",
        nodes: 4,
        warmup: 0,
        parameters: SYNTHETIC,
        ticks: Ticks::Milliseconds,
        known: &[
            Known::nothing("no-wait"),
            Known::nothing("constant"),
            Known::of(STARBURST, 381.15, 0.0772),
            Known::of("easy", 357.01, 0.0877),
            Known::on_arrival(160_600_000, 341.04, 0.0696),
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
pub(crate) fn jobs(folder: &Path, trace: &str) -> Result<Vec<TraceJob>> {
    let path = folder.join(format!("{trace}.csv"));
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the trace {}", path.display()))?;
    let read = Trace::read(&text).with_context(|| format!("{} is not a trace", path.display()))?;
    Ok(read.jobs)
}

impl Case {
    fn baselines(&self, jobs: &[TraceJob]) -> Result<Vec<Row>> {
        let row = |known: &Known| {
            let floats = self.ticks == Ticks::Millionths && known.who == "no-wait";
            let ticks = if floats { Ticks::Floats } else { self.ticks };
            let (jobs, mut parameters, hours) = ticks.of(jobs, self.parameters);
            parameters.compute_wait.billionths = known.own_c.unwrap_or(parameters.compute_wait.billionths);
            let found = figures(&jobs, &baseline(known.who, parameters), self.nodes, self.warmup)?;
            Ok(Row {
                case: self.trace.to_owned(),
                who: known.who.to_owned(),
                cloud_gpu_hours: found.cloud_gpu_hours * hours,
                wait_hours: found.avg_wait_hours * hours,
                longest_wait_hours: found.max_wait_hours * hours,
                price: None,
                published: known.cloud.map(|cloud| (cloud, known.wait)),
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
