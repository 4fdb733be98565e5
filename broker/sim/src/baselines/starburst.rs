//! Starburst (ATC'24): out of order, with a wait that grows with what a job would cost in the cloud.

use spillway_policies::Decision;
use spillway_types::UnixMs;

use super::view::{View, Waiting};
use super::{BaselineParameters, ComputeWait, Fit};
use crate::{Scheduler, Seen};

/// Compute-wait with a bound on the queue.
#[derive(Debug)]
pub(super) struct Starburst {
    view: View,
    compute_wait: ComputeWait,
    max_queue: Option<usize>,
    fit: Fit,
}

/// When a job has waited as long as it may.
pub(super) fn deadline(compute_wait: ComputeWait, waiting: &Waiting) -> UnixMs {
    waiting.since.plus(compute_wait.budget(u64::from(waiting.gpus), waiting.estimate))
}

impl Starburst {
    pub(super) fn new(parameters: BaselineParameters) -> Self {
        let BaselineParameters { compute_wait, max_queue, fit, .. } = parameters;
        Self { view: View::default(), compute_wait, max_queue, fit }
    }
}

impl Scheduler for Starburst {
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<Decision> {
        let arrived = self.view.update(seen);
        let mut decisions = vec![];
        let queue = self.view.queue.iter().copied();
        let over = |waiting: &Waiting| {
            deadline(self.compute_wait, waiting) <= seen.now && !arrived.contains(waiting)
        };
        for waiting in queue.filter(over).collect::<Vec<_>>() {
            decisions.extend(self.view.send_away(seen, &waiting));
        }
        for waiting in self.view.queue.clone() {
            if let Some(parts) = self.view.fit(waiting.gpus, self.fit, |_, row| row.free) {
                decisions.extend(self.view.start(seen, &waiting, &parts));
            }
        }
        let most = self.max_queue.unwrap_or(usize::MAX);
        while self.view.queue.len() > most {
            let Some(last) = self.view.queue.last().copied() else { break };
            decisions.extend(self.view.send_away(seen, &last));
        }
        decisions
    }

    fn wake_at(&self) -> Option<UnixMs> {
        self.view.queue.iter().map(|waiting| deadline(self.compute_wait, waiting)).min()
    }
}
