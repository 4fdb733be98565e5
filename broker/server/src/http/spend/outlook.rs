//! Budget, holds and forecast of groups, for the month that goes on.

use super::{
    Account, Api, BTreeMap, BTreeSet, Day, Failure, GroupName, ReportBy, SpendAsked, SpendKey, State, Told,
    UnixMs, Zone, by_day,
};
use spillway_api::v1::{BudgetWindow, Outlook};
use spillway_ledger::anomaly::Days;
use spillway_ledger::calendar::Period;
use spillway_ledger::forecast::{HISTORY_WEEKS, forecast};
use spillway_ledger::limits::{LimitId, Metric, Scope};
use spillway_ledger::window::Window;

/// What the outlook of each group is made of.
#[derive(Debug, Default)]
pub(super) struct Outlooks {
    /// When it was read; none where the report has no row of a group alone.
    now: Option<UnixMs>,
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
    Ok(Outlooks { now: Some(now), days })
}

/// The budget of a group for each month, or else the one for all time, in micros.
fn budget(state: &State, group: &GroupName, now: UnixMs) -> Option<(i64, BudgetWindow)> {
    let standings = state.limits.standings(group, now);
    let monthly = standings.iter().find(|standing| {
        let LimitId { metric, scope, window, .. } = &standing.limit.id;
        (metric, scope, window) == (&Metric::Money, &Scope::Everywhere, &Window::Month)
    });
    let always = || state.book.group(group)?.limit_micros;
    match monthly {
        Some(standing) => Some((standing.nominal, BudgetWindow::Month)),
        None => always().map(|micros| (micros, BudgetWindow::Always)),
    }
}

impl Outlooks {
    /// Whether a group has a row although nothing was charged: it has a budget, or holds something.
    pub(super) fn is_expected(&self, group: &GroupName, state: &State) -> bool {
        let budget = self.now.and_then(|now| budget(state, group, now));
        budget.is_some() || state.book.balance(&Account::Held(group.clone())) != 0
    }

    /// The outlook of a row with these keys; none where it is not a group's, or of a month that is over.
    pub(super) fn of(&self, by: &[SpendKey], keys: &[String], told: &Told, state: &State) -> Option<Outlook> {
        let now = self.now?;
        let (today, month) = (Day::of(now), Period::of(now, &Zone::utc()));
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
        let budget = budget(state, &group, now);
        Some(Outlook {
            budget: budget.map(|(micros, _)| told.today(micros)),
            budget_window: budget.map(|(_, window)| window),
            committed: told.today(committed),
            forecast: told.today(expected.total_micros),
            method: expected.method,
        })
    }
}
