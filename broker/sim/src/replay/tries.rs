//! Tries at jobs: what a program has still to do, what its inputs take, and what is lost where a try ends early.
//!
//! A program that writes checkpoints goes on from the newest one, wherever it is started again: what it has done is
//! known here from when it ran, also where nobody could tell the broker. Inputs are moved anew for every try.

use std::collections::BTreeMap;

use spillway_core::Refusal;
use spillway_core::entity::{Attempt, Part, PartState};
use spillway_types::{AttemptId, AttemptState, DataMap, DurationMs, NodeId, PartEnd, UnixMs};

use super::TraceJob;
use super::driver::Driver;
use super::spec::moving;
use super::tally::Began;
use crate::Program;

/// What is kept of the jobs that lost a try, by their indexes in the trace: nothing of the others.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<usize, u64>);

/// Whether every part ended as it should.
fn succeeded(attempt: &Attempt) -> bool {
    let well = |part: &Part| matches!(part.state, PartState::Ended { end: PartEnd::Exited { code: 0 }, .. });
    attempt.parts.iter().all(well)
}

impl Kept {
    fn of(&self, index: usize) -> u64 {
        self.0.get(&index).copied().unwrap_or(0)
    }

    /// What the nodes of an attempt that is about to start will run, where that is not the whole job alone.
    fn program(&self, index: usize, job: &TraceJob, attempt: &Attempt, data: &DataMap) -> Option<Program> {
        let kept = self.of(index);
        if attempt.state != AttemptState::Leased || (kept == 0 && job.asks.inputs.is_empty()) {
            return None;
        }
        let (_, staging) = moving(job, data, &attempt.site);
        let runs = DurationMs(staging.saturating_add(job.runtime.0.saturating_sub(kept)));
        Some(Program { runs, end: PartEnd::Exited { code: 0 } })
    }

    /// Notes what is kept of a try that ended early after `ran` milliseconds, `staging` of them for its inputs. Gives
    /// how many of them are lost.
    fn add(&mut self, index: usize, job: &TraceJob, ran: u64, staging: u64) -> u64 {
        let before = self.of(index);
        let new = match job.asks.checkpoint {
            Some(every) if every.0 > 0 => ran.saturating_sub(staging) / every.0 * every.0,
            Some(_) | None => 0,
        };
        // A program that nobody saw end has something left to do: at the least, to end again.
        let after = before.saturating_add(new).min(job.runtime.0.saturating_sub(1));
        if after > 0 {
            self.0.insert(index, after);
        }
        ran.saturating_sub(after.saturating_sub(before))
    }
}

/// How long the attempt ran before the first of its parts stopped, in milliseconds. `silent` says when programs stopped
/// on nodes that are out of sight.
fn ran_ms(attempt: &Attempt, ended: UnixMs, silent: &dyn Fn(NodeId) -> Option<UnixMs>) -> u64 {
    let began = attempt.active.unwrap_or(ended);
    let ran = |part: &Part| {
        let unsaid = || part.node.and_then(silent).unwrap_or(ended).min(ended).since(began).0;
        part.state.ran_ms().unwrap_or_else(unsaid)
    };
    attempt.parts.iter().map(ran).min().unwrap_or(0)
}

impl Driver<'_> {
    /// Before the nodes of an attempt hear of it: says what they will run.
    pub(super) fn prepare(&mut self, id: AttemptId) {
        let Some(attempt) = self.world.state().attempts.get(&id) else { return };
        let Some(index) = self.alive.get(&attempt.job).copied() else { return };
        let (job, data) = (attempt.job, self.world.federation().data());
        if let Some(program) = self.kept.program(index, &self.jobs[index], attempt, data) {
            self.world.set_program(job, program);
        }
    }

    /// Nodes of the attempt hear what they should do; who waits for usage of it gives up in time.
    pub(super) fn look_at_attempt(&mut self, id: AttemptId) -> Result<(), Refusal> {
        let Some(attempt) = self.world.state().attempts.get(&id) else { return Ok(()) };
        if let Some(index) = self.alive.get(&attempt.job).copied()
            && self.tally.started(index, self.jobs[index].arrival, attempt) == Began::Yes
        {
            self.note_start(id, index);
        }
        let Some(attempt) = self.world.state().attempts.get(&id) else { return Ok(()) };
        if attempt.state == AttemptState::Active && attempt.stop.is_none() {
            return Ok(());
        }
        let nodes: Vec<NodeId> = attempt.parts.iter().filter_map(|part| part.node).collect();
        if attempt.ended.is_some() {
            let attempt = attempt.clone();
            self.note_end(&attempt);
            self.settle_in_time(&attempt);
        }
        nodes.into_iter().try_for_each(|node| self.contact(node))
    }

    /// Counts what the data of a start costs, and on whose machines it runs.
    fn note_start(&mut self, id: AttemptId, index: usize) {
        let (state, data) = (self.world.state(), self.world.federation().data());
        let Some(attempt) = state.attempts.get(&id) else { return };
        let nodes = attempt.parts.iter().filter_map(|part| state.nodes.get(&part.node?));
        self.tally.runs_on(id, nodes.filter_map(|node| node.instance));
        let (egress, _) = moving(&self.jobs[index], data, &attempt.site);
        let sum = &mut self.tally.trouble.egress_micros;
        *sum = sum.saturating_add(egress);
    }

    /// Counts the end of an attempt, and what is kept of it. The first word about it counts.
    pub(super) fn note_end(&mut self, attempt: &Attempt) {
        let ended = attempt.ended.unwrap_or(self.world.now());
        let Some(index) = self.tally.ended(attempt, ended) else { return };
        self.ask = true;
        if succeeded(attempt) {
            return;
        }
        let job = &self.jobs[index];
        let ran = ran_ms(attempt, ended, &|node| self.outside.stopped(node));
        let (_, staging) = moving(job, self.world.federation().data(), &attempt.site);
        let lost = self.kept.add(index, job, ran, staging).saturating_mul(u64::from(job.gpus));
        let sum = &mut self.tally.trouble.lost_gpu_ms;
        *sum = sum.saturating_add(lost);
    }
}
