//! What can go wrong while an archive is read, and where.

use std::fmt;
use std::io;
use std::num::NonZeroU64;

use crate::version::Version;

/// The result of reading an archive.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an archive could not be read or written: what is wrong ([`ErrorKind`]), at which
/// byte of the archive, and in which entry of the table of contents.
///
/// It crosses [`std::io::Read`] inside an [`io::Error`] and comes back out
/// unchanged through [`Error::from_io`].
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    offset: u64,
    line: Option<NonZeroU64>,
    file: Option<Box<str>>,
    entry: Option<Box<str>>,
}

/// What is wrong with an archive, cut by what a caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input is not a pg_dump archive at all; the text says what it seems to be.
    #[error("this is not a pg_dump archive: {0}")]
    NotAnArchive(String),
    /// The input is not a plain dump of pg_dump; the text says what it seems to be.
    #[error("this is not a plain dump of pg_dump: {0}")]
    NotAScript(String),
    /// A plain dump has a command of psql, which is named without its arguments.
    #[error("there is a command of psql, `\\{0}`, which is never executed here")]
    MetaCommand(String),
    /// A pg_dump archive, but of a version, format or compression that is not read here.
    #[error("{0}")]
    Unsupported(String),
    /// An archive of a version that is not known here; see
    /// [`ReadOptions::accept_newer_versions`](crate::ReadOptions::accept_newer_versions).
    #[error("archive version {0} is newer than 1.16, the newest one known here")]
    NewerVersion(Version),
    /// The input ends too early: the archive was cut short.
    #[error("the archive is cut short: it ends {0}")]
    Truncated(String),
    /// A file of an archive in the directory format is not there.
    #[error("the archive is incomplete: its file `{0}` is missing")]
    MissingFile(String),
    /// The bytes contradict the format.
    #[error("the archive is damaged: {0}")]
    Corrupt(String),
    /// Reading on would take more than a [`Limits`](crate::Limits) value allows.
    #[error("{what} exceeds the limit of {limit}; if the archive is to be trusted, raise `Limits::{field}`")]
    LimitExceeded {
        /// What grew too large.
        what: &'static str,
        /// The limit that was in force.
        limit: u64,
        /// The field of [`Limits`](crate::Limits) that sets it.
        field: &'static str,
    },
    /// A call that this archive cannot answer, such as the rows of large objects.
    #[error("{0}")]
    Usage(String),
    /// The input could not be read.
    #[error("reading failed")]
    Io(#[source] io::Error),
    /// The new archive could not be written.
    #[error("writing failed")]
    Write(#[source] io::Error),
    /// A function of the caller refused a row.
    #[error("a row cannot be rewritten")]
    Row(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, offset: u64) -> Self {
        Self { kind, offset, line: None, file: None, entry: None }
    }

    pub(crate) fn corrupt(what: impl Into<String>, offset: u64) -> Self {
        Self::new(ErrorKind::Corrupt(what.into()), offset)
    }

    pub(crate) fn truncated(place: impl Into<String>, offset: u64) -> Self {
        Self::new(ErrorKind::Truncated(place.into()), offset)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage(text.into()), 0)
    }

    /// The same with an offset that is not above `length`.
    pub(crate) fn at_most(mut self, length: u64) -> Self {
        self.offset = self.offset.min(length);
        self
    }

    /// Names the entry that was being read, unless one is named already.
    pub(crate) fn in_entry(mut self, entry: impl fmt::Display) -> Self {
        self.entry.get_or_insert_with(|| entry.to_string().into());
        self
    }

    /// Names the line of a plain dump that `offset` is in.
    pub(crate) fn in_line(self, line: u64) -> Self {
        Self { line: NonZeroU64::new(line), ..self }
    }

    /// Names the file of a directory that `offset` is in, unless one is named already.
    pub(crate) fn in_file(mut self, file: &str) -> Self {
        self.file.get_or_insert_with(|| file.into());
        self
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The byte of the archive, counted from 0, at which it was noticed; of the new archive when
    /// writing failed. In the directory format: the byte of [`file`](Self::file).
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The line that this byte is in, counted from 1, of a plain dump.
    pub fn line(&self) -> Option<u64> {
        self.line.map(NonZeroU64::get)
    }

    /// The file that was being read, of an archive in the directory format.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The entry that was being read, such as `TABLE DATA public.tenant (dump ID 4311)`.
    pub fn entry(&self) -> Option<&str> {
        self.entry.as_deref()
    }

    /// What a user can do next, where there is something to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::Truncated(_) | ErrorKind::Corrupt(_) => {
                Some("take the dump again, or fetch the file again and compare its size and checksum with the original")
            }
            ErrorKind::MissingFile(_) => Some("copy the whole folder again, or take the dump again"),
            ErrorKind::NotAnArchive(_) => Some(
                "a dump in the custom, directory or tar format is needed: `pg_dump -Fc`; one that is within something else, such \
                     as a log, has to be found first",
            ),
            ErrorKind::NotAScript(_) => Some("a dump in the plain format is needed: `pg_dump --format=plain`"),
            ErrorKind::MetaCommand(_) => Some(
                "take the dump of one database without `--create`; if that is how it was taken, find out who wrote the command into it",
            ),
            ErrorKind::Write(ref error) => Some(hint_of_write(error)),
            ErrorKind::NewerVersion(_) => Some(
                "use a newer release; or, at your own risk, read it as version 1.16 (`ReadOptions::accept_newer_versions`)",
            ),
            _ => None,
        }
    }

    /// The archive error inside `error` when there is one; otherwise an I/O
    /// failure noticed at `offset`.
    pub fn from_io(error: io::Error, offset: u64) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(error) => Self::new(ErrorKind::Io(error), offset),
        }
    }
}

/// What a user can do when a new file could not be written.
pub(crate) fn hint_of_write(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::BrokenPipe => "what read the output ended before all of it was written: see why",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "write to a place where you may",
        io::ErrorKind::AlreadyExists => "give the name of something that is not there yet",
        io::ErrorKind::NotFound => "make the folder that it is to be in first",
        _ => "make room, or write to another place; then run the same command again",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, self.line) {
            (ErrorKind::Truncated(place), Some(_)) => write!(f, "the dump is cut short: it ends {place}")?,
            (ErrorKind::Corrupt(what), Some(_)) => write!(f, "the dump is damaged: {what}")?,
            (kind, _) => write!(f, "{kind}")?,
        }
        // Most mistakes in the use of the library are in no place of the archive.
        if matches!(self.kind, ErrorKind::Usage(_)) && self.offset == 0 {
            return self.entry.as_ref().map_or(Ok(()), |entry| write!(f, " (in {entry})"));
        }
        write!(f, " (at byte {} of ", self.offset)?;
        match (&self.file, &self.kind) {
            (Some(file), _) => write!(f, "`{file}`")?,
            (None, ErrorKind::Write(_)) => f.write_str("the new archive")?,
            (None, _) if self.line.is_some() => f.write_str("the dump")?,
            (None, _) => f.write_str("the archive")?,
        }
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        match &self.entry {
            Some(entry) => write!(f, ", in {entry})"),
            None => f.write_str(")"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error.kind {
            ErrorKind::Truncated(_) | ErrorKind::MissingFile(_) => io::ErrorKind::UnexpectedEof,
            ErrorKind::Io(inner) | ErrorKind::Write(inner) => inner.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
