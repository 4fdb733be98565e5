//! Days whose spend is out of the ordinary, per group and SKU: robust, and in integers.
//!
//! A day is judged by the days before it: by how many median absolute deviations (MAD) it is above or below their
//! median. The modified z-score 0.6745 x (x - median) / MAD over 3.5 is out of the ordinary (Iglewicz and Hoaglin,
//! How to Detect and Handle Outliers, 1993). Where more than half of the days are equal, MAD is 0 and says nothing;
//! then, and for small sums, only what differs by more than a stated amount counts. A day without spend is a day of 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::GroupName;

use crate::calendar::Day;

/// 10^4 x 0.6745: what makes MAD comparable to a standard deviation.
const SCALE: i128 = 6745;

/// What days are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnomalyRule {
    /// How many days before it a day is judged by.
    pub window_days: u32,
    /// How many of those there must be since the first spend.
    pub least_days: u32,
    /// The modified z-score from which on a day is out of the ordinary, in thousandths.
    pub score_milli: u32,
    /// What a day must differ by at the least, in micros.
    pub least_micros: i64,
}

impl Default for AnomalyRule {
    /// Four weeks, at least one of them, a score of 3.5, and ten units of currency.
    fn default() -> Self {
        Self { window_days: 28, least_days: 7, score_milli: 3500, least_micros: 10_000_000 }
    }
}

/// A day that is out of the ordinary. Amounts in micros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// The group.
    pub group: GroupName,
    /// What was bought.
    pub sku: String,
    /// The day.
    pub day: Day,
    /// What was spent.
    pub micros: i64,
    /// The median of the days before.
    pub median_micros: i64,
    /// Their median absolute deviation.
    pub mad_micros: i64,
    /// The modified z-score in thousandths, below 0 where less was spent; none where MAD is 0.
    pub score_milli: Option<i64>,
}

/// The spend of each day, of one group and SKU.
pub type Days = BTreeMap<Day, i64>;

/// Twice the median of sorted values; 0 of none.
fn twice_median(sorted: &[i128]) -> i128 {
    let middle = sorted.len() / 2;
    let at = |place: usize| sorted.get(place).copied().unwrap_or(0);
    if sorted.len().is_multiple_of(2) { at(middle.wrapping_sub(1)) + at(middle) } else { 2 * at(middle) }
}

/// The days out of the ordinary among those from `from` to `to`, exclusive, in the order of group, SKU and day.
#[must_use]
pub fn anomalies(
    spend: &BTreeMap<(GroupName, String), Days>,
    (from, to): (Day, Day),
    rule: &AnomalyRule,
) -> Vec<Anomaly> {
    let mut found = vec![];
    for ((group, sku), days) in spend {
        let Some(first) = days.keys().next().copied() else { continue };
        for offset in 0..to.since(from).max(0) {
            let day = from.plus(offset);
            let begin = first.max(day.plus(-i64::from(rule.window_days)));
            let count = day.since(begin);
            if count < i64::from(rule.least_days.max(1)) {
                continue;
            }
            let on = |day: Day| i128::from(days.get(&day).copied().unwrap_or(0));
            let mut before: Vec<i128> = (0..count).map(|back| on(begin.plus(back))).collect();
            before.sort_unstable();
            let median2 = twice_median(&before);
            // Twice the deviations, so that the half of an even median stays an integer.
            let mut off: Vec<i128> = before.iter().map(|value| (2 * value - median2).abs()).collect();
            off.sort_unstable();
            let mad4 = twice_median(&off);
            let here2 = 2 * on(day) - median2;
            let big = here2.abs() >= 2 * i128::from(rule.least_micros.max(1));
            // 0.6745 x (here2 / 2) / (mad4 / 4) in thousandths.
            let score = (mad4 != 0).then(|| 2 * here2 * SCALE * 1000 / (mad4 * 10_000));
            if big && score.is_none_or(|score| score.abs() > i128::from(rule.score_milli)) {
                found.push(Anomaly {
                    group: group.clone(),
                    sku: sku.clone(),
                    day,
                    micros: narrow(on(day)),
                    median_micros: narrow(median2 / 2),
                    mad_micros: narrow(mad4 / 4),
                    score_milli: score.map(narrow),
                });
            }
        }
    }
    found
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(number: i64) -> Day {
        "2026-03-01".parse::<Day>().unwrap().plus(number)
    }

    fn spend(values: &[i64]) -> BTreeMap<(GroupName, String), Days> {
        let days = (0..).zip(values).map(|(at, units)| (day(at), units * 1_000_000)).collect();
        BTreeMap::from([(("vision".parse().unwrap(), "p5.48xlarge".to_owned()), days)])
    }

    fn found(values: &[i64]) -> Vec<Anomaly> {
        let last = i64::try_from(values.len()).unwrap();
        anomalies(&spend(values), (day(0), day(last)), &AnomalyRule::default())
    }

    #[test]
    fn a_day_far_from_the_median_is_found_with_its_figures() {
        let found = found(&[100, 110, 90, 105, 95, 100, 120, 400]);
        let expected = Anomaly {
            group: "vision".parse().unwrap(),
            sku: "p5.48xlarge".to_owned(),
            day: day(7),
            micros: 400_000_000,
            median_micros: 100_000_000,
            mad_micros: 5_000_000,
            // 0.6745 x 300 / 5.
            score_milli: Some(40_470),
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn one_outlier_does_not_hide_the_next() {
        let days: Vec<i64> = found(&[100, 110, 90, 105, 95, 100, 120, 400, 105, 420, 0])
            .iter()
            .map(|it| it.day.since(day(0)))
            .collect();
        assert_eq!(days, [7, 9, 10], "a day without spend is one of 0");
    }

    #[test]
    fn equal_days_and_small_sums_need_a_stated_amount() {
        let rule = AnomalyRule::default();
        let judge = |last_micros: i64| {
            let mut spend = spend(&[5; 8]);
            let days = spend.values_mut().next().unwrap();
            days.insert(day(7), 5_000_000 + last_micros);
            anomalies(&spend, (day(7), day(8)), &rule)
        };
        assert_eq!(judge(9_999_999), []);
        let found = judge(10_000_000);
        assert_eq!((found[0].mad_micros, found[0].score_milli), (0, None));
        assert_eq!(judge(-10_000_000).len(), 1);
    }

    #[test]
    fn the_score_binds_at_its_edge_and_too_few_days_judge_nothing() {
        let spend = spend(&[100, 110, 90, 105, 95, 100, 120, 130]);
        let judge = |score_milli| {
            anomalies(&spend, (day(7), day(8)), &AnomalyRule { score_milli, ..AnomalyRule::default() }).len()
        };
        // 0.6745 x 30 / 5 = 4.047.
        assert_eq!((judge(4046), judge(4047)), (1, 0));
        assert_eq!(found(&[100, 100, 100, 100, 100, 100, 900]), [], "six days are too few");
        assert_eq!(anomalies(&BTreeMap::new(), (day(0), day(9)), &AnomalyRule::default()), []);
    }

    proptest! {
        #[test]
        fn the_figures_are_those_of_the_definition(values in proptest::collection::vec(0_i64..1000, 8..40)) {
            let rule = AnomalyRule { score_milli: 0, least_micros: 1, ..AnomalyRule::default() };
            let last = i64::try_from(values.len()).unwrap();
            for it in anomalies(&spend(&values), (day(0), day(last)), &rule) {
                let at = usize::try_from(it.day.since(day(0))).unwrap();
                let window = &values[at.saturating_sub(28)..at];
                let median = |mut values: Vec<i64>| {
                    values.sort_unstable();
                    let middle = values.len() / 2;
                    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2 }
                };
                // Four times everything is an integer all the way.
                let centre = median(window.iter().map(|value| value * 4_000_000).collect());
                let mad = median(window.iter().map(|value| (value * 4_000_000 - centre).abs()).collect());
                prop_assert_eq!((it.median_micros, it.mad_micros), (centre / 4, mad / 4));
            }
        }
    }
}
