//! Compute-wait with reservations and backfill, as Starburst's own simulator does EASY.
//!
//! 1. The queue starts in its order, up to the first job that does not fit.
//! 2. That one is given a reservation if it would start within its budget: programs that run are let end one after
//!    another, and after each the first node is taken whose accelerators, neither used nor reserved, are exactly as
//!    many as are wanted (for a job of several nodes one such node for each part). The job leaves the queue and
//!    starts when what is reserved for it is free. At each moment one job more may be given a reservation: there
//!    may be several.
//! 3. The rest of the queue is gone through in order. A job starts where it fits, next to reservations that begin
//!    after its own end, and without the accelerators of those that begin before.
//!
//! A reservation holds particular accelerators, and it begins when it was planned to, also where programs end
//! before or after their estimate; a job that is overdue by then keeps it waiting.

use std::collections::BTreeMap;

use spillway_policies::Decision;
use spillway_types::{JobId, UnixMs};

use super::starburst::deadline;
use super::view::{Gpus, Parts, Running, View, Waiting, count};
use super::{BaselineParameters, ComputeWait, Fit};
use crate::{Scheduler, Seen};

#[derive(Debug)]
struct Reservation {
    waiting: Waiting,
    start: UnixMs,
    parts: Parts,
}

/// Backfill around reservations.
#[derive(Debug)]
pub(super) struct Easy {
    view: View,
    compute_wait: ComputeWait,
    fit: Fit,
    reserved: BTreeMap<JobId, Reservation>,
    /// What was started since the view was brought up to date.
    begun: Vec<Running>,
}

impl Easy {
    pub(super) fn new(parameters: BaselineParameters) -> Self {
        let BaselineParameters { compute_wait, fit, .. } = parameters;
        Self { view: View::default(), compute_wait, fit, reserved: BTreeMap::new(), begun: vec![] }
    }

    /// Starts what has its reservation free.
    fn start_reserved(&mut self, seen: &Seen<'_>, decisions: &mut Vec<Decision>) {
        let rows = &self.view.rows;
        let free = |parts: &Parts| parts.iter().all(|(at, gpus)| rows[*at].free & gpus == *gpus);
        let ready: Vec<JobId> =
            self.reserved.iter().filter(|(_, r)| free(&r.parts)).map(|(job, _)| *job).collect();
        for job in ready {
            if let Some(reservation) = self.reserved.remove(&job) {
                self.start(seen, &reservation.waiting, &reservation.parts, decisions);
            }
        }
    }

    fn start(&mut self, seen: &Seen<'_>, waiting: &Waiting, parts: &Parts, decisions: &mut Vec<Decision>) {
        decisions.extend(self.view.start(seen, waiting, parts));
        self.begun.push(Running { ends: seen.now.plus(waiting.estimate), parts: parts.clone() });
    }

    /// Where a job fits next to the reservations that begin before its end.
    fn fit(&self, seen: &Seen<'_>, waiting: &Waiting) -> Option<Parts> {
        let ends = seen.now.plus(waiting.estimate);
        let kept = |at: usize| {
            let before = self.reserved.values().filter(|reservation| reservation.start < ends);
            let here = before.flat_map(|reservation| &reservation.parts).filter(|(node, _)| *node == at);
            here.fold(0, |kept, (_, gpus)| kept | gpus)
        };
        self.view.fit(waiting.gpus, self.fit, |at, row| row.free & !kept(at))
    }

    /// Reserves for the head of the queue, if that would start within its budget.
    fn reserve(&mut self, head: &Waiting) {
        let mut taken: Vec<Gpus> = vec![0; self.view.rows.len()];
        for (at, gpus) in self.reserved.values().flat_map(|reservation| &reservation.parts) {
            taken[*at] |= gpus;
        }
        let mut free: Vec<Gpus> =
            self.view.rows.iter().zip(&taken).map(|(row, taken)| row.free & !taken).collect();
        let mut running: Vec<&Running> = self.view.running.values().chain(&self.begun).collect();
        running.sort_by_key(|running| running.ends);
        let latest = deadline(self.compute_wait, head);
        for running in running {
            if running.ends > latest {
                return;
            }
            for (at, gpus) in &running.parts {
                free[*at] |= gpus & !taken[*at];
            }
            if let Some(parts) = exactly(&self.view.demands(head.gpus), &free) {
                let reservation = Reservation { waiting: *head, start: running.ends, parts };
                self.view.queue.retain(|waiting| waiting.job != head.job);
                self.reserved.insert(head.job, reservation);
                return;
            }
        }
    }
}

/// For each demand the first node that has exactly so many free.
fn exactly(demands: &[u32], free: &[Gpus]) -> Option<Parts> {
    let mut parts: Parts = vec![];
    for wanted in demands {
        let taken = |at: usize| parts.iter().any(|(other, _)| *other == at);
        let found = free.iter().enumerate().find(|(at, free)| count(**free) == *wanted && !taken(*at));
        let (at, free) = found?;
        parts.push((at, *free));
    }
    Some(parts)
}

impl Scheduler for Easy {
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<Decision> {
        let arrived = self.view.update(seen);
        self.begun.clear();
        self.view.queue.retain(|waiting| !self.reserved.contains_key(&waiting.job));
        let mut decisions = vec![];
        self.start_reserved(seen, &mut decisions);
        let over = |waiting: &Waiting| {
            deadline(self.compute_wait, waiting) <= seen.now && !arrived.contains(waiting)
        };
        for waiting in self.view.queue.iter().copied().filter(over).collect::<Vec<_>>() {
            decisions.extend(self.view.send_away(seen, &waiting));
        }
        while let Some(head) = self.view.queue.first().copied() {
            let Some(parts) = self.fit(seen, &head) else { break };
            self.start(seen, &head, &parts, &mut decisions);
        }
        if let Some(head) = self.view.queue.first().copied() {
            self.reserve(&head);
        }
        for waiting in self.view.queue.clone() {
            if let Some(parts) = self.fit(seen, &waiting) {
                self.start(seen, &waiting, &parts, &mut decisions);
            }
        }
        decisions
    }

    fn wake_at(&self) -> Option<UnixMs> {
        self.view.queue.iter().map(|waiting| deadline(self.compute_wait, waiting)).min()
    }
}
