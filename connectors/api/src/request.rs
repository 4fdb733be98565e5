//! What a launch says, and what a provider shows.

use std::fmt;

use serde::{Deserialize, Serialize};
use spillway_types::{DurationMs, InstanceId, InstanceType, Market, SiteName, UnixMs};

/// A join token. Printing it for debugging shows nothing of it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JoinToken(String);

impl JoinToken {
    /// Wraps a token.
    #[must_use]
    pub const fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself: for the machine that is to join, never for a log or an argument list.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A launch, whole and frozen: it is written before the first call, and every later call repeats it word
/// for word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// The intent: idempotency key and tag.
    pub intent: InstanceId,
    /// The deployment: a tag. It must be the connector's own.
    pub deployment: String,
    /// The journal position of the intent: a tag, so that a broker that was restored from an old copy sees
    /// that an instance is newer than itself.
    pub journal: u64,
    /// Where.
    pub region: SiteName,
    /// Which shape.
    pub instance_type: InstanceType,
    /// How it is to be bought.
    #[serde(default)]
    pub market: Market,
    /// Where the machine's agent dials, as `host:port`.
    pub broker_addr: String,
    /// What the agent pins of the broker: the SHA-256 of its CA certificate, in hexadecimal.
    pub ca_fingerprint: String,
    /// What the agent joins with: bound to the intent, one use.
    pub join_token: JoinToken,
    /// How long the machine may take until its agent has joined; the broker ends it after that.
    pub boot_timeout: DurationMs,
}

/// An instance that the provider made, now or on an earlier call with the same intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// The provider's name for it.
    pub provider_id: String,
    /// When the provider says that it was launched.
    pub launched_at: UnixMs,
}

/// An instance as the provider shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedInstance {
    /// The provider's name for it.
    pub provider_id: String,
    /// Where it is.
    pub region: SiteName,
    /// Its intent; none where the tag is missing or unreadable, which makes it a stray.
    pub intent: Option<InstanceId>,
    /// The journal position of its intent, from its tag.
    pub journal: Option<u64>,
    /// The deployment it belongs to.
    pub deployment: String,
    /// Its shape.
    pub instance_type: InstanceType,
    /// How it is.
    pub state: ObservedState,
    /// When it was launched.
    pub launched_at: UnixMs,
    /// How long until the provider takes it back, where it has said that it will.
    #[serde(default)]
    pub interruption: Option<DurationMs>,
}

/// How an instance is, by its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObservedState {
    /// It exists and does not run yet.
    Pending,
    /// It runs.
    Running,
    /// It is being ended and may still run and cost.
    Stopping,
    /// It is no more. Final.
    Gone,
}

impl ObservedState {
    /// Whether a machine may still exist.
    #[must_use]
    pub const fn exists(self) -> bool {
        !matches!(self, Self::Gone)
    }

    /// The state as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Gone => "gone",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::SequentialIds;

    #[test]
    fn a_request_round_trips_and_never_shows_its_token() {
        let request = LaunchRequest {
            intent: InstanceId::generate(&mut SequentialIds::new(1)),
            deployment: "d1".into(),
            journal: 7,
            region: "east".parse().unwrap(),
            instance_type: "big".parse().unwrap(),
            market: Market::OnDemand,
            broker_addr: "127.0.0.1:1".into(),
            ca_fingerprint: "ab".into(),
            join_token: JoinToken::new("hush".into()),
            boot_timeout: DurationMs::from_secs(60),
        };
        let stored = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<LaunchRequest>(&stored).unwrap(), request);
        let shown = format!("{request:?}");
        assert!(shown.contains("<redacted>") && !shown.contains("hush"), "{shown}");
    }
}
