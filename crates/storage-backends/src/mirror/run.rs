//! Makes the target what the source is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::try_join;
use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::merge::{Merge, Pair};
use super::place::{Body, Entry, Place};
use super::record::BucketRecord;
use super::report::{Failure, MirrorReport};
use super::surplus::{MAX_SURPLUS, Surplus, refuse};
use super::verify::unlike;
use super::{Compare, Deleted, MirrorOptions, Progress};
use crate::error::{Error, ErrorKind};

/// What may be in memory on its way to a bucket.
pub(super) const MEMORY: u64 = 80 << 20;
/// What a permit stands for.
pub(super) const UNIT: u64 = 16 << 10;
/// How many objects may fail one after the other before it is given up.
pub(super) const MAX_IN_A_ROW: usize = 100;

/// What became of an object.
enum Outcome {
    Copied(u64),
    Skipped(u64),
    Removed(u64),
    Failed(String, u64, Error),
}

pub(super) async fn run(source: Place, target: Place, options: &MirrorOptions) -> MirrorReport {
    let report = MirrorReport::new(source.location(), target.location());
    let permits = usize::try_from(MEMORY / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
    let transfers = options.concurrency.max(1);
    // While files are brought to the disk, others arrive; and a disk syncs many in about the time of one.
    let concurrency = if matches!(target, Place::Folder(_)) { 4 * transfers } else { transfers };
    let (memory, transfers) = (Semaphore::new(permits), Semaphore::new(transfers));
    let progress = options.progress.clone();
    let job = Job { source, target, compare: options.compare, memory, transfers, progress };
    let mut run = Run { job: Arc::new(job), jobs: JoinSet::new(), concurrency, report, in_a_row: 0 };
    let mut result = run.copy_and_remove(options.deleted).await;
    while !run.jobs.is_empty() {
        result = result.and(run.join().await);
    }
    if let (Place::Folder(folder), Ok(())) = (&run.job.target, &result) {
        result = folder.finish().await;
    }
    if let Err(e) = result {
        run.report.stopped = Some(Failure::new("", &e));
    }
    run.report
}

/// A run with what is under way.
struct Run {
    job: Arc<Job>,
    jobs: JoinSet<Outcome>,
    concurrency: usize,
    report: MirrorReport,
    in_a_row: usize,
}

impl Run {
    async fn copy_and_remove(&mut self, deleted: Deleted) -> Result<(), Error> {
        let mut surplus = Surplus::default();
        self.copy(&mut surplus).await?;
        while !self.jobs.is_empty() {
            self.join().await?;
        }
        if deleted == Deleted::Keep || self.report.surplus.objects == 0 {
            return Ok(());
        }
        let target = self.job.target.location();
        let removable = surplus.into_removable(&target, self.report.is_complete())?;
        for (key, bytes) in removable {
            self.spawn(move |job| async move {
                match job.target.remove(&key).await {
                    Ok(()) => Outcome::Removed(bytes),
                    Err(e) => Outcome::Failed(key.into(), 0, e),
                }
            })
            .await?;
        }
        while !self.jobs.is_empty() {
            self.join().await?;
        }
        if self.report.surplus.objects > 0 && self.report.is_complete() {
            let why = format!("only {MAX_SURPLUS} objects are removed at once; do it again for the others");
            return Err(refuse(&target, why));
        }
        Ok(())
    }

    /// Copies what is not there or has changed.
    async fn copy(&mut self, surplus: &mut Surplus) -> Result<(), Error> {
        let job = Arc::clone(&self.job);
        let mut pairs = Merge::new(job.source.list(), job.target.list());
        while let Some(pair) = pairs.next().await? {
            match pair {
                Pair::Source(source) => {
                    surplus.note_of_source(&source.key);
                    job.progress.add_known(source.bytes);
                    self.spawn(move |job| async move { job.copy(source, None).await }).await?;
                }
                Pair::Both(source, target) => {
                    surplus.note_of_source(&source.key);
                    job.progress.add_known(source.bytes);
                    if job.compare == Compare::Listing && is_known(&source, &target) {
                        self.report.skipped.add(source.bytes);
                        job.progress.add_done(source.bytes, 0);
                    } else {
                        self.spawn(move |job| async move { job.compare_and_copy(source, target).await }).await?;
                    }
                }
                Pair::Target(target) => {
                    self.report.surplus.add(target.bytes);
                    surplus.add(target.key, target.bytes);
                }
                Pair::Gone(key) => {
                    if let Place::Folder(folder) = &job.target {
                        folder.forget(key).await?;
                    }
                }
                Pair::StrangeSource { path, why } => {
                    let error = job.source.fail(ErrorKind::NotSupported, "copy", &path, why);
                    self.report.fail(0, Failure::new(path, &error));
                }
                Pair::StrangeTarget { .. } => {}
            }
        }
        Ok(())
    }

    /// Begins something, when there is not too much under way.
    async fn spawn<F>(&mut self, begin: impl FnOnce(Arc<Job>) -> F) -> Result<(), Error>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        while self.jobs.len() >= self.concurrency {
            self.join().await?;
        }
        self.jobs.spawn(begin(Arc::clone(&self.job)));
        Ok(())
    }

    /// Waits for the next that ends. An error when it makes no sense to go on.
    async fn join(&mut self) -> Result<(), Error> {
        let Some(joined) = self.jobs.join_next().await else { return Ok(()) };
        // Nothing cancels these tasks while somebody waits for them, so it is a panic.
        let outcome = joined.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        let report = &mut self.report;
        match outcome {
            Outcome::Copied(bytes) => report.copied.add(bytes),
            Outcome::Skipped(bytes) => report.skipped.add(bytes),
            Outcome::Removed(bytes) => {
                report.removed.add(bytes);
                report.surplus.objects -= 1;
                report.surplus.bytes -= bytes;
            }
            Outcome::Failed(key, bytes, error) => {
                report.fail(bytes, Failure::new(key, &error));
                self.in_a_row += 1;
                return if is_hopeless(&error) || self.in_a_row >= MAX_IN_A_ROW { Err(error) } else { Ok(()) };
            }
        }
        self.in_a_row = 0;
        Ok(())
    }
}

/// Whether it would be the same with all other objects.
pub(super) fn is_hopeless(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NoSpace
            | ErrorKind::ReadOnly
            | ErrorKind::NotMounted
            | ErrorKind::Credentials
            | ErrorKind::Untrusted
    )
}

/// What is needed to copy an object.
struct Job {
    source: Place,
    target: Place,
    compare: Compare,
    memory: Semaphore,
    transfers: Semaphore,
    progress: Progress,
}

/// What was counted of an object that is being copied.
#[derive(Clone, Default)]
struct Passed(Arc<AtomicU64>);

impl Job {
    async fn compare_and_copy(&self, source: Entry, target: Entry) -> Outcome {
        let compared = {
            let _transfer = self.transfers.acquire().await.expect("nobody closes it");
            self.is_same(&source, &target).await
        };
        match compared {
            Ok(true) => {
                self.progress.add_done(source.bytes, 0);
                Outcome::Skipped(source.bytes)
            }
            Ok(false) => self.copy(source, Some(target)).await,
            Err(e) => {
                self.progress.add_done(source.bytes, 0);
                Outcome::Failed(source.key, source.bytes, e)
            }
        }
    }

    async fn copy(&self, source: Entry, old: Option<Entry>) -> Outcome {
        let passed = Passed::default();
        let copied = self.try_copy(&source, old.as_ref(), &passed).await;
        self.progress.add_done(source.bytes, passed.0.load(Relaxed));
        match copied {
            Ok(bytes) => Outcome::Copied(bytes),
            Err(e) => Outcome::Failed(source.key, source.bytes, e),
        }
    }

    async fn try_copy(&self, source: &Entry, old: Option<&Entry>, passed: &Passed) -> Result<u64, Error> {
        let _held = match &self.target {
            // A file is written as it arrives.
            Place::Folder(_) => None,
            Place::Bucket(objects) => {
                let bytes = if source.bytes < objects.part_bytes() { source.bytes } else { objects.upload_bytes() };
                let permits = u32::try_from(bytes.min(MEMORY) / UNIT).unwrap_or(u32::MAX);
                Some(self.memory.acquire_many(permits).await.expect("nobody closes it"))
            }
        };
        let transfer = self.transfers.acquire().await.expect("nobody closes it");
        let mut object = self.source.read(source, &self.target).await?;
        let bytes = object.bytes;
        if let Body::Pieces(pieces) = object.body {
            let (progress, passed) = (self.progress.clone(), passed.clone());
            let counted = pieces.inspect_ok(move |piece| {
                progress.add_bytes(piece.len() as u64);
                passed.0.fetch_add(piece.len() as u64, Relaxed);
            });
            object.body = Body::Pieces(counted.boxed());
        }
        if let (Body::Whole(_), Place::Folder(_)) = (&object.body, &self.target) {
            drop(transfer);
        }
        self.target.store(&source.key, object, old).await?;
        Ok(bytes)
    }

    /// Whether the target has a copy of the object already.
    async fn is_same(&self, source: &Entry, target: &Entry) -> Result<bool, Error> {
        if source.bytes != target.bytes {
            return Ok(false);
        }
        if self.compare == Compare::Content {
            return self.has_same_content(source, target).await;
        }
        let is_known = match &self.target {
            Place::Folder(_) => self.is_known_file(source, target).await?,
            Place::Bucket(_) => self.is_known_object(source, target).await?,
        };
        if !is_known || self.compare == Compare::Listing {
            return Ok(is_known);
        }
        let (ours, theirs) = try_join(self.source.attributes(source), self.target.attributes(target)).await?;
        Ok(unlike(&ours.unwrap_or_default(), &theirs.unwrap_or_default()).is_empty())
    }

    async fn has_same_content(&self, source: &Entry, target: &Entry) -> Result<bool, Error> {
        let theirs = match self.target.digest(target).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let ours = self.source.digest(source).await?;
        let attributes = [ours.attributes, theirs.attributes].map(Option::unwrap_or_default);
        let is_same = ours.bytes == theirs.bytes
            && ours.sha256 == theirs.sha256
            && unlike(&attributes[0], &attributes[1]).is_empty();
        let is_recorded = target.file.as_ref().is_none_or(|file| file.record.is_some() && !file.is_doubled);
        Ok(is_same && is_recorded)
    }

    /// By the index of the target, and by the bytes of files that were touched since.
    async fn is_known_file(&self, source: &Entry, target: &Entry) -> Result<bool, Error> {
        if is_known(source, target) {
            return Ok(true);
        }
        let (Some(file), Place::Folder(folder)) = (&target.file, &self.target) else { return Ok(false) };
        let Some(record) = file.record.as_ref().filter(|_| !file.is_doubled) else { return Ok(false) };
        let is_same_source = record.source == source.mark || {
            let attributes = self.recorded_attributes(source);
            attributes.is_some_and(|it| unlike(&it, &record.attributes).is_empty())
                && self.sha256(source).await?.is_some_and(|sha256| sha256 == record.sha256)
        };
        if !is_same_source {
            return Ok(false);
        }
        let (sha256, bytes, stamp) = match folder.digest(file).await {
            // It made room for a folder of its name meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        if sha256 != record.sha256 || bytes != record.bytes {
            return Ok(false);
        }
        let mut record = record.clone();
        record.source.clone_from(&source.mark);
        record.file = Some(stamp);
        folder.note(&source.key, record).await?;
        Ok(true)
    }

    /// By the record that the target's object has.
    async fn is_known_object(&self, source: &Entry, target: &Entry) -> Result<bool, Error> {
        let Place::Bucket(objects) = &self.target else { return Ok(false) };
        let Some(mut head) = objects.head(&target.key).await? else { return Ok(false) };
        let Some(record) = BucketRecord::take(&mut head.attributes) else { return Ok(false) };
        if head.bytes != source.bytes || head.tags != record.tags {
            return Ok(false);
        }
        if record.is_of(&source.mark) {
            return Ok(true);
        }
        let Some(sha256) = &record.sha256 else { return Ok(false) };
        let Some(ours) = self.recorded_attributes(source) else { return Ok(false) };
        if head.tags > 0 {
            head.attributes.tags = objects.tags(&target.key).await?;
        }
        Ok(unlike(&ours, &head.attributes).is_empty() && self.sha256(source).await?.as_ref() == Some(sha256))
    }

    /// What a file of the source has beside its bytes.
    fn recorded_attributes(&self, source: &Entry) -> Option<crate::s3::Attributes> {
        let file = source.file.as_ref()?;
        Some(file.record.as_ref().map(|record| record.attributes.clone()).unwrap_or_default())
    }

    /// The SHA-256 of a file of the source: that of an object would have to be fetched.
    async fn sha256(&self, source: &Entry) -> Result<Option<String>, Error> {
        let (Some(file), Place::Folder(folder)) = (&source.file, &self.source) else { return Ok(None) };
        match &file.record {
            Some(record) if file.is_intact() => Ok(Some(record.sha256.clone())),
            _ => Ok(Some(folder.digest(file).await?.0)),
        }
    }
}

/// Whether both listings say what they said when the object was copied.
fn is_known(source: &Entry, target: &Entry) -> bool {
    let Some(file) = &target.file else { return false };
    let is_of_source = file.record.as_ref().is_some_and(|it| it.source == source.mark && it.bytes == source.bytes);
    is_of_source && file.is_intact() && !file.is_doubled && source.bytes == target.bytes
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::local::LocalError;

    #[test]
    fn a_volume_that_went_away_ends_a_mirror_and_a_file_that_a_disk_cannot_read_does_not() {
        use rustix::io::Errno;
        let hopeless = |errno| is_hopeless(&LocalError::new("read", "/copy/a".into(), io::Error::from(errno)).into());
        assert!([Errno::STALE, Errno::NOTCONN, Errno::NOSPC, Errno::ROFS].into_iter().all(hopeless));
        assert!(![Errno::IO, Errno::ACCESS, Errno::NOENT].into_iter().any(hopeless));
    }
}
