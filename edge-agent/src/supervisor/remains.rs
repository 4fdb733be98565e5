//! What a program leaves behind: processes that outlived it, and the CPU time it used.
//!
//! The supervisor is a subreaper, so whatever the program started and abandoned becomes its child, even from
//! another process group or session.

use std::fs;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait, waitpid};

use crate::part::stat_field;

/// Milliseconds of one clock tick in `/proc`: USER_HZ is 100 on every Linux that Rust supports.
const TICK_MS: u64 = 10;

/// The supervisor's children: the kernel lists those of its one thread.
fn children() -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()));
    let list = list.unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)).collect()
}

/// Takes away zombies other than the program itself, whose status is read at the end.
pub(super) fn reap_orphans(program: Pid) {
    for orphan in children().into_iter().filter(|&child| child != program) {
        waitpid(Some(orphan), WaitOptions::NOHANG).ok();
    }
}

/// Kills and reaps every child until there is none. Killing one may hand over its own children, hence the
/// loop. A process of another user that refuses the signal is left alone: waiting for it could take for ever.
pub(super) fn kill_all() {
    while wait(WaitOptions::NOHANG).is_ok() {
        let killed: Vec<Pid> =
            children().into_iter().filter(|&child| kill_process(child, Signal::KILL).is_ok()).collect();
        if killed.is_empty() {
            return;
        }
        for child in killed {
            waitpid(Some(child), WaitOptions::empty()).ok();
        }
    }
}

/// CPU time of all reaped children, in milliseconds with the kernel's granularity of ten.
pub(super) fn cpu_ms_of_children() -> u64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return 0 };
    let ticks = [16, 17].into_iter().filter_map(|field| stat_field(&stat, field)).sum::<u64>();
    ticks.saturating_mul(TICK_MS)
}
