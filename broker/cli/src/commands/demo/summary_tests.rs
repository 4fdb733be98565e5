//! Tests of the summary: what is counted, what is added up, and which check notices what.

use spillway_api::v1::JobState;

use super::super::samples::{evidence, refused};
use super::*;

fn summary(change: impl FnOnce(&mut Evidence)) -> Summary {
    let mut evidence = evidence();
    change(&mut evidence);
    Summary::of(evidence, Duration::from_millis(20_000))
}

#[test]
fn what_happened_is_counted_and_added_up() {
    let summary = summary(|_| {});
    assert!(summary.passed(), "{:?}", summary.checks);
    let ends = [summary.jobs_succeeded, summary.jobs_failed, summary.jobs_refused, summary.jobs_cancelled];
    assert_eq!((summary.jobs_total, ends), (6, [3, 1, 1, 1]));
    assert_eq!([summary.jobs_on_prem, summary.jobs_personal, summary.jobs_cloud], [3, 1, 1]);
    assert_eq!((summary.instances_launched, summary.instances_alive), (2, 0));
    let spend = &summary.spend;
    assert_eq!((spend.by_group["vision"], spend.by_site["seoul-dgx"]), (980, 480));
    assert_eq!((spend.total_micros, spend.ledger_total_micros), (1000, Some(1000)));
    assert_eq!(summary.dispatch_ms_p50.to_string(), "40");
    let first = &summary.jobs[0];
    assert_eq!((first.waited_ms, first.ran_ms, first.cost_micros), (Some(1000), Some(2000), 300));
    assert_eq!(first.hosts, ["seoul-dgx-host"]);
}

type Change = fn(&mut Evidence);

#[test]
fn each_check_notices_what_it_is_for() {
    let failing = |change: Change| -> Vec<&'static str> {
        summary(change).checks.iter().filter(|check| !check.passed).map(|check| check.what).collect()
    };
    let cases: [(Change, &str); 11] = [
        (|e| e.jobs[0].1.summary.state = JobState::Failed, "every job ended as it was meant to"),
        (|e| e.jobs[4].1.summary.state = JobState::Succeeded, "every job ended as it was meant to"),
        (|e| e.refused.clear(), "the job that is too dear was refused at once"),
        (|e| e.refused.push(refused(false, ErrorCode::BudgetExceeded)), "the job that is too dear"),
        (|e| e.refused[0].code = ErrorCode::Invalid, "the job that is too dear was refused at once"),
        (|e| drop(e.jobs.remove(1)), "jobs ran on-prem, on a desk and in the cloud"),
        (|e| e.instances.values_mut().for_each(|seen| seen.1 = InstanceState::Ready), "no instance was left"),
        (|e| e.spend.rows[0].sums.amount.micros += 1, "every way of adding up the spend"),
        (|e| e.groups[1].held.micros = 1, "no group spent more than its budget"),
        (|e| e.health.ledger_imbalance_micros = 1, "the ledger balances"),
        (|e| e.health.invariant_violations = 1, "no invariant was broken"),
    ];
    for (change, what) in cases {
        let failing = failing(change);
        assert!(failing.len() == 1 && failing[0].starts_with(what), "{what}: {failing:?}");
    }
    let mut ended = summary(|_| {});
    ended.note_processes_left(1);
    assert!(!ended.passed());
}

#[test]
fn the_json_has_what_is_promised() {
    let json = serde_json::to_value(summary(|_| {})).expect("json");
    let names = [
        "jobs_total",
        "jobs_succeeded",
        "jobs_failed",
        "jobs_refused",
        "jobs_cancelled",
        "jobs_on_prem",
        "jobs_cloud",
        "instances_launched",
        "instances_alive",
        "ledger_imbalance_micros",
        "invariant_violations",
        "dispatch_ms_p50",
    ];
    for name in names {
        assert!(json[name].is_number(), "{name}: {}", json[name]);
    }
    assert_eq!(json["refused"][0]["reason"], "too dear");
    assert_eq!(json["spend"]["by_group"]["robotics"], 20);
    assert_eq!(json["jobs"][1]["kind"], "cloud");
}

#[test]
fn the_median_is_the_middle_one() {
    for (values, middle) in [(&[][..], 0), (&[7][..], 7), (&[9, 1, 5], 5), (&[4, 1, 3, 2], 2)] {
        assert_eq!(median(values), middle, "{values:?}");
    }
    assert_eq!([0, 49, 50, 1234].map(|micros| milliseconds(micros).to_string()), ["0", "0", "0.1", "1.2"]);
}
