//! The task that plans: takes a snapshot when something has changed, asks the pure planner, and has the core
//! carry out what still holds. No input, idempotent; what it misses it sees the next time.

use std::time::Duration;

use spillway_core::command::Endpoint;
use spillway_core::{Command, Reply, snapshot};
use spillway_policies::{Displacement, Plan, Planner, Snapshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::{Engine, EngineError, View};

/// Time changes plans too: waiting budgets run out, overdue jobs go on.
const AT_LEAST_EVERY: Duration = Duration::from_millis(1_000);
/// After a plan that started nothing, planning rests this many times as long as it took: a long queue that
/// cannot move must not take the machine from the jobs.
const REST_FACTOR: u32 = 4;
/// Longest that explaining a plan may hold up carrying it out, in milliseconds: jobs at the front of the queue get every
/// candidate, those that are not reached by then reason, planned start and position.
const EXPLAINING_MS: u64 = 250;

/// Plans until told to stop.
pub async fn run(engine: Engine, endpoint: Endpoint, stop: CancellationToken) {
    let mut revision = engine.revision();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = revision.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AT_LEAST_EVERY) => {}
        }
        if !engine.mode().acts() {
            continue;
        }
        let began = engine.clock().elapsed_ms();
        match plan_once(&engine, &endpoint).await {
            Ok(0) => {
                let took = engine.clock().elapsed_ms().saturating_sub(began);
                tokio::time::sleep(Duration::from_millis(took) * REST_FACTOR).await;
            }
            Ok(_) => {}
            Err(EngineError::Stopped) => return,
            Err(error) => tracing::error!(%error, "a plan could not be carried out; planning goes on"),
        }
    }
}

/// Makes one plan and carries it out. Gives how many tasks it started.
async fn plan_once(engine: &Engine, endpoint: &Endpoint) -> Result<usize, EngineError> {
    let snapshot = engine.read(take).await?;
    let Some(snapshot) = snapshot else {
        return Ok(0);
    };
    let clock = engine.clock();
    let made = tokio::task::spawn_blocking(move || plan_within(&snapshot, clock)).await;
    let Ok(Plan { decisions, displacements, explanations }) = made else {
        tracing::error!("the planner panicked; this plan is skipped");
        return Ok(0);
    };
    engine.set_explanations(explanations).await;
    for Displacement { attempt, because } in displacements {
        match engine.command(Command::Preempt { attempt, because }).await {
            Ok(_) => tracing::info!(attempt = %attempt, "an attempt gives way"),
            Err(EngineError::Refused(refusal)) => tracing::debug!(%refusal, "an attempt does not give way"),
            Err(error) => return Err(error),
        }
    }
    if decisions.is_empty() {
        return Ok(0);
    }
    let wanted = decisions.len();
    let reply = engine.command(Command::Place { decisions, endpoint: endpoint.clone() }).await?;
    if let Reply::Placed { started, stale } = reply {
        tracing::debug!(wanted, started, stale, "a plan was carried out");
        return Ok(started);
    }
    Ok(0)
}

/// Plans and explains within the times that these may take.
fn plan_within(snapshot: &Snapshot, clock: Clock) -> Plan {
    let within = |limit_ms: u64| {
        let began = clock.elapsed_ms();
        move || clock.elapsed_ms().saturating_sub(began) < limit_ms
    };
    let mut go_on = within(snapshot.policy.plan_time.0);
    let mut planner = Planner::of(snapshot);
    let decisions = planner.plan(snapshot.now, &mut go_on);
    let displacements = planner.take_displacements();
    Plan { decisions, displacements, explanations: planner.explanations_while(&mut within(EXPLAINING_MS)) }
}

/// None where nothing waits that may be placed, and nothing might come home.
fn take(view: &View<'_>) -> Option<Snapshot> {
    let state = view.federation.state();
    let travels = state.attempts.values().any(|attempt| {
        attempt.instance_type.is_some()
            && state.jobs.get(&attempt.job).is_some_and(|job| job.spec.checkpoint.every.is_some())
    });
    let waits = travels || state.jobs.values().any(|job| !job.queued.is_empty() && job.held.is_none());
    waits.then(|| snapshot::take(view.federation, view.policy, view.now))
}
