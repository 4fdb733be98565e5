//! Constant wait: a strict queue, which each job leaves for the cloud after the same time.
//!
//! A job that does not fit holds up all that came after it. That is what Starburst's table calls constant wait:
//! there only Starburst itself goes past the head of the queue.

use spillway_policies::Decision;
use spillway_types::{DurationMs, UnixMs};

use super::view::{View, Waiting};
use super::{BaselineParameters, Fit};
use crate::{Scheduler, Seen};

/// First come, first served, for so long.
#[derive(Debug)]
pub(super) struct Constant {
    view: View,
    wait: DurationMs,
    fit: Fit,
}

impl Constant {
    pub(super) fn new(parameters: BaselineParameters) -> Self {
        Self { view: View::default(), wait: parameters.constant_wait, fit: parameters.fit }
    }
}

impl Scheduler for Constant {
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<Decision> {
        let arrived = self.view.update(seen);
        let mut decisions = vec![];
        let over =
            |waiting: &Waiting| waiting.since.plus(self.wait) <= seen.now && !arrived.contains(waiting);
        let due: Vec<Waiting> = self.view.queue.iter().copied().filter(over).collect();
        for waiting in due {
            decisions.extend(self.view.send_away(seen, &waiting));
        }
        while let Some(head) = self.view.queue.first().copied() {
            let Some(parts) = self.view.fit(head.gpus, self.fit, |_, row| row.free) else { break };
            decisions.extend(self.view.start(seen, &head, &parts));
        }
        decisions
    }

    fn wake_at(&self) -> Option<UnixMs> {
        self.view.queue.first().map(|head| head.since.plus(self.wait))
    }
}
