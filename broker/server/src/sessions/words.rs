//! Between the core's words and the wire's.

use spillway_core::command::{PartNews, PartReport};
use spillway_core::desired::DesiredPart;
use spillway_core::entity::{self, Attempt};
use spillway_core::{Federation, State, desired};
use spillway_tunnel::protocol::{AgentEvent, Input, Lease};
use spillway_types::{Checkpoint, DataMap, NodeId};

use crate::outputs::Chunk;

/// Everything that should be at a node.
pub(super) fn leases(federation: &Federation, node: NodeId) -> Vec<Lease> {
    let lease = |part: DesiredPart<'_>| lease(federation, &part);
    desired::parts_at(federation.state(), node).into_iter().map(lease).collect()
}

fn lease(federation: &Federation, wanted: &DesiredPart<'_>) -> Lease {
    let DesiredPart { attempt, job, rank, part, want } = wanted;
    Lease {
        attempt: attempt.id,
        number: attempt.number,
        job: attempt.job,
        task: attempt.task,
        rank: *rank,
        want: *want,
        ttl: attempt.lease,
        allocation: part.allocation.clone(),
        command: job.spec.command.clone(),
        env: job.spec.env.clone(),
        time_limit: job.spec.time_limit,
        checkpoint: Checkpoint { grace: attempt.grace_to_stop(), ..job.spec.checkpoint },
        hosts: hosts(federation.state(), attempt),
        inputs: attempt.inputs.iter().map(|known| input(federation.data(), known)).collect(),
    }
}

/// An input with where it is read now: signed URLs are changed in the settings while jobs wait.
fn input(data: &DataMap, known: &entity::Input) -> Input {
    let entity::Input { dataset, bytes, sha256, from, .. } = known;
    let source = data.datasets.get(dataset).and_then(|dataset| dataset.sources.get(from)).cloned();
    Input { dataset: dataset.clone(), bytes: *bytes, sha256: sha256.clone(), source }
}

fn hosts(state: &State, attempt: &Attempt) -> Vec<String> {
    let nodes = attempt.parts.iter().map(|part| part.node.and_then(|node| state.nodes.get(&node)));
    nodes.map(|node| node.map(|node| node.hostname.clone()).unwrap_or_default()).collect()
}

/// Reports for the core, and chunks of output for the disk, in the order they came.
pub(super) fn sort(events: Vec<AgentEvent>) -> (Vec<PartReport>, Vec<Chunk>) {
    let mut chunks = vec![];
    let reports = events.into_iter().map(|event| report(event, &mut chunks)).collect();
    (reports, chunks)
}

fn report(event: AgentEvent, chunks: &mut Vec<Chunk>) -> PartReport {
    match event {
        AgentEvent::Prepared { attempt, rank } => PartReport { attempt, rank, news: PartNews::Prepared },
        AgentEvent::Started { attempt, rank } => PartReport { attempt, rank, news: PartNews::Started },
        AgentEvent::Usage { attempt, rank, from_ms, to_ms } => {
            PartReport { attempt, rank, news: PartNews::Usage { from_ms, to_ms } }
        }
        AgentEvent::Moved { attempt, rank, dataset, pass, from_bytes, to_bytes } => {
            PartReport { attempt, rank, news: PartNews::Moved { dataset, pass, from_bytes, to_bytes } }
        }
        AgentEvent::Output { attempt, rank, offset, data } => {
            chunks.push(Chunk { attempt, rank, offset, data });
            PartReport { attempt, rank, news: PartNews::Output }
        }
        AgentEvent::Ended { attempt, rank, end, ran_ms } => {
            PartReport { attempt, rank, news: PartNews::Ended { end, ran_ms } }
        }
    }
}
