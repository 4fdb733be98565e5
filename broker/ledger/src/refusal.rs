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
            Amount(self.shortfall_micros),
            Amount(self.wanted_micros),
            Amount(self.limit_micros),
            Amount(self.spent_micros),
            Amount(self.held_micros),
        )
    }
}

/// Micros as units of the deployment's currency: to the hundredth, below one hundredth exact.
pub(crate) struct Amount(pub(crate) i64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let micros = self.0.unsigned_abs();
        if micros > 0 && micros < 10_000 {
            return write!(f, "{sign}0.{micros:06}");
        }
        let hundredths = (micros + 5_000) / 10_000;
        write!(f, "{sign}{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_to_the_hundredth() {
        for (micros, text) in [
            (0, "0.00"),
            (-1_500_000, "-1.50"),
            (1, "0.000001"),
            (59_760_000, "59.76"),
            (1_234_500, "1.23"),
            (9_999, "0.009999"),
            (9_995_000, "10.00"),
        ] {
            assert_eq!(Amount(micros).to_string(), text);
        }
        assert_eq!(Amount(i64::MIN).to_string(), "-9223372036854.78");
    }
}
