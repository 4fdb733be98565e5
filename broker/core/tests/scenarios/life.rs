//! One job on one node: from the submission to the settlement, and every way to leave that path.

use spillway_core::Command;
use spillway_core::command::{PartNews, TickLimits};
use spillway_core::entity::PartState;
use spillway_types::{DurationMs, FailureReason, JobId, PartEnd, RetryPolicy, TaskState};

use crate::words::{DOLLAR, HOUR, Scene, array, ended_well, failed, job, name, once, usage};

/// Brings a job somewhere.
type Story = fn(&mut Scene) -> JobId;

#[test]
fn a_job_runs_is_charged_and_leaves_memory() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:4"));
    assert_eq!(scene.stands(id), "staging");
    assert_eq!(scene.held(), 4 * DOLLAR * 7210 / 3600, "the time limit and the grace are held");
    assert_eq!(scene.broker_node(node).parts[&attempt].blocks(), 400);
    scene.says(node, attempt, 0, PartNews::Started);
    assert_eq!(scene.stands(id), "running");
    scene.world.pass(DurationMs(HOUR));
    scene.says(node, attempt, 0, usage(0, HOUR / 2));
    assert_eq!(scene.spent(), 2 * DOLLAR);
    scene.says(node, attempt, 0, ended_well(HOUR));
    let ended = scene.job(id);
    assert_eq!(ended.task(0), Some(TaskState::Succeeded));
    assert_eq!((ended.cost_micros, ended.gpu_ms), (4 * DOLLAR, 4 * HOUR));
    assert!(ended.started.is_some() && ended.ended.is_some());
    assert_eq!((scene.spent(), scene.held()), (4 * DOLLAR, 0));
    assert!(scene.broker_node(node).parts.is_empty());
    scene.is_over();
}

#[test]
fn a_job_is_cancelled_wherever_it_stands() {
    let stories: [(&str, Story); 4] = [
        ("queued", |scene| scene.submit(&job("H100:16"))),
        ("staging", |scene| scene.start(&job("H100:8")).0),
        ("running", |scene| {
            let (id, _) = scene.start(&job("H100:8"));
            scene.contact();
            id
        }),
        ("finishing", |scene| {
            let (id, _) = scene.start(&job("H100:8"));
            scene.contact();
            scene.cancel(id);
            id
        }),
    ];
    for (stands, story) in stories {
        let mut scene = Scene::new();
        scene.node("H100:8");
        scene.offer("H100:16", 1000);
        let id = story(&mut scene);
        assert_eq!(scene.stands(id), stands);
        scene.cancel(id);
        scene.contact();
        assert_eq!(scene.job(id).task(0), Some(TaskState::Cancelled), "from {stands}");
        scene.is_over();
    }
}

#[test]
fn a_part_that_was_cancelled_on_its_way_is_charged_nothing() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.cancel(id);
    scene.contact();
    assert!(matches!(
        scene.attempt(attempt).parts[0].state,
        PartState::Ended { end: PartEnd::NotStarted { .. }, ran_ms: 0 }
    ));
    assert_eq!((scene.spent(), scene.broker_node(node).parts.len()), (0, 0));
}

#[test]
fn what_ended_well_before_the_cancel_arrived_succeeded() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.says(node, attempt, 0, PartNews::Started);
    scene.cancel(id);
    scene.says(node, attempt, 0, ended_well(5));
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    let late = scene.refused(Command::Cancel { job: id, user: name("ada") });
    assert_eq!(late.to_string(), format!("no job {id}"), "it left memory");
}

#[test]
fn a_job_that_waits_for_its_settlement_cannot_be_cancelled_any_more() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&once("H100:8"));
    scene.says(node, attempt, 0, PartNews::Started);
    scene.world.disconnect(node).unwrap();
    scene.pass(80);
    let late = scene.refused(Command::Cancel { job: id, user: name("ada") });
    assert_eq!(late.to_string(), format!("job {id} has ended already: failed"));
}

#[test]
fn a_program_that_fails_is_tried_again_only_where_the_job_says_so() {
    for (on_failure, attempts) in [(false, 1), (true, 3)] {
        let mut scene = Scene::new();
        scene.node("H100:8");
        let spec = spillway_types::JobSpec {
            retry: RetryPolicy { max_attempts: 3, on_loss: true, on_failure },
            ..job("H100:8")
        };
        let id = scene.submit(&spec);
        scene.runs(id, 10, PartEnd::Exited { code: 3 });
        for _ in 0..8 {
            scene.world.place().unwrap();
            scene.contact();
            scene.pass(20);
        }
        let failure = FailureReason::ExitCode { code: 3 };
        assert_eq!(scene.job(id).task(0), Some(TaskState::Failed { failure }));
        assert_eq!(scene.world.records().attempts.len(), attempts);
        let numbers: Vec<u32> = scene.world.records().attempts.values().map(|a| a.number).collect();
        assert_eq!(numbers, (1..=u32::try_from(attempts).unwrap()).collect::<Vec<_>>());
        scene.is_over();
    }
}

#[test]
fn how_a_program_ended_decides_how_its_job_did() {
    let cases = [
        (PartEnd::Exited { code: 0 }, TaskState::Succeeded),
        (PartEnd::Exited { code: 1 }, TaskState::Failed { failure: FailureReason::ExitCode { code: 1 } }),
        (
            PartEnd::Signalled { signal: 9 },
            TaskState::Failed { failure: FailureReason::Signal { signal: 9 } },
        ),
        (PartEnd::TimeLimit, TaskState::Failed { failure: FailureReason::TimeLimit }),
        (PartEnd::LeaseExpired, TaskState::Failed { failure: FailureReason::Lost }),
        (PartEnd::Vanished, TaskState::Failed { failure: FailureReason::Lost }),
    ];
    for (end, expected) in cases {
        let mut scene = Scene::new();
        let node = scene.node("H100:8");
        let (id, attempt) = scene.start(&once("H100:8"));
        scene.says(node, attempt, 0, PartNews::Started);
        scene.says(node, attempt, 0, PartNews::Ended { end: end.clone(), ran_ms: 1 });
        assert_eq!(scene.job(id).task(0), Some(expected), "{end:?}");
        scene.is_over();
    }
}

#[test]
fn a_part_that_never_started_is_tried_again_even_where_a_job_never_starts_twice() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&once("H100:8"));
    let end = PartEnd::NotStarted { message: "no such program".to_owned() };
    scene.says(node, attempt, 0, PartNews::Ended { end, ran_ms: 0 });
    assert_eq!(scene.stands(id), "queued");
    for _ in 0..2 {
        scene.world.place().unwrap();
        let attempt = scene.attempt_of(id);
        let end = PartEnd::NotStarted { message: "no such program".to_owned() };
        scene.says(node, attempt, 0, PartNews::Ended { end, ran_ms: 0 });
    }
    let failure = FailureReason::Start { message: "no such program".to_owned() };
    assert_eq!(scene.job(id).task(0), Some(TaskState::Failed { failure }));
}

#[test]
fn no_more_is_charged_than_the_broker_saw_leased() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&job("H100:8"));
    scene.says(node, attempt, 0, PartNews::Started);
    scene.world.pass(DurationMs(HOUR));
    scene.says(node, attempt, 0, usage(0, u64::MAX));
    scene.says(node, attempt, 0, failed(1, u64::MAX));
    assert_eq!(scene.attempt(attempt).gpu_ms, 8 * (HOUR + 2000), "an hour, and two seconds for the messages");
    scene.is_over();
}

#[test]
fn usage_above_the_hold_is_charged_and_measured() {
    let mut scene = Scene::new();
    scene.group("lab", Some("org"), Some(17 * DOLLAR));
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&job("H100:8"));
    scene.says(node, attempt, 0, PartNews::Started);
    scene.world.pass(DurationMs(3 * HOUR));
    scene.says(node, attempt, 0, ended_well(3 * HOUR));
    assert_eq!(scene.spent(), 24 * DOLLAR);
    let overshoot = scene.state().overshoot_micros[&name("lab")];
    assert_eq!(overshoot, 24 * DOLLAR - 8 * DOLLAR * 7210 / 3600);
    scene.is_over();
}

#[test]
fn an_array_of_ten_thousand_stays_small() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let id = scene.submit(&array(10_000, "H100:1"));
    assert_eq!(scene.job(id).queued.ranges(), &[(0, 9999)]);
    scene.runs(id, 10, PartEnd::Exited { code: 0 });
    for _ in 0..5 {
        assert_eq!(scene.world.place().unwrap(), 8);
        scene.contact();
        scene.pass(20);
    }
    let row = scene.job(id);
    assert_eq!((row.succeeded.ranges(), row.queued.len()), (&[(0, 39)][..], 9960));
    assert!(row.tries.is_empty() && row.active.is_empty());
    assert!(serde_json::to_string(row).unwrap().len() < 2000);
    scene.world.place().unwrap();
    scene.cancel(id);
    scene.contact();
    assert_eq!(scene.job(id).cancelled.len(), 9960);
    scene.is_over();
}

#[test]
fn a_task_that_fails_does_not_stop_the_others() {
    let mut scene = Scene::new();
    let node = scene.node("H100:1");
    let id = scene.submit(&array(3, "H100:1"));
    for task in 0..3 {
        scene.world.place().unwrap();
        let attempt = scene.job(id).task(task).unwrap().attempt().unwrap();
        scene.says(node, attempt, 0, PartNews::Started);
        scene.says(node, attempt, 0, if task == 1 { failed(9, 1) } else { ended_well(1) });
    }
    let ended = scene.job(id);
    assert_eq!((ended.succeeded.len(), ended.failed.ranges()), (2, &[(1, 1)][..]));
    assert_eq!(ended.rolled_up(), "failed");
    scene.is_over();
}

#[test]
fn a_state_survives_being_written_down() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.offer("H100:8", 10);
    scene.start(&job("H100:8"));
    scene.start(&job("H100:8"));
    scene.contact();
    scene.pass(60);
    let text = serde_json::to_string(scene.state()).unwrap();
    assert_eq!(serde_json::from_str::<spillway_core::State>(&text).unwrap(), *scene.state());
    scene.idle(Command::Tick { limits: TickLimits::default() });
}
