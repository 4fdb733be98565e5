//! Simulations: a pool that overflows into a cloud, again and again the same.

use std::collections::BTreeMap;

use spillway_core::entity::{Group, Pool, Site};
use spillway_policies::CloudOffer;
use spillway_sim::{Description, Program, Simulation, Work, World};
use spillway_types::{
    Accelerator, Capabilities, Checkpoint, DurationMs, HourlyRate, Inventory, InventorySource, JobSpec,
    NodeCapacity, PartEnd, Placement, Resources, RetryPolicy, SiteKind, Tariff,
};

const DOLLAR: i64 = 1_000_000;
const HOUR: DurationMs = DurationMs::from_secs(3600);

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("it is well formed")
}

fn capacity(gpus: u32) -> NodeCapacity {
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: name("H100"),
        memory_mib: 81_559,
        mig: vec![],
        domain: None,
    };
    NodeCapacity { accelerators: (0..gpus).map(gpu).collect(), cpus_milli: 64_000, memory_mib: 1 << 19 }
}

/// Two nodes of eight H100 at home, and a cloud that launches more at four times the price.
fn pool_and_cloud() -> Description {
    let site = |at, kind, cloud: Option<&str>| Site {
        name: name(at),
        kind,
        jurisdiction: None,
        cloud: cloud.map(name),
    };
    let pool = |pool, at, per_gpu| {
        let tariff = Tariff { per_gpu: HourlyRate(per_gpu), per_cpu: HourlyRate(0) };
        Pool { name: name(pool), site: name(at), tariff, groups: None, labels: [].into() }
    };
    let inventory = Inventory {
        hostname: "dgx".to_owned(),
        capacity: capacity(8),
        capabilities: Capabilities { process: true, container: true, fractions: true },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    };
    Description {
        sites: vec![site("home", SiteKind::OnPrem, None), site("east", SiteKind::Cloud, Some("mock"))],
        pools: vec![pool("main", "home", DOLLAR), pool("east", "east", 0)],
        groups: vec![Group {
            name: name("lab"),
            parent: None,
            weight: 1,
            priority: 0,
            budget_micros: None,
            budget_stated: None,
        }],
        nodes: vec![(name("main"), inventory.clone()), (name("main"), inventory)],
        offers: vec![CloudOffer {
            cloud: name("mock"),
            site: name("east"),
            jurisdiction: None,
            instance_type: name("big"),
            capacity: capacity(8),
            price: HourlyRate(32 * DOLLAR),
            boot: DurationMs::from_secs(180),
            available: 100,
            terms: spillway_types::OfferTerms::default(),
        }],
        full_per_mille: 100,
        ..Description::default()
    }
}

fn work(after: DurationMs, gpus: &str, runs: DurationMs) -> Work {
    let spec = JobSpec {
        name: "job".to_owned(),
        group: name("lab"),
        command: vec!["run".to_owned()],
        env: BTreeMap::new(),
        image: None,
        resources: Resources { gpus: Some(name(gpus)), cpus_milli: 1000, memory_mib: 1024 },
        nodes: 1,
        array: None,
        time_limit: DurationMs(runs.0 * 2),
        expected: Some(runs),
        deadline: None,
        class: None,
        inputs: vec![],
        placement: Placement::default(),
        checkpoint: Checkpoint::default(),
        retry: RetryPolicy::default(),
        lease: DurationMs::from_secs(60),
    };
    Work { after, spec, program: Program { runs, end: PartEnd::Exited { code: 0 } } }
}

fn day() -> Vec<Work> {
    let shapes = ["H100:8", "H100:4", "H100:1"].into_iter().cycle().take(30);
    (0..).zip(shapes).map(|(n, gpus)| work(DurationMs(n * 600_000), gpus, HOUR)).collect()
}

fn simulate(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed, pool_and_cloud(), day()).expect("it holds together");
    simulation.run_until(World::BEGIN.plus(DurationMs(24 * HOUR.0))).expect("nobody misbehaves");
    simulation
}

#[test]
fn the_same_seed_gives_the_same_journal() {
    let (first, second, other) = (simulate(1), simulate(1), simulate(2));
    assert_eq!(first.journal(), second.journal());
    assert_eq!(first.summary(), second.summary());
    assert_ne!(first.journal(), other.journal());
}

#[test]
fn a_full_pool_spills_into_the_cloud_and_all_of_it_comes_back() {
    let simulation = simulate(1);
    assert!(simulation.is_over() && simulation.busy().is_empty());
    let summary = simulation.summary();
    assert_eq!((summary.submitted, summary.refused, summary.succeeded, summary.failed), (30, 0, 30, 0));
    assert!(summary.placements[&name("home")] >= 15, "{summary:?}");
    assert!(summary.placements[&name("east")] >= 3 && summary.instances >= 1, "{summary:?}");
    // One GPU-hour costs 1 at home and 4 in the cloud; 30 jobs are 130 GPU-hours.
    assert!((130 * DOLLAR..4 * 130 * DOLLAR).contains(&summary.run_micros), "{summary:?}");
    assert!(summary.overhead_micros > 0);
    let spent = simulation.world().state().book.spent(&name("lab"));
    assert_eq!(spent, summary.run_micros + summary.overhead_micros);
    assert!(summary.longest_wait_ms <= summary.waited_ms && summary.longest_wait_ms > 0);
    assert_eq!(simulation.world().replayed().as_ref(), Ok(simulation.world().state()));
}

#[test]
fn a_simulation_stops_where_it_is_told_and_goes_on() {
    let mut simulation = Simulation::new(1, pool_and_cloud(), day()).unwrap();
    let early = World::BEGIN.plus(DurationMs(3 * HOUR.0));
    simulation.run_until(early).unwrap();
    assert_eq!(simulation.world().now(), early);
    assert!(!simulation.is_over() && !simulation.busy().is_empty());
    simulation.run_until(World::BEGIN.plus(DurationMs(24 * HOUR.0))).unwrap();
    assert!(simulation.is_over());
}

#[test]
fn what_nothing_could_run_is_counted_as_refused() {
    let mut simulation =
        Simulation::new(1, pool_and_cloud(), vec![work(DurationMs(0), "H100:16", HOUR)]).unwrap();
    simulation.run_until(World::BEGIN.plus(HOUR)).unwrap();
    assert_eq!((simulation.summary().refused, simulation.summary().submitted), (1, 0));
}
