//! The connector: bounds every call of the provider and keeps its file work off the async threads.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use spillway_connector_api::{
    Catalogue, Connector, ConnectorError, LaunchError, LaunchRequest, Launched, ObservedInstance,
};
use spillway_types::{CloudName, DurationMs, SiteName};

use crate::LocalCatalogue;
use crate::process;
use crate::provider::{Ending, Provider};
use crate::store::{Store, StoreError};

/// Bound of every call. File work takes milliseconds; ending processes takes as long as the kernel needs.
pub const CALL_TIMEOUT: DurationMs = DurationMs::from_secs(10);

/// What a local cloud is made of.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Its name.
    pub name: CloudName,
    /// The deployment that it works for: the tag of what it launches, lists and ends. Several may share a folder.
    pub deployment: String,
    /// Where it keeps its truth. Made where it is not there, for the owner alone.
    pub state_dir: PathBuf,
    /// What it offers.
    pub catalogue: LocalCatalogue,
    /// The agent's program and its first arguments. A path must be absolute.
    pub agent_command: Vec<String>,
    /// What calls [`crate::machine_main`]: a program and its first arguments; the instance's folder is added. A
    /// path must be absolute.
    pub machine_command: Vec<String>,
    /// How long an agent may keep being killed until its machine powers off.
    pub dead_man: DurationMs,
}

/// Why a local cloud was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A command has no program, or a relative path for one, which would mean another file on each machine.
    #[error(
        "`{field}` begins with `{program}`: give an absolute path, or a name without `/` that is in PATH"
    )]
    Command {
        /// Which.
        field: &'static str,
        /// Its program.
        program: String,
    },
    /// The state folder could not be made or used.
    #[error("the local cloud's state folder is not usable")]
    State(#[source] StoreError),
}

/// A cloud on this machine.
#[derive(Debug, Clone)]
pub struct LocalCloud {
    provider: Arc<Provider>,
}

impl LocalCloud {
    /// Opens the cloud and makes its folder where it is not there. Nothing is started. Does file work, briefly.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: LocalConfig) -> Result<Self, OpenError> {
        for (field, command) in
            [("agent_command", &config.agent_command), ("machine_command", &config.machine_command)]
        {
            let program = command.first().cloned().unwrap_or_default();
            if program.is_empty() || (program.contains('/') && !program.starts_with('/')) {
                return Err(OpenError::Command { field, program });
            }
        }
        let store = Store::create(&config.state_dir).map_err(OpenError::State)?;
        let config = LocalConfig { state_dir: store.root().to_owned(), ..config };
        Ok(Self { provider: Arc::new(Provider { config, store }) })
    }

    /// Does file work on a thread for it. None means that it did not end in time, or panicked.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&Provider) -> T + Send + 'static) -> Option<T> {
        let provider = Arc::clone(&self.provider);
        let task = tokio::task::spawn_blocking(move || work(&provider));
        tokio::time::timeout(CALL_TIMEOUT.to_std(), task).await.ok()?.ok()
    }

    async fn end(&self, region: SiteName, id: String) -> Result<(), ConnectorError> {
        let timeout = || ConnectorError::Timeout { after: CALL_TIMEOUT };
        let begun = id.clone();
        let begun = self.work(move |provider| provider.begin_ending(&region, &begun));
        match begun.await.ok_or_else(timeout)?? {
            Ending::Done => Ok(()),
            Ending::Stopping => {
                process::end_all(&self.provider.store, &id).await;
                self.work(move |provider| provider.finish_ending(&id)).await.ok_or_else(timeout)?
            }
        }
    }
}

#[async_trait]
impl Connector for LocalCloud {
    fn name(&self) -> &CloudName {
        &self.provider.config.name
    }

    async fn catalogue(&self) -> Result<Catalogue, ConnectorError> {
        let answer = self.work(Provider::catalogue).await;
        answer.ok_or(ConnectorError::Timeout { after: CALL_TIMEOUT })?
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        let request = request.clone();
        let answer = self.work(move |provider| provider.launch(&request)).await;
        answer
            .ok_or_else(|| LaunchError::Ambiguous { message: format!("no answer within {CALL_TIMEOUT}") })?
    }

    async fn list(&self) -> Result<Vec<ObservedInstance>, ConnectorError> {
        let answer = self.work(Provider::list).await;
        answer.ok_or(ConnectorError::Timeout { after: CALL_TIMEOUT })?
    }

    async fn terminate(&self, region: &SiteName, provider_id: &str) -> Result<(), ConnectorError> {
        let ending = Box::pin(self.end(region.clone(), provider_id.to_owned()));
        let bounded = tokio::time::timeout(CALL_TIMEOUT.to_std(), ending).await;
        bounded.map_err(|_| ConnectorError::Timeout { after: CALL_TIMEOUT })?
    }
}
