//! What a replay counts: placements, busy accelerators, waits and money, and what went otherwise than it was placed.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::entity::{Attempt, Part};
use spillway_ledger::Entry;
use spillway_types::{AttemptId, DurationMs, GroupName, InstanceId, NodeId, SiteKind, SiteName, UnixMs};

use super::{Place, Placed, Replay, Sample, Trouble};
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
    /// Attempts that run, with the job's index in the trace.
    running: BTreeMap<AttemptId, usize>,
    spot_attempts: BTreeSet<AttemptId>,
    spot_instances: BTreeSet<InstanceId>,
    now: Sample,
    step_ms: u64,
    next_ms: u64,
    pub(super) trouble: Trouble,
}

/// Whether an attempt has just started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Began {
    No,
    Yes,
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
            running: BTreeMap::new(),
            spot_attempts: BTreeSet::new(),
            spot_instances: BTreeSet::new(),
            now: Sample::default(),
            step_ms: (last.0 / SAMPLES).max(1),
            next_ms: 0,
            trouble: Trouble::default(),
        }
    }

    /// An attempt at a job runs: counted once.
    pub(super) fn started(&mut self, job: usize, arrival: DurationMs, attempt: &Attempt) -> Began {
        let (Some(active), None) = (attempt.active, attempt.ended) else { return Began::No };
        if self.running.contains_key(&attempt.id) {
            return Began::No;
        }
        let start = active.since(World::BEGIN);
        let part = |part: &Part| {
            let index = part.node.and_then(|node| self.nodes.get(&node)).copied().unwrap_or(u32::MAX);
            (index, u32::try_from(part.allocation.blocks() / 100).unwrap_or(u32::MAX))
        };
        let place = match attempt.kind {
            SiteKind::Cloud => Place::Cloud { site: attempt.site.clone() },
            SiteKind::OnPrem | SiteKind::Personal => Place::Local(attempt.parts.iter().map(part).collect()),
        };
        let Some(entry) = self.placements.get_mut(job) else { return Began::No };
        match entry {
            Some(placed) => {
                (placed.place, placed.start, placed.end) = (place, start, start);
                placed.tries += 1;
                self.trouble.retries += 1;
            }
            None => {
                *entry = Some(Placed::once(job, place, start, DurationMs(0)));
                let waited = start.0.saturating_sub(arrival.0);
                self.now.waited = DurationMs(self.now.waited.0.saturating_add(waited));
            }
        }
        self.running.insert(attempt.id, job);
        *self.busy(attempt.kind) += gpus(attempt);
        Began::Yes
    }

    /// An attempt that ran is over at `ended`: counted once. Gives the job's index in the trace.
    pub(super) fn ended(&mut self, attempt: &Attempt, ended: UnixMs) -> Option<usize> {
        let job = self.running.remove(&attempt.id)?;
        let busy = self.busy(attempt.kind);
        *busy = busy.saturating_sub(gpus(attempt));
        let ran = ended.since(attempt.active.unwrap_or(ended));
        if let Some(placed) = self.placements.get_mut(job).and_then(Option::as_mut) {
            placed.end = ended.since(World::BEGIN);
            if attempt.kind == SiteKind::Cloud {
                placed.cloud_ran = DurationMs(placed.cloud_ran.0.saturating_add(ran.0));
            }
        }
        Some(job)
    }

    const fn busy(&mut self, kind: SiteKind) -> &mut u64 {
        match kind {
            SiteKind::Cloud => &mut self.now.gpus_busy_cloud,
            SiteKind::OnPrem | SiteKind::Personal => &mut self.now.gpus_busy_local,
        }
    }

    /// This machine may be taken back by its provider.
    pub(super) fn is_spot(&mut self, instance: InstanceId) {
        self.spot_instances.insert(instance);
    }

    /// The attempt runs on these machines: on spot where one of them is.
    pub(super) fn runs_on(&mut self, attempt: AttemptId, mut machines: impl Iterator<Item = InstanceId>) {
        if machines.any(|machine| self.spot_instances.contains(&machine)) {
            self.spot_attempts.insert(attempt);
        }
    }

    /// Nothing more will be posted about an attempt.
    pub(super) fn settled(&mut self, attempt: AttemptId) {
        self.spot_attempts.remove(&attempt);
    }

    /// Nothing more will be posted about a machine.
    pub(super) fn is_gone(&mut self, instance: InstanceId) {
        self.spot_instances.remove(&instance);
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
        let spot = || subject.instance.is_some_and(|instance| self.spot_instances.contains(&instance));
        if self.spot_attempts.contains(&subject.attempt) || spot() {
            self.trouble.spot_micros = self.trouble.spot_micros.saturating_add(micros);
        }
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
            trouble: self.trouble,
            violations: violations.to_vec(),
        }
    }
}
