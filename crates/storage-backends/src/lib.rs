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
//! # Copies of buckets
//!
//! `mirror`, with the feature `s3`, copies whole buckets with all that belongs to their objects, to folders, to other buckets and back,
//! and proves that a copy is exact.
//!
//! Without a runtime, a [`Folder`](local::Folder) does the same for files.

mod backend;
mod catalog;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod key;
pub mod local;
mod manifest;
#[cfg(feature = "s3")]
pub mod mirror;
#[cfg(feature = "s3")]
pub mod s3;

pub use backend::{Backend, Download, Existing, ObjectInfo, Upload};
pub use catalog::{BackupId, Catalog, InvalidBackupId, Listing, NewBackup, NewObject};
pub use error::{Error, ErrorKind};
pub use key::{InvalidKey, Key};
pub use manifest::{MANIFEST_VERSION, Manifest, StoredObject, TableContent, Verification};
