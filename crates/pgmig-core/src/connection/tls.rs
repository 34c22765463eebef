//! What each of libpq's SSL modes means for rustls.

use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::{SslMode, TargetConfig};
use super::error::ErrorKind;
use crate::tls::{self, CaSource, TrustedRoots, Verification};

/// How a connection is to be made, in the order of the attempts.
pub(super) struct Attempts {
    pub(super) first: Security,
    /// Made when the first is refused for its security, not for the role or the database.
    pub(super) second: Option<Security>,
    pub(super) tls: MakeRustlsConnect,
    /// What is verified where TLS is used.
    pub(super) verification: Verification,
}

/// Whether one attempt uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    Plain,
    Tls,
}

impl Attempts {
    /// # Errors
    ///
    /// The CA file cannot be used.
    pub(super) fn of(target: &TargetConfig) -> Result<Self, ErrorKind> {
        let (first, second) = match target.sslmode {
            // As in libpq, the mode has no effect on a Unix-domain socket.
            _ if target.is_unix_socket() => (Security::Plain, None),
            SslMode::Disable => (Security::Plain, None),
            SslMode::Allow => (Security::Plain, Some(Security::Tls)),
            SslMode::Prefer => (Security::Tls, Some(Security::Plain)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Security::Tls, None),
        };
        let verification = verification(target.sslmode, target.ca_file.is_some());
        let needs_tls = first == Security::Tls || second == Some(Security::Tls);
        let roots = match &target.ca_file {
            Some(file) if needs_tls => {
                let mut roots = TrustedRoots::none();
                roots.add(&CaSource::File(file.clone())).map_err(ErrorKind::Ca)?;
                roots
            }
            None if verification == Verification::Full => TrustedRoots::of_the_system(),
            _ => TrustedRoots::none(),
        };
        let config =
            tls::client_config(roots, verification).map_err(|error| ErrorKind::Setup { reason: error.to_string() })?;
        Ok(Self { first, second, tls: MakeRustlsConnect::new(config), verification })
    }
}

/// As libpq: a CA file makes every mode verify at least the chain.
fn verification(mode: SslMode, has_ca_file: bool) -> Verification {
    match mode {
        SslMode::VerifyFull => Verification::Full,
        SslMode::VerifyCa => Verification::Chain,
        _ if has_ca_file => Verification::Chain,
        _ => Verification::None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Environment;
    use super::*;

    fn attempts(text: &str) -> Result<Attempts, ErrorKind> {
        let text = format!("database: d\nusername: u\n{text}");
        Attempts::of(&TargetConfig::parse(&text, &Environment::default()).expect("file"))
    }

    #[test]
    fn each_mode_makes_the_attempts_that_libpq_makes() {
        use Security::{Plain, Tls};
        use Verification::{Chain, Full, None as Nothing};
        let folder = tempfile::tempdir().expect("folder");
        let ca = folder.path().join("ca.crt");
        std::fs::write(&ca, crate::tls::tests::ca("CA").pem()).expect("write");
        let ca = ca.display();
        for (mode, without_ca, with_ca) in [
            ("disable", Some((Plain, None, Nothing)), (Plain, None, Chain)),
            ("allow", Some((Plain, Some(Tls), Nothing)), (Plain, Some(Tls), Chain)),
            ("prefer", Some((Tls, Some(Plain), Nothing)), (Tls, Some(Plain), Chain)),
            ("require", Some((Tls, None, Nothing)), (Tls, None, Chain)),
            ("verify-ca", None, (Tls, None, Chain)),
            ("verify-full", Some((Tls, None, Full)), (Tls, None, Full)),
        ] {
            let of = |text: String| {
                let attempts = attempts(&text).expect("attempts");
                (attempts.first, attempts.second, attempts.verification)
            };
            if let Some(expected) = without_ca {
                assert_eq!(of(format!("host: h\nsslmode: {mode}\n")), expected, "{mode}");
            }
            let text = format!("host: h\nsslmode: {mode}\nca_file: {ca}\n");
            assert_eq!(of(text), with_ca, "{mode} with a CA file");
            let text = format!("host: /run\nsslmode: {mode}\nca_file: {ca}\n");
            assert_eq!(of(text).0, Plain, "{mode} on a socket");
        }
    }

    #[test]
    fn a_ca_file_is_read_only_where_tls_can_be_used() {
        let missing = "ca_file: /nowhere/ca.crt\n";
        assert!(matches!(attempts(&format!("host: h\n{missing}")), Err(ErrorKind::Ca(_))));
        assert!(attempts(&format!("host: h\nsslmode: disable\n{missing}")).is_ok());
        assert!(attempts(&format!("host: /run\n{missing}")).is_ok());
    }
}
