//! `resourceController.yaml`.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use secrecy::SecretString;

use crate::config_file::{self, ConfigFileError, Fields};
use crate::yaml::{Node, Value};

const WHAT: &str = "resource controller configuration";
const TOKEN_KEYS: [&str; 3] = ["accessTokens", "accessToken", "token"];
const KEYS: [&str; 8] =
    ["accessTokens", "accessToken", "token", "host", "port", "type", "caFile", "insecureSkipTlsVerify"];

/// Where the Resource Controller is and with which tokens it is asked.
///
/// Both generations of the file are read (section "Creating the resourceController.yaml file" of
/// the product's document):
///
/// - before 5.2.1: `accessTokens` with one bearer token per owner of instances, `host`, `port`
/// - from 5.2.1: one token, `host`, `port`, and `type`, which is `assistant` or `orchestrate`
///
/// The documents differ in how the one token is written, so `accessTokens: [t]`,
/// `accessTokens: t`, `accessToken: t` and `token: t` all mean the same. Ours besides are `caFile`
/// and `insecureSkipTlsVerify`.
///
/// ```
/// use pgmig_core::resource_controller::{InstanceKind, ResourceControllerConfig};
///
/// let config = ResourceControllerConfig::parse(
///     "token: eyJhbGciOi\nhost: zen-core-api-svc.cpd\nport: 4444\ntype: assistant\n",
/// )?;
/// assert_eq!(config.kind, Some(InstanceKind::Assistant));
/// assert!(!format!("{config:?}").contains("eyJ"));
/// # Ok::<(), pgmig_core::config_file::ConfigFileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ResourceControllerConfig {
    /// The tokens, at least one, in the order of the file.
    pub access_tokens: Vec<AccessToken>,
    /// A host name or an IP address, an IPv6 address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// `type`: list only the instances of this kind.
    pub kind: Option<InstanceKind>,
    /// `caFile`: a PEM file with certificates to trust besides those of the system.
    /// [`ResourceControllerConfig::load`] has made it relative to the folder of the file.
    pub ca_file: Option<PathBuf>,
    /// `insecureSkipTlsVerify`: the user says that the server's certificate need not be verified.
    pub insecure_skip_tls_verify: bool,
}

/// A bearer token. It sees the instances of its owner only.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// Where it stands in the file, such as `accessTokens[1]` for the second of a list.
    pub key: String,
    /// The token itself, without the word `Bearer`.
    pub value: SecretString,
}

/// The product that an instance belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceKind {
    /// `assistant`
    Assistant,
    /// `orchestrate`
    Orchestrate,
}

impl InstanceKind {
    /// The word for it in `type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assistant => "assistant",
            Self::Orchestrate => "orchestrate",
        }
    }
}

impl std::fmt::Display for InstanceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ResourceControllerConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or all faults of [`ResourceControllerConfig::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigFileError> {
        Self::parse_at(&config_file::read_text(WHAT, path)?, Some(path))
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// All faults at once, each with its line: not YAML, unknown, missing and repeated keys,
    /// values of the wrong form, placeholders of the document that were left in. No message
    /// quotes a token.
    pub fn parse(text: &str) -> Result<Self, ConfigFileError> {
        Self::parse_at(text, None)
    }

    fn parse_at(text: &str, path: Option<&Path>) -> Result<Self, ConfigFileError> {
        let mut fields = Fields::parse(text, &KEYS);
        if !fields.is_readable() {
            return Err(ConfigFileError::faults_in(WHAT, path, fields.faults));
        }
        let access_tokens = access_tokens(&mut fields);
        let host = fields
            .required_text("host")
            .and_then(|(line, host)| checked_host(&host).map_err(|message| fields.fault(Some(line), message)).ok());
        let faults = fields.faults.len();
        let port = fields.port("port");
        if port.is_none() && fields.faults.len() == faults {
            let message = "`port` is missing; usually 5000, from version 5.2.1 on 4444";
            fields.fault(None, message);
        }
        let kind = fields.text("type").and_then(|(line, kind)| {
            kind.parse().map_err(|error: UnknownKind| fields.fault(Some(line), error.to_string())).ok()
        });
        let ca_file =
            fields.text("caFile").map(|(_, file)| config_file::relative_to(path.and_then(Path::parent), &file));
        let insecure_skip_tls_verify = fields.flag("insecureSkipTlsVerify").unwrap_or(false);
        match (host, port) {
            (Some(host), Some(port)) if fields.faults.is_empty() => {
                Ok(Self { access_tokens, host, port, kind, ca_file, insecure_skip_tls_verify })
            }
            _ => Err(ConfigFileError::faults_in(WHAT, path, fields.faults)),
        }
    }
}

/// A `type` that is neither `assistant` nor `orchestrate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`type` must be `assistant` or `orchestrate`")]
pub struct UnknownKind;

impl FromStr for InstanceKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Assistant, Self::Orchestrate]
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
            .ok_or(UnknownKind)
    }
}

/// The tokens under whichever key they stand.
fn access_tokens(fields: &mut Fields) -> Vec<AccessToken> {
    let before = fields.faults.len();
    let mut tokens = Vec::new();
    let mut first: Option<&str> = None;
    for key in TOKEN_KEYS {
        let Some(Node { line, value }) = fields.take(key) else {
            continue;
        };
        if let Some(first) = first {
            fields.fault(Some(line), format!("`{key}` is given besides `{first}`; keep one"));
            continue;
        }
        first = Some(key);
        match value {
            Value::Sequence(items) if key == "accessTokens" => {
                for (index, item) in items.into_iter().enumerate() {
                    tokens.extend(access_token(format!("{key}[{index}]"), &item, fields));
                }
            }
            value => tokens.extend(access_token(key.to_owned(), &Node { line, value }, fields)),
        }
    }
    if tokens.is_empty() && fields.faults.len() == before {
        let message = "`accessTokens` is missing; it lists a bearer token of each owner of instances";
        fields.fault(None, message);
    }
    tokens
}

fn access_token(key: String, node: &Node, fields: &mut Fields) -> Option<AccessToken> {
    let fault = match &node.value {
        Value::Scalar(text) => {
            let token = match text.trim().split_once(char::is_whitespace) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
                _ => text.trim(),
            };
            match token_fault(token) {
                None => {
                    return Some(AccessToken { key, value: token.into() });
                }
                Some(fault) => fault,
            }
        }
        Value::Null => "is empty",
        Value::Sequence(_) | Value::Mapping(_) => "must be text, not a list or a map",
    };
    fields.fault(Some(node.line), format!("`{key}` {fault}"));
    None
}

/// What is wrong with a token, told without the token.
fn token_fault(token: &str) -> Option<&'static str> {
    if token.is_empty() {
        Some("is empty")
    } else if token.strip_prefix("value").is_some_and(is_digits) {
        Some("still holds the placeholder of the document; put a bearer token there")
    } else if token.starts_with("${") || token.starts_with('<') {
        Some("still holds a placeholder; put a bearer token there")
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("is not a bearer token: it has spaces or other characters that a token cannot have")
    } else {
        None
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `host` without the brackets of an IPv6 address.
fn checked_host(host: &str) -> Result<String, String> {
    if host.contains("://") {
        return Err("`host` is a URL; write only the part between `//` and the port".into());
    }
    if host.contains("NAMESPACE") || host.contains(['$', '<', '>', '{', '}']) {
        return Err("`host` still holds a placeholder; put the real name there".into());
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Ok(bare.to_owned());
    }
    if host.contains(':') {
        return Err("`host` holds more than the host name; write the port under `port`".into());
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.chars().all(valid) {
        Ok(host.to_owned())
    } else {
        Err("`host` must be a host name or an IP address".into())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn config(text: &str) -> ResourceControllerConfig {
        ResourceControllerConfig::parse(text).expect(text)
    }

    fn faults(text: &str) -> Vec<String> {
        let error = ResourceControllerConfig::parse(text).expect_err(text);
        assert!(!error.to_string().contains("s3cret"), "{error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        error.faults().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_generation_before_5_2_1_is_read() {
        let config = config("accessTokens: \n  - one\n  - Bearer two\nhost: localhost\nport: 5000\n");
        let tokens: Vec<_> =
            config.access_tokens.iter().map(|token| (token.key.as_str(), token.value.expose_secret())).collect();
        assert_eq!(tokens, [("accessTokens[0]", "one"), ("accessTokens[1]", "two")]);
        assert_eq!((config.host.as_str(), config.port), ("localhost", 5000));
        assert_eq!((config.kind, config.ca_file), (None, None));
        assert!(!config.insecure_skip_tls_verify);
    }

    #[test]
    fn the_generation_from_5_2_1_is_read_however_its_token_is_written() {
        for token in ["accessTokens: [t]", "accessTokens: t", "accessToken: t", "token: t", "accessTokens:\n- t"] {
            let config = config(&format!("{token}\nhost: zen-core-api-svc.cpd\nport: '4444'\ntype: orchestrate\n"));
            assert_eq!(config.access_tokens.len(), 1);
            assert_eq!(config.access_tokens[0].value.expose_secret(), "t");
            assert_eq!(config.port, 4444);
            assert_eq!(config.kind, Some(InstanceKind::Orchestrate));
        }
    }

    #[test]
    fn a_token_of_digits_stays_text() {
        let config = config("token: 007\nhost: h\nport: 1\n");
        assert_eq!(config.access_tokens[0].value.expose_secret(), "007");
    }

    #[test]
    fn an_ipv6_host_may_have_brackets() {
        assert_eq!(config("token: t\nhost: '[::1]'\nport: 1\n").host, "::1");
        assert_eq!(config("token: t\nhost: fd00::2\nport: 1\n").host, "fd00::2");
    }

    #[test]
    fn tls_verification_is_given_up_only_in_words() {
        let config = config("token: t\nhost: h\nport: 1\ninsecureSkipTlsVerify: true\n");
        assert!(config.insecure_skip_tls_verify);
        assert_eq!(
            faults("token: t\nhost: h\nport: 1\ninsecureSkipTlsVerify: yes\n"),
            ["line 4: `insecureSkipTlsVerify` must be `true` or `false`"]
        );
    }

    #[test]
    fn the_ca_file_is_relative_to_the_file_that_names_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("rc.yaml");
        std::fs::write(&path, "token: t\nhost: h\nport: 1\ncaFile: ca.crt\n").expect("write");
        let config = ResourceControllerConfig::load(&path).expect("load");
        assert_eq!(config.ca_file, Some(folder.path().join("ca.crt")));
    }

    #[test]
    fn the_documents_own_example_says_what_to_fill_in() {
        assert_eq!(
            faults("accessTokens: \n  - value\n  - value2\nhost: localhost\nport: 5000\n"),
            [
                "line 2: `accessTokens[0]` still holds the placeholder of the document; put a \
                 bearer token there",
                "line 3: `accessTokens[1]` still holds the placeholder of the document; put a \
                 bearer token there",
            ]
        );
        assert_eq!(
            faults("token: t\nhost: zen-core-api-svc.NAMESPACE\nport: 4444\n"),
            ["line 2: `host` still holds a placeholder; put the real name there"]
        );
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        assert_eq!(
            faults(
                "accessTokens: [s3cret s3cret, {s3cret: s3cret}, ok, ~, '']\ntoken: s3cret\n\
                 host: https://h:5000/x\nport: 70000\ntype: speech\ntokne: s3cret\ncaFile: []\n"
            ),
            [
                "line 1: `accessTokens[0]` is not a bearer token: it has spaces or other characters \
                 that a token cannot have",
                "line 1: `accessTokens[1]` must be text, not a list or a map",
                "line 1: `accessTokens[3]` is empty",
                "line 1: `accessTokens[4]` is empty",
                "line 2: `token` is given besides `accessTokens`; keep one",
                "line 3: `host` is a URL; write only the part between `//` and the port",
                "line 4: `port` must be a number from 1 to 65535",
                "line 5: `type` must be `assistant` or `orchestrate`",
                "line 6: unknown key `tokne`; known are `accessTokens`, `accessToken`, `token`, \
                 `host`, `port`, `type`, `caFile`, `insecureSkipTlsVerify`",
                "line 7: `caFile` must be text, not a list or a map",
            ]
        );
        assert_eq!(
            faults("type: assistant\n"),
            [
                "`accessTokens` is missing; it lists a bearer token of each owner of instances",
                "`host` is missing",
                "`port` is missing; usually 5000, from version 5.2.1 on 4444",
            ]
        );
        assert_eq!(
            faults("token: t\nhost: h:1\nport: 1\n"),
            ["line 2: `host` holds more than the host name; write the port under `port`"]
        );
        assert_eq!(faults("accessTokens: []\nhost: a b\nport: 1\n").len(), 2);
        assert_eq!(faults("token: \"s3cret\n").len(), 1);
        assert_eq!(faults("").len(), 1);
    }

    #[test]
    fn debug_output_has_no_token() {
        let config = config("token: s3cret\nhost: h\nport: 1\n");
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
