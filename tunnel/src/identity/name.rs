//! The names in certificates: `spiffe://<deployment>/pool/<pool>/node/<node>` and
//! `spiffe://<deployment>/broker`.

use std::fmt;
use std::str::FromStr;

use spillway_types::{NodeId, PoolName};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Longest name of a deployment: what a SPIFFE trust domain may have.
const MAX_DEPLOYMENT: usize = 255;

/// Who a node is, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// The deployment's id.
    pub deployment: String,
    /// The pool that the node was enrolled into.
    pub pool: PoolName,
    /// The node.
    pub node: NodeId,
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/pool/{}/node/{}", self.deployment, self.pool, self.node)
    }
}

/// Why a certificate does not name a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is not a certificate.
    #[error("this is not an X.509 certificate: {problem}")]
    Unreadable {
        /// What is wrong.
        problem: String,
    },
    /// It is a CA's.
    #[error("this is the certificate of a CA, which cannot be a node")]
    Ca,
    /// It has none or several names, or one that is not a URI.
    #[error("a node's certificate has exactly one name, a URI; this one has {found}")]
    NotOneUri {
        /// What was found.
        found: String,
    },
    /// The name has another form.
    #[error("`{value}` is not a node's name: it must look like `spiffe://DEPLOYMENT/pool/POOL/node/NODE`")]
    Form {
        /// The name, cut to 200 characters.
        value: String,
    },
    /// The name of a deployment is not one.
    #[error("`{value}` is not a deployment's id: 1 to 255 of a-z, 0-9, `-`, `.` and `_`")]
    Deployment {
        /// What was given, cut to 80 characters.
        value: String,
    },
}

/// Checks that `text` can be a deployment's id.
pub(super) fn check_deployment(text: &str) -> Result<(), NameError> {
    let fine = !text.is_empty()
        && text.len() <= MAX_DEPLOYMENT
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c));
    if fine { Ok(()) } else { Err(NameError::Deployment { value: text.chars().take(80).collect() }) }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Form { value: text.chars().take(200).collect() };
        let path = text.strip_prefix("spiffe://").ok_or_else(refused)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [deployment, "pool", pool, "node", node] = parts.as_slice() else { return Err(refused()) };
        check_deployment(deployment)?;
        Ok(Self {
            deployment: (*deployment).to_owned(),
            pool: pool.parse().map_err(|_| refused())?,
            node: node.parse().map_err(|_| refused())?,
        })
    }
}

/// Reads a whole certificate.
pub(super) fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, NameError> {
    let unreadable = |problem: String| NameError::Unreadable { problem };
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
    if rest.is_empty() { Ok(certificate) } else { Err(unreadable(format!("{} bytes follow it", rest.len()))) }
}

/// The one URI that a certificate has as its name.
pub(super) fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, NameError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| NameError::Unreadable { problem: error.to_string() })?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    match names {
        [GeneralName::URI(uri)] => Ok(uri),
        [other] => Err(NameError::NotOneUri { found: format!("{other:?}") }),
        several => Err(NameError::NotOneUri { found: format!("{} names", several.len()) }),
    }
}

/// The node that a certificate names. Says nothing about who signed it.
pub(crate) fn node_name(certificate_der: &[u8]) -> Result<NodeName, NameError> {
    let certificate = parse_certificate(certificate_der)?;
    if certificate.is_ca() {
        return Err(NameError::Ca);
    }
    only_uri(&certificate)?.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_other_forms_are_refused() {
        let text = "spiffe://acme-1/pool/dgx/node/node_00000000000000070000000000000001";
        assert_eq!(text.parse::<NodeName>().unwrap().to_string(), text);
        let node = "node_00000000000000070000000000000001";
        for wrong in [
            String::new(),
            "spiffe://acme/broker".to_owned(),
            format!("https://acme/pool/dgx/node/{node}"),
            format!("spiffe:///pool/dgx/node/{node}"),
            format!("spiffe://Acme/pool/dgx/node/{node}"),
            format!("spiffe://acme/pool/DGX/node/{node}"),
            format!("spiffe://acme/pool/dgx/node/{node}/x"),
            "spiffe://acme/pool/dgx/node/job_00000000000000070000000000000001".to_owned(),
        ] {
            assert!(wrong.parse::<NodeName>().is_err(), "{wrong}");
        }
        assert!(matches!(node_name(b"\x30\x00"), Err(NameError::Unreadable { .. })));
    }
}
