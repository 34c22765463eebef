//! A Resource Controller that behaves as the product's documents say, over HTTPS, and misbehaves
//! on request.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// Where the listing is.
pub const PATH: &str = "/api/ibmcloud/resource-controller/resource_instances";

/// What a [`ResourceControllerServer`] is to be like.
#[derive(Clone, Debug)]
pub struct ResourceControllerOptions {
    /// The tokens that are accepted, each with the instances that its owner has.
    pub tokens: Vec<(String, Vec<Provisioned>)>,
    /// The host names and IP addresses of the certificate.
    pub names: Vec<String>,
    /// Who signs the certificate, and for how long.
    pub certificate: ServerCertificate,
    /// How a page names the next one.
    pub next_url: NextUrl,
    /// Instances on a page.
    pub page_size: usize,
    /// How requests with a good token are answered.
    pub behaviour: Behaviour,
}

impl Default for ResourceControllerOptions {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            names: vec!["localhost".into(), "127.0.0.1".into()],
            certificate: ServerCertificate::SignedByCa,
            next_url: NextUrl::Path,
            page_size: 20,
            behaviour: Behaviour::AsDocumented,
        }
    }
}

/// An instance that somebody has provisioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// The ID that a mapping refers to.
    pub guid: String,
    /// The name that its owner gave it.
    pub name: String,
    /// The field `type`, if it has one.
    pub kind: Option<String>,
    /// The service name in its CRN.
    pub service: String,
    /// Whether its owner has removed it since.
    pub removed: bool,
}

impl Provisioned {
    /// The instance number `number`, with an ID as the product makes them: a number padded into a
    /// UUID.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self {
            guid: format!("00000000-0000-0000-0000-{:012}", 1_570_184_000 + number),
            name: format!("instance {number}"),
            kind: None,
            service: "conversation".into(),
            removed: false,
        }
    }

    /// The same with a field `type`.
    #[must_use]
    pub fn of_kind(self, kind: &str) -> Self {
        Self { kind: Some(kind.into()), ..self }
    }

    /// The same with another service name in its CRN.
    #[must_use]
    pub fn of_service(self, service: &str) -> Self {
        Self { service: service.into(), ..self }
    }

    fn resource(&self) -> Value {
        let Self { guid, name, kind, service, removed } = self;
        let mut resource = json!({
            "id": format!("crn:v1:ibm:private:{service}:local:a/1000330999:{guid}::"),
            "guid": guid,
            "name": name,
            "state": if *removed { "removed" } else { "active" },
            "region_id": "local",
            "created_at": "2024-01-31T10:11:12Z",
        });
        if let Some(kind) = kind {
            resource["type"] = json!(kind);
        }
        resource
    }
}

/// Who signs the server's certificate, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCertificate {
    /// A CA of its own; see [`ResourceControllerServer::ca_pem`].
    SignedByCa,
    /// The server itself.
    SelfSigned,
    /// A CA of its own, until the end of January 2024.
    Expired,
}

/// How a page names the next one; the documents do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextUrl {
    /// `https://HOST:PORT/api/...?start=20`, with the host that the client asked for.
    Absolute,
    /// `/api/...?start=20`
    Path,
    /// `?start=20`
    Query,
}

/// How requests with a good token are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// As the documents say.
    AsDocumented,
    /// Likewise, after a pause.
    Slow(Duration),
    /// Likewise, after this status to the first so many requests.
    FirstStatus(u16, usize),
    /// Always with this status and body.
    Status(u16, String),
    /// With 200 and this body, whatever it is.
    Body(String),
    /// With a redirect to there.
    Redirect(String),
    /// With the headers of a page and then half of it, after which the connection breaks.
    BrokenBody,
    /// With a body that never ends.
    EndlessBody,
    /// As documented, but each page names this as the next.
    NextUrlIs(String),
    /// As documented, but the second page names the first as the next.
    PageLoop,
    /// As documented, but one instance of the last page is missing and `rows_count` counts it.
    RowMissing,
    /// As documented, but `rows_count` counts all instances, not those of the page.
    RowsCountIsTotal,
    /// An error that quotes the token.
    QuotesToken,
}

/// A request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// Path and query.
    pub path: String,
    /// True if a bearer token came with it.
    pub had_token: bool,
}

/// A Resource Controller on a loopback port; it stops when it is dropped.
#[derive(Debug)]
pub struct ResourceControllerServer {
    port: u16,
    ca_pem: String,
    tokens: Vec<String>,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ResourceControllerServer {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// When the port or the certificate cannot be had.
    #[must_use]
    pub fn start(options: ResourceControllerOptions) -> Self {
        let (tls, ca_pem) = tls_config(&options);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        listener.set_nonblocking(true).expect("the listener can be non-blocking");
        let port = listener.local_addr().expect("the listener has an address").port();
        let tokens = options.tokens.iter().map(|(token, _)| token.clone()).collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let state = Arc::new(State { options, requests: Arc::clone(&requests) });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // Dropping the runtime drops what is still being answered.
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = serve(listener, TlsAcceptor::from(Arc::new(tls)), state) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { port, ca_pem, tokens, requests, stop: Some(stop), thread: Some(thread) }
    }

    /// The TCP port, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust, in PEM: the CA's, or the server's own if that is self-signed.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The requests so far.
    ///
    /// # Panics
    ///
    /// When the server's thread panicked.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.lock().expect("the server did not panic").clone()
    }

    /// Writes `resourceController.yaml` as before 5.2.1 (all tokens) and `ca.crt` beside it, which
    /// the file names.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written to.
    pub fn write_yaml(&self, file: &Path) {
        let mut text = "accessTokens:\n".to_owned();
        for token in &self.tokens {
            let _ = writeln!(text, "  - {token}");
        }
        self.write(file, text);
    }

    /// Writes `resourceController.yaml` as from 5.2.1 (the first token and a `type`) and `ca.crt`
    /// beside it, which the file names.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written to.
    pub fn write_yaml_with_type(&self, file: &Path, kind: &str) {
        let text = format!("accessTokens:\n  - {}\ntype: {kind}\n", self.tokens[0]);
        self.write(file, text);
    }

    fn write(&self, file: &Path, mut text: String) {
        let _ = write!(text, "host: 127.0.0.1\nport: {}\ncaFile: ca.crt\n", self.port);
        for (path, text) in [(file.with_file_name("ca.crt"), &self.ca_pem), (file.into(), &text)] {
            std::fs::write(&path, text).unwrap_or_else(|why| panic!("cannot write `{}`: {why}", path.display()));
        }
    }
}

impl Drop for ResourceControllerServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct State {
    options: ResourceControllerOptions,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
}

type Body = BoxBody<Bytes, io::Error>;

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // A client that does not trust the certificate hangs up here.
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(state.answer(&request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            http.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

impl State {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        let number = {
            let mut requests = self.requests.lock().expect("no request panicked");
            requests.push(RecordedRequest { path: path.into(), had_token: token.is_some() });
            requests.len()
        };
        let Some((_, instances)) = self.options.tokens.iter().find(|(known, _)| Some(known.as_str()) == token) else {
            return text(401, "application/json", r#"{"errors":[{"message":"token expired"}]}"#);
        };
        if request.uri().path() != PATH {
            return text(404, "text/plain", "404 page not found");
        }
        match &self.options.behaviour {
            Behaviour::Slow(pause) => tokio::time::sleep(*pause).await,
            Behaviour::FirstStatus(status, count) if number <= *count => {
                return text(*status, "text/plain", "no healthy upstream");
            }
            Behaviour::Status(status, body) => return text(*status, "text/html", body),
            Behaviour::Body(body) => return text(200, "text/html", body),
            Behaviour::Redirect(to) => {
                let mut response = text(302, "text/plain", "");
                let to = to.parse().expect("a location that a header can carry");
                response.headers_mut().insert(LOCATION, to);
                return response;
            }
            Behaviour::BrokenBody => {
                let half = Bytes::from_static(b"{\"rows_count\": 20, \"resour");
                let pieces = stream::unfold(Some(half), |half| async {
                    if let Some(half) = half {
                        return Some((Ok(Frame::data(half)), None));
                    }
                    // Time for the first half to leave.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Some((Err(io::ErrorKind::ConnectionReset.into()), None))
                });
                return Response::new(StreamBody::new(pieces).boxed());
            }
            Behaviour::EndlessBody => {
                let chunk = Bytes::from(vec![b' '; 64 * 1024]);
                let endless = stream::repeat_with(move || Ok(Frame::data(chunk.clone())));
                return Response::new(StreamBody::new(endless).boxed());
            }
            Behaviour::QuotesToken => {
                let body = format!("cannot verify {}", token.unwrap_or_default());
                return text(500, "text/plain", &body);
            }
            _ => {}
        }
        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
        let page = self.page(instances, start(request.uri().query()), host.unwrap_or_default());
        text(200, "application/json", &page.to_string())
    }

    /// The page that begins with the instance number `start`, counted from 0.
    fn page(&self, instances: &[Provisioned], start: usize, host: &str) -> Value {
        let ResourceControllerOptions { page_size, behaviour, .. } = &self.options;
        let end = instances.len().min(start + page_size);
        let is_last = end == instances.len();
        let rest = instances.get(start..end).unwrap_or_default();
        let mut resources: Vec<_> = rest.iter().map(Provisioned::resource).collect();
        let rows_count = match behaviour {
            Behaviour::RowsCountIsTotal => instances.len(),
            _ => resources.len(),
        };
        if *behaviour == Behaviour::RowMissing && is_last {
            resources.pop();
        }
        let next = match self.options.next_url {
            NextUrl::Absolute => format!("https://{host}{PATH}?start={end}"),
            NextUrl::Path => format!("{PATH}?start={end}"),
            NextUrl::Query => format!("?start={end}"),
        };
        let next_url = match behaviour {
            Behaviour::NextUrlIs(next) => Some(next.clone()),
            Behaviour::PageLoop if start > 0 => Some(PATH.to_owned()),
            _ if is_last => None,
            _ => Some(next),
        };
        json!({ "rows_count": rows_count, "next_url": next_url, "resources": resources })
    }
}

/// The value of `start` in a query.
fn start(query: Option<&str>) -> usize {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == "start").and_then(|(_, value)| value.parse().ok());
    value.unwrap_or(0)
}

fn text(status: u16, content_type: &'static str, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let body = body.map_err(|never: Infallible| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("an HTTP status");
    response.headers_mut().insert(CONTENT_TYPE, content_type.parse().expect("a media type"));
    response
}

/// The server's side of TLS, and the certificate that a client has to trust, in PEM.
fn tls_config(options: &ResourceControllerOptions) -> (ServerConfig, String) {
    let mut params = CertificateParams::new(options.names.clone()).expect("names that a certificate can carry");
    params.distinguished_name.push(DnType::CommonName, "resource controller");
    let key = KeyPair::generate().expect("a key");
    let (certificate, ca_pem) = match options.certificate {
        ServerCertificate::SelfSigned => {
            let certificate = params.self_signed(&key).expect("the server signs itself");
            let pem = certificate.pem();
            (certificate, pem)
        }
        signed => {
            if signed == ServerCertificate::Expired {
                params.not_after = rcgen::date_time_ymd(2024, 1, 31);
            }
            let mut ca = CertificateParams::default();
            ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            ca.distinguished_name.push(DnType::CommonName, "resource controller CA");
            let ca_key = KeyPair::generate().expect("a key");
            let ca = CertifiedIssuer::self_signed(ca, ca_key).expect("the CA signs itself");
            (params.signed_by(&key, &ca).expect("the CA signs"), ca.pem())
        }
    };
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key in PKCS #8");
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key fits the certificate");
    (config, ca_pem)
}
