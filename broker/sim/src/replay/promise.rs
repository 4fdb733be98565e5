//! Whether the scheduler keeps what it promises: by its bound a job has started, or has left for a cloud.
//!
//! A bound is broken by a job that waits past it while a cloud could take it: there is an offer that is not spot and
//! is large enough, with room for all its nodes, and its group can pay.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::entity::Job;
use spillway_policies::CloudOffer;
use spillway_types::{DurationMs, GpuRequest, JobId, UnixMs};

use super::driver::Driver;
use super::spec::moving;

/// What jobs that wait were promised.
#[derive(Debug, Default)]
pub(super) struct Promises {
    by_bound: BTreeSet<(UnixMs, JobId)>,
    /// Since when each waits, and until when.
    of: BTreeMap<JobId, (UnixMs, Option<UnixMs>)>,
    broken: BTreeSet<JobId>,
}

impl Promises {
    /// A job waits no longer.
    pub(super) fn forget(&mut self, job: JobId) {
        if let Some((_, Some(bound))) = self.of.remove(&job) {
            self.by_bound.remove(&(bound, job));
        }
    }
}

/// Whether an instance of the offer could run one part of the job.
fn could_run(offer: &CloudOffer, job: &Job) -> bool {
    let asked = &job.spec.resources;
    let gpus = asked.gpus.as_ref().map_or(0, GpuRequest::blocks).div_ceil(100);
    offer.terms.market.is_on_demand()
        && offer.capacity.accelerators.len() as u64 >= gpus
        && offer.capacity.cpus_milli >= asked.cpus_milli
        && offer.capacity.memory_mib >= asked.memory_mib
}

impl Driver<'_> {
    /// A job waits: asks what it is promised, where that is not known.
    pub(super) fn note_promise(&mut self, id: JobId) {
        let Some(job) = self.world.state().jobs.get(&id) else { return };
        let since = job.since;
        if self.promises.of.get(&id).is_some_and(|(known, _)| *known == since) {
            return;
        }
        let bound = self.scheduler.bound(self.world.state(), job);
        self.promises.forget(id);
        self.promises.of.insert(id, (since, bound));
        self.promises.by_bound.extend(bound.map(|bound| (bound, id)));
    }

    /// Looks at the jobs that have waited past their bounds up to now, with everything as it was all the while.
    pub(super) fn check_promises(&mut self) {
        let now = self.world.now();
        let late = self.promises.by_bound.iter().take_while(|(bound, _)| *bound < now);
        let mut late: Vec<(UnixMs, JobId)> = late.copied().collect();
        if late.is_empty() {
            return;
        }
        let room: Vec<u64> = self.world.federation().offers().iter().map(|offer| self.room(offer)).collect();
        if room.iter().all(|room| *room == 0) {
            return;
        }
        late.retain(|(_, id)| self.cloud_could_take(*id, &room));
        for (bound, id) in late {
            if self.promises.broken.insert(id) {
                self.tally.trouble.broken_bounds += 1;
            }
            let longest = &mut self.tally.trouble.longest_past_bound;
            *longest = (*longest).max(now.since(bound));
        }
    }

    /// How many more the scheduler may think that there are.
    fn room(&self, offer: &CloudOffer) -> u64 {
        let instances = self.world.state().instances.values();
        let same = instances.filter(|instance| {
            instance.cloud == offer.cloud
                && instance.site == offer.site
                && instance.instance_type == offer.instance_type
        });
        u64::from(offer.available).saturating_sub(same.count() as u64)
    }

    fn cloud_could_take(&self, id: JobId, room: &[u64]) -> bool {
        let state = self.world.state();
        let Some(job) = state.jobs.get(&id) else { return false };
        let Some(asked) = self.alive.get(&id).and_then(|index| self.jobs.get(*index)) else { return false };
        let (nodes, left) = (u64::from(job.spec.nodes), state.book.left(&job.spec.group));
        let data = self.world.federation().data();
        self.world.federation().offers().iter().zip(room).any(|(offer, room)| {
            let affordable = || {
                let (_, staging) = moving(asked, data, &offer.site);
                let run = job.spec.time_limit.0.saturating_add(job.spec.checkpoint.grace.0);
                let whole = DurationMs(run.saturating_add(offer.boot.0).saturating_add(staging));
                let ms = whole.max(offer.terms.minimum).0;
                left.is_none_or(|left| offer.price.cost_micros(nodes, 1, 0, ms) <= left)
            };
            *room >= nodes && could_run(offer, job) && affordable()
        })
    }
}
