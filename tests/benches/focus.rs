//! The charges of weeks of jobs as FOCUS: how long it takes to make the files, how large they are, and what is found
//! in them.
//!
//! With `--traces` the jobs are those of `philly_20k.csv`, on 48 nodes of 8 GPUs beside a cloud; without, or to be quick,
//! the made-up weeks of the tests. They run through the real core and ledger and are booked into months, of which all
//! but the last are closed. Our own checker must find nothing. The public validator judges the month with the most rows
//! and may fail only where it is known to be wrong itself; where it cannot be installed it is left out, and the bench
//! says so.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use spillway_focus::{Version, check_csv, check_parquet};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::Journal;
use spillway_sim::{Description, TraceJob, federation};
use spillway_tests::focus_month::{Files, Posted, book, description, export, jobs, simulate};
use spillway_types::{HourlyRate, SiteKind, UnixMs};
use xtask::commands::target_dir;
use xtask::focus_validator::{FocusValidator, LEFT_OUT, Verdict};
use xtask::wait::Stopwatch;
use xtask::workspace_root;

use crate::Settings;
use crate::report::Measurement;
use crate::starburst::trace_jobs;

/// What is replayed where there are traces.
const TRACE: &str = "philly_20k";
/// What a GPU-hour of our own costs, so that every charge has an amount.
const OWN_GPU_HOUR: HourlyRate = HourlyRate(1_900_000);
const SEED: u64 = 1;
const BYTES_PER_KB: u64 = 1000;
const KB_PER_MB: f64 = 1e3;

/// Measures.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let (what, place, jobs) = match settings.traces.as_deref().filter(|_| !settings.quick) {
        Some(folder) => {
            let (place, jobs) = trace(folder)?;
            (TRACE, place, jobs)
        }
        None => {
            xtask::step::say(&format!(
                "    no --traces DIR, or --quick: made-up weeks; {TRACE}.csv is the published trace"
            ));
            ("made-up weeks", description()?, jobs(SEED)?)
        }
    };
    let posted = simulate(place, &jobs, SEED)?;
    let journal = booked(&posted)?;
    drop(posted);
    measure(what, jobs.len(), &journal, settings.quick)
}

fn trace(folder: &Path) -> Result<(Description, Vec<TraceJob>)> {
    let jobs = trace_jobs(folder, TRACE)?;
    let mut place = federation::uniform(48, 8)?;
    federation::admit_groups(&mut place, &jobs);
    let own = place.sites.iter().filter(|site| site.kind == SiteKind::OnPrem);
    let own: Vec<_> = own.map(|site| site.name.clone()).collect();
    for pool in place.pools.iter_mut().filter(|pool| own.contains(&pool.site)) {
        pool.tariff.per_gpu = OWN_GPU_HOUR;
    }
    Ok((place, jobs))
}

/// All months but the last are closed when they end.
fn booked(posted: &[Posted]) -> Result<Journal> {
    let zone = Zone::utc();
    let month = |(at, _): &Posted| Period::of(*at, &zone);
    let (first, last) = posted.first().zip(posted.last()).context("nothing was charged")?;
    let months = std::iter::successors(Some(month(first)), |period| Some(period.next()));
    let closes: Vec<(Period, UnixMs)> =
        months.take_while(|period| *period < month(last)).map(|period| (period, period.end(&zone))).collect();
    book(posted, &zone, &closes)
}

fn measure(what: &str, jobs: usize, journal: &Journal, quick: bool) -> Result<Vec<Measurement>> {
    let folder = tempfile::tempdir()?;
    let mut months: BTreeMap<Period, u64> = BTreeMap::new();
    for record in journal.records() {
        *months.entry(record.booked).or_default() += 1;
    }
    let watch = Stopwatch::start();
    let mut files = Vec::new();
    for month in months.keys() {
        files.push(export(journal, *month, Version::V1_2, folder.path())?);
    }
    let seconds = watch.elapsed().as_secs_f64();
    let rows: u64 = files.iter().map(|files| files.manifest.rows).sum();
    let megabytes = |name: &str| {
        let entries = files.iter().flat_map(|files| &files.manifest.files);
        let bytes: u64 = entries.filter(|file| file.name.ends_with(name)).map(|file| file.bytes).sum();
        Ok::<f64, anyhow::Error>(number(bytes / BYTES_PER_KB)? / KB_PER_MB)
    };
    let (csv, parquet) = (megabytes("csv")?, megabytes("parquet")?);
    let watch = Stopwatch::start();
    files.iter().try_for_each(found_good)?;
    let checked = watch.elapsed().as_secs_f64();
    let case = format!("{what}, {jobs} jobs in {} months", months.len());
    let one = |metric: &str, value, unit| Measurement {
        metric: format!("{case}: {metric}").into(),
        value,
        unit,
        peer: None,
    };
    let mut measurements = vec![
        one("FOCUS rows", number(rows)?, "rows"),
        one("written as CSV and Parquet", seconds, "s"),
        one("CSV", csv, "MB"),
        one("Parquet", parquet, "MB"),
        one("both checked by focus check, nothing found", checked, "s"),
    ];
    let largest = files.iter().max_by_key(|files| files.manifest.rows).context("there is a month")?;
    match judged(largest, quick)? {
        Some(unknown) => {
            let of = format!("public validator on {} rows: failures not known", largest.manifest.rows);
            measurements.push(one(&of, number(unknown)?, "rules"));
        }
        None => xtask::step::say(&format!("    {LEFT_OUT}")),
    }
    Ok(measurements)
}

fn number(count: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}

fn found_good(files: &Files) -> Result<()> {
    let manifest = Some(&files.manifest);
    let csv = check_csv(File::open(&files.csv)?, None, manifest)?;
    let parquet = check_parquet(File::open(&files.parquet)?, None, manifest)?;
    for (report, path) in [(csv, &files.csv), (parquet, &files.parquet)] {
        ensure!(report.findings.is_empty(), "{}: {:?}", path.display(), report.findings.first());
    }
    Ok(())
}

/// How many rules fail that are not known to be wrong themselves; none where there is no validator.
fn judged(files: &Files, quick: bool) -> Result<Option<u64>> {
    let target = target_dir(&workspace_root());
    let validator =
        if quick { FocusValidator::installed(&target) } else { FocusValidator::install(&target)? };
    let Some(validator) = validator else { return Ok(None) };
    let report = validator.report(&files.csv)?;
    let verdict = Verdict::of(&report)?;
    ensure!(verdict.failed.len() == verdict.total_failed, "not every failure has its line: {report}");
    let unknown = verdict.unknown();
    ensure!(unknown.is_empty(), "the public validator finds {unknown:?}:\n{report}");
    Ok(Some(u64::try_from(unknown.len())?))
}
