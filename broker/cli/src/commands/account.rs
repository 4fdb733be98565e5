//! People: users and their tokens.

use spillway_api::Client;
use spillway_api::v1::{TokenRequest, UserRequest};

use crate::args::{UsersArgs, UsersCommand};
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
