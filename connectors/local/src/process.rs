//! Finding and ending every process of an instance.
//!
//! A process belongs to an instance when it carries the instance's variable, or when its parent or the leader
//! of its session belongs: a job's own environment may lack the variable, but its supervisor has it. To end
//! them all, the members are first stopped, until a look finds nobody new: what is stopped makes no children
//! that could get away. Then they are killed. A reused process id is never hit: the signal goes to a handle
//! that was opened before the process's start time was compared.
//!
//! The calling process is never a member to be signalled, so that a machine can end all of its own instance.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use spillway_types::DurationMs;

use crate::INSTANCE_VARIABLE;
use crate::store::Store;

/// How often one round stops and looks again; each look takes milliseconds, and a stop less.
const MAX_LOOKS: u32 = 20;
/// Pause between rounds, for the killed to vanish.
const PAUSE: DurationMs = DurationMs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    id: i32,
    parent: i32,
    session: i32,
    /// In clock ticks since boot; with the id it names the process for good.
    start: u64,
    state: char,
}

impl Process {
    fn read(id: i32) -> Option<Self> {
        Self::parse(id, &std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// Parses `/proc/ID/stat`, proc_pid_stat(5): the name in parentheses may hold anything.
    fn parse(id: i32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
        Some(Self {
            id,
            state: fields.first()?.chars().next()?,
            parent: number(1)?,
            session: number(3)?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    const fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    const fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.id) else { return };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if Self::read(self.id).is_some_and(|now| now.start == self.start) {
            // It may have ended in between, which is all that is wanted.
            pidfd_send_signal(handle, signal).ok();
        }
    }
}

/// Whether any process of the instance is left, other than the calling one.
pub(crate) fn any_left(provider_id: &str) -> bool {
    !members(provider_id).is_empty()
}

/// Ends every process of the instance other than the calling one, and returns when none is left. It has no
/// bound of its own: the caller sets one.
pub(crate) async fn end_all(store: &Store, provider_id: &str) {
    loop {
        let (store, id) = (store.clone(), provider_id.to_owned());
        let round = tokio::task::spawn_blocking(move || {
            // With the lock, no member holds it: stopped with it, and never killed should this process die in
            // between, a member would block the whole cloud. A folder that is gone has nobody to block.
            let _locked = store.lock().ok();
            end_round(&id)
        });
        let round = round.await;
        if matches!(round, Ok(0)) {
            return;
        }
        tokio::time::sleep(PAUSE.to_std()).await;
    }
}

/// Stops, then kills, and says how many there were.
fn end_round(provider_id: &str) -> usize {
    let mut found = members(provider_id);
    for _ in 0..MAX_LOOKS {
        if found.iter().all(Process::is_stopped) {
            break;
        }
        for process in found.iter().filter(|process| !process.is_stopped()) {
            process.signal(Signal::STOP);
        }
        found = members(provider_id);
    }
    for process in &found {
        process.signal(Signal::KILL);
    }
    found.len()
}

fn members(provider_id: &str) -> Vec<Process> {
    let own = getpid().as_raw_nonzero().get();
    let all: Vec<Process> = every_process().into_iter().filter(|process| !process.is_dead()).collect();
    let marker = format!("{INSTANCE_VARIABLE}={provider_id}");
    let mut ids: BTreeSet<i32> =
        all.iter().filter(|process| is_marked(process.id, &marker)).map(|process| process.id).collect();
    loop {
        let before = ids.len();
        for process in &all {
            if ids.contains(&process.parent) || ids.contains(&process.session) {
                ids.insert(process.id);
            }
        }
        if ids.len() == before {
            break;
        }
    }
    all.into_iter().filter(|process| ids.contains(&process.id) && process.id != own).collect()
}

fn every_process() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir(Path::new("/proc")) else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    ids.filter_map(Process::read).collect()
}

/// Other users' processes cannot be read and are none of ours.
fn is_marked(id: i32, marker: &str) -> bool {
    let environ = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_parsed() {
        let stat = "42 (a) b (c)) S 7 42 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 1";
        let expected = Process { id: 42, parent: 7, session: 9, start: 123_456, state: 'S' };
        assert_eq!(Process::parse(42, stat), Some(expected));
        assert_eq!(Process::parse(42, "42 (x) S 1"), None);
    }

    #[test]
    fn a_signal_misses_a_process_that_took_over_the_id() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        let real = Process::read(id).unwrap();
        Process { start: real.start + 1, ..real }.signal(Signal::KILL);
        assert_eq!(child.try_wait().unwrap(), None);
        real.signal(Signal::KILL);
        assert!(!child.wait().unwrap().success());
    }

    /// A marked shell whose children shed the variable, leave the session, and lose their parent.
    #[tokio::test]
    async fn everything_of_an_instance_is_ended_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let id = format!("i-test-{}", std::process::id());
        let script = "setsid sleep 61 & env -i setsid sleep 62 & (env -i sleep 63 &) ; sleep 64; true";
        let mut shell = Command::new("setsid");
        shell.args(["--wait", "sh", "-c", script]).env(INSTANCE_VARIABLE, &id).stdin(Stdio::null());
        let mut other =
            Command::new("sleep").arg("65").env(INSTANCE_VARIABLE, format!("{id}0")).spawn().unwrap();
        let mut shell = shell.spawn().unwrap();
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while members(&id).len() < 5 {
            assert!(tokio::time::Instant::now() < deadline, "only {:?} were found", members(&id));
            tokio::time::sleep(PAUSE.to_std()).await;
        }
        let found = members(&id);
        end_all(&Store::create(dir.path()).unwrap(), &id).await;
        assert!(
            found.iter().all(|p| Process::read(p.id).is_none_or(|now| now.is_dead() || now.start != p.start))
        );
        assert!(!shell.wait().unwrap().success());
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
