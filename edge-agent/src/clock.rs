//! The one clock of the agent and its supervisors: CLOCK_BOOTTIME, which goes on while the machine sleeps,
//! together with the id of the boot it counts from. No wall clock is read here: money and leases never use
//! the agent's.

use std::io;

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of CLOCK_BOOTTIME.
#[must_use]
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

/// The kernel's id of this boot: a time of CLOCK_BOOTTIME means nothing in another one.
///
/// # Errors
/// `/proc` is not there.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_the_boot_stays() {
        let first = boottime_ms();
        assert!(first > 0 && boottime_ms() >= first);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
