//! Which sums answer for a stretch of time: whole months and whole days of UTC from roll-ups, and what is left at the
//! edges from the charges themselves.
//!
//! A charge is of the instant at which its use began. Every time zone's month is thus the same set of charges as the
//! pieces that cover it, whatever its clocks do: a zone moves charges from one bucket to the next and never changes
//! what they come to.

use jiff::civil::{Date, Weekday};
use spillway_types::UnixMs;

use crate::calendar::{Day, Period, Zone, timestamp};

/// Most days, weeks or months of one report: a year of days with some room; each of them is a line of an answer.
pub const MAX_BUCKETS: usize = 400;

/// What answers for a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    /// Whole months of UTC, by their first days.
    Month,
    /// Whole days of UTC.
    Day,
    /// Single charges, by their instants in milliseconds.
    Instant,
}

/// A stretch of time at one grain, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// What answers for it.
    pub grain: Grain,
    /// Its begin: a count of days since 1970-01-01, or milliseconds since then for [`Grain::Instant`].
    pub from: i64,
    /// Its end, exclusive.
    pub to: i64,
}

/// The first day of the month of UTC that holds the day.
#[must_use]
pub fn month_of(day: Day) -> Day {
    let utc = Zone::utc();
    Day::of(Period::of(day.start(), &utc).start(&utc))
}

/// The first day of the first month of UTC that begins on the day or after it.
fn month_from(day: Day) -> Day {
    let utc = Zone::utc();
    let first = month_of(day);
    if first == day { day } else { Day::of(Period::of(day.start(), &utc).end(&utc)) }
}

/// The pieces that cover `from` to `to`, exclusive: no instant twice, none left out, and as few as can be.
#[must_use]
pub fn cover(from: UnixMs, to: UnixMs) -> Vec<Piece> {
    let mut pieces = vec![];
    let mut push = |grain, from: i64, to: i64| {
        if from < to {
            pieces.push(Piece { grain, from, to });
        }
    };
    let first = if Day::of(from).start() == from { Day::of(from) } else { Day::of(from).plus(1) };
    let last = Day::of(to);
    if first > last {
        push(Grain::Instant, from.0, to.0);
        return pieces;
    }
    push(Grain::Instant, from.0, first.start().0);
    let (first_month, last_month) = (month_from(first), month_of(last));
    if first_month < last_month {
        push(Grain::Day, first.number(), first_month.number());
        push(Grain::Month, first_month.number(), last_month.number());
        push(Grain::Day, last_month.number(), last.number());
    } else {
        push(Grain::Day, first.number(), last.number());
    }
    push(Grain::Instant, last.start().0, to.0);
    pieces
}

/// Into what a report cuts time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Months, written `2026-03`.
    Month,
    /// Weeks from Monday to Sunday, written `2026-W14` after ISO 8601.
    Week,
    /// Days, written `2026-03-31`.
    Day,
}

/// A stretch of time with its name, half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Its first instant.
    pub from: UnixMs,
    /// The first instant after it.
    pub to: UnixMs,
}

/// There would be more than [`MAX_BUCKETS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the time that was asked for has more than {MAX_BUCKETS} lines of its own: ask for less of it, or for longer ones"
)]
pub struct TooMany;

/// The first instant of a date in the zone; where a change of clocks skips it, the first one after it.
fn start(date: Date, zone: &Zone) -> UnixMs {
    let midnight = date.to_datetime(jiff::civil::Time::midnight());
    let at = zone.zone.to_ambiguous_timestamp(midnight).compatible();
    UnixMs(at.map_or(i64::MAX, jiff::Timestamp::as_millisecond))
}

impl Zone {
    /// The first instant of the date of that name in the zone; where a change of clocks skips it, the first one after
    /// it.
    #[must_use]
    pub fn start_of_day(&self, day: Day) -> UnixMs {
        start(jiff::tz::TimeZone::UTC.to_datetime(timestamp(day.start())).date(), self)
    }
}

fn begin(date: Date, unit: Unit) -> Date {
    match unit {
        Unit::Month => date.first_of_month(),
        Unit::Week => {
            let back = date.weekday().since(Weekday::Monday);
            date.checked_sub(jiff::Span::new().days(i64::from(back))).unwrap_or(date)
        }
        Unit::Day => date,
    }
}

fn next(date: Date, unit: Unit) -> Option<Date> {
    let span = jiff::Span::new();
    let span = match unit {
        Unit::Month => span.months(1),
        Unit::Week => span.days(7),
        Unit::Day => span.days(1),
    };
    date.checked_add(span).ok()
}

fn name(date: Date, unit: Unit) -> String {
    match unit {
        Unit::Month => format!("{:04}-{:02}", date.year(), date.month()),
        Unit::Week => {
            let week = date.iso_week_date();
            format!("{:04}-W{:02}", week.year(), week.week())
        }
        Unit::Day => date.to_string(),
    }
}

/// The months, weeks or days of the zone that `from` to `to`, exclusive, is cut into, in order; the first and the last
/// are cut where it begins and ends. A date that the zone skipped has none.
///
/// # Errors
/// [`TooMany`].
pub fn buckets(from: UnixMs, to: UnixMs, unit: Unit, zone: &Zone) -> Result<Vec<Bucket>, TooMany> {
    let mut date = begin(zone.zone.to_datetime(timestamp(from)).date(), unit);
    let mut found = vec![];
    while start(date, zone) < to {
        let Some(after) = next(date, unit) else { break };
        let bucket = Bucket {
            name: name(date, unit),
            from: start(date, zone).max(from),
            to: start(after, zone).min(to),
        };
        if bucket.from < bucket.to {
            found.push(bucket);
        }
        if found.len() > MAX_BUCKETS {
            return Err(TooMany);
        }
        date = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_instant;

    fn at(text: &str) -> UnixMs {
        parse_instant(text).unwrap()
    }

    fn covered(from: &str, to: &str) -> Vec<String> {
        let show = |piece: Piece| match piece.grain {
            Grain::Month | Grain::Day => {
                let day = |number| Day::of(UnixMs(0)).plus(number);
                format!("{:?} {} {}", piece.grain, day(piece.from), day(piece.to))
            }
            Grain::Instant => format!("{} ms", piece.to - piece.from),
        };
        cover(at(from), at(to)).into_iter().map(show).collect()
    }

    #[test]
    fn a_stretch_is_whole_months_then_whole_days_then_the_edges() {
        assert_eq!(covered("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z"), ["Month 2026-01-01 2026-04-01"]);
        assert_eq!(
            covered("2025-12-30T23:00:00Z", "2026-03-02T00:00:01Z"),
            [
                "3600000 ms",
                "Day 2025-12-31 2026-01-01",
                "Month 2026-01-01 2026-03-01",
                "Day 2026-03-01 2026-03-02",
                "1000 ms"
            ]
        );
        assert_eq!(covered("2026-03-02T00:00:00Z", "2026-04-01T00:00:00Z"), ["Day 2026-03-02 2026-04-01"]);
        assert_eq!(covered("2026-03-02T01:00:00Z", "2026-03-02T02:00:00Z"), ["3600000 ms"]);
        assert_eq!(covered("2026-03-02T01:00:00Z", "2026-03-02T01:00:00Z"), [""; 0]);
    }

    #[test]
    fn a_month_of_a_zone_is_whole_days_and_two_edges() {
        let seoul: Zone = "Asia/Seoul".parse().unwrap();
        let march = buckets(at("2026-02-28T15:00:00Z"), at("2026-03-31T15:00:00Z"), Unit::Month, &seoul);
        let march = march.unwrap().remove(0);
        assert_eq!(march.name, "2026-03");
        let grains: Vec<Grain> = cover(march.from, march.to).iter().map(|piece| piece.grain).collect();
        assert_eq!(grains, [Grain::Instant, Grain::Day, Grain::Instant]);
    }

    #[test]
    fn weeks_begin_on_mondays_and_are_named_after_iso_8601() {
        let names = |from, to, unit| -> Vec<String> {
            let found = buckets(at(from), at(to), unit, &Zone::utc()).unwrap();
            found.into_iter().map(|bucket| bucket.name).collect()
        };
        assert_eq!(
            names("2026-12-27T12:00:00Z", "2027-01-11T00:00:00Z", Unit::Week),
            ["2026-W52", "2026-W53", "2027-W01"]
        );
        assert_eq!(
            names("2026-02-27T12:00:00Z", "2026-03-02T00:00:00Z", Unit::Day),
            ["2026-02-27", "2026-02-28", "2026-03-01"]
        );
    }

    #[test]
    fn a_date_that_a_zone_skipped_has_no_bucket_and_an_hour_that_came_twice_is_in_its_day() {
        let of = |zone: &str, from, to| {
            let zone: Zone = zone.parse().unwrap();
            let found = buckets(at(from), at(to), Unit::Day, &zone).unwrap();
            found.into_iter().map(|it| (it.name, (it.to.0 - it.from.0) / 3_600_000)).collect::<Vec<_>>()
        };
        let apia = of("Pacific/Apia", "2011-12-29T10:00:00Z", "2012-01-01T10:00:00Z");
        assert_eq!(
            apia,
            [("2011-12-29".to_owned(), 24), ("2011-12-31".to_owned(), 24), ("2012-01-01".to_owned(), 24)]
        );
        let berlin = of("Europe/Berlin", "2026-10-23T22:00:00Z", "2026-10-26T23:00:00Z");
        assert_eq!(berlin.iter().map(|(_, hours)| *hours).collect::<Vec<_>>(), [24, 25, 24]);
    }

    #[test]
    fn there_is_a_bound_on_buckets() {
        let (from, to) = (at("2024-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
        assert_eq!(buckets(from, to, Unit::Day, &Zone::utc()), Err(TooMany));
        assert_eq!(buckets(from, to, Unit::Month, &Zone::utc()).unwrap().len(), 24);
        assert_eq!(buckets(to, from, Unit::Month, &Zone::utc()).unwrap(), []);
    }
}
