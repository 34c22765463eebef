//! `backup mirror` with a real store: both ways, and what it says of what is not the same.

use std::fs;
use std::process::{Command, Stdio};

use pgmig_tests::backup::program;
use pgmig_tests::pgmig::Run;
use pgmig_tests::s3::S3Server;
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
        let store = S3Server::shared();
        let config = store.config(test);
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("vault")).expect("writable");
        fs::write(folder.path().join("secret-key"), store.secret_key()).expect("writable");
        let bucket = |suffix: &str| {
            format!(
                "endpoint: \"{}\", bucket: {}{suffix}, access-key: {}, secret-key-file: secret-key",
                store.endpoint(),
                config.bucket,
                store.access_key()
            )
        };
        let yaml = format!(
            "sources:\n  models: {{type: bucket, {}}}\n  db: {{type: postgresql, host: h, database: d, username: u}}\n\
             destinations:\n  copy: {{type: s3, {}}}\n  vault: {{type: local, path: vault}}\n\
             jobs:\n  nightly: {{source: db, destination: vault}}\n",
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
        let mut command = Command::new(program());
        Run::of(command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()))
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
    let _ = place.run(&["mirror", "db", "vault", "--deleted", "keep"]).failed(&["no bucket or destination `db`"]);
    let _ = place.run(&["mirror", "models", "./nowhere", "--deleted", "keep"]).failed(&["nowhere"]);
    let _ = place.run(&["mirror", "verify", "models", "copy"]).failed(&["cannot open `copy`"]);
    let _ = place.run(&["mirror", "models", "models", "--deleted", "keep"]).failed(&["the source is the same"]);
    // An empty source removes nothing.
    let _ = place.run(&["mirror", "models", "vault", "--deleted", "keep"]).done();
    place.models.delete(&"a".parse().expect("a key")).await.expect("it may be removed");
    let _ = place.run(&["mirror", "models", "vault", "--deleted", "remove"]).failed(&["does not have everything"]);
    assert!(place.folder.path().join("vault/a").exists());
}
