//! No wait: what fits when it arrives starts, everything else goes to the cloud at once.

use spillway_policies::Decision;
use spillway_types::UnixMs;

use super::Fit;
use super::view::View;
use crate::{Scheduler, Seen};

/// Never lets a job wait.
#[derive(Debug)]
pub(super) struct NoWait {
    view: View,
    fit: Fit,
}

impl NoWait {
    pub(super) fn new(fit: Fit) -> Self {
        Self { view: View::default(), fit }
    }
}

impl Scheduler for NoWait {
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<Decision> {
        let mut decisions = vec![];
        for waiting in self.view.update(seen) {
            decisions.extend(match self.view.fit(waiting.gpus, self.fit, |_, row| row.free) {
                Some(parts) => self.view.start(seen, &waiting, &parts),
                None => self.view.send_away(seen, &waiting),
            });
        }
        decisions
    }

    fn wake_at(&self) -> Option<UnixMs> {
        None
    }
}
