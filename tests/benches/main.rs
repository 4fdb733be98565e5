//! The benches: `cargo xtask bench NAME.. [--quick] [--traces DIR]`; without a name it lists them.
//!
//! Each bench is a module with one function, listed in [`BENCHES`]. It prints one JSON object a line on stdout:
//! `{"bench","metric","value","unit","peer","peer_value","ratio"}`, the median of its runs, with the peer (what it
//! is compared to, if anything) measured in the same run. Talk goes to stderr.

mod admission;
mod clock;
mod disk;
mod dispatch;
mod focus;
mod fragmentation;
mod ledger;
mod planner_scale;
mod report;
mod rollup;
mod slurm;
mod starburst;
mod submit;
mod throughput;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::report::{Measurement, print};

/// The allocator of the broker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How big a bench may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Small enough that each bench ends within a minute.
    pub(crate) quick: bool,
    /// The folder with recorded traces.
    pub(crate) traces: Option<PathBuf>,
}

/// One bench: its name, what it measures in a sentence, and the function that does.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Settings) -> Result<Vec<Measurement>>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "disk",
        about: "durable appends a second of this machine's disk: the ceiling of whatever acknowledges one by one",
        run: disk::run,
    },
    Bench {
        name: "submit",
        about: "durable submissions a second through HTTP with 1, 16 and 256 clients, on both databases",
        run: submit::run,
    },
    Bench {
        name: "dispatch",
        about: "from the call of the command line to the start of the process on an idle node",
        run: dispatch::run,
    },
    Bench {
        name: "throughput",
        about: "tasks a second: an array of 10,000 times `true` through one agent",
        run: throughput::run,
    },
    Bench {
        name: "ledger",
        about: "usage slices a second posted durably on SQLite, as the journal grows, and the verification of it",
        run: ledger::run,
    },
    Bench {
        name: "focus",
        about: "the charges of a replayed trace as FOCUS: rows, seconds, megabytes, and what the validator says",
        run: focus::run,
    },
    Bench {
        name: "rollup",
        about: "a report by group, site and month over up to 10 million slices of use",
        run: rollup::run,
    },
    Bench {
        name: "admission",
        about: "one attempt asked of every limit of its group and of the seven above it, and held",
        run: admission::run,
    },
    Bench {
        name: "fragmentation",
        about: "accelerator share that cannot be given out when fractions and gangs fill a cluster",
        run: fragmentation::run,
    },
    Bench {
        name: "planner-scale",
        about: "one new job and a whole plan of 100,000 jobs on up to 62,500 nodes",
        run: planner_scale::run,
    },
    Bench {
        name: "starburst",
        about: "GPU-hours in the cloud at the same average wait: the planner, Starburst and other schedulers",
        run: starburst::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            xtask::step::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let (names, settings) = parse(args)?;
    if names.is_empty() {
        for bench in BENCHES {
            xtask::step::say(&format!("{:<16} {}", bench.name, bench.about));
        }
        return Ok(());
    }
    // All names first: a slip in the last one should not cost the minutes of those before it.
    let benches = names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    for bench in benches {
        let measurements =
            (bench.run)(&settings).with_context(|| format!("the bench `{}` failed", bench.name))?;
        for measurement in &measurements {
            print(bench.name, measurement)?;
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Bench> {
    let known = || BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>().join(", ");
    BENCHES
        .iter()
        .find(|bench| bench.name == name)
        .with_context(|| format!("no bench `{name}`; there are: {}", known()))
}

fn parse(args: &[String]) -> Result<(Vec<String>, Settings)> {
    let mut names = Vec::new();
    let mut settings = Settings::default();
    for arg in args {
        match (arg.as_str(), arg.strip_prefix("--traces=")) {
            ("--quick", _) => settings.quick = true,
            (_, Some(dir)) => settings.traces = Some(PathBuf::from(dir)),
            (flag, None) if flag.starts_with('-') => {
                bail!("unknown flag `{flag}`; there are --quick, --traces=DIR")
            }
            (name, None) => names.push(name.to_owned()),
        }
    }
    Ok((names, settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags_are_told_apart() {
        let parse = |line: &str| parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let (names, settings) = parse("a --quick b --traces=dir").unwrap();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(settings, Settings { quick: true, traces: Some(PathBuf::from("dir")) });
        assert!(parse("a --fast").is_err());
    }

    #[test]
    fn an_unknown_bench_is_refused_with_the_names_there_are() {
        let error = find("moon").map(|bench| bench.name).expect_err("there is none").to_string();
        assert!(error.contains("`moon`") && error.contains("disk"), "{error}");
    }
}
