//! Assembles a broker and runs it: database, keys, engine, tunnel, clouds, planner, HTTP.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use spillway_connector_api::Connector;
use spillway_connector_local::{LocalCatalogue, LocalCloud, LocalConfig};
use spillway_core::Command;
use spillway_core::command::{Endpoint, TickLimits};
use spillway_store::Store;
use spillway_tunnel::identity::DeploymentCa;
use spillway_tunnel::quic::{Listener, Timings};
use spillway_types::{DurationMs, GroupName, Role, UserName};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alerts::{self, Alerts};
use crate::clouds::Clouds;
use crate::engine::Engine;
use crate::http::{self, App};
use crate::outputs::Outputs;
use crate::secrets::{self, InstanceKey};
use crate::sessions::{Rhythm, Sessions, watch_leases};
use crate::settings::{CloudKind, CloudSettings, Settings};
use crate::{access, planner, tick};

/// File with the admin's token, made at the first start.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// File that says where a running broker listens.
pub const ENDPOINT_FILE: &str = "endpoint.json";
/// File of what was told of limits that fill up.
const ALERTS_FILE: &str = "alerts.delivered";
/// The admin's name.
const ADMIN: &str = "admin";
/// The group that is made where the settings name none, so that a first job can be submitted.
const FIRST_GROUP: &str = "everyone";
/// How long running requests and sessions have to end when the broker stops.
const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// How this program is called for the parts that run as processes of their own.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Runs an agent; `--broker` and the rest follow.
    pub agent: Vec<String>,
    /// Runs a machine of a local cloud; its folder follows.
    pub machine: Vec<String>,
}

/// What a broker tells when it is ready.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    /// URL of the HTTP API.
    pub http: String,
    /// `host:port` of the tunnel.
    pub tunnel: String,
    /// SHA-256 of the deployment's CA certificate.
    pub ca_fingerprint: String,
    /// The broker's process id.
    pub pid: u32,
    /// The admin's token, at the first start only.
    #[serde(skip)]
    pub admin_token: Option<String>,
}

/// Runs a broker until `stop`. `ready` is called once it serves.
///
/// # Errors
/// Where the database, a key, an address or a catalogue cannot be used; each error says which and what to do.
pub async fn run(
    settings: Settings,
    programs: Programs,
    stop: CancellationToken,
    ready: impl FnOnce(&Ready) + Send,
) -> anyhow::Result<()> {
    let data_dir = settings.data_dir.clone();
    fs::create_dir_all(&data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    let store = Store::open(&settings.database).await?;
    let keys = Keys::open(&data_dir)?;
    let engine = Engine::start(store, settings.policy.clone(), keys.deployment.clone()).await?;
    let ca = DeploymentCa::load_or_create(&data_dir, &keys.deployment, engine.clock().now())?;
    let ca_fingerprint = ca.fingerprint();
    engine.set_data(settings.data.clone()).await;
    engine.set_gate(access::gate(&settings.access)).await;
    declare(&engine, &settings).await?;
    let admin_token = first_admin(&engine, &data_dir).await?;

    let identity = ca.issue_server(engine.clock().now())?;
    let tunnel = Listener::bind(settings.tunnel, identity, Timings::default())?;
    let tunnel_addr = tunnel.local_addr()?;
    let http = bind_http(settings.listen).await?;
    let broker_addr = settings.advertise.clone().unwrap_or_else(|| advertised(tunnel_addr));
    let said = Ready {
        http: format!("http://{}", reachable(http.local_addr()?)),
        tunnel: broker_addr.clone(),
        ca_fingerprint: ca_fingerprint.clone(),
        pid: std::process::id(),
        admin_token,
    };

    let outputs = Arc::new(Outputs::open(&data_dir.join("outputs"))?);
    let rhythm = Rhythm { renew_every: settings.tuning.renew.0, stop: stop.clone() };
    let sessions = Sessions::new(engine.clone(), ca, keys.instance.clone(), Arc::clone(&outputs), rhythm);
    let tasks = TaskTracker::new();
    let clouds =
        Clouds::new(engine.clone(), keys.instance, keys.deployment.clone(), settings.tuning, stop.clone());
    let listings = start_clouds(&settings, &programs, &clouds, &keys.deployment, &tasks).await?;
    tasks.spawn(Arc::clone(&sessions).serve(tunnel));
    tasks.spawn(watch_leases(Arc::clone(&sessions)));
    tasks.spawn(leave_start(engine.clone(), listings, settings.tuning.start_wait.0, stop.clone()));
    let endpoint = Endpoint { broker_addr: broker_addr.clone(), ca_fingerprint: ca_fingerprint.clone() };
    tasks.spawn(planner::run(engine.clone(), endpoint, stop.clone()));
    tasks.spawn(tick::run(engine.clone(), limits(&settings), stop.clone()));
    let alerts = Alerts::start(&settings.alerts, &data_dir.join(ALERTS_FILE), engine.clock(), &tasks, &stop)?;
    tasks.spawn(alerts::watch(engine.clone(), Arc::clone(&alerts), stop.clone()));
    let app = Arc::new(App {
        engine,
        sessions,
        outputs,
        clouds: clouds.problems(),
        alerts,
        broker_addr,
        ca_fingerprint,
        database: database_kind(&settings.database).to_owned(),
    });
    tasks.spawn(serve_http(http, app, stop.clone()));
    tasks.close();

    let endpoint_file = data_dir.join(ENDPOINT_FILE);
    secrets::write_private(&endpoint_file, &serde_json::to_vec(&said)?)?;
    tracing::info!(http = %said.http, tunnel = %said.tunnel, "the broker is ready");
    ready(&said);
    stop.cancelled().await;
    fs::remove_file(&endpoint_file).ok();
    if tokio::time::timeout(STOP_GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    Ok(())
}

struct Keys {
    instance: InstanceKey,
    deployment: String,
}

impl Keys {
    /// The deployment's id and the key of its instances' tokens: made at the first start.
    fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let instance = InstanceKey::load_or_create(&data_dir.join("instance.key"))
            .context("cannot read or make the key of instances' tokens")?;
        let path = data_dir.join("deployment");
        let deployment = match fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let random = secrets::new_join_token()?;
                let id: String = secrets::hash(&random).chars().take(12).collect();
                secrets::write_private(&path, id.as_bytes())?;
                id
            }
            Err(error) => return Err(error).context("cannot read the deployment's id"),
        };
        Ok(Self { instance, deployment })
    }
}

fn limits(settings: &Settings) -> TickLimits {
    let tuning = settings.tuning;
    TickLimits { warm: tuning.warm.0, boot: tuning.boot.0, settle: tuning.settle.0 }
}

/// Declares what the settings name. A group that exists keeps the budget that was set since.
async fn declare(engine: &Engine, settings: &Settings) -> anyhow::Result<()> {
    let known = engine.read(|view| view.federation.state().groups.clone()).await?;
    let mut commands: Vec<Command> = settings.sites.iter().cloned().map(Command::DeclareSite).collect();
    commands.extend(settings.pools.iter().cloned().map(Command::DeclarePool));
    for group in &settings.groups {
        let mut group = group.clone();
        if let Some(known) = known.get(&group.name) {
            (group.budget_micros, group.budget_stated) = (known.budget_micros, known.budget_stated);
        }
        commands.push(Command::DeclareGroup(group));
    }
    if known.is_empty() && settings.groups.is_empty() {
        let name: GroupName = FIRST_GROUP.parse()?;
        let group = spillway_core::entity::Group {
            name,
            parent: None,
            weight: 1,
            priority: 0,
            budget_micros: None,
            budget_stated: None,
        };
        commands.push(Command::DeclareGroup(group));
    }
    for command in commands {
        engine.command(command).await.context("the settings cannot be put into force")?;
    }
    Ok(())
}

/// Makes the admin at the first start. Gives the token, which is stored nowhere but in a private file.
async fn first_admin(engine: &Engine, data_dir: &Path) -> anyhow::Result<Option<String>> {
    let user: UserName = ADMIN.parse()?;
    let known = engine.read(|view| !view.federation.state().users.is_empty()).await?;
    if known {
        return Ok(None);
    }
    let token = secrets::new_user_token()?;
    let groups = engine.read(|view| view.federation.state().groups.keys().cloned().collect()).await?;
    engine.command(Command::DeclareUser { user: user.clone(), role: Role::Admin, groups }).await?;
    engine.command(Command::IssueToken { user, hash: secrets::hash(&token) }).await?;
    let path = data_dir.join(ADMIN_TOKEN_FILE);
    secrets::write_private(&path, token.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(token))
}

async fn bind_http(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} (TCP): is another broker running? Choose another address with --listen")
    })
}

/// The kind of a database by its URL, without path or password.
fn database_kind(url: &str) -> &str {
    match url.split_once(':') {
        Some(("postgres" | "postgresql", _)) => "postgres",
        _ => "sqlite",
    }
}

/// What agents on other machines can dial: a wildcard address is replaced by this machine's name.
fn advertised(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}:{}", address.port())
}

/// What clients on this machine can dial.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

type Listings = Vec<tokio::sync::oneshot::Receiver<()>>;

async fn start_clouds(
    settings: &Settings,
    programs: &Programs,
    clouds: &Arc<Clouds>,
    deployment: &str,
    tasks: &TaskTracker,
) -> anyhow::Result<Listings> {
    let mut listings = vec![];
    for cloud in &settings.clouds {
        let connector = open_cloud(cloud, settings, programs, deployment)?;
        clouds
            .introduce(connector.as_ref(), &cloud.labels)
            .await
            .map_err(|problem| anyhow::anyhow!("cloud {}: {problem}", cloud.name))?;
        let (listed, listing) = tokio::sync::oneshot::channel();
        tasks.spawn(Arc::clone(clouds).drive(connector, listed));
        listings.push(listing);
    }
    Ok(listings)
}

fn open_cloud(
    cloud: &CloudSettings,
    settings: &Settings,
    programs: &Programs,
    deployment: &str,
) -> anyhow::Result<Arc<dyn Connector>> {
    match cloud.kind {
        CloudKind::Local => {
            let state_dir: PathBuf = cloud
                .state_dir
                .clone()
                .unwrap_or_else(|| settings.data_dir.join("clouds").join(cloud.name.as_str()));
            let config = LocalConfig {
                name: cloud.name.clone(),
                deployment: deployment.to_owned(),
                state_dir,
                catalogue: LocalCatalogue::read(&cloud.catalogue)?,
                agent_command: programs.agent.clone(),
                machine_command: programs.machine.clone(),
                dead_man: settings.tuning.boot.0,
            };
            Ok(Arc::new(LocalCloud::open(config)?))
        }
    }
}

/// Ends the start's waiting: when every cloud was listed, and every node that was connected is back or has been
/// silent for longer than anything of ours could run there.
async fn leave_start(engine: Engine, listings: Listings, wait: DurationMs, stop: CancellationToken) {
    let began = engine.clock().elapsed_ms();
    for listing in listings {
        tokio::select! {
            () = stop.cancelled() => return,
            result = listing => if result.is_err() { return },
        }
    }
    let longest = engine.read(longest_silence).await.unwrap_or(wait).max(wait);
    let mut modes = engine.mode_changes();
    loop {
        let awaited = match &*modes.borrow_and_update() {
            crate::Mode::Starting { awaited } => awaited.len(),
            crate::Mode::Normal | crate::Mode::Recovery { .. } => return,
        };
        let left = longest.0.saturating_sub(engine.clock().elapsed_ms().saturating_sub(began));
        if awaited == 0 || left == 0 {
            tracing::info!(missing = awaited, "the start is over: jobs are placed from now on");
            return engine.stop_awaiting();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = modes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(std::time::Duration::from_millis(left)) => {}
        }
    }
}

fn longest_silence(view: &crate::View<'_>) -> DurationMs {
    let running = view.federation.state().attempts.values().filter(|attempt| attempt.state.occupies_nodes());
    let silences =
        running.map(|attempt| spillway_types::lease::silence_until_over(attempt.lease, attempt.grace));
    silences.max().unwrap_or_default()
}

async fn serve_http(listener: TcpListener, app: Arc<App>, stop: CancellationToken) {
    if let Err(error) = http::serve(listener, app, stop.clone()).await {
        tracing::error!(%error, "HTTP is no longer served; the broker stops");
        stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_is_not_advertised() {
        assert_eq!(advertised("10.1.2.3:7879".parse().unwrap()), "10.1.2.3:7879");
        assert!(!advertised("0.0.0.0:7879".parse().unwrap()).starts_with("0.0.0.0"));
        assert_eq!(reachable("0.0.0.0:7878".parse().unwrap()).to_string(), "127.0.0.1:7878");
    }
}
