//! Manifests that only the holders of a key can write.
//!
//! A signature lies beside its manifest, as `ssh-keygen -Y sign` writes one.

use std::fmt;
use std::sync::Arc;

use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use crate::key_file::{KeyFileError, lines};

/// What the signatures are for: one that somebody made with the same key for another purpose is not one of a manifest.
const NAMESPACE: &str = "backup-manifest";

/// The key that manifests are signed with.
#[derive(Clone)]
pub struct SigningKey {
    key: Arc<PrivateKey>,
}

impl SigningKey {
    /// Reads what `ssh-keygen -t ed25519 -N ''` writes.
    ///
    /// # Errors
    ///
    /// It is something else, is of another type, or is protected by a passphrase, for which nobody can be asked.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let key = PrivateKey::from_openssh(text).map_err(|_| match lines(text).next() {
            Some((_, "-----BEGIN OPENSSH PRIVATE KEY-----")) => {
                KeyFileError::new("the private key is damaged, or of a type that is not known: Ed25519 is")
            }
            _ => KeyFileError::new("it is no private key as `ssh-keygen -t ed25519` writes one"),
        })?;
        if key.is_encrypted() {
            let why = "the private key is protected by a passphrase, for which nobody can be asked: take it off with \
                       `ssh-keygen -p`, or make a key for backups alone";
            return Err(KeyFileError::new(why));
        }
        if !key.public_key().key_data().is_ed25519() {
            return Err(KeyFileError::new("the private key is not one of the type Ed25519"));
        }
        Ok(Self { key: Arc::new(key) })
    }

    /// Who trusts what it signs.
    #[must_use]
    pub fn trusted(&self) -> TrustedKeys {
        TrustedKeys { keys: Arc::new([self.key.public_key().clone()]) }
    }

    pub(crate) fn sign(&self, manifest: &[u8]) -> Result<String, String> {
        let signature = self.key.sign(NAMESPACE, HashAlg::Sha512, manifest);
        signature.and_then(|signature| signature.to_pem(LineEnding::LF)).map_err(|e| e.to_string())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&fingerprint(self.key.public_key())).finish()
    }
}

/// The keys of those whose manifests are believed.
#[derive(Clone)]
pub struct TrustedKeys {
    keys: Arc<[PublicKey]>,
}

impl TrustedKeys {
    /// Reads public keys of the type Ed25519, one in each line: those of `.pub` files (`ssh-ed25519 AAAA... comment`), or those of a
    /// file of allowed signers (`names ssh-ed25519 AAAA...`). Empty lines and those that begin with `#` are left out. The texts of
    /// several files may follow each other.
    ///
    /// # Errors
    ///
    /// A line is something else, has options, or is a key of another type; or there is none at all.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let keys = lines(text).map(|(number, line)| {
            let wrong =
                "is no public key of the type Ed25519, such as `ssh-ed25519 AAAA... comment`, and without options";
            // The names of an allowed signer have no blanks; what else is before the key would limit its use.
            let key = match line.split_once(char::is_whitespace) {
                Some(("cert-authority", _)) => "",
                Some((first, rest)) if first != "ssh-ed25519" && !first.contains(['=', '"']) => rest.trim_start(),
                _ => line,
            };
            let key = Some(key).filter(|key| key.starts_with("ssh-ed25519"));
            let key = key.and_then(|key| PublicKey::from_openssh(key).ok());
            key.filter(|key| key.key_data().is_ed25519()).ok_or(KeyFileError::at(number, wrong))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(KeyFileError::new("there is no public key, such as `ssh-ed25519 AAAA...`"));
        }
        Ok(Self { keys: keys.into() })
    }

    /// In words that complete "the manifest ...".
    /// Whether what is signed with this key is trusted.
    #[must_use]
    pub fn has(&self, key: &SigningKey) -> bool {
        self.keys.iter().any(|trusted| trusted.key_data() == key.key.public_key().key_data())
    }

    pub(crate) fn verify(&self, manifest: &[u8], signature: &[u8]) -> Result<(), String> {
        let text = signature;
        let signature = SshSig::from_pem(text).map_err(|_| "has a signature that cannot be read")?;
        // The library reads some that `ssh-keygen` refuses. What is written as it would be is read alike by both.
        let written = signature.to_pem(LineEnding::LF).map_err(|_| "has a signature that cannot be read")?;
        let visible = |text: &[u8]| text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect::<Vec<_>>();
        if visible(text) != visible(written.as_bytes()) {
            return Err("has a signature that cannot be read".to_owned());
        }
        if signature.namespace() != NAMESPACE {
            return Err("has a signature that was made for something else".to_owned());
        }
        let key = self.keys.iter().find(|key| key.key_data() == signature.public_key()).ok_or_else(|| {
            let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256);
            format!("is signed with a key that is not trusted here: {fingerprint}")
        })?;
        let verified = key.verify(NAMESPACE, manifest, &signature);
        verified.map_err(|_| "has a signature that is not its own: it was changed, or is forged".to_owned())
    }
}

impl fmt::Debug for TrustedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(fingerprint)).finish()
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
