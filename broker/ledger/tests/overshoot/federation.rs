//! One drawn federation: a broker that keeps limits, agents that run attempts, and a network that fails.
//!
//! The broker extends a lease a while before it ends, and tells an agent to stop where a limit has no room. It
//! declares an attempt lost that it has not heard of for a while, and gives back what was held although the attempt
//! may still run. An agent stops when its lease has ended or when it is told to, within the grace; it says what it
//! used when the network lets it, at the latest after the report lag. A crash takes the broker away for a while; it
//! comes back with what was stored.

use std::collections::{BTreeMap, BTreeSet};

use spillway_ledger::calendar::Zone;
use spillway_ledger::limits::{
    Action, Charge, Demand, Extension, HoldPhase, HoldStep, LeaseTerms, Limit, LimitId, Limits, Metric,
    Place, Scope, Share, overshoot_micros,
};
use spillway_ledger::window::Window;
use spillway_ledger::{Accepted, SliceBook};
use spillway_types::{AttemptId, DurationMs, GroupName, HourlyRate, SequentialIds, SiteKind, UnixMs};

use crate::random::Random;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// The furthest that a limit was passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Worst {
    pub(crate) over: i64,
    pub(crate) bound: i64,
    pub(crate) seed: u64,
}

impl Worst {
    /// Of its bound.
    pub(crate) fn thousandths(&self) -> i64 {
        self.over.saturating_mul(1000) / self.bound.max(1)
    }
}

/// What happened in one federation, or in many.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) attempts: u64,
    pub(crate) refused: u64,
    pub(crate) drained: u64,
    pub(crate) partitions: u64,
    pub(crate) crashes: u64,
    pub(crate) lost: u64,
    /// Federations in which a limit was passed.
    pub(crate) passed: u64,
    pub(crate) worst: Worst,
    /// A limit that was passed by more than its bound.
    pub(crate) beyond_bound: Option<(String, Worst)>,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.refused += other.refused;
        self.drained += other.drained;
        self.partitions += other.partitions;
        self.crashes += other.crashes;
        self.lost += other.lost;
        self.passed += other.passed;
        if other.worst.thousandths() > self.worst.thousandths() {
            self.worst = other.worst;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    /// The broker looks whether a lease is to be extended.
    Renews(usize),
    /// A message of the broker reaches an agent: the lease ends then.
    Extended(usize, u64),
    /// A message of the broker reaches an agent: stop.
    Told(usize),
    /// An agent's lease may be over.
    LeaseEnds(usize),
    Stops(usize),
    /// An agent writes down what it used and sends it.
    Measures(usize),
    /// A report reaches the broker: used up to there.
    Reported(usize, u64),
    /// The broker looks whether an attempt is silent.
    Listens(usize),
    Crashes,
    Returns,
}

struct Agent {
    attempt: AttemptId,
    group: usize,
    cap: HourlyRate,
    price: HourlyRate,
    started: u64,
    lease_ends: u64,
    leases: u32,
    /// When it has run, and will not any more.
    stopped: Option<u64>,
    stopping: bool,
    /// Until when nothing gets through.
    cut_until: u64,
    /// Up to where the broker knows its use, in milliseconds from its start.
    known_ms: u64,
    heard: u64,
    slices: SliceBook,
}

impl Agent {
    fn is_open(&self) -> bool {
        self.stopped.is_none_or(|stopped| self.known_ms < stopped - self.started)
    }
}

pub(crate) struct Federation {
    random: Random,
    seed: u64,
    limits: Limits,
    parents: Vec<Option<usize>>,
    names: Vec<GroupName>,
    now: u64,
    events: BTreeSet<(u64, u64, Event)>,
    sent: u64,
    agents: Vec<Agent>,
    to_come: u64,
    /// How often attempts that were refused ask again.
    tries: u64,
    down_until: u64,
    terms: LeaseTerms,
    lag: u64,
    every: u64,
    silence: u64,
    /// Limits that are passed, with their bound when they were.
    passed: BTreeMap<LimitId, i64>,
    seen: Seen,
}

fn name(group: usize) -> GroupName {
    format!("g{group}").parse().unwrap()
}

impl Federation {
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Some end in another month than they begin in.
        let begin = 1_774_990_800_000 + random.between(0, 4 * 60) * MINUTE;
        let (mut limits, mut parents) = (Limits::new(), vec![]);
        let count = random.between(1, 6);
        for group in 0..usize::try_from(count).unwrap() {
            let parent =
                group.checked_sub(1).map(|last| usize::try_from(random.between(0, last as u64)).unwrap());
            let zone: Zone = ["UTC", "Europe/Berlin", "America/St_Johns"][group % 3].parse().unwrap();
            let now = UnixMs(i64::try_from(begin).unwrap());
            limits.set_group(name(group), parent.map(name), zone, now).unwrap();
            parents.push(parent);
            if group == 0 || random.percent(60) {
                let id = LimitId {
                    group: name(group),
                    metric: Metric::Money,
                    scope: Scope::Everywhere,
                    window: Window::Month,
                };
                let nominal = i64::try_from(random.between(1, 30)).unwrap() * 1_000_000;
                let action = if random.percent(50) { Action::Drain } else { Action::Stop };
                let (borrow, lend, thresholds, priority) = (None, None, vec![], 0);
                limits
                    .set_limit(
                        Limit { id, nominal, borrow, lend, action, thresholds, priority, stated: None },
                        now,
                    )
                    .unwrap();
            }
        }
        let every = random.between(30, 120) * SECOND;
        let terms = LeaseTerms {
            lease: DurationMs(random.between(5, 30) * MINUTE),
            grace: DurationMs(random.between(0, 180) * SECOND),
            minimum: DurationMs(random.between(0, 1) * MINUTE),
            increment: DurationMs(SECOND),
        };
        let lag = 2 * every + random.between(1, 15) * MINUTE;
        let silence = random.between(2 * every, 4 * every);
        let mut federation = Self {
            to_come: random.between(2, 8),
            tries: 16,
            random,
            seed,
            limits,
            names: (0..parents.len()).map(name).collect(),
            parents,
            now: begin,
            events: BTreeSet::new(),
            sent: 0,
            agents: vec![],
            down_until: 0,
            terms,
            lag,
            every,
            silence,
            passed: BTreeMap::new(),
            seen: Seen::default(),
        };
        federation.at(begin, Event::Arrives);
        if federation.random.percent(50) {
            let crash = begin + federation.random.between(1, 60) * MINUTE;
            federation.at(crash, Event::Crashes);
        }
        federation
    }

    fn at(&mut self, when: u64, event: Event) {
        self.sent += 1;
        self.events.insert((when, self.sent, event));
    }

    /// Something of the broker: it waits while the broker is away.
    fn by_broker(&mut self, when: u64, event: Event) {
        self.at(when.max(self.down_until), event);
    }

    fn instant(&self) -> UnixMs {
        UnixMs(i64::try_from(self.now).unwrap())
    }

    pub(crate) fn run(mut self) -> Seen {
        while let Some((when, _, event)) = self.events.pop_first() {
            self.now = when;
            // Only use that becomes known can pass a limit: what is held was checked.
            let open = if matches!(event, Event::Reported(..)) { self.open_bounds() } else { vec![] };
            self.take(event);
            if matches!(event, Event::Reported(..) | Event::Arrives | Event::Renews(_)) {
                self.look(&open);
            }
        }
        self.seen.passed = u64::from(self.seen.worst.over > 0);
        self.seen
    }

    fn take(&mut self, event: Event) {
        let broker_acts =
            matches!(event, Event::Arrives | Event::Renews(_) | Event::Listens(_) | Event::Reported(..));
        if broker_acts && self.now < self.down_until {
            return self.at(self.down_until, event);
        }
        match event {
            Event::Arrives => self.arrive(),
            Event::Renews(agent) => self.renew(agent),
            Event::Extended(agent, ends) => self.extended(agent, ends),
            Event::Told(agent) => self.stop(agent),
            Event::LeaseEnds(agent) => {
                if self.agents[agent].lease_ends <= self.now {
                    self.stop(agent);
                }
            }
            Event::Stops(agent) => {
                let now = self.now;
                self.agents[agent].stopped.get_or_insert(now);
                self.measure(agent);
            }
            Event::Measures(agent) => self.measure(agent),
            Event::Reported(agent, used_ms) => self.reported(agent, used_ms),
            Event::Listens(agent) => self.listen(agent),
            Event::Crashes => self.crash(),
            Event::Returns => {
                let stored = serde_json::to_string(&self.limits).unwrap();
                self.limits = serde_json::from_str(&stored).unwrap();
            }
        }
    }

    fn arrive(&mut self) {
        self.to_come -= 1;
        if self.to_come > 0 {
            let next = self.now + self.random.between(0, 5 * MINUTE);
            self.at(next, Event::Arrives);
        }
        let group = usize::try_from(self.random.between(0, self.parents.len() as u64 - 1)).unwrap();
        let gpus = self.random.between(1, 16);
        let cap = HourlyRate(i64::try_from(gpus * self.random.between(500, 4_000)).unwrap() * 1000);
        let price = HourlyRate(cap.0 * i64::try_from(self.random.between(40, 100)).unwrap() / 100);
        let attempt = AttemptId::generate(&mut SequentialIds::new(self.seed * 100 + self.seen.attempts));
        let demand = Demand {
            group: name(group),
            place: Place { site: "us-east-1".parse().unwrap(), kind: SiteKind::Cloud },
            shares: vec![Share { class: Some("H100".parse().unwrap()), blocks: gpus * 100, cap }],
            terms: self.terms,
            egress_micros: 0,
        };
        self.seen.attempts += 1;
        if self.limits.hold(attempt, demand.clone(), self.instant()).is_err() {
            self.seen.refused += 1;
            // It waits in the queue.
            if self.tries > 0 {
                self.tries -= 1;
                self.to_come += 1;
                if self.to_come == 1 {
                    let next = self.now + self.random.between(MINUTE, 4 * MINUTE);
                    self.at(next, Event::Arrives);
                }
            }
            return;
        }
        // The same request again changes nothing.
        self.limits.hold(attempt, demand, self.instant()).unwrap();
        self.limits.step(attempt, HoldStep::Activate).unwrap();
        let (agent, started) = (self.agents.len(), self.now);
        let lease_ends = started + self.terms.lease.0;
        self.agents.push(Agent {
            attempt,
            group,
            cap,
            price,
            started,
            lease_ends,
            leases: 1,
            stopped: None,
            stopping: false,
            cut_until: 0,
            known_ms: 0,
            heard: started,
            slices: SliceBook::new(),
        });
        let runs = self.random.between(MINUTE, 90 * MINUTE);
        self.at(started + runs, Event::Stops(agent));
        self.at(started + self.every, Event::Measures(agent));
        self.at(lease_ends, Event::LeaseEnds(agent));
        self.by_broker(lease_ends - MINUTE, Event::Renews(agent));
        self.by_broker(started + self.silence, Event::Listens(agent));
    }

    fn phase(&self, agent: usize) -> HoldPhase {
        self.limits.holding(self.agents[agent].attempt).unwrap().phase()
    }

    /// When a message that is sent now is there.
    fn delivered(&mut self, agent: usize) -> u64 {
        let delay = self.random.between(0, 2 * SECOND);
        self.now.max(self.agents[agent].cut_until) + delay
    }

    fn renew(&mut self, agent: usize) {
        if !matches!(self.phase(agent), HoldPhase::Active | HoldPhase::Extended) {
            return;
        }
        let (attempt, lease) = (self.agents[agent].attempt, self.agents[agent].leases + 1);
        let there = self.delivered(agent);
        match self.limits.extend(attempt, lease, self.instant()).unwrap() {
            Extension::Granted => {
                assert_eq!(self.limits.extend(attempt, lease, self.instant()), Ok(Extension::Granted));
                self.agents[agent].leases = lease;
                let ends = self.agents[agent].started + u64::from(lease) * self.terms.lease.0;
                self.at(there, Event::Extended(agent, ends));
                self.by_broker(ends - MINUTE, Event::Renews(agent));
            }
            Extension::Drain(_) => {
                self.seen.drained += 1;
                self.at(there, Event::Told(agent));
            }
        }
    }

    fn extended(&mut self, agent: usize, ends: u64) {
        // One that has begun to stop does not begin again.
        if self.agents[agent].stopping || self.agents[agent].stopped.is_some() {
            return;
        }
        self.agents[agent].lease_ends = ends;
        self.at(ends, Event::LeaseEnds(agent));
    }

    fn stop(&mut self, agent: usize) {
        if self.agents[agent].stopping || self.agents[agent].stopped.is_some() {
            return;
        }
        self.agents[agent].stopping = true;
        let takes = self.random.between(0, self.terms.grace.0);
        self.at(self.now + takes, Event::Stops(agent));
    }

    fn measure(&mut self, agent: usize) {
        let entry = &self.agents[agent];
        let used_ms = entry.stopped.unwrap_or(self.now) - entry.started;
        let over = entry.stopped.is_some();
        if self.agents[agent].cut_until < self.now && self.random.percent(8) {
            self.seen.partitions += 1;
            let length = self.random.between(SECOND, self.lag - 2 * self.every);
            self.agents[agent].cut_until = self.now + length;
        }
        let there = self.delivered(agent);
        self.at(there, Event::Reported(agent, used_ms));
        if self.random.percent(20) {
            self.at(there + SECOND, Event::Reported(agent, used_ms));
        }
        if !over {
            self.at(self.now + self.every, Event::Measures(agent));
        }
    }

    fn reported(&mut self, agent: usize, used_ms: u64) {
        let now = self.now;
        let entry = &mut self.agents[agent];
        entry.heard = now;
        let from_ms = entry.slices.reported_ms(0).min(used_ms);
        if let Accepted::Slice { from_ms, to_ms } =
            entry.slices.accept(0, from_ms, used_ms, u64::MAX).unwrap()
        {
            let started = UnixMs(i64::try_from(entry.started).unwrap());
            let charge = Charge { share: 0, started, from_ms, to_ms, rate: entry.price };
            self.limits.charge(entry.attempt, &charge).unwrap();
            entry.known_ms = to_ms;
        }
        let entry = &self.agents[agent];
        let (attempt, all_known) = (entry.attempt, entry.stopped.is_some() && !entry.is_open());
        let resolved = self.phase(agent).is_resolved();
        if all_known && !resolved {
            self.limits.step(attempt, HoldStep::Finish).unwrap();
            self.limits.step(attempt, HoldStep::Settle).unwrap();
        } else if resolved && !all_known {
            // It was thought lost and is not: it is told to stop.
            let there = self.delivered(agent);
            self.at(there, Event::Told(agent));
        }
    }

    fn listen(&mut self, agent: usize) {
        if self.phase(agent).is_resolved() {
            return;
        }
        let silent_from = self.agents[agent].heard + self.silence;
        if self.now < silent_from {
            return self.by_broker(silent_from, Event::Listens(agent));
        }
        self.seen.lost += 1;
        let attempt = self.agents[agent].attempt;
        self.limits.step(attempt, HoldStep::Finish).unwrap();
        self.limits.step(attempt, HoldStep::Settle).unwrap();
    }

    fn crash(&mut self) {
        self.seen.crashes += 1;
        self.down_until = self.now + self.random.between(SECOND, self.every);
        self.at(self.down_until, Event::Returns);
    }

    /// The bound of each group's limit now: over its attempts that run or whose use is not all known.
    fn open_bounds(&self) -> Vec<i64> {
        let mut bounds = vec![0_i64; self.parents.len()];
        for agent in self.agents.iter().filter(|agent| agent.is_open()) {
            let lag = DurationMs(self.lag);
            let bound = overshoot_micros(agent.cap, self.terms.grace, lag);
            let mut next = Some(agent.group);
            while let Some(group) = next {
                bounds[group] += bound;
                next = self.parents[group];
            }
        }
        bounds
    }

    /// Whether a limit is passed, and by how much. The bound is that of the moment at which it was passed: from then
    /// on nothing new starts below it.
    fn look(&mut self, open: &[i64]) {
        for (group, name) in self.names.iter().enumerate() {
            let open = open.get(group).copied().unwrap_or(0);
            for standing in self.limits.standings(name, self.instant()) {
                let over = -standing.left;
                if over <= 0 {
                    self.passed.remove(&standing.limit.id);
                    continue;
                }
                let bound = *self.passed.entry(standing.limit.id.clone()).or_insert(open);
                let worst = Worst { over, bound, seed: self.seed };
                if worst.thousandths() > self.seen.worst.thousandths() {
                    self.seen.worst = worst;
                }
                if over > bound {
                    self.seen.beyond_bound.get_or_insert((standing.limit.id.to_string(), worst));
                }
            }
        }
    }
}
