//! What the planner decides, case by case.

use std::collections::BTreeMap;

use spillway_types::{DurationMs, JobId, Reason};
use uuid::Uuid;

use crate::testing::{NOW, job, node, offer, snapshot, usd};
use crate::{
    Amounts, Policy, Snapshot, Target, Unsatisfiable, Verdict, cheapest_hold, could_ever_run, explain_one,
    plan,
};

fn id(number: u128) -> JobId {
    JobId::from_uuid(Uuid::from_u128(number))
}

/// What became of each job, in words: `starts on n1 n2`, `launches p5`, `waits 240s (Resources)`; an array's
/// starts are counted.
fn outcome(snapshot: &Snapshot) -> Vec<String> {
    let plan = plan(snapshot);
    let host = |node| snapshot.nodes.iter().find(|n| n.node == node).map_or("?", |n| n.hostname.as_str());
    let mut words = Vec::new();
    for queued in &snapshot.queue {
        let mut starts: BTreeMap<String, usize> = BTreeMap::new();
        for decision in plan.decisions.iter().filter(|decision| decision.job == queued.job) {
            let what = match &decision.target {
                Target::Nodes { parts } => {
                    let hosts: Vec<_> = parts.iter().map(|part| host(part.node)).collect();
                    format!("starts on {}", hosts.join(" "))
                }
                Target::Launch { instance_type, .. } => format!("launches {instance_type}"),
            };
            *starts.entry(what).or_default() += 1;
        }
        let times = |(what, count)| if count == 1 { what } else { format!("{count} {what}") };
        let mut said: Vec<String> = starts.into_iter().map(times).collect();
        let explanation = &plan.explanations[&queued.job];
        if let Some(reason) = explanation.reason {
            let wait = explanation.planned_start.map(|start| format!(" {}s", (start.0 - NOW.0) / 1000));
            said.push(format!("waits{} ({reason:?})", wait.unwrap_or_default()));
        }
        words.push(said.join(", "));
    }
    words
}

#[track_caller]
fn check(case: &str, snapshot: &Snapshot, expected: &[&str]) {
    assert_eq!(outcome(snapshot), expected, "{case}");
}

#[test]
fn one_job_starts_waits_or_bursts() {
    let full = |until| snapshot().node(node(1, "H100:8").busy(8, until)).offer(offer("p5", "H100:8", 98));
    let eight = || job(1, "H100:8");
    for (case, snapshot, expected) in [
        ("fits now", snapshot().node(node(1, "H100:8")).job(eight()), "starts on n1"),
        ("waits four minutes", full(240).job(eight()), "waits 240s (Resources)"),
        // 98.00 x (1 h + 3 min) and 3 min of waiting at 15.00: 103.65, as much as 24,876 s of waiting.
        ("as long as it costs less", full(24_875).job(eight()), "waits 24875s (Resources)"),
        ("but no longer", full(24_877).job(eight()), "launches p5"),
        ("the job's own word counts", full(240).job(eight().waits_at_most(60)), "launches p5"),
        (
            "and in the other direction",
            full(9000).job(eight().waits_at_most(9000)),
            "waits 9000s (Resources)",
        ),
        ("time waited is gone", full(240).job(eight().since(-9000)), "waits 240s (Resources)"),
        ("until the bound", full(240).job(eight().since(-172_560)), "waits 240s (Resources)"),
        ("which is a promise", full(240).job(eight().since(-172_561)), "launches p5"),
        ("what no node can hold", full(9000).job(job(1, "").cpus(200)), "waits (Unsatisfiable)"),
        (
            "no cloud, no choice",
            snapshot().node(node(1, "H100:8").busy(8, 90_000)).job(eight()),
            "waits 90000s (Resources)",
        ),
        ("overdue parts are given 3.6 s more", full(-1).job(eight()), "waits 3s (Resources)"),
        ("or a quarter of what they have run", full(-400).job(eight()), "waits 500s (Resources)"),
    ] {
        check(case, &snapshot, &[expected]);
    }
}

#[test]
fn rented_nodes_come_after_owned_ones_and_before_launches() {
    let base = |owned_free_in| {
        snapshot()
            .node(node(1, "H100:8").busy(8, owned_free_in))
            .offer(offer("p5", "H100:8", 98))
            .job(job(1, "H100:8"))
    };
    let warm = || node(2, "H100:8").in_site("cloud").rented_at(98);
    check("an owned node in time", &base(600).node(warm()), &["waits 600s (Resources)"]);
    check("a warm instance", &base(30_000).node(warm()), &["starts on n2"]);
    check("one that is soon free", &base(30_000).node(warm().busy(8, 600)), &["waits 600s (Resources)"]);
    check("one that is not", &base(30_000).node(warm().busy(8, 29_000)), &["launches p5"]);
    check("one that drains", &base(30_000).node(warm().closed()), &["launches p5"]);
}

#[test]
fn gangs_are_whole_and_in_one_site() {
    let four = || job(1, "H100:8").on_nodes(2);
    let a = |id| node(id, "H100:8").in_site("a");
    let b = |id| node(id, "H100:8").in_site("b");
    for (case, snapshot, expected) in [
        ("both free", snapshot().node(a(1)).node(a(2)).job(four()), "starts on n1 n2"),
        (
            "one of two free",
            snapshot().node(a(1)).node(a(2).busy(1, 60)).job(four()),
            "waits 60s (Resources)",
        ),
        ("never over two sites", snapshot().node(a(1)).node(b(2)).job(four()), "waits (Unsatisfiable)"),
        (
            "the site where it starts first",
            snapshot().node(a(1)).node(a(2).busy(1, 60)).node(b(3).busy(1, 30)).node(b(4)).job(four()),
            "waits 30s (Resources)",
        ),
        (
            "over pools of one site",
            snapshot().node(a(1)).node(a(2).in_pool("other")).job(four()),
            "starts on n1 n2",
        ),
        ("one of two closed", snapshot().node(a(1)).node(a(2).closed()).job(four()), "waits (Unavailable)"),
        (
            "launched together",
            snapshot().node(a(1)).offer(offer("p5", "H100:8", 98)).job(four()),
            "launches p5",
        ),
    ] {
        check(case, &snapshot, &[expected]);
    }
    let one_only = crate::CloudOffer { available: 1, ..offer("p5", "H100:8", 98) };
    check("not by halves", &snapshot().offer(one_only).job(four()), &["waits (Unavailable)"]);
}

#[test]
fn a_common_start_needs_nodes_that_are_free_together() {
    // n1 is free now but kept from 100 s on; n2 is free from 200 s on: they are free together after the wide job.
    let wide = job(1, "H100:8").since(-3).runs(1000).waits_at_most(9000);
    let gang = job(2, "H100:4").on_nodes(2).since(-2).runs(50).waits_at_most(9000);
    let snapshot = snapshot()
        .node(node(1, "H100:8").busy(1, 100))
        .node(node(2, "H100:8").busy(8, 200))
        .job(wide)
        .job(gang);
    check("after each other", &snapshot.unsearched(), &["waits 100s (Resources)", "waits 1100s (Resources)"]);
}

#[test]
fn money_stops_starts() {
    let eight = || job(1, "H100:8");
    let budget = |left| snapshot().group("lab", 0, 1, Some(left)).node(node(1, "H100:8"));
    for (case, snapshot, expected) in [
        ("exactly enough", budget(usd(16)).job(eight()), "starts on n1"),
        ("a micro short", budget(usd(16) - 1).job(eight()), "waits (Budget)"),
        (
            "spent by an earlier task",
            budget(usd(5)).job(job(1, "H100:1").tasks(4)),
            "2 starts on n1, waits (Budget)",
        ),
        (
            "a launch holds whole instances and their boot",
            snapshot().group("lab", 0, 1, Some(usd(200))).offer(offer("p5", "H100:8", 98)).job(eight()),
            "waits (Budget)",
        ),
        ("max_price on a node", budget(usd(99)).job(eight().pays_at_most(7)), "waits (MaxPrice)"),
        ("max_price met", budget(usd(99)).job(eight().pays_at_most(8)), "starts on n1"),
        (
            "max_price is for all nodes together",
            budget(usd(99)).node(node(2, "H100:8")).job(eight().on_nodes(2).pays_at_most(15)),
            "waits (MaxPrice)",
        ),
        (
            "max_price on an offer",
            snapshot().offer(offer("p5", "H100:8", 98)).job(eight().pays_at_most(97)),
            "waits (MaxPrice)",
        ),
        (
            "the share of an instance counts for max_price",
            snapshot().offer(offer("p5", "H100:8", 98)).job(job(1, "H100:1").pays_at_most(13)),
            "launches p5",
        ),
        (
            "the cheapest that fits",
            snapshot()
                .offer(offer("dear", "H100:8", 98))
                .offer(offer("cheap", "H100:8", 60))
                .offer(offer("small", "H100:4", 10))
                .job(eight()),
            "launches cheap",
        ),
        (
            "a dear gang takes the cheap nodes later",
            snapshot()
                .node(node(1, "H100:8").busy(8, 60))
                .node(node(2, "H100:8"))
                .node(node(3, "H100:8").at_per_gpu_hour(usd(9)))
                .job(eight().on_nodes(2).pays_at_most(20)),
            "waits 60s (Resources)",
        ),
    ] {
        check(case, &snapshot, &[expected]);
    }
}

#[test]
fn a_launch_is_held_at_the_whole_price_and_charged_by_share() {
    let snapshot = snapshot().offer(offer("p5", "H100:8", 80)).job(job(1, "H100:2").on_nodes(2));
    let plan = plan(&snapshot);
    let [decision] = plan.decisions.as_slice() else { panic!("{plan:?}") };
    // 2 instances x 80.00 x (2 h + 3 min)
    assert_eq!(decision.hold_micros, usd(328));
    let Target::Launch { rate, allocation, .. } = &decision.target else { panic!("{decision:?}") };
    assert_eq!((rate.0, allocation.blocks()), (usd(20), 200));
    assert!(decision.because.contains("costs 168.00"), "{}", decision.because);
}

#[test]
fn hard_rules_are_kept() {
    let site = |name: &str, country: &str| node(1, "H100:8").in_site(name).in_country(country);
    let one = || job(1, "H100:1");
    let cloud = || offer("p5", "H100:8", 98);
    let korean = crate::CloudOffer { jurisdiction: Some("KR".into()), ..cloud() };
    let mut no_parts = site("a", "KR");
    no_parts.capabilities.fractions = false;
    let mut no_images = site("a", "KR");
    no_images.capabilities.container = false;
    let mut images_only = site("a", "KR");
    images_only.capabilities.process = false;
    for (case, snapshot, expected) in [
        ("allowed", snapshot().node(site("a", "KR")).job(one().allows(&["a"])), "starts on n1"),
        ("not allowed", snapshot().node(site("a", "KR")).job(one().allows(&["b"])), "waits (Unsatisfiable)"),
        ("resides", snapshot().node(site("a", "KR")).job(one().must_stay_in(&["KR"])), "starts on n1"),
        (
            "stays in",
            snapshot().node(site("a", "US")).offer(cloud()).offer(korean).job(one().must_stay_in(&["KR"])),
            "launches p5",
        ),
        (
            "no jurisdiction",
            snapshot().offer(cloud()).job(one().must_stay_in(&["KR"])),
            "waits (Unsatisfiable)",
        ),
        (
            "others' pool",
            snapshot().node(site("a", "KR").for_groups(&["other"])).job(one()),
            "waits (Unsatisfiable)",
        ),
        ("own pool", snapshot().node(site("a", "KR").for_groups(&["lab"])).job(one()), "starts on n1"),
        ("an image", snapshot().node(no_images).job(one().with_image()), "waits (Unsatisfiable)"),
        ("images only", snapshot().node(images_only).job(one()), "waits (Unsatisfiable)"),
        ("a fraction", snapshot().node(site("a", "KR")).job(job(1, "H100:0.5")), "starts on n1"),
        ("no fractions", snapshot().node(no_parts).job(job(1, "H100:0.5")), "waits (Unsatisfiable)"),
        ("closed", snapshot().node(site("a", "KR").closed()).job(one()), "waits (Unavailable)"),
        ("nothing is known", snapshot().job(one()), "waits (Unsatisfiable)"),
    ] {
        check(case, &snapshot, &[expected]);
    }
}

#[test]
fn the_queue_is_served_in_order() {
    let full = || snapshot().node(node(1, "H100:1"));
    let one = |id| job(id, "H100:1").waits_at_most(90_000);
    check(
        "first come, first served",
        &full().job(one(1).since(-1)).job(one(2).since(-2)),
        &["waits 3600s (Resources)", "starts on n1"],
    );
    check("then by id", &full().job(one(2)).job(one(1)), &["waits 3600s (Resources)", "starts on n1"]);
    check(
        "priority goes first",
        &full().group("vip", 5, 1, None).job(one(1).since(-9)).job(one(2).of_group("vip")),
        &["waits 3600s (Resources)", "starts on n1"],
    );
    check(
        "unknown groups have priority 0",
        &full().group("idle", -1, 1, None).job(one(1).of_group("idle").since(-9)).job(one(2)),
        &["waits 3600s (Resources)", "starts on n1"],
    );
}

#[test]
fn groups_share_by_weight_task_by_task() {
    let snapshot = snapshot()
        .node(node(1, "H100:8"))
        .group("three", 0, 3, None)
        .group("one", 0, 1, None)
        .job(job(1, "H100:1").of_group("one").tasks(100).since(-9).waits_at_most(0))
        .job(job(2, "H100:1").of_group("three").tasks(100).waits_at_most(0));
    check(
        "one to three",
        &snapshot,
        &["2 starts on n1, waits 3600s (Resources)", "6 starts on n1, waits 3600s (Resources)"],
    );
    let mut used = snapshot;
    if let Some(group) = used.groups.get_mut(&"three".parse().unwrap()) {
        group.in_use.blocks = 900;
    }
    check(
        "what is in use already counts",
        &used,
        &["5 starts on n1, waits 3600s (Resources)", "3 starts on n1, waits 3600s (Resources)"],
    );
}

#[test]
fn turns_are_taken_by_what_a_group_has_most_of() {
    // 8 GPUs and 128 CPUs. Two tasks of 40 CPUs are 62 % of these, with four of a GPU and 10 CPUs (50 % of the GPUs,
    // 31 % of the CPUs) the CPUs are gone: the next turn would have been one with a GPU.
    let snapshot = snapshot()
        .node(node(1, "H100:8"))
        .group("cpus", 0, 1, None)
        .group("gpus", 0, 1, None)
        .job(job(1, "").cpus(40).of_group("cpus").tasks(3).since(-9))
        .job(job(2, "H100:1").cpus(10).of_group("gpus").tasks(8));
    let waits = "waits 3600s (Resources)";
    check("both", &snapshot, &[&format!("2 starts on n1, {waits}"), &format!("4 starts on n1, {waits}")]);
    let mut busy = snapshot;
    if let Some(group) = busy.groups.get_mut(&"gpus".parse().unwrap()) {
        group.in_use = Amounts { memory_mib: u64::MAX, ..Amounts::default() };
    }
    check("memory counts too", &busy, &["3 starts on n1", waits]);
}

#[test]
fn arrays_start_as_many_as_fit() {
    let array = |tasks| job(1, "").tasks(tasks).waits_at_most(90_000);
    let cluster = || snapshot().node(node(1, "H100:4"));
    check("64 CPUs", &cluster().job(array(10_000)), &["64 starts on n1, waits 3600s (Resources)"]);
    check("all of them", &cluster().job(array(64)), &["64 starts on n1"]);
    let mut few = cluster().job(array(64));
    few.policy.max_starts = 10;
    check("no more than max_starts", &few, &["10 starts on n1, waits (Priority)"]);
    let indexes: Vec<u32> = plan(&few).decisions.iter().map(|decision| decision.task).collect();
    assert_eq!(indexes, (0..10).collect::<Vec<_>>());
    let two_offers = crate::CloudOffer { available: 2, ..offer("c6", "H100:0", 1) };
    check(
        "what would wait too long leaves, as far as there is room",
        &cluster().offer(two_offers).job(job(1, "").tasks(70)),
        &["2 launches c6, 64 starts on n1, waits 3600s (Resources)"],
    );
    let third_wave = cluster().offer(offer("c6", "H100:0", 1)).job(array(200).waits_at_most(7200));
    check(
        "only tasks that would wait too long leave",
        &third_wave,
        &["8 launches c6, 64 starts on n1, waits 3600s (Resources)"],
    );
}

#[test]
fn nodes_are_chosen_to_fit_best() {
    for (case, snapshot, expected) in [
        (
            "the fullest node",
            snapshot().node(node(1, "H100:8")).node(node(2, "H100:8").busy(6, 999)).job(job(1, "H100:2")),
            "starts on n2",
        ),
        (
            "the cheaper one",
            snapshot()
                .node(node(1, "H100:8").busy(6, 999).at_per_gpu_hour(usd(3)))
                .node(node(2, "H100:8"))
                .job(job(1, "H100:2")),
            "starts on n2",
        ),
        (
            "the preferred site",
            snapshot()
                .node(node(1, "H100:8").busy(6, 999).in_site("a"))
                .node(node(2, "H100:8").in_site("b"))
                .job(job(1, "H100:2").prefers(&["b"])),
            "starts on n2",
        ),
        (
            "the lower id",
            snapshot().node(node(1, "H100:8")).node(node(2, "H100:8")).job(job(1, "H100:2")),
            "starts on n1",
        ),
        (
            "no GPU node for a CPU job",
            snapshot().node(node(1, "H100:8")).node(node(2, "H100:0")).job(job(1, "")),
            "starts on n2",
        ),
        (
            "unless there is no other",
            snapshot().node(node(1, "H100:8")).node(node(2, "H100:0")).job(job(1, "").cpus(17)),
            "starts on n1",
        ),
        (
            "a fraction shares before it opens a whole one",
            snapshot()
                .node(node(1, "H100:8"))
                .job(job(1, "0.5").since(-1))
                .job(job(2, "0.5"))
                .job(job(3, "H100:7").since(1)),
            "starts on n1",
        ),
    ] {
        let expected = vec![expected; snapshot.queue.len()];
        check(case, &snapshot, &expected);
    }
}

#[test]
fn reservations_are_not_delayed_by_backfill() {
    let wide = || job(1, "H100:8").since(-9).waits_at_most(90_000);
    let cluster = || snapshot().node(node(1, "H100:8").busy(4, 1000)).job(wide()).unsearched();
    let small = |seconds| job(2, "H100:1").runs(seconds).waits_at_most(90_000);
    check(
        "what ends in time starts",
        &cluster().job(small(1000)),
        &["waits 1000s (Resources)", "starts on n1"],
    );
    check(
        "what does not waits",
        &cluster().job(small(1001)),
        &["waits 1000s (Resources)", "waits 4600s (Resources)"],
    );
    let late = |small: crate::QueuedJob| cluster().offer(offer("p5", "H100:8", 10)).job(small);
    check("or leaves", &late(job(2, "H100:1").runs(1001)), &["waits 1000s (Resources)", "launches p5"]);
}

#[test]
fn mig_slices_and_models_are_told_apart() {
    let mut sliced = node(1, "A100:2");
    let slice =
        |uuid: &str| spillway_types::resources::MigSlice { uuid: uuid.into(), profile: "1g.10gb".into() };
    sliced.capacity.accelerators[0].mig = vec![slice("MIG-a"), slice("MIG-b")];
    sliced.free = spillway_types::FreeResources::all_of(&sliced.capacity);
    let queue = |gpus: &[&str]| {
        let jobs = gpus.iter().zip(1..).map(|(gpus, id)| job(id, gpus).since(i64::try_from(id).unwrap()));
        jobs.fold(snapshot().node(sliced.clone()), Snapshot::job)
    };
    check(
        "slices",
        &queue(&["mig-1g.10gb:1", "mig-1g.10gb:1", "mig-1g.10gb:1"]),
        &["starts on n1", "starts on n1", "waits 3600s (Resources)"],
    );
    check(
        "the sliced one is not whole",
        &queue(&["A100:2", "A100:1"]),
        &["waits (Unsatisfiable)", "starts on n1"],
    );
    check("any, by memory", &queue(&["80GB+:1", "1"]), &["starts on n1", "waits 3600s (Resources)"]);
}

#[test]
fn fractions_share_what_is_reserved() {
    let half = |id| job(id, "H100:0.5").waits_at_most(9000);
    let cluster = snapshot().node(node(1, "H100:1").busy(1, 100));
    check(
        "two halves, then the next",
        &cluster.job(half(1)).job(half(2)).job(half(3)),
        &["waits 100s (Resources)", "waits 100s (Resources)", "waits 3700s (Resources)"],
    );
}

#[test]
fn only_the_first_jobs_are_looked_at() {
    let mut snapshot = snapshot().node(node(1, "H100:8"));
    snapshot.policy = Policy { max_jobs: 2, ..Policy::default() };
    let snapshot = (1..=4).fold(snapshot, |snapshot, id| snapshot.job(job(id, "H100:1")));
    check("two", &snapshot, &["starts on n1", "starts on n1", "waits (Priority)", "waits (Priority)"]);
    let plan = plan(&snapshot);
    assert_eq!([1, 2, 3, 4].map(|number| plan.explanations[&id(number)].position), [1, 2, 3, 4]);
    assert!(plan.explanations[&id(4)].candidates.is_empty());
}

#[test]
fn every_candidate_has_a_word_and_a_sentence() {
    let snapshot = snapshot()
        .node(node(1, "H100:8").in_site("a").busy(5, 250))
        .node(node(2, "H100:8").in_site("b").busy(8, 99_000))
        .node(node(3, "H100:4").in_site("c"))
        .node(node(4, "H100:8").in_site("d").for_groups(&["vip"]))
        .node(node(5, "H100:8").in_site("e").closed())
        .node(node(6, "A100:8").in_site("f"))
        .offer(offer("p5", "H100:8", 98))
        .offer(crate::CloudOffer { available: 0, ..offer("p6", "H100:8", 60) })
        .job(job(1, "H100:8"));
    let plan = plan(&snapshot);
    let explanation = &plan.explanations[&id(1)];
    let said: Vec<String> = explanation
        .candidates
        .iter()
        .map(|c| format!("{} {} {:?}: {}", c.site, c.what, c.verdict, c.detail))
        .collect();
    let expected = [
        "a main Planned: 8 H100 wanted, 3 free, free at 12:04:10 in 4m 10s",
        "cloud p5 Dearer: 102.90 for a run, ready in 3m; waiting 4m 10s for nodes here is worth 1.04",
        "b main Full: 8 H100 wanted, 0 free, free at 15:30:00 in 1d 3h 30m",
        "cloud p6 NoCapacity: 1 wanted, 0 to be had just now",
        "e main Closed: would do, but is cordoned, drained, disconnected or held by its owner",
        "d main OtherGroups: the pool is for vip, not for lab",
        "c main TooSmall: 8 H100 wanted, 4 on the largest node",
        "f main TooSmall: 8 H100 wanted, 0 on the largest node",
    ];
    assert_eq!(said, expected);
    let best = &explanation.candidates[0];
    assert_eq!(
        (best.rate.unwrap().0, best.cost_micros, best.wait),
        (usd(8), Some(usd(8)), Some(DurationMs(250_000)))
    );
}

#[test]
fn a_hypothetical_job_comes_after_the_queue() {
    let snapshot = snapshot().node(node(1, "H100:8")).job(job(1, "H100:8").since(500));
    let explanation = explain_one(&snapshot, &job(9, "H100:8").waits_at_most(90_000).since(-500));
    assert_eq!(explanation.position, 2);
    assert_eq!(explanation.reason, Some(Reason::Resources));
    assert_eq!(explanation.planned_start, Some(crate::testing::at(3600)));
    assert_eq!(explanation.candidates[0].verdict, Verdict::Planned);
    let free = explain_one(&Snapshot { queue: vec![], ..snapshot }, &job(9, "H100:8"));
    assert_eq!((free.reason, free.candidates[0].verdict), (None, Verdict::Chosen));
}

#[test]
fn what_can_never_run_is_said_with_what_there_is() {
    let snapshot = snapshot()
        .node(node(1, "H100:4").closed())
        .node(node(2, "A100:8").for_groups(&["vip"]))
        .offer(offer("g6", "L40S:1", 2));
    let says = |job| could_ever_run(&snapshot, &job).map_err(|error| error.to_string());
    assert_eq!(says(job(1, "H100:4")), Ok(()));
    assert_eq!(says(job(1, "L40S:1").on_nodes(50)), Ok(()));
    for (asked, words) in [
        (job(1, "RTX-9999:1"), "no site has RTX-9999; known models: A100, H100, L40S"),
        (job(1, "H100:5"), "H100:5 is more than any node has: at most 4 on one node"),
        (job(1, "H100:4").cpus(65), "65000 thousandths of a CPU and 1024 MiB: at most 64000"),
        (job(1, "H100:4").on_nodes(2), "2 wanted in one site, at most 1 would do"),
        (job(1, "A100:1"), "ruled out: pools of other groups"),
        (job(1, "L40S:1").allows(&["home"]), "ruled out: `allow`"),
    ] {
        let error = says(asked).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let nobody = could_ever_run(&Snapshot { nodes: vec![], offers: vec![], ..snapshot }, &job(1, "H100:1"));
    assert!(matches!(nobody, Err(Unsatisfiable::UnknownModel { known, .. }) if known.is_empty()));
}

#[test]
fn the_least_a_start_would_hold() {
    let snapshot = snapshot()
        .node(node(1, "H100:8").closed())
        .node(node(2, "H100:8").at_per_gpu_hour(usd(2)))
        .offer(offer("p5", "H100:8", 98));
    for (asked, least) in [
        (job(1, "H100:8"), Some(usd(16))),
        (job(1, "H100:8").on_nodes(2), Some(usd(48))),
        (job(1, "H100:8").on_nodes(2).pays_at_most(23), None),
        (job(1, "H100:8").allows(&["cloud"]), Some(usd(98) * 41 / 20)),
        (job(1, "B200:8"), None),
    ] {
        assert_eq!(cheapest_hold(&snapshot, &asked), least, "{asked:?}");
    }
}

#[test]
fn what_an_instance_that_boots_has_left_is_waited_for_rather_than_launched_again() {
    let small = || job(1, "H100:1");
    let booting = |gpus: u32| {
        let mut view = node(2, "H100:8").in_site("cloud").rented_at(98).busy(gpus, 36_000);
        view.opens = Some(crate::testing::at(120));
        snapshot().node(view).offer(offer("p5", "H100:8", 98))
    };
    check("shares it", &booting(7).job(small()), &["waits 120s (Resources)"]);
    check("nothing is left", &booting(8).job(small()), &["launches p5"]);
    let mut late = booting(7);
    late.nodes[0].opens = Some(crate::testing::at(-60));
    check("it is late", &late.job(small()), &["waits 3s (Resources)"]);
}

#[test]
fn a_fraction_goes_where_least_is_lost_for_what_others_ask() {
    // What is left of the second node's CPUs is too little for a job of eight GPUs: its GPUs are lost for those anyway.
    let mut starved = node(2, "H100:8").busy(0, 7200);
    let cpus = spillway_types::Allocation { cpus_milli: 100_000, ..spillway_types::Allocation::default() };
    starved.free.take(&cpus).unwrap();
    starved.running.last_mut().unwrap().allocation = cpus;
    let all = snapshot()
        .node(node(1, "H100:8"))
        .node(starved)
        .job(job(1, "0.5").since(-20))
        .job(job(2, "8").cpus(64).since(-10));
    check("the first node stays whole", &all, &["starts on n2", "starts on n1"]);
}
