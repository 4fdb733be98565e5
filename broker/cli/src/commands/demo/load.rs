//! The jobs of the demo: real programs, small ones. Sleeping stands for what a GPU would do; the rest is
//! computed.

use spillway_api::v1::{CheckpointFile, JobFile, ResourcesFile, Run, Scalar, WhereFile};

use super::stage::{DGX_SITE, EU_JURISDICTION};

/// A group of the demo, with its budget in dollars and the user who submits for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenant {
    pub group: &'static str,
    pub budget: &'static str,
    pub user: &'static str,
}

/// Who submits.
pub(super) const TENANTS: [Tenant; 3] = [
    Tenant { group: "vision", budget: "40", user: "mina" },
    Tenant { group: "language", budget: "60", user: "theo" },
    Tenant { group: "robotics", budget: "10", user: "jin" },
];

/// How a job is meant to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// With code 0.
    Succeed,
    /// With another code.
    Fail,
    /// Before it begins: its budget could never pay it.
    BeRefused,
    /// By a person, while it runs.
    BeCancelled,
}

/// One job of the load.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub file: JobFile,
    pub meant: Meant,
}

impl Piece {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.file.name.as_deref().unwrap_or_default()
    }

    /// Who pays.
    pub(super) fn group(&self) -> &str {
        self.file.group.as_deref().unwrap_or_default()
    }
}

/// Says where it is, and computes something that can be checked.
const BEGIN: &str = r#"echo "$SPILLWAY_JOB_ID rank $SPILLWAY_NODE_RANK of $SPILLWAY_NODE_COUNT on $SPILLWAY_GPUS GPUs ($CUDA_VISIBLE_DEVICES)"
seq 1 20000 | sha256sum"#;
/// The rest of a program that ends well.
const END: &str = r#"seq 1 100000 | awk '{ sum += $1 } END { printf "loss %d\n", sum % 997 }'"#;
/// Runs until it is asked to stop.
const UNTIL_STOPPED: &str =
    "trap 'echo \"stopping: checkpoint written\"; exit 143' TERM\nwhile :; do sleep 0.1; done";
/// Asks for what is not there.
const MISSING: &str = "sleep 1\necho 'reading shard 7'\ncat shard-0007.bin || exit 3";

/// Builds one job; times are in seconds.
struct Draft(Piece);

impl Draft {
    fn new(group: &str, name: &str, gpus: Option<&str>, seconds: u32) -> Self {
        let file = JobFile {
            name: Some(name.to_owned()),
            group: Some(group.to_owned()),
            run: Some(Run::Shell(format!("{BEGIN}\nsleep {seconds}\n{END}"))),
            resources: gpus.map(|gpus| ResourcesFile { gpus: Some(gpus.into()), ..ResourcesFile::default() }),
            time_limit: Some("1m".into()),
            expected: Some(Scalar(format!("{}s", seconds + 1))),
            checkpoint: Some(CheckpointFile { grace: Some("2s".into()), ..CheckpointFile::default() }),
            ..JobFile::default()
        };
        Self(Piece { file, meant: Meant::Succeed })
    }

    fn nodes(mut self, nodes: u32) -> Self {
        self.0.file.nodes = Some(nodes);
        self
    }

    fn residency(mut self, jurisdiction: &str) -> Self {
        self.0.file.placement =
            Some(WhereFile { residency: vec![jurisdiction.to_owned()], ..WhereFile::default() });
        self
    }

    /// It would rather wait for the machines here than pay for the cloud.
    fn patient(mut self) -> Self {
        self.0.file.placement = Some(WhereFile { max_wait: Some("5m".into()), ..WhereFile::default() });
        self
    }

    fn days(mut self, time: &str) -> Self {
        (self.0.file.time_limit, self.0.file.expected) = (Some(time.into()), None);
        self.0.meant = Meant::BeRefused;
        self
    }

    fn running(mut self, program: &str, meant: Meant) -> Self {
        self.0.file.run = Some(Run::Shell(format!("{BEGIN}\n{program}")));
        self.0.meant = meant;
        self
    }
}

/// The whole load, in the order of submission. The gang fills the DGX nodes first, what comes then waits for
/// them as long as that is worth it or as its user says, and the rest spills into the cloud.
pub(super) fn load() -> Vec<Piece> {
    let mut drafts = vec![
        Draft::new("vision", "pretrain-2x8", Some("H100:8"), 3).nodes(2),
        Draft::new("robotics", "render-1", Some("RTX4090:1"), 2),
        Draft::new("robotics", "render-2", Some("RTX4090:1"), 2),
        Draft::new("robotics", "world-model", Some("H100:8"), 0).nodes(2).days("1d"),
        Draft::new("language", "finetune-1", Some("H100:8"), 3).patient(),
        Draft::new("language", "finetune-2", Some("H100:8"), 3).patient(),
        Draft::new("language", "finetune-3", Some("H100:8"), 3),
        Draft::new("vision", "patient-data", Some("H100:1"), 2).residency(EU_JURISDICTION),
        Draft::new("robotics", "broken-input", Some("H100:1"), 1).running(MISSING, Meant::Fail),
        Draft::new("language", "search", Some("H100:1"), 5).running(UNTIL_STOPPED, Meant::BeCancelled),
    ];
    for index in 1..=3 {
        drafts.push(Draft::new("vision", &format!("resize-{index}"), None, 1));
    }
    for index in 1..=8 {
        drafts.push(Draft::new("vision", &format!("eval-{index}"), Some("H100:1"), 2).patient());
    }
    for index in 1..=4 {
        drafts.push(Draft::new("language", &format!("embed-{index}"), Some("H100:1"), 3));
    }
    for index in 1..=3 {
        drafts.push(Draft::new("robotics", &format!("policy-{index}"), Some("H100:1"), 1).patient());
    }
    drafts.into_iter().map(|draft| draft.0).collect()
}

/// A job that says when it began, in nanoseconds since 1970, on an idle node.
pub(super) fn probe(index: usize) -> JobFile {
    let on = WhereFile { allow: vec![DGX_SITE.to_owned()], ..WhereFile::default() };
    let Draft(piece) = Draft::new("vision", &format!("dispatch-probe-{index}"), Some("H100:1"), 1);
    let run = Run::Program(vec!["date".to_owned(), "+%s%N".to_owned()]);
    JobFile { run: Some(run), placement: Some(on), ..piece.file }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_api::v1::JobDefaults;

    #[test]
    fn every_job_is_right_and_every_ending_is_there() {
        let load = load();
        assert!(load.len() >= 24, "{}", load.len());
        for piece in &load {
            let spec = piece.file.clone().into_spec(&JobDefaults::default());
            let spec = spec.unwrap_or_else(|error| panic!("{}: {error}", piece.name()));
            assert!(TENANTS.iter().any(|tenant| tenant.group == spec.group.as_str()), "{}", spec.group);
        }
        let mut names: Vec<&str> = load.iter().map(Piece::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), load.len(), "two jobs have one name");
        let count = |meant: Meant| load.iter().filter(|piece| piece.meant == meant).count();
        assert_eq!([Meant::Fail, Meant::BeRefused, Meant::BeCancelled].map(count), [1, 1, 1]);
        assert!(probe(1).into_spec(&JobDefaults::default()).is_ok());
    }
}
