//! Objects that are there already, and become backups where they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{BackupId, Catalog, Listing, NewBackup, is_reserved};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::manifest::{Manifest, StoredObject};

/// Whether what lies there, seen from the folder of a catalog, can be adopted. What lies in the folder of a backup, of this
/// catalog or of one below it, is that backup's.
pub(crate) fn is_adoptable(path: &str) -> bool {
    path.parse::<Key>().is_ok() && !path.split('/').any(|part| part.parse::<BackupId>().is_ok())
}

/// Whether one of the folders that it lies in is that of a backup.
pub(super) fn is_in_backup(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(folders, _)| folders.split('/').any(|part| part.parse::<BackupId>().is_ok()))
}

impl Catalog {
    /// Begins a backup of which an object is a part that is there already: one of [`Listing::foreign`]. It
    /// stays where it is; only a manifest will be written. It is read once, and each piece is shown to `take`, which is to find out whether
    /// it is a whole backup of what it should be.
    ///
    /// What is in `known`, which was [listed](Self::list) before, is not read again: whoever adopts many adds each of them to its
    /// backups. What others have adopted since then is looked for when the backup is [published](NewBackup::publish).
    ///
    /// In a catalog that encrypts, the object stays as it is, and [`StoredObject::encryption`] says so.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use storage_backends::local::Local;
    /// use storage_backends::{BackupId, Catalog, Manifest};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// # let volume = tempfile::tempdir()?;
    /// # let volume = volume.path();
    /// # std::fs::write(volume.join("store.dump_20240310-230003"), "PGDMP")?;
    /// let catalog = Catalog::at_root(Arc::new(Local::open(volume)?));
    /// let listing = catalog.list().await?;
    /// let dump = &listing.foreign[0];
    /// assert_eq!(dump.as_str(), "store.dump_20240310-230003");
    ///
    /// let begun = "2024-03-10T23:00:03+01:00".parse()?;
    /// let id = BackupId::at(begun).and_then(|id| listing.free_id(id)).ok_or("the year has more than four digits")?;
    /// let mut read = 0;
    /// let backup = catalog.adopt(id, dump, &listing, async |piece| Ok(read += piece.len())).await?;
    /// let manifest = Manifest::new(backup.id(), "store", begun);
    /// assert!(backup.publish(manifest).await?.is_adopted());
    /// assert_eq!(catalog.list().await?.foreign, []);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`InvalidKey`](ErrorKind::InvalidKey): it does not lie in the folder of the catalog, or lies in that of a backup.
    /// - [`AlreadyExists`](ErrorKind::AlreadyExists): it is part of another backup already, or something has that ID.
    /// - [`Incomplete`](ErrorKind::Incomplete): it was changed while it was read.
    /// - It cannot be read, or `take` fails.
    pub async fn adopt(
        &self,
        id: BackupId,
        key: &Key,
        known: &Listing,
        mut take: impl AsyncFnMut(Bytes) -> Result<(), Error>,
    ) -> Result<NewBackup, Error> {
        let refuse = |kind, why: &str| Error::new(kind, "adopt", key.as_str(), why);
        let invalid = |why| refuse(ErrorKind::InvalidKey, why);
        let path = self.path_of(key).ok_or_else(|| invalid("it does not lie in the folder of the catalog"))?;
        self.adoptable(path)?;
        if is_reserved(key.name()) {
            return Err(invalid("a manifest or its signature has such a name"));
        }
        let mut backup = self.begin_without_claim(id).await?;
        backup.known = known.ids();
        let is_owner = |(_, manifest): &&(BackupId, Manifest)| self.adopted_keys(manifest).contains(key);
        if let Some((owner, _)) = known.backups.iter().find(is_owner) {
            return Err(refuse(ErrorKind::AlreadyExists, &format!("the backup `{owner}` is made of it already")));
        }
        let before = self.backend.stat(key).await?;
        let mut found = self.backend.get(key, None).await?;
        let mut digest = Digest::default();
        while let Some(piece) = found.content.try_next().await? {
            digest.update(&piece);
            take(piece).await?;
        }
        let (bytes, sha256) = digest.finish();
        let after = self.backend.stat(key).await?;
        if before != after || after.is_none_or(|after| after.bytes != bytes) {
            return Err(refuse(ErrorKind::Incomplete, "it was changed while it was read"));
        }
        let mut object = StoredObject::new(key.name().to_owned(), bytes, sha256);
        object.at = Some(path.to_owned());
        backup.objects.push(object);
        Ok(backup)
    }

    /// The key of what a manifest has adopted, or wants to.
    pub(super) fn adoptable(&self, path: &str) -> Result<Key, Error> {
        let invalid = |why: String| Error::new(ErrorKind::InvalidKey, "use", path, why);
        if !is_adoptable(path) {
            return Err(invalid("it does not lie in the folder of the catalog, or lies in that of a backup".into()));
        }
        self.below(path).map_err(|e| invalid(e.to_string()))
    }

    /// What a backup has adopted.
    pub(super) fn adopted_keys(&self, manifest: &Manifest) -> Vec<Key> {
        let paths = manifest.objects.iter().filter_map(|object| object.at.as_deref());
        // What cannot be a key here is nothing that is there.
        paths.filter_map(|path| self.adoptable(path).ok()).collect()
    }

    /// What other backups than this one and those that are known have adopted.
    pub(super) async fn adopted_by_others(
        &self,
        id: &BackupId,
        known: &BTreeSet<BackupId>,
    ) -> Result<BTreeMap<Key, BackupId>, Error> {
        let mut adopted = BTreeMap::new();
        let mut ids = self.survey().await?.with_manifest;
        ids.retain(|other, _| other != id && !known.contains(other));
        let mut manifests = pin!(self.manifests(ids));
        while let Some((other, manifest)) = manifests.next().await {
            match manifest {
                Ok(Ok(manifest)) => {
                    adopted.extend(self.adopted_keys(&manifest).into_iter().map(|key| (key, other.clone())));
                }
                Ok(Err(_)) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(adopted)
    }

    /// That no other manifest names the same object as one that was just written. Of two that are written at the same time,
    /// at least one sees the other.
    /// Those that are known have adopted something else, and manifests never change.
    pub(super) async fn expect_not_adopted_twice(
        &self,
        id: &BackupId,
        manifest: &Manifest,
        known: &BTreeSet<BackupId>,
    ) -> Result<(), Error> {
        let keys = self.adopted_keys(manifest);
        if keys.is_empty() {
            return Ok(());
        }
        let others = self.adopted_by_others(id, known).await?;
        let Some((key, owner)) = keys.iter().find_map(|key| others.get_key_value(key)) else { return Ok(()) };
        let why = format!("the backup `{owner}` is made of it already");
        Err(Error::new(ErrorKind::AlreadyExists, "adopt", key.as_str(), why))
    }
}
