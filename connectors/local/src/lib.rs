//! A cloud on this machine: instances are child processes that run agents.
//!
//! It is the embedded default, the demo's cloud and the tests' cloud, and keeps what a cloud keeps: an instance
//! outlives the broker, boots for a while, is listed by its tags, and can be full, slow, refused or taken back.
//!
//! How it holds its promises:
//! - The provider's truth is `STATE_DIR/machines/<provider id>/record.json`, written durably under one file
//!   lock, so connector objects and processes may race. The provider id is made from the intent: one intent has
//!   one folder, hence one instance, whatever crashes between the calls.
//! - Each instance has one *machine* process ([`machine_main`]) in a session of its own. It holds a lock that
//!   shows that it lives, boots, runs the agent, and powers off when the agent ends by itself.
//! - Everything of an instance carries its id in `SPILLWAY_LOCAL_INSTANCE`. Ending it means that no process of
//!   it is left: see `process` for how they are found.
//!
//! Linux only (it reads `/proc`). Not here on purpose: limits on what an instance uses (the catalogue declares
//! what a node has, nobody holds it to that), containers (a container engine starts those elsewhere), networks.

pub mod catalogue;
pub mod cloud;
pub mod fault;
pub mod machine;

mod clock;
mod process;
mod provider;
mod record;
mod store;

pub use catalogue::{CatalogueError, LocalCatalogue};
pub use cloud::{LocalCloud, LocalConfig, OpenError};
pub use fault::{Fault, FaultFileError, FaultKind, inject_faults};
pub use machine::machine_main;
pub use store::StoreError;

/// Variable that every process of an instance carries, with the provider id as its value.
pub const INSTANCE_VARIABLE: &str = "SPILLWAY_LOCAL_INSTANCE";
/// Variable in which the agent finds its join token.
pub const TOKEN_VARIABLE: &str = "SPILLWAY_JOIN_TOKEN";
