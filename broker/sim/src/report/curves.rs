//! How things stood over time, in few enough steps to draw: averages over a step for what goes up and down, and the
//! value at its end for what adds up.

use serde::{Deserialize, Serialize};

use crate::{Replay, Sample, TraceJob};

/// Steps from the beginning to the end: as many as a chart can show.
const STEPS: u64 = 240;
const MS_PER_HOUR: f64 = 3_600_000.0;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The step's end, in hours from the beginning.
    pub at_hours: f64,
    /// GPUs of the nodes that were in use, on average.
    pub local_gpus: f64,
    /// GPUs in clouds that were in use, on average.
    pub cloud_gpus: f64,
    /// Jobs that waited, on average.
    pub queued: f64,
    /// Spent in clouds until then, in currency units.
    pub cloud_spent: f64,
    /// The average wait of the jobs that had started by then, in hours.
    pub wait_hours: f64,
}

pub(super) fn curves(jobs: &[TraceJob], replay: &Replay) -> Vec<Point> {
    let end = replay.samples.last().map_or(0, |sample| sample.at.0);
    let mut starts: Vec<(u64, u64)> = replay
        .placements
        .iter()
        .filter_map(|placed| {
            let job = jobs.get(placed.job)?;
            Some((placed.began.0, placed.began.0.saturating_sub(job.arrival.0)))
        })
        .collect();
    starts.sort_unstable();
    let (mut starts, mut started, mut waited) = (starts.into_iter().peekable(), 0_u32, 0.0);
    let step =
        |number: u64| u64::try_from(u128::from(end) * u128::from(number) / u128::from(STEPS)).unwrap_or(end);
    let mut from = 0;
    let mut points = vec![];
    for number in 1..=STEPS {
        let until = step(number);
        let (local, cloud, queued) = averages(&replay.samples, &mut from, step(number - 1), until);
        while let Some((_, wait)) = starts.next_if(|(start, _)| *start <= until) {
            started += 1;
            waited += wait as f64 / MS_PER_HOUR;
        }
        let spent = replay.samples.get(from).map_or(0, |sample| sample.cloud_micros);
        points.push(Point {
            at_hours: short(until as f64 / MS_PER_HOUR),
            local_gpus: short(local),
            cloud_gpus: short(cloud),
            queued: short(queued),
            cloud_spent: spent as f64 / 1e6,
            wait_hours: short(waited / f64::from(started.max(1))),
        });
    }
    points
}

/// Averages by time from `begin` to `until`, where a sample holds until the next one. `from` is the sample that holds
/// at the beginning, and moves on to the one that holds at the end.
fn averages(samples: &[Sample], from: &mut usize, begin: u64, until: u64) -> (f64, f64, f64) {
    let (mut local, mut cloud, mut queued, mut at) = (0.0, 0.0, 0.0, begin);
    let width = until.saturating_sub(begin).max(1) as f64;
    while let Some(sample) = samples.get(*from) {
        let next = samples.get(*from + 1).map(|next| next.at.0);
        let till = next.unwrap_or(u64::MAX).min(until);
        let part = till.saturating_sub(at) as f64 / width;
        local += part * sample.gpus_busy_local as f64;
        cloud += part * sample.gpus_busy_cloud as f64;
        queued += part * sample.queued_jobs as f64;
        at = at.max(till);
        match next {
            Some(next) if next <= until => *from += 1,
            Some(_) | None => break,
        }
    }
    (local, cloud, queued)
}

/// Six decimals: more than can be seen, and few enough that what is written is read back.
fn short(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
