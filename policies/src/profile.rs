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

/// One bit for each class of requests that may fit: 1, 2, 4 and 8 whole accelerators; any part of one, half of one;
/// 1 CPU.
pub(crate) type Met = u8;
/// How many classes there are.
pub(crate) const CLASSES: usize = 7;

/// When a step begins, and what it is good for: enough to pass over most steps without a look at their levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    from: i64,
    /// Wholly free accelerators of every class.
    whole: u32,
    met: Met,
}

impl Head {
    fn of(from: i64, level: &Level) -> Self {
        let whole = level.whole_free_of_all();
        let part = level.most_blocks_free(u8::MAX);
        let met = [whole >= 1, whole >= 2, whole >= 4, whole >= 8, part >= 1, part >= 50];
        let met = met.into_iter().chain([level.cpus_milli >= 1_000]).enumerate();
        Self { from, whole, met: met.fold(0, |bits, (at, met)| bits | u8::from(met) << at) }
    }

    /// Whether a need may fit.
    const fn may_do(&self, need: &Need) -> bool {
        match need.want {
            Want::Nothing => true,
            Want::Whole(count) => self.whole >= count,
            Want::Blocks(0) => true,
            Want::Blocks(_) => self.met >> 4 & 1 == 1,
        }
    }
}

/// Steps in order of time; the last one holds for ever. Instants are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    heads: Vec<Head>,
    /// What is free from one instant until the next step's; parallel to the heads.
    levels: Vec<Level>,
    /// For 1, 2, 4 and 8: no instant before this has so many wholly free accelerators.
    soonest: [i64; SIZES],
}

/// What a reservation has changed, save for what was free in the steps that it took from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved {
    /// The steps that it took from: the first, and the one behind the last.
    first: usize,
    last: usize,
    /// Whether these begin because of it.
    began: bool,
    ended: bool,
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
        let mut profile = Self::default();
        let level = layout.level(&node.capacity, &free);
        if let Some(opens) = node.opens {
            profile.push(now.0, Level::default());
            // One that is late is given as long again as a part that is overdue.
            profile.push(thought_end(now, opens, now).0, level);
        } else {
            profile.push(now.0, level);
        }
        let ends =
            node.running.iter().map(|part| (thought_end(part.began, part.ends, now), &part.allocation));
        let mut ends: Vec<_> = ends.collect();
        ends.sort_by_key(|(end, _)| *end);
        for (at, (end, allocation)) in ends.iter().enumerate() {
            free.give_back(&node.capacity, allocation);
            let last_at_this_time = ends.get(at + 1).is_none_or(|(next, _)| next != end);
            if last_at_this_time {
                profile.push(end.0, layout.level(&node.capacity, &free));
            }
        }
        profile.note_soonest();
        profile
    }

    fn push(&mut self, from: i64, level: Level) {
        self.heads.push(Head::of(from, &level));
        self.levels.push(level);
    }

    /// Nothing is ever free.
    pub(crate) fn closed() -> Self {
        let mut profile = Self { soonest: [i64::MAX; SIZES], ..Self::default() };
        profile.push(i64::MIN, Level::default());
        profile
    }

    fn note_soonest(&mut self) {
        let mut known = 0;
        self.soonest = [i64::MAX; SIZES];
        for head in &self.heads {
            while known < SIZES && head.whole >= 1 << known {
                self.soonest[known] = head.from;
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
        match self.levels.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What may fit from which instant on, in order of time. The first also holds before.
    pub(crate) fn met(&self) -> impl Iterator<Item = (i64, Met)> {
        self.heads.iter().map(|head| (head.from, head.met))
    }

    /// The step that holds at `time`; the first one for times before it.
    fn index_at(&self, time: i64) -> usize {
        self.heads.partition_point(|head| head.from <= time).saturating_sub(1)
    }

    /// What is free at `time`.
    pub(crate) fn at(&self, time: i64) -> &Level {
        &self.levels[self.index_at(time)]
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
            let fits = self.heads[at].may_do(need) && need.fits(&self.levels[at], mask);
            at += 1;
            match self.heads.get(at) {
                None => return fits.then_some(start),
                Some(next) if fits && next.from.saturating_sub(start) >= span_ms => return Some(start),
                Some(_) if fits => {}
                Some(next) if next.from > latest => return None,
                Some(next) => start = next.from,
            }
        }
    }

    /// Takes `need` out from `from` until `to`. What was free then is put on top of `saved`.
    pub(crate) fn reserve(
        &mut self,
        (from, to): (i64, i64),
        (need, mask): (&Need, ClassMask),
        saved: &mut Vec<Level>,
    ) -> Reserved {
        let soonest = self.soonest;
        let (first, began) = self.split(from);
        let (last, ended) = self.split(to);
        saved.extend_from_slice(&self.levels[first..last]);
        for (head, level) in self.heads[first..last].iter_mut().zip(&mut self.levels[first..last]) {
            level.take(need, mask);
            *head = Head::of(head.from, level);
        }
        self.note_soonest();
        Reserved { first, last, began, ended, soonest }
    }

    /// Takes the last reservation back, with what it put on top of `saved`.
    pub(crate) fn take_back(&mut self, reserved: Reserved, saved: &mut Vec<Level>) {
        let Reserved { first, last, began, ended, soonest } = reserved;
        let kept = saved.len() - (last - first);
        for (at, level) in (first..last).zip(saved.drain(kept..)) {
            self.heads[at] = Head::of(self.heads[at].from, &level);
            self.levels[at] = level;
        }
        for at in [ended.then_some(last), began.then_some(first)].into_iter().flatten() {
            self.heads.remove(at);
            self.levels.remove(at);
        }
        self.soonest = soonest;
    }

    /// Becomes a copy of `other` in the memory that it has.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.heads.clone_from(&other.heads);
        self.levels.clone_from(&other.levels);
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
            let until = self.heads.get(at + 1).map_or(end, |next| next.from.min(end));
            let free = i64::from(self.levels[at].whole_free(mask));
            sum = sum.saturating_add((until - from).saturating_mul(loss(free, i64::from(count))));
            from = until;
            at += 1;
        }
        ratio(sum, span_ms)
    }

    /// Makes a step begin at `time` and says which, and whether none did before.
    fn split(&mut self, time: i64) -> (usize, bool) {
        let at = self.heads.partition_point(|head| head.from < time);
        if at == 0 || self.heads.get(at).is_some_and(|head| head.from == time) {
            return (at, false);
        }
        self.heads.insert(at, Head { from: time, ..self.heads[at - 1] });
        self.levels.insert(at, self.levels[at - 1]);
        (at, true)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Profile;
    use crate::layout::{Layout, Need, Want};
    use crate::testing::{NOW, node};

    fn any_need() -> impl Strategy<Value = Need> {
        let wants = prop_oneof![
            Just(Want::Nothing),
            (1..9_u32).prop_map(Want::Whole),
            prop::sample::select(vec![25_u32, 50]).prop_map(Want::Blocks),
        ];
        (wants, 0..9_000_u32).prop_map(|(want, cpus_milli)| Need { want, cpus_milli, memory_mib: 64 })
    }

    proptest! {
        #[test]
        fn what_is_reserved_is_taken_back(
            asks in prop::collection::vec((any_need(), 0..20_000_i64, 1..9_000_i64), 1..60),
        ) {
            let view = node(1, "H100:8").busy(3, 10).busy(2, 4_000);
            let mut profile = Profile::of(&view, &Layout::of(&view.capacity), NOW);
            let (mut saved, mut log) = (Vec::new(), Vec::new());
            for (need, from, span) in asks {
                let Some(start) = profile.earliest((NOW.0 + from, i64::MAX), span, &need, 1) else { continue };
                // Nothing starts before, wherever the search begins.
                for earlier in [NOW.0 + from, NOW.0 + from + (start - NOW.0 - from) / 2, start] {
                    prop_assert_eq!(profile.earliest((earlier, i64::MAX), span, &need, 1), Some(start));
                }
                let before = profile.clone();
                log.push((before, profile.reserve((start, start + span), (&need, 1), &mut saved)));
            }
            while let Some((before, reserved)) = log.pop() {
                profile.take_back(reserved, &mut saved);
                prop_assert_eq!(&profile, &before);
            }
            prop_assert!(saved.is_empty());
        }
    }
}
