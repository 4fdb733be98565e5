//! Planned starts as promises: a start that becomes later than the last plan said is noted, with the reason.

use crate::lay::Spot;
use crate::planner::Planner;
use crate::{Delay, DelayCause};

/// What has happened since the last plan that can make a start later.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct News {
    /// A node has left, closed or has less than it had.
    pub(crate) lost_room: bool,
    /// Something ended off its estimate or is overdue.
    pub(crate) off_estimate: bool,
    /// A job has come, or was put before others.
    pub(crate) came: bool,
}

impl News {
    const fn cause(self) -> DelayCause {
        if self.lost_room {
            DelayCause::LostRoom
        } else if self.off_estimate {
            DelayCause::OffEstimate
        } else if self.came {
            DelayCause::JobBefore
        } else {
            DelayCause::OrderChanged
        }
    }
}

impl Planner {
    /// Compares every planned start with what was promised, and promises the new one.
    pub(crate) fn note_promises(&mut self, news: News) {
        let mut last = None;
        for (slot, laid) in self.layout.sequence.iter().zip(&self.layout.laid) {
            // Only the next task of an array is promised a start.
            if last.replace(*slot) == Some(*slot) {
                continue;
            }
            let start = match &laid.spot {
                Spot::Here(here) => Some(here.start),
                Spot::Launch(_) => Some(self.now),
                Spot::Blocked(_) => None,
            };
            let Some(Some(item)) = self.items.get_mut(*slot) else { continue };
            if let Some(was) = item.promise
                && start.is_none_or(|start| start > was)
            {
                item.delay = Some(Delay { was: spillway_types::UnixMs(was), cause: news.cause() });
            }
            item.promise = start;
        }
    }
}
