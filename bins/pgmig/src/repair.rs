//! `pgmig repair`: archives without positions, cut short, damaged, or within a log.

use std::fs::File;

use dumpfmt::repair::{IndexError, IndexOptions, RepairOptions, RepairPlan, index_in_place};
use dumpfmt::{ErrorKind, WriteOptions};
use pgmig_core::archive::ArchiveError;
use serde::Serialize;

use crate::cli::{Repair, RepairCommand};
use crate::failure::Failure;
use crate::new_archive::{NewArchive, NewReport, publish};
use crate::terminal::{step, warn};
use crate::{progress, text};

/// What a repair kept and what it did not, in JSON.
#[derive(Serialize)]
struct RepairReport {
    version: u32,
    /// Whether nothing is lost.
    whole: bool,
    /// Where in the file the archive begins.
    start: u64,
    entries: usize,
    rows: u64,
    large_objects: u64,
    /// What is lost or damaged, for people.
    lost: Vec<String>,
}

pub(crate) fn run(command: &RepairCommand) -> Result<(), Failure> {
    match &command.repair {
        Repair::InPlace => index(command),
        Repair::Into { .. } => repair(command),
    }
}

fn index(command: &RepairCommand) -> Result<(), Failure> {
    let source = &command.source;
    step(format_args!("add the positions of its data to {}", source.display()));
    let bar = progress::bytes(std::fs::metadata(source).map_or(0, |it| it.len()));
    let indexed = index_in_place(source, &IndexOptions::default(), |position| bar.set_position(position));
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

fn repair(command: &RepairCommand) -> Result<(), Failure> {
    let Repair::Into { output, compression, partial_rows, accept_loss, force, report } = &command.repair else {
        return Ok(());
    };
    let source = &command.source;
    let report_file = NewReport::begin(report.as_deref())?;
    step(format_args!("look for what is whole in {}", source.display()));
    let mut file = File::open(source).map_err(|e| ArchiveError::Open { path: source.clone(), source: e })?;
    let bar = progress::bytes(file.metadata()?.len());
    let mut options = RepairOptions::default();
    options.partial_rows = *partial_rows;
    let plan = RepairPlan::of(&mut file, &options, |position| bar.set_position(position));
    bar.finish_and_clear();
    let plan = plan.map_err(|e| ArchiveError::of_copy(source, e))?;

    let told = told(&plan);
    tell_of_surroundings(&plan);
    told.lost.iter().for_each(warn);
    let what = format!(
        "{}, {} and {}",
        text::counted(told.entries as u64, "block"),
        text::counted(told.rows, "row"),
        text::counted(told.large_objects, "large object")
    );
    if !told.whole && !accept_loss {
        report_file.write(&told)?;
        return Err(Failure::new(
            format!("the archive `{}` is not whole; {what} could be kept", source.display()),
            "no archive was written; take the dump again if you can, or keep what is whole with --accept-loss",
        )
        .after_result());
    }
    let mut write_options = WriteOptions::like(plan.header());
    if let Some(compression) = compression {
        write_options = write_options.compression(*compression);
    }
    let new = NewArchive::begin(output, *force)?;
    let bar = progress::bytes(file.metadata()?.len());
    let show = |position| bar.set_position(position);
    let written = match new {
        NewArchive::File(mut new) => {
            plan.to_file(&mut file, new.file(), &write_options, show).map(drop).map(|()| NewArchive::File(new))
        }
        NewArchive::Folder(folder) => {
            plan.to_directory(&mut file, folder.hidden(), &write_options, show).map(|()| NewArchive::Folder(folder))
        }
        NewArchive::StandardOutput(out) => {
            plan.to_pipe(&mut file, out, &write_options, show).map(NewArchive::StandardOutput)
        }
    };
    bar.finish_and_clear();
    publish(written.map_err(|e| ArchiveError::of_copy(source, e))?, output)?;
    step(format_args!("kept {what}"));
    report_file.write(&told)
}

fn tell_of_surroundings(plan: &RepairPlan) {
    if plan.start() > 0 {
        step(format_args!("the archive begins at byte {} of the file", text::count(plan.start())));
    }
    if let Some(trailing) = plan.trailing() {
        let bytes = text::counted(trailing.end - trailing.start, "byte");
        step(format_args!("{bytes} behind the archive are no part of it"));
    }
}

fn told(plan: &RepairPlan) -> RepairReport {
    let mut lost: Vec<_> = plan.lost().iter().map(|entry| format!("lost: {entry}")).collect();
    lost.extend(plan.recovered().iter().filter_map(|entry| {
        let name = plan.toc().get(entry.dump_id).map_or_else(String::new, ToString::to_string);
        Some(format!("kept in part: {name}: {}", entry.missing.as_ref()?))
    }));
    lost.extend(plan.lost_large_objects().iter().map(|oid| format!("lost: the content of large object {oid}")));
    let damage = plan.damage().iter();
    lost.extend(damage.map(|damage| format!("damaged: bytes {} to {}: {}", damage.start, damage.end, damage.what)));
    RepairReport {
        version: 1,
        whole: plan.is_whole(),
        start: plan.start(),
        entries: plan.recovered().len(),
        rows: plan.recovered().iter().filter_map(|entry| entry.rows).sum(),
        large_objects: plan.recovered().iter().filter_map(|entry| entry.large_objects).sum(),
        lost,
    }
}
