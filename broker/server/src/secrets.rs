//! Tokens: random, shown once, stored as hashes. An instance's join token is derived from a key that stays on
//! the broker's disk, so that a launch can be repeated word for word without storing the token.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use spillway_types::InstanceId;

/// Where the text of a token begins, by what it opens.
const USER_PREFIX: &str = "sw_";
const JOIN_PREFIX: &str = "swj_";
const INSTANCE_PREFIX: &str = "swi_";

/// A random 256-bit token for a user.
///
/// # Errors
/// Where the system gives no random bytes.
pub fn new_user_token() -> std::io::Result<String> {
    Ok(format!("{USER_PREFIX}{}", hex::encode(random_bytes()?)))
}

/// A random 256-bit join token.
///
/// # Errors
/// Where the system gives no random bytes.
pub fn new_join_token() -> std::io::Result<String> {
    Ok(format!("{JOIN_PREFIX}{}", hex::encode(random_bytes()?)))
}

/// SHA-256 of a token, in hexadecimal: what is stored. The token is random, so no salt is needed.
#[must_use]
pub fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// The key that instances' join tokens are derived from.
#[derive(Clone)]
pub struct InstanceKey([u8; 32]);

impl std::fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InstanceKey(<redacted>)")
    }
}

impl InstanceKey {
    /// Loads the key from `path`, or makes it there with mode 0600.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or is not a key.
    pub fn load_or_create(path: &Path) -> std::io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => bytes.try_into().map(Self).map_err(|_| {
                let problem = format!("{} is not a key of 32 bytes", path.display());
                std::io::Error::new(std::io::ErrorKind::InvalidData, problem)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = random_bytes()?;
                write_private(path, &key)?;
                Ok(Self(key))
            }
            Err(error) => Err(error),
        }
    }

    /// The join token of an instance: the same for the same instance, always.
    #[must_use]
    pub fn token(&self, instance: InstanceId) -> String {
        format!("{INSTANCE_PREFIX}{}_{}", instance.uuid().simple(), hex::encode(self.tag(instance)))
    }

    /// The instance whose join token this is; none where it is nobody's.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<InstanceId> {
        let (id, tag) = token.strip_prefix(INSTANCE_PREFIX)?.split_once('_')?;
        let instance: InstanceId = format!("{}_{id}", InstanceId::PREFIX).parse().ok()?;
        let mac = self.mac(instance);
        mac.verify_slice(&hex::decode(tag).ok()?).is_ok().then_some(instance)
    }

    /// The mark over a broker's position: 64 bits that nobody without the key can make.
    #[must_use]
    pub fn mark(&self, incarnation: u64, journal: u64) -> u64 {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"spillway mark ");
        mac.update(&incarnation.to_be_bytes());
        mac.update(&journal.to_be_bytes());
        mac.finalize().into_bytes().iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
    }

    fn tag(&self, instance: InstanceId) -> Vec<u8> {
        self.mac(instance).finalize().into_bytes().to_vec()
    }

    fn mac(&self, instance: InstanceId) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"spillway join ");
        mac.update(instance.uuid().as_bytes());
        mac
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// Where it cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

fn random_bytes() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::SequentialIds;

    #[test]
    fn an_instance_token_opens_its_instance_only() {
        let key = InstanceKey([7; 32]);
        let mut ids = SequentialIds::new(1);
        let (mine, other) = (InstanceId::generate(&mut ids), InstanceId::generate(&mut ids));
        assert_eq!(key.verify(&key.token(mine)), Some(mine));
        assert_eq!(key.token(mine), key.token(mine));
        let forged =
            key.token(mine).replace(&mine.uuid().simple().to_string(), &other.uuid().simple().to_string());
        assert_eq!(key.verify(&forged), None);
        assert_eq!(InstanceKey([8; 32]).verify(&key.token(mine)), None);
        for wrong in ["", "swi_", "swi_x_y", "swj_00"] {
            assert_eq!(key.verify(wrong), None);
        }
    }

    #[test]
    fn a_key_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instance.key");
        let first = InstanceKey::load_or_create(&path).unwrap();
        assert_eq!(InstanceKey::load_or_create(&path).unwrap().0, first.0);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        assert!(InstanceKey::load_or_create(&path).is_err());
    }
}
