//! The one task that owns the agent's state: parts, leases, the spool, and what the broker wants.
//!
//! Every turn takes in all that has come, then does the same four things: report what is new to the spool,
//! decide and carry out what is missing, sync the spool, send what is durable. Nothing waits for the network
//! or for a program.
//!
//! A broker that is behind what this node has seen, or says that it is recovering, is obeyed in nothing: what
//! runs goes on and its leases are renewed, and no event is sent until a session with a broker that is not
//! behind.

mod carry;
mod deliver;
mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spillway_tunnel::protocol::{
    BrokerMode, Hello, Lease, ObservedPart, PROTOCOL, PartPhase, RefusalCode, Refused, SpoolHead, ToAgent,
    ToBroker, Welcome,
};
use spillway_types::{Allocation, AttemptId, DurationMs, Inventory};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::config::{AgentConfig, OnExit};
use super::link::{FromLink, MESSAGES, random};
use super::memory::Memory;
use super::report::Known;
use super::{AgentError, chain};
use crate::clock::boottime_ms;
use crate::datasets::{Brought, Datasets, Move};
use crate::executor::{Executor, FoundState, News, Order};
use crate::part::PartKey;
use crate::reconcile::{Holding, Stage};
use crate::renewals::RenewalBook;
use crate::spool::{Spool, SpoolError};
use inputs::Bringing;

/// Longest wait for parts to end when the agent stops them as it goes: their grace is theirs, and what is
/// left after this goes on to the end of its lease.
const STOPPING_WAIT: Duration = Duration::from_secs(3700);
/// Longest wait for the broker to acknowledge the last events.
const FAREWELL: Duration = Duration::from_secs(2);
/// Renewals until the broker says how often.
const RENEW_UNTIL_TOLD: Duration = Duration::from_secs(10);

/// Whether the broker of this session is obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obedience {
    /// It is.
    Full,
    /// It is behind or recovering: only renewals pass.
    RenewalsOnly,
}

/// A session that is up.
#[derive(Debug)]
struct Session {
    out: mpsc::Sender<ToBroker>,
    obedience: Obedience,
    /// The number of the next event to send.
    next_event: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Engine {
    inventory: Inventory,
    usage_every: DurationMs,
    on_exit: OnExit,
    state: PathBuf,
    boot_nonce: u64,
    memory: Memory,
    executor: Executor,
    spool: Spool,
    spool_trouble: bool,
    book: RenewalBook,
    parts: BTreeMap<PartKey, Holding>,
    known: BTreeMap<PartKey, Known>,
    desired: Option<Vec<Lease>>,
    datasets: Datasets,
    bringing: BTreeMap<PartKey, Bringing>,
    /// What came over the network and the broker is not known to have.
    moves: Vec<Arc<Move>>,
    session: Option<Session>,
    orders: Vec<Order>,
    under_way: UnderWay,
    /// Whether output waits that the last turn had no time for.
    output_waits: bool,
    renew: Interval,
    wires: Wires,
}

/// What is being done in the background; one of each at a time.
#[derive(Debug, Default)]
struct UnderWay {
    /// A batch of orders.
    batch: bool,
    /// A sync of the spool.
    sync: bool,
}

/// What the engine listens to.
#[derive(Debug)]
struct Wires {
    link: mpsc::Receiver<FromLink>,
    news: mpsc::UnboundedReceiver<News>,
    brought: mpsc::UnboundedReceiver<Brought>,
    synced: mpsc::Receiver<Result<u64, SpoolError>>,
    sync_done: mpsc::Sender<Result<u64, SpoolError>>,
}

/// Something that the engine wakes for.
enum Wake {
    Shutdown,
    Link(Option<FromLink>),
    News(Option<News>),
    Brought(Option<Brought>),
    Synced(Option<Result<u64, SpoolError>>),
    RenewDue,
    Tick,
    RoomToSend,
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period.max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Engine {
    /// Opens everything in the agent's folder and takes up what an earlier agent left.
    pub(super) fn open(
        config: &AgentConfig,
        inventory: Inventory,
        link: mpsc::Receiver<FromLink>,
    ) -> Result<Self, AgentError> {
        let memory = Memory::open(&config.state.join("agent.json"))?;
        let spool = Spool::open(&config.state.join("spool"), config.spool)?;
        let (executor, news, found) = Executor::open(config.supervisor.clone(), &config.state)?;
        let (datasets, brought, moves) = Datasets::open(&config.state, executor.boot(), config.dataset_cache)
            .map_err(|source| AgentError::Folder { path: config.state.join("datasets"), source })?;
        let (sync_done, synced) = mpsc::channel(1);
        let mut engine = Self {
            inventory,
            usage_every: config.usage_every,
            on_exit: config.on_exit,
            state: config.state.clone(),
            boot_nonce: random(),
            book: RenewalBook::new(memory.generation),
            memory,
            executor,
            spool,
            spool_trouble: false,
            parts: BTreeMap::new(),
            known: BTreeMap::new(),
            desired: None,
            datasets,
            bringing: BTreeMap::new(),
            moves,
            session: None,
            orders: Vec::new(),
            under_way: UnderWay::default(),
            output_waits: false,
            renew: every(RENEW_UNTIL_TOLD),
            wires: Wires { link, news, brought, synced, sync_done },
        };
        for (part, found) in found {
            engine.book.adopt(part.attempt, found.ttl);
            let (stage, known) = match found.state {
                FoundState::Prepared => (Stage::Prepared, Known::Prepared),
                FoundState::Running { deadline_ms, stopping } => {
                    (Stage::Running { deadline_ms, stopping }, Known::Running(None))
                }
                FoundState::Ended(record) => (Stage::Ended { acknowledged: false }, Known::Ended(record)),
            };
            tracing::info!(%part, ?stage, "a part of an earlier run of the agent was found");
            if !matches!(stage, Stage::Ended { .. }) {
                engine.datasets.adopt(part, found.inputs.into_iter());
            }
            engine.parts.insert(part, Holding { stage, allocation: found.allocation });
            engine.known.insert(part, known);
        }
        engine.take_up_spooled_ends();
        Ok(engine)
    }

    /// Parts that ended and lost their folder are known from the spool alone, until that is acknowledged.
    fn take_up_spooled_ends(&mut self) {
        let folderless = self.spool.reported().iter().filter(|(part, _)| !self.parts.contains_key(part));
        let folderless: Vec<(PartKey, bool)> =
            folderless.map(|(&part, said)| (part, said.ended.is_some())).collect();
        for (part, ended) in folderless {
            if ended {
                let stage = Stage::Ended { acknowledged: false };
                self.parts.insert(part, Holding { stage, allocation: Allocation::default() });
            } else if !self.moves.iter().any(|begun| begun.part == part) {
                self.spool.forget(&part);
            }
        }
    }

    /// Works until `shutdown`, or until the agent cannot go on.
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> Result<(), AgentError> {
        let mut tick = every((self.usage_every.to_std() / 4).min(Duration::from_secs(1)));
        loop {
            match self.wake(shutdown, &mut tick).await {
                Wake::Shutdown
                | Wake::Link(None)
                | Wake::News(None)
                | Wake::Brought(None)
                | Wake::Synced(None) => {
                    return self.leave().await;
                }
                Wake::Link(Some(news)) => self.take_link(news).await?,
                Wake::News(Some(news)) => self.take_news(news),
                Wake::Brought(Some(news)) => self.take_brought(news),
                Wake::Synced(Some(outcome)) => self.take_synced(outcome),
                Wake::RenewDue => self.send_renewal(),
                Wake::Tick | Wake::RoomToSend => {}
            }
            self.drain().await?;
            self.turn();
        }
    }

    async fn wake(&mut self, shutdown: &CancellationToken, tick: &mut Interval) -> Wake {
        if std::mem::take(&mut self.output_waits) {
            return Wake::Tick;
        }
        let unsent = self.session.as_ref().filter(|session| self.has_unsent(session)).map(|s| s.out.clone());
        tokio::select! {
            () = shutdown.cancelled() => Wake::Shutdown,
            news = self.wires.link.recv() => Wake::Link(news),
            news = self.wires.news.recv() => Wake::News(news),
            news = self.wires.brought.recv() => Wake::Brought(news),
            outcome = self.wires.synced.recv() => Wake::Synced(outcome),
            _ = self.renew.tick() => Wake::RenewDue,
            _ = tick.tick() => Wake::Tick,
            () = room(unsent) => Wake::RoomToSend,
        }
    }

    /// Takes in what has come meanwhile, so that one turn serves it all.
    async fn drain(&mut self) -> Result<(), AgentError> {
        while let Ok(news) = self.wires.news.try_recv() {
            self.take_news(news);
        }
        self.drain_brought();
        for _ in 0..MESSAGES {
            let Ok(news) = self.wires.link.try_recv() else { break };
            self.take_link(news).await?;
        }
        Ok(())
    }

    fn drain_brought(&mut self) {
        while let Ok(news) = self.wires.brought.try_recv() {
            self.take_brought(news);
        }
    }

    /// Does whatever is due now.
    fn turn(&mut self) {
        let now_ms = boottime_ms();
        self.report(now_ms);
        self.note_acknowledged();
        self.forget_moves();
        self.decide(now_ms);
        self.begin_batch();
        self.begin_sync();
        self.send_events();
    }

    async fn take_link(&mut self, news: FromLink) -> Result<(), AgentError> {
        match news {
            FromLink::Dialling(answer) => {
                // Where the link is gone already, the goodbye follows.
                answer.send((self.hello(), self.state.join("runs"))).ok();
            }
            FromLink::Up(welcome, out) => self.begin_session(&welcome, out),
            FromLink::Message(message) => self.take_message(message),
            FromLink::Down => self.session = None,
            FromLink::Refused(refused) => return self.give_up(refused).await,
        }
        Ok(())
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            features: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_nonce: self.boot_nonce,
            deployment: self.memory.deployment.clone(),
            seen: self.memory.seen,
            inventory: self.inventory.clone(),
            observed: self.parts.iter().map(|(&part, holding)| observed(part, holding.stage)).collect(),
            spool: Some(SpoolHead { next: self.spool.next(), usage_after: self.spool.usage().after }),
        }
    }

    fn begin_session(&mut self, welcome: &Welcome, out: mpsc::Sender<ToBroker>) {
        let behind = self.memory.is_ahead_of(welcome.at);
        let obedience = if behind || welcome.mode == BrokerMode::Recovery {
            tracing::error!(
                behind,
                seen.incarnation = self.memory.seen.incarnation,
                seen.journal = self.memory.seen.journal,
                broker.incarnation = welcome.at.incarnation,
                broker.journal = welcome.at.journal,
                "the broker was started from an old copy of its database or is recovering: running jobs go on \
                 and are renewed, nothing new starts, no event is sent; finish the recovery at the broker, this \
                 node then follows by itself"
            );
            Obedience::RenewalsOnly
        } else {
            self.memory.see(welcome.at);
            self.take_up_session(welcome);
            Obedience::Full
        };
        self.memory.deployment.clone_from(&welcome.deployment);
        // What an earlier session wanted is not what this one wants, until it says so.
        self.desired = None;
        self.session = Some(Session { out, obedience, next_event: welcome.acked.saturating_add(1) });
        self.renew = every(welcome.renew_every.to_std());
    }

    fn take_message(&mut self, message: ToAgent) {
        let Some(session) = &self.session else { return };
        let obeyed = session.obedience == Obedience::Full;
        match message {
            ToAgent::Desired(desired) if obeyed => {
                self.memory.see(desired.at);
                self.book.desired(&desired.leases, desired.renewal);
                self.desired = Some(desired.leases);
            }
            ToAgent::Renewed { number, attempts } => self.book.renewed(number, &attempts),
            ToAgent::Acked { through } if obeyed => self.acknowledge(through),
            ToAgent::Desired(_) | ToAgent::Acked { .. } => {}
            // The link takes these itself; a second welcome says nothing new.
            ToAgent::Welcome(_) | ToAgent::Refused(_) | ToAgent::Goaway { .. } => {}
        }
    }

    fn acknowledge(&mut self, through: u64) {
        if let Err(error) = self.spool.acknowledge(through) {
            tracing::error!(error = %chain(&error), "acknowledged events cannot be removed yet");
        }
    }

    fn take_up_session(&mut self, welcome: &Welcome) {
        let usage_after = welcome.usage_after.unwrap_or(self.spool.usage().after);
        if let Err(error) = self.spool.take_up(welcome.acked, usage_after) {
            tracing::error!(error = %chain(&error), "the spool cannot take up what the broker has");
        }
    }

    fn send_renewal(&mut self) {
        let Some(session) = &self.session else { return };
        // A full channel means that the network is slow; the next renewal is due soon.
        let Ok(place) = session.out.clone().try_reserve_owned() else { return };
        let acknowledged = |stage| matches!(stage, Stage::Ended { acknowledged: true });
        let here =
            self.parts.iter().filter(|(_, part)| !acknowledged(part.stage)).map(|(key, _)| key.attempt);
        let wanted = self.desired.iter().flatten().map(|lease| lease.attempt);
        let attempts: BTreeSet<AttemptId> = here.chain(wanted).collect();
        let now_ms = boottime_ms();
        let (number, usage) = (self.book.send(now_ms), self.usage_statement(now_ms));
        place.send(ToBroker::Renew { number, attempts: attempts.into_iter().collect(), usage });
    }

    fn take_news(&mut self, news: News) {
        match news {
            News::BatchDone => self.under_way.batch = false,
            News::Prepared(part) => self.enter(part, Stage::Prepared, Known::Prepared),
            News::Launched(part, deadline_ms) => {
                self.enter(part, Stage::Running { deadline_ms, stopping: false }, Known::Running(None));
            }
            News::Started(part, at_ms) => {
                if let Some(Known::Running(started)) = self.known.get_mut(&part) {
                    *started = Some(at_ms);
                }
            }
            News::Ended(part, record) => {
                tracing::info!(%part, end = ?record.end, record.ran_ms, record.cpu_ms, "a part ended");
                self.datasets.release(&part);
                self.enter(part, Stage::Ended { acknowledged: false }, Known::Ended(record));
            }
        }
    }

    /// Moves a part on. One that ended stays so: the news may come twice.
    fn enter(&mut self, part: PartKey, stage: Stage, known: Known) {
        let Some(holding) = self.parts.get_mut(&part) else { return };
        if !matches!(holding.stage, Stage::Ended { .. }) {
            holding.stage = stage;
            self.known.insert(part, known);
        }
    }

    fn take_synced(&mut self, outcome: Result<u64, SpoolError>) {
        self.under_way.sync = false;
        match outcome {
            Ok(through) => self.spool.note_synced(through),
            Err(error) => self.note_spool_trouble(&error),
        }
    }

    /// The broker refused for good. A revoked node stops everything first.
    async fn give_up(&mut self, refused: Refused) -> Result<(), AgentError> {
        let Refused { code, ref message, .. } = refused;
        let message = message.clone();
        match code {
            RefusalCode::Revoked => {
                self.stop_everything().await;
                Err(AgentError::Revoked { message })
            }
            RefusalCode::Superseded => Err(AgentError::Superseded { message }),
            RefusalCode::Protocol
            | RefusalCode::ForeignDeployment
            | RefusalCode::Malformed
            | RefusalCode::Busy => Err(AgentError::Refused(refused)),
        }
    }

    async fn leave(&mut self) -> Result<(), AgentError> {
        if self.on_exit == OnExit::StopJobs {
            self.stop_everything().await;
        }
        if tokio::time::timeout(FAREWELL, self.datasets.leave()).await.is_err() {
            tracing::warn!("downloads did not stop in time; the next agent finds what they have left");
        }
        self.drain_brought();
        self.report(boottime_ms());
        if let Some(job) = self.spool.sync_job()? {
            self.spool.note_synced(job.run()?);
        }
        if tokio::time::timeout(FAREWELL, self.deliver_the_rest()).await.is_err() {
            tracing::info!("the broker has not acknowledged every event; the next agent sends them again");
        }
        tracing::info!(parts = self.living(), "the agent ends; what runs goes on under its supervisors");
        Ok(())
    }

    /// Sends what is left and waits until the broker has it, or the session is over.
    async fn deliver_the_rest(&mut self) {
        let obeyed = |engine: &Self| engine.session.as_ref().is_some_and(|s| s.obedience == Obedience::Full);
        while obeyed(self) && self.spool.acknowledged() + 1 < self.spool.next() {
            self.send_events();
            match self.wires.link.recv().await {
                Some(FromLink::Message(message)) => self.take_message(message),
                Some(FromLink::Dialling(_) | FromLink::Up(..) | FromLink::Down | FromLink::Refused(_))
                | None => {
                    return;
                }
            }
        }
    }

    fn living(&self) -> usize {
        self.parts.values().filter(|part| !matches!(part.stage, Stage::Ended { .. })).count()
    }

    /// Stops every part and waits for their ends. Nothing starts after this: nothing is decided any more.
    async fn stop_everything(&mut self) {
        self.orders.clear();
        self.abandon_bringing();
        let waiting = async {
            while self.under_way.batch || self.living() > 0 {
                let stoppable =
                    |stage| matches!(stage, Stage::Prepared | Stage::Running { stopping: false, .. });
                let parts: Vec<PartKey> = self
                    .parts
                    .iter()
                    .filter(|(_, part)| stoppable(part.stage))
                    .map(|(&key, _)| key)
                    .collect();
                parts.into_iter().for_each(|part| self.stop(part, None));
                match self.wires.news.recv().await {
                    Some(news) => self.take_news(news),
                    None => return,
                }
            }
        };
        if tokio::time::timeout(STOPPING_WAIT, waiting).await.is_err() {
            tracing::error!(parts = self.living(), "some parts did not stop; they end with their leases");
        }
    }
}

/// Waits until a message can be sent; for ever where there is none.
async fn room(out: Option<mpsc::Sender<ToBroker>>) {
    match out {
        // A closed channel is news of the link, which comes by another way.
        Some(out) if !out.is_closed() => drop(out.reserve().await),
        Some(_) | None => std::future::pending().await,
    }
}

fn observed(part: PartKey, stage: Stage) -> ObservedPart {
    let phase = match stage {
        Stage::Staging | Stage::Staged | Stage::Busy | Stage::Prepared => PartPhase::Prepared,
        Stage::Running { .. } => PartPhase::Running,
        Stage::Ended { .. } => PartPhase::Ended,
    };
    ObservedPart { attempt: part.attempt, rank: part.rank, phase }
}
