//! What a replay counts: placements, busy accelerators, waits and money.

use std::collections::BTreeMap;

use spillway_core::entity::{Attempt, Part};
use spillway_ledger::Entry;
use spillway_types::{DurationMs, GroupName, NodeId, SiteKind, SiteName};

use super::{Place, Placed, Replay, Sample};
use crate::World;

/// About how many samples are taken between the first arrival and the last.
const SAMPLES: u64 = 1000;

/// The figures so far.
#[derive(Debug)]
pub(super) struct Tally {
    placements: Vec<Option<Placed>>,
    samples: Vec<Sample>,
    spend: BTreeMap<(SiteName, GroupName), i64>,
    /// Indexes of the description's nodes.
    nodes: BTreeMap<NodeId, u32>,
    now: Sample,
    step_ms: u64,
    next_ms: u64,
}

/// Accelerators of all parts.
fn gpus(attempt: &Attempt) -> u64 {
    attempt.parts.iter().map(|part| part.allocation.blocks()).sum::<u64>() / 100
}

impl Tally {
    pub(super) fn new(jobs: usize, last: DurationMs, nodes: BTreeMap<NodeId, u32>) -> Self {
        Self {
            placements: vec![None; jobs],
            samples: vec![],
            spend: BTreeMap::new(),
            nodes,
            now: Sample::default(),
            step_ms: (last.0 / SAMPLES).max(1),
            next_ms: 0,
        }
    }

    /// An attempt at a job runs, or ran: counted once.
    pub(super) fn started(&mut self, job: usize, arrival: DurationMs, attempt: &Attempt) {
        let Some(active) = attempt.active else { return };
        let start = active.since(World::BEGIN);
        let Some(entry) = self.placements.get_mut(job) else { return };
        if entry.as_ref().is_some_and(|placed| placed.start == start) {
            return;
        }
        let part = |part: &Part| {
            let index = part.node.and_then(|node| self.nodes.get(&node)).copied().unwrap_or(u32::MAX);
            (index, u32::try_from(part.allocation.blocks() / 100).unwrap_or(u32::MAX))
        };
        let place = match attempt.kind {
            SiteKind::Cloud => Place::Cloud { site: attempt.site.clone() },
            SiteKind::OnPrem | SiteKind::Personal => Place::Local(attempt.parts.iter().map(part).collect()),
        };
        *entry = Some(Placed { job, place, start });
        let waited = start.0.saturating_sub(arrival.0);
        self.now.waited = DurationMs(self.now.waited.0.saturating_add(waited));
        *self.busy(attempt.kind) += gpus(attempt);
    }

    /// An attempt is over.
    pub(super) fn ended(&mut self, attempt: &Attempt) {
        if attempt.active.is_some() {
            let busy = self.busy(attempt.kind);
            *busy = busy.saturating_sub(gpus(attempt));
        }
    }

    const fn busy(&mut self, kind: SiteKind) -> &mut u64 {
        match kind {
            SiteKind::Cloud => &mut self.now.gpus_busy_cloud,
            SiteKind::OnPrem | SiteKind::Personal => &mut self.now.gpus_busy_local,
        }
    }

    /// The ledger has an entry more, about a site of this kind.
    pub(super) fn posted(&mut self, entry: &Entry, kind: Option<SiteKind>) {
        let micros = entry.spend_micros();
        if micros == 0 {
            return;
        }
        if kind == Some(SiteKind::Cloud) {
            self.now.cloud_micros = self.now.cloud_micros.saturating_add(micros);
        }
        let subject = entry.subject();
        let spent = self.spend.entry((subject.site.clone(), subject.group.clone())).or_default();
        *spent = spent.saturating_add(micros);
    }

    /// Takes a sample where it is time for one.
    pub(super) fn sample(&mut self, at: DurationMs, queued_jobs: usize) {
        if at.0 >= self.next_ms {
            self.samples.push(Sample { at, queued_jobs: queued_jobs as u64, ..self.now });
            self.next_ms = (at.0 / self.step_ms + 1) * self.step_ms;
        }
    }

    /// The result, at the end.
    pub(super) fn into_replay(mut self, at: DurationMs, violations: &[String]) -> Replay {
        self.samples.push(Sample { at, queued_jobs: 0, ..self.now });
        Replay {
            placements: self.placements.into_iter().flatten().collect(),
            samples: self.samples,
            spend: self.spend,
            violations: violations.to_vec(),
        }
    }
}
