//! The order of the queue: higher priority first; groups of one priority take turns by blocks in use over
//! weight; within a group first come, first served.
//!
//! What a plan starts or reserves counts as in use from then on, so that turns alternate within a plan too. A
//! turn is one task: an array cannot take all that is free before another group is asked.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, VecDeque};

use spillway_types::GroupName;

use crate::{GroupView, QueuedJob};

/// What a CPU-only task counts on each node, in hundredths of an accelerator: an eighth, rounded down.
const CPU_TASK_BLOCKS: u64 = 12;

/// Blocks that one task of the job counts for its group's share.
pub(crate) fn share_blocks(job: &QueuedJob) -> u64 {
    let each = job.resources.gpus.as_ref().map_or(CPU_TASK_BLOCKS, spillway_types::GpuRequest::blocks);
    each.saturating_mul(u64::from(job.nodes.max(1)))
}

/// The jobs of one group, and its share.
#[derive(Debug)]
struct Line<'a> {
    blocks: u64,
    weight: u32,
    jobs: VecDeque<&'a QueuedJob>,
}

impl Line<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        let scaled = |mine: &Self, theirs: &Self| u128::from(mine.blocks) * u128::from(theirs.weight);
        let head = |line: &Self| line.jobs.front().map(|job| (job.since, job.job));
        scaled(self, other).cmp(&scaled(other, self)).then_with(|| head(self).cmp(&head(other)))
    }
}

/// The queue, in the order in which it is looked at.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    /// Lines that are not empty, by priority, highest first.
    tiers: BTreeMap<Reverse<i32>, Vec<Line<'a>>>,
}

/// A line of the [`Order`]; good until the next call of `settle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    tier: Reverse<i32>,
    line: usize,
}

impl<'a> Order<'a> {
    /// A group that is not in `groups` has priority 0 and weight 1.
    pub(crate) fn of(queue: &'a [QueuedJob], groups: &BTreeMap<GroupName, GroupView>) -> Self {
        let mut by_group: BTreeMap<&GroupName, Vec<&QueuedJob>> = BTreeMap::new();
        for job in queue {
            by_group.entry(&job.group).or_default().push(job);
        }
        let mut tiers: BTreeMap<Reverse<i32>, Vec<Line<'a>>> = BTreeMap::new();
        for (name, mut jobs) in by_group {
            jobs.sort_by_key(|job| (job.since, job.job));
            let view = groups.get(name);
            let line = Line {
                blocks: view.map_or(0, |group| group.blocks_in_use),
                weight: view.map_or(1, |group| group.weight.max(1)),
                jobs: jobs.into(),
            };
            tiers.entry(Reverse(view.map_or(0, |group| group.priority))).or_default().push(line);
        }
        Self { tiers }
    }

    /// Whose turn it is, and the job at the head of that line.
    pub(crate) fn next(&self) -> Option<(Turn, &'a QueuedJob)> {
        let (tier, lines) = self.tiers.first_key_value()?;
        let (at, line) = lines.iter().enumerate().min_by(|(_, a), (_, b)| a.compare(b))?;
        Some((Turn { tier: *tier, line: at }, line.jobs.front()?))
    }

    /// Counts `blocks` for the line from now on.
    pub(crate) fn charge(&mut self, turn: Turn, blocks: u64) {
        if let Some(line) = self.tiers.get_mut(&turn.tier).and_then(|lines| lines.get_mut(turn.line)) {
            line.blocks = line.blocks.saturating_add(blocks);
        }
    }

    /// Takes the job at the head of the line out.
    pub(crate) fn settle(&mut self, turn: Turn) {
        let Some(lines) = self.tiers.get_mut(&turn.tier) else { return };
        if let Some(line) = lines.get_mut(turn.line) {
            line.jobs.pop_front();
            if line.jobs.is_empty() {
                lines.remove(turn.line);
            }
        }
        if lines.is_empty() {
            self.tiers.remove(&turn.tier);
        }
    }
}
