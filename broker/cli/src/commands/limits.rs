//! What groups may use: the tree, limits, budgets, transfers, fair shares.

use spillway_api::v1::{
    GroupChange, GroupRequest, GroupView, LimitRequest, LimitView, Page, TransferRequest,
};
use spillway_api::{ApiError, Client, ClientError};
use spillway_ledger::limits::{Action, Metric, Scope};
use spillway_ledger::window::Window;
use spillway_types::{Currency, GroupName, Money};

use super::currency::{Converter, money};
use crate::args::limits::{
    BudgetArgs, BudgetCommand, GroupsArgs, GroupsCommand, LimitsArgs, LimitsCommand, RankArgs,
    WhenReachedArgs, WhichArgs,
};
use crate::failure::Failure;
use crate::output::Output;
use crate::render::{account, limits as render};

pub(super) async fn groups(client: &Client, args: GroupsArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        None => output.show(&client.groups().await?, account::groups),
        Some(GroupsCommand::Tree) => output.show(&client.groups().await?, render::tree),
        Some(GroupsCommand::Create { name, parent, rank, budget, currency }) => {
            let RankArgs { weight, priority } = rank;
            let budget = match budget {
                Some(text) => {
                    let usual = usual_currency(client, currency, parent.as_ref()).await?;
                    Some(money("--budget", &text, usual)?)
                }
                None => None,
            };
            let request = GroupRequest { name, parent, weight, priority, budget, currency };
            output.show(&client.create_group(&request).await?, account::group);
        }
        Some(GroupsCommand::Set { name, parent, rank: RankArgs { weight, priority }, zone, currency }) => {
            let top = parent.as_ref().is_some_and(|parent| parent.as_str() == "none");
            let parent = parent.filter(|_| !top);
            let inherit_currency = currency.as_deref() == Some("none");
            let own = currency.filter(|_| !inherit_currency);
            let currency = own.map(|code| {
                code.parse().map_err(|error| Failure::usage("--currency", &code, format!("{error}")))
            });
            let currency = currency.transpose()?;
            let change = GroupChange { parent, top, weight, priority, zone, currency, inherit_currency };
            output.show(&client.change_group(&name, &change).await?, account::group);
        }
        Some(GroupsCommand::Remove { name }) => {
            client.remove_group(&name).await?;
            output.talk(&format!("group {name} is removed"));
        }
    }
    Ok(0)
}

pub(super) async fn limits(client: &Client, args: LimitsArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command.unwrap_or(LimitsCommand::Show { group: None }) {
        LimitsCommand::Show { group } => {
            let mut page = client.limits().await?;
            if let Some(group) = &group {
                known_group(client, group).await?;
                page.items.retain(|limit| limit.group == *group);
            }
            output.show(&page, render::limits);
        }
        LimitsCommand::Set { group, metric, amount, which, borrow, lend, when } => {
            let amount = stated(client, &group, &metric, &amount).await?;
            let part = |argument: &str, text: Option<String>| {
                text.map(|text| read_amount(argument, &metric, &text)).transpose()
            };
            let (borrow, lend) = (part("--borrow", borrow)?, part("--lend", lend)?);
            let (scope, window) = which.of(&metric);
            let request = request(group, metric.clone(), (scope, window), amount, when);
            let page = client.set_limit(&LimitRequest { borrow, lend, ..request }).await?;
            output.show(&page, render::limits);
        }
    }
    Ok(0)
}

impl WhichArgs {
    fn of(self, metric: &Metric) -> (Scope, Window) {
        let usual = if *metric == Metric::ConcurrentGpus { Window::Instant } else { Window::Month };
        (self.scope, self.window.unwrap_or(usual))
    }
}

fn request(
    group: GroupName,
    metric: Metric,
    (scope, window): (Scope, Window),
    (nominal, currency): (Option<i64>, Option<Currency>),
    when: WhenReachedArgs,
) -> LimitRequest {
    let WhenReachedArgs { action, alert: mut thresholds, priority } = when;
    thresholds.sort_unstable();
    let (borrow, lend) = (None, None);
    LimitRequest {
        group,
        metric,
        scope,
        window,
        nominal,
        currency,
        borrow,
        lend,
        action,
        thresholds,
        priority,
    }
}

fn read_amount(argument: &str, metric: &Metric, text: &str) -> Result<i64, Failure> {
    metric.parse_amount(text).map_err(|error| Failure::usage(argument, text, error.to_string()))
}

/// An amount in the metric's unit, and of money the currency that it names or that the group has; no amount takes the limit
/// away.
async fn stated(
    client: &Client,
    group: &GroupName,
    metric: &Metric,
    text: &str,
) -> Result<(Option<i64>, Option<Currency>), Failure> {
    if text == "none" {
        return Ok((None, None));
    }
    match metric {
        Metric::Money => {
            let money = budget_amount(client, group, text).await?;
            Ok((Some(money.micros), (money.currency != Currency::USD).then_some(money.currency)))
        }
        Metric::ConcurrentGpus | Metric::GpuTime(_) | Metric::NormalisedGpuTime => {
            Ok((Some(read_amount("AMOUNT", metric, text)?), None))
        }
    }
}

/// Money that a group may spend. Only where it names no currency the broker is asked what the group's is.
async fn budget_amount(client: &Client, group: &GroupName, text: &str) -> Result<Money, Failure> {
    let named = money("AMOUNT", text, Currency::USD)?;
    if text.contains(|character: char| character == '$' || character.is_alphabetic()) {
        return Ok(named);
    }
    Ok(Money { currency: known_group(client, group).await?.currency, ..named })
}

/// What the group to be will be told amounts in.
async fn usual_currency(
    client: &Client,
    own: Option<Currency>,
    parent: Option<&GroupName>,
) -> Result<Currency, Failure> {
    match (own, parent) {
        (Some(own), _) => Ok(own),
        (None, Some(parent)) => Ok(known_group(client, parent).await?.currency),
        (None, None) => Ok(Currency::USD),
    }
}

/// A budget in all refuses what it has no room for, and does nothing else: what a window's limit can do is not passed
/// over in silence.
fn only_with_a_window(when: &WhenReachedArgs) -> Result<(), Failure> {
    let given = match when {
        WhenReachedArgs { alert, .. } if !alert.is_empty() => Some(("--alert", format!("{alert:?}"))),
        WhenReachedArgs { priority, .. } if *priority != 0 => Some(("--priority", priority.to_string())),
        WhenReachedArgs { action, .. } if *action != Action::default() => {
            Some(("--action", action.as_str().to_owned()))
        }
        WhenReachedArgs { .. } => None,
    };
    given.map_or(Ok(()), |(argument, value)| {
        let way_out = "a budget in all has none of that: give it a --window, or leave it out";
        Err(Failure::usage(argument, &value, way_out.to_owned()))
    })
}

async fn known_group(client: &Client, name: &GroupName) -> Result<GroupView, Failure> {
    let found = client.groups().await?.items.into_iter().find(|group| group.name == *name);
    Ok(found.ok_or_else(|| ClientError::Api(ApiError::not_found("group", name)))?)
}

/// A group's budgets: what it may spend in all, and its limits on money, at what the currency is worth today.
async fn budgets(
    client: &Client,
    mut group: GroupView,
    currency: Option<Currency>,
) -> Result<render::Budgets, Failure> {
    let mut limits: Page<LimitView> = client.limits().await?;
    limits.items.retain(|limit| limit.group == group.name && limit.metric == Metric::Money);
    let into = Converter::new(client, currency.unwrap_or(group.currency)).await?;
    for amount in [&mut group.spent, &mut group.held] {
        *amount = into.convert(*amount)?;
    }
    for amount in [&mut group.budget, &mut group.left].into_iter().flatten() {
        *amount = into.convert(*amount)?;
    }
    for limit in &mut limits.items {
        let LimitView { nominal, limit, used, held, left, overshoot, .. } = limit;
        for amount in [nominal, limit, used, held, left, overshoot] {
            *amount = into.convert(Money::usd_micros(*amount))?.micros;
        }
    }
    Ok(render::Budgets { currency: into.currency, group, limits: limits.items })
}

pub(super) async fn budget(client: &Client, args: BudgetArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        BudgetCommand::Show { group, currency } => {
            let group = known_group(client, &group).await?;
            output.show(&budgets(client, group, currency).await?, render::budgets);
        }
        BudgetCommand::Set { group, amount, window, scope, when } => {
            let amount = stated(client, &group, &Metric::Money, &amount).await?;
            let group = match window {
                None => {
                    only_with_a_window(&when)?;
                    let (micros, currency) = amount;
                    let money = |micros| Money { micros, currency: currency.unwrap_or_default() };
                    client.set_budget(&group, micros.map(money)).await?
                }
                Some(window) => {
                    let request = request(group.clone(), Metric::Money, (scope, window), amount, when);
                    client.set_limit(&request).await?;
                    known_group(client, &group).await?
                }
            };
            output.show(&budgets(client, group, None).await?, render::budgets);
        }
        BudgetCommand::Transfer { from, to, amount, window, scope, because, key } => {
            let amount = read_amount("AMOUNT", &Metric::Money, &amount)?;
            let (metric, effective) = (Metric::Money, None);
            let request =
                TransferRequest { key, from, to, amount, metric, scope, window, effective, because };
            let made = client.transfer(&request).await?;
            output.show(&Page { items: vec![made], next: None }, render::transfers);
        }
        BudgetCommand::Transfers => output.show(&client.transfers().await?, render::transfers),
    }
    Ok(0)
}

pub(super) async fn fair_share(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.fair_share().await?, render::fair_share);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_in_all_refuses_what_only_a_window_can() {
        let when = |action, alert, priority| WhenReachedArgs { action, alert, priority };
        assert!(only_with_a_window(&when(Action::Drain, vec![], 0)).is_ok());
        for wrong in
            [when(Action::Drain, vec![80], 0), when(Action::Warn, vec![], 0), when(Action::Drain, vec![], 1)]
        {
            assert_eq!(only_with_a_window(&wrong).expect_err("--window").exit_code(), 2);
        }
    }
}
