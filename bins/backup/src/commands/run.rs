//! `backup run`: a backup that is proven to be complete before it is called one.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use storage_backends::{BackupId, Catalog, Listing, Manifest, ObjectFormat};
use terminal::text::{counted, size};
use terminal::{step, warn};

use super::{Context, prune};
use crate::catalog::{Unreadable, unreadable};
use crate::config::Job;
use crate::failure::{Failure, Status, outcome};
use crate::source::OpenSource;
use crate::{catalog, metrics, ping};

/// What a run has done, in JSON.
#[derive(Serialize)]
struct Ran<'a> {
    version: u32,
    job: &'a str,
    location: String,
    manifest: &'a Manifest,
    removed: Vec<String>,
    /// What failed after the backup was made.
    failed: Vec<String>,
}

pub(crate) async fn run(context: &Context, name: &str) -> Result<(), Failure> {
    let job = catalog::job(&context.config, name)?;
    let started = (context.now)();
    let result = make_and_prune(context, &job).await;
    // Another run is at work: it tells how it went.
    if result.as_ref().is_err_and(|failure| failure.status() == u8::from(Status::Locked)) {
        return result.map(drop);
    }
    let made = result.as_ref().ok().map(|made| (&made.manifest, made.pruned.is_ok()));
    let told = metrics::write(&job, started, (context.now)(), made);
    // Old backups that stay fill the disk, and nobody would hear of it before that.
    let pinged = ping::tell(&job, told.is_ok() && made.is_some_and(|(_, is_pruned)| is_pruned)).await;
    let made = match result {
        Ok(made) => made,
        Err(failure) => {
            // The backup failed, which is worse than that nobody heard of it.
            for also in [told, pinged].into_iter().filter_map(Result::err) {
                warn(also);
            }
            return Err(failure);
        }
    };
    let after = [&made.pruned, &told, &pinged];
    let failed = after.into_iter().filter_map(|it| it.as_ref().err()).map(ToString::to_string).collect();
    let printed = print(context, &job, &made, failed);
    let after = [made.pruned, told, pinged];
    let failed = after.into_iter().filter_map(Result::err).reduce(|first, also| {
        warn(also);
        first
    });
    let printed = printed.map_err(|failure| if failure.is_broken_pipe() { failure } else { after_backup(failure) });
    outcome(printed, failed.map_or(Ok(()), |failure| Err(after_backup(failure))))
}

fn after_backup(failure: Failure) -> Failure {
    let failure = failure.context("the backup was made and verified, but not all that comes after it was done");
    failure.after_result().with_status(Status::AfterBackup)
}

struct Made {
    location: String,
    manifest: Manifest,
    /// The old backups that are gone.
    removed: BTreeSet<BackupId>,
    /// Whether that are all that were to go.
    pruned: Result<(), Failure>,
}

async fn make_and_prune(context: &Context, job: &Job) -> Result<Made, Failure> {
    catalog::expect_own(job)?;
    catalog::expect_writable(job)?;
    context.config.expect_apart(job)?;
    let parts = context.config.parts(job)?;
    // First, since it keeps other runs away.
    let source = context.interruptible(OpenSource::open(&parts, context.now)).await?;
    let (catalog, manifest) = make(context, job, &job.source, source).await?;
    expect_in_place(context, job, &manifest)?;
    let mut removed = BTreeSet::new();
    let pruned = match context.interruptible(async { Ok(catalog.list().await?) }).await {
        Ok(listing) => {
            expect_usable(&listing, &manifest)?;
            compare(&listing, &manifest);
            prune::apply(context, &catalog, job, &listing, (context.now)(), &mut removed).await
        }
        Err(failure) => Err(failure),
    };
    Ok(Made { location: catalog.location(), manifest, removed, pruned })
}

/// That a new backup is where others look for it: what is written to a volume that is unmounted meanwhile goes with that.
fn expect_in_place(context: &Context, job: &Job, made: &Manifest) -> Result<(), Failure> {
    let Some((_, why)) = context.config.destination(job)?.problem() else { return Ok(()) };
    let message = format!("the backup `{}` was stored, but its destination is not there any more: {why}", made.id);
    Err(Failure::new(
        message,
        "see that the volume is mounted, and run the same command again; nothing older was removed",
    ))
}

/// That a new backup is one to whoever looks for it.
fn expect_usable(listing: &Listing, made: &Manifest) -> Result<(), Failure> {
    let refused = unreadable(listing).into_iter().find(|unreadable| unreadable.id == made.id);
    let Some(Unreadable { id, why }) = refused else { return Ok(()) };
    let message = format!("the backup `{id}` was stored, but cannot be used: {why}");
    Err(Failure::new(message, "mend that, or its cause, and run the same command again; nothing older was removed"))
}

/// Tells what is odd beside a new backup: those that cannot be used, and what the one before has that it does not have. A component that
/// nobody finds any more may have been uninstalled, or the configuration be wrong.
fn compare(listing: &Listing, made: &Manifest) {
    for Unreadable { id, why } in unreadable(listing) {
        warn(format_args!("the backup `{id}` cannot be used, and is left alone: {why}"));
    }
    let is_before = |(id, manifest): &&(BackupId, Manifest)| {
        // What was adopted is called as its file was.
        let is_alike = manifest.source == made.source && !manifest.is_adopted();
        id.as_str() < made.id.as_str() && is_alike && manifest.is_verified()
    };
    let Some((id, before)) = listing.backups.iter().rev().find(is_before) else { return };
    let is_missing = |name: &&str| made.objects.iter().all(|object| object.name != *name);
    let missing: Vec<_> = before.objects.iter().map(|object| object.name.as_str()).filter(is_missing).collect();
    if !missing.is_empty() {
        let missing = pgmig_core::config_file::list(&missing);
        warn(format_args!(
            "the backup before this one, `{id}`, also has {missing}; see whether that is gone on purpose"
        ));
    }
}

/// Makes a backup among those of a job.
pub(super) async fn make(
    context: &Context,
    job: &Job,
    name: &str,
    source: OpenSource<'_>,
) -> Result<(Catalog, Manifest), Failure> {
    let prepare = async {
        let catalog = catalog::open(&context.config, job, (context.now)()).await?;
        let started = begin(context, &catalog).await?;
        let cleaned = catalog.clean_up(job.clean_up_after, started.into()).await?;
        for id in cleaned.removed {
            step(format_args!("removed `{id}`, which a run that was killed had left behind"));
        }
        // It takes room, but a backup can be made all the same.
        cleaned.problems.into_iter().for_each(warn);
        Ok((catalog, started))
    };
    let (catalog, started) = context.interruptible(prepare).await?;

    let out_of_range = || Failure::new("the clock of this machine is out of its range", "set the clock");
    let id = BackupId::at(started).ok_or_else(out_of_range)?;
    let mut backup = catalog.begin(id).await?;
    let mut manifest = Manifest::new(backup.id(), name, started);
    manifest.versions.insert("backup".into(), env!("CARGO_PKG_VERSION").into());
    match source.back_up(context, &mut backup, manifest).await {
        Ok(manifest) => {
            let manifest = backup.publish(manifest).await?;
            Ok((catalog, manifest))
        }
        Err(failure) => {
            // What cannot be removed now the next run removes.
            if let Err(e) = backup.abort().await {
                warn(e);
            }
            Err(failure)
        }
    }
}

/// The time of the new backup, which is its ID: with a clock that was set back it would not be the newest one.
async fn begin(context: &Context, catalog: &Catalog) -> Result<DateTime<Utc>, Failure> {
    let newest = catalog.ids().await?.last().map(BackupId::time);
    let now = (context.now)();
    match newest {
        Some(newest) if newest > now => {
            let format = "%F %T UTC";
            let (said, newest) = (now.format(format), newest.format(format));
            let message = format!("the clock of this machine says {said}, but the newest backup was begun at {newest}");
            let hint = "set the clock; if it is right, move away the backup whose ID is a time to come";
            Err(Failure::new(message, hint))
        }
        // IDs have seconds.
        Some(newest) if now - newest < TimeDelta::seconds(1) => {
            tokio::time::sleep((newest + TimeDelta::seconds(1) - now).to_std().unwrap_or_default()).await;
            Ok((context.now)())
        }
        _ => Ok(now),
    }
}

fn print(context: &Context, job: &Job, made: &Made, failed: Vec<String>) -> Result<(), Failure> {
    let manifest = &made.manifest;
    let removed: Vec<_> = made.removed.iter().map(ToString::to_string).collect();
    let duration = duration(manifest.finished - manifest.started);
    let mut text =
        format!("{}: verified, {}, {} in {duration}\n", manifest.id, content(manifest), size(manifest.bytes()));
    if !removed.is_empty() {
        text += &format!("removed {}: {}\n", counted(removed.len() as u64, "old backup"), removed.join(", "));
    }
    let location = made.location.clone();
    context.print(&Ran { version: 1, job: job.name.as_str(), location, manifest, removed, failed }, || text)
}

/// The rows of all tables.
pub(crate) fn rows(manifest: &Manifest) -> u64 {
    counts(manifest, |format| format != ObjectFormat::Bucket).sum()
}

/// The objects of all buckets.
pub(crate) fn objects(manifest: &Manifest) -> u64 {
    counts(manifest, |format| format == ObjectFormat::Bucket).sum()
}

/// The rows of all tables and the objects of all buckets, for people.
pub(crate) fn content(manifest: &Manifest) -> String {
    let tables = counts(manifest, |format| format != ObjectFormat::Bucket).count() as u64;
    let buckets = counts(manifest, |format| format == ObjectFormat::Bucket).count() as u64;
    let rows = format!("{} in {}", counted(rows(manifest), "row"), counted(tables, "table"));
    let objects = format!("{} in {}", counted(objects(manifest), "object"), counted(buckets, "bucket"));
    match (tables, buckets) {
        (_, 0) => rows,
        (0, _) => objects,
        _ => format!("{rows}, {objects}"),
    }
}

/// The counts of what is in the objects of these formats.
fn counts(manifest: &Manifest, is_meant: impl Fn(ObjectFormat) -> bool) -> impl Iterator<Item = u64> {
    let objects = manifest.objects.iter().filter(move |object| is_meant(object.format));
    objects.flat_map(|object| &object.tables).filter_map(|table| table.rows)
}

/// In the largest units that fit.
pub(crate) fn duration(delta: TimeDelta) -> String {
    let delta = delta.to_std().unwrap_or(Duration::ZERO);
    let seconds = delta.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", delta.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
