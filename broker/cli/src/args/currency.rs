//! The arguments of the command on what currencies are worth.

use clap::{Args, Subcommand};
use spillway_ledger::calendar::Day;
use spillway_ledger::rates::ExchangeRate;
use spillway_types::Currency;

pub(crate) const CURRENCIES_EXAMPLES: &str = "\
Examples:
  spillway currencies
  spillway currencies set EUR 1.0853
  spillway currencies set EUR 1.0911 --from 2026-12-01

The books are in dollars. A rate is good from its day, in UTC, until the next one. What is charged by a rate
card in another currency, and what a report is told in, is converted at the rate of each day; budgets and
limits once, at the rate of the day they are set. The rate of a day that has begun stays as it is.";

#[derive(Debug, Args)]
pub(crate) struct CurrenciesArgs {
    #[command(subcommand)]
    pub command: Option<CurrenciesCommand>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum CurrenciesCommand {
    /// Show what currencies are worth, and from when on
    Show,
    /// Set what one unit of a currency is worth in dollars, from a day on
    Set {
        /// The currency, as `EUR`
        currency: Currency,
        /// What one unit is worth in dollars, for example `1.0853`
        rate: ExchangeRate,
        /// The first day, in UTC [default: today]
        #[arg(long, value_name = "DAY")]
        from: Option<Day>,
    },
}
