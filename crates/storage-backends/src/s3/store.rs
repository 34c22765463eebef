//! Single requests to a bucket, and what their failures are called.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    BucketLocationConstraint, CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration, ObjectLockMode,
    ObjectLockRetention, ObjectLockRetentionMode,
};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::error::explain;
use super::{MAX_PART_BYTES, MIN_PART_BYTES, Retention, RetentionMode, S3Config, http};
use crate::error::{Error, ErrorKind};
use crate::key::Key;

/// The name of the metadata that tells the uploads of an object apart.
const WRITER: &str = "writer";
/// What an upload has to manage in a second.
const SLOWEST: u64 = 128 << 10;
/// Putting the parts of a large object together takes some stores minutes.
const COMPLETION: Duration = Duration::from_secs(600);
/// More than this was never seen from one that works.
const MAX_ATTEMPTS: u32 = 20;

/// A bucket and all that is needed to ask it.
pub(super) struct Store {
    pub(super) client: Client,
    pub(super) bucket: String,
    /// What all keys begin with: nothing, or the prefix and a slash.
    pub(super) root: String,
    endpoint: String,
    region: String,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) part_bytes: u64,
    pub(super) parts_in_flight: usize,
    retention: Option<Retention>,
    /// What no text may show.
    secrets: Vec<SecretString>,
    /// Whether `If-None-Match` is more than words; see `claim`.
    pub(super) keeps_its_word: OnceLock<bool>,
}

/// What is known of an object, and whose it is.
pub(super) struct Found {
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
    pub(super) writer: Option<String>,
}

/// What bytes are checked by when they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Their SHA-256, which is signed.
    Signature,
    /// Their MD5, which takes a third of the time, for those that have another SHA-256 already. It is signed too.
    Md5,
}

/// What becomes an object in one request.
pub(super) enum Content {
    Whole(Bytes),
    Parts { upload: String, parts: Vec<CompletedPart> },
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location())
    }
}

impl Store {
    pub(super) fn new(config: S3Config) -> Result<Self, Error> {
        let (endpoint, shown) = endpoint(&config)?;
        let refuse = |why: String| Err(Error::new(ErrorKind::Other, "use", shown.clone(), why));
        if config.bucket.is_empty() || config.bucket.contains(['/', '?', '#', '\\']) {
            return refuse("the name of the bucket is empty or has a slash in it".into());
        }
        let root = match config.prefix.trim_matches('/') {
            "" => String::new(),
            prefix => match prefix.parse::<Key>() {
                Ok(prefix) => format!("{prefix}/"),
                Err(e) => return refuse(format!("the prefix: {e}")),
            },
        };
        if !(MIN_PART_BYTES..=MAX_PART_BYTES).contains(&config.part_bytes) {
            return refuse("a part of an upload has from 5 MiB to 5 GiB".into());
        }
        if config.parts_in_flight == 0 || config.attempts == 0 || config.timeout.is_zero() {
            return refuse("attempts, parts at the same time and timeouts are at least 1".into());
        }
        let client =
            match http::client(config.ca_pem.as_deref(), config.accept_invalid_certificates, config.connect_timeout) {
                Ok(client) => client,
                Err(why) => return refuse(why),
            };
        let S3Config { credentials, .. } = config;
        let attempts = config.attempts.min(MAX_ATTEMPTS);
        let sdk = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(client)
            .endpoint_url(endpoint)
            .region(Region::new(config.region.clone()))
            .force_path_style(config.path_style)
            .credentials_provider(Credentials::new(
                credentials.access_key.expose_secret(),
                credentials.secret_key.expose_secret(),
                credentials.session_token.as_ref().map(|token| token.expose_secret().to_owned()),
                None,
                "given",
            ))
            // Older stores do not know the newer checksums.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // Whoever reads may take as long as it likes; waiting for the store has limits of our own.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(attempt_timeout(config.timeout))
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(attempts)
                    .with_initial_backoff(Duration::from_millis(500))
                    .with_max_backoff(Duration::from_secs(20)),
            )
            .build();
        let mut secrets = vec![credentials.access_key, credentials.secret_key];
        secrets.extend(credentials.session_token);
        Ok(Self {
            client: Client::from_conf(sdk),
            bucket: config.bucket,
            root,
            endpoint: shown,
            region: config.region,
            timeout: config.timeout,
            attempts,
            part_bytes: config.part_bytes,
            parts_in_flight: config.parts_in_flight,
            retention: config.retention,
            secrets,
            keeps_its_word: OnceLock::new(),
        })
    }

    pub(super) fn location(&self) -> String {
        format!("{}/{}/{}", self.endpoint, self.bucket, self.root).trim_end_matches('/').to_owned()
    }

    /// The whole name of an object in the bucket.
    pub(super) fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.root)
    }

    /// The name without what all keys begin with, if it is a key.
    pub(super) fn key(&self, name: &str) -> Option<Key> {
        name.strip_prefix(&self.root)?.parse().ok()
    }

    /// What a failed request is called. `name` is that of an object, or empty for the bucket.
    pub(super) fn error<E: ProvideErrorMetadata>(
        &self,
        doing: &'static str,
        name: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> Error {
        let (kind, why) = explain(error, self.attempts);
        self.fail(kind, doing, name, why)
    }

    pub(super) fn fail(&self, kind: ErrorKind, doing: &'static str, name: &str, mut why: String) -> Error {
        // A store may quote what it was sent.
        for secret in &self.secrets {
            let secret = secret.expose_secret();
            if secret.len() > 3 && why.contains(secret) {
                why = why.replace(secret, "[redacted]");
            }
        }
        let what = format!("{}/{}/{name}", self.endpoint, self.bucket);
        Error::new(kind, doing, what.trim_end_matches('/'), why)
    }

    /// Asks for something that everyone who uses the bucket must be able to.
    pub(super) async fn look(&self) -> Result<(), Error> {
        let listed = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.root).max_keys(1).send().await;
        listed.map(drop).map_err(|e| match self.error("list", &self.root, &e) {
            // A proxy answers so too, and what it hides must not pass for a bucket that does not exist.
            error if error.kind() == ErrorKind::NotFound && e.code() != Some("NoSuchBucket") => {
                let why = "the answer is 404, without the word that there is no such bucket: is there a store at this endpoint?";
                self.fail(ErrorKind::Other, "list", &self.root, why.into())
            }
            error => error,
        })
    }

    pub(super) async fn create_bucket(&self) -> Result<(), Error> {
        // The one region that must not be named.
        let place = (self.region != "us-east-1").then(|| {
            let region = BucketLocationConstraint::from(self.region.as_str());
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let made = self
            .client
            .create_bucket()
            .bucket(&self.bucket)
            .set_create_bucket_configuration(place)
            .set_object_lock_enabled_for_bucket(self.retention.map(|_| true))
            .send()
            .await;
        match made {
            Err(e) if e.code() != Some("BucketAlreadyOwnedByYou") => Err(self.error("make the bucket", "", &e)),
            _ => Ok(()),
        }
    }

    /// What has a name; `None` when nothing does.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, Error> {
        let known = |bytes: Option<i64>, modified: Option<&DateTime>, metadata| {
            let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
            Some(Found { bytes, modified: time(modified), writer: writer(metadata) })
        };
        let refusal = match self.client.head_object().bucket(&self.bucket).key(name).send().await {
            Ok(head) => return Ok(known(head.content_length(), head.last_modified(), head.metadata.clone())),
            Err(refusal) => refusal,
        };
        if !refusal.raw_response().is_some_and(|answer| answer.status().is_client_error()) {
            return Err(self.error("look at", name, &refusal));
        }
        // The answer to HEAD does not say why: a bucket that is gone looks like an object that is not there, and wrong
        // credentials like missing permissions.
        match self.client.get_object().bucket(&self.bucket).key(name).send().await {
            // It came in between.
            Ok(get) => Ok(known(get.content_length(), get.last_modified(), get.metadata.clone())),
            Err(e) if e.code() == Some("NoSuchKey") => Ok(None),
            // Some say no more than that.
            Err(e) if e.code().is_none() && e.raw_response().is_some_and(|it| it.status().as_u16() == 404) => Ok(None),
            Err(e) => Err(self.error("look at", name, &e)),
        }
    }

    /// Gives content its name. `if_absent` asks the store for what it may not do.
    pub(super) async fn send(&self, name: &str, content: &Content, writer: &str, if_absent: bool) -> Result<(), Error> {
        let condition = if_absent.then(|| "*".to_owned());
        match content {
            Content::Whole(bytes) => {
                let request = self
                    .client
                    .put_object()
                    .bucket(&self.bucket)
                    .key(name)
                    .metadata(WRITER, writer)
                    .set_if_none_match(condition)
                    .set_content_md5(self.content_md5(bytes))
                    .set_object_lock_mode(self.lock_mode())
                    .set_object_lock_retain_until_date(self.lock_date())
                    .body(bytes.clone().into());
                let sent = request.customize().config_override(self.time_for(bytes.len() as u64)).send().await;
                sent.map(drop).map_err(|e| self.error("store", name, &e))
            }
            Content::Parts { upload, parts } => {
                let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.clone())).build();
                let request = self
                    .client
                    .complete_multipart_upload()
                    .bucket(&self.bucket)
                    .key(name)
                    .upload_id(upload)
                    .set_if_none_match(condition)
                    .multipart_upload(parts);
                let patient = Config::builder().timeout_config(attempt_timeout(self.timeout.max(COMPLETION)));
                let sent = request.customize().config_override(patient).send().await;
                sent.map(drop).map_err(|e| self.error("store", name, &e))
            }
        }
    }

    pub(super) async fn begin_parts(&self, name: &str, writer: &str) -> Result<String, Error> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(name)
            .metadata(WRITER, writer)
            .set_object_lock_mode(self.lock_mode())
            .set_object_lock_retain_until_date(self.lock_date())
            .send()
            .await
            .map_err(|e| self.error("begin", name, &e))?;
        let nameless = || self.fail(ErrorKind::NotSupported, "begin", name, "the upload has no ID".into());
        begun.upload_id.filter(|id| !id.is_empty()).ok_or_else(nameless)
    }

    pub(super) async fn send_part(
        &self,
        name: &str,
        upload: &str,
        number: i32,
        bytes: Bytes,
        protection: Protection,
    ) -> Result<CompletedPart, Error> {
        let time = self.time_for(bytes.len() as u64);
        let md5 = match protection {
            Protection::Signature => self.content_md5(&bytes),
            Protection::Md5 => Some(content_md5(&bytes)),
        };
        let request = self.client.upload_part().bucket(&self.bucket).key(name).upload_id(upload);
        let request = request.part_number(number).set_content_md5(md5).body(bytes.into()).customize();
        let request = match protection {
            Protection::Signature => request,
            Protection::Md5 => request.disable_payload_signing(),
        };
        let sent = request.config_override(time).send().await.map_err(|e| self.error("write", name, &e))?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
    }

    /// Ends an upload in parts without an object. That it has ended already is no error.
    pub(super) async fn abort_parts(&self, name: &str, upload: &str) -> Result<(), Error> {
        let aborted =
            self.client.abort_multipart_upload().bucket(&self.bucket).key(name).upload_id(upload).send().await;
        match aborted {
            Err(e) if e.code() == Some("NoSuchUpload") => Ok(()),
            Err(e) => Err(self.error("remove the unfinished", name, &e)),
            Ok(_) => Ok(()),
        }
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), Error> {
        match self.client.delete_object().bucket(&self.bucket).key(name).send().await {
            Err(e) if e.code() == Some("NoSuchKey") => Ok(()),
            Err(e) => Err(self.error("remove", name, &e)),
            Ok(_) => Ok(()),
        }
    }

    /// A small object of our own, which no retention is for.
    pub(super) async fn put_note(&self, name: &str, writer: &str, if_absent: bool) -> Result<(), Error> {
        let condition = if_absent.then(|| "*".to_owned());
        let request = self.client.put_object().bucket(&self.bucket).key(name).metadata(WRITER, writer);
        let sent = request.set_if_none_match(condition).body(Bytes::new().into()).send().await;
        sent.map(drop).map_err(|e| self.error("store", name, &e))
    }

    /// Sees to it that an object is retained that was to be stored so, and hides it if it cannot be.
    ///
    /// Some stores take no notice when an object in parts is begun with a retention (Ceph 16 is one), others never do.
    pub(super) async fn retain(&self, name: &str, writer_id: &str) -> Result<(), Error> {
        let Some(retention) = self.retention else { return Ok(()) };
        let fail = |e: Error| async {
            let _ = self.remove(name).await;
            Err(e)
        };
        let head = match self.client.head_object().bucket(&self.bucket).key(name).send().await {
            Ok(head) => head,
            Err(e) => return fail(self.error("look whether the store retains", name, &e)).await,
        };
        // Replaced in its turn.
        if writer(head.metadata.clone()).as_deref() != Some(writer_id) {
            return Ok(());
        }
        let until = retention.until - Duration::from_secs(1);
        if head.object_lock_mode.is_some() && time(head.object_lock_retain_until_date()) >= until {
            return Ok(());
        }
        let mode = match retention.mode {
            RetentionMode::Governance => ObjectLockRetentionMode::Governance,
            RetentionMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let wanted = ObjectLockRetention::builder().mode(mode).retain_until_date(retention.until.into()).build();
        let request = self.client.put_object_retention().bucket(&self.bucket).key(name).retention(wanted);
        match request.set_version_id(head.version_id).send().await {
            Ok(_) => Ok(()),
            Err(e) => fail(self.error("retain", name, &e)).await,
        }
    }

    pub(super) fn has_retention(&self) -> bool {
        self.retention.is_some()
    }

    fn lock_mode(&self) -> Option<ObjectLockMode> {
        self.retention.map(|retention| match retention.mode {
            RetentionMode::Governance => ObjectLockMode::Governance,
            RetentionMode::Compliance => ObjectLockMode::Compliance,
        })
    }

    fn lock_date(&self) -> Option<DateTime> {
        self.retention.map(|retention| retention.until.into())
    }

    /// S3 wants it with everything that is to be locked.
    fn content_md5(&self, bytes: &[u8]) -> Option<String> {
        self.retention.map(|_| content_md5(bytes))
    }

    pub(super) fn time_for(&self, bytes: u64) -> Builder {
        Config::builder().timeout_config(attempt_timeout(self.timeout + Duration::from_secs(bytes / SLOWEST)))
    }
}

pub(super) fn content_md5(bytes: &[u8]) -> String {
    aws_smithy_types::base64::encode(Md5::digest(bytes))
}

fn attempt_timeout(time: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(time).build()
}

/// The endpoint, and how it is shown: a URL that carries credentials must not get that far.
fn endpoint(config: &S3Config) -> Result<(String, String), Error> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::Other, "use", "the endpoint", why));
    let Ok(url) = Url::parse(&config.endpoint) else {
        return refuse("it is not a URL such as `https://minio:9000`");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return refuse("it is not a URL such as `https://minio:9000`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("it has a user or a password in it; give the access key and the secret key instead");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("it has something behind `?` or `#`");
    }
    let endpoint = url.as_str().trim_end_matches('/').to_owned();
    Ok((endpoint.clone(), endpoint))
}

pub(super) fn time(time: Option<&DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(*time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn writer(metadata: Option<HashMap<String, String>>) -> Option<String> {
    metadata.and_then(|mut metadata| metadata.remove(WRITER))
}

/// Where a part begins and how long the whole is, from `bytes 0-0/1000`.
pub(super) fn content_range(header: &str) -> Option<(u64, u64)> {
    let (range, whole) = header.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, whole.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::S3Credentials;
    use super::*;

    fn config() -> S3Config {
        let credentials = S3Credentials {
            access_key: "AKIDOFSOMEONE".into(),
            secret_key: "hush-hush".into(),
            session_token: Some("token-of-a-session".into()),
        };
        S3Config::new("https://minio:9000/", "backups", credentials)
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused() {
        type Change = fn(&mut S3Config);
        let changes: [Change; 12] = [
            |it| it.endpoint = "minio:9000".into(),
            |it| it.endpoint = "ftp://minio".into(),
            |it| it.endpoint = "https://user:hush-hush@minio".into(),
            |it| it.endpoint = "https://minio?x".into(),
            |it| it.bucket = String::new(),
            |it| it.bucket = "a/b".into(),
            |it| it.prefix = "a/../b".into(),
            |it| it.part_bytes = 1 << 20,
            |it| it.part_bytes = 6 << 30,
            |it| it.parts_in_flight = 0,
            |it| it.attempts = 0,
            |it| it.ca_pem = Some(b"hush-hush".to_vec()),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut config = config();
            change(&mut config);
            let shown = format!("{config:?}");
            let error = Store::new(config).expect_err(&index.to_string());
            assert!(!error.to_string().contains("hush") && !shown.contains("hush"), "{error} {shown}");
        }
        let mut config = config();
        config.prefix = "/prod/nightly/".into();
        assert_eq!(Store::new(config).unwrap().location(), "https://minio:9000/backups/prod/nightly");
    }

    #[test]
    fn no_text_shows_credentials() {
        let config = config();
        let store = Store::new(config.clone()).unwrap();
        let error = store.fail(ErrorKind::Other, "read", "key", "AKIDOFSOMEONE signed hush-hush".into());
        for text in [format!("{config:?}"), format!("{store:?}"), error.to_string(), format!("{error:?}")] {
            for secret in ["AKIDOFSOMEONE", "hush-hush", "token-of-a-session"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }

    #[test]
    fn where_a_part_begins_is_read() {
        assert_eq!(content_range("bytes 5-9/1000"), Some((5, 1000)));
        for header in ["", "bytes", "bytes */1000", "bytes 5-9/*", "bytes 5/9", "octets 5-9/10"] {
            assert_eq!(content_range(header), None, "{header}");
        }
    }
}
