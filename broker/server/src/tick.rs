//! The task that lets time pass in the core.

use std::time::Duration;

use spillway_core::Command;
use spillway_core::command::TickLimits;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, EngineError};

const EVERY: Duration = Duration::from_millis(500);
/// Ticks between two looks at old idempotency keys: an hour.
const TICKS_PER_CLEANING: u32 = 7200;

/// Ticks until told to stop.
pub async fn run(engine: Engine, limits: TickLimits, stop: CancellationToken) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0_u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => ticks = ticks.wrapping_add(1),
        }
        if !engine.mode().acts() {
            continue;
        }
        let cleaning = ticks.is_multiple_of(TICKS_PER_CLEANING);
        let command = if cleaning { Command::ForgetOldKeys } else { Command::Tick { limits } };
        match engine.command(command).await {
            Ok(_) => {}
            Err(EngineError::Stopped) => return,
            Err(error) => tracing::error!(%error, "time could not pass; trying again"),
        }
    }
}
