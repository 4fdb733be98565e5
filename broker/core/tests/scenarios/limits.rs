//! Groups' limits: what is refused waits, starts when there is room or elsewhere, and counts where it was used.

use spillway_core::command::PartNews;
use spillway_core::entity::{Group, StopCause};
use spillway_core::limited::Standing;
use spillway_core::{Command, Refusal};
use spillway_ledger::limits::{
    Action, Limit, LimitId, LimitsChange, LimitsError, Transfer, overshoot_micros,
};
use spillway_ledger::window::Window;
use spillway_types::PartEnd;

use crate::words::{DOLLAR, HOUR, Scene, ended_well, job, name};

pub(crate) fn limit(group: &str, metric: &str, scope: &str, window: Window, nominal: i64) -> Limit {
    let id = LimitId { group: name(group), metric: name(metric), scope: name(scope), window };
    let (borrow, lend, thresholds, priority) = (None, None, vec![], 0);
    Limit { id, nominal, borrow, lend, action: Action::Drain, thresholds, priority, stated: None }
}

pub(crate) fn set(limit: Limit) -> Command {
    Command::ChangeLimits(Box::new(LimitsChange::Set { limit }))
}

fn standing(scene: &Scene, group: &str) -> (i64, i64) {
    let standing = &scene.state().limits.standings(&name(group), scene.world.now())[0];
    (standing.used, standing.held)
}

#[test]
fn what_is_over_a_limit_waits_without_keeping_others_and_starts_when_there_is_room() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    scene.must(set(limit("lab", "concurrent-gpus", "everywhere", Window::Instant, 400)));
    let (_, attempt) = scene.start(&job("H100:3"));
    let runs = scene.attempt(attempt);
    let bound = overshoot_micros(runs.parts[0].rate, runs.grace, runs.lease);
    for (group, scope, expected) in
        [("org", "on-prem", bound), ("lab", "everywhere", bound), ("lab", "cloud", 0)]
    {
        let budget = limit(group, "money", scope, Window::Month, 1_000 * DOLLAR);
        assert_eq!(scene.state().overshoot_bounds(&[budget.id]), [expected], "{group} {scope}");
    }
    assert!(bound > 0);
    let second = scene.submit(&job("H100:2"));
    let third = scene.submit(&job("H100:1"));
    scene.world.place().unwrap();
    let waits = scene.state().limits_leave(scene.job(second), scene.world.now());
    let Standing::Waits(refusal) = waits else { panic!("{waits:?}") };
    assert_eq!((refusal.binding.group.as_str(), refusal.shortfall, refusal.held), ("lab", 200, 0));
    scene.world.place().unwrap();
    assert_eq!((scene.stands(second), scene.stands(third)), ("queued", "staging"));
    scene.says(node, attempt, 0, ended_well(1000));
    assert_eq!(scene.world.place().unwrap(), 1, "the first gave back what it had");
    assert_eq!(scene.stands(second), "staging");
    for job in [second, third] {
        scene.says(node, scene.attempt_of(job), 0, ended_well(1000));
    }
    scene.is_over();
    assert_eq!(standing(&scene, "lab").0, 0);
}

#[test]
fn what_the_limit_of_a_cloud_refuses_runs_at_home_when_that_is_free() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let (_, attempt) = scene.start(&job("H100:8"));
    scene.offer("H100:8", 36);
    scene.must(set(limit("org", "money", "cloud", Window::Month, 10 * DOLLAR)));
    let second = scene.submit(&job("H100:8"));
    for _ in 0..2 {
        scene.world.pass(spillway_types::DurationMs(1000));
        scene.world.place().unwrap();
        assert_eq!(scene.stands(second), "queued");
    }
    assert!(scene.state().instances.is_empty());
    scene.says(node, attempt, 0, ended_well(1000));
    assert_eq!(scene.world.place().unwrap(), 1);
    assert_eq!(scene.attempt(scene.attempt_of(second)).site.as_str(), "home");
}

#[test]
fn use_counts_against_the_limit_and_what_was_held_comes_back() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let hours = 20 * i64::try_from(HOUR).unwrap();
    scene.must(set(limit("org", "normalised-gpu-time", "everywhere", Window::Month, hours)));
    let (_, attempt) = scene.start(&job("H100:8"));
    assert_eq!(standing(&scene, "org").0, 0);
    assert!(standing(&scene, "org").1 >= 16 * i64::try_from(HOUR).unwrap());
    scene.world.pass(spillway_types::DurationMs(HOUR));
    scene.says(node, attempt, 0, ended_well(HOUR));
    assert_eq!(standing(&scene, "org"), (8 * i64::try_from(HOUR).unwrap(), 0));
    let second = scene.submit(&job("H100:8"));
    let budget = limit("org", "money", "everywhere", Window::Month, 1_000 * DOLLAR);
    scene.must(set(budget.clone()));
    assert_eq!(scene.state().overshoot_bounds(&[budget.id]), [0], "nothing runs");
    assert_eq!(scene.world.place().unwrap(), 0, "12 GPU-hours are left, and it may need 16");
    let Standing::Waits(refusal) = scene.state().limits_leave(scene.job(second), scene.world.now()) else {
        panic!("it does not wait")
    };
    assert!(refusal.to_string().contains("it is used up, and counts anew from"), "{refusal}");
}

#[test]
fn a_change_that_cannot_be_is_refused_and_the_same_again_changes_nothing() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.start(&job("H100:4"));
    let below = limit("org", "concurrent-gpus", "everywhere", Window::Instant, 399);
    let refusal = scene.refused(set(below.clone()));
    assert!(refusal.to_string().contains("set it to"), "{refusal}");
    assert!(matches!(refusal, Refusal::Limits(error) if matches!(*error, LimitsError::BelowUse { .. })));
    let fits = set(Limit { nominal: 400, ..below.clone() });
    scene.must(fits.clone());
    scene.idle(fits);
    scene.refused(set(limit("nobody", "money", "cloud", Window::Month, 1)));
    let transfer = Transfer {
        key: "t".to_owned(),
        from: below.id.clone(),
        to: below.id,
        amount: 1,
        effective: scene.world.now(),
        recorded: scene.world.now(),
        by: name("root"),
        because: String::new(),
    };
    scene.refused(Command::ChangeLimits(Box::new(LimitsChange::Transfer { transfer })));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn a_long_job_holds_lease_by_lease_and_stops_where_there_is_no_room_for_the_next() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let minutes = |minutes: u64| i64::try_from(minutes * HOUR / 60).unwrap();
    // Two leases of 4 hours on 1 GPU, with the grace of each; not a third.
    scene.must(set(limit("lab", "normalised-gpu-time", "everywhere", Window::Month, minutes(9 * 60))));
    let mut long = job("H100:1");
    long.time_limit = spillway_types::DurationMs(100 * HOUR);
    let whole = scene.refused(Scene::submission(&long));
    assert!(matches!(&whole, Refusal::NeverFits(_)), "it would have to hold 100 hours: {whole}");
    long.checkpoint.every = Some(spillway_types::DurationMs(HOUR));
    let (id, attempt) = scene.start(&long);
    let held = |scene: &Scene| standing(scene, "lab").1;
    let grace = i64::try_from(long.checkpoint.grace.0).unwrap();
    assert_eq!(held(&scene), minutes(4 * 60) + grace);
    scene.world.pass(spillway_types::DurationMs(4 * HOUR - 11 * HOUR / 60));
    scene.tick();
    assert_eq!(held(&scene), minutes(4 * 60) + grace, "not yet");
    scene.world.pass(spillway_types::DurationMs(HOUR / 60));
    scene.tick();
    assert_eq!(held(&scene), minutes(8 * 60) + grace);
    scene.tick();
    assert_eq!(held(&scene), minutes(8 * 60) + grace, "once");
    scene.world.pass(spillway_types::DurationMs(4 * HOUR));
    scene.tick();
    assert_eq!(scene.attempt(attempt).stop, Some(StopCause::Limit));
    scene.says(node, attempt, 0, PartNews::Ended { end: PartEnd::Stopped, ran_ms: 7 * HOUR });
    assert_eq!(scene.stands(id), "queued");
    assert_eq!(standing(&scene, "lab"), (minutes(7 * 60), 0));
    scene.world.place().unwrap();
    let waits = scene.state().limits_leave(scene.job(id), scene.world.now());
    assert!(matches!(waits, Standing::Waits(_)), "{waits:?}");
}

#[test]
fn a_limit_that_stops_leaves_no_grace_and_one_that_drains_does() {
    for (action, cause) in [(Action::Drain, StopCause::Limit), (Action::Stop, StopCause::LimitAtOnce)] {
        let mut scene = Scene::new();
        let node = scene.node("H100:8");
        let hours = 5 * i64::try_from(HOUR).unwrap();
        let five = limit("lab", "normalised-gpu-time", "everywhere", Window::Month, hours);
        scene.must(set(Limit { action, ..five }));
        let mut long = job("H100:1");
        long.time_limit = spillway_types::DurationMs(100 * HOUR);
        long.checkpoint.every = Some(spillway_types::DurationMs(HOUR));
        let (id, attempt) = scene.start(&long);
        scene.world.pass(spillway_types::DurationMs(4 * HOUR - 1));
        scene.tick();
        let stopped = scene.attempt(attempt);
        let grace = if action == Action::Stop { 0 } else { long.checkpoint.grace.0 };
        assert_eq!((stopped.stop, stopped.grace_to_stop().0), (Some(cause), grace));
        assert_eq!(stopped.grace, long.checkpoint.grace, "a node that is silent may not have heard");
        scene.says(node, attempt, 0, PartNews::Ended { end: PartEnd::Stopped, ran_ms: 4 * HOUR });
        assert_eq!(scene.stands(id), "queued");
    }
}

#[test]
fn a_group_is_removed_only_where_nothing_of_it_would_be_lost() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let remove = |group: &str| Command::RemoveGroup { group: name(group) };
    let refused = |scene: &mut Scene, group: &str| scene.refused(remove(group)).to_string();
    assert!(refused(&mut scene, "nobody").contains("nobody"));
    assert!(refused(&mut scene, "org").contains("is below it"));
    scene.must(Command::DeclareGroup(Group {
        name: name("new"),
        parent: Some(name("lab")),
        weight: 1,
        priority: 0,
        budget_micros: Some(0),
        budget_stated: None,
    }));
    scene.must(set(limit("new", "money", "cloud", Window::Month, 5)));
    scene.must(remove("new"));
    assert!(!scene.state().groups.contains_key(&name::<spillway_types::GroupName>("new")));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
    let (_, attempt) = scene.start(&job("H100:1"));
    assert!(refused(&mut scene, "lab").contains("of its attempts hold"));
    scene.says(node, attempt, 0, ended_well(1000));
    scene.submit(&job("H100:8"));
    assert!(refused(&mut scene, "lab").contains("has jobs that are not over"));
}

#[test]
fn what_no_limit_ever_allows_is_refused_at_once() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.must(set(limit("org", "concurrent-gpus", "everywhere", Window::Instant, 400)));
    let refusal = scene.refused(Scene::submission(&job("H100:5")));
    assert!(refusal.to_string().contains("waiting cannot help"), "{refusal}");
    scene.submit(&job("H100:4"));
    scene.must(set(limit(
        "org",
        "gpu-time:H100",
        "everywhere",
        Window::Month,
        7 * i64::try_from(HOUR).unwrap(),
    )));
    let refusal = scene.refused(Scene::submission(&job("H100:4")));
    assert!(refusal.to_string().contains("gpu-time:H100"), "{refusal}");
    scene.submit(&job("H100:3"));
}
