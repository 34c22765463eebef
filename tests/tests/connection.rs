//! Connections to real servers: libpq's SSL modes compared with libpq itself, and each refusal as
//! a user sees it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pgmig_core::connection::{ConnectError, Connection, Environment, ErrorKind, SslMode, TargetConfig, connect};
use pgmig_tests::{PgTools, Server, ServerOptions, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

const MODES: [SslMode; 6] =
    [SslMode::Disable, SslMode::Allow, SslMode::Prefer, SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull];

fn server(tls: Tls, tls_only: bool) -> Server {
    let options = ServerOptions { tls, tls_only, ..ServerOptions::default() };
    Server::start_with(&PgTools::major(15), &options)
}

/// The `postgres.yaml` that the harness writes for the server, with more lines.
fn target(server: &Server, more: &str) -> TargetConfig {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("postgres.yaml");
    server.write_postgres_yaml(&file, "postgres");
    let text = fs::read_to_string(&file).expect("the file was written");
    TargetConfig::parse(&format!("{text}{more}"), &Environment::default()).expect("configuration")
}

fn with_ca(server: &Server, mode: &str) -> TargetConfig {
    let ca = server.ca_file().expect("a server with TLS");
    target(server, &format!("sslmode: {mode}\nca_file: {}\n", ca.display()))
}

async fn refused(target: &TargetConfig) -> ConnectError {
    match connect(target).await {
        Ok(_) => panic!("the connection was made"),
        Err(error) => error,
    }
}

/// Message and hint as a user sees them, the port replaced by a word.
fn told(target: &TargetConfig, error: &ConnectError) -> String {
    let text = format!("{error}\nhint: {}", error.hint().expect("a hint"));
    assert!(!text.contains("se cr'et") && !format!("{error:?}").contains("se cr'et"), "{error:?}");
    text.replace(&target.port.to_string(), "PORT")
}

async fn failure(target: &TargetConfig) -> String {
    told(target, &refused(target).await)
}

/// True if the server says that the session is encrypted.
async fn is_encrypted(connection: &Connection) -> bool {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    connection.client.query_one(sql, &[]).await.expect("a row").get(0)
}

/// What libpq makes of it: `None` if it is refused, else whether the session is encrypted.
fn libpq(server: &Server, mode: SslMode, ca: Option<&Path>) -> Option<bool> {
    let no_ca = Path::new("/nonexistent/root.crt");
    let parameters = format!(
        "{} sslmode={mode} sslrootcert={}",
        server.connection_string("postgres"),
        ca.unwrap_or(no_ca).display()
    );
    let output = Command::new(server.tools().program("psql"))
        .arg(parameters)
        .args(["-XAtc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"])
        .output()
        .expect("psql runs");
    output.status.success().then(|| output.stdout.starts_with(b"t"))
}

/// The same of ours.
async fn ours(server: &Server, mode: SslMode, ca: Option<&Path>) -> Option<bool> {
    let ca = ca.map(|ca| format!("ca_file: {}\n", ca.display())).unwrap_or_default();
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("postgres.yaml");
    server.write_postgres_yaml(&file, "postgres");
    let text = fs::read_to_string(&file).expect("the file was written");
    let text = format!("{text}sslmode: {mode}\n{ca}");
    let target = TargetConfig::parse(&text, &Environment::default()).ok()?;
    let connection = connect(&target).await.ok()?;
    let encrypted = is_encrypted(&connection).await;
    assert_eq!(connection.encrypted, encrypted);
    Some(encrypted)
}

#[tokio::test]
async fn every_ssl_mode_does_what_libpq_does() {
    let folder = tempfile::tempdir().expect("folder");
    let wrong_ca = folder.path().join("wrong.crt");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    fs::write(&wrong_ca, params.self_signed(&key).expect("a CA").pem()).expect("write");

    let other_name = Tls::Host("db.example".into());
    let mut outcomes = Vec::new();
    for (tls, tls_only) in [
        (Tls::Off, false),
        (Tls::Localhost, false),
        (Tls::Localhost, true),
        (other_name.clone(), false),
        (other_name, true),
    ] {
        let server = server(tls.clone(), tls_only);
        let right_ca = server.ca_file();
        for ca in [None, right_ca.as_deref(), Some(wrong_ca.as_path())] {
            for mode in MODES {
                let expected = libpq(&server, mode, ca);
                assert_eq!(
                    ours(&server, mode, ca).await,
                    expected,
                    "{mode} with {ca:?} at {tls:?}, only TLS: {tls_only}"
                );
                outcomes.push(expected);
            }
        }
    }
    // Not all the same, as they would be if libpq itself were used wrongly.
    for outcome in [None, Some(false), Some(true)] {
        assert!(outcomes.iter().filter(|seen| **seen == outcome).count() > 5, "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_connection_tells_what_it_is() {
    let server = server(Tls::Localhost, false);
    let connection = connect(&with_ca(&server, "verify-full")).await.expect("a connection");
    assert!(connection.encrypted && connection.verified);
    assert_eq!(connection.server_version / 10_000, 15);
    let sql = "SELECT current_setting('application_name'), current_user::text";
    let row = connection.client.query_one(sql, &[]).await.expect("a row");
    assert_eq!((row.get(0), row.get(1)), ("pgmig", "postgres"));
    connection.close().await;
    let sql = "select count(*) from pg_stat_activity where application_name = 'pgmig'";
    assert_eq!(server.psql("postgres", sql), "0");

    let connection = connect(&target(&server, "")).await.expect("a connection");
    assert!(connection.encrypted && !connection.verified, "`prefer` is the default");
    let connection = connect(&with_ca(&server, "require")).await.expect("a connection");
    assert!(connection.encrypted && connection.verified, "a CA file is used");
    let connection = connect(&target(&server, "sslmode: disable\n")).await.expect("a connection");
    assert!(!connection.encrypted && !connection.verified);
}

#[tokio::test]
async fn a_socket_is_used_without_tls_whatever_the_mode() {
    let server = server(Tls::Localhost, true);
    let mut target = with_ca(&server, "verify-full");
    target.host = server.socket_folder().display().to_string();
    let connection = connect(&target).await.expect("a connection");
    assert!(!connection.encrypted && !connection.verified);

    target.host = "/nonexistent".into();
    assert_eq!(
        failure(&target).await,
        "cannot connect to database `postgres` at `/nonexistent/.s.PGSQL.PORT` as `postgres`: no \
         connection: No such file or directory (os error 2)\nhint: check `host` and `port` in the \
         target configuration, and that the server is up"
    );
}

const CANNOT: &str = "cannot connect to database `postgres` at `127.0.0.1:PORT` as `postgres`";

#[tokio::test]
async fn a_server_without_tls_is_named_as_that() {
    let server = server(Tls::Off, false);
    assert_eq!(
        failure(&target(&server, "sslmode: require\n")).await,
        format!(
            "{CANNOT}: the server does not support TLS\nhint: switch TLS on at the server, or write \
             `sslmode: prefer` into the target configuration instead of `require` to go without"
        )
    );
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_own_message() {
    let server = server(Tls::Host("db.example".into()), false);
    assert_eq!(
        failure(&with_ca(&server, "verify-full")).await,
        format!(
            "{CANNOT}: the server's certificate is only for `db.example`\nhint: write a name that \
             the certificate is for under `host` in the target configuration, or `sslmode: \
             verify-ca` to do without checking the name"
        )
    );
    let untrusted = format!(
        "{CANNOT}: the server's certificate is self-signed or signed by an unknown CA\nhint: give \
         the certificate of the CA that signed it (key `ca.crt` of the secret whose name ends in \
         `-postgres-ca` or `-postgres-16-ca`) in `PG_CA_FILE`, or as `ca_file` in the target \
         configuration"
    );
    assert_eq!(failure(&target(&server, "sslmode: verify-full\n")).await, untrusted);

    // The server's own certificate, self-signed, as `openssl req -x509` makes it.
    let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    install(&server, &params);
    assert_eq!(failure(&target(&server, "sslmode: verify-full\n")).await, untrusted);
    for mode in ["verify-ca", "verify-full"] {
        let connection = connect(&with_ca(&server, mode)).await.expect("a connection");
        assert!(connection.verified);
    }

    params.not_after = rcgen::date_time_ymd(2024, 1, 31);
    install(&server, &params);
    assert_eq!(
        failure(&with_ca(&server, "verify-ca")).await,
        format!(
            "{CANNOT}: the server's certificate expired on 2024-01-31\nhint: have the certificate \
             renewed; until then, `sslmode: require` without a CA file does without verification"
        )
    );
    let connection = connect(&target(&server, "sslmode: require\n")).await.expect("a connection");
    assert!(connection.encrypted && !connection.verified);
}

/// Gives the server this certificate, signed by itself; it is its own CA then.
fn install(server: &Server, params: &CertificateParams) {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let folder: PathBuf = server.socket_folder().into();
    // Written over, so that owner and mode stay.
    fs::write(folder.join("server.key"), key.serialize_pem()).expect("write");
    fs::write(folder.join("server.crt"), &certificate).expect("write");
    fs::write(folder.join("ca.crt"), &certificate).expect("write");
    server.restart();
}

#[tokio::test]
async fn each_refusal_of_the_server_has_its_own_message() {
    let options = ServerOptions { tls: Tls::Localhost, tls_only: true, ..ServerOptions::default() };
    let server = Server::start_with(&PgTools::major(15), &options);
    server.psql(
        "postgres",
        "create role sleeper nologin password 'x'; create role guest login password 'x'; \
         create database closed; revoke connect on database closed from public",
    );
    let good = target(&server, "");

    assert_eq!(
        failure(&TargetConfig { su_password: Some("s3cret".into()), ..good.clone() }).await,
        format!(
            "{CANNOT}: password authentication failed for user \"postgres\"\nhint: take `username` \
             and `password` from the product's connection secret and write them as `su_username` \
             and `su_password` into the target configuration"
        )
    );
    assert_eq!(
        failure(&TargetConfig { su_password: None, ..good.clone() }).await,
        format!(
            "{CANNOT}: the server asks for a password\nhint: write `su_password` into the target \
             configuration, or set `PGPASSWORD`"
        )
    );
    assert_eq!(
        failure(&TargetConfig { database: "nowhere".into(), ..good.clone() }).await,
        "cannot connect to database `nowhere` at `127.0.0.1:PORT` as `postgres`: database \
         \"nowhere\" does not exist\nhint: check `database` in the target configuration; it stands \
         in the product's connection secret"
    );
    assert_eq!(
        failure(&TargetConfig { sslmode: SslMode::Disable, ..good.clone() }).await,
        format!(
            "{CANNOT}: no pg_hba.conf entry for host \"127.0.0.1\", user \"postgres\", database \
             \"postgres\", no encryption\nhint: write `sslmode: require` into the target \
             configuration if the server admits only TLS; otherwise add a line for this role and \
             address to its `pg_hba.conf`"
        )
    );
    let guest = TargetConfig {
        su_username: "guest".into(),
        su_password: Some("x".into()),
        database: "closed".into(),
        ..good.clone()
    };
    assert_eq!(
        failure(&guest).await,
        "cannot connect to database `closed` at `127.0.0.1:PORT` as `guest`: permission denied for \
         database \"closed\"\nhint: use the superuser or the owner of the database as `su_username` \
         in the target configuration"
    );
    let sleeper = TargetConfig { su_username: "sleeper".into(), su_password: Some("x".into()), ..good.clone() };
    assert_eq!(
        failure(&sleeper).await,
        "cannot connect to database `postgres` at `127.0.0.1:PORT` as `sleeper`: role \"sleeper\" \
         is not permitted to log in\nhint: check `su_username` in the target configuration"
    );

    // With a password asked for, the server does not tell a missing role from a wrong password.
    let stranger = TargetConfig { su_username: "stranger".into(), ..good.clone() };
    let error = refused(&stranger).await;
    assert!(matches!(error.kind(), ErrorKind::WrongPassword { .. }), "{error}");

    server.crash();
    assert_eq!(
        failure(&good).await,
        format!(
            "{CANNOT}: no connection: Connection refused (os error 111)\nhint: check `host` and \
             `port` in the target configuration, and that the server is up"
        )
    );
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let server = server(Tls::Localhost, false);
    for mode in ["allow", "prefer"] {
        let before = server.log().matches("password authentication failed").count();
        let mut target = target(&server, &format!("sslmode: {mode}\n"));
        target.su_password = Some("s3cret".into());
        let error = refused(&target).await;
        assert!(matches!(error.kind(), ErrorKind::WrongPassword { .. }), "{error}");
        assert_eq!(server.log().matches("password authentication failed").count(), before + 1);
    }
}

#[tokio::test]
async fn a_server_that_is_full_is_not_ready() {
    let options = ServerOptions {
        config: vec!["max_connections = 4".into(), "superuser_reserved_connections = 0".into()],
        ..ServerOptions::default()
    };
    let server = Server::start_with(&PgTools::major(15), &options);
    let target = target(&server, "");
    let mut held = Vec::new();
    let error = loop {
        match connect(&target).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
        assert!(held.len() <= 4, "the server has room for 4");
    };
    assert_eq!(
        told(&target, &error),
        format!(
            "{CANNOT}: sorry, too many clients already\nhint: wait a moment and run the same command \
             again"
        )
    );
}

#[tokio::test]
async fn a_session_may_wait_however_short_the_limits_of_the_role_are() {
    let waits = async |server: &Server| {
        let mut limits = vec!["statement_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"];
        if server.tools().version() >= 17 {
            limits.push("transaction_timeout");
        }
        // Long enough for a slow machine: they hold until the session has set them aside.
        for limit in &limits {
            server.psql("postgres", &format!("alter role postgres set {limit} = '3s'"));
        }
        server.psql("postgres", "alter role postgres set lock_timeout = '7s'");
        let connection = connect(&target(server, "")).await.expect("a connection");
        tokio::time::sleep(Duration::from_millis(3300)).await;
        connection.client.batch_execute("begin; select pg_sleep(3.3)").await.expect("no limit");
        for limit in limits {
            let row = connection.client.query_one(&format!("show {limit}"), &[]).await.expect("a row");
            assert_eq!(row.get::<_, String>(0), "0", "{limit}");
        }
        let row = connection.client.query_one("show lock_timeout", &[]).await.expect("a row");
        assert_eq!(row.get::<_, String>(0), "7s");
        connection.close().await;
    };
    let servers = [15, 17].map(|major| Server::start(&PgTools::major(major)));
    tokio::join!(waits(&servers[0]), waits(&servers[1]));
}

/// A target on a port where a thread does `serve` with each connection.
fn other_server(mut serve: impl FnMut(std::net::TcpStream) + Send + 'static) -> TargetConfig {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&mut serve));
    let text = format!("host: 127.0.0.1\nport: {port}\ndatabase: postgres\nusername: postgres\n");
    TargetConfig::parse(&text, &Environment::default()).expect("configuration")
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let mut held = Vec::new();
    let mut target = other_server(move |stream| held.push(stream));
    target.connect_timeout = Duration::from_millis(100);
    assert_eq!(
        failure(&target).await,
        format!(
            "{CANNOT}: no answer within 200ms\nhint: check that the server is up and that this \
             machine may reach it, then run the same command again"
        )
    );
}

#[tokio::test]
async fn what_is_not_postgresql_is_told() {
    use std::io::{Read as _, Write as _};
    for mode in ["disable", "require"] {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", b"S", b"SSSSSSSS"] {
            let mut target = other_server(move |mut stream| {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer);
            });
            target.sslmode = mode.parse().expect("a mode");
            let error = refused(&target).await;
            assert!(
                matches!(error.kind(), ErrorKind::Interrupted { .. } | ErrorKind::TlsRefused | ErrorKind::Tls(_)),
                "{error:?}"
            );
            assert!(error.hint().is_some());
        }
    }
    let target = other_server(drop);
    let text = failure(&target).await;
    assert!(text.starts_with(&format!("{CANNOT}: the connection broke: ")), "{text}");
}

#[tokio::test]
async fn an_unknown_host_is_told() {
    let text = "host: no-such-host.invalid\ndatabase: d\nusername: u\n";
    let target = TargetConfig::parse(text, &Environment::default()).expect("configuration");
    let error = refused(&target).await;
    assert!(matches!(error.kind(), ErrorKind::Dns { .. }), "{error:?}");
    let start = "cannot connect to database `d` at `no-such-host.invalid:5432` as `u`: the host \
                 name is not known: ";
    assert!(error.to_string().starts_with(start), "{error}");
}
