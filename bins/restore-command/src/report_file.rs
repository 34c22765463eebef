//! Where a report goes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;
use terminal::json_text;

use crate::failure::Failure;

/// Whether files can be made in `folder`, of which none is left.
pub(crate) fn try_to_write_in(folder: &Path) -> std::io::Result<()> {
    NamedTempFile::new_in(folder).and_then(NamedTempFile::close)
}

/// Where the report goes. Tried before anything is changed: a restore whose record
/// cannot be written should not begin.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    folder: PathBuf,
    /// A named pipe or a device at that path, which is not replaced.
    irreplaceable: Option<File>,
}

impl ReportFile {
    /// Whether the report can be written to `path`.
    ///
    /// # Errors
    ///
    /// It cannot, or something else is there.
    pub fn prepare(path: &Path) -> Result<Self, Failure> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let cannot = |e| {
            let text = format!("cannot write the report to `{}`: {e}", path.display());
            Failure::new(text, "run in a folder that you can write to, or say where with --report")
        };
        expect_report(path)?;
        let irreplaceable = open_irreplaceable(path).map_err(cannot)?;
        if irreplaceable.is_none() {
            // Not kept open until the end: whoever kills us should not have to clean up.
            try_to_write_in(folder).map_err(cannot)?;
        }
        Ok(Self { path: path.to_owned(), folder: folder.to_owned(), irreplaceable })
    }

    /// Writes the report of a restore that was done.
    ///
    /// # Errors
    ///
    /// It cannot be written; the error says that the restore was done nevertheless.
    pub fn write(&self, report: &impl Serialize) -> Result<(), Failure> {
        let json = json_text(report)?;
        let write = || -> std::io::Result<()> {
            if let Some(mut file) = self.irreplaceable.as_ref() {
                return file.write_all(json.as_bytes());
            }
            let mut file = NamedTempFile::new_in(&self.folder)?;
            file.write_all(json.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().map_err(|e| {
            let text = format!(
                "the restore was committed, but the report could not be written to `{}`: {e}",
                self.path.display()
            );
            Failure::new(text, "do not restore again; the summary above says what was done")
        })
    }
}

/// Refuses a file that is there and does not begin as a report does: it may be the only backup.
pub fn expect_report(path: &Path) -> Result<(), Failure> {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) || is_descriptor(path) {
        return Ok(());
    }
    // As `json_text` begins every report, and a failed restore its own.
    const BEGIN: &[u8] = b"{\n  \"version\": ";
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGIN.len() as u64).read_to_end(&mut begin));
    read.map_err(|e| cannot_write(path, &e))?;
    if begin.is_empty() || begin == BEGIN {
        return Ok(());
    }
    let text = format!("`{}` exists and is no report: it is not replaced", path.display());
    Err(Failure::new(text, "name another file with --report"))
}

/// Opens what takes bytes, but is nothing to be replaced: a named pipe, a device, or what is open already, such as
/// `/dev/stderr`, whatever that is. `None` for a path at which a file can be made.
pub fn open_irreplaceable(path: &Path) -> io::Result<Option<File>> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(None) };
    if metadata.is_dir() || (metadata.is_file() && !is_descriptor(path)) {
        return Ok(None);
    }
    // Behind what others have written to a file.
    File::options().append(true).open(path).map(Some)
}

/// Whether it is a name for what this process has open: one in `/dev/fd`, or a link to one.
fn is_descriptor(path: &Path) -> bool {
    let Ok(descriptors) = fs::canonicalize("/proc/self/fd") else { return false };
    let is_in = |path: &Path| fs::canonicalize(folder_of(path)).is_ok_and(|folder| folder == descriptors);
    is_in(path) || fs::read_link(path).is_ok_and(|target| is_in(&folder_of(path).join(target)))
}

/// What to tell of a path that cannot be written to.
pub fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, or write to another place",
        _ => "name something in a folder that you can write to",
    };
    Failure::new(format!("cannot write to `{}`: {error}", path.display()), hint)
}

/// The folder that a path is in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
