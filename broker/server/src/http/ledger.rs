//! The ledger: its records, its verification, periods, rate cards, and providers' bills.

use axum::Json;
use axum::body::Body;
use axum::extract::State as Handed;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use spillway_api::v1::{
    CorrectionRequest, CorrectionView, LedgerCheckView, MAX_BILL, MAX_PAGE, MonthView, Page, PeriodView,
    RatesRequest, RatesView, ReconcileQuery, ReconciliationView, RecordView, RecordsQuery,
};
use spillway_api::{ApiError, ErrorCode};
use spillway_core::entity::Instance;
use spillway_core::{Command, Refusal};
use spillway_ledger::Entry;
use spillway_ledger::calendar::Period;
use spillway_ledger::journal::{Closed, Digest, Fact, Head, Record, SiteManifest};
use spillway_ledger::reconcile::{Bill, BillError, OurCharge, reconcile as compare};
use spillway_types::{Currency, Money, PoolName, UnixMs};

use super::auth::Caller;
use super::failure::Failure;
use super::input::{self, MAX_SMALL_BODY, Params, Segment};
use super::{Api, Shared};

pub(super) async fn records(
    Handed(api): Handed<Shared>,
    Params(query): Params<RecordsQuery>,
) -> Result<Json<Page<RecordView>>, Failure> {
    let (store, limit) = (api.app.engine.store(), usize::try_from(MAX_PAGE).unwrap_or(1));
    let records = match query.period {
        Some(period) => store.booked_records(period, query.after, limit).await?,
        // The first record's previous hash is not told, so that none need be known here.
        None => store.ledger_records(Head { seq: query.after, hash: Digest::default() }, limit).await?,
    };
    Ok(Json(Page { items: records.into_iter().map(RecordView::from).collect(), next: None }))
}

/// Takes back what a record charged, and posts what it should have been, into the period of the record or, where that is
/// closed, into the first open one.
pub(super) async fn correct(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CorrectionView>, Failure> {
    let request: CorrectionRequest = input::json(&headers, body, MAX_SMALL_BODY).await?;
    let CorrectionRequest { seq, amount, gpu_ms, because } = request;
    input::must_say_why(&because)?;
    if let Some(other) = amount.filter(|amount| amount.currency != Currency::USD) {
        let problem = format!("money here is in {}", Currency::USD);
        return Err(Failure(ApiError::invalid(problem).field("amount").value(other.currency)));
    }
    let (record, entry) = entry_of(&api, seq).await?;
    let was = entry.spend_micros();
    if api.app.engine.store().is_corrected(&entry).await? {
        return Err(Refusal::CorrectedAlready { key: entry.key().to_owned() }.into());
    }
    let gpu_ms = gpu_ms.unwrap_or_else(|| entry.gpu_ms());
    let becomes = amount.map(|amount| (gpu_ms, amount.micros));
    let (corrects, effective) = (entry.key().to_owned(), record.effective_at);
    let command = Command::Correct { entry: Box::new(entry), becomes, by: who.name.clone(), because };
    api.app.engine.command(command).await?;
    let read = move |view: &crate::View<'_>| view.federation.state().periods.book(effective).period;
    let booked = api.app.engine.read(read).await?;
    let is = becomes.map_or(0, |(_, micros)| micros);
    let (was, is) = (Money::usd_micros(was), Money::usd_micros(is));
    Ok(Json(CorrectionView { corrects, was, is, period: record.booked, booked }))
}

/// The record with this number, and the entry that it is.
async fn entry_of(api: &Api, seq: u64) -> Result<(Record, Entry), Failure> {
    let missing = || Failure(ApiError::not_found("ledger record", &seq));
    let before = Head { seq: seq.checked_sub(1).ok_or_else(missing)?, hash: Digest::default() };
    let mut records = api.app.engine.store().ledger_records(before, 1).await?;
    let record = records.pop().filter(|record| record.seq == seq).ok_or_else(missing)?;
    match record.fact() {
        Ok(Fact::Entry(entry)) => Ok((record, entry)),
        Ok(Fact::Statement(_)) => {
            let problem = "is a statement of a period's close, not a charge; correct charges";
            Err(Failure(ApiError::invalid(problem).field("seq").value(seq)))
        }
        Err(error) => {
            tracing::error!(seq, %error, "a record of the ledger cannot be read");
            Err(Failure(ApiError::new(ErrorCode::Internal, "the record cannot be read; verify the ledger")))
        }
    }
}

pub(super) async fn verify(Handed(api): Handed<Shared>) -> Result<Json<LedgerCheckView>, Failure> {
    let check = api.app.engine.store().verify_ledger().await?;
    if let Some(defect) = &check.defect {
        tracing::error!(%defect, "the ledger is not as it was written");
    }
    Ok(Json(LedgerCheckView {
        records: check.head.seq,
        head: check.head.hash,
        accounts: check.accounts,
        periods: check.periods,
        rollups: check.rollups,
        defect: check.defect.map(|defect| defect.to_string()),
    }))
}

const fn show_period((period, closed): (Period, Closed)) -> PeriodView {
    PeriodView { period, closed_at: closed.at, digest: closed.digest }
}

pub(super) async fn periods(Handed(api): Handed<Shared>) -> Result<Json<Page<PeriodView>>, Failure> {
    let periods = api.app.engine.store().closed_periods().await?;
    Ok(Json(Page { items: periods.into_iter().map(show_period).collect(), next: None }))
}

/// A month that is closed, that something is booked into, or that goes on.
pub(super) async fn period(
    Handed(api): Handed<Shared>,
    Segment(period): Segment<Period>,
) -> Result<Json<MonthView>, Failure> {
    let read = |view: &crate::View<'_>| view.federation.state().periods.clone();
    let periods = api.app.engine.read(read).await?;
    let (store, zone) = (api.app.engine.store(), periods.zone().clone());
    let newest_record = store.newest_record().await?;
    let closed_at = periods.closed().get(&period).map(|closed| closed.at);
    let goes_on = period == Period::of(api.app.engine.clock().now(), &zone);
    if closed_at.is_none() && !goes_on && store.booked_records(period, 0, 1).await?.is_empty() {
        let message = format!(
            "there is no period `{period}`: nothing is booked into it, and it is not the month that goes on"
        );
        let error = ApiError::new(ErrorCode::NotFound, message).field("period").value(period);
        return Err(Failure(error.hint("`spillway periods` lists the months that are closed")));
    }
    Ok(Json(MonthView { period, zone, closed_at, newest_record }))
}

/// Closes the period first, so that nothing is booked into it any more, then exports and freezes it. A broker that
/// ends between the two leaves a closed period without a digest; closing it again makes it.
pub(super) async fn close(
    Handed(api): Handed<Shared>,
    Segment(period): Segment<Period>,
) -> Result<Json<PeriodView>, Failure> {
    let known = closed_period(&api, period).await?;
    if known.is_none_or(|closed| closed.digest.is_some()) {
        api.app.engine.command(Command::ClosePeriod { period }).await?;
    }
    let export = api.app.engine.store().period_export(period).await?;
    let digest = Digest::of(export.as_bytes());
    api.app.engine.command(Command::FreezePeriod { period, digest }).await?;
    let closed = closed_period(&api, period).await?.ok_or_else(|| ApiError::not_found("period", &period))?;
    Ok(Json(show_period((period, closed))))
}

async fn closed_period(api: &Api, period: Period) -> Result<Option<Closed>, Failure> {
    let read = move |view: &crate::View<'_>| view.federation.state().periods.closed().get(&period).copied();
    Ok(api.app.engine.read(read).await?)
}

/// What was here of each site's usage when the period was closed.
pub(super) async fn period_manifests(
    Handed(api): Handed<Shared>,
    Segment(period): Segment<Period>,
) -> Result<Json<Page<SiteManifest>>, Failure> {
    if closed_period(&api, period).await?.is_none() {
        let error = ApiError::not_found("closed period", &period).field("period").value(period);
        return Err(Failure(error.hint("`spillway periods` lists the months that are closed")));
    }
    Ok(Json(Page { items: api.app.engine.store().site_manifests(Some(period)).await?, next: None }))
}

pub(super) async fn period_export(
    Handed(api): Handed<Shared>,
    Segment(period): Segment<Period>,
) -> Result<impl IntoResponse, Failure> {
    let export = api.app.engine.store().period_export(period).await?;
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8")], export))
}

pub(super) async fn rates(Handed(api): Handed<Shared>) -> Result<Json<Page<RatesView>>, Failure> {
    let read =
        |view: &crate::View<'_>| {
            let cards = view.federation.state().rates.cards();
            let show = |(pool, effective, card): (&PoolName, UnixMs, &spillway_ledger::rates::Card)| {
                RatesView { pool: pool.clone(), effective, card: card.clone() }
            };
            cards.map(show).collect()
        };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

pub(super) async fn set_rates(
    Handed(api): Handed<Shared>,
    Segment(pool): Segment<PoolName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RatesView>, Failure> {
    let RatesRequest { effective, card } = input::json(&headers, body, MAX_SMALL_BODY).await?;
    let effective = effective.unwrap_or_else(|| api.app.engine.clock().now());
    let command = Command::SetRates { pool: pool.clone(), effective, card: Box::new(card.clone()) };
    api.app.engine.command(command).await?;
    Ok(Json(RatesView { pool, effective, card }))
}

/// What an instance was billed of the bill's time, as one charge.
fn charged(instance: &Instance, (from, to): (UnixMs, UnixMs), now: UnixMs) -> Option<OurCharge> {
    let since = instance.runs_since()?;
    let resource = instance.provider_id.clone()?;
    let (begin, end) = (since.max(from), since.plus(instance.billed(now)).min(to));
    if end <= begin {
        return None;
    }
    let (from_ms, to_ms) = (begin.since(since).0, end.since(since).0);
    let micros = instance.cost_between(from_ms, to_ms);
    Some(OurCharge { resource, from: begin, to: end, billed_ms: to_ms - from_ms, micros })
}

pub(super) async fn reconcile(
    Handed(api): Handed<Shared>,
    Params(query): Params<ReconcileQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReconciliationView>, Failure> {
    let bytes = input::read(&headers, body, MAX_BILL).await?;
    let bill = Bill::read(&bytes).map_err(|error| no_bill(&error))?;
    let currency = bill.currency().map_err(|error| no_bill(&error))?.unwrap_or(Currency::USD);
    if currency != Currency::USD {
        let message = format!("the bill is in {currency}, and money here is in {}", Currency::USD);
        return Err(Failure(ApiError::invalid(message).field("bill").value(currency)));
    }
    let from = bill.lines.iter().map(|line| line.from).min().unwrap_or_default();
    let to = bill.lines.iter().map(|line| line.to).max().unwrap_or_default();
    let now = api.app.engine.clock().now();
    let instances = api.app.engine.store().instances_of(&query.cloud).await?;
    let charges: Vec<OurCharge> =
        instances.iter().filter_map(|instance| charged(instance, (from, to), now)).collect();
    let found = compare(&bill.lines, &charges, query.tolerance_micros);
    let (theirs, ours) = (found.theirs_micros(), found.ours_micros());
    let money = |micros| Money { micros, currency };
    Ok(Json(ReconciliationView { theirs: money(theirs), ours: money(ours), findings: found.findings }))
}

fn no_bill(error: &BillError) -> Failure {
    Failure(ApiError::invalid(error.to_string()).field("bill"))
}
