//! A folder as one side of a mirror.

use std::collections::HashSet;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{
    Dir, DirBuilder, DirBuilderExt as _, File, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _,
};
use futures_util::stream::{BoxStream, StreamExt as _};
use rustix::fs::FlockOperation;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::index::{Index, Line, Records};
use super::name::{OWN, goes_on, part_of, path_of};
use super::place::{Body, Entry, Found, Object};
use super::record::{Record, Sha256, Stamp};
use crate::error::{Error, ErrorKind};
use crate::local::{LocalError, is_absent, received};

/// Where files are before they have their names, below [`OWN`].
const STAGING: &str = "staging";
/// Whoever mirrors to the folder has a lock on this file, below [`OWN`].
const LOCK: &str = "lock";
/// How long it is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// What is read and written at once.
const PIECE_BYTES: usize = 256 << 10;
/// How many pieces may wait to be taken.
const PIECES: usize = 4;
/// What is written of a large file before it is brought to the disk.
const SYNC_BYTES: usize = 32 << 20;
/// How many entries of a listing may.
const ENTRIES: usize = 256;
/// How many folders are remembered to be there.
const MAX_MADE: usize = 10_000;

/// A folder that objects are read from or stored in.
#[derive(Debug)]
pub(super) struct Folder {
    root: Dir,
    path: PathBuf,
    /// Of a folder that objects were mirrored to; in any other one, names stand for themselves.
    index: Option<Index>,
    /// Of a target.
    staging: Option<Dir>,
    /// Of a target, held for as long as this is.
    _lock: Option<File>,
    staged: AtomicU64,
    /// Held while names are given. The folders that are known to be there.
    made: Mutex<HashSet<String>>,
}

/// What a listing says of a file.
#[derive(Clone, Debug)]
pub(super) struct FileEntry {
    pub(super) path: String,
    pub(super) stamp: Stamp,
    pub(super) record: Option<Record>,
    /// There is another file for the same object.
    pub(super) is_doubled: bool,
}

impl FileEntry {
    /// Whether the file is as it was when it was recorded.
    pub(super) fn is_intact(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.file == Some(self.stamp))
    }
}

/// How the bytes of a file arrive at the thread that writes it.
enum Piece {
    Bytes(Bytes),
    /// There are no more. Where this does not come, the file is not whole.
    End,
}

impl Folder {
    /// Opens a folder to read objects from.
    pub(super) fn open_source(path: PathBuf) -> Result<Self, Error> {
        let root = open_root(&path)?;
        let index = match root.symlink_metadata(OWN) {
            Ok(found) if found.is_dir() => Some(root.open_dir(OWN)),
            Ok(_) => None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => Some(Err(e)),
        };
        let index = index.transpose().map_err(|e| fail("open", path.join(OWN), e))?.map(Index::new);
        Ok(Self { root, path, index, staging: None, _lock: None, staged: AtomicU64::new(0), made: Mutex::default() })
    }

    /// Opens a folder to store objects in, and removes what someone left behind who was killed.
    pub(super) fn open_target(path: PathBuf) -> Result<Self, Error> {
        let root = open_root(&path)?;
        let make = |dir: &Dir, name: &str| {
            let mut builder = DirBuilder::new();
            match dir.create_dir_with(name, builder.mode(0o700)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
                _ => dir.open_dir(name),
            }
        };
        let own = make(&root, OWN).map_err(|e| fail("make", path.join(OWN), e))?;
        let lock = lock(&own, &path)?;
        let staging = make(&own, STAGING).map_err(|e| fail("make", path.join(OWN).join(STAGING), e))?;
        clean(&staging).map_err(|e| fail("clean up", path.join(OWN).join(STAGING), e))?;
        let (index, staging) = (Some(Index::new(own)), Some(staging));
        Ok(Self { root, path, index, staging, _lock: Some(lock), staged: AtomicU64::new(0), made: Mutex::default() })
    }

    pub(super) fn location(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn fail(&self, kind: ErrorKind, doing: &'static str, path: &str, why: impl Into<String>) -> Error {
        Error::new(kind, doing, self.path.join(path).display().to_string(), why)
    }

    fn io(&self, doing: &'static str, path: &str) -> impl Fn(io::Error) -> Error + use<> {
        let path = self.path.join(path);
        move |e| fail(doing, path.clone(), e)
    }

    fn index_error(&self, doing: &'static str) -> impl Fn(io::Error) -> Error + use<> {
        let error = self.io(doing, OWN);
        move |e| {
            match e.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => error(e).with_hint(
                "remove the file `index` there, and mirror from the bucket again: every object is copied anew, and with it \
                 what the index says of it",
            ),
            io::ErrorKind::Unsupported => error(e).with_hint("use the version of this program that has written it"),
            _ => error(e),
        }
        }
    }

    /// Brings all names to the disk, and makes a new list of what is known of the files.
    pub(super) async fn finish(self: &Arc<Self>) -> Result<(), Error> {
        self.blocking(|folder| {
            let Some(index) = &folder.index else { return Ok(()) };
            if index.has_journal() {
                // At once, which takes less time than each folder after each file.
                let synced = folder.root.open(".").and_then(|root| Ok(rustix::fs::syncfs(&root)?));
                synced.map_err(folder.io("sync", ""))?;
            }
            index.compact().map_err(folder.index_error("write the index in"))
        })
        .await
    }

    /// All files, in the order of the keys of their objects.
    pub(super) fn list(self: &Arc<Self>) -> BoxStream<'static, Result<Found, Error>> {
        let (sender, found) = mpsc::channel(ENTRIES);
        let folder = Arc::clone(self);
        spawn_blocking(move || {
            let records = folder.index.as_ref().map(Index::records).transpose();
            let listed = records.map_err(folder.index_error("read the index in")).and_then(|records| {
                let send = |found| sender.blocking_send(Ok(found)).is_ok();
                let mut walk = Walk { folder: &folder, records: records.map(Iterator::peekable), send };
                Ok(walk.run()? && walk.skip_to(None)?)
            });
            if let Err(e) = listed {
                // Whoever has stopped listening does not care.
                let _ = sender.blocking_send(Err(e));
            }
        });
        received(found)
    }

    /// Opens a file and reads it, at once if it is no longer than `limit`. `with_digest` asks for the SHA-256 of a longer
    /// one before its bytes.
    pub(super) async fn read(
        self: &Arc<Self>,
        file: FileEntry,
        limit: u64,
        with_digest: bool,
    ) -> Result<Object, Error> {
        self.blocking(move |folder| {
            let fail = folder.io("read", &file.path);
            let (mut open, stamp, bytes) = folder.open(&file.path)?;
            let mark = mark(bytes, stamp);
            let attributes = file.record.as_ref().map(|record| record.attributes.clone());
            if bytes <= limit {
                let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
                (&mut open).take(limit + 1).read_to_end(&mut content).map_err(&fail)?;
                folder.expect_unchanged(&open, &file.path, stamp, content.len() as u64)?;
                return Ok(Object { bytes, attributes, mark, sha256: None, body: Body::Whole(content.into()) });
            }
            let recorded = file.record.as_ref().filter(|record| record.file == Some(stamp));
            let sha256 = match recorded {
                _ if !with_digest => None,
                Some(record) => Some(record.sha256.clone()),
                None => {
                    let sha256 = hash(&mut open).map_err(&fail)?;
                    open.rewind().map_err(&fail)?;
                    Some(sha256)
                }
            };
            let (sender, pieces) = mpsc::channel(PIECES);
            let folder = Arc::clone(folder);
            spawn_blocking(move || {
                let send = |result| sender.blocking_send(result).is_ok();
                let mut length = 0;
                loop {
                    let mut piece = Vec::with_capacity(PIECE_BYTES);
                    match (&mut open).take(PIECE_BYTES as u64).read_to_end(&mut piece) {
                        Ok(0) => break,
                        Ok(read) => length += read as u64,
                        Err(e) => {
                            send(Err(folder.io("read", &file.path)(e)));
                            return;
                        }
                    }
                    if !send(Ok(Bytes::from(piece))) {
                        return;
                    }
                }
                if let Err(e) = folder.expect_unchanged(&open, &file.path, stamp, length) {
                    send(Err(e));
                }
            });
            Ok(Object { bytes, attributes, mark, sha256, body: Body::Pieces(received(pieces)) })
        })
        .await
    }

    /// The SHA-256 of a file, with its length and stamp.
    pub(super) async fn digest(self: &Arc<Self>, file: &FileEntry) -> Result<(String, u64, Stamp), Error> {
        let path = file.path.clone();
        self.blocking(move |folder| {
            let (mut open, stamp, bytes) = folder.open(&path)?;
            let sha256 = hash(&mut open).map_err(folder.io("read", &path))?;
            folder.expect_unchanged(&open, &path, stamp, bytes)?;
            Ok((sha256, bytes, stamp))
        })
        .await
    }

    /// Stores an object in the place of what has its name. Its file gets the name when it is whole and on the disk.
    /// Returns its SHA-256.
    pub(super) async fn store(
        self: &Arc<Self>,
        key: &str,
        object: Object,
        old: Option<&FileEntry>,
    ) -> Result<String, Error> {
        let is_doubled = old.is_some_and(|old| old.is_doubled);
        let Object { bytes, attributes, mark, body, .. } = object;
        let record = Record {
            bytes,
            sha256: String::new(),
            source: mark,
            file: None,
            attributes: attributes.unwrap_or_default(),
        };
        let key = key.to_owned();
        let mut pieces = match body {
            Body::Whole(content) => {
                return self
                    .blocking(move |folder| {
                        let mut staged = folder.stage(&key)?;
                        staged.write(&content).map_err(folder.io("write", &path_of(&key, false)))?;
                        folder.publish(&key, staged, record, is_doubled)
                    })
                    .await;
            }
            Body::Pieces(pieces) => pieces,
        };
        let (sender, mut receiver) = mpsc::channel(PIECES);
        let writing = self.blocking(move |folder| {
            let mut staged = folder.stage(&key)?;
            if !staged.write_all(&mut receiver).map_err(folder.io("write", &path_of(&key, false)))? {
                // Nobody waits for this: the reading has failed, or was given up.
                let why = "reading it has failed";
                return Err(folder.fail(ErrorKind::Incomplete, "store", &path_of(&key, false), why));
            }
            folder.publish(&key, staged, record, is_doubled)
        });
        let reading = async move {
            while let Some(piece) = pieces.next().await {
                if sender.send(Piece::Bytes(piece?)).await.is_err() {
                    return Ok(());
                }
            }
            let _ = sender.send(Piece::End).await;
            Ok(())
        };
        // When both fail, reading failed first, or has no error at all.
        let (written, read) = futures_util::future::join(writing, reading).await;
        read.and(written)
    }

    /// Writes down that a file is a copy of what has this mark.
    pub(super) async fn note(self: &Arc<Self>, key: &str, record: Record) -> Result<(), Error> {
        let line = Line { key: key.to_owned(), record: Some(record) };
        self.blocking(move |folder| folder.add(&line)).await
    }

    /// Forgets an object whose file is gone.
    pub(super) async fn forget(self: &Arc<Self>, key: String) -> Result<(), Error> {
        self.blocking(move |folder| folder.add(&Line { key, record: None })).await
    }

    /// Removes the files of an object, and the folders that have nothing in them then.
    pub(super) async fn remove(self: &Arc<Self>, key: &str) -> Result<(), Error> {
        let key = key.to_owned();
        self.blocking(move |folder| {
            let mut made = folder.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.clear();
            for path in [path_of(&key, true), path_of(&key, false)] {
                let fail = folder.io("remove", &path);
                match folder.root.symlink_metadata(&path) {
                    Ok(found) if found.is_file() => {}
                    Err(e) if !is_absent(&e) => return Err(fail(e)),
                    // Of another object, or nothing.
                    _ => continue,
                }
                folder.root.remove_file(&path).map_err(&fail)?;
                let mut rest = path.as_str();
                while let Some((parent, _)) = rest.rsplit_once('/')
                    && folder.root.remove_dir(parent).is_ok()
                {
                    rest = parent;
                }
            }
            folder.add(&Line { key, record: None })
        })
        .await
    }

    fn add(&self, line: &Line) -> Result<(), Error> {
        let index = self.index.as_ref().expect("a target has an index");
        index.add(line).map_err(self.io("write the index in", OWN))
    }

    /// Opens a regular file.
    fn open(&self, path: &str) -> Result<(File, Stamp, u64), Error> {
        let fail = self.io("read", path);
        // Opening a named pipe would wait for ever.
        if !self.root.symlink_metadata(path).map_err(&fail)?.is_file() {
            return Err(self.fail(ErrorKind::NotFound, "read", path, "it is no file any more"));
        }
        let file = self.root.open(path).map_err(&fail)?;
        let metadata = file.metadata().map_err(&fail)?;
        Ok((file, stamp(&metadata), metadata.len()))
    }

    fn expect_unchanged(&self, file: &File, path: &str, before: Stamp, bytes: u64) -> Result<(), Error> {
        let now = file.metadata().map_err(self.io("read", path))?;
        if stamp(&now) == before && now.len() == bytes {
            return Ok(());
        }
        Err(self.fail(ErrorKind::Incomplete, "read", path, "it was written to while it was read"))
    }

    fn stage(&self, key: &str) -> Result<Staged<'_>, Error> {
        let dir = self.staging.as_ref().expect("a target has a place for unfinished files");
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        loop {
            let name = format!("{}-{}", std::process::id(), self.staged.fetch_add(1, Relaxed));
            match dir.open_with(&name, &options) {
                // Two pods that share a volume can both be process 1.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                file => {
                    let file = file.map_err(self.io("begin", &path_of(key, false)))?;
                    // Held until the file is closed: see `clean`.
                    let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
                    return Ok(Staged { dir, file, name: Some(name), sha256: Sha256::new(), bytes: 0 });
                }
            }
        }
    }

    /// Gives a file its name. Before and after that it is written down what it is: whoever finds it after a kill in
    /// between has to read it, and needs not copy it.
    fn publish(
        &self,
        key: &str,
        mut staged: Staged<'_>,
        mut record: Record,
        is_doubled: bool,
    ) -> Result<String, Error> {
        let path = path_of(key, false);
        let fail = self.io("store", &path);
        if staged.bytes != record.bytes {
            let why = format!("{} bytes arrived of {}", staged.bytes, record.bytes);
            return Err(self.fail(ErrorKind::Incomplete, "store", &path, why));
        }
        staged.file.sync_all().map_err(&fail)?;
        record.sha256 = staged.sha256.clone().finish();
        let mut line = Line { key: key.to_owned(), record: Some(record) };
        self.add(&line)?;
        let name = staged.name.as_deref().expect("it has none only when it is published");
        {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            let beside = path_of(key, true);
            let path = if self.is_dir(&path).map_err(&fail)? { &beside } else { &path };
            self.make_parents(path, key, &mut made).map_err(&fail)?;
            staged.dir.rename(name, &self.root, path).map_err(&fail)?;
            staged.name = None;
            if is_doubled && *path != beside {
                self.root
                    .remove_file(&beside)
                    .or_else(|e| if is_absent(&e) { Ok(()) } else { Err(e) })
                    .map_err(&fail)?;
            }
        }
        let stamp = stamp(&staged.file.metadata().map_err(&fail)?);
        let record = line.record.as_mut().expect("it was put there");
        record.file = Some(stamp);
        let sha256 = record.sha256.clone();
        self.add(&line)?;
        Ok(sha256)
    }

    fn is_dir(&self, path: &str) -> io::Result<bool> {
        match self.root.symlink_metadata(path) {
            Ok(found) => Ok(found.is_dir()),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes the folders on the way to a file. The file of an object that has the name of one of them makes room.
    fn make_parents(&self, path: &str, key: &str, made: &mut HashSet<String>) -> io::Result<()> {
        let Some((parents, _)) = path.rsplit_once('/') else { return Ok(()) };
        if made.contains(parents) {
            return Ok(());
        }
        // The keys of the objects that can be in the way.
        let mut shorter: Vec<&str> = key.match_indices('/').map(|(at, _)| &key[..at]).collect();
        shorter.reverse();
        for end in parents.match_indices('/').map(|(at, _)| at).chain([parents.len()]) {
            let folder = &parents[..end];
            let is_key = !goes_on(folder);
            let of = if is_key { shorter.pop() } else { None };
            match self.root.symlink_metadata(folder) {
                Ok(found) if found.is_dir() => continue,
                Ok(found) if found.is_file() && is_key => {
                    let beside = path_of(of.unwrap_or_default(), true);
                    self.root.rename(folder, &self.root, &beside)?;
                }
                Ok(_) => {
                    let why = "something that is neither a file nor a folder is on the way to it";
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, why));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            let mut builder = DirBuilder::new();
            self.root.create_dir_with(folder, builder.mode(0o700))?;
        }
        if made.len() >= MAX_MADE {
            made.clear();
        }
        made.insert(parents.to_owned());
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = Arc::clone(self);
        // Nothing cancels these threads, so it is a panic.
        spawn_blocking(move || work(&folder)).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
    }
}

/// A file that is being written. Dropped before it has its name, it is removed.
struct Staged<'a> {
    dir: &'a Dir,
    file: File,
    name: Option<String>,
    sha256: Sha256,
    bytes: u64,
}

impl Staged<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.sha256.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// Writes what arrives, while one thread makes its digest and another one brings it to the disk. False when it does not come
    /// to an end.
    fn write_all(&mut self, receiver: &mut mpsc::Receiver<Piece>) -> io::Result<bool> {
        let Self { file, sha256, bytes, .. } = self;
        let mut file = &*file;
        std::thread::scope(|threads| {
            let (hash, pieces) = sync_channel::<Bytes>(PIECES);
            threads.spawn(move || pieces.iter().for_each(|piece| sha256.update(&piece)));
            let (sync, written) = sync_channel::<()>(1);
            let syncing = threads.spawn(move || written.iter().try_for_each(|()| file.sync_data()));
            let mut unsynced = 0;
            let has_ended = loop {
                match receiver.blocking_recv() {
                    Some(Piece::Bytes(piece)) => {
                        file.write_all(&piece)?;
                        *bytes += piece.len() as u64;
                        unsynced += piece.len();
                        if unsynced >= SYNC_BYTES && sync.try_send(()).is_ok() {
                            unsynced = 0;
                        }
                        // It takes all, unless it panics.
                        let _ = hash.send(piece);
                    }
                    Some(Piece::End) => break true,
                    None => break false,
                }
            };
            drop((hash, sync));
            // An error is told once: the one who syncs it at last would not see it.
            syncing.join().unwrap_or_else(|e| std::panic::resume_unwind(e))?;
            Ok(has_ended)
        })
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // The next one to open the folder removes it otherwise.
            let _ = self.dir.remove_file(name);
        }
    }
}

/// A listing on its way through the folder.
struct Walk<'a, S> {
    folder: &'a Folder,
    records: Option<Peekable<Records>>,
    /// False when nobody listens any more.
    send: S,
}

/// A file, or a folder whose part of a key ends with a slash.
struct Item {
    part: String,
    name: String,
    is_dir: bool,
    is_beside: bool,
}

impl<S: FnMut(Found) -> bool> Walk<'_, S> {
    /// Tells of all files in the folder and below; false when nobody listens.
    fn run(&mut self) -> Result<bool, Error> {
        // Not by calling itself: the folders of a key can be deeper than a stack.
        let mut levels = Vec::new();
        let mut enter = Some((String::new(), String::new()));
        loop {
            if let Some((path, prefix)) = enter.take() {
                let mut items = Vec::new();
                if !self.read(&path, &mut items)? {
                    return Ok(false);
                }
                // What is in a folder comes where its name and a slash are in the order.
                items.sort_by(|a, b| (&a.part, a.is_beside).cmp(&(&b.part, b.is_beside)));
                levels.push((path, prefix, items.into_iter().peekable()));
            }
            let Some((path, prefix, items)) = levels.last_mut() else { return Ok(true) };
            let Some(item) = items.next() else {
                levels.pop();
                continue;
            };
            let (path, key) = (joined(path, &item.name), format!("{prefix}{}", item.part));
            if item.is_dir {
                enter = Some((path, key));
                continue;
            }
            let is_doubled = items.next_if(|next| next.part == item.part).is_some();
            if !self.tell(path, key, is_doubled)? {
                return Ok(false);
            }
        }
    }

    fn tell(&mut self, path: String, key: String, is_doubled: bool) -> Result<bool, Error> {
        let metadata = match self.folder.root.symlink_metadata(&path) {
            // Removed meanwhile, or something else now.
            Err(e) if is_absent(&e) => return Ok(true),
            Ok(found) if !found.is_file() => return Ok(true),
            other => other.map_err(self.folder.io("list", &path))?,
        };
        if !self.skip_to(Some(&key))? {
            return Ok(false);
        }
        let record = self.take(&key)?;
        let (stamp, bytes) = (stamp(&metadata), metadata.len());
        let file = FileEntry { path, stamp, record, is_doubled };
        Ok((self.send)(Found::Object(Entry { key, bytes, mark: mark(bytes, stamp), file: Some(Box::new(file)) })))
    }

    /// Reads the names in a folder, and in those that hold the rest of names that are too long.
    fn read(&mut self, path: &str, items: &mut Vec<Item>) -> Result<bool, Error> {
        let mut rest = vec![String::new()];
        while let Some(below) = rest.pop() {
            if !self.read_one(path, &below, items, &mut rest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_one(
        &mut self,
        path: &str,
        below: &str,
        items: &mut Vec<Item>,
        rest: &mut Vec<String>,
    ) -> Result<bool, Error> {
        let at = joined(path, below);
        let fail = self.folder.io("list", &at);
        let opened = if at.is_empty() { self.folder.root.try_clone() } else { self.folder.root.open_dir(&at) };
        let dir = match opened {
            Err(e) if is_absent(&e) => return Ok(true),
            other => other.map_err(&fail)?,
        };
        let has_index = self.folder.index.is_some();
        let entries = match dir.entries() {
            // That of the file system itself, which is for the system administrator alone. Any other one would be missed.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && at == "lost+found" => return Ok(true),
            other => other.map_err(&fail)?,
        };
        for entry in entries {
            let entry = entry.map_err(&fail)?;
            let os_name = entry.file_name();
            if at.is_empty() && has_index && os_name == OWN {
                continue;
            }
            let kind = entry.file_type().map_err(&fail)?;
            let strange = |why: &str| Found::Strange { path: joined(&at, &os_name.to_string_lossy()), why: why.into() };
            let found = match os_name.to_str() {
                None => Err(strange("its name is not UTF-8, which that of an object has to be")),
                Some(_) if !kind.is_file() && !kind.is_dir() => {
                    Err(strange("it is neither a file nor a folder; links are not followed"))
                }
                Some(name) if !has_index => Ok(Some((name.to_owned(), name.to_owned(), false))),
                Some(name) if kind.is_dir() && goes_on(name) => {
                    rest.push(joined(below, name));
                    Ok(None)
                }
                Some(name) => {
                    let name = joined(below, name);
                    match part_of(&name, path.is_empty()) {
                        Some((part, is_beside)) if !(is_beside && kind.is_dir()) => Ok(Some((part, name, is_beside))),
                        _ => Err(strange("its name is not how that of an object is written in a mirrored folder")),
                    }
                }
            };
            match found {
                Ok(None) => {}
                Ok(Some((mut part, name, is_beside))) => {
                    if kind.is_dir() {
                        part.push('/');
                    }
                    items.push(Item { part, name, is_dir: kind.is_dir(), is_beside });
                }
                Err(strange) => {
                    if !(self.send)(strange) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Passes over what was recorded of objects before `key`, whose files are gone.
    fn skip_to(&mut self, key: Option<&str>) -> Result<bool, Error> {
        while let Some(records) = &mut self.records
            && let Some(line) = records.next_if(|line| {
                line.as_ref().is_err() || line.as_ref().is_ok_and(|line| key.is_none_or(|key| *line.key < *key))
            })
        {
            let line = line.map_err(self.folder.index_error("read the index in"))?;
            if line.record.is_some() && !(self.send)(Found::Gone(line.key)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, key: &str) -> Result<Option<Record>, Error> {
        let Some(records) = &mut self.records else { return Ok(None) };
        let line = records.next_if(|line| line.as_ref().is_ok_and(|line| line.key == key)).transpose();
        Ok(line.map_err(self.folder.index_error("read the index in"))?.and_then(|line| line.record))
    }
}

/// Tells one state of a file from others.
fn mark(bytes: u64, stamp: Stamp) -> String {
    let Stamp { inode, modified, changed } = stamp;
    format!("{bytes} {inode} {modified} {changed}")
}

fn stamp(metadata: &Metadata) -> Stamp {
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    Stamp {
        inode: metadata.ino(),
        modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn joined(path: &str, name: &str) -> String {
    match (path, name) {
        ("", path) | (path, "") => path.to_owned(),
        _ => format!("{path}/{name}"),
    }
}

fn hash(file: &mut File) -> io::Result<String> {
    let (mut sha256, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(sha256.finish()),
            Ok(read) => sha256.update(&piece[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn open_root(path: &PathBuf) -> Result<Dir, Error> {
    Dir::open_ambient_dir(path, ambient_authority()).map_err(|e| fail("open the folder", path.clone(), e))
}

/// Sees to it that nobody else mirrors to the folder.
fn lock(own: &Dir, path: &Path) -> Result<File, Error> {
    let at = path.join(OWN).join(LOCK);
    let mut options = OpenOptions::new();
    let file =
        own.open_with(LOCK, options.write(true).create(true).mode(0o600)).map_err(|e| fail("open", at.clone(), e))?;
    let begun = Instant::now();
    while let Err(e) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if e != rustix::io::Errno::WOULDBLOCK {
            // There are file systems without locks.
            break;
        }
        // What this process has given up a moment ago may still be writing its last file.
        if begun.elapsed() >= LOCK_WAIT {
            let why = "somebody else mirrors to it at the moment";
            return Err(Error::new(ErrorKind::InUse, "mirror to", path.display().to_string(), why));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(file)
}

/// Removes unfinished files that nobody writes to.
fn clean(staging: &Dir) -> io::Result<()> {
    for entry in staging.entries()? {
        let entry = entry?;
        match entry.open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            file => {
                if rustix::fs::flock(file?, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    staging.remove_file(entry.file_name())?;
                }
            }
        }
    }
    Ok(())
}

fn fail(doing: &'static str, path: PathBuf, source: io::Error) -> Error {
    LocalError::new(doing, path, source).into()
}
