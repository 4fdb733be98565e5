//! The state machine of a cloud instance.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// The intent is durable; the provider has not been asked yet.
    Intended,
    /// The provider is being asked; a crash here means: ask again, word for word.
    Launching,
    /// The provider has it; its agent has not dialled in yet.
    Booting,
    /// Its agent is a node.
    Ready,
    /// It gets no new work and goes when empty.
    Draining,
    /// The provider is being told to end it, for ever until it is seen gone.
    Terminating,
    /// The provider's answer was ambiguous: observe, then decide.
    Unknown,
    /// The provider has shown that it is no more, or that it never was.
    Gone,
}

/// What can happen to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceStep {
    /// The call is about to be made.
    Ask,
    /// The provider says that it exists.
    Exist,
    /// Its agent dialled in.
    Join,
    /// It is not wanted any more: no new work.
    Drain,
    /// It is empty: end it.
    Terminate,
    /// The provider's answer could mean either.
    Doubt,
    /// The provider shows that it is gone, or refused to make it.
    Vanish,
}

impl InstanceState {
    /// The state after `step`.
    ///
    /// # Errors
    /// [`IllegalTransition`] where this state does not allow the step.
    pub const fn after(self, step: InstanceStep) -> Result<Self, IllegalTransition> {
        use InstanceStep as S;
        let next = match (self, step) {
            (Self::Intended | Self::Launching | Self::Unknown, S::Ask) => Self::Launching,
            (Self::Launching | Self::Booting | Self::Unknown, S::Exist) => Self::Booting,
            (Self::Ready, S::Exist | S::Join)
            | (Self::Launching | Self::Booting | Self::Unknown, S::Join) => Self::Ready,
            (Self::Ready | Self::Draining, S::Drain) | (Self::Draining, S::Exist | S::Join) => Self::Draining,
            (
                Self::Intended
                | Self::Launching
                | Self::Booting
                | Self::Ready
                | Self::Draining
                | Self::Terminating
                | Self::Unknown,
                S::Terminate,
            )
            | (Self::Terminating, S::Exist | S::Join | S::Drain | S::Doubt) => Self::Terminating,
            (
                Self::Intended
                | Self::Launching
                | Self::Booting
                | Self::Ready
                | Self::Draining
                | Self::Unknown,
                S::Doubt,
            ) => Self::Unknown,
            (
                Self::Intended
                | Self::Launching
                | Self::Booting
                | Self::Ready
                | Self::Draining
                | Self::Terminating
                | Self::Unknown
                | Self::Gone,
                S::Vanish,
            ) => Self::Gone,
            (from, step) => {
                return Err(IllegalTransition {
                    machine: "instance",
                    state: from.as_str(),
                    step: step.as_str(),
                });
            }
        };
        Ok(next)
    }

    /// Whether the provider may have a machine for it.
    #[must_use]
    pub const fn may_exist(self) -> bool {
        !matches!(self, Self::Intended | Self::Gone)
    }

    /// The state as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Launching => "launching",
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Terminating => "terminating",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
        }
    }
}

impl InstanceStep {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Exist => "exist",
            Self::Join => "join",
            Self::Drain => "drain",
            Self::Terminate => "terminate",
            Self::Doubt => "doubt",
            Self::Vanish => "vanish",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ambiguous_launch_is_observed_and_then_decided() {
        let asked = InstanceState::Intended.after(InstanceStep::Ask).unwrap();
        let unknown = asked.after(InstanceStep::Doubt).unwrap();
        assert_eq!(unknown.after(InstanceStep::Exist), Ok(InstanceState::Booting));
        assert_eq!(unknown.after(InstanceStep::Vanish), Ok(InstanceState::Gone));
        assert_eq!(unknown.after(InstanceStep::Ask), Ok(InstanceState::Launching));
    }

    #[test]
    fn what_is_gone_stays_gone() {
        for step in [
            InstanceStep::Ask,
            InstanceStep::Exist,
            InstanceStep::Join,
            InstanceStep::Drain,
            InstanceStep::Terminate,
        ] {
            assert!(InstanceState::Gone.after(step).is_err(), "{step:?}");
        }
        assert!(InstanceState::Terminating.after(InstanceStep::Ask).is_err());
    }
}
