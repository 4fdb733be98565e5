//! One session of one node, from its hello to its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use spillway_core::{Command, Refusal, Reply, command, usage};
use spillway_tunnel::protocol::{
    AgentEvent, BrokerMode, Desired, HighWater, Lease, MAX_OUTPUT, PROTOCOL, RefusalCode, Refused, SpoolHead,
    ToAgent, ToBroker, UsageStatement, Welcome,
};
use spillway_tunnel::quic::{BrokerSession, CloseReason, SessionHandle, SessionReceiver, TunnelError};
use spillway_types::{AttemptId, DurationMs, NodeId};

use super::{Live, Sessions, frozen, words};
use crate::engine::{EngineError, Mode, View};
use crate::outputs::Chunk;

/// When an agent that was refused for a passing reason dials again.
const RETRY_AFTER: DurationMs = DurationMs(2_000);

pub(super) async fn run(sessions: Arc<Sessions>, session: BrokerSession) {
    let node = session.node;
    match open(&sessions, &session).await {
        Ok(Opening::Frozen) => frozen::run(&sessions, session).await,
        Ok(Opening::Opened(opened)) => {
            let epoch = opened.epoch;
            let mut open =
                Open { sessions: &sessions, node, epoch, handle: session.handle, renewal: 0, sent: None };
            let end = open.live(session.hello.boot_nonce, opened, session.receiver).await;
            tracing::info!(node.id = %node, epoch, %end, "the session ended");
            sessions.forget(node, epoch);
            sessions.engine.command(Command::Disconnect { node, epoch }).await.ok();
        }
        Err(refused) => {
            tracing::warn!(node.id = %node, remote = %session.remote, code = ?refused.code, message = %refused.message, "a session was refused");
            session.handle.refuse(refused).await.ok();
        }
    }
}

enum Opening {
    Opened(Opened),
    Frozen,
}

/// What is said in the welcome of what is known of the node.
#[derive(Clone, Copy)]
struct Opened {
    epoch: u64,
    acked: u64,
    usage_after: u64,
}

async fn open(sessions: &Sessions, session: &BrokerSession) -> Result<Opening, Refused> {
    let hello = &session.hello;
    let refused = |code, message: String, retry_after| Refused { code, message, retry_after };
    if hello.protocol.min > PROTOCOL.max || hello.protocol.max < PROTOCOL.min {
        let message = format!(
            "the broker speaks protocol {} to {}: install the broker's version of the agent",
            PROTOCOL.min, PROTOCOL.max
        );
        return Err(refused(RefusalCode::Protocol, message, None));
    }
    if !hello.deployment.is_empty() && hello.deployment != sessions.ca.deployment() {
        let message = format!(
            "this is deployment {}, the agent belongs to {}",
            sessions.ca.deployment(),
            hello.deployment
        );
        return Err(refused(RefusalCode::ForeignDeployment, message, None));
    }
    check_high_water(sessions, session.node, hello.seen).await?;
    if matches!(sessions.engine.mode(), Mode::Recovery { .. }) {
        return Ok(Opening::Frozen);
    }
    let command = Command::Connect {
        node: session.node,
        boot_nonce: hello.boot_nonce,
        inventory: Box::new(hello.inventory.clone()),
        observed: hello.observed.iter().map(|part| part.attempt).collect(),
        spool: hello.spool.map(|SpoolHead { next, usage_after }| command::SpoolHead { next, usage_after }),
    };
    match sessions.engine.command(command).await {
        Ok(Reply::Session { epoch, acked, usage_after }) => {
            if let Some(spool) = hello.spool.filter(|spool| spool.usage_after != usage_after) {
                tracing::warn!(
                    node.id = %session.node, usage_after, told = spool.usage_after,
                    "the node's usage is counted anew from here on: its spool was begun anew, or is from before usage was counted"
                );
            }
            Ok(Opening::Opened(Opened { epoch, acked, usage_after }))
        }
        Ok(_) => Err(refused(RefusalCode::Busy, "the broker is confused".to_owned(), Some(RETRY_AFTER))),
        Err(EngineError::Refused(Refusal::NotFound { .. } | Refusal::Illegal(_))) => Err(revoked()),
        Err(error) => Err(refused(RefusalCode::Busy, error.to_string(), Some(RETRY_AFTER))),
    }
}

fn revoked() -> Refused {
    let message = "this node was removed from the federation: join again with a new token".to_owned();
    Refused { code: RefusalCode::Revoked, message, retry_after: None }
}

/// An agent that has seen, with our own mark on it, what this broker has not done yet shows that the broker was
/// started from an old copy.
async fn check_high_water(sessions: &Sessions, node: NodeId, seen: HighWater) -> Result<(), Refused> {
    let read = |view: &View<'_>| (view.federation.state().incarnation, view.federation.state().journal);
    let here = sessions.engine.read(read).await;
    let (incarnation, journal) = here.map_err(|error| Refused {
        code: RefusalCode::Busy,
        message: error.to_string(),
        retry_after: Some(RETRY_AFTER),
    })?;
    if seen.journal <= journal && seen.incarnation <= incarnation {
        return Ok(());
    }
    if sessions.key.mark(seen.incarnation, seen.journal) != seen.proof {
        let message = "the agent claims to have seen what this broker never said".to_owned();
        return Err(Refused { code: RefusalCode::Malformed, message, retry_after: Some(RETRY_AFTER) });
    }
    sessions.engine.enter_recovery(format!(
        "{node} has seen journal entry {} of incarnation {}, this is entry {journal} of incarnation {incarnation}",
        seen.journal, seen.incarnation
    ));
    Ok(())
}

struct Open<'a> {
    sessions: &'a Sessions,
    node: NodeId,
    epoch: u64,
    handle: SessionHandle,
    /// The newest renewal number that was received.
    renewal: u64,
    /// What was last said to be desired.
    sent: Option<Vec<Lease>>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the agent said goodbye")]
    Goodbye,
    #[error("the broker stops")]
    Stopping,
    #[error("the broker is in recovery")]
    Recovery,
    #[error("the node has left the federation")]
    Left,
    #[error("the agent broke the protocol: {0}")]
    Protocol(String),
    #[error("the tunnel broke")]
    Tunnel(#[from] TunnelError),
    #[error("the broker could not go on")]
    Engine(#[from] EngineError),
}

impl Open<'_> {
    async fn live(&mut self, boot_nonce: u64, opened: Opened, mut receiver: SessionReceiver) -> End {
        let changes = self.sessions.engine.node_changes(self.node);
        let mut modes = self.sessions.engine.mode_changes();
        let live = Live { epoch: self.epoch, boot_nonce, handle: self.handle.clone() };
        self.sessions.register(self.node, live);
        if let Err(end) = self.welcome(opened).await {
            return end;
        }
        self.sessions.engine.saw_node(self.node);
        loop {
            let step = tokio::select! {
                () = self.sessions.stop.cancelled() => return End::Stopping,
                changed = modes.changed() => {
                    if changed.is_err() || matches!(*modes.borrow(), Mode::Recovery { .. }) {
                        self.handle.close(CloseReason::ShuttingDown);
                        return End::Recovery;
                    }
                    Ok(())
                }
                () = changes.notified() => self.say_desired().await,
                message = receiver.recv() => match message {
                    Ok(Some(message)) => self.hear(message).await,
                    Ok(None) => Err(End::Goodbye),
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn welcome(&mut self, Opened { acked, usage_after, .. }: Opened) -> Result<(), End> {
        let (_, at) = self.read_desired().await?;
        let welcome = Welcome {
            protocol: PROTOCOL.max,
            features: vec![],
            deployment: self.sessions.ca.deployment().to_owned(),
            node: self.node,
            epoch: self.epoch,
            at,
            renew_every: self.sessions.renew_every,
            mode: BrokerMode::Normal,
            acked,
            usage_after: Some(usage_after),
        };
        self.handle.send(&ToAgent::Welcome(Box::new(welcome))).await?;
        Ok(())
    }

    async fn read_desired(&self) -> Result<(Vec<Lease>, HighWater), End> {
        let node = self.node;
        let read = move |view: &View<'_>| {
            let state = view.federation.state();
            let leases = state.nodes.contains_key(&node).then(|| words::leases(view.federation, node));
            (leases, state.incarnation, state.journal)
        };
        let (leases, incarnation, journal) = self.sessions.engine.read(read).await?;
        let Some(leases) = leases else {
            self.handle.refuse(revoked()).await.ok();
            return Err(End::Left);
        };
        Ok((leases, self.sessions.mark(incarnation, journal)))
    }

    /// Says what should be true at the node, where that is news. Nothing is said before the first renewal: a
    /// lease needs one to count from.
    async fn say_desired(&mut self) -> Result<(), End> {
        if self.renewal == 0 {
            return Ok(());
        }
        let (leases, at) = self.read_desired().await?;
        if self.sent.as_ref() == Some(&leases) {
            return Ok(());
        }
        let attempts: Vec<AttemptId> = leases.iter().map(|lease| lease.attempt).collect();
        let desired = Desired { leases: leases.clone(), renewal: self.renewal, at };
        let result = self.handle.send(&ToAgent::Desired(desired)).await;
        // Counted from after the sending, and also where that failed: the node may have it.
        self.sessions.liveness.extend(self.node, attempts);
        self.sent = Some(leases);
        Ok(result?)
    }

    async fn hear(&mut self, message: ToBroker) -> Result<(), End> {
        match message {
            ToBroker::Hello(_) => Err(End::Protocol("a second hello".to_owned())),
            ToBroker::Renew { number, attempts, usage } => self.renew(number, attempts, usage).await,
            ToBroker::Events { first, events } => self.take(first, events).await,
            ToBroker::InterruptionNotice { left } => {
                tracing::warn!(node.id = %self.node, %left, "the provider takes this machine back");
                self.sessions.engine.command(Command::Interrupt { node: self.node }).await?;
                Ok(())
            }
        }
    }

    async fn renew(
        &mut self,
        number: u64,
        attempts: Vec<AttemptId>,
        usage: Option<UsageStatement>,
    ) -> Result<(), End> {
        let first = self.renewal == 0;
        self.renewal = self.renewal.max(number);
        let (node, now) = (self.node, self.sessions.engine.clock().now());
        let read = move |view: &View<'_>| {
            let news = |said: UsageStatement| {
                let news = usage::news(view.federation.state(), node, &said.mark, said.age_ms, now)?;
                Some((said, news))
            };
            (renewable(view, node), usage.and_then(news))
        };
        let (known, news) = self.sessions.engine.read(read).await?;
        let attempts: Vec<AttemptId> =
            attempts.into_iter().filter(|attempt| known.contains(attempt)).collect();
        let result = self.handle.send(&ToAgent::Renewed { number, attempts: attempts.clone() }).await;
        self.sessions.liveness.extend(self.node, attempts);
        result?;
        if let Some((said, news)) = news {
            self.note_usage(said, news).await?;
        }
        if first { self.say_desired().await } else { Ok(()) }
    }

    /// Notes what the node says of its usage: that is worth it once a month, or where it fits not.
    async fn note_usage(&self, said: UsageStatement, news: usage::News) -> Result<(), End> {
        let (node, UsageStatement { mark: sent, age_ms }) = (self.node, said);
        if news == usage::News::Differs {
            tracing::error!(
                node.id = %node, %sent,
                "the node has sent other usage events than are here: no period in which it works is closed while it is a node"
            );
        }
        let command = Command::StateUsage { node, epoch: self.epoch, sent, age_ms };
        self.sessions.engine.command(command).await?;
        Ok(())
    }

    async fn take(&mut self, first: u64, events: Vec<AgentEvent>) -> Result<(), End> {
        let (reports, chunks) = words::sort(events);
        if !chunks.is_empty() {
            self.keep(chunks).await?;
        }
        let command = Command::Report { node: self.node, epoch: self.epoch, first, reports };
        match self.sessions.engine.command(command).await? {
            Reply::Acked(through) => Ok(self.handle.send(&ToAgent::Acked { through }).await?),
            Reply::Done
            | Reply::Job(_)
            | Reply::Node(_)
            | Reply::Session { .. }
            | Reply::Placed { .. }
            | Reply::JoinToken(_) => Err(End::Protocol("an answer to something else".to_owned())),
        }
    }

    /// Stores output of parts that are this node's; other output is nobody's.
    async fn keep(&self, chunks: Vec<Chunk>) -> Result<(), End> {
        let node = self.node;
        let own = self.sessions.engine.read(move |view| own_parts(view, node)).await?;
        let mine = |chunk: &Chunk| {
            own.contains(&(chunk.attempt, chunk.rank))
                && chunk.offset + chunk.data.len() as u64 <= MAX_OUTPUT + SLACK
        };
        let chunks: Vec<Chunk> = chunks.into_iter().filter(mine).collect();
        let outputs = Arc::clone(&self.sessions.outputs);
        let stored = tokio::task::spawn_blocking(move || outputs.store(&chunks)).await;
        let stored = stored
            .map_err(|error| error.to_string())
            .and_then(|result| result.map_err(|error| error.to_string()));
        stored.map_err(|error| {
            tracing::error!(node.id = %self.node, %error, "output cannot be stored; the node will send it again");
            End::Protocol("its output cannot be stored now".to_owned())
        })
    }
}

/// What may follow the limit of an output: the line that says it was cut.
const SLACK: u64 = 4096;

fn renewable(view: &View<'_>, node: NodeId) -> BTreeSet<AttemptId> {
    words::leases(view.federation, node).into_iter().map(|lease| lease.attempt).collect()
}

fn own_parts(view: &View<'_>, node: NodeId) -> BTreeSet<(AttemptId, u32)> {
    let attempts = view.federation.state().attempts.values();
    let parts = attempts.filter_map(|attempt| {
        let (rank, _) = attempt.part_on(node)?;
        Some((attempt.id, u32::try_from(rank).ok()?))
    });
    parts.collect()
}
