//! Trees of least values, one for each column: the bounds of the nodes of one kind.
//!
//! The values that a value of the next level stands for are one block, as large as a line of the processor's cache. The
//! blocks of all columns lie side by side: a node's change touches neighbours, a search one line for each block.

/// How many values one value of the next level stands for.
pub(crate) const FAN_OUT: usize = 16;

/// A bound as it stands in a tree: whole seconds from the index's beginning, rounded down, so that it stays a bound.
/// Half as wide as an instant: a search is as fast as trees are small.
pub(crate) type Seconds = i32;

/// As a bound; [`Seconds::MAX`] for never.
pub(crate) fn seconds(instant: i64, began: i64) -> Seconds {
    if instant == i64::MAX {
        return Seconds::MAX;
    }
    let whole = instant.saturating_sub(began).div_euclid(1000);
    Seconds::try_from(whole.clamp(i64::from(Seconds::MIN), i64::from(Seconds::MAX) - 1))
        .unwrap_or(Seconds::MIN)
}

/// The instant of a bound; `i64::MAX` for never.
pub(crate) fn instant(bound: Seconds, began: i64) -> i64 {
    match bound {
        Seconds::MAX => i64::MAX,
        bound => began.saturating_add(i64::from(bound) * 1000),
    }
}

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Block([Seconds; FAN_OUT]);

const EMPTY: Block = Block([Seconds::MAX; FAN_OUT]);

impl Block {
    fn least(&self) -> Seconds {
        self.0.iter().fold(Seconds::MAX, |least, value| least.min(*value))
    }
}

/// The least of a column's values, and where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root {
    pub(crate) least: Seconds,
    pub(crate) position: usize,
    /// The least of the others.
    pub(crate) second: Seconds,
}

/// For every column a tree: one value for each position, then one for each block of the level before, until all are in
/// one block.
#[derive(Debug)]
pub(crate) struct Trees {
    columns: usize,
    /// Positions that there is room for.
    room: usize,
    /// For each level its blocks: those of all columns at one place, then at the next.
    levels: Vec<Vec<Block>>,
}

impl Trees {
    pub(crate) fn new(columns: usize, room: usize) -> Self {
        let mut levels = Vec::new();
        let mut places = room.div_ceil(FAN_OUT).max(1);
        let room = places * FAN_OUT;
        levels.push(vec![EMPTY; places * columns]);
        while places > 1 {
            places = places.div_ceil(FAN_OUT);
            levels.push(vec![EMPTY; places * columns]);
        }
        Self { columns, room, levels }
    }

    pub(crate) const fn room(&self) -> usize {
        self.room
    }

    fn block(&self, column: usize, level: usize, place: usize) -> &Block {
        &self.levels[level][place * self.columns + column]
    }

    /// The least value of a column.
    pub(crate) fn least(&self, column: usize) -> Seconds {
        self.block(column, self.levels.len() - 1, 0).least()
    }

    pub(crate) fn of(&self, column: usize, position: usize) -> Seconds {
        self.block(column, 0, position / FAN_OUT).0[position % FAN_OUT]
    }

    /// Whether the least value of the column may have changed.
    pub(crate) fn set(&mut self, column: usize, position: usize, value: Seconds) -> bool {
        let (mut at, mut value) = (position, value);
        for level in &mut self.levels {
            let block = &mut level[at / FAN_OUT * self.columns + column];
            let known = &mut block.0[at % FAN_OUT];
            if *known == value {
                return false;
            }
            *known = value;
            value = block.least();
            at /= FAN_OUT;
        }
        true
    }

    /// The least value, where it is, and the least of the others.
    pub(crate) fn root(&self, column: usize) -> Root {
        let mut root = Root { least: Seconds::MAX, position: 0, second: Seconds::MAX };
        for level in (0..self.levels.len()).rev() {
            let mut block = *self.block(column, level, root.position);
            root.least = block.least();
            let child = block.0.iter().position(|value| *value == root.least).unwrap_or(0);
            block.0[child] = Seconds::MAX;
            root.second = root.second.min(block.least());
            root.position = root.position * FAN_OUT + child;
        }
        root
    }

    /// Calls `look` with positions whose bounds are at most `until`, and their bounds; what it gives is `until` then.
    pub(crate) fn visit(
        &self,
        column: usize,
        until: Seconds,
        look: &mut dyn FnMut(usize, Seconds, Seconds) -> Seconds,
    ) {
        let mut until = until;
        self.visit_below(column, (self.levels.len() - 1, 0), &mut until, look);
    }

    fn visit_below(
        &self,
        column: usize,
        (level, place): (usize, usize),
        until: &mut Seconds,
        look: &mut dyn FnMut(usize, Seconds, Seconds) -> Seconds,
    ) {
        for (child, value) in self.block(column, level, place).0.iter().enumerate() {
            if *value > *until || *value == Seconds::MAX {
                continue;
            }
            let child = place * FAN_OUT + child;
            if level == 0 {
                *until = look(child, *value, *until);
            } else {
                self.visit_below(column, (level - 1, child), until, look);
            }
        }
    }
}
