//! Jobs that write down what they do, so that an auditor can compare their own words with everybody else's.
//!
//! Each copy of a task's part appends lines to the job's evidence file, `WORD ATTEMPT TASK RANK PID UPTIME`: a
//! `start`, a `beat` ten times a second, and an `end` before it exits. The time is that of CLOCK_BOOTTIME in seconds with
//! two decimals, as the kernel counts it for all of them.

use std::path::Path;

use spillway_api::v1::{CheckpointFile, JobFile, JobState, ResourcesFile, RetryFile, Run, WhereFile};

/// The variable that names the evidence file.
const EVIDENCE: &str = "EVIDENCE";

/// `$1` is how often it beats, or `told`: until a file appears. `$2` is what it exits with.
const SCRIPT: &str = r#"
say() {
    read -r up _ </proc/uptime
    echo "$1 $SPILLWAY_ATTEMPT_ID $SPILLWAY_TASK_INDEX $SPILLWAY_NODE_RANK $$ $up" >>"$EVIDENCE"
}
say start
beats=0
while [ "$beats" != "$1" ] && ! [ -e "$EVIDENCE.finish" ]; do
    sleep 0.1
    say beat
    [ "$1" = told ] || beats=$((beats + 1))
done
say end
exit "$2"
"#;

/// How a job takes being asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manners {
    /// It ends.
    Polite,
    /// It goes on until it is killed.
    Stubborn,
}

/// A job to submit.
#[derive(Debug, Clone)]
pub struct Work {
    pub(crate) name: String,
    pub(crate) outcome: JobState,
    pub(crate) restartable: bool,
    beats: String,
    code: u8,
    manners: Manners,
    site: Option<String>,
    pub(crate) nodes: u32,
    array: Option<String>,
    lease: String,
    class: Option<String>,
    expected: String,
    checkpoints: Option<String>,
    inputs: Vec<String>,
    check: String,
}

impl Work {
    /// A job of that name on one GPU, of one second, with a lease of two seconds and a grace of one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            outcome: JobState::Succeeded,
            restartable: true,
            beats: "10".to_owned(),
            code: 0,
            manners: Manners::Polite,
            site: None,
            nodes: 1,
            array: None,
            lease: "2s".to_owned(),
            class: None,
            expected: "2s".to_owned(),
            checkpoints: None,
            inputs: vec![],
            check: String::new(),
        }
    }

    /// Only there.
    #[must_use]
    pub fn at(self, site: &str) -> Self {
        Self { site: Some(site.to_owned()), ..self }
    }

    /// It goes on until [`super::Federation::finish`].
    #[must_use]
    pub fn until_told(self) -> Self {
        Self { beats: "told".to_owned(), ..self }
    }

    /// It does not end when it is asked to.
    #[must_use]
    pub fn stubborn(self) -> Self {
        Self { manners: Manners::Stubborn, ..self }
    }

    /// It needs that many nodes at the same time.
    #[must_use]
    pub fn on_nodes(self, nodes: u32) -> Self {
        Self { nodes, ..self }
    }

    /// It has a task for each of these indexes, for example `1-4`.
    #[must_use]
    pub fn array(self, indexes: &str) -> Self {
        Self { array: Some(indexes.to_owned()), ..self }
    }

    /// Its lease.
    #[must_use]
    pub fn lease(self, lease: &str) -> Self {
        Self { lease: lease.to_owned(), ..self }
    }

    /// It is of this class of the policy that every federation has: `urgent` or `patient`.
    #[must_use]
    pub fn class(self, class: &str) -> Self {
        Self { class: Some(class.to_owned()), ..self }
    }

    /// How long it says that it runs.
    #[must_use]
    pub fn expected(self, expected: &str) -> Self {
        Self { expected: expected.to_owned(), ..self }
    }

    /// It says that it writes a checkpoint so often.
    #[must_use]
    pub fn checkpoints(self, every: &str) -> Self {
        Self { checkpoints: Some(every.to_owned()), ..self }
    }

    /// It reads this dataset, and fails unless this command of the shell is content with it.
    #[must_use]
    pub fn reading(self, dataset: &str, check: &str) -> Self {
        Self { inputs: vec![dataset.to_owned()], check: format!("{check} || exit 9\n"), ..self }
    }

    /// It must never start twice.
    #[must_use]
    pub fn only_once(self) -> Self {
        Self { restartable: false, ..self }
    }

    /// It exits with this code.
    #[must_use]
    pub fn exiting(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// What the auditor expects of it at the end, where that is not success.
    #[must_use]
    pub fn expecting(self, outcome: JobState) -> Self {
        Self { outcome, ..self }
    }

    /// The job file that says so.
    pub(crate) fn job_file(&self, evidence: &Path) -> JobFile {
        let trap = if self.manners == Manners::Stubborn { "trap '' TERM\n" } else { "" };
        let words = [
            "sh",
            "-c",
            &format!("{trap}{}{SCRIPT}", self.check),
            &self.name,
            &self.beats,
            &self.code.to_string(),
        ];
        let text = |text: &str| Some(text.into());
        JobFile {
            name: Some(self.name.clone()),
            group: Some(super::GROUP.to_owned()),
            run: Some(Run::Program(words.map(str::to_owned).into())),
            resources: Some(ResourcesFile { gpus: text("H100:1"), ..ResourcesFile::default() }),
            placement: Some(WhereFile { allow: self.site.iter().cloned().collect(), ..WhereFile::default() }),
            checkpoint: Some(CheckpointFile {
                signal: None,
                grace: text("1s"),
                every: self.checkpoints.as_deref().map(Into::into),
            }),
            retry: Some(RetryFile { on_loss: Some(self.restartable), ..RetryFile::default() }),
            env: [(EVIDENCE.to_owned(), evidence.display().to_string())].into(),
            lease: text(&self.lease),
            nodes: Some(self.nodes),
            array: self.array.as_deref().map(Into::into),
            time_limit: text("2m"),
            expected: text(&self.expected),
            class: self.class.clone(),
            inputs: self.inputs.clone(),
            ..JobFile::default()
        }
    }
}
