//! The agent's end of a session.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime};
use tokio::time::timeout;

use super::config::{CONTROL_PRIORITY, Timings, agent_config};
use super::control::{ControlReceiver, ControlSender, FrameReceiver, FrameSender, within};
use super::error::{CloseReason, ConnectError, DialError, TunnelError, close};
use super::output::IncomingStream;
use super::socket::{self, Side};
use crate::identity::{BROKER_NAME, NodeIdentity};
use crate::protocol::frame::{MAX_FRAME_TO_AGENT, MAX_FRAME_TO_BROKER};
use crate::protocol::{Hello, ToAgent, ToBroker, Welcome};

/// A session that the broker has welcomed. Take it apart: sender, receiver and streams go to different tasks.
/// When all are gone the session ends.
#[derive(Debug)]
pub struct AgentSession {
    /// The broker's yes.
    pub welcome: Welcome,
    /// Where the broker is.
    pub remote: SocketAddr,
    /// Sends.
    pub sender: AgentSender,
    /// Receives.
    pub receiver: AgentReceiver,
    /// Takes the streams that the broker opens.
    pub streams: AgentStreams,
}

/// Sends to the broker; cheap to clone, for several tasks at once.
#[derive(Debug, Clone)]
pub struct AgentSender {
    control: Arc<ControlSender>,
    endpoint: Endpoint,
    timings: Timings,
}

impl AgentSender {
    /// Sends one message. May be cancelled: a message that was begun is then sent with the next one.
    ///
    /// # Errors
    /// [`TunnelError::Frame`] where the message is over
    /// [`MAX_FRAME_TO_BROKER`], which leaves the session as it was; [`TunnelError::TimedOut`] past the write
    /// deadline, which ends it; an error of the connection.
    pub async fn send(&self, message: &ToBroker) -> Result<(), TunnelError> {
        self.control.send(message).await
    }

    /// Ends the session and waits, at most for the farewell, until the broker knows.
    pub async fn close(&self, reason: CloseReason) {
        finish(&self.endpoint, &self.control.connection, reason, self.timings.farewell).await;
    }

    /// Waits until the session is over and says why.
    pub async fn closed(&self) -> TunnelError {
        self.control.connection.closed().await.into()
    }
}

/// Receives from the broker.
#[derive(Debug)]
pub struct AgentReceiver {
    control: ControlReceiver,
}

impl AgentReceiver {
    /// The next message; nothing where the broker is done. May be cancelled.
    ///
    /// # Errors
    /// [`TunnelError::Frame`] where the broker sent no message or one over the limit, which ends the session;
    /// an error of the connection.
    pub async fn recv(&mut self) -> Result<Option<ToAgent>, TunnelError> {
        self.control.recv().await
    }
}

/// Takes the streams that the broker opens.
#[derive(Debug)]
pub struct AgentStreams {
    connection: Connection,
    timings: Timings,
}

impl AgentStreams {
    /// The next stream, its header not read yet: read it in a task of the stream's own. May be cancelled.
    ///
    /// # Errors
    /// The session is over.
    pub async fn accept(&mut self) -> Result<IncomingStream, TunnelError> {
        let (send, recv) = self.connection.accept_bi().await?;
        Ok(IncomingStream { send, recv, deadline: self.timings.first_message })
    }
}

/// Dials the broker at `broker` (host and port), says `hello` and waits for the answer.
///
/// # Errors
/// [`ConnectError::Refused`] is the broker's decision and says when to come back; the others are worth another
/// try after a [`Backoff`](crate::protocol::backoff::Backoff).
pub async fn connect(
    broker: &str,
    identity: &NodeIdentity,
    timings: Timings,
    hello: Hello,
) -> Result<AgentSession, ConnectError> {
    let (endpoint, connection) = dial(broker, agent_config(identity, &timings)?, &timings).await?;
    let greeting = within(timings.reply, "the broker's welcome", greet(&connection, hello)).await;
    match greeting.map_err(ConnectError::from).and_then(|greeting| checked(greeting, identity)) {
        Err(error) => {
            finish(&endpoint, &connection, CloseReason::Normal, timings.farewell).await;
            Err(error)
        }
        Ok(Greeting { welcome, send, receive }) => Ok(AgentSession {
            welcome,
            remote: connection.remote_address(),
            sender: AgentSender {
                control: Arc::new(ControlSender::new(connection.clone(), send, timings.write)),
                endpoint,
                timings,
            },
            receiver: AgentReceiver { control: ControlReceiver::new(connection.clone(), receive) },
            streams: AgentStreams { connection, timings },
        }),
    }
}

struct Greeting<T> {
    welcome: T,
    send: FrameSender,
    receive: FrameReceiver,
}

async fn greet(connection: &Connection, hello: Hello) -> Result<Greeting<ToAgent>, TunnelError> {
    let (send, recv): (SendStream, RecvStream) = connection.open_bi().await?;
    send.set_priority(CONTROL_PRIORITY).map_err(|_| TunnelError::StreamClosed)?;
    let mut send = FrameSender::new(send, MAX_FRAME_TO_BROKER);
    let mut receive = FrameReceiver::new(recv, MAX_FRAME_TO_AGENT);
    // A broker that refuses may close before it has read the whole hello; its answer is what counts.
    let sent = send.send(&ToBroker::Hello(Box::new(hello))).await;
    match receive.recv().await? {
        Some(welcome) => sent.map(|()| Greeting { welcome, send, receive }),
        None => Err(sent.err().unwrap_or(TunnelError::StreamClosed)),
    }
}

fn checked(greeting: Greeting<ToAgent>, identity: &NodeIdentity) -> Result<Greeting<Welcome>, ConnectError> {
    let Greeting { welcome, send, receive } = greeting;
    let found = match welcome {
        ToAgent::Welcome(welcome) => {
            let name = identity.name();
            if welcome.node == name.node && welcome.deployment == name.deployment {
                return Ok(Greeting { welcome: *welcome, send, receive });
            }
            let found = format!("{} of {}", welcome.node, welcome.deployment);
            return Err(ConnectError::Mistaken { expected: name.to_string(), found });
        }
        ToAgent::Refused(refused) => return Err(ConnectError::Refused(refused)),
        ToAgent::Desired(_) => "desired state",
        ToAgent::Renewed { .. } => "renewal",
        ToAgent::Acked { .. } => "acknowledgement",
        ToAgent::Goaway { .. } => "goaway",
    };
    Err(TunnelError::OutOfOrder { expected: "welcome", found }.into())
}

/// Tries every address of `broker` in turn.
pub(super) async fn dial(
    broker: &str,
    config: ClientConfig,
    timings: &Timings,
) -> Result<(Endpoint, Connection), DialError> {
    let unusable = |source| DialError::Address { value: broker.to_owned(), source };
    let addresses = match timeout(timings.handshake, tokio::net::lookup_host(broker)).await {
        Ok(found) => found.map_err(unusable)?,
        Err(_) => {
            return Err(unusable(io::Error::new(io::ErrorKind::TimedOut, "the name service is silent")));
        }
    };
    let mut last = unusable(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        match dial_one(address, config.clone(), timings).await {
            Ok(dialled) => return Ok(dialled),
            Err(source) => last = DialError::Failed { address, source },
        }
    }
    Err(last)
}

async fn dial_one(
    address: SocketAddr,
    config: ClientConfig,
    timings: &Timings,
) -> Result<(Endpoint, Connection), TunnelError> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = socket::bind(any, Side::Agent)?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
        .map_err(|source| TunnelError::Bind { address: any, source })?;
    let connecting = endpoint
        .connect_with(config, address, BROKER_NAME)
        .map_err(|error| TunnelError::Tls { problem: error.to_string() })?;
    let connection = within(timings.handshake, "the handshake", connecting).await?;
    Ok((endpoint, connection))
}

/// Closes and waits, at most for `farewell`, until the peer knows.
pub(super) async fn finish(
    endpoint: &Endpoint,
    connection: &Connection,
    reason: CloseReason,
    farewell: Duration,
) {
    close(connection, reason);
    if timeout(farewell, endpoint.wait_idle()).await.is_err() {
        tracing::trace!("the peer did not acknowledge the end of the connection");
    }
}
