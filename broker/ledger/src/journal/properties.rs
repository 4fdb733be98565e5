//! The journal's invariants as properties: over random uses, prices, duplicates, orders, cuts and closes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spillway_types::{HourlyRate, UnixMs};

use super::*;
use crate::calendar::Period;
use crate::properties::{payee, subject};
use crate::rates::{RateTrack, tiles};
use crate::{Entry, Hold, Payee, Slice, Subject};

/// One use as its source reports it.
#[derive(Debug, Clone)]
struct Use {
    seed: u64,
    group: &'static str,
    cloud: bool,
    start: UnixMs,
    from_ms: u64,
    to_ms: u64,
    rate: i64,
}

/// March 2026 in Berlin has a change of clocks.
const MARCH: i64 = 1_772_323_200_000;

fn uses() -> impl Strategy<Value = Vec<Use>> {
    let one = (
        1_u64..1000,
        prop::sample::select(vec!["vision", "audio", "deep"]),
        any::<bool>(),
        0_i64..32 * 86_400_000,
        0_u64..86_400_000,
        1_u64..3 * 86_400_000,
        0_i64..50_000_000,
    );
    let one = one.prop_map(|(seed, group, cloud, at, from_ms, span, rate)| Use {
        seed,
        group,
        cloud,
        start: UnixMs(MARCH + at),
        from_ms,
        to_ms: from_ms + span,
        rate,
    });
    // One use per seed: it makes the attempt's id, and so the key.
    let distinct = |uses: Vec<Use>| -> Vec<Use> {
        uses.into_iter().map(|it| (it.seed, it)).collect::<BTreeMap<_, _>>().into_values().collect()
    };
    proptest::collection::vec(one, 1..12).prop_map(distinct)
}

fn parties(it: &Use) -> (Subject, Payee) {
    let cloud = Payee::Cloud { cloud: "aws".parse().unwrap(), site: "us-east-1".parse().unwrap() };
    (subject(it.group, it.seed), if it.cloud { cloud } else { payee() })
}

/// What one use is charged, cut into tiles, each from a hold that covers half of it.
fn charges(it: &Use, zone: &Zone) -> Vec<(Entry, UnixMs)> {
    let (subject, payee) = parties(it);
    let whole = HourlyRate(it.rate).cost_micros(1, 1, it.from_ms, it.to_ms);
    let (mut hold, placed) = Hold::place(&subject, whole / 2);
    let mut entries = vec![(placed, it.start)];
    for tile in tiles(it.start, (it.from_ms, it.to_ms), &RateTrack::constant(HourlyRate(it.rate)), zone) {
        let (from_ms, to_ms, rate) = (tile.from_ms, tile.to_ms, tile.rate);
        let slice = Slice { rank: 0, from_ms, to_ms, rate, gpu_blocks: 400 };
        let charged = hold.charge(&subject, &payee, &slice);
        entries.extend(charged.into_iter().map(|entry| (entry.effective(tile.at), tile.at)));
    }
    entries.extend(hold.settle(&subject).map(|entry| (entry, it.start)));
    entries
}

fn post_all(journal: &mut Journal, uses: &[Use], zone: &Zone, now: UnixMs) {
    for (entry, at) in uses.iter().flat_map(|it| charges(it, zone)) {
        journal.post(&Fact::Entry(entry), at, now).unwrap();
    }
}

fn journal_of(uses: &[Use], zone: &Zone) -> Journal {
    let mut journal = Journal::new(zone.clone());
    post_all(&mut journal, uses, zone, UnixMs(MARCH));
    journal
}

fn lines(journal: &Journal) -> Vec<ExportLine> {
    journal.records().iter().flat_map(ExportLine::of).collect()
}

/// What the source says of a use.
fn said(it: &Use) -> UsageEvent {
    let attempt = subject(it.group, it.seed).attempt;
    UsageEvent { attempt, rank: 0, from_ms: it.from_ms, to_ms: it.to_ms, ended: false }
}

/// Takes events as the broker does: in order from the one that comes next, each once.
struct Broker {
    mark: UsageMark,
    journal: Journal,
}

impl Broker {
    fn new() -> Self {
        Self { mark: UsageMark::default(), journal: Journal::new(Zone::utc()) }
    }

    fn deliver(&mut self, first: u64, events: &[(UsageEvent, &Use)]) {
        if first > self.mark.last() + 1 {
            return;
        }
        for (number, (event, it)) in (first..).zip(events) {
            if self.mark.take(number, event) == Taken::New {
                post_all(&mut self.journal, &[(*it).clone()], &Zone::utc(), UnixMs(MARCH));
            }
        }
    }
}

fn zones() -> impl Strategy<Value = Zone> {
    let names = vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Seoul", "Australia/Lord_Howe"];
    prop::sample::select(names).prop_map(|name| name.parse().unwrap())
}

fn zero(journal: &Journal) -> i64 {
    journal.balances().values().sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// 1: every record sums to zero, all balances do, and the chain holds.
    #[test]
    fn everything_sums_to_zero_and_the_chain_holds(uses in uses(), zone in zones()) {
        let journal = journal_of(&uses, &zone);
        prop_assert_eq!(zero(&journal), 0);
        for record in journal.records() {
            prop_assert_eq!(record.fact().unwrap().postings().iter().map(|it| it.micros).sum::<i64>(), 0);
        }
        prop_assert_eq!(journal.verify(), Ok(()));
    }

    /// 3: any order and any duplication of deliveries gives the same balances, and the marks of both sides agree. Another
    /// payload under a used number is charged nothing where it comes late; where it comes first, the marks differ.
    #[test]
    fn order_and_repetition_of_events_change_nothing(
        uses in uses(),
        deliveries in proptest::collection::vec((any::<prop::sample::Index>(), 1_usize..5), 0..12),
        forged in any::<prop::sample::Index>(),
        late in any::<bool>(),
    ) {
        let sent: Vec<(UsageEvent, &Use)> = uses.iter().map(|it| (said(it), it)).collect();
        let mut source = UsageMark::default();
        (1..).zip(&sent).for_each(|(number, (event, _))| assert_eq!(source.take(number, event), Taken::New));
        let mut straight = Broker::new();
        straight.deliver(1, &sent);
        let mut other = Broker::new();
        for (first, length) in &deliveries {
            let first = first.index(sent.len());
            other.deliver(first as u64 + 1, &sent[first..sent.len().min(first + length)]);
        }
        other.deliver(1, &sent);
        prop_assert_eq!(straight.journal.balances(), other.journal.balances());
        prop_assert_eq!((straight.mark, other.mark), (source, source));

        let place = forged.index(sent.len());
        let (event, it) = sent[place];
        let lie = (UsageEvent { to_ms: event.to_ms + 1, ..event }, it);
        let mut lied = sent.clone();
        lied[place] = lie;
        let mut deceived = Broker::new();
        for events in if late { [&sent, &lied] } else { [&lied, &sent] } {
            deceived.deliver(1, events);
        }
        if late {
            prop_assert_eq!(deceived.journal.balances(), straight.journal.balances());
        }
        prop_assert_eq!(deceived.mark == source, late);
    }

    /// One event that is lost, added, swapped or changed on the way makes the marks differ, and so does every later one.
    #[test]
    fn whatever_does_not_arrive_as_it_was_sent_is_found(
        uses in uses(), place in any::<prop::sample::Index>(), how in 0_u8..4, more in 0_u64..5,
    ) {
        let sent: Vec<UsageEvent> = uses.iter().map(said).collect();
        let (place, mut arrived) = (place.index(sent.len()), sent.clone());
        match how {
            0 => drop(arrived.remove(place)),
            1 => arrived.insert(place, UsageEvent { rank: 7, ..sent[place] }),
            2 if sent.len() > 1 => arrived.swap(place, (place + 1) % sent.len()),
            _ => arrived[place].ended = true,
        }
        let mark = |events: &[UsageEvent]| {
            let mut mark = UsageMark::default();
            (1..).zip(events).for_each(|(number, event)| assert_eq!(mark.take(number, event), Taken::New));
            mark
        };
        let (mut here, mut there) = (mark(&arrived), mark(&sent));
        prop_assert_ne!(here, there);
        for extra in 0..more {
            let event = UsageEvent { from_ms: extra, ..sent[0] };
            here.take(100 + extra, &event);
            there.take(100 + extra, &event);
            prop_assert_ne!(here.hash, there.hash);
        }
    }

    /// 4 and 5: however the reports of a use are cut, its tiles cost what the whole use costs.
    #[test]
    fn cutting_reports_anywhere_conserves_the_cost(it in uses(), cut in any::<prop::sample::Index>(), zone in zones()) {
        let whole = journal_of(&it[..1], &zone);
        let first = &it[0];
        let span = usize::try_from(first.to_ms - first.from_ms).unwrap();
        let at = first.from_ms + u64::try_from(cut.index(span)).unwrap();
        let (subject, payee) = parties(first);
        let (mut hold, _) = Hold::place(&subject, 0);
        let mut spent = 0;
        for part in [(first.from_ms, at), (at, first.to_ms)] {
            for tile in tiles(first.start, part, &RateTrack::constant(HourlyRate(first.rate)), &Zone::utc()) {
                let (from_ms, to_ms, rate) = (tile.from_ms, tile.to_ms, tile.rate);
                let slice = Slice { rank: 0, from_ms, to_ms, rate, gpu_blocks: 400 };
                spent += hold.charge(&subject, &payee, &slice).iter().map(Entry::spend_micros).sum::<i64>();
            }
        }
        prop_assert_eq!(whole.balances().get(&Account::Spend(subject.group)).copied().unwrap_or(0), spent);
    }

    /// 6 and 13: by group, payee, invoice or period the total is the same, in any zone.
    #[test]
    fn every_roll_up_reaches_the_same_total(uses in uses(), zone in zones()) {
        let total = |journal: &Journal| lines(journal).iter().map(|it| it.micros).sum::<i64>();
        let (journal, utc) = (journal_of(&uses, &zone), journal_of(&uses, &Zone::utc()));
        let spent: i64 = journal.balances().iter().filter(|(it, _)| matches!(it, Account::Spend(_))).map(|(_, m)| m).sum();
        let paid: i64 = journal
            .balances()
            .iter()
            .filter(|(it, _)| matches!(it, Account::Revenue(_) | Account::Payable { .. }))
            .map(|(_, m)| m)
            .sum();
        let mut by_period: BTreeMap<Period, i64> = BTreeMap::new();
        for record in journal.records() {
            *by_period.entry(record.booked).or_default() += ExportLine::of(record).iter().map(|it| it.micros).sum::<i64>();
        }
        prop_assert_eq!(total(&journal), spent);
        prop_assert_eq!(paid, -spent);
        prop_assert_eq!(by_period.values().sum::<i64>(), spent);
        prop_assert_eq!(total(&utc), spent, "zones only bucket");
        let gpu_ms = |journal: &Journal| lines(journal).iter().map(|it| it.gpu_ms).sum::<i64>();
        prop_assert_eq!(gpu_ms(&journal), gpu_ms(&utc));
    }

    /// 8: what is late changes no byte of a closed period; reversal + original = 0, on another invoice.
    #[test]
    fn a_closed_period_never_changes(uses in uses(), late in uses(), zone in zones(), pick in any::<prop::sample::Index>()) {
        let march: Period = "2026-03".parse().unwrap();
        let mut journal = journal_of(&uses, &zone);
        let after = march.end(&zone);
        let closed = journal.close(march, after).unwrap();
        let (frozen, before) = (journal.export(march), journal.clone());
        prop_assert_eq!(closed.digest, Some(Digest::of(frozen.as_bytes())));
        let late: Vec<Use> = late.into_iter().map(|it| Use { seed: it.seed + 1000, ..it }).collect();
        post_all(&mut journal, &late, &zone, after);
        let charged: Vec<(Entry, UnixMs)> = uses.iter().flat_map(|it| charges(it, &zone)).filter(|(it, _)| it.spend_micros() > 0).collect();
        if !charged.is_empty() {
            let (original, at) = pick.get(&charged);
            let back = reversal(original).unwrap();
            prop_assert_eq!(back.spend_micros() + original.spend_micros(), 0);
            prop_assert_eq!(back.signed_gpu_ms() + original.signed_gpu_ms(), 0);
            let Posted::New(seq) = journal.post(&Fact::Entry(back.clone()), *at, after).unwrap() else { panic!("known") };
            prop_assert_eq!(journal.post(&Fact::Entry(back), *at, after), Ok(Posted::Known(seq)), "once");
            let record = journal.records().last().unwrap();
            let payee = original.payee().unwrap();
            let happened = Period::of(*at, &zone);
            prop_assert_eq!(record.booked, if happened <= march { march.next() } else { happened });
            if happened <= march {
                prop_assert_ne!(invoice_id(payee, record.booked), invoice_id(payee, march));
            }
        }
        prop_assert_eq!(journal.export(march), frozen);
        prop_assert_eq!(&journal.records()[..before.records().len()], before.records());
        prop_assert_eq!(journal.verify(), Ok(()));
    }

    /// 9: balances made again from the records alone are the balances that were kept.
    #[test]
    fn balances_are_only_a_projection(uses in uses()) {
        let journal = journal_of(&uses, &Zone::utc());
        let mut verifier = Verifier::new();
        for record in journal.records() {
            verifier.record(record).unwrap();
        }
        let again: BTreeMap<Account, i64> =
            verifier.balances().iter().map(|(account, sum)| (account.clone(), i64::try_from(*sum).unwrap())).collect();
        prop_assert_eq!(&again, journal.balances());
    }

    /// A key is good for one fact.
    #[test]
    fn the_same_fact_is_posted_once_and_another_under_its_key_is_refused(uses in uses()) {
        let mut journal = journal_of(&uses, &Zone::utc());
        let before = journal.clone();
        post_all(&mut journal, &uses, &Zone::utc(), UnixMs(i64::MAX));
        prop_assert_eq!(&journal, &before, "all of it was known");
        let dearer = Use { rate: uses[0].rate + 1_000_000, ..uses[0].clone() };
        let changed = charges(&dearer, &Zone::utc()).into_iter().find(|(it, _)| it.spend_micros() != 0).unwrap();
        let refused = journal.post(&Fact::Entry(changed.0), changed.1, UnixMs(0));
        let conflict = matches!(refused, Err(PostError::Conflict { .. }));
        prop_assert!(conflict, "{:?}", refused);
        prop_assert_eq!(&journal, &before);
    }
}
