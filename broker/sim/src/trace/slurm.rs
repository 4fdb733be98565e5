//! Slurm's accounting: `sacct --allusers --parsable2 --format=JobID,Account,Submit,Start,End,ElapsedRaw,AllocTRES,`
//! `ReqTRES,State,TimelimitRaw`, columns in any order.
//!
//! Steps (`12.batch`) are passed over; jobs that never ran, have not ended or asked for no GPU are counted. Times
//! are taken as one clock's: over a change of summer time in local time, an hour may be wrong, which
//! `SLURM_TIME_FORMAT=%s` avoids. The time limit is the estimate; where there is none, the true runtime is.

use std::collections::BTreeMap;

use spillway_types::DurationMs;

use super::{Format, MAX_GPUS, MAX_JOBS, Skipped, Trace, TraceError, from_first, group_of};
use crate::{Asks, TraceJob};

/// Where each column stands.
#[derive(Debug)]
struct Columns {
    id: usize,
    submit: usize,
    account: Option<usize>,
    start: Option<usize>,
    end: Option<usize>,
    elapsed: Option<usize>,
    allocated: Option<usize>,
    requested: Option<usize>,
    state: Option<usize>,
    limit: Option<usize>,
}

/// One line, cut into fields.
struct Row<'a> {
    number: usize,
    fields: Vec<&'a str>,
}

/// What one line says.
enum Line {
    Step,
    Left(Skipped),
    Job(TraceJob),
}

impl<'a> Row<'a> {
    fn field(&self, at: Option<usize>) -> Option<&'a str> {
        let field = self.fields.get(at?)?.trim();
        let says_nothing = ["", "Unknown", "None", "N/A", "(null)"].contains(&field);
        (!says_nothing).then_some(field)
    }

    fn wrong(&self, column: &str, value: &str, problem: &str, way_out: &str) -> TraceError {
        TraceError::new(self.number, column, value, problem, way_out)
    }

    fn time(&self, at: Option<usize>, name: &str) -> Result<Option<u64>, TraceError> {
        let Some(text) = self.field(at) else { return Ok(None) };
        let way_out = "sacct writes 2026-01-31T12:00:00, or seconds with SLURM_TIME_FORMAT=%s";
        seconds(text).map(Some).ok_or_else(|| self.wrong(name, text, "is not a time", way_out))
    }

    fn number(&self, at: Option<usize>, name: &str) -> Result<Option<u64>, TraceError> {
        let Some(text) = self.field(at) else { return Ok(None) };
        let refused = || self.wrong(name, text, "is not a whole number", "sacct writes one: do not edit it");
        text.parse().map(Some).map_err(|_| refused())
    }
}

pub(super) fn read(text: &str) -> Result<Trace, TraceError> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let Some((number, head)) = lines.next() else { return Ok(Trace::new(Format::Slurm)) };
    let columns = columns(number, head)?;
    let mut trace = Trace::new(Format::Slurm);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (number, line) in lines {
        let row = Row { number, fields: line.split('|').collect() };
        match job(&row, &columns)? {
            Line::Step => {}
            Line::Left(why) => trace.skip(why),
            Line::Job(job) => {
                if let Some(first) = seen.insert(job.id.clone(), number) {
                    let problem = format!("is already the job of line {first}");
                    return Err(row.wrong("JobID", &job.id, &problem, "run sacct without --duplicates"));
                }
                if trace.jobs.len() == MAX_JOBS {
                    let way_out = "take a shorter span of time: 10,000,000 jobs are the most";
                    return Err(row.wrong("JobID", &job.id, "is one job too many", way_out));
                }
                trace.jobs.push(job);
            }
        }
    }
    from_first(&mut trace.jobs);
    Ok(trace)
}

fn columns(line: usize, head: &str) -> Result<Columns, TraceError> {
    let names: Vec<&str> = head.split('|').map(str::trim).collect();
    let find = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    let missing = |name: &str| {
        let way_out =
            "give sacct --format=JobID,Account,Submit,Start,End,ElapsedRaw,AllocTRES,State,TimelimitRaw";
        TraceError::new(line, "the head", head, &format!("has no column {name}"), way_out)
    };
    let columns = Columns {
        id: find("JobID").ok_or_else(|| missing("JobID"))?,
        submit: find("Submit").ok_or_else(|| missing("Submit"))?,
        account: find("Account"),
        start: find("Start"),
        end: find("End"),
        elapsed: find("ElapsedRaw"),
        allocated: find("AllocTRES"),
        requested: find("ReqTRES"),
        state: find("State"),
        limit: find("TimelimitRaw"),
    };
    if columns.elapsed.is_none() && (columns.start.is_none() || columns.end.is_none()) {
        return Err(missing("ElapsedRaw"));
    }
    if columns.allocated.is_none() && columns.requested.is_none() {
        return Err(missing("AllocTRES"));
    }
    Ok(columns)
}

fn job(row: &Row<'_>, columns: &Columns) -> Result<Line, TraceError> {
    let Some(id) = row.field(Some(columns.id)) else {
        return Err(row.wrong("JobID", "", "is missing", "every line needs one"));
    };
    if id.contains('.') {
        return Ok(Line::Step);
    }
    let state = row.field(columns.state).unwrap_or("COMPLETED");
    if ["RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED"].iter().any(|word| state.starts_with(word)) {
        return Ok(Line::Left(Skipped::NotEnded));
    }
    let ran = runtime(row, columns)?;
    let Some(ran) = ran.filter(|ran| *ran > 0 && !state.starts_with("PENDING")) else {
        return Ok(Line::Left(Skipped::NeverRan));
    };
    let gpus = gpus(row, columns)?;
    if gpus == 0 {
        return Ok(Line::Left(Skipped::NoGpu));
    }
    let submit = row.time(Some(columns.submit), "Submit")?;
    let submit = submit.ok_or_else(|| row.wrong("Submit", "", "is missing", "every job needs one"))?;
    let runtime = DurationMs::from_secs(ran);
    let limit = row.field(columns.limit).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let limit = limit.and_then(|minutes| minutes.parse::<u32>().ok()).filter(|minutes| *minutes > 0);
    Ok(Line::Job(TraceJob {
        id: id.to_owned(),
        group: group_of(row.field(columns.account).unwrap_or("none")),
        arrival: DurationMs::from_secs(submit),
        runtime,
        estimate: limit.map_or(runtime, |minutes| DurationMs::from_secs(u64::from(minutes) * 60)),
        gpus,
        asks: Asks::default(),
    }))
}

/// How long a job ran, in seconds; none where it has not begun or not ended.
fn runtime(row: &Row<'_>, columns: &Columns) -> Result<Option<u64>, TraceError> {
    let started = columns.start.is_none() || row.field(columns.start).is_some();
    if let Some(elapsed) = row.number(columns.elapsed, "ElapsedRaw")? {
        // Ten years in seconds: more is no job's, and would overflow further on.
        let sane = (elapsed <= 316_224_000).then_some(elapsed);
        let way_out = "leave the job out: ten years are the most";
        let text = elapsed.to_string();
        let refused = || row.wrong("ElapsedRaw", &text, "is over ten years", way_out);
        return sane.map(|elapsed| Some(elapsed).filter(|_| started)).ok_or_else(refused);
    }
    let (start, end) = (row.time(columns.start, "Start")?, row.time(columns.end, "End")?);
    match (start, end) {
        (Some(start), Some(end)) if end < start => {
            let text = row.field(columns.end).unwrap_or_default();
            Err(row.wrong("End", text, "is before Start", "leave the job out"))
        }
        (Some(start), Some(end)) => Ok(Some(end - start)),
        (None, _) | (_, None) => Ok(None),
    }
}

/// GPUs of what was allocated, else of what was asked: `gres/gpu=8`, or the sum of `gres/gpu:a100=4`.
fn gpus(row: &Row<'_>, columns: &Columns) -> Result<u32, TraceError> {
    let (name, text) = match (row.field(columns.allocated), row.field(columns.requested)) {
        (Some(text), _) => ("AllocTRES", text),
        (None, Some(text)) => ("ReqTRES", text),
        (None, None) => return Ok(0),
    };
    let (mut all, mut by_model) = (None, 0_u32);
    for part in text.split(',') {
        let Some((key, count)) = part.split_once('=') else { continue };
        let key = key.trim();
        if key != "gres/gpu" && !key.starts_with("gres/gpu:") {
            continue;
        }
        let count = count.trim().parse::<u32>().ok().filter(|count| *count <= MAX_GPUS);
        let way_out = "sacct writes gres/gpu=8 or gres/gpu:a100=8";
        let count = count.ok_or_else(|| row.wrong(name, text, "has no number of GPUs", way_out))?;
        if key == "gres/gpu" { all = Some(count) } else { by_model = by_model.saturating_add(count) }
    }
    Ok(all.unwrap_or(by_model).min(MAX_GPUS))
}

/// Seconds of `2026-01-31T12:00:00` since 1970, as if it were UTC, or of a plain number.
fn seconds(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The year 9999: later is no time that Slurm writes.
        return text.parse().ok().filter(|seconds| *seconds < 253_402_300_800);
    }
    let (date, time) = text.split_once('T')?;
    let three = |text: &str, separator| -> Option<[u64; 3]> {
        let mut parts = text.split(separator).map(|part| part.parse::<u64>().ok());
        let all = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(all)
    };
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let sane = (1970..10_000).contains(&year) && (1..13).contains(&month) && (1..32).contains(&day);
    if !sane || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970-01-01 with years that begin in March, so that the leap day is the last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap + (month * 153 + 2) / 5 + day - 719_469;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        for (text, expected) in [
            ("1970-01-01T00:00:00", Some(0)),
            ("2000-02-29T00:00:00", Some(951_782_400)),
            ("2000-03-01T00:00:01", Some(951_868_801)),
            ("2023-11-14T12:00:00", Some(1_699_963_200)),
            ("1699963200", Some(1_699_963_200)),
            ("2023-13-01T00:00:00", None),
            ("2023-01-01", None),
            ("2023-01-01T00:00", None),
            ("2023-01-01T24:00:00", None),
            ("-5", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
