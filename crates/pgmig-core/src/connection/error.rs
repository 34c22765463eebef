//! What can go wrong when connecting.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::config::{SslMode, TargetConfig};
use crate::error_chain::root_cause;
use crate::tls::{CaError, TlsFault};

/// The target's server could not be connected to.
#[derive(Debug)]
pub struct ConnectError {
    /// `database` at `host:port` as `role`, for the message.
    place: Place,
    kind: ErrorKind,
}

#[derive(Debug)]
struct Place {
    host: String,
    port: u16,
    database: String,
    role: String,
    sslmode: SslMode,
}

/// Why, cut by what the user can do.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The CA file cannot be used.
    Ca(CaError),
    /// The connection could not even be tried.
    Setup {
        /// In the words of the library.
        reason: String,
    },
    /// The host name is unknown.
    Dns {
        /// In the words of the system.
        reason: String,
    },
    /// No connection to the port or the socket.
    Unreachable {
        /// In the words of the system.
        reason: String,
    },
    /// No answer in time.
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// The connection broke, or what answers is not PostgreSQL.
    Interrupted {
        /// In the words of the library.
        reason: String,
    },
    /// The server has TLS switched off.
    TlsRefused,
    /// The TLS handshake failed, mostly because of the certificate.
    Tls(TlsFault),
    /// The server wants a password and there is none.
    PasswordMissing,
    /// The password, or another proof of who we are, was not accepted.
    WrongPassword {
        /// In the server's words.
        reason: String,
    },
    /// There is no such role, or it may not log in.
    NoSuchRole {
        /// In the server's words.
        reason: String,
    },
    /// The server's rules (`pg_hba.conf`) do not let us in this way.
    NotAdmitted {
        /// In the server's words.
        reason: String,
    },
    /// There is no such database.
    NoSuchDatabase {
        /// In the server's words.
        reason: String,
    },
    /// The role may not connect to the database.
    NotPermitted {
        /// In the server's words.
        reason: String,
    },
    /// The server is starting, stopping, in recovery or full.
    NotReady {
        /// In the server's words.
        reason: String,
    },
    /// The server is older than 13.
    TooOld {
        /// As `server_version` has it.
        version: String,
    },
    /// The server refused for another reason.
    Server {
        /// In the server's words, with the SQLSTATE.
        reason: String,
    },
}

impl ConnectError {
    pub(super) fn new(target: &TargetConfig, kind: ErrorKind) -> Self {
        let place = Place {
            host: target.host.clone(),
            port: target.port,
            database: target.database.clone(),
            role: target.su_username.clone(),
            sslmode: target.sslmode,
        };
        Self { place, kind }
    }

    /// Why.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match &self.kind {
            ErrorKind::Ca(error) => return error.hint(),
            ErrorKind::Setup { .. } => "check the target configuration",
            ErrorKind::Dns { .. } => {
                "check `host` in the target configuration; names of services are known only inside \
                 the cluster, so run this in a pod there"
            }
            ErrorKind::Unreachable { .. } => {
                "check `host` and `port` in the target configuration, and that the server is up"
            }
            ErrorKind::Timeout { .. } => {
                "check that the server is up and that this machine may reach it, then run the same \
                 command again"
            }
            ErrorKind::Interrupted { .. } => {
                "check that `host` and `port` in the target configuration are those of a PostgreSQL \
                 server, and look at its log"
            }
            ErrorKind::TlsRefused => {
                return Some(format!(
                    "switch TLS on at the server, or write `sslmode: prefer` into the target \
                     configuration instead of `{}` to go without",
                    self.place.sslmode
                ));
            }
            ErrorKind::Tls(fault) => match fault {
                TlsFault::UntrustedCa => {
                    "give the certificate of the CA that signed it (key `ca.crt` of the secret \
                     whose name ends in `-postgres-ca` or `-postgres-16-ca`) in `PG_CA_FILE`, or as \
                     `ca_file` in the target configuration"
                }
                TlsFault::WrongName { .. } => {
                    "write a name that the certificate is for under `host` in the target \
                     configuration, or `sslmode: verify-ca` to do without checking the name"
                }
                TlsFault::Expired { .. } => {
                    "have the certificate renewed; until then, `sslmode: require` without a CA file \
                     does without verification"
                }
                TlsFault::NotYetValid => "check the clock of this machine",
                TlsFault::BadCertificate { .. } => {
                    "have the certificate made anew; until then, `sslmode: require` without a CA \
                     file does without verification"
                }
                TlsFault::NotTls | TlsFault::Refused { .. } => {
                    "check `host` and `port` in the target configuration, and look at the server's \
                     log"
                }
            },
            ErrorKind::PasswordMissing => "write `su_password` into the target configuration, or set `PGPASSWORD`",
            ErrorKind::WrongPassword { .. } => {
                "take `username` and `password` from the product's connection secret and write them \
                 as `su_username` and `su_password` into the target configuration"
            }
            ErrorKind::NoSuchRole { .. } => "check `su_username` in the target configuration",
            ErrorKind::NotAdmitted { .. } => match self.place.sslmode {
                SslMode::Disable => {
                    "write `sslmode: require` into the target configuration if the server admits \
                     only TLS; otherwise add a line for this role and address to its `pg_hba.conf`"
                }
                _ => {
                    "add a line for this role, database and address to the server's `pg_hba.conf`, \
                     or run this in a pod of the cluster"
                }
            },
            ErrorKind::NoSuchDatabase { .. } => {
                "check `database` in the target configuration; it stands in the product's \
                 connection secret"
            }
            ErrorKind::NotPermitted { .. } => {
                "use the superuser or the owner of the database as `su_username` in the target \
                 configuration"
            }
            ErrorKind::NotReady { .. } => "wait a moment and run the same command again",
            ErrorKind::TooOld { .. } => "upgrade the target's server to 13 or later",
            ErrorKind::Server { .. } => "look at the server's log",
        };
        Some(hint.to_owned())
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { host, port, database, role, .. } = &self.place;
        write!(f, "cannot connect to database `{database}` at `")?;
        if host.starts_with('/') {
            write!(f, "{host}/.s.PGSQL.{port}")?;
        } else if host.contains(':') {
            write!(f, "[{host}]:{port}")?;
        } else {
            write!(f, "{host}:{port}")?;
        }
        write!(f, "` as `{role}`: {}", self.kind)
    }
}

impl StdError for ConnectError {}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(error) => error.fmt(f),
            Self::Setup { reason } => write!(f, "{reason}"),
            Self::Dns { reason } => write!(f, "the host name is not known: {reason}"),
            Self::Unreachable { reason } => write!(f, "no connection: {reason}"),
            Self::Timeout { after } => write!(f, "no answer within {after:?}"),
            Self::Interrupted { reason } => write!(f, "the connection broke: {reason}"),
            Self::TlsRefused => f.write_str("the server does not support TLS"),
            Self::Tls(fault) => fault.fmt(f),
            Self::PasswordMissing => f.write_str("the server asks for a password"),
            Self::TooOld { version } => {
                write!(f, "the server is PostgreSQL {version}, at least 13 is needed")
            }
            Self::WrongPassword { reason }
            | Self::NoSuchRole { reason }
            | Self::NotAdmitted { reason }
            | Self::NoSuchDatabase { reason }
            | Self::NotPermitted { reason }
            | Self::NotReady { reason }
            | Self::Server { reason } => f.write_str(reason),
        }
    }
}

impl ErrorKind {
    /// What an error of the driver means while connecting; reaching a port may take `limit`.
    pub(super) fn of(error: &tokio_postgres::Error, limit: Duration) -> Self {
        if let Some(error) = error.as_db_error() {
            return Self::of_server(error);
        }
        if let Some(fault) = TlsFault::find(error) {
            return Self::Tls(fault);
        }
        let root = root_cause(error);
        // The driver's kinds are private; its messages for them are fixed.
        match error.to_string().as_str() {
            "error performing TLS handshake" if root == "server does not support TLS" => Self::TlsRefused,
            "invalid configuration" if root == "password missing" => Self::PasswordMissing,
            "invalid configuration" => Self::Setup { reason: root },
            "authentication error" => Self::WrongPassword { reason: root },
            "error connecting to server" => {
                let cause = error.source().and_then(|error| error.downcast_ref::<io::Error>());
                if root.starts_with("failed to lookup address information") {
                    Self::Dns { reason: root }
                } else if cause.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                    Self::Timeout { after: limit }
                } else {
                    Self::Unreachable { reason: root }
                }
            }
            _ => Self::Interrupted { reason: root },
        }
    }

    fn of_server(error: &DbError) -> Self {
        let reason = error.message().to_owned();
        // The routine in the server's source tells apart what shares a SQLSTATE; the message
        // cannot, since it comes in the server's language.
        let routine = error.routine().unwrap_or_default();
        match error.code() {
            &SqlState::INVALID_PASSWORD => Self::WrongPassword { reason },
            &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => match routine {
                "InitializeSessionUserId" => Self::NoSuchRole { reason },
                "auth_failed" => Self::WrongPassword { reason },
                _ => Self::NotAdmitted { reason },
            },
            &SqlState::INVALID_CATALOG_NAME => Self::NoSuchDatabase { reason },
            &SqlState::INSUFFICIENT_PRIVILEGE => Self::NotPermitted { reason },
            &SqlState::CANNOT_CONNECT_NOW | &SqlState::TOO_MANY_CONNECTIONS | &SqlState::ADMIN_SHUTDOWN => {
                Self::NotReady { reason }
            }
            code => Self::Server { reason: format!("{reason} (SQLSTATE {})", code.code()) },
        }
    }

    /// True if the other kind of connection, with or without TLS, may be let in.
    pub(super) fn is_about_security(&self) -> bool {
        matches!(self, Self::TlsRefused | Self::Tls(_) | Self::NotAdmitted { .. })
    }
}
