//! `pgmig verify`: is an archive complete?

use std::fs::File;
use std::io::Read;
use std::path::Path;

use dumpfmt::{ArchiveReader, ErrorKind, VerifiedEntry};
use pgmig_core::archive::ArchiveError;
use serde::Serialize;

use crate::cli::{OutputFormat, VerifyOptions};
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
    #[serde(flatten)]
    verified: VerifiedEntry,
}

/// An archive as it is opened: a file or folder can be read in several places at once.
enum Input {
    File(ArchiveReader<File>),
    Pipe(ArchiveReader<Box<dyn Read>>),
}

pub(crate) fn run(options: &VerifyOptions) -> Result<(), Failure> {
    let (mut input, total) = open(&options.archive)?;
    let bar = if total > 0 { progress::bytes(total) } else { progress::unknown_bytes() };
    let show = |position| bar.set_position(position);
    // Only a script can make use of digests, which take their time.
    let how = dumpfmt::VerifyOptions::default().digests(options.output == OutputFormat::Json);
    let how = match options.threads {
        Some(threads) => how.threads(threads),
        None => how,
    };
    // One pass is enough here, so a pipe needs no temporary file.
    let result = match &mut input {
        Input::File(archive) => archive.verify_in_parallel(&how, show),
        Input::Pipe(archive) => archive.verify_with(&how, show),
    };
    bar.finish_and_clear();
    let verified = result.map_err(|e| not_verified(&options.archive, e))?;
    let (toc, bytes) = match &input {
        Input::File(archive) => (archive.toc(), archive.position()),
        Input::Pipe(archive) => (archive.toc(), archive.position()),
    };
    let name = |entry: &VerifiedEntry| toc.get(entry.dump_id).map_or(String::new(), ToString::to_string);
    match options.output {
        OutputFormat::Json => {
            let entries = verified.into_iter().map(|verified| Entry { entry: name(&verified), verified });
            let verified = Verified { version: 1, complete: true, bytes, entries: entries.collect() };
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
                text::size(bytes)
            ))?;
        }
    }
    Ok(())
}

/// The archive and its size, where that is known.
fn open(path: &Path) -> Result<(Input, u64), Failure> {
    if path == Path::new("-") {
        let input: Box<dyn Read> = Box::new(std::io::stdin().lock());
        return Ok((Input::Pipe(ArchiveReader::new(input).map_err(|e| not_verified(path, e))?), 0));
    }
    let metadata = std::fs::metadata(path).map_err(|source| ArchiveError::Open { path: path.to_owned(), source })?;
    if metadata.is_file() || metadata.is_dir() {
        let archive = ArchiveReader::open(path).map_err(|e| not_verified(path, e))?;
        return Ok((Input::File(archive), if metadata.is_file() { metadata.len() } else { 0 }));
    }
    let file = File::open(path).map_err(|source| ArchiveError::Open { path: path.to_owned(), source })?;
    Ok((Input::Pipe(ArchiveReader::new(Box::new(file) as Box<dyn Read>).map_err(|e| not_verified(path, e))?), 0))
}

fn not_verified(path: &Path, error: dumpfmt::Error) -> Failure {
    match error.kind() {
        ErrorKind::Truncated(_) | ErrorKind::Corrupt(_) | ErrorKind::MissingFile(_) => {
            let text = format!("the archive `{}` is not complete", path.display());
            Failure::from(anyhow::Error::new(error).context(text))
        }
        _ => ArchiveError::Read { path: path.to_owned(), source: error }.into(),
    }
}
