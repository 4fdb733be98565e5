//! Packing requests one by one onto nodes at one moment, each where fragmentation rises least.
//!
//! The same requests in the same order give the same spots. What was computed for a node is kept until the node or
//! the mix changes, so that most decisions look at numbers only. Leaves out whatever ends: nothing is given back.

use std::collections::BTreeMap;

use spillway_types::GpuQuantity;
use spillway_types::resources::BLOCKS_PER_GPU;

use super::{Ask, Choice, NodeRoom, TaskMix, best_accelerator, end_of_whole, fragmentation};

/// An empty node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackingNode {
    /// Thousandths of a CPU.
    pub cpus_milli: u32,
    /// MiB.
    pub memory_mib: u64,
    /// How many accelerators.
    pub accelerators: usize,
    /// Their model's number, below 64.
    pub model: u8,
}

/// Where a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Index of the node.
    pub node: usize,
    /// The accelerator of a fraction; whole ones are the first that were free.
    pub accelerator: Option<usize>,
}

/// Nodes that fill up.
#[derive(Debug)]
pub struct Packer {
    nodes: Vec<Room>,
    mix: TaskMix,
    /// What each request came to on each node when it was last looked at.
    known: BTreeMap<Ask, Vec<Known>>,
}

#[derive(Debug)]
struct Room {
    cpus_milli: u32,
    memory_mib: u64,
    blocks: Vec<u32>,
    model: u8,
    /// Rises with each change, from 1.
    changes: u32,
    /// Its fragmentation, and the mix and the changes for which it is true.
    lost: u64,
    lost_at: (u64, u32),
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    at: (u64, u32),
    choice: Option<Choice>,
}

/// Different requests for which something is kept; beyond, all is forgotten, so that memory stays bounded.
const MOST_KNOWN: usize = 256;

impl Packer {
    /// All nodes are empty, and no request is typical yet.
    #[must_use]
    pub fn new(nodes: &[PackingNode]) -> Self {
        let room = |node: &PackingNode| Room {
            cpus_milli: node.cpus_milli,
            memory_mib: node.memory_mib,
            blocks: vec![BLOCKS_PER_GPU; node.accelerators],
            model: node.model.min(63),
            changes: 1,
            lost: 0,
            lost_at: (0, 0),
        };
        Self { nodes: nodes.iter().map(room).collect(), mix: TaskMix::default(), known: BTreeMap::new() }
    }

    /// Learns from `ask` and places it; none where it fits nowhere. Of equal nodes the first.
    pub fn place(&mut self, ask: &Ask) -> Option<Spot> {
        self.mix.see(ask);
        if self.known.len() >= MOST_KNOWN && !self.known.contains_key(ask) {
            self.known.clear();
        }
        let nodes = self.nodes.len();
        let known = self.known.entry(*ask).or_insert_with(|| vec![Known::default(); nodes]);
        let mut best: Option<(i64, Spot)> = None;
        for (at, (room, known)) in self.nodes.iter_mut().zip(known).enumerate() {
            let current = (self.mix.version(), room.changes);
            if known.at != current {
                *known = Known { at: current, choice: room.choose(&self.mix, ask) };
            }
            if let Some(choice) = known.choice
                && best.is_none_or(|(least, _)| choice.rise < least)
            {
                best = Some((choice.rise, Spot { node: at, accelerator: choice.accelerator }));
            }
        }
        let (_, spot) = best?;
        self.nodes[spot.node].take(ask, spot.accelerator);
        Some(spot)
    }

    /// Hundredths of accelerators that nobody has.
    #[must_use]
    pub fn free_blocks(&self) -> u64 {
        self.nodes.iter().flat_map(|room| &room.blocks).map(|blocks| u64::from(*blocks)).sum()
    }
}

impl Room {
    fn view(&self) -> NodeRoom<'_> {
        NodeRoom {
            cpus_milli: self.cpus_milli,
            memory_mib: self.memory_mib,
            blocks: &self.blocks,
            model: self.model,
        }
    }

    fn choose(&mut self, mix: &TaskMix, ask: &Ask) -> Option<Choice> {
        if !self.view().fits(ask) {
            return None;
        }
        let current = (mix.version(), self.changes);
        if self.lost_at != current {
            self.lost = fragmentation(self.view(), mix);
            self.lost_at = current;
        }
        best_accelerator(self.view(), mix, ask, self.lost)
    }

    fn take(&mut self, ask: &Ask, accelerator: Option<usize>) {
        self.changes += 1;
        self.cpus_milli -= ask.cpus_milli;
        self.memory_mib -= ask.memory_mib;
        match (ask.gpus, accelerator) {
            (Some(GpuQuantity::Whole(count)), _) => {
                let end = end_of_whole(&self.blocks, count);
                for blocks in self.blocks[..end].iter_mut().filter(|blocks| **blocks == BLOCKS_PER_GPU) {
                    *blocks = 0;
                }
            }
            (Some(GpuQuantity::Blocks(taken)), Some(at)) => self.blocks[at] -= taken,
            (Some(GpuQuantity::Blocks(_)), None) | (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fragmentation::ANY_MODEL;

    const fn ask(cpus_milli: u32, gpus: Option<GpuQuantity>) -> Ask {
        Ask { cpus_milli, memory_mib: 1, gpus, models: ANY_MODEL }
    }

    const fn node(cpus_milli: u32, accelerators: usize, model: u8) -> PackingNode {
        PackingNode { cpus_milli, memory_mib: 1_000, accelerators, model }
    }

    #[test]
    fn fractions_share_an_accelerator_and_leave_a_node_whole_for_the_gang() {
        let mut packer = Packer::new(&[node(64_000, 4, 0), node(64_000, 4, 0)]);
        let gang = ask(16_000, Some(GpuQuantity::Whole(4)));
        assert_eq!(packer.place(&gang).map(|spot| spot.node), Some(0));
        let half = ask(1_000, Some(GpuQuantity::Blocks(50)));
        let mut packer = Packer::new(&[node(64_000, 4, 0), node(64_000, 4, 0)]);
        for _ in 0..3 {
            packer.mix.see(&gang);
        }
        let spots: Vec<_> = (0..4).filter_map(|_| packer.place(&half)).map(|spot| spot.node).collect();
        assert_eq!(spots, [0; 4]);
        assert!(packer.place(&gang).is_some());
        assert_eq!(packer.free_blocks(), 200);
    }

    #[test]
    fn a_request_for_cpus_alone_goes_where_the_accelerators_can_spare_them() {
        let mut packer = Packer::new(&[node(8_000, 2, 0), node(16_000, 2, 0)]);
        let typical = ask(4_000, Some(GpuQuantity::Whole(1)));
        packer.mix.see(&typical);
        let spot = packer.place(&ask(8_000, None));
        assert_eq!(spot, Some(Spot { node: 1, accelerator: None }));
    }

    #[test]
    fn nothing_is_given_twice_and_what_does_not_fit_is_refused() {
        let mut packer = Packer::new(&[node(10_000, 1, 0), node(10_000, 1, 5)]);
        let mut only_5 = ask(1_000, Some(GpuQuantity::Blocks(60)));
        only_5.models = 1 << 5;
        assert_eq!(packer.place(&only_5), Some(Spot { node: 1, accelerator: Some(0) }));
        assert_eq!(packer.place(&only_5), None);
        assert_eq!(packer.place(&ask(20_000, None)), None);
        assert_eq!(packer.place(&ask(1_000, Some(GpuQuantity::Whole(2)))), None);
        assert_eq!(packer.free_blocks(), 140);
    }

    #[test]
    fn memory_stays_bounded_and_the_answer_stays_right_beyond_it() {
        let mut packer = Packer::new(&[node(1_000_000, 8, 0)]);
        for cpus in 0..600 {
            packer.place(&ask(cpus, Some(GpuQuantity::Blocks(1))));
        }
        assert!(packer.known.len() <= MOST_KNOWN);
        assert_eq!(packer.free_blocks(), 200);
    }
}
