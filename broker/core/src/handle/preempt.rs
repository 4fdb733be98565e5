//! A running attempt gives way to a more urgent job: it is stopped as its job asks to be, and its task waits again.

use spillway_types::{AttemptId, AttemptState};

use super::outcome;
use crate::federation::Turn;
use crate::{Event, Refusal, Reply};

/// How often one task gives way: what it computed since its last checkpoint is lost each time, and after three it
/// runs to its end, whatever waits.
pub const MAX_DISPLACEMENTS: u32 = 3;

pub(super) fn preempt(turn: &mut Turn<'_>, id: AttemptId, because: String) -> Result<Reply, Refusal> {
    let refused = |problem: &str| Err(Refusal::NotPreemptible { attempt: id, problem: problem.to_owned() });
    let missing = || Refusal::NotFound { kind: "attempt", id: id.to_string() };
    let attempt = turn.state.attempts.get(&id).ok_or_else(missing)?;
    let job = turn.state.jobs.get(&attempt.job).ok_or_else(missing)?;
    if attempt.displaced_because.is_some() {
        return Ok(Reply::Done);
    }
    match attempt.state {
        AttemptState::Held | AttemptState::Leased | AttemptState::Active if attempt.stop.is_none() => {}
        AttemptState::Proposed
        | AttemptState::Held
        | AttemptState::Leased
        | AttemptState::Active
        | AttemptState::Draining
        | AttemptState::Settling
        | AttemptState::Settled => return refused("is ending already"),
    }
    if !job.spec.retry.on_loss {
        return refused("belongs to a job that never starts twice: its retry.on_loss is false");
    }
    if job.tries.get(&attempt.task).is_some_and(|tries| tries.displaced >= MAX_DISPLACEMENTS) {
        let problem =
            format!("is of a task that gave way {MAX_DISPLACEMENTS} times already: it runs to its end now");
        return refused(&problem);
    }
    let waits_for_machines = attempt.state == AttemptState::Held;
    turn.emit(Event::AttemptDisplaced { attempt: id, because });
    if waits_for_machines {
        outcome::end_stopped_waiting(turn, id);
    }
    Ok(Reply::Done)
}
