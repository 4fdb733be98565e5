//! Changes of the tree and of its limits. What would break a limit that holds is refused, and then nothing changed.

use spillway_types::{GroupName, UnixMs};

use super::refusal::InUnit;
use super::state::{Budget, Node};
use super::tally::Tallies;
use super::{Limit, LimitId, LimitProblem, Limits, Metric, WeightChange, WeightError};
use crate::calendar::Zone;
use crate::window::Window;

/// Most limits of one group: each is asked at every attempt of it and of all below it.
pub(super) const MAX_LIMITS: usize = 64;
/// Deepest tree: how many groups are asked for one attempt.
pub(super) const MAX_DEPTH: usize = 32;

/// Why the tree or a limit cannot be changed so. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// There is no such group.
    #[error("there is no group `{group}`; create it first")]
    UnknownGroup {
        /// The group.
        group: GroupName,
    },
    /// The parent does not exist.
    #[error("group `{group}` cannot be below `{parent}`: there is no group `{parent}`; create it first")]
    UnknownParent {
        /// The group that was to be set.
        group: GroupName,
        /// The parent it was to have.
        parent: GroupName,
    },
    /// The parent is the group itself or below it.
    #[error("group `{group}` cannot be below `{parent}`: `{parent}` is the group itself or one below it")]
    Cycle {
        /// The group that was to be set.
        group: GroupName,
        /// The parent it was to have.
        parent: GroupName,
    },
    /// It would be too deep in the tree.
    #[error("group `{group}` would be {depth} levels deep: a tree has at most 32")]
    TooDeep {
        /// The group.
        group: GroupName,
        /// How deep.
        depth: usize,
    },
    /// A stored tree has a loop.
    #[error("the stored tree of groups has a loop through `{group}`")]
    Loop {
        /// A group of the loop.
        group: GroupName,
    },
    /// There are groups below it.
    #[error(
        "group `{group}` cannot be removed: `{child}` is below it; remove that first or put it elsewhere"
    )]
    HasChildren {
        /// The group.
        group: GroupName,
        /// A group below it.
        child: GroupName,
    },
    /// Attempts of it hold something.
    #[error(
        "group `{group}` cannot be {what}: {holds} of its attempts hold money or accelerators; wait for them to end, or cancel them"
    )]
    OpenHolds {
        /// The group.
        group: GroupName,
        /// What was asked.
        what: &'static str,
        /// How many.
        holds: usize,
    },
    /// The limit would be below what is used and held.
    #[error(
        "the limit on {limit} would be {}, below the {} in use (used {}, held {}): set it to {} or more",
        InUnit(&limit.metric, *nominal), InUnit(&limit.metric, used.saturating_add(*held)), InUnit(&limit.metric, *used),
        InUnit(&limit.metric, *held), InUnit(&limit.metric, *least)
    )]
    BelowUse {
        /// The limit.
        limit: Box<LimitId>,
        /// What it would be.
        nominal: i64,
        /// What was used in the window.
        used: i64,
        /// What is held.
        held: i64,
        /// The least that it can be.
        least: i64,
    },
    /// The limit does not make sense by itself.
    #[error(transparent)]
    Problem(#[from] LimitProblem),
    /// The group has no such limit.
    #[error("there is no limit on {limit}")]
    UnknownLimit {
        /// The limit.
        limit: Box<LimitId>,
    },
    /// The group has too many.
    #[error("group `{group}` has {MAX_LIMITS} limits already, the most: remove one first")]
    TooMany {
        /// The group.
        group: GroupName,
    },
    /// A weight cannot be changed so.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// A transfer cannot be made so.
    #[error("transfer `{key}`: {problem}")]
    Transfer {
        /// The transfer's key.
        key: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl Limits {
    /// Creates a group, or changes its place and its time zone. What it used stays counted where it was used, by the
    /// months that its groups had then; what it holds moves along.
    ///
    /// # Errors
    /// [`LimitsError`] where the parent does not exist or is below the group, where the tree would be too deep, where
    /// attempts hold of grants, or where a group above would be over a limit.
    pub fn set_group(
        &mut self,
        group: GroupName,
        parent: Option<GroupName>,
        zone: Zone,
        now: UnixMs,
    ) -> Result<(), LimitsError> {
        let above = match &parent {
            None => None,
            Some(parent) if *parent == group => {
                return Err(LimitsError::Cycle { group, parent: parent.clone() });
            }
            Some(parent) => match self.place_of(parent) {
                Some(at) => Some(at),
                None => return Err(LimitsError::UnknownParent { group, parent: parent.clone() }),
            },
        };
        let depth = above.map_or(0, |at| self.ancestors(at).count()) + 1;
        let Some(at) = self.place_of(&group) else {
            if depth > MAX_DEPTH {
                return Err(LimitsError::TooDeep { group, depth });
            }
            self.index.insert(group.clone(), self.nodes.len());
            let (budgets, used, held) = (vec![], std::collections::BTreeMap::new(), Tallies::default());
            self.nodes.push(Node { name: group, parent: above, zone, currency: None, budgets, used, held });
            for tree in self.quotas.values_mut() {
                tree.push(above);
            }
            return Ok(());
        };
        if let (Some(above), Some(parent)) = (above, parent)
            && self.ancestors(above).any(|on_the_way| on_the_way == at)
        {
            return Err(LimitsError::Cycle { group, parent });
        }
        let height = self.height(at);
        if depth + height - 1 > MAX_DEPTH {
            return Err(LimitsError::TooDeep { group, depth: depth + height - 1 });
        }
        if self.nodes[at].parent != above {
            self.move_group(at, above, now)?;
        }
        self.nodes[at].zone = zone;
        Ok(())
    }

    /// How many levels the group and those below it are.
    fn height(&self, at: usize) -> usize {
        let depth_below = |other: usize| self.ancestors(other).position(|on_the_way| on_the_way == at);
        (0..self.nodes.len()).filter_map(depth_below).max().unwrap_or(0) + 1
    }

    fn move_group(&mut self, at: usize, above: Option<usize>, now: UnixMs) -> Result<(), LimitsError> {
        let bound = self.open_holds(at).filter(|holding| !holding.drawn.is_empty()).count();
        if bound > 0 {
            let group = self.nodes[at].name.clone();
            return Err(LimitsError::OpenHolds {
                group,
                what: "moved while they hold of grants",
                holds: bound,
            });
        }
        let mut moved = self.clone();
        moved.nodes[at].parent = above;
        moved.project();
        moved.check_not_worse(self, now)?;
        *self = moved;
        Ok(())
    }

    fn open_holds(&self, at: usize) -> impl Iterator<Item = &super::Holding> {
        self.holdings.values().filter(move |holding| {
            let below = self.place_of(&holding.demand.group);
            let inside = below.is_some_and(|below| self.ancestors(below).any(|on_the_way| on_the_way == at));
            inside && !holding.phase.is_resolved()
        })
    }

    /// That no limit is passed further than it was.
    fn check_not_worse(&self, before: &Self, now: UnixMs) -> Result<(), LimitsError> {
        for (at, node) in self.nodes.iter().enumerate() {
            for budget in &node.budgets {
                let over = self.over(at, budget, now);
                let known = before.place_of(&node.name).and_then(|old| {
                    let same = |old: &&Budget| old.limit.id == budget.limit.id;
                    let known = before.nodes.get(old)?.budgets.iter().find(same)?;
                    Some(before.over(old, known, now))
                });
                if over <= known.unwrap_or(0).max(0) {
                    continue;
                }
                let id = &budget.limit.id;
                let (used, held) = match before.quotas.get(&id.scope).filter(|_| is_at_once(id)) {
                    Some(_) => (self.quotas.get(&id.scope).map_or(0, |tree| tree.used_below(at)), 0),
                    None => (node.used_of(budget, now), node.held_of(budget)),
                };
                let nominal = budget.nominal_at(&node.zone, now);
                let least = nominal.saturating_add(over);
                return Err(LimitsError::BelowUse {
                    limit: Box::new(id.clone()),
                    nominal,
                    used,
                    held,
                    least,
                });
            }
        }
        Ok(())
    }

    /// By how much a limit is passed; below 0 what is left of it.
    pub(super) fn over(&self, at: usize, budget: &Budget, now: UnixMs) -> i64 {
        let id = &budget.limit.id;
        if is_at_once(id) {
            return self.quotas.get(&id.scope).map_or(0, |tree| tree.excess(at));
        }
        let Some(node) = self.nodes.get(at) else { return 0 };
        let sum = node.used_of(budget, now).saturating_add(node.held_of(budget));
        sum.saturating_sub(budget.nominal_at(&node.zone, now))
    }

    /// Removes a group with its limits. What it used stays counted above it.
    ///
    /// # Errors
    /// [`LimitsError`] where there is no such group, where groups are below it, or where its attempts hold something.
    pub fn remove_group(&mut self, group: &GroupName) -> Result<(), LimitsError> {
        self.check_removal(group)?;
        let mut stored = super::state::Stored::from(self.clone());
        stored.groups.remove(group);
        stored.holdings.retain(|_, holding| holding.demand.group != *group);
        *self = Self::try_from(stored)?;
        Ok(())
    }

    /// Whether a group can be removed.
    ///
    /// # Errors
    /// As for [`Limits::remove_group`].
    pub fn check_removal(&self, group: &GroupName) -> Result<(), LimitsError> {
        let unknown = || LimitsError::UnknownGroup { group: group.clone() };
        let at = self.place_of(group).ok_or_else(unknown)?;
        if let Some(child) = self.nodes.iter().find(|node| node.parent == Some(at)) {
            return Err(LimitsError::HasChildren { group: group.clone(), child: child.name.clone() });
        }
        match self.open_holds(at).count() {
            0 => Ok(()),
            holds => Err(LimitsError::OpenHolds { group: group.clone(), what: "removed", holds }),
        }
    }

    /// Sets a limit. One that is not lowered is always taken, so that a group that is over it can be given more;
    /// children may together have more than their parent.
    ///
    /// # Errors
    /// [`LimitsError`] where the limit makes no sense, where the group is not known, where it would be below what is
    /// used and held, or where it would take from others what they use.
    pub fn set_limit(&mut self, limit: Limit, now: UnixMs) -> Result<(), LimitsError> {
        limit.check()?;
        let group = &limit.id.group;
        let at = self.place_of(group).ok_or_else(|| LimitsError::UnknownGroup { group: group.clone() })?;
        let known = self.nodes[at].budgets.iter().position(|budget| budget.limit.id == limit.id);
        if known.is_none() && self.nodes[at].budgets.len() >= MAX_LIMITS {
            return Err(LimitsError::TooMany { group: group.clone() });
        }
        let id = limit.id.clone();
        let before = known.and_then(|known| self.nodes[at].budgets.get(known)).cloned();
        if is_at_once(&id) {
            let mut changed = self.clone();
            changed.put(at, known, limit);
            changed.project();
            changed.check_not_worse(self, now)?;
            *self = changed;
            return Ok(());
        }
        let trial = match &before {
            Some(before) => Budget { limit: limit.clone(), ..before.clone() },
            None => Budget { limit: limit.clone(), created: 0, burnt: 0, reserved: 0, moved: vec![] },
        };
        let over = self.over(at, &trial, now);
        let lowered = before.is_none_or(|before| limit.nominal < before.limit.nominal);
        if over > 0 && lowered {
            let node = &self.nodes[at];
            let (used, held) = (node.used_of(&trial, now), node.held_of(&trial));
            let nominal = trial.nominal_at(&node.zone, now);
            let least = limit.nominal.saturating_add(over);
            return Err(LimitsError::BelowUse { limit: Box::new(id), nominal, used, held, least });
        }
        self.put(at, known, limit);
        Ok(())
    }

    fn put(&mut self, at: usize, known: Option<usize>, limit: Limit) {
        let created = self.created + 1;
        let Some(node) = self.nodes.get_mut(at) else { return };
        match known.and_then(|known| node.budgets.get_mut(known)) {
            Some(budget) => budget.limit = limit,
            None => {
                self.created = created;
                node.budgets.push(Budget { limit, created, burnt: 0, reserved: 0, moved: vec![] });
            }
        }
    }

    /// Removes a limit.
    ///
    /// # Errors
    /// [`LimitsError`] where there is none, where attempts hold of a grant, or where others use what a group lends.
    pub fn remove_limit(&mut self, id: &LimitId, now: UnixMs) -> Result<(), LimitsError> {
        let unknown = || LimitsError::UnknownLimit { limit: Box::new(id.clone()) };
        let at = self.place_of(&id.group).ok_or_else(unknown)?;
        let known =
            self.nodes[at].budgets.iter().position(|budget| budget.limit.id == *id).ok_or_else(unknown)?;
        if self.nodes[at].budgets[known].reserved > 0 {
            let drawing = |holding: &&super::Holding| holding.drawn.iter().any(|drawn| drawn.grant == *id);
            let holds = self.holdings.values().filter(drawing).count();
            return Err(LimitsError::OpenHolds {
                group: id.group.clone(),
                what: "left without this grant",
                holds,
            });
        }
        let mut changed = self.clone();
        changed.nodes[at].budgets.remove(known);
        if is_at_once(id) {
            changed.project();
            changed.check_not_worse(self, now)?;
        }
        *self = changed;
        Ok(())
    }

    /// Changes what a class of accelerators weighs from a date on.
    ///
    /// # Errors
    /// [`WeightError`] where the weight is out of range or would weigh again what was used.
    pub fn change_weight(&mut self, change: &WeightChange, now: UnixMs) -> Result<(), WeightError> {
        self.weights.change(change, now)
    }
}

fn is_at_once(id: &LimitId) -> bool {
    id.metric == Metric::ConcurrentGpus && id.window == Window::Instant
}
