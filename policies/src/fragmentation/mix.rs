//! Which requests are typical: a histogram of what was asked, bounded, forgetting slowly, learnt from the past only.
//!
//! The order of sightings decides everything; there is no clock and no randomness. What [`TaskMix::typical`] gives
//! changes only when [`TaskMix::version`] does, so that what was computed from it may be kept meanwhile.

use std::collections::BTreeMap;

use spillway_types::GpuQuantity;
use spillway_types::resources::BLOCKS_PER_GPU;

use super::{Ask, ModelSet};

/// Different requests that are remembered. Half as many lose 0.1 points of the share on recorded requests,
/// since what is rare is then forgotten between two sightings.
const MOST_SHAPES: usize = 50;

/// What one sighting adds, so that halving a few times leaves something.
const SIGHTING: u32 = 1024;

/// After so many sightings all weights are halved. A weight stays below twice this many sightings.
const HALVED_EVERY: u32 = 2_048;

/// How many sightings pass between two versions, once there were that many; before, at each power of two.
const PUBLISHED_EVERY: u32 = 256;

/// One typical request, as the sum over all of them wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Typical {
    pub(crate) weight: u32,
    /// At least 1, so that it can be divided by.
    pub(crate) cpus_milli: u32,
    /// At least 1.
    pub(crate) memory_mib: u32,
    /// Hundredths of accelerators in all.
    pub(crate) blocks: u32,
    /// Hundredths that each accelerator must have free.
    pub(crate) per_accelerator: u32,
    pub(crate) models: ModelSet,
}

/// The requests seen of late, by how often.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskMix {
    weights: BTreeMap<Ask, u32>,
    seen: u32,
    published: Vec<Typical>,
    total_weight: u64,
    version: u64,
}

impl TaskMix {
    /// Counts one request. Those for no accelerator lose no share anywhere and are left out.
    pub(crate) fn see(&mut self, ask: &Ask) {
        if ask.blocks() == 0 {
            return;
        }
        *self.weights.entry(*ask).or_default() += SIGHTING;
        if self.weights.len() > MOST_SHAPES {
            self.forget_one(ask);
        }
        self.seen += 1;
        if self.seen.is_multiple_of(PUBLISHED_EVERY) || self.version < 8 && self.seen.is_power_of_two() {
            self.publish();
        }
        if self.seen == HALVED_EVERY {
            self.halve();
        }
    }

    /// The lightest goes, but not the newcomer: it could otherwise never gain weight.
    fn forget_one(&mut self, newcomer: &Ask) {
        let others = self.weights.iter().filter(|(ask, _)| *ask != newcomer);
        let lightest = others.min_by_key(|(_, weight)| **weight).map(|(ask, _)| *ask);
        if let Some(lightest) = lightest {
            self.weights.remove(&lightest);
        }
    }

    fn halve(&mut self) {
        self.seen = 0;
        self.weights.retain(|_, weight| {
            *weight /= 2;
            *weight > 0
        });
    }

    fn publish(&mut self) {
        self.version += 1;
        self.published = self.weights.iter().map(|(ask, weight)| Typical::of(ask, *weight)).collect();
        self.published.sort_by_key(|typical| std::cmp::Reverse(typical.per_accelerator));
        self.total_weight = self.published.iter().map(|typical| u64::from(typical.weight)).sum();
    }

    /// In falling order of [`Typical::per_accelerator`].
    pub(crate) fn typical(&self) -> &[Typical] {
        &self.published
    }

    /// The weights of all [`TaskMix::typical`] requests together.
    pub(crate) const fn total_weight(&self) -> u64 {
        self.total_weight
    }

    /// Rises when [`TaskMix::typical`] changes.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }
}

impl Typical {
    fn of(ask: &Ask, weight: u32) -> Self {
        let per_accelerator = match ask.gpus {
            None => 0,
            Some(GpuQuantity::Whole(_)) => BLOCKS_PER_GPU,
            Some(GpuQuantity::Blocks(blocks)) => blocks.min(BLOCKS_PER_GPU),
        };
        Self {
            weight,
            cpus_milli: ask.cpus_milli.max(1),
            memory_mib: u32::try_from(ask.memory_mib).unwrap_or(u32::MAX).max(1),
            blocks: u32::try_from(ask.blocks()).unwrap_or(u32::MAX),
            per_accelerator,
            models: ask.models,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fragmentation::ANY_MODEL;

    fn ask(cpus_milli: u32, gpus: GpuQuantity) -> Ask {
        Ask { cpus_milli, memory_mib: 0, gpus: Some(gpus), models: ANY_MODEL }
    }

    #[test]
    fn versions_come_often_at_first_and_then_every_256_sightings() {
        let mut mix = TaskMix::default();
        let mut published = Vec::new();
        for seen in 1..=800 {
            let before = mix.version();
            mix.see(&ask(1, GpuQuantity::Whole(1)));
            if mix.version() > before {
                published.push(seen);
            }
        }
        assert_eq!(published, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768]);
    }

    #[test]
    fn the_mix_is_bounded_and_keeps_what_is_frequent() {
        let mut mix = TaskMix::default();
        let frequent = ask(7, GpuQuantity::Blocks(30));
        for rare in 100..1_000 {
            mix.see(&frequent);
            mix.see(&ask(rare, GpuQuantity::Whole(1)));
        }
        assert_eq!(mix.weights.len(), MOST_SHAPES);
        assert_eq!(mix.weights[&frequent], 900 * SIGHTING);
        let shares: Vec<u32> = mix.typical().iter().map(|typical| typical.per_accelerator).collect();
        assert_eq!(shares.first(), Some(&100));
        assert_eq!(shares.last(), Some(&30));
    }

    #[test]
    fn weights_are_halved_and_what_is_never_asked_again_is_forgotten() {
        let (old, new) = (ask(1, GpuQuantity::Whole(1)), ask(2, GpuQuantity::Whole(1)));
        let mut mix = TaskMix::default();
        mix.see(&old);
        for _ in 1..HALVED_EVERY {
            mix.see(&new);
        }
        assert_eq!((mix.weights[&old], mix.weights[&new]), (SIGHTING / 2, (HALVED_EVERY - 1) * SIGHTING / 2));
        for _ in 0..HALVED_EVERY * 10 {
            mix.see(&new);
        }
        assert!(!mix.weights.contains_key(&old));
        assert!(mix.weights[&new] < 2 * HALVED_EVERY * SIGHTING, "the bound on a weight");
    }

    #[test]
    fn requests_without_accelerators_are_left_out() {
        let mut mix = TaskMix::default();
        mix.see(&Ask { gpus: None, ..ask(1, GpuQuantity::Whole(1)) });
        assert_eq!((mix.version(), mix.typical().len()), (0, 0));
    }
}
