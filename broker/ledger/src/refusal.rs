//! Why a budget does not allow a hold, in figures, and whether waiting can help.

use std::fmt;

use serde::{Deserialize, Serialize};
use spillway_types::GroupName;

/// Whether a hold that was refused could ever fit under the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The limit has room for it, had less been spent or held.
    UsedUp,
    /// It is more than the whole limit.
    NeverFits,
}

/// Why a hold was refused: the group whose limit binds, and its figures. All amounts in micros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct BudgetRefusal {
    /// The group whose limit is in the way: the one that asks, or one above it.
    pub binding: GroupName,
    /// Its limit.
    pub limit_micros: i64,
    /// What it and the groups below it have spent.
    pub spent_micros: i64,
    /// What is held for running and starting attempts of it and the groups below it.
    pub held_micros: i64,
    /// What was to be held.
    pub wanted_micros: i64,
    /// By how much it is too much.
    pub shortfall_micros: i64,
    /// Whether it could ever fit.
    pub kind: RefusalKind,
}

impl BudgetRefusal {
    /// Whether it can fit once other holds are released, without a change to the limit.
    #[must_use]
    pub const fn waiting_can_help(&self) -> bool {
        self.wanted_micros <= self.limit_micros.saturating_sub(self.spent_micros)
    }

    /// The more lasting refusal is the one to report; among equals the greater shortfall.
    pub(crate) const fn gravity(&self) -> (RefusalKind, bool, i64) {
        (self.kind, !self.waiting_can_help(), self.shortfall_micros)
    }
}

impl fmt::Display for BudgetRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = &self.binding;
        let advice = match (self.kind, self.waiting_can_help()) {
            (RefusalKind::NeverFits, _) => {
                "waiting cannot help, it is more than the whole limit: ask for less, or raise the limit"
            }
            (RefusalKind::UsedUp, true) => {
                "waiting can help: running attempts give back what they do not use"
            }
            (RefusalKind::UsedUp, false) => {
                "waiting cannot help, the money is spent: ask for less, or raise the limit"
            }
        };
        write!(
            f,
            "the money limit of group `{group}` is {} short: {} wanted, limit {}, spent {}, held {}; {advice}",
            rounded(self.shortfall_micros),
            rounded(self.wanted_micros),
            rounded(self.limit_micros),
            rounded(self.spent_micros),
            rounded(self.held_micros),
        )
    }
}

/// Micros as units of the deployment's currency: exact, two decimals or more.
pub(crate) struct Amount(pub(crate) i64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, mut fraction) = (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        let mut decimals = 6;
        while decimals > 2 && fraction.is_multiple_of(10) {
            fraction /= 10;
            decimals -= 1;
        }
        write!(f, "{sign}{units}.{fraction:0decimals$}")
    }
}

/// Micros to the hundredth of a unit, as people name prices; what is below one hundredth is exact.
fn rounded(micros: i64) -> Amount {
    let hundredth = 10_000;
    Amount(if micros.abs() < hundredth {
        micros
    } else {
        micros.saturating_add(hundredth / 2) / hundredth * hundredth
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (micros, text) in [
            (0, "0.00"),
            (-1_500_000, "-1.50"),
            (1, "0.000001"),
            (59_760_000, "59.76"),
            (1_234_500, "1.2345"),
        ] {
            assert_eq!(Amount(micros).to_string(), text);
        }
        for (micros, text) in [(1_234_500, "1.23"), (9_999, "0.009999"), (9_995_000, "10.00")] {
            assert_eq!(rounded(micros).to_string(), text);
        }
        assert_eq!(Amount(i64::MIN).to_string(), "-9223372036854.775808");
    }
}
