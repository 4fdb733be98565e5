//! Builders that make a planner test read like sentences. Times are in seconds from `NOW`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spillway_types::data::BYTES_PER_GB;
use spillway_types::{
    Accelerator, AcceleratorShare, Allocation, AttemptId, Capabilities, DataMap, Dataset, DurationMs,
    FreeResources, HourlyRate, IndexRanges, Interconnect, JobId, Link, Market, NodeCapacity, NodeId,
    Placement, Resources, SiteKind, Spot, Tariff, UnixMs,
};
use uuid::Uuid;

use crate::{
    Amounts, Class, CloudOffer, GroupView, NodePrice, NodeView, PartOwner, Policy, QueuedJob, Restarts,
    RunningPart, Snapshot,
};

/// 2023-11-14T12:00:00Z, noon, so that clock times in sentences are easy to read.
pub(crate) const NOW: UnixMs = UnixMs(1_699_963_200_000);

pub(crate) const fn at(seconds: i64) -> UnixMs {
    UnixMs(NOW.0 + seconds * 1000)
}

pub(crate) const fn usd(dollars: i64) -> i64 {
    dollars * 1_000_000
}

pub(crate) fn snapshot() -> Snapshot {
    Snapshot {
        now: NOW,
        queue: vec![],
        nodes: vec![],
        offers: vec![],
        groups: BTreeMap::new(),
        data: DataMap::default(),
        gate: None,
        policy: Policy::default(),
    }
}

pub(crate) fn capacity(model: &str, gpus: u32, cpus: u32) -> NodeCapacity {
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: model.parse().unwrap(),
        memory_mib: 81_559,
        mig: vec![],
        domain: None,
    };
    NodeCapacity {
        accelerators: (0..gpus).map(gpu).collect(),
        cpus_milli: cpus * 1000,
        memory_mib: u64::from(cpus) * 8192,
    }
}

impl Snapshot {
    pub(crate) fn node(mut self, node: NodeView) -> Self {
        self.nodes.push(node);
        self
    }

    pub(crate) fn offer(mut self, offer: CloudOffer) -> Self {
        self.offers.push(offer);
        self
    }

    pub(crate) fn job(mut self, job: QueuedJob) -> Self {
        self.queue.push(job);
        self
    }

    /// A dataset of so many gigabytes, with copies at these sites.
    pub(crate) fn data(mut self, name: &str, gigabytes: u64, at: &[&str]) -> Self {
        let replicas = at.iter().map(|site| site.parse().unwrap()).collect();
        let dataset = Dataset { bytes: gigabytes * BYTES_PER_GB, replicas, ..Dataset::default() };
        self.data.datasets.insert(name.parse().unwrap(), dataset);
        self
    }

    /// The dataset's copy at this site is one that agents read from everywhere.
    pub(crate) fn brought(mut self, name: &str, from: &str) -> Self {
        let dataset = self.data.datasets.get_mut(&name.parse().unwrap()).unwrap();
        dataset.sources.insert(from.parse().unwrap(), "https://a.example/it".parse().unwrap());
        self
    }

    /// A link of so many gigabits a second, with an egress price for a gigabyte in cents.
    pub(crate) fn link(mut self, from: &str, to: &str, gigabits: u64, cents: i64) -> Self {
        let link = Link { bits_per_second: gigabits * 1_000_000_000, egress_micros_per_gb: cents * 10_000 };
        self.data.links.entry(from.parse().unwrap()).or_default().insert(to.parse().unwrap(), link);
        self
    }

    /// Other terms for a class.
    pub(crate) fn class(mut self, name: &str, class: Class) -> Self {
        self.policy.classes.insert(name.parse().unwrap(), class);
        self
    }

    /// Without looking for a better order than that in which the jobs came.
    pub(crate) fn unsearched(mut self) -> Self {
        self.policy.search = 0;
        self
    }

    pub(crate) fn group(mut self, name: &str, priority: i32, weight: u32, budget_left: Option<i64>) -> Self {
        let view = GroupView { priority, weight, in_use: Amounts::default(), budget_left };
        self.groups.insert(name.parse().unwrap(), view);
        self
    }
}

/// A node of site `home`, pool `main`, with 16 CPUs for each GPU, at 1.00 for a GPU-hour.
pub(crate) fn node(id: u128, gpus: &str) -> NodeView {
    let (model, count) = gpus.split_once(':').unwrap();
    let count: u32 = count.parse().unwrap();
    let capacity = capacity(model, count, 16 * count.max(1));
    NodeView {
        node: NodeId::from_uuid(Uuid::from_u128(id)),
        hostname: format!("n{id}"),
        site: "home".parse().unwrap(),
        kind: SiteKind::OnPrem,
        jurisdiction: None,
        pool: "main".parse().unwrap(),
        groups: None,
        takes_work: true,
        opens: None,
        free: FreeResources::all_of(&capacity),
        capacity,
        capabilities: Capabilities { process: true, container: true, fractions: true },
        price: NodePrice::Tariff(Tariff { per_gpu: HourlyRate(usd(1)), per_cpu: HourlyRate(0) }),
        market: Market::OnDemand,
        running: vec![],
    }
}

impl NodeView {
    pub(crate) fn in_site(mut self, site: &str) -> Self {
        self.site = site.parse().unwrap();
        self
    }

    pub(crate) fn in_pool(mut self, pool: &str) -> Self {
        self.pool = pool.parse().unwrap();
        self
    }

    pub(crate) fn in_country(mut self, jurisdiction: &str) -> Self {
        self.jurisdiction = Some(jurisdiction.to_owned());
        self
    }

    pub(crate) fn for_groups(mut self, groups: &[&str]) -> Self {
        self.groups = Some(groups.iter().map(|group| group.parse().unwrap()).collect::<BTreeSet<_>>());
        self
    }

    pub(crate) fn closed(mut self) -> Self {
        self.takes_work = false;
        self
    }

    pub(crate) fn at_per_gpu_hour(mut self, micros: i64) -> Self {
        self.price = NodePrice::Tariff(Tariff { per_gpu: HourlyRate(micros), per_cpu: HourlyRate(0) });
        self
    }

    pub(crate) fn rented_at(mut self, dollars: i64) -> Self {
        self.kind = SiteKind::Cloud;
        self.price = NodePrice::Instance(HourlyRate(usd(dollars)));
        self
    }

    pub(crate) fn in_domain(mut self, domain: &str) -> Self {
        self.capacity.accelerators.iter_mut().for_each(|gpu| gpu.domain = Some(domain.to_owned()));
        self
    }

    /// What was made busy last belongs to this job, which began so many seconds ago and is charged so many dollars.
    pub(crate) fn owned_by(mut self, asks: QueuedJob, began: i64, dollars: i64) -> Self {
        let part = self.running.last_mut().unwrap();
        part.began = at(-began);
        let attempt = AttemptId::from_uuid(asks.job.uuid());
        let rate = HourlyRate(usd(dollars));
        part.owner = Some(PartOwner { attempt, asks: Arc::new(asks), rate, displaced: 0 });
        self
    }

    /// Its lowest free GPUs are busy until this many seconds from now.
    pub(crate) fn busy(mut self, gpus: u32, until: i64) -> Self {
        let free: Vec<u32> = self
            .capacity
            .accelerators
            .iter()
            .map(|a| a.index)
            .filter(|i| self.free.blocks_of(*i) == 100)
            .collect();
        let shares = free
            .into_iter()
            .take(gpus as usize)
            .map(|index| AcceleratorShare { index, blocks: 100 })
            .collect();
        let allocation = Allocation { shares, cpus_milli: gpus * 1000, ..Allocation::default() };
        self.free.take(&allocation).unwrap();
        let began = at(until.min(0) - 4 * until.min(0).abs());
        self.running.push(RunningPart { began, ends: at(until), allocation, owner: None });
        self
    }
}

/// An offer of cloud `aws` in site `cloud`: 3 minutes to boot, 16 CPUs for each GPU.
pub(crate) fn offer(name: &str, gpus: &str, dollars: i64) -> CloudOffer {
    let (model, count) = gpus.split_once(':').unwrap();
    let count: u32 = count.parse().unwrap();
    CloudOffer {
        cloud: "aws".parse().unwrap(),
        site: "cloud".parse().unwrap(),
        jurisdiction: None,
        instance_type: name.parse().unwrap(),
        capacity: capacity(model, count, 16 * count.max(1)),
        price: HourlyRate(usd(dollars)),
        boot: DurationMs::from_secs(180),
        available: 1000,
        terms: spillway_types::OfferTerms::default(),
    }
}

/// A job of group `lab` with one task of one hour, limited to two, submitted now.
pub(crate) fn job(id: u128, gpus: &str) -> QueuedJob {
    let gpus = (!gpus.is_empty()).then(|| gpus.parse().unwrap());
    QueuedJob {
        job: JobId::from_uuid(Uuid::from_u128(id)),
        group: "lab".parse().unwrap(),
        since: NOW,
        tasks: IndexRanges::span(0, 0),
        resources: Resources { gpus, cpus_milli: 1000, memory_mib: 1024 },
        nodes: 1,
        image: None,
        estimate: DurationMs::from_secs(3600),
        longest: DurationMs::from_secs(7200),
        placement: Placement::default(),
        class: None,
        deadline: None,
        grace: spillway_types::job::DEFAULT_GRACE,
        inputs: vec![],
        user: None,
        restarts: Restarts::Anew,
        done: DurationMs(0),
        held: spillway_types::Held::No,
        standing: spillway_types::Standing::Plain,
    }
}

impl CloudOffer {
    pub(crate) fn spot(mut self, mean_life_hours: u64) -> Self {
        self.terms.market = Market::Spot;
        self.terms.mean_life = Some(DurationMs::from_secs(3600 * mean_life_hours));
        self
    }

    pub(crate) fn left(mut self, available: u32) -> Self {
        self.available = available;
        self
    }
}

impl QueuedJob {
    pub(crate) fn reads(mut self, dataset: &str) -> Self {
        self.inputs.push(dataset.parse().unwrap());
        self
    }

    pub(crate) fn takes_spot(mut self) -> Self {
        self.placement.spot = Spot::Allow;
        self
    }

    pub(crate) fn checkpoints(mut self, every: u64) -> Self {
        self.restarts = Restarts::FromCheckpoint { every: DurationMs::from_secs(every) };
        self
    }

    /// It should have ended this many seconds from now.
    pub(crate) fn due(mut self, seconds: i64) -> Self {
        self.deadline = Some(at(seconds));
        self
    }

    pub(crate) fn has_done(mut self, seconds: u64) -> Self {
        self.done = DurationMs::from_secs(seconds);
        self
    }

    pub(crate) fn of_class(mut self, class: &str) -> Self {
        self.class = Some(class.parse().unwrap());
        self
    }

    pub(crate) fn in_one_domain(mut self) -> Self {
        self.placement.interconnect = Interconnect::SameDomain;
        self
    }

    pub(crate) fn of_group(mut self, group: &str) -> Self {
        self.group = group.parse().unwrap();
        self
    }

    pub(crate) fn since(mut self, seconds: i64) -> Self {
        self.since = at(seconds);
        self
    }

    pub(crate) fn tasks(mut self, count: u32) -> Self {
        self.tasks = IndexRanges::span(0, count - 1);
        self
    }

    pub(crate) fn on_nodes(mut self, nodes: u32) -> Self {
        self.nodes = nodes;
        self
    }

    pub(crate) fn cpus(mut self, cpus: u32) -> Self {
        self.resources.cpus_milli = cpus * 1000;
        self
    }

    pub(crate) fn runs(mut self, seconds: u64) -> Self {
        self.estimate = DurationMs::from_secs(seconds);
        self.longest = DurationMs::from_secs(2 * seconds);
        self
    }

    pub(crate) fn with_image(mut self) -> Self {
        self.image = Some("train:1".to_owned());
        self
    }

    pub(crate) fn allows(mut self, sites: &[&str]) -> Self {
        self.placement.allow = sites.iter().map(|site| site.parse().unwrap()).collect();
        self
    }

    pub(crate) fn prefers(mut self, sites: &[&str]) -> Self {
        self.placement.prefer = sites.iter().map(|site| site.parse().unwrap()).collect();
        self
    }

    pub(crate) fn must_stay_in(mut self, jurisdictions: &[&str]) -> Self {
        self.placement.residency = jurisdictions.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn pays_at_most(mut self, dollars: i64) -> Self {
        self.placement.max_price = Some(HourlyRate(usd(dollars)));
        self
    }

    pub(crate) fn waits_at_most(mut self, seconds: u64) -> Self {
        self.placement.max_wait = Some(DurationMs::from_secs(seconds));
        self
    }
}
