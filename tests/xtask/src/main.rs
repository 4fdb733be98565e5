//! `cargo xtask`: the project's own commands. Exit codes: 0 done, 1 a step failed, 2 usage.

use std::process::ExitCode;

use xtask::cli::{Request, USAGE};
use xtask::{commands, step};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let request = match Request::parse(&args) {
        Ok(request) => request,
        Err(error) => {
            step::say(&format!("error: {error}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match commands::run(request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
