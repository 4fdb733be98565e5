//! What the planner is told, change by change: the policy, the gate, nodes, offers, data, groups and jobs.
//!
//! Each call costs what it changes, save where all jobs have to be compiled anew: another policy, other data, other
//! priorities.

use std::collections::BTreeMap;

use spillway_types::{DataMap, GroupName, JobId, NodeId, UnixMs};

use crate::gate::Gatekeeper;
use crate::item::{Item, standing};
use crate::offer::Offer;
use crate::order::{LineKey, Lines, Share};
use crate::planner::{Layout, MOST_SIGHTINGS, Planner};
use crate::policy::ComeHome;
use crate::shape::{Shape, ShapeKey, ask_of};
use crate::{CloudOffer, GroupView, NodeView, Policy, QueuedJob};

impl Planner {
    /// Replaces the policy.
    pub fn set_policy(&mut self, policy: Policy) {
        if policy == self.policy {
            return;
        }
        self.policy = policy;
        self.shapes.clear();
        self.shape_of.clear();
        self.rebuild_jobs();
    }

    /// Replaces who says where jobs may run; without one every job may run anywhere.
    pub fn set_gate(&mut self, gate: Option<Gatekeeper>) {
        if gate == self.gate {
            return;
        }
        self.gate = gate;
        self.shapes.clear();
        self.shape_of.clear();
        self.rebuild_jobs();
    }

    /// Leaves nothing out of the next plan, however long the queue is.
    pub(crate) const fn look_at_all(&mut self) {
        self.policy.max_jobs = usize::MAX;
        self.policy.max_starts = usize::MAX;
    }

    /// Takes in a node that is new or has changed.
    pub fn set_node(&mut self, node: NodeView, now: UnixMs) {
        if self.fleet.is_as_known(&node, now) {
            return;
        }
        self.off_estimate |= self.fleet.ended_off_estimate(&node, now);
        self.lost_room |= self.fleet.loses_room(&node);
        let sets = self.fleet.pool_sets();
        let number = self.fleet.set(node, now);
        self.changed_nodes.insert(number);
        if self.fleet.pool_sets() > sets {
            self.shape_anew();
        }
    }

    /// A node has left.
    pub fn remove_node(&mut self, node: NodeId) {
        let left = self.fleet.remove(node);
        self.lost_room |= left.is_some();
        self.changed_nodes.extend(left);
    }

    /// Replaces what clouds would launch.
    pub fn set_offers(&mut self, offers: Vec<CloudOffer>) {
        let same = self.offers.len() == offers.len()
            && self.offers.iter().zip(&offers).all(|(known, new)| {
                CloudOffer { available: 0, ..known.view.clone() }
                    == CloudOffer { available: 0, ..new.clone() }
            });
        if same {
            for (known, new) in self.offers.iter_mut().zip(offers) {
                known.view.available = new.available;
            }
            return;
        }
        self.outdated = true;
        self.offers = offers.into_iter().map(Offer::of).collect();
        for shape in &mut self.shapes {
            shape.offers.clear();
            shape.extend(&self.fleet, &self.offers, (&self.policy, &self.data));
        }
        self.price_all();
    }

    /// Replaces what is known of where data lies.
    pub fn set_data(&mut self, data: &DataMap) {
        if *data == self.data {
            return;
        }
        self.data = data.clone();
        self.shapes.clear();
        self.shape_of.clear();
        self.rebuild_jobs();
    }

    /// Replaces what is known of the groups.
    pub fn set_groups(&mut self, groups: BTreeMap<GroupName, GroupView>) {
        let priority = |groups: &BTreeMap<_, GroupView>| -> Vec<(GroupName, i32)> {
            let of = |(name, view): (&GroupName, &GroupView)| (name.clone(), view.priority);
            groups.iter().map(of).filter(|(_, priority)| *priority != 0).collect()
        };
        let moved = priority(&groups) != priority(&self.groups);
        self.groups = groups;
        for (name, number) in &self.group_numbers {
            let view = standing(&self.groups, name);
            self.shares[*number] = Share { used: view.in_use, weight: view.weight };
        }
        if moved {
            self.rebuild_jobs();
        }
    }

    /// Takes in a job with tasks that wait, new or changed. A new one stands at the end of its line.
    pub fn set_job(&mut self, job: QueuedJob) {
        let mut kept = None;
        if let Some(slot) = self.slots.get(&job.job).copied() {
            let same = self.items[slot]
                .as_ref()
                .is_some_and(|item| QueuedJob { tasks: item.job.tasks.clone(), ..job.clone() } == job);
            if same {
                let item = self.items[slot].as_mut().expect("a slot that is known holds its job");
                item.job = job;
                return;
            }
            kept = self.items[slot].as_ref().map(|item| (item.promise, item.delay));
            self.remove_job(job.job);
        }
        job.inputs.iter().for_each(|input| *self.readers.entry(input.clone()).or_default() += 1);
        let mut item = self.compile(job);
        if let Some((promise, delay)) = kept {
            (item.promise, item.delay) = (promise, delay);
        }
        if kept.is_none()
            && let Some(ask) = &self.shapes[item.shape].ask
        {
            (0..item.job.tasks.len().min(MOST_SIGHTINGS)).for_each(|_| self.mix.see(ask));
        }
        let (key, id) = (self.line_of(&item), item.job.job);
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.items.push(None);
            self.items.len() - 1
        });
        self.items[slot] = Some(item);
        self.slots.insert(id, slot);
        self.lines.push(key, slot, &self.items);
        self.fresh.push(slot);
    }

    /// No task of the job waits any more.
    pub fn remove_job(&mut self, job: JobId) {
        let Some(slot) = self.slots.remove(&job) else { return };
        if let Some(item) = self.items[slot].take() {
            self.lines.remove(self.line_of(&item), slot);
            for input in &item.job.inputs {
                if let Some(readers) = self.readers.get_mut(input) {
                    *readers = readers.saturating_sub(1);
                }
            }
        }
        self.fresh.retain(|other| *other != slot);
        self.away.retain(|other| *other != slot);
        self.retired.push(slot);
    }

    /// Whether something runs on an instance that might come home: then a plan is worth making although nothing waits.
    #[must_use]
    pub fn has_travellers(&self) -> bool {
        let movable = |part: &crate::RunningPart| {
            let owner = part.owner.as_ref();
            owner.is_some_and(|owner| matches!(owner.asks.restarts, crate::Restarts::FromCheckpoint { .. }))
        };
        self.policy.come_home == ComeHome::WhenWorth
            && self.fleet.rented().any(|machine| machine.view.running.iter().any(movable))
    }

    /// How many jobs wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.slots.len()
    }

    /// How many tasks the plan has reached.
    #[must_use]
    pub const fn laid(&self) -> usize {
        self.layout.laid.len()
    }

    pub(crate) fn line_of(&self, item: &Item) -> LineKey {
        let priority =
            item.terms.priority.unwrap_or_else(|| standing(&self.groups, &item.job.group).priority);
        LineKey::of(item, priority, self.policy.sharing)
    }

    pub(crate) fn compile(&mut self, job: QueuedJob) -> Item {
        let group = self.group_number(&job.group);
        let shape = self.shape_number(&job);
        let mut item = Item::of(job, shape, group, &self.policy);
        self.shapes[shape].extend(&self.fleet, &self.offers, (&self.policy, &self.data));
        item.readers = self.readers_of(&item.job);
        item.price(&self.shapes[shape], &self.offers);
        item
    }

    /// How many waiting jobs share what bringing this one's data costs: as many as read the least read of its inputs.
    pub(crate) fn readers_of(&self, job: &QueuedJob) -> u32 {
        let readers = job.inputs.iter().map(|input| self.readers.get(input).copied().unwrap_or(0));
        readers.min().unwrap_or(1).max(1)
    }

    pub(crate) fn shape_number(&mut self, job: &QueuedJob) -> usize {
        let spot = self.policy.terms(job.class.as_ref()).spot;
        let (shapes, gate, fleet) = (&mut self.shapes, self.gate.as_ref(), &self.fleet);
        *self.shape_of.entry(ShapeKey::of(job, spot, fleet).at(gate, job)).or_insert_with(|| {
            let mut shape = Shape::of(job, spot).at(gate);
            shape.ask = ask_of(job, fleet);
            shapes.push(shape);
            shapes.len() - 1
        })
    }

    /// Gathers the jobs into shapes again: groups that were alike are so no more.
    fn shape_anew(&mut self) {
        self.shapes.clear();
        self.shape_of.clear();
        for slot in 0..self.items.len() {
            let Some(mut item) = self.items[slot].take() else { continue };
            item.shape = self.shape_number(&item.job);
            self.shapes[item.shape].extend(&self.fleet, &self.offers, (&self.policy, &self.data));
            self.items[slot] = Some(item);
        }
    }

    pub(crate) fn group_number(&mut self, name: &GroupName) -> usize {
        if let Some(known) = self.group_numbers.get(name) {
            return *known;
        }
        let view = standing(&self.groups, name);
        self.shares.push(Share { used: view.in_use, weight: view.weight });
        self.board.purses.push(view.budget_left.unwrap_or(i64::MAX));
        self.group_numbers.insert(name.clone(), self.shares.len() - 1);
        self.shares.len() - 1
    }

    /// Compiles every job again, in the order in which they stand.
    pub(crate) fn rebuild_jobs(&mut self) {
        let jobs: Vec<QueuedJob> = {
            let slots = self.lines.slots().chain(self.away.iter().copied());
            slots.filter_map(|slot| Some(self.items[slot].as_ref()?.job.clone())).collect()
        };
        self.lines = Lines::default();
        (self.items, self.vacant, self.fresh, self.away) = Default::default();
        self.readers.clear();
        (self.layout, self.retired, self.outdated) = (Layout::default(), Vec::new(), true);
        self.slots.clear();
        for job in jobs {
            self.set_job(job);
        }
    }

    pub(crate) fn price_all(&mut self) {
        for item in self.items.iter_mut().flatten() {
            item.price(&self.shapes[item.shape], &self.offers);
        }
    }
}
