//! The CSV form: `job_id,group,arrival_hr,runtime_hr,gpus`, hours as decimals; `estimate_hr` where users said how
//! long they thought. Columns may come in any order; others are passed over.

use std::collections::BTreeMap;

use spillway_types::DurationMs;

use super::{Format, MAX_GPUS, MAX_JOBS, Trace, TraceError, hours};
use crate::TraceJob;

const NAMES: [&str; 5] = ["job_id", "group", "arrival_hr", "runtime_hr", "gpus"];
const ESTIMATE: &str = "estimate_hr";

/// Where each column stands.
#[derive(Debug)]
struct Columns {
    needed: [usize; 5],
    estimate: Option<usize>,
}

/// One line, cut into fields.
struct Row<'a> {
    number: usize,
    fields: Vec<&'a str>,
}

impl Row<'_> {
    fn field(&self, at: usize, name: &str) -> Result<&str, TraceError> {
        let field = self.fields.get(at).map(|field| field.trim().trim_matches('"')).unwrap_or_default();
        if field.is_empty() {
            return Err(self.wrong(name, "", "is missing", "every line needs a value in this column"));
        }
        Ok(field)
    }

    fn wrong(&self, column: &str, value: &str, problem: &str, way_out: &str) -> TraceError {
        TraceError::new(self.number, column, value, problem, way_out)
    }

    fn hours(&self, at: usize, name: &str) -> Result<DurationMs, TraceError> {
        let text = self.field(at, name)?;
        let way_out = "write hours as a decimal of at least 0, for example 0.25";
        hours(text).map_err(|error| self.wrong(name, text, &error.to_string(), way_out))
    }
}

pub(super) fn read(text: &str) -> Result<Trace, TraceError> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let Some((number, head)) = lines.next() else { return Ok(Trace::new(Format::Csv)) };
    let columns = columns(number, head)?;
    let mut trace = Trace::new(Format::Csv);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut before = DurationMs(0);
    for (number, line) in lines {
        let row = Row { number, fields: line.split(',').collect() };
        let job = job(&row, &columns)?;
        if let Some(first) = seen.insert(job.id.clone(), number) {
            let problem = format!("is already the job of line {first}");
            return Err(row.wrong("job_id", &job.id, &problem, "give every job an id of its own"));
        }
        if job.arrival < before {
            let text = row.field(columns.needed[2], "arrival_hr")?;
            let problem = "is before the arrival of the line above";
            return Err(row.wrong("arrival_hr", text, problem, "sort the lines by arrival_hr"));
        }
        if trace.jobs.len() == MAX_JOBS {
            return Err(row.wrong(
                "job_id",
                &job.id,
                "is one job too many",
                "split the trace: 10,000,000 is the most",
            ));
        }
        before = job.arrival;
        trace.jobs.push(job);
    }
    Ok(trace)
}

fn columns(line: usize, head: &str) -> Result<Columns, TraceError> {
    let names: Vec<&str> = head.split(',').map(|name| name.trim().trim_matches('"')).collect();
    let find = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    let mut needed = [0; 5];
    for (at, name) in needed.iter_mut().zip(NAMES) {
        *at = find(name).ok_or_else(|| {
            let way_out = format!("the head must have {}, and may have {ESTIMATE}", NAMES.join(","));
            TraceError::new(line, "the head", head, &format!("has no column {name}"), &way_out)
        })?;
    }
    Ok(Columns { needed, estimate: find(ESTIMATE) })
}

fn job(row: &Row<'_>, columns: &Columns) -> Result<TraceJob, TraceError> {
    let [id, group, arrival, runtime, gpus] = columns.needed;
    let group_text = row.field(group, "group")?;
    let group = group_text.parse();
    let group = group.map_err(|_| {
        let rule = "write 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit";
        row.wrong("group", group_text, "is not a group name", rule)
    })?;
    let run = row.hours(runtime, "runtime_hr")?;
    if run == DurationMs(0) {
        let way_out = "leave jobs out that did not run";
        return Err(row.wrong("runtime_hr", row.field(runtime, "runtime_hr")?, "is no time at all", way_out));
    }
    let estimate = match columns.estimate {
        Some(at) => row.hours(at, ESTIMATE)?.max(DurationMs(1)),
        None => run,
    };
    let text = row.field(gpus, "gpus")?;
    let gpus = text.parse::<u32>().ok().filter(|gpus| (1..=MAX_GPUS).contains(gpus)).ok_or_else(|| {
        row.wrong("gpus", text, "is not a number of GPUs", "write a whole number from 1 to 1000000")
    })?;
    let id = row.field(id, "job_id")?.to_owned();
    Ok(TraceJob { id, group, arrival: row.hours(arrival, "arrival_hr")?, runtime: run, estimate, gpus })
}
