//! An agent of a test: a machine that was joined, with a state folder that outlives its process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use spillway_api::v1::JoinLine;

use crate::{Spawned, binaries};

/// What is needed to start an agent.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// Its name, which its host has too.
    pub name: String,
    /// Where it dials.
    pub broker: String,
    /// The deployment's fingerprint.
    pub ca_fingerprint: String,
    /// Its state folder.
    pub state: PathBuf,
    /// The file that says what it has.
    pub inventory: PathBuf,
}

impl AgentSpec {
    /// A machine with GPUs, in a folder of its own below `folder`, by a join line.
    ///
    /// # Panics
    /// The disk refuses.
    #[must_use]
    pub fn new(folder: &Path, name: &str, gpus: u32, line: &JoinLine) -> Self {
        let home = folder.join("agents").join(name);
        std::fs::create_dir_all(&home)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", home.display()));
        let inventory = home.join("inventory.toml");
        let mut text = format!("hostname = \"{name}\"\ncpus = 16\nmemory = \"64GB\"\n");
        if gpus > 0 {
            text.push_str(&format!("[[gpus]]\nmodel = \"H100\"\ncount = {gpus}\nmemory = \"80GB\"\n"));
        }
        std::fs::write(&inventory, text)
            .unwrap_or_else(|error| panic!("cannot write the inventory: {error}"));
        Self {
            name: name.to_owned(),
            broker: line.broker_addr.clone(),
            ca_fingerprint: line.ca_fingerprint.clone(),
            state: home.join("state"),
            inventory,
        }
    }

    /// The same machine behind another wire.
    #[must_use]
    pub fn through(self, address: SocketAddr) -> Self {
        Self { broker: address.to_string(), ..self }
    }

    /// Starts it. The token is for a machine that has no identity yet.
    #[must_use]
    pub fn start(&self, token: Option<&str>) -> Spawned {
        let mut command = Command::new(binaries::spillway());
        command.args(["agent", "--broker", &self.broker, "--ca-fingerprint", &self.ca_fingerprint]);
        command.arg("--state").arg(&self.state).arg("--inventory").arg(&self.inventory);
        if let Some(token) = token {
            command.env("SPILLWAY_JOIN_TOKEN", token);
        }
        let folder = self.inventory.parent().unwrap_or(Path::new("."));
        Spawned::start(&self.name, command, folder)
    }
}

/// An agent of a federation.
#[derive(Debug)]
pub struct Agent {
    /// How it is started.
    pub spec: AgentSpec,
    /// Its process.
    pub process: Spawned,
    /// Its earlier processes, which have ended. Dropping one would end what it has started as well.
    past: Vec<Spawned>,
}

impl Agent {
    /// The agent that this process is.
    pub(super) const fn new(spec: AgentSpec, process: Spawned) -> Self {
        Self { spec, process, past: vec![] }
    }

    /// Starts it again after its process has ended, with the same state.
    pub fn restart(&mut self) {
        let next = self.spec.start(None);
        self.take_over(next);
    }

    /// From now on it is that process.
    pub fn take_over(&mut self, process: Spawned) {
        self.past.push(std::mem::replace(&mut self.process, process));
    }
}
