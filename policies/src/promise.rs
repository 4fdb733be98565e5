//! Planned starts as promises: a start that becomes later than the last plan said is noted, with the reason.

use std::collections::BTreeMap;

use spillway_types::UnixMs;

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

/// What the layout has for the next task of a job that does not start now.
#[derive(Default)]
struct Next {
    start: Option<i64>,
    blocked: bool,
    /// Whether a task starts or leaves now.
    goes: bool,
}

impl Planner {
    /// Compares every planned start with what was promised, and promises the new one.
    pub(crate) fn note_promises(&mut self, news: News) {
        let mut firsts: BTreeMap<usize, Next> = BTreeMap::new();
        for (slot, laid) in self.layout.sequence.iter().zip(&self.layout.laid) {
            let next = firsts.entry(*slot).or_default();
            match &laid.spot {
                Spot::Here(here) if here.start > self.now => {
                    next.start.get_or_insert(here.start);
                }
                Spot::Blocked(_) => next.blocked = true,
                Spot::Here(_) | Spot::Launch(_) => next.goes = true,
            }
        }
        for (slot, next) in firsts {
            let Some(Some(item)) = self.items.get_mut(slot) else { continue };
            let later = |was: i64| next.start.map_or(next.blocked, |start| start > was);
            if let Some(was) = item.promise.filter(|was| later(*was)) {
                item.delay = Some(Delay { was: UnixMs(was), cause: news.cause() });
            }
            // What goes now may still be refused; then a later start is a broken promise.
            item.promise = next.start.or(next.goes.then_some(self.now));
        }
    }
}
