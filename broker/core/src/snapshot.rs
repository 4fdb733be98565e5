//! What the planner sees of the state.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spillway_policies::{
    Amounts, CloudOffer, Facts, Gate, Gatekeeper, GroupView, NodePrice, NodeView, PartOwner, Policy,
    QueuedJob, Restarts, RunningPart, Snapshot,
};
use spillway_types::{
    Capabilities, DataMap, DurationMs, FreeResources, GroupName, Held, HourlyRate, IndexRanges, InstanceId,
    InstanceState, JobId, JobSpec, Market, NodeId, NodeState, Placement, SiteName, UnixMs,
};

use crate::entity::{Attempt, Instance, Job, Node};
use crate::handle::MAX_DISPLACEMENTS;
use crate::limited::Standing;
use crate::{Federation, State};

/// Most jobs of a group in a snapshot: it is a copy that is made while nothing else happens. The planner that hears of
/// every change knows them all.
const MOST_JOBS: usize = 2_000;

/// The front of the queue, every node that has said hello or is an instance that boots, what clouds would launch, and
/// where data lies, as they are at `now`.
#[must_use]
pub fn take(federation: &Federation, policy: &Policy, now: UnixMs) -> Snapshot {
    let (state, offers) = (federation.state(), federation.offers());
    let (data, gate) = (federation.data().clone(), federation.gatekeeper());
    Snapshot { data, gate, ..of(state, offers, policy, now) }
}

/// Who says where jobs may run, with what is known of groups, data and places.
pub(crate) fn gatekeeper(state: &State, data: &DataMap, gate: Option<&Arc<dyn Gate>>) -> Option<Gatekeeper> {
    let gate = Arc::clone(gate?);
    let groups = state.groups.values();
    let pools = state.pools.values().filter(|pool| !pool.labels.is_empty());
    let sites = state.sites.values();
    let facts = Facts {
        above: groups.filter_map(|group| Some((group.name.clone(), group.parent.clone()?))).collect(),
        datasets: data.datasets.clone(),
        labels: pools.map(|pool| (pool.name.clone(), pool.labels.clone())).collect(),
        clouds: sites.filter_map(|site| Some((site.name.clone(), site.cloud.clone()?))).collect(),
    };
    Some(Gatekeeper::new(gate, facts))
}

fn of(state: &State, offers: &[CloudOffer], policy: &Policy, now: UnixMs) -> Snapshot {
    let nodes = state.nodes.values().filter_map(|node| view(state, node));
    let booting = state.instances.values().filter_map(|instance| booting(state, offers, instance));
    Snapshot {
        now,
        queue: queue(state, policy.max_jobs.min(MOST_JOBS), now),
        nodes: nodes.chain(booting).collect(),
        offers: left_of(state, offers),
        groups: groups(state),
        data: DataMap::default(),
        gate: None,
        policy: policy.clone(),
    }
}

/// The first `most` jobs of each group that wait, those on top before the oldest: a plan looks at no more of all
/// of them, whatever the order of the groups, so that a long queue costs no more than its front. Held jobs are not
/// planned, so they are left out: they take no room in it, nor in what is planned for others.
fn queue(state: &State, most: usize, now: UnixMs) -> Vec<QueuedJob> {
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
    front.filter_map(|job| within_limits(state, job, now)).collect()
}

/// The job without the sites where its group's limits have no room; none where that leaves none.
pub(crate) fn within_limits(state: &State, job: &Job, now: UnixMs) -> Option<QueuedJob> {
    let queued = queued_job(state, job);
    match state.limits_leave(job, now) {
        Standing::Free => Some(queued),
        Standing::Waits(_) => None,
        Standing::Without(sites) => {
            let asked = &queued.placement.allow;
            let all = || state.sites.keys().cloned().collect();
            let from: Vec<SiteName> = if asked.is_empty() { all() } else { asked.clone() };
            let allow = from.into_iter().filter(|site| !sites.contains(site)).collect();
            Some(QueuedJob { placement: Placement { allow, ..queued.placement }, ..queued })
        }
    }
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
                && offer.terms.market == instance.market
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
    let mut snapshot = of(state, offers, &Policy::default(), now);
    snapshot.nodes.retain(|node| node.opens.is_none());
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
        image: spec.image.clone(),
        estimate: state.history.estimate(spec).duration,
        longest: DurationMs(spec.time_limit.0 + spec.checkpoint.grace.0),
        placement: spec.placement.clone(),
        class: spec.class.clone(),
        deadline: spec.deadline.map(|deadline| deadline.instant(since)),
        grace: spec.checkpoint.grace,
        inputs: spec.inputs.clone(),
        user: None,
        restarts: restarts(spec),
        done: DurationMs(0),
        held: Held::No,
        standing: spillway_types::Standing::Plain,
    }
}

/// What checkpoints keep of every task that waits: nothing where more than one does.
fn done(job: &Job) -> DurationMs {
    let mut ranges = job.queued.ranges().iter();
    match (ranges.next(), ranges.next()) {
        (Some((first, last)), None) if first == last => {
            job.tries.get(first).map_or(DurationMs(0), |tries| tries.done)
        }
        _ => DurationMs(0),
    }
}

/// A job with tasks that wait, as the planner sees it.
#[must_use]
pub fn queued_job(state: &State, job: &Job) -> QueuedJob {
    let (base, done) = (queued(state, job.id, &job.spec, job.since), done(job));
    QueuedJob {
        estimate: DurationMs(base.estimate.0.saturating_sub(done.0).max(1)),
        tasks: job.queued.clone(),
        deadline: job.spec.deadline.map(|deadline| deadline.instant(job.submitted)),
        held: if job.held.is_some() { Held::Yes } else { Held::No },
        standing: job.standing,
        user: Some(job.user.clone()),
        done,
        ..base
    }
}

const fn restarts(spec: &JobSpec) -> Restarts {
    match (spec.retry.on_loss, spec.checkpoint.every) {
        (false, _) => Restarts::Never,
        (true, None) => Restarts::Anew,
        (true, Some(every)) => Restarts::FromCheckpoint { every },
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
        opens: None,
        capacity: inventory.capacity.clone(),
        free: node.free()?,
        capabilities: inventory.capabilities,
        price: instance
            .map_or(NodePrice::Tariff(pool.tariff), |instance| NodePrice::Instance(instance.price_now())),
        market: instance.map_or_else(Market::default, |instance| instance.market),
        running: attempts.filter_map(|attempt| running(state, attempt, node)).collect(),
    })
}

/// The id under which a planner knows an instance that is no node yet.
pub(crate) fn node_to_be(instance: InstanceId) -> NodeId {
    NodeId::from_uuid(instance.uuid())
}

/// An instance that is no node yet, with what the attempt that it is launched for will take of it: others may plan
/// with the rest.
pub(crate) fn booting(state: &State, offers: &[CloudOffer], instance: &Instance) -> Option<NodeView> {
    let comes = match instance.state {
        InstanceState::Intended
        | InstanceState::Launching
        | InstanceState::Booting
        | InstanceState::Unknown => true,
        InstanceState::Ready | InstanceState::Draining | InstanceState::Terminating | InstanceState::Gone => {
            false
        }
    };
    if !comes || instance.node.is_some() {
        return None;
    }
    let site = state.sites.get(&instance.site)?;
    let attempt = state.attempts.get(&instance.attempt)?;
    let part = attempt.parts.iter().find(|part| part.instance == Some(instance.id))?;
    let offer = offers.iter().find(|offer| {
        (&offer.cloud, &offer.site, &offer.instance_type, offer.terms.market)
            == (&instance.cloud, &instance.site, &instance.instance_type, instance.market)
    })?;
    let opens = instance.created.plus(offer.boot);
    let mut free = FreeResources::all_of(&instance.capacity);
    free.take(&part.allocation).ok()?;
    let job = state.jobs.get(&attempt.job)?;
    let ends = opens.plus(state.history.estimate(&job.spec).duration);
    Some(NodeView {
        node: node_to_be(instance.id),
        hostname: instance.instance_type.to_string(),
        site: instance.site.clone(),
        kind: site.kind,
        jurisdiction: site.jurisdiction.clone(),
        pool: instance.site.as_str().parse().ok()?,
        groups: None,
        takes_work: true,
        opens: Some(opens),
        capacity: instance.capacity.clone(),
        free,
        capabilities: Capabilities { process: true, container: true, fractions: false },
        price: NodePrice::Instance(instance.price_now()),
        market: instance.market,
        running: vec![RunningPart { began: opens, ends, allocation: part.allocation.clone(), owner: None }],
    })
}

fn running(state: &State, attempt: &Attempt, node: &Node) -> Option<RunningPart> {
    let job = state.jobs.get(&attempt.job)?;
    let began = attempt.active.or(attempt.leased).unwrap_or(attempt.placed);
    let allocation = node.parts.get(&attempt.id)?.clone();
    if let Some(stopped) = attempt.stopped {
        return Some(RunningPart {
            began: stopped,
            ends: stopped.plus(attempt.grace),
            allocation,
            owner: None,
        });
    }
    let ends = began.plus(left(state, job, attempt.task));
    Some(RunningPart { began, ends, allocation, owner: owner(state, job, attempt) })
}

/// How long a try of the task is thought to run, without what its checkpoints keep.
fn left(state: &State, job: &Job, task: u32) -> DurationMs {
    let done = job.tries.get(&task).map_or(DurationMs(0), |tries| tries.done);
    DurationMs(state.history.estimate(&job.spec).duration.0.saturating_sub(done.0).max(1))
}

/// Whose a part is, where it may be stopped and tried again elsewhere.
fn owner(state: &State, job: &Job, attempt: &Attempt) -> Option<PartOwner> {
    let tries = job.tries.get(&attempt.task).copied().unwrap_or_default();
    let free = attempt.stop.is_none()
        && attempt.active.is_some()
        && !job.cancel_requested
        && tries.displaced < MAX_DISPLACEMENTS;
    if !free || restarts(&job.spec) == Restarts::Never {
        return None;
    }
    let asks = QueuedJob {
        tasks: IndexRanges::span(attempt.task, attempt.task),
        done: tries.done,
        estimate: left(state, job, attempt.task),
        ..queued_job(state, job)
    };
    let rate = attempt.parts.iter().fold(0, |sum: i64, part| sum.saturating_add(part.rate.0));
    let (asks, displaced) = (Arc::new(asks), tries.displaced);
    Some(PartOwner { attempt: attempt.id, asks, rate: HourlyRate(rate), displaced })
}

fn with_subtrees(state: &State, groups: &BTreeSet<GroupName>) -> BTreeSet<GroupName> {
    let below = |name: &&GroupName| groups.iter().any(|ancestor| state.is_within(name, ancestor));
    state.groups.keys().filter(below).cloned().collect()
}

/// What an attempt has in use.
pub(crate) fn amounts(attempt: &Attempt) -> Amounts {
    let parts = attempt.parts.iter().map(|part| Amounts::of(&part.allocation));
    parts.fold(Amounts::default(), Amounts::plus)
}

fn groups(state: &State) -> BTreeMap<GroupName, GroupView> {
    let mut views: BTreeMap<GroupName, GroupView> = state
        .groups
        .values()
        .map(|group| {
            let budget_left = state.book.left(&group.name);
            let (priority, weight, in_use) = (group.priority, group.weight, Amounts::default());
            (group.name.clone(), GroupView { priority, weight, in_use, budget_left })
        })
        .collect();
    for attempt in state.attempts.values().filter(|attempt| attempt.ended.is_none()) {
        if let Some(view) = views.get_mut(&attempt.group) {
            view.in_use = view.in_use.plus(amounts(attempt));
        }
    }
    views
}
