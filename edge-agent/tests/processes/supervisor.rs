//! The supervisor with real processes: every way in which a part can end, without any agent.

use std::fs;

use crate::common::{Part, pid_in, spec, wait_for, wait_until_gone};
use rustix::process::{Pid, Signal, kill_process};
use spillway_agent::clock::boottime_ms;
use spillway_agent::part::{Claim, SUPERVISOR, TraceStep, WORK, read_json, write_once};
use spillway_tunnel::protocol::PartEnd;
use spillway_types::DurationMs;

const LONG: u64 = 60_000;

#[test]
fn a_program_that_ends_by_itself() {
    let cases = [
        ("exit 0", PartEnd::Exited { code: 0 }),
        ("exit 3", PartEnd::Exited { code: 3 }),
        ("kill -9 $$", PartEnd::Signalled { signal: 9 }),
        ("kill -11 $$", PartEnd::Signalled { signal: 11 }),
    ];
    for (script, end) in cases {
        let mut part = Part::started(script, LONG, 1000);
        let record = part.end();
        assert_eq!((record.end, record.started), (end, true), "{script}");
        assert_eq!(part.steps(), [TraceStep::Started, TraceStep::Ended]);
    }
}

#[test]
fn its_output_folder_and_variables() {
    let mut part = Part::new(&spec(&["sh", "-c", "pwd; echo err >&2; env; cat"], 1000));
    part.lease(boottime_ms() + LONG);
    part.spawn();
    let record = part.end();
    assert_eq!(record.end, PartEnd::Exited { code: 0 }, "its standard input is empty");
    let output = part.output();
    let work = fs::canonicalize(part.path(WORK)).unwrap();
    assert!(output.contains(work.to_str().unwrap()) && output.contains("err\n"), "{output}");
    assert!(output.contains("SPILLWAY_ATTEMPT_ID=att_") && output.contains("PATH="), "{output}");
    assert!(!output.contains("secret") && !output.contains("CARGO"), "{output}");
}

#[test]
fn a_program_that_cannot_be_run() {
    for command in [vec!["/no/such/program"], vec!["/"], vec![]] {
        let mut part = Part::new(&spec(&command, 1000));
        part.lease(boottime_ms() + LONG);
        part.spawn();
        let record = part.end();
        assert!(!record.started);
        let PartEnd::NotStarted { message } = record.end else { panic!("{record:?}") };
        let named = command.first().map_or("empty", |program| program);
        assert!(message.contains(named), "{message}");
        assert_eq!(part.steps(), [TraceStep::NotStarted]);
    }
}

#[test]
fn nothing_starts_without_a_lease_or_after_a_stop() {
    type Before = fn(&Part);
    let cases: [(Before, PartEnd); 4] = [
        (|_| {}, PartEnd::LeaseExpired),
        (|part| part.lease(boottime_ms()), PartEnd::LeaseExpired),
        (|part| fs::write(part.path("lease"), "{").unwrap(), PartEnd::LeaseExpired),
        (
            |part| {
                part.lease(boottime_ms() + LONG);
                fs::write(part.path("stop"), "").unwrap();
            },
            PartEnd::Stopped,
        ),
    ];
    for (before, end) in cases {
        let mut part = Part::new(&spec(&["sh", "-c", "echo ran"], 1000));
        before(&part);
        part.spawn();
        let record = part.end();
        assert_eq!((record.end, record.started, record.ran_ms), (end, false, 0));
        assert_eq!(part.output(), "");
    }
}

#[test]
fn a_claimed_part_is_left_alone() {
    let mut part = Part::new(&spec(&["sh", "-c", "echo ran"], 1000));
    part.lease(boottime_ms() + LONG);
    let claim = serde_json::to_vec(&Claim::Agent { boot: "x".into() }).unwrap();
    assert!(write_once(&part.path(SUPERVISOR), &claim).unwrap());
    part.spawn();
    let pid = part.supervisor_pid();
    wait_until_gone(pid.as_raw_nonzero().get());
    assert_eq!((part.output().as_str(), part.steps().len()), ("", 0));
    assert!(matches!(read_json(&part.path(SUPERVISOR)).unwrap(), Some(Claim::Agent { .. })));
}

#[test]
fn a_stop_is_answered_within_the_grace() {
    let mut part =
        Part::started("trap 'echo saved; exit 9' TERM; echo up; while :; do sleep 0.05; done", LONG, 9000);
    part.wait_for_output("up");
    part.stop();
    let record = part.end();
    assert_eq!(record.end, PartEnd::Stopped);
    assert!(record.ran_ms < 9000, "{record:?}");
    assert!(part.output().contains("saved"));
    assert_eq!(part.steps(), [TraceStep::Started, TraceStep::StopRequested, TraceStep::Ended]);
}

/// Ignores SIGTERM, and leaves a child in its group and one in a session of its own.
const STUBBORN: &str = "trap '' TERM; sleep 300 & echo child=$!; setsid sleep 300 & sleep 0.1; echo up; while :; do sleep 0.05; done";

fn pids_of_session_child(parent: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_program_that_ignores_the_signal_is_killed_with_all_it_started() {
    let mut part = Part::started(STUBBORN, LONG, 200);
    part.wait_for_output("up");
    let children = pids_of_session_child(part.program());
    assert!(children.len() >= 2, "{children:?}");
    part.stop();
    let record = part.end();
    assert_eq!(record.end, PartEnd::Stopped);
    assert!(record.ran_ms >= 200, "{record:?}");
    for pid in children {
        wait_until_gone(pid);
    }
    use TraceStep as T;
    assert_eq!(part.steps(), [T::Started, T::StopRequested, T::Killed, T::Ended]);
}

#[test]
fn what_a_program_leaves_behind_goes_with_it() {
    let mut part = Part::started(
        "sleep 300 & echo inside=$!; setsid sh -c 'echo outside=$$; sleep 300' & sleep 0.2",
        LONG,
        100,
    );
    let record = part.end();
    assert_eq!(record.end, PartEnd::Exited { code: 0 });
    for name in ["inside", "outside"] {
        wait_until_gone(pid_in(&part.output(), name));
    }
}

#[test]
fn at_the_lease_s_end_it_is_dead_within_the_grace() {
    let begin = boottime_ms();
    let mut part = Part::new(&spec(&["sh", "-c", STUBBORN], 300));
    part.lease(begin + 700);
    part.spawn();
    let record = part.end();
    let over = boottime_ms() - begin;
    assert_eq!(record.end, PartEnd::LeaseExpired);
    assert!((1000..1900).contains(&over), "over after {over} ms");
    use TraceStep as T;
    assert_eq!(part.steps(), [T::Started, T::LeaseExpired, T::Killed, T::Ended]);
    let expired = part.trace()[1].at_ms - begin;
    assert!((700..1400).contains(&expired), "signalled after {expired} ms");
}

#[test]
fn a_renewed_lease_lets_it_run_on() {
    let begin = boottime_ms();
    let mut part = Part::started("sleep 1.2; echo done", 600, 100);
    part.wait_for_start();
    part.lease(begin + 5000);
    let record = part.end();
    assert_eq!(record.end, PartEnd::Exited { code: 0 });
    assert!(record.ran_ms >= 1200 && part.output().contains("done"), "{record:?}");
}

#[test]
fn a_shortened_lease_is_seen_when_it_is_woken() {
    let mut part = Part::started("sleep 300", LONG, 100);
    part.wait_for_start();
    part.lease(boottime_ms());
    part.poke();
    assert_eq!(part.end().end, PartEnd::LeaseExpired);
}

#[test]
fn a_time_limit_ends_it() {
    let mut spec = spec(&["sleep", "300"], 100);
    spec.time_limit = DurationMs(300);
    let mut part = Part::new(&spec);
    part.lease(boottime_ms() + LONG);
    part.spawn();
    let record = part.end();
    assert_eq!(record.end, PartEnd::TimeLimit);
    assert!((300..1500).contains(&record.ran_ms), "{record:?}");
}

#[test]
fn a_killed_supervisor_takes_the_program_along() {
    let mut part = Part::started("exec sleep 300", LONG, 100);
    let program = part.program();
    part.kill_supervisor();
    wait_until_gone(program);
}

#[test]
fn orphans_are_reaped_and_cpu_time_is_counted() {
    let mut part = Part::started("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", LONG, 100);
    let record = part.end();
    assert!(record.cpu_ms > 0 && record.cpu_ms <= record.ran_ms + 20, "{record:?}");
}

#[test]
fn two_supervisors_of_one_part_start_it_once() {
    let mut part = Part::new(&spec(&["sh", "-c", "echo ran; sleep 0.3"], 100));
    part.lease(boottime_ms() + LONG);
    let mut others: Vec<_> = (0..5)
        .map(|_| {
            let mut command = std::process::Command::new(crate::common::exe());
            command.arg("supervise").arg(part.dir.path()).spawn().unwrap()
        })
        .collect();
    part.spawn();
    for other in &mut others {
        other.wait().unwrap();
    }
    wait_for("the end", || {
        let steps = part.steps();
        if steps.contains(&TraceStep::Ended) { Ok(()) } else { Err(format!("{steps:?}")) }
    });
    assert_eq!((part.output().as_str(), part.steps().len()), ("ran\n", 2));
}

#[test]
fn a_stopped_program_is_killed_all_the_same() {
    let mut part = Part::started("sleep 300", 500, 100);
    let program = part.program();
    kill_process(Pid::from_raw(program).unwrap(), Signal::STOP).unwrap();
    assert_eq!(part.end().end, PartEnd::LeaseExpired);
    wait_until_gone(program);
}
