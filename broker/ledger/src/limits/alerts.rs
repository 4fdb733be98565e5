//! Who is to be told that a limit fills up: thresholds that were crossed between two looks, each once in a window.
//!
//! [`crossed`] compares where limits stood with where they stand; [`reached`] says the same of the first look. An
//! [`Alert`]'s key names the limit, its window and the threshold, so that the same crossing has the same key whoever
//! finds it and however often: a receiver, and a sender that remembers what it has sent, take it once. What counts at
//! each instant has no window; it is told once a day (UTC).
//!
//! Left out on purpose: sending, and remembering what was sent.

pub mod message;

use serde::{Deserialize, Serialize};
use spillway_types::{GroupName, UnixMs};

use super::{Action, LimitId, Standing};
use crate::calendar::Day;
use crate::window::{Span, Window};

/// A threshold of a limit was crossed. Amounts in the limit's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for the same limit, window and threshold; visible ASCII.
    pub key: String,
    /// Which limit.
    pub limit: LimitId,
    /// The groups above its group, nearest first.
    pub above: Vec<GroupName>,
    /// The threshold, in percent of the limit.
    pub percent: u32,
    /// How much the limit is now, with what was transferred.
    pub nominal: i64,
    /// What was used in its window.
    pub used: i64,
    /// What is held beside.
    pub held: i64,
    /// What is left; below 0 where the limit is passed.
    pub left: i64,
    /// What follows when it is reached.
    pub action: Action,
    /// Whether it is passed, so that its action is due.
    pub passed: bool,
    /// When it is told anew at the earliest: the end of its window, or of the day.
    pub until: UnixMs,
    /// When it was found.
    pub at: UnixMs,
}

impl Alert {
    /// Whether it is about this group or one below it.
    #[must_use]
    pub fn concerns(&self, group: &GroupName) -> bool {
        self.limit.group == *group || self.above.contains(group)
    }

    /// How much of the limit is used and held, in whole percent; none of a limit of 0.
    #[must_use]
    pub fn filled_percent(&self) -> Option<i128> {
        let sum = i128::from(self.used) + i128::from(self.held);
        (self.nominal > 0).then(|| sum * 100 / i128::from(self.nominal))
    }
}

/// The thresholds that are reached in `after` and were not in `before`, in the order of `after` and ascending. `above`
/// are the groups above the group whose limits these are, nearest first.
///
/// A limit that has been made, raised or given other thresholds since, and one whose window is another, is compared
/// with what was known of it: a threshold is told unless it stood there before and was reached in the same window.
#[must_use]
pub fn crossed(before: &[Standing], after: &[Standing], above: &[GroupName], now: UnixMs) -> Vec<Alert> {
    let told = |standing: &Standing, percent: u32| {
        let same = |known: &&Standing| known.limit.id == standing.limit.id && known.period == standing.period;
        let known = before.iter().find(same);
        known.is_some_and(|known| known.limit.thresholds.contains(&percent) && is_reached(known, percent))
    };
    let of_one = |standing: &'_ Standing| -> Vec<Alert> {
        let new = standing.limit.thresholds.iter().copied();
        let new = new.filter(|percent| is_reached(standing, *percent) && !told(standing, *percent));
        new.map(|percent| alert(standing, percent, above, now)).collect()
    };
    after.iter().flat_map(of_one).collect()
}

/// All thresholds that are reached now: what to tell when nothing is known of before. What was told is for the
/// caller to know, by key.
#[must_use]
pub fn reached(standings: &[Standing], above: &[GroupName], now: UnixMs) -> Vec<Alert> {
    crossed(&[], standings, above, now)
}

/// A limit of 0 of which nothing is used has no threshold to cross.
fn is_reached(standing: &Standing, percent: u32) -> bool {
    let sum = i128::from(standing.used) + i128::from(standing.held);
    sum > 0 && sum * 100 >= i128::from(standing.nominal) * i128::from(percent)
}

fn alert(standing: &Standing, percent: u32, above: &[GroupName], now: UnixMs) -> Alert {
    let day = Day::of(now);
    let (window, until) = match (standing.limit.id.window, standing.period) {
        (Window::Grant { from, to }, _) => (format!("grant:{}-{}", from.0, to.0), to),
        (Window::Month, Some(Span { from, to })) => (format!("month:{}", from.0), to),
        (Window::Quarter, Some(Span { from, to })) => (format!("quarter:{}", from.0), to),
        (Window::Instant | Window::Month | Window::Quarter, _) => (format!("day:{day}"), day.plus(1).start()),
    };
    let LimitId { group, metric, scope, .. } = &standing.limit.id;
    Alert {
        key: format!("limit/{group}/{metric}/{scope}/{window}/{percent}"),
        limit: standing.limit.id.clone(),
        above: above.to_vec(),
        percent,
        nominal: standing.nominal,
        used: standing.used,
        held: standing.held,
        left: standing.left,
        action: standing.limit.action,
        passed: standing.passed,
        until,
        at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, at, attempt, demand, group, limit, tree};
    use super::super::{Charge, HoldStep, Limit, Limits};
    use super::*;
    use spillway_types::{DurationMs, HourlyRate};

    const MINUTE: i64 = 60_000;

    /// 100 GPU-minutes a month for vision, told at 50, 80 and 100 percent.
    fn limits() -> Limits {
        let mut limits = tree();
        let budget = limit("vision", "gpu-time:H100", "everywhere", Window::Month, 100 * MINUTE);
        limits.set_limit(Limit { thresholds: vec![50, 80, 100], ..budget }, NOW).unwrap();
        limits
    }

    fn stands(limits: &Limits, now: UnixMs) -> Vec<Standing> {
        limits.standings(&group("vision"), now)
    }

    fn percents(alerts: &[Alert]) -> Vec<u32> {
        alerts.iter().map(|alert| alert.percent).collect()
    }

    #[test]
    fn each_threshold_is_told_when_it_is_crossed_and_not_while_it_stays_crossed() {
        let mut limits = limits();
        let above = [group("lab")];
        let mut before = stands(&limits, NOW);
        assert_eq!(reached(&before, &above, NOW), []);
        let mut told = vec![];
        // Holds of 8 GPUs: 48, then 56, then 96 percent of the limit.
        for (number, minutes) in [(1, 6), (2, 1), (3, 5)] {
            limits.hold(attempt(number), demand("deep", 8, minutes), NOW).unwrap();
            let after = stands(&limits, NOW);
            told.push(percents(&crossed(&before, &after, &above, NOW)));
            assert_eq!(crossed(&after, &after, &above, NOW), []);
            before = after;
        }
        assert_eq!(told, [vec![], vec![50], vec![80]]);
        let all = reached(&before, &above, NOW);
        assert_eq!(percents(&all), [50, 80]);
        assert_eq!(
            (all[1].used, all[1].held, all[1].left, all[1].passed),
            (0, 96 * MINUTE, 4 * MINUTE, false)
        );
        assert_eq!((all[1].filled_percent(), all[1].until), (Some(96), at("2026-02-01T00:00:00Z")));
        assert_eq!(all[1].key, "limit/vision/gpu-time:H100/everywhere/month:1767225600000/80");
        assert!(
            all[1].concerns(&group("lab"))
                && all[1].concerns(&group("vision"))
                && !all[1].concerns(&group("deep"))
        );
    }

    #[test]
    fn the_same_crossing_has_the_same_key_and_another_window_another() {
        let mut limits = limits();
        limits.hold(attempt(1), demand("vision", 8, 7), NOW).unwrap();
        let first = reached(&stands(&limits, NOW), &[], NOW);
        limits.step(attempt(1), HoldStep::Release).unwrap();
        let low = stands(&limits, NOW);
        limits.hold(attempt(2), demand("vision", 8, 8), NOW).unwrap();
        let later = UnixMs(NOW.0 + 5 * MINUTE);
        let again = crossed(&low, &stands(&limits, later), &[], later);
        assert_eq!((percents(&first), percents(&again)), (vec![50], vec![50]));
        assert_eq!(first[0].key, again[0].key);
        assert_ne!(first[0].held, again[0].held);
        // Still held when the next month begins, in which it counts.
        let next = at("2026-02-01T00:00:00Z");
        let before = stands(&limits, later);
        let in_next = crossed(&before, &stands(&limits, next), &[], next);
        assert_eq!(percents(&in_next), [50]);
        assert_ne!(in_next[0].key, first[0].key);
    }

    #[test]
    fn what_is_used_beyond_a_limit_and_a_limit_that_is_lowered_or_told_otherwise_are_told() {
        let mut limits = limits();
        limits.hold(attempt(1), demand("vision", 8, 5), NOW).unwrap();
        limits.step(attempt(1), HoldStep::Activate).unwrap();
        let before = stands(&limits, NOW);
        let ms = 15 * MINUTE.unsigned_abs();
        let charge = Charge { share: 0, started: NOW, from_ms: 0, to_ms: ms, rate: HourlyRate(0) };
        limits.charge(attempt(1), &charge).unwrap();
        let later = NOW.plus(DurationMs(ms));
        let after = stands(&limits, later);
        let beyond = crossed(&before, &after, &[], later);
        assert_eq!(percents(&beyond), [50, 80, 100]);
        assert!(beyond.iter().all(|alert| alert.passed && alert.left == -20 * MINUTE));
        assert_eq!(beyond[2].filled_percent(), Some(120));

        let raised = limit("vision", "gpu-time:H100", "everywhere", Window::Month, 1000 * MINUTE);
        limits.set_limit(Limit { thresholds: vec![10, 50], ..raised.clone() }, later).unwrap();
        let told_otherwise = stands(&limits, later);
        assert_eq!(percents(&crossed(&after, &told_otherwise, &[], later)), [10]);
        limits.set_limit(Limit { thresholds: vec![10, 50], nominal: 240 * MINUTE, ..raised }, later).unwrap();
        assert_eq!(percents(&crossed(&told_otherwise, &stands(&limits, later), &[], later)), [50]);
    }

    #[test]
    fn what_counts_at_each_instant_is_told_once_a_day() {
        let mut limits = tree();
        let at_once = limit("vision", "concurrent-gpus", "everywhere", Window::Instant, 800);
        limits.set_limit(Limit { thresholds: vec![100], ..at_once }, NOW).unwrap();
        limits.set_limit(limit("vision", "money", "cloud", Window::Month, 0), NOW).unwrap();
        assert_eq!(reached(&stands(&limits, NOW), &[], NOW), [], "nothing is used of a limit of 0");
        limits.hold(attempt(1), demand("vision", 8, 1), NOW).unwrap();
        let standings = stands(&limits, NOW);
        let today = reached(&standings, &[], NOW);
        assert_eq!(today[0].key, "limit/vision/concurrent-gpus/everywhere/day:2026-01-11/100");
        assert_eq!(today[0].until, at("2026-01-12T00:00:00Z"));
        let tonight = UnixMs(today[0].until.0 - 1);
        assert_eq!(reached(&standings, &[], tonight)[0].key, today[0].key);
        assert_ne!(reached(&standings, &[], today[0].until)[0].key, today[0].key);
    }
}
