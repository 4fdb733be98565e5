//! What is kept: the tree with limits and what was used, and every hold.
//!
//! Stored are groups, limits, use by month, holds, weights and transfers. What is held and the arithmetic of
//! accelerators at once are projections of these, made again when it is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{AttemptId, Currency, GroupName, UnixMs};

use super::quota::{Quota, QuotaTree};
use super::tally::{Tallies, scopes_of};
use super::{
    Action, Demand, HoldPhase, Limit, LimitId, LimitsError, Metric, Scope, Tally, Transfer, Weights,
};
use crate::calendar::{Period, Zone};
use crate::window::Window;

/// What one attempt reserves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    pub(super) demand: Demand,
    pub(super) phase: HoldPhase,
    /// When it was placed.
    pub(super) placed: UnixMs,
    /// How many limits had been made by then.
    pub(super) made: u64,
    /// The end of what is reserved, if it had begun when it was placed.
    pub(super) until: UnixMs,
    /// How many leases were reserved, the first included.
    pub(super) leases: u32,
    /// What is still reserved, for each share.
    pub(super) held: Vec<Tally>,
    /// From which grants that is, and how much is left of each.
    pub(super) drawn: Vec<Drawn>,
    /// What was charged within the hold.
    pub(super) charged: Tally,
    /// What was charged beyond it.
    pub(super) overrun: Tally,
}

/// A part of a hold that is reserved of one grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drawn {
    pub(super) grant: LimitId,
    pub(super) left: i64,
}

impl Holding {
    /// What was asked.
    #[must_use]
    pub const fn demand(&self) -> &Demand {
        &self.demand
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> HoldPhase {
        self.phase
    }

    /// When it was placed.
    #[must_use]
    pub const fn placed(&self) -> UnixMs {
        self.placed
    }

    /// How many leases were reserved, the first included.
    #[must_use]
    pub const fn leases(&self) -> u32 {
        self.leases
    }

    /// What is still reserved.
    #[must_use]
    pub fn held(&self) -> Tally {
        self.held.iter().fold(Tally::default(), |sum, tally| sum.plus(*tally))
    }

    /// What was charged within the hold.
    #[must_use]
    pub const fn charged(&self) -> Tally {
        self.charged
    }

    /// What was charged beyond it.
    #[must_use]
    pub const fn overrun(&self) -> Tally {
        self.overrun
    }
}

/// A limit with what was used of it, where that is its own: of grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Budget {
    pub(super) limit: Limit,
    /// Grows with each limit that is made.
    pub(super) created: u64,
    /// Of a grant, what was used of it.
    #[serde(default)]
    pub(super) burnt: i64,
    /// Of a grant, what is held of it. A projection of the holds.
    #[serde(skip)]
    pub(super) reserved: i64,
    /// What was transferred to it, each with its date; below 0 what was transferred from it.
    #[serde(default)]
    pub(super) moved: Vec<(UnixMs, i64)>,
}

impl Budget {
    /// How much it is at `at`, with what was transferred in the window that `at` is in.
    pub(super) fn nominal_at(&self, zone: &Zone, at: UnixMs) -> i64 {
        if self.moved.is_empty() {
            return self.limit.nominal;
        }
        let period = self.limit.id.window.period(zone, at);
        let inside = self.moved.iter().filter(|(when, _)| period.is_none_or(|period| period.contains(*when)));
        inside.fold(self.limit.nominal, |sum, (_, amount)| sum.saturating_add(*amount))
    }
}

impl Budget {
    /// The least that it will be in a window after that of `now`, as far as transfers are known: what is held when a
    /// window ends counts in the next one.
    pub(super) fn least_to_come(&self, zone: &Zone, now: UnixMs) -> i64 {
        let ends = self.limit.id.window.period(zone, now).map_or(now, |period| period.to);
        match self.limit.id.window {
            Window::Instant | Window::Grant { .. } => i64::MAX,
            Window::Month | Window::Quarter => {
                let dates = self.moved.iter().map(|(when, _)| *when).filter(|when| ends <= *when);
                dates.map(|when| self.nominal_at(zone, when)).fold(self.limit.nominal, i64::min)
            }
        }
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: GroupName,
    pub(super) parent: Option<usize>,
    pub(super) zone: Zone,
    /// What it is told amounts in; none is that of the group above it.
    pub(super) currency: Option<Currency>,
    pub(super) budgets: Vec<Budget>,
    /// What it and all below it used, by month of its own zone.
    pub(super) used: BTreeMap<Period, Tallies>,
    /// What it and all below it hold.
    pub(super) held: Tallies,
}

impl Node {
    /// What was used in the window that `at` is in; of a grant, of it.
    pub(super) fn used_of(&self, budget: &Budget, at: UnixMs) -> i64 {
        let id = &budget.limit.id;
        match id.window.months(&self.zone, at) {
            None => budget.burnt,
            Some((first, last)) => {
                let months =
                    self.used.range(first..=last).map(|(_, used)| used.amount(&id.metric, &id.scope));
                months.fold(0, i64::saturating_add)
            }
        }
    }

    /// What is held now; of a grant, of it.
    pub(super) fn held_of(&self, budget: &Budget) -> i64 {
        match budget.limit.id.window {
            Window::Grant { .. } => budget.reserved,
            Window::Instant | Window::Month | Window::Quarter => {
                self.held.amount(&budget.limit.id.metric, &budget.limit.id.scope)
            }
        }
    }
}

/// The tree of groups with their limits, what is held and what was used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Limits {
    pub(super) index: BTreeMap<GroupName, usize>,
    pub(super) nodes: Vec<Node>,
    /// Accelerators at once, for each scope that some group has a limit for.
    pub(super) quotas: BTreeMap<Scope, QuotaTree>,
    pub(super) holdings: BTreeMap<AttemptId, Holding>,
    pub(super) weights: Weights,
    pub(super) transfers: BTreeMap<String, Transfer>,
    pub(super) created: u64,
}

impl PartialEq for Limits {
    fn eq(&self, other: &Self) -> bool {
        Stored::from(self.clone()) == Stored::from(other.clone())
    }
}

impl Eq for Limits {}

/// What of the limits is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) groups: BTreeMap<GroupName, StoredGroup>,
    #[serde(default)]
    pub(super) holdings: BTreeMap<AttemptId, Holding>,
    #[serde(default)]
    pub(super) weights: Weights,
    #[serde(default)]
    pub(super) transfers: BTreeMap<String, Transfer>,
    #[serde(default)]
    pub(super) created: u64,
}

/// What of one group is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct StoredGroup {
    pub(super) parent: Option<GroupName>,
    #[serde(default)]
    pub(super) zone: Zone,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) currency: Option<Currency>,
    #[serde(default)]
    pub(super) budgets: Vec<Budget>,
    #[serde(default)]
    pub(super) used: BTreeMap<Period, Tallies>,
}

impl From<Limits> for Stored {
    fn from(limits: Limits) -> Self {
        let name_of = |at: usize| limits.nodes.get(at).map(|node| node.name.clone());
        let groups = limits.nodes.iter().map(|node| {
            let parent = node.parent.and_then(name_of);
            let mut budgets = node.budgets.clone();
            budgets.iter_mut().for_each(|budget| budget.reserved = 0);
            let (zone, currency, used) = (node.zone.clone(), node.currency, node.used.clone());
            (node.name.clone(), StoredGroup { parent, zone, currency, budgets, used })
        });
        Self {
            groups: groups.collect(),
            holdings: limits.holdings,
            weights: limits.weights,
            transfers: limits.transfers,
            created: limits.created,
        }
    }
}

impl TryFrom<Stored> for Limits {
    type Error = LimitsError;

    fn try_from(stored: Stored) -> Result<Self, LimitsError> {
        let index: BTreeMap<GroupName, usize> = stored.groups.keys().cloned().zip(0..).collect();
        let mut nodes = Vec::with_capacity(index.len());
        for (name, group) in stored.groups {
            let StoredGroup { parent, zone, currency, budgets, used } = group;
            let place = |above: GroupName| match index.get(&above) {
                Some(at) => Ok(*at),
                None => Err(LimitsError::UnknownParent { group: name.clone(), parent: above }),
            };
            let parent = parent.map(place).transpose()?;
            nodes.push(Node { name, parent, zone, currency, budgets, used, held: Tallies::default() });
        }
        let Stored { holdings, weights, transfers, created, .. } = stored;
        let mut limits =
            Self { index, nodes, quotas: BTreeMap::new(), holdings, weights, transfers, created };
        for at in 0..limits.nodes.len() {
            if limits.ancestors(at).count() > limits.nodes.len() {
                return Err(LimitsError::Loop { group: limits.nodes[at].name.clone() });
            }
        }
        limits.project();
        Ok(limits)
    }
}

impl Limits {
    /// No groups and no limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The places of the group at `at` and of those above it, nearest first. One more than there are groups where
    /// the tree has a loop.
    pub(super) fn ancestors(&self, at: usize) -> impl Iterator<Item = usize> {
        let above = |at: &usize| self.nodes.get(*at).and_then(|node| node.parent);
        std::iter::successors(Some(at), above).take(self.nodes.len() + 1)
    }

    pub(super) fn place_of(&self, group: &GroupName) -> Option<usize> {
        self.index.get(group).copied()
    }

    /// Makes what is held, and the arithmetic of accelerators at once, again from the holds.
    pub(super) fn project(&mut self) {
        for node in &mut self.nodes {
            node.held = Tallies::default();
            node.budgets.iter_mut().for_each(|budget| budget.reserved = 0);
        }
        let holdings = std::mem::take(&mut self.holdings);
        for holding in holdings.values().filter(|holding| !holding.phase.is_resolved()) {
            for (share, held) in holding.held.iter().enumerate() {
                self.add_held(&holding.demand, share, *held);
            }
            for drawn in &holding.drawn {
                self.reserve(&drawn.grant, drawn.left);
            }
        }
        self.holdings = holdings;
        let at_once = self.nodes.iter().flat_map(|node| &node.budgets).map(|budget| &budget.limit.id);
        let scopes = at_once.filter(|id| id.metric == Metric::ConcurrentGpus).map(|id| id.scope.clone());
        let scopes: std::collections::BTreeSet<Scope> = scopes.collect();
        self.quotas = scopes.into_iter().map(|scope| (scope.clone(), self.quota_tree(&scope))).collect();
    }

    fn quota_tree(&self, scope: &Scope) -> QuotaTree {
        let mut used = vec![0_i64; self.nodes.len()];
        for holding in self.holdings.values().filter(|holding| holding.phase.occupies()) {
            if let Some(at) = self.place_of(&holding.demand.group) {
                let place = &holding.demand.place;
                used[at] = used[at].saturating_add(holding.demand.blocks(|share| scope.covers(place, share)));
            }
        }
        let quota_of = |node: &Node| {
            let mine = |budget: &&Budget| {
                budget.limit.id.metric == Metric::ConcurrentGpus && budget.limit.id.scope == *scope
            };
            let limit = node.budgets.iter().find(mine).map(|budget| &budget.limit)?;
            let enforced = limit.action != Action::Warn;
            Some(Quota { nominal: limit.nominal, borrow: limit.borrow, lend: limit.lend, enforced })
        };
        let nodes: Vec<_> =
            self.nodes.iter().zip(used).map(|(node, used)| (node.parent, quota_of(node), used)).collect();
        QuotaTree::new(&nodes)
    }

    /// Adds to what the group of `demand` and all above it hold for one share.
    pub(super) fn add_held(&mut self, demand: &Demand, share: usize, amount: Tally) {
        let (Some(at), Some(share)) = (self.place_of(&demand.group), demand.shares.get(share)) else {
            return;
        };
        let scopes = scopes_of(&demand.place, share);
        let mut next = Some(at);
        while let Some(node) = next.and_then(|at| self.nodes.get_mut(at)) {
            node.held.add(&scopes, share, amount);
            next = node.parent;
        }
    }

    /// What follows when the limit is reached; none where there is no such limit.
    #[must_use]
    pub fn action(&self, id: &LimitId) -> Option<Action> {
        let node = self.nodes.get(self.place_of(&id.group)?)?;
        let budget = node.budgets.iter().find(|budget| budget.limit.id == *id)?;
        Some(budget.limit.action)
    }

    pub(super) fn budget_mut(&mut self, id: &LimitId) -> Option<&mut Budget> {
        let at = self.place_of(&id.group)?;
        self.nodes.get_mut(at)?.budgets.iter_mut().find(|budget| budget.limit.id == *id)
    }

    pub(super) fn reserve(&mut self, grant: &LimitId, amount: i64) {
        if let Some(budget) = self.budget_mut(grant) {
            budget.reserved = budget.reserved.saturating_add(amount);
        }
    }

    /// Adds to the accelerators in use at once.
    pub(super) fn occupy(&mut self, demand: &Demand, sign: i64) {
        let Some(at) = self.place_of(&demand.group) else { return };
        for (scope, tree) in &mut self.quotas {
            let blocks = demand.blocks(|share| scope.covers(&demand.place, share));
            if blocks != 0 {
                tree.change(at, blocks.saturating_mul(sign));
            }
        }
    }
}
