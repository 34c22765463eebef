//! What backups are encrypted and signed with.

use secrecy::{ExposeSecret as _, SecretString};
use storage_backends::{Catalog, Identities, KeyFileError, Recipients, SigningKey, TrustedKeys};

use super::section::Section;

/// What backups are encrypted and signed with. Its `Debug` shows no secret.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    recipients: Option<Recipients>,
    identities: Option<Identities>,
    signing: Option<SigningKey>,
    trusted: Option<TrustedKeys>,
}

impl Keys {
    /// The sections `encryption` and `signing` of a job.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut keys = Self::default();
        if let Some(mut encryption) = section.section("encryption") {
            let recipients = encryption.texts("recipients").and_then(|texts| {
                let line = texts.first()?.0;
                let texts: Vec<_> = texts.into_iter().map(|(_, text)| text).collect();
                Some((line, texts.join("\n").into()))
            });
            keys.recipients = key(&mut encryption, "recipients", recipients, Recipients::parse);
            let identity = encryption.secret_at("identity");
            keys.identities = key(&mut encryption, "identity", identity, Identities::parse);
            // Whoever has only said what to read with does not want plain backups.
            if let (None, Some(identities)) = (&keys.recipients, &keys.identities) {
                let own = identities.recipients();
                let own = own.map_err(|e| encryption.fault(encryption.line(), format!("`identity`: {e}")));
                keys.recipients = own.ok();
            }
            if keys.recipients.is_none() && keys.identities.is_none() && !encryption.has_faults() {
                encryption.fault(encryption.line(), "`recipients` or `identity` is missing");
            }
            section.take(encryption.finish(Some(())));
        }
        if let Some(mut signing) = section.section("signing") {
            let secret = signing.secret_at("key");
            keys.signing = key(&mut signing, "key", secret, SigningKey::parse);
            let trusted = signing.secret_at("trusted-keys");
            let line = trusted.as_ref().map_or(signing.line(), |(line, _)| *line);
            keys.trusted = key(&mut signing, "trusted-keys", trusted, TrustedKeys::parse);
            if let (Some(key), Some(trusted)) = (&keys.signing, &keys.trusted)
                && !trusted.has(key)
            {
                signing.fault(
                    line,
                    "`trusted-keys` does not have the public key of `key`, so what it signs would be refused",
                );
            }
            // Whoever signs trusts what it has signed.
            keys.trusted = keys.trusted.or_else(|| keys.signing.as_ref().map(SigningKey::trusted));
            if keys.trusted.is_none() && !signing.has_faults() {
                signing.fault(signing.line(), "`key` or `trusted-keys` is missing");
            }
            section.take(signing.finish(Some(())));
        }
        keys
    }

    /// Whether what is written now would be refused when it is read: only signed backups are trusted, and there is no key to sign with.
    pub(crate) fn only_read(&self) -> bool {
        self.trusted.is_some() && self.signing.is_none()
    }

    /// The catalog with them.
    pub(crate) fn apply(&self, mut catalog: Catalog) -> Catalog {
        if let Some(recipients) = &self.recipients {
            catalog = catalog.with_encryption(recipients.clone());
        }
        if let Some(identities) = &self.identities {
            catalog = catalog.with_identities(identities.clone());
        }
        if let Some(key) = &self.signing {
            catalog = catalog.with_signing(key.clone());
        }
        if let Some(keys) = &self.trusted {
            catalog = catalog.with_trusted_keys(keys.clone());
        }
        catalog
    }
}

/// `text` is what was found, on which line.
fn key<T>(
    section: &mut Section<'_>,
    name: &str,
    text: Option<(usize, SecretString)>,
    parse: impl FnOnce(&str) -> Result<T, KeyFileError>,
) -> Option<T> {
    let (line, text) = text?;
    parse(text.expose_secret()).map_err(|e| section.fault(line, format!("`{name}`: {e}"))).ok()
}
