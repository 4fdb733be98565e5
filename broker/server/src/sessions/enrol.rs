//! A machine becomes a node: its token is redeemed, its key gets a certificate.

use std::sync::Arc;

use spillway_core::command::JoinProof;
use spillway_core::refusal::JoinRefusal;
use spillway_core::{Command, Refusal, Reply};
use spillway_tunnel::identity::CertificateRequest;
use spillway_tunnel::protocol::{EnrolRefusal, EnrolReply};
use spillway_tunnel::quic::EnrolExchange;
use spillway_types::{NodeId, PoolName};

use super::Sessions;
use crate::engine::EngineError;
use crate::secrets;

/// Longest host name that is kept.
const MAX_HOSTNAME: usize = 253;

pub(super) async fn enrol(sessions: Arc<Sessions>, exchange: EnrolExchange) {
    let remote = exchange.remote;
    let reply = decide(&sessions, &exchange).await;
    match &reply {
        Ok((node, _)) => tracing::info!(node.id = %node, %remote, "a machine became a node"),
        Err((code, message)) => tracing::warn!(?code, %remote, %message, "a machine was refused"),
    }
    let reply = match reply {
        Ok((_, reply)) => reply,
        Err((code, message)) => EnrolReply::Refused { code, message },
    };
    if let Err(error) = exchange.respond(&reply).await {
        tracing::debug!(%error, %remote, "the machine may not have got its answer; it may ask again");
    }
}

type Refused = (EnrolRefusal, String);

async fn decide(sessions: &Sessions, exchange: &EnrolExchange) -> Result<(NodeId, EnrolReply), Refused> {
    let request = CertificateRequest::parse(&exchange.request.certificate_request)
        .map_err(|error| (EnrolRefusal::Malformed, error.to_string()))?;
    let proof = match sessions.key.verify(&exchange.request.token) {
        Some(instance) => JoinProof::Instance { instance },
        None => JoinProof::Token { hash: secrets::hash(&exchange.request.token) },
    };
    let hostname: String =
        exchange.request.hostname.chars().filter(|c| !c.is_control()).take(MAX_HOSTNAME).collect();
    let command = Command::Enrol { proof, key_hash: request.key_fingerprint(), hostname };
    let node = match sessions.engine.command(command).await {
        Ok(Reply::Node(node)) => node,
        Ok(_) => return Err((EnrolRefusal::Busy, "the broker is confused: try again".to_owned())),
        Err(error) => return Err(refusal(&error)),
    };
    let pool = pool_of(sessions, node).await.ok_or((EnrolRefusal::Unwanted, format!("{node} has left")))?;
    let certificate = sessions
        .ca
        .issue_node(&request, node, &pool, sessions.engine.clock().now())
        .map_err(|error| (EnrolRefusal::Busy, error.to_string()))?;
    let deployment = sessions.ca.deployment().to_owned();
    let ca = sessions.ca.certificate_der().to_vec();
    Ok((node, EnrolReply::Enrolled { node, deployment, certificate, ca }))
}

async fn pool_of(sessions: &Sessions, node: NodeId) -> Option<PoolName> {
    let find = move |view: &crate::engine::View<'_>| {
        view.federation.state().nodes.get(&node).map(|node| node.pool.clone())
    };
    sessions.engine.read(find).await.ok().flatten()
}

fn refusal(error: &EngineError) -> Refused {
    let code = match error {
        EngineError::Refused(Refusal::JoinToken(why)) => match why {
            JoinRefusal::Unknown => EnrolRefusal::UnknownToken,
            JoinRefusal::Expired => EnrolRefusal::Expired,
            JoinRefusal::Used => EnrolRefusal::Used,
            JoinRefusal::Unwanted => EnrolRefusal::Unwanted,
        },
        EngineError::Refused(_) | EngineError::Store(_) | EngineError::Recovery(_) | EngineError::Stopped => {
            EnrolRefusal::Busy
        }
    };
    (code, error.to_string())
}
