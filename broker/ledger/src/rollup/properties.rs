//! What always holds of roll-ups, over random charges with overruns, overheads, egress, reversals and replacements,
//! months with a change of clocks, and a month that was closed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spillway_types::{HourlyRate, Market, UnixMs};

use super::*;
use crate::calendar::{Period, Zone};
use crate::journal::{Fact, Journal, replacement, reversal};
use crate::properties::subject;
use crate::{Hold, Payee, Slice, Subject, Usage, overhead_entry};

/// March 2026: clocks change in Berlin on the 29th and in New York on the 8th.
const MARCH: i64 = 1_772_323_200_000;
const DAY: i64 = 86_400_000;

/// What becomes of a use after it was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    Reversed,
    Replaced,
}

#[derive(Debug, Clone)]
struct Use {
    seed: u64,
    place: usize,
    group: &'static str,
    at: UnixMs,
    span_ms: u64,
    rate: i64,
    hold_micros: i64,
    overhead_micros: i64,
    after: After,
}

/// Site, and the cloud where it is one's.
const PLACES: [(&str, Option<&str>); 4] =
    [("seoul", None), ("desk-7", None), ("us-east-1", Some("aws")), ("eu-west", Some("gcp"))];

fn uses() -> impl Strategy<Value = Vec<Use>> {
    let after = prop::sample::select(vec![After::Nothing, After::Nothing, After::Reversed, After::Replaced]);
    let one = (
        (1_u64..10_000, 0..PLACES.len(), prop::sample::select(vec!["vision", "audio", "deep"])),
        (-3 * DAY..62 * DAY, 1_u64..100_000_000, 0_i64..9_000_000),
        (0_i64..50_000_000, -1_000_000_i64..1_000_000, after),
    );
    let one = one.prop_map(|((seed, place, group), (at, span_ms, rate), (hold, overhead, after))| Use {
        seed,
        place,
        group,
        at: UnixMs(MARCH + at),
        span_ms,
        rate,
        hold_micros: hold,
        overhead_micros: overhead,
        after,
    });
    // One use per seed: it makes the attempt's id, and so the key.
    let distinct = |uses: Vec<Use>| -> Vec<Use> {
        uses.into_iter().map(|it| (it.seed, it)).collect::<BTreeMap<_, _>>().into_values().collect()
    };
    proptest::collection::vec(one, 1..24).prop_map(distinct)
}

fn parties(it: &Use) -> (Subject, Payee) {
    let (site, cloud) = PLACES[it.place];
    let user = if it.seed.is_multiple_of(2) { "ada" } else { "bob" };
    let subject =
        Subject { site: site.parse().unwrap(), user: user.parse().unwrap(), ..subject(it.group, it.seed) };
    let site = subject.site.clone();
    let payee = match cloud {
        Some(cloud) => Payee::Cloud { cloud: cloud.parse().unwrap(), site },
        None => Payee::Site(site),
    };
    (subject, payee)
}

/// What a use was of; nothing is noted of every fifth.
fn usage(it: &Use, offset_ms: u64) -> Option<Usage> {
    let cloud = PLACES[it.place].1;
    let spot = it.seed.is_multiple_of(3);
    let market = if spot { Market::Spot } else { Market::OnDemand };
    let set = |name: &str| name.parse().unwrap();
    let usage = Usage {
        above: vec![],
        pool: Some(if cloud.is_some() { "burst" } else { "dgx" }.parse().unwrap()),
        class: (!it.seed.is_multiple_of(4)).then(|| "H100".parse().unwrap()),
        resource: None,
        cloud: cloud.map(|cloud| cloud.parse().unwrap()),
        region: None,
        instance_type: None,
        market: cloud.map(|_| market),
        from: it.at,
        to: UnixMs(it.at.0 + i64::try_from(it.span_ms).unwrap()),
        offset_ms,
        blocks: 100,
        rate: HourlyRate(it.rate),
        list_rate: HourlyRate(it.rate * 2),
        normalised_ms: (it.seed % 7 > 1).then_some(it.span_ms * 5 / 2),
        on_prem_rate: cloud.filter(|_| spot).map(|_| HourlyRate(it.rate / 3)),
        datasets: if it.seed.is_multiple_of(2) { vec![set("web"), set("books"), set("web")] } else { vec![] },
        priced: None,
    };
    (!it.seed.is_multiple_of(5)).then_some(usage)
}

fn entries(it: &Use) -> Vec<Entry> {
    let (subject, payee) = parties(it);
    let (mut hold, placed) = Hold::place(&subject, it.hold_micros);
    let slice = Slice {
        rank: 0,
        from_ms: 0,
        to_ms: it.span_ms,
        rate: HourlyRate(it.rate),
        gpu_blocks: 100 + 50 * it.seed,
    };
    let mut entries = vec![placed];
    let used = usage(it, slice.from_ms);
    let with_usage = |entry: Entry| match &used {
        Some(usage) => entry.effective(it.at).using(usage.clone()),
        None => entry.effective(it.at),
    };
    let charged: Vec<Entry> = hold.charge(&subject, &payee, &slice).into_iter().map(with_usage).collect();
    for entry in charged {
        let (back, right) = (reversal(&entry).unwrap(), replacement(&entry, entry.gpu_ms() / 2, 77).unwrap());
        entries.push(entry);
        match it.after {
            After::Nothing => {}
            After::Reversed => entries.push(back),
            After::Replaced => entries.extend([back, right]),
        }
    }
    entries.extend(overhead_entry(&subject, &payee, it.overhead_micros).map(|entry| entry.effective(it.at)));
    let price = "0.09".parse().unwrap();
    let sent = hold.charge_egress(&subject, &payee, "0/set/0", price, (0, it.span_ms));
    entries.extend(sent.map(|entry| entry.effective(it.at)));
    entries.extend(hold.settle(&subject));
    entries
}

/// A journal in which February is closed half-way, so that some of what comes later is late.
fn journal(uses: &[Use]) -> Journal {
    let mut journal = Journal::new(Zone::utc());
    let close_at = uses.len() / 2;
    for (number, it) in uses.iter().enumerate() {
        if number == close_at {
            let february = "2026-02".parse().unwrap();
            journal.close(february, UnixMs(MARCH)).unwrap();
        }
        for entry in entries(it) {
            let at = entry.effective_at().unwrap_or(it.at);
            journal.post(&Fact::Entry(entry), at, it.at).unwrap();
        }
    }
    journal
}

/// The charges of a journal with their instants.
fn charges(journal: &Journal) -> Vec<(UnixMs, Charge)> {
    let of = |record: &crate::journal::Record| match record.fact().unwrap() {
        Fact::Entry(entry) => {
            Some((record.effective_at, Charge::of(&entry, record.effective_at, record.booked)?))
        }
        Fact::Statement(_) => None,
    };
    journal.records().iter().filter_map(of).collect()
}

fn fold<'a>(charges: impl IntoIterator<Item = &'a (UnixMs, Charge)>) -> Rollup {
    let mut rollup = Rollup::new();
    charges.into_iter().for_each(|(_, charge)| rollup.add(charge.clone()));
    rollup
}

fn zones() -> impl Strategy<Value = Zone> {
    let names = vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Seoul",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
    ];
    prop::sample::select(names).prop_map(|name| name.parse().unwrap())
}

/// A bucket as the store adds it up: whole months and days from the roll-up, the edges from the charges.
fn covered(bucket: &Bucket, rollup: &Rollup, charges: &[(UnixMs, Charge)]) -> Measures {
    let months = rollup.by_month();
    let within = |rows: &Rollup, piece: &Piece| -> Measures {
        let inside = |day: Day| (piece.from..piece.to).contains(&day.number());
        rows.rows().iter().filter(|(key, _)| inside(key.day)).map(|(_, measures)| *measures).sum()
    };
    let sum = |piece: &Piece| match piece.grain {
        Grain::Month => within(&months, piece),
        Grain::Day => within(rollup, piece),
        Grain::Instant => {
            let inside = charges.iter().filter(|(at, _)| (piece.from..piece.to).contains(&at.0));
            inside.map(|(_, charge)| charge.measures).sum()
        }
    };
    cover(bucket.from, bucket.to).iter().map(sum).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Invariant 6: by whatever it is added up, it comes to the same, and that is what the ledger says was spent.
    #[test]
    fn every_breakdown_reaches_the_total_of_the_ledger(uses in uses()) {
        let journal = journal(&uses);
        let rollup = fold(&charges(&journal));
        let total = rollup.total();
        let spent = |account: &Account| matches!(account, Account::Spend(_));
        let ledger: i64 = journal.balances().iter().filter(|(account, _)| spent(account)).map(|(_, micros)| micros).sum();
        prop_assert_eq!(total.spend_micros, i128::from(ledger));
        let sums: [Measures; 8] = [
            rollup.by(|it| it.site.clone()).into_values().sum(),
            rollup.by(|it| it.provider.clone()).into_values().sum(),
            rollup.by(|it| it.class.clone()).into_values().sum(),
            rollup.by(|it| it.group.clone()).into_values().sum(),
            rollup.by(|it| it.booked).into_values().sum(),
            rollup.by(|it| (it.pool.clone(), it.market.clone())).into_values().sum(),
            rollup.by(|it| (it.user.clone(), it.day)).into_values().sum(),
            rollup.by_month().total(),
        ];
        for sum in sums {
            prop_assert_eq!(sum, total);
        }
        for (group, sum) in rollup.by(|it| it.group.clone()) {
            prop_assert_eq!(sum.spend_micros, i128::from(journal.balances()[&Account::Spend(group)]));
        }
    }

    /// Any parts in any order give the same: adding is associative and commutative.
    #[test]
    fn kept_up_in_any_parts_and_order_it_is_the_one_made_from_the_journal(
        uses in uses(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5), turn in any::<prop::sample::Index>(),
    ) {
        let journal = journal(&uses);
        let charges = charges(&journal);
        let rebuilt = fold(&charges);
        let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut.index(charges.len() + 1)).collect();
        bounds.extend([0, charges.len()]);
        bounds.sort_unstable();
        let mut parts: Vec<Rollup> = bounds.windows(2).map(|it| fold(&charges[it[0]..it[1]])).collect();
        let count = parts.len();
        parts.rotate_left(turn.index(count));
        let mut kept = Rollup::new();
        parts.into_iter().for_each(|part| kept.merge(part));
        prop_assert_eq!(&kept, &rebuilt);
        prop_assert_eq!(rebuilt.differences(&kept), []);
    }

    /// What is charged and taken back whole leaves no row.
    #[test]
    fn what_is_taken_back_comes_to_nothing(uses in uses()) {
        let mut rollup = Rollup::new();
        let booked = "2026-03".parse().unwrap();
        for it in &uses {
            for entry in entries(it).iter().filter(|entry| entry.amends().is_none()) {
                let Some(charge) = Charge::of(entry, it.at, booked) else { continue };
                rollup.add(charge);
                rollup.add(Charge::of(&reversal(entry).unwrap(), it.at, booked).unwrap());
            }
        }
        prop_assert_eq!(rollup, Rollup::new());
    }

    /// Invariant 13: a zone changes the buckets and nothing else.
    #[test]
    fn a_zone_changes_only_the_buckets(
        uses in uses(), zone in zones(), unit in prop::sample::select(vec![Unit::Month, Unit::Week, Unit::Day]),
    ) {
        let journal = journal(&uses);
        let charges = charges(&journal);
        let rollup = fold(&charges);
        let (from, to) = (UnixMs(MARCH - 40 * DAY), UnixMs(MARCH + 70 * DAY));
        let found = buckets(from, to, unit, &zone).unwrap();
        let mut total = Measures::default();
        for bucket in &found {
            let sum = covered(bucket, &rollup, &charges);
            let inside = charges.iter().filter(|(at, _)| bucket.from <= *at && *at < bucket.to);
            prop_assert_eq!(sum, inside.clone().map(|(_, charge)| charge.measures).sum::<Measures>());
            if unit == Unit::Month {
                for (at, _) in inside {
                    prop_assert_eq!(Period::of(*at, &zone).to_string(), bucket.name.clone());
                }
            }
            total += sum;
        }
        prop_assert_eq!(total, rollup.total());
    }

    /// The pieces of any stretch tile it.
    #[test]
    fn pieces_tile_the_stretch(from in -40 * DAY..400 * DAY, span in 0..400 * DAY) {
        let (from, to) = (UnixMs(MARCH + from), UnixMs(MARCH + from + span));
        let mut at = from.0;
        for piece in cover(from, to) {
            let ms = |bound: i64| match piece.grain {
                Grain::Month | Grain::Day => Day::numbered(bound).start().0,
                Grain::Instant => bound,
            };
            prop_assert_eq!(ms(piece.from), at);
            prop_assert!(piece.from < piece.to);
            if piece.grain == Grain::Month {
                prop_assert_eq!(month_of(Day::numbered(piece.from)).number(), piece.from);
                prop_assert_eq!(month_of(Day::numbered(piece.to)).number(), piece.to);
            }
            at = ms(piece.to);
        }
        prop_assert_eq!(at, to.0);
    }

    /// A row that is off by anything is found, and said by name.
    #[test]
    fn a_row_that_is_off_is_found(uses in uses(), which in any::<prop::sample::Index>(), off in 1_i64..1000) {
        let rollup = fold(&charges(&journal(&uses)));
        prop_assume!(!rollup.rows().is_empty());
        let dimensions = rollup.rows().keys().nth(which.index(rollup.rows().len())).unwrap().clone();
        let mut stored = rollup.clone();
        let more = Measures { spend_micros: i128::from(off), ..Measures::default() };
        stored.add_row(dimensions.clone(), more);
        let found = rollup.differences(&stored);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(&found[0].dimensions, &dimensions);
        let said = found[0].to_string();
        prop_assert!(said.contains(dimensions.group.as_str()) && said.contains("micros spent"), "{}", said);
        let mut gone = Rollup::new();
        rollup.rows().iter().filter(|(key, _)| **key != dimensions).for_each(|(key, sum)| gone.add_row(key.clone(), *sum));
        let by_day = |found: Vec<Difference>| found.iter().filter(|it| it.dataset.is_none()).count();
        prop_assert_eq!((by_day(rollup.differences(&gone)), by_day(gone.differences(&rollup))), (1, 1));
    }
}

#[test]
fn unit_cost_is_rounded_to_the_nearest_micro() {
    let cost =
        |spend_micros, gpu_ms| Measures { spend_micros, gpu_ms, ..Measures::default() }.micros_per_gpu_hour();
    assert_eq!(cost(5_000_000, 3_600_000), Some(5_000_000));
    assert_eq!(cost(1, 7_200_000), Some(1), "half a micro is rounded up");
    assert_eq!(cost(10, 3 * 3_600_000), Some(3));
    assert_eq!(cost(5, 0), None);
}

/// A slice of two hours on a spot machine at 1.00 an hour that costs 3.00 on demand, of which the hold covers half.
#[test]
fn savings_are_those_of_slices_that_have_a_list_price_and_count_once() {
    let it = Use {
        seed: 3,
        place: 2,
        group: "vision",
        at: UnixMs(MARCH),
        span_ms: 7_200_000,
        rate: 1_000_000,
        hold_micros: 1_000_000,
        overhead_micros: 500_000,
        after: After::Nothing,
    };
    let all = entries(&it);
    assert!(all.iter().any(|entry| entry.kind() == EntryKind::Overrun));
    let charges = all.iter().filter_map(|entry| Charge::of(entry, it.at, "2026-03".parse().unwrap()));
    let (mut rollup, mut datasets) = (Rollup::new(), 0);
    for charge in charges {
        datasets += charge.datasets.len();
        rollup.add(charge);
    }
    let total = rollup.total();
    assert_eq!(
        (total.listed_micros, total.list_micros, total.saved_micros()),
        (2_000_000, 4_000_000, 2_000_000)
    );
    assert_eq!((total.overhead_micros, total.slices, datasets), (500_000, 1, 0));
    let row = rollup.rows().keys().find(|row| !row.class.is_empty()).unwrap();
    assert_eq!((row.pool.as_str(), row.class.as_str(), row.market.as_str()), ("burst", "H100", "spot"));
    let read_two = Use { seed: 2, ..it };
    let charge = entries(&read_two)
        .iter()
        .find_map(|entry| Charge::of(entry, read_two.at, "2026-03".parse().unwrap()));
    assert_eq!(charge.unwrap().datasets, ["books", "web"]);
}
