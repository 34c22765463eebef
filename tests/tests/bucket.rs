//! Buckets of the real store, and a way to them that is not the library's.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{BucketVersioningStatus, Tag, Tagging, VersioningConfiguration};
use bytes::Bytes;
use pgmig_tests::s3::{S3Proxy, S3Server};
use storage_backends::mirror::{Side, VerifyReport};
use storage_backends::s3::{S3, S3Config};

/// An object as the store tells of it, asked without the library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) content: Bytes,
    pub(crate) content_type: String,
    pub(crate) disposition: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Stored {
    pub(crate) fn new(content: impl Into<Bytes>) -> Self {
        Self { content: content.into(), content_type: "text/plain".into(), ..Self::default() }
    }

    /// One with everything that an object can have.
    pub(crate) fn rich(n: usize) -> Self {
        let pairs = |pairs: [(&str, String); 2]| pairs.map(|(key, value)| (key.to_owned(), value)).into();
        Self {
            content: format!("content {n}").into(),
            content_type: format!("application/x-number-{n}; charset=utf-8"),
            disposition: format!("attachment; filename=\"{n}.txt\""),
            metadata: pairs([("number", n.to_string()), ("color", "light blue".into())]),
            tags: pairs([("kind", "a b+c/d:=@".into()), ("n", n.to_string())]),
        }
    }
}

/// A bucket of its own, and a way to it that is not the library's.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) config: S3Config,
}

impl Bucket {
    pub(crate) async fn new(test: &str) -> Self {
        let config = S3Server::shared().config(test);
        S3::connect_or_create(config.clone()).await.expect("the bucket can be made");
        Self { config }
    }

    pub(crate) async fn keep_versions(&self) {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = S3Server::shared().client().put_bucket_versioning().bucket(&self.config.bucket);
        request.versioning_configuration(enabled).send().await.expect("the store has versions");
    }

    pub(crate) async fn side(&self) -> Side {
        Side::Bucket(S3::connect(self.config.clone()).await.expect("the bucket is there"))
    }

    /// The same through a proxy, with little patience.
    pub(crate) async fn behind(&self, proxy: &S3Proxy) -> Side {
        let mut config = self.config.clone();
        config.endpoint = proxy.endpoint();
        config.attempts = 2;
        config.timeout = Duration::from_secs(5);
        Side::Bucket(S3::connect(config).await.expect("the bucket is there"))
    }

    pub(crate) async fn put(&self, key: &str, stored: &Stored) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let request = S3Server::shared().client().put_object().bucket(&self.config.bucket).key(key);
        let request = request
            .set_metadata(Some(stored.metadata.clone().into_iter().collect()))
            .set_content_type(some(&stored.content_type))
            .set_content_disposition(some(&stored.disposition))
            .body(stored.content.clone().into());
        request.send().await.expect(key);
        if !stored.tags.is_empty() {
            self.tag(key, &stored.tags).await;
        }
    }

    pub(crate) async fn tag(&self, key: &str, tags: &BTreeMap<String, String>) {
        let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build().unwrap();
        let tagging = Tagging::builder().set_tag_set(Some(tags.iter().map(tag).collect())).build().unwrap();
        let request = S3Server::shared().client().put_object_tagging().bucket(&self.config.bucket).key(key);
        request.tagging(tagging).send().await.expect(key);
    }

    pub(crate) async fn remove(&self, key: &str) {
        let request = S3Server::shared().client().delete_object().bucket(&self.config.bucket).key(key);
        request.send().await.expect(key);
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Stored> {
        self.get_version(key, None).await
    }

    pub(crate) async fn get_version(&self, key: &str, version: Option<&str>) -> Option<Stored> {
        let client = S3Server::shared().client();
        let version = version.map(str::to_owned);
        let request = client.get_object().bucket(&self.config.bucket).key(key).set_version_id(version.clone());
        let got = match request.send().await {
            Err(e) if e.code() == Some("NoSuchKey") => return None,
            other => other.expect(key),
        };
        let request = client.get_object_tagging().bucket(&self.config.bucket).key(key).set_version_id(version);
        let tags = request.send().await.expect(key);
        let mut metadata: BTreeMap<_, _> = got.metadata.into_iter().flatten().collect();
        metadata.remove("mirror-record");
        Some(Stored {
            content: got.body.collect().await.expect(key).into_bytes(),
            content_type: got.content_type.unwrap_or_default(),
            disposition: got.content_disposition.unwrap_or_default(),
            metadata,
            tags: tags.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect(),
        })
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let client = S3Server::shared().client();
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let page = client.list_objects_v2().bucket(&self.config.bucket).start_after(&after).send().await.unwrap();
            keys.extend(page.contents.into_iter().flatten().filter_map(|object| object.key));
            if page.is_truncated != Some(true) {
                return keys;
            }
            after.clone_from(keys.last().unwrap());
        }
    }
}

/// Bytes of which no part is like another.
pub(crate) fn content(bytes: usize, seed: u64) -> Bytes {
    let mut content = vec![0; bytes];
    for (n, word) in content.chunks_mut(8).enumerate() {
        let number = (n as u64 ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        word.copy_from_slice(&number[..word.len()]);
    }
    content.into()
}

pub(crate) fn folder(path: &Path) -> Side {
    Side::Folder(path.to_owned())
}

/// The SHA-256 of all, and of how many only the bytes were compared, when nothing is different.
#[track_caller]
pub(crate) fn expect_same(report: Result<VerifyReport, storage_backends::Error>, objects: u64) -> (String, u64) {
    let report = report.expect("both sides can be read");
    assert!(report.is_same(), "{report:?}");
    assert_eq!(report.same.objects, objects);
    (report.sha256, report.bytes_only)
}

pub(crate) fn odd_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain",
        "with space/and more ",
        " x",
        "x/ ",
        "\u{fc}n\u{ef}/\u{1f980}",
        "folder/",
        "folder/inside",
        "a",
        "a/b",
        "a/b/c",
        "a//b",
        "a!",
        "a.b",
        "a/",
        "/leading",
        "//",
        "..",
        ".",
        "../up",
        "./here",
        "a/./b",
        "dots/..",
        "...",
        "100%",
        "%2e",
        "%2E",
        "%empty",
        "a%object",
        "%41",
        ".mirror",
        ".mirror/index",
        "x/.mirror",
        ".staging-1",
        "tab\there",
        "line\nfeed",
        "quote\"'<>&;",
        "plus+sign",
        "back\\slash",
        "A",
        "trailing.",
        "*?:|~",
        "\u{7f}",
        "e\u{301}",
        "\u{e9}",
        "-",
        "_",
        "__",
        "_under/score",
        "#hash?query=1",
    ]
    .map(str::to_owned)
    .into();
    keys.extend([256, 300, 600, 1024].map(|length| "x".repeat(length)));
    keys.push(format!("{}/z", "y".repeat(255)));
    keys.push(format!("{}y", "y".repeat(254)) + "\u{1f980}");
    keys.push("\u{e9}".repeat(200));
    keys.push("%".repeat(340));
    keys.push(format!("{}/{}", "x".repeat(300), "x".repeat(300)));
    keys.push(["d"; 500].join("/"));
    keys.sort();
    keys.dedup();
    keys
}
