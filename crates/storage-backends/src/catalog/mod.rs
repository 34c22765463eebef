//! Which backups there are in a place.

mod adopt;
mod heartbeat;
mod id;
mod new_backup;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use crate::backend::{Abandoned, Backend};
use crate::digest::Digest;
use crate::encryption::{Identities, Recipients, Undecryptable};
use crate::error::{Error, ErrorKind};
use crate::key::{InvalidKey, Key};
use crate::manifest::{Encryption, Manifest, StoredObject};
use crate::sealed::Content;
use crate::signing::{SigningKey, TrustedKeys};

pub(crate) use adopt::is_adoptable;
use adopt::is_in_backup;
use heartbeat::Heartbeat;
pub use id::{BackupId, InvalidBackupId};
pub use new_backup::{NewBackup, NewObject};

/// The name of a backup's manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The name of the signature of a manifest; see the feature `signing`.
const SIGNATURE: &str = "manifest.json.sig";
/// The name of what whoever makes a backup puts into its folder first, so that nobody else has the same ID.
const CLAIM: &str = "being-made";
/// The name of what whoever makes a backup writes anew now and then; see the module `heartbeat`.
const HEARTBEAT: &str = "still-being-made";
/// More than any manifest takes: that of 100,000 tables has 20 MB.
const MANIFEST_BYTES: u64 = 256 << 20;
/// How many manifests are fetched at the same time, as stores answer late rather than slowly: as long as all of them together are not
/// longer than one can be.
const MANIFESTS_AT_ONCE: usize = 16;
/// More than any signature has.
const SIGNATURE_BYTES: u64 = 64 << 10;

/// The backups of one job: a folder of a [`Backend`], with a folder in it for each.
///
/// A backup is its objects and a manifest, which is written last and names them all: what has no manifest is no backup, but
/// one that is being made, or rubbish. When a backup is removed, its manifest goes first.
///
/// What else lies in the folder, such as dumps that another program has made, can become backups where it is: see
/// [`adopt`](Self::adopt).
#[derive(Clone, Debug)]
pub struct Catalog {
    backend: Arc<dyn Backend>,
    /// `None` is the whole backend.
    folder: Option<Key>,
    keys: Keys,
}

/// What a catalog encrypts, decrypts, signs and checks signatures with.
#[derive(Clone, Debug, Default)]
struct Keys {
    recipients: Option<Recipients>,
    identities: Option<Identities>,
    signing: Option<SigningKey>,
    trusted: Option<TrustedKeys>,
}

/// What is in the folder of a catalog. An empty one tells nothing.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// The backups, the oldest first.
    pub backups: Vec<(BackupId, Manifest)>,
    /// What has a manifest that cannot be used, or one that names an object which is missing or has another length, and why. It is left
    /// alone.
    pub unreadable: Vec<(BackupId, String)>,
    /// What has no manifest, and when something was written to it last.
    pub incomplete: Vec<(BackupId, SystemTime)>,
    /// Objects that belong to no backup, of this catalog or of one below it, in order; see [`Catalog::adopt`].
    pub foreign: Vec<Key>,
}

impl Listing {
    /// The IDs of the backups.
    fn ids(&self) -> BTreeSet<BackupId> {
        self.backups.iter().map(|(id, _)| id.clone()).collect()
    }

    /// `id`, or the next one that nothing in the listing has; `None` where the years of four digits end.
    #[must_use]
    pub fn free_id(&self, id: BackupId) -> Option<BackupId> {
        let backups = self.backups.iter().map(|(id, _)| id);
        let others = self.unreadable.iter().map(|(id, _)| id).chain(self.incomplete.iter().map(|(id, _)| id));
        let taken: BTreeSet<_> = backups.chain(others).collect();
        let mut free = id;
        while taken.contains(&free) {
            free = free.next()?;
        }
        Some(free)
    }
}

/// What became of what killed runs had left behind; see [`Catalog::clean_up`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CleanedUp {
    /// The IDs of what was removed.
    pub removed: Vec<BackupId>,
    /// Why some of it is still there.
    pub problems: Vec<Error>,
}

/// What became of a backup that was removed; see [`Catalog::remove`].
#[derive(Debug, Default)]
#[must_use]
#[non_exhaustive]
pub struct Removed {
    /// Why some of it is still there, although it is no backup any more.
    pub problems: Vec<Error>,
}

/// What was found in the folder of a catalog, before any manifest was read.
#[derive(Default)]
struct Survey {
    /// With the lengths of the manifests.
    with_manifest: BTreeMap<BackupId, u64>,
    /// With the times at which something was written last.
    without_manifest: BTreeMap<BackupId, SystemTime>,
    /// What is in the folders of both, with lengths.
    objects: BTreeMap<Key, u64>,
    /// What is in no such folder, with lengths.
    others: BTreeMap<Key, u64>,
}

impl Catalog {
    /// The catalog of a job.
    ///
    /// # Errors
    ///
    /// The name of the job is so long that those of its backups would be no keys.
    pub fn new(backend: Arc<dyn Backend>, job: Key) -> Result<Self, InvalidKey> {
        // The ID of any backup is as long as this one, and no name is longer than this one.
        job.join("20261121T230004Z")?.join(SIGNATURE)?;
        Ok(Self { backend, folder: Some(job), keys: Keys::default() })
    }

    /// The catalog of a backend that is for one job alone, whose backups lie at its root.
    ///
    /// So the product's own backup job fills its volume: a catalog at the root of that volume can [adopt](Self::adopt) its dumps.
    #[must_use]
    pub fn at_root(backend: Arc<dyn Backend>) -> Self {
        Self { backend, folder: None, keys: Keys::default() }
    }

    /// The same, where everything that is stored is encrypted, for these recipients: the objects, and what of the manifest tells of their
    /// content. What is there already stays as it is.
    ///
    /// Encryption keeps a secret. It does not prove who wrote something: everybody can encrypt for a recipient, and a store can put a
    /// plain backup in the place of an encrypted one. That is what signatures are for.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn with_encryption(mut self, recipients: Recipients) -> Self {
        self.keys.recipients = Some(recipients);
        self
    }

    /// The same, where what was encrypted for one of these can be read.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn with_identities(mut self, identities: Identities) -> Self {
        self.keys.identities = Some(identities);
        self
    }

    /// The same, where every manifest is signed. The signature is an object `manifest.json.sig` beside it, in the format of `ssh-keygen -Y
    /// sign` with the namespace `backup-manifest`.
    #[cfg(feature = "signing")]
    #[must_use]
    pub fn with_signing(mut self, key: SigningKey) -> Self {
        self.keys.signing = Some(key);
        self
    }

    /// The same, where only what one of these keys has signed is a backup. What has another manifest is
    /// [unreadable](Listing::unreadable).
    ///
    /// A manifest has the digests of all objects, so none of them can be exchanged either. Whoever can write to the store can
    /// still remove a backup, or bring back one that was removed.
    ///
    /// Backups from before there were signatures can be signed later: `ssh-keygen -Y sign -f KEY -n backup-manifest manifest.json`.
    #[cfg(feature = "signing")]
    #[must_use]
    pub fn with_trusted_keys(mut self, keys: TrustedKeys) -> Self {
        self.keys.trusted = Some(keys);
        self
    }

    /// Where it is, for people.
    #[must_use]
    pub fn location(&self) -> String {
        match &self.folder {
            None => self.backend.location(),
            Some(folder) => format!("{}/{folder}", self.backend.location()),
        }
    }

    /// What there is. What is listed as a backup has all of its objects, of the lengths that its manifest says; whether their bytes are
    /// those too takes reading them ([`check`](Self::check)).
    ///
    /// # Errors
    ///
    /// The place cannot be listed, or a manifest that is there cannot be fetched.
    pub async fn list(&self) -> Result<Listing, Error> {
        let Survey { with_manifest, without_manifest, objects, others } = self.survey().await?;
        let mut listing = Listing { incomplete: without_manifest.into_iter().collect(), ..Listing::default() };
        let length = |key: &Key| objects.get(key).or_else(|| others.get(key)).copied();
        let mut adopted: BTreeMap<Key, BackupId> = BTreeMap::new();
        let mut of_damaged = BTreeSet::new();
        let mut manifests = pin!(self.manifests(with_manifest));
        while let Some((id, manifest)) = manifests.next().await {
            let manifest = match manifest {
                Ok(Ok(manifest)) => manifest,
                Ok(Err(why)) => {
                    listing.unreadable.push((id, why));
                    continue;
                }
                // Removed since it was listed.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let keys = self.adopted_keys(&manifest);
            if let Some(why) = self.damage(&id, &manifest, &length).await? {
                // Perhaps all of it was removed meanwhile: the manifest goes before the objects.
                if self.backend.stat(&self.manifest_of(&id)).await?.is_some() {
                    listing.unreadable.push((id, why));
                    // It is told already, and nobody else can adopt what it names.
                    of_damaged.extend(keys);
                }
                continue;
            }
            if let Some((key, owner)) = keys.iter().find_map(|key| adopted.get_key_value(key)) {
                let why = format!("names `{key}`, of which the backup `{owner}` is made already");
                listing.unreadable.push((id, why));
                continue;
            }
            adopted.extend(keys.into_iter().map(|key| (key, id.clone())));
            listing.backups.push((id, manifest));
        }
        let foreign = others.into_keys().filter(|key| !adopted.contains_key(key) && !of_damaged.contains(key));
        listing.foreign = foreign.collect();
        Ok(listing)
    }

    /// The IDs of all that there is, in order, also of what is no backup. That takes no reading of manifests.
    ///
    /// # Errors
    ///
    /// The place cannot be listed.
    pub async fn ids(&self) -> Result<BTreeSet<BackupId>, Error> {
        let Survey { with_manifest, without_manifest, .. } = self.survey().await?;
        Ok(with_manifest.into_keys().chain(without_manifest.into_keys()).collect())
    }

    /// In what a backup is not what its manifest says, in words that complete "the manifest ...", as far as `length` tells, from a list.
    async fn damage(
        &self,
        id: &BackupId,
        manifest: &Manifest,
        length: &(impl Fn(&Key) -> Option<u64> + Sync),
    ) -> Result<Option<String>, Error> {
        for object in &manifest.objects {
            let name = object.name.escape_debug();
            let missing = || Some(format!("names the object `{name}`, which is missing"));
            // What cannot be a key here is nothing that is there.
            let Ok(key) = self.key_of(id, object) else { return Ok(missing()) };
            if length(&key) == Some(object.bytes) {
                continue;
            }
            // It can have been stored while it was listed, after the list had passed its place.
            match self.backend.stat(&key).await? {
                None => return Ok(missing()),
                Some(stored) if stored.bytes != object.bytes => {
                    let why = format!(
                        "says that the object `{name}` has {} bytes, but it has {}",
                        object.bytes, stored.bytes
                    );
                    return Ok(Some(why));
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }

    async fn survey(&self) -> Result<Survey, Error> {
        let mut survey = Survey::default();
        let mut objects = self.backend.list(self.folder.as_ref()).await;
        while let Some(object) = objects.try_next().await? {
            let Some(path) = self.path_of(&object.key) else { continue };
            match path.split_once('/').and_then(|(id, name)| Some((id.parse().ok()?, name))) {
                // Of a backup of a catalog below this one.
                None if is_in_backup(path) => continue,
                None => drop(survey.others.insert(object.key, object.bytes)),
                Some((id, MANIFEST)) => drop(survey.with_manifest.insert(id, object.bytes)),
                Some((id, _)) => {
                    let last = survey.without_manifest.entry(id).or_insert(object.modified);
                    *last = object.modified.max(*last);
                    survey.objects.insert(object.key, object.bytes);
                }
            }
        }
        survey.without_manifest.retain(|id, _| !survey.with_manifest.contains_key(id));
        Ok(survey)
    }

    /// The manifests of these backups, of those lengths, in the order of their IDs; see [`manifest`](Self::manifest).
    fn manifests(
        &self,
        lengths: BTreeMap<BackupId, u64>,
    ) -> impl Stream<Item = (BackupId, Result<Result<Manifest, String>, Error>)> + Send {
        let permits =
            |bytes: u64| u32::try_from(bytes.min(MANIFEST_BYTES).div_ceil(1024)).expect("it is at most 256 Ki");
        let memory = Arc::new(Semaphore::new(permits(MANIFEST_BYTES) as usize));
        // In order: one that is waited for has its memory before all that come after it.
        let reserve = move |(id, bytes)| {
            let memory = Arc::clone(&memory);
            async move { (id, memory.acquire_many_owned(permits(bytes)).await.expect("nobody closes it")) }
        };
        let read = move |(id, held)| async move {
            let manifest = self.manifest(&id).await;
            (id, manifest, held)
        };
        // Until somebody has it, it is in memory.
        let read = stream::iter(lengths).then(reserve).map(read).buffered(MANIFESTS_AT_ONCE);
        read.map(|(id, manifest, _held)| (id, manifest))
    }

    /// The manifest of a backup; the inner error says why it cannot be used.
    async fn manifest(&self, id: &BackupId) -> Result<Result<Manifest, String>, Error> {
        let found = self.backend.get(&self.manifest_of(id), Some(0..MANIFEST_BYTES)).await?;
        if found.info.bytes > MANIFEST_BYTES {
            return Ok(Err(format!("has {} bytes, more than any can have", found.info.bytes)));
        }
        let json = found.content.try_collect::<Vec<Bytes>>().await?.concat();
        if let Some(trusted) = &self.keys.trusted
            && let Err(why) = self.verify(trusted, id, &json).await?
        {
            return Ok(Err(why));
        }
        Ok(Manifest::parse(&json, id).and_then(|manifest| self.unseal(manifest)))
    }

    /// Whether a manifest is signed by somebody who is trusted; the inner error says why not.
    async fn verify(&self, trusted: &TrustedKeys, id: &BackupId, json: &[u8]) -> Result<Result<(), String>, Error> {
        let found = match self.backend.get(&self.signature_of(id), Some(0..SIGNATURE_BYTES)).await {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Perhaps all of it was removed meanwhile.
                return match self.backend.stat(&self.manifest_of(id)).await? {
                    None => Err(e),
                    Some(_) => Ok(Err("is not signed".to_owned())),
                };
            }
            Err(e) => return Err(e),
        };
        if found.info.bytes > SIGNATURE_BYTES {
            return Ok(Err(format!("has a signature of {} bytes, more than any can have", found.info.bytes)));
        }
        let signature = found.content.try_collect::<Vec<Bytes>>().await?.concat();
        Ok(trusted.verify(json, &signature))
    }

    /// Decrypts what tells of the content, if that is sealed and there is a key for it.
    fn unseal(&self, mut manifest: Manifest) -> Result<Manifest, String> {
        let (Some(sealed), Some(identities)) = (&manifest.sealed, &self.keys.identities) else { return Ok(manifest) };
        match identities.open(sealed) {
            Ok(json) => {
                let content: Content =
                    serde_json::from_slice(&json).map_err(|e| format!("has a sealed part that cannot be read: {e}"))?;
                manifest.sealed = None;
                content.put(&mut manifest)?;
                Ok(manifest)
            }
            // Keys change, and old backups are still there.
            Err(Undecryptable::NoKey) => Ok(manifest),
            Err(Undecryptable::Damaged(why)) => Err(format!("has a sealed part that cannot be decrypted: {why}")),
        }
    }

    /// Begins a backup. Nobody sees it before [`NewBackup::publish`]. Until then a task tells those who clean up, every 15 minutes, that it is
    /// still being made.
    ///
    /// # Errors
    ///
    /// There is something under that ID already, or nothing can be stored.
    ///
    /// # Panics
    ///
    /// In a runtime without a timer.
    pub async fn begin(&self, id: BackupId) -> Result<NewBackup, Error> {
        let mut backup = self.begin_without_claim(id).await?;
        self.claim(&backup.id).await?;
        backup.heartbeat = Some(Heartbeat::start(self.clone(), backup.id.clone()));
        Ok(backup)
    }

    /// Says that a backup is being made: of two that begin one in the same second, the one that fails later must not remove what the other
    /// has stored.
    async fn claim(&self, id: &BackupId) -> Result<(), Error> {
        let claim = Bytes::from_static(b"A backup is being made here, or was: without manifest.json it is none.\n");
        self.backend.put_if_absent(&self.claim_of(id), claim).await
    }

    /// A backup of which nothing will be stored but the manifest.
    async fn begin_without_claim(&self, id: BackupId) -> Result<NewBackup, Error> {
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
        Ok(NewBackup { catalog: self.clone(), id, objects: Vec::new(), heartbeat: None, known: BTreeSet::new() })
    }

    /// Removes a backup: first its manifest, so that nothing that is incomplete is taken for one. An object that it has
    /// [adopted](Self::adopt) is removed too, where it lies, unless another manifest names it as well.
    ///
    /// What is in `known`, which was [listed](Self::list) before, is not read again: for whoever removes many.
    ///
    /// # Errors
    ///
    /// It is still there. Once its manifest is gone it is no backup any more, and what is left of it is [told](Removed::problems).
    pub async fn remove(&self, id: &BackupId, known: &Listing) -> Result<Removed, Error> {
        let adopted = match known.backups.iter().find(|(other, _)| other == id) {
            Some((_, manifest)) => self.adopted_keys(manifest),
            None => match self.manifest(id).await {
                Ok(Ok(manifest)) => self.adopted_keys(&manifest),
                // What a manifest names that cannot be used is not known to be its own.
                Ok(Err(_)) => Vec::new(),
                Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
                Err(e) => return Err(e),
            },
        };
        let manifest = self.manifest_of(id);
        if let Err(e) = self.backend.delete(&manifest).await {
            // It can be gone all the same.
            if !matches!(self.backend.stat(&manifest).await, Ok(None)) {
                return Err(e);
            }
        }
        let mut removed = Removed::default();
        removed.problems.extend(self.remove_objects(id).await.err());
        removed.problems.extend(self.remove_adopted(id, adopted, known).await.err());
        Ok(removed)
    }

    /// Removes what a backup had adopted that is none any more.
    async fn remove_adopted(&self, id: &BackupId, mut adopted: Vec<Key>, known: &Listing) -> Result<(), Error> {
        if adopted.is_empty() {
            return Ok(());
        }
        for (_, manifest) in known.backups.iter().filter(|(other, _)| other != id) {
            let kept = self.adopted_keys(manifest);
            adopted.retain(|key| !kept.contains(key));
        }
        let others = self.adopted_by_others(id, &known.ids()).await?;
        for key in adopted.iter().filter(|key| !others.contains_key(key)) {
            self.backend.delete(key).await?;
        }
        Ok(())
    }

    /// Removes what lies in the folder of what is no backup. False if it is one by now, all of which stays.
    ///
    /// It may become one at this very moment. Whoever [publishes](NewBackup::publish) writes the manifest and then looks whether the claim
    /// is still there; we remove the claim and then look whether the manifest is there. If we do not see the manifest, it is
    /// written after we have removed the claim, so the other one finds no claim, withdraws, and says that there is no backup.
    /// If the other one sees its claim, we remove that after the manifest was written, so we see the manifest, and stop. At worst
    /// both see each other: then nobody removes anything but who withdraws, and the backup has to be made again.
    ///
    /// That holds however many clean up at the same time: all of them do both in the same order. Whoever is killed in between changes none of
    /// it either. If it is who was to withdraw, a manifest can stay whose objects we have
    /// removed: [`list`](Self::list) tells that some are missing, and it counts for nothing.
    ///
    /// For that the claim must never come back, which is why [`Heartbeat`] is another object.
    async fn remove_unpublished(&self, id: &BackupId) -> Result<bool, Error> {
        self.backend.delete(&self.claim_of(id)).await?;
        if self.backend.stat(&self.manifest_of(id)).await?.is_some() {
            return Ok(false);
        }
        // With a manifest that is written from now on: it will be withdrawn, or has lost who would do that. Not what it has adopted.
        self.remove_folder(id).await?;
        Ok(true)
    }

    /// What whoever makes a backup is told when somebody else has taken it for rubbish.
    fn cleaned_up(&self, id: &BackupId) -> Error {
        let why = "somebody has cleaned it up while it was being made, as what a killed run had left behind";
        Error::new(ErrorKind::Incomplete, "make the backup", self.folder_of(id).as_str(), why)
    }

    /// Removes the manifest of a backup, and then what lies in its folder.
    async fn remove_folder(&self, id: &BackupId) -> Result<(), Error> {
        self.backend.delete(&self.manifest_of(id)).await?;
        self.remove_objects(id).await
    }

    /// Removes what lies in the folder of what is no backup.
    async fn remove_objects(&self, id: &BackupId) -> Result<(), Error> {
        let objects: Vec<_> = self.backend.list(Some(&self.folder_of(id))).await.try_collect().await?;
        for object in objects {
            self.backend.delete(&object.key).await?;
        }
        Ok(())
    }

    /// Removes what is no backup and to which nothing was written for `age` before `now`, and what uploads for backups of this catalog left
    /// behind. An `age` of less than the [`SHORTEST_GRACE_TIME`](crate::SHORTEST_GRACE_TIME) is taken for that. What cannot be removed stays, and
    /// is [told](CleanedUp::problems): rubbish takes room, but is no reason to make no backup.
    ///
    /// # Errors
    ///
    /// The place cannot be listed.
    pub async fn clean_up(&self, age: Duration, now: SystemTime) -> Result<CleanedUp, Error> {
        let without_manifest = self.survey().await?.without_manifest;
        let mut cleaned = CleanedUp::default();
        let (catalog, written) = (self.clone(), without_manifest.clone());
        // Only what is in the folder of a backup, and not of one that is still being made: a part that waits for the next piece of a
        // dump can be older than its heartbeat.
        let is_old = Abandoned::new(age, now, |_| false);
        let abandoned = Abandoned::new(age, now, move |folder| {
            let Some(id) = folder.and_then(|folder| catalog.id_of_folder(folder)) else { return false };
            written.get(&id).is_none_or(|written| is_old.is_old(*written))
        });
        cleaned.problems.extend(self.backend.remove_abandoned(&abandoned).await.err());
        for (id, written) in without_manifest {
            if abandoned.is_old(written) {
                match self.remove_unpublished(&id).await {
                    Ok(true) => cleaned.removed.push(id),
                    Ok(false) => {}
                    Err(e) => cleaned.problems.push(e),
                }
            }
        }
        Ok(cleaned)
    }

    /// Reads an object of a backup, decrypts it if it is encrypted, shows each piece to `take`, and compares it with the manifest.
    ///
    /// # Errors
    ///
    /// - [`Incomplete`](ErrorKind::Incomplete): it is not what the manifest says, or cannot be decrypted. What `take` has until then
    ///   is not to be used.
    /// - [`Encrypted`](ErrorKind::Encrypted): it is encrypted, and there is no key for it; see
    ///   `with_identities`.
    /// - It cannot be read, or `take` fails.
    pub async fn read(
        &self,
        id: &BackupId,
        object: &StoredObject,
        mut take: impl AsyncFnMut(Bytes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let key = self.key_of(id, object)?;
        let wrong = |why| damaged(&key, why);
        let undecryptable = |why| match why {
            Undecryptable::NoKey => {
                let why = "it is encrypted, and none of the keys given is one of those that it is for";
                Error::new(ErrorKind::Encrypted, "decrypt", key.as_str(), why)
            }
            Undecryptable::Damaged(why) => wrong(format!("it cannot be decrypted: {why}")),
        };
        let mut decrypting = match (object.encryption, &self.keys.identities) {
            (None, _) => None,
            (Some(Encryption::Age), Some(identities)) => Some(identities.decrypt()),
            (Some(Encryption::Age), None) if cfg!(feature = "encryption") => {
                let why = "it is encrypted, and no key was given";
                return Err(Error::new(ErrorKind::Encrypted, "decrypt", key.as_str(), why));
            }
            (Some(Encryption::Age), None) => {
                let why = "it is encrypted, and this program was built without the feature `encryption`";
                return Err(Error::new(ErrorKind::NotSupported, "decrypt", key.as_str(), why));
            }
        };
        let mut found = self.backend.get(&key, None).await?;
        let (mut stored, mut plain) = (Digest::default(), Digest::default());
        while let Some(piece) = found.content.try_next().await? {
            stored.update(&piece);
            let piece = match &mut decrypting {
                None => piece,
                Some(decrypting) => decrypting.push(&piece).map_err(undecryptable)?,
            };
            if !piece.is_empty() {
                plain.update(&piece);
                take(piece).await?;
            }
        }
        if let Some(decrypting) = decrypting {
            let piece = decrypting.finish().map_err(undecryptable)?;
            if !piece.is_empty() {
                plain.update(&piece);
                take(piece).await?;
            }
        }
        stored.compare(object.bytes, &object.sha256).map_err(wrong)?;
        match &object.plaintext {
            None => Ok(()),
            Some(plaintext) => plain.compare(plaintext.bytes, &plaintext.sha256).map_err(wrong),
        }
    }

    /// Reads an object of a backup and compares what is stored with the manifest. That takes no key, and proves nothing about what is
    /// in an encrypted one.
    ///
    /// # Errors
    ///
    /// It is not what the manifest says ([`Incomplete`](ErrorKind::Incomplete)); or it cannot be read.
    pub async fn check(&self, id: &BackupId, object: &StoredObject) -> Result<(), Error> {
        let key = self.key_of(id, object)?;
        let mut found = self.backend.get(&key, None).await?;
        let mut stored = Digest::default();
        while let Some(piece) = found.content.try_next().await? {
            stored.update(&piece);
        }
        stored.compare(object.bytes, &object.sha256).map_err(|why| damaged(&key, why))
    }

    /// Where an object of a backup lies.
    fn key_of(&self, id: &BackupId, object: &StoredObject) -> Result<Key, Error> {
        let invalid = |e: InvalidKey| Error::new(ErrorKind::InvalidKey, "read", &object.name, e.to_string());
        match &object.at {
            Some(path) => self.adoptable(path),
            // A manifest can name what is too long below this folder.
            None => self.folder_of(id).join(&object.name).map_err(invalid),
        }
    }

    /// The key of what is in the folder.
    fn below(&self, path: &str) -> Result<Key, InvalidKey> {
        match &self.folder {
            None => path.parse(),
            Some(folder) => folder.join(path),
        }
    }

    /// How something in the folder is called there.
    fn path_of<'k>(&self, key: &'k Key) -> Option<&'k str> {
        match &self.folder {
            None => Some(key.as_str()),
            Some(folder) => key.as_str().strip_prefix(folder.as_str())?.strip_prefix('/'),
        }
    }

    /// The backup in whose folder this one is, or which it is.
    fn id_of_folder(&self, folder: &Key) -> Option<BackupId> {
        self.path_of(folder)?.split('/').next()?.parse().ok()
    }

    fn folder_of(&self, id: &BackupId) -> Key {
        self.below(id.as_str()).expect("`new` has tried an ID of this length")
    }

    fn manifest_of(&self, id: &BackupId) -> Key {
        self.folder_of(id).join(MANIFEST).expect("`new` has tried a longer one")
    }

    fn claim_of(&self, id: &BackupId) -> Key {
        self.folder_of(id).join(CLAIM).expect("`new` has tried a longer one")
    }

    fn heartbeat_of(&self, id: &BackupId) -> Key {
        self.folder_of(id).join(HEARTBEAT).expect("`new` has tried a longer one")
    }

    fn signature_of(&self, id: &BackupId) -> Key {
        self.folder_of(id).join(SIGNATURE).expect("`new` has tried it")
    }
}

/// An object is not what the manifest says.
fn damaged(key: &Key, why: String) -> Error {
    Error::new(ErrorKind::Incomplete, "use", key.as_str(), why).with_hint("use another backup, and make a new one")
}

/// Whether no object of a backup can have that name.
pub(crate) fn is_reserved(name: &str) -> bool {
    matches!(name.split('/').next(), Some(MANIFEST | SIGNATURE | CLAIM | HEARTBEAT))
}
