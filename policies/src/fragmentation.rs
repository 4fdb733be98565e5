//! How much accelerator share a node loses, and where a request makes that loss grow least.
//!
//! Fragmentation gradient descent (Weng et al., "Beware of Fragmentation", USENIX ATC 2023): a node's
//! fragmentation is the sum, over the requests that are typical ([`TaskMix`]), of how likely one is times the
//! free share it could not use there; a request goes where this rises least. One thing differs from the paper:
//! what a typical request could use is bounded by *how often* it fits into the node's CPUs and memory, not only by
//! whether it fits once. Eight free accelerators beside the CPUs for one task are seven lost ones.
//!
//! Whole-accelerator requests, gangs' parts among them, are in the mix like all others: breaking into a free
//! accelerator of a node that has just enough for them costs what they then could not use.
//!
//! Everything counts in whole numbers: weight x hundredths of an accelerator. Values are comparable only under
//! one [`TaskMix::version`]. Left out on purpose: time (this looks at one moment), MIG slices (a slice is whole
//! or taken), and accelerators of different models in one room (a mixed node is one room for each model).

mod mix;
mod packer;

use spillway_types::GpuQuantity;
use spillway_types::resources::BLOCKS_PER_GPU;

pub(crate) use mix::{TaskMix, Typical};
pub use packer::{Packer, PackingNode, Spot};

/// Accelerator models by number, one bit each; [`ANY_MODEL`] has all.
pub type ModelSet = u64;

/// No model is refused.
pub const ANY_MODEL: ModelSet = ModelSet::MAX;

/// What one request asks of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// Thousandths of a CPU.
    pub cpus_milli: u32,
    /// MiB.
    pub memory_mib: u64,
    /// Accelerators, or hundredths of one.
    pub gpus: Option<GpuQuantity>,
    /// The models that will do.
    pub models: ModelSet,
}

impl Ask {
    /// Hundredths of accelerators in all.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        match self.gpus {
            None => 0,
            Some(GpuQuantity::Whole(count)) => count as u64 * BLOCKS_PER_GPU as u64,
            Some(GpuQuantity::Blocks(blocks)) => blocks as u64,
        }
    }
}

/// What is free on a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeRoom<'a> {
    pub(crate) cpus_milli: u32,
    pub(crate) memory_mib: u64,
    /// Free hundredths of each accelerator.
    pub(crate) blocks: &'a [u32],
    /// The accelerators' model, below 64.
    pub(crate) model: u8,
}

/// Where on a node a request goes, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The accelerator of a fraction; none for other requests (whole ones take the first that are free).
    pub(crate) accelerator: Option<usize>,
    /// By how much the node's fragmentation rises; often below zero, since what is given out is not lost.
    pub(crate) rise: i64,
}

impl NodeRoom<'_> {
    /// Whether `ask` can be given.
    pub(crate) fn fits(&self, ask: &Ask) -> bool {
        ask.cpus_milli <= self.cpus_milli
            && ask.memory_mib <= self.memory_mib
            && match ask.gpus {
                None => true,
                Some(_) if ask.models >> self.model & 1 == 0 => false,
                Some(GpuQuantity::Whole(count)) => {
                    let mut whole = self.blocks.iter().filter(|blocks| **blocks == BLOCKS_PER_GPU);
                    usize::try_from(count).is_ok_and(|count| count == 0 || whole.nth(count - 1).is_some())
                }
                Some(GpuQuantity::Blocks(wanted)) => self.blocks.iter().any(|blocks| *blocks >= wanted),
            }
    }
}

/// The free share that typical requests could not use, each weighted by how often it is asked for.
pub(crate) fn fragmentation(room: NodeRoom<'_>, mix: &TaskMix) -> u64 {
    lost(room, mix, room.blocks.iter().copied())
}

/// By how much fragmentation rises when `ask`, which fits, is given: a fraction from `accelerator`, whole ones from
/// the first that are free. `before` is the room's [`fragmentation`].
pub(crate) fn rise(
    room: NodeRoom<'_>,
    mix: &TaskMix,
    ask: &Ask,
    accelerator: Option<usize>,
    before: u64,
) -> i64 {
    let left = NodeRoom {
        cpus_milli: room.cpus_milli - ask.cpus_milli,
        memory_mib: room.memory_mib - ask.memory_mib,
        ..room
    };
    let blocks = room.blocks.iter().copied();
    let after = match ask.gpus {
        None => lost(left, mix, blocks),
        Some(GpuQuantity::Whole(count)) => {
            let end = end_of_whole(room.blocks, count);
            let given = |(at, blocks)| if at < end && blocks == BLOCKS_PER_GPU { 0 } else { blocks };
            lost(left, mix, blocks.enumerate().map(given))
        }
        Some(GpuQuantity::Blocks(taken)) => {
            let given = |(at, blocks)| if Some(at) == accelerator { blocks - taken } else { blocks };
            lost(left, mix, blocks.enumerate().map(given))
        }
    };
    after.cast_signed() - before.cast_signed()
}

/// Where on the node `ask` makes fragmentation rise least; none where it does not fit. Of equals the accelerator
/// with least free, then the first. `before` is the room's [`fragmentation`].
pub(crate) fn best_accelerator(room: NodeRoom<'_>, mix: &TaskMix, ask: &Ask, before: u64) -> Option<Choice> {
    if !room.fits(ask) {
        return None;
    }
    let Some(GpuQuantity::Blocks(wanted)) = ask.gpus else {
        return Some(Choice { accelerator: None, rise: rise(room, mix, ask, None, before) });
    };
    let mut best: Option<(i64, u32, usize)> = None;
    for (at, blocks) in room.blocks.iter().enumerate() {
        // Accelerators with as much free are alike, the first stands for all.
        if *blocks < wanted || room.blocks[..at].contains(blocks) {
            continue;
        }
        let candidate = (rise(room, mix, ask, Some(at), before), *blocks, at);
        if best.is_none_or(|known| candidate < known) {
            best = Some(candidate);
        }
    }
    best.map(|(rise, _, at)| Choice { accelerator: Some(at), rise })
}

/// The index behind the `count`th wholly free accelerator.
pub(crate) fn end_of_whole(blocks: &[u32], count: u32) -> usize {
    let whole = blocks.iter().enumerate().filter(|(_, blocks)| **blocks == BLOCKS_PER_GPU);
    let taken = usize::try_from(count).unwrap_or(usize::MAX);
    whole.take(taken).last().map_or(0, |(at, _)| at + 1)
}

/// [`fragmentation`], with the accelerators given apart from the room.
fn lost(room: NodeRoom<'_>, mix: &TaskMix, blocks: impl Iterator<Item = u32>) -> u64 {
    // `held[b]`: what accelerators with exactly b free hundredths have together; from it what those with at least b have.
    let mut held = [0_u32; BLOCKS_PER_GPU as usize + 1];
    let mut total = 0_u32;
    for free in blocks {
        held[free.min(BLOCKS_PER_GPU) as usize] += free;
        total += free;
    }
    if total == 0 {
        return 0;
    }
    let mut least = held.len() - 1;
    let mut at_least = held[least];
    let memory_mib = u32::try_from(room.memory_mib).unwrap_or(u32::MAX);
    let mut used = 0_u64;
    // The typical requests come in falling order of the share of one accelerator that they ask for.
    for typical in mix.typical() {
        while least > typical.per_accelerator as usize {
            least -= 1;
            at_least += held[least];
        }
        used += u64::from(typical.weight) * u64::from(usable(typical, room, memory_mib, at_least));
    }
    u64::from(total) * mix.total_weight() - used
}

/// How many hundredths typical requests of this kind could use, of `at_least` on accelerators with enough free.
fn usable(typical: &Typical, room: NodeRoom<'_>, memory_mib: u32, at_least: u32) -> u32 {
    if at_least < typical.blocks
        || room.cpus_milli < typical.cpus_milli
        || memory_mib < typical.memory_mib
        || typical.models >> room.model & 1 == 0
    {
        return 0;
    }
    // Room for one more than could be used: no division is needed, and they are most of what this costs.
    let (blocks, more) = (u64::from(typical.blocks), u64::from(at_least) + u64::from(typical.blocks));
    if u64::from(room.cpus_milli) * blocks >= u64::from(typical.cpus_milli) * more
        && u64::from(memory_mib) * blocks >= u64::from(typical.memory_mib) * more
    {
        return at_least;
    }
    let times = (room.cpus_milli / typical.cpus_milli).min(memory_mib / typical.memory_mib);
    at_least.min(times.saturating_mul(typical.blocks))
}

#[cfg(test)]
mod tests;
