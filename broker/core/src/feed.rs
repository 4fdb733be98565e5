//! Tells a planner what has changed: from the rows that were touched, never by looking at everything.
//!
//! Invariant: after every call the planner knows what [`crate::snapshot::take`] would have shown it, save two things.
//! What is in no row is handed over by whoever feeds it: [`crate::Federation::gatekeeper`] (`Planner::set_gate`), again
//! when groups, sites or pools have changed. And an estimate that follows from earlier runs is told again only when it
//! has moved by more than a tenth: every run that ends moves those of all jobs like it a little.

use std::collections::{BTreeMap, BTreeSet};

use spillway_policies::{Amounts, CloudOffer, Decision, GroupView, Planner, Target};
use spillway_types::{
    AttemptId, CloudName, DurationMs, GroupName, InstanceId, InstanceType, JobId, Market, NodeId, SiteName,
    UnixMs,
};

use crate::{Key, State, history, snapshot};

/// What an instance takes away from what its cloud offers.
type Offered = (CloudName, SiteName, InstanceType, Market);

/// What was told so far, as far as it is needed to tell only what is new.
#[derive(Debug, Default)]
pub struct Feed {
    /// What each attempt at work has, for its group's share.
    attempts: BTreeMap<AttemptId, (GroupName, Amounts)>,
    in_use: BTreeMap<GroupName, Amounts>,
    instances: BTreeMap<InstanceId, Offered>,
    alive: BTreeMap<Offered, u32>,
    /// The nodes of instances: they change with them.
    node_of: BTreeMap<InstanceId, NodeId>,
    alike: Alike,
}

/// Jobs that wait whose estimates follow from runs like theirs.
#[derive(Debug, Default)]
struct Alike {
    kind_of: BTreeMap<JobId, String>,
    /// Those of each kind, and the estimate that was told for them.
    kinds: BTreeMap<String, (BTreeSet<JobId>, DurationMs)>,
}

impl Alike {
    /// Counts the job while it waits.
    fn look_at(&mut self, state: &State, id: JobId) {
        let waits = state.jobs.get(&id).filter(|job| snapshot::waits(job) && job.spec.expected.is_none());
        if let (Some(job), false) = (waits, self.kind_of.contains_key(&id)) {
            let kind = history::kind(&job.spec);
            let estimate = state.history.estimate(&job.spec).duration;
            let (jobs, told) = self.kinds.entry(kind.clone()).or_default();
            jobs.insert(id);
            *told = estimate;
            self.kind_of.insert(id, kind);
        } else if waits.is_none()
            && let Some(kind) = self.kind_of.remove(&id)
            && let Some((jobs, _)) = self.kinds.get_mut(&kind)
        {
            jobs.remove(&id);
            if jobs.is_empty() {
                self.kinds.remove(&kind);
            }
        }
    }

    /// The jobs of the kind, where their estimate is another one by now.
    fn moved(&mut self, state: &State, kind: &str) -> BTreeSet<JobId> {
        let Some((jobs, told)) = self.kinds.get_mut(kind) else { return BTreeSet::new() };
        let job = jobs.first().and_then(|id| state.jobs.get(id));
        let Some(estimate) = job.map(|job| state.history.estimate(&job.spec).duration) else {
            return BTreeSet::new();
        };
        if estimate.0.abs_diff(told.0) <= told.0 / 10 {
            return BTreeSet::new();
        }
        *told = estimate;
        jobs.clone()
    }
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

    /// The rows that a decision is about: what has to be looked at again where it could not be carried out.
    #[must_use]
    pub fn named(decision: &Decision) -> Vec<Key> {
        let nodes = match &decision.target {
            Target::Nodes { parts } => parts.iter().map(|part| Key::Node(part.node)).collect(),
            Target::Launch { .. } => vec![],
        };
        std::iter::once(Key::Job(decision.job)).chain(nodes).collect()
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
                | Key::Period(_)
                | Key::SiteUsage(_)
                | Key::Rates(_)
                | Key::Currency(_)
                | Key::Limit(_)
                | Key::PoolBook(_)
                | Key::Submission(_) => {}
                Key::History(kind) => jobs.extend(self.alike.moved(state, kind)),
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
            self.alike.look_at(state, id);
            let job = state.jobs.get(&id).filter(|job| snapshot::waits(job));
            match job.and_then(|job| snapshot::within_limits(state, job, now)) {
                Some(job) => planner.set_job(job),
                None => planner.remove_job(id),
            }
        }
    }

    /// Counts what the attempt has for its group; gives the nodes where it has parts.
    fn look_at_attempt(&mut self, state: &State, id: AttemptId) -> Vec<NodeId> {
        if let Some((group, amounts)) = self.attempts.remove(&id)
            && let Some(sum) = self.in_use.get_mut(&group)
        {
            *sum = sum.less(amounts);
        }
        let Some(attempt) = state.attempts.get(&id) else { return vec![] };
        if attempt.ended.is_none() {
            let amounts = snapshot::amounts(attempt);
            self.attempts.insert(id, (attempt.group.clone(), amounts));
            let sum = self.in_use.entry(attempt.group.clone()).or_default();
            *sum = sum.plus(amounts);
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
            in_use: self.in_use.get(&group.name).copied().unwrap_or_default(),
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
