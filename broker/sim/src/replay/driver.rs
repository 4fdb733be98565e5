//! From one event to the next.
//!
//! The world says after each command which rows it has changed; [`Driver::follow`] does what follows from these
//! until nothing changes any more, and puts what takes time onto the heap. Entries of the heap may be stale: each
//! is checked when its time has come.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::ControlFlow;

use spillway_core::command::{InstanceNews, TickLimits};
use spillway_core::{Command, Feed, Key, Refusal, Reply};
use spillway_ledger::Entry;
use spillway_policies::Displacement;
use spillway_types::{DurationMs, InstanceId, InstanceState, JobId, NodeId, PartEnd, UnixMs};

use super::outside::Weather;
use super::promise::Promises;
use super::spec::{moving, spec};
use super::tally::Tally;
use super::tries::Kept;
use super::{Progress, Replay, ReplayError, TraceJob};
use crate::simulation::{Opened, simulator};
use crate::world::Keep;
use crate::{Description, Program, Random, Scheduler, Seen, World};

/// How often a scheduler is asked in a row where nothing but its own wish to be asked is left to happen.
const MAX_IDLE_WAKES: u32 = 10_000;
/// How many instants lie between two words to whoever watches.
const WATCH_EVERY: u64 = 256;

/// What is to happen at a later time. At one instant, ends come first, and who comes back before who goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A program on this node ends.
    End(NodeId),
    /// A machine has booted.
    Boot(InstanceId),
    /// An instance was idle for long enough.
    Idle(InstanceId),
    /// An instance has booted for too long.
    Late(InstanceId),
    /// A node is in sight again.
    Back(NodeId),
    /// A fault begins, by its index in the description.
    Fault(usize),
    /// A node is out of sight for longer than leases last.
    Silent(NodeId),
    /// An offer changes, by the step's index in the description.
    Offer(usize),
    /// A provider takes a machine back.
    Reclaim(InstanceId),
    /// Usage was waited for long enough.
    Settle,
    /// The scheduler is to be asked.
    Ask,
}

/// Whoever hears what is posted.
pub(super) struct Posted<'a>(&'a mut dyn FnMut(UnixMs, &Entry));

impl std::fmt::Debug for Posted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Posted(..)")
    }
}

impl Posted<'_> {
    pub(super) fn tell(&mut self, at: UnixMs, entry: &Entry) {
        (self.0)(at, entry);
    }
}

#[derive(Debug)]
pub(super) struct Driver<'a> {
    pub(super) world: World,
    pub(super) jobs: &'a [TraceJob],
    pub(super) scheduler: Box<dyn Scheduler>,
    pub(super) random: Random,
    pub(super) limits: TickLimits,
    pub(super) full_per_mille: u64,
    gpus_per_node: u32,
    /// Indexes of the jobs by arrival, and how many have come in.
    arrivals: Vec<usize>,
    arrived: usize,
    pub(super) due: BinaryHeap<Reverse<(UnixMs, Due)>>,
    /// When the next program on each node ends, as it stands on the heap.
    pub(super) ends: BTreeMap<NodeId, UnixMs>,
    /// Jobs that are not over.
    pub(super) alive: BTreeMap<JobId, usize>,
    pub(super) queued: BTreeSet<usize>,
    pub(super) done: usize,
    pub(super) touched: BTreeSet<Key>,
    pub(super) ask: bool,
    wake: Option<UnixMs>,
    /// When jobs are looked at again that came back to the queue.
    pub(super) retry: Option<UnixMs>,
    idle_wakes: u32,
    pub(super) outside: Weather,
    pub(super) kept: Kept,
    pub(super) promises: Promises,
    pub(super) tally: Tally,
    pub(super) posted: Posted<'a>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        description: Description,
        jobs: &'a [TraceJob],
        scheduler: Box<dyn Scheduler>,
        seed: u64,
        posted: &'a mut dyn FnMut(UnixMs, &Entry),
    ) -> Result<Self, ReplayError> {
        if let Some(job) = jobs.iter().find(|job| job.gpus == 0) {
            return Err(ReplayError::NoGpus { job: job.id.clone() });
        }
        let gpus_per_node = gpus_per_node(&description);
        let (limits, full_per_mille) = (description.limits, description.full_per_mille);
        let mut description = description;
        let outside = std::mem::take(&mut description.outside);
        let opened = Opened::new(seed, description, Keep::News).map_err(ReplayError::Description)?;
        let Opened { world, nodes } = opened;
        let mut arrivals: Vec<usize> = (0..jobs.len()).collect();
        arrivals.sort_by_key(|job| jobs[*job].arrival);
        let last = arrivals.last().map(|job| jobs[*job].arrival).unwrap_or_default();
        let tally = Tally::new(jobs.len(), last, nodes.iter().copied().zip(0..).collect());
        let outside = Weather::new(outside, nodes, seed);
        Ok(Self {
            world,
            jobs,
            scheduler,
            random: Random::new(seed),
            limits,
            full_per_mille,
            gpus_per_node,
            arrivals,
            arrived: 0,
            due: outside.agenda().map(Reverse).collect(),
            ends: BTreeMap::new(),
            alive: BTreeMap::new(),
            queued: BTreeSet::new(),
            done: 0,
            touched: BTreeSet::new(),
            ask: false,
            wake: None,
            retry: None,
            idle_wakes: 0,
            outside,
            kept: Kept::default(),
            promises: Promises::default(),
            tally,
            posted: Posted(posted),
        })
    }

    pub(super) fn run(
        mut self,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Replay, ReplayError> {
        self.follow()?;
        for instant in 0_u64.. {
            self.check_promises();
            self.happen()?;
            self.arrive()?;
            if self.ask || self.wake.is_some_and(|at| at <= self.world.now()) {
                self.decide()?;
            }
            self.tally.sample(self.elapsed(), self.queued.len());
            if instant % WATCH_EVERY == 0 {
                self.tell(watch)?;
            }
            let Some(next) = self.next()? else { break };
            self.world.jump(next);
        }
        self.tell(watch)?;
        let at = self.elapsed();
        Ok(self.tally.into_replay(at, self.world.federation().violations()))
    }

    fn elapsed(&self) -> DurationMs {
        self.world.now().since(World::BEGIN)
    }

    fn tell(&self, watch: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<(), ReplayError> {
        let (done, total) = (self.done, self.jobs.len());
        match watch(Progress { done, total, at: self.elapsed() }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ReplayError::Stopped { done, total }),
        }
    }

    /// When something happens next; none where everything is over.
    fn next(&mut self) -> Result<Option<UnixMs>, ReplayError> {
        let come = self.arrived == self.arrivals.len();
        if come && self.alive.is_empty() && self.world.state().instances.is_empty() {
            return Ok(None);
        }
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        let arrival = self.arrivals.get(self.arrived).map(|job| World::BEGIN.plus(self.jobs[*job].arrival));
        let events = due.into_iter().chain(arrival).min();
        self.idle_wakes = if events.is_some() { 0 } else { self.idle_wakes + 1 };
        let wake = self.wake.filter(|_| self.idle_wakes <= MAX_IDLE_WAKES);
        let next = events.into_iter().chain(wake).min();
        if next.is_none() {
            let first = self.queued.first().or(self.alive.values().next());
            return Err(ReplayError::Stalled {
                left: self.alive.len(),
                first: first.map(|job| self.jobs[*job].id.clone()).unwrap_or_default(),
                at: self.world.now(),
            });
        }
        Ok(next)
    }

    /// Everything whose time has come happens, and what follows from it.
    fn happen(&mut self) -> Result<(), ReplayError> {
        while let Some(Reverse((at, due))) = self.due.peek().copied() {
            if at > self.world.now() {
                break;
            }
            self.due.pop();
            match due {
                Due::End(node) => self.end(node),
                Due::Boot(instance) => self.boot(instance),
                Due::Idle(instance) => self.end_idle(instance),
                Due::Late(instance) => self.give_up_late(instance),
                Due::Back(node) => self.come_back(node),
                Due::Fault(fault) => self.fail(fault),
                Due::Silent(node) => self.fall_silent(node),
                Due::Offer(step) => self.change_offer(step),
                Due::Reclaim(instance) => self.reclaim(instance),
                Due::Settle => self.world.tick(self.limits),
                Due::Ask => {
                    self.ask = true;
                    Ok(())
                }
            }
            .map_err(ReplayError::Defect)?;
            self.follow()?;
        }
        Ok(())
    }

    fn end(&mut self, node: NodeId) -> Result<(), Refusal> {
        self.ends.remove(&node);
        if self.world.is_up(node) {
            self.world.finish(node);
        } else {
            self.world.advance(node);
        }
        self.world.deliver(node)?;
        self.contact(node)
    }

    /// A node hears what it should do, does it and reports.
    pub(super) fn contact(&mut self, node: NodeId) -> Result<(), Refusal> {
        self.world.instruct(node);
        self.world.deliver(node)?;
        let end = self.world.nodes().get(&node).and_then(crate::FakeNode::next_end);
        if let Some(end) = end
            && self.ends.get(&node) != Some(&end)
        {
            self.ends.insert(node, end);
            self.due.push(Reverse((end, Due::End(node))));
        }
        Ok(())
    }

    fn boot(&mut self, id: InstanceId) -> Result<(), Refusal> {
        let waits = self.world.machines().get(&id).is_some_and(|machine| machine.node.is_none());
        let wanted = self.world.state().instances.get(&id).map(|instance| instance.state);
        if waits && wanted == Some(InstanceState::Booting) {
            match self.cut_until(id) {
                Some(until) => self.due.push(Reverse((until, Due::Boot(id)))),
                None => {
                    self.world.boot(id)?;
                }
            }
        }
        Ok(())
    }

    /// Ends an instance that was idle for as long as it is kept warm: what a tick does too, which looks at all.
    fn end_idle(&mut self, id: InstanceId) -> Result<(), Refusal> {
        let now = self.world.now();
        let Some(instance) = self.world.state().instances.get(&id) else { return Ok(()) };
        let empty = matches!(instance.state, InstanceState::Ready | InstanceState::Draining);
        if empty && instance.idle_since.is_some_and(|since| now.since(since) >= self.limits.warm) {
            let what = InstanceNews::Terminate;
            self.world.command(Command::StepInstance { instance: id, what })?;
        }
        Ok(())
    }

    fn give_up_late(&mut self, id: InstanceId) -> Result<(), Refusal> {
        let late = self.world.state().instances.get(&id).is_some_and(|instance| match instance.state {
            InstanceState::Intended
            | InstanceState::Launching
            | InstanceState::Booting
            | InstanceState::Unknown => true,
            InstanceState::Ready
            | InstanceState::Draining
            | InstanceState::Terminating
            | InstanceState::Gone => false,
        });
        if late { self.world.tick(self.limits) } else { Ok(()) }
    }

    fn arrive(&mut self) -> Result<(), ReplayError> {
        let elapsed = self.elapsed();
        while let Some(index) = self.arrivals.get(self.arrived).copied() {
            let job = &self.jobs[index];
            if job.arrival > elapsed {
                break;
            }
            self.arrived += 1;
            let spec = Box::new(spec(job, self.gpus_per_node, self.longest_staging(job)));
            let submitted = self.world.command(Command::Submit { spec, user: simulator(), key: None });
            let id = match submitted {
                Ok(Reply::Job(id)) => id,
                Ok(_) => continue,
                Err(refusal @ Refusal::Invalid { field: "deadline", .. }) => {
                    self.tally.trouble.refused.push((index, refusal.to_string()));
                    self.done += 1;
                    continue;
                }
                Err(source) => return Err(ReplayError::Job { job: job.id.clone(), source }),
            };
            self.world.set_program(id, Program { runs: job.runtime, end: PartEnd::Exited { code: 0 } });
            self.alive.insert(id, index);
            self.ask = true;
        }
        self.follow()
    }

    /// How long the job's inputs may be on the way, wherever it runs.
    fn longest_staging(&self, job: &TraceJob) -> DurationMs {
        if job.asks.inputs.is_empty() {
            return DurationMs(0);
        }
        let data = self.world.federation().data();
        let sites = self.world.state().sites.keys();
        DurationMs(sites.map(|site| moving(job, data, site).1).max().unwrap_or(0))
    }

    /// Asks the scheduler, and does what it says.
    fn decide(&mut self) -> Result<(), ReplayError> {
        self.ask = false;
        let touched = std::mem::take(&mut self.touched);
        let seen = Seen {
            state: self.world.state(),
            offers: self.world.federation().offers(),
            data: self.world.federation().data(),
            touched: &touched,
            now: self.world.now(),
        };
        let decisions = self.scheduler.decide(&seen);
        for Displacement { attempt, because } in self.scheduler.displacements() {
            // Refused where the job may not be stopped once more: it runs on.
            let stopped = self.world.command(Command::Preempt { attempt, because });
            if let Err(refusal) = stopped
                && !matches!(refusal, Refusal::NotPreemptible { .. })
            {
                return Err(ReplayError::Defect(refusal));
            }
        }
        let soonest = self.world.now().plus(DurationMs(1));
        self.wake = self.scheduler.wake_at().map(|at| at.max(soonest));
        if decisions.is_empty() {
            return self.follow();
        }
        let named: Vec<Vec<Key>> = decisions.iter().map(Feed::named).collect();
        let (_, stale) = self.world.carry_out(decisions).map_err(ReplayError::Defect)?;
        if stale > 0 {
            self.touched.extend(named.into_iter().flatten());
        }
        self.follow()
    }
}

/// What the largest node of the description has; where it has none, the largest instance. At least 1.
fn gpus_per_node(description: &Description) -> u32 {
    let nodes = description.nodes.iter().map(|(_, inventory)| inventory.capacity.accelerators.len()).max();
    let offers = || description.offers.iter().map(|offer| offer.capacity.accelerators.len()).max();
    let largest = nodes.or_else(offers).unwrap_or(0);
    u32::try_from(largest).unwrap_or(u32::MAX).max(1)
}
