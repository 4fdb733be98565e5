//! The harness of the end-to-end tests: processes that cannot outlive their test, a private PostgreSQL, waiting
//! with a bound, and where the binaries are.
//!
//! - What a test starts ends with the test, also when it panics and when it is killed.
//! - A test waits for a condition, never for a time.
//! - What is missing on the machine fails a test, unless the profile is `quick`; then the test says so.
//!
//! The helpers panic with a sentence for a person, because a test has nothing better to do with an error.
//! - [`slurm`] is a private Slurm to compare with.
//! - [`federation`] starts a broker with agents and a cloud, [`auditor`] compares what they all say at the end.
//! - [`focus_month`] simulates weeks of charges, books them into months, and exports these as FOCUS.

pub mod auditor;
pub mod binaries;
pub mod cli;
pub mod federation;
pub mod focus_month;
pub mod folder;
pub mod link;
pub mod postgres;
pub mod process;
pub mod profile;
pub mod slurm;
pub mod wait;

mod leash;

pub use binaries::binary;
pub use federation::{Federation, Work};
pub use folder::Folder;
pub use link::Link;
pub use process::Spawned;
pub use wait::{wait_for, wait_for_async};
