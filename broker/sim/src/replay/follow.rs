//! What follows from what a command has changed.

use std::cmp::Reverse;

use spillway_core::{Key, Refusal};
use spillway_types::{DurationMs, InstanceId, InstanceState, JobId, Market};

use super::ReplayError;
use super::driver::{Driver, Due};
use crate::Answer;

/// After so long at the latest a job is looked at again whose launch has found no capacity.
const RETRY: DurationMs = DurationMs::from_secs(30);

impl Driver<'_> {
    /// Does what follows from what has changed, until nothing changes any more.
    pub(super) fn follow(&mut self) -> Result<(), ReplayError> {
        loop {
            let news = self.world.take_news();
            if news.touched.is_empty() {
                return Ok(());
            }
            for (_, entry) in &news.entries {
                self.posted.tell(self.world.now(), entry);
                let site = self.world.state().sites.get(&entry.subject().site);
                self.tally.posted(entry, site.map(|site| site.kind));
            }
            for attempt in &news.ended_attempts {
                self.note_end(attempt);
                self.tally.settled(attempt.id);
                self.ask |= attempt.active.is_some();
            }
            for instance in &news.ended_instances {
                self.tally.is_gone(instance.id);
                let limited = self.offer_of(instance).is_some_and(|offer| offer.available != u32::MAX);
                self.ask |= limited && !self.queued.is_empty();
            }
            for job in &news.ended_jobs {
                let index = self.alive.remove(&job.id);
                self.done += usize::from(index.is_some());
                self.tally.trouble.failed.extend(index.filter(|_| !job.failed.is_empty()));
                self.world.forget_program(job.id);
            }
            for node in &news.ended_nodes {
                self.ends.remove(&node.id);
            }
            for key in &news.touched {
                if let Key::Attempt(id) = key {
                    self.prepare(*id);
                }
            }
            for key in &news.touched {
                self.react(key).map_err(ReplayError::Defect)?;
            }
            self.touched.extend(news.touched);
        }
    }

    fn react(&mut self, key: &Key) -> Result<(), Refusal> {
        match key {
            Key::Job(id) => {
                self.look_at_job(*id);
                Ok(())
            }
            Key::Attempt(id) => self.look_at_attempt(*id),
            Key::Instance(id) => self.look_at_instance(*id),
            Key::Meta
            | Key::Site(_)
            | Key::Pool(_)
            | Key::Group(_)
            | Key::User(_)
            | Key::Token(_)
            | Key::JoinToken(_)
            | Key::Node(_)
            | Key::Period(_)
            | Key::SiteUsage(_)
            | Key::Rates(_)
            | Key::Currency(_)
            | Key::Submission(_)
            | Key::History(_)
            | Key::Limit(_)
            | Key::PoolBook(_) => Ok(()),
        }
    }

    fn look_at_job(&mut self, id: JobId) {
        let Some(index) = self.alive.get(&id).copied() else { return };
        let job = self.world.state().jobs.get(&id);
        if job.is_none_or(|job| job.queued.is_empty()) {
            self.queued.remove(&index);
            self.promises.forget(id);
            return;
        }
        let now = self.world.now();
        let came_back = self.queued.insert(index) && job.is_some_and(|job| !job.tries.is_empty());
        if came_back && self.retry.is_none_or(|retry| retry <= now) {
            let retry = now.plus(RETRY);
            self.retry = Some(retry);
            self.due.push(Reverse((retry, Due::Ask)));
        }
        self.note_promise(id);
    }

    fn look_at_instance(&mut self, id: InstanceId) -> Result<(), Refusal> {
        let Some(instance) = self.world.state().instances.get(&id) else { return Ok(()) };
        match instance.state {
            InstanceState::Intended => self.launch(id),
            InstanceState::Ready | InstanceState::Draining => {
                if let Some(since) = instance.idle_since {
                    self.due.push(Reverse((since.plus(self.limits.warm), Due::Idle(id))));
                }
                Ok(())
            }
            InstanceState::Terminating => {
                self.world.take_away(id, spillway_core::entity::GoneReason::Terminated)
            }
            InstanceState::Launching
            | InstanceState::Booting
            | InstanceState::Unknown
            | InstanceState::Gone => Ok(()),
        }
    }

    /// The provider is asked for a machine: it has one, unless it has no more of them or has none just now.
    fn launch(&mut self, id: InstanceId) -> Result<(), Refusal> {
        let Some(instance) = self.world.state().instances.get(&id) else { return Ok(()) };
        let late = instance.created.plus(self.limits.boot);
        let (boot, market) = (self.offer_of(instance).map(|offer| offer.boot), instance.market);
        let room = self.offer_of(instance).is_none_or(|offer| self.has_room(offer));
        let full = self.random.below(1000) < self.full_per_mille;
        let answer = if full || !room { Answer::NoCapacity } else { Answer::Launched };
        self.due.push(Reverse((late, Due::Late(id))));
        if market == Market::Spot {
            self.tally.is_spot(id);
        }
        self.world.launch(id, answer, boot.unwrap_or_default())?;
        let Some(machine) = self.world.machines().get(&id) else { return Ok(()) };
        let (launched, boots) = (machine.launched, machine.boots);
        self.due.push(Reverse((boots, Due::Boot(id))));
        if let Some(life) = self.life(id) {
            self.due.push(Reverse((launched.plus(life), Due::Reclaim(id))));
        }
        Ok(())
    }
}
