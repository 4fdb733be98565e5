//! Starting the program: its own process group, its environment, its output file, and its tie to the
//! supervisor's life.
//!
//! The program inherits only what [`INHERITED`] names: the agent's own variables may hold secrets.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use crate::part::{OUTPUT, Spec, WORK};

/// Variables that supervisors and programs inherit from the agent. `SPILLWAY_LOCAL_INSTANCE` is how the local
/// cloud connector finds every process of a machine that it plays.
const INHERITED: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "XDG_RUNTIME_DIR",
    "SPILLWAY_LOCAL_INSTANCE",
];

/// The search path where the agent has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The inherited variables with their values here.
pub(crate) fn inherited() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    INHERITED.into_iter().filter_map(|name| {
        let value = std::env::var_os(name);
        let fallback = || (name == "PATH").then(|| DEFAULT_PATH.into());
        value.or_else(fallback).map(|value| (name, value))
    })
}

/// Why the program did not start, for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    /// The job has no command.
    #[error("the command is empty")]
    Empty,
    /// The part's output file cannot be opened.
    #[error("its output file cannot be opened: {0}")]
    Output(#[source] io::Error),
    /// The kernel refused to run it.
    #[error("`{program}` cannot be run: {problem}")]
    Exec {
        /// The first word of the command.
        program: String,
        /// What the kernel says.
        problem: io::Error,
    },
}

/// Starts the program of the part in the current directory and returns its number, unreaped.
pub(super) fn start(spec: &Spec) -> Result<Pid, LaunchError> {
    let (program, arguments) = spec.command.split_first().ok_or(LaunchError::Empty)?;
    let output = OpenOptions::new().append(true).create(true).open(OUTPUT).map_err(LaunchError::Output)?;
    let errors = output.try_clone().map_err(LaunchError::Output)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(inherited()).envs(&spec.env).current_dir(WORK);
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    die_with_supervisor(&mut command);
    let child = command
        .spawn()
        .map_err(|problem| LaunchError::Exec { program: program.chars().take(200).collect(), problem })?;
    Ok(Pid::from_raw(super::pid_number(child.id())).expect("a child has a number over 0"))
}

/// Makes the kernel kill the program when the supervisor dies.
#[expect(unsafe_code, reason = "only a hook between fork and exec can tie a program to its parent's life")]
fn die_with_supervisor(command: &mut Command) {
    let supervisor = getpid();
    let tie = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The supervisor may have died before the tie was made.
        if getppid() == Some(supervisor) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: the hook makes two system calls and touches no memory that another thread could hold; the
    // supervisor has one thread.
    unsafe { command.pre_exec(tie) };
}
