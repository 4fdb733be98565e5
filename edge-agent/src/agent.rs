//! The agent: joins, keeps a session with the broker, and makes the node what the broker wants it to be.
//!
//! - `engine` is one task that owns all state: parts, leases, spool. It never waits for the network.
//! - `link` is one task that dials, says hello, carries messages, and dials again.
//! - A folder belongs to one agent: a lock on it refuses a second.
//!
//! When the agent ends, what runs goes on under its supervisors until the leases end, unless it is told to
//! stop it ([`OnExit`]).

mod args;
mod config;
mod engine;
mod follow;
mod link;
mod memory;
mod output;
mod report;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spillway_tunnel::identity::{EnrolmentDraft, IdentityError, NodeIdentity};
use spillway_tunnel::protocol::backoff::Backoff;
use spillway_tunnel::protocol::{EnrolRefusal, Refused};
use spillway_tunnel::quic::{EnrolError, Enrolment, enrol};
use spillway_types::Inventory;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::executor::ExecutorError;
use crate::inventory::InventoryError;
use crate::spool::SpoolError;
pub use args::{AgentArgs, LabelError, run_to_end};
pub use config::{AgentConfig, JoinToken, OnExit, TokenSource};
use engine::Engine;
use link::Link;
pub(crate) use link::random;

/// The exit code of a binary whose agent ended with an error that [`AgentError::wants_power_off`]: whoever
/// wraps the agent powers the machine off.
pub const POWER_OFF_EXIT: u8 = 10;

/// Why an agent ended although nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The folder cannot be used.
    #[error("the agent's folder {path} cannot be used")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Another agent has the folder.
    #[error("another agent uses the folder {path}: stop it, or give this one another --state folder")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// This machine is not a node yet and has no token to become one.
    #[error(
        "this machine is not a node yet and has no join token: make one with `spillway join` and give it in \
         SPILLWAY_JOIN_TOKEN or with --join-token-file"
    )]
    NoToken,
    /// The join token cannot be read.
    #[error("the join token cannot be read from {place}")]
    Token {
        /// Where it was looked for.
        place: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A token without the fingerprint of the deployment's CA.
    #[error(
        "joining needs the deployment's fingerprint: give the --ca-fingerprint that `spillway join` printed"
    )]
    NoFingerprint,
    /// Enrolment failed for good.
    #[error("this machine could not join")]
    Enrol(#[source] EnrolError),
    /// The instance that the token was made for is not wanted any more.
    #[error("the broker does not want this instance any more: {message}")]
    Unwanted {
        /// The broker's words.
        message: String,
    },
    /// The node was revoked: everything that ran here was stopped.
    #[error("the broker revoked this node: {message}")]
    Revoked {
        /// The broker's words.
        message: String,
    },
    /// Another agent has this node's identity.
    #[error(
        "another agent with this node's identity took over: {message}; a copied folder needs an identity of its own: remove it and join again"
    )]
    Superseded {
        /// The broker's words.
        message: String,
    },
    /// The broker will not have this agent.
    #[error("the broker refuses this agent for good")]
    Refused(#[source] Refused),
    /// The identity cannot be used.
    #[error("the node's identity cannot be used")]
    Identity(#[from] IdentityError),
    /// The inventory cannot be made.
    #[error("the node's inventory cannot be made")]
    Inventory(#[from] InventoryError),
    /// The spool cannot be used.
    #[error("the node's spool cannot be used")]
    Spool(#[from] SpoolError),
    /// The folder of running parts cannot be used.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// A label cannot be understood.
    #[error(transparent)]
    Label(#[from] LabelError),
}

impl AgentError {
    /// Whether a machine that exists only for the broker should be powered off now.
    #[must_use]
    pub const fn wants_power_off(&self) -> bool {
        matches!(self, Self::Unwanted { .. } | Self::Revoked { .. })
    }
}

/// One agent with its folder.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    inventory: Inventory,
    /// Held for the lock on it.
    _lock: File,
}

impl Agent {
    /// Takes the folder, making it where there is none.
    ///
    /// # Errors
    /// [`AgentError::Folder`] or [`AgentError::Locked`].
    pub fn open(config: AgentConfig, inventory: Inventory) -> Result<Self, AgentError> {
        let lock = lock(&config.state)?;
        Ok(Self { config, inventory, _lock: lock })
    }

    /// Joins if need be and works until `shutdown` is cancelled. What runs then goes on, or is stopped first,
    /// as the configuration says.
    ///
    /// # Errors
    /// [`AgentError`], where the agent cannot go on.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AgentError> {
        let Some(identity) = self.identity(&shutdown).await? else { return Ok(()) };
        tracing::info!(node.id = %identity.node(), deployment = %identity.name().deployment, "the agent starts");
        let (to_engine, from_link) = mpsc::channel(link::MESSAGES);
        let engine = Engine::open(&self.config, self.inventory, from_link)?;
        // Not the shutdown itself: the engine says when the goodbye is due.
        let goodbye = CancellationToken::new();
        let link = Link::new(self.config.broker.clone(), identity, self.config.timings, to_engine);
        let dialling = tokio::spawn(link.run(goodbye.clone()));
        let outcome = engine.run(&shutdown).await;
        goodbye.cancel();
        if let Err(error) = dialling.await {
            tracing::error!(%error, "the link ended in a panic");
        }
        outcome
    }

    /// The node's identity; nothing where the shutdown came first.
    async fn identity(&self, shutdown: &CancellationToken) -> Result<Option<NodeIdentity>, AgentError> {
        let folder = &self.config.state;
        if let Some(identity) = NodeIdentity::load(folder)? {
            return Ok(Some(identity));
        }
        let token = self.config.token.read()?.ok_or(AgentError::NoToken)?;
        let fingerprint = self.config.ca_fingerprint.as_deref().ok_or(AgentError::NoFingerprint)?;
        let draft = EnrolmentDraft::load_or_create(folder)?;
        let enrolment = Enrolment {
            broker: &self.config.broker,
            ca_fingerprint: fingerprint,
            token: token.as_str(),
            hostname: &self.inventory.hostname,
        };
        let mut backoff = Backoff::default();
        loop {
            let answer = tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                answer = enrol(&enrolment, &draft, self.config.timings) => answer,
            };
            match answer {
                Ok(identity) => {
                    identity.save(folder)?;
                    EnrolmentDraft::discard(folder)?;
                    return Ok(Some(identity));
                }
                Err(error) => {
                    let delay = backoff.after_failure(random()).to_std();
                    retry_enrolment(error, delay)?;
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(None),
                        () = tokio::time::sleep(delay) => {}
                    }
                }
            }
        }
    }
}

/// Decides whether an enrolment that failed is tried again.
fn retry_enrolment(error: EnrolError, delay: Duration) -> Result<(), AgentError> {
    match error {
        EnrolError::Refused { code: EnrolRefusal::Unwanted, message } => {
            Err(AgentError::Unwanted { message })
        }
        EnrolError::Refused { code: EnrolRefusal::Busy, .. }
        | EnrolError::Dial(_)
        | EnrolError::Tunnel(_) => {
            tracing::warn!(error = %chain(&error), ?delay, "joining did not work; it is tried again");
            Ok(())
        }
        error @ (EnrolError::Refused { .. }
        | EnrolError::Fingerprint { .. }
        | EnrolError::ForeignCa { .. }
        | EnrolError::Answer(_)
        | EnrolError::Contradiction { .. }) => Err(AgentError::Enrol(error)),
    }
}

/// An error with its causes, for one line of a log.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn lock(folder: &Path) -> Result<File, AgentError> {
    let refused = |path: &Path| {
        let path = path.to_path_buf();
        move |source| AgentError::Folder { path, source }
    };
    fs::create_dir_all(folder).map_err(refused(folder))?;
    let path = folder.join("lock");
    let file = File::create(&path).map_err(refused(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AgentError::Locked { path: folder.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(AgentError::Folder { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_agent() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let first = lock(&state).unwrap();
        let refused = lock(&state).unwrap_err();
        assert!(matches!(refused, AgentError::Locked { .. }), "{refused}");
        assert!(refused.to_string().contains("another agent uses the folder"));
        drop(first);
        assert!(lock(&state).is_ok());
    }

    #[test]
    fn only_refusals_that_can_change_are_tried_again() {
        let refused = |code| EnrolError::Refused { code, message: "no".into() };
        let now = Duration::ZERO;
        assert!(retry_enrolment(refused(EnrolRefusal::Busy), now).is_ok());
        assert!(retry_enrolment(refused(EnrolRefusal::Unwanted), now).unwrap_err().wants_power_off());
        for code in
            [EnrolRefusal::UnknownToken, EnrolRefusal::Expired, EnrolRefusal::Used, EnrolRefusal::Malformed]
        {
            let error = retry_enrolment(refused(code), now).unwrap_err();
            assert!(matches!(error, AgentError::Enrol(_)) && !error.wants_power_off());
        }
    }
}
