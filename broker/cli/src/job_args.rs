//! The flags of `run`: the same as the fields of a job file, under the same names.

use std::collections::BTreeMap;

use clap::Args;
use spillway_api::v1::{CheckpointFile, JobFile, ResourcesFile, RetryFile, Run, Scalar, WhereFile};

use crate::failure::Failure;

/// What a job file says, as flags. Values are checked with the job, so that a flag and a field give one error.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct JobArgs {
    /// What people call it [default: the program's name]
    #[arg(long, help_heading = "Job")]
    pub name: Option<String>,
    /// Who pays [default: the user's group]
    #[arg(long, help_heading = "Job")]
    pub group: Option<String>,
    /// Run in this container image
    #[arg(long, help_heading = "Job")]
    pub image: Option<String>,
    /// Set a variable; can be repeated
    #[arg(long, short, value_name = "NAME=VALUE", help_heading = "Job")]
    pub env: Vec<String>,
    /// One task for each index, for example 1-10000
    #[arg(long, value_name = "FIRST-LAST", help_heading = "Job")]
    pub array: Option<String>,
    /// End it after this long [default: 1h]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Job")]
    pub time_limit: Option<String>,
    /// How long it is thought to run [default: the time limit]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Job")]
    pub expected: Option<String>,
    /// By when it should have ended: a length of time like 6h, or an instant like 2026-11-21T18:00:00Z
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true, help_heading = "Job")]
    pub deadline: Option<String>,
    /// The class that the broker's policy has rules for [default: the policy's own]
    #[arg(long, value_name = "CLASS", help_heading = "Job")]
    pub class: Option<String>,

    /// GPUs of each node: 8, H100:8, 80GB+:2, A100:0.25, mig-1g.10gb:1
    #[arg(long, allow_hyphen_values = true, help_heading = "Resources")]
    pub gpus: Option<String>,
    /// CPUs of each node, whole or decimal [default: 1, or 2 for each GPU]
    #[arg(long, allow_hyphen_values = true, help_heading = "Resources")]
    pub cpus: Option<String>,
    /// Memory of each node, for example 32GB [default: 1GB, or 8GB for each GPU]
    #[arg(long, allow_hyphen_values = true, help_heading = "Resources")]
    pub memory: Option<String>,
    /// How many nodes start together [default: 1]
    #[arg(long, help_heading = "Resources")]
    pub nodes: Option<u32>,

    /// What it reads: datasets by name. Agents bring those whose copies have a source; the program finds the file in
    /// SPILLWAY_INPUT_NAME
    #[arg(long = "input", value_name = "DATASET", value_delimiter = ',', help_heading = "Where")]
    pub inputs: Vec<String>,
    /// Only these sites
    #[arg(long, value_name = "SITE", value_delimiter = ',', help_heading = "Where")]
    pub allow: Vec<String>,
    /// These sites first, where offers cost the same
    #[arg(long, value_name = "SITE", value_delimiter = ',', help_heading = "Where")]
    pub prefer: Vec<String>,
    /// Only sites in these jurisdictions
    #[arg(long, value_name = "JURISDICTION", value_delimiter = ',', help_heading = "Where")]
    pub residency: Vec<String>,
    /// Highest price per hour, for all nodes together
    #[arg(long, value_name = "PRICE", allow_hyphen_values = true, help_heading = "Where")]
    pub max_price: Option<String>,
    /// Longest wait before it leaves for the cloud
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Where")]
    pub max_wait: Option<String>,
    /// Spot capacity: never or allow [default: never]
    #[arg(long, value_name = "RULE", help_heading = "Where")]
    pub spot: Option<String>,
    /// Nodes of a gang: any, or of one interconnect domain: same-domain [default: any]
    #[arg(long, value_name = "RULE", help_heading = "Where")]
    pub interconnect: Option<String>,

    /// The signal that asks it to stop [default: SIGTERM]
    #[arg(long, help_heading = "Stopping and trying again")]
    pub signal: Option<String>,
    /// How long it has until SIGKILL [default: 10s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Stopping and trying again")]
    pub grace: Option<String>,
    /// How often it writes a checkpoint that its next try goes on from [default: a new try begins anew]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Stopping and trying again")]
    pub checkpoint_every: Option<String>,
    /// Attempts in all [default: 3]
    #[arg(long, value_name = "COUNT", help_heading = "Stopping and trying again")]
    pub max_attempts: Option<u32>,
    /// Try again after a node was lost [default: true]
    #[arg(long, value_name = "BOOL", help_heading = "Stopping and trying again")]
    pub on_loss: Option<bool>,
    /// Try again after an exit code other than 0 [default: false]
    #[arg(long, value_name = "BOOL", help_heading = "Stopping and trying again")]
    pub on_failure: Option<bool>,
    /// How long a node may run it without word from the broker [default: 60s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Stopping and trying again")]
    pub lease: Option<String>,

    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

impl JobArgs {
    /// The job file that says the same.
    pub(crate) fn into_job_file(self) -> Result<JobFile, Failure> {
        let scalar = |text: Option<String>| text.map(Scalar);
        let resources =
            ResourcesFile { gpus: scalar(self.gpus), cpus: scalar(self.cpus), memory: scalar(self.memory) };
        let placement = WhereFile {
            allow: self.allow,
            prefer: self.prefer,
            residency: self.residency,
            max_price: scalar(self.max_price),
            max_wait: scalar(self.max_wait),
            spot: self.spot,
            interconnect: self.interconnect,
        };
        let checkpoint = CheckpointFile {
            signal: scalar(self.signal),
            grace: scalar(self.grace),
            every: scalar(self.checkpoint_every),
        };
        let retry =
            RetryFile { max_attempts: self.max_attempts, on_loss: self.on_loss, on_failure: self.on_failure };
        Ok(JobFile {
            name: self.name,
            group: self.group,
            run: Some(Run::Program(self.command)),
            image: self.image,
            resources: said(resources),
            nodes: self.nodes,
            array: scalar(self.array),
            time_limit: scalar(self.time_limit),
            expected: scalar(self.expected),
            deadline: scalar(self.deadline),
            class: self.class,
            inputs: self.inputs,
            placement: said(placement),
            checkpoint: said(checkpoint),
            retry: said(retry),
            env: variables(&self.env)?,
            lease: scalar(self.lease),
        })
    }
}

/// A part of a job file, unless it says nothing.
fn said<T: Default + PartialEq>(part: T) -> Option<T> {
    if part == T::default() { None } else { Some(part) }
}

fn variables(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    words
        .iter()
        .map(|word| {
            let (name, value) =
                word.split_once('=').ok_or_else(|| Failure::usage("--env", word, "it is not NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Ask, Cli, Command};
    use clap::Parser;

    fn args(words: &str) -> JobArgs {
        let words = ["spillway", "run"].into_iter().chain(words.split(' '));
        let Command::Ask(Ask::Run(run)) = Cli::try_parse_from(words).expect("parses").command else {
            panic!("not run")
        };
        run.job
    }

    #[test]
    fn flags_say_what_a_job_file_says() {
        let flags = args(
            "--name n --group g --image i --gpus H100:8 --cpus 0.5 --memory 32GB --nodes 2 --array 1-9 --time-limit 2h \
             --expected 1h --deadline 6h --class urgent --interconnect same-domain --allow a,b --prefer a --residency eu --max-price 25 --max-wait 5m --spot allow --signal USR1 \
             --grace 1m --max-attempts 5 --on-loss false --on-failure true --env A=1=2 --lease 30s -- python train.py",
        );
        let yaml = "{name: n, group: g, image: i, resources: {gpus: 'H100:8', cpus: 0.5, memory: 32GB}, nodes: 2, array: 1-9,
            time_limit: 2h, expected: 1h, deadline: 6h, class: urgent, where: {interconnect: same-domain, allow: [a, b], prefer: [a], residency: [eu], max_price: 25, max_wait: 5m, spot: allow},
            checkpoint: {signal: USR1, grace: 1m}, retry: {max_attempts: 5, on_loss: false, on_failure: true}, env: {A: 1=2},
            lease: 30s, run: [python, train.py]}";
        assert_eq!(flags.into_job_file().expect("a job"), JobFile::parse_yaml(yaml).expect("a job"));
    }

    #[test]
    fn silent_flags_say_nothing() {
        let plain = JobFile { run: Some(Run::Program(vec!["true".into()])), ..JobFile::default() };
        assert_eq!(args("-- true").into_job_file().expect("a job"), plain);
    }

    #[test]
    fn a_wrong_value_reaches_the_jobs_own_check() {
        let job = args("--time-limit -5m --gpus 0 -- true").into_job_file().expect("a job");
        assert_eq!(job.time_limit, Some("-5m".into()));
        let failure = args("--env FOO -- true").into_job_file().expect_err("refused");
        assert_eq!(failure.exit_code(), 2);
    }
}
