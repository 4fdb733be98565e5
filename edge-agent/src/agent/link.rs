//! The link: dials the broker, says hello, carries messages both ways, and dials again.
//!
//! It decides only when to dial: full jitter after a failure, the broker's own word after a goaway or a
//! refusal. What a message means is the engine's.

use std::path::PathBuf;
use std::sync::Arc;

use spillway_tunnel::identity::NodeIdentity;
use spillway_tunnel::protocol::backoff::Backoff;
use spillway_tunnel::protocol::{Hello, RefusalCode, Refused, ToAgent, ToBroker, Welcome};
use spillway_tunnel::quic::{
    AgentReceiver, AgentSender, AgentSession, AgentStreams, CloseReason, ConnectError, Timings, TunnelError,
    connect,
};
use spillway_types::DurationMs;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{chain, follow};
use crate::clock::boottime_ms;

/// Messages that may wait between link and engine, each way.
pub(super) const MESSAGES: usize = 64;

/// What the link tells the engine.
#[derive(Debug)]
pub(super) enum FromLink {
    /// It is about to dial: what should the hello say, and where are the parts' folders?
    Dialling(oneshot::Sender<(Hello, PathBuf)>),
    /// The broker welcomed the agent; messages to it go here.
    Up(Box<Welcome>, mpsc::Sender<ToBroker>),
    /// A message.
    Message(ToAgent),
    /// The session is over; another try follows.
    Down,
    /// The broker refuses for good.
    Refused(Refused),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    broker: String,
    identity: NodeIdentity,
    timings: Timings,
    engine: mpsc::Sender<FromLink>,
}

/// How one try ended.
enum Ended {
    /// The session broke or was closed, or never came about.
    Broken(String),
    /// The broker goes down and says when to dial again.
    Goaway(DurationMs),
    /// The broker refused or ended the session.
    Refused(Refused),
    /// The agent ends.
    Goodbye,
}

/// 64 random bits; from the clock alone where the kernel gives none.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| boottime_ms().wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Whether the agent may try again after this refusal, and when at the earliest.
fn retry_after(refused: &Refused) -> Option<DurationMs> {
    match refused.code {
        RefusalCode::Revoked | RefusalCode::Superseded => None,
        RefusalCode::Protocol
        | RefusalCode::ForeignDeployment
        | RefusalCode::Malformed
        | RefusalCode::Busy => refused.retry_after,
    }
}

impl Link {
    pub(super) const fn new(
        broker: String,
        identity: NodeIdentity,
        timings: Timings,
        engine: mpsc::Sender<FromLink>,
    ) -> Self {
        Self { broker, identity, timings, engine }
    }

    /// Dials until the goodbye, or until the broker refuses for good.
    pub(super) async fn run(self, goodbye: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let begin = boottime_ms();
            let ended = self.try_once(&goodbye).await;
            let lived = DurationMs(boottime_ms().saturating_sub(begin));
            let delay = match ended {
                Ended::Goodbye => return,
                Ended::Broken(problem) => {
                    let delay = backoff.after_session(lived, random());
                    tracing::warn!(problem, %delay, broker = self.broker, "no session with the broker; dialling again");
                    delay
                }
                Ended::Goaway(reconnect_in) => {
                    tracing::info!(%reconnect_in, "the broker restarts; dialling again");
                    DurationMs(reconnect_in.0.saturating_add(backoff.after_session(lived, random()).0))
                }
                Ended::Refused(refused) => {
                    let Some(after) = retry_after(&refused) else {
                        self.tell(FromLink::Refused(refused)).await;
                        return;
                    };
                    tracing::warn!(message = refused.message, %after, "the broker refused the session for now");
                    DurationMs(after.0.saturating_add(backoff.after_session(lived, random()).0))
                }
            };
            self.tell(FromLink::Down).await;
            tokio::select! {
                () = goodbye.cancelled() => return,
                () = tokio::time::sleep(delay.to_std()) => {}
            }
        }
    }

    async fn tell(&self, news: FromLink) -> bool {
        self.engine.send(news).await.is_ok()
    }

    async fn try_once(&self, goodbye: &CancellationToken) -> Ended {
        let (ask, answer) = oneshot::channel();
        if !self.tell(FromLink::Dialling(ask)).await {
            return Ended::Goodbye;
        }
        let Ok((hello, runs)) = answer.await else { return Ended::Goodbye };
        let connected = tokio::select! {
            () = goodbye.cancelled() => return Ended::Goodbye,
            connected = connect(&self.broker, &self.identity, self.timings, hello) => connected,
        };
        match connected {
            Ok(session) => Box::pin(self.serve(session, runs, goodbye)).await,
            Err(ConnectError::Refused(refused)) => Ended::Refused(refused),
            Err(error) => Ended::Broken(chain(&error)),
        }
    }

    async fn serve(&self, session: AgentSession, runs: PathBuf, goodbye: &CancellationToken) -> Ended {
        let AgentSession { welcome, remote, sender, receiver, streams } = session;
        tracing::info!(%remote, node.id = %welcome.node, epoch = welcome.epoch, "the broker welcomed this node");
        let (to_broker, outgoing) = mpsc::channel(MESSAGES);
        if !self.tell(FromLink::Up(Box::new(welcome), to_broker)).await {
            return Ended::Goodbye;
        }
        let following = CancellationToken::new();
        let ended = tokio::select! {
            () = goodbye.cancelled() => Ended::Goodbye,
            ended = self.receive(receiver) => ended,
            error = send(&sender, outgoing) => Ended::Broken(chain(&error)),
            error = accept(streams, Arc::new(runs), &following) => Ended::Broken(chain(&error)),
        };
        following.cancel();
        sender
            .close(if matches!(ended, Ended::Goodbye) {
                CloseReason::ShuttingDown
            } else {
                CloseReason::Normal
            })
            .await;
        ended
    }

    async fn receive(&self, mut receiver: AgentReceiver) -> Ended {
        loop {
            match receiver.recv().await {
                Ok(Some(ToAgent::Goaway { reconnect_in })) => return Ended::Goaway(reconnect_in),
                Ok(Some(ToAgent::Refused(refused))) => return Ended::Refused(refused),
                Ok(Some(message)) => {
                    if !self.tell(FromLink::Message(message)).await {
                        return Ended::Goodbye;
                    }
                }
                Ok(None) => return Ended::Broken("the broker ended the session".to_owned()),
                Err(error) => return Ended::Broken(chain(&error)),
            }
        }
    }
}

/// Sends until that fails.
async fn send(sender: &AgentSender, mut outgoing: mpsc::Receiver<ToBroker>) -> TunnelError {
    while let Some(message) = outgoing.recv().await {
        if let Err(error) = sender.send(&message).await {
            return error;
        }
    }
    sender.closed().await
}

/// Takes streams until the session is over, each in a task of its own.
async fn accept(mut streams: AgentStreams, runs: Arc<PathBuf>, following: &CancellationToken) -> TunnelError {
    loop {
        let stream = match streams.accept().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        let (runs, following) = (Arc::clone(&runs), following.clone());
        drop(tokio::spawn(async move {
            following.run_until_cancelled(follow::serve(stream, &runs)).await;
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_refusals_are_for_good_whatever_they_say() {
        let refused = |code, retry_after| Refused { code, message: String::new(), retry_after };
        let soon = Some(DurationMs(5));
        for (code, retry, expected) in [
            (RefusalCode::Busy, soon, soon),
            (RefusalCode::Busy, None, None),
            (RefusalCode::Protocol, None, None),
            (RefusalCode::Revoked, soon, None),
            (RefusalCode::Superseded, soon, None),
        ] {
            assert_eq!(retry_after(&refused(code, retry)), expected, "{code:?}");
        }
    }
}
