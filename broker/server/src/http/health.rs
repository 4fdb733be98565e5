//! How the broker is, and whom it tells of what. Health needs no token, and says nothing that somebody without one
//! should not know.

use axum::Json;
use axum::extract::State;
use spillway_api::v1::{BrokerMode, DestinationView, HealthView, Page};

use super::Shared;
use super::failure::Failure;
use crate::Mode;

pub(super) async fn alerts(State(api): State<Shared>) -> Json<Page<DestinationView>> {
    Json(Page { items: api.app.alerts.status(), next: None })
}

pub(super) async fn show(State(api): State<Shared>) -> Result<Json<HealthView>, Failure> {
    let (mode, message, awaited) = match api.app.engine.mode() {
        Mode::Normal => (BrokerMode::Normal, None, 0),
        Mode::Starting { awaited } => {
            let message = "jobs are placed when its nodes are back or their leases have run out".to_owned();
            (BrokerMode::Starting, Some(message), awaited.len())
        }
        Mode::Recovery { evidence } => (BrokerMode::Recovery, Some(Mode::recovery_message(&evidence)), 0),
    };
    let database = api.app.database.clone();
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        HealthView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            deployment: state.deployment.clone(),
            incarnation: state.incarnation,
            mode,
            message,
            nodes_awaited: u32::try_from(awaited).unwrap_or(u32::MAX),
            invariant_violations: view.federation.violation_count(),
            ledger_imbalance_micros: state.book.imbalance(),
            database,
        }
    };
    Ok(Json(api.app.engine.read(read).await?))
}
