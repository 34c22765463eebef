//! `pgmig verify`: is an archive complete?

use std::io::Read;

use dumpfmt::{ArchiveReader, ErrorKind, VerifiedEntry};
use indicatif::ProgressBar;
use pgmig_core::archive::{Archive, ArchiveError};
use serde::Serialize;

use crate::cli::{ArchiveOptions, OutputFormat};
use crate::failure::Failure;
use crate::source::{self, is_stream};
use crate::{progress, terminal, text};

/// The result in JSON.
#[derive(Serialize)]
struct Verified {
    version: u32,
    complete: bool,
    bytes: u64,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    entry: String,
    rows: Option<u64>,
    large_objects: Option<u64>,
    bytes: u64,
}

pub(crate) fn run(options: &ArchiveOptions) -> Result<(), Failure> {
    // One pass is enough here, so a pipe needs no temporary file.
    if is_stream(&options.archive) {
        let archive = source::open_stream(&options.archive).map_err(incomplete)?;
        verify(options, archive, &progress::unknown_bytes())
    } else {
        let (archive, total) = Archive::open_reader(&options.archive).map_err(incomplete)?;
        verify(options, archive, &progress::bytes(total))
    }
}

/// An archive that is damaged or cut short is told to be incomplete.
fn incomplete(error: ArchiveError) -> Failure {
    match error {
        ArchiveError::Read { path, source } if is_damage(source.kind()) => {
            let text = format!("the archive `{}` is not complete", path.display());
            Failure::from(anyhow::Error::new(source).context(text))
        }
        other => other.into(),
    }
}

fn is_damage(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Truncated(_) | ErrorKind::Corrupt(_) | ErrorKind::MissingFile(_))
}

fn verify<R: Read>(options: &ArchiveOptions, mut archive: ArchiveReader<R>, bar: &ProgressBar) -> Result<(), Failure> {
    let verified = archive.verify(|position| bar.set_position(position));
    bar.finish_and_clear();
    let path = source::place(&options.archive).to_owned();
    let verified = verified.map_err(|source| incomplete(ArchiveError::Read { path, source }))?;

    let name = |entry: &VerifiedEntry| archive.toc().get(entry.dump_id).map_or(String::new(), ToString::to_string);
    match options.output {
        OutputFormat::Json => {
            let entries = verified.iter().map(|entry| Entry {
                entry: name(entry),
                rows: entry.rows,
                large_objects: entry.large_objects,
                bytes: entry.bytes,
            });
            let verified =
                Verified { version: 1, complete: true, bytes: archive.position(), entries: entries.collect() };
            terminal::print_json(&verified)?;
        }
        OutputFormat::Text => {
            let rows: u64 = verified.iter().filter_map(|entry| entry.rows).sum();
            let objects: u64 = verified.iter().filter_map(|entry| entry.large_objects).sum();
            terminal::print(&format!(
                "complete: {} of data, {}, {}, {}\n",
                text::counted(verified.len() as u64, "block"),
                text::counted(rows, "row"),
                text::counted(objects, "large object"),
                text::size(archive.position())
            ))?;
        }
    }
    Ok(())
}
