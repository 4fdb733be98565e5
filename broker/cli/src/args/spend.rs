//! The arguments of reports on spend and use.

use clap::{Args, Subcommand};

pub(crate) const SPEND_EXAMPLES: &str = "\
Examples:
  spillway spend
  spillway spend --by group,month --from 2026-01-01
  spillway spend --by group,site --period 2026-03 -o csv
  spillway spend --by day --from 2026-03-01 --to 2026-04-01 --zone Asia/Seoul
  spillway spend --by month --group vision --currency EUR
  spillway spend anomalies

Keys: group, user, site, kind, pool, provider, accelerator, market, job, dataset; period, the month of
the books; and one of month, week and day, of the use, in the zone.";

pub(crate) const USAGE_EXAMPLES: &str = "\
Examples:
  spillway usage --by accelerator
  spillway usage --by pool,week --from 2026-03-01
  spillway usage --by user,dataset -o json

Keys are those of `spillway spend`.";

/// Which report.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReportArgs {
    /// By what, with commas between; the keys are listed below
    #[arg(long, default_value = "group")]
    pub by: String,
    /// Only what was used from this day on; or from an instant in UTC, as `2026-03-01T12:00:00Z`
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
    /// Only what was used before this day, or before an instant in UTC
    #[arg(long, value_name = "DAY")]
    pub to: Option<String>,
    /// Only what is in this month of the books, as `2026-03`
    #[arg(long, value_name = "MONTH")]
    pub period: Option<String>,
    /// The time zone of days, weeks and months, for example `Asia/Seoul`
    #[arg(long, default_value = "UTC")]
    pub zone: String,
    /// Only what was charged to this group and to those below it
    #[arg(long)]
    pub group: Option<String>,
    /// What amounts are told in, each day's at what that was worth on the day [default: the currency of --group, else
    /// USD]
    #[arg(long, value_name = "CODE")]
    pub currency: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SpendArgs {
    #[command(flatten)]
    pub report: ReportArgs,
    #[command(subcommand)]
    pub command: Option<SpendCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpendCommand {
    /// List days on which a group spent far more or less on a class of accelerators than on the days before
    Anomalies {
        /// The first day, in UTC [default: 30 days before the end]
        #[arg(long, value_name = "DAY")]
        from: Option<String>,
        /// The first day that is left out [default: today]
        #[arg(long, value_name = "DAY")]
        to: Option<String>,
    },
}
