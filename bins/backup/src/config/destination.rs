//! Where backups go.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pgmig_core::config_file::Fault;
use storage_backends::local::Local;
use storage_backends::mirror::Side;
use storage_backends::s3::{Retention, RetentionMode, S3, S3Config, S3Credentials};
use storage_backends::{Backend, Error};

use super::place::Place;
use super::section::Section;
use super::source::Problem;

/// Where backups go.
#[derive(Debug)]
pub(crate) enum Destination {
    /// A folder of this machine.
    Local {
        path: PathBuf,
        /// Whether it is of use only when a volume is mounted on it.
        expect_mount: bool,
    },
    /// A bucket.
    S3(Box<Bucket>),
}

/// A bucket, and what the store is to do with what is put into it.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    config: S3Config,
    create: bool,
    /// For how long the store has to keep each object.
    lock: Option<(RetentionMode, Duration)>,
    /// Whether backups of it have all versions of each object.
    versions: bool,
}

impl Bucket {
    /// Where it is.
    pub(crate) fn location(&self) -> String {
        let S3Config { endpoint, bucket, prefix, .. } = &self.config;
        let parts = [endpoint.trim_end_matches('/'), bucket, prefix.trim_matches('/')];
        parts.join("/").trim_end_matches('/').to_owned()
    }

    /// What of it makes no sense, as far as that is known without asking the store.
    pub(super) fn problem(&self) -> Option<String> {
        self.config.check().err().map(|e| e.to_string())
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.config.bucket
    }

    /// The same, with or without all versions of each object in backups.
    pub(super) fn with_versions(self, versions: bool) -> Self {
        Self { versions, ..self }
    }

    /// Whether backups of it have all versions of each object.
    pub(crate) fn versions(&self) -> bool {
        self.versions
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// It is not there, or may not be used.
    pub(crate) async fn open(&self) -> Result<S3, Error> {
        S3::connect(self.config.clone()).await
    }

    /// The same, and makes it if it is missing.
    ///
    /// # Errors
    ///
    /// It may not be made or used.
    pub(crate) async fn open_or_create(&self) -> Result<S3, Error> {
        S3::connect_or_create(self.config.clone()).await
    }
}

impl Destination {
    pub(super) fn read(section: Section<'_>) -> Result<Self, Vec<Fault>> {
        let (mut section, kind) = section.kind(&["local", "s3"])?;
        let destination = match kind {
            "local" => {
                let path = section.required_path("path");
                let expect_mount = section.flag("expect-mount").unwrap_or(false);
                path.map(|path| Self::Local { path, expect_mount })
            }
            _ => bucket(&mut section).map(Box::new).map(Self::S3),
        };
        section.finish(destination)
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Local { path, .. } => Place::Folder(path.clone()),
            Self::S3(bucket) => {
                let S3Config { endpoint, bucket, prefix, .. } = &bucket.config;
                Place::bucket(endpoint, bucket, prefix)
            }
        }
    }

    /// What of it cannot be used, as far as that is known without asking a store.
    pub(crate) fn problem(&self) -> Option<Problem> {
        match self {
            Self::Local { path, .. } if !path.is_dir() => {
                Some(("path", format!("`{}` is no folder that is there", path.display())))
            }
            Self::Local { path, expect_mount: true } => {
                Local::open_mounted(path).err().map(|e| ("expect-mount", e.to_string()))
            }
            Self::Local { .. } => None,
            Self::S3(bucket) => bucket.problem().map(|why| ("endpoint", why)),
        }
    }

    /// It as a side of a mirror. A bucket that is to be filled is made if it is missing.
    ///
    /// # Errors
    ///
    /// It is not there, or may not be used.
    pub(crate) async fn side(self, is_target: bool) -> Result<Side, Error> {
        match self {
            Self::Local { path, expect_mount } => {
                if expect_mount {
                    Local::open_mounted(&path)?;
                }
                Ok(Side::Folder(path))
            }
            Self::S3(bucket) if is_target => Ok(Side::Bucket(S3::connect_or_create(bucket.config).await?)),
            Self::S3(bucket) => Ok(Side::Bucket(S3::connect(bucket.config).await?)),
        }
    }

    /// Opens it. `now` is what a lock begins with.
    ///
    /// # Errors
    ///
    /// It is not there, or may not be used.
    pub(crate) async fn open(self, now: SystemTime) -> Result<Arc<dyn Backend>, Error> {
        match self {
            Self::Local { path, expect_mount: true } => Ok(Arc::new(Local::open_mounted(path)?)),
            Self::Local { path, expect_mount: false } => Ok(Arc::new(Local::open(path)?)),
            Self::S3(bucket) => {
                let Bucket { mut config, create, lock, .. } = *bucket;
                config.retention = lock.map(|(mode, length)| Retention { mode, until: now + length });
                Ok(Arc::new(if create { S3::connect_or_create(config).await? } else { S3::connect(config).await? }))
            }
        }
    }
}

pub(super) fn bucket(section: &mut Section<'_>) -> Option<Bucket> {
    let bucket = section.required_text("bucket");
    let prefix = section.text("prefix");
    let create = section.flag("create-bucket").unwrap_or(false);
    let lock = section.section("object-lock").map(|mut lock| {
        let mode = lock.parsed("mode", "`governance` or `compliance`", |mode| match mode {
            "governance" => Some(RetentionMode::Governance),
            "compliance" => Some(RetentionMode::Compliance),
            _ => None,
        });
        let days = lock.parsed("days", "a number of days from 1 to 36500", |days| {
            days.parse::<u32>().ok().filter(|days| (1..=36500).contains(days))
        });
        let length = days.map(|days| Duration::from_secs(u64::from(days) * 24 * 60 * 60));
        lock.finish(mode.zip(length))
    });
    // `None` is that it has faults.
    let lock = match lock {
        Some(lock) => section.take(lock).map(Some),
        None => Some(None),
    };
    let mut config = store(section)?;
    let lock = lock?;
    config.bucket = bucket?;
    config.prefix = prefix.unwrap_or_default();
    Some(Bucket { config, create, lock, versions: false })
}

/// These buckets of one store.
pub(super) fn buckets(section: &mut Section<'_>, names: &[&str]) -> Option<Vec<Bucket>> {
    let versions = section.flag("versions").unwrap_or(false);
    let config = store(section)?;
    let bucket = |&name: &&str| {
        let mut config = config.clone();
        name.clone_into(&mut config.bucket);
        Bucket { config, create: false, lock: None, versions }
    };
    Some(names.iter().map(bucket).collect())
}

/// Where a store is, and how to talk to it; no bucket yet.
fn store(section: &mut Section<'_>) -> Option<S3Config> {
    let endpoint = section.required_text_at("endpoint").map(|(line, endpoint)| {
        // Not quoted: somebody may have written a password into it.
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            section.fault(line, "`endpoint` must be a URL such as `https://minio:9000`");
        }
        endpoint
    });
    let region = section.text("region");
    let path_style = section.flag("path-style");
    let access_key = section.required_secret("access-key");
    let secret_key = section.required_secret("secret-key");
    let session_token = section.secret("session-token");
    let ca_pem = section.content("ca-file");
    let insecure = section.flag("accept-invalid-certificates");
    let credentials = S3Credentials { access_key: access_key?, secret_key: secret_key?, session_token };
    let mut config = S3Config::new(endpoint?, "", credentials);
    config.region = region.unwrap_or(config.region);
    config.path_style = path_style.unwrap_or(config.path_style);
    config.ca_pem = ca_pem;
    config.accept_invalid_certificates = insecure.unwrap_or(false);
    Some(config)
}
