//! The peer: the node that would have least left, and on it the accelerator that would.
//!
//! Written to be obviously what it says, not to be fast; its time is not compared.

use spillway_policies::{Ask, PackingNode};
use spillway_types::GpuQuantity;
use spillway_types::resources::BLOCKS_PER_GPU;

use super::Place;

/// Of what least should be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// CPUs as a share of the most that any node has, plus accelerators likewise: best-fit in the FGD paper.
    CpuAndShare,
    /// Accelerators alone; CPUs where that is equal.
    Share,
}

/// Nodes that fill up by best-fit.
#[derive(Debug)]
pub(crate) struct BestFit {
    rooms: Vec<Room>,
    measure: Measure,
    most_cpus_milli: u32,
    most_accelerators: usize,
}

#[derive(Debug)]
struct Room {
    left: PackingNode,
    blocks: Vec<u32>,
}

impl BestFit {
    pub(crate) fn new(nodes: &[PackingNode], measure: Measure) -> Self {
        let room = |node: &PackingNode| Room { left: *node, blocks: vec![BLOCKS_PER_GPU; node.accelerators] };
        Self {
            rooms: nodes.iter().map(room).collect(),
            measure,
            most_cpus_milli: nodes.iter().map(|node| node.cpus_milli).max().unwrap_or(1).max(1),
            most_accelerators: nodes.iter().map(|node| node.accelerators).max().unwrap_or(1).max(1),
        }
    }

    /// What the room would have left, in parts of a million; the first number decides.
    fn left(&self, room: &Room, ask: &Ask) -> (u64, u64) {
        let cpus =
            u64::from(room.left.cpus_milli - ask.cpus_milli) * 1_000_000 / u64::from(self.most_cpus_milli);
        let blocks = room.blocks.iter().map(|blocks| u64::from(*blocks)).sum::<u64>() - ask.blocks();
        let whole = self.most_accelerators as u64 * u64::from(BLOCKS_PER_GPU);
        let share = blocks * 1_000_000 / whole;
        match self.measure {
            Measure::CpuAndShare => (cpus + share, 0),
            Measure::Share => (share, cpus),
        }
    }
}

impl Place for BestFit {
    fn place(&mut self, ask: &Ask) -> bool {
        let fitting = self.rooms.iter().enumerate().filter(|(_, room)| room.fits(ask));
        let Some((at, _)) = fitting.min_by_key(|(_, room)| self.left(room, ask)) else {
            return false;
        };
        self.rooms[at].take(ask);
        true
    }

    fn free_blocks(&self) -> u64 {
        self.rooms.iter().flat_map(|room| &room.blocks).map(|blocks| u64::from(*blocks)).sum()
    }
}

impl Room {
    fn fits(&self, ask: &Ask) -> bool {
        let whole = || self.blocks.iter().filter(|blocks| **blocks == BLOCKS_PER_GPU).count();
        ask.cpus_milli <= self.left.cpus_milli
            && ask.memory_mib <= self.left.memory_mib
            && match ask.gpus {
                None => true,
                Some(_) if ask.models >> self.left.model & 1 == 0 => false,
                Some(GpuQuantity::Whole(count)) => whole() as u64 >= u64::from(count),
                Some(GpuQuantity::Blocks(wanted)) => self.blocks.iter().any(|blocks| *blocks >= wanted),
            }
    }

    fn take(&mut self, ask: &Ask) {
        self.left.cpus_milli -= ask.cpus_milli;
        self.left.memory_mib -= ask.memory_mib;
        match ask.gpus {
            None => {}
            Some(GpuQuantity::Whole(count)) => {
                let free = self.blocks.iter_mut().filter(|blocks| **blocks == BLOCKS_PER_GPU);
                free.take(count as usize).for_each(|blocks| *blocks = 0);
            }
            Some(GpuQuantity::Blocks(wanted)) => {
                let enough = self.blocks.iter_mut().filter(|blocks| **blocks >= wanted);
                if let Some(blocks) = enough.min() {
                    *blocks -= wanted;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use spillway_policies::ANY_MODEL;

    use super::*;

    #[test]
    fn each_measure_takes_its_own_tightest_node() {
        let node =
            |cpus_milli, accelerators| PackingNode { cpus_milli, memory_mib: 10, accelerators, model: 0 };
        let ask =
            Ask { cpus_milli: 1_000, memory_mib: 1, gpus: Some(GpuQuantity::Blocks(40)), models: ANY_MODEL };
        // Left of node 0: all of the CPUs and half of the accelerators; of node 1: an eighth and nearly all.
        let nodes = [node(64_000, 2), node(8_000, 4)];
        for (measure, expected) in [(Measure::CpuAndShare, 1), (Measure::Share, 0)] {
            let mut peer = BestFit::new(&nodes, measure);
            assert!(peer.place(&ask) && peer.place(&ask));
            assert_eq!(peer.rooms[expected].blocks[..2], [20, 100], "{measure:?}");
            assert_eq!(peer.free_blocks(), 520);
        }
    }
}
