//! What holds of the limits whatever happens: random trees, attempts, windows, retries and crashes.

use proptest::prelude::*;
use spillway_types::{DurationMs, HourlyRate, SiteKind, UnixMs};

use super::quota::{Quota, QuotaTree};
use super::tests::{at, attempt, group, limit, terms};
use super::*;
use crate::calendar::Zone;
use crate::window::Window;

const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"];
const METRICS: [&str; 5] =
    ["money", "gpu-time:H100", "gpu-time:A100", "normalised-gpu-time", "concurrent-gpus"];
const SCOPES: [&str; 5] = ["everywhere", "on-prem", "cloud", "site:seoul", "class:H100"];
const CLASSES: [&str; 2] = ["H100", "A100"];

#[derive(Debug, Clone)]
enum Step {
    Hold { group: usize, gpus: u64, minutes: i64, class: usize, kind: usize },
    Activate { which: usize },
    Extend { which: usize },
    Charge { which: usize, minutes: u64, percent: i64 },
    End { which: usize },
    Pass { hours: i64 },
    Limit { group: usize, metric: usize, scope: usize, window: usize, nominal: i64 },
    Transfer { from: usize, to: usize, amount: i64, days: i64 },
    Weigh { class: usize, weight: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0_usize..12;
    prop_oneof![
        6 => (0_usize..6, 1_u64..9, 1_i64..3000, 0_usize..2, 0_usize..2)
            .prop_map(|(group, gpus, minutes, class, kind)| Step::Hold { group, gpus, minutes, class, kind }),
        3 => which.clone().prop_map(|which| Step::Activate { which }),
        3 => which.clone().prop_map(|which| Step::Extend { which }),
        5 => (which.clone(), 1_u64..4000, 0_i64..150)
            .prop_map(|(which, minutes, percent)| Step::Charge { which, minutes, percent }),
        3 => which.prop_map(|which| Step::End { which }),
        2 => (0_i64..500).prop_map(|hours| Step::Pass { hours }),
        3 => (0_usize..6, 0_usize..5, 0_usize..5, 0_usize..3, 0_i64..4000)
            .prop_map(|(group, metric, scope, window, nominal)| Step::Limit { group, metric, scope, window, nominal }),
        1 => (0_usize..6, 0_usize..6, 1_i64..500, 0_i64..70)
            .prop_map(|(from, to, amount, days)| Step::Transfer { from, to, amount, days }),
        1 => (0_usize..2, 1_u32..400).prop_map(|(class, weight)| Step::Weigh { class, weight }),
    ]
}

/// Parents of groups 1 to 5, each among those before it, and zones of all.
fn shape() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    (proptest::collection::vec(any::<usize>(), 5), proptest::collection::vec(0..ZONES.len(), 6))
}

/// How steps are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Faults {
    None,
    /// Every request is sent twice.
    Retries,
    /// After every fourth step all is read again from what is stored.
    Crashes,
}

struct Run {
    attempt: spillway_types::AttemptId,
    edge_ms: u64,
}

struct World {
    limits: Limits,
    now: UnixMs,
    runs: Vec<Run>,
    made: u64,
    taken: u64,
    faults: Faults,
    overruns: bool,
}

fn name(index: usize) -> String {
    format!("g{index}")
}

impl World {
    fn new(shape: &(Vec<usize>, Vec<usize>), faults: Faults, overruns: bool) -> Self {
        // A few days before the clocks change in Berlin.
        let now = at("2026-03-26T00:00:00Z");
        let mut limits = Limits::new();
        for index in 0..6_usize {
            let parent = index.checked_sub(1).map(|before| group(&name(shape.0[before] % index)));
            let zone: Zone = ZONES[shape.1[index]].parse().unwrap();
            limits.set_group(group(&name(index)), parent, zone, now).unwrap();
        }
        Self { limits, now, runs: vec![], made: 0, taken: 0, faults, overruns }
    }

    fn take(&mut self, step: &Step) {
        let made = self.made;
        self.take_once(step);
        if self.faults == Faults::Retries && !matches!(step, Step::Pass { .. } | Step::Charge { .. }) {
            let (after, runs, now_made) = (self.limits.clone(), self.runs.len(), self.made);
            self.made = made;
            self.take_once(step);
            self.runs.truncate(runs);
            self.made = now_made;
            assert_eq!(self.limits, after, "{step:?} twice");
        }
        self.taken += 1;
        if self.faults == Faults::Crashes && self.taken % 4 == 1 {
            let json = serde_json::to_string(&self.limits).unwrap();
            self.limits = serde_json::from_str(&json).unwrap();
        }
    }

    fn take_once(&mut self, step: &Step) {
        let count = self.runs.len().max(1);
        match step {
            Step::Hold { group: index, gpus, minutes, class, kind } => {
                let id = attempt(1000 + self.made);
                self.made += 1;
                let kind = [SiteKind::OnPrem, SiteKind::Cloud][*kind];
                let site = if kind == SiteKind::Cloud { "us-east-1" } else { "seoul" };
                let cap = HourlyRate(i64::try_from(*gpus).unwrap() * 2_490_000);
                let demand = Demand {
                    group: group(&name(*index)),
                    place: Place { site: site.parse().unwrap(), kind },
                    shares: vec![Share {
                        class: Some(CLASSES[*class].parse().unwrap()),
                        blocks: gpus * 100,
                        cap,
                    }],
                    terms: LeaseTerms {
                        grace: DurationMs(120_000),
                        minimum: DurationMs(60_000),
                        ..terms(*minutes)
                    },
                    egress_micros: 0,
                };
                if self.limits.hold(id, demand, self.now).is_ok() {
                    self.runs.push(Run { attempt: id, edge_ms: 0 });
                }
            }
            Step::Activate { which } => self.step(which % count, HoldStep::Activate),
            Step::Extend { which } => self.extend(which % count),
            Step::Charge { which, minutes, percent } => self.charge(which % count, *minutes, *percent),
            Step::End { which } => {
                self.step(which % count, HoldStep::Release);
                self.step(which % count, HoldStep::Finish);
                self.step(which % count, HoldStep::Settle);
            }
            Step::Pass { hours } => self.now = UnixMs(self.now.0 + hours * 3_600_000),
            Step::Limit { group: index, metric, scope, window, nominal } => {
                let (nominal, at_once) = (*nominal, METRICS[*metric] == "concurrent-gpus");
                let window = match window {
                    _ if at_once => Window::Instant,
                    0 => Window::Month,
                    1 => Window::Quarter,
                    _ => Window::Grant { from: UnixMs(0), to: at("2027-01-01T00:00:00Z") },
                };
                let unit = if METRICS[*metric] == "money" || !at_once { 1_000_000 } else { 1 };
                let limit = limit(&name(*index), METRICS[*metric], SCOPES[*scope], window, nominal * unit);
                self.limits.set_limit(limit, self.now).ok();
            }
            Step::Transfer { from, to, amount, days } => {
                let id = |index: &usize| limit(&name(*index), "money", "everywhere", Window::Month, 0).id;
                let transfer = Transfer {
                    key: format!("{from}-{to}-{amount}"),
                    from: id(from),
                    to: id(to),
                    amount: amount * 1_000_000,
                    effective: UnixMs(self.now.0 + days * 86_400_000),
                    recorded: self.now,
                    by: "ada".parse().unwrap(),
                    because: String::new(),
                };
                self.limits.transfer(&transfer, self.now).ok();
            }
            Step::Weigh { class, weight } => {
                let class = CLASSES[*class].parse().unwrap();
                self.limits
                    .change_weight(&WeightChange { class, weight: *weight, effective: self.now }, self.now)
                    .ok();
            }
        }
    }

    fn step(&mut self, which: usize, step: HoldStep) {
        if let Some(run) = self.runs.get(which) {
            self.limits.step(run.attempt, step).ok();
        }
    }

    fn extend(&mut self, which: usize) {
        let Some(run) = self.runs.get(which) else { return };
        let leases = self.limits.holding(run.attempt).unwrap().leases;
        let next = if self.faults == Faults::Retries { 2 } else { leases + 1 };
        self.limits.extend(run.attempt, next, self.now).ok();
    }

    /// Charges at a part of the cap; beyond what is held only where overruns happen.
    fn charge(&mut self, which: usize, minutes: u64, percent: i64) {
        let Some(run) = self.runs.get_mut(which) else { return };
        let holding = self.limits.holding(run.attempt).unwrap();
        let (cap, started) = (holding.demand.shares[0].cap, holding.placed);
        let percent = if self.overruns { percent } else { percent.min(100) };
        let to_ms = run.edge_ms + minutes * 60_000;
        let charge = Charge {
            share: 0,
            started,
            from_ms: run.edge_ms,
            to_ms,
            rate: HourlyRate(cap.0 * percent / 100),
        };
        if !self.overruns {
            let mut trial = self.limits.clone();
            if trial.charge(run.attempt, &charge).unwrap() != Tally::default() {
                return;
            }
            // Nothing is used before its time: else a month to come could have more used in it than was asked of it.
            self.now = self.now.max(started.plus(DurationMs(to_ms)));
        }
        self.limits.charge(run.attempt, &charge).unwrap();
        run.edge_ms = to_ms;
    }

    /// Whether what a step uses or holds counts in the month that is now, in every zone: late use counts in its own.
    fn is_in_this_month(&self, step: &Step) -> bool {
        let Step::Charge { which, minutes, .. } = step else {
            return matches!(step, Step::Hold { .. } | Step::Extend { .. });
        };
        let Some(run) = self.runs.get(which % self.runs.len().max(1)) else { return true };
        let from = self.limits.holding(run.attempt).unwrap().placed.plus(DurationMs(run.edge_ms));
        let to = from.plus(DurationMs(minutes * 60_000));
        ZONES.iter().all(|zone| {
            let month = Window::Month.period(&zone.parse().unwrap(), self.now).unwrap();
            month.contains(from) && month.contains(to)
        })
    }

    fn left(&self) -> Vec<(LimitId, i64)> {
        let groups = (0..6).map(|index| group(&name(index)));
        let standings = groups.flat_map(|group| self.limits.standings(&group, self.now));
        standings.map(|standing| (standing.limit.id, standing.left)).collect()
    }
}

/// A node's parent, its quota, and what it uses.
type QuotaNode = (Option<usize>, Option<Quota>, i64);
/// Which node is the parent, whether there is none, nominal with borrow and lend, and what is used.
type Drawn = (usize, bool, Option<(i64, Option<i64>, Option<i64>)>, i64);

fn quota_nodes() -> impl Strategy<Value = Vec<QuotaNode>> {
    let amount = || proptest::option::of(0_i64..500);
    let quota = proptest::option::of((0_i64..1000, amount(), amount()));
    proptest::collection::vec((any::<usize>(), any::<bool>(), quota, 0_i64..300), 1..12).prop_map(|nodes| {
        let nodes = nodes.into_iter().enumerate();
        let node = |(at, (parent, root, quota, used)): (usize, Drawn)| {
            let quota = quota.map(|(nominal, borrow, lend)| Quota { nominal, borrow, lend, enforced: true });
            ((at > 0 && !root).then(|| parent % at.max(1)), quota, used)
        };
        nodes.map(node).collect()
    })
}

/// `T` as it is written down, from scratch.
fn free_by_definition(nodes: &[QuotaNode], at: usize) -> i64 {
    let children = (0..nodes.len()).filter(|child| nodes[*child].0 == Some(at));
    let lent = children.map(|child| {
        let free = free_by_definition(nodes, child);
        nodes[child].1.and_then(|quota| quota.lend).map_or(free, |lend| lend.min(free))
    });
    nodes[at].1.map_or(0, |quota| quota.nominal) - nodes[at].2 + lent.sum::<i64>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn without_an_overrun_used_and_held_stay_within_every_limit(
        shape in shape(), steps in proptest::collection::vec(step(), 0..60),
        faults in prop_oneof![Just(Faults::None), Just(Faults::Retries), Just(Faults::Crashes)],
    ) {
        let mut world = World::new(&shape, faults, false);
        for step in &steps {
            world.take(step);
            for index in 0..6 {
                for standing in world.limits.standings(&group(&name(index)), world.now) {
                    prop_assert!(!standing.passed, "{} after {:?}: {:?}", standing.limit.id, step, standing);
                }
            }
        }
    }

    #[test]
    fn what_a_crash_loses_is_made_again_and_what_is_sent_again_changes_nothing(
        shape in shape(), steps in proptest::collection::vec(step(), 0..50),
    ) {
        let mut worlds = [Faults::None, Faults::Crashes].map(|faults| World::new(&shape, faults, true));
        for (count, step) in steps.iter().enumerate() {
            worlds.iter_mut().for_each(|world| world.take(step));
            if count % 8 != 0 && count + 1 != steps.len() {
                continue;
            }
            prop_assert_eq!(&worlds[0].limits, &worlds[1].limits, "{:?}", step);
            prop_assert_eq!(worlds[0].left(), worlds[1].left(), "{:?}", step);
        }
        let mut retried = World::new(&shape, Faults::Retries, true);
        steps.iter().for_each(|step| retried.take(step));
    }

    #[test]
    fn more_use_below_never_leaves_more_above(shape in shape(), steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new(&shape, Faults::None, true);
        for step in &steps {
            let before = world.left();
            let inside = world.is_in_this_month(step);
            world.take(step);
            if inside {
                for ((id, before), (_, after)) in before.iter().zip(world.left()) {
                    prop_assert!(after <= *before, "{}: {} to {} by {:?}", id, before, after, step);
                }
            }
        }
    }

    #[test]
    fn quantities_do_not_depend_on_time_zones(
        shape in shape(), other in proptest::collection::vec(0..ZONES.len(), 6),
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let unlimited = steps.iter().filter(|step| !matches!(step, Step::Limit { .. }));
        let unlimited: Vec<&Step> = unlimited.collect();
        let totals = |zones: &Vec<usize>| {
            let mut world = World::new(&(shape.0.clone(), zones.clone()), Faults::None, true);
            unlimited.iter().for_each(|step| world.take(step));
            // Windows that nothing counts any more are forgotten: what is compared is what no window cuts.
            let of = |holding: &Holding| (holding.charged(), holding.overrun(), holding.held());
            let holds: Vec<_> = world.limits.holdings().map(|(id, holding)| (id, of(holding))).collect();
            let newest = |index: usize| {
                let used = world.limits.usage(&group(&name(index)));
                let sum = |scope: &Scope| {
                    let of_scope = used.iter().filter(|used| used.scope == *scope);
                    of_scope.fold(Tally::default(), |sum, used| sum.plus(used.amount))
                };
                (sum(&Scope::Everywhere), sum(&Scope::OnPrem).plus(sum(&Scope::Cloud)))
            };
            let sums: Vec<_> = (0..6).map(newest).collect();
            let longest = world.runs.iter().map(|run| run.edge_ms).max().unwrap_or(0);
            let passed = world.now.since(at("2026-03-26T00:00:00Z")).0;
            (holds, sums, longest + passed)
        };
        let (mine, theirs) = (totals(&shape.1), totals(&other));
        prop_assert_eq!(&mine.0, &theirs.0);
        if mine.2 < 60 * 86_400_000 {
            prop_assert_eq!(&mine.1, &theirs.1);
        }
        for (everywhere, by_kind) in &mine.1 {
            prop_assert_eq!(everywhere, by_kind);
        }
    }

    #[test]
    fn a_resolved_hold_leaves_nothing_held(shape in shape(), steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new(&shape, Faults::None, true);
        steps.iter().for_each(|step| world.take(step));
        for which in 0..world.runs.len() {
            for step in [HoldStep::Release, HoldStep::Activate, HoldStep::Finish, HoldStep::Settle] {
                world.step(which, step);
            }
        }
        for index in 0..6 {
            for standing in world.limits.standings(&group(&name(index)), world.now) {
                prop_assert_eq!(standing.held, 0, "{}", standing.limit.id);
                if standing.limit.id.metric == Metric::ConcurrentGpus {
                    prop_assert_eq!(standing.used, 0, "{}", standing.limit.id);
                }
            }
        }
    }

    #[test]
    fn what_is_free_is_what_is_defined_and_admission_is_exact(
        nodes in quota_nodes(), changes in proptest::collection::vec((any::<usize>(), 1_i64..400, any::<bool>()), 0..20),
    ) {
        let (mut nodes, mut tree) = (nodes.clone(), QuotaTree::new(&nodes));
        for (at, amount, more) in changes {
            let at = at % nodes.len();
            let amount = if more { amount } else { -amount.min(nodes[at].2) };
            let before: Vec<i64> = (0..nodes.len()).map(|node| tree.free(node)).collect();
            let excess: Vec<i64> = (0..nodes.len()).map(|node| tree.excess(node)).collect();
            let admitted = tree.check(at, amount);
            tree.change(at, amount);
            nodes[at].2 += amount;
            for (node, before) in before.into_iter().enumerate() {
                prop_assert_eq!(tree.free(node), free_by_definition(&nodes, node));
                prop_assert!(!more || tree.free(node) <= before, "more use leaves more free");
            }
            let way: Vec<usize> =
                std::iter::successors(Some(at), |node| nodes[*node].0).take(nodes.len()).collect();
            let fits = way.iter().all(|node| tree.excess(*node) == 0);
            prop_assert_eq!(admitted.is_ok(), fits, "{:?} {:?}", nodes, excess);
            prop_assert_eq!(&QuotaTree::new(&nodes), &tree);
        }
    }
}
