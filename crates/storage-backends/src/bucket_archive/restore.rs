//! Into a bucket.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

use super::member::Member;
use super::walk::{Event, Walk};
use super::{ArchiveReport, hex};
use crate::error::{Error, ErrorKind};
use crate::mirror::Count;
use crate::mirror::record::BucketRecord;
use crate::mirror::verify::unlike;
use crate::s3::{Head, Objects, S3, Writing};

/// What may be in memory of objects that are stored with one request.
const MEMORY: u64 = 32 << 20;
/// What a permit stands for.
const UNIT: u64 = 4 << 10;

/// What is reserved for an object before it has arrived.
const MAX_RESERVED: u64 = 8 << 20;

/// How to restore a bucket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Restores into a bucket that has objects, too. Those that have the key of one of the archive are replaced, and those that are
    /// the same already are not stored again: with that, a restore goes on that was ended. Not so with versions, all of which are
    /// added to those that are there.
    pub into_existing: bool,
    /// How many objects are stored at the same time; 8 if not said.
    pub concurrency: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { into_existing: false, concurrency: 8 }
    }
}

/// What a restore has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RestoreReport {
    /// What is in the archive.
    pub archive: ArchiveReport,
    /// Objects, or versions of objects, that were stored.
    pub stored: Count,
    /// Those that were there already.
    pub skipped: Count,
}

/// A bucket that is being restored.
///
/// In memory are up to 32 MiB of objects that are smaller than a part of an upload, and one upload in parts of a larger one.
#[derive(Debug)]
pub struct Restoring {
    objects: Objects,
    walk: Walk,
    now: Now,
    concurrency: usize,
    /// Whether objects of the archive may be there already.
    is_empty: bool,
    into_existing: bool,
    memory: Arc<Semaphore>,
    jobs: JoinSet<Result<Outcome, Error>>,
    /// The key of what was begun last, and when that is stored.
    last: Option<(String, oneshot::Receiver<()>)>,
    stored: Count,
    skipped: Count,
    /// There was an error.
    is_broken: bool,
}

/// What is done with the bytes that come.
#[derive(Debug)]
enum Now {
    Nothing,
    Gather { member: Box<Member>, content: BytesMut, held: OwnedSemaphorePermit },
    Send { bytes: u64, writing: Box<Writing>, part: BytesMut },
    Compare(Box<Comparison>),
}

enum Outcome {
    Stored(u64),
    Skipped(u64),
}

impl Restoring {
    /// Begins to restore into a bucket, or below its prefix. [`connect_or_create`](S3::connect_or_create) makes one that is missing.
    ///
    /// # Errors
    ///
    /// The bucket has objects ([`AlreadyExists`](ErrorKind::AlreadyExists)), unless that was allowed; or it cannot be listed.
    pub async fn begin(into: &S3, options: &RestoreOptions) -> Result<Self, Error> {
        let objects = into.objects();
        if objects.has_retention() {
            let why = "what is restored cannot be retained, since it could not be restored again";
            return Err(Error::new(ErrorKind::NotSupported, "restore to", objects.location(), why));
        }
        let is_empty = objects.is_empty(false).await?;
        if !is_empty && !options.into_existing {
            return Err(not_empty(&objects));
        }
        Ok(Self {
            objects,
            walk: Walk::default(),
            now: Now::Nothing,
            concurrency: options.concurrency.max(1),
            is_empty,
            into_existing: options.into_existing,
            memory: Arc::new(Semaphore::new(usize::try_from(MEMORY / UNIT).unwrap_or(Semaphore::MAX_PERMITS))),
            jobs: JoinSet::new(),
            last: None,
            stored: Count::default(),
            skipped: Count::default(),
            is_broken: false,
        })
    }

    /// Takes the next bytes of the archive, and waits while too much is on its way.
    ///
    /// # Errors
    ///
    /// They are not those of an archive ([`Incomplete`](ErrorKind::Incomplete)), or of one of a newer version
    /// ([`NotSupported`](ErrorKind::NotSupported)); or an object could not be stored. What was stored so far stays.
    pub async fn write(&mut self, mut piece: Bytes) -> Result<(), Error> {
        self.expect_sound()?;
        // Until it is known to be well: this can be dropped while it waits.
        self.is_broken = true;
        while let Some(event) = self.walk.next(&mut piece)? {
            match event {
                Event::Begin { versions } => self.begin_archive(versions).await?,
                Event::Object(member, bytes) => self.begin_object(member, bytes).await?,
                Event::Piece(piece) => self.take(piece).await?,
                Event::ObjectEnd => self.end_object().await?,
            }
        }
        self.is_broken = false;
        Ok(())
    }

    /// Waits until everything is stored.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write); or the archive is not whole.
    pub async fn finish(mut self) -> Result<RestoreReport, Error> {
        self.expect_sound()?;
        while !self.jobs.is_empty() {
            self.join().await?;
        }
        let Self { walk, stored, skipped, .. } = self;
        Ok(RestoreReport { archive: walk.finish()?, stored, skipped })
    }

    fn expect_sound(&self) -> Result<(), Error> {
        if !self.is_broken {
            return Ok(());
        }
        let why = "restoring it failed or was given up before";
        Err(Error::new(ErrorKind::Incomplete, "restore to", self.objects.location(), why))
    }

    async fn begin_archive(&mut self, versions: bool) -> Result<(), Error> {
        if !versions {
            return Ok(());
        }
        let is_empty = self.is_empty && self.objects.is_empty(true).await?;
        if !is_empty && !self.into_existing {
            return Err(not_empty(&self.objects));
        }
        if self.objects.has_versions().await? {
            return Ok(());
        }
        if !is_empty {
            let why = "it does not keep versions, and what is in it would be replaced; turn that on, or restore into an empty one";
            return Err(Error::new(ErrorKind::NotSupported, "restore versions to", self.objects.location(), why));
        }
        self.objects.keep_versions().await
    }

    async fn begin_object(&mut self, member: Box<Member>, bytes: u64) -> Result<(), Error> {
        if bytes < self.objects.part_bytes() {
            let units = u32::try_from(bytes.min(MEMORY).div_ceil(UNIT)).unwrap_or(u32::MAX);
            let memory = Arc::clone(&self.memory);
            let content = BytesMut::with_capacity(usize::try_from(bytes.min(MAX_RESERVED)).unwrap_or(0));
            let held = memory.acquire_many_owned(units).await.expect("nobody closes it");
            self.now = Now::Gather { member, content, held };
            return Ok(());
        }
        // The one before may be the version before.
        if let Some((_, stored)) = self.last.take_if(|(key, _)| *key == member.key)
            && stored.await.is_err()
        {
            return self.give_up().await;
        }
        if !self.is_empty
            && member.version.is_none()
            && let Some(head) = same_so_far(&self.objects, &member, bytes).await?
            && let Some(comparison) = Comparison::new(&self.objects, &member, &head)
        {
            self.now = Now::Compare(Box::new(comparison));
            return Ok(());
        }
        let writing = Box::new(self.objects.begin(&member.key, &member.attributes).await?);
        self.now = Now::Send { bytes, writing, part: BytesMut::new() };
        Ok(())
    }

    async fn take(&mut self, mut piece: Bytes) -> Result<(), Error> {
        match &mut self.now {
            Now::Nothing => unreachable!("an object was begun"),
            Now::Gather { content, .. } => content.extend_from_slice(&piece),
            Now::Compare(comparison) => comparison.take(&piece),
            Now::Send { writing, part, .. } => {
                while !piece.is_empty() {
                    // A part fits into memory.
                    let length = usize::try_from(writing.part_bytes()).unwrap_or(usize::MAX);
                    part.reserve(length - part.len());
                    let room = piece.len().min(length - part.len());
                    part.extend_from_slice(&piece.split_to(room));
                    if part.len() == length {
                        writing.send(std::mem::take(part).freeze()).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn end_object(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.now, Now::Nothing) {
            Now::Nothing => unreachable!("an object was begun"),
            Now::Gather { member, content, held } => self.spawn(member, content.freeze(), held).await?,
            Now::Send { bytes, mut writing, part } => {
                if !part.is_empty() {
                    writing.send(part.freeze()).await?;
                }
                writing.finish().await?;
                self.stored.add(bytes);
                self.last = None;
            }
            Now::Compare(comparison) => {
                self.skipped.add(comparison.finish()?);
                self.last = None;
            }
        }
        Ok(())
    }

    /// Stores an object beside others.
    async fn spawn(&mut self, member: Box<Member>, content: Bytes, held: OwnedSemaphorePermit) -> Result<(), Error> {
        while self.jobs.len() >= self.concurrency {
            self.join().await?;
        }
        let (done, stored) = oneshot::channel();
        let before = self.last.replace((member.key.clone(), stored)).filter(|(key, _)| *key == member.key);
        let (objects, may_be_there) = (self.objects.clone(), !self.is_empty && member.version.is_none());
        self.jobs.spawn(async move {
            let _held = held;
            if let Some((key, stored)) = before
                && stored.await.is_err()
            {
                // That one tells why.
                return Err(objects.fail(ErrorKind::Incomplete, "store", &key, "the version before it was not stored"));
            }
            let outcome = store(&objects, &member, content, may_be_there).await?;
            // Nobody may wait for it.
            let _ = done.send(());
            Ok(outcome)
        });
        Ok(())
    }

    async fn join(&mut self) -> Result<(), Error> {
        let Some(joined) = self.jobs.join_next().await else { return Ok(()) };
        // Nothing cancels these tasks while somebody waits for them, so it is a panic.
        match joined.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))? {
            Outcome::Stored(bytes) => self.stored.add(bytes),
            Outcome::Skipped(bytes) => self.skipped.add(bytes),
        }
        Ok(())
    }

    /// Tells which of those that are under way has failed.
    async fn give_up(&mut self) -> Result<(), Error> {
        while !self.jobs.is_empty() {
            self.join().await?;
        }
        self.expect_sound()
    }
}

async fn store(objects: &Objects, member: &Member, content: Bytes, may_be_there: bool) -> Result<Outcome, Error> {
    let bytes = content.len() as u64;
    if member.is_delete_marker() {
        objects.remove(&member.key).await?;
        return Ok(Outcome::Stored(0));
    }
    if may_be_there && let Some(head) = same_so_far(objects, member, bytes).await? {
        let md5 = hex(&Md5::digest(&content));
        if head.md5().is_some_and(|found| found.eq_ignore_ascii_case(&md5)) {
            return Ok(Outcome::Skipped(bytes));
        }
    }
    objects.write(&member.key, &member.attributes, content).await?;
    Ok(Outcome::Stored(bytes))
}

/// What has the key, if that is as long and has the same beside its bytes.
async fn same_so_far(objects: &Objects, member: &Member, bytes: u64) -> Result<Option<Head>, Error> {
    let Some(mut head) = objects.head(&member.key).await? else { return Ok(None) };
    if head.bytes != bytes || head.untold > 0 {
        return Ok(None);
    }
    BucketRecord::take(&mut head.attributes);
    if head.tags > 0 {
        head.attributes.tags = objects.tags(&member.key).await?;
    }
    Ok(unlike(&member.attributes, &head.attributes).is_empty().then_some(head))
}

/// An object that is there with the same length. Its `ETag` is that of an upload in parts; the object of the archive would have the
/// same one.
#[derive(Debug)]
struct Comparison {
    objects: Objects,
    key: String,
    bytes: u64,
    e_tag: String,
    /// Of the part that comes.
    part: Md5,
    left: u64,
    /// The MD5 of each part so far.
    parts: Vec<u8>,
}

impl Comparison {
    /// `None` when the object was not stored in as many parts as it would be.
    fn new(objects: &Objects, member: &Member, head: &Head) -> Option<Self> {
        let (mut count, mut bytes) = (0, 0);
        while bytes < head.bytes {
            bytes = objects.part_bytes_after(count).saturating_add(bytes);
            count += 1;
        }
        let is_alike = head.e_tag.strip_suffix(&format!("-{count}")).is_some_and(|md5| md5.len() == 32);
        (is_alike && !head.is_encrypted).then(|| Self {
            objects: objects.clone(),
            key: member.key.clone(),
            bytes: head.bytes,
            e_tag: head.e_tag.clone(),
            part: Md5::new(),
            left: objects.part_bytes_after(0),
            parts: Vec::new(),
        })
    }

    fn take(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let room = piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.part.update(&piece[..room]);
            self.left -= room as u64;
            piece = &piece[room..];
            if self.left == 0 {
                self.end_part();
            }
        }
    }

    fn end_part(&mut self) {
        self.parts.extend_from_slice(&self.part.finalize_reset());
        // An MD5 has 16 bytes.
        let count = u32::try_from(self.parts.len() / 16).unwrap_or(u32::MAX);
        self.left = self.objects.part_bytes_after(count);
    }

    /// The length of what is the same.
    fn finish(mut self) -> Result<u64, Error> {
        let count = u32::try_from(self.parts.len() / 16).unwrap_or(u32::MAX);
        if self.left < self.objects.part_bytes_after(count) {
            self.end_part();
        }
        let e_tag = format!("{}-{}", hex(&Md5::digest(&self.parts)), self.parts.len() / 16);
        if e_tag.eq_ignore_ascii_case(&self.e_tag) {
            return Ok(self.bytes);
        }
        let why = "another object of the same length is there; remove it, and restore once more";
        Err(self.objects.fail(ErrorKind::AlreadyExists, "restore", &self.key, why))
    }
}

fn not_empty(objects: &Objects) -> Error {
    let why = "there are objects in it already; restore into an empty bucket, or allow that they are replaced";
    Error::new(ErrorKind::AlreadyExists, "restore to", objects.location(), why)
}
