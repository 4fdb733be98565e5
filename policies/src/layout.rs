//! The compact form in which the planner counts: accelerators of a node that no request can tell apart are one
//! class, and a class is a count of free ones and the rooms left on shared ones.
//!
//! `FreeResources` stays the judge of what is really given; this form only answers "would it fit then" quickly.
//! It leaves out which accelerator is which: what is reserved for later is assigned when it starts.

use spillway_types::resources::BLOCKS_PER_GPU;
use spillway_types::{Accelerator, FreeResources, GpuQuantity, GpuSelector, NodeCapacity, Resources};

/// Most classes that one node is divided into: one bit each in a [`ClassMask`]. Accelerators of any further
/// class are never planned on.
const MAX_CLASSES: usize = 64;

/// A set of classes of one node, one bit each.
pub(crate) type ClassMask = u64;

/// A node's accelerators by class.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    classes: Vec<Class<'a>>,
}

#[derive(Debug)]
enum Class<'a> {
    Whole { sample: &'a Accelerator, indexes: Vec<u32> },
    Slices { profile: &'a str, uuids: Vec<&'a str> },
}

/// What is free of one class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Room {
    /// Accelerators or slices that are wholly free.
    pub(crate) whole: u32,
    /// Free hundredths of accelerators that are shared and not full.
    pub(crate) parts: Vec<u32>,
}

/// What a job asks of the accelerators of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Nothing,
    Whole(u32),
    Blocks(u32),
}

/// What a job asks of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) want: Want,
    pub(crate) cpus_milli: u32,
    pub(crate) memory_mib: u64,
}

/// What is free on a node at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LevelView<'a> {
    pub(crate) cpus_milli: u32,
    pub(crate) memory_mib: u64,
    pub(crate) rooms: &'a [Room],
}

impl<'a> Layout<'a> {
    pub(crate) fn of(capacity: &'a NodeCapacity) -> Self {
        let mut classes: Vec<Class<'a>> = Vec::new();
        for accelerator in &capacity.accelerators {
            if accelerator.mig.is_empty() {
                add_whole(&mut classes, accelerator);
            }
            for slice in &accelerator.mig {
                add_slice(&mut classes, &slice.profile, &slice.uuid);
            }
        }
        classes.truncate(MAX_CLASSES);
        Self { classes }
    }

    /// How many classes there are.
    pub(crate) const fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether the node has accelerators at all.
    pub(crate) const fn has_gpus(&self) -> bool {
        !self.classes.is_empty()
    }

    /// The classes that `selector` accepts.
    pub(crate) fn mask(&self, selector: &GpuSelector) -> ClassMask {
        let accepts = |class: &Class<'_>| match (class, selector) {
            (Class::Slices { profile, .. }, GpuSelector::Mig { profile: wanted }) => profile == wanted,
            (Class::Slices { .. }, _) | (Class::Whole { .. }, GpuSelector::Mig { .. }) => false,
            (Class::Whole { sample, .. }, _) => selector.matches(sample),
        };
        let bits = self.classes.iter().enumerate().filter(|(_, class)| accepts(class));
        bits.fold(0, |mask, (bit, _)| mask | 1 << bit)
    }

    /// What is free of each class.
    pub(crate) fn rooms(&self, free: &FreeResources) -> Vec<Room> {
        self.classes.iter().map(|class| class.room(free)).collect()
    }

    /// All of each class.
    pub(crate) fn all(&self) -> Vec<Room> {
        let count = |class: &Class<'_>| match class {
            Class::Whole { indexes, .. } => indexes.len(),
            Class::Slices { uuids, .. } => uuids.len(),
        };
        let room = |n| Room { whole: u32::try_from(n).unwrap_or(u32::MAX), parts: Vec::new() };
        self.classes.iter().map(|class| room(count(class))).collect()
    }
}

impl Class<'_> {
    fn room(&self, free: &FreeResources) -> Room {
        let mut room = Room::default();
        match self {
            Self::Whole { indexes, .. } => {
                for blocks in indexes.iter().map(|index| free.blocks_of(*index)) {
                    match blocks {
                        0 => {}
                        BLOCKS_PER_GPU.. => room.whole += 1,
                        part => room.parts.push(part),
                    }
                }
            }
            Self::Slices { uuids, .. } => {
                let count = uuids.iter().filter(|uuid| free.has_slice(uuid)).count();
                room.whole = u32::try_from(count).unwrap_or(u32::MAX);
            }
        }
        room
    }
}

fn add_whole<'a>(classes: &mut Vec<Class<'a>>, accelerator: &'a Accelerator) {
    for class in classes.iter_mut() {
        if let Class::Whole { sample, indexes } = class
            && sample.model == accelerator.model
            && sample.memory_mib == accelerator.memory_mib
        {
            indexes.push(accelerator.index);
            return;
        }
    }
    classes.push(Class::Whole { sample: accelerator, indexes: vec![accelerator.index] });
}

fn add_slice<'a>(classes: &mut Vec<Class<'a>>, name: &'a str, uuid: &'a str) {
    for class in classes.iter_mut() {
        if let Class::Slices { profile, uuids } = class
            && *profile == name
        {
            uuids.push(uuid);
            return;
        }
    }
    classes.push(Class::Slices { profile: name, uuids: vec![uuid] });
}

impl Need {
    pub(crate) fn of(resources: &Resources) -> Self {
        let want = match resources.gpus.as_ref().map(|gpus| gpus.quantity) {
            None => Want::Nothing,
            Some(GpuQuantity::Whole(count)) => Want::Whole(count),
            Some(GpuQuantity::Blocks(blocks)) => Want::Blocks(blocks),
        };
        Self { want, cpus_milli: resources.cpus_milli, memory_mib: resources.memory_mib }
    }

    /// Whether it fits into this level, using classes of `mask` only.
    pub(crate) fn fits(&self, level: LevelView<'_>, mask: ClassMask) -> bool {
        self.cpus_milli <= level.cpus_milli
            && self.memory_mib <= level.memory_mib
            && match self.want {
                Want::Nothing => true,
                Want::Whole(count) => whole_free(level.rooms, mask) >= count,
                Want::Blocks(blocks) => most_blocks_free(level.rooms, mask) >= blocks,
            }
    }

    /// Takes the accelerators out of `rooms`: the first class of `mask` first; a part from the fullest one.
    pub(crate) fn take(&self, rooms: &mut [Room], mask: ClassMask) {
        match self.want {
            Want::Nothing => {}
            Want::Whole(mut count) => {
                for (_, room) in rooms.iter_mut().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1) {
                    let taken = count.min(room.whole);
                    room.whole -= taken;
                    count -= taken;
                }
            }
            Want::Blocks(blocks) => take_part(rooms, mask, blocks),
        }
    }

    /// Whether giving it would break into an accelerator that is wholly free, where sharing one would not.
    pub(crate) fn opens_a_whole(&self, rooms: &[Room], mask: ClassMask) -> bool {
        match self.want {
            Want::Nothing | Want::Whole(_) => false,
            Want::Blocks(blocks) => {
                !selected(rooms, mask).any(|room| room.parts.iter().any(|p| *p >= blocks))
            }
        }
    }
}

/// The rooms whose class is in `mask`.
fn selected(rooms: &[Room], mask: ClassMask) -> impl Iterator<Item = &Room> {
    rooms.iter().enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, room)| room)
}

/// Wholly free accelerators of the classes in `mask`.
pub(crate) fn whole_free(rooms: &[Room], mask: ClassMask) -> u32 {
    selected(rooms, mask).map(|room| room.whole).sum()
}

/// The most hundredths that are free on one accelerator of the classes in `mask`.
pub(crate) fn most_blocks_free(rooms: &[Room], mask: ClassMask) -> u32 {
    let most = |room: &Room| match room.whole {
        0 => room.parts.iter().copied().max().unwrap_or(0),
        _ => BLOCKS_PER_GPU,
    };
    selected(rooms, mask).map(most).max().unwrap_or(0)
}

/// Free hundredths of all classes together.
pub(crate) fn blocks_free(rooms: &[Room]) -> u64 {
    let of = |room: &Room| {
        u64::from(room.whole) * u64::from(BLOCKS_PER_GPU)
            + room.parts.iter().map(|p| u64::from(*p)).sum::<u64>()
    };
    rooms.iter().map(of).sum()
}

fn take_part(rooms: &mut [Room], mask: ClassMask, blocks: u32) {
    let inside = |bit: usize| mask >> bit & 1 == 1;
    let tightest = rooms
        .iter()
        .enumerate()
        .filter(|(bit, _)| inside(*bit))
        .flat_map(|(bit, room)| room.parts.iter().enumerate().map(move |(at, part)| (*part, bit, at)))
        .filter(|(part, _, _)| *part >= blocks)
        .min();
    if let Some((part, bit, at)) = tightest {
        if part == blocks {
            rooms[bit].parts.swap_remove(at);
        } else {
            rooms[bit].parts[at] = part - blocks;
        }
    } else if let Some(bit) = (0..rooms.len()).find(|bit| inside(*bit) && rooms[*bit].whole > 0) {
        rooms[bit].whole -= 1;
        rooms[bit].parts.push(BLOCKS_PER_GPU - blocks);
    }
}
