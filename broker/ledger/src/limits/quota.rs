//! Accelerators at once, lent and borrowed between groups: the arithmetic of Kueue's cohorts.
//!
//! For each node of the tree `free = quota - own use + sum over children of min(lend, free of the child)`. A node may
//! go below 0 by what it may borrow, and the topmost node that has a quota not at all. A node without a quota has
//! 0, borrows without bound and lends all; one that has no quota above it either is not bound.
//!
//! Kept as use changes: a change goes up the tree until what a child lends stays the same. Checking and changing
//! take as many steps as the tree is deep, however many groups it has.
//!
//! Source: the Kubernetes SIG Kueue documentation on cohorts, borrowing and lending limits.

/// What a node has of its own, in hundredths of an accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Its own.
    pub nominal: i64,
    /// How far it may go below 0; none is without bound.
    pub borrow: Option<i64>,
    /// How much of what it does not use others may use; none is all.
    pub lend: Option<i64>,
    /// Whether passing it is refused, or only told.
    pub enforced: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cell {
    parent: Option<usize>,
    quota: Option<Quota>,
    /// Whether it or a node above it has a quota.
    governed: bool,
    /// What it uses itself.
    used: i64,
    /// What it and all below it use.
    used_below: i64,
    free: i64,
    /// What would be free if nothing were used.
    free_when_idle: i64,
}

impl Cell {
    fn lent(&self, free: i64) -> i64 {
        self.quota.and_then(|quota| quota.lend).map_or(free, |lend| free.min(lend))
    }
}

/// Why more cannot be used at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    /// The node in the way: the one that asks, or one above it.
    pub binding: usize,
    /// How much is missing there.
    pub shortfall: i64,
}

/// The nodes of one scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaTree {
    cells: Vec<Cell>,
}

impl QuotaTree {
    /// A tree of nodes that are named by their place in `nodes`, each with its parent, its quota and what it uses
    /// itself. A parent's place must be in it, and no node above itself.
    #[must_use]
    pub fn new(nodes: &[(Option<usize>, Option<Quota>, i64)]) -> Self {
        let mut cells: Vec<Cell> = nodes
            .iter()
            .map(|(parent, quota, used)| Cell {
                parent: *parent,
                quota: *quota,
                used: *used,
                ..Cell::default()
            })
            .collect();
        let depths: Vec<usize> = (0..cells.len()).map(|at| ancestors(&cells, at).count()).collect();
        let mut order: Vec<usize> = (0..cells.len()).collect();
        order.sort_by_key(|at| depths[*at]);
        for at in &order {
            let above = cells[*at].parent.is_some_and(|parent| cells[parent].governed);
            cells[*at].governed = above || cells[*at].quota.is_some();
        }
        for at in order.into_iter().rev() {
            let cell = &mut cells[at];
            let own = cell.quota.map_or(0, |quota| quota.nominal);
            cell.free = cell.free.saturating_add(own).saturating_sub(cell.used);
            cell.free_when_idle = cell.free_when_idle.saturating_add(own);
            cell.used_below = cell.used_below.saturating_add(cell.used);
            let (lent, when_idle, used) =
                (cell.lent(cell.free), cell.lent(cell.free_when_idle), cell.used_below);
            if let Some(parent) = cell.parent {
                let above = &mut cells[parent];
                above.free = above.free.saturating_add(lent);
                above.free_when_idle = above.free_when_idle.saturating_add(when_idle);
                above.used_below = above.used_below.saturating_add(used);
            }
        }
        Self { cells }
    }

    /// Adds a node without a quota of its own that uses nothing, and gives its place.
    pub fn push(&mut self, parent: Option<usize>) -> usize {
        let governed = parent.and_then(|parent| self.cells.get(parent)).is_some_and(|above| above.governed);
        self.cells.push(Cell { parent, governed, ..Cell::default() });
        self.cells.len() - 1
    }

    /// Changes what a node uses by `change`. Never refused.
    pub fn change(&mut self, at: usize, change: i64) {
        let mut lent = -change;
        let mut next = Some(at);
        if let Some(cell) = self.cells.get_mut(at) {
            cell.used = cell.used.saturating_add(change);
        }
        while let Some(cell) = next.and_then(|at| self.cells.get_mut(at)) {
            cell.used_below = cell.used_below.saturating_add(change);
            let before = cell.lent(cell.free);
            cell.free = cell.free.saturating_add(lent);
            lent = cell.lent(cell.free) - before;
            next = cell.parent;
        }
    }

    /// Whether `wanted` more can be used at `at`, with every node of the way still within what it may borrow.
    ///
    /// # Errors
    /// [`OverQuota`] naming the nearest node in the way.
    pub fn check(&self, at: usize, wanted: i64) -> Result<(), OverQuota> {
        self.walk(at, wanted, |cell| cell.free)
    }

    /// The same with nothing in use: what could ever be used at `at`.
    ///
    /// # Errors
    /// [`OverQuota`] naming the nearest node in the way.
    pub fn check_when_idle(&self, at: usize, wanted: i64) -> Result<(), OverQuota> {
        self.walk(at, wanted, |cell| cell.free_when_idle)
    }

    fn walk(&self, at: usize, wanted: i64, free_of: impl Fn(&Cell) -> i64) -> Result<(), OverQuota> {
        let mut taken = wanted;
        for at in ancestors(&self.cells, at) {
            let cell = &self.cells[at];
            if !cell.governed {
                return Ok(());
            }
            let free = free_of(cell);
            let after = free.saturating_sub(taken);
            let enforced = cell.quota.is_none_or(|quota| quota.enforced);
            let missing = self.least(at).map_or(0, |least| least.saturating_sub(after));
            if enforced && missing > 0 {
                return Err(OverQuota { binding: at, shortfall: missing });
            }
            taken = cell.lent(free) - cell.lent(after);
        }
        Ok(())
    }

    /// The least that may be free at a node; none where it may borrow without bound.
    fn least(&self, at: usize) -> Option<i64> {
        let cell = self.cells.get(at)?;
        let above = cell.parent.and_then(|parent| self.cells.get(parent)).is_some_and(|above| above.governed);
        match (cell.governed, above, cell.quota) {
            (false, _, _) => None,
            (true, false, _) => Some(0),
            (true, true, Some(quota)) => quota.borrow.map(|borrow| -borrow),
            (true, true, None) => None,
        }
    }

    /// By how much a node is over what it may borrow; 0 where it is not.
    #[must_use]
    pub fn excess(&self, at: usize) -> i64 {
        let free = self.free(at);
        self.least(at).map_or(0, |least| least.saturating_sub(free).max(0))
    }

    /// What is free at a node: below 0 where it borrows.
    #[must_use]
    pub fn free(&self, at: usize) -> i64 {
        self.cells.get(at).map_or(0, |cell| cell.free)
    }

    /// What a node and all below it use.
    #[must_use]
    pub fn used_below(&self, at: usize) -> i64 {
        self.cells.get(at).map_or(0, |cell| cell.used_below)
    }

    /// What a node of its own has, with what the nodes below it lend, if nothing were used.
    #[must_use]
    pub fn free_when_idle(&self, at: usize) -> i64 {
        self.cells.get(at).map_or(0, |cell| cell.free_when_idle)
    }
}

fn ancestors(cells: &[Cell], at: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(at).filter(|at| *at < cells.len()), |at| cells[*at].parent).take(cells.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn quota(nominal: i64, borrow: Option<i64>, lend: Option<i64>) -> Option<Quota> {
        Some(Quota { nominal, borrow, lend, enforced: true })
    }

    #[test]
    fn a_group_borrows_what_its_neighbour_lends() {
        let mut tree = QuotaTree::new(&[
            (None, quota(0, None, None), 0),
            (Some(0), quota(500, None, None), 0),
            (Some(0), quota(1000, None, Some(600)), 0),
        ]);
        assert_eq!((tree.free(0), tree.free_when_idle(0)), (1100, 1100));
        assert_eq!(tree.check(1, 1100), Ok(()));
        assert_eq!(tree.check(1, 1101), Err(OverQuota { binding: 0, shortfall: 1 }));
        tree.change(1, 800);
        assert_eq!((tree.free(1), tree.free(0), tree.used_below(0)), (-300, 300, 800));
        assert_eq!(tree.check(2, 700), Ok(()), "what it does not lend it always has");
        assert_eq!(tree.check(2, 701), Err(OverQuota { binding: 0, shortfall: 1 }));
        tree.change(2, 400);
        assert_eq!(tree.free(0), 300, "it lends as much as before");
        tree.change(1, -800);
        assert_eq!((tree.free(0), tree.free(1)), (1100, 500));
    }

    #[test]
    fn borrowing_is_bound_at_each_level() {
        let tree = QuotaTree::new(&[
            (None, quota(1000, None, None), 0),
            (Some(0), quota(200, Some(300), None), 0),
            (Some(1), quota(100, Some(50), None), 0),
            (Some(1), None, 0),
        ]);
        assert_eq!(tree.check(2, 150), Ok(()));
        assert_eq!(tree.check(2, 151), Err(OverQuota { binding: 2, shortfall: 1 }));
        assert_eq!(tree.check(3, 600), Ok(()), "without a quota it borrows as far as those above may");
        assert_eq!(tree.check(3, 601), Err(OverQuota { binding: 1, shortfall: 1 }));
    }

    #[test]
    fn without_a_quota_nothing_binds() {
        let mut tree =
            QuotaTree::new(&[(None, None, 0), (Some(0), quota(100, Some(900), None), 0), (Some(0), None, 0)]);
        assert_eq!(tree.check(2, i64::MAX), Ok(()));
        assert_eq!(tree.check(1, 101), Err(OverQuota { binding: 1, shortfall: 1 }), "nobody above it lends");
        let child = tree.push(Some(1));
        assert_eq!(tree.check(child, 101), Err(OverQuota { binding: 1, shortfall: 1 }));
        assert_eq!(tree.check_when_idle(child, 100), Ok(()));
        let free = tree.push(None);
        assert_eq!(tree.check(free, i64::MAX), Ok(()));
    }

    #[test]
    fn what_is_only_told_does_not_bind() {
        let mut told = quota(100, Some(0), None);
        if let Some(quota) = &mut told {
            quota.enforced = false;
        }
        let mut tree = QuotaTree::new(&[(None, quota(500, None, None), 0), (Some(0), told, 0)]);
        assert_eq!(tree.check(1, 600), Ok(()));
        assert_eq!(tree.check(1, 601), Err(OverQuota { binding: 0, shortfall: 1 }));
        tree.change(1, 300);
        assert_eq!((tree.excess(1), tree.excess(0)), (200, 0));
    }
}
