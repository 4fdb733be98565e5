//! Whatever happens from outside to whatever small federation: every job ends or is refused with a reason, nothing is
//! given twice, no more live than there are, all money is settled, and the same seed gives the same result.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::test_runner::Config;
use spillway_policies::Policy;
use spillway_sim::baselines::{BASELINES, BaselineParameters, baseline};
use spillway_sim::federation::{admit_groups, from_toml};
use spillway_sim::{Asks, Description, Place, PlannerScheduler, Replay, Scheduler, TraceJob, replay};
use spillway_types::DurationMs;

const MINUTE: u64 = 60_000;

/// A small federation with everything that may happen to it, as a file.
#[derive(Debug, Clone)]
struct Case {
    nodes: u32,
    gpus: u32,
    /// Minutes and how many live from then on.
    spot: Vec<(u64, u32)>,
    life: Option<u64>,
    prices: Vec<(u64, u32)>,
    /// When, for how long, and which of node, site, pool or region.
    faults: Vec<(u64, u64, usize)>,
    boot: u64,
    warm: u64,
    on_demand: Option<u32>,
    jobs: Vec<Ask>,
    scheduler: usize,
    seed: u64,
}

#[derive(Debug, Clone)]
struct Ask {
    arrival: u64,
    runtime: u64,
    estimate: u64,
    gpus: u32,
    checkpoint: Option<u64>,
    deadline: Option<u64>,
    inputs: bool,
}

fn ask() -> impl Strategy<Value = Ask> {
    let times = (0..600_u64, 1..240_u64, 1..300_u64);
    let rest =
        (1..9_u32, prop::option::of(1..60_u64), prop::option::weighted(0.2, 30..900_u64), any::<bool>());
    (times, rest).prop_map(|((arrival, runtime, estimate), (gpus, checkpoint, deadline, inputs))| Ask {
        arrival,
        runtime,
        estimate,
        gpus,
        checkpoint,
        deadline,
        inputs,
    })
}

fn steps(most: u32) -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::btree_map(0..900_u64, 0..most, 0..5).prop_map(|steps| steps.into_iter().collect())
}

fn case() -> impl Strategy<Value = Case> {
    let places = (1..4_u32, 1..9_u32, steps(4), prop::option::of(5..300_u64), steps(40));
    let faults = prop::collection::vec((0..700_u64, 1..120_u64, 0..4_usize), 0..5);
    let rest = (faults, 0..6_u64, 0..10_u64, prop::option::of(0..3_u32), prop::collection::vec(ask(), 1..25));
    (places, rest, 0..=BASELINES.len(), any::<u64>()).prop_map(
        |((nodes, gpus, spot, life, prices), (faults, boot, warm, on_demand, jobs), scheduler, seed)| Case {
            nodes,
            gpus,
            spot,
            life,
            prices,
            faults,
            boot,
            warm,
            on_demand,
            jobs,
            scheduler,
            seed,
        },
    )
}

impl Case {
    fn file(&self) -> String {
        let Self { nodes, gpus, boot, warm, .. } = self;
        let mut text = format!(
            "warm = \"{warm}m\"\n[[sites]]\nname = \"home\"\n[[sites.pools]]\nname = \"dgx\"\nper_gpu = \"1.00\"\n\
             [[sites.pools.nodes]]\ncount = {nodes}\nmodel = \"H100\"\ngpus = 8\n\
             [[clouds]]\nname = \"aws\"\nsite = \"east\"\n\
             [[clouds.offers]]\ninstance_type = \"spot\"\nmodel = \"H100\"\ngpus = {gpus}\nprice = \"9.00\"\n\
             boot = \"{boot}m\"\nmarket = \"spot\"\navailable = 2\n"
        );
        let mut add = |line: String| text.push_str(&line);
        if let Some(life) = self.life {
            add(format!("mean_life = \"{life}m\"\n"));
        }
        for (from, available) in &self.spot {
            add(format!("[[clouds.offers.availability]]\nfrom = \"{from}m\"\navailable = {available}\n"));
        }
        for (at, price) in &self.prices {
            add(format!("[[clouds.offers.prices]]\nat = \"{at}m\"\nprice = \"{price}.50\"\n"));
        }
        if let Some(available) = self.on_demand {
            add(format!(
                "[[clouds.offers]]\ninstance_type = \"plain\"\nmodel = \"H100\"\ngpus = 8\nprice = \"30.00\"\n\
                 boot = \"{boot}m\"\navailable = {available}\n"
            ));
        }
        add("[[datasets]]\nname = \"images\"\nsize = \"90GB\"\nat = [\"home\"]\n\
             [[links]]\nfrom = \"home\"\nto = \"east\"\negress = \"0.05\"\n"
            .to_owned());
        for (at, lasts, what) in &self.faults {
            let what = ["node = \"dgx-0\"", "cut = \"home\"", "cut = \"dgx\"", "cut = \"east\""][*what];
            add(format!("[[faults]]\nat = \"{at}m\"\nfor = \"{lasts}m\"\n{what}\n"));
        }
        text
    }

    fn trace(&self) -> Vec<TraceJob> {
        let span = |minutes: u64| DurationMs(minutes * MINUTE);
        let job = |(number, ask): (usize, &Ask)| TraceJob {
            id: number.to_string(),
            group: ["a", "b"][number % 2].parse().expect("it is a name"),
            arrival: span(ask.arrival),
            runtime: span(ask.runtime),
            estimate: span(ask.estimate),
            gpus: ask.gpus,
            asks: Asks {
                deadline: ask.deadline.map(span),
                inputs: if ask.inputs { vec!["images".parse().expect("it is a name")] } else { vec![] },
                checkpoint: ask.checkpoint.map(span),
                ..Asks::default()
            },
        };
        self.jobs.iter().enumerate().map(job).collect()
    }

    fn described(&self, jobs: &[TraceJob]) -> Description {
        let mut description = from_toml(&self.file()).expect("a federation");
        admit_groups(&mut description, jobs);
        description
    }

    fn scheduler(&self) -> Box<dyn Scheduler> {
        match BASELINES.get(self.scheduler) {
            Some(name) => baseline(name, BaselineParameters::default()).expect("it is known"),
            None => Box::new(PlannerScheduler::new(Policy { search: 5, ..Policy::default() })),
        }
    }

    fn run(&self, description: &Description, jobs: &[TraceJob]) -> Replay {
        let going = &mut |_| ControlFlow::Continue(());
        replay(description.clone(), jobs, self.scheduler(), self.seed, going).expect("it comes to its end")
    }
}

/// GPUs of each node that last tries have at any moment: never more than it has.
fn check_nodes(replayed: &Replay) -> Result<(), TestCaseError> {
    let mut changes: BTreeMap<(u32, u64, bool), i64> = BTreeMap::new();
    for placed in &replayed.placements {
        let Place::Local(parts) = &placed.place else { continue };
        for (node, gpus) in parts {
            *changes.entry((*node, placed.end.0, false)).or_default() -= i64::from(*gpus);
            *changes.entry((*node, placed.start.0, true)).or_default() += i64::from(*gpus);
        }
    }
    let mut used: BTreeMap<u32, i64> = BTreeMap::new();
    for ((node, ..), change) in changes {
        let used = used.entry(node).or_default();
        *used += change;
        prop_assert!(*used <= 8, "node {node} has {used} of 8 in use");
    }
    Ok(())
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let jobs = case.trace();
    let description = case.described(&jobs);
    let replayed = case.run(&description, &jobs);
    prop_assert_eq!(&replayed.violations, &Vec::<String>::new());
    prop_assert_eq!(&replayed, &case.run(&description, &jobs));
    let mut ended = vec![0; jobs.len()];
    let trouble = &replayed.trouble;
    replayed.placements.iter().for_each(|placed| ended[placed.job] += 1);
    for (job, reason) in &trouble.refused {
        ended[*job] += 1;
        prop_assert!(reason.contains("deadline"), "{}", reason);
    }
    // A job whose every machine was taken back while it booted has run nowhere, and says so.
    let never = (0..).zip(&mut ended).filter(|(job, count)| **count == 0 && trouble.failed.contains(job));
    never.for_each(|(_, count)| *count = 1);
    prop_assert!(ended.iter().all(|count| *count == 1), "{ended:?}");
    for placed in replayed.placements.iter().filter(|placed| !trouble.failed.contains(&placed.job)) {
        let (job, ran) = (&jobs[placed.job], placed.end.0 - placed.start.0);
        prop_assert!(placed.began >= job.arrival && placed.start >= placed.began, "{placed:?}");
        if placed.tries == 1 && (job.asks.inputs.is_empty() || matches!(placed.place, Place::Local(_))) {
            prop_assert!(
                ran >= job.runtime.0 && ran < job.runtime.0 + 2 * MINUTE + 120 * MINUTE,
                "{placed:?}"
            );
        }
    }
    let last = replayed.samples.last().copied().unwrap_or_default();
    prop_assert_eq!((last.gpus_busy_local, last.gpus_busy_cloud, last.queued_jobs), (0, 0, 0));
    let spent = |site: &str| -> i64 {
        let own = replayed.spend.iter().filter(|((at, _), _)| at.as_str() == site);
        own.map(|(_, micros)| micros).sum()
    };
    prop_assert_eq!(last.cloud_micros, spent("east"));
    prop_assert!((0..=spent("east")).contains(&trouble.spot_micros));
    prop_assert!(trouble.spot_micros == spent("east") || case.on_demand.is_some());
    prop_assert_eq!(trouble.broken_bounds, 0);
    check_nodes(&replayed)
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, max_shrink_iters: 2048, ..Config::default() })]

    #[test]
    fn every_job_ends_or_is_refused_whatever_happens(case in case()) {
        check(&case)?;
    }
}

/// What a failing case looks like as a file, to try it by hand.
#[test]
fn a_case_is_a_federation_file() {
    let ask =
        Ask { arrival: 0, runtime: 9, estimate: 5, gpus: 8, checkpoint: None, deadline: None, inputs: true };
    let case = Case {
        nodes: 1,
        gpus: 8,
        spot: vec![(5, 0), (700, 1)],
        life: Some(30),
        prices: vec![(60, 12)],
        faults: vec![(3, 4, 0), (10, 5, 3)],
        boot: 2,
        warm: 1,
        on_demand: Some(1),
        jobs: vec![ask],
        scheduler: 0,
        seed: 1,
    };
    let mut text = String::new();
    writeln!(text, "{}", case.file()).expect("a text takes it");
    assert!(from_toml(&text).is_ok_and(|description| description.outside.faults.len() == 2), "{text}");
}
