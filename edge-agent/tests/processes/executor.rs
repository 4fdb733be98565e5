//! The executor with real supervisors: starting, stopping, refusing, and taking up what an earlier one left.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::common::{exe, pid_in, spec, trace_of, wait_for, wait_until_gone};
use rustix::process::{Pid, Signal, kill_process};
use spillway_agent::clock::boottime_ms;
use spillway_agent::executor::{Executor, Found, FoundState, News, Order};
use spillway_agent::part::{
    Claim, EXIT, ExitRecord, OUTPUT, PartKey, SPEC, SUPERVISOR, Spec, TRACE, TraceStep, read_json,
};
use spillway_tunnel::protocol::PartEnd;
use spillway_types::DurationMs;
use tokio::sync::mpsc::UnboundedReceiver;

const LONG: u64 = 60_000;

struct Node {
    executor: Executor,
    news: UnboundedReceiver<News>,
    found: BTreeMap<PartKey, Found>,
}

impl Node {
    fn open(state: &Path) -> Self {
        let (executor, news, found) = Executor::open(exe(), state).unwrap();
        Self { executor, news, found }
    }

    fn order(&self, orders: Vec<Order>) {
        self.executor.carry_out(orders, || Ok(()));
    }

    async fn next(&mut self) -> News {
        let next = tokio::time::timeout(Duration::from_secs(10), self.news.recv()).await;
        next.expect("news within ten seconds").expect("the executor lives")
    }

    /// The next news that is not about a batch.
    async fn next_of_part(&mut self) -> News {
        loop {
            let news = self.next().await;
            if news != News::BatchDone {
                return news;
            }
        }
    }

    async fn end(&mut self) -> ExitRecord {
        loop {
            if let News::Ended(_, record) = self.next().await {
                return record;
            }
        }
    }
}

fn shell(script: &str) -> Box<Spec> {
    Box::new(spec(&["sh", "-c", script], 200))
}

fn run(spec: Box<Spec>) -> Order {
    Order::Run(spec, boottime_ms() + LONG)
}

#[tokio::test]
async fn a_part_from_beginning_to_end() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let spec = shell("echo hello; exit 4");
    let part = spec.key();
    node.order(vec![run(spec)]);
    assert!(matches!(node.next_of_part().await, News::Launched(key, _) if key == part));
    assert!(
        matches!(node.next_of_part().await, News::Started(key, at) if key == part && at <= boottime_ms())
    );
    let record = node.end().await;
    assert_eq!((record.end, record.started), (PartEnd::Exited { code: 4 }, true));
    let folder = node.executor.folder(part);
    assert_eq!(fs::read_to_string(folder.join(OUTPUT)).unwrap(), "hello\n");
    node.executor.forget(part);
    wait_for("the folder goes", || if folder.exists() { Err("there".to_owned()) } else { Ok(()) });
    let steps: Vec<_> = wait_for("the trace", || {
        let steps: Vec<_> = trace_of(&state.path().join(TRACE)).iter().map(|line| line.step).collect();
        if steps.len() == 2 { Ok(steps) } else { Err(format!("{steps:?}")) }
    });
    assert_eq!(steps, [TraceStep::Started, TraceStep::Ended], "the node keeps its trace");
}

#[tokio::test]
async fn a_prepared_part_starts_on_the_word_or_ends_without_running() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let (first, second) = (shell("echo ran"), shell("echo ran"));
    let (one, two) = (first.key(), second.key());
    node.order(vec![Order::Prepare(first), Order::Prepare(second)]);
    assert_eq!(node.next().await, News::Prepared(one));
    assert_eq!(node.next().await, News::Prepared(two));
    assert_eq!(node.next().await, News::BatchDone);
    node.executor.stop(two, None).unwrap();
    assert_eq!(node.next().await, News::Ended(two, ExitRecord::never_started(PartEnd::Stopped)));
    node.order(vec![Order::Start(one, boottime_ms() + LONG), Order::Start(two, boottime_ms() + LONG)]);
    let record = loop {
        match node.next_of_part().await {
            News::Ended(part, record) if part == one => break record,
            News::Prepared(_)
            | News::Launched(..)
            | News::Started(..)
            | News::Ended(..)
            | News::BatchDone => {}
        }
    };
    assert_eq!(record.end, PartEnd::Exited { code: 0 });
    assert!(!node.executor.folder(two).join(OUTPUT).exists(), "a part that was ended never starts");
}

#[tokio::test]
async fn what_cannot_be_carried_out_ends_as_not_started() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let why = PartEnd::NotStarted { message: "accelerator 0 is in use".into() };
    let refused = shell("true");
    node.order(vec![Order::Refuse(refused.clone(), why.clone())]);
    assert_eq!(node.end().await, ExitRecord::never_started(why));
    node.executor.carry_out(vec![run(shell("true"))], || Err(std::io::Error::other("disk is on fire")));
    let PartEnd::NotStarted { message } = node.end().await.end else { panic!("it started") };
    assert!(message.contains("disk is on fire"), "{message}");
    node.order(vec![run(refused)]);
    assert_eq!(node.next().await, News::BatchDone, "the second batch's end");
    assert_eq!(node.next().await, News::BatchDone, "a part that has an end gets no other");
}

#[tokio::test]
async fn a_running_part_is_extended_and_stopped() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let spec = shell("sleep 300");
    let part = spec.key();
    let begin = boottime_ms();
    node.order(vec![Order::Run(spec, begin + 1500)]);
    while !matches!(node.next_of_part().await, News::Started(..)) {}
    node.executor.extend(part, begin + LONG).unwrap();
    while boottime_ms() < begin + 1800 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ended: Option<ExitRecord> = read_json(&node.executor.folder(part).join(EXIT)).unwrap();
    assert_eq!(ended, None, "it runs on behind its first deadline");
    node.executor.stop(part, None).unwrap();
    assert_eq!(node.end().await.end, PartEnd::Stopped);
}

#[tokio::test]
async fn a_stop_without_grace_kills_at_once() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let mut spec = shell("trap '' TERM; echo ready; sleep 300");
    spec.checkpoint.grace = DurationMs(LONG);
    let part = spec.key();
    node.order(vec![run(spec)]);
    while !matches!(node.next_of_part().await, News::Started(..)) {}
    node.executor.stop(part, Some(DurationMs(0))).unwrap();
    let record = node.end().await;
    assert_eq!(record.end, PartEnd::Stopped);
    assert!(record.ran_ms < LONG, "it ignores the signal, and its grace would be longer: {record:?}");
}

#[tokio::test]
async fn a_new_executor_takes_up_what_an_old_one_left() {
    let state = tempfile::tempdir().unwrap();
    let mut old = Node::open(state.path());
    let (running, ended, prepared) = (shell("sleep 300"), shell("exit 5"), shell("true"));
    let [one, two, three] = [running.key(), ended.key(), prepared.key()];
    old.order(vec![run(running), run(ended), Order::Prepare(prepared)]);
    let supervisor = wait_for("both have run", || {
        let exit = old.executor.folder(two).join(EXIT);
        let claim = read_json::<Claim>(&old.executor.folder(one).join(SUPERVISOR)).unwrap();
        match claim {
            Some(Claim::Supervisor { supervisor, program: Some(_), .. }) if exit.exists() => Ok(supervisor),
            claim => Err(format!("{claim:?}")),
        }
    });
    while old.next().await != News::BatchDone {}

    let mut new = Node::open(state.path());
    let state_of = |found: &BTreeMap<PartKey, Found>, part| found[&part].state.clone();
    assert!(matches!(state_of(&new.found, one), FoundState::Running { stopping: false, .. }));
    assert!(matches!(
        state_of(&new.found, two),
        FoundState::Ended(ExitRecord { end: PartEnd::Exited { code: 5 }, .. })
    ));
    assert_eq!(state_of(&new.found, three), FoundState::Prepared);
    assert!(matches!(new.next().await, News::Started(key, _) if key == one));
    kill_process(Pid::from_raw(supervisor.pid).unwrap(), Signal::KILL).unwrap();
    let record = new.end().await;
    assert_eq!((record.end, record.started), (PartEnd::Vanished, true));
}

#[tokio::test]
async fn what_a_vanished_supervisor_leaves_is_killed() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let spec = shell("setsid sh -c 'echo far=$$; sleep 300' & sleep 300");
    let folder = node.executor.folder(spec.key());
    node.order(vec![run(spec)]);
    let far = wait_for("the child's number", || {
        let output = fs::read_to_string(folder.join(OUTPUT)).unwrap_or_default();
        if output.ends_with('\n') { Ok(pid_in(&output, "far")) } else { Err(output) }
    });
    let Some(Claim::Supervisor { supervisor, .. }) = read_json(&folder.join(SUPERVISOR)).unwrap() else {
        panic!("unclaimed")
    };
    kill_process(Pid::from_raw(supervisor.pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(node.end().await.end, PartEnd::Vanished);
    wait_until_gone(far);
    assert_eq!(trace_of(&folder.join(TRACE)).last().unwrap().step, TraceStep::Vanished);
}

#[tokio::test]
async fn a_part_of_an_earlier_boot_is_over() {
    let state = tempfile::tempdir().unwrap();
    let mut old = Node::open(state.path());
    let (other_boot, torn) = (shell("true"), shell("true"));
    let [one, two] = [other_boot.key(), torn.key()];
    old.order(vec![Order::Prepare(other_boot), Order::Prepare(torn)]);
    while old.next().await != News::BatchDone {}
    let spec_file = old.executor.folder(one).join(SPEC);
    let mut spec: Spec = read_json(&spec_file).unwrap().unwrap();
    spec.boot = "another".into();
    fs::write(&spec_file, serde_json::to_vec(&spec).unwrap()).unwrap();
    fs::write(old.executor.folder(two).join(SPEC), b"").unwrap();
    let new = Node::open(state.path());
    for part in [one, two] {
        let FoundState::Ended(record) = &new.found[&part].state else { panic!("{part} is not over") };
        assert_eq!((&record.end, record.started), (&PartEnd::Vanished, false));
    }
}

#[tokio::test]
async fn a_supervisor_that_cannot_begin_is_no_mystery() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let spec = shell("echo ran");
    let (part, folder) = (spec.key(), node.executor.folder(spec.key()));
    node.order(vec![Order::Prepare(spec)]);
    while node.next().await != News::BatchDone {}
    fs::write(folder.join(SPEC), "{").unwrap();
    node.order(vec![Order::Start(part, boottime_ms() + LONG)]);
    let record = node.end().await;
    let PartEnd::NotStarted { message } = record.end else { panic!("{record:?}") };
    assert!(message.contains("EOF"), "{message}");
}

#[tokio::test]
async fn a_part_that_another_supervisor_has_is_waited_for() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let spec = shell("sleep 1; echo ran");
    let (part, folder) = (spec.key(), node.executor.folder(spec.key()));
    let deadline = boottime_ms() + LONG;
    node.order(vec![Order::Prepare(spec), Order::Start(part, deadline), Order::Start(part, deadline)]);
    let record = node.end().await;
    assert_eq!((record.end, record.started), (PartEnd::Exited { code: 0 }, true));
    assert_eq!(fs::read_to_string(folder.join(OUTPUT)).unwrap(), "ran\n");
}

#[tokio::test]
async fn a_killed_nursery_is_replaced_and_takes_nothing_along() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::open(state.path());
    let (first, second) = (shell("sleep 1; exit 7"), shell("exit 8"));
    let one = first.key();
    let claim = node.executor.folder(one).join(SUPERVISOR);
    node.order(vec![run(first)]);
    while !matches!(node.next_of_part().await, News::Started(..)) {}
    let Some(Claim::Supervisor { supervisor, .. }) = read_json(&claim).unwrap() else { panic!("unclaimed") };
    let stat = fs::read_to_string(format!("/proc/{}/stat", supervisor.pid)).unwrap();
    let nursery: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    kill_process(Pid::from_raw(nursery).unwrap(), Signal::KILL).unwrap();
    wait_until_gone(nursery);
    node.order(vec![run(second)]);
    let mut ends: Vec<_> = vec![node.end().await.end, node.end().await.end];
    ends.sort_by_key(|end| format!("{end:?}"));
    assert_eq!(ends, [PartEnd::Exited { code: 7 }, PartEnd::Exited { code: 8 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_short_parts_all_end_well() {
    const PARTS: u32 = 200;
    const AT_ONCE: u32 = 32;
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut node = Node::open(state.path());
    let (mut begun, mut ended, mut idle) = (0, 0, true);
    while ended < PARTS {
        if idle && begun < PARTS && begun - ended < AT_ONCE {
            let count = (AT_ONCE - (begun - ended)).min(PARTS - begun);
            node.order((0..count).map(|_| run(Box::new(spec(&["true"], 200)))).collect());
            begun += count;
            idle = false;
        }
        match node.next().await {
            News::BatchDone => idle = true,
            News::Ended(part, record) => {
                assert_eq!(record.end, PartEnd::Exited { code: 0 }, "{part}");
                node.executor.forget(part);
                ended += 1;
            }
            News::Prepared(_) | News::Launched(..) | News::Started(..) => {}
        }
    }
    assert_eq!(begun, PARTS);
}
