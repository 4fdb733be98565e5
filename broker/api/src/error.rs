//! The error envelope: `{"error":{"code","message","field","value","hint"}}`.
//!
//! Every error that a user sees is one of these: the code is for programs, the rest for people.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What kind of error it is. A code that this build does not know reads as [`ErrorCode::Internal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCode {
    /// The request is malformed, or a value in it breaks a rule.
    Invalid,
    /// No token, or one that is not known.
    Unauthenticated,
    /// The token's user may not do this.
    Forbidden,
    /// There is no such thing, or the user may not see it.
    NotFound,
    /// The path is known, the method is not for it.
    MethodNotAllowed,
    /// It contradicts what is there: the name is taken, the state does not allow it, the idempotency key was
    /// used for another request.
    Conflict,
    /// The request is over a size limit.
    TooLarge,
    /// Nothing that is known here can ever run it.
    Unsatisfiable,
    /// No site and no offer has this accelerator model.
    UnknownModel,
    /// The group's budget cannot carry it.
    BudgetExceeded,
    /// Too many requests; try again later.
    RateLimited,
    /// The broker takes no writes just now.
    ReadOnly,
    /// The database cannot grow.
    StorageFull,
    /// The broker or a part of it is not there just now.
    Unavailable,
    /// The broker was started from an old copy and changes nothing until that is settled.
    Recovery,
    /// A defect of Spillway.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 16] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::Unsatisfiable,
        Self::UnknownModel,
        Self::BudgetExceeded,
        Self::RateLimited,
        Self::ReadOnly,
        Self::StorageFull,
        Self::Unavailable,
        Self::Recovery,
        Self::Internal,
    ];

    /// The code as it stands in the envelope.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Unsatisfiable => "unsatisfiable",
            Self::UnknownModel => "unknown_model",
            Self::BudgetExceeded => "budget_exceeded",
            Self::RateLimited => "rate_limited",
            Self::ReadOnly => "read_only",
            Self::StorageFull => "storage_full",
            Self::Unavailable => "unavailable",
            Self::Recovery => "recovery",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that carries it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::BudgetExceeded => 402,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Unsatisfiable | Self::UnknownModel => 422,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Unavailable | Self::Recovery => 503,
            Self::ReadOnly | Self::StorageFull => 507,
        }
    }

    /// The most general code of an HTTP status, for answers without an envelope.
    #[must_use]
    pub const fn from_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            402 => Self::BudgetExceeded,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            409 => Self::Conflict,
            413 => Self::TooLarge,
            422 => Self::Unsatisfiable,
            429 => Self::RateLimited,
            400..=499 => Self::Invalid,
            502..=504 => Self::Unavailable,
            507 => Self::StorageFull,
            _ => Self::Internal,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::ALL.into_iter().find(|code| code.as_str() == text).unwrap_or(Self::Internal))
    }
}

/// An error as a user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind.
    pub code: ErrorCode,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Which field of the request, as a path, for example `resources.gpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The value that was wrong, cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Longest value that an error repeats, in characters.
pub const MAX_SHOWN_VALUE: usize = 120;

impl ApiError {
    /// An error with a code and a message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, value: None, hint: None }
    }

    /// A request that breaks a rule.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// No such thing: `what` is its kind, `which` its id or name.
    #[must_use]
    pub fn not_found(what: &str, which: &dyn fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("there is no {what} `{which}`"))
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the value, cut to [`MAX_SHOWN_VALUE`].
    #[must_use]
    pub fn value(mut self, value: impl fmt::Display) -> Self {
        self.value = Some(cut(&value.to_string()));
        self
    }

    /// Says the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The HTTP status that carries it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.code.status()
    }
}

/// Cuts a text to [`MAX_SHOWN_VALUE`] characters, saying so with an ellipsis.
#[must_use]
pub fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN_VALUE).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    /// The error.
    pub error: ApiError,
}

impl From<ApiError> for ErrorEnvelope {
    fn from(error: ApiError) -> Self {
        Self { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_reads_as_documented() {
        let error = ApiError::new(ErrorCode::UnknownModel, "no site has such a GPU")
            .field("resources.gpus")
            .value("RTX-9999:1")
            .hint("known models: A100, H100");
        let text = serde_json::to_string(&ErrorEnvelope::from(error.clone())).expect("json");
        assert_eq!(
            text,
            r#"{"error":{"code":"unknown_model","message":"no site has such a GPU","field":"resources.gpus","value":"RTX-9999:1","hint":"known models: A100, H100"}}"#
        );
        let back: ErrorEnvelope = serde_json::from_str(&text).expect("json");
        assert_eq!(back.error, error);
    }

    #[test]
    fn every_code_has_an_error_status_and_reads_back() {
        for code in ErrorCode::ALL {
            assert!((400..600).contains(&code.status()), "{code}");
            let text = serde_json::to_string(&code).expect("json");
            assert_eq!(serde_json::from_str::<ErrorCode>(&text).expect("json"), code);
            assert_eq!(ErrorCode::from_status(code.status()).status(), code.status(), "{code}");
        }
        let unknown: ErrorCode = serde_json::from_str("\"from_the_future\"").expect("json");
        assert_eq!(unknown, ErrorCode::Internal);
    }

    #[test]
    fn long_values_are_cut_at_the_limit() {
        let at = "x".repeat(MAX_SHOWN_VALUE);
        assert_eq!(cut(&at), at);
        assert_eq!(cut(&format!("{at}y")), format!("{at}…"));
    }
}
