//! The QUIC driver: thin, over quinn. One UDP port of the broker serves agents and machines that enrol.
//!
//! The way of a session:
//! 1. The agent dials ([`connect`]) with ALPN `spillway/1`, TLS 1.3, both sides with certificates.
//! 2. It opens the first stream, which is the control stream, and sends its hello. Until here it may have one
//!    stream and 64 KiB in flight, and a few seconds.
//! 3. [`Listener::accept`] gives the broker an [`Incoming::Agent`]; the broker answers with a welcome, which
//!    raises the session's window, or with [`SessionHandle::refuse`].
//! 4. Both send and receive messages. The broker opens a stream for each output it follows
//!    ([`SessionHandle::open_output`]); the agent takes them from [`AgentStreams::accept`].
//!
//! The way of an enrolment: [`enrol`] dials with ALPN `spillway-enrol/1` and no certificate of its own, checks
//! the broker by its CA's fingerprint, sends one request on one stream and reads one answer.
//!
//! - A bad peer costs one bounded task and never the listener.
//! - No resumption and no early data: rustls would restore a client's certificate without checking it again.
//! - Every wait for the other side has a deadline from [`Timings`], save waiting for the next message, which
//!   the connection's idle timeout bounds, and a job's output, which its reader paces.
//! - A broker that was killed and started again ends the connections it does not remember at their next packet.
//! - All streams of a session together never fill the connection's window, so that a reader of output who
//!   stands still does not hold up the control stream.

mod agent;
mod config;
mod control;
mod enrol;
mod error;
mod listener;
mod output;
mod reset;
mod session;
mod socket;

pub use agent::{AgentReceiver, AgentSender, AgentSession, AgentStreams, connect};
pub use config::{MAX_OPEN_OUTPUTS, Timings};
pub use enrol::{EnrolExchange, Enrolment, enrol};
pub use error::{CloseReason, ConnectError, DialError, EnrolError, TunnelError};
pub use listener::{Incoming, Listener};
pub use output::{IncomingStream, OutputReader, OutputWriter, StreamResponder};
pub use session::{BrokerSession, SessionHandle, SessionReceiver};

#[cfg(test)]
mod tests;
