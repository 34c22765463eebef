//! Which backups there are in a place.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, Utc};
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

use crate::backend::{Backend, Existing, Upload};
use crate::error::{Error, ErrorKind};
use crate::key::{InvalidKey, Key};
use crate::manifest::{Manifest, StoredObject};

/// The name of a backup's manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
/// More than any manifest takes: that of 100,000 tables has 20 MB.
const MANIFEST_BYTES: u64 = 256 << 20;
/// How the ID of a backup tells its time.
const ID_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// The ID of a backup: the time at which it was begun, in UTC, as in `20261121T230004Z`. IDs are ordered by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId {
    text: Box<str>,
}

impl BackupId {
    /// The ID of a backup that is begun at `time`; `None` for a year of more or less than four digits.
    #[must_use]
    pub fn at(time: DateTime<Utc>) -> Option<Self> {
        time.format(ID_FORMAT).to_string().parse().ok()
    }

    /// When the backup was begun.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        let time = NaiveDateTime::parse_from_str(&self.text, ID_FORMAT);
        time.expect("it was read as one before").and_utc()
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for BackupId {
    type Err = InvalidBackupId;

    fn from_str(text: &str) -> Result<Self, InvalidBackupId> {
        // What is printed otherwise, such as with blanks or signs, is another text.
        let time = NaiveDateTime::parse_from_str(text, ID_FORMAT).ok();
        let is_same = time.is_some_and(|time| time.format(ID_FORMAT).to_string() == text && text.len() == 16);
        if is_same { Ok(Self { text: text.into() }) } else { Err(InvalidBackupId { text: text.to_owned() }) }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text that is no [`BackupId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the ID of a backup, such as 20261121T230004Z", text.escape_debug())]
pub struct InvalidBackupId {
    text: String,
}

/// The backups of one job: a folder of a [`Backend`], with a folder in it for each.
///
/// A backup is its objects and a manifest, which is written last and names them all: what has no manifest is no backup, but
/// one that is being made, or rubbish. When a backup is removed, its manifest goes first.
#[derive(Clone, Debug)]
pub struct Catalog {
    backend: Arc<dyn Backend>,
    folder: Key,
}

/// What is in the folder of a catalog.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listing {
    /// The backups, the oldest first.
    pub backups: Vec<(BackupId, Manifest)>,
    /// What has a manifest that cannot be used, and why. It is left alone.
    pub unreadable: Vec<(BackupId, String)>,
    /// What has no manifest, and when something was written to it last.
    pub incomplete: Vec<(BackupId, SystemTime)>,
    /// Objects that belong to no backup.
    pub foreign: Vec<Key>,
}

impl Catalog {
    /// The catalog of a job.
    ///
    /// # Errors
    ///
    /// The name of the job is so long that those of its backups would be no keys.
    pub fn new(backend: Arc<dyn Backend>, job: Key) -> Result<Self, InvalidKey> {
        // The ID of any backup is as long as this one.
        job.join("20261121T230004Z")?.join(MANIFEST)?;
        Ok(Self { backend, folder: job })
    }

    /// Where it is, for people.
    #[must_use]
    pub fn location(&self) -> String {
        format!("{}/{}", self.backend.location(), self.folder)
    }

    /// What there is.
    ///
    /// # Errors
    ///
    /// The place cannot be listed, or a manifest that is there cannot be fetched.
    pub async fn list(&self) -> Result<Listing, Error> {
        let mut listing =
            Listing { backups: Vec::new(), unreadable: Vec::new(), incomplete: Vec::new(), foreign: Vec::new() };
        let mut without_manifest: BTreeMap<BackupId, SystemTime> = BTreeMap::new();
        let mut with_manifest = Vec::new();
        let mut objects = self.backend.list(Some(&self.folder)).await;
        while let Some(object) = objects.try_next().await? {
            let path = object.key.as_str().strip_prefix(self.folder.as_str()).and_then(|path| path.strip_prefix('/'));
            match path.and_then(|path| path.split_once('/')).and_then(|(id, name)| Some((id.parse().ok()?, name))) {
                None => listing.foreign.push(object.key),
                Some((id, MANIFEST)) => with_manifest.push(id),
                Some((id, _)) => {
                    let last = without_manifest.entry(id).or_insert(object.modified);
                    *last = object.modified.max(*last);
                }
            }
        }
        drop(objects);
        for id in with_manifest {
            without_manifest.remove(&id);
            match self.manifest(&id).await {
                Ok(Ok(manifest)) => listing.backups.push((id, manifest)),
                Ok(Err(why)) => listing.unreadable.push((id, why)),
                // Removed since it was listed.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        listing.incomplete.extend(without_manifest);
        listing.backups.sort_by(|a, b| a.0.cmp(&b.0));
        listing.unreadable.sort();
        listing.foreign.sort();
        Ok(listing)
    }

    /// The manifest of a backup; the inner error says why it cannot be used.
    async fn manifest(&self, id: &BackupId) -> Result<Result<Manifest, String>, Error> {
        let found = self.backend.get(&self.manifest_of(id), Some(0..MANIFEST_BYTES)).await?;
        if found.info.bytes > MANIFEST_BYTES {
            return Ok(Err(format!("has {} bytes, more than any can have", found.info.bytes)));
        }
        let json = found.content.try_collect::<Vec<Bytes>>().await?.concat();
        Ok(Manifest::parse(&json, id))
    }

    /// Begins a backup. Nobody sees it before [`NewBackup::publish`].
    ///
    /// # Errors
    ///
    /// There is something under that ID already.
    pub async fn begin(&self, id: BackupId) -> Result<NewBackup, Error> {
        let folder = self.folder_of(&id);
        let mut objects = self.backend.list(Some(&folder)).await;
        if objects.try_next().await?.is_some() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "begin the backup",
                folder.as_str(),
                "there is one already",
            ));
        }
        drop(objects);
        Ok(NewBackup { catalog: self.clone(), id, objects: Vec::new() })
    }

    /// Removes a backup: first its manifest, so that nothing that is incomplete is taken for one.
    ///
    /// # Errors
    ///
    /// Some of it is still there. Without its manifest it is no backup any more.
    pub async fn remove(&self, id: &BackupId) -> Result<(), Error> {
        self.backend.delete(&self.manifest_of(id)).await?;
        let objects: Vec<_> = self.backend.list(Some(&self.folder_of(id))).await.try_collect().await?;
        for object in objects {
            self.backend.delete(&object.key).await?;
        }
        Ok(())
    }

    /// Removes what is no backup and to which nothing was written for `age`, and what uploads left behind. Returns the IDs.
    ///
    /// # Errors
    ///
    /// Some of it is still there.
    pub async fn clean_up(&self, age: Duration, now: SystemTime) -> Result<Vec<BackupId>, Error> {
        self.backend.remove_abandoned(age).await?;
        let mut removed = Vec::new();
        for (id, written) in self.list().await?.incomplete {
            // A time to come is that of a clock that was set back: not known to be old.
            if now.duration_since(written).is_ok_and(|elapsed| elapsed >= age) {
                self.remove(&id).await?;
                removed.push(id);
            }
        }
        Ok(removed)
    }

    /// Reads an object of a backup, shows each piece to `take`, and compares it with the manifest.
    ///
    /// # Errors
    ///
    /// It is not what the manifest says ([`Incomplete`](ErrorKind::Incomplete)); what `take` has until then is not to be
    /// used. Or it cannot be read, or `take` fails.
    pub async fn read(
        &self,
        id: &BackupId,
        object: &StoredObject,
        mut take: impl AsyncFnMut(Bytes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // A manifest can name what is too long below this folder.
        let key = self.folder_of(id).join(&object.name);
        let key = key.map_err(|e| Error::new(ErrorKind::InvalidKey, "read", &object.name, e.to_string()))?;
        let wrong = |why: String| Error::new(ErrorKind::Incomplete, "use", key.as_str(), why);
        let mut found = self.backend.get(&key, None).await?;
        let (mut digest, mut bytes) = (Sha256::new(), 0);
        while let Some(piece) = found.content.try_next().await? {
            digest.update(&piece);
            bytes += piece.len() as u64;
            take(piece).await?;
        }
        if bytes != object.bytes {
            return Err(wrong(format!("it has {bytes} bytes, but the manifest says {}", object.bytes)));
        }
        let digest = hexadecimal(&digest.finalize());
        if !digest.eq_ignore_ascii_case(&object.sha256) {
            return Err(wrong(format!("its SHA-256 digest is {digest}, but the manifest says {}", object.sha256)));
        }
        Ok(())
    }

    fn folder_of(&self, id: &BackupId) -> Key {
        self.folder.join(id.as_str()).expect("`new` has tried an ID of this length")
    }

    fn manifest_of(&self, id: &BackupId) -> Key {
        self.folder_of(id).join(MANIFEST).expect("`new` has tried it")
    }
}

/// A backup that is being made. Dropped, it is rubbish for [`Catalog::clean_up`].
#[derive(Debug)]
pub struct NewBackup {
    catalog: Catalog,
    id: BackupId,
    objects: Vec<StoredObject>,
}

impl NewBackup {
    /// Its ID.
    #[must_use]
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// Begins an object of it.
    ///
    /// # Errors
    ///
    /// It cannot be stored; or its name cannot be one.
    pub async fn object(&self, name: &str) -> Result<NewObject, Error> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidKey, "store", name, why);
        let key = self.catalog.folder_of(&self.id).join(name).map_err(|e| invalid(&e.to_string()))?;
        if name == MANIFEST {
            return Err(invalid("the manifest has that name"));
        }
        let upload = self.catalog.backend.put(&key, Existing::Keep).await?;
        Ok(NewObject { upload, name: name.to_owned(), digest: Sha256::new(), bytes: 0 })
    }

    /// Adds an object that is complete.
    ///
    /// # Errors
    ///
    /// It could not be committed.
    pub async fn add(&mut self, object: NewObject) -> Result<&mut StoredObject, Error> {
        let NewObject { upload, name, digest, bytes } = object;
        upload.commit().await?;
        let sha256 = hexadecimal(&digest.finalize());
        self.objects.push(StoredObject { name, bytes, sha256, tables: Vec::new() });
        Ok(self.objects.last_mut().expect("it was just added"))
    }

    /// Makes it a backup, by writing its manifest. The objects in `manifest` are those that were added.
    ///
    /// # Errors
    ///
    /// It is no backup.
    pub async fn publish(self, mut manifest: Manifest) -> Result<Manifest, Error> {
        manifest.objects = self.objects;
        let key = self.catalog.manifest_of(&self.id);
        let json = serde_json::to_vec_pretty(&manifest);
        let json = json.map_err(|e| Error::new(ErrorKind::Other, "write", key.as_str(), e.to_string()))?;
        self.catalog.backend.put_if_absent(&key, json.into()).await?;
        Ok(manifest)
    }

    /// Removes what was stored of it.
    ///
    /// # Errors
    ///
    /// Some of it is still there.
    pub async fn abort(self) -> Result<(), Error> {
        self.catalog.remove(&self.id).await
    }
}

/// An object of a backup that is being written.
#[derive(Debug)]
pub struct NewObject {
    upload: Box<dyn Upload>,
    name: String,
    digest: Sha256,
    bytes: u64,
}

impl NewObject {
    /// Writes the next bytes.
    ///
    /// # Errors
    ///
    /// They could not be written.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.digest.update(&piece);
        self.bytes += piece.len() as u64;
        self.upload.write(piece).await
    }

    /// Removes what was written.
    ///
    /// # Errors
    ///
    /// Some of it is still there.
    pub async fn abort(self) -> Result<(), Error> {
        self.upload.abort().await
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
