//! Who is who: the deployment's private CA, the names in its certificates, and what each side checks.
//!
//! - The broker keeps a CA of its own ([`DeploymentCa`]). An agent that enrols knows its fingerprint from the
//!   join command and nothing else; from then on it pins the CA's certificate.
//! - A node's certificate carries exactly one name, `spiffe://<deployment>/pool/<pool>/node/<node>`
//!   ([`NodeName`]); the broker believes that name and nothing that the agent says about itself.
//! - A node's key is made on the node and never leaves it; a request for a certificate proves its possession.
//!
//! Keys are ECDSA P-256. The cryptography is aws-lc-rs, passed explicitly everywhere: the process default is
//! never read. Not here yet: renewal, and a second CA beside the first for its rotation.

mod ca;
mod files;
mod name;
mod node;
mod reset;
mod verify;

pub use ca::{CA_LIFETIME, CaError, CertificateRequest, DeploymentCa, NODE_LIFETIME, ServerIdentity};
pub use name::{NameError, NodeName};
pub use node::{EnrolmentDraft, IdentityError, NodeIdentity};

pub(crate) use name::node_name;
pub(crate) use reset::ResetKey;
pub(crate) use verify::{FingerprintVerifier, NodeVerifier, pinned_verifier, provider};

use sha2::{Digest, Sha256};

/// The name that an agent asks for in TLS, and that only the broker's certificate has. It is not resolved:
/// the address comes from the agent's configuration.
pub const BROKER_NAME: &str = "broker.spillway.internal";

/// SHA-256 of a certificate in DER, in small hexadecimal digits: how people and join commands name a CA.
#[must_use]
pub fn fingerprint(certificate_der: &[u8]) -> String {
    hex::encode(Sha256::digest(certificate_der))
}
