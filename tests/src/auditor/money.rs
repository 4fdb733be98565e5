//! Whether every millisecond that a part ran was charged once, at its rate, and the ledger adds up.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::entity::{Attempt, GoneReason, Instance, PartState};
use spillway_core::{Event, State};
use spillway_ledger::journal::Statement;
use spillway_ledger::rates::EndCause;
use spillway_ledger::{Account, Entry, EntryKind};
use spillway_types::{AttemptId, DatasetName, UnixMs};

use super::{Copy, Scene};

/// A copy writes its last line a moment before its end, by a clock of hundredths of a second.
const CLOCK_MS: u64 = 30;

pub(super) fn check(scene: &Scene, replayed: &State, findings: &mut Vec<String>) {
    let entries: Vec<&Entry> = replayed.changes.entries.iter().map(|(_, entry)| entry).collect();
    sums(scene, replayed, &entries, findings);
    let charged = tiles(scene, findings);
    let moved = moved(scene, findings);
    let mut spend: BTreeMap<AttemptId, i64> = BTreeMap::new();
    let of_attempts = [EntryKind::Charge, EntryKind::Overrun, EntryKind::Egress];
    for entry in entries.iter().filter(|entry| of_attempts.contains(&entry.kind())) {
        *spend.entry(entry.subject().attempt).or_default() += entry.spend_micros();
    }
    for attempt in replayed.changes.ended_attempts.iter().chain(replayed.attempts.values()) {
        let spend = spend.get(&attempt.id).copied().unwrap_or(0);
        check_attempt(scene, attempt, (&charged, &moved), spend, findings);
    }
    for instance in &replayed.changes.ended_instances {
        check_instance(instance, &entries, used_on(instance, replayed, &charged), findings);
    }
}

/// What the database adds up, and what the journal gives, entry by entry.
fn sums(scene: &Scene, replayed: &State, entries: &[&Entry], findings: &mut Vec<String>) {
    let totals = &scene.totals;
    if totals.postings_micros != 0
        || !totals.mismatched.is_empty()
        || totals.spend_micros != totals.charges_micros
    {
        findings.push(format!("the ledger does not add up in the database: {totals:?}"));
    }
    let statements: Vec<&Statement> = replayed.changes.statements.iter().map(|(_, it)| it).collect();
    let posted = entries.len() + statements.len();
    if usize::try_from(totals.entries) != Ok(posted) {
        findings.push(format!("the ledger has {} entries, the journal gives {posted}", totals.entries));
    }
    let keys = entries.iter().map(|entry| entry.key()).chain(statements.iter().map(|it| it.key()));
    let keys: BTreeSet<&str> = keys.collect();
    if keys.len() != posted {
        findings.push(format!("{posted} entries have {} keys", keys.len()));
    }
    let shared = statements.iter().flat_map(|it| it.postings());
    let shared = shared.filter(|posting| matches!(posting.account, Account::Spend(_)));
    let shared: i64 = shared.map(|posting| posting.micros).sum();
    let spend = entries.iter().map(|entry| entry.spend_micros()).sum::<i64>() + shared;
    if spend != totals.spend_micros {
        findings
            .push(format!("{} micros were spent by the ledger, {spend} by the journal", totals.spend_micros));
    }
    for group in replayed.groups.keys() {
        let held = scene.stored.book.balance(&Account::Held(group.clone()));
        if held != 0 {
            findings.push(format!("{held} micros are still held for group {group}"));
        }
    }
}

/// Up to where each part was charged. Slices must follow each other from 0 without gap or overlap.
fn tiles(scene: &Scene, findings: &mut Vec<String>) -> BTreeMap<(AttemptId, u32), u64> {
    let mut charged: BTreeMap<(AttemptId, u32), u64> = BTreeMap::new();
    for event in scene.journal.iter().flat_map(|row| &row.events) {
        if let Event::UsageCharged { attempt, rank, from_ms, to_ms } = event {
            let edge = charged.entry((*attempt, *rank)).or_default();
            if from_ms != edge || to_ms < from_ms {
                findings.push(format!(
                    "part {rank} of {attempt} was charged up to {edge} ms, then from {from_ms} to {to_ms} ms"
                ));
            }
            *edge = *to_ms;
        }
    }
    charged
}

/// The bytes that were charged of each download, as it went on. None may be charged twice.
fn moved<'a>(scene: &'a Scene, findings: &mut Vec<String>) -> Vec<Bytes<'a>> {
    let mut all: Vec<Bytes<'a>> = vec![];
    for event in scene.journal.iter().flat_map(|row| &row.events) {
        if let Event::BytesMoved { attempt, rank, dataset, pass, from_bytes, to_bytes } = event {
            let of = (*attempt, *rank, dataset, *pass);
            let known = all.iter().filter(|bytes| bytes.of == of).map(|bytes| bytes.span.1).max();
            if to_bytes <= from_bytes || known.is_some_and(|known| *from_bytes < known) {
                findings.push(format!(
                    "{of:?} was charged up to byte {known:?}, then {from_bytes} to {to_bytes}"
                ));
            }
            all.push(Bytes { of, span: (*from_bytes, *to_bytes) });
        }
    }
    all
}

/// Bytes that were charged together.
struct Bytes<'a> {
    of: (AttemptId, u32, &'a DatasetName, u32),
    span: (u64, u64),
}

impl Bytes<'_> {
    /// What they cost at the price of the attempt's placement.
    fn cost(&self, attempt: &Attempt) -> i64 {
        let input = attempt.inputs.iter().find(|input| input.dataset == *self.of.2);
        input.map_or(0, |input| input.price.cost_micros(self.span.0, self.span.1))
    }
}

fn check_attempt(
    scene: &Scene,
    attempt: &Attempt,
    (charged, moved): (&BTreeMap<(AttemptId, u32), u64>, &[Bytes<'_>]),
    spend: i64,
    findings: &mut Vec<String>,
) {
    let own = moved.iter().filter(|bytes| bytes.of.0 == attempt.id);
    let mut cost: i64 = own.map(|bytes| bytes.cost(attempt)).sum();
    for (rank, part) in (0..).zip(&attempt.parts) {
        let charged_ms = charged.get(&(attempt.id, rank)).copied().unwrap_or(0);
        cost += part.rate.cost_micros(1, 1, 0, charged_ms);
        let PartState::Ended { ran_ms, .. } = part.state else { continue };
        if charged_ms != ran_ms {
            findings.push(format!(
                "part {rank} of {} ran {ran_ms} ms and was charged {charged_ms} ms",
                attempt.id
            ));
        }
        let copies = scene.jobs.iter().flat_map(|job| &job.copies);
        let copies = copies.filter(|copy| (copy.attempt, copy.rank) == (attempt.id, rank));
        for wrote_ms in copies.map(Copy::wrote_ms).filter(|wrote_ms| *wrote_ms > charged_ms + CLOCK_MS) {
            findings.push(format!("{} wrote for {wrote_ms} ms and was charged {charged_ms} ms", attempt.id));
        }
    }
    if cost != spend || cost != attempt.cost_micros {
        let stored = attempt.cost_micros;
        findings
            .push(format!("{} cost {cost} micros, {spend} were charged, its row says {stored}", attempt.id));
    }
}

/// What parts that ran on this instance's node were charged.
fn used_on(instance: &Instance, replayed: &State, charged: &BTreeMap<(AttemptId, u32), u64>) -> i64 {
    let attempts = replayed.changes.ended_attempts.iter().chain(replayed.attempts.values());
    let parts =
        attempts.flat_map(|attempt| (0..).zip(&attempt.parts).map(|(rank, part)| ((attempt.id, rank), part)));
    let here = parts.filter(|(_, part)| part.node.is_some() && part.node == instance.node);
    here.map(|(key, part)| part.rate.cost_micros(1, 1, 0, charged.get(&key).copied().unwrap_or(0))).sum()
}

/// What an instance cost is what its parts were charged, and the rest as overhead.
fn check_instance(instance: &Instance, entries: &[&Entry], used: i64, findings: &mut Vec<String>) {
    let Some((gone, why)) = &instance.gone else { return };
    // The end of one that vanished is its provider's doing.
    let cause = if *why == GoneReason::Vanished { EndCause::Provider } else { EndCause::User };
    let lived = |from: UnixMs| {
        let billed = instance.billing.billed(gone.since(from), cause);
        instance.price.cost_micros(1, 1, 0, billed.0)
    };
    // Where the provider's answer was never heard, its agent's first word is the first that is known of it.
    let cost = instance.launched.or(instance.ready).map_or(0, lived);
    let overhead: i64 = entries
        .iter()
        .filter(|entry| entry.kind() == EntryKind::Overhead && entry.subject().instance == Some(instance.id))
        .map(|entry| entry.spend_micros())
        .sum();
    if cost != used + overhead {
        let told = format!("its parts were charged {used}, and {overhead} are overhead");
        findings.push(format!("{} cost {cost} micros; {told}", instance.id));
    }
}

impl Copy {
    const fn wrote_ms(&self) -> u64 {
        self.last_ms - self.first_ms
    }
}
