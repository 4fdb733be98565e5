//! Jobs that have just come get their places without laying the whole queue anew: behind everything that is planned,
//! so that nothing planned is moved. The next whole plan puts them where they belong in the order.
//!
//! What has changed meanwhile is left to that plan: nothing is laid on a node that is not what it was, and what a job
//! held that waits no more is not given out.

use spillway_types::UnixMs;

use crate::Decision;
use crate::planner::Planner;
use crate::search::MOST_SEARCHED;

impl Planner {
    /// Lays the jobs that have come since the last plan, and says which of them start now. A job that is not started
    /// waits for its planned start or for the next plan.
    ///
    /// None where only [`Self::plan`] gives a good answer: nothing was planned yet, the policy, the priorities or the
    /// offers have changed, the last plan had more to start than it was allowed to, or the queue is short enough to
    /// look for its best order.
    pub fn admit(&mut self, now: UnixMs) -> Option<Vec<Decision>> {
        let searched = self.policy.search > 0 && self.layout.sequence.len() <= MOST_SEARCHED;
        let has_more = self.layout.looked_at < self.layout.laid.len();
        if self.outdated || searched || has_more || now.0 < self.now {
            return None;
        }
        // What comes stands behind what was not reached.
        if self.layout.is_cut || self.waiting() > self.policy.max_jobs {
            return Some(vec![]);
        }
        self.now = now.0;
        let overdue = self.fleet.review(now);
        self.changed_nodes.extend(overdue);
        for number in std::mem::take(&mut self.changed_nodes) {
            if self.closed.insert(number) {
                self.board.close(number);
            }
        }
        self.fill_purses();
        let first = self.layout.sequence.len();
        for slot in std::mem::take(&mut self.fresh) {
            let tasks = self.item(slot).map_or(0, |item| item.job.tasks.len());
            let most = u64::try_from(self.policy.max_starts).unwrap_or(u64::MAX);
            for _ in 0..tasks.min(most) {
                self.lay_next(slot);
            }
        }
        Some(self.decide(first))
    }
}
