//! What kind of place a site is, and what a person may do.

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
    /// Everything, everywhere.
    Admin,
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
