//! The broker: HTTP routes, background tasks, tunnels and connectors, assembled. Nothing is decided here:
//! commands go to the pure core, plans come from the pure planner, and what they say is carried out.
//!
//! - [`engine`] owns the state; everything else is a task around it, with no state that a restart would miss.
//! - [`sessions`] speaks with agents, [`clouds`] with providers, [`http`] with people and programs.
//! - [`access`] puts the access policies where planner and core ask them.
//! - [`alerts`] tells of limits that fill up.
//! - [`planner`] and [`tick`] let plans be made and time pass.

pub mod access;
pub mod alerts;
pub mod clock;
pub mod clouds;
pub mod engine;
pub mod http;
pub mod outputs;
pub mod planner;
pub mod secrets;
pub mod sessions;
pub mod settings;
pub mod tick;

mod crash;
mod run;

pub use engine::{Engine, EngineError, Mode, View};
pub use run::{ADMIN_TOKEN_FILE, ENDPOINT_FILE, Programs, Ready, run};
pub use settings::Settings;
