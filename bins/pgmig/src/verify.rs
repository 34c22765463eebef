//! `pgmig verify`: is an archive complete?

use dumpfmt::{ErrorKind, Toc, VerifiedEntry};
use pgmig_core::archive::{Archive, ArchiveError};
use restore_command::{Failure, OutputFormat};
use serde::Serialize;
use terminal::progress;

use crate::cli::VerifyOptions;
use crate::source::{self, is_stream};
use crate::text;

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

pub(crate) fn run(options: &VerifyOptions) -> Result<(), Failure> {
    // Only a script can make use of digests, which take their time.
    let how = dumpfmt::VerifyOptions::default().digests(options.output == OutputFormat::Json);
    let how = match options.threads {
        Some(threads) => how.threads(threads),
        None => how,
    };
    // One pass is enough here, so a pipe needs no temporary file.
    if is_stream(&options.archive) {
        let mut archive = source::open_stream(&options.archive, options.read.clone()).map_err(incomplete)?;
        let bar = progress::unknown_bytes();
        let verified = archive.verify_with(&how, |position| bar.set_position(position));
        bar.finish_and_clear();
        tell(options, archive.toc(), archive.position(), verified)
    } else {
        let (mut archive, total) = Archive::open_reader(&options.archive, options.read.clone()).map_err(incomplete)?;
        let bar = progress::bytes(total);
        let verified = archive.verify_in_parallel(&how, |position| bar.set_position(position));
        bar.finish_and_clear();
        tell(options, archive.toc(), total, verified)
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

fn tell(
    options: &VerifyOptions,
    toc: &Toc,
    bytes: u64,
    verified: dumpfmt::Result<Vec<VerifiedEntry>>,
) -> Result<(), Failure> {
    let path = source::place(&options.archive).to_owned();
    let verified = verified.map_err(|source| incomplete(ArchiveError::Read { path, source }))?;
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
