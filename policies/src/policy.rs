//! The policy: weights, waiting budgets and bounds, from a TOML file.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use spillway_types::{ClassName, DurationMs, GpuModel, HourlyRate};

/// Whose turn it is among groups of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// The groups take turns by what they use over their weight; the order within a group is searched.
    #[default]
    Fair,
    /// All stand in one line whose order is searched: the least cost for all together.
    Efficient,
}

/// Whether jobs may leave for clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Burst {
    /// Where waiting costs more than leaving.
    #[default]
    WhenWorth,
    /// Nothing is launched; jobs wait for nodes that are here.
    Never,
}

/// Whether capacity may be used that its provider can take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpotRule {
    /// By jobs that allow it.
    #[default]
    Allow,
    /// By none.
    Never,
}

/// Whether what runs may be stopped for the sake of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preemption {
    /// What runs, runs to its end.
    #[default]
    Never,
    /// A class that says `preempts` may take the place of a class that says `preemptible` and comes after it.
    ByClass,
}

/// Whether a job that runs in a cloud may be moved to nodes that are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComeHome {
    /// It runs where it began.
    Never,
    /// Where it writes checkpoints, and what is saved is more than what is computed again.
    #[default]
    WhenWorth,
}

/// What an operator can set. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What an hour of a job's wait is worth: a job waits for nodes that are here as long as the wait costs less
    /// than leaving for a cloud. The one knob between waiting and spending. Read from a text like `15.00`.
    #[serde(with = "price")]
    pub wait_hour_price: HourlyRate,
    /// A start so soon is waited for whatever it costs. Read from milliseconds or a text like `10s`.
    #[serde(deserialize_with = "duration")]
    pub min_wait: DurationMs,
    /// The bound that every job is promised: it starts within this, or leaves for a cloud that can take it. Read
    /// from milliseconds or a text like `2d`.
    #[serde(deserialize_with = "duration")]
    pub max_wait: DurationMs,
    /// Whose turn it is among groups of one priority.
    pub sharing: Sharing,
    /// Whether jobs may leave for clouds.
    pub burst: Burst,
    /// Whether spot capacity may be used, by jobs that allow it.
    pub spot: SpotRule,
    /// Whether what runs may be stopped for others.
    pub preemption: Preemption,
    /// Whether jobs in clouds may be moved home.
    pub come_home: ComeHome,
    /// Other terms for jobs of a class, by its name. A job without a class, or of one that is not here, has the
    /// terms above.
    pub classes: BTreeMap<ClassName, Class>,
    /// How fast accelerators are, where a job does not name its model: its estimate is for a speed of 1, a model
    /// that is not here has that speed.
    #[serde(with = "speeds")]
    pub speed: BTreeMap<GpuModel, u32>,
    /// How many other plans are tried each time a job comes or something ends off its estimate.
    pub search: u32,
    /// Most queued jobs that one plan looks at; the rest wait with reason `Priority`.
    pub max_jobs: usize,
    /// Most tasks that one plan starts.
    pub max_starts: usize,
    /// The longest that making one plan may take: what was not reached by then waits with reason `Priority` and keeps
    /// its place. Whoever asks for a plan has the clock. Read from milliseconds or a text like `5s`.
    #[serde(deserialize_with = "duration")]
    pub plan_time: DurationMs,
}

/// What is different for jobs of a class; what is left out is as for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// What an hour of a job's wait is worth.
    #[serde(default, with = "maybe_price", skip_serializing_if = "Option::is_none")]
    pub wait_hour_price: Option<HourlyRate>,
    /// The bound that a job is promised.
    #[serde(default, deserialize_with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<DurationMs>,
    /// Whether a job may leave for clouds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
    /// Whether a job may use spot capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<SpotRule>,
    /// Higher goes first; its group's priority where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Whether its jobs may take the place of jobs that run: of classes that are preemptible and of lower priority.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preempts: bool,
    /// Whether its jobs may be stopped for others, with the grace they ask for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preemptible: bool,
}

/// What holds for one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) wait_hour_price: HourlyRate,
    pub(crate) max_wait: DurationMs,
    pub(crate) burst: Burst,
    pub(crate) spot: SpotRule,
    pub(crate) priority: Option<i32>,
    pub(crate) preempts: bool,
    pub(crate) preemptible: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            wait_hour_price: HourlyRate(15_000_000),
            min_wait: DurationMs::from_secs(10),
            max_wait: DurationMs::from_secs(48 * 3600),
            sharing: Sharing::Fair,
            burst: Burst::WhenWorth,
            spot: SpotRule::Allow,
            preemption: Preemption::Never,
            come_home: ComeHome::WhenWorth,
            classes: BTreeMap::new(),
            speed: BTreeMap::new(),
            search: 60,
            max_jobs: 100_000,
            max_starts: 512,
            plan_time: DurationMs::from_secs(5),
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

    /// The policy, where its values make sense: for one that was not read by [`Self::from_toml`].
    ///
    /// # Errors
    /// [`PolicyError::Value`] names the field.
    pub fn checked(self) -> Result<Self, PolicyError> {
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
        if self.plan_time.0 == 0 {
            return refused(
                "plan_time",
                &self.plan_time,
                "must be above 0, or a long queue is never planned",
            );
        }
        Ok(self)
    }
}

impl Policy {
    /// What holds for a job of this class.
    pub(crate) fn terms(&self, class: Option<&ClassName>) -> Terms {
        let class = class.and_then(|name| self.classes.get(name)).copied().unwrap_or_default();
        Terms {
            wait_hour_price: class.wait_hour_price.unwrap_or(self.wait_hour_price),
            max_wait: class.max_wait.unwrap_or(self.max_wait),
            burst: class.burst.unwrap_or(self.burst),
            spot: class.spot.unwrap_or(self.spot),
            priority: class.priority,
            preempts: class.preempts && self.preemption == Preemption::ByClass,
            preemptible: class.preemptible && self.preemption == Preemption::ByClass,
        }
    }

    /// How fast a model is, in thousandths; none where the table does not say.
    pub(crate) fn speed_milli(&self, model: &GpuModel) -> Option<u32> {
        self.speed.get(model).copied()
    }
}

/// A price per hour as people write it.
mod price {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use spillway_types::HourlyRate;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HourlyRate, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }

    pub(super) fn serialize<S: Serializer>(rate: &HourlyRate, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(format!("{rate:.6}").trim_end_matches("/h"))
    }
}

/// A price per hour that may be left out.
mod maybe_price {
    use serde::{Deserializer, Serializer};
    use spillway_types::HourlyRate;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<HourlyRate>, D::Error> {
        super::price::deserialize(d).map(Some)
    }

    pub(super) fn serialize<S: Serializer>(rate: &Option<HourlyRate>, s: S) -> Result<S::Ok, S::Error> {
        match rate {
            Some(rate) => super::price::serialize(rate, s),
            None => s.serialize_none(),
        }
    }
}

/// A duration that may be left out.
fn maybe_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DurationMs>, D::Error> {
    duration(deserializer).map(Some)
}

/// Speeds as factors with at most three decimals, kept in thousandths.
mod speeds {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use spillway_types::GpuModel;

    /// Slowest and fastest that make sense, as factors.
    const RANGE: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<GpuModel, u32>, D::Error> {
        let factors = BTreeMap::<GpuModel, f64>::deserialize(deserializer)?;
        let milli = |(model, factor): (GpuModel, f64)| {
            if RANGE.contains(&factor) {
                Ok((model, (factor * 1000.0).round() as u32))
            } else {
                Err(de::Error::custom(format!("speed of {model} = {factor}: must be from 0.001 to 1000")))
            }
        };
        factors.into_iter().map(milli).collect()
    }

    pub(super) fn serialize<S: Serializer>(
        speeds: &BTreeMap<GpuModel, u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let factor = |(model, milli): (&GpuModel, &u32)| (model.clone(), f64::from(*milli) / 1000.0);
        speeds.iter().map(factor).collect::<BTreeMap<_, _>>().serialize(serializer)
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
    fn the_efficient_policy_differs_in_its_sharing_alone() {
        let shipped = Policy::from_toml(include_str!("../examples/efficient.toml")).unwrap();
        assert_eq!(shipped, Policy { sharing: Sharing::Efficient, ..Policy::default() });
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
            ("plan_time = 0", "plan_time = 0"),
            ("max_jobs = \"many\"", "max_jobs"),
        ] {
            let error = Policy::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
