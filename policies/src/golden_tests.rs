//! Small situations that a person can check by hand, each with what was decided and what was said of every place.
//!
//! A job is of group `lab`, runs one hour, may take two, and its wait is worth 15.00 an hour, unless a line says
//! otherwise; a node of `home` costs 1.00 for a GPU-hour in the account and nothing more in the decision; an instance
//! boots in 3 minutes. It is 12:00.

use std::fmt::Write as _;

use crate::policy::{Burst, Preemption};
use crate::testing::{NOW, at, job, node, offer, snapshot, usd};
use crate::{Class, Explanation, Plan, Snapshot, plan, words};

fn write_job(text: &mut String, number: usize, said: &Explanation) {
    let clock = |at: spillway_types::UnixMs| words::clock(at.0);
    write!(text, "job {number}, position {}", said.position).unwrap();
    match said.reason {
        None => text.push_str(": starts"),
        Some(reason) => write!(text, ": waits ({reason:?})").unwrap(),
    }
    if let Some(start) = said.planned_start {
        write!(text, ", planned for {}", clock(start)).unwrap();
    }
    if let Some(bound) = said.bound {
        write!(text, ", at the latest in {}", words::span(bound.0 - NOW.0)).unwrap();
    }
    text.push('\n');
    for candidate in &said.candidates {
        let amount = |micros: Option<i64>| micros.map_or_else(|| "-".to_owned(), words::amount);
        writeln!(
            text,
            "  {}/{} {:?}: {}\n    run {} in all {}",
            candidate.site,
            candidate.what,
            candidate.verdict,
            candidate.detail,
            amount(candidate.cost_micros),
            amount(candidate.total_micros),
        )
        .unwrap();
    }
}

#[track_caller]
fn check(name: &str, story: &str, snapshot: &Snapshot) {
    let Plan { decisions, displacements, explanations } = plan(snapshot);
    let mut text = format!("{story}\n\n");
    for decision in &decisions {
        let number = snapshot.queue.iter().position(|queued| queued.job == decision.job).unwrap() + 1;
        writeln!(text, "decided for job {number}: {}", decision.because).unwrap();
    }
    for displacement in &displacements {
        writeln!(text, "stops {}: {}", displacement.attempt, displacement.because).unwrap();
    }
    for (number, queued) in snapshot.queue.iter().enumerate() {
        write_job(&mut text, number + 1, &explanations[&queued.job]);
    }
    insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

/// One DGX whose GPUs are busy for so many seconds, and a cloud that has the like for 98.00 an hour.
fn full(seconds: i64) -> Snapshot {
    snapshot().node(node(1, "H100:8").busy(8, seconds)).offer(offer("p5", "H100:8", 98))
}

#[test]
fn waiting_and_leaving() {
    let free = snapshot().node(node(1, "H100:8")).offer(offer("p5", "H100:8", 98)).job(job(1, "H100:8"));
    check("free_here", "The DGX is free.", &free);
    check(
        "full_for_four_minutes",
        "The DGX is full, but free in four minutes.",
        &full(240).job(job(1, "H100:8")),
    );
    check(
        "full_for_long",
        "The DGX is full for 8 hours: that wait is worth 120.00, the cloud costs 103.65 with its boot.",
        &full(8 * 3600).job(job(1, "H100:8")),
    );
    let own = job(1, "H100:8").waits_at_most(9 * 3600);
    check("own_word", "The same, but the job itself says that it waits 9 hours.", &full(8 * 3600).job(own));
    let short = full(8 * 3600).job(job(1, "H100:8").runs(300));
    check("short_run", "The DGX is full for 8 hours; the job runs five minutes.", &short);
    let mut minimum = short;
    minimum.offers[0].terms.minimum = spillway_types::DurationMs::from_secs(3600);
    check("minimum_billing", "The same, but the cloud bills at least an hour.", &minimum);
    let mut never = full(8 * 3600).job(job(1, "H100:8"));
    never.policy.burst = Burst::Never;
    check("never_bursts", "The DGX is full for 8 hours, and the policy launches nothing.", &never);
    let nothing_left = snapshot()
        .node(node(1, "H100:8").busy(8, 8 * 3600))
        .offer(offer("p5", "H100:8", 98).left(0))
        .job(job(1, "H100:8"));
    check("region_full", "The DGX is full for 8 hours, and so is the region.", &nothing_left);
    let late = full(240).job(job(1, "H100:8").due(3700));
    check(
        "deadline",
        "The DGX is free in four minutes; that is too late for a deadline in 3,700 seconds.",
        &late,
    );
    let two = snapshot()
        .node(node(1, "H100:8").busy(8, 3600))
        .offer(offer("p5", "H100:8", 98))
        .class(
            "interactive",
            Class { wait_hour_price: Some(spillway_types::HourlyRate(usd(200))), ..Class::default() },
        )
        .job(job(1, "H100:8").of_class("interactive"))
        .job(job(2, "H100:8"));
    check(
        "classes",
        "The DGX is free in an hour; an hour of an interactive job's wait is worth 200.00.",
        &two,
    );
}

#[test]
fn data() {
    let sites = || {
        snapshot()
            .node(node(1, "H100:8"))
            .offer(offer("p5", "H100:8", 98))
            .link("home", "cloud", 10, 0)
            .link("cloud", "home", 10, 9)
    };
    check(
        "data_is_in_the_cloud",
        "The DGX is free, but 3 TB lie in the cloud: out of it they cost 0.09 a gigabyte and take 40 minutes at 10 Gbit/s.",
        &sites().data("corpus", 3000, &["cloud"]).job(job(1, "H100:8").reads("corpus")),
    );
    let busy = sites().data("corpus", 3000, &["home"]).job(job(1, "H100:8").reads("corpus"));
    let busy = Snapshot { nodes: vec![node(1, "H100:8").busy(8, 7 * 3600)], ..busy };
    check(
        "data_would_go_to_the_cloud",
        "The DGX is full for 7 hours, worth 105.00; the cloud would cost 103.65, but 3 TB would have to go there first.",
        &busy,
    );
    let mut dear = busy.link("home", "cloud", 10, 5);
    dear.nodes = vec![node(1, "H100:8").busy(8, 16 * 3600)];
    check(
        "data_would_leave_at_a_price",
        "The DGX is full for 16 hours, worth 240.00; taking 3 TB to the cloud costs 150.00 on top of its run.",
        &dear,
    );
    let mut shared = dear.job(job(2, "H100:8").reads("corpus")).job(job(3, "H100:8").reads("corpus"));
    shared.policy.search = 0;
    check(
        "data_is_shared",
        "The same, but three jobs read the 3 TB, so that each counts a third of the price.",
        &shared,
    );
}

#[test]
fn gangs_and_fractions() {
    let two = || snapshot().node(node(1, "H100:8")).node(node(2, "H100:8").busy(5, 3600));
    check(
        "small_beside_large",
        "One GPU is asked: it goes beside what runs, and the free node stays whole.",
        &two().job(job(1, "1")),
    );
    let gang = || job(1, "H100:8").on_nodes(2);
    let waits = snapshot().node(node(1, "H100:8")).node(node(2, "H100:8").busy(8, 600)).job(gang());
    check("gang_waits_whole", "A gang of two nodes, of which one is free in ten minutes: both wait.", &waits);
    let strand = snapshot()
        .node(node(1, "H100:8"))
        .node(node(2, "H100:8").busy(8, 600))
        .job(gang())
        .job(job(2, "H100:8").runs(300))
        .job(job(3, "H100:8").runs(3600));
    check(
        "gang_and_backfill",
        "The gang starts in ten minutes: a job of five minutes runs before it, one of an hour would strand its node.",
        &strand.unsearched(),
    );
    let domains = snapshot()
        .node(node(1, "H100:8").in_domain("rack-1"))
        .node(node(2, "H100:8").in_domain("rack-2"))
        .node(node(3, "H100:8").in_domain("rack-2").busy(8, 1200))
        .job(gang().in_one_domain());
    check("gang_in_one_domain", "Two nodes are free, but in two racks; the gang asks for one.", &domains);
    let part =
        snapshot().node(node(1, "H100:8")).node(node(2, "H100:8").busy(7, 3600)).job(job(1, "H100:0.25"));
    check("fraction", "A quarter of a GPU is asked: it breaks into the node that is in use already.", &part);
}

#[test]
fn money_and_spot() {
    let both = || {
        snapshot()
            .node(node(1, "H100:8").busy(8, 20 * 3600))
            .offer(offer("p5", "H100:8", 98))
            .offer(offer("p5-spot", "H100:8", 40).spot(24))
    };
    let poor = both().group("lab", 0, 1, Some(usd(100))).job(job(1, "H100:8").takes_spot());
    check(
        "budget_allows_only_spot",
        "The budget has 100.00 left: its two hours and the boot would hold 200.90 on demand, 82.00 on spot.",
        &poor,
    );
    let none = both().group("lab", 0, 1, Some(usd(10))).job(job(1, "H100:8"));
    check(
        "budget_is_used_up",
        "The budget has 10.00 left: nothing in the cloud, and two hours here hold 16.00.",
        &none,
    );
    check(
        "spot_with_checkpoints",
        "Ten hours with a checkpoint every half hour.",
        &both().job(job(1, "H100:8").runs(36_000).takes_spot().checkpoints(1800)),
    );
    check(
        "spot_without_checkpoints",
        "Sixty hours, and an interruption begins anew.",
        &Snapshot {
            nodes: vec![node(1, "H100:8").busy(8, 900 * 3600)],
            ..both().job(job(1, "H100:8").runs(60 * 3600).takes_spot())
        },
    );
    let near = job(1, "H100:8").runs(3600).takes_spot().checkpoints(600).due(3900);
    check(
        "deadline_is_near",
        "An hour of work, due in 65 minutes: no interruption can be risked any more.",
        &both().job(near),
    );
    let mut gone = both().job(
        job(1, "H100:8").runs(3600).takes_spot().checkpoints(600).since(-3600).has_done(3600).due(3 * 3600),
    );
    gone.offers[1].available = 0;
    check(
        "ahead_of_its_deadline",
        "Half is done after an hour of four, and spot capacity is gone: it is ahead, so it waits for it rather than pay on demand.",
        &gone,
    );
    check("max_price", "The job pays 50.00 an hour at most.", &both().job(job(1, "H100:8").pays_at_most(50)));
}

#[test]
fn rules() {
    let sites = || {
        snapshot()
            .node(node(1, "H100:8").in_site("seoul").in_country("kr").busy(8, 1800))
            .node(node(2, "H100:8").in_site("berlin").in_country("de"))
            .offer(crate::CloudOffer { jurisdiction: Some("us".to_owned()), ..offer("p5", "H100:8", 98) })
    };
    check(
        "residency_leaves_one",
        "The data may not leave Korea: a free node in Berlin and the cloud are no choice.",
        &sites().job(job(1, "H100:8").must_stay_in(&["kr"])),
    );
    check("allow_list", "The job allows the cloud only.", &sites().job(job(1, "H100:8").allows(&["cloud"])));
    let pools = snapshot()
        .node(node(1, "H100:8").in_pool("vips").for_groups(&["vip"]))
        .node(node(2, "H100:8").in_pool("desk").closed())
        .job(job(1, "H100:8"));
    check("other_groups_and_closed", "One pool is for others, the other's node is closed.", &pools);
    check(
        "never_fits",
        "Sixteen GPUs of one node: nothing known has so many.",
        &sites().job(job(1, "H100:16")),
    );
}

#[test]
fn hardware() {
    let mut mixed = snapshot()
        .node(node(1, "A100:8").in_pool("old"))
        .node(node(2, "H100:8").in_pool("new").busy(8, 600))
        .job(job(1, "8"));
    mixed.policy.speed.insert("A100".parse().unwrap(), 500);
    check(
        "slower_now_or_faster_soon",
        "Any eight GPUs: the old ones are free and half as fast, the new ones are free in ten minutes.",
        &mixed,
    );
    let warm = full(20 * 3600)
        .node(node(2, "H100:8").in_site("cloud").in_pool("cloud").rented_at(98))
        .job(job(1, "H100:8"));
    check("warm_instance", "The DGX is full for long, and an instance is still warm.", &warm);
    let mut booting = node(2, "H100:8").in_site("cloud").in_pool("cloud").rented_at(98).busy(4, 40 * 3600);
    booting.opens = Some(at(120));
    check(
        "shares_an_instance",
        "The DGX is full for long; an instance boots, and half of it is not taken.",
        &full(20 * 3600).node(booting).job(job(1, "H100:4")),
    );
}

#[test]
fn order_and_giving_way() {
    let line = snapshot()
        .node(node(1, "H100:8").busy(8, 600))
        .group("a", 0, 2, None)
        .group("b", 0, 1, None)
        .job(job(1, "H100:8").of_group("a").since(-30))
        .job(job(2, "H100:8").of_group("a").since(-20))
        .job(job(3, "H100:8").of_group("b").since(-10));
    check(
        "groups_take_turns",
        "Group a has twice the weight of b, and asked first: a, then b, then a.",
        &line,
    );
    let urgent = Class {
        priority: Some(10),
        preempts: true,
        wait_hour_price: Some(spillway_types::HourlyRate(usd(200))),
        ..Class::default()
    };
    let batch = Class { preemptible: true, ..Class::default() };
    let mut gives = snapshot()
        .node(node(1, "H100:8").busy(8, 36_000).owned_by(
            job(8, "H100:8").of_class("batch").checkpoints(600),
            3600 + 60,
            8,
        ))
        .node(node(2, "H100:8").busy(8, 36_000).owned_by(job(9, "H100:8").of_class("batch"), 3600, 8))
        .class("urgent", urgent)
        .class("batch", batch)
        .job(job(1, "H100:8").of_class("urgent"));
    gives.policy.preemption = Preemption::ByClass;
    check(
        "batch_gives_way",
        "Both nodes run batch jobs for ten hours more: one lost a minute since its checkpoint, the other an hour.",
        &gives,
    );
    let batch_node = |id, since, seconds| {
        let owner = job(id + 6, "H100:8").of_class("batch").checkpoints(since);
        node(id, "H100:8").busy(8, 36_000).owned_by(owner, seconds, 8)
    };
    let mut gang = gives.clone();
    gang.nodes = vec![batch_node(1, 600, 3660), batch_node(2, 7200, 3600), node(3, "H100:8")];
    gang.queue = vec![job(1, "H100:8").on_nodes(2).of_class("urgent")];
    check(
        "batch_gives_way_to_a_gang",
        "A gang of two nodes: one is free, one runs a batch job that lost a minute, one another that lost an hour.",
        &gang,
    );
    let mut never = gives;
    never.policy.preemption = Preemption::Never;
    check("nothing_gives_way", "The same, but the policy lets run what runs.", &never);
    let away = node(2, "H100:8").in_site("cloud").in_pool("cloud").rented_at(98).busy(8, 5 * 3600);
    let home = snapshot().node(node(1, "H100:8")).node(away.owned_by(
        job(8, "H100:8").runs(10 * 3600).checkpoints(1800),
        5 * 3600 + 300,
        98,
    ));
    check(
        "comes_home",
        "The DGX has become free; a job in the cloud runs for five hours more and wrote a checkpoint five minutes ago.",
        &home,
    );
}
