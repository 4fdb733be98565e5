//! Sums of the books in another currency: each day's at what that was worth on the day.

use std::collections::BTreeMap;

use super::Measures;
use crate::rates::{ExchangeRate, sum_into};

/// What was charged, by the rate of its days, with all amounts in micros of the currency that the rates are of. Each amount
/// is rounded once; what is no money is added up.
#[must_use]
pub fn in_currency(parts: &BTreeMap<ExchangeRate, Measures>) -> Measures {
    let converted = |amount: fn(&Measures) -> i128| {
        sum_into(&parts.iter().map(|(rate, measures)| (*rate, amount(measures))).collect())
    };
    Measures {
        spend_micros: converted(|it| it.spend_micros),
        overhead_micros: converted(|it| it.overhead_micros),
        egress_micros: converted(|it| it.egress_micros),
        listed_micros: converted(|it| it.listed_micros),
        list_micros: converted(|it| it.list_micros),
        matched_micros: converted(|it| it.matched_micros),
        on_prem_micros: converted(|it| it.on_prem_micros),
        ..parts.values().copied().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_converted_and_the_rest_is_added_up() {
        let measures = |spend_micros, gpu_ms| Measures {
            spend_micros,
            overhead_micros: spend_micros / 2,
            egress_micros: 3,
            listed_micros: spend_micros,
            list_micros: 2 * spend_micros,
            matched_micros: spend_micros,
            on_prem_micros: 3 * spend_micros,
            gpu_ms,
            normalised_ms: 2 * gpu_ms,
            slices: 1,
        };
        let rate = |text: &str| text.parse().unwrap();
        let parts =
            BTreeMap::from([(rate("1.05"), measures(2_100_000, 7)), (rate("1.1"), measures(1_100_000, 5))]);
        let expected = Measures {
            spend_micros: 3_000_000,
            overhead_micros: 1_500_000,
            egress_micros: 6,
            listed_micros: 3_000_000,
            list_micros: 6_000_000,
            matched_micros: 3_000_000,
            on_prem_micros: 9_000_000,
            gpu_ms: 12,
            normalised_ms: 24,
            slices: 2,
        };
        assert_eq!(in_currency(&parts), expected);
        let dollars = BTreeMap::from([(ExchangeRate::ONE, measures(2_100_000, 7))]);
        assert_eq!(in_currency(&dollars), measures(2_100_000, 7), "in dollars nothing changes");
        assert_eq!(in_currency(&BTreeMap::new()), Measures::default());
    }
}
