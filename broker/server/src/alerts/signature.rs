//! How a receiver knows that a webhook's body is ours, and new.
//!
//! The header `Spillway-Signature: t=SECONDS,v1=HEX` carries the time of sending, in seconds since 1970, and
//! HMAC-SHA256 with the shared secret over `SECONDS`, a full stop, and the body as it was sent. A receiver works it out
//! over the bytes it got, compares without an early end, and refuses what is older than it likes (five minutes are
//! usual). Parts that a receiver does not know, such as a later `v2`, are passed over.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The header's name.
pub const HEADER: &str = "spillway-signature";

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is not `t=SECONDS,v1=HEX`.
    #[error("the signature is not written as t=SECONDS,v1=HEX")]
    Malformed,
    /// It was not made with this secret over this body.
    #[error("the signature is not of this body with this secret")]
    Wrong,
    /// It is too old, or from the future.
    #[error("the signature is {seconds} seconds away from now")]
    Stale {
        /// How far.
        seconds: u64,
    },
}

/// The header's value for a body that is sent at `seconds` since 1970.
#[must_use]
pub fn sign(secret: &str, seconds: i64, body: &[u8]) -> String {
    format!("t={seconds},v1={}", hex::encode(mac(secret, seconds, body).finalize().into_bytes()))
}

/// What a receiver does: whether the header's value is of `body`, and at most `tolerance` seconds away from `now`. The
/// comparison takes the same time wherever the first wrong byte is.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(
    secret: &str,
    header: &str,
    body: &[u8],
    now: i64,
    tolerance: u64,
) -> Result<(), SignatureError> {
    let part = |name: &str| header.split(',').find_map(|part| part.trim().strip_prefix(name));
    let seconds: i64 = part("t=").and_then(|text| text.parse().ok()).ok_or(SignatureError::Malformed)?;
    let tag = part("v1=").and_then(|text| hex::decode(text).ok()).ok_or(SignatureError::Malformed)?;
    mac(secret, seconds, body).verify_slice(&tag).map_err(|_| SignatureError::Wrong)?;
    match seconds.abs_diff(now) {
        away if away <= tolerance => Ok(()),
        seconds => Err(SignatureError::Stale { seconds }),
    }
}

fn mac(secret: &str, seconds: impl fmt::Display, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_768_000_000;

    #[test]
    fn what_was_signed_is_accepted_and_anything_else_is_not() {
        let header = sign("secret", NOW, b"{}");
        let cases = [
            ("secret", header.clone(), b"{}".as_slice(), NOW + 300, Ok(())),
            ("secret", format!("{header},v2=abc"), b"{}", NOW, Ok(())),
            ("other", header.clone(), b"{}", NOW, Err(SignatureError::Wrong)),
            ("secret", header.clone(), b"{ }", NOW, Err(SignatureError::Wrong)),
            ("secret", header.replace("t=1", "t=2"), b"{}", NOW, Err(SignatureError::Wrong)),
            ("secret", header.clone(), b"{}", NOW + 301, Err(SignatureError::Stale { seconds: 301 })),
            ("secret", header.clone(), b"{}", NOW - 301, Err(SignatureError::Stale { seconds: 301 })),
            ("secret", format!("t={NOW}"), b"{}", NOW, Err(SignatureError::Malformed)),
            ("secret", format!("t={NOW},v1=xyz"), b"{}", NOW, Err(SignatureError::Malformed)),
            ("secret", format!("t={NOW},v1="), b"{}", NOW, Err(SignatureError::Wrong)),
            ("secret", String::new(), b"{}", NOW, Err(SignatureError::Malformed)),
        ];
        for (secret, header, body, now, expected) in cases {
            assert_eq!(verify(secret, &header, body, now, 300), expected, "{header}");
        }
    }

    #[test]
    fn a_receiver_in_any_language_can_work_it_out() {
        // printf '1768000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "t=1768000000,v1=7232f3cdc3d6200574a483707154c674e38ddf5079a0af0483cf0dedb184bd81";
        assert_eq!(sign("0123456789abcdef", NOW, br#"{"a":1}"#), expected);
    }
}
