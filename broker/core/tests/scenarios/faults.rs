//! Silence, late reports, doubled agents, and messages that come twice, too late or from nowhere.

use std::collections::BTreeSet;

use spillway_core::command::{PartNews, PartReport, TickLimits};
use spillway_core::desired::parts_at;
use spillway_core::entity::PartState;
use spillway_core::{Command, Reply};
use spillway_types::{AttemptState, DurationMs, FailureReason, NodeState, PartEnd, TaskState};

use crate::words::{DOLLAR, HOUR, Scene, ended_well, inventory, job, once, usage};

#[test]
fn a_silent_node_loses_its_job_when_lease_grace_and_margin_are_over() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, _) = scene.start(&job("H100:8"));
    scene.contact();
    scene.world.disconnect(node).unwrap();
    scene.pass(71);
    assert_eq!(scene.stands(id), "running");
    assert!(scene.world.running().is_empty(), "the node ended it when the lease was over");
    scene.pass(1);
    assert_eq!((scene.stands(id), scene.job(id).tries[&0].counted), ("queued", 1));
    assert_eq!(scene.broker_node(node).state, NodeState::Lost);
}

#[test]
fn a_job_that_never_starts_twice_fails_when_its_node_falls_silent() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, _) = scene.start(&once("H100:8"));
    scene.contact();
    scene.world.disconnect(node).unwrap();
    scene.pass(72);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Failed { failure: FailureReason::Lost }));
}

#[test]
fn a_late_report_after_silence_is_charged_once() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.contact();
    scene.pass(1800);
    assert_eq!(scene.spent(), 4 * DOLLAR);
    scene.world.disconnect(node).unwrap();
    scene.pass(72);
    assert_eq!(scene.attempt(attempt).state, AttemptState::Settling);
    assert!(scene.held() > 0, "more may be reported");
    scene.world.connect(node).unwrap();
    scene.contact();
    assert_eq!(scene.attempt(attempt).gpu_ms, 8 * 1_860_000, "it ran until its lease was over");
    assert_eq!(scene.attempt(attempt).state, AttemptState::Settled);
    assert_eq!((scene.spent(), scene.held()), (8 * DOLLAR * 1860 / 3600, 0));
    assert_eq!(scene.stands(id), "queued");
}

#[test]
fn usage_that_nobody_reports_is_waited_for_a_quarter_of_an_hour() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&once("H100:8"));
    scene.contact();
    scene.world.disconnect(node).unwrap();
    scene.pass(72);
    scene.pass(899);
    scene.idle(Command::Tick { limits: TickLimits::default() });
    scene.pass(1);
    scene.tick();
    assert_eq!(scene.attempt(attempt).state, AttemptState::Settled);
    scene.is_over();
}

#[test]
fn a_copied_node_does_not_start_what_the_other_one_may_run() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.contact();
    scene.world.copy(node).unwrap();
    scene.check();
    assert!(scene.attempt(attempt).parts[0].missing);
    assert!(parts_at(scene.state(), node).is_empty(), "nobody gets its lease");
    scene.contact();
    assert_eq!(scene.stands(id), "running");
    assert_eq!(scene.world.running().len(), 1, "the first machine runs on");
    let never = PartEnd::NotStarted { message: "unknown here".to_owned() };
    scene.says(node, attempt, 0, PartNews::Ended { end: never, ran_ms: 0 });
    assert_eq!(scene.stands(id), "running", "a guess ends nothing");
    scene.pass(71);
    assert_eq!((scene.stands(id), scene.world.running().len()), ("running", 0), "its lease was not renewed");
    scene.pass(1);
    assert_eq!(scene.stands(id), "queued");
    assert!(scene.attempt(attempt).may_have_run());
}

#[test]
fn a_copy_of_a_node_that_was_never_heard_to_have_begun_gets_nothing_either() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&once("H100:8"));
    scene.world.instruct(node);
    assert_eq!(scene.world.running().len(), 1, "it runs, and has not said so");
    scene.world.copy(node).unwrap();
    scene.contact();
    assert!(scene.attempt(attempt).parts[0].missing);
    assert_eq!(scene.world.running().len(), 1);
    scene.pass(72);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Failed { failure: FailureReason::Lost }));
}

#[test]
fn the_silence_of_a_lost_part_does_not_close_the_node_that_lost_it() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, _) = scene.start(&job("H100:8"));
    scene.contact();
    scene.world.copy(node).unwrap();
    scene.pass(72);
    assert_eq!((scene.stands(id), scene.broker_node(node).state), ("queued", NodeState::Ready));
    assert_eq!(scene.world.place().unwrap(), 1);
}

#[test]
fn a_node_that_is_silent_in_an_open_session_gets_no_new_work() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:4"));
    scene.contact();
    scene.must(Command::DeclareSilent { attempt, rank: 0 });
    assert_eq!((scene.stands(id), scene.broker_node(node).state), ("queued", NodeState::Lost));
    assert_eq!(scene.world.place().unwrap(), 0);
    scene.world.restart(node).unwrap();
    assert_eq!(scene.world.place().unwrap(), 1);
}

#[test]
fn an_agent_that_starts_anew_goes_on_where_it_was() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&once("H100:8"));
    scene.contact();
    scene.world.restart(node).unwrap();
    scene.pass(3600);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    assert!(!scene.attempt(attempt).parts[0].missing);
    scene.is_over();
}

#[test]
fn a_message_of_an_old_session_changes_nothing() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&job("H100:8"));
    let newest = scene.world.restart(node).unwrap();
    let reports = vec![PartReport { attempt, rank: 0, news: PartNews::Started }];
    let stale = scene.refused(Command::Report { node, epoch: newest - 1, first: 1, reports });
    assert_eq!(stale.to_string(), format!("node {node}: epoch 1 is over, the newest is 2"));
    scene.idle(Command::Disconnect { node, epoch: newest - 1 });
}

#[test]
fn a_gap_in_the_spool_is_refused() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&job("H100:8"));
    let reports = vec![PartReport { attempt, rank: 0, news: ended_well(1) }];
    let gap = scene.refused(Command::Report { node, epoch: 1, first: 2, reports });
    assert_eq!(gap.to_string(), format!("node {node}: event 2 cannot follow event 0"));
}

#[test]
fn what_is_reported_twice_counts_once() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&job("H100:8"));
    scene.world.pass(DurationMs(HOUR));
    let report = |news| PartReport { attempt, rank: 0, news };
    let all = [
        report(PartNews::Started),
        report(usage(0, 1000)),
        report(usage(1000, 2000)),
        report(ended_well(2000)),
    ];
    let send = |first: u64, take: usize| {
        let skip = usize::try_from(first).unwrap() - 1;
        let reports = all.iter().skip(skip).take(take).cloned().collect();
        Command::Report { node, epoch: 1, first, reports }
    };
    assert_eq!(scene.must(send(1, 2)), Reply::Acked(2));
    assert_eq!(scene.idle(send(1, 2)), Reply::Acked(2));
    assert_eq!(scene.must(send(2, 2)), Reply::Acked(3));
    assert_eq!(scene.must(send(1, 4)), Reply::Acked(4));
    assert_eq!(scene.idle(send(3, 2)), Reply::Acked(4));
    assert_eq!(scene.idle(send(1, 2)), Reply::Acked(4), "what is acknowledged stays so");
    assert_eq!(scene.attempt(attempt).gpu_ms, 8 * 2000);
    scene.is_over();
}

#[test]
fn a_node_cannot_speak_for_another_ones_parts() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    let runs_on = scene.attempt(attempt).parts[0].node.unwrap();
    let liar = scene.node("H100:8");
    for news in [PartNews::Started, usage(0, HOUR), ended_well(HOUR)] {
        scene.says(liar, attempt, 0, news);
    }
    scene.says(runs_on, attempt, 1, ended_well(HOUR));
    assert_eq!((scene.stands(id), scene.spent()), ("staging", 0));
}

#[test]
fn an_unknown_part_is_not_declared_silent() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&job("H100:8"));
    scene.idle(Command::DeclareSilent { attempt, rank: 1 });
    scene.says(node, attempt, 0, ended_well(0));
    scene.idle(Command::DeclareSilent { attempt, rank: 0 });
    assert!(matches!(scene.attempt(attempt).parts[0].state, PartState::Ended { .. }));
}

#[test]
fn a_node_that_came_back_smaller_waits_until_its_leases_are_over() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.contact();
    scene.world.disconnect(node).unwrap();
    let hello = |observed: BTreeSet<_>| Command::Connect {
        node,
        boot_nonce: 99,
        inventory: Box::new(inventory("H100:7")),
        observed,
        spool: None,
    };
    let why = scene.refused(hello([attempt].into())).to_string();
    assert_eq!(
        why,
        format!(
            "inventory: n1 lacks 100 blocks of accelerator 7, which {attempt} has of it: the node can return once its leases are over"
        )
    );
    scene.pass(72);
    assert_eq!(scene.stands(id), "queued");
    scene.must(hello(BTreeSet::new()));
    assert_eq!(scene.broker_node(node).free().unwrap().whole_gpus(), 7);
}

#[test]
fn a_node_that_came_back_with_less_memory_names_the_memory() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    scene.start(&job("H100:1"));
    let mut small = inventory("H100:8");
    small.capacity.memory_mib = 512;
    let hello = Command::Connect {
        node,
        boot_nonce: 1,
        inventory: Box::new(small),
        observed: BTreeSet::new(),
        spool: None,
    };
    assert!(scene.refused(hello).to_string().contains("lacks 1024 MiB of memory"));
}

#[test]
fn a_broker_that_starts_again_finds_its_nodes_away_and_its_jobs_running() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, _) = scene.start(&job("H100:8"));
    scene.contact();
    scene.must(Command::StartBroker { deployment: "another".to_owned() });
    assert_eq!((scene.state().incarnation, scene.state().deployment.as_str()), (2, "simulated"));
    assert_eq!((scene.broker_node(node).state, scene.stands(id)), (NodeState::Disconnected, "running"));
    scene.world.restart(node).unwrap();
    scene.pass(3600);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    scene.is_over();
}
