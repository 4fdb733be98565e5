//! What the baselines see: which accelerators of each node are free, what runs there, and who waits.
//!
//! It is kept up to date from the rows that changed, and by the baselines' own decisions: what they start is
//! theirs at once, so that one round never gives anything twice.

use std::collections::BTreeMap;

use spillway_core::entity::{Instance, Job, Node};
use spillway_core::{Key, State};
use spillway_policies::{CloudOffer, Decision, PartPlacement, Target};
use spillway_types::{
    AcceleratorShare, Allocation, AttemptId, DurationMs, GpuQuantity, HourlyRate, JobId, NodeId, Spot,
    Tariff, UnixMs, instance_share,
};

use super::Fit;
use crate::Seen;

/// One accelerator, in hundredths.
const WHOLE: u32 = 100;

/// Accelerators of one node, one bit each, in the order of the node's list.
pub(super) type Gpus = u128;

/// What a job has, or will have: nodes by index, each with the accelerators there.
pub(super) type Parts = Vec<(usize, Gpus)>;

/// One node.
#[derive(Debug, Clone)]
pub(super) struct Row {
    id: NodeId,
    /// The accelerators' indexes on the node, by bit.
    indexes: Vec<u32>,
    tariff: Tariff,
    /// Not given out. None of a node that takes no work.
    pub(super) free: Gpus,
}

/// A job that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) job: JobId,
    pub(super) since: UnixMs,
    pub(super) estimate: DurationMs,
    pub(super) gpus: u32,
}

/// A job that runs on nodes.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// When it is thought to end.
    pub(super) ends: UnixMs,
    pub(super) parts: Parts,
}

/// The on-prem nodes and the queue.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) rows: Vec<Row>,
    by_id: BTreeMap<NodeId, usize>,
    /// In order of arrival.
    pub(super) queue: Vec<Waiting>,
    pub(super) running: BTreeMap<AttemptId, Running>,
    per_node: u32,
    /// Who was to leave when no instance would do: they come in again when nodes or what clouds have change.
    stranded: Vec<Waiting>,
    /// Of each offer its price and how many more could be launched, when that was last looked at.
    offered: Vec<(HourlyRate, u32)>,
    /// Of each offer how many more could be launched.
    left: Vec<u32>,
}

/// How many accelerators these are.
pub(super) const fn count(gpus: Gpus) -> u32 {
    gpus.count_ones()
}

/// The first `wanted` of these.
pub(super) fn lowest(mut gpus: Gpus, wanted: u32) -> Gpus {
    let mut taken = 0;
    for _ in 0..wanted {
        let lowest = gpus & gpus.wrapping_neg();
        taken |= lowest;
        gpus ^= lowest;
    }
    taken
}

fn gpus_of(job: &Job) -> u32 {
    match job.spec.resources.gpus.as_ref().map(|gpus| gpus.quantity) {
        Some(GpuQuantity::Whole(each)) => each.saturating_mul(job.spec.nodes),
        // A part of an accelerator is one to who counts whole ones.
        Some(GpuQuantity::Blocks(_)) => job.spec.nodes,
        None => 0,
    }
}

impl View {
    /// Takes in what has changed. Gives the jobs that have come in, in order.
    pub(super) fn update(&mut self, seen: &Seen<'_>) -> Vec<Waiting> {
        let mut arrived = self.come_again(seen);
        for key in seen.touched {
            match key {
                Key::Node(id) => self.look_at_node(seen.state, *id),
                Key::Job(id) => arrived.extend(self.look_at_job(seen.state, *id)),
                Key::Meta
                | Key::Site(_)
                | Key::Pool(_)
                | Key::Group(_)
                | Key::User(_)
                | Key::Token(_)
                | Key::JoinToken(_)
                | Key::Instance(_)
                | Key::Attempt(_)
                | Key::Period(_)
                | Key::SiteUsage(_)
                | Key::Rates(_)
                | Key::Currency(_)
                | Key::Submission(_)
                | Key::History(_)
                | Key::Limit(_)
                | Key::PoolBook(_) => {}
            }
        }
        // Nodes come first in the order of keys, but all must be known before what runs on several of them is.
        for key in seen.touched {
            if let Key::Attempt(id) = key {
                self.look_at_attempt(seen.state, *id);
            }
        }
        arrived.sort_by_key(|waiting| (waiting.since, waiting.job));
        arrived.iter().for_each(|waiting| self.enqueue(*waiting));
        arrived
    }

    /// Who may leave now that could not before.
    fn come_again(&mut self, seen: &Seen<'_>) -> Vec<Waiting> {
        self.left = seen.offers.iter().map(|offer| left_of(offer, seen.state)).collect();
        let offered = seen.offers.iter().zip(&self.left).map(|(offer, left)| (offer.price, *left));
        let same = offered.clone().eq(self.offered.iter().copied());
        if same && (self.stranded.is_empty() || !seen.touched.iter().any(|key| matches!(key, Key::Node(_)))) {
            return vec![];
        }
        self.offered = offered.collect();
        let queued = |waiting: &Waiting| {
            let job = seen.state.jobs.get(&waiting.job).filter(|job| !job.queued.is_empty());
            job.is_some() && !seen.touched.contains(&Key::Job(waiting.job))
        };
        std::mem::take(&mut self.stranded).into_iter().filter(queued).collect()
    }

    fn look_at_node(&mut self, state: &State, id: NodeId) {
        let node = state.nodes.get(&id).filter(|node| node.instance.is_none());
        let Some((node, inventory)) = node.and_then(|node| Some((node, node.inventory.as_ref()?))) else {
            if let Some(row) = self.by_id.get(&id).and_then(|at| self.rows.get_mut(*at)) {
                row.free = 0;
            }
            return;
        };
        let at = *self.by_id.entry(id).or_insert(self.rows.len());
        if at == self.rows.len() {
            let tariff = state.pools.get(&node.pool).map(|pool| pool.tariff).unwrap_or_default();
            let whole = inventory.capacity.accelerators.iter().filter(|gpu| gpu.mig.is_empty());
            let indexes: Vec<u32> = whole.map(|gpu| gpu.index).take(128).collect();
            self.per_node = self.per_node.max(u32::try_from(indexes.len()).unwrap_or(128));
            self.rows.push(Row { id, indexes, tariff, free: 0 });
        }
        let row = &mut self.rows[at];
        row.free = if node.state.takes_work() { row.all() & !row.used_by(node) } else { 0 };
    }

    fn look_at_job(&mut self, state: &State, id: JobId) -> Option<Waiting> {
        self.stranded.retain(|waiting| waiting.job != id);
        let job = state.jobs.get(&id).filter(|job| !job.queued.is_empty() && !job.cancel_requested);
        let Some(job) = job else {
            self.queue.retain(|waiting| waiting.job != id);
            return None;
        };
        let waiting =
            Waiting { job: id, since: job.since, estimate: job.spec.estimate(), gpus: gpus_of(job) };
        (!self.queue.contains(&waiting)).then_some(waiting)
    }

    fn look_at_attempt(&mut self, state: &State, id: AttemptId) {
        let attempt = state.attempts.get(&id).filter(|attempt| attempt.state.occupies_nodes());
        let job = attempt.and_then(|attempt| state.jobs.get(&attempt.job));
        let (Some(attempt), Some(job)) = (attempt, job) else {
            self.running.remove(&id);
            return;
        };
        let began = attempt.active.or(attempt.leased).unwrap_or(attempt.placed);
        let part = |part: &spillway_core::entity::Part| {
            let at = *self.by_id.get(&part.node?)?;
            Some((at, self.rows[at].bits(&part.allocation)))
        };
        let parts: Option<Parts> = attempt.parts.iter().map(part).collect();
        if let Some(parts) = parts {
            self.running.insert(id, Running { ends: began.plus(job.spec.estimate()), parts });
        }
    }

    /// What is wanted of each node by a job of so many accelerators: whole nodes, and the rest.
    pub(super) fn demands(&self, gpus: u32) -> Vec<u32> {
        let whole = self.per_node.max(1);
        if gpus <= whole {
            return vec![gpus];
        }
        let rest = Some(gpus % whole).filter(|rest| *rest > 0);
        (0..gpus / whole).map(|_| whole).chain(rest).collect()
    }

    /// Where a job of so many accelerators fits, if `free` says what each node has.
    pub(super) fn fit(&self, gpus: u32, fit: Fit, free: impl Fn(usize, &Row) -> Gpus) -> Option<Parts> {
        let choose = |wanted: u32, taken: &Parts| {
            let others = self.rows.iter().enumerate().filter(|(at, _)| !taken.iter().any(|(t, _)| t == at));
            let mut room = others.map(|(at, row)| (at, free(at, row))).filter(|(_, f)| count(*f) >= wanted);
            let (at, free) = match fit {
                Fit::First => room.next(),
                Fit::Best => room.min_by_key(|(_, free)| count(*free)),
            }?;
            Some((at, lowest(free, wanted)))
        };
        if gpus <= self.per_node {
            return choose(gpus, &vec![]).map(|part| vec![part]);
        }
        let mut taken: Parts = vec![];
        for wanted in self.demands(gpus) {
            taken.push(choose(wanted, &taken)?);
        }
        Some(taken)
    }

    /// Takes the job out of the queue and starts it on these nodes.
    pub(super) fn start(&mut self, seen: &Seen<'_>, waiting: &Waiting, parts: &Parts) -> Option<Decision> {
        self.queue.retain(|other| other.job != waiting.job);
        let job = seen.state.jobs.get(&waiting.job)?;
        let longest = longest(job);
        let mut placed = vec![];
        let mut hold_micros = 0_i64;
        for (at, gpus) in parts {
            let row = self.rows.get_mut(*at)?;
            row.free &= !gpus;
            let allocation = row.allocation(*gpus, job);
            let rate = row.tariff.rate(&allocation);
            hold_micros = hold_micros.saturating_add(rate.cost_micros(1, 1, 0, longest));
            placed.push(PartPlacement { node: row.id, allocation, rate });
        }
        let target = Target::Nodes { parts: placed };
        decision(job, target, hold_micros, "fits here now")
    }

    /// The job waits for nodes after all: it stands in the queue, and need not come in again.
    pub(super) fn waits_here(&mut self, waiting: Waiting) {
        self.stranded.retain(|other| other.job != waiting.job);
        self.enqueue(waiting);
    }

    fn enqueue(&mut self, waiting: Waiting) {
        let before = |other: &Waiting| (other.since, other.job) < (waiting.since, waiting.job);
        let at = self.queue.partition_point(before);
        self.queue.insert(at, waiting);
    }

    /// Takes the job out of the queue and sends it to the cheapest instances that would do. Where there are none it
    /// stays in the federation's queue, and comes in again when something has changed.
    pub(super) fn send_away(&mut self, seen: &Seen<'_>, waiting: &Waiting) -> Option<Decision> {
        self.queue.retain(|other| other.job != waiting.job);
        let job = seen.state.jobs.get(&waiting.job)?;
        let each = job.spec.resources.gpus.as_ref()?.blocks().div_ceil(u64::from(WHOLE));
        let each = usize::try_from(each).ok()?;
        let risks = job.spec.placement.spot == Spot::Allow;
        let nodes = job.spec.nodes;
        let large = |(_, offer, left): &(usize, &CloudOffer, u32)| {
            *left >= nodes
                && (risks || offer.terms.market.is_on_demand())
                && offer.capacity.accelerators.len() >= each
                && offer.capacity.cpus_milli >= job.spec.resources.cpus_milli
                && offer.capacity.memory_mib >= job.spec.resources.memory_mib
        };
        let left = (0..).zip(seen.offers).zip(&self.left).map(|((at, offer), left)| (at, offer, *left));
        let cheapest = left.filter(large).min_by_key(|(_, offer, _)| (offer.price, &offer.instance_type));
        let Some((at, offer, left)) = cheapest else {
            self.stranded.push(*waiting);
            return None;
        };
        self.left[at] = left.saturating_sub(nodes);
        let share = |gpu: &spillway_types::Accelerator| AcceleratorShare { index: gpu.index, blocks: WHOLE };
        let allocation = Allocation {
            shares: offer.capacity.accelerators.iter().take(each).map(share).collect(),
            mig: vec![],
            cpus_milli: job.spec.resources.cpus_milli,
            memory_mib: job.spec.resources.memory_mib,
        };
        let rate: HourlyRate = instance_share(offer.price, &offer.capacity, &allocation);
        let ms = longest(job).saturating_add(offer.boot.0);
        let hold_micros = offer.price.cost_micros(u64::from(job.spec.nodes), 1, 0, ms);
        let target = Target::Launch {
            cloud: offer.cloud.clone(),
            site: offer.site.clone(),
            instance_type: offer.instance_type.clone(),
            price: offer.price,
            market: offer.terms.market,
            allocation,
            rate,
        };
        decision(job, target, hold_micros, "does not wait for nodes here")
    }
}

/// How many more of an offer could be launched.
fn left_of(offer: &CloudOffer, state: &State) -> u32 {
    if offer.available == u32::MAX {
        return u32::MAX;
    }
    let same = |instance: &&Instance| {
        instance.cloud == offer.cloud
            && instance.site == offer.site
            && instance.instance_type == offer.instance_type
            && instance.market == offer.terms.market
    };
    let alive = state.instances.values().filter(same).count();
    offer.available.saturating_sub(u32::try_from(alive).unwrap_or(u32::MAX))
}

/// How long one task may hold what it has, in milliseconds.
const fn longest(job: &Job) -> u64 {
    job.spec.time_limit.0.saturating_add(job.spec.checkpoint.grace.0)
}

fn decision(job: &Job, target: Target, hold_micros: i64, because: &str) -> Option<Decision> {
    Some(Decision {
        job: job.id,
        task: job.queued.first()?,
        target,
        hold_micros,
        because: because.to_owned(),
    })
}

impl Row {
    /// All its accelerators.
    pub(super) fn all(&self) -> Gpus {
        (0..self.indexes.len()).fold(0, |all, bit| all | (1 << bit))
    }

    fn bits(&self, allocation: &Allocation) -> Gpus {
        let bit = |share: &AcceleratorShare| self.indexes.iter().position(|index| *index == share.index);
        allocation.shares.iter().filter_map(bit).fold(0, |bits, bit| bits | (1 << bit))
    }

    fn used_by(&self, node: &Node) -> Gpus {
        node.parts.values().fold(0, |used, allocation| used | self.bits(allocation))
    }

    fn allocation(&self, gpus: Gpus, job: &Job) -> Allocation {
        let given = self.indexes.iter().enumerate().filter(|(bit, _)| gpus & (1 << bit) != 0);
        Allocation {
            shares: given.map(|(_, index)| AcceleratorShare { index: *index, blocks: WHOLE }).collect(),
            mig: vec![],
            cpus_milli: job.spec.resources.cpus_milli,
            memory_mib: job.spec.resources.memory_mib,
        }
    }
}
