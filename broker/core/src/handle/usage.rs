//! What nodes say of their usage events.

use spillway_ledger::journal::UsageMark;
use spillway_types::NodeId;

use super::session;
use crate::command::SpoolHead;
use crate::federation::Turn;
use crate::{Event, Refusal, Reply, usage};

/// Where a node that says hello has not the mark that is here, both begin a new one. Gives behind which number the
/// mark begins.
pub(super) fn meet(turn: &mut Turn<'_>, id: NodeId, spool: Option<SpoolHead>) -> u64 {
    let Some(node) = turn.state.nodes.get(&id) else { return 0 };
    let here = node.usage.mark.after;
    let anew = spool.and_then(|spool| node.usage.anew(spool.next, spool.usage_after, node.acked));
    if let Some(after) = anew {
        turn.emit(Event::UsageMarkBegun { node: id, after });
    }
    anew.unwrap_or(here)
}

/// A node says which usage events it has sent, and that all use until `age_ms` before is in them.
pub(super) fn state(
    turn: &mut Turn<'_>,
    id: NodeId,
    epoch: u64,
    sent: UsageMark,
    age_ms: u64,
) -> Result<Reply, Refusal> {
    let node = session::find(turn, id)?;
    if node.epoch != epoch {
        return Err(Refusal::StaleEpoch { node: id, given: epoch, newest: node.epoch });
    }
    if usage::news(turn.state, id, &sent, age_ms, turn.now).is_some() {
        let complete_to = usage::complete_to(age_ms, turn.now);
        turn.emit(Event::UsageStated { node: id, sent, complete_to });
    }
    Ok(Reply::Done)
}
