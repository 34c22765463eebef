//! Copies of buckets: in a folder, in another bucket, and back.
//!
//! [`mirror`] makes one side what the other one is, and [`verify`] proves that it is. An object is its bytes, its content type (and
//! encoding, language, disposition, cache control), its user metadata and its tags. Access rules, retentions and
//! storage classes are not copied, and [versions](MirrorOptions::versions) when asked for.
//!
//! ```no_run
//! use storage_backends::mirror::{Deleted, MirrorOptions, Side, mirror, verify};
//! use storage_backends::s3::{S3, S3Config};
//!
//! # async fn example(config: S3Config) -> Result<(), storage_backends::Error> {
//! let bucket = Side::Bucket(S3::connect(config).await?);
//! let folder = Side::Folder("/backups/models".into());
//! let report = mirror(&bucket, &folder, &MirrorOptions::new(Deleted::Keep)).await?;
//! assert!(report.is_complete(), "{:?}", report.failures);
//! assert!(verify(&bucket, &folder, 8).await?.is_same());
//! # Ok(())
//! # }
//! ```
//!
//! # What is not copied again
//!
//! With each object the target keeps a record: the SHA-256 of its bytes, and what the source's listing said when they were copied
//! (`ETag`, length and time of an object; length, inode, time of modification and of change of a file). An object whose source
//! still says the same is not read. A file that was only touched is read, and not copied if its SHA-256 is the recorded one.
//! An object that was replaced by another one of the same length has another `ETag` or time. Tags that were changed are in no
//! listing; [`Compare`] can ask for more than listings.
//!
//! In a bucket the record is in the metadata `mirror-record` of each copy, which is no part of the object: it is not copied
//! on and not compared. It says `1`, the SHA-256, which is `-` for an object in parts that came from another bucket, the
//! beginning of the SHA-256 of what the source's listing said, and the number of tags. Where the object's own metadata leaves no room for it there
//! is none, and the object is copied each time.
//!
//! # Folders
//!
//! In a folder, an object is a file. Its record, with its content type, metadata and tags, is in the folder `.mirror` at the root:
//! a list in the order of the keys (`index`), and what was added to it since it was written (`journal`), in lines of JSON.
//! A folder without `.mirror` can be mirrored too: its files are objects under their paths, and have nothing but their bytes.
//!
//! An ordinary key is the path of its file. What cannot be a path, or would be another one, is written so:
//!
//! | in a key | in the path |
//! | --- | --- |
//! | a percent sign, a control character | `%25`, `%0A`: as in URLs |
//! | a part that is `.` or `..`, and `.mirror` as the first one | `%2E`, `%2E%2E`, `%2Emirror` |
//! | nothing before, between or behind slashes: `folder/`, `a//b` | `folder/%empty`, `a/%empty/b` |
//! | a part that is too long for a name | pieces of up to 250 bytes, folders with `%more` behind, and the rest |
//! | `a` where there is `a/b` as well | the file `a%object` beside the folder `a`, if that was there first or came later |
//!
//! A key that is nothing but blanks cannot be asked for with the SDK that this is built on: it fails.
//!
//! So every file has one key, and every key one file. A file under a name that this does not make, a link, and a name
//! that is not UTF-8 are told as failures when they are in the source, and left alone in the target.
//!
//! A file is written in `.mirror/staging`, brought to the disk, and then gets its name; the names are brought to the disk
//! before the report is given. Files and folders are for their owner
//! alone (modes 0600 and 0700).
//!
//! # Versions
//!
//! With [`MirrorOptions::versions`] the copy of a bucket has all versions of each object, and the marks of those that were removed, in their
//! order; IDs and times are its own. The record of a version tells which one of the source it is, so what came since the last
//! run is copied, and nothing twice. An object with a history of somebody else fails, and stays as it is. [`verify_versions`] proves
//! that both histories are the same.
//!
//! # When it is killed
//!
//! No object is under its name with a part of its bytes, and the next run copies what is missing: not what is whole. An upload in parts that was
//! killed leaves its parts in the bucket, in no listing of objects; [`S3::unfinished_uploads`] counts them. None is removed here, since a
//! store does not tell which program has begun one: MinIO removes them after a day, and elsewhere a rule of the bucket's life cycle does.
//!
//! A folder has one run at a time that mirrors to it: another one is refused ([`InUse`](ErrorKind::InUse)) while the lock on
//! `.mirror/lock` is held, which ends with the process that has it. Where the file system has no locks, and in buckets, two runs with the
//! same target at the same time are not noticed.

mod folder;
pub(crate) mod history;
mod index;
mod merge;
pub(crate) mod name;
mod place;
mod progress;
pub(crate) mod record;
mod report;
mod run;
mod surplus;
pub(crate) mod verify;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::bucket_archive::{self, ArchiveOptions, ArchiveReport};
use crate::error::{Error, ErrorKind};
use crate::s3::S3;
use folder::Folder;
use place::Place;

pub use progress::Progress;
pub use report::{Count, Difference, DifferenceKind, Failure, MIRROR_REPORT_VERSION, MirrorReport, VerifyReport};

/// Where objects are, or are copied to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Side {
    /// A bucket, or what is below its prefix. [`connect_or_create`](S3::connect_or_create) makes one that is missing.
    Bucket(S3),
    /// A folder that is there.
    Folder(PathBuf),
}

/// What becomes of objects that the target has and the source has not.
///
/// There is no default. They are removed only when the source was listed to its end, has at least one object, and
/// everything it has was copied; and when no backup is among them, which is what has the key `ID/manifest.json` with the
/// [ID](crate::BackupId) of a backup, at the root or below it, unless the source has backups in the same folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// They stay.
    Keep,
    /// They are removed, also if nobody mirrored them there.
    Remove,
}

/// How it is found out whether an object is as it was when it was copied. Each is slower than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// By what listings say of both sides.
    #[default]
    Listing,
    /// Also by the content type, the metadata and the tags of each object, which are asked for.
    Attributes,
    /// Also by all bytes of both sides, which are read.
    Content,
}

/// How to mirror.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MirrorOptions {
    /// What becomes of objects that the source does not have.
    pub deleted: Deleted,
    /// How it is found out what has changed; by listings if not said.
    pub compare: Compare,
    /// How many objects are copied at the same time; 8 if not said. Those that go to a bucket are at most 80 MiB in memory
    /// together, or one upload in parts: so fewer are copied at the same time when they are large.
    pub concurrency: usize,
    /// All versions of each object and the marks of those that were removed, the oldest first; not so if not said. For two buckets,
    /// of which the target is made to keep versions. `compare` is of no meaning then, and what is removed can be had back.
    pub versions: bool,
    /// How far it has come; keep a clone of it to see that.
    pub progress: Progress,
}

impl MirrorOptions {
    /// The usual settings.
    #[must_use]
    pub fn new(deleted: Deleted) -> Self {
        Self { deleted, compare: Compare::default(), concurrency: 8, versions: false, progress: Progress::default() }
    }
}

/// Copies what the target does not have, or has otherwise. A failure with one object is in the report, and the others are
/// copied all the same.
///
/// It can be dropped at any time, and called again then.
///
/// # Errors
///
/// A side cannot be opened, or both are the same. What fails later is in the report, which is not
/// [complete](MirrorReport::is_complete) then.
pub async fn mirror(from: &Side, to: &Side, options: &MirrorOptions) -> Result<MirrorReport, Error> {
    expect_apart(from, to)?;
    let source = open(from, Role::Source).await?;
    let target = open(to, Role::Target).await?;
    if !options.versions {
        return Ok(run::run(source, target, options).await);
    }
    match (source, target) {
        (Place::Bucket(source), Place::Bucket(target)) => Ok(history::run(source, target, options).await),
        (source, _) => {
            let why = "a folder has no versions; a backup of the bucket can have them";
            Err(source.fail(ErrorKind::NotSupported, "mirror the versions of", "", why))
        }
    }
}

/// Reads both sides wholly, and tells in what they are not the same.
///
/// # Errors
///
/// A side cannot be opened or listed. What else cannot be read is a difference.
pub async fn verify(from: &Side, to: &Side, concurrency: usize) -> Result<VerifyReport, Error> {
    let source = open(from, Role::Source).await?;
    let target = open(to, Role::Source).await?;
    verify::verify(&source, &target, concurrency.max(1)).await
}

/// Reads all versions of both buckets wholly. They are the same when the digests of both reports are, and nothing has vanished in
/// between.
///
/// # Errors
///
/// A side is no bucket, or cannot be read.
pub async fn verify_versions(from: &Side, to: &Side, concurrency: usize) -> Result<[ArchiveReport; 2], Error> {
    let mut options = ArchiveOptions::default();
    (options.versions, options.concurrency) = (true, concurrency.max(1));
    let read = async |side: &Side| match side {
        Side::Bucket(bucket) => bucket_archive::write(bucket, &options, async |_piece| Ok(())).await,
        Side::Folder(path) => {
            let why = "a folder has no versions";
            Err(Error::new(ErrorKind::NotSupported, "compare the versions of", path.display().to_string(), why))
        }
    };
    Ok([read(from).await?, read(to).await?])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Source,
    Target,
}

async fn open(side: &Side, role: Role) -> Result<Place, Error> {
    match side {
        Side::Bucket(bucket) => {
            let objects = bucket.objects();
            if role == Role::Target && objects.has_retention() {
                let why = "copies cannot be retained, since changed objects could not be copied again";
                return Err(Error::new(ErrorKind::NotSupported, "mirror to", objects.location(), why));
            }
            Ok(Place::Bucket(objects))
        }
        Side::Folder(path) => {
            let path = path.clone();
            let opened = tokio::task::spawn_blocking(move || match role {
                Role::Source => Folder::open_source(path),
                Role::Target => Folder::open_target(path),
            });
            let opened = opened.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
            Ok(Place::Folder(Arc::new(opened?)))
        }
    }
}

/// One in the other would be copied for ever, or removed.
fn expect_apart(from: &Side, to: &Side) -> Result<(), Error> {
    let is_apart = match (from, to) {
        (Side::Bucket(from), Side::Bucket(to)) => {
            let [from, to] = [from, to].map(|bucket| format!("{}/", bucket.objects().location()));
            !from.starts_with(&to) && !to.starts_with(&from)
        }
        (Side::Folder(from), Side::Folder(to)) => {
            let [from, to] = [from, to].map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
            !from.starts_with(&to) && !to.starts_with(&from)
        }
        _ => true,
    };
    if is_apart {
        return Ok(());
    }
    let to = match to {
        Side::Bucket(bucket) => bucket.objects().location(),
        Side::Folder(path) => path.display().to_string(),
    };
    let error = Error::new(ErrorKind::Other, "mirror to", to, "the source is the same, or one is in the other");
    Err(error.with_hint("give two places, neither of which is in the other"))
}
