//! What the planner sees of the state.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use spillway_policies::{
    CloudOffer, GroupView, NodePrice, NodeView, Policy, QueuedJob, RunningPart, Snapshot,
};
use spillway_types::{
    DurationMs, FreeResources, GroupName, Held, InstanceState, JobId, JobSpec, NodeState, Standing, UnixMs,
};

use crate::State;
use crate::entity::{Attempt, Job, Node};

/// The front of the queue, every node that has said hello, and `offers`, as they are at `now`.
#[must_use]
pub fn take(state: &State, offers: &[CloudOffer], policy: &Policy, now: UnixMs) -> Snapshot {
    Snapshot {
        now,
        queue: queue(state, policy.max_jobs),
        nodes: state.nodes.values().filter_map(|node| view(state, node)).collect(),
        offers: left_of(state, offers),
        groups: groups(state),
        policy: policy.clone(),
    }
}

/// The first `most` jobs of each group that wait, those on top before the oldest: a plan looks at no more of all
/// of them, whatever the order of the groups, so that a long queue costs no more than its front. Held jobs are not
/// planned, so they are left out: they take no room in it, nor in what is planned for others.
fn queue(state: &State, most: usize) -> Vec<QueuedJob> {
    let mut taken: BTreeMap<&GroupName, usize> = BTreeMap::new();
    let waiting = || state.jobs.values().filter(|job| waits(job));
    let mut on_top: Vec<&Job> = waiting().filter(|job| !job.standing.is_plain()).collect();
    on_top.sort_by_key(|job| Reverse(job.standing));
    let waiting = on_top.into_iter().chain(waiting().filter(|job| job.standing.is_plain()));
    let front = waiting.filter(|job| {
        let count = taken.entry(&job.spec.group).or_default();
        *count += 1;
        *count <= most
    });
    front.map(|job| queued_job(state, job)).collect()
}

/// Whether tasks of the job wait to be placed.
pub(crate) fn waits(job: &Job) -> bool {
    !job.queued.is_empty() && !job.cancel_requested && job.held.is_none()
}

/// The offers less what of them is alive already.
fn left_of(state: &State, offers: &[CloudOffer]) -> Vec<CloudOffer> {
    let mut left = offers.to_vec();
    for instance in state.instances.values() {
        let same = |offer: &&mut CloudOffer| {
            offer.site == instance.site
                && offer.instance_type == instance.instance_type
                && offer.cloud == instance.cloud
        };
        if let Some(offer) = left.iter_mut().find(same) {
            offer.available = offer.available.saturating_sub(1);
        }
    }
    left
}

/// The same without queue and with every node free: for asking what could ever run.
#[must_use]
pub(crate) fn when_empty(state: &State, offers: &[CloudOffer], now: UnixMs) -> Snapshot {
    let mut snapshot = take(state, offers, &Policy::default(), now);
    snapshot.queue.clear();
    snapshot.offers = offers.to_vec();
    snapshot.groups.values_mut().for_each(|group| group.budget_left = None);
    for node in &mut snapshot.nodes {
        node.free = FreeResources::all_of(&node.capacity);
        node.running.clear();
    }
    snapshot
}

/// A job as the planner sees it before it is submitted, which is thought to be at `since`.
#[must_use]
pub fn queued(state: &State, id: JobId, spec: &JobSpec, since: UnixMs) -> QueuedJob {
    QueuedJob {
        job: id,
        group: spec.group.clone(),
        since,
        tasks: spec.task_indexes(),
        resources: spec.resources.clone(),
        nodes: spec.nodes,
        needs_container: spec.image.is_some(),
        estimate: state.history.estimate(spec).duration,
        longest: DurationMs(spec.time_limit.0 + spec.checkpoint.grace.0),
        placement: spec.placement.clone(),
        class: spec.class.clone(),
        deadline: spec.deadline.map(|deadline| deadline.instant(since)),
        grace: spec.checkpoint.grace,
        held: Held::No,
        standing: Standing::Plain,
    }
}

/// A job with tasks that wait, as the planner sees it.
#[must_use]
pub fn queued_job(state: &State, job: &Job) -> QueuedJob {
    QueuedJob {
        tasks: job.queued.clone(),
        deadline: job.spec.deadline.map(|deadline| deadline.instant(job.submitted)),
        held: if job.held.is_some() { Held::Yes } else { Held::No },
        standing: job.standing,
        ..queued(state, job.id, &job.spec, job.since)
    }
}

pub(crate) fn view(state: &State, node: &Node) -> Option<NodeView> {
    let inventory = node.inventory.as_ref()?;
    let site = state.sites.get(&node.site)?;
    let pool = state.pools.get(&node.pool)?;
    let instance = node.instance.and_then(|id| state.instances.get(&id));
    let instance_ready = node.instance.is_none() || instance.is_some_and(|i| i.state == InstanceState::Ready);
    if node.state == NodeState::Gone || (node.instance.is_some() && !instance_ready) {
        return None;
    }
    let attempts = node.parts.keys().filter_map(|id| state.attempts.get(id));
    Some(NodeView {
        node: node.id,
        hostname: node.hostname.clone(),
        site: node.site.clone(),
        kind: site.kind,
        jurisdiction: site.jurisdiction.clone(),
        pool: node.pool.clone(),
        groups: pool.groups.as_ref().map(|groups| with_subtrees(state, groups)),
        takes_work: node.state.takes_work(),
        capacity: inventory.capacity.clone(),
        free: node.free()?,
        capabilities: inventory.capabilities,
        price: instance
            .map_or(NodePrice::Tariff(pool.tariff), |instance| NodePrice::Instance(instance.price)),
        running: attempts.filter_map(|attempt| running(state, attempt, node)).collect(),
    })
}

fn running(state: &State, attempt: &Attempt, node: &Node) -> Option<RunningPart> {
    let job = state.jobs.get(&attempt.job)?;
    let began = attempt.active.or(attempt.leased).unwrap_or(attempt.placed);
    let allocation = node.parts.get(&attempt.id)?.clone();
    Some(RunningPart { began, ends: began.plus(state.history.estimate(&job.spec).duration), allocation })
}

fn with_subtrees(state: &State, groups: &BTreeSet<GroupName>) -> BTreeSet<GroupName> {
    let below = |name: &&GroupName| groups.iter().any(|ancestor| state.is_within(name, ancestor));
    state.groups.keys().filter(below).cloned().collect()
}

fn groups(state: &State) -> BTreeMap<GroupName, GroupView> {
    let mut views: BTreeMap<GroupName, GroupView> = state
        .groups
        .values()
        .map(|group| {
            let budget_left = state.book.left(&group.name);
            let view =
                GroupView { priority: group.priority, weight: group.weight, blocks_in_use: 0, budget_left };
            (group.name.clone(), view)
        })
        .collect();
    for attempt in state.attempts.values().filter(|attempt| attempt.ended.is_none()) {
        if let Some(view) = views.get_mut(&attempt.group) {
            view.blocks_in_use += attempt.parts.iter().map(|part| part.allocation.blocks()).sum::<u64>();
        }
    }
    views
}
