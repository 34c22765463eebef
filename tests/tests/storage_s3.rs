//! A bucket as a place for backups: the real store, behind a proxy that misbehaves.

use std::error::Error as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use hyper::Method;
use pgmig_tests::s3::{Asked, Fault, S3Proxy, S3Server, at_once};
use storage_backends::s3::{Retention, RetentionMode, S3, S3Config};
use storage_backends::{Abandoned, Backend as _, Catalog, Error, ErrorKind, Existing, Key, conformance};

const PART: usize = 8 << 20;
const HOUR: Duration = Duration::from_secs(3600);

fn key(text: &str) -> Key {
    text.parse().expect("a key")
}

/// Bytes of which no part is like another.
fn content(bytes: usize) -> Bytes {
    let mut content = vec![0; bytes];
    for (n, word) in content.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    content.into()
}

async fn put(s3: &S3, name: &str, content: &Bytes, existing: Existing) -> Result<(), Error> {
    let mut upload = s3.put(&key(name), existing).await?;
    for at in (0..content.len()).step_by(1 << 20) {
        upload.write(content.slice(at..content.len().min(at + (1 << 20)))).await?;
    }
    let info = upload.commit().await?;
    assert_eq!(info.bytes, content.len() as u64);
    Ok(())
}

async fn read(s3: &S3, name: &str) -> Result<Vec<u8>, Error> {
    Ok(s3.get(&key(name), None).await?.content.try_collect::<Vec<_>>().await?.concat())
}

async fn names(s3: &S3) -> Vec<String> {
    s3.list(None).await.map_ok(|object| object.key.as_str().to_owned()).try_collect().await.expect("it can be listed")
}

/// Removes what nobody has written to for so long, as if that was more than an hour, and tells how much that was.
async fn abandoned(s3: &S3, age: Duration) -> u64 {
    let later = SystemTime::now() + HOUR - age;
    s3.remove_abandoned(&Abandoned::new(HOUR, later, |_| true)).await.unwrap()
}

/// A bucket of its own, and the way to it through a proxy that passes everything on.
async fn behind_proxy(test: &str) -> (S3Proxy, S3Config) {
    let mut config = S3Server::shared().config(test);
    S3::connect_or_create(config.clone()).await.expect("the bucket can be made");
    let proxy = S3Proxy::start(|_| Fault::None);
    config.endpoint = proxy.endpoint();
    (proxy, config)
}

/// Nothing that is shown of an error, nor of what the SDK said, has credentials in it.
#[track_caller]
fn expect(error: &Error, kind: ErrorKind, words: &[&str]) {
    let server = S3Server::shared();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{text:?} has no {word:?}");
    }
    let cause = error.source().map(|cause| format!("{cause} {cause:?}")).unwrap_or_default();
    for text in [text, format!("{error:?}"), cause] {
        assert!(!text.contains(server.access_key()) && !text.contains(server.secret_key()), "{text}");
    }
}

#[tokio::test]
async fn a_bucket_behaves_as_every_backend_does() {
    let server = S3Server::shared();
    let mut config = server.config("conformance");
    let whole = S3::connect_or_create(config.clone()).await.unwrap();
    conformance::check(&whole, "conformance").await;
    config.prefix = "prod/backups".into();
    conformance::check(&S3::connect(config).await.unwrap(), "conformance").await;
    assert_eq!(names(&whole).await, [""; 0]);
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_behaves_as_every_backend_does() {
    let (proxy, config) = behind_proxy("no-condition").await;
    proxy.set_rule(|asked| match asked {
        Asked { method: Method::PUT, if_absent: true, .. } => Fault::IgnoreCondition,
        _ => Fault::None,
    });
    conformance::check(&S3::connect(config).await.unwrap(), "conformance").await;
    let asked = proxy.asked();
    let claims = asked.iter().filter(|it| it.method == Method::PUT && it.path.contains("/.staging-claims/")).count();
    assert!(claims >= 10, "{claims}");
    let trials = asked.iter().filter(|it| it.method == Method::PUT && it.path.contains("/.staging-trial-")).count();
    assert_eq!(trials, 2);
}

#[tokio::test]
async fn a_store_that_refuses_the_condition_keeps_names_too() {
    let (proxy, config) = behind_proxy("refused-condition").await;
    proxy.set_rule(|asked| match asked {
        Asked { if_absent: true, .. } => {
            Fault::Answer(501, "NotImplemented", "A header you provided implies functionality".into())
        }
        _ => Fault::None,
    });
    let s3 = S3::connect(config).await.unwrap();
    s3.put_if_absent(&key("one"), "first".into()).await.unwrap();
    let error = s3.put_if_absent(&key("one"), "second".into()).await.unwrap_err();
    expect(&error, ErrorKind::AlreadyExists, &["one"]);
    assert_eq!(read(&s3, "one").await.unwrap(), b"first");
}

#[tokio::test]
async fn of_two_uploads_that_keep_what_has_the_name_one_wins() {
    let s3 = S3::connect_or_create(S3Server::shared().config("two-uploads")).await.unwrap();
    for (name, bytes) in [("small", 10), ("large", PART + 10)] {
        let mut uploads = Vec::new();
        for n in 0..4_u8 {
            let mut upload = s3.put(&key(name), Existing::Keep).await.unwrap();
            upload.write(vec![n; bytes].into()).await.unwrap();
            uploads.push(upload);
        }
        let results = futures_util::future::join_all(uploads.into_iter().map(storage_backends::Upload::commit)).await;
        let won: Vec<u8> = (0..4).filter(|n| results[usize::from(*n)].is_ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            expect(error, ErrorKind::AlreadyExists, &[name]);
        }
        assert!(read(&s3, name).await.unwrap() == vec![won[0]; bytes]);
    }
    assert_eq!(abandoned(&s3, Duration::ZERO).await, 0, "those that lost removed what they wrote");
}

#[tokio::test]
#[ignore = "takes long: `make test` runs it"]
async fn a_claim_does_not_get_old_while_the_store_puts_parts_together() {
    let (proxy, config) = behind_proxy("renewed").await;
    let s3 = S3::connect(config).await.unwrap();
    proxy.set_rule(|asked| if asked.is_completion() { Fault::Late(Duration::from_secs(12)) } else { Fault::None });
    put(&s3, "large", &content(PART), Existing::Keep).await.unwrap();
    let asked = proxy.asked();
    let claims = |method| asked.iter().filter(move |it| it.method == method && it.path.contains("/.staging-claims/"));
    assert_eq!(claims(Method::PUT).count(), 2);
    assert_eq!(claims(Method::DELETE).count(), 1);
}

#[tokio::test]
async fn who_is_not_known_or_asks_for_what_is_not_there_is_told_so() {
    let server = S3Server::shared();
    let config = server.config("nobody");
    let error = S3::connect(config.clone()).await.unwrap_err();
    expect(&error, ErrorKind::NotFound, &[&config.bucket, "no such bucket", server.endpoint()]);
    let s3 = S3::connect_or_create(config.clone()).await.unwrap();
    let error = s3.get(&key("some/thing"), None).await.unwrap_err();
    expect(&error, ErrorKind::NotFound, &["some/thing", "no such object"]);

    let mut wrong = config.clone();
    wrong.credentials.secret_key = "not-the-secret-key".into();
    let error = S3::connect(wrong).await.unwrap_err();
    expect(&error, ErrorKind::Credentials, &["SignatureDoesNotMatch"]);
    assert!(!format!("{error:?}").contains("not-the-secret-key"));
    let mut wrong = config.clone();
    wrong.credentials.access_key = "AKIDOFNOBODY".into();
    let error = S3::connect(wrong).await.unwrap_err();
    expect(&error, ErrorKind::Credentials, &["InvalidAccessKeyId"]);
    assert!(!format!("{error:?}").contains("AKIDOFNOBODY"));

    // A bucket that is gone is not an object that is not there.
    let mut gone = config;
    gone.bucket.push_str("-gone");
    gone.endpoint = S3Proxy::start(|_| Fault::None).endpoint();
    gone.attempts = 1;
    expect(&S3::connect(gone).await.unwrap_err(), ErrorKind::Unavailable, &["tried once"]);
    let text = format!("{s3:?} {:?} {}", server.config("nobody"), s3.location());
    assert!(!text.contains(server.access_key()) && !text.contains(server.secret_key()), "{text}");
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_not_taken_for_an_object_that_is_not_there() {
    let (proxy, config) = behind_proxy("gone").await;
    let s3 = S3::connect(config).await.unwrap();
    proxy.set_rule(|_| Fault::Answer(404, "NoSuchBucket", "The specified bucket does not exist".into()));
    for error in [
        s3.stat(&key("thing")).await.unwrap_err(),
        s3.get(&key("thing"), None).await.unwrap_err(),
        s3.put(&key("thing"), Existing::Keep).await.unwrap_err(),
        s3.list(None).await.try_collect::<Vec<_>>().await.unwrap_err(),
    ] {
        expect(&error, ErrorKind::NotFound, &["no such bucket"]);
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_only_with_its_ca_or_by_an_explicit_word() {
    let mut config = S3Server::shared().config("tls");
    S3::connect_or_create(config.clone()).await.unwrap();
    let (proxy, other) = (S3Proxy::start_tls(), S3Proxy::start_tls());
    config.endpoint = proxy.endpoint();
    for ca_pem in [None, other.ca_pem()] {
        config.ca_pem = ca_pem;
        let error = S3::connect(config.clone()).await.unwrap_err();
        expect(&error, ErrorKind::Untrusted, &["certificate", &config.endpoint]);
    }
    assert_eq!(proxy.asked().len(), 0, "nothing was said to somebody who is not trusted");
    config.ca_pem = proxy.ca_pem();
    put(&S3::connect(config.clone()).await.unwrap(), "trusted", &content(PART + 1), Existing::Keep).await.unwrap();
    config.ca_pem = None;
    config.accept_invalid_certificates = true;
    let s3 = S3::connect(config.clone()).await.unwrap();
    assert!(read(&s3, "trusted").await.unwrap() == content(PART + 1));
    // A certificate for another name is not trusted, whoever signed it.
    config.accept_invalid_certificates = false;
    config.ca_pem = proxy.ca_pem();
    config.endpoint = config.endpoint.replace("127.0.0.1", "127.0.0.2");
    config.attempts = 1;
    let error = S3::connect(config.clone()).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::NotFound, "{error}");
    let plain = S3Proxy::start(|_| Fault::None);
    config.endpoint = plain.endpoint().replace("http:", "https:");
    expect(&S3::connect(config).await.unwrap_err(), ErrorKind::Other, &["does not speak TLS"]);
}

#[tokio::test]
#[ignore = "takes long: `make test` runs it"]
async fn a_store_that_cannot_now_is_asked_again_and_given_up_in_the_end() {
    let (proxy, mut config) = behind_proxy("again").await;
    config.attempts = 3;
    let s3 = S3::connect(config).await.unwrap();
    let faults = [
        Fault::Answer(503, "SlowDown", "Please reduce your request rate.".into()),
        Fault::Answer(500, "InternalError", "We encountered an internal error.".into()),
        Fault::Nonsense(502),
        Fault::Reset,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        // Twice for each kind of request, then it goes through.
        let (seen, twice) = (Arc::new(Mutex::new(Vec::new())), fault.clone());
        proxy.set_rule(move |asked| {
            let mut seen = seen.lock().unwrap();
            let kind = (asked.method.clone(), asked.path.clone(), asked.query.clone());
            seen.push(kind.clone());
            if seen.iter().filter(|it| **it == kind).count() <= 2 { twice.clone() } else { Fault::None }
        });
        let (name, stored) = (format!("object-{n}"), content(PART + 100));
        put(&s3, &name, &stored, Existing::Replace).await.unwrap();
        assert!(read(&s3, &name).await.unwrap() == stored);
        assert!(names(&s3).await.contains(&name));
        // Always: each request is tried as often as it may be.
        let always = fault.clone();
        proxy.set_rule(move |_| always.clone());
        let before = proxy.asked().len();
        let error = s3.get(&key(&name), None).await.unwrap_err();
        expect(&error, ErrorKind::Unavailable, &[&name, "tried 3 times"]);
        assert_eq!(proxy.asked().len() - before, 3, "{fault:?}");
        let error = put(&s3, "never", &content(10), Existing::Replace).await.unwrap_err();
        expect(&error, ErrorKind::Unavailable, &["never"]);
    }
    proxy.set_rule(|_| Fault::None);
    assert!(!names(&s3).await.contains(&"never".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_replaced_stays_and_that_is_told() {
    let (proxy, mut config) = behind_proxy("not-replaced").await;
    config.attempts = 1;
    let s3 = S3::connect(config).await.unwrap();
    put(&s3, "object", &content(10), Existing::Keep).await.unwrap();
    for bytes in [20, PART + 20] {
        proxy.set_rule(|asked| {
            let is_last = asked.method == Method::PUT && !asked.is_part() || asked.is_completion();
            if is_last { Fault::Nonsense(503) } else { Fault::None }
        });
        let error = put(&s3, "object", &content(bytes), Existing::Replace).await.unwrap_err();
        expect(&error, ErrorKind::Unavailable, &["object", "tried once"]);
        assert_eq!(read(&s3, "object").await.unwrap(), content(10));
    }
    proxy.set_rule(|_| Fault::None);
    assert_eq!(abandoned(&s3, Duration::ZERO).await, 0, "the parts were removed");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_waited_for_forever() {
    let (proxy, mut config) = behind_proxy("stalled").await;
    config.attempts = 2;
    config.timeout = Duration::from_millis(300);
    let s3 = S3::connect(config).await.unwrap();
    proxy.set_rule(|_| Fault::Stall);
    let error = s3.stat(&key("thing")).await.unwrap_err();
    expect(&error, ErrorKind::Unavailable, &["in time", "tried 2 times"]);
    let error = s3.delete(&key("thing")).await.unwrap_err();
    expect(&error, ErrorKind::Unavailable, &["thing"]);
}

#[tokio::test]
async fn refusals_are_told_apart_and_show_no_credentials() {
    let (proxy, config) = behind_proxy("refusals").await;
    let s3 = S3::connect(config).await.unwrap();
    let server = S3Server::shared();
    for (status, code, kind) in [
        (403, "AccessDenied", ErrorKind::PermissionDenied),
        (403, "RequestTimeTooSkewed", ErrorKind::Credentials),
        (400, "ExpiredToken", ErrorKind::Credentials),
        (403, "QuotaExceeded", ErrorKind::NoSpace),
        (507, "XMinioStorageFull", ErrorKind::NoSpace),
        (501, "NotImplemented", ErrorKind::NotSupported),
        (400, "KeyTooLongError", ErrorKind::InvalidKey),
    ] {
        let message = format!("{} signed with {} &#10;", server.access_key(), server.secret_key());
        proxy.set_rule(move |_| Fault::Answer(status, code, message.clone()));
        let error = put(&s3, "refused", &content(10), Existing::Replace).await.unwrap_err();
        expect(&error, kind, &[code, "refused"]);
        // The answer to HEAD has no code; another request asks for it, when the first one was not at fault of the store.
        let code = if status < 500 { code } else { "" };
        expect(&s3.stat(&key("refused")).await.unwrap_err(), kind, &[code, "refused"]);
    }
    proxy.set_rule(|_| Fault::Answer(403, "AccessDenied", "Object is protected by object lock".into()));
    expect(&s3.delete(&key("kept")).await.unwrap_err(), ErrorKind::Retained, &["kept", "locked"]);
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_where_it_was() {
    let (proxy, config) = behind_proxy("cut").await;
    let s3 = S3::connect(config).await.unwrap();
    let stored = content(3 * PART);
    put(&s3, "object", &stored, Existing::Keep).await.unwrap();
    let cuts = AtomicUsize::new(0);
    proxy.set_rule(move |asked| match asked.method {
        Method::GET if cuts.fetch_add(1, SeqCst) < 3 => Fault::CutAfter(1_000_000),
        _ => Fault::None,
    });
    let before = proxy.asked().len();
    assert!(read(&s3, "object").await.unwrap() == stored);
    let ranges: Vec<_> = proxy.asked()[before..].iter().map(|asked| asked.range.clone()).collect();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert!(ranges[1].as_ref().is_some_and(|range| range.ends_with(&format!("-{}", stored.len() - 1))), "{ranges:?}");
}

#[tokio::test]
async fn a_download_that_always_ends_early_is_incomplete() {
    let (proxy, mut config) = behind_proxy("early").await;
    config.attempts = 3;
    let s3 = S3::connect(config).await.unwrap();
    put(&s3, "object", &content(PART), Existing::Keep).await.unwrap();
    proxy.set_rule(|asked| if asked.method == Method::GET { Fault::CutAfter(1000) } else { Fault::None });
    let before = proxy.asked().len();
    let mut found = s3.get(&key("object"), Some(500..200_000)).await.unwrap();
    assert_eq!(found.info.bytes, PART as u64);
    let mut bytes = 0;
    let error = loop {
        match found.content.next().await.expect("there is an error in the end") {
            Ok(piece) => bytes += piece.len(),
            Err(error) => break error,
        }
    };
    expect(&error, ErrorKind::Incomplete, &["object", "of 200000"]);
    assert_eq!((bytes, proxy.asked().len() - before), (3000, 3));
    assert!(found.content.next().await.is_none(), "nothing comes behind an error");
}

#[tokio::test]
async fn a_download_does_not_go_on_with_another_object() {
    let (proxy, config) = behind_proxy("another").await;
    let s3 = S3::connect(config).await.unwrap();
    put(&s3, "object", &content(PART), Existing::Keep).await.unwrap();
    proxy.set_rule(|asked| match asked.method {
        Method::GET if asked.range.is_none() => Fault::CutAfter(1_000_000),
        _ => Fault::None,
    });
    let mut found = s3.get(&key("object"), None).await.unwrap();
    put(&s3, "object", &vec![7; PART].into(), Existing::Replace).await.unwrap();
    let error = loop {
        if let Err(error) = found.content.next().await.expect("there is an error in the end") {
            break error;
        }
    };
    expect(&error, ErrorKind::Incomplete, &["replaced while it was read"]);
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_known_to_be_there() {
    let (proxy, config) = behind_proxy("lost").await;
    let s3 = S3::connect(config).await.unwrap();
    for existing in [Existing::Keep, Existing::Replace] {
        for bytes in [10, PART + 10] {
            let name = format!("{existing:?}-{bytes}");
            let (lost, ours) = (AtomicUsize::new(0), name.clone());
            proxy.set_rule(move |asked| {
                let is_last =
                    asked.is_completion() || (asked.method == Method::PUT && asked.query.starts_with("x-id=PutObject"));
                if is_last && asked.path.ends_with(&ours) && lost.fetch_add(1, SeqCst) == 0 {
                    Fault::LoseAnswer
                } else {
                    Fault::None
                }
            });
            let before = proxy.asked().len();
            put(&s3, &name, &content(bytes), existing).await.unwrap();
            let last = |it: &&Asked| it.path.ends_with(&name) && (it.is_completion() || it.query.contains("PutObject"));
            assert_eq!(proxy.asked()[before..].iter().filter(last).count(), 2, "it was sent again");
            assert!(read(&s3, &name).await.unwrap() == content(bytes));
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_dropped_leaves_nothing_or_is_found() {
    let (proxy, config) = behind_proxy("dropped").await;
    let s3 = S3::connect(config.clone()).await.unwrap();
    let ended =
        |proxy: &S3Proxy| proxy.asked().iter().any(|it| it.method == Method::DELETE && it.query.contains("uploadId="));
    let mut upload = s3.put(&key("dropped"), Existing::Keep).await.unwrap();
    upload.write(content(2 * PART)).await.unwrap();
    drop(upload);
    for _ in 0..500 {
        if ended(&proxy) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(ended(&proxy), "the upload is ended when it is dropped");
    assert_eq!(s3.stat(&key("dropped")).await.unwrap(), None);

    // As if the process was killed: nobody ends it.
    let other_bucket = S3::connect_or_create(S3Server::shared().config("dropped-elsewhere")).await.unwrap();
    proxy.set_rule(|asked| if asked.method == Method::DELETE { Fault::Reset } else { Fault::None });
    let mut below = config;
    below.prefix = "below".into();
    let below = S3::connect(below).await.unwrap();
    for (s3, name) in [(&s3, "killed"), (&below, "killed"), (&other_bucket, "elsewhere")] {
        let mut upload = s3.put(&key(name), Existing::Keep).await.unwrap();
        upload.write(content(PART)).await.unwrap();
        // The part has to have arrived.
        tokio::time::sleep(Duration::from_millis(500)).await;
        std::mem::forget(upload);
    }
    proxy.set_rule(|_| Fault::None);
    assert_eq!(names(&s3).await, [""; 0]);
    assert_eq!(s3.remove_abandoned(&Abandoned::new(HOUR, SystemTime::now(), |_| true)).await.unwrap(), 0);
    assert_eq!(s3.unfinished_uploads(Duration::from_secs(3600)).await.unwrap(), 0);
    // Ceph tells times in whole seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Whoever counts them leaves them alone.
    for _ in 0..2 {
        assert_eq!(s3.unfinished_uploads(Duration::from_secs(2)).await.unwrap(), 2);
        assert_eq!(below.unfinished_uploads(Duration::from_secs(2)).await.unwrap(), 1);
    }
    assert_eq!(abandoned(&below, Duration::from_secs(2)).await, 1, "only what is below the prefix");
    assert_eq!(abandoned(&s3, Duration::from_secs(2)).await, 1);
    assert_eq!(abandoned(&s3, Duration::from_secs(2)).await, 0);
    assert_eq!(abandoned(&other_bucket, Duration::from_secs(2)).await, 1);
}

#[tokio::test]
async fn uploads_of_other_jobs_and_other_programs_are_left_alone() {
    let (proxy, config) = behind_proxy("uploads-of-others").await;
    let s3 = S3::connect(config).await.unwrap();
    let begin = async |name: &str| {
        let mut upload = s3.put(&key(name), Existing::Keep).await.unwrap();
        upload.write(content(PART)).await.unwrap();
        std::mem::forget(upload);
    };
    let theirs = ["theirs.iso", "theirs/20261121T230004Z", "other/20261121T230004Z/store.dump"];
    let ours = ["20261121T230004Z/store.dump", "20261121T230004Z/a/b.tar"];
    let of_nightly = "nightly/20261121T230004Z/store.dump";
    let at_work = "nightly/20261122T230004Z/store.dump";
    for name in theirs.into_iter().chain(ours).chain([of_nightly, at_work]) {
        begin(name).await;
    }
    // The parts have to arrive, and Ceph tells times in whole seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    s3.put_if_absent(&key("nightly/20261122T230004Z/still-being-made"), "x".into()).await.unwrap();
    let heartbeat = SystemTime::now();
    let aborted = || {
        let asked = proxy.asked().into_iter();
        let ends = asked.filter(|it| it.method == Method::DELETE && it.query.contains("uploadId="));
        let mut ended: Vec<_> = ends.map(|it| it.path.splitn(3, '/').nth(2).unwrap_or_default().to_owned()).collect();
        ended.sort();
        ended
    };
    let at_root = Catalog::at_root(Arc::new(s3.clone()));
    let nightly = Catalog::new(Arc::new(s3.clone()), key("nightly")).unwrap();
    let now = SystemTime::now();
    for catalog in [&at_root, &nightly] {
        // Less than an hour is an hour.
        assert!(catalog.clean_up(Duration::ZERO, now).await.unwrap().problems.is_empty());
    }
    assert_eq!(aborted(), [""; 0]);
    let later = heartbeat + HOUR - Duration::from_secs(2);
    assert!(at_root.clean_up(HOUR, later).await.unwrap().problems.is_empty());
    assert_eq!(aborted(), [ours[1], ours[0]]);
    assert!(nightly.clean_up(HOUR, later).await.unwrap().problems.is_empty());
    assert_eq!(aborted(), [ours[1], ours[0], of_nightly], "one that is still being made has its upload");
    assert!(nightly.clean_up(HOUR, later + HOUR).await.unwrap().problems.is_empty());
    assert_eq!(aborted(), [ours[1], ours[0], of_nightly, at_work]);
    assert_eq!(s3.unfinished_uploads(Duration::ZERO).await.unwrap(), theirs.len() as u64);
}

#[tokio::test]
async fn an_access_key_that_may_not_list_uploads_can_still_clean_up_the_rest() {
    let (proxy, config) = behind_proxy("no-list-of-uploads").await;
    let s3 = S3::connect(config).await.unwrap();
    s3.put_if_absent(&key("20261121T230004Z/store.dump"), "PGDMP".into()).await.unwrap();
    let left = ".staging-claims/left";
    let server = S3Server::shared();
    let bucket = server.config("no-list-of-uploads").bucket;
    server.client().put_object().bucket(&bucket).key(left).body(Vec::new().into()).send().await.unwrap();
    proxy.set_rule(|asked| {
        let lists_uploads =
            asked.method == Method::GET && asked.query.split('&').any(|part| part.starts_with("uploads"));
        if lists_uploads { Fault::Answer(403, "AccessDenied", "Access Denied.".into()) } else { Fault::None }
    });
    let catalog = Catalog::at_root(Arc::new(s3));
    let later = SystemTime::now() + HOUR;
    let cleaned = catalog.clean_up(Duration::ZERO, later).await.unwrap();
    assert_eq!(cleaned.removed, ["20261121T230004Z".parse().unwrap()]);
    let [problem] = &cleaned.problems[..] else { panic!("{cleaned:?}") };
    expect(problem, ErrorKind::PermissionDenied, &["cannot list the uploads of", &bucket]);
    let objects = server.client().list_objects_v2().bucket(&bucket).send().await.unwrap();
    assert_eq!(objects.contents(), [], "what the store would not list otherwise is gone too");
}

#[tokio::test]
async fn an_abandoned_upload_is_found_whatever_its_name_has_in_it() {
    let server = S3Server::shared();
    let mut config = server.config("odd-uploads");
    let (client, bucket) = (server.client(), config.bucket.clone());
    config.prefix = "b%C3 +".into();
    let s3 = S3::connect_or_create(config).await.unwrap();
    for name in ["a b%20c/d+e", "plain", "\u{e4}"] {
        let begun = client.create_multipart_upload().bucket(&bucket).key(format!("b%C3 +/{name}"));
        begun.send().await.unwrap();
    }
    client.create_multipart_upload().bucket(&bucket).key("another").send().await.unwrap();
    assert_eq!(s3.unfinished_uploads(Duration::ZERO).await.unwrap(), 3);
    assert_eq!(abandoned(&s3, Duration::ZERO).await, 3);
    let left = client.list_multipart_uploads().bucket(&bucket).send().await.unwrap();
    assert_eq!(left.uploads().iter().map(|upload| upload.key().unwrap()).collect::<Vec<_>>(), ["another"]);
}

#[tokio::test]
async fn an_upload_that_gets_a_part_now_and_then_is_not_abandoned() {
    let s3 = S3::connect_or_create(S3Server::shared().config("slow")).await.unwrap();
    let mut upload = s3.put(&key("slow"), Existing::Keep).await.unwrap();
    upload.write(content(PART)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    upload.write(content(PART)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(abandoned(&s3, Duration::from_secs(3)).await, 0);
    upload.commit().await.unwrap();
    assert_eq!(s3.stat(&key("slow")).await.unwrap().unwrap().bytes, 2 * PART as u64);
}

#[tokio::test]
async fn an_upload_has_five_parts_in_memory_at_most() {
    let (proxy, config) = behind_proxy("memory").await;
    let s3 = S3::connect(config).await.unwrap();
    // A store that takes nothing: what is accepted meanwhile is in memory.
    proxy.set_rule(|asked| if asked.is_part() { Fault::Stall } else { Fault::None });
    let accepted = Arc::new(AtomicU64::new(0));
    let mut upload = s3.put(&key("stalled"), Existing::Keep).await.unwrap();
    let writing = async {
        loop {
            upload.write(vec![0; 1 << 20].into()).await.unwrap();
            accepted.fetch_add(1 << 20, SeqCst);
        }
    };
    tokio::time::timeout(Duration::from_secs(3), writing).await.expect_err("it waits for the store");
    let accepted = accepted.load(SeqCst);
    assert!(accepted < 5 * PART as u64 && accepted >= 4 * PART as u64, "{accepted}");
    assert_eq!(proxy.most_parts(), 4);
    // A write that was given up leaves nobody with a part of an object.
    proxy.set_rule(|_| Fault::None);
    expect(&upload.commit().await.unwrap_err(), ErrorKind::Incomplete, &["stalled"]);
    assert_eq!(s3.stat(&key("stalled")).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_uploaded_in_many_parts_is_whole() {
    let (proxy, config) = behind_proxy("many").await;
    let s3 = S3::connect(config).await.unwrap();
    let stored = content(25 * PART + 77);
    put(&s3, "many", &stored, Existing::Keep).await.unwrap();
    assert!(proxy.most_parts() <= 4, "{}", proxy.most_parts());
    assert_eq!(proxy.asked().iter().filter(|it| it.is_part()).count(), 26);
    assert!(read(&s3, "many").await.unwrap() == stored);
}

#[tokio::test]
async fn a_part_that_fails_ends_the_upload() {
    let (proxy, mut config) = behind_proxy("part-fails").await;
    config.attempts = 2;
    let s3 = S3::connect(config).await.unwrap();
    proxy.set_rule(
        |asked| {
            if asked.is_part() && asked.query.contains("partNumber=2") { Fault::Reset } else { Fault::None }
        },
    );
    let error = put(&s3, "object", &content(6 * PART), Existing::Keep).await.unwrap_err();
    expect(&error, ErrorKind::Unavailable, &["object"]);
    assert_eq!(s3.stat(&key("object")).await.unwrap(), None);
}

#[tokio::test]
async fn a_listing_has_all_pages_and_leaves_out_what_is_no_key() {
    let server = S3Server::shared();
    let config = server.config("pages");
    let s3 = S3::connect_or_create(config.clone()).await.unwrap();
    let puts = (0..1050).map(|n| {
        let s3 = s3.clone();
        async move { put(&s3, &format!("object {n:04}"), &Bytes::new(), Existing::Replace).await }
    });
    futures_util::stream::iter(puts).buffer_unordered(16).try_collect::<Vec<_>>().await.unwrap();
    for foreign in ["a//b", "folder/", "../up"] {
        let signed = server.signer().put_object().bucket(&config.bucket).key(foreign);
        let signed = signed.presigned(at_once()).await.unwrap();
        assert_eq!(server.send(signed, Bytes::new()).await.status(), 200);
    }
    let mut found = names(&s3).await;
    found.sort();
    assert_eq!(found.len(), 1050);
    assert_eq!((found[0].as_str(), found[1049].as_str()), ("object 0000", "object 1049"));
}

#[tokio::test]
async fn what_is_retained_cannot_be_removed_for_good() {
    let server = S3Server::shared();
    let mut config = server.config("retained");
    let until = SystemTime::now() + Duration::from_secs(3600);
    config.retention = Some(Retention { mode: RetentionMode::Governance, until });
    let s3 = S3::connect_or_create(config.clone()).await.unwrap();
    for (name, bytes) in [("small", 10), ("large", PART + 1)] {
        put(&s3, name, &content(bytes), Existing::Keep).await.unwrap();
        let signed = server.signer().head_object().bucket(&config.bucket).key(name);
        let head = server.send(signed.presigned(at_once()).await.unwrap(), Bytes::new()).await;
        assert_eq!(head.headers()["x-amz-object-lock-mode"], "GOVERNANCE", "{head:?}");
        let version = head.headers()["x-amz-version-id"].to_str().unwrap().to_owned();
        s3.delete(&key(name)).await.unwrap();
        assert_eq!(s3.stat(&key(name)).await.unwrap(), None, "it is hidden");
        let signed = server.signer().delete_object().bucket(&config.bucket).key(name).version_id(&version);
        let refused = server.send(signed.presigned(at_once()).await.unwrap(), Bytes::new()).await;
        assert_eq!(refused.status(), 403, "{refused:?}");
        let signed = server.signer().get_object().bucket(&config.bucket).key(name).version_id(&version);
        let kept = server.send(signed.presigned(at_once()).await.unwrap(), Bytes::new()).await;
        assert!(kept.body() == &content(bytes));
    }
    // A store that would not retain it after all does not keep it under its name either.
    let proxy = S3Proxy::start(|asked| match asked.query.contains("retention") {
        true => Fault::Answer(501, "NotImplemented", "not here".into()),
        false => Fault::None,
    });
    let mut careless = config.clone();
    careless.endpoint = proxy.endpoint();
    let careless = S3::connect(careless).await.unwrap();
    let error = put(&careless, "careless", &content(PART), Existing::Keep).await.unwrap_err();
    expect(&error, ErrorKind::NotSupported, &["retain", "careless"]);
    assert_eq!(s3.stat(&key("careless")).await.unwrap(), None);
    // Where the bucket has no object lock, nothing is stored that would not be locked.
    let mut plain = server.config("not-lockable");
    S3::connect_or_create(plain.clone()).await.unwrap();
    plain.retention = config.retention;
    let s3 = S3::connect(plain).await.unwrap();
    put(&s3, "object", &content(10), Existing::Replace).await.unwrap_err();
    assert_eq!(s3.stat(&key("object")).await.unwrap(), None);
}
