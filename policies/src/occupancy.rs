//! How much of each kind of node is taken over the time to come, by what runs and by what is planned: where much is
//! taken, who takes more stands in the way of jobs that are still to come.

/// The share of a kind's accelerators (of its CPUs, where it has none) that is taken, as a function of time.
#[derive(Debug, Default)]
pub(crate) struct Occupancy {
    steps: Vec<Step>,
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
        Self { steps }
    }

    /// How many milliseconds of `from` until `to` are taken, each counted by its share.
    pub(crate) fn taken(&self, from: i64, to: i64) -> f64 {
        self.until(to) - self.until(from)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share is compared, never counted")]
    fn until(&self, time: i64) -> f64 {
        let at = self.steps.partition_point(|step| step.from <= time).saturating_sub(1);
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
}
