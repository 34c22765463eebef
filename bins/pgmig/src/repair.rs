//! `pgmig repair`: archives without positions, cut short, damaged, or within a log.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use dumpfmt::repair::{IndexError, IndexOptions, MemberPlan, RepairPlan, index_in_place, undo_crlf};
use dumpfmt::{ArchiveReader, ErrorKind, Format, Header, ReadOptions, Toc, WriteOptions};
use pgmig_core::archive::{Archive, ArchiveError};
use restore_command::Failure;
use serde::Serialize;
use terminal::{progress, step, warn};

use crate::cli::{Repair, RepairCommand, RepairOptions};
use crate::new_archive::{NewArchive, NewReport, Properties, publish_with_report};
use crate::text;

/// What a repair kept and what it did not, in JSON.
#[derive(Serialize)]
struct RepairReport {
    version: u32,
    /// Whether nothing is lost.
    whole: bool,
    /// Where in the file the archive begins.
    start: u64,
    /// Where in the file another one begins behind it.
    next_archive: Option<u64>,
    /// How many of them were taken out, as asked for.
    carriage_returns: u64,
    entries: usize,
    rows: u64,
    large_objects: u64,
    /// Entries of which data is lost.
    lost: Vec<LostData>,
    /// The OIDs of the large objects whose content is lost. They are not in the new archive.
    lost_large_objects: Vec<u32>,
    damage: Vec<Damage>,
}

/// An entry of which data is lost.
#[derive(Serialize)]
struct LostData {
    dump_id: i32,
    /// Its type and name.
    entry: String,
    /// Whether some of it is kept.
    kept_in_part: bool,
    why: String,
}

/// Bytes that are no part of what could be read.
#[derive(Serialize)]
struct Damage {
    /// The first of them in the archive, and the one behind the last; not known of a tar.
    start: Option<u64>,
    end: Option<u64>,
    what: String,
}

impl RepairReport {
    /// A line for each thing that is lost.
    fn losses(&self) -> impl Iterator<Item = String> {
        let entries = self.lost.iter().map(|lost| {
            let verb = if lost.kept_in_part { "kept in part" } else { "lost" };
            format!("{verb}: {}: {}", lost.entry, lost.why)
        });
        let objects = (!self.lost_large_objects.is_empty()).then(|| {
            let number = text::counted(self.lost_large_objects.len() as u64, "large object");
            format!("lost: the content of {number}: {}", text::ranges(&self.lost_large_objects))
        });
        let damage = self.damage.iter().map(|damage| match (damage.start, damage.end) {
            (Some(start), Some(end)) => format!("damaged: bytes {start} to {end}: {}", damage.what),
            _ => format!("not read to its end: {}", damage.what),
        });
        entries.chain(objects).chain(damage)
    }
}

pub(crate) fn run(command: &RepairCommand) -> Result<(), Failure> {
    match &command.repair {
        Repair::InPlace => index(command),
        Repair::Into(options) => repair(&command.source, &command.read, options),
    }
}

fn index(command: &RepairCommand) -> Result<(), Failure> {
    let source = &command.source;
    let metadata = std::fs::metadata(source);
    let metadata = metadata.map_err(|e| ArchiveError::Open { path: source.clone(), source: e })?;
    if metadata.is_dir() {
        let text = format!("`{}` is a folder, and positions are for files in the custom format", source.display());
        return Err(Failure::new(text, "`pgmig convert` makes an archive in the custom format of it, with positions"));
    }
    // One that an interrupted run was changing may not be readable before that is finished.
    if let Ok((archive, _)) = Archive::open_reader(source, command.read.clone())
        && archive.header().format != Format::Custom
    {
        let text =
            format!("`{}` is in the {} format, which records no positions", source.display(), archive.header().format);
        return Err(Failure::new(text, "`pgmig convert` makes an archive in the custom format of it, with positions"));
    }
    step(format_args!("add the positions of its data to {}", source.display()));
    let bar = progress::bytes(metadata.len());
    let mut how = IndexOptions::default();
    how.read = command.read.clone();
    let indexed = index_in_place(source, &how, |position| bar.set_position(position));
    bar.finish_and_clear();
    let report = indexed.map_err(|e| match e {
        IndexError::Archive(e) => {
            let damaged = matches!(e.kind(), ErrorKind::Truncated(_) | ErrorKind::Corrupt(_));
            let failure = Failure::from(ArchiveError::Read { path: source.clone(), source: e });
            if damaged {
                failure.with_hint("what is whole in it goes into a new archive with --output")
            } else {
                failure
            }
        }
        e => {
            let hint = match &e {
                IndexError::NotWritable { .. } => "make it writable, or make a copy with positions: `pgmig convert`",
                IndexError::ForeignJournal { .. } => "look at both files first; nothing was written",
                _ => "wait until nobody else is at work on it and there is room, then run the same command again",
            };
            Failure::from(e).with_hint(hint)
        }
    })?;
    if report.finished_earlier_run {
        step("finished what an interrupted run had begun");
    }
    let (written, all) = (text::count(report.written), text::counted(report.entries, "position"));
    step(format_args!("the archive is whole; {written} of {all} had to be written"));
    Ok(())
}

fn repair(source: &Path, read: &ReadOptions, options: &RepairOptions) -> Result<(), Failure> {
    let report_file = NewReport::begin(options.report.as_deref(), &options.output)?;
    step(format_args!("look for what is whole in {}", source.display()));
    if source.is_dir() {
        if options.undo_crlf {
            let text = "carriage returns are taken out of a file, not out of a folder";
            return Err(Failure::new(text, "leave --undo-crlf out"));
        }
        if options.from > 0 {
            let text = "an archive is looked for in a file, not in a folder";
            return Err(Failure::new(text, "leave --from out"));
        }
        let (archive, _) = Archive::open_reader(source, read.clone())?;
        return members(source, archive, 0, options, report_file);
    }
    let mut file = File::open(source).map_err(|e| ArchiveError::Open { path: source.to_owned(), source: e })?;
    let mut carriage_returns = 0;
    if options.undo_crlf {
        (file, carriage_returns) = without_carriage_returns(source, file)?;
    }
    if options.from == 0
        && let Ok(archive) = ArchiveReader::with_options(file.try_clone()?, read.clone())
        && archive.header().format == Format::Tar
    {
        return members(source, archive, carriage_returns, options, report_file);
    }
    let bytes = file.metadata()?.len();
    let bar = progress::bytes(bytes);
    let mut how = dumpfmt::repair::RepairOptions::default();
    how.partial_rows = options.partial_rows;
    how.from = options.from;
    how.read = read.clone();
    let plan = RepairPlan::of(&mut file, &how, |position| bar.set_position(position));
    bar.finish_and_clear();
    let plan = plan.map_err(|e| {
        let has_carriage_returns = e.to_string().contains("`undo_crlf`");
        let failure = Failure::from(ArchiveError::of_copy(source, e));
        if has_carriage_returns { failure.with_hint("run the same command with --undo-crlf") } else { failure }
    })?;
    tell_of_surroundings(&plan);
    let told = RepairReport { carriage_returns, ..told(&plan) };
    write(source, plan.header(), &told, bytes, options, report_file, |new, write_options, show| match new {
        NewArchive::File(mut new) => {
            plan.to_file(&mut file, new.file(), write_options, show)?;
            Ok(NewArchive::File(new))
        }
        NewArchive::Folder(new) => {
            plan.to_directory(&mut file, new.hidden(), write_options, show)?;
            Ok(NewArchive::Folder(new))
        }
        NewArchive::Pipe(out) => plan.to_pipe(&mut file, out, write_options, show).map(NewArchive::Pipe),
    })
}

/// Repairs a tar, or a folder.
fn members(
    source: &Path,
    mut archive: ArchiveReader<File>,
    carriage_returns: u64,
    options: &RepairOptions,
    report_file: NewReport,
) -> Result<(), Failure> {
    if options.partial_rows {
        let text = format!(
            "rows of data that is cut are kept of the custom format, not of the {} format",
            archive.header().format
        );
        return Err(Failure::new(text, "leave --partial-rows out"));
    }
    let bytes = bytes_of(source);
    let bar = progress::bytes(bytes);
    let plan = MemberPlan::of(&mut archive, |position| bar.set_position(position));
    bar.finish_and_clear();
    let plan = plan.map_err(|e| ArchiveError::of_copy(source, e))?;
    let told = RepairReport { carriage_returns, ..told_of_members(&plan) };
    write(source, plan.header(), &told, bytes, options, report_file, |new, write_options, show| match new {
        NewArchive::File(mut new) => {
            plan.to_file(&mut archive, new.file(), write_options, show)?;
            Ok(NewArchive::File(new))
        }
        NewArchive::Folder(new) => {
            plan.to_directory(&mut archive, new.hidden(), write_options, show)?;
            Ok(NewArchive::Folder(new))
        }
        NewArchive::Pipe(out) => plan.to_pipe(&mut archive, out, write_options, show).map(NewArchive::Pipe),
    })
}

/// Of a file, or of all files in a folder.
fn bytes_of(path: &Path) -> u64 {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
    match std::fs::read_dir(path) {
        Ok(files) => files.flatten().map(|file| length(&file.path())).sum(),
        Err(_) => length(path),
    }
}

/// Tells what is lost, and writes the new archive by `write` if that is acceptable.
fn write(
    source: &Path,
    header: &Header,
    told: &RepairReport,
    bytes: u64,
    options: &RepairOptions,
    report_file: NewReport,
    write: impl FnOnce(NewArchive, &WriteOptions, &mut dyn FnMut(u64)) -> dumpfmt::Result<NewArchive>,
) -> Result<(), Failure> {
    told.losses().for_each(warn);
    let what = format!(
        "{}, {} and {}",
        text::counted(told.entries as u64, "block"),
        text::counted(told.rows, "row"),
        text::counted(told.large_objects, "large object")
    );
    if !told.whole && !options.accept_loss {
        let failure = Failure::new(
            format!("the archive `{}` is not whole; {what} could be kept", source.display()),
            "no archive was written; take the dump again if you can, or keep what is whole with --accept-loss",
        );
        return Err(report_file.write_of_failed(told, failure));
    }
    let Properties { options: write_options, notes, .. } = Properties::like(header, options.compression, None)?;
    notes.iter().for_each(warn);
    let new = NewArchive::begin_in(options.format, &options.output, options.force)?;
    let bar = progress::bytes(bytes);
    let written = write(new, &write_options, &mut |position| bar.set_position(position));
    bar.finish_and_clear();
    let new = written.map_err(|e| ArchiveError::of_copy(source, e))?;
    publish_with_report(new, &options.output, report_file, told)?;
    step(format_args!("kept {what}"));
    Ok(())
}

/// A copy without the carriage returns before line feeds, and how many there were.
fn without_carriage_returns(source: &Path, file: File) -> Result<(File, u64), Failure> {
    let cannot = |e: &dyn std::fmt::Display| {
        let text = format!("cannot keep a copy of `{}` without carriage returns: {e}", source.display());
        Failure::new(text, "set TMPDIR to a folder with room for the whole archive")
    };
    let mut copy = tempfile::tempfile().map_err(|e| cannot(&e))?;
    let undone = undo_crlf(file, BufWriter::with_capacity(256 << 10, &mut copy)).map_err(|e| match e.kind() {
        ErrorKind::Write(io) => cannot(io),
        _ => ArchiveError::of_copy(source, e).into(),
    })?;
    step(format_args!("took out {}", text::counted(undone.removed, "carriage return")));
    if undone.line_feeds_alone > 0 {
        warn(format_args!(
            "{} had none before: not a terminal alone changed this file, and what was taken out may have belonged to the data",
            text::counted(undone.line_feeds_alone, "line feed")
        ));
    }
    Ok((copy, undone.removed))
}

fn tell_of_surroundings(plan: &RepairPlan) {
    if plan.start() > 0 {
        step(format_args!("the archive begins at byte {} of the file", text::count(plan.start())));
    }
    if let Some(next) = plan.next_archive() {
        warn(format_args!(
            "another archive begins at byte {next} of the file: `--from {next}` repairs that one instead"
        ));
    }
    if let Some(trailing) = plan.trailing() {
        let bytes = text::counted(trailing.end - trailing.start, "byte");
        step(format_args!("{bytes} behind the archive are no part of it"));
    }
}

fn told(plan: &RepairPlan) -> RepairReport {
    let mut lost: Vec<_> =
        plan.lost().iter().map(|lost| lost_data(lost.dump_id, &lost.entry, &lost.loss.to_string())).collect();
    lost.extend(plan.recovered().iter().filter_map(|entry| {
        Some(LostData {
            kept_in_part: true,
            ..lost_data(entry.dump_id, &name(plan.toc(), entry.dump_id), &entry.missing.as_ref()?.to_string())
        })
    }));
    let damage = plan.damage().iter();
    RepairReport {
        version: 1,
        whole: plan.is_whole(),
        start: plan.start(),
        next_archive: plan.next_archive(),
        carriage_returns: 0,
        entries: plan.recovered().len(),
        rows: plan.recovered().iter().filter_map(|entry| entry.rows).sum(),
        large_objects: plan.recovered().iter().filter_map(|entry| entry.large_objects).sum(),
        lost,
        lost_large_objects: plan.lost_large_objects().to_vec(),
        damage: damage.map(|it| Damage { start: Some(it.start), end: Some(it.end), what: it.what.clone() }).collect(),
    }
}

fn told_of_members(plan: &MemberPlan) -> RepairReport {
    let mut lost: Vec<_> = plan.lost().iter().map(|lost| lost_data(lost.dump_id, &lost.entry, &lost.why)).collect();
    lost.extend(plan.recovered().iter().filter_map(|entry| {
        let dump_id = entry.verified.dump_id;
        Some(LostData { kept_in_part: true, ..lost_data(dump_id, &name(plan.toc(), dump_id), entry.missing.as_ref()?) })
    }));
    let verified = || plan.recovered().iter().map(|entry| &entry.verified);
    RepairReport {
        version: 1,
        whole: plan.is_whole(),
        start: 0,
        next_archive: None,
        carriage_returns: 0,
        entries: plan.recovered().len(),
        rows: verified().filter_map(|entry| entry.rows).sum(),
        large_objects: verified().filter_map(|entry| entry.large_objects).sum(),
        lost,
        lost_large_objects: plan.lost_large_objects().to_vec(),
        damage: plan
            .damage()
            .map(|what| Damage { start: None, end: None, what: what.to_owned() })
            .into_iter()
            .collect(),
    }
}

fn lost_data(dump_id: i32, entry: &str, why: &str) -> LostData {
    LostData { dump_id, entry: entry.to_owned(), kept_in_part: false, why: why.to_owned() }
}

fn name(toc: &Toc, dump_id: i32) -> String {
    toc.get(dump_id).map_or_else(String::new, ToString::to_string)
}
