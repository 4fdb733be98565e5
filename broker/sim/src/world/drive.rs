//! What the server and the machines around it do, one faithful step at a time.

use std::collections::BTreeSet;

use spillway_core::command::{InstanceNews, JoinProof, TickLimits};
use spillway_core::entity::GoneReason;
use spillway_core::{Command, Refusal, Reply, desired};
use spillway_types::lease::silence_until_over;
use spillway_types::{
    AttemptId, Capabilities, DurationMs, InstanceId, InstanceState, Inventory, InventorySource, NodeId,
    PoolName, UnixMs, UserName,
};

use super::{Keep, World};
use crate::node::Order;
use crate::{Answer, FakeNode, Link, Machine};

impl World {
    /// A machine redeems a join token of `pool` and becomes a node, which is not connected yet.
    ///
    /// # Errors
    /// [`Refusal`] where there is no such pool or it is a cloud's.
    pub fn join(
        &mut self,
        pool: &PoolName,
        issuer: &UserName,
        inventory: Inventory,
    ) -> Result<NodeId, Refusal> {
        let nonce = self.next_nonce();
        let (hash, lifetime) = (format!("token-{nonce}"), DurationMs::from_secs(600));
        let issue = Command::IssueJoinToken {
            hash: hash.clone(),
            pool: pool.clone(),
            lifetime,
            issuer: issuer.clone(),
        };
        self.command(issue)?;
        self.enrol(JoinProof::Token { hash }, inventory)
    }

    fn enrol(&mut self, proof: JoinProof, inventory: Inventory) -> Result<NodeId, Refusal> {
        let nonce = self.next_nonce();
        let hostname = inventory.hostname.clone();
        let reply = self.command(Command::Enrol { proof, key_hash: format!("key-{nonce}"), hostname })?;
        let Reply::Node(id) = reply else { unreachable!("an enrolment gives a node") };
        self.nodes.insert(id, FakeNode::new(id, inventory, nonce));
        Ok(id)
    }

    fn next_nonce(&mut self) -> u64 {
        self.nonces += 1;
        self.nonces
    }

    /// The node's agent says hello.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it; the node is not connected then.
    pub fn connect(&mut self, id: NodeId) -> Result<u64, Refusal> {
        let Some(node) = self.nodes.get(&id) else {
            return Err(Refusal::NotFound { kind: "node", id: id.to_string() });
        };
        let hello = Command::Connect {
            node: id,
            boot_nonce: node.boot_nonce,
            inventory: Box::new(node.inventory.clone()),
            observed: node.observed(),
            spool: Some(node.spool_head()),
        };
        let Reply::Session { epoch, acked, usage_after } = self.command(hello)? else {
            unreachable!("a hello gives a session")
        };
        if let Some(node) = self.nodes.get_mut(&id) {
            node.link = Link::Up { epoch };
            node.acknowledge(acked);
            node.mark_from(usage_after);
        }
        Ok(epoch)
    }

    /// The node's tunnel goes down; its programs run on.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn disconnect(&mut self, id: NodeId) -> Result<(), Refusal> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Link::Up { epoch } = std::mem::replace(&mut node.link, Link::Down) else { return Ok(()) };
        self.command(Command::Disconnect { node: id, epoch }).map(drop)
    }

    /// The node's agent starts anew and says hello; its disk and its programs are as they were.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn restart(&mut self, id: NodeId) -> Result<u64, Refusal> {
        let nonce = self.next_nonce();
        if let Some(node) = self.nodes.get_mut(&id) {
            node.boot_nonce = nonce;
            node.link = Link::Down;
        }
        self.connect(id)
    }

    /// Another machine with the node's identity, and nothing on its disk, says hello and takes over its session.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn copy(&mut self, id: NodeId) -> Result<u64, Refusal> {
        let nonce = self.next_nonce();
        if let Some(node) = self.nodes.get(&id) {
            let copy = node.copied(nonce);
            self.ghosts.extend(self.nodes.insert(id, copy));
        }
        self.connect(id)
    }

    /// The machine of a node breaks: nothing runs there, and nobody will hear of it.
    pub fn destroy(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }

    /// The machine of a node stops, and is out of sight; its disk stays.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub(crate) fn crash(&mut self, id: NodeId) -> Result<(), Refusal> {
        let gone = self.disconnect(id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.crash(self.now);
        }
        gone
    }

    /// Whether the node is there and connected.
    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.link != Link::Down)
    }

    /// Programs of a node that is out of sight go on until now: they end by themselves, or when their lease does.
    pub(crate) fn advance(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.advance(self.now);
        }
    }

    /// Declares the parts of a node silent that has said nothing since `since`, where leases, grace and margin are over.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub(crate) fn silence(&mut self, id: NodeId, since: UnixMs) -> Result<(), Refusal> {
        let quiet = self.now.since(since);
        let Some(node) = self.state().nodes.get(&id) else { return Ok(()) };
        let attempts = node.parts.keys().filter_map(|attempt| self.state().attempts.get(attempt));
        let over = attempts.filter(|attempt| quiet >= silence_until_over(attempt.lease, attempt.grace));
        let over: Vec<(AttemptId, usize)> =
            over.filter_map(|attempt| Some((attempt.id, attempt.part_on(id)?.0))).collect();
        for (attempt, rank) in over {
            let rank = u32::try_from(rank).unwrap_or(u32::MAX);
            self.command(Command::DeclareSilent { attempt, rank })?;
        }
        Ok(())
    }

    /// Nodes that are connected.
    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        let up = self.nodes.values().filter(|node| matches!(node.link, Link::Up { .. }));
        up.map(|node| node.id).collect()
    }

    pub(super) fn listed(&self, node: NodeId) -> BTreeSet<AttemptId> {
        desired::parts_at(self.state(), node).iter().map(|part| part.attempt.id).collect()
    }

    /// The broker says to a connected node what should be true there, and the node does it.
    pub fn instruct(&mut self, id: NodeId) {
        let wanted = desired::parts_at(self.federation.state(), id);
        let order = |part| Order::of(part, self.programs.get(&part.job.id));
        let orders: Vec<Order> = wanted.iter().map(order).collect();
        let listed: BTreeSet<AttemptId> = wanted.iter().map(|part| part.attempt.id).collect();
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.link != Link::Down) else { return };
        if self.keep == Keep::Everything {
            self.extended.extend(listed.iter().map(|attempt| ((*attempt, id), self.now)));
        }
        node.renew(&listed, self.now);
        node.obey(&orders, self.now);
        if self.keep == Keep::News {
            node.forget_acknowledged();
        }
    }

    /// Programs of a connected node whose time has come end. Its leases were extended all the while.
    pub(crate) fn finish(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.finish(self.now);
        }
    }

    /// A connected node reports what is not acknowledged.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn deliver(&mut self, id: NodeId) -> Result<(), Refusal> {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let (Link::Up { epoch }, (first, reports)) = (node.link, node.outbox()) else { return Ok(()) };
        if reports.is_empty() {
            return Ok(());
        }
        let reply = self.command(Command::Report { node: id, epoch, first, reports })?;
        if let (Reply::Acked(through), Some(node)) = (reply, self.nodes.get_mut(&id)) {
            node.acknowledge(through);
        }
        Ok(())
    }

    /// A connected node says what it has sent of its usage, where that is worth noting.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn state_usage(&mut self, id: NodeId) -> Result<(), Refusal> {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let (Link::Up { epoch }, (sent, age_ms)) = (node.link, node.usage_statement(self.now)) else {
            return Ok(());
        };
        if spillway_core::usage::news(self.state(), id, &sent, age_ms, self.now).is_none() {
            return Ok(());
        }
        self.command(Command::StateUsage { node: id, epoch, sent, age_ms }).map(drop)
    }

    /// Every connected node hears what it should do, does it, reports, and says what it has sent of its usage.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it: an agent that behaves is never refused.
    pub fn contact_all(&mut self) -> Result<(), Refusal> {
        for id in self.connected() {
            self.instruct(id);
            self.deliver(id)?;
            self.state_usage(id)?;
        }
        Ok(())
    }

    /// Declares parts silent whose leases were not extended for as long as they, their grace and the margin last.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn declare_silence(&mut self) -> Result<(), Refusal> {
        let mut over = vec![];
        for attempt in self.federation.state().attempts.values().filter(|a| a.state.occupies_nodes()) {
            let bound = silence_until_over(attempt.lease, attempt.grace);
            for (rank, part) in (0..).zip(&attempt.parts) {
                let Some(node) = part.node.filter(|_| !part.state.is_over()) else { continue };
                let since = attempt.leased.unwrap_or(attempt.placed);
                let since = self.extended.get(&(attempt.id, node)).map_or(since, |at| since.max(*at));
                if self.now.since(since) >= bound {
                    over.push(Command::DeclareSilent { attempt: attempt.id, rank });
                }
            }
        }
        over.into_iter().try_for_each(|command| self.command(command).map(drop))
    }

    /// Time is told to the federation.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn tick(&mut self, limits: TickLimits) -> Result<(), Refusal> {
        self.command(Command::Tick { limits }).map(drop)
    }

    /// The provider is asked for one instance, and answers so.
    ///
    /// # Errors
    /// [`Refusal`] where the instance is not to be asked for now.
    pub fn launch(&mut self, id: InstanceId, answer: Answer, boot: DurationMs) -> Result<(), Refusal> {
        self.command(Command::StepInstance { instance: id, what: InstanceNews::Asking })?;
        // A repeated call finds the machine that the first one made.
        let exists = self.machines.contains_key(&id);
        if !exists && matches!(answer, Answer::Launched | Answer::Lost | Answer::Unheard) {
            let (provider_id, boots) = (format!("i-{id}"), self.now.plus(boot));
            self.machines.insert(id, Machine { provider_id, launched: self.now, boots, node: None });
        }
        let what = match (answer, self.machines.get(&id)) {
            (Answer::Unheard, _) => return Ok(()),
            (Answer::Lost | Answer::Silence, _) => InstanceNews::Doubt,
            (Answer::Launched | Answer::NoCapacity, Some(machine)) => {
                InstanceNews::Exists { provider_id: machine.provider_id.clone(), launched: machine.launched }
            }
            (Answer::Launched | Answer::NoCapacity, None) => InstanceNews::Gone(GoneReason::NoCapacity),
        };
        self.command(Command::StepInstance { instance: id, what }).map(drop)
    }

    /// The machine of an instance is no more, and the provider says so.
    ///
    /// # Errors
    /// [`Refusal`] where there is no such instance.
    pub fn take_away(&mut self, id: InstanceId, why: GoneReason) -> Result<(), Refusal> {
        if let Some(node) = self.machines.remove(&id).and_then(|machine| machine.node) {
            self.destroy(node);
        }
        self.command(Command::StepInstance { instance: id, what: InstanceNews::Gone(why) }).map(drop)
    }

    /// The agent of a machine that has booted dials in for the first time.
    ///
    /// # Errors
    /// [`Refusal`] where the instance is not wanted any more.
    pub fn boot(&mut self, id: InstanceId) -> Result<NodeId, Refusal> {
        let instance = self.state().instances.get(&id);
        let capacity = instance.map(|instance| instance.capacity.clone()).unwrap_or_default();
        let inventory = Inventory {
            hostname: format!("machine-{id}"),
            capacity,
            capabilities: Capabilities { process: true, container: true, fractions: false },
            source: InventorySource::Declared,
            labels: std::collections::BTreeMap::new(),
        };
        let node = self.enrol(JoinProof::Instance { instance: id }, inventory)?;
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.node = Some(node);
        }
        self.connect(node)?;
        Ok(node)
    }

    /// One round of the driver of clouds: asks for what is wanted, ends what is not, lets booted agents dial in.
    ///
    /// # Errors
    /// [`Refusal`] as the federation said it.
    pub fn drive_clouds(&mut self, answer: Answer, boot: DurationMs) -> Result<(), Refusal> {
        let known: Vec<(InstanceId, InstanceState)> =
            self.state().instances.values().map(|instance| (instance.id, instance.state)).collect();
        for (id, state) in known {
            match state {
                InstanceState::Intended | InstanceState::Launching | InstanceState::Unknown => {
                    self.launch(id, answer, boot)?;
                }
                InstanceState::Terminating => self.take_away(id, GoneReason::Terminated)?,
                InstanceState::Booting
                | InstanceState::Ready
                | InstanceState::Draining
                | InstanceState::Gone => {}
            }
        }
        let booted = |machine: &Machine| machine.node.is_none() && machine.boots <= self.now;
        let due: Vec<InstanceId> =
            self.machines.iter().filter(|(_, machine)| booted(machine)).map(|(id, _)| *id).collect();
        for id in due.into_iter().filter(|id| self.wants_agent(*id)).collect::<Vec<_>>() {
            self.boot(id)?;
        }
        Ok(())
    }

    fn wants_agent(&self, id: InstanceId) -> bool {
        self.state().instances.get(&id).is_some_and(|instance| {
            matches!(
                instance.state,
                InstanceState::Launching | InstanceState::Booting | InstanceState::Unknown
            )
        })
    }
}
