//! Waiting for supervisors to end, and what to do about those that went without a record.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::time::Timespec;
use spillway_tunnel::protocol::PartEnd;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;

use super::{News, Shared, folder};
use crate::clock::{boot_id, boottime_ms};
use crate::part::{
    Claim, EXIT, ExitRecord, PartKey, ProcessId, SPEC, SUPERVISOR, SUPERVISOR_ERROR, Spec, TraceLine,
    TraceStep, append_trace, to_json, write_once,
};

/// How often a supervisor that was taken up before its program ran is asked whether it runs.
const START_LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How often the processes of a vanished part are looked for: each look may find what the last one's victims
/// had started.
const SWEEPS: usize = 20;

/// Follows a supervisor that this process had started, by its standard output.
pub(super) async fn until_output_ends(shared: Arc<Shared>, part: PartKey, output: OwnedFd) {
    let mut started_ms = None;
    match pipe::Receiver::from_owned_fd(output) {
        Ok(output) => {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(at_ms) = line.strip_prefix("started ").and_then(|at| at.parse().ok()) {
                    started_ms = Some(at_ms);
                    shared.tell(News::Started(part, at_ms));
                }
            }
        }
        Err(error) => tracing::error!(%part, %error, "a supervisor's output cannot be read"),
    }
    conclude(&shared, part, started_ms);
}

/// A supervisor that an earlier agent started.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) part: PartKey,
    pub(super) supervisor: ProcessId,
    /// When its program started; none while that is not known.
    pub(super) started_ms: Option<u64>,
}

/// Follows the supervisors that an earlier agent started, until the last has ended. Blocks: one thread does
/// it for all, asleep on their pidfds.
pub(super) fn until_adopted_end(shared: &Arc<Shared>, adopted: Vec<Adopted>) {
    let mut watched: Vec<(Adopted, OwnedFd)> = Vec::new();
    for one in adopted {
        match Pid::from_raw(one.supervisor.pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            // Opened first, then looked at: the number cannot be another's without this seeing it.
            Some(Ok(handle)) if one.supervisor.lives() => watched.push((one, handle)),
            Some(Ok(_) | Err(_)) | None => conclude(shared, one.part, one.started_ms),
        }
    }
    while !watched.is_empty() {
        let look_again = watched.iter().any(|(one, _)| one.started_ms.is_none());
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().map(|(_, handle)| PollFd::new(handle, PollFlags::IN)).collect();
        let ready = poll(&mut fds, look_again.then_some(&START_LOOK));
        let ended: Vec<bool> = fds.iter().map(|fd| ready.is_ok() && !fd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        watched.retain_mut(|(one, _)| {
            note_start(shared, one);
            let over = ended.next().unwrap_or(false);
            if over {
                conclude(shared, one.part, one.started_ms);
            }
            !over
        });
    }
}

fn note_start(shared: &Shared, one: &mut Adopted) {
    if one.started_ms.is_none()
        && let Some(Claim::Supervisor { started_ms, program: Some(_), .. }) =
            folder::read_or_none(&shared.folder(one.part).join(SUPERVISOR))
    {
        one.started_ms = Some(started_ms);
        shared.tell(News::Started(one.part, started_ms));
    }
}

/// What a part's folder says once somebody has stopped waiting for its supervisor.
pub(super) enum Conclusion {
    /// It is over.
    Over(ExitRecord),
    /// A supervisor runs it.
    Runs {
        /// The supervisor.
        supervisor: ProcessId,
        /// When its program started; none while that is not known.
        started_ms: Option<u64>,
    },
}

/// Reports how a part ended; goes on waiting where another supervisor turns out to have it.
fn conclude(shared: &Arc<Shared>, part: PartKey, started_ms: Option<u64>) {
    match conclusion(&shared.folder(part), part, started_ms) {
        Conclusion::Over(record) => shared.tell(News::Ended(part, record)),
        Conclusion::Runs { supervisor, started_ms } => {
            let adopted = vec![Adopted { part, supervisor, started_ms }];
            let shared = Arc::clone(shared);
            drop(std::thread::spawn(move || until_adopted_end(&shared, adopted)));
        }
    }
}

/// Finds out how a part ended, and makes sure that it has ended where nobody wrote it down: a part that no
/// supervisor claimed cannot be claimed any more, and what a vanished supervisor left is killed.
pub(super) fn conclusion(folder: &Path, part: PartKey, started_ms: Option<u64>) -> Conclusion {
    let recorded = || folder::read_or_none::<ExitRecord>(&folder.join(EXIT)).map(Conclusion::Over);
    if let Some(over) = recorded() {
        return over;
    }
    let boot = boot_id().unwrap_or_default();
    let spec: Option<Spec> = folder::read_or_none(&folder.join(SPEC));
    // After a crash of the machine nothing tells whether an unclaimed part had run.
    if spec.as_ref().is_some_and(|spec| spec.boot == boot) || folder.join(SUPERVISOR_ERROR).exists() {
        write_once(&folder.join(SUPERVISOR), &to_json(&Claim::Agent { boot: boot.clone() })).ok();
    }
    let claim: Option<Claim> = folder::read_or_none(&folder.join(SUPERVISOR));
    let record = match claim {
        Some(Claim::Supervisor { supervisor, started_ms, program, boot: then })
            if then == boot && supervisor.lives() =>
        {
            return Conclusion::Runs { supervisor, started_ms: program.map(|_| started_ms) };
        }
        Some(Claim::Agent { .. }) => {
            let why = fs::read_to_string(folder.join(SUPERVISOR_ERROR))
                .unwrap_or_else(|_| "it was interrupted".into());
            let message = format!("its supervisor could not begin: {why}");
            ExitRecord::never_started(PartEnd::NotStarted { message })
        }
        // Its end may have been written between the two looks.
        Some(Claim::Supervisor { .. }) | None => match recorded() {
            Some(over) => return over,
            None => vanished(folder, part, spec, claim.is_some(), started_ms),
        },
    };
    Conclusion::Over(folder::record_end(folder, record))
}

/// Kills what a vanished supervisor left and says how it ended. A part that was claimed counts as started.
fn vanished(
    folder: &Path,
    part: PartKey,
    spec: Option<Spec>,
    claimed: bool,
    started_ms: Option<u64>,
) -> ExitRecord {
    tracing::error!(%part, "a supervisor went without a record; what it ran is killed");
    kill_by_name(part);
    let now = boottime_ms();
    if let Some(Spec { job, task, boot, .. }) = spec {
        let (attempt, rank) = (part.attempt, part.rank);
        let line = TraceLine { at_ms: now, boot, attempt, rank, job, task, step: TraceStep::Vanished };
        append_trace(folder, &line).ok();
    }
    ExitRecord {
        end: PartEnd::Vanished,
        started: claimed || started_ms.is_some(),
        ran_ms: started_ms.map_or(0, |started| now.saturating_sub(started)),
        cpu_ms: 0,
    }
}

/// Kills every process that carries the part's name in its environment.
fn kill_by_name(part: PartKey) {
    let attempt = format!("SPILLWAY_ATTEMPT_ID={}", part.attempt).into_bytes();
    let rank = format!("SPILLWAY_NODE_RANK={}", part.rank).into_bytes();
    for _ in 0..SWEEPS {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let named = pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let has = |wanted: &[u8]| environment.split(|&byte| byte == 0).any(|entry| entry == wanted);
            has(&attempt) && has(&rank)
        });
        let killed = named.filter_map(Pid::from_raw).filter(|&pid| kill_process(pid, Signal::KILL).is_ok());
        if killed.count() == 0 {
            return;
        }
    }
}
