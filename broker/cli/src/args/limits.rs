//! The arguments of the commands on what groups may use.

use clap::{Args, Subcommand};
use spillway_ledger::calendar::Zone;
use spillway_ledger::limits::{Action, Metric, Scope};
use spillway_ledger::window::Window;
use spillway_types::{Currency, GroupName};

#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    #[command(subcommand)]
    pub command: Option<GroupsCommand>,
}

/// Where a group stands among others.
#[derive(Debug, Args)]
pub(crate) struct RankArgs {
    /// Its share among groups of one priority
    #[arg(long)]
    pub weight: Option<u32>,
    /// Higher goes first
    #[arg(long, allow_negative_numbers = true)]
    pub priority: Option<i32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupsCommand {
    /// Show the groups as a tree
    Tree,
    /// Create a group
    Create {
        /// Its name
        name: GroupName,
        /// The group above it
        #[arg(long)]
        parent: Option<GroupName>,
        #[command(flatten)]
        rank: RankArgs,
        /// What it may spend, for example `5000` in the group's currency, or `4000EUR`
        #[arg(long)]
        budget: Option<String>,
        /// What it is told amounts in, for example `EUR` [default: as the group above it, else USD]
        #[arg(long, value_name = "CODE")]
        currency: Option<Currency>,
    },
    /// Change a group: what is not named stays
    Set {
        /// Which
        name: GroupName,
        /// The group above it; `none` puts it at the top
        #[arg(long)]
        parent: Option<GroupName>,
        #[command(flatten)]
        rank: RankArgs,
        /// The time zone of its months, for example `Europe/Berlin`
        #[arg(long)]
        zone: Option<Zone>,
        /// What it is told amounts in, for example `EUR`; `none` is what the group above it has
        #[arg(long, value_name = "CODE")]
        currency: Option<String>,
    },
    /// Remove a group that has no members, no jobs, no groups below it, and that nothing was ever charged to
    Remove {
        /// Which
        name: GroupName,
    },
}

/// Which limit of a group.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// Where it counts: everywhere, on-prem, cloud, site:NAME or class:H100
    #[arg(long, default_value = "everywhere")]
    pub scope: Scope,
    /// Over what time: instant, month, quarter, or a grant's days as `2026-01-01..2026-07-01` [default: instant for
    /// concurrent-gpus, month for others]
    #[arg(long)]
    pub window: Option<Window>,
}

/// What follows when a limit is reached.
#[derive(Debug, Args)]
pub(crate) struct WhenReachedArgs {
    /// What follows when it is reached: warn, deny-new, drain (what runs on leases saves its work and stops), stop (at once)
    #[arg(long, default_value = "drain")]
    pub action: Action,
    /// At how many percent somebody is told, with commas between
    #[arg(long, value_delimiter = ',', value_name = "PERCENT")]
    pub alert: Vec<u32>,
    /// Of grants, the one with the higher priority is used first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
}

#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    #[command(subcommand)]
    pub command: Option<LimitsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Show limits and where they stand
    Show {
        /// Only of this group
        group: Option<GroupName>,
    },
    /// Set a limit, or take it away
    Set {
        /// Whose
        group: GroupName,
        /// What it counts: concurrent-gpus, gpu-time:H100, normalised-gpu-time or money
        metric: Metric,
        /// How much: GPUs, GPU-hours or money; `none` takes the limit away. Money is in the group's currency, dollars where
        /// it has no other, or in the one it names, as `4000EUR`; it is converted once, at today's rate
        amount: String,
        #[command(flatten)]
        which: WhichArgs,
        /// How many more accelerators it may borrow from others [default: all that they lend]
        #[arg(long)]
        borrow: Option<String>,
        /// How many of its accelerators others may borrow [default: all]
        #[arg(long)]
        lend: Option<String>,
        #[command(flatten)]
        when: WhenReachedArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BudgetArgs {
    #[command(subcommand)]
    pub command: BudgetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Show a group's budgets: what it may spend in all, by month, by quarter and of grants
    Show {
        /// The group
        group: GroupName,
        /// What amounts are told in, at today's rate [default: the group's currency]
        #[arg(long, value_name = "CODE")]
        currency: Option<Currency>,
    },
    /// Set a budget, or take it away
    Set {
        /// The group
        group: GroupName,
        /// How much, for example `5000` in the group's currency, which is dollars where it has no other, or `4000EUR`;
        /// `none` takes the budget away. It is converted once, at today's rate, and enforced in dollars
        amount: String,
        /// Over what time: month, quarter, or a grant's days as `2026-01-01..2026-07-01` [default: in all]
        #[arg(long)]
        window: Option<Window>,
        /// What counts: everywhere, on-prem, cloud, site:NAME or class:H100
        #[arg(long, default_value = "everywhere", requires = "window")]
        scope: Scope,
        #[command(flatten)]
        when: WhenReachedArgs,
    },
    /// Give budget of one group to another; it stays on record
    Transfer {
        /// Whose becomes less
        from: GroupName,
        /// Whose becomes more
        to: GroupName,
        /// How much in dollars, for example `500`
        amount: String,
        /// Of which budget: month, quarter, or a grant's days
        #[arg(long, default_value = "month")]
        window: Window,
        /// What counts: everywhere, on-prem, cloud, site:NAME or class:H100
        #[arg(long, default_value = "everywhere")]
        scope: Scope,
        /// Why
        #[arg(long)]
        because: String,
        /// A key of your own: the same transfer with the same key is made once
        #[arg(long)]
        key: Option<String>,
    },
    /// List the transfers
    Transfers,
}
