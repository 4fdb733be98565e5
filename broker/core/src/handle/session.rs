//! Machines become nodes; nodes come, go and are told what to do.

use std::collections::BTreeSet;

use spillway_types::{
    AttemptId, AttemptState, FreeResources, InstanceState, Inventory, NodeId, NodeState, NodeStep,
};

use super::{outcome, usage};
use crate::command::{JoinProof, SpoolHead};
use crate::entity::{Node, PartState, StopCause};
use crate::federation::Turn;
use crate::refusal::JoinRefusal;
use crate::{Event, Refusal, Reply, State};

pub(super) fn start_broker(turn: &mut Turn<'_>, deployment: String) -> Reply {
    let deployment =
        if turn.state.deployment.is_empty() { deployment } else { turn.state.deployment.clone() };
    turn.emit(Event::BrokerStarted { incarnation: turn.state.incarnation + 1, deployment });
    let connected =
        |node: &&Node| matches!(node.state, NodeState::Ready | NodeState::Cordoned | NodeState::OwnerHeld);
    let nodes: Vec<NodeId> = turn.state.nodes.values().filter(connected).map(|node| node.id).collect();
    for node in nodes {
        turn.emit(Event::NodeStepped { node, step: NodeStep::Disconnect });
    }
    Reply::Done
}

pub(super) fn enrol(
    turn: &mut Turn<'_>,
    proof: &JoinProof,
    key_hash: String,
    hostname: String,
) -> Result<Reply, Refusal> {
    let refused = |why| Err(Refusal::JoinToken(why));
    let (pool, instance, join_token) = match proof {
        JoinProof::Token { hash } => {
            let Some(token) = turn.state.join_tokens.get(hash) else { return refused(JoinRefusal::Unknown) };
            // A lost reply must not brick a machine: the same key gets the same answer while the token lives.
            match &token.redeemed {
                Some((node, key)) if *key == key_hash && turn.now < token.expires => {
                    return Ok(Reply::Node(*node));
                }
                Some(_) => return refused(JoinRefusal::Used),
                None if turn.now >= token.expires => return refused(JoinRefusal::Expired),
                None => (token.scope.pool.clone(), None, Some(hash.clone())),
            }
        }
        JoinProof::Instance { instance } => {
            let Some(entry) = turn.state.instances.get(instance) else {
                return refused(JoinRefusal::Unwanted);
            };
            if !matches!(
                entry.state,
                InstanceState::Launching
                    | InstanceState::Booting
                    | InstanceState::Unknown
                    | InstanceState::Ready
            ) {
                return refused(JoinRefusal::Unwanted);
            }
            if let Some(node) = entry.node.and_then(|node| turn.state.nodes.get(&node)) {
                return if node.key_hash == key_hash {
                    Ok(Reply::Node(node.id))
                } else {
                    refused(JoinRefusal::Used)
                };
            }
            let pool = entry.pool().ok_or(Refusal::JoinToken(JoinRefusal::Unwanted))?;
            (pool, Some(*instance), None)
        }
    };
    if !turn.state.pools.contains_key(&pool) {
        return Err(Refusal::NotFound { kind: "pool", id: pool.to_string() });
    }
    let node = NodeId::generate(turn.ids);
    turn.emit(Event::NodeEnrolled { node, pool, instance, join_token, key_hash, hostname });
    Ok(Reply::Node(node))
}

pub(super) fn connect(
    turn: &mut Turn<'_>,
    id: NodeId,
    boot_nonce: u64,
    inventory: Box<Inventory>,
    (observed, spool): (&BTreeSet<AttemptId>, Option<SpoolHead>),
) -> Result<Reply, Refusal> {
    let node = find(turn, id)?;
    let after = node.state.after(NodeStep::Connect)?;
    let cordoned = node.cordoned && after == NodeState::Ready;
    let (epoch, acked, instance) = (node.epoch + 1, node.acked, node.instance);
    // Two agents with one identity: what the other one may run is out of this one's sight.
    let connected = matches!(node.state, NodeState::Ready | NodeState::Cordoned | NodeState::OwnerHeld);
    let supplanted = connected && node.boot_nonce != boot_nonce && node.epoch > 0;
    if let Some(instance) = instance.and_then(|id| turn.state.instances.get(&id)) {
        instance.state.after(spillway_types::InstanceStep::Join)?;
    }
    check_inventory(turn.state, node, &inventory)?;
    let missing = missing_parts(turn, id, observed, supplanted);
    turn.emit(Event::NodeConnected { node: id, epoch, boot_nonce, inventory, missing });
    if cordoned {
        turn.emit(Event::NodeStepped { node: id, step: NodeStep::Cordon });
    }
    outcome::lease_what_waited(turn, id);
    let usage_after = usage::meet(turn, id, spool);
    Ok(Reply::Session { epoch, acked, usage_after })
}

/// Refuses an inventory that does not hold what the node was given to run, or what is about to run there.
fn check_inventory(state: &State, node: &Node, inventory: &Inventory) -> Result<(), Refusal> {
    let mut free = FreeResources::all_of(&inventory.capacity);
    let lacks = |what: String, problem: &str| Refusal::Invalid {
        field: "inventory",
        value: inventory.hostname.clone(),
        problem: format!("lacks {what}, {problem}"),
    };
    for (attempt, allocation) in &node.parts {
        let way_out = || format!("which {attempt} has of it: the node can return once its leases are over");
        free.take(allocation).map_err(|error| lacks(error.what, &way_out()))?;
    }
    for (attempt, allocation) in awaited(state, node) {
        let way_out = || format!("which {attempt} waits for: its instance type promises more than it has");
        free.take(allocation).map_err(|error| lacks(error.what, &way_out()))?;
    }
    Ok(())
}

/// What the node will have to give once it is there, to the attempt that its instance was launched for.
fn awaited<'a>(
    state: &'a State,
    node: &'a Node,
) -> impl Iterator<Item = (AttemptId, &'a spillway_types::Allocation)> {
    let instance = node.instance.and_then(|id| state.instances.get(&id));
    let attempt = instance.and_then(|instance| state.attempts.get(&instance.attempt));
    let attempt = attempt.filter(|a| a.state == AttemptState::Held && !node.parts.contains_key(&a.id));
    attempt.into_iter().flat_map(move |attempt| {
        let parts = attempt.parts.iter().filter(|part| part.instance == node.instance);
        parts.map(|part| (attempt.id, &part.allocation))
    })
}

/// Attempts with a part on this node that may be running but that the node does not know.
fn missing_parts(
    turn: &Turn<'_>,
    id: NodeId,
    observed: &BTreeSet<AttemptId>,
    supplanted: bool,
) -> Vec<AttemptId> {
    let Some(node) = turn.state.nodes.get(&id) else { return vec![] };
    let is_missing = |attempt: &&AttemptId| {
        let part = turn.state.attempts.get(attempt).and_then(|attempt| attempt.part_on(id));
        part.is_some_and(|(_, part)| match part.state {
            PartState::Waiting | PartState::Ended { .. } | PartState::Silent => false,
            PartState::Leased => supplanted,
            PartState::Prepared | PartState::Running => true,
        })
    };
    node.parts.keys().filter(|attempt| !observed.contains(attempt)).filter(is_missing).copied().collect()
}

pub(super) fn disconnect(turn: &mut Turn<'_>, id: NodeId, epoch: u64) -> Result<Reply, Refusal> {
    let node = find(turn, id)?;
    if node.epoch == epoch && node.state.after(NodeStep::Disconnect).is_ok_and(|after| after != node.state) {
        turn.emit(Event::NodeStepped { node: id, step: NodeStep::Disconnect });
    }
    Ok(Reply::Done)
}

pub(super) fn step_node(turn: &mut Turn<'_>, id: NodeId, step: NodeStep) -> Result<Reply, Refusal> {
    let node = find(turn, id)?;
    if matches!(step, NodeStep::Connect | NodeStep::Disconnect | NodeStep::Lose) {
        let problem = "cannot be asked for: it follows from what the node's agent does".to_owned();
        return Err(Refusal::Invalid { field: "step", value: format!("{step:?}").to_lowercase(), problem });
    }
    node.state.after(step)?;
    if step == NodeStep::Leave && !node.parts.is_empty() {
        let problem =
            format!("still has {} attempts: drain it first, or wait until they end", node.parts.len());
        return Err(Refusal::Invalid { field: "node", value: id.to_string(), problem });
    }
    turn.emit(Event::NodeStepped { node: id, step });
    outcome::lease_what_waited(turn, id);
    Ok(Reply::Done)
}

pub(super) fn interrupt(turn: &mut Turn<'_>, id: NodeId) -> Result<Reply, Refusal> {
    let node = find(turn, id)?;
    let attempts: Vec<AttemptId> = node.parts.keys().copied().collect();
    if node.state.after(NodeStep::Drain).is_ok_and(|after| after != node.state) {
        turn.emit(Event::NodeStepped { node: id, step: NodeStep::Drain });
    }
    for attempt in attempts {
        outcome::stop(turn, attempt, StopCause::Preempted);
    }
    Ok(Reply::Done)
}

pub(super) fn find<'a>(turn: &'a Turn<'_>, id: NodeId) -> Result<&'a Node, Refusal> {
    turn.state.nodes.get(&id).ok_or_else(|| Refusal::NotFound { kind: "node", id: id.to_string() })
}

/// Whether every part of the attempt has a node that is ready for it.
pub(super) fn is_whole(turn: &Turn<'_>, id: AttemptId) -> bool {
    let Some(attempt) = turn.state.attempts.get(&id).filter(|attempt| attempt.state == AttemptState::Held)
    else {
        return false;
    };
    attempt.parts.iter().all(|part| {
        let instance = part.instance.and_then(|id| turn.state.instances.get(&id));
        let node = instance.and_then(|instance| instance.node).and_then(|id| turn.state.nodes.get(&id));
        node.is_some_and(|node| node.state == NodeState::Ready)
    })
}
