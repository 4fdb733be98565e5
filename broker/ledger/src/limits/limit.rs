//! One limit: what it counts, where, over what time, how much, and what follows when it is reached.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use spillway_types::{GpuModel, GroupName, SiteKind, SiteName};

use super::demand::{Place, Share};
use crate::calendar::as_text;
use crate::rates::Stated;
use crate::window::Window;

/// Largest amount of a limit, in its metric's unit: sums of any 9 of them fit an `i64`, and it is 10^12 currency
/// units, 30,000 years of a thousand GPUs.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000_000;
/// Most thresholds of one limit: a person is told at so many points at most.
pub const MAX_THRESHOLDS: usize = 8;

/// What a limit counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Accelerators in use at once, in hundredths: one GPU is 100.
    ConcurrentGpus,
    /// Time of accelerators of one class, in GPU-milliseconds.
    GpuTime(GpuModel),
    /// Time of accelerators, each by the weight of its class, in GPU-milliseconds of a class of weight 100.
    NormalisedGpuTime,
    /// Money, in 10^-6 of a currency unit.
    Money,
}

/// Where use counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere.
    Everywhere,
    /// On own machines: sites on-prem and personal machines.
    OnPrem,
    /// On instances of clouds.
    Cloud,
    /// At one site.
    Site(SiteName),
    /// On one class of accelerators.
    Class(GpuModel),
}

/// What follows when a limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is told, and nothing is refused.
    Warn,
    /// No new attempt starts; what runs goes on, and its lease is extended beyond the limit.
    DenyNew,
    /// No new attempt starts, and no lease is extended: what runs is asked to save its work and stop, with its grace.
    #[default]
    Drain,
    /// Like drain, without the grace.
    Stop,
}

impl Action {
    /// Whether a new attempt is refused.
    #[must_use]
    pub const fn denies_new(self) -> bool {
        !matches!(self, Self::Warn)
    }

    /// Whether the extension of a running attempt's lease is refused.
    #[must_use]
    pub const fn denies_extension(self) -> bool {
        matches!(self, Self::Drain | Self::Stop)
    }

    /// The action as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::DenyNew => "deny-new",
            Self::Drain => "drain",
            Self::Stop => "stop",
        }
    }
}

/// Why a text is not a metric, a scope or an action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {what}")]
pub struct TermError {
    /// What was given, cut to 80 characters.
    pub value: String,
    /// What it should be, and how that is written.
    pub what: &'static str,
}

fn refused(text: &str, what: &'static str) -> TermError {
    TermError { value: text.chars().take(80).collect(), what }
}

impl FromStr for Metric {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        let what = "a metric: write `concurrent-gpus`, `gpu-time:H100`, `normalised-gpu-time` or `money`";
        match text {
            "concurrent-gpus" => Ok(Self::ConcurrentGpus),
            "normalised-gpu-time" => Ok(Self::NormalisedGpuTime),
            "money" => Ok(Self::Money),
            other => {
                let class = other.strip_prefix("gpu-time:").and_then(|class| class.parse().ok());
                class.map(Self::GpuTime).ok_or_else(|| refused(text, what))
            }
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConcurrentGpus => f.pad("concurrent-gpus"),
            Self::GpuTime(class) => f.pad(&format!("gpu-time:{class}")),
            Self::NormalisedGpuTime => f.pad("normalised-gpu-time"),
            Self::Money => f.pad("money"),
        }
    }
}

impl FromStr for Scope {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        let what = "a scope: write `everywhere`, `on-prem`, `cloud`, `site:NAME` or `class:H100`";
        let named = match text.split_once(':') {
            None => match text {
                "everywhere" => Some(Self::Everywhere),
                "on-prem" => Some(Self::OnPrem),
                "cloud" => Some(Self::Cloud),
                _ => None,
            },
            Some(("site", name)) => name.parse().ok().map(Self::Site),
            Some(("class", name)) => name.parse().ok().map(Self::Class),
            Some(_) => None,
        };
        named.ok_or_else(|| refused(text, what))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.pad("everywhere"),
            Self::OnPrem => f.pad("on-prem"),
            Self::Cloud => f.pad("cloud"),
            Self::Site(site) => f.pad(&format!("site:{site}")),
            Self::Class(class) => f.pad(&format!("class:{class}")),
        }
    }
}

impl FromStr for Action {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        let all = [Self::Warn, Self::DenyNew, Self::Drain, Self::Stop];
        let what = "an action: write `warn`, `deny-new`, `drain` or `stop`";
        all.into_iter().find(|action| action.as_str() == text).ok_or_else(|| refused(text, what))
    }
}

as_text!(Metric);
as_text!(Scope);

impl Scope {
    /// Whether use of `share` at `place` counts here.
    #[must_use]
    pub fn covers(&self, place: &Place, share: &Share) -> bool {
        match self {
            Self::Everywhere => true,
            Self::OnPrem => place.kind != SiteKind::Cloud,
            Self::Cloud => place.kind == SiteKind::Cloud,
            Self::Site(site) => *site == place.site,
            Self::Class(class) => share.class.as_ref() == Some(class),
        }
    }
}

/// Names one limit: a group has at most one of each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LimitId {
    /// Whose limit it is.
    pub group: GroupName,
    /// What it counts.
    pub metric: Metric,
    /// Where.
    pub scope: Scope,
    /// Over what time.
    pub window: Window,
}

impl fmt::Display for LimitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of group `{}`, {}, {}", self.metric, self.group, self.scope, self.window)
    }
}

/// One limit of one group. It counts what the group and all below it use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Whose, what, where and when.
    #[serde(flatten)]
    pub id: LimitId,
    /// How much, in the metric's unit. 0 on a group makes those below it one pool that lends among itself.
    pub nominal: i64,
    /// How much more than its own it may borrow from the groups beside and above it; none means all they lend.
    /// Accelerators at once only.
    #[serde(default)]
    pub borrow: Option<i64>,
    /// How much of what it does not use others may borrow; none means all. Accelerators at once only.
    #[serde(default)]
    pub lend: Option<i64>,
    /// What follows when it is reached.
    #[serde(default)]
    pub action: Action,
    /// At how many percent of it somebody is told, ascending.
    #[serde(default)]
    pub thresholds: Vec<u32>,
    /// Of grants, the one with the higher priority is used first.
    #[serde(default)]
    pub priority: i32,
    /// What was stated, where that was in another currency: `nominal` is what it was worth then. Of money only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<Stated>,
}

/// Why a limit cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit on {limit}: {field} {value} {problem}")]
pub struct LimitProblem {
    /// Which limit.
    pub limit: Box<LimitId>,
    /// The field that is wrong.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it and what to do.
    pub problem: &'static str,
}

impl Limit {
    /// Whether what it says makes sense by itself.
    ///
    /// # Errors
    /// [`LimitProblem`] naming the field.
    pub fn check(&self) -> Result<(), LimitProblem> {
        let wrong = |field, value: String, problem| {
            Err(LimitProblem { limit: Box::new(self.id.clone()), field, value, problem })
        };
        let amounts = [("nominal", Some(self.nominal)), ("borrow", self.borrow), ("lend", self.lend)];
        for (field, amount) in amounts {
            if let Some(amount) = amount.filter(|amount| !(0..=MAX_AMOUNT).contains(amount)) {
                return wrong(field, amount.to_string(), "must be 0 to 10^18");
            }
        }
        let at_once = self.id.metric == Metric::ConcurrentGpus;
        let instant = self.id.window == Window::Instant;
        if at_once != instant {
            let problem = if at_once {
                "does not fit: accelerators at once are counted at each instant, so leave the window out"
            } else {
                "does not fit: time and money are counted over a month, a quarter or a grant"
            };
            return wrong("window", self.id.window.to_string(), problem);
        }
        let lent = self.borrow.map(|amount| ("borrow", amount)).or(self.lend.map(|amount| ("lend", amount)));
        if let Some((field, amount)) = lent.filter(|_| !at_once) {
            return wrong(
                field,
                amount.to_string(),
                "does not fit: only accelerators at once are lent; transfer budget instead",
            );
        }
        if let Some(stated) = self.stated.filter(|_| self.id.metric != Metric::Money) {
            return wrong("currency", stated.amount.currency.to_string(), "does not fit: only money has one");
        }
        if let Window::Grant { from, to } = self.id.window
            && from >= to
        {
            return wrong("window", self.id.window.to_string(), "ends before it begins");
        }
        if self.priority != 0 && !matches!(self.id.window, Window::Grant { .. }) {
            return wrong(
                "priority",
                self.priority.to_string(),
                "does not fit: only grants are used in an order",
            );
        }
        if let (Metric::GpuTime(_), Scope::Class(class)) = (&self.id.metric, &self.id.scope) {
            return wrong(
                "scope",
                format!("class:{class}"),
                "says the class twice: the metric names it already",
            );
        }
        let thresholds = || format!("{:?}", self.thresholds);
        if self.thresholds.len() > MAX_THRESHOLDS {
            return wrong("thresholds", thresholds(), "are too many: give at most 8");
        }
        let ascending = self.thresholds.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || self.thresholds.iter().any(|percent| !(1..=1000).contains(percent)) {
            return wrong("thresholds", thresholds(), "must be percents from 1 to 1000, ascending");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::UnixMs;

    fn limit(metric: &str, window: Window) -> Limit {
        let id = LimitId {
            group: "vision".parse().unwrap(),
            metric: metric.parse().unwrap(),
            scope: Scope::Everywhere,
            window,
        };
        let (borrow, lend) = (None, None);
        Limit {
            id,
            nominal: 800,
            borrow,
            lend,
            action: Action::Drain,
            thresholds: vec![],
            priority: 0,
            stated: None,
        }
    }

    #[test]
    fn terms_round_trip_as_text() {
        for text in ["concurrent-gpus", "gpu-time:H100", "normalised-gpu-time", "money"] {
            assert_eq!(text.parse::<Metric>().unwrap().to_string(), text);
        }
        for text in ["everywhere", "on-prem", "cloud", "site:seoul-dgx", "class:A100"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["warn", "deny-new", "drain", "stop"] {
            assert_eq!(text.parse::<Action>().unwrap().as_str(), text);
        }
        for wrong in ["", "gpu-time", "gpu-time:", "site", "site:", "cloud:aws", "moon", "class:a b"] {
            assert!(wrong.parse::<Metric>().is_err() && wrong.parse::<Scope>().is_err(), "{wrong}");
            let error = wrong.parse::<Action>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_refused_by_field() {
        let grant = |from, to| Window::Grant { from: UnixMs(from), to: UnixMs(to) };
        let at_once = || limit("concurrent-gpus", Window::Instant);
        let money = || limit("money", Window::Month);
        let mut cases = vec![
            (limit("concurrent-gpus", Window::Month), "window"),
            (limit("money", Window::Instant), "window"),
            (limit("money", grant(5, 5)), "window"),
            (Limit { nominal: -1, ..money() }, "nominal"),
            (Limit { nominal: MAX_AMOUNT + 1, ..money() }, "nominal"),
            (Limit { borrow: Some(-1), ..at_once() }, "borrow"),
            (Limit { borrow: Some(1), ..money() }, "borrow"),
            (Limit { lend: Some(1), ..money() }, "lend"),
            (Limit { priority: 1, ..money() }, "priority"),
            (Limit { thresholds: vec![80, 80], ..money() }, "thresholds"),
            (Limit { thresholds: vec![0], ..money() }, "thresholds"),
            (Limit { thresholds: vec![1001], ..money() }, "thresholds"),
            (Limit { thresholds: (1..=9).collect(), ..money() }, "thresholds"),
        ];
        let stated: Stated = serde_json::from_str(
            r#"{"amount":{"micros":1,"currency":"EUR"},"rate":"1.05","on":"2026-03-01"}"#,
        )
        .unwrap();
        cases.push((Limit { stated: Some(stated), ..limit("gpu-time:H100", Window::Month) }, "currency"));
        let mut twice = limit("gpu-time:H100", Window::Month);
        twice.id.scope = "class:A100".parse().unwrap();
        cases.push((twice, "scope"));
        for (limit, field) in cases {
            assert_eq!(limit.check().unwrap_err().field, field, "{limit:?}");
        }
        for fine in [
            at_once(),
            Limit { borrow: Some(0), lend: Some(MAX_AMOUNT), nominal: 0, ..at_once() },
            Limit { nominal: MAX_AMOUNT, thresholds: (1..=8).collect(), ..money() },
            Limit { priority: -3, ..limit("gpu-time:H100", grant(5, 6)) },
        ] {
            assert_eq!(fine.check(), Ok(()), "{fine:?}");
        }
    }

    #[test]
    fn a_limit_round_trips_and_old_rows_are_read() {
        let limit = Limit { thresholds: vec![80, 100], ..limit("money", Window::Quarter) };
        let json = serde_json::to_string(&limit).unwrap();
        assert_eq!(serde_json::from_str::<Limit>(&json).unwrap(), limit);
        let short = r#"{"group":"a","metric":"concurrent-gpus","scope":"cloud","window":{"kind":"instant"},"nominal":8}"#;
        assert_eq!(serde_json::from_str::<Limit>(short).unwrap().action, Action::Drain);
    }
}
