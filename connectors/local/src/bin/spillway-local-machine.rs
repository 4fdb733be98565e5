//! One instance of the local cloud: for tests, and where the `spillway` binary is not at hand. Takes the
//! instance's folder as its only argument.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(dir) => spillway_connector_local::machine_main(Path::new(&dir)),
        None => ExitCode::from(2),
    }
}
