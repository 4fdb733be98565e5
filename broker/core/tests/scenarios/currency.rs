//! Currencies: what they are worth day by day, cards that are stated in them, and the currency of groups.

use std::collections::BTreeMap;

use spillway_core::{Command, Refusal};
use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_ledger::limits::LimitsChange;
use spillway_ledger::rates::{Card, RateError, Unused};
use spillway_ledger::{EntryKind, PricedIn, Usage};
use spillway_types::{DurationMs, HourlyRate, PartEnd, UnixMs};

use crate::words::{DOLLAR, HOUR, Scene, job, name};

fn worth(currency: &str, from: Day, rate: &str) -> Command {
    Command::SetExchange { currency: name(currency), from, rate: name(rate) }
}

fn card(units: i64, currency: &str, effective: UnixMs) -> Command {
    let per_gpu = BTreeMap::from([(name("H100"), HourlyRate(units * DOLLAR))]);
    let card = Card::Flat { per_gpu, lending: None, currency: name(currency), unused: Unused::Idle };
    Command::SetRates { pool: name("main"), effective, card: Box::new(card) }
}

fn used(scene: &Scene) -> Vec<Usage> {
    let charges = scene.world.records().entries.iter().filter(|it| it.kind() == EntryKind::Charge);
    charges.filter_map(|entry| entry.usage().cloned()).collect()
}

#[test]
fn a_card_in_euros_is_charged_at_what_they_are_worth_on_each_day_and_says_so() {
    let mut scene = Scene::new();
    scene.node("H100:4");
    let begins = scene.world.now();
    let today = Day::of(begins);
    let midnight = today.plus(1).start();
    scene.must(worth("EUR", today, "1.05"));
    scene.must(card(2, "EUR", begins));
    scene.world.pass(DurationMs(midnight.since(scene.world.now()).0 - HOUR / 2));
    scene.world.contact_all().unwrap();
    let (id, attempt) = scene.start(&job("H100:4"));
    assert_eq!(
        scene.attempt(attempt).parts[0].rate,
        HourlyRate(84 * DOLLAR / 10),
        "held at the rate of the day"
    );
    scene.runs(id, 3600, PartEnd::Exited { code: 0 });
    scene.contact();
    scene.must(worth("EUR", today.plus(1), "1.10"));
    scene.pass(3600);
    assert_eq!(scene.spent(), (42 + 44) * DOLLAR / 10, "half an hour at 4 x 2.10, half an hour at 4 x 2.20");
    let told: Vec<_> = used(&scene).iter().map(|it| (it.rate.0 * 10 / DOLLAR, it.priced)).collect();
    let priced = Some(PricedIn { currency: name("EUR"), rate: HourlyRate(8 * DOLLAR) });
    assert!(told.contains(&(84, priced)) && told.contains(&(88, priced)), "{told:?}");
    assert!(told.iter().all(|(_, it)| *it == priced), "{told:?}");
    assert_eq!(scene.state().book.imbalance(), 0);
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
    scene.is_over();
}

#[test]
fn a_card_in_dollars_after_one_in_euros_is_priced_in_nothing_else() {
    let mut scene = Scene::new();
    scene.node("H100:4");
    let begins = scene.world.now();
    let half = begins.plus(DurationMs(HOUR / 2));
    scene.must(worth("EUR", Day::of(begins), "1.05"));
    scene.must(card(2, "EUR", begins));
    scene.must(card(3, "USD", half));
    let (id, _) = scene.start(&job("H100:4"));
    scene.runs(id, 3600, PartEnd::Exited { code: 0 });
    scene.contact();
    scene.pass(3600);
    assert_eq!(scene.spent(), 42 * DOLLAR / 10 + 6 * DOLLAR);
    for usage in used(&scene) {
        assert_eq!(usage.priced.is_some(), usage.from < half, "{usage:?}");
    }
    scene.is_over();
}

#[test]
fn a_rate_of_a_day_that_has_begun_a_closed_one_or_of_dollars_is_refused_and_changes_nothing() {
    let mut scene = Scene::new();
    let today = Day::of(scene.world.now());
    let month = Period::of(scene.world.now(), &Zone::utc());
    scene.must(worth("EUR", today, "1.05"));
    scene.idle(worth("EUR", today, "1.05"));
    for (command, words) in [
        (worth("EUR", today, "1.06"), format!("another one can be set from {} on", today.plus(1))),
        (worth("USD", today, "1.5"), "is the deployment's own currency".to_owned()),
    ] {
        let refusal = scene.refused(command);
        assert!(matches!(refusal, Refusal::Currency(_)) && refusal.to_string().contains(&words), "{refusal}");
    }
    scene.must(worth("EUR", today.plus(1), "1.07"));
    scene.must(worth("EUR", today.plus(1), "1.08"));
    scene.must(worth("EUR", today.plus(-3), "1.02"));
    scene.world.pass(month.end(&Zone::utc()).since(scene.world.now()));
    scene.must(Command::ClosePeriod { period: month });
    let open = Day::of(month.end(&Zone::utc()));
    let refusal = scene.refused(worth("GBP", open.plus(-1), "1.3")).to_string();
    assert!(
        refusal.contains(&format!("period {month}")) && refusal.contains(&format!("from {open} on")),
        "{refusal}"
    );
    scene.must(worth("GBP", open, "1.3"));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}

#[test]
fn cards_and_groups_have_a_currency_that_is_known() {
    let mut scene = Scene::new();
    let now = scene.world.now();
    let today = Day::of(now);
    let refusal = scene.refused(card(2, "EUR", now));
    let Refusal::Rates(error) = &refusal else { panic!("{refusal}") };
    assert!(matches!(error.as_ref(), RateError::Currency(_)), "{refusal}");
    assert!(refusal.to_string().contains("`spillway currencies set EUR RATE`"), "{refusal}");
    let told_in = |group: &str, currency: Option<&str>| {
        let change = LimitsChange::Currency { group: name(group), currency: currency.map(name) };
        Command::ChangeLimits(Box::new(change))
    };
    let refusal = scene.refused(told_in("org", Some("EUR"))).to_string();
    assert!(refusal.contains("currency EUR is not known"), "{refusal}");
    scene.must(worth("EUR", today.plus(1), "1.05"));
    for early in [card(2, "EUR", now), told_in("org", Some("EUR"))] {
        let refusal = scene.refused(early).to_string();
        assert!(refusal.contains(&format!("its first is of {}", today.plus(1))), "{refusal}");
    }
    scene.must(card(2, "EUR", today.plus(1).start()));
    scene.must(worth("EUR", today, "1.04"));
    scene.must(told_in("org", Some("EUR")));
    scene.idle(told_in("org", Some("EUR")));
    assert_eq!(scene.state().limits.currency(&name("lab")), name("EUR"));
    scene.must(told_in("lab", Some("USD")));
    assert_eq!(scene.state().limits.currency(&name("lab")), name("USD"));
    assert_eq!(scene.world.replayed().as_ref(), Ok(scene.state()));
}
