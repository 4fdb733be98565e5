//! A made-up federation of any size: busy nodes of 20 models in several sites and pools, cloud offers, and a long queue
//! of every kind of job.

use std::collections::{BTreeMap, BTreeSet};

use spillway_policies::{
    Amounts, CloudOffer, Decision, GroupView, NodePrice, NodeView, Planner, Policy, QueuedJob, Restarts,
    RunningPart, Target,
};
use spillway_types::{
    Accelerator, AcceleratorShare, Allocation, Capabilities, DurationMs, FreeResources, GpuQuantity,
    GpuRequest, GpuSelector, HourlyRate, IdSource, IndexRanges, JobId, Market, NodeCapacity, NodeId,
    OfferTerms, Placement, Resources, SequentialIds, SiteKind, Standing, Tariff, UnixMs,
};

use crate::fragmentation::population::Lot;

const MODELS: [&str; 20] = [
    "B200", "H200", "H100", "H20", "GH200", "A100", "A40", "A30", "A16", "A10", "L40S", "L40", "L4", "T4",
    "V100", "P100", "RTX6000", "MI250X", "MI300X", "MI325X",
];
const SITES: usize = 5;
const POOLS: usize = 2;
const GROUPS: usize = 200;
const GPUS: u32 = 8;
const CPUS_MILLI_PER_GPU: u32 = 8_000;
const MEMORY_MIB_PER_GPU: u64 = 64 * 1024;
/// Of a hundred parts that could run, so many do not.
const IDLE_PERCENT: usize = 2;
/// Running parts end within this.
const LONGEST_REST_SECS: usize = 24 * 3600;
/// Estimates are between a half and one and a half of one of these, in seconds.
const RUNS: [u64; 8] = [120, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400];

/// When it is.
pub(crate) const NOW: UnixMs = UnixMs(1_800_000_000_000);

/// The federation, and whatever draws its jobs.
pub(crate) struct Federation {
    nodes: BTreeMap<NodeId, NodeView>,
    offers: Vec<CloudOffer>,
    ids: SequentialIds,
    lot: Lot,
}

impl Federation {
    /// So many busy nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        let (ids, lot) = (SequentialIds::new(7), Lot::new(7));
        let mut federation = Self { nodes: BTreeMap::new(), offers: offers(), ids, lot };
        for at in 0..nodes {
            let node = federation.node(at);
            federation.nodes.insert(node.node, node);
        }
        federation
    }

    /// A planner that knows all nodes, groups and offers, and no job.
    pub(crate) fn planner(&self, policy: Policy) -> Planner {
        let mut planner = Planner::new(policy);
        let view = |group: usize| GroupView {
            priority: 0,
            weight: 1 + u32::try_from(group % 4).unwrap_or(0),
            in_use: Amounts::default(),
            budget_left: group.is_multiple_of(10).then_some(1_000_000_000_000),
        };
        let named = |group: usize| format!("g{group}").parse().expect("it is a name");
        planner.set_groups((0..GROUPS).map(|group| (named(group), view(group))).collect());
        planner.set_offers(self.offers.clone());
        for node in self.nodes.values() {
            planner.set_node(node.clone(), NOW);
        }
        planner
    }

    fn node(&mut self, at: usize) -> NodeView {
        let capacity = capacity(MODELS[at % MODELS.len()]);
        let (site, pool) = (at / MODELS.len() % SITES, at / (MODELS.len() * SITES) % POOLS);
        let mut view = NodeView {
            node: NodeId::from_uuid(self.ids.next_uuid()),
            hostname: format!("n{at}"),
            site: format!("s{site}").parse().expect("it is a name"),
            kind: SiteKind::OnPrem,
            jurisdiction: None,
            pool: format!("s{site}-p{pool}").parse().expect("it is a name"),
            groups: None,
            takes_work: true,
            opens: None,
            market: Market::OnDemand,
            free: FreeResources::all_of(&capacity),
            capacity,
            capabilities: Capabilities { process: true, container: true, fractions: true },
            price: NodePrice::Tariff(Tariff { per_gpu: HourlyRate(1_000_000), per_cpu: HourlyRate(0) }),
            running: vec![],
        };
        let mut first = 0;
        while first < GPUS {
            let count = [1, 1, 2, 4, 8][self.lot.below(5)].min(GPUS - first);
            if self.lot.below(100) >= IDLE_PERCENT {
                let rest = 1000 * i64::try_from(60 + self.lot.below(LONGEST_REST_SECS)).unwrap_or(0);
                let part = part(first..first + count);
                view.free.take(&part).expect("each accelerator is taken once");
                let (began, ends) = (UnixMs(NOW.0 - rest), UnixMs(NOW.0 + rest));
                view.running.push(RunningPart { began, ends, allocation: part, owner: None });
            }
            first += count;
        }
        view
    }

    /// The next job that comes, the given time after the others.
    pub(crate) fn job(&mut self, after: DurationMs) -> QueuedJob {
        let selector = match self.lot.below(2 * MODELS.len()) {
            named if named < MODELS.len() => {
                GpuSelector::Model(MODELS[named].parse().expect("it is a model"))
            }
            _ => GpuSelector::Any,
        };
        let (quantity, nodes) = match self.lot.below(100) {
            0..35 => (GpuQuantity::Whole(1), 1),
            35..55 => (GpuQuantity::Whole(2), 1),
            55..72 => (GpuQuantity::Whole(4), 1),
            72..88 => (GpuQuantity::Whole(8), 1),
            88..92 => (GpuQuantity::Whole(8), 2 + u32::try_from(self.lot.below(3)).unwrap_or(0)),
            92..96 => (GpuQuantity::Blocks(25), 1),
            _ => (GpuQuantity::Blocks(50), 1),
        };
        let gpus = match quantity {
            GpuQuantity::Whole(count) => count,
            GpuQuantity::Blocks(_) => 1,
        };
        let typical = RUNS[self.lot.below(RUNS.len())];
        let seconds = typical / 2 + self.lot.below(usize::try_from(typical).unwrap_or(1)) as u64;
        QueuedJob {
            job: JobId::from_uuid(self.ids.next_uuid()),
            group: format!("g{}", self.lot.below(GROUPS)).parse().expect("it is a name"),
            since: NOW.plus(after),
            tasks: IndexRanges::span(0, 0),
            resources: Resources {
                gpus: Some(GpuRequest { selector, quantity }),
                cpus_milli: gpus * CPUS_MILLI_PER_GPU / 2,
                memory_mib: u64::from(gpus) * MEMORY_MIB_PER_GPU / 2,
            },
            nodes,
            image: None,
            inputs: vec![],
            user: None,
            restarts: Restarts::Anew,
            done: DurationMs(0),
            estimate: DurationMs::from_secs(seconds),
            longest: DurationMs::from_secs(2 * seconds),
            placement: Placement::default(),
            class: None,
            deadline: None,
            grace: DurationMs::from_secs(30),
            held: spillway_types::Held::No,
            standing: Standing::Plain,
        }
    }

    /// Carries out what was decided: the nodes have it or clouds launch it, and the jobs wait no more.
    pub(crate) fn carry_out(&mut self, planner: &mut Planner, decisions: &[Decision], now: UnixMs) {
        let mut touched = BTreeSet::new();
        for decision in decisions {
            planner.remove_job(decision.job);
            let parts = match &decision.target {
                Target::Nodes { parts } => parts,
                Target::Launch { site, instance_type, .. } => {
                    let taken = |o: &&mut CloudOffer| o.site == *site && o.instance_type == *instance_type;
                    let offer = self.offers.iter_mut().find(taken).expect("it was offered");
                    offer.available = offer.available.saturating_sub(1);
                    continue;
                }
            };
            for part in parts {
                let Some(node) = self.nodes.get_mut(&part.node) else { continue };
                node.free.take(&part.allocation).expect("the planner gives out what is free");
                let ends = now.plus(DurationMs::from_secs(3600));
                node.running.push(RunningPart {
                    began: now,
                    ends,
                    allocation: part.allocation.clone(),
                    owner: None,
                });
                touched.insert(part.node);
            }
        }
        planner.set_offers(self.offers.clone());
        for node in touched {
            planner.set_node(self.nodes[&node].clone(), now);
        }
    }
}

fn capacity(model: &str) -> NodeCapacity {
    let accelerator = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: model.parse().expect("it is a model"),
        memory_mib: 81_920,
        mig: vec![],
        domain: None,
    };
    NodeCapacity {
        accelerators: (0..GPUS).map(accelerator).collect(),
        cpus_milli: GPUS * CPUS_MILLI_PER_GPU,
        memory_mib: u64::from(GPUS) * MEMORY_MIB_PER_GPU,
    }
}

fn part(indexes: std::ops::Range<u32>) -> Allocation {
    let count = u32::try_from(indexes.len()).unwrap_or(0);
    Allocation {
        shares: indexes.map(|index| AcceleratorShare { index, blocks: 100 }).collect(),
        cpus_milli: count * CPUS_MILLI_PER_GPU / 2,
        memory_mib: u64::from(count) * MEMORY_MIB_PER_GPU / 2,
        ..Allocation::default()
    }
}

/// One instance type for each model in two regions, few of each to be had.
fn offers() -> Vec<CloudOffer> {
    let offer = |(at, model): (usize, &&str), region: usize| CloudOffer {
        cloud: "cloud".parse().expect("it is a name"),
        site: format!("region-{region}").parse().expect("it is a name"),
        jurisdiction: None,
        instance_type: format!("x{at}.8").parse().expect("it is a type"),
        capacity: capacity(model),
        price: HourlyRate(20_000_000 + 1_000_000 * i64::try_from(at).unwrap_or(0)),
        boot: DurationMs::from_secs(180),
        available: 10,
        terms: OfferTerms::default(),
    };
    (0..2).flat_map(|region| MODELS.iter().enumerate().map(move |model| offer(model, region))).collect()
}
