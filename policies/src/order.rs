//! The order of the queue: what somebody put on top, then higher priority first; within a priority the lines of the groups take turns by their
//! dominant share over weight, or all jobs stand in one line, as the policy says. Within a line the order is what the search
//! makes of it; a job that comes stands at the end.
//!
//! What stands before counts as in use from then on, so that turns alternate within a plan too. A turn is one task:
//! an array cannot take all that is free before another group is asked.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::item::Item;
use crate::policy::Sharing;
use crate::{Amounts, QueuedJob};
use spillway_types::{Resources, Standing};

/// What one task of the job counts for its group's share.
fn amounts(job: &QueuedJob) -> Amounts {
    let Resources { gpus, cpus_milli, memory_mib } = &job.resources;
    let blocks = gpus.as_ref().map_or(0, spillway_types::GpuRequest::blocks);
    let each = Amounts { blocks, cpus_milli: u64::from(*cpus_milli), memory_mib: *memory_mib };
    each.times(u64::from(job.nodes.max(1)))
}

/// Which line a job stands in. Lines of one tier take turns; an earlier tier goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LineKey {
    tier: Tier,
    /// The group's number; 0 where all stand in one line.
    group: usize,
}

/// What an admin put on top, the newest first; then by priority, the highest first.
type Tier = (Reverse<u64>, Reverse<i32>);

impl LineKey {
    pub(crate) const fn of(item: &Item, priority: i32, sharing: Sharing) -> Self {
        let group = match sharing {
            Sharing::Fair => item.group,
            Sharing::Efficient => 0,
        };
        let top = match item.job.standing {
            // Counted from 1, so that even the first goes before those that nobody put on top.
            Standing::TopOfAll(number) => number.saturating_add(1),
            Standing::TopOfGroup(_) | Standing::Plain => 0,
        };
        Self { tier: (Reverse(top), Reverse(priority)), group }
    }
}

/// What a group has in use, and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) used: Amounts,
    pub(crate) weight: u32,
}

/// What groups have, and what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares<'a> {
    pub(crate) of: &'a [Share],
    pub(crate) all: Amounts,
}

/// How much of the queue is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front {
    /// Most jobs.
    pub(crate) jobs: usize,
    /// Most tasks of one job.
    pub(crate) tasks: usize,
}

/// The lines. Jobs are known by their slots.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: BTreeMap<LineKey, Vec<usize>>,
}

/// A line while turns are taken.
struct Turns<'a> {
    share: Share,
    /// The dominant share of what it has in use and what was laid of it.
    dominant: u64,
    slots: &'a [usize],
    /// The job whose turn it is, and how many of its tasks have had theirs.
    at: usize,
    tasks: u64,
}

impl Lines {
    /// Puts a job at the end of its line, or before the jobs of its group that it was put on top of.
    pub(crate) fn push(&mut self, key: LineKey, slot: usize, items: &[Option<Item>]) {
        let line = self.lines.entry(key).or_default();
        let job = |slot: usize| items.get(slot).and_then(Option::as_ref).map(|item| &item.job);
        let topped = job(slot).filter(|new| !new.standing.is_plain());
        let below = topped.and_then(|new| {
            let mut others = line.iter().map(|other| job(*other));
            others.position(|other| other.is_some_and(|o| o.group == new.group && o.standing < new.standing))
        });
        line.insert(below.unwrap_or(line.len()), slot);
    }

    /// The first place of its line that a job may be moved to: behind those that were put on top of it.
    pub(crate) fn floor(&self, key: LineKey, slot: usize, items: &[Option<Item>]) -> usize {
        let job = |slot: usize| items.get(slot).and_then(Option::as_ref).map(|item| &item.job);
        let Some(moved) = job(slot) else { return 0 };
        let above = |other: &usize| {
            job(*other).is_some_and(|other| !other.standing.is_plain() && other.group == moved.group)
        };
        self.line(key).iter().rposition(above).map_or(0, |at| at + 1)
    }

    pub(crate) fn remove(&mut self, key: LineKey, slot: usize) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.retain(|other| *other != slot);
        }
    }

    /// The jobs of one line, in order.
    pub(crate) fn line(&self, key: LineKey) -> &[usize] {
        self.lines.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Takes the job at a place out; a line may be empty afterwards.
    pub(crate) fn take(&mut self, key: LineKey, at: usize) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.remove(at);
        }
    }

    /// Puts a job at a place.
    pub(crate) fn put(&mut self, key: LineKey, at: usize, slot: usize) {
        self.lines.entry(key).or_default().insert(at, slot);
    }

    /// Puts a job at the place of another, and gives that one.
    pub(crate) fn replace(&mut self, key: LineKey, at: usize, slot: usize) -> usize {
        let line = self.lines.entry(key).or_default();
        line.get_mut(at).map_or(slot, |place| std::mem::replace(place, slot))
    }

    /// Moves the job at one place of a line to another.
    pub(crate) fn shift(&mut self, key: LineKey, from: usize, to: usize) {
        if let Some(line) = self.lines.get_mut(&key) {
            let slot = line.remove(from);
            line.insert(to, slot);
        }
    }

    /// Swaps the jobs at two places of a line.
    pub(crate) fn swap(&mut self, key: LineKey, one: usize, other: usize) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.swap(one, other);
        }
    }

    /// Every job's slot, in the order of the lines.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.lines.values().flatten().copied()
    }

    /// The slots in the order in which tasks are laid: one entry for each task that is looked at.
    pub(crate) fn sequence(&self, items: &[Option<Item>], shares: Shares<'_>, front: Front) -> Vec<usize> {
        let mut sequence = Vec::new();
        let mut jobs = front.jobs;
        let mut rest: Vec<(&LineKey, &Vec<usize>)> =
            self.lines.iter().filter(|(_, line)| !line.is_empty()).collect();
        while let Some((first, _)) = rest.first() {
            let tier = first.tier;
            let many = rest.iter().take_while(|(key, _)| key.tier == tier).count();
            let turns = rest.drain(..many).map(|(key, slots)| {
                let share = shares.of.get(key.group).copied();
                let share = share.unwrap_or(Share { used: Amounts::default(), weight: 1 });
                Turns { share, dominant: share.used.dominant_share(shares.all), slots, at: 0, tasks: 0 }
            });
            let turns = turns.collect();
            take_turns(turns, (items, shares.all), (&mut jobs, front.tasks), &mut sequence);
        }
        sequence
    }
}

fn take_turns(
    mut lines: Vec<Turns<'_>>,
    (items, all): (&[Option<Item>], Amounts),
    (jobs, most_tasks): (&mut usize, usize),
    sequence: &mut Vec<usize>,
) {
    let most_tasks = most_tasks as u64;
    let item = |slot: usize| items.get(slot).and_then(Option::as_ref);
    loop {
        let next = lines.iter().enumerate().min_by(|(_, a), (_, b)| {
            let scaled = |mine: &Turns<'_>, theirs: &Turns<'_>| {
                u128::from(mine.dominant) * u128::from(theirs.share.weight.max(1))
            };
            let head = |line: &Turns<'_>| item(line.slots[line.at]).map(|item| crate::item::age(&item.job));
            scaled(a, b).cmp(&scaled(b, a)).then_with(|| head(a).cmp(&head(b)))
        });
        let Some((at, _)) = next else { return };
        let alone = lines.len() == 1;
        let line = &mut lines[at];
        let slot = line.slots[line.at];
        if line.tasks == 0 {
            if *jobs == 0 {
                return;
            }
            *jobs -= 1;
        }
        let tasks = item(slot).map_or(0, |item| item.job.tasks.len().min(most_tasks));
        let now = if alone { tasks - line.tasks.min(tasks) } else { 1.min(tasks) };
        sequence.extend((0..now).map(|_| slot));
        line.tasks += now;
        if let Some(item) = item(slot).filter(|_| !alone) {
            line.share.used = line.share.used.plus(amounts(&item.job).times(now));
            line.dominant = line.share.used.dominant_share(all);
        }
        if line.tasks >= tasks {
            line.tasks = 0;
            line.at += 1;
            if line.at == line.slots.len() {
                lines.remove(at);
            }
        }
    }
}
