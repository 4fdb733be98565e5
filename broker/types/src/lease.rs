//! The arithmetic of leases: when a node must have stopped, and when the broker may place again.
//!
//! The agent counts a lease from the *sending* of the renewal that the broker answered; the broker counts it
//! from the last moment at which it sent anything that could extend it. So the agent's end is never later
//! than the broker's, and the broker adds the kill grace and a margin on top.

use crate::DurationMs;

/// Shortest lease that a job may ask for.
pub const MIN_LEASE: DurationMs = DurationMs::from_secs(2);
/// Longest lease that a job may ask for: a lost node keeps a job from running elsewhere this long.
pub const MAX_LEASE: DurationMs = DurationMs::from_secs(600);
/// The lease where the job names none.
pub const DEFAULT_LEASE: DurationMs = DurationMs::from_secs(60);
/// What the broker waits beyond lease and grace: clock granularity and the time SIGKILL takes.
pub const LEASE_MARGIN: DurationMs = DurationMs(2_000);

/// How long after the broker last extended a lease nothing of the attempt can run any more.
#[must_use]
pub const fn silence_until_over(lease: DurationMs, grace: DurationMs) -> DurationMs {
    DurationMs(lease.0.saturating_add(grace.0).saturating_add(LEASE_MARGIN.0))
}

/// How often an agent renews leases of this length: four tries fit into one lease.
#[must_use]
pub const fn renew_every(lease: DurationMs) -> DurationMs {
    DurationMs(lease.0 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_waits_longer_than_the_agent_can_run() {
        assert_eq!(silence_until_over(DurationMs(60_000), DurationMs(10_000)), DurationMs(72_000));
        assert!(renew_every(MIN_LEASE).0 >= 500);
    }
}
