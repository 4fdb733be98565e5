//! One step of a command: says what it runs, how long it took, and how to repeat it when it fails.
//!
//! Talk goes to stderr, so that stdout stays data (the benches print JSON there).

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::wait::Stopwatch;

/// Writes one line for a person.
pub fn say(line: &str) {
    // Nobody left to read it is no reason to stop.
    if writeln!(std::io::stderr(), "{line}").is_err() {}
}

/// A command line with what it adds to the environment, and what is said about it.
#[derive(Debug, Clone, Default)]
pub struct Step {
    title: String,
    program: String,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    passing: Vec<(String, String)>,
}

impl Step {
    /// A cargo command, `line` split at spaces.
    #[must_use]
    pub fn cargo(title: &str, line: &str) -> Self {
        Self::new(title, "cargo", line)
    }

    /// Any program, `line` split at spaces.
    #[must_use]
    pub fn new(title: &str, program: &str, line: &str) -> Self {
        Self {
            title: title.to_owned(),
            program: program.to_owned(),
            args: line.split_whitespace().map(str::to_owned).collect(),
            environment: Vec::new(),
            passing: Vec::new(),
        }
    }

    /// More arguments, taken as they are.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = String>) -> Self {
        self.args.extend(args);
        self
    }

    /// One more variable in the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable that only makes sense during this run; the line to repeat does not name it.
    #[must_use]
    pub fn passing_env(mut self, name: &str, value: &str) -> Self {
        self.passing.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The line to type in a shell to do the same again.
    #[must_use]
    pub fn command_line(&self) -> String {
        let variables = self.environment.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| quoted(word));
        variables.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// The process, ready to start in `root`. Reads nothing from stdin.
    #[must_use]
    pub fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(root).stdin(Stdio::null());
        // `cargo run` describes xtask in the environment; build scripts that watch these would run again.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name.as_ref());
            }
        }
        command.envs(self.environment.iter().chain(&self.passing).map(|(name, value)| (name, value)));
        command
    }

    /// Runs it, and says how long it took.
    ///
    /// # Errors
    /// It could not be started or ended with another code than 0; the error holds the line that repeats it.
    pub fn run(&self, root: &Path) -> Result<()> {
        let watch = Stopwatch::start();
        self.run_last(root)?;
        say(&format!("    {} took {:.1} s", self.title, watch.elapsed().as_secs_f64()));
        Ok(())
    }

    /// As [`Step::run`], but what the program printed last is the last that is printed.
    ///
    /// # Errors
    /// As [`Step::run`].
    pub fn run_last(&self, root: &Path) -> Result<()> {
        say(&format!("==> {}: {}", self.title, self.command_line()));
        let status = self
            .command(root)
            .status()
            .with_context(|| format!("cannot start `{}` ({})", self.program, self.title))?;
        if !status.success() {
            bail!("{} failed ({status}). To repeat it:\n    {}", self.title, self.command_line());
        }
        Ok(())
    }
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:@%+,".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_repeat_can_be_pasted_into_a_shell() {
        let step = Step::new("t", "echo", "a --b=c").args(["it's".to_owned(), String::new()]);
        let step = step.env("X", "1 2").passing_env("Y", "3");
        assert_eq!(step.command_line(), r"X='1 2' echo a --b=c 'it'\''s' ''");
        let typed = Command::new("sh").args(["-c", &step.command_line()]).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&typed.stdout), "a --b=c it's \n");
    }

    #[test]
    fn a_failure_says_how_to_repeat_it() {
        let error = Step::new("breaking", "false", "now").run(Path::new("/")).expect_err("it fails");
        assert!(error.to_string().starts_with("breaking failed"), "{error}");
        assert!(error.to_string().ends_with("\n    false now"), "{error}");
        let error = Step::new("ghost", "no-such-program", "").run(Path::new("/")).expect_err("it fails");
        assert_eq!(error.to_string(), "cannot start `no-such-program` (ghost)");
        assert!(Step::new("fine", "true", "").run(Path::new("/")).is_ok());
    }
}
