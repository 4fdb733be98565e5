//! Brings together what the auditor looks at, once the broker has stopped.

use std::path::{Path, PathBuf};

use serde_json::Value;
use spillway_store::{Store, StoreError};

use super::{JobWords, Machine, Scene, Trace, read_evidence};
use crate::Spawned;
use crate::federation::Federation;

/// Looks at everything.
///
/// # Panics
/// Something cannot be read.
pub async fn collect(federation: &Federation) -> Scene {
    let (journal, stored, totals) = read_database(federation.database())
        .await
        .unwrap_or_else(|error| panic!("the database cannot be read: {error}"));
    let agents: Vec<i32> = federation
        .agents
        .iter()
        .filter_map(|agent| i32::try_from(Spawned::pid(&agent.process)).ok())
        .collect();
    let processes = federation.folder().processes();
    let sky = federation.path().join("sky/machines");
    let mut states: Vec<PathBuf> =
        entries(&federation.path().join("agents")).iter().map(|home| home.join("state")).collect();
    states.extend(entries(&sky).iter().map(|machine| machine.join("agent")));
    let words = |job: &crate::federation::Submitted| JobWords {
        job: job.id,
        name: job.work.name.clone(),
        outcome: job.work.outcome,
        restartable: job.work.restartable,
        parts: job.parts,
        copies: read_evidence(&job.evidence),
        evidence: job.evidence.clone(),
    };
    Scene {
        journal,
        stored,
        totals,
        machines: entries(&sky).iter().map(|machine| read_machine(machine)).collect(),
        processes: processes.into_iter().filter(|process| !agents.contains(&process.pid)).collect(),
        traces: states.iter().flat_map(|state| read_traces(state)).collect(),
        jobs: federation.submitted().iter().map(words).collect(),
    }
}

type Database = (Vec<spillway_store::JournalRow>, spillway_core::State, spillway_store::LedgerTotals);

async fn read_database(url: &str) -> Result<Database, StoreError> {
    let store = Store::open(url).await?;
    let read = (store.journal(0, usize::MAX).await?, store.load().await?, store.ledger_totals().await?);
    store.close().await?;
    Ok(read)
}

/// What a folder holds, by name; nothing where there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}

fn read_machine(folder: &Path) -> Machine {
    let path = folder.join("record.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let record: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let word = |pointer: &str| {
        let word = record.pointer(pointer).and_then(Value::as_str);
        word.unwrap_or_else(|| panic!("{} has no {pointer}: {text}", path.display()))
    };
    let intent = word("/request/intent").parse();
    Machine {
        provider_id: word("/provider_id").to_owned(),
        intent: intent.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        ended: word("/phase/phase") == "ended",
    }
}

/// The traces of parts whose folders are gone, and of those that are still there.
fn read_traces(state: &Path) -> Vec<Trace> {
    let mut files = vec![state.join("trace.log.1"), state.join("trace.log")];
    files.extend(entries(&state.join("runs")).iter().map(|run| run.join("trace.log")));
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines
        .map(|line| {
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("a trace says `{line}`: {error}"))
        })
        .collect()
}
