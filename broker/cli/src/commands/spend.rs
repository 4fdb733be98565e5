//! Reports: what was spent, what was used, and on which days that was out of the ordinary.

use spillway_api::Client;
use spillway_api::v1::{AnomaliesQuery, PeriodState, SpendKey, SpendQuery, SpendReport};
use spillway_ledger::calendar::Day;
use spillway_types::Currency;

use crate::args::spend::{ReportArgs, SpendArgs, SpendCommand};
use crate::clock;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::spend as render;

pub(super) async fn spend(client: &Client, args: SpendArgs, output: &mut Output) -> Result<u8, Failure> {
    match args.command {
        None => report(client, args.report, render::spend, output).await,
        Some(SpendCommand::Anomalies { from, to }) => {
            let query = AnomaliesQuery { from, to };
            // What cannot be asked is refused here, before it is sent.
            query.days(Day::of(clock::now()))?;
            let found = client.anomalies(&query).await?;
            output.records(&found, render::anomalies, render::anomalies_csv);
            Ok(0)
        }
    }
}

pub(super) async fn usage(client: &Client, args: ReportArgs, output: &mut Output) -> Result<u8, Failure> {
    report(client, args, render::usage, output).await
}

async fn report(
    client: &Client,
    args: ReportArgs,
    render: fn(&crate::output::Look, &SpendReport) -> String,
    output: &mut Output,
) -> Result<u8, Failure> {
    let ReportArgs { by, from, to, period, zone, group, currency } = args;
    let query = SpendQuery { by: Some(by), from, to, period, zone: Some(zone), group, currency };
    query.asked()?;
    let report = client.spend(&query).await?;
    output.records(&report, render, render::csv);
    output.talk(&notes(&report).join("\n"));
    Ok(0)
}

/// What must be known to read the report.
fn notes(report: &SpendReport) -> Vec<String> {
    let mut notes = vec![match (report.period, report.state, report.closed_through) {
        (Some(period), Some(PeriodState::Closed { at }), _) => {
            format!("period {period} was closed at {at}: its figures do not change any more")
        }
        (Some(period), Some(PeriodState::Open) | None, _) => {
            format!("period {period} is open: its figures can still change")
        }
        (None, _, Some(closed)) => {
            format!("the books are closed through {closed}: what is booked later can still change")
        }
        (None, _, None) => "no month of the books is closed: figures can still change".to_owned(),
    }];
    if report.zone.name() != "UTC" {
        notes.push(format!("days, weeks and months are those of {}", report.zone));
    }
    let currency = report.total.currency;
    if currency != Currency::USD {
        notes.push(format!(
            "each day is told at what {currency} was worth on the day; budgets, holds and forecasts as of today"
        ));
    }
    if report.by.contains(&SpendKey::Dataset) {
        let note = "what read several data sets is in the row of each; the total is all that was charged";
        notes.push(note.to_owned());
    }
    if report.ledger_total.is_some_and(|ledger| ledger != report.total) || report.imbalance_micros != 0 {
        notes.push(format!(
            "warning: the ledger says {}, and its accounts sum to {} micros: this is a defect, please report it; \
             `spillway ledger verify` says where",
            report.ledger_total.unwrap_or(report.total),
            report.imbalance_micros
        ));
    }
    notes
}
