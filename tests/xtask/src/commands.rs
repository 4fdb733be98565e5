//! What each subcommand does, as a list of steps; the first that fails ends it.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow};

use crate::cli::{BenchRequest, Profile, Request, USAGE};
use crate::postgres::{PostgresServer, URL_VARIABLE, find_binaries};
use crate::step::{Step, say};
use crate::wait::Stopwatch;
use crate::{duckdb, focus_validator, setup, workspace_root};

/// The variable that tells the tests what they may leave out.
pub const PROFILE_VARIABLE: &str = "SPILLWAY_TEST_PROFILE";

/// Runs a request to its end.
///
/// # Errors
/// The first step that failed.
pub fn run(request: Request) -> Result<()> {
    let root = workspace_root();
    match request {
        Request::Ci => ci(&root),
        Request::Test { profile, args } => test(&root, profile, TestRun::default().with_args(args)),
        Request::Setup => set_up(&root),
        Request::Demo { args } => demo(&root, args),
        Request::Bench(request) => bench(&root, request),
        Request::Help => {
            say(USAGE);
            Ok(())
        }
    }
}

fn set_up(root: &Path) -> Result<()> {
    setup::run(root)?;
    focus_validator::set_up(&target_dir(root))?;
    duckdb::set_up(&target_dir(root))
}

/// The tests come last, so that the runner's closing line is the last of the whole output.
fn ci(root: &Path) -> Result<()> {
    Step::cargo("format", "fmt --all --check").run(root)?;
    Step::cargo("lints", "clippy --workspace --all-targets -- -D warnings").run(root)?;
    let docs = Step::cargo("documentation", "doc --workspace --no-deps");
    docs.env("RUSTDOCFLAGS", "-D warnings").run(root)?;
    Step::cargo("examples in the documentation", "test --workspace --doc --quiet").run(root)?;
    test(root, Profile::Full, TestRun { nextest_profile: Some("ci"), args: Vec::new() })
}

#[derive(Debug, Default)]
struct TestRun {
    nextest_profile: Option<&'static str>,
    args: Vec<String>,
}

impl TestRun {
    fn with_args(self, args: Vec<String>) -> Self {
        Self { args, ..self }
    }

    fn is_narrowed(&self) -> bool {
        self.args.iter().any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
    }

    /// Only the end-to-end tests do.
    fn starts_binaries(&self) -> bool {
        !self.is_narrowed() || self.args.iter().any(|arg| arg.ends_with("spillway-tests"))
    }

    /// The runner's step, for nextest or for plain cargo where nextest is missing.
    fn step(self, nextest: bool) -> Step {
        // Beside `--workspace` cargo would not look at `-p`.
        let scope = if self.is_narrowed() { "" } else { " --workspace" };
        if !nextest {
            let step = Step::cargo("tests", &format!("test{scope}"));
            // A narrowed run may name its own targets, and a crate without a library refuses `--lib`.
            let targets = if scope.is_empty() { "" } else { "--lib --bins --tests" };
            return step.args(targets.split_whitespace().map(str::to_owned)).args(self.args);
        }
        let step = Step::cargo("tests", &format!("nextest run{scope}"));
        let profile = self.nextest_profile.map(|profile| format!("--profile={profile}"));
        step.args(profile).args(self.args)
    }
}

fn test(root: &Path, profile: Profile, test_run: TestRun) -> Result<()> {
    if profile == Profile::Full {
        let watch = Stopwatch::start();
        say("==> setup: what the tests need");
        set_up(root)?;
        say(&format!("    setup took {:.1} s", watch.elapsed().as_secs_f64()));
    }
    if test_run.starts_binaries() {
        // Cargo builds a binary only for the tests of its own package.
        Step::cargo("binaries", "build -p spillway -p spillway-agent --bins").run(root)?;
    }
    let nextest = has_nextest(root);
    if !nextest {
        say(
            "    cargo-nextest is missing (`cargo install cargo-nextest --locked`): `cargo test` runs the tests",
        );
    }
    let mut step = test_run.step(nextest);
    let server = shared_postgres(profile)?;
    if let Some(server) = &server {
        step = step.passing_env(URL_VARIABLE, server.url());
    }
    if profile == Profile::Quick {
        step = step.env(PROFILE_VARIABLE, "quick");
    }
    step.run_last(root)
}

/// One server for all test processes; it ends with this process, however that ends.
fn shared_postgres(profile: Profile) -> Result<Option<PostgresServer>> {
    if std::env::var_os(URL_VARIABLE).is_some() {
        say(&format!("    the tests use the PostgreSQL server in {URL_VARIABLE}"));
        return Ok(None);
    }
    if profile == Profile::Quick && find_binaries().is_none() {
        say("    no PostgreSQL here: the tests that need it will say so and be left out");
        return Ok(None);
    }
    let watch = Stopwatch::start();
    let server = PostgresServer::start()?;
    say(&format!("    a private PostgreSQL server started in {:.1} s", watch.elapsed().as_secs_f64()));
    Ok(Some(server))
}

fn has_nextest(root: &Path) -> bool {
    let mut probe = Step::cargo("probe", "nextest --version").command(root);
    probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn demo(root: &Path, args: Vec<String>) -> Result<()> {
    Step::cargo("build", "build --quiet -p spillway").run(root)?;
    let program = target_dir(root).join("debug/spillway");
    let error = Command::new(&program).arg("demo").args(args).exec();
    Err(anyhow!(error).context(format!("cannot start {}", program.display())))
}

/// Where cargo builds, by its own rule short of configuration files: the variable, else `target`.
#[must_use]
pub fn target_dir(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

fn bench(root: &Path, request: BenchRequest) -> Result<()> {
    Step::cargo("binaries", "build --release --quiet -p spillway -p spillway-agent --bins").run(root)?;
    let step = Step::cargo("bench", "run --release --quiet -p spillway-tests --bin spillway-bench --");
    let mut args = request.names;
    args.extend(request.quick.then(|| "--quick".to_owned()));
    if let Some(traces) = request.traces {
        // The bench runs in the root of the checkout, the path was typed elsewhere.
        let traces = std::path::absolute(&traces)?;
        args.push(format!("--traces={}", traces.display()));
    }
    step.args(args).run_last(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_gets_the_profile_and_the_arguments() {
        let line = |nextest: bool, profile: Option<&'static str>, args: &str| {
            let args = args.split_whitespace().map(str::to_owned).collect();
            TestRun { nextest_profile: profile, args }.step(nextest).command_line()
        };
        assert_eq!(line(true, Some("ci"), ""), "cargo nextest run --workspace --profile=ci");
        assert_eq!(line(true, None, "-p x name"), "cargo nextest run -p x name");
        assert_eq!(line(false, None, "name"), "cargo test --workspace --lib --bins --tests name");
        assert_eq!(line(false, Some("ci"), "--package=x --lib"), "cargo test --package=x --lib");
    }

    #[test]
    fn binaries_are_built_for_the_tests_that_start_them() {
        for (args, expected) in
            [("", true), ("name", true), ("-p spillway-tests", true), ("-p spillway-core", false)]
        {
            let args = args.split_whitespace().map(str::to_owned).collect();
            assert_eq!(TestRun { nextest_profile: None, args }.starts_binaries(), expected);
        }
    }
}
