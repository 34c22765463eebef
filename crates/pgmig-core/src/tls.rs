//! TLS: which certificates are trusted, what of a server's certificate is verified, and what a
//! failed handshake means to the user.

use std::error::Error as StdError;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The largest file with certificates that is read, in bytes; the system's own has 200 KB.
const MAX_CA_BYTES: u64 = 8 * 1024 * 1024;

/// Certificates to trust, in PEM.
#[derive(Clone, Debug)]
pub enum CaSource {
    /// The file at this path.
    File(PathBuf),
    /// The content of such a file.
    Pem(Vec<u8>),
}

/// What of a server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    /// That a trusted CA has signed it for the name that we connect to.
    Full,
    /// That a trusted CA has signed it.
    Chain,
    /// Nothing.
    None,
}

/// The certificates of CAs that are trusted.
#[derive(Clone, Debug)]
pub(crate) struct TrustedRoots {
    store: RootCertStore,
    /// Those that the user has given. One of them may be the server's own.
    given: Vec<CertificateDer<'static>>,
}

impl TrustedRoots {
    pub(crate) fn none() -> Self {
        Self { store: RootCertStore::empty(), given: Vec::new() }
    }

    /// Those of the system. Certificates that cannot be read are skipped, as everywhere.
    pub(crate) fn of_the_system() -> Self {
        let mut roots = Self::none();
        roots.store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    }

    /// Adds every certificate of `source`.
    pub(crate) fn add(&mut self, source: &CaSource) -> Result<(), CaError> {
        let (path, pem) = match source {
            CaSource::File(path) => (Some(path.clone()), read_limited(path)),
            CaSource::Pem(pem) => (None, Ok(pem.clone())),
        };
        let error = |problem| CaError { path: path.clone(), problem };
        let pem = pem.map_err(|e| error(CaProblem::Read(e)))?;
        for (index, certificate) in certificates(&pem).map_err(error)?.into_iter().enumerate() {
            self.store.add(certificate.clone()).map_err(|_| error(CaProblem::BadCertificate { number: index + 1 }))?;
            self.given.push(certificate);
        }
        Ok(())
    }
}

/// A file with certificates cannot be used.
#[derive(Debug)]
pub struct CaError {
    path: Option<PathBuf>,
    problem: CaProblem,
}

#[derive(Debug)]
enum CaProblem {
    Read(io::Error),
    TooLarge,
    Empty,
    NotPem,
    Der,
    PrivateKey,
    OtherPem,
    BadPem(String),
    BadCertificate { number: usize },
}

impl CaError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match &self.problem {
            CaProblem::Read(_) => "check the path and that you may read the file".into(),
            CaProblem::Der => "convert it with `openssl x509 -inform der -in FILE -out ca.crt`".into(),
            CaProblem::PrivateKey => "give the certificate of the CA (`ca.crt`) and keep the key to yourself".into(),
            _ => "give a PEM file; it has a line `-----BEGIN CERTIFICATE-----` for each \
                  certificate"
                .into(),
        })
    }
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "cannot use the CA file `{}`: ", path.display())?,
            None => f.write_str("cannot use the CA certificates: ")?,
        }
        match &self.problem {
            CaProblem::Read(error) => write!(f, "{error}"),
            CaProblem::TooLarge => write!(f, "it is larger than {} MiB", MAX_CA_BYTES >> 20),
            CaProblem::Empty => f.write_str("it is empty"),
            CaProblem::NotPem => f.write_str("it is not in PEM format"),
            CaProblem::Der => f.write_str("it is in DER format, not PEM"),
            CaProblem::PrivateKey => f.write_str("it holds a private key and no certificate"),
            CaProblem::OtherPem => f.write_str("it holds no certificate"),
            CaProblem::BadPem(cause) => write!(f, "its PEM format is broken: {cause}"),
            CaProblem::BadCertificate { number } => {
                write!(f, "certificate {number} in it is broken")
            }
        }
    }
}

impl StdError for CaError {}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?.take(MAX_CA_BYTES + 1).read_to_end(&mut pem)?;
    Ok(pem)
}

/// The certificates in `pem`, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CaProblem> {
    use rustls::pki_types::pem::Error as PemError;

    if pem.len() as u64 > MAX_CA_BYTES {
        return Err(CaProblem::TooLarge);
    }
    if pem.iter().all(u8::is_ascii_whitespace) {
        return Err(CaProblem::Empty);
    }
    let mut found = Vec::new();
    let mut other = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        match section {
            Ok((SectionKind::Certificate, der)) => found.push(der.into()),
            Ok((SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _)) => {
                other = Some(CaProblem::PrivateKey);
            }
            Ok(_) => {
                other.get_or_insert(CaProblem::OtherPem);
            }
            // In our words: the library's own quote bytes of the file, which may be a key.
            Err(PemError::MissingSectionEnd { .. }) => {
                return Err(CaProblem::BadPem("an `-----END` line is missing".into()));
            }
            Err(PemError::IllegalSectionStart { .. }) => {
                return Err(CaProblem::BadPem("a `-----BEGIN` line is malformed".into()));
            }
            Err(_) => return Err(CaProblem::BadPem("a section is not valid base64".into())),
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    Err(other.unwrap_or(match pem {
        // A DER sequence with a two-byte length, as every certificate is.
        [0x30, 0x82, ..] => CaProblem::Der,
        _ => CaProblem::NotPem,
    }))
}

/// A client configuration without ALPN and without client certificates.
pub(crate) fn client_config(roots: TrustedRoots, verification: Verification) -> Result<ClientConfig, rustls::Error> {
    // Named, not the default of the process: a library must not depend on who set that.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = ServerVerifier { roots, verification, algorithms: algorithms(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

/// As `rustls::client::WebPkiServerVerifier`, with each of its two checks optional, and with one
/// more way to be trusted: being one of the certificates that the user has given. A server whose
/// self-signed certificate is its own CA (PostgreSQL's documentation shows how to make one) is
/// accepted by OpenSSL; webpki alone never accepts a CA certificate as a server's.
#[derive(Debug)]
struct ServerVerifier {
    roots: TrustedRoots,
    verification: Verification,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    fn verify_chain(
        &self,
        certificate: &ParsedCertificate<'_>,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let result = verify_server_cert_signed_by_trust_anchor(
            certificate,
            &self.roots.store,
            intermediates,
            now,
            self.algorithms.all,
        );
        match result {
            // webpki looks at the dates before it looks at this, so the dates are right.
            Err(error) if is_ca_as_server(&error) && self.roots.given.contains(der) => Ok(()),
            result => result,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.verification != Verification::None {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            self.verify_chain(&certificate, end_entity, intermediates, now)?;
            if self.verification == Verification::Full {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.verification == Verification::None {
            // The signature proves possession of a key that nobody vouches for. Checking it would
            // only keep out old certificates (X.509 version 1) that webpki cannot read.
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.verification == Verification::None {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why a TLS handshake failed, cut by what the user can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// No trusted CA has signed the certificate; also for a self-signed one.
    UntrustedCa,
    /// The certificate is for other names.
    WrongName {
        /// The names that it is for.
        presented: Vec<String>,
    },
    /// The certificate has expired.
    Expired {
        /// Since when, as `YYYY-MM-DD`.
        since: Option<String>,
    },
    /// The certificate becomes valid in the future, or this machine's clock is wrong.
    NotYetValid,
    /// The certificate is broken or of a kind that cannot be verified.
    BadCertificate {
        /// In the words of the library.
        reason: String,
    },
    /// The server answered with something that is not TLS.
    NotTls,
    /// The server and we have no version of TLS or no cipher in common, or the server refused us.
    Refused {
        /// In the words of the library.
        reason: String,
    },
}

impl TlsFault {
    /// The fault in `error` or anything below it, if it is about TLS.
    pub(crate) fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::from(error));
            }
            // An `io::Error` is transparent: its source is that of the error inside, so the error
            // inside has to be asked for.
            if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
                && let Some(fault) = Self::find(inner)
            {
                return Some(fault);
            }
            next = error.source();
        }
        None
    }
}

impl From<&rustls::Error> for TlsFault {
    fn from(error: &rustls::Error) -> Self {
        if is_ca_as_server(error) {
            return Self::UntrustedCa;
        }
        let certificate = match error {
            rustls::Error::InvalidCertificate(error) => error,
            rustls::Error::InvalidMessage(_) => return Self::NotTls,
            other => {
                return Self::Refused { reason: other.to_string() };
            }
        };
        match certificate {
            // A bad signature is what a CA made anew under its old name leaves behind.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UntrustedCa,
            CertificateError::Expired => Self::Expired { since: None },
            CertificateError::ExpiredContext { not_after, .. } => {
                let since = i64::try_from(not_after.as_secs()).ok();
                let since = since.and_then(|secs| chrono::DateTime::from_timestamp(secs, 0));
                Self::Expired { since: since.map(|time| time.format("%Y-%m-%d").to_string()) }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName => Self::WrongName { presented: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName { presented: presented.iter().map(|name| plain_name(name)).collect() }
            }
            other => Self::BadCertificate { reason: other.to_string() },
        }
    }
}

/// `DnsName("x")` and `IpAddress(1.2.3.4)` of webpki without its wrapping.
fn plain_name(presented: &str) -> String {
    let inner = ["DnsName(", "IpAddress("]
        .iter()
        .find_map(|prefix| presented.strip_prefix(prefix))
        .and_then(|rest| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"').to_owned()
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UntrustedCa => f.write_str("the server's certificate is self-signed or signed by an unknown CA"),
            Self::WrongName { presented } if presented.is_empty() => {
                f.write_str("the server's certificate is for another host name")
            }
            Self::WrongName { presented } => {
                let names: Vec<_> = presented.iter().map(|name| format!("`{name}`")).collect();
                write!(f, "the server's certificate is only for {}", names.join(", "))
            }
            Self::Expired { since: Some(since) } => {
                write!(f, "the server's certificate expired on {since}")
            }
            Self::Expired { since: None } => f.write_str("the server's certificate has expired"),
            Self::NotYetValid => f.write_str("the server's certificate is not valid yet"),
            Self::BadCertificate { reason } => {
                write!(f, "the server's certificate cannot be verified: {reason}")
            }
            Self::NotTls => f.write_str("the server does not speak TLS on this port"),
            Self::Refused { reason } => write!(f, "the TLS handshake failed: {reason}"),
        }
    }
}

/// True if webpki says that the server's certificate is one of a CA. It says so of every
/// self-signed certificate made by `openssl req -x509`, before it looks at the issuer.
fn is_ca_as_server(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    /// A CA named `name`.
    pub(crate) fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA")
    }

    fn server(names: &[&str]) -> CertificateParams {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        CertificateParams::new(names).expect("params")
    }

    fn issue(params: &CertificateParams, ca: &CertifiedIssuer<'_, KeyPair>) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("key");
        params.signed_by(&key, ca).expect("certificate").der().clone()
    }

    fn verify(
        pem: &str,
        verification: Verification,
        certificate: &CertificateDer<'_>,
        name: &str,
    ) -> Result<(), TlsFault> {
        let mut roots = TrustedRoots::none();
        if !pem.is_empty() {
            roots.add(&CaSource::Pem(pem.into())).expect("certificates");
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier = ServerVerifier { roots, verification, algorithms: algorithms(&provider) };
        let name = ServerName::try_from(name.to_owned()).expect("name");
        match verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()) {
            Ok(_) => Ok(()),
            Err(error) => Err(TlsFault::from(&error)),
        }
    }

    #[test]
    fn each_verification_checks_what_it_says() {
        use Verification::{Chain, Full, None};
        let (ours, other) = (ca("one CA"), ca("another CA"));
        let certificate = issue(&server(&["db.example"]), &ours);
        let wrong_name = TlsFault::WrongName { presented: vec!["db.example".into()] };

        assert_eq!(verify(&ours.pem(), Full, &certificate, "db.example"), Ok(()));
        assert_eq!(verify(&ours.pem(), Full, &certificate, "localhost"), Err(wrong_name));
        assert_eq!(verify(&ours.pem(), Chain, &certificate, "localhost"), Ok(()));
        assert_eq!(verify(&other.pem(), Chain, &certificate, "db.example"), Err(TlsFault::UntrustedCa));
        assert_eq!(verify("", Chain, &certificate, "db.example"), Err(TlsFault::UntrustedCa));
        assert_eq!(verify("", None, &certificate, "localhost"), Ok(()));
        let bundle = format!("# two\n{}\n{}", other.pem(), ours.pem());
        assert_eq!(verify(&bundle, Full, &certificate, "db.example"), Ok(()));
    }

    #[test]
    fn a_ca_made_anew_under_its_old_name_is_untrusted() {
        let certificate = issue(&server(&["db.example"]), &ca("the CA"));
        assert_eq!(
            verify(&ca("the CA").pem(), Verification::Chain, &certificate, "db.example"),
            Err(TlsFault::UntrustedCa)
        );
    }

    #[test]
    fn the_dates_are_checked_with_and_without_the_name() {
        let ours = ca("one CA");
        let mut params = server(&["db.example"]);
        params.not_after = rcgen::date_time_ymd(2024, 2, 29);
        let expired = issue(&params, &ours);
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
        params.not_after = rcgen::date_time_ymd(3000, 1, 1);
        let early = issue(&params, &ours);
        for verification in [Verification::Full, Verification::Chain] {
            assert_eq!(
                verify(&ours.pem(), verification, &expired, "db.example"),
                Err(TlsFault::Expired { since: Some("2024-02-29".into()) })
            );
            assert_eq!(verify(&ours.pem(), verification, &early, "db.example"), Err(TlsFault::NotYetValid));
        }
    }

    #[test]
    fn a_self_signed_server_that_is_its_own_ca_is_trusted_once_given() {
        let mut params = server(&["db.example"]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let own = params.self_signed(&key).expect("certificate");
        let full = |pem: &str, name: &str| verify(pem, Verification::Full, own.der(), name);

        assert_eq!(full("", "db.example"), Err(TlsFault::UntrustedCa));
        assert_eq!(full(&ca("other").pem(), "db.example"), Err(TlsFault::UntrustedCa));
        assert_eq!(full(&own.pem(), "db.example"), Ok(()));
        assert!(matches!(full(&own.pem(), "localhost"), Err(TlsFault::WrongName { .. })));

        params.not_after = rcgen::date_time_ymd(2024, 2, 29);
        let expired = params.self_signed(&key).expect("certificate");
        assert!(matches!(
            verify(&expired.pem(), Verification::Chain, expired.der(), "db.example"),
            Err(TlsFault::Expired { .. })
        ));
    }

    #[test]
    fn a_self_signed_server_that_is_no_ca_is_trusted_once_given() {
        let key = KeyPair::generate().expect("key");
        let own = server(&["db.example", "127.0.0.1"]).self_signed(&key).expect("certificate");
        let full = |pem: &str, name: &str| verify(pem, Verification::Full, own.der(), name);
        assert_eq!(full("", "db.example"), Err(TlsFault::UntrustedCa));
        assert_eq!(full(&own.pem(), "127.0.0.1"), Ok(()));
        assert_eq!(
            full(&own.pem(), "127.0.0.2"),
            Err(TlsFault::WrongName { presented: vec!["db.example".into(), "127.0.0.1".into()] })
        );
    }

    #[test]
    fn a_file_without_certificates_says_what_it_is() {
        let key = KeyPair::generate().expect("key").serialize_pem();
        let good = ca("a CA");
        let cut = &good.pem()[..200];
        let cases: [(&[u8], &str); 8] = [
            (b" \n", "it is empty"),
            (b"ca.crt\n", "it is not in PEM format"),
            (good.der(), "it is in DER format, not PEM"),
            (key.as_bytes(), "it holds a private key and no certificate"),
            (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "it holds no certificate"),
            (cut.as_bytes(), "its PEM format is broken: an `-----END` line is missing"),
            (
                b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
                "its PEM format is broken: a section is not valid base64",
            ),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1 in it is broken"),
        ];
        for (pem, cause) in cases {
            let error = TrustedRoots::none().add(&CaSource::Pem(pem.to_vec())).expect_err(cause);
            assert_eq!(error.to_string(), format!("cannot use the CA certificates: {cause}"));
            assert!(error.hint().is_some());
        }
        let error = TrustedRoots::none().add(&CaSource::File("/nowhere/ca.crt".into()));
        let error = error.expect_err("no file").to_string();
        assert!(error.starts_with("cannot use the CA file `/nowhere/ca.crt`: No such"), "{error}");
    }
}
