//! What nodes report about their parts. Every report counts once, however often it is sent.

use spillway_ledger::Accepted;
use spillway_types::{AttemptId, NodeId, PartEnd, UnixMs};

use super::{outcome, session};
use crate::command::{PartNews, PartReport};
use crate::entity::{Attempt, Moved, Part, PartState};
use crate::federation::Turn;
use crate::{Event, Refusal, Reply, moved};

/// How much longer than the broker saw a part leased it may claim to have run: the way of the messages.
const CLAIM_SLACK_MS: u64 = 2_000;

pub(super) fn report(
    turn: &mut Turn<'_>,
    id: NodeId,
    epoch: u64,
    first: u64,
    reports: Vec<PartReport>,
) -> Result<Reply, Refusal> {
    let node = session::find(turn, id)?;
    if node.epoch != epoch {
        return Err(Refusal::StaleEpoch { node: id, given: epoch, newest: node.epoch });
    }
    let (acked, before) = (node.acked, node.usage.mark);
    if first > acked + 1 {
        return Err(Refusal::SpoolGap { node: id, given: first, acked });
    }
    let (mut through, mut usage) = (acked, before);
    for (number, report) in (first..).zip(reports) {
        if number > acked {
            through = number;
            if let Some(used) = report.usage() {
                usage.take(number, &used);
            }
            take(turn, id, report);
        }
    }
    if through > acked {
        turn.emit(Event::SpoolAcked { node: id, through, usage: (usage != before).then_some(usage) });
    }
    Ok(Reply::Acked(through))
}

/// A report about an attempt that is over, was never this node's or waits for others is skipped: it can change
/// nothing.
fn take(turn: &mut Turn<'_>, node: NodeId, report: PartReport) {
    let PartReport { attempt: id, rank, news } = report;
    let Some(part) = part_of(turn, id, node, rank) else { return };
    let (state, missing) = (part.state.clone(), part.missing);
    if state == PartState::Waiting {
        return;
    }
    match news {
        PartNews::Prepared => {
            if state == PartState::Leased {
                turn.emit(Event::PartPrepared { attempt: id, rank });
            }
        }
        PartNews::Started => {
            if matches!(state, PartState::Leased | PartState::Prepared) {
                turn.emit(Event::PartStarted { attempt: id, rank });
                outcome::advance(turn, id);
            }
        }
        PartNews::Usage { from_ms, to_ms } => charge(turn, id, rank, from_ms, to_ms),
        PartNews::Moved { dataset, pass, from_bytes, to_bytes } => {
            let Some(attempt) = turn.state.attempts.get(&id) else { return };
            let to = Moved { rank, dataset, pass, to_bytes };
            if let Some((from_bytes, to_bytes)) = moved::fresh(attempt, &to, from_bytes) {
                let Moved { dataset, pass, .. } = to;
                turn.emit(Event::BytesMoved { attempt: id, rank, dataset, pass, from_bytes, to_bytes });
            }
        }
        PartNews::Output => {}
        PartNews::Ended { end, ran_ms } => {
            // An agent that has lost a part cannot know that it never ran.
            let guessed = missing && matches!(end, PartEnd::NotStarted { .. });
            if guessed || matches!(state, PartState::Ended { .. }) {
                return;
            }
            charge(turn, id, rank, 0, ran_ms);
            turn.emit(Event::PartEnded { attempt: id, rank, end, ran_ms });
            outcome::advance(turn, id);
        }
    }
}

fn part_of<'a>(turn: &'a Turn<'_>, attempt: AttemptId, node: NodeId, rank: u32) -> Option<&'a Part> {
    let part = turn.state.attempts.get(&attempt)?.parts.get(usize::try_from(rank).ok()?)?;
    (part.node == Some(node)).then_some(part)
}

fn charge(turn: &mut Turn<'_>, id: AttemptId, rank: u32, from_ms: u64, to_ms: u64) {
    let Some(attempt) = turn.state.attempts.get(&id) else { return };
    let cap = claimable_ms(attempt, turn.now);
    let mut slices = attempt.slices.clone();
    let from_ms = from_ms.min(slices.reported_ms(rank));
    if let Ok(Accepted::Slice { from_ms, to_ms }) = slices.accept(rank, from_ms, to_ms.max(from_ms), cap) {
        turn.emit(Event::UsageCharged { attempt: id, rank, from_ms, to_ms });
    }
}

/// What a node may claim at most: the time the broker itself saw the attempt leased.
fn claimable_ms(attempt: &Attempt, now: UnixMs) -> u64 {
    let until = attempt.ended.unwrap_or(now);
    attempt.leased.map_or(0, |leased| until.since(leased).0 + CLAIM_SLACK_MS)
}
