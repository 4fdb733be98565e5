//! What can happen next.

use spillway_core::command::{Endpoint, InstanceNews, JoinProof, PartNews, PartReport, TickLimits};
use spillway_core::entity::GoneReason;
use spillway_core::{Command, Reply};
use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_ledger::rates::Card;
use spillway_policies::Decision;
use spillway_sim::{Answer, Link, Program};
use spillway_types::{
    ArrayRange, AttemptId, Checkpoint, DurationMs, HourlyRate, InstanceId, JobId, JobSpec, NodeId, NodeStep,
    PartEnd, Placement, Resources, RetryPolicy, UnixMs,
};

use crate::case::{Case, DOLLAR, Manners, group, inventory, name};

const GPUS: [&str; 6] = ["H100:1", "H100:2", "H100:4", "A100:1", "A100:0.5", "1"];
const STEPS: [NodeStep; 9] = [
    NodeStep::Cordon,
    NodeStep::Uncordon,
    NodeStep::Drain,
    NodeStep::OwnerHold,
    NodeStep::OwnerRelease,
    NodeStep::Leave,
    NodeStep::Connect,
    NodeStep::Disconnect,
    NodeStep::Lose,
];
const ANSWERS: [Answer; 6] =
    [Answer::Launched, Answer::Launched, Answer::Lost, Answer::Silence, Answer::NoCapacity, Answer::Unheard];

/// How long instances boot here.
pub(crate) const BOOT: DurationMs = DurationMs::from_secs(60);

impl Case {
    /// Carries out one choice: what, and two numbers that say which and how.
    pub(crate) fn choose(&mut self, (what, which, how): (u8, u32, u32)) {
        match what % 45 {
            0..=3 => self.submit(which, how),
            4..=8 => self.place(which),
            9..=13 => self.contact_all(),
            14 => self.one(which, |case, id| case.world.instruct(id)),
            15 => self.one(which, Self::deliver),
            16..=18 => self.world.pass(DurationMs::from_secs(u64::from(how % 60))),
            19 => self.world.pass(DurationMs::from_secs(u64::from(how % 1800))),
            20 => self.one(which, |case, id| drop(case.world.disconnect(id))),
            21..=23 => self.reconnect(which, how),
            24 => self.one(which, |case, id| drop(case.world.restart(id))),
            25 => self.one(which, |case, id| drop(case.world.copy(id))),
            26 => self.step(which, how),
            27 => self.one(which, |case, node| case.give(Command::Interrupt { node })),
            28 => self.cancel(which),
            29 => drop(self.world.declare_silence()),
            30..=32 => drop(self.world.drive_clouds(ANSWERS[how as usize % ANSWERS.len()], BOOT)),
            33 => self.news(which, how),
            34 => drop(self.world.tick(TickLimits::default())),
            35 => self.change_rules(which, how),
            36 => self.replay(which, how),
            37 => self.lie(which, how),
            38 => self.restart_broker(which),
            39 => self.enrol_again(which),
            40 | 41 => self.arrange(which, how),
            42 => self.keep_books(which, how),
            _ => self.preempt(which),
        }
    }

    /// Sets a rate card, or closes the next month, where need be when it is over.
    fn keep_books(&mut self, which: u32, how: u32) {
        let now = self.world.now();
        if which.is_multiple_of(2) {
            return self.set_card(how);
        }
        let (zone, newest) = (Zone::utc(), self.world.state().periods.newest_closed());
        let period = newest.map_or_else(|| Period::of(now, &zone), Period::next);
        if !how.is_multiple_of(4) {
            self.world.pass(period.end(&zone).since(now));
        }
        self.give(Command::ClosePeriod { period });
    }

    fn one(&mut self, which: u32, act: impl FnOnce(&mut Self, NodeId)) {
        if let Some(id) = self.machine(which) {
            act(self, id);
        }
    }

    fn submit(&mut self, which: u32, how: u32) {
        let bit = |n: u32| how >> n & 1 == 1;
        let gpus = Self::pick(&GPUS, which).filter(|_| !which.is_multiple_of(13));
        let array = (bit(0) && bit(1)).then(|| ArrayRange { first: 3, last: 3 + which % 4 });
        let spec = JobSpec {
            name: "job".to_owned(),
            group: name(if bit(2) { "lab" } else { "ops" }),
            command: vec!["run".to_owned()],
            env: std::collections::BTreeMap::new(),
            image: None,
            resources: Resources { gpus: gpus.map(name), cpus_milli: 500, memory_mib: 1024 },
            nodes: if array.is_none() && bit(3) { 2 } else { 1 },
            array,
            time_limit: DurationMs::from_secs(600),
            expected: bit(4).then_some(DurationMs::from_secs(300)),
            deadline: None,
            class: None,
            inputs: vec![],
            placement: Placement { max_wait: bit(5).then_some(DurationMs(0)), ..Placement::default() },
            checkpoint: Checkpoint {
                grace: DurationMs::from_secs(u64::from(how >> 6 & 7)),
                ..Checkpoint::default()
            },
            retry: RetryPolicy { max_attempts: 1 + (how >> 9 & 3), on_loss: bit(11), on_failure: bit(12) },
            lease: DurationMs::from_secs(2 + u64::from(how >> 13 & 63)),
        };
        self.keys += u32::from(bit(14));
        let key = bit(15).then(|| (format!("key-{}", self.keys), "digest".to_owned()));
        let user = name(if bit(16) {
            "root"
        } else if bit(2) {
            "ada"
        } else {
            "bob"
        });
        let submit = Command::Submit { spec: Box::new(spec.checked().unwrap()), user, key };
        if let Ok(Reply::Job(job)) = self.world.command(submit) {
            self.jobs.push(job);
            if bit(17) {
                self.world.set_program(
                    job,
                    Program { runs: DurationMs::from_secs(u64::from(which % 700)), end: end(how >> 18) },
                );
            }
        }
    }

    fn place(&mut self, which: u32) {
        let decisions = match which % 8 {
            0 => return self.stale = self.world.plan().decisions,
            1 => self.stale.clone(),
            2 => self.mistaken(which),
            _ => {
                self.stale = self.world.plan().decisions;
                self.stale.clone()
            }
        };
        self.give(Command::Place { decisions, endpoint: Endpoint::default() });
    }

    /// Remembered decisions, about whatever waits now.
    fn mistaken(&self, which: u32) -> Vec<Decision> {
        let queued = self.world.state().jobs.values().filter_map(|job| Some((job.id, job.queued.first()?)));
        let queued: Vec<(JobId, u32)> = queued.collect();
        let about = |decision: &Decision| {
            let (job, task) = Self::pick(&queued, which)?;
            Some(Decision { job, task, ..decision.clone() })
        };
        self.stale.iter().filter_map(about).collect()
    }

    fn reconnect(&mut self, which: u32, how: u32) {
        let Some(id) = Self::pick(&self.down(), which) else { return };
        // Sometimes it has lost an accelerator, or found it again.
        if how.is_multiple_of(8)
            && let Some(node) = self.world.node_mut(id)
        {
            let model = node.inventory.hostname.split('-').next().unwrap_or("h100").to_uppercase();
            if model != "MACHINE" {
                node.inventory = inventory(&model, 1 + how / 8 % 4);
            }
        }
        self.world.connect(id).ok();
    }

    fn step(&mut self, which: u32, how: u32) {
        let all: Vec<NodeId> = self.world.state().nodes.keys().copied().collect();
        if let Some(node) = Self::pick(&all, which) {
            self.give(Command::StepNode { node, step: STEPS[how as usize % STEPS.len()] });
        }
    }

    fn cancel(&mut self, which: u32) {
        let Some(job) = Self::pick(&self.jobs.clone(), which) else { return };
        let user = name(Self::pick(&["ada", "bob", "root"], which).unwrap_or("root"));
        self.give(Command::Cancel { job, user });
    }

    /// Somebody holds a job, releases it, or puts it on top.
    fn arrange(&mut self, which: u32, how: u32) {
        let Some(job) = Self::pick(&self.jobs.clone(), which) else { return };
        let user = name(Self::pick(&["ada", "bob", "root"], how).unwrap_or("root"));
        self.give(match how / 3 % 4 {
            0 => Command::Hold { job, user },
            1 | 2 => Command::Release { job, user },
            _ => Command::Top { job, user },
        });
    }

    fn preempt(&mut self, which: u32) {
        let all: Vec<AttemptId> = self.world.state().attempts.keys().copied().collect();
        if let Some(attempt) = Self::pick(&all, which) {
            self.give(Command::Preempt { attempt, because: "a choice".to_owned() });
        }
    }

    fn news(&mut self, which: u32, how: u32) {
        let all: Vec<InstanceId> = self.world.state().instances.keys().copied().collect();
        let Some(instance) = Self::pick(&all, which) else { return };
        let what = match how % 6 {
            0 => InstanceNews::Asking,
            1 => InstanceNews::Doubt,
            2 => InstanceNews::Terminate,
            3 => match self.world.machines().get(&instance) {
                Some(machine) => InstanceNews::Exists {
                    provider_id: machine.provider_id.clone(),
                    launched: machine.launched,
                },
                None => InstanceNews::Asking,
            },
            _ => {
                let why = if how.is_multiple_of(2) { GoneReason::Vanished } else { GoneReason::Terminated };
                self.world.take_away(instance, why).ok();
                return;
            }
        };
        self.give(Command::StepInstance { instance, what });
    }

    fn change_rules(&mut self, which: u32, how: u32) {
        let limit_micros = (!how.is_multiple_of(3)).then(|| i64::from(how % 100) * DOLLAR);
        match which % 8 {
            0 => self.give(Command::SetBudget { group: name("org"), limit_micros, stated: None }),
            1 => self.give(Command::SetBudget { group: name("lab"), limit_micros, stated: None }),
            2 => {
                self.give(group("ops", Some(if how.is_multiple_of(2) { "lab" } else { "org" }), limit_micros))
            }
            3 => self.set_offers(i64::from(8 + how % 40), how % 3 * 50),
            4 => self.give(Command::ForgetOldKeys),
            5 => self.set_exchange(how),
            6 => self.set_card(how),
            _ => {
                let mut pool = self.world.state().pools[&name("main")].clone();
                pool.groups = how.is_multiple_of(3).then(|| [name("lab")].into());
                self.give(Command::DeclarePool(pool));
            }
        }
    }

    /// Euros are worth something else from a day around now on.
    fn set_exchange(&mut self, how: u32) {
        let from = Day::of(self.world.now()).plus(i64::from(how % 4) - 1);
        let rate = format!("{}.{:02}", how % 2, 1 + how % 99).parse().expect("a rate");
        self.give(Command::SetExchange { currency: name("EUR"), from, rate });
    }

    /// A pool charges by a card from an instant around now on, in dollars or in euros.
    fn set_card(&mut self, how: u32) {
        let per_gpu =
            ["H100", "A100"].map(|model| (name(model), HourlyRate(i64::from(how % 97) * DOLLAR / 10)));
        let currency = name(if how.is_multiple_of(5) { "USD" } else { "EUR" });
        let unused = name(["idle", "by-use", "lab=2,ops=1"][how as usize % 3]);
        let card = Box::new(Card::Flat { per_gpu: per_gpu.into(), lending: None, currency, unused });
        let effective = UnixMs(self.world.now().0 + i64::from(how % 7_200) * 1000 - 3_600_000);
        let pool = name(if how.is_multiple_of(2) { "main" } else { "desk" });
        self.give(Command::SetRates { pool, effective, card });
    }

    /// Reports come again: old numbers, an old epoch, overlapping or with a gap.
    fn replay(&mut self, which: u32, how: u32) {
        let Some(node) = self.machine(which).and_then(|id| self.world.nodes().get(&id)) else { return };
        let Link::Up { epoch } = node.link else { return };
        let (acked, known) = (node.acked(), node.spool().len() as u64);
        let first = match how % 4 {
            0 => acked + 2,
            1 => u64::from(how / 4) % (acked + 1),
            _ => 1 + u64::from(how / 4) % (acked + 1),
        };
        // Only what was acknowledged: what is new comes through the front door, where it is noted.
        let until = if how.is_multiple_of(4) { known } else { acked };
        let numbered =
            (1..).zip(node.spool()).filter(|(number, _)| *number >= first.max(1) && *number <= until);
        let reports: Vec<PartReport> = numbered.map(|(_, report)| report.clone()).collect();
        let epoch = if how.is_multiple_of(5) { epoch.saturating_sub(1) } else { epoch };
        let (id, first) = (node.id, if first == 0 { 1 } else { first });
        self.give(Command::Report { node: id, epoch, first, reports });
    }

    /// An agent reports about attempts that are not its own, or absurdities about its own.
    fn lie(&mut self, which: u32, how: u32) {
        if self.manners == Manners::Honest {
            return;
        }
        let state = self.world.state();
        let all: Vec<AttemptId> =
            state.attempts.keys().chain(self.world.records().attempts.keys()).copied().collect();
        let Some(attempt) = Self::pick(&all, how) else { return };
        let far = u64::MAX >> (how % 64);
        let news = match how / 7 % 6 {
            0 => PartNews::Prepared,
            1 => PartNews::Started,
            2 => PartNews::Usage { from_ms: u64::from(how), to_ms: far },
            3 => PartNews::Usage { from_ms: far, to_ms: 0 },
            _ => PartNews::Ended { end: end(how), ran_ms: far },
        };
        self.one(which, |case, id| {
            if let Some(node) = case.world.node_mut(id) {
                node.say(attempt, how % 3, news);
            }
            case.deliver(id);
        });
    }

    fn restart_broker(&mut self, which: u32) {
        if !which.is_multiple_of(3) {
            return;
        }
        self.give(Command::StartBroker { deployment: "other".to_owned() });
        for id in self.world.connected() {
            if let Some(node) = self.world.node_mut(id) {
                node.link = Link::Down;
            }
        }
    }

    fn enrol_again(&mut self, which: u32) {
        if which.is_multiple_of(2) {
            if self.world.nodes().len() < 6 {
                self.join(which / 2 % 2);
            }
            return;
        }
        let all: Vec<InstanceId> = self.world.state().instances.keys().copied().collect();
        if let Some(instance) = Self::pick(&all, which) {
            // A thief of the instance's token comes after its own agent, or is refused.
            let taken = self.world.state().instances[&instance].node.is_some();
            let proof = JoinProof::Instance { instance };
            if taken {
                self.give(Command::Enrol {
                    proof,
                    key_hash: "thief".to_owned(),
                    hostname: "thief".to_owned(),
                });
            }
        }
    }
}

fn end(choice: u32) -> PartEnd {
    match choice % 8 {
        0..=2 => PartEnd::Exited { code: 0 },
        3 => PartEnd::Exited { code: 1 },
        4 => PartEnd::Signalled { signal: 11 },
        5 => PartEnd::NotStarted { message: "no such program".to_owned() },
        6 => PartEnd::Vanished,
        _ => PartEnd::TimeLimit,
    }
}
