//! All faults stop: then every job ends, everything is settled, and the accounts are right.

use spillway_core::Command;
use spillway_core::command::TickLimits;
use spillway_ledger::Account;
use spillway_ledger::journal::Said;
use spillway_sim::Answer;
use spillway_types::{DurationMs, NodeId, NodeState, NodeStep};

use crate::case::{Case, group, inventory, name};
use crate::choices::BOOT;

/// Rounds of two minutes within which everything must be over: three hours of virtual time.
const ROUNDS: u32 = 90;

impl Case {
    /// Lets everything come to its end; says what is left or wrong.
    pub(crate) fn end(&mut self) -> Vec<String> {
        self.heal();
        let mut rounds = 0;
        while !self.is_over() && rounds < ROUNDS {
            rounds += 1;
            self.round();
            let defects = self.defects();
            if !defects.is_empty() {
                return defects;
            }
        }
        let mut wrong = self.left_over();
        wrong.extend(self.account());
        wrong.extend(self.paid());
        wrong.extend(self.marks());
        match self.world.replayed() {
            Ok(state) if state == *self.world.state() => {}
            Ok(_) => wrong.push("the journal gives another state".to_owned()),
            Err(error) => wrong.push(format!("the journal cannot be replayed: {error}")),
        }
        wrong
    }

    /// Limits are lifted, holds are released, doors are opened, two sound machines of each kind join.
    fn heal(&mut self) {
        for (name_, parent) in [("org", None), ("lab", Some("org")), ("ops", Some("org"))] {
            self.give(group(name_, parent, None));
        }
        for pool in ["main", "desk"] {
            let mut pool = self.world.state().pools[&name(pool)].clone();
            pool.groups = None;
            self.give(Command::DeclarePool(pool));
        }
        for job in self.jobs.clone() {
            self.give(Command::Release { job, user: name("root") });
        }
        self.set_offers(20, 100);
        for kind in [0, 0, 1, 1] {
            self.join(kind);
        }
        for id in self.down() {
            if let Some(node) = self.world.node_mut(id) {
                match node.inventory.hostname.as_str() {
                    "h100-box" => node.inventory = inventory("H100", 4),
                    "a100-box" => node.inventory = inventory("A100", 2),
                    _ => {}
                }
            }
        }
    }

    fn round(&mut self) {
        for id in self.down() {
            self.world.connect(id).ok();
        }
        let nodes: Vec<(NodeId, NodeState)> =
            self.world.state().nodes.values().map(|node| (node.id, node.state)).collect();
        for (node, state) in nodes {
            match state {
                NodeState::Cordoned => self.give(Command::StepNode { node, step: NodeStep::Uncordon }),
                NodeState::OwnerHeld => self.give(Command::StepNode { node, step: NodeStep::OwnerRelease }),
                NodeState::Joining
                | NodeState::Ready
                | NodeState::Draining
                | NodeState::Disconnected
                | NodeState::Lost
                | NodeState::Gone => {}
            }
        }
        self.world.declare_silence().ok();
        self.world.drive_clouds(Answer::Launched, BOOT).ok();
        self.world.tick(TickLimits::default()).ok();
        self.world.place().ok();
        // A gang is prepared in the first contact, started in the second.
        self.contact_all();
        self.contact_all();
        self.world.pass(DurationMs::from_secs(120));
        self.contact_all();
    }

    fn is_over(&self) -> bool {
        let state = self.world.state();
        state.jobs.is_empty() && state.attempts.is_empty() && state.instances.is_empty()
    }

    fn left_over(&self) -> Vec<String> {
        let state = self.world.state();
        let mut left: Vec<String> = state.jobs.values().map(|job| format!("left: {job:?}")).collect();
        left.extend(state.attempts.values().map(|attempt| format!("left: {attempt:?}")));
        left.extend(state.instances.values().map(|instance| format!("left: {instance:?}")));
        left.extend(self.world.machines().values().map(|machine| format!("left: {machine:?}")));
        let occupied = state.nodes.values().filter(|node| !node.parts.is_empty());
        left.extend(occupied.map(|node| format!("still occupied: {node:?}")));
        for name_ in ["org", "lab", "ops"] {
            if state.book.held(&name(name_)) != 0 {
                left.push(format!("{name_} still holds money"));
            }
        }
        let ended = |job| self.world.records().jobs.contains_key(job);
        left.extend(self.jobs.iter().filter(|job| !ended(job)).map(|job| format!("{job} was lost")));
        left
    }

    /// Every node and the broker have the same mark of what was used, and nobody ever said otherwise.
    fn marks(&self) -> Vec<String> {
        let (now, state) = (self.world.now(), self.world.state());
        let mut wrong = vec![];
        for node in state.nodes.values() {
            let Some(machine) = self.world.nodes().get(&node.id) else { continue };
            let (sent, _) = machine.usage_statement(now);
            if sent.last() <= node.acked && sent != node.usage.mark {
                wrong.push(format!("{} sent {sent}, here are {}", node.id, node.usage.mark));
            }
            if let Some(said @ Said::Differs { .. }) = node.usage.said {
                wrong.push(format!("{}: {said:?}", node.id));
            }
        }
        wrong
    }

    /// What the cloud is owed is what its machines cost, slices and overhead together; and what groups have
    /// spent, with what nobody used of pools and what those cost beside, others are owed.
    fn paid(&self) -> Vec<String> {
        let (state, records) = (self.world.state(), self.world.records());
        let owed = |account: &Account| -state.book.balance(account);
        let cloud = owed(&Account::Payable { cloud: name("mock"), site: name("east") });
        let cost: i64 =
            records.instances.values().map(|instance| instance.cost_micros(self.world.now())).sum();
        let sites = owed(&Account::Revenue(name("home"))) + owed(&Account::Revenue(name("desk")));
        let spent = state.book.spent(&name("org"));
        let mut wrong = vec![];
        if cloud != cost {
            wrong.push(format!("the cloud is owed {cloud}, its machines cost {cost}"));
        }
        let beside = state.book.balance(&Account::Idle(name("main")))
            + state.book.balance(&Account::Variance(name("home")));
        if spent + beside != cloud + sites {
            wrong.push(format!("{spent} spent, {beside} by nobody, {cloud} and {sites} owed"));
        }
        wrong
    }
}
