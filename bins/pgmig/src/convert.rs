//! `pgmig convert`: an archive in another format, compression or version, or as SQL.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};

use anyhow::Context;
use dumpfmt::{
    ArchiveReader, EntryDepth, Header, ListFile, Rewrite, RewriteReport, SqlError, SqlOptions, Toc, TocEntry,
    Transcoding, Version,
};
use indicatif::ProgressBar;
use pgmig_core::archive::{Archive, ArchiveError};
use restore_command::Failure;
use serde::Serialize;
use terminal::{OutputError, progress, step, warn};

use crate::cli::{ConvertOptions, NewFormat};
use crate::new_archive::{NewArchive, NewReport, Properties, publish, publish_with_report};
use crate::source::{self, is_stream, name};
use crate::sql_options::SelectionArgs;

/// What came of a conversion to another archive, in JSON.
#[derive(Serialize)]
struct ConvertReport {
    version: u32,
    format: &'static str,
    archive_version: String,
    compression: String,
    /// In the new table of contents.
    entries: usize,
    /// Entries of the source that were not chosen.
    entries_left_out: usize,
    /// What an older version cannot hold, or an older server does not take, for people.
    notes: Vec<String>,
    /// The data in the new archive, in its order.
    data: Vec<ConvertedData>,
}

#[derive(Serialize)]
struct ConvertedData {
    entry: String,
    dump_id: i32,
    /// `copied` as it was stored, or `recompressed`.
    how: &'static str,
    /// `null` where it is no COPY text.
    rows: Option<u64>,
}

pub(crate) fn run(options: &ConvertOptions) -> Result<(), Failure> {
    step(format_args!("convert {} into {}", name(&options.source), name(&options.output)));
    if is_stream(&options.source) {
        let mut archive = source::open_stream(&options.source, options.read.clone())?;
        let bar = progress::unknown_bytes();
        convert(options, &mut archive, &bar, |archive, out, sql| archive.write_sql(out, sql))
    } else {
        let (mut archive, bytes) = Archive::open_reader(&options.source, options.read.clone())?;
        let bar = progress::bytes(bytes);
        convert(options, &mut archive, &bar, |archive, out, sql| archive.write_sql_seeking(out, sql))
    }
}

fn convert<R: Read>(
    options: &ConvertOptions,
    archive: &mut ArchiveReader<R>,
    bar: &ProgressBar,
    write_sql: impl FnOnce(&mut ArchiveReader<R>, &mut File, &SqlOptions) -> Result<(), SqlError>,
) -> Result<(), Failure> {
    let failed = |e: dumpfmt::Error| ArchiveError::of_copy(source::place(&options.source), e);
    match &options.format {
        NewFormat::Sql(sql) => {
            let mut chosen = chosen(&options.selection, archive.toc())?;
            sql.add_to(&mut chosen);
            let mut new = NewArchive::begin_text(&options.output, options.force)?;
            let written = write_sql(archive, new.file()?, &chosen);
            bar.finish_and_clear();
            written.map_err(|e| match e {
                SqlError::Archive(e) => failed(e).into(),
                // Whoever reads the script has seen enough, as with `| head`.
                SqlError::Output(e) if new.is_pipe() && e.kind() == ErrorKind::BrokenPipe => {
                    Failure::from(OutputError(e))
                }
                e => Failure::from(e),
            })?;
            publish(new, &options.output)
        }
        NewFormat::Archive { format, compression, version, report } => {
            let chosen = chosen(&options.selection, archive.toc())?;
            let report_file = NewReport::begin(report.as_deref(), &options.output)?;
            let toc = archive.selected(&chosen).map_err(Failure::from)?;
            warn_of_order(&chosen, &toc);
            let entries_left_out = archive.toc().entries().len() - toc.entries().len();
            let Properties { options: write_options, compression, mut notes } =
                Properties::like(archive.header(), *compression, *version)?;
            let toc = transcoded(toc, archive.header(), write_options.archive_version(), &mut notes)?;
            notes.iter().for_each(warn);
            let mut report = ConvertReport {
                version: 1,
                format: format.name(),
                archive_version: write_options.archive_version().to_string(),
                compression: compression.to_string(),
                entries: toc.entries().len(),
                entries_left_out,
                notes,
                data: Vec::new(),
            };
            let mut rewrite = Rewrite::new(write_options);
            decode_all(&mut rewrite, &toc);
            rewrite.contents(toc);
            let new = NewArchive::begin_in(*format, &options.output, options.force)?;
            let written = new.write(&rewrite, archive, bar);
            bar.finish_and_clear();
            let (new, rewritten) = written.map_err(failed)?;
            report.data = converted(&rewritten, archive.toc());
            publish_with_report(new, &options.output, report_file, &report)
        }
    }
}

/// What is chosen of an archive with these contents.
fn chosen(selection: &SelectionArgs, toc: &Toc) -> Result<SqlOptions, Failure> {
    let mut options = selection.options();
    if let Some(path) = &selection.use_list {
        let cannot = || format!("cannot use the list `{}`", path.display());
        let file = File::open(path).with_context(cannot)?;
        options.list = Some(ListFile::read(BufReader::new(file), toc).map_err(|e| {
            let hint = "give one of this archive, as `pgmig inspect --list` or `pg_restore -l` writes it";
            Failure::new(format!("{}: {e}", cannot()), hint)
        })?);
    }
    Ok(options)
}

/// A list can have another order than the new archive.
fn warn_of_order(chosen: &SqlOptions, toc: &Toc) {
    let Some(list) = &chosen.list else { return };
    let listed: HashMap<i32, usize> = list.dump_ids().iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let places = toc.entries().iter().filter_map(|entry| listed.get(&entry.dump_id()));
    if !places.is_sorted() {
        warn(
            "the new archive keeps the order of the source; to restore it in that of the list, give the list to pg_restore",
        );
    }
}

fn converted(rewritten: &RewriteReport, toc: &Toc) -> Vec<ConvertedData> {
    let data = rewritten.entries.iter().map(|data| ConvertedData {
        entry: toc.get(data.dump_id).map_or_else(String::new, TocEntry::to_string),
        dump_id: data.dump_id,
        how: if data.depth == EntryDepth::Raw { "copied" } else { "recompressed" },
        rows: data.rows_written,
    });
    data.collect()
}

/// The table of contents of a new archive with these entries of another one.
fn transcoded(toc: Toc, header: &Header, version: Version, notes: &mut Vec<String>) -> Result<Toc, Failure> {
    // A newer version was read as the newest that is known: whoever asked for that has taken the risk.
    let mut header = header.clone();
    header.version = Version { revision: 0, ..header.version.min(Version::RELKIND) };
    if version == header.version {
        return Ok(toc);
    }
    let transcoding = Transcoding::plan(&toc, &header, version).map_err(|e| {
        let text = format!("cannot make an archive of version {version} of this one: {e}");
        Failure::new(text, "choose another --archive-version, or leave it out")
    })?;
    notes.extend(transcoding.notes().iter().map(ToString::to_string));
    Ok(transcoding.into_toc())
}

/// What is copied as it is stored is decoded all the same: a damaged archive must not become another one.
fn decode_all(rewrite: &mut Rewrite<'_>, toc: &Toc) {
    for entry in toc.entries().iter().filter(|entry| entry.has_data()) {
        let dump_id = entry.dump_id();
        if entry.description() == b"BLOBS" {
            rewrite.inspect_large_objects(dump_id, |_, _, _| Ok(()));
        } else if entry.copy_statement().is_some_and(|statement| !statement.is_empty()) {
            rewrite.inspect(dump_id, |_| Ok(()));
        } else {
            rewrite.reencode(dump_id);
        }
    }
}
