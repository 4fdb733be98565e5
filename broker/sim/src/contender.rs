//! Who decides in a simulation: the planner with a policy, or a scheduler that others have published.

use spillway_policies::Policy;
use spillway_types::HourlyRate;

use crate::baselines::{BaselineParameters, UnknownBaseline, baseline};
use crate::{PlannerScheduler, Scheduler};

/// Who decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contender {
    /// Spillway's planner.
    Planner(Box<Policy>),
    /// A scheduler that others have published.
    Baseline {
        /// Its name: one of [`crate::baselines::BASELINES`].
        name: String,
        /// What it is set to.
        parameters: BaselineParameters,
    },
}

/// The policy with another price of waiting, in micros per hour of a job's wait.
#[must_use]
pub fn with_price_of_waiting(policy: &Policy, micros: u64) -> Policy {
    let wait_hour_price = HourlyRate(i64::try_from(micros).unwrap_or(i64::MAX));
    Policy { wait_hour_price, ..policy.clone() }
}

impl Contender {
    /// A scheduler that decides so.
    ///
    /// # Errors
    /// [`UnknownBaseline`] where there is none of that name.
    pub fn scheduler(&self) -> Result<Box<dyn Scheduler>, UnknownBaseline> {
        match self {
            Self::Planner(policy) => Ok(Box::new(PlannerScheduler::new(policy.as_ref().clone()))),
            Self::Baseline { name, parameters } => baseline(name, *parameters),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::{BASELINES, ComputeWait, Fit};
    use spillway_types::DurationMs;

    #[test]
    fn every_name_gives_a_scheduler() {
        let parameters = BaselineParameters {
            compute_wait: ComputeWait { billionths: 76_000_000 },
            constant_wait: DurationMs::from_secs(3600),
            max_queue: None,
            fit: Fit::First,
        };
        let named = |name: &str| Contender::Baseline { name: name.to_owned(), parameters }.scheduler();
        assert!(BASELINES.iter().all(|name| named(name).is_ok()));
        assert!(named("fifo").is_err());
        assert!(Contender::Planner(Box::default()).scheduler().is_ok());
    }

    #[test]
    fn another_price_of_waiting_is_another_policy() {
        let policy = Policy::default();
        let [first, second] = [400, 16_250_000].map(|price| with_price_of_waiting(&policy, price));
        assert_ne!(first, second);
        assert_eq!(with_price_of_waiting(&first, 16_250_000), second);
    }
}
