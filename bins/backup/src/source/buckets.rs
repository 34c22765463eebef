//! The buckets of a source, each into an object of a backup.

use storage_backends::bucket_archive::{self, ArchiveOptions, ArchiveReport};
use storage_backends::s3::S3;
use storage_backends::{ErrorKind, NewBackup, ObjectFormat, TableContent};
use terminal::text::counted;
use terminal::{progress, step, warn};

use super::lock::Lock;
use super::{abort, object_name};
use crate::commands::Context;
use crate::config::Bucket;
use crate::failure::Failure;

/// The buckets of a source, open.
pub(super) struct Buckets<'a>(Vec<(&'a Bucket, S3, Lock)>);

impl<'a> Buckets<'a> {
    /// Connects to all of them. With `absent`, those that are not there are named in it.
    ///
    /// # Errors
    ///
    /// One cannot be used.
    pub(super) async fn open(buckets: &'a [Bucket], mut absent: Option<&mut Vec<String>>) -> Result<Self, Failure> {
        let mut open = Vec::new();
        for bucket in buckets {
            match (bucket.open().await, &mut absent) {
                (Ok(store), _) => open.push((bucket, store, Lock::of(&format!("the bucket {}", bucket.location()))?)),
                (Err(e), Some(absent)) if e.kind() == ErrorKind::NotFound => {
                    absent.push(format!("the bucket `{}`", bucket.name()));
                }
                (Err(e), _) => {
                    return Err(Failure::from(e).context(format!("cannot open the bucket `{}`", bucket.name())));
                }
            }
        }
        Ok(Self(open))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Stores and verifies all of them, and tells when each was read.
    ///
    /// # Errors
    ///
    /// One of them cannot be read or stored; or somebody asked us to end.
    pub(super) async fn back_up(self, context: &Context, backup: &mut NewBackup) -> Result<Vec<String>, Failure> {
        let mut times = Vec::new();
        for (bucket, store, _lock) in self.0 {
            let begun = (context.now)();
            back_up(context, bucket, &store, backup).await?;
            let format = "%F %T UTC";
            let (begun, ended) = (begun.format(format), (context.now)().format(format));
            times.push(format!("`{}` from {begun} to {ended}", bucket.name()));
        }
        Ok(times)
    }
}

async fn back_up(context: &Context, bucket: &Bucket, store: &S3, backup: &mut NewBackup) -> Result<(), Failure> {
    let name = bucket.name();
    step(format_args!("reading the bucket `{name}`"));
    let mut object = backup.object(&object_name(name, "tar")).await?;
    let bar = progress::unknown_bytes();
    let mut options = ArchiveOptions::default();
    options.versions = bucket.versions();
    let archived = bucket_archive::write(store, &options, async |piece| {
        bar.inc(piece.len() as u64);
        object.write(piece).await
    });
    let archived = context.interruptible(async { Ok(archived.await?) }).await;
    bar.finish_and_clear();
    match archived {
        Ok(report) => {
            if report.vanished > 0 {
                let gone = counted(report.vanished, "object");
                warn(format_args!(
                    "{gone} of the bucket `{name}` went away before it was read, and is not in the backup"
                ));
            }
            let object = backup.add(object).await?;
            object.origin = Some(name.to_owned());
            object.format = ObjectFormat::Bucket;
            object.tables = vec![content(&report)];
            Ok(())
        }
        Err(failure) => {
            abort(object).await;
            Err(failure.context(format!("cannot back up the bucket `{name}`")))
        }
    }
}

/// What is in the archive of a bucket.
pub(crate) fn content(report: &ArchiveReport) -> TableContent {
    let mut content = TableContent::new("objects", report.bytes);
    content.rows = Some(report.objects + report.delete_markers);
    content.sha256 = Some(report.sha256.clone());
    content
}
