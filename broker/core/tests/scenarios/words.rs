//! Builders that make a scenario read like sentences.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::command::{PartNews, TickLimits};
use spillway_core::entity::{Attempt, Group, Instance, Job, Node, Pool, Site};
use spillway_core::{Command, Refusal, Reply, State, invariants};
use spillway_policies::{CloudOffer, Policy};
use spillway_sim::{Answer, Program, World};
use spillway_types::{
    Accelerator, ArrayRange, AttemptId, Capabilities, Checkpoint, DurationMs, GroupName, HourlyRate,
    InstanceId, Inventory, InventorySource, JobId, JobSpec, NodeCapacity, NodeId, PartEnd, Placement,
    Resources, RetryPolicy, Role, SiteKind, Tariff,
};

pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const DOLLAR: i64 = 1_000_000;
pub(crate) const BOOT: DurationMs = DurationMs::from_secs(120);

/// Parses a name of any kind.
pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn capacity(gpus: &str) -> NodeCapacity {
    let (model, count) = gpus.split_once(':').unwrap();
    let count: u32 = count.parse().unwrap();
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: name(model),
        memory_mib: 81_559,
        mig: vec![],
        domain: None,
    };
    NodeCapacity { accelerators: (0..count).map(gpu).collect(), cpus_milli: 64_000, memory_mib: 512 * 1024 }
}

pub(crate) fn inventory(gpus: &str) -> Inventory {
    Inventory {
        hostname: "n1".to_owned(),
        capacity: capacity(gpus),
        capabilities: Capabilities { process: true, container: true, fractions: true },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    }
}

/// A job of group `lab`, thought to run one hour, limited to two.
pub(crate) fn job(gpus: &str) -> JobSpec {
    JobSpec {
        name: "train".to_owned(),
        group: name("lab"),
        command: vec!["train".to_owned()],
        env: BTreeMap::new(),
        image: None,
        resources: Resources { gpus: Some(gpus.parse().unwrap()), cpus_milli: 1000, memory_mib: 1024 },
        nodes: 1,
        array: None,
        time_limit: DurationMs(2 * HOUR),
        expected: Some(DurationMs(HOUR)),
        deadline: None,
        class: None,
        inputs: vec![],
        placement: Placement::default(),
        checkpoint: Checkpoint::default(),
        retry: RetryPolicy::default(),
        lease: DurationMs::from_secs(60),
    }
}

pub(crate) fn gang(nodes: u32, gpus: &str) -> JobSpec {
    JobSpec { nodes, ..job(gpus) }
}

pub(crate) fn array(tasks: u32, gpus: &str) -> JobSpec {
    JobSpec { array: Some(ArrayRange { first: 0, last: tasks - 1 }), ..job(gpus) }
}

/// A job that never starts twice.
pub(crate) fn once(gpus: &str) -> JobSpec {
    JobSpec { retry: RetryPolicy { max_attempts: 3, on_loss: false, on_failure: false }, ..job(gpus) }
}

pub(crate) const fn ended_well(ran_ms: u64) -> PartNews {
    PartNews::Ended { end: PartEnd::Exited { code: 0 }, ran_ms }
}

pub(crate) const fn failed(code: i32, ran_ms: u64) -> PartNews {
    PartNews::Ended { end: PartEnd::Exited { code }, ran_ms }
}

pub(crate) const fn usage(from_ms: u64, to_ms: u64) -> PartNews {
    PartNews::Usage { from_ms, to_ms }
}

/// A federation with site `home` (pool `main`, 1.00 for a GPU-hour), region `east` of cloud `mock`, group `lab` of
/// `org`, its member `ada`, and the admin `root`. Every command is followed by a check of all invariants.
pub(crate) struct Scene {
    pub(crate) world: World,
}

/// What the cloud offers, at this many dollars an hour.
pub(crate) fn offered(gpus: &str, dollars: i64) -> CloudOffer {
    CloudOffer {
        cloud: name("mock"),
        site: name("east"),
        jurisdiction: None,
        instance_type: name("big"),
        capacity: capacity(gpus),
        price: HourlyRate(dollars * DOLLAR),
        boot: BOOT,
        available: 100,
        terms: spillway_types::OfferTerms::default(),
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        let mut scene = Self { world: World::new(7, Policy::default()) };
        let site = |name_, kind, cloud: Option<&str>| Site {
            name: name(name_),
            kind,
            jurisdiction: None,
            cloud: cloud.map(name),
        };
        scene.must(Command::DeclareSite(site("home", SiteKind::OnPrem, None)));
        scene.must(Command::DeclareSite(site("east", SiteKind::Cloud, Some("mock"))));
        let tariff = Tariff { per_gpu: HourlyRate(DOLLAR), per_cpu: HourlyRate(0) };
        scene.pool("main", "home", tariff, None);
        scene.pool("east", "east", Tariff::default(), None);
        scene.group("org", None, None);
        scene.group("lab", Some("org"), None);
        scene.user("ada", Role::Member, &["lab"]);
        scene.user("root", Role::Admin, &[]);
        scene
    }

    pub(crate) fn pool(&mut self, pool: &str, site: &str, tariff: Tariff, groups: Option<&[&str]>) {
        let groups = groups.map(|groups| groups.iter().map(|group| name(group)).collect());
        self.must(Command::DeclarePool(Pool {
            name: name(pool),
            site: name(site),
            tariff,
            groups,
            labels: [].into(),
        }));
    }

    pub(crate) fn group(&mut self, group: &str, parent: Option<&str>, budget_micros: Option<i64>) {
        let group = Group {
            name: name(group),
            parent: parent.map(name),
            weight: 1,
            priority: 0,
            budget_micros,
            budget_stated: None,
        };
        self.must(Command::DeclareGroup(group));
    }

    pub(crate) fn user(&mut self, user: &str, role: Role, groups: &[&str]) {
        let groups: BTreeSet<GroupName> = groups.iter().map(|group| name(group)).collect();
        self.must(Command::DeclareUser { user: name(user), role, groups });
    }

    /// The command is taken.
    pub(crate) fn must(&mut self, command: Command) -> Reply {
        self.give(command).unwrap()
    }

    /// The command is refused, and nothing has changed.
    pub(crate) fn refused(&mut self, command: Command) -> Refusal {
        let (before, entries) = (self.state().clone(), self.world.journal().len());
        let refusal = self.give(command).unwrap_err();
        assert_eq!((self.state(), self.world.journal().len()), (&before, entries), "{refusal}");
        refusal
    }

    /// The command is taken and changes nothing.
    pub(crate) fn idle(&mut self, command: Command) -> Reply {
        let (before, entries) = (self.state().clone(), self.world.journal().len());
        let reply = self.must(command);
        assert_eq!((self.state(), self.world.journal().len()), (&before, entries), "{reply:?}");
        reply
    }

    fn give(&mut self, command: Command) -> Result<Reply, Refusal> {
        let reply = self.world.command(command);
        self.check();
        reply
    }

    pub(crate) fn check(&self) {
        assert_eq!(invariants::check_all(self.state()), Vec::<String>::new());
        assert_eq!(self.world.federation().violation_count(), 0);
    }

    pub(crate) fn state(&self) -> &State {
        self.world.state()
    }

    /// A node of pool `main` with these accelerators, connected.
    pub(crate) fn node(&mut self, gpus: &str) -> NodeId {
        self.node_in("main", gpus)
    }

    pub(crate) fn node_in(&mut self, pool: &str, gpus: &str) -> NodeId {
        let id = self.world.join(&name(pool), &name("root"), inventory(gpus)).unwrap();
        self.world.connect(id).unwrap();
        id
    }

    /// The cloud would launch this, at this many dollars an hour.
    pub(crate) fn offer(&mut self, gpus: &str, dollars: i64) {
        self.world.set_offers(vec![offered(gpus, dollars)]);
    }

    pub(crate) fn submission(spec: &JobSpec) -> Command {
        Command::Submit { spec: Box::new(spec.clone()), user: name("ada"), key: None }
    }

    pub(crate) fn submit(&mut self, spec: &JobSpec) -> JobId {
        let Reply::Job(job) = self.must(Self::submission(spec)) else { panic!("a submission gives a job") };
        job
    }

    /// Submits and places; gives the job and its first attempt.
    pub(crate) fn start(&mut self, spec: &JobSpec) -> (JobId, AttemptId) {
        let job = self.submit(spec);
        assert_eq!(self.world.place().unwrap(), 1, "{:?}", self.world.plan());
        (job, self.attempt_of(job))
    }

    pub(crate) fn cancel(&mut self, job: JobId) {
        self.must(Command::Cancel { job, user: name("ada") });
    }

    /// The node says this about a part of its, after what it said before.
    pub(crate) fn says(&mut self, node: NodeId, attempt: AttemptId, rank: u32, news: PartNews) {
        self.world.node_mut(node).unwrap().say(attempt, rank, news);
        self.world.deliver(node).unwrap();
        self.check();
    }

    /// Every node hears what it should do, does it, and reports.
    pub(crate) fn contact(&mut self) {
        for _ in 0..4 {
            self.world.contact_all().unwrap();
            self.check();
        }
    }

    /// Time passes; nodes report and parts that nobody hears of are declared silent.
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.world.pass(DurationMs::from_secs(seconds));
        self.world.contact_all().unwrap();
        self.world.declare_silence().unwrap();
        self.check();
    }

    pub(crate) fn tick(&mut self) {
        self.world.tick(TickLimits::default()).unwrap();
        self.check();
    }

    /// The clouds launch, end and boot what there is to be launched, ended and booted.
    pub(crate) fn clouds(&mut self) {
        self.world.drive_clouds(Answer::Launched, BOOT).unwrap();
        self.check();
    }

    /// Instances that were asked for are launched, boot, and begin with what waits for them.
    pub(crate) fn boot(&mut self) {
        self.clouds();
        self.pass(BOOT.0 / 1000);
        self.clouds();
        self.contact();
    }

    pub(crate) fn runs(&mut self, job: JobId, seconds: u64, end: PartEnd) {
        self.world.set_program(job, Program { runs: DurationMs::from_secs(seconds), end });
    }

    pub(crate) fn job(&self, id: JobId) -> &Job {
        self.world.job(id).unwrap()
    }

    pub(crate) fn attempt(&self, id: AttemptId) -> &Attempt {
        self.world.attempt(id).unwrap()
    }

    pub(crate) fn broker_node(&self, id: NodeId) -> &Node {
        &self.state().nodes[&id]
    }

    pub(crate) fn attempt_of(&self, job: JobId) -> AttemptId {
        self.job(job).task(0).unwrap().attempt().unwrap()
    }

    /// The one instance that is not gone.
    pub(crate) fn instance(&self) -> &Instance {
        let mut all = self.state().instances.values();
        let only = all.next().unwrap();
        assert!(all.next().is_none());
        only
    }

    pub(crate) fn instances(&self) -> Vec<InstanceId> {
        self.state().instances.keys().copied().collect()
    }

    /// Where the job's first task stands, as people read it.
    pub(crate) fn stands(&self, job: JobId) -> &'static str {
        self.job(job).task(0).unwrap().as_str()
    }

    pub(crate) fn spent(&self) -> i64 {
        self.state().book.spent(&name("org"))
    }

    pub(crate) fn held(&self) -> i64 {
        self.state().book.held(&name("org"))
    }

    /// Nothing is left but tenants, places and nodes, and the journal gives the same state.
    pub(crate) fn is_over(&self) {
        let state = self.state();
        assert!(state.jobs.is_empty(), "{:?}", state.jobs);
        assert!(state.attempts.is_empty(), "{:?}", state.attempts);
        assert!(state.instances.is_empty(), "{:?}", state.instances);
        assert_eq!(self.held(), 0);
        assert_eq!(self.world.replayed().as_ref(), Ok(state));
    }
}
