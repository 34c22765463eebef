//! A whole bucket in one stream of bytes, which can become an object of a backup, and the way back.
//!
//! [`write`](write()) makes one of a bucket, [`Verifying`] proves that one is whole, and [`Restoring`] makes a bucket of it. Each takes bytes as
//! they come, so that they can go to and come from a [`Catalog`](crate::Catalog) without being anywhere in between:
//!
//! ```no_run
//! use storage_backends::bucket_archive::{self, ArchiveOptions, Finished, RestoreOptions, RestoreReport, Restoring};
//! use storage_backends::s3::{S3, S3Config};
//! use storage_backends::{BackupId, Catalog, Error, Manifest, NewBackup};
//!
//! async fn archive(from: S3Config, backup: &mut NewBackup) -> Result<(), Error> {
//!     let bucket = S3::connect(from).await?;
//!     let mut object = backup.object("models.tar").await?;
//!     let report = bucket_archive::write(&bucket, &ArchiveOptions::default(), async |piece| object.write(piece).await).await?;
//!     backup.add(object).await?;
//!     println!("{} objects, {} bytes, digest {}", report.objects, report.bytes, report.sha256);
//!     Ok(())
//! }
//!
//! async fn restore(catalog: &Catalog, id: &BackupId, manifest: &Manifest, to: S3Config) -> Result<RestoreReport, Error> {
//!     let bucket = S3::connect_or_create(to).await?;
//!     let mut restoring = Restoring::begin(&bucket, &RestoreOptions::default()).await?;
//!     loop {
//!         catalog.read(id, &manifest.objects[0], async |piece| restoring.write(piece).await).await?;
//!         match restoring.finish().await? {
//!             Finished::Whole(report) => return Ok(report),
//!             Finished::ReadAgain(again) => restoring = *again,
//!         }
//!     }
//! }
//! ```
//!
//! What belongs to an object is what it is for [`mirror`](crate::mirror): its bytes, its content type (and encoding, language, disposition,
//! cache control), its user metadata and its tags. Access rules, retentions, storage classes, and settings of the bucket are not archived.
//!
//! # What is proven
//!
//! - An object in an archive is one that the bucket had, with all of its bytes: as many as the store said, and with the MD5 that its
//!   `ETag` is (that of an object that was stored in parts, or that the store encrypts, is none). One that is replaced in the meantime
//!   is read as it was before or as it is after. All objects together are not of one moment: a bucket can be changed while it is read.
//! - An object that was removed between being listed and being read is not in the archive, and is counted.
//! - An archive ends with the number of its objects and bytes and a digest of all of them. What is cut or damaged is not taken for
//!   an archive; but keep a digest of your own if somebody could have changed it on purpose.
//! - A restore has succeeded when the bucket lists all objects of the archive, with their lengths; of versions, as many of each object.
//!   What only the bucket has is counted.
//!
//! # Versions
//!
//! With [`ArchiveOptions::versions`] an archive has all versions of each object, the oldest first, and marks where it was removed.
//! Restored in that order, they are the same history with other IDs and times. Where a store tells times in seconds, a version
//! and a removal of the same object in the same second can change their places, unless it is the last one. A request whose answer
//! got lost is sent again: it can make a restored version twice. A restore that was ended then cannot go on in the same bucket, since
//! the history there is not the beginning of that in the archive.
//!
//! # The format
//!
//! A tar in the PAX format, which every `tar` unpacks: an object becomes the file that it is in a folder of [`mirror`](crate::mirror), with
//! the same rules for names that cannot be paths. Its older versions, and marks of its removal, are in `.mirror/versions`. What else an
//! object has is in the extended attribute `user.bucket-object` of the file, as JSON (`SCHILY.xattr.user.bucket-object` in the
//! extended header; `tar --xattrs` unpacks it), and as JSON too are the first header's `comment`, which tells the version of the
//! format, and the last file, `.mirror/archive.json`: the [`ArchiveReport`].

mod check;
mod member;
mod restore;
mod tar;
mod walk;
mod write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use walk::Walk;

pub use restore::{Finished, RestoreOptions, RestoreReport, Restoring};
pub use write::write;

/// The version of the archives, and of the reports in them, that this crate writes.
pub const BUCKET_ARCHIVE_VERSION: u32 = 1;

/// How to archive a bucket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ArchiveOptions {
    /// All versions of each object, and not only the current one.
    pub versions: bool,
    /// How many objects are read at the same time; 8 if not said. Those of up to 1 MiB are read ahead, and larger ones as they
    /// are written.
    pub concurrency: usize,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self { versions: false, concurrency: 8 }
    }
}

/// What is in the archive of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ArchiveReport {
    /// [`BUCKET_ARCHIVE_VERSION`]
    pub version: u32,
    /// Whether it has all versions of each object.
    pub versions: bool,
    /// How many objects; or versions of objects.
    pub objects: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// How many marks that an object was removed.
    pub delete_markers: u64,
    /// How many objects were removed between being listed and being read, so that they are not in it.
    pub vanished: u64,
    /// The SHA-256 of the list of all of them: a line of JSON for each, with its key, its length, the SHA-256 of its bytes, and what
    /// belongs to it. Two archives with the same one are of buckets that were the same.
    pub sha256: String,
}

/// An archive that is being proven to be whole.
#[derive(Debug, Default)]
pub struct Verifying {
    walk: Walk,
}

impl Verifying {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// They are not those of an archive ([`Incomplete`](crate::ErrorKind::Incomplete)), or of one of a newer version
    /// ([`NotSupported`](crate::ErrorKind::NotSupported)).
    pub fn write(&mut self, mut piece: Bytes) -> Result<(), Error> {
        while self.walk.next(&mut piece)?.is_some() {}
        Ok(())
    }

    /// Ends it, and tells what is in it.
    ///
    /// # Errors
    ///
    /// It is not whole.
    pub fn finish(self) -> Result<ArchiveReport, Error> {
        self.walk.finish()
    }
}
