//! What can go wrong in a tunnel, and how one side tells the other why it ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use crate::identity::IdentityError;
use crate::protocol::frame::FrameError;
use crate::protocol::{EnrolRefusal, Refused};

/// Why one side ends a connection, as a number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Nothing more to say.
    Normal,
    /// The other side broke the protocol.
    ProtocolError,
    /// The other side did not take a message in time.
    Stalled,
    /// The other side has no certificate where one is needed.
    NoCertificate,
    /// The other side did not say its first message in time.
    Silent,
    /// The session was refused; the message before says why.
    Refused,
    /// Another session of the same node came later.
    Superseded,
    /// The node was revoked.
    Revoked,
    /// This side is going down; dial again.
    ShuttingDown,
}

impl CloseReason {
    const ALL: [Self; 9] = [
        Self::Normal,
        Self::ProtocolError,
        Self::Stalled,
        Self::NoCertificate,
        Self::Silent,
        Self::Refused,
        Self::Superseded,
        Self::Revoked,
        Self::ShuttingDown,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Normal => 0,
            Self::ProtocolError => 1,
            Self::Stalled => 2,
            Self::NoCertificate => 3,
            Self::Silent => 4,
            Self::Refused => 5,
            Self::Superseded => 6,
            Self::Revoked => 7,
            Self::ShuttingDown => 8,
        }
    }

    /// The reason with this number; none where a newer peer has more of them.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| u64::from(reason.code()) == code)
    }

    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Normal => "done",
            Self::ProtocolError => "the protocol was broken",
            Self::Stalled => "a message was not taken in time",
            Self::NoCertificate => "a node's certificate is needed: enrol this machine",
            Self::Silent => "the first message did not come in time",
            Self::Refused => "refused",
            Self::Superseded => "another session of this node came later",
            Self::Revoked => "this node was revoked",
            Self::ShuttingDown => "going down",
        }
    }
}

/// Why a listener could not open, or a session or stream ended.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Another process has the port.
    #[error("UDP {address} is in use: stop what listens there or choose another port")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The socket could not be opened.
    #[error("UDP {address} could not be opened")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Keys or certificates cannot be used.
    #[error("TLS could not be set up: {problem}")]
    Tls {
        /// Why.
        problem: String,
    },
    /// The other side's certificate is not good.
    #[error("the other side's certificate was refused: {problem}")]
    Untrusted {
        /// Why.
        problem: String,
    },
    /// The other side says that our certificate is not good.
    #[error("the other side refused our certificate: {problem}")]
    CertificateRefused {
        /// Why.
        problem: String,
    },
    /// The other side has no certificate where one is needed.
    #[error("the other side showed no node's certificate")]
    NoCertificate,
    /// The other side ended the connection.
    #[error("the other side ended the connection: {message}")]
    ClosedByPeer {
        /// Why; none for a reason that this build does not know.
        reason: Option<CloseReason>,
        /// The other side's words.
        message: String,
    },
    /// This side ended the connection.
    #[error("the connection was ended here")]
    ClosedHere,
    /// The connection is gone: silence, a reset, or a broken transport.
    #[error("the connection was lost")]
    Lost(#[source] Box<ConnectionError>),
    /// The other side gave a stream up.
    #[error("the other side gave the stream up (code {code})")]
    StreamReset {
        /// The other side's number for why.
        code: u64,
    },
    /// The stream is over on this side.
    #[error("the stream is closed")]
    StreamClosed,
    /// Bytes were not a frame or a message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message came where another was due.
    #[error("a {found} came where a {expected} was due")]
    OutOfOrder {
        /// What was due.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// The other side did not do its part in time.
    #[error("{what} took longer than {} ms", after.as_millis())]
    TimedOut {
        /// What took too long.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The agent does not serve this stream.
    #[error("the node refused the stream: {message}")]
    Rejected {
        /// The agent's words.
        message: String,
    },
}

/// Whether a transport's code says that the TLS handshake failed (RFC 9001, section 4.8).
fn is_tls_alert(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

impl From<ConnectionError> for TunnelError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::ClosedByPeer {
                reason: CloseReason::from_code(close.error_code.into_inner()),
                message: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::TransportError(error) if is_tls_alert(error.code) => {
                Self::Untrusted { problem: error.reason }
            }
            ConnectionError::ConnectionClosed(close) if is_tls_alert(close.error_code) => {
                Self::CertificateRefused { problem: close.to_string() }
            }
            lost @ (ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::CidsExhausted) => Self::Lost(Box::new(lost)),
        }
    }
}

impl From<ReadError> for TunnelError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::Reset(code) => Self::StreamReset { code: code.into_inner() },
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                Self::StreamClosed
            }
        }
    }
}

impl From<WriteError> for TunnelError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::Stopped(code) => Self::StreamReset { code: code.into_inner() },
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::StreamClosed,
        }
    }
}

/// Ends a connection with a reason.
pub(super) fn close(connection: &quinn::Connection, reason: CloseReason) {
    close_saying(connection, reason, reason.text());
}

/// Ends a connection with a reason in words of its own.
pub(super) fn close_saying(connection: &quinn::Connection, reason: CloseReason, message: &str) {
    connection.close(VarInt::from_u32(reason.code()), message.as_bytes());
}

/// Why the broker could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address does not lead anywhere.
    #[error("`{value}` is not an address that can be reached: it must look like `broker.example.com:7443`")]
    Address {
        /// What was given.
        value: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No connection came about.
    #[error("no tunnel to the broker at {address}")]
    Failed {
        /// The last address that was tried.
        address: SocketAddr,
        /// Why.
        #[source]
        source: TunnelError,
    },
}

/// Why an agent has no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker could not be reached, or one side refused the other's certificate.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The broker said no, and whether to try again.
    #[error(transparent)]
    Refused(Refused),
    /// The broker welcomed another node or deployment than the certificate names.
    #[error("the broker welcomed `{found}`, but this node's certificate says `{expected}`")]
    Mistaken {
        /// Who the certificate says.
        expected: String,
        /// Who the broker says.
        found: String,
    },
    /// The connection ended before the broker's answer.
    #[error("the broker did not answer")]
    Tunnel(#[from] TunnelError),
}

/// Why a machine could not become a node.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The fingerprint cannot be one.
    #[error(
        "`{value}` is not a CA's fingerprint: it has 64 hexadecimal digits, as the join command shows it"
    )]
    Fingerprint {
        /// What was given, cut to 80 characters.
        value: String,
    },
    /// The broker could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Somebody else answered, or the join command is of another deployment.
    #[error("the broker at {address} is not the one with the CA {expected}: {problem}")]
    ForeignCa {
        /// Who answered.
        address: SocketAddr,
        /// The fingerprint that was given.
        expected: String,
        /// What was found.
        problem: String,
    },
    /// The broker said no.
    #[error("the broker refused to enrol this machine: {message}")]
    Refused {
        /// Why.
        code: EnrolRefusal,
        /// For people: what to do.
        message: String,
    },
    /// The broker's answer does not fit this machine's key.
    #[error("the broker's answer cannot be used")]
    Answer(#[source] IdentityError),
    /// The broker's answer is for another node, deployment or CA than it says.
    #[error("the broker's answer contradicts itself: {problem}")]
    Contradiction {
        /// What is wrong.
        problem: String,
    },
    /// The connection ended before the answer. Asking again with the same draft is safe.
    #[error("the broker did not answer; asking again is safe")]
    Tunnel(#[from] TunnelError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_number_of_its_own() {
        for reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_code(u64::from(reason.code())), Some(reason));
        }
        assert_eq!(CloseReason::from_code(9), None);
        assert_eq!(CloseReason::from_code(u64::MAX), None);
    }
}
