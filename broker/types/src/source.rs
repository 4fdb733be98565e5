//! Where a copy of a dataset is read, and what its content must be.
//!
//! A source may carry credentials, in front of its host or in its query: they go to the agent that reads it, and
//! nowhere else. What is shown of a source ([`DataSource`]'s `Display` and `Debug`) has neither.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest source, in bytes: signed URLs are long.
const MAX_SOURCE: usize = 4096;
/// Hexadecimal digits of a SHA-256.
const HASH_DIGITS: usize = 64;

/// Where a copy is read: an `https://` or `http://` URL, or an absolute path on the nodes of the copy's site.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataSource(String);

/// Why a text is not a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not where a copy can be read: write an https:// or http:// URL with a host, or an absolute path without `..`, \
     for example `/data/imagenet.tar`"
)]
pub struct DataSourceError;

impl DataSource {
    /// Whether it is read over the network.
    #[must_use]
    pub fn is_url(&self) -> bool {
        !self.0.starts_with('/')
    }

    /// All of it, credentials included: for the agent that reads it, never for people.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for DataSource {
    type Err = DataSourceError;

    fn from_str(text: &str) -> Result<Self, DataSourceError> {
        let plain = text.len() <= MAX_SOURCE && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        let path = text.starts_with('/') && !text.ends_with('/') && text.split('/').all(|part| part != "..");
        let host = |rest: &str| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            !host.is_empty() && !host.starts_with(':')
        };
        let url = ["https://", "http://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(host));
        if plain && (path || url) { Ok(Self(text.to_owned())) } else { Err(DataSourceError) }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://").filter(|_| self.is_url()) else {
            return f.write_str(&self.0);
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{scheme}://{host}/{path}")
    }
}

impl fmt::Debug for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataSource({self})")
    }
}

impl TryFrom<String> for DataSource {
    type Error = DataSourceError;

    fn try_from(text: String) -> Result<Self, DataSourceError> {
        text.parse()
    }
}

impl From<DataSource> for String {
    fn from(source: DataSource) -> Self {
        source.0
    }
}

/// The SHA-256 of a dataset's content, as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentHash(String);

/// Why a text is not a content's hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a SHA-256: write the 64 hexadecimal digits that `sha256sum FILE` prints")]
pub struct ContentHashError;

impl ContentHash {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContentHash {
    type Err = ContentHashError;

    fn from_str(text: &str) -> Result<Self, ContentHashError> {
        let is_hash = text.len() == HASH_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hash { Ok(Self(text.to_ascii_lowercase())) } else { Err(ContentHashError) }
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContentHash {
    type Error = ContentHashError;

    fn try_from(text: String) -> Result<Self, ContentHashError> {
        text.parse()
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> Self {
        hash.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_urls_and_absolute_paths() {
        for good in
            ["https://a.example/x?y=1", "http://127.0.0.1:80/", "https://u:p@a.example/x", "/data/x.tar"]
        {
            assert!(good.parse::<DataSource>().is_ok(), "{good}");
        }
        let long = format!("/{}", "x".repeat(MAX_SOURCE));
        for wrong in [
            "",
            "data/x",
            "/data/../etc",
            "/data/",
            "ftp://a/x",
            "https://",
            "https://@/x",
            "http://:80/x",
            "/a b",
            &long,
        ] {
            assert_eq!(wrong.parse::<DataSource>(), Err(DataSourceError), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_has_no_credentials() {
        for (text, shown) in [
            ("https://user:secret@a.example:8443/x/y?token=secret#secret", "https://a.example:8443/x/y"),
            ("https://a.example?token=secret", "https://a.example/"),
            ("http://secret@a@b/x", "http://b/x"),
            ("/data/x.tar", "/data/x.tar"),
        ] {
            let source: DataSource = text.parse().unwrap();
            assert_eq!((source.to_string().as_str(), source.expose()), (shown, text));
            assert!(!format!("{source:?}").contains("secret"), "{source:?}");
            let json = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<DataSource>(&json).unwrap(), source);
        }
    }

    #[test]
    fn a_hash_is_64_digits() {
        let digits = "0F".repeat(32);
        assert_eq!(digits.parse::<ContentHash>().unwrap().as_str(), digits.to_lowercase());
        for wrong in ["", "0f", &"0g".repeat(32), &"0f".repeat(33)] {
            assert_eq!(wrong.parse::<ContentHash>(), Err(ContentHashError), "{wrong}");
        }
    }
}
