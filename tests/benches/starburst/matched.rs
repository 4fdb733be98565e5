//! Those with one free parameter, which is set so that they wait as long as Starburst does.

use anyhow::{Context as _, Result};
use spillway_policies::{Policy, Sharing};
use spillway_sim::baselines::{BaselineParameters, ComputeWait};
use spillway_sim::contender::{Contender, with_price_of_waiting};

use super::baseline;

/// The policies that ship: all jobs in one line, as Starburst has them, and turns between groups.
const EFFICIENT: &str = include_str!("../../../policies/examples/efficient.toml");
const FAIR: &str = include_str!("../../../policies/examples/default.toml");

/// A price of a million an hour, in micros, stands for a `c` of compute-wait of two billionths.
const MICROS_TIMES_BILLIONTHS: u64 = 2_000_000_000_000_000;

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matched {
    /// The planner with its price of waiting.
    Planner(Sharing),
    /// Plan on arrival with the `c` of its budget.
    OnArrival,
}

impl Matched {
    /// Those that take longest come first.
    pub(super) const ALL: [Self; 3] =
        [Self::Planner(Sharing::Efficient), Self::Planner(Sharing::Fair), Self::OnArrival];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Planner(Sharing::Efficient) => "planner, one line",
            Self::Planner(Sharing::Fair) => "planner, groups take turns",
            Self::OnArrival => "plan on arrival, same wait",
        }
    }

    /// With this price of waiting, in micros per hour: the higher the shorter the wait.
    pub(super) fn at(self, price: u64, parameters: BaselineParameters) -> Result<Contender> {
        let planner = |text| {
            let shipped = Policy::from_toml(text).context("a shipped policy does not parse")?;
            Ok(Contender::Planner(Box::new(with_price_of_waiting(&shipped, price))))
        };
        match self {
            Self::Planner(Sharing::Efficient) => planner(EFFICIENT),
            Self::Planner(Sharing::Fair) => planner(FAIR),
            Self::OnArrival => {
                let compute_wait = ComputeWait { billionths: MICROS_TIMES_BILLIONTHS / price.max(1) };
                Ok(baseline("plan-on-arrival", BaselineParameters { compute_wait, ..parameters }))
            }
        }
    }

    /// The price as people write it, of those that have one.
    pub(super) fn shown(self, price: u64) -> Option<f64> {
        let cents = u32::try_from(price / 10_000).unwrap_or(u32::MAX);
        matches!(self, Self::Planner(_)).then(|| f64::from(cents) / 100.0)
    }
}
