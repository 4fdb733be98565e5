//! The one binary of Spillway.
//!
//! Two hidden subcommands are answered before anything else is set up, because their processes outlive their
//! parents and must stay small: `supervise DIR` guards one job, `local-machine DIR` is one instance of the
//! local cloud. Everything else goes arguments -> `Settings::resolve` -> command.

mod args;
mod clock;
mod commands;
mod failure;
mod job_args;
mod logging;
mod output;
mod render;
mod settings;
mod table;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use output::Output;

/// The broker makes and frees many small texts with each charge: this allocator posts a third more of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if let (Some(verb), Some(dir)) = (words.next(), words.next()) {
        match verb.to_str() {
            Some("supervise") => return spillway_agent::supervisor::supervise_main(Path::new(&dir)),
            Some("local-machine") => return spillway_connector_local::machine_main(Path::new(&dir)),
            Some(_) | None => {}
        }
    }
    // clap prints its own help and usage errors, and exits with 0 or 2.
    let cli = Cli::parse();
    let mut output = Output::standard(cli.global.output);
    match commands::run(cli, &mut output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output.talk(&failure.render());
            ExitCode::from(failure.exit_code())
        }
    }
}
