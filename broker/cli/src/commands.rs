//! The commands: each takes its arguments and a client, prints through [`Output`], and returns an exit code.

mod account;
mod agent;
mod broker;
mod currency;
pub(crate) mod demo;
mod fleet;
mod focus;
mod focus_export;
mod follow;
mod job;
mod ledger;
mod limits;
mod policy;
mod pools;
pub(crate) mod simulate;
mod spend;

use spillway_api::Client;
use spillway_api::v1::NodeAction;

use crate::args::{Ask, Cli, Command, Format, Serve};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Environment, Settings};

/// Runs the command.
///
/// # Errors
/// [`Failure`], to be printed and turned into the exit code.
pub(crate) fn run(cli: Cli, output: &mut Output) -> Result<u8, Failure> {
    let Cli { global, command } = cli;
    let has_csv = matches!(command, Command::Ask(Ask::Spend(_) | Ask::Usage(_) | Ask::Pools(_)));
    if global.output == Format::Csv && !has_csv {
        let problem =
            "only `spend`, `usage` and `pools` are written as CSV; this command has table, wide and json";
        return Err(Failure::usage("--output", "csv", problem));
    }
    let command = match command {
        Command::Ask(command) => command,
        Command::Serve(Serve::Broker(args)) => return broker::run(*args, output),
        Command::Serve(Serve::Agent(args)) => return agent::run(&args),
        Command::Serve(Serve::Demo(args)) => return demo::run(&args, output),
        Command::Serve(Serve::Focus(args)) => return focus::run(&args, output),
        Command::Serve(Serve::Policy(args)) => return policy::run(&args, output),
        Command::Serve(Serve::Simulate(args)) => return simulate::run(*args, output),
    };
    let client = Settings::resolve(&global, &Environment::of_process())?.client()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(ask(&client, command, output))
}

/// The commands that ask a broker.
async fn ask(client: &Client, command: Ask, output: &mut Output) -> Result<u8, Failure> {
    match command {
        Ask::Run(args) => job::run(client, *args, output).await,
        Ask::Submit(args) => job::submit(client, args, output).await,
        Ask::Plan(args) => job::plan(client, &args, output).await,
        Ask::Jobs(args) => job::list(client, args, output).await,
        Ask::Job(args) => job::show(client, &args, output).await,
        Ask::Logs(args) => job::logs(client, &args, output).await,
        Ask::Cancel(args) => job::cancel(client, &args, output).await,
        Ask::Hold(args) => job::hold(client, &args, output).await,
        Ask::Release(args) => job::release(client, &args, output).await,
        Ask::Top(args) => job::top(client, &args, output).await,
        Ask::Sites => fleet::sites(client, output).await,
        Ask::Nodes => fleet::nodes(client, output).await,
        Ask::Join(args) => fleet::join(client, args, output).await,
        Ask::Cordon(args) => fleet::change(client, &args, NodeAction::Cordon, output).await,
        Ask::Uncordon(args) => fleet::change(client, &args, NodeAction::Uncordon, output).await,
        Ask::Drain(args) => fleet::change(client, &args, NodeAction::Drain, output).await,
        Ask::Revoke(args) => fleet::change(client, &args, NodeAction::Revoke, output).await,
        Ask::Alerts => fleet::alerts(client, output).await,
        Ask::Clouds => fleet::clouds(client, output).await,
        Ask::Offers(args) => fleet::offers(client, args, output).await,
        Ask::Groups(args) => limits::groups(client, args, output).await,
        Ask::Users(args) => account::users(client, args, output).await,
        Ask::Limits(args) => limits::limits(client, args, output).await,
        Ask::Budget(args) => limits::budget(client, args, output).await,
        Ask::Fairshare => limits::fair_share(client, output).await,
        Ask::Spend(args) => spend::spend(client, args, output).await,
        Ask::Usage(args) => spend::usage(client, args, output).await,
        Ask::Ledger(args) => ledger::ledger(client, args, output).await,
        Ask::Export(args) => ledger::export(client, &args, output).await,
        Ask::Periods(args) => ledger::periods(client, &args, output).await,
        Ask::Pools(args) => pools::pools(client, args, output).await,
        Ask::Rates(args) => ledger::rates(client, args, output).await,
        Ask::Currencies(args) => currency::currencies(client, &args, output).await,
        Ask::Reconcile(args) => ledger::reconcile(client, args, output).await,
        Ask::Health => fleet::health(client, output).await,
    }
}
