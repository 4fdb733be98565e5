//! The states of a hold. Each hold resolves once: it is settled, released or expired, and stays so.

use serde::{Deserialize, Serialize};
use spillway_types::IllegalTransition;

/// Where a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldPhase {
    /// It was asked for and nothing is reserved yet.
    Proposed,
    /// It reserves, and nothing runs yet.
    Held,
    /// What it is for runs on its first lease.
    Active,
    /// What it is for runs on a lease that was extended.
    Extended,
    /// No further lease: what runs saves its work and stops.
    Draining,
    /// Nothing runs any more; use may still be reported.
    Settling,
    /// All use is known and the rest was given back. Only a reversal changes its entries from now on.
    Settled,
    /// It was given back before anything ran.
    Released,
    /// Nothing ran in time.
    Expired,
}

/// What happens to a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldStep {
    /// Every limit has room for it.
    Reserve,
    /// What it is for begins to run.
    Activate,
    /// Another lease was reserved.
    Extend,
    /// It is to stop, or another lease was refused.
    Drain,
    /// It has stopped.
    Finish,
    /// All use is known.
    Settle,
    /// It is not needed.
    Release,
    /// It waited too long.
    Expire,
}

impl HoldPhase {
    /// The state after `step`. A step that resolves a hold in the way it was resolved already changes nothing.
    ///
    /// # Errors
    /// [`IllegalTransition`] where the step does not follow.
    pub fn after(self, step: HoldStep) -> Result<Self, IllegalTransition> {
        match (self, step) {
            (Self::Proposed, HoldStep::Reserve) => Ok(Self::Held),
            (Self::Held, HoldStep::Activate) | (Self::Active, HoldStep::Activate) => Ok(Self::Active),
            (Self::Extended, HoldStep::Activate) => Ok(Self::Extended),
            (Self::Active | Self::Extended, HoldStep::Extend) => Ok(Self::Extended),
            (Self::Active | Self::Extended | Self::Draining, HoldStep::Drain) => Ok(Self::Draining),
            (Self::Active | Self::Extended | Self::Draining | Self::Settling, HoldStep::Finish) => {
                Ok(Self::Settling)
            }
            (Self::Settling | Self::Settled, HoldStep::Settle) => Ok(Self::Settled),
            (Self::Held | Self::Released, HoldStep::Release) => Ok(Self::Released),
            (Self::Held | Self::Expired, HoldStep::Expire) => Ok(Self::Expired),
            (
                Self::Proposed
                | Self::Held
                | Self::Active
                | Self::Extended
                | Self::Draining
                | Self::Settling
                | Self::Settled
                | Self::Released
                | Self::Expired,
                step,
            ) => Err(IllegalTransition { machine: "hold", state: self.as_str(), step: step.as_str() }),
        }
    }

    /// Whether it is over for good.
    #[must_use]
    pub const fn is_resolved(self) -> bool {
        matches!(self, Self::Settled | Self::Released | Self::Expired)
    }

    /// Whether what it is for may run and use accelerators now.
    #[must_use]
    pub const fn occupies(self) -> bool {
        matches!(self, Self::Held | Self::Active | Self::Extended | Self::Draining)
    }

    /// The state as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Held => "held",
            Self::Active => "active",
            Self::Extended => "extended",
            Self::Draining => "draining",
            Self::Settling => "settling",
            Self::Settled => "settled",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }
}

impl HoldStep {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Activate => "activate",
            Self::Extend => "extend",
            Self::Drain => "drain",
            Self::Finish => "finish",
            Self::Settle => "settle",
            Self::Release => "release",
            Self::Expire => "expire",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_of_a_hold_are_these_and_no_others() {
        use HoldPhase as P;
        use HoldStep as S;
        let phases = [
            P::Proposed,
            P::Held,
            P::Active,
            P::Extended,
            P::Draining,
            P::Settling,
            P::Settled,
            P::Released,
            P::Expired,
        ];
        let steps =
            [S::Reserve, S::Activate, S::Extend, S::Drain, S::Finish, S::Settle, S::Release, S::Expire];
        let ways: Vec<(P, S, P)> = phases
            .iter()
            .flat_map(|from| {
                steps.iter().filter_map(move |step| Some((*from, *step, from.after(*step).ok()?)))
            })
            .filter(|(from, _, to)| from != to)
            .collect();
        assert_eq!(
            ways,
            [
                (P::Proposed, S::Reserve, P::Held),
                (P::Held, S::Activate, P::Active),
                (P::Held, S::Release, P::Released),
                (P::Held, S::Expire, P::Expired),
                (P::Active, S::Extend, P::Extended),
                (P::Active, S::Drain, P::Draining),
                (P::Active, S::Finish, P::Settling),
                (P::Extended, S::Drain, P::Draining),
                (P::Extended, S::Finish, P::Settling),
                (P::Draining, S::Finish, P::Settling),
                (P::Settling, S::Settle, P::Settled),
            ]
        );
        for over in phases.into_iter().filter(|phase| phase.is_resolved()) {
            assert!(
                steps
                    .iter()
                    .all(|step| over.after(*step).is_ok_and(|to| to == over) || over.after(*step).is_err())
            );
        }
        let error = P::Settled.after(S::Extend).unwrap_err().to_string();
        assert!(error.contains("settled") && error.contains("extend"), "{error}");
    }
}
