//! Budget that one group gives to another, with its date: it counts in the window that the date is in.

use serde::{Deserialize, Serialize};
use spillway_types::{UnixMs, UserName};

use super::refusal::InUnit;
use super::{LimitId, Limits, LimitsError, Metric};
use crate::window::Window;

/// A transfer of budget. Written down for good; the way back is another transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its key: the same key with the same content is the same transfer.
    pub key: String,
    /// Whose budget becomes less.
    pub from: LimitId,
    /// Whose becomes more.
    pub to: LimitId,
    /// By how much, in the metric's unit; above 0.
    pub amount: i64,
    /// The date that says in which window it counts.
    pub effective: UnixMs,
    /// When it was written down.
    pub recorded: UnixMs,
    /// Who asked for it.
    pub by: UserName,
    /// Why.
    pub because: String,
}

impl Limits {
    /// Transfers budget. The same transfer again changes nothing.
    ///
    /// # Errors
    /// [`LimitsError`] where a limit does not exist, where the two do not count the same, where the window is over,
    /// or where the group that gives has less left.
    pub fn transfer(&mut self, transfer: &Transfer, now: UnixMs) -> Result<(), LimitsError> {
        let Transfer { key, from, to, amount, effective, .. } = transfer;
        let refuse = |problem: String| Err(LimitsError::Transfer { key: key.clone(), problem });
        if let Some(known) = self.transfers.get(key) {
            let same = Transfer { recorded: known.recorded, ..transfer.clone() } == *known;
            return if same {
                Ok(())
            } else {
                refuse("was made before with another content: use another key".to_owned())
            };
        }
        if *amount <= 0 {
            return refuse(format!(
                "amount {amount} must be above 0; give back with a transfer the other way"
            ));
        }
        let kind = |window: Window| std::mem::discriminant(&window);
        if from.group == to.group
            || from.metric == Metric::ConcurrentGpus
            || (&from.metric, &from.scope, kind(from.window)) != (&to.metric, &to.scope, kind(to.window))
        {
            return refuse(format!(
                "from {from} to {to}: give two groups' budgets of one metric, scope and window"
            ));
        }
        let is_above = |upper: &LimitId, lower: &LimitId| {
            let places = (self.place_of(&upper.group), self.place_of(&lower.group));
            matches!(places, (Some(upper), Some(lower)) if self.ancestors(lower).any(|at| at == upper))
        };
        if is_above(from, to) || is_above(to, from) {
            return refuse(format!(
                "groups `{}` and `{}` are above one another, and what the lower one uses counts in both: set the \
                 budget of one of them instead",
                from.group, to.group
            ));
        }
        let left = self.left_to_give(from, *effective, now, key)?;
        self.left_to_give(to, *effective, now, key)?;
        if *amount > left {
            let shown = |amount| InUnit(&from.metric, amount);
            return refuse(format!(
                "{} wanted, and only {} is left of {from}: give less",
                shown(*amount),
                shown(left)
            ));
        }
        for (id, amount) in [(from, -amount), (to, *amount)] {
            if let Some(budget) = self.budget_mut(id) {
                budget.moved.push((*effective, amount));
            }
        }
        self.transfers.insert(key.clone(), Transfer { recorded: now, ..transfer.clone() });
        Ok(())
    }

    /// What is left of a budget in the window that `effective` is in.
    fn left_to_give(
        &self,
        id: &LimitId,
        effective: UnixMs,
        now: UnixMs,
        key: &str,
    ) -> Result<i64, LimitsError> {
        let unknown = || LimitsError::UnknownLimit { limit: Box::new(id.clone()) };
        let node = self.place_of(&id.group).and_then(|at| self.nodes.get(at)).ok_or_else(unknown)?;
        let budget = node.budgets.iter().find(|budget| budget.limit.id == *id).ok_or_else(unknown)?;
        let period = id.window.period(&node.zone, effective);
        let problem = match period {
            Some(period) if !period.contains(effective) => Some(format!("{effective} is outside {id}")),
            Some(period) if period.to <= now => {
                Some(format!("{effective}: that window is over; give a later date"))
            }
            Some(_) | None => None,
        };
        if let Some(problem) = problem {
            return Err(LimitsError::Transfer { key: key.to_owned(), problem });
        }
        // What is held now counts in a later window too: it may still be held then.
        let taken = node.used_of(budget, effective).saturating_add(node.held_of(budget));
        Ok(budget.nominal_at(&node.zone, effective).saturating_sub(taken))
    }
}
