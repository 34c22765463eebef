//! Connections to the databases that the configuration names.

use pgmig_core::connection::{self, ConnectError, Connection, ErrorKind, TargetConfig};
use pgmig_core::tls::TlsFault;

use crate::failure::Failure;

/// Connects to a database.
///
/// # Errors
///
/// It cannot be connected to.
pub(crate) async fn connect(database: &TargetConfig) -> Result<Connection, Failure> {
    connection::connect(database).await.map_err(failure)
}

/// What to do, in the words of our configuration: the error's own hints have those of pgmig's files.
pub(super) fn failure(error: ConnectError) -> Failure {
    let hint = match error.kind() {
        ErrorKind::Setup { .. } => "check the section in the configuration",
        ErrorKind::Dns { .. } => {
            "check `host` in the configuration; names of services are known only inside the cluster, so run this in a pod there"
        }
        ErrorKind::Unreachable { .. } => "check `host` and `port` in the configuration, and that the server is up",
        ErrorKind::Interrupted { .. } | ErrorKind::Tls(TlsFault::NotTls | TlsFault::Refused { .. }) => {
            "check that `host` and `port` in the configuration are those of a PostgreSQL server, and look at its log"
        }
        ErrorKind::TlsRefused => {
            "switch TLS on at the server, or write `sslmode: prefer` into the configuration to go without"
        }
        ErrorKind::Tls(TlsFault::UntrustedCa) => {
            "name a file with the certificate of the CA that signed it as `ca-file` in the configuration"
        }
        ErrorKind::Tls(TlsFault::WrongName { .. }) => {
            "write a name that the certificate is for under `host` in the configuration, or `sslmode: verify-ca` to do \
             without checking the name"
        }
        ErrorKind::PasswordMissing => "name a file with the password as `password-file` in the configuration",
        ErrorKind::WrongPassword { .. } => {
            "check `username` and the password in the configuration; a product has both in its connection secret"
        }
        ErrorKind::NoSuchRole { .. } => "check `username` in the configuration",
        ErrorKind::NotAdmitted { .. } => {
            "write `sslmode: require` into the configuration if the server admits only TLS; otherwise add a line for this \
             role, database and address to its `pg_hba.conf`"
        }
        ErrorKind::NoSuchDatabase { .. } => "check `database` in the configuration",
        ErrorKind::NotPermitted { .. } => {
            "use the superuser or the owner of the database as `username` in the configuration"
        }
        ErrorKind::TooOld { .. } => "upgrade the server to 13 or later",
        _ => return error.into(),
    };
    Failure::from(error).with_hint(hint)
}
