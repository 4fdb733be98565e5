//! How much of each kind of node is taken over the time to come, by what runs and by what is planned: where much is
//! taken, who takes more stands in the way of jobs that are still to come.

/// A course of more steps than this is kept on a grid of as many instants: exact there, straight between them.
const MOST_STEPS: usize = 1024;

/// The share of a kind's accelerators (of its CPUs, where it has none) that is taken, as a function of time.
#[derive(Debug, Default)]
pub(crate) struct Occupancy {
    /// Empty where there is a grid.
    steps: Vec<Step>,
    grid: Option<Grid>,
    /// The greatest share at any time.
    pub(crate) most: f64,
}

/// Instants that are equally far apart. It is asked for every kind for every task that is laid, so it is small, and
/// divides nowhere by an integer.
#[derive(Debug)]
struct Grid {
    /// The first instant.
    began: i64,
    /// Milliseconds from one to the next.
    width: i64,
    /// The inverse of that.
    per_ms: f64,
    /// Milliseconds fully taken before each.
    before: Vec<f64>,
    /// The share after the last one.
    last: f64,
}

/// What one task is counted with, so that it does not stand in its own way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) kind: usize,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) amount: i64,
}

impl Counted {
    /// What it adds to [`Occupancy::taken`] of its kind, of which there is `total`.
    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    pub(crate) fn taken(&self, (from, to): (i64, i64), total: i64) -> f64 {
        let overlap = self.end.min(to).saturating_sub(self.start.max(from)).max(0);
        overlap as f64 * (self.amount as f64 / total.max(1) as f64)
    }
}

/// From one instant until the next step's; the last one holds for ever.
#[derive(Debug, Clone, Copy)]
struct Step {
    from: i64,
    /// Milliseconds fully taken before it.
    before: f64,
    share: f64,
}

impl Occupancy {
    /// From what is taken at `now` and by how much that changes when. `total` is what there is.
    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    pub(crate) fn of(now: i64, total: i64, mut changes: Vec<(i64, i64)>) -> Self {
        changes.sort_unstable();
        let mut steps: Vec<Step> = Vec::with_capacity(changes.len() + 1);
        let mut taken = 0_i64;
        let mut before = 0.0;
        let mut at = now;
        for (when, change) in changes {
            let when = when.max(now);
            let share = taken as f64 / total.max(1) as f64;
            if when > at || steps.is_empty() {
                steps.push(Step { from: at, before, share });
                before += share * (when - at) as f64;
                at = when;
            }
            taken += change;
        }
        steps.push(Step { from: at, before, share: taken as f64 / total.max(1) as f64 });
        let most = steps.iter().map(|step| step.share).fold(0.0, f64::max);
        let mut occupancy = Self { steps, grid: None, most };
        if occupancy.steps.len() > MOST_STEPS {
            occupancy.put_on_a_grid();
        }
        occupancy
    }

    /// Keeps the course at instants that are equally far apart, the last of them when nothing changes any more.
    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    fn put_on_a_grid(&mut self) {
        let (Some(first), Some(last)) = (self.steps.first().copied(), self.steps.last().copied()) else {
            return;
        };
        let count = i64::try_from(MOST_STEPS).unwrap_or(i64::MAX);
        let width = (last.from - first.from) / count + 1;
        let instants = (0..=count).map(|at| first.from.saturating_add(width.saturating_mul(at)));
        let before = instants.map(|instant| self.until(instant)).collect();
        let (began, last) = (first.from, last.share);
        self.grid = Some(Grid { began, width, per_ms: 1.0 / width as f64, before, last });
        self.steps = Vec::new();
    }

    /// The instants between which the course is straight, in order.
    pub(crate) fn instants(&self) -> impl DoubleEndedIterator<Item = i64> {
        let grid = self.grid.iter().flat_map(|grid| {
            (0..grid.before.len()).map(|at| grid.began.saturating_add(grid.width.saturating_mul(at as i64)))
        });
        self.steps.iter().map(|step| step.from).chain(grid)
    }

    /// How many milliseconds of `from` until `to` are taken, each counted by its share.
    pub(crate) fn taken(&self, from: i64, to: i64) -> f64 {
        self.until(to) - self.until(from)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    pub(crate) fn until(&self, time: i64) -> f64 {
        if let Some(grid) = &self.grid {
            return grid.until(time);
        }
        let at = self.steps.partition_point(|step| step.from <= time).saturating_sub(1);
        self.steps.get(at).map_or(0.0, |step| step.before + step.share * (time - step.from).max(0) as f64)
    }
}

impl Grid {
    /// How many milliseconds are fully taken until then: straight from one instant to the next.
    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    fn until(&self, time: i64) -> f64 {
        let since = time.saturating_sub(self.began).max(0);
        let at = self.place(since);
        let into = (since - self.width * at as i64) as f64;
        let before = self.before[at];
        let share = match self.before.get(at + 1) {
            Some(next) => (next - before) / self.width as f64,
            None => self.last,
        };
        before + share * into
    }

    /// Which instant is the last one that is not after `since` milliseconds from the first.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place that is off by one is put right, and a cast of a float saturates"
    )]
    fn place(&self, since: i64) -> usize {
        let last = self.before.len() - 1;
        let mut at = ((since as f64 * self.per_ms) as usize).min(last);
        if self.width * at as i64 > since {
            at -= 1;
        } else if at < last && self.width * (at as i64 + 1) <= since {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::Occupancy;

    #[test]
    fn what_is_taken_adds_up() {
        // 4 of 8 until 10, 8 of 8 until 20, 4 until 30, none after.
        let occupancy = Occupancy::of(0, 8, vec![(0, 4), (10, 4), (20, -4), (30, -4)]);
        for (from, to, taken) in [(0, 10, 5.0), (10, 20, 10.0), (5, 25, 15.0), (0, 100, 20.0), (40, 50, 0.0)]
        {
            assert!((occupancy.taken(from, to) - taken).abs() < 1e-9, "{from}..{to}");
        }
        assert!(Occupancy::default().taken(0, 10).abs() < 1e-9);
    }

    #[test]
    fn a_long_course_is_kept_on_a_grid() {
        let changes: Vec<(i64, i64)> = (0..5_000).map(|at| (at * 1_000, 1 - at % 3)).collect();
        let exact = |from: i64, to: i64| {
            let mut sum = 0.0;
            for (at, (when, _)) in changes.iter().enumerate() {
                let taken: i64 = changes[..=at].iter().map(|(_, change)| change).sum();
                let overlap = (when + 1_000).min(to) - (*when).max(from);
                sum += 0.1 * f64::from(i32::try_from(taken * overlap.max(0)).unwrap());
            }
            sum
        };
        let occupancy = Occupancy::of(0, 10, changes.clone());
        assert_eq!(occupancy.grid.as_ref().map(|grid| grid.before.len()), Some(1025));
        for (from, to) in [(0, 4_000_000), (100_500, 300_700), (2_000_000, 2_000_900), (4_000_000, 5_000_000)]
        {
            let (exact, taken) = (exact(from, to), occupancy.taken(from, to));
            assert!((exact - taken).abs() <= 4_000.0, "{from}..{to}: {taken}, not {exact}");
        }
    }
}
