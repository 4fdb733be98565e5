//! The books of pools: what each could give, what was used of it, and what became of its months.
//!
//! Both accrue as events are applied, so that a replayed journal gives the same: capacity as a step function of time,
//! from what nodes show; use from the entries of the ledger, by the month into which they are booked. When a month
//! is closed, each of our own pools with a rate card is accounted for ([`PoolClosed`]), and what accrued is forgotten.
//!
//! Pools of clouds have no books here: what their instances cost beside slices is charged as overhead.

mod month;
mod used;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_ledger::calendar::Period;
use spillway_ledger::rates::Capacity;
use spillway_types::{GpuModel, Inventory, PoolName, UnixMs};

pub use month::{PoolClosed, PoolFigures, PoolRow};
pub use used::{UseKey, Used, Uses};

use crate::apply::ApplyError;
use crate::entity::Node;
use crate::{Key, State};

/// The books of all pools.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolBooks {
    /// How many accelerators of each class each pool has and had, since the begin of the first open month.
    pub capacity: BTreeMap<PoolName, Capacity>,
    /// What was used of pools in the open months.
    pub uses: Uses,
    /// The months that were closed, pool by pool.
    pub closed: BTreeMap<Period, BTreeMap<PoolName, PoolClosed>>,
}

/// Names a row of the books of pools.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolKey {
    /// How many accelerators a pool has and had.
    Capacity(PoolName),
    /// What was used of a pool.
    Use(Box<UseKey>),
    /// A closed month of a pool.
    Closed(Period, PoolName),
}

/// How many accelerators of each class a machine has; one that is cut into slices counts as many as it has slices, as
/// their use does.
fn counts(inventory: Option<&Inventory>) -> BTreeMap<GpuModel, u64> {
    let mut counts = BTreeMap::new();
    for accelerator in inventory.into_iter().flat_map(|it| &it.capacity.accelerators) {
        let slices = u64::try_from(accelerator.mig.len()).unwrap_or(u64::MAX).max(1);
        let count: &mut u64 = counts.entry(accelerator.model.clone()).or_default();
        *count = count.saturating_add(slices);
    }
    counts
}

impl State {
    /// Notes that a machine of a pool, no instance of a cloud, has something else than before from `at` on.
    pub(crate) fn note_capacity(
        &mut self,
        pool: &PoolName,
        (before, after): (Option<&Inventory>, Option<&Inventory>),
        at: UnixMs,
    ) {
        let (before, after) = (counts(before), counts(after));
        if before == after {
            return;
        }
        let capacity = self.pool_books.capacity.entry(pool.clone()).or_default();
        let gone = before.keys().filter(|class| !after.contains_key(*class)).map(|class| (class, 0));
        for (class, count) in after.iter().map(|(class, count)| (class, *count)).chain(gone) {
            let had = before.get(class).copied().unwrap_or(0);
            let others = capacity.now(class).saturating_sub(had);
            capacity.set(class, at, others.saturating_add(count));
        }
        self.touch(Key::PoolBook(PoolKey::Capacity(pool.clone())));
    }

    /// A database of before capacity was noted has nodes and no books of their pools: what they show counts from the
    /// begin of the first open month of which use is known.
    pub(crate) fn begin_capacity(&mut self, at: UnixMs) {
        let month = Period::of(at, self.periods.zone());
        let first = self.pool_books.uses.first().map_or(month, |first| first.min(month));
        let begin = first.start(self.periods.zone());
        let unknown =
            |node: &&Node| node.instance.is_none() && !self.pool_books.capacity.contains_key(&node.pool);
        let nodes: Vec<Node> = self.nodes.values().filter(unknown).cloned().collect();
        for node in nodes {
            self.note_capacity(&node.pool, (None, node.inventory.as_ref()), begin);
        }
    }

    /// A pool's month is accounted for: what is not posted yet is, as spend of groups beyond what they held.
    pub(crate) fn close_pool(&mut self, closed: &PoolClosed, at: UnixMs) -> Result<(), ApplyError> {
        let month = &closed.month;
        if let Some(statement) = &closed.statement {
            self.post_statement(statement, at);
        }
        self.touch(Key::PoolBook(PoolKey::Closed(month.period, month.pool.clone())));
        let pools = self.pool_books.closed.entry(month.period).or_default();
        match pools.insert(month.pool.clone(), closed.clone()) {
            None => Ok(()),
            Some(_) => Err(ApplyError::Ledger(format!("{} was closed for {}", month.pool, month.period))),
        }
    }

    /// Forgets what accrued in a month that is closed: nothing is booked into it any more.
    pub(crate) fn forget_month(&mut self, period: Period) {
        self.pool_books.uses.forget_through(period);
        let (mut touched, ends) = (vec![], period.end(self.periods.zone()));
        for (pool, capacity) in &mut self.pool_books.capacity {
            let before = capacity.clone();
            capacity.forget_before(ends);
            if *capacity != before {
                touched.push(Key::PoolBook(PoolKey::Capacity(pool.clone())));
            }
        }
        touched.into_iter().for_each(|key| self.touch(key));
    }

    /// Pools whose capacity is not what their nodes show: none, or there is a defect.
    pub(crate) fn capacity_defects(&self) -> Vec<String> {
        let mut shown: BTreeMap<(&PoolName, GpuModel), u64> = BTreeMap::new();
        for node in self.nodes.values().filter(|node| node.instance.is_none()) {
            for (class, count) in counts(node.inventory.as_ref()) {
                *shown.entry((&node.pool, class)).or_default() += count;
            }
        }
        let mut defects = vec![];
        for (pool, capacity) in &self.pool_books.capacity {
            for class in capacity.classes() {
                let (now, nodes) = (capacity.now(class), shown.remove(&(pool, class.clone())).unwrap_or(0));
                if now != nodes {
                    defects
                        .push(format!("pool {pool} is booked with {now} of {class}, its nodes show {nodes}"));
                }
            }
        }
        defects
            .extend(shown.into_keys().map(|(pool, class)| format!("{class} of pool {pool} is not booked")));
        defects
    }
}
