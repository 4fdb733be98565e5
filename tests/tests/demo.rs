//! `spillway demo`, as a newcomer runs it: it ends well within a minute, what it says is consistent, and however
//! it is ended, no process and no folder is left.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use spillway_tests::{Spawned, binaries, wait_for};

/// The promise is 60 s from the start; the bound of the wait is longer, so that a miss says by how much.
const PROMISED_MS: u64 = 60_000;
const PATIENCE: Duration = Duration::from_secs(180);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// 128 and SIGINT, as a shell has it.
const INTERRUPTED: i32 = 130;

/// Starts the demo with its temporary folders in `dir`, which then mark everything that it starts.
fn start(dir: &Path, arguments: &[&str]) -> Spawned {
    let mut command = Command::new(binaries::spillway());
    command.arg("demo").args(arguments).env("TMPDIR", dir).env_remove("SPILLWAY_SERVER");
    Spawned::start("demo", command, dir)
}

fn assert_nothing_is_left(dir: &Path) {
    let folders = std::fs::read_dir(dir).expect("the folder is there").flatten();
    let left: Vec<_> = folders.map(|entry| entry.file_name()).filter(|name| !is_output(name)).collect();
    assert!(left.is_empty(), "folders are left: {left:?}");
    let left = marked(dir);
    assert!(left.is_empty(), "processes are left: {left:?}");
}

fn is_output(name: &std::ffi::OsStr) -> bool {
    name == "demo.stdout" || name == "demo.stderr"
}

/// Processes whose `TMPDIR` is below `dir`: those of a demo that was started there.
fn marked(dir: &Path) -> Vec<String> {
    let mark = format!("TMPDIR={}/", dir.display());
    let marked = |pid: &String| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()))
    };
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(marked).collect()
}

fn sum(map: &Value) -> i64 {
    let map = map.as_object().expect("an object of amounts");
    map.values().map(|amount| amount.as_i64().expect("micros")).sum()
}

#[test]
fn it_ends_by_itself_and_its_account_is_consistent() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = start(dir.path(), &["--exit", "-o", "json"]);
    let status = demo.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", demo.stderr());
    assert_nothing_is_left(dir.path());
    let told: Value = serde_json::from_str(&demo.stdout()).expect("standard output is one JSON object");
    let count = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name} is {}", told[name]));
    assert!(count("took_ms") <= PROMISED_MS, "it took {} ms", count("took_ms"));
    assert!(count("jobs_total") >= 24);
    let ends = ["jobs_succeeded", "jobs_failed", "jobs_refused", "jobs_cancelled"].map(count);
    assert_eq!(ends.iter().sum::<u64>(), count("jobs_total"));
    assert_eq!(ends[1..], [1, 1, 1]);
    for name in ["jobs_on_prem", "jobs_personal", "jobs_cloud", "instances_launched"] {
        assert!(count(name) >= 1, "{name}: {}", told[name]);
    }
    for name in ["instances_alive", "ledger_imbalance_micros", "invariant_violations", "processes_left"] {
        assert_eq!(count(name), 0, "{name}");
    }
    assert!(
        told["instances_by_site"].as_object().is_some_and(|sites| sites.len() == 2),
        "both regions are used"
    );
    let reason = told["refused"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("robotics"), "the refusal names the group: {reason:?}");
    assert!(told["dispatch_ms_p50"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 5000.0));
    let spend = &told["spend"];
    let total = spend["ledger_total_micros"].as_i64().expect("micros");
    assert!(total > 0);
    assert_eq!([sum(&spend["by_group"]), sum(&spend["by_site"])], [total, total]);
    let failing: Vec<&Value> =
        told["checks"].as_array().expect("checks").iter().filter(|check| check["passed"] != true).collect();
    assert!(failing.is_empty(), "{failing:?}");
}

#[test]
fn it_serves_on_and_shows_how_to_ask_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = start(dir.path(), &[]);
    let after = |text: &str, mark: &str| {
        let rest = text.split_once(mark).map(|(_, rest)| rest.to_owned());
        rest.and_then(|rest| rest.lines().next().map(str::to_owned))
    };
    let (server, token) = wait_for("the next steps", PATIENCE, || {
        assert!(demo.ended().is_none(), "it ended: {}", demo.stderr());
        let said = demo.stderr();
        let server = after(&said, "export SPILLWAY_SERVER=");
        let token = after(&said, "export SPILLWAY_TOKEN=\"$(cat ");
        server.zip(token).ok_or_else(|| said.lines().last().unwrap_or_default().to_owned())
    });
    let token = token.trim_end_matches(")\"");
    let mut ask = Command::new(binaries::spillway());
    ask.args(["jobs", "--limit", "500", "-o", "json", "--server", &server, "--token-file", token]);
    let answer = ask.output().expect("the binary runs");
    let jobs: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert!(jobs["items"].as_array().is_some_and(|jobs| jobs.len() >= 24), "{jobs}");
    assert_eq!(demo.stop(STOP_PATIENCE).code(), Some(INTERRUPTED), "{}", demo.stderr());
    assert_nothing_is_left(dir.path());
}

/// Interrupts it when its standard error says `mark`.
fn interrupt_at(mark: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut demo = start(dir.path(), &["--exit"]);
    wait_for(mark, PATIENCE, || {
        let said = demo.stderr();
        if said.contains(mark) { Ok(()) } else { Err(said) }
    });
    assert_eq!(demo.stop(STOP_PATIENCE).code(), Some(INTERRUPTED), "{}", demo.stderr());
    assert_eq!(demo.stdout(), "", "there is no result");
    assert_nothing_is_left(dir.path());
}

#[test]
fn an_interrupt_at_any_step_leaves_nothing() {
    for mark in ["starting a broker", "joining", "measuring", "submitting", "pretrain-2x8 runs", "leaves for"]
    {
        interrupt_at(mark);
    }
}
