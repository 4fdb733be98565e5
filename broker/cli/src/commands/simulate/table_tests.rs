//! The comparison as it is seen.

use spillway_sim::report::Outcome;
use spillway_types::UnixMs;

use super::super::runs::Matched;
use super::*;

fn finished(policy: &str, cloud: f64, wait: f64, matched: Option<Matched>) -> Finished {
    let metrics = serde_json::json!({
        "jobs": 500, "counted_jobs": 400, "cloud_jobs": 121, "cloud_gpu_hours": cloud, "avg_wait_hours": wait,
        "p50_wait_hours": 0.0, "p99_wait_hours": wait * 20.0, "max_wait_hours": wait * 1500.0, "avg_jct_hours": wait + 1.02,
        "all_cloud_gpu_hours": cloud, "all_avg_wait_hours": wait, "all_max_wait_hours": wait * 60.0,
        "utilisation": 0.8312, "cloud_micros": 1_234_567_890, "on_prem_micros": 500_000, "total_micros": 1_235_067_890,
        "on_demand_micros": 1_234_567_890, "spot_micros": 0, "egress_micros": 0, "interruptions": 0, "retries": 0,
        "lost_gpu_hours": 0.0, "failed": [], "refused": [], "broken_bounds": 0, "longest_past_bound_hours": 0.0,
        "spend": [], "violations": 0,
    });
    let metrics = serde_json::from_value(metrics).expect("figures");
    Finished::new(policy.to_owned(), matched, Outcome { metrics, curves: vec![], placements: vec![] })
}

fn shown(width: Option<u16>) -> String {
    let matched = |reached| Some(Matched { wait_hour_price_micros: 16_250_000, reached, runs: 21 });
    let policies = vec![
        finished("starburst", 233.6, 0.0512, None),
        finished("cost-first", 156.5, 0.0506, matched(true)),
        finished("on-prem-only", 0.0, 3.2, matched(false)),
    ];
    let (jobs, gpus, seed, warmup, left_out) = (500, 32, 7, 50, None);
    let federations = vec![];
    let all =
        Report { jobs, left_out, gpus, federations, seed, warmup, match_wait_hours: Some(0.0512), policies };
    report(&Look { wide: false, width, now: UnixMs(0) }, &all)
}

#[test]
fn the_comparison() {
    insta::assert_snapshot!("simulate", shown(None));
    insta::assert_snapshot!("simulate_narrow", shown(Some(80)));
}

#[test]
fn what_went_otherwise_is_said_only_where_something_did() {
    let mut run = finished("cost-first", 10.0, 0.5, None);
    assert_eq!(trouble(&run), "");
    let metrics = &mut run.metrics;
    (metrics.on_demand_micros, metrics.spot_micros, metrics.egress_micros) =
        (1_000_000_000, 234_567_890, 4_500_000);
    (metrics.interruptions, metrics.retries, metrics.lost_gpu_hours) = (1, 2, 5.5);
    metrics.failed = vec!["7".to_owned(), "8".to_owned()];
    let (job, reason) = ("9".to_owned(), "deadline: 1h cannot be met".to_owned());
    metrics.refused = vec![spillway_sim::report::Refused { job, reason }];
    (metrics.broken_bounds, metrics.longest_past_bound_hours) = (3, 1.5);
    assert_eq!(
        trouble(&run),
        "cost-first: of the cloud's cost, 1,000.00 on demand and 234.57 spot\n\
         cost-first: 4.50 more for data that was moved, which no sum has\n\
         cost-first: 1 machine taken back by providers\n\
         cost-first: 2 more starts of jobs that were stopped, 5.50 GPU-h lost\n\
         cost-first: 2 jobs given up after the last try, the first of them 7\n\
         cost-first: 1 job refused, the first of them 9: deadline: 1h cannot be met\n\
         cost-first: 3 jobs waited past the bound, by 1.50h at most: please report this\n"
    );
}

#[test]
fn values_read_well() {
    for (hours, text) in [
        (0.0, "0s"),
        (0.0001, "1s"),
        (0.0512, "3m05s"),
        (1.0, "1.00h"),
        (47.9, "47.90h"),
        (48.0, "2.0d"),
        (424.0, "17.7d"),
    ] {
        assert_eq!(wait(hours), text);
    }
    for (micros, text) in
        [(0, "0.00"), (-1_500_000, "-1.50"), (999_999_999, "1,000.00"), (1_234_567_890_000, "1,234,567.89")]
    {
        assert_eq!(dollars(micros), text);
    }
}
