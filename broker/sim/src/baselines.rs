//! Schedulers that others have published, to compare with: all of them see whole accelerators of like nodes, a
//! queue in order of arrival, and a cloud that starts at once.
//!
//! What they share: a job's budget for waiting is `w = c x GPUs x estimate` (compute-wait), counted from when it
//! came in. At each moment programs that end have freed their accelerators already; then the jobs whose wait has
//! reached `w` go to the cloud, before what has just arrived is looked at. A job that fits one node takes the first
//! with room, or the one with the least room that still fits ([`Fit`]; of equals the first). A larger one takes
//! empty nodes and one more for the rest.
//!
//! | name | what starts on nodes |
//! |---|---|
//! | `no-wait` | what fits when it arrives; everything else goes to the cloud at once |
//! | `constant` | the queue in its order, up to the first job that does not fit; `w` is the same for all |
//! | `starburst` | the queue in its order, past what does not fit; what is beyond `max_queue` goes to the cloud, last first |
//! | `easy` | the queue in its order; the first that does not fit is given a reservation, others go past where they do not touch it |
//! | `plan-on-arrival` | each job has its start from its arrival on, where there is one within `w`; else it goes to the cloud at once |
//!
//! They leave out on purpose what the planner is for: prices, sites, groups, quotas, boots, data and failures. They
//! know on-prem nodes only and never start a second job on an instance.

mod constant;
mod easy;
mod no_wait;
mod plan_on_arrival;
mod starburst;
mod view;

use spillway_types::DurationMs;

use crate::Scheduler;

/// The names that [`baseline`] knows.
pub const BASELINES: [&str; 5] = ["no-wait", "constant", "starburst", "easy", "plan-on-arrival"];

/// Which of the nodes with room a job takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// The first.
    #[default]
    First,
    /// The one with the least room; of equals the first.
    Best,
}

/// How long a job may wait for each GPU-hour that it will use: the `c` of compute-wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeWait {
    /// Billionths: 76,000,000 is a `c` of 0.076, 4.56 minutes for a GPU-hour.
    pub billionths: u64,
}

impl ComputeWait {
    /// How long a job of so many accelerators and so long a run may wait, rounded down to a millisecond.
    #[must_use]
    pub fn budget(self, gpus: u64, run: DurationMs) -> DurationMs {
        const BILLION: u64 = 1_000_000_000;
        let exact = (u128::from(self.billionths) * u128::from(gpus)).saturating_mul(u128::from(run.0));
        // Most budgets fit 64 bits, where a division costs a tenth.
        let floor = |exact: u128| u64::try_from(exact / u128::from(BILLION)).unwrap_or(u64::MAX);
        DurationMs(u64::try_from(exact).map_or_else(|_| floor(exact), |exact| exact / BILLION))
    }
}

/// What the baselines are tuned with; each takes what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaselineParameters {
    /// For `starburst`, `easy` and `plan-on-arrival`. Published: 0.07805625 for the synthetic jobs, 0.076 for Philly.
    pub compute_wait: ComputeWait,
    /// For `constant`. Published: 0.2436 h for the synthetic jobs, 1 h for Philly.
    pub constant_wait: DurationMs,
    /// For `starburst`: how many jobs may wait. Published: no bound for the synthetic jobs, 30 for Philly.
    pub max_queue: Option<usize>,
    /// For all but `plan-on-arrival`. Published: best for the synthetic jobs, first for Philly.
    pub fit: Fit,
}

impl Default for BaselineParameters {
    /// What was published for Philly.
    fn default() -> Self {
        Self {
            compute_wait: ComputeWait { billionths: 76_000_000 },
            constant_wait: DurationMs::from_secs(3600),
            max_queue: Some(30),
            fit: Fit::First,
        }
    }
}

/// There is no baseline of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no baseline `{name}`; known are {}", BASELINES.join(", "))]
pub struct UnknownBaseline {
    /// What was asked for.
    pub name: String,
}

/// The baseline of this name: one of [`BASELINES`].
///
/// # Errors
/// [`UnknownBaseline`] names those that there are.
pub fn baseline(name: &str, parameters: BaselineParameters) -> Result<Box<dyn Scheduler>, UnknownBaseline> {
    Ok(match name {
        "no-wait" => Box::new(no_wait::NoWait::new(parameters.fit)),
        "constant" => Box::new(constant::Constant::new(parameters)),
        "starburst" => Box::new(starburst::Starburst::new(parameters)),
        "easy" => Box::new(easy::Easy::new(parameters)),
        "plan-on-arrival" => Box::new(plan_on_arrival::PlanOnArrival::new(parameters.compute_wait)),
        other => return Err(UnknownBaseline { name: other.to_owned() }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_exact_also_where_it_is_large() {
        let wait = ComputeWait { billionths: 78_056_250 };
        assert_eq!(wait.budget(8, DurationMs(3_600_000)), DurationMs(2_248_020));
        assert_eq!(wait.budget(1, DurationMs(1)), DurationMs(0));
        let whole = ComputeWait { billionths: 1_000_000_000 };
        assert_eq!(whole.budget(1000, DurationMs(1 << 50)), DurationMs(1000 << 50));
        assert_eq!(whole.budget(u64::MAX, DurationMs(u64::MAX)), DurationMs(u64::MAX));
    }
}
