//! The books: what instances are billed, rate cards, days, and periods that close.

use std::collections::BTreeMap;

use spillway_core::command::PartNews;
use spillway_core::entity::GoneReason;
use spillway_core::{Command, Refusal};
use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_ledger::journal::Digest;
use spillway_ledger::rates::{Card, Lending, Unused};
use spillway_ledger::window::Window;
use spillway_ledger::{Entry, EntryKind};
use spillway_policies::CloudOffer;
use spillway_types::{Currency, DurationMs, HourlyRate, Market, OfferTerms, PartEnd, Spot, UnixMs};

use crate::limits::{limit, set};
use crate::words::{BOOT, DOLLAR, HOUR, Scene, job, name, offered};

fn terms(scene: &mut Scene, terms: OfferTerms) {
    scene.offer("H100:8", 20);
    let mut offers = scene.world.federation().offers().to_vec();
    offers[0].terms = terms;
    scene.world.set_offers(offers);
}

fn owed(scene: &Scene) -> i64 {
    -scene.state().book.balance(&"payable:mock:east".parse().unwrap())
}

fn charges(scene: &Scene) -> Vec<&Entry> {
    scene.world.records().entries.iter().filter(|it| it.kind() == EntryKind::Charge).collect()
}

/// Launches an instance for a job that runs for a minute on it.
fn bursts(scene: &mut Scene) {
    let (id, _) = scene.start(&job("H100:8"));
    scene.runs(id, 60, PartEnd::Exited { code: 0 });
    scene.boot();
    scene.pass(60);
}

#[test]
fn an_instance_is_billed_for_its_minimum_and_in_whole_increments() {
    for (minimum, increment, hours) in
        [(0, 0, None), (2 * HOUR, 0, Some(2)), (0, HOUR, Some(1)), (HOUR + 1, HOUR, Some(2))]
    {
        let mut scene = Scene::new();
        let billed = OfferTerms {
            minimum: DurationMs(minimum),
            increment: DurationMs(increment),
            ..OfferTerms::default()
        };
        terms(&mut scene, billed);
        bursts(&mut scene);
        scene.pass(300);
        scene.tick();
        scene.clouds();
        let lived = BOOT.0 + 360_000;
        let exact = HourlyRate(20 * DOLLAR).cost_micros(1, 1, 0, lived);
        let expected = hours.map_or(exact, |hours: i64| hours * 20 * DOLLAR);
        assert_eq!(owed(&scene), expected, "minimum {minimum}, increment {increment}");
        assert_eq!(scene.spent(), expected);
        scene.is_over();
    }
}

#[test]
fn an_instance_that_its_provider_takes_back_early_is_free_where_the_provider_says_so() {
    for (free_within, is_free) in
        [(0, false), (HOUR, true), (BOOT.0 + 60_000, false), (BOOT.0 + 60_001, true)]
    {
        let mut scene = Scene::new();
        let spot =
            OfferTerms { free_if_interrupted_within: DurationMs(free_within), ..OfferTerms::default() };
        terms(&mut scene, spot);
        bursts(&mut scene);
        let instance = scene.instances()[0];
        scene.world.take_away(instance, GoneReason::Vanished).unwrap();
        let whole = HourlyRate(20 * DOLLAR).cost_micros(1, 1, 0, BOOT.0 + 60_000);
        assert_eq!(owed(&scene), if is_free { 0 } else { whole }, "free within {free_within}");
    }
}

#[test]
fn who_used_a_warm_instance_last_pays_for_its_being_warm() {
    let mut scene = Scene::new();
    scene.offer("H100:8", 20);
    scene.group("guest", Some("org"), None);
    scene.user("bob", spillway_types::Role::Member, &["guest"]);
    bursts(&mut scene);
    scene.pass(120);
    let guest = spillway_types::JobSpec { group: name("guest"), ..job("H100:8") };
    let submission = Command::Submit { spec: Box::new(guest), user: name("bob"), key: None };
    let spillway_core::Reply::Job(second) = scene.must(submission) else { panic!("no job") };
    scene.runs(second, 60, PartEnd::Exited { code: 0 });
    assert_eq!(scene.world.place().unwrap(), 1);
    scene.contact();
    scene.pass(60);
    scene.pass(300);
    scene.tick();
    scene.clouds();
    let minute = |minutes: i64| 20 * DOLLAR * minutes / 60;
    let spent = |group: &str| scene.state().book.balance(&format!("spend:{group}").parse().unwrap());
    let boot = i64::try_from(BOOT.0 / 60_000).unwrap();
    assert!(
        (spent("lab") - minute(boot + 1 + 2)).abs() <= 2,
        "boot, its minute, two warm minutes: {}",
        spent("lab")
    );
    assert!((spent("guest") - minute(1 + 5)).abs() <= 2, "its minute, five warm minutes: {}", spent("guest"));
    assert_eq!(
        owed(&scene),
        HourlyRate(20 * DOLLAR).cost_micros(1, 1, 0, BOOT.0 + 9 * 60_000),
        "all of it, exactly"
    );
    scene.is_over();
}

#[test]
fn use_is_charged_by_day_with_the_instant_of_each_slice() {
    let mut scene = Scene::new();
    scene.node("H100:4");
    let midnight = Day::of(scene.world.now()).plus(1).start();
    scene.world.pass(DurationMs(midnight.since(scene.world.now()).0 - HOUR / 2));
    scene.world.contact_all().unwrap();
    let (id, _) = scene.start(&job("H100:4"));
    scene.runs(id, 3600, PartEnd::Exited { code: 0 });
    scene.contact();
    scene.pass(3600);
    let starts: Vec<UnixMs> = charges(&scene).iter().filter_map(|it| it.effective_at()).collect();
    assert!(starts.len() > 1 && starts.contains(&midnight), "cut at midnight: {starts:?}");
    let gpu_ms: Vec<u64> = charges(&scene).iter().map(|it| it.gpu_ms()).collect();
    assert_eq!(gpu_ms.iter().sum::<u64>(), 4 * HOUR);
    assert_eq!(scene.spent(), 4 * DOLLAR, "and it costs the same");
    scene.is_over();
}

fn flat(dollars: i64) -> Box<Card> {
    Box::new(Card::Flat {
        per_gpu: BTreeMap::from([("H100".parse().unwrap(), HourlyRate(dollars * DOLLAR))]),
        lending: None,
        currency: Currency::USD,
        unused: Unused::Idle,
    })
}

#[test]
fn a_rate_card_is_what_is_charged_and_a_new_one_cuts_the_slice() {
    let mut scene = Scene::new();
    scene.node("H100:4");
    let begins = scene.world.now();
    scene.must(Command::SetRates { pool: name("main"), effective: begins, card: flat(3) });
    let (id, attempt) = scene.start(&job("H100:4"));
    assert_eq!(scene.attempt(attempt).parts[0].rate, HourlyRate(12 * DOLLAR), "held by the card");
    scene.runs(id, 3600, PartEnd::Exited { code: 0 });
    scene.contact();
    let half = begins.plus(DurationMs(HOUR / 2));
    scene.must(Command::SetRates { pool: name("main"), effective: half, card: flat(5) });
    scene.pass(3600);
    assert_eq!(scene.spent(), (6 + 10) * DOLLAR, "half an hour at 3, half an hour at 5, of 4 GPUs");
    assert_eq!(scene.job(id).cost_micros, 16 * DOLLAR);
    assert_eq!(charges(&scene).last().unwrap().effective_at(), Some(half));
    scene.is_over();
}

#[test]
fn a_rate_card_needs_its_pool_and_an_open_period() {
    let mut scene = Scene::new();
    let set = |pool: &str, effective, card| Command::SetRates { pool: name(pool), effective, card };
    let now = scene.world.now();
    assert!(matches!(scene.refused(set("moon", now, flat(1))), Refusal::NotFound { kind: "pool", .. }));
    assert!(matches!(scene.refused(set("main", now, flat(-1))), Refusal::Rates(_)));
    scene.must(set("main", now, flat(1)));
    scene.idle(set("main", now, flat(1)));
    let month = Period::of(now, &Zone::utc());
    scene.world.pass(month.end(&Zone::utc()).since(now));
    scene.must(Command::ClosePeriod { period: month });
    let refusal = scene.refused(set("main", now, flat(2))).to_string();
    assert!(refusal.contains(&format!("period {month}")), "{refusal}");
}

#[test]
fn a_period_closes_when_all_its_use_is_known() {
    let mut scene = Scene::new();
    let month = Period::of(scene.world.now(), &Zone::utc());
    let ends = month.end(&Zone::utc());
    scene.node("H100:4");
    let close = || Command::ClosePeriod { period: month };
    assert!(scene.refused(close()).to_string().contains("ends at"));
    scene.world.pass(DurationMs(ends.since(scene.world.now()).0 - HOUR / 2));
    scene.world.contact_all().unwrap();
    let (id, _) = scene.start(&job("H100:4"));
    scene.runs(id, 3600, PartEnd::Exited { code: 0 });
    scene.contact();
    scene.world.pass(DurationMs(HOUR / 2));
    let refusal = scene.refused(close());
    assert!(matches!(refusal, Refusal::Unsettled { count: 1, .. }), "{refusal}");
    scene.pass(60);
    scene.must(close());
    assert!(matches!(scene.refused(close()), Refusal::Period(_)), "once");
    let freeze = |text: &[u8]| Command::FreezePeriod { period: month, digest: Digest::of(text) };
    scene.must(freeze(b"export"));
    scene.idle(freeze(b"export"));
    assert!(matches!(scene.refused(freeze(b"another")), Refusal::Period(_)));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

/// A spot instance at so many dollars an hour, and what the same costs on demand.
fn spot_offers(scene: &mut Scene, dollars: i64, on_demand: i64) {
    let terms = OfferTerms { market: Market::Spot, ..OfferTerms::default() };
    let spot = CloudOffer { terms, ..offered("H100:8", dollars) };
    let listed = CloudOffer { available: 0, ..offered("H100:8", on_demand) };
    scene.world.set_offers(vec![spot, listed]);
}

/// Half of a spot instance, for so many seconds from when it is there.
fn half_a_spot_instance(scene: &mut Scene, seconds: u64) {
    let mut spec = job("H100:4");
    spec.placement.spot = Spot::Allow;
    let (id, _) = scene.start(&spec);
    scene.runs(id, seconds, PartEnd::Exited { code: 0 });
    scene.boot();
}

#[test]
fn each_slice_costs_what_the_catalogue_says_then_and_so_does_the_instance() {
    let mut scene = Scene::new();
    spot_offers(&mut scene, 6, 20);
    half_a_spot_instance(&mut scene, 180);
    scene.pass(60);
    spot_offers(&mut scene, 12, 20);
    spot_offers(&mut scene, 12, 20);
    scene.pass(60);
    spot_offers(&mut scene, 12, 24);
    scene.pass(60);
    scene.pass(60);
    spot_offers(&mut scene, 24, 24);
    scene.pass(300);
    scene.tick();
    scene.clouds();
    let used: Vec<_> = charges(&scene).iter().map(|charge| charge.usage().unwrap().clone()).collect();
    let rates: Vec<_> = used.iter().map(|used| (used.rate.0 / DOLLAR, used.list_rate.0 / DOLLAR)).collect();
    assert_eq!(rates, [(3, 10), (6, 10), (6, 12)]);
    assert!(used.windows(2).all(|pair| pair[0].to == pair[1].from), "{used:?}");
    // Boot and a minute at 6, three at 12, and five at 24 while it was kept warm; each from when it ran.
    let at = |dollars: i64, from_ms, to_ms| HourlyRate(dollars * DOLLAR).cost_micros(1, 1, from_ms, to_ms);
    let (minute, six) = (60_000, BOOT.0 + 60_000);
    let twelve = six + 3 * minute;
    let cost = at(6, 0, six) + at(12, six, twelve) + at(24, twelve, twelve + 5 * minute);
    assert_eq!((owed(&scene), scene.spent()), (cost, cost));
    scene.is_over();
}

#[test]
fn a_budget_holds_the_price_on_demand_for_what_runs_on_spot_machines() {
    let mut scene = Scene::new();
    scene.must(set(limit("lab", "money", "everywhere", Window::Month, 1_000_000 * DOLLAR)));
    spot_offers(&mut scene, 6, 20);
    half_a_spot_instance(&mut scene, 60);
    let held = |scene: &Scene| scene.state().limits.standings(&name("lab"), scene.world.now())[0].held;
    let spec = job("H100:4");
    let longest = spec.time_limit.0 + spec.checkpoint.grace.0;
    assert_eq!(held(&scene), HourlyRate(10 * DOLLAR).cost_micros(1, 1, 0, longest));
    // The next one shares the instance.
    let mut next = job("H100:4");
    next.placement.spot = Spot::Allow;
    scene.start(&next);
    assert_eq!(held(&scene), 2 * HourlyRate(10 * DOLLAR).cost_micros(1, 1, 0, longest));
}

#[test]
fn what_a_cloud_offers_no_more_costs_what_it_did() {
    let mut scene = Scene::new();
    spot_offers(&mut scene, 6, 20);
    half_a_spot_instance(&mut scene, 60);
    let before = scene.instance().clone();
    scene.world.set_offers(vec![]);
    assert_eq!(*scene.instance(), before);
    // Two offers of one shape: the one that it is from is there still.
    spot_offers(&mut scene, 6, 20);
    let mut both = scene.world.federation().offers().to_vec();
    let dearer = CloudOffer { price: HourlyRate(9 * DOLLAR), ..both[0].clone() };
    both.insert(0, dearer);
    scene.world.set_offers(both);
    assert_eq!(*scene.instance(), before);
}

#[test]
fn what_was_used_is_noted_with_each_charge_and_kept_when_the_instance_is_gone() {
    let mut scene = Scene::new();
    spot_offers(&mut scene, 6, 20);
    half_a_spot_instance(&mut scene, 60);
    let began = scene.world.now();
    scene.pass(60);
    let provider_id = scene.instance().provider_id.clone();
    scene.pass(300);
    scene.tick();
    scene.clouds();
    let used = charges(&scene)[0].usage().unwrap().clone();
    assert_eq!(used.resource, provider_id);
    assert_eq!(used.market, Some(Market::Spot));
    assert_eq!((used.cloud, used.region), (Some(name("mock")), Some(name("east"))));
    assert_eq!((used.class, used.blocks), (Some(name("H100")), 400));
    assert_eq!((used.from, used.to), (began, began.plus(DurationMs(60_000))));
    assert_eq!((used.rate, used.list_rate), (HourlyRate(3 * DOLLAR), HourlyRate(10 * DOLLAR)));
    assert!(used.pool.is_some() && used.instance_type.is_some());
    let entries = &scene.world.records().entries;
    let overhead = entries.iter().find(|it| it.kind() == EntryKind::Overhead).unwrap().usage().unwrap();
    assert_eq!(overhead.resource, provider_id);
    assert_eq!(overhead.span_ms(), BOOT.0 + 360_000, "its whole life");
    assert_eq!(overhead.above, [name("org")]);
    assert_eq!((overhead.rate, overhead.list_rate), (HourlyRate(6 * DOLLAR), HourlyRate(20 * DOLLAR)));
    for entry in entries {
        let charges = matches!(entry.kind(), EntryKind::Charge | EntryKind::Overrun | EntryKind::Overhead);
        assert_eq!(entry.usage().is_some(), charges, "{}", entry.key());
    }
}

#[test]
fn on_prem_the_list_price_is_the_rate_of_the_day_and_the_resource_is_the_host() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let host = scene.broker_node(node).hostname.clone();
    let (id, _) = scene.start(&job("H100:4"));
    scene.runs(id, 60, PartEnd::Exited { code: 0 });
    scene.contact();
    scene.pass(60);
    let used = charges(&scene)[0].usage().unwrap().clone();
    assert_eq!((used.resource, used.cloud, used.market), (Some(host), None, None));
    assert_eq!(used.list_rate, used.rate);
    assert_eq!(used.above, [name("org")]);
    assert!(used.rate.0 > 0 && used.pool.is_some());
}

#[test]
fn a_correction_takes_back_what_was_charged_and_posts_what_it_should_have_been_once() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let hours = 1000 * i64::try_from(HOUR).unwrap();
    scene.must(set(limit("lab", "gpu-time:H100", "everywhere", Window::Month, hours)));
    let (_, attempt) = scene.start(&job("H100:8"));
    scene.says(node, attempt, 0, PartNews::Usage { from_ms: 0, to_ms: HOUR });
    let entry = charges(&scene).remove(0).clone();
    let (was, spent) = (entry.spend_micros(), scene.spent());
    let correct = |becomes| Command::Correct {
        entry: Box::new(entry.clone()),
        becomes,
        by: name("root"),
        because: "the rate was wrong".to_owned(),
    };
    assert!(matches!(scene.refused(correct(Some((0, -1)))), Refusal::Invalid { field: "amount", .. }));
    let counted = |scene: &Scene| {
        let standings = scene.state().limits.standings(&name("lab"), scene.world.now());
        standings.iter().map(|standing| standing.used).collect::<Vec<_>>()
    };
    let before = counted(&scene);
    scene.must(correct(Some((entry.gpu_ms() / 2, was + DOLLAR))));
    assert_eq!(scene.spent(), spent + DOLLAR);
    let back = i64::try_from(entry.gpu_ms() - entry.gpu_ms() / 2).unwrap();
    assert_eq!(counted(&scene), [before[0] - back], "its GPU time counts in limits as it was corrected");
    assert_eq!(scene.state().book.imbalance(), 0);
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
    assert!(matches!(scene.refused(correct(None)), Refusal::CorrectedAlready { .. }));
    let replacement = scene.world.records().entries.last().unwrap().clone();
    let again = Command::Correct {
        entry: Box::new(replacement),
        becomes: None,
        by: name("root"),
        because: "it was free".to_owned(),
    };
    scene.must(again);
    assert_eq!(scene.spent(), spent - was);
    let hold = scene.world.records().entries.iter().find(|it| it.kind() == EntryKind::Hold).unwrap().clone();
    let odd =
        Command::Correct { entry: Box::new(hold), becomes: None, by: name("root"), because: "x".to_owned() };
    assert!(matches!(scene.refused(odd), Refusal::Correction(_)));
    scene.check();
}

#[test]
fn the_owner_of_a_lent_machine_is_credited_a_share_from_the_card_on() {
    let mut scene = Scene::new();
    let node = scene.node("H100:8");
    let begins = scene.world.now();
    scene.must(Command::SetRates { pool: name("main"), effective: begins, card: flat(3) });
    let lent = |owner: &str| {
        let lending = Lending::new(name(owner), 800).unwrap();
        let per_gpu = BTreeMap::from([("H100".parse().unwrap(), HourlyRate(3 * DOLLAR))]);
        let (lending, currency, unused) = (Some(lending), Currency::USD, Unused::Idle);
        Box::new(Card::Flat { per_gpu, lending, currency, unused })
    };
    let set = |owner: &str| Command::SetRates {
        pool: name("main"),
        effective: begins.plus(DurationMs(HOUR)),
        card: lent(owner),
    };
    assert!(matches!(scene.refused(set("nobody")), Refusal::NotFound { kind: "user", .. }));
    scene.user("ada", spillway_types::Role::Member, &["lab"]);
    scene.must(set("ada"));
    let (_, attempt) = scene.start(&job("H100:1"));
    scene.says(node, attempt, 0, PartNews::Started);
    scene.world.pass(DurationMs(2 * HOUR));
    scene.says(node, attempt, 0, PartNews::Ended { end: PartEnd::Exited { code: 0 }, ran_ms: 2 * HOUR });
    let balance = |account: &str| -scene.state().book.balance(&account.parse().unwrap());
    let (owner, site) = (balance("owner:ada"), balance("revenue:home"));
    assert_eq!(owner + site, scene.spent(), "who is paid gets what was spent");
    assert!((owner - 24 * DOLLAR / 10).abs() < DOLLAR / 100, "four fifths of the second hour: {owner}");
    assert_eq!(scene.state().book.imbalance(), 0);
    let half = charges(&scene)
        .into_iter()
        .find(|it| it.postings().iter().any(|it| it.account.to_string() == "owner:ada"));
    let half = half.unwrap().clone();
    let cost = half.spend_micros() / 2;
    let correct = Command::Correct {
        becomes: Some((half.gpu_ms(), cost)),
        entry: Box::new(half),
        by: name("root"),
        because: "half of it".to_owned(),
    };
    scene.must(correct);
    let after = -scene.state().book.balance(&"owner:ada".parse().unwrap());
    assert!((after - owner / 2).abs() <= 1, "the owner gives back the same part: {after} of {owner}");
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}
