//! `spillway agent`: the agent of this machine, until it is told to stop.

use spillway_agent::agent::{AgentArgs, run_to_end};

use crate::failure::Failure;
use crate::logging;

/// Runs the agent until it ends, or SIGINT or SIGTERM comes.
pub(super) fn run(args: &AgentArgs) -> Result<u8, Failure> {
    logging::start(&args.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(Box::pin(run_to_end(args))).map_err(anyhow::Error::from)?;
    Ok(0)
}
