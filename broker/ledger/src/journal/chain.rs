//! The chain: each record's hash covers its content and the hash of the record before it.
//!
//! SHA-256 over the previous hash and every field, texts with their length in front, so that no two contents give
//! the same bytes. Whoever changes, inserts, removes or reorders a record must change every hash after it, and the
//! head that was written down elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use spillway_types::UnixMs;

use crate::calendar::{Period, as_text};

/// A SHA-256, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256: it must be 64 hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(super) fn of_fields<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for field in fields {
            hasher.update((field.len() as u64).to_be_bytes());
            hasher.update(field);
        }
        Self(hasher.finalize().into())
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        let decoded = hex::decode_to_slice(text, &mut bytes);
        decoded.map(|()| Self(bytes)).map_err(|_| DigestError(text.chars().take(80).collect()))
    }
}

as_text!(Digest);

/// The end of a chain: its newest record's number and hash. The default is the empty chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// The number; 0 where there is no record.
    pub seq: u64,
    /// The hash; all zeros where there is no record.
    pub hash: Digest,
}

/// What the hash of a record covers, beside the hash before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link<'a> {
    /// The record's number.
    pub seq: u64,
    /// When what it says was so.
    pub effective_at: UnixMs,
    /// When it was written.
    pub recorded_at: UnixMs,
    /// The period that it is booked into.
    pub booked: Period,
    /// Its key.
    pub key: &'a str,
    /// The fact, word for word as it is stored.
    pub body: &'a str,
}

impl Link<'_> {
    /// The record's hash after `previous`.
    #[must_use]
    pub fn hash(&self, previous: Digest) -> Digest {
        let (seq, effective) = (self.seq.to_be_bytes(), self.effective_at.0.to_be_bytes());
        let (recorded, booked) = (self.recorded_at.0.to_be_bytes(), self.booked.to_string());
        Digest::of_fields([
            previous.bytes().as_slice(),
            &seq,
            &effective,
            &recorded,
            booked.as_bytes(),
            self.key.as_bytes(),
            self.body.as_bytes(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_covered_and_no_two_contents_share_bytes() {
        let link = Link {
            seq: 1,
            effective_at: UnixMs(2),
            recorded_at: UnixMs(3),
            booked: "2026-03".parse().unwrap(),
            key: "ab",
            body: "c",
        };
        let hash = link.hash(Digest::default());
        let others = [
            Link { seq: 2, ..link },
            Link { effective_at: UnixMs(3), ..link },
            Link { recorded_at: UnixMs(2), ..link },
            Link { booked: "2026-04".parse().unwrap(), ..link },
            Link { key: "a", body: "bc", ..link },
            Link { body: "d", ..link },
        ];
        for other in others {
            assert_ne!(other.hash(Digest::default()), hash, "{other:?}");
        }
        assert_ne!(link.hash(hash), hash);
        assert_eq!(link.hash(Digest::default()), hash);
    }

    #[test]
    fn a_digest_is_the_sha_256_that_others_compute() {
        // FIPS 180-2, appendix B.1.
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "ba78", "zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
