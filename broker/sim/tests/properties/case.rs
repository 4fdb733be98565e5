//! One case: a world, what was reported in it, and what must be true of it after every choice.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::Command;
use spillway_core::command::PartNews;
use spillway_core::entity::{Group, Pool, Site};
use spillway_policies::{CloudOffer, Decision, Policy};
use spillway_sim::{FakeNode, Link, Watch, World};
use spillway_types::{
    Accelerator, AttemptId, Capabilities, DurationMs, HourlyRate, Inventory, InventorySource, JobId,
    NodeCapacity, NodeId, Role, SiteKind, Tariff,
};

pub(crate) const DOLLAR: i64 = 1_000_000;

/// Whether agents tell the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    Honest,
    Lying,
}

pub(crate) struct Case {
    pub(crate) world: World,
    pub(crate) manners: Manners,
    pub(crate) jobs: Vec<JobId>,
    /// Decisions of an earlier plan, to be carried out too late.
    pub(crate) stale: Vec<Decision>,
    /// How far each part's run was reported by its own node while its attempt was not settled.
    reported: BTreeMap<(AttemptId, u32), u64>,
    pub(crate) keys: u32,
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn inventory(model: &str, gpus: u32) -> Inventory {
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: name(model),
        memory_mib: 81_559,
        mig: vec![],
        domain: None,
    };
    let capacity = NodeCapacity {
        accelerators: (0..gpus).map(gpu).collect(),
        cpus_milli: 16_000,
        memory_mib: 64 * 1024,
    };
    Inventory {
        hostname: format!("{}-box", model.to_lowercase()),
        capacity,
        capabilities: Capabilities { process: true, container: true, fractions: true },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    }
}

impl Case {
    /// Two on-prem nodes, a personal one, a cloud with two shapes, a tree of groups with budgets, three users.
    pub(crate) fn new(manners: Manners) -> Self {
        let mut world = World::new(1, Policy::default());
        let site = |name_, kind, cloud: Option<&str>| {
            Command::DeclareSite(Site { name: name(name_), kind, jurisdiction: None, cloud: cloud.map(name) })
        };
        let pool = |pool, at, per_gpu, groups: Option<&[&str]>| {
            let tariff = Tariff { per_gpu: HourlyRate(per_gpu), per_cpu: HourlyRate(1000) };
            let groups = groups.map(|groups| groups.iter().map(|group| name(group)).collect());
            Command::DeclarePool(Pool { name: name(pool), site: name(at), tariff, groups, labels: [].into() })
        };
        let user = |user, role, groups: &[&str]| Command::DeclareUser {
            user: name(user),
            role,
            groups: groups.iter().map(|group| name(group)).collect(),
        };
        let start = [
            site("home", SiteKind::OnPrem, None),
            site("desk", SiteKind::Personal, None),
            site("east", SiteKind::Cloud, Some("mock")),
            pool("main", "home", DOLLAR, None),
            pool("desk", "desk", DOLLAR / 2, Some(&["lab"])),
            pool("east", "east", 0, None),
            group("org", None, None),
            group("lab", Some("org"), Some(400 * DOLLAR)),
            group("ops", Some("org"), None),
            user("ada", Role::Member, &["lab"]),
            user("bob", Role::Member, &["ops"]),
            user("root", Role::Admin, &[]),
        ];
        for command in start {
            world.command(command).unwrap();
        }
        let (jobs, stale, reported) = (vec![], vec![], BTreeMap::new());
        let mut case = Self { world, manners, jobs, stale, reported, keys: 0 };
        case.set_offers(20, 100);
        for machine in [0, 0, 1] {
            case.join(machine);
        }
        case.world.watch(Watch::Everything);
        case
    }

    pub(crate) fn set_offers(&mut self, dollars: i64, available: u32) {
        let offer = |shape, model, gpus, dollars: i64| CloudOffer {
            cloud: name("mock"),
            site: name("east"),
            jurisdiction: None,
            instance_type: name(shape),
            capacity: inventory(model, gpus).capacity,
            price: HourlyRate(dollars * DOLLAR),
            boot: DurationMs::from_secs(60),
            available,
            terms: spillway_types::OfferTerms::default(),
        };
        self.world.set_offers(vec![offer("big", "H100", 4, dollars), offer("small", "A100", 1, dollars / 4)]);
    }

    /// A new machine joins and says hello.
    pub(crate) fn join(&mut self, kind: u32) {
        let (pool, inventory) =
            if kind == 0 { ("main", inventory("H100", 4)) } else { ("desk", inventory("A100", 2)) };
        if let Ok(id) = self.world.join(&name(pool), &name("root"), inventory) {
            self.world.connect(id).ok();
        }
    }

    /// Gives a command whose refusal is as fine as its success.
    pub(crate) fn give(&mut self, command: Command) {
        self.world.command(command).ok();
    }

    pub(crate) fn contact_all(&mut self) {
        for id in self.world.connected() {
            self.world.instruct(id);
            self.deliver(id);
        }
    }

    /// The node reports; what counts of it is noted.
    pub(crate) fn deliver(&mut self, id: NodeId) {
        let Some(node) = self.world.nodes().get(&id) else { return };
        let Link::Up { epoch } = node.link else { return };
        if self.world.state().nodes.get(&id).is_none_or(|known| known.epoch != epoch) {
            return;
        }
        for report in node.outbox().1 {
            let attempt = self.world.state().attempts.get(&report.attempt);
            let part = attempt.and_then(|attempt| attempt.parts.get(report.rank as usize));
            if part.is_none_or(|part| part.node != Some(id)) {
                continue;
            }
            let until = match report.news {
                PartNews::Usage { to_ms, .. } => to_ms,
                PartNews::Ended { ran_ms, .. } => ran_ms,
                PartNews::Prepared | PartNews::Started | PartNews::Moved { .. } | PartNews::Output => 0,
            };
            let known = self.reported.entry((report.attempt, report.rank)).or_default();
            *known = until.max(*known);
        }
        self.world.deliver(id).ok();
    }

    /// What is wrong now.
    pub(crate) fn defects(&self) -> Vec<String> {
        let mut defects = self.world.defects().to_vec();
        defects.extend(self.world.federation().violations().iter().cloned());
        if self.manners == Manners::Honest {
            let twice = self.world.running().into_iter().filter(|(_, attempts)| attempts.len() > 1);
            defects.extend(twice.map(|(task, attempts)| format!("{task:?} runs twice: {attempts:?}")));
        }
        defects.extend(self.strays());
        defects
    }

    /// Machines that live at the provider without an intent.
    fn strays(&self) -> Vec<String> {
        let known: BTreeSet<_> = self.world.state().instances.keys().collect();
        let strays = self.world.machines().keys().filter(|id| !known.contains(id));
        strays.map(|id| format!("{id} lives without an intent")).collect()
    }

    /// What is wrong with the accounts of settled attempts: each part is charged what its node reported, once.
    pub(crate) fn account(&self) -> Vec<String> {
        let mut wrong = vec![];
        for attempt in self.world.records().attempts.values() {
            let (leased, ended) = (attempt.leased, attempt.ended);
            let seen = leased.zip(ended).map_or(0, |(leased, ended)| ended.since(leased).0 + 2_000);
            let mut gpu_ms = 0;
            for (rank, part) in (0..).zip(&attempt.parts) {
                let reported = self.reported.get(&(attempt.id, rank)).copied().unwrap_or(0);
                let charged = attempt.slices.charged_ms(rank);
                gpu_ms += part.allocation.blocks() * charged / 100;
                let right = match self.manners {
                    Manners::Honest => charged == reported,
                    Manners::Lying => charged <= reported.min(seen),
                };
                if !right {
                    wrong.push(format!(
                        "{} part {rank}: {reported} ms reported, {charged} charged",
                        attempt.id
                    ));
                }
            }
            let entries = self.world.records().entries.iter();
            let own: Vec<_> = entries.filter(|entry| entry.subject().attempt == attempt.id).collect();
            let slices = || own.iter().filter(|entry| !entry.key().ends_with("/overhead"));
            let posted: u64 = own.iter().map(|entry| entry.gpu_ms()).sum();
            let spent: i64 = slices().map(|entry| entry.spend_micros()).sum();
            if (attempt.gpu_ms, attempt.cost_micros) != (posted, spent) || gpu_ms != posted {
                wrong.push(format!("{}: {posted} ms and {spent} micros posted: {attempt:?}", attempt.id));
            }
        }
        wrong
    }

    pub(crate) fn pick<T: Copy>(all: &[T], choice: u32) -> Option<T> {
        let index = (choice as usize).checked_rem(all.len())?;
        all.get(index).copied()
    }

    /// One of the machines that are there.
    pub(crate) fn machine(&self, choice: u32) -> Option<NodeId> {
        let all: Vec<NodeId> = self.world.nodes().keys().copied().collect();
        Self::pick(&all, choice)
    }

    pub(crate) fn down(&self) -> Vec<NodeId> {
        let down = |node: &&FakeNode| node.link == Link::Down;
        self.world.nodes().values().filter(down).map(|node| node.id).collect()
    }
}

pub(crate) fn group(group: &str, parent: Option<&str>, budget_micros: Option<i64>) -> Command {
    let (name, parent) = (name(group), parent.map(name));
    Command::DeclareGroup(Group { name, parent, weight: 1, priority: 0, budget_micros, budget_stated: None })
}
