//! Into a bucket.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::TryStreamExt as _;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

use super::ArchiveReport;
use super::check::Check;
use super::member::Member;
use super::walk::{Event, Walk};
use crate::digest::hex;
use crate::error::{Error, ErrorKind};
use crate::mirror::Count;
use crate::mirror::history::{Histories, History};
use crate::mirror::record::BucketRecord;
use crate::mirror::verify::unlike;
use crate::s3::{Head, Objects, S3, Writing};

/// What may be in memory of objects that are stored with one request.
const MEMORY: u64 = 32 << 20;
/// What a permit stands for.
const UNIT: u64 = 4 << 10;

/// What is reserved for an object before it has arrived.
const MAX_RESERVED: u64 = 8 << 20;
/// How many large objects are remembered that are to be replaced. Those beyond are stored again without being compared.
const MAX_OTHERS: usize = 10_000;

/// How to restore a bucket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Restores into a bucket that has objects, too. Those that have the key of one of the archive are replaced, and those that are
    /// the same already are not stored again; all others stay. With versions, what is there of an object has to be the beginning of
    /// its history in the archive, which then goes on. So a restore goes on that was ended.
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
    /// Those of the archive that the bucket lists after that, with the right length. All of them, or the restore has failed.
    pub found: Count,
    /// Those that only the bucket has. They have stayed.
    pub surplus: Count,
}

/// How it goes on when an archive was read to its end.
#[derive(Debug)]
#[must_use = "the archive may have to be read once more"]
pub enum Finished {
    /// It does not: everything is restored.
    Whole(RestoreReport),
    /// Large objects with the right length and attributes were there, which turned out to be others when all of their bytes had
    /// gone by. They are replaced while the archive is read once more.
    ReadAgain(Box<Restoring>),
}

/// A bucket that is being restored.
///
/// What was stored is compared with the bucket's listing, by the keys and the lengths, after each 1000 objects and in the end.
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
    /// The versions that are there already, when the archive has versions.
    histories: Option<Histories>,
    /// Those of the object that comes now.
    there: There,
    /// Objects that are there and turned out to be others.
    others: BTreeSet<String>,
    /// Of an archive that is read once more: the objects that are replaced. All others were restored before.
    replace: Option<BTreeSet<String>>,
    check: Check,
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
    PassOver,
    Gather { member: Box<Member>, place: Place, content: BytesMut, held: OwnedSemaphorePermit },
    Send { bytes: u64, writing: Box<Writing>, part: BytesMut },
    Compare(Box<Comparison>),
}

/// What the bucket has in the place of an object of the archive.
#[derive(Debug)]
enum Place {
    /// Nothing.
    Free,
    /// Perhaps an object, which is replaced when it is another one.
    MayBeTaken,
    /// A version with this ID, which must not be another one.
    Version(String),
    /// The mark that it was removed.
    Removal,
}

/// What the bucket has of the history of an object, as far as the archive has not come to it yet.
///
/// Where a store tells times in seconds, the order of versions and removals among each other is not known. It need not be: what is
/// the beginning of a history has so many of either.
#[derive(Debug, Default)]
struct There {
    key: String,
    versions: VecDeque<String>,
    removals: usize,
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
            check: Check::new(objects.clone(), false),
            objects,
            walk: Walk::default(),
            now: Now::Nothing,
            concurrency: options.concurrency.max(1),
            is_empty,
            into_existing: options.into_existing,
            histories: None,
            there: There::default(),
            others: BTreeSet::new(),
            replace: None,
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

    /// Waits until everything is stored, and compares it with what the bucket lists.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write); or the archive is not whole, or the bucket does not have all of it.
    pub async fn finish(mut self) -> Result<Finished, Error> {
        self.expect_sound()?;
        self.drain().await?;
        self.expect_passed()?;
        let archive = std::mem::take(&mut self.walk).finish()?;
        if !self.others.is_empty() {
            let replace = Some(std::mem::take(&mut self.others));
            let check = Check::new(self.objects.clone(), archive.versions);
            return Ok(Finished::ReadAgain(Box::new(Self { replace, check, ..self })));
        }
        self.check.compare(true).await?;
        let (found, surplus) = self.check.counts();
        let Self { stored, skipped, .. } = self;
        Ok(Finished::Whole(RestoreReport { archive, stored, skipped, found, surplus }))
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
        self.check = Check::new(self.objects.clone(), true);
        let is_empty = self.is_empty && self.objects.is_empty(true).await?;
        if !is_empty && !self.into_existing {
            return Err(not_empty(&self.objects));
        }
        if self.objects.has_versions().await? {
            self.histories = (!is_empty).then(|| Histories::of(&self.objects));
            return Ok(());
        }
        if !is_empty {
            let why = "it does not keep versions, and what is in it would be replaced; turn that on, or restore into an empty one";
            return Err(Error::new(ErrorKind::NotSupported, "restore versions to", self.objects.location(), why));
        }
        self.objects.keep_versions().await
    }

    async fn begin_object(&mut self, member: Box<Member>, bytes: u64) -> Result<(), Error> {
        if self.check.is_full(&member.key) {
            self.drain().await?;
            self.check.compare(false).await?;
        }
        self.check.expect(&member, bytes);
        if self.replace.as_ref().is_some_and(|replace| !replace.contains(&member.key)) {
            self.now = Now::PassOver;
            return Ok(());
        }
        let place = self.place_of(&member).await?;
        if bytes < self.objects.part_bytes() {
            let units = u32::try_from(bytes.min(MEMORY).div_ceil(UNIT)).unwrap_or(u32::MAX);
            let memory = Arc::clone(&self.memory);
            let content = BytesMut::with_capacity(usize::try_from(bytes.min(MAX_RESERVED)).unwrap_or(0));
            let held = memory.acquire_many_owned(units).await.expect("nobody closes it");
            self.now = Now::Gather { member, place, content, held };
            return Ok(());
        }
        // The one before may be the version before.
        if let Some((_, stored)) = self.last.take_if(|(key, _)| *key == member.key)
            && stored.await.is_err()
        {
            return self.give_up().await;
        }
        if let Some(comparison) = self.comparison(&member, bytes, place).await? {
            self.now = Now::Compare(Box::new(comparison));
            return Ok(());
        }
        let writing = Box::new(self.objects.begin(&member.key, &member.attributes).await?);
        self.now = Now::Send { bytes, writing, part: BytesMut::new() };
        Ok(())
    }

    /// What the bucket has in the place of the next object of the archive, as far as that is known without asking for it.
    async fn place_of(&mut self, member: &Member) -> Result<Place, Error> {
        if member.version.is_none() {
            let may_be_taken = !self.is_empty && self.replace.is_none();
            return Ok(if may_be_taken { Place::MayBeTaken } else { Place::Free });
        }
        if self.there.key != member.key {
            self.expect_passed()?;
            let history = match &mut self.histories {
                Some(histories) => histories.find(&member.key).await?,
                None => None,
            };
            self.there = There::of(&member.key, history.unwrap_or_default());
        }
        let There { versions, removals, .. } = &mut self.there;
        if !member.is_delete_marker()
            && let Some(version) = versions.pop_front()
        {
            return Ok(Place::Version(version));
        }
        if member.is_delete_marker() && *removals > 0 {
            *removals -= 1;
            return Ok(Place::Removal);
        }
        // What is stored now comes behind everything that is there.
        self.expect_passed()?;
        Ok(Place::Free)
    }

    /// That the archive has all that the bucket has of an object's history.
    fn expect_passed(&self) -> Result<(), Error> {
        let There { key, versions, removals } = &self.there;
        if versions.is_empty() && *removals == 0 { Ok(()) } else { Err(another_history(&self.objects, key)) }
    }

    /// A comparison with the large object that has the place, if it is to be compared.
    async fn comparison(&self, member: &Member, bytes: u64, place: Place) -> Result<Option<Comparison>, Error> {
        let (version, must_be_same) = match &place {
            Place::MayBeTaken if self.others.len() < MAX_OTHERS => (None, false),
            Place::Version(version) => (Some(version.as_str()), true),
            _ => return Ok(None),
        };
        let head = same_so_far(&self.objects, member, bytes, version).await?;
        let comparison = head.and_then(|head| Comparison::new(&self.objects, member, &head, must_be_same));
        if comparison.is_none() && must_be_same {
            return Err(another_history(&self.objects, &member.key));
        }
        Ok(comparison)
    }

    async fn take(&mut self, mut piece: Bytes) -> Result<(), Error> {
        match &mut self.now {
            Now::Nothing => unreachable!("an object was begun"),
            Now::PassOver => {}
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
            Now::PassOver => {}
            Now::Gather { member, place, content, held } => self.spawn(member, place, content.freeze(), held).await?,
            Now::Send { bytes, mut writing, part } => {
                if !part.is_empty() {
                    writing.send(part.freeze()).await?;
                }
                writing.finish().await?;
                self.stored.add(bytes);
                self.last = None;
            }
            Now::Compare(comparison) => {
                let Comparison { key, bytes, must_be_same, .. } = &*comparison;
                let (key, bytes, must_be_same) = (key.clone(), *bytes, *must_be_same);
                if comparison.finish() {
                    self.skipped.add(bytes);
                } else if must_be_same {
                    return Err(another_history(&self.objects, &key));
                } else {
                    self.others.insert(key);
                }
                self.last = None;
            }
        }
        Ok(())
    }

    /// Stores an object beside others.
    async fn spawn(
        &mut self,
        member: Box<Member>,
        place: Place,
        content: Bytes,
        held: OwnedSemaphorePermit,
    ) -> Result<(), Error> {
        while self.jobs.len() >= self.concurrency {
            self.join().await?;
        }
        let (done, stored) = oneshot::channel();
        let before = self.last.replace((member.key.clone(), stored)).filter(|(key, _)| *key == member.key);
        let objects = self.objects.clone();
        self.jobs.spawn(async move {
            let _held = held;
            if let Some((key, stored)) = before
                && stored.await.is_err()
            {
                // That one tells why.
                return Err(objects.fail(ErrorKind::Incomplete, "store", &key, "the version before it was not stored"));
            }
            let outcome = store(&objects, &member, content, &place).await?;
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

    /// Waits for all that are under way.
    async fn drain(&mut self) -> Result<(), Error> {
        while !self.jobs.is_empty() {
            self.join().await?;
        }
        Ok(())
    }

    /// Tells which of those that are under way has failed.
    async fn give_up(&mut self) -> Result<(), Error> {
        self.drain().await?;
        self.expect_sound()
    }
}

impl There {
    fn of(key: &str, history: History) -> Self {
        let all = history.len();
        let versions: VecDeque<_> = history.into_iter().filter(|it| !it.is_delete_marker).map(|it| it.id).collect();
        Self { key: key.to_owned(), removals: all - versions.len(), versions }
    }
}

async fn store(objects: &Objects, member: &Member, content: Bytes, place: &Place) -> Result<Outcome, Error> {
    let bytes = content.len() as u64;
    let is_there = match place {
        Place::Free => false,
        Place::Removal => true,
        Place::MayBeTaken => match same_so_far(objects, member, bytes, None).await? {
            Some(head) => head.md5().is_some_and(|found| is_md5_of(found, &content)),
            None => false,
        },
        Place::Version(version) => {
            let head = same_so_far(objects, member, bytes, Some(version)).await?;
            let is_same = match head.as_ref().map(|head| head.md5()) {
                None => false,
                Some(Some(found)) => is_md5_of(found, &content),
                Some(None) => has_bytes(objects, &member.key, version, content.clone()).await?,
            };
            if !is_same {
                return Err(another_history(objects, &member.key));
            }
            true
        }
    };
    if is_there {
        return Ok(Outcome::Skipped(bytes));
    }
    if member.is_delete_marker() {
        objects.remove(&member.key).await?;
    } else {
        objects.write(&member.key, &member.attributes, content).await?;
    }
    Ok(Outcome::Stored(bytes))
}

/// What has the key, or is this version of it, if that is as long and has the same beside its bytes.
async fn same_so_far(
    objects: &Objects,
    member: &Member,
    bytes: u64,
    version: Option<&str>,
) -> Result<Option<Head>, Error> {
    let Some(mut head) = objects.head_version(&member.key, version).await? else { return Ok(None) };
    if head.bytes != bytes || head.untold > 0 {
        return Ok(None);
    }
    BucketRecord::take(&mut head.attributes);
    if head.tags > 0 {
        head.attributes.tags = objects.tags_of_version(&member.key, version).await?;
    }
    Ok(unlike(&member.attributes, &head.attributes).is_empty().then_some(head))
}

fn is_md5_of(found: &str, content: &[u8]) -> bool {
    found.eq_ignore_ascii_case(&hex(&Md5::digest(content)))
}

/// Whether a version has these bytes, which are read.
async fn has_bytes(objects: &Objects, key: &str, version: &str, mut bytes: Bytes) -> Result<bool, Error> {
    let (_, mut stored) = objects.read_version(key, Some(version)).await?;
    while let Some(piece) = stored.try_next().await? {
        if !bytes.starts_with(&piece) {
            return Ok(false);
        }
        bytes.advance(piece.len());
    }
    Ok(bytes.is_empty())
}

/// An object that is there with the same length. Its `ETag` is that of an upload in parts; the object of the archive would have the
/// same one.
#[derive(Debug)]
struct Comparison {
    objects: Objects,
    key: String,
    bytes: u64,
    /// It is a version, which is never replaced.
    must_be_same: bool,
    e_tag: String,
    /// Of the part that comes.
    part: Md5,
    left: u64,
    /// The MD5 of each part so far.
    parts: Vec<u8>,
}

impl Comparison {
    /// `None` when the object was not stored in as many parts as it would be.
    fn new(objects: &Objects, member: &Member, head: &Head, must_be_same: bool) -> Option<Self> {
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
            must_be_same,
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

    /// Ends it: whether all bytes were those of the object that is there.
    fn finish(mut self) -> bool {
        let count = u32::try_from(self.parts.len() / 16).unwrap_or(u32::MAX);
        if self.left < self.objects.part_bytes_after(count) {
            self.end_part();
        }
        let e_tag = format!("{}-{}", hex(&Md5::digest(&self.parts)), self.parts.len() / 16);
        e_tag.eq_ignore_ascii_case(&self.e_tag)
    }
}

fn another_history(objects: &Objects, key: &str) -> Error {
    let why = "its versions there are not the beginning of those in the archive";
    let error = objects.fail(ErrorKind::AlreadyExists, "restore the versions of", key, why);
    error.with_hint("restore into an empty bucket: another one, or this one without its objects and their versions")
}

fn not_empty(objects: &Objects) -> Error {
    let why = "there are objects in it already; restore into an empty bucket, or allow that they are replaced";
    Error::new(ErrorKind::AlreadyExists, "restore to", objects.location(), why)
}
