//! The thin agent binary for nodes.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use spillway_agent::agent::{AgentArgs, AgentError, POWER_OFF_EXIT, run_to_end};
use tracing_subscriber::EnvFilter;

/// The agent of a Spillway node.
#[derive(Parser)]
#[command(name = "spillway-agent", version)]
struct Cli {
    #[command(flatten)]
    agent: AgentArgs,
}

fn main() -> ExitCode {
    // Before anything else: a supervisor is started for every task.
    if let Some(dir) = spillway_agent::supervisor::folder_to_supervise() {
        return spillway_agent::supervisor::supervise_main(Path::new(&dir));
    }
    match run(&Cli::parse().agent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the agent ends");
            let power_off = error.downcast_ref::<AgentError>().is_some_and(AgentError::wants_power_off);
            if power_off { ExitCode::from(POWER_OFF_EXIT) } else { ExitCode::FAILURE }
        }
    }
}

fn run(args: &AgentArgs) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(&args.log).with_context(|| format!("--log: `{}` is not a filter", args.log));
    let shown = filter.as_ref().map_or_else(|_| EnvFilter::new("info"), Clone::clone);
    tracing_subscriber::fmt().with_env_filter(shown).with_writer(std::io::stderr).init();
    filter?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(runtime.block_on(run_to_end(args))?)
}
