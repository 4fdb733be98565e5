//! Nodes: enrolment, sessions, and where they stand.

use spillway_ledger::journal::NodeUsage;
use spillway_types::{
    AttemptId, AttemptState, InstanceId, InstanceStep, NodeId, NodeState, NodeStep, UnixMs,
};

use super::ApplyError;
use crate::entity::Node;
use crate::{Event, Key, State};

impl State {
    pub(super) fn apply_to_node(&mut self, at: UnixMs, event: &Event) -> Result<(), ApplyError> {
        if let Event::NodeEnrolled { .. } = event {
            self.enrol(at, event)
        } else if let Event::NodeConnected { node, epoch, boot_nonce, inventory, missing } = event {
            let entry = self.node_mut(*node)?;
            entry.state = entry.state.after(NodeStep::Connect)?;
            entry.epoch = *epoch;
            entry.boot_nonce = *boot_nonce;
            entry.hostname.clone_from(&inventory.hostname);
            let before = entry.inventory.replace(inventory.as_ref().clone());
            entry.since = at;
            let (instance, pool) = (entry.instance, entry.pool.clone());
            if instance.is_none() {
                self.note_capacity(&pool, (before.as_ref(), Some(inventory)), at);
            }
            for attempt in missing {
                self.mark_missing(*attempt, *node)?;
            }
            instance.map_or(Ok(()), |instance| self.join_instance(instance, *node, at))
        } else if let Event::NodeStepped { node, step } = event {
            let entry = self.node_mut(*node)?;
            entry.state = entry.state.after(*step)?;
            entry.since = at;
            match step {
                NodeStep::Cordon => entry.cordoned = true,
                NodeStep::Uncordon => entry.cordoned = false,
                NodeStep::Connect
                | NodeStep::Disconnect
                | NodeStep::Lose
                | NodeStep::Drain
                | NodeStep::OwnerHold
                | NodeStep::OwnerRelease
                | NodeStep::Leave => {}
            }
            if entry.state == NodeState::Gone
                && let Some(gone) = self.nodes.remove(node)
            {
                if gone.usage.count() > 0 {
                    self.touch(Key::SiteUsage(gone.site.clone()));
                    self.site_usage.entry(gone.site.clone()).or_default().leave(gone.id, &gone.usage);
                }
                if gone.instance.is_none() {
                    self.note_capacity(&gone.pool, (gone.inventory.as_ref(), None), at);
                }
                self.changes.ended_nodes.push(gone);
            }
            Ok(())
        } else if let Event::SpoolAcked { node, through, usage } = event {
            let entry = self.node_mut(*node)?;
            entry.acked = *through;
            if let Some(mark) = usage {
                entry.usage.mark = *mark;
            }
            Ok(())
        } else if let Event::UsageMarkBegun { node, after } = event {
            self.node_mut(*node)?.usage.begin(*after);
            Ok(())
        } else if let Event::UsageStated { node, sent, complete_to } = event {
            self.node_mut(*node)?.usage.hear(*sent, *complete_to);
            Ok(())
        } else {
            Ok(())
        }
    }

    fn enrol(&mut self, at: UnixMs, event: &Event) -> Result<(), ApplyError> {
        let Event::NodeEnrolled { node, pool, instance, join_token, key_hash, hostname } = event else {
            return Ok(());
        };
        let site = self.pools.get(pool).ok_or_else(|| ApplyError::missing(pool))?.site.clone();
        if let Some(hash) = join_token {
            self.touch(Key::JoinToken(hash.clone()));
            let token = self.join_tokens.get_mut(hash).ok_or_else(|| ApplyError::missing("join token"))?;
            token.redeemed = Some((*node, key_hash.clone()));
        }
        if let Some(id) = instance {
            self.instance_mut(*id)?.node = Some(*node);
        }
        self.touch(Key::Node(*node));
        let entry = Node {
            id: *node,
            state: NodeState::Joining,
            site,
            pool: pool.clone(),
            instance: *instance,
            key_hash: key_hash.clone(),
            hostname: hostname.clone(),
            epoch: 0,
            boot_nonce: 0,
            inventory: None,
            acked: 0,
            usage: NodeUsage::default(),
            parts: std::collections::BTreeMap::new(),
            since: at,
            cordoned: false,
        };
        self.nodes.insert(*node, entry);
        Ok(())
    }

    /// The instance is a node now: what waits for it has its share of it from here on, so that nobody else gets
    /// it while the rest of a gang is awaited.
    fn join_instance(&mut self, id: InstanceId, node: NodeId, at: UnixMs) -> Result<(), ApplyError> {
        let instance = self.instance_mut(id)?;
        instance.state = instance.state.after(InstanceStep::Join)?;
        instance.ready.get_or_insert(at);
        instance.node = Some(node);
        let attempt = instance.attempt;
        if self.attempts.get(&attempt).is_some_and(|attempt| attempt.state == AttemptState::Held) {
            self.bind(attempt, id, (node, at))?;
        }
        Ok(())
    }

    fn mark_missing(&mut self, attempt: AttemptId, node: NodeId) -> Result<(), ApplyError> {
        let attempt = self.attempt_mut(attempt)?;
        for part in attempt.parts.iter_mut().filter(|part| part.node == Some(node)) {
            part.missing = true;
        }
        Ok(())
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, ApplyError> {
        self.changes.touched.insert(Key::Node(id));
        self.nodes.get_mut(&id).ok_or_else(|| ApplyError::missing(id))
    }
}
