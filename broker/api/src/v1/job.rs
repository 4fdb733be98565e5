//! What the API says of jobs, their tasks and attempts, and of what the planner saw.

use serde::{Deserialize, Serialize};
use spillway_types::{
    AttemptId, AttemptState, DurationMs, Estimate, FailureReason, GroupName, HourlyRate, InstanceType, JobId,
    JobSpec, Money, NodeId, PoolName, Reason, Role, SiteKind, SiteName, TaskState, TopScope, UnixMs,
    UserName,
};

/// Where a job stands, rolled up from its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Every task that is left waits.
    Queued,
    /// An attempt is being made.
    Placing,
    /// An instance is being launched.
    Provisioning,
    /// Nodes prepare.
    Staging,
    /// A task runs.
    Running,
    /// The last parts end.
    Finishing,
    /// Every task ended with code 0. Final.
    Succeeded,
    /// Every task ended, at least one failed. Final.
    Failed,
    /// Every task ended, none failed, at least one was cancelled. Final.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Placing,
        Self::Provisioning,
        Self::Staging,
        Self::Running,
        Self::Finishing,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether nothing can happen to the job any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The state as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Placing => "placing",
            Self::Provisioning => "provisioning",
            Self::Staging => "staging",
            Self::Running => "running",
            Self::Finishing => "finishing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How many tasks of a job are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Waiting.
    #[serde(default)]
    pub queued: u64,
    /// With an attempt that holds money.
    #[serde(default)]
    pub placing: u64,
    /// With an instance being launched.
    #[serde(default)]
    pub provisioning: u64,
    /// With nodes that prepare.
    #[serde(default)]
    pub staging: u64,
    /// Running.
    #[serde(default)]
    pub running: u64,
    /// Ending.
    #[serde(default)]
    pub finishing: u64,
    /// Ended with code 0.
    #[serde(default)]
    pub succeeded: u64,
    /// Ended otherwise.
    #[serde(default)]
    pub failed: u64,
    /// Cancelled.
    #[serde(default)]
    pub cancelled: u64,
}

impl TaskCounts {
    /// Counts `tasks` more in this state.
    pub const fn add(&mut self, state: &TaskState, tasks: u64) {
        let count = match state {
            TaskState::Queued { .. } => &mut self.queued,
            TaskState::Placing { .. } => &mut self.placing,
            TaskState::Provisioning { .. } => &mut self.provisioning,
            TaskState::Staging { .. } => &mut self.staging,
            TaskState::Running { .. } => &mut self.running,
            TaskState::Finishing { .. } => &mut self.finishing,
            TaskState::Succeeded => &mut self.succeeded,
            TaskState::Failed { .. } => &mut self.failed,
            TaskState::Cancelled => &mut self.cancelled,
        };
        *count += tasks;
    }

    /// How many tasks there are.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.placing
            + self.provisioning
            + self.staging
            + self.running
            + self.finishing
            + self.queued
            + self.ended()
    }

    /// How many have ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    /// The job's state: the furthest that any task at work is; else queued while one waits; else how it ended.
    #[must_use]
    pub const fn state(&self) -> JobState {
        if self.running > 0 {
            JobState::Running
        } else if self.finishing > 0 {
            JobState::Finishing
        } else if self.staging > 0 {
            JobState::Staging
        } else if self.provisioning > 0 {
            JobState::Provisioning
        } else if self.placing > 0 {
            JobState::Placing
        } else if self.queued > 0 {
            JobState::Queued
        } else if self.failed > 0 {
            JobState::Failed
        } else if self.cancelled > 0 {
            JobState::Cancelled
        } else {
            JobState::Succeeded
        }
    }
}

/// Who keeps a job from being placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldView {
    /// Who.
    pub by: UserName,
    /// With which right: an admin's hold is released by admins only.
    pub role: Role,
    /// Since when.
    pub since: UnixMs,
}

/// One line of the list of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// The job.
    pub id: JobId,
    /// What people call it.
    pub name: String,
    /// Who pays.
    pub group: GroupName,
    /// Who submitted it.
    pub user: UserName,
    /// Where it stands.
    pub state: JobState,
    /// Why it waits, where it does.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// Who holds it, where somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldView>,
    /// Before which others somebody put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<TopScope>,
    /// Its tasks by state.
    pub tasks: TaskCounts,
    /// When it was submitted.
    pub submitted: UnixMs,
    /// When its first part ran.
    #[serde(default)]
    pub started: Option<UnixMs>,
    /// When its last task ended.
    #[serde(default)]
    pub ended: Option<UnixMs>,
    /// The sites where it runs, or ran last.
    #[serde(default)]
    pub sites: Vec<SiteName>,
    /// What has been charged for it.
    pub cost: Money,
}

/// Everything about one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its line of the list.
    pub summary: JobSummary,
    /// What was asked.
    pub spec: JobSpec,
    /// How long one task is thought to run, and how that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
    /// Its newest attempts, newest first; at most 100.
    #[serde(default)]
    pub attempts: Vec<AttemptView>,
    /// Why it failed: of the lowest task that did.
    #[serde(default)]
    pub failure: Option<FailureReason>,
    /// What the planner saw last, while a task waits or where it was placed last.
    #[serde(default)]
    pub explanation: Option<ExplanationView>,
}

/// One task of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its index.
    pub index: u32,
    /// Where it stands.
    #[serde(flatten)]
    pub state: TaskState,
    /// Attempts so far.
    pub attempts: u32,
    /// The site of its newest attempt.
    #[serde(default)]
    pub site: Option<SiteName>,
}

/// A node of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptNode {
    /// The node.
    pub node: NodeId,
    /// Its host name.
    pub hostname: String,
}

/// One try at running a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// The attempt.
    pub id: AttemptId,
    /// The task's index.
    pub task: u32,
    /// Its number at its task, from 1.
    pub number: u32,
    /// Where it stands.
    pub state: AttemptState,
    /// Its site.
    pub site: SiteName,
    /// The site's kind.
    pub kind: SiteKind,
    /// Its pool, where it has one.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// Its nodes by rank; empty while instances boot.
    #[serde(default)]
    pub nodes: Vec<AttemptNode>,
    /// The shape of its instances, on a cloud.
    #[serde(default)]
    pub instance_type: Option<InstanceType>,
    /// What it is charged per hour, all parts together.
    pub rate: HourlyRate,
    /// Why there, in one sentence.
    pub because: String,
    /// When it was placed.
    pub placed: UnixMs,
    /// When every part ran.
    #[serde(default)]
    pub started: Option<UnixMs>,
    /// When its last part ended.
    #[serde(default)]
    pub ended: Option<UnixMs>,
    /// From the task's last queueing to its placing.
    pub wait: DurationMs,
    /// What has been charged for it.
    pub cost: Money,
    /// Bytes of its inputs that agents bring from other sites to its parts, where no node has them yet.
    #[serde(default)]
    pub input_bytes: u64,
    /// Of these, what has come.
    #[serde(default)]
    pub moved_bytes: u64,
    /// How it ended, in a few words.
    #[serde(default)]
    pub end: Option<String>,
}

/// What the planner saw for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationView {
    /// Why it waits; none where it starts.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// What would have to change; present with `reason`.
    #[serde(default)]
    pub way_out: Option<String>,
    /// When its next task is planned to start.
    #[serde(default)]
    pub planned_start: Option<UnixMs>,
    /// By when it has started, or has left for a cloud: the bound that it is promised. Absent where no cloud can take it.
    #[serde(default)]
    pub bound: Option<UnixMs>,
    /// What was planned before, where its planned start became later since, and why it did.
    #[serde(default)]
    pub delay: Option<DelayView>,
    /// Its place in the queue, from 1.
    #[serde(default)]
    pub position: Option<u32>,
    /// Every place that was considered, the best first.
    #[serde(default)]
    pub candidates: Vec<CandidateView>,
}

/// A planned start that became later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayView {
    /// What was planned before.
    pub was: UnixMs,
    /// Why it is later now.
    pub why: String,
}

/// One place that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateView {
    /// Its site.
    pub site: SiteName,
    /// The pool, or the instance type.
    pub what: String,
    /// The one word: `Chosen`, `Planned`, `Dearer`, `Full`, `TooSmall` and others.
    pub verdict: String,
    /// The sentence behind the word.
    #[serde(default)]
    pub detail: String,
    /// Price per hour of all parts together.
    #[serde(default)]
    pub rate: Option<HourlyRate>,
    /// What the run is thought to cost.
    #[serde(default)]
    pub cost: Option<Money>,
    /// How long until it would start.
    #[serde(default)]
    pub wait: Option<DurationMs>,
    /// Bytes of its inputs that are not there.
    #[serde(default)]
    pub move_bytes: u64,
    /// What moving them costs, shared by the waiting jobs that read the same.
    #[serde(default)]
    pub move_cost: Option<Money>,
    /// How long they are on the way.
    #[serde(default)]
    pub move_time: Option<DurationMs>,
    /// What interruptions are thought to cost there.
    #[serde(default)]
    pub risk: Option<Money>,
    /// What was compared: the money that the run costs the organisation more, data, risk, and the price of the wait.
    #[serde(default)]
    pub total: Option<Money>,
}

/// What would be done with a job if it were submitted now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// The job, with every default filled in.
    pub spec: JobSpec,
    /// What would be held for one task: the most it can cost by its limits.
    #[serde(default)]
    pub hold: Option<Money>,
    /// What the planner saw.
    pub explanation: ExplanationView,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_roll_up_to_the_jobs_state() {
        let counts = |text: &str| -> TaskCounts { serde_json::from_str(text).expect("counts") };
        for (text, state) in [
            (r#"{"queued":1,"running":1,"failed":1}"#, JobState::Running),
            (r#"{"queued":1,"succeeded":9}"#, JobState::Queued),
            (r#"{"queued":1,"provisioning":1,"placing":1}"#, JobState::Provisioning),
            (r#"{"finishing":1,"succeeded":9}"#, JobState::Finishing),
            (r#"{"succeeded":9,"failed":1,"cancelled":1}"#, JobState::Failed),
            (r#"{"succeeded":9,"cancelled":1}"#, JobState::Cancelled),
            (r#"{"succeeded":9}"#, JobState::Succeeded),
        ] {
            assert_eq!(counts(text).state(), state, "{text}");
            assert_eq!(
                counts(text).state().is_final(),
                counts(text).ended() == counts(text).total(),
                "{text}"
            );
        }
        let mut counted = TaskCounts::default();
        counted.add(&TaskState::Queued { reason: Reason::Planning }, 3);
        counted.add(&TaskState::Succeeded, 1);
        assert_eq!((counted.total(), counted.ended()), (4, 1));
    }

    #[test]
    fn a_task_reads_flat() {
        let task = TaskView {
            index: 3,
            state: TaskState::Succeeded,
            attempts: 1,
            site: Some("dc".parse().expect("name")),
        };
        let text = serde_json::to_string(&task).expect("json");
        assert_eq!(text, r#"{"index":3,"state":"succeeded","attempts":1,"site":"dc"}"#);
        assert_eq!(serde_json::from_str::<TaskView>(&text).expect("json"), task);
    }
}
