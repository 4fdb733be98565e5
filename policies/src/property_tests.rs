//! What holds for every plan: it is replayed on `FreeResources`, and on money, by rules written a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use spillway_types::{
    DurationMs, FreeResources, HourlyRate, NodeId, Placement, Reason, SiteName, instance_share,
};

use crate::testing::{job, node, offer, snapshot, usd};
use crate::{
    CloudOffer, Decision, Facts, Gate, GateJob, GatePlace, Gatekeeper, NodePrice, NodeView, Planner, Policy,
    QueuedJob, Refused, Snapshot, Target, Verdict, plan,
};

const SITES: [&str; 3] = ["a", "b", "cloud"];
const COUNTRIES: [&str; 2] = ["KR", "US"];
const GROUPS: [&str; 3] = ["lab", "vip", "poor"];
const ASKS: [&str; 9] = ["", "1", "H100:1", "H100:2", "H100:4", "A100:1", "0.30", "H100:0.70", "80GB+:3"];

fn any_node() -> impl Strategy<Value = NodeView> {
    let place = (0..SITES.len(), 0..COUNTRIES.len(), any::<bool>(), 0..4_u8);
    let load = (prop::sample::select(vec!["H100:4", "A100:2", "H100:0", "H100:8"]), 0..9_u32, -50..5000_i64);
    (place, load, 0..8_u8, 1..5_i64).prop_map(
        |((site, country, open, pool), (gpus, busy, until), can, price)| {
            let mut view = node(0, gpus).in_site(SITES[site]).in_country(COUNTRIES[country]);
            view = if site == 2 { view.rented_at(price * 8) } else { view.at_per_gpu_hour(usd(price)) };
            view = if pool == 0 { view.in_pool("vips").for_groups(&["vip"]) } else { view };
            let gpus = u32::try_from(view.capacity.accelerators.len()).unwrap();
            view = if busy.min(gpus) > 0 { view.busy(busy.min(gpus), until) } else { view };
            view.takes_work = open || pool > 1;
            view.capabilities.container = can & 1 == 0;
            view.capabilities.fractions = can & 2 == 0;
            view
        },
    )
}

fn any_offer() -> impl Strategy<Value = CloudOffer> {
    let shape = prop::sample::select(vec!["H100:4", "A100:1", "H100:0"]);
    (shape, 1..40_i64, 0..4_u32, 0..COUNTRIES.len(), 0..500_u64).prop_map(
        |(gpus, price, available, country, boot)| CloudOffer {
            available,
            jurisdiction: Some(COUNTRIES[country].to_owned()),
            boot: DurationMs::from_secs(boot),
            ..offer("x", gpus, price)
        },
    )
}

fn any_job() -> impl Strategy<Value = QueuedJob> {
    let needs = (prop::sample::select(ASKS.to_vec()), 1..4_u32, 1..20_u32, 1..6_u32);
    let times = (1..9000_u64, -9000..0_i64, prop::option::of(0..9000_u64));
    let rules = (prop::option::of(1..40_i64), 0..6_usize, 0..6_usize, 0..8_u8);
    (needs, times, rules, 0..GROUPS.len()).prop_map(
        |((gpus, nodes, cpus, tasks), (runs, since, wait), (price, allow, country, image), group)| {
            let mut queued = job(0, gpus).cpus(cpus).tasks(tasks).runs(runs).since(since);
            queued = queued.on_nodes(if nodes > 2 { 1 } else { nodes }).of_group(GROUPS[group]);
            queued = if image == 0 { queued.with_image() } else { queued };
            queued = wait.map_or(queued.clone(), |wait| queued.waits_at_most(wait));
            queued = price.map_or(queued.clone(), |price| queued.pays_at_most(price));
            queued = SITES.get(allow).map_or(queued.clone(), |site| queued.allows(&[site]));
            COUNTRIES.get(country).map_or(queued.clone(), |country| queued.must_stay_in(&[country]))
        },
    )
}

/// Which groups (by number) may not use which sites.
#[derive(Debug)]
struct Forbidden(BTreeSet<(usize, usize)>);

impl Forbidden {
    fn forbids(&self, site: &SiteName, group: &str) -> bool {
        self.0.iter().any(|(at, whom)| SITES[*at] == site.as_str() && GROUPS[*whom] == group)
    }
}

impl Gate for Forbidden {
    fn judge(&self, job: &GateJob<'_>, place: &GatePlace<'_>) -> Result<(), Refused> {
        let denied = self.forbids(place.site, job.groups[0].as_str());
        if denied { Err(Refused { by: vec!["forbidden".into()], problem: None }) } else { Ok(()) }
    }

    fn tells_users_apart(&self) -> bool {
        false
    }
}

fn any_rules() -> impl Strategy<Value = BTreeSet<(usize, usize)>> {
    prop::collection::btree_set((0..SITES.len(), 0..GROUPS.len()), 0..6)
}

fn behind(rules: BTreeSet<(usize, usize)>) -> Gatekeeper {
    Gatekeeper::new(Arc::new(Forbidden(rules)), Facts::default())
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let nodes = prop::collection::vec(any_node(), 0..7);
    let offers = prop::collection::vec(any_offer(), 0..4);
    let jobs = prop::collection::vec(any_job(), 0..14);
    (nodes, offers, jobs, 0..60_i64, 1..20_usize, 1..40_usize).prop_map(
        |(nodes, offers, jobs, budget, max_jobs, max_starts)| {
            let mut all = snapshot().group("vip", 1, 2, None).group("poor", 0, 3, Some(usd(budget)));
            all.policy = Policy { max_jobs, max_starts, ..Policy::default() };
            for (node, id) in nodes.into_iter().zip(1..) {
                let node_id = NodeId::from_uuid(uuid::Uuid::from_u128(id));
                all = all.node(NodeView { node: node_id, hostname: format!("n{id}"), ..node });
            }
            for (queued, id) in jobs.into_iter().zip(1..) {
                all = all.job(QueuedJob { job: job(id, "").job, ..queued });
            }
            let named =
                |(offer, at)| CloudOffer { instance_type: format!("x{at}").parse().unwrap(), ..offer };
            all.offers = offers.into_iter().zip(0_u32..).map(named).collect();
            all
        },
    )
}

/// What is left while a plan is carried out.
struct Replay<'a> {
    snapshot: &'a Snapshot,
    free: BTreeMap<NodeId, FreeResources>,
    available: Vec<u32>,
    budgets: BTreeMap<String, i64>,
    started: BTreeSet<(spillway_types::JobId, u32)>,
}

impl Replay<'_> {
    fn carry_out(&mut self, decision: &Decision) {
        let snapshot = self.snapshot;
        let queued = snapshot.queue.iter().find(|queued| queued.job == decision.job).unwrap();
        assert!(queued.tasks.contains(decision.task) && self.started.insert((decision.job, decision.task)));
        let (rate, least_hold) = match &decision.target {
            Target::Nodes { parts } => {
                assert_eq!(parts.len(), queued.nodes as usize, "a gang is whole");
                let nodes =
                    parts.iter().map(|part| snapshot.nodes.iter().find(|n| n.node == part.node).unwrap());
                let nodes: Vec<&NodeView> = nodes.collect();
                assert_eq!(nodes.iter().map(|n| n.node).collect::<BTreeSet<_>>().len(), nodes.len());
                assert_eq!(nodes.iter().map(|n| &n.site).collect::<BTreeSet<&SiteName>>().len(), 1);
                let mut hold = 0;
                for (part, view) in parts.iter().zip(&nodes) {
                    may_run(queued, view);
                    self.free.get_mut(&part.node).unwrap().take(&part.allocation).expect("over-committed");
                    let expected = match view.price {
                        NodePrice::Tariff(tariff) => tariff.rate(&part.allocation),
                        NodePrice::Instance(price) => instance_share(price, &view.capacity, &part.allocation),
                    };
                    assert_eq!(part.rate, expected);
                    hold += part.rate.cost_micros(1, 1, 0, queued.longest.0);
                }
                (parts.iter().map(|part| part.rate.0).sum(), hold)
            }
            Target::Launch { site, instance_type, price, allocation, rate, .. } => {
                let at = snapshot.offers.iter().position(|o| o.instance_type == *instance_type).unwrap();
                let offered = &snapshot.offers[at];
                self.available[at] =
                    self.available[at].checked_sub(queued.nodes).expect("more than available");
                assert_eq!((*site == offered.site, *price), (true, offered.price));
                where_allowed(queued, site, offered.jurisdiction.as_deref());
                FreeResources::all_of(&offered.capacity).take(allocation).expect("larger than the instance");
                let run = queued.longest.0 + offered.boot.0;
                (rate.0 * i64::from(queued.nodes), price.cost_micros(u64::from(queued.nodes), 1, 0, run))
            }
        };
        assert_eq!(decision.hold_micros, least_hold);
        assert!(queued.placement.max_price.is_none_or(|most| HourlyRate(rate) <= most), "above max_price");
        if let Some(left) = self.budgets.get_mut(queued.group.as_str()) {
            *left -= decision.hold_micros;
            assert!(*left >= 0, "over budget");
        }
    }
}

fn where_allowed(queued: &QueuedJob, site: &SiteName, jurisdiction: Option<&str>) {
    let placement = &queued.placement;
    assert!(placement.allow.is_empty() || placement.allow.contains(site));
    let resides = |wanted: &String| Some(wanted.as_str()) == jurisdiction;
    assert!(placement.residency.is_empty() || placement.residency.iter().any(resides));
}

fn may_run(queued: &QueuedJob, view: &NodeView) {
    where_allowed(queued, &view.site, view.jurisdiction.as_deref());
    assert!(view.takes_work);
    assert!(view.groups.as_ref().is_none_or(|groups| groups.contains(&queued.group)));
    assert!(queued.image.is_none() || view.capabilities.container);
    let blocks = queued.resources.gpus.as_ref().map_or(0, spillway_types::GpuRequest::blocks);
    assert!(blocks == 0 || blocks >= 100 || view.capabilities.fractions);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_plan_can_be_carried_out_and_explains_everything(snapshot in any_snapshot()) {
        let made = plan(&snapshot);
        prop_assert_eq!(&made, &plan(&snapshot));
        let mut replay = Replay {
            snapshot: &snapshot,
            free: snapshot.nodes.iter().map(|node| (node.node, node.free.clone())).collect(),
            available: snapshot.offers.iter().map(|offer| offer.available).collect(),
            budgets: snapshot.groups.iter().filter_map(|(n, g)| Some((n.to_string(), g.budget_left?))).collect(),
            started: BTreeSet::new(),
        };
        prop_assert!(made.decisions.len() <= snapshot.policy.max_starts);
        for decision in &made.decisions {
            replay.carry_out(decision);
        }
        let mut positions: Vec<u32> = made.explanations.values().map(|said| said.position).collect();
        positions.sort_unstable();
        prop_assert_eq!(positions, (1..=u32::try_from(snapshot.queue.len()).unwrap()).collect::<Vec<_>>());
        for queued in &snapshot.queue {
            let said = &made.explanations[&queued.job];
            let started = replay.started.iter().filter(|(job, _)| *job == queued.job).count() as u64;
            prop_assert_eq!(said.reason.is_none(), started == queued.tasks.len());
            prop_assert!(said.planned_start.is_none_or(|start| start > snapshot.now));
            prop_assert!(said.reason != Some(Reason::Resources) || !said.candidates.is_empty());
            if let (Some(bound), Some(start)) = (said.bound, said.planned_start) {
                prop_assert!(start <= bound.max(snapshot.now.plus(snapshot.policy.min_wait)), "{said:?}");
            }
        }
    }

    #[test]
    fn a_cheaper_and_sooner_offer_never_loses(
        snapshot in any_snapshot(), queued in any_job(), cut in 0..3_i64, sooner in 0..3_u64
    ) {
        let queued = QueuedJob { job: job(999, "").job, ..queued.tasks(1) };
        let mut alone = Snapshot { queue: vec![queued], groups: BTreeMap::new(), ..snapshot };
        let plain = alone.offers.len();
        for at in 0..plain {
            let offer = alone.offers[at].clone();
            alone.offers.push(CloudOffer {
                instance_type: format!("better-{}", offer.instance_type).parse().unwrap(),
                price: HourlyRate((offer.price.0 - cut * 1_000_000).max(1)),
                boot: DurationMs(offer.boot.0.saturating_sub(sooner * 1000)),
                ..offer
            });
        }
        if let Some(Decision { target: Target::Launch { instance_type, .. }, .. }) = plan(&alone).decisions.first() {
            let taken = alone.offers.iter().position(|offer| offer.instance_type == *instance_type).unwrap();
            let twin = &alone.offers[(taken + plain) % (2 * plain)];
            let better = taken >= plain || (twin.price >= alone.offers[taken].price && twin.boot >= alone.offers[taken].boot);
            prop_assert!(better, "{instance_type} was launched beside {twin:?}");
        }
    }

    #[test]
    fn a_free_node_is_taken_before_a_cloud_that_costs_more(queued in any_job(), price in 1..40_i64) {
        let queued = QueuedJob { job: job(999, "").job, placement: Placement::default(), ..queued.on_nodes(1).tasks(1).cpus(1) };
        let free = snapshot().node(node(1, "H100:8")).offer(offer("p5", "H100:8", price)).job(queued.clone());
        if crate::could_ever_run(&Snapshot { offers: vec![], ..free.clone() }, &queued).is_ok() {
            let made = plan(&free);
            prop_assert!(matches!(made.decisions[0].target, Target::Nodes { .. }), "{made:?}");
        }
    }

    #[test]
    fn a_start_becomes_later_only_with_a_reason(
        snapshot in any_snapshot(),
        steps in prop::collection::vec((1..4000_i64, 0..8_usize, 0..4_u8), 1..8),
    ) {
        let mut planner = Planner::of(&Snapshot { policy: Policy::default(), ..snapshot.clone() });
        let (mut now, mut promised) = (snapshot.now, BTreeMap::new());
        planner.plan(now, &mut || true);
        for (seconds, which, what) in steps {
            for (id, said) in planner.explanations() {
                if let Some(start) = said.planned_start {
                    promised.insert(id, start);
                }
            }
            now = now.plus(DurationMs::from_secs(seconds.unsigned_abs()));
            if let Some(view) = snapshot.nodes.get(which) {
                let mut view = view.clone();
                match what {
                    0 => view.running.clear(),
                    1 => view.takes_work = false,
                    _ => {}
                }
                if what == 0 {
                    view.free = FreeResources::all_of(&view.capacity);
                }
                planner.set_node(view, now);
            }
            if what == 3 {
                planner.set_job(job(1000 + u128::try_from(which).unwrap(), "H100:1").since(-1));
            }
            planner.plan(now, &mut || true);
            for (id, said) in planner.explanations() {
                let later = promised.get(&id).zip(said.planned_start).is_some_and(|(was, start)| start > *was);
                prop_assert!(!later || said.delay.is_some(), "{id}: {promised:?} {said:?}");
            }
        }
    }

    #[test]
    fn nothing_goes_where_the_gate_says_no(snapshot in any_snapshot(), rules in any_rules()) {
        let forbidden = Forbidden(rules.clone());
        let all = Snapshot { gate: Some(behind(rules)), ..snapshot };
        let made = plan(&all);
        for decision in &made.decisions {
            let queued = all.queue.iter().find(|queued| queued.job == decision.job).unwrap();
            let site = match &decision.target {
                Target::Nodes { parts } => {
                    &all.nodes.iter().find(|node| node.node == parts[0].node).unwrap().site
                }
                Target::Launch { site, .. } => site,
            };
            prop_assert!(!forbidden.forbids(site, queued.group.as_str()), "{decision:?}");
        }
        for queued in &all.queue {
            for seen in &made.explanations[&queued.job].candidates {
                let forbids = forbidden.forbids(&seen.site, queued.group.as_str());
                let named = seen.detail == "denied by the access policy `forbidden`";
                let barred =
                    matches!(seen.verdict, Verdict::NotAllowed | Verdict::OtherGroups | Verdict::TooSmall);
                prop_assert!((barred || !forbids) && (forbids || !named), "{seen:?}");
            }
        }
    }

    #[test]
    fn what_never_fits_is_what_could_never_run(
        snapshot in any_snapshot(), queued in any_job(), rules in prop::option::of(any_rules())
    ) {
        let (queue, gate) = (vec![queued.clone()], rules.map(behind));
        let alone = Snapshot { queue, gate, groups: BTreeMap::new(), ..snapshot };
        let said = crate::explain_one(&alone, &QueuedJob { job: job(999, "").job, ..queued.clone() });
        let never = said.reason == Some(Reason::Unsatisfiable);
        prop_assert_eq!(never, crate::could_ever_run(&alone, &queued).is_err());
        if let Some(decision) = plan(&alone).decisions.first() {
            prop_assert!(crate::cheapest_hold(&alone, &queued).is_some_and(|least| least <= decision.hold_micros));
        }
    }
}
