//! Days, months and time zones: where slices are cut and into which period they fall.
//!
//! Days are UTC's. Periods are months of a stated zone, so that a month with a change of clocks is an hour shorter
//! or longer. Quantities and costs never depend on a zone; only the bucket does. The table of zones is compiled in:
//! the same version of Spillway cuts the same months on every machine.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use spillway_types::UnixMs;
use spillway_types::duration::MAX_DURATION;

/// Milliseconds of a day in UTC.
pub const DAY_MS: i64 = 86_400_000;

/// The years that periods may be of: what a ledger can meet, and far inside every bound of the arithmetic.
pub const YEARS: std::ops::RangeInclusive<i16> = 1970..=2999;

/// Why a text is not a zone, a period or a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// No such zone in the table.
    #[error("`{0}` is not a time zone: write `UTC` or a name of the IANA table, for example `Asia/Seoul`")]
    Zone(String),
    /// Not a month.
    #[error("`{0}` is not a period: write a month of 1970 to 2999 as `YYYY-MM`, for example `2026-03`")]
    Period(String),
    /// Not a day.
    #[error("`{0}` is not a day: write a day of 1970 to 2999 as `YYYY-MM-DD`, for example `2026-03-01`")]
    Day(String),
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A time zone with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    pub(crate) zone: TimeZone,
}

impl Zone {
    /// Coordinated universal time, the default.
    #[must_use]
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// The name, as the IANA table writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::utc()
    }
}

impl FromStr for Zone {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        if text == "UTC" {
            return Ok(Self::utc());
        }
        let zone = TimeZoneDatabase::bundled().get(text).map_err(|_| CalendarError::Zone(cut(text)))?;
        let name = zone.iana_name().unwrap_or(text).to_owned();
        Ok(Self { name, zone })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

macro_rules! as_text {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_text;

as_text!(Zone);
as_text!(Period);
as_text!(Day);

/// A day in UTC, as the count of days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

impl Day {
    /// The day that holds the instant.
    #[must_use]
    pub const fn of(at: UnixMs) -> Self {
        Self(at.0.div_euclid(DAY_MS))
    }

    /// Its first instant.
    #[must_use]
    pub const fn start(self) -> UnixMs {
        UnixMs(self.0.saturating_mul(DAY_MS))
    }

    /// The day `days` later; earlier where below 0.
    #[must_use]
    pub const fn plus(self, days: i64) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// How many days it is after `other`; below 0 where it is before it.
    #[must_use]
    pub const fn since(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }

    /// How many days it is after 1970-01-01: the form in which it is stored.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The day so many days after 1970-01-01.
    #[must_use]
    pub const fn numbered(days: i64) -> Self {
        Self(days)
    }

    /// 0 for Monday to 6 for Sunday.
    #[must_use]
    pub const fn weekday(self) -> i64 {
        // 1970-01-01 was a Thursday.
        (self.0.rem_euclid(7) + 3) % 7
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = TimeZone::UTC.to_datetime(timestamp(self.start())).date();
        f.pad(&date.to_string())
    }
}

impl FromStr for Day {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let refused = || CalendarError::Day(cut(text));
        let date: Date = text.parse().map_err(|_| refused())?;
        if text.len() != 10 || !YEARS.contains(&date.year()) {
            return Err(refused());
        }
        let start = TimeZone::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight()));
        start.map(|start| Self::of(UnixMs(start.as_millisecond()))).map_err(|_| refused())
    }
}

/// The instant for the calendar; what lies outside the years of periods is brought to their edge.
pub(crate) fn timestamp(at: UnixMs) -> Timestamp {
    // 1970-01-01T00:00:00Z and 2999-12-30T00:00:00Z: a zone's offset stays inside the years on both sides.
    const LAST_MS: i64 = 32_503_507_200_000;
    let clamped = at.0.clamp(0, LAST_MS);
    Timestamp::from_millisecond(clamped).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A month of a zone's calendar, written `2026-03`: the period of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    year: i16,
    month: i8,
}

impl Period {
    /// The month of the zone that holds the instant. An instant outside [`YEARS`] is of the first or the last month.
    #[must_use]
    pub fn of(at: UnixMs, zone: &Zone) -> Self {
        let date = zone.zone.to_datetime(timestamp(at)).date();
        Self { year: date.year().clamp(*YEARS.start(), *YEARS.end()), month: date.month() }
    }

    /// The month after it.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.month < 12 {
            Self { year: self.year, month: self.month + 1 }
        } else {
            Self { year: self.year.saturating_add(1), month: 1 }
        }
    }

    /// The first month of its quarter: January, April, July or October.
    #[must_use]
    pub const fn quarter(self) -> Self {
        Self { year: self.year, month: (self.month - 1) / 3 * 3 + 1 }
    }

    /// How many months it is after `other`; below 0 where it is before it.
    #[must_use]
    pub fn months_since(self, other: Self) -> i64 {
        let count = |period: Self| i64::from(period.year) * 12 + i64::from(period.month);
        count(self) - count(other)
    }

    /// Its first instant in the zone.
    #[must_use]
    pub fn start(self, zone: &Zone) -> UnixMs {
        let midnight =
            Date::new(self.year, self.month, 1).map(|date| date.to_datetime(jiff::civil::Time::midnight()));
        // Where a change of clocks skips midnight, the month begins with the first instant after it.
        let start = midnight.and_then(|at| zone.zone.to_ambiguous_timestamp(at).compatible());
        UnixMs(start.map_or(i64::MAX, Timestamp::as_millisecond))
    }

    /// The first instant after it: it ends before that.
    #[must_use]
    pub fn end(self, zone: &Zone) -> UnixMs {
        self.next().start(zone)
    }

    /// How long it is in the zone, in milliseconds.
    #[must_use]
    pub fn length_ms(self, zone: &Zone) -> u64 {
        self.end(zone).since(self.start(zone)).0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04}-{:02}", self.year, self.month))
    }
}

impl FromStr for Period {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let refused = || CalendarError::Period(cut(text));
        let day: Day = format!("{text}-01").parse().map_err(|_| refused())?;
        Ok(Self::of(day.start(), &Zone::utc()))
    }
}

/// An instant in UTC: `2026-03-01T00:00:00Z` with or without fractions, or `2026-03-01 00:00:00`. None where the text is
/// anything else, or names another zone.
#[must_use]
pub fn parse_instant(text: &str) -> Option<UnixMs> {
    let instant = if text.ends_with('Z') {
        text.parse::<Timestamp>().ok()?
    } else {
        // An offset would be read over: what is written as another zone's time is refused instead.
        let rest = text.get(19..).unwrap_or_default();
        if !rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return None;
        }
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        civil.to_zoned(TimeZone::UTC).ok()?.timestamp()
    };
    Some(UnixMs(instant.as_millisecond()))
}

/// The instants strictly between `from` and `to` at which a slice is cut for the calendar: UTC midnights, and the
/// starts of periods in the zone. In order, without repetition. No cut is over [`MAX_DURATION`] after `from`: nothing
/// that is charged is longer.
#[must_use]
pub fn calendar_cuts(from: UnixMs, to: UnixMs, zone: &Zone) -> Vec<UnixMs> {
    let to = to.min(from.plus(MAX_DURATION));
    let days = std::iter::successors(Some(Day::of(from).plus(1)), |day| Some(day.plus(1))).map(Day::start);
    let periods = std::iter::successors(Some(Period::of(from, zone).next()), |period| Some(period.next()));
    let periods = periods.map(|period| period.start(zone));
    let mut cuts: Vec<UnixMs> = days.take_while(|at| *at < to).collect();
    cuts.extend(periods.take_while(|at| *at < to).filter(|at| *at > from));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMs {
        UnixMs(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    #[test]
    fn months_with_a_change_of_clocks_are_an_hour_shorter_or_longer() {
        let hours = |period: &str, zone: &Zone| period.parse::<Period>().unwrap().length_ms(zone) / 3_600_000;
        for (period, name, expected) in [
            ("2026-03", "UTC", 744),
            ("2026-03", "Europe/Berlin", 743),
            ("2026-10", "Europe/Berlin", 745),
            ("2026-03", "America/New_York", 743),
            ("2026-11", "America/New_York", 721),
            ("2026-02", "Asia/Seoul", 672),
            ("2028-02", "UTC", 696),
        ] {
            assert_eq!(hours(period, &zone(name)), expected, "{period} in {name}");
        }
    }

    #[test]
    fn an_instant_is_of_the_month_of_its_zone() {
        let instant = at("2026-03-31T15:30:00Z");
        for (name, expected) in
            [("UTC", "2026-03"), ("Asia/Seoul", "2026-04"), ("America/New_York", "2026-03")]
        {
            assert_eq!(Period::of(instant, &zone(name)).to_string(), expected);
        }
        let seoul = zone("Asia/Seoul");
        let april: Period = "2026-04".parse().unwrap();
        assert_eq!(april.start(&seoul), at("2026-03-31T15:00:00Z"));
        assert_eq!(Period::of(april.start(&seoul), &seoul), april);
        assert_eq!(Period::of(UnixMs(april.end(&seoul).0 - 1), &seoul), april);
        assert_eq!(Period::of(april.end(&seoul), &seoul), april.next());
        assert_eq!("2027-01".parse::<Period>().unwrap().months_since(april), 9);
    }

    #[test]
    fn what_lies_outside_the_years_is_at_their_edge() {
        for name in ["UTC", "Asia/Seoul", "America/New_York", "Pacific/Kiritimati"] {
            assert!(YEARS.contains(&Period::of(UnixMs(i64::MIN), &zone(name)).year));
            assert_eq!(Period::of(UnixMs(i64::MAX), &zone(name)).to_string(), "2999-12");
        }
    }

    #[test]
    fn slices_are_cut_at_midnight_in_utc_and_at_the_month_of_the_zone() {
        let cuts = calendar_cuts(at("2026-03-30T12:00:00Z"), at("2026-04-01T00:00:00Z"), &zone("Asia/Seoul"));
        assert_eq!(cuts, [at("2026-03-31T00:00:00Z"), at("2026-03-31T15:00:00Z")]);
        let utc = Zone::utc();
        assert_eq!(calendar_cuts(at("2026-03-31T00:00:00Z"), at("2026-04-01T00:00:00Z"), &utc), []);
        assert_eq!(
            calendar_cuts(at("2026-03-31T23:59:59.999Z"), at("2026-04-01T00:00:00.001Z"), &utc),
            [at("2026-04-01T00:00:00Z")]
        );
        assert_eq!(calendar_cuts(UnixMs(5), UnixMs(5), &utc), []);
    }

    #[test]
    fn texts_round_trip_and_wrong_ones_are_refused_by_name() {
        for text in ["2026-03-01", "1970-01-01", "2999-12-30"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        assert_eq!("2026-11-28".parse::<Day>().unwrap().weekday(), 5, "a Saturday");
        for wrong in ["", "2026", "2026-13", "2026-3", "2026-03-01", "3000-01", "1969-12"] {
            assert!(
                wrong.parse::<Period>().unwrap_err().to_string().contains(&format!("`{wrong}`")),
                "{wrong}"
            );
        }
        for wrong in ["", "2026-02-30", "2026-2-3", "1969-12-31", "2026-01-01T00:00"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
        for wrong in ["", "Mars/Base", "CET+1"] {
            assert!(wrong.parse::<Zone>().unwrap_err().to_string().contains("Asia/Seoul"), "{wrong}");
        }
        assert_eq!(serde_json::to_string(&zone("Europe/Berlin")).unwrap(), "\"Europe/Berlin\"");
        assert_eq!(serde_json::from_str::<Period>("\"2026-03\"").unwrap().to_string(), "2026-03");
    }
}
