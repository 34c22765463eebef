//! Files that have their name when they are complete.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;

use storage_backends::local::{Folder, StagedFile};
use storage_backends::{Error, Existing};

use crate::failure::Failure;

/// Begins the file at `path`.
///
/// # Errors
///
/// `path` is no name of a file, is taken, or cannot be made there.
pub(crate) fn stage(path: &Path, existing: Existing) -> Result<StagedFile, Failure> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        let message = format!("`{}` is no name of a file", path.display());
        return Err(Failure::new(message, "give the path of a file in a folder that is there"));
    };
    stage_in(folder, name, existing).map_err(Failure::from)
}

fn stage_in(folder: &Path, name: &OsStr, existing: Existing) -> Result<StagedFile, Error> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Ok(Folder::open(folder)?.stage(name, existing)?)
}

/// Writes a file that is no backup: an older one is replaced.
///
/// # Errors
///
/// It cannot be written; what was there before still is.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |failure: Failure| failure.context(format!("cannot write `{}`", path.display()));
    let mut file = stage(path, Existing::Replace).map_err(cannot)?;
    file.write_all(text.as_bytes()).map_err(|e| cannot(e.into()))?;
    file.publish().map_err(|e| cannot(Error::from(e).into()))
}
