//! The invariants of the whole crate as properties, and the fixtures that its tests share.

use proptest::prelude::*;
use spillway_types::{AttemptId, HourlyRate, InstanceId, JobId, SequentialIds};

use crate::*;

pub(crate) fn subject(group: &str, seed: u64) -> Subject {
    let mut ids = SequentialIds::new(seed);
    Subject {
        group: group.parse().unwrap(),
        user: "ada".parse().unwrap(),
        site: "seoul".parse().unwrap(),
        job: JobId::generate(&mut ids),
        attempt: AttemptId::generate(&mut ids),
        instance: Some(InstanceId::generate(&mut ids)),
    }
}

pub(crate) fn payee() -> Payee {
    Payee::Site("seoul".parse().unwrap())
}

/// lab (limit) over vision (limit) over deep (none), and lab over audio (limit above lab's).
pub(crate) fn tree() -> Book {
    let mut book = Book::new();
    for (name, parent, limit) in [
        ("lab", None, Some(10_000_000)),
        ("vision", Some("lab"), Some(6_000_000)),
        ("deep", Some("vision"), None),
        ("audio", Some("lab"), Some(20_000_000)),
    ] {
        let parent = parent.map(|parent| parent.parse().unwrap());
        book.set_group(name.parse().unwrap(), parent, limit).unwrap();
    }
    book
}

const GROUPS: [&str; 4] = ["lab", "vision", "deep", "audio"];

/// What can happen to one attempt of a group.
#[derive(Debug, Clone)]
enum Step {
    Place { group: usize, micros: i64 },
    Charge { which: usize, span_ms: u64, rate: i64 },
    Settle { which: usize },
    Overhead { which: usize, micros: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..GROUPS.len(), 0_i64..5_000_000).prop_map(|(group, micros)| Step::Place { group, micros }),
        6 => (0_usize..16, 0_u64..4_000_000, 0_i64..4_000_000)
            .prop_map(|(which, span_ms, rate)| Step::Charge { which, span_ms, rate }),
        2 => (0_usize..16).prop_map(|which| Step::Settle { which }),
        1 => (0_usize..16, -100_000_i64..500_000).prop_map(|(which, micros)| Step::Overhead { which, micros }),
    ];
    proptest::collection::vec(step, 0..60)
}

/// Whether attempts may cost more than their holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overruns {
    Happen,
    Never,
}

struct Attempt {
    subject: Subject,
    hold: Hold,
    edge_ms: u64,
}

/// A ledger that is driven by random steps, and all the entries it made.
struct World {
    book: Book,
    attempts: Vec<Attempt>,
    entries: Vec<Entry>,
    overruns: Overruns,
}

impl World {
    fn new(overruns: Overruns) -> Self {
        Self { book: tree(), attempts: Vec::new(), entries: Vec::new(), overruns }
    }

    fn take(&mut self, step: &Step) {
        let count = self.attempts.len();
        let entries = match step {
            Step::Place { group, micros } => self.place(GROUPS[*group], *micros),
            Step::Charge { .. } | Step::Settle { .. } | Step::Overhead { .. } if count == 0 => Vec::new(),
            Step::Charge { which, span_ms, rate } => self.charge(which % count, *span_ms, *rate),
            Step::Settle { which } => {
                let attempt = &mut self.attempts[which % count];
                attempt.hold.settle(&attempt.subject).into_iter().collect()
            }
            Step::Overhead { .. } if self.overruns == Overruns::Never => Vec::new(),
            Step::Overhead { which, micros } => {
                let attempt = &self.attempts[which % count];
                overhead_entry(&attempt.subject, &payee(), *micros).into_iter().collect()
            }
        };
        for entry in &entries {
            self.book.apply(entry);
        }
        self.entries.extend(entries);
    }

    fn place(&mut self, group: &str, micros: i64) -> Vec<Entry> {
        let subject = subject(group, self.attempts.len() as u64 + 1);
        if self.book.can_hold(&subject.group, micros).is_err() {
            return Vec::new();
        }
        let (hold, entry) = Hold::place(&subject, micros);
        self.attempts.push(Attempt { subject, hold, edge_ms: 0 });
        vec![entry]
    }

    fn charge(&mut self, which: usize, span_ms: u64, rate: i64) -> Vec<Entry> {
        let attempt = &mut self.attempts[which];
        let to_ms = attempt.edge_ms + span_ms;
        let slice =
            Slice { rank: 0, from_ms: attempt.edge_ms, to_ms, rate: HourlyRate(rate), gpu_blocks: 150 };
        if self.overruns == Overruns::Never && slice.cost_micros() > attempt.hold.left_micros() {
            return Vec::new();
        }
        attempt.edge_ms = to_ms;
        attempt.hold.charge(&attempt.subject, &payee(), &slice)
    }
}

fn sum(entry: &Entry) -> i64 {
    entry.postings().iter().map(|posting| posting.micros).sum()
}

/// Hands the reports in, each again and again until none is left that a gap keeps out.
fn charge_reports(reports: &[(u64, u64)], cap_ms: u64) -> (i64, u64, u64) {
    let subject = subject("vision", 1);
    let (mut hold, _) = Hold::place(&subject, 1_000_000_000);
    let mut slices = SliceBook::new();
    let mut gpu_ms = 0;
    for _ in 0..=reports.len() {
        for (from, to) in reports {
            if let Ok(Accepted::Slice { from_ms, to_ms }) = slices.accept(0, *from, *to, cap_ms) {
                let slice = Slice { rank: 0, from_ms, to_ms, rate: HourlyRate(2_490_000), gpu_blocks: 33 };
                gpu_ms += hold.charge(&subject, &payee(), &slice).iter().map(Entry::gpu_ms).sum::<u64>();
            }
        }
    }
    (hold.charged_micros(), gpu_ms, slices.charged_ms(0))
}

proptest! {
    #[test]
    fn entries_and_the_book_always_balance(steps in steps()) {
        let mut world = World::new(Overruns::Happen);
        for step in &steps {
            world.take(step);
            prop_assert_eq!(world.book.imbalance(), 0);
        }
        for entry in &world.entries {
            prop_assert_eq!(sum(entry), 0, "{:?}", entry);
        }
        let held: i64 = world.attempts.iter().map(|attempt| attempt.hold.left_micros()).sum();
        prop_assert_eq!(world.book.held(&"lab".parse().unwrap()), held);
        prop_assert_eq!(world.book.balance(&Account::Committed), -held);
    }

    #[test]
    fn spend_rolls_up_to_the_same_total_by_group_payee_and_hold(steps in steps()) {
        let mut world = World::new(Overruns::Happen);
        steps.iter().for_each(|step| world.take(step));
        let spent = world.book.spent(&"lab".parse().unwrap());
        let by_entry: i64 = world.entries.iter().map(Entry::spend_micros).sum();
        let leaves: i64 = GROUPS.iter().map(|g| world.book.balance(&Account::Spend(g.parse().unwrap()))).sum();
        let overhead = world.entries.iter().filter(|entry| entry.kind() == EntryKind::Overhead);
        let by_hold: i64 = world.attempts.iter().map(|a| a.hold.charged_micros() + a.hold.overrun_micros()).sum();
        prop_assert_eq!(by_entry, spent);
        prop_assert_eq!(leaves, spent);
        prop_assert_eq!(world.book.balance(&payee().account()), -spent);
        prop_assert_eq!(by_hold + overhead.map(Entry::spend_micros).sum::<i64>(), spent);
    }

    #[test]
    fn without_overrun_spent_and_held_stay_within_every_limit(steps in steps()) {
        let mut world = World::new(Overruns::Never);
        for step in &steps {
            world.take(step);
            for (name, limit) in world.book.groups() {
                let used = world.book.spent(name) + world.book.held(name);
                prop_assert!(limit.limit_micros.is_none_or(|limit| used <= limit), "{}: {}", name, used);
                prop_assert!(world.book.left(name).is_none_or(|left| left >= 0));
            }
        }
    }

    #[test]
    fn a_settled_attempt_leaves_nothing_held_or_committed(steps in steps()) {
        let mut world = World::new(Overruns::Happen);
        steps.iter().for_each(|step| world.take(step));
        for attempt in &mut world.attempts {
            world.entries.extend(attempt.hold.settle(&attempt.subject).inspect(|entry| world.book.apply(entry)));
            prop_assert_eq!(attempt.hold.settle(&attempt.subject), None);
            let own = || world.entries.iter().filter(|entry| entry.subject().attempt == attempt.subject.attempt);
            prop_assert!(own().filter(|entry| entry.kind() == EntryKind::Release).count() <= 1);
            for account in [Account::Held(attempt.subject.group.clone()), Account::Committed] {
                let postings = own().flat_map(Entry::postings).filter(|posting| posting.account == account);
                prop_assert_eq!(postings.map(|posting| posting.micros).sum::<i64>(), 0, "{}", account);
            }
        }
        prop_assert_eq!(world.book.balance(&Account::Committed), 0);
        for group in GROUPS {
            prop_assert_eq!(world.book.balance(&Account::Held(group.parse().unwrap())), 0);
        }
    }

    #[test]
    fn a_book_made_again_from_its_entries_or_its_stored_form_is_the_same(steps in steps()) {
        let mut world = World::new(Overruns::Happen);
        steps.iter().for_each(|step| world.take(step));
        let mut again = tree();
        world.entries.iter().rev().for_each(|entry| again.apply(entry));
        prop_assert_eq!(&again, &world.book);
        let json = serde_json::to_string(&world.book).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Book>(&json).unwrap(), &world.book);
    }

    #[test]
    fn the_keys_of_all_entries_differ(steps in steps()) {
        let mut world = World::new(Overruns::Happen);
        // An attempt has one overhead entry, and an empty slice is never accepted.
        let steps = steps.iter().filter(|step| !matches!(step, Step::Overhead { .. } | Step::Charge { span_ms: 0, .. }));
        steps.for_each(|step| world.take(step));
        let keys: std::collections::BTreeSet<_> = world.entries.iter().map(Entry::key).collect();
        prop_assert_eq!(keys.len(), world.entries.len());
    }

    #[test]
    fn reordered_and_repeated_reports_charge_the_same(
        cuts in proptest::collection::btree_set(1_u64..10_000_000, 1..12),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
        cap_ms in prop_oneof![Just(u64::MAX), 0_u64..12_000_000],
        order in any::<u64>(),
    ) {
        let edges: Vec<u64> = std::iter::once(0).chain(cuts.iter().copied()).collect();
        let whole = charge_reports(&[(0, *edges.last().unwrap())], cap_ms);
        let tiles: Vec<(u64, u64)> = edges.windows(2).map(|pair| (pair[0], pair[1])).collect();
        prop_assert_eq!(charge_reports(&tiles, cap_ms), whole);
        let extra = picks.iter().map(|(a, b)| (*a.get(&edges), *b.get(&edges))).map(|(a, b)| (a.min(b), a.max(b)));
        let mut reports: Vec<_> = tiles.iter().copied().chain(extra).collect();
        reports.sort_by_key(|(from, to)| (from ^ order).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ to);
        prop_assert_eq!(charge_reports(&reports, cap_ms), whole);
        prop_assert_eq!(whole.2, cap_ms.min(*edges.last().unwrap()));
    }

    #[test]
    fn more_use_never_raises_what_a_group_has_left(steps in steps()) {
        let mut world = World::new(Overruns::Never);
        for step in &steps {
            let before: Vec<_> = GROUPS.iter().map(|group| world.book.left(&group.parse().unwrap())).collect();
            world.take(step);
            let after = GROUPS.iter().map(|group| world.book.left(&group.parse().unwrap()));
            if !matches!(step, Step::Settle { .. }) {
                prop_assert!(before.iter().zip(after).all(|(before, after)| after <= *before), "{:?}", step);
            }
        }
    }
}
