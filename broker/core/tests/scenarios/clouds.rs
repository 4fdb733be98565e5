//! Instances: wanted, asked for, booted, used, kept warm, ended, and everything that goes wrong on the way.

use spillway_core::Command;
use spillway_core::command::{InstanceNews, JoinProof};
use spillway_core::entity::{GoneReason, PartState};
use spillway_ledger::{Account, EntryKind};
use spillway_sim::Answer;
use spillway_types::{
    DurationMs, FailureReason, InstanceId, InstanceState, NodeStep, PartEnd, Reason, TaskState,
};

use crate::words::{BOOT, DOLLAR, HOUR, Scene, capacity, gang, job, name};

fn news(instance: InstanceId, what: InstanceNews) -> Command {
    Command::StepInstance { instance, what }
}

fn exists(at: &Scene) -> InstanceNews {
    InstanceNews::Exists { provider_id: "i-1".to_owned(), launched: at.world.now() }
}

#[test]
fn an_instance_is_launched_used_kept_warm_and_ended_and_every_second_is_paid() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, _) = scene.start(&job("H100:4"));
    assert_eq!((scene.stands(id), scene.instance().state), ("provisioning", InstanceState::Intended));
    scene.clouds();
    assert_eq!(scene.instance().state, InstanceState::Booting);
    scene.pass(BOOT.0 / 1000);
    scene.clouds();
    assert_eq!((scene.stands(id), scene.instance().state), ("staging", InstanceState::Ready));
    scene.contact();
    assert_eq!(scene.stands(id), "running");
    scene.pass(3600);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    assert_eq!(scene.job(id).cost_micros, 10 * DOLLAR, "half of the instance for an hour");
    scene.pass(299);
    scene.tick();
    assert_eq!(scene.instance().state, InstanceState::Ready, "warm for five minutes");
    scene.pass(1);
    scene.tick();
    assert_eq!(scene.instance().state, InstanceState::Terminating);
    scene.clouds();
    let gone = scene.world.records().instances.values().next().unwrap();
    let cost = gone.price.cost_micros(1, 1, 0, BOOT.0 + HOUR + 300_000);
    assert_eq!(gone.cost_micros(scene.world.now()), cost);
    let overhead: i64 = scene
        .world
        .records()
        .entries
        .iter()
        .filter(|e| e.kind() == EntryKind::Overhead)
        .map(|e| e.spend_micros())
        .sum();
    assert_eq!(gone.charged_micros + overhead, cost, "slices and overhead are the whole instance");
    assert_eq!(
        scene.state().book.balance(&Account::Payable { cloud: name("mock"), site: name("east") }),
        -cost
    );
    assert!(scene.state().nodes.is_empty());
    scene.is_over();
}

#[test]
fn the_next_job_takes_a_warm_instance() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (first, _) = scene.start(&job("H100:8"));
    scene.runs(first, 60, PartEnd::Exited { code: 0 });
    scene.clouds();
    scene.pass(120);
    scene.clouds();
    scene.contact();
    scene.pass(60);
    assert_eq!(scene.job(first).task(0), Some(TaskState::Succeeded));
    let (second, attempt) = scene.start(&job("H100:8"));
    assert_eq!((scene.stands(second), scene.instances().len()), ("staging", 1));
    assert!(scene.instance().idle_since.is_none());
    let cloud = Account::Payable { cloud: name("mock"), site: name("east") };
    assert_eq!(scene.attempt(attempt).payee.account(), cloud);
    scene.pass(600);
    scene.tick();
    assert_eq!(scene.instance().state, InstanceState::Ready, "it is not idle");
}

#[test]
fn no_capacity_sends_the_job_back_uncounted() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.world.drive_clouds(Answer::NoCapacity, BOOT).unwrap();
    assert_eq!(scene.job(id).task(0), Some(TaskState::Queued { reason: Reason::Unavailable }));
    assert_eq!((scene.job(id).tries[&0].made, scene.job(id).tries[&0].counted), (1, 0));
    assert!(scene.state().instances.is_empty() && !scene.state().attempts.contains_key(&attempt));
    assert_eq!((scene.spent(), scene.held()), (0, 0));
    scene.cancel(id);
    scene.is_over();
}

#[test]
fn a_doubtful_launch_is_asked_again_word_for_word() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, _) = scene.start(&job("H100:8"));
    scene.world.drive_clouds(Answer::Lost, BOOT).unwrap();
    let before = scene.instance().clone();
    assert_eq!((before.state, scene.stands(id)), (InstanceState::Unknown, "provisioning"));
    scene.clouds();
    let after = scene.instance();
    assert_eq!(after.state, InstanceState::Booting);
    assert_eq!(
        (after.journal, after.price, &after.instance_type),
        (before.journal, before.price, &before.instance_type)
    );
    assert_eq!(scene.world.machines().len(), 1, "one machine, asked for twice");
}

#[test]
fn an_agent_that_dials_in_ends_the_doubt_and_later_doubt_is_no_news() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, _) = scene.start(&job("H100:8"));
    scene.world.drive_clouds(Answer::Unheard, BOOT).unwrap();
    let instance = scene.instance().id;
    scene.world.pass(BOOT);
    scene.world.boot(instance).unwrap();
    assert_eq!((scene.stands(id), scene.instance().state), ("staging", InstanceState::Ready));
    scene.idle(news(instance, InstanceNews::Doubt));
    scene.refused(news(instance, InstanceNews::Asking));
    scene.contact();
    scene.pass(1000);
    scene.tick();
    assert_eq!((scene.stands(id), scene.instance().state), ("running", InstanceState::Ready));
}

#[test]
fn an_instance_whose_answer_was_never_heard_still_costs_something() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, _) = scene.start(&job("H100:8"));
    scene.world.drive_clouds(Answer::Unheard, BOOT).unwrap();
    let instance = scene.instance().id;
    scene.world.pass(BOOT);
    scene.world.boot(instance).unwrap();
    scene.contact();
    scene.pass(3600);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    scene.world.take_away(instance, GoneReason::Vanished).unwrap();
    assert_eq!(scene.spent(), 20 * DOLLAR, "what ran was not credited back");
}

#[test]
fn repeated_news_changes_nothing() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    scene.start(&job("H100:8"));
    let instance = scene.instance().id;
    scene.must(news(instance, InstanceNews::Asking));
    scene.idle(news(instance, InstanceNews::Asking));
    let told = exists(&scene);
    scene.must(news(instance, told.clone()));
    scene.idle(news(instance, told));
    scene.must(news(instance, InstanceNews::Terminate));
    scene.idle(news(instance, InstanceNews::Terminate));
    scene.idle(news(instance, InstanceNews::Doubt));
    scene.must(news(instance, InstanceNews::Gone(GoneReason::Terminated)));
    let late = scene.refused(news(instance, InstanceNews::Gone(GoneReason::Terminated)));
    assert_eq!(late.to_string(), format!("no instance {instance}"));
}

#[test]
fn cancelling_a_job_ends_the_instance_that_boots_for_it() {
    for launched in [false, true] {
        let mut scene = Scene::new();
        scene.offer("H100:8", 20);
        let (id, _) = scene.start(&job("H100:8"));
        if launched {
            scene.clouds();
        }
        let instance = scene.instance().id;
        scene.cancel(id);
        assert_eq!(scene.job(id).task(0), Some(TaskState::Cancelled));
        assert_eq!(scene.instance().state, InstanceState::Terminating);
        let proof = JoinProof::Instance { instance };
        let late = Command::Enrol { proof, key_hash: "key".to_owned(), hostname: "late".to_owned() };
        assert!(scene.refused(late).to_string().contains("not wanted any more"));
        scene.clouds();
        scene.is_over();
    }
}

#[test]
fn a_machine_that_never_joins_is_ended_and_counts() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let id = scene.submit(&job("H100:8"));
    for attempt in 1..=3 {
        assert_eq!((scene.world.place().unwrap(), scene.job(id).tries[&0].made), (1, attempt));
        scene.world.drive_clouds(Answer::Launched, DurationMs(u64::MAX / 4)).unwrap();
        scene.pass(899);
        scene.tick();
        assert_eq!(scene.stands(id), "provisioning");
        scene.pass(1);
        scene.tick();
        scene.clouds();
    }
    let message = "its machines were not all ready within 15m".to_owned();
    assert_eq!(scene.job(id).task(0), Some(TaskState::Failed { failure: FailureReason::Start { message } }));
    assert_eq!(scene.spent(), 3 * 5 * DOLLAR, "a quarter of an hour each");
    scene.is_over();
}

#[test]
fn an_interrupted_instance_vanishes_and_its_job_goes_on_elsewhere() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.clouds();
    scene.pass(120);
    scene.clouds();
    scene.contact();
    scene.pass(600);
    let instance = scene.instance();
    let (instance, node) = (instance.id, instance.node.unwrap());
    scene.must(Command::Interrupt { node });
    assert_eq!(scene.stands(id), "finishing");
    scene.contact();
    assert_eq!((scene.stands(id), scene.job(id).tries[&0].counted), ("queued", 1));
    scene.world.take_away(instance, GoneReason::Vanished).unwrap();
    scene.check();
    assert_eq!(scene.world.place().unwrap(), 1);
    assert_ne!(scene.attempt_of(id), attempt);
    assert_eq!(scene.instances().len(), 1);
}

#[test]
fn an_instance_that_vanishes_takes_its_part_with_it_at_once() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.clouds();
    scene.pass(120);
    scene.clouds();
    scene.contact();
    scene.pass(600);
    let instance = scene.instance().id;
    scene.world.take_away(instance, GoneReason::Vanished).unwrap();
    scene.check();
    assert_eq!(scene.stands(id), "queued");
    assert!(!scene.state().attempts.contains_key(&attempt), "nobody can report more");
    assert_eq!(scene.spent(), 20 * DOLLAR * 720 / 3600);
}

#[test]
fn a_gang_waits_for_all_its_instances_and_nobody_else_gets_those_that_are_there() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, attempt) = scene.start(&gang(2, "H100:8"));
    let [first, second]: [InstanceId; 2] = scene.instances().try_into().unwrap();
    scene.world.drive_clouds(Answer::Launched, DurationMs(u64::MAX / 4)).unwrap();
    scene.world.boot(first).unwrap();
    scene.check();
    assert_eq!(scene.stands(id), "provisioning");
    let (rival, other) = (scene.submit(&job("H100:8")), scene.submit(&job("H100:8")));
    scene.world.place().unwrap();
    scene.check();
    assert_eq!(
        (scene.stands(rival), scene.stands(other)),
        ("provisioning", "provisioning"),
        "instances of their own"
    );
    let waiting = scene.attempt(attempt).parts.iter().find_map(|part| part.node).unwrap();
    let rank = scene.attempt(attempt).part_on(waiting).unwrap().0;
    scene.says(waiting, attempt, u32::try_from(rank).unwrap(), crate::words::ended_well(1));
    assert_eq!(
        scene.attempt(attempt).parts[rank].state,
        PartState::Waiting,
        "it cannot end before it begins"
    );
    scene.pass(400);
    scene.tick();
    assert_eq!(scene.state().instances[&first].state, InstanceState::Ready, "it is awaited, not idle");
    scene.world.boot(second).unwrap();
    scene.check();
    assert_eq!(scene.stands(id), "staging");
    scene.contact();
    assert_eq!(scene.stands(id), "running");
    assert!(scene.attempt(attempt).parts.iter().all(|part| part.node.is_some()));
}

#[test]
fn what_is_left_of_a_broken_gang_goes_warm_and_then_ends() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, _) = scene.start(&gang(2, "H100:8"));
    let [first, second]: [InstanceId; 2] = scene.instances().try_into().unwrap();
    scene.world.drive_clouds(Answer::Launched, DurationMs(u64::MAX / 4)).unwrap();
    scene.world.boot(first).unwrap();
    scene.world.take_away(second, GoneReason::NoCapacity).unwrap();
    scene.check();
    assert_eq!((scene.stands(id), scene.job(id).tries[&0].counted), ("queued", 0));
    scene.cancel(id);
    scene.pass(299);
    scene.tick();
    assert_eq!(scene.instance().state, InstanceState::Ready);
    scene.pass(1);
    scene.tick();
    assert_eq!(scene.instance().state, InstanceState::Terminating);
    scene.clouds();
    scene.is_over();
}

#[test]
fn a_gang_that_waited_for_a_cordoned_node_starts_when_it_is_uncordoned() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, _) = scene.start(&gang(2, "H100:8"));
    let [first, second]: [InstanceId; 2] = scene.instances().try_into().unwrap();
    scene.world.drive_clouds(Answer::Launched, DurationMs(u64::MAX / 4)).unwrap();
    let node = scene.world.boot(first).unwrap();
    scene.must(Command::StepNode { node, step: NodeStep::Cordon });
    scene.world.boot(second).unwrap();
    assert_eq!(scene.stands(id), "provisioning");
    scene.must(Command::StepNode { node, step: NodeStep::Uncordon });
    assert_eq!(scene.stands(id), "staging");
}

#[test]
fn a_machine_with_less_than_its_type_promises_is_not_let_in() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.clouds();
    let instance = scene.instance().id;
    let proof = JoinProof::Instance { instance };
    let enrol = Command::Enrol { proof, key_hash: "key".to_owned(), hostname: "m".to_owned() };
    let spillway_core::Reply::Node(node) = scene.must(enrol) else { panic!("it is a node") };
    let inventory =
        spillway_types::Inventory { capacity: capacity("H100:4"), ..crate::words::inventory("H100:4") };
    let hello = Command::Connect {
        node,
        boot_nonce: 1,
        inventory: Box::new(inventory),
        observed: std::collections::BTreeSet::new(),
        spool: None,
    };
    let why = scene.refused(hello).to_string();
    assert!(why.contains("100 blocks of accelerator 4") && why.contains(&attempt.to_string()), "{why}");
    assert_eq!(scene.stands(id), "provisioning");
}
