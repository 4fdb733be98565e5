//! The sentences of explanations: amounts, times of day, what is missing by how much.

use spillway_types::{DurationMs, GpuQuantity, GpuRequest, GpuSelector};

use crate::QueuedJob;
use crate::layout::{ClassMask, Level, Need, Want};
use crate::moving::Moving;

const MS_PER_DAY: i64 = 86_400_000;

/// Micros as units with two decimals, without a currency: the deployment has one.
pub(crate) fn amount(micros: i64) -> String {
    let cents = (micros.unsigned_abs() + 5000) / 10_000;
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

/// The time of day in UTC, to the second: `12:04:10`.
pub(crate) fn clock(unix_ms: i64) -> String {
    let seconds = unix_ms.rem_euclid(MS_PER_DAY) / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A length of time, rounded up to a second.
pub(crate) fn span(ms: i64) -> DurationMs {
    DurationMs(ms.max(0).unsigned_abs().div_ceil(1000) * 1000)
}

/// `8 H100`, `2 GPUs`, `0.25 of a GPU`, `1 GPU of 80GB+`, `4 mig-1g.10gb`.
fn gpus(request: &GpuRequest) -> String {
    let kind = |count: u32| match &request.selector {
        GpuSelector::Any if count == 1 => "GPU".to_owned(),
        GpuSelector::Any => "GPUs".to_owned(),
        GpuSelector::Model(model) => model.to_string(),
        GpuSelector::MemoryAtLeast { gib } => format!("GPUs of {gib}GB+"),
        GpuSelector::Mig { profile } => format!("mig-{profile}"),
    };
    match request.quantity {
        GpuQuantity::Whole(count) => format!("{count} {}", kind(count)),
        GpuQuantity::Blocks(blocks) => format!("0.{blocks:02} of one {}", kind(1)),
    }
}

/// `64`, or `3.5`: thousandths of a CPU as CPUs.
fn cpus(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn memory(mib: u64) -> String {
    if mib < 1024 { format!("{mib} MiB") } else { format!("{} GiB", mib / 1024) }
}

/// Bytes with one decimal, in the units that datasets are named in.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000_000, "PB"), (1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB")];
    let unit = UNITS.into_iter().find(|(scale, _)| count >= *scale);
    unit.map_or_else(
        || format!("{count} B"),
        |(scale, unit)| {
            let tenths = (u128::from(count) * 10 + u128::from(scale) / 2) / u128::from(scale);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        },
    )
}

/// What has to be brought to a place first, after a sentence on it; nothing where all is there.
pub(crate) fn brought(moving: &Moving, readers: u32) -> String {
    if moving.bytes == 0 {
        return String::new();
    }
    let price = match (moving.egress_micros, readers) {
        (0, _) => String::new(),
        (micros, 0 | 1) => format!(", {}", amount(micros)),
        (micros, readers) => format!(", {} shared by {readers} jobs", amount(micros)),
    };
    format!("; {} of data to bring: {}{price}", bytes(moving.bytes), span(moving.ms))
}

/// What interruptions are thought to cost, after a sentence on a place; nothing where there are none.
pub(crate) fn risk(micros: f64) -> String {
    if micros < 1.0 {
        String::new()
    } else {
        format!("; interruptions add {}", amount(crate::item::whole(micros)))
    }
}

/// That a start is too late for the job's deadline, after a sentence on it; nothing where it is not.
pub(crate) fn late(job: &QueuedJob, start: i64) -> String {
    let end = start.saturating_add(crate::item::signed(job.estimate));
    match job.deadline {
        Some(deadline) if start != i64::MAX && end > deadline.0 => {
            format!(", too late for its deadline at {}", clock(deadline.0))
        }
        _ => String::new(),
    }
}

/// What a job asks of one node, in words.
pub(crate) fn asked(request: Option<&GpuRequest>, need: &Need) -> String {
    let noun = if need.cpus_milli == 1000 { "CPU" } else { "CPUs" };
    request.map_or_else(|| format!("{} {noun}", cpus(need.cpus_milli)), gpus)
}

/// The first dimension in which `level` is too small for `need`, as `8 H100 wanted, 3 HAVE`.
pub(crate) fn shortfall(
    request: Option<&GpuRequest>,
    need: &Need,
    level: &Level,
    mask: ClassMask,
    have: &str,
) -> Option<String> {
    let by_gpus = match need.want {
        Want::Nothing => None,
        Want::Whole(count) => {
            let free = level.whole_free(mask);
            (free < count).then(|| free.to_string())
        }
        Want::Blocks(blocks) => {
            let free = level.most_blocks_free(mask);
            (free < blocks).then(|| format!("{}.{:02}", free / 100, free % 100))
        }
    };
    if let Some(free) = by_gpus {
        return Some(format!("{} wanted, {free} {have}", asked(request, need)));
    }
    if need.cpus_milli > level.cpus_milli {
        return Some(format!("{} CPUs wanted, {} {have}", cpus(need.cpus_milli), cpus(level.cpus_milli)));
    }
    (need.memory_mib > u64::from(level.memory_mib)).then(|| {
        let (wanted, free) = (memory(need.memory_mib), memory(u64::from(level.memory_mib)));
        format!("{wanted} of memory wanted, {free} {have}")
    })
}

/// Orders levels by how much of the need they offer: accelerators first.
pub(crate) fn richness(need: &Need, level: &Level, mask: ClassMask) -> (u32, u32, u64) {
    let gpus = match need.want {
        Want::Nothing => 0,
        Want::Whole(_) => level.whole_free(mask),
        Want::Blocks(_) => level.most_blocks_free(mask),
    };
    (gpus, level.cpus_milli, u64::from(level.memory_mib))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_write_them() {
        assert_eq!([amount(98_320_000), amount(4_999), amount(-1_005_000)], ["98.32", "0.00", "-1.01"]);
        assert_eq!([clock(43_450_000), clock(MS_PER_DAY + 999)], ["12:04:10", "00:00:00"]);
        assert_eq!(span(249_001).to_string(), "4m 10s");
        assert_eq!([cpus(64_000), cpus(3_500), cpus(0)], ["64", "3.5", "0"]);
        for (request, words) in [
            ("H100:8", "8 H100"),
            ("1", "1 GPU"),
            ("80GB+:2", "2 GPUs of 80GB+"),
            ("A100:0.25", "0.25 of one A100"),
            ("mig-1g.10gb:4", "4 mig-1g.10gb"),
        ] {
            assert_eq!(gpus(&request.parse().unwrap()), words);
        }
    }
}
