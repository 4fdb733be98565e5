//! Turns usage reports into slices that tile each part's run from 0 on, however often reports are repeated,
//! overlap or come out of order.
//!
//! For each part it keeps two edges: up to where use was reported, and up to where it was charged. The charged
//! edge is at most the reported one and at most the cap that the caller gives: what the broker itself saw leased.
//! What lies between the cap and a report is charged with a later report if the cap has grown by then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The edges of every part of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SliceBook {
    parts: BTreeMap<u32, Edges>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Edges {
    reported_ms: u64,
    charged_ms: u64,
}

/// What a report adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Charge this, and only this: it begins where the last charge of the part ended.
    Slice {
        /// Begin, in milliseconds from the start of the part.
        from_ms: u64,
        /// End, exclusive; after the begin.
        to_ms: u64,
    },
    /// All of it was charged before, or it is empty.
    Duplicate,
    /// It is noted, and all that is new in it lies beyond the cap.
    BeyondCap,
}

/// Why a report was not accepted. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TilingError {
    /// An earlier report is missing; when that one is here, this one can be sent again.
    #[error(
        "part {rank} reports use from {from_ms} ms, but from {reported_ms} ms on its use is not known yet"
    )]
    Gap {
        /// The part.
        rank: u32,
        /// Where the report begins.
        from_ms: u64,
        /// Where it may begin at the latest.
        reported_ms: u64,
    },
    /// It ends before it begins.
    #[error("part {rank} reports use from {from_ms} ms to {to_ms} ms: it ends before it begins")]
    Reversed {
        /// The part.
        rank: u32,
        /// Where the report begins.
        from_ms: u64,
        /// Where it ends.
        to_ms: u64,
    },
}

impl SliceBook {
    /// The book of an attempt of which nothing was reported.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a report that the part ran from `from_ms` to `to_ms`, of which nothing beyond `cap_ms` may be charged
    /// for now; all in milliseconds from the start of the part.
    ///
    /// # Errors
    /// [`TilingError`] where an earlier report is missing or the report is reversed.
    pub fn accept(
        &mut self,
        rank: u32,
        from_ms: u64,
        to_ms: u64,
        cap_ms: u64,
    ) -> Result<Accepted, TilingError> {
        let edges = self.parts.get(&rank).copied().unwrap_or_default();
        if to_ms < from_ms {
            return Err(TilingError::Reversed { rank, from_ms, to_ms });
        }
        if from_ms > edges.reported_ms {
            return Err(TilingError::Gap { rank, from_ms, reported_ms: edges.reported_ms });
        }
        let reported_ms = edges.reported_ms.max(to_ms);
        let charged_ms = edges.charged_ms.max(reported_ms.min(cap_ms));
        self.parts.insert(rank, Edges { reported_ms, charged_ms });
        Ok(if charged_ms > edges.charged_ms {
            Accepted::Slice { from_ms: edges.charged_ms, to_ms: charged_ms }
        } else if to_ms > charged_ms {
            Accepted::BeyondCap
        } else {
            Accepted::Duplicate
        })
    }

    /// Up to where the part was charged.
    #[must_use]
    pub fn charged_ms(&self, rank: u32) -> u64 {
        self.parts.get(&rank).map_or(0, |edges| edges.charged_ms)
    }

    /// Up to where the part reported its use: what a report may begin with at the latest.
    #[must_use]
    pub fn reported_ms(&self, rank: u32) -> u64 {
        self.parts.get(&rank).map_or(0, |edges| edges.reported_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: u64 = u64::MAX;

    #[test]
    fn every_millisecond_is_charged_once() {
        let mut book = SliceBook::new();
        let slice = |from_ms, to_ms| Ok(Accepted::Slice { from_ms, to_ms });
        let gap = |from_ms, reported_ms| Err(TilingError::Gap { rank: 0, from_ms, reported_ms });
        let cases = [
            (5, 10, FREE, gap(5, 0)),
            (0, 0, FREE, Ok(Accepted::Duplicate)),
            (0, 10, FREE, slice(0, 10)),
            (0, 10, FREE, Ok(Accepted::Duplicate)),
            (3, 7, FREE, Ok(Accepted::Duplicate)),
            (5, 15, FREE, slice(10, 15)),
            (16, 20, FREE, gap(16, 15)),
            (9, 8, FREE, Err(TilingError::Reversed { rank: 0, from_ms: 9, to_ms: 8 })),
            (15, 30, 20, slice(15, 20)),
            (30, 40, 20, Ok(Accepted::BeyondCap)),
            (15, 30, 20, Ok(Accepted::BeyondCap)),
            (40, 50, 45, slice(20, 45)),
            (40, 50, 10, Ok(Accepted::BeyondCap)),
            (0, 1, FREE, slice(45, 50)),
        ];
        for (step, (from, to, cap, expected)) in cases.into_iter().enumerate() {
            assert_eq!(book.accept(0, from, to, cap), expected, "step {step}");
        }
        assert_eq!((book.charged_ms(0), book.reported_ms(0), book.charged_ms(1)), (50, 50, 0));
        assert_eq!(book.accept(1, 0, 4, FREE), slice(0, 4), "parts do not know of each other");
    }

    #[test]
    fn a_refused_report_changes_nothing_and_the_book_survives_storage() {
        let mut book = SliceBook::new();
        assert!(book.accept(3, 0, 10, 8).is_ok());
        let before = book.clone();
        assert!(book.accept(3, 11, 12, FREE).is_err());
        assert!(book.accept(4, 11, 12, FREE).is_err());
        assert_eq!(book, before);
        let json = serde_json::to_string(&book).unwrap();
        assert_eq!(serde_json::from_str::<SliceBook>(&json).unwrap(), book);
    }
}
