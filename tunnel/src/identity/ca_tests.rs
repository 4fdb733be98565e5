//! Tests of the CA, of certificates and of what a machine keeps.

use rcgen::CertificateSigningRequest;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tempfile::TempDir;

use super::*;
use crate::identity::{
    EnrolmentDraft, FingerprintVerifier, IdentityError, NodeIdentity, NodeVerifier, node_name,
};

const NOW: UnixMs = UnixMs(1_790_000_000_000);
const HOUR: i64 = 3_600_000;

fn new_deployment(name: &str) -> (TempDir, DeploymentCa) {
    let dir = tempfile::tempdir().unwrap();
    let ca = DeploymentCa::load_or_create(dir.path(), name, NOW).unwrap();
    (dir, ca)
}

fn node() -> NodeId {
    "node_00000000000000070000000000000001".parse().unwrap()
}

fn pool() -> PoolName {
    "dgx".parse().unwrap()
}

fn enrolled(ca: &DeploymentCa) -> NodeIdentity {
    let dir = tempfile::tempdir().unwrap();
    let draft = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    let request = CertificateRequest::parse(draft.request_der()).unwrap();
    let certificate = ca.issue_node(&request, node(), &pool(), NOW).unwrap();
    draft.complete(certificate, ca.certificate_der().to_vec()).unwrap()
}

fn at(now: UnixMs) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now.0).unwrap()))
}

#[test]
fn the_ca_is_the_same_after_a_restart_and_bound_to_its_deployment() {
    let (dir, ca) = new_deployment("acme");
    let again = DeploymentCa::load_or_create(dir.path(), "acme", NOW).unwrap();
    assert_eq!(again.fingerprint(), ca.fingerprint());
    assert_eq!(again.fingerprint().len(), 64);
    let error = DeploymentCa::load_or_create(dir.path(), "umbrella", NOW).unwrap_err();
    assert!(matches!(&error, CaError::OtherDeployment { .. }), "{error}");
    for wrong in ["", "Acme", "a/b", &"a".repeat(256)] {
        assert!(DeploymentCa::load_or_create(dir.path(), wrong, NOW).is_err(), "{wrong}");
    }
    std::fs::write(dir.path().join(CA_FILE), "not a CA").unwrap();
    let error = DeploymentCa::load_or_create(dir.path(), "acme", NOW).unwrap_err();
    assert!(matches!(&error, CaError::Damaged { .. }), "{error}");
}

#[test]
fn a_nodes_certificate_names_it_and_passes_only_in_its_time_and_deployment() {
    let (_dir, ca) = new_deployment("acme");
    let (_other_dir, other) = new_deployment("umbrella");
    let identity = enrolled(&ca);
    let uri = format!("spiffe://acme/pool/dgx/node/{}", node());
    assert_eq!(identity.name().to_string(), uri);
    let certificate = CertificateDer::from(identity.certificate_der());
    let verifier = NodeVerifier::new(&ca.certificate, "acme".to_owned()).unwrap();
    let check = |now| verifier.verify_client_cert(&certificate, &[], at(now)).is_ok();
    assert!(check(NOW));
    assert!(check(UnixMs(NOW.0 - 4 * 60_000)), "clocks differ");
    assert!(!check(UnixMs(NOW.0 - 6 * 60_000)), "not valid yet");
    let end = NOW.0 + i64::try_from(NODE_LIFETIME.0).unwrap();
    assert!(check(UnixMs(end - HOUR)));
    assert!(!check(UnixMs(end + HOUR)), "expired");
    let foreign = NodeVerifier::new(&other.certificate, "umbrella".to_owned()).unwrap();
    assert!(foreign.verify_client_cert(&certificate, &[], at(NOW)).is_err(), "another CA");
    let renamed = NodeVerifier::new(&ca.certificate, "umbrella".to_owned()).unwrap();
    let error = renamed.verify_client_cert(&certificate, &[], at(NOW)).unwrap_err();
    assert!(error.to_string().contains("another deployment"), "{error}");
}

#[test]
fn only_a_leaf_with_one_uri_is_a_node() {
    let (_dir, ca) = new_deployment("acme");
    let verifier = NodeVerifier::new(&ca.certificate, "acme".to_owned()).unwrap();
    let name = format!("spiffe://acme/pool/dgx/node/{}", node());
    let sign = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = certificate("test", &name).unwrap();
        set_validity(&mut params, NOW, DAY);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        params.signed_by(&key, &ca.issuer).unwrap().der().clone()
    };
    let check =
        |certificate: &CertificateDer<'_>| verifier.verify_client_cert(certificate, &[], at(NOW)).is_ok();
    assert!(check(&sign(&|_| {})));
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    assert!(!check(&sign(&|params| params.subject_alt_names.push(uri("spiffe://acme/broker")))), "two names");
    assert!(
        !check(&sign(&|params| params.subject_alt_names = vec![uri("spiffe://acme/broker")])),
        "a broker"
    );
    assert!(!check(&sign(&|params| params.subject_alt_names.clear())), "no name");
    let dns = || SanType::DnsName("node.example".try_into().unwrap());
    assert!(!check(&sign(&|params| params.subject_alt_names = vec![dns()])), "a DNS name");
    assert!(!check(&sign(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))), "a CA");
    let server = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert!(!check(&sign(&|params| params.extended_key_usages = server.clone())), "a server");
    assert_eq!(node_name(ca.certificate_der()), Err(NameError::Ca));
}

#[test]
fn the_broker_is_known_by_its_cas_fingerprint_and_a_node_is_no_broker() {
    let (_dir, ca) = new_deployment("acme");
    let (_other_dir, other) = new_deployment("acme");
    let server = ca.issue_server(NOW).unwrap();
    let name = ServerName::try_from(BROKER_NAME).unwrap();
    let check = |fingerprint: &str, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]| {
        FingerprintVerifier::new(fingerprint).verify_server_cert(leaf, chain, &name, &[], at(NOW))
    };
    let chain = [server.ca.clone()];
    assert!(check(&ca.fingerprint(), &server.certificate, &chain).is_ok());
    assert!(check(&ca.fingerprint().to_uppercase(), &server.certificate, &chain).is_ok());
    let error = check(&other.fingerprint(), &server.certificate, &chain).unwrap_err();
    assert!(error.to_string().contains(&ca.fingerprint()), "{error}");
    let impostor = other.issue_server(NOW).unwrap();
    let lent = [ca.certificate.clone(), other.certificate.clone()];
    assert!(check(&ca.fingerprint(), &impostor.certificate, &lent).is_err(), "our CA beside another's leaf");
    let identity = enrolled(&ca);
    let node = CertificateDer::from(identity.certificate_der());
    assert!(check(&ca.fingerprint(), &node, &chain).is_err(), "a node's certificate");
    assert!(check(&ca.fingerprint(), &server.certificate, &[]).is_err(), "no CA sent");
}

#[test]
fn a_request_needs_its_own_signature_and_a_p256_key() {
    let dir = tempfile::tempdir().unwrap();
    let draft = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    assert_eq!(CertificateRequest::parse(draft.request_der()).unwrap().key_fingerprint().len(), 64);
    let mut forged = draft.request_der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p384: CertificateSigningRequest = CertificateParams::default().serialize_request(&p384).unwrap();
    for wrong in [&forged, &p384.der().to_vec(), &Vec::new(), &vec![0x30, 0x80]] {
        let error = CertificateRequest::parse(wrong).unwrap_err();
        assert!(matches!(&error, CaError::Request { .. }), "{error}");
    }
}

#[test]
fn a_machine_keeps_its_draft_and_then_its_identity() {
    let (_ca_dir, ca) = new_deployment("acme");
    let dir = tempfile::tempdir().unwrap();
    let draft = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    let again = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    assert_eq!(draft.request_der(), again.request_der(), "the same request after a crash");
    assert!(NodeIdentity::load(dir.path()).unwrap().is_none());
    let request = CertificateRequest::parse(draft.request_der()).unwrap();
    let certificate = ca.issue_node(&request, node(), &pool(), NOW).unwrap();
    let identity = again.complete(certificate, ca.certificate_der().to_vec()).unwrap();
    identity.save(dir.path()).unwrap();
    EnrolmentDraft::discard(dir.path()).unwrap();
    EnrolmentDraft::discard(dir.path()).unwrap();
    let loaded = NodeIdentity::load(dir.path()).unwrap().unwrap();
    assert_eq!(loaded.node(), node());
    assert_eq!(loaded.certificate_der(), identity.certificate_der());
    assert_eq!(loaded.ca_fingerprint(), ca.fingerprint());
    let other = EnrolmentDraft::load_or_create(dir.path()).unwrap();
    let error =
        other.complete(identity.certificate_der().to_vec(), ca.certificate_der().to_vec()).unwrap_err();
    assert!(matches!(&error, IdentityError::Mismatch { .. }), "{error}");
    std::fs::write(dir.path().join("identity.pem"), "half a fi").unwrap();
    let error = NodeIdentity::load(dir.path()).unwrap_err();
    assert!(error.to_string().contains("enrol this machine again"), "{error}");
}
