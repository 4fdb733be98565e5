//! The suite that every connector passes: what the broker relies on, tried against the real provider, an
//! emulator, or whatever the connector's tests put behind it.
//!
//! A connector's tests implement [`Harness`] and call [`check_all`], with a fresh harness for each check. A
//! check that needs a fault which the provider cannot be made to show is skipped, and says so.

mod checks;
mod probe;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use spillway_types::DurationMs;

use crate::{Connector, LaunchRequest};

/// A provider under test.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new connector object for this deployment over the same provider, as after a restart of the broker.
    async fn connect(&self, deployment: &str) -> Box<dyn Connector>;

    /// A request that the provider can meet, with an intent that was never used, for the tested deployment.
    fn request(&self) -> LaunchRequest;

    /// Another deployment that shares the provider.
    fn foreign_deployment(&self) -> String;

    /// A provider id that is well-formed and that no instance has.
    fn unknown_id(&self) -> String;

    /// Makes the provider show this fault once, at its next chance.
    async fn inject(&self, fault: Fault) -> Injection;

    /// How long a listing may lag behind a launch.
    fn settle(&self) -> DurationMs;

    /// How long an instance may take to be gone after it was terminated.
    fn ending(&self) -> DurationMs;

    /// Ends everything that the check left. Called once, after success and failure.
    async fn clean_up(&self);
}

/// What a provider can be made to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next launch finds no capacity.
    NoCapacity,
    /// The next launch works, and its answer is lost.
    ReplyLost,
    /// The next terminate fails, without effect.
    TerminateFails,
    /// One part of the next listing fails.
    ListFails,
}

/// Whether a fault was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injection {
    /// It will show.
    Done,
    /// This provider cannot be made to show it.
    Unsupported,
}

/// How a check that found nothing wrong ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Passed,
    /// It needs a fault that cannot be injected.
    Skipped,
}

/// A connector broke what the broker relies on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connector breaks `{check:?}`: {problem}")]
pub struct Violation {
    /// The check that failed.
    pub check: Check,
    /// What was seen, and what should have been.
    pub problem: String,
}

/// One thing that the broker relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The same request again gives the same instance, through another connector object too.
    LaunchIsIdempotent,
    /// The same intent with another request is a conflict and launches nothing.
    DifferentRequestConflicts,
    /// Two calls at once give one instance.
    TwoAtOnceGiveOne,
    /// Every instance is listed with all its tags, in every region.
    ListIsComplete,
    /// Another deployment's instances are never shown and never ended.
    ForeignIsUntouched,
    /// Terminate twice is fine, and the listing proves that the instance is gone.
    TerminateTwice,
    /// Terminate of what never was is fine.
    TerminateUnknown,
    /// An intent whose instance was ended never launches again.
    LaunchAfterTerminate,
    /// No capacity is definite and leaves nothing; the same request works later.
    NoCapacityLeavesNothing,
    /// A lost answer is ambiguous; exactly one instance is listed, and the request again finds it.
    LostReplyIsAmbiguous,
    /// A terminate that failed says so, and works when it is repeated.
    FailedTerminateIsRepeated,
    /// A listing that is not complete is an error.
    PartialListIsAnError,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 12] = [
        Self::LaunchIsIdempotent,
        Self::DifferentRequestConflicts,
        Self::TwoAtOnceGiveOne,
        Self::ListIsComplete,
        Self::ForeignIsUntouched,
        Self::TerminateTwice,
        Self::TerminateUnknown,
        Self::LaunchAfterTerminate,
        Self::NoCapacityLeavesNothing,
        Self::LostReplyIsAmbiguous,
        Self::FailedTerminateIsRepeated,
        Self::PartialListIsAnError,
    ];

    /// Tries it.
    ///
    /// # Errors
    /// [`Violation`] with what was seen.
    pub async fn run(self, harness: &dyn Harness) -> Result<Outcome, Violation> {
        let probe = probe::Probe::new(self, harness);
        let done = |()| Outcome::Passed;
        match self {
            Self::LaunchIsIdempotent => Box::pin(checks::launch_is_idempotent(&probe)).await.map(done),
            Self::DifferentRequestConflicts => Box::pin(checks::different_request(&probe)).await.map(done),
            Self::TwoAtOnceGiveOne => Box::pin(checks::two_at_once(&probe)).await.map(done),
            Self::ListIsComplete => Box::pin(checks::list_is_complete(&probe)).await.map(done),
            Self::ForeignIsUntouched => Box::pin(checks::foreign_is_untouched(&probe)).await.map(done),
            Self::TerminateTwice => Box::pin(checks::terminate_twice(&probe)).await.map(done),
            Self::TerminateUnknown => Box::pin(checks::terminate_unknown(&probe)).await.map(done),
            Self::LaunchAfterTerminate => Box::pin(checks::launch_after_terminate(&probe)).await.map(done),
            Self::NoCapacityLeavesNothing => Box::pin(checks::no_capacity(&probe)).await,
            Self::LostReplyIsAmbiguous => Box::pin(checks::lost_reply(&probe)).await,
            Self::FailedTerminateIsRepeated => Box::pin(checks::failed_terminate(&probe)).await,
            Self::PartialListIsAnError => Box::pin(checks::partial_list(&probe)).await,
        }
    }
}

/// Tries every check, each on a harness of its own, and cleans up after each.
///
/// # Errors
/// The first [`Violation`].
pub async fn check_all<H: Harness>(fresh: impl AsyncFn() -> H) -> Result<Vec<(Check, Outcome)>, Violation> {
    let mut outcomes = Vec::new();
    for check in Check::ALL {
        let harness = fresh().await;
        let outcome = Box::pin(check.run(&harness)).await;
        harness.clean_up().await;
        outcomes.push((check, outcome?));
    }
    Ok(outcomes)
}
