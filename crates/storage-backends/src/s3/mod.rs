//! A bucket of MinIO, or of any other store that speaks S3.
//!
//! What is believed of a store, and what is not:
//!
//! - An object is there when a request that writes it has succeeded, and not before; reading and listing show what
//!   was written before. S3, MinIO, Ceph and Garage are like that.
//! - No checksum of the store is trusted (an `ETag` need not be an MD5, and may be empty): keep your own. The bytes of a
//!   request are protected on their way by the SHA-256 that it is signed with. Lengths are compared.
//! - Some stores ignore `If-None-Match: *`. Whether this one does is tried once for each connection, with an object of its
//!   own, before the first time that a name must not be taken ([`Existing::Keep`](crate::Existing::Keep),
//!   [`put_if_absent`](crate::Backend::put_if_absent)). Where it is ignored, whoever wants the name first writes a
//!   *claim* beside it, and only who sees no claim but the own one writes the object. Claims of others are
//!   ignored when they are a minute old: they were left by someone who was killed. They are renewed while the store takes its time.
//!   So two can both succeed with the same name, and the later one keeps it, only when one was stopped in the middle of
//!   it for most of a minute and then went on, or its last request was on its way for as long; or when one of
//!   them does not use this library.
//! - An object in parts is always published with a claim, since there are stores that look at `If-None-Match` for small objects
//!   alone. There, one in parts can replace a small one that another wrote under the same name in the same instant.
//! - Where versions are kept, removing an object hides it; a rule of the bucket's life cycle has to remove the
//!   versions. So a retention ([`Retention`]) protects what was stored, not its name. It holds from a moment after the object
//!   is there, where the store takes no notice of it in the beginning of an upload in parts.
//!
//! Objects have the metadata `writer`, which is another text for each upload: by it an upload whose answer got lost
//! recognises its object.
//!
//! Names that begin with `.staging-` below the prefix are claims and trials; see
//! [`remove_abandoned`](crate::Backend::remove_abandoned). Proxies that the environment names are not used.

mod backend;
mod claim;
mod download;
mod error;
mod http;
mod object;
mod store;
mod upload;
mod version;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;

use crate::error::Error;
use store::Store;

pub(crate) use object::{Attributes, Head, Listed, Objects, Writing};
pub(crate) use version::ListedVersion;

/// The smallest part that S3 takes, except for the last one.
const MIN_PART_BYTES: u64 = 5 << 20;
/// The largest one.
const MAX_PART_BYTES: u64 = 5 << 30;

/// A bucket, or what is below a prefix in it, as a [`Backend`](crate::Backend).
///
/// A clone shares the connections.
#[derive(Clone)]
pub struct S3 {
    store: Arc<Store>,
}

impl S3 {
    /// Connects to a bucket that is there, and asks it for what is below the prefix.
    ///
    /// # Errors
    ///
    /// The configuration makes no sense; the store cannot be reached, is not trusted, does not know the credentials, or has
    /// no such bucket; or the access key may not list it.
    pub async fn connect(config: S3Config) -> Result<Self, Error> {
        let store = Store::new(config)?;
        store.look().await?;
        Ok(Self { store: Arc::new(store) })
    }

    /// The same, and makes the bucket when it is not there: with object lock if there is a retention.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect); or the bucket cannot be made.
    pub async fn connect_or_create(config: S3Config) -> Result<Self, Error> {
        let store = Store::new(config)?;
        if let Err(e) = store.look().await {
            if e.kind() != crate::ErrorKind::NotFound {
                return Err(e);
            }
            store.create_bucket().await?;
            store.look().await?;
        }
        Ok(Self { store: Arc::new(store) })
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3").field(&self.store.location()).finish()
    }
}

/// Where a bucket is, and how to talk to it. Its `Debug` shows no credentials.
#[derive(Clone)]
#[non_exhaustive]
pub struct S3Config {
    /// `https://` or `http://`, a host, and a port if it is not 443 or 80.
    pub endpoint: String,
    /// The name of the bucket.
    pub bucket: String,
    /// What all keys begin with, before a slash; empty for the whole bucket.
    pub prefix: String,
    /// `us-east-1` if not said. Most stores do not care.
    pub region: String,
    /// The bucket is the first part of the path, not of the host name; so if not said.
    pub path_style: bool,
    /// Who asks.
    pub credentials: S3Credentials,
    /// Certificates of CAs in PEM that are trusted beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// Talks to whoever answers, with any certificate. What is sent can then be read and changed on its way.
    pub accept_invalid_certificates: bool,
    /// How long to wait for a connection; 10 s if not said.
    pub connect_timeout: Duration,
    /// How long to wait for an answer, or for more of one; 30 s if not said. Uploads get more time by their length, as for
    /// 128 KiB in a second.
    pub timeout: Duration,
    /// How often a request is tried, with growing pauses, when the store cannot be reached or says that it cannot now; 5
    /// if not said.
    pub attempts: u32,
    /// The length of a part of an upload in bytes, from 5 MiB to 5 GiB; 8 MiB if not said. It doubles after each 900 parts, so
    /// that an object of 5 TiB fits into the 10,000 parts that there may be.
    pub part_bytes: u64,
    /// How many parts are sent at the same time; 4 if not said. As many, and one that is being filled, are in memory: 40 MiB.
    /// When parts grow, fewer are sent at the same time, down to one: beyond 21 GiB two parts are in memory, each
    /// of less than a 600th of the object.
    pub parts_in_flight: usize,
    /// What the store has to keep until when; nothing if not said.
    pub retention: Option<Retention>,
}

impl S3Config {
    /// That it makes sense, as far as that is known without the store.
    ///
    /// # Errors
    ///
    /// As those of [`S3::connect`] that say so.
    pub fn check(&self) -> Result<(), Error> {
        Store::new(self.clone()).map(drop)
    }

    /// The usual settings.
    pub fn new(endpoint: impl Into<String>, bucket: impl Into<String>, credentials: S3Credentials) -> Self {
        Self {
            endpoint: endpoint.into(),
            bucket: bucket.into(),
            prefix: String::new(),
            region: "us-east-1".into(),
            path_style: true,
            credentials,
            ca_pem: None,
            accept_invalid_certificates: false,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            attempts: 5,
            part_bytes: 8 << 20,
            parts_in_flight: 4,
            retention: None,
        }
    }
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the endpoint: nobody has looked yet whether somebody has put a password into it.
        let Self { bucket, prefix, region, .. } = self;
        f.debug_struct("S3Config")
            .field("bucket", bucket)
            .field("prefix", prefix)
            .field("region", region)
            .finish_non_exhaustive()
    }
}

/// What a store knows someone by. Neither `Debug` nor any error shows them.
#[derive(Clone, Debug)]
pub struct S3Credentials {
    /// The access key.
    pub access_key: SecretString,
    /// The secret key.
    pub secret_key: SecretString,
    /// That of a session, for credentials that expire.
    pub session_token: Option<SecretString>,
}

/// That nobody may remove or change what is stored, until some time. The bucket has to have object lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Who may nevertheless.
    pub mode: RetentionMode,
    /// Until when.
    pub until: SystemTime,
}

/// Who may remove an object that is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionMode {
    /// Who has a special permission for it.
    Governance,
    /// Nobody.
    Compliance,
}
