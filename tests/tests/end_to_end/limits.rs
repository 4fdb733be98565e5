//! What a group may use, with real processes: a job waits for a limit, says so, and starts when there is room, also
//! after the broker was killed; what cannot be set changes nothing.

use spillway_api::v1::JobState;
use spillway_tests::federation::{GROUP, ON_PREM, SOON};
use spillway_tests::{Federation, Work, wait_for};
use spillway_types::Reason;

use crate::bad_input::{refused, spillway};

pub(crate) fn must(federation: &Federation, command: &str, arguments: &[&str]) -> String {
    let said = spillway(federation, command, arguments);
    assert_eq!(said.code, 0, "{said:?}");
    said.stdout
}

#[test]
fn a_job_waits_for_a_limit_and_says_so_and_starts_when_there_is_room() {
    let mut federation = Federation::start();
    federation.join("one", 2);
    must(&federation, "limits", &["set", GROUP, "concurrent-gpus", "1"]);
    let first = federation.submit(Work::new("first").at(ON_PREM).until_told());
    federation.wait_begun(&first);
    let second = federation.submit(Work::new("second").at(ON_PREM));
    let waits = || {
        let view = federation.job(&second);
        if view.summary.reason == Some(Reason::Limit) { Ok(view) } else { Err(format!("{:?}", view.summary)) }
    };
    let view = wait_for("the reason", SOON, waits);
    let way_out = view.explanation.and_then(|explanation| explanation.way_out).unwrap_or_default();
    assert!(way_out.contains("1 GPUs short"), "{way_out}");
    let shown = must(&federation, "limits", &["show", GROUP]);
    assert!(shown.contains("concurrent-gpus") && shown.contains("everywhere"), "{shown}");
    federation.kill_broker();
    federation.start_broker();
    federation.wait_node("one", spillway_types::NodeState::Ready);
    assert_eq!(federation.job(&second).attempts, [], "the first still holds what there is");
    federation.finish(&first);
    federation.wait_job(&first, JobState::Succeeded);
    federation.wait_job(&second, JobState::Succeeded);
    federation.audit();
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut federation = Federation::start();
    federation.join("one", 2);
    let runs = federation.submit(Work::new("runs").at(ON_PREM).until_told());
    federation.wait_begun(&runs);
    must(&federation, "limits", &["set", GROUP, "concurrent-gpus", "2"]);
    must(&federation, "groups", &["create", "below", "--parent", GROUP]);
    let before = must(&federation, "groups", &["-o", "json"]) + &must(&federation, "limits", &["-o", "json"]);
    let wrong: [(&str, &[&str], i32, &[&str]); 10] = [
        (
            "limits",
            &["set", GROUP, "concurrent-gpus", "0.5"],
            1,
            &["below the 1 GPUs in use", "set it to 1 GPUs or more"],
        ),
        ("limits", &["set", GROUP, "concurrent-gpus", "lots"], 2, &["`lots`", "GPUs, with two decimals"]),
        ("limits", &["set", GROUP, "speed", "1"], 2, &["`speed` is not a metric"]),
        ("limits", &["set", "nobody", "money", "1"], 1, &["there is no group `nobody`"]),
        ("groups", &["set", GROUP, "--parent", "below"], 1, &["is the group itself or one below it"]),
        ("groups", &["remove", GROUP], 1, &["is below it", "remove that first"]),
        (
            "budget",
            &["set", GROUP, "5 XXX", "--window", "month"],
            1,
            &["currency XXX is not known", "known are USD"],
        ),
        (
            "groups",
            &["set", GROUP, "--currency", "XXX"],
            1,
            &["currency XXX is not known", "currencies set XXX"],
        ),
        ("budget", &["transfer", GROUP, "below", "5", "--because", "why"], 1, &["counts in both"]),
        ("groups", &["set", GROUP, "--zone", "Mars/Olympus"], 2, &["Mars/Olympus"]),
    ];
    for (command, arguments, code, words) in wrong {
        refused(&spillway(&federation, command, arguments), code, words);
    }
    must(&federation, "groups", &["remove", "below"]);
    refused(&spillway(&federation, "groups", &["remove", GROUP]), 1, &["1 of its attempts hold"]);
    must(&federation, "groups", &["create", "below", "--parent", GROUP]);
    let after = must(&federation, "groups", &["-o", "json"]) + &must(&federation, "limits", &["-o", "json"]);
    assert_eq!(before, after);
    federation.finish(&runs);
    federation.wait_job(&runs, JobState::Succeeded);
    federation.audit();
}
