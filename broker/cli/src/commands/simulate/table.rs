//! The comparison as a table, and what must be said below it.

use spillway_sim::report::Metrics;
use spillway_types::{DurationMs, Money};

use super::Report;
use super::runs::Finished;
use crate::output::Look;
use crate::table::Table;

const HEADS: [&str; 13] = [
    "#POLICY",
    ">CLOUD GPU-H",
    ">CLOUD $",
    "?>ON-PREM $",
    "?>TOTAL $",
    ">AVG WAIT",
    "?>P50 WAIT",
    "?>P99 WAIT",
    ">LONGEST",
    "?>COMPLETION",
    ">UTIL",
    ">TO CLOUD",
    "?>WAIT $/H",
];

/// The table and its notes.
pub(super) fn report(look: &Look, report: &Report) -> String {
    let mut table = Table::new(look, &HEADS);
    for run in &report.policies {
        table.row(row(run));
    }
    let mut text = table.lines();
    text.push_str(&format!("\n{}\n", basis(report)));
    for run in &report.policies {
        text.push_str(&note(report, run));
    }
    text
}

fn row(run: &Finished) -> [String; 13] {
    let metrics = &run.metrics;
    let price = run.matched.as_ref().map(|matched| {
        let micros = i64::try_from(matched.wait_hour_price_micros).unwrap_or(i64::MAX);
        dollars(micros)
    });
    [
        run.policy.clone(),
        format!("{:.2}", metrics.cloud_gpu_hours),
        dollars(metrics.cloud_micros),
        dollars(metrics.on_prem_micros),
        dollars(metrics.total_micros),
        wait(metrics.avg_wait_hours),
        wait(metrics.p50_wait_hours),
        wait(metrics.p99_wait_hours),
        wait(metrics.max_wait_hours),
        wait(metrics.avg_jct_hours),
        format!("{:.1} %", metrics.utilisation * 100.0),
        to_cloud(metrics),
        price.unwrap_or_default(),
    ]
}

/// What the figures are of.
fn basis(report: &Report) -> String {
    let counted = report.policies.first().map_or(0, |run| run.metrics.counted_jobs);
    let jobs = report.jobs;
    let all = if counted == jobs {
        format!("{jobs} jobs")
    } else {
        format!("{jobs} jobs, {counted} of them counted; money and utilisation are of all")
    };
    let gpus = match &report.federations[..] {
        [] => format!("{} GPUs", report.gpus),
        several => {
            let each = several.iter().map(|one| format!("{} GPUs in {}", one.gpus, one.name));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    format!("{all}; {gpus} on-prem; seed {}", report.seed)
}

fn note(report: &Report, run: &Finished) -> String {
    let mut text = String::new();
    if let (Some(matched), Some(target)) = (&run.matched, report.match_wait_hours) {
        let tried = matched.runs;
        text.push_str(&if matched.reached {
            format!("{}: the cheapest of {tried} prices of waiting with an average wait of at most {}\n", run.policy, wait(target))
        } else {
            format!(
                "{}: none of {tried} prices of waiting brings the average wait down to {}; this one waits least\n",
                run.policy,
                wait(target)
            )
        });
    }
    text.push_str(&trouble(run));
    if run.metrics.violations > 0 {
        text.push_str(&format!(
            "{}: {} invariants were broken: please report this\n",
            run.policy, run.metrics.violations
        ));
    }
    text
}

/// What went otherwise than it was placed; nothing where all went well.
fn trouble(run: &Finished) -> String {
    let (name, metrics) = (&run.policy, &run.metrics);
    let mut text = String::new();
    if metrics.spot_micros > 0 {
        let (stay, spot) = (dollars(metrics.on_demand_micros), dollars(metrics.spot_micros));
        text.push_str(&format!("{name}: of the cloud's cost, {stay} on demand and {spot} spot\n"));
    }
    if metrics.egress_micros > 0 {
        let egress = dollars(metrics.egress_micros);
        text.push_str(&format!("{name}: {egress} more for data that was moved, which no sum has\n"));
    }
    if metrics.interruptions > 0 {
        let machines = counted(metrics.interruptions, "machine");
        text.push_str(&format!("{name}: {machines} taken back by providers\n"));
    }
    if metrics.retries > 0 || metrics.lost_gpu_hours > 0.0 {
        let (retries, lost) = (counted(metrics.retries, "more start"), metrics.lost_gpu_hours);
        text.push_str(&format!("{name}: {retries} of jobs that were stopped, {lost:.2} GPU-h lost\n"));
    }
    if let Some(first) = metrics.failed.first() {
        let jobs = counted(metrics.failed.len() as u64, "job");
        text.push_str(&format!("{name}: {jobs} given up after the last try, the first of them {first}\n"));
    }
    if let Some(first) = metrics.refused.first() {
        let jobs = counted(metrics.refused.len() as u64, "job");
        text.push_str(&format!(
            "{name}: {jobs} refused, the first of them {}: {}\n",
            first.job, first.reason
        ));
    }
    if metrics.broken_bounds > 0 {
        let (jobs, longest) = (counted(metrics.broken_bounds, "job"), wait(metrics.longest_past_bound_hours));
        text.push_str(&format!(
            "{name}: {jobs} waited past the bound, by {longest} at most: please report this\n"
        ));
    }
    text
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Two decimals and commas between thousands.
fn dollars(micros: i64) -> String {
    let text = Money::usd_micros(micros).to_string();
    let number = text.trim_end_matches(" USD");
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, cents) = number.split_once('.').unwrap_or((number, "00"));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}.{cents}")
}

/// A wait in hours as people read it: `3m04s`, `1.50h`, `2.1d`.
fn wait(hours: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(hours * 3600.0).unwrap_or_default();
    let seconds = DurationMs(u64::try_from(seconds.as_millis()).unwrap_or(u64::MAX)).0.div_ceil(1000);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{hours:.2}h"),
        _ => format!("{:.1}d", hours / 24.0),
    }
}

fn to_cloud(metrics: &Metrics) -> String {
    let share = metrics.cloud_jobs as f64 * 100.0 / metrics.counted_jobs.max(1) as f64;
    format!("{} ({share:.0} %)", metrics.cloud_jobs)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
