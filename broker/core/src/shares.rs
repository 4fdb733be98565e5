//! Who used how much of the own share this month: Slurm's classic fair-share factor over the tree of groups.

use std::collections::BTreeMap;

use spillway_ledger::fairshare::{Account, Factor, factors};
use spillway_ledger::limits::Scope;
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
    let order = from_the_top(state);
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

/// Groups, each after the one above it, siblings by name.
fn from_the_top(state: &State) -> Vec<&GroupName> {
    let mut below: BTreeMap<Option<&GroupName>, Vec<&GroupName>> = BTreeMap::new();
    for group in state.groups.values() {
        let parent = group.parent.as_ref().filter(|parent| state.groups.contains_key(*parent));
        below.entry(parent).or_default().push(&group.name);
    }
    let mut order = vec![];
    let mut next: Vec<&GroupName> = below.get(&None).into_iter().flatten().rev().copied().collect();
    while let Some(group) = next.pop() {
        order.push(group);
        next.extend(below.get(&Some(group)).into_iter().flatten().rev());
    }
    order
}

fn used_this_month(state: &State, group: &GroupName, now: UnixMs) -> u64 {
    let Some(zone) = state.limits.zone(group) else { return 0 };
    let month = zone.month_of(now);
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
