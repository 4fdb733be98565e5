//! What follows when parts start, end, fall silent or are stopped: the attempt goes on, and its task with it.

use spillway_types::{
    AttemptId, AttemptState, DurationMs, FailureReason, InstanceId, NodeId, NodeState, NodeStep, PartEnd,
    Reason,
};

use super::{instances, session};
use crate::Event;
use crate::entity::{Attempt, Job, Node, Part, PartState, StopCause};
use crate::event::TaskOutcome;
use crate::federation::Turn;
use crate::{Reply, State};

/// Brings the attempt as far as its parts are.
pub(super) fn advance(turn: &mut Turn<'_>, id: AttemptId) {
    let Some(attempt) = turn.state.attempts.get(&id) else { return };
    let over = attempt.parts.iter().filter(|part| part.state.is_over()).count();
    let (all, started) = (attempt.parts.len(), attempt.parts.iter().all(|part| part.started.is_some()));
    match attempt.state {
        AttemptState::Settling => return settle_if_complete(turn, id),
        AttemptState::Proposed | AttemptState::Held | AttemptState::Settled => return,
        AttemptState::Leased | AttemptState::Active | AttemptState::Draining => {}
    }
    if started && attempt.state == AttemptState::Leased {
        turn.emit(Event::AttemptActivated { attempt: id });
    }
    if over == all {
        end(turn, id);
    } else if over > 0 {
        let Some(attempt) = turn.state.attempts.get(&id) else { return };
        let broken = attempt.parts.iter().any(|part| part.state.is_over() && !exited_well(&part.state));
        if broken && attempt.stop.is_none() {
            turn.emit(Event::AttemptStopped { attempt: id, cause: StopCause::GangBroken });
        } else if attempt.state != AttemptState::Draining {
            turn.emit(Event::AttemptFinishing { attempt: id });
        }
    }
}

/// Asks an attempt to stop. One that waits for instances ends at once.
pub(super) fn stop(turn: &mut Turn<'_>, id: AttemptId, cause: StopCause) {
    let Some(attempt) = turn.state.attempts.get(&id) else { return };
    if attempt.stop.is_some() || matches!(attempt.state, AttemptState::Settling | AttemptState::Settled) {
        return;
    }
    let held = attempt.state == AttemptState::Held;
    turn.emit(Event::AttemptStopped { attempt: id, cause });
    if held {
        end_stopped_waiting(turn, id);
    }
}

/// Ends an attempt whose machines have not all become ready in time. Where some were paid for, it counts: a shape
/// that never boots is not launched for ever.
pub(super) fn give_up_waiting(turn: &mut Turn<'_>, id: AttemptId, limit: DurationMs) {
    let Some(attempt) = turn.state.attempts.get(&id).filter(|a| a.state == AttemptState::Held) else {
        return;
    };
    let Some(job) = turn.state.jobs.get(&attempt.job) else { return };
    let existed = |part: &Part| {
        let instance = part.instance.and_then(|instance| turn.state.instances.get(&instance));
        instance.is_some_and(|instance| instance.launched.or(instance.ready).is_some())
    };
    let outcome = if !attempt.parts.iter().any(existed) {
        TaskOutcome::Requeued { reason: Reason::Unavailable, counted: false }
    } else if counted_with(attempt, job) < job.spec.retry.max_attempts {
        TaskOutcome::Requeued { reason: Reason::Unavailable, counted: true }
    } else {
        let message = format!("its machines were not all ready within {limit}");
        TaskOutcome::Failed { failure: FailureReason::Start { message } }
    };
    turn.emit(Event::AttemptStopped { attempt: id, cause: StopCause::NoInstance });
    end_waiting(turn, id, outcome);
}

/// Ends an attempt that was stopped while it waited for machines.
pub(super) fn end_stopped_waiting(turn: &mut Turn<'_>, id: AttemptId) {
    if let Some(outcome) = outcome_of(turn, id) {
        end_waiting(turn, id, outcome);
    }
}

fn end_waiting(turn: &mut Turn<'_>, id: AttemptId, outcome: TaskOutcome) {
    let Some(attempt) = turn.state.attempts.get(&id) else { return };
    let waited_for: Vec<InstanceId> = attempt.parts.iter().filter_map(|part| part.instance).collect();
    turn.emit(Event::AttemptEnded { attempt: id, outcome });
    settle_if_complete(turn, id);
    for instance in waited_for {
        instances::end_unused(turn, instance);
    }
}

/// The node of a part was silent past lease, grace and margin: nothing of the part runs any more.
pub(super) fn declare_silent(turn: &mut Turn<'_>, id: AttemptId, rank: u32) -> Reply {
    let attempt = turn.state.attempts.get(&id).filter(|attempt| attempt.state.occupies_nodes());
    let part = attempt.and_then(|attempt| attempt.parts.get(usize::try_from(rank).ok()?));
    let part = part.filter(|part| !part.state.is_over());
    let Some((node, missing)) = part.and_then(|part| Some((part.node?, part.missing))) else {
        return Reply::Done;
    };
    turn.emit(Event::PartSilent { attempt: id, rank });
    advance(turn, id);
    // Whatever its session looks like, nobody answers there: no new work until it dials in again. Of a part that
    // the node has lost, its agent could not have spoken.
    let steps_away =
        |node: &Node| node.state.after(NodeStep::Disconnect).is_ok_and(|after| after != node.state);
    let away = |node: &Node| !missing && steps_away(node);
    if turn.state.nodes.get(&node).is_some_and(away) {
        turn.emit(Event::NodeStepped { node, step: NodeStep::Disconnect });
    }
    let entry = turn.state.nodes.get(&node);
    let deserted = entry.is_some_and(|node| node.state == NodeState::Disconnected && node.parts.is_empty());
    if deserted {
        turn.emit(Event::NodeStepped { node, step: NodeStep::Lose });
    }
    Reply::Done
}

/// Gives leases to attempts whose last node this was.
pub(super) fn lease_what_waited(turn: &mut Turn<'_>, node: NodeId) {
    let instance = turn.state.nodes.get(&node).and_then(|node| node.instance);
    let Some(instance) = instance.and_then(|id| turn.state.instances.get(&id)) else { return };
    let attempt = instance.attempt;
    if session::is_whole(turn, attempt) {
        turn.emit(Event::AttemptLeased { attempt });
    }
}

fn outcome_of(turn: &Turn<'_>, id: AttemptId) -> Option<TaskOutcome> {
    let attempt = turn.state.attempts.get(&id)?;
    Some(judge(attempt, turn.state.jobs.get(&attempt.job)?))
}

fn end(turn: &mut Turn<'_>, id: AttemptId) {
    let Some(outcome) = outcome_of(turn, id) else { return };
    turn.emit(Event::AttemptEnded { attempt: id, outcome });
    settle_if_complete(turn, id);
}

pub(super) fn settle_if_complete(turn: &mut Turn<'_>, id: AttemptId) {
    let complete =
        |attempt: &Attempt| attempt.state == AttemptState::Settling && usage_is_complete(turn.state, attempt);
    if turn.state.attempts.get(&id).is_some_and(complete) {
        turn.emit(Event::AttemptSettled { attempt: id });
    }
}

/// Whether nobody can report more usage: every part said how it ended, or its machine is gone.
fn usage_is_complete(state: &State, attempt: &Attempt) -> bool {
    attempt.parts.iter().all(|part| match part.state {
        PartState::Ended { .. } | PartState::Waiting => true,
        PartState::Silent => part.node.is_none_or(|node| !state.nodes.contains_key(&node)),
        PartState::Leased | PartState::Prepared | PartState::Running => false,
    })
}

fn exited_well(state: &PartState) -> bool {
    matches!(state, PartState::Ended { end: PartEnd::Exited { code: 0 }, .. })
}

/// What becomes of the task of an attempt whose parts are all over.
fn judge(attempt: &Attempt, job: &Job) -> TaskOutcome {
    if attempt.parts.iter().all(|part| exited_well(&part.state)) {
        return TaskOutcome::Succeeded;
    }
    if job.cancel_requested {
        return TaskOutcome::Cancelled;
    }
    if attempt.stop == Some(StopCause::Displaced) {
        return TaskOutcome::Displaced;
    }
    if matches!(attempt.stop, Some(StopCause::Limit | StopCause::LimitAtOnce)) {
        return TaskOutcome::Requeued { reason: Reason::Limit, counted: false };
    }
    if attempt.stop == Some(StopCause::NoInstance) && !attempt.may_have_run() {
        return TaskOutcome::Requeued { reason: Reason::Unavailable, counted: false };
    }
    let retry = job.spec.retry;
    let counted = counted_with(attempt, job);
    let again = |allowed: bool, failure: FailureReason| {
        if allowed && counted < retry.max_attempts {
            TaskOutcome::Requeued { reason: Reason::Retry, counted: true }
        } else {
            TaskOutcome::Failed { failure }
        }
    };
    let ran = attempt.may_have_run();
    match first_trouble(attempt) {
        Trouble::Program(failure) => again(retry.on_failure, failure),
        Trouble::Loss if attempt.stop == Some(StopCause::Preempted) => {
            again(retry.on_loss || !ran, FailureReason::Preempted)
        }
        Trouble::Loss => again(retry.on_loss || !ran, FailureReason::Lost),
        Trouble::Start(message) => again(retry.on_loss || !ran, FailureReason::Start { message }),
    }
}

/// How many attempts at the task the retry policy has counted, with this one.
fn counted_with(attempt: &Attempt, job: &Job) -> u32 {
    job.tries.get(&attempt.task).map_or(0, |tries| tries.counted) + 1
}

enum Trouble {
    Program(FailureReason),
    Start(String),
    Loss,
}

/// The trouble that explains the attempt's end: what a program did comes before what followed from it.
fn first_trouble(attempt: &Attempt) -> Trouble {
    let ends = || {
        attempt.parts.iter().filter_map(|part| match &part.state {
            PartState::Ended { end, .. } => Some(end),
            PartState::Waiting
            | PartState::Leased
            | PartState::Prepared
            | PartState::Running
            | PartState::Silent => None,
        })
    };
    let program = ends().find_map(|end| match end {
        PartEnd::Exited { code } if *code != 0 => Some(FailureReason::ExitCode { code: *code }),
        PartEnd::Signalled { signal } => Some(FailureReason::Signal { signal: *signal }),
        PartEnd::TimeLimit => Some(FailureReason::TimeLimit),
        PartEnd::Exited { .. }
        | PartEnd::Stopped
        | PartEnd::LeaseExpired
        | PartEnd::NotStarted { .. }
        | PartEnd::Vanished => None,
    });
    if let Some(failure) = program.filter(|_| attempt.stop.is_none_or(|cause| cause == StopCause::GangBroken))
    {
        return Trouble::Program(failure);
    }
    let start = ends().find_map(|end| match end {
        PartEnd::NotStarted { message } => Some(message.clone()),
        PartEnd::Exited { .. }
        | PartEnd::Signalled { .. }
        | PartEnd::Stopped
        | PartEnd::TimeLimit
        | PartEnd::LeaseExpired
        | PartEnd::Vanished => None,
    });
    start.map_or(Trouble::Loss, Trouble::Start)
}
