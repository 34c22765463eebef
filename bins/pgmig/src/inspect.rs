//! `pgmig inspect`: what is in an archive.

use std::io::Read;
use std::path::Path;

use dumpfmt::{ArchiveReader, ReadOptions, SqlOptions};
use pgmig_core::archive::Archive;
use pgmig_core::profile::Profile;
use restore_command::{Failure, OutputFormat};
use terminal::progress;

use crate::cli::{ArchiveOptions, ListOptions};
use crate::source::{self, is_stream};
use crate::text;

pub(crate) fn run(options: &ArchiveOptions) -> Result<(), Failure> {
    let profile = profile(options.profile.as_deref())?;
    let mut archive = open(&options.archive, options.read.clone())?;
    let bar = progress::bytes(archive.bytes());
    let inspection = pgmig_core::inspect::inspect(&mut archive, &profile, |position| bar.set_position(position))?;
    bar.finish_and_clear();
    match options.output {
        OutputFormat::Text => terminal::print(&text::inspection(&inspection))?,
        OutputFormat::Json => terminal::print_json(&inspection)?,
    }
    Ok(())
}

/// The listing of `pg_restore -l`. No data is read, not even of a pipe.
pub(crate) fn list(options: &ListOptions) -> Result<(), Failure> {
    let (path, read) = (&options.archive, options.read.clone());
    if is_stream(path) {
        print_list(source::open_stream(path, read)?)
    } else {
        print_list(Archive::open_reader(path, read)?.0)
    }
}

fn print_list<R: Read>(archive: ArchiveReader<R>) -> Result<(), Failure> {
    let printed = {
        let listing = archive.listing(&SqlOptions::default())?;
        terminal::stream(|out| listing.write_to(out))
    };
    // The program ends here: to give the room of each of a million entries back would be for nothing.
    std::mem::forget(archive);
    Ok(printed?)
}

/// The user's profile, or that of Watson Assistant.
pub(crate) fn profile(chosen: Option<&Path>) -> Result<Profile, Failure> {
    chosen.map_or_else(|| Ok(Profile::watson_assistant()), restore_command::profile)
}

/// Opens the archive; `-` is standard input.
pub(crate) fn open(path: &Path, read: ReadOptions) -> Result<Archive, Failure> {
    let bar = progress::unknown_bytes();
    let archive = if path == Path::new("-") {
        let name = Path::new("standard input");
        Archive::spool_with(std::io::stdin().lock(), name, read, |copied| bar.set_position(copied))
    } else {
        Archive::open_with(path, read, |copied| bar.set_position(copied))
    };
    bar.finish_and_clear();
    Ok(archive?)
}
