//! Single values as people read them.

use spillway_api::v1::GpuSummary;
use spillway_types::{DurationMs, Money, UnixMs};

/// How long ago an instant was, in its largest unit; `in 5m` where it is still to come.
pub(crate) fn age(now: UnixMs, then: UnixMs) -> String {
    if then > now {
        format!("in {}", coarse(then.since(now)))
    } else {
        format!("{} ago", coarse(now.since(then)))
    }
}

/// A duration in its largest unit, rounded down; below ten of a unit with the next one.
pub(crate) fn coarse(span: DurationMs) -> String {
    let seconds = span.0 / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, 1..=9) => format!("{minutes}m{:02}s", seconds % 60),
        (0, 0, _) => format!("{minutes}m"),
        (0, 1..=9, _) => format!("{hours}h{:02}m", minutes % 60),
        (0, ..) => format!("{hours}h"),
        (1..=9, ..) => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// Hundredths of accelerators: `8`, `0.25`, `7.50`.
pub(crate) fn blocks(blocks: u64) -> String {
    if blocks.is_multiple_of(100) {
        (blocks / 100).to_string()
    } else {
        format!("{}.{:02}", blocks / 100, blocks % 100)
    }
}

/// Thousandths of a CPU: `4`, `0.5`.
pub(crate) fn cpus(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// MiB in the largest unit that is not a fraction, or in GB with one decimal.
pub(crate) fn memory(mib: u64) -> String {
    match mib {
        0..1024 => format!("{mib}MB"),
        _ if mib.is_multiple_of(1 << 20) => format!("{}TB", mib >> 20),
        _ if mib.is_multiple_of(1 << 10) => format!("{}GB", mib >> 10),
        _ => format!("{}.{}GB", mib >> 10, (mib % 1024) * 10 / 1024),
    }
}

/// Bytes in decimal units, as datasets are measured: `150GB`, `1.5TB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (1_000_000_000_000_000, "PB"),
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1000, "KB"),
    ];
    let unit = UNITS.into_iter().find(|(scale, _)| bytes >= *scale);
    unit.map_or_else(
        || format!("{bytes}B"),
        |(scale, unit)| {
            let text = format!("{}.{}", bytes / scale, bytes % scale * 10 / scale);
            format!("{}{unit}", text.trim_end_matches(".0"))
        },
    )
}

/// Accelerators by model: `8 x H100 80GB`.
pub(crate) fn gpus(gpus: &[GpuSummary]) -> String {
    let words: Vec<String> =
        gpus.iter().map(|gpu| format!("{} x {} {}", gpu.count, gpu.model, memory(gpu.memory_mib))).collect();
    words.join(", ")
}

/// Milliseconds of accelerators as hours with three decimals, rounded down: integers only, as it is usage.
pub(crate) fn gpu_hours(gpu_ms: u64) -> String {
    let thousandths = gpu_ms / 3_600;
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// The same where it may be below 0: what was taken back.
pub(crate) fn signed_gpu_hours(gpu_ms: i64) -> String {
    let hours = gpu_hours(gpu_ms.unsigned_abs());
    if gpu_ms < 0 { format!("-{hours}") } else { hours }
}

/// Milliseconds as hours with six decimals, rounded down, as a plain number.
pub(crate) fn decimal_hours(ms: i64) -> String {
    let millionths = i128::from(ms.unsigned_abs()) * 10 / 36;
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

/// Money as a plain number with six decimals, without its currency.
pub(crate) fn decimal(money: Money) -> String {
    let text = format!("{money:.6}");
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Money with two decimals, or with six where two would show nothing of it.
pub(crate) fn amount(money: Money) -> String {
    if money.micros != 0 && money.micros.unsigned_abs() < 10_000 {
        format!("{money:.6}")
    } else {
        money.to_string()
    }
}

/// Money that may have no limit.
pub(crate) fn limit(money: Option<Money>) -> String {
    money.map_or_else(|| "no limit".to_owned(), amount)
}

/// Things with commas between.
pub(crate) fn list<T: ToString>(things: &[T]) -> String {
    things.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// An optional value; empty where there is none.
pub(crate) fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m01s"),
            (600, "10m"),
            (3660, "1h01m"),
            (36_000, "10h"),
            (90_000, "1d01h"),
            (864_000, "10d"),
        ] {
            assert_eq!(coarse(DurationMs::from_secs(seconds)), text);
        }
        assert_eq!(age(UnixMs(60_000), UnixMs(0)), "1m00s ago");
        assert_eq!(age(UnixMs(0), UnixMs(60_000)), "in 1m00s");
        for (micros, text) in
            [(0, "0.00 USD"), (9_999, "0.009999 USD"), (10_000, "0.01 USD"), (-1, "-0.000001 USD")]
        {
            assert_eq!(amount(Money::usd_micros(micros)), text);
        }
        assert_eq!((blocks(800), blocks(25), blocks(750)), ("8".into(), "0.25".into(), "7.50".into()));
        assert_eq!((cpus(4000), cpus(500), cpus(1)), ("4".into(), "0.5".into(), "0.001".into()));
        for (mib, text) in
            [(512, "512MB"), (1024, "1GB"), (1536, "1.5GB"), (1 << 21, "2TB"), (81_559, "79.6GB")]
        {
            assert_eq!(memory(mib), text);
        }
        for (bytes, text) in [(7, "7B"), (1500, "1.5KB"), (150_000_000_000, "150GB"), (u64::MAX, "18446.7PB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(
            (signed_gpu_hours(-1_800_000), decimal_hours(-1_800_001)),
            ("-0.500".into(), "-0.500000".into())
        );
        assert_eq!(decimal(Money::usd_micros(-1_500_001)), "-1.500001");
        assert_eq!(
            (gpu_hours(3_600_000), gpu_hours(1_800_000), gpu_hours(3599)),
            ("1.000".into(), "0.500".into(), "0.000".into())
        );
    }
}
