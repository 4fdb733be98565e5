//! What should be true at a node: which parts it should run, prepare or stop.

use spillway_types::{AttemptId, NodeId, WantedPhase};

use crate::State;
use crate::entity::{Attempt, Job, Part, PartState};

/// One part that a node should know of.
#[derive(Debug, Clone, Copy)]
pub struct DesiredPart<'a> {
    /// The attempt.
    pub attempt: &'a Attempt,
    /// Its job.
    pub job: &'a Job,
    /// The part's rank.
    pub rank: u32,
    /// The part.
    pub part: &'a Part,
    /// How far it should be.
    pub want: WantedPhase,
}

/// The parts that should be at `node`, in the order of their attempts. What is over is not listed, so that the
/// node can forget it; what the node has lost is not listed, so that its lease runs out.
#[must_use]
pub fn parts_at(state: &State, node: NodeId) -> Vec<DesiredPart<'_>> {
    let Some(entry) = state.nodes.get(&node) else { return vec![] };
    entry.parts.keys().filter_map(|attempt| part_at(state, node, *attempt)).collect()
}

fn part_at(state: &State, node: NodeId, attempt: AttemptId) -> Option<DesiredPart<'_>> {
    let attempt = state.attempts.get(&attempt)?;
    let job = state.jobs.get(&attempt.job)?;
    let (rank, part) = attempt.part_on(node)?;
    let want = wanted(attempt, part)?;
    Some(DesiredPart { attempt, job, rank: u32::try_from(rank).ok()?, part, want })
}

fn wanted(attempt: &Attempt, part: &Part) -> Option<WantedPhase> {
    if part.state.is_over() || !attempt.state.occupies_nodes() {
        return None;
    }
    // A missing part may run where this agent cannot see it. Nobody gets its lease any more: an agent that does
    // see it stops it, and one that does not cannot say how it ended.
    if part.missing {
        return None;
    }
    if attempt.stop.is_some() {
        return Some(WantedPhase::Stopped);
    }
    let ready = |part: &Part| !matches!(part.state, PartState::Waiting | PartState::Leased);
    if attempt.parts.len() == 1 || attempt.parts.iter().all(ready) {
        Some(WantedPhase::Running)
    } else {
        Some(WantedPhase::Prepared)
    }
}
