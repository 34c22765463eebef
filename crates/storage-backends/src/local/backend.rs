//! A folder as a [`Backend`].

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use cap_std::fs::{Dir, File, Metadata};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use rustix::fs::FlockOperation;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Folder, LocalError, StagedFile, sync_dir};
use crate::backend::{Abandoned, Backend, Download, Existing, ObjectInfo, Upload};
use crate::error::{Error, ErrorKind};
use crate::key::{Key, STAGING_PREFIX};

/// What is read at once.
const PIECE_BYTES: usize = 256 << 10;
/// How many pieces, or entries of a listing, may wait to be taken.
const WAITING: usize = 4;

/// A [`Folder`] as a [`Backend`]. Waiting for the disk stops no other work of the runtime.
///
/// Files and folders that it makes are for their owner alone (modes 0600 and 0700). Other files in the folder are objects
/// like any other, as long as their names are keys.
#[derive(Clone, Debug)]
pub struct Local {
    folder: Arc<Folder>,
}

impl Local {
    /// Opens a folder that is there.
    ///
    /// # Errors
    ///
    /// It is not there, not a folder, or may not be entered.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self { folder: Arc::new(Folder::open(path)?) })
    }

    /// Opens a folder that a volume is mounted on; see [`Folder::open_mounted`].
    ///
    /// # Errors
    ///
    /// - [`NotMounted`](ErrorKind::NotMounted): nothing is mounted there.
    /// - As [`open`](Self::open).
    pub fn open_mounted(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self { folder: Arc::new(Folder::open_mounted(path)?) })
    }

    /// Does something with the folder where waiting for it is no harm.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, LocalError> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = Arc::clone(&self.folder);
        Ok(join(spawn_blocking(move || work(&folder)).await)?)
    }
}

#[async_trait]
impl Backend for Local {
    fn location(&self) -> String {
        self.folder.path().display().to_string()
    }

    async fn put(&self, key: &Key, existing: Existing) -> Result<Box<dyn Upload>, Error> {
        let name = key.clone();
        let file = self.blocking(move |folder| folder.stage(name.as_str(), existing)).await?;
        Ok(Box::new(LocalUpload { file: Some(file), key: key.clone(), bytes: 0 }))
    }

    async fn put_if_absent(&self, key: &Key, content: Bytes) -> Result<(), Error> {
        let mut upload = self.put(key, Existing::Keep).await?;
        upload.write(content).await?;
        upload.commit().await.map(drop)
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Download, Error> {
        let name = key.clone();
        let (file, metadata) = self.blocking(move |folder| open(folder, &name)).await?;
        let info = info_of(key.clone(), &metadata);
        let range = range.unwrap_or(0..u64::MAX);
        let start = range.start.min(info.bytes);
        let range = start..range.end.clamp(start, info.bytes);
        let path = self.folder.path().join(key.as_str());
        let (sender, pieces) = mpsc::channel(WAITING);
        spawn_blocking(move || {
            let read = send_pieces(file, range, |piece| sender.blocking_send(Ok(piece)).is_ok());
            if let Err(error) = read {
                // Whoever has stopped reading does not care.
                let _ = sender.blocking_send(Err(LocalError::new("read", path, error).into()));
            }
        });
        Ok(Download { info, content: received(pieces) })
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, Error> {
        let name = key.clone();
        match self.blocking(move |folder| open(folder, &name)).await {
            Ok((_, metadata)) => Ok(Some(info_of(key.clone(), &metadata))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn list(&self, folder: Option<&Key>) -> BoxStream<'_, Result<ObjectInfo, Error>> {
        let (sender, objects) = mpsc::channel(WAITING);
        let (root, below) = (Arc::clone(&self.folder), folder.cloned());
        spawn_blocking(move || {
            let mut found =
                |object: Result<ObjectInfo, LocalError>| sender.blocking_send(object.map_err(Error::from)).is_ok();
            let begin =
                below.as_ref().map_or(Ok(root.dir.try_clone()), |below| match root.dir.open_dir(below.as_str()) {
                    Err(e) if is_absent(&e) => Err(()),
                    other => Ok(other),
                });
            // A folder that is not there has no objects.
            let Ok(begin) = begin else { return };
            let path = root.path().join(below.as_ref().map_or("", Key::as_str));
            match begin {
                Ok(dir) => drop(walk(&dir, &path, below.as_ref().map_or("", Key::as_str), &mut found)),
                Err(e) => drop(found(Err(LocalError::new("list", path, e)))),
            }
        });
        received(objects)
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let name = key.clone();
        self.blocking(move |folder| {
            let fail = |e| LocalError::new("remove", folder.path().join(name.as_str()), e);
            let (parent, file) = name.as_str().rsplit_once('/').unwrap_or((".", name.as_str()));
            let dir = match folder.dir.open_dir(parent) {
                Err(e) if is_absent(&e) => return Ok(()),
                other => other.map_err(fail)?,
            };
            match dir.remove_file(file) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(fail(e)),
                Ok(()) => {
                    match sync_dir(&dir) {
                        // Somebody else has removed the folder, which was empty then.
                        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                        other => other.map_err(fail)?,
                    }
                    remove_empty_folders(&folder.dir, parent);
                    Ok(())
                }
            }
        })
        .await
    }

    async fn remove_abandoned(&self, abandoned: &Abandoned) -> Result<u64, Error> {
        let abandoned = abandoned.clone();
        self.blocking(move |folder| {
            let mut removed = 0;
            remove_staging_files(&folder.dir, folder.path(), "", &abandoned, &mut removed)?;
            Ok(removed)
        })
        .await
    }
}

/// A file that is being written.
#[derive(Debug)]
struct LocalUpload {
    /// `None` while a thread has it, and when that has failed.
    file: Option<StagedFile>,
    key: Key,
    bytes: u64,
}

impl LocalUpload {
    /// Has a thread do something with the file, which may take its time.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(StagedFile) -> Result<(Option<StagedFile>, T), LocalError> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(file) = self.file.take() else {
            let why = "it is incomplete, since writing to it failed or was given up before";
            return Err(Error::new(ErrorKind::Incomplete, "write", self.key.as_str(), why));
        };
        let (file, result) = join(spawn_blocking(move || work(file)).await)?;
        self.file = file;
        Ok(result)
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        let bytes = piece.len() as u64;
        self.blocking(move |mut file| match file.write_all(&piece) {
            Ok(()) => Ok((Some(file), ())),
            Err(e) => {
                let path = file.path().to_owned();
                Err(e.downcast::<LocalError>().unwrap_or_else(|e| LocalError::new("write", path, e)))
            }
        })
        .await?;
        self.bytes += bytes;
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<ObjectInfo, Error> {
        self.blocking(|file| file.publish().map(|()| (None, ()))).await?;
        Ok(ObjectInfo::new(self.key.clone(), self.bytes, SystemTime::now()))
    }

    async fn abort(mut self: Box<Self>) -> Result<(), Error> {
        match self.file.take() {
            None => Ok(()),
            Some(file) => Ok(join(spawn_blocking(move || file.abort()).await)?),
        }
    }
}

fn join<T>(result: Result<T, tokio::task::JoinError>) -> T {
    // Nothing cancels these threads, so it is a panic.
    result.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

pub(crate) fn received<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|next| (next, receiver)) }).boxed()
}

/// What is below a file is not there either.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn info_of(key: Key, metadata: &Metadata) -> ObjectInfo {
    let modified = metadata.modified().map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std);
    ObjectInfo::new(key, metadata.len(), modified)
}

/// Opens a regular file; whatever else has the name is no object.
fn open(folder: &Folder, key: &Key) -> Result<(File, Metadata), LocalError> {
    let fail = |e: io::Error| {
        let e = if is_absent(&e) { io::ErrorKind::NotFound.into() } else { e };
        LocalError::new("read", folder.path().join(key.as_str()), e)
    };
    // Opening a named pipe would wait for ever.
    if !folder.dir.metadata(key.as_str()).map_err(fail)?.is_file() {
        return Err(fail(io::ErrorKind::NotFound.into()));
    }
    let file = folder.dir.open(key.as_str()).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    Ok((file, metadata))
}

/// Reads `range`, of which all bytes have to be there.
fn send_pieces(mut file: File, range: Range<u64>, mut send: impl FnMut(Bytes) -> bool) -> io::Result<()> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end - range.start;
    while left > 0 {
        let mut piece = Vec::with_capacity(PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES)));
        let read = (&mut file).take(left.min(PIECE_BYTES as u64)).read_to_end(&mut piece)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        left -= read as u64;
        if !send(piece.into()) {
            return Ok(());
        }
    }
    Ok(())
}

/// Tells of every file below `dir` whose path is a key; false when nobody listens any more.
fn walk(dir: &Dir, path: &Path, prefix: &str, found: &mut dyn FnMut(Result<ObjectInfo, LocalError>) -> bool) -> bool {
    let fail = |e| LocalError::new("list", path.to_owned(), e);
    let entries = match dir.entries() {
        Ok(entries) => entries,
        Err(e) if is_passed_over(&e, prefix) => return true,
        Err(e) => return found(Err(fail(e))),
    };
    for entry in entries {
        let looked_at = entry.and_then(|entry| {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { return Ok(None) };
            let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            match dir.metadata(entry.file_name()) {
                Ok(metadata) => Ok(Some((entry, name, metadata))),
                // Removed meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                // A link that leads nowhere, or out of the folder, is no object.
                Err(_) if entry.file_type().is_ok_and(|kind| kind.is_symlink()) => Ok(None),
                Err(e) => Err(e),
            }
        });
        let goes_on = match looked_at {
            Err(e) => found(Err(fail(e))),
            Ok(None) => true,
            Ok(Some((entry, name, metadata))) => {
                // A link to a folder could lead in a circle.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    match entry.open_dir() {
                        Ok(below) => walk(&below, &path.join(entry.file_name()), &name, found),
                        Err(e) if is_passed_over(&e, &name) => true,
                        Err(e) => found(Err(LocalError::new("list", path.join(entry.file_name()), e))),
                    }
                // Nor is one to a file an object of its own: who removes the file would take it from the link, too.
                } else if entry.file_type().is_ok_and(|kind| kind.is_file())
                    && let Ok(key) = name.parse()
                {
                    found(Ok(info_of(key, &metadata)))
                } else {
                    true
                }
            }
        };
        if !goes_on {
            return false;
        }
    }
    true
}

/// Whether it is no harm that a folder below the root cannot be read: it was removed meanwhile, or is that of the file system itself, which is
/// for the system administrator alone. That can turn out when it is opened, and when its names are read.
fn is_passed_over(error: &io::Error, name: &str) -> bool {
    match error.kind() {
        io::ErrorKind::NotFound => !name.is_empty(),
        io::ErrorKind::PermissionDenied => name == "lost+found",
        _ => false,
    }
}

/// Folders that were made on the way to a file. What keeps one is no reason for an error.
fn remove_empty_folders(root: &Dir, mut path: &str) {
    while path != "." && root.remove_dir(path).is_ok() {
        path = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
    }
}

fn remove_staging_files(
    dir: &Dir,
    path: &Path,
    prefix: &str,
    abandoned: &Abandoned,
    removed: &mut u64,
) -> Result<(), LocalError> {
    let folder = (!prefix.is_empty()).then(|| prefix.parse::<Key>()).transpose();
    // Where no object can be, nobody begins one.
    let Ok(folder) = folder else { return Ok(()) };
    let is_ours = abandoned.is_ours(folder.as_ref());
    let fail = |e| LocalError::new("clean up", path.to_owned(), e);
    let Some(entries) = unless_of_others(dir.entries()).map_err(fail)? else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let Some(below) = unless_of_others(entry.open_dir()).map_err(fail)? else { continue };
            // One that is no text is no key either.
            let Some(key) = name.to_str() else { continue };
            let key = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") };
            remove_staging_files(&below, &path.join(name), &key, abandoned, removed)?;
        } else if is_ours
            && name.as_encoded_bytes().starts_with(STAGING_PREFIX.as_bytes())
            && unless_of_others(is_abandoned(dir, &entry, abandoned)).map_err(fail)? == Some(true)
            && unless_of_others(entry.remove_file()).map_err(fail)?.is_some()
        {
            *removed += 1;
        }
    }
    Ok(())
}

/// Nothing where somebody else has removed it meanwhile, or has forbidden it to us, such as the file system its `lost+found`: what we
/// cannot touch is not what we have left behind, and nothing to stop at.
fn unless_of_others<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        // cap-std's own refusal of a link that leads out of the folder is of this kind as well.
        Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        result => result.map(Some),
    }
}

/// Whether nobody writes to it, and nobody did for long.
fn is_abandoned(dir: &Dir, entry: &cap_std::fs::DirEntry, abandoned: &Abandoned) -> io::Result<bool> {
    let file = dir.open(entry.file_name())?;
    let modified = file.metadata()?.modified()?.into_std();
    Ok(abandoned.is_old(modified) && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}
