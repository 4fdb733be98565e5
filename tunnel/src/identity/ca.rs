//! The deployment's certificate authority: made on the first start, kept in one private file, loaded after.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType,
};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject,
};
use spillway_types::{DurationMs, NodeId, PoolName, UnixMs};

use super::files::{Existing, read_if_there, write_secret};
use super::name::{NameError, NodeName, check_deployment, only_uri, parse_certificate};
use super::{BROKER_NAME, ResetKey, fingerprint};

const DAY: DurationMs = DurationMs::from_secs(24 * 3600);

/// How long a node's certificate is valid. It becomes a day when agents renew over the tunnel; until then a
/// node has to be enrolled again after a year, and what keeps a lost node out is its revocation at the broker.
pub const NODE_LIFETIME: DurationMs = DurationMs(365 * DAY.0);
/// How long the CA's certificate is valid, and so each of the broker's own: those live in the memory of the
/// process that holds the CA's key, so that a shorter life would protect nothing.
pub const CA_LIFETIME: DurationMs = DurationMs(10 * 365 * DAY.0);
/// How far back a certificate's begin is dated: agents' clocks are not exact.
const BACK_DATED: DurationMs = DurationMs::from_secs(5 * 60);
/// Bytes of a P-256 public key: 0x04 and two coordinates.
const P256_POINT: usize = 65;
/// Latest instant that fits a certificate with a lifetime added: the year 9000.
const LATEST: UnixMs = UnixMs(221_845_392_000_000);

const CA_FILE: &str = "ca.pem";

/// Why the CA could not be made, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Its file could not be read or written.
    #[error("the deployment's CA at {} could not be read or written", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its file is damaged.
    #[error("{} is not the file of a CA ({problem}): bring it back from a backup; every node trusts it", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Its file belongs to another deployment.
    #[error("{} is the CA of `{found}`, not of `{expected}`: use the folder of this deployment", path.display())]
    OtherDeployment {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The name of the deployment cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A certificate request is not one, is not signed by its key, or has a key of another kind.
    #[error("the certificate request was refused: {problem}")]
    Request {
        /// What is wrong.
        problem: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Issue(#[source] rcgen::Error),
}

/// A machine's public key with the proof that the machine has the private one.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    key: rcgen::PublicKey,
}

impl CertificateRequest {
    /// Reads a PKCS#10 request in DER and checks its signature. Every name and extension in it is ignored.
    ///
    /// # Errors
    /// [`CaError::Request`]: not a request, not signed by its own key, or not ECDSA P-256.
    pub fn parse(der: &[u8]) -> Result<Self, CaError> {
        let refused = |problem: &str| CaError::Request { problem: problem.to_owned() };
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|error| refused(&error.to_string()))?;
        let key = request.public_key;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != P256_POINT {
            return Err(refused("its key is not ECDSA P-256"));
        }
        Ok(Self { key })
    }

    /// SHA-256 of the public key in small hexadecimal digits: what a join token is bound to.
    #[must_use]
    pub fn key_fingerprint(&self) -> String {
        fingerprint(self.key.der_bytes())
    }
}

/// The deployment's CA, with its key.
#[derive(Debug)]
pub struct DeploymentCa {
    deployment: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    reset: ResetKey,
}

impl DeploymentCa {
    /// Loads the CA of `deployment` from `dir`, or makes it where there is none: one file `ca.pem` with mode
    /// 0600, key and certificate. Of two processes that make it at once, one wins and both use its.
    ///
    /// # Errors
    /// [`CaError`]: a damaged or foreign file is never replaced.
    pub fn load_or_create(dir: &Path, deployment: &str, now: UnixMs) -> Result<Self, CaError> {
        check_deployment(deployment)?;
        let path = dir.join(CA_FILE);
        let file = |source| CaError::File { path: path.clone(), source };
        if let Some(bytes) = read_if_there(&path).map_err(file)? {
            return Self::parse(&path, &bytes, deployment);
        }
        let bytes = new_ca(deployment, now).map_err(CaError::Issue)?;
        match write_secret(&path, bytes.as_bytes(), Existing::Keep) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(file(error)),
            Ok(()) | Err(_) => {}
        }
        let bytes = std::fs::read(&path).map_err(file)?;
        Self::parse(&path, &bytes, deployment)
    }

    fn parse(path: &Path, bytes: &[u8], deployment: &str) -> Result<Self, CaError> {
        let damaged = |problem: String| CaError::Damaged { path: path.to_owned(), problem };
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(bytes).map_err(|error| damaged(format!("key: {error}")))?;
        let certificate = CertificateDer::from_pem_slice(bytes)
            .map_err(|error| damaged(format!("certificate: {error}")))?;
        let reset = ResetKey::derive(key.secret_pkcs8_der());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| damaged(format!("key: {error}")))?;
        let parsed = parse_certificate(&certificate).map_err(|error| damaged(error.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(damaged("its key is not its certificate's".to_owned()));
        }
        let found = only_uri(&parsed).map_err(|error| damaged(error.to_string()))?;
        if found != trust_domain(deployment) {
            let (found, expected) = (found.to_owned(), trust_domain(deployment));
            return Err(CaError::OtherDeployment { path: path.to_owned(), found, expected });
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| damaged(error.to_string()))?;
        Ok(Self { deployment: deployment.to_owned(), certificate, issuer, reset })
    }

    /// The deployment's id.
    #[must_use]
    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    /// The CA's certificate in DER.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the CA's certificate in small hexadecimal digits: what a join command carries.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// A new key and certificate for the broker's listener, made afresh at each start and kept in memory.
    ///
    /// # Errors
    /// [`CaError::Issue`].
    pub fn issue_server(&self, now: UnixMs) -> Result<ServerIdentity, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Issue)?;
        let uri = format!("{}/broker", trust_domain(&self.deployment));
        let mut params = certificate("Spillway broker", &uri).map_err(CaError::Issue)?;
        set_validity(&mut params, now, CA_LIFETIME);
        let dns = BROKER_NAME.try_into().map_err(CaError::Issue)?;
        params.subject_alt_names.push(SanType::DnsName(dns));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(CaError::Issue)?;
        Ok(ServerIdentity {
            deployment: self.deployment.clone(),
            ca: self.certificate.clone(),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            reset: self.reset,
        })
    }

    /// A certificate in DER for the key of `request`, that makes it the node `node` of `pool`.
    ///
    /// # Errors
    /// [`CaError::Issue`].
    pub fn issue_node(
        &self,
        request: &CertificateRequest,
        node: NodeId,
        pool: &PoolName,
        now: UnixMs,
    ) -> Result<Vec<u8>, CaError> {
        let name = NodeName { deployment: self.deployment.clone(), pool: pool.clone(), node };
        let mut params = certificate("Spillway node", &name.to_string()).map_err(CaError::Issue)?;
        set_validity(&mut params, now, NODE_LIFETIME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.key, &self.issuer).map_err(CaError::Issue)?;
        Ok(certificate.der().to_vec())
    }
}

/// What the listener needs to be the broker: its certificate and key, and the CA that nodes are checked with.
pub struct ServerIdentity {
    pub(crate) deployment: String,
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The same at each start.
    pub(crate) reset: ResetKey,
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIdentity").field("deployment", &self.deployment).finish_non_exhaustive()
    }
}

fn trust_domain(deployment: &str) -> String {
    format!("spiffe://{deployment}")
}

fn new_ca(deployment: &str, now: UnixMs) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = certificate("Spillway CA", &trust_domain(deployment))?;
    set_validity(&mut params, now, CA_LIFETIME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// What all certificates have in common.
fn certificate(common: &str, uri: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Valid from a little before `now` until `lifetime` after it. Instants outside 1970 to 9000 are cut.
fn set_validity(params: &mut CertificateParams, now: UnixMs, lifetime: DurationMs) {
    let now_ms = u64::try_from(now.clamp(UnixMs(0), LATEST).0).unwrap_or(0);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_millis(now_ms.saturating_sub(BACK_DATED.0));
    params.not_after = epoch + Duration::from_millis(now_ms.saturating_add(lifetime.0));
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
