//! What pools could give in a month, what was used of it, and what nobody used: so far, or as it was closed.

use axum::Json;
use axum::extract::State as Handed;
use spillway_api::v1::{PeriodState, PoolClassView, PoolsQuery, PoolsReport};
use spillway_core::pools::{PoolFigures, PoolRow};
use spillway_ledger::calendar::Period;
use spillway_types::Money;

use super::Shared;
use super::failure::Failure;
use super::input::Params;

pub(super) async fn report(
    Handed(api): Handed<Shared>,
    Params(query): Params<PoolsQuery>,
) -> Result<Json<PoolsReport>, Failure> {
    let now = api.app.engine.clock().now();
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        let zone = state.periods.zone().clone();
        let month = query.month.unwrap_or_else(|| Period::of(now, &zone));
        let closed = state.periods.closed().get(&month);
        let figures = state.pool_figures(month, now);
        PoolsReport {
            month,
            state: closed.map_or(PeriodState::Open, |closed| PeriodState::Closed { at: closed.at }),
            until: now.clamp(month.start(&zone), month.end(&zone)),
            rows: figures.iter().flat_map(|it| it.rows.iter().map(move |row| shown(it, row))).collect(),
            zone,
        }
    };
    Ok(Json(api.app.engine.read(read).await?))
}

fn shown(pool: &PoolFigures, row: &PoolRow) -> PoolClassView {
    let money = |micros: i64| pool.unused.is_some().then(|| Money::usd_micros(micros));
    PoolClassView {
        pool: pool.pool.clone(),
        site: pool.site.clone(),
        accelerator: row.class.clone(),
        capacity_ms: row.capacity_ms,
        used_ms: row.used_ms,
        unused_ms: row.capacity_ms.saturating_sub(row.used_ms),
        charged: Money::usd_micros(row.charged_micros),
        cost: money(row.cost_micros),
        unused: money(row.unused_micros),
        variance: money(row.variance_micros()),
        rule: pool.unused.clone(),
        problem: pool.problem.as_ref().map(ToString::to_string),
    }
}
