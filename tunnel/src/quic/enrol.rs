//! Enrolment, both sides. Asked again with the same draft after a lost answer, the machine sends the same
//! request, byte for byte; that the broker then gives the same answer is the broker's part.

use std::net::SocketAddr;

use quinn::{Connection, RecvStream, SendStream};

use super::agent::{dial, finish};
use super::config::{Timings, enrol_config};
use super::control::{FrameReceiver, FrameSender, linger, within};
use super::error::{CloseReason, DialError, EnrolError, TunnelError};
use crate::identity::{EnrolmentDraft, NodeIdentity, fingerprint};
use crate::protocol::frame::{FrameError, MAX_ENROL};
use crate::protocol::{EnrolReply, EnrolRequest};

/// Hexadecimal digits of a fingerprint.
const FINGERPRINT_DIGITS: usize = 64;

/// A machine that wants to become a node. Dropped without an answer, the machine sees the connection end and
/// may ask again.
#[derive(Debug)]
pub struct EnrolExchange {
    /// What it asks.
    pub request: EnrolRequest,
    /// Where it dials from.
    pub remote: SocketAddr,
    connection: Connection,
    reply: FrameSender,
    timings: Timings,
}

impl EnrolExchange {
    pub(super) async fn read(
        connection: Connection,
        (send, recv): (SendStream, RecvStream),
        timings: Timings,
    ) -> Result<Self, TunnelError> {
        let request = FrameReceiver::new(recv, MAX_ENROL).recv().await?;
        let request = request.ok_or(TunnelError::Frame(FrameError::Truncated { have: 0 }))?;
        let remote = connection.remote_address();
        Ok(Self { request, remote, connection, reply: FrameSender::new(send, MAX_ENROL), timings })
    }

    /// Answers, and waits until the machine has the answer or the farewell is over.
    ///
    /// # Errors
    /// The machine is gone. Whether it got the answer is then not known: it may ask again.
    pub async fn respond(mut self, reply: &EnrolReply) -> Result<(), TunnelError> {
        within(self.timings.write, "writing the answer", self.reply.send(reply)).await?;
        self.reply.finish()?;
        linger(&self.connection, CloseReason::Normal, self.timings.farewell).await;
        Ok(())
    }
}

/// What a join command says.
#[derive(Clone, Copy)]
pub struct Enrolment<'a> {
    /// The broker's tunnel address: host and port.
    pub broker: &'a str,
    /// SHA-256 of the deployment's CA certificate, in hexadecimal digits.
    pub ca_fingerprint: &'a str,
    /// The join token.
    pub token: &'a str,
    /// This machine's name.
    pub hostname: &'a str,
}

impl std::fmt::Debug for Enrolment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment")
            .field("broker", &self.broker)
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// Makes this machine a node. Save the identity, then discard the draft; until then asking again with the
/// same draft is safe.
///
/// # Errors
/// [`EnrolError`]. [`EnrolError::Refused`] is the broker's decision, [`EnrolError::ForeignCa`] means that
/// nothing was sent, not even the token.
pub async fn enrol(
    enrolment: &Enrolment<'_>,
    draft: &EnrolmentDraft,
    timings: Timings,
) -> Result<NodeIdentity, EnrolError> {
    let expected = enrolment.ca_fingerprint.trim().to_ascii_lowercase();
    if expected.len() != FINGERPRINT_DIGITS || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(EnrolError::Fingerprint { value: enrolment.ca_fingerprint.chars().take(80).collect() });
    }
    let config = enrol_config(&expected, &timings)?;
    let (endpoint, connection) = match dial(enrolment.broker, config, &timings).await {
        Err(DialError::Failed { address, source: TunnelError::Untrusted { problem } }) => {
            return Err(EnrolError::ForeignCa { address, expected, problem });
        }
        other => other?,
    };
    let request = EnrolRequest {
        token: enrolment.token.to_owned(),
        certificate_request: draft.request_der().to_vec(),
        hostname: enrolment.hostname.to_owned(),
    };
    let reply = within(timings.reply, "the broker's answer", ask(&connection, &request)).await;
    finish(&endpoint, &connection, CloseReason::Normal, timings.farewell).await;
    accept(reply?, draft, &expected)
}

async fn ask(connection: &Connection, request: &EnrolRequest) -> Result<EnrolReply, TunnelError> {
    let (send, recv) = connection.open_bi().await?;
    let mut sender = FrameSender::new(send, MAX_ENROL);
    sender.send(request).await?;
    sender.finish()?;
    let reply = FrameReceiver::new(recv, MAX_ENROL).recv().await?;
    reply.ok_or(TunnelError::Frame(FrameError::Truncated { have: 0 }))
}

fn accept(reply: EnrolReply, draft: &EnrolmentDraft, expected: &str) -> Result<NodeIdentity, EnrolError> {
    let (node, deployment, certificate, ca) = match reply {
        EnrolReply::Refused { code, message } => return Err(EnrolError::Refused { code, message }),
        EnrolReply::Enrolled { node, deployment, certificate, ca } => (node, deployment, certificate, ca),
    };
    let contradiction = |problem: String| Err(EnrolError::Contradiction { problem });
    if fingerprint(&ca) != expected {
        return contradiction(format!("its CA has the fingerprint {}", fingerprint(&ca)));
    }
    let identity = draft.complete(certificate, ca).map_err(EnrolError::Answer)?;
    if identity.node() != node || identity.name().deployment != deployment {
        return contradiction(format!(
            "{node} of `{deployment}`, with a certificate of `{}`",
            identity.name()
        ));
    }
    Ok(identity)
}
