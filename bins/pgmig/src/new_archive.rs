//! The archive that is made: a file that gets its name when it is complete, or standard output.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dumpfmt::{
    ArchiveReader, Compression, CompressionSpecification, Header, Rewrite, RewriteReport, Version, WriteOptions,
};
use indicatif::ProgressBar;
use restore_command::Failure;
use restore_command::report_file::{cannot_write, expect_report, folder_of, open_irreplaceable};
use serde::Serialize;
use tempfile::{NamedTempFile, TempDir};
use terminal::{json_text, print_text, step, warn};

use crate::cli::ArchiveFormat;
use crate::partial::{self, unfinished};

/// What a new archive is to be like.
pub(crate) struct Properties {
    pub(crate) options: WriteOptions,
    pub(crate) compression: CompressionSpecification,
    /// What nobody asked for, for people.
    pub(crate) notes: Vec<String>,
}

impl Properties {
    /// Like the archive with this header, but for what was asked for.
    pub(crate) fn like(
        header: &Header,
        compression: Option<CompressionSpecification>,
        version: Option<Version>,
    ) -> Result<Self, Failure> {
        let like = WriteOptions::like(header);
        let mut notes = Vec::new();
        let compression = match (compression, version) {
            (Some(compression), _) => compression,
            (None, Some(version)) if version < Version::COMPRESSION_ALGORITHM && is_modern(header.compression) => {
                notes.push(format!(
                    "archives of version {version} are not compressed with {}: this one is with gzip",
                    header.compression
                ));
                CompressionSpecification::GZIP
            }
            // It was read, so it can be written.
            (None, _) => CompressionSpecification::new(header.compression)?,
        };
        let options = like.clone().compression(compression);
        let options = match version {
            Some(version) => options.version(version),
            None => options,
        };
        let new = options.archive_version();
        if version.is_none() && new > like.archive_version() {
            notes.push(format!("with {compression} the new archive is of version {new}, for pg_restore 16 and later"));
        }
        Ok(Self { options, compression, notes })
    }
}

/// Whether archives before 1.15 cannot have it.
pub(crate) fn is_modern(compression: Compression) -> bool {
    matches!(compression, Compression::Lz4 | Compression::Zstd)
}

/// Where a new archive goes.
pub(crate) enum NewArchive {
    File(NewFile),
    Folder(NewFolder),
    /// Standard output, a named pipe or a device: what reads it has to look at our exit status.
    Pipe(File),
}

impl NewArchive {
    /// Begins a new archive at `path` in this format.
    pub(crate) fn begin_in(format: ArchiveFormat, path: &Path, force: bool) -> Result<Self, Failure> {
        match format {
            ArchiveFormat::Custom => Self::begin(path, force),
            ArchiveFormat::Directory => NewFolder::begin(path).map(Self::Folder),
        }
    }

    /// Begins a file at `path`; `-` is standard output. A file that is there is replaced with `force` only.
    pub(crate) fn begin(path: &Path, force: bool) -> Result<Self, Failure> {
        if path == Path::new("-") && io::stdout().is_terminal() {
            let text = "a terminal cannot take an archive";
            return Err(Failure::new(text, "redirect standard output, or name a file with --output"));
        }
        Self::begin_text(path, force)
    }

    /// As [`begin`](Self::begin), for text, which a terminal takes.
    pub(crate) fn begin_text(path: &Path, force: bool) -> Result<Self, Failure> {
        if path != Path::new("-") {
            return match open_irreplaceable(path).map_err(|e| cannot_write(path, &e))? {
                Some(file) => Ok(Self::Pipe(file)),
                None => NewFile::begin(path, force).map(Self::File),
            };
        }
        // Not through the standard library's own buffer, which looks for the ends of lines.
        let out = io::stdout().as_fd().try_clone_to_owned().context("cannot write to standard output")?;
        Ok(Self::Pipe(out.into()))
    }

    pub(crate) fn is_pipe(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }

    /// Where bytes go that are no archive.
    pub(crate) fn file(&mut self) -> Result<&mut File, Failure> {
        match self {
            Self::File(file) => Ok(file.file()),
            Self::Pipe(file) => Ok(file),
            Self::Folder(_) => Err(anyhow::anyhow!("a folder takes no text").into()),
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
            Self::Folder(folder) => {
                let report = rewrite.to_directory(source, &folder.hidden, show)?;
                Ok((Self::Folder(folder), report))
            }
            Self::Pipe(out) => {
                let (out, report) = rewrite.to_pipe(source, out, show)?;
                Ok((Self::Pipe(out), report))
            }
        }
    }
}

/// A folder for an archive in the directory format, which the library makes within another one beside it. It is removed
/// when it is dropped before it is published.
pub(crate) struct NewFolder {
    path: PathBuf,
    hidden: PathBuf,
    /// These end with it: first the folder, then the lock on it.
    _partial: TempDir,
    _lock: File,
}

impl NewFolder {
    /// Nothing may be there yet: nobody wants a folder replaced, with whatever is in it.
    fn begin(path: &Path) -> Result<Self, Failure> {
        if path.file_name().is_none() {
            let text = format!("`{}` is no name for a new folder", path.display());
            return Err(Failure::new(text, "give the name of a folder that is not there yet"));
        }
        if fs::symlink_metadata(path).is_ok() {
            let text = format!("`{}` exists already", path.display());
            return Err(Failure::new(text, "give another name, or remove it first: folders are not replaced"));
        }
        let (partial, lock) = partial::folder_in(folder_of(path)).map_err(|e| cannot_write(path, &e))?;
        let hidden = partial.path().join(path.file_name().unwrap_or_default());
        Ok(Self { path: path.to_owned(), hidden, _partial: partial, _lock: lock })
    }

    /// Where it is made.
    pub(crate) fn hidden(&self) -> &Path {
        &self.hidden
    }

    fn publish(self) -> Result<(), Failure> {
        let name = || format!("cannot finish `{}`", self.path.display());
        let mut unfinished = unfinished();
        if unfinished.abandoned {
            return Err(Failure::interrupted("no archive was written"));
        }
        if fs::symlink_metadata(&self.path).is_ok() {
            let text = format!("{}: it exists by now", name());
            return Err(Failure::new(text, "give another name; folders are not replaced"));
        }
        fs::rename(&self.hidden, &self.path).with_context(name)?;
        unfinished.published = true;
        drop(unfinished);
        File::open(folder_of(&self.path)).and_then(|folder| folder.sync_all()).with_context(name)?;
        Ok(())
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
        match fs::symlink_metadata(path) {
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
        let file = partial::file_in(folder_of(path)).map_err(|e| cannot_write(path, &e))?;
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

/// Gives a complete archive its name, and then its report. That is on the disk by then, but for its name: where there is no
/// room for it, there is no new archive either.
pub(crate) fn publish_with_report(
    new: NewArchive,
    path: &Path,
    report: NewReport,
    told: &impl Serialize,
) -> Result<(), Failure> {
    let report = match report.prepare(told) {
        Err(failure) if new.is_pipe() => return Err(of_report_alone(failure)),
        Err(failure) => return Err(failure.with_hint("no archive was made; make room, or write the report elsewhere")),
        Ok(report) => report,
    };
    publish(new, path)?;
    report.publish().map_err(|failure| of_report_alone(failure).after_result())
}

/// Gives a complete archive its name.
pub(crate) fn publish(new: NewArchive, path: &Path) -> Result<(), Failure> {
    match new {
        NewArchive::File(file) => file.publish()?,
        NewArchive::Folder(folder) => folder.publish()?,
        NewArchive::Pipe(_) => return Ok(()),
    }
    step(format_args!("wrote {}", path.display()));
    Ok(())
}

/// Where a report goes. Tried before the work that it is about begins.
pub(crate) enum NewReport {
    None,
    File(NewFile),
    /// A named pipe or a device.
    Pipe(File),
    StandardOutput,
}

impl NewReport {
    /// Begins a report in a file, or on standard output for `-`. Another report that is there is replaced. `output` is what
    /// the report is about.
    pub(crate) fn begin(path: Option<&Path>, output: &Path) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::None) };
        if path == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        if place_of(path) == place_of(output) {
            let text = format!("`{}` cannot take both the archive and the report", path.display());
            return Err(Failure::new(text, "name another file with --report"));
        }
        expect_report(path)?;
        Ok(match open_irreplaceable(path).map_err(|e| cannot_write(path, &e))? {
            Some(file) => Self::Pipe(file),
            None => Self::File(NewFile::begin(path, true)?),
        })
    }

    /// Brings the report of work that failed to where it goes. That it cannot be written hides nothing: it is told, and the
    /// failure is as it was.
    pub(crate) fn write_of_failed(self, told: &impl Serialize, failure: Failure) -> Failure {
        let failure = if matches!(self, Self::StandardOutput) { failure.after_result() } else { failure };
        if let Err(other) = self.prepare(told).and_then(PreparedReport::publish) {
            warn(other);
        }
        failure
    }

    fn prepare(self, told: &impl Serialize) -> Result<PreparedReport, Failure> {
        let json = json_text(told)?;
        if let Self::File(mut file) = self {
            let written = file.file().write_all(json.as_bytes()).and_then(|()| file.file().sync_all());
            written.with_context(|| format!("cannot write the report `{}`", file.path.display()))?;
            return Ok(PreparedReport { to: Self::File(file), json: String::new() });
        }
        Ok(PreparedReport { to: self, json })
    }
}

/// A report that is written, but for its name; or what is to be sent to where nothing has one.
struct PreparedReport {
    to: NewReport,
    json: String,
}

impl PreparedReport {
    fn publish(self) -> Result<(), Failure> {
        match self.to {
            NewReport::None => Ok(()),
            NewReport::File(file) => file.publish(),
            NewReport::StandardOutput => Ok(print_text(&self.json)?),
            NewReport::Pipe(mut file) => match file.write_all(self.json.as_bytes()) {
                // Whoever reads it has seen enough, as of standard output.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                written => Ok(written.context("cannot write the report")?),
            },
        }
    }
}

/// What tells whether two paths lead to the same name in the same folder.
fn place_of(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| {
        let folder = fs::canonicalize(folder_of(path)).unwrap_or_else(|_| folder_of(path).to_owned());
        folder.join(path.file_name().unwrap_or_default())
    })
}

/// The archive was made and only its report was not.
fn of_report_alone(failure: Failure) -> Failure {
    let failure = failure.context("the new archive is complete, but its report is not");
    failure.with_hint("the archive can be used; make it again if you need the report")
}
