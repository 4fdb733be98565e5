//! Nothing that a test starts outlives the test's process, however that ends.
//!
//! Every process that is started gets a tag in its environment, which its descendants inherit, also those that
//! leave the process group. A small shell, the leash, waits on a pipe that the test's process holds; when the
//! pipe closes, it kills what carries a tag of this process, and the children of such (a job may have been given
//! an environment of its own). Reading `/proc` ties this to Linux, as the agent is.
//!
//! Left out: a process without the tag whose parent is gone already. Nobody can tell whose it was.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// The variable that marks what a test has started.
const TAG_VARIABLE: &str = "SPILLWAY_TEST_OWNER";

/// `$1` is what the tags of the owner start with. Several passes, because a process may fork during one.
const LEASH: &str = r#"
fell() {
    for child in $(sed -n "s/^\([0-9]*\) .*) [A-Za-z] $1 .*/\1/p" /proc/[0-9]*/stat 2>/dev/null); do
        fell "$child"
    done
    kill -KILL "$1" 2>/dev/null
}
read -r _
for pass in 1 2 3; do
    for environ in /proc/[0-9]*/environ; do
        if grep -qaz "^$1" "$environ" 2>/dev/null; then
            pid=${environ#/proc/}
            fell "${pid%/environ}"
        fi
    done
done
"#;

/// A fork during a pass needs another pass; no program under test forks this often.
const PASSES: u32 = 50;

/// Marks one started process and its descendants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    /// A tag that no other start has, under the leash of this process.
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        static LEASH_CHILD: OnceLock<Child> = OnceLock::new();
        LEASH_CHILD
            .get_or_init(|| start().unwrap_or_else(|error| panic!("cannot start `sh`, the leash: {error}")));
        Self(format!("{}.{}", prefix(), COUNTER.fetch_add(1, Ordering::Relaxed)))
    }

    /// Puts the tag into the environment of a process that is about to start.
    pub(crate) fn mark(&self, command: &mut Command) {
        command.env(TAG_VARIABLE, &self.0);
    }

    /// Kills every process that carries the tag, and their descendants; the ids of those that were found.
    pub(crate) fn sweep(&self) -> Vec<i32> {
        let mut killed = Vec::new();
        for _ in 0..PASSES {
            let carriers = self.carriers();
            if carriers.is_empty() {
                break;
            }
            for pid in carriers {
                // Gone already is as good as killed.
                if let Some(pid) = Pid::from_raw(pid) {
                    kill_process(pid, Signal::KILL).ok();
                }
                killed.push(pid);
            }
        }
        killed.sort_unstable();
        killed.dedup();
        killed
    }

    fn carriers(&self) -> Vec<i32> {
        let wanted = format!("{TAG_VARIABLE}={}", self.0);
        let mut found = Vec::new();
        for pid in processes() {
            // Others' processes and those that just ended cannot be read, and are not ours.
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
                found.push(pid);
            }
        }
        with_descendants(found)
    }
}

fn with_descendants(mut pids: Vec<i32>) -> Vec<i32> {
    if pids.is_empty() {
        return pids;
    }
    let parents: Vec<(i32, i32)> = processes().filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        next += 1;
        for (child, parent) in &parents {
            if *parent == pid && !pids.contains(child) {
                pids.push(*child);
            }
        }
    }
    pids
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    fields(&stat).nth(1)?.parse().ok()
}

/// The fields of a `/proc/PID/stat` from the third, the state; the second, the name, may hold spaces.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default().split_whitespace()
}

/// Unique among the processes of this machine's uptime: a process id alone comes again.
fn prefix() -> &'static str {
    static PREFIX: OnceLock<String> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Field 22 is the start time, in clock ticks since boot.
        format!("{}-{}", std::process::id(), fields(&stat).nth(19).unwrap_or("0"))
    })
}

fn start() -> io::Result<Child> {
    let pattern = format!("{TAG_VARIABLE}={}\\.", prefix());
    Command::new("sh")
        .args(["-c", LEASH, "leash", &pattern])
        .env_remove(TAG_VARIABLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_finds_what_left_the_process_group_and_nothing_else() {
        let (mine, other) = (Tag::new(), Tag::new());
        let start = |tag: &Tag| {
            let mut command = Command::new("sleep");
            tag.mark(command.arg("600").process_group(0));
            command.spawn().expect("sleep starts")
        };
        let (mut swept, mut spared) = (start(&mine), start(&other));
        assert_eq!(mine.sweep(), [i32::try_from(swept.id()).expect("a process id")]);
        assert!(!swept.wait().expect("it ends").success());
        assert!(spared.try_wait().expect("it can be asked").is_none(), "another start's process was killed");
        assert_eq!(other.sweep().len(), 1);
        assert!(!spared.wait().expect("it ends").success());
    }

    #[test]
    fn a_child_with_an_environment_of_its_own_is_found_through_its_parent() {
        let tag = Tag::new();
        let mut command = Command::new("sh");
        tag.mark(command.args(["-c", "env -i sleep 600 & echo $!; wait"]).stdout(Stdio::piped()));
        let mut parent = command.spawn().expect("sh starts");
        let mut line = String::new();
        let stdout = parent.stdout.as_mut().expect("it is piped");
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).expect("sh says a number");
        let child: i32 = line.trim().parse().expect("a process id");
        assert!(tag.sweep().contains(&child));
        assert!(!parent.wait().expect("it ends").success());
    }
}
