//! What was spent and used: by what a report is broken down, over what time, and what its rows say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_ledger::anomaly::Anomaly;
use spillway_ledger::calendar::{Day, Period, Zone, parse_instant};
use spillway_ledger::forecast::ForecastMethod;
use spillway_ledger::rollup::Unit;
use spillway_types::{Currency, GroupName, Money, UnixMs};

use crate::ApiError;
use crate::parse::nearest;

/// By what spend can be broken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpendKey {
    /// Who pays.
    Group,
    /// Who submitted.
    User,
    /// Where it ran.
    Site,
    /// On-prem, cloud or personal.
    Kind,
    /// The pool; empty where that was not noted.
    Pool,
    /// The cloud, or `on-prem`.
    Provider,
    /// The class of accelerators; empty where there were none, or where that was not noted.
    Accelerator,
    /// How a cloud's machine was bought; empty where it was not, or where that was not noted.
    Market,
    /// The job.
    Job,
    /// The data set that was read. What read several counts in each, and what read none in none.
    Dataset,
    /// The month of the books that it is in, as `2026-01`.
    Period,
    /// The month in which it was used, as `2026-01`, in the report's zone.
    Month,
    /// The week in which it was used, as `2026-W14`, in the report's zone.
    Week,
    /// The day on which it was used, as `2026-01-31`, in the report's zone.
    Day,
}

impl SpendKey {
    /// Every key.
    pub const ALL: [Self; 14] = [
        Self::Group,
        Self::User,
        Self::Site,
        Self::Kind,
        Self::Pool,
        Self::Provider,
        Self::Accelerator,
        Self::Market,
        Self::Job,
        Self::Dataset,
        Self::Period,
        Self::Month,
        Self::Week,
        Self::Day,
    ];

    /// The key as it stands in a query and in a row.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::User => "user",
            Self::Site => "site",
            Self::Kind => "kind",
            Self::Pool => "pool",
            Self::Provider => "provider",
            Self::Accelerator => "accelerator",
            Self::Market => "market",
            Self::Job => "job",
            Self::Dataset => "dataset",
            Self::Period => "period",
            Self::Month => "month",
            Self::Week => "week",
            Self::Day => "day",
        }
    }

    /// Into what it cuts time; none where it does not.
    #[must_use]
    pub const fn unit(self) -> Option<Unit> {
        match self {
            Self::Month => Some(Unit::Month),
            Self::Week => Some(Unit::Week),
            Self::Day => Some(Unit::Day),
            Self::Group
            | Self::User
            | Self::Site
            | Self::Kind
            | Self::Pool
            | Self::Provider
            | Self::Accelerator
            | Self::Market
            | Self::Job
            | Self::Dataset
            | Self::Period => None,
        }
    }
}

/// Parses `group,site`; an empty text means by group.
///
/// # Errors
/// [`ApiError`] for the field `by` where a word is no key or comes twice, or where keys do not go together.
pub fn parse_spend_by(text: &str) -> Result<Vec<SpendKey>, ApiError> {
    let mut keys = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let names = SpendKey::ALL.map(SpendKey::as_str);
        let Some(key) = SpendKey::ALL.into_iter().find(|key| key.as_str() == word) else {
            let hint = nearest(word, names).map_or_else(
                || format!("keys are: {}", names.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(ApiError::invalid("spend cannot be broken down by this")
                .field("by")
                .value(word)
                .hint(hint));
        };
        if keys.contains(&key) {
            return Err(ApiError::invalid("a key is named twice").field("by").value(text));
        }
        keys.push(key);
    }
    let apart =
        |problem: &str, hint: &str| Err(ApiError::invalid(problem).field("by").value(text).hint(hint));
    if keys.iter().filter(|key| key.unit().is_some()).count() > 1 {
        return apart("a report cuts time in one way", "name one of month, week and day");
    }
    if keys.contains(&SpendKey::Job) && keys.contains(&SpendKey::Dataset) {
        return apart("jobs and data sets are not in one report", "name `job` or `dataset`");
    }
    if keys.is_empty() {
        keys.push(SpendKey::Group);
    }
    Ok(keys)
}

/// Which report: `by=group,site&from=2026-03-01&zone=Asia/Seoul`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpendQuery {
    /// The keys, with commas between; `group` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Only what was used from then on: a day of the zone, or an instant in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only what was used before that: a day of the zone, or an instant in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only what is in this month of the books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// The time zone of days, weeks and months; UTC where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Only what was charged to this group and to those below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What amounts are told in: each day's at what that was worth on the day. The group's where absent, else dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// A query that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendAsked {
    /// The keys, in order.
    pub by: Vec<SpendKey>,
    /// The first instant.
    pub from: Option<UnixMs>,
    /// The first instant after it.
    pub to: Option<UnixMs>,
    /// The month of the books.
    pub period: Option<Period>,
    /// The zone.
    pub zone: Zone,
    /// The group.
    pub group: Option<GroupName>,
    /// The currency.
    pub currency: Option<Currency>,
}

impl SpendAsked {
    /// Into what time is cut.
    #[must_use]
    pub fn unit(&self) -> Option<Unit> {
        self.by.iter().find_map(|key| key.unit())
    }

    /// Whether the report is of all that was ever charged, each charge once.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.from.is_none()
            && self.to.is_none()
            && self.period.is_none()
            && self.group.is_none()
            && !self.by.contains(&SpendKey::Dataset)
    }
}

fn wrong(field: &str, value: &str, problem: &dyn std::fmt::Display) -> ApiError {
    ApiError::invalid(problem.to_string()).field(field).value(value)
}

/// A day as the first instant of it in the zone, or an instant.
fn bound(field: &str, text: Option<&str>, zone: &Zone) -> Result<Option<UnixMs>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(day) = text.parse::<Day>() {
        return Ok(Some(zone.start_of_day(day)));
    }
    let problem = "this is no day and no instant";
    let hint = "write a day as `2026-03-01`, or an instant in UTC as `2026-03-01T12:00:00Z`";
    parse_instant(text).map(Some).ok_or_else(|| wrong(field, text, &problem).hint(hint))
}

fn range(
    (from, to): (Option<&str>, Option<&str>),
    zone: &Zone,
) -> Result<(Option<UnixMs>, Option<UnixMs>), ApiError> {
    let (begin, end) = (bound("from", from, zone)?, bound("to", to, zone)?);
    if let (Some(begin), Some(end), Some(text)) = (begin, end, to)
        && end <= begin
    {
        let problem = format!("the time ends before it begins, at {}", from.unwrap_or_default());
        return Err(wrong("to", text, &problem).hint("`to` is the first day that is left out"));
    }
    Ok((begin, end))
}

impl SpendQuery {
    /// Reads the query.
    ///
    /// # Errors
    /// [`ApiError`] that names the field and what to write.
    pub fn asked(&self) -> Result<SpendAsked, ApiError> {
        let by = parse_spend_by(self.by.as_deref().unwrap_or_default())?;
        let zone = match self.zone.as_deref() {
            Some(text) => text.parse().map_err(|error| wrong("zone", text, &error))?,
            None => Zone::utc(),
        };
        let (from, to) = range((self.from.as_deref(), self.to.as_deref()), &zone)?;
        let period = match self.period.as_deref() {
            Some(text) => Some(text.parse().map_err(|error| wrong("period", text, &error))?),
            None => None,
        };
        let group = match self.group.as_deref() {
            Some(text) => Some(text.parse().map_err(|error| wrong("group", text, &error))?),
            None => None,
        };
        let currency = match self.currency.as_deref() {
            Some(text) => Some(text.parse().map_err(|error| wrong("currency", text, &error))?),
            None => None,
        };
        Ok(SpendAsked { by, from, to, period, zone, group, currency })
    }
}

/// What was charged, as sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// All of it.
    pub amount: Money,
    /// What the same would have cost on demand at list price; none where nothing has such a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<Money>,
    /// What was saved against that: below 0 where more was paid. Only what has a list price counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Money>,
    /// What of it was bought of a cloud and a pool of our own has a price for would have cost there; none where nothing
    /// has such a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_prem: Option<Money>,
    /// What was saved against that: below 0 where the cloud was dearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_on_prem: Option<Money>,
    /// Of the amount, what was paid beside slices: what instances cost while nothing of a job ran on them (boot, idle
    /// time, the unused share), and shares of what nobody used of a pool.
    pub overhead: Money,
    /// Of the amount, what bytes cost that left a site.
    pub egress: Money,
    /// Milliseconds of whole accelerators that were used; below 0 where more was taken back.
    pub gpu_ms: i64,
    /// What an accelerator-hour cost, everything included; none where none was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_gpu_hour: Option<Money>,
    /// The same accelerator time by the weight of its class, in milliseconds of the reference.
    #[serde(default)]
    pub normalised_ms: i64,
    /// What an hour of the reference cost, everything included; none where none was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_normalised_gpu_hour: Option<Money>,
    /// Slices of use.
    pub slices: i64,
}

impl Sums {
    /// Of nothing.
    #[must_use]
    pub const fn nothing() -> Self {
        let none = Money::usd_micros(0);
        Self {
            amount: none,
            on_demand: None,
            saved: None,
            on_prem: None,
            saved_on_prem: None,
            overhead: none,
            egress: none,
            gpu_ms: 0,
            per_gpu_hour: None,
            normalised_ms: 0,
            per_normalised_gpu_hour: None,
            slices: 0,
        }
    }
}

/// Over what time a budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetWindow {
    /// Each month.
    Month,
    /// All time.
    Always,
}

/// What else is known of a group: for the month that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// What it and all below it may spend: in the month, or else in all. None means no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Money>,
    /// Over what time that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_window: Option<BudgetWindow>,
    /// What is held for its attempts.
    pub committed: Money,
    /// What it will have spent in the month, without the groups below it.
    pub forecast: Money,
    /// How that was found.
    pub method: ForecastMethod,
}

/// What was spent for one combination of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendRow {
    /// The combination: each key that was asked for, with its value.
    pub keys: BTreeMap<String, String>,
    /// The sums.
    #[serde(flatten)]
    pub sums: Sums,
    /// Budget, holds and forecast: where a row is a group's, or a group's of the month that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
}

/// Whether the figures of a month of the books can still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum PeriodState {
    /// More can be booked into it.
    Open,
    /// Nothing is booked into it any more.
    Closed {
        /// When it was closed.
        at: UnixMs,
    },
}

/// What was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendReport {
    /// By which keys, in order.
    pub by: Vec<SpendKey>,
    /// The zone of its days, weeks and months.
    pub zone: Zone,
    /// The first instant, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UnixMs>,
    /// The first instant after it, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UnixMs>,
    /// The month of the books that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Whether its figures can still change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PeriodState>,
    /// The newest closed month of the books: what is booked into it and into those before does not change any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_through: Option<Period>,
    /// Row by row.
    pub rows: Vec<SpendRow>,
    /// What all of it comes to. That is the sum of the rows, save by data set: there it is all that was charged.
    pub total: Money,
    /// The same with everything else.
    pub sums: Sums,
    /// What the ledger says that the total is, counted another way; none where the report is of a part, or in another
    /// currency than the books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_total: Option<Money>,
    /// What the ledger's accounts sum to, in micros: always 0.
    #[serde(default)]
    pub imbalance_micros: i64,
}

/// Over which days anomalies are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnomaliesQuery {
    /// The first day; 30 days before the end where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The first day that is left out; today where absent, which is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Days that anomalies are looked for on where the query does not say.
const ANOMALY_DAYS: i64 = 30;

impl AnomaliesQuery {
    /// The days, first and the one after the last; `today` is not over.
    ///
    /// # Errors
    /// [`ApiError`] that names the field and what to write.
    pub fn days(&self, today: Day) -> Result<(Day, Day), ApiError> {
        let day = |field: &str, text: Option<&str>| match text {
            Some(text) => text.parse::<Day>().map(Some).map_err(|error| wrong(field, text, &error)),
            None => Ok(None),
        };
        let to = day("to", self.to.as_deref())?.unwrap_or(today);
        let from = day("from", self.from.as_deref())?.unwrap_or(to.plus(-ANOMALY_DAYS));
        if to <= from {
            let problem = format!("the days end before they begin, on {from}");
            let text = to.to_string();
            return Err(wrong("to", self.to.as_deref().unwrap_or(&text), &problem));
        }
        Ok((from, to))
    }
}

/// Days whose spend is out of the ordinary, by group and class of accelerators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnomaliesView {
    /// The first day that was looked at, in UTC.
    pub from: Day,
    /// The first day that was not.
    pub to: Day,
    /// What was found, in the order of group, class and day. Amounts in micros.
    pub items: Vec<Anomaly>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spend_keys_parse_in_order() {
        assert_eq!(parse_spend_by("site, group"), Ok(vec![SpendKey::Site, SpendKey::Group]));
        assert_eq!(parse_spend_by(""), Ok(vec![SpendKey::Group]));
        for key in SpendKey::ALL {
            assert_eq!(parse_spend_by(key.as_str()), Ok(vec![key]));
            assert_eq!(serde_json::to_value(key).expect("JSON"), key.as_str());
        }
        let error = parse_spend_by("group,sight").expect_err("no such key");
        assert_eq!(error.value.as_deref(), Some("sight"));
        assert!(error.hint.expect("hint").contains("site"));
        for (by, says) in [
            ("site,site", "twice"),
            ("month,day", "in one way"),
            ("week,group,month", "in one way"),
            ("job,dataset", "not in one"),
        ] {
            let error = parse_spend_by(by).expect_err(by);
            assert!(error.message.contains(says) && error.field.as_deref() == Some("by"), "{error:?}");
        }
    }

    #[test]
    fn a_query_is_read_in_its_zone() {
        let query = |from: &str, to: &str, zone: &str| SpendQuery {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            zone: Some(zone.to_owned()),
            ..SpendQuery::default()
        };
        let at = |text: &str| parse_instant(text);
        let asked = query("2026-03-01", "2026-04-01", "Asia/Seoul").asked().expect("a query");
        assert_eq!((asked.from, asked.to), (at("2026-02-28T15:00:00Z"), at("2026-03-31T15:00:00Z")));
        let asked = query("2026-03-01", "2026-03-01T00:00:01Z", "UTC").asked().expect("a query");
        assert_eq!((asked.from, asked.to), (at("2026-03-01T00:00:00Z"), at("2026-03-01T00:00:01Z")));
        assert!(SpendQuery::default().asked().expect("a query").is_whole());
        for (query, field, value) in [
            (query("2026-03-02", "2026-03-01", "UTC"), "to", "2026-03-01"),
            (query("2026-03-01", "2026-03-01", "UTC"), "to", "2026-03-01"),
            (query("March", "2026-03-01", "UTC"), "from", "March"),
            (query("2026-03-01", "2026-04-01T00:00:00+09:00", "UTC"), "to", "2026-04-01T00:00:00+09:00"),
            (query("2026-03-01", "2026-04-01", "Mars/Base"), "zone", "Mars/Base"),
        ] {
            let error = query.asked().expect_err(value);
            assert_eq!(
                (error.field.as_deref(), error.value.as_deref()),
                (Some(field), Some(value)),
                "{error:?}"
            );
        }
        let euros = SpendQuery { currency: Some("euro".to_owned()), ..SpendQuery::default() };
        assert_eq!(euros.asked().expect_err("no currency").field.as_deref(), Some("currency"));
        let part = SpendQuery { group: Some("lab".to_owned()), ..SpendQuery::default() };
        assert!(!part.asked().expect("a query").is_whole());
        let period = SpendQuery { period: Some("2026-13".to_owned()), ..SpendQuery::default() };
        assert_eq!(period.asked().expect_err("no month").field.as_deref(), Some("period"));
    }

    #[test]
    fn anomalies_are_looked_for_on_the_days_that_are_over() {
        let today: Day = "2026-03-31".parse().expect("a day");
        let days = |from: Option<&str>, to: Option<&str>| {
            AnomaliesQuery { from: from.map(str::to_owned), to: to.map(str::to_owned) }.days(today)
        };
        assert_eq!(days(None, None), Ok(("2026-03-01".parse().expect("a day"), today)));
        assert_eq!(days(Some("2026-03-31"), None).expect_err("today").field.as_deref(), Some("to"));
        assert_eq!(days(Some("soon"), None).expect_err("no day").field.as_deref(), Some("from"));
    }
}
