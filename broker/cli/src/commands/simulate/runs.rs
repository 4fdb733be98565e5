//! The runs, one after another: each policy once, or as often as matching its wait takes.

use std::error::Error;
use std::ops::ControlFlow;

use anyhow::{Context, anyhow};
use serde::Serialize;
use spillway_sim::contender::{Contender, with_price_of_waiting};
use spillway_sim::match_wait::{Match, Measured, Reached, match_wait, runs_for};
use spillway_sim::report::{Metrics, Outcome};
use spillway_sim::{ReplayError, replay};

use super::interrupt::Stop;
use super::kept::{Kept, digest};
use super::plan::{Entry, Plan};
use super::progress::Bar;
use crate::failure::Failure;

/// What came of one policy.
#[derive(Debug, Serialize)]
pub(crate) struct Finished {
    /// Its name.
    pub policy: String,
    /// How its wait was matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<Matched>,
    /// The figures.
    #[serde(flatten)]
    pub metrics: Metrics,
    #[serde(skip)]
    outcome: Box<Outcome>,
}

/// How a wait was matched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Matched {
    /// The price of waiting that was found, in micros per hour of a job's wait.
    pub wait_hour_price_micros: u64,
    /// Whether the average wait is at most what was asked.
    pub reached: bool,
    /// How many prices were tried.
    pub runs: usize,
}

impl Finished {
    /// Curves and placements.
    pub(super) fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    pub(super) fn new(policy: String, matched: Option<Matched>, outcome: Outcome) -> Self {
        Self { policy, matched, metrics: outcome.metrics.clone(), outcome: Box::new(outcome) }
    }
}

/// How it ended, with the policies that are complete.
#[derive(Debug)]
pub(super) enum Ending {
    /// By itself.
    Complete(Vec<Finished>),
    /// Because somebody asked for it.
    Interrupted(Vec<Finished>),
}

/// Why a run has no result.
#[derive(Debug)]
enum Halt {
    Asked,
    Failed(Failure),
}

impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Runs every policy.
pub(super) fn run(plan: &Plan, kept: &mut Kept, stop: &Stop) -> Result<Ending, Failure> {
    let bar = Bar::begin(plan.jobs.len());
    let mut runner = Runner { plan, kept, stop, bar };
    let mut finished = vec![];
    for entry in &plan.entries {
        match runner.entry(entry) {
            Ok(one) => finished.push(one),
            Err(Halt::Asked) => return Ok(Ending::Interrupted(finished)),
            Err(Halt::Failed(failure)) => return Err(failure),
        }
    }
    Ok(Ending::Complete(finished))
}

struct Runner<'a> {
    plan: &'a Plan,
    kept: &'a mut Kept,
    stop: &'a Stop,
    bar: Bar,
}

impl Runner<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<Finished, Halt> {
        let name = entry.name.clone();
        let (Some(target), Contender::Planner(policy)) = (self.plan.match_wait, &entry.contender) else {
            let key = digest(&[&self.plan.digest, &entry.digest]);
            let outcome = self.whole(&key, (entry.place, &entry.contender), &name)?;
            return Ok(Finished::new(name, None, outcome));
        };
        let at = |price| Contender::Planner(Box::new(with_price_of_waiting(policy, price)));
        let key = |price: u64| digest(&[&self.plan.digest, &entry.digest, &price.to_string()]);
        let mut best: Option<(u64, Measured)> = None;
        let mut tries = 0;
        let Match { best: found, reached, tried } =
            match_wait(target, runs_for(self.plan.jobs.len()), &mut |price| {
                tries += 1;
                let key_now = key(price);
                if let Some(measured) = self.kept.measured(&key_now) {
                    best = Some(better(target, best, (price, measured)));
                    return Ok(measured);
                }
                let outcome = self.replay((entry.place, &at(price)), &format!("{name}, price {tries}"))?;
                let measured = measured(&outcome);
                let next = better(target, best, (price, measured));
                if next.0 == price {
                    best.iter().for_each(|(old, _)| self.kept.shrink(&key(*old)));
                }
                let whole = (next.0 == price).then_some(outcome);
                best = Some(next);
                self.kept.keep(&key_now, measured, whole)?;
                Ok::<_, Halt>(measured)
            })?;
        let outcome = self.whole(&key(found.price), (entry.place, &at(found.price)), &name)?;
        let reached = matches!(reached, Reached::Yes);
        let matched = Matched { wait_hour_price_micros: found.price, reached, runs: tried.len() };
        Ok(Finished::new(name, Some(matched), outcome))
    }

    /// A run with placements and curves, from what is kept or anew.
    fn whole(&mut self, key: &str, who: (usize, &Contender), name: &str) -> Result<Outcome, Halt> {
        if let Some(outcome) = self.kept.outcome(key) {
            return Ok(outcome.clone());
        }
        let outcome = self.replay(who, name)?;
        self.kept.keep(key, measured(&outcome), Some(outcome.clone()))?;
        Ok(outcome)
    }

    /// Replays all jobs in the place of this index.
    fn replay(&self, (place, contender): (usize, &Contender), what: &str) -> Result<Outcome, Halt> {
        if self.stop.is_asked() {
            return Err(Halt::Asked);
        }
        self.bar.next(what);
        let place = self.plan.places.get(place).context("a place that was resolved")?;
        let mut description = place.description.clone();
        if let Contender::Planner(policy) = contender {
            description.policy = policy.as_ref().clone();
        }
        let mut watch = |progress: spillway_sim::Progress| {
            self.bar.at(progress.done);
            if self.stop.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let scheduler = contender.scheduler().map_err(|error| Failure::from(anyhow!(error)))?;
        match replay(description, &self.plan.jobs, scheduler, self.plan.seed, &mut watch) {
            Ok(replay) => Ok(Outcome::of(&self.plan.jobs, &replay, &place.setting)),
            Err(ReplayError::Stopped { .. }) => Err(Halt::Asked),
            Err(error) => Err(Halt::Failed(unfinished(what, error).into())),
        }
    }
}

/// A replay that did not end, with its cause where it has one.
fn unfinished(what: &str, error: ReplayError) -> anyhow::Error {
    let problem = format!("{what} cannot be simulated: {error}");
    if error.source().is_some() { anyhow!(error).context(problem) } else { anyhow!(problem) }
}

/// What is to be small is cloud GPU-hours, as in the published comparisons.
fn measured(outcome: &Outcome) -> Measured {
    Measured { wait_hours: outcome.metrics.avg_wait_hours, cost: outcome.metrics.cloud_gpu_hours }
}

/// The run that the search would take of these two: its curves and placements are worth keeping.
fn better(target: f64, old: Option<(u64, Measured)>, new: (u64, Measured)) -> (u64, Measured) {
    let Some(old) = old else { return new };
    let keeps = |run: &(u64, Measured)| run.1.wait_hours <= target;
    let new_is_better = match (keeps(&old), keeps(&new)) {
        (true, true) => new.1.cost < old.1.cost,
        (false, false) => new.1.wait_hours < old.1.wait_hours,
        (false, true) => true,
        (true, false) => false,
    };
    if new_is_better { new } else { old }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
