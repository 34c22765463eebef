//! How a backup comes into being.

use bytes::Bytes;

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
    /// Whether what is in its folder is ours.
    pub(super) is_claimed: bool,
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
        let mut object = NewObject { upload, key, name: name.to_owned(), stored: Digest::default(), encrypting: None };
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
    /// It is no backup. That is also so when what it [adopts](Catalog::adopt) became that of another backup meanwhile
    /// ([`AlreadyExists`](ErrorKind::AlreadyExists)).
    pub async fn publish(self, mut manifest: Manifest) -> Result<Manifest, Error> {
        let Self { catalog, id, objects, is_claimed } = self;
        manifest.objects = objects;
        let key = catalog.manifest_of(&id);
        let fail = |why: String| Error::new(ErrorKind::Other, "write", key.as_str(), why);
        manifest.sealed = None;
        let mut written = manifest.clone();
        if let Some(recipients) = &catalog.keys.recipients {
            let content = serde_json::to_vec(&Content::take(&mut written)).map_err(|e| fail(e.to_string()))?;
            written.sealed = Some(recipients.seal(&content).map_err(|e| fail(e.to_string()))?);
        }
        let json = serde_json::to_vec_pretty(&written).map_err(|e| fail(e.to_string()))?;
        // What is written can be read.
        if json.len() as u64 > MANIFEST_BYTES {
            return Err(fail(format!("it has {} bytes, more than any can have", json.len())));
        }
        Manifest::parse(&json, &id).map_err(|why| fail(format!("the manifest {why}")))?;
        catalog.expect_stored(&id, &manifest).await?;
        // The manifest is the last thing that is written, also where it is signed.
        if let Some(key) = &catalog.keys.signing {
            let signature = key.sign(&json).map_err(|why| fail(format!("it cannot be signed: {why}")))?;
            catalog.backend.put_if_absent(&catalog.signature_of(&id), signature.into()).await?;
        }
        catalog.backend.put_if_absent(&key, json.into()).await?;
        catalog.withdraw_if_adopted_twice(&id, &manifest).await?;
        if is_claimed {
            // If it stays, it goes with the backup.
            let _ = catalog.backend.delete(&catalog.claim_of(&id)).await;
        }
        Ok(manifest)
    }

    /// Removes what was stored of it; what it was to [adopt](Catalog::adopt) stays.
    ///
    /// # Errors
    ///
    /// Some of it is still there.
    pub async fn abort(self) -> Result<(), Error> {
        if self.is_claimed { self.catalog.remove_folder(&self.id).await } else { Ok(()) }
    }
}

impl Catalog {
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
}

impl NewObject {
    /// Writes the next bytes.
    ///
    /// # Errors
    ///
    /// They could not be written.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        let Some((encrypting, plain)) = &mut self.encrypting else { return self.store(piece).await };
        plain.update(&piece);
        let piece = encrypting.push(&piece).map_err(|e| self.not_encrypted(e))?;
        if piece.is_empty() { Ok(()) } else { self.store(piece).await }
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
