//! The table of decisions, and the rules that no sequence of messages can break.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spillway_tunnel::protocol::{Input, Lease, WantedPhase};
use spillway_types::{
    AcceleratorShare, Allocation, AttemptId, Checkpoint, DurationMs, IdSource, JobId, SequentialIds,
};

use super::*;
use crate::renewals::RenewalBook;

/// A lease of attempt number `n`, wanted running, without accelerators, for ten seconds.
pub(crate) fn lease(n: u64) -> Lease {
    let uuid = |seed: u64| {
        let mut ids = SequentialIds::new(seed);
        ids.next_uuid()
    };
    Lease {
        attempt: AttemptId::from_uuid(uuid(n)),
        number: 1,
        job: JobId::from_uuid(uuid(1000 + n)),
        task: 0,
        rank: 0,
        want: WantedPhase::Running,
        ttl: DurationMs(10_000),
        allocation: Allocation { cpus_milli: 1000, memory_mib: 64, ..Allocation::default() },
        command: vec!["true".into()],
        env: BTreeMap::new(),
        time_limit: DurationMs(60_000),
        checkpoint: Checkpoint::default(),
        hosts: vec!["here".into()],
        inputs: vec![],
    }
}

/// A dataset of so many bytes that is read over the network.
pub(crate) fn input(name: &str, bytes: u64) -> Input {
    let source = Some("http://127.0.0.1:9/it".parse().unwrap());
    Input { dataset: name.parse().unwrap(), bytes, sha256: None, source }
}

fn with(n: u64, want: WantedPhase, gpu: Option<u32>) -> Lease {
    let mut lease = Lease { want, ..lease(n) };
    lease.allocation.shares = gpu.into_iter().map(|index| AcceleratorShare { index, blocks: 100 }).collect();
    lease
}

fn holding(stage: Stage, gpu: Option<u32>) -> Holding {
    Holding { stage, allocation: with(0, WantedPhase::Running, gpu).allocation }
}

const RUNNING: Stage = Stage::Running { deadline_ms: 500, stopping: false };
const STOPPING: Stage = Stage::Running { deadline_ms: 500, stopping: true };
const ENDED: Stage = Stage::Ended { acknowledged: false };
const ACKNOWLEDGED: Stage = Stage::Ended { acknowledged: true };

/// One part (attempt 1, accelerator 0) against one lease of the same attempt or none; now is 100.
fn decide(stage: Option<Stage>, want: Option<WantedPhase>, deadline: Option<u64>) -> Vec<Action> {
    let one = lease(1);
    let parts = stage.map(|stage| (key_of(&one), holding(stage, Some(0)))).into_iter().collect();
    let desired: Vec<Lease> = want.map(|want| with(1, want, Some(0))).into_iter().collect();
    let deadlines = deadline.map(|deadline| (one.attempt, deadline)).into_iter().collect();
    reconcile(&Situation { desired: Some(&desired), parts: &parts, deadlines: &deadlines, now_ms: 100 })
}

#[test]
fn one_part_against_one_lease() {
    use Action as A;
    use WantedPhase as W;
    let (key, grace) = (key_of(&lease(1)), Some(lease(1).checkpoint.grace));
    let refused = || A::Refuse(key, "the broker stopped it before this node had begun".into());
    let cases = [
        (None, Some(W::Prepared), Some(200), vec![A::Prepare(key)]),
        (None, Some(W::Running), Some(200), vec![A::Start(key, 200)]),
        (None, Some(W::Running), Some(101), vec![A::Start(key, 101)]),
        (None, Some(W::Running), Some(100), vec![]),
        (None, Some(W::Running), None, vec![]),
        (None, Some(W::Prepared), None, vec![]),
        (None, Some(W::Stopped), Some(200), vec![refused()]),
        (Some(Stage::Busy), Some(W::Running), Some(200), vec![]),
        (Some(Stage::Busy), Some(W::Stopped), Some(200), vec![]),
        (Some(Stage::Busy), None, None, vec![]),
        (Some(Stage::Prepared), Some(W::Prepared), Some(200), vec![]),
        (Some(Stage::Prepared), Some(W::Running), Some(200), vec![A::Start(key, 200)]),
        (Some(Stage::Prepared), Some(W::Running), Some(99), vec![]),
        (Some(Stage::Prepared), Some(W::Stopped), Some(200), vec![A::Stop(key, grace)]),
        (Some(Stage::Prepared), None, None, vec![A::Stop(key, None)]),
        (Some(RUNNING), Some(W::Running), Some(500), vec![]),
        (Some(RUNNING), Some(W::Running), Some(501), vec![A::Extend(key, 501)]),
        (Some(RUNNING), Some(W::Prepared), Some(500), vec![]),
        (Some(RUNNING), Some(W::Stopped), Some(500), vec![A::Stop(key, grace)]),
        (Some(RUNNING), None, None, vec![A::Stop(key, None)]),
        (Some(STOPPING), Some(W::Running), Some(900), vec![]),
        (Some(STOPPING), Some(W::Stopped), Some(900), vec![]),
        (Some(STOPPING), None, None, vec![]),
        (Some(ENDED), Some(W::Running), Some(900), vec![]),
        (Some(ENDED), None, None, vec![]),
        (Some(ACKNOWLEDGED), Some(W::Running), Some(900), vec![]),
        (Some(ACKNOWLEDGED), Some(W::Stopped), Some(900), vec![]),
        (Some(ACKNOWLEDGED), None, None, vec![A::Forget(key)]),
    ];
    for (stage, want, deadline, expected) in cases {
        assert_eq!(decide(stage, want, deadline), expected, "{stage:?} {want:?} {deadline:?}");
    }
}

#[test]
fn what_a_part_reads_comes_before_it_begins() {
    use WantedPhase as W;
    let reading = |want| Lease { inputs: vec![input("web", 1)], ..with(1, want, Some(0)) };
    let (key, grace) = (key_of(&lease(1)), Some(lease(1).checkpoint.grace));
    for (stage, want, deadline, expected) in [
        (None, W::Running, Some(200), vec![Action::Stage(key)]),
        (None, W::Prepared, Some(200), vec![Action::Stage(key)]),
        (None, W::Running, None, vec![]),
        (Some(Stage::Staging), W::Running, Some(200), vec![]),
        (Some(Stage::Staging), W::Running, None, vec![]),
        (Some(Stage::Staging), W::Stopped, Some(200), vec![Action::Stop(key, grace)]),
        (Some(Stage::Staged), W::Prepared, Some(200), vec![Action::Prepare(key)]),
        (Some(Stage::Staged), W::Running, Some(200), vec![Action::Start(key, 200)]),
        (Some(Stage::Staged), W::Running, Some(100), vec![]),
        (Some(Stage::Staged), W::Stopped, None, vec![Action::Stop(key, grace)]),
    ] {
        let parts = stage.map(|stage| (key, holding(stage, Some(0)))).into_iter().collect();
        let deadlines = deadline.map(|deadline| (key.attempt, deadline)).into_iter().collect();
        let desired = [reading(want)];
        let situation =
            Situation { desired: Some(&desired), parts: &parts, deadlines: &deadlines, now_ms: 100 };
        assert_eq!(reconcile(&situation), expected, "{stage:?} {want:?} {deadline:?}");
    }
    for stage in [Stage::Staging, Stage::Staged] {
        assert_eq!(decide(Some(stage), None, None), [Action::Stop(key, None)], "nobody lists it");
    }
}

#[test]
fn without_word_from_the_broker_only_extensions_happen() {
    let parts = BTreeMap::from([
        (key_of(&lease(1)), holding(RUNNING, None)),
        (key_of(&lease(2)), holding(ACKNOWLEDGED, None)),
        (key_of(&lease(3)), holding(Stage::Prepared, None)),
    ]);
    let deadlines = BTreeMap::from([(lease(1).attempt, 700)]);
    let situation = Situation { desired: None, parts: &parts, deadlines: &deadlines, now_ms: 100 };
    assert_eq!(reconcile(&situation), [Action::Extend(key_of(&lease(1)), 700)]);
}

#[test]
fn an_accelerator_is_never_given_twice() {
    let newcomers = [with(2, WantedPhase::Running, Some(0)), with(3, WantedPhase::Prepared, Some(0))];
    let deadlines = BTreeMap::from([(newcomers[0].attempt, 200), (newcomers[1].attempt, 200)]);
    let decide = |stage: Option<Stage>| {
        let parts: BTreeMap<_, _> =
            stage.map(|stage| (key_of(&lease(1)), holding(stage, Some(0)))).into_iter().collect();
        let situation =
            Situation { desired: Some(&newcomers), parts: &parts, deadlines: &deadlines, now_ms: 100 };
        let actions = reconcile(&situation);
        let refused = actions.iter().filter(|action| matches!(action, Action::Refuse(..))).count();
        let begun = actions.iter().filter(|a| matches!(a, Action::Start(..) | Action::Prepare(_))).count();
        (begun, refused)
    };
    assert_eq!(decide(None), (1, 1), "the second newcomer meets the first");
    assert_eq!(decide(Some(ENDED)), (1, 1));
    assert_eq!(decide(Some(Stage::Prepared)), (1, 1), "an unlisted prepared part holds nothing");
    for waiting in [Stage::Staging, Stage::Staged] {
        assert_eq!(decide(Some(waiting)), (1, 1), "{waiting:?} is as good as prepared");
    }
    for holder in [Stage::Busy, RUNNING, STOPPING] {
        assert_eq!(decide(Some(holder)), (0, 2), "{holder:?}");
    }
}

#[test]
fn a_mig_slice_is_never_given_twice() {
    let mut holder = holding(RUNNING, None);
    holder.allocation.mig = vec!["MIG-1".into()];
    let parts = BTreeMap::from([(key_of(&lease(1)), holder)]);
    let mut wanted = [lease(1), lease(2), lease(3)];
    wanted[1].allocation.mig = vec!["MIG-1".into()];
    wanted[2].allocation.mig = vec!["MIG-2".into()];
    let deadlines = wanted.iter().map(|lease| (lease.attempt, 400)).collect();
    let actions =
        reconcile(&Situation { desired: Some(&wanted), parts: &parts, deadlines: &deadlines, now_ms: 100 });
    let text = format!("MIG slice MIG-1 is in use by part {} on this node", key_of(&lease(1)));
    assert_eq!(actions, [Action::Refuse(key_of(&wanted[1]), text), Action::Start(key_of(&wanted[2]), 400)]);
}

/// Something that happens to a node in the model below.
#[derive(Debug, Clone)]
enum Happening {
    /// Time passes.
    Pass(u64),
    /// The agent sends a renewal.
    Renew,
    /// The broker answers a renewal of so many ago.
    Renewed(u64),
    /// The broker says what it wants: by attempt 1..4, want and accelerator; echoing a renewal of so many ago.
    Desired(Vec<(u64, WantedPhase, Option<u32>)>, u64),
    /// What was being made is made, and what was being brought is here.
    Settle,
    /// A part ends by itself.
    End(u64),
    /// The broker acknowledges every end.
    Acknowledge,
}

fn happening() -> impl Strategy<Value = Happening> {
    let want =
        prop_oneof![Just(WantedPhase::Prepared), Just(WantedPhase::Running), Just(WantedPhase::Stopped)];
    let gpu = prop_oneof![Just(None), Just(Some(0)), Just(Some(1))];
    let lists = proptest::collection::vec((1u64..5, want, gpu), 0..4).prop_map(|mut list| {
        list.sort_by_key(|(n, ..)| *n);
        list.dedup_by_key(|(n, ..)| *n);
        list
    });
    prop_oneof![
        (0u64..8_000).prop_map(Happening::Pass),
        Just(Happening::Renew),
        (0u64..3).prop_map(Happening::Renewed),
        (lists, 0u64..3).prop_map(|(list, ago)| Happening::Desired(list, ago)),
        Just(Happening::Settle),
        (1u64..5).prop_map(Happening::End),
        Just(Happening::Acknowledge),
    ]
}

/// A node whose executor does what it is told and checks the rules.
struct Node {
    now: u64,
    book: RenewalBook,
    newest: u64,
    sent: BTreeMap<u64, u64>,
    desired: Vec<Lease>,
    parts: BTreeMap<PartKey, Holding>,
    started: BTreeMap<PartKey, u32>,
    /// Deadlines of parts whose starting is under way.
    starting: BTreeMap<PartKey, u64>,
}

impl Node {
    fn new() -> Self {
        Self {
            now: 1,
            book: RenewalBook::new(1),
            newest: 0,
            sent: BTreeMap::new(),
            desired: Vec::new(),
            parts: BTreeMap::new(),
            started: BTreeMap::new(),
            starting: BTreeMap::new(),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Pass(ms) => self.now += ms,
            Happening::Renew => {
                self.newest = self.book.send(self.now);
                self.sent.insert(self.newest, self.now);
            }
            Happening::Renewed(ago) => {
                let listed: Vec<AttemptId> = self.desired.iter().map(|lease| lease.attempt).collect();
                self.book.renewed(self.newest.saturating_sub(ago), &listed);
            }
            Happening::Desired(list, ago) => {
                let reading = |n| if n > 2 { vec![input("web", n)] } else { vec![] };
                let lease = |(n, want, gpu)| Lease { inputs: reading(n), ..with(n, want, gpu) };
                self.desired = list.into_iter().map(lease).collect();
                self.book.desired(&self.desired, self.newest.saturating_sub(ago));
            }
            Happening::Settle => self.settle(),
            Happening::End(n) => {
                if let Some(part) = self.parts.get_mut(&key_of(&lease(n)))
                    && matches!(part.stage, Stage::Running { .. })
                {
                    part.stage = ENDED;
                }
            }
            Happening::Acknowledge => {
                self.parts
                    .values_mut()
                    .filter(|part| part.stage == ENDED)
                    .for_each(|part| part.stage = ACKNOWLEDGED);
            }
        }
        self.reconcile();
    }

    fn settle(&mut self) {
        let staging = self.parts.values_mut().filter(|part| part.stage == Stage::Staging);
        staging.for_each(|part| part.stage = Stage::Staged);
        for (key, part) in self.parts.iter_mut().filter(|(_, part)| part.stage == Stage::Busy) {
            part.stage = match self.starting.remove(key) {
                Some(deadline_ms) => Stage::Running { deadline_ms, stopping: false },
                None => Stage::Prepared,
            };
        }
    }

    fn reconcile(&mut self) {
        let situation = Situation {
            desired: Some(&self.desired),
            parts: &self.parts,
            deadlines: self.book.deadlines(),
            now_ms: self.now,
        };
        for action in reconcile(&situation) {
            self.carry_out(&action);
        }
        let mut holders = BTreeMap::new();
        for (key, part) in &self.parts {
            if matches!(part.stage, Stage::Busy | Stage::Running { .. }) {
                for share in &part.allocation.shares {
                    assert_eq!(holders.insert(share.index, *key), None, "accelerator given twice");
                }
            }
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match *action {
            Action::Stage(key) => {
                let wanted = self.desired.iter().find(|lease| key_of(lease) == key).unwrap();
                let holding = Holding { stage: Stage::Staging, allocation: wanted.allocation.clone() };
                assert!(self.parts.insert(key, holding).is_none());
            }
            Action::Prepare(key) => self.begin(key, None),
            Action::Start(key, deadline) => {
                assert!(deadline > self.now, "started after its deadline");
                let ttl = lease(1).ttl.0;
                assert!(self.sent.values().any(|sent| sent + ttl == deadline), "a deadline nobody granted");
                self.begin(key, Some(deadline));
            }
            Action::Extend(key, deadline) => {
                let part = self.parts.get_mut(&key).unwrap();
                let Stage::Running { deadline_ms, .. } = &mut part.stage else { panic!("{part:?}") };
                assert!(*deadline_ms < deadline);
                *deadline_ms = deadline;
            }
            Action::Stop(key, _) => {
                let part = self.parts.get_mut(&key).unwrap();
                part.stage = match part.stage {
                    Stage::Running { deadline_ms, .. } => Stage::Running { deadline_ms, stopping: true },
                    Stage::Staging | Stage::Staged | Stage::Prepared => ENDED,
                    Stage::Busy | Stage::Ended { .. } => panic!("{part:?}"),
                };
            }
            Action::Refuse(key, ref why) => {
                assert!(!why.is_empty());
                let allocation = Allocation::default();
                assert!(self.parts.insert(key, Holding { stage: ENDED, allocation }).is_none());
            }
            Action::Forget(key) => {
                assert_eq!(self.parts.remove(&key).unwrap().stage, ACKNOWLEDGED);
                assert!(self.desired.iter().all(|lease| key_of(lease) != key));
                self.started.remove(&key);
            }
        }
    }

    fn begin(&mut self, key: PartKey, start: Option<u64>) {
        let wanted = self.desired.iter().find(|lease| key_of(lease) == key).expect("only listed parts begin");
        let brought = self.parts.get(&key).is_some_and(|part| part.stage != Stage::Staging);
        assert!(wanted.inputs.is_empty() || brought, "begun before what it reads is here");
        if let Some(deadline) = start {
            let times = self.started.entry(key).or_insert(0);
            *times += 1;
            assert_eq!(*times, 1, "started twice");
            self.starting.insert(key, deadline);
        }
        let allocation =
            self.parts.get(&key).map_or_else(|| wanted.allocation.clone(), |p| p.allocation.clone());
        self.parts.insert(key, Holding { stage: Stage::Busy, allocation });
    }
}

proptest! {
    #[test]
    fn no_sequence_starts_a_part_late_or_twice(happenings in proptest::collection::vec(happening(), 1..60)) {
        let mut node = Node::new();
        for happening in happenings {
            node.happen(happening);
        }
    }

    #[test]
    fn what_is_wanted_and_leased_runs(n in 1u64..5, busy in proptest::collection::vec(happening(), 0..20)) {
        let mut node = Node::new();
        for happening in busy {
            node.happen(happening);
        }
        node.happen(Happening::Desired(vec![], 0));
        for _ in 0..3 {
            node.happen(Happening::Settle);
            (1..5).for_each(|n| node.happen(Happening::End(n)));
            node.happen(Happening::Acknowledge);
        }
        node.happen(Happening::Renew);
        node.happen(Happening::Desired(vec![(n, WantedPhase::Running, Some(0))], 0));
        node.happen(Happening::Settle);
        node.happen(Happening::Settle);
        let part = node.parts.get(&key_of(&lease(n))).expect("it was made");
        let running = matches!(part.stage, Stage::Running { stopping: false, .. });
        prop_assert!(running);
    }
}
