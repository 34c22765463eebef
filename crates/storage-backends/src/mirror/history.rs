//! All versions of objects, from one bucket to another.
//!
//! The last version that the target has of an object tells by its record which one of the source it is; what came after that
//! is copied. So it goes on where it was, and what a store has given up of its oldest versions stays in the copy.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, TryStreamExt as _};
use tokio::sync::Semaphore;

use super::place::{Body, Object, Place, gather};
use super::record::BucketRecord;
use super::report::{Count, Failure, MirrorReport};
use super::run::{MAX_IN_A_ROW, MEMORY, UNIT, is_hopeless};
use super::surplus::{Surplus, refuse};
use super::{Deleted, MirrorOptions, Progress};
use crate::error::{Error, ErrorKind};
use crate::s3::{ListedVersion, Objects};
use crate::task::AbortOnDrop;

/// All versions of an object, the oldest first; at least one.
pub(crate) type History = Vec<ListedVersion>;

/// What there is of a key.
enum Pair {
    Source(History),
    Both(History, History),
    Target(History),
}

/// What became of a key.
enum Outcome {
    Copied { key: String, copied: Count, skipped: Count },
    Failed { key: String, bytes: u64, error: Error },
    Surplus { key: String, bytes: u64 },
    Nothing,
}

struct Job {
    source: Objects,
    target: Place,
    objects: Objects,
    memory: Semaphore,
    progress: Progress,
}

pub(super) async fn run(source: Objects, target: Objects, options: &MirrorOptions) -> MirrorReport {
    let mut report = MirrorReport::new(source.location(), target.location());
    let result = async {
        keep_versions(&target).await?;
        copy_and_remove(source, target, options, &mut report).await
    };
    if let Err(e) = result.await {
        report.stopped = Some(Failure::new("", &e));
    }
    report
}

/// Lets the target keep versions, if nothing can be lost by that.
async fn keep_versions(target: &Objects) -> Result<(), Error> {
    if target.has_versions().await? {
        return Ok(());
    }
    if !target.is_empty(true).await? {
        let why = "it has objects and does not keep versions of them; turn that on, or mirror to an empty bucket";
        return Err(Error::new(ErrorKind::NotSupported, "mirror versions to", target.location(), why));
    }
    target.keep_versions().await
}

async fn copy_and_remove(
    source: Objects,
    target: Objects,
    options: &MirrorOptions,
    report: &mut MirrorReport,
) -> Result<(), Error> {
    let pairs = Pairs { source: Histories::of(&source), target: Histories::of(&target) };
    let memory = Semaphore::new(usize::try_from(MEMORY / UNIT).unwrap_or(Semaphore::MAX_PERMITS));
    let progress = options.progress.clone();
    let job = Arc::new(Job { source, target: Place::Bucket(target.clone()), objects: target, memory, progress });
    let pairs =
        stream::try_unfold(
            pairs,
            |mut pairs| async move { Ok::<_, Error>(pairs.next().await?.map(|pair| (pair, pairs))) },
        );
    let outcomes = pairs.map_ok(|pair| {
        let job = Arc::clone(&job);
        let task = AbortOnDrop::spawn(async move { job.bring(pair).await });
        async move { Ok(task.join().await) }
    });
    let mut outcomes = std::pin::pin!(outcomes.try_buffer_unordered(options.concurrency.max(1)));
    let (mut surplus, mut in_a_row) = (Surplus::default(), 0);
    while let Some(outcome) = outcomes.try_next().await? {
        if let Outcome::Copied { key, .. } | Outcome::Failed { key, .. } = &outcome {
            surplus.note_of_source(key);
        }
        match outcome {
            Outcome::Copied { copied, skipped, .. } => {
                for (count, more) in [(&mut report.copied, copied), (&mut report.skipped, skipped)] {
                    count.objects += more.objects;
                    count.bytes += more.bytes;
                }
            }
            Outcome::Surplus { key, bytes } => {
                report.surplus.add(bytes);
                surplus.add(key, bytes);
                continue;
            }
            Outcome::Failed { key, bytes, error } => {
                report.fail(bytes, Failure::new(key, &error));
                in_a_row += 1;
                if is_hopeless(&error) || in_a_row >= MAX_IN_A_ROW {
                    return Err(error);
                }
                continue;
            }
            Outcome::Nothing => {}
        }
        in_a_row = 0;
    }
    if options.deleted == Deleted::Keep || report.surplus.objects == 0 {
        return Ok(());
    }
    let target = job.objects.location();
    let removable = surplus.into_removable(&target, report.is_complete())?;
    for (key, bytes) in removable {
        job.objects.remove(&key).await?;
        report.removed.add(bytes);
        report.surplus.objects -= 1;
        report.surplus.bytes -= bytes;
    }
    if report.surplus.objects > 0 {
        let why = "there are too many of them to be removed at once; do it again for the others";
        return Err(refuse(&target, why));
    }
    Ok(())
}

impl Job {
    async fn bring(&self, pair: Pair) -> Outcome {
        let (source, target) = match pair {
            Pair::Source(source) => (source, Vec::new()),
            Pair::Both(source, target) => (source, target),
            Pair::Target(target) => {
                return match target.last() {
                    // Removed there as well, it is a part of nobody's present.
                    Some(last) if !last.is_delete_marker => {
                        Outcome::Surplus { key: last.key.clone(), bytes: last.bytes }
                    }
                    _ => Outcome::Nothing,
                };
            }
        };
        source.iter().for_each(|version| self.progress.add_known(version.bytes));
        let (mut copied, mut skipped) = (Count::default(), Count::default());
        let brought = async {
            let there = self.there_already(&source, &target).await?;
            for version in &source[..there] {
                skipped.add(version.bytes);
                self.progress.add_done(version.bytes, 0);
            }
            for version in &source[there..] {
                self.copy(version).await?;
                copied.add(version.bytes);
                self.progress.add_done(version.bytes, 0);
            }
            Ok(())
        };
        let brought = brought.await;
        let key = source[0].key.clone();
        match brought {
            Ok(()) => Outcome::Copied { key, copied, skipped },
            Err(error) => Outcome::Failed { key, bytes: source.iter().map(|version| version.bytes).sum(), error },
        }
    }

    /// How many of the source's versions the target has, and those before them.
    async fn there_already(&self, source: &History, target: &History) -> Result<usize, Error> {
        let key = source[0].key.as_str();
        let others = || {
            let why = "its versions there are not copies of the source's; remove them, or mirror without versions";
            self.objects.fail(ErrorKind::AlreadyExists, "mirror versions to", key, why)
        };
        // Marks that it was removed tell nothing of themselves.
        let last = target.iter().rposition(|version| !version.is_delete_marker);
        let begin = match last {
            None => 0,
            Some(last) => {
                let head = self.objects.head_version(key, Some(&target[last].id)).await?;
                let record = head.and_then(|mut head| BucketRecord::take(&mut head.attributes)).ok_or_else(others)?;
                let is_it = |version: &ListedVersion| !version.is_delete_marker && record.is_of(&mark(version));
                source.iter().position(is_it).ok_or_else(others)? + 1
            }
        };
        let markers = target.len() - last.map_or(0, |last| last + 1);
        let there = begin + markers;
        let are_markers =
            source.get(begin..there).is_some_and(|versions| versions.iter().all(|it| it.is_delete_marker));
        if are_markers { Ok(there) } else { Err(others()) }
    }

    async fn copy(&self, version: &ListedVersion) -> Result<(), Error> {
        let key = version.key.as_str();
        if version.is_delete_marker {
            return self.objects.remove(key).await;
        }
        let is_whole = version.bytes < self.objects.part_bytes();
        let bytes = if is_whole { version.bytes } else { self.objects.upload_bytes() };
        let permits = u32::try_from(bytes.min(MEMORY) / UNIT).unwrap_or(u32::MAX);
        let _held = self.memory.acquire_many(permits).await.expect("nobody closes it");
        let (head, content) = self.source.read_version(key, Some(&version.id)).await?;
        if head.untold > 0 {
            let why = "it has metadata that the store cannot tell";
            return Err(self.source.fail(ErrorKind::NotSupported, "read", key, why));
        }
        let mut attributes = head.attributes;
        BucketRecord::take(&mut attributes);
        if head.tags > 0 {
            attributes.tags = self.source.tags_of_version(key, Some(&version.id)).await?;
        }
        let body = if is_whole { Body::Whole(gather(head.bytes, content).await?) } else { Body::Pieces(content) };
        let (attributes, mark) = (Some(attributes), mark(version));
        self.target.store(key, Object { bytes: head.bytes, attributes, mark, sha256: None, body }, None).await
    }
}

/// What tells a version of the source from all others.
fn mark(version: &ListedVersion) -> String {
    format!("version {} {}", version.id, version.bytes)
}

/// A listing, an object at a time.
pub(crate) struct Histories {
    versions: BoxStream<'static, Result<ListedVersion, Error>>,
    /// The first version of the next object.
    next: Option<ListedVersion>,
    /// What has come, or is about to.
    history: Option<History>,
    has_begun: bool,
}

impl fmt::Debug for Histories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histories").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Histories {
    pub(crate) fn of(objects: &Objects) -> Self {
        Self::after(objects, "")
    }

    /// Of the objects whose keys come after this one.
    pub(crate) fn after(objects: &Objects, key: &str) -> Self {
        Self { versions: objects.list_versions_after(key), next: None, history: None, has_begun: false }
    }

    /// The next object; `None` when there is none.
    pub(crate) async fn next(&mut self) -> Result<Option<History>, Error> {
        self.fill().await?;
        Ok(self.history.take())
    }

    /// What there is of this key, of which there may be nothing. Those before it are passed over.
    pub(crate) async fn find(&mut self, key: &str) -> Result<Option<History>, Error> {
        loop {
            self.fill().await?;
            let Some(history) = &self.history else { return Ok(None) };
            match history[0].key.as_str().cmp(key) {
                Ordering::Less => self.history = None,
                Ordering::Equal => return Ok(self.history.take()),
                Ordering::Greater => return Ok(None),
            }
        }
    }

    /// Reads the next object, if that was not done yet.
    async fn fill(&mut self) -> Result<(), Error> {
        if self.history.is_some() {
            return Ok(());
        }
        if !self.has_begun {
            self.has_begun = true;
            self.next = self.versions.try_next().await?;
        }
        let Some(first) = self.next.take() else { return Ok(()) };
        let mut history = vec![first];
        while let Some(version) = self.versions.try_next().await? {
            match version.key.cmp(&history[0].key) {
                Ordering::Equal => history.push(version),
                Ordering::Greater => {
                    self.next = Some(version);
                    break;
                }
                Ordering::Less => {
                    let why = "the store does not list its objects in the order of their keys";
                    return Err(Error::new(ErrorKind::NotSupported, "list the versions of", version.key, why));
                }
            }
        }
        self.history = Some(history);
        Ok(())
    }
}

/// Both sides at once, in the order of the keys.
struct Pairs {
    source: Histories,
    target: Histories,
}

impl Pairs {
    async fn next(&mut self) -> Result<Option<Pair>, Error> {
        self.source.fill().await?;
        self.target.fill().await?;
        let order = match (&self.source.history, &self.target.history) {
            (Some(source), Some(target)) => source[0].key.cmp(&target[0].key),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        Ok(match order {
            Ordering::Less => self.source.history.take().map(Pair::Source),
            Ordering::Greater => self.target.history.take().map(Pair::Target),
            Ordering::Equal => self
                .source
                .history
                .take()
                .zip(self.target.history.take())
                .map(|(source, target)| Pair::Both(source, target)),
        })
    }
}
