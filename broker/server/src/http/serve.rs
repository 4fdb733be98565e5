//! Connections: accepted up to a bound, with limits on headers, and ended gracefully.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::App;

/// Most connections; more wait in the backlog. Each may keep [`MAX_HEADERS`] bytes busy.
const MAX_CONNECTIONS: usize = 4096;
/// Largest head of a request, in bytes.
const MAX_HEADERS: usize = 32 << 10;
/// How long a client may take for the head of a request, and how long a connection may be idle.
const HEADER_LIMIT: Duration = Duration::from_secs(60);
/// How long answers that are on their way may take at a shutdown: within what the broker gives all its tasks.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(4);
/// How long to wait after an accept failed: out of descriptors, most likely, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API at `listener` until `shutdown`. Then it accepts nothing more, ends long polls and followed
/// output, and lets other answers finish for a few seconds.
///
/// # Errors
/// Where the listener is broken.
pub async fn serve(listener: TcpListener, app: Arc<App>, shutdown: CancellationToken) -> std::io::Result<()> {
    let router = super::build(&super::share(app, shutdown.clone()));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    listener.local_addr()?;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { continue };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        connections.spawn(async move {
            converse(stream, router, shutdown).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(SHUTDOWN_LIMIT, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections are cut off: they did not end in time");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and complete: waiting to fill a packet only costs time.
            stream.set_nodelay(true).ok();
            Some((stream, slot))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn converse(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT).max_header_size(MAX_HEADERS);
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
