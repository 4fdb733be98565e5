//! Money and people: users and spend.

use spillway_api::Client;
use spillway_api::v1::{SpendQuery, TokenRequest, UserRequest, parse_spend_by};

use crate::args::{SpendArgs, UsersArgs, UsersCommand};
use crate::failure::Failure;
use crate::output::Output;
use crate::render::account as render;

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

pub(super) async fn spend(client: &Client, args: SpendArgs, output: &mut Output) -> Result<u8, Failure> {
    parse_spend_by(&args.by)?;
    let report = client.spend(&SpendQuery { by: Some(args.by) }).await?;
    output.show(&report, render::spend);
    if report.total != report.ledger_total || report.imbalance_micros != 0 {
        output.talk(&format!(
            "warning: the ledger says {}, and its accounts sum to {} micros: this is a defect, please report it",
            report.ledger_total, report.imbalance_micros
        ));
    }
    Ok(0)
}
