//! What groups may use: their limits, transfers of budget, and who used how much of the own share.

use serde::{Deserialize, Serialize};
use spillway_ledger::calendar::Zone;
use spillway_ledger::limits::{Action, Metric, Scope, Transfer};
use spillway_ledger::rates::Stated;
use spillway_ledger::window::Window;
use spillway_types::{Currency, GroupName, UnixMs, UserName};

/// A limit and where it stands. Amounts are in the unit of its metric: hundredths of a GPU, GPU-milliseconds, or micros
/// of a currency unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitView {
    /// Whose.
    pub group: GroupName,
    /// What it counts.
    pub metric: Metric,
    /// Where.
    pub scope: Scope,
    /// Over what time: `instant`, `month`, `quarter`, or `FROM..TO`.
    #[serde(with = "window")]
    pub window: Window,
    /// How much was given.
    pub nominal: i64,
    /// The same as it was stated, where that was in another currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<Stated>,
    /// How much it is now, with what was transferred.
    pub limit: i64,
    /// What was used in its window; of accelerators at once what is in use.
    pub used: i64,
    /// What is held beside.
    pub held: i64,
    /// What is left; below 0 where it is passed, or where accelerators are borrowed.
    pub left: i64,
    /// How far it can be passed at most by what runs now, while that is asked to stop; 0 where nothing can pass it.
    #[serde(default)]
    pub overshoot: i64,
    /// How much more it may borrow; absent means all that others lend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrow: Option<i64>,
    /// How much of what it does not use others may borrow; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lend: Option<i64>,
    /// What follows when it is reached.
    pub action: Action,
    /// At how many percent somebody is told.
    #[serde(default)]
    pub thresholds: Vec<u32>,
    /// Of grants, the one with the higher priority is used first.
    #[serde(default)]
    pub priority: i32,
    /// The highest threshold that is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<u32>,
    /// Begin of its window now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UnixMs>,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UnixMs>,
}

const fn everywhere() -> Scope {
    Scope::Everywhere
}

const fn month() -> Window {
    Window::Month
}

/// Makes or changes a limit. Amounts are in the unit of the metric, as in [`LimitView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// Whose.
    pub group: GroupName,
    /// What it counts.
    pub metric: Metric,
    /// Where; everywhere where absent.
    #[serde(default = "everywhere")]
    pub scope: Scope,
    /// Over what time; each month where absent.
    #[serde(default = "month", with = "window")]
    pub window: Window,
    /// How much; null takes the limit away.
    pub nominal: Option<i64>,
    /// Of money, the currency that it is in: it is converted once, at what that is worth today. Dollars where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// How much more it may borrow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrow: Option<i64>,
    /// How much others may borrow of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lend: Option<i64>,
    /// What follows when it is reached; `drain` where absent.
    #[serde(default)]
    pub action: Action,
    /// At how many percent somebody is told.
    #[serde(default)]
    pub thresholds: Vec<u32>,
    /// Of grants, the one with the higher priority is used first.
    #[serde(default)]
    pub priority: i32,
}

/// Gives budget of one group to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// Its key: the same key with the same content is the same transfer. Made where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whose budget becomes less.
    pub from: GroupName,
    /// Whose becomes more.
    pub to: GroupName,
    /// By how much, in the metric's unit.
    pub amount: i64,
    /// What it counts.
    pub metric: Metric,
    /// Where; everywhere where absent.
    #[serde(default = "everywhere")]
    pub scope: Scope,
    /// Over what time; each month where absent.
    #[serde(default = "month", with = "window")]
    pub window: Window,
    /// The date that says in which window it counts; now where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<UnixMs>,
    /// Why.
    pub because: String,
}

/// A transfer of budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferView {
    /// Its key.
    pub key: String,
    /// Whose budget became less.
    pub from: GroupName,
    /// Whose became more.
    pub to: GroupName,
    /// What it counts.
    pub metric: Metric,
    /// By how much.
    pub amount: i64,
    /// The date that says in which window it counts.
    pub effective: UnixMs,
    /// When it was written down.
    pub recorded: UnixMs,
    /// Who asked for it.
    pub by: UserName,
    /// Why.
    pub because: String,
}

impl From<&Transfer> for TransferView {
    fn from(transfer: &Transfer) -> Self {
        let Transfer { key, from, to, amount, effective, recorded, by, because } = transfer.clone();
        let metric = from.metric;
        Self { key, from: from.group, to: to.group, metric, amount, effective, recorded, by, because }
    }
}

/// Changes a group. What is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupChange {
    /// The group above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GroupName>,
    /// No group is above it any more.
    #[serde(default)]
    pub top: bool,
    /// Share among groups of one priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Higher goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The time zone of its months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// What it is told amounts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// It is told amounts in the currency of the group above it.
    #[serde(default)]
    pub inherit_currency: bool,
}

/// What a group used of its share in the month of its zone. Shares are in millionths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FairShareView {
    /// The group.
    pub group: GroupName,
    /// The group above it.
    #[serde(default)]
    pub parent: Option<GroupName>,
    /// Its share among its siblings.
    pub weight: u32,
    /// Its part of everything.
    pub share: u64,
    /// What it and all below it used this month, in GPU-milliseconds by the weights of their classes.
    pub used_ms: u64,
    /// That, as a part of what all used.
    pub used: u64,
    /// The same, with its part of what its siblings used.
    pub effective: u64,
    /// From 0 to a million; 500,000 is exactly its share, and who has more has used less.
    pub factor: u64,
    /// What it and all below it use now, in hundredths of a GPU.
    pub in_use: i64,
}

/// Windows as one word.
mod window {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use spillway_ledger::window::Window;

    pub(super) fn serialize<S: Serializer>(window: &Window, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&window.word())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Window, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
