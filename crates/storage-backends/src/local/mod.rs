//! A folder of this machine, or a volume that is mounted on it.

mod backend;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, File, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{AtFlags, FlockOperation, RenameFlags};
#[cfg(target_os = "linux")]
use rustix::fs::{StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::key::STAGING_PREFIX;

pub use crate::backend::Existing;
pub use backend::Local;
#[cfg(feature = "s3")]
pub(crate) use backend::{is_absent, received};

/// What to do when a volume is not there.
pub(crate) const CHECK_MOUNT: &str = "see that the volume is mounted, and that the disk or the server behind it answers; when it went away by itself, the system's log says why";
/// How often a file is begun anew whose folder was removed in between.
const MOST_ATTEMPTS: u32 = 100;

/// A folder that files are stored in, and nothing outside of it: no name and no symbolic link leads out.
///
/// The folder is held open, so it stays the same one when it is renamed or something is mounted
/// over it.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder that is there.
    ///
    /// # Errors
    ///
    /// It is not there, not a folder, or may not be entered.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LocalError> {
        let path = path.into();
        match Dir::open_ambient_dir(&path, ambient_authority()) {
            Ok(dir) => Ok(Self { dir, path }),
            Err(source) => Err(LocalError::new("open the folder", path, source)),
        }
    }

    /// Opens a folder that a volume is mounted on. Without its volume such a folder is an empty one of another file system, which
    /// would take everything.
    ///
    /// ```
    /// use storage_backends::local::{Folder, LocalErrorKind};
    ///
    /// # let temporary = tempfile::tempdir()?;
    /// let unmounted = temporary.path();
    /// let error = Folder::open_mounted(unmounted).unwrap_err();
    /// assert_eq!(error.kind(), LocalErrorKind::NotMounted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`NotMounted`](LocalErrorKind::NotMounted): nothing is mounted there. A folder within a volume is no mount point either.
    /// - As [`open`](Self::open).
    pub fn open_mounted(path: impl Into<PathBuf>) -> Result<Self, LocalError> {
        let folder = Self::open(path)?;
        match is_mount_point(&folder.dir) {
            Ok(true) => Ok(folder),
            Ok(false) => {
                let (doing, path, kind) = ("use the folder", folder.path, LocalErrorKind::NotMounted);
                Err(LocalError { doing, path, kind, source: None })
            }
            Err(source) => Err(LocalError::new("look at the folder", folder.path, source)),
        }
    }

    /// Its path, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a file that shall be called `name`, a path inside of this folder. Folders on the way
    /// are made, for their owner alone (mode 0700).
    ///
    /// # Errors
    ///
    /// - [`OutsideRoot`](LocalErrorKind::OutsideRoot): the name is absolute, empty, or has `.` or `..`
    ///   in it, or a symbolic link on its way leaves this folder.
    /// - [`AlreadyExists`](LocalErrorKind::AlreadyExists): the name is taken and `existing` says to
    ///   keep what is there. This is looked at now, before hours are spent on a file that will not
    ///   be published, and decided when it is published.
    /// - The folder or the file cannot be made.
    pub fn stage(&self, name: impl AsRef<Path>, existing: Existing) -> Result<StagedFile, LocalError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let fail = |doing| {
            let path = path.clone();
            move |source| LocalError::new(doing, path, source)
        };
        let (parents, name) = relative_parts(name).ok_or_else(|| LocalError {
            doing: "store",
            path: path.clone(),
            kind: LocalErrorKind::OutsideRoot,
            source: None,
        })?;
        let begin = || {
            let mut dir = self.dir.try_clone().map_err(fail("open the folder of"))?;
            for parent in &parents {
                dir = open_or_create_dir(&dir, parent).map_err(fail("make the folder of"))?;
            }
            if existing == Existing::Keep {
                match dir.symlink_metadata(name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(fail("look at")(error)),
                    Ok(_) => return Err(fail("store")(Errno::EXIST.into())),
                }
            }
            let (file, staging_name) = create_staging_file(&dir).map_err(fail("begin"))?;
            Ok((dir, file, staging_name))
        };
        // Whoever removes the last file of a folder removes the folder too, perhaps just before ours is in it.
        let mut attempt = 1;
        let (dir, file, staging_name) = loop {
            match begin() {
                Err(error) if error.kind == LocalErrorKind::NotFound && attempt < MOST_ATTEMPTS => attempt += 1,
                result => break result?,
            }
        };
        let name = name.to_owned();
        Ok(StagedFile { file, dir, staging_name: Some(staging_name), name, path, existing, is_broken: false })
    }
}

/// A file that is being written and has no name yet. Only [`publish`](Self::publish) gives it one;
/// dropped before, it is removed.
///
/// Until then it is in the same folder under a name that begins with `.staging-`. Such a file is left
/// behind only by a process that was killed.
///
/// It is for its owner alone (mode 0600). Writing is not buffered: write in pieces of some size.
#[derive(Debug)]
pub struct StagedFile {
    file: File,
    dir: Dir,
    // `None` once there is nothing left to remove.
    staging_name: Option<OsString>,
    name: OsString,
    path: PathBuf,
    existing: Existing,
    is_broken: bool,
}

impl StagedFile {
    /// Where it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the file to the disk and then gives it its name, all at once. When this returns, it
    /// also survives a power cut, as far as the file system keeps its word.
    ///
    /// # Errors
    ///
    /// The file was not published and is gone, and what had the name before is still there, except for the
    /// very last step: when only the folder could not be synced, the file has its name but may lose
    /// it in a power cut.
    ///
    /// - [`AlreadyExists`](LocalErrorKind::AlreadyExists): the name was taken meanwhile, and was to be kept.
    /// - [`Incomplete`](LocalErrorKind::Incomplete): an earlier write failed.
    pub fn publish(mut self) -> Result<(), LocalError> {
        if self.is_broken {
            let path = self.path.clone();
            return Err(LocalError { doing: "publish", path, kind: LocalErrorKind::Incomplete, source: None });
        }
        self.file.sync_all().map_err(|error| self.error("sync", error))?;
        let staging_name = self.staging_name.as_deref().expect("it is taken only when it is published");
        match self.existing {
            Existing::Replace => self.dir.rename(staging_name, &self.dir, &self.name),
            Existing::Keep => rename_if_free(&self.dir, staging_name, &self.name),
        }
        .map_err(|error| self.error("publish", error))?;
        self.staging_name = None;
        sync_dir(&self.dir).map_err(|error| self.error("sync the folder of", error))
    }

    /// Removes what was written. Dropping does the same, but cannot tell that it failed.
    ///
    /// # Errors
    ///
    /// It could not be removed.
    pub fn abort(mut self) -> Result<(), LocalError> {
        self.remove().map_err(|error| self.error("remove the unfinished", error))
    }

    fn remove(&mut self) -> io::Result<()> {
        self.staging_name.take().map_or(Ok(()), |name| self.dir.remove_file(name))
    }

    fn error(&self, doing: &'static str, source: io::Error) -> LocalError {
        LocalError::new(doing, self.path.clone(), source)
    }

    // `io::Error` keeps the kind, and `LocalError` inside of it can be had back by `downcast`.
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            self.is_broken = true;
            io::Error::new(error.kind(), self.error("write", error))
        })
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.flush();
        self.note(result)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // Nobody is left to tell; the name says what it is.
        let _ = self.remove();
    }
}

/// Something in a [`Folder`] could not be done.
#[derive(Debug)]
pub struct LocalError {
    doing: &'static str,
    path: PathBuf,
    kind: LocalErrorKind,
    source: Option<io::Error>,
}

/// Why, cut by what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalErrorKind {
    /// The name leads out of the folder.
    OutsideRoot,
    /// The name is taken.
    AlreadyExists,
    /// The folder is not there.
    NotFound,
    /// The user that this runs as may not do it.
    PermissionDenied,
    /// The disk is full, or the user's share of it.
    DiskFull,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The volume is not mounted, or what is behind the mount is gone.
    NotMounted,
    /// An earlier write to the file failed, so it is not whole.
    Incomplete,
    /// Something else; the message has the system's words.
    Other,
}

impl LocalErrorKind {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            // cap-std's own refusal has no number of the system's
            io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => Self::OutsideRoot,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // A server that knows the folder no more, a FUSE that has ended, a disk that was taken out. Not what a disk cannot read
                // or write (EIO): that can be one file.
                Some(Errno::STALE | Errno::NOTCONN | Errno::NODEV | Errno::NXIO) => Self::NotMounted,
                _ => Self::Other,
            },
        }
    }
}

impl LocalError {
    pub(crate) fn new(doing: &'static str, path: PathBuf, source: io::Error) -> Self {
        Self { doing, path, kind: LocalErrorKind::of(&source), source: Some(source) }
    }

    /// Why.
    #[must_use]
    pub fn kind(&self) -> LocalErrorKind {
        self.kind
    }

    /// The path that it is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was being done: it completes "cannot ...".
    pub(crate) fn doing(&self) -> &'static str {
        self.doing
    }

    /// Why, in words.
    pub(crate) fn why(&self) -> String {
        match (self.kind, &self.source) {
            (LocalErrorKind::OutsideRoot, _) => "the name leads out of the folder".to_owned(),
            (LocalErrorKind::Incomplete, _) => "it is incomplete, since writing to it failed before".to_owned(),
            (LocalErrorKind::AlreadyExists, _) => "the name is taken".to_owned(),
            (LocalErrorKind::NotMounted, None) => "nothing is mounted there".to_owned(),
            (_, Some(source)) => source.to_string(),
            (_, None) => unreachable!("every other kind was made from an error of the system"),
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self.kind {
            LocalErrorKind::OutsideRoot => {
                "use a relative name without `.` and `..`, and see that no symbolic link on its way leaves the folder"
            }
            LocalErrorKind::AlreadyExists => "use another name, or move away what is there",
            LocalErrorKind::NotFound => "check the path, and that the volume is mounted",
            LocalErrorKind::PermissionDenied => "let the user that runs this write to the folder",
            LocalErrorKind::DiskFull => "make room on the disk, then try again",
            LocalErrorKind::ReadOnly => {
                "mount the file system writable; when it became read-only by itself, look into the system's log for why"
            }
            LocalErrorKind::NotMounted => CHECK_MOUNT,
            LocalErrorKind::Incomplete => {
                "mend the cause of the failed write, then write the file again from the start"
            }
            LocalErrorKind::Other => return None,
        };
        Some(text.to_owned())
    }
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} `{}`: {}", self.doing, self.path.display(), self.why())
    }
}

impl std::error::Error for LocalError {}

/// Whether something is mounted on a folder. What is looked at is the folder that is open, whatever its path means by now.
fn is_mount_point(dir: &Dir) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    if let Ok(found) = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
        && let Some(is_mount_root) = is_mount_root(found.stx_attributes, found.stx_attributes_mask)
    {
        return Ok(is_mount_root);
    }
    let own = rustix::fs::fstat(dir)?;
    let parent = rustix::fs::statat(dir, "..", AtFlags::empty())?;
    // Only the root of everything is its own parent.
    Ok(own.st_dev != parent.st_dev || own.st_ino == parent.st_ino)
}

/// What the system says of that, if it can tell (Linux from 5.8 on). Devices alone would not: a folder of the same file system can be
/// mounted in another place as well, and a subvolume of btrfs has a device of its own where nothing is mounted.
#[cfg(target_os = "linux")]
fn is_mount_root(attributes: StatxAttributes, known: StatxAttributes) -> Option<bool> {
    known.contains(StatxAttributes::MOUNT_ROOT).then(|| attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The folders on the way and the last name, if the path is relative and every part is a plain name.
fn relative_parts(path: &Path) -> Option<(Vec<&OsStr>, &OsStr)> {
    // `components` drops a `.` inside and a slash at the end; a name that is not the one that will
    // be there is refused instead.
    let is_tidy = path.as_os_str().as_encoded_bytes().split(|c| *c == b'/').all(|part| !matches!(part, b"" | b"."));
    let mut parts = path
        .components()
        .map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .filter(|_| is_tidy)?;
    let name = parts.pop()?;
    Some((parts, name))
}

fn open_or_create_dir(dir: &Dir, name: &OsStr) -> io::Result<Dir> {
    match dir.open_dir(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let mut builder = DirBuilder::new();
    match dir.create_dir_with(name, builder.mode(0o700)) {
        Ok(()) => sync_dir(dir)?,
        // another process was faster
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    dir.open_dir(name)
}

fn create_staging_file(dir: &Dir) -> io::Result<(File, OsString)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    // Two pods that share a volume can both be process 1, so a name that is taken is not an error.
    let mut number = 0;
    loop {
        let name = format!("{STAGING_PREFIX}{}-{number}", std::process::id());
        match dir.open_with(&name, &options) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 10_000 => number += 1,
            result => {
                let file = result?;
                // Held until the file is closed: who cleans up can tell that somebody writes to it. Where a file system has no
                // locks, age alone tells.
                let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
                return Ok((file, name.into()));
            }
        }
    }
}

fn rename_if_free(dir: &Dir, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // File systems on the network do not have it. A second link is refused as well when the name
        // is taken. The first one is only in the way: the file is published when it cannot be removed.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            dir.hard_link(from, dir, to)?;
            let _ = dir.remove_file(from);
            Ok(())
        }
        result => result.map_err(Into::into),
    }
}

pub(crate) fn sync_dir(dir: &Dir) -> io::Result<()> {
    match dir.open(".")?.sync_all() {
        // Some file systems cannot sync a folder; PostgreSQL goes on there as well.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_system_says_of_a_mount_point_is_believed_where_it_can_tell() {
        let (mount_root, none) = (StatxAttributes::MOUNT_ROOT, StatxAttributes::empty());
        assert_eq!(is_mount_root(mount_root, mount_root), Some(true));
        assert_eq!(is_mount_root(none, mount_root), Some(false), "as a subvolume that is not mounted");
        assert_eq!(is_mount_root(none, StatxAttributes::COMPRESSED), None);
        let open = |path: &str| Dir::open_ambient_dir(path, ambient_authority()).unwrap();
        assert!(is_mount_point(&open("/proc")).unwrap() && !is_mount_point(&open("/proc/self")).unwrap());
    }

    #[test]
    fn what_the_system_says_is_cut_by_what_can_be_done() {
        use LocalErrorKind::*;
        for (errno, kind) in [
            (Errno::NOENT, NotFound),
            (Errno::EXIST, AlreadyExists),
            (Errno::ACCESS, PermissionDenied),
            (Errno::NOSPC, DiskFull),
            (Errno::DQUOT, DiskFull),
            (Errno::ROFS, ReadOnly),
            (Errno::STALE, NotMounted),
            (Errno::NOTCONN, NotMounted),
            (Errno::NODEV, NotMounted),
            (Errno::NXIO, NotMounted),
            (Errno::IO, Other),
            (Errno::MFILE, Other),
        ] {
            let error = LocalError::new("read", "/backups".into(), errno.into());
            assert_eq!(error.kind(), kind, "{error}");
            let words = io::Error::from(errno).to_string();
            assert!(kind == AlreadyExists || error.to_string().ends_with(&words), "{error}");
            assert_eq!(error.hint().is_none(), kind == Other);
        }
    }
}
