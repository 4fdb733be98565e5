//! Plan on arrival: each job gets its start when it comes in, or goes to the cloud then.
//!
//! Every node has a timeline of its free accelerators, reservations included. A job that fits one node takes the
//! node where it could start first; of these the tightest, with the least free at any moment of the job's window;
//! of these the first. A job of several nodes takes the earliest start at which there are enough empty nodes and,
//! for the rest, another with room: the first empty ones, and of the others the tightest. Where that start is not
//! within the job's budget the job goes to the cloud at once; where no cloud has room for it, it waits for that start.
//!
//! Nothing is planned again: a program that ends early leaves a gap, and one that is overdue keeps those waiting
//! that were planned after it, in the order of their planned starts.

use spillway_policies::Decision;
use spillway_types::UnixMs;

use super::ComputeWait;
use super::starburst::deadline;
use super::view::{Parts, View, Waiting, count, lowest};
use crate::{Scheduler, Seen};

/// How many accelerators of a node are free from a moment on; the last one for ever.
type Timeline = Vec<(UnixMs, u32)>;

#[derive(Debug)]
struct Planned {
    waiting: Waiting,
    start: UnixMs,
    /// Nodes and how many accelerators of each.
    parts: Vec<(usize, u32)>,
}

/// Keeps a plan that only grows.
#[derive(Debug)]
pub(super) struct PlanOnArrival {
    view: View,
    compute_wait: ComputeWait,
    timelines: Vec<Timeline>,
    /// What has not started, by its planned start.
    planned: Vec<Planned>,
    /// When it was last asked.
    now: UnixMs,
}

/// The steps of the timeline that touch `from..to`; never none.
fn window(timeline: &Timeline, from: UnixMs, to: UnixMs) -> &[(UnixMs, u32)] {
    let first = timeline.partition_point(|(at, _)| *at <= from).saturating_sub(1);
    let last = timeline.partition_point(|(at, _)| *at < to).max(first + 1);
    timeline.get(first..last).unwrap_or_default()
}

/// The least that is free at any moment of `from..to`.
fn least(timeline: &Timeline, from: UnixMs, to: UnixMs) -> u32 {
    window(timeline, from, to).iter().map(|(_, free)| *free).min().unwrap_or(0)
}

/// The earliest start from `now` to `latest` at which a job fits.
fn earliest(timeline: &Timeline, waiting: &Waiting, now: UnixMs, latest: UnixMs) -> Option<UnixMs> {
    let mut at = timeline.partition_point(|(at, _)| *at <= now).saturating_sub(1);
    let mut start = now;
    while let Some((_, free)) = timeline.get(at) {
        let until = timeline.get(at + 1).map(|(until, _)| *until);
        if *free < waiting.gpus {
            start = until?;
            if start > latest {
                return None;
            }
        } else if until.is_none_or(|until| until >= start.plus(waiting.estimate)) {
            return Some(start);
        }
        at += 1;
    }
    None
}

/// Takes `gpus` out of `from..to`, and forgets what lies before `now`.
fn reserve(timeline: &mut Timeline, (from, to): (UnixMs, UnixMs), gpus: u32, now: UnixMs) {
    for edge in [from, to] {
        let at = timeline.partition_point(|(at, _)| *at <= edge);
        let before = at.checked_sub(1).and_then(|at| timeline.get(at)).copied();
        if let Some((known, free)) = before
            && known < edge
        {
            timeline.insert(at, (edge, free));
        }
    }
    for (_, free) in timeline.iter_mut().filter(|(at, _)| (from..to).contains(at)) {
        *free = free.saturating_sub(gpus);
    }
    timeline.dedup_by_key(|(_, free)| *free);
    let past = timeline.partition_point(|(at, _)| *at <= now).saturating_sub(1);
    timeline.drain(..past);
}

impl PlanOnArrival {
    pub(super) fn new(compute_wait: ComputeWait) -> Self {
        Self { view: View::default(), compute_wait, timelines: vec![], planned: vec![], now: UnixMs(0) }
    }

    /// Reserves the earliest start up to `latest`.
    fn plan(&mut self, waiting: Waiting, now: UnixMs, latest: UnixMs) -> Option<Planned> {
        let demands = self.view.demands(waiting.gpus);
        let (start, parts) = if demands.len() > 1 {
            self.earliest_of_many(&demands, &waiting, now, latest)?
        } else {
            let found = self.timelines.iter().enumerate().filter_map(|(at, timeline)| {
                let start = earliest(timeline, &waiting, now, latest)?;
                Some((start, least(timeline, start, start.plus(waiting.estimate)), at))
            });
            let (start, _, at) = found.min()?;
            (start, vec![(at, waiting.gpus)])
        };
        for (at, gpus) in &parts {
            reserve(&mut self.timelines[*at], (start, start.plus(waiting.estimate)), *gpus, now);
        }
        Some(Planned { waiting, start, parts })
    }

    fn earliest_of_many(
        &self,
        demands: &[u32],
        waiting: &Waiting,
        now: UnixMs,
        latest: UnixMs,
    ) -> Option<(UnixMs, Vec<(usize, u32)>)> {
        let steps = self.timelines.iter().flatten().map(|(at, _)| *at);
        let mut starts: Vec<UnixMs> = steps.filter(|at| *at > now && *at <= latest).chain([now]).collect();
        starts.sort_unstable();
        starts.dedup();
        starts.into_iter().find_map(|start| {
            let end = start.plus(waiting.estimate);
            let room: Vec<u32> = self.timelines.iter().map(|timeline| least(timeline, start, end)).collect();
            Some((start, spread(demands, &room)?))
        })
    }

    /// Starts what was planned to have started by now, where its nodes have room.
    fn start_due(&mut self, seen: &Seen<'_>, decisions: &mut Vec<Decision>) {
        let due = self.planned.partition_point(|planned| planned.start <= seen.now);
        let mut late = vec![];
        for planned in self.planned.drain(..due) {
            let rows = &self.view.rows;
            let part = |(at, gpus): &(usize, u32)| {
                (count(rows[*at].free) >= *gpus).then(|| (*at, lowest(rows[*at].free, *gpus)))
            };
            match planned.parts.iter().map(part).collect::<Option<Parts>>() {
                Some(parts) => decisions.extend(self.view.start(seen, &planned.waiting, &parts)),
                None => late.push(planned),
            }
        }
        self.planned.splice(..0, late);
    }
}

/// For each demand a node of its own: the first with the room of a whole one, for the rest the tightest.
fn spread(demands: &[u32], room: &[u32]) -> Option<Vec<(usize, u32)>> {
    let whole = demands.first()?;
    let mut parts: Vec<(usize, u32)> = vec![];
    for wanted in demands {
        let taken = |at: usize| parts.iter().any(|(other, _)| *other == at);
        let mut open = room.iter().enumerate().filter(|(at, free)| **free >= *wanted && !taken(*at));
        let found = if wanted == whole { open.next() } else { open.min_by_key(|(_, free)| **free) };
        parts.push((found?.0, *wanted));
    }
    Some(parts)
}

impl Scheduler for PlanOnArrival {
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<Decision> {
        self.now = seen.now;
        let arrived = self.view.update(seen);
        for row in self.view.rows.iter().skip(self.timelines.len()) {
            self.timelines.push(vec![(seen.now, count(row.all()))]);
        }
        let mut decisions = vec![];
        for waiting in arrived.into_iter().filter(|waiting| waiting.gpus > 0) {
            let budget = deadline(self.compute_wait, &waiting);
            let mut planned = self.plan(waiting, seen.now, budget);
            if planned.is_none() {
                let launched = self.view.send_away(seen, &waiting);
                if launched.is_none() {
                    planned = self.plan(waiting, seen.now, UnixMs(i64::MAX));
                    planned.iter().for_each(|_| self.view.waits_here(waiting));
                }
                decisions.extend(launched);
            }
            if let Some(planned) = planned {
                let at = self.planned.partition_point(|other| other.start <= planned.start);
                self.planned.insert(at, planned);
            }
        }
        self.start_due(seen, &mut decisions);
        decisions
    }

    fn wake_at(&self) -> Option<UnixMs> {
        // What is late starts when something ends; time alone does not bring that about.
        let late = self.planned.partition_point(|planned| planned.start <= self.now);
        self.planned.get(late).map(|planned| planned.start)
    }
}
