//! The supervisor of one part: a small process of its own session that outlives the agent and ends the
//! program at the lease's deadline, even when the agent is dead or stopped.
//!
//! Run as `EXE supervise DIR`, or forked from the agent's nursery; the binaries hand over to
//! [`supervise_main`] before they do anything else. One thread, no runtime, no polling: it sleeps in `poll` on the
//! program's pidfd, the FIFO `ctl` and a timer of CLOCK_BOOTTIME.
//!
//! The order of its life, which [`crate::part`] explains: claim, look at `stop` and the lease, start, watch,
//! kill what is left, write `exit.json`. It is the reaper of everything the program leaves behind, so nothing
//! of a part outlives the part. It writes `started` to its standard output when the program runs; the end of
//! that pipe is how its agent, if it lives, hears that the part is over.
//!
//! A supervisor that is killed takes the program along (by the kernel), but not what the program had started:
//! the agent looks for that when it finds the part without a supervisor.
//!
//! Left out: cgroups, namespaces and containers.

mod launch;
mod nursery;
mod remains;
mod watch;

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, waitpid,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use spillway_tunnel::protocol::PartEnd;

use crate::clock::{boot_id, boottime_ms};
use crate::part::{
    CTL, Claim, EXIT, ExitRecord, LEASE, LeaseFile, ProcessId, SPEC, STOP, SUPERVISOR, SUPERVISOR_ERROR,
    Spec, TraceLine, TraceStep, append_trace, read_json, to_json, write_atomically, write_once,
};
pub(crate) use launch::inherited;
pub(crate) use nursery::Nursery;
use watch::{Act, Cause, Watch};

/// How often and how long the supervisor tries to write down the end while the disk refuses: the program is
/// dead by then, only the record is missing.
const RECORD_TRIES: u32 = 3600;
const RECORD_PAUSE_MS: u64 = 1000;

/// The hidden subcommand with which the binaries run [`supervise_main`].
pub const SUPERVISE: &str = "supervise";

/// The folder to supervise where this process was started as `EXE supervise DIR`. To be asked before any
/// argument parser, runtime or logger is made, since a supervisor is started for every task.
#[must_use]
pub fn folder_to_supervise() -> Option<std::ffi::OsString> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? == SUPERVISE { arguments.next() } else { None }
}

/// Runs the supervisor of the part in `dir`; returns when nothing of the part runs any more. Where `dir` is
/// `--nursery`, runs the process that supervisors are forked from.
///
/// The exit code is a failure only where no program ran and nothing could be recorded.
#[must_use]
pub fn supervise_main(dir: &Path) -> ExitCode {
    if dir == Path::new(nursery::NURSERY) {
        return nursery::run();
    }
    // There is nobody to talk to but the folder; where it is gone, the agent sees the part vanish.
    if std::env::set_current_dir(dir).is_err() {
        return ExitCode::FAILURE;
    }
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fs::write(SUPERVISOR_ERROR, error.to_string()).ok();
            ExitCode::FAILURE
        }
    }
}

/// One part as its supervisor sees it. The working directory is the part's folder.
struct Part {
    spec: Spec,
    boot: String,
}

fn supervise() -> io::Result<()> {
    // Fails where the supervisor leads a process group already, which does as well.
    rustix::process::setsid().ok();
    let spec: Spec = read_json(Path::new(SPEC))?.ok_or(io::ErrorKind::NotFound)?;
    let part = Part { spec, boot: boot_id()? };
    let supervisor = ProcessId::of(pid_number(std::process::id())).ok_or(io::ErrorKind::NotFound)?;
    let claim = |started_ms, program| {
        to_json(&Claim::Supervisor { supervisor, started_ms, program, boot: part.boot.clone() })
    };
    if !write_once(Path::new(SUPERVISOR), &claim(boottime_ms(), None))? {
        return Ok(());
    }
    if let Some(end) = part.reason_not_to_start() {
        return part.record_not_started(end);
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let started_ms = boottime_ms();
    let program = match launch::start(&part.spec) {
        Ok(program) => program,
        Err(problem) => return part.record_not_started(PartEnd::NotStarted { message: problem.to_string() }),
    };
    let wires = Wires::open(program)?;
    // The program runs: a full disk must not end it, and the agent hears of it by the pipe as well.
    let identity = ProcessId::of(program.as_raw_nonzero().get());
    write_atomically(Path::new(SUPERVISOR), &claim(started_ms, identity)).ok();
    part.trace_at(started_ms, TraceStep::Started);
    writeln!(io::stdout(), "started {started_ms}").ok();
    let cause = part.watch(&wires, program, started_ms)?;
    // The group is killed while its leader is still a zombie, so that its number cannot be another's.
    kill_process_group(program, Signal::KILL).ok();
    let status = waitpid(Some(program), WaitOptions::empty())?.map(|(_, status)| status);
    remains::kill_all();
    let ran_ms = boottime_ms().saturating_sub(started_ms);
    let record = ExitRecord {
        end: end_of(cause, status),
        started: true,
        ran_ms,
        cpu_ms: remains::cpu_ms_of_children(),
    };
    part.record(&record, TraceStep::Ended)
}

/// The most grace that a stop leaves, in milliseconds, where one was asked for.
fn stop_asked() -> Option<u64> {
    let stop = fs::read_to_string(STOP).ok()?;
    Some(stop.parse().unwrap_or(u64::MAX))
}

/// What the program's status and the cause of its stop say about its end.
fn end_of(cause: Option<Cause>, status: Option<WaitStatus>) -> PartEnd {
    let by_itself = || {
        let status = status?;
        let exited = status.exit_status().map(|code| PartEnd::Exited { code });
        exited.or_else(|| status.terminating_signal().map(|signal| PartEnd::Signalled { signal }))
    };
    cause.map(Cause::end).or_else(by_itself).unwrap_or(PartEnd::Vanished)
}

fn pid_number(pid: u32) -> i32 {
    i32::try_from(pid).expect("Linux process numbers are below 2^22")
}

impl Part {
    /// Why the program must not start now, if so.
    fn reason_not_to_start(&self) -> Option<PartEnd> {
        if Path::new(STOP).exists() {
            Some(PartEnd::Stopped)
        } else if self.lease_until() <= boottime_ms() {
            Some(PartEnd::LeaseExpired)
        } else {
            None
        }
    }

    /// The lease's deadline; 0, long over, where there is none of this boot.
    fn lease_until(&self) -> u64 {
        match read_json::<LeaseFile>(Path::new(LEASE)) {
            Ok(Some(lease)) if lease.boot == self.boot => lease.deadline_ms,
            Ok(_) | Err(_) => 0,
        }
    }

    /// Sleeps until the program has ended; signals and kills it when its time is over.
    fn watch(&self, wires: &Wires, program: Pid, started_ms: u64) -> io::Result<Option<Cause>> {
        let checkpoint = self.spec.checkpoint;
        let signal = Signal::from_named_raw(checkpoint.signal).unwrap_or(Signal::TERM);
        let mut watch = Watch::new(started_ms, self.spec.time_limit.0, checkpoint.grace.0);
        loop {
            if wires.program_ended()? {
                return Ok(watch.cause());
            }
            let lease_until = self.lease_until();
            match watch.step(boottime_ms(), lease_until, stop_asked()) {
                Act::Wait => wires.sleep_until(watch.wake_at(lease_until))?,
                Act::Signal(cause) => {
                    kill_process_group(program, signal).ok();
                    self.trace(match cause {
                        Cause::Stopped => TraceStep::StopRequested,
                        Cause::TimeLimit => TraceStep::TimeLimit,
                        Cause::LeaseExpired => TraceStep::LeaseExpired,
                    });
                }
                Act::Kill => {
                    kill_process_group(program, Signal::KILL).ok();
                    self.trace(TraceStep::Killed);
                }
            }
            remains::reap_orphans(program);
        }
    }

    fn trace(&self, step: TraceStep) {
        self.trace_at(boottime_ms(), step);
    }

    fn trace_at(&self, at_ms: u64, step: TraceStep) {
        let line = TraceLine {
            at_ms,
            boot: self.boot.clone(),
            attempt: self.spec.attempt,
            rank: self.spec.rank,
            job: self.spec.job,
            task: self.spec.task,
            step,
        };
        // The trace is for auditors; the program does not depend on it.
        append_trace(Path::new(""), &line).ok();
    }

    fn record_not_started(&self, end: PartEnd) -> io::Result<()> {
        self.record(&ExitRecord::never_started(end), TraceStep::NotStarted)
    }

    /// Writes down the end; tries for an hour where the disk refuses, unless the folder is gone.
    fn record(&self, record: &ExitRecord, step: TraceStep) -> io::Result<()> {
        self.trace(step);
        let timer = Timer::new()?;
        for _ in 0..RECORD_TRIES {
            match write_atomically(Path::new(EXIT), &to_json(record)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
                Err(_) => {
                    timer.set(Some(boottime_ms().saturating_add(RECORD_PAUSE_MS)))?;
                    poll(&mut [PollFd::new(&timer.0, PollFlags::IN)], None)?;
                }
            }
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

/// A timer of CLOCK_BOOTTIME.
struct Timer(OwnedFd);

impl Timer {
    fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?))
    }

    /// Fires at that time, given in milliseconds of CLOCK_BOOTTIME; at none, never.
    fn set(&self, at_ms: Option<u64>) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A zero would disarm the timer; one nanosecond after boot fires at once.
        let at = at_ms.map_or(zero, |ms| Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX / 4),
            tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000 + 1,
        });
        let when = Itimerspec { it_interval: zero, it_value: at };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &when)?;
        Ok(())
    }
}

/// What the supervisor sleeps on.
struct Wires {
    program: OwnedFd,
    ctl: OwnedFd,
    timer: Timer,
}

impl Wires {
    fn open(program: Pid) -> io::Result<Self> {
        // Opened for writing too, so that it never reads as closed when the agent goes.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Self {
            program: pidfd_open(program, PidfdFlags::empty())?,
            ctl: rustix::fs::open(CTL, flags, Mode::empty())?,
            timer: Timer::new()?,
        })
    }

    fn program_ended(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.program, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)))? > 0)
    }

    /// Sleeps until that time, a byte on the FIFO, or the program's end.
    fn sleep_until(&self, at_ms: Option<u64>) -> io::Result<()> {
        self.timer.set(at_ms)?;
        let mut fds = [
            PollFd::new(&self.program, PollFlags::IN),
            PollFd::new(&self.ctl, PollFlags::IN),
            PollFd::new(&self.timer.0, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        let mut bytes = [0u8; 64];
        while rustix::io::read(self.ctl.as_fd(), &mut bytes).is_ok_and(|count| count > 0) {}
        Ok(())
    }
}
