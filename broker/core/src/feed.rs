//! Tells a planner what has changed: from the rows that were touched, never by looking at everything.
//!
//! Invariant: after every call the planner knows what [`crate::snapshot::take`] would have shown it, save what is in no
//! row: whoever feeds it hands over [`crate::Federation::gatekeeper`] (`Planner::set_gate`), again when groups, sites or
//! pools have changed.

use std::collections::{BTreeMap, BTreeSet};

use spillway_policies::{CloudOffer, GroupView, Planner};
use spillway_types::{
    AttemptId, CloudName, GroupName, InstanceId, InstanceType, JobId, Market, NodeId, SiteName, UnixMs,
};

use crate::{Key, State, snapshot};

/// What an instance takes away from what its cloud offers.
type Offered = (CloudName, SiteName, InstanceType, Market);

/// What was told so far, as far as it is needed to tell only what is new.
#[derive(Debug, Default)]
pub struct Feed {
    /// What each attempt at work has, for its group's share.
    attempts: BTreeMap<AttemptId, (GroupName, u64)>,
    blocks: BTreeMap<GroupName, u64>,
    instances: BTreeMap<InstanceId, Offered>,
    alive: BTreeMap<Offered, u32>,
    /// The nodes of instances: they change with them.
    node_of: BTreeMap<InstanceId, NodeId>,
}

impl Feed {
    /// The rows of `state` that a planner hears of: for the first call.
    #[must_use]
    pub fn everything(state: &State) -> BTreeSet<Key> {
        let nodes = state.nodes.keys().copied().map(Key::Node);
        let jobs = state.jobs.keys().copied().map(Key::Job);
        let attempts = state.attempts.keys().copied().map(Key::Attempt);
        let instances = state.instances.keys().copied().map(Key::Instance);
        nodes.chain(jobs).chain(attempts).chain(instances).collect()
    }

    /// Tells `planner` what has become of the rows in `touched`, and what clouds would launch now.
    pub fn tell(
        &mut self,
        planner: &mut Planner,
        (state, offers): (&State, &[CloudOffer]),
        touched: &BTreeSet<Key>,
        now: UnixMs,
    ) {
        let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
        let mut jobs: BTreeSet<JobId> = BTreeSet::new();
        for key in touched {
            match key {
                Key::Node(id) => {
                    nodes.insert(*id);
                }
                Key::Job(id) => {
                    jobs.insert(*id);
                }
                Key::Attempt(id) => nodes.extend(self.look_at_attempt(state, *id)),
                Key::Instance(id) => nodes.extend(self.look_at_instance(state, *id)),
                Key::Site(_) | Key::Pool(_) | Key::Group(_) => nodes.extend(state.nodes.keys()),
                Key::Meta
                | Key::User(_)
                | Key::Token(_)
                | Key::JoinToken(_)
                | Key::Submission(_)
                | Key::History(_)
                | Key::Limit(_) => {}
            }
        }
        // What limits refused may fit by now.
        jobs.extend(state.waits.jobs());
        planner.set_groups(self.groups(state));
        planner.set_offers(self.left_of(offers));
        for key in touched {
            if let Key::Instance(id) = key {
                let instance = state.instances.get(id);
                match instance.and_then(|instance| snapshot::booting(state, offers, instance)) {
                    Some(view) => planner.set_node(view, now),
                    None => planner.remove_node(snapshot::node_to_be(*id)),
                }
            }
        }
        for id in nodes {
            match state.nodes.get(&id).and_then(|node| snapshot::view(state, node)) {
                Some(view) => planner.set_node(view, now),
                None => planner.remove_node(id),
            }
        }
        for id in jobs {
            let job = state.jobs.get(&id).filter(|job| snapshot::waits(job));
            match job.and_then(|job| snapshot::within_limits(state, job, now)) {
                Some(job) => planner.set_job(job),
                None => planner.remove_job(id),
            }
        }
    }

    /// Counts what the attempt has for its group; gives the nodes where it has parts.
    fn look_at_attempt(&mut self, state: &State, id: AttemptId) -> Vec<NodeId> {
        if let Some((group, blocks)) = self.attempts.remove(&id)
            && let Some(sum) = self.blocks.get_mut(&group)
        {
            *sum = sum.saturating_sub(blocks);
        }
        let Some(attempt) = state.attempts.get(&id) else { return vec![] };
        if attempt.ended.is_none() {
            let blocks = attempt.parts.iter().map(|part| part.allocation.blocks()).sum::<u64>();
            self.attempts.insert(id, (attempt.group.clone(), blocks));
            *self.blocks.entry(attempt.group.clone()).or_default() += blocks;
        }
        attempt.parts.iter().filter_map(|part| part.node).collect()
    }

    /// Counts the instance while it is alive; gives the nodes that it is and was.
    fn look_at_instance(&mut self, state: &State, id: InstanceId) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.node_of.remove(&id).into_iter().collect();
        let Some(instance) = state.instances.get(&id) else {
            if let Some(offered) = self.instances.remove(&id)
                && let Some(count) = self.alive.get_mut(&offered)
            {
                *count = count.saturating_sub(1);
            }
            return nodes;
        };
        if !self.instances.contains_key(&id) {
            let offered = (
                instance.cloud.clone(),
                instance.site.clone(),
                instance.instance_type.clone(),
                instance.market,
            );
            *self.alive.entry(offered.clone()).or_default() += 1;
            self.instances.insert(id, offered);
        }
        if let Some(node) = instance.node {
            self.node_of.insert(id, node);
            nodes.push(node);
        }
        nodes
    }

    fn groups(&self, state: &State) -> BTreeMap<GroupName, GroupView> {
        let view = |group: &crate::entity::Group| GroupView {
            priority: group.priority,
            weight: group.weight,
            blocks_in_use: self.blocks.get(&group.name).copied().unwrap_or(0),
            budget_left: state.book.left(&group.name),
        };
        state.groups.values().map(|group| (group.name.clone(), view(group))).collect()
    }

    fn left_of(&self, offers: &[CloudOffer]) -> Vec<CloudOffer> {
        let mut left = offers.to_vec();
        for offer in &mut left {
            let offered =
                (offer.cloud.clone(), offer.site.clone(), offer.instance_type.clone(), offer.terms.market);
            let alive = self.alive.get(&offered).copied().unwrap_or(0);
            offer.available = offer.available.saturating_sub(alive);
        }
        left
    }
}
