//! The endpoint of a broker that can end connections it does not remember, by the deployment's [`ResetKey`].

use std::sync::Arc;

use hmac::{Hmac, Mac};
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::{CryptoError, HmacKey};
use sha2::Sha256;

use crate::identity::ResetKey;

/// Length of HMAC-SHA256, in bytes.
const SIGNATURE: usize = 32;

/// HMAC-SHA256 with the reset key.
struct ResetHmac(Hmac<Sha256>);

impl ResetHmac {
    fn new(key: &ResetKey) -> Self {
        Self(Hmac::new_from_slice(key.bytes()).expect("HMAC takes keys of any length"))
    }

    fn signature(&self, data: &[u8]) -> [u8; SIGNATURE] {
        self.0.clone().chain_update(data).finalize().into_bytes().into()
    }
}

impl HmacKey for ResetHmac {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&self.signature(data));
    }

    fn signature_len(&self) -> usize {
        SIGNATURE
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.0.clone().chain_update(data).verify_slice(signature).map_err(|_| CryptoError)
    }
}

/// The configuration of an endpoint that knows the connection ids and makes the reset tokens of every earlier one
/// with this key.
pub(super) fn endpoint_config(key: &ResetKey) -> EndpointConfig {
    let hmac = ResetHmac::new(key);
    // Ids carry a checksum under a key of their own, by which stray packets are told from old connections'.
    let checksum_key = hmac.signature(b"connection ids");
    let checksum_key = checksum_key.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    let mut config = EndpointConfig::new(Arc::new(hmac));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(checksum_key)));
    config
}
