//! What the operating system says of the machine.

/// The host name.
pub(super) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Thousandths of the CPUs that this process may use: the affinity mask and the cgroup's quota count.
pub(super) fn cpus_milli() -> Option<u32> {
    let cpus = std::thread::available_parallelism().ok()?;
    u32::try_from(cpus.get()).ok()?.checked_mul(1000)
}

/// Memory in MiB.
pub(super) fn memory_mib() -> Option<u64> {
    total_kib(&std::fs::read_to_string("/proc/meminfo").ok()?).map(|kib| kib / 1024)
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        assert_eq!(total_kib("MemTotal:       32901234 kB\nMemFree: 1 kB\n"), Some(32_901_234));
        assert_eq!(total_kib("MemFree: 1 kB\n"), None);
        assert_eq!(total_kib("MemTotal: many kB\n"), None);
    }
}
