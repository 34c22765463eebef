//! A real S3 store, and a proxy in front of it that misbehaves on request.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;
use std::{env, fs};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use storage_backends::s3::{S3Config, S3Credentials};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::tls;
use crate::tools::expect_success;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-s3.sh");

/// An S3 store for tests: Ceph's gateway, or one that is there already.
///
/// `PGMIG_TEST_S3_ENDPOINT`, `PGMIG_TEST_S3_ACCESS_KEY` and `PGMIG_TEST_S3_SECRET_KEY` name one that is there, by
/// `http://`; the tests make buckets in it whose names begin with `pgmig-test-`, and leave them there.
pub struct S3Server {
    endpoint: String,
    access_key: String,
    secret_key: String,
    // stops the server when its standard input ends, which it also does when this process is killed
    _guard: Option<Child>,
}

impl fmt::Debug for S3Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Server").field(&self.endpoint).finish()
    }
}

impl S3Server {
    /// The store that all tests of this process share; give your bucket a name of its own.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<S3Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::named().unwrap_or_else(Self::start))
    }

    fn named() -> Option<Self> {
        let variable = |name: &str| env::var(format!("PGMIG_TEST_S3_{name}")).ok().filter(|value| !value.is_empty());
        let endpoint = variable("ENDPOINT")?;
        let need = |name| variable(name).unwrap_or_else(|| panic!("PGMIG_TEST_S3_{name} has to be set as well"));
        assert!(endpoint.starts_with("http://"), "PGMIG_TEST_S3_ENDPOINT has to be http://HOST:PORT");
        Some(Self { endpoint, access_key: need("ACCESS_KEY"), secret_key: need("SECRET_KEY"), _guard: None })
    }

    /// One more store, with buckets of its own.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start() -> Self {
        let (access_key, secret_key) = ("AKIDOFTESTS".to_owned(), "hush-hush-key-of-tests".to_owned());
        // Between looking for a free port and taking it, another process can take it.
        for attempt in 1.. {
            let folder = tempfile::Builder::new().prefix("pgmig-s3-").tempdir().expect("a temporary folder").keep();
            let mut guard = guard(&folder);
            let ports = free_ports();
            let started = Command::new(SCRIPT)
                .arg("start")
                .arg(&folder)
                .args(ports.map(|port| port.to_string()))
                .args([&access_key, &secret_key])
                .stdin(Stdio::null())
                .output()
                .expect("scripts/test-s3.sh can be run");
            if started.status.success() {
                let endpoint = format!("http://127.0.0.1:{}", ports[1]);
                return Self { endpoint, access_key, secret_key, _guard: Some(guard) };
            }
            // What has started of it is stopped.
            drop(guard.stdin.take());
            guard.wait().expect("the guard ends");
            if attempt == 3 {
                expect_success("starting Ceph's gateway; scripts/test-s3.sh installs it, which", &started);
            }
        }
        unreachable!("the third attempt ends it");
    }

    /// `http://HOST:PORT`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The access key, of someone who may do everything.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret key.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// A bucket that no other test has, when `test` is the name of one: it has to be made still.
    pub fn config(&self, test: &str) -> S3Config {
        let credentials = S3Credentials {
            access_key: self.access_key.as_str().into(),
            secret_key: self.secret_key.as_str().into(),
            session_token: None,
        };
        let bucket = format!("pgmig-test-{}-{}", test.replace('_', "-"), std::process::id());
        S3Config::new(self.endpoint.as_str(), bucket, credentials)
    }

    /// The SDK's own client, which signs requests and cannot send any.
    pub fn signer(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(&self.endpoint)
            .region(Region::new("us-east-1"))
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .credentials_provider(Credentials::new(&self.access_key, &self.secret_key, None, None, "tests"));
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// The SDK's own client, for what is asked without the library.
    pub fn client(&self) -> aws_sdk_s3::Client {
        let address = self.address();
        let connector = SharedHttpConnector::new(Plain { address });
        let http = http_client_fn(move |_, _| connector.clone());
        aws_sdk_s3::Client::from_conf(self.signer().config().to_builder().http_client(http).build())
    }

    /// Sends a request that [`signer`](Self::signer) has signed, and reads the answer to its end.
    ///
    /// # Panics
    ///
    /// When nobody answers.
    pub async fn send(&self, signed: PresignedRequest, content: Bytes) -> Response<Bytes> {
        let length = content.len();
        let request = signed.into_http_1x_request(full(content));
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().expect("a path").as_str().parse().expect("a path is a URI");
        let host = parts.uri.authority().expect("a host").as_str().parse().expect("a host is the value of a header");
        parts.headers.insert("host", host);
        if parts.method == Method::PUT {
            parts.headers.insert("content-length", length.into());
        }
        parts.uri = path;
        let answer = forward(self.address(), Request::from_parts(parts, body)).await.expect("the store answers");
        let (parts, body) = answer.into_parts();
        Response::from_parts(parts, body.collect().await.expect("the whole answer").to_bytes())
    }

    fn address(&self) -> SocketAddr {
        use std::net::ToSocketAddrs as _;
        let host = self.endpoint.trim_start_matches("http://").trim_end_matches('/');
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        host.to_socket_addrs().expect("the store's host is known").next().expect("the store has an address")
    }
}

/// Sends requests without TLS, each over a connection of its own.
#[derive(Debug)]
struct Plain {
    address: SocketAddr,
}

impl HttpConnector for Plain {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let address = self.address;
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
            let (mut parts, body) = request.into_parts();
            let content = body.collect().await.map_err(|e| ConnectorError::user(e.to_string().into()))?.to_bytes();
            let host =
                parts.uri.authority().expect("a host").as_str().parse().expect("a host is the value of a header");
            parts.headers.insert("host", host);
            parts.headers.insert("content-length", content.len().into());
            parts.uri = parts.uri.path_and_query().expect("a path").as_str().parse().expect("a path is a URI");
            let answer = forward(address, Request::from_parts(parts, full(content))).await;
            let answer = answer.map_err(|e| ConnectorError::io(e.into()))?.map(SdkBody::from_body_1_x);
            HttpResponse::try_from(answer).map_err(|e| ConnectorError::other(e.into(), None))
        })
    }
}

/// Presigned requests are for at once.
///
/// # Panics
///
/// Never.
pub fn at_once() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(300)).expect("five minutes are not too long")
}

/// A shell that waits for the end of this process, or of the server's value, and then stops the server.
fn guard(folder: &Path) -> Child {
    let mut command = Command::new("bash");
    command.args(["-c", r#"trap '' INT TERM HUP; while read -r _; do :; done; exec "$1" stop "$2""#, "guard", SCRIPT]);
    command.arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // out of reach of the signals that end the tests
    command.process_group(0).spawn().expect("a shell starts")
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback"));
    listeners.map(|listener| listener.local_addr().expect("a bound listener has an address").port())
}

/// What somebody asks the store for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// The path, still encoded.
    pub path: String,
    /// What is behind the question mark, or nothing.
    pub query: String,
    /// Whether it asks for an object only if the name is free.
    pub if_absent: bool,
    /// The part of the object that is asked for.
    pub range: Option<String>,
}

impl Asked {
    /// Whether this sends a part of an object.
    pub fn is_part(&self) -> bool {
        self.method == Method::PUT && self.query.contains("partNumber=")
    }

    /// Whether this puts the parts of an object together.
    pub fn is_completion(&self) -> bool {
        self.method == Method::POST && self.query.contains("uploadId=")
    }
}

/// What an [`S3Proxy`] does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It passes it on.
    None,
    /// It answers itself, with a status, a code and a message of S3.
    Answer(u16, &'static str, String),
    /// It answers itself, with a status and something that is not of S3.
    Nonsense(u16),
    /// It closes the connection and passes nothing on.
    Reset,
    /// It passes the request on, and closes the connection in the place of the answer.
    LoseAnswer,
    /// It closes the connection after so many bytes of what is answered.
    CutAfter(usize),
    /// It passes on an answer of which the last byte is another one.
    Damage,
    /// It answers nothing.
    Stall,
    /// It passes it on later.
    Late(Duration),
    /// It answers that all is well, and passes nothing on.
    Pretend,
    /// It stores what is to be stored only if the name is free in any case, as stores do that do not know of that.
    IgnoreCondition,
}

type Rule = Box<dyn Fn(&Asked) -> Fault + Send + Sync>;

/// A proxy on a loopback port in front of the shared [`S3Server`]. It stops when it is dropped.
pub struct S3Proxy {
    port: u16,
    ca_pem: Option<Vec<u8>>,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct State {
    server: &'static S3Server,
    rule: Mutex<Rule>,
    asked: Mutex<Vec<Asked>>,
    parts: AtomicUsize,
    most_parts: AtomicUsize,
}

impl fmt::Debug for S3Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Proxy").field(&self.port).finish()
    }
}

impl S3Proxy {
    /// Starts one that does with each request what the rule says.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn start(rule: impl Fn(&Asked) -> Fault + Send + Sync + 'static) -> Self {
        Self::start_with(Box::new(rule), None)
    }

    /// Starts one that speaks TLS, with a certificate for `localhost` and 127.0.0.1 of a CA of its own.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn start_tls() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tls::write_certificates(folder.path(), &["localhost", "127.0.0.1"]);
        let read = |name: &str| fs::read(folder.path().join(name)).expect("the file was written");
        let certificate = CertificateDer::from_pem_slice(&read("server.crt")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(&read("server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the key is the certificate's");
        Self::start_with(Box::new(|_| Fault::None), Some((config, read("ca.crt"))))
    }

    fn start_with(rule: Rule, tls: Option<(ServerConfig, Vec<u8>)>) -> Self {
        let server = S3Server::shared();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        listener.set_nonblocking(true).expect("the listener can be non-blocking");
        let port = listener.local_addr().expect("the listener has an address").port();
        let (tls, ca_pem) = tls.unzip();
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let (asked, parts, most_parts) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let state = Arc::new(State { server, rule: Mutex::new(rule), asked, parts, most_parts });
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // Dropping the runtime drops what is still being answered.
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = serve(listener, tls, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { port, ca_pem, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Where to ask.
    pub fn endpoint(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The certificate of the CA in PEM; none without TLS.
    pub fn ca_pem(&self) -> Option<Vec<u8>> {
        self.ca_pem.clone()
    }

    /// Goes by another rule from now on.
    ///
    /// # Panics
    ///
    /// When a rule has panicked.
    pub fn set_rule(&self, rule: impl Fn(&Asked) -> Fault + Send + Sync + 'static) {
        *self.state.rule.lock().expect("no rule panics") = Box::new(rule);
    }

    /// The requests so far.
    ///
    /// # Panics
    ///
    /// When the proxy has panicked.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().expect("no request panicked").clone()
    }

    /// How many parts of objects were on their way at the same time, at most.
    pub fn most_parts(&self) -> usize {
        self.state.most_parts.load(SeqCst)
    }
}

impl Drop for S3Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

type Body = BoxBody<Bytes, io::Error>;

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { state.answer(request).await }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // Clients that hang up, since they do not trust the certificate or have what they wanted, are no error.
            if let Some(tls) = tls {
                if let Ok(stream) = tls.accept(stream).await {
                    http.serve_connection(TokioIo::new(stream), service).await.ok();
                }
            } else {
                http.serve_connection(TokioIo::new(stream), service).await.ok();
            }
        });
    }
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
        let header = |name: &str| request.headers().get(name).and_then(|it| it.to_str().ok()).map(str::to_owned);
        let asked = Asked {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            if_absent: header("if-none-match").is_some(),
            range: header("range"),
        };
        self.asked.lock().expect("no request panicked").push(asked.clone());
        let fault = (self.rule.lock().expect("no rule panics"))(&asked);
        let _counted = asked.is_part().then(|| {
            let now = self.parts.fetch_add(1, SeqCst) + 1;
            self.most_parts.fetch_max(now, SeqCst);
            OnePart(&self.parts)
        });
        match fault {
            Fault::None => self.pass_on(request).await,
            Fault::Late(pause) => {
                tokio::time::sleep(pause).await;
                self.pass_on(request).await
            }
            Fault::Stall => std::future::pending().await,
            Fault::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            Fault::LoseAnswer => {
                self.pass_on(request).await?.collect().await?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Fault::CutAfter(bytes) => {
                let answer = self.pass_on(request).await?;
                Ok(answer.map(|body| cut(body, bytes)))
            }
            Fault::Damage => {
                let (parts, body) = self.pass_on(request).await?.into_parts();
                let mut content = body.collect().await?.to_bytes().to_vec();
                if let Some(last) = content.last_mut() {
                    *last ^= 1;
                }
                Ok(Response::from_parts(parts, full(content.into())))
            }
            Fault::Answer(status, code, message) => {
                request.collect().await.ok();
                let xml =
                    format!(r#"<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"#);
                Ok(answer(status, "application/xml", xml))
            }
            Fault::Nonsense(status) => {
                request.collect().await.ok();
                Ok(answer(status, "text/html", "<html><p>Bad Gateway".into()))
            }
            Fault::Pretend => {
                request.collect().await.ok();
                Ok(answer(200, "application/xml", String::new()))
            }
            Fault::IgnoreCondition => self.store_anyway(request).await,
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
        forward(self.server.address(), request.map(|body| body.map_err(io::Error::other).boxed())).await
    }

    /// Stores an object under its name, whatever has it.
    async fn store_anyway(&self, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
        // The condition is signed, so the request has to be made anew without it.
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let (bucket, key) = path.split_once('/').expect("a bucket and a key");
        let mut signed = self.server.signer().put_object().bucket(bucket).key(percent_decoded(key));
        for (name, value) in request.headers() {
            if let Some(name) = name.as_str().strip_prefix("x-amz-meta-") {
                signed = signed.metadata(name, value.to_str().expect("text"));
            }
        }
        let signed = signed.presigned(at_once()).await.expect("it can be signed");
        let content = request.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(self.server.send(signed, content).await.map(full))
    }
}

struct OnePart<'a>(&'a AtomicUsize);

impl Drop for OnePart<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn forward(to: SocketAddr, request: Request<Body>) -> Result<Response<Body>, io::Error> {
    let stream = tokio::net::TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    Ok(answer.map(|body| body.map_err(io::Error::other).boxed()))
}

fn full(content: Bytes) -> Body {
    Full::new(content).map_err(|never: Infallible| match never {}).boxed()
}

fn answer(status: u16, kind: &str, content: String) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", kind);
    response.body(full(content.into())).expect("a valid answer")
}

/// The first bytes of a body, and then an error, which closes the connection.
fn cut(body: Body, bytes: usize) -> Body {
    assert!(body.size_hint().exact().is_none_or(|all| all > bytes as u64), "there is nothing to cut off");
    let pieces = stream::unfold((body.into_data_stream(), bytes), |(mut pieces, left)| async move {
        if left == 0 {
            // What was sent has to arrive before the connection is closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Some((Err(io::ErrorKind::ConnectionReset.into()), (pieces, left)));
        }
        let mut piece: Bytes = pieces.next().await?.ok()?;
        piece.truncate(left);
        let left = left - piece.len();
        Some((Ok(Frame::data(piece)), (pieces, left)))
    });
    BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(Box::pin(pieces)))))
}

/// `BoxBody` wants what threads can share.
struct SyncStream<S>(Mutex<S>);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.get_mut().0.get_mut().expect("nobody panics with it").poll_next_unpin(context)
    }
}

fn percent_decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("two digits"));
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("keys are UTF-8")
}
