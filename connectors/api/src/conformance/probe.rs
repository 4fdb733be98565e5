//! What the checks are written with: calls that must succeed, and listings that are waited for.

use spillway_types::{DurationMs, InstanceId};

use super::{Check, Fault, Harness, Injection, Violation};
use crate::{Connector, LaunchRequest, Launched, ObservedInstance};

/// How often a listing is asked for while it is waited for.
const POLL: DurationMs = DurationMs(50);

pub(super) struct Probe<'a> {
    check: Check,
    pub(super) harness: &'a dyn Harness,
}

impl<'a> Probe<'a> {
    pub(super) fn new(check: Check, harness: &'a dyn Harness) -> Self {
        Self { check, harness }
    }

    pub(super) fn fail<T>(&self, problem: impl Into<String>) -> Result<T, Violation> {
        Err(Violation { check: self.check, problem: problem.into() })
    }

    pub(super) fn require(&self, holds: bool, problem: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { self.fail(problem()) }
    }

    /// A connector for the deployment under test.
    pub(super) async fn connect(&self) -> Box<dyn Connector> {
        self.harness.connect(&self.harness.request().deployment).await
    }

    pub(super) async fn inject(&self, fault: Fault) -> Injection {
        self.harness.inject(fault).await
    }

    /// A launch that must work.
    pub(super) async fn launch(
        &self,
        cloud: &dyn Connector,
        request: &LaunchRequest,
    ) -> Result<Launched, Violation> {
        match cloud.launch(request).await {
            Ok(launched) => Ok(launched),
            Err(error) => self.fail(format!("a launch that should work failed: {error}")),
        }
    }

    /// A terminate that must work.
    pub(super) async fn terminate(
        &self,
        cloud: &dyn Connector,
        request: &LaunchRequest,
        provider_id: &str,
    ) -> Result<(), Violation> {
        match cloud.terminate(&request.region, provider_id).await {
            Ok(()) => Ok(()),
            Err(error) => self.fail(format!("terminate of {provider_id} should work and failed: {error}")),
        }
    }

    /// What the listing shows of this intent and may still exist.
    pub(super) async fn living(
        &self,
        cloud: &dyn Connector,
        intent: InstanceId,
    ) -> Result<Vec<ObservedInstance>, Violation> {
        match cloud.list().await {
            Ok(all) => Ok(all.into_iter().filter(|i| i.intent == Some(intent) && i.state.exists()).collect()),
            Err(error) => self.fail(format!("a listing that should work failed: {error}")),
        }
    }

    /// Waits until the listing shows exactly one living instance of the intent; it must stay one for as
    /// long as listings lag, for a duplicate may show up late.
    pub(super) async fn exactly_one(
        &self,
        cloud: &dyn Connector,
        intent: InstanceId,
    ) -> Result<ObservedInstance, Violation> {
        self.wait_for_count(cloud, intent, Count { wanted: 1, within: self.harness.settle() }).await?;
        tokio::time::sleep(self.harness.settle().to_std()).await;
        match self.living(cloud, intent).await?.as_slice() {
            [one] => Ok(one.clone()),
            other => self.fail(format!("exactly one instance of {intent} should be listed, not {other:?}")),
        }
    }

    /// There is no living instance of the intent, and none shows up late.
    pub(super) async fn none_appears(
        &self,
        cloud: &dyn Connector,
        intent: InstanceId,
    ) -> Result<(), Violation> {
        tokio::time::sleep(self.harness.settle().to_std()).await;
        let living = self.living(cloud, intent).await?;
        self.require(living.is_empty(), || format!("no instance should live, but the listing has {living:?}"))
    }

    /// Waits until the listing proves that nothing of the intent lives.
    pub(super) async fn proven_gone(
        &self,
        cloud: &dyn Connector,
        intent: InstanceId,
    ) -> Result<(), Violation> {
        self.wait_for_count(cloud, intent, Count { wanted: 0, within: self.harness.ending() }).await
    }

    async fn wait_for_count(
        &self,
        cloud: &dyn Connector,
        intent: InstanceId,
        count: Count,
    ) -> Result<(), Violation> {
        let deadline = tokio::time::Instant::now() + count.within.to_std();
        loop {
            let living = self.living(cloud, intent).await?;
            if living.len() == count.wanted {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                let Count { wanted, within } = count;
                return self.fail(format!("after {within}, {wanted} should live, not {living:?}"));
            }
            tokio::time::sleep(POLL.to_std()).await;
        }
    }
}

/// How many should be listed, and by when.
struct Count {
    wanted: usize,
    within: DurationMs,
}
