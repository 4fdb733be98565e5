//! Amounts of use: money, accelerator time, and accelerator time by weight, added up by scope and class.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::SiteKind;

use super::demand::{Place, Share};
use super::{Metric, Scope};

/// Amounts that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Money, in 10^-6 of a currency unit.
    pub micros: i64,
    /// Accelerator time, in GPU-milliseconds.
    pub gpu_ms: i64,
    /// Accelerator time by weight, in GPU-milliseconds of the reference.
    pub normalised_ms: i64,
}

impl Tally {
    fn zip(self, other: Self, with: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            micros: with(self.micros, other.micros),
            gpu_ms: with(self.gpu_ms, other.gpu_ms),
            normalised_ms: with(self.normalised_ms, other.normalised_ms),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.zip(other, i64::saturating_add)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.zip(other, i64::saturating_sub)
    }

    /// The lesser of each.
    pub(super) fn least(self, other: Self) -> Self {
        self.zip(other, i64::min)
    }

    pub(super) fn negative(self) -> Self {
        Self::default().minus(self)
    }

    /// What of a share's amounts a metric counts.
    pub(super) fn of(&self, metric: &Metric, share: &Share) -> i64 {
        match metric {
            Metric::ConcurrentGpus => 0,
            Metric::GpuTime(class) if share.class.as_ref() == Some(class) => self.gpu_ms,
            Metric::GpuTime(_) => 0,
            Metric::NormalisedGpuTime => self.normalised_ms,
            Metric::Money => self.micros,
        }
    }
}

/// The scopes that use of `share` at `place` counts in.
pub(super) fn scopes_of(place: &Place, share: &Share) -> Vec<Scope> {
    let kind = if place.kind == SiteKind::Cloud { Scope::Cloud } else { Scope::OnPrem };
    let class = share.class.clone().map(Scope::Class);
    [Scope::Everywhere, kind, Scope::Site(place.site.clone())].into_iter().chain(class).collect()
}

/// Amounts by scope and class.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Tallies(BTreeMap<Scope, BTreeMap<String, Tally>>);

impl Tallies {
    /// Adds to each scope. What comes to nothing leaves nothing behind.
    pub(super) fn add(&mut self, scopes: &[Scope], share: &Share, amount: Tally) {
        let class = share.class.as_ref().map_or("", |class| class.as_str());
        for scope in scopes {
            if !self.0.contains_key(scope) {
                self.0.insert(scope.clone(), BTreeMap::new());
            }
            let Some(classes) = self.0.get_mut(scope) else { continue };
            let sum = classes.get(class).copied().unwrap_or_default().plus(amount);
            if sum == Tally::default() {
                classes.remove(class);
            } else if let Some(known) = classes.get_mut(class) {
                *known = sum;
            } else {
                classes.insert(class.to_owned(), sum);
            }
            if classes.is_empty() {
                self.0.remove(scope);
            }
        }
    }

    /// What a metric counts in a scope.
    pub(super) fn amount(&self, metric: &Metric, scope: &Scope) -> i64 {
        let Some(classes) = self.0.get(scope) else { return 0 };
        let all = |of: fn(&Tally) -> i64| classes.values().map(of).fold(0, i64::saturating_add);
        match metric {
            Metric::ConcurrentGpus => 0,
            Metric::GpuTime(class) => classes.get(class.as_str()).map_or(0, |tally| tally.gpu_ms),
            Metric::NormalisedGpuTime => all(|tally| tally.normalised_ms),
            Metric::Money => all(|tally| tally.micros),
        }
    }

    /// Everything, by scope and class; no class is empty.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Scope, &str, &Tally)> {
        self.0.iter().flat_map(|(scope, classes)| {
            classes.iter().map(move |(class, tally)| (scope, class.as_str(), tally))
        })
    }
}
