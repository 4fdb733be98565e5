//! Tests over loopback: every peer is real, and so is every refusal.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use spillway_types::{
    Capabilities, DurationMs, Inventory, InventorySource, NodeCapacity, NodeId, PoolName, UnixMs,
};
use tempfile::TempDir;

use super::agent::dial;
use super::config::{agent_config, enrol_config};
use super::*;
use crate::identity::{CertificateRequest, DeploymentCa, EnrolmentDraft, NodeIdentity};
use crate::protocol::frame::{FrameError, MAX_FRAME_TO_BROKER, StreamKind, encode};
use crate::protocol::{
    BrokerMode, EnrolRefusal, EnrolReply, Hello, HighWater, PROTOCOL, RefusalCode, Refused, StreamHeader,
    ToAgent, ToBroker, Welcome,
};

mod streams;

#[expect(clippy::disallowed_methods, reason = "certificates are checked against the real clock")]
fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}

fn quick() -> Timings {
    Timings {
        first_message: Duration::from_millis(700),
        farewell: Duration::from_millis(500),
        ..Timings::default()
    }
}

struct Broker {
    _dir: TempDir,
    ca: DeploymentCa,
    listener: Listener,
    address: String,
}

fn broker(deployment: &str) -> Broker {
    let dir = tempfile::tempdir().unwrap();
    let ca = DeploymentCa::load_or_create(dir.path(), deployment, now()).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(any, ca.issue_server(now()).unwrap(), quick()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    Broker { _dir: dir, ca, listener, address }
}

fn node(number: u64) -> NodeId {
    NodeId::from_uuid(uuid::Uuid::from_u64_pair(7, number))
}

fn pool() -> PoolName {
    "dgx".parse().unwrap()
}

fn certificate(ca: &DeploymentCa, request: &[u8], number: u64) -> Vec<u8> {
    let request = CertificateRequest::parse(request).unwrap();
    ca.issue_node(&request, node(number), &pool(), now()).unwrap()
}

/// An identity of `issuer` that pins `pinned`.
fn identity(issuer: &DeploymentCa, pinned: &DeploymentCa, number: u64) -> NodeIdentity {
    let dir = tempfile::tempdir().unwrap();
    let draft = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    let certificate = certificate(issuer, draft.request_der(), number);
    draft.complete(certificate, pinned.certificate_der().to_vec()).unwrap()
}

fn hello(boot_nonce: u64) -> Hello {
    Hello {
        protocol: PROTOCOL,
        features: vec![],
        version: "test".to_owned(),
        boot_nonce,
        deployment: String::new(),
        seen: HighWater::default(),
        inventory: Inventory {
            hostname: "dgx-1".to_owned(),
            capacity: NodeCapacity::default(),
            capabilities: Capabilities::default(),
            source: InventorySource::CpuOnly,
            labels: [].into(),
        },
        observed: vec![],
        spool: None,
    }
}

fn welcome(node: NodeId, deployment: &str) -> ToAgent {
    ToAgent::Welcome(Box::new(Welcome {
        protocol: 1,
        features: vec![],
        deployment: deployment.to_owned(),
        node,
        epoch: 1,
        at: HighWater::default(),
        renew_every: DurationMs(1000),
        mode: BrokerMode::Normal,
        acked: 0,
        usage_after: None,
    }))
}

async fn next_agent(listener: &mut Listener) -> BrokerSession {
    match listener.accept().await.unwrap() {
        Incoming::Agent(session) => *session,
        Incoming::Enrol(exchange) => panic!("an agent was due, not {exchange:?}"),
    }
}

async fn next_enrolment(listener: &mut Listener) -> EnrolExchange {
    match listener.accept().await.unwrap() {
        Incoming::Enrol(exchange) => *exchange,
        Incoming::Agent(session) => panic!("an enrolment was due, not {session:?}"),
    }
}

/// A session with both of its ends.
async fn session(broker: &mut Broker, number: u64) -> (AgentSession, BrokerSession) {
    let identity = identity(&broker.ca, &broker.ca, number);
    let serve = async {
        let session = next_agent(&mut broker.listener).await;
        session.handle.send(&welcome(session.node, broker.ca.deployment())).await.unwrap();
        session
    };
    let (agent, session) = tokio::join!(connect(&broker.address, &identity, quick(), hello(number)), serve);
    (agent.unwrap(), session)
}

fn output(offset: u64) -> StreamHeader {
    let attempt = spillway_types::AttemptId::from_uuid(uuid::Uuid::from_u64_pair(1, 1));
    StreamHeader::Output { attempt, rank: 0, offset, follow: true }
}

fn join<'a>(broker: &'a str, ca_fingerprint: &'a str) -> Enrolment<'a> {
    Enrolment { broker, ca_fingerprint, token: "secret", hostname: "dgx-1" }
}

#[tokio::test]
async fn a_machine_enrols_and_then_connects_and_both_talk() {
    let mut broker = broker("acme");
    let dir = tempfile::tempdir().unwrap();
    let draft = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    let fingerprint = broker.ca.fingerprint();
    let serve = async {
        let exchange = next_enrolment(&mut broker.listener).await;
        assert_eq!(
            (exchange.request.token.as_str(), exchange.request.hostname.as_str()),
            ("secret", "dgx-1")
        );
        let reply = EnrolReply::Enrolled {
            node: node(1),
            deployment: "acme".to_owned(),
            certificate: certificate(&broker.ca, &exchange.request.certificate_request, 1),
            ca: broker.ca.certificate_der().to_vec(),
        };
        exchange.respond(&reply).await.unwrap();
    };
    let order = join(&broker.address, &fingerprint);
    let (enrolled, ()) = tokio::join!(enrol(&order, &draft, quick()), serve);
    enrolled.unwrap().save(dir.path()).unwrap();
    let identity = NodeIdentity::load(dir.path()).unwrap().unwrap();
    assert_eq!(identity.node(), node(1));

    let serve = async {
        let mut session = next_agent(&mut broker.listener).await;
        assert_eq!((session.node, &session.pool, session.hello.boot_nonce), (node(1), &pool(), 9));
        session.handle.send(&welcome(session.node, "acme")).await.unwrap();
        assert_eq!(
            session.receiver.recv().await.unwrap(),
            Some(ToBroker::Renew { number: 1, attempts: vec![], usage: None })
        );
        session.handle.send(&ToAgent::Acked { through: 5 }).await.unwrap();
        assert_eq!(session.receiver.recv().await.unwrap(), None, "the agent says goodbye");
    };
    let talk = async {
        let mut agent = connect(&broker.address, &identity, quick(), hello(9)).await.unwrap();
        assert_eq!(agent.welcome.node, node(1));
        agent.sender.send(&ToBroker::Renew { number: 1, attempts: vec![], usage: None }).await.unwrap();
        assert_eq!(agent.receiver.recv().await.unwrap(), Some(ToAgent::Acked { through: 5 }));
        agent.sender.close(CloseReason::Normal).await;
    };
    tokio::join!(talk, serve);
}

#[tokio::test]
async fn an_enrolment_whose_answer_was_lost_is_asked_again_with_the_same_request() {
    let mut broker = broker("acme");
    let dir = tempfile::tempdir().unwrap();
    let fingerprint = broker.ca.fingerprint();
    let order = join(&broker.address, &fingerprint);
    let ask = async || {
        let draft = EnrolmentDraft::load_or_create(dir.path()).unwrap();
        enrol(&order, &draft, quick()).await
    };
    let lose = async { next_enrolment(&mut broker.listener).await.request };
    let (lost, first) = tokio::join!(ask(), lose);
    assert!(matches!(lost, Err(EnrolError::Tunnel(_))), "{lost:?}");
    let serve = async {
        let exchange = next_enrolment(&mut broker.listener).await;
        assert_eq!(exchange.request, first, "byte for byte");
        let reply = EnrolReply::Enrolled {
            node: node(3),
            deployment: "acme".to_owned(),
            certificate: certificate(&broker.ca, &first.certificate_request, 3),
            ca: broker.ca.certificate_der().to_vec(),
        };
        exchange.respond(&reply).await.unwrap();
    };
    let (again, ()) = tokio::join!(ask(), serve);
    assert_eq!(again.unwrap().node(), node(3));
}

#[tokio::test]
async fn an_enrolment_can_be_refused_and_a_contradicting_answer_is_not_believed() {
    let mut broker = broker("acme");
    let dir = tempfile::tempdir().unwrap();
    let draft = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    let fingerprint = broker.ca.fingerprint();
    let order = join(&broker.address, &fingerprint);
    let refusal = EnrolReply::Refused { code: EnrolRefusal::Expired, message: "make a new token".to_owned() };
    let contradiction = EnrolReply::Enrolled {
        node: node(2),
        deployment: "acme".to_owned(),
        certificate: certificate(&broker.ca, draft.request_der(), 1),
        ca: broker.ca.certificate_der().to_vec(),
    };
    let mut errors = Vec::new();
    for reply in [refusal, contradiction] {
        let serve = async { next_enrolment(&mut broker.listener).await.respond(&reply).await.unwrap() };
        let (refused, ()) = tokio::join!(enrol(&order, &draft, quick()), serve);
        errors.push(refused.unwrap_err());
    }
    assert!(matches!(&errors[0], EnrolError::Refused { code: EnrolRefusal::Expired, .. }), "{:?}", errors[0]);
    assert!(matches!(&errors[1], EnrolError::Contradiction { .. }), "{:?}", errors[1]);
}

#[tokio::test]
async fn a_foreign_fingerprint_is_refused_before_the_token_is_sent() {
    let mut broker = broker("acme");
    let dir = tempfile::tempdir().unwrap();
    let draft = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    let foreign = "ab".repeat(32);
    let error = enrol(&join(&broker.address, &foreign), &draft, quick()).await.unwrap_err();
    assert!(matches!(&error, EnrolError::ForeignCa { .. }), "{error:?}");
    assert!(error.to_string().contains(&broker.ca.fingerprint()), "{error}");
    let error = enrol(&join(&broker.address, "abc"), &draft, quick()).await.unwrap_err();
    assert!(matches!(&error, EnrolError::Fingerprint { .. }), "{error:?}");
    let waiting = tokio::time::timeout(Duration::from_millis(200), broker.listener.accept()).await;
    assert!(waiting.is_err(), "nothing reached the broker");
}

#[tokio::test]
async fn certificates_of_other_deployments_are_refused_on_both_sides() {
    let mut broker = broker("acme");
    let other_dir = tempfile::tempdir().unwrap();
    let other = DeploymentCa::load_or_create(other_dir.path(), "umbrella", now()).unwrap();
    let stranger = identity(&other, &broker.ca, 1);
    let error = connect(&broker.address, &stranger, quick(), hello(1)).await.unwrap_err();
    assert!(
        matches!(
            &error,
            ConnectError::Tunnel(TunnelError::CertificateRefused { .. })
                | ConnectError::Dial(DialError::Failed {
                    source: TunnelError::CertificateRefused { .. },
                    ..
                })
        ),
        "{error:?}"
    );
    let misled = identity(&broker.ca, &other, 1);
    let error = connect(&broker.address, &misled, quick(), hello(1)).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Dial(DialError::Failed { source: TunnelError::Untrusted { .. }, .. })),
        "{error:?}"
    );
    session(&mut broker, 2).await;
}

#[tokio::test]
async fn an_agent_without_a_certificate_is_refused() {
    let mut broker = broker("acme");
    let identity = identity(&broker.ca, &broker.ca, 1);
    let mut crypto = rustls::ClientConfig::builder_with_provider(crate::identity::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_webpki_verifier(
            crate::identity::pinned_verifier(&identity.ca_der().into(), crate::identity::provider()).unwrap(),
        )
        .with_no_client_auth();
    crypto.alpn_protocols = vec![config::ALPN_AGENT.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
    let (_endpoint, connection) = dial(&broker.address, config, &quick()).await.unwrap();
    let error = TunnelError::from(connection.closed().await);
    assert!(
        matches!(&error, TunnelError::ClosedByPeer { reason: Some(CloseReason::NoCertificate), .. }),
        "{error:?}"
    );
    session(&mut broker, 2).await;
}

#[tokio::test]
async fn before_the_first_message_a_peer_has_one_stream_and_little_time() {
    let mut broker = broker("acme");
    let identity = identity(&broker.ca, &broker.ca, 1);
    let configs = [
        agent_config(&identity, &quick()).unwrap(),
        enrol_config(&broker.ca.fingerprint(), &quick()).unwrap(),
    ];
    for config in configs {
        let (_endpoint, connection) = dial(&broker.address, config, &quick()).await.unwrap();
        let (mut first, _answers) = connection.open_bi().await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(100), connection.open_bi()).await;
        assert!(second.is_err(), "a second stream");
        let uni = tokio::time::timeout(Duration::from_millis(50), connection.open_uni()).await;
        assert!(uni.is_err(), "a stream of one direction");
        first.write_all(&[0, 0]).await.unwrap();
        let error = TunnelError::from(connection.closed().await);
        assert!(
            matches!(&error, TunnelError::ClosedByPeer { reason: Some(CloseReason::Silent), .. }),
            "{error:?}"
        );
    }
    session(&mut broker, 2).await;
}

/// A session whose agent writes raw bytes after its hello.
async fn raw_session(broker: &mut Broker, bytes: &[u8]) -> (TunnelError, TunnelError) {
    let identity = identity(&broker.ca, &broker.ca, 1);
    let config = agent_config(&identity, &quick()).unwrap();
    let (_endpoint, connection) = dial(&broker.address, config, &quick()).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let first = encode(&ToBroker::Hello(Box::new(hello(1))), MAX_FRAME_TO_BROKER).unwrap();
    send.write_all(&first).await.unwrap();
    let mut session = next_agent(&mut broker.listener).await;
    send.write_all(bytes).await.unwrap();
    let error = session.receiver.recv().await.unwrap_err();
    (error, connection.closed().await.into())
}

#[tokio::test]
async fn bad_frames_end_their_session_with_a_typed_error_and_nothing_else() {
    let mut broker = broker("acme");
    let (bystander, mut bystander_session) = session(&mut broker, 9).await;
    let length = u32::try_from(MAX_FRAME_TO_BROKER + 1).unwrap();
    let (error, told) = raw_session(&mut broker, &length.to_be_bytes()).await;
    assert!(matches!(&error, TunnelError::Frame(FrameError::Oversize { .. })), "{error:?}");
    let said = told.to_string();
    assert!(said.contains("over the limit of 1048576"), "{said}");
    let (error, _) = raw_session(&mut broker, &[0, 0, 0, 1, 0xc1]).await;
    assert!(matches!(&error, TunnelError::Frame(FrameError::Malformed { .. })), "{error:?}");
    let renew = ToBroker::Renew { number: 1, attempts: vec![], usage: None };
    bystander.sender.send(&renew).await.unwrap();
    assert_eq!(bystander_session.receiver.recv().await.unwrap(), Some(renew), "others go on");
}

#[tokio::test]
async fn a_refusal_arrives_although_the_session_ends_behind_it() {
    let mut broker = broker("acme");
    let identity = identity(&broker.ca, &broker.ca, 1);
    let refused = Refused {
        code: RefusalCode::Revoked,
        message: "enrol this machine again".to_owned(),
        retry_after: None,
    };
    let serve =
        async { next_agent(&mut broker.listener).await.handle.refuse(refused.clone()).await.unwrap() };
    let (answer, ()) = tokio::join!(connect(&broker.address, &identity, quick(), hello(1)), serve);
    assert!(matches!(answer, Err(ConnectError::Refused(found)) if found == refused));

    let (mut agent, session) = session(&mut broker, 2).await;
    let superseded = Refused { code: RefusalCode::Superseded, ..refused };
    let (last, sent) = tokio::join!(agent.receiver.recv(), session.handle.refuse(superseded.clone()));
    sent.unwrap();
    assert_eq!(last.unwrap(), Some(ToAgent::Refused(superseded)));
    let end = agent.receiver.recv().await;
    assert!(matches!(end, Ok(None) | Err(TunnelError::ClosedByPeer { .. })), "{end:?}");
}

/// Compiles only while every future can be given to a task of its own.
const _: fn(&'static NodeIdentity, &'static EnrolmentDraft, &'static SessionHandle) =
    |identity, draft, session| {
        fn sendable<T: Send>(_: impl FnOnce() -> T) {}
        sendable(|| connect("", identity, quick(), hello(1)));
        sendable(|| async { enrol(&join("", ""), draft, quick()).await });
        sendable(|| async { session.send(&ToAgent::Acked { through: 1 }).await });
        sendable(|| async { session.open_output(&output(0)).await });
    };

#[tokio::test]
async fn a_second_session_of_a_node_is_just_a_second_session() {
    let mut broker = broker("acme");
    let (first, mut first_session) = session(&mut broker, 1).await;
    let (second, mut second_session) = session(&mut broker, 1).await;
    assert_eq!(first_session.node, second_session.node);
    for (number, agent, session) in [(1, &first, &mut first_session), (2, &second, &mut second_session)] {
        let renew = ToBroker::Renew { number, attempts: vec![], usage: None };
        agent.sender.send(&renew).await.unwrap();
        assert_eq!(session.receiver.recv().await.unwrap(), Some(renew));
    }
}

#[tokio::test]
async fn a_silent_peer_is_lost_after_the_idle_timeout() {
    let mut broker = broker("acme");
    let identity = identity(&broker.ca, &broker.ca, 1);
    let timings =
        Timings { idle: Duration::from_millis(300), keep_alive: Duration::from_secs(60), ..quick() };
    let serve = async {
        let session = next_agent(&mut broker.listener).await;
        session.handle.send(&welcome(session.node, "acme")).await.unwrap();
        session
    };
    let (agent, session) = tokio::join!(connect(&broker.address, &identity, timings, hello(1)), serve);
    let _agent = agent.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(5), session.handle.closed()).await.unwrap();
    assert!(matches!(&error, TunnelError::Lost(_)), "{error:?}");
}

/// Carries packets from agents to whichever address was named last, as a machine does whose broker was replaced.
async fn relay(to: tokio::sync::watch::Receiver<SocketAddr>, front: tokio::net::UdpSocket) {
    let back = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut out, mut home) = ([0; 2000], [0; 2000]);
    let mut agent = None;
    loop {
        tokio::select! {
            Ok((length, from)) = front.recv_from(&mut out) => {
                agent = Some(from);
                let to = *to.borrow();
                back.send_to(&out[..length], to).await.unwrap();
            }
            Ok((length, from)) = back.recv_from(&mut home) => {
                let (Some(agent), true) = (agent, from == *to.borrow()) else { continue };
                front.send_to(&home[..length], agent).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_restarted_broker_ends_the_connections_it_does_not_remember() {
    let mut broker = broker("acme");
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let front = tokio::net::UdpSocket::bind(any).await.unwrap();
    let address = front.local_addr().unwrap().to_string();
    let (replace, to) = tokio::sync::watch::channel(broker.listener.local_addr().unwrap());
    let relay = tokio::spawn(relay(to, front));
    let identity = identity(&broker.ca, &broker.ca, 1);
    let serve = async {
        let session = next_agent(&mut broker.listener).await;
        session.handle.send(&welcome(session.node, "acme")).await.unwrap();
        session
    };
    let (agent, _session) = tokio::join!(connect(&address, &identity, quick(), hello(1)), serve);
    let agent = agent.unwrap();
    let again = Listener::bind(any, broker.ca.issue_server(now()).unwrap(), quick()).unwrap();
    replace.send(again.local_addr().unwrap()).unwrap();
    agent.sender.send(&ToBroker::Renew { number: 1, attempts: vec![], usage: None }).await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(5), agent.sender.closed()).await.unwrap();
    let TunnelError::Lost(cause) = error else { panic!("{error:?}") };
    assert_eq!(*cause, quinn::ConnectionError::Reset);
    relay.abort();
}

#[tokio::test]
async fn garbage_does_not_hurt_the_listener() {
    let mut broker = broker("acme");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 0..1400_usize {
        let bytes: Vec<u8> = (0..length)
            .map(|index| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Every other packet looks like a QUIC version 1 handshake at its begin.
                let head = [0xc3, 0, 0, 0, 1, 8];
                let random = state.to_be_bytes()[0];
                if length % 2 == 0 { head.get(index).copied().unwrap_or(random) } else { random }
            })
            .collect();
        socket.send_to(&bytes, &broker.address).unwrap();
    }
    session(&mut broker, 1).await;
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error_and_a_closed_listener_ends_its_sessions() {
    let mut broker = broker("acme");
    let address = broker.listener.local_addr().unwrap();
    let again = Listener::bind(address, broker.ca.issue_server(now()).unwrap(), quick()).unwrap_err();
    assert!(matches!(&again, TunnelError::AddressInUse { address: named } if *named == address), "{again:?}");
    let (mut agent, _session) = session(&mut broker, 1).await;
    broker.listener.close(CloseReason::ShuttingDown).await;
    assert_eq!(agent.receiver.recv().await.unwrap(), None);
    assert!(broker.listener.accept().await.is_none());
    let identity = identity(&broker.ca, &broker.ca, 1);
    let timings = Timings { handshake: Duration::from_millis(200), ..quick() };
    let error = connect(&broker.address, &identity, timings, hello(1)).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Dial(DialError::Failed { .. })), "{error:?}");
    let error = connect("no-port.invalid", &identity, timings, hello(1)).await.unwrap_err();
    assert!(error.to_string().contains("broker.example.com:7443"), "{error}");
}
