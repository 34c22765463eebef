//! `pgmig convert`: an archive in another format, compression or version, or as SQL.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context;
use dumpfmt::{
    ArchiveReader, Compression, CompressionSpecification, ListFile, Rewrite, SqlError, SqlOptions, Toc, Transcoding,
    Version, WriteOptions,
};
use indicatif::ProgressBar;
use pgmig_core::archive::{Archive, ArchiveError};

use crate::cli::{ConvertOptions, NewFormat};
use crate::failure::Failure;
use crate::new_archive::{NewArchive, NewFolder, publish};
use crate::progress;
use crate::source::{self, is_stream, name};
use crate::terminal::{step, warn};

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
            let sql = with_list(sql.options(), sql.use_list.as_deref(), archive.toc())?;
            let mut new = NewArchive::begin(&options.output, options.force)?;
            let written = write_sql(archive, new.file(), &sql);
            bar.finish_and_clear();
            written.map_err(|e| match e {
                SqlError::Archive(e) => failed(e).into(),
                e => Failure::from(e),
            })?;
            publish(new, &options.output)
        }
        NewFormat::Archive { folder, compression, version } => {
            let (toc, write_options) = plan(archive, *compression, *version)?;
            let mut rewrite = Rewrite::new(write_options);
            decode_all(&mut rewrite, &toc);
            rewrite.contents(toc);
            if *folder {
                let new = NewFolder::begin(&options.output)?;
                let written = rewrite.to_directory(archive, new.path(), |position| bar.set_position(position));
                bar.finish_and_clear();
                written.map_err(failed)?;
                new.published();
                step(format_args!("wrote {}", options.output.display()));
                return Ok(());
            }
            let new = NewArchive::begin(&options.output, options.force)?;
            let written = new.write(&rewrite, archive, bar);
            bar.finish_and_clear();
            publish(written.map_err(failed)?.0, &options.output)
        }
    }
}

fn with_list(mut sql: SqlOptions, list: Option<&Path>, toc: &Toc) -> Result<SqlOptions, Failure> {
    if let Some(path) = list {
        let cannot = || format!("cannot use the list `{}`", path.display());
        let file = File::open(path).with_context(cannot)?;
        sql.list = Some(ListFile::read(BufReader::new(file), toc).map_err(|e| {
            let hint = "give one of this archive, as `pgmig inspect --list` or `pg_restore -l` writes it";
            Failure::new(format!("{}: {e}", cannot()), hint)
        })?);
    }
    Ok(sql)
}

/// The new table of contents, and what the new archive is like.
fn plan<R: Read>(
    archive: &ArchiveReader<R>,
    compression: Option<CompressionSpecification>,
    version: Option<Version>,
) -> Result<(Toc, WriteOptions), Failure> {
    let header = archive.header();
    let like = WriteOptions::like(header);
    let options = match (compression, version) {
        (Some(compression), _) => like.compression(compression),
        (None, Some(version)) if version < Version::COMPRESSION_ALGORITHM && is_modern(header.compression) => {
            warn(format_args!(
                "archives of version {version} are not compressed with {}: this one is with gzip",
                header.compression
            ));
            like.compression(CompressionSpecification::GZIP)
        }
        (None, _) => like,
    };
    let options = match version {
        Some(version) => options.version(version),
        None => options,
    };
    let version = options.archive_version();
    if version == (Version { revision: 0, ..header.version }) {
        return Ok((archive.toc().clone(), options));
    }
    let transcoding = Transcoding::plan(archive.toc(), header, version).map_err(|e| {
        let text = format!("cannot make an archive of version {version} of this one: {e}");
        Failure::new(text, "choose another --archive-version, or leave it out")
    })?;
    for note in transcoding.notes() {
        warn(note);
    }
    Ok((transcoding.into_toc(), options))
}

fn is_modern(compression: Compression) -> bool {
    matches!(compression, Compression::Lz4 | Compression::Zstd)
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
