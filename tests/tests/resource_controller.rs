//! The Resource Controller client against a server over HTTPS, in every situation that we know of.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use pgmig_core::resource_controller::{
    ClientOptions, Error, InstanceKind, ResourceController, ResourceControllerConfig,
};
use pgmig_core::tls::CaSource;
use pgmig_tests::resource_controller::{
    Behaviour, NextUrl, PATH, Provisioned, ResourceControllerOptions, ResourceControllerServer, ServerCertificate,
};

const ALICE: &str = "eyJhbGciOiJSUzI1NiJ9.alice-secret";
const BOB: &str = "eyJhbGciOiJSUzI1NiJ9.bob-secret";
const EXPIRED: &str = "eyJhbGciOiJSUzI1NiJ9.expired-secret";

fn provisioned(numbers: std::ops::Range<u64>) -> Vec<Provisioned> {
    numbers.map(Provisioned::numbered).collect()
}

/// A server where Alice has so many instances.
fn options(instances: u64) -> ResourceControllerOptions {
    ResourceControllerOptions {
        tokens: vec![(ALICE.into(), provisioned(0..instances))],
        ..ResourceControllerOptions::default()
    }
}

fn behaving(behaviour: Behaviour) -> ResourceControllerServer {
    ResourceControllerServer::start(ResourceControllerOptions { behaviour, ..options(45) })
}

/// Options of a client that trusts the server and does not wait long.
fn trusting(server: &ResourceControllerServer) -> ClientOptions {
    ClientOptions {
        extra_ca: Some(CaSource::Pem(server.ca_pem().into())),
        retry_wait: Duration::from_millis(1),
        ..ClientOptions::default()
    }
}

fn client(port: u16, tokens: &[&str], more: &str, options: ClientOptions) -> ResourceController {
    let tokens = tokens.join(", ");
    let text = format!("accessTokens: [{tokens}]\nhost: 127.0.0.1\nport: {port}\n{more}");
    let config = ResourceControllerConfig::parse(&text).expect("configuration");
    ResourceController::new(config, options).expect("client")
}

/// The GUIDs that the tokens list.
async fn guids(server: &ResourceControllerServer, tokens: &[&str]) -> Vec<String> {
    let client = client(server.port(), tokens, "", trusting(server));
    let instances = client.instances().await.expect("instances");
    instances.into_iter().map(|instance| instance.guid.to_string()).collect()
}

fn expected(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| Provisioned::numbered(number).guid).collect()
}

/// Message and hint as a user sees them, the port and the address replaced by words.
fn told(port: u16, error: &Error) -> String {
    let text = format!("{error}\nhint: {}", error.hint().expect("a hint"));
    for secret in ["secret", ALICE, BOB, EXPIRED] {
        assert!(!text.contains(secret), "{text}");
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
    }
    text.replace(PATH, "/PATH").replace(&port.to_string(), "PORT")
}

async fn failure(server: &ResourceControllerServer, options: ClientOptions) -> String {
    let client = client(server.port(), &[ALICE], "", options);
    told(server.port(), &client.instances().await.expect_err("an error"))
}

async fn failure_of(behaviour: Behaviour) -> String {
    let server = behaving(behaviour);
    failure(&server, trusting(&server)).await
}

const CANNOT: &str = "cannot list the service instances at `https://127.0.0.1:PORT/PATH`";
const CHECK_BOTH: &str = "check `host` and `port` in the resource controller configuration";

#[tokio::test]
async fn all_pages_are_listed_however_they_name_the_next() {
    for next_url in [NextUrl::Absolute, NextUrl::Path, NextUrl::Query] {
        for count in [0, 1, 20, 21, 45] {
            let options = ResourceControllerOptions { next_url, ..options(count) };
            let server = ResourceControllerServer::start(options);
            assert_eq!(guids(&server, &[ALICE]).await, expected(0..count), "{next_url:?} {count}");
            let pages = usize::try_from(count.div_ceil(20).max(1)).expect("few");
            assert_eq!(server.requests().len(), pages);
            assert!(server.requests().iter().all(|request| request.had_token));
        }
    }
}

#[tokio::test]
async fn the_lists_of_all_tokens_are_merged_without_repeats() {
    let server = ResourceControllerServer::start(ResourceControllerOptions {
        tokens: vec![(ALICE.into(), provisioned(10..40)), (BOB.into(), provisioned(0..25))],
        ..ResourceControllerOptions::default()
    });
    assert_eq!(guids(&server, &[ALICE, BOB]).await, expected((10..40).chain(0..10)));

    let client = client(server.port(), &[ALICE, BOB], "", trusting(&server));
    let test = client.test_connection().await.expect("a test");
    assert_eq!(
        test.to_string().replace(&server.port().to_string(), "PORT"),
        format!(
            "resource controller at https://127.0.0.1:PORT{PATH}\n  accessTokens[0]: 30 instances\n  \
             accessTokens[1]: 25 instances\n  in all: 40 instances"
        )
    );
}

#[tokio::test]
async fn every_expired_token_is_named_by_its_place() {
    let server = ResourceControllerServer::start(options(3));
    let client = client(server.port(), &[EXPIRED, ALICE, BOB], "", trusting(&server));
    let error = client.instances().await.expect_err("an error");
    assert_eq!(
        told(server.port(), &error),
        format!(
            "{CANNOT}: 2 of 3 tokens refused: `accessTokens[0]` (401 Unauthorized), \
             `accessTokens[2]` (401 Unauthorized)\nhint: bearer tokens expire: copy a new one from \
             the access information of one of that owner's instances in the web client, and put \
             it in place of the old one"
        )
    );
}

#[tokio::test]
async fn the_files_of_both_generations_work() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("resourceController.yaml");
    let server = ResourceControllerServer::start(ResourceControllerOptions {
        tokens: vec![
            (
                ALICE.into(),
                vec![
                    Provisioned::numbered(1).of_kind("assistant"),
                    Provisioned::numbered(2).of_kind("orchestrate"),
                    Provisioned::numbered(3).of_service("wxo"),
                    Provisioned::numbered(4).of_service("something-else"),
                    Provisioned::numbered(5),
                ],
            ),
            (BOB.into(), provisioned(6..7)),
        ],
        ..ResourceControllerOptions::default()
    });
    let list = async |kind| {
        let config = ResourceControllerConfig::load(&file).expect("configuration");
        let options = ClientOptions { kind, ..ClientOptions::default() };
        let client = ResourceController::new(config, options).expect("client");
        let instances = client.instances().await.expect("instances");
        instances.into_iter().map(|instance| instance.guid.to_string()).collect::<Vec<_>>()
    };

    server.write_yaml(&file);
    assert_eq!(list(None).await, expected(1..7));
    assert_eq!(list(Some(InstanceKind::Orchestrate)).await, expected([2, 3, 4]));
    server.write_yaml_with_type(&file, "assistant");
    assert_eq!(list(None).await, expected([1, 4, 5]));
    server.write_yaml_with_type(&file, "orchestrate");
    assert_eq!(list(None).await, expected([2, 3, 4]));
}

#[tokio::test]
async fn an_untrusted_certificate_says_how_to_trust_it() {
    for certificate in [ServerCertificate::SelfSigned, ServerCertificate::SignedByCa] {
        let options = ResourceControllerOptions { certificate, ..options(3) };
        let server = ResourceControllerServer::start(options);
        assert_eq!(
            failure(&server, ClientOptions::default()).await,
            format!(
                "{CANNOT}: the server's certificate is self-signed or signed by an unknown CA\n\
                 hint: add `caFile:` with the path of the CA's certificate (PEM) to the resource \
                 controller configuration, or `insecureSkipTlsVerify: true` to do without \
                 verification"
            )
        );
        assert_eq!(server.requests(), [], "no token is sent to a server that is not trusted");

        assert_eq!(guids(&server, &[ALICE]).await, expected(0..3), "with the CA's certificate");
        let skip = "insecureSkipTlsVerify: true\n";
        let client = client(server.port(), &[ALICE], skip, ClientOptions::default());
        assert_eq!(client.instances().await.expect("instances").len(), 3);
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_or_from_last_year_is_refused() {
    let names = vec!["controller.example".into(), "10.0.0.1".into()];
    let server = ResourceControllerServer::start(ResourceControllerOptions { names, ..options(3) });
    assert_eq!(
        failure(&server, trusting(&server)).await,
        format!(
            "{CANNOT}: the server's certificate is only for `controller.example`, `10.0.0.1`\n\
             hint: write a name that the certificate is for under `host` in the resource \
             controller configuration, or add `insecureSkipTlsVerify: true` to do without \
             verification"
        )
    );
    let certificate = ServerCertificate::Expired;
    let options = ResourceControllerOptions { certificate, ..options(3) };
    let server = ResourceControllerServer::start(options);
    assert_eq!(
        failure(&server, trusting(&server)).await,
        format!(
            "{CANNOT}: the server's certificate expired on 2024-01-31\nhint: have the certificate \
             renewed, or add `insecureSkipTlsVerify: true` to the resource controller \
             configuration to do without verification"
        )
    );
}

#[tokio::test]
async fn a_slow_server_is_waited_for_only_so_long() {
    let server = behaving(Behaviour::Slow(Duration::from_millis(50)));
    assert_eq!(guids(&server, &[ALICE]).await, expected(0..45));

    let server = behaving(Behaviour::Slow(Duration::from_secs(600)));
    let options = ClientOptions { timeout: Duration::from_secs(3), ..trusting(&server) };
    assert_eq!(
        failure(&server, options).await,
        format!(
            "{CANNOT}: no complete answer within 3s\nhint: check that the server is up and that \
             this machine may reach it, then run the same command again"
        )
    );
    assert_eq!(server.requests().len(), 1, "a request that timed out is not sent again");
}

#[tokio::test]
async fn a_passing_fault_is_tried_again_and_a_lasting_one_told() {
    for status in [429, 502, 503, 504] {
        let server = behaving(Behaviour::FirstStatus(status, 3));
        assert_eq!(guids(&server, &[ALICE]).await, expected(0..45));
        assert_eq!(server.requests().len(), 3 + 3);
    }
    let server = behaving(Behaviour::FirstStatus(503, 4));
    assert_eq!(
        failure(&server, trusting(&server)).await,
        format!(
            "{CANNOT}: the server answered 503 Service Unavailable: `no healthy upstream` (tried 4 \
             times)\nhint: the server has trouble: look at the log of its pod, then run the same \
             command again"
        )
    );
    let server = behaving(Behaviour::FirstStatus(500, 1));
    assert_eq!(
        failure(&server, trusting(&server)).await,
        format!(
            "{CANNOT}: the server answered 500 Internal Server Error: `no healthy upstream`\n\
             hint: the server has trouble: look at the log of its pod, then run the same command \
             again"
        )
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_of_something_else_is_quoted_in_short() {
    let other = format!("\nhint: {CHECK_BOTH}: something else seems to answer there");
    let html = format!("<!DOCTYPE html>\n<html>\n  <title>Log in</title>{}", "x".repeat(1000));
    let begins = format!("<!DOCTYPE html> <html> <title>Log in</title>{}…", "x".repeat(156));
    assert_eq!(
        failure_of(Behaviour::Body(html)).await,
        format!(
            "{CANNOT}: the answer is not the documented form: it is not JSON (line 1, column 1); \
             it begins with `{begins}`{other}"
        )
    );
    assert_eq!(
        failure_of(Behaviour::Body(r#"{"rows_count":1,"resources":[{"id":"crn"#.into())).await,
        format!(
            "{CANNOT}: the answer is not the documented form: it ends in the middle of JSON; it \
             begins with `{{\"rows_count\":1,\"resources\":[{{\"id\":\"crn`{other}"
        )
    );
    assert_eq!(
        failure_of(Behaviour::Body(String::new())).await,
        format!("{CANNOT}: the answer is not the documented form: it ends in the middle of JSON{other}")
    );
    assert_eq!(
        failure_of(Behaviour::Status(404, "404 page not found".into())).await,
        format!("{CANNOT}: the server answered 404 Not Found{other}")
    );
    assert_eq!(
        failure_of(Behaviour::Status(418, "<b>short</b>".into())).await,
        format!("{CANNOT}: the server answered 418 I'm a teapot: `<b>short</b>`\nhint: {CHECK_BOTH}")
    );
}

#[tokio::test]
async fn a_refusal_without_a_reason_counts_as_an_expired_token() {
    let told = failure_of(Behaviour::Status(403, String::new())).await;
    let start = format!("{CANNOT}: 1 of 1 token refused: `accessTokens[0]` (403 Forbidden)\nhint: ");
    assert!(told.starts_with(&start), "{told}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let server = behaving(Behaviour::EndlessBody);
    let options = ClientOptions { max_page_bytes: 1 << 20, ..trusting(&server) };
    assert_eq!(
        failure(&server, options).await,
        format!(
            "{CANNOT}: the answer is larger than 1048576 bytes\nhint: {CHECK_BOTH}; to go on \
             without the listing, pass a mapping file"
        )
    );
}

#[tokio::test]
async fn a_connection_that_breaks_is_told() {
    assert_eq!(
        failure_of(Behaviour::BrokenBody).await,
        format!(
            "{CANNOT}: the connection broke after 26 bytes of the answer: the other side closed it\n\
             hint: run the same command again"
        )
    );
}

#[tokio::test]
async fn a_token_never_goes_to_another_server() {
    let elsewhere = ResourceControllerServer::start(options(3));
    let next = format!("https://127.0.0.1:{}{PATH}", elsewhere.port());
    for next in [next.as_str(), "//other.example/x", "http://127.0.0.1/x"] {
        let told = failure_of(Behaviour::NextUrlIs(next.to_owned())).await;
        let next = next.replace(PATH, "/PATH");
        assert_eq!(
            told,
            format!(
                "{CANNOT}: the page leads to another server, `{next}`\nhint: no token was sent \
                 there; if that server is the right one, write its name and port under `host` and \
                 `port` in the resource controller configuration"
            )
        );
    }
    let to = format!("https://127.0.0.1:{}{PATH}", elsewhere.port());
    let shown = to.replace(PATH, "/PATH");
    assert_eq!(
        failure_of(Behaviour::Redirect(to)).await,
        format!(
            "{CANNOT}: the server answered 302 Found and sends us to `{shown}`\nhint: {CHECK_BOTH}: \
             something else seems to answer there"
        )
    );
    assert_eq!(elsewhere.requests(), []);
}

#[tokio::test]
async fn a_loop_of_pages_is_noticed() {
    let server = behaving(Behaviour::PageLoop);
    let told = failure(&server, trusting(&server)).await;
    assert_eq!(
        told,
        format!(
            "cannot list the service instances at `https://127.0.0.1:PORT/PATH?start=20`: the page \
             leads back to one read before, `/PATH`\nhint: {CHECK_BOTH}; to go on without the \
             listing, pass a mapping file"
        )
    );
    assert_eq!(server.requests().len(), 2);
    let told = failure_of(Behaviour::NextUrlIs("#".into())).await;
    assert!(told.contains("the page leads back to one read before, `#`"), "{told}");
}

#[tokio::test]
async fn a_page_with_a_missing_row_is_not_taken_for_whole() {
    assert_eq!(
        failure_of(Behaviour::RowMissing).await,
        "cannot list the service instances at `https://127.0.0.1:PORT/PATH?start=40`: page 3 says \
         that it carries 5 instances (`rows_count`), but it carries 4\nhint: instances may have \
         been added or removed meanwhile: run the same command again"
    );
    let server = behaving(Behaviour::RowsCountIsTotal);
    assert_eq!(guids(&server, &[ALICE]).await, expected(0..45));
}

#[tokio::test]
async fn a_token_that_the_server_sends_back_is_not_shown() {
    let told = failure_of(Behaviour::QuotesToken).await;
    let start = format!("{CANNOT}: the server answered 500 Internal Server Error: `cannot verify ***`");
    assert!(told.starts_with(&start), "{told}");
    let told = failure_of(Behaviour::Body(format!("{{\"{ALICE}"))).await;
    assert!(told.contains("it begins with `{\"***`"), "{told}");
    let told = failure_of(Behaviour::NextUrlIs(format!("https://other.example/?t={ALICE}"))).await;
    assert!(told.contains("`https://other.example/?t=***`"), "{told}");
}

#[tokio::test]
async fn with_several_tokens_an_error_names_the_one_it_happened_with() {
    let server = ResourceControllerServer::start(ResourceControllerOptions {
        behaviour: Behaviour::Status(500, String::new()),
        ..options(3)
    });
    let client = client(server.port(), &[EXPIRED, ALICE], "", trusting(&server));
    let error = client.instances().await.expect_err("an error");
    let told = told(server.port(), &error);
    let start = format!("{CANNOT} with the token `accessTokens[1]`: the server answered 500");
    assert!(told.starts_with(&start), "{told}");
}

#[tokio::test]
async fn no_server_no_name_and_no_tls_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    drop(listener);
    let quick = ClientOptions { retry_wait: Duration::from_millis(1), ..ClientOptions::default() };
    let client_of = |port| client(port, &[ALICE], "", quick.clone());
    let error = client_of(port).instances().await.expect_err("an error");
    assert_eq!(
        told(port, &error),
        format!(
            "{CANNOT}: no connection: Connection refused (os error 111) (tried 4 times)\nhint: \
             {CHECK_BOTH}, and that the server is up"
        )
    );

    let text = format!("token: {ALICE}\nhost: no-such-host.invalid\nport: 5000\n");
    let config = ResourceControllerConfig::parse(&text).expect("configuration");
    let client = ResourceController::new(config, quick.clone()).expect("client");
    let told_dns = told(1, &client.instances().await.expect_err("an error"));
    assert!(told_dns.contains(": the host name is not known: "), "{told_dns}");
    assert!(told_dns.contains("\nhint: check `host` in the resource controller"), "{told_dns}");

    // What a web server without TLS answers to a TLS handshake.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    let plain = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let error = client_of(port).instances().await.expect_err("an error");
    assert_eq!(
        told(port, &error),
        format!(
            "{CANNOT}: the server does not speak TLS on this port\nhint: check `port` in the \
             resource controller configuration"
        )
    );
    plain.join().expect("the plain server");
}

#[tokio::test]
async fn an_ipv6_address_is_asked_in_brackets() {
    let text = format!("token: {ALICE}\nhost: ::1\nport: 1\n");
    let config = ResourceControllerConfig::parse(&text).expect("configuration");
    let options = ClientOptions { retry_wait: Duration::from_millis(1), ..ClientOptions::default() };
    let client = ResourceController::new(config, options).expect("client");
    let error = client.instances().await.expect_err("nobody listens there").to_string();
    let start = format!("cannot list the service instances at `https://[::1]:1{PATH}`: no connection: ");
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn the_written_file_names_its_certificate() {
    let folder = tempfile::tempdir().expect("folder");
    let server = ResourceControllerServer::start(options(1));
    let file: PathBuf = folder.path().join("resourceController.yaml");
    server.write_yaml(&file);
    let config = ResourceControllerConfig::load(&file).expect("configuration");
    assert_eq!(config.ca_file, Some(folder.path().join("ca.crt")));
    assert_eq!(config.port, server.port());
}
