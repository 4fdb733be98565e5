//! What holds for the ways in which much is planned quickly: looking at few nodes gives what looking at all of them
//! gives, and admitting a job moves no other.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spillway_types::{FreeResources, JobId, NodeId, Reason, UnixMs};

use crate::index::Index;
use crate::planner::Planner;
use crate::testing::{NOW, at, job, node, offer, snapshot};
use crate::{Decision, NodeView, QueuedJob, Snapshot, Target};

const ASKS: [&str; 9] = ["1", "2", "4", "8", "H100:1", "A100:4", "0.25", "0.50", ""];

fn any_node() -> impl Strategy<Value = NodeView> {
    let parts = prop::collection::vec((1..5_u32, -100..9000_i64), 0..4);
    (prop::sample::select(vec!["H100:8", "A100:8"]), parts, 0..3_u8).prop_map(|(gpus, parts, site)| {
        let mut view = node(0, gpus).in_site(if site == 0 { "a" } else { "b" });
        for (count, until) in parts {
            let free = u32::try_from(view.free.whole_gpus()).unwrap();
            view = view.busy(count.min(free), until);
        }
        view
    })
}

fn any_job() -> impl Strategy<Value = QueuedJob> {
    let needs = (prop::sample::select(ASKS.to_vec()), 1..4_u32, 1..40_u32);
    (needs, 30..20_000_u64, 0..3_u8).prop_map(|((gpus, nodes, cpus), runs, group)| {
        let group = ["lab", "vip", "poor"][usize::from(group)];
        job(0, gpus).on_nodes(if nodes == 2 { 2 } else { 1 }).cpus(cpus).runs(runs).of_group(group)
    })
}

/// Many nodes of few kinds, some more jobs than start, and jobs that come later.
fn any_world() -> impl Strategy<Value = (Snapshot, Vec<QueuedJob>)> {
    let nodes = prop::collection::vec(any_node(), 1..40);
    let jobs = prop::collection::vec(any_job(), 1..40);
    let later = prop::collection::vec(any_job(), 1..6);
    (nodes, jobs, later, any::<bool>()).prop_map(|(nodes, jobs, later, cloud)| {
        let mut all = snapshot().unsearched().group("poor", 0, 1, Some(40_000_000));
        if cloud {
            all = all.offer(offer("x", "H100:8", 30));
        }
        for (view, id) in nodes.into_iter().zip(1..) {
            let node = NodeId::from_uuid(uuid::Uuid::from_u128(id));
            all = all.node(NodeView { node, hostname: format!("n{id}"), ..view });
        }
        let named = |(queued, id)| QueuedJob { job: job(id, "").job, ..queued };
        for queued in jobs.into_iter().zip(1..).map(named) {
            all = all.job(queued);
        }
        (all, later.into_iter().zip(1000..).map(named).collect())
    })
}

fn planner(snapshot: &Snapshot, indexed_from: usize) -> Planner {
    let mut planner = Planner::of(snapshot);
    planner.board.index = Index::of_kinds_from(indexed_from);
    planner
}

/// Where each waiting job is planned to start, in the order of the plan.
fn planned(planner: &Planner) -> Vec<(usize, String)> {
    let spots = planner.layout.laid.iter().map(|laid| format!("{:?}", laid.spot));
    planner.layout.sequence.iter().copied().zip(spots).collect()
}

fn carry_out(free: &mut BTreeMap<NodeId, FreeResources>, decisions: &[Decision]) {
    for decision in decisions {
        let Target::Nodes { parts } = &decision.target else { continue };
        for part in parts {
            free.get_mut(&part.node).unwrap().take(&part.allocation).expect("over-committed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_index_finds_what_looking_at_every_node_finds((snapshot, later) in any_world(), passes in 0..5000_i64) {
        let mut indexed = planner(&snapshot, 1);
        let mut scanned = planner(&snapshot, usize::MAX);
        prop_assert_eq!(indexed.plan(NOW, &mut || true), scanned.plan(NOW, &mut || true));
        prop_assert_eq!(planned(&indexed), planned(&scanned));
        // Time passes, every third node is emptied, another leaves, jobs come.
        let now = at(passes);
        for planner in [&mut indexed, &mut scanned] {
            for view in snapshot.nodes.iter().step_by(3) {
                let free = FreeResources::all_of(&view.capacity);
                planner.set_node(NodeView { free, running: vec![], ..view.clone() }, now);
            }
            snapshot.nodes.iter().skip(1).step_by(5).for_each(|view| planner.remove_node(view.node));
            later.iter().for_each(|queued| planner.set_job(queued.clone()));
        }
        prop_assert_eq!(indexed.plan(now, &mut || true), scanned.plan(now, &mut || true));
        prop_assert_eq!(planned(&indexed), planned(&scanned));
    }

    #[test]
    fn admitting_moves_nobody((snapshot, later) in any_world(), passes in 0..300_i64, busy in any::<bool>()) {
        let (mut one, mut other) = (planner(&snapshot, 1), planner(&snapshot, 1));
        let mut free: BTreeMap<NodeId, FreeResources> =
            snapshot.nodes.iter().map(|view| (view.node, view.free.clone())).collect();
        let decisions = one.plan(NOW, &mut || true);
        prop_assert_eq!(&decisions, &other.plan(NOW, &mut || true));
        carry_out(&mut free, &decisions);
        let before = planned(&one);
        let changed = snapshot.nodes.first().filter(|_| busy).map(|view| view.node);
        for queued in &later {
            for planner in [&mut one, &mut other] {
                if let Some(view) = snapshot.nodes.first().filter(|_| busy) {
                    planner.set_node(NodeView { takes_work: false, ..view.clone() }, at(passes));
                }
                planner.set_job(queued.clone());
            }
            let admitted = one.admit(at(passes)).expect("nothing stands in the way");
            prop_assert_eq!(&admitted, &other.admit(at(passes)).unwrap());
            carry_out(&mut free, &admitted);
            let on_changed = |decision: &Decision| match &decision.target {
                Target::Nodes { parts } => parts.iter().any(|part| Some(part.node) == changed),
                Target::Launch { .. } => false,
            };
            prop_assert!(!admitted.iter().any(on_changed));
            let said = one.explanation(queued.job).expect("it is known");
            prop_assert_eq!(said.reason.is_none(), admitted.len() == 1);
        }
        prop_assert_eq!(&planned(&one)[..before.len()], &before[..]);
    }
}

#[test]
fn what_there_was_no_time_for_keeps_its_place() {
    let mut all = snapshot().unsearched().node(node(1, "H100:8").busy(8, 600));
    for id in 1..300 {
        all = all.job(job(id, "8").runs(60));
    }
    let mut planner = Planner::of(&all);
    planner.plan(NOW, &mut || false);
    assert_eq!(planner.laid(), 64, "it is asked now and then, and something is always planned");
    let reason = |planner: &Planner, id: u128| planner.explanation(job(id, "").job).unwrap().reason;
    assert_eq!(reason(&planner, 64), Some(Reason::Resources));
    assert_eq!(reason(&planner, 65), Some(Reason::Priority));
    // What comes then stands behind them.
    planner.set_job(job(1000, "1").runs(60));
    assert_eq!(planner.admit(NOW), Some(vec![]));
    let positions = planner.explanations();
    let position = |id: u128| positions[&JobId::from_uuid(uuid::Uuid::from_u128(id))].position;
    assert_eq!((position(65), position(299), position(1000)), (65, 299, 300));
    planner.plan(NOW, &mut || true);
    assert_eq!((planner.laid(), reason(&planner, 65)), (300, Some(Reason::Resources)));
}

#[test]
fn only_a_whole_plan_takes_in_what_changes_everything() {
    let all = snapshot().unsearched().node(node(1, "H100:8")).job(job(1, "1"));
    let mut planner = Planner::of(&all);
    assert_eq!(planner.admit(NOW), None, "nothing was planned yet");
    planner.plan(NOW, &mut || true);
    assert!(planner.admit(NOW).is_some());
    assert_eq!(planner.admit(UnixMs(NOW.0 - 1)), None, "time does not go back");
    planner.set_offers(vec![offer("x", "H100:8", 30)]);
    assert_eq!(planner.admit(NOW), None, "places are priced anew");
    planner.plan(NOW, &mut || true);
    planner.set_policy(crate::Policy { search: 60, ..all.policy });
    planner.plan(NOW, &mut || true);
    assert_eq!(planner.admit(NOW), None, "the best order of a short queue is looked for");
}

#[test]
fn groups_that_may_use_the_same_nodes_share_what_is_known_of_them() {
    let mut all = snapshot().unsearched().node(node(1, "H100:8").busy(8, 600));
    for (id, group) in [(1, "lab"), (2, "vip"), (3, "poor")] {
        all = all.job(job(id, "8").runs(60).of_group(group));
    }
    let mut planner = Planner::of(&all);
    planner.plan(NOW, &mut || true);
    assert_eq!(planner.shapes.len(), 1);
    // A pool for two of the three comes: they may use it, and the third may not.
    let named = |name: &str| name.parse().expect("it is a name");
    let mut pool = node(2, "H100:8").in_site("theirs");
    pool.groups = Some([named("vip"), named("poor")].into());
    planner.set_node(pool, NOW);
    assert_eq!(planner.shapes.len(), 2);
    planner.plan(NOW, &mut || true);
    let verdict = |id: u128| planner.explanation(job(id, "").job).unwrap().candidates;
    let barred = |id: u128| verdict(id).iter().any(|seen| seen.verdict == crate::Verdict::OtherGroups);
    assert_eq!([1, 2, 3].map(barred), [true, false, false]);
}
