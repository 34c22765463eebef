//! `backup mirror`: a bucket in a folder, a folder in a bucket, a bucket in another one; and the proof that they are the same.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use storage_backends::bucket_archive::ArchiveReport;
use storage_backends::mirror::{self, Count, Deleted, MirrorOptions, MirrorReport, Progress, Side, VerifyReport};
use storage_backends::s3::S3;
use terminal::text::{count, counted, size, table};
use terminal::{progress, step, warn};

use super::Context;
use crate::config::Destination;
use crate::failure::{Failure, outcome};

/// How long nothing has to have arrived of an upload that is told as unfinished.
const UNFINISHED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Copies what is in one place to another.
pub(crate) async fn run(context: &Context, from: &str, to: &str, options: &MirrorOptions) -> Result<(), Failure> {
    expect_no_backups_in(context, to)?;
    let source = side(context, from, false).await?;
    let target = side(context, to, true).await?;
    if let Side::Bucket(bucket) = &target {
        tell_unfinished(bucket, to).await;
    }
    step(format_args!("mirroring {from} to {to}"));
    let mirrored = shown(&options.progress, mirror::mirror(&source, &target, options)).await;
    let report = mirrored.map_err(|e| {
        let hint = e.hint().unwrap_or("mend what is said of it, and run the same command again");
        Failure::from(e).with_hint(hint)
    })?;
    let printed = context.print(&report, || text(&report, options.deleted));
    let complete = if report.is_complete() {
        Ok(())
    } else {
        let message = format!("{to} does not have everything that {from} has");
        let hint = "mend what failed and run the same command again: what was copied is not copied again";
        Err(Failure::new(message, hint))
    };
    outcome(printed, complete)
}

/// Reads both places to their ends and tells in what they are not the same.
pub(crate) async fn verify(context: &Context, from: &str, to: &str, concurrency: usize) -> Result<(), Failure> {
    let source = side(context, from, false).await?;
    let target = side(context, to, false).await?;
    step(format_args!("comparing {from} with {to}"));
    let report = mirror::verify(&source, &target, concurrency).await?;
    let printed = context.print(&report, || verified(&report));
    let same = if report.is_same() {
        Ok(())
    } else {
        let message = format!("{to} is not an exact copy of {from}: {}", counted(report.different, "difference"));
        Err(Failure::new(message, "run `backup mirror` again, with `--compare content` if that finds nothing"))
    };
    outcome(printed, same)
}

/// Tells of uploads in parts that were never ended. They can be another program's, so they are left alone.
async fn tell_unfinished(bucket: &S3, to: &str) {
    // To list them takes a permission that a mirroring does not need.
    let Ok(unfinished @ 1..) = bucket.unfinished_uploads(UNFINISHED_AFTER).await else { return };
    let uploads = counted(unfinished, "unfinished upload");
    warn(format_args!(
        "`{to}` has {uploads} older than a day, of a mirror that was killed or of another program; they are left alone, and a rule of \
         the bucket's life cycle can remove them"
    ));
}

/// Waits for a mirroring, and shows how far it has come.
async fn shown<T>(progress: &Progress, mirroring: impl Future<Output = T>) -> T {
    let bar = progress::growing_bytes();
    let mut mirroring = std::pin::pin!(mirroring);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let result = loop {
        tokio::select! {
            result = &mut mirroring => break result,
            _ = tick.tick() => {
                let (done, known) = (progress.done(), progress.known());
                bar.set_length(known.bytes);
                bar.set_position(done.bytes);
                bar.set_message(format!("{} of {}", count(done.objects), counted(known.objects, "object")));
            }
        }
    };
    bar.finish_and_clear();
    result
}

/// What was found of all versions of both places, in JSON.
#[derive(Serialize)]
struct Versions {
    version: u32,
    same: bool,
    from: ArchiveReport,
    to: ArchiveReport,
}

/// Reads all versions of both buckets to their ends and tells whether they are the same.
pub(crate) async fn verify_versions(
    context: &Context,
    from: &str,
    to: &str,
    concurrency: usize,
) -> Result<(), Failure> {
    let source = side(context, from, false).await?;
    let target = side(context, to, false).await?;
    step(format_args!("comparing all versions of {from} with those of {to}"));
    let [ours, theirs] = mirror::verify_versions(&source, &target, concurrency).await?;
    let same = ours.sha256 == theirs.sha256 && ours.vanished == 0 && theirs.vanished == 0;
    let line = |name: &str, report: &ArchiveReport| {
        let (versions, markers) = (counted(report.objects, "version"), counted(report.delete_markers, "delete marker"));
        format!("{name}: {versions}, {markers}, {}, SHA-256 {}\n", size(report.bytes), report.sha256)
    };
    let text = line(from, &ours) + &line(to, &theirs);
    let printed = context.print(&Versions { version: 1, same, from: ours, to: theirs }, || text);
    let same = if same {
        Ok(())
    } else {
        let message = format!("{to} has not the same versions as {from}");
        let hint = "run `backup mirror --versions` again; `backup mirror verify` without `--versions` tells which objects differ now";
        Err(Failure::new(message, hint))
    };
    outcome(printed, same)
}

/// That no job keeps its backups there: to a mirror they would be objects that the source does not have.
fn expect_no_backups_in(context: &Context, to: &str) -> Result<(), Failure> {
    let place = match context.config.place(to) {
        Some(place) => place?,
        None => Destination::Local { path: PathBuf::from(to), expect_mount: false },
    };
    let job = context.config.job_with_backups_in(&place.place()).map_err(|e| {
        Failure::from(e)
            .context(format!("cannot tell whether a job has its backups in {to}, where a mirror would be in the way"))
    })?;
    let Some(job) = job else { return Ok(()) };
    let message = format!("{to} is where the job `{job}` has its backups, so nothing can be mirrored to it");
    Err(Failure::new(message, "mirror to another folder or bucket, or below another prefix"))
}

/// A place by the name of a source or a destination, or the path of a folder.
async fn side(context: &Context, name: &str, is_target: bool) -> Result<Side, Failure> {
    match context.config.place(name) {
        Some(place) => {
            let side = place?.side(is_target).await;
            side.map_err(|e| Failure::from(e).context(format!("cannot open `{name}`")))
        }
        // A name of nothing is a slip, not the name of a folder.
        None if name.contains('/') || name == "." => Ok(Side::Folder(PathBuf::from(name))),
        None => {
            let names = context.config.places();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let hint = format!(
                "give one of {}, or the path of a folder, with a slash: `./{name}`",
                pgmig_core::config_file::list(&names)
            );
            Err(Failure::new(format!("there is no bucket or destination `{name}` in the configuration"), hint))
        }
    }
}

fn text(report: &MirrorReport, deleted: Deleted) -> String {
    let line = |what: &str, count: &Count| vec![what.to_owned(), self::count(count.objects), size(count.bytes)];
    let mut rows = vec![line("copied", &report.copied), line("there already", &report.skipped)];
    match deleted {
        Deleted::Remove => rows.push(line("removed", &report.removed)),
        Deleted::Keep => rows.push(line("only in the target", &report.surplus)),
    }
    if report.failed.objects > 0 {
        rows.push(line("failed", &report.failed));
    }
    let mut text = format!("{} -> {}\n{}", report.from, report.to, table(&["", "Objects", "Bytes"], &[1, 2], rows));
    for failure in report.failures.iter().chain(&report.stopped) {
        let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        text += &match failure.key.as_str() {
            "" => format!("  {}{hint}\n", failure.why),
            key => format!("  {}: {}{hint}\n", one_line(key), failure.why),
        };
    }
    text
}

/// A key as one that has no other lines.
fn one_line(key: &str) -> String {
    key.replace('\n', "\\n")
}

fn verified(report: &VerifyReport) -> String {
    let same = format!("{}, {}", counted(report.same.objects, "object"), size(report.same.bytes));
    let mut text = format!("{} and {}: the same are {same}, SHA-256 {}\n", report.from, report.to, report.sha256);
    if report.bytes_only > 0 {
        text += &format!("of {} only the bytes were compared\n", counted(report.bytes_only, "object"));
    }
    for difference in &report.differences {
        let kind = serde_json::to_string(&difference.kind).unwrap_or_default();
        text += &format!("  {}: {}", one_line(&difference.key), kind.trim_matches('"'));
        text += &match (&difference.source, &difference.target) {
            (Some(source), Some(target)) => format!(": {source}, but {target}\n"),
            (Some(only), None) | (None, Some(only)) => format!(": {only}\n"),
            (None, None) => "\n".to_owned(),
        };
    }
    text
}
