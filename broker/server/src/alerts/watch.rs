//! Looks where the limits stand after every commit, and offers what was crossed.
//!
//! The first look offers all that is reached: what was told before is known by its key. While the broker is in
//! recovery nothing is told, since what it sees is old.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use spillway_ledger::limits::Standing;
use spillway_ledger::limits::alerts::{Alert, crossed};
use spillway_types::{GroupName, UnixMs};
use tokio_util::sync::CancellationToken;

use super::Alerts;
use crate::engine::{Engine, View};

/// Between two looks, however often something changes: a person does not act sooner.
const EVERY: Duration = Duration::from_secs(1);
/// A look without any change: a window may have ended.
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Groups with the groups above them, nearest first, and where those limits stand that have thresholds.
type Seen = BTreeMap<GroupName, (Vec<GroupName>, Vec<Standing>)>;

/// Watches until told to stop.
pub async fn run(engine: Engine, alerts: Arc<Alerts>, stop: CancellationToken) {
    if alerts.is_empty() {
        return;
    }
    let mut revision = engine.revision();
    let mut before = Seen::new();
    loop {
        if engine.mode().acts() {
            let now = engine.clock().now();
            let Ok(after) = engine.read(move |view| look(view, now)).await else { return };
            alerts.offer(&news(&before, &after, now));
            before = after;
        }
        let change = async {
            tokio::time::sleep(EVERY).await;
            // The engine's end is found by the next read.
            tokio::time::timeout(AT_LEAST_EVERY, revision.changed()).await.ok();
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = change => {}
        }
    }
}

fn look(view: &View<'_>, now: UnixMs) -> Seen {
    let state = view.federation.state();
    let seen = |group: &GroupName| {
        let mut standings = state.limits.standings(group, now);
        standings.retain(|standing| !standing.limit.thresholds.is_empty());
        let above = state.book.ancestors(group).skip(1).cloned().collect();
        (!standings.is_empty()).then(|| (group.clone(), (above, standings)))
    };
    state.groups.keys().filter_map(seen).collect()
}

fn news(before: &Seen, after: &Seen, now: UnixMs) -> Vec<Alert> {
    let of_group = |(group, (above, standings)): (&GroupName, &(Vec<GroupName>, Vec<Standing>))| {
        let known = before.get(group).map_or(&[][..], |(_, standings)| standings);
        crossed(known, standings, above, now)
    };
    after.iter().flat_map(of_group).collect()
}
