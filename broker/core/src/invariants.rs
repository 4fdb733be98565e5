//! What must hold of every state, whatever happened. Numbers are those of the design's list of invariants.
//!
//! What cannot be seen in a state is checked elsewhere: that what was acknowledged is durable (1) by the tests
//! that kill the broker, that no job runs in two places (2) by the auditor, who reads what the jobs wrote.

use spillway_types::{AttemptState, InstanceState, TaskState};

use crate::entity::{Attempt, Job, Node};
use crate::{Key, State, history};

/// Checks everything. For tests, for a start, and for whoever wants to know.
#[must_use]
pub fn check_all(state: &State) -> Vec<String> {
    let mut broken = ledger(state);
    broken.extend(state.history.defect());
    broken.extend(state.capacity_defects());
    state.nodes.values().for_each(|node| check_node(state, node, &mut broken));
    state.attempts.values().for_each(|attempt| check_attempt(state, attempt, &mut broken));
    state.jobs.values().for_each(|job| check_job(state, job, &mut broken));
    broken
}

/// Checks what was touched since the last write: after every commit.
#[must_use]
pub fn check_changed(state: &State) -> Vec<String> {
    // Limits and groups are rows; money moves by entries: without either the ledger is as it was.
    let moved = !state.changes.entries.is_empty()
        || !state.changes.statements.is_empty()
        || state.changes.touched.iter().any(|key| matches!(key, Key::Group(_)));
    let mut broken = if moved { ledger(state) } else { vec![] };
    for key in &state.changes.touched {
        match key {
            Key::Node(id) => {
                state.nodes.get(id).into_iter().for_each(|node| check_node(state, node, &mut broken))
            }
            Key::Attempt(id) => {
                state
                    .attempts
                    .get(id)
                    .into_iter()
                    .for_each(|attempt| check_attempt(state, attempt, &mut broken));
            }
            Key::Job(id) => state.jobs.get(id).into_iter().for_each(|job| check_job(state, job, &mut broken)),
            Key::Meta
            | Key::Site(_)
            | Key::Pool(_)
            | Key::Group(_)
            | Key::User(_)
            | Key::Token(_)
            | Key::JoinToken(_)
            | Key::Instance(_)
            | Key::Period(_)
            | Key::SiteUsage(_)
            | Key::Rates(_)
            | Key::Currency(_)
            | Key::Limit(_)
            | Key::PoolBook(_)
            | Key::Submission(_) => {}
            Key::History(kind) => {
                let runs = state.history.runs(kind).map_or(0, |runs| runs.recent.len());
                if runs > history::MAX_RUNS || state.history.kinds() > history::MAX_KINDS {
                    broken.push(format!("the history of `{kind}` is out of bounds"));
                }
            }
        }
    }
    broken
}

/// 5 and 6: the ledger balances; spent and held stay within every limit, save what was measured as overshoot.
fn ledger(state: &State) -> Vec<String> {
    let mut broken = vec![];
    if state.book.imbalance() != 0 {
        broken.push(format!("5: the ledger is out of balance by {} micros", state.book.imbalance()));
    }
    for group in state.groups.values() {
        let Some(left) = state.book.left(&group.name).filter(|left| *left < 0) else { continue };
        let excused: i64 =
            state.book.ancestors(&group.name).map(|above| overshoot_below(state, above)).max().unwrap_or(0);
        if left.saturating_add(excused) < 0 {
            broken.push(format!(
                "6: group {} is {} micros over a limit, {excused} of it measured",
                group.name, -left
            ));
        }
    }
    broken
}

fn overshoot_below(state: &State, ancestor: &spillway_types::GroupName) -> i64 {
    let below = state.overshoot_micros.iter().filter(|(group, _)| state.is_within(group, ancestor));
    below.map(|(_, micros)| *micros).fold(0, i64::saturating_add)
}

/// 3: no node is over-committed, in any dimension; and it knows exactly the attempts that occupy it.
fn check_node(state: &State, node: &Node, broken: &mut Vec<String>) {
    let Some(inventory) = &node.inventory else {
        if !node.parts.is_empty() {
            broken.push(format!("3: {} has parts and no inventory", node.id));
        }
        return;
    };
    let mut free = spillway_types::FreeResources::all_of(&inventory.capacity);
    for (attempt, allocation) in &node.parts {
        if free.take(allocation).is_err() {
            broken.push(format!("3: {} is over-committed by {attempt}", node.id));
        }
        let runs_here = |attempt: &Attempt| {
            let waits = attempt.state == AttemptState::Held;
            (waits || attempt.state.occupies_nodes()) && attempt.part_on(node.id).is_some()
        };
        if !state.attempts.get(attempt).is_some_and(runs_here) {
            broken.push(format!("3: {} is occupied by {attempt}, which does not run there", node.id));
        }
    }
}

/// 2, 4 and 7: an attempt's parts, nodes and instances fit its state.
fn check_attempt(state: &State, attempt: &Attempt, broken: &mut Vec<String>) {
    let id = attempt.id;
    if attempt.state.occupies_nodes() {
        for part in &attempt.parts {
            let knows =
                part.node.and_then(|node| state.nodes.get(&node)).map(|node| node.parts.contains_key(&id));
            // The node of a silent part may be gone, by its provider's proof.
            if knows != Some(true) && !(knows.is_none() && part.state.is_over()) {
                broken.push(format!(
                    "7: {id} is {} and {:?} does not know it",
                    attempt.state.as_str(),
                    part.node
                ));
            }
        }
    }
    if attempt.state == AttemptState::Held {
        for instance in attempt.parts.iter().filter_map(|part| part.instance) {
            let alive = state.instances.get(&instance).is_some_and(|i| i.state != InstanceState::Gone);
            if !alive {
                broken.push(format!("4: {id} waits for {instance}, which has no intent"));
            }
        }
    }
    let at_work = state
        .jobs
        .get(&attempt.job)
        .and_then(|job| job.active.get(&attempt.task))
        .and_then(TaskState::attempt);
    let ended = matches!(attempt.state, AttemptState::Settling | AttemptState::Settled);
    if !ended && at_work != Some(id) {
        broken.push(format!(
            "2: {id} runs for task {} of {}, which {at_work:?} works for",
            attempt.task, attempt.job
        ));
    }
}

/// 1 and 2: every task of a job is in exactly one place, and has at most one attempt at work.
fn check_job(state: &State, job: &Job, broken: &mut Vec<String>) {
    let wanted = job.spec.task_indexes().len();
    let counted = job.queued.len()
        + job.active.len() as u64
        + job.succeeded.len()
        + job.failed.len()
        + job.cancelled.len();
    if wanted != counted {
        broken.push(format!("1: {} has {wanted} tasks, {counted} are accounted for", job.id));
    }
    if job.held.is_some() && job.queued.is_empty() {
        broken.push(format!("10: {} is held, and nothing of it waits", job.id));
    }
    if job.is_final() && !job.standing.is_plain() {
        broken.push(format!("10: {} is over, and stands before others", job.id));
    }
    for (task, at) in &job.active {
        if at.attempt().is_none_or(|attempt| !state.attempts.contains_key(&attempt)) {
            broken.push(format!("2: task {task} of {} is {} without an attempt", job.id, at.as_str()));
        }
    }
}
