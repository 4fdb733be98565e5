//! Giving and taking back a node's resources. Nothing is given twice: `take` refuses what is not free.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Accelerator, AcceleratorShare, Allocation, BLOCKS_PER_GPU, GpuQuantity, GpuRequest, GpuSelector,
    NodeCapacity, Resources,
};

/// What of a node is free at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeResources {
    blocks: BTreeMap<u32, u32>,
    mig: BTreeSet<String>,
    cpus_milli: u32,
    memory_mib: u64,
}

/// What is missing for a request to fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Shortfall {
    /// Accelerators of the wanted kind.
    #[error("{wanted} GPUs wanted, {free} free")]
    Gpus {
        /// Whole accelerators (or slices) wanted; 1 for a fraction.
        wanted: u32,
        /// How many of the wanted kind are free.
        free: u32,
    },
    /// CPUs.
    #[error("{wanted_milli} thousandths of a CPU wanted, {free_milli} free")]
    Cpus {
        /// Wanted, in thousandths.
        wanted_milli: u32,
        /// Free, in thousandths.
        free_milli: u32,
    },
    /// Memory.
    #[error("{wanted_mib} MiB of memory wanted, {free_mib} free")]
    Memory {
        /// Wanted, in MiB.
        wanted_mib: u64,
        /// Free, in MiB.
        free_mib: u64,
    },
}

/// An allocation asks for what is not free, or gives back what was not taken. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("over-commit: {what}")]
pub struct OverCommit {
    /// Which dimension.
    pub what: String,
}

impl FreeResources {
    /// Everything of the node.
    #[must_use]
    pub fn all_of(capacity: &NodeCapacity) -> Self {
        let whole = capacity.accelerators.iter().filter(|a| a.mig.is_empty());
        let slices = capacity.accelerators.iter().flat_map(|a| &a.mig);
        Self {
            blocks: whole.map(|a| (a.index, BLOCKS_PER_GPU)).collect(),
            mig: slices.map(|slice| slice.uuid.clone()).collect(),
            cpus_milli: capacity.cpus_milli,
            memory_mib: capacity.memory_mib,
        }
    }

    /// Free thousandths of a CPU.
    #[must_use]
    pub const fn cpus_milli(&self) -> u32 {
        self.cpus_milli
    }

    /// Free memory in MiB.
    #[must_use]
    pub const fn memory_mib(&self) -> u64 {
        self.memory_mib
    }

    /// Accelerators of which nothing is given out.
    #[must_use]
    pub fn whole_gpus(&self) -> usize {
        self.blocks.values().filter(|blocks| **blocks == BLOCKS_PER_GPU).count()
    }

    /// Free hundredths of the accelerator with this index; 0 where there is none or it is cut into slices.
    #[must_use]
    pub fn blocks_of(&self, index: u32) -> u32 {
        self.blocks.get(&index).copied().unwrap_or(0)
    }

    /// Whether this MIG slice is free.
    #[must_use]
    pub fn has_slice(&self, uuid: &str) -> bool {
        self.mig.contains(uuid)
    }

    /// Chooses what to give for `wanted`: lowest indexes first; a fraction goes to the accelerator with the
    /// least room that still fits. Takes nothing.
    ///
    /// # Errors
    /// [`Shortfall`] names the first dimension that is missing and by how much.
    pub fn find(&self, capacity: &NodeCapacity, wanted: &Resources) -> Result<Allocation, Shortfall> {
        let mut allocation = Allocation {
            cpus_milli: wanted.cpus_milli,
            memory_mib: wanted.memory_mib,
            ..Allocation::default()
        };
        if let Some(request) = &wanted.gpus {
            self.find_gpus(capacity, request, &mut allocation)?;
        }
        if wanted.cpus_milli > self.cpus_milli {
            return Err(Shortfall::Cpus { wanted_milli: wanted.cpus_milli, free_milli: self.cpus_milli });
        }
        if wanted.memory_mib > self.memory_mib {
            return Err(Shortfall::Memory { wanted_mib: wanted.memory_mib, free_mib: self.memory_mib });
        }
        Ok(allocation)
    }

    fn find_gpus(
        &self,
        capacity: &NodeCapacity,
        request: &GpuRequest,
        into: &mut Allocation,
    ) -> Result<(), Shortfall> {
        if let GpuSelector::Mig { profile } = &request.selector {
            let slices = capacity.accelerators.iter().flat_map(|a| &a.mig);
            let free: Vec<_> =
                slices.filter(|s| s.profile == *profile && self.mig.contains(&s.uuid)).collect();
            let wanted = usize::try_from(request.blocks() / 100).unwrap_or(usize::MAX);
            if free.len() < wanted {
                return Err(gpu_shortfall(wanted, free.len()));
            }
            into.mig = free.into_iter().take(wanted).map(|slice| slice.uuid.clone()).collect();
            return Ok(());
        }
        let matching =
            capacity.accelerators.iter().filter(|a| a.mig.is_empty() && request.selector.matches(a));
        let room = matching.map(|a| (a.index, self.blocks.get(&a.index).copied().unwrap_or(0)));
        match request.quantity {
            GpuQuantity::Whole(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let free: Vec<u32> =
                    room.filter(|(_, blocks)| *blocks == BLOCKS_PER_GPU).map(|(index, _)| index).collect();
                if free.len() < count {
                    return Err(gpu_shortfall(count, free.len()));
                }
                let whole = |index| AcceleratorShare { index, blocks: BLOCKS_PER_GPU };
                into.shares = free.into_iter().take(count).map(whole).collect();
            }
            GpuQuantity::Blocks(blocks) => {
                let tightest =
                    room.filter(|(_, free)| *free >= blocks).min_by_key(|(index, free)| (*free, *index));
                let (index, _) = tightest.ok_or_else(|| gpu_shortfall(1, 0))?;
                into.shares = vec![AcceleratorShare { index, blocks }];
            }
        }
        Ok(())
    }

    /// Takes `allocation` out.
    ///
    /// # Errors
    /// [`OverCommit`] where any part of it is not free; nothing is taken then.
    pub fn take(&mut self, allocation: &Allocation) -> Result<(), OverCommit> {
        let refused = |what: String| OverCommit { what };
        let mut after = self.clone();
        for share in &allocation.shares {
            let free = after.blocks.get_mut(&share.index);
            let left = free.as_ref().and_then(|free| free.checked_sub(share.blocks));
            match (free, left) {
                (Some(free), Some(left)) => *free = left,
                _ => return Err(refused(format!("{} blocks of accelerator {}", share.blocks, share.index))),
            }
        }
        for slice in &allocation.mig {
            if !after.mig.remove(slice) {
                return Err(refused(format!("MIG slice {slice}")));
            }
        }
        after.cpus_milli = after
            .cpus_milli
            .checked_sub(allocation.cpus_milli)
            .ok_or_else(|| refused(format!("{} thousandths of a CPU", allocation.cpus_milli)))?;
        after.memory_mib = after
            .memory_mib
            .checked_sub(allocation.memory_mib)
            .ok_or_else(|| refused(format!("{} MiB of memory", allocation.memory_mib)))?;
        *self = after;
        Ok(())
    }

    /// Puts `allocation` back. What the node no longer has is not put back.
    pub fn give_back(&mut self, capacity: &NodeCapacity, allocation: &Allocation) {
        for share in &allocation.shares {
            if let Some(free) = self.blocks.get_mut(&share.index) {
                *free = (*free + share.blocks).min(BLOCKS_PER_GPU);
            }
        }
        let known =
            |uuid: &String| capacity.accelerators.iter().any(|a| a.mig.iter().any(|s| s.uuid == *uuid));
        self.mig.extend(allocation.mig.iter().filter(|uuid| known(uuid)).cloned());
        self.cpus_milli = (self.cpus_milli.saturating_add(allocation.cpus_milli)).min(capacity.cpus_milli);
        self.memory_mib = (self.memory_mib.saturating_add(allocation.memory_mib)).min(capacity.memory_mib);
    }
}

fn gpu_shortfall(wanted: usize, free: usize) -> Shortfall {
    let count = |n| u32::try_from(n).unwrap_or(u32::MAX);
    Shortfall::Gpus { wanted: count(wanted), free: count(free) }
}

impl GpuSelector {
    /// Whether this accelerator will do, whole or in part. A MIG profile matches a slice, never the whole.
    #[must_use]
    pub fn matches(&self, accelerator: &Accelerator) -> bool {
        match self {
            Self::Any => true,
            Self::Model(model) => accelerator.model == *model,
            // A marketing gigabyte: an "80 GB" card reports 81,559 MiB, a "24 GB" one 24,564.
            Self::MemoryAtLeast { gib } => accelerator.memory_mib >= u64::from(*gib) * 1000,
            Self::Mig { profile } => accelerator.mig.iter().any(|slice| slice.profile == *profile),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::MigSlice;
    use proptest::prelude::*;

    fn node(gpus: u32) -> NodeCapacity {
        let gpu = |index| Accelerator {
            index,
            uuid: format!("GPU-{index}"),
            model: "H100".parse().unwrap(),
            memory_mib: 81_559,
            mig: vec![],
            domain: None,
        };
        NodeCapacity { accelerators: (0..gpus).map(gpu).collect(), cpus_milli: 64_000, memory_mib: 1 << 20 }
    }

    fn ask(gpus: &str) -> Resources {
        Resources { gpus: Some(gpus.parse().unwrap()), cpus_milli: 1000, memory_mib: 1024 }
    }

    #[test]
    fn what_is_missing_is_named() {
        let capacity = node(2);
        let free = FreeResources::all_of(&capacity);
        assert_eq!(free.find(&capacity, &ask("H100:4")), Err(Shortfall::Gpus { wanted: 4, free: 2 }));
        assert_eq!(free.find(&capacity, &ask("A100:1")), Err(Shortfall::Gpus { wanted: 1, free: 0 }));
        assert!(free.find(&capacity, &ask("80GB+:2")).is_ok());
        let big = Resources { cpus_milli: 65_000, ..ask("1") };
        assert_eq!(
            free.find(&capacity, &big),
            Err(Shortfall::Cpus { wanted_milli: 65_000, free_milli: 64_000 })
        );
    }

    #[test]
    fn fractions_share_and_whole_gpus_do_not() {
        let capacity = node(2);
        let mut free = FreeResources::all_of(&capacity);
        let half = free.find(&capacity, &ask("0.60")).unwrap();
        free.take(&half).unwrap();
        assert_eq!([free.blocks_of(0), free.blocks_of(1), free.blocks_of(9)], [40, 100, 0]);
        assert_eq!(
            free.find(&capacity, &ask("0.40")).unwrap().shares,
            [AcceleratorShare { index: 0, blocks: 40 }]
        );
        assert_eq!(
            free.find(&capacity, &ask("0.50")).unwrap().shares,
            [AcceleratorShare { index: 1, blocks: 50 }]
        );
        assert_eq!(free.find(&capacity, &ask("2")), Err(Shortfall::Gpus { wanted: 2, free: 1 }));
    }

    #[test]
    fn mig_slices_are_given_by_profile() {
        let mut capacity = node(1);
        capacity.accelerators[0].mig = vec![
            MigSlice { uuid: "MIG-a".into(), profile: "1g.10gb".into() },
            MigSlice { uuid: "MIG-b".into(), profile: "3g.40gb".into() },
        ];
        let mut free = FreeResources::all_of(&capacity);
        assert!(free.find(&capacity, &ask("H100:1")).is_err());
        let slice = free.find(&capacity, &ask("mig-1g.10gb:1")).unwrap();
        free.take(&slice).unwrap();
        assert!(!free.has_slice("MIG-a") && free.has_slice("MIG-b"));
        assert!(free.take(&slice).is_err());
        assert!(free.find(&capacity, &ask("mig-1g.10gb:1")).is_err());
        free.give_back(&capacity, &slice);
        assert_eq!(free, FreeResources::all_of(&capacity));
    }

    proptest! {
        #[test]
        fn giving_back_restores_and_nothing_is_given_twice(asks in prop::collection::vec(1_u32..400, 1..30)) {
            let capacity = node(4);
            let mut free = FreeResources::all_of(&capacity);
            let mut taken = vec![];
            for ask_blocks in asks {
                let gpus = if ask_blocks < 100 { format!("0.{ask_blocks:02}") } else { (ask_blocks / 100).to_string() };
                if let Ok(found) = free.find(&capacity, &ask(&gpus)) {
                    free.take(&found).unwrap();
                    taken.push(found);
                }
                prop_assert!(taken.iter().map(Allocation::blocks).sum::<u64>() <= 400);
            }
            for allocation in &taken {
                free.give_back(&capacity, allocation);
            }
            prop_assert_eq!(free, FreeResources::all_of(&capacity));
        }
    }
}
