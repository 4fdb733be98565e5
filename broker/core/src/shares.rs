//! Who used how much of the own share this month: Slurm's classic fair-share factor over the tree of groups.

use std::collections::BTreeMap;

use spillway_ledger::calendar::Period;
use spillway_ledger::fairshare::{Account, Factor, factors};
use spillway_ledger::limits::Scope;
use spillway_ledger::tree::from_the_top;
use spillway_types::{GroupName, UnixMs};

use crate::State;

/// Where a group stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FairShare {
    /// The group.
    pub group: GroupName,
    /// What it and all below it used in the month of its zone, in GPU-milliseconds by the weights of their classes.
    pub used_ms: u64,
    /// Its share, what it used of everything, and its factor.
    pub factor: Factor,
    /// What it and all below it have in use, in hundredths of a GPU.
    pub in_use: i64,
}

/// Every group, those above before those below.
#[must_use]
pub fn fair_shares(state: &State, now: UnixMs) -> Vec<FairShare> {
    let parents = state.groups.values().map(|group| (&group.name, group.parent.as_ref()));
    let order: Vec<&GroupName> = from_the_top(parents).into_iter().map(|(_, group)| group).collect();
    let places: BTreeMap<&GroupName, usize> =
        order.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let used: Vec<u64> = order.iter().map(|group| used_this_month(state, group, now)).collect();
    let parent =
        |at: usize| state.groups.get(order[at])?.parent.as_ref().and_then(|name| places.get(name)).copied();
    let mut own = used.clone();
    for (at, used) in used.iter().enumerate() {
        if let Some(above) = parent(at) {
            own[above] = own[above].saturating_sub(*used);
        }
    }
    let weight = |at: usize| state.groups.get(order[at]).map_or(1, |group| u64::from(group.weight));
    let accounts: Vec<Account> = (0..order.len())
        .map(|at| Account { parent: parent(at), shares: weight(at), used: own[at] })
        .collect();
    let total = own.iter().copied().fold(0, u64::saturating_add);
    let in_use = in_use(state);
    let rows = order.iter().zip(used).zip(factors(&accounts, total));
    rows.map(|((group, used_ms), factor)| FairShare {
        group: (*group).clone(),
        used_ms,
        factor,
        in_use: in_use.get(*group).copied().unwrap_or(0),
    })
    .collect()
}

fn used_this_month(state: &State, group: &GroupName, now: UnixMs) -> u64 {
    let Some(zone) = state.limits.zone(group) else { return 0 };
    let month = Period::of(now, zone);
    let rows = state.limits.usage(group);
    let counted = rows.iter().filter(|row| row.month == month && row.scope == Scope::Everywhere);
    counted.map(|row| u64::try_from(row.amount.normalised_ms).unwrap_or(0)).fold(0, u64::saturating_add)
}

/// Hundredths of GPUs that attempts of each group and of all below it have.
fn in_use(state: &State) -> BTreeMap<GroupName, i64> {
    let mut sums: BTreeMap<GroupName, i64> = BTreeMap::new();
    for attempt in state.attempts.values().filter(|attempt| attempt.state.occupies_nodes()) {
        let blocks: u64 = attempt.parts.iter().map(|part| part.allocation.blocks()).sum();
        let blocks = i64::try_from(blocks).unwrap_or(i64::MAX);
        for group in state.book.ancestors(&attempt.group) {
            let sum = sums.entry(group.clone()).or_default();
            *sum = sum.saturating_add(blocks);
        }
    }
    sums
}
