//! Bringing the federation up: the broker, who may use it, and the machines that join it. Everything after the
//! broker's start goes through the public API.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use spillway_api::v1::{GroupRequest, JoinTokenRequest, TokenRequest, UserRequest};
use spillway_api::{Client, Secret};
use spillway_types::{NodeState, Role};
use tokio::time::{Instant, sleep};

use super::load::TENANTS;
use super::processes::Crew;
use super::stage::{MACHINES, Machine, Stage};

/// How long the broker, and then the machines, have to come up: a loaded laptop needs a few seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What the broker writes once it serves.
#[derive(Debug, Deserialize)]
struct Endpoint {
    http: String,
}

/// A broker with its users.
#[derive(Debug)]
pub(super) struct Federation {
    /// URL of the API.
    pub http: String,
    /// The administrator.
    pub admin: Client,
    /// The user of each group.
    pub tenants: BTreeMap<&'static str, Client>,
}

/// Starts the broker and waits until it serves.
///
/// # Errors
/// It does not start, or does not serve in time.
pub(super) async fn start_broker(stage: &Stage, crew: &mut Crew) -> anyhow::Result<Federation> {
    let arguments = ["broker".into(), "--config".into(), stage.settings().into()];
    let data = ["--data-dir".into(), stage.data().into_os_string()];
    crew.start("the broker", stage.log("broker"), arguments.into_iter().chain(data), None)?;
    let patience = Patience::new("the broker to serve");
    let (endpoint, token) = loop {
        crew.check()?;
        if let Some(known) = read_endpoint(&stage.data()) {
            break known;
        }
        patience.pause("it has not said where it listens").await?;
    };
    let admin = Client::new(&endpoint.http, Some(token))?;
    admin.health().await.context("the broker does not answer")?;
    Ok(Federation { http: endpoint.http, admin, tenants: BTreeMap::new() })
}

/// None while the files are not there or not whole.
fn read_endpoint(data: &Path) -> Option<(Endpoint, Secret)> {
    let endpoint = serde_json::from_slice(&fs::read(data.join("endpoint.json")).ok()?).ok()?;
    let token = fs::read_to_string(data.join("admin.token")).ok()?;
    let token = token.trim();
    (!token.is_empty()).then(|| (endpoint, Secret::new(token)))
}

impl Federation {
    /// Makes the groups with their budgets, and a user with a token in each.
    ///
    /// # Errors
    /// The broker says no.
    pub(super) async fn admit_tenants(&mut self) -> anyhow::Result<()> {
        for tenant in TENANTS {
            let (group, user) = (tenant.group.parse()?, tenant.user.parse()?);
            let budget = Some(tenant.budget.parse()?);
            let request = GroupRequest {
                name: group,
                parent: None,
                weight: None,
                priority: None,
                budget,
                currency: None,
            };
            let group = self.admin.create_group(&request).await?.name;
            self.admin.create_user(&UserRequest { name: user, group, role: Role::Member }).await?;
            let token = self.admin.create_token(&tenant.user.parse()?, &TokenRequest::default()).await?;
            self.tenants.insert(tenant.group, Client::new(&self.http, Some(token.token))?);
        }
        Ok(())
    }

    /// Starts the agents of the machines and waits until all of them are nodes that take work.
    ///
    /// # Errors
    /// One does not start, or does not join in time.
    pub(super) async fn join_machines(&self, stage: &Stage, crew: &mut Crew) -> anyhow::Result<()> {
        for machine in MACHINES {
            self.start_agent(machine, stage, crew).await?;
        }
        let patience = Patience::new("the machines to join");
        loop {
            crew.check()?;
            let nodes = self.admin.nodes().await?.items;
            let ready = nodes.iter().filter(|node| node.state == NodeState::Ready).count();
            if ready == MACHINES.len() {
                return Ok(());
            }
            patience.pause(&format!("{ready} of {} have", MACHINES.len())).await?;
        }
    }

    async fn start_agent(&self, machine: Machine, stage: &Stage, crew: &mut Crew) -> anyhow::Result<()> {
        let request = JoinTokenRequest { site: Some(machine.site.parse()?), pool: None, ttl: None };
        let line = self.admin.create_join_token(&request).await?;
        let arguments: [OsString; 10] = [
            "agent".into(),
            "--broker".into(),
            line.broker_addr.into(),
            "--ca-fingerprint".into(),
            line.ca_fingerprint.into(),
            "--state".into(),
            stage.agent(machine.name).into(),
            "--inventory".into(),
            stage.inventory(machine.name).into(),
            "--stop-jobs-on-exit".into(),
        ];
        let name = format!("the agent of {}", machine.name);
        crew.start(&name, stage.log(machine.name), arguments, Some(&line.token))
    }
}

/// Looking again and again, with a bound.
#[derive(Debug)]
pub(super) struct Patience {
    what: &'static str,
    until: Instant,
    every: Duration,
}

impl Patience {
    fn new(what: &'static str) -> Self {
        Self::of(what, PATIENCE, LOOK_EVERY)
    }

    /// Waits for `what` for this long, looking this often.
    pub(super) fn of(what: &'static str, patience: Duration, every: Duration) -> Self {
        Self { what, until: Instant::now() + patience, every }
    }

    /// Pauses before the next look.
    ///
    /// # Errors
    /// The time is over; `status` says how far it came.
    pub(super) async fn pause(&self, status: &str) -> anyhow::Result<()> {
        if Instant::now() >= self.until {
            bail!("waited too long for {}: {status}", self.what);
        }
        sleep(self.every).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_known_when_both_files_are_whole() {
        let data = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(data.path().join(name), text).expect("a file");
        assert!(read_endpoint(data.path()).is_none());
        write("endpoint.json", r#"{"http":"http://127.0.0.1:9","tun"#);
        write("admin.token", "\n");
        assert!(read_endpoint(data.path()).is_none());
        write(
            "endpoint.json",
            r#"{"http":"http://127.0.0.1:9","tunnel":"127.0.0.1:8","ca_fingerprint":"ab","pid":1}"#,
        );
        assert!(read_endpoint(data.path()).is_none(), "there is no token yet");
        write("admin.token", "secret\n");
        let (endpoint, token) = read_endpoint(data.path()).expect("an endpoint");
        assert_eq!((endpoint.http.as_str(), token.expose()), ("http://127.0.0.1:9", "secret"));
    }

    #[tokio::test]
    async fn patience_goes_on_until_its_time_is_over_and_ends_with_the_status() {
        assert!(Patience::of("the sun", PATIENCE, Duration::ZERO).pause("dawn").await.is_ok());
        let over = Patience::of("the moon", Duration::ZERO, LOOK_EVERY);
        let error = over.pause("still dark").await.expect_err("its time is over").to_string();
        assert_eq!(error, "waited too long for the moon: still dark");
    }
}
