//! The HTTPS client that the SDK sends its requests with.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::retry::ErrorKind as Retry;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// How long a connection that nobody uses stays open.
const IDLE: Duration = Duration::from_secs(20);
/// More than all the CAs of a system.
const MAX_CA_BYTES: usize = 4 << 20;

/// A client that trusts the CAs of the system and those in `ca_pem`; or everyone.
pub(super) fn client(
    ca_pem: Option<&[u8]>,
    accept_invalid_certificates: bool,
    connect_timeout: Duration,
) -> Result<SharedHttpClient, String> {
    let mut tcp = TcpConnector::new();
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls(ca_pem, accept_invalid_certificates)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let client =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(https);
    let connector = SharedHttpConnector::new(Http { client });
    Ok(http_client_fn(move |_, _| connector.clone()))
}

#[derive(Debug)]
struct Http {
    client: Client<HttpsConnector<TcpConnector>, SdkBody>,
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(e) => return HttpConnectorFuture::ready(Err(ConnectorError::user(e.into()))),
        };
        let response = self.client.request(request);
        HttpConnectorFuture::new(async move {
            let response = response.await.map_err(connector_error)?.map(SdkBody::from_body_1_x);
            HttpResponse::try_from(response).map_err(|e| ConnectorError::other(e.into(), None))
        })
    }
}

/// Tells the SDK what it may try again.
fn connector_error(error: hyper_util::client::legacy::Error) -> ConnectorError {
    // The same server will show the same certificate.
    if find::<rustls::Error>(&error).is_some() {
        return ConnectorError::other(error.into(), None);
    }
    if find::<io::Error>(&error).is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
        return ConnectorError::timeout(error.into());
    }
    if error.is_connect() || find::<io::Error>(&error).is_some() {
        return ConnectorError::io(error.into());
    }
    // The connection was closed before the answer, or in its midst.
    ConnectorError::other(error.into(), Some(Retry::TransientError))
}

/// The first error of a kind among an error and its causes.
pub(super) fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `source` of an `io::Error` passes over the error that is inside of it.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}

fn tls(ca_pem: Option<&[u8]>, accept_invalid_certificates: bool) -> Result<ClientConfig, String> {
    // Named, not the default of the process: a library must not depend on who set that.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    if accept_invalid_certificates {
        let anyone = Arc::new(Anyone(provider));
        return Ok(config.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    // Certificates of the system that cannot be read are skipped, as everywhere.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for (index, certificate) in ca_pem.map(certificates).transpose()?.into_iter().flatten().enumerate() {
        roots.add(certificate).map_err(|_| format!("certificate {} of the CA is broken", index + 1))?;
    }
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates in `pem`, at least one. The errors quote nothing of it: it may be a key by mistake.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if pem.len() > MAX_CA_BYTES {
        return Err(format!("the certificates of the CA are larger than {} MiB", MAX_CA_BYTES >> 20));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| "the certificate of the CA is broken PEM")?;
    if found.is_empty() {
        return Err("there is no certificate in PEM format (`-----BEGIN CERTIFICATE-----`) in that of the CA".into());
    }
    Ok(found)
}

/// Trusts every certificate, as it was asked to. That the server has the key of it is checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_of_a_ca_is_refused_and_not_quoted() {
        let broken = "-----BEGIN CERTIFICATE-----\nc2VjcmV0IA==\n-----END CERTIFICATE-----\n";
        let cut = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n";
        let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        for pem in ["", "nothing", broken, cut, key] {
            let why = client(Some(pem.as_bytes()), false, IDLE).expect_err(pem);
            assert!(why.contains("CA") && !why.contains("c2VjcmV0") && !why.contains("secret"), "{why}");
        }
        assert!(client(Some(&vec![b'\n'; MAX_CA_BYTES + 1]), false, IDLE).is_err());
        client(None, true, IDLE).expect("no CA is needed");
    }
}
