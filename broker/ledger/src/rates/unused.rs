//! Who pays for what nobody used of a pool in a month: a rule of the pool's rate card.
//!
//! As text: `idle`, `by-use`, or weights of groups as `vision=2,speech=1`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use spillway_types::GroupName;

/// Largest weight of a group: a millionth of the whole can be given, and any product with an amount fits.
pub const MAX_SHARE: u32 = 1_000_000;

/// Who pays for what nobody used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule", deny_unknown_fields)]
pub enum Unused {
    /// Nobody: it stays on the pool's idle account.
    #[default]
    Idle,
    /// The groups that used the pool, by what they were charged for it in the month.
    ByUse,
    /// These groups, by these weights.
    Shared {
        /// Weights, each from 1 to [`MAX_SHARE`].
        weights: BTreeMap<GroupName, u32>,
    },
}

/// Why a rule cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusedError {
    /// It names no group.
    #[error("unused: no group is named: give `idle`, `by-use`, or weights as `vision=2,speech=1`")]
    Nobody,
    /// A weight is out of range.
    #[error("unused: the weight of {group} is {weight}: give 1 to 1,000,000")]
    Weight {
        /// The group.
        group: GroupName,
        /// What was given.
        weight: u32,
    },
    /// It is no rule at all.
    #[error(
        "unused: `{0}` is no rule: write `idle`, `by-use`, or weights as `vision=2,speech=1`, each group once"
    )]
    Text(String),
}

impl Unused {
    /// Whether nobody pays.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// Checks the weights.
    ///
    /// # Errors
    /// [`UnusedError`] where nobody is named, or a weight is out of range.
    pub fn check(&self) -> Result<(), UnusedError> {
        let Self::Shared { weights } = self else { return Ok(()) };
        if weights.is_empty() {
            return Err(UnusedError::Nobody);
        }
        match weights.iter().find(|(_, weight)| !(1..=MAX_SHARE).contains(*weight)) {
            Some((group, weight)) => Err(UnusedError::Weight { group: group.clone(), weight: *weight }),
            None => Ok(()),
        }
    }

    /// The groups that it names.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        let weights = match self {
            Self::Idle | Self::ByUse => None,
            Self::Shared { weights } => Some(weights),
        };
        weights.into_iter().flat_map(BTreeMap::keys)
    }
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.pad("idle"),
            Self::ByUse => f.pad("by-use"),
            Self::Shared { weights } => {
                let share = |(group, weight): (&GroupName, &u32)| format!("{group}={weight}");
                f.pad(&weights.iter().map(share).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl FromStr for Unused {
    type Err = UnusedError;

    fn from_str(text: &str) -> Result<Self, UnusedError> {
        let refused = || UnusedError::Text(text.chars().take(80).collect());
        let mut weights = BTreeMap::new();
        match text {
            "idle" => return Ok(Self::Idle),
            "by-use" => return Ok(Self::ByUse),
            _ => {}
        }
        for share in text.split(',') {
            let (group, weight) = share.split_once('=').ok_or_else(refused)?;
            let group: GroupName = group.trim().parse().map_err(|_| refused())?;
            let weight = weight.trim().parse().map_err(|_| refused())?;
            if weights.insert(group, weight).is_some() {
                return Err(refused());
            }
        }
        let rule = Self::Shared { weights };
        rule.check().map(|()| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_text_and_json() {
        for (text, json) in [
            ("idle", r#"{"rule":"idle"}"#),
            ("by-use", r#"{"rule":"by-use"}"#),
            ("speech=1,vision=2", r#"{"rule":"shared","weights":{"speech":1,"vision":2}}"#),
        ] {
            let rule: Unused = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
            assert_eq!(serde_json::to_string(&rule).unwrap(), json);
            assert_eq!(serde_json::from_str::<Unused>(json).unwrap(), rule);
            assert_eq!(rule.check(), Ok(()));
        }
        assert_eq!("vision=2,speech=1".parse::<Unused>().unwrap().groups().count(), 2);
    }

    #[test]
    fn what_is_no_rule_is_refused_by_name() {
        for (text, says) in [
            ("", "`` is no rule"),
            ("Idle", "`Idle` is no rule"),
            ("vision", "`vision` is no rule"),
            ("vision=1,vision=2", "each group once"),
            ("vision=0", "the weight of vision is 0"),
            ("vision=1000001", "the weight of vision is 1000001"),
        ] {
            let error = text.parse::<Unused>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let nobody = Unused::Shared { weights: BTreeMap::new() };
        assert_eq!(nobody.check(), Err(UnusedError::Nobody));
    }
}
