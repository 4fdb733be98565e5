//! The broker's core with one node that declares what Slurm's does, moved by hand.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::command::PartNews;
use spillway_core::entity::{Group, Pool, Site};
use spillway_core::{Command, Reply};
use spillway_policies::Policy;
use spillway_sim::World;
use spillway_types::{
    Accelerator, AttemptId, Capabilities, Checkpoint, DurationMs, GroupName, Inventory, InventorySource,
    JobId, JobSpec, NodeCapacity, NodeId, PartEnd, Placement, Resources, RetryPolicy, Role, SiteKind, Tariff,
    UnixMs,
};

use crate::{CPUS, GPUS, name};

/// See the module.
pub(crate) struct Broker {
    pub(crate) world: World,
    node: NodeId,
}

impl Broker {
    /// At this second since 1970, with accounts (each with the one above it; `root` is above all) as groups, and
    /// users who may submit for every one.
    pub(crate) fn new(
        second: u64,
        tariff: Tariff,
        accounts: &[(&str, &str)],
        users: &BTreeSet<&str>,
    ) -> Self {
        let mut world = World::new(1, Policy::default());
        world.pass(instant(second).since(world.now()));
        let (site, pool) = (name("home"), name("main"));
        let mut must = |command| world.command(command).expect("the core takes the command");
        must(Command::DeclareSite(Site {
            name: name("home"),
            kind: SiteKind::OnPrem,
            jurisdiction: None,
            cloud: None,
        }));
        must(Command::DeclarePool(Pool {
            name: name("main"),
            site,
            tariff,
            groups: None,
            labels: [].into(),
        }));
        let accounts = accounts.iter().map(|(account, parent)| (*account, Some(*parent)));
        let accounts: Vec<_> = std::iter::once(("root", None)).chain(accounts).collect();
        for (account, parent) in &accounts {
            let (name, parent) = (name(account), parent.map(name));
            must(Command::DeclareGroup(Group {
                name,
                parent,
                weight: 1,
                priority: 0,
                budget_micros: None,
                budget_stated: None,
            }));
        }
        let groups: BTreeSet<GroupName> = accounts.iter().map(|(account, _)| name(account)).collect();
        for user in users {
            must(Command::DeclareUser { user: name(user), role: Role::Member, groups: groups.clone() });
        }
        must(Command::DeclareUser { user: name("admin"), role: Role::Admin, groups: [].into() });
        let node = world.join(&pool, &name("admin"), inventory()).expect("a node may join");
        world.connect(node).expect("a node may connect");
        Self { world, node }
    }

    pub(crate) fn must(&mut self, command: Command) -> Reply {
        self.world.command(command).expect("the core takes the command")
    }

    pub(crate) fn pass_to(&mut self, second: u64) {
        self.world.pass(instant(second).since(self.world.now()));
    }

    /// The node hears what it should do, does it, and reports.
    pub(crate) fn contact(&mut self) {
        for _ in 0..4 {
            self.world.contact_all().expect("the core takes what nodes say");
        }
    }

    pub(crate) fn submit(&mut self, spec: JobSpec, user: &str) -> JobId {
        let submission = Command::Submit { spec: Box::new(spec), user: name(user), key: None };
        let Reply::Job(id) = self.must(submission) else { panic!("a submission gives a job") };
        id
    }

    /// The node says that a part of its has ended, after so many seconds.
    pub(crate) fn says_ended(&mut self, attempt: AttemptId, ran_s: u64) {
        let news = PartNews::Ended { end: PartEnd::Exited { code: 0 }, ran_ms: ran_s * 1000 };
        self.world.node_mut(self.node).expect("the node is there").say(attempt, 0, news);
        self.world.deliver(self.node).expect("the core takes what nodes say");
    }
}

/// The instant of a second since 1970.
pub(crate) fn instant(second: u64) -> UnixMs {
    UnixMs(i64::try_from(second * 1000).expect("an instant of these years"))
}

fn inventory() -> Inventory {
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: name("H100"),
        memory_mib: 81_559,
        mig: vec![],
        domain: None,
    };
    Inventory {
        hostname: "localhost".to_owned(),
        capacity: NodeCapacity {
            accelerators: (0..GPUS).map(gpu).collect(),
            cpus_milli: CPUS * 1000,
            memory_mib: 65_536,
        },
        capabilities: Capabilities { process: true, container: false, fractions: false },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    }
}

/// A job on the one node, without a grace.
pub(crate) fn spec(account: &str, gpus: u64, cpus: u64, time_limit: DurationMs) -> JobSpec {
    JobSpec {
        name: "of-slurm".to_owned(),
        group: name(account),
        command: vec!["sleep".to_owned()],
        env: BTreeMap::new(),
        image: None,
        resources: Resources {
            gpus: (gpus > 0).then(|| name(&format!("H100:{gpus}"))),
            cpus_milli: u32::try_from(cpus * 1000).expect("a few processors"),
            memory_mib: 1,
        },
        nodes: 1,
        array: None,
        time_limit,
        expected: None,
        deadline: None,
        class: None,
        inputs: vec![],
        placement: Placement::default(),
        checkpoint: Checkpoint { grace: DurationMs(0), ..Checkpoint::default() },
        retry: RetryPolicy { max_attempts: 1, on_loss: false, on_failure: false },
        lease: DurationMs::from_secs(60),
    }
}
