//! What an on-prem pool costs a month, and the rates per GPU-hour that recover it.
//!
//! - Depreciation is straight-line over whole months: of (price - residual) x k / lifetime the month takes the step
//!   from k to k + 1, so that the months of a lifetime sum to price - residual exactly, and later months to 0.
//! - Power is average watts x the month's length x PUE x price; facility and staff are sums for a month.
//! - Classes share the cost by GPUs x weight. A class's rate is its share over the hours that it is expected to be
//!   used, to the nearest micro; what rounding and real use leave over is the variance of the period's close.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{Currency, GpuModel, HourlyRate};

use super::card::is_dollars;
use super::{Unused, div_round};
use crate::calendar::{Period, Zone};

/// Longest lifetime, in months: 20 years, far over any accelerator's.
pub const MAX_LIFETIME_MONTHS: u32 = 240;

/// Most that any amount of a pool's cost may be, in micros: 10^11 units, which keeps the arithmetic in 128 bits.
pub const MAX_AMOUNT_MICROS: i64 = 100_000_000_000_000_000;

const MS_PER_HOUR: i128 = 3_600_000;

/// The GPUs of one class in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassShare {
    /// How many.
    pub gpus: u32,
    /// What one of them bears against one of another class; at least 1.
    pub weight: u32,
}

/// What a pool costs. Amounts in micros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolCost {
    /// What was paid for it.
    pub purchase_micros: i64,
    /// What it will be worth at the end of its lifetime.
    pub residual_micros: i64,
    /// The month from which it depreciates.
    pub in_service: Period,
    /// Over how many months; 1 to [`MAX_LIFETIME_MONTHS`].
    pub lifetime_months: u32,
    /// What it draws on average, in watts, without cooling.
    pub watts: u32,
    /// Power usage effectiveness in thousandths: what the building draws for each watt; at least 1000.
    pub pue_permille: u32,
    /// The price of a kilowatt-hour.
    pub kwh_micros: i64,
    /// Space, network and support, for a month.
    pub facility_micros: i64,
    /// People, for a month.
    pub staff_micros: i64,
    /// How much of its capacity is expected to be used, in thousandths; 1 to 1000.
    pub utilisation_permille: u32,
    /// Its GPUs by class.
    pub classes: BTreeMap<GpuModel, ClassShare>,
    /// Who pays for what nobody used of a month.
    #[serde(default, skip_serializing_if = "Unused::is_idle")]
    pub unused: Unused,
    /// What its amounts are in: the month's cost accrues evenly, and each day's part is what that was worth on the day.
    #[serde(default, skip_serializing_if = "is_dollars")]
    pub currency: Currency,
}

/// What a pool costs in one month, in micros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthCost {
    /// The month's step of the depreciation.
    pub depreciation_micros: i64,
    /// Power, cooling included.
    pub power_micros: i64,
    /// Space, network and support.
    pub facility_micros: i64,
    /// People.
    pub staff_micros: i64,
}

impl MonthCost {
    /// All of it.
    #[must_use]
    pub const fn total_micros(&self) -> i64 {
        self.depreciation_micros
            .saturating_add(self.power_micros)
            .saturating_add(self.facility_micros)
            .saturating_add(self.staff_micros)
    }
}

/// Why a pool's cost cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} {problem}")]
pub struct PoolCostError {
    /// The field.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong and what to do.
    pub problem: &'static str,
}

impl PoolCost {
    /// Checks every field.
    ///
    /// # Errors
    /// [`PoolCostError`] names the field, its value and the rule.
    pub fn check(&self) -> Result<(), PoolCostError> {
        let amounts = [
            ("purchase_micros", self.purchase_micros),
            ("residual_micros", self.residual_micros),
            ("kwh_micros", self.kwh_micros),
            ("facility_micros", self.facility_micros),
            ("staff_micros", self.staff_micros),
        ];
        let refused = |field, value: String, problem| Err(PoolCostError { field, value, problem });
        if let Some((field, micros)) =
            amounts.iter().find(|(_, micros)| !(0..=MAX_AMOUNT_MICROS).contains(micros))
        {
            return refused(field, micros.to_string(), "must be 0 to 10^17 micros");
        }
        if self.residual_micros > self.purchase_micros {
            let problem = "is more than the purchase price: give what is left at the end, at most the price";
            return refused("residual_micros", self.residual_micros.to_string(), problem);
        }
        if !(1..=MAX_LIFETIME_MONTHS).contains(&self.lifetime_months) {
            return refused("lifetime_months", self.lifetime_months.to_string(), "must be 1 to 240 months");
        }
        if !(1000..=10_000).contains(&self.pue_permille) {
            return refused(
                "pue_permille",
                self.pue_permille.to_string(),
                "must be 1000 to 10000 thousandths",
            );
        }
        if !(1..=1000).contains(&self.utilisation_permille) {
            let problem = "must be 1 to 1000 thousandths";
            return refused("utilisation_permille", self.utilisation_permille.to_string(), problem);
        }
        if let Some((class, _)) = self.classes.iter().find(|(_, share)| share.weight == 0 || share.gpus == 0)
        {
            return refused(
                "classes",
                class.to_string(),
                "has no GPUs or no weight: give at least 1 of both",
            );
        }
        if self.classes.is_empty() {
            return refused("classes", "none".to_owned(), "are given: name the GPUs that the pool has");
        }
        Ok(())
    }

    /// What it costs in the month, by the month's length in the zone.
    #[must_use]
    pub fn month(&self, period: Period, zone: &Zone) -> MonthCost {
        let lifetime = i64::from(self.lifetime_months.max(1));
        let worth = i128::from(self.purchase_micros) - i128::from(self.residual_micros);
        let written_off = |months: i64| worth * i128::from(months.clamp(0, lifetime)) / i128::from(lifetime);
        let age = period.months_since(self.in_service);
        let power = i128::from(self.watts)
            * i128::from(period.length_ms(zone))
            * i128::from(self.pue_permille)
            * i128::from(self.kwh_micros);
        MonthCost {
            depreciation_micros: saturate(written_off(age.saturating_add(1)) - written_off(age)),
            power_micros: saturate(div_round(power, 1000 * MS_PER_HOUR * 1000)),
            facility_micros: self.facility_micros,
            staff_micros: self.staff_micros,
        }
    }

    /// What a GPU-hour of each class costs in the month, so that the expected use pays for the pool.
    #[must_use]
    pub fn rates(&self, period: Period, zone: &Zone) -> BTreeMap<GpuModel, HourlyRate> {
        let cost = i128::from(self.month(period, zone).total_micros());
        let weights: i128 =
            self.classes.values().map(|it| i128::from(it.gpus) * i128::from(it.weight)).sum::<i128>().max(1);
        let expected_ms = i128::from(period.length_ms(zone)) * i128::from(self.utilisation_permille.max(1));
        let rate = |share: &ClassShare| {
            let numerator = cost * i128::from(share.weight) * MS_PER_HOUR * 1000;
            HourlyRate(saturate(div_round(numerator, weights * expected_ms)))
        };
        self.classes.iter().map(|(class, share)| (class.clone(), rate(share))).collect()
    }

    /// The GPU time that the class could give in the month, in milliseconds of one GPU.
    #[must_use]
    pub fn capacity_ms(&self, class: &GpuModel, period: Period, zone: &Zone) -> u64 {
        let gpus = self.classes.get(class).map_or(0, |share| share.gpus);
        u64::from(gpus).saturating_mul(period.length_ms(zone))
    }
}

fn saturate(micros: i128) -> i64 {
    i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn dgx() -> PoolCost {
        PoolCost {
            purchase_micros: 360_000_000_000,
            residual_micros: 36_000_000_000,
            in_service: "2026-01".parse().unwrap(),
            lifetime_months: 48,
            watts: 10_000,
            pue_permille: 1300,
            kwh_micros: 120_000,
            facility_micros: 1_000_000_000,
            staff_micros: 2_000_000_000,
            utilisation_permille: 800,
            classes: BTreeMap::from([("H100".parse().unwrap(), ClassShare { gpus: 8, weight: 1 })]),
            unused: Unused::Idle,
            currency: Currency::USD,
        }
    }

    fn period(text: &str) -> Period {
        text.parse().unwrap()
    }

    #[test]
    fn a_month_of_a_dgx_and_its_rate() {
        let cost = dgx().month(period("2026-03"), &Zone::utc());
        // 324,000 over 48 months; 10 kW x 744 h x 1.3 x 0.12.
        assert_eq!((cost.depreciation_micros, cost.power_micros), (6_750_000_000, 1_160_640_000));
        assert_eq!(cost.total_micros(), 10_910_640_000);
        // 10,910.64 over 8 x 744 x 0.8 = 4761.6 GPU-hours.
        let rates = dgx().rates(period("2026-03"), &Zone::utc());
        assert_eq!(rates.get(&"H100".parse().unwrap()), Some(&HourlyRate(2_291_381)));
        let berlin = "Europe/Berlin".parse().unwrap();
        assert_eq!(dgx().month(period("2026-03"), &berlin).power_micros, 1_159_080_000, "an hour less");
        assert_eq!(
            dgx().capacity_ms(&"H100".parse().unwrap(), period("2026-03"), &berlin),
            8 * 743 * 3_600_000
        );
    }

    #[test]
    fn classes_share_by_weight() {
        let mut cost = dgx();
        cost.classes.insert("A100".parse().unwrap(), ClassShare { gpus: 16, weight: 1 });
        cost.classes.insert("H100".parse().unwrap(), ClassShare { gpus: 8, weight: 3 });
        let rates = cost.rates(period("2026-03"), &Zone::utc());
        let (a100, h100) = (rates[&"A100".parse().unwrap()].0, rates[&"H100".parse().unwrap()].0);
        assert!((h100 - 3 * a100).abs() <= 2, "{h100} is three times {a100}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_field() {
        assert_eq!(dgx().check(), Ok(()));
        let refused = |change: fn(&mut PoolCost)| {
            let mut cost = dgx();
            change(&mut cost);
            cost.check().unwrap_err().field
        };
        assert_eq!(refused(|it| it.purchase_micros = -1), "purchase_micros");
        assert_eq!(refused(|it| it.staff_micros = MAX_AMOUNT_MICROS + 1), "staff_micros");
        assert_eq!(refused(|it| it.residual_micros = it.purchase_micros + 1), "residual_micros");
        assert_eq!(refused(|it| it.lifetime_months = 0), "lifetime_months");
        assert_eq!(refused(|it| it.lifetime_months = MAX_LIFETIME_MONTHS + 1), "lifetime_months");
        assert_eq!(refused(|it| it.pue_permille = 999), "pue_permille");
        assert_eq!(refused(|it| it.utilisation_permille = 1001), "utilisation_permille");
        assert_eq!(refused(|it| it.classes.clear()), "classes");
        let mut edge = dgx();
        (edge.lifetime_months, edge.facility_micros) = (MAX_LIFETIME_MONTHS, MAX_AMOUNT_MICROS);
        assert_eq!(edge.check(), Ok(()));
    }

    proptest! {
        #[test]
        fn the_months_of_a_lifetime_sum_to_what_it_loses(
            price in 0..MAX_AMOUNT_MICROS, residual in 0..MAX_AMOUNT_MICROS, lifetime in 1..=MAX_LIFETIME_MONTHS,
        ) {
            let residual = residual.min(price);
            let cost = PoolCost { purchase_micros: price, residual_micros: residual, lifetime_months: lifetime, ..dgx() };
            let months = std::iter::successors(Some(cost.in_service), |it| Some(it.next()));
            let total: i64 = months
                .take(usize::try_from(lifetime).unwrap() + 12)
                .map(|it| cost.month(it, &Zone::utc()).depreciation_micros)
                .sum();
            prop_assert_eq!(total, price - residual);
            prop_assert_eq!(cost.month(period("2025-12"), &Zone::utc()).depreciation_micros, 0, "before its service");
        }
    }
}
