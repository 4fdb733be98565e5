//! What can go wrong at a provider, by what the broker may conclude from it.

use spillway_types::DurationMs;

/// Why a launch gave no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The provider has none of this type in this region just now. Nothing was launched.
    #[error("the provider has no capacity for this instance type in this region now")]
    NoCapacity,
    /// A definite no: nothing was launched, and the same request would be refused again.
    #[error("the provider refused the launch: {message}")]
    Refused {
        /// What the provider said, and the way out.
        message: String,
    },
    /// Too many calls. Nothing was launched.
    #[error("the provider asks for fewer calls; try again in {retry_after}")]
    Throttled {
        /// How long to wait at least.
        retry_after: DurationMs,
    },
    /// The instance may or may not exist: observe, then decide.
    #[error("it is not known whether the instance was launched: {message}")]
    Ambiguous {
        /// What was seen.
        message: String,
    },
    /// The intent was used with another request. This request launched nothing; the other one did.
    #[error("this intent was launched before with a different request")]
    Conflict,
    /// The intent's instance was launched and has ended. It never comes back.
    #[error("the instance of this intent has already ended")]
    AlreadyEnded,
}

impl LaunchError {
    /// Whether it is certain that this call has left no living machine of this request behind.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        match self {
            Self::NoCapacity
            | Self::Refused { .. }
            | Self::Throttled { .. }
            | Self::Conflict
            | Self::AlreadyEnded => true,
            Self::Ambiguous { .. } => false,
        }
    }
}

/// Why a call other than a launch gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectorError {
    /// The call's own bound passed. It may have had its effect.
    #[error("the provider did not answer within {after}")]
    Timeout {
        /// The bound.
        after: DurationMs,
    },
    /// The provider is not to be reached, failed, or asked for fewer calls. The call may have had its effect.
    #[error("the provider is unavailable: {message}")]
    Unavailable {
        /// What was seen.
        message: String,
    },
    /// A definite no: the call had no effect, and the same call would be refused again.
    #[error("the provider refused: {message}")]
    Refused {
        /// What the provider said, and the way out.
        message: String,
    },
}

impl ConnectorError {
    /// Whether it is certain that the call had no effect.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Timeout { .. } | Self::Unavailable { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_definite() {
        let text = || "x".to_owned();
        for (error, definite) in [
            (LaunchError::NoCapacity, true),
            (LaunchError::Refused { message: text() }, true),
            (LaunchError::Throttled { retry_after: DurationMs(1) }, true),
            (LaunchError::Conflict, true),
            (LaunchError::AlreadyEnded, true),
            (LaunchError::Ambiguous { message: text() }, false),
        ] {
            assert_eq!(error.is_definite(), definite, "{error}");
        }
        assert!(ConnectorError::Refused { message: text() }.is_definite());
        assert!(!ConnectorError::Unavailable { message: text() }.is_definite());
        assert!(!ConnectorError::Timeout { after: DurationMs(1) }.is_definite());
    }
}
