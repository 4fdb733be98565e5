//! Deadlines, limits, and the configurations of TLS and transport made from them.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;

use super::TunnelError;
use crate::identity::{
    FingerprintVerifier, NodeIdentity, NodeVerifier, ServerIdentity, pinned_verifier, provider,
};

/// What agents speak.
pub(super) const ALPN_AGENT: &[u8] = b"spillway/1";
/// What machines speak that want to become nodes.
pub(super) const ALPN_ENROL: &[u8] = b"spillway-enrol/1";

/// Most outputs that the broker follows at once on one session; the next one waits for a place.
pub const MAX_OPEN_OUTPUTS: u32 = 31;
/// What one stream may have in flight: at 100 ms round trip some 20 Mbit/s, plenty for messages and logs.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What one session may have in flight: every stream's window fits at once, the control stream's too.
const SESSION_WINDOW: u32 = (MAX_OPEN_OUTPUTS + 1) * STREAM_WINDOW;
/// What a peer may have in flight before it is known.
const EARLY_WINDOW: u32 = 64 * 1024;
/// Bytes that wait to be sent or acknowledged in one session: two of the largest frames.
const SEND_WINDOW: u64 = 8 * 1024 * 1024;
/// Largest UDP payload that is tried: an Ethernet frame. Larger ones save CPU only for bulk data.
const MTU_UPPER_BOUND: u16 = 1452;
/// Priority of the control stream over outputs, which have 0.
pub(super) const CONTROL_PRIORITY: i32 = 10;

/// The deadlines of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Longest wait of the broker for a new connection's first message, and of the agent for a new stream's
    /// header.
    pub first_message: Duration,
    /// Longest wait for an answer: a welcome, an enrolment, an accepted stream.
    pub reply: Duration,
    /// Longest time for writing one message. A session that takes longer is ended.
    pub write: Duration,
    /// How often the agent makes sure that the connection lives.
    pub keep_alive: Duration,
    /// After this much silence the connection is lost. The smaller one of both sides counts.
    pub idle: Duration,
    /// How long a side that has said its last word waits for the other to close.
    pub farewell: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            first_message: Duration::from_secs(5),
            reply: Duration::from_secs(10),
            write: Duration::from_secs(20),
            keep_alive: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            farewell: Duration::from_secs(2),
        }
    }
}

fn tls(error: impl std::fmt::Display) -> TunnelError {
    TunnelError::Tls { problem: error.to_string() }
}

fn base_transport(timings: &Timings) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_UPPER_BOUND);
    let mut transport = TransportConfig::default();
    // A duration over 2^62 ms does not fit: then there is no idle timeout, which is what was asked for.
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(timings.idle).ok())
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .mtu_discovery_config(Some(mtu));
    transport
}

/// The broker's side. A peer has one stream, the control stream, and keeps to one: what agents open later
/// needs somebody who takes it, for a stream that nobody reads would hold the session's window.
pub(super) fn server_config(
    identity: ServerIdentity,
    timings: &Timings,
) -> Result<ServerConfig, TunnelError> {
    let verifier = NodeVerifier::new(&identity.ca, identity.deployment).map_err(tls)?;
    let mut crypto = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![identity.certificate, identity.ca], identity.key)
        .map_err(tls)?;
    crypto.alpn_protocols = vec![ALPN_AGENT.to_vec(), ALPN_ENROL.to_vec()];
    crypto.session_storage = Arc::new(NoServerSessionStorage {});
    crypto.send_tls13_tickets = 0;
    crypto.max_early_data_size = 0;
    let mut transport = base_transport(timings);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1)).receive_window(VarInt::from_u32(EARLY_WINDOW));
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(crypto).map_err(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// What the broker allows a session that it has welcomed.
pub(super) fn raise_limits(connection: &quinn::Connection) {
    connection.set_receive_window(VarInt::from_u32(SESSION_WINDOW));
}

fn client_config(
    mut crypto: rustls::ClientConfig,
    alpn: &[u8],
    transport: TransportConfig,
) -> Result<ClientConfig, TunnelError> {
    crypto.alpn_protocols = vec![alpn.to_vec()];
    crypto.resumption = Resumption::disabled();
    crypto.enable_early_data = false;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto).map_err(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// A node's side.
pub(super) fn agent_config(identity: &NodeIdentity, timings: &Timings) -> Result<ClientConfig, TunnelError> {
    let ca = CertificateDer::from(identity.ca_der());
    let crypto = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(tls)?
        .with_webpki_verifier(pinned_verifier(&ca, provider()).map_err(tls)?)
        .with_client_auth_cert(vec![identity.tls_certificate()], identity.tls_key())
        .map_err(tls)?;
    let mut transport = base_transport(timings);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_OPEN_OUTPUTS))
        .receive_window(VarInt::from_u32(SESSION_WINDOW))
        .keep_alive_interval(Some(timings.keep_alive));
    client_config(crypto, ALPN_AGENT, transport)
}

/// The side of a machine that wants to become a node and knows the fingerprint of the deployment's CA.
pub(super) fn enrol_config(ca_fingerprint: &str, timings: &Timings) -> Result<ClientConfig, TunnelError> {
    let crypto = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(FingerprintVerifier::new(ca_fingerprint)))
        .with_no_client_auth();
    let mut transport = base_transport(timings);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(EARLY_WINDOW))
        .keep_alive_interval(Some(timings.keep_alive));
    client_config(crypto, ALPN_ENROL, transport)
}
