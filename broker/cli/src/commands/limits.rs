//! What groups may use: the tree, limits, budgets, transfers, fair shares.

use spillway_api::v1::{
    GroupChange, GroupRequest, GroupView, LimitRequest, LimitView, Page, TransferRequest,
};
use spillway_api::{ApiError, Client, ClientError};
use spillway_ledger::limits::{Action, Metric, Scope};
use spillway_ledger::window::Window;
use spillway_types::{GroupName, Money};

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
        Some(GroupsCommand::Create { name, parent, rank: RankArgs { weight, priority }, budget }) => {
            let request = GroupRequest { name, parent, weight, priority, budget };
            output.show(&client.create_group(&request).await?, account::group);
        }
        Some(GroupsCommand::Set { name, parent, rank: RankArgs { weight, priority }, zone }) => {
            let top = parent.as_ref().is_some_and(|parent| parent.as_str() == "none");
            let parent = parent.filter(|_| !top);
            let change = GroupChange { parent, top, weight, priority, zone };
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
            let nominal = amount_or_none(&metric, &amount)?;
            let part = |argument: &str, text: Option<String>| {
                text.map(|text| read_amount(argument, &metric, &text)).transpose()
            };
            let (borrow, lend) = (part("--borrow", borrow)?, part("--lend", lend)?);
            let (scope, window) = which.of(&metric);
            let request = request(group, metric.clone(), (scope, window), nominal, when);
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
    nominal: Option<i64>,
    when: WhenReachedArgs,
) -> LimitRequest {
    let WhenReachedArgs { action, alert: mut thresholds, priority } = when;
    thresholds.sort_unstable();
    let (borrow, lend) = (None, None);
    LimitRequest { group, metric, scope, window, nominal, borrow, lend, action, thresholds, priority }
}

fn read_amount(argument: &str, metric: &Metric, text: &str) -> Result<i64, Failure> {
    metric.parse_amount(text).map_err(|error| Failure::usage(argument, text, error.to_string()))
}

fn amount_or_none(metric: &Metric, text: &str) -> Result<Option<i64>, Failure> {
    if text == "none" {
        return Ok(None);
    }
    let amount = metric.parse_amount(text);
    amount.map(Some).map_err(|error| Failure::usage("AMOUNT", text, format!("{error}; `none` takes it away")))
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

/// A group's budgets: what it may spend in all, and its limits on money.
async fn budgets(client: &Client, group: GroupView) -> Result<render::Budgets, Failure> {
    let mut limits: Page<LimitView> = client.limits().await?;
    limits.items.retain(|limit| limit.group == group.name && limit.metric == Metric::Money);
    Ok(render::Budgets { group, limits: limits.items })
}

pub(super) async fn budget(client: &Client, args: BudgetArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        BudgetCommand::Show { group } => {
            let group = known_group(client, &group).await?;
            output.show(&budgets(client, group).await?, render::budgets);
        }
        BudgetCommand::Set { group, amount, window, scope, when } => {
            let amount = amount_or_none(&Metric::Money, &amount)?;
            let group = match window {
                None => {
                    only_with_a_window(&when)?;
                    client.set_budget(&group, amount.map(Money::usd_micros)).await?
                }
                Some(window) => {
                    let request = request(group.clone(), Metric::Money, (scope, window), amount, when);
                    client.set_limit(&request).await?;
                    known_group(client, &group).await?
                }
            };
            output.show(&budgets(client, group).await?, render::budgets);
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

    #[test]
    fn amounts_of_budgets_are_read() {
        assert_eq!(amount_or_none(&Metric::Money, "none").expect("no limit"), None);
        assert_eq!(amount_or_none(&Metric::Money, "12.50").expect("money"), Some(12_500_000));
        for wrong in ["", "lots", "-5", "1.0000001", "5 EUR"] {
            assert_eq!(amount_or_none(&Metric::Money, wrong).expect_err(wrong).exit_code(), 2);
        }
    }
}
