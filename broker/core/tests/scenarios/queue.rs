//! People hold jobs, release them and put them on top; jobs give way to others; runs are remembered.

use std::collections::BTreeSet;

use spillway_core::{Command, Event, Feed, Key, MAX_DISPLACEMENTS, Refusal, snapshot};
use spillway_policies::{Decision, PartPlacement, Planner, Policy, Target};
use spillway_types::{
    Deadline, DurationMs, EstimateSource, Held, HourlyRate, Interconnect, JobId, JobSpec, PartEnd, Reason,
    RetryPolicy, Role, Standing, TaskState, UserName,
};

use crate::words::{HOUR, Scene, array, gang, inventory, job, name, once};

fn hold(job: JobId, user: &str) -> Command {
    Command::Hold { job, user: name(user) }
}

fn release(job: JobId, user: &str) -> Command {
    Command::Release { job, user: name(user) }
}

fn top(job: JobId, user: &str) -> Command {
    Command::Top { job, user: name(user) }
}

/// The queue as the planner sees it.
fn seen(scene: &Scene) -> Vec<JobId> {
    let policy = Policy::default();
    let snapshot = snapshot::take(scene.world.federation(), &policy, scene.world.now());
    snapshot.queue.iter().map(|job| job.job).collect()
}

#[test]
fn a_held_job_waits_until_it_is_released() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let (first, second) = (scene.submit(&job("H100:8")), scene.submit(&job("H100:8")));
    let stale = scene.world.plan().decisions;
    scene.must(hold(first, "ada"));
    scene.idle(hold(first, "ada"));
    assert_eq!(scene.job(first).task(0), Some(TaskState::Queued { reason: Reason::Held }));
    assert_eq!(seen(&scene), [second]);
    let view = snapshot::queued_job(scene.state(), scene.job(first));
    assert_eq!(view.held, Held::Yes);
    scene.idle(Command::Place { decisions: stale, endpoint: Default::default() });
    assert_eq!(scene.world.place().unwrap(), 1);
    assert_eq!((scene.stands(first), scene.stands(second)), ("queued", "staging"));
    scene.must(release(first, "ada"));
    scene.idle(release(first, "ada"));
    assert_eq!(scene.job(first).task(0), Some(TaskState::Queued { reason: Reason::Planning }));
    scene.contact();
    scene.pass(3600);
    assert_eq!(scene.world.place().unwrap(), 1);
    scene.contact();
    scene.pass(3600);
    assert_eq!(scene.job(first).task(0), Some(TaskState::Succeeded));
    scene.is_over();
}

#[test]
fn an_admins_hold_is_released_by_admins_only() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let id = scene.submit(&job("H100:8"));
    scene.must(hold(id, "ada"));
    scene.must(hold(id, "root"));
    scene.idle(hold(id, "ada"));
    let why = scene.refused(release(id, "ada")).to_string();
    assert_eq!(why, format!("user ada may not release {id}: the admin root holds it"));
    scene.must(release(id, "root"));
    scene.must(hold(id, "ada"));
    scene.must(release(id, "root"));
}

#[test]
fn only_what_waits_is_arranged_and_only_by_its_own() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.user("eve", Role::Member, &[]);
    let (running, _) = scene.start(&job("H100:8"));
    scene.contact();
    let ended = scene.submit(&job("H100:8"));
    scene.cancel(ended);
    for (make, verb) in
        [(hold as fn(JobId, &str) -> Command, "held"), (release, "released"), (top, "put on top")]
    {
        let why = scene.refused(make(running, "ada")).to_string();
        assert_eq!(
            why,
            format!("job {running} is running, and only a job with tasks that wait can be {verb}")
        );
        assert_eq!(
            scene.refused(make(ended, "ada")).to_string(),
            format!("no job {ended}"),
            "it left memory"
        );
        assert_eq!(scene.refused(make(running, "eve")).to_string(), format!("no job {running}"));
        assert!(matches!(scene.refused(make(running, "nobody")), Refusal::NotFound { .. }));
    }
}

#[test]
fn a_held_array_goes_on_with_what_runs() {
    let mut scene = Scene::new();
    scene.node("H100:1");
    let id = scene.submit(&array(3, "H100:1"));
    scene.world.place().unwrap();
    scene.contact();
    scene.must(hold(id, "ada"));
    scene.pass(3600);
    assert_eq!((scene.job(id).succeeded.len(), scene.world.place().unwrap()), (1, 0));
    scene.cancel(id);
    scene.contact();
    let ended = scene.job(id);
    assert_eq!((ended.cancelled.len(), ended.held.clone()), (2, None));
    scene.is_over();
}

#[test]
fn the_newest_on_top_is_seen_first_whatever_the_bound() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.group("vision", Some("org"), None);
    let ids: Vec<JobId> = (0..4).map(|_| scene.submit(&job("H100:8"))).collect();
    let vision = JobSpec { group: name("vision"), ..job("H100:8") };
    let submit = Command::Submit { spec: Box::new(vision), user: name("root"), key: None };
    let spillway_core::Reply::Job(other) = scene.must(submit) else { panic!("it is a job") };
    scene.must(top(ids[2], "ada"));
    scene.idle(top(ids[2], "ada"));
    scene.must(top(ids[3], "ada"));
    assert!(matches!(scene.job(ids[3]).standing, Standing::TopOfGroup(_)));
    assert_eq!(seen(&scene), [ids[3], ids[2], ids[0], ids[1], other]);
    scene.must(top(other, "root"));
    scene.idle(top(other, "root"));
    scene.must(top(ids[2], "ada"));
    assert_eq!(seen(&scene), [other, ids[2], ids[3], ids[0], ids[1]]);
    scene.must(top(ids[3], "root"));
    scene.idle(top(ids[3], "ada"));
    let policy = Policy { max_jobs: 1, ..Policy::default() };
    let bounded = snapshot::take(scene.world.federation(), &policy, scene.world.now());
    let bounded: Vec<JobId> = bounded.queue.iter().map(|job| job.job).collect();
    assert_eq!(bounded, [ids[3], other], "one of each group");
    for id in &ids {
        scene.cancel(*id);
        assert_eq!(scene.job(*id).standing, Standing::Plain, "what is over keeps no trace");
    }
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn a_job_that_gives_way_waits_again_and_keeps_its_tries() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let (id, _) = scene.start(&JobSpec {
        retry: RetryPolicy { max_attempts: 1, on_loss: true, on_failure: false },
        ..job("H100:8")
    });
    for round in 1..=MAX_DISPLACEMENTS {
        scene.contact();
        assert_eq!(scene.stands(id), "running");
        let attempt = scene.attempt_of(id);
        let preempt = || Command::Preempt { attempt, because: "an urgent job needs its node".to_owned() };
        scene.must(preempt());
        scene.idle(preempt());
        assert_eq!(scene.stands(id), "finishing");
        assert_eq!(scene.attempt(attempt).grace, scene.job(id).spec.checkpoint.grace);
        assert_eq!(scene.attempt(attempt).displaced_because.as_deref(), Some("an urgent job needs its node"));
        scene.contact();
        let tries = scene.job(id).tries[&0];
        assert_eq!((scene.stands(id), tries.counted, tries.displaced), ("queued", 0, round));
        assert_eq!(scene.job(id).task(0), Some(TaskState::Queued { reason: Reason::Retry }));
        assert_eq!(scene.world.place().unwrap(), 1);
    }
    let attempt = scene.attempt_of(id);
    let why = scene.refused(Command::Preempt { attempt, because: String::new() }).to_string();
    assert!(why.contains("gave way 3 times already"), "{why}");
    scene.contact();
    scene.pass(3600);
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    scene.is_over();
}

#[test]
fn what_never_starts_twice_and_what_ends_already_does_not_give_way() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.node("H100:8");
    let (_, never) = scene.start(&once("H100:8"));
    let (id, ending) = scene.start(&job("H100:8"));
    scene.contact();
    let preempt = |attempt| Command::Preempt { attempt, because: "x".to_owned() };
    let why = scene.refused(preempt(never)).to_string();
    assert!(why.contains("never starts twice"), "{why}");
    scene.cancel(id);
    assert!(scene.refused(preempt(ending)).to_string().contains("is ending already"));
    scene.contact();
    assert!(matches!(scene.refused(preempt(ending)), Refusal::NotFound { kind: "attempt", .. }));
}

#[test]
fn a_job_that_is_cancelled_while_it_gives_way_is_cancelled() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.contact();
    scene.must(Command::Preempt { attempt, because: "x".to_owned() });
    scene.cancel(id);
    scene.contact();
    assert_eq!(scene.job(id).task(0), Some(TaskState::Cancelled));
    scene.is_over();
}

#[test]
fn what_waits_for_its_machine_gives_way_at_once_and_the_machine_is_ended() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let (id, attempt) = scene.start(&job("H100:8"));
    assert_eq!(scene.stands(id), "provisioning");
    scene.must(Command::Preempt { attempt, because: "x".to_owned() });
    assert_eq!((scene.stands(id), scene.held()), ("queued", 0));
    scene.clouds();
    scene.clouds();
    assert!(scene.instances().is_empty());
}

#[test]
fn what_ended_well_before_it_gave_way_succeeded() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    scene.contact();
    scene.must(Command::Preempt { attempt, because: "x".to_owned() });
    scene.says(node, attempt, 0, crate::words::ended_well(5));
    assert_eq!(scene.job(id).task(0), Some(TaskState::Succeeded));
    scene.is_over();
}

#[test]
fn who_waits_hears_of_runs_like_his() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let spec = JobSpec { expected: None, ..job("H100:8") };
    let (like, behind) = (scene.submit(&spec), scene.submit(&job("H100:8")));
    let (mut feed, mut planner) = (Feed::default(), Planner::new(Policy { search: 0, ..Policy::default() }));
    let mut between = |scene: &Scene, rows: BTreeSet<Key>| {
        feed.tell(&mut planner, (scene.state(), &[]), &rows, scene.world.now());
        planner.plan(scene.world.now(), &mut || true);
        let start = |job| planner.explanation(job).unwrap().planned_start;
        // The first starts now.
        start(behind).unwrap().since(start(like).unwrap_or(scene.world.now()))
    };
    let rows = Feed::everything(scene.state());
    assert_eq!(between(&scene, rows), spec.time_limit, "nothing is known of such runs");
    scene.must(hold(like, "ada"));
    scene.must(hold(behind, "ada"));
    for _ in 0..3 {
        let id = scene.submit(&spec);
        scene.runs(id, 600, PartEnd::Exited { code: 0 });
        scene.world.place().unwrap();
        scene.contact();
        scene.pass(600);
        assert_eq!(scene.stands(id), "succeeded");
    }
    scene.must(release(like, "ada"));
    scene.must(release(behind, "ada"));
    let rows = BTreeSet::from([Key::History(spillway_core::history::kind(&spec))]);
    assert_eq!(between(&scene, rows), DurationMs(600_000), "they took ten minutes each");
}

#[test]
fn runs_are_remembered_and_estimate_the_next_ones() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let spec = JobSpec { expected: None, ..job("H100:8") };
    let estimate = |scene: &Scene| scene.state().history.estimate(&spec);
    for seconds in [600, 300, 900] {
        assert_eq!(estimate(&scene).source, EstimateSource::Limit);
        let id = scene.submit(&spec);
        scene.runs(id, seconds, PartEnd::Exited { code: 0 });
        scene.world.place().unwrap();
        scene.contact();
        scene.pass(seconds);
        assert_eq!(scene.stands(id), "succeeded");
    }
    let known = estimate(&scene);
    assert_eq!((known.duration, known.source), (DurationMs(900_000), EstimateSource::History { runs: 3 }));
    let failing = scene.submit(&spec);
    scene.runs(failing, 7, PartEnd::Exited { code: 1 });
    scene.world.place().unwrap();
    scene.contact();
    scene.pass(7);
    assert_eq!(estimate(&scene), known, "only what succeeded says how long it takes");
    let (running, _) = scene.start(&spec);
    scene.contact();
    let waiting = scene.submit(&spec);
    let policy = Policy::default();
    let snapshot = snapshot::take(scene.world.federation(), &policy, scene.world.now());
    assert_eq!(snapshot.queue[0].estimate, known.duration);
    let began = scene.job(running).started.unwrap();
    assert_eq!(snapshot.nodes[0].running[0].ends, began.plus(known.duration));
    scene.cancel(waiting);
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
    let text = serde_json::to_string(scene.state()).unwrap();
    assert_eq!(serde_json::from_str::<spillway_core::State>(&text).unwrap(), *scene.state());
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_and_the_others_are_seen() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let now = scene.world.now();
    let by = |deadline, expected: Option<u64>| JobSpec {
        deadline: Some(deadline),
        expected: expected.map(DurationMs),
        class: Some(name("urgent")),
        ..job("H100:8")
    };
    let why = scene.refused(Scene::submission(&by(Deadline::At(now), None))).to_string();
    assert!(why.contains("is over already"), "{why}");
    let soon = Deadline::At(now.plus(DurationMs(HOUR - 1)));
    let why = scene.refused(Scene::submission(&by(soon, Some(HOUR)))).to_string();
    assert!(why.starts_with("deadline: ") && why.contains("expected to run 1h"), "{why}");
    scene.submit(&by(Deadline::Within(DurationMs(2 * HOUR)), Some(HOUR)));
    scene.world.pass(DurationMs(HOUR));
    let policy = Policy::default();
    let snapshot = snapshot::take(scene.world.federation(), &policy, scene.world.now());
    let seen = &snapshot.queue[0];
    assert_eq!(seen.deadline, Some(now.plus(DurationMs(2 * HOUR))), "it counts from the submission");
    assert_eq!(seen.class, Some(name("urgent")));
    assert_eq!(seen.grace, DurationMs::from_secs(10));
}

#[test]
fn a_gang_of_one_domain_is_placed_within_one_only() {
    let mut scene = Scene::new();
    let in_domain = |domain: Option<&str>| {
        let mut found = inventory("H100:8");
        for gpu in &mut found.capacity.accelerators {
            gpu.domain = domain.map(str::to_owned);
        }
        found
    };
    let nodes: Vec<_> = [Some("a"), Some("b"), Some("a"), None, None]
        .into_iter()
        .map(|domain| {
            let id = scene.world.join(&name("main"), &name("root"), in_domain(domain)).unwrap();
            scene.world.connect(id).unwrap();
            id
        })
        .collect();
    let mut spec = gang(2, "H100:8");
    spec.placement.interconnect = Interconnect::SameDomain;
    let id = scene.submit(&spec);
    let allocation = scene.broker_node(nodes[0]).free().unwrap();
    let allocation = allocation.find(&in_domain(None).capacity, &spec.resources).unwrap();
    let on = |pair: [usize; 2]| {
        let part = |index: usize| PartPlacement {
            node: nodes[index],
            allocation: allocation.clone(),
            rate: HourlyRate(0),
        };
        let target = Target::Nodes { parts: pair.map(part).to_vec() };
        let decision = Decision { job: id, task: 0, target, hold_micros: 0, because: String::new() };
        Command::Place { decisions: vec![decision], endpoint: Default::default() }
    };
    for apart in [[0, 1], [0, 3], [3, 4]] {
        scene.idle(on(apart));
    }
    scene.must(on([0, 2]));
    assert_eq!(scene.stands(id), "staging");
}

#[test]
fn events_say_who_and_what_for() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let held = scene.submit(&job("H100:8"));
    scene.must(hold(held, "root"));
    let newest = scene.world.journal().last().unwrap().events.clone();
    let root: UserName = name("root");
    assert_eq!(newest, [Event::JobHeld { job: held, user: root, role: Role::Admin }]);
}

#[test]
fn rows_from_before_holds_and_history_are_read() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let (id, attempt) = scene.start(&job("H100:8"));
    let mut state = serde_json::to_value(scene.state()).unwrap();
    state.as_object_mut().unwrap().remove("history").unwrap();
    let mut words = state.clone();
    words.as_object_mut().unwrap().remove("limits").unwrap();
    let before_limits: spillway_core::State = serde_json::from_value(words.clone()).unwrap();
    assert!(before_limits.limits.is_unbounded());
    let (row, words) = (state.to_string(), words.to_string());
    for new in ["\"held\":{", "standing", "displaced", "deadline", "class", "interconnect"] {
        assert!(!words.contains(new), "what says nothing is not written: {new}");
    }
    let read: spillway_core::State = serde_json::from_str(&row).unwrap();
    assert_eq!((&read.jobs[&id], &read.attempts[&attempt]), (scene.job(id), scene.attempt(attempt)));
    assert_eq!(read, *scene.state());
}
