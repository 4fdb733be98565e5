//! Who may do what, what it may cost, and what makes a submission happen once.

use spillway_core::command::PartNews;
use spillway_core::entity::{GoneReason, Group};
use spillway_core::{Command, Refusal, Reply};
use spillway_policies::Decision;
use spillway_sim::Answer;
use spillway_types::{DurationMs, JobSpec, Role, Tariff};

use crate::words::{DOLLAR, Scene, array, ended_well, job, name};

fn keyed(spec: &JobSpec, key: &str, digest: &str) -> Command {
    let key = Some((key.to_owned(), digest.to_owned()));
    Command::Submit { spec: Box::new(spec.clone()), user: name("ada"), key }
}

#[test]
fn a_key_makes_a_submission_happen_once() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let Reply::Job(id) = scene.must(keyed(&job("H100:1"), "k", "d1")) else { panic!("it is a job") };
    assert_eq!(scene.idle(keyed(&job("H100:1"), "k", "d1")), Reply::Job(id));
    let reused = scene.refused(keyed(&job("H100:2"), "k", "d2"));
    assert!(matches!(reused, Refusal::KeyReused { job, .. } if job == id), "{reused}");
    scene.user("bob", Role::Member, &["lab"]);
    let other = Command::Submit {
        spec: Box::new(job("H100:2")),
        user: name("bob"),
        key: Some(("k".to_owned(), "d2".to_owned())),
    };
    assert_ne!(scene.must(other), Reply::Job(id), "keys are each user's own");
    scene.world.pass(DurationMs::from_secs(24 * 3600 - 1));
    scene.idle(Command::ForgetOldKeys);
    scene.world.pass(DurationMs::from_secs(1));
    scene.must(Command::ForgetOldKeys);
    assert_ne!(scene.must(keyed(&job("H100:1"), "k", "d1")), Reply::Job(id), "a day later it is another one");
}

#[test]
fn a_key_is_remembered_after_the_job_has_ended() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let Reply::Job(id) = scene.must(keyed(&job("H100:1"), "k", "d1")) else { panic!("it is a job") };
    scene.world.place().unwrap();
    let attempt = scene.attempt_of(id);
    scene.says(node, attempt, 0, ended_well(1));
    assert!(scene.state().jobs.is_empty());
    assert_eq!(scene.idle(keyed(&job("H100:1"), "k", "d1")), Reply::Job(id));
}

#[test]
fn a_job_that_its_budget_could_never_pay_is_refused_and_names_the_group() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.group("org", None, Some(10 * DOLLAR));
    let refusal = scene.refused(Scene::submission(&job("H100:8")));
    assert!(matches!(&refusal, Refusal::Budget(why) if why.binding == name("org")), "{refusal}");
    scene.submit(&job("H100:4"));
}

#[test]
fn a_job_waits_for_held_money_and_starts_when_it_is_released() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    scene.group("org", None, Some(10 * DOLLAR));
    let (_, attempt) = scene.start(&job("H100:4"));
    let second = scene.submit(&job("H100:4"));
    assert_eq!(scene.world.place().unwrap(), 0);
    assert_eq!(scene.stands(second), "queued");
    scene.says(node, attempt, 0, ended_well(1000));
    assert_eq!(scene.world.place().unwrap(), 1);
}

#[test]
fn a_plan_that_the_budget_does_not_cover_any_more_is_stale() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let id = scene.submit(&job("H100:4"));
    let decisions = scene.world.plan().decisions;
    assert_eq!(decisions.len(), 1);
    scene.must(Command::SetBudget { group: name("lab"), limit_micros: Some(DOLLAR), stated: None });
    let endpoint = spillway_core::command::Endpoint::default();
    let place = Command::Place { decisions, endpoint };
    assert_eq!(scene.idle(place), Reply::Placed { started: 0, stale: 1 });
    assert_eq!(scene.stands(id), "queued");
}

#[test]
fn a_decision_is_carried_out_once_and_only_where_there_is_room() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.submit(&job("H100:8"));
    let plan = scene.world.plan().decisions;
    let second = scene.submit(&job("H100:8"));
    let place = |decisions: &[Decision]| Command::Place {
        decisions: decisions.to_vec(),
        endpoint: spillway_core::command::Endpoint::default(),
    };
    assert_eq!(scene.must(place(&plan)), Reply::Placed { started: 1, stale: 0 });
    assert_eq!(scene.idle(place(&plan)), Reply::Placed { started: 0, stale: 1 });
    let moved = Decision { job: second, ..plan[0].clone() };
    assert_eq!(scene.idle(place(&[moved])), Reply::Placed { started: 0, stale: 1 });
}

#[test]
fn what_a_credit_gave_back_may_be_spent_again() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 36);
    // An agent claims two seconds for each of a hundred tasks that took no time: more than its machine cost.
    let id = scene.submit(&array(100, "H100:8"));
    scene.world.place().unwrap();
    let launched = scene.instances();
    let instance = launched[0];
    for other in &launched[1..] {
        scene.world.take_away(*other, GoneReason::NoCapacity).unwrap();
    }
    scene.world.launch(instance, Answer::Launched, DurationMs(0)).unwrap();
    let node = scene.world.boot(instance).unwrap();
    scene.world.set_offers(vec![]);
    while let Some((task, attempt)) = scene.job(id).active.iter().find_map(|(t, s)| Some((*t, s.attempt()?)))
    {
        scene.says(node, attempt, 0, PartNews::Started);
        scene.says(node, attempt, 0, ended_well(2000));
        assert!(scene.job(id).succeeded.contains(task));
        scene.world.place().unwrap();
    }
    scene.world.take_away(instance, GoneReason::Vanished).unwrap();
    assert_eq!(scene.spent(), 0, "what was charged beyond the machine's cost came back");
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&job("H100:8"));
    let held = scene.held();
    scene.must(Command::SetBudget { group: name("lab"), limit_micros: Some(held), stated: None });
    scene.world.pass(DurationMs::from_secs(7210 + 60));
    scene.says(node, attempt, 0, ended_well(7_270_000));
    assert!(scene.spent() > held, "an overrun is no defect, credit or not");
}

#[test]
fn a_budget_is_not_lowered_below_what_is_held() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.start(&job("H100:4"));
    let lower = Command::SetBudget { group: name("org"), limit_micros: Some(DOLLAR), stated: None };
    assert!(scene.refused(lower).to_string().contains("below the"));
    for limit_micros in [Some(-1), Some(i64::MIN)] {
        scene.refused(Command::SetBudget { group: name("org"), limit_micros, stated: None });
    }
    scene.must(Command::SetBudget { group: name("org"), limit_micros: Some(9 * DOLLAR), stated: None });
    let unknown = Command::SetBudget { group: name("nobody"), limit_micros: None, stated: None };
    assert!(matches!(scene.refused(unknown), Refusal::NotFound { kind: "group", .. }));
}

#[test]
fn groups_form_a_tree_with_limits() {
    let mut scene = Scene::new();
    let group = |weight, parent: &str| {
        Command::DeclareGroup(Group {
            name: name("org"),
            parent: Some(name(parent)),
            weight,
            priority: 0,
            budget_micros: None,
            budget_stated: None,
        })
    };
    assert!(matches!(scene.refused(group(1, "lab")), Refusal::Limit { .. }), "a loop");
    assert!(matches!(scene.refused(group(1, "nobody")), Refusal::Limit { .. }));
    for weight in [0, 1_000_001] {
        assert!(matches!(scene.refused(group(weight, "lab")), Refusal::Invalid { field: "weight", .. }));
    }
}

#[test]
fn a_member_submits_for_and_sees_the_own_subtree_only() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.group("vision", Some("lab"), None);
    scene.group("other", Some("org"), None);
    let of = |group: &str| JobSpec { group: name(group), ..job("H100:1") };
    scene.submit(&of("vision"));
    for group in ["other", "org", "nobody"] {
        let why = scene.refused(Scene::submission(&of(group))).to_string();
        assert!(why.contains("yours: lab"), "{why}");
    }
    let foreign = Command::Submit { spec: Box::new(of("other")), user: name("root"), key: None };
    let Reply::Job(id) = scene.must(foreign) else { panic!("it is a job") };
    let cancel = Command::Cancel { job: id, user: name("ada") };
    assert_eq!(scene.refused(cancel).to_string(), format!("no job {id}"));
    scene.must(Command::Cancel { job: id, user: name("root") });
    let nobody = Command::Submit { spec: Box::new(of("lab")), user: name("nobody"), key: None };
    assert!(matches!(scene.refused(nobody), Refusal::NotFound { kind: "user", .. }));
}

#[test]
fn a_pool_of_other_groups_is_not_used_and_a_new_group_below_is_let_in() {
    let mut scene = Scene::new();
    scene.group("other", Some("org"), None);
    scene.pool("closed", "home", Tariff::default(), Some(&["other"]));
    scene.node_in("closed", "A100:8");
    let refusal = scene.refused(Scene::submission(&job("A100:8")));
    assert!(refusal.to_string().contains("pools of other groups"), "{refusal}");
    scene.group("below", Some("other"), None);
    scene.user("bob", Role::Member, &["below"]);
    let spec = JobSpec { group: name("below"), ..job("A100:8") };
    scene.must(Command::Submit { spec: Box::new(spec), user: name("bob"), key: None });
    assert_eq!(scene.world.place().unwrap(), 1);
}

#[test]
fn what_nothing_here_could_run_is_refused_with_what_there_is() {
    let mut scene = Scene::new();
    let why = scene.refused(Scene::submission(&job("H100:1"))).to_string();
    assert_eq!(why, "resources.gpus: H100:1 no site has H100; known models: none yet");
    scene.node("H100:8");
    let why = scene.refused(Scene::submission(&job("H100:9"))).to_string();
    assert!(why.contains("at most 8 on one node"), "{why}");
    let mut spec = job("H100:1");
    spec.placement.allow = vec![name("mars")];
    let why = scene.refused(Scene::submission(&spec)).to_string();
    assert_eq!(why, "where.allow: mars is not a site here; known sites: east, home");
}

#[test]
fn declaring_the_same_again_changes_nothing() {
    let mut scene = Scene::new();
    let state = scene.state().clone();
    for site in state.sites.values() {
        scene.idle(Command::DeclareSite(site.clone()));
    }
    for pool in state.pools.values() {
        scene.idle(Command::DeclarePool(pool.clone()));
    }
    for group in state.groups.values() {
        scene.idle(Command::DeclareGroup(group.clone()));
    }
    for user in state.users.values() {
        let (user, role, groups) = (user.name.clone(), user.role, user.groups.clone());
        scene.idle(Command::DeclareUser { user, role, groups });
    }
    let mut moved = state.pools[&name("main")].clone();
    moved.site = name("east");
    assert!(scene.refused(Command::DeclarePool(moved)).to_string().contains("a pool stays at its site"));
    let token = Command::IssueToken { user: name("ada"), hash: "h".to_owned() };
    scene.must(token);
    assert_eq!(scene.state().tokens["h"].user, name("ada"));
    let unknown = Command::IssueToken { user: name("nobody"), hash: "i".to_owned() };
    assert!(matches!(scene.refused(unknown), Refusal::NotFound { kind: "user", .. }));
}

#[test]
fn what_only_a_cloud_could_run_is_refused_once_that_cloud_is_gone() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 80);
    scene.submit(&job("H100:8"));
    scene.submit(&job("H100:8"));
    scene.world.set_offers(vec![]);
    let refusal = scene.refused(Scene::submission(&job("H100:8")));
    assert!(matches!(&refusal, Refusal::Unsatisfiable { value, .. } if value == "H100:8"), "{refusal}");
}

#[test]
fn a_budget_is_asked_also_where_a_cloud_would_run_the_job() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 80);
    scene.submit(&job("H100:8"));
    scene.group("org", None, Some(DOLLAR));
    let refusal = scene.refused(Scene::submission(&job("H100:8")));
    assert!(matches!(&refusal, Refusal::Budget(_)), "{refusal}");
}
