//! Nodes, and what a person does to them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State as Handed;
use spillway_api::v1::{GpuSummary, NodeAction, NodeView, Page};
use spillway_api::{ApiError, ErrorCode, parse};
use spillway_core::entity::{Node, Pool};
use spillway_core::{Command, State};
use spillway_types::{
    Capabilities, FreeResources, GpuModel, GroupName, NodeCapacity, NodeId, NodeState, NodeStep, SiteKind,
};

use super::Shared;
use super::auth::{Caller, Who};
use super::failure::Failure;
use super::input::{self, Segments};

pub(super) async fn list(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
) -> Result<Json<Page<NodeView>>, Failure> {
    let read = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        let open = |node: &&Node| state.pools.get(&node.pool).is_none_or(|pool| may_use(state, &who, pool));
        state.nodes.values().filter(open).map(|node| show(node, state)).collect()
    };
    Ok(Json(Page { items: api.app.engine.read(read).await?, next: None }))
}

pub(super) async fn change(
    Handed(api): Handed<Shared>,
    Caller(who): Caller,
    Segments(id, action): Segments,
) -> Result<Json<NodeView>, Failure> {
    let id: NodeId = input::parsed("id", &id)?;
    let action = node_action(&action)?;
    let find = move |view: &crate::View<'_>| {
        let state = view.federation.state();
        state.nodes.get(&id).map(|node| show(node, state))
    };
    let before = api.app.engine.read(find).await?.ok_or_else(|| Failure(ApiError::not_found("node", &id)))?;
    let step = match action {
        NodeAction::Cordon => NodeStep::Cordon,
        NodeAction::Uncordon => NodeStep::Uncordon,
        NodeAction::Drain => NodeStep::Drain,
        NodeAction::Revoke => NodeStep::Leave,
    };
    api.app.engine.command(Command::StepNode { node: id, step }).await?;
    tracing::info!(node.id = %id, action = action.as_str(), user = %who.name, "a node was changed");
    // One that left is not in memory any more.
    let after = api.app.engine.read(find).await?;
    Ok(Json(after.unwrap_or(NodeView { state: NodeState::Gone, ..before })))
}

fn node_action(word: &str) -> Result<NodeAction, Failure> {
    let actions = [NodeAction::Cordon, NodeAction::Uncordon, NodeAction::Drain, NodeAction::Revoke];
    if let Some(action) = actions.into_iter().find(|action| action.as_str() == word) {
        return Ok(action);
    }
    let names = actions.map(NodeAction::as_str);
    let hint = parse::nearest(word, names).map_or_else(
        || format!("actions are: {}", names.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    Err(Failure(
        ApiError::new(ErrorCode::NotFound, "there is no such action on a node")
            .field("action")
            .value(word)
            .hint(hint),
    ))
}

/// Whether a pool is open to a group of the user, or to one below such a group.
pub(super) fn may_use(state: &State, who: &Who, pool: &Pool) -> bool {
    let Some(groups) = &pool.groups else { return true };
    groups.iter().any(|group| is_near(state, who, group))
}

/// Whether `group` is above, at or below a group of the user.
pub(super) fn is_near(state: &State, who: &Who, group: &GroupName) -> bool {
    let above =
        |user: &spillway_core::entity::User| user.groups.iter().any(|own| state.is_within(own, group));
    state.users.get(&who.name).is_some_and(|user| state.may_see(user, group) || above(user))
}

fn show(node: &Node, state: &State) -> NodeView {
    let free = node.free();
    let inventory = node.inventory.as_ref();
    let capacity = inventory.map(|inventory| &inventory.capacity);
    let (blocks, blocks_free) = blocks(node);
    let instance = node.instance.and_then(|id| state.instances.get(&id));
    NodeView {
        id: node.id,
        hostname: node.hostname.clone(),
        site: node.site.clone(),
        kind: state.sites.get(&node.site).map_or(SiteKind::OnPrem, |site| site.kind),
        pool: node.pool.clone(),
        state: node.state,
        instance: node.instance,
        instance_type: instance.map(|instance| instance.instance_type.clone()),
        gpus: capacity.map(gpus).unwrap_or_default(),
        blocks,
        blocks_free,
        cpus_milli: capacity.map_or(0, |capacity| capacity.cpus_milli),
        cpus_milli_free: free.as_ref().map_or(0, FreeResources::cpus_milli),
        memory_mib: capacity.map_or(0, |capacity| capacity.memory_mib),
        memory_mib_free: free.as_ref().map_or(0, FreeResources::memory_mib),
        running: u32::try_from(node.parts.len()).unwrap_or(u32::MAX),
        last_seen: last_seen(node),
        version: None,
        capabilities: inventory.map_or_else(Capabilities::default, |inventory| inventory.capabilities),
        labels: inventory.map(|inventory| inventory.labels.clone()).unwrap_or_default(),
    }
}

/// Of a node that is away, when it went away; what one that is here says is not written down each time.
fn last_seen(node: &Node) -> Option<spillway_types::UnixMs> {
    matches!(node.state, NodeState::Disconnected | NodeState::Lost).then_some(node.since)
}

/// All and free hundredths of accelerators of a node; a MIG slice counts as a whole one.
pub(super) fn blocks(node: &Node) -> (u64, u64) {
    let (Some(inventory), Some(free)) = (&node.inventory, node.free()) else { return (0, 0) };
    let (mut all, mut left) = (0, 0);
    for accelerator in &inventory.capacity.accelerators {
        all += 100 * accelerator.mig.len().max(1) as u64;
        left += u64::from(free.blocks_of(accelerator.index));
        left += 100 * accelerator.mig.iter().filter(|slice| free.has_slice(&slice.uuid)).count() as u64;
    }
    (all, left)
}

/// Accelerators by model and memory.
pub(super) fn gpus(capacity: &NodeCapacity) -> Vec<GpuSummary> {
    let mut counts: BTreeMap<(&GpuModel, u64), u32> = BTreeMap::new();
    for accelerator in &capacity.accelerators {
        *counts.entry((&accelerator.model, accelerator.memory_mib)).or_default() += 1;
    }
    let summary = |((model, memory_mib), count): ((&GpuModel, u64), u32)| GpuSummary {
        model: model.clone(),
        count,
        memory_mib,
    };
    counts.into_iter().map(summary).collect()
}
