//! Money and people: groups, users, budgets.

use spillway_api::v1::{GroupRequest, TokenRequest, UserRequest};
use spillway_api::{ApiError, Client, ClientError};
use spillway_types::Money;

use crate::args::{BudgetArgs, GroupsArgs, GroupsCommand, UsersArgs, UsersCommand};
use crate::failure::Failure;
use crate::output::Output;
use crate::render::account as render;

pub(super) async fn groups(client: &Client, args: GroupsArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        None => output.show(&client.groups().await?, render::groups),
        Some(GroupsCommand::Create { name, parent, weight, priority, budget }) => {
            let request = GroupRequest { name, parent, weight, priority, budget };
            output.show(&client.create_group(&request).await?, render::group);
        }
    }
    Ok(0)
}

pub(super) async fn users(client: &Client, args: UsersArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        None => output.show(&client.users().await?, render::users),
        Some(UsersCommand::Create { name, group, role }) => {
            let user = client.create_user(&UserRequest { name, group, role }).await?;
            output.show(&user, render::user);
            output.talk(&format!("`spillway users token {}` makes a token", user.name));
        }
        Some(UsersCommand::Token { name, ttl }) => {
            let token = client.create_token(&name, &TokenRequest { ttl }).await?;
            output.talk("the token is shown this once; give it with SPILLWAY_TOKEN or --token-file");
            output.show(&token, render::token);
        }
    }
    Ok(0)
}

pub(super) async fn budget(client: &Client, args: BudgetArgs, output: &mut Output) -> Result<u8, Failure> {
    let group = match args.amount.as_deref().map(parse_budget).transpose()? {
        Some(budget) => client.set_budget(&args.group, budget).await?,
        None => {
            let groups = client.groups().await?;
            let found = groups.items.into_iter().find(|group| group.name == args.group);
            found.ok_or_else(|| ClientError::Api(ApiError::not_found("group", &args.group)))?
        }
    };
    output.show(&group, render::group);
    Ok(0)
}

/// Parses a budget: an amount of money, or `none` for no limit.
fn parse_budget(text: &str) -> Result<Option<Money>, Failure> {
    if text == "none" {
        return Ok(None);
    }
    let money: Money = text
        .parse()
        .map_err(|error| Failure::usage("AMOUNT", text, format!("{error}; `none` takes the limit away")))?;
    if money.micros < 0 {
        return Err(Failure::usage("AMOUNT", text, "a budget cannot be negative"));
    }
    Ok(Some(money))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_parse() {
        assert_eq!(parse_budget("none").expect("no limit"), None);
        assert_eq!(parse_budget("12.50").expect("money"), Some(Money::usd_micros(12_500_000)));
        for wrong in ["", "lots", "-5", "1.0000001"] {
            assert_eq!(parse_budget(wrong).expect_err(wrong).exit_code(), 2);
        }
    }
}
