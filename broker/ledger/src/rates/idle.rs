//! Who pays for what a cloud instance cost beside the slices that ran on it.
//!
//! The rule, in order:
//! 1. From its launch until something first uses it (boot), the one it was launched for pays.
//! 2. While it is used in part, those that use it pay for the rest, by their shares: nobody else could have it.
//! 3. While nothing uses it, the one that used it last pays: it is warm because of them.
//! 4. What rounding leaves, the one it was launched for pays, or is credited.
//!
//! The shares and the slices together are the instance's cost, exactly.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spillway_types::{HourlyRate, UnixMs};

/// One use of an instance: who, when, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceUse<W> {
    /// Who is charged.
    pub who: W,
    /// Begin.
    pub from: UnixMs,
    /// End, exclusive.
    pub to: UnixMs,
    /// The part of the instance, in millionths; over 0.
    pub share_ppm: u32,
    /// What its slices were charged, in micros.
    pub charged_micros: i64,
}

/// Why somebody pays for time that no slice was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdleCause {
    /// It booted for them.
    Boot,
    /// They used a part, and the rest stood still.
    UnusedShare,
    /// They used it last.
    Warm,
    /// What rounding leaves.
    Rounding,
}

/// What one pays for one cause, in micros; below 0 is a credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleShare<W> {
    /// Who.
    pub who: W,
    /// Why.
    pub cause: IdleCause,
    /// How much.
    pub micros: i64,
}

/// Why uses are not of one instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdleError {
    /// Together they use more than there is.
    #[error("at {at} the uses of the instance add up to {ppm} millionths of it: at most 1000000 can be used")]
    Overcommitted {
        /// When.
        at: UnixMs,
        /// How much.
        ppm: u64,
    },
}

/// All of an instance, in millionths.
const WHOLE: u64 = 1_000_000;

/// Shares out what an instance cost from `from` to `to` at `price` and `billed_micros` in all beside its uses, by
/// the rule of this module. Parts of uses outside `from..to` are not looked at. The shares and all that the uses
/// were charged sum to `billed_micros`.
///
/// # Errors
/// [`IdleError::Overcommitted`] where uses overlap to more than the whole.
pub fn idle_shares<W: Clone + Ord>(
    launched_for: &W,
    (from, to): (UnixMs, UnixMs),
    price: HourlyRate,
    billed_micros: i64,
    uses: &[InstanceUse<W>],
) -> Result<Vec<IdleShare<W>>, IdleError> {
    let mut shares: BTreeMap<(W, IdleCause), i64> = BTreeMap::new();
    let mut add = |who: &W, cause, micros: i64| {
        if micros != 0 {
            *shares.entry((who.clone(), cause)).or_default() += micros;
        }
    };
    let edges: BTreeSet<UnixMs> = uses
        .iter()
        .flat_map(|it| [it.from, it.to])
        .chain([from, to])
        .filter(|at| (from..=to).contains(at))
        .collect();
    for (begin, end) in edges.iter().zip(edges.iter().skip(1)) {
        let cost = price.cost_micros(1, 1, begin.since(from).0, end.since(from).0);
        let mut here: Vec<&InstanceUse<W>> =
            uses.iter().filter(|it| it.from <= *begin && it.to >= *end && it.to > it.from).collect();
        here.sort_by(|a, b| (&a.who, a.from).cmp(&(&b.who, b.from)));
        let used: u64 = here.iter().map(|it| u64::from(it.share_ppm)).sum();
        if used > WHOLE {
            return Err(IdleError::Overcommitted { at: *begin, ppm: used });
        }
        if used == 0 {
            let ended = uses.iter().filter(|it| it.to <= *begin && it.to > it.from);
            match ended.max_by(|a, b| (a.to, &a.who).cmp(&(b.to, &b.who))) {
                Some(last) => add(&last.who, IdleCause::Warm, cost),
                None => add(launched_for, IdleCause::Boot, cost),
            }
            continue;
        }
        let unused = i128::from(cost) * i128::from(WHOLE - used) / i128::from(WHOLE);
        let mut before: u64 = 0;
        for it in here {
            let until = |ppm: u64| unused * i128::from(ppm) / i128::from(used);
            let after = before + u64::from(it.share_ppm);
            add(&it.who, IdleCause::UnusedShare, narrow(until(after) - until(before)));
            before = after;
        }
    }
    let shared: i128 = shares.values().map(|micros| i128::from(*micros)).sum();
    let charged: i128 = uses.iter().map(|it| i128::from(it.charged_micros)).sum();
    let rest = narrow(i128::from(billed_micros) - charged - shared);
    if rest != 0 {
        shares.insert((launched_for.clone(), IdleCause::Rounding), rest);
    }
    let share = |((who, cause), micros)| IdleShare { who, cause, micros };
    Ok(shares.into_iter().map(share).collect())
}

fn narrow(micros: i128) -> i64 {
    i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000;
    const PRICE: HourlyRate = HourlyRate(8_000_000);

    fn one(who: &'static str, from: i64, to: i64, share_ppm: u32) -> InstanceUse<&'static str> {
        let whole = PRICE.cost_micros(1, 1, 0, u64::try_from(to - from).unwrap());
        let charged_micros = whole * i64::from(share_ppm) / 1_000_000;
        InstanceUse { who, from: UnixMs(from), to: UnixMs(to), share_ppm, charged_micros }
    }

    fn shares(uses: &[InstanceUse<&'static str>], to: i64) -> Vec<(&'static str, IdleCause, i64)> {
        let billed = PRICE.cost_micros(1, 1, 0, u64::try_from(to).unwrap());
        let shares = idle_shares(&"ada", (UnixMs(0), UnixMs(to)), PRICE, billed, uses).unwrap();
        shares.into_iter().map(|it| (it.who, it.cause, it.micros)).collect()
    }

    #[test]
    fn boot_is_the_launchers_and_warm_time_the_last_users() {
        let uses = [one("ada", HOUR, 2 * HOUR, 1_000_000), one("bob", 3 * HOUR, 4 * HOUR, 1_000_000)];
        assert_eq!(
            shares(&uses, 6 * HOUR),
            [
                ("ada", IdleCause::Boot, 8_000_000),
                ("ada", IdleCause::Warm, 8_000_000),
                ("bob", IdleCause::Warm, 16_000_000)
            ]
        );
        assert_eq!(shares(&[], HOUR), [("ada", IdleCause::Boot, 8_000_000)]);
        assert_eq!(shares(&[], 0), []);
    }

    #[test]
    fn an_unused_share_is_paid_by_those_who_use_the_rest() {
        let uses = [one("ada", 0, HOUR, 500_000), one("bob", 0, HOUR, 250_000)];
        assert_eq!(
            shares(&uses, HOUR),
            [("ada", IdleCause::UnusedShare, 1_333_333), ("bob", IdleCause::UnusedShare, 666_667)]
        );
        let error = idle_shares(
            &"ada",
            (UnixMs(0), UnixMs(5)),
            PRICE,
            0,
            &[one("a", 0, 9, 600_000), one("b", 3, 9, 400_001)],
        );
        assert_eq!(error, Err(IdleError::Overcommitted { at: UnixMs(3), ppm: 1_000_001 }));
    }

    #[test]
    fn a_minimum_that_was_billed_beyond_the_time_is_the_launchers() {
        let shares = idle_shares(&"ada", (UnixMs(0), UnixMs(1000)), PRICE, 133_333, &[]).unwrap();
        let told: Vec<_> = shares.iter().map(|it| (it.cause, it.micros)).collect();
        assert_eq!(told, [(IdleCause::Boot, 2_222), (IdleCause::Rounding, 131_111)]);
    }

    proptest! {
        #[test]
        fn shares_and_slices_are_what_was_billed(
            uses in proptest::collection::vec((0_usize..3, 0_i64..100_000_000, 0_i64..50_000_000, 1_u32..250_000, 0_i64..10_000_000), 0..4),
            to in 0_i64..200_000_000,
            billed in 0_i64..1_000_000_000,
        ) {
            let uses: Vec<_> = uses
                .into_iter()
                .map(|(who, from, span, share_ppm, charged_micros)| InstanceUse {
                    who: ["ada", "bob", "eve"][who], from: UnixMs(from), to: UnixMs(from + span), share_ppm, charged_micros,
                })
                .collect();
            let shares = idle_shares(&"ada", (UnixMs(0), UnixMs(to)), PRICE, billed, &uses).unwrap();
            let charged: i64 = uses.iter().map(|it| it.charged_micros).sum();
            prop_assert_eq!(shares.iter().map(|it| it.micros).sum::<i64>() + charged, billed);
        }
    }
}
