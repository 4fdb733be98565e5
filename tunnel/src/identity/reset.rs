//! The key by which a restarted broker tells its agents that their connections are gone.
//!
//! A broker that was killed knows nothing of the connections that agents still believe in. QUIC has a word for
//! that, the stateless reset (RFC 9000, section 10.3), but only who has the key that made a connection's token can
//! say it. So the key must be the same after a restart: it is derived from the CA's private key, which the broker
//! keeps anyway. Without it an agent would wait for its idle timeout, longer than a short lease.

use std::fmt;

use sha2::{Digest, Sha256};

/// What sets this use of the CA's key apart from any other.
const PURPOSE: &[u8] = b"spillway stateless reset 1\0";

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResetKey([u8; 32]);

impl ResetKey {
    /// The key of the deployment whose CA has this private key.
    pub(crate) fn derive(private_key: &[u8]) -> Self {
        Self(Sha256::new().chain_update(PURPOSE).chain_update(private_key).finalize().into())
    }

    /// The key's bytes.
    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey(<redacted>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_deployments_and_shows_nothing() {
        let key = ResetKey::derive(b"one");
        assert_eq!(key, ResetKey::derive(b"one"));
        assert_ne!(key, ResetKey::derive(b"two"));
        assert_eq!(format!("{key:?}"), "ResetKey(<redacted>)");
    }
}
