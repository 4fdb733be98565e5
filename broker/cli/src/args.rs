//! The command line: every command and flag, with help that shows by example.

pub(crate) mod currency;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod spend;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use spillway_focus::Version;
use spillway_types::{DurationMs, GroupName, JobId, PoolName, Role, SiteName, UserName};

use crate::commands::demo::DemoArgs;
use crate::commands::simulate::{EXAMPLES as SIMULATE_EXAMPLES, SimulateArgs};
use crate::job_args::JobArgs;

/// The help of `spillway` itself: clap has no groups of subcommands.
const HELP: &str = "\
{about}

{usage-heading} {usage}

Jobs:
  run        Run a program: flags say what a job file says
  submit     Submit a job file
  plan       Say where a job file would run, what it would cost, and why
  jobs       List jobs
  job        Show a job: its attempts, and why it is where it is
  logs       Print what a job wrote
  cancel     Cancel a job
  hold       Keep a waiting job from starting
  release    Let a held job go on
  top        Put a waiting job before others

Machines:
  sites      List sites
  nodes      List nodes
  join       Make the one line that joins a machine
  cordon     Give a node no more work
  uncordon   Give a node work again
  drain      Give a node no more work, and let it leave when it is empty
  revoke     Refuse a node from now on
  clouds     List clouds and their instances
  offers     List what clouds would launch

Money and people:
  groups     List groups, as a tree too; create, change or remove them
  limits     Show or set what groups may use
  users      List or create users, and make their tokens
  budget     Show, set or transfer what groups may spend
  fairshare  Show who used how much of the own share
  alerts     Show who is told of limits that fill up
  spend      Show what was spent, or where that was out of the ordinary
  usage      Show what was used, and what an accelerator-hour cost
  pools      Show what was used of pools in a month, and what nobody used
  rates      Show or set what pools charge
  currencies Show or set what currencies are worth
  periods    List closed months, or close one
  ledger     Verify the ledger
  export     Export the journal, or the charges of a month
  reconcile  Hold a provider's bill against what was charged
  focus      Say what is wrong with a file of charges in FOCUS

Rules and what-ifs:
  policy     Show shipped policies; test access policies against their cases
  simulate   Replay a trace against policies, and see what each would have cost

Services:
  demo       See all of it work on this machine, in half a minute
  broker     Run the broker
  agent      Run the agent of this machine
  health     Show how the broker is

Options:
{options}{after-help}";

const EXAMPLES: &str = "
Examples:
  spillway run --gpus H100:8 --wait -- python train.py
  spillway plan job.yaml
  spillway jobs --state running
  spillway spend --by group,site

Data goes to standard output, everything else to standard error.
Exit codes: 0 done, 1 error, 2 wrong usage, 3 timeout; `run --wait` and `logs -f` return
the job's own.";

/// One queue, one quota and one account for GPUs on-prem, in clouds and on desks.
#[derive(Debug, Parser)]
#[command(name = "spillway", version, help_template = HELP, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command that talks to a broker.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArgs {
    /// The broker's address
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SPILLWAY_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7878"
    )]
    pub server: String,
    /// A file with the API token [default: SPILLWAY_TOKEN, else admin.token in the data directory of a broker here]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How data is printed
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value = "table")]
    pub output: Format,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table
    Table,
    /// A table with every column
    Wide,
    /// JSON, as the API gives it
    Json,
    /// CSV with plain numbers; of `spend`, `usage` and `pools`
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Ask(Ask),
    #[command(flatten)]
    Serve(Serve),
}

/// What asks a broker.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Run a program: flags say what a job file says
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Submit a job file
    #[command(
        after_help = "Examples:\n  spillway submit job.yaml\n  generate-job | spillway submit - --wait"
    )]
    Submit(SubmitArgs),
    /// Say where a job file would run, what it would cost, and why
    Plan(FileArgs),
    /// List jobs, newest first
    #[command(after_help = "Examples:\n  spillway jobs\n  spillway jobs --state running --group vision")]
    Jobs(JobsArgs),
    /// Show a job: its attempts, and why it is where it is
    Job(JobIdArgs),
    /// Print what a job wrote
    #[command(after_help = "Examples:\n  spillway logs JOB\n  spillway logs -f JOB --task 7")]
    Logs(LogsArgs),
    /// Cancel a job
    Cancel(JobIdArgs),
    /// Keep a waiting job from starting
    ///
    /// Its tasks that wait stay where they are, with the reason Held, until `spillway release`. Tasks at work go on.
    /// A job of which nothing waits is refused. What an admin holds is released by admins only.
    Hold(JobIdArgs),
    /// Let a held job go on
    ///
    /// What an admin holds is released by admins only. A job that nobody holds stays as it is.
    Release(JobIdArgs),
    /// Put a waiting job before others
    ///
    /// A member puts a job of the own groups before the other jobs of its group. An admin puts it before the jobs of
    /// all groups, and that stays before what members put on top. The newest on top goes first. It changes the
    /// order, not what runs: nothing is stopped for it, and a held job stays held.
    Top(JobIdArgs),
    /// List sites
    Sites,
    /// List nodes
    Nodes,
    /// Make the one line that joins a machine
    Join(JoinArgs),
    /// Give a node no more work
    Cordon(NodeArgs),
    /// Give a node work again
    Uncordon(NodeArgs),
    /// Give a node no more work, and let it leave when it is empty
    Drain(NodeArgs),
    /// Refuse a node from now on
    Revoke(NodeArgs),
    /// List clouds and their instances
    Clouds,
    /// Show who is told of limits that fill up, and what waits for them
    Alerts,
    /// List what clouds would launch
    Offers(OffersArgs),
    /// List groups, as a tree too; create, change or remove them
    Groups(limits::GroupsArgs),
    /// Show or set what groups may use
    #[command(
        after_help = "Examples:\n  spillway limits\n  spillway limits set vision concurrent-gpus 16 --scope on-prem --borrow 4\n  spillway limits set vision gpu-time:H100 1500 --window quarter\n  spillway limits set vision concurrent-gpus none --scope on-prem"
    )]
    Limits(limits::LimitsArgs),
    /// List or create users, and make their tokens
    Users(UsersArgs),
    /// Show, set or transfer what groups may spend
    #[command(
        after_help = "Examples:\n  spillway budget show vision\n  spillway budget set vision 5000 --window month --alert 50,80,100\n  spillway budget set vision 4000EUR --window month\n  spillway budget set vision none\n  spillway budget transfer vision audio 500 --because 'the deadline'"
    )]
    Budget(limits::BudgetArgs),
    /// Show who used how much of the own share
    Fairshare,
    /// Show what was spent, against list prices, budgets and forecasts
    #[command(after_help = spend::SPEND_EXAMPLES)]
    Spend(spend::SpendArgs),
    /// Show what was used, and what an accelerator-hour cost
    #[command(after_help = spend::USAGE_EXAMPLES)]
    Usage(spend::ReportArgs),
    /// Show what was used of pools in a month, and what nobody used
    #[command(after_help = ledger::POOLS_EXAMPLES)]
    Pools(ledger::PoolsArgs),
    /// Show or set what pools charge
    #[command(
        after_help = "Examples:\n  spillway rates show\n  spillway rates set dgx --gpu H100=2.50 --from 2026-04-01\n  spillway rates set lab --gpu H100=2.20 --currency EUR\n  spillway rates set dgx --cost dgx.json --unused by-use"
    )]
    Rates(ledger::RatesArgs),
    /// Show or set what currencies are worth in dollars, day by day
    #[command(after_help = currency::CURRENCIES_EXAMPLES)]
    Currencies(currency::CurrenciesArgs),
    /// List closed months, or close one
    Periods(ledger::PeriodsArgs),
    /// Verify the ledger
    Ledger(ledger::LedgerArgs),
    /// Export the journal, or the charges of a month
    Export(ledger::ExportArgs),
    /// Hold a provider's bill against what was charged
    Reconcile(ledger::ReconcileArgs),
    /// Show how the broker is; the exit code is 1 where something is wrong
    Health,
}

/// What runs on this machine and asks nobody.
#[derive(Debug, Subcommand)]
pub(crate) enum Serve {
    /// Run the broker
    #[command(after_help = BROKER_EXAMPLES)]
    Broker(Box<BrokerArgs>),
    /// Run the agent of this machine
    Agent(Box<spillway_agent::agent::AgentArgs>),
    /// See all of it work on this machine, in half a minute
    #[command(
        after_help = "Examples:\n  spillway demo\n  spillway demo --exit\n  spillway demo --exit -o json"
    )]
    Demo(DemoArgs),
    /// Say what is wrong with a file of charges in FOCUS, the FinOps Open Cost and Usage Specification
    Focus(FocusArgs),
    /// Test access policies against their cases
    Policy(PolicyArgs),
    /// Replay a trace against policies, and see what each would have cost
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(Box<SimulateArgs>),
}

const RUN_EXAMPLES: &str = "\
Examples:
  spillway run -- python train.py
  spillway run --gpus H100:8 --time-limit 12h --wait -- python train.py
  spillway run --gpus A100:0.25 --follow -- ./notebook-test
  spillway run --array 1-10000 --cpus 2 -- sh -c './simulate $SPILLWAY_TASK_INDEX'
  spillway run --gpus 80GB+:8 --nodes 2 --residency eu --max-price 60 -- torchrun train.py

With --wait or --follow the exit code is the job's own: 128 + N where signal N ended it,
124 where its time limit did, 1 where it had none. Interrupting does not cancel the job.";

const BROKER_EXAMPLES: &str = "\
Examples:
  spillway broker
  spillway broker --config /etc/spillway/broker.toml
  spillway broker --config broker.toml --check-config

Flags win over the settings file.";

#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// The settings file, in TOML
    #[arg(long, value_name = "FILE", env = "SPILLWAY_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Where database, keys and outputs are [default: /var/lib/spillway for root, else ~/.local/share/spillway]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The database: sqlite:PATH or postgres://... [default: a SQLite file in the data directory]
    #[arg(long, value_name = "URL", env = "SPILLWAY_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Address of the HTTP API [default: 127.0.0.1:7878]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of the tunnel, UDP [default: 0.0.0.0:7879]
    #[arg(long, value_name = "ADDRESS")]
    pub tunnel: Option<SocketAddr>,
    /// What agents are told to dial [default: this machine's name and the tunnel's port]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// What is logged: a level, or `tracing` filter directives
    #[arg(long, value_name = "FILTER", default_value = "info", env = "SPILLWAY_LOG", hide_env_values = true)]
    pub log: String,
    /// Read the settings, say whether they are right, and end
    #[arg(long)]
    pub check_config: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the policies that are shipped: `policy = "NAME"` in the broker's settings puts one into force
    List,
    /// Print a shipped policy with its explanations, to start a file of one's own from
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Its name, as `spillway policy list` has it
        name: String,
    },
    /// Ask every case of a folder; the exit code is 1 where one does not hold
    #[command(after_help = POLICY_EXAMPLES)]
    Test {
        /// A folder with policies (*.cedar) and cases (*.cases.toml)
        dir: PathBuf,
    },
}

const SHOW_EXAMPLES: &str = "\
Examples:
  spillway policy show cost-first
  spillway policy show cost-first > policy.toml";

const POLICY_EXAMPLES: &str = "\
Examples:
  spillway policy test /etc/spillway/access
  spillway policy test policies/access/examples -o json

All policies of the folder are in force together, as in a broker whose settings name them all.";

#[derive(Debug, Args)]
pub(crate) struct FocusArgs {
    #[command(subcommand)]
    pub command: FocusCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FocusCommand {
    /// Check a file; the exit code is 1 where something is wrong
    #[command(after_help = FOCUS_EXAMPLES)]
    Check(FocusCheckArgs),
}

const FOCUS_EXAMPLES: &str = "\
Examples:
  spillway focus check charges-2026-10.csv --manifest manifest-2026-10.json
  spillway focus check bill.parquet --version 1.2 -o json

Asks no broker. Checks files of other makers, too.";

#[derive(Debug, Args)]
pub(crate) struct FocusCheckArgs {
    /// The file, CSV or Parquet
    pub file: PathBuf,
    /// The version of FOCUS, 1.2 or 1.3 [default: the manifest's, else the one whose columns the file has]
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// The manifest that came with it: rows, sums, invoices and the digest must match
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
}

/// Whether to stay until the job has ended.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// Wait until the job has ended, and return its exit code
    #[arg(long)]
    pub wait: bool,
    /// Print what the job writes until it has ended, and return its exit code
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Give up waiting after this long, with exit code 3; the job goes on
    #[arg(long, value_name = "TIME")]
    pub wait_timeout: Option<DurationMs>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub file: FileArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The job file, in YAML; `-` reads standard input
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    /// Only jobs in this state: queued, placing, provisioning, staging, running, finishing, succeeded, failed, cancelled
    #[arg(long, hide_possible_values = true)]
    pub state: Option<String>,
    /// Only jobs of this group and the groups below it
    #[arg(long)]
    pub group: Option<GroupName>,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct JobIdArgs {
    /// The job, as `job_` and 32 digits
    pub id: JobId,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The job, as `job_` and 32 digits
    pub id: JobId,
    /// Go on until the job has ended, and return its exit code
    #[arg(long, short)]
    pub follow: bool,
    /// The task of an array [default: its first]
    #[arg(long)]
    pub task: Option<u32>,
    /// The part of a job on several nodes [default: 0]
    #[arg(long)]
    pub rank: Option<u32>,
    /// The attempt, from 1 [default: the newest]
    #[arg(long)]
    pub attempt: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node's id, or its host name
    pub node: String,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The site that the machine joins [default: the broker's]
    #[arg(long)]
    pub site: Option<SiteName>,
    /// The pool that the machine joins [default: the site's only one]
    #[arg(long)]
    pub pool: Option<PoolName>,
    /// How long the line can be used [default: the broker's]
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<DurationMs>,
}

#[derive(Debug, Args)]
pub(crate) struct OffersArgs {
    /// Only those that can give this, for example `H100:8`
    #[arg(long)]
    pub gpus: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UsersArgs {
    #[command(subcommand)]
    pub command: Option<UsersCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UsersCommand {
    /// Create a user
    Create {
        /// The name
        name: UserName,
        /// The group
        #[arg(long)]
        group: GroupName,
        /// What the user may do: member, group-owner, finance-viewer, finance-closer or admin
        #[arg(long, default_value = "member")]
        role: Role,
    },
    /// Make a token; it is shown this once
    Token {
        /// Whose
        name: UserName,
        /// How long it is good for [default: for ever]
        #[arg(long, value_name = "TIME")]
        ttl: Option<DurationMs>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_in_the_help() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let line = format!("\n  {:10} ", command.get_name());
            assert!(HELP.contains(&line), "{} is not in the help", command.get_name());
        }
    }

    #[test]
    fn help_reads_well() {
        let mut command = Cli::command().term_width(100);
        command.build();
        insta::assert_snapshot!("help", command.render_help());
        let run = command.find_subcommand_mut("run").expect("run");
        insta::assert_snapshot!("help_run", run.render_help());
        for verb in ["hold", "release", "top"] {
            let verb = command.find_subcommand_mut(verb).expect("it is there");
            let name = format!("help_{}", verb.get_name());
            insta::assert_snapshot!(name, verb.render_long_help());
        }
        let focus = command.find_subcommand_mut("focus").expect("focus");
        let check = focus.find_subcommand_mut("check").expect("check");
        insta::assert_snapshot!("help_focus_check", check.render_help());
        let export = command.find_subcommand_mut("export").expect("export");
        insta::assert_snapshot!("help_export", export.render_help());
        let focus = export.find_subcommand_mut("focus").expect("focus");
        insta::assert_snapshot!("help_export_focus", focus.render_help());
        let spend = command.find_subcommand_mut("spend").expect("spend");
        insta::assert_snapshot!("help_spend", spend.render_help());
        let currencies = command.find_subcommand_mut("currencies").expect("currencies");
        insta::assert_snapshot!("help_currencies", currencies.render_help());
        let simulate = command.find_subcommand_mut("simulate").expect("simulate");
        insta::assert_snapshot!("help_simulate", simulate.render_help());
    }

    #[test]
    fn a_command_after_dashes_keeps_its_own_flags() {
        let cli =
            Cli::try_parse_from(["spillway", "run", "--gpus", "H100:8", "--", "train", "--wait", "-o", "x"]);
        let Command::Ask(Ask::Run(run)) = cli.expect("parses").command else { panic!("not run") };
        assert_eq!(run.job.command, ["train", "--wait", "-o", "x"]);
        assert!(!run.wait.wait);
    }
}
