//! A node's profile over time: what is free now, after each running part's end, and less what earlier jobs of
//! the same plan have reserved.
//!
//! Within one plan a profile only loses; so the earliest start of a need never moves forward in time, and a
//! search may go on from where an earlier one ended.

use spillway_types::{DurationMs, FreeResources, UnixMs};

use crate::NodeView;
use crate::layout::{ClassMask, Layout, LevelView, Need, Room};

/// A part that has not ended when it was thought to is given a quarter of what it is late by, and at least this:
/// a quarter of a minute. So a part that never ends soon stops being waited for.
const OVERDUE_FLOOR: DurationMs = DurationMs::from_secs(15);

/// Levels in order of time; each holds until the next one begins, the last for ever.
#[derive(Debug)]
pub(crate) struct Timeline {
    times: Vec<i64>,
    cpus_milli: Vec<u32>,
    memory_mib: Vec<u64>,
    /// `classes` rooms for each level.
    rooms: Vec<Room>,
    classes: usize,
    version: u32,
}

/// When a running part is thought to end, seen from `now`.
fn thought_end(ends: UnixMs, now: UnixMs) -> UnixMs {
    if ends > now {
        return ends;
    }
    now.plus(DurationMs(now.since(ends).0 / 4).max(OVERDUE_FLOOR))
}

impl Timeline {
    /// The node's profile as it is, before any reservation.
    pub(crate) fn of(node: &NodeView, layout: &Layout<'_>, now: UnixMs) -> Self {
        let mut timeline = Self {
            times: Vec::new(),
            cpus_milli: Vec::new(),
            memory_mib: Vec::new(),
            rooms: Vec::new(),
            classes: layout.len(),
            version: 0,
        };
        let mut free = node.free.clone();
        timeline.push(now.0, layout, &free);
        let mut ends: Vec<_> =
            node.running.iter().map(|part| (thought_end(part.ends, now), &part.allocation)).collect();
        ends.sort_by_key(|(end, _)| *end);
        for (at, (end, allocation)) in ends.iter().enumerate() {
            free.give_back(&node.capacity, allocation);
            let last_at_this_time = ends.get(at + 1).is_none_or(|(next, _)| next != end);
            if last_at_this_time {
                timeline.push(end.0, layout, &free);
            }
        }
        timeline
    }

    fn push(&mut self, from: i64, layout: &Layout<'_>, free: &FreeResources) {
        self.times.push(from);
        self.cpus_milli.push(free.cpus_milli());
        self.memory_mib.push(free.memory_mib());
        self.rooms.extend(layout.rooms(free));
    }

    /// Changes with every change of the profile.
    pub(crate) const fn version(&self) -> u32 {
        self.version
    }

    fn level(&self, at: usize) -> LevelView<'_> {
        LevelView {
            cpus_milli: self.cpus_milli[at],
            memory_mib: self.memory_mib[at],
            rooms: &self.rooms[at * self.classes..(at + 1) * self.classes],
        }
    }

    /// The level that holds at `time`; the first one for times before it.
    fn index_at(&self, time: i64) -> usize {
        self.times.partition_point(|from| *from <= time).saturating_sub(1)
    }

    /// What is free at `time`.
    pub(crate) fn at(&self, time: i64) -> LevelView<'_> {
        self.level(self.index_at(time))
    }

    /// The first instant from `from` on at which `need` fits for `span_ms` without a break.
    pub(crate) fn earliest(&self, from: i64, span_ms: i64, need: &Need, mask: ClassMask) -> Option<i64> {
        let mut at = self.index_at(from);
        let mut start = from;
        loop {
            let fits = need.fits(self.level(at), mask);
            at += 1;
            match self.times.get(at) {
                None => return fits.then_some(start),
                Some(end) if fits && end.saturating_sub(start) >= span_ms => return Some(start),
                Some(_) if fits => {}
                Some(end) => start = *end,
            }
        }
    }

    /// Takes `need` out from `from` until `to`.
    pub(crate) fn reserve(&mut self, from: i64, to: i64, need: &Need, mask: ClassMask) {
        let first = self.split(from);
        let last = self.split(to);
        for at in first..last {
            self.cpus_milli[at] = self.cpus_milli[at].saturating_sub(need.cpus_milli);
            self.memory_mib[at] = self.memory_mib[at].saturating_sub(need.memory_mib);
            need.take(&mut self.rooms[at * self.classes..(at + 1) * self.classes], mask);
        }
        self.version += 1;
    }

    /// Makes the first level say exactly what is free now, after a start.
    pub(crate) fn set_now(&mut self, layout: &Layout<'_>, free: &FreeResources) {
        self.cpus_milli[0] = free.cpus_milli();
        self.memory_mib[0] = free.memory_mib();
        for (room, exact) in self.rooms.iter_mut().zip(layout.rooms(free)) {
            *room = exact;
        }
    }

    /// Makes a level begin at `time` and says which.
    fn split(&mut self, time: i64) -> usize {
        let at = self.times.partition_point(|from| *from < time);
        if self.times.get(at) == Some(&time) || at == 0 {
            return at;
        }
        let before = at - 1;
        self.times.insert(at, time);
        self.cpus_milli.insert(at, self.cpus_milli[before]);
        self.memory_mib.insert(at, self.memory_mib[before]);
        let copy: Vec<Room> = self.rooms[before * self.classes..at * self.classes].to_vec();
        self.rooms.splice(at * self.classes..at * self.classes, copy);
        at
    }
}
