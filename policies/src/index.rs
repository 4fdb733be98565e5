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
use crate::layout::{Level, Need, Want};
use crate::profile::Profile;

/// A kind with fewer nodes has no trees.
const INDEXED_FROM: usize = 64;
/// How many values one value of the next level stands for.
const FAN_OUT: usize = 16;
/// Runs at least as long are one class, in milliseconds: up to three days, a factor of four between them.
const LENGTHS: [i64; 8] = [0, 60_000, 240_000, 960_000, 3_840_000, 15_360_000, 61_440_000, 245_760_000];
/// Classes of requests: see [`sizes_met`].
const SIZES: usize = 8;
const COLUMNS: usize = SIZES * LENGTHS.len();

/// One bound for each column: instants in milliseconds since the Unix epoch.
pub(crate) type Bounds = [i64; COLUMNS];

/// Bounds of one column over the nodes of a kind. `levels[0]` has one for each node, each further level the least of
/// `FAN_OUT` of the one before; the last has one value.
#[derive(Debug, Clone)]
struct Column {
    levels: Vec<Vec<i64>>,
}

/// The nodes of one kind.
#[derive(Debug)]
pub(crate) struct KindIndex {
    /// By position: the node's number, and its level where that never changes.
    nodes: Vec<(usize, Option<Level>)>,
    columns: Vec<Column>,
    /// Nodes with the same level for ever.
    twins: BTreeMap<Level, BTreeSet<usize>>,
    /// Positions of nodes that have left.
    vacant: Vec<usize>,
}

/// Every kind's trees.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By kind; none where it has too few nodes.
    kinds: Vec<Option<KindIndex>>,
    /// By the node's number: its kind and its position there.
    places: Vec<Option<(usize, usize)>>,
    /// Nodes whose profiles have changed, each once.
    stale: Vec<usize>,
    is_stale: Vec<bool>,
    now: i64,
}

/// The column whose bounds hold for a need and the length of its run. None where every node is to be looked at.
pub(crate) fn column_of(need: &Need, span_ms: i64) -> Option<usize> {
    let size = match need.want {
        Want::Whole(0) | Want::Blocks(0) => return None,
        Want::Whole(count) => (count.ilog2() as usize).min(3),
        Want::Blocks(blocks) if blocks >= 50 => 5,
        Want::Blocks(_) => 4,
        Want::Nothing if need.cpus_milli >= 8_000 => 7,
        Want::Nothing if need.cpus_milli >= 1_000 => 6,
        Want::Nothing => return None,
    };
    let length = LENGTHS.iter().rposition(|least| span_ms >= *least).unwrap_or(0);
    Some(size * LENGTHS.len() + length)
}

/// One bit for each class of requests that may fit: 1, 2, 4 and 8 whole accelerators; any part of one, half of one;
/// 1 CPU, 8 CPUs.
fn sizes_met(level: &Level) -> u8 {
    let whole = level.whole_free_of_all();
    let part = level.most_blocks_free(u8::MAX);
    let met = [
        whole >= 1,
        whole >= 2,
        whole >= 4,
        whole >= 8,
        part >= 1,
        part >= 50,
        level.cpus_milli >= 1_000,
        level.cpus_milli >= 8_000,
    ];
    met.iter().enumerate().fold(0, |bits, (at, met)| bits | u8::from(*met) << at)
}

/// A node's bounds from `now` on.
pub(crate) fn bounds(profile: &Profile, now: i64) -> Bounds {
    let mut bounds = [i64::MAX; COLUMNS];
    let mut since: [Option<i64>; SIZES] = [None; SIZES];
    let mut note = |size: usize, from: i64, until: i64| {
        let row = &mut bounds[size * LENGTHS.len()..][..LENGTHS.len()];
        for (bound, least) in row.iter_mut().zip(LENGTHS) {
            if *bound == i64::MAX && until.saturating_sub(from) >= least {
                *bound = from;
            }
        }
    };
    let mut steps = profile.levels().peekable();
    while let Some((from, level)) = steps.next() {
        // What has passed counts for nothing.
        if steps.peek().is_some_and(|(next, _)| *next <= now) {
            continue;
        }
        let from = from.max(now);
        let met = sizes_met(level);
        for (size, since) in since.iter_mut().enumerate() {
            match (*since, met >> size & 1 == 1) {
                (None, true) => *since = Some(from),
                (Some(began), false) => {
                    note(size, began, from);
                    *since = None;
                }
                (None, false) | (Some(_), true) => {}
            }
        }
    }
    for (size, since) in since.iter().enumerate() {
        if let Some(began) = since {
            note(size, *began, i64::MAX);
        }
    }
    bounds
}

impl Column {
    fn of(values: Vec<i64>) -> Self {
        let mut column = Self { levels: vec![values] };
        column.top_up();
        column
    }

    fn root(&self) -> i64 {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or(i64::MAX)
    }

    /// Makes room for one more position.
    fn grow(&mut self) {
        let mut at = self.levels[0].len();
        for level in &mut self.levels {
            if at == level.len() {
                level.push(i64::MAX);
            }
            at /= FAN_OUT;
        }
        self.top_up();
    }

    /// Adds levels until the last has one value.
    fn top_up(&mut self) {
        while let Some(last) = self.levels.last().filter(|level| level.len() > 1) {
            let next: Vec<i64> = last.chunks(FAN_OUT).map(least).collect();
            self.levels.push(next);
        }
    }

    fn set(&mut self, position: usize, value: i64) {
        let mut at = position;
        let mut value = value;
        for level in 0..self.levels.len() {
            let values = &mut self.levels[level];
            if values[at] == value {
                return;
            }
            values[at] = value;
            let block = at / FAN_OUT * FAN_OUT;
            value = least(&values[block..values.len().min(block + FAN_OUT)]);
            at /= FAN_OUT;
        }
    }

    /// The position with the least value.
    fn first(&self) -> Option<usize> {
        let mut at = 0;
        for level in self.levels.iter().rev().skip(1) {
            let block = at * FAN_OUT;
            let values = level.get(block..level.len().min(block + FAN_OUT))?;
            let least = least(values);
            at = block + values.iter().position(|value| *value == least)?;
        }
        (self.root() != i64::MAX).then_some(at)
    }

    /// Calls `look` for positions of block `at` of `level` whose value is at most what `look` last gave.
    fn visit(&self, (level, at): (usize, usize), until: &mut i64, look: &mut dyn FnMut(usize) -> i64) {
        let values = &self.levels[level];
        if values.get(at).is_none_or(|value| *value > *until || *value == i64::MAX) {
            return;
        }
        if level == 0 {
            *until = look(at);
            return;
        }
        let block = at * FAN_OUT;
        for child in block..self.levels[level - 1].len().min(block + FAN_OUT) {
            self.visit((level - 1, child), until, look);
        }
    }
}

fn least(values: &[i64]) -> i64 {
    values.iter().copied().min().unwrap_or(i64::MAX)
}

impl KindIndex {
    fn of(numbers: &[usize], profiles: &[Profile], now: i64) -> Self {
        let nodes = Vec::with_capacity(numbers.len());
        let mut index = Self { nodes, columns: vec![], twins: BTreeMap::new(), vacant: vec![] };
        let mut values: Vec<Vec<i64>> = (0..COLUMNS).map(|_| Vec::with_capacity(numbers.len())).collect();
        for number in numbers {
            let (level, bounds) = index.look(*number, profiles, now);
            index.nodes.push((*number, level));
            values.iter_mut().zip(bounds).for_each(|(column, bound)| column.push(bound));
        }
        index.columns = values.into_iter().map(Column::of).collect();
        index
    }

    /// What stands in the trees for a node: nothing where it is a twin, which is noted.
    fn look(&mut self, number: usize, profiles: &[Profile], now: i64) -> (Option<Level>, Bounds) {
        match profiles[number].constant() {
            Some(level) => {
                self.twins.entry(*level).or_default().insert(number);
                (Some(*level), [i64::MAX; COLUMNS])
            }
            None => (None, bounds(&profiles[number], now)),
        }
    }

    fn forget_twin(&mut self, position: usize) {
        let (number, level) = self.nodes[position];
        if let Some(level) = level
            && let Some(twins) = self.twins.get_mut(&level)
        {
            twins.remove(&number);
            if twins.is_empty() {
                self.twins.remove(&level);
            }
        }
    }

    fn update(&mut self, position: usize, profiles: &[Profile], now: i64) {
        self.forget_twin(position);
        let number = self.nodes[position].0;
        let (level, bounds) = self.look(number, profiles, now);
        self.nodes[position].1 = level;
        self.columns.iter_mut().zip(bounds).for_each(|(column, bound)| column.set(position, bound));
    }

    /// Takes in a node that has no place yet, and gives it one.
    fn insert(&mut self, number: usize) -> usize {
        let position = self.vacant.pop().unwrap_or_else(|| {
            self.nodes.push((number, None));
            self.columns.iter_mut().for_each(Column::grow);
            self.nodes.len() - 1
        });
        self.nodes[position] = (number, None);
        position
    }

    fn remove(&mut self, position: usize) {
        self.forget_twin(position);
        self.nodes[position].1 = None;
        self.columns.iter_mut().for_each(|column| column.set(position, i64::MAX));
        self.vacant.push(position);
    }

    /// Calls `look` with the numbers of all nodes that may start something of a column by `until`, and maybe with
    /// others; of nodes that are the same for ever with the first `alike` only. What `look` gives is `until` from
    /// then on. One node may be looked at twice.
    pub(crate) fn search(
        &self,
        (column, alike): (usize, usize),
        until: i64,
        look: &mut dyn FnMut(usize) -> i64,
    ) {
        let mut until = until;
        for number in self.twins.values().flat_map(|twins| twins.iter().take(alike)) {
            until = look(*number);
        }
        let column = &self.columns[column];
        let Some(first) = column.first().filter(|at| column.levels[0][*at] <= until) else { return };
        // The node with the least bound first: what it gives spares most of the others.
        until = look(self.nodes[first].0);
        let top = column.levels.len() - 1;
        column.visit((top, 0), &mut until, &mut |position| look(self.nodes[position].0));
    }
}

impl Index {
    /// A node's profile has changed, or the node itself.
    pub(crate) fn note(&mut self, number: usize) {
        if self.is_stale.len() <= number {
            self.is_stale.resize(number + 1, false);
        }
        if !std::mem::replace(&mut self.is_stale[number], true) {
            self.stale.push(number);
        }
    }

    /// Looks again at all that was noted. `now` may not go back.
    pub(crate) fn refresh(&mut self, fleet: &Fleet, profiles: &[Profile], now: i64) {
        self.kinds.resize_with(fleet.kinds.len(), || None);
        self.places.resize(fleet.numbers().max(self.places.len()), None);
        if now < self.now {
            (0..fleet.numbers()).for_each(|number| self.note(number));
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
                self.kinds[known].as_mut().into_iter().for_each(|index| index.remove(position));
            }
        }
        for number in stale {
            let Some(kind) = fleet.machine(number).map(|machine| machine.kind) else { continue };
            let numbers = &fleet.kinds[kind].nodes;
            if let Some(index) = &mut self.kinds[kind] {
                let place = self.places[number];
                let position = place.map_or_else(|| index.insert(number), |(_, position)| position);
                index.update(position, profiles, now);
                self.places[number] = Some((kind, position));
            } else if numbers.len() >= INDEXED_FROM {
                self.kinds[kind] = Some(KindIndex::of(numbers, profiles, now));
                for (position, number) in numbers.iter().enumerate() {
                    self.places[*number] = Some((kind, position));
                }
            }
        }
    }

    /// The trees of a kind; none where all its nodes are to be looked at.
    pub(crate) fn kind(&self, kind: usize) -> Option<&KindIndex> {
        self.kinds.get(kind)?.as_ref()
    }
}
