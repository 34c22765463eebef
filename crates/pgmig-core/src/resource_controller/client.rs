//! The client: lists the instances that the tokens of a configuration can see.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::redirect;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::sleep;
use url::Url;

use super::config::{AccessToken, InstanceKind, ResourceControllerConfig};
use super::error::{Error, ErrorKind, Redactor, RefusedToken};
use crate::error_chain::{chain, root_cause};
use crate::instance_id::InstanceId;
use crate::tls::{self, CaSource, TlsFault, TrustedRoots, Verification};

/// Where the listing is, below the server (the original tool's document).
const PATH: &str = "/api/ibmcloud/resource-controller/resource_instances";
/// More pages than any installation has; a page usually holds 20 instances.
const MAX_PAGES: usize = 10_000;
/// How often a request is sent again after a passing fault.
const RETRIES: u32 = 3;

/// A client of the Resource Controller.
///
/// What is fact (the product's documents): the address, the bearer token, a token that sees only
/// its owner's instances, pages with `rows_count`, `next_url` and `resources`, and of each
/// resource `id`, `guid`, `name` and `state`.
///
/// What is our reading:
///
/// - `next_url` is a URL reference (RFC 3986) relative to the page that carries it; missing, null
///   or empty it says that this was the last page. It must stay on the same scheme, host and
///   port, because the token goes with it.
/// - `rows_count` is the number of resources of its page. A page whose number is another one is
///   an error, unless it is the number of all instances of that token, as some servers have it.
/// - `resources: null` is an empty list.
/// - The kind of an instance is told by its field `type`, else by the service name in its CRN; a
///   word that we do not know tells nothing.
#[derive(Debug)]
pub struct ResourceController {
    http: reqwest::Client,
    url: Url,
    tokens: Vec<AccessToken>,
    kind: Option<InstanceKind>,
    options: ClientOptions,
}

/// How a [`ResourceController`] behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Certificates to trust besides those of the system and of the configuration's `caFile`.
    pub extra_ca: Option<CaSource>,
    /// How long reaching the server may take, with the TLS handshake.
    pub connect_timeout: Duration,
    /// How long one request may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// List only the instances of this kind, as `type` in the configuration asks for.
    pub kind: Option<InstanceKind>,
    /// The wait before a request is sent again for the first time; it doubles each time.
    pub retry_wait: Duration,
    /// The largest page that is read, in bytes.
    pub max_page_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            extra_ca: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            kind: None,
            retry_wait: Duration::from_millis(500),
            max_page_bytes: 16 * 1024 * 1024,
        }
    }
}

/// An instance that is provisioned in the target installation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceInstance {
    /// The cloud resource name (CRN).
    pub id: String,
    /// The ID that a mapping refers to.
    pub guid: InstanceId,
    /// The name that its owner gave it.
    pub name: Option<String>,
    /// Such as `active`.
    pub state: Option<String>,
    /// All other fields, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ServiceInstance {
    /// Whether data can be restored into it. The documents name no states; those of IBM's Resource
    /// Controller that begin with `removed` or `pending_re` mean that it is gone or about to go.
    pub fn is_provisioned(&self) -> bool {
        let gone = |state: &str| state.starts_with("removed") || state.starts_with("pending_re");
        !self.state.as_deref().is_some_and(gone)
    }
}

/// What [`ResourceController::test_connection`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionTest {
    /// The address that was asked.
    pub url: String,
    /// What each token sees, in the order of the configuration.
    pub tokens: Vec<TokenTest>,
    /// How many instances there are; one that several tokens see counts once.
    pub instances: usize,
}

/// What one token sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenTest {
    /// Where the token stands in the configuration, such as `accessTokens[1]`.
    pub key: String,
    /// How many instances it sees.
    pub instances: usize,
}

impl ResourceController {
    /// A client for `config`; nothing is sent yet.
    ///
    /// The server's certificate is verified, name and all, against the system's certificates,
    /// `caFile` and [`ClientOptions::extra_ca`], unless the configuration says
    /// `insecureSkipTlsVerify: true`.
    ///
    /// # Errors
    ///
    /// A CA file that cannot be used; a host that no URL can have; `type` and
    /// [`ClientOptions::kind`] that contradict each other.
    pub fn new(config: ResourceControllerConfig, options: ClientOptions) -> Result<Self, Error> {
        let host = if config.host.contains(':') { format!("[{}]", config.host) } else { config.host.clone() };
        let address = format!("https://{host}:{}{PATH}", config.port);
        let error = |kind| Error::new(address.clone(), kind);

        let kind = match (config.kind, options.kind) {
            (Some(configured), Some(asked)) if configured != asked => {
                return Err(error(ErrorKind::KindConflict { configured, asked }));
            }
            (configured, asked) => asked.or(configured),
        };
        let url = Url::parse(&address).map_err(|e| error(ErrorKind::Setup { reason: e.to_string() }))?;

        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config(&config, &options).map_err(error)?)
            .https_only(true)
            // A redirect could lead the token elsewhere; the documents know none.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout)
            .user_agent(concat!("pgmig/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&config.host) {
            // A proxy in the environment cannot know what runs on this machine.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| error(ErrorKind::Setup { reason: root_cause(&e) }))?;
        Ok(Self { http, url, tokens: config.access_tokens, kind, options })
    }

    /// The address of the listing.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// All instances that the tokens see, all pages, in the order in which they were first seen;
    /// an instance that several tokens see is listed once.
    ///
    /// A request that meets a passing fault (no connection, status 429, 502, 503 or 504) is sent
    /// again up to 3 times.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`]. Tokens that are refused are all named at once; any other error ends
    /// the listing.
    pub async fn instances(&self) -> Result<Vec<ServiceInstance>, Error> {
        let (instances, _) = self.list().await?;
        Ok(instances)
    }

    /// Lists everything and tells how many instances each token sees.
    ///
    /// # Errors
    ///
    /// As [`ResourceController::instances`].
    pub async fn test_connection(&self) -> Result<ConnectionTest, Error> {
        let (instances, tokens) = self.list().await?;
        Ok(ConnectionTest { url: self.url.to_string(), tokens, instances: instances.len() })
    }

    async fn list(&self) -> Result<(Vec<ServiceInstance>, Vec<TokenTest>), Error> {
        let mut seen = HashSet::new();
        let mut instances = Vec::new();
        let mut tests = Vec::new();
        let mut refused = Vec::new();
        for token in &self.tokens {
            match self.list_with(token).await {
                Ok(found) => {
                    tests.push(TokenTest { key: token.key.clone(), instances: found.len() });
                    for instance in found {
                        if seen.insert(instance.guid.clone()) {
                            instances.push(instance);
                        }
                    }
                }
                Err(Error { kind: ErrorKind::Unauthorized { tokens, .. }, .. }) => {
                    refused.extend(tokens);
                }
                Err(error) if self.tokens.len() > 1 => return Err(error.with_token(&token.key)),
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() {
            Ok((instances, tests))
        } else {
            let kind = ErrorKind::Unauthorized { tokens: refused, of: self.tokens.len() };
            Err(Error::new(self.url.to_string(), kind))
        }
    }

    /// The instances of the wanted kind that one token sees.
    async fn list_with(&self, token: &AccessToken) -> Result<Vec<ServiceInstance>, Error> {
        let redactor = Redactor::new(&self.tokens);
        let mut visited = HashSet::new();
        let mut instances: Vec<ServiceInstance> = Vec::new();
        // The number of each page, what it says it carries and what it carries.
        let mut odd_pages = Vec::new();
        let mut url = self.url.clone();
        loop {
            let error = |kind| Error::new(redactor.clean(url.as_str()), kind);
            if visited.len() >= MAX_PAGES {
                return Err(error(ErrorKind::TooManyPages { limit: MAX_PAGES }));
            }
            visited.insert(url.clone());
            let body = self.get(token, &url, &redactor).await?;
            let page = Page::parse(&body).map_err(|reason| {
                let excerpt = redactor.excerpt(&body);
                error(ErrorKind::NotDocumented { reason: redactor.clean(&reason), excerpt })
            })?;
            let carried = page.resources.len();
            if let Some(rows_count) = page.rows_count
                && rows_count != carried as u64
            {
                odd_pages.push((visited.len(), rows_count, carried));
            }
            instances.extend(page.resources);

            let Some(next) = page.next_url else {
                let total = instances.len() as u64;
                if let Some(&(page, rows_count, carried)) =
                    odd_pages.iter().find(|(_, rows_count, _)| *rows_count != total)
                {
                    return Err(error(ErrorKind::RowsCount { page, rows_count, carried }));
                }
                break;
            };
            let elsewhere = || error(ErrorKind::NextUrlElsewhere { next_url: redactor.clean(&next) });
            let mut next_url = url.join(&next).map_err(|_| elsewhere())?;
            next_url.set_fragment(None);
            if !same_server(&self.url, &next_url) {
                return Err(elsewhere());
            }
            if visited.contains(&next_url) {
                return Err(error(ErrorKind::PageLoop { next_url: redactor.clean(&next) }));
            }
            url = next_url;
        }
        instances.retain(|instance| match (self.kind, kind_of(instance)) {
            (Some(wanted), Some(kind)) => kind == wanted,
            _ => true,
        });
        Ok(instances)
    }

    /// The body of one page, after up to [`RETRIES`] more attempts.
    async fn get(&self, token: &AccessToken, url: &Url, redactor: &Redactor<'_>) -> Result<Vec<u8>, Error> {
        let mut wait = self.options.retry_wait;
        let mut attempts = 1;
        loop {
            match self.get_once(token, url, redactor).await {
                Ok(body) => return Ok(body),
                Err(kind) if kind.is_passing() && attempts <= RETRIES => {
                    sleep(wait).await;
                    wait *= 2;
                    attempts += 1;
                }
                Err(kind) => {
                    let error = Error::new(redactor.clean(url.as_str()), kind);
                    return Err(error.after(attempts));
                }
            }
        }
    }

    async fn get_once(&self, token: &AccessToken, url: &Url, redactor: &Redactor<'_>) -> Result<Vec<u8>, ErrorKind> {
        let failed = |error: reqwest::Error| self.transport(&error, 0);
        let mut response = self
            .http
            .get(url.clone())
            .header(reqwest::header::ACCEPT, "application/json")
            // Marked as sensitive by the library: not in its logs.
            .bearer_auth(token.value.expose_secret())
            .send()
            .await
            .map_err(failed)?;

        let status = response.status();
        if status == 401 || status == 403 {
            let refused = RefusedToken { key: token.key.clone(), status: status.as_u16() };
            return Err(ErrorKind::Unauthorized { tokens: vec![refused], of: self.tokens.len() });
        }
        if status == 404 {
            return Err(ErrorKind::NotFound);
        }
        if status.is_redirection() {
            let location = response.headers().get(reqwest::header::LOCATION);
            let location = location.and_then(|value| redactor.excerpt(value.as_bytes()));
            return Err(ErrorKind::Redirect { status: status.as_u16(), location });
        }

        let limit = self.options.max_page_bytes;
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                    return Err(ErrorKind::TooLarge { limit });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                // Of an error's answer, what came is good enough.
                Err(_) if !status.is_success() => break,
                Err(error) => return Err(self.transport(&error, body.len())),
            }
        }
        if status.is_success() {
            Ok(body)
        } else {
            let excerpt = redactor.excerpt(&body);
            Err(ErrorKind::Status { status: status.as_u16(), excerpt })
        }
    }

    /// What a failed exchange means, after `received` bytes of the answer's body.
    fn transport(&self, error: &reqwest::Error, received: usize) -> ErrorKind {
        if let Some(fault) = TlsFault::find(error) {
            ErrorKind::Tls(fault)
        } else if error.is_timeout() {
            let after = if error.is_connect() { self.options.connect_timeout } else { self.options.timeout };
            ErrorKind::Timeout { after }
        } else if error.is_builder() {
            ErrorKind::Setup { reason: root_cause(error) }
        } else if error.is_connect() {
            let reason = root_cause(error);
            if chain(error).any(|error| error.to_string().starts_with("dns error")) {
                ErrorKind::Dns { reason }
            } else {
                ErrorKind::Unreachable { reason }
            }
        } else {
            ErrorKind::Interrupted { received, reason: root_cause(error) }
        }
    }
}

impl std::fmt::Display for ConnectionTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "resource controller at {}", self.url)?;
        for TokenTest { key, instances } in &self.tokens {
            writeln!(f, "  {key}: {}", counted(*instances))?;
        }
        write!(f, "  in all: {}", counted(self.instances))
    }
}

fn counted(instances: usize) -> String {
    if instances == 1 { "1 instance".into() } else { format!("{instances} instances") }
}

fn tls_config(config: &ResourceControllerConfig, options: &ClientOptions) -> Result<rustls::ClientConfig, ErrorKind> {
    let (roots, verification) = if config.insecure_skip_tls_verify {
        (TrustedRoots::none(), Verification::None)
    } else {
        let mut roots = TrustedRoots::of_the_system();
        let ca_file = config.ca_file.clone().map(CaSource::File);
        for source in ca_file.iter().chain(&options.extra_ca) {
            roots.add(source).map_err(ErrorKind::Ca)?;
        }
        (roots, Verification::Full)
    };
    tls::client_config(roots, verification).map_err(|error| ErrorKind::Setup { reason: error.to_string() })
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// True if a token meant for `ours` may go to `other`.
fn same_server(ours: &Url, other: &Url) -> bool {
    ours.origin() == other.origin() && other.username().is_empty() && other.password().is_none()
}

/// One page of the listing.
struct Page {
    rows_count: Option<u64>,
    next_url: Option<String>,
    resources: Vec<ServiceInstance>,
}

impl Page {
    /// The error says what is wrong without a value of the page, except for a position.
    fn parse(body: &[u8]) -> Result<Self, String> {
        let page: Value = serde_json::from_slice(body).map_err(|error| {
            if error.is_eof() {
                "it ends in the middle of JSON".to_owned()
            } else {
                format!("it is not JSON (line {}, column {})", error.line(), error.column())
            }
        })?;
        let Value::Object(mut page) = page else {
            return Err("it is JSON, but not an object".into());
        };
        let rows_count = match page.remove("rows_count") {
            None | Some(Value::Null) => None,
            Some(count) => match count.as_u64() {
                Some(count) => Some(count),
                None => return Err("its `rows_count` is not a number".into()),
            },
        };
        let next_url = match page.remove("next_url") {
            None | Some(Value::Null) => None,
            Some(Value::String(next)) => Some(next).filter(|next| !next.trim().is_empty()),
            Some(_) => return Err("its `next_url` is not text".into()),
        };
        let resources = match page.remove("resources") {
            Some(Value::Array(resources)) => resources,
            Some(Value::Null) => Vec::new(),
            Some(_) => return Err("its `resources` is not a list".into()),
            None => return Err("it has no `resources`".into()),
        };
        let resources = resources
            .into_iter()
            .enumerate()
            .map(|(index, resource)| instance(resource).map_err(|reason| format!("its `resources[{index}]` {reason}")))
            .collect::<Result<_, _>>()?;
        Ok(Self { rows_count, next_url, resources })
    }
}

fn instance(resource: Value) -> Result<ServiceInstance, String> {
    let Value::Object(mut fields) = resource else {
        return Err("is not an object".into());
    };
    let mut text = |key: &str| match fields.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("has a `{key}` that is not text")),
    };
    let guid = text("guid")?.ok_or("has no `guid`")?;
    let id = text("id")?.ok_or("has no `id`")?;
    let name = text("name")?;
    let state = text("state")?;
    let guid = guid.parse().map_err(|error| format!("has no usable `guid`: {error}"))?;
    Ok(ServiceInstance { id, guid, name, state, extra: fields })
}

/// The kind that the instance's own `type` tells, else the service name in its CRN
/// (`crn:v1:CNAME:CTYPE:SERVICE-NAME:...`).
fn kind_of(instance: &ServiceInstance) -> Option<InstanceKind> {
    let by_word = |word: &str| match word.to_ascii_lowercase().as_str() {
        "assistant" | "watson-assistant" | "conversation" => Some(InstanceKind::Assistant),
        "orchestrate" | "watson-orchestrate" | "watsonx-orchestrate" | "wxo" => Some(InstanceKind::Orchestrate),
        _ => None,
    };
    let own = instance.extra.get("type").and_then(Value::as_str).and_then(by_word);
    own.or_else(|| {
        let mut segments = instance.id.split(':');
        (segments.next() == Some("crn")).then_some(())?;
        segments.nth(3).and_then(by_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(json: &str) -> Result<Page, String> {
        Page::parse(json.as_bytes())
    }

    fn service(id: &str, own: Option<&str>) -> ServiceInstance {
        let extra = own.map(|own| ("type".to_owned(), Value::from(own))).into_iter().collect();
        let guid = "a".parse().expect("an ID");
        ServiceInstance { id: id.into(), guid, name: None, state: None, extra }
    }

    fn client(config: &str, options: ClientOptions) -> Result<ResourceController, Error> {
        let config = ResourceControllerConfig::parse(config).expect("configuration");
        ResourceController::new(config, options)
    }

    #[test]
    fn a_page_keeps_the_fields_that_we_do_not_know() {
        let page = page(
            r#"{"rows_count": 1, "next_url": null, "resources": [{"id": "crn:v1", "guid": "A-1",
                "name": "n", "state": "active", "region_id": "r", "x": {"y": [1]}}]}"#,
        )
        .expect("page");
        let instance = &page.resources[0];
        assert_eq!((instance.id.as_str(), instance.guid.as_str()), ("crn:v1", "A-1"));
        assert_eq!(instance.name.as_deref(), Some("n"));
        assert_eq!(
            Value::Object(instance.extra.clone()),
            serde_json::json!(
                {"region_id": "r", "x": {"y": [1]}}
            )
        );
    }

    #[test]
    fn the_last_page_has_no_next_url_in_any_spelling() {
        for last in ["", r#""next_url": null,"#, r#""next_url": "","#] {
            let page = page(&format!("{{{last} \"resources\": null}}")).expect("page");
            assert_eq!(page.next_url, None);
            assert!(page.resources.is_empty());
        }
    }

    #[test]
    fn what_is_not_a_page_says_why() {
        for (json, reason) in [
            ("<html>", "it is not JSON (line 1, column 1)"),
            (r#"{"resources": [{"id"#, "it ends in the middle of JSON"),
            ("", "it ends in the middle of JSON"),
            ("[]", "it is JSON, but not an object"),
            (r#"{"errors": []}"#, "it has no `resources`"),
            (r#"{"resources": {}}"#, "its `resources` is not a list"),
            (r#"{"resources": [], "rows_count": "1"}"#, "its `rows_count` is not a number"),
            (r#"{"resources": [], "next_url": 7}"#, "its `next_url` is not text"),
            (r#"{"resources": [7]}"#, "its `resources[0]` is not an object"),
            (r#"{"resources": [{"id": "x"}]}"#, "its `resources[0]` has no `guid`"),
            (r#"{"resources": [{"guid": "x"}]}"#, "its `resources[0]` has no `id`"),
            (
                r#"{"resources": [{"guid": "", "id": "x"}]}"#,
                "its `resources[0]` has no usable `guid`: an instance ID cannot be empty",
            ),
            (
                r#"{"resources": [{"guid": "x", "id": "x", "name": 7}]}"#,
                "its `resources[0]` has a `name` that is not text",
            ),
        ] {
            assert_eq!(page(json).err().as_deref(), Some(reason), "{json}");
        }
    }

    #[test]
    fn the_kind_is_told_by_the_type_then_by_the_crn() {
        use InstanceKind::{Assistant, Orchestrate};
        let crn = |service: &str| format!("crn:v1:cp4d:private:{service}:local:a/1:guid::");
        assert_eq!(kind_of(&service(&crn("conversation"), None)), Some(Assistant));
        assert_eq!(kind_of(&service(&crn("orchestrate"), None)), Some(Orchestrate));
        assert_eq!(kind_of(&service(&crn("assistant"), Some("Orchestrate"))), Some(Orchestrate));
        assert_eq!(kind_of(&service(&crn("x"), Some("service_instance"))), None);
        assert_eq!(kind_of(&service("a:b:c:d:assistant", None)), None);
        assert_eq!(kind_of(&service("crn:v1", None)), None);
    }

    #[test]
    fn a_token_stays_with_its_server() {
        let ours = Url::parse("https://h:5000/a").expect("URL");
        for (next, same) in [
            ("?offset=20", true),
            ("/b?c", true),
            ("https://H:5000/b", true),
            ("http://h:5000/a", false),
            ("https://h/a", false),
            ("//evil.example/a", false),
            ("\\\\evil.example/a", false),
            ("https://h:5000@evil.example/a", false),
            ("https://x@h:5000/a", false),
        ] {
            let next_url = ours.join(next).expect("URL");
            assert_eq!(same_server(&ours, &next_url), same, "{next}");
        }
    }

    #[test]
    fn the_address_is_the_documented_one() {
        let client = client("token: t\nhost: '[fd00::2]'\nport: 5000\n", ClientOptions::default());
        assert_eq!(
            client.expect("client").url().as_str(),
            "https://[fd00::2]:5000/api/ibmcloud/resource-controller/resource_instances"
        );
    }

    #[test]
    fn the_file_and_the_command_line_must_not_contradict_each_other() {
        let options = ClientOptions { kind: Some(InstanceKind::Orchestrate), ..ClientOptions::default() };
        let config = "token: t\nhost: h\nport: 1\ntype: assistant\n";
        let error = client(config, options.clone()).expect_err("conflict");
        assert!(matches!(error.kind(), ErrorKind::KindConflict { .. }));
        assert!(error.hint().is_some());
        assert!(client("token: t\nhost: h\nport: 1\ntype: orchestrate\n", options).is_ok());
    }

    #[test]
    fn a_bad_ca_file_is_found_before_anything_is_sent() {
        let config = "token: t\nhost: h\nport: 1\ncaFile: /nowhere/ca.crt\n";
        let error = client(config, ClientOptions::default()).expect_err("no file");
        assert!(matches!(error.kind(), ErrorKind::Ca(_)));
        assert!(error.to_string().contains("`/nowhere/ca.crt`"), "{error}");
    }

    #[test]
    fn debug_output_has_no_token() {
        let client = client("token: s3cret\nhost: h\nport: 1\n", ClientOptions::default());
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
