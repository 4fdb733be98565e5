//! Rules say where jobs may run: at submission, in plans, and again when a plan is carried out.

use std::sync::Arc;

use spillway_core::{Command, Refusal, Reply, snapshot};
use spillway_policies::{Gate, GateJob, GatePlace, Policy, Refused, Target, Verdict, plan};
use spillway_types::{Reason, Role, SiteName, UserName};

use crate::words::{Scene, gang, job, name};

/// Each site, and who may not use it: a group with all below it, or a user.
#[derive(Debug)]
struct Keep(Vec<(&'static str, &'static str)>);

impl Gate for Keep {
    fn judge(&self, job: &GateJob<'_>, place: &GatePlace<'_>) -> Result<(), Refused> {
        let asks = |whom: &str| {
            job.user.is_some_and(|user| user.as_str() == whom)
                || job.groups.iter().any(|group| group.as_str() == whom)
        };
        let denies = |(site, whom): &&(&str, &str)| place.site.as_str() == *site && asks(whom);
        let by: Vec<String> =
            self.0.iter().filter(denies).map(|(site, whom)| format!("{whom}-not-in-{site}")).collect();
        if by.is_empty() { Ok(()) } else { Err(Refused { by, problem: None }) }
    }

    fn tells_users_apart(&self) -> bool {
        true
    }
}

fn keep(rules: &[(&'static str, &'static str)]) -> Option<Arc<dyn Gate>> {
    Some(Arc::new(Keep(rules.to_vec())))
}

fn everybody_out() -> Option<Arc<dyn Gate>> {
    keep(&[("home", "org"), ("east", "org")])
}

fn place(scene: &mut Scene, decisions: Vec<spillway_policies::Decision>) -> Reply {
    scene.must(Command::Place { decisions, endpoint: Default::default() })
}

#[test]
fn jobs_go_where_they_are_admitted_and_the_explanation_names_the_rule() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.offer("H100:8", 80);
    scene.world.set_gate(keep(&[("home", "org")]));
    let id = scene.submit(&job("H100:8"));
    let plan = scene.world.plan();
    assert!(matches!(&plan.decisions[0].target, Target::Launch { .. }), "{:?}", plan.decisions);
    let home: SiteName = name("home");
    let seen = plan.explanations[&id].candidates.iter().find(|seen| seen.site == home).unwrap();
    let said = (seen.verdict, seen.detail.as_str());
    assert_eq!(said, (Verdict::NotAllowed, "denied by the access policy `org-not-in-home`"));
    assert_eq!(scene.world.place().unwrap(), 1);
}

#[test]
fn what_every_place_denies_is_refused_with_the_rule() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.offer("H100:8", 80);
    scene.world.set_gate(everybody_out());
    let refusal = scene.refused(Scene::submission(&job("H100:8")));
    assert!(matches!(&refusal, Refusal::Unsatisfiable { field: "resources.gpus", .. }), "{refusal}");
    let mut plain = job("H100:8");
    plain.resources.gpus = None;
    let refusal = scene.refused(Scene::submission(&plain)).to_string();
    assert!(refusal.starts_with("group: lab every place that is large enough is ruled out: "), "{refusal}");
    for id in ["`org-not-in-home`", "`org-not-in-east`"] {
        assert!(refusal.contains(id), "{refusal}");
    }
    scene.world.set_gate(keep(&[("home", "org")]));
    scene.submit(&plain);
    scene.world.set_offers(vec![]);
    let gang = scene.refused(Scene::submission(&gang(2, "H100:8"))).to_string();
    assert!(gang.contains("`org-not-in-home`"), "{gang}");
}

#[test]
fn who_submits_counts_where_rules_name_users() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.user("eve", Role::Member, &["lab"]);
    scene.world.set_gate(keep(&[("home", "eve")]));
    let spec = Box::new(job("H100:4"));
    let eve: UserName = name("eve");
    let refusal = scene.refused(Command::Submit { spec, user: eve, key: None }).to_string();
    assert!(refusal.contains("denied by the access policy `eve-not-in-home`"), "{refusal}");
    scene.start(&job("H100:4"));
}

#[test]
fn rules_that_change_after_a_plan_are_asked_again() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    let here = scene.submit(&job("H100:8"));
    let on_nodes = scene.world.plan().decisions;
    scene.world.set_gate(everybody_out());
    assert_eq!(place(&mut scene, on_nodes), Reply::Placed { started: 0, stale: 1 });
    assert_eq!(scene.world.plan().explanations[&here].reason, Some(Reason::Unsatisfiable));
    scene.world.set_gate(None);
    scene.offer("H100:8", 80);
    let snapshot = snapshot::take(scene.world.federation(), &Policy::default(), scene.world.now());
    let launch = plan(&spillway_policies::Snapshot { nodes: vec![], ..snapshot }).decisions;
    assert!(matches!(&launch[0].target, Target::Launch { .. }));
    scene.world.set_gate(keep(&[("east", "lab")]));
    assert_eq!(place(&mut scene, launch.clone()), Reply::Placed { started: 0, stale: 1 });
    scene.world.set_gate(None);
    assert_eq!(place(&mut scene, launch), Reply::Placed { started: 1, stale: 0 });
}

#[test]
fn a_group_that_moves_takes_its_rules_along() {
    let mut scene = Scene::new();
    scene.node("H100:8");
    scene.group("free", None, None);
    scene.world.set_gate(everybody_out());
    scene.refused(Scene::submission(&job("H100:8")));
    scene.group("lab", Some("free"), None);
    scene.start(&job("H100:8"));
}
