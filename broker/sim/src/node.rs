//! A node with an agent that behaves: it runs what it is told, keeps a numbered spool until it is acknowledged,
//! and ends what has no lease any more.
//!
//! The rules are those of the real agent: what is unknown and to be stopped never began, what is not listed is
//! stopped, and a part is forgotten once its end is acknowledged and nobody lists it.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::command::{PartNews, PartReport, SpoolHead};
use spillway_core::desired::DesiredPart;
use spillway_ledger::journal::UsageMark;
use spillway_types::{AttemptId, DurationMs, Inventory, JobId, NodeId, PartEnd, UnixMs, WantedPhase};

/// What a program does once it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// How long it runs if nobody stops it.
    pub runs: DurationMs,
    /// How it ends by itself. A [`PartEnd::NotStarted`] never runs.
    pub end: PartEnd,
}

/// Whether a node is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// In a session of this epoch.
    Up {
        /// The epoch.
        epoch: u64,
    },
    /// Since then, or never yet.
    Down,
}

/// What a node should do about one part.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    attempt: AttemptId,
    rank: u32,
    job: JobId,
    task: u32,
    want: WantedPhase,
    lease: DurationMs,
    program: Program,
}

impl Order {
    pub(crate) fn of(wanted: &DesiredPart<'_>, program: Option<&Program>) -> Self {
        let spec = &wanted.job.spec;
        let fine = || Program { runs: spec.estimate(), end: PartEnd::Exited { code: 0 } };
        let mut program = program.cloned().unwrap_or_else(fine);
        if program.runs > spec.time_limit {
            program = Program { runs: spec.time_limit, end: PartEnd::TimeLimit };
        }
        Self {
            attempt: wanted.attempt.id,
            rank: wanted.rank,
            job: wanted.job.id,
            task: wanted.attempt.task,
            want: wanted.want,
            lease: wanted.attempt.lease,
            program,
        }
    }
}

#[derive(Debug, Clone)]
enum Phase {
    Prepared,
    Running { since: UnixMs, reported_ms: u64 },
    Ended { number: u64 },
}

#[derive(Debug, Clone)]
struct FakePart {
    rank: u32,
    job: JobId,
    task: u32,
    phase: Phase,
    program: Program,
    lease: DurationMs,
    lease_until: UnixMs,
}

/// A machine with an agent.
#[derive(Debug, Clone)]
pub struct FakeNode {
    /// Who it is.
    pub id: NodeId,
    /// What it says it has.
    pub inventory: Inventory,
    /// Of the agent's newest start.
    pub boot_nonce: u64,
    /// Whether it is connected.
    pub link: Link,
    spool: Vec<PartReport>,
    /// How many reports in front of the spool were forgotten.
    forgotten: u64,
    acked: u64,
    usage: UsageMark,
    parts: BTreeMap<AttemptId, FakePart>,
}

impl FakeNode {
    /// A machine that has never been connected.
    #[must_use]
    pub fn new(id: NodeId, inventory: Inventory, boot_nonce: u64) -> Self {
        Self {
            id,
            inventory,
            boot_nonce,
            link: Link::Down,
            spool: vec![],
            forgotten: 0,
            acked: 0,
            usage: UsageMark::default(),
            parts: BTreeMap::new(),
        }
    }

    /// Another machine with the same identity, as a copied disk makes one: it has the spool, but runs nothing.
    #[must_use]
    pub fn copied(&self, boot_nonce: u64) -> Self {
        Self { boot_nonce, link: Link::Down, parts: BTreeMap::new(), ..self.clone() }
    }

    /// Attempts that it has parts of.
    #[must_use]
    pub fn observed(&self) -> BTreeSet<AttemptId> {
        self.parts.keys().copied().collect()
    }

    /// Everything that it ever reported; the number of the first is 1, unless acknowledged reports are forgotten.
    #[must_use]
    pub fn spool(&self) -> &[PartReport] {
        &self.spool
    }

    /// Number of the newest report that the broker has.
    #[must_use]
    pub const fn acked(&self) -> u64 {
        self.acked
    }

    /// Number of the first report that is not acknowledged, and all from it on.
    #[must_use]
    pub fn outbox(&self) -> (u64, Vec<PartReport>) {
        let skip = usize::try_from(self.acked - self.forgotten).unwrap_or(usize::MAX);
        (self.acked + 1, self.spool.iter().skip(skip).cloned().collect())
    }

    /// The broker has everything up to `through`.
    pub fn acknowledge(&mut self, through: u64) {
        self.acked = self.acked.max(through);
    }

    /// Writes something into the spool, true or not.
    pub fn say(&mut self, attempt: AttemptId, rank: u32, news: PartNews) {
        let report = PartReport { attempt, rank, news };
        let (number, used) = (self.newest() + 1, report.usage());
        used.map(|used| self.usage.take(number, &used));
        self.spool.push(report);
    }

    const fn newest(&self) -> u64 {
        self.forgotten + self.spool.len() as u64
    }

    /// Where its spool stands.
    #[must_use]
    pub const fn spool_head(&self) -> SpoolHead {
        SpoolHead { next: self.newest() + 1, usage_after: self.usage.after }
    }

    /// The broker's mark of its usage events begins behind that number: so does its own.
    pub(crate) fn mark_from(&mut self, after: u64) {
        if after == self.usage.after {
            return;
        }
        self.usage = UsageMark::begin(after);
        for (number, report) in (self.forgotten + 1..).zip(&self.spool) {
            report.usage().map(|used| self.usage.take(number, &used));
        }
    }

    /// What it says of its usage at `now`: all that it has spooled, and how old the use is that is not in it.
    #[must_use]
    pub fn usage_statement(&self, now: UnixMs) -> (UsageMark, u64) {
        let unsaid = self.parts.values().filter_map(|part| match part.phase {
            Phase::Running { since, reported_ms } => Some(now.since(since.plus(DurationMs(reported_ms))).0),
            Phase::Prepared | Phase::Ended { .. } => None,
        });
        (self.usage, unsaid.max().unwrap_or(0))
    }

    /// Tasks whose programs run here now, with their attempts.
    pub fn running(&self) -> impl Iterator<Item = (JobId, u32, AttemptId)> + '_ {
        let running = self.parts.iter().filter(|(_, part)| matches!(part.phase, Phase::Running { .. }));
        running.map(|(attempt, part)| (part.job, part.task, *attempt))
    }

    /// When the next of its programs ends by itself.
    #[must_use]
    pub fn next_end(&self) -> Option<UnixMs> {
        let ends = self.parts.values().filter_map(|part| match part.phase {
            Phase::Running { since, .. } => Some(since.plus(part.program.runs)),
            Phase::Prepared | Phase::Ended { .. } => None,
        });
        ends.min()
    }

    /// The broker was heard at `now`: leases of these attempts go on from there.
    pub(crate) fn renew(&mut self, attempts: &BTreeSet<AttemptId>, now: UnixMs) {
        for (_, part) in self.parts.iter_mut().filter(|(attempt, _)| attempts.contains(attempt)) {
            part.lease_until = now.plus(part.lease);
        }
    }

    /// Lets programs run until `now`: they end by themselves, or when their lease does.
    pub fn advance(&mut self, now: UnixMs) {
        for attempt in self.observed() {
            let Some(part) = self.parts.get(&attempt) else { continue };
            let Phase::Running { since, .. } = part.phase else { continue };
            let (own, lease) = (since.plus(part.program.runs), part.lease_until);
            if own <= now && own <= lease {
                let end = part.program.end.clone();
                self.end(attempt, end, own.since(since).0);
            } else if lease <= now {
                self.end(attempt, PartEnd::LeaseExpired, lease.since(since).0);
            } else {
                self.meter(attempt, now.since(since).0);
            }
        }
    }

    /// Programs whose own time is up at `now` end; nothing is said of the others.
    pub(crate) fn finish(&mut self, now: UnixMs) {
        let over = |part: &FakePart| match part.phase {
            Phase::Running { since, .. } => since.plus(part.program.runs) <= now,
            Phase::Prepared | Phase::Ended { .. } => false,
        };
        let due: Vec<AttemptId> =
            self.parts.iter().filter(|(_, part)| over(part)).map(|(attempt, _)| *attempt).collect();
        for attempt in due {
            if let Some(part) = self.parts.get(&attempt) {
                let (end, ran) = (part.program.end.clone(), part.program.runs);
                self.end(attempt, end, ran.0);
            }
        }
    }

    /// The machine stops at `now`: its programs are no more, which its agent says when it starts again. Its disk
    /// stays.
    pub(crate) fn crash(&mut self, now: UnixMs) {
        for attempt in self.observed() {
            let ran_ms = match self.parts.get(&attempt).map(|part| &part.phase) {
                Some(Phase::Running { since, .. }) => now.since(*since).0,
                Some(Phase::Prepared) => 0,
                Some(Phase::Ended { .. }) | None => continue,
            };
            self.end(attempt, PartEnd::Vanished, ran_ms);
        }
        self.link = Link::Down;
    }

    /// Forgets reports that the broker has, where all are acknowledged.
    pub(crate) fn forget_acknowledged(&mut self) {
        let reported = self.newest();
        if self.acked >= reported {
            self.spool.clear();
            self.forgotten = reported;
        }
    }

    fn meter(&mut self, attempt: AttemptId, until_ms: u64) {
        let Some(part) = self.parts.get_mut(&attempt) else { return };
        let Phase::Running { reported_ms, .. } = &mut part.phase else { return };
        let from_ms = std::mem::replace(reported_ms, until_ms.max(*reported_ms));
        let rank = part.rank;
        if until_ms > from_ms {
            self.say(attempt, rank, PartNews::Usage { from_ms, to_ms: until_ms });
        }
    }

    fn end(&mut self, attempt: AttemptId, end: PartEnd, ran_ms: u64) {
        self.meter(attempt, ran_ms);
        let number = self.newest() + 1;
        let Some(part) = self.parts.get_mut(&attempt) else { return };
        part.phase = Phase::Ended { number };
        let rank = part.rank;
        self.say(attempt, rank, PartNews::Ended { end, ran_ms });
    }

    /// Does what the broker wants at `now`.
    pub(crate) fn obey(&mut self, orders: &[Order], now: UnixMs) {
        for attempt in self.observed() {
            if !orders.iter().any(|order| order.attempt == attempt) {
                self.drop_part(attempt, now);
            }
        }
        for order in orders {
            match order.want {
                WantedPhase::Prepared => self.prepare(order, now),
                WantedPhase::Running => self.start(order, now),
                WantedPhase::Stopped => self.stop(order, now),
            }
        }
    }

    fn drop_part(&mut self, attempt: AttemptId, now: UnixMs) {
        match self.parts.get(&attempt).map(|part| &part.phase) {
            Some(Phase::Ended { number }) if *number <= self.acked => {
                self.parts.remove(&attempt);
            }
            Some(Phase::Ended { .. }) | None => {}
            Some(Phase::Prepared) => self.end(attempt, PartEnd::Stopped, 0),
            Some(Phase::Running { since, .. }) => {
                let ran_ms = now.since(*since).0;
                self.end(attempt, PartEnd::Stopped, ran_ms);
            }
        }
    }

    fn prepare(&mut self, order: &Order, now: UnixMs) {
        if self.parts.contains_key(&order.attempt) {
            return;
        }
        let part = FakePart {
            rank: order.rank,
            job: order.job,
            task: order.task,
            phase: Phase::Prepared,
            program: order.program.clone(),
            lease: order.lease,
            lease_until: now.plus(order.lease),
        };
        self.parts.insert(order.attempt, part);
        if matches!(order.program.end, PartEnd::NotStarted { .. }) {
            self.end(order.attempt, order.program.end.clone(), 0);
        } else {
            self.say(order.attempt, order.rank, PartNews::Prepared);
        }
    }

    fn start(&mut self, order: &Order, now: UnixMs) {
        self.prepare(order, now);
        let Some(part) = self.parts.get_mut(&order.attempt) else { return };
        if matches!(part.phase, Phase::Prepared) {
            part.phase = Phase::Running { since: now, reported_ms: 0 };
            self.say(order.attempt, order.rank, PartNews::Started);
        }
    }

    fn stop(&mut self, order: &Order, now: UnixMs) {
        if self.parts.contains_key(&order.attempt) {
            if !matches!(self.parts.get(&order.attempt).map(|part| &part.phase), Some(Phase::Ended { .. })) {
                self.drop_part(order.attempt, now);
            }
            return;
        }
        let message = "the broker stopped it before this node had begun".to_owned();
        let never = Program { runs: DurationMs(0), end: PartEnd::NotStarted { message } };
        self.prepare(&Order { program: never, ..order.clone() }, now);
    }
}
