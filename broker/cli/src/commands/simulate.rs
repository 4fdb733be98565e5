//! `spillway simulate`: a trace against policies, with the real core, planner and ledger under a virtual clock.
//!
//! Arguments are resolved once to a [`Plan`]; everything that can be refused is refused then, output files that
//! cannot be written included. Then every run is done in turn. Each finished run is kept in the state file, keyed by
//! a digest of all that it depends on, so that an interrupted comparison goes on where it was. With several federations
//! every policy runs in each of them, so that one table answers what more machines would have cost.

mod files;
mod interrupt;
mod kept;
mod plan;
mod progress;
mod runs;
mod table;

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use serde::Serialize;
use spillway_sim::baselines::Fit;
use spillway_sim::report::{Outcome, chart, placements_csv};

use self::files::Target;
use self::kept::Kept;
use self::plan::Plan;
use self::runs::{Ending, Finished};
use crate::failure::{ERROR, Failure};
use crate::output::Output;

/// The exit code after Ctrl-C: 128 and the number of SIGINT, as a shell has it.
const INTERRUPTED: u8 = 130;
/// Where finished runs are kept after Ctrl-C, unless `--state` names another file.
const STATE_FILE: &str = "spillway-simulate.state.json";

/// Shown below the flags.
pub(crate) const EXAMPLES: &str = "\
Examples:
  spillway simulate --generate poisson --jobs 500 --load 1.0 --nodes 4 --policy starburst --policy cost-first
  spillway simulate --trace quarter.csv --federation now.toml --policy policy.toml --svg quarter.svg
  spillway simulate --trace quarter.csv --federation now.toml --federation more.toml --policy policy.toml
  spillway simulate --trace sacct.txt --nodes 48 --policy policy.toml --match-wait 0.2 --placements out.csv
  spillway simulate --resume spillway-simulate.state.json

A trace is CSV with job_id,group,arrival_hr,runtime_hr,gpus (where a job said so, also
estimate_hr, class, deadline_hr, inputs, checkpoint_hr, spot), the output of
`sacct --allusers --parsable2 --format=JobID,Account,Submit,Start,End,ElapsedRaw,AllocTRES,State,TimelimitRaw`,
or the broker's journal as JSON:
`sqlite3 -json spillway.db \"SELECT at_ms, body FROM journal ORDER BY seq\"`.

What would two more machines have cost last quarter? Copy the federation file, raise `count` in
the copy, and give both: the table has a row for each. The difference of CLOUD $ is what the two
would have saved, that of AVG WAIT how much less jobs would have waited; what the two cost in a
quarter is yours to set against it. broker/sim/examples/federation.toml has all that a federation
file may say: spot machines, prices and capacity that change, data and links, and faults.

Interrupting keeps what is complete; --resume, or the same command with --state, goes on from there.";

/// The flags of `spillway simulate`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SimulateArgs {
    /// Replay this trace: CSV, Slurm accounting, or a broker's journal
    #[arg(long, value_name = "FILE", help_heading = "What runs")]
    pub trace: Option<PathBuf>,
    /// Make the jobs up from the seed
    #[arg(long, value_enum, value_name = "HOW", conflicts_with = "trace", help_heading = "What runs")]
    pub generate: Option<Generate>,
    /// How many jobs are made up
    #[arg(long, value_name = "N", help_heading = "What runs")]
    pub jobs: Option<usize>,
    /// How much they ask for; 1.0 is 90 % of the GPUs: 16 of `poisson` an hour on 4 x 8 GPUs [default: 1.0]
    #[arg(long, value_name = "LOAD", allow_negative_numbers = true, help_heading = "What runs")]
    pub load: Option<f64>,
    /// The trace whose jobs `bootstrap` draws
    #[arg(long, value_name = "FILE", help_heading = "What runs")]
    pub bootstrap: Option<PathBuf>,
    /// Make estimates wrong by a lognormal factor of this sigma
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true, help_heading = "What runs")]
    pub noise: Option<f64>,
    /// Sites, pools, nodes, clouds and groups, in TOML; may be repeated to compare them
    #[arg(long, value_name = "FILE", help_heading = "Where it runs")]
    pub federation: Vec<PathBuf>,
    /// Instead: one site of so many nodes, and an unlimited cloud at 2.50 a GPU-hour that starts at once
    #[arg(long, value_name = "N", conflicts_with = "federation", help_heading = "Where it runs")]
    pub nodes: Option<u32>,
    /// GPUs of each of these nodes [default: 8]
    #[arg(long, value_name = "G", requires = "nodes", help_heading = "Where it runs")]
    pub gpus_per_node: Option<u32>,
    /// A policy file, a shipped policy (`spillway policy list`), or no-wait, constant, starburst, easy, plan-on-arrival; may be repeated [default: the default policy]
    #[arg(long, value_name = "P", help_heading = "Who decides")]
    pub policy: Vec<String>,
    /// Set each policy's price of waiting so that the average wait is at most this, at the least cost
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true, help_heading = "Who decides")]
    pub match_wait: Option<f64>,
    /// Hours a job waits for each GPU-hour, for starburst, easy and plan-on-arrival
    #[arg(long, value_name = "HOURS", default_value = "0.076", help_heading = "Who decides")]
    pub compute_wait: String,
    /// Hours every job waits, for constant
    #[arg(long, value_name = "HOURS", default_value = "1", help_heading = "Who decides")]
    pub constant_wait: String,
    /// Most jobs that wait, for starburst; the last one of a longer queue leaves [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Who decides")]
    pub max_queue: Option<usize>,
    /// Which node with room a job takes, for the named schedulers; Starburst was published with best for synthetic jobs
    #[arg(long, value_enum, value_name = "NODE", default_value = "first", help_heading = "Who decides")]
    pub fit: FitWord,
    /// Jobs at either end of the trace that averages leave out
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "What comes out")]
    pub warmup: usize,
    /// Write where every job ran, as CSV; with several policies, one file for each: OUT-POLICY.csv
    #[arg(long, value_name = "OUT.csv", help_heading = "What comes out")]
    pub placements: Option<PathBuf>,
    /// Write a chart of load, queue, spend and wait over time
    #[arg(long, value_name = "OUT.svg", help_heading = "What comes out")]
    pub svg: Option<PathBuf>,
    /// The same seed gives the same result
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Keep finished runs in this file, and do not repeat those that are there
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Go on with the simulation of this state file; no other flag is needed
    #[arg(long, value_name = "STATE", conflicts_with_all = ["trace", "generate", "state"])]
    pub resume: Option<PathBuf>,
}

/// How jobs are made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generate {
    /// Poisson arrivals, exponential runtimes of an hour, 1 to 8 GPUs
    Poisson,
    /// Jobs of a trace drawn anew, with Poisson arrivals
    Bootstrap,
}

/// Which of the nodes with room a job takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitWord {
    /// The first
    First,
    /// The one with the least room
    Best,
}

impl From<FitWord> for Fit {
    fn from(word: FitWord) -> Self {
        match word {
            FitWord::First => Self::First,
            FitWord::Best => Self::Best,
        }
    }
}

/// The words of a command that was kept, as clap reads them.
#[derive(Debug, Parser)]
#[command(name = "simulate", no_binary_name = true)]
struct Words {
    #[command(flatten)]
    args: SimulateArgs,
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

/// One of several federations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FederationGpus {
    /// The name of its file.
    pub name: String,
    /// GPUs of its nodes.
    pub gpus: u32,
}

/// All that is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Jobs of the trace.
    pub jobs: usize,
    /// What was left out of it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// GPUs of the nodes; of the first federation where there are several.
    pub gpus: u32,
    /// Where there are several federations: their names and the GPUs of their nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub federations: Vec<FederationGpus>,
    /// The seed.
    pub seed: u64,
    /// Jobs left out of averages at either end.
    pub warmup: usize,
    /// The wait that was to be matched, in hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_wait_hours: Option<f64>,
    /// One for each policy, in the order they were given.
    pub policies: Vec<Finished>,
}

/// Simulates.
///
/// # Errors
/// [`Failure`] where an input is wrong, an output cannot be written, or a job cannot run anywhere.
pub(super) fn run(args: SimulateArgs, output: &mut Output) -> Result<u8, Failure> {
    let (args, words, mut kept) = kept(args)?;
    let plan = Plan::resolve(&args)?;
    let targets = Targets::open(&args, &plan)?;
    plan.said.iter().for_each(|line| output.talk(line));
    let stop = interrupt::listen()?;
    kept.words = words;
    let ending = runs::run(&plan, &mut kept, &stop);
    let (finished, code) = match ending? {
        Ending::Complete(finished) => (finished, 0),
        Ending::Interrupted(finished) => {
            let path = args.state.unwrap_or_else(|| PathBuf::from(STATE_FILE));
            kept.write(&path)?;
            let path = path.display();
            output.talk(&format!(
                "interrupted: {} of {} policies are complete\ngo on with: spillway simulate --resume {path}",
                finished.len(),
                plan.entries.len()
            ));
            (finished, INTERRUPTED)
        }
    };
    let broken = finished.iter().any(|run| run.metrics.violations > 0);
    let code = if broken && code == 0 { ERROR } else { code };
    let outcomes: Vec<(&str, &Outcome)> =
        finished.iter().map(|run| (run.policy.as_str(), run.outcome())).collect();
    if !finished.is_empty() {
        targets.write(&plan, &outcomes)?;
        let (wait, left_out) = (plan.match_wait, plan.left_out.clone());
        let (jobs, gpus, seed, warmup) = (plan.jobs.len(), plan.gpus(), plan.seed, plan.warmup);
        let federations = if plan.places.len() > 1 { plan.federations() } else { vec![] };
        let report = Report {
            jobs,
            left_out,
            gpus,
            federations,
            seed,
            warmup,
            match_wait_hours: wait,
            policies: finished,
        };
        output.show(&report, table::report);
    }
    Ok(code)
}

/// The arguments, the words that gave them, and what is kept of earlier runs.
fn kept(args: SimulateArgs) -> Result<(SimulateArgs, Vec<String>, Kept), Failure> {
    let Some(path) = &args.resume else {
        let kept = match &args.state {
            Some(path) if path.exists() => Kept::read(path)?,
            Some(path) => Kept::at(path),
            None => Kept::default(),
        };
        return Ok((args, own_words(), kept));
    };
    let kept = Kept::read(path)?;
    let words = kept.words.clone();
    let parsed = Words::try_parse_from(&words).map_err(|error| {
        let problem = format!("the command in it cannot be read: {error}");
        Failure::usage("--resume", &path.display().to_string(), problem)
    })?;
    Ok((SimulateArgs { state: Some(path.clone()), ..parsed.args }, words, kept))
}

/// The words of this process behind `simulate`, without those that say where the state is.
fn own_words() -> Vec<String> {
    let words = std::env::args().skip_while(|word| word != "simulate").skip(1);
    words.collect()
}

/// Where files go; each is known to be writable.
#[derive(Debug)]
struct Targets {
    placements: Vec<Target>,
    svg: Option<Target>,
}

impl Targets {
    fn open(args: &SimulateArgs, plan: &Plan) -> Result<Self, Failure> {
        let names: Vec<&str> = plan.entries.iter().map(|entry| entry.name.as_str()).collect();
        let placements = match &args.placements {
            None => vec![],
            Some(path) => {
                let paths = files::one_for_each(path, &names);
                paths.iter().map(|path| Target::open("--placements", path)).collect::<Result<_, _>>()?
            }
        };
        let svg = args.svg.as_ref().map(|path| Target::open("--svg", path)).transpose()?;
        if let Some(path) = &args.state {
            drop(Target::open("--state", path)?);
        }
        Ok(Self { placements, svg })
    }

    fn write(self, plan: &Plan, outcomes: &[(&str, &Outcome)]) -> Result<(), Failure> {
        for (target, (_, outcome)) in self.placements.into_iter().zip(outcomes) {
            target.write(&placements_csv(&plan.jobs, &outcome.placements))?;
        }
        match self.svg {
            Some(target) => {
                let levels: Vec<u32> = plan.places.iter().map(|place| place.setting.gpus).collect();
                target.write(&chart(&plan.title, &levels, outcomes))
            }
            None => Ok(()),
        }
    }
}
