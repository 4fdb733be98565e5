//! What is to be seen: where each limit stands, what groups use, and who holds what.

use serde::Serialize;
use spillway_types::{AttemptId, Currency, GroupName, UnixMs};

use super::tally::Tally;
use super::{Holding, Limit, Limits, Metric, Scope, Transfer, Weights};
use crate::calendar::{Period, Zone};
use crate::window::Span;

/// Where a limit stands. Amounts in its metric's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The limit.
    pub limit: Limit,
    /// How much it is now, with what was transferred.
    pub nominal: i64,
    /// What was used in its window; of accelerators at once, what the group and those below it use.
    pub used: i64,
    /// What is held beside.
    pub held: i64,
    /// What is left: below 0 where it is passed. Of accelerators at once what is free, with what children lend;
    /// below 0 where it borrows.
    pub left: i64,
    /// Its window now.
    #[serde(skip)]
    pub period: Option<Span>,
    /// The highest threshold that is reached, in percent.
    pub reached: Option<u32>,
    /// Whether it is passed: its action is due.
    pub passed: bool,
}

/// What a group and all below it used in one month, in one scope, on one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The month, of the group's zone.
    pub month: Period,
    /// Where.
    pub scope: Scope,
    /// The class of accelerators; empty for work without.
    pub class: String,
    /// How much.
    pub amount: Tally,
}

impl Limits {
    /// Where every limit of a group stands, in the order in which they were made.
    #[must_use]
    pub fn standings(&self, group: &GroupName, now: UnixMs) -> Vec<Standing> {
        let Some(at) = self.place_of(group) else { return vec![] };
        let Some(node) = self.nodes.get(at) else { return vec![] };
        let standing = |budget: &super::state::Budget| {
            let id = &budget.limit.id;
            let nominal = budget.nominal_at(&node.zone, now);
            let over = self.over(at, budget, now);
            let (used, held, left) = match self.quotas.get(&id.scope) {
                Some(tree) if id.metric == Metric::ConcurrentGpus => (tree.used_below(at), 0, tree.free(at)),
                Some(_) | None => (node.used_of(budget, now), node.held_of(budget), over.saturating_neg()),
            };
            let share = i128::from(used.saturating_add(held)) * 100;
            let is_reached = |percent: &&u32| share >= i128::from(nominal) * i128::from(**percent);
            Standing {
                limit: budget.limit.clone(),
                nominal,
                used,
                held,
                left,
                period: id.window.period(&node.zone, now),
                reached: budget.limit.thresholds.iter().rev().find(is_reached).copied(),
                passed: over > 0,
            }
        };
        node.budgets.iter().map(standing).collect()
    }

    /// What a group and all below it used, by month, scope and class.
    #[must_use]
    pub fn usage(&self, group: &GroupName) -> Vec<Use> {
        let Some(node) = self.place_of(group).and_then(|at| self.nodes.get(at)) else { return vec![] };
        let months = node.used.iter().flat_map(|(month, used)| used.iter().map(move |used| (*month, used)));
        months
            .map(|(month, (scope, class, amount))| Use {
                month,
                scope: scope.clone(),
                class: class.to_owned(),
                amount: *amount,
            })
            .collect()
    }

    /// The group's time zone.
    #[must_use]
    pub fn zone(&self, group: &GroupName) -> Option<&Zone> {
        self.place_of(group).and_then(|at| self.nodes.get(at)).map(|node| &node.zone)
    }

    /// The currency that the group was given itself.
    #[must_use]
    pub fn own_currency(&self, group: &GroupName) -> Option<Currency> {
        self.place_of(group).and_then(|at| self.nodes.get(at)?.currency)
    }

    /// The currency in which the group is told amounts: its own, or that of the nearest group above it that has one;
    /// dollars where none has.
    #[must_use]
    pub fn currency(&self, group: &GroupName) -> Currency {
        let mut places = self.place_of(group).into_iter().flat_map(|at| self.ancestors(at));
        places.find_map(|at| self.nodes.get(at)?.currency).unwrap_or(Currency::USD)
    }

    /// The hold of an attempt.
    #[must_use]
    pub fn holding(&self, attempt: AttemptId) -> Option<&Holding> {
        self.holdings.get(&attempt)
    }

    /// Every hold that is not forgotten.
    pub fn holdings(&self) -> impl Iterator<Item = (AttemptId, &Holding)> {
        self.holdings.iter().map(|(attempt, holding)| (*attempt, holding))
    }

    /// What classes of accelerators weigh.
    #[must_use]
    pub const fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Every transfer, by key.
    pub fn transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.transfers.values()
    }

    /// Whether nothing that can be asked here is bound: no group has a limit.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        self.nodes.iter().all(|node| node.budgets.is_empty())
    }
}
