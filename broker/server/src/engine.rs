//! The engine: one task that owns the state. Commands go in, are written down many at a time in one
//! transaction, and are answered only then. Reads run between commits, so nobody sees what is not durable.
//!
//! If a transaction fails, every command in it is answered with that error, and the state is loaded again
//! from the store: memory is never ahead of what is written.

mod mode;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use spillway_core::{Command, Federation, Key, Refusal, Reply};
use spillway_policies::{CloudOffer, Explanation, Gate, Policy};
use spillway_store::{Store, StoreError};
use spillway_types::{DataMap, JobId, NodeId, UnixMs};
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use mode::Mode;

use crate::clock::Clock;

/// How many requests may wait for the engine: past it, callers wait at the door.
const QUEUE: usize = 4096;

/// A handle on the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
    revision: watch::Receiver<u64>,
    mode: Arc<watch::Sender<Mode>>,
    nodes: NodeWakers,
    store: Store,
    clock: Clock,
}

/// What a read sees: the state as it is written.
#[derive(Debug)]
pub struct View<'a> {
    /// The state with what is known of clouds.
    pub federation: &'a Federation,
    /// What the planner last saw for each job that waits.
    pub explanations: &'a BTreeMap<JobId, Explanation>,
    /// The policy in force.
    pub policy: &'a Policy,
    /// The moment of the read.
    pub now: UnixMs,
}

/// What has changed since this was last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// Anything may have: the state was loaded anew, or more has changed than is kept.
    Everything,
    /// These rows; those that are not in the state any more are over.
    Rows(BTreeSet<Key>),
}

/// Why the engine did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The state does not allow it; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be written down; nothing changed.
    #[error("the broker cannot write to its database")]
    Store(#[source] Arc<StoreError>),
    /// The broker was started from an old copy of its database and changes nothing.
    #[error("{0}")]
    Recovery(String),
    /// The broker is stopping.
    #[error("the broker is stopping: try again in a moment")]
    Stopped,
}

impl EngineError {
    fn store(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

type ReadFn = Box<dyn FnOnce(&View<'_>) + Send>;
type FollowFn = Box<dyn FnOnce(&View<'_>, Unseen) + Send>;
type Answer = oneshot::Sender<Result<Reply, EngineError>>;
type NodeWakers = Arc<Mutex<BTreeMap<NodeId, Arc<Notify>>>>;

enum Request {
    Command(Box<Command>, Answer),
    Read(ReadFn),
    Follow(FollowFn),
    Offers(Vec<CloudOffer>),
    Data(Box<DataMap>),
    Gate(Option<Arc<dyn Gate>>),
    Explanations(Explanations),
}

/// What the planner saw.
#[derive(Debug)]
pub enum Explanations {
    /// For every job that waits.
    OfAll(BTreeMap<JobId, Explanation>),
    /// For jobs that have come since; what was said of the others stays.
    OfNew(BTreeMap<JobId, Explanation>),
}

impl Engine {
    /// Loads what is alive from `store`, takes over with a new incarnation, and starts to work. The task ends
    /// when every handle is gone.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub async fn start(store: Store, policy: Policy, deployment: String) -> Result<Self, EngineError> {
        let state = store.load().await.map_err(EngineError::store)?;
        let newest = store.journal(state.journal.saturating_sub(1), 1).await.map_err(EngineError::store)?;
        let newest = newest.last().map_or(UnixMs(0), |row| row.at);
        let clock = Clock::start(newest);
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (revised, revision) = watch::channel(0);
        let nodes = NodeWakers::default();
        let mode = Arc::new(watch::Sender::new(Mode::Starting { awaited: mode::awaited(&state) }));
        let engine = Self {
            requests,
            revision,
            mode: Arc::clone(&mode),
            nodes: Arc::clone(&nodes),
            store: store.clone(),
            clock,
        };
        let worker =
            worker::Worker::new(Federation::new(state), store, clock, policy, revised, (nodes, mode));
        tokio::spawn(worker.run(inbox));
        engine.command(Command::StartBroker { deployment }).await?;
        Ok(engine)
    }

    /// Carries out a command. When this returns `Ok`, it is durable.
    ///
    /// # Errors
    /// [`EngineError`]; nothing changed then, unless it says `Stopped`, where it is not known.
    pub async fn command(&self, command: Command) -> Result<Reply, EngineError> {
        let (answer, reply) = oneshot::channel();
        self.requests
            .send(Request::Command(Box::new(command), answer))
            .await
            .map_err(|_| EngineError::Stopped)?;
        reply.await.map_err(|_| EngineError::Stopped)?
    }

    /// Reads the state as it is written.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, reply) = oneshot::channel();
        // The caller may have gone away meanwhile; nobody misses the answer then.
        let read: ReadFn = Box::new(move |view| drop(answer.send(read(view))));
        self.requests.send(Request::Read(read)).await.map_err(|_| EngineError::Stopped)?;
        reply.await.map_err(|_| EngineError::Stopped)
    }

    /// Reads the state as it is written, with what has changed since this was last asked: for the planner, the one that
    /// keeps up with all of it.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn follow<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>, Unseen) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, reply) = oneshot::channel();
        let read: FollowFn = Box::new(move |view, unseen| drop(answer.send(read(view, unseen))));
        self.requests.send(Request::Follow(read)).await.map_err(|_| EngineError::Stopped)?;
        reply.await.map_err(|_| EngineError::Stopped)
    }

    /// Tells what clouds would launch now.
    pub async fn set_offers(&self, offers: Vec<CloudOffer>) {
        self.requests.send(Request::Offers(offers)).await.ok();
    }

    /// Tells where data lies.
    pub async fn set_data(&self, data: DataMap) {
        self.requests.send(Request::Data(Box::new(data))).await.ok();
    }

    /// Tells who says where jobs may run; without one every job may run anywhere.
    pub async fn set_gate(&self, gate: Option<Arc<dyn Gate>>) {
        self.requests.send(Request::Gate(gate)).await.ok();
    }

    /// Tells what the planner saw.
    pub async fn set_explanations(&self, explanations: Explanations) {
        self.requests.send(Request::Explanations(explanations)).await.ok();
    }

    /// The store, for what is over: finished jobs, reports.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The broker's clock.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Grows with every commit; for whoever waits for a change.
    #[must_use]
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// What the broker is doing.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.borrow().clone()
    }

    /// What the broker is doing, for whoever waits for a change.
    #[must_use]
    pub fn mode_changes(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    /// A node has come back: what the start waits for may be complete.
    pub fn saw_node(&self, node: NodeId) {
        self.mode.send_if_modified(|mode| mode.saw(node));
    }

    /// Stops waiting for nodes: their leases have run out.
    pub fn stop_awaiting(&self) {
        self.mode.send_if_modified(Mode::stop_awaiting);
    }

    /// The state that this broker was started from is older than what others have seen: change nothing.
    pub fn enter_recovery(&self, evidence: String) {
        self.mode.send_if_modified(|mode| mode.enter_recovery(evidence));
    }

    /// Woken after every commit that may change what should be true at `node`.
    #[must_use]
    pub fn node_changes(&self, node: NodeId) -> Arc<Notify> {
        let mut nodes = self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(nodes.entry(node).or_default())
    }
}
