//! What the tests with real processes share: a part's folder, its supervisor, and waiting for conditions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use spillway_agent::clock::{boot_id, boottime_ms};
use spillway_agent::part::{
    CTL, Claim, EXIT, ExitRecord, LEASE, LeaseFile, OUTPUT, SPEC, STOP, SUPERVISOR, Spec, TRACE, TraceLine,
    TraceStep, WORK, read_json, write_atomically,
};
use spillway_agent::supervisor::SUPERVISE;
use spillway_types::{Allocation, Checkpoint, DurationMs};

/// The binary under test.
pub(crate) fn exe() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_spillway-agent"))
}

/// Waits until `look` gives something; panics with what it last saw after ten seconds.
#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at another process there is nothing to wait on"
)]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begin = boottime_ms();
    loop {
        match look() {
            Ok(value) => return value,
            Err(status) if boottime_ms() - begin > 10_000 => panic!("{what}: still {status}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A description of an attempt that no other test has, with a minute to run and `grace_ms` to stop. Vanished
/// parts are cleaned up by the attempt's name, so tests must not share one.
pub(crate) fn spec(command: &[&str], grace_ms: u64) -> Spec {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let n = (u64::from(std::process::id()) << 32) + u64::from(NEXT.fetch_add(1, Ordering::Relaxed));
    Spec {
        attempt: format!("att_{n:032x}").parse().unwrap(),
        rank: 0,
        number: 1,
        job: format!("job_{n:032x}").parse().unwrap(),
        task: 0,
        boot: boot_id().unwrap(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        env: BTreeMap::from([
            ("SPILLWAY_ATTEMPT_ID".to_owned(), format!("att_{n:032x}")),
            ("SPILLWAY_NODE_RANK".to_owned(), "0".to_owned()),
        ]),
        time_limit: DurationMs(60_000),
        checkpoint: Checkpoint { signal: 15, grace: DurationMs(grace_ms), every: None },
        ttl: DurationMs(60_000),
        allocation: Allocation::default(),
        inputs: BTreeMap::new(),
    }
}

/// A part's folder with a supervisor of its own; whatever still lives is killed at the end.
pub(crate) struct Part {
    pub(crate) dir: tempfile::TempDir,
    supervisor: Option<Child>,
}

impl Part {
    pub(crate) fn new(spec: &Spec) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(WORK)).unwrap();
        mkfifoat(CWD, dir.path().join(CTL), Mode::RUSR | Mode::WUSR).unwrap();
        fs::write(dir.path().join(SPEC), serde_json::to_vec(spec).unwrap()).unwrap();
        Self { dir, supervisor: None }
    }

    /// A part that runs `script` in a shell, under a lease of `lease_ms` from now.
    pub(crate) fn started(script: &str, lease_ms: u64, grace_ms: u64) -> Self {
        let mut part = Self::new(&spec(&["sh", "-c", script], grace_ms));
        part.lease(boottime_ms() + lease_ms);
        part.spawn();
        part
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn lease(&self, deadline_ms: u64) {
        let lease = LeaseFile { boot: boot_id().unwrap(), deadline_ms };
        write_atomically(&self.path(LEASE), &serde_json::to_vec(&lease).unwrap()).unwrap();
    }

    pub(crate) fn spawn(&mut self) {
        let mut command = Command::new(exe());
        command.arg(SUPERVISE).arg(self.dir.path()).env("SPILLWAY_JOIN_TOKEN", "secret");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.supervisor = Some(command.spawn().unwrap());
    }

    pub(crate) fn stop(&self) {
        fs::write(self.path(STOP), "").unwrap();
        self.poke();
    }

    pub(crate) fn poke(&self) {
        use std::io::Write;
        fs::OpenOptions::new().write(true).open(self.path(CTL)).unwrap().write_all(b"!").unwrap();
    }

    pub(crate) fn supervisor_pid(&self) -> Pid {
        Pid::from_child(self.supervisor.as_ref().unwrap())
    }

    pub(crate) fn kill_supervisor(&mut self) {
        kill_process(self.supervisor_pid(), Signal::KILL).unwrap();
        self.supervisor.as_mut().unwrap().wait().unwrap();
    }

    pub(crate) fn program(&self) -> i32 {
        wait_for("the program runs", || match read_json(&self.path(SUPERVISOR)).unwrap() {
            Some(Claim::Supervisor { program: Some(program), .. }) => Ok(program.pid),
            other => Err(format!("{other:?}")),
        })
    }

    pub(crate) fn wait_for_start(&self) {
        self.program();
    }

    pub(crate) fn wait_for_output(&self, text: &str) {
        wait_for("the output", || {
            let output = self.output();
            if output.contains(text) { Ok(()) } else { Err(format!("`{output}`")) }
        });
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.path(OUTPUT)).unwrap_or_default()
    }

    /// Waits for the supervisor and gives what it wrote down.
    pub(crate) fn end(&mut self) -> ExitRecord {
        let mut supervisor = self.supervisor.take().unwrap();
        wait_for("the supervisor ends", || {
            supervisor.try_wait().unwrap().ok_or_else(|| format!("running; trace {:?}", self.steps()))
        });
        read_json(&self.path(EXIT)).unwrap().expect("the end is written down")
    }

    pub(crate) fn trace(&self) -> Vec<TraceLine> {
        trace_of(&self.path(TRACE))
    }

    pub(crate) fn steps(&self) -> Vec<TraceStep> {
        self.trace().iter().map(|line| line.step).collect()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.kill().ok();
            supervisor.wait().ok();
        }
    }
}

/// The lines of a trace.
pub(crate) fn trace_of(path: &Path) -> Vec<TraceLine> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until no process of this number runs any more.
pub(crate) fn wait_until_gone(pid: i32) {
    wait_for("the process ends", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        match state {
            None | Some('Z' | 'X') => Ok(()),
            Some(state) => Err(format!("process {pid} in state {state}")),
        }
    });
}

/// The number that a script wrote as `NAME=PID`.
pub(crate) fn pid_in(output: &str, name: &str) -> i32 {
    let line = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name} in `{output}`")).parse().unwrap()
}
