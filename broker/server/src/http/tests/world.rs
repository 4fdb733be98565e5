//! A broker of one test: two groups, three users, one node with four A100, and nothing that acts by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spillway_api::v1::{JobFile, JobSummary};
use spillway_api::{ApiError, Client, ClientError, Secret};
use spillway_core::command::{Endpoint, JoinProof, PartNews, PartReport};
use spillway_core::entity::{Group, Pool, Site};
use spillway_core::{Command, Reply, snapshot};
use spillway_policies::Policy;
use spillway_store::Store;
use spillway_tunnel::identity::DeploymentCa;
use spillway_tunnel::quic::{Listener, Timings};
use spillway_types::{
    Accelerator, AttemptId, Capabilities, DurationMs, Inventory, InventorySource, NodeCapacity, NodeId,
    PartEnd, Role, SiteKind, Tariff,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{App, serve};
use crate::alerts::Alerts;
use crate::engine::Explanations;
use crate::outputs::Outputs;
use crate::secrets::{self, InstanceKey};
use crate::sessions::{Rhythm, Sessions};
use crate::settings::{self, Channel, Destination};
use crate::{Engine, View};

pub(crate) struct World {
    pub(crate) app: Arc<App>,
    pub(crate) engine: Engine,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) node: NodeId,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<std::io::Result<()>>,
    epoch: u64,
    reported: u64,
    _folder: tempfile::TempDir,
}

impl World {
    /// Groups `lab` with `vision` below it, and `rivals`, which has half a dollar; the admin `root`, `ada` of
    /// `lab`, `eve` of `rivals`. A user's token is `token-` and the name.
    pub(crate) async fn start() -> Self {
        Self::with_policy(Policy::default()).await
    }

    pub(crate) async fn with_policy(policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open(&format!("sqlite:{}", folder.path().join("spillway.db").display())).await.unwrap();
        let engine = Engine::start(store, policy, "test".to_owned()).await.unwrap();
        engine.stop_awaiting();
        for command in declarations() {
            engine.command(command).await.unwrap();
        }
        let (node, epoch) = connect(&engine).await;
        let ca = DeploymentCa::load_or_create(folder.path(), "test", engine.clock().now()).unwrap();
        let key = InstanceKey::load_or_create(&folder.path().join("key")).unwrap();
        let now = engine.clock().now();
        let tunnel =
            Listener::bind("127.0.0.1:0".parse().unwrap(), ca.issue_server(now).unwrap(), Timings::default());
        let tunnel = tunnel.unwrap();
        let (broker_addr, ca_fingerprint) = (tunnel.local_addr().unwrap().to_string(), ca.fingerprint());
        let outputs = Arc::new(Outputs::open(&folder.path().join("outputs")).unwrap());
        let stop = CancellationToken::new();
        let rhythm = Rhythm { renew_every: DurationMs::from_secs(10), stop: stop.clone() };
        let problems = BTreeMap::from([("sky".parse().unwrap(), Some("it is raining".to_owned()))]);
        let told = [Destination {
            name: "finance".to_owned(),
            channel: Channel::Slack { url: settings::Secret::new("http://127.0.0.1:1/secret".to_owned()) },
            ca: None,
            groups: ["lab".parse().unwrap()].into(),
            thresholds: [80].into(),
        }];
        let delivered = folder.path().join("delivered");
        let alerts = Alerts::start(&told, &delivered, engine.clock(), &TaskTracker::new(), &stop).unwrap();
        let app = Arc::new(App {
            engine: engine.clone(),
            sessions: Sessions::new(engine.clone(), ca, key, Arc::clone(&outputs), rhythm),
            outputs,
            clouds: watch::channel(problems).1,
            alerts,
            broker_addr,
            ca_fingerprint,
            database: "sqlite".to_owned(),
        });
        tokio::spawn(Arc::clone(&app.sessions).serve(tunnel));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, Arc::clone(&app), stop.clone()));
        Self { app, engine, address, node, stop, serving, epoch, reported: 0, _folder: folder }
    }

    /// Makes another user.
    pub(crate) async fn user(&self, name: &str, role: Role, group: &str) {
        for command in user(name, role, group) {
            self.engine.command(command).await.unwrap();
        }
    }

    pub(crate) fn client(&self, user: &str) -> Client {
        self.with_token(Some(&format!("token-{user}")))
    }

    pub(crate) fn with_token(&self, token: Option<&str>) -> Client {
        Client::new(&format!("http://{}", self.address), token.map(Secret::new)).unwrap()
    }

    /// Sends a request as text; gives the status and the body.
    pub(crate) async fn raw(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Lets the planner look once, and does what it says.
    pub(crate) async fn place(&self) {
        let plan = |view: &View<'_>| {
            spillway_policies::plan(&snapshot::take(view.federation, view.policy, view.now))
        };
        let plan = self.engine.read(plan).await.unwrap();
        self.engine.set_explanations(Explanations::OfAll(plan.explanations)).await;
        let command = Command::Place { decisions: plan.decisions, endpoint: Endpoint::default() };
        self.engine.command(command).await.unwrap();
    }

    /// The node reports about the first part of an attempt.
    pub(crate) async fn report(&mut self, attempt: AttemptId, news: PartNews) {
        let first = self.reported + 1;
        let reports = vec![PartReport { attempt, rank: 0, news }];
        let command = Command::Report { node: self.node, epoch: self.epoch, first, reports };
        assert_eq!(self.engine.command(command).await.unwrap(), Reply::Acked(first));
        self.reported = first;
    }

    /// The attempt runs to its end.
    pub(crate) async fn run_to_end(&mut self, attempt: AttemptId, code: i32) {
        self.report(attempt, PartNews::Started).await;
        self.report(attempt, PartNews::Ended { end: PartEnd::Exited { code }, ran_ms: 1000 }).await;
    }

    /// The attempts that are not settled.
    pub(crate) async fn attempts(&self) -> Vec<AttemptId> {
        self.engine.read(|view| view.federation.state().attempts.keys().copied().collect()).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn user(name: &str, role: Role, group: &str) -> [Command; 2] {
    let user: spillway_types::UserName = name.parse().unwrap();
    let groups = BTreeSet::from([group.parse().unwrap()]);
    let hash = secrets::hash(&format!("token-{name}"));
    [Command::DeclareUser { user: user.clone(), role, groups }, Command::IssueToken { user, hash }]
}

fn declarations() -> Vec<Command> {
    let site = Site { name: "dc".parse().unwrap(), kind: SiteKind::OnPrem, jurisdiction: None, cloud: None };
    let tariff = Tariff { per_gpu: "2.00".parse().unwrap(), ..Tariff::default() };
    let pool = Pool {
        name: "dgx".parse().unwrap(),
        site: site.name.clone(),
        tariff,
        groups: None,
        labels: [].into(),
    };
    let group = |name: &str, parent: Option<&str>, budget_micros| {
        let parent = parent.map(|parent| parent.parse().unwrap());
        Command::DeclareGroup(Group {
            name: name.parse().unwrap(),
            parent,
            weight: 1,
            priority: 0,
            budget_micros,
            budget_stated: None,
        })
    };
    let join = Command::IssueJoinToken {
        hash: "join".to_owned(),
        pool: pool.name.clone(),
        lifetime: DurationMs::from_secs(60),
        issuer: "root".parse().unwrap(),
    };
    let mut commands = vec![
        Command::DeclareSite(site),
        Command::DeclarePool(pool),
        group("lab", None, None),
        group("vision", Some("lab"), None),
        group("rivals", None, Some(500_000)),
    ];
    commands.extend(user("root", Role::Admin, "lab"));
    commands.extend(user("ada", Role::Member, "lab"));
    commands.extend(user("eve", Role::Member, "rivals"));
    commands.push(join);
    commands
}

/// What a machine with these accelerators has.
pub(crate) fn inventory(hostname: &str, model: &str, gpus: u32) -> Inventory {
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: model.parse().unwrap(),
        memory_mib: 81_920,
        mig: vec![],
        domain: None,
    };
    let accelerators = (0..gpus).map(gpu).collect();
    Inventory {
        hostname: hostname.to_owned(),
        capacity: NodeCapacity { accelerators, cpus_milli: 64_000, memory_mib: 262_144 },
        capabilities: Capabilities { process: true, container: false, fractions: false },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    }
}

async fn connect(engine: &Engine) -> (NodeId, u64) {
    let proof = JoinProof::Token { hash: "join".to_owned() };
    let enrol = Command::Enrol { proof, key_hash: "key".to_owned(), hostname: "dgx1".to_owned() };
    let Ok(Reply::Node(node)) = engine.command(enrol).await else { panic!("not enrolled") };
    let inventory = Box::new(inventory("dgx1", "A100", 4));
    let observed = BTreeSet::new();
    let command = Command::Connect { node, boot_nonce: 1, inventory, observed, spool: None };
    let Ok(Reply::Session { epoch, .. }) = engine.command(command).await else { panic!("not connected") };
    (node, epoch)
}

pub(crate) fn job(text: &str) -> JobFile {
    JobFile::parse_yaml(text).unwrap()
}

pub(crate) async fn submit(client: &Client, text: &str, key: &str) -> JobSummary {
    client.submit(&job(text), key).await.unwrap()
}

/// What the broker said against it.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ApiError {
    match answer {
        Err(ClientError::Api(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}
