//! `postgres.yaml`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use crate::config_file::{self, ConfigFileError, Fault, Fields};

const WHAT: &str = "target configuration";
const KEYS: [&str; 9] =
    ["host", "port", "database", "username", "password", "su_username", "su_password", "sslmode", "ca_file"];
const DEFAULT_PORT: u16 = 5432;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the target's PostgreSQL server is, as whom to connect, and how TLS is used.
///
/// The keys `host`, `port`, `database`, `username`, `su_username` and `su_password` are the
/// original's (section "Creating the postgres.yaml file" of the product's document). Ours besides:
///
/// - `sslmode` and `ca_file`, in libpq's words; `ca_file` is relative to the folder of the file
/// - `port` may be left out, then it is 5432; `host` may be the absolute path of a socket folder
/// - `su_username` may be left out, then it is `username`; the same goes for `su_password` and
///   `password`, which is how the product's own secret calls them
///
/// What the file says wins over the environment, as a connection string does in libpq.
///
/// ```
/// use pgmig_core::connection::{Environment, SslMode, TargetConfig};
///
/// let text = "host: wa-postgres-rw\ndatabase: store\nusername: dbadmin\nsu_password: s3cret\n";
/// let environment = Environment { ca_file: Some("ca.crt".into()), ..Environment::default() };
/// let target = TargetConfig::parse(text, &environment)?;
/// assert_eq!((target.port, target.su_username.as_str()), (5432, "dbadmin"));
/// assert_eq!(target.sslmode, SslMode::VerifyCa);
/// assert!(!format!("{target:?}").contains("s3cret"));
/// # Ok::<(), pgmig_core::config_file::ConfigFileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// A host name, an IP address without brackets, or the absolute path of a socket folder.
    pub host: String,
    /// The TCP port, or the number in the name of the socket.
    pub port: u16,
    /// The name of the database.
    pub database: String,
    /// The owner of the product's tables. We connect as [`TargetConfig::su_username`].
    pub username: String,
    /// The role to connect as.
    pub su_username: String,
    /// Its password; `None` where the server asks for none.
    pub su_password: Option<SecretString>,
    /// Whether TLS is used and what is verified.
    pub sslmode: SslMode,
    /// A PEM file with the certificates to trust; the system's are then not used.
    pub ca_file: Option<PathBuf>,
    /// How long each step of connecting may take: reaching the server, and being let in.
    pub connect_timeout: Duration,
}

/// What the environment says about the connection, passed in by whoever reads it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `PG_CA_FILE`: a PEM file with the certificates to trust (the original's variable).
    pub ca_file: Option<PathBuf>,
    /// `PGSSLMODE`, as libpq has it.
    pub sslmode: Option<String>,
    /// `PGPASSWORD`, used when the file has no password.
    pub password: Option<SecretString>,
}

/// Whether TLS is used and what is verified, in libpq's words
/// (PostgreSQL's documentation, section "SSL Support" of libpq).
///
/// As in libpq, a certificate is verified whenever a CA file is given and TLS is used, so that
/// `require` with a CA file is `verify-ca`. The mode has no effect on a Unix-domain socket.
///
/// `verify-full` without a CA file trusts the certificates of the system, as libpq does with
/// `sslrootcert=system`; `verify-ca` without one is an error.
///
/// Unlike libpq, `verify-full` accepts only names in the certificate's subjectAltName extension,
/// not a common name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Without TLS first; with TLS if the server's rules (`pg_hba.conf`) refuse that.
    Allow,
    /// With TLS first; without if that does not work.
    Prefer,
    /// Only with TLS.
    Require,
    /// Only with TLS and a certificate that a trusted CA has signed.
    VerifyCa,
    /// Only with TLS and a certificate that a trusted CA has signed for this host name.
    VerifyFull,
}

impl SslMode {
    const ALL: [Self; 6] = [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// libpq's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SslMode {
    type Err = UnknownSslMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(UnknownSslMode)
    }
}

/// A word that is not one of libpq's SSL modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSslMode;

impl fmt::Display for UnknownSslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = SslMode::ALL.iter().map(|mode| format!("`{mode}`")).collect();
        write!(f, "expected one of {}", words.join(", "))
    }
}

impl std::error::Error for UnknownSslMode {}

impl TargetConfig {
    /// The usual settings: port 5432, no password, TLS if the server has it.
    ///
    /// # Errors
    ///
    /// `host` is none; the fault does not quote it.
    pub fn new(host: &str, database: impl Into<String>, username: impl Into<String>) -> Result<Self, Fault> {
        let username = username.into();
        Ok(Self {
            host: checked_host(host).map_err(|message| Fault { line: None, message })?,
            port: DEFAULT_PORT,
            database: database.into(),
            su_username: username.clone(),
            username,
            su_password: None,
            sslmode: SslMode::Prefer,
            ca_file: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        })
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or all faults of [`TargetConfig::parse`].
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigFileError> {
        Self::parse_at(&config_file::read_text(WHAT, path)?, Some(path), environment)
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// All faults at once, each with its line: not YAML, unknown, missing and repeated keys,
    /// values of the wrong form, and an `sslmode` that needs a CA file without one. No message
    /// quotes a value.
    pub fn parse(text: &str, environment: &Environment) -> Result<Self, ConfigFileError> {
        Self::parse_at(text, None, environment)
    }

    /// True if the connection goes through a Unix-domain socket.
    #[must_use]
    pub fn is_unix_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    fn parse_at(text: &str, path: Option<&Path>, environment: &Environment) -> Result<Self, ConfigFileError> {
        let mut fields = Fields::parse(text, &KEYS);
        if !fields.is_readable() {
            return Err(ConfigFileError::faults_in(WHAT, path, fields.faults));
        }
        let host = fields
            .required_text("host")
            .and_then(|(line, host)| checked_host(&host).map_err(|message| fields.fault(Some(line), message)).ok());
        let port = fields.port("port").unwrap_or(DEFAULT_PORT);
        let database = fields.required_text("database").map(|(_, text)| text);
        let username = fields.required_text("username").map(|(_, text)| text);
        let su_username = fields.text("su_username").map(|(_, text)| text);
        let password = fields.secret("password");
        let su_password = fields.secret("su_password").or(password).or_else(|| environment.password.clone());
        let ca_file = match fields.text("ca_file") {
            Some((_, file)) => Some(config_file::relative_to(path.and_then(Path::parent), &file)),
            // An empty variable is one that is not set, as in libpq.
            None => environment.ca_file.clone().filter(|file| !file.as_os_str().is_empty()),
        };
        let sslmode = sslmode(&mut fields, environment, ca_file.is_some());
        match (host, database, username) {
            (Some(host), Some(database), Some(username)) if fields.faults.is_empty() => Ok(Self {
                host,
                port,
                database,
                su_username: su_username.unwrap_or_else(|| username.clone()),
                username,
                su_password,
                sslmode,
                ca_file,
                connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            }),
            _ => Err(ConfigFileError::faults_in(WHAT, path, fields.faults)),
        }
    }
}

/// `sslmode` of the file, else `PGSSLMODE`, else what fits: `verify-ca` with a CA file, `prefer`
/// without one.
fn sslmode(fields: &mut Fields, environment: &Environment, has_ca_file: bool) -> SslMode {
    let given = fields.text("sslmode").map(|(line, text)| (Some(line), "`sslmode`", text));
    let variable = environment.sslmode.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let given = given.or_else(|| variable.map(|text| (None, "the environment variable `PGSSLMODE`", text.to_owned())));
    let default = if has_ca_file { SslMode::VerifyCa } else { SslMode::Prefer };
    let Some((line, name, text)) = given else {
        return default;
    };
    let mut fault = |message| fields.faults.push(Fault { line, message });
    match text.parse() {
        Ok(SslMode::VerifyCa) if !has_ca_file => {
            fault(format!(
                "{name} is `verify-ca` but there is no CA file; give `ca_file` or `PG_CA_FILE`, or \
                 use `verify-full` to trust the certificates of the system"
            ));
            default
        }
        Ok(mode) => mode,
        Err(UnknownSslMode) => {
            fault(format!("{name} is unknown: {UnknownSslMode}"));
            default
        }
    }
}

fn checked_host(host: &str) -> Result<String, String> {
    if host.starts_with('/') {
        return Ok(host.to_owned());
    }
    if host.contains("://") {
        return Err("`host` is a URL; write only the host name".into());
    }
    if host.contains(['$', '<', '>', '{', '}']) {
        return Err("`host` still holds a placeholder; put the real name there".into());
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(bare.to_owned());
    }
    if host.contains(':') {
        return Err("`host` holds more than the host name; write the port under `port`".into());
    }
    if host.contains(|c: char| c.is_whitespace() || c == '/' || c == ',') {
        return Err("`host` must be one host name, an IP address or an absolute path".into());
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const EXAMPLE: &str = "host: localhost\nport: 5432\ndatabase: store\nusername: user\n\
                           su_username: admin\nsu_password: password\n";
    const SHORT: &str = "host: h\ndatabase: d\nusername: u\n";

    fn target(text: &str) -> TargetConfig {
        TargetConfig::parse(text, &Environment::default()).expect(text)
    }

    fn faults(text: &str, environment: &Environment) -> Vec<String> {
        let error = TargetConfig::parse(text, environment).expect_err(text);
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        error.faults().iter().map(ToString::to_string).collect()
    }

    fn environment(sslmode: &str, ca_file: &str) -> Environment {
        Environment { ca_file: Some(ca_file.into()), sslmode: Some(sslmode.into()), password: None }
    }

    #[test]
    fn the_documents_example_is_read() {
        let target = target(EXAMPLE);
        assert_eq!((target.host.as_str(), target.port), ("localhost", 5432));
        assert_eq!((target.database.as_str(), target.username.as_str()), ("store", "user"));
        assert_eq!(target.su_username, "admin");
        assert_eq!(target.su_password.expect("password").expose_secret(), "password");
        assert_eq!((target.sslmode, target.ca_file), (SslMode::Prefer, None));
    }

    #[test]
    fn what_may_be_left_out_has_a_default() {
        let target = target(SHORT);
        assert_eq!((target.port, target.su_username.as_str()), (5432, "u"));
        assert!(target.su_password.is_none());
    }

    #[test]
    fn the_password_is_su_password_then_password_then_the_environment() {
        let password = |text: &str| {
            let environment = Environment { password: Some("three".into()), ..Environment::default() };
            let target = TargetConfig::parse(&format!("{SHORT}{text}"), &environment);
            target.expect("file").su_password.expect("password").expose_secret().to_owned()
        };
        assert_eq!(password("password: two\nsu_password: 0123\n"), "0123");
        assert_eq!(password("password: ' two '\n"), " two ");
        assert_eq!(password("su_password:\n"), "three");
    }

    #[test]
    fn the_ssl_mode_follows_the_file_then_the_environment_then_the_ca_file() {
        let mode = |text: &str, environment: &Environment| {
            TargetConfig::parse(&format!("{SHORT}{text}"), environment).expect("file").sslmode
        };
        let none = Environment::default();
        assert_eq!(mode("", &none), SslMode::Prefer);
        assert_eq!(mode("ca_file: ca.crt\n", &none), SslMode::VerifyCa);
        assert_eq!(mode("", &environment("", "ca.crt")), SslMode::VerifyCa);
        assert_eq!(mode("", &environment("disable", "")), SslMode::Disable);
        assert_eq!(mode("sslmode: verify-full\n", &environment("disable", "")), SslMode::VerifyFull);
        assert_eq!(mode("", &environment("verify-ca", "ca.crt")), SslMode::VerifyCa);
        assert_eq!(mode("sslmode: require\nca_file: ca.crt\n", &none), SslMode::Require);
    }

    #[test]
    fn the_ca_file_of_the_file_wins_and_is_relative_to_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("postgres.yaml");
        std::fs::write(&path, format!("{SHORT}ca_file: tls/ca.crt\n")).expect("write");
        let target = TargetConfig::load(&path, &environment("", "other.crt")).expect("load");
        assert_eq!(target.ca_file, Some(folder.path().join("tls/ca.crt")));
        std::fs::write(&path, SHORT).expect("write");
        let target = TargetConfig::load(&path, &environment("", "other.crt")).expect("load");
        assert_eq!(target.ca_file, Some("other.crt".into()));
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text = "host: s3cret://x\nport: five\nusername: [u]\nsu_pasword: s3cret\n\
                    sslmode: s3cret\nport: 1\n";
        assert_eq!(
            faults(text, &Environment::default()),
            [
                "line 1: `host` is a URL; write only the host name",
                "line 2: `port` must be a number from 1 to 65535",
                "line 3: `username` must be text, not a list or a map",
                "line 4: unknown key `su_pasword`; known are `host`, `port`, `database`, \
                 `username`, `password`, `su_username`, `su_password`, `sslmode`, `ca_file`",
                "line 5: `sslmode` is unknown: expected one of `disable`, `allow`, `prefer`, \
                 `require`, `verify-ca`, `verify-full`",
                "line 6: `port` is given again, first on line 2",
                "`database` is missing",
            ]
        );
    }

    #[test]
    fn a_mode_that_verifies_says_which_ca_file_it_misses() {
        assert_eq!(
            faults(SHORT, &environment("verify-ca", "")),
            ["the environment variable `PGSSLMODE` is `verify-ca` but there is no CA file; give \
              `ca_file` or `PG_CA_FILE`, or use `verify-full` to trust the certificates of the \
              system"]
        );
        assert_eq!(faults(SHORT, &environment("Require", "")).len(), 1);
    }

    #[test]
    fn hosts_of_every_kind_are_read() {
        for (text, host) in [("/var/run/postgresql", "/var/run/postgresql"), ("'[::1]'", "::1"), ("::1", "::1")] {
            let text = format!("host: {text}\ndatabase: d\nusername: u\n");
            assert_eq!(target(&text).host, host);
        }
        for host in ["wa-${INSTANCE}-rw", "h:5432", "a,b", "a b", "a/b"] {
            let text = format!("host: {host}\ndatabase: d\nusername: u\n");
            assert_eq!(faults(&text, &Environment::default()).len(), 1, "{host}");
        }
    }

    #[test]
    fn debug_output_has_no_password() {
        let target = target(&format!("{SHORT}su_password: s3cret\n"));
        assert!(!format!("{target:?}").contains("s3cret"));
    }
}
