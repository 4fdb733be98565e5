//! What time alone brings about.

use spillway_types::{
    AttemptId, AttemptState, DurationMs, InstanceId, InstanceState, InstanceStep, NodeId, NodeState, NodeStep,
};

use spillway_ledger::limits::{Action, HoldError};

use super::{instances, outcome};
use crate::command::TickLimits;
use crate::entity::{Attempt, Instance, Node, StopCause};
use crate::federation::Turn;
use crate::{Event, Reply};

/// How long an idempotency key is remembered.
const KEY_LIFETIME: DurationMs = DurationMs::from_secs(24 * 3600);

pub(super) fn tick(turn: &mut Turn<'_>, limits: TickLimits) -> Reply {
    let now = turn.now;
    let overdue = |attempt: &&Attempt| {
        let ended = attempt.ended.filter(|_| attempt.state == AttemptState::Settling);
        ended.is_some_and(|ended| now.since(ended) >= limits.settle)
    };
    let unreported: Vec<AttemptId> =
        turn.state.attempts.values().filter(overdue).map(|attempt| attempt.id).collect();
    for attempt in unreported {
        turn.emit(Event::AttemptSettled { attempt });
    }
    let waits_too_long =
        |attempt: &&Attempt| attempt.state == AttemptState::Held && now.since(attempt.placed) >= limits.boot;
    let waiting: Vec<AttemptId> =
        turn.state.attempts.values().filter(waits_too_long).map(|attempt| attempt.id).collect();
    for attempt in waiting {
        outcome::give_up_waiting(turn, attempt, limits.boot);
    }
    let is_due = |instance: &&Instance| instance_is_due(instance, now, limits);
    let due: Vec<(InstanceId, InstanceState)> =
        turn.state.instances.values().filter(is_due).map(|instance| (instance.id, instance.state)).collect();
    for (id, state) in due {
        if state == InstanceState::Ready {
            turn.emit(Event::InstanceStepped { instance: id, step: InstanceStep::Drain, observed: None });
        }
        instances::terminate(turn, id);
    }
    extend_leases(turn);
    let drained =
        |node: &&Node| node.state == NodeState::Draining && node.parts.is_empty() && node.instance.is_none();
    let empty: Vec<NodeId> = turn.state.nodes.values().filter(drained).map(|node| node.id).collect();
    for node in empty {
        turn.emit(Event::NodeStepped { node, step: NodeStep::Leave });
    }
    Reply::Done
}

/// Holds the next lease of what runs on one that ends soon. What a limit has no room for is asked to stop: its
/// checkpoint keeps its work, and it waits until there is room. A limit that stops leaves it no grace.
fn extend_leases(turn: &mut Turn<'_>) {
    for (attempt, lease) in turn.state.leases_to_extend(turn.now) {
        match turn.state.limits.check_extension(attempt, turn.now) {
            Ok(()) => turn.emit(Event::LeaseExtended { attempt, lease }),
            Err(HoldError::Refused(refusal)) => {
                let cause = match turn.state.limits.action(&refusal.binding) {
                    Some(Action::Stop) => StopCause::LimitAtOnce,
                    Some(Action::Warn | Action::DenyNew | Action::Drain) | None => StopCause::Limit,
                };
                outcome::stop(turn, attempt, cause);
            }
            Err(_) => {}
        }
    }
}

/// Forgets idempotency keys that are a day old.
pub(super) fn forget_old_keys(turn: &mut Turn<'_>) -> Reply {
    let now = turn.now;
    let old = turn.state.submissions.values().filter(|submission| now.since(submission.at) >= KEY_LIFETIME);
    let keys: Vec<String> = old.map(|submission| submission.key.clone()).collect();
    if !keys.is_empty() {
        turn.emit(Event::SubmissionsForgotten { keys });
    }
    Reply::Done
}

fn instance_is_due(instance: &Instance, now: spillway_types::UnixMs, limits: TickLimits) -> bool {
    match instance.state {
        InstanceState::Ready => instance.idle_since.is_some_and(|since| now.since(since) >= limits.warm),
        InstanceState::Intended
        | InstanceState::Launching
        | InstanceState::Booting
        | InstanceState::Unknown => now.since(instance.created) >= limits.boot,
        InstanceState::Draining => instance.idle_since.is_some(),
        InstanceState::Terminating | InstanceState::Gone => false,
    }
}
