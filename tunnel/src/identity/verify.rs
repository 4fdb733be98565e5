//! What rustls asks of each side. The chain is always checked by webpki; the checks of our own come on top.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use super::{fingerprint, node_name};

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn refused(message: String) -> Error {
    let reason: Box<dyn std::error::Error + Send + Sync> = message.into();
    Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::from(reason))))
}

/// The broker's check of a node: the chain leads to this deployment's CA, and the leaf names one node of it.
///
/// A client without a certificate passes, for it may want to enrol; the listener refuses it elsewhere.
#[derive(Debug)]
pub(crate) struct NodeVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    deployment: String,
}

impl NodeVerifier {
    /// A verifier for nodes of `deployment`, whose CA is `ca`.
    pub(crate) fn new(ca: &CertificateDer<'_>, deployment: String) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { chain, deployment })
    }
}

impl ClientCertVerifier for NodeVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let name = node_name(end_entity).map_err(|error| refused(error.to_string()))?;
        if name.deployment == self.deployment {
            Ok(verified)
        } else {
            Err(refused(format!("`{name}` is of another deployment than `{}`", self.deployment)))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The check of an agent that enrols: the broker sends its CA along; that CA has the known fingerprint, and
/// the broker's certificate leads to it.
#[derive(Debug)]
pub(crate) struct FingerprintVerifier {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl FingerprintVerifier {
    /// A verifier for the CA with this fingerprint, in hexadecimal digits.
    pub(crate) fn new(fingerprint: &str) -> Self {
        Self { fingerprint: fingerprint.to_ascii_lowercase(), provider: provider() }
    }
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let known = intermediates.iter().find(|certificate| fingerprint(certificate) == self.fingerprint);
        let Some(ca) = known else {
            let sent: Vec<String> =
                intermediates.iter().map(|certificate| fingerprint(certificate)).collect();
            return Err(refused(format!("the broker's CA has the fingerprint {}", sent.join(", "))));
        };
        pinned_verifier(ca, Arc::clone(&self.provider))?.verify_server_cert(
            end_entity,
            &[],
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The check against one CA and no other.
pub(crate) fn pinned_verifier(
    ca: &CertificateDer<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))
}
