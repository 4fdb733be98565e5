//! The planner at the size of a federation: how long one new job takes behind a planned queue, how long the whole queue
//! takes to be planned anew, and how much memory that needs.
//!
//! The planner is used as the broker uses it: told what changes, asked to admit what comes, and asked for whole plans
//! within the policy's time. Nodes are nearly all busy, with parts that end over the next day; the queue has whole
//! accelerators, gangs and fractions. The queue grows with the nodes; then it is varied on the largest federation.

mod federation;

use std::fs;

use anyhow::{Context as _, Result};
use spillway_policies::{Planner, Policy};
use spillway_types::{DurationMs, UnixMs};
use xtask::wait::Stopwatch;

use crate::Settings;
use crate::clock::median;
use crate::report::Measurement;

use federation::{Federation, NOW};

/// Jobs that come one by one, for each size.
const NEW_JOBS: u64 = 1_000;
/// Between two of them.
const GAP: DurationMs = DurationMs(20);
/// Whole plans of which the median is taken.
const PLANS: usize = 3;
/// So long that every queue here is planned to its end.
const AMPLE: DurationMs = DurationMs(120_000);
/// After so many whole plans all that can start has started, or something is wrong.
const MOST_ROUNDS: usize = 100;

/// One size, with the names of its figures.
struct Size {
    nodes: usize,
    jobs: usize,
    p50: &'static str,
    p99: &'static str,
    worst: &'static str,
    whole: &'static str,
    laid: &'static str,
    limited: &'static str,
}

macro_rules! size {
    ($nodes:literal, $jobs:literal, $of:literal) => {
        Size {
            nodes: $nodes,
            jobs: $jobs,
            p50: concat!("one new job, p50, ", $of),
            p99: concat!("one new job, p99, ", $of),
            worst: concat!("one new job, longest, ", $of),
            whole: concat!("a whole plan, ", $of),
            laid: concat!("tasks in a whole plan, ", $of),
            limited: concat!("a plan within the default plan_time, ", $of),
        }
    };
}

const SMALL: &[Size] = &[
    size!(100, 2_000, "100 nodes, 2,000 jobs"),
    size!(1_000, 2_000, "1,000 nodes, 2,000 jobs"),
    size!(10_000, 16_000, "10,000 nodes, 16,000 jobs"),
];

const LARGE: &[Size] = &[
    size!(1_000, 100_000, "1,000 nodes, 100,000 jobs"),
    size!(62_500, 10_000, "62,500 nodes, 10,000 jobs"),
    size!(62_500, 100_000, "62,500 nodes, 100,000 jobs"),
];

/// Measures every size.
///
/// # Errors
/// The kernel does not say how much memory was used.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    let large = if settings.quick { &[] } else { LARGE };
    for size in SMALL.iter().chain(large) {
        measurements.extend(measure(size));
    }
    let peak = peak_memory_mib()?;
    measurements.push(Measurement { metric: "peak memory".into(), value: peak, unit: "MiB", peer: None });
    Ok(measurements)
}

fn measure(size: &Size) -> Vec<Measurement> {
    let mut federation = Federation::new(size.nodes);
    // The default policy looks at the front of a queue, and starts a few hundred at once.
    let policy = Policy { max_jobs: usize::MAX, max_starts: 10_000, ..Policy::default() };
    let limit = policy.plan_time;
    let mut planner = federation.planner(policy);
    for at in 0..size.jobs {
        planner.set_job(federation.job(DurationMs(at as u64)));
    }
    let mut now = NOW.plus(DurationMs(size.jobs as u64));
    for _ in 0..MOST_ROUNDS {
        let (decisions, took) = timed(|| plan(&mut planner, AMPLE, now));
        xtask::step::say(&format!("    {} of {} tasks start, {took:.2} s", decisions.len(), planner.laid()));
        federation.carry_out(&mut planner, &decisions, now);
        if decisions.is_empty() {
            break;
        }
    }
    let limited = timed(|| plan(&mut planner, limit, now)).1;
    let mut whole: Vec<f64> = (0..PLANS).map(|_| timed(|| plan(&mut planner, AMPLE, now)).1).collect();
    let laid = u32::try_from(planner.laid()).map_or(f64::INFINITY, f64::from);
    let mut ones = Vec::new();
    for _ in 0..NEW_JOBS {
        now = now.plus(GAP);
        let job = federation.job(now.since(NOW));
        let (decisions, took) = timed(|| {
            planner.set_job(job);
            planner.admit(now).unwrap_or_else(|| plan(&mut planner, limit, now))
        });
        ones.push(took * 1e6);
        federation.carry_out(&mut planner, &decisions, now);
    }
    let p50 = median(&mut ones);
    let at = |part: usize| ones.get((ones.len() * part / 100).min(ones.len() - 1)).copied().unwrap_or(p50);
    let figures = [
        (size.p50, p50, "us"),
        (size.p99, at(99), "us"),
        (size.worst, at(100), "us"),
        (size.whole, median(&mut whole), "s"),
        (size.laid, laid, "tasks"),
        (size.limited, limited, "s"),
    ];
    let measurement = |(metric, value, unit): (&'static str, f64, &'static str)| Measurement {
        metric: metric.into(),
        value,
        unit,
        peer: None,
    };
    figures.into_iter().map(measurement).collect()
}

/// One whole plan, within the time that the policy allows.
fn plan(planner: &mut Planner, limit: DurationMs, now: UnixMs) -> Vec<spillway_policies::Decision> {
    let watch = Stopwatch::start();
    planner.plan(now, &mut || watch.elapsed() < limit.to_std())
}

/// What it gives, and how many seconds that took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let watch = Stopwatch::start();
    let made = work();
    (made, watch.elapsed().as_secs_f64())
}

/// The most memory that this process ever had, as Linux counts it (`VmHWM` in proc(5)).
fn peak_memory_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().context("VmHWM is no number")?;
    Ok(f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_federation_is_measured() {
        // More jobs than the planner looks for the best order of.
        let figures = measure(&size!(100, 2_000, "100 nodes, 2,000 jobs"));
        assert_eq!(figures.len(), 6);
        assert!(figures.iter().all(|figure| figure.value.is_finite() && figure.value > 0.0), "{figures:?}");
        assert!(peak_memory_mib().unwrap() > 1.0);
    }
}
