//! What it costs that a provider may take a machine back, and until when a job with a deadline may risk that.
//!
//! The rule for deadlines is Uniform Progress of "Can't Be Late" (Wu et al., NSDI 2024): of `C` hours of work that are
//! due in `D` hours, `e(t) = t C / D` should be done after `t`. Whoever is ahead of it may wait for spot capacity; whoever
//! is behind takes what stays; and when little more time is left than the work takes, nothing is risked any more.

use spillway_types::{DurationMs, UnixMs};

use crate::item::real;
use crate::{QueuedJob, Restarts};

/// How long a spot machine is thought to stay where its provider gives no figure.
const UNKNOWN_LIFE: DurationMs = DurationMs::from_secs(24 * 3600);

/// How much longer a run of `run_ms` takes on machines that stay for `life` on average, with `overhead_ms` for each new
/// beginning: the time that is computed again, and the beginnings.
///
/// With checkpoints half an interval is lost each time. Without, a run that begins anew until it gets through takes
/// `L (e^(r/L) - 1)` with `L` the mean life; its series is used up to the third power, which is enough to lose against
/// what stays, as such a run should.
pub(crate) fn extra_ms(run_ms: i64, life: Option<DurationMs>, restarts: Restarts, overhead_ms: i64) -> f64 {
    let life = real(crate::item::signed(life.unwrap_or(UNKNOWN_LIFE)).max(1));
    let run = real(run_ms);
    let times = run / life;
    let again = match restarts {
        Restarts::FromCheckpoint { every } => times * real(crate::item::signed(every).min(run_ms)) / 2.0,
        Restarts::Anew | Restarts::Never => run * times / 2.0 * (1.0 + times / 3.0),
    };
    again + times * real(overhead_ms)
}

/// What a job's deadline allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// After this nothing may be risked: work left and two new beginnings fill the time that is left.
    pub(crate) safe_from: i64,
    /// Until this it is ahead of even progress, and may wait for spot capacity.
    pub(crate) ahead_until: i64,
}

impl Progress {
    /// Of a job with a deadline, where a new beginning takes `overhead_ms`.
    pub(crate) fn of(job: &QueuedJob, overhead_ms: i64) -> Option<Self> {
        let deadline: UnixMs = job.deadline?;
        let left = crate::item::signed(job.estimate);
        let safe_from = deadline.0.saturating_sub(left).saturating_sub(2 * overhead_ms);
        let (done, whole) =
            (real(crate::item::signed(job.done)), real(left) + real(crate::item::signed(job.done)));
        let time = real(deadline.0.saturating_sub(job.since.0).max(0));
        let ahead = crate::item::whole(time * done / whole.max(1.0));
        Some(Self { safe_from, ahead_until: job.since.0.saturating_add(ahead).min(safe_from) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, at, job};

    const HOUR: i64 = 3_600_000;

    #[test]
    fn what_is_computed_again_grows_with_the_run_and_falls_with_checkpoints() {
        let day = Some(DurationMs::from_secs(24 * 3600));
        let hours = |run: i64, restarts| extra_ms(run * HOUR, day, restarts, HOUR / 10) / HOUR as f64;
        let every = Restarts::FromCheckpoint { every: DurationMs::from_secs(3600) };
        for (run, restarts, expected) in [
            // 12 hours at one interruption a day: half of it, 30 minutes each, and 6 minutes to begin.
            (12, every, 0.3),
            (24, every, 0.6),
            // Without checkpoints: 24 x (e - 1) - 24 is 17.24; the series gives 16.
            (24, Restarts::Anew, 16.1),
            (1, Restarts::Anew, 1.0 / 48.0 * (1.0 + 1.0 / 72.0) + 0.1 / 24.0),
        ] {
            assert!(
                (hours(run, restarts) - expected).abs() < 1e-9,
                "{run} {restarts:?}: {}",
                hours(run, restarts)
            );
        }
    }

    #[test]
    fn even_progress_says_how_long_spot_may_be_waited_for() {
        // Four hours of work due in eight: half of it is done after four.
        let mut due = job(1, "H100:8").runs(2 * 3600);
        due.done = DurationMs::from_secs(2 * 3600);
        due.deadline = Some(at(8 * 3600));
        let progress = Progress::of(&due, HOUR / 4).unwrap();
        assert_eq!(progress.ahead_until, NOW.0 + 4 * HOUR);
        assert_eq!(progress.safe_from, NOW.0 + 8 * HOUR - 2 * HOUR - HOUR / 2);
        due.done = DurationMs(0);
        assert_eq!(
            Progress::of(&due, 0).unwrap().ahead_until,
            NOW.0,
            "who has done nothing is behind at once"
        );
        due.deadline = None;
        assert_eq!(Progress::of(&due, 0), None);
    }
}
