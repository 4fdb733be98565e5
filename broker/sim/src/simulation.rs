//! A world that moves by itself: work comes in, nodes run it, clouds launch what is wanted and end what is idle.
//!
//! Time jumps from one thing that happens to the next: work that comes in, a program that ends, a machine that has
//! booted, and a heartbeat while anything waits. At each stop everything is done until nothing changes any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use spillway_core::command::TickLimits;
use spillway_core::entity::{Group, Job, Pool, Site};
use spillway_core::{Command, Refusal, Reply};
use spillway_ledger::EntryKind;
use spillway_ledger::rates::Card;
use spillway_policies::{CloudOffer, Policy};
use spillway_types::{
    DataMap, DurationMs, InstanceState, Inventory, JobSpec, NodeId, PoolName, Role, SiteName, UnixMs,
    UserName,
};

use crate::world::Keep;
use crate::{Answer, JournalEntry, Outside, Program, Random, World};

/// How often the queue is planned again while something waits, and instances are looked at.
const HEARTBEAT: DurationMs = DurationMs::from_secs(30);

/// What is there at the beginning.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// Places.
    pub sites: Vec<Site>,
    /// Pools; a cloud region has one of its own name.
    pub pools: Vec<Pool>,
    /// Rate cards of pools, each with the instant from which on it is good.
    pub cards: Vec<(PoolName, UnixMs, Card)>,
    /// Groups, parents first.
    pub groups: Vec<Group>,
    /// Nodes, each with its pool.
    pub nodes: Vec<(PoolName, Inventory)>,
    /// What clouds launch.
    pub offers: Vec<CloudOffer>,
    /// Where data lies.
    pub data: DataMap,
    /// What happens to offers and nodes from outside; a [`Simulation`] leaves it out.
    pub outside: Outside,
    /// The planner's policy.
    pub policy: Policy,
    /// How long instances are kept warm, may boot, and usage is waited for.
    pub limits: TickLimits,
    /// Of a thousand launches, how many find no capacity.
    pub full_per_mille: u64,
}

/// A job that comes in.
#[derive(Debug, Clone)]
pub struct Work {
    /// When, counted from the beginning.
    pub after: DurationMs,
    /// What is asked.
    pub spec: JobSpec,
    /// What its tasks do.
    pub program: Program,
}

/// What came of the work so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Jobs that were taken.
    pub submitted: u64,
    /// Jobs that were refused.
    pub refused: u64,
    /// Tasks that ended with code 0.
    pub succeeded: u64,
    /// Tasks that ended otherwise.
    pub failed: u64,
    /// Attempts by site.
    pub placements: BTreeMap<SiteName, u64>,
    /// Instances that were launched.
    pub instances: u64,
    /// From submission to the first start of the job, in milliseconds, summed over jobs that started.
    pub waited_ms: u64,
    /// The longest of these.
    pub longest_wait_ms: u64,
    /// What attempts cost, in micros.
    pub run_micros: i64,
    /// What instances cost beyond that, in micros: boot, idle time and unused shares.
    pub overhead_micros: i64,
}

/// A world with work to do.
#[derive(Debug)]
pub struct Simulation {
    world: World,
    random: Random,
    limits: TickLimits,
    full_per_mille: u64,
    boot: DurationMs,
    work: VecDeque<Work>,
    refused: u64,
    planned: Option<(u64, UnixMs)>,
}

/// A world as it is described, with every node connected.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) world: World,
    /// Nodes in the order of the description.
    pub(crate) nodes: Vec<NodeId>,
}

impl Opened {
    pub(crate) fn new(seed: u64, description: Description, keep: Keep) -> Result<Self, Refusal> {
        let mut world = World::new(seed, description.policy);
        world.keep(keep);
        let all = description.groups.iter().map(|group| group.name.clone()).collect::<BTreeSet<_>>();
        for site in description.sites {
            world.command(Command::DeclareSite(site))?;
        }
        for pool in description.pools {
            world.command(Command::DeclarePool(pool))?;
        }
        for (pool, effective, card) in description.cards {
            world.command(Command::SetRates { pool, effective, card: Box::new(card) })?;
        }
        for group in description.groups {
            world.command(Command::DeclareGroup(group))?;
        }
        world.command(Command::DeclareUser { user: simulator(), role: Role::Admin, groups: all })?;
        let mut nodes = Vec::with_capacity(description.nodes.len());
        for (pool, inventory) in description.nodes {
            let node = world.join(&pool, &simulator(), inventory)?;
            world.connect(node)?;
            nodes.push(node);
        }
        world.set_offers(description.offers);
        world.set_data(description.data);
        Ok(Self { world, nodes })
    }
}

impl Simulation {
    /// A simulation of what is described, with its work still to come.
    ///
    /// # Errors
    /// [`Refusal`] where the description does not hold together: a pool without its site, a group without its parent.
    pub fn new(seed: u64, description: Description, mut work: Vec<Work>) -> Result<Self, Refusal> {
        let (limits, full_per_mille) = (description.limits, description.full_per_mille);
        let boot = description.offers.iter().map(|offer| offer.boot).max().unwrap_or_default();
        let Opened { world, .. } = Opened::new(seed, description, Keep::Everything)?;
        work.sort_by_key(|work| work.after);
        let random = Random::new(seed);
        let (work, refused, planned) = (work.into(), 0, None);
        Ok(Self { world, random, limits, full_per_mille, boot, work, refused, planned })
    }

    /// The world as it is now.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Every journal entry so far.
    #[must_use]
    pub fn journal(&self) -> &[JournalEntry] {
        self.world.journal()
    }

    /// Whether all work came in and ended, and no instance is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = self.world.state();
        self.work.is_empty() && state.jobs.is_empty() && state.instances.is_empty()
    }

    /// Goes on until `end`, or until everything is over.
    ///
    /// # Errors
    /// [`Refusal`] where the federation refuses an agent or a provider that behaves: a defect.
    pub fn run_until(&mut self, end: UnixMs) -> Result<(), Refusal> {
        while !self.is_over() {
            self.act()?;
            let next = self.next_stop();
            if next > end {
                self.world.pass(end.since(self.world.now()));
                return self.act();
            }
            self.world.pass(next.since(self.world.now()));
        }
        Ok(())
    }

    /// Does what is to be done at this moment, until nothing changes any more.
    fn act(&mut self) -> Result<(), Refusal> {
        self.submit_due();
        loop {
            let before = self.world.state().journal;
            self.world.contact_all()?;
            self.drive_clouds()?;
            self.world.declare_silence()?;
            self.world.tick(self.limits)?;
            self.plan()?;
            if self.world.state().journal == before {
                return Ok(());
            }
        }
    }

    fn submit_due(&mut self) {
        let elapsed = self.world.now().since(World::BEGIN);
        while let Some(work) = self.work.pop_front_if(|work| work.after <= elapsed) {
            let Work { spec, program, .. } = work;
            let submit = Command::Submit { spec: Box::new(spec), user: simulator(), key: None };
            match self.world.command(submit) {
                Ok(Reply::Job(job)) => self.world.set_program(job, program),
                Ok(_) | Err(_) => self.refused += 1,
            }
        }
    }

    /// Plans where something has changed since the last plan, or time has passed.
    fn plan(&mut self) -> Result<(), Refusal> {
        let seen = |world: &World| Some((world.state().journal, world.now()));
        if self.planned != seen(&self.world) {
            self.world.place()?;
            self.planned = seen(&self.world);
        }
        Ok(())
    }

    /// Boots differ by up to a fifth.
    fn drive_clouds(&mut self) -> Result<(), Refusal> {
        let states = self.world.state().instances.values().map(|instance| instance.state);
        if states.into_iter().all(|state| matches!(state, InstanceState::Ready | InstanceState::Draining)) {
            return Ok(());
        }
        let boot = DurationMs(self.boot.0 * (90 + self.random.below(21)) / 100);
        let full = self.random.below(1000) < self.full_per_mille;
        let answer = if full { Answer::NoCapacity } else { Answer::Launched };
        self.world.drive_clouds(answer, boot)
    }

    /// When something happens next.
    fn next_stop(&self) -> UnixMs {
        let (world, now) = (&self.world, self.world.now());
        let work = self.work.front().map(|work| World::BEGIN.plus(work.after));
        let ends = world.nodes().values().filter_map(crate::FakeNode::next_end);
        let waiting = world.machines().values().filter(|machine| machine.node.is_none());
        let boots = waiting.map(|machine| machine.boots);
        let state = world.state();
        let idle = state.jobs.values().all(|job| job.queued.is_empty()) && state.instances.is_empty();
        let heartbeat = (!idle || !state.attempts.is_empty()).then(|| now.plus(HEARTBEAT));
        let all = work.into_iter().chain(ends).chain(boots).chain(heartbeat);
        all.filter(|at| *at > now).min().unwrap_or_else(|| now.plus(HEARTBEAT))
    }

    /// What came of the work so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (state, records) = (self.world.state(), self.world.records());
        let mut summary = Summary { refused: self.refused, ..Summary::default() };
        for job in state.jobs.values().chain(records.jobs.values()) {
            summary.count(job);
        }
        for attempt in state.attempts.values().chain(records.attempts.values()) {
            *summary.placements.entry(attempt.site.clone()).or_default() += 1;
        }
        let instances = state.instances.values().chain(records.instances.values());
        summary.instances = instances.filter(|instance| instance.launched.is_some()).count() as u64;
        let overhead = records.entries.iter().filter(|entry| entry.kind() == EntryKind::Overhead);
        summary.overhead_micros = overhead.map(spillway_ledger::Entry::spend_micros).sum();
        summary
    }

    /// Nodes that run something now.
    #[must_use]
    pub fn busy(&self) -> BTreeSet<NodeId> {
        let busy = self.world.nodes().values().filter(|node| node.running().next().is_some());
        busy.map(|node| node.id).collect()
    }
}

impl Summary {
    fn count(&mut self, job: &Job) {
        self.submitted += 1;
        self.succeeded += job.succeeded.len();
        self.failed += job.failed.len();
        self.run_micros += job.cost_micros;
        if let Some(started) = job.started {
            let waited = started.since(job.submitted).0;
            self.waited_ms += waited;
            self.longest_wait_ms = self.longest_wait_ms.max(waited);
        }
    }
}

/// Who submits.
pub(crate) fn simulator() -> UserName {
    "simulator".parse().expect("it is a name")
}
