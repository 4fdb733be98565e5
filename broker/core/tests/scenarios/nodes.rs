//! Nodes join, are cordoned, drained and sent away.

use spillway_core::command::JoinProof;
use spillway_core::{Command, Refusal, Reply};
use spillway_types::{DurationMs, NodeState, NodeStep, TaskState};

use crate::words::{Scene, job, name, once};

fn issue(hash: &str, pool: &str, lifetime: DurationMs) -> Command {
    Command::IssueJoinToken { hash: hash.to_owned(), pool: name(pool), lifetime, issuer: name("root") }
}

fn redeem(hash: &str, key: &str) -> Command {
    let proof = JoinProof::Token { hash: hash.to_owned() };
    Command::Enrol { proof, key_hash: key.to_owned(), hostname: "n1".to_owned() }
}

#[test]
fn a_join_token_opens_once_and_answers_its_own_machine_again() {
    let mut scene = Scene::new();
    scene.must(issue("t", "main", DurationMs::from_secs(60)));
    let Reply::Node(node) = scene.must(redeem("t", "key-a")) else { panic!("it is a node") };
    assert_eq!(scene.broker_node(node).state, NodeState::Joining);
    assert_eq!(scene.idle(redeem("t", "key-a")), Reply::Node(node), "the first answer was lost");
    assert!(scene.refused(redeem("t", "key-b")).to_string().contains("used by another machine"));
    assert!(scene.refused(redeem("u", "key-b")).to_string().contains("not known here"));
    scene.must(issue("v", "main", DurationMs::from_secs(60)));
    scene.world.pass(DurationMs::from_secs(60));
    assert!(scene.refused(redeem("v", "key-c")).to_string().contains("expired"));
}

#[test]
fn join_tokens_have_limits() {
    let mut scene = Scene::new();
    let day = DurationMs::from_secs(24 * 3600);
    scene.must(issue("a", "main", day));
    for lifetime in [DurationMs(0), DurationMs(day.0 + 1)] {
        assert!(scene.refused(issue("b", "main", lifetime)).to_string().contains("at most 1d"));
    }
    assert!(scene.refused(issue("c", "east", day)).to_string().contains("join by themselves"));
    assert!(matches!(scene.refused(issue("d", "nowhere", day)), Refusal::NotFound { kind: "pool", .. }));
}

#[test]
fn a_cordoned_node_keeps_its_work_and_takes_no_more() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, _) = scene.start(&job("H100:4"));
    scene.contact();
    scene.must(Command::StepNode { node, step: NodeStep::Cordon });
    let waiting = scene.submit(&job("H100:4"));
    assert_eq!(scene.world.place().unwrap(), 0);
    scene.pass(3600);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    scene.must(Command::StepNode { node, step: NodeStep::Uncordon });
    assert_eq!(scene.world.place().unwrap(), 1);
    assert_eq!(scene.stands(waiting), "staging");
}

#[test]
fn a_cordon_outlives_the_session_and_a_drained_node_leaves_when_it_is_empty() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    scene.must(Command::StepNode { node, step: NodeStep::Cordon });
    let epoch = scene.broker_node(node).epoch;
    scene.must(Command::Disconnect { node, epoch });
    scene.world.connect(node).unwrap();
    assert_eq!(scene.broker_node(node).state, NodeState::Cordoned);
    scene.must(Command::StepNode { node, step: NodeStep::Uncordon });
    let (id, _) = scene.start(&job("H100:8"));
    scene.contact();
    scene.must(Command::StepNode { node, step: NodeStep::Drain });
    scene.tick();
    assert_eq!(scene.broker_node(node).parts.len(), 1, "it has work");
    scene.pass(3600);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    scene.tick();
    assert!(!scene.state().nodes.contains_key(&node));
}

#[test]
fn a_node_leaves_when_it_is_empty() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, _) = scene.start(&job("H100:8"));
    scene.contact();
    let leave = Command::StepNode { node, step: NodeStep::Leave };
    assert!(scene.refused(leave.clone()).to_string().contains("still has 1 attempts"));
    scene.must(Command::StepNode { node, step: NodeStep::Drain });
    scene.pass(3600);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    scene.must(leave);
    assert!(scene.world.records().nodes.contains_key(&node) && scene.state().nodes.is_empty());
    assert!(matches!(scene.world.connect(node).unwrap_err(), Refusal::NotFound { kind: "node", .. }));
}

#[test]
fn nobody_can_ask_for_what_only_an_agent_does() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    for step in [NodeStep::Connect, NodeStep::Disconnect, NodeStep::Lose] {
        assert!(matches!(
            scene.refused(Command::StepNode { node, step }),
            Refusal::Invalid { field: "step", .. }
        ));
    }
    let wrong = scene.refused(Command::StepNode { node, step: NodeStep::Uncordon });
    assert_eq!(wrong.to_string(), "node: uncordon is not allowed in state ready");
}

#[test]
fn an_interruption_stops_what_runs_and_the_job_is_placed_elsewhere() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.contact();
    let spare = scene.node("H100:8");
    scene.must(Command::Interrupt { node });
    assert_eq!((scene.broker_node(node).state, scene.stands(id)), (NodeState::Draining, "finishing"));
    scene.idle(Command::Interrupt { node });
    scene.contact();
    assert_eq!((scene.stands(id), scene.job(id).tries[&0].counted), ("queued", 1));
    scene.world.place().unwrap();
    let again = scene.attempt_of(id);
    assert_ne!(again, attempt);
    assert_eq!(scene.attempt(again).parts[0].node, Some(spare));
}

#[test]
fn an_interruption_before_the_start_does_not_end_a_job_that_never_starts_twice() {
    for begun in [false, true] {
        let mut scene = Scene::new();
        let node = scene.node("H100:8");
        let (id, _) = scene.start(&once("H100:8"));
        if begun {
            scene.contact();
        }
        scene.must(Command::Interrupt { node });
        scene.contact();
        assert_eq!(scene.stands(id), if begun { "failed" } else { "queued" });
    }
}
