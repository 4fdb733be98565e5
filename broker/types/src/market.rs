//! How a cloud sells a machine: for as long as it is paid for, or until it is needed elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::DurationMs;

/// Whether the provider of a machine may take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    /// It stays for as long as it is paid for.
    #[default]
    OnDemand,
    /// It may be taken back at any time.
    Spot,
}

impl Market {
    /// Whether it stays for as long as it is paid for.
    #[must_use]
    pub const fn is_on_demand(&self) -> bool {
        matches!(self, Self::OnDemand)
    }
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OnDemand => "on-demand",
            Self::Spot => "spot",
        })
    }
}

/// What is said of a machine beside its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfferTerms {
    /// How it is sold.
    pub market: Market,
    /// How long one stays on average before its provider takes it back; none where that is not known.
    pub mean_life: Option<DurationMs>,
    /// The shortest time that is billed.
    pub minimum: DurationMs,
    /// Time is billed in whole multiples of this; 0 is exactly what it ran.
    pub increment: DurationMs,
    /// One that its provider takes back before it ran for so long is free; 0 is never.
    pub free_if_interrupted_within: DurationMs,
}
