//! `backup mirror` with a real store: both ways, and what it says of what is not the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use futures_util::TryStreamExt as _;
use hyper::Method;
use pgmig_tests::backup::program;
use pgmig_tests::pgmig::Run;
use pgmig_tests::s3::{Fault, S3Proxy, S3Server};
use storage_backends::s3::S3;
use storage_backends::{Backend as _, Key};
use tempfile::TempDir;

/// A configuration with the buckets `models` and `copy`, and the destination `vault`.
struct Place {
    folder: TempDir,
    models: S3,
}

impl Place {
    async fn new(test: &str) -> Self {
        Self::at(test, S3Server::shared().endpoint()).await
    }

    /// With another way to the store, and its key.
    async fn at(test: &str, endpoint: &str) -> Self {
        let store = S3Server::shared();
        let config = store.config(test);
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("vault")).expect("writable");
        fs::write(folder.path().join("secret-key"), store.secret_key()).expect("writable");
        let bucket = |suffix: &str| {
            format!(
                "endpoint: \"{}\", bucket: {}{suffix}, access-key: {}, secret-key-file: secret-key",
                endpoint,
                config.bucket,
                store.access_key()
            )
        };
        let yaml = format!(
            "sources:\n  models: {{type: bucket, {}}}\n  db: {{type: postgresql, host: h, database: d, username: u}}\n\
             destinations:\n  copy: {{type: s3, {}}}\n  vault: {{type: local, path: vault}}\n  backups: {{type: local, path: backups}}\n\
             jobs:\n  nightly: {{source: db, destination: backups}}\n",
            bucket(""),
            bucket("-copy")
        );
        fs::write(folder.path().join("backup.yaml"), yaml).expect("writable");
        let models = S3::connect_or_create(config).await.expect("the store is there");
        Self { folder, models }
    }

    async fn put(&self, key: &str, content: &str) {
        let key: Key = key.parse().expect("a key");
        self.models.delete(&key).await.expect("it may be removed");
        self.models.put_if_absent(&key, content.to_owned().into()).await.expect("it is stored");
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn report(&self, arguments: &[&str]) -> serde_json::Value {
        self.run(&[arguments, &["--output", "json"]].concat()).done().json()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_goes_to_a_folder_and_from_there_to_a_bucket_that_is_made_for_it() {
    let place = Place::new("backup_mirror").await;
    for (key, content) in [("a/one", "1"), ("a/two words", "22"), ("b", "333")] {
        place.put(key, content).await;
    }
    let report = place.report(&["mirror", "models", "vault", "--deleted", "keep"]);
    assert_eq!((&report["copied"]["objects"], &report["copied"]["bytes"]), (&3.into(), &6.into()), "{report}");
    assert_eq!(fs::read(place.folder.path().join("vault/a/two words")).expect("it was copied"), b"22");
    let report = place.report(&["mirror", "models", "vault", "--deleted", "keep"]);
    assert_eq!((&report["copied"]["objects"], &report["skipped"]["objects"]), (&0.into(), &3.into()));

    let _ = place.run(&["mirror", "./vault", "copy", "--deleted", "keep"]).done().says(&["copied"]);
    let proof = place.run(&["mirror", "verify", "models", "copy"]).done();
    let _ = proof.says(&["the same are 3 objects"]);

    // Another content of the same length, and one object less.
    place.put("b", "444").await;
    place.models.delete(&"a/one".parse().expect("a key")).await.expect("it may be removed");
    let differs = place.run(&["mirror", "verify", "models", "copy"]).failed(&["is not an exact copy", "3 differences"]);
    let _ = differs.says(&["b: content", "a/one: surplus"]);
    // Also when nobody reads all of it, as with `| head`.
    for arguments in
        [&["mirror", "verify", "models", "copy"][..], &["mirror", "verify", "models", "copy", "--output", "json"]]
    {
        let (reader, writer) = std::io::pipe().expect("the system has pipes");
        drop(reader);
        let status = place.command(arguments).stdout(writer).stderr(Stdio::null()).status().expect("it starts");
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
    let report = place.report(&["mirror", "models", "copy", "--deleted", "remove"]);
    assert_eq!((&report["removed"]["objects"], &report["failed"]["objects"]), (&1.into(), &0.into()), "{report}");
    let _ = place.run(&["mirror", "verify", "models", "copy"]).done();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_become_of_deleted_objects_has_to_be_said_and_names_have_to_be_right() {
    let place = Place::new("backup_mirror_names").await;
    place.put("a", "1").await;
    assert_eq!(place.run(&["mirror", "models", "vault"]).status.code(), Some(2));
    assert_eq!(place.run(&["mirror", "models"]).status.code(), Some(2));
    let _ = place
        .run(&["mirror", "model", "vault", "--deleted", "keep"])
        .failed(&["no bucket or destination `model`", "`models`"]);
    let run = place.run(&["mirror", "db", "vault", "--deleted", "keep"]).failed(&["no bucket or destination `db`"]);
    assert!(!run.stderr.contains("give one of `db`"), "{run}");
    let _ = place.run(&["mirror", "models", "./nowhere", "--deleted", "keep"]).failed(&["nowhere"]);
    let _ = place.run(&["mirror", "verify", "models", "copy"]).failed(&["cannot open `copy`"]);
    let run = place.run(&["mirror", "models", "models", "--deleted", "keep"]);
    let _ = run.failed(&["the source is the same", "give two places, neither of which"]);
    // That hint is for nothing else.
    fs::create_dir_all(place.folder.path().join("broken/.mirror")).expect("writable");
    fs::write(place.folder.path().join("broken/.mirror/lock"), "").expect("writable");
    fs::write(place.folder.path().join("broken/.mirror/staging"), "no folder").expect("writable");
    let run = place.run(&["mirror", "models", "./broken", "--deleted", "keep"]).failed(&["staging"]);
    assert!(!run.stderr.contains("two places"), "{run}");
    // An index that cannot be read is that of the folder, not of an object.
    fs::remove_dir_all(place.folder.path().join("broken")).expect("it is ours");
    fs::create_dir_all(place.folder.path().join("broken/.mirror")).expect("writable");
    let index = place.folder.path().join("broken/.mirror/index");
    for (content, hint) in [
        ("{\"format\":\"mirror-index\",\"version\":1}\n{\"key\":", "(remove the file `index` there"),
        ("{\"format\":\"mirror-index\",\"version\":2}\n", "(use the version of this program that has written it)"),
    ] {
        fs::write(&index, content).expect("writable");
        let run = place.run(&["mirror", "models", "./broken", "--deleted", "keep"]);
        let _ = run.failed(&["does not have everything"]).says(&["\n  cannot read the index in", hint]);
        let run = place.run(&["mirror", "models", "./broken", "--deleted", "keep", "--output", "json"]);
        assert!(run.json()["stopped"].get("key").is_none(), "{run}");
    }
    fs::remove_file(index).expect("it is ours");
    let _ = place.run(&["mirror", "models", "./broken", "--deleted", "keep"]).done();
    // What jobs keep there would be removed as what the source does not have.
    fs::create_dir_all(place.folder.path().join("backups/below")).expect("writable");
    for to in ["backups", "./backups", "./backups/below", "."] {
        let run = place.run(&["mirror", "models", to, "--deleted", "remove"]);
        let _ = run.failed(&["is where the job `nightly` has its backups"]);
    }
    // However the configuration says where that is; and what it does not say is not taken for a no.
    let config = place.folder.path().join("backup.yaml");
    let yaml = fs::read_to_string(&config).expect("it was written");
    let elsewhere = yaml.replace("{source: db, destination: backups}", "{source: db, destination-file: where}");
    fs::write(&config, elsewhere).expect("writable");
    let _ =
        place.run(&["mirror", "models", "vault", "--deleted", "remove"]).failed(&["cannot tell whether", "`where`"]);
    fs::write(place.folder.path().join("where"), "backups\n").expect("writable");
    let run = place.run(&["mirror", "models", "backups", "--deleted", "remove"]);
    let _ = run.failed(&["is where the job `nightly` has its backups"]);
    fs::write(&config, yaml).expect("writable");
    // An empty source removes nothing.
    let _ = place.run(&["mirror", "models", "vault", "--deleted", "keep"]).done();
    place.models.delete(&"a".parse().expect("a key")).await.expect("it may be removed");
    let _ = place.run(&["mirror", "models", "vault", "--deleted", "remove"]).failed(&["does not have everything"]);
    assert!(place.folder.path().join("vault/a").exists());
}

/// The files below a folder that have names of their own, with what is in them.
fn files(root: &Path, at: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(at).expect("a folder") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() && !path.ends_with(".mirror") {
            files(root, &path, found);
        } else if path.is_file() {
            let name = path.strip_prefix(root).expect("it is below").to_str().expect("text").to_owned();
            found.insert(name, fs::read(&path).expect("it can be read"));
        }
    }
}

/// The objects of a bucket, with what is in them.
async fn objects(bucket: &S3, found: &mut BTreeMap<String, Vec<u8>>) {
    let listed: Vec<_> = bucket.list(None).await.try_collect().await.expect("it can be listed");
    for object in listed {
        let download = bucket.get(&object.key, None).await.expect("it is there");
        let pieces: Vec<_> = download.content.try_collect().await.expect("it can be read");
        found.insert(object.key.to_string(), pieces.concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: `make test` runs it"]
async fn a_mirroring_that_is_killed_anywhere_leaves_nothing_half_and_the_next_one_goes_on() {
    let place = Place::new("backup_mirror_killed").await;
    let source = place.folder.path().join("source");
    let mut expected = BTreeMap::new();
    for n in 0..80_u32 {
        let size = if n % 40 == 39 { 17 << 20 } else { 1 + n * 997 % 60_000 };
        let content: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 13 ^ n) as u8).collect();
        let name = format!("folder-{}/{n}", n % 7);
        fs::create_dir_all(source.join(&name).parent().expect("it has one")).expect("writable");
        fs::write(source.join(&name), &content).expect("writable");
        expected.insert(name, content);
    }
    let _ = place.run(&["mirror", "./source", "models", "--deleted", "keep"]).done();
    let points = if pgmig_tests::thorough() { 24 } else { 5 };
    for (from, to) in [("models", "vault"), ("./source", "copy"), ("models", "copy")] {
        let mut whole = Duration::ZERO;
        for point in 0..=points {
            // A new target each time.
            let vault = place.folder.path().join("vault");
            fs::remove_dir_all(&vault).expect("it is there");
            fs::create_dir(&vault).expect("writable");
            if to == "copy" && (from == "models" || point > 0) {
                let _ = fs::create_dir(place.folder.path().join("nothing"));
                fs::write(place.folder.path().join("nothing/one"), "1").expect("writable");
                let _ = place.run(&["mirror", "./nothing", "copy", "--deleted", "remove"]).done();
            }
            let begun = Instant::now();
            let mut command = place.command(&["mirror", from, to, "--deleted", "remove"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
            if point == 0 {
                assert!(child.wait().expect("it ends").success());
                whole = begun.elapsed();
            } else {
                thread::sleep(whole * point / (points + 1));
                child.kill().expect("it can be killed");
                child.wait().expect("it ends");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let mut there = BTreeMap::new();
            if to == "vault" {
                files(&vault, &vault, &mut there);
            } else {
                let mut copy = S3Server::shared().config("backup_mirror_killed");
                copy.bucket += "-copy";
                objects(&S3::connect_or_create(copy).await.expect("the store is there"), &mut there).await;
                // What the target had before, until that is removed in the end.
                there.remove("one");
            }
            for (name, content) in &there {
                assert!(expected[name] == *content, "{from} {to} {point}: {name} is not whole");
            }
            let report = place.report(&["mirror", from, to, "--deleted", "remove"]);
            assert_eq!(report["skipped"]["objects"], there.len(), "{from} {to} {point}: {report}");
            let _ = place.run(&["mirror", "verify", from, to]).done().says(&["the same are 80 objects"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_in_the_middle_is_told_and_the_next_mirroring_copies_the_rest() {
    let proxy = S3Proxy::start(|_| Fault::None);
    let place = Place::at("backup_mirror_faults", &proxy.endpoint()).await;
    for n in 0..30 {
        place.put(&format!("object-{n:02}"), &format!("content {n}")).await;
    }
    let secret = S3Server::shared().secret_key();
    let answer = |status, code| Fault::Answer(status, code, secret.to_owned());
    for (fault, word) in [
        (answer(503, "SlowDown"), "SlowDown"),
        (answer(400, "ExpiredToken"), "the session token has expired"),
        (answer(403, "SignatureDoesNotMatch"), "the secret key does not belong to the access key"),
        (answer(403, "AccessDenied"), "the access key may not do it"),
        (Fault::Nonsense(500), "500"),
        (Fault::Reset, "tried 5 times"),
    ] {
        for (from, to) in [("models", "./vault"), ("./full", "copy"), ("models", "copy")] {
            let full = place.folder.path().join("full");
            let _ = fs::remove_dir_all(&full);
            fs::create_dir(&full).expect("writable");
            proxy.set_rule(|_| Fault::None);
            let _ = place.run(&["mirror", "models", "./full", "--deleted", "keep"]).done();
            if from == "./full" {
                fs::write(full.join("changed"), word).expect("writable");
            } else if to == "./vault" {
                fs::remove_dir_all(place.folder.path().join("vault")).expect("it is there");
                fs::create_dir(place.folder.path().join("vault")).expect("writable");
            }
            let fault = fault.clone();
            proxy.set_rule(move |asked| match asked.method {
                Method::GET if asked.query.contains("list-type") => Fault::None,
                Method::HEAD => Fault::None,
                _ if asked.path.ends_with("/object-07") || asked.path.ends_with("/changed") => fault.clone(),
                _ => Fault::None,
            });
            let run = place.run(&["mirror", from, to, "--deleted", "remove"]).failed(&["does not have everything"]);
            let run = run.says(&[word]);
            assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{}{}", run.stdout, run.stderr);
            proxy.set_rule(|_| Fault::None);
            let _ = place.run(&["mirror", from, to, "--deleted", "remove"]).done();
            let _ = place.run(&["mirror", "verify", from, to]).done();
        }
    }
    // Credentials that are wrong from the beginning copy nothing.
    fs::write(place.folder.path().join("secret-key"), "another-secret").expect("writable");
    let run = place.run(&["mirror", "models", "vault", "--deleted", "keep"]).failed(&["cannot open `models`"]);
    let run = run.failed(&["the secret key does not belong"]);
    assert!(!run.stderr.contains("another-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_programs_do_in_a_bucket_is_left_alone() {
    let proxy = S3Proxy::start(|_| Fault::None);
    let place = Place::at("backup_mirror_others", &proxy.endpoint()).await;
    place.put("a", "1").await;
    let _ = place.run(&["mirror", "models", "copy", "--deleted", "keep"]).done();
    // An object with a name as this library has for notes of its own, and an upload that is not ended.
    let copy = format!("{}-copy", S3Server::shared().config("backup_mirror_others").bucket);
    let client = S3Server::shared().client();
    client
        .put_object()
        .bucket(&copy)
        .key(".staging-1")
        .body(b"theirs".to_vec().into())
        .send()
        .await
        .expect("it is stored");
    let upload = client.create_multipart_upload().bucket(&copy).key("a").send().await.expect("it begins");
    let id = upload.upload_id().expect("it has an ID");
    let part = client.upload_part().bucket(&copy).key("a").upload_id(id).part_number(1);
    part.body(b"theirs".to_vec().into()).send().await.expect("it arrives");
    let begun = proxy.asked().len();
    place.put("b", "22").await;
    let _ = place.run(&["mirror", "models", "copy", "--deleted", "keep"]).done();
    let asked = &proxy.asked()[begun..];
    assert!(asked.iter().all(|asked| asked.method != Method::DELETE), "{asked:?}");
    let uploads = client.list_multipart_uploads().bucket(&copy).send().await.expect("they are listed");
    assert_eq!(uploads.uploads().len(), 1);
    // Who may not list them can mirror all the same.
    proxy.set_rule(|asked| match asked.query.contains("uploads") && asked.method == Method::GET {
        true => Fault::Answer(403, "AccessDenied", "no".into()),
        false => Fault::None,
    });
    place.put("c", "333").await;
    let _ = place.run(&["mirror", "models", "copy", "--deleted", "keep"]).done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_mirroring_to_the_same_folder_is_refused() {
    let proxy = S3Proxy::start(|_| Fault::None);
    let place = Place::at("backup_mirror_twice", &proxy.endpoint()).await;
    place.put("a", "1").await;
    proxy.set_rule(|asked| if asked.path.ends_with("/a") { Fault::Stall } else { Fault::None });
    let mut command = place.command(&["mirror", "models", "vault", "--deleted", "keep"]);
    let mut first = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    while proxy.asked().iter().all(|asked| !asked.path.ends_with("/a") || asked.method == Method::PUT) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = place.run(&["mirror", "models", "vault", "--deleted", "keep"]);
    let _ = second.failed(&["somebody else mirrors to it", "wait until that has ended"]);
    // What reads it is in nobody's way, and whoever is killed has no lock any more.
    proxy.set_rule(|_| Fault::None);
    let _ = place.run(&["mirror", "verify", "vault", "./vault"]).done();
    first.kill().expect("it can be killed");
    first.wait().expect("it ends");
    let _ = place.run(&["mirror", "models", "vault", "--deleted", "keep"]).done();
}
