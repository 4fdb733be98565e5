//! What a machine keeps: the draft of its enrolment, and afterwards its identity.
//!
//! The draft (key and request) is on disk before the token is sent, so that an enrolment whose answer was
//! lost is asked again with the same request, and the broker can give the same answer.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject,
};
use spillway_types::NodeId;

use super::files::{Existing, read_if_there, write_secret};
use super::name::{NameError, NodeName, node_name, parse_certificate};
use super::{CertificateRequest, fingerprint};

const DRAFT_FILE: &str = "enrolment.pem";
const IDENTITY_FILE: &str = "identity.pem";

/// Why a machine's identity could not be made, saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{} could not be read or written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is damaged ({problem}): remove it and enrol this machine again", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The parts of an identity do not belong together.
    #[error("the certificate does not fit: {problem}")]
    Mismatch {
        /// What is wrong.
        problem: String,
    },
    /// The certificate does not name a node.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A key or a request could not be made.
    #[error("a key could not be made")]
    Key(#[source] rcgen::Error),
}

/// A machine's key and its request for a certificate, before it is a node.
pub struct EnrolmentDraft {
    key: PrivatePkcs8KeyDer<'static>,
    request: CertificateSigningRequestDer<'static>,
}

impl std::fmt::Debug for EnrolmentDraft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolmentDraft").finish_non_exhaustive()
    }
}

impl EnrolmentDraft {
    /// The draft in `dir` (one file, mode 0600), or a new one that is saved there first.
    ///
    /// # Errors
    /// [`IdentityError::File`], [`IdentityError::Damaged`] or [`IdentityError::Key`].
    pub fn load_or_create(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(DRAFT_FILE);
        let file = |source| IdentityError::File { path: path.clone(), source };
        if read_if_there(&path).map_err(file)?.is_none() {
            let text = new_draft().map_err(IdentityError::Key)?;
            match write_secret(&path, text.as_bytes(), Existing::Keep) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(file(error)),
                Ok(()) | Err(_) => {}
            }
        }
        let bytes = std::fs::read(&path).map_err(file)?;
        let damaged = |problem: String| IdentityError::Damaged { path: path.clone(), problem };
        let key = PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let request = CertificateSigningRequestDer::from_pem_slice(&bytes)
            .map_err(|error| damaged(error.to_string()))?;
        CertificateRequest::parse(&request).map_err(|error| damaged(error.to_string()))?;
        Ok(Self { key, request })
    }

    /// Removes the draft in `dir`, for use once the identity is saved; no draft is fine too.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn discard(dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join(DRAFT_FILE);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(IdentityError::File { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The request in DER, the same for as long as the draft exists.
    #[must_use]
    pub fn request_der(&self) -> &[u8] {
        &self.request
    }

    /// Puts the broker's answer beside the key.
    ///
    /// # Errors
    /// [`IdentityError`]: the certificate is for another key, or names no node.
    pub fn complete(&self, certificate: Vec<u8>, ca: Vec<u8>) -> Result<NodeIdentity, IdentityError> {
        NodeIdentity::new(self.key.clone_key(), CertificateDer::from(certificate), CertificateDer::from(ca))
    }
}

fn new_draft() -> Result<String, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), request.pem()?))
}

/// Who a node is, with its key. The parts belong together: the certificate is the key's and names the node.
pub struct NodeIdentity {
    name: NodeName,
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
    ca: CertificateDer<'static>,
}

impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeIdentity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl NodeIdentity {
    fn new(
        key: PrivatePkcs8KeyDer<'static>,
        certificate: CertificateDer<'static>,
        ca: CertificateDer<'static>,
    ) -> Result<Self, IdentityError> {
        let name = node_name(&certificate)?;
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map_err(IdentityError::Key)?;
        let parsed = parse_certificate(&certificate)?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.der_bytes() {
            return Err(IdentityError::Mismatch { problem: "it is for another key".to_owned() });
        }
        if !parse_certificate(&ca)?.is_ca() {
            return Err(IdentityError::Mismatch { problem: "its issuer is not a CA".to_owned() });
        }
        Ok(Self { name, key, certificate, ca })
    }

    /// Loads the identity from `dir`; nothing where this machine is not a node yet.
    ///
    /// # Errors
    /// [`IdentityError::File`] or [`IdentityError::Damaged`].
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = dir.join(IDENTITY_FILE);
        let bytes =
            read_if_there(&path).map_err(|source| IdentityError::File { path: path.clone(), source })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let damaged = |problem: String| IdentityError::Damaged { path: path.clone(), problem };
        let key = PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| damaged(error.to_string()))?;
        let Ok([certificate, ca]) = <[CertificateDer<'static>; 2]>::try_from(certificates) else {
            return Err(damaged("it has not two certificates".to_owned()));
        };
        Self::new(key, certificate, ca).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Saves the identity in `dir`: one file, mode 0600, replaced as a whole; key, certificate and CA in PEM.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join(IDENTITY_FILE);
        let parts = [
            pem::Pem::new("PRIVATE KEY", self.key.secret_pkcs8_der()),
            pem::Pem::new("CERTIFICATE", self.certificate.to_vec()),
            pem::Pem::new("CERTIFICATE", self.ca.to_vec()),
        ];
        write_secret(&path, pem::encode_many(&parts).as_bytes(), Existing::Replace)
            .map_err(|source| IdentityError::File { path, source })
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.name.node
    }

    /// Deployment, pool and node, as the certificate says.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The pinned CA's certificate in DER.
    #[must_use]
    pub fn ca_der(&self) -> &[u8] {
        &self.ca
    }

    /// SHA-256 of the pinned CA's certificate in small hexadecimal digits.
    #[must_use]
    pub fn ca_fingerprint(&self) -> String {
        fingerprint(&self.ca)
    }

    pub(crate) fn tls_certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub(crate) fn tls_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}
