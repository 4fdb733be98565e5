//! The limits case by case: holds, refusals, windows, transfers, and what is refused to change.

use jiff::Timestamp;
use spillway_types::{AttemptId, DurationMs, GroupName, HourlyRate, SequentialIds, SiteKind, UnixMs};

use super::*;
use crate::calendar::Zone;
use crate::window::Window;

const MINUTE: i64 = 60_000;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const UNIT: i64 = 1_000_000;

pub(super) fn at(text: &str) -> UnixMs {
    UnixMs(text.parse::<Timestamp>().unwrap().as_millisecond())
}

pub(super) fn group(name: &str) -> GroupName {
    name.parse().unwrap()
}

pub(super) fn attempt(number: u64) -> AttemptId {
    AttemptId::generate(&mut SequentialIds::new(number))
}

pub(super) fn terms(minutes: i64) -> LeaseTerms {
    let nothing = DurationMs(0);
    LeaseTerms {
        lease: DurationMs(u64::try_from(minutes * MINUTE).unwrap()),
        grace: nothing,
        minimum: nothing,
        increment: nothing,
    }
}

/// GPUs of one class at the on-prem site, at 1 an hour each.
pub(super) fn demand(name: &str, gpus: u64, minutes: i64) -> Demand {
    let cap = HourlyRate(i64::try_from(gpus).unwrap() * UNIT);
    Demand {
        group: group(name),
        place: Place { site: "seoul".parse().unwrap(), kind: SiteKind::OnPrem },
        shares: vec![Share { class: Some("H100".parse().unwrap()), blocks: gpus * 100, cap }],
        terms: terms(minutes),
        egress_micros: 0,
    }
}

pub(super) fn limit(name: &str, metric: &str, scope: &str, window: Window, nominal: i64) -> Limit {
    let id = LimitId {
        group: group(name),
        metric: metric.parse().unwrap(),
        scope: scope.parse().unwrap(),
        window,
    };
    Limit {
        id,
        nominal,
        borrow: None,
        lend: None,
        action: Action::Drain,
        thresholds: vec![],
        priority: 0,
        stated: None,
    }
}

/// lab over vision over deep, and lab over audio.
pub(super) fn tree() -> Limits {
    let mut limits = Limits::new();
    for (name, parent) in
        [("lab", None), ("vision", Some("lab")), ("deep", Some("vision")), ("audio", Some("lab"))]
    {
        limits.set_group(group(name), parent.map(group), Zone::utc(), NOW).unwrap();
    }
    limits
}

pub(super) const NOW: UnixMs = UnixMs(1_767_225_600_000 + 10 * 24 * HOUR); // 11 January 2026

pub(super) fn charge(from_minutes: i64, to_minutes: i64, gpus: i64) -> Charge {
    let ms = |minutes: i64| u64::try_from(minutes * MINUTE).unwrap();
    Charge {
        share: 0,
        started: NOW,
        from_ms: ms(from_minutes),
        to_ms: ms(to_minutes),
        rate: HourlyRate(gpus * UNIT),
    }
}

pub(super) fn end(limits: &mut Limits, attempt: AttemptId) {
    for step in [HoldStep::Activate, HoldStep::Finish, HoldStep::Settle] {
        limits.step(attempt, step).unwrap();
    }
}

pub(super) fn refusal(error: HoldError) -> LimitRefusal {
    let HoldError::Refused(refusal) = error else { panic!("{error}") };
    *refusal
}

#[test]
fn of_60_gpu_minutes_the_second_job_waits_until_the_first_gives_back_what_it_did_not_use() {
    let mut limits = tree();
    limits
        .set_limit(limit("vision", "gpu-time:H100", "everywhere", Window::Month, 60 * MINUTE), NOW)
        .unwrap();
    limits.hold(attempt(1), demand("vision", 8, 5), NOW).unwrap();
    assert_eq!(limits.holding(attempt(1)).unwrap().held().gpu_ms, 40 * MINUTE);
    let why = refusal(limits.hold(attempt(2), demand("deep", 8, 5), NOW).unwrap_err());
    assert_eq!(
        (why.kind, why.shortfall, why.held),
        (LimitRefusalKind::UnsafeWithRunning, 20 * MINUTE, 40 * MINUTE)
    );
    assert_eq!(why.binding.group, group("vision"));
    limits.charge(attempt(1), &charge(0, 2, 8)).unwrap();
    end(&mut limits, attempt(1));
    let standing = &limits.standings(&group("vision"), NOW)[0];
    assert_eq!((standing.used, standing.held, standing.left), (16 * MINUTE, 0, 44 * MINUTE));
    limits.hold(attempt(2), demand("deep", 8, 5), NOW).unwrap();
    limits.charge(attempt(2), &charge(0, 5, 8)).unwrap();
    end(&mut limits, attempt(2));
    let why = refusal(limits.hold(attempt(3), demand("deep", 8, 5), NOW).unwrap_err());
    assert_eq!((why.kind, why.renews), (LimitRefusalKind::UsedUp, Some(at("2026-02-01T00:00:00Z"))));
    assert!(limits.hold(attempt(3), demand("deep", 8, 5), at("2026-02-01T00:00:00Z")).is_ok());
    let why = refusal(limits.hold(attempt(4), demand("deep", 8, 8), NOW).unwrap_err());
    assert_eq!((why.kind, why.renews), (LimitRefusalKind::NeverFits, None));
    assert!(
        why.to_string()
            .contains("1h 4m of a GPU wanted, limit 1h of a GPU, used 56m of a GPU, held 40m of a GPU"),
        "{why}"
    );
}

#[test]
fn every_ancestor_is_asked_and_the_one_that_binds_is_named() {
    let mut limits = tree();
    limits.set_limit(limit("lab", "money", "everywhere", Window::Month, 10 * UNIT), NOW).unwrap();
    for child in ["vision", "audio"] {
        limits.set_limit(limit(child, "money", "everywhere", Window::Month, 8 * UNIT), NOW).unwrap();
    }
    limits.hold(attempt(1), demand("audio", 7, 60), NOW).unwrap();
    let why = refusal(limits.hold(attempt(2), demand("deep", 4, 60), NOW).unwrap_err());
    assert_eq!(
        (why.binding.group, why.kind, why.shortfall),
        (group("lab"), LimitRefusalKind::UnsafeWithRunning, UNIT)
    );
    let why = refusal(limits.hold(attempt(2), demand("deep", 9, 60), NOW).unwrap_err());
    assert_eq!(
        (why.binding.group, why.kind, why.shortfall),
        (group("vision"), LimitRefusalKind::NeverFits, UNIT)
    );
    assert_eq!(limits.check(&demand("deep", 3, 60), NOW), Ok(()));
    assert_eq!(limits.check(&demand("elsewhere", 300, 60), NOW), Ok(()), "not a group with limits");
    limits.hold(attempt(2), demand("deep", 3, 60), NOW).unwrap();
    assert!(limits.check(&demand("lab", 1, 1), NOW).is_err());
}

#[test]
fn scopes_and_classes_count_what_is_theirs() {
    let mut limits = tree();
    for (metric, scope) in [
        ("money", "cloud"),
        ("money", "site:busan"),
        ("money", "class:A100"),
        ("gpu-time:A100", "everywhere"),
        ("concurrent-gpus", "cloud"),
    ] {
        let window = if metric == "concurrent-gpus" { Window::Instant } else { Window::Quarter };
        limits.set_limit(limit("vision", metric, scope, window, 0), NOW).unwrap();
    }
    assert_eq!(limits.check(&demand("vision", 4, 60), NOW), Ok(()));
    let mut cloud = demand("vision", 4, 60);
    cloud.place.kind = SiteKind::Cloud;
    assert_eq!(limits.check(&cloud, NOW).unwrap_err().kind, LimitRefusalKind::NeverFits);
    let mut busan = demand("vision", 4, 60);
    busan.place.site = "busan".parse().unwrap();
    assert!(limits.check(&busan, NOW).unwrap_err().binding.to_string().contains("site:busan"));
    let mut other = demand("vision", 4, 60);
    other.shares[0].class = Some("A100".parse().unwrap());
    assert!(limits.check(&other, NOW).is_err());
    let work = Share { class: None, blocks: 0, cap: HourlyRate(UNIT) };
    assert_eq!(limits.check(&Demand { shares: vec![work], ..demand("vision", 0, 60) }, NOW), Ok(()));
}

#[test]
fn accelerators_at_once_are_lent_and_a_refusal_says_what_would_help() {
    let mut limits = tree();
    let at_once = |name, nominal| limit(name, "concurrent-gpus", "everywhere", Window::Instant, nominal);
    limits.set_limit(at_once("lab", 0), NOW).unwrap();
    limits.set_limit(Limit { borrow: Some(400), ..at_once("vision", 800) }, NOW).unwrap();
    limits.set_limit(Limit { lend: Some(600), ..at_once("audio", 800) }, NOW).unwrap();
    assert_eq!(limits.check(&demand("deep", 13, 1), NOW).unwrap_err().kind, LimitRefusalKind::NeverFits);
    limits.hold(attempt(1), demand("audio", 6, 1), NOW).unwrap();
    let why = limits.check(&demand("deep", 11, 1), NOW).unwrap_err();
    assert_eq!(
        (why.kind, why.shortfall, why.binding.group),
        (LimitRefusalKind::UnsafeWithRunning, 100, group("lab"))
    );
    limits.hold(attempt(2), demand("deep", 10, 1), NOW).unwrap();
    let why = limits.check(&demand("deep", 3, 1), NOW).unwrap_err();
    assert_eq!((why.kind, why.binding.group.clone()), (LimitRefusalKind::UsedUp, group("vision")));
    assert!(why.to_string().contains("it is used up: wait for attempts of the group to end"), "{why}");
    let lowered = limits.set_limit(at_once("audio", 700), NOW).unwrap_err();
    assert!(matches!(lowered, LimitsError::BelowUse { .. }), "vision uses what audio lent: {lowered}");
    assert!(limits.remove_limit(&at_once("audio", 0).id, NOW).is_err());
    for step in [HoldStep::Activate, HoldStep::Drain, HoldStep::Finish] {
        limits.step(attempt(2), step).unwrap();
    }
    assert_eq!(
        limits.standings(&group("vision"), NOW)[0].used,
        0,
        "what has stopped is free, before it is settled"
    );
    limits.set_limit(at_once("audio", 700), NOW).unwrap();
}

#[test]
fn a_hold_is_made_once_extended_once_and_resolved_once() {
    let mut limits = tree();
    limits.set_limit(limit("vision", "money", "everywhere", Window::Month, 5 * UNIT), NOW).unwrap();
    let asked = Demand {
        terms: LeaseTerms { grace: DurationMs::from_secs(600), ..terms(60) },
        ..demand("vision", 2, 60)
    };
    limits.hold(attempt(1), asked.clone(), NOW).unwrap();
    let once = limits.clone();
    limits.hold(attempt(1), asked.clone(), NOW).unwrap();
    assert_eq!(limits, once);
    let other = Demand { egress_micros: 1, ..asked };
    assert_eq!(limits.hold(attempt(1), other, NOW), Err(HoldError::Conflict { attempt: attempt(1) }));
    assert_eq!(limits.holding(attempt(1)).unwrap().held().micros, 2_333_333);
    assert!(limits.extend(attempt(1), 2, NOW).is_err(), "it does not run yet");
    limits.step(attempt(1), HoldStep::Activate).unwrap();
    assert_eq!(limits.extend(attempt(1), 3, NOW), Err(HoldError::Conflict { attempt: attempt(1) }));
    for _ in 0..2 {
        assert_eq!(limits.extend(attempt(1), 2, NOW), Ok(Extension::Granted));
        assert_eq!(limits.holding(attempt(1)).unwrap().held().micros, 4_333_333, "the grace is held once");
    }
    let Extension::Drain(why) = limits.extend(attempt(1), 3, NOW).unwrap() else {
        panic!("there is no room")
    };
    assert_eq!((why.kind, why.wanted), (LimitRefusalKind::UnsafeWithRunning, 2 * UNIT));
    assert_eq!(limits.holding(attempt(1)).unwrap().phase(), HoldPhase::Draining);
    assert_eq!(limits.charge(attempt(1), &charge(0, 60, 2)), Ok(Tally::default()));
    let beyond = limits.charge(attempt(1), &charge(60, 120, 4)).unwrap();
    assert_eq!((beyond.micros, beyond.gpu_ms), (6 * UNIT - 4_333_333, 0), "dearer than the cap");
    limits.step(attempt(1), HoldStep::Finish).unwrap();
    for _ in 0..2 {
        assert_eq!(limits.step(attempt(1), HoldStep::Settle), Ok(HoldPhase::Settled));
        let standing = &limits.standings(&group("vision"), NOW)[0];
        assert_eq!((standing.used, standing.held, standing.passed), (6 * UNIT, 0, true));
    }
    assert!(limits.step(attempt(1), HoldStep::Release).is_err());
    let late = limits.charge(attempt(1), &charge(120, 121, 2)).unwrap();
    assert_eq!(late.gpu_ms, 2 * MINUTE, "late use of a settled hold is an overrun as a whole");
    let holding = limits.holding(attempt(1)).unwrap();
    assert_eq!((holding.charged().micros, holding.overrun().micros), (4_333_333, 1_666_667 + 33_333));
}

#[test]
fn bytes_are_held_with_the_accelerators_and_count_when_they_have_left() {
    let mut limits = tree();
    limits.set_limit(limit("lab", "money", "on-prem", Window::Month, 3 * UNIT), NOW).unwrap();
    let asked = Demand { egress_micros: 2 * UNIT, ..demand("vision", 1, 60) };
    let standing = |limits: &Limits| {
        let standing = &limits.standings(&group("lab"), NOW)[0];
        (standing.used, standing.held)
    };
    limits.hold(attempt(1), asked.clone(), NOW).unwrap();
    assert_eq!(standing(&limits), (0, 3 * UNIT));
    assert!(limits.check(&Demand { egress_micros: 0, ..asked }, NOW).is_err(), "there is no room beside it");
    assert_eq!(limits.charge_egress(attempt(1), UNIT, NOW), Ok(Tally::default()));
    assert_eq!(standing(&limits), (UNIT, 2 * UNIT));
    let beyond = limits.charge_egress(attempt(1), 3 * UNIT, NOW).unwrap();
    assert_eq!((beyond.micros, standing(&limits)), (UNIT, (4 * UNIT, 0)));
    assert_eq!(limits.charge_egress(attempt(2), 1, NOW), Err(HoldError::Unknown { attempt: attempt(2) }));
}

#[test]
fn actions_warn_or_deny_as_they_say() {
    for (action, starts, goes_on) in [
        (Action::Warn, true, true),
        (Action::DenyNew, false, true),
        (Action::Drain, false, false),
        (Action::Stop, false, false),
    ] {
        let mut limits = tree();
        let budget = limit("vision", "money", "everywhere", Window::Month, 2 * UNIT);
        limits.set_limit(Limit { action, thresholds: vec![50, 90], ..budget }, NOW).unwrap();
        limits.hold(attempt(1), demand("vision", 1, 60), NOW).unwrap();
        limits.step(attempt(1), HoldStep::Activate).unwrap();
        assert_eq!(limits.standings(&group("vision"), NOW)[0].reached, Some(50));
        assert_eq!(limits.check(&demand("vision", 2, 60), NOW).is_ok(), starts, "{action:?}");
        limits.extend(attempt(1), 2, NOW).unwrap();
        assert_eq!(limits.extend(attempt(1), 3, NOW) == Ok(Extension::Granted), goes_on, "{action:?}");
        let standing = &limits.standings(&group("vision"), NOW)[0];
        assert_eq!((standing.reached, standing.passed), (Some(90), goes_on), "{action:?}");
    }
}

#[test]
fn a_slice_counts_in_the_months_of_each_group() {
    let mut limits = Limits::new();
    let seoul: Zone = "Asia/Seoul".parse().unwrap();
    limits.set_group(group("lab"), None, Zone::utc(), NOW).unwrap();
    limits.set_group(group("vision"), Some(group("lab")), seoul.clone(), NOW).unwrap();
    let start = at("2026-01-31T14:00:00Z");
    limits.hold(attempt(1), demand("vision", 1, 12 * 60), start).unwrap();
    let slice = Charge { started: start, ..charge(0, 11 * 60, 1) };
    limits.charge(attempt(1), &slice).unwrap();
    let months = |name| {
        let used = limits.usage(&group(name)).into_iter().filter(|used| used.scope == Scope::Everywhere);
        used.map(|used| (used.month.to_string(), used.amount.micros / UNIT)).collect::<Vec<_>>()
    };
    assert_eq!(months("vision"), [("2026-01".to_owned(), 1), ("2026-02".to_owned(), 10)]);
    assert_eq!(months("lab"), [("2026-01".to_owned(), 10), ("2026-02".to_owned(), 1)]);
    assert_eq!(limits.zone(&group("vision")), Some(&seoul));
    // A later zone does not count again what was counted.
    limits.set_group(group("vision"), Some(group("lab")), Zone::utc(), NOW).unwrap();
    assert_eq!(limits.usage(&group("vision"))[0].amount.micros, UNIT);
}

#[test]
fn a_transfer_counts_in_its_window_and_once() {
    let mut limits = tree();
    for child in ["vision", "audio"] {
        limits.set_limit(limit(child, "money", "everywhere", Window::Month, 8 * UNIT), NOW).unwrap();
    }
    limits.hold(attempt(1), demand("vision", 3, 60), NOW).unwrap();
    let id = |child| limit(child, "money", "everywhere", Window::Month, 0).id;
    let transfer = |key: &str, amount: i64, effective: UnixMs| Transfer {
        key: key.to_owned(),
        from: id("vision"),
        to: id("audio"),
        amount,
        effective,
        recorded: NOW,
        by: "ada".parse().unwrap(),
        because: "the deadline".to_owned(),
    };
    let nominal = |limits: &Limits, name, at| limits.standings(&group(name), at)[0].nominal / UNIT;
    let error = limits.transfer(&transfer("t", 5 * UNIT + 1, NOW), NOW).unwrap_err().to_string();
    assert!(error.contains("only 5.00 is left"), "{error}");
    for _ in 0..2 {
        limits.transfer(&transfer("t", 5 * UNIT, NOW), NOW).unwrap();
        assert_eq!((nominal(&limits, "vision", NOW), nominal(&limits, "audio", NOW)), (3, 13));
    }
    let next = at("2026-02-01T00:00:00Z");
    assert_eq!((nominal(&limits, "vision", next), nominal(&limits, "audio", next)), (8, 8));
    assert!(
        limits.transfer(&transfer("next", 6 * UNIT, next), NOW).is_err(),
        "what is held now may be held then"
    );
    limits.transfer(&transfer("next", 5 * UNIT, next), NOW).unwrap();
    assert_eq!((nominal(&limits, "vision", next), nominal(&limits, "vision", NOW)), (3, 3));
    let why = limits.check(&demand("audio", 9, 60), NOW).unwrap_err();
    assert_eq!(
        (why.kind, why.shortfall),
        (LimitRefusalKind::UnsafeWithRunning, UNIT),
        "it could last into the next month"
    );
    let over = at("2025-12-31T00:00:00Z");
    let to_itself = Transfer { to: id("vision"), ..transfer("self", 1, NOW) };
    let wrong = [transfer("t", UNIT, NOW), transfer("past", UNIT, over), transfer("nil", 0, NOW), to_itself];
    for wrong in wrong {
        assert!(limits.transfer(&wrong, NOW).is_err(), "{wrong:?}");
    }
    assert_eq!(limits.transfers().count(), 2);
}

#[test]
fn changes_that_would_break_something_are_refused_and_change_nothing() {
    let mut limits = tree();
    limits.set_limit(limit("lab", "money", "everywhere", Window::Month, 10 * UNIT), NOW).unwrap();
    limits.hold(attempt(1), demand("deep", 4, 60), NOW).unwrap();
    let before = limits.clone();
    let parent = |name: &str| Some(group(name));
    for (name, above) in [("lab", "deep"), ("lab", "lab"), ("new", "new")] {
        let error = limits.set_group(group(name), parent(above), Zone::utc(), NOW).unwrap_err();
        assert!(matches!(error, LimitsError::Cycle { .. }), "{error}");
    }
    assert!(limits.set_group(group("x"), parent("nobody"), Zone::utc(), NOW).is_err());
    let error =
        limits.set_limit(limit("lab", "money", "everywhere", Window::Month, 4 * UNIT - 1), NOW).unwrap_err();
    assert!(error.to_string().contains("used 0.00, held 4.00): set it to 4.00 or more"), "{error}");
    let error =
        limits.set_limit(limit("vision", "money", "everywhere", Window::Month, UNIT), NOW).unwrap_err();
    assert!(error.to_string().contains("set it to 4.00 or more"), "{error}");
    let error = limits.remove_group(&group("deep")).unwrap_err();
    assert!(matches!(error, LimitsError::OpenHolds { holds: 1, .. }), "{error}");
    assert!(matches!(limits.remove_group(&group("lab")), Err(LimitsError::HasChildren { .. })));
    assert!(limits.remove_group(&group("nobody")).is_err());
    let unknown = limit("nobody", "money", "everywhere", Window::Month, 1);
    assert!(
        limits.set_limit(unknown.clone(), NOW).is_err() && limits.remove_limit(&unknown.id, NOW).is_err()
    );
    assert_eq!(limits, before);
    limits.set_limit(limit("lab", "money", "everywhere", Window::Month, 4 * UNIT), NOW).unwrap();
    limits.step(attempt(1), HoldStep::Release).unwrap();
    limits.remove_group(&group("deep")).unwrap();
    assert!(limits.standings(&group("deep"), NOW).is_empty());
}

#[test]
fn a_group_takes_what_it_holds_along_when_it_moves() {
    let mut limits = tree();
    limits.set_limit(limit("audio", "money", "everywhere", Window::Month, 3 * UNIT), NOW).unwrap();
    limits.set_limit(limit("audio", "concurrent-gpus", "everywhere", Window::Instant, 900), NOW).unwrap();
    limits.hold(attempt(1), demand("deep", 4, 60), NOW).unwrap();
    let move_to_audio =
        |limits: &mut Limits| limits.set_group(group("deep"), Some(group("audio")), Zone::utc(), NOW);
    let error = move_to_audio(&mut limits).unwrap_err();
    assert!(matches!(error, LimitsError::BelowUse { held: 4_000_000, .. }), "{error}");
    limits.set_limit(limit("audio", "money", "everywhere", Window::Month, 4 * UNIT), NOW).unwrap();
    move_to_audio(&mut limits).unwrap();
    assert_eq!(
        limits.standings(&group("audio"), NOW).iter().map(|s| s.used + s.held).collect::<Vec<_>>(),
        [4 * UNIT, 400]
    );
}

#[test]
fn the_bounds_of_the_tree_hold_at_their_edges() {
    let mut limits = Limits::new();
    let name = |depth: usize| group(&format!("g{depth}"));
    for depth in 0..32 {
        let parent = (depth > 0).then(|| name(depth - 1));
        limits.set_group(name(depth), parent, Zone::utc(), NOW).unwrap();
    }
    let deeper = limits.set_group(name(32), Some(name(31)), Zone::utc(), NOW).unwrap_err();
    assert!(matches!(deeper, LimitsError::TooDeep { depth: 33, .. }), "{deeper}");
    limits.set_group(group("top"), None, Zone::utc(), NOW).unwrap();
    assert!(matches!(
        limits.set_group(name(0), Some(group("top")), Zone::utc(), NOW),
        Err(LimitsError::TooDeep { .. })
    ));
    for class in 0..64 {
        limits.set_limit(limit("g0", "money", &format!("class:X{class}"), Window::Month, 1), NOW).unwrap();
    }
    let more = limits.set_limit(limit("g0", "money", "cloud", Window::Month, 1), NOW);
    assert_eq!(more, Err(LimitsError::TooMany { group: group("g0") }));
    limits.set_limit(limit("g0", "money", "class:X0", Window::Month, 2), NOW).unwrap();
}

#[test]
fn a_move_between_sites_swaps_holds_or_changes_nothing() {
    let mut limits = tree();
    limits.set_limit(limit("vision", "money", "everywhere", Window::Month, 5 * UNIT), NOW).unwrap();
    limits.set_limit(limit("vision", "concurrent-gpus", "everywhere", Window::Instant, 400), NOW).unwrap();
    limits.hold(attempt(1), demand("vision", 4, 60), NOW).unwrap();
    let before = limits.clone();
    let mut busan = demand("vision", 4, 80);
    busan.place.site = "busan".parse().unwrap();
    assert!(limits.swap(attempt(1), attempt(2), busan.clone(), NOW).is_err());
    assert_eq!(
        (&limits, limits.standings(&group("vision"), NOW)),
        (&before, before.standings(&group("vision"), NOW))
    );
    busan.terms = terms(75);
    for _ in 0..2 {
        limits.swap(attempt(1), attempt(2), busan.clone(), NOW).unwrap();
        let standings = limits.standings(&group("vision"), NOW);
        assert_eq!((standings[0].held, standings[1].used), (5 * UNIT, 400));
    }
    limits.forget(attempt(2));
    assert!(limits.holding(attempt(2)).is_some(), "it is not over");
    limits.forget(attempt(1));
    assert!(limits.holding(attempt(1)).is_none());
}

#[test]
fn a_stored_tree_that_cannot_be_is_refused() {
    let row = |name: &str, parent: &str| format!(r#""{name}":{{"parent":"{parent}"}}"#);
    let read =
        |rows: &[String]| serde_json::from_str::<Limits>(&format!(r#"{{"groups":{{{}}}}}"#, rows.join(",")));
    let error = read(&[row("a", "b"), row("b", "a")]).unwrap_err().to_string();
    assert!(error.contains("loop"), "{error}");
    assert!(read(&[row("a", "b")]).unwrap_err().to_string().contains("there is no group `b`"));
    assert!(read(&[]).unwrap().is_unbounded());
}

#[test]
fn a_group_has_its_own_currency_or_that_of_the_nearest_group_above_it() {
    let mut limits = tree();
    let mut set = |name: &str, currency: Option<&str>| {
        let currency = currency.map(|code| code.parse().unwrap());
        limits.change(&LimitsChange::Currency { group: group(name), currency }, NOW).unwrap();
        ["lab", "vision", "deep", "audio"].map(|name| limits.currency(&group(name)).to_string())
    };
    assert_eq!(set("vision", Some("EUR")), ["USD", "EUR", "EUR", "USD"]);
    assert_eq!(set("lab", Some("KRW")), ["KRW", "EUR", "EUR", "KRW"]);
    assert_eq!(set("vision", None), ["KRW", "KRW", "KRW", "KRW"]);
    assert_eq!(limits.own_currency(&group("vision")), None);
    // Its place in the tree changes what it is told amounts in, and a new place keeps what is its own.
    limits.set_group(group("vision"), None, Zone::utc(), NOW).unwrap();
    assert_eq!(limits.currency(&group("deep")).to_string(), "USD");
}

#[test]
fn rows_make_the_same_limits_again() {
    let mut limits = tree();
    let change = |limit| LimitsChange::Set { limit };
    let grant = Window::Grant { from: UnixMs(0), to: at("2027-01-01T00:00:00Z") };
    let weight = WeightChange { class: "H100".parse().unwrap(), weight: 250, effective: NOW };
    let changes = [
        change(limit("vision", "money", "everywhere", Window::Month, 5 * UNIT)),
        change(limit("audio", "money", "everywhere", Window::Month, 5 * UNIT)),
        change(limit("lab", "money", "everywhere", grant, 9 * UNIT)),
        change(limit("lab", "concurrent-gpus", "on-prem", Window::Instant, 800)),
        LimitsChange::Zone { group: group("vision"), zone: "Asia/Seoul".parse().unwrap() },
        LimitsChange::Currency { group: group("vision"), currency: Some("EUR".parse().unwrap()) },
        LimitsChange::Weigh { weight },
        LimitsChange::Transfer {
            transfer: Transfer {
                key: "t".to_owned(),
                from: limit("vision", "money", "everywhere", Window::Month, 0).id,
                to: limit("audio", "money", "everywhere", Window::Month, 0).id,
                amount: UNIT,
                effective: NOW,
                recorded: NOW,
                by: "ada".parse().unwrap(),
                because: "the deadline".to_owned(),
            },
        },
    ];
    let mut keys: Vec<LimitKey> =
        changes.iter().flat_map(|change| limits.change(change, NOW).unwrap()).collect();
    limits.hold(attempt(1), demand("deep", 2, 60), NOW).unwrap();
    limits.charge(attempt(1), &charge(0, 30, 2)).unwrap();
    let place = demand("deep", 2, 60).place;
    let more = Adjustment { micros: UNIT / 2, ..Adjustment::default() };
    limits.adjust(&group("deep"), &place, &more, NOW);
    assert_eq!(limits.standings(&group("lab"), NOW)[0].used, UNIT + UNIT / 2);
    keys.extend(limits.rows_above(&group("deep")));
    keys.push(LimitKey::Hold(attempt(1)));
    let rows = keys.iter().filter_map(|key| limits.row(key)).map(|row| {
        let json = serde_json::to_string(&row).unwrap();
        serde_json::from_str::<LimitRow>(&json).unwrap()
    });
    let parents = [("lab", None), ("vision", Some("lab")), ("deep", Some("vision")), ("audio", Some("lab"))];
    let parents = || parents.iter().map(|(name, parent)| (group(name), parent.map(group)));
    assert_eq!(Limits::from_rows(parents(), rows).unwrap(), limits);
    assert!(Limits::from_rows(parents(), []).unwrap().is_unbounded(), "of an older database");
    assert_eq!(limits.row(&LimitKey::Hold(attempt(9))), None);
    let unknown = LimitsChange::Zone { group: group("nobody"), zone: Zone::utc() };
    assert!(limits.change(&unknown, NOW).is_err());
}
