//! Views as the API gives them, for the tests of the demo.

use std::collections::BTreeMap;

use spillway_api::v1::{
    AttemptNode, AttemptView, BrokerMode, CloudView, GroupView, HealthView, InstanceView, JobDefaults,
    JobState, JobSummary, JobView, SiteView, SpendKey, SpendReport, SpendRow, TaskCounts,
};
use spillway_types::{AttemptState, DurationMs, HourlyRate, InstanceState, Money, SiteKind, UnixMs};

use super::load;

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
        tasks: TaskCounts::default(),
        submitted: BEGAN,
        started: None,
        ended: None,
        sites: vec![],
        cost: Money::usd_micros(0),
    }
}

/// A job that was placed once, at a site of this kind, waited for a second and ran for two.
pub(super) fn job(name: &str, state: JobState, site: &str, kind: SiteKind, cost_micros: i64) -> JobView {
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
        end: None,
    };
    let spec = load::probe(1).into_spec(&JobDefaults::default()).expect("a job");
    let summary = JobSummary { cost: Money::usd_micros(cost_micros), ..summary(name, state) };
    JobView { summary, spec, attempts: vec![attempt], failure: None, explanation: None }
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

pub(super) fn spend(rows: &[(&str, &str, i64)]) -> SpendReport {
    let total = Money::usd_micros(rows.iter().map(|(_, _, micros)| micros).sum());
    let row = |(group, site, micros): &(&str, &str, i64)| SpendRow {
        keys: BTreeMap::from([
            ("group".to_owned(), (*group).to_owned()),
            ("site".to_owned(), (*site).to_owned()),
        ]),
        amount: Money::usd_micros(*micros),
        gpu_ms: 2000,
    };
    SpendReport {
        by: vec![SpendKey::Group, SpendKey::Site],
        rows: rows.iter().map(row).collect(),
        total,
        ledger_total: total,
        imbalance_micros: 0,
    }
}

pub(super) fn group(name: &str, budget: i64, spent: i64) -> GroupView {
    GroupView {
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

pub(super) fn health() -> HealthView {
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
