//! The project's own commands, as a library: the binary `xtask` runs them, and the test harness shares what
//! both need (waiting for a condition, a private PostgreSQL).
//!
//! Deliberately small: the standard library and anyhow, nothing else, because everybody waits for it.

pub mod cli;
pub mod commands;
pub mod duckdb;
pub mod focus_validator;
pub mod postgres;
mod python;
pub mod setup;
pub mod step;
pub mod wait;

/// The root of the checkout, from where the commands run.
#[must_use]
pub fn workspace_root() -> std::path::PathBuf {
    let mut root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}
