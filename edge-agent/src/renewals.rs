//! The book of renewals: when each was sent, and until when each attempt may run because of it.
//!
//! A lease ends at `sending time of renewal N + ttl`, where N is the newest number that a message naming the
//! attempt has echoed. Counting from the sending makes the agent's end never later than the broker's. A
//! number that this process never sent gives no time at all.

use std::collections::BTreeMap;

use spillway_tunnel::protocol::Lease;
use spillway_types::{AttemptId, DurationMs};

/// Renewals kept: at the fastest rhythm, 500 ms, more than the longest lease of ten minutes.
const KEPT: usize = 2048;

/// Times are milliseconds of CLOCK_BOOTTIME.
#[derive(Debug)]
pub struct RenewalBook {
    next: u64,
    sent: BTreeMap<u64, u64>,
    ttls: BTreeMap<AttemptId, DurationMs>,
    deadlines: BTreeMap<AttemptId, u64>,
}

impl RenewalBook {
    /// An empty book of the agent's `generation`th start. Each generation has numbers of its own, so that an
    /// echo of an earlier process's renewal is never taken for one of this process.
    #[must_use]
    pub const fn new(generation: u32) -> Self {
        Self {
            next: ((generation as u64) << 32) + 1,
            sent: BTreeMap::new(),
            ttls: BTreeMap::new(),
            deadlines: BTreeMap::new(),
        }
    }

    /// Notes that a renewal is sent at `now`; its number.
    pub fn send(&mut self, now: u64) -> u64 {
        let number = self.next;
        self.next += 1;
        self.sent.insert(number, now);
        if self.sent.len() > KEPT {
            self.sent.pop_first();
        }
        number
    }

    /// Takes in what should be true: every listed lease holds until the echoed renewal's sending plus its
    /// ttl. Attempts that are not listed keep their deadlines and lose their place for extensions.
    pub fn desired(&mut self, leases: &[Lease], renewal: u64) {
        self.ttls = leases.iter().map(|lease| (lease.attempt, lease.ttl)).collect();
        let listed: Vec<AttemptId> = self.ttls.keys().copied().collect();
        self.renewed(renewal, &listed);
        self.deadlines.retain(|attempt, _| self.ttls.contains_key(attempt));
    }

    /// Takes in the answer to a renewal. A deadline never moves back.
    pub fn renewed(&mut self, number: u64, attempts: &[AttemptId]) {
        let Some(&sent) = self.sent.get(&number) else { return };
        for attempt in attempts {
            let Some(ttl) = self.ttls.get(attempt) else { continue };
            let deadline = self.deadlines.entry(*attempt).or_insert(0);
            *deadline = (*deadline).max(sent.saturating_add(ttl.0));
        }
    }

    /// Remembers the ttl of a part that was taken up from an earlier process, so that it can be extended
    /// before the broker lists it.
    pub fn adopt(&mut self, attempt: AttemptId, ttl: DurationMs) {
        self.ttls.entry(attempt).or_insert(ttl);
    }

    /// Until when each attempt may run.
    #[must_use]
    pub const fn deadlines(&self) -> &BTreeMap<AttemptId, u64> {
        &self.deadlines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::tests::lease;

    #[test]
    fn a_lease_counts_from_the_sending_of_the_echoed_renewal() {
        let mut book = RenewalBook::new(3);
        let (a, b) = (lease(1), lease(2));
        let first = book.send(1_000);
        assert_eq!(first, (3 << 32) + 1);
        let second = book.send(2_000);
        book.desired(&[a.clone(), b.clone()], first);
        assert_eq!(book.deadlines().get(&a.attempt), Some(&(1_000 + a.ttl.0)));
        book.renewed(second, &[b.attempt]);
        assert_eq!(book.deadlines().get(&a.attempt), Some(&(1_000 + a.ttl.0)), "it was not named");
        assert_eq!(book.deadlines().get(&b.attempt), Some(&(2_000 + b.ttl.0)));
        book.renewed(first, &[b.attempt]);
        assert_eq!(book.deadlines().get(&b.attempt), Some(&(2_000 + b.ttl.0)), "it never moves back");
        book.desired(std::slice::from_ref(&a), 0);
        assert_eq!(book.deadlines().len(), 1, "an unlisted lease is forgotten");
    }

    #[test]
    fn an_unknown_number_gives_no_time() {
        let mut book = RenewalBook::new(2);
        let sent = book.send(5_000);
        let a = lease(1);
        for unknown in [0, 1, sent + 1, (1 << 32) + 1] {
            book.desired(std::slice::from_ref(&a), unknown);
            assert!(book.deadlines().is_empty(), "{unknown}");
        }
    }

    #[test]
    fn old_renewals_are_dropped_at_the_limit() {
        let mut book = RenewalBook::new(1);
        let first = book.send(1);
        for _ in 1..KEPT {
            book.send(2);
        }
        book.desired(&[lease(1)], first);
        assert_eq!(book.deadlines().len(), 1);
        book.send(3);
        book.desired(&[lease(2)], first);
        assert!(book.deadlines().is_empty());
    }
}
