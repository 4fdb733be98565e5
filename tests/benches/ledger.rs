//! Usage slices a second that are posted durably on SQLite: from the nodes' reports through the core, the ledger and
//! its chain of hashes to the committed transaction; and how the rate changes as the journal grows. Then how many
//! records a second a verification follows.
//!
//! Each commit carries one report of each of 128 nodes with a slice of 5 seconds of each of its 8 attempts: what a
//! busy second brings. No peer does the same: what is compared is the journal when it is short and when it is long.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use spillway_core::command::{Endpoint, JoinProof, PartNews, PartReport};
use spillway_core::entity::{Group, Pool, Site};
use spillway_core::{Command, Federation, Reply, State};
use spillway_policies::{Decision, PartPlacement, Target};
use spillway_store::{Batch, JournalRow, Store};
use spillway_types::lease::DEFAULT_LEASE;
use spillway_types::{
    Accelerator, AcceleratorShare, Allocation, AttemptId, Capabilities, Checkpoint, DurationMs, HourlyRate,
    Inventory, InventorySource, JobSpec, NodeCapacity, NodeId, Placement, Resources, RetryPolicy, Role,
    SequentialIds, SiteKind, Tariff, UnixMs, UserName,
};
use xtask::wait::Stopwatch;

use crate::Settings;
use crate::clock::median;
use crate::report::Measurement;

const NODES: usize = 128;
const GPUS: u32 = 8;
/// What one slice covers: the rhythm of an agent.
const SLICE_MS: u64 = 5000;
/// 2026-03-01T00:00:00Z.
const START: UnixMs = UnixMs(1_772_323_200_000);

struct Fleet {
    federation: Federation,
    ids: SequentialIds,
    rows: Vec<JournalRow>,
    now: UnixMs,
    nodes: Vec<(NodeId, Vec<AttemptId>)>,
    slices: u64,
}

/// Measures both.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite:{}", folder.path().join("ledger.db").display());
    let commits = if settings.quick { 30 } else { 600 };
    runtime.block_on(measure(&url, commits))
}

async fn measure(url: &str, commits: usize) -> Result<Vec<Measurement>> {
    let store = Store::open(url).await?;
    let mut fleet = Fleet::new()?;
    fleet.commit(&store).await?;
    let mut rates = Vec::with_capacity(commits);
    for _ in 0..commits {
        let before = fleet.slices;
        let watch = Stopwatch::start();
        fleet.report()?;
        fleet.commit(&store).await?;
        let posted = u32::try_from(fleet.slices - before)?;
        rates.push(f64::from(posted) / watch.elapsed().as_secs_f64());
    }
    let tenth = (commits / 10).max(1);
    let first = median(&mut rates.get(..tenth).context("commits were made")?.to_vec());
    let last = median(&mut rates.get(commits - tenth..).context("commits were made")?.to_vec());
    let all = median(&mut rates);
    let watch = Stopwatch::start();
    let check = store.verify_ledger().await?;
    let verified = f64::from(u32::try_from(check.head.seq)?) / watch.elapsed().as_secs_f64();
    ensure!(check.defect.is_none(), "the ledger has a defect: {:?}", check.defect);
    ensure!(check.head.seq >= fleet.slices, "every slice is a record");
    store.close().await?;
    let one = |metric: String, value, unit| Measurement { metric: metric.into(), value, unit, peer: None };
    Ok(vec![
        one("usage slices posted durably, sqlite".to_owned(), all, "slices/s"),
        one(format!("the same in the first {tenth} commits"), first, "slices/s"),
        one(
            format!("the same in the last {tenth} of {commits} commits, {} slices", fleet.slices),
            last,
            "slices/s",
        ),
        one(format!("ledger verified, {} records", check.head.seq), verified, "records/s"),
    ])
}

impl Fleet {
    fn new() -> Result<Self> {
        let mut fleet = Self {
            federation: Federation::new(State::default()),
            ids: SequentialIds::new(1),
            rows: vec![],
            now: START,
            nodes: vec![],
            slices: 0,
        };
        let (site, pool, group) = ("home".parse()?, "dgx".parse()?, "vision".parse()?);
        fleet.run(Command::StartBroker { deployment: "bench".into() })?;
        fleet.run(Command::DeclareSite(Site {
            name: site,
            kind: SiteKind::OnPrem,
            jurisdiction: None,
            cloud: None,
        }))?;
        let tariff = Tariff { per_gpu: HourlyRate(2_490_000), per_cpu: HourlyRate(10_000) };
        let site = "home".parse()?;
        fleet.run(Command::DeclarePool(Pool {
            name: pool,
            site,
            tariff,
            groups: None,
            labels: [].into(),
        }))?;
        fleet.run(Command::DeclareGroup(Group {
            name: group,
            parent: None,
            weight: 1,
            priority: 0,
            budget_micros: None,
        }))?;
        let groups = BTreeSet::from(["vision".parse()?]);
        fleet.run(Command::DeclareUser { user: "ann".parse()?, role: Role::Member, groups })?;
        for number in 0..NODES {
            fleet.join(number)?;
        }
        Ok(fleet)
    }

    fn run(&mut self, command: Command) -> Result<Reply> {
        let outcome = self.federation.handle(command, self.now, &mut self.ids)?;
        if !outcome.events.is_empty() {
            self.rows.push(JournalRow { seq: outcome.journal, at: self.now, events: outcome.events });
        }
        Ok(outcome.reply)
    }

    /// A node joins and runs a job on each of its accelerators.
    fn join(&mut self, number: usize) -> Result<()> {
        let hash = format!("join-{number}");
        let (pool, issuer): (_, UserName) = ("dgx".parse()?, "ann".parse()?);
        let lifetime = DurationMs::from_secs(600);
        self.run(Command::IssueJoinToken { hash: hash.clone(), pool, lifetime, issuer })?;
        let proof = JoinProof::Token { hash };
        let (key_hash, hostname) = (format!("key-{number}"), format!("dgx-{number}"));
        let Reply::Node(node) = self.run(Command::Enrol { proof, key_hash, hostname })? else {
            bail!("a node did not join")
        };
        let inventory = Box::new(inventory(number)?);
        self.run(Command::Connect { node, boot_nonce: 1, inventory, observed: BTreeSet::new() })?;
        let mut attempts = vec![];
        for index in 0..GPUS {
            attempts.push(self.start(node, index)?);
        }
        self.nodes.push((node, attempts));
        let started =
            |attempt: &AttemptId| PartReport { attempt: *attempt, rank: 0, news: PartNews::Started };
        self.tell(number, started)
    }

    fn start(&mut self, node: NodeId, index: u32) -> Result<AttemptId> {
        let spec = Box::new(spec(index)?);
        let Reply::Job(job) = self.run(Command::Submit { spec, user: "ann".parse()?, key: None })? else {
            bail!("no job was made")
        };
        let shares = vec![AcceleratorShare { index, blocks: 100 }];
        let allocation = Allocation { shares, mig: vec![], cpus_milli: 4000, memory_mib: 16_384 };
        let parts = vec![PartPlacement { node, allocation, rate: HourlyRate(2_530_000) }];
        let decision = Decision {
            job,
            task: 0,
            target: Target::Nodes { parts },
            hold_micros: 1_000_000_000,
            because: "it is free".into(),
        };
        self.run(Command::Place { decisions: vec![decision], endpoint: Endpoint::default() })?;
        let job = self.federation.state().jobs.get(&job).context("the job is there")?;
        job.active.get(&0).and_then(spillway_types::TaskState::attempt).context("it was placed")
    }

    /// One report of a node about each of its attempts.
    fn tell(&mut self, number: usize, news: impl Fn(&AttemptId) -> PartReport) -> Result<()> {
        let (node, attempts) = self.nodes.get(number).context("the node is there")?;
        let node = *node;
        let reports: Vec<PartReport> = attempts.iter().map(news).collect();
        let known = self.federation.state().nodes.get(&node).context("it is known")?;
        let (epoch, first) = (known.epoch, known.acked + 1);
        self.run(Command::Report { node, epoch, first, reports })?;
        Ok(())
    }

    /// Every node reports the next slice of each of its attempts.
    fn report(&mut self) -> Result<()> {
        self.now = self.now.plus(DurationMs(SLICE_MS));
        let to_ms = self.now.since(START).0;
        let news = PartNews::Usage { from_ms: to_ms - SLICE_MS, to_ms };
        for number in 0..NODES {
            self.tell(number, |attempt| PartReport { attempt: *attempt, rank: 0, news: news.clone() })?;
        }
        self.slices += u64::try_from(NODES)? * u64::from(GPUS);
        Ok(())
    }

    async fn commit(&mut self, store: &Store) -> Result<()> {
        let changes = self.federation.take_changes();
        let journal = std::mem::take(&mut self.rows);
        store.commit(Batch { state: self.federation.state(), changes, journal }).await?;
        Ok(())
    }
}

fn inventory(number: usize) -> Result<Inventory> {
    let model = "H100".parse::<spillway_types::GpuModel>()?;
    let accelerator = |index: u32| Accelerator {
        index,
        uuid: format!("GPU-{number}-{index}"),
        model: model.clone(),
        memory_mib: 81_920,
        mig: vec![],
        domain: None,
    };
    Ok(Inventory {
        hostname: format!("dgx-{number}"),
        capacity: NodeCapacity {
            accelerators: (0..GPUS).map(accelerator).collect(),
            cpus_milli: 128_000,
            memory_mib: 1_048_576,
        },
        capabilities: Capabilities { process: true, container: true, fractions: false },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    })
}

fn spec(number: u32) -> Result<JobSpec> {
    let spec = JobSpec {
        name: format!("train-{number}"),
        group: "vision".parse()?,
        command: vec!["python".into(), "train.py".into()],
        env: BTreeMap::new(),
        image: None,
        resources: Resources { gpus: Some("H100:1".parse()?), cpus_milli: 4000, memory_mib: 16_384 },
        nodes: 1,
        array: None,
        time_limit: DurationMs::from_secs(24 * 3600),
        expected: None,
        deadline: None,
        class: None,
        inputs: vec![],
        placement: Placement::default(),
        checkpoint: Checkpoint::default(),
        retry: RetryPolicy::default(),
        lease: DEFAULT_LEASE,
    };
    Ok(spec.checked()?)
}
