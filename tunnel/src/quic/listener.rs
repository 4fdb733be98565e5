//! The broker's listener: one UDP port for agents and for machines that enrol.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TokioRuntime, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::config::{ALPN_AGENT, ALPN_ENROL, CONTROL_PRIORITY, Timings, server_config};
use super::control::{ControlReceiver, ControlSender, FrameReceiver, FrameSender, within};
use super::enrol::EnrolExchange;
use super::error::{CloseReason, TunnelError, close, close_saying};
use super::reset::endpoint_config;
use super::session::{BrokerSession, SessionHandle, SessionReceiver};
use super::socket::{self, Side};
use crate::identity::{NodeName, ServerIdentity, node_name};
use crate::protocol::frame::{FrameError, MAX_FRAME_TO_AGENT, MAX_FRAME_TO_BROKER};
use crate::protocol::{Hello, ToBroker};

/// Most peers between their first packet and [`Listener::accept`]; more are refused and dial again. At a
/// millisecond of CPU for a handshake this is half a second's work.
const MAX_PENDING: usize = 512;
/// From this many on, a peer must show that its address is its own before anything is kept for it.
const VALIDATE_FROM: usize = 128;

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// A machine wants to become a node.
    Enrol(Box<EnrolExchange>),
    /// A node has said hello.
    Agent(Box<BrokerSession>),
}

#[derive(Debug)]
struct Ready {
    incoming: Incoming,
    // Held until it is taken, so that what waits here is counted.
    _place: OwnedSemaphorePermit,
}

/// Listens for agents and machines that enrol. Dropping it takes no more of them; sessions go on.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    ready: mpsc::Receiver<Ready>,
    accepting: JoinHandle<()>,
    timings: Timings,
}

impl Listener {
    /// Opens UDP `address` (port 0: any free one). To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`TunnelError::AddressInUse`], [`TunnelError::Bind`] or [`TunnelError::Tls`].
    pub fn bind(
        address: SocketAddr,
        identity: ServerIdentity,
        timings: Timings,
    ) -> Result<Self, TunnelError> {
        let endpoint_config = endpoint_config(&identity.reset);
        let config = server_config(identity, &timings)?;
        let socket = socket::bind(address, Side::Broker)?;
        let endpoint = Endpoint::new(endpoint_config, Some(config), socket, Arc::new(TokioRuntime))
            .map_err(|source| TunnelError::Bind { address, source })?;
        let (sender, ready) = mpsc::channel(MAX_PENDING);
        let accepting = tokio::spawn(accept_all(endpoint.clone(), sender, timings));
        Ok(Self { endpoint, ready, accepting, timings })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// [`TunnelError::Bind`] where the socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, TunnelError> {
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        self.endpoint.local_addr().map_err(|source| TunnelError::Bind { address, source })
    }

    /// The next peer that is through its handshake and has said its first message; nothing once the listener
    /// is closed. Bad peers never show here. May be cancelled.
    pub async fn accept(&mut self) -> Option<Incoming> {
        self.ready.recv().await.map(|ready| ready.incoming)
    }

    /// Ends every session and takes no more, then waits, at most for the farewell, until the peers know.
    pub async fn close(&self, reason: CloseReason) {
        self.accepting.abort();
        self.endpoint.close(VarInt::from_u32(reason.code()), reason.text().as_bytes());
        if timeout(self.timings.farewell, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("some agents did not acknowledge the end of their sessions");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
        self.endpoint.set_server_config(None);
    }
}

async fn accept_all(endpoint: Endpoint, ready: mpsc::Sender<Ready>, timings: Timings) {
    let places = Arc::new(Semaphore::new(MAX_PENDING));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(peer = %incoming.remote_address(), "refused a peer: too many are waiting");
            incoming.refuse();
            continue;
        };
        if MAX_PENDING - places.available_permits() > VALIDATE_FROM && incoming.may_retry() {
            if let Err(error) = incoming.retry() {
                tracing::debug!(%error, "a peer could not be asked to show its address");
            }
            continue;
        }
        tokio::spawn(admit_into(incoming, ready.clone(), place, timings));
    }
}

async fn admit_into(
    incoming: quinn::Incoming,
    ready: mpsc::Sender<Ready>,
    place: OwnedSemaphorePermit,
    timings: Timings,
) {
    let peer = incoming.remote_address();
    match admit(incoming, timings).await {
        Ok(incoming) => {
            if ready.send(Ready { incoming, _place: place }).await.is_err() {
                tracing::debug!(%peer, "a peer came as the listener closed");
            }
        }
        Err(error) => tracing::debug!(%peer, %error, "a peer was turned away"),
    }
}

/// Takes one peer through its handshake and its first message.
async fn admit(incoming: quinn::Incoming, timings: Timings) -> Result<Incoming, TunnelError> {
    let connecting = incoming.accept()?;
    let connection = within(timings.handshake, "the handshake", connecting).await?;
    let admitted = within(timings.first_message, "the first message", introduce(&connection, timings)).await;
    match &admitted {
        Err(TunnelError::TimedOut { .. }) => close(&connection, CloseReason::Silent),
        Err(TunnelError::NoCertificate) => close(&connection, CloseReason::NoCertificate),
        Err(error) => close_saying(&connection, CloseReason::ProtocolError, &error.to_string()),
        Ok(_) => {}
    }
    admitted
}

async fn introduce(connection: &Connection, timings: Timings) -> Result<Incoming, TunnelError> {
    let protocol = negotiated_protocol(connection);
    if protocol == ALPN_ENROL {
        let streams = connection.accept_bi().await?;
        let exchange = EnrolExchange::read(connection.clone(), streams, timings).await?;
        return Ok(Incoming::Enrol(Box::new(exchange)));
    }
    let name = match peer_name(connection) {
        Some(name) if protocol == ALPN_AGENT => name,
        Some(_) | None => {
            return Err(TunnelError::NoCertificate);
        }
    };
    let streams = connection.accept_bi().await?;
    Ok(Incoming::Agent(Box::new(meet(connection, name, streams, timings).await?)))
}

/// Reads an agent's hello.
async fn meet(
    connection: &Connection,
    name: NodeName,
    (send, recv): (SendStream, RecvStream),
    timings: Timings,
) -> Result<BrokerSession, TunnelError> {
    send.set_priority(CONTROL_PRIORITY).map_err(|_| TunnelError::StreamClosed)?;
    let send = FrameSender::new(send, MAX_FRAME_TO_AGENT);
    let mut receive = FrameReceiver::new(recv, MAX_FRAME_TO_BROKER);
    let first = receive.recv().await?.ok_or(TunnelError::Frame(FrameError::Truncated { have: 0 }))?;
    let control = ControlSender::new(connection.clone(), send, timings.write);
    Ok(BrokerSession {
        node: name.node,
        pool: name.pool,
        remote: connection.remote_address(),
        hello: only_hello(first)?,
        handle: SessionHandle { control: Arc::new(control), timings },
        receiver: SessionReceiver { control: ControlReceiver::new(connection.clone(), receive) },
    })
}

fn only_hello(first: ToBroker) -> Result<Hello, TunnelError> {
    let found = match first {
        ToBroker::Hello(hello) => return Ok(*hello),
        ToBroker::Renew { .. } => "renewal",
        ToBroker::Events { .. } => "batch of events",
        ToBroker::InterruptionNotice { .. } => "notice",
    };
    Err(TunnelError::OutOfOrder { expected: "hello", found })
}

fn negotiated_protocol(connection: &Connection) -> Vec<u8> {
    connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol)
        .unwrap_or_default()
}

/// The node of the certificate that the handshake has verified; none where the peer showed none.
fn peer_name(connection: &Connection) -> Option<NodeName> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_name(chain.first()?).ok()
}
