//! One cloud: what its instances need done, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spillway_connector_api::{Connector, JoinToken, LaunchError, LaunchRequest, ObservedInstance};
use spillway_core::command::InstanceNews;
use spillway_core::entity::{GoneReason, Instance};
use spillway_core::{Command, Reply};
use spillway_types::{CloudName, InstanceId, InstanceState};

use super::{Clouds, boot_timeout};
use crate::crash;
use crate::engine::EngineError;

/// Whether something is left that has to be asked for again soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    Yes,
    No,
}

pub(super) struct Driver {
    pub(super) clouds: Arc<Clouds>,
    pub(super) connector: Arc<dyn Connector>,
    /// Instances being ended whose provider id is not known, and how many complete listings lacked them.
    pub(super) unseen: BTreeMap<InstanceId, u32>,
    /// Instances that an interruption was passed on for.
    pub(super) interrupted: BTreeSet<InstanceId>,
}

impl Driver {
    pub(super) const fn new(clouds: Arc<Clouds>, connector: Arc<dyn Connector>) -> Self {
        Self { clouds, connector, unseen: BTreeMap::new(), interrupted: BTreeSet::new() }
    }

    pub(super) fn name(&self) -> &CloudName {
        self.connector.name()
    }

    /// Instances of this cloud that are not gone.
    pub(super) async fn instances(&self) -> Result<Vec<Instance>, EngineError> {
        let cloud = self.name().clone();
        let read = move |view: &crate::engine::View<'_>| {
            let all = view.federation.state().instances.values();
            all.filter(|instance| instance.cloud == cloud).cloned().collect::<Vec<_>>()
        };
        self.clouds.engine.read(read).await
    }

    /// Asks for what is not as it should be.
    pub(super) async fn work(&mut self) -> Busy {
        let Ok(instances) = self.instances().await else { return Busy::No };
        let mut busy = Busy::No;
        let ending: Vec<Instance> = instances
            .iter()
            .filter(|instance| instance.state == InstanceState::Terminating)
            .cloned()
            .collect();
        for instance in instances {
            let wanted = matches!(
                instance.state,
                InstanceState::Intended | InstanceState::Launching | InstanceState::Unknown
            );
            if wanted && self.launch(&instance).await == Busy::Yes {
                busy = Busy::Yes;
            }
        }
        if !ending.is_empty() && self.end(ending).await == Busy::Yes {
            busy = Busy::Yes;
        }
        busy
    }

    async fn launch(&self, instance: &Instance) -> Busy {
        if instance.state != InstanceState::Launching
            && self.tell(instance.id, InstanceNews::Asking).await.is_err()
        {
            return Busy::No;
        }
        let request = self.request(instance);
        let answer = self.connector.launch(&request).await;
        crash::point("instance-launched");
        let news = match answer {
            Ok(launched) => {
                tracing::info!(instance = %instance.id, provider.id = %launched.provider_id, shape = %instance.instance_type, "launched");
                InstanceNews::Exists { provider_id: launched.provider_id, launched: launched.launched_at }
            }
            Err(LaunchError::NoCapacity) => {
                self.clouds.note_full(&instance.cloud, &instance.site, &instance.instance_type).await;
                InstanceNews::Gone(GoneReason::NoCapacity)
            }
            Err(LaunchError::Refused { message }) => {
                tracing::error!(instance = %instance.id, %message, "the provider refused the launch");
                self.clouds.note_full(&instance.cloud, &instance.site, &instance.instance_type).await;
                InstanceNews::Gone(GoneReason::Refused { message })
            }
            // It was launched once and has ended: there is nothing to have any more.
            Err(LaunchError::AlreadyEnded) => InstanceNews::Gone(GoneReason::Vanished),
            Err(LaunchError::Throttled { .. }) => return Busy::Yes,
            Err(LaunchError::Conflict) => {
                tracing::error!(instance = %instance.id, "the provider has another request with this intent's id; observing");
                InstanceNews::Doubt
            }
            Err(LaunchError::Ambiguous { message }) => {
                tracing::warn!(instance = %instance.id, %message, "the launch may or may not have happened; asking again, word for word");
                InstanceNews::Doubt
            }
        };
        let again = if matches!(news, InstanceNews::Doubt) { Busy::Yes } else { Busy::No };
        self.tell(instance.id, news).await.ok();
        again
    }

    fn request(&self, instance: &Instance) -> LaunchRequest {
        LaunchRequest {
            intent: instance.id,
            deployment: self.clouds.deployment.clone(),
            journal: instance.journal,
            region: instance.site.clone(),
            instance_type: instance.instance_type.clone(),
            market: instance.market,
            broker_addr: instance.broker_addr.clone(),
            ca_fingerprint: instance.ca_fingerprint.clone(),
            join_token: JoinToken::new(self.clouds.key.token(instance.id)),
            boot_timeout: boot_timeout(&self.clouds.tuning),
        }
    }

    /// Ends instances, for ever, until the provider shows them gone.
    async fn end(&mut self, ending: Vec<Instance>) -> Busy {
        for instance in &ending {
            if let Some(provider_id) = &instance.provider_id
                && let Err(error) = self.connector.terminate(&instance.site, provider_id).await
            {
                tracing::warn!(instance = %instance.id, %error, "the provider did not end it; asking again");
            }
        }
        let Ok(observed) = self.connector.list().await else { return Busy::Yes };
        let mut left = Busy::No;
        for instance in ending {
            if !self.confirm_end(&instance, &observed).await {
                left = Busy::Yes;
            }
        }
        left
    }

    /// Whether the complete listing `observed` shows that the instance is gone; ends what it shows instead.
    async fn confirm_end(&mut self, instance: &Instance, observed: &[ObservedInstance]) -> bool {
        let alive = observed.iter().find(|seen| seen.intent == Some(instance.id) && seen.state.exists());
        if let Some(seen) = alive {
            self.unseen.remove(&instance.id);
            if instance.provider_id.is_none() {
                self.connector.terminate(&seen.region, &seen.provider_id).await.ok();
            }
            return false;
        }
        // A launch whose answer was never heard may still be on its way into the listing: look twice.
        let looks = self.unseen.entry(instance.id).or_default();
        *looks += 1;
        if instance.provider_id.is_none() && *looks < 2 {
            return false;
        }
        self.unseen.remove(&instance.id);
        self.tell(instance.id, InstanceNews::Gone(GoneReason::Terminated)).await.is_ok()
    }

    pub(super) async fn tell(&self, instance: InstanceId, what: InstanceNews) -> Result<Reply, EngineError> {
        let result = self.clouds.engine.command(Command::StepInstance { instance, what }).await;
        if let Err(error) = &result {
            tracing::debug!(%instance, %error, "the news came too late");
        }
        result
    }
}
