//! Grants: budgets that are used once. Of several, the one with the higher priority is used first, then the one
//! that ends first, then the one that was made first. A grant covers only holds that end before it does, so that
//! nothing expires under what runs.

use std::cmp::Reverse;

use spillway_types::UnixMs;

use super::limit::{Limit, LimitId};
use super::refusal::{LimitRefusal, LimitRefusalKind};
use super::state::{Budget, Drawn, Node};
use super::{Metric, Scope};
use crate::window::Window;

/// The grants of a group that count the same, among them `first`.
pub(super) struct Grants<'a> {
    node: &'a Node,
    metric: &'a Metric,
    scope: &'a Scope,
}

fn span(budget: &Budget) -> Option<(UnixMs, UnixMs)> {
    match budget.limit.id.window {
        Window::Grant { from, to } => Some((from, to)),
        Window::Instant | Window::Month | Window::Quarter => None,
    }
}

/// What each of the grants gets of `amount` that is given back, as amounts below 0.
fn give_back(usable: &[&Budget], amount: i64) -> Vec<(LimitId, i64)> {
    let (mut left, mut given) = (amount, vec![]);
    for budget in usable.iter().rev() {
        let share = budget.burnt.clamp(0, left);
        if share > 0 {
            given.push((budget.limit.id.clone(), -share));
            left -= share;
        }
    }
    given
}

impl<'a> Grants<'a> {
    /// The grants beside `limit`, where it is the first of them: so each kind is asked once.
    pub(super) fn led_by(node: &'a Node, limit: &'a Limit) -> Option<Self> {
        let grants = Self { node, metric: &limit.id.metric, scope: &limit.id.scope };
        let first = grants.all().next().is_some_and(|budget| budget.limit.id == limit.id);
        first.then_some(grants)
    }

    fn all(&self) -> impl Iterator<Item = &'a Budget> {
        let (metric, scope) = (self.metric, self.scope);
        self.node.budgets.iter().filter(move |budget| {
            let id = &budget.limit.id;
            span(budget).is_some() && id.metric == *metric && id.scope == *scope
        })
    }

    /// Those that can be used from `now` to `until`, in the order in which they are used.
    fn in_order(&self, now: UnixMs, until: UnixMs) -> Vec<&'a Budget> {
        let fits =
            |budget: &&Budget| span(budget).is_some_and(|(from, to)| from <= now && until <= to && now < to);
        let mut usable: Vec<&Budget> = self.all().filter(fits).collect();
        usable.sort_by_key(|budget| {
            (Reverse(budget.limit.priority), span(budget).map(|(_, to)| to), budget.created)
        });
        usable
    }

    fn nominal(&self, budget: &Budget) -> i64 {
        budget.nominal_at(&self.node.zone, UnixMs(0))
    }

    fn left(&self, budget: &Budget) -> i64 {
        self.nominal(budget).saturating_sub(budget.burnt).saturating_sub(budget.reserved)
    }

    /// Whether a new attempt, or another lease, is refused by one of them.
    pub(super) fn denies(&self, extension: bool) -> bool {
        self.all().any(|budget| {
            let action = budget.limit.action;
            if extension { action.denies_extension() } else { action.denies_new() }
        })
    }

    /// Takes `wanted` for a hold from `now` to `until`: from which grants, and how much they lack together.
    pub(super) fn draw(&self, wanted: i64, now: UnixMs, until: UnixMs) -> (Vec<Drawn>, i64) {
        let (mut missing, mut drawn) = (wanted, vec![]);
        for budget in self.in_order(now, until) {
            let take = self.left(budget).clamp(0, missing);
            if take > 0 {
                drawn.push(Drawn { grant: budget.limit.id.clone(), left: take });
                missing -= take;
            }
        }
        (drawn, missing)
    }

    /// Whose grant pays `amount` that no hold covers, used at `at`: what is left of each, and the rest on the first.
    /// Below 0 it is given back, to the last of them first, and to none more than was taken of it.
    /// Only those that were there when the attempt was admitted pay for it: the first `made` of all limits.
    pub(super) fn burn(&self, amount: i64, at: UnixMs, made: u64) -> Vec<(LimitId, i64)> {
        let next = UnixMs(at.0.saturating_add(1));
        let known = |budget: &&Budget| budget.created <= made;
        let usable: Vec<&Budget> = self.in_order(at, next).into_iter().filter(known).collect();
        if amount < 0 {
            return give_back(&usable, amount.saturating_neg());
        }
        let first =
            usable.first().copied().or_else(|| self.all().filter(known).max_by_key(|budget| span(budget)));
        let (mut missing, mut burnt) = (amount, vec![]);
        for budget in usable {
            let take = self.left(budget).clamp(0, missing);
            if take > 0 {
                burnt.push((budget.limit.id.clone(), take));
                missing -= take;
            }
        }
        if let Some(first) = first.filter(|_| missing > 0) {
            burnt.push((first.limit.id.clone(), missing));
        }
        burnt
    }

    /// The refusal for what they lack.
    pub(super) fn refuse(
        &self,
        wanted: i64,
        missing: i64,
        now: UnixMs,
        until: UnixMs,
    ) -> Option<LimitRefusal> {
        let usable = self.in_order(now, until);
        let sum =
            |of: &dyn Fn(&Budget) -> i64| usable.iter().map(|budget| of(budget)).fold(0, i64::saturating_add);
        let (limit, used, held) = (
            sum(&|budget| self.nominal(budget)),
            sum(&|budget| budget.burnt),
            sum(&|budget| budget.reserved),
        );
        // One that begins later, or that a shorter hold could still use, can help those who wait.
        let to_come = self.all().filter(|budget| span(budget).is_some_and(|(_, to)| now < to));
        let ever = to_come.map(|budget| self.nominal(budget)).fold(0, i64::saturating_add);
        let kind = if wanted > ever {
            LimitRefusalKind::NeverFits
        } else if wanted > limit.saturating_sub(used) {
            LimitRefusalKind::UsedUp
        } else {
            LimitRefusalKind::UnsafeWithRunning
        };
        let begins =
            self.all().filter_map(|budget| span(budget).map(|(from, _)| from)).filter(|from| now < *from);
        let binding = usable.first().copied().or_else(|| self.all().max_by_key(|budget| span(budget)))?;
        Some(LimitRefusal {
            binding: Box::new(binding.limit.id.clone()),
            limit,
            used,
            held,
            wanted,
            shortfall: missing,
            kind,
            renews: begins.min().filter(|_| kind == LimitRefusalKind::UsedUp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOUR, NOW, UNIT, attempt, charge, demand, end, group, limit, refusal, tree};
    use super::super::{Adjustment, Charge, Limit, Limits, LimitsError};
    use super::*;

    #[test]
    fn what_is_given_back_goes_to_the_grants_that_paid_the_last_first() {
        let mut limits = tree();
        let days = |days: i64| UnixMs(NOW.0 + days * 24 * 3_600_000);
        for (ends, nominal) in [(10, 5), (20, 7)] {
            let window = Window::Grant { from: days(-1), to: days(ends) };
            limits.set_limit(limit("vision", "money", "everywhere", window, nominal), NOW).unwrap();
        }
        let place = demand("deep", 1, 1).place;
        let used = |limits: &Limits| {
            let standings = limits.standings(&group("vision"), NOW);
            standings.iter().map(|standing| standing.used).collect::<Vec<_>>()
        };
        for (micros, expected) in [(8, [5, 3]), (-4, [4, 0]), (3, [5, 2]), (-9, [0, 0])] {
            let more = Adjustment { micros, ..Adjustment::default() };
            limits.adjust(&group("deep"), &place, &more, NOW);
            assert_eq!(used(&limits), expected, "{micros}");
        }
    }

    #[test]
    fn grants_are_used_by_priority_then_end_then_age() {
        let mut limits = tree();
        let grant = |days: i64, priority, nominal| {
            let window = Window::Grant { from: UnixMs(NOW.0 - HOUR), to: UnixMs(NOW.0 + days * 24 * HOUR) };
            Limit { priority, ..limit("vision", "money", "everywhere", window, nominal * UNIT) }
        };
        let early = Window::Grant { from: UnixMs(NOW.0 - 2 * HOUR), to: UnixMs(NOW.0 + 20 * 24 * HOUR) };
        let all = [
            grant(30, 0, 1),
            grant(20, 0, 1),
            limit("vision", "money", "everywhere", early, UNIT),
            grant(40, 5, 1),
        ];
        all.iter().for_each(|grant| limits.set_limit(grant.clone(), NOW).unwrap());
        let used = |limits: &Limits| {
            limits
                .standings(&group("vision"), NOW)
                .iter()
                .map(|s| (s.used / 1000, s.held / 1000))
                .collect::<Vec<_>>()
        };
        limits.hold(attempt(1), demand("vision", 1, 90), NOW).unwrap();
        assert_eq!(used(&limits), [(0, 0), (0, 500), (0, 0), (0, 1000)]);
        limits.charge(attempt(1), &charge(0, 75, 1)).unwrap();
        assert_eq!(used(&limits), [(0, 0), (250, 250), (0, 0), (1000, 0)]);
        end(&mut limits, attempt(1));
        limits.hold(attempt(2), demand("vision", 1, 120), NOW).unwrap();
        assert_eq!(used(&limits), [(0, 250), (250, 750), (0, 1000), (1000, 0)]);
        let why = refusal(limits.hold(attempt(3), demand("vision", 1, 60), NOW).unwrap_err());
        assert_eq!(
            (why.kind, why.limit, why.shortfall),
            (LimitRefusalKind::UnsafeWithRunning, 4 * UNIT, UNIT / 4)
        );
        assert_eq!(
            limits.check(&demand("vision", 5, 60), NOW).unwrap_err().kind,
            LimitRefusalKind::NeverFits
        );
        let late = limits.check(&demand("vision", 1, 45), UnixMs(NOW.0 + 35 * 24 * HOUR)).unwrap_err();
        assert_eq!(late.kind, LimitRefusalKind::UsedUp, "only the used one is left: {late}");
        assert!(late.to_string().ends_with("it is used up: transfer budget to it, or raise it"), "{late}");
        let open = limits.remove_limit(&all[0].id, NOW).unwrap_err();
        assert!(matches!(open, LimitsError::OpenHolds { holds: 1, .. }), "{open}");
        limits.charge(attempt(2), &charge(0, 120, 2)).unwrap();
        assert_eq!(
            limits.standings(&group("vision"), NOW).iter().map(|s| s.used).sum::<i64>(),
            5 * UNIT + UNIT / 4
        );
    }

    #[test]
    fn a_grant_does_not_end_under_what_runs_and_one_to_come_is_waited_for() {
        let mut limits = tree();
        let window =
            |from: i64, to: i64| Window::Grant { from: UnixMs(NOW.0 + from), to: UnixMs(NOW.0 + to) };
        limits.set_limit(limit("vision", "money", "everywhere", window(0, HOUR), 10 * UNIT), NOW).unwrap();
        assert_eq!(limits.check(&demand("vision", 1, 60), NOW), Ok(()));
        assert!(limits.check(&demand("vision", 1, 61), NOW).is_err());
        limits
            .set_limit(limit("vision", "money", "everywhere", window(2 * HOUR, 9 * HOUR), UNIT), NOW)
            .unwrap();
        let why = limits.check(&demand("vision", 1, 61), NOW).unwrap_err();
        assert_eq!((why.kind, why.renews), (LimitRefusalKind::UsedUp, Some(UnixMs(NOW.0 + 2 * HOUR))));
        limits.hold(attempt(1), demand("vision", 1, 60), NOW).unwrap();
        let slice = Charge { started: UnixMs(NOW.0 + 3 * HOUR), ..charge(0, 60, 1) };
        limits.charge(attempt(1), &slice).unwrap();
        let used: Vec<i64> =
            limits.standings(&group("vision"), NOW).iter().map(|standing| standing.used).collect();
        assert_eq!(used, [UNIT, 0], "it was held of the first");
    }
}
