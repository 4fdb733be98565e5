//! The planner: what it knows of the federation, kept up change by change, and the plan it makes of it.

use std::collections::{BTreeMap, BTreeSet};

use spillway_types::{DataMap, DatasetName, FreeResources, GroupName, JobId, UnixMs};

use crate::board::{Board, Mark};
use crate::courses::Courses;
use crate::fleet::Fleet;
use crate::fragmentation::TaskMix;
use crate::gate::Gatekeeper;
use crate::item::{Item, age, bound};
use crate::lay::{Ground, Here, Laid, Spot};
use crate::occupancy::{Counted, Occupancy};
use crate::offer::Offer;
use crate::order::{Front, Lines, Share, Shares};
use crate::promise::News;
use crate::shape::{Shape, ShapeKey};
use crate::{Burst, Decision, Displacement, GroupView, Policy, QueuedJob, Snapshot};

/// After so many tasks it is asked whether there is time for more.
const ASKS_EVERY: usize = 64;
/// So many tasks of one array count for what is typical: more would drown what others ask.
pub(crate) const MOST_SIGHTINGS: u64 = 32;

/// What the planner knows, and the plan that it made last.
///
/// It reads no clock and draws no random number: the same calls in the same order give the same plans.
#[derive(Debug)]
pub struct Planner {
    pub(crate) policy: Policy,
    pub(crate) now: i64,
    pub(crate) fleet: Fleet,
    pub(crate) offers: Vec<Offer>,
    pub(crate) data: DataMap,
    /// How many waiting jobs read each dataset.
    pub(crate) readers: BTreeMap<DatasetName, u32>,
    pub(crate) gate: Option<Gatekeeper>,
    pub(crate) groups: BTreeMap<GroupName, GroupView>,
    pub(crate) group_numbers: BTreeMap<GroupName, usize>,
    pub(crate) shares: Vec<Share>,
    /// What is typically asked of accelerators, for where fractions lose least.
    pub(crate) mix: TaskMix,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) shape_of: BTreeMap<ShapeKey, usize>,
    pub(crate) items: Vec<Option<Item>>,
    pub(crate) slots: BTreeMap<JobId, usize>,
    pub(crate) vacant: Vec<usize>,
    pub(crate) lines: Lines,
    pub(crate) board: Board,
    /// Nodes whose profiles on the board are not what they are.
    pub(crate) changed_nodes: BTreeSet<usize>,
    /// Jobs that have come since the last plan.
    pub(crate) fresh: Vec<usize>,
    /// Jobs that leave for clouds, out of their lines.
    pub(crate) away: Vec<usize>,
    /// Whether something has ended sooner or later than was thought since the last plan.
    pub(crate) off_estimate: bool,
    /// Whether a node has left or closed since the last plan.
    pub(crate) lost_room: bool,
    pub(crate) layout: Layout,
    pub(crate) displacements: Vec<Displacement>,
    /// How much is taken when, by what ran and was planned before the present layout was made.
    pub(crate) occupancies: Vec<Occupancy>,
    pub(crate) courses: Courses,
    /// Slots that the layout still names, of jobs that wait no more.
    pub(crate) retired: Vec<usize>,
    /// What is left of nodes where the present layout starts something now.
    pub(crate) given: BTreeMap<usize, FreeResources>,
    /// Changed nodes on which nothing more is laid until the next plan.
    pub(crate) closed: BTreeSet<usize>,
    /// Whether something has changed that only a whole plan takes in.
    pub(crate) outdated: bool,
}

/// A laid queue.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// The slot of each task that was looked at, in order.
    pub(crate) sequence: Vec<usize>,
    /// Where each goes; parallel to `sequence`.
    pub(crate) laid: Vec<Laid>,
    /// What the board was before each; parallel to `sequence`.
    pub(crate) marks: Vec<Mark>,
    /// How many of them were looked at before the plan had all the starts that it may have.
    pub(crate) looked_at: usize,
    /// Whether there was no time for the rest of the queue.
    pub(crate) is_cut: bool,
}

impl Planner {
    /// A planner that knows nothing yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            now: 0,
            fleet: Fleet::default(),
            offers: Vec::new(),
            data: DataMap::default(),
            readers: BTreeMap::new(),
            gate: None,
            groups: BTreeMap::new(),
            group_numbers: BTreeMap::new(),
            shares: Vec::new(),
            mix: TaskMix::default(),
            shapes: Vec::new(),
            shape_of: BTreeMap::new(),
            items: Vec::new(),
            slots: BTreeMap::new(),
            vacant: Vec::new(),
            lines: Lines::default(),
            board: Board::default(),
            changed_nodes: BTreeSet::new(),
            fresh: Vec::new(),
            away: Vec::new(),
            off_estimate: false,
            lost_room: false,
            layout: Layout::default(),
            displacements: Vec::new(),
            occupancies: Vec::new(),
            courses: Courses::default(),
            retired: Vec::new(),
            given: BTreeMap::new(),
            closed: BTreeSet::new(),
            outdated: true,
        }
    }

    /// A planner that knows what the snapshot says, and that the jobs came in the order of their age.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut planner = Self::new(snapshot.policy.clone());
        planner.now = snapshot.now.0;
        planner.set_gate(snapshot.gate.clone());
        planner.set_groups(snapshot.groups.clone());
        planner.set_data(&snapshot.data);
        planner.set_offers(snapshot.offers.clone());
        for node in &snapshot.nodes {
            planner.set_node(node.clone(), snapshot.now);
        }
        let mut queue: Vec<&QueuedJob> = snapshot.queue.iter().collect();
        queue.sort_by_key(|job| age(job));
        for job in queue {
            planner.set_job(job.clone());
        }
        planner
    }

    /// Lays the whole queue anew, looks for a better order, and says what starts now. `go_on` is asked all the time:
    /// where it says no, the best plan found so far is the plan, and what was not reached keeps its place.
    pub fn plan(&mut self, now: UnixMs, go_on: &mut dyn FnMut() -> bool) -> Vec<Decision> {
        let came = !self.fresh.is_empty();
        self.note_occupancy(self.now, now.0);
        self.clear_board(now);
        self.take_leavers_back();
        self.count_readers();
        let sequence = self.sequence();
        self.lay_while(&sequence, (&[], f64::INFINITY), go_on);
        self.layout.is_cut = self.layout.sequence.len() < sequence.len();
        if !self.layout.is_cut {
            let tries = self.tries();
            self.search(tries, go_on);
            self.lay_leavers();
        }
        self.fresh.clear();
        let lost_room = std::mem::take(&mut self.lost_room);
        let off_estimate = std::mem::take(&mut self.off_estimate);
        self.note_promises(News { lost_room, off_estimate, came });
        self.displacements = self.displace();
        self.decide(0)
    }

    /// The policy by which it plans.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the last plan stops.
    pub fn take_displacements(&mut self) -> Vec<Displacement> {
        std::mem::take(&mut self.displacements)
    }

    /// Notes what is taken from `now` on: by what runs, and by what the layout starts after `since`.
    pub(crate) fn note_occupancy(&mut self, since: i64, now: i64) {
        let mut changes: Vec<Vec<(i64, i64)>> =
            self.fleet.kinds.iter().map(|kind| kind.changes(now)).collect();
        let mut counted: Vec<(usize, Counted)> = Vec::new();
        let ground = self.ground();
        for (slot, laid) in self.layout.sequence.iter().zip(&self.layout.laid) {
            let (Spot::Here(here), Some(item)) = (&laid.spot, self.item(*slot)) else { continue };
            if here.start <= since {
                continue;
            }
            for node in &here.nodes {
                let Some(machine) = self.fleet.machine(*node) else { continue };
                let amount = self.fleet.kinds[machine.kind].needs(&self.shapes[item.shape].need);
                let (start, end) = (here.start, here.start.saturating_add(ground.span_on(item, *node)));
                changes[machine.kind].extend([(start, amount), (end, -amount)]);
                counted.push((*slot, Counted { kind: machine.kind, start, end, amount }));
            }
        }
        self.occupancies = self
            .fleet
            .kinds
            .iter()
            .zip(changes)
            .map(|(kind, changes)| Occupancy::of(now, kind.whole_of_all(), changes))
            .collect();
        self.courses = Courses::of(now, &self.occupancies);
        self.items.iter_mut().flatten().for_each(|item| item.counted.clear());
        for (slot, own) in counted {
            if let Some(Some(item)) = self.items.get_mut(slot) {
                item.counted.push(own);
            }
        }
    }

    /// Prices those anew whose data is read by more or fewer than before.
    fn count_readers(&mut self) {
        if self.readers.values().all(|readers| *readers == 0) {
            return;
        }
        for slot in 0..self.items.len() {
            let Some(item) = self.items[slot].as_ref().filter(|item| !item.job.inputs.is_empty()) else {
                continue;
            };
            let readers = self.readers_of(&item.job);
            if let Some(item) = self.items[slot].as_mut().filter(|item| item.readers != readers) {
                item.readers = readers;
                item.price(&self.shapes[item.shape], &self.offers);
            }
        }
    }

    /// Those that were to leave and are still here stand at the end of their lines again.
    fn take_leavers_back(&mut self) {
        for slot in std::mem::take(&mut self.away) {
            if let Some(item) = self.items[slot].as_ref() {
                let key = self.line_of(item);
                self.lines.push(key, slot, &self.items);
            }
        }
    }

    /// How many other orders are worth trying: all that the policy allows where a job has come that does not start
    /// now, half of them where something ended off its estimate, none where all goes as planned.
    fn tries(&self) -> u32 {
        let mut fresh = vec![false; self.items.len()];
        self.fresh.iter().for_each(|slot| fresh[*slot] = true);
        let laid = self.layout.sequence.iter().zip(&self.layout.laid);
        // The first task of each speaks for all.
        let mut firsts = laid.filter(|(slot, _)| std::mem::take(&mut fresh[**slot]));
        let waits = firsts.any(|(_, laid)| match &laid.spot {
            Spot::Here(here) => here.start > self.now,
            Spot::Launch(_) => true,
            Spot::Blocked(_) => false,
        });
        if waits {
            self.policy.search
        } else if self.off_estimate {
            self.policy.search / 2
        } else {
            0
        }
    }

    /// Takes everything off the board and brings it up to date.
    fn clear_board(&mut self, now: UnixMs) {
        self.now = now.0;
        self.layout = Layout::default();
        self.vacant.append(&mut self.retired);
        self.changed_nodes.append(&mut self.closed);
        self.outdated = false;
        self.board.drop_back(Mark::default());
        let overdue = self.fleet.review(now);
        self.off_estimate |= !overdue.is_empty();
        self.changed_nodes.extend(overdue);
        for number in std::mem::take(&mut self.changed_nodes) {
            self.board.set_node(&self.fleet, number);
        }
        for shape in &mut self.shapes {
            shape.extend(&self.fleet, &self.offers, (&self.policy, &self.data));
        }
        self.board.offers_left = self.offers.iter().map(|offer| offer.view.available).collect();
        self.board.purses.clear();
        self.fill_purses();
    }

    /// Gives groups that have no purse yet what they have left.
    pub(crate) fn fill_purses(&mut self) {
        let known = self.board.purses.len();
        if known == self.shares.len() {
            return;
        }
        self.board.purses.resize(self.shares.len(), i64::MAX);
        for (name, number) in self.group_numbers.iter().filter(|(_, number)| **number >= known) {
            let left = self.groups.get(name).and_then(|view| view.budget_left);
            self.board.purses[*number] = left.unwrap_or(i64::MAX);
        }
    }

    pub(crate) fn sequence(&self) -> Vec<usize> {
        let front = Front { jobs: self.policy.max_jobs, tasks: self.policy.max_starts };
        let shares = Shares { of: &self.shares, all: self.fleet.amounts() };
        self.lines.sequence(&self.items, shares, front)
    }

    /// Takes the layout off the board from a place on.
    pub(crate) fn unlay(&mut self, first: usize) {
        if let Some(mark) = self.layout.marks.get(first).copied() {
            self.board.drop_back(mark);
        }
        self.layout.sequence.truncate(first);
        self.layout.laid.truncate(first);
        self.layout.marks.truncate(first);
    }

    /// Lays `sequence`, keeping what it has in common with what is laid. Gives the cost; it stops where that, with the
    /// `least` that the rest can cost by slot, reaches `most`.
    pub(crate) fn lay_to(&mut self, sequence: &[usize], least: &[f64], most: f64) -> f64 {
        self.lay_while(sequence, (least, most), &mut || true)
    }

    /// The same while `go_on` says so; what is laid by then stays.
    fn lay_while(
        &mut self,
        sequence: &[usize],
        (least, most): (&[f64], f64),
        go_on: &mut dyn FnMut() -> bool,
    ) -> f64 {
        let common = sequence.iter().zip(&self.layout.sequence).take_while(|(new, old)| new == old).count();
        self.unlay(common);
        let mut cost: f64 = self.layout.laid.iter().map(|laid| laid.cost).sum();
        let least_of = |slot: &usize| least.get(*slot).copied().unwrap_or(0.0);
        let mut rest: f64 = sequence[common..].iter().map(least_of).sum();
        for (at, slot) in sequence[common..].iter().enumerate() {
            if cost + rest >= most || (at > 0 && at.is_multiple_of(ASKS_EVERY) && !go_on()) {
                return f64::INFINITY;
            }
            rest -= least_of(slot);
            cost += self.lay_next(*slot);
        }
        cost
    }

    /// Lays one task behind all that is laid, and gives its cost.
    pub(crate) fn lay_next(&mut self, slot: usize) -> f64 {
        let ground = Ground {
            now: self.now,
            fleet: &self.fleet,
            shapes: &self.shapes,
            mix: &self.mix,
            offers: &self.offers,
            occupancies: &self.occupancies,
            courses: &self.courses,
        };
        let Some(item) = self.items[slot].as_ref() else { return 0.0 };
        let Layout { sequence: known, laid, marks, .. } = &mut self.layout;
        marks.push(self.board.mark());
        let follows = known.last() == Some(&slot) && item.launches.is_empty() && waits(laid.last(), self.now);
        let placed = if follows {
            Laid { spot: Spot::Blocked(spillway_types::Reason::Resources), cost: 0.0 }
        } else {
            ground.lay(&mut self.board, item)
        };
        let cost = placed.cost;
        known.push(slot);
        laid.push(placed);
        cost
    }

    /// Lays those that leave after all others: they go to clouds whatever is free here.
    fn lay_leavers(&mut self) {
        let ground = Ground {
            now: self.now,
            fleet: &self.fleet,
            shapes: &self.shapes,
            mix: &self.mix,
            offers: &self.offers,
            occupancies: &self.occupancies,
            courses: &self.courses,
        };
        for slot in &self.away {
            let Some(item) = self.items[*slot].as_ref() else { continue };
            self.layout.marks.push(self.board.mark());
            self.layout.sequence.push(*slot);
            self.layout.laid.push(ground.leave(&mut self.board, item));
        }
    }

    /// Until when a job has started or has left for a cloud, where one can take it; none where it never leaves. The
    /// planner need not know the job.
    #[must_use]
    pub fn bound(&self, job: &QueuedJob) -> Option<UnixMs> {
        let terms = self.policy.terms(job.class.as_ref());
        (terms.burst != Burst::Never).then(|| UnixMs(bound(job, &terms)))
    }

    /// When the plan should be made again even if nothing is heard: a planned start, or something that should have
    /// ended by then.
    #[must_use]
    pub fn wake_at(&self) -> Option<UnixMs> {
        if self.slots.is_empty() {
            return None;
        }
        let starts = self.layout.laid.iter().filter_map(|laid| match &laid.spot {
            Spot::Here(Here { start, .. }) if *start > self.now => Some(UnixMs(*start)),
            Spot::Here(_) | Spot::Launch(_) | Spot::Blocked(_) => None,
        });
        let ahead = self.layout.sequence.iter().zip(&self.layout.laid).filter_map(|(slot, laid)| {
            let blocked = matches!(laid.spot, Spot::Blocked(_));
            let until = self.item(*slot).filter(|_| blocked)?.progress(&self.offers)?.ahead_until;
            (until > self.now).then_some(UnixMs(until))
        });
        starts.chain(self.fleet.next_review()).chain(ahead).min()
    }

    /// A job that waits, by its id.
    pub(crate) fn slot_of(&self, job: JobId) -> Option<usize> {
        self.slots.get(&job).copied()
    }

    pub(crate) fn item(&self, slot: usize) -> Option<&Item> {
        self.items.get(slot).and_then(Option::as_ref)
    }
}

/// Whether a task has a start that is still to come, or none.
fn waits(laid: Option<&Laid>, now: i64) -> bool {
    laid.is_some_and(|laid| match &laid.spot {
        Spot::Here(here) => here.start > now,
        Spot::Launch(_) => false,
        Spot::Blocked(_) => true,
    })
}
