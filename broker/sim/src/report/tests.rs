//! Figures that can be checked by hand, and what is written.

use std::ops::ControlFlow;

use spillway_types::DurationMs;

use super::*;
use crate::baselines::{BaselineParameters, ComputeWait, Fit};
use crate::contender::Contender;
use crate::{Place, Placed, Sample};

const HOUR: u64 = 3_600_000;

fn job(id: &str, arrival: u64, runtime: u64, gpus: u32) -> TraceJob {
    let (arrival, runtime) = (DurationMs(arrival), DurationMs(runtime));
    let (id, group) = (id.to_owned(), "g".parse().unwrap());
    TraceJob { id, group, arrival, runtime, estimate: runtime, gpus, asks: crate::Asks::default() }
}

/// Four jobs, an hour apart: two here, one of them on two nodes, and two in the cloud, one after half an hour.
fn hand_made() -> (Vec<TraceJob>, Replay, Setting) {
    let jobs = vec![
        job("a", 0, 2 * HOUR, 4),
        job("b", HOUR, HOUR, 8),
        job("c,d", 2 * HOUR, HOUR / 2, 2),
        job("e", 3 * HOUR, HOUR, 1),
    ];
    let cloud = || Place::Cloud { site: "east".parse().unwrap() };
    let placed = |job: usize, place, start| Placed::once(job, place, DurationMs(start), jobs[job].runtime);
    let placements = vec![
        placed(0, Place::Local(vec![(0, 4)]), 0),
        placed(1, Place::Local(vec![(1, 4), (0, 4)]), 2 * HOUR),
        placed(2, cloud(), 2 * HOUR + HOUR / 2),
        placed(3, cloud(), 3 * HOUR),
    ];
    let sample = |at, local, cloud, queued, cloud_micros, waited| Sample {
        at: DurationMs(at),
        gpus_busy_local: local,
        gpus_busy_cloud: cloud,
        queued_jobs: queued,
        cloud_micros,
        waited: DurationMs(waited),
    };
    let samples = vec![
        sample(0, 4, 0, 0, 0, 0),
        sample(HOUR, 4, 0, 1, 0, 0),
        sample(2 * HOUR, 8, 0, 1, 0, HOUR),
        sample(3 * HOUR, 0, 1, 0, 2_500_000, HOUR * 3 / 2),
        sample(4 * HOUR, 0, 0, 0, 5_000_000, HOUR * 3 / 2),
    ];
    let key = |site: &str| (site.parse().unwrap(), "g".parse().unwrap());
    let spend = BTreeMap::from([(key("home"), 16_000_000), (key("east"), 5_000_000)]);
    let sites = BTreeMap::from([
        ("home".parse().unwrap(), SiteKind::OnPrem),
        ("east".parse().unwrap(), SiteKind::Cloud),
    ]);
    (jobs, Replay { placements, samples, spend, ..Replay::default() }, Setting { gpus: 16, sites, warmup: 0 })
}

#[test]
fn figures_are_what_a_hand_gives() {
    let (jobs, replay, setting) = hand_made();
    let metrics = Metrics::of(&jobs, &replay, &setting);
    assert_eq!((metrics.jobs, metrics.counted_jobs, metrics.cloud_jobs), (4, 4, 2));
    assert_eq!((metrics.cloud_gpu_hours, metrics.all_cloud_gpu_hours), (2.0, 2.0));
    assert_eq!((metrics.avg_wait_hours, metrics.max_wait_hours), (0.375, 1.0));
    assert_eq!((metrics.p50_wait_hours, metrics.p99_wait_hours), (0.0, 0.5));
    assert_eq!((metrics.avg_jct_hours, metrics.jobs), (1.5, 4));
    // Within the three hours of arrivals: 4 x 2 + 8 x 1 of 16 x 3.
    assert_eq!((metrics.utilisation, metrics.violations), (0.33333, 0));
    assert_eq!(
        (metrics.cloud_micros, metrics.on_prem_micros, metrics.total_micros),
        (5_000_000, 16_000_000, 21_000_000)
    );
}

#[test]
fn a_warm_up_leaves_jobs_out_at_either_end() {
    let (jobs, replay, setting) = hand_made();
    let at = |warmup| Metrics::of(&jobs, &replay, &Setting { warmup, ..setting.clone() });
    // With 1, the jobs 1 to 3, as the published figures count.
    let one = at(1);
    assert_eq!((one.counted_jobs, one.cloud_jobs, one.avg_wait_hours), (3, 2, 0.5));
    assert_eq!((one.all_avg_wait_hours, one.total_micros), (0.375, 21_000_000));
    assert_eq!(at(2).counted_jobs, 1);
    for none in [at(3), at(1000)] {
        assert_eq!((none.counted_jobs, none.avg_wait_hours, none.max_wait_hours), (0, 0.0, 0.0));
    }
}

#[test]
fn placements_are_written_with_enough_decimals() {
    let (jobs, replay, setting) = hand_made();
    let outcome = Outcome::of(&jobs, &replay, &setting);
    assert_eq!(
        placements_csv(&jobs, &outcome.placements),
        "job_id,place,start_hr,nodes\n\
         a,local,0.000000000000,0:4\n\
         b,local,2.000000000000,1:4;0:4\n\
         \"c,d\",cloud,2.500000000000,\n\
         e,cloud,3.000000000000,\n"
    );
    assert_eq!(
        placements_csv(&jobs, &[Row(0, None, 1, 2, 1)]).lines().last(),
        Some("a,cloud,0.000000277778,")
    );
}

#[test]
fn curves_keep_areas_and_ends() {
    let (jobs, replay, setting) = hand_made();
    let outcome = Outcome::of(&jobs, &replay, &setting);
    let sum = |value: fn(&Point) -> f64| outcome.curves.iter().map(value).sum::<f64>() / 60.0;
    for (seen, exact) in
        [(sum(|p| p.local_gpus), 16.0), (sum(|p| p.cloud_gpus), 1.0), (sum(|p| p.queued), 2.0)]
    {
        assert!((seen - exact).abs() < 1e-9, "{seen} {exact}");
    }
    let last = outcome.curves.last().unwrap();
    assert_eq!((last.at_hours, last.cloud_spent, last.wait_hours), (4.0, 5.0, 0.375));
    let text = serde_json::to_string(&outcome).unwrap();
    assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
}

#[test]
fn a_chart_is_well_formed_and_says_what_it_shows() {
    let (jobs, replay, setting) = hand_made();
    let outcome = Outcome::of(&jobs, &replay, &setting);
    let svg =
        chart("Jobs <of> \"last\" quarter\u{1b}", &[16], &[("cost & first", &outcome), ("b", &outcome)]);
    for words in [
        "Jobs &lt;of&gt; &quot;last&quot; quarter",
        "cost &amp; first",
        "16 GPUs on-prem",
        "USD",
        "minutes",
        "hours from the first arrival",
    ] {
        assert!(svg.contains(words), "{words}");
    }
    assert!(!svg.contains(['\u{1b}']) && !svg.contains("NaN"));
    // Two lines of load and one in each of three panels, for each run.
    assert_eq!(svg.matches("<path ").count(), 10);
    assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    assert_eq!(chart("nothing", &[0], &[]).matches("<path ").count(), 0);
}

#[test]
fn a_replay_without_waiting_has_none_in_its_figures() {
    let mut description = crate::federation::uniform(4, 8).unwrap();
    let jobs = crate::generate::poisson(1, 200, crate::generate::Arrivals::synthetic(1.5, 32));
    crate::federation::admit_groups(&mut description, &jobs);
    let setting = Setting::of(&description, 0);
    let parameters = BaselineParameters {
        compute_wait: ComputeWait { billionths: 1_000_000_000 },
        constant_wait: DurationMs(HOUR),
        max_queue: None,
        fit: Fit::Best,
    };
    let run = |name: &str| {
        let scheduler = Contender::Baseline { name: name.to_owned(), parameters }.scheduler().unwrap();
        let replay =
            crate::replay(description.clone(), &jobs, scheduler, 1, &mut |_| ControlFlow::Continue(()));
        Outcome::of(&jobs, &replay.unwrap(), &setting)
    };
    let (now, later) = (run("no-wait"), run("constant"));
    assert_eq!((now.metrics.max_wait_hours, now.metrics.jobs), (0.0, 200));
    assert!(later.metrics.avg_wait_hours > 0.01 && later.metrics.max_wait_hours <= 1.0);
    assert!(later.metrics.cloud_gpu_hours < now.metrics.cloud_gpu_hours);
    let price = 2.5 * now.metrics.cloud_gpu_hours;
    assert!((now.metrics.cloud_micros as f64 / 1e6 - price).abs() < 0.05, "{price}");
}
