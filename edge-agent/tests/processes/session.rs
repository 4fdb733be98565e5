//! A whole agent against a broker that the test plays, over a real tunnel on loopback.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use spillway_agent::agent::{Agent, AgentConfig, AgentError, JoinToken, OnExit, TokenSource};
use spillway_agent::part::{LEASE, LeaseFile, PartKey, read_json};
use spillway_ledger::journal::UsageMark;
use spillway_tunnel::identity::{CertificateRequest, DeploymentCa};
use spillway_tunnel::protocol::{
    AgentEvent, BrokerMode, Desired, EnrolRefusal, EnrolReply, Hello, HighWater, Lease, PartEnd, PartPhase,
    RefusalCode, Refused, StreamHeader, ToAgent, ToBroker, UsageStatement, WantedPhase, Welcome,
};
use spillway_tunnel::quic::{
    BrokerSession, Incoming, Listener, SessionHandle, SessionReceiver, Timings, TunnelError,
};
use spillway_types::{
    Accelerator, AcceleratorShare, Allocation, AttemptId, Capabilities, Checkpoint, DurationMs, Inventory,
    InventorySource, NodeCapacity, NodeId, UnixMs,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::{exe, spec, wait_for};

const TOKEN: &str = "a-token";
const PATIENCE: Duration = Duration::from_secs(15);

#[expect(clippy::disallowed_methods, reason = "certificates are checked against the real clock")]
fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}

fn node() -> NodeId {
    "node_00000000000000000000000000000001".parse().unwrap()
}

fn timings() -> Timings {
    Timings { farewell: Duration::from_millis(500), ..Timings::default() }
}

pub(crate) struct Broker {
    _dir: tempfile::TempDir,
    ca: DeploymentCa,
    listener: Listener,
    address: String,
}

impl Broker {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = DeploymentCa::load_or_create(dir.path(), "here", now()).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(any, ca.issue_server(now()).unwrap(), timings()).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { _dir: dir, ca, listener, address }
    }

    pub(crate) fn agent(&self, state: &Path, on_exit: OnExit) -> RunningAgent {
        Self::run(AgentConfig { on_exit, ..self.config(state) })
    }

    pub(crate) fn config(&self, state: &Path) -> AgentConfig {
        let mut config = AgentConfig::new(self.address.clone(), state.to_path_buf()).unwrap();
        config.supervisor = exe();
        config.ca_fingerprint = Some(self.ca.fingerprint());
        config.token = TokenSource::Given(JoinToken::new(TOKEN));
        config.timings = timings();
        config.usage_every = DurationMs(100);
        config
    }

    pub(crate) fn run(config: AgentConfig) -> RunningAgent {
        let agent = Agent::open(config, inventory()).unwrap();
        let shutdown = CancellationToken::new();
        RunningAgent { task: tokio::spawn(agent.run(shutdown.clone())), shutdown }
    }

    async fn incoming(&mut self) -> Incoming {
        tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("a peer in time").unwrap()
    }

    pub(crate) async fn enrol(&mut self) {
        let Incoming::Enrol(exchange) = self.incoming().await else { panic!("an enrolment was due") };
        assert_eq!(exchange.request.token, TOKEN);
        let request = CertificateRequest::parse(&exchange.request.certificate_request).unwrap();
        let certificate = self.ca.issue_node(&request, node(), &"pool".parse().unwrap(), now()).unwrap();
        let ca = self.ca.certificate_der().to_vec();
        let reply = EnrolReply::Enrolled { node: node(), deployment: "here".into(), certificate, ca };
        exchange.respond(&reply).await.unwrap();
    }

    async fn hello(&mut self) -> BrokerSession {
        let Incoming::Agent(session) = self.incoming().await else { panic!("a hello was due") };
        *session
    }

    /// Welcomes the next session with this state of the broker and number of the last event it has.
    pub(crate) async fn welcome(&mut self, journal: u64, mode: BrokerMode, acked: u64) -> Talk {
        let BrokerSession { hello, handle, receiver, .. } = self.hello().await;
        let welcome = Welcome {
            protocol: 1,
            features: vec![],
            deployment: "here".into(),
            node: node(),
            epoch: 1,
            at: at(journal),
            renew_every: DurationMs(100),
            mode,
            acked,
            usage_after: Some(acked),
        };
        handle.send(&ToAgent::Welcome(Box::new(welcome))).await.unwrap();
        Talk {
            hello,
            handle,
            receiver,
            renewal: 0,
            renewed: vec![],
            kept: vec![],
            next: acked + 1,
            journal,
            usage: UsageMark::begin(acked),
            compared: 0,
        }
    }
}

fn at(journal: u64) -> HighWater {
    HighWater { incarnation: 1, journal, proof: 0 }
}

pub(crate) struct RunningAgent {
    task: JoinHandle<Result<(), AgentError>>,
    shutdown: CancellationToken,
}

impl RunningAgent {
    async fn outcome(self) -> Result<(), AgentError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the agent ends").unwrap()
    }

    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.outcome().await.unwrap();
    }
}

/// One session as the broker has it.
pub(crate) struct Talk {
    pub(crate) hello: Hello,
    handle: SessionHandle,
    receiver: SessionReceiver,
    renewal: u64,
    renewed: Vec<AttemptId>,
    kept: Vec<AgentEvent>,
    pub(crate) next: u64,
    pub(crate) journal: u64,
    /// The mark of the usage events that came.
    usage: UsageMark,
    /// How many usage events the agent had when it last said a mark that could be compared.
    compared: u64,
}

impl Talk {
    pub(crate) async fn want(&mut self, leases: &[Lease]) {
        self.journal += 1;
        let desired = Desired { leases: leases.to_vec(), renewal: self.renewal, at: at(self.journal) };
        self.handle.send(&ToAgent::Desired(desired)).await.unwrap();
    }

    /// Takes one message: answers a renewal, keeps events.
    async fn step(&mut self) {
        let message = tokio::time::timeout(PATIENCE, self.receiver.recv()).await.expect("a message in time");
        match message.unwrap().expect("the session goes on") {
            ToBroker::Renew { number, attempts, usage } => {
                // One that obeys in nothing goes on with the mark that it has.
                let comparable = |said: &UsageStatement| {
                    said.mark.after == self.usage.after && said.mark.last() < self.next
                };
                if let Some(said) = usage.filter(comparable) {
                    assert_eq!(said.mark, self.usage);
                    self.compared = said.mark.count;
                }
                self.renew(number, attempts).await;
            }
            ToBroker::Events { first, events } => {
                assert_eq!(first, self.next, "events follow without a gap");
                for (number, event) in (first..).zip(&events) {
                    event.usage().map(|used| self.usage.take(number, &used));
                }
                self.next += events.len() as u64;
                self.kept.extend(events);
            }
            other @ (ToBroker::Hello(_) | ToBroker::InterruptionNotice { .. }) => panic!("{other:?}"),
        }
    }

    /// The next events.
    pub(crate) async fn events(&mut self) -> Vec<AgentEvent> {
        while self.kept.is_empty() {
            self.step().await;
        }
        std::mem::take(&mut self.kept)
    }

    async fn renew(&mut self, number: u64, attempts: Vec<AttemptId>) {
        assert!(number > self.renewal);
        self.renewal = number;
        self.renewed.clone_from(&attempts);
        self.handle.send(&ToAgent::Renewed { number, attempts }).await.unwrap();
    }

    /// Waits until the broker has a renewal, so that it can give leases.
    pub(crate) async fn first_renewal(&mut self) {
        while self.renewal == 0 {
            self.step().await;
        }
    }

    pub(crate) async fn next_renewal(&mut self) {
        let last = self.renewal;
        while self.renewal == last {
            self.step().await;
        }
    }

    /// Every event up to the end of `count` parts.
    pub(crate) async fn until_ended(&mut self, count: usize) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        while events.iter().filter(|event| matches!(event, AgentEvent::Ended { .. })).count() < count {
            events.extend(self.events().await);
        }
        events
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&AgentEvent) -> bool) -> Vec<AgentEvent> {
        let mut events: Vec<AgentEvent> = Vec::new();
        while !events.iter().any(&wanted) {
            events.extend(self.events().await);
        }
        events
    }

    pub(crate) async fn acknowledge(&mut self) {
        self.handle.send(&ToAgent::Acked { through: self.next - 1 }).await.unwrap();
    }
}

fn inventory() -> Inventory {
    let accelerator = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: "H100".parse().unwrap(),
        memory_mib: 81_920,
        mig: vec![],
        domain: None,
    };
    Inventory {
        hostname: "dgx-1".into(),
        capacity: NodeCapacity {
            accelerators: (0..2).map(accelerator).collect(),
            cpus_milli: 8000,
            memory_mib: 8192,
        },
        capabilities: Capabilities { process: true, container: false, fractions: false },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    }
}

pub(crate) fn lease(script: &str, gpus: &[u32]) -> Lease {
    let spec = spec(&["sh", "-c", script], 300);
    let shares = gpus.iter().map(|&index| AcceleratorShare { index, blocks: 100 }).collect();
    Lease {
        attempt: spec.attempt,
        number: 1,
        job: spec.job,
        task: 0,
        rank: 0,
        want: WantedPhase::Running,
        ttl: DurationMs(3000),
        allocation: Allocation { shares, mig: vec![], cpus_milli: 1000, memory_mib: 64 },
        command: spec.command,
        env: BTreeMap::new(),
        time_limit: DurationMs(60_000),
        checkpoint: Checkpoint { signal: 15, grace: DurationMs(300), every: None },
        hosts: vec!["dgx-1".into()],
        inputs: vec![],
    }
}

pub(crate) fn wanting(lease: &Lease, want: WantedPhase) -> Lease {
    Lease { want, ..lease.clone() }
}

fn folder(state: &Path, lease: &Lease) -> std::path::PathBuf {
    state.join("runs").join(PartKey { attempt: lease.attempt, rank: lease.rank }.to_string())
}

fn wait_until_forgotten(folder: &Path) {
    wait_for("the folder goes", || if folder.exists() { Err("there".to_owned()) } else { Ok(()) });
}

/// Checks that usage tiles the run and that everything stands in its order; gives the end and the output.
fn story(events: &[AgentEvent]) -> (PartEnd, u64, String) {
    let (mut usage, mut output, mut started) = (0, Vec::new(), false);
    for event in events {
        match event {
            AgentEvent::Prepared { .. } | AgentEvent::Moved { .. } => assert!(!started),
            AgentEvent::Started { .. } => assert!(!std::mem::replace(&mut started, true), "started twice"),
            AgentEvent::Usage { from_ms, to_ms, .. } => {
                assert!(started && *from_ms == usage && to_ms > from_ms, "{events:?}");
                usage = *to_ms;
            }
            AgentEvent::Output { offset, data, .. } => {
                assert_eq!(*offset, output.len() as u64);
                output.extend(data);
            }
            AgentEvent::Ended { end, ran_ms, .. } => {
                assert_eq!(*ran_ms, usage, "usage tiles the run");
                return (end.clone(), usage, String::from_utf8(output).unwrap());
            }
        }
    }
    panic!("no end in {events:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_runs_a_part_and_forgets_it() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = broker.agent(state.path(), OnExit::LeaveJobs);
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    assert_eq!((talk.hello.inventory.hostname.as_str(), talk.hello.deployment.as_str()), ("dgx-1", ""));
    talk.first_renewal().await;
    let lease = lease("echo gpu=$CUDA_VISIBLE_DEVICES; sleep 0.5; exit 3", &[1]);
    talk.want(std::slice::from_ref(&lease)).await;
    let (end, ran_ms, output) = story(&talk.until_ended(1).await);
    assert_eq!((end, output.as_str()), (PartEnd::Exited { code: 3 }, "gpu=GPU-1\n"));
    assert!(ran_ms >= 500);
    talk.next_renewal().await;
    assert_eq!(talk.renewed, [lease.attempt]);
    assert!(talk.compared >= 2 && talk.compared == talk.usage.count, "a slice and an end");
    let folder = folder(state.path(), &lease);
    talk.acknowledge().await;
    talk.next_renewal().await;
    assert!(folder.exists(), "listed parts stay");
    talk.want(&[]).await;
    talk.next_renewal().await;
    wait_until_forgotten(&folder);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_s_part_waits_and_accelerators_are_given_once() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = broker.agent(state.path(), OnExit::StopJobs);
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    let gang = lease("echo ran", &[0]);
    let (greedy, impossible) = (lease("echo ran", &[0]), lease("echo ran", &[7]));
    talk.want(&[wanting(&gang, WantedPhase::Prepared)]).await;
    let first = talk.events().await;
    assert_eq!(first, [AgentEvent::Prepared { attempt: gang.attempt, rank: 0 }]);
    let prepared = wanting(&gang, WantedPhase::Prepared);
    talk.want(&[prepared, greedy.clone(), impossible.clone()]).await;
    let refused: BTreeMap<AttemptId, String> = talk
        .until_ended(2)
        .await
        .into_iter()
        .map(|event| {
            let AgentEvent::Ended { attempt, end: PartEnd::NotStarted { message }, ran_ms: 0, .. } = event
            else {
                panic!("{event:?}")
            };
            (attempt, message)
        })
        .collect();
    assert!(refused[&greedy.attempt].contains("accelerator 0 is in use by part"), "{refused:?}");
    assert!(refused[&impossible.attempt].contains("no accelerator 7"), "{refused:?}");
    talk.want(std::slice::from_ref(&gang)).await;
    let (end, _, output) = story(&talk.until_ended(1).await);
    assert_eq!((end, output.as_str()), (PartEnd::Exited { code: 0 }, "ran\n"));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_outlives_the_agent_and_its_account_has_no_gap() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = broker.agent(state.path(), OnExit::LeaveJobs);
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    let lease = lease("echo up; sleep 300", &[]);
    talk.want(std::slice::from_ref(&lease)).await;
    let mut events = talk.until(|event| matches!(event, AgentEvent::Usage { .. })).await;
    agent.end().await;
    let (next, journal) = (talk.next, talk.journal);

    let agent = broker.agent(state.path(), OnExit::LeaveJobs);
    let mut talk = broker.welcome(journal, BrokerMode::Normal, next - 1).await;
    assert_eq!(talk.hello.seen, at(journal));
    let observed: Vec<_> = talk.hello.observed.iter().map(|part| (part.attempt, part.phase)).collect();
    assert_eq!(observed, [(lease.attempt, PartPhase::Running)]);
    talk.first_renewal().await;
    talk.want(&[wanting(&lease, WantedPhase::Stopped)]).await;
    events.extend(talk.until_ended(1).await);
    let (end, _, output) = story(&events);
    assert_eq!((end, output.as_str()), (PartEnd::Stopped, "up\n"));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_from_an_old_copy_is_renewed_with_and_not_obeyed() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = broker.agent(state.path(), OnExit::StopJobs);
    broker.enrol().await;
    let mut talk = broker.welcome(50, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    let mut lease = lease("sleep 300", &[]);
    // Long enough for the delays between the sessions below.
    lease.ttl = DurationMs(60_000);
    talk.want(std::slice::from_ref(&lease)).await;
    talk.until(|event| matches!(event, AgentEvent::Started { .. })).await;
    let next = talk.next;
    drop(talk);
    let deadline = || -> u64 {
        let file: LeaseFile = read_json(&folder(state.path(), &lease).join(LEASE)).unwrap().unwrap();
        file.deadline_ms
    };

    for (journal, mode) in [(40, BrokerMode::Normal), (60, BrokerMode::Recovery)] {
        let mut talk = broker.welcome(journal, mode, 0).await;
        assert_eq!(talk.hello.seen, at(51));
        talk.want(&[]).await;
        let before = deadline();
        while deadline() < before + 300 {
            talk.next_renewal().await;
            assert_eq!(talk.renewed, [lease.attempt], "an unlisted part is not stopped");
        }
        assert!(talk.kept.is_empty(), "no event is sent");
    }
    let mut talk = broker.welcome(60, BrokerMode::Normal, next - 1).await;
    let observed: Vec<_> = talk.hello.observed.iter().map(|part| part.phase).collect();
    assert_eq!(observed, [PartPhase::Running]);
    talk.first_renewal().await;
    talk.want(&[]).await;
    let events = talk.until_ended(1).await;
    assert!(matches!(events.last(), Some(AgentEvent::Ended { end: PartEnd::Stopped, .. })), "{events:?}");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_ends_the_part_at_its_lease() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = broker.agent(state.path(), OnExit::StopJobs);
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    let mut short = lease("sleep 300", &[]);
    short.ttl = DurationMs(1000);
    talk.want(std::slice::from_ref(&short)).await;
    let mut events = talk.until(|event| matches!(event, AgentEvent::Started { .. })).await;
    // Silence: nothing is answered any more. The usage that comes on the way is still the part's.
    while !events.iter().any(|event| matches!(event, AgentEvent::Ended { .. })) {
        let message = tokio::time::timeout(PATIENCE, talk.receiver.recv()).await.unwrap().unwrap().unwrap();
        if let ToBroker::Events { events: more, .. } = message {
            events.extend(more);
        }
    }
    let (end, ran_ms, _) = story(&events);
    assert_eq!(end, PartEnd::LeaseExpired);
    assert!(ran_ms < 4000, "{ran_ms}");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_followed_while_it_is_written() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = broker.agent(state.path(), OnExit::StopJobs);
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    let lease = lease("mkfifo gate; echo one; read line < gate; echo two", &[]);
    talk.want(std::slice::from_ref(&lease)).await;
    talk.until(|event| matches!(event, AgentEvent::Started { .. })).await;
    let work = folder(state.path(), &lease).join("work");
    let header = |attempt, follow| StreamHeader::Output { attempt, rank: 0, offset: 2, follow };
    let mut stream = talk.handle.open_output(&header(lease.attempt, true)).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(&first[..], b"e\n", "what was there comes at once");
    std::fs::write(work.join("gate"), "go\n").unwrap();
    let mut read = Vec::new();
    while let Some(bytes) = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap() {
        read.extend(bytes);
    }
    assert_eq!(read, b"two\n");
    let unknown = talk.handle.open_output(&header(spec(&["x"], 0).attempt, false)).await;
    assert!(matches!(unknown, Err(TunnelError::Rejected { .. })), "{unknown:?}");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_end_the_agent() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = broker.agent(state.path(), OnExit::LeaveJobs);
    broker.enrol().await;
    let mut talk = broker.welcome(5, BrokerMode::Normal, 0).await;
    talk.first_renewal().await;
    let lease = lease("sleep 300", &[]);
    talk.want(std::slice::from_ref(&lease)).await;
    talk.until(|event| matches!(event, AgentEvent::Started { .. })).await;
    let refused = |code| Refused { code, message: "because".into(), retry_after: Some(DurationMs(1)) };
    talk.handle.refuse(refused(RefusalCode::Superseded)).await.unwrap();
    let error = agent.outcome().await.unwrap_err();
    assert!(matches!(error, AgentError::Superseded { .. }) && !error.wants_power_off(), "{error}");
    let exit = folder(state.path(), &lease).join("exit.json");
    assert!(!exit.exists(), "what runs is left to its lease");

    let agent = broker.agent(state.path(), OnExit::LeaveJobs);
    let session = broker.hello().await;
    session.handle.refuse(refused(RefusalCode::Revoked)).await.unwrap();
    let error = agent.outcome().await.unwrap_err();
    assert!(matches!(error, AgentError::Revoked { .. }) && error.wants_power_off(), "{error}");
    assert!(exit.exists(), "a revoked node stops everything first");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwanted_instance_is_told_to_go() {
    let state = tempfile::tempdir().unwrap();
    let mut broker = Broker::new();
    let agent = broker.agent(state.path(), OnExit::LeaveJobs);
    for code in [EnrolRefusal::Busy, EnrolRefusal::Unwanted] {
        let Incoming::Enrol(exchange) = broker.incoming().await else { panic!("an enrolment was due") };
        exchange.respond(&EnrolReply::Refused { code, message: "no".into() }).await.unwrap();
    }
    let error = agent.outcome().await.unwrap_err();
    assert!(matches!(error, AgentError::Unwanted { .. }) && error.wants_power_off(), "{error}");
}
