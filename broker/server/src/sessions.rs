//! The broker's side of the tunnel: machines enrol, agents hold sessions, leases are renewed.
//!
//! The newest session of a node is the one that counts: an older one is told so and ended.

mod enrol;
mod frozen;
mod liveness;
mod session;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use spillway_tunnel::identity::DeploymentCa;
use spillway_tunnel::protocol::{HighWater, RefusalCode, Refused, StreamHeader, ToAgent};
use spillway_tunnel::quic::{CloseReason, Incoming, Listener, OutputReader as TunnelReader, SessionHandle};
use spillway_types::{AttemptId, DurationMs, NodeId};
use tokio_util::sync::CancellationToken;

pub use liveness::watch_leases;

use crate::engine::Engine;
use crate::outputs::Outputs;
use crate::secrets::InstanceKey;
use liveness::Liveness;

/// How long agents wait before they dial again after a planned stop.
const RECONNECT_AFTER_STOP: DurationMs = DurationMs(500);

/// Every session, and what they share.
#[derive(Debug)]
pub struct Sessions {
    engine: Engine,
    ca: DeploymentCa,
    key: InstanceKey,
    outputs: Arc<Outputs>,
    renew_every: DurationMs,
    live: Mutex<BTreeMap<NodeId, Live>>,
    liveness: Liveness,
    stop: CancellationToken,
}

#[derive(Debug, Clone)]
struct Live {
    epoch: u64,
    boot_nonce: u64,
    handle: SessionHandle,
}

/// What a job writes, as it writes it.
#[derive(Debug)]
pub struct OutputReader {
    reader: TunnelReader,
}

impl OutputReader {
    /// The next bytes; nothing at the end.
    ///
    /// # Errors
    /// A sentence on why the node can no longer be heard.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, String> {
        self.reader.next().await.map_err(|error| error.to_string())
    }
}

impl Sessions {
    /// Sessions for this engine. Agents renew their leases every `renew_every`.
    #[must_use]
    pub fn new(
        engine: Engine,
        ca: DeploymentCa,
        key: InstanceKey,
        outputs: Arc<Outputs>,
        rhythm: Rhythm,
    ) -> Arc<Self> {
        let clock = engine.clock();
        Arc::new(Self {
            engine,
            ca,
            key,
            outputs,
            renew_every: rhythm.renew_every,
            live: Mutex::new(BTreeMap::new()),
            liveness: Liveness::new(clock),
            stop: rhythm.stop,
        })
    }

    /// Takes peers from `listener` until told to stop.
    pub async fn serve(self: Arc<Self>, mut listener: Listener) {
        loop {
            let incoming = tokio::select! {
                () = self.stop.cancelled() => break,
                incoming = listener.accept() => incoming,
            };
            let sessions = Arc::clone(&self);
            match incoming {
                None => break,
                Some(Incoming::Enrol(exchange)) => drop(tokio::spawn(enrol::enrol(sessions, *exchange))),
                Some(Incoming::Agent(session)) => drop(tokio::spawn(session::run(sessions, *session))),
            }
        }
        self.say_goodbye().await;
        listener.close(CloseReason::ShuttingDown).await;
    }

    /// Asks the node of a part for what the part writes.
    ///
    /// # Errors
    /// A sentence on why not: the node is not connected, or does not have it.
    pub async fn open_output(
        &self,
        node: NodeId,
        (attempt, rank): (AttemptId, u32),
        offset: u64,
        follow: Follow,
    ) -> Result<OutputReader, String> {
        let handle = self.handle(node).ok_or_else(|| format!("{node} is not connected"))?;
        let header = StreamHeader::Output { attempt, rank, offset, follow: follow == Follow::UntilEnd };
        let reader = handle.open_output(&header).await.map_err(|error| error.to_string())?;
        Ok(OutputReader { reader })
    }

    fn handle(&self, node: NodeId) -> Option<SessionHandle> {
        self.lock().get(&node).map(|live| live.handle.clone())
    }

    /// Makes this the session of its node; an older one of another start of the agent is told so.
    fn register(&self, node: NodeId, live: Live) {
        let boot_nonce = live.boot_nonce;
        let older = self.lock().insert(node, live);
        let Some(older) = older else { return };
        if older.boot_nonce == boot_nonce {
            older.handle.close(CloseReason::Superseded);
            return;
        }
        tracing::warn!(node.id = %node, "another agent with the same identity said hello; the older session is ended");
        let message = "another agent with this identity connected later. If that is a copy of this machine's state \
                       folder, give the copy an identity of its own: remove its folder and join with a new token"
            .to_owned();
        let refused = Refused { code: RefusalCode::Superseded, message, retry_after: None };
        tokio::spawn(async move { older.handle.refuse(refused).await.ok() });
    }

    /// Ends the session of a node that does not answer.
    fn hang_up(&self, node: NodeId) {
        if let Some(handle) = self.handle(node) {
            handle.close(CloseReason::Stalled);
        }
    }

    fn forget(&self, node: NodeId, epoch: u64) {
        let mut live = self.lock();
        if live.get(&node).is_some_and(|live| live.epoch == epoch) {
            live.remove(&node);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Live>> {
        self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn say_goodbye(&self) {
        let handles: Vec<SessionHandle> = self.lock().values().map(|live| live.handle.clone()).collect();
        for handle in handles {
            handle.send(&ToAgent::Goaway { reconnect_in: RECONNECT_AFTER_STOP }).await.ok();
        }
    }

    /// Where the broker stands, with its mark.
    fn mark(&self, incarnation: u64, journal: u64) -> HighWater {
        HighWater { incarnation, journal, proof: self.key.mark(incarnation, journal) }
    }
}

/// Whether to go on reading until the part has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// What is there now.
    No,
    /// Until the part ends.
    UntilEnd,
}

/// How sessions are paced and stopped.
#[derive(Debug, Clone)]
pub struct Rhythm {
    /// How often agents renew their leases.
    pub renew_every: DurationMs,
    /// Stops everything.
    pub stop: CancellationToken,
}
