//! What is still to be said of a part: a pure function of what is known of it and what the spool says was
//! said. Nothing is kept beside the spool, so a crash between an event and a note of it cannot happen.

use spillway_tunnel::protocol::AgentEvent;
use spillway_types::DurationMs;

use crate::datasets::Move;
use crate::part::{ExitRecord, PartKey};
use crate::spool::{Moved, Reported};

/// Bytes of a dataset that are said while it still comes: the unit that providers price.
const MOVED_EVERY: u64 = 1_000_000_000;

/// What is known of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Its folder is made.
    Prepared,
    /// Its program runs since then, in milliseconds of CLOCK_BOOTTIME; none until that is known.
    Running(Option<u64>),
    /// It ended.
    Ended(ExitRecord),
}

/// What stands before the part's output, in order.
pub(super) fn before_output(
    part: PartKey,
    known: &Known,
    said: &Reported,
    now_ms: u64,
    usage_every: DurationMs,
) -> Vec<AgentEvent> {
    let PartKey { attempt, rank } = part;
    let (ran_ms, least) = match known {
        Known::Prepared if said.prepared => return Vec::new(),
        Known::Prepared => return vec![AgentEvent::Prepared { attempt, rank }],
        Known::Running(None) => return Vec::new(),
        Known::Running(Some(started_ms)) => (now_ms.saturating_sub(*started_ms), usage_every.0),
        Known::Ended(record) if !record.started => return Vec::new(),
        Known::Ended(record) => (record.ran_ms, 1),
    };
    let mut events = Vec::new();
    if !said.started {
        events.push(AgentEvent::Started { attempt, rank });
    }
    if ran_ms.saturating_sub(said.usage_to_ms) >= least.max(1) {
        events.push(AgentEvent::Usage { attempt, rank, from_ms: said.usage_to_ms, to_ms: ran_ms });
    }
    events
}

/// How old the use of a part is that is not in the spool, in milliseconds; none while that is not known.
pub(super) const fn unsaid_ms(known: &Known, said: &Reported, now_ms: u64) -> Option<u64> {
    match known {
        Known::Prepared => Some(0),
        Known::Running(None) => None,
        Known::Running(Some(started_ms)) => {
            Some(now_ms.saturating_sub(started_ms.saturating_add(said.usage_to_ms)))
        }
        Known::Ended(record) if record.started && record.ran_ms > said.usage_to_ms => None,
        Known::Ended(_) => Some(0),
    }
}

/// What of a move is to be said, where `said` is the newest that was said of the dataset: once it has ended, or whenever
/// so much came that it would be missed if this node went away.
pub(super) fn moved(begun: &Move, said: Option<&Moved>) -> Option<AgentEvent> {
    let (to_bytes, over) = (begun.to(), begun.is_over());
    let from_bytes = match said {
        Some(said) if said.pass > begun.pass => return None,
        Some(said) if said.pass == begun.pass => said.to_bytes.max(begun.from),
        Some(_) | None => begun.from,
    };
    let least = if over { 1 } else { MOVED_EVERY };
    (to_bytes.saturating_sub(from_bytes) >= least).then(|| AgentEvent::Moved {
        attempt: begun.part.attempt,
        rank: begun.part.rank,
        dataset: begun.dataset.clone(),
        pass: begun.pass,
        from_bytes,
        to_bytes,
    })
}

/// The last word on a part. It ran at least as long as was said before: what vanished unseen is not taken
/// back.
pub(super) fn end(part: PartKey, record: &ExitRecord, said: &Reported) -> AgentEvent {
    let ran_ms = record.ran_ms.max(said.usage_to_ms);
    AgentEvent::Ended { attempt: part.attempt, rank: part.rank, end: record.end.clone(), ran_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::key_of;
    use crate::reconcile::tests::lease;
    use spillway_tunnel::protocol::PartEnd;

    const EVERY: DurationMs = DurationMs(100);

    fn events(known: &Known, said: &Reported, now_ms: u64) -> String {
        let part = key_of(&lease(1));
        let events = before_output(part, known, said, now_ms, EVERY);
        let words: Vec<String> = events
            .iter()
            .map(|event| match event {
                AgentEvent::Prepared { .. } => "prepared".to_owned(),
                AgentEvent::Started { .. } => "started".to_owned(),
                AgentEvent::Usage { from_ms, to_ms, .. } => format!("{from_ms}..{to_ms}"),
                AgentEvent::Moved { .. } | AgentEvent::Output { .. } | AgentEvent::Ended { .. } => {
                    panic!("{event:?}")
                }
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn what_is_missing_is_said() {
        let ended =
            |ran_ms, started| Known::Ended(ExitRecord { end: PartEnd::Vanished, started, ran_ms, cpu_ms: 0 });
        let said =
            |started, usage_to_ms| Reported { prepared: true, started, usage_to_ms, ..Reported::default() };
        let nothing = Reported::default();
        for (known, said, expected) in [
            (Known::Prepared, nothing.clone(), "prepared"),
            (Known::Prepared, said(false, 0), ""),
            (Known::Running(None), nothing.clone(), ""),
            (Known::Running(Some(950)), nothing.clone(), "started"),
            (Known::Running(Some(900)), nothing.clone(), "started 0..100"),
            (Known::Running(Some(500)), said(true, 401), ""),
            (Known::Running(Some(500)), said(true, 400), "400..500"),
            (ended(730, true), nothing.clone(), "started 0..730"),
            (ended(730, true), said(true, 729), "729..730"),
            (ended(730, true), said(true, 730), ""),
            (ended(0, true), nothing.clone(), "started"),
            (ended(0, true), said(true, 500), ""),
            (ended(0, false), nothing, ""),
        ] {
            assert_eq!(events(&known, &said, 1000), expected, "{known:?} {said:?}");
        }
    }

    #[test]
    fn what_was_used_and_not_said_is_as_old_as_its_begin() {
        let ended =
            |ran_ms, started| Known::Ended(ExitRecord { end: PartEnd::Stopped, started, ran_ms, cpu_ms: 0 });
        let said = |usage_to_ms| Reported { usage_to_ms, ..Reported::default() };
        for (known, said, expected) in [
            (Known::Prepared, said(0), Some(0)),
            (Known::Running(None), said(0), None),
            (Known::Running(Some(900)), said(0), Some(100)),
            (Known::Running(Some(400)), said(500), Some(100)),
            (Known::Running(Some(400)), said(600), Some(0)),
            (ended(600, true), said(599), None),
            (ended(600, true), said(600), Some(0)),
            (ended(0, false), said(0), Some(0)),
        ] {
            assert_eq!(unsaid_ms(&known, &said, 1000), expected, "{known:?} {said:?}");
        }
    }

    #[test]
    fn the_end_never_takes_usage_back() {
        let record = ExitRecord { end: PartEnd::Vanished, started: true, ran_ms: 0, cpu_ms: 0 };
        let said = Reported { started: true, usage_to_ms: 500, ..Reported::default() };
        assert!(matches!(end(key_of(&lease(1)), &record, &said), AgentEvent::Ended { ran_ms: 500, .. }));
    }
}
