//! Which nodes of a kind may start something soon, without looking at all of them.
//!
//! For every node there is a bound for each size of request and each length of run: no start before it is possible.
//! The bounds of a kind stand in trees of least values, so that a search looks only at nodes whose bound is not beyond
//! the best start so far. Bounds only ever prune: whether and when something fits is asked of the node's profile, and
//! a search finds what looking at every node would find. Nodes that are the same for ever, idle ones above all, are
//! looked at once for all of them.
//!
//! Kinds with few nodes have no trees: looking at all of them costs less.

use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::Fleet;
use crate::layout::{ClassMask, Level, Need, Want};
use crate::learned::Learned;
use crate::profile::{CLASSES, Met, Profile};
use crate::trees::{Root, Seconds, Trees, instant, seconds};

/// A kind with fewer nodes has no trees.
const INDEXED_FROM: usize = 64;
/// The same where there are at least [`MANY`] nodes in all: looking at few nodes of many kinds costs as much.
const INDEXED_FROM_OF_MANY: usize = 1;
const MANY: usize = 1_000;
/// Runs at least as long are one class, in milliseconds: five minutes to 43 hours, a factor of two between them.
pub(crate) const LENGTHS: [i64; 11] = [
    0,
    300_000,
    600_000,
    1_200_000,
    2_400_000,
    4_800_000,
    9_600_000,
    19_200_000,
    38_400_000,
    76_800_000,
    153_600_000,
];
const COLUMNS: usize = CLASSES * LENGTHS.len();

/// One bound for each column: instants in milliseconds since the Unix epoch.
type Bounds = [i64; COLUMNS];

/// The nodes of one kind.
#[derive(Debug)]
struct KindIndex {
    /// By position: the node's number, and its level where that never changes.
    nodes: Vec<(usize, Option<Level>)>,
    trees: Trees,
    /// Nodes with the same level for ever.
    twins: BTreeMap<Level, BTreeSet<usize>>,
    /// Positions of nodes that have left.
    vacant: Vec<usize>,
}

/// What one run asks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) need: Need,
    pub(crate) mask: ClassMask,
    pub(crate) span_ms: i64,
}

/// Every kind's trees.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By kind; none where it has too few nodes.
    kinds: Vec<Option<KindIndex>>,
    /// By kind: whether it has an index.
    is_indexed: Vec<bool>,
    /// By kind: whether it has nodes that are the same for ever.
    has_twins: Vec<bool>,
    /// By column, then by kind: the least bound of all its nodes.
    least: Vec<Vec<Seconds>>,
    /// The same way: what was found last.
    learned: Vec<Vec<Learned>>,
    /// How often profiles have changed in such a way that more may be free.
    given_back: u64,
    /// By the node's number: its kind and its position there.
    places: Vec<Option<(usize, usize)>>,
    /// Nodes whose profiles have changed, each once.
    stale: Vec<usize>,
    is_stale: Vec<bool>,
    now: i64,
    /// What the bounds are counted from.
    began: i64,
    /// Kinds of at least so many nodes have trees, where that is set.
    indexed_from: Option<usize>,
}

/// The column whose bounds hold for a need and the length of its run. None where every node is to be looked at.
pub(crate) fn column_of(need: &Need, span_ms: i64) -> Option<usize> {
    let size = match need.want {
        Want::Whole(0) | Want::Blocks(0) => return None,
        Want::Whole(count) => (count.ilog2() as usize).min(3),
        Want::Blocks(blocks) if blocks >= 50 => 5,
        Want::Blocks(_) => 4,
        Want::Nothing if need.cpus_milli >= 1_000 => 6,
        Want::Nothing => return None,
    };
    Some(size * LENGTHS.len() + length_class(span_ms))
}

/// Which of [`LENGTHS`] a run is of.
pub(crate) fn length_class(span_ms: i64) -> usize {
    LENGTHS.iter().rposition(|least| span_ms >= *least).unwrap_or(0)
}

/// A node's bounds from `now` on.
pub(crate) fn bounds(profile: &Profile, now: i64) -> Bounds {
    let mut bounds = [i64::MAX; COLUMNS];
    let mut since = [i64::MAX; CLASSES];
    let mut note = |size: usize, from: i64, until: i64| {
        let row = &mut bounds[size * LENGTHS.len()..][..LENGTHS.len()];
        let length = until.saturating_sub(from);
        for (bound, least) in row.iter_mut().zip(LENGTHS) {
            if least > length {
                return;
            }
            *bound = (*bound).min(from);
        }
    };
    let mut steps = profile.met().peekable();
    let mut last: Met = 0;
    while let Some((from, met)) = steps.next() {
        // What has passed counts for nothing.
        if met == last || steps.peek().is_some_and(|(next, _)| *next <= now) {
            continue;
        }
        let from = from.max(now);
        let mut changed = met ^ last;
        while changed != 0 {
            let size = changed.trailing_zeros() as usize;
            if met >> size & 1 == 1 {
                since[size] = from;
            } else {
                note(size, since[size], from);
            }
            changed &= changed - 1;
        }
        last = met;
    }
    for (size, began) in since.into_iter().enumerate().filter(|(size, _)| last >> size & 1 == 1) {
        note(size, began, i64::MAX);
    }
    bounds
}

impl KindIndex {
    fn of(numbers: &[usize], profiles: &[Profile], (now, began): (i64, i64)) -> Self {
        let trees = Trees::new(COLUMNS, numbers.len());
        let nodes = numbers.iter().map(|number| (*number, None)).collect();
        let mut index = Self { nodes, trees, twins: BTreeMap::new(), vacant: vec![] };
        for position in 0..numbers.len() {
            index.update(position, profiles, (now, began), &mut |_, _| ());
        }
        index
    }

    fn forget_twin(&mut self, position: usize) {
        let (number, level) = &mut self.nodes[position];
        if let Some(level) = level.take()
            && let Some(twins) = self.twins.get_mut(&level)
        {
            twins.remove(number);
            if twins.is_empty() {
                self.twins.remove(&level);
            }
        }
    }

    /// Looks again at the node at a position, and calls `changed` with the columns whose least bounds may have changed,
    /// and these.
    fn update(
        &mut self,
        position: usize,
        profiles: &[Profile],
        (now, began): (i64, i64),
        changed: &mut dyn FnMut(usize, Seconds),
    ) {
        self.forget_twin(position);
        let number = self.nodes[position].0;
        let bounds = match profiles[number].constant() {
            // A twin stands in no tree.
            Some(level) => {
                self.twins.entry(*level).or_default().insert(number);
                self.nodes[position].1 = Some(*level);
                [i64::MAX; COLUMNS]
            }
            None => bounds(&profiles[number], now),
        };
        self.set(position, (&bounds, began), changed);
    }

    fn set(
        &mut self,
        position: usize,
        (bounds, began): (&Bounds, i64),
        changed: &mut dyn FnMut(usize, Seconds),
    ) {
        for (column, bound) in bounds.iter().enumerate() {
            if self.trees.set(column, position, seconds(*bound, began)) {
                changed(column, self.trees.least(column));
            }
        }
    }

    /// Takes in a node that has no place yet, and gives it one.
    fn insert(&mut self, number: usize) -> usize {
        if let Some(position) = self.vacant.pop() {
            self.nodes[position] = (number, None);
            return position;
        }
        if self.nodes.len() == self.trees.room() {
            let mut larger = Trees::new(COLUMNS, self.trees.room() * 2);
            for position in 0..self.trees.room() {
                (0..COLUMNS).for_each(|column| {
                    larger.set(column, position, self.trees.of(column, position));
                });
            }
            self.trees = larger;
        }
        self.nodes.push((number, None));
        self.nodes.len() - 1
    }

    fn remove(&mut self, position: usize, changed: &mut dyn FnMut(usize, Seconds)) {
        self.forget_twin(position);
        self.set(position, (&[i64::MAX; COLUMNS], 0), changed);
        self.vacant.push(position);
    }
}

impl Index {
    /// An index of kinds with at least so many nodes.
    #[cfg(test)]
    pub(crate) fn of_kinds_from(count: usize) -> Self {
        Self { indexed_from: Some(count), ..Self::default() }
    }

    /// A node's profile has changed so that more may be free, or the node itself.
    pub(crate) fn note_more(&mut self, number: usize) {
        self.given_back += 1;
        self.note(number);
    }

    /// Something was taken from a node.
    pub(crate) fn note(&mut self, number: usize) {
        if self.is_stale.len() <= number {
            self.is_stale.resize(number + 1, false);
        }
        if !std::mem::replace(&mut self.is_stale[number], true) {
            self.stale.push(number);
        }
    }

    /// Looks again at all that was noted.
    pub(crate) fn refresh(&mut self, fleet: &Fleet, profiles: &[Profile], now: i64) {
        if self.kinds.is_empty() {
            self.began = now;
        }
        self.make_room(fleet);
        if now < self.now {
            (0..fleet.numbers()).for_each(|number| self.note_more(number));
        }
        self.now = now;
        let stale = std::mem::take(&mut self.stale);
        for number in &stale {
            self.is_stale[*number] = false;
            let kind = fleet.machine(*number).map(|machine| machine.kind);
            if let Some((known, position)) = self.places[*number]
                && Some(known) != kind
            {
                self.places[*number] = None;
                if let Some(index) = &mut self.kinds[known] {
                    index.remove(position, &mut |column, least| self.least[column][known] = least);
                    self.has_twins[known] = !index.twins.is_empty();
                }
            }
        }
        let usual = if fleet.numbers() < MANY { INDEXED_FROM } else { INDEXED_FROM_OF_MANY };
        let least = self.indexed_from.unwrap_or(usual);
        for number in &stale {
            let Some(kind) = fleet.machine(*number).map(|machine| machine.kind) else { continue };
            let numbers = &fleet.kinds[kind].nodes;
            if let Some(index) = &mut self.kinds[kind] {
                let place = self.places[*number];
                let position = place.map_or_else(|| index.insert(*number), |(_, position)| position);
                let mut note = |column: usize, least| self.least[column][kind] = least;
                index.update(position, profiles, (now, self.began), &mut note);
                self.has_twins[kind] = !index.twins.is_empty();
                self.places[*number] = Some((kind, position));
            } else if numbers.len() >= least {
                let index = KindIndex::of(numbers, profiles, (now, self.began));
                self.has_twins[kind] = !index.twins.is_empty();
                self.is_indexed[kind] = true;
                (0..COLUMNS).for_each(|column| self.least[column][kind] = index.trees.least(column));
                self.kinds[kind] = Some(index);
                for (position, number) in numbers.iter().enumerate() {
                    self.places[*number] = Some((kind, position));
                }
            }
        }
        // The memory is used again.
        self.stale = stale;
        self.stale.clear();
    }

    fn make_room(&mut self, fleet: &Fleet) {
        let kinds = fleet.kinds.len();
        if self.kinds.len() < kinds {
            self.kinds.resize_with(kinds, || None);
            self.is_indexed.resize(kinds, false);
            self.has_twins.resize(kinds, false);
            self.least.resize_with(COLUMNS, Vec::new);
            self.least.iter_mut().for_each(|least| least.resize(kinds, Seconds::MAX));
            self.learned.resize_with(COLUMNS, Vec::new);
            self.learned.iter_mut().for_each(|learned| learned.resize_with(kinds, Learned::default));
        }
        if self.places.len() < fleet.numbers() {
            self.places.resize(fleet.numbers(), None);
        }
    }

    /// Whether there is an index of the nodes of a kind.
    pub(crate) fn has(&self, kind: usize) -> bool {
        self.is_indexed.get(kind).is_some_and(|is_indexed| *is_indexed)
    }

    /// Calls `look` with the numbers of all nodes of a kind that may start something of a column by `until`, and maybe
    /// with others, each once, and with an instant before which they cannot; of nodes that are the same for ever with
    /// the first `alike` only. What `look` gives is `until` from then on. Without an index all nodes of the kind are
    /// `numbers`.
    pub(crate) fn search(
        &self,
        (kind, column, alike): (usize, Option<usize>, usize),
        numbers: &[usize],
        until: i64,
        look: &mut dyn FnMut(usize, i64) -> i64,
    ) {
        let mut until = until;
        let (Some(Some(index)), Some(column)) = (self.kinds.get(kind), column) else {
            for number in numbers {
                if look(*number, i64::MIN) == i64::MIN {
                    return;
                }
            }
            return;
        };
        if self.has_twins[kind] {
            for number in index.twins.values().flat_map(|twins| twins.iter().take(alike)) {
                until = look(*number, i64::MIN);
            }
        }
        let mut until = seconds(until, self.began);
        let least = self.least[column][kind];
        if least > until || least == Seconds::MAX {
            return;
        }
        let Root { least, position: first, second } = index.trees.root(column);
        let mut look = |position: usize, bound: Seconds| {
            seconds(look(index.nodes[position].0, instant(bound, self.began)), self.began)
        };
        // The node with the least bound first: what it gives spares most of the others.
        until = until.min(look(first, least));
        if second > until || second == Seconds::MAX {
            return;
        }
        index.trees.visit(column, until, &mut |position, bound, until| {
            if position == first { until } else { look(position, bound) }
        });
    }

    /// No node of a kind can start this before; none where that is not known.
    pub(crate) fn soonest(&self, kind: usize, column: usize, ask: &Ask) -> Option<i64> {
        if !self.has(kind) {
            return None;
        }
        let learned = self.learned[column][kind].soonest(ask, self.given_back);
        let learned = learned.map(|soonest| instant(soonest, self.began));
        if self.has_twins[kind] {
            return learned;
        }
        let least = instant(self.least[column][kind], self.began);
        Some(learned.map_or(least, |learned| learned.max(least)))
    }

    /// A search has found that no node of a kind can start this before.
    pub(crate) fn learn(&self, kind: usize, column: usize, ask: Ask, soonest: i64) {
        if self.has(kind) {
            self.learned[column][kind].learn(&ask, seconds(soonest, self.began), self.given_back);
        }
    }
}
