//! The figures of one run. Sums are integers; a fraction is made only at the end, for people to read.

use serde::{Deserialize, Serialize};
use spillway_types::{GroupName, SiteKind, SiteName};

use super::Setting;
use crate::{Place, Placed, Replay, TraceJob};

const MS_PER_HOUR: f64 = 3_600_000.0;

/// The figures of one run. Hours are rounded to seven decimals, GPU-hours to two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Jobs of the trace.
    pub jobs: usize,
    /// Jobs that are in the averages: without the warm-up at either end.
    pub counted_jobs: usize,
    /// Of the counted jobs, how many ran in a cloud.
    pub cloud_jobs: usize,
    /// GPUs times runtime of the counted jobs that ran in a cloud.
    pub cloud_gpu_hours: f64,
    /// From arrival to start, on average.
    pub avg_wait_hours: f64,
    /// What half of the jobs wait at most.
    pub p50_wait_hours: f64,
    /// What 99 of a hundred jobs wait at most.
    pub p99_wait_hours: f64,
    /// The longest wait.
    pub max_wait_hours: f64,
    /// From arrival to end, on average.
    pub avg_jct_hours: f64,
    /// As `cloud_gpu_hours`, of all jobs.
    pub all_cloud_gpu_hours: f64,
    /// As `avg_wait_hours`, of all jobs.
    pub all_avg_wait_hours: f64,
    /// As `max_wait_hours`, of all jobs.
    pub all_max_wait_hours: f64,
    /// Part of the nodes' GPU time that was used from the first arrival to the last.
    pub utilisation: f64,
    /// What clouds cost in the whole run, in micros.
    pub cloud_micros: i64,
    /// What the nodes cost by their tariffs in the whole run, in micros.
    pub on_prem_micros: i64,
    /// Both together.
    pub total_micros: i64,
    /// What of the cost of clouds was for machines that stay for as long as they are paid for, in micros.
    pub on_demand_micros: i64,
    /// What of it was for machines that may be taken back, in micros.
    pub spot_micros: i64,
    /// What providers take for data that was moved to where jobs ran, in micros. No other sum has it.
    pub egress_micros: i64,
    /// Machines that providers took back.
    pub interruptions: u64,
    /// Starts beyond the first one of each job.
    pub retries: u64,
    /// GPUs times the time that tries ran and no checkpoint has kept.
    pub lost_gpu_hours: f64,
    /// Ids of the jobs that were given up after their last try.
    pub failed: Vec<String>,
    /// Jobs that were refused.
    pub refused: Vec<Refused>,
    /// Jobs that waited past the bound that their policy promises although a cloud could take them: 0, unless there
    /// is a defect.
    pub broken_bounds: u64,
    /// The longest wait past a bound.
    pub longest_past_bound_hours: f64,
    /// The same by site and group.
    pub spend: Vec<Spent>,
    /// Invariants that were found broken: 0, unless there is a defect.
    pub violations: usize,
}

/// What one group spent at one site in the whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The site.
    pub site: SiteName,
    /// The group.
    pub group: GroupName,
    /// In micros.
    pub micros: i64,
}

/// A job that was refused when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its id in the trace.
    pub job: String,
    /// Why, and the way out.
    pub reason: String,
}

/// Sums over jobs.
#[derive(Debug, Default)]
struct Sums {
    cloud_gpu_ms: u128,
    cloud_jobs: usize,
    /// From arrival to end.
    end_ms: u128,
    waits_ms: Vec<u64>,
}

impl Sums {
    fn add(&mut self, job: &TraceJob, placed: &Placed) {
        self.cloud_gpu_ms += u128::from(placed.cloud_ran.0) * u128::from(job.gpus);
        self.cloud_jobs += usize::from(matches!(placed.place, Place::Cloud { .. }));
        self.end_ms += u128::from(placed.end.0.saturating_sub(job.arrival.0));
        let wait_ms = placed.began.0.saturating_sub(job.arrival.0);
        self.waits_ms.push(wait_ms);
    }

    fn average(&self, sum_ms: u128) -> f64 {
        hours(sum_ms as f64 / self.waits_ms.len().max(1) as f64)
    }

    fn waited(&self) -> u128 {
        self.waits_ms.iter().map(|wait| u128::from(*wait)).sum()
    }

    /// The wait that `of` in a hundred jobs are not over; the waits are sorted.
    fn quantile(&self, of: usize) -> f64 {
        let at = self.waits_ms.len().saturating_sub(1) * of / 100;
        hours(self.waits_ms.get(at).copied().unwrap_or(0) as f64)
    }
}

impl Metrics {
    pub(super) fn of(jobs: &[TraceJob], replay: &Replay, setting: &Setting) -> Self {
        let (mut all, mut counted) = (Sums::default(), Sums::default());
        let last = jobs.len().saturating_sub(setting.warmup);
        for placed in &replay.placements {
            let Some(job) = jobs.get(placed.job) else { continue };
            all.add(job, placed);
            if (setting.warmup..=last).contains(&placed.job) {
                counted.add(job, placed);
            }
        }
        all.waits_ms.sort_unstable();
        counted.waits_ms.sort_unstable();
        let (cloud_micros, on_prem_micros) = money(replay, setting);
        let trouble = &replay.trouble;
        let id = |job: &usize| jobs.get(*job).map(|job| job.id.clone()).unwrap_or_default();
        let refused = trouble.refused.iter();
        let refused = refused.map(|(job, reason)| Refused { job: id(job), reason: reason.clone() });
        let spend = replay.spend.iter();
        let spend = spend.map(|((site, group), micros)| Spent {
            site: site.clone(),
            group: group.clone(),
            micros: *micros,
        });
        Self {
            jobs: jobs.len(),
            counted_jobs: counted.waits_ms.len(),
            cloud_jobs: counted.cloud_jobs,
            cloud_gpu_hours: round(counted.cloud_gpu_ms as f64 / MS_PER_HOUR, 2),
            avg_wait_hours: counted.average(counted.waited()),
            p50_wait_hours: counted.quantile(50),
            p99_wait_hours: counted.quantile(99),
            max_wait_hours: counted.quantile(100),
            avg_jct_hours: counted.average(counted.end_ms),
            all_cloud_gpu_hours: round(all.cloud_gpu_ms as f64 / MS_PER_HOUR, 2),
            all_avg_wait_hours: all.average(all.waited()),
            all_max_wait_hours: all.quantile(100),
            utilisation: utilisation(jobs, replay, setting.gpus),
            cloud_micros,
            on_prem_micros,
            total_micros: cloud_micros.saturating_add(on_prem_micros),
            on_demand_micros: cloud_micros.saturating_sub(trouble.spot_micros),
            spot_micros: trouble.spot_micros,
            egress_micros: trouble.egress_micros,
            interruptions: trouble.interruptions,
            retries: trouble.retries,
            lost_gpu_hours: round(trouble.lost_gpu_ms as f64 / MS_PER_HOUR, 2),
            failed: trouble.failed.iter().map(id).collect(),
            refused: refused.collect(),
            broken_bounds: trouble.broken_bounds,
            longest_past_bound_hours: hours(trouble.longest_past_bound.0 as f64),
            spend: spend.collect(),
            violations: replay.violations.len(),
        }
    }
}

/// What clouds cost, and what nodes did.
fn money(replay: &Replay, setting: &Setting) -> (i64, i64) {
    let (mut cloud, mut here) = (0_i64, 0_i64);
    for ((site, _), micros) in &replay.spend {
        let sum = match setting.sites.get(site) {
            Some(SiteKind::OnPrem | SiteKind::Personal) => &mut here,
            Some(SiteKind::Cloud) | None => &mut cloud,
        };
        *sum = sum.saturating_add(*micros);
    }
    (cloud, here)
}

/// From the first arrival to the last; where all came at once, to the last end.
fn utilisation(jobs: &[TraceJob], replay: &Replay, gpus: u32) -> f64 {
    let ran = || {
        let local = replay.placements.iter().filter(|placed| matches!(placed.place, Place::Local(_)));
        local.filter_map(|placed| jobs.get(placed.job).map(|job| (placed, job.gpus)))
    };
    let first = jobs.first().map_or(0, |job| job.arrival.0);
    let last = jobs.last().map_or(0, |job| job.arrival.0);
    let ends = ran().map(|(placed, _)| placed.end.0).max().unwrap_or(last);
    let last = if last > first { last } else { ends };
    let within =
        |placed: &Placed| u128::from(placed.end.0.min(last).saturating_sub(placed.start.0.max(first)));
    let used: u128 = ran().map(|(placed, gpus)| within(placed) * u128::from(gpus)).sum();
    let there = u128::from(last.saturating_sub(first)) * u128::from(gpus);
    if there == 0 { 0.0 } else { round(used as f64 / there as f64, 5) }
}

fn hours(ms: f64) -> f64 {
    round(ms / MS_PER_HOUR, 7)
}

fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}
