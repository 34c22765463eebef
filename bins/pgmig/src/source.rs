//! The archive that something is made of: a file, a folder, or what can be read only once.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dumpfmt::{ArchiveReader, ReadOptions};
use pgmig_core::archive::ArchiveError;

/// Whether the archive can be read only once.
pub(crate) fn is_stream(path: &Path) -> bool {
    path == Path::new("-") || std::fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir())
}

/// What to call it within a sentence.
pub(crate) fn name(path: &Path) -> Cow<'_, str> {
    if path == Path::new("-") { "a pipe".into() } else { path.to_string_lossy() }
}

/// What to call it as the place of an error.
pub(crate) fn place(path: &Path) -> &Path {
    if path == Path::new("-") { Path::new("standard input") } else { path }
}

/// Opens an archive that can be read only once.
pub(crate) fn open_stream(path: &Path, options: ReadOptions) -> Result<ArchiveReader<Box<dyn Read>>, ArchiveError> {
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(|source| ArchiveError::Open { path: path.to_owned(), source })?)
    };
    ArchiveReader::with_options(input, options)
        .map_err(|source| ArchiveError::Read { path: place(path).to_owned(), source })
}
