//! A small federation, driven by commands, with everything it does committed to a store.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::command::{Endpoint, InstanceNews, JoinProof, PartNews, PartReport, TickLimits};
use spillway_core::entity::{GoneReason, Group, Node, Pool, Site};
use spillway_core::{Command, Federation, Reply, State};
use spillway_policies::{CloudOffer, Decision, PartPlacement, Target};
use spillway_types::lease::DEFAULT_LEASE;
use spillway_types::{
    Accelerator, AcceleratorShare, Allocation, AttemptId, Capabilities, Checkpoint, DurationMs, GroupName,
    HourlyRate, InstanceId, Inventory, InventorySource, JobId, JobSpec, NodeCapacity, NodeId, NodeStep,
    PartEnd, Placement, Resources, RetryPolicy, Role, SequentialIds, SiteKind, Tariff, UnixMs, UserName,
};

use crate::{Batch, JournalRow, Store, StoreError};

/// 2026-01-31T23:59:00Z: the month ends within a test.
const START: UnixMs = UnixMs(1_769_903_940_000);

pub(super) struct World {
    pub(super) federation: Federation,
    ids: SequentialIds,
    pub(super) now: UnixMs,
    rows: Vec<JournalRow>,
}

pub(super) fn user() -> UserName {
    "ann".parse().unwrap()
}

fn capacity() -> NodeCapacity {
    let accelerator = |index: u32| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: "H100".parse().unwrap(),
        memory_mib: 81_920,
        mig: vec![],
        domain: Some("nvlink-0".into()),
    };
    NodeCapacity { accelerators: (0..2).map(accelerator).collect(), cpus_milli: 64_000, memory_mib: 512_000 }
}

fn inventory(hostname: &str) -> Inventory {
    Inventory {
        hostname: hostname.into(),
        capacity: capacity(),
        capabilities: Capabilities { process: true, container: true, fractions: false },
        source: InventorySource::Declared,
        labels: BTreeMap::from([("rack".to_owned(), "r7 \u{e9}\u{0}".to_owned())]),
    }
}

fn one_gpu(index: u32) -> Allocation {
    let shares = vec![AcceleratorShare { index, blocks: 100 }];
    Allocation { shares, mig: vec![], cpus_milli: 4_000, memory_mib: 16_384 }
}

pub(super) fn spec(name: &str, group: &str) -> JobSpec {
    let spec = JobSpec {
        name: name.into(),
        group: group.parse().unwrap(),
        command: vec!["python".into(), "train.py".into(), "\"quoted\" \u{1F980}".into()],
        env: BTreeMap::from([("SEED".to_owned(), "7".to_owned())]),
        image: None,
        resources: Resources { gpus: Some("H100:1".parse().unwrap()), cpus_milli: 4_000, memory_mib: 16_384 },
        nodes: 1,
        array: None,
        time_limit: DurationMs::from_secs(3600),
        expected: None,
        deadline: None,
        class: None,
        inputs: vec![],
        placement: Placement::default(),
        checkpoint: Checkpoint::default(),
        retry: RetryPolicy::default(),
        lease: DEFAULT_LEASE,
    };
    spec.checked().unwrap()
}

fn offer() -> CloudOffer {
    CloudOffer {
        cloud: "aws".parse().unwrap(),
        site: "us-east-1".parse().unwrap(),
        jurisdiction: None,
        instance_type: "p5.48xlarge".parse().unwrap(),
        capacity: capacity(),
        price: HourlyRate(8_000_000),
        boot: DurationMs::from_secs(120),
        available: 4,
        terms: spillway_types::OfferTerms::default(),
    }
}

impl World {
    /// Goes on from a state. `seed` tells its ids from those of other worlds, and sorts them after lower seeds.
    pub(super) fn on(state: State, seed: u64) -> Self {
        let mut federation = Federation::new(state);
        federation.set_offers(vec![offer()]);
        Self { federation, ids: SequentialIds::new(seed), now: START, rows: vec![] }
    }

    /// A federation with an on-prem site, a cloud, two groups and a user; nothing is committed yet.
    pub(super) fn new() -> Self {
        let mut world = Self::on(State::default(), 1);
        world.run(Command::StartBroker { deployment: "test".into() });
        let site = |name: &str, kind, cloud: Option<&str>| {
            let cloud = cloud.map(|cloud| cloud.parse().unwrap());
            Command::DeclareSite(Site {
                name: name.parse().unwrap(),
                kind,
                jurisdiction: Some("KR".into()),
                cloud,
            })
        };
        let pool = |name: &str, site: &str| {
            let tariff = Tariff { per_gpu: HourlyRate(2_000_000), per_cpu: HourlyRate(10_000) };
            Command::DeclarePool(Pool {
                name: name.parse().unwrap(),
                site: site.parse().unwrap(),
                tariff,
                groups: None,
                labels: [].into(),
            })
        };
        world.run(site("seoul", SiteKind::OnPrem, None));
        world.run(site("us-east-1", SiteKind::Cloud, Some("aws")));
        world.run(pool("dgx", "seoul"));
        world.run(pool("us-east-1", "us-east-1"));
        world.declare_group("lab", None, None);
        world.declare_group("vision", Some("lab"), Some(1_000_000_000));
        world.declare_group("speech", Some("lab"), None);
        let groups: BTreeSet<GroupName> = BTreeSet::from(["lab".parse().unwrap()]);
        world.run(Command::DeclareUser { user: user(), role: Role::Member, groups });
        world.run(Command::IssueToken { user: user(), hash: "aa".into() });
        world
    }

    fn declare_group(&mut self, name: &str, parent: Option<&str>, budget_micros: Option<i64>) {
        let parent = parent.map(|parent| parent.parse().unwrap());
        let group = Group {
            name: name.parse().unwrap(),
            parent,
            weight: 1,
            priority: 0,
            budget_micros,
            budget_stated: None,
        };
        self.run(Command::DeclareGroup(group));
    }

    pub(super) fn state(&self) -> &State {
        self.federation.state()
    }

    /// Carries out a command a second later, and keeps what it gave for the next commit.
    pub(super) fn run(&mut self, command: Command) -> Reply {
        self.now = self.now.plus(DurationMs(1000));
        let outcome = self.federation.handle(command, self.now, &mut self.ids).unwrap();
        if !outcome.events.is_empty() {
            self.rows.push(JournalRow { seq: outcome.journal, at: self.now, events: outcome.events });
        }
        outcome.reply
    }

    /// What happened since the last batch.
    pub(super) fn batch(&mut self) -> Batch<'_> {
        self.federation.check();
        let changes = self.federation.take_changes();
        Batch { state: self.federation.state(), changes, journal: std::mem::take(&mut self.rows) }
    }

    pub(super) async fn commit(&mut self, store: &Store) -> Result<(), StoreError> {
        let batch = self.batch();
        store.commit(batch).await
    }

    pub(super) fn submit(&mut self, name: &str, group: &str) -> JobId {
        self.submit_reading(name, group, &[])
    }

    /// Submits a job that reads these data sets.
    pub(super) fn submit_reading(&mut self, name: &str, group: &str, datasets: &[&str]) -> JobId {
        let inputs = datasets.iter().map(|name| name.parse().unwrap()).collect();
        let spec = Box::new(JobSpec { inputs, ..spec(name, group) });
        let key = Some((format!("key-of-{name}"), "digest".to_owned()));
        let Reply::Job(job) = self.run(Command::Submit { spec, user: user(), key }) else { panic!("no job") };
        job
    }

    fn connect(&mut self, node: NodeId, hostname: &str) {
        let inventory = Box::new(inventory(hostname));
        let observed = BTreeSet::new();
        self.run(Command::Connect { node, boot_nonce: u64::MAX, inventory, observed, spool: None });
    }

    /// A machine joins the pool `dgx`.
    pub(super) fn join(&mut self, hostname: &str) -> NodeId {
        let (hash, pool) = (format!("join-{hostname}"), "dgx".parse().unwrap());
        let lifetime = DurationMs::from_secs(600);
        self.run(Command::IssueJoinToken { hash: hash.clone(), pool, lifetime, issuer: user() });
        let (key_hash, hostname_sent) = (format!("key-{hostname}"), hostname.to_owned());
        let proof = JoinProof::Token { hash };
        let Reply::Node(node) = self.run(Command::Enrol { proof, key_hash, hostname: hostname_sent }) else {
            panic!("it did not join")
        };
        self.connect(node, hostname);
        node
    }

    fn place(&mut self, job: JobId, target: Target) -> AttemptId {
        let decision = Decision { job, task: 0, target, hold_micros: 9_000_000, because: "cheapest".into() };
        let reply = self.run(Command::Place { decisions: vec![decision], endpoint: Endpoint::default() });
        assert_eq!(reply, Reply::Placed { started: 1, stale: 0 });
        self.state().jobs[&job].active[&0].attempt().unwrap()
    }

    /// Starts a job on accelerator `index` of a node.
    pub(super) fn place_on(&mut self, job: JobId, node: NodeId, index: u32) -> AttemptId {
        let part = PartPlacement { node, allocation: one_gpu(index), rate: HourlyRate(2_040_000) };
        self.place(job, Target::Nodes { parts: vec![part] })
    }

    fn report(&mut self, node: NodeId, attempt: AttemptId, news: Vec<PartNews>) {
        let entry = &self.state().nodes[&node];
        let (epoch, first) = (entry.epoch, entry.acked + 1);
        let reports = news.into_iter().map(|news| PartReport { attempt, rank: 0, news }).collect();
        self.run(Command::Report { node, epoch, first, reports });
    }

    /// The part starts and has run for 10 s.
    pub(super) fn runs(&mut self, node: NodeId, attempt: AttemptId) {
        self.report(node, attempt, vec![PartNews::Prepared, PartNews::Started]);
        self.now = self.now.plus(DurationMs(10_000));
        self.report(node, attempt, vec![PartNews::Usage { from_ms: 0, to_ms: 10_000 }]);
    }

    /// The part has run for 60 s and ends.
    pub(super) fn ends(&mut self, node: NodeId, attempt: AttemptId) {
        self.now = self.now.plus(DurationMs(60_000));
        self.report(
            node,
            attempt,
            vec![PartNews::Ended { end: PartEnd::Exited { code: 0 }, ran_ms: 60_000 }],
        );
    }

    /// A minute later every node says that all its use is here.
    pub(super) fn says_all_is_here(&mut self) {
        self.now = self.now.plus(DurationMs(60_000));
        let said = |node: &Node| (node.id, node.epoch, node.usage.mark);
        let nodes: Vec<_> = self.state().nodes.values().map(said).collect();
        for (node, epoch, sent) in nodes {
            self.run(Command::StateUsage { node, epoch, sent, age_ms: 0 });
        }
    }

    /// Launches an instance for a job, up to its node.
    pub(super) fn burst(&mut self, job: JobId) -> (InstanceId, NodeId, AttemptId) {
        let target = Target::Launch {
            cloud: "aws".parse().unwrap(),
            site: "us-east-1".parse().unwrap(),
            instance_type: "p5.48xlarge".parse().unwrap(),
            price: HourlyRate(8_000_000),
            market: spillway_types::Market::OnDemand,
            allocation: one_gpu(0),
            rate: HourlyRate(4_000_000),
        };
        let attempt = self.place(job, target);
        let instance = self.state().attempts[&attempt].parts[0].instance.unwrap();
        self.run(Command::StepInstance { instance, what: InstanceNews::Asking });
        let what = InstanceNews::Exists { provider_id: "i-1".into(), launched: self.now };
        self.run(Command::StepInstance { instance, what });
        let proof = JoinProof::Instance { instance };
        let (key_hash, hostname) = ("key-i-1".to_owned(), "i-1".to_owned());
        let Reply::Node(node) = self.run(Command::Enrol { proof, key_hash, hostname }) else {
            panic!("it did not join")
        };
        self.connect(node, "i-1");
        (instance, node, attempt)
    }

    pub(super) fn end_instance(&mut self, instance: InstanceId) {
        self.run(Command::StepInstance { instance, what: InstanceNews::Terminate });
        let what = InstanceNews::Gone(GoneReason::Terminated);
        self.run(Command::StepInstance { instance, what });
    }

    /// A day in which everything happens that can be stored: jobs that end, run, wait and are cancelled, a cloud
    /// instance that comes and goes, one that stays, a node that leaves. Committed in several batches.
    pub(super) async fn busy_day(store: &Store) -> Self {
        let mut world = Self::new();
        world.commit(store).await.unwrap();
        let node = world.join("dgx-1");
        let leaving = world.join("dgx-2");
        world.commit(store).await.unwrap();
        let (done, running) = (world.submit("done", "vision"), world.submit("running", "vision"));
        let (cloudy, cancelled) = (world.submit("cloudy", "speech"), world.submit("cancelled", "speech"));
        world.submit("waiting", "lab");
        let attempt = world.place_on(done, node, 0);
        world.runs(node, attempt);
        world.commit(store).await.unwrap();
        world.ends(node, attempt);
        world.run(Command::Cancel { job: cancelled, user: user() });
        let attempt = world.place_on(running, node, 1);
        world.runs(node, attempt);
        let (instance, cloud_node, attempt) = world.burst(cloudy);
        world.commit(store).await.unwrap();
        world.runs(cloud_node, attempt);
        world.ends(cloud_node, attempt);
        world.end_instance(instance);
        world.run(Command::StepNode { node: leaving, step: NodeStep::Leave });
        let another = world.submit("another", "speech");
        world.burst(another);
        world.run(Command::Tick { limits: TickLimits::default() });
        world.commit(store).await.unwrap();
        world
    }
}
