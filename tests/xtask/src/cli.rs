//! The command line of `cargo xtask`, parsed into a [`Request`]. No flag is guessed: what is unknown is refused.

use std::fmt;
use std::path::PathBuf;

/// What is printed when the command line is wrong, and by `help`.
pub const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci                                      everything a change must pass: format, lints, docs, all tests
  test [--quick] [ARGS..]                 set up, then all tests; ARGS go to the test runner.
                                          --quick: for machines without PostgreSQL; says what it leaves out
  setup                                   install what the tests need (Debian packages), if missing
  demo [ARGS..]                           build, then run `spillway demo ARGS`
  bench [NAME..] [--quick] [--traces DIR] run benches, one JSON object a line; without a name, list them
  help                                    this text";

/// The names of all subcommands, in the order of [`USAGE`].
pub const COMMANDS: [&str; 6] = ["ci", "test", "setup", "demo", "bench", "help"];

/// How much the tests may ask of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A test that misses something it needs fails.
    Full,
    /// A test that misses something it needs says so and passes.
    Quick,
}

/// One parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Everything a change must pass.
    Ci,
    /// All tests.
    Test {
        /// What the machine can be asked for.
        profile: Profile,
        /// Passed on to the test runner.
        args: Vec<String>,
    },
    /// Install what the tests need.
    Setup,
    /// Build and run the demo.
    Demo {
        /// Passed on to `spillway demo`.
        args: Vec<String>,
    },
    /// Run benches.
    Bench(BenchRequest),
    /// Print the usage.
    Help,
}

/// Which benches to run, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BenchRequest {
    /// Names of benches; none lists them.
    pub names: Vec<String>,
    /// Smaller sizes, so that it ends within a minute.
    pub quick: bool,
    /// The folder with recorded traces, for the benches that replay one.
    pub traces: Option<PathBuf>,
}

/// Why a command line was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl Request {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// An unknown or missing subcommand, an unknown flag, or an argument where none is taken.
    pub fn parse(args: &[String]) -> Result<Self, UsageError> {
        let Some((command, rest)) = args.split_first() else {
            return Err(UsageError("a command is missing".to_owned()));
        };
        match command.as_str() {
            "ci" => no_arguments(command, rest).map(|()| Self::Ci),
            "setup" => no_arguments(command, rest).map(|()| Self::Setup),
            "help" | "--help" | "-h" => Ok(Self::Help),
            "demo" => Ok(Self::Demo { args: rest.to_vec() }),
            "test" => Ok(parse_test(rest)),
            "bench" => parse_bench(rest).map(Self::Bench),
            unknown => Err(UsageError(format!("unknown command `{unknown}`"))),
        }
    }
}

fn no_arguments(command: &str, rest: &[String]) -> Result<(), UsageError> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => Err(UsageError(format!("`{command}` takes no argument, but got `{extra}`"))),
    }
}

fn parse_test(rest: &[String]) -> Request {
    match rest.split_first() {
        Some((first, args)) if first == "--quick" => {
            Request::Test { profile: Profile::Quick, args: args.to_vec() }
        }
        _ => Request::Test { profile: Profile::Full, args: rest.to_vec() },
    }
}

fn parse_bench(rest: &[String]) -> Result<BenchRequest, UsageError> {
    let mut request = BenchRequest::default();
    let mut args = rest.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => request.quick = true,
            "--traces" => {
                let dir = args.next().ok_or_else(|| UsageError("`--traces` needs a folder".to_owned()))?;
                request.traces = Some(PathBuf::from(dir));
            }
            flag if flag.starts_with('-') => {
                return Err(UsageError(format!("`bench` knows no flag `{flag}`")));
            }
            name => request.names.push(name.to_owned()),
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, UsageError> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Request::parse(&args)
    }

    #[test]
    fn right_lines_are_understood() {
        let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let cases = [
            ("ci", Request::Ci),
            ("setup", Request::Setup),
            ("help", Request::Help),
            ("test", Request::Test { profile: Profile::Full, args: Vec::new() }),
            (
                "test --quick -p spillway-core",
                Request::Test { profile: Profile::Quick, args: strings(&["-p", "spillway-core"]) },
            ),
            (
                "test -p x --quick",
                Request::Test { profile: Profile::Full, args: strings(&["-p", "x", "--quick"]) },
            ),
            ("demo --nodes 3", Request::Demo { args: strings(&["--nodes", "3"]) }),
            (
                "bench submit --quick ledger --traces dir",
                Request::Bench(BenchRequest {
                    names: strings(&["submit", "ledger"]),
                    quick: true,
                    traces: Some(PathBuf::from("dir")),
                }),
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn wrong_lines_are_refused_with_the_word_that_is_wrong() {
        let cases = [
            ("", "missing"),
            ("tests", "`tests`"),
            ("ci --fast", "`--fast`"),
            ("setup now", "`now`"),
            ("bench --slow", "`--slow`"),
            ("bench --traces", "`--traces`"),
        ];
        for (line, word) in cases {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn the_usage_names_every_command_and_every_command_is_known() {
        for command in COMMANDS {
            assert!(USAGE.contains(&format!("\n  {command} ")), "{command} is not in the usage");
            assert!(parse(command).is_ok(), "{command} is not parsed");
        }
    }
}
