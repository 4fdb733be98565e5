//! The spool's mark of usage events against restarts, lost disks, old spools, and what a broker keeps of it.

use proptest::prelude::*;
use spillway_ledger::journal::NodeUsage;

use super::tests::{SMALL, append_all, event, everything, marked, sync, usage};
use super::*;

/// A segment as an agent wrote it that kept no mark.
#[derive(Serialize)]
struct OldHeader {
    first: u64,
    reported: Vec<(PartKey, Reported)>,
}

fn old_spool(folder: &Path, events: &[AgentEvent]) {
    let mut bytes = segment::encode(&OldHeader { first: 1, reported: vec![] }).unwrap();
    events.iter().for_each(|event| bytes.extend(segment::encode(event).unwrap()));
    fs::write(folder.join(format!("{:020}.spool", 1)), bytes).unwrap();
}

#[test]
fn a_spool_from_before_marks_begins_one_behind_its_newest_event() {
    for count in [0, 3] {
        let folder = tempfile::tempdir().unwrap();
        let old: Vec<_> = (0..count).map(|n| usage(0, n * 10)).collect();
        old_spool(folder.path(), &old);
        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        assert_eq!((everything(&spool), *spool.usage()), (old, UsageMark::begin(count)));
        append_all(&mut spool, &[usage(1, 0), usage(1, 10)]);
        let before = *spool.usage();
        assert_eq!((before.count, before.range), (2, Some((count + 1, count + 2))));
        drop(spool);
        assert_eq!(
            *Spool::open(folder.path(), SMALL).unwrap().usage(),
            before,
            "it is the same at every start"
        );
    }
}

#[test]
fn a_mark_begins_anew_where_the_brokers_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    let events: Vec<_> = (0..30).map(|n| usage(0, n * 10)).collect();
    append_all(&mut spool, &events);
    sync(&mut spool);
    spool.take_up(17, 0).unwrap();
    assert_eq!(*spool.usage(), marked(0, &events));
    let from_17 = {
        let mut usage = UsageMark::begin(17);
        (18..).zip(&events[17..]).for_each(|(number, event)| mark(&mut usage, event, number));
        usage
    };
    spool.take_up(17, 17).unwrap();
    assert_eq!(*spool.usage(), from_17);
    assert_eq!(spool.read(18, usize::MAX).unwrap().1, events[17..]);
    drop(spool);
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(*spool.usage(), from_17);
    spool.take_up(40, 40).unwrap();
    spool.take_up(40, 40).unwrap();
    assert_eq!(spool.append(&usage(0, 300)).unwrap(), 41);
    drop(spool);
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!((spool.usage().after, spool.usage().range, spool.first()), (40, Some((41, 41)), 41));
}

/// What a broker keeps of a node.
#[derive(Debug, Clone, Copy, Default)]
struct Here {
    acked: u64,
    usage: NodeUsage,
}

impl Here {
    /// A session begins.
    fn welcome(&mut self, spool: &mut Spool) {
        if let Some(behind) = self.usage.anew(spool.next(), spool.usage().after, self.acked) {
            self.usage.begin(behind);
        }
        spool.take_up(self.acked, self.usage.mark.after).unwrap();
    }

    fn take(&mut self, first: u64, events: &[AgentEvent]) {
        assert!(first <= self.acked + 1, "events follow without a gap");
        for (number, event) in (first..).zip(events) {
            if number > self.acked {
                mark(&mut self.usage.mark, event, number);
                self.acked = number;
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(AgentEvent),
    Sync,
    /// The broker takes this many bytes of events behind the newest that it has, some before it again.
    Send {
        bytes: usize,
        back: u64,
    },
    /// The agent hears how far the broker is.
    Acknowledge,
    /// The agent starts anew, and a session begins.
    Restart,
    /// The agent's disk is lost: nothing is left of its spool.
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => event().prop_map(Step::Append),
        3 => Just(Step::Sync),
        3 => (1_usize..600, 0_u64..4).prop_map(|(bytes, back)| Step::Send { bytes, back }),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::Restart),
        1 => Just(Step::Lose),
    ]
}

fn take_step(step: Step, folder: &Path, mut spool: Spool, here: &mut Here) -> Spool {
    match step {
        Step::Append(event) => {
            spool.append(&event).unwrap();
        }
        Step::Sync => sync(&mut spool),
        Step::Send { bytes, back } => {
            let (first, events) = spool.read((here.acked + 1).saturating_sub(back), bytes).unwrap();
            here.take(first, &events);
        }
        Step::Acknowledge => spool.acknowledge(here.acked).unwrap(),
        Step::Restart | Step::Lose => {
            drop(spool);
            if matches!(step, Step::Lose) {
                fs::remove_dir_all(folder).unwrap();
            }
            spool = Spool::open(folder, SMALL).unwrap();
            here.welcome(&mut spool);
        }
    }
    spool
}

proptest! {
    // Each case syncs some dozen files.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever stops and begins anew, and however often events are sent, both sides have the same mark in the end. One
    /// event that arrives as another one is found.
    #[test]
    fn both_sides_have_the_same_mark(
        steps in proptest::collection::vec(step(), 1..60), lie in any::<proptest::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        let mut here = Here::default();
        here.welcome(&mut spool);
        for step in steps {
            spool = take_step(step, folder.path(), spool, &mut here);
            prop_assert!(spool.usage().last() > here.acked || *spool.usage() == here.usage.mark);
        }
        append_all(&mut spool, &[usage(0, 0), usage(1, 0)]);
        sync(&mut spool);
        let (first, mut rest) = spool.read(here.acked + 1, usize::MAX).unwrap();
        let mut deceived = here;
        here.take(first, &rest);
        prop_assert_eq!(spool.usage(), &here.usage.mark);
        let used: Vec<usize> = (0..rest.len()).filter(|at| rest[*at].usage().is_some()).collect();
        match &mut rest[used[lie.index(used.len())]] {
            AgentEvent::Usage { to_ms, .. } => *to_ms += 1,
            AgentEvent::Ended { ran_ms, .. } => *ran_ms += 1,
            other @ (AgentEvent::Prepared { .. }
            | AgentEvent::Started { .. }
            | AgentEvent::Moved { .. }
            | AgentEvent::Output { .. }) => {
                panic!("{other:?}")
            }
        }
        deceived.take(first, &rest);
        prop_assert_ne!(spool.usage(), &deceived.usage.mark);
    }
}
