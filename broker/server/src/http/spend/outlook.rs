//! Budget, holds and forecast of groups, for the month that goes on.

use super::{
    Account, Api, BTreeMap, BTreeSet, Day, Failure, GroupName, Money, ReportBy, SpendAsked, SpendKey, State,
    Zone, by_day,
};
use spillway_api::v1::Outlook;
use spillway_ledger::anomaly::Days;
use spillway_ledger::calendar::Period;
use spillway_ledger::forecast::{HISTORY_WEEKS, forecast};

/// What the outlook of each group is made of.
#[derive(Debug, Default)]
pub(super) struct Outlooks {
    /// The day, and the month of UTC that holds it; none where the report has no row of a group alone.
    now: Option<(Day, Period)>,
    days: BTreeMap<GroupName, Days>,
}

/// Reads the spend of the last weeks by group, where the report has rows that are a group's, or a group's of a month.
pub(super) async fn read(
    api: &Api,
    asked: &SpendAsked,
    groups: Option<Vec<GroupName>>,
) -> Result<Outlooks, Failure> {
    let keys: BTreeSet<SpendKey> = asked.by.iter().copied().collect();
    let is_of_groups = [
        vec![SpendKey::Group],
        vec![SpendKey::Group, SpendKey::Month],
        vec![SpendKey::Group, SpendKey::Period],
    ];
    if !is_of_groups.into_iter().any(|wanted| keys == wanted.into_iter().collect()) {
        return Ok(Outlooks::default());
    }
    let now = api.app.engine.clock().now();
    let (today, month) = (Day::of(now), Period::of(now, &Zone::utc()));
    let first = Day::of(month.start(&Zone::utc())).min(today.plus(-7 * HISTORY_WEEKS));
    let found = by_day(api, vec![ReportBy::Group], (first, today.plus(1)), groups).await?;
    let mut days = BTreeMap::new();
    for (keys, spent) in found {
        if let Some(group) = keys.first().and_then(|group| group.parse().ok()) {
            days.insert(group, spent);
        }
    }
    Ok(Outlooks { now: Some((today, month)), days })
}

impl Outlooks {
    /// The outlook of a row with these keys; none where it is not a group's, or of a month that is over.
    pub(super) fn of(&self, by: &[SpendKey], keys: &[String], state: &State) -> Option<Outlook> {
        let (today, month) = self.now?;
        let key =
            |wanted: SpendKey| by.iter().zip(keys).find(|(key, _)| **key == wanted).map(|(_, value)| value);
        let when = key(SpendKey::Month).or_else(|| key(SpendKey::Period));
        if when.is_some_and(|when| *when != month.to_string()) {
            return None;
        }
        let group: GroupName = key(SpendKey::Group)?.parse().ok()?;
        let committed = state.book.balance(&Account::Held(group.clone()));
        let utc = Zone::utc();
        let bounds = (Day::of(month.start(&utc)), Day::of(month.end(&utc)));
        let none = Days::new();
        let expected = forecast(self.days.get(&group).unwrap_or(&none), bounds, today, committed);
        let budget = state.book.group(&group).and_then(|limit| limit.limit_micros);
        Some(Outlook {
            budget: budget.map(Money::usd_micros),
            committed: Money::usd_micros(committed),
            forecast: Money::usd_micros(expected.total_micros),
            method: expected.method,
        })
    }
}
