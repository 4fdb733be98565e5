//! What an agent is told: plain settings, resolved once.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use spillway_tunnel::quic::Timings;
use spillway_types::DurationMs;

use super::AgentError;
use crate::spool::SpoolLimits;

/// The environment variable with the join token.
const TOKEN_VARIABLE: &str = "SPILLWAY_JOIN_TOKEN";
/// Longest join token that is read, in bytes.
const MAX_TOKEN: u64 = 4096;
/// How often the usage of a running part is reported.
pub(super) const USAGE_EVERY: DurationMs = DurationMs::from_secs(10);

/// How many bytes of datasets are kept where nobody says: a node's disk in most places, and the disk's own end is heeded
/// anyway.
pub(super) const DATASET_CACHE: u64 = 1_000_000_000_000;

/// What becomes of running parts when the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExit {
    /// They go on under their supervisors until their leases end; the next agent takes them up.
    #[default]
    LeaveJobs,
    /// They are stopped and their ends written down first: for workstations and demonstrations.
    StopJobs,
}

/// A join token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(String);

impl JoinToken {
    /// The token in this text, which may have white space around it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(redacted)")
    }
}

/// Where the join token comes from. Never from the command line, which every user of a machine can read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TokenSource {
    /// `SPILLWAY_JOIN_TOKEN`.
    #[default]
    Environment,
    /// A file.
    File(PathBuf),
    /// Standard input, to its end.
    Stdin,
    /// Given by the program that the agent is part of.
    Given(JoinToken),
}

impl TokenSource {
    /// Reads the token; none where there is none.
    pub(super) fn read(&self) -> Result<Option<JoinToken>, AgentError> {
        let text = match self {
            Self::Environment => std::env::var(TOKEN_VARIABLE).ok(),
            Self::File(path) => {
                let place = path.display().to_string();
                let read = std::fs::File::open(path).and_then(read_text);
                Some(read.map_err(|source| AgentError::Token { place, source })?)
            }
            Self::Stdin => {
                let place = "standard input".to_owned();
                Some(read_text(std::io::stdin()).map_err(|source| AgentError::Token { place, source })?)
            }
            Self::Given(token) => Some(token.0.clone()),
        };
        Ok(text.map(|text| JoinToken::new(&text)).filter(|token| !token.0.is_empty()))
    }
}

fn read_text(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(MAX_TOKEN).read_to_string(&mut text)?;
    Ok(text)
}

/// What an agent is told.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The broker's tunnel address: host and port.
    pub broker: String,
    /// SHA-256 of the deployment's CA certificate in hexadecimal digits; needed to join only.
    pub ca_fingerprint: Option<String>,
    /// Where the join token comes from; needed to join only.
    pub token: TokenSource,
    /// The agent's folder.
    pub state: PathBuf,
    /// The binary that runs supervisors, as `BINARY supervise FOLDER`.
    pub supervisor: PathBuf,
    /// How often the usage of a running part is reported.
    pub usage_every: DurationMs,
    /// What becomes of running parts when the agent ends.
    pub on_exit: OnExit,
    /// Deadlines of the tunnel.
    pub timings: Timings,
    /// Sizes of the spool.
    pub spool: SpoolLimits,
    /// Most bytes of datasets that are kept for the next job.
    pub dataset_cache: u64,
}

impl AgentConfig {
    /// The settings of an agent of this binary, with everything else as usual.
    ///
    /// # Errors
    /// [`AgentError::Folder`] where the binary's own path cannot be told.
    pub fn new(broker: String, state: PathBuf) -> Result<Self, AgentError> {
        let supervisor = std::env::current_exe()
            .map_err(|source| AgentError::Folder { path: PathBuf::from("/proc/self/exe"), source })?;
        Ok(Self {
            broker,
            ca_fingerprint: None,
            token: TokenSource::default(),
            state,
            supervisor,
            usage_every: USAGE_EVERY,
            on_exit: OnExit::default(),
            timings: Timings::default(),
            spool: SpoolLimits::default(),
            dataset_cache: DATASET_CACHE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_trimmed_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "  sekret\n").unwrap();
        let token = TokenSource::File(path.clone()).read().unwrap().unwrap();
        assert_eq!(token.as_str(), "sekret");
        assert!(!format!("{:?}", TokenSource::Given(token)).contains("sekret"));
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(TokenSource::File(path).read().unwrap(), None);
        let missing = TokenSource::File(folder.path().join("none")).read().unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
