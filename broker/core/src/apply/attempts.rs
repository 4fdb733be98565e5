//! Attempts: from the hold to the settlement.

use spillway_ledger::limits::HoldStep;
use spillway_ledger::rates::{Lending, Tile, tiles};
use spillway_ledger::{Accepted, Entry, Hold, Payee, Slice, SliceBook, Subject};
use spillway_types::{
    Allocation, AttemptId, AttemptState, AttemptStep, DurationMs, HourlyRate, InstanceId, NodeId, TaskStep,
    UnixMs,
};

use super::ApplyError;
use crate::entity::{Attempt, Moved, Node, Part, PartState, StopCause};
use crate::event::{Placed, PlacedParts, TaskOutcome};
use crate::{Event, Key, State, history};

impl State {
    pub(super) fn apply_to_attempt(&mut self, at: UnixMs, event: &Event) -> Result<(), ApplyError> {
        if let Event::AttemptPlaced(placed) = event {
            self.place(placed, at)
        } else if let Event::AttemptLeased { attempt } = event {
            self.lease(*attempt, at)
        } else if let Event::PartPrepared { attempt, rank } = event {
            self.part_mut(*attempt, *rank)?.state = PartState::Prepared;
            Ok(())
        } else if let Event::PartStarted { attempt, rank } = event {
            let part = self.part_mut(*attempt, *rank)?;
            part.state = PartState::Running;
            part.started = Some(at);
            Ok(())
        } else if let Event::AttemptActivated { attempt } = event {
            self.activate(*attempt, at)
        } else if let Event::UsageCharged { attempt, rank, from_ms, to_ms } = event {
            self.charge(*attempt, *rank, (*from_ms, *to_ms), at)
        } else if let Event::BytesMoved { attempt, rank, dataset, pass, from_bytes, to_bytes } = event {
            let to = Moved { rank: *rank, dataset: dataset.clone(), pass: *pass, to_bytes: *to_bytes };
            self.charge_egress(*attempt, to, *from_bytes, at)
        } else if let Event::PartEnded { attempt, rank, end, ran_ms } = event {
            self.part_mut(*attempt, *rank)?.state = PartState::Ended { end: end.clone(), ran_ms: *ran_ms };
            Ok(())
        } else if let Event::PartSilent { attempt, rank } = event {
            self.part_mut(*attempt, *rank)?.state = PartState::Silent;
            Ok(())
        } else if let Event::AttemptStopped { attempt, cause } = event {
            let entry = self.attempt_mut(*attempt)?;
            entry.stop.get_or_insert(*cause);
            entry.stopped.get_or_insert(at);
            self.finishing(*attempt)
        } else if let Event::AttemptDisplaced { attempt, because } = event {
            let entry = self.attempt_mut(*attempt)?;
            entry.stop.get_or_insert(StopCause::Displaced);
            entry.stopped.get_or_insert(at);
            entry.displaced_because = Some(because.clone());
            self.finishing(*attempt)
        } else if let Event::AttemptFinishing { attempt } = event {
            self.finishing(*attempt)
        } else if let Event::AttemptEnded { attempt, outcome } = event {
            self.end_attempt(*attempt, outcome, at)
        } else if let Event::AttemptSettled { attempt } = event {
            self.settle(*attempt, at)
        } else {
            Ok(())
        }
    }

    fn place(&mut self, placed: &Placed, at: UnixMs) -> Result<(), ApplyError> {
        let provision = matches!(placed.parts, PlacedParts::Instances { .. });
        self.step_task(placed.job, placed.task, TaskStep::Place { attempt: placed.attempt })?;
        if provision {
            self.step_task(placed.job, placed.task, TaskStep::Provision)?;
        }
        let job = self.job_mut(placed.job)?;
        job.unsettled += 1;
        job.tries.entry(placed.task).or_default().made = placed.number;
        let (group, user) = (job.spec.group.clone(), job.user.clone());
        let (lease, grace) = (job.spec.lease, job.spec.checkpoint.grace);
        let payee = Payee::at(placed.site.clone(), placed.cloud.clone());
        let parts = new_parts(&placed.parts);
        let subject = Subject {
            group: group.clone(),
            user: user.clone(),
            site: placed.site.clone(),
            job: placed.job,
            attempt: placed.attempt,
            instance: parts.first().and_then(|part| part.instance),
        };
        let (hold, entry) = Hold::place(&subject, placed.hold_micros);
        let attempt = Attempt {
            id: placed.attempt,
            job: placed.job,
            task: placed.task,
            number: placed.number,
            state: AttemptState::Proposed.after(AttemptStep::Hold)?,
            group,
            user,
            site: placed.site.clone(),
            kind: placed.kind,
            pool: None,
            instance_type: None,
            payee,
            because: placed.because.clone(),
            parts,
            hold,
            slices: SliceBook::new(),
            inputs: placed.inputs.clone(),
            moved: vec![],
            lease,
            grace,
            stop: None,
            displaced_because: None,
            stopped: None,
            placed: at,
            leased: None,
            active: None,
            ended: None,
            cost_micros: 0,
            gpu_ms: 0,
        };
        self.post(entry, at);
        self.reserve(placed, at)?;
        for part in &attempt.parts {
            self.occupy(&subject, part, at)?;
        }
        self.touch(Key::Attempt(placed.attempt));
        self.attempts.insert(placed.attempt, attempt);
        Ok(())
    }

    fn occupy(&mut self, subject: &Subject, part: &Part, at: UnixMs) -> Result<(), ApplyError> {
        let Some(id) = part.node else { return Ok(()) };
        let node = self.node_mut(id)?;
        node.parts.insert(subject.attempt, part.allocation.clone());
        node.usage.note_work(at);
        if let Some(instance) = node.instance {
            let instance = self.instance_mut(instance)?;
            instance.idle_since = None;
            let (price, share_ppm) = (instance.price_now(), instance.share_ppm(&part.allocation));
            instance.idle.begin(price, subject.clone(), share_ppm, at);
        }
        Ok(())
    }

    /// Binds the parts that wait for an instance to the node it has become.
    pub(super) fn bind(
        &mut self,
        id: AttemptId,
        instance: InstanceId,
        (node, at): (NodeId, UnixMs),
    ) -> Result<(), ApplyError> {
        let waits = |part: &&mut Part| part.instance == Some(instance);
        let mut bound = vec![];
        for part in self.attempt_mut(id)?.parts.iter_mut().filter(waits) {
            part.node = Some(node);
            bound.push(part.clone());
        }
        let subject = self.attempt_mut(id)?.subject();
        bound.iter().try_for_each(|part| self.occupy(&subject, part, at))
    }

    /// Gives every node its lease.
    fn lease(&mut self, id: AttemptId, at: UnixMs) -> Result<(), ApplyError> {
        let attempt = self.attempt_mut(id)?;
        attempt.state = attempt.state.after(AttemptStep::Lease)?;
        attempt.leased = Some(at);
        let (job, task) = (attempt.job, attempt.task);
        let nodes: Vec<Option<NodeId>> = attempt.parts.iter().map(|part| part.node).collect();
        let nodes: Vec<Option<&Node>> = nodes.iter().map(|node| self.nodes.get(&(*node)?)).collect();
        let hosts: Vec<Option<String>> =
            nodes.iter().map(|node| node.map(|node| node.hostname.clone())).collect();
        let machines = self.machines_of(id, at);
        let first = nodes.first().copied().flatten();
        let pool = first.map(|node| node.pool.clone());
        let instance = first.and_then(|node| self.instances.get(&node.instance?));
        let instance_type = instance.map(|instance| instance.instance_type.clone());
        let attempt = self.attempt_mut(id)?;
        (attempt.pool, attempt.instance_type) = (pool, instance_type);
        for ((part, host), machine) in attempt.parts.iter_mut().zip(hosts).zip(machines) {
            part.state = PartState::Leased;
            (part.host, part.machine) = (host, machine.map(Box::new));
        }
        self.step_hold(id, HoldStep::Activate);
        self.step_task(job, task, TaskStep::Stage)
    }

    fn activate(&mut self, id: AttemptId, at: UnixMs) -> Result<(), ApplyError> {
        let attempt = self.attempt_mut(id)?;
        attempt.state = attempt.state.after(AttemptStep::Activate)?;
        attempt.active = Some(at);
        let (job, task) = (attempt.job, attempt.task);
        self.job_mut(job)?.started.get_or_insert(at);
        self.step_task(job, task, TaskStep::Run)
    }

    fn finishing(&mut self, id: AttemptId) -> Result<(), ApplyError> {
        let attempt = self.attempt_mut(id)?;
        if attempt.state.occupies_nodes() {
            attempt.state = attempt.state.after(AttemptStep::Drain)?;
        }
        let (job, task) = (attempt.job, attempt.task);
        self.step_hold(id, HoldStep::Drain);
        self.step_task(job, task, TaskStep::Finish)
    }

    fn charge(
        &mut self,
        id: AttemptId,
        rank: u32,
        (from_ms, to_ms): (u64, u64),
        at: UnixMs,
    ) -> Result<(), ApplyError> {
        let place = usize::try_from(rank).unwrap_or(usize::MAX);
        let rates = self.rates_of(id, place, (from_ms, to_ms));
        let (used, lenders) = (self.part_usage(id, place), self.lenders_of(id, place));
        let zone = self.periods.zone().clone();
        let attempt = self.attempt_mut(id)?;
        let accepted = attempt.slices.accept(rank, from_ms, to_ms, to_ms);
        let accepted = accepted.map_err(|error| ApplyError::Ledger(error.to_string()))?;
        let Accepted::Slice { from_ms, to_ms } = accepted else { return Ok(()) };
        let part = attempt.parts.get(place);
        let part = part.ok_or_else(|| ApplyError::missing(format_args!("part {rank} of {id}")))?;
        let (node, gpu_blocks) = (part.node, part.allocation.blocks());
        let began = attempt.began(place);
        let (subject, payee) = (attempt.subject(), attempt.payee.clone());
        let (mut entries, mut slices, mut cost, mut gpu_ms) = (vec![], vec![], 0_i64, 0_u64);
        for tile in tiles(began, (from_ms, to_ms), &rates.track, &zone) {
            let Tile { from_ms, to_ms, rate, at, .. } = tile;
            let slice = Slice { rank, from_ms, to_ms, rate, gpu_blocks };
            let charged = attempt.hold.charge(&subject, &paid_at(&payee, &lenders, at), &slice);
            let usage = used.as_ref().map(|used| used.of_slice(began, &slice, rates.priced_at(at)));
            let detailed = |entry: Entry| match &usage {
                Some(usage) => entry.effective(at).using(usage.clone()),
                None => entry.effective(at),
            };
            entries.extend(charged.into_iter().map(detailed));
            cost = cost.saturating_add(slice.cost_micros());
            gpu_ms = gpu_ms.saturating_add(slice.gpu_ms());
            slices.push(slice);
        }
        attempt.cost_micros = attempt.cost_micros.saturating_add(cost);
        attempt.gpu_ms = attempt.gpu_ms.saturating_add(gpu_ms);
        let job = attempt.job;
        for entry in entries {
            self.post(entry, at);
        }
        self.use_limits(id, &slices, began);
        let job = self.job_mut(job)?;
        job.cost_micros = job.cost_micros.saturating_add(cost);
        job.gpu_ms = job.gpu_ms.saturating_add(gpu_ms);
        self.charge_instance(node, cost);
        Ok(())
    }

    fn charge_instance(&mut self, node: Option<NodeId>, cost: i64) {
        let instance = node.and_then(|node| self.nodes.get(&node)).and_then(|node| node.instance);
        if let Some(instance) = instance.and_then(|id| self.instance_mut(id).ok()) {
            instance.charged_micros = instance.charged_micros.saturating_add(cost);
        }
    }

    fn end_attempt(&mut self, id: AttemptId, outcome: &TaskOutcome, at: UnixMs) -> Result<(), ApplyError> {
        let attempt = self.attempt_mut(id)?;
        attempt.state = attempt.state.after(AttemptStep::End)?;
        attempt.ended = Some(at);
        let (job, task) = (attempt.job, attempt.task);
        let nodes: Vec<NodeId> = attempt.parts.iter().filter_map(|part| part.node).collect();
        for node in nodes {
            self.vacate(id, node, at);
        }
        self.step_hold(id, HoldStep::Release);
        self.step_hold(id, HoldStep::Finish);
        if *outcome == TaskOutcome::Succeeded {
            self.learn(id, at);
        }
        self.keep_checkpoints(id);
        self.finish_task(job, task, outcome, at)?;
        self.retire_job(job, at);
        Ok(())
    }

    /// Notes how long a run took: as long as its longest part, and no longer than the broker saw it leased.
    fn learn(&mut self, id: AttemptId, at: UnixMs) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let Some(job) = self.jobs.get(&attempt.job) else { return };
        let ran_ms = attempt.parts.iter().filter_map(|part| part.state.ran_ms()).max().unwrap_or(0);
        let seen = at.since(attempt.leased.unwrap_or(attempt.placed));
        let ran = DurationMs(ran_ms).min(seen).min(job.spec.time_limit);
        let kind = history::kind(&job.spec);
        if let Some(forgotten) = self.history.record(&kind, ran) {
            self.touch(Key::History(forgotten));
        }
        self.touch(Key::History(kind));
    }

    /// Notes how much of a task's work its checkpoints keep, where every part said how long it ran.
    fn keep_checkpoints(&mut self, id: AttemptId) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let ran: Option<Vec<u64>> = attempt.parts.iter().map(|part| part.state.ran_ms()).collect();
        let (task, ran) = (attempt.task, ran.and_then(|ran| ran.into_iter().min()).unwrap_or(0));
        let Some(job) = self.jobs.get_mut(&attempt.job) else { return };
        let Some(every) = job.spec.checkpoint.every.filter(|every| every.0 > 0) else { return };
        let kept = ran / every.0 * every.0;
        if kept > 0 {
            let tries = job.tries.entry(task).or_default();
            tries.done = DurationMs(tries.done.0.saturating_add(kept).min(job.spec.time_limit.0));
        }
    }

    fn vacate(&mut self, attempt: AttemptId, node: NodeId, at: UnixMs) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        entry.parts.remove(&attempt);
        entry.usage.note_work(at);
        let idle = entry.parts.is_empty();
        self.changes.touched.insert(Key::Node(node));
        if let Some(instance) = entry.instance.and_then(|id| self.instance_mut(id).ok()) {
            instance.idle.end(instance.price_now(), attempt, at);
            if idle {
                instance.idle_since = Some(at);
            }
        }
    }

    fn settle(&mut self, id: AttemptId, at: UnixMs) -> Result<(), ApplyError> {
        let attempt = self.attempt_mut(id)?;
        attempt.state = attempt.state.after(AttemptStep::Settle)?;
        let subject = attempt.subject();
        let release = attempt.hold.settle(&subject);
        let job = attempt.job;
        if let Some(entry) = release {
            self.post(entry, at);
        }
        self.give_back(id);
        self.job_mut(job)?.unsettled -= 1;
        if let Some(attempt) = self.attempts.remove(&id) {
            self.changes.ended_attempts.push(attempt);
        }
        self.retire_job(job, at);
        Ok(())
    }

    pub(super) fn attempt_mut(&mut self, id: AttemptId) -> Result<&mut Attempt, ApplyError> {
        self.changes.touched.insert(Key::Attempt(id));
        self.attempts.get_mut(&id).ok_or_else(|| ApplyError::missing(id))
    }

    fn part_mut(&mut self, id: AttemptId, rank: u32) -> Result<&mut Part, ApplyError> {
        let attempt = self.attempt_mut(id)?;
        let part = usize::try_from(rank).ok().and_then(|rank| attempt.parts.get_mut(rank));
        part.ok_or_else(|| ApplyError::missing(format_args!("part {rank} of {id}")))
    }
}

fn new_parts(placed: &PlacedParts) -> Vec<Part> {
    let part = |node: Option<NodeId>,
                instance: Option<InstanceId>,
                allocation: &Allocation,
                rate: HourlyRate| Part {
        node,
        instance,
        host: None,
        allocation: allocation.clone(),
        rate,
        repriced: vec![],
        state: PartState::Waiting,
        missing: false,
        started: None,
        machine: None,
    };
    match placed {
        PlacedParts::Nodes { parts } => {
            parts.iter().map(|p| part(Some(p.node), None, &p.allocation, p.rate)).collect()
        }
        PlacedParts::Instances { instances, allocation, rate } => {
            instances.iter().map(|instance| part(None, Some(*instance), allocation, *rate)).collect()
        }
    }
}

/// Who is paid at an instant: the owner too, where a machine is lent by then.
fn paid_at(payee: &Payee, lenders: &[(UnixMs, Option<Lending>)], at: UnixMs) -> Payee {
    let lending = lenders.iter().rev().find(|(from, _)| *from <= at).and_then(|(_, lending)| lending.clone());
    match (payee, lending) {
        (Payee::Site(site), Some(lending)) => Payee::Lent { site: site.clone(), lending },
        (payee, _) => payee.clone(),
    }
}
