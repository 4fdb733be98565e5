//! The arguments of the commands on the books.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use spillway_focus::Version;
use spillway_ledger::calendar::Period;
use spillway_ledger::rates::Unused;
use spillway_types::{CloudName, Currency, Money, PoolName, UserName};

#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    pub command: LedgerCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Follow the chain of hashes and add every account up again; the exit code is 1 where something is wrong
    Verify,
    /// Correct what a record charged: it is taken back, and what it should have been is posted; of a closed month into
    /// the first open one
    Correct {
        /// The record's number, as exports give it
        seq: u64,
        /// What it should have cost, for example `12.50`; without it the charge is taken back
        #[arg(long)]
        amount: Option<Money>,
        /// What it should have used, in GPU-hours
        #[arg(long, requires = "amount")]
        gpu_hours: Option<String>,
        /// Why; it stays on record
        #[arg(long)]
        because: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    pub command: ExportCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ExportCommand {
    /// The whole journal in the format of hledger
    Hledger,
    /// The charges of a month, as CSV; of a closed one byte for byte the same for ever
    Period {
        /// The month, as `2026-03`
        period: Period,
    },
    /// The charges of a month in FOCUS, the FinOps Open Cost and Usage Specification, with a manifest
    #[command(after_help = FOCUS_EXAMPLES)]
    Focus(FocusExportArgs),
}

const FOCUS_EXAMPLES: &str = "\
Examples:
  spillway export focus --period 2026-11 --out november
  spillway export focus --period 2026-11 --version 1.3 --format parquet --out november-1.3
  spillway focus check november/focus-2026-11.csv --manifest november/manifest.json

A closed month is byte for byte the same for ever. One that is open is exported as it stands,
and its manifest says that it is provisional.";

#[derive(Debug, Clone, Args)]
pub(crate) struct FocusExportArgs {
    /// The month, as `2026-11`
    #[arg(long, value_name = "MONTH")]
    pub period: Period,
    /// A new or empty folder for the file and its manifest
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The version of FOCUS, 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value = "1.2")]
    pub version: Version,
    /// What the file is
    #[arg(long, value_enum, default_value_t = FileFormat::Csv)]
    pub format: FileFormat,
}

/// How charges are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// Comma-separated values
    Csv,
    /// Apache Parquet
    Parquet,
}

#[derive(Debug, Args)]
pub(crate) struct PeriodsArgs {
    #[command(subcommand)]
    pub command: Option<PeriodsCommand>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum PeriodsCommand {
    /// Show what was here of each site's usage when a month was closed; in the wide form a line for each node
    Show {
        /// The month, as `2026-03`
        period: Period,
    },
    /// Close a month that is over, for ever: what is late is booked into the next one
    ///
    /// It waits for the nodes that had work in the month: each says, a minute after the month's end or when it next
    /// connects, that all its use is here. A node that never comes back is revoked, and counts with what is here.
    Close {
        /// The month, as `2026-03`
        period: Period,
    },
}

pub(crate) const POOLS_EXAMPLES: &str = "\
Examples:
  spillway pools
  spillway pools --month 2026-11 -o csv

The figures of an open month go up to now; those of a closed one are as they were posted.
Machines that somebody lends, and pools without a rate card, have no costs here.";

/// Of which month.
#[derive(Debug, Args)]
pub(crate) struct PoolsArgs {
    /// The month of the books, as `2026-11` [default: the one that goes on]
    #[arg(long)]
    pub month: Option<Period>,
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
    /// Who lends the pool's machines, and is credited a share of what is charged
    #[arg(long, value_name = "USER", requires = "gpu", conflicts_with = "cost")]
    pub owner: Option<UserName>,
    /// The owner's share, in percent
    #[arg(long, value_name = "PERCENT", requires = "owner", default_value = "100")]
    pub owner_share: String,
    /// A file with what the pool costs: purchase, lifetime, power, facility, staff, as JSON
    #[arg(long, value_name = "FILE")]
    pub cost: Option<PathBuf>,
    /// What the rates, or the amounts of the file, are in; each day is charged at what that is worth on the day [default: USD,
    /// or what the file says]
    #[arg(long, value_name = "CODE")]
    pub currency: Option<Currency>,
    /// Who pays for what nobody used of a month: `idle` for nobody, `by-use` for the groups by what they used, or weights
    /// of groups as `vision=2,speech=1` [default: idle, or what the file says]
    #[arg(long, value_name = "RULE")]
    pub unused: Option<Unused>,
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
