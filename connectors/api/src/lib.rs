//! What every cloud implements: the [`Connector`] trait, its typed errors and its conformance suite.
//!
//! A connector is a translator and holds no state that matters: the broker writes its intent first, the
//! provider keeps the truth. Invariants that the suite checks:
//! - one intent, one instance: the same request again gives the same instance, for ever;
//! - an error says whether it is definite. Where it is not, the broker observes and then decides;
//! - a listing is complete or an error, and shows only what carries the deployment's tag;
//! - every call ends within a bound of its own.
//!
//! What is not here on purpose: retries, back-off and rate limits. The broker does those once for all clouds.

pub mod catalogue;
pub mod conformance;
pub mod error;
pub mod request;

use std::fmt::Debug;

use async_trait::async_trait;
use spillway_types::{CloudName, SiteName};

pub use catalogue::{Catalogue, Offer, Region};
pub use error::{ConnectorError, LaunchError};
pub use request::{JoinToken, LaunchRequest, Launched, ObservedInstance, ObservedState};

/// Tag that carries the deployment's id: only what has it is ever listed or ended.
pub const DEPLOYMENT_TAG: &str = "spillway-deployment";
/// Tag that carries the intent's id.
pub const INTENT_TAG: &str = "spillway-intent";
/// Tag that carries the journal position of the intent, in decimal.
pub const JOURNAL_TAG: &str = "spillway-journal";

/// One cloud account, for one deployment.
#[async_trait]
pub trait Connector: Send + Sync + Debug {
    /// The cloud's name in this deployment.
    fn name(&self) -> &CloudName;

    /// What could be launched now, and for how much.
    ///
    /// # Errors
    /// [`ConnectorError`] where the provider did not say.
    async fn catalogue(&self) -> Result<Catalogue, ConnectorError>;

    /// Launches the instance of `request.intent`, or finds it: the same request again gives the same one.
    ///
    /// # Errors
    /// [`LaunchError`]; see [`LaunchError::is_definite`] for what may be left behind.
    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchError>;

    /// Everything that carries the deployment's tag, in all regions. What is gone may be listed as gone for
    /// a while, or be absent.
    ///
    /// # Errors
    /// [`ConnectorError`] where the listing would not be complete.
    async fn list(&self) -> Result<Vec<ObservedInstance>, ConnectorError>;

    /// Ends an instance. Ending it twice is fine, and so is one that is gone or was never there: only
    /// [`Self::list`] proves that something is gone.
    ///
    /// # Errors
    /// [`ConnectorError`] where the provider did not take the order, or the instance is another deployment's.
    async fn terminate(&self, region: &SiteName, provider_id: &str) -> Result<(), ConnectorError>;
}
