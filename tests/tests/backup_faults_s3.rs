//! `backup` when things go wrong and the backups are in a bucket.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use hyper::Method;
use pgmig_tests::backup::Backups;
use pgmig_tests::pgmig::Run;
use pgmig_tests::s3::{Asked, Fault, S3Proxy, S3Server};
use pgmig_tests::{PgTools, Server};
use storage_backends::Catalog;
use storage_backends::s3::S3;

use crate::backup_faults::{SLOW, in_bucket, to_bucket, wait_until};

/// What is in the bucket of a test, asked of the store itself.
struct Content {
    client: Client,
    bucket: String,
}

impl Content {
    fn of(test: &str) -> Self {
        let server = S3Server::shared();
        Self { client: server.client(), bucket: server.config(test).bucket }
    }

    /// The names of all objects.
    async fn names(&self) -> Vec<String> {
        let listed = self.client.list_objects_v2().bucket(&self.bucket).send().await.expect("it can be listed");
        listed.contents().iter().map(|object| object.key().expect("a key").to_owned()).collect()
    }

    /// How many uploads in parts were never ended.
    async fn uploads(&self) -> usize {
        let listed = self.client.list_multipart_uploads().bucket(&self.bucket).send().await.expect("they are listed");
        listed.uploads().len()
    }

    /// What a run does first when the grace time of the one before is over.
    async fn clean_up_tomorrow(&self) {
        let mut config = S3Server::shared().config("");
        (config.bucket, config.prefix) = (self.bucket.clone(), "prod".into());
        let store = Arc::new(S3::connect(config).await.expect("the bucket is there"));
        let catalog = Catalog::new(store, "nightly".parse().expect("a key")).expect("a name of a job");
        let day = Duration::from_secs(24 * 60 * 60);
        let cleaned = catalog.clean_up(day, SystemTime::now() + day).await.expect("it can be listed");
        assert!(cleaned.problems.is_empty(), "{cleaned:?}");
    }

    /// Another backup like this one, as if it had been made at another time.
    async fn copy_as(&self, id: &str, other: &str) {
        let folder = format!("prod/nightly/{id}/");
        for name in self.names().await.iter().filter(|name| name.starts_with(&folder)) {
            let found = self.client.get_object().bucket(&self.bucket).key(name).send().await.expect("it is there");
            let mut content = found.body.collect().await.expect("the whole object").into_bytes();
            if name.ends_with("manifest.json") {
                let manifest = String::from_utf8(content.to_vec()).expect("it is text");
                content = manifest.replace(id, other).into();
            }
            let copy = self.client.put_object().bucket(&self.bucket).key(name.replace(id, other));
            copy.body(content.into()).send().await.expect("it is stored");
        }
    }
}

/// Whether it changes something in the store.
fn changes(asked: &Asked) -> bool {
    asked.method != Method::GET && asked.method != Method::HEAD
}

/// Kills a program when the store has done `number` of the changes that it asked for, before it hears of the last one. Whether it came
/// that far; otherwise it has ended.
fn kill_after(proxy: &S3Proxy, number: usize, start: impl FnOnce() -> Child) -> bool {
    let is_waiting = Arc::new(AtomicBool::new(false));
    let (waits, asked_for) = (Arc::clone(&is_waiting), AtomicUsize::new(0));
    proxy.set_rule(move |asked| {
        let before = if changes(asked) { asked_for.fetch_add(1, SeqCst) } else { asked_for.load(SeqCst) };
        if before >= number {
            waits.store(true, SeqCst);
            return Fault::Stall;
        }
        // Without an answer it asks again: by then the store has done it.
        if changes(asked) && before + 1 == number { Fault::LoseAnswer } else { Fault::None }
    });
    let mut child = start();
    let mut has_ended = false;
    wait_until("the program asks for what comes after that change, or ends", || {
        has_ended = child.try_wait().expect("it is a child").is_some();
        has_ended || is_waiting.load(SeqCst)
    });
    child.kill().expect("it is a child");
    child.wait().expect("it was killed");
    proxy.set_rule(|_| Fault::None);
    !has_ended
}

/// The program at work on what nobody reads.
fn quiet(backups: &Backups, arguments: &[&str]) -> Child {
    let mut command = backups.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: `make test` runs it"]
async fn a_run_that_is_killed_at_any_change_leaves_no_bad_backup() {
    let test = "backup_killed_runs";
    let proxy = S3Proxy::start(|_| Fault::None);
    let backups = in_bucket(test, &proxy.endpoint(), "create-bucket: true")
        .source("compress", "none")
        .job("retention: {keep-last: 2}");
    let server = Server::shared(17);
    // Longer than a part of an upload.
    server.psql(
        backups.database(),
        "insert into t select n, md5(n::text), md5((-n)::text) from generate_series(1, 120000) n",
    );
    let content = Content::of(test);
    let mut good = vec![backups.make(), backups.make()];
    let mut number = 0;
    loop {
        let is_killed = kill_after(&proxy, number, || quiet(&backups, &["run", "nightly"]));
        let listed = backups.verified();
        if !is_killed {
            break;
        }
        // One more at most, and the oldest one only goes for it.
        assert!(listed.len() >= 2 && good[1..].iter().all(|id| listed.contains(id)), "{number}: {good:?}, {listed:?}");
        wait_until("the lock is gone", || backups.run(&["run", "nightly"]).status.success());
        good = backups.ids();
        assert_eq!(good.len(), 2, "{number}: {good:?}");
        content.clean_up_tomorrow().await;
        let names = content.names().await;
        let left = names.iter().filter(|name| !good.iter().any(|id| name.starts_with(&format!("prod/nightly/{id}/"))));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<&String>::new(), "{number}");
        assert_eq!(content.uploads().await, 0, "{number}");
        number += 1;
    }
    // The claim and the heartbeat, an upload of two parts or more, the manifest, an old backup that goes.
    assert!(number >= 10, "{number}");
    assert_eq!(backups.verified().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: `make test` runs it"]
async fn a_prune_that_is_killed_at_any_change_leaves_no_bad_backup() {
    let test = "backup_killed_prunes";
    let proxy = S3Proxy::start(|_| Fault::None);
    let backups = in_bucket(test, &proxy.endpoint(), "create-bucket: true").job("retention: {keep-last: 3}");
    let content = Content::of(test);
    let first = backups.make();
    let copies: Vec<_> = (0..30).map(|n| format!("2025{:02}{:02}T000000Z", n / 20 + 1, n % 20 + 1)).collect();
    for id in &copies {
        content.copy_as(&first, id).await;
    }
    assert_eq!(backups.ids().len(), 31);
    let mut before = backups.ids();
    for number in 0.. {
        let is_killed = kill_after(&proxy, number % 7, || quiet(&backups, &["prune", "nightly"]));
        let listed = backups.ids();
        if !is_killed {
            break;
        }
        // The oldest ones go first; what is left of one that is half gone is not listed.
        assert!(before.ends_with(&listed) && listed.len() >= 3, "{number}: {before:?}, {listed:?}");
        for id in [&listed[0], &listed[1], &first] {
            let _ = backups.run(&["verify", "nightly", id]).done();
        }
        before = listed;
    }
    let _ = backups.run(&["prune", "nightly"]).done();
    content.clean_up_tomorrow().await;
    assert_eq!(backups.verified(), [copies[28].as_str(), &copies[29], &first]);
    assert_eq!(content.names().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_prune_ends_what_it_has_begun_and_tells_what_is_gone() {
    let test = "backup_interrupted_prune";
    let proxy = S3Proxy::start(|_| Fault::None);
    let backups = in_bucket(test, &proxy.endpoint(), "create-bucket: true").job("retention: {keep-last: 1}");
    let content = Content::of(test);
    let last = backups.make();
    let copies = ["20250101T000000Z", "20250102T000000Z", "20250103T000000Z"];
    for id in copies {
        content.copy_as(&last, id).await;
    }
    // The manifest of the second is on its way out.
    let (is_asked, is_told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (asks, told) = (Arc::clone(&is_asked), Arc::clone(&is_told));
    proxy.set_rule(move |asked| {
        if changes(asked) && asked.path.ends_with("20250102T000000Z/manifest.json") {
            asks.store(true, SeqCst);
            wait_until("it was interrupted", || told.load(SeqCst));
        }
        Fault::None
    });
    let prune = backups.spawn(&["prune", "nightly", "--output", "json"]);
    wait_until("it removes the second", || is_asked.load(SeqCst));
    let killed = Command::new("kill").args(["-s", "TERM", &prune.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    std::thread::sleep(Duration::from_millis(200));
    is_told.store(true, SeqCst);
    let ended = Run::from(prune.wait_with_output().expect("it ends"));
    assert_eq!(ended.status.code(), Some(130), "{ended}");
    let ids = |key: &str| -> Vec<String> {
        let told = ended.json()[key].as_array().expect("a list").clone();
        told.iter().map(|line| line["id"].as_str().expect("an ID").to_owned()).collect()
    };
    // What may not be read may be whole.
    proxy.set_rule(|asked| match asked.method {
        Method::GET if asked.path.ends_with(".dump") => Fault::Answer(403, "AccessDenied", "no".to_owned()),
        _ => Fault::None,
    });
    let verify = backups.run(&["verify", "nightly", &last]).failed(&["cannot verify the backup"]);
    assert!(!verify.stderr.contains("not whole"), "{verify}");
    assert_eq!(ids("removed"), copies[..2]);
    assert_eq!(ids("not_removed"), copies[2..]);
    assert_eq!(backups.ids(), [copies[2], &last]);
    assert_eq!(content.names().await.len(), 4);
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn a_store_that_fails_for_a_while_is_asked_again_and_one_that_fails_for_good_is_told() {
    let proxy = S3Proxy::start(|_| Fault::None);
    let backups =
        in_bucket("backup_failing_store", &proxy.endpoint(), "create-bucket: true").source("compress", "none");
    let mut good = vec![backups.make()];
    let answer = |status, code| Fault::Answer(status, code, "in a moment".to_owned());
    let faults = [answer(500, "InternalError"), answer(503, "SlowDown"), Fault::Nonsense(502), Fault::Reset];
    for (fault, says) in faults.into_iter().zip(["500", "503", "502", "tried 5 times"]) {
        let asked = AtomicUsize::new(0);
        let now_and_then = fault.clone();
        proxy.set_rule(move |_| match asked.fetch_add(1, SeqCst) % 4 {
            2 | 3 => now_and_then.clone(),
            _ => Fault::None,
        });
        good.push(backups.make());
        // From the beginning; and when the dump, or the manifest is to be stored. Each takes as long as it is asked again.
        let stages: &[&str] = match says {
            "500" => &[".dump", "manifest.json"],
            "503" => &[".dump"],
            "502" => &[],
            _ => &[""],
        };
        for &begins_at in stages {
            let fault = fault.clone();
            let begun = AtomicBool::new(begins_at.is_empty());
            proxy.set_rule(move |asked| {
                let begins = changes(asked) && asked.path.ends_with(begins_at);
                if begun.fetch_or(begins, SeqCst) || begins { fault.clone() } else { Fault::None }
            });
            let run = backups.run(&["run", "nightly"]).failed(&["cannot"]);
            assert!(run.stderr.contains(says), "{begins_at}: {run}");
            proxy.set_rule(|_| Fault::None);
            assert_eq!(backups.ids(), good, "{begins_at}: {run}");
        }
    }
    assert_eq!(backups.verified(), good);
}

#[test]
fn who_may_not_store_backups_and_who_trusts_another_authority_is_told() {
    let test = "backup_not_allowed";
    let endpoint = S3Server::shared().endpoint();
    let good = in_bucket(test, endpoint, "create-bucket: true");
    let id = good.make();
    let wrong = in_bucket(test, endpoint, "");
    fs::write(wrong.file("secret-key"), "hush-wrong").expect("writable");
    let run = wrong
        .run(&["run", "nightly"])
        .failed(&["cannot open the destination `vault`", "the secret key does not belong to the access key"]);
    assert!(!run.stderr.contains("hush-wrong"), "{run}");

    let (proxy, other) = (S3Proxy::start_tls(), S3Proxy::start_tls());
    let trusting = in_bucket(test, &proxy.endpoint(), "ca-file: ca.crt");
    fs::write(trusting.file("ca.crt"), other.ca_pem().expect("it speaks TLS")).expect("writable");
    let _ = trusting.run(&["run", "nightly"]).failed(&["cannot open the destination `vault`", "certificate", "the CA"]);
    fs::write(trusting.file("ca.crt"), proxy.ca_pem().expect("it speaks TLS")).expect("writable");
    assert_eq!(trusting.verified(), [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_cut_short_is_never_published_in_a_bucket() {
    let test = "backup_cut_dumps";
    let endpoint = S3Server::shared().endpoint();
    let good = in_bucket(test, endpoint, "create-bucket: true").make();
    for (script, why) in [
        ("\"$PG_DUMP\" \"$@\" | head -c 100000; exit 0", "its archive is not whole"),
        ("\"$PG_DUMP\" \"$@\" | head -c -1; exit 0", "its archive is not whole"),
        ("\"$PG_DUMP\" \"$@\" | head -c 100000; kill -9 $$", "signal: 9"),
    ] {
        let backups = in_bucket(test, endpoint, "").pg_dump(script);
        let _ = backups.run(&["run", "nightly"]).failed(&[why]);
        assert_eq!(backups.verified(), [good.as_str()]);
    }
    // Here is not even something for the next run to remove.
    assert_eq!(Content::of(test).names().await.len(), 2);
    assert_eq!(Content::of(test).uploads().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_midway_is_told_and_nothing_is_published_in_a_bucket() {
    let test = "backup_restarting_server";
    let server = Server::start(&PgTools::major(17));
    server.create_database("store", "UTF8");
    server.psql("store", "create table t as select n, repeat(md5(n::text), 20) from generate_series(1, 60000) n");
    let real = server.tools().program("pg_dump").display().to_string();
    let backups = to_bucket(Backups::of(&server, "store"), test, S3Server::shared().endpoint(), "create-bucket: true")
        .pg_dump(&format!("touch begun; {SLOW}"));
    let run = backups.spawn(&["run", "nightly"]);
    wait_until("an upload has begun", || backups.file("begun").exists());
    std::thread::sleep(Duration::from_millis(500));
    server.crash();
    server.restart();
    let ended = Run::from(run.wait_with_output().expect("it ends"));
    let _ = ended.failed(&["cannot dump the database `store`", "pg_dump ended with exit status: 1"]);
    assert_eq!(Content::of(test).names().await, Vec::<String>::new());
    assert_eq!(Content::of(test).uploads().await, 0);
    let backups = backups.source("pg-dump", &real);
    let id = backups.make();
    assert_eq!(backups.verified(), [id]);
}
