//! Traces through the core: every baseline on scenarios checked by hand, money, determinism and errors.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use spillway_core::command::TickLimits;
use spillway_core::entity::{Group, Pool, Site};
use spillway_policies::{CloudOffer, Policy};
use spillway_sim::baselines::{BASELINES, BaselineParameters, ComputeWait, Fit, baseline};
use spillway_sim::{
    Description, Place, PlannerScheduler, Random, Replay, ReplayError, Scheduler, TraceJob, replay,
};
use spillway_types::{
    Accelerator, Capabilities, DurationMs, HourlyRate, Inventory, InventorySource, NodeCapacity, SiteKind,
    Tariff,
};

const MINUTE: u64 = 60_000;
const DOLLAR: i64 = 1_000_000;

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("it is well formed")
}

fn capacity(gpus: u32) -> NodeCapacity {
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: name("V100"),
        memory_mib: 32_768,
        mig: vec![],
        domain: None,
    };
    NodeCapacity { accelerators: (0..gpus).map(gpu).collect(), cpus_milli: 64_000, memory_mib: 1 << 19 }
}

/// Nodes of eight at a dollar an accelerator's hour, and a cloud that starts at once for four dollars.
fn cluster(nodes: usize) -> Description {
    let site = |at, kind, cloud: Option<&str>| {
        let cloud = cloud.map(name);
        Site { name: name(at), kind, jurisdiction: None, cloud }
    };
    let pool = |at, per_gpu| {
        let tariff = Tariff { per_gpu: HourlyRate(per_gpu), per_cpu: HourlyRate(0) };
        Pool { name: name(at), site: name(at), tariff, groups: None, labels: [].into() }
    };
    let inventory = Inventory {
        hostname: "dgx".to_owned(),
        capacity: capacity(8),
        capabilities: Capabilities { process: true, container: true, fractions: false },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    };
    let offer = |gpus: u32| CloudOffer {
        cloud: name("mock"),
        site: name("east"),
        jurisdiction: None,
        instance_type: name(&format!("gpu{gpus}")),
        capacity: capacity(gpus),
        price: HourlyRate(4 * DOLLAR * i64::from(gpus)),
        boot: DurationMs(0),
        available: 1000,
        terms: spillway_types::OfferTerms::default(),
    };
    Description {
        sites: vec![site("home", SiteKind::OnPrem, None), site("east", SiteKind::Cloud, Some("mock"))],
        pools: vec![pool("home", DOLLAR), pool("east", 0)],
        groups: vec![Group {
            name: name("lab"),
            parent: None,
            weight: 1,
            priority: 0,
            budget_micros: None,
            budget_stated: None,
        }],
        nodes: vec![(name("home"), inventory); nodes],
        offers: (1..=8).map(offer).collect(),
        limits: TickLimits { warm: DurationMs(0), ..TickLimits::default() },
        ..Description::default()
    }
}

/// GPUs, arrival and runtime, both in minutes.
type Row = (u32, u64, u64);

fn trace(rows: &[Row]) -> Vec<TraceJob> {
    let job = |(index, (gpus, arrival, runtime)): (usize, &Row)| TraceJob {
        id: index.to_string(),
        group: name("lab"),
        arrival: DurationMs(arrival * MINUTE),
        runtime: DurationMs(runtime * MINUTE),
        estimate: DurationMs(runtime * MINUTE),
        gpus: *gpus,
        asks: spillway_sim::Asks::default(),
    };
    rows.iter().enumerate().map(job).collect()
}

fn run(description: Description, jobs: &[TraceJob], scheduler: Box<dyn Scheduler>) -> Replay {
    let replayed = replay(description, jobs, scheduler, 1, &mut |_| ControlFlow::Continue(()));
    let replayed = replayed.expect("it comes to its end");
    assert_eq!(replayed.violations, Vec::<String>::new());
    assert_eq!(replayed.placements.len(), jobs.len());
    replayed
}

const PARAMETERS: BaselineParameters = BaselineParameters {
    compute_wait: ComputeWait { billionths: 500_000_000 },
    constant_wait: DurationMs(30 * MINUTE),
    max_queue: None,
    fit: Fit::First,
};

/// `MINUTE:NODE/GPUS+NODE/GPUS` or `MINUTE:cloud` for each job.
fn words(replayed: &Replay) -> String {
    let word = |placed: &spillway_sim::Placed| {
        assert_eq!(placed.start.0 % MINUTE, 0, "{placed:?}");
        let place = match &placed.place {
            Place::Local(parts) => {
                let parts: Vec<String> = parts.iter().map(|(node, gpus)| format!("{node}/{gpus}")).collect();
                parts.join("+")
            }
            Place::Cloud { site } => {
                assert_eq!(site.as_str(), "east");
                "cloud".to_owned()
            }
        };
        format!("{}:{place}", placed.start.0 / MINUTE)
    };
    replayed.placements.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(scheduler: &str, parameters: BaselineParameters, nodes: usize, rows: &[Row], expected: &str) {
    let scheduler = baseline(scheduler, parameters).expect("it is known");
    assert_eq!(words(&run(cluster(nodes), &trace(rows), scheduler)), expected);
}

#[test]
fn no_wait_sends_away_what_does_not_fit_and_sees_ends_before_arrivals() {
    let rows = [(8, 0, 60), (1, 10, 5), (1, 60, 5)];
    check("no-wait", PARAMETERS, 1, &rows, "0:0/8 10:cloud 60:0/1");
}

#[test]
fn constant_holds_up_the_queue_behind_its_head() {
    let rows = [(4, 0, 60), (8, 10, 10), (1, 20, 10), (8, 35, 10)];
    // The second waits until 40; only then is the third looked at, and fits; the fourth has to wait for the first.
    check("constant", PARAMETERS, 1, &rows, "0:0/4 40:cloud 40:0/1 60:0/8");
}

#[test]
fn starburst_goes_past_what_does_not_fit_and_bounds_its_queue() {
    let rows = [(4, 0, 60), (8, 5, 15), (4, 10, 60)];
    check("starburst", PARAMETERS, 1, &rows, "0:0/4 65:cloud 10:0/4");
    let bounded = BaselineParameters { max_queue: Some(1), ..PARAMETERS };
    let rows = [(8, 0, 20), (8, 5, 15), (4, 6, 60)];
    check("starburst", bounded, 1, &rows, "0:0/8 20:0/8 6:cloud");
}

#[test]
fn easy_reserves_for_the_head_and_fills_in_what_ends_before() {
    let rows = [(4, 0, 60), (8, 5, 15), (4, 10, 60), (4, 20, 40)];
    check("easy", PARAMETERS, 1, &rows, "0:0/4 60:0/8 75:0/4 20:0/4");
    // Where the reservation would begin after its budget is used up there is none.
    let rows = [(4, 0, 80), (8, 5, 15), (4, 10, 60)];
    check("easy", PARAMETERS, 1, &rows, "0:0/4 65:cloud 10:0/4");
}

#[test]
fn plan_on_arrival_decides_once_and_for_all() {
    let rows = [(8, 0, 60), (8, 5, 15), (8, 10, 15), (4, 20, 120), (2, 30, 100)];
    check("plan-on-arrival", PARAMETERS, 1, &rows, "0:0/8 60:0/8 10:cloud 75:0/4 75:0/2");
    // Of nodes with room now it takes the tightest.
    let rows = [(6, 0, 60), (4, 0, 60), (2, 0, 60)];
    check("plan-on-arrival", PARAMETERS, 2, &rows, "0:0/6 0:1/4 0:0/2");
    // Two empty nodes for a wide job: not before the first job has ended. What comes later goes around it.
    let rows = [(1, 0, 30), (16, 1, 60), (8, 2, 20), (8, 3, 200)];
    check("plan-on-arrival", PARAMETERS, 2, &rows, "0:0/1 30:0/8+1/8 2:1/8 90:0/8");
}

#[test]
fn a_wide_job_gets_whole_nodes_and_the_rest_of_one() {
    check("no-wait", PARAMETERS, 2, &[(1, 0, 60), (12, 0, 60), (12, 1, 5)], "0:0/1 0:1/8+0/4 1:cloud");
}

#[test]
fn best_fit_takes_the_node_with_the_least_room() {
    let rows = [(6, 0, 60), (8, 0, 60), (5, 0, 60), (2, 1, 10), (2, 2, 10)];
    check("no-wait", PARAMETERS, 3, &rows, "0:0/6 0:1/8 0:2/5 1:0/2 2:2/2");
    let rows = [(4, 0, 60), (5, 0, 60), (1, 1, 10)];
    check("no-wait", BaselineParameters { fit: Fit::Best, ..PARAMETERS }, 2, &rows, "0:0/4 0:1/5 1:1/1");
}

/// About as much as two nodes can do.
fn busy_trace(jobs: u64) -> Vec<TraceJob> {
    let mut random = Random::new(7);
    let mut arrival = 0;
    let mut row = || {
        arrival += random.below(15);
        (
            [1, 1, 2, 4, 8, 12][usize::try_from(random.below(6)).expect("it is small")],
            arrival,
            1 + random.below(90),
        )
    };
    trace(&(0..jobs).map(|_| row()).collect::<Vec<_>>())
}

/// What the ledger should say: every accelerator's millisecond at its price, each part rounded down.
fn cost(jobs: &[TraceJob], replayed: &Replay, cloud: bool) -> i64 {
    let mine = replayed.placements.iter().filter(|p| matches!(p.place, Place::Cloud { .. }) == cloud);
    let dollars = if cloud { 4 } else { 1 };
    let gpu_ms: u64 = mine.map(|p| u64::from(jobs[p.job].gpus) * jobs[p.job].runtime.0).sum();
    i64::try_from(u128::from(gpu_ms) * dollars * 1_000_000 / 3_600_000).expect("it is small")
}

#[test]
fn every_scheduler_places_all_and_the_ledger_agrees_with_the_trace() {
    let jobs = busy_trace(400);
    for scheduler in BASELINES {
        let again = || run(cluster(2), &jobs, baseline(scheduler, PARAMETERS).unwrap());
        let replayed = again();
        assert_eq!(replayed, again(), "{scheduler}");
        let spent = |site: &str| replayed.spend.get(&(name(site), name("lab"))).copied().unwrap_or(0);
        for (site, cloud) in [("home", false), ("east", true)] {
            let (expected, parts) = (cost(&jobs, &replayed, cloud), 2 * 400);
            assert!((expected - parts..=expected).contains(&spent(site)), "{scheduler}: {site} {expected}");
        }
        let last = replayed.samples.last().unwrap();
        assert_eq!((last.gpus_busy_local, last.gpus_busy_cloud, last.queued_jobs), (0, 0, 0));
        assert_eq!(last.cloud_micros, spent("east"), "{scheduler}");
        let starts = replayed.placements.iter().map(|p| p.start.0 - jobs[p.job].arrival.0);
        assert_eq!(last.waited.0, starts.sum::<u64>(), "{scheduler}");
    }
}

#[test]
fn the_planner_itself_replays_a_trace_with_boots_and_full_clouds() {
    let jobs = busy_trace(60);
    let mut description = cluster(2);
    description.full_per_mille = 300;
    description.limits.warm = DurationMs(5 * MINUTE);
    description.offers.iter_mut().for_each(|offer| offer.boot = DurationMs(3 * MINUTE));
    let again = || run(description.clone(), &jobs, Box::new(PlannerScheduler::new(Policy::default())));
    let replayed = again();
    assert_eq!(replayed, again());
    let places = |cloud: bool| {
        replayed.placements.iter().filter(|p| matches!(p.place, Place::Cloud { .. }) == cloud).count()
    };
    assert!(places(true) > 0 && places(false) > 0, "{}", words(&replayed));
}

#[test]
fn a_launch_takes_as_long_as_its_offer_says() {
    let mut description = cluster(0);
    description.offers.iter_mut().for_each(|offer| offer.boot = DurationMs(3 * MINUTE));
    let replayed = run(description, &trace(&[(12, 10, 60)]), baseline("no-wait", PARAMETERS).unwrap());
    assert_eq!(words(&replayed), "13:cloud");
    // Two instances of six, from launch to end.
    assert_eq!(replayed.spend[&(name("east"), name("lab"))], 2 * 6 * 4 * DOLLAR * 63 / 60);
}

fn fails(description: Description, rows: &[Row]) -> ReplayError {
    let scheduler = baseline("no-wait", PARAMETERS).expect("it is known");
    let replayed = replay(description, &trace(rows), scheduler, 1, &mut |_| ControlFlow::Continue(()));
    replayed.expect_err("it cannot be")
}

#[test]
fn what_cannot_be_is_said() {
    assert!(matches!(fails(cluster(1), &[(1, 0, 1), (0, 0, 1)]), ReplayError::NoGpus { job } if job == "1"));
    let mut nowhere = cluster(1);
    nowhere.groups.clear();
    assert!(matches!(fails(nowhere, &[(1, 0, 1)]), ReplayError::Job { job, .. } if job == "0"));
    let mut lost = cluster(1);
    lost.sites.clear();
    assert!(matches!(fails(lost, &[(1, 0, 1)]), ReplayError::Description(_)));
    let mut poor = cluster(1);
    poor.groups[0].budget_micros = Some(DOLLAR * 12 / 10);
    let stalled = fails(poor, &[(1, 0, 60), (1, 1, 60)]);
    assert!(matches!(&stalled, ReplayError::Stalled { left: 1, first, .. } if first == "1"), "{stalled}");
    assert!(baseline("magic", PARAMETERS).unwrap_err().to_string().contains("plan-on-arrival"));
}

#[test]
fn whoever_watches_hears_of_it_and_may_stop_it() {
    let jobs = busy_trace(400);
    let scheduler = || baseline("no-wait", PARAMETERS).unwrap();
    let mut heard = vec![];
    let all = replay(cluster(2), &jobs, scheduler(), 1, &mut |progress| {
        heard.push(progress);
        ControlFlow::Continue(())
    });
    assert!(all.is_ok());
    assert!(heard.is_sorted_by_key(|progress| (progress.done, progress.at)) && heard.len() > 2);
    assert!(heard.last().is_some_and(|progress| progress.done == 400 && progress.total == 400));
    let stopped = replay(cluster(2), &jobs, scheduler(), 1, &mut |progress| {
        if progress.done > 50 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(ReplayError::Stopped { done, total: 400 }) if (51..400).contains(&done)));
}
