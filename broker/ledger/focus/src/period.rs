//! Half-open periods of time, and how usage is cut into the slices that become rows.
//!
//! Columns print whole seconds of UTC, the ledger counts milliseconds. Both ends are rounded down, so slices that
//! touch still touch in print; one that lies within a second is printed as that second.

use jiff::Timestamp;
use spillway_types::UnixMs;

const DAY_MS: i64 = 24 * 3_600_000;
const SECOND_MS: i64 = 1000;

/// From `start` to before `end`, in milliseconds since 1970 UTC. It is never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    start: UnixMs,
    end: UnixMs,
}

/// Why two instants are not a period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// It has no length.
    #[error("the period from {start} to {end} is empty: its end must be after its start")]
    Empty {
        /// First instant.
        start: UnixMs,
        /// Instant after the last.
        end: UnixMs,
    },
    /// No calendar reaches it.
    #[error("the instant {ms} ms since 1970 is outside of the years -9999 to 9999")]
    OutOfRange {
        /// The instant.
        ms: i64,
    },
}

impl Period {
    /// From `start` to before `end`.
    ///
    /// # Errors
    /// [`PeriodError`] where it is empty or cannot be printed.
    pub fn new(start: UnixMs, end: UnixMs) -> Result<Self, PeriodError> {
        for UnixMs(ms) in [start, end] {
            if Timestamp::from_millisecond(ms).is_err() {
                return Err(PeriodError::OutOfRange { ms });
            }
        }
        if end <= start { Err(PeriodError::Empty { start, end }) } else { Ok(Self { start, end }) }
    }

    /// Its first instant.
    #[must_use]
    pub const fn start(self) -> UnixMs {
        self.start
    }

    /// The instant after its last.
    #[must_use]
    pub const fn end(self) -> UnixMs {
        self.end
    }

    /// Its length in milliseconds.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.end.0.abs_diff(self.start.0)
    }

    /// Start and end as they are printed: whole seconds, at least one.
    #[must_use]
    pub fn printed(self) -> (UnixMs, UnixMs) {
        let (start, end) = (whole_second(self.start), whole_second(self.end));
        (start, if end == start { UnixMs(start.0 + SECOND_MS) } else { end })
    }

    /// Slices that tile it, cut at each UTC midnight and at each of these instants (changes of price, ends of
    /// billing periods) that lies inside.
    #[must_use]
    pub fn cut(self, at: &[UnixMs]) -> Vec<Self> {
        let first_day = self.start.0.div_euclid(DAY_MS) + 1;
        let last_day = (self.end.0 - 1).div_euclid(DAY_MS);
        let midnights = (first_day..=last_day).map(|day| UnixMs(day * DAY_MS));
        let mut cuts: Vec<UnixMs> = midnights.chain(at.iter().copied()).collect();
        cuts.retain(|instant| *instant > self.start && *instant < self.end);
        cuts.sort_unstable();
        cuts.dedup();
        let starts = std::iter::once(self.start).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([self.end]);
        starts.zip(ends).map(|(start, end)| Self { start, end }).collect()
    }
}

const fn whole_second(UnixMs(ms): UnixMs) -> UnixMs {
    UnixMs(ms.div_euclid(SECOND_MS) * SECOND_MS)
}

/// An instant as columns print it: `2026-11-01T00:00:00Z`.
#[must_use]
pub fn print_instant(instant: UnixMs) -> String {
    Timestamp::from_millisecond(whole_second(instant).0)
        .map_or_else(|_| instant.0.to_string(), |instant| instant.to_string())
}

/// Why a text is not an instant as columns print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InstantError {
    /// It has another offset than `Z`, or none.
    #[error("it is not in UTC; write it as 2026-11-01T00:00:00Z")]
    NotUtc,
    /// It is something else.
    #[error("it is not an instant of the form 2026-11-01T00:00:00Z")]
    NotAnInstant,
}

/// Reads an instant, strictly as [`print_instant`] writes it.
///
/// # Errors
/// [`InstantError`] says what is wrong with it.
pub fn parse_instant(text: &str) -> Result<UnixMs, InstantError> {
    let shape = "0000-00-00T00:00:00Z";
    let fits = |(byte, form): (u8, u8)| byte == form || (form == b'0' && byte.is_ascii_digit());
    if text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits) {
        let instant: Timestamp = text.parse().map_err(|_| InstantError::NotAnInstant)?;
        return Ok(UnixMs(instant.as_millisecond()));
    }
    let local: Result<jiff::civil::DateTime, _> = text.parse();
    let offset = text.parse::<Timestamp>();
    if !text.ends_with('Z') && (local.is_ok() || offset.is_ok()) && text.contains('T') {
        return Err(InstantError::NotUtc);
    }
    Err(InstantError::NotAnInstant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn period(start: &str, end: &str) -> Period {
        let instant = |text: &str| UnixMs(text.parse::<Timestamp>().unwrap().as_millisecond());
        Period::new(instant(start), instant(end)).unwrap()
    }

    #[test]
    fn slices_are_cut_at_days_prices_and_periods() {
        let price_change = parse_instant("2026-10-31T12:00:00Z").unwrap();
        let outside = parse_instant("2026-11-03T00:00:00Z").unwrap();
        let slices = period("2026-10-31T06:00:00Z", "2026-11-02T00:00:00Z").cut(&[
            outside,
            price_change,
            price_change,
        ]);
        let printed: Vec<String> = slices.iter().map(|slice| print_instant(slice.start())).collect();
        assert_eq!(printed, ["2026-10-31T06:00:00Z", "2026-10-31T12:00:00Z", "2026-11-01T00:00:00Z"]);
        assert_eq!(print_instant(slices[2].end()), "2026-11-02T00:00:00Z");
    }

    #[test]
    fn a_slice_within_a_second_is_printed_as_that_second() {
        let (start, end) = period("2026-10-31T06:00:00.2Z", "2026-10-31T06:00:00.9Z").printed();
        assert_eq!(
            (print_instant(start), print_instant(end)),
            ("2026-10-31T06:00:00Z".to_owned(), "2026-10-31T06:00:01Z".to_owned())
        );
        let (_, end) = period("2026-10-31T06:00:00.2Z", "2026-10-31T06:00:02.9Z").printed();
        assert_eq!(print_instant(end), "2026-10-31T06:00:02Z");
    }

    #[test]
    fn instants_are_read_strictly() {
        let utc = Err(InstantError::NotUtc);
        let wrong = Err(InstantError::NotAnInstant);
        let cases = [
            ("1970-01-01T00:00:01Z", Ok(UnixMs(1000))),
            ("2026-11-01T00:00:00+02:00", utc),
            ("2026-11-01T00:00:00", utc),
            ("2026-11-01T00:00:00+00:00", utc),
            ("2026-11-01 00:00:00Z", wrong),
            ("2026-11-01T00:00:00.5Z", wrong),
            ("2026-11-01", wrong),
            ("2026-13-01T00:00:00Z", wrong),
            ("November", wrong),
            ("", wrong),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_instant(text), expected, "{text}");
        }
    }

    #[test]
    fn an_empty_period_is_refused() {
        let error = Period::new(UnixMs(5), UnixMs(5)).unwrap_err();
        assert!(error.to_string().contains("its end must be after its start"), "{error}");
        assert_eq!(Period::new(UnixMs(0), UnixMs(i64::MAX)), Err(PeriodError::OutOfRange { ms: i64::MAX }));
    }

    proptest! {
        #[test]
        fn slices_tile_the_period(
            start in -10_i64.pow(12)..10_i64.pow(13),
            length in 1..40 * DAY_MS,
            cuts in proptest::collection::vec(0..40 * DAY_MS, 0..6),
        ) {
            let whole = Period::new(UnixMs(start), UnixMs(start + length)).unwrap();
            let cuts: Vec<UnixMs> = cuts.into_iter().map(|cut| UnixMs(start + cut)).collect();
            let slices = whole.cut(&cuts);
            prop_assert_eq!(slices[0].start(), whole.start());
            prop_assert_eq!(slices[slices.len() - 1].end(), whole.end());
            for pair in slices.windows(2) {
                prop_assert_eq!(pair[0].end(), pair[1].start());
            }
            for slice in slices {
                prop_assert!(slice.end() > slice.start());
                prop_assert_eq!(slice.start().0.div_euclid(DAY_MS), (slice.end().0 - 1).div_euclid(DAY_MS));
            }
        }
    }
}
