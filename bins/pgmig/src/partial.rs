//! Files and folders that have no name of their own yet: beside what is to be made, under names that nobody chose.
//!
//! Whoever makes one holds a lock on it. One that is not locked was left by a run that was killed, and the next run that
//! writes into the same folder removes it.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::{Builder, NamedTempFile, TempDir};

const PREFIX: &str = ".pgmig-partial-";
/// Between making a file and locking it there is a moment; nothing younger is taken for rubbish.
const YOUNG: Duration = Duration::from_secs(60);

/// What there is, for the one who interrupts us.
static UNFINISHED: Mutex<Unfinished> = Mutex::new(Unfinished { paths: Vec::new(), published: false, abandoned: false });

pub(crate) struct Unfinished {
    paths: Vec<PathBuf>,
    /// Something has got its name.
    pub(crate) published: bool,
    /// Nothing gets its name any more.
    pub(crate) abandoned: bool,
}

/// Held while something gets its name.
pub(crate) fn unfinished() -> MutexGuard<'static, Unfinished> {
    // None of its fields can be half written.
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held while something is made. Nothing is, once the run was interrupted.
fn unless_abandoned() -> io::Result<MutexGuard<'static, Unfinished>> {
    let unfinished = unfinished();
    if unfinished.abandoned { Err(io::Error::other("the run was interrupted")) } else { Ok(unfinished) }
}

/// A file for its owner alone.
pub(crate) fn file_in(folder: &Path) -> io::Result<NamedTempFile> {
    remove_rubbish(folder);
    // Held meanwhile: whoever interrupts us finds every file that there is, and none comes later.
    let mut unfinished = unless_abandoned()?;
    let file = Builder::new().prefix(PREFIX).tempfile_in(folder)?;
    // Where a file system has no locks, nothing is taken for rubbish either.
    let _ = file.as_file().try_lock();
    unfinished.paths.push(file.path().to_owned());
    Ok(file)
}

/// A folder for its owner alone, and its lock.
pub(crate) fn folder_in(folder: &Path) -> io::Result<(TempDir, File)> {
    remove_rubbish(folder);
    let mut unfinished = unless_abandoned()?;
    let made = Builder::new().prefix(PREFIX).tempdir_in(folder)?;
    let lock = File::open(made.path())?;
    let _ = lock.try_lock();
    unfinished.paths.push(made.path().to_owned());
    Ok((made, lock))
}

/// Removes what is unfinished; from then on nothing is published. False when something has been already.
pub(crate) fn abandon() -> bool {
    let mut unfinished = unfinished();
    if unfinished.published {
        return false;
    }
    unfinished.abandoned = true;
    for path in &unfinished.paths {
        // Whoever still writes into a folder may make a file while we remove the others.
        let _ = fs::remove_file(path);
        let removed = |_| fs::remove_dir_all(path).is_ok();
        (0..100).any(removed);
    }
    true
}

/// Removes what killed runs have left. What cannot be removed is in nobody's way.
fn remove_rubbish(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(is_rubbish) {
        // The lock is ours until it is gone.
        let Ok(lock) = File::open(entry.path()) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
            _ => fs::remove_file(entry.path()),
        };
    }
}

/// Whether an entry of a folder is ours and old enough. A symbolic link is neither a file nor a folder here.
fn is_rubbish(entry: &DirEntry) -> bool {
    let is_ours = |name: &OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    let is_old = |metadata: fs::Metadata| {
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
        (metadata.is_file() || metadata.is_dir()) && age.is_some_and(|age| age > YOUNG)
    };
    is_ours(&entry.file_name()) && entry.metadata().is_ok_and(is_old)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_a_killed_run_has_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let make_old = |name: &str| {
            let hour_ago = SystemTime::now() - Duration::from_secs(3600);
            File::open(path(name)).unwrap().set_modified(hour_ago).unwrap();
        };
        let (left_file, left_folder) = (".pgmig-partial-left", ".pgmig-partial-folder");
        fs::write(path(left_file), "").unwrap();
        fs::create_dir_all(path(left_folder).join("deep")).unwrap();
        let young = ".pgmig-partial-young";
        fs::write(path(young), "").unwrap();
        fs::write(path("store.dump"), "").unwrap();
        let at_work = file_in(folder.path()).unwrap();
        let name_of = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let at_work_too = folder_in(folder.path()).unwrap();
        let kept = [name_of(at_work.path()), name_of(at_work_too.0.path()), "store.dump".into()];
        for name in kept.iter().map(String::as_str).chain([left_file, left_folder]) {
            make_old(name);
        }

        drop(file_in(folder.path()).unwrap());
        assert!(!path(left_file).exists() && !path(left_folder).exists());
        assert!(kept.iter().all(|name| path(name).exists()) && path(young).exists());
    }
}
