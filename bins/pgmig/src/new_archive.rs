//! The archive that is made: a file that gets its name when it is complete, or standard output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use dumpfmt::{ArchiveReader, Rewrite, RewriteReport};
use indicatif::ProgressBar;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::failure::Failure;
use crate::terminal::{json_text, print_json, step};

/// Where a new archive goes.
pub(crate) enum NewArchive {
    File(NewFile),
    /// A pipe: what reads it has to look at our exit status.
    StandardOutput(File),
}

impl NewArchive {
    /// Begins a new archive at `path`; `-` is standard output. A file that is there is replaced with `force` only.
    pub(crate) fn begin(path: &Path, force: bool) -> Result<Self, Failure> {
        if path != Path::new("-") {
            return NewFile::begin(path, force).map(Self::File);
        }
        let out = io::stdout();
        if out.is_terminal() {
            let text = "a terminal cannot take an archive";
            return Err(Failure::new(text, "redirect standard output, or name a file with --output"));
        }
        // Not through the standard library's own buffer, which looks for the ends of lines.
        let out = out.as_fd().try_clone_to_owned().context("cannot write to standard output")?;
        Ok(Self::StandardOutput(out.into()))
    }

    pub(crate) fn is_standard_output(&self) -> bool {
        matches!(self, Self::StandardOutput(_))
    }

    /// Where bytes go that are no archive.
    pub(crate) fn file(&mut self) -> &mut File {
        match self {
            Self::File(file) => file.file(),
            Self::StandardOutput(file) => file,
        }
    }

    /// Writes the archive that `rewrite` makes of `source`; `bar` shows the position in that.
    pub(crate) fn write<R: Read>(
        self,
        rewrite: &Rewrite<'_>,
        source: &mut ArchiveReader<R>,
        bar: &ProgressBar,
    ) -> dumpfmt::Result<(Self, RewriteReport)> {
        let show = |position| bar.set_position(position);
        match self {
            Self::File(mut file) => {
                let (_, report) = rewrite.to_file(source, file.file(), show)?;
                Ok((Self::File(file), report))
            }
            Self::StandardOutput(out) => {
                let (out, report) = rewrite.to_pipe(source, out, show)?;
                Ok((Self::StandardOutput(out), report))
            }
        }
    }
}

/// A folder for an archive in the directory format. It is made, and gets its name when it is complete, by the library.
pub(crate) struct NewFolder(PathBuf);

impl NewFolder {
    /// Nothing may be there yet: nobody wants a folder replaced, with whatever is in it.
    pub(crate) fn begin(path: &Path) -> Result<Self, Failure> {
        let Some(name) = path.file_name() else {
            let text = format!("`{}` is no name for a new folder", path.display());
            return Err(Failure::new(text, "give the name of a folder that is not there yet"));
        };
        if std::fs::symlink_metadata(path).is_ok() {
            let text = format!("`{}` exists already", path.display());
            return Err(Failure::new(text, "give another name, or remove it first: folders are not replaced"));
        }
        let mut partial = OsString::from(".");
        partial.push(name);
        partial.push(".partial");
        begun(&path.with_file_name(partial));
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Says that it is complete.
    pub(crate) fn published(self) {
        unfinished().published = true;
    }
}

/// A file without its name, in the folder where it will be. It is for its owner alone, and removed when it is dropped before
/// it is published.
pub(crate) struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
    force: bool,
}

impl NewFile {
    pub(crate) fn begin(path: &Path, force: bool) -> Result<Self, Failure> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let text = format!("cannot write to `{}`: it is a folder", path.display());
                return Err(Failure::new(text, "name a file in it"));
            }
            Ok(_) if !force => {
                let text = format!("`{}` exists already", path.display());
                return Err(Failure::new(text, "give another name, or replace that file with --force"));
            }
            _ => {}
        }
        let file = tempfile::Builder::new().prefix(".pgmig-partial-").tempfile_in(folder_of(path)).map_err(|e| {
            let text = format!("cannot write to `{}`: {e}", path.display());
            Failure::new(text, "name a file in a folder that you can write to")
        })?;
        begun(file.path());
        Ok(Self { file, path: path.to_owned(), force })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Brings the file to the disk and gives it its name.
    pub(crate) fn publish(self) -> Result<(), Failure> {
        let Self { file, path, force } = self;
        let name = || format!("cannot finish `{}`", path.display());
        file.as_file().sync_all().with_context(name)?;
        let mut unfinished = unfinished();
        if unfinished.abandoned {
            return Err(Failure::interrupted("no archive was written"));
        }
        if force {
            file.persist(&path).map_err(|e| e.error).with_context(name)?;
        } else {
            file.persist_noclobber(&path).map_err(|e| e.error).with_context(name)?;
        }
        unfinished.published = true;
        drop(unfinished);
        File::open(folder_of(&path)).and_then(|folder| folder.sync_all()).with_context(name)?;
        Ok(())
    }
}

/// Gives a complete archive its name.
pub(crate) fn publish(new: NewArchive, path: &Path) -> Result<(), Failure> {
    if let NewArchive::File(file) = new {
        file.publish()?;
        step(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

/// Where a report goes. Tried before the work that it is about begins.
pub(crate) enum NewReport {
    None,
    File(NewFile),
    StandardOutput,
}

impl NewReport {
    /// Begins a report in a file, or on standard output for `-`. A file that is there is replaced.
    pub(crate) fn begin(path: Option<&Path>) -> Result<Self, Failure> {
        Ok(match path {
            None => Self::None,
            Some(path) if path == Path::new("-") => Self::StandardOutput,
            Some(path) => Self::File(NewFile::begin(path, true)?),
        })
    }

    pub(crate) fn write(self, report: &impl Serialize) -> Result<(), Failure> {
        match self {
            Self::None => Ok(()),
            Self::StandardOutput => Ok(print_json(report)?),
            Self::File(mut file) => {
                file.file().write_all(json_text(report)?.as_bytes()).context("cannot write the report")?;
                file.publish()
            }
        }
    }
}

/// What is there under names that nobody chose, for the one who interrupts us.
static UNFINISHED: Mutex<Unfinished> = Mutex::new(Unfinished { paths: Vec::new(), published: false, abandoned: false });

struct Unfinished {
    paths: Vec<PathBuf>,
    /// Something has got its name.
    published: bool,
    /// Nothing gets its name any more.
    abandoned: bool,
}

fn unfinished() -> MutexGuard<'static, Unfinished> {
    // None of its fields can be half written.
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers a file or folder that has to be removed when we are interrupted.
pub(crate) fn begun(path: &Path) {
    unfinished().paths.push(path.to_owned());
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
        let _ = std::fs::remove_file(path);
        let removed = |_| std::fs::remove_dir_all(path).is_ok();
        (0..100).any(removed);
    }
    true
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
