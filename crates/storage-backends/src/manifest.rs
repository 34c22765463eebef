//! What a backup says of itself.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::catalog::{is_adoptable, is_reserved};
use crate::key::Key;
use crate::sealed::Content;

/// The version of the manifest's JSON form that this crate writes.
pub const MANIFEST_VERSION: u32 = 1;

/// What a backup is, written when all of it is there. A manifest is never changed.
///
/// Fields that a later version adds are ignored by this one; what a later version changes has another `version`, which this
/// one refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The version of this form; [`MANIFEST_VERSION`].
    pub version: u32,
    /// The backup's ID; see [`BackupId`](crate::BackupId).
    pub id: String,
    /// What it is a backup of, by its name in the configuration.
    pub source: String,
    /// When it was begun.
    pub started: DateTime<Utc>,
    /// When its last object was complete.
    pub finished: DateTime<Utc>,
    /// The programs that took part, by name, each with its version: ours, `pg_dump`, the server.
    pub versions: std::collections::BTreeMap<String, String>,
    /// The version of the product's schema, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<String>,
    /// The service instances whose data it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// Its objects. All of them make up the backup.
    pub objects: Vec<StoredObject>,
    /// Whether and how it was verified; `None` when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// How its objects belong together, for people: such as at which moments several databases were dumped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// What tells of the content, where that is encrypted and could not be decrypted: `schema_version`, `tenants`, `consistency`, and of the
    /// objects `tables` and `plaintext`, all of which are empty here then. It is JSON, encrypted as text by `age`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// An object of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredObject {
    /// Its name within the backup.
    pub name: String,
    /// How it is to be read; an archive if it is not said.
    #[serde(default, skip_serializing_if = "ObjectFormat::is_archive")]
    pub format: ObjectFormat,
    /// The name of the database or the bucket that it is of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Where it lies, seen from the folder of the catalog, if that is not in the folder of the backup: it was there before, and was
    /// [adopted](crate::Catalog::adopt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Its length in bytes as it is stored.
    pub bytes: u64,
    /// The SHA-256 digest of these bytes, in 64 hexadecimal digits.
    pub sha256: String,
    /// How it is encrypted; `None` when everybody can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// What comes out when it is decrypted. Without a key that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Plaintext>,
    /// What is in it, table by table, where that was counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableContent>,
}

impl StoredObject {
    pub(crate) fn new(name: String, bytes: u64, sha256: String) -> Self {
        let format = ObjectFormat::default();
        Self {
            name,
            format,
            origin: None,
            at: None,
            bytes,
            sha256,
            encryption: None,
            plaintext: None,
            tables: Vec::new(),
        }
    }
}

/// How an object is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ObjectFormat {
    /// An archive of `pg_dump`.
    #[default]
    Archive,
    /// A script of `pg_dump`.
    Plain,
    /// A bucket, as a tar; see the module `bucket_archive`.
    Bucket,
}

impl ObjectFormat {
    fn is_archive(&self) -> bool {
        *self == Self::Archive
    }
}

/// How an object is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Encryption {
    /// As a file of [age](https://age-encryption.org/v1).
    Age,
}

/// What is in an encrypted object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plaintext {
    /// Its length in bytes.
    pub bytes: u64,
    /// The SHA-256 digest of these bytes, in 64 hexadecimal digits.
    pub sha256: String,
}

/// The rows of one table of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableContent {
    /// The table, or what else it is, for people.
    pub table: String,
    /// Its rows, or the objects of a bucket; `None` where they cannot be counted, such as large objects.
    pub rows: Option<u64>,
    /// Bytes of the data before compression.
    pub bytes: u64,
    /// The SHA-256 digest of the data before compression.
    pub sha256: Option<String>,
}

/// That a backup was proven to be whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verification {
    /// When.
    pub at: DateTime<Utc>,
    /// What was proven, for people.
    pub what: String,
}

impl TableContent {
    /// Content of which nothing is counted but its bytes.
    pub fn new(table: impl Into<String>, bytes: u64) -> Self {
        Self { table: table.into(), rows: None, bytes, sha256: None }
    }
}

impl Verification {
    /// That `what` was proven at that time.
    pub fn new(at: DateTime<Utc>, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

impl Manifest {
    /// The manifest of a backup without objects yet.
    pub fn new(id: &crate::BackupId, source: impl Into<String>, started: DateTime<Utc>) -> Self {
        Self {
            version: MANIFEST_VERSION,
            id: id.to_string(),
            source: source.into(),
            started,
            finished: started,
            versions: std::collections::BTreeMap::new(),
            schema_version: None,
            tenants: Vec::new(),
            objects: Vec::new(),
            verification: None,
            consistency: None,
            sealed: None,
        }
    }

    /// Reads one, which was found under the ID `id`.
    ///
    /// # Errors
    ///
    /// It is no manifest, one of another backup, of a version that is not known, or names objects that cannot be. In
    /// words that complete "the manifest ...".
    pub fn parse(json: &[u8], id: &crate::BackupId) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let wrong = |e: serde_json::Error| format!("cannot be read: {e}");
        let Versioned { version } = serde_json::from_slice(json).map_err(wrong)?;
        if version != MANIFEST_VERSION {
            return Err(format!(
                "is of version {version}, and only {MANIFEST_VERSION} is known here: use a newer release"
            ));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(wrong)?;
        if manifest.id != id.as_str() {
            return Err(format!("is that of the backup `{}`", manifest.id.escape_debug()));
        }
        let mut names = BTreeSet::new();
        let mut adopted = BTreeSet::new();
        for object in &manifest.objects {
            let is_digest = object.sha256.len() == 64 && object.sha256.bytes().all(|c| c.is_ascii_hexdigit());
            if object.name.parse::<Key>().is_err() || is_reserved(&object.name) || !is_digest {
                return Err(format!("names an object that cannot be: `{}`", object.name.escape_debug()));
            }
            if let Some(at) = object.at.as_deref().filter(|at| !is_adoptable(at)) {
                return Err(format!("names an object where none of it can be: `{}`", at.escape_debug()));
            }
            if !names.insert(&object.name) || object.at.as_ref().is_some_and(|at| !adopted.insert(at)) {
                return Err(format!("names the object `{}` twice", object.name.escape_debug()));
            }
        }
        // Nobody writes that, and it would be believed where nobody can decrypt.
        if manifest.sealed.is_some() && Content::is_in(&manifest) {
            return Err("tells openly what should be sealed".to_owned());
        }
        Ok(manifest)
    }

    /// The bytes of all objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).fold(0, u64::saturating_add)
    }

    /// Whether all of its objects are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.objects.iter().all(|object| object.encryption.is_some())
    }

    /// Whether something is known of it only to the holders of keys that are not at hand; see [`sealed`](Self::sealed).
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Whether something is a part of it that was there before; see [`Catalog::adopt`](crate::Catalog::adopt).
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.objects.iter().any(|object| object.at.is_some())
    }

    /// Whether it was proven to be whole when it was made.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.verification.is_some()
    }
}
