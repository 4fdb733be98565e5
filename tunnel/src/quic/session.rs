//! The broker's end of a session.

use std::net::SocketAddr;
use std::sync::Arc;

use spillway_types::{NodeId, PoolName};

use super::config::{Timings, raise_limits};
use super::control::{ControlReceiver, ControlSender, within};
use super::error::{CloseReason, TunnelError, close};
use super::output::{self, OutputReader};
use crate::protocol::{Hello, Refused, StreamHeader, ToAgent, ToBroker};

/// A node that has said hello. Take it apart: the handle and the receiver go to different tasks. When both
/// are gone the session ends.
#[derive(Debug)]
pub struct BrokerSession {
    /// The node, from its certificate.
    pub node: NodeId,
    /// The pool that it was enrolled into, from its certificate.
    pub pool: PoolName,
    /// Where it dials from.
    pub remote: SocketAddr,
    /// What it said first; not answered yet.
    pub hello: Hello,
    /// Sends.
    pub handle: SessionHandle,
    /// Receives.
    pub receiver: SessionReceiver,
}

/// Sends to one node; cheap to clone, for several tasks at once.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    pub(super) control: Arc<ControlSender>,
    pub(super) timings: Timings,
}

impl SessionHandle {
    /// Sends one message. [`ToAgent::Welcome`] also raises the session's limits. May be cancelled: a message
    /// that was begun is then sent with the next one.
    ///
    /// # Errors
    /// [`TunnelError::Frame`] where the message is over the limit, which leaves the session as it was;
    /// [`TunnelError::TimedOut`] past the write deadline, which ends it; an error of the connection.
    pub async fn send(&self, message: &ToAgent) -> Result<(), TunnelError> {
        if matches!(message, ToAgent::Welcome(_)) {
            raise_limits(&self.control.connection);
        }
        self.control.send(message).await
    }

    /// Sends a refusal as the last message and ends the session, once the agent has it or the farewell is
    /// over.
    ///
    /// # Errors
    /// An error of the connection; the session is over in any case.
    pub async fn refuse(&self, refused: Refused) -> Result<(), TunnelError> {
        let last = ToAgent::Refused(refused);
        let sent = self.control.send_last(&last, CloseReason::Refused, self.timings.farewell).await;
        self.close(CloseReason::Refused);
        sent
    }

    /// Asks the node for the output that `header` names and waits for its answer.
    ///
    /// # Errors
    /// [`TunnelError::Rejected`] with the node's words; [`TunnelError::TimedOut`] where it does not answer, or
    /// where [`MAX_OPEN_OUTPUTS`](super::MAX_OPEN_OUTPUTS) are open; an error of the connection.
    pub async fn open_output(&self, header: &StreamHeader) -> Result<OutputReader, TunnelError> {
        within(
            self.timings.reply,
            "the node's answer to a stream",
            output::open(&self.control.connection, header),
        )
        .await
    }

    /// Ends the session at once. What was sent just before may be lost; see [`Self::refuse`].
    pub fn close(&self, reason: CloseReason) {
        close(&self.control.connection, reason);
    }

    /// Waits until the session is over and says why.
    pub async fn closed(&self) -> TunnelError {
        self.control.connection.closed().await.into()
    }
}

/// Receives from one node.
#[derive(Debug)]
pub struct SessionReceiver {
    pub(super) control: ControlReceiver,
}

impl SessionReceiver {
    /// The next message; nothing where the agent is done. May be cancelled.
    ///
    /// # Errors
    /// [`TunnelError::Frame`] where the agent sent no message or one over the limit, which ends the session;
    /// an error of the connection.
    pub async fn recv(&mut self) -> Result<Option<ToBroker>, TunnelError> {
        self.control.recv().await
    }
}
