//! `pgmig remap`: one archive of another, with new instance IDs and without any database.

use std::io::Write;
use std::path::Path;

use dumpfmt::{ArchiveReader, Header, Rewrite, RewriteReport, WriteOptions};
use indicatif::ProgressBar;
use pgmig_core::mapping::MappingFile;
use pgmig_core::offline::{OfflineRemap, RemapReport};

use crate::cli::RemapOptions;
use crate::failure::Failure;
use crate::new_archive::{NewArchive, NewFile};
use crate::terminal::{harmless, json_text, print_json, step, tell, warn};
use crate::{inspect, progress, text};

pub(crate) fn run(options: &RemapOptions) -> Result<(), Failure> {
    let profile = inspect::profile(options.profile.as_deref())?;
    let mapping = MappingFile::load(&options.mapping)?;
    let new = NewArchive::begin(&options.output, options.force)?;
    let mut remap = OfflineRemap::new(&profile, &mapping);
    remap.remap_also = options.remap_also.clone();
    remap.keep_unmapped = options.keep_unmapped;

    step(format_args!("remap {} into {}", name(&options.source), name(&options.output)));
    let (new, report) =
        if is_stream(&options.source) { stream(options, &remap, new)? } else { file(options, &remap, new)? };
    if !report.unknown_ids.is_empty() {
        for unknown in &report.unknown_ids {
            let (column, values) = (&unknown.column, text::counted(unknown.count, "value"));
            warn(format_args!("{column} has {values} that no tenant has, such as {}; they stay", unknown.example));
        }
    }
    tell(harmless(&text::remap(&report)));
    let published = publish(options, new, &report);
    write_report(options, &report)?;
    published
}

/// Whether the archive can be read only once.
fn is_stream(source: &Path) -> bool {
    source == Path::new("-") || std::fs::metadata(source).is_ok_and(|it| !it.is_file() && !it.is_dir())
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    if path == Path::new("-") { "a pipe".into() } else { path.to_string_lossy() }
}

fn file(
    options: &RemapOptions,
    remap: &OfflineRemap<'_>,
    new: NewArchive,
) -> Result<(NewArchive, RemapReport), Failure> {
    let mut archive = inspect::open(&options.source)?;
    let bar = progress::bytes(archive.bytes());
    let write_options = write_options(options, archive.header());
    let mut new = Some(new);
    let result =
        remap.archive(&mut archive, write_options, &mut |rewrite, source| write(rewrite, source, &mut new, &bar));
    bar.finish_and_clear();
    Ok(result?)
}

fn stream(
    options: &RemapOptions,
    remap: &OfflineRemap<'_>,
    new: NewArchive,
) -> Result<(NewArchive, RemapReport), Failure> {
    let bar = progress::unknown_bytes();
    let input: Box<dyn std::io::Read> = if options.source == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(&options.source)?)
    };
    let mut source = ArchiveReader::new(input)?;
    let write_options = write_options(options, source.header());
    let mut new = Some(new);
    let name = if options.source == Path::new("-") { Path::new("standard input") } else { &options.source };
    let result =
        remap.stream(&mut source, name, write_options, &mut |rewrite, source| write(rewrite, source, &mut new, &bar));
    bar.finish_and_clear();
    Ok(result?)
}

fn write_options(options: &RemapOptions, header: &Header) -> WriteOptions {
    let like = WriteOptions::like(header);
    match options.compression {
        Some(compression) => like.compression(compression),
        None => like,
    }
}

fn write<R: std::io::Read>(
    rewrite: &Rewrite<'_>,
    source: &mut ArchiveReader<R>,
    new: &mut Option<NewArchive>,
    bar: &ProgressBar,
) -> dumpfmt::Result<(NewArchive, RewriteReport)> {
    let show = |position| bar.set_position(position);
    // It is taken once: a remap writes one archive.
    match new.take() {
        Some(NewArchive::File(mut file)) => {
            let report = rewrite.to_file(source, file.file(), show)?.1;
            Ok((NewArchive::File(file), report))
        }
        Some(NewArchive::StandardOutput(out)) => {
            let (mut out, report) = rewrite.to_pipe(source, out, show)?;
            out.flush().map_err(|e| dumpfmt::Error::from_io(e, 0))?;
            Ok((NewArchive::StandardOutput(out), report))
        }
        None => Err(dumpfmt::Error::from_io(std::io::Error::other("the archive was written already"), 0)),
    }
}

fn publish(options: &RemapOptions, new: NewArchive, report: &RemapReport) -> Result<(), Failure> {
    if !options.ignore_strays {
        report.expect_no_strays().map_err(|strays| {
            let what =
                if new.is_standard_output() { "what was written is not to be used" } else { "no archive was written" };
            let hint = strays.hint().unwrap_or_default();
            Failure::new(strays.to_string(), format!("{what}; {hint}"))
        })?;
    }
    match new {
        NewArchive::File(file) => publish_file(file, &options.output),
        NewArchive::StandardOutput(_) => Ok(()),
    }
}

fn publish_file(file: NewFile, path: &Path) -> Result<(), Failure> {
    file.publish()?;
    step(format_args!("wrote {}", path.display()));
    Ok(())
}

fn write_report(options: &RemapOptions, report: &RemapReport) -> Result<(), Failure> {
    match options.report.as_deref() {
        None => Ok(()),
        Some(path) if path == Path::new("-") => Ok(print_json(report)?),
        Some(path) => {
            let mut file = NewFile::begin(path, true)?;
            file.file().write_all(json_text(report)?.as_bytes())?;
            file.publish()
        }
    }
}
