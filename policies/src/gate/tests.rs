//! What a gate does to plans, explanations and questions, with rules that are written down here.

use std::collections::BTreeSet;
use std::sync::Arc;

use spillway_types::{Dataset, Reason};

use super::*;
use crate::testing::{job, node, offer, snapshot};
use crate::{Snapshot, Target, Unsatisfiable, Verdict, could_ever_run, explain_one, plan};

/// Rules as functions: each denies what it is true for.
#[derive(Clone)]
pub(crate) struct Rules(pub(crate) Vec<(&'static str, Rule)>);

pub(crate) type Rule = fn(&GateJob<'_>, &GatePlace<'_>) -> bool;

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl Gate for Rules {
    fn judge(&self, job: &GateJob<'_>, place: &GatePlace<'_>) -> Result<(), Refused> {
        let by = self.0.iter().filter(|(_, denies)| denies(job, place));
        let by: Vec<String> = by.map(|(id, _)| (*id).to_owned()).collect();
        if by.is_empty() { Ok(()) } else { Err(Refused { by, problem: None }) }
    }

    fn tells_users_apart(&self) -> bool {
        true
    }
}

fn keeper(rules: &[(&'static str, Rule)]) -> Gatekeeper {
    let above = BTreeMap::from([("lab".parse().unwrap(), "org".parse().unwrap())]);
    let patients = Dataset {
        labels: ["patient".to_owned()].into(),
        jurisdiction: Some("KR".to_owned()),
        ..Dataset::default()
    };
    let datasets = BTreeMap::from([("scans".parse().unwrap(), patients)]);
    let labels = BTreeMap::from([("main".parse().unwrap(), BTreeSet::from(["certified".to_owned()]))]);
    let clouds = BTreeMap::from([("cloud".parse().unwrap(), "aws".parse().unwrap())]);
    Gatekeeper::new(Arc::new(Rules(rules.to_vec())), Facts { above, datasets, labels, clouds })
}

/// A node in Korea, one in the United States, one rented, and an offer.
fn everywhere(rules: &[(&'static str, Rule)]) -> Snapshot {
    let mut all = snapshot()
        .node(node(1, "H100:4").in_site("seoul").in_country("KR"))
        .node(node(2, "H100:8").in_site("texas").in_pool("ranch").in_country("US"))
        .node(node(3, "H100:8").in_site("cloud").in_pool("cloud").rented_at(40))
        .offer(offer("p5", "H100:8", 80));
    all.gate = Some(keeper(rules));
    all
}

const AT_HOME: (&str, Rule) = ("residency-kr", |_, place| place.jurisdiction != Some("KR"));

#[track_caller]
fn said(all: &Snapshot, queued: &QueuedJob, site: &str) -> (Verdict, String) {
    let seen = explain_one(all, queued).candidates;
    let candidate = seen.into_iter().find(|candidate| candidate.site.as_str() == site).unwrap();
    (candidate.verdict, candidate.detail)
}

#[test]
fn what_is_denied_is_no_candidate_and_the_explanation_names_the_policy() {
    let all = everywhere(&[AT_HOME]);
    let made = plan(&all.clone().job(job(1, "H100:4")).job(job(2, "H100:4").since(1)));
    let [decision] = made.decisions.as_slice() else { panic!("{:?}", made.decisions) };
    let Target::Nodes { parts } = &decision.target else { panic!("{decision:?}") };
    assert_eq!(parts[0].node, all.nodes[0].node);
    for site in ["texas", "cloud"] {
        let denied = (Verdict::NotAllowed, "denied by the access policy `residency-kr`".to_owned());
        assert_eq!(said(&all, &job(1, "H100:4"), site), denied);
    }
    let told = &made.explanations[&job(2, "").job];
    assert_eq!((told.reason, told.bound), (Some(Reason::Resources), None));
    assert_eq!(told.candidates.iter().filter(|c| c.verdict == Verdict::NotAllowed).count(), 3);
}

#[test]
fn what_every_place_denies_could_never_run() {
    let all = everywhere(&[AT_HOME, ("no-cloud", |_, place| place.cloud.is_some())]);
    assert_eq!(could_ever_run(&all, &job(1, "H100:4")), Ok(()));
    let error = could_ever_run(&all, &job(1, "H100:8")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "every place that is large enough is ruled out: denied by the access policy `residency-kr`; \
         denied by the access policies `residency-kr`, `no-cloud`"
    );
    assert_eq!(explain_one(&all, &job(1, "H100:8")).reason, Some(Reason::Unsatisfiable));
    let gang = could_ever_run(&everywhere(&[AT_HOME]), &job(1, "H100:4").on_nodes(2)).unwrap_err();
    assert!(matches!(&gang, Unsatisfiable::TooFewNodes { most: 1, .. }), "{gang}");
    assert!(gang.to_string().ends_with("others are denied by the access policy `residency-kr`"), "{gang}");
}

#[test]
fn rules_see_the_job_its_group_and_its_data() {
    let texas = |rule: Rule, queued: QueuedJob| said(&everywhere(&[("x", rule)]), &queued, "texas").0;
    let plain = || job(1, "H100:8");
    let user = |name: &str| QueuedJob { user: Some(name.parse().unwrap()), ..plain() };
    let reads = || QueuedJob { inputs: vec!["scans".parse().unwrap()], ..plain() };
    let classed = || QueuedJob { class: Some("batch".parse().unwrap()), ..plain() };
    let denies: [(Rule, QueuedJob); 9] = [
        (|job, _| job.groups.iter().map(|group| group.as_str()).eq(["lab", "org"]), plain()),
        (|job, _| job.user.is_some_and(|user| user.as_str() == "eve"), user("eve")),
        (|job, _| job.class.is_some_and(|class| class.as_str() == "batch"), classed()),
        (|job, _| job.image == Some("train:1"), plain().with_image()),
        (|job, _| job.gpus == 8 && job.nodes == 1, plain()),
        (|job, _| job.residency == ["US"], plain().must_stay_in(&["US"])),
        (|job, _| job.inputs.iter().any(|input| input.labels.contains("patient")), reads()),
        (|_, place| place.pool.as_str() == "ranch" && place.labels.is_none(), plain()),
        (|_, place| place.rate == HourlyRate(8_000_000), plain()),
    ];
    for (at, (rule, queued)) in denies.into_iter().enumerate() {
        assert_eq!(texas(rule, queued), Verdict::NotAllowed, "rule {at}");
    }
    let unknown = QueuedJob { inputs: vec!["nothing".parse().unwrap()], ..plain() };
    let (verdict, words) = said(&everywhere(&[]), &unknown, "texas");
    assert_eq!(verdict, Verdict::NotAllowed);
    assert_eq!(words, "denied, since the access policies cannot decide: dataset `nothing` is not known here");
}

#[test]
fn jobs_that_rules_tell_apart_are_judged_apart() {
    let by_user: (&str, Rule) = ("not-eve", |job, _| job.user.is_some_and(|user| user.as_str() == "eve"));
    let of = |id, user: &str| QueuedJob { user: Some(user.parse().unwrap()), ..job(id, "H100:1") };
    let made = plan(&everywhere(&[by_user]).job(of(1, "ada")).job(of(2, "eve")).job(of(3, "ada")));
    let started: Vec<_> = made.decisions.iter().map(|decision| decision.job).collect();
    assert_eq!(started, [job(1, "").job, job(3, "").job]);
}

#[test]
fn what_a_planner_was_told_is_asked_again_when_the_rules_change() {
    let mut planner = crate::Planner::of(&everywhere(&[AT_HOME]).job(job(1, "H100:8")));
    assert_eq!(planner.plan(snapshot().now, &mut || true), []);
    planner.set_gate(None);
    let [decision] = planner.plan(snapshot().now, &mut || true).try_into().unwrap();
    assert_eq!(decision.job, job(1, "").job);
    planner.set_gate(Some(keeper(&[AT_HOME])));
    assert_eq!(planner.plan(snapshot().now, &mut || true), []);
}

#[test]
fn a_chain_of_groups_that_runs_in_a_circle_ends() {
    let mut keeper = keeper(&[]);
    keeper.facts.above.insert("org".parse().unwrap(), "lab".parse().unwrap());
    assert_eq!(keeper.chain(&"lab".parse().unwrap()).len(), 2);
}

#[test]
fn refusals_say_who_refuses() {
    for (by, problem, words) in [
        (vec![], None, "denied: no access policy permits it"),
        (vec!["a"], None, "denied by the access policy `a`"),
        (vec!["a", "b"], None, "denied by the access policies `a`, `b`"),
        (vec!["a"], Some("too deep"), "denied, since the access policy `a` fails: too deep"),
        (vec![], Some("no user"), "denied, since the access policies cannot decide: no user"),
    ] {
        let by = by.into_iter().map(str::to_owned).collect();
        assert_eq!(Refused { by, problem: problem.map(str::to_owned) }.to_string(), words);
    }
}
