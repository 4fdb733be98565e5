//! Traces that are made up from a seed: the synthetic jobs of Starburst (ATC'24), jobs of a trace drawn anew, and
//! users who do not know how long their jobs run.
//!
//! A load of 1.0 asks for 90 % of the GPUs on average: 16 arrivals an hour of the synthetic jobs, which take 1.8
//! GPU-hours each, on 32 GPUs.

use spillway_types::DurationMs;
use spillway_types::duration::MAX_DURATION;

use crate::Random;
use crate::random::{exp, ln};
use crate::{Asks, TraceJob};

/// What part of the GPUs a load of 1.0 asks for: 16 x 1.8 / 32.
pub const DEMAND_AT_LOAD_ONE: f64 = 0.9;

/// GPUs of a synthetic job, and how many of twenty jobs ask for them.
const GPUS: [(u32, u64); 4] = [(1, 14), (2, 3), (4, 2), (8, 1)];
/// GPU-hours that a synthetic job takes on average: 0.7 x 1 + 0.15 x 2 + 0.1 x 4 + 0.05 x 8, for an hour.
const SYNTHETIC_GPU_HOURS: f64 = 1.8;
/// Groups that synthetic jobs take turns to belong to.
const GROUPS: [&str; 4] = ["g0", "g1", "g2", "g3"];
const MS_PER_HOUR: f64 = 3_600_000.0;

/// How often jobs arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrivals {
    /// Jobs in an hour on average; above 0.
    pub per_hour: f64,
}

impl Arrivals {
    /// So often that jobs of `gpu_hours` each put this load on `gpus` GPUs.
    #[must_use]
    pub fn at_load(load: f64, gpus: u32, gpu_hours: f64) -> Self {
        Self { per_hour: DEMAND_AT_LOAD_ONE * load * f64::from(gpus.max(1)) / gpu_hours.max(1e-9) }
    }

    /// The synthetic jobs at this load on `gpus` GPUs.
    #[must_use]
    pub fn synthetic(load: f64, gpus: u32) -> Self {
        Self::at_load(load, gpus, SYNTHETIC_GPU_HOURS)
    }
}

/// `count` synthetic jobs: Poisson arrivals, exponential runtimes of one hour on average, and 1, 2, 4 or 8 GPUs with
/// probability .7, .15, .1 and .05. The first arrives at 0.
#[must_use]
pub fn poisson(seed: u64, count: usize, arrivals: Arrivals) -> Vec<TraceJob> {
    let mut random = Random::new(seed);
    let groups: [spillway_types::GroupName; 4] = GROUPS.map(|name| name.parse().expect("it is a name"));
    let mut clock = Clock::new(arrivals);
    let mut jobs = Vec::with_capacity(count);
    for (number, group) in (0..count).zip(groups.iter().cycle()) {
        let arrival = clock.next(number, &mut random);
        let runtime = span(random.exponential() * MS_PER_HOUR);
        let gpus = gpus(&mut random);
        let (id, group) = (number.to_string(), group.clone());
        jobs.push(TraceJob { id, group, arrival, runtime, estimate: runtime, gpus, asks: Asks::default() });
    }
    jobs
}

/// `count` jobs drawn from `source` with replacement, with Poisson arrivals. The first arrives at 0.
#[must_use]
pub fn bootstrap(seed: u64, source: &[TraceJob], count: usize, arrivals: Arrivals) -> Vec<TraceJob> {
    let mut random = Random::new(seed);
    let mut clock = Clock::new(arrivals);
    let drawn = (0..count).filter_map(|number| {
        let arrival = clock.next(number, &mut random);
        let at = usize::try_from(random.below(source.len() as u64)).ok()?;
        source.get(at).map(|job| TraceJob { id: number.to_string(), arrival, ..job.clone() })
    });
    drawn.collect()
}

/// GPU-hours that a job of `jobs` takes on average.
#[must_use]
pub fn mean_gpu_hours(jobs: &[TraceJob]) -> f64 {
    let all: f64 = jobs.iter().map(|job| job.runtime.hours() * f64::from(job.gpus)).sum();
    all / jobs.len().max(1) as f64
}

/// Replaces each job's estimate by what a user would say who is wrong by a lognormal factor of this `sigma`.
///
/// What is said, `ln r + sigma z`, is shrunk to the mean of the trace's log-runtimes by `v / (v + sigma^2)`, with
/// `v` their variance: the best guess of `ln r` for one who knows the trace. A sigma of 0 gives the true runtimes.
pub fn blur_estimates(seed: u64, jobs: &mut [TraceJob], sigma: f64) {
    let mut random = Random::new(seed ^ 0x6573_7469_6d61_7465);
    let logs: Vec<f64> = jobs.iter().map(|job| ln(job.runtime.0.max(1) as f64)).collect();
    let count = logs.len().max(1) as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean) * (log - mean)).sum::<f64>() / count;
    let trust = if sigma > 0.0 { variance / (variance + sigma * sigma) } else { 1.0 };
    for (job, log) in jobs.iter_mut().zip(logs) {
        let said = log + sigma * random.normal();
        job.estimate = if sigma > 0.0 { span(exp(mean + trust * (said - mean))) } else { job.runtime };
    }
}

fn gpus(random: &mut Random) -> u32 {
    let mut drawn = random.below(20);
    for (gpus, weight) in GPUS {
        if drawn < weight {
            return gpus;
        }
        drawn -= weight;
    }
    1
}

/// When the next job arrives.
struct Clock {
    mean_gap_ms: f64,
    at_ms: f64,
}

impl Clock {
    const fn new(arrivals: Arrivals) -> Self {
        Self { mean_gap_ms: MS_PER_HOUR / arrivals.per_hour, at_ms: 0.0 }
    }

    fn next(&mut self, number: usize, random: &mut Random) -> DurationMs {
        let gap = random.exponential() * self.mean_gap_ms;
        if number > 0 {
            self.at_ms += gap;
        }
        whole(self.at_ms)
    }
}

/// A runtime of at least a millisecond.
fn span(ms: f64) -> DurationMs {
    whole(ms).max(DurationMs(1))
}

/// Whole milliseconds, cut to the longest duration that there is.
fn whole(ms: f64) -> DurationMs {
    let seconds = (ms / 1000.0).clamp(0.0, MAX_DURATION.0 as f64 / 1000.0);
    let exact = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    DurationMs(u64::try_from(exact.as_millis()).unwrap_or(MAX_DURATION.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64, tolerance: f64) {
        assert!((value / expected - 1.0).abs() < tolerance, "{value} is not {expected}");
    }

    #[test]
    fn synthetic_jobs_are_as_described() {
        let jobs = poisson(1, 20_000, Arrivals::synthetic(1.0, 32));
        assert_eq!(jobs, poisson(1, 20_000, Arrivals::synthetic(1.0, 32)));
        assert_ne!(jobs, poisson(2, 20_000, Arrivals::synthetic(1.0, 32)));
        assert_eq!(jobs.first().map(|job| job.arrival), Some(DurationMs(0)));
        assert!(jobs.is_sorted_by_key(|job| job.arrival));
        close(jobs.len() as f64 / jobs.last().unwrap().arrival.hours(), 16.0, 0.03);
        close(jobs.iter().map(|job| job.runtime.hours()).sum::<f64>() / 20_000.0, 1.0, 0.03);
        for (gpus, share) in [(1, 0.7), (2, 0.15), (4, 0.1), (8, 0.05)] {
            close(jobs.iter().filter(|job| job.gpus == gpus).count() as f64 / 20_000.0, share, 0.06);
        }
        close(mean_gpu_hours(&jobs), SYNTHETIC_GPU_HOURS, 0.05);
        assert_eq!(jobs.first().map(|job| (job.runtime, job.gpus)), Some((DurationMs(4_930_423), 1)));
    }

    #[test]
    fn load_scales_with_capacity() {
        for (load, gpus, per_hour) in [(1.0, 32, 16.0), (0.75, 32, 12.0), (1.0, 384, 192.0), (1.5, 64, 48.0)]
        {
            close(Arrivals::synthetic(load, gpus).per_hour, per_hour, 1e-12);
        }
    }

    #[test]
    fn a_bootstrap_draws_the_jobs_of_its_source() {
        let source = poisson(3, 50, Arrivals::synthetic(1.0, 32));
        let load = Arrivals::at_load(0.5, 384, mean_gpu_hours(&source));
        let jobs = bootstrap(4, &source, 5000, load);
        assert_eq!(jobs.len(), 5000);
        let shape = |job: &TraceJob| (job.runtime, job.gpus, job.group.clone());
        let shapes: std::collections::BTreeSet<_> = source.iter().map(shape).collect();
        assert_eq!(jobs.iter().map(shape).collect::<std::collections::BTreeSet<_>>(), shapes);
        let ids: std::collections::BTreeSet<_> = jobs.iter().map(|job| &job.id).collect();
        assert_eq!(ids.len(), 5000);
        let demand = mean_gpu_hours(&jobs) * 5000.0 / jobs.last().unwrap().arrival.hours();
        close(demand, 0.5 * DEMAND_AT_LOAD_ONE * 384.0, 0.08);
        assert!(bootstrap(4, &[], 10, load).is_empty());
    }

    #[test]
    fn estimates_are_wrong_as_much_as_was_asked() {
        let exact = poisson(5, 20_000, Arrivals::synthetic(1.0, 32));
        for sigma in [0.0, 0.3, 1.0] {
            let mut jobs = exact.clone();
            blur_estimates(9, &mut jobs, sigma);
            let mut again = exact.clone();
            blur_estimates(9, &mut again, sigma);
            assert_eq!(jobs, again);
            assert!(jobs.iter().all(|job| job.estimate > DurationMs(0)));
            let errors = jobs.iter().map(|job| ln(job.estimate.0 as f64) - ln(job.runtime.0 as f64));
            let (count, logs) = (20_000.0, exact.iter().map(|job| ln(job.runtime.0 as f64)));
            let mean = logs.clone().sum::<f64>() / count;
            let variance = logs.map(|log| (log - mean) * (log - mean)).sum::<f64>() / count;
            // Of the best linear guess: v sigma^2 / (v + sigma^2).
            let expected = variance * sigma * sigma / (variance + sigma * sigma);
            let seen = errors.map(|error| error * error).sum::<f64>() / count;
            assert!((seen - expected).abs() <= 0.03 * expected, "{sigma}: {seen} {expected}");
        }
    }
}
