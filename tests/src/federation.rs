//! A whole federation in a temporary folder: a broker with an on-prem site and a local cloud, agents, jobs.
//!
//! Every bound is short, so that minutes of a real federation take seconds. The ports stay the same over restarts
//! of the broker, so that agents find it again. What the processes write to stderr is shown when a test fails.

mod agent;
mod config;
mod work;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use spillway_api::v1::{AttemptView, HealthView, JobState, JobView, JoinLine, JoinTokenRequest, NodeView};
use spillway_api::{Client, ClientError, Secret};
use spillway_types::{AttemptState, JobId, NodeState};
use tokio::runtime::Runtime;

pub use agent::{Agent, AgentSpec};
pub use work::Work;

use crate::process::free_port;
use crate::{Folder, Link, Spawned, auditor, binaries, wait_for};

/// The on-prem site.
pub const ON_PREM: &str = "dc";
/// The region of the cloud.
pub const CLOUD: &str = "cloud-east";
/// The pool of the on-prem site.
pub const POOL: &str = "dgx";
/// The group that pays.
pub const GROUP: &str = "lab";

/// Bound of everything that takes a second or two on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Bound of everything that waits for a lease to run out.
pub const LATER: Duration = Duration::from_secs(90);

/// A job that the broker acknowledged.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Its id.
    pub id: JobId,
    /// What was asked.
    pub work: Work,
    /// How many parts its tasks have together.
    pub parts: u64,
    /// Where its copies write.
    pub evidence: PathBuf,
}

/// See the module. The order of the fields is that of their ends.
#[derive(Debug)]
pub struct Federation {
    broker: Option<Spawned>,
    /// Brokers that have ended. Dropping one would end what it has started as well, which a real end does not.
    past: Vec<Spawned>,
    /// The on-prem agents, in the order of their joining.
    pub agents: Vec<Agent>,
    links: Vec<Link>,
    submitted: Vec<Submitted>,
    database: String,
    settings: String,
    http: u16,
    tunnel: u16,
    runtime: Runtime,
    folder: Folder,
}

impl Federation {
    /// A federation on SQLite whose broker runs.
    #[must_use]
    pub fn start() -> Self {
        let mut federation = Self::prepare();
        federation.start_broker();
        federation
    }

    /// The same on a database of that URL.
    #[must_use]
    pub fn start_on(database: &str) -> Self {
        let mut federation = Self::prepare().with_database(database);
        federation.start_broker();
        federation
    }

    /// Its database is there from now on.
    #[must_use]
    pub fn with_database(mut self, database: &str) -> Self {
        database.clone_into(&mut self.database);
        self
    }

    /// Its settings file has these tables too.
    #[must_use]
    pub fn with_settings(mut self, tables: &str) -> Self {
        tables.clone_into(&mut self.settings);
        self
    }

    /// A federation on SQLite whose broker is not started yet.
    ///
    /// # Panics
    /// The system gives no folder, port or thread.
    #[must_use]
    pub fn prepare() -> Self {
        let folder = Folder::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let database = format!("sqlite:{}", folder.path().join("data/spillway.db").display());
        std::fs::create_dir_all(folder.path().join("evidence"))
            .unwrap_or_else(|error| panic!("cannot make a folder: {error}"));
        Self {
            broker: None,
            past: vec![],
            agents: vec![],
            links: vec![],
            submitted: vec![],
            database,
            settings: String::new(),
            http: free_port(),
            tunnel: free_port(),
            runtime: runtime.unwrap_or_else(|error| panic!("cannot start a runtime: {error}")),
            folder,
        }
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the broker keeps its files.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The URL of its database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The URL of its API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    pub(crate) const fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn submitted(&self) -> &[Submitted] {
        &self.submitted
    }

    /// The command that runs its broker.
    #[must_use]
    pub fn broker_command(&self) -> Command {
        let config = config::write(self.path(), &self.database, (self.http, self.tunnel), &self.settings);
        let mut command = Command::new(binaries::spillway());
        command.args(["broker", "--config"]).arg(config);
        command
    }

    /// Starts the broker and waits until it serves.
    pub fn start_broker(&mut self) {
        let command = self.broker_command();
        self.start_broker_by(command);
    }

    /// Starts a broker that dies at this point, as by `kill -9`, and waits until it serves.
    pub fn start_broker_that_dies_at(&mut self, point: &str) {
        let mut command = self.broker_command();
        command.env("SPILLWAY_CRASH_AT", point);
        self.start_broker_by(command);
    }

    /// Starts the broker by this command and waits until it serves.
    ///
    /// # Panics
    /// It does not serve.
    pub fn start_broker_by(&mut self, command: Command) {
        let mut broker = Spawned::start("broker", command, self.path());
        let endpoint = self.data_dir().join("endpoint.json");
        wait_for("the broker to serve", SOON, || {
            if let Some(status) = broker.ended() {
                panic!("the broker ended with {status}; stderr:\n{}", broker.stderr());
            }
            let text = std::fs::read_to_string(&endpoint).map_err(|error| error.to_string())?;
            let said: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            // A broker that was killed leaves its file behind.
            if said.get("pid") == Some(&broker.pid().into()) { Ok(()) } else { Err(text) }
        });
        self.broker = Some(broker);
    }

    /// The broker's process.
    ///
    /// # Panics
    /// It was not started.
    pub fn broker(&mut self) -> &mut Spawned {
        self.broker.as_mut().unwrap_or_else(|| panic!("the broker was not started"))
    }

    /// Ends the broker at once, as `kill -9`.
    pub fn kill_broker(&mut self) {
        self.broker().kill();
        self.past.extend(self.broker.take());
    }

    /// Waits until the broker has died at its point.
    pub fn wait_broker_dead(&mut self) {
        self.broker().wait_killed(LATER);
        self.past.extend(self.broker.take());
    }

    /// Asks the broker to stop and waits until it has.
    ///
    /// # Panics
    /// It does not stop in order.
    pub fn stop_broker(&mut self) {
        let status = self.broker().stop(SOON);
        assert!(status.success(), "the broker stopped with {status}: {}", self.broker().stderr());
        self.past.extend(self.broker.take());
    }

    /// A client with the admin's token.
    ///
    /// # Panics
    /// The token cannot be read.
    #[must_use]
    pub fn client(&self) -> Client {
        let path = self.token_file();
        let token = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let client = Client::new(&self.url(), Some(Secret::new(token.trim())));
        client.unwrap_or_else(|error| panic!("cannot make a client: {error}"))
    }

    /// The file with the admin's token.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.data_dir().join("admin.token")
    }

    /// Waits for an answer of the API.
    pub fn ask<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    /// A wire to the broker's tunnel that can be cut; it lasts as long as the federation.
    pub fn link(&mut self) -> usize {
        let link = self.runtime.block_on(Link::open(self.tunnel));
        self.links.push(link);
        self.links.len() - 1
    }

    /// A wire that [`Federation::link`] made.
    ///
    /// # Panics
    /// There is none of that number.
    #[must_use]
    pub fn wire(&self, link: usize) -> &Link {
        self.links.get(link).unwrap_or_else(|| panic!("there is no link {link}"))
    }

    /// Makes a join line for the on-prem pool.
    ///
    /// # Panics
    /// The broker refuses.
    #[must_use]
    pub fn join_line(&self, ttl: Option<&str>) -> JoinLine {
        let name = |text: &str| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let ttl = ttl.map(|ttl| ttl.parse().unwrap_or_else(|error| panic!("{error}")));
        let request = JoinTokenRequest { pool: Some(name(POOL)), ttl, ..JoinTokenRequest::default() };
        let line = self.ask(self.client().create_join_token(&request));
        line.unwrap_or_else(|error| panic!("no join line: {error}"))
    }

    /// Joins a machine with that many GPUs and waits until it is ready; its number.
    pub fn join(&mut self, name: &str, gpus: u32) -> usize {
        let line = self.join_line(None);
        let spec = AgentSpec::new(self.path(), name, gpus, &line);
        self.start_agent(spec, &line)
    }

    /// The same, behind a wire.
    pub fn join_through(&mut self, link: usize, name: &str, gpus: u32) -> usize {
        let line = self.join_line(None);
        let spec = AgentSpec::new(self.path(), name, gpus, &line).through(self.wire(link).address());
        self.start_agent(spec, &line)
    }

    fn start_agent(&mut self, spec: AgentSpec, line: &JoinLine) -> usize {
        let process = spec.start(Some(line.token.expose()));
        let name = spec.name.clone();
        self.agents.push(Agent::new(spec, process));
        self.wait_node(&name, NodeState::Ready);
        self.agents.len() - 1
    }

    /// What the broker says of the machine of that name; none where it does not know it.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<NodeView> {
        let page = self.ask(self.client().nodes()).unwrap_or_else(|error| panic!("no nodes: {error}"));
        page.items.into_iter().find(|node| node.hostname == name)
    }

    /// Waits until the machine of that name is in this state.
    pub fn wait_node(&self, name: &str, state: NodeState) -> NodeView {
        wait_for(&format!("{name} to be {state:?}"), LATER, || {
            let node = self.node(name).ok_or_else(|| "it is not known".to_owned())?;
            if node.state == state { Ok(node) } else { Err(format!("it is {:?}", node.state)) }
        })
    }

    /// How the broker is.
    #[must_use]
    pub fn health(&self) -> HealthView {
        self.ask(self.client().health()).unwrap_or_else(|error| panic!("no health: {error}"))
    }

    /// Submits a job, which must be acknowledged.
    pub fn submit(&mut self, work: Work) -> Submitted {
        let name = work.name.clone();
        self.try_submit(work).unwrap_or_else(|error| panic!("{name} was not taken: {error}"))
    }

    /// Submits a job under a key that its name gives: asking again asks for the same.
    ///
    /// # Errors
    /// The broker's refusal, or that there was no answer.
    pub fn try_submit(&mut self, work: Work) -> Result<Submitted, ClientError> {
        let evidence = self.path().join("evidence").join(&work.name);
        let file = work.job_file(&evidence);
        let summary = self.ask(self.client().submit(&file, &work.name))?;
        let parts = summary.tasks.total() * u64::from(work.nodes);
        let submitted = Submitted { id: summary.id, work, parts, evidence };
        self.submitted.retain(|known| known.id != submitted.id);
        self.submitted.push(submitted.clone());
        Ok(submitted)
    }

    /// Tells a job that works until it is told.
    ///
    /// # Panics
    /// The disk refuses.
    pub fn finish(&self, job: &Submitted) {
        let path = job.evidence.with_added_extension("finish");
        std::fs::write(path, "").unwrap_or_else(|error| panic!("cannot tell a job to finish: {error}"));
    }

    /// What the broker says of a job.
    #[must_use]
    pub fn job(&self, job: &Submitted) -> JobView {
        self.ask(self.client().job(job.id)).unwrap_or_else(|error| panic!("no job {}: {error}", job.id))
    }

    /// Waits until the job is in this state, by the broker's words.
    ///
    /// # Panics
    /// It ends in another one, or takes too long.
    pub fn wait_job(&self, job: &Submitted, state: JobState) -> JobView {
        wait_for(&format!("{} to be {}", job.work.name, state.as_str()), LATER, || {
            let view = self.ask(self.client().job(job.id)).map_err(|error| error.to_string())?;
            let now = view.summary.state;
            if now == state {
                return Ok(view);
            }
            assert!(!now.is_final(), "{} was to be {} and is {view:#?}", job.work.name, state.as_str());
            Err(format!("it is {} because of {:?}", now.as_str(), view.explanation))
        })
    }

    /// Waits until copies of the job have said something that fits, by its own evidence.
    pub fn wait_evidence<T>(
        &self,
        job: &Submitted,
        what: &str,
        fits: impl Fn(&[auditor::Copy]) -> Option<T>,
    ) -> T {
        wait_for(&format!("{} to write: {what}", job.work.name), LATER, || {
            let copies = auditor::read_evidence(&job.evidence);
            fits(&copies).ok_or_else(|| format!("{copies:?}"))
        })
    }

    /// Waits until a copy of the job has begun, by its own evidence.
    pub fn wait_begun(&self, job: &Submitted) {
        self.wait_evidence(job, "a start", |copies| (!copies.is_empty()).then_some(()));
    }

    /// What the broker says of the attempt of this number, from 1.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn attempt(&self, job: &Submitted, number: u32) -> AttemptView {
        let attempts = self.job(job).attempts;
        let found = attempts.iter().find(|attempt| attempt.number == number);
        found.unwrap_or_else(|| panic!("{} has no attempt {number}: {attempts:#?}", job.work.name)).clone()
    }

    /// Waits until nothing is left to do: every job has ended and is settled, every instance is gone.
    ///
    /// # Panics
    /// That takes too long.
    pub fn settle(&self) {
        for job in &self.submitted {
            wait_for(&format!("{} to be settled", job.work.name), LATER, || {
                let view = self.ask(self.client().job(job.id)).map_err(|error| error.to_string())?;
                let open =
                    view.attempts.iter().filter(|attempt| attempt.state != AttemptState::Settled).count();
                let state = view.summary.state;
                if state.is_final() && open == 0 {
                    return Ok(());
                }
                Err(format!("it is {} with {open} open attempts: {:?}", state.as_str(), view.explanation))
            });
        }
        wait_for("every instance to be gone", LATER, || {
            let clouds = self.ask(self.client().clouds()).map_err(|error| error.to_string())?;
            let alive = clouds.items.iter().flat_map(|cloud| &cloud.instances);
            let alive: Vec<_> = alive.filter(|instance| instance.ended.is_none()).collect();
            if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?}")) }
        });
    }

    /// Lets everything come to rest, stops the broker, and compares provider, database, journals, ledger and the
    /// jobs' own words.
    ///
    /// # Panics
    /// They do not agree; each disagreement is a sentence.
    pub fn audit(mut self) {
        if self.broker.is_none() {
            self.start_broker();
        }
        self.settle();
        self.stop_broker();
        let scene = self.runtime.block_on(auditor::collect(&self));
        let findings = auditor::audit(&scene);
        assert!(findings.is_empty(), "the auditor found:\n{}", findings.join("\n"));
    }
}

impl Drop for Federation {
    /// The other processes show their last words themselves.
    #[expect(
        clippy::print_stderr,
        reason = "beside the panic of the test, where a person looks for its cause"
    )]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for machine in std::fs::read_dir(self.path().join("sky/machines")).into_iter().flatten().flatten() {
            for log in ["machine.log", "agent.log"].map(|name| machine.path().join(name)) {
                eprintln!("---- {}\n{}", log.display(), std::fs::read_to_string(&log).unwrap_or_default());
            }
        }
    }
}
