//! Names that people choose: sites, pools, groups, users, clouds, instance types and accelerator models.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// Longest name, in characters: what fits a DNS label, so that names can become host and tag values.
pub const MAX_NAME: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a {kind}: {rule}")]
pub struct NameError {
    /// What was being named.
    pub kind: &'static str,
    /// What was given, cut to 80 characters.
    pub value: String,
    /// The rule it broke.
    pub rule: &'static str,
}

fn checked(kind: &'static str, text: &str, extra: &str, rule: &'static str) -> Result<String, NameError> {
    let fine = !text.is_empty()
        && text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(NameError { kind, value: text.chars().take(80).collect(), rule })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $extra:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked($kind, text, $extra, $rule).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A place with one locality: a data centre, a cloud region, a desk.
    SiteName, "site name", "-", "1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit"
);
name!(
    /// Nodes of one site under one rule.
    PoolName, "pool name", "-", "1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit"
);
name!(
    /// A tenant.
    GroupName, "group name", "-", "1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit"
);
name!(
    /// A person or a service with tokens.
    UserName, "user name", "-._", "1 to 63 of a-z, 0-9, `-`, `.` and `_`, beginning with a letter or digit"
);
name!(
    /// A cloud account reached through one connector.
    CloudName, "cloud name", "-", "1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit"
);
name!(
    /// A class of jobs that a policy may have rules for: what an hour of waiting is worth, for example.
    ClassName, "class name", "-", "1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit"
);
name!(
    /// A named input of jobs, for example `imagenet`.
    DatasetName, "dataset name", "-._", "1 to 63 of a-z, 0-9, `-`, `.` and `_`, beginning with a letter or digit"
);
name!(
    /// A provider's name for a machine shape, for example `p5.48xlarge`.
    InstanceType, "instance type", "-._", "1 to 63 of a-z, 0-9, `-`, `.` and `_`, beginning with a letter or digit"
);

/// An accelerator's model, in capitals: `H100`, `A100`, `RTX-4090`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GpuModel(String);

impl GpuModel {
    /// The model as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GpuModel {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let folded = text.to_ascii_lowercase();
        let rule = "1 to 63 letters, digits, `-` and `_`, for example `H100` or `RTX-4090`";
        checked("GPU model", &folded, "-_", rule).map(|name| Self(name.to_ascii_uppercase()))
    }
}

impl fmt::Display for GpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for GpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for GpuModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_their_edges() {
        assert!("seoul-dgx".parse::<SiteName>().is_ok());
        assert!("a".repeat(MAX_NAME).parse::<SiteName>().is_ok());
        assert!("a".repeat(MAX_NAME + 1).parse::<SiteName>().is_err());
        for wrong in ["", "-a", "A", "a b", "a/b", "é"] {
            assert!(wrong.parse::<SiteName>().is_err(), "{wrong}");
        }
        assert_eq!("h100".parse::<GpuModel>().unwrap().as_str(), "H100");
        assert_eq!("p5.48xlarge".parse::<InstanceType>().unwrap().as_str(), "p5.48xlarge");
    }
}
