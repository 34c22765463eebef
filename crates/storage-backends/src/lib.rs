//! Places to keep backups in, all of which behave alike ([`Backend`]): a folder of this machine ([`local`]), or a
//! bucket (`s3`, with the feature of that name).
//!
//! An object is there with all of its bytes, or not at all: it is written under a temporary name and gets its own when
//! it is complete and on the disk, in one step. So a name that looks like a backup is one, whatever was killed or ran full.
//!
//! ```
//! use futures_util::TryStreamExt as _;
//! use storage_backends::local::Local;
//! use storage_backends::{Backend, Existing, Key};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let volume = tempfile::tempdir()?;
//! # let volume = volume.path();
//! let vault = Local::open(volume)?;
//! let key: Key = "weekly/store.dump_20240310-230003".parse()?;
//! let mut backup = vault.put(&key, Existing::Keep).await?;
//! backup.write("PGDMP".into()).await?;
//! assert!(vault.stat(&key).await?.is_none());
//!
//! backup.commit().await?;
//! let found = vault.get(&key, None).await?;
//! assert_eq!(found.content.try_collect::<Vec<_>>().await?.concat(), b"PGDMP");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Backups
//!
//! A [`Catalog`] keeps the backups of a job in a backend: their objects, and a [`Manifest`] that is written last. What has no
//! manifest is no backup.
//!
//! A catalog can encrypt all that it stores, in the format of [age](https://age-encryption.org), for recipients of whom each can read it,
//! and sign its manifests with a key of `ssh-keygen`, so that a forged backup is not taken for one:
//!
//! ```
//! # #[cfg(all(feature = "encryption", feature = "signing"))]
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! # use age::secrecy::ExposeSecret as _;
//! # use ssh_key::{LineEnding, PrivateKey, private::Ed25519Keypair};
//! use std::sync::Arc;
//! use storage_backends::local::Local;
//! use storage_backends::{Catalog, Identities, Manifest, Recipients, SigningKey, TrustedKeys};
//!
//! # let volume = tempfile::tempdir()?;
//! # let volume = volume.path();
//! # let key = age::x25519::Identity::generate();
//! # let (recipients_txt, key_txt) = (key.to_public().to_string(), key.to_string());
//! # let key_txt = key_txt.expose_secret();
//! # let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
//! # let (id_ed25519, id_ed25519_pub) = (key.to_openssh(LineEnding::LF).unwrap(), key.public_key().to_openssh().unwrap());
//! let vault = Catalog::new(Arc::new(Local::open(volume)?), "nightly".parse()?)?;
//! // Whoever makes backups needs no secret but the one for signing.
//! let writing = vault
//!     .clone()
//!     .with_encryption(Recipients::parse(&recipients_txt)?)
//!     .with_signing(SigningKey::parse(&id_ed25519)?);
//! let mut backup = writing.begin("20261121T230004Z".parse()?).await?;
//! let mut dump = backup.object("store.dump").await?;
//! dump.write("PGDMP".into()).await?;
//! backup.add(dump).await?;
//! let mut manifest = Manifest::new(backup.id(), "store", "2026-11-21T23:00:04Z".parse()?);
//! manifest.tenants = vec!["e10001eb-6272-453a-bb43-3dcf0e765892".to_owned()];
//! backup.publish(manifest).await?;
//!
//! // Without a key it can be listed, and seen to be as it was written.
//! let trusting = vault.with_trusted_keys(TrustedKeys::parse(&id_ed25519_pub)?);
//! let (id, manifest) = &trusting.list().await?.backups[0];
//! assert!(manifest.is_sealed() && manifest.tenants.is_empty());
//! trusting.check(id, &manifest.objects[0]).await?;
//!
//! let reading = trusting.with_identities(Identities::parse(key_txt)?);
//! let (id, manifest) = &reading.list().await?.backups[0];
//! assert_eq!(manifest.tenants.len(), 1);
//! let mut dump = Vec::new();
//! reading.read(id, &manifest.objects[0], async |piece| Ok(dump.extend_from_slice(&piece))).await?;
//! assert_eq!(dump, b"PGDMP");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Both can be checked without this crate: `age -d -i key.txt store.dump`, and `jq -r .sealed manifest.json | age -d -i key.txt`; and
//! `ssh-keygen -Y verify -f allowed_signers -I backup -n backup-manifest -s manifest.json.sig < manifest.json`, where `allowed_signers` has a
//! line such as `backup ssh-ed25519 AAAA...`.
//!
//! # Copies of buckets
//!
//! `mirror`, with the feature `s3`, copies whole buckets with all that belongs to their objects, to folders, to other buckets and back,
//! and proves that a copy is exact. `bucket_archive` makes one stream of a whole bucket, for a backup, and a bucket of that.
//!
//! # Runtimes
//!
//! All of this needs a runtime of tokio, of any flavour: for making backups one with a timer (`enable_time`), for `s3` with all that it
//! offers (`enable_all`). Without a runtime, a [`Folder`](local::Folder) does the same for files.

mod backend;
#[cfg(feature = "s3")]
pub mod bucket_archive;
mod catalog;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
#[cfg_attr(not(feature = "encryption"), path = "no_encryption.rs")]
mod encryption;
mod error;
mod key;
#[cfg(any(feature = "encryption", feature = "signing"))]
mod key_file;
pub mod local;
mod manifest;
#[cfg(feature = "s3")]
pub mod mirror;
#[cfg(feature = "s3")]
pub mod s3;
mod sealed;
#[cfg_attr(not(feature = "signing"), path = "no_signing.rs")]
mod signing;
mod task;

pub use backend::{Abandoned, Backend, Download, Existing, ObjectInfo, SHORTEST_GRACE_TIME, Upload};
pub use catalog::{BackupId, Catalog, CleanedUp, InvalidBackupId, Listing, NewBackup, NewObject, Removed};
#[cfg(feature = "encryption")]
pub use encryption::{Identities, Recipients};
pub use error::{Error, ErrorKind};
pub use key::{InvalidKey, Key};
#[cfg(any(feature = "encryption", feature = "signing"))]
pub use key_file::KeyFileError;
pub use manifest::{
    Encryption, MANIFEST_VERSION, Manifest, ObjectFormat, Plaintext, StoredObject, TableContent, Verification,
};
#[cfg(feature = "signing")]
pub use signing::{SigningKey, TrustedKeys};
