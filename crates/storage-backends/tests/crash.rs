//! A process that dies at any step: what is there afterwards is a backup or is none.

use std::fs;
use std::ops::Range;
use std::sync::Arc;
#[cfg(feature = "encryption")]
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use storage_backends::local::Local;
use storage_backends::{
    Abandoned, Backend, Catalog, Download, Error, ErrorKind, Existing, Key, Listing, Manifest, ObjectInfo, Upload,
};
use tempfile::TempDir;

use crate::catalog::{HOUR, id, read, remove, time};

const ID: &str = "20240310T220003Z";
const DUMP: &str = "store.dump_20240310-230003";

/// A folder that a process changes, which dies after some steps.
#[derive(Clone, Debug)]
struct Mortal {
    inner: Local,
    left: Arc<AtomicUsize>,
    /// Whether its last step is done when it dies, or not.
    is_done: bool,
}

impl Mortal {
    /// Does a step, if the process is still alive.
    async fn step<T>(&self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let dead = || Error::new(ErrorKind::Other, "go on", "the process", "it is dead");
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Err(_) => Err(dead()),
            Ok(1) if self.is_done => step.await.and_then(|_| Err(dead())),
            Ok(1) => Err(dead()),
            Ok(_) => step.await,
        }
    }
}

#[async_trait]
impl Backend for Mortal {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &Key, existing: Existing) -> Result<Box<dyn Upload>, Error> {
        let upload = self.step(self.inner.put(key, existing)).await?;
        Ok(Box::new(MortalUpload { upload, backend: self.clone() }))
    }

    async fn put_if_absent(&self, key: &Key, content: Bytes) -> Result<(), Error> {
        self.step(self.inner.put_if_absent(key, content)).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Download, Error> {
        self.inner.get(key, range).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, Error> {
        self.inner.stat(key).await
    }

    async fn list(&self, folder: Option<&Key>) -> BoxStream<'_, Result<ObjectInfo, Error>> {
        self.inner.list(folder).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.step(self.inner.delete(key)).await
    }

    async fn remove_abandoned(&self, abandoned: &Abandoned) -> Result<u64, Error> {
        self.inner.remove_abandoned(abandoned).await
    }
}

#[derive(Debug)]
struct MortalUpload {
    upload: Box<dyn Upload>,
    backend: Mortal,
}

#[async_trait]
impl Upload for MortalUpload {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.backend.clone().step(self.upload.write(piece)).await
    }

    async fn commit(self: Box<Self>) -> Result<ObjectInfo, Error> {
        self.backend.clone().step(self.upload.commit()).await
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        self.upload.abort().await
    }
}

/// A catalog of a process that dies after some steps, and one of the process that comes after it.
struct Vault {
    folder: TempDir,
    mortal: Catalog,
    next: Catalog,
}

impl Vault {
    fn new(steps: usize, is_done: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(DUMP), "PGDMP adopted").unwrap();
        let inner = Local::open(folder.path()).unwrap();
        let mortal = Mortal { inner: inner.clone(), left: Arc::new(AtomicUsize::new(steps)), is_done };
        let mortal = protected(Catalog::at_root(Arc::new(mortal)));
        Self { folder, mortal, next: protected(Catalog::at_root(Arc::new(inner))) }
    }

    /// What there is, all of which is good.
    async fn listed(&self) -> Listing {
        let listing = self.next.list().await.unwrap();
        assert!(listing.unreadable.is_empty(), "{listing:?}");
        for (id, manifest) in &listing.backups {
            assert!(!manifest.objects.is_empty() && !manifest.is_sealed());
            for object in &manifest.objects {
                read(&self.next, id.as_str(), object).await.unwrap();
            }
        }
        listing
    }

    fn has_dump(&self) -> bool {
        self.folder.path().join(DUMP).exists()
    }
}

/// With all that this crate was built with.
fn protected(catalog: Catalog) -> Catalog {
    #[cfg(feature = "encryption")]
    let catalog = {
        use age::secrecy::ExposeSecret as _;
        static KEY: LazyLock<age::x25519::Identity> = LazyLock::new(age::x25519::Identity::generate);
        let identities = storage_backends::Identities::parse(KEY.to_string().expose_secret()).unwrap();
        catalog.with_encryption(identities.recipients().unwrap()).with_identities(identities)
    };
    #[cfg(feature = "signing")]
    let catalog = {
        let key = ssh_key::PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(&[1; 32]));
        let key = storage_backends::SigningKey::parse(&key.to_openssh(ssh_key::LineEnding::LF).unwrap()).unwrap();
        let trusted = key.trusted();
        catalog.with_signing(key).with_trusted_keys(trusted)
    };
    catalog
}

async fn make(catalog: &Catalog) -> Result<Manifest, Error> {
    let mut backup = catalog.begin(id(ID)).await?;
    for name in ["store.dump", "globals.sql"] {
        let mut object = backup.object(name).await?;
        object.write(vec![7; 100_000].into()).await?;
        backup.add(object).await?;
    }
    let manifest = Manifest::new(backup.id(), "store", time());
    backup.publish(manifest).await
}

async fn adopt(catalog: &Catalog) -> Result<Manifest, Error> {
    let backup = catalog.adopt(id(ID), &DUMP.parse().unwrap(), &Listing::default(), async |_| Ok(())).await?;
    let manifest = Manifest::new(backup.id(), "store", time());
    backup.publish(manifest).await
}

/// The steps that something takes, at each of which a process dies once before and once after it was done.
async fn at_each_step(mut at: impl AsyncFnMut(Vault) -> Result<(), Error>) {
    for is_done in [false, true] {
        let mut steps = 1;
        while let Err(error) = at(Vault::new(steps, is_done)).await {
            assert!(error.to_string().ends_with("it is dead"), "{error}");
            steps += 1;
            assert!(steps < 100, "it never ends");
        }
        assert!(steps > 1);
    }
}

async fn clean_up(catalog: &Catalog) {
    crate::catalog::clean_up(catalog, HOUR, SystemTime::now() + 2 * HOUR).await;
}

#[tokio::test]
async fn a_backup_that_dies_while_it_is_made_is_none_and_can_be_made_again() {
    at_each_step(async |vault| {
        let made = make(&vault.mortal).await;
        let listing = vault.listed().await;
        assert_eq!(listing.foreign.len(), 1);
        assert!(made.is_err() || listing.backups.len() == 1);
        clean_up(&vault.next).await;
        if listing.backups.is_empty() {
            make(&vault.next).await.unwrap();
        }
        assert_eq!(vault.listed().await.backups.len(), 1);
        made.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_dump_is_there_whenever_its_adoption_dies() {
    at_each_step(async |vault| {
        let adopted = adopt(&vault.mortal).await;
        assert!(vault.has_dump());
        let listing = vault.listed().await;
        assert_eq!(listing.backups.len() + listing.foreign.len(), 1);
        assert!(adopted.is_err() || listing.backups.len() == 1);
        clean_up(&vault.next).await;
        if listing.backups.is_empty() {
            adopt(&vault.next).await.unwrap();
        }
        let listing = vault.listed().await;
        assert!(vault.has_dump() && listing.backups.len() == 1 && listing.foreign.is_empty());
        adopted.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_backup_whose_removal_dies_is_whole_or_none() {
    for is_adopted in [false, true] {
        at_each_step(async |vault| {
            if is_adopted {
                adopt(&vault.next).await.unwrap()
            } else {
                make(&vault.next).await.unwrap()
            };
            let removed = vault.mortal.remove(&id(ID), &Listing::default()).await;
            let removed = removed.and_then(|removed| removed.problems.into_iter().next().map_or(Ok(()), Err));
            let listing = vault.listed().await;
            assert!(removed.is_err() || listing.backups.is_empty());
            assert_eq!(listing.foreign.len() == 1, vault.has_dump() && !(is_adopted && listing.backups.len() == 1));
            if listing.backups.is_empty() {
                clean_up(&vault.next).await;
            } else {
                remove(&vault.next, ID).await;
            }
            // What is left can be adopted again.
            if is_adopted && vault.has_dump() {
                adopt(&vault.next).await.unwrap();
                remove(&vault.next, ID).await;
            }
            let left = fs::read_dir(vault.folder.path()).unwrap().count();
            assert_eq!(left, usize::from(!is_adopted), "all of it is gone, and nothing else");
            removed
        })
        .await;
    }
}
