//! Vocabulary of Spillway: names, ids, money, time, resources, jobs, and the state machines.
//!
//! Everything here is a value: no clock, no randomness, no I/O. A value that exists is right; parsing is
//! where wrong input is refused, with an error that names the value and the way out.

pub mod duration;
pub mod id;
pub mod money;
pub mod name;
pub mod resources;

pub mod attempt;
pub mod data;
mod data_file;
pub mod instance;
pub mod job;
pub mod lease;
pub mod market;
pub mod node;
pub mod part;
pub mod queue;
pub mod ranges;
pub mod site;
mod source;
pub mod task;

mod transition;

pub use attempt::{AttemptState, AttemptStep};
pub use data::{DataMap, Dataset, Link, Reading, Transfer};
pub use data_file::{CopyEntry, DataError, DatasetEntry, LinkEntry, data_size};
pub use duration::{DurationMs, UnixMs};
pub use id::{AttemptId, Fence, IdSource, InstanceId, JobId, JoinTokenId, NodeId, SequentialIds};
pub use instance::{InstanceState, InstanceStep};
pub use job::{ArrayRange, Checkpoint, JobSpec, JobSpecError, Placement, RetryPolicy, Spot};
pub use market::{Market, OfferTerms};
pub use money::{Currency, HourlyRate, Money};
pub use name::{
    ClassName, CloudName, DatasetName, GpuModel, GroupName, InstanceType, NameError, PoolName, SiteName,
    UserName,
};
pub use node::{NodeState, NodeStep};
pub use part::{PartEnd, PartPhase, WantedPhase};
pub use queue::{Deadline, Estimate, EstimateSource, Held, Interconnect, Standing, TopScope};
pub use ranges::IndexRanges;
pub use resources::{
    Accelerator, AcceleratorShare, Allocation, Capabilities, FreeResources, GpuQuantity, GpuRequest,
    GpuSelector, Inventory, InventorySource, NodeCapacity, Resources, Shortfall,
};
pub use site::{Role, SiteKind, Tariff, instance_share};
pub use source::{ContentHash, ContentHashError, DataSource, DataSourceError};
pub use task::{FailureReason, Reason, TaskState, TaskStep};
pub use transition::IllegalTransition;
