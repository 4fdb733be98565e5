//! Processes under test: started with their output in files, signalled by name, ended with the test.
//!
//! A [`Spawned`] leads its own process group. Dropping it kills the group and everything it has started, and
//! fails the test when the process had crashed: ended by a signal nobody here sent, or panicked (also in a task
//! that the process survived, which its stderr tells).
//!
//! Left out on purpose: ending gently on drop. A test that wants to see an orderly stop asks for it.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::leash::Tag;
use crate::wait::wait_for;

/// The exit code of a Rust program whose main thread panicked.
const PANIC_CODE: i32 = 101;

/// What the standard library and tokio both print for a panic.
const PANIC_WORDS: &str = "panicked at";

/// Lines of stderr that a failing test shows.
const SHOWN_LINES: usize = 40;

/// Ports are asked of the kernel one by one; one that is free for TCP is seldom taken for UDP.
const PORT_TRIES: u32 = 100;

/// Whether an end of the process is the test's own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nobody here has asked it to end.
    Unasked,
    /// The test sent it a signal that ends it.
    Asked,
}

/// A process of a test, and everything that it starts.
#[derive(Debug)]
pub struct Spawned {
    name: String,
    child: Child,
    pid: Pid,
    tag: Tag,
    ending: Ending,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Spawned {
    /// Starts `command`, with nothing on stdin, stdout in `DIR/NAME.stdout` and stderr in `DIR/NAME.stderr`.
    ///
    /// A second start with the same name appends to the files.
    ///
    /// # Panics
    /// The files cannot be written, or the program cannot be started.
    #[must_use]
    pub fn start(name: &str, mut command: Command, dir: &Path) -> Self {
        let tag = Tag::new();
        let stdout = dir.join(format!("{name}.stdout"));
        let stderr = dir.join(format!("{name}.stderr"));
        tag.mark(&mut command);
        command.stdin(Stdio::null()).stdout(appending(&stdout)).stderr(appending(&stderr)).process_group(0);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("the kernel's ids are positive");
        Self { name: name.to_owned(), child, pid, tag, ending: Ending::Unasked, stdout, stderr }
    }

    /// Its process id, which is also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to stderr, over all starts with its name.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Everything it has written to stdout, over all starts with its name.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// The status it ended with, or `None` while it runs.
    ///
    /// # Panics
    /// The kernel does not know the process.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .unwrap_or_else(|error| panic!("cannot ask for the end of {}: {error}", self.name))
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// After `timeout`, with the last lines of its stderr.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        wait_for(&what, timeout, || {
            self.ended().ok_or_else(|| format!("it runs; stderr:\n{}", self.last_lines()))
        })
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// It has not ended after `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> ExitStatus {
        self.end_with(Signal::TERM);
        self.wait(timeout)
    }

    /// Ends the process alone at once (SIGKILL), as a power cut would; what it has started lives on.
    ///
    /// # Panics
    /// The kernel does not know the process.
    pub fn kill(&mut self) -> ExitStatus {
        self.end_with(Signal::KILL);
        self.child.wait().unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name))
    }

    /// Waits until a SIGKILL that the test arranged otherwise has ended it, such as a crash point of its own.
    ///
    /// # Panics
    /// It has not ended after `timeout`, or in another way.
    pub fn wait_killed(&mut self, timeout: Duration) {
        let status = self.wait(timeout);
        if status.signal() != Some(Signal::KILL.as_raw()) {
            panic!("{} was to be killed and ended with {status}; stderr:\n{}", self.name, self.last_lines());
        }
        self.ending = Ending::Asked;
    }

    /// Stops the process alone in its tracks (SIGSTOP), as an overloaded or sleeping machine would.
    ///
    /// # Panics
    /// It has ended.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// It has ended.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Why this process counts as crashed, if it does.
    ///
    /// # Panics
    /// The kernel does not know the process.
    pub fn crash(&mut self) -> Option<String> {
        let status = self.ended();
        crash_of(&self.name, status, self.ending, &self.stderr())
    }

    fn end_with(&mut self, signal: Signal) {
        if self.ended().is_none() {
            self.ending = Ending::Asked;
            self.signal(signal);
        }
    }

    /// Not reaped yet, so the id cannot belong to anybody else.
    fn signal(&mut self, signal: Signal) {
        if let Some(status) = self.ended() {
            panic!("{} has ended ({status}); stderr:\n{}", self.name, self.last_lines());
        }
        kill_process(self.pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    fn last_lines(&self) -> String {
        let text = self.stderr();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Spawned {
    #[expect(
        clippy::print_stderr,
        reason = "beside the panic of the test, where a person looks for its cause"
    )]
    fn drop(&mut self) {
        let crash = self.crash();
        if crash.is_none() {
            self.ending = Ending::Asked;
        }
        // The group may be gone, and the sweep finds what has left it.
        kill_process_group(self.pid, Signal::KILL).ok();
        self.tag.sweep();
        self.child.wait().ok();
        match crash {
            Some(crash) if !std::thread::panicking() => panic!("{crash}; stderr:\n{}", self.last_lines()),
            _ if std::thread::panicking() => {
                eprintln!("---- last of {} in {}\n{}", self.name, self.stderr.display(), self.last_lines());
            }
            _ => {}
        }
    }
}

fn crash_of(name: &str, status: Option<ExitStatus>, ending: Ending, stderr: &str) -> Option<String> {
    let signal = status.and_then(|status| status.signal()).filter(|_| ending == Ending::Unasked);
    if let Some(signal) = signal {
        return Some(format!("{name} crashed: ended by signal {signal}"));
    }
    if status.and_then(|status| status.code()) == Some(PANIC_CODE) || stderr.contains(PANIC_WORDS) {
        return Some(format!("{name} crashed: it panicked"));
    }
    None
}

fn appending(path: &Path) -> File {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()))
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A port on 127.0.0.1 that was free a moment ago, for TCP and for UDP.
///
/// Somebody else may take it before it is used: prefer port 0 and read the port that the program says it got.
///
/// # Panics
/// The kernel gives no port.
#[must_use]
pub fn free_port() -> u16 {
    for _ in 0..PORT_TRIES {
        let tcp = TcpListener::bind(("127.0.0.1", 0));
        let port = tcp.as_ref().map_err(|error| error.to_string()).and_then(|tcp| {
            tcp.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
        });
        let port = port.unwrap_or_else(|error| panic!("the kernel gives no port: {error}"));
        match UdpSocket::bind(("127.0.0.1", port)) {
            Ok(_) => return port,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("the kernel gives no UDP port: {error}"),
        }
    }
    panic!("no port was free for both TCP and UDP in {PORT_TRIES} tries")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(dir: &tempfile::TempDir, script: &str) -> Spawned {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Spawned::start("shell", command, dir.path())
    }

    fn state(pid: u32) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start().chars().take(1).collect());
        rest.unwrap_or_else(|| "gone".to_owned())
    }

    #[test]
    fn output_is_kept_and_the_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut shell = shell(&dir, "echo data; echo talk >&2; exit 3");
        assert_eq!(shell.wait(SOON).code(), Some(3));
        assert_eq!((shell.stdout().as_str(), shell.stderr().as_str()), ("data\n", "talk\n"));
        assert_eq!(shell.crash(), None, "an exit code is an answer, not a crash");
    }

    #[test]
    fn a_drop_ends_the_process_and_what_left_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let spawned = shell(&dir, "setsid sleep 600 & echo $!; sleep 600");
        let child: u32 = wait_for("the child's id", SOON, || {
            spawned.stdout().trim().parse().map_err(|_| "nothing written".to_owned())
        });
        let parent = spawned.pid();
        drop(spawned);
        for pid in [parent, child] {
            wait_for("the end", SOON, || match state(pid).as_str() {
                "gone" | "Z" => Ok(()),
                state => Err(format!("{pid} is in state {state}")),
            });
        }
    }

    #[test]
    fn it_pauses_goes_on_and_stops_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let mut spawned = shell(&dir, "trap 'exit 7' TERM; echo up; while true; do sleep 0.01; done");
        wait_for("the trap", SOON, || {
            if spawned.stdout() == "up\n" { Ok(()) } else { Err("not up".to_owned()) }
        });
        let has_state = |pid, wanted: fn(&str) -> bool| {
            wait_for("the state", SOON, || if wanted(&state(pid)) { Ok(()) } else { Err(state(pid)) });
        };
        spawned.pause();
        has_state(spawned.pid(), |state| state == "T");
        spawned.resume();
        has_state(spawned.pid(), |state| state != "T");
        assert_eq!(spawned.stop(SOON).code(), Some(7));
    }

    #[test]
    fn our_own_kill_is_no_crash() {
        let dir = tempfile::tempdir().unwrap();
        let mut spawned = shell(&dir, "exec sleep 600");
        assert_eq!(spawned.kill().signal(), Some(9));
        assert_eq!(spawned.crash(), None);
    }

    #[test]
    fn a_kill_that_the_test_arranged_is_no_crash() {
        let dir = tempfile::tempdir().unwrap();
        let mut spawned = shell(&dir, "kill -KILL $$");
        spawned.wait_killed(SOON);
        assert_eq!(spawned.crash(), None);
    }

    #[test]
    #[should_panic(expected = "shell was to be killed and ended with exit status: 3")]
    fn another_end_than_the_arranged_kill_fails() {
        let dir = tempfile::tempdir().unwrap();
        shell(&dir, "exit 3").wait_killed(SOON);
    }

    #[test]
    #[should_panic(expected = "shell crashed: ended by signal 6")]
    fn a_crash_fails_the_test_at_the_drop() {
        let dir = tempfile::tempdir().unwrap();
        let mut spawned = shell(&dir, "kill -ABRT $$");
        spawned.wait(SOON);
    }

    #[test]
    fn a_panic_counts_even_when_the_process_lives_on() {
        let panicked = Some(ExitStatus::from_raw(PANIC_CODE << 8));
        let killed = Some(ExitStatus::from_raw(9));
        let cases = [
            (None, Ending::Unasked, "", None),
            (None, Ending::Unasked, "thread 'worker' panicked at x.rs:1", Some("it panicked")),
            (panicked, Ending::Unasked, "", Some("it panicked")),
            (killed, Ending::Unasked, "", Some("signal 9")),
            (killed, Ending::Asked, "", None),
            (killed, Ending::Asked, "panicked at", Some("it panicked")),
        ];
        for (status, ending, stderr, expected) in cases {
            let crash = crash_of("x", status, ending, stderr);
            match expected {
                None => assert_eq!(crash, None),
                Some(words) => {
                    assert!(crash.as_ref().is_some_and(|crash| crash.contains(words)), "{crash:?}")
                }
            }
        }
    }

    #[test]
    fn a_free_port_can_be_bound_both_ways() {
        let port = free_port();
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
        assert!(UdpSocket::bind(("127.0.0.1", port)).is_ok());
    }
}
