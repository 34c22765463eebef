//! The connection to the target's PostgreSQL server.
//!
//! ```no_run
//! use pgmig_core::connection::{Environment, TargetConfig, connect};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let target = TargetConfig::load("postgres.yaml".as_ref(), &Environment::default())?;
//! let connection = connect(&target).await?;
//! let row = connection.client.query_one("SELECT count(*) FROM tenant", &[]).await?;
//! println!("{} tenants", row.get::<_, i64>(0));
//! connection.close().await;
//! # Ok(())
//! # }
//! ```

mod config;
mod error;
mod tls;

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode as DriverSslMode;
use tokio_postgres::{Client, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use config::{Environment, SslMode, TargetConfig, UnknownSslMode};
pub use error::{ConnectError, ErrorKind};

use self::tls::{Attempts, Security};
use crate::tls::Verification;

/// The oldest server that we restore into, as `server_version_num` has it.
const OLDEST_SERVER: i32 = 13_00_00;

/// A connection to the target's server.
#[derive(Debug)]
pub struct Connection {
    /// Runs the statements. When it is dropped, the connection ends.
    pub client: Client,
    /// Moves the bytes; it ends with the connection, and with the error that ended that.
    pub task: JoinHandle<Result<(), tokio_postgres::Error>>,
    /// True if the connection is encrypted by TLS.
    pub encrypted: bool,
    /// True if it is encrypted and a trusted CA has signed the server's certificate. Only with
    /// [`SslMode::VerifyFull`] its name was checked too.
    pub verified: bool,
    /// The server's version as `server_version_num` has it, such as `150006` for 15.6.
    pub server_version: i32,
}

impl Connection {
    /// Ends the connection and waits until that is done.
    pub async fn close(self) {
        drop(self.client);
        // However it ended: nobody waits for anything from it any more.
        let _ = self.task.await;
    }
}

/// Connects to `target` as [`TargetConfig::su_username`].
///
/// TLS is used as [`TargetConfig::sslmode`] says. As in libpq, `prefer` goes on without TLS when
/// the server has none, when the handshake fails, or when the server's rules refuse TLS; `allow`
/// goes on with TLS when they refuse the connection without. A password that was refused is not
/// sent a second time.
///
/// The session has no limit of time: `statement_timeout`, `idle_session_timeout`,
/// `idle_in_transaction_session_timeout` and `transaction_timeout` are 0, whatever the role has.
///
/// # Errors
///
/// See [`ErrorKind`]; of two attempts, the more telling one is reported.
pub async fn connect(target: &TargetConfig) -> Result<Connection, ConnectError> {
    let error = |kind| ConnectError::new(target, kind);
    let attempts = Attempts::of(target).map_err(error)?;
    let attempt = |security| attempt(target, security, attempts.tls.clone());

    let first = attempt(attempts.first).await;
    let (connected, security) = match (first, attempts.second) {
        (Ok(connected), _) => (connected, attempts.first),
        (Err(kind), Some(second)) if kind.is_about_security() => match attempt(second).await {
            Ok(connected) => (connected, second),
            // Where TLS was tried is what the user has to look at.
            Err(other) if second == Security::Tls => return Err(error(other)),
            // A refusal of TLS means nothing once the connection without fails for a reason of
            // its own, such as a wrong password.
            Err(other) if !other.is_about_security() => return Err(error(other)),
            Err(_) => return Err(error(kind)),
        },
        (Err(kind), _) => return Err(error(kind)),
    };
    let (client, task) = connected;
    let encrypted = security == Security::Tls;
    let verified = encrypted && attempts.verification != Verification::None;
    let server_version = server_version(&client, target.connect_timeout).await.map_err(error)?;
    stay(&client, server_version, target.connect_timeout).await.map_err(error)?;
    Ok(Connection { client, task, encrypted, verified, server_version })
}

/// That a connection can be tried: the file of `target` with the CA is there and has certificates.
///
/// # Errors
///
/// It cannot; nobody was asked.
pub fn check(target: &TargetConfig) -> Result<(), Box<ConnectError>> {
    Attempts::of(target).map(drop).map_err(|kind| Box::new(ConnectError::new(target, kind)))
}

type Connected = (Client, JoinHandle<Result<(), tokio_postgres::Error>>);

async fn attempt(target: &TargetConfig, security: Security, tls: MakeRustlsConnect) -> Result<Connected, ErrorKind> {
    let mut config = tokio_postgres::Config::new();
    config
        // An absolute path is taken as the folder of a socket.
        .host(&target.host)
        .port(target.port)
        .dbname(&target.database)
        .user(&target.su_username)
        .application_name("pgmig")
        .ssl_mode(match security {
            Security::Plain => DriverSslMode::Disable,
            Security::Tls => DriverSslMode::Require,
        })
        .connect_timeout(target.connect_timeout)
        // A firewall between forgets a connection that is silent while an index is built.
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(6);
    if let Some(password) = &target.su_password {
        config.password(password.expose_secret());
    }
    // The driver's own limit ends when the port is reached; this one holds until we are let in.
    let limit = target.connect_timeout * 2;
    let result = timeout(limit, config.connect(tls)).await;
    let (client, connection): (Client, tokio_postgres::Connection<Socket, _>) = match result {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Err(ErrorKind::of(&error, target.connect_timeout)),
        Err(_) => return Err(ErrorKind::Timeout { after: limit }),
    };
    Ok((client, tokio::spawn(connection)))
}

async fn server_version(client: &Client, limit: Duration) -> Result<i32, ErrorKind> {
    let show = "SELECT current_setting('server_version_num')::int4, \
                current_setting('server_version')";
    let failed = |error: tokio_postgres::Error| ErrorKind::of(&error, limit);
    let row = timeout(limit, client.query_one(show, &[]))
        .await
        .map_err(|_| ErrorKind::Timeout { after: limit })?
        .map_err(failed)?;
    new_enough(row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?)
}

/// Takes away the limits that the server, the database or the role set for sessions: a question may
/// wait for a person, and a table with its indexes takes as long as it takes. `lock_timeout` stays.
async fn stay(client: &Client, server_version: i32, limit: Duration) -> Result<(), ErrorKind> {
    let mut sql = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0".to_owned();
    if server_version >= 14_00_00 {
        sql.push_str("; SET idle_session_timeout = 0");
    }
    if server_version >= 17_00_00 {
        sql.push_str("; SET transaction_timeout = 0");
    }
    timeout(limit, client.batch_execute(&sql))
        .await
        .map_err(|_| ErrorKind::Timeout { after: limit })?
        .map_err(|error| ErrorKind::of(&error, limit))
}

fn new_enough(number: i32, version: String) -> Result<i32, ErrorKind> {
    if number < OLDEST_SERVER { Err(ErrorKind::TooOld { version }) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_older_than_13_is_refused() {
        assert!(matches!(new_enough(130_000, "13.0".into()), Ok(130_000)));
        let target = TargetConfig::parse("host: ::1\ndatabase: store\nusername: admin\n", &Environment::default())
            .expect("file");
        let kind = new_enough(120_018, "12.18".into()).expect_err("too old");
        let error = ConnectError::new(&target, kind);
        assert_eq!(
            error.to_string(),
            "cannot connect to database `store` at `[::1]:5432` as `admin`: the server is \
             PostgreSQL 12.18, at least 13 is needed"
        );
        assert!(error.hint().is_some());
    }
}
