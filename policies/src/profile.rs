//! A node's profile over time: what is free from now on, after each running part's end, less what the plan has
//! reserved.

use spillway_types::{DurationMs, UnixMs};

use crate::NodeView;
use crate::layout::{ClassMask, Layout, Level, Need, Want};

/// A part that has not ended when it was thought to is given a quarter of what it is late by, and at least this:
/// a few seconds. So a part that never ends soon stops being waited for.
const OVERDUE_FLOOR: DurationMs = DurationMs(3_600);

/// Counts of whole accelerators whose first free moment is kept: 1, 2, 4, 8.
const SIZES: usize = 4;

/// What is free from one instant until the next step's.
#[derive(Debug, Clone, Copy)]
struct Step {
    from: i64,
    level: Level,
}

/// Steps in order of time; the last one holds for ever. Instants are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profile {
    steps: Vec<Step>,
    /// For 1, 2, 4 and 8: no instant before this has so many wholly free accelerators.
    soonest: [i64; SIZES],
}

/// When a running part is thought to end, seen from `now`.
pub(crate) fn thought_end(began: UnixMs, ends: UnixMs, now: UnixMs) -> UnixMs {
    if ends > now {
        return ends;
    }
    now.plus(DurationMs(now.since(began).0 / 4).max(OVERDUE_FLOOR))
}

impl Profile {
    /// The node's profile as it is, before any reservation.
    pub(crate) fn of(node: &NodeView, layout: &Layout, now: UnixMs) -> Self {
        let mut free = node.free.clone();
        let mut steps = vec![Step { from: now.0, level: layout.level(&node.capacity, &free) }];
        if let Some(opens) = node.opens {
            // One that is late is given as long again as a part that is overdue.
            let opens = thought_end(now, opens, now);
            let level = std::mem::take(&mut steps[0].level);
            steps.push(Step { from: opens.0, level });
        }
        let ends =
            node.running.iter().map(|part| (thought_end(part.began, part.ends, now), &part.allocation));
        let mut ends: Vec<_> = ends.collect();
        ends.sort_by_key(|(end, _)| *end);
        for (at, (end, allocation)) in ends.iter().enumerate() {
            free.give_back(&node.capacity, allocation);
            let last_at_this_time = ends.get(at + 1).is_none_or(|(next, _)| next != end);
            if last_at_this_time {
                steps.push(Step { from: end.0, level: layout.level(&node.capacity, &free) });
            }
        }
        let mut profile = Self { steps, soonest: [i64::MIN; SIZES] };
        profile.note_soonest();
        profile
    }

    /// Nothing is ever free.
    pub(crate) fn closed() -> Self {
        Self { steps: vec![Step { from: i64::MIN, level: Level::default() }], soonest: [i64::MAX; SIZES] }
    }

    fn note_soonest(&mut self) {
        let mut known = 0;
        self.soonest = [i64::MAX; SIZES];
        for step in &self.steps {
            let whole = step.level.whole_free_of_all();
            while known < SIZES && whole >= 1 << known {
                self.soonest[known] = step.from;
                known += 1;
            }
            if known == SIZES {
                return;
            }
        }
    }

    /// No start before this is possible. Cheap, and often early.
    pub(crate) fn soonest(&self, need: &Need) -> i64 {
        match need.want {
            Want::Nothing | Want::Blocks(_) | Want::Whole(0) => i64::MIN,
            Want::Whole(count) => self.soonest[(count.ilog2() as usize).min(SIZES - 1)],
        }
    }

    /// The level, where it never changes.
    pub(crate) fn constant(&self) -> Option<&Level> {
        match self.steps.as_slice() {
            [only] => Some(&only.level),
            _ => None,
        }
    }

    /// What is free from which instant on, in order of time. The first also holds before.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (i64, &Level)> {
        self.steps.iter().map(|step| (step.from, &step.level))
    }

    /// The step that holds at `time`; the first one for times before it.
    fn index_at(&self, time: i64) -> usize {
        self.steps.partition_point(|step| step.from <= time).saturating_sub(1)
    }

    /// What is free at `time`.
    pub(crate) fn at(&self, time: i64) -> &Level {
        &self.steps[self.index_at(time)].level
    }

    /// The first instant from `from` until `latest` at which `need` fits for `span_ms` without a break.
    pub(crate) fn earliest(
        &self,
        (from, latest): (i64, i64),
        span_ms: i64,
        need: &Need,
        mask: ClassMask,
    ) -> Option<i64> {
        let mut at = self.index_at(from);
        let mut start = from;
        loop {
            let fits = need.fits(&self.steps[at].level, mask);
            at += 1;
            match self.steps.get(at) {
                None => return fits.then_some(start),
                Some(next) if fits && next.from.saturating_sub(start) >= span_ms => return Some(start),
                Some(_) if fits => {}
                Some(next) if next.from > latest => return None,
                Some(next) => start = next.from,
            }
        }
    }

    /// Takes `need` out from `from` until `to`.
    pub(crate) fn reserve(&mut self, (from, to): (i64, i64), need: &Need, mask: ClassMask) {
        let first = self.split(from);
        let last = self.split(to);
        for step in &mut self.steps[first..last] {
            step.level.take(need, mask);
        }
        self.note_soonest();
    }

    /// Becomes a copy of `other` in the memory that it has.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.steps.clear();
        self.steps.extend_from_slice(&other.steps);
        self.soonest = other.soonest;
    }

    /// How much room for large needs is lost while `need` runs from `start` on for `span_ms`: the time average of
    /// `sum over m in {1, 2, 4, 8} of w(m) x m x (holes of m before - holes of m after) + 0.3 x what stays free`,
    /// w = 1/4, 1/4, 1/4, 1, in twentieths of an accelerator. The least keeps large holes whole and packs tight.
    pub(crate) fn hole_loss(&self, start: i64, span_ms: i64, count: u32, mask: ClassMask) -> f64 {
        let end = start.saturating_add(span_ms);
        let mut at = self.index_at(start);
        let mut from = start;
        let mut sum = 0_i64;
        while from < end {
            let until = self.steps.get(at + 1).map_or(end, |next| next.from.min(end));
            let free = i64::from(self.steps[at].level.whole_free(mask));
            sum = sum.saturating_add((until - from).saturating_mul(loss(free, i64::from(count))));
            from = until;
            at += 1;
        }
        ratio(sum, span_ms)
    }

    /// Makes a step begin at `time` and says which.
    fn split(&mut self, time: i64) -> usize {
        let at = self.steps.partition_point(|step| step.from < time);
        if at == 0 || self.steps.get(at).is_some_and(|step| step.from == time) {
            return at;
        }
        let level = self.steps[at - 1].level;
        self.steps.insert(at, Step { from: time, level });
        at
    }
}

/// What is lost at one moment, in twentieths of an accelerator.
fn loss(free: i64, count: i64) -> i64 {
    let left = (free - count).max(0);
    let lost = |size: i64| size * (free / size - left / size);
    5 * (lost(1) + lost(2) + lost(4)) + 20 * lost(8) + 6 * left
}

/// As a number for comparisons only.
#[expect(clippy::cast_precision_loss, reason = "a measure of fit, compared with others of its kind")]
fn ratio(sum: i64, span_ms: i64) -> f64 {
    sum as f64 / span_ms.max(1) as f64
}
