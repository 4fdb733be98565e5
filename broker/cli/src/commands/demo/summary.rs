//! What came out, from what the API says and nothing else. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use spillway_api::ErrorCode;
use spillway_api::v1::{GroupView, HealthView, JobState, JobView, SpendReport};
use spillway_types::{
    DurationMs, FailureReason, GroupName, InstanceId, InstanceState, InstanceType, JobId, Money, SiteKind,
    SiteName,
};

use super::load::Meant;

/// A job that the broker did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refused {
    pub name: String,
    pub group: String,
    pub code: ErrorCode,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip)]
    pub meant: bool,
}

/// What the API said when everything was over.
#[derive(Debug)]
pub(super) struct Evidence {
    pub jobs: Vec<(Meant, JobView)>,
    pub refused: Vec<Refused>,
    pub instances: BTreeMap<InstanceId, (SiteName, InstanceState)>,
    pub spend: SpendReport,
    pub groups: Vec<GroupView>,
    pub health: HealthView,
    pub dispatch_us: Vec<u64>,
}

/// The result of a demo. Amounts are 10^-6 of a dollar, times milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub jobs_total: usize,
    pub jobs_succeeded: usize,
    pub jobs_failed: usize,
    pub jobs_refused: usize,
    pub jobs_cancelled: usize,
    /// By the kind of the site of the last attempt.
    pub jobs_on_prem: usize,
    pub jobs_personal: usize,
    pub jobs_cloud: usize,
    pub instances_launched: usize,
    pub instances_alive: usize,
    pub instances_by_site: BTreeMap<SiteName, usize>,
    pub ledger_imbalance_micros: i64,
    pub invariant_violations: u64,
    /// From a submission's acknowledgement to the program's start on an idle node; the median.
    pub dispatch_ms_p50: f64,
    pub dispatch_ms: Vec<f64>,
    pub spend: Spend,
    pub budgets: Vec<Budget>,
    pub failed: Vec<Failed>,
    pub refused: Vec<Refused>,
    pub jobs: Vec<JobLine>,
    /// From the start of the command to the end of what it shows.
    pub took_ms: u64,
    /// Processes that were left when everything had been told to end; they were killed. Absent while it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes_left: Option<usize>,
    pub checks: Vec<Check>,
}

/// What was spent, and that every way of adding it up gives the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Spend {
    pub by_group: BTreeMap<String, i64>,
    pub by_site: BTreeMap<String, i64>,
    pub rows: Vec<SpendLine>,
    pub total_micros: i64,
    pub ledger_total_micros: Option<i64>,
    pub currency: String,
}

/// What one group spent at one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SpendLine {
    pub group: String,
    pub site: String,
    pub amount_micros: i64,
    pub gpu_ms: u64,
}

/// A group's budget at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Budget {
    pub group: GroupName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Money>,
    pub spent: Money,
    pub held: Money,
}

/// A job that failed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failed {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReason>,
}

/// Where a job ran, why there, how long it waited, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct JobLine {
    pub id: JobId,
    pub name: String,
    pub group: GroupName,
    pub state: JobState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SiteKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<InstanceType>,
    pub hosts: Vec<String>,
    pub because: String,
    /// From the submission to the start of the last attempt's programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ran_ms: Option<u64>,
    pub cost_micros: i64,
}

/// Something that must be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub what: &'static str,
    pub passed: bool,
}

impl Summary {
    /// Adds up what the API said.
    pub(super) fn of(evidence: Evidence, took: Duration) -> Self {
        let spend = spend(&evidence.spend);
        let states = || evidence.jobs.iter().map(|(_, job)| job.summary.state);
        let ended = |wanted: JobState| states().filter(|state| *state == wanted).count();
        let ran_on = |kind: SiteKind| {
            let newest = evidence.jobs.iter().filter_map(|(_, job)| job.attempts.first());
            newest.filter(|attempt| attempt.kind == kind && attempt.started.is_some()).count()
        };
        let mut instances_by_site: BTreeMap<SiteName, usize> = BTreeMap::new();
        for (site, _) in evidence.instances.values() {
            *instances_by_site.entry(site.clone()).or_default() += 1;
        }
        let alive = evidence.instances.values().filter(|(_, state)| *state != InstanceState::Gone).count();
        let mut summary = Self {
            jobs_total: evidence.jobs.len() + evidence.refused.len(),
            jobs_succeeded: ended(JobState::Succeeded),
            jobs_failed: ended(JobState::Failed),
            jobs_refused: evidence.refused.len(),
            jobs_cancelled: ended(JobState::Cancelled),
            jobs_on_prem: ran_on(SiteKind::OnPrem),
            jobs_personal: ran_on(SiteKind::Personal),
            jobs_cloud: ran_on(SiteKind::Cloud),
            instances_launched: evidence.instances.len(),
            instances_alive: alive,
            instances_by_site,
            ledger_imbalance_micros: evidence.health.ledger_imbalance_micros,
            invariant_violations: evidence.health.invariant_violations,
            dispatch_ms_p50: milliseconds(median(&evidence.dispatch_us)),
            dispatch_ms: evidence.dispatch_us.iter().copied().map(milliseconds).collect(),
            spend,
            budgets: budgets(&evidence.groups),
            failed: evidence.jobs.iter().filter_map(|(_, job)| failed(job)).collect(),
            refused: Vec::new(),
            jobs: evidence.jobs.iter().map(|(_, job)| line(job)).collect(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            processes_left: None,
            checks: Vec::new(),
        };
        summary.checks = summary.judge(&evidence);
        summary.refused = evidence.refused;
        summary
    }

    fn judge(&self, evidence: &Evidence) -> Vec<Check> {
        let check = |what, passed| Check { what, passed };
        let as_meant = |(meant, job): &(Meant, JobView)| match meant {
            Meant::Succeed => job.summary.state == JobState::Succeeded,
            Meant::Fail => job.summary.state == JobState::Failed,
            Meant::BeCancelled => job.summary.state == JobState::Cancelled,
            Meant::BeRefused => false,
        };
        let refused_as_meant =
            !evidence.refused.is_empty() && evidence.refused.iter().all(|refused| refused.meant);
        let over_budget = evidence.refused.iter().all(|refused| refused.code == ErrorCode::BudgetExceeded);
        let sums =
            [self.spend.by_group.values().sum(), self.spend.by_site.values().sum(), self.spend.total_micros];
        let within = |budget: &Budget| budget.budget.is_none_or(|most| budget.spent.micros <= most.micros);
        vec![
            check("every job ended as it was meant to", evidence.jobs.iter().all(as_meant)),
            check("the job that is too dear was refused at once", refused_as_meant && over_budget),
            check("jobs ran on-prem, on a desk and in the cloud", {
                self.jobs_on_prem > 0 && self.jobs_personal > 0 && self.jobs_cloud > 0
            }),
            check("no instance was left", self.instances_launched > 0 && self.instances_alive == 0),
            check("every way of adding up the spend gives the ledger's total", {
                sums.iter().all(|sum: &i64| Some(*sum) == self.spend.ledger_total_micros)
                    && self.spend.total_micros > 0
            }),
            check("no group spent more than its budget, and nothing is held", {
                self.budgets.iter().all(|budget| within(budget) && budget.held.micros == 0)
            }),
            check("the ledger balances", {
                self.ledger_imbalance_micros == 0 && evidence.spend.imbalance_micros == 0
            }),
            check("no invariant was broken", self.invariant_violations == 0),
        ]
    }

    /// Notes how many processes were left when everything had ended.
    pub(super) fn note_processes_left(&mut self, left: usize) {
        self.processes_left = Some(left);
        self.checks.push(Check { what: "no process was left", passed: left == 0 });
    }

    /// Whether everything is as it must be.
    pub(super) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// The middle one; the lower of two; 0 of none.
fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Microseconds as milliseconds with one decimal.
fn milliseconds(micros: u64) -> f64 {
    let tenths = u32::try_from((micros + 50) / 100).unwrap_or(u32::MAX);
    f64::from(tenths) / 10.0
}

fn spend(report: &SpendReport) -> Spend {
    let key = |keys: &BTreeMap<String, String>, name: &str| keys.get(name).cloned().unwrap_or_default();
    let line = |row: &spillway_api::v1::SpendRow| SpendLine {
        group: key(&row.keys, "group"),
        site: key(&row.keys, "site"),
        amount_micros: row.sums.amount.micros,
        gpu_ms: u64::try_from(row.sums.gpu_ms).unwrap_or(0),
    };
    let rows: Vec<SpendLine> = report.rows.iter().map(line).collect();
    let (mut by_group, mut by_site) = (BTreeMap::new(), BTreeMap::new());
    for row in &rows {
        *by_group.entry(row.group.clone()).or_insert(0) += row.amount_micros;
        *by_site.entry(row.site.clone()).or_insert(0) += row.amount_micros;
    }
    Spend {
        by_group,
        by_site,
        rows,
        total_micros: report.total.micros,
        ledger_total_micros: report.ledger_total.map(|total| total.micros),
        currency: report.total.currency.to_string(),
    }
}

fn budgets(groups: &[GroupView]) -> Vec<Budget> {
    let limited = groups.iter().filter(|group| group.budget.is_some());
    let budget = |group: &GroupView| Budget {
        group: group.name.clone(),
        budget: group.budget,
        spent: group.spent,
        held: group.held,
    };
    limited.map(budget).collect()
}

fn failed(job: &JobView) -> Option<Failed> {
    (job.summary.state == JobState::Failed)
        .then(|| Failed { name: job.summary.name.clone(), failure: job.failure.clone() })
}

fn line(job: &JobView) -> JobLine {
    let newest = job.attempts.first();
    let started = newest.and_then(|attempt| attempt.started);
    let ran = newest.and_then(|attempt| Some(attempt.ended?.since(attempt.started?)));
    let milliseconds = |span: DurationMs| span.0;
    JobLine {
        id: job.summary.id,
        name: job.summary.name.clone(),
        group: job.summary.group.clone(),
        state: job.summary.state,
        site: newest.map(|attempt| attempt.site.clone()),
        kind: newest.map(|attempt| attempt.kind),
        instance_type: newest.and_then(|attempt| attempt.instance_type.clone()),
        hosts: hosts(job),
        because: newest.map(|attempt| attempt.because.clone()).unwrap_or_default(),
        waited_ms: started.map(|started| milliseconds(started.since(job.summary.submitted))),
        ran_ms: ran.map(milliseconds),
        cost_micros: job.summary.cost.micros,
    }
}

/// Names of the nodes of the last attempt; one that is gone is known by its id alone, which says nothing here.
fn hosts(job: &JobView) -> Vec<String> {
    let nodes = job.attempts.first().into_iter().flat_map(|attempt| &attempt.nodes);
    let named = nodes.filter(|node| node.hostname != node.node.to_string());
    named.map(|node| node.hostname.clone()).collect()
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
