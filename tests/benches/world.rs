//! A small federation of real processes for a bench: one broker, and one agent where a bench needs one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use spillway_api::v1::{JobFile, JobState, JoinTokenRequest};
use spillway_api::{Client, Secret};
use spillway_tests::binaries;
use spillway_tests::process::Spawned;
use spillway_tests::wait::wait_for;
use spillway_types::NodeState;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const START: Duration = Duration::from_secs(20);

/// One site, one group, and a policy that never waits for anything else.
const SETTINGS: &str = "listen = \"127.0.0.1:0\"\ntunnel = \"127.0.0.1:0\"\n\
    [[sites]]\nname = \"home\"\nkind = \"on-prem\"\n[[pools]]\nname = \"home\"\nsite = \"home\"\n\
    [[groups]]\nname = \"bench\"\n";

/// A broker, an agent, and a way to talk to them. Everything ends when it is dropped.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
    pub(crate) token: String,
    /// `host:port` of the HTTP API.
    pub(crate) address: String,
    submitted: AtomicU64,
    agent: Option<Spawned>,
    broker: Spawned,
    folder: TempDir,
}

impl World {
    /// Starts a broker on `database`, or on SQLite in a folder of its own.
    pub(crate) fn start(database: Option<&str>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("broker.toml");
        fs::write(&config, SETTINGS)?;
        let data = folder.path().join("data");
        let mut command = Command::new(binaries::spillway());
        command.args(["broker", "--config"]).arg(&config).arg("--data-dir").arg(&data);
        if let Some(url) = database {
            command.args(["--database", url]);
        }
        let broker = Spawned::start("broker", command, folder.path());
        let endpoint = wait_for("the broker to be ready", START, || read_endpoint(&data));
        let token = fs::read_to_string(data.join("admin.token"))?;
        let http = endpoint["http"].as_str().context("endpoint.json names no `http`")?.to_owned();
        let client = Client::new(&http, Some(Secret::new(token.trim())))?;
        let runtime = Runtime::new()?;
        let address = http.trim_start_matches("http://").to_owned();
        Ok(Self {
            client,
            runtime,
            token,
            address,
            submitted: AtomicU64::new(0),
            agent: None,
            broker,
            folder,
        })
    }

    /// Joins one machine with this many CPUs and no GPUs.
    pub(crate) fn join(&mut self, cpus: u32) -> Result<()> {
        let endpoint = read_endpoint(&self.folder.path().join("data")).map_err(anyhow::Error::msg)?;
        let request = JoinTokenRequest { pool: Some("home".parse()?), site: None, ttl: None };
        let line = self.runtime.block_on(self.client.create_join_token(&request))?;
        let inventory = self.folder.path().join("inventory.toml");
        fs::write(&inventory, format!("cpus = {cpus}\nmemory = \"1024GB\"\n"))?;
        let mut command = Command::new(binaries::spillway_agent());
        command.env("SPILLWAY_JOIN_TOKEN", line.token.expose());
        let text = |name: &str| endpoint[name].as_str().unwrap_or_default().to_owned();
        command.args(["--broker", &text("tunnel"), "--ca-fingerprint", &text("ca_fingerprint")]);
        command.arg("--state").arg(self.folder.path().join("agent")).arg("--inventory").arg(&inventory);
        self.agent = Some(Spawned::start("agent", command, self.folder.path()));
        wait_for("the node to be ready", START, || {
            let nodes = self.runtime.block_on(self.client.nodes()).map_err(|error| error.to_string())?;
            nodes
                .items
                .iter()
                .find(|node| node.state == NodeState::Ready)
                .map(drop)
                .ok_or_else(|| format!("{nodes:?}"))
        });
        Ok(())
    }

    /// A folder that is gone with the world.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the admin's token is.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("data/admin.token")
    }

    /// Submits a job and waits until it has ended well.
    pub(crate) fn run(&self, file: &JobFile, timeout: Duration) -> Result<()> {
        let key = format!("bench-{}", self.submitted.fetch_add(1, Ordering::Relaxed));
        let job = self.runtime.block_on(self.client.submit(file, &key))?;
        let state = wait_for("the job to end", timeout, || {
            let wait = self.client.wait_for_job(job.id, Duration::from_secs(20));
            let view = self.runtime.block_on(wait).map_err(|error| error.to_string())?;
            if view.summary.state.is_final() {
                Ok(view.summary.state)
            } else {
                Err(format!("{:?}", view.summary.tasks))
            }
        });
        anyhow::ensure!(state == JobState::Succeeded, "job {} ended {state:?}", job.id);
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The agent first: a broker that stops would be seen as a lost tunnel.
        drop(self.agent.take());
        self.broker.stop(Duration::from_secs(10));
    }
}

fn read_endpoint(data: &Path) -> Result<serde_json::Value, String> {
    let text = fs::read_to_string(data.join("endpoint.json")).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}
