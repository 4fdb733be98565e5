//! The nursery: a small process of the agent from which supervisors are forked.
//!
//! Executing the agent's binary costs more than everything else a supervisor does, and more the larger the
//! binary is; a fork of a process that has already loaded it costs a tenth. The nursery is started as
//! `EXE supervise --nursery` with one end of a socket as its standard input; each message is a part's folder
//! with the pipe that becomes the supervisor's standard output. It ends when the agent closes the socket;
//! what it forked goes on.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::{SUPERVISE, inherited, supervise_main};
use crate::part::SUPERVISOR_ERROR;

/// What stands for the folder on the nursery's command line.
pub(super) const NURSERY: &str = "--nursery";
/// Longest path of a folder: Linux's own limit.
const MAX_PATH: usize = 4096;

/// The agent's end of a nursery.
#[derive(Debug)]
pub(crate) struct Nursery {
    /// Taken only when this ends.
    requests: Option<OwnedFd>,
    process: Child,
}

impl Nursery {
    /// Starts a nursery of this binary.
    pub(crate) fn start(exe: &Path) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(exe);
        command.args([SUPERVISE, NURSERY]).env_clear().envs(inherited());
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { requests: Some(ours), process: command.spawn()? })
    }

    /// Has the part in `folder` supervised by a new process whose standard output is `output`.
    pub(crate) fn supervise(&self, folder: &Path, output: BorrowedFd<'_>) -> io::Result<()> {
        let requests = self.requests.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let pipes = [output];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&pipes)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let path = [IoSlice::new(folder.as_os_str().as_bytes())];
        sendmsg(requests, &path, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        drop(self.requests.take());
        // It ends as soon as it sees the socket closed.
        self.process.wait().ok();
    }
}

/// Runs the nursery; in a process that it forked, runs the supervisor.
pub(super) fn run() -> ExitCode {
    rustix::process::setsid().ok();
    let requests = io::stdin();
    let mut children: Vec<OwnedFd> = Vec::new();
    loop {
        let Ok(wakes) = wait(requests.as_fd(), &children) else { return ExitCode::FAILURE };
        let mut ended = wakes.children.into_iter();
        children.retain(|child| {
            let over = ended.next().unwrap_or(false);
            if over {
                waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED).ok();
            }
            !over
        });
        if !wakes.request {
            continue;
        }
        let (folder, output) = match receive(requests.as_fd()) {
            Ok(Some((folder, Some(output)))) => (folder, output),
            Ok(Some((_, None))) => continue,
            Ok(None) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        };
        match fork() {
            Ok(Some(child)) => children.extend(pidfd_open(child, PidfdFlags::empty())),
            Ok(None) => {
                drop(children);
                return become_supervisor(&folder, output);
            }
            // The agent sees the pipe closed and finds the reason in the folder.
            Err(error) => drop(std::fs::write(folder.join(SUPERVISOR_ERROR), error.to_string())),
        }
    }
}

struct Wakes {
    request: bool,
    children: Vec<bool>,
}

fn wait(requests: BorrowedFd<'_>, children: &[OwnedFd]) -> io::Result<Wakes> {
    let mut fds = vec![PollFd::from_borrowed_fd(requests, PollFlags::IN)];
    fds.extend(children.iter().map(|child| PollFd::new(child, PollFlags::IN)));
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok(Wakes { request: ready.next().unwrap_or(false), children: ready.collect() })
}

/// The next request; none when the agent is gone.
fn receive(requests: BorrowedFd<'_>) -> io::Result<Option<(PathBuf, Option<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_PATH];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(requests, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let output = ancillary.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut pipes) = message { pipes.next() } else { None }
    });
    let path = bytes.get(..received.bytes).unwrap_or_default();
    Ok(Some((PathBuf::from(OsStr::from_bytes(path)), output)))
}

/// Leaves everything of the nursery behind, above all its socket.
fn become_supervisor(folder: &Path, output: OwnedFd) -> ExitCode {
    let nothing = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty());
    let wired =
        nothing.and_then(rustix::stdio::dup2_stdin).and_then(|()| rustix::stdio::dup2_stdout(&output));
    drop(output);
    if wired.is_err() {
        return ExitCode::FAILURE;
    }
    supervise_main(folder)
}

/// Forks; none in the child.
#[expect(unsafe_code, reason = "the standard library can only fork to execute, which is what this avoids")]
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the nursery has one thread, so the child has every lock and the whole heap in a usable state.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        child => Pid::from_raw(child).filter(|_| child > 0).map(Some).ok_or_else(io::Error::last_os_error),
    }
}
