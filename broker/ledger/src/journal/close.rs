//! Accounts for what a pool cost in a month: used + unused + variance = cost.
//!
//! Used is what was charged. Unused is what nobody used, at the month's rates; it goes to the pool's idle account
//! unless a rule shares it out. Variance is the rest: expected use against real use, and rounding; it may be a gain.
//! More use than there is capacity is an error, but for what follows from use being dated by when it was heard of: that
//! little is in the variance, and nothing was unused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{GpuModel, GroupName, HourlyRate, PoolName, SiteName};

use super::record::{Statement, StatementKind};
use crate::calendar::Period;
use crate::{Account, Posting};

/// One class of a pool in one month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassMonth {
    /// The GPU time that it could give, in milliseconds of one GPU.
    pub capacity_ms: u64,
    /// What was used of that.
    pub used_ms: u64,
    /// What a GPU-hour costs.
    pub rate: HourlyRate,
}

/// A pool in one month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMonth {
    /// The pool.
    pub pool: PoolName,
    /// Its site.
    pub site: SiteName,
    /// The month.
    pub period: Period,
    /// What it cost, in micros.
    pub cost_micros: i64,
    /// What was charged for its use, in micros.
    pub used_micros: i64,
    /// Its classes.
    pub classes: BTreeMap<GpuModel, ClassMonth>,
}

/// Who pays for what nobody used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum UnusedRule {
    /// Nobody: it is on the pool's idle account.
    Idle,
    /// These groups, by these weights; with none over 0 it is on the idle account.
    Shared {
        /// Weights, for example what each used.
        weights: BTreeMap<GroupName, u64>,
    },
}

/// What a pool's cost consists of, in micros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolClose {
    /// What was charged.
    pub used_micros: i64,
    /// What nobody used, at the month's rates. Never below 0.
    pub unused_micros: i64,
    /// The rest; below 0 where the rates recovered more than the cost.
    pub variance_micros: i64,
    /// The GPU time that nobody used, in milliseconds of one GPU.
    pub unused_ms: u64,
}

/// Why a pool's month does not add up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool {pool} in {period}: {used_ms} GPU-milliseconds of {class} were used, and {capacity_ms} is all it had: check \
     its rate card's GPUs, or the use that was reported"
)]
pub struct PoolCloseError {
    /// The pool.
    pub pool: PoolName,
    /// The month.
    pub period: Period,
    /// The class.
    pub class: GpuModel,
    /// What was used.
    pub used_ms: u64,
    /// What there was.
    pub capacity_ms: u64,
}

/// How much more than its capacity a class may seem to have been used, in milliseconds of one GPU. Use counts from when
/// the broker hears that a program has started, some seconds late, so that of a month without a pause that much may reach
/// over its end: four minutes of a month for each GPU, and five for a class that was there for a short time.
const fn dated_late_ms(capacity_ms: u64) -> u64 {
    300_000 + capacity_ms / 10_000
}

/// What the pool's cost consists of, and the statement that posts what is not posted yet: unused and variance, against
/// the site's revenue, which then is the pool's whole cost. `None` where both are 0.
///
/// # Errors
/// [`PoolCloseError`] where more was used than there was.
pub fn close_pool(
    month: &PoolMonth,
    rule: &UnusedRule,
) -> Result<(PoolClose, Option<Statement>), PoolCloseError> {
    let (mut unused_ms, mut unused) = (0_u64, 0_i128);
    for (class, it) in &month.classes {
        if it.used_ms.saturating_sub(it.capacity_ms) > dated_late_ms(it.capacity_ms) {
            return Err(PoolCloseError {
                pool: month.pool.clone(),
                period: month.period,
                class: class.clone(),
                used_ms: it.used_ms,
                capacity_ms: it.capacity_ms,
            });
        }
        let left = it.capacity_ms.saturating_sub(it.used_ms);
        unused_ms = unused_ms.saturating_add(left);
        unused += i128::from(it.rate.cost_micros(1, 1, 0, left));
    }
    let unused_micros = i64::try_from(unused).unwrap_or(i64::MAX);
    let rest = i128::from(month.cost_micros) - i128::from(month.used_micros) - i128::from(unused_micros);
    let variance_micros = i64::try_from(rest).unwrap_or(if rest < 0 { -i64::MAX } else { i64::MAX });
    let close = PoolClose { used_micros: month.used_micros, unused_micros, variance_micros, unused_ms };
    Ok((close, statement(month, &close, rule)))
}

fn statement(month: &PoolMonth, close: &PoolClose, rule: &UnusedRule) -> Option<Statement> {
    let mut postings = share_out(month, close.unused_micros, rule);
    postings.push(Posting { account: Account::Variance(month.site.clone()), micros: close.variance_micros });
    let sum: i128 = postings.iter().map(|posting| i128::from(posting.micros)).sum();
    let credit = i64::try_from(-sum).unwrap_or(i64::MIN);
    postings.push(Posting { account: Account::Revenue(month.site.clone()), micros: credit });
    postings.retain(|posting| posting.micros != 0);
    if postings.is_empty() {
        return None;
    }
    let key = format!("pool/{}/{}/close", month.pool, month.period);
    let about = (month.site.clone(), Some(month.pool.clone()));
    Statement::new(key, StatementKind::PoolClose, about, month.period, postings).ok()
}

/// Shares by weight: rounded down on the cumulative weight, so that they sum to the whole.
fn share_out(month: &PoolMonth, unused_micros: i64, rule: &UnusedRule) -> Vec<Posting> {
    let idle = || vec![Posting { account: Account::Idle(month.pool.clone()), micros: unused_micros }];
    let weights = match rule {
        UnusedRule::Idle => return idle(),
        UnusedRule::Shared { weights } => weights,
    };
    let total: i128 = weights.values().map(|weight| i128::from(*weight)).sum();
    if total == 0 {
        return idle();
    }
    // A weight has 64 bits and the amount 63: the product fits.
    let until = |weight: i128| i64::try_from(i128::from(unused_micros) * weight / total).unwrap_or(i64::MAX);
    let mut before = 0;
    let share = |(group, weight): (&GroupName, &u64)| {
        let after = before + i128::from(*weight);
        let micros = until(after) - until(before);
        before = after;
        Posting { account: Account::Spend(group.clone()), micros }
    };
    weights.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    fn month(cost: i64, used: i64, classes: &[(&str, u64, u64, i64)]) -> PoolMonth {
        let class = |(name, capacity, used, rate): &(&str, u64, u64, i64)| {
            let it = ClassMonth { capacity_ms: *capacity, used_ms: *used, rate: HourlyRate(*rate) };
            (name.parse().unwrap(), it)
        };
        PoolMonth {
            pool: "dgx".parse().unwrap(),
            site: "seoul".parse().unwrap(),
            period: "2026-03".parse().unwrap(),
            cost_micros: cost,
            used_micros: used,
            classes: classes.iter().map(class).collect(),
        }
    }

    fn told(statement: &Statement) -> Vec<(String, i64)> {
        let fact = crate::journal::Fact::Statement(statement.clone());
        fact.postings().iter().map(|it| (it.account.to_string(), it.micros)).collect()
    }

    #[test]
    fn what_was_not_used_is_idle_and_the_rest_variance() {
        let month = month(30_000_000, 8_000_000, &[("H100", 10 * HOUR, 4 * HOUR, 2_000_000)]);
        let (close, statement) = close_pool(&month, &UnusedRule::Idle).unwrap();
        let expected = PoolClose {
            used_micros: 8_000_000,
            unused_micros: 12_000_000,
            variance_micros: 10_000_000,
            unused_ms: 6 * HOUR,
        };
        assert_eq!(close, expected);
        let text = |account: &str, micros| (account.to_owned(), micros);
        assert_eq!(
            told(&statement.unwrap()),
            [
                text("idle:dgx", 12_000_000),
                text("variance:seoul", 10_000_000),
                text("revenue:seoul", -22_000_000)
            ]
        );
    }

    #[test]
    fn a_rule_shares_the_unused_out_to_the_last_micro() {
        let month = month(10, 0, &[("H100", HOUR, 0, 10)]);
        let weights =
            BTreeMap::from([("a".parse().unwrap(), 1), ("b".parse().unwrap(), 1), ("c".parse().unwrap(), 1)]);
        let (_, statement) = close_pool(&month, &UnusedRule::Shared { weights }).unwrap();
        let micros: Vec<i64> = told(&statement.unwrap()).iter().map(|(_, micros)| *micros).collect();
        assert_eq!(micros, [3, 3, 4, -10]);
        let nobody = UnusedRule::Shared { weights: BTreeMap::from([("a".parse().unwrap(), 0)]) };
        let (_, statement) = close_pool(&month, &nobody).unwrap();
        assert_eq!(told(&statement.unwrap())[0].0, "idle:dgx");
    }

    #[test]
    fn more_use_than_capacity_is_an_error_and_exactly_all_is_none_unused() {
        let full = month(5, 5, &[("H100", HOUR, HOUR, 5)]);
        assert_eq!(close_pool(&full, &UnusedRule::Idle).unwrap().1, None);
        let late = HOUR + dated_late_ms(HOUR);
        let dated_late = month(5, 6, &[("H100", HOUR, late, 5)]);
        let (close, _) = close_pool(&dated_late, &UnusedRule::Idle).unwrap();
        assert_eq!((close.unused_ms, close.unused_micros, close.variance_micros), (0, 0, -1));
        let over = month(5, 6, &[("H100", HOUR, late + 1, 5)]);
        let error = close_pool(&over, &UnusedRule::Idle).unwrap_err().to_string();
        assert!(error.contains("3900361 GPU-milliseconds of H100 were used, and 3600000"), "{error}");
    }

    proptest! {
        /// Invariant 7.
        #[test]
        fn used_unused_and_variance_are_the_cost(
            cost in 0_i64..1 << 50, used in 0_i64..1 << 50,
            classes in proptest::collection::vec((0_u64..1 << 45, 0_u64..1 << 45, 0_i64..100_000_000), 1..4),
            weights in proptest::collection::vec(0_u64..1 << 60, 0..5),
        ) {
            let names = ["A100", "H100", "H200"];
            let classes: Vec<_> =
                classes.iter().zip(names).map(|((a, b, rate), name)| (name, *a.max(b), *a.min(b), *rate)).collect();
            let month = month(cost, used, &classes);
            let weights: BTreeMap<GroupName, u64> =
                weights.into_iter().enumerate().map(|(at, weight)| (format!("g{at}").parse().unwrap(), weight)).collect();
            for rule in [UnusedRule::Idle, UnusedRule::Shared { weights }] {
                let (close, statement) = close_pool(&month, &rule).unwrap();
                prop_assert!(close.unused_micros >= 0);
                prop_assert_eq!(close.used_micros + close.unused_micros + close.variance_micros, cost);
                let postings = statement.as_ref().map(told).unwrap_or_default();
                prop_assert_eq!(postings.iter().map(|(_, micros)| micros).sum::<i64>(), 0);
                let revenue: i64 = postings.iter().filter(|(a, _)| a.starts_with("revenue")).map(|(_, micros)| micros).sum();
                prop_assert_eq!(used - revenue, cost, "the site's revenue is the whole cost");
            }
        }
    }
}
