//! The agent's command line, shared by `spillway agent` and `spillway-agent`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Agent, AgentConfig, AgentError, OnExit, TokenSource};
use crate::inventory;

/// A label that is not `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--label: `{0}` must be KEY=VALUE, for example `rack=7`")]
pub struct LabelError(String);

/// Run the agent of this machine: join a pool, then run what the broker places here.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// The broker's tunnel address, as `spillway join` prints it
    #[arg(long, value_name = "HOST:PORT", env = "SPILLWAY_BROKER")]
    pub broker: String,
    /// Fingerprint of the deployment's CA, as `spillway join` prints it; needed to join only
    #[arg(long, value_name = "HEX", env = "SPILLWAY_CA_FINGERPRINT")]
    pub ca_fingerprint: Option<String>,
    /// File with the join token, `-` for standard input [default: the environment variable
    /// SPILLWAY_JOIN_TOKEN]. The token is never taken from the command line, which every user of a machine
    /// can read. Needed to join only
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// The agent's own folder: identity, running jobs, spool. One agent each [default: /var/lib/spillway-agent
    /// for root, ~/.local/state/spillway-agent for others]
    #[arg(long, value_name = "DIR", env = "SPILLWAY_AGENT_STATE")]
    pub state: Option<PathBuf>,
    /// TOML file that declares what this machine has (hostname, cpus, memory, gpus with model, count and
    /// memory, labels); what it leaves out is asked of the driver and the system
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// A label of this node, which jobs and policies can ask for; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Stop running jobs when the agent ends, instead of leaving them to the end of their leases and to the
    /// next agent
    #[arg(long)]
    pub stop_jobs_on_exit: bool,
    /// Most bytes of datasets that are kept here for later jobs, for example `500GB`; where room is short, those go that
    /// no job reads, the longest unused first [default: 1TB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub dataset_cache: Option<u64>,
    /// What is logged: a level, or `tracing` filter directives
    #[arg(long, value_name = "FILTER", default_value = "info", env = "SPILLWAY_LOG")]
    pub log: String,
}

impl AgentArgs {
    /// The settings that these arguments mean.
    ///
    /// # Errors
    /// [`AgentError::Folder`] where this binary's own path cannot be told.
    pub fn config(&self) -> Result<AgentConfig, AgentError> {
        let mut config =
            AgentConfig::new(self.broker.clone(), self.state.clone().unwrap_or_else(default_state))?;
        config.ca_fingerprint.clone_from(&self.ca_fingerprint);
        config.token = match &self.join_token_file {
            None => TokenSource::Environment,
            Some(path) if path == Path::new("-") => TokenSource::Stdin,
            Some(path) => TokenSource::File(path.clone()),
        };
        config.dataset_cache = self.dataset_cache.unwrap_or(config.dataset_cache);
        config.on_exit = if self.stop_jobs_on_exit { OnExit::StopJobs } else { OnExit::LeaveJobs };
        Ok(config)
    }

    /// The labels by name.
    ///
    /// # Errors
    /// [`LabelError`] names the first that is not `KEY=VALUE`.
    pub fn parsed_labels(&self) -> Result<BTreeMap<String, String>, LabelError> {
        let pair = |text: &String| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            Some(_) | None => Err(LabelError(text.clone())),
        };
        self.labels.iter().map(pair).collect()
    }
}

fn size(text: &str) -> Result<u64, String> {
    let size = spillway_types::data_size(text);
    size.ok_or_else(|| format!("`{text}` is not a size: write for example `500GB` or `2TiB`"))
}

fn default_state() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/spillway-agent");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    state.or_else(home).unwrap_or_default().join("spillway-agent")
}

/// Runs an agent with these arguments until it ends, SIGTERM or SIGINT comes. Logging is the caller's.
///
/// # Errors
/// [`AgentError`].
pub async fn run_to_end(args: &AgentArgs) -> Result<(), AgentError> {
    let inventory = inventory::take(args.inventory.as_deref(), &args.parsed_labels()?)?;
    let config = args.config()?;
    let state = config.state.clone();
    let agent = Agent::open(config, inventory)?;
    let shutdown = CancellationToken::new();
    let refused = |source| AgentError::Folder { path: state.clone(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let told = shutdown.clone();
    let listening = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    let outcome = Box::pin(agent.run(shutdown)).await;
    listening.abort();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        agent: AgentArgs,
    }

    fn parse(words: &[&str]) -> AgentArgs {
        Cli::try_parse_from([&["agent", "--broker", "b:1"], words].concat()).unwrap().agent
    }

    #[test]
    fn arguments_become_settings() {
        let args = parse(&["--join-token-file", "-", "--state", "/s", "--stop-jobs-on-exit"]);
        let config = args.config().unwrap();
        assert_eq!(config.token, TokenSource::Stdin);
        assert_eq!((config.state, config.on_exit), (PathBuf::from("/s"), OnExit::StopJobs));
        let config = parse(&["--join-token-file", "t"]).config().unwrap();
        assert_eq!((config.token, config.on_exit), (TokenSource::File("t".into()), OnExit::LeaveJobs));
        assert_eq!(parse(&[]).config().unwrap().token, TokenSource::Environment);
    }

    #[test]
    fn the_cache_has_a_size() {
        assert_eq!(parse(&["--dataset-cache", "1.5GB"]).config().unwrap().dataset_cache, 1_500_000_000);
        assert_eq!(parse(&[]).config().unwrap().dataset_cache, 1_000_000_000_000);
        let error = Cli::try_parse_from(["agent", "--broker", "b:1", "--dataset-cache", "much"]);
        assert!(error.map(|_| ()).unwrap_err().to_string().contains("`much` is not a size"));
    }

    #[test]
    fn labels_are_pairs() {
        let labels = parse(&["--label", "a=b=c", "--label", "d="]).parsed_labels().unwrap();
        assert_eq!((labels["a"].as_str(), labels["d"].as_str()), ("b=c", ""));
        for wrong in ["x", "=x"] {
            let error = parse(&["--label", wrong]).parsed_labels().unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_token_has_no_place_on_the_command_line() {
        assert!(Cli::try_parse_from(["agent", "--broker", "b:1", "--join-token", "x"]).is_err());
    }
}
