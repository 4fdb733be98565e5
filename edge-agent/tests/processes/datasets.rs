//! Datasets that a whole agent brings to its parts, from an HTTP server that the test plays.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use spillway_agent::agent::{AgentConfig, OnExit};
use spillway_tunnel::protocol::{AgentEvent, BrokerMode, Input, Lease, PartEnd, WantedPhase};
use spillway_types::AttemptId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::wait_for;
use crate::session::{Broker, RunningAgent, Talk, lease, wanting};

/// What the server does with a request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Sends what was asked for.
    Whole,
    /// Sends so many bytes of it and closes the connection.
    Cut(usize),
    /// Sends so many bytes of it and nothing more.
    Stall(usize),
    /// Sends all, whatever range was asked for; of that so many bytes.
    Rangeless(usize),
    /// Only this status.
    Status(&'static str),
}

/// A server of one file. It notes where each request began.
struct Server {
    address: String,
    content: Arc<Vec<u8>>,
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Server {
    /// Answers one request after the other as told, and those after them as the last.
    async fn of(bytes: usize, answers: &'static [Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let content: Vec<u8> = (0..bytes).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
        let server = Self { address, content: Arc::new(content), asked: Arc::default() };
        let (content, asked) = (Arc::clone(&server.content), Arc::clone(&server.asked));
        tokio::spawn(async move {
            loop {
                let (peer, _) = listener.accept().await.unwrap();
                let (content, asked) = (Arc::clone(&content), Arc::clone(&asked));
                tokio::spawn(async move { serve(peer, &content, &asked, answers).await.ok() });
            }
        });
        server
    }

    fn input(&self) -> Input {
        let source = format!("http://user:secret@{}/web.tar?sig=secret", self.address);
        let sha256 = Some(hex::encode(Sha256::digest(&*self.content)).parse().unwrap());
        let bytes = self.content.len() as u64;
        Input { dataset: "web".parse().unwrap(), bytes, sha256, source: Some(source.parse().unwrap()) }
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut peer: TcpStream,
    content: &[u8],
    asked: &Mutex<Vec<usize>>,
    answers: &[Answer],
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
    let from: usize = range.map_or(0, |from| from.parse().unwrap());
    let number = {
        let mut asked = asked.lock().unwrap();
        asked.push(from);
        asked.len() - 1
    };
    let total = content.len();
    let (status, from, least) = match answers.get(number).or(answers.last()).copied().unwrap() {
        Answer::Status(status) => {
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return peer.write_all(text.as_bytes()).await;
        }
        Answer::Rangeless(least) => ("200 OK", 0, least),
        Answer::Cut(least) | Answer::Stall(least) => ("206 Partial Content", from, least),
        Answer::Whole => ("206 Partial Content", from, total),
    };
    let status = if from == 0 { "200 OK" } else { status };
    let length = total - from;
    let range = format!("content-range: bytes {from}-{}/{total}", total - 1);
    let text =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{range}\r\nconnection: close\r\n\r\n");
    peer.write_all(text.as_bytes()).await?;
    peer.write_all(&content[from..(from + least).min(total)]).await?;
    peer.flush().await?;
    if let Some(Answer::Stall(_)) = answers.get(number).or(answers.last()) {
        // Until the other side goes.
        peer.read_u8().await?;
    }
    Ok(())
}

/// A lease on a part that writes how many bytes it reads.
fn reading(input: &Input) -> Lease {
    Lease { inputs: vec![input.clone()], ..lease("wc -c < \"$SPILLWAY_INPUT_WEB\"", &[]) }
}

/// An agent in a session that may give leases.
async fn open(broker: &mut Broker, state: &Path) -> (RunningAgent, Talk) {
    let agent = broker.agent(state, OnExit::LeaveJobs);
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    (agent, talk)
}

/// The bytes that came for an attempt: pass, from, to.
fn moved(events: &[AgentEvent], of: AttemptId) -> Vec<(u32, u64, u64)> {
    let span = |event: &AgentEvent| {
        let AgentEvent::Moved { attempt, pass, from_bytes, to_bytes, .. } = event else { return None };
        (*attempt == of).then_some((*pass, *from_bytes, *to_bytes))
    };
    events.iter().filter_map(span).collect()
}

/// How an attempt ended, and what it wrote.
fn end(events: &[AgentEvent], of: AttemptId) -> (PartEnd, String) {
    let mut output = String::new();
    for event in events.iter().filter(|event| event.attempt() == of) {
        if let AgentEvent::Output { data, .. } = event {
            output.push_str(std::str::from_utf8(data).unwrap());
        }
        if let AgentEvent::Ended { end, .. } = event {
            return (end.clone(), output.trim().to_owned());
        }
    }
    panic!("no end of {of} in {events:?}")
}

/// Why an attempt did not start.
fn problem(events: &[AgentEvent], of: AttemptId) -> String {
    let (PartEnd::NotStarted { message }, _) = end(events, of) else { panic!("{events:?}") };
    assert!(message.starts_with("dataset web: ") && !message.contains("secret"), "{message}");
    message
}

const WELL: PartEnd = PartEnd::Exited { code: 0 };

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let (agent, mut talk) = open(&mut broker, state.path()).await;
    let server =
        Server::of(300_000, &[Answer::Cut(100_000), Answer::Status("503 Busy"), Answer::Whole]).await;
    let lease = reading(&server.input());
    talk.want(std::slice::from_ref(&lease)).await;
    let events = talk.until_ended(1).await;
    assert_eq!(end(&events, lease.attempt), (WELL, "300000".to_owned()));
    assert_eq!(server.asked(), [0, 100_000, 100_000]);
    assert_eq!(moved(&events, lease.attempt), [(0, 0, 100_000), (0, 100_000, 300_000)]);
    let first_start = events.iter().position(|event| matches!(event, AgentEvent::Started { .. })).unwrap();
    let last_move = events.iter().rposition(|event| matches!(event, AgentEvent::Moved { .. })).unwrap();
    assert!(last_move < first_start, "what a part reads is there before it starts: {events:?}");
    let records = || std::fs::read_dir(state.path().join("datasets/.moves")).unwrap().count();
    talk.acknowledge().await;
    talk.next_renewal().await;
    wait_for("the records go", || if records() == 0 { Ok(()) } else { Err(records().to_string()) });
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_go_on_moves_its_bytes_again_and_only_so_often() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let (agent, mut talk) = open(&mut broker, state.path()).await;
    let server = Server::of(3000, &[Answer::Rangeless(1000), Answer::Rangeless(3000)]).await;
    let lease = reading(&server.input());
    talk.want(std::slice::from_ref(&lease)).await;
    let events = talk.until_ended(1).await;
    assert_eq!(end(&events, lease.attempt), (WELL, "3000".to_owned()));
    assert_eq!(moved(&events, lease.attempt), [(0, 0, 1000), (1, 0, 3000)]);

    let server = Server::of(4000, &[Answer::Rangeless(1000)]).await;
    let lease = reading(&server.input());
    talk.want(std::slice::from_ref(&lease)).await;
    let events = talk.until_ended(1).await;
    assert!(problem(&events, lease.attempt).contains("has begun again too often"));
    assert_eq!(moved(&events, lease.attempt), [(0, 0, 1000), (1, 0, 1000), (2, 0, 1000)]);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_not_come_ends_the_part_with_its_cause() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = Broker::run(AgentConfig { dataset_cache: u64::MAX, ..broker.config(state.path()) });
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    let (gone, server) =
        (Server::of(10, &[Answer::Status("404 Not Found")]).await, Server::of(10, &[Answer::Whole]).await);
    let changed = |change: &dyn Fn(&mut Input)| {
        let mut input = server.input();
        change(&mut input);
        reading(&input)
    };
    let cases = [
        (reading(&gone.input()), "/web.tar answers 404 Not Found", 0),
        (changed(&|it| it.bytes = 9), "write size = \"10B\"", 0),
        (changed(&|it| it.bytes = 900_000_000_000_000_000), "do not fit on this node's disk", 0),
        (changed(&|it| it.sha256 = Some("0f".repeat(32).parse().unwrap())), "has the SHA-256", 10),
        // Again, as a retry of the job: it is moved again.
        (changed(&|it| it.sha256 = Some("0f".repeat(32).parse().unwrap())), "and not 0f0f", 10),
        (changed(&|it| it.source = None), "do not say any more", 0),
        (
            changed(&|it| it.source = Some("/nowhere/web.tar".parse().unwrap())),
            "/nowhere/web.tar cannot be read",
            0,
        ),
    ];
    let leases: Vec<Lease> = cases.iter().map(|(lease, ..)| lease.clone()).collect();
    talk.want(&leases).await;
    let events = talk.until_ended(cases.len()).await;
    for (lease, cause, bytes) in cases {
        let problem = problem(&events, lease.attempt);
        assert!(problem.contains(cause), "{cause}: {problem}");
        let expected = if bytes > 0 { vec![(0, 0, bytes)] } else { vec![] };
        assert_eq!(moved(&events, lease.attempt), expected, "{cause}");
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_share_a_download_and_what_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let (agent, mut talk) = open(&mut broker, state.path()).await;
    let server = Server::of(200_000, &[Answer::Whole]).await;
    let pair = [reading(&server.input()), reading(&server.input())];
    talk.want(&pair).await;
    let mut events = talk.until_ended(2).await;
    let later = reading(&server.input());
    talk.want(std::slice::from_ref(&later)).await;
    events.extend(talk.until_ended(1).await);
    for lease in pair.iter().chain([&later]) {
        assert_eq!(end(&events, lease.attempt), (WELL, "200000".to_owned()));
    }
    assert_eq!(server.asked(), [0], "it came once");
    let moves: Vec<_> = pair.iter().flat_map(|lease| moved(&events, lease.attempt)).collect();
    assert_eq!((moves, moved(&events, later.attempt)), (vec![(0, 0, 200_000)], vec![]));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_stopped_leaves_its_download_to_the_next() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let (agent, mut talk) = open(&mut broker, state.path()).await;
    let server = Server::of(200_000, &[Answer::Stall(50_000), Answer::Whole]).await;
    let (first, second) = (reading(&server.input()), reading(&server.input()));
    talk.want(std::slice::from_ref(&first)).await;
    wait_until_there(state.path(), 0).await;
    talk.want(&[first.clone(), second.clone()]).await;
    talk.next_renewal().await;
    talk.want(&[wanting(&first, WantedPhase::Stopped), second.clone()]).await;
    let events = talk.until_ended(2).await;
    assert_eq!(end(&events, first.attempt), (PartEnd::Stopped, String::new()));
    assert_eq!(end(&events, second.attempt), (WELL, "200000".to_owned()));
    assert_eq!(server.asked(), [0, 50_000]);
    assert_eq!(moved(&events, first.attempt), [(0, 0, 50_000)]);
    assert_eq!(moved(&events, second.attempt), [(0, 50_000, 200_000)], "each byte is somebody's");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_again_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let (agent, mut talk) = open(&mut broker, state.path()).await;
    let server = Server::of(200_000, &[Answer::Stall(50_000), Answer::Whole]).await;
    let lease = reading(&server.input());
    talk.want(std::slice::from_ref(&lease)).await;
    wait_until_there(state.path(), 0).await;
    agent.end().await;
    let journal = talk.journal;

    let agent = broker.agent(state.path(), OnExit::LeaveJobs);
    let mut talk = broker.welcome(journal, BrokerMode::Normal, 0).await;
    assert!(talk.hello.observed.is_empty(), "nothing of it is on the disk");
    talk.first_renewal().await;
    talk.want(std::slice::from_ref(&lease)).await;
    let events = talk.until_ended(1).await;
    assert_eq!(end(&events, lease.attempt), (WELL, "200000".to_owned()));
    assert_eq!(server.asked(), [0, 50_000]);
    assert_eq!(moved(&events, lease.attempt), [(0, 0, 50_000), (0, 50_000, 200_000)]);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_used_where_it_lies() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let (agent, mut talk) = open(&mut broker, state.path()).await;
    let path = state.path().join("shared.tar");
    std::fs::write(&path, "12345").unwrap();
    let source = Some(path.display().to_string().parse().unwrap());
    let input = Input { dataset: "web".parse().unwrap(), bytes: 5, sha256: None, source };
    let lease = Lease { inputs: vec![input], ..lease("echo $SPILLWAY_INPUT_WEB", &[]) };
    talk.want(std::slice::from_ref(&lease)).await;
    let events = talk.until_ended(1).await;
    assert_eq!(end(&events, lease.attempt), (WELL, path.display().to_string()));
    assert_eq!(moved(&events, lease.attempt), []);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_goes_when_room_is_short() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let config = AgentConfig { dataset_cache: 250_000, ..broker.config(state.path()) };
    let agent = Broker::run(config);
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    let mut kept = BTreeMap::new();
    for bytes in [100_000, 120_000, 140_000] {
        let server = Server::of(bytes, &[Answer::Whole]).await;
        let lease = reading(&server.input());
        talk.want(std::slice::from_ref(&lease)).await;
        assert_eq!(end(&talk.until_ended(1).await, lease.attempt).0, WELL);
        talk.acknowledge().await;
        let version = server.input().sha256.unwrap().to_string();
        kept.insert(bytes, state.path().join("datasets/web").join(version).join("web"));
    }
    let there: Vec<_> = kept.iter().filter(|(_, file)| file.exists()).map(|(bytes, _)| *bytes).collect();
    assert_eq!(there, [140_000], "only the newest fits beside none of the others");
    agent.end().await;
}

/// Waits until a download has begun and nothing more of it comes.
async fn wait_until_there(state: &Path, begun: usize) {
    let partial = |entry: std::fs::DirEntry| std::fs::metadata(entry.path().join(".partial")).ok();
    let there = || {
        let folders = std::fs::read_dir(state.join("datasets/web")).into_iter().flatten().flatten();
        folders.filter_map(partial).count()
    };
    for _ in 0..500 {
        if there() > begun {
            // The bytes are on their way through the loopback.
            tokio::time::sleep(Duration::from_millis(300)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no download began");
}
