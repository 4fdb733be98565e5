//! How much of each kind of node is taken over the time to come, by what runs and by what is planned: where much is
//! taken, who takes more stands in the way of jobs that are still to come.

/// A course of more steps than this is kept on a grid of as many instants: exact there, straight between them.
const MOST_STEPS: usize = 1024;

/// The share of a kind's accelerators (of its CPUs, where it has none) that is taken, as a function of time.
#[derive(Debug, Default)]
pub(crate) struct Occupancy {
    steps: Vec<Step>,
    /// When the first step begins and how far apart the steps are, where that is the same for all.
    grid: Option<(i64, i64)>,
    /// The greatest share at any time.
    pub(crate) most: f64,
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
        let mut grid: Vec<Step> = Vec::with_capacity(MOST_STEPS + 1);
        for at in 0..=count {
            let from = first.from.saturating_add(width.saturating_mul(at));
            grid.push(Step { from, before: self.until(from), share: last.share });
        }
        for at in 1..grid.len() {
            grid[at - 1].share = (grid[at].before - grid[at - 1].before) / width as f64;
        }
        (self.steps, self.grid) = (grid, Some((first.from, width)));
    }

    /// How many milliseconds of `from` until `to` are taken, each counted by its share.
    pub(crate) fn taken(&self, from: i64, to: i64) -> f64 {
        self.until(to) - self.until(from)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    fn until(&self, time: i64) -> f64 {
        let at = match self.grid {
            Some((began, width)) => {
                let at = usize::try_from(time.saturating_sub(began) / width).unwrap_or(0);
                at.min(self.steps.len() - 1)
            }
            None => self.steps.partition_point(|step| step.from <= time).saturating_sub(1),
        };
        self.steps.get(at).map_or(0.0, |step| step.before + step.share * (time - step.from).max(0) as f64)
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
        assert_eq!(occupancy.steps.len(), 1025);
        for (from, to) in [(0, 4_000_000), (100_500, 300_700), (2_000_000, 2_000_900), (4_000_000, 5_000_000)]
        {
            let (exact, taken) = (exact(from, to), occupancy.taken(from, to));
            assert!((exact - taken).abs() <= 4_000.0, "{from}..{to}: {taken}, not {exact}");
        }
    }
}
