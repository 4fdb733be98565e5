//! What the services need of the process: a log on standard error, and the signal to stop.

use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Starts logging to standard error, as `filter` says: a level, or directives like `spillway_server=debug,info`.
///
/// # Errors
/// [`Failure::Usage`] where the filter is none.
pub(crate) fn start(filter: &str) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Failure::usage("--log", filter, error.to_string()))?;
    let coloured = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(coloured);
    // A second start in one process leaves the first log as it is.
    drop(log.try_init());
    Ok(())
}

/// A token that is cancelled when the process is asked to stop: by SIGINT or SIGTERM.
///
/// # Errors
/// Where the system refuses a handler.
pub(crate) fn stop_signal() -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.cancel();
    });
    Ok(stop)
}
