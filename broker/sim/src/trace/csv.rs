//! The CSV form: `job_id,group,arrival_hr,runtime_hr,gpus`, hours as decimals. What else a job asked may be there too:
//! `estimate_hr` (how long its user thought), `class`, `deadline_hr` (counted from its arrival), `inputs` (datasets
//! with `;` between), `checkpoint_hr` (how often it writes one) and `spot` (`allow` or `never`); an empty field says
//! nothing. Columns may come in any order; others are passed over.

use std::collections::BTreeMap;

use spillway_types::job::MAX_INPUTS;
use spillway_types::{DatasetName, DurationMs, Spot};

use super::{Format, MAX_GPUS, MAX_JOBS, Trace, TraceError, hours};
use crate::{Asks, TraceJob};

const NAMES: [&str; 5] = ["job_id", "group", "arrival_hr", "runtime_hr", "gpus"];
const OPTIONAL: [&str; 6] = ["estimate_hr", "class", "deadline_hr", "inputs", "checkpoint_hr", "spot"];

/// Where each column stands.
#[derive(Debug)]
struct Columns {
    needed: [usize; 5],
    optional: [Option<usize>; 6],
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

    /// The field of a column that may be missing or empty.
    fn maybe(&self, at: Option<usize>) -> Option<&str> {
        let field = self.fields.get(at?)?.trim().trim_matches('"').trim();
        (!field.is_empty()).then_some(field)
    }

    fn wrong(&self, column: &str, value: &str, problem: &str, way_out: &str) -> TraceError {
        TraceError::new(self.number, column, value, problem, way_out)
    }

    fn hours(&self, at: usize, name: &str) -> Result<DurationMs, TraceError> {
        self.parse_hours(self.field(at, name)?, name)
    }

    fn maybe_hours(&self, at: Option<usize>, name: &str) -> Result<Option<DurationMs>, TraceError> {
        self.maybe(at).map(|text| self.parse_hours(text, name)).transpose()
    }

    fn parse_hours(&self, text: &str, name: &str) -> Result<DurationMs, TraceError> {
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
            let (needed, optional) = (NAMES.join(","), OPTIONAL.join(","));
            let way_out = format!("the head must have {needed}, and may have {optional}");
            TraceError::new(line, "the head", head, &format!("has no column {name}"), &way_out)
        })?;
    }
    Ok(Columns { needed, optional: OPTIONAL.map(find) })
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
    let estimate = row.maybe_hours(columns.optional[0], OPTIONAL[0])?;
    let text = row.field(gpus, "gpus")?;
    let gpus = text.parse::<u32>().ok().filter(|gpus| (1..=MAX_GPUS).contains(gpus)).ok_or_else(|| {
        row.wrong("gpus", text, "is not a number of GPUs", "write a whole number from 1 to 1000000")
    })?;
    let id = row.field(id, "job_id")?.to_owned();
    Ok(TraceJob {
        id,
        group,
        arrival: row.hours(arrival, "arrival_hr")?,
        runtime: run,
        estimate: estimate.map_or(run, |estimate| estimate.max(DurationMs(1))),
        gpus,
        asks: asks(row, columns)?,
    })
}

/// What may be there beside what is needed.
fn asks(row: &Row<'_>, columns: &Columns) -> Result<Asks, TraceError> {
    let [_, class, deadline, inputs, checkpoint, spot] = columns.optional;
    let deadline_text = row.maybe(deadline).unwrap_or_default();
    let deadline = row.maybe_hours(deadline, "deadline_hr")?;
    if deadline == Some(DurationMs(0)) {
        let way_out = "write the hours from its arrival to its latest end, or leave the field empty";
        return Err(row.wrong("deadline_hr", deadline_text, "is no time at all", way_out));
    }
    let checkpoint_text = row.maybe(checkpoint).unwrap_or_default();
    let checkpoint = row.maybe_hours(checkpoint, "checkpoint_hr")?;
    if checkpoint == Some(DurationMs(0)) {
        let way_out = "write the hours from one checkpoint to the next, or leave the field empty";
        return Err(row.wrong("checkpoint_hr", checkpoint_text, "is no time at all", way_out));
    }
    let class = row.maybe(class).map(|text| {
        let rule = "write 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit";
        text.parse().map_err(|_| row.wrong("class", text, "is not a class name", rule))
    });
    let datasets = row.maybe(inputs).into_iter().flat_map(|text| text.split(';')).map(str::trim);
    let inputs: Result<Vec<DatasetName>, TraceError> = datasets
        .map(|text| {
            let rule = "write names of datasets with `;` between";
            text.parse().map_err(|_| row.wrong("inputs", text, "is not a dataset name", rule))
        })
        .collect();
    let inputs = inputs?;
    if inputs.len() > MAX_INPUTS {
        let problem = format!("are more than {MAX_INPUTS} datasets");
        return Err(row.wrong("inputs", &inputs.len().to_string(), &problem, "name those that are large"));
    }
    let spot = match row.maybe(spot) {
        None | Some("allow") => Spot::Allow,
        Some("never") => Spot::Never,
        Some(text) => {
            return Err(row.wrong("spot", text, "is not a word for it", "write `allow` or `never`"));
        }
    };
    Ok(Asks { class: class.transpose()?, deadline, inputs, checkpoint, spot })
}
