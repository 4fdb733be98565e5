//! What the local cloud knows of one instance: the file `record.json` in its folder.

use serde::{Deserialize, Serialize};
use spillway_connector_api::{JoinToken, LaunchRequest, Launched, ObservedInstance, ObservedState};
use spillway_types::{DurationMs, NodeCapacity, UnixMs};

/// How long an instance that ended is still listed: longer than two sweeps of any broker.
pub(crate) const GONE_VISIBLE: DurationMs = DurationMs::from_secs(3600);

/// One instance. Everything that its machine process needs is in here, so that it can be started from this
/// file alone, by whoever finds it not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) provider_id: String,
    /// The launch, word for word; its token is blanked when the instance has ended.
    pub(crate) request: LaunchRequest,
    pub(crate) launched_at: UnixMs,
    /// How long it boots.
    pub(crate) boot: DurationMs,
    /// What its agent declares.
    pub(crate) capacity: NodeCapacity,
    /// The agent's program and first arguments.
    pub(crate) agent_command: Vec<String>,
    /// How long its agent may keep being killed until the machine powers off.
    pub(crate) dead_man: DurationMs,
    pub(crate) phase: Phase,
    /// When it is taken back, where that was announced.
    #[serde(default)]
    pub(crate) interrupt_at: Option<UnixMs>,
}

/// How far an instance is. Only ever moves down this list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub(crate) enum Phase {
    /// Its record is durable; its machine boots, or has yet to be started.
    Created,
    /// Its machine has started the agent.
    Running,
    /// Its processes are being ended. No new one may start.
    Stopping,
    /// None of its processes is left. Final.
    Ended {
        /// When that was seen.
        at: UnixMs,
        /// Why.
        because: String,
    },
}

impl Record {
    pub(crate) fn launched(&self) -> Launched {
        Launched { provider_id: self.provider_id.clone(), launched_at: self.launched_at }
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Marks the end, once: the first reason stays.
    pub(crate) fn end(&mut self, at: UnixMs, because: &str) {
        if !self.has_ended() {
            self.phase = Phase::Ended { at, because: because.to_owned() };
            self.request.join_token = JoinToken::default();
        }
    }

    /// What a listing shows of it at `now`; none where it ended long ago.
    pub(crate) fn observed(&self, now: UnixMs) -> Option<ObservedInstance> {
        let state = match &self.phase {
            Phase::Created => ObservedState::Pending,
            Phase::Running => ObservedState::Running,
            Phase::Stopping => ObservedState::Stopping,
            Phase::Ended { at, .. } if now.since(*at) > GONE_VISIBLE => return None,
            Phase::Ended { .. } => ObservedState::Gone,
        };
        let announced = self.interrupt_at.filter(|_| state.exists());
        Some(ObservedInstance {
            provider_id: self.provider_id.clone(),
            region: self.request.region.clone(),
            intent: Some(self.request.intent),
            journal: Some(self.request.journal),
            deployment: self.request.deployment.clone(),
            instance_type: self.request.instance_type.clone(),
            state,
            launched_at: self.launched_at,
            interruption: announced.map(|at| at.since(now)),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use spillway_types::{InstanceId, SequentialIds};

    pub(crate) fn record(provider_id: &str) -> Record {
        let request = LaunchRequest {
            intent: InstanceId::generate(&mut SequentialIds::new(1)),
            deployment: "d".into(),
            journal: 1,
            region: "east".parse().unwrap(),
            instance_type: "small".parse().unwrap(),
            market: spillway_types::Market::OnDemand,
            broker_addr: "127.0.0.1:1".into(),
            ca_fingerprint: "ab".into(),
            join_token: JoinToken::new("hush".into()),
            boot_timeout: DurationMs(1),
        };
        Record {
            provider_id: provider_id.into(),
            request,
            launched_at: UnixMs(0),
            boot: DurationMs(0),
            capacity: NodeCapacity::default(),
            agent_command: vec!["true".into()],
            dead_man: DurationMs(0),
            phase: Phase::Created,
            interrupt_at: None,
        }
    }

    #[test]
    fn an_ended_instance_is_listed_for_a_while_and_keeps_no_token() {
        let mut record = record("i-1");
        record.interrupt_at = Some(UnixMs(50));
        assert_eq!(record.observed(UnixMs(20)).unwrap().interruption, Some(DurationMs(30)));
        record.end(UnixMs(100), "terminated");
        record.end(UnixMs(200), "again");
        assert_eq!(record.phase, Phase::Ended { at: UnixMs(100), because: "terminated".into() });
        assert_eq!(record.request.join_token.expose(), "");
        let last = UnixMs(100).plus(GONE_VISIBLE);
        let gone = record.observed(last).unwrap();
        assert_eq!((gone.state, gone.interruption), (ObservedState::Gone, None));
        assert_eq!(record.observed(last.plus(DurationMs(1))), None);
    }
}
