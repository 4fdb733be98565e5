//! The auditor's own test: an honest scene gives nothing, and each planted defect is found, by its name.

use std::path::Path;

use spillway_core::command::{JoinProof, PartNews, PartReport};
use spillway_core::entity::{Group, Pool, Site};
use spillway_core::{Command, Event, Federation, Reply};
use spillway_policies::{Decision, PartPlacement, Target};
use spillway_types::{
    Accelerator, AcceleratorShare, Allocation, Capabilities, DurationMs, HourlyRate, Inventory,
    InventorySource, JobSpec, NodeCapacity, NodeId, PartEnd, Role, SequentialIds, SiteKind, Tariff, UnixMs,
};

use super::*;
use crate::Work;

/// How long the part runs, in milliseconds.
const RAN_MS: u64 = 1000;
/// When it starts, in milliseconds of CLOCK_BOOTTIME.
const STARTED_MS: u64 = 50_000;

/// A federation of one node that is told what happens, and a journal of it.
struct World {
    federation: Federation,
    ids: SequentialIds,
    now: UnixMs,
    journal: Vec<JournalRow>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            federation: Federation::default(),
            ids: SequentialIds::new(1),
            now: UnixMs(1_000),
            journal: vec![],
        };
        let name = "dc";
        let tariff = Tariff { per_gpu: HourlyRate(3_600_000_000), per_cpu: HourlyRate(0) };
        let group =
            Group { name: name.parse().unwrap(), parent: None, weight: 1, priority: 0, budget_micros: None };
        let site =
            Site { name: name.parse().unwrap(), kind: SiteKind::OnPrem, jurisdiction: None, cloud: None };
        let pool = Pool {
            name: name.parse().unwrap(),
            site: site.name.clone(),
            tariff,
            groups: None,
            labels: [].into(),
        };
        let (user, groups) = (name.parse().unwrap(), [group.name.clone()].into());
        let issuer = name.parse().unwrap();
        let issue = Command::IssueJoinToken {
            hash: "h".into(),
            pool: pool.name.clone(),
            lifetime: DurationMs::from_secs(60),
            issuer,
        };
        for command in [
            Command::StartBroker { deployment: "d".into() },
            Command::DeclareSite(site),
            Command::DeclarePool(pool),
            Command::DeclareGroup(group),
            Command::DeclareUser { user, role: Role::Admin, groups },
            issue,
        ] {
            world.say(command);
        }
        world
    }

    fn say(&mut self, command: Command) -> Reply {
        self.now = self.now.plus(DurationMs(1));
        let outcome = self.federation.handle(command, self.now, &mut self.ids).expect("it is allowed");
        if !outcome.events.is_empty() {
            self.journal.push(JournalRow { seq: outcome.journal, at: self.now, events: outcome.events });
        }
        outcome.reply
    }

    fn join(&mut self) -> (NodeId, u64) {
        let proof = JoinProof::Token { hash: "h".into() };
        let enrol = Command::Enrol { proof, key_hash: "k".into(), hostname: "n".into() };
        let Reply::Node(node) = self.say(enrol) else { panic!("no node") };
        let accelerator = Accelerator {
            index: 0,
            uuid: "GPU-0".into(),
            model: "H100".parse().unwrap(),
            memory_mib: 81_920,
            mig: vec![],
            domain: None,
        };
        let capacity =
            NodeCapacity { accelerators: vec![accelerator], cpus_milli: 64_000, memory_mib: 65_536 };
        let inventory = Box::new(Inventory {
            hostname: "n".into(),
            capacity,
            capabilities: Capabilities { process: true, ..Capabilities::default() },
            source: InventorySource::Declared,
            labels: [].into(),
        });
        let connect = Command::Connect { node, boot_nonce: 1, inventory, observed: [].into() };
        let Reply::Session { epoch, .. } = self.say(connect) else { panic!("no session") };
        (node, epoch)
    }

    /// Submits a job and places it on the node.
    fn place(&mut self, node: NodeId) -> (JobId, AttemptId) {
        let file = Work::new("honest").job_file(Path::new("/evidence"));
        let file = spillway_api::v1::JobFile { group: Some("dc".into()), ..file };
        let spec: JobSpec = file.into_spec(&spillway_api::v1::JobDefaults::default()).expect("a job");
        let submit = Command::Submit { spec: Box::new(spec.clone()), user: "dc".parse().unwrap(), key: None };
        let Reply::Job(job) = self.say(submit) else { panic!("no job") };
        let allocation = Allocation {
            shares: vec![AcceleratorShare { index: 0, blocks: 100 }],
            mig: vec![],
            cpus_milli: spec.resources.cpus_milli,
            memory_mib: spec.resources.memory_mib,
        };
        let parts = vec![PartPlacement { node, allocation, rate: HourlyRate(3_600_000_000) }];
        let decision = Decision {
            job,
            task: 0,
            target: Target::Nodes { parts },
            hold_micros: 5_000_000,
            because: "free".into(),
        };
        let place = Command::Place {
            decisions: vec![decision],
            endpoint: spillway_core::command::Endpoint::default(),
        };
        assert_eq!(self.say(place), Reply::Placed { started: 1, stale: 0 });
        let attempt = self.federation.state().attempts.keys().next().copied().expect("an attempt");
        (job, attempt)
    }
}

/// One job that ran for a second on one node, and everybody tells the truth about it.
fn honest() -> Scene {
    let mut world = World::new();
    let (node, epoch) = world.join();
    let (job, attempt) = world.place(node);
    world.now = world.now.plus(DurationMs(RAN_MS));
    let news = [
        PartNews::Started,
        PartNews::Usage { from_ms: 0, to_ms: 400 },
        PartNews::Ended { end: PartEnd::Exited { code: 0 }, ran_ms: RAN_MS },
    ];
    let reports = news.map(|news| PartReport { attempt, rank: 0, news }).into();
    world.say(Command::Report { node, epoch, first: 1, reports });
    let changes = world.federation.take_changes();
    let entries = changes.entries.iter().map(|(_, entry)| entry);
    let spend_micros = entries.clone().map(|entry| entry.spend_micros()).sum();
    let totals = LedgerTotals {
        entries: entries.count() as u64,
        postings_micros: 0,
        spend_micros,
        charges_micros: spend_micros,
        mismatched: vec![],
    };
    let trace = |at_ms, step: &str| Trace { at_ms, attempt, rank: 0, step: step.into() };
    let copy = Copy {
        attempt,
        task: 0,
        rank: 0,
        pid: 7,
        first_ms: STARTED_MS + 10,
        last_ms: STARTED_MS + RAN_MS - 10,
        finished: true,
    };
    Scene {
        journal: world.journal,
        stored: world.federation.state().clone(),
        totals,
        machines: vec![],
        processes: vec![],
        traces: vec![trace(STARTED_MS, "started"), trace(STARTED_MS + RAN_MS, "ended")],
        jobs: vec![JobWords {
            job,
            name: "honest".into(),
            outcome: JobState::Succeeded,
            restartable: true,
            parts: 1,
            evidence: "/evidence".into(),
            copies: vec![copy],
        }],
    }
}

fn without(scene: &mut Scene, unwanted: fn(&Event) -> bool) {
    for row in &mut scene.journal {
        row.events.retain(|event| !unwanted(event));
    }
}

fn again(scene: &mut Scene, after_ms: u64) {
    let copy = scene.jobs[0].copies[0].clone();
    let span = copy.last_ms - copy.first_ms;
    let first_ms = copy.first_ms + after_ms;
    scene.jobs[0].copies.push(Copy { pid: 8, first_ms, last_ms: first_ms + span, finished: false, ..copy });
}

#[test]
fn an_honest_scene_gives_nothing() {
    assert_eq!(audit(&honest()), [""; 0]);
}

/// What the defect is, how it comes about, and the words by which it is told.
type Planted<'a> = (&'a str, &'a dyn Fn(&mut Scene), &'a str);

#[track_caller]
fn each_is_found(planted: &[Planted<'_>]) {
    for (name, plant, words) in planted {
        let mut scene = honest();
        plant(&mut scene);
        let findings = audit(&scene);
        assert!(findings.iter().any(|finding| finding.contains(words)), "{name}: {findings:#?}");
    }
}

#[test]
fn defects_in_what_ran_are_found() {
    let other = AttemptId::generate(&mut SequentialIds::new(9));
    each_is_found(&[
        ("overlap", &|scene| again(scene, 500), "two copies of task 0 at the same time"),
        ("a touch", &|scene| again(scene, RAN_MS - 20), "two copies of task 0 at the same time"),
        (
            "two attempts' ranks together",
            &|scene| {
                again(scene, 500);
                scene.jobs[0].copies[1].rank = 1;
                scene.jobs[0].copies[1].attempt = other;
            },
            "two copies of task 0 at the same time",
        ),
        (
            "a second start",
            &|scene| {
                again(scene, 2 * RAN_MS);
                scene.jobs[0].restartable = false;
            },
            "must start once and started 2 times",
        ),
        (
            "done twice",
            &|scene| {
                again(scene, 2 * RAN_MS);
                scene.jobs[0].copies[1].finished = true;
            },
            "was done 2 times",
        ),
        ("never done", &|scene| scene.jobs[0].copies[0].finished = false, "no copy of it came to its end"),
        ("never run", &|scene| scene.jobs[0].copies.clear(), "it succeeded, and 0 of its 1 parts have run"),
        ("half a gang", &|scene| scene.jobs[0].parts = 2, "it succeeded, and 1 of its 2 parts have run"),
        ("unknown work", &|scene| scene.jobs[0].copies[0].attempt = other, "does not know as its attempt"),
    ]);
}

#[test]
fn defects_in_lives_and_machines_are_found() {
    let stray = |scene: &mut Scene, ended| {
        let intent = InstanceId::generate(&mut SequentialIds::new(9));
        scene.machines.push(Machine { provider_id: "i-stray".into(), intent, ended });
    };
    each_is_found(&[
        ("a life without end", &|scene| drop(scene.traces.pop()), "no agent noted the whole life"),
        (
            "a second life",
            &|scene| scene.traces.insert(0, scene.traces[0].clone()),
            "started 2 times and ended 1 times",
        ),
        (
            "words before life",
            &|scene| scene.jobs[0].copies[0].first_ms = STARTED_MS - 100,
            "its agent noted 50000 to 51000 ms",
        ),
        ("a stray machine", &|scene| stray(scene, false), "machine i-stray lives at the provider"),
        ("an unintended machine", &|scene| stray(scene, true), "which nobody intended"),
        (
            "two machines for one intent",
            &|scene| {
                stray(scene, true);
                stray(scene, true);
            },
            "has 2 machines",
        ),
        (
            "a process",
            &|scene| scene.processes.push(Process { pid: 5, command: "sh -c train".into() }),
            "process 5 is left: sh -c train",
        ),
    ]);
}

#[test]
fn defects_in_the_database_are_found() {
    each_is_found(&[
        (
            "a lost job",
            &|scene| scene.jobs[0].job = JobId::generate(&mut SequentialIds::new(9)),
            "was acknowledged and is not in the database",
        ),
        ("a job of nobody", &|scene| scene.jobs.clear(), "nobody submitted it"),
        (
            "another end",
            &|scene| scene.jobs[0].outcome = JobState::Failed,
            "it is succeeded, and was to be failed",
        ),
        (
            "a state of its own",
            &|scene| scene.stored.incarnation = 7,
            "incarnation is 1 by the journal and 7 as stored",
        ),
        ("a gap", &|scene| drop(scene.journal.remove(1)), "the journal has entry 3 where 2 belongs"),
    ]);
}

#[test]
fn defects_in_the_money_are_found() {
    each_is_found(&[
        (
            "a missing charge",
            &|scene| without(scene, |event| matches!(event, Event::UsageCharged { to_ms: RAN_MS, .. })),
            "ran 1000 ms and was charged 400 ms",
        ),
        (
            "a charge twice",
            &|scene| {
                let row = scene.journal.last_mut().expect("a journal");
                let charge = row.events.iter().position(|event| matches!(event, Event::UsageCharged { .. }));
                let charge = charge.expect("a charge");
                row.events.insert(charge, row.events[charge].clone());
            },
            "was charged up to 400 ms, then from 0 to 400 ms",
        ),
        (
            "unpaid work",
            &|scene| {
                scene.jobs[0].copies[0].last_ms += 500;
                scene.traces[1].at_ms += 500;
            },
            "and was charged 1000 ms",
        ),
        ("a lost entry", &|scene| scene.totals.entries -= 1, "entries, the journal gives"),
        ("lost money", &|scene| scene.totals.postings_micros = 1, "does not add up in the database"),
        ("another sum", &|scene| scene.totals.spend_micros += 1, "micros were spent by the ledger"),
        (
            "held money",
            &|scene| {
                without(scene, |event| matches!(event, Event::AttemptSettled { .. }));
                let mut state = State::default();
                for row in &scene.journal {
                    state.replay(row.seq, row.at, &row.events).expect("a shorter journal");
                }
                scene.stored = state;
            },
            "micros are still held for group dc",
        ),
    ]);
}

#[test]
fn evidence_is_read_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evidence");
    assert_eq!(read_evidence(&path), []);
    let id = honest().jobs[0].copies[0].attempt;
    let text = format!(
        "start {id} 0 1 7 12.50\nbeat {id} 0 1 7 12.61\nstart {id} 3 0 8 13.00\nend {id} 0 1 7 12.99\nbeat {id} 3 0 8 1"
    );
    std::fs::write(&path, text).unwrap();
    let first =
        Copy { attempt: id, task: 0, rank: 1, pid: 7, first_ms: 12_500, last_ms: 12_990, finished: true };
    let second =
        Copy { task: 3, rank: 0, pid: 8, first_ms: 13_000, last_ms: 13_000, finished: false, ..first };
    assert_eq!(read_evidence(&path), [first, second]);
}
