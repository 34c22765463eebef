//! The archive that is made: a file that gets its name when it is complete, or standard output.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;

use crate::failure::Failure;

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
                let text = format!("cannot write the archive to `{}`: it is a folder", path.display());
                return Err(Failure::new(text, "name a file in it"));
            }
            Ok(_) if !force => {
                let text = format!("`{}` exists already", path.display());
                return Err(Failure::new(text, "give another name, or replace that file with --force"));
            }
            _ => {}
        }
        let file = tempfile::Builder::new().prefix(".pgmig-partial-").tempfile_in(folder_of(path)).map_err(|e| {
            let text = format!("cannot write the archive to `{}`: {e}", path.display());
            Failure::new(text, "name a file in a folder that you can write to")
        })?;
        Ok(Self { file, path: path.to_owned(), force })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Brings the file to the disk and gives it its name.
    pub(crate) fn publish(self) -> Result<(), Failure> {
        let Self { file, path, force } = self;
        let name = || format!("cannot finish the archive `{}`", path.display());
        file.as_file().sync_all().with_context(name)?;
        if force {
            file.persist(&path).map_err(|e| e.error).with_context(name)?;
        } else {
            file.persist_noclobber(&path).map_err(|e| e.error).with_context(name)?;
        }
        File::open(folder_of(&path)).and_then(|folder| folder.sync_all()).with_context(name)?;
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
