//! What currencies are worth in dollars, in which the books are kept, day by day; and amounts that are stated in one.

use axum::Json;
use axum::body::Body;
use axum::extract::State as Handed;
use axum::http::HeaderMap;
use spillway_api::ApiError;
use spillway_api::v1::{ExchangeRequest, ExchangeView, Page};
use spillway_core::{Command, Refusal};
use spillway_ledger::calendar::Day;
use spillway_ledger::rates::{CurrencyError, CurrencyTable, Stated};
use spillway_types::{Currency, Money};

use super::failure::Failure;
use super::input::{self, MAX_SMALL_BODY, Segment};
use super::{Api, Shared};

/// The table as it is now.
pub(super) async fn table(api: &Api) -> Result<CurrencyTable, Failure> {
    let read = |view: &crate::View<'_>| view.federation.state().currencies.clone();
    Ok(api.app.engine.read(read).await?)
}

pub(super) async fn list(Handed(api): Handed<Shared>) -> Result<Json<Page<ExchangeView>>, Failure> {
    let table = table(&api).await?;
    let base = table.base();
    let view = |(currency, from, rate)| ExchangeView { currency, from, rate, base };
    Ok(Json(Page { items: table.rates().map(view).collect(), next: None }))
}

pub(super) async fn set(
    Handed(api): Handed<Shared>,
    Segment(currency): Segment<Currency>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ExchangeView>, Failure> {
    let ExchangeRequest { from, rate } = input::json(&headers, body, MAX_SMALL_BODY).await?;
    let from = from.unwrap_or_else(|| Day::of(api.app.engine.clock().now()));
    api.app.engine.command(Command::SetExchange { currency, from, rate }).await?;
    Ok(Json(ExchangeView { currency, from, rate, base: table(&api).await?.base() }))
}

/// An amount in micros of dollars at what its currency is worth today, with what was stated where that was another
/// currency.
pub(super) async fn stated(api: &Api, field: &str, amount: Money) -> Result<(i64, Option<Stated>), Failure> {
    if amount.currency == Currency::USD {
        return Ok((amount.micros, None));
    }
    let stated = table(api).await?.stated(amount, api.app.engine.clock().now());
    stated.map_err(|error| refused(field, error))
}

/// What the table says against a currency that the field asks for.
pub(super) fn refused(field: &str, error: CurrencyError) -> Failure {
    let Failure(error) = Refusal::Currency(Box::new(error)).into();
    Failure(ApiError { field: Some(field.to_owned()), ..error })
}
