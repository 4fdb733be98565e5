//! Every node that is known, gathered by kind: nodes that no hard rule and no price can tell apart are judged once
//! for all of them.

use std::collections::{BTreeMap, BTreeSet};

use spillway_types::resources::BLOCKS_PER_GPU;
use spillway_types::{
    Capabilities, GpuModel, GroupName, Market, NodeId, PoolName, SiteKind, SiteName, UnixMs,
};

use crate::layout::{Layout, Level, Need, Want};
use crate::profile::{Profile, thought_end};
use crate::{Amounts, NodePrice, NodeView};

/// All that hard rules, prices and layouts look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct KindKey {
    site: SiteName,
    pool: PoolName,
    site_kind: SiteKind,
    jurisdiction: Option<String>,
    groups: Option<BTreeSet<GroupName>>,
    takes_work: bool,
    capabilities: Capabilities,
    price: NodePrice,
    market: Market,
    cpus_milli: u32,
    memory_mib: u64,
    accelerators: Vec<AcceleratorKey>,
}

/// An accelerator without what is its own alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct AcceleratorKey {
    index: u32,
    model: GpuModel,
    memory_mib: u64,
    profiles: Vec<String>,
}

/// Nodes that no hard rule and no price can tell apart.
#[derive(Debug)]
pub(crate) struct Kind {
    /// One of them, or one that was of this kind, for what they have in common.
    pub(crate) sample: NodeView,
    pub(crate) layout: Layout,
    /// What an empty one has.
    pub(crate) all: Level,
    /// Those that are there now, in the order in which they became known.
    pub(crate) nodes: Vec<usize>,
    /// How much of them runs until when: hundredths of accelerators, thousandths of CPUs where there are none.
    running: BTreeMap<i64, i64>,
}

impl Kind {
    /// What one node has, in the measure of `running`.
    pub(crate) fn whole(&self) -> i64 {
        let slices = |accelerator: &spillway_types::Accelerator| accelerator.mig.len().max(1) as u64 * 100;
        let blocks: u64 = self.sample.capacity.accelerators.iter().map(slices).sum();
        let measure = if blocks > 0 { blocks } else { u64::from(self.sample.capacity.cpus_milli) };
        i64::try_from(measure).unwrap_or(i64::MAX)
    }

    /// What all of them have, in the same measure.
    pub(crate) fn whole_of_all(&self) -> i64 {
        self.whole().saturating_mul(i64::try_from(self.nodes.len()).unwrap_or(i64::MAX))
    }

    fn part(&self, allocation: &spillway_types::Allocation) -> i64 {
        let gpus = self.layout.has_gpus();
        let measure = if gpus { allocation.blocks() } else { u64::from(allocation.cpus_milli) };
        i64::try_from(measure).unwrap_or(i64::MAX)
    }

    /// What a task takes of one node, in the same measure.
    pub(crate) fn needs(&self, need: &Need) -> i64 {
        match (need.want, self.layout.has_gpus()) {
            (Want::Whole(count), true) => i64::from(count) * 100,
            (Want::Blocks(blocks), true) => i64::from(blocks),
            (Want::Nothing, true) => 0,
            (_, false) => i64::from(need.cpus_milli),
        }
    }

    /// By how much what runs changes what is taken, and when.
    pub(crate) fn changes(&self, now: i64) -> Vec<(i64, i64)> {
        let all: i64 = self.running.values().sum();
        std::iter::once((now, all)).chain(self.running.iter().map(|(end, part)| (*end, -part))).collect()
    }
}

/// One node.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) view: NodeView,
    pub(crate) kind: usize,
    /// What is free and when, without what any plan has reserved.
    pub(crate) base: Profile,
    /// When what runs is thought to end, and how much that is.
    ends: Vec<(i64, i64)>,
}

impl Machine {
    /// When the profile stops being true by itself: the first thought end of what runs.
    fn review(&self) -> Option<i64> {
        self.ends.iter().map(|(end, _)| *end).min()
    }
}

/// The nodes, each with a number that stays its own while it is known.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) kinds: Vec<Kind>,
    kind_of: BTreeMap<KindKey, usize>,
    machines: Vec<Option<Machine>>,
    numbers: BTreeMap<NodeId, usize>,
    vacant: Vec<usize>,
    /// A number below 64 for each model, in the order in which they became known; the last one stands for all beyond.
    models: BTreeMap<GpuModel, u8>,
    reviews: BTreeSet<(i64, usize)>,
    /// Each set of groups that some pool is for, and its number, in the order in which they became known.
    pools_for: BTreeMap<BTreeSet<GroupName>, usize>,
}

impl KindKey {
    fn of(node: &NodeView) -> Self {
        let key = |accelerator: &spillway_types::Accelerator| AcceleratorKey {
            index: accelerator.index,
            model: accelerator.model.clone(),
            memory_mib: accelerator.memory_mib,
            profiles: accelerator.mig.iter().map(|slice| slice.profile.clone()).collect(),
        };
        Self {
            site: node.site.clone(),
            pool: node.pool.clone(),
            site_kind: node.kind,
            jurisdiction: node.jurisdiction.clone(),
            groups: node.groups.clone(),
            takes_work: node.takes_work,
            capabilities: node.capabilities,
            price: node.price,
            market: node.market,
            cpus_milli: node.capacity.cpus_milli,
            memory_mib: node.capacity.memory_mib,
            accelerators: node.capacity.accelerators.iter().map(key).collect(),
        }
    }
}

impl Fleet {
    /// How many numbers were given out: every node's number is below this.
    pub(crate) const fn numbers(&self) -> usize {
        self.machines.len()
    }

    /// The node with this number.
    pub(crate) fn machine(&self, number: usize) -> Option<&Machine> {
        self.machines.get(number).and_then(Option::as_ref)
    }

    /// Instances of clouds that run already.
    pub(crate) fn rented(&self) -> impl Iterator<Item = &Machine> {
        let kinds = self.kinds.iter().filter(|kind| matches!(kind.sample.price, NodePrice::Instance(_)));
        kinds.flat_map(|kind| &kind.nodes).filter_map(|node| self.machine(*node))
    }

    /// The number of a model that some node has.
    pub(crate) fn model(&self, model: &GpuModel) -> Option<u8> {
        self.models.get(model).copied()
    }

    /// How many sets of groups pools are for.
    pub(crate) fn pool_sets(&self) -> usize {
        self.pools_for.len()
    }

    /// The numbers of the sets of groups that a group is in: groups that are in the same may use the same nodes.
    pub(crate) fn sets_with(&self, group: &GroupName) -> Vec<usize> {
        let sets = self.pools_for.iter().filter(|(groups, _)| groups.contains(group));
        sets.map(|(_, number)| *number).collect()
    }

    fn number_models(&mut self, view: &NodeView) {
        for accelerator in &view.capacity.accelerators {
            if !self.models.contains_key(&accelerator.model) {
                let next = u8::try_from(self.models.len()).unwrap_or(u8::MAX).min(63);
                self.models.insert(accelerator.model.clone(), next);
            }
        }
    }

    /// The interconnect domain that a node's accelerators are in, where that is known.
    pub(crate) fn domain(&self, number: usize) -> Option<&str> {
        self.machine(number)?.view.capacity.accelerators.first()?.domain.as_deref()
    }

    /// Takes in a node, new or changed, and gives its number.
    pub(crate) fn set(&mut self, view: NodeView, now: UnixMs) -> usize {
        let key = KindKey::of(&view);
        if !self.kind_of.contains_key(&key) {
            self.number_models(&view);
            if let Some(groups) = view.groups.as_ref().filter(|groups| !self.pools_for.contains_key(*groups))
            {
                self.pools_for.insert(groups.clone(), self.pools_for.len());
            }
        }
        let kind = *self.kind_of.entry(key).or_insert_with(|| {
            let layout = Layout::of(&view.capacity);
            let all = layout.all(&view.capacity);
            let (nodes, running) = (Vec::new(), BTreeMap::new());
            self.kinds.push(Kind { sample: view.clone(), layout, all, nodes, running });
            self.kinds.len() - 1
        });
        let number = self.number_of(view.node);
        self.forget(number);
        let nodes = &mut self.kinds[kind].nodes;
        if let Err(place) = nodes.binary_search(&number) {
            nodes.insert(place, number);
        }
        let base = Profile::of(&view, &self.kinds[kind].layout, now);
        self.machines[number] = Some(Machine { view, kind, base, ends: Vec::new() });
        self.note_ends(number, now);
        number
    }

    /// What all nodes have together.
    pub(crate) fn amounts(&self) -> Amounts {
        let of_kind = |kind: &Kind| {
            let capacity = &kind.sample.capacity;
            let blocks = capacity.accelerators.len() as u64 * u64::from(BLOCKS_PER_GPU);
            let cpus_milli = u64::from(capacity.cpus_milli);
            let each = Amounts { blocks, cpus_milli, memory_mib: capacity.memory_mib };
            each.times(kind.nodes.len() as u64)
        };
        self.kinds.iter().map(of_kind).fold(Amounts::default(), Amounts::plus)
    }

    /// Whether the node is what it was, and nothing on it runs longer than was thought.
    pub(crate) fn is_as_known(&self, view: &NodeView, now: UnixMs) -> bool {
        let known = self.find(view.node).and_then(|number| self.machine(number));
        known.is_some_and(|known| known.view == *view) && view.running.iter().all(|part| part.ends > now)
    }

    /// Whether something that ran on the node has ended before or after it was thought to.
    pub(crate) fn ended_off_estimate(&self, view: &NodeView, now: UnixMs) -> bool {
        let Some(known) = self.find(view.node).and_then(|number| self.machine(number)) else { return false };
        let still_runs =
            |part: &crate::RunningPart| view.running.iter().any(|other| other.allocation == part.allocation);
        known.view.running.iter().any(|part| part.ends != now && !still_runs(part))
    }

    /// Whether the node closes or has less than it had.
    pub(crate) fn loses_room(&self, view: &NodeView) -> bool {
        let Some(known) = self.find(view.node).and_then(|number| self.machine(number)) else { return false };
        known.view.takes_work && !view.takes_work
            || view.capacity.accelerators.len() < known.view.capacity.accelerators.len()
    }

    fn number_of(&mut self, node: NodeId) -> usize {
        if let Some(known) = self.numbers.get(&node) {
            return *known;
        }
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.machines.push(None);
            self.machines.len() - 1
        });
        self.numbers.insert(node, number);
        number
    }

    /// Takes a machine out of everything that knows its number.
    fn forget(&mut self, number: usize) {
        self.forget_ends(number);
        let Some(machine) = self.machines[number].take() else { return };
        let nodes = &mut self.kinds[machine.kind].nodes;
        if let Ok(place) = nodes.binary_search(&number) {
            nodes.remove(place);
        }
    }

    /// A node has left. Gives the number that it had.
    pub(crate) fn remove(&mut self, node: NodeId) -> Option<usize> {
        let number = self.numbers.remove(&node)?;
        self.forget(number);
        self.vacant.push(number);
        Some(number)
    }

    fn note_ends(&mut self, number: usize, now: UnixMs) {
        self.forget_ends(number);
        let Some(machine) = &mut self.machines[number] else { return };
        let kind = &mut self.kinds[machine.kind];
        for part in &machine.view.running {
            let (end, amount) = (thought_end(part.began, part.ends, now).0, kind.part(&part.allocation));
            *kind.running.entry(end).or_default() += amount;
            machine.ends.push((end, amount));
        }
        self.reviews.extend(machine.review().map(|at| (at, number)));
    }

    fn forget_ends(&mut self, number: usize) {
        let Some(machine) = &mut self.machines[number] else { return };
        if let Some(review) = machine.review() {
            self.reviews.remove(&(review, number));
        }
        let running = &mut self.kinds[machine.kind].running;
        for (end, amount) in machine.ends.drain(..) {
            if let Some(sum) = running.get_mut(&end) {
                *sum -= amount;
                if *sum == 0 {
                    running.remove(&end);
                }
            }
        }
    }

    /// When something that runs should have ended, at the earliest.
    pub(crate) fn next_review(&self) -> Option<UnixMs> {
        self.reviews.first().map(|(at, _)| UnixMs(*at))
    }

    /// Looks again at the nodes where something that should have ended by now still runs, and gives their numbers.
    pub(crate) fn review(&mut self, now: UnixMs) -> Vec<usize> {
        let due: Vec<usize> = self.reviews.range(..=(now.0, usize::MAX)).map(|(_, number)| *number).collect();
        for number in &due {
            if let Some(machine) = &mut self.machines[*number] {
                machine.base = Profile::of(&machine.view, &self.kinds[machine.kind].layout, now);
            }
            self.note_ends(*number, now);
        }
        due
    }

    /// The number of a node.
    pub(crate) fn find(&self, node: NodeId) -> Option<usize> {
        self.numbers.get(&node).copied()
    }
}
