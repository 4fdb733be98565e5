//! The planner's state while it makes one plan, and its main loop: whose turn it is, one task at a time.

use std::collections::{BTreeMap, BTreeSet};

use spillway_types::{FreeResources, GroupName, JobId, Reason, UnixMs};

use crate::look::{Look, due};
use crate::order::{Order, share_blocks};
use crate::search::Found;
use crate::shape::{Shape, ShapeKey};
use crate::timeline::Timeline;
use crate::world::World;
use crate::{Decision, Explanation, Plan, QueuedJob, Snapshot};

/// Everything that changes while a plan is made.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    pub(crate) world: World<'a>,
    pub(crate) timelines: Vec<Timeline>,
    pub(crate) free: Vec<FreeResources>,
    pub(crate) offers_left: Vec<u32>,
    /// What each group may still hold; a group that is not here has no limit.
    pub(crate) purses: BTreeMap<&'a GroupName, i64>,
    pub(crate) shapes: Vec<Shape>,
    shape_of: BTreeMap<ShapeKey<'a>, usize>,
    pub(crate) decisions: Vec<Decision>,
    explanations: BTreeMap<JobId, Explanation>,
    /// Tasks that may still be started.
    starts_left: usize,
    /// Reservations that may still be made beyond the first one of each job.
    spare_reservations: usize,
}

/// How far the planner has come with one job.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    pub(crate) job: &'a QueuedJob,
    pub(crate) shape: usize,
    pub(crate) position: u32,
    /// Which of the job's ranges holds the next index, and how far into it.
    cursor: (usize, u32),
    /// Tasks that still wait, those with a reservation included.
    pub(crate) waiting: u64,
    /// Tasks with a reservation.
    pub(crate) reserved: u64,
    /// Until when a start here is worth waiting for.
    pub(crate) due: UnixMs,
    /// The first reservation.
    pub(crate) planned: Option<Found>,
    /// Pools where tasks start now: how many, and on which nodes.
    pub(crate) chosen_pools: BTreeMap<usize, (u64, BTreeSet<usize>)>,
    /// Offers that are launched now, and for how many tasks.
    pub(crate) chosen_offers: BTreeMap<usize, u64>,
    pub(crate) reason: Option<Reason>,
}

impl Progress<'_> {
    /// The next index that was not started, which is started now.
    pub(crate) fn take_index(&mut self) -> u32 {
        let (range, offset) = self.cursor;
        let (first, last) = self.job.tasks.ranges().get(range).copied().unwrap_or_default();
        let index = first + offset;
        self.cursor = if index >= last { (range + 1, 0) } else { (range, offset + 1) };
        self.waiting = self.waiting.saturating_sub(1);
        index
    }
}

/// Whether there is more to do for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    More,
    Settled,
}

impl<'a> Planner<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        let world = World::of(snapshot);
        let timelines = snapshot.nodes.iter().zip(&world.layouts);
        let timelines = timelines.map(|(node, layout)| Timeline::of(node, layout, snapshot.now)).collect();
        let purse = |(name, view): (&'a GroupName, &crate::GroupView)| Some((name, view.budget_left?));
        Self {
            timelines,
            free: snapshot.nodes.iter().map(|node| node.free.clone()).collect(),
            offers_left: snapshot.offers.iter().map(|offer| offer.available).collect(),
            purses: snapshot.groups.iter().filter_map(purse).collect(),
            shapes: Vec::new(),
            shape_of: BTreeMap::new(),
            decisions: Vec::new(),
            explanations: BTreeMap::new(),
            starts_left: snapshot.policy.max_starts,
            spare_reservations: snapshot.policy.max_jobs,
            world,
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.world.snapshot.now.0
    }

    /// Plans the whole queue.
    pub(crate) fn run(&mut self) {
        let snapshot = self.world.snapshot;
        let mut order = Order::of(&snapshot.queue, &snapshot.groups);
        let mut begun: BTreeMap<JobId, Progress<'a>> = BTreeMap::new();
        let mut looked_at = 0;
        while let Some((turn, job)) = order.next() {
            let fresh = !begun.contains_key(&job.job);
            if self.starts_left == 0 || (fresh && looked_at == snapshot.policy.max_jobs) {
                break;
            }
            looked_at += usize::from(fresh);
            let position = u32::try_from(looked_at).unwrap_or(u32::MAX);
            let progress = begun.entry(job.job).or_insert_with(|| self.begin(job, position));
            let before = progress.waiting - progress.reserved;
            let step = self.advance(progress);
            if before > progress.waiting - progress.reserved {
                order.charge(turn, share_blocks(job));
            }
            if step == Step::Settled
                && let Some(progress) = begun.remove(&job.job)
            {
                order.settle(turn);
                let explanation = self.explain(&progress);
                self.explanations.insert(job.job, explanation);
            }
        }
        self.leave_out(order, begun, looked_at);
    }

    /// Says of what was not looked at to the end that others come first.
    fn leave_out(
        &mut self,
        mut order: Order<'a>,
        mut begun: BTreeMap<JobId, Progress<'a>>,
        looked_at: usize,
    ) {
        let mut position = looked_at;
        while let Some((turn, job)) = order.next() {
            order.charge(turn, share_blocks(job));
            order.settle(turn);
            let explanation = if let Some(mut progress) = begun.remove(&job.job) {
                progress.reason.get_or_insert(Reason::Priority);
                self.explain(&progress)
            } else {
                position += 1;
                Explanation {
                    reason: Some(Reason::Priority),
                    planned_start: None,
                    position: u32::try_from(position).unwrap_or(u32::MAX),
                    candidates: Vec::new(),
                }
            };
            self.explanations.insert(job.job, explanation);
        }
    }

    /// What would become of `job` if it came after the whole queue.
    pub(crate) fn explain_last(&mut self, job: &'a QueuedJob) -> Explanation {
        self.starts_left = self.world.snapshot.policy.max_starts;
        let queued = self.explanations.len();
        let position = u32::try_from(queued.saturating_add(1)).unwrap_or(u32::MAX);
        let mut progress = self.begin(job, position);
        while self.starts_left > 0 && self.advance(&mut progress) == Step::More {}
        if progress.waiting > 0 {
            progress.reason.get_or_insert(Reason::Priority);
        }
        self.explain(&progress)
    }

    pub(crate) fn into_plan(self) -> Plan {
        Plan { decisions: self.decisions, explanations: self.explanations }
    }

    fn begin(&mut self, job: &'a QueuedJob, position: u32) -> Progress<'a> {
        let key = ShapeKey::of(job);
        let shape = if let Some(known) = self.shape_of.get(&key) {
            *known
        } else {
            self.shapes.push(Shape::of(&self.world, job));
            self.shape_of.insert(key, self.shapes.len() - 1);
            self.shapes.len() - 1
        };
        Progress {
            job,
            shape,
            position,
            cursor: (0, 0),
            waiting: job.tasks.len(),
            reserved: 0,
            due: due(job, &self.world.snapshot.policy),
            planned: None,
            chosen_pools: BTreeMap::new(),
            chosen_offers: BTreeMap::new(),
            reason: None,
        }
    }

    /// Starts or reserves one more task, or finds that no more can be done for the job.
    fn advance(&mut self, progress: &mut Progress<'a>) -> Step {
        if progress.waiting == progress.reserved {
            return Step::Settled;
        }
        let started = match self.look(progress) {
            Look::Start(found) => self.start(progress, &found),
            Look::Launch { offer, local } => self.launch(progress, offer, local),
            Look::Wait(found) => return self.reserve(progress, found),
            Look::Blocked(reason) => {
                progress.reason.get_or_insert(reason);
                return Step::Settled;
            }
        };
        if started.is_err() {
            // The profile and the node's own arithmetic disagree; the node's word counts.
            progress.reason.get_or_insert(Reason::Resources);
            return Step::Settled;
        }
        self.starts_left -= 1;
        if progress.waiting == progress.reserved { Step::Settled } else { Step::More }
    }

    /// Keeps the nodes for one task from its start on. Tasks after the first get one only while they are in
    /// time and reservations are left, so that an array is laid out as far as it matters.
    fn reserve(&mut self, progress: &mut Progress<'a>, found: Found) -> Step {
        let late = found.start > progress.due.0.max(self.now());
        if progress.reserved > 0 {
            if late || self.spare_reservations == 0 {
                return Step::Settled;
            }
            self.spare_reservations -= 1;
        }
        let shape = &self.shapes[progress.shape];
        let until = found.start.saturating_add(span_ms(progress.job));
        for at in &found.fits {
            let fit = shape.fits[*at];
            self.timelines[fit.node].reserve(found.start, until, &shape.need, fit.mask);
        }
        progress.reserved += 1;
        progress.reason.get_or_insert(Reason::Resources);
        progress.planned.get_or_insert(found);
        if late || progress.waiting == progress.reserved { Step::Settled } else { Step::More }
    }
}

/// How long a task is thought to occupy its nodes; at least a millisecond, so that it occupies them at all.
pub(crate) fn span_ms(job: &QueuedJob) -> i64 {
    i64::try_from(job.estimate.0).unwrap_or(i64::MAX).max(1)
}
