//! The commands: each takes its arguments and a client, prints through [`Output`], and returns an exit code.

mod account;
mod agent;
mod broker;
pub(crate) mod demo;
mod fleet;
mod follow;
mod job;

use spillway_api::Client;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Environment, Settings};

/// Runs the command.
///
/// # Errors
/// [`Failure`], to be printed and turned into the exit code.
pub(crate) fn run(cli: Cli, output: &mut Output) -> Result<u8, Failure> {
    let Cli { global, command } = cli;
    let command = match command {
        Command::Broker(args) => return broker::run(*args, output),
        Command::Agent(args) => return agent::run(&args),
        Command::Demo(args) => return demo::run(&args, output),
        other => other,
    };
    let client = Settings::resolve(&global, &Environment::of_process())?.client()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(ask(&client, command, output))
}

/// The commands that ask a broker.
async fn ask(client: &Client, command: Command, output: &mut Output) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => job::run(client, *args, output).await,
        Command::Submit(args) => job::submit(client, args, output).await,
        Command::Plan(args) => job::plan(client, &args, output).await,
        Command::Jobs(args) => job::list(client, args, output).await,
        Command::Job(args) => job::show(client, &args, output).await,
        Command::Logs(args) => job::logs(client, &args, output).await,
        Command::Cancel(args) => job::cancel(client, &args, output).await,
        Command::Sites => fleet::sites(client, output).await,
        Command::Nodes => fleet::nodes(client, output).await,
        Command::Join(args) => fleet::join(client, args, output).await,
        Command::Cordon(args) => {
            fleet::change(client, &args, spillway_api::v1::NodeAction::Cordon, output).await
        }
        Command::Uncordon(args) => {
            fleet::change(client, &args, spillway_api::v1::NodeAction::Uncordon, output).await
        }
        Command::Drain(args) => {
            fleet::change(client, &args, spillway_api::v1::NodeAction::Drain, output).await
        }
        Command::Revoke(args) => {
            fleet::change(client, &args, spillway_api::v1::NodeAction::Revoke, output).await
        }
        Command::Clouds => fleet::clouds(client, output).await,
        Command::Offers(args) => fleet::offers(client, args, output).await,
        Command::Groups(args) => account::groups(client, args, output).await,
        Command::Users(args) => account::users(client, args, output).await,
        Command::Budget(args) => account::budget(client, args, output).await,
        Command::Spend(args) => account::spend(client, args, output).await,
        Command::Health => fleet::health(client, output).await,
        Command::Broker(args) => broker::run(*args, output),
        Command::Agent(args) => agent::run(&args),
        Command::Demo(args) => demo::run(&args, output),
    }
}
