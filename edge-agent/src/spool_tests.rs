//! The spool against crashes at every byte, restarts, acknowledgements and a full disk.

use proptest::prelude::*;
use spillway_tunnel::protocol::PartEnd;
use spillway_types::AttemptId;

use super::*;

pub(super) const SMALL: SpoolLimits = SpoolLimits { segment: 400, total: 1 << 20 };

fn attempt(n: u8) -> AttemptId {
    format!("att_{:032x}", u32::from(n) + 1).parse().unwrap()
}

pub(super) fn usage(n: u8, from_ms: u64) -> AgentEvent {
    AgentEvent::Usage { attempt: attempt(n), rank: 0, from_ms, to_ms: from_ms + 10 }
}

pub(super) fn event() -> impl Strategy<Value = AgentEvent> {
    (0u8..3, 0u32..2, 0u64..1000, proptest::collection::vec(any::<u8>(), 0..80)).prop_flat_map(
        |(n, rank, at, data)| {
            let attempt = attempt(n);
            prop_oneof![
                Just(AgentEvent::Prepared { attempt, rank }),
                Just(AgentEvent::Started { attempt, rank }),
                Just(AgentEvent::Usage { attempt, rank, from_ms: at, to_ms: at + 1 }),
                Just(AgentEvent::Output { attempt, rank, offset: at, data }),
                Just(AgentEvent::Ended { attempt, rank, end: PartEnd::Exited { code: 3 }, ran_ms: at }),
            ]
        },
    )
}

pub(super) fn append_all(spool: &mut Spool, events: &[AgentEvent]) {
    for event in events {
        spool.append(event).unwrap();
    }
}

pub(super) fn sync(spool: &mut Spool) {
    if let Some(job) = spool.sync_job().unwrap() {
        spool.note_synced(job.run().unwrap());
    }
}

pub(super) fn everything(spool: &Spool) -> Vec<AgentEvent> {
    spool.read(0, usize::MAX).unwrap().1
}

fn fold(events: &[AgentEvent]) -> BTreeMap<PartKey, Reported> {
    let mut reported = BTreeMap::new();
    (1..).zip(events).for_each(|(number, event)| note(&mut reported, event, number));
    reported
}

pub(super) fn marked(after: u64, events: &[AgentEvent]) -> UsageMark {
    let mut usage = UsageMark::begin(after);
    (1..).zip(events).for_each(|(number, event)| mark(&mut usage, event, number));
    usage
}

fn newest_file(folder: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.pop().unwrap()
}

proptest! {
    // Each case syncs a dozen files.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_restart_changes_nothing(events in proptest::collection::vec(event(), 0..40), acked in 0usize..40) {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        append_all(&mut spool, &events);
        sync(&mut spool);
        prop_assert_eq!(everything(&spool), events.clone());
        let acked = acked.min(events.len());
        spool.acknowledge(acked as u64).unwrap();
        drop(spool);
        let spool = Spool::open(folder.path(), SMALL).unwrap();
        prop_assert_eq!(spool.next(), events.len() as u64 + 1);
        prop_assert_eq!(spool.reported(), &fold(&events));
        prop_assert_eq!(spool.usage(), &marked(0, &events));
        let (first, rest) = spool.read(acked as u64 + 1, usize::MAX).unwrap();
        prop_assert_eq!(first, acked as u64 + 1);
        prop_assert_eq!(&rest[..], &events[acked..]);
    }

    #[test]
    fn a_torn_tail_costs_only_itself(
        events in proptest::collection::vec(event(), 1..12),
        cut in any::<proptest::sample::Index>(),
    ) {
        let spool = Torn::new(&events);
        spool.cut_at(cut.index(spool.whole.len()), &events);
    }
}

/// A spool whose newest file is cut short again and again.
struct Torn {
    folder: tempfile::TempDir,
    newest: PathBuf,
    whole: Vec<u8>,
}

impl Torn {
    fn new(events: &[AgentEvent]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        append_all(&mut Spool::open(folder.path(), SMALL).unwrap(), events);
        let newest = newest_file(folder.path());
        let whole = fs::read(&newest).unwrap();
        Self { folder, newest, whole }
    }

    fn cut_at(&self, length: usize, events: &[AgentEvent]) {
        fs::write(&self.newest, &self.whole[..length]).unwrap();
        let mut spool = Spool::open(self.folder.path(), SMALL).unwrap();
        let kept = everything(&spool);
        assert!(kept.len() < events.len());
        assert_eq!(&kept[..], &events[..kept.len()], "cut at {length}");
        assert_eq!(spool.reported(), &fold(&kept));
        assert_eq!(spool.usage(), &marked(0, &kept));
        append_all(&mut spool, &events[kept.len()..]);
        drop(spool);
        let spool = Spool::open(self.folder.path(), SMALL).unwrap();
        assert_eq!(everything(&spool), events, "cut at {length}");
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path > self.newest {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

#[test]
fn a_tail_may_be_torn_at_every_byte() {
    let ended = AgentEvent::Ended { attempt: attempt(1), rank: 0, end: PartEnd::Stopped, ran_ms: 7 };
    let events = [usage(0, 0), usage(1, 0), ended];
    let spool = Torn::new(&events);
    for length in 0..spool.whole.len() {
        spool.cut_at(length, &events);
    }
}

#[test]
fn only_synced_events_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SpoolLimits::default()).unwrap();
    append_all(&mut spool, &[usage(0, 0), usage(0, 10)]);
    assert!(everything(&spool).is_empty());
    let job = spool.sync_job().unwrap().unwrap();
    append_all(&mut spool, &[usage(0, 20)]);
    spool.note_synced(job.run().unwrap());
    assert_eq!(everything(&spool), [usage(0, 0), usage(0, 10)]);
    assert_eq!(spool.read(1, 1).unwrap(), (1, vec![usage(0, 0)]), "at least one, however small the batch");
    sync(&mut spool);
    assert_eq!(spool.read(3, usize::MAX).unwrap(), (3, vec![usage(0, 20)]));
    assert!(spool.sync_job().unwrap().is_none());
}

#[test]
fn acknowledged_segments_are_freed_and_the_parts_story_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    let events: Vec<_> = (0..50).map(|n| usage(0, n * 10)).collect();
    append_all(&mut spool, &events);
    sync(&mut spool);
    let before = spool.bytes();
    spool.acknowledge(50).unwrap();
    assert!(spool.bytes() < before / 4, "{} of {before}", spool.bytes());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(spool);
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(spool.reported().values().map(|said| said.usage_to_ms).collect::<Vec<_>>(), [500]);
}

#[test]
fn a_new_spool_goes_on_behind_what_the_broker_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    append_all(&mut spool, &[usage(0, 0)]);
    spool.acknowledge(41).unwrap();
    assert_eq!(spool.append(&usage(0, 10)).unwrap(), 42);
    drop(spool);
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!((spool.first(), everything(&spool)), (42, vec![usage(0, 10)]));
}

#[test]
fn at_its_limit_it_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let limits = SpoolLimits { segment: 400, total: 8_000 };
    let mut spool = Spool::open(folder.path(), limits).unwrap();
    let output = AgentEvent::Output { attempt: attempt(0), rank: 0, offset: 0, data: vec![7; 100] };
    let refused = loop {
        if let Err(error) = spool.append(&output) {
            break error;
        }
    };
    assert!(
        matches!(refused, SpoolError::Full { bytes, .. } if (7_000..7_400).contains(&bytes)),
        "{refused}"
    );
    spool.append(&usage(0, 0)).expect("the reserve takes what is not output");
    while spool.append(&usage(0, 0)).is_ok() {}
    assert!((8_000..8_300).contains(&spool.bytes()), "{}", spool.bytes());
    sync(&mut spool);
    spool.acknowledge(spool.next() - 1).unwrap();
    spool.append(&output).expect("acknowledgements make room");
}

#[test]
fn damage_in_the_middle_is_refused_with_the_files_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), SMALL).unwrap();
    append_all(&mut spool, &(0..30).map(|n| usage(0, n)).collect::<Vec<_>>());
    drop(spool);
    let oldest = folder.path().join(format!("{:020}.spool", 1));
    let mut bytes = fs::read(&oldest).unwrap();
    let position = bytes.len() - 3;
    bytes[position] ^= 1;
    fs::write(&oldest, bytes).unwrap();
    let error = Spool::open(folder.path(), SMALL).unwrap_err().to_string();
    assert!(error.contains("00000000000000000001.spool"), "{error}");
}
