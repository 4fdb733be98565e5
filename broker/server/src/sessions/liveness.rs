//! When each lease was last extended, by the broker's monotonic clock, and which have run out.
//!
//! Nothing of this is stored: after a start every lease counts as extended at the start, so that a full lease
//! passes before anything is judged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use spillway_core::Command;
use spillway_types::lease::silence_until_over;
use spillway_types::{AttemptId, DurationMs, NodeId};

use super::Sessions;
use crate::clock::Clock;
use crate::engine::View;

/// How often leases are looked at.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Liveness {
    clock: Clock,
    extended: Mutex<BTreeMap<(AttemptId, NodeId), u64>>,
}

/// A lease that may still let something run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpenLease {
    attempt: AttemptId,
    rank: u32,
    node: NodeId,
    over_after: DurationMs,
}

impl Liveness {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { clock, extended: Mutex::new(BTreeMap::new()) }
    }

    /// The node may have got word just now that extends these leases.
    pub(super) fn extend(&self, node: NodeId, attempts: impl IntoIterator<Item = AttemptId>) {
        let now = self.clock.elapsed_ms();
        let mut extended = self.extended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        extended.extend(attempts.into_iter().map(|attempt| ((attempt, node), now)));
    }

    /// Those of `open` whose time is over. Leases that are not open any more are forgotten, new ones begin.
    fn over(&self, open: Vec<OpenLease>) -> Vec<OpenLease> {
        let now = self.clock.elapsed_ms();
        let mut extended = self.extended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut kept = BTreeMap::new();
        let mut over = vec![];
        for lease in open {
            let key = (lease.attempt, lease.node);
            let at = extended.get(&key).copied().unwrap_or(now);
            kept.insert(key, at);
            if now.saturating_sub(at) >= lease.over_after.0 {
                over.push(lease);
            }
        }
        *extended = kept;
        over
    }
}

/// Declares parts silent whose leases have run out, until told to stop.
pub async fn watch_leases(sessions: Arc<Sessions>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = sessions.stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let Ok(open) = sessions.engine.read(open_leases).await else { return };
        for lease in sessions.liveness.over(open) {
            tracing::warn!(attempt = %lease.attempt, rank = lease.rank, node.id = %lease.node, "the node was silent past lease, grace and margin");
            let command = Command::DeclareSilent { attempt: lease.attempt, rank: lease.rank };
            match sessions.engine.command(command).await {
                // Should the node be heard again, it begins with a hello.
                Ok(_) => sessions.hang_up(lease.node),
                Err(error) => {
                    tracing::error!(%error, attempt = %lease.attempt, "a silent part could not be declared; trying again");
                }
            }
        }
    }
}

fn open_leases(view: &View<'_>) -> Vec<OpenLease> {
    let attempts = view.federation.state().attempts.values().filter(|attempt| attempt.state.occupies_nodes());
    let leases = attempts.flat_map(|attempt| {
        let over_after = silence_until_over(attempt.lease, attempt.grace);
        let open = attempt.parts.iter().enumerate().filter(|(_, part)| !part.state.is_over());
        open.filter_map(move |(rank, part)| {
            let rank = u32::try_from(rank).ok()?;
            part.node.map(|node| OpenLease { attempt: attempt.id, rank, node, over_after })
        })
    });
    leases.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::{SequentialIds, UnixMs};

    #[test]
    fn a_lease_that_was_never_seen_begins_when_it_is_first_looked_at() {
        let mut ids = SequentialIds::new(3);
        let (attempt, node) = (AttemptId::generate(&mut ids), NodeId::generate(&mut ids));
        let liveness = Liveness::new(Clock::start(UnixMs(0)));
        let lease = |ms| OpenLease { attempt, rank: 0, node, over_after: DurationMs(ms) };
        assert!(liveness.over(vec![lease(60_000)]).is_empty());
        assert_eq!(liveness.over(vec![lease(0)]), vec![lease(0)]);
        liveness.over(vec![]);
        assert!(liveness.extended.lock().unwrap().is_empty());
    }
}
