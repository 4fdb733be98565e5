//! The months of pools: what they could give, what was used, and who pays for what nobody used.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spillway_core::command::PartNews;
use spillway_core::{Command, Refusal};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::rates::{Card, ClassShare, Lending, PoolCost, Unused};
use spillway_types::{
    AttemptId, Currency, DurationMs, GpuModel, HourlyRate, NodeId, NodeStep, PartEnd, UnixMs,
};

use crate::words::{DOLLAR, HOUR, Scene, job, name};

/// The month in which every scene begins, by noon of its 14th day: half of it is 396 hours before its end.
fn month() -> Period {
    name("2023-11")
}

const LEFT: u64 = 396;

fn flat(dollars: i64, unused: &str) -> Card {
    let per_gpu = BTreeMap::from([(name("H100"), HourlyRate(dollars * DOLLAR))]);
    Card::Flat { per_gpu, lending: None, currency: Currency::USD, unused: name(unused) }
}

/// A pool that costs so many dollars a month, and has so many H100.
fn costs(dollars: i64, gpus: u32) -> Card {
    Card::Cost(PoolCost {
        purchase_micros: 0,
        residual_micros: 0,
        in_service: month(),
        lifetime_months: 1,
        watts: 0,
        pue_permille: 1000,
        kwh_micros: 0,
        facility_micros: dollars * DOLLAR,
        staff_micros: 0,
        utilisation_permille: 500,
        classes: BTreeMap::from([(name("H100"), ClassShare { gpus, weight: 1 })]),
        unused: Unused::Idle,
        currency: Currency::USD,
    })
}

fn rates(scene: &mut Scene, card: Card) {
    let set = Command::SetRates { pool: name("main"), effective: scene.world.now(), card: Box::new(card) };
    scene.must(set);
}

fn balance(scene: &Scene, account: &str) -> i64 {
    scene.state().book.balance(&account.parse().unwrap())
}

/// A job of a group uses so many H100 of the node for so many hours, by its own word.
fn uses(scene: &mut Scene, node: NodeId, (group, user): (&str, &str), (gpus, hours): (u32, u64)) {
    let spec = spillway_types::JobSpec { group: name(group), ..job(&format!("H100:{gpus}")) };
    let submit = Command::Submit { spec: Box::new(spec), user: name(user), key: None };
    let spillway_core::Reply::Job(id) = scene.must(submit) else { panic!("no job") };
    assert_eq!(scene.world.place().unwrap(), 1);
    let attempt = scene.attempt_of(id);
    scene.says(node, attempt, 0, PartNews::Started);
    scene.world.pass(DurationMs(hours * HOUR));
    let end = PartEnd::Exited { code: 0 };
    scene.says(node, attempt, 0, PartNews::Ended { end, ran_ms: hours * HOUR });
}

/// Every node says until when its use is here.
fn state_usage(scene: &mut Scene) {
    let nodes: Vec<NodeId> = scene.world.nodes().keys().copied().collect();
    nodes.into_iter().for_each(|node| scene.world.state_usage(node).unwrap());
}

fn close(scene: &mut Scene) -> Result<(), Refusal> {
    let ends = month().end(&Zone::utc());
    // A node is believed up to a minute ago.
    scene.world.pass(ends.plus(DurationMs(60_000)).since(scene.world.now()));
    state_usage(scene);
    let closed = scene.world.command(Command::ClosePeriod { period: month() });
    scene.check();
    closed.map(drop)
}

#[test]
fn what_nobody_used_of_a_month_is_on_the_idle_account() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    rates(&mut scene, flat(2, "idle"));
    uses(&mut scene, node, ("lab", "ada"), (4, 10));
    close(&mut scene).unwrap();
    let hours = i64::try_from(8 * LEFT).unwrap();
    assert_eq!(balance(&scene, "spend:lab"), 40 * 2 * DOLLAR);
    assert_eq!(balance(&scene, "idle:main"), (hours - 40) * 2 * DOLLAR);
    assert_eq!(balance(&scene, "variance:home"), 0);
    assert_eq!(balance(&scene, "revenue:home"), -hours * 2 * DOLLAR, "the whole cost of the pool");
    let closed = &scene.state().pool_books.closed[&month()][&name("main")];
    assert_eq!(closed.month.classes[&name("H100")].used_ms, 40 * HOUR);
    assert_eq!(scene.world.records().statements.len(), 1);
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn a_node_counts_from_its_inventory_until_it_leaves_and_whatever_its_connection() {
    let mut scene = Scene::new();
    let first = scene.node("H100:8");
    rates(&mut scene, flat(1, "idle"));
    scene.world.pass(DurationMs(10 * HOUR));
    let second = scene.node("H100:4");
    scene.world.disconnect(second).unwrap();
    scene.world.pass(DurationMs(10 * HOUR));
    scene.must(Command::StepNode { node: first, step: NodeStep::Drain });
    scene.must(Command::StepNode { node: first, step: NodeStep::Leave });
    close(&mut scene).unwrap();
    let hours = 8 * 20 + 4 * (LEFT - 10);
    let closed = &scene.state().pool_books.closed[&month()][&name("main")];
    assert_eq!(closed.month.classes[&name("H100")].capacity_ms, hours * HOUR);
    assert_eq!(balance(&scene, "idle:main"), i64::try_from(hours).unwrap() * DOLLAR);
    let h100: GpuModel = name("H100");
    let capacity = &scene.state().pool_books.capacity[&name("main")];
    let ends = month().end(&Zone::utc());
    assert_eq!(capacity.gpu_ms(&h100, ends, ends.plus(DurationMs(HOUR))), 4 * HOUR, "and it goes on");
}

#[test]
fn a_rule_of_the_card_shares_what_nobody_used_among_groups() {
    for (rule, lab, guest) in [("by-use", 3, 1), ("guest=4,lab=1", 1, 4)] {
        let mut scene = Scene::new();
        scene.group("guest", Some("org"), Some(100 * DOLLAR));
        scene.user("bob", spillway_types::Role::Member, &["guest"]);
        let node = scene.node("H100:4");
        rates(&mut scene, flat(1, rule));
        uses(&mut scene, node, ("lab", "ada"), (3, 10));
        uses(&mut scene, node, ("guest", "bob"), (1, 10));
        close(&mut scene).unwrap();
        let unused = (i64::try_from(4 * LEFT).unwrap() - 40) * DOLLAR;
        let share = |part: i64| unused * part / (lab + guest);
        assert!((balance(&scene, "spend:lab") - 30 * DOLLAR - share(lab)).abs() <= 1, "{rule}");
        assert!((balance(&scene, "spend:guest") - 10 * DOLLAR - share(guest)).abs() <= 1, "{rule}");
        assert_eq!(balance(&scene, "idle:main"), 0);
        assert_eq!(scene.spent(), 40 * DOLLAR + unused, "the group above has spent it too");
        assert_eq!(balance(&scene, "revenue:home"), -40 * DOLLAR - unused);
        assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
    }
}

#[test]
fn a_rule_names_groups_that_there_are() {
    let mut scene = Scene::new();
    let now = scene.world.now();
    let set = |unused: Unused| Command::SetRates {
        pool: name("main"),
        effective: now,
        card: Box::new(Card::Flat {
            per_gpu: BTreeMap::new(),
            lending: None,
            currency: Currency::USD,
            unused,
        }),
    };
    assert!(matches!(scene.refused(set(name("moon=1"))), Refusal::NotFound { kind: "group", .. }));
    let nobody = Unused::Shared { weights: BTreeMap::new() };
    assert!(scene.refused(set(nobody)).to_string().contains("no group is named"));
    scene.group("brief", None, None);
    scene.must(set(name("brief=1")));
    scene.must(Command::RemoveGroup { group: name("brief") });
    scene.node("H100:1");
    close(&mut scene).unwrap();
    assert_eq!(balance(&scene, "spend:brief"), 0, "who is gone pays nothing");
}

#[test]
fn what_a_pool_cost_beside_its_rates_is_variance() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    rates(&mut scene, costs(720, 8));
    uses(&mut scene, node, ("lab", "ada"), (4, 100));
    close(&mut scene).unwrap();
    // 720 over half of 8 x 720 hours is 0.25 an hour.
    assert_eq!(balance(&scene, "spend:lab"), 100 * DOLLAR);
    assert_eq!(balance(&scene, "idle:main"), (8 * 720 - 400) * DOLLAR / 4);
    assert_eq!(
        balance(&scene, "variance:home"),
        720 * DOLLAR - 8 * 720 * DOLLAR / 4,
        "a gain, had all been used"
    );
    assert_eq!(balance(&scene, "revenue:home"), -720 * DOLLAR);
}

#[test]
fn more_use_than_capacity_refuses_the_close_until_the_card_is_right() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let begins = scene.world.now();
    rates(&mut scene, costs(720, 1));
    uses(&mut scene, node, ("lab", "ada"), (8, 100));
    let error = close(&mut scene).unwrap_err();
    let says = "pool main in 2023-11: 2880000000 GPU-milliseconds of H100 were used";
    assert!(matches!(error, Refusal::Pool(_)) && error.to_string().contains(says), "{error}");
    assert!(scene.state().periods.closed().is_empty() && scene.world.records().statements.is_empty());
    let right = Box::new(costs(720, 8));
    scene.must(Command::SetRates { pool: name("main"), effective: begins, card: right });
    close(&mut scene).unwrap();
    assert_eq!(balance(&scene, "revenue:home"), -720 * DOLLAR);
}

#[test]
fn lent_machines_clouds_and_pools_without_a_card_have_no_costs_of_ours() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    uses(&mut scene, node, ("lab", "ada"), (1, 1));
    let lending = Some(Lending::new(name("ada"), 800).unwrap());
    let per_gpu = BTreeMap::from([(name("H100"), HourlyRate(DOLLAR))]);
    let (currency, unused) = (Currency::USD, Unused::Idle);
    rates(&mut scene, Card::Flat { per_gpu, lending, currency, unused });
    close(&mut scene).unwrap();
    assert!(scene.world.records().statements.is_empty());
    assert_eq!(balance(&scene, "idle:main"), 0);
    assert_eq!(balance(&scene, "revenue:home"), -DOLLAR);
}

#[test]
fn a_slice_in_a_cloud_knows_its_weight_and_what_it_would_have_cost_on_prem() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    let weight = spillway_ledger::limits::WeightChange {
        class: name("H100"),
        weight: 250,
        effective: scene.world.now(),
    };
    let weigh = spillway_ledger::limits::LimitsChange::Weigh { weight };
    scene.must(Command::ChangeLimits(Box::new(weigh)));
    let node = scene.node("A100:1");
    rates(&mut scene, flat(2, "idle"));
    let (id, _) = scene.start(&job("H100:4"));
    scene.runs(id, 60, PartEnd::Exited { code: 0 });
    scene.boot();
    scene.pass(60);
    let entries = &scene.world.records().entries;
    let charged = entries.iter().find_map(|it| it.usage().filter(|usage| usage.blocks > 0)).unwrap().clone();
    assert_eq!(charged.normalised_ms, Some(4 * 60_000 * 250 / 100));
    assert_eq!(charged.on_prem_rate, Some(HourlyRate(4 * 2 * DOLLAR)));
    let (_, attempt) = scene.start(&job("A100:1"));
    scene.says(node, attempt, 0, PartNews::Usage { from_ms: 0, to_ms: 60_000 });
    let used = scene.world.records().entries.iter().filter_map(|it| it.usage());
    let used: Vec<_> = used.filter(|usage| usage.pool == Some(name("main"))).collect();
    assert!(used.iter().all(|usage| usage.on_prem_rate.is_none()), "on-prem is on-prem");
    assert!(
        used.iter().all(|usage| usage.normalised_ms == Some(usage.span_ms())),
        "as much as the reference"
    );
    assert!(!used.is_empty());
}

#[test]
fn the_machines_of_an_older_database_count_from_the_first_month_of_which_use_is_known() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    uses(&mut scene, node, ("lab", "ada"), (1, 1));
    scene.node("H100:2");
    let mut state = scene.state().clone();
    state.pool_books.capacity.clear();
    let mut federation = spillway_core::Federation::new(state);
    let start = Command::StartBroker { deployment: String::new() };
    let later = month().next().end(&Zone::utc());
    federation.handle(start, later, &mut spillway_types::SequentialIds::new(5)).unwrap();
    let capacity = &federation.state().pool_books.capacity[&name("main")];
    let (begins, ends) = (month().start(&Zone::utc()), month().end(&Zone::utc()));
    assert_eq!(capacity.gpu_ms(&name("H100"), begins, ends), 10 * month().length_ms(&Zone::utc()));
    assert_eq!(spillway_core::invariants::check_all(federation.state()), Vec::<String>::new());
}

/// What a random federation does next.
#[derive(Debug, Clone)]
enum Act {
    Join { gpus: u32 },
    Leave { which: usize },
    Start { gpus: u32 },
    End { which: usize },
    Pass { hours: u64 },
    Flat { dollars: i64, rule: usize },
    Cost { dollars: i64, gpus: u32 },
    Close,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1_u32..9).prop_map(|gpus| Act::Join { gpus }),
        1 => (0_usize..4).prop_map(|which| Act::Leave { which }),
        4 => (1_u32..5).prop_map(|gpus| Act::Start { gpus }),
        3 => (0_usize..4).prop_map(|which| Act::End { which }),
        4 => (1_u64..300).prop_map(|hours| Act::Pass { hours }),
        2 => ((0_i64..5), (0_usize..3)).prop_map(|(dollars, rule)| Act::Flat { dollars, rule }),
        1 => ((0_i64..5000), (1_u32..30)).prop_map(|(dollars, gpus)| Act::Cost { dollars, gpus }),
        3 => Just(Act::Close),
    ];
    proptest::collection::vec(act, 1..40)
}

/// A part at work: its node, since when, and how much of it was told.
struct Runs {
    node: NodeId,
    attempt: AttemptId,
    began: UnixMs,
    told: u64,
}

struct Random {
    scene: Scene,
    nodes: Vec<NodeId>,
    runs: Vec<Runs>,
    costed: bool,
}

impl Random {
    fn tell(&mut self) {
        for run in &mut self.runs {
            let ran = self.scene.world.now().since(run.began).0;
            if ran > run.told {
                let news = PartNews::Usage { from_ms: run.told, to_ms: ran };
                self.scene.says(run.node, run.attempt, 0, news);
                run.told = ran;
            }
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Join { gpus } => self.nodes.push(self.scene.node(&format!("H100:{gpus}"))),
            Act::Leave { which } => {
                let Some(node) = self.nodes.get(*which).copied() else { return };
                if self.scene.world.command(Command::StepNode { node, step: NodeStep::Leave }).is_ok() {
                    self.nodes.remove(*which);
                }
            }
            Act::Start { gpus } => {
                // Where there were never so many, it is refused.
                let submitted = self.scene.world.command(Scene::submission(&job(&format!("H100:{gpus}"))));
                let Ok(spillway_core::Reply::Job(id)) = submitted else { return };
                if self.scene.world.place().unwrap() != 1 {
                    return self.scene.cancel(id);
                }
                let attempt = self.scene.attempt_of(id);
                let node = self.scene.attempt(attempt).parts[0].node.unwrap();
                self.scene.says(node, attempt, 0, PartNews::Started);
                let began = self.scene.world.now();
                self.runs.push(Runs { node, attempt, began, told: 0 });
            }
            Act::End { which } => {
                self.tell();
                if *which < self.runs.len() {
                    let run = self.runs.remove(*which);
                    let end = PartEnd::Exited { code: 0 };
                    self.scene.says(run.node, run.attempt, 0, PartNews::Ended { end, ran_ms: run.told });
                }
            }
            Act::Pass { hours } => self.scene.world.pass(DurationMs(hours * HOUR)),
            Act::Flat { dollars, rule } => {
                rates(&mut self.scene, flat(*dollars, ["idle", "by-use", "lab=2,org=1"][*rule]));
            }
            Act::Cost { dollars, gpus } => {
                self.costed = true;
                rates(&mut self.scene, costs(*dollars, *gpus));
            }
            Act::Close => self.close(),
        }
    }

    fn close(&mut self) {
        self.tell();
        state_usage(&mut self.scene);
        let newest = self.scene.state().periods.newest_closed();
        let period = newest.map_or_else(month, Period::next);
        match self.scene.world.command(Command::ClosePeriod { period }) {
            Err(Refusal::Pool(_)) => assert!(self.costed, "a flat card's capacity is what its nodes have"),
            Ok(_) | Err(Refusal::Period(_) | Refusal::UsageUnknown { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        self.scene.check();
    }

    /// Invariant 7, and that the ledger says the same.
    fn check(&self) {
        let state = self.scene.state();
        let (mut beside, mut idle) = (0, 0);
        for (period, closed) in &state.pool_books.closed {
            for closed in closed.values() {
                let (month, close) = (&closed.month, &closed.close);
                let parts = close.used_micros + close.unused_micros + close.variance_micros;
                assert_eq!(parts, month.cost_micros);
                assert!(close.unused_micros >= 0);
                let booked = |it: &&spillway_ledger::Entry| {
                    it.effective_at().is_some_and(|at| Period::of(at, &Zone::utc()) == *period)
                };
                let entries = self.scene.world.records().entries.iter().filter(booked);
                assert_eq!(close.used_micros, entries.map(spillway_ledger::Entry::spend_micros).sum::<i64>());
                let rows = closed.rows();
                let sum = |of: fn(&spillway_core::pools::PoolRow) -> i64| rows.iter().map(of).sum::<i64>();
                assert_eq!(sum(|row| row.cost_micros), month.cost_micros);
                assert_eq!(sum(|row| row.charged_micros), close.used_micros);
                assert_eq!(sum(|row| row.unused_micros), close.unused_micros);
                assert_eq!(sum(spillway_core::pools::PoolRow::variance_micros), close.variance_micros);
                beside += close.unused_micros + close.variance_micros;
                idle += if closed.unused.is_idle() { close.unused_micros } else { 0 };
            }
        }
        let entries = &self.scene.world.records().entries;
        let spent: i64 = entries.iter().map(spillway_ledger::Entry::spend_micros).sum();
        assert_eq!(balance(&self.scene, "revenue:home"), -(spent + beside), "cost, where a month is closed");
        assert!(balance(&self.scene, "idle:main") >= idle, "by use, and nobody used it");
        assert_eq!(state.book.imbalance(), 0);
        assert_eq!(self.scene.world.replayed().as_ref(), Ok(state));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever nodes come and go, jobs run and cards are set: used + unused + variance is what the pool cost.
    #[test]
    fn used_unused_and_variance_are_the_cost_of_any_pool(acts in acts()) {
        let mut random = Random { scene: Scene::new(), nodes: vec![], runs: vec![], costed: false };
        acts.iter().for_each(|act| random.act(act));
        random.check();
    }
}
