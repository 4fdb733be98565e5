//! The sweep: a complete listing of the provider, then the database. What lives there without an intent is
//! ended; what should live there and does not is gone. Nothing without our tag is ever touched.

use std::collections::BTreeMap;

use spillway_connector_api::ObservedInstance;
use spillway_core::Command;
use spillway_core::command::InstanceNews;
use spillway_core::entity::{GoneReason, Instance};
use spillway_types::{InstanceId, InstanceState};

use super::drive::Driver;

/// At most this many strays, or a tenth of what is listed if that is more, are ended at once: more at a time
/// means that something else is wrong, and a person has to look.
const STRAYS_AT_ONCE: usize = 3;

impl Driver {
    pub(super) async fn sweep(&mut self) -> Result<(), String> {
        let observed = self.connector.list().await.map_err(|error| error.to_string())?;
        let read = |view: &crate::engine::View<'_>| view.federation.state().journal;
        let journal = self.clouds.engine.read(read).await.map_err(|error| error.to_string())?;
        let instances = self.instances().await.map_err(|error| error.to_string())?;
        if let Some(newer) = observed.iter().find(|seen| seen.journal.is_some_and(|at| at > journal)) {
            self.clouds.engine.enter_recovery(format!(
                "{} was launched at journal entry {}, this is entry {journal}",
                newer.provider_id,
                newer.journal.unwrap_or(0)
            ));
        }
        if matches!(self.clouds.engine.mode(), crate::Mode::Recovery { .. }) {
            return Ok(());
        }
        let known: BTreeMap<InstanceId, Instance> = instances.into_iter().map(|i| (i.id, i)).collect();
        self.compare(&observed, &known).await;
        if self.clouds.engine.mode().acts() {
            self.end_strays(&observed, &known).await;
        }
        Ok(())
    }

    /// Tells the core what the listing shows of known instances.
    async fn compare(&mut self, observed: &[ObservedInstance], known: &BTreeMap<InstanceId, Instance>) {
        for instance in known.values() {
            let seen = observed.iter().find(|seen| seen.intent == Some(instance.id));
            let alive = seen.filter(|seen| seen.state.exists());
            match (instance.state, alive) {
                (InstanceState::Launching | InstanceState::Unknown, Some(seen)) => {
                    self.exists(instance.id, seen).await
                }
                (InstanceState::Booting | InstanceState::Ready | InstanceState::Draining, None) => {
                    tracing::warn!(instance = %instance.id, "it vanished at the provider");
                    self.tell(instance.id, InstanceNews::Gone(GoneReason::Vanished)).await.ok();
                }
                (InstanceState::Ready, Some(seen)) => {
                    if instance.provider_id.is_none() {
                        // Its agent was here before the provider's answer, which was never heard.
                        self.exists(instance.id, seen).await;
                    }
                    self.pass_on_interruption(instance, seen).await;
                }
                (
                    InstanceState::Intended
                    | InstanceState::Launching
                    | InstanceState::Booting
                    | InstanceState::Draining
                    | InstanceState::Terminating
                    | InstanceState::Unknown
                    | InstanceState::Gone,
                    _,
                ) => {}
            }
        }
    }

    async fn exists(&self, instance: InstanceId, seen: &ObservedInstance) {
        let news = InstanceNews::Exists { provider_id: seen.provider_id.clone(), launched: seen.launched_at };
        self.tell(instance, news).await.ok();
    }

    async fn pass_on_interruption(&mut self, instance: &Instance, seen: &ObservedInstance) {
        let (Some(left), Some(node)) = (seen.interruption, instance.node) else { return };
        if self.interrupted.insert(instance.id) {
            tracing::warn!(instance = %instance.id, %left, "the provider takes it back");
            if self.clouds.engine.command(Command::Interrupt { node }).await.is_err() {
                self.interrupted.remove(&instance.id);
            }
        }
    }

    async fn end_strays(&self, observed: &[ObservedInstance], known: &BTreeMap<InstanceId, Instance>) {
        let now = self.clouds.clock().now();
        let old = |seen: &&ObservedInstance| now.since(seen.launched_at) >= self.clouds.tuning.stray_age.0;
        let stray = |seen: &&ObservedInstance| {
            seen.state.exists()
                && seen.deployment == self.clouds.deployment
                && seen.intent.is_none_or(|intent| !known.contains_key(&intent))
        };
        let strays: Vec<&ObservedInstance> = observed.iter().filter(stray).filter(old).collect();
        if strays.len() > STRAYS_AT_ONCE.max(observed.len() / 10) {
            tracing::error!(cloud = %self.name(), strays = strays.len(), listed = observed.len(),
                "too many machines without an intent: nothing is ended until a person has looked");
            return;
        }
        for seen in strays {
            tracing::warn!(provider.id = %seen.provider_id, "a machine of ours without an intent: ended");
            if let Err(error) = self.connector.terminate(&seen.region, &seen.provider_id).await {
                tracing::warn!(provider.id = %seen.provider_id, %error, "it could not be ended; trying again with the next sweep");
            }
        }
    }
}
