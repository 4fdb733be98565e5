//! A gang starts whole or not at all, and ends as one.

use spillway_core::Command;
use spillway_core::command::PartNews;
use spillway_core::desired::parts_at;
use spillway_core::entity::StopCause;
use spillway_types::{AttemptId, JobId, NodeId, PartEnd, TaskState, WantedPhase};

use crate::words::{HOUR, Scene, ended_well, failed, gang};

fn wants(scene: &Scene, node: NodeId) -> Option<WantedPhase> {
    parts_at(scene.state(), node).first().map(|part| part.want)
}

fn placed(scene: &mut Scene) -> (JobId, AttemptId, [NodeId; 2]) {
    scene.node("H100:8");
    scene.node("H100:8");
    let (id, attempt) = scene.start(&gang(2, "H100:8"));
    let nodes: Vec<NodeId> = scene.attempt(attempt).parts.iter().filter_map(|part| part.node).collect();
    (id, attempt, [nodes[0], nodes[1]])
}

#[test]
fn a_gang_is_prepared_and_then_started_together() {
    let mut scene = Scene::new();
    let (id, attempt, [first, second]) = placed(&mut scene);
    assert_eq!(
        (wants(&scene, first), wants(&scene, second)),
        (Some(WantedPhase::Prepared), Some(WantedPhase::Prepared))
    );
    scene.says(first, attempt, 0, PartNews::Prepared);
    assert_eq!(wants(&scene, first), Some(WantedPhase::Prepared), "the other one is not ready");
    scene.says(second, attempt, 1, PartNews::Prepared);
    assert_eq!(
        (wants(&scene, first), wants(&scene, second)),
        (Some(WantedPhase::Running), Some(WantedPhase::Running))
    );
    scene.says(first, attempt, 0, PartNews::Started);
    assert_eq!(scene.stands(id), "staging");
    scene.says(second, attempt, 1, PartNews::Started);
    assert_eq!(scene.stands(id), "running");
    scene.says(first, attempt, 0, ended_well(100));
    assert_eq!((scene.stands(id), wants(&scene, second)), ("finishing", Some(WantedPhase::Running)));
    assert!(scene.state().nodes[&first].parts.contains_key(&attempt), "its nodes are freed together");
    scene.says(second, attempt, 1, ended_well(200));
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    scene.is_over();
}

#[test]
fn a_part_that_ends_badly_stops_the_others() {
    let mut scene = Scene::new();
    let (id, attempt, [first, second]) = placed(&mut scene);
    scene.contact();
    assert_eq!(scene.stands(id), "running");
    scene.says(first, attempt, 0, failed(4, HOUR));
    assert_eq!(scene.attempt(attempt).stop, Some(StopCause::GangBroken));
    assert_eq!(wants(&scene, second), Some(WantedPhase::Stopped));
    scene.contact();
    assert_eq!(scene.job(id).rolled_up(), "failed");
    scene.is_over();
}

#[test]
fn a_gang_of_which_one_part_never_starts_is_tried_again_whole() {
    let mut scene = Scene::new();
    let (id, attempt, [first, second]) = placed(&mut scene);
    scene.says(second, attempt, 1, PartNews::Prepared);
    let end = PartEnd::NotStarted { message: "no disk space".to_owned() };
    scene.says(first, attempt, 0, PartNews::Ended { end, ran_ms: 0 });
    scene.says(second, attempt, 1, PartNews::Ended { end: PartEnd::Stopped, ran_ms: 0 });
    assert_eq!(scene.stands(id), "queued");
    assert!(!scene.attempt(attempt).may_have_run(), "a prepared part that was stopped never ran");
}

#[test]
fn a_gang_whose_node_falls_silent_is_stopped_and_tried_again_when_all_is_over() {
    let mut scene = Scene::new();
    let (id, attempt, [first, second]) = placed(&mut scene);
    scene.contact();
    scene.world.disconnect(first).unwrap();
    scene.pass(71);
    assert_eq!(
        scene.stands(id),
        "running",
        "its lease of 60 s, grace of 10 s and margin of 2 s are not over"
    );
    scene.pass(1);
    assert_eq!(wants(&scene, second), Some(WantedPhase::Stopped));
    assert_eq!(scene.job(id).active.len(), 1, "the other part still runs");
    scene.contact();
    assert_eq!(scene.stands(id), "queued");
    assert!(scene.world.running().is_empty());
    scene.world.connect(first).unwrap();
    scene.contact();
    assert!(!scene.state().attempts.contains_key(&attempt), "its usage came late and complete");
    scene.world.place().unwrap();
    assert_eq!(scene.job(id).tries[&0].made, 2);
}

#[test]
fn a_gang_is_not_placed_on_half_of_its_nodes() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let other = scene.node("H100:8");
    scene.submit(&gang(2, "H100:8"));
    let mut plan = scene.world.plan();
    scene.must(Command::StepNode { node: other, step: spillway_types::NodeStep::Cordon });
    let decisions = std::mem::take(&mut plan.decisions);
    assert_eq!(decisions.len(), 1);
    let place = Command::Place { decisions, endpoint: spillway_core::command::Endpoint::default() };
    assert_eq!(scene.idle(place), spillway_core::Reply::Placed { started: 0, stale: 1 });
    assert!(scene.broker_node(node).parts.is_empty());
}
