//! A local cloud in a folder of its own, whose agent is a small shell script: it notes how it was called, starts
//! a job that leaves its session, and runs until its folder has a file `revoke`. When the folder is removed,
//! every machine powers off by itself, so nothing outlives a test that failed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use spillway_connector_api::conformance::{self, Harness, Injection};
use spillway_connector_api::{Connector, JoinToken, LaunchRequest, ObservedInstance, ObservedState};
use spillway_connector_local::{Fault, FaultKind, LocalCloud, LocalConfig, inject_faults};
use spillway_types::{DurationMs, InstanceId, SequentialIds};
use tempfile::TempDir;

const AGENT: &str = r#"
printf '%s\n' "$@" > args.new && mv args.new args
env > env.new && mv env.new env
setsid sleep 1001 &
while [ ! -e revoke ]; do sleep 0.05; done
exit 3
"#;

const CATALOGUE: &str = r#"
[[regions]]
name = "east"
jurisdiction = "us"
boot = "50ms"
[[regions.types]]
name = "big"
gpus = "H100:8"
gpu_memory = "80GB"
cpus = 192
memory = "2TB"
price = "98.32"
limit = 4
[[regions]]
name = "west"
boot = "50ms"
[[regions.types]]
name = "small"
cpus = 2
memory = "4GB"
price = "0.10"
limit = 1
"#;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const OURS: &str = "deployment-one";
pub(crate) const THEIRS: &str = "deployment-two";

pub(crate) struct World {
    dir: TempDir,
    ids: Mutex<SequentialIds>,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agent.sh"), AGENT).unwrap();
        Self { dir, ids: Mutex::new(SequentialIds::new(1)) }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("cloud")
    }

    pub(crate) fn config(&self, deployment: &str) -> LocalConfig {
        let agent = self.dir.path().join("agent.sh").display().to_string();
        LocalConfig {
            name: "local".parse().unwrap(),
            deployment: deployment.to_owned(),
            state_dir: self.state_dir(),
            catalogue: CATALOGUE.parse().unwrap(),
            agent_command: vec!["sh".into(), agent],
            machine_command: vec![env!("CARGO_BIN_EXE_spillway-local-machine").into()],
            dead_man: DurationMs::from_secs(60),
        }
    }

    pub(crate) fn cloud(&self) -> LocalCloud {
        LocalCloud::open(self.config(OURS)).unwrap()
    }

    pub(crate) fn fault(&self, region: Option<&str>, kind: FaultKind, count: u32) {
        let region = region.map(|name| name.parse().unwrap());
        inject_faults(&self.state_dir(), &[Fault { region, kind, count }]).unwrap();
    }

    pub(crate) fn machine_file(&self, provider_id: &str, name: &str) -> PathBuf {
        self.state_dir().join("machines").join(provider_id).join(name)
    }

    pub(crate) fn small_request(&self) -> LaunchRequest {
        LaunchRequest {
            region: "west".parse().unwrap(),
            instance_type: "small".parse().unwrap(),
            market: spillway_types::Market::OnDemand,
            ..self.request()
        }
    }
}

#[async_trait]
impl Harness for World {
    async fn connect(&self, deployment: &str) -> Box<dyn Connector> {
        Box::new(LocalCloud::open(self.config(deployment)).unwrap())
    }

    fn request(&self) -> LaunchRequest {
        LaunchRequest {
            intent: InstanceId::generate(&mut *self.ids.lock().unwrap()),
            deployment: OURS.into(),
            journal: 17,
            region: "east".parse().unwrap(),
            instance_type: "big".parse().unwrap(),
            market: spillway_types::Market::OnDemand,
            broker_addr: "127.0.0.1:4433".into(),
            ca_fingerprint: "abcdef".into(),
            join_token: JoinToken::new("canary-token".into()),
            boot_timeout: DurationMs::from_secs(60),
        }
    }

    fn foreign_deployment(&self) -> String {
        THEIRS.into()
    }

    fn unknown_id(&self) -> String {
        "i-00000000000000000".into()
    }

    async fn inject(&self, fault: conformance::Fault) -> Injection {
        let kind = match fault {
            conformance::Fault::NoCapacity => FaultKind::NoCapacity,
            conformance::Fault::ReplyLost => FaultKind::TimeoutAfterLaunch,
            conformance::Fault::TerminateFails => FaultKind::TerminateError,
            conformance::Fault::ListFails => FaultKind::ListError,
        };
        LocalCloud::open(self.config(OURS)).unwrap();
        self.fault(None, kind, 1);
        Injection::Done
    }

    fn settle(&self) -> DurationMs {
        DurationMs(0)
    }

    fn ending(&self) -> DurationMs {
        DurationMs(0)
    }

    async fn clean_up(&self) {
        for deployment in [OURS, THEIRS] {
            let cloud = LocalCloud::open(self.config(deployment)).unwrap();
            for instance in cloud.list().await.unwrap() {
                cloud.terminate(&instance.region, &instance.provider_id).await.unwrap();
                if instance.state != ObservedState::Gone {
                    assert_eq!(processes(&instance.provider_id), BTreeSet::new());
                }
                // A machine that powers itself off says so last, and then has to leave.
                wait_for_no_process(&instance.provider_id).await;
            }
            let left = cloud.list().await.unwrap();
            assert!(left.iter().all(|i| i.state == ObservedState::Gone), "{left:?}");
        }
    }
}

/// Processes that carry the instance's variable and are not dead.
pub(crate) fn processes(provider_id: &str) -> BTreeSet<u32> {
    let marker = format!("SPILLWAY_LOCAL_INSTANCE={provider_id}");
    let entries = std::fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let environ = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
    })
    .collect()
}

/// The processes of the instance whose command line has this text.
pub(crate) fn processes_like(provider_id: &str, text: &str) -> Vec<u32> {
    let has = |id: &u32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    processes(provider_id).into_iter().filter(has).collect()
}

/// Kills a process, should it still be there.
pub(crate) fn kill(id: u32) {
    std::process::Command::new("kill").args(["-9", &id.to_string()]).output().unwrap();
}

/// Polls until there is something, or fails with the last status.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(status) => assert!(tokio::time::Instant::now() < deadline, "waiting for {what}: {status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The listing's entry.
pub(crate) async fn shown(cloud: &LocalCloud, provider_id: &str) -> ObservedInstance {
    let all = cloud.list().await.unwrap();
    all.iter().find(|i| i.provider_id == provider_id).cloned().unwrap_or_else(|| panic!("{all:?}"))
}

pub(crate) async fn wait_for_state(cloud: &LocalCloud, provider_id: &str, state: ObservedState) {
    wait_for(state.as_str(), async || {
        let seen = shown(cloud, provider_id).await;
        if seen.state == state { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

pub(crate) async fn wait_for_no_process(provider_id: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = processes(provider_id);
        if left.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "these should end: {left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the agent and its job run.
pub(crate) async fn wait_for_agent(provider_id: &str) {
    wait_for("the agent and its job", async || {
        let (agents, jobs) = (processes_like(provider_id, "agent.sh"), processes_like(provider_id, "1001"));
        if agents.is_empty() || jobs.is_empty() { Err(format!("{agents:?} {jobs:?}")) } else { Ok(()) }
    })
    .await;
}
