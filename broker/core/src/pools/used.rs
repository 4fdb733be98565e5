//! What was used of pools, by pool, month, class and group.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use spillway_ledger::Entry;
use spillway_ledger::calendar::Period;
use spillway_types::{GroupName, PoolName, UnixMs};

use super::PoolKey;
use crate::{Key, State};

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Used {
    /// Accelerator time of the month, in milliseconds of one accelerator. What corrects a closed month is money only:
    /// nothing more was used of the one that it is booked into.
    pub gpu_ms: i64,
    /// What was charged for it, in micros.
    pub micros: i64,
}

/// Names what was used. A class is the empty text where there were no accelerators.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UseKey {
    /// The pool.
    pub pool: PoolName,
    /// The month into which it is booked.
    pub booked: Period,
    /// The class of accelerators.
    pub class: String,
    /// The group that pays.
    pub group: GroupName,
}

impl fmt::Display for UseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, booked, class, group } = self;
        write!(f, "{pool}/{booked}/{class}/{group}")
    }
}

type Classes = BTreeMap<String, BTreeMap<GroupName, Used>>;

/// What was used of all pools in the open months.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uses(BTreeMap<Period, BTreeMap<PoolName, Classes>>);

impl Uses {
    /// Adds to what was used.
    pub fn add(&mut self, key: &UseKey, more: Used) {
        let UseKey { pool, booked, class, group } = key;
        let pools = self.0.entry(*booked).or_default();
        // Names are cloned once: most use finds its place known.
        let known = pools.get_mut(pool).and_then(|classes| classes.get_mut(class)?.get_mut(group));
        let used = match known {
            Some(used) => used,
            None => {
                let classes = pools.entry(pool.clone()).or_default();
                classes.entry(class.clone()).or_default().entry(group.clone()).or_default()
            }
        };
        used.gpu_ms = used.gpu_ms.saturating_add(more.gpu_ms);
        used.micros = used.micros.saturating_add(more.micros);
    }

    /// What was used under a key.
    #[must_use]
    pub fn get(&self, key: &UseKey) -> Option<Used> {
        self.of(&key.pool, key.booked)?.get(&key.class)?.get(&key.group).copied()
    }

    /// The first month of which use is known.
    pub(super) fn first(&self) -> Option<Period> {
        self.0.keys().next().copied()
    }

    /// What was used of a pool in a month, by class and group.
    pub(super) fn of(&self, pool: &PoolName, booked: Period) -> Option<&Classes> {
        self.0.get(&booked)?.get(pool)
    }

    /// Forgets a month and those before.
    pub(super) fn forget_through(&mut self, period: Period) {
        self.0 = self.0.split_off(&period.next());
    }
}

impl State {
    /// Notes what an entry says of the use of a pool of our own.
    pub(crate) fn note_use(&mut self, entry: &Entry, at: UnixMs) {
        let Some(usage) = entry.usage().filter(|usage| usage.cloud.is_none()) else { return };
        let Some(pool) = &usage.pool else { return };
        let booking = self.periods.book(entry.effective_at().unwrap_or(at));
        let key = UseKey {
            pool: pool.clone(),
            booked: booking.period,
            class: usage.class.as_ref().map(ToString::to_string).unwrap_or_default(),
            group: entry.subject().group.clone(),
        };
        let gpu_ms = if booking.corrects.is_none() { entry.signed_gpu_ms() } else { 0 };
        self.pool_books.uses.add(&key, Used { gpu_ms, micros: entry.spend_micros() });
        self.touch(Key::PoolBook(PoolKey::Use(Box::new(key))));
    }
}
