//! The compact form in which the planner counts: accelerators of a node that no request can tell apart are one
//! class, and a [`Level`] is a count of free ones and the blocks left on shared ones.
//!
//! `FreeResources` stays the judge of what is really given; this form only answers "would it fit then" quickly.
//! It leaves out which accelerator is which: what is reserved for later is assigned when it starts. A level is
//! small, has a fixed size and is copied freely.

use spillway_types::resources::BLOCKS_PER_GPU;
use spillway_types::{Accelerator, FreeResources, GpuQuantity, GpuSelector, NodeCapacity, Resources};

/// Most classes that one node is divided into: models, memory sizes and MIG profiles of one machine. Accelerators
/// of any further class are never planned on.
pub(crate) const MAX_CLASSES: usize = 8;

/// Most accelerators of one node that are shared at the same time in the planner's eyes; what is left on any
/// further one is not planned on. No machine that is sold has more accelerators than this.
const MAX_SHARED: usize = 16;

/// A set of classes of one node, one bit each.
pub(crate) type ClassMask = u8;

/// A node's accelerators by class.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    classes: Vec<Class>,
}

#[derive(Debug, Clone)]
enum Class {
    Whole { sample: Accelerator, indexes: Vec<u32> },
    Slices { profile: String, count: u16 },
}

/// What is left on one shared accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Shared {
    class: u8,
    /// Hundredths; 0 where nothing is shared here.
    blocks: u8,
}

/// What is free on a node at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Level {
    pub(crate) cpus_milli: u32,
    /// At most 4 PiB: profiles are long, and the planner is as fast as they are small.
    pub(crate) memory_mib: u32,
    /// Accelerators or slices of each class that are wholly free.
    whole: [u16; MAX_CLASSES],
    shared: [Shared; MAX_SHARED],
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

impl Layout {
    pub(crate) fn of(capacity: &NodeCapacity) -> Self {
        let mut classes: Vec<Class> = Vec::new();
        for accelerator in &capacity.accelerators {
            if accelerator.mig.is_empty() {
                add_whole(&mut classes, accelerator);
            }
            for slice in &accelerator.mig {
                add_slice(&mut classes, &slice.profile);
            }
        }
        classes.truncate(MAX_CLASSES);
        Self { classes }
    }

    /// Whether the node has accelerators at all.
    pub(crate) const fn has_gpus(&self) -> bool {
        !self.classes.is_empty()
    }

    /// The classes that `selector` accepts.
    pub(crate) fn mask(&self, selector: &GpuSelector) -> ClassMask {
        let accepts = |class: &Class| match (class, selector) {
            (Class::Slices { profile, .. }, GpuSelector::Mig { profile: wanted }) => profile == wanted,
            (Class::Slices { .. }, _) | (Class::Whole { .. }, GpuSelector::Mig { .. }) => false,
            (Class::Whole { sample, .. }, _) => selector.matches(sample),
        };
        let bits = self.classes.iter().enumerate().filter(|(_, class)| accepts(class));
        bits.fold(0, |mask, (bit, _)| mask | 1 << bit)
    }

    /// What is free on a node of this layout.
    pub(crate) fn level(&self, capacity: &NodeCapacity, free: &FreeResources) -> Level {
        let (cpus_milli, memory_mib) = (free.cpus_milli(), narrow(free.memory_mib()));
        let mut level = Level { cpus_milli, memory_mib, ..Level::default() };
        for (at, class) in self.classes.iter().enumerate() {
            match class {
                Class::Whole { indexes, .. } => {
                    for blocks in indexes.iter().map(|index| free.blocks_of(*index)) {
                        match blocks {
                            0 => {}
                            BLOCKS_PER_GPU.. => level.whole[at] += 1,
                            part => level.share(at, part),
                        }
                    }
                }
                Class::Slices { profile, .. } => {
                    let slices = capacity.accelerators.iter().flat_map(|accelerator| &accelerator.mig);
                    let mine = slices.filter(|slice| slice.profile == *profile);
                    let count = mine.filter(|slice| free.has_slice(&slice.uuid)).count();
                    level.whole[at] = u16::try_from(count).unwrap_or(u16::MAX);
                }
            }
        }
        level
    }

    /// What is free on an empty node of this capacity.
    pub(crate) fn all(&self, capacity: &NodeCapacity) -> Level {
        let (cpus_milli, memory_mib) = (capacity.cpus_milli, narrow(capacity.memory_mib));
        let mut level = Level { cpus_milli, memory_mib, ..Level::default() };
        for (whole, class) in level.whole.iter_mut().zip(&self.classes) {
            *whole = match class {
                Class::Whole { indexes, .. } => u16::try_from(indexes.len()).unwrap_or(u16::MAX),
                Class::Slices { count, .. } => *count,
            };
        }
        level
    }
}

fn narrow(memory_mib: u64) -> u32 {
    u32::try_from(memory_mib).unwrap_or(u32::MAX)
}

fn add_whole(classes: &mut Vec<Class>, accelerator: &Accelerator) {
    for class in classes.iter_mut() {
        if let Class::Whole { sample, indexes } = class
            && sample.model == accelerator.model
            && sample.memory_mib == accelerator.memory_mib
        {
            indexes.push(accelerator.index);
            return;
        }
    }
    classes.push(Class::Whole { sample: accelerator.clone(), indexes: vec![accelerator.index] });
}

fn add_slice(classes: &mut Vec<Class>, name: &str) {
    for class in classes.iter_mut() {
        if let Class::Slices { profile, count } = class
            && *profile == name
        {
            *count = count.saturating_add(1);
            return;
        }
    }
    classes.push(Class::Slices { profile: name.to_owned(), count: 1 });
}

impl Level {
    /// Notes a shared accelerator; where there is no place for it any more, the smallest remainder is forgotten.
    fn share(&mut self, class: usize, blocks: u32) {
        let shared = Shared {
            class: u8::try_from(class).unwrap_or(u8::MAX),
            blocks: u8::try_from(blocks).unwrap_or(u8::MAX),
        };
        if let Some(smallest) = self.shared.iter_mut().min_by_key(|place| place.blocks)
            && smallest.blocks < shared.blocks
        {
            *smallest = shared;
        }
    }

    /// Wholly free accelerators of the classes in `mask`.
    pub(crate) fn whole_free(&self, mask: ClassMask) -> u32 {
        let mut left = mask;
        let mut sum = 0;
        while left != 0 {
            sum += u32::from(self.whole[left.trailing_zeros() as usize]);
            left &= left - 1;
        }
        sum
    }

    /// Wholly free accelerators of every class.
    pub(crate) fn whole_free_of_all(&self) -> u32 {
        self.whole.iter().map(|count| u32::from(*count)).sum()
    }

    /// The most hundredths that are free on one accelerator of the classes in `mask`.
    pub(crate) fn most_blocks_free(&self, mask: ClassMask) -> u32 {
        if self.whole_free(mask) > 0 {
            return BLOCKS_PER_GPU;
        }
        self.shared_in(mask).map(|shared| u32::from(shared.blocks)).max().unwrap_or(0)
    }

    /// Free hundredths of each accelerator of the classes in `mask`, the fullest shared ones first.
    pub(crate) fn blocks_each(&self, mask: ClassMask) -> Vec<u32> {
        let mut each: Vec<u32> = self.shared_in(mask).map(|shared| u32::from(shared.blocks)).collect();
        each.sort_unstable();
        each.extend((0..self.whole_free(mask)).map(|_| BLOCKS_PER_GPU));
        each
    }

    /// Free hundredths of all classes together.
    pub(crate) fn blocks_free(&self) -> u64 {
        let whole = u64::from(self.whole_free_of_all()) * u64::from(BLOCKS_PER_GPU);
        whole + self.shared.iter().map(|shared| u64::from(shared.blocks)).sum::<u64>()
    }

    fn shared_in(&self, mask: ClassMask) -> impl Iterator<Item = &Shared> {
        self.shared.iter().filter(move |shared| shared.blocks > 0 && mask >> shared.class & 1 == 1)
    }

    /// Takes `need` out, as far as it is there: accelerators of the first class of `mask` first; a part from the
    /// fullest shared one.
    pub(crate) fn take(&mut self, need: &Need, mask: ClassMask) {
        self.cpus_milli = self.cpus_milli.saturating_sub(need.cpus_milli);
        self.memory_mib = self.memory_mib.saturating_sub(narrow(need.memory_mib));
        match need.want {
            Want::Nothing => {}
            Want::Whole(mut count) => {
                for (_, whole) in self.whole.iter_mut().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1) {
                    let taken = u16::try_from(count).unwrap_or(u16::MAX).min(*whole);
                    *whole -= taken;
                    count -= u32::from(taken);
                }
            }
            Want::Blocks(blocks) => self.take_part(mask, blocks),
        }
    }

    fn take_part(&mut self, mask: ClassMask, blocks: u32) {
        let fits = |shared: &&mut Shared| {
            shared.blocks > 0 && mask >> shared.class & 1 == 1 && u32::from(shared.blocks) >= blocks
        };
        if let Some(tightest) = self.shared.iter_mut().filter(fits).min_by_key(|shared| shared.blocks) {
            tightest.blocks -= u8::try_from(blocks).unwrap_or(tightest.blocks);
        } else if let Some(class) = (0..MAX_CLASSES).find(|bit| mask >> bit & 1 == 1 && self.whole[*bit] > 0)
        {
            self.whole[class] -= 1;
            self.share(class, BLOCKS_PER_GPU - blocks);
        }
    }
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

    /// Whether whatever gives this gives the other too.
    pub(crate) const fn asks_at_least(&self, other: &Self) -> bool {
        let more = match (self.want, other.want) {
            (_, Want::Nothing) => true,
            (Want::Whole(mine), Want::Whole(other)) | (Want::Blocks(mine), Want::Blocks(other)) => {
                mine >= other
            }
            (Want::Nothing | Want::Whole(_) | Want::Blocks(_), Want::Whole(_) | Want::Blocks(_)) => false,
        };
        more && self.cpus_milli >= other.cpus_milli && self.memory_mib >= other.memory_mib
    }

    /// Whether it fits into this level, using classes of `mask` only.
    pub(crate) fn fits(&self, level: &Level, mask: ClassMask) -> bool {
        self.cpus_milli <= level.cpus_milli
            && self.memory_mib <= u64::from(level.memory_mib)
            && match self.want {
                Want::Nothing => true,
                Want::Whole(count) => level.whole_free(mask) >= count,
                Want::Blocks(blocks) => level.most_blocks_free(mask) >= blocks,
            }
    }

    /// Whether giving it would break into an accelerator that is wholly free, where sharing one would not.
    pub(crate) fn opens_a_whole(&self, level: &Level, mask: ClassMask) -> bool {
        match self.want {
            Want::Nothing | Want::Whole(_) => false,
            Want::Blocks(blocks) => !level.shared_in(mask).any(|shared| u32::from(shared.blocks) >= blocks),
        }
    }
}
