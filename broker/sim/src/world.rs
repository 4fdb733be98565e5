//! A federation with everything around it, moved by hand.

mod drive;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spillway_core::command::Endpoint;
use spillway_core::entity::{Attempt, Instance, Job, Node};
use spillway_core::{
    ApplyError, Changes, Command, Event, Federation, Refusal, Reply, State, invariants, snapshot,
};
use spillway_ledger::Entry;
use spillway_ledger::journal::{SiteManifest, Statement};
use spillway_policies::{CloudOffer, Decision, Gate, Plan, Policy, plan};
use spillway_types::{AttemptId, DataMap, DurationMs, InstanceId, JobId, NodeId, SequentialIds, UnixMs};

use crate::{FakeNode, Machine, Program};

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its number.
    pub number: u64,
    /// When.
    pub at: UnixMs,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// What left memory, and the ledger's entries: what a store would keep.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// Jobs that ended.
    pub jobs: BTreeMap<JobId, Job>,
    /// Attempts that were settled.
    pub attempts: BTreeMap<AttemptId, Attempt>,
    /// Instances that are gone.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Nodes that left.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The manifests of every period that was closed, in order.
    pub manifests: Vec<SiteManifest>,
    /// Every entry of the ledger, in order.
    pub entries: Vec<Entry>,
    /// Every statement about a pool, in order.
    pub statements: Vec<Statement>,
}

impl Records {
    fn add(&mut self, changes: Changes) {
        self.jobs.extend(changes.ended_jobs.into_iter().map(|job| (job.id, job)));
        self.attempts.extend(changes.ended_attempts.into_iter().map(|attempt| (attempt.id, attempt)));
        let instances = changes.ended_instances.into_iter();
        self.instances.extend(instances.map(|instance| (instance.id, instance)));
        self.nodes.extend(changes.ended_nodes.into_iter().map(|node| (node.id, node)));
        self.manifests.extend(changes.manifests);
        self.entries.extend(changes.entries.into_iter().map(|(_, entry)| entry));
        self.statements.extend(changes.statements.into_iter().map(|(_, statement)| statement));
    }
}

fn add_news(news: &mut Changes, changes: Changes) {
    news.touched.extend(changes.touched);
    news.ended_jobs.extend(changes.ended_jobs);
    news.ended_attempts.extend(changes.ended_attempts);
    news.ended_instances.extend(changes.ended_instances);
    news.ended_nodes.extend(changes.ended_nodes);
    news.manifests.extend(changes.manifests);
    news.entries.extend(changes.entries);
    news.statements.extend(changes.statements);
    news.closed.extend(changes.closed);
}

/// How closely a world looks at its federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// As a server does: at what a command has changed.
    Changes,
    /// At everything after every command, and that a refused one has changed nothing. Slow.
    Everything,
}

/// What a world keeps of what has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The journal and all that left memory, as a store would.
    Everything,
    /// What changed since it was last asked: nothing grows with what is finished.
    News,
}

/// A federation, its clock, its nodes and its clouds.
#[derive(Debug)]
pub struct World {
    federation: Federation,
    ids: SequentialIds,
    now: UnixMs,
    policy: Policy,
    journal: Vec<JournalEntry>,
    records: Records,
    nodes: BTreeMap<NodeId, FakeNode>,
    /// Machines whose identity another one has taken over, and those that a provider took away.
    ghosts: Vec<FakeNode>,
    machines: BTreeMap<InstanceId, Machine>,
    programs: BTreeMap<JobId, Program>,
    /// When each lease was last extended.
    extended: BTreeMap<(AttemptId, NodeId), UnixMs>,
    nonces: u64,
    watch: Watch,
    defects: Vec<String>,
    keep: Keep,
    /// What changed since it was last asked, where news are kept.
    news: Changes,
}

impl World {
    /// When every world begins: 2023-11-14T12:00:00Z.
    pub const BEGIN: UnixMs = UnixMs(1_699_963_200_000);

    /// A world with a broker that has just started for the first time, and nothing else.
    #[must_use]
    pub fn new(seed: u64, policy: Policy) -> Self {
        let mut world = Self {
            federation: Federation::default(),
            ids: SequentialIds::new(seed),
            now: Self::BEGIN,
            policy,
            journal: vec![],
            records: Records::default(),
            nodes: BTreeMap::new(),
            ghosts: vec![],
            machines: BTreeMap::new(),
            programs: BTreeMap::new(),
            extended: BTreeMap::new(),
            nonces: 0,
            watch: Watch::Changes,
            defects: vec![],
            keep: Keep::Everything,
            news: Changes::default(),
        };
        let start = Command::StartBroker { deployment: "simulated".to_owned() };
        world.command(start).expect("a broker may always start");
        world
    }

    /// Gives the federation a command and keeps what it gave, as a store would.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn command(&mut self, command: Command) -> Result<Reply, Refusal> {
        let before = (self.watch == Watch::Everything).then(|| self.federation.state().clone());
        let outcome = self.federation.handle(command, self.now, &mut self.ids);
        if let Some(before) = before {
            self.defects.extend(invariants::check_all(self.federation.state()));
            if outcome.is_err() && before != *self.federation.state() {
                self.defects.push(format!("a refused command changed something: {outcome:?}"));
            }
        }
        let outcome = outcome?;
        self.federation.check();
        let changes = self.federation.take_changes();
        match self.keep {
            Keep::Everything => {
                self.records.add(changes);
                if !outcome.events.is_empty() {
                    let entry =
                        JournalEntry { number: outcome.journal, at: self.now, events: outcome.events };
                    self.journal.push(entry);
                }
            }
            Keep::News => add_news(&mut self.news, changes),
        }
        Ok(outcome.reply)
    }

    /// From now on keeps this. What was kept so far stays.
    pub const fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// What changed since the last call, where news are kept.
    pub(crate) fn take_news(&mut self) -> Changes {
        std::mem::take(&mut self.news)
    }

    /// From now on looks so closely.
    pub const fn watch(&mut self, watch: Watch) {
        self.watch = watch;
    }

    /// What was found to be wrong while everything was watched. Always empty unless there is a defect.
    #[must_use]
    pub fn defects(&self) -> &[String] {
        &self.defects
    }

    /// The federation.
    #[must_use]
    pub const fn federation(&self) -> &Federation {
        &self.federation
    }

    /// What is true now.
    #[must_use]
    pub const fn state(&self) -> &State {
        self.federation.state()
    }

    /// What left memory.
    #[must_use]
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Every journal entry so far.
    #[must_use]
    pub fn journal(&self) -> &[JournalEntry] {
        &self.journal
    }

    /// The state that the journal gives.
    ///
    /// # Errors
    /// [`ApplyError`] where it does not follow from itself: a defect.
    pub fn replayed(&self) -> Result<State, ApplyError> {
        let mut state = State::default();
        for entry in &self.journal {
            state.replay(entry.number, entry.at, &entry.events)?;
        }
        Ok(state)
    }

    /// The virtual time.
    #[must_use]
    pub const fn now(&self) -> UnixMs {
        self.now
    }

    /// A job, in memory or ended.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.state().jobs.get(&id).or_else(|| self.records.jobs.get(&id))
    }

    /// An attempt, in memory or settled.
    #[must_use]
    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.state().attempts.get(&id).or_else(|| self.records.attempts.get(&id))
    }

    /// The machines of nodes, by node.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<NodeId, FakeNode> {
        &self.nodes
    }

    /// The machine of a node, to make it say or be something.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut FakeNode> {
        self.nodes.get_mut(&id)
    }

    /// Machines at the provider, by intent.
    #[must_use]
    pub const fn machines(&self) -> &BTreeMap<InstanceId, Machine> {
        &self.machines
    }

    /// Tells what clouds would launch now, and what instances cost from now on.
    pub fn set_offers(&mut self, offers: Vec<CloudOffer>) {
        self.federation.set_offers(offers);
        self.command(Command::RepriceInstances).expect("prices are noted in every state");
    }

    /// Tells who says where jobs may run.
    pub fn set_gate(&mut self, gate: Option<Arc<dyn Gate>>) {
        self.federation.set_gate(gate);
    }

    /// Tells where data lies.
    pub fn set_data(&mut self, data: DataMap) {
        self.federation.set_data(data);
    }

    /// What the tasks of a job do once they run. Without it they run as long as was thought and end with code 0.
    pub fn set_program(&mut self, job: JobId, program: Program) {
        self.programs.insert(job, program);
    }

    /// A job is over: what its tasks do need not be known any more.
    pub(crate) fn forget_program(&mut self, job: JobId) {
        self.programs.remove(&job);
    }

    /// Plans the queue as it is now.
    #[must_use]
    pub fn plan(&self) -> Plan {
        plan(&snapshot::take(&self.federation, &self.policy, self.now))
    }

    /// Plans, and carries out what was decided. Gives how many tasks were started.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn place(&mut self) -> Result<usize, Refusal> {
        if self.state().jobs.values().all(|job| job.queued.is_empty()) {
            return Ok(0);
        }
        let Plan { decisions, displacements, .. } = self.plan();
        for spillway_policies::Displacement { attempt, because } in displacements {
            self.command(Command::Preempt { attempt, because })?;
        }
        if decisions.is_empty() {
            return Ok(0);
        }
        self.carry_out(decisions).map(|(started, _)| started)
    }

    /// Carries out decisions. Gives how many were, and how many no longer held.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn carry_out(&mut self, decisions: Vec<Decision>) -> Result<(usize, usize), Refusal> {
        let endpoint = Endpoint { broker_addr: "broker:7443".to_owned(), ca_fingerprint: "ca".to_owned() };
        match self.command(Command::Place { decisions, endpoint })? {
            Reply::Placed { started, stale } => Ok((started, stale)),
            Reply::Done
            | Reply::Job(_)
            | Reply::Node(_)
            | Reply::Session { .. }
            | Reply::Acked(_)
            | Reply::JoinToken(_) => Ok((0, 0)),
        }
    }

    /// The clock jumps to `to`. Machines are looked at one by one, when they are contacted.
    pub(crate) fn jump(&mut self, to: UnixMs) {
        self.now = self.now.max(to);
    }

    /// Lets time pass. Connected agents renew their leases all the while; programs run on everywhere.
    pub fn pass(&mut self, by: DurationMs) {
        self.now = self.now.plus(by);
        for id in self.connected() {
            let listed = self.listed(id);
            self.extended.extend(listed.iter().map(|attempt| ((*attempt, id), self.now)));
            if let Some(node) = self.nodes.get_mut(&id) {
                node.renew(&listed, self.now);
            }
        }
        let now = self.now;
        self.nodes.values_mut().chain(self.ghosts.iter_mut()).for_each(|node| node.advance(now));
    }

    /// Tasks whose programs run now, on any machine, each with its attempts: more than one is a defect.
    #[must_use]
    pub fn running(&self) -> BTreeMap<(JobId, u32), BTreeSet<AttemptId>> {
        let mut running = BTreeMap::<_, BTreeSet<AttemptId>>::new();
        for (job, task, attempt) in self.nodes.values().chain(&self.ghosts).flat_map(FakeNode::running) {
            running.entry((job, task)).or_default().insert(attempt);
        }
        running
    }
}
