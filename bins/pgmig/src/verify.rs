//! `pgmig verify`: is an archive complete?

use std::fs::File;
use std::io::Read;
use std::path::Path;

use dumpfmt::{ArchiveReader, ErrorKind, VerifiedEntry};
use pgmig_core::archive::ArchiveError;
use serde::Serialize;

use crate::cli::{ArchiveOptions, OutputFormat};
use crate::failure::Failure;
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
    let (input, total): (Box<dyn Read>, u64) = if options.archive == Path::new("-") {
        (Box::new(std::io::stdin().lock()), 0)
    } else {
        let path = &options.archive;
        let open_error = |source| ArchiveError::Open { path: path.clone(), source };
        let file = File::open(path).map_err(open_error)?;
        let metadata = file.metadata().map_err(open_error)?;
        if metadata.is_dir() {
            return Err(ArchiveError::Folder(path.clone()).into());
        }
        let total = metadata.len();
        (Box::new(file), total)
    };
    let bar = if total > 0 { progress::bytes(total) } else { progress::unknown_bytes() };
    let result = ArchiveReader::new(input).and_then(|mut archive| {
        let verified = archive.verify(|position| bar.set_position(position))?;
        Ok((archive, verified))
    });
    bar.finish_and_clear();
    let (archive, verified) = result.map_err(|e| match e.kind() {
        ErrorKind::Truncated(_) | ErrorKind::Corrupt(_) => {
            let text = format!("the archive `{}` is not complete", options.archive.display());
            Failure::from(anyhow::Error::new(e).context(text))
        }
        _ => ArchiveError::Read { path: options.archive.clone(), source: e }.into(),
    })?;

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
