//! What a month will have cost at its end, with the method named.
//!
//! The rest of the month is expected to be like the same weekdays of the weeks before (the seasonal naive method,
//! averaged over weeks), or, where there is not a week of history, like the days so far. What is held for running
//! work will surely be spent up to its amount, so that the rest is never less than that; the two are not added,
//! because the weekdays' means contain what is held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calendar::Day;

/// How the rest of the month was estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForecastMethod {
    /// For each day left, the mean of the same weekday in the weeks before.
    SeasonalNaiveWeekdayMean,
    /// For each day left, the mean of the days so far.
    MeanOfDays,
    /// Nothing was ever spent.
    NoHistory,
}

/// The weeks that are looked at: enough to level a single week out, few enough to follow a trend.
pub const HISTORY_WEEKS: i64 = 8;

/// A forecast. Amounts in micros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// What is posted so far.
    pub posted_micros: i64,
    /// What is held for work that runs.
    pub committed_micros: i64,
    /// What the rest of the month is expected to bring by the method.
    pub expected_micros: i64,
    /// What the month will have cost: posted, and the larger of committed and expected.
    pub total_micros: i64,
    /// The method.
    pub method: ForecastMethod,
}

/// The forecast on `today` for a month that has `first` to `end`, exclusive. `days` has the spend of each day, those
/// of the weeks before included; a day without an entry is one of 0. Of today, what its weekday's mean is above what
/// was spent today is expected still. Means are rounded down.
#[must_use]
pub fn forecast(
    days: &BTreeMap<Day, i64>,
    (first, end): (Day, Day),
    today: Day,
    committed_micros: i64,
) -> Forecast {
    let on = |day: Day| i128::from(days.get(&day).copied().unwrap_or(0));
    let posted: i128 = days.range(first..end.max(first)).map(|(_, micros)| i128::from(*micros)).sum();
    let begin = days.keys().next().map(|oldest| (*oldest).max(today.plus(-7 * HISTORY_WEEKS)));
    let begin = begin.filter(|begin| *begin < today);
    let known = begin.map_or(0, |begin| today.since(begin));
    let mean = |history: &mut dyn Iterator<Item = Day>| {
        let (sum, count) = history.fold((0, 0), |(sum, count), day| (sum + on(day), count + 1));
        sum / i128::from(count.max(1))
    };
    let method = match known {
        0 => ForecastMethod::NoHistory,
        1..7 => ForecastMethod::MeanOfDays,
        _ => ForecastMethod::SeasonalNaiveWeekdayMean,
    };
    let of_day = |day: Day| match (method, begin) {
        (ForecastMethod::NoHistory, _) | (_, None) => 0,
        (ForecastMethod::MeanOfDays, Some(begin)) => mean(&mut (0..known).map(|offset| begin.plus(offset))),
        (ForecastMethod::SeasonalNaiveWeekdayMean, Some(begin)) => {
            // The newest day before today of the same weekday, then a week back each.
            let back = (today.weekday() - day.weekday()).rem_euclid(7);
            let newest = today.plus(if back == 0 { -7 } else { -back });
            let weeks = std::iter::successors(Some(newest), |day| Some(day.plus(-7)));
            mean(&mut weeks.take_while(|day| *day >= begin))
        }
    };
    let left = (0..end.since(today).max(0)).map(|offset| today.plus(offset)).filter(|day| *day >= first);
    let expected: i128 =
        left.map(|day| if day == today { (of_day(day) - on(day)).max(0) } else { of_day(day) }).sum();
    let total = posted + expected.max(i128::from(committed_micros));
    Forecast {
        posted_micros: narrow(posted),
        committed_micros,
        expected_micros: narrow(expected),
        total_micros: narrow(total),
        method,
    }
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    /// 100 on weekdays and 10 at weekends, from `from` to `to`, exclusive.
    fn weeks(from: &str, to: &str) -> BTreeMap<Day, i64> {
        let from = day(from);
        let days = (0..day(to).since(from)).map(|offset| from.plus(offset));
        days.map(|day| (day, if day.weekday() < 5 { 100 } else { 10 })).collect()
    }

    const MARCH: (&str, &str) = ("2026-03-01", "2026-04-01");

    fn march(days: &BTreeMap<Day, i64>, today: &str, committed: i64) -> Forecast {
        forecast(days, (day(MARCH.0), day(MARCH.1)), day(today), committed)
    }

    #[test]
    fn a_weekly_rhythm_is_continued_exactly() {
        let whole: i64 = weeks(MARCH.0, MARCH.1).values().sum();
        for today in ["2026-03-01", "2026-03-08", "2026-03-14", "2026-03-31"] {
            let it = march(&weeks("2026-02-01", today), today, 0);
            assert_eq!(
                (it.total_micros, it.method),
                (whole, ForecastMethod::SeasonalNaiveWeekdayMean),
                "{today}"
            );
        }
        let over = march(&weeks("2026-02-01", "2026-04-05"), "2026-04-05", 0);
        assert_eq!((over.total_micros, over.expected_micros), (whole, 0));
        let before = march(&weeks("2026-01-01", "2026-02-20"), "2026-02-20", 0);
        assert_eq!((before.posted_micros, before.total_micros), (0, whole), "a month that has not begun");
    }

    #[test]
    fn what_is_left_of_today_is_what_is_usual_and_not_spent_yet() {
        let mut days = weeks("2026-02-01", "2026-03-30");
        let whole: i64 = weeks(MARCH.0, MARCH.1).values().sum();
        for (spent, more) in [(0, 0), (40, 0), (100, 0), (130, 30)] {
            days.insert(day("2026-03-30"), spent);
            assert_eq!(march(&days, "2026-03-30", 0).total_micros, whole + more, "{spent} spent today");
        }
    }

    #[test]
    fn what_is_held_is_spent_at_the_least_and_not_twice() {
        let days = weeks("2026-02-01", "2026-03-30");
        let posted: i64 = weeks(MARCH.0, "2026-03-30").values().sum();
        assert_eq!(march(&days, "2026-03-30", 150).total_micros, posted + 200);
        assert_eq!(march(&days, "2026-03-30", 500).total_micros, posted + 500);
    }

    #[test]
    fn with_little_history_the_method_says_so() {
        let it = march(&weeks("2026-03-02", "2026-03-05"), "2026-03-05", 0);
        assert_eq!((it.method, it.total_micros), (ForecastMethod::MeanOfDays, 300 + 27 * 100));
        let it = march(&BTreeMap::new(), "2026-03-05", 70);
        assert_eq!((it.method, it.total_micros), (ForecastMethod::NoHistory, 70));
        let only_today = BTreeMap::from([(day("2026-03-05"), 9)]);
        assert_eq!(march(&only_today, "2026-03-05", 0).total_micros, 9);
    }
}
