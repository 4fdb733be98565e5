//! Whether the database is whole: its journal gives its state, every invariant holds, no node sent other usage than is
//! here, and every job that was acknowledged is there and ended as it should.

use std::collections::BTreeMap;

use spillway_core::{State, invariants};
use spillway_ledger::journal::Said;
use spillway_types::JobId;

use super::Scene;

/// The state that the journal gives, from nothing, with everything that ended on the way in its changes.
pub(super) fn replay(scene: &Scene, findings: &mut Vec<String>) -> State {
    let mut state = State::default();
    for (expected, row) in (1..).zip(&scene.journal) {
        if row.seq != expected {
            findings.push(format!("the journal has entry {} where {expected} belongs", row.seq));
        }
        if let Err(error) = state.replay(row.seq, row.at, &row.events) {
            findings.push(format!("journal entry {} does not follow from those before it: {error}", row.seq));
        }
    }
    state
}

pub(super) fn check(scene: &Scene, replayed: &State, findings: &mut Vec<String>) {
    if *replayed != scene.stored {
        findings.push(format!(
            "the journal gives another state than the stored one: {}",
            difference(replayed, &scene.stored)
        ));
    }
    findings.extend(invariants::check_all(&scene.stored));
    for attempt in scene.stored.attempts.values() {
        findings.push(format!("{} is still {}", attempt.id, attempt.state.as_str()));
    }
    for node in scene.stored.nodes.values().chain(&replayed.changes.ended_nodes) {
        if let Some(Said::Differs { sent, here }) = node.usage.said {
            findings.push(format!("{} has sent {sent}, and here were {here}", node.id));
        }
    }
    submissions(scene, replayed, findings);
}

/// The first part of the state that differs, in both readings.
fn difference(one: &State, other: &State) -> String {
    let json = |state: &State| serde_json::to_value(state).unwrap_or_default();
    let (one, other) = (json(one), json(other));
    let parts = one.as_object().into_iter().flatten();
    let differing = parts.filter(|(name, value)| other.get(name.as_str()) != Some(value));
    let told: Vec<String> = differing
        .map(|(name, value)| {
            let other = other.get(name).map(ToString::to_string).unwrap_or_default();
            format!("{name} is {value} by the journal and {other} as stored")
        })
        .collect();
    told.join("; ")
}

fn submissions(scene: &Scene, replayed: &State, findings: &mut Vec<String>) {
    let mut known: BTreeMap<JobId, &'static str> = BTreeMap::new();
    known.extend(replayed.jobs.values().map(|job| (job.id, job.rolled_up())));
    known.extend(replayed.changes.ended_jobs.iter().map(|job| (job.id, job.rolled_up())));
    for job in &scene.jobs {
        match known.remove(&job.job) {
            None => findings
                .push(format!("{}: {} was acknowledged and is not in the database", job.name, job.job)),
            Some(state) if state != job.outcome.as_str() => {
                findings.push(format!("{}: it is {state}, and was to be {}", job.name, job.outcome.as_str()));
            }
            Some(_) => {}
        }
    }
    for (job, state) in known {
        findings.push(format!("{job} is in the database ({state}), and nobody submitted it"));
    }
}
