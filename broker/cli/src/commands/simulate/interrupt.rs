//! Ctrl-C and SIGTERM: a simulation ends at its next event, and says how to go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Whether somebody asked to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether somebody asked to end.
    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Listens from now on, in a thread of its own: a simulation never waits.
pub(super) fn listen() -> anyhow::Result<Stop> {
    let stop = Stop::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        let listen = |kind| signal(kind).context("the system refuses to tell of signals");
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
    };
    let told = stop.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(either(&mut interrupt, &mut terminate));
        told.ask();
    })?;
    Ok(stop)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
