//! From a bucket.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use md5::{Digest as _, Md5};
use tokio::sync::mpsc;

use super::member::{Beginning, FORMAT, Member, Tally, Version, report_path};
use super::{ArchiveOptions, ArchiveReport, BUCKET_ARCHIVE_VERSION, tar};
use crate::digest::hex;
use crate::error::{Error, ErrorKind};
use crate::mirror::record::{BucketRecord, Sha256};
use crate::s3::{Attributes, Head, Objects, S3};
use crate::task::AbortOnDrop;

/// What is read ahead.
const WHOLE_BYTES: u64 = 1 << 20;
/// How many pieces of a larger object may wait to be written.
const PIECES: usize = 8;
/// What is gathered before it is passed on.
const BUFFER_BYTES: usize = 256 << 10;
/// How often an object is read that is changed meanwhile.
const ATTEMPTS: usize = 5;
/// How many objects are remembered that have the name of a folder.
const MAX_BESIDE: usize = 100_000;

/// Archives a bucket, or what is below its prefix. The bytes of the archive go to `sink`, in order.
///
/// At most as many objects of up to 1 MiB as are read at the same time, and the pieces of one larger one are in memory; and the keys
/// of up to 100,000 objects whose names are those of folders as well (beyond that, `tar` cannot unpack them beside each other).
///
/// # Errors
///
/// The bucket cannot be listed, or an object cannot be read as it has to be; or `sink` has failed. What was written then is no archive.
pub async fn write(
    from: &S3,
    options: &ArchiveOptions,
    sink: impl AsyncFnMut(Bytes) -> Result<(), Error>,
) -> Result<ArchiveReport, Error> {
    let objects = from.objects();
    let beside = names_of_folders(&objects).await?;
    let mut out = Out { sink, buffer: BytesMut::new() };
    let versions = options.versions;
    let beginning = Beginning { format: FORMAT.into(), version: BUCKET_ARCHIVE_VERSION, versions };
    out.add(&tar::begin(&json(&beginning))).await?;
    let (mut tally, mut vanished) = (Tally::new(), 0);
    let fetched = entries(&objects, versions).map_ok(|entry| {
        let objects = objects.clone();
        let task = AbortOnDrop::spawn(async move { fetch(&objects, entry).await });
        async move { task.join().await }
    });
    let mut fetched = std::pin::pin!(fetched.try_buffered(options.concurrency.max(1)));
    while let Some(found) = fetched.try_next().await? {
        match found {
            Fetched::Vanished => vanished += 1,
            Fetched::Whole { member, modified, content, sha256 } => {
                let bytes = content.len() as u64;
                out.begin(&member, bytes, modified, beside.contains(&member.key)).await?;
                out.pass(content).await?;
                out.add(tar::padding(bytes)).await?;
                tally.add(&member, bytes, &sha256);
            }
            Fetched::Large(entry) => {
                let Some(opened) = open(&objects, &entry).await? else {
                    vanished += 1;
                    continue;
                };
                let Opened { member, head, content } = opened;
                out.begin(&member, head.bytes, unix(head.modified), beside.contains(&member.key)).await?;
                let (sender, mut pieces) = mpsc::channel::<Bytes>(PIECES);
                let (bytes, key, objects) = (head.bytes, member.key.clone(), objects.clone());
                let reading = AbortOnDrop::spawn(async move { read(&objects, &key, &head, content, sender).await });
                while let Some(piece) = pieces.recv().await {
                    out.pass(piece).await?;
                }
                let sha256 = reading.join().await?;
                out.add(tar::padding(bytes)).await?;
                tally.add(&member, bytes, &sha256);
            }
        }
    }
    let report = tally.finish(versions, vanished);
    let text = json(&report);
    let bytes = text.len() as u64;
    out.add(&tar::file(&report_path(), bytes, 0, None)).await?;
    out.add(text.as_bytes()).await?;
    out.add(tar::padding(bytes)).await?;
    out.add(tar::end()).await?;
    out.flush().await?;
    Ok(report)
}

/// What is to be archived.
#[derive(Clone, Debug)]
struct Entry {
    key: String,
    bytes: u64,
    version: Option<Version>,
    modified: SystemTime,
}

/// What became of it.
enum Fetched {
    Vanished,
    Whole {
        member: Box<Member>,
        modified: u64,
        content: Bytes,
        sha256: String,
    },
    /// It is read when it is its turn.
    Large(Entry),
}

struct Opened {
    member: Box<Member>,
    head: Head,
    content: BoxStream<'static, Result<Bytes, Error>>,
}

/// What there is, in the order of the keys; and that it is in that order.
fn entries(objects: &Objects, versions: bool) -> BoxStream<'static, Result<Entry, Error>> {
    if !versions {
        let entry = |it: crate::s3::Listed| Entry { key: it.key, bytes: it.bytes, version: None, modified: UNIX_EPOCH };
        return in_order(objects.clone(), objects.list().map_ok(entry).boxed());
    }
    let mut number = (String::new(), 0);
    let entry = move |it: crate::s3::ListedVersion| {
        if number.0 != it.key {
            number = (it.key.clone(), 0);
        }
        number.1 += 1;
        let version =
            Version { id: it.id, number: number.1, is_latest: it.is_latest, is_delete_marker: it.is_delete_marker };
        Entry { key: it.key, bytes: it.bytes, version: Some(version), modified: it.modified }
    };
    in_order(objects.clone(), objects.list_versions().map_ok(entry).boxed())
}

/// Keys that come late would be taken for keys that come twice, which no archive may have.
fn in_order(
    objects: Objects,
    entries: BoxStream<'static, Result<Entry, Error>>,
) -> BoxStream<'static, Result<Entry, Error>> {
    let mut last: Option<(String, bool)> = None;
    let checked = entries.map(move |entry| {
        let entry = entry?;
        let is_next = last.as_ref().is_none_or(|(key, is_latest)| match &entry.version {
            Some(_) if *key == entry.key => !is_latest,
            _ => *key < entry.key,
        });
        if !is_next {
            let why = "the listing is not in the order of the keys and versions";
            return Err(objects.fail(ErrorKind::NotSupported, "archive", &entry.key, why));
        }
        last = Some((entry.key.clone(), entry.version.as_ref().is_some_and(|version| version.is_latest)));
        Ok(entry)
    });
    checked.boxed()
}

/// The keys of objects that have others below them: `a` where there is `a/b`.
async fn names_of_folders(objects: &Objects) -> Result<HashSet<String>, Error> {
    let mut found = HashSet::new();
    // Keys that what comes can be below of: each begins with the one before it.
    let mut above: Vec<String> = Vec::new();
    let mut listed = objects.list();
    while let Some(object) = listed.try_next().await? {
        while above.last().is_some_and(|key| !object.key.starts_with(key)) {
            above.pop();
        }
        for key in &above {
            if object.key.as_bytes().get(key.len()) == Some(&b'/') && found.len() < MAX_BESIDE && !found.contains(key) {
                found.insert(key.clone());
            }
        }
        above.push(object.key);
    }
    Ok(found)
}

async fn fetch(objects: &Objects, entry: Entry) -> Result<Fetched, Error> {
    if entry.version.as_ref().is_some_and(|version| version.is_delete_marker) {
        let modified = unix(entry.modified);
        let member = Box::new(Member { key: entry.key, attributes: Attributes::default(), version: entry.version });
        return Ok(Fetched::Whole { member, modified, content: Bytes::new(), sha256: Sha256::of(b"") });
    }
    for attempt in 1.. {
        if entry.bytes > WHOLE_BYTES {
            return Ok(Fetched::Large(entry));
        }
        let Some(Opened { member, head, content }) = open(objects, &entry).await? else {
            return Ok(Fetched::Vanished);
        };
        // It is another one by now.
        if head.bytes > WHOLE_BYTES {
            return Ok(Fetched::Large(entry));
        }
        let (sender, mut pieces) = mpsc::channel::<Bytes>(PIECES);
        let gathering = async {
            // It is small.
            let mut all = BytesMut::with_capacity(usize::try_from(head.bytes).unwrap_or(0));
            while let Some(piece) = pieces.recv().await {
                all.extend_from_slice(&piece);
            }
            all.freeze()
        };
        let reading = read(objects, &entry.key, &head, content, sender);
        let (content, sha256) = futures_util::future::join(gathering, reading).await;
        match sha256 {
            Ok(sha256) => return Ok(Fetched::Whole { member, modified: unix(head.modified), content, sha256 }),
            // It was replaced while it was read.
            Err(e) if e.kind() == ErrorKind::Incomplete && attempt < ATTEMPTS => {}
            Err(e) => return Err(e),
        }
    }
    unreachable!("the last attempt ends it")
}

/// Begins to read an object, with all that belongs to it; `None` when it is not there any more.
async fn open(objects: &Objects, entry: &Entry) -> Result<Option<Opened>, Error> {
    let id = entry.version.as_ref().map(|version| version.id.as_str());
    for attempt in 1.. {
        let (mut head, content) = match objects.read_version(&entry.key, id).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Rather than all of the bucket.
                objects.look().await?;
                return Ok(None);
            }
            other => other?,
        };
        if head.untold > 0 {
            let why = "it has metadata that the store cannot tell";
            return Err(objects.fail(ErrorKind::NotSupported, "read", &entry.key, why));
        }
        let mut attributes = std::mem::take(&mut head.attributes);
        // It says of what this is a copy, and is no part of it.
        BucketRecord::take(&mut attributes);
        if head.tags > 0 {
            attributes.tags = match objects.tags_of_version(&entry.key, id).await {
                Err(e) if e.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => continue,
                other => other?,
            };
        }
        if attributes.tags.len() != head.tags {
            if attempt < ATTEMPTS {
                continue;
            }
            let why = "it is changed all the time";
            return Err(objects.fail(ErrorKind::Unavailable, "read the tags of", &entry.key, why));
        }
        let member = Box::new(Member { key: entry.key.clone(), attributes, version: entry.version.clone() });
        return Ok(Some(Opened { member, head, content }));
    }
    unreachable!("the last attempt ends it")
}

/// Passes on the bytes of an object, and returns their SHA-256 when they are what the store said.
async fn read(
    objects: &Objects,
    key: &str,
    head: &Head,
    mut content: BoxStream<'static, Result<Bytes, Error>>,
    sender: mpsc::Sender<Bytes>,
) -> Result<String, Error> {
    let (mut sha256, mut bytes) = (Sha256::new(), 0);
    let mut md5 = head.md5().map(|expected| (Md5::new(), expected));
    while let Some(piece) = content.try_next().await? {
        sha256.update(&piece);
        if let Some((md5, _)) = &mut md5 {
            md5.update(&piece);
        }
        bytes += piece.len() as u64;
        if sender.send(piece).await.is_err() {
            // Nobody waits for it.
            break;
        }
    }
    if bytes != head.bytes {
        let why = format!("{bytes} bytes arrived of {}", head.bytes);
        return Err(objects.fail(ErrorKind::Incomplete, "read", key, why));
    }
    if let Some((md5, expected)) = md5 {
        let found = hex(&md5.finalize());
        if !found.eq_ignore_ascii_case(expected) {
            let why =
                format!("its MD5 is {found}, but the store says {expected}: it is damaged, in the store or on its way");
            return Err(objects.fail(ErrorKind::Incomplete, "read", key, why));
        }
    }
    Ok(sha256.finish())
}

/// What goes to the sink.
struct Out<S> {
    sink: S,
    buffer: BytesMut,
}

impl<S: AsyncFnMut(Bytes) -> Result<(), Error>> Out<S> {
    async fn begin(&mut self, member: &Member, bytes: u64, modified: u64, is_beside: bool) -> Result<(), Error> {
        self.add(&tar::file(&member.path(is_beside), bytes, modified, Some(&json(member)))).await
    }

    async fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush().await }
    }

    /// The same without a copy where that makes sense.
    async fn pass(&mut self, bytes: Bytes) -> Result<(), Error> {
        if bytes.len() < BUFFER_BYTES / 8 {
            return self.add(&bytes).await;
        }
        self.flush().await?;
        (self.sink)(bytes).await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let bytes = self.buffer.split().freeze();
        if bytes.is_empty() { Ok(()) } else { (self.sink)(bytes).await }
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn json(value: &impl serde::Serialize) -> String {
    // They are nothing but texts and numbers.
    serde_json::to_string(value).expect("JSON can hold it")
}
