//! Output that is followed at a real node, over a tunnel that breaks.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use spillway_api::v1::{JoinTokenRequest, LogQuery};
use spillway_api::{Client, ClientError};
use spillway_core::command::{PartNews, PartReport};
use spillway_core::{Command, Reply};
use spillway_tunnel::identity::{EnrolmentDraft, NodeIdentity};
use spillway_tunnel::protocol::{Hello, HighWater, PROTOCOL, StreamHeader};
use spillway_tunnel::quic::{AgentSession, Enrolment, OutputWriter, Timings, connect, enrol};
use spillway_types::{AttemptId, PartEnd};

use super::world::{World, inventory, submit};
use crate::outputs::Chunk;

const LIMIT: Duration = Duration::from_secs(10);

/// A machine that joins with the token of a join line.
async fn join(world: &World, folder: &std::path::Path) -> NodeIdentity {
    let line = world.client("root").create_join_token(&JoinTokenRequest::default()).await.unwrap();
    let draft = EnrolmentDraft::load_or_create(folder).unwrap();
    let enrolment = Enrolment {
        broker: &line.broker_addr,
        ca_fingerprint: &line.ca_fingerprint,
        token: line.token.expose(),
        hostname: "desk",
    };
    enrol(&enrolment, &draft, Timings::default()).await.unwrap()
}

async fn dial(world: &World, identity: &NodeIdentity) -> AgentSession {
    let hello = Hello {
        protocol: PROTOCOL,
        features: vec![],
        version: "test".to_owned(),
        boot_nonce: 7,
        deployment: String::new(),
        seen: HighWater::default(),
        inventory: inventory("desk", "H100", 1),
        observed: vec![],
        spool: None,
    };
    connect(&world.app.broker_addr, identity, Timings::default(), hello).await.unwrap()
}

/// The broker asks for output; gives the byte it asks for first.
async fn asked(session: &mut AgentSession, wanted: AttemptId) -> (u64, OutputWriter) {
    let stream =
        tokio::time::timeout(LIMIT, session.streams.accept()).await.expect("the broker asks").unwrap();
    let (header, responder) = stream.read_header().await.unwrap();
    let StreamHeader::Output { attempt, rank, offset, follow } = header;
    assert_eq!((attempt, rank, follow), (wanted, 0, true));
    (offset, responder.accept().await.unwrap())
}

async fn read(pieces: &mut (impl Stream<Item = Result<bytes::Bytes, ClientError>> + Unpin), wanted: &str) {
    let mut text = Vec::new();
    while text.len() < wanted.len() {
        let piece = tokio::time::timeout(LIMIT, pieces.next()).await.expect("more output");
        text.extend_from_slice(&piece.expect("it goes on").unwrap());
    }
    assert_eq!(String::from_utf8(text).unwrap(), wanted);
}

async fn start(world: &World, ada: &Client, session: &AgentSession) -> (spillway_types::JobId, AttemptId) {
    let job = submit(ada, "{run: x, resources: {gpus: 'H100:1'}}", "k").await.id;
    world.place().await;
    let attempt = world.attempts().await[0];
    tell(world, session, 1, attempt, PartNews::Started).await;
    (job, attempt)
}

async fn tell(world: &World, session: &AgentSession, number: u64, attempt: AttemptId, news: PartNews) {
    let reports = vec![PartReport { attempt, rank: 0, news }];
    let (node, epoch) = (session.welcome.node, session.welcome.epoch);
    let command = Command::Report { node, epoch, first: number, reports };
    assert_eq!(world.engine.command(command).await.unwrap(), Reply::Acked(number));
}

#[tokio::test]
async fn following_goes_on_where_a_broken_tunnel_left_it() {
    let world = World::start().await;
    let (ada, folder) = (world.client("ada"), tempfile::tempdir().unwrap());
    let identity = join(&world, folder.path()).await;
    let mut session = dial(&world, &identity).await;
    let (job, attempt) = start(&world, &ada, &session).await;
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut pieces = Box::pin(ada.logs(job, &query).await.unwrap());

    let (offset, mut writer) = asked(&mut session, attempt).await;
    assert_eq!(offset, 0);
    writer.write(b"hello ").await.unwrap();
    read(&mut pieces, "hello ").await;
    drop((writer, session));

    let mut session = dial(&world, &identity).await;
    let (offset, mut writer) = asked(&mut session, attempt).await;
    assert_eq!(offset, 6, "it asks for what it does not have");
    writer.write(b"brave ").await.unwrap();
    read(&mut pieces, "brave ").await;

    // The part ends; its file is here before its end is told, and the rest comes from there.
    let data = b"hello brave new world".to_vec();
    world.app.outputs.store(&[Chunk { attempt, rank: 0, offset: 0, data }]).unwrap();
    let ended = PartNews::Ended { end: PartEnd::Exited { code: 0 }, ran_ms: 10 };
    tell(&world, &session, 2, attempt, ended).await;
    drop((writer, session));
    read(&mut pieces, "new world").await;
    let end = tokio::time::timeout(LIMIT, pieces.next()).await.expect("it ends");
    assert!(end.is_none(), "{end:?}");
}

#[tokio::test]
async fn what_a_node_has_now_is_sent_without_following() {
    let world = World::start().await;
    let (ada, folder) = (world.client("ada"), tempfile::tempdir().unwrap());
    let identity = join(&world, folder.path()).await;
    let mut session = dial(&world, &identity).await;
    let (job, attempt) = start(&world, &ada, &session).await;
    let answering = tokio::spawn(async move {
        let (header, responder) = session.streams.accept().await.unwrap().read_header().await.unwrap();
        assert_eq!(header, StreamHeader::Output { attempt, rank: 0, offset: 2, follow: false });
        let mut writer = responder.accept().await.unwrap();
        writer.write(b"so far").await.unwrap();
        writer.finish().unwrap();
        session
    });
    let query = LogQuery { offset: Some(2), ..LogQuery::default() };
    let mut pieces = Box::pin(ada.logs(job, &query).await.unwrap());
    read(&mut pieces, "so far").await;
    assert!(tokio::time::timeout(LIMIT, pieces.next()).await.expect("it ends").is_none());
    answering.await.unwrap();
}
