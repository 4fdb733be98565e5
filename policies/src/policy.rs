//! The policy: weights, waiting budgets and bounds, from a TOML file.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use spillway_types::DurationMs;

/// What an operator can set. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How long a job may wait for on-prem for each GPU-hour it is thought to run, in milliseconds: the
    /// compute-wait of Starburst (ATC'24).
    pub wait_per_gpu_hour_ms: u64,
    /// No job's waiting budget is below this. Read from milliseconds or a text like `10s`.
    #[serde(deserialize_with = "duration")]
    pub min_wait: DurationMs,
    /// No job's waiting budget is above this. Read from milliseconds or a text like `2d`.
    #[serde(deserialize_with = "duration")]
    pub max_wait: DurationMs,
    /// Most queued jobs that one plan looks at; the rest wait with reason `Priority`.
    pub max_jobs: usize,
    /// Most tasks that one plan starts.
    pub max_starts: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            wait_per_gpu_hour_ms: 274_000,
            min_wait: DurationMs::from_secs(10),
            max_wait: DurationMs::from_secs(48 * 3600),
            max_jobs: 2000,
            max_starts: 512,
        }
    }
}

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It does not parse, or has a field that no policy has.
    #[error("the policy does not parse: {message}")]
    Parse {
        /// Line, column and what is wrong, the field's name included.
        message: String,
    },
    /// A value that makes no sense.
    #[error("{field} = {value}: {rule}")]
    Value {
        /// The field.
        field: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
}

impl Policy {
    /// Parses a policy file. Fields that are left out have their defaults.
    ///
    /// # Errors
    /// [`PolicyError`] names the field, and for an unknown one the fields that exist.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = toml::from_str(text)
            .map_err(|error| PolicyError::Parse { message: error.to_string().trim_end().to_owned() })?;
        policy.checked()
    }

    fn checked(self) -> Result<Self, PolicyError> {
        let refused = |field, value: &dyn fmt::Display, rule| {
            Err(PolicyError::Value { field, value: value.to_string(), rule })
        };
        if self.min_wait > self.max_wait {
            return refused("min_wait", &self.min_wait, "must not be above max_wait");
        }
        if self.max_jobs == 0 {
            return refused("max_jobs", &0, "must be at least 1, or nothing ever starts");
        }
        if self.max_starts == 0 {
            return refused("max_starts", &0, "must be at least 1, or nothing ever starts");
        }
        Ok(self)
    }
}

/// A duration as milliseconds or as people write it.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DurationMs, D::Error> {
    struct Either;

    impl de::Visitor<'_> for Either {
        type Value = DurationMs;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration like `10s` or `2d`, or milliseconds")
        }

        fn visit_u64<E: de::Error>(self, ms: u64) -> Result<DurationMs, E> {
            Ok(DurationMs(ms))
        }

        fn visit_i64<E: de::Error>(self, ms: i64) -> Result<DurationMs, E> {
            u64::try_from(ms).map(DurationMs).map_err(|_| E::custom(format!("{ms} is negative")))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<DurationMs, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Either)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_policy_is_the_default() {
        let shipped = Policy::from_toml(include_str!("../examples/default.toml")).unwrap();
        assert_eq!(shipped, Policy::default());
        assert_eq!(Policy::from_toml("").unwrap(), Policy::default());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let policy = Policy { min_wait: DurationMs(1), max_starts: 7, ..Policy::default() };
        assert_eq!(Policy::from_toml(&toml::to_string(&policy).unwrap()).unwrap(), policy);
    }

    #[test]
    fn wrong_policies_are_refused_by_name() {
        for (text, named) in [
            ("max_job = 3", "max_job"),
            ("max_job = 3", "max_starts"),
            ("min_wait = \"soon\"", "soon"),
            ("min_wait = -1", "negative"),
            ("max_wait = \"5s\"", "min_wait = 10s"),
            ("max_jobs = 0", "max_jobs = 0"),
            ("max_starts = 0", "max_starts = 0"),
            ("max_jobs = \"many\"", "max_jobs"),
        ] {
            let error = Policy::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
