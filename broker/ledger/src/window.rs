//! The windows of limits: months and quarters of a time zone, and grants from one instant to another.
//!
//! Time zones come from the database that is compiled in, never from the machine: the same instant is in the same
//! month everywhere. A month begins at the first instant of its first day in the zone, whatever clocks do then, so
//! the months of a zone tile time: none overlap, and none leave a gap.

use std::fmt;

use serde::{Deserialize, Serialize};
use spillway_types::UnixMs;

use crate::calendar::{Period, Zone, parse_instant};

/// A stretch of time, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first instant in it.
    pub from: UnixMs,
    /// The first instant after it.
    pub to: UnixMs,
}

impl Span {
    /// Whether `at` is in it.
    #[must_use]
    pub fn contains(&self, at: UnixMs) -> bool {
        self.from <= at && at < self.to
    }
}

/// Over what time a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Window {
    /// At each instant: how much is in use at once.
    Instant,
    /// Each month of the group's time zone.
    Month,
    /// Each quarter of the group's time zone.
    Quarter,
    /// Once, from an instant to another.
    Grant {
        /// The first instant it can be used for.
        from: UnixMs,
        /// The first instant it cannot be used for any more.
        to: UnixMs,
    },
}

impl Window {
    /// The stretch that `at` is in: none for what counts at each instant. A grant's is its own, whenever asked.
    #[must_use]
    pub fn period(self, zone: &Zone, at: UnixMs) -> Option<Span> {
        match self {
            Self::Instant => None,
            Self::Month => {
                let month = Period::of(at, zone);
                Some(Span { from: month.start(zone), to: month.end(zone) })
            }
            Self::Quarter => {
                let first = Period::of(at, zone).quarter();
                Some(Span { from: first.start(zone), to: first.next().next().end(zone) })
            }
            Self::Grant { from, to } => Some(Span { from, to }),
        }
    }

    /// The months whose use counts at `at`, first and last; none for windows that are not made of months.
    #[must_use]
    pub fn months(self, zone: &Zone, at: UnixMs) -> Option<(Period, Period)> {
        let month = Period::of(at, zone);
        match self {
            Self::Instant | Self::Grant { .. } => None,
            Self::Month => Some((month, month)),
            Self::Quarter => Some((month.quarter(), month.quarter().next().next())),
        }
    }
}

/// Why a text is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a window: write `instant`, `month`, `quarter`, or a grant's two instants as `2026-01-01..2026-07-01`"
)]
pub struct WindowError {
    /// What was given, cut to 80 characters.
    pub value: String,
}

impl std::str::FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let refused = || WindowError { value: text.chars().take(80).collect() };
        match text {
            "instant" => Ok(Self::Instant),
            "month" => Ok(Self::Month),
            "quarter" => Ok(Self::Quarter),
            grant => {
                let (from, to) = grant.split_once("..").ok_or_else(refused)?;
                let (from, to) = (instant(from).ok_or_else(refused)?, instant(to).ok_or_else(refused)?);
                Ok(Self::Grant { from, to })
            }
        }
    }
}

/// An instant in UTC, or the first of a day.
fn instant(text: &str) -> Option<UnixMs> {
    let day = || text.parse::<crate::calendar::Day>().ok().map(crate::calendar::Day::start);
    parse_instant(text).or_else(day)
}

/// An instant as it is written: the first of a day as the day.
fn instant_word(at: UnixMs) -> String {
    let day = crate::calendar::Day::of(at);
    if day.start() == at { day.to_string() } else { at.to_string() }
}

impl Window {
    /// The window as one word, as it is written: a grant as `FROM..TO`.
    #[must_use]
    pub fn word(self) -> String {
        match self {
            Self::Grant { from, to } => format!("{}..{}", instant_word(from), instant_word(to)),
            Self::Instant | Self::Month | Self::Quarter => self.to_string(),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instant => f.pad("instant"),
            Self::Month => f.pad("month"),
            Self::Quarter => f.pad("quarter"),
            Self::Grant { from, to } => f.pad(&format!("grant {from} to {to}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    const HOUR: i64 = 3_600_000;

    fn at(text: &str) -> UnixMs {
        UnixMs(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn hours(zone: &str, window: Window, inside: &str) -> i64 {
        let period = window.period(&zone.parse().unwrap(), at(inside)).unwrap();
        (period.to.0 - period.from.0) / HOUR
    }

    #[test]
    fn windows_are_one_word() {
        for word in
            ["instant", "month", "quarter", "2026-01-01..2026-07-01", "2026-01-01..2026-07-01T12:00:00.000Z"]
        {
            assert_eq!(word.parse::<Window>().map(Window::word).as_deref(), Ok(word));
        }
        for wrong in [
            "",
            "year",
            "2026-01-01",
            "2026-01-01..",
            "2026-13-01..2026-14-01",
            "2026-01-01..2026-07-01+09:00",
        ] {
            assert!(wrong.parse::<Window>().unwrap_err().to_string().contains(wrong));
        }
    }

    #[test]
    fn months_with_a_clock_change_have_an_hour_less_or_more() {
        for (zone, inside, expected) in [
            ("UTC", "2026-03-10T00:00:00Z", 744),
            ("Europe/Berlin", "2026-03-10T00:00:00Z", 743),
            ("Europe/Berlin", "2026-10-10T00:00:00Z", 745),
            ("Europe/Berlin", "2026-02-10T00:00:00Z", 672),
            ("America/New_York", "2026-03-31T23:00:00Z", 743),
            ("America/New_York", "2026-11-15T00:00:00Z", 721),
            ("Asia/Seoul", "2026-03-10T00:00:00Z", 744),
        ] {
            assert_eq!(hours(zone, Window::Month, inside), expected, "{zone} {inside}");
        }
        assert_eq!(hours("Europe/Berlin", Window::Quarter, "2026-01-01T12:00:00Z"), 90 * 24 - 1);
        // A whole day that a zone skipped: Samoa had no 30 December 2011.
        assert_eq!(hours("Pacific/Apia", Window::Month, "2011-12-10T00:00:00Z"), 30 * 24);
    }

    #[test]
    fn the_last_instant_of_a_month_is_the_zones_own() {
        let seoul: Zone = "Asia/Seoul".parse().unwrap();
        assert_eq!(Period::of(at("2026-02-28T14:59:59.999Z"), &seoul).to_string(), "2026-02");
        assert_eq!(Period::of(at("2026-02-28T15:00:00Z"), &seoul).to_string(), "2026-03");
        let kathmandu: Zone = "Asia/Kathmandu".parse().unwrap();
        let may = Period::of(at("2026-05-05T00:00:00Z"), &kathmandu);
        assert_eq!(may.start(&kathmandu), at("2026-04-30T18:15:00Z"));
        // Midnight did not exist there on that day: the month begins with the first instant that did.
        let asuncion: Zone = "America/Asuncion".parse().unwrap();
        let october = Period::of(at("2023-10-10T00:00:00Z"), &asuncion);
        assert_eq!(october.start(&asuncion), at("2023-10-01T04:00:00Z"));
    }

    #[test]
    fn months_and_zones_round_trip_and_what_is_neither_is_refused_by_name() {
        let month: Period = serde_json::from_str("\"2026-12\"").unwrap();
        assert_eq!(serde_json::to_string(&month.next()).unwrap(), "\"2027-01\"");
        assert_eq!(month.quarter().to_string(), "2026-10");
        for wrong in ["\"2026-13\"", "\"2026-0\"", "\"soon\"", "\"\""] {
            assert!(serde_json::from_str::<Period>(wrong).is_err(), "{wrong}");
        }
        let zone: Zone = serde_json::from_str("\"Europe/Berlin\"").unwrap();
        assert_eq!(serde_json::to_string(&zone).unwrap(), "\"Europe/Berlin\"");
        for wrong in ["Mars/Olympus", "", "CEST+2", "../etc"] {
            let error = wrong.parse::<Zone>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_months_of_a_zone_tile_time(
            // From the second quarter of 1970 on: months before the first are the first.
            ms in 10_000_000_000_i64..4_000_000_000_000,
            zone in proptest::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu", "Africa/Cairo", "America/Asuncion"]),
        ) {
            let (zone, at): (Zone, _) = (zone.parse().unwrap(), UnixMs(ms));
            for window in [Window::Month, Window::Quarter] {
                let period = window.period(&zone, at).unwrap();
                proptest::prop_assert!(period.contains(at));
                let after = window.period(&zone, period.to).unwrap();
                proptest::prop_assert_eq!(after.from, period.to);
                let before = window.period(&zone, UnixMs(period.from.0 - 1)).unwrap();
                proptest::prop_assert_eq!(before.to, period.from);
            }
        }
    }
}
