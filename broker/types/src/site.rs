//! What kind of place a site is, and what a person may do.

use serde::{Deserialize, Serialize};

/// The kind of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteKind {
    /// Machines that the organisation owns and shares.
    OnPrem,
    /// A region of a cloud: instances come and go.
    Cloud,
    /// A person's own machine, lent by its owner.
    Personal,
}

impl SiteKind {
    /// The kind as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnPrem => "on-prem",
            Self::Cloud => "cloud",
            Self::Personal => "personal",
        }
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Submits and cancels jobs of the own group and sees the own group's subtree.
    Member,
    /// Everything, everywhere.
    Admin,
}
