//! Ids: newtypes over UUIDv7 printed with a prefix, and the source they come from.
//!
//! A parser refuses the wrong prefix, so that an attempt's id can never be taken for a job's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Where new ids come from. The pure crates take one as an argument; the broker has the only real one.
pub trait IdSource {
    /// The next id: unique in the deployment, growing with time.
    fn next_uuid(&mut self) -> Uuid;
}

/// Ids that count up from a seed: for simulations and tests, where the same seed must give the same ids.
#[derive(Debug, Clone)]
pub struct SequentialIds {
    seed: u64,
    next: u64,
}

impl SequentialIds {
    /// A source whose ids carry `seed` in the upper half and a counter in the lower.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, next: 1 }
    }
}

impl IdSource for SequentialIds {
    fn next_uuid(&mut self) -> Uuid {
        let uuid = Uuid::from_u64_pair(self.seed, self.next);
        self.next += 1;
        uuid
    }
}

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a {kind} id: it must look like `{prefix}_` and 32 hexadecimal digits")]
pub struct IdError {
    /// The kind that was wanted.
    pub kind: &'static str,
    /// Its prefix.
    pub prefix: &'static str,
    /// What was given.
    pub value: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The text in front of the digits.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from `ids`.
            pub fn generate(ids: &mut dyn IdSource) -> Self {
                Self(ids.next_uuid())
            }

            /// The id that wraps this UUID.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let refused = || IdError { kind: $kind, prefix: $prefix, value: text.chars().take(80).collect() };
                let digits = text.strip_prefix(concat!($prefix, "_")).ok_or_else(refused)?;
                if digits.len() != 32 {
                    return Err(refused());
                }
                Uuid::try_parse(digits).map(Self).map_err(|_| refused())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// What the user asked for.
    JobId, "job", "job"
);
id!(
    /// One try at running a task of a job on given nodes.
    AttemptId, "attempt", "att"
);
id!(
    /// One machine that runs an agent.
    NodeId, "node", "node"
);
id!(
    /// A cloud machine that a connector launches; the id of the intent, written before the launch.
    InstanceId, "instance", "inst"
);
id!(
    /// A join token's public handle; the secret itself is never stored.
    JoinTokenId, "join token", "join"
);

/// What fences every message: an effect of an older fence is refused inside the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence {
    /// Grows with every start of the broker on its database.
    pub incarnation: u64,
    /// Grows with every session of the node.
    pub epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_round_trips_and_refuses_another_kind() {
        let mut ids = SequentialIds::new(7);
        let job = JobId::generate(&mut ids);
        assert_eq!(job.to_string().parse::<JobId>(), Ok(job));
        for wrong in ["", "job_", "job_123", "att_00000000000000070000000000000001", "job-x", "job_zz"] {
            assert!(wrong.parse::<JobId>().is_err(), "{wrong}");
        }
        let error = AttemptId::generate(&mut ids).to_string().parse::<JobId>().unwrap_err();
        assert!(error.to_string().contains("is not a job id"), "{error}");
    }
}
