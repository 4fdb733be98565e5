//! The arguments of the commands on the books.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use spillway_ledger::calendar::Period;
use spillway_types::{CloudName, Money, PoolName};

#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    pub command: LedgerCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Follow the chain of hashes and add every account up again; the exit code is 1 where something is wrong
    Verify,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    pub command: ExportCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ExportCommand {
    /// The whole journal in the format of hledger
    Hledger,
    /// The charges of a month, as CSV; of a closed one byte for byte the same for ever
    Period {
        /// The month, as `2026-03`
        period: Period,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PeriodsArgs {
    #[command(subcommand)]
    pub command: Option<PeriodsCommand>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum PeriodsCommand {
    /// Close a month that is over, for ever: what is late is booked into the next one
    Close {
        /// The month, as `2026-03`
        period: Period,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RatesArgs {
    #[command(subcommand)]
    pub command: RatesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RatesCommand {
    /// Show the rate cards of pools
    Show,
    /// Set what a pool charges from a day on
    Set(RatesSetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RatesSetArgs {
    /// The pool
    pub pool: PoolName,
    /// What a GPU-hour of a model costs, for example `H100=2.50`; for each model once
    #[arg(long, value_name = "MODEL=RATE", required_unless_present = "cost", conflicts_with = "cost")]
    pub gpu: Vec<String>,
    /// A file with what the pool costs: purchase, lifetime, power, facility, staff, as JSON
    #[arg(long, value_name = "FILE")]
    pub cost: Option<PathBuf>,
    /// From when on, as a day or an instant in UTC [default: now]
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    /// The bill: FOCUS, or a Cost and Usage Report, as CSV
    pub file: PathBuf,
    /// The cloud whose bill it is
    #[arg(long)]
    pub cloud: CloudName,
    /// By how much a line may differ and still match
    #[arg(long, default_value = "0.01")]
    pub tolerance: Money,
}
