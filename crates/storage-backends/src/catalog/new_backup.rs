//! How a backup comes into being.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::heartbeat::{Heartbeat, Pulse};
use super::{BackupId, Catalog, MANIFEST_BYTES, is_reserved};
use crate::backend::{Existing, Upload};
use crate::digest::Digest;
use crate::encryption::Encrypting;
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::manifest::{Encryption, Manifest, Plaintext, StoredObject};
use crate::sealed::Content;

/// A backup that is being made. Dropped, it is rubbish for [`Catalog::clean_up`].
#[derive(Debug)]
pub struct NewBackup {
    pub(super) catalog: Catalog,
    pub(super) id: BackupId,
    pub(super) objects: Vec<StoredObject>,
    /// There is one if what is in its folder is ours.
    pub(super) heartbeat: Option<Heartbeat>,
    /// The backups of which it is known that they have adopted nothing that this one adopts.
    pub(super) known: BTreeSet<BackupId>,
}

impl NewBackup {
    /// Its ID.
    #[must_use]
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// The objects that it has so far, such as to tell what is in them.
    pub fn objects_mut(&mut self) -> &mut [StoredObject] {
        &mut self.objects
    }

    /// Begins an object of it.
    ///
    /// # Errors
    ///
    /// It cannot be stored; or its name cannot be one.
    pub async fn object(&self, name: &str) -> Result<NewObject, Error> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidKey, "store", name, why);
        let key = self.catalog.folder_of(&self.id).join(name).map_err(|e| invalid(&e.to_string()))?;
        if is_reserved(name) {
            return Err(invalid("what a catalog itself keeps beside the objects has such names"));
        }
        let upload = self.catalog.backend.put(&key, Existing::Keep).await?;
        let pulse = self.heartbeat.as_ref().map(Heartbeat::pulse).cloned();
        let (name, stored) = (name.to_owned(), Digest::default());
        let mut object = NewObject { upload, key, name, stored, encrypting: None, pulse };
        if let Some(recipients) = &self.catalog.keys.recipients {
            let encrypting = recipients.encrypt().map_err(|e| object.not_encrypted(e))?;
            object.encrypting = Some((encrypting, Digest::default()));
        }
        Ok(object)
    }

    /// Adds an object that is complete.
    ///
    /// # Errors
    ///
    /// It could not be committed.
    pub async fn add(&mut self, mut object: NewObject) -> Result<&mut StoredObject, Error> {
        object.expect_pulse()?;
        let mut plain = None;
        if let Some((encrypting, digest)) = object.encrypting.take() {
            let last = encrypting.finish().map_err(|e| object.not_encrypted(e))?;
            object.store(last).await?;
            plain = Some(digest);
        }
        let NewObject { upload, name, stored, .. } = object;
        upload.commit().await?;
        let (bytes, sha256) = stored.finish();
        let mut object = StoredObject::new(name, bytes, sha256);
        if let Some(digest) = plain {
            let (bytes, sha256) = digest.finish();
            object.encryption = Some(Encryption::Age);
            object.plaintext = Some(Plaintext { bytes, sha256 });
        }
        self.objects.push(object);
        Ok(self.objects.last_mut().expect("it was just added"))
    }

    /// Makes it a backup, by writing its manifest. The objects in `manifest` are those that were added, and what is sealed is what this
    /// catalog encrypts.
    ///
    /// # Errors
    ///
    /// It is no backup, and what was stored of it is removed; where it can be listed nevertheless, since that failed too, the error says so. That
    /// is also so when what it [adopts](Catalog::adopt) became that of another backup meanwhile
    /// ([`AlreadyExists`](ErrorKind::AlreadyExists)), and when somebody has taken it for what a killed run had left behind
    /// ([`Incomplete`](ErrorKind::Incomplete)).
    pub async fn publish(self, manifest: Manifest) -> Result<Manifest, Error> {
        let Self { catalog, id, objects, heartbeat, known } = self;
        if heartbeat.is_none() {
            // What is adopted lies elsewhere, so nothing was claimed yet.
            catalog.claim(&id).await?;
        }
        let prepared = async {
            if let Some(heartbeat) = heartbeat {
                heartbeat.stop().await?;
            }
            catalog.prepare(&id, objects, manifest).await
        };
        let (manifest, json) = match prepared.await {
            Ok(prepared) => prepared,
            Err(e) => {
                // It has no manifest, so if something stays, the next clean-up removes it.
                let _ = catalog.remove_unpublished(&id).await;
                return Err(e);
            }
        };
        let put = catalog.backend.put_if_absent(&catalog.manifest_of(&id), json.into()).await;
        let published = match put {
            Ok(()) => catalog.confirm(&id, &manifest, &known).await,
            // Our claim was cleaned up, and somebody else has made a backup under the same ID, which stays.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(e),
            // It can be there all the same.
            Err(e) => Err(e),
        };
        match published {
            Ok(()) => Ok(manifest),
            Err(e) => Err(catalog.withdraw(&id, e).await),
        }
    }

    /// Removes what was stored of it; what it was to [adopt](Catalog::adopt) stays.
    ///
    /// # Errors
    ///
    /// Some of it is still there.
    pub async fn abort(self) -> Result<(), Error> {
        let Some(heartbeat) = self.heartbeat else { return Ok(()) };
        // Whoever has cleaned it up may have left something.
        let _ = heartbeat.stop().await;
        self.catalog.remove_unpublished(&self.id).await.map(drop)
    }
}

impl Catalog {
    /// All that comes before the manifest of a backup, and how that is written.
    async fn prepare(
        &self,
        id: &BackupId,
        objects: Vec<StoredObject>,
        mut manifest: Manifest,
    ) -> Result<(Manifest, Vec<u8>), Error> {
        manifest.objects = objects;
        let key = self.manifest_of(id);
        let fail = |why: String| Error::new(ErrorKind::Other, "write", key.as_str(), why);
        manifest.sealed = None;
        let mut written = manifest.clone();
        if let Some(recipients) = &self.keys.recipients {
            let content = serde_json::to_vec(&Content::take(&mut written)).map_err(|e| fail(e.to_string()))?;
            written.sealed = Some(recipients.seal(&content).map_err(|e| fail(e.to_string()))?);
        }
        let json = serde_json::to_vec_pretty(&written).map_err(|e| fail(e.to_string()))?;
        // What is written can be read.
        if json.len() as u64 > MANIFEST_BYTES {
            return Err(fail(format!("it has {} bytes, more than any can have", json.len())));
        }
        Manifest::parse(&json, id).map_err(|why| fail(format!("the manifest {why}")))?;
        self.expect_stored(id, &manifest).await?;
        // The manifest is the last thing that is written, also where it is signed.
        if let Some(key) = &self.keys.signing {
            let signature = key.sign(&json).map_err(|why| fail(format!("it cannot be signed: {why}")))?;
            self.backend.put_if_absent(&self.signature_of(id), signature.into()).await?;
        }
        Ok((manifest, json))
    }

    /// That a manifest which was just written makes it a backup.
    async fn confirm(&self, id: &BackupId, manifest: &Manifest, known: &BTreeSet<BackupId>) -> Result<(), Error> {
        // See `remove_unpublished`. When it cannot be asked, nobody knows, which is not enough.
        if self.backend.stat(&self.claim_of(id)).await?.is_none() {
            return Err(self.cleaned_up(id));
        }
        self.expect_not_adopted_twice(id, manifest, known).await?;
        // If they stay, they go with the backup.
        for key in [self.claim_of(id), self.heartbeat_of(id)] {
            let _ = self.backend.delete(&key).await;
        }
        Ok(())
    }

    /// Removes what has a manifest of ours and is no backup, and tells why. What it has adopted stays: that can be another's.
    async fn withdraw(&self, id: &BackupId, error: Error) -> Error {
        match self.backend.delete(&self.manifest_of(id)).await {
            Ok(()) => {
                // If something stays, the next clean-up removes it.
                let _ = self.remove_objects(id).await;
                error
            }
            Err(e) => {
                let why = format!("{error}. It may be listed nevertheless, since its manifest cannot be removed: {e}");
                Error::new(error.kind(), "publish", self.folder_of(id).as_str(), why)
            }
        }
    }

    /// That everything which a manifest is about to name is there. What took longer than others give it may have been cleaned up.
    async fn expect_stored(&self, id: &BackupId, manifest: &Manifest) -> Result<(), Error> {
        for object in &manifest.objects {
            let key = self.key_of(id, object)?;
            let stored = self.backend.stat(&key).await?;
            if stored.is_none_or(|stored| stored.bytes != object.bytes) {
                let why = "somebody has removed or changed it since it was stored";
                return Err(Error::new(ErrorKind::Incomplete, "publish", key.as_str(), why));
            }
        }
        Ok(())
    }
}

/// An object of a backup that is being written.
#[derive(Debug)]
pub struct NewObject {
    upload: Box<dyn Upload>,
    key: Key,
    name: String,
    stored: Digest,
    /// And what went into it.
    encrypting: Option<(Encrypting, Digest)>,
    pulse: Option<Pulse>,
}

impl NewObject {
    /// Writes the next bytes.
    ///
    /// # Errors
    ///
    /// They could not be written; or somebody has taken the backup for what a killed run had left behind
    /// ([`Incomplete`](ErrorKind::Incomplete)).
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.expect_pulse()?;
        let Some((encrypting, plain)) = &mut self.encrypting else { return self.store(piece).await };
        plain.update(&piece);
        let piece = encrypting.push(&piece).map_err(|e| self.not_encrypted(e))?;
        if piece.is_empty() { Ok(()) } else { self.store(piece).await }
    }

    fn expect_pulse(&self) -> Result<(), Error> {
        self.pulse.as_ref().map_or(Ok(()), Pulse::check)
    }

    async fn store(&mut self, piece: Bytes) -> Result<(), Error> {
        self.stored.update(&piece);
        self.upload.write(piece).await
    }

    fn not_encrypted(&self, error: std::io::Error) -> Error {
        Error::new(ErrorKind::Other, "encrypt", self.key.as_str(), error.to_string()).with_cause(error)
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
