//! The processes of the demo: real ones, of this same program, and none of them outlives it.
//!
//! Each is started in a process group of its own, so that Ctrl-C reaches only the demo, which then ends them in
//! order. Everything they start inherits their `TMPDIR`, through agents, machines and supervisors down to the
//! jobs: that is how the sweep at the end knows what is left, and that there is nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};
use spillway_api::Secret;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a process has to end after it was asked to.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Most passes of the sweep: what forks during one is found by the next.
const SWEEPS: u32 = 100;
/// Pause between two passes, for the killed to vanish.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// Lines of a log that are shown where a process failed.
const SHOWN_LINES: usize = 15;
/// Variables of the person's shell that would reach the demo's processes and mean something to them.
const REMOVED_VARIABLES: [&str; 6] = [
    "SPILLWAY_SERVER",
    "SPILLWAY_TOKEN",
    "SPILLWAY_CONFIG",
    "SPILLWAY_DATABASE",
    "SPILLWAY_JOIN_TOKEN",
    "SPILLWAY_LOCAL_INSTANCE",
];

/// One process that the demo started.
#[derive(Debug)]
struct Member {
    name: String,
    log: PathBuf,
    child: Child,
}

/// Every process that the demo started.
#[derive(Debug)]
pub(super) struct Crew {
    program: PathBuf,
    temporary_files: PathBuf,
    members: Vec<Member>,
}

impl Crew {
    /// Nobody yet. What is started gets this folder as its `TMPDIR`.
    ///
    /// # Errors
    /// The system does not say which program this is.
    pub(super) fn new(temporary_files: PathBuf) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the system does not say which program this is")?;
        Ok(Self { program, temporary_files, members: Vec::new() })
    }

    /// Starts this program with other arguments; what it says goes to `log`.
    ///
    /// # Errors
    /// The log cannot be written, or the program not started.
    pub(super) fn start(
        &mut self,
        name: &str,
        log: PathBuf,
        arguments: impl IntoIterator<Item = OsString>,
        token: Option<&Secret>,
    ) -> anyhow::Result<()> {
        let said = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let also_said = said.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.program);
        command.args(arguments).env("TMPDIR", &self.temporary_files);
        for variable in REMOVED_VARIABLES {
            command.env_remove(variable);
        }
        if let Some(token) = token {
            command.env("SPILLWAY_JOIN_TOKEN", token.expose());
        }
        command.stdin(Stdio::null()).stdout(said).stderr(also_said).process_group(0).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.members.push(Member { name: name.to_owned(), log, child });
        Ok(())
    }

    /// Fails where a process has ended.
    ///
    /// # Errors
    /// Which, and how.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            let ended = member.child.try_wait().with_context(|| format!("cannot watch {}", member.name))?;
            if let Some(status) = ended {
                bail!("{} ended by itself ({status})", member.name);
            }
        }
        Ok(())
    }

    /// The last lines of a process that has ended, with its name; of the broker where none has.
    pub(super) fn telling_log(&mut self) -> Option<(String, String)> {
        let ended = |member: &mut Member| !matches!(member.child.try_wait(), Ok(None));
        let at = self.members.iter_mut().position(ended).unwrap_or(0);
        let member = self.members.get(at)?;
        Some((member.name.clone(), last_lines(&member.log)))
    }

    /// Ends everything: the youngest first, as the broker is the oldest; then whatever is left. Gives how many
    /// processes were left.
    pub(super) async fn end(&mut self) -> usize {
        while let Some(mut member) = self.members.pop() {
            let id = member.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            if let Some(id) = id {
                // It is not reaped yet, so the id is its own; it may have ended, which is all that is wanted.
                kill_process(id, Signal::TERM).ok();
            }
            if timeout(STOP_GRACE, member.child.wait()).await.is_err() {
                member.child.kill().await.ok();
            }
        }
        self.sweep().await
    }

    async fn sweep(&self) -> usize {
        let mut found = BTreeSet::new();
        for _ in 0..SWEEPS {
            let left = left_over(&self.temporary_files);
            if left.is_empty() {
                break;
            }
            for process in left {
                process.kill();
                found.insert((process.id, process.start));
            }
            sleep(SWEEP_PAUSE).await;
        }
        found.len()
    }
}

fn last_lines(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n")
}

/// A process as `/proc/ID/stat` shows it, proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    id: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// In clock ticks since boot; with the id it names the process for good.
    start: u64,
    dead: bool,
}

impl Process {
    fn read(id: i32) -> Option<Self> {
        Self::parse(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// The name in parentheses may hold anything.
    fn parse(id: i32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
        Some(Self {
            id,
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            start: fields.get(19)?.parse().ok()?,
            dead: matches!(*fields.first()?, "Z" | "X"),
        })
    }

    /// Kills it, and never another that has taken over its id.
    fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.id) else { return };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if Self::read(self.id).is_some_and(|now| now.start == self.start) {
            // It may have ended in between, which is all that is wanted.
            pidfd_send_signal(handle, Signal::KILL).ok();
        }
    }
}

/// The processes with this `TMPDIR`, and those that they started: a program may have dropped the variable.
fn left_over(temporary_files: &Path) -> Vec<Process> {
    let mark = [b"TMPDIR=", temporary_files.as_os_str().as_encoded_bytes()].concat();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = getpid().as_raw_nonzero().get();
    let all: Vec<Process> =
        ids.filter_map(Process::read).filter(|process| !process.dead && process.id != own).collect();
    let mut members: BTreeSet<i32> =
        all.iter().filter(|process| has_variable(process.id, &mark)).map(|process| process.id).collect();
    loop {
        let before = members.len();
        for process in &all {
            if [process.parent, process.group, process.session].iter().any(|id| members.contains(id)) {
                members.insert(process.id);
            }
        }
        if members.len() == before {
            break;
        }
    }
    all.into_iter().filter(|process| members.contains(&process.id)).collect()
}

/// Processes of other users cannot be read, and are none of ours.
fn has_variable(id: i32, variable: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|has| has == variable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::DurationMs;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_parsed() {
        let stat = "42 (a) b (c)) S 7 41 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 1";
        let expected = Process { id: 42, parent: 7, group: 41, session: 9, start: 123_456, dead: false };
        assert_eq!(Process::parse(42, stat), Some(expected));
        assert_eq!(Process::parse(42, "42 (x) S 1"), None);
    }

    /// A marked shell whose children drop the variable and leave the session, beside a process of another demo.
    #[tokio::test]
    async fn everything_of_the_demo_is_ended_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ours, others) = (folder.path().join("ours"), folder.path().join("ours2"));
        let script = "setsid sleep 61 & env -i setsid sleep 62 & (env -i sleep 63 &) ; sleep 64";
        let shell = |mark: &Path, script: &str| {
            let mut command = Command::new("setsid");
            command.args(["--wait", "sh", "-c", script]).env("TMPDIR", mark).kill_on_drop(true);
            command.stdin(Stdio::null()).spawn().expect("sh starts")
        };
        let mut other = shell(&others, "sleep 65");
        let mut left = shell(&ours, script);
        let crew = Crew::new(ours.clone()).expect("a crew");
        let patience = DurationMs::from_secs(20).to_std();
        let started = timeout(patience, async {
            while left_over(&ours).len() < 5 {
                sleep(SWEEP_PAUSE).await;
            }
        });
        assert!(started.await.is_ok(), "only {:?} were found", left_over(&ours));
        assert!(crew.sweep().await >= 5);
        assert_eq!(left_over(&ours), []);
        assert!(!left.wait().await.expect("it ends").success());
        assert!(other.try_wait().expect("it can be asked").is_none(), "another's process was killed");
        assert!(Crew::new(others).expect("a crew").sweep().await >= 1);
    }
}
