//! Runs the real command line to its end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Spawned, binaries};

/// Longest run of a command that does not wait for anything.
const SOON: Duration = Duration::from_secs(60);

/// What a command ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its data.
    pub stdout: String,
    /// Its talk.
    pub stderr: String,
}

/// Runs `spillway` with these arguments, its output kept in `folder` under `name`, and waits for its end.
///
/// # Panics
/// It does not end, or crashes.
#[must_use]
pub fn spillway(folder: &Path, name: &str, arguments: &[&str]) -> Said {
    let mut command = Command::new(binaries::spillway());
    command.args(arguments).stdin(Stdio::null());
    // What the person who runs the tests has set is none of theirs.
    for variable in ["SPILLWAY_TOKEN", "SPILLWAY_SERVER", "SPILLWAY_JOIN_TOKEN"] {
        command.env_remove(variable);
    }
    command.env("XDG_DATA_HOME", folder);
    run(folder, name, command)
}

/// Runs any command to its end.
///
/// # Panics
/// It does not end, or crashes.
#[must_use]
pub fn run(folder: &Path, name: &str, command: Command) -> Said {
    let mut process = Spawned::start(name, command, folder);
    let status = process.wait(SOON);
    let code =
        status.code().unwrap_or_else(|| panic!("{name} ended with {status}; stderr:\n{}", process.stderr()));
    Said { code, stdout: process.stdout(), stderr: process.stderr() }
}
