//! What kind of place a site is, and what a person may do.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Allocation, HourlyRate, NodeCapacity};

/// The kind of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteKind {
    /// Machines that the organisation owns and shares.
    OnPrem,
    /// A region of a cloud: instances come and go.
    Cloud,
    /// A person's own machine, lent by its owner.
    Personal,
}

impl SiteKind {
    /// The kind as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnPrem => "on-prem",
            Self::Cloud => "cloud",
            Self::Personal => "personal",
        }
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Submits and cancels jobs of the own group and sees the own group's subtree.
    Member,
    /// A member that also manages the groups below the own one: their place, budgets and limits.
    GroupOwner,
    /// Sees every group, what it spent and the books, and changes nothing.
    FinanceViewer,
    /// A finance viewer that also closes months and sets what pools charge.
    FinanceCloser,
    /// Everything, everywhere.
    Admin,
}

/// A text is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a role: write member, group-owner, finance-viewer, finance-closer or admin")]
pub struct RoleError {
    /// What was given, cut to 80 characters.
    pub value: String,
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| RoleError { value: text.chars().take(80).collect() })
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Member, Self::GroupOwner, Self::FinanceViewer, Self::FinanceCloser, Self::Admin];

    /// The role as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::GroupOwner => "group-owner",
            Self::FinanceViewer => "finance-viewer",
            Self::FinanceCloser => "finance-closer",
            Self::Admin => "admin",
        }
    }

    /// Whether every group is seen, not only the own subtree.
    #[must_use]
    pub const fn sees_all(self) -> bool {
        matches!(self, Self::FinanceViewer | Self::FinanceCloser | Self::Admin)
    }

    /// Whether jobs may be submitted, cancelled and put in order, and their output read.
    #[must_use]
    pub const fn works(self) -> bool {
        matches!(self, Self::Member | Self::GroupOwner | Self::Admin)
    }

    /// Whether the books are open.
    #[must_use]
    pub const fn reads_books(self) -> bool {
        matches!(self, Self::FinanceViewer | Self::FinanceCloser | Self::Admin)
    }

    /// Whether months may be closed and rate cards set.
    #[must_use]
    pub const fn keeps_books(self) -> bool {
        matches!(self, Self::FinanceCloser | Self::Admin)
    }

    /// Whether groups may be managed: by an admin all of them, by an owner those below the own one.
    #[must_use]
    pub const fn manages_groups(self) -> bool {
        matches!(self, Self::GroupOwner | Self::Admin)
    }
}

/// What a pool charges for the use of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// For one whole accelerator.
    #[serde(default)]
    pub per_gpu: HourlyRate,
    /// For one CPU.
    #[serde(default)]
    pub per_cpu: HourlyRate,
}

impl Tariff {
    /// What this allocation costs per hour, rounded up to a micro-unit.
    #[must_use]
    pub fn rate(&self, allocation: &Allocation) -> HourlyRate {
        let gpus = i128::from(self.per_gpu.0) * i128::from(allocation.blocks());
        let cpus = i128::from(self.per_cpu.0) * i128::from(allocation.cpus_milli);
        saturating(div_up(gpus, 100) + div_up(cpus, 1000))
    }
}

/// What a part of an instance costs per hour: the larger of its share of the accelerators and its share of
/// the CPUs, of the instance's price, rounded up.
#[must_use]
pub fn instance_share(price: HourlyRate, capacity: &NodeCapacity, allocation: &Allocation) -> HourlyRate {
    let share = |part: u64, whole: u64| {
        if whole == 0 {
            0
        } else {
            div_up(i128::from(price.0) * i128::from(part.min(whole)), i128::from(whole))
        }
    };
    let gpus = capacity.accelerators.iter().map(|a| a.mig.len().max(1) as u64 * 100).sum();
    let by_gpus = share(allocation.blocks(), gpus);
    let by_cpus = share(u64::from(allocation.cpus_milli), u64::from(capacity.cpus_milli));
    saturating(by_gpus.max(by_cpus))
}

fn div_up(value: i128, by: i128) -> i128 {
    (value + by - 1) / by
}

fn saturating(micros: i128) -> HourlyRate {
    HourlyRate(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AcceleratorShare;

    #[test]
    fn shares_of_an_instance_round_up_and_never_pass_its_price() {
        let allocation = Allocation {
            shares: vec![AcceleratorShare { index: 0, blocks: 100 }],
            cpus_milli: 1000,
            ..Allocation::default()
        };
        let tariff = Tariff { per_gpu: HourlyRate(2_000_000), per_cpu: HourlyRate(10_000) };
        assert_eq!(tariff.rate(&allocation), HourlyRate(2_010_000));
        let capacity = NodeCapacity { accelerators: vec![], cpus_milli: 3000, memory_mib: 1 };
        assert_eq!(instance_share(HourlyRate(1_000_000), &capacity, &allocation), HourlyRate(333_334));
        let greedy = Allocation { cpus_milli: 9000, ..Allocation::default() };
        assert_eq!(instance_share(HourlyRate(1_000_000), &capacity, &greedy), HourlyRate(1_000_000));
    }
}
