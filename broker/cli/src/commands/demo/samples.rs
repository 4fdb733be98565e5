//! Views as the API gives them, for the tests of the demo.

use std::collections::BTreeMap;

use spillway_api::ErrorCode;
use spillway_api::v1::{
    AttemptNode, AttemptView, BrokerMode, CloudView, GroupView, HealthView, InstanceView, JobDefaults,
    JobState, JobSummary, JobView, SiteView, SpendKey, SpendReport, SpendRow, Sums, TaskCounts,
};
use spillway_types::{
    AttemptState, DurationMs, HourlyRate, InstanceId, InstanceState, Money, SiteKind, SiteName, UnixMs,
};

use super::load::{self, Meant};
use super::summary::{Evidence, Refused};

/// A moment to count from.
const BEGAN: UnixMs = UnixMs(1_790_000_000_000);

/// An id from its number.
fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str, number: usize) -> T {
    format!("{prefix}_0198f000000070008000{number:012x}").parse().expect("an id")
}

pub(super) fn summary(name: &str, state: JobState) -> JobSummary {
    JobSummary {
        id: id("job", 1),
        name: name.to_owned(),
        group: "vision".parse().expect("a name"),
        user: "mina".parse().expect("a name"),
        state,
        reason: None,
        held: None,
        top: None,
        tasks: TaskCounts::default(),
        submitted: BEGAN,
        started: None,
        ended: None,
        sites: vec![],
        cost: Money::usd_micros(0),
    }
}

/// A job that was placed once, at a site of this kind, waited for a second and ran for two.
fn job(name: &str, state: JobState, site: &str, kind: SiteKind, cost_micros: i64) -> JobView {
    let at = |ms| Some(UnixMs(BEGAN.0 + ms));
    let attempt = AttemptView {
        id: id("att", 1),
        task: 0,
        number: 1,
        state: AttemptState::Settled,
        site: site.parse().expect("a name"),
        kind,
        pool: None,
        nodes: vec![AttemptNode { node: id("node", 1), hostname: format!("{site}-host") }],
        instance_type: None,
        rate: HourlyRate(2_000_000),
        because: format!("1 H100 free now on {site}-host; it can cost 0.03 at most"),
        placed: BEGAN,
        started: at(1000),
        ended: at(3000),
        wait: DurationMs(0),
        cost: Money::usd_micros(cost_micros),
        input_bytes: 0,
        moved_bytes: 0,
        end: None,
    };
    let spec = load::probe(1).into_spec(&JobDefaults::default()).expect("a job");
    let summary = JobSummary { cost: Money::usd_micros(cost_micros), ..summary(name, state) };
    JobView { summary, spec, attempts: vec![attempt], estimate: None, failure: None, explanation: None }
}

pub(super) fn site(name: &str) -> SiteView {
    SiteView {
        name: name.parse().expect("a name"),
        kind: SiteKind::Cloud,
        jurisdiction: None,
        pools: vec![],
        nodes: 0,
        nodes_ready: 0,
        blocks: 0,
        blocks_free: 0,
    }
}

pub(super) fn cloud(instances: &[(&str, InstanceState)]) -> CloudView {
    let view = |(at, (site, state)): (usize, &(&str, InstanceState))| InstanceView {
        id: id("inst", at + 1),
        provider_id: None,
        state: *state,
        site: site.parse().expect("a name"),
        instance_type: "p5".parse().expect("a name"),
        price: HourlyRate(6_880_000),
        launched: BEGAN,
        ended: None,
        cost: Money::usd_micros(0),
    };
    let instances = instances.iter().enumerate().map(view).collect();
    CloudView { name: "demo-cloud".parse().expect("a name"), regions: vec![], instances, problem: None }
}

fn spend(rows: &[(&str, &str, i64)]) -> SpendReport {
    let total = Money::usd_micros(rows.iter().map(|(_, _, micros)| micros).sum());
    let row = |(group, site, micros): &(&str, &str, i64)| SpendRow {
        keys: BTreeMap::from([
            ("group".to_owned(), (*group).to_owned()),
            ("site".to_owned(), (*site).to_owned()),
        ]),
        sums: Sums { amount: Money::usd_micros(*micros), gpu_ms: 2000, ..Sums::nothing() },
        outlook: None,
    };
    SpendReport {
        by: vec![SpendKey::Group, SpendKey::Site],
        zone: spillway_ledger::calendar::Zone::utc(),
        from: None,
        to: None,
        period: None,
        state: None,
        closed_through: None,
        rows: rows.iter().map(row).collect(),
        total,
        sums: Sums { amount: total, ..Sums::nothing() },
        ledger_total: Some(total),
        imbalance_micros: 0,
    }
}

fn group(name: &str, budget: i64, spent: i64) -> GroupView {
    GroupView {
        zone: spillway_ledger::calendar::Zone::utc(),
        currency: spillway_types::Currency::USD,
        budget_stated: None,
        name: name.parse().expect("a name"),
        parent: None,
        weight: 1,
        priority: 0,
        budget: Some(Money::usd_micros(budget)),
        spent: Money::usd_micros(spent),
        held: Money::usd_micros(0),
        left: None,
        members: vec![],
    }
}

fn health() -> HealthView {
    HealthView {
        version: "0.1.0".to_owned(),
        deployment: "d".to_owned(),
        incarnation: 1,
        mode: BrokerMode::Normal,
        message: None,
        nodes_awaited: 0,
        invariant_violations: 0,
        ledger_imbalance_micros: 0,
        database: "sqlite".to_owned(),
    }
}

pub(super) fn refused(meant: bool, code: ErrorCode) -> Refused {
    let (name, group, reason) = ("world-model".to_owned(), "robotics".to_owned(), "too dear".to_owned());
    Refused { name, group, code, reason, hint: None, meant }
}

/// A demo in which everything went as it should.
pub(super) fn evidence() -> Evidence {
    let instance = |number| id::<InstanceId>("inst", number);
    let region: SiteName = "cloud-a".parse().expect("a name");
    Evidence {
        jobs: vec![
            (Meant::Succeed, job("a", JobState::Succeeded, "seoul-dgx", SiteKind::OnPrem, 300)),
            (Meant::Succeed, job("b", JobState::Succeeded, "cloud-a", SiteKind::Cloud, 500)),
            (Meant::Succeed, job("c", JobState::Succeeded, "desk", SiteKind::Personal, 20)),
            (Meant::Fail, job("d", JobState::Failed, "seoul-dgx", SiteKind::OnPrem, 100)),
            (Meant::BeCancelled, job("e", JobState::Cancelled, "seoul-dgx", SiteKind::OnPrem, 80)),
        ],
        refused: vec![refused(true, ErrorCode::BudgetExceeded)],
        instances: BTreeMap::from([
            (instance(1), (region.clone(), InstanceState::Gone)),
            (instance(2), (region, InstanceState::Gone)),
        ]),
        spend: spend(&[("vision", "seoul-dgx", 480), ("vision", "cloud-a", 500), ("robotics", "desk", 20)]),
        groups: vec![group("vision", 40_000_000, 980), group("robotics", 10_000_000, 20)],
        health: health(),
        dispatch_us: vec![40_049, 9_000, 50_000],
    }
}
