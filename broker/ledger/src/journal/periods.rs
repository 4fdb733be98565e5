//! Periods: open until they are closed, in order, and never opened again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::UnixMs;

use super::chain::Digest;
use crate::Account;
use crate::calendar::{Period, Zone};

/// What was frozen when a period was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When.
    pub at: UnixMs,
    /// SHA-256 of the period's export; none for the moment between the close and the making of the export.
    pub digest: Option<Digest>,
}

/// Into which period something is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booking {
    /// The period whose books and invoices it is in.
    pub period: Period,
    /// The period in which it happened, where that is another one: it is closed, so this is a correction.
    pub corrects: Option<Period>,
}

/// Why a period cannot be closed or frozen. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// It is closed.
    #[error("period {period} was closed at {at}: what is late is booked into the first open period")]
    Closed {
        /// The period.
        period: Period,
        /// When.
        at: UnixMs,
    },
    /// One before it is open.
    #[error("period {period} cannot be closed before period {open}, which is open: close that one first")]
    OutOfOrder {
        /// The period.
        period: Period,
        /// The one to close first.
        open: Period,
    },
    /// It goes on.
    #[error("period {period} ends at {ends}: it can be closed from then on")]
    NotOver {
        /// The period.
        period: Period,
        /// Its end.
        ends: UnixMs,
    },
    /// Its export cannot be frozen before it is closed.
    #[error("period {period} is open: close it before its export is frozen")]
    Open {
        /// The period.
        period: Period,
    },
    /// Another export was frozen.
    #[error("period {period} has the frozen export {frozen}, which is not {given}")]
    Frozen {
        /// The period.
        period: Period,
        /// What is frozen.
        frozen: Digest,
        /// What was given.
        given: Digest,
    },
}

/// The periods of a journal. What is older than the first closed one was never booked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Periods {
    zone: Zone,
    closed: BTreeMap<Period, Closed>,
}

impl Periods {
    /// All open, in months of the zone.
    #[must_use]
    pub const fn new(zone: Zone) -> Self {
        Self { zone, closed: BTreeMap::new() }
    }

    /// The zone of the periods.
    #[must_use]
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The closed periods, with what was frozen.
    #[must_use]
    pub const fn closed(&self) -> &BTreeMap<Period, Closed> {
        &self.closed
    }

    /// The newest closed period.
    #[must_use]
    pub fn newest_closed(&self) -> Option<Period> {
        self.closed.keys().next_back().copied()
    }

    /// Into which period something is booked that was so at the instant.
    #[must_use]
    pub fn book(&self, effective_at: UnixMs) -> Booking {
        let happened = Period::of(effective_at, &self.zone);
        match self.newest_closed() {
            Some(closed) if happened <= closed => Booking { period: closed.next(), corrects: Some(happened) },
            Some(_) | None => Booking { period: happened, corrects: None },
        }
    }

    /// Whether the period can be closed at `now`: it is over, and the one before it is closed where any is. Whether
    /// all that was used in it is known is another question.
    ///
    /// # Errors
    /// [`PeriodError`].
    pub fn check(&self, period: Period, now: UnixMs) -> Result<(), PeriodError> {
        if let Some(closed) = self.closed.get(&period) {
            return Err(PeriodError::Closed { period, at: closed.at });
        }
        if let Some((newest, closed)) = self.closed.last_key_value() {
            if period < *newest {
                return Err(PeriodError::Closed { period, at: closed.at });
            }
            if period != newest.next() {
                return Err(PeriodError::OutOfOrder { period, open: newest.next() });
            }
        }
        let ends = period.end(&self.zone);
        if now < ends { Err(PeriodError::NotOver { period, ends }) } else { Ok(()) }
    }

    /// Closes the period with what is frozen: checked as in [`Periods::check`], at `frozen.at`.
    ///
    /// # Errors
    /// [`PeriodError`]; nothing changed.
    pub fn close(&mut self, period: Period, frozen: Closed) -> Result<(), PeriodError> {
        self.check(period, frozen.at)?;
        self.closed.insert(period, frozen);
        Ok(())
    }

    /// Notes the digest of a closed period's export, for ever.
    ///
    /// # Errors
    /// [`PeriodError::Open`], and [`PeriodError::Frozen`] where another digest is there.
    pub fn freeze(&mut self, period: Period, digest: Digest) -> Result<(), PeriodError> {
        let closed = self.closed.get_mut(&period).ok_or(PeriodError::Open { period })?;
        let frozen = *closed.digest.get_or_insert(digest);
        if frozen == digest { Ok(()) } else { Err(PeriodError::Frozen { period, frozen, given: digest }) }
    }

    /// Notes a period as it was closed: from a database, or a journal that is replayed.
    pub fn restore(&mut self, period: Period, closed: Closed) {
        self.closed.insert(period, closed);
    }
}

/// The invoice of a payee and a period, for example `2026-03-payable-aws-us-east-1`. It is provisional: the bill
/// that the provider sends has a number of its own. What corrects a closed period is booked into a later one, and
/// so has another invoice.
#[must_use]
pub fn invoice_id(payee: &Account, booked: Period) -> String {
    format!("{booked}-{}", payee.to_string().replace(':', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(period: &str) -> UnixMs {
        period.parse::<Period>().unwrap().start(&Zone::utc())
    }

    fn period(text: &str) -> Period {
        text.parse().unwrap()
    }

    fn closed(at: UnixMs) -> Closed {
        Closed { at, digest: None }
    }

    #[test]
    fn periods_close_in_order_after_their_end_and_once() {
        let mut periods = Periods::new(Zone::utc());
        let mut close = |which: &str, at: UnixMs| periods.close(period(which), closed(at));
        let error = close("2026-03", UnixMs(start("2026-04").0 - 1)).unwrap_err();
        assert!(error.to_string().contains("ends at 2026-04-01T00:00:00.000Z"), "{error}");
        assert_eq!(close("2026-03", start("2026-04")), Ok(()));
        let error = close("2026-05", start("2026-07")).unwrap_err();
        assert_eq!(error, PeriodError::OutOfOrder { period: period("2026-05"), open: period("2026-04") });
        for which in ["2026-03", "2026-02"] {
            assert!(matches!(close(which, start("2026-07")), Err(PeriodError::Closed { .. })), "{which}");
        }
        assert_eq!(close("2026-04", start("2026-07")), Ok(()));
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        assert_eq!(periods.freeze(period("2026-04"), one), Ok(()));
        assert_eq!(periods.freeze(period("2026-04"), one), Ok(()));
        assert!(matches!(periods.freeze(period("2026-04"), other), Err(PeriodError::Frozen { .. })));
        assert!(matches!(periods.freeze(period("2026-05"), one), Err(PeriodError::Open { .. })));
        assert_eq!(periods.newest_closed(), Some(period("2026-04")));
    }

    #[test]
    fn what_is_late_is_booked_into_the_first_open_period_with_another_invoice() {
        let mut periods = Periods::new(Zone::utc());
        periods.close(period("2026-03"), closed(start("2026-04"))).unwrap();
        let late = periods.book(UnixMs(start("2026-04").0 - 1));
        assert_eq!(late, Booking { period: period("2026-04"), corrects: Some(period("2026-03")) });
        let in_time = periods.book(start("2026-06"));
        assert_eq!(in_time, Booking { period: period("2026-06"), corrects: None });
        let payee: Account = "payable:aws:us-east-1".parse().unwrap();
        assert_eq!(invoice_id(&payee, late.period), "2026-04-payable-aws-us-east-1");
        assert_ne!(invoice_id(&payee, late.period), invoice_id(&payee, period("2026-03")));
        let json = serde_json::to_string(&periods).unwrap();
        assert_eq!(serde_json::from_str::<Periods>(&json).unwrap(), periods);
    }
}
