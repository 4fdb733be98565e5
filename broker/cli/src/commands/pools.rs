//! What pools could give in a month, what was used of it, and what nobody used.

use spillway_api::Client;
use spillway_api::v1::{PeriodState, PoolsQuery, PoolsReport};

use crate::args::ledger::PoolsArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::pools as render;

pub(super) async fn pools(client: &Client, args: PoolsArgs, output: &mut Output) -> Result<u8, Failure> {
    let report = client.pools(&PoolsQuery { month: args.month }).await?;
    output.records(&report, render::pools, render::csv);
    output.talk(&notes(&report).join("\n"));
    Ok(0)
}

/// What must be known to read the report.
fn notes(report: &PoolsReport) -> Vec<String> {
    let (month, until) = (report.month, report.until);
    let mut notes = vec![match report.state {
        PeriodState::Closed { at } => {
            format!("period {month} was closed at {at}: its figures do not change any more")
        }
        PeriodState::Open => format!("period {month} is open: these are its figures up to {until}"),
    }];
    let mut problems: Vec<&String> = report.rows.iter().filter_map(|row| row.problem.as_ref()).collect();
    problems.dedup();
    notes.extend(problems.into_iter().map(|problem| format!("warning: it cannot be closed so: {problem}")));
    notes
}
