//! `pgmig remap`: one archive of another, with new instance IDs and without any database.

use dumpfmt::{ArchiveReader, Header, Rewrite, RewriteReport, WriteOptions};
use indicatif::ProgressBar;
use pgmig_core::mapping::{MappingFile, PairUse};
use pgmig_core::offline::{OfflineRemap, RemapReport};
use restore_command::Failure;
use terminal::{harmless, progress, step, tell, warn};

use crate::cli::RemapOptions;
use crate::new_archive::{NewArchive, NewReport, Properties, publish_with_report};
use crate::source::{self, is_stream, name};
use crate::{inspect, text};

pub(crate) fn run(options: &RemapOptions) -> Result<(), Failure> {
    let profile = inspect::profile(options.profile.as_deref())?;
    let mapping = MappingFile::load(&options.mapping)?;
    let new = NewArchive::begin_in(options.format, &options.output, options.force)?;
    let report_file = NewReport::begin(options.report.as_deref(), &options.output)?;
    let mut remap = OfflineRemap::new(&profile, &mapping);
    remap.remap_also = options.remap_also.clone();
    remap.keep_unmapped = options.keep_unmapped;
    remap.remap_definitions = options.remap_definitions;

    step(format_args!("remap {} into {}", name(&options.source), name(&options.output)));
    let (new, report) =
        if is_stream(&options.source) { stream(options, &remap, new)? } else { file(options, &remap, new)? };
    if !options.keep_unmapped {
        report.mapping.left_out_warnings().iter().for_each(warn);
    }
    warn_of(&report);
    tell(harmless(&text::remap(&report)));
    if !options.ignore_strays
        && let Err(strays) = report.expect_no_strays()
    {
        let what = if new.is_pipe() { "what was written is not to be used" } else { "no archive was written" };
        let hint = strays.hint().unwrap_or_default();
        let failure = Failure::new(strays.to_string(), format!("{what}; {hint}"));
        return Err(report_file.write_of_failed(&report, failure));
    }
    publish_with_report(new, &options.output, report_file, &report)
}

fn file(
    options: &RemapOptions,
    remap: &OfflineRemap<'_>,
    new: NewArchive,
) -> Result<(NewArchive, RemapReport), Failure> {
    let mut archive = inspect::open(&options.source, options.read.clone())?;
    let bar = progress::bytes(archive.bytes());
    let write_options = write_options(options, archive.header())?;
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
    let mut source = source::open_stream(&options.source, options.read.clone())?;
    let write_options = write_options(options, source.header())?;
    let mut new = Some(new);
    let place = source::place(&options.source);
    let result =
        remap.stream(&mut source, place, write_options, &mut |rewrite, source| write(rewrite, source, &mut new, &bar));
    bar.finish_and_clear();
    Ok(result?)
}

fn write_options(options: &RemapOptions, header: &Header) -> Result<WriteOptions, Failure> {
    let Properties { options, notes, .. } = Properties::like(header, options.compression, options.version)?;
    notes.iter().for_each(warn);
    Ok(options)
}

fn write<R: std::io::Read>(
    rewrite: &Rewrite<'_>,
    source: &mut ArchiveReader<R>,
    new: &mut Option<NewArchive>,
    bar: &ProgressBar,
) -> dumpfmt::Result<(NewArchive, RewriteReport)> {
    // It is taken once: a remap writes one archive.
    match new.take() {
        Some(new) => new.write(rewrite, source, bar),
        None => Err(dumpfmt::Error::from_io(std::io::Error::other("the archive was written already"), 0)),
    }
}

fn warn_of(report: &RemapReport) {
    report.version_notes.iter().for_each(warn);
    report.pair_use.iter().flat_map(PairUse::warnings).for_each(warn);
    for unknown in &report.unknown_ids {
        let (column, values) = (&unknown.column, text::counted(unknown.count, "value"));
        warn(format_args!("{column} has {values} that no mapped tenant has, such as {}; they stay", unknown.example));
    }
    for key in &report.doubtful_foreign_keys {
        let (table, referenced) = (&key.table, &key.referenced_table);
        warn(format_args!(
            "rows of {table} name no tenant, and rows of {referenced} that they may refer to ({}) are left out: pg_restore \
             may refuse that foreign key; --keep-unmapped leaves nothing out",
            key.columns.join(", ")
        ));
    }
    let statistics = report.statistics_left_out.len() as u64;
    if statistics > 0 {
        let tables = text::counted(statistics, "table");
        warn(format_args!("statistics of {tables} name source IDs and are left out; run ANALYZE after the restore"));
    }
}
